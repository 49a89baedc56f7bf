"""images/digest-live."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from releasegate import k8s, yamlio
from releasegate.discover.files import Unreadable
from releasegate.k8s import ImageRef
from releasegate.model import (
    Finding,
    HelmSource,
    InlineValues,
    Kind,
    Level,
    Parameter,
    Place,
    Release,
    Rendered,
    Scope,
    Unjudged,
    Unrendered,
)
from releasegate.render import inline_key, join
from releasegate.rules import Evidence, rule
from releasegate.rules.images import Use, uses

_DIGEST = re.compile(r"(?:(?P<ref>[^\s@]+)@)?sha256:(?P<hex>[0-9a-f]{64})")
# Keys beside a digest that say which image it is of.
_NAMES = ("repository", "image", "name", "repo", "imageName", "imageRepository")
_TOLD_IN = ("labels", "annotations")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One text of values of one source: the chart's own, a values file, or what the Application holds."""

    key: str
    text: str
    value: Any
    inline: InlineValues | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """A digest in the values of a release, where no later values file says something else.

    `name` is what stands before `@` in the same scalar. `beside` are the values next to it, `parameter` is what takes
    its place when helm is started.
    """

    chart: str
    layer: Layer
    scalar: yamlio.Scalar
    hex: str
    name: str | None
    beside: Mapping[str, Any]
    parameter: Parameter | None

    @property
    def key(self) -> str:
        """`image.digest`."""
        return ".".join(k8s.split(self.scalar.pointer))

    def place(self, release: Release) -> Place | None:
        """The line of the digest."""
        mark = self.scalar.mark
        inline = self.layer.inline
        if inline is None:
            return Place(path=self.layer.key, line=mark.line, column=mark.column)
        if inline.place is not None and inline.place.line is not None:
            return Place(path=inline.place.path, line=inline.place.line + mark.line - 1)
        application = release.application
        if application is None:
            return None
        return application.place or (Place(path=application.template) if application.template else None)

    @property
    def where(self) -> str:
        """`image.digest in helm/api/values-prod.yaml`."""
        return f"{self.key} in {'the Application' if self.layer.inline is not None else self.layer.key}"


def digests(evidence: Evidence) -> Sequence[Digest]:
    """Every scalar of the release's values that is `sha256:<64 hex>`, alone or behind `name@`, and that counts."""
    release = evidence.release
    if release is None or not evidence.rendered:
        return ()
    found: list[Digest] = []
    for index, source in enumerate(release.sources):
        if isinstance(source, HelmSource) and source.revision is None:
            found += _of_source(index, source, evidence)
    return found


def _of_source(index: int, source: HelmSource, evidence: Evidence) -> Iterator[Digest]:
    layers = _layers(index, source, evidence)
    for number, layer in enumerate(layers):
        for scalar in _scalars(layer, evidence):
            said = _DIGEST.fullmatch(scalar.value)
            if said is None or any(_sets(later.value, k8s.split(scalar.pointer)) for later in layers[number + 1 :]):
                continue
            yield Digest(
                chart=source.chart,
                layer=layer,
                scalar=scalar,
                hex=said["hex"],
                name=said["ref"],
                beside=_beside(layers, scalar.pointer, source.chart, evidence),
                parameter=_parameter(source.parameters, k8s.split(scalar.pointer)),
            )


def _layers(index: int, source: HelmSource, evidence: Evidence) -> list[Layer]:
    """The values of a source, the later ones win."""
    layers = [_file(path, evidence) for path in (join(source.chart, "values.yaml"), *_paths(source))]
    if source.inline is not None:
        layers.append(_layer(inline_key(index), source.inline.text, source.inline))
    return [layer for layer in layers if layer is not None]


def _paths(source: HelmSource) -> list[str]:
    return [file.path for file in source.values_files]


def _file(path: str, evidence: Evidence) -> Layer | None:
    def read() -> Layer | None:
        try:
            return _layer(path, evidence.shared.files.text(path))
        except Unreadable:
            return None  # absent, or told by the render

    return evidence.shared.once(("images/digest-live", "file", path), read)


def _layer(key: str, text: str, inline: InlineValues | None = None) -> Layer | None:
    read = yamlio.kept(text)
    if isinstance(read, yamlio.YamlError):
        return None  # told by the render
    return Layer(key=key, text=text, value=read[0].value if read else None, inline=inline)


