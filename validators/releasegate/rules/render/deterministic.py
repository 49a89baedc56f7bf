from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from releasegate.model import Finding, HelmSource, Kind, Manifest, Place, Rendered, Scope, Tree, Unjudged
from releasegate.rules import Evidence, rule

# Functions of Helm and sprig whose result differs between two renders of the same input
# (helm.sh/docs/chart_template_guide/function_list: date, random, crypto and network functions).
CHANGING = (
    "now|date|ago|dateInZone|date_in_zone|htmlDate|htmlDateInZone|dateModify|unixEpoch|"
    "randAlphaNum|randAlpha|randAscii|randNumeric|randBytes|randInt|shuffle|uuidv4|"
    "genPrivateKey|genCA|genCAWithKey|genSelfSignedCert|genSelfSignedCertWithKey|genSignedCert|genSignedCertWithKey|"
    "bcrypt|htpasswd|encryptAES|getHostByName"
)
_CHANGING = re.compile(rf"\{{\{{[^}}]*?(?<![.\w$])(?:{CHANGING})(?!\w)")
_TPL = re.compile(r"\{\{[^}]*?(?<![.\w$])tpl\s")
_LOOKUP = re.compile(r"\{\{[^}]*?(?<![.\w$\"])lookup\s+[\"$.(]")
_COMMENT = re.compile(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", re.DOTALL)
MAX_ARCHIVE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class _Template:
    """What one template can do. `shared`: its text runs from other templates (helpers, `define`)."""

    path: str
    changing: bool
    tpl: bool
    lookups: tuple[int, ...]
    shared: bool


def _renders(evidence: Evidence) -> Sequence[Rendered]:
    return evidence.rendered


@rule(scope=Scope.RELEASE, kind=Kind.FACT, subjects=_renders)
def deterministic(rendered: Rendered, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Every release renders to the same bytes twice, and needs no cluster to do it.

    Why: Argo CD renders again on every refresh. A random password or a timestamp makes it OutOfSync for ever and
    restarts pods on each sync; `lookup` is empty in `helm template`, so what was reviewed is not what is applied.

    Fix: take the value from a Secret or from the values file; checksum the content instead of printing the date.

    Bad:
        password: {{ randAlphaNum 16 | b64enc }}

    Good:
        valueFrom: {secretKeyRef: {name: api-db, key: password}}
    """
    templates = [
        template
        for source in rendered.release.sources
        if isinstance(source, HelmSource)
        for template in _templates(evidence.repo.tree, source.chart)
    ]
    made = {manifest.template for manifest in rendered.manifests}
    # A template that made no object here cannot tell anything.
    live = [one for one in templates if one.shared or one.path in made]
    for template in live:
        for line in template.lookups:
            yield Finding(
                message="this template asks the cluster (`lookup`), which answers nothing in a render: "
                "what is judged here is not what a cluster with that object gets",
                help="pass the value in through the values file",
                change="lookup",
                place=Place(path=template.path, line=line),
            )
    if _may_change(rendered, live, evidence.repo.tree):
        yield from _compare(rendered, evidence)


def _may_change(rendered: Rendered, templates: Sequence[_Template], tree: Tree) -> bool:
    """A second render can tell something: a function that changes, or `tpl`, which runs what a value says."""
    if any(one.changing for one in templates):
        return True
    return any(one.tpl for one in templates) and any(_CHANGING.search(text) for text in _values(rendered, tree))


def _compare(rendered: Rendered, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    release = rendered.release
    if evidence.render_again is None:
        raise AssertionError("a case about a release can render it again")
    second = evidence.render_again(release)
    if not isinstance(second, Rendered):
        yield Unjudged(
            reason=f"the second render of {release.id} failed: {second.reason}",
            remedy=second.remedy,
            group=f"{release.id} does not render twice",
            place=second.place,
        )
        return
    for one, other in zip(rendered.manifests, second.manifests, strict=False):
        if one.text != other.text:
            yield _differs(one, other)
    if len(rendered.manifests) != len(second.manifests):
        yield Finding(
            message=f"one render holds {len(rendered.manifests)} objects, the next {len(second.manifests)}",
            help="make the templates depend on nothing but the values",
            change="number of objects",
        )


def _differs(one: Manifest, other: Manifest) -> Finding:
    pairs = zip(one.text.splitlines(), other.text.splitlines(), strict=False)
    first = next(((left, right) for left, right in pairs if left != right), ("", ""))
    key = first[0].strip().partition(":")[0]
    pointer = _pointer_of_difference(one.body, other.body)
    return Finding(
        message=f"two renders of {one.kind}/{one.name} differ at {pointer or key!r}",
        help="take the value from a Secret or the values file instead of a random or time function",
        change=f"{pointer} changes between renders",
        manifest=one,
        pointer=pointer,
    )


def _pointer_of_difference(one: object, other: object, pointer: str = "") -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}, key=str):
            if one.get(key) != other.get(key):
                token = str(key).replace("~", "~0").replace("/", "~1")
                return _pointer_of_difference(one.get(key), other.get(key), f"{pointer}/{token}")
    if isinstance(one, list) and isinstance(other, list):
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            if left != right:
                return _pointer_of_difference(left, right, f"{pointer}/{index}")
    return pointer


def _values(rendered: Rendered, tree: Tree) -> Iterator[str]:
    for source in rendered.release.sources:
        if isinstance(source, HelmSource):
            for path in (f"{source.chart}/values.yaml", *(file.path for file in source.values_files)):
                yield _read(Path(tree.root) / path)
            if source.inline is not None:
                yield source.inline.text
            yield from (parameter.value for parameter in source.parameters)


@functools.cache
def _templates(tree: Tree, chart: str) -> tuple[_Template, ...]:
    """Read every template of a chart and its subcharts, vendored archives included."""
    below = f"{chart}/"
    found: list[_Template] = []
    for path in tree.files:
        if path.startswith(below):
            if "/templates/" in path:
                found.append(_scan(path, _read(Path(tree.root) / path)))
            elif path.endswith(".tgz") and "/charts/" in path:
                found += _archived(path, Path(tree.root) / path)
    return tuple(found)


def _archived(path: str, archive: Path) -> Iterator[_Template]:
    with contextlib.suppress(tarfile.TarError, OSError, EOFError), tarfile.open(archive, "r:gz") as tar:
        budget = MAX_ARCHIVE_BYTES
        for member in tar:
            budget -= member.size
            file = tar.extractfile(member) if member.isfile() and budget > 0 else None
            if file is not None and "/templates/" in member.name:
                # Objects of an archive carry another path, so each of its templates counts as shared.
                yield dataclasses.replace(_scan(path, file.read().decode(errors="replace")), shared=True, lookups=())


def _scan(path: str, text: str) -> _Template:
    text = _COMMENT.sub(lambda match: "\n" * match.group().count("\n"), text)
    return _Template(
        path=path,
        changing=_CHANGING.search(text) is not None,
        tpl=_TPL.search(text) is not None,
        lookups=tuple(text.count("\n", 0, match.end()) + 1 for match in _LOOKUP.finditer(text)),
        shared=Path(path).name.startswith("_") or "define " in text,
    )


@functools.cache
def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