def _scalars(layer: Layer, evidence: Evidence) -> list[yamlio.Scalar]:
    def read() -> list[yamlio.Scalar]:
        scalars = yamlio.positions(layer.text).scalars()
        return [
            one for one in scalars if isinstance(one.value, str) and "sha256:" in one.value and one.style != "literal"
        ]

    if "sha256:" not in layer.text:
        return []
    if layer.inline is not None:
        return read()
    return evidence.shared.once(("images/digest-live", "scalars", layer.key), read)


def _sets(value: Any, tokens: Sequence[str]) -> bool:
    """Whether values take the place of what stands at `tokens` below them: maps merge, all else replaces."""
    for token in tokens:
        if not isinstance(value, Mapping):
            return value is not None
        if token not in value:
            return False
        value = value[token]
    return True


def _beside(layers: Sequence[Layer], pointer: str, chart: str, evidence: Evidence) -> Mapping[str, Any]:
    """What stands next to a digest in all the values together, a subchart's own included."""
    *above, _ = k8s.split(pointer)
    found: list[Any] = [_at(layer.value, above) for layer in layers]
    if above:
        own = _file(f"{join(chart, 'charts')}/{above[0]}/values.yaml", evidence)
        found.insert(0, _at(own.value, above[1:]) if own is not None else None)
    merged: dict[str, Any] = {}
    for one in found:
        merged |= one if isinstance(one, Mapping) else {}
    return merged


def _at(value: Any, tokens: Sequence[str]) -> Any:
    for token in tokens:
        if isinstance(value, Mapping):
            value = value.get(token)
        elif isinstance(value, list) and token.isdecimal() and int(token) < len(value):
            value = value[int(token)]
        else:
            return None
    return value


def _parameter(parameters: Sequence[Parameter], tokens: Sequence[str]) -> Parameter | None:
    """The parameter that sets this value, or the map it is in (helm's --set: dots, backslashed dots, `a[0]`)."""
    for one in reversed(parameters):
        parts = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.|(?=\[)", one.name)]
        named = [part[1:-1] if part.startswith("[") and part.endswith("]") else part for part in parts]
        if named and list(tokens[: len(named)]) == named:
            return one
    return None


@rule(scope=Scope.RELEASE, kind=Kind.POLICY, subjects=digests, together=True)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Changing a digest in the values changes an image that is rendered.

    Each digest that counts for a release (`sha256:<64 hex>` alone, or behind `name@`; what a later values file replaces
    does not count) is changed, and the release is rendered once more. It is dead when no image moves with it although
    the image it belongs to is rendered: the template has a digest of its own, or a `helm.parameters` entry of the
    Application (or of an `.argocd-source` file) takes its place. A digest of a component that is switched off is not
    dead.

    Why: the next release is a bump of that value. The pull request is reviewed, merged and synced, everything is green,
    and the old build runs on; a rollback by the same value changes nothing either.

    Fix: have the template read the value (`{{ .Values.image.repository }}@{{ .Values.image.digest }}`), or remove the
    parameter that overrides it, or remove the value.

    Bad:
        # values-prod.yaml says image.digest; the template: image: registry.example/api@sha256:2cf24dba…
        image:
          repository: registry.example/api
          digest: sha256:53db6bc39af0d2d5708b5d9375f8ef2cece40c47c37f2bafc9611b1958acc47b

    Good:
        # the template: image: {{ .Values.image.repository }}@{{ .Values.image.digest }}
        image:
          repository: registry.example/api
          digest: sha256:53db6bc39af0d2d5708b5d9375f8ef2cece40c47c37f2bafc9611b1958acc47b
    """
    (rendered,) = evidence.rendered
    release = rendered.release
    given: list[Digest] = list(subjects)
    for digest in given:
        if digest.parameter is not None:
            yield _overridden(digest, digest.parameter, release)
    rest = [digest for digest in given if digest.parameter is None]
    # What moves with the digest in one release of a chart moves with it in the next.
    proven: set[tuple[str, ...]] = evidence.shared.once(("images/digest-live", release.environment), set)
    shown = _text_of(rendered)
    asked = [digest for digest in rest if digest.hex in shown and _name(digest) not in proven]
    moved: set[tuple[str, ...]] = set()
    if asked:
        answer = _moved(asked, release, evidence)
        if isinstance(answer, Unrendered):
            yield Unjudged(
                reason=f"with other digests in its values it does not render: {answer.reason}",
                remedy="let the chart accept any digest of 64 hexadecimal digits",
                group="does not render with other digests",
                place=answer.place,
            )
            return
        moved = answer
        proven |= {_name(digest) for digest in asked if _name(digest) in moved and digest.layer.inline is None}
    now = uses(evidence)
    for digest in rest:
        if _name(digest) not in moved and _name(digest) not in proven:
            yield from _dead(digest, now, release, evidence)


def _name(digest: Digest) -> tuple[str, ...]:
    return digest.chart, digest.layer.key, digest.scalar.pointer


def _text_of(rendered: Rendered) -> str:
    return "\n".join(manifest.text for manifest in rendered.manifests)


def _moved(asked: Sequence[Digest], release: Release, evidence: Evidence) -> set[tuple[str, ...]] | Unrendered:
    """The digests (their names) that something rendered moves with, labels and annotations apart. One render."""
    marks: dict[tuple[str, int], tuple[Digest, str]] = {}
    for digest in asked:
        marks.setdefault(_spot(digest), (digest, hashlib.sha256(f"releasegate {len(marks)}".encode()).hexdigest()))
    texts: dict[str, str] = {}
    for (key, _), (digest, mark) in sorted(marks.items(), key=lambda one: -one[0][1]):
        text = texts.get(key, digest.layer.text)
        at = digest.scalar.mark
        texts[key] = text[: at.index] + text[at.index : at.end_index].replace(digest.hex, mark) + text[at.end_index :]
    answer = Unrendered(release=release, reason="nothing renders here", remedy="report this", broken=False)
    again = evidence.render_with(release, texts) if evidence.render_with is not None else answer
    if isinstance(again, Unrendered):
        return again
    said = "\n".join(text for manifest in again.manifests for text in _strings(manifest.body))
    return {_name(digest) for digest in asked if marks[_spot(digest)][1] in said}


def _spot(digest: Digest) -> tuple[str, int]:
    """Where it is written: behind an alias at its anchor."""
    return digest.layer.key, digest.scalar.mark.index


def _strings(value: Any) -> Iterator[str]:
    """Every string of an object but those of labels and annotations: a digest that is only told there runs nowhere."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            if key not in _TOLD_IN:
                yield from _strings(child)
    elif isinstance(value, list):
        for child in value:
            yield from _strings(child)


def _overridden(digest: Digest, parameter: Parameter, release: Release) -> Finding:
    written = digest.place(release)
    application = release.application.name if release.application is not None else release.name
    return Finding(
        message=(
            f"the parameter {parameter.name} of Application {application} takes the place of {digest.where}"
            f"{f' (line {written.line})' if written and written.line else ''}: changing that digest changes nothing"
        ),
        help=f"remove the parameter {parameter.name}, and keep the digest in the values file",
        change=f"remove the parameter {parameter.name}",
        place=parameter.place or written,
        value=parameter.value,
    )


def _dead(digest: Digest, now: Sequence[Use], release: Release, evidence: Evidence) -> Iterator[Finding]:
    """A digest that nothing moves with, if its image is rendered: then that image comes from elsewhere."""
    names = _names(digest)
    running = [use for use in now if names and _is_named(use.image.text, names)]
    same = [use for use in now if digest.hex in use.image.text]
    use = next(iter(same or running), None)
    if use is None:
        return  # its component is switched off, or it is no image's
    if same:
        said = f"{use.where} has this digest, but not from there: it is written elsewhere too"
    else:
        said = f"{use.where} runs {use.image.text}"
    unpinned = "@" not in use.image.text
    yield Finding(
        message=f"no image changes with {digest.where}: {said}",
        help=(
            f"have {use.manifest.template or 'the template'} read .Values.{digest.key}, or remove the value: "
            "a bump of it deploys nothing"
        ),
        change=f"read or remove {digest.key}",
        place=digest.place(release),
        value=digest.scalar.value,
        # One cause, one entry: an image without digest is told by images/digest-only, where that counts.
        advice=unpinned and _counts("images/digest-only", evidence),
    )


def _counts(rule_id: str, evidence: Evidence) -> bool:
    return evidence.config.level(rule_id, Kind.POLICY, evidence.environment) is Level.ON


def _names(digest: Digest) -> set[str]:
    """The repositories a digest may be of: what stands before it, or beside it."""
    if digest.name is not None:
        texts = [digest.name]
    else:
        texts = [text for key in _NAMES if isinstance(text := digest.beside.get(key), str) and text]
    found = set()
    for text in texts:
        try:
            found.add(ImageRef.parse(text).name)
        except ValueError:
            continue
    return found


def _is_named(text: str, names: set[str]) -> bool:
    named = text.partition("@")[0]
    last = named.rpartition("/")[2]
    name = named[: len(named) - len(last)] + last.partition(":")[0]
    return any(name == one or name.endswith(f"/{one}") for one in names)
