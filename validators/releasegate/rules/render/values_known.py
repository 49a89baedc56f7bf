"""render/values-known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from releasegate import chartreads, k8s, yamlio
from releasegate.chartreads import Chart
from releasegate.discover.files import Unreadable
from releasegate.model import Finding, HelmSource, Kind, Place, Release, Rendered, Scope, Unrendered
from releasegate.render import inline_key
from releasegate.rules import Evidence, rule

RULE = "render/values-known"
NEAR = 0.75  # difflib's ratio
MAX_RENDERS = 120  # extra renders for one values text
MAX_TRIES = 12  # renders of a parent, looking for the line of one key

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """A values text: a file (`path`), or the inline values of one release (`path` None), and the releases that use it.

    `users` are (release, number of its source); a file counts with all that use it, whatever their environment.
    """

    path: str | None
    text: str
    users: tuple[tuple[Release, int], ...]

    @property
    def charts(self) -> tuple[str, ...]:
        """The charts that are rendered with it."""
        return tuple(dict.fromkeys(_source(release, index).chart for release, index in self.users))


@dataclass(slots=True)
class _Dead:
    """What was found about one values text: keys nothing reads, and those for which the renders did not suffice."""

    proven: list[Path] = field(default_factory=list)
    untried: list[Path] = field(default_factory=list)
    renders: int = 0


def given(evidence: Evidence) -> Sequence[Values]:
    """Every values file of the environment but the charts' own, and the inline values of its Applications."""
    using = evidence.shared.once((RULE, "files"), lambda: _users_of_files(evidence.repo.releases))
    found: dict[str, Values] = {}
    inline: list[Values] = []
    for rendered in evidence.rendered:
        for index, source in enumerate(rendered.release.sources):
            if not isinstance(source, HelmSource) or source.revision is not None:
                continue
            for file in source.values_files:
                if file.path not in found and file.path != _own(source):
                    text = _text(evidence, file.path)
                    if text is not None:
                        found[file.path] = Values(file.path, text, tuple(using[file.path]))
            if source.inline is not None:
                inline.append(Values(None, source.inline.text, ((rendered.release, index),)))
    return [*found.values(), *inline]


def _users_of_files(releases: Sequence[Release]) -> dict[str, list[tuple[Release, int]]]:
    using: dict[str, list[tuple[Release, int]]] = {}
    for release in releases:
        for index, source in enumerate(release.sources):
            if isinstance(source, HelmSource):
                for file in source.values_files:
                    using.setdefault(file.path, []).append((release, index))
    return using


def _own(source: HelmSource) -> str:
    return "values.yaml" if source.chart == "." else f"{source.chart}/values.yaml"


def _source(release: Release, index: int) -> HelmSource:
    source = release.sources[index]
    if not isinstance(source, HelmSource):
        raise TypeError(source)
    return source


def _text(evidence: Evidence, path: str) -> str | None:
    try:
        return evidence.shared.files.text(path)
    except Unreadable:
        return None  # told by the release's render


@rule(scope=Scope.ENVIRONMENT, kind=Kind.POLICY, subjects=given)
def check(values: Values, evidence: Evidence) -> Iterator[Finding]:
    """Every key of an environment's values is read by a chart.

    Judged are the values files that Applications name and their inline values. A key is known when a chart that is
    rendered with the text declares it (values.yaml, values.schema.json, those of its subcharts under their names) or
    when a template may read it; the words of the templates decide, in doubt for the key. What is left is taken out and
    rendered again: it is a finding when no render changes. Exempt are `global`, keys that begin with `_` or `x-`, the
    keys of maps that a template takes as a whole, and values that a parent Application hands on to all its children.

    Why: helm ignores a key that nothing reads. The typo renders, deploys and reports success, with the default in
    place of the value somebody meant to set: one replica in production, no memory limit, the old feature flag.

    Fix: write the key the chart reads, or remove it.

    Bad:
        replicaCont: 4

    Good:
        replicaCount: 4
    """
    key = (RULE, values.path or (values.users[0][0].id, values.users[0][1]))
    dead: _Dead = evidence.shared.once(key, lambda: _dead_keys(values, evidence))
    for path in dead.proven:
        yield _finding(values, path, evidence, dead.renders)
    for path in dead.untried:
        if _near(path, values, evidence) is not None:
            yield _finding(values, path, evidence, 0)


# --- which keys ---------------------------------------------------------------------------------------------------------


def _dead_keys(values: Values, evidence: Evidence) -> _Dead:
    loaded = _load(values.text, evidence)
    if not isinstance(loaded, Mapping):
        return _Dead()
    suspects = list(_suspects(loaded, (), values, evidence))
    return _confirm(suspects, loaded, values, evidence) if suspects else _Dead()


def _suspects(value: Mapping[str, Any], parent: Path, values: Values, evidence: Evidence) -> Iterator[Path]:
    """The topmost keys that no chart seems to know."""
    for key, inner in value.items():
        path = (*parent, key)
        if key == "global" or key.startswith(("_", "x-")):
            continue
        if not any(_knows(release, index, path, evidence) for release, index in values.users):
            if not _handed_on(values, path, inner, evidence):
                yield path
        elif isinstance(inner, Mapping):
            yield from _suspects(inner, path, values, evidence)


def _knows(release: Release, index: int, path: Path, evidence: Evidence) -> bool:
    source = _source(release, index)
    if source.revision is not None:
        return True
    chart = _chart(source.chart, evidence)
    return chart.knows(path) or any(
        path[: len(one)] == one or one[: len(path)] == path for one in _templated(release, index, evidence)
    )


def _chart(folder: str, evidence: Evidence) -> Chart:
    shared = evidence.shared
    return shared.once((RULE, "chart", folder), lambda: chartreads.of_chart(shared.files, folder))


def _templated(release: Release, index: int, evidence: Evidence) -> frozenset[Path]:
    """What the values themselves read, where a template runs them with `tpl`."""

    def read() -> frozenset[Path]:
        source = _source(release, index)
        texts = [_text(evidence, file.path) or "" for file in source.values_files]
        if source.inline is not None:
            texts.append(source.inline.text)
        return frozenset(path for text in texts if "{{" in text for path in chartreads.values_in(text) if path)

    return evidence.shared.once((RULE, "templated", release.id, index), read)


def _handed_on(values: Values, path: Path, value: Any, evidence: Evidence) -> bool:
    """A parent hands it to every child, whoever reads it: from its own values, or written by its template.

    Its own values hold the same under the same key; or they hold it nowhere, and a child of that template reads it.
    """
    release = values.users[0][0]
    parent = _parent(release, evidence) if values.path is None else None
    if parent is None or release.application is None:
        return False
    layers = _layers(parent, evidence)
    if _covered(path, value, layers):
        return True
    if any(_places_of(layer, path, value, evidence) for layer in layers):
        return False
    siblings = evidence.shared.once(
        (RULE, "siblings", parent.id, release.application.template),
        lambda: tuple(_siblings(parent.id, release.application.template if release.application else None, evidence)),
    )
    return any(
        _at(loaded, path, default=_ABSENT) is not _ABSENT and _knows(one, number, path, evidence)
        for one, number, loaded in siblings
    )


def _covered(path: Path, value: Any, layers: Sequence[Any]) -> bool:
    """Each scalar and list below the path is what one of the layers says."""
    if isinstance(value, Mapping) and value:
        return all(_covered((*path, key), inner, layers) for key, inner in value.items())
    return any(_at(layer, path, default=_ABSENT) == value for layer in layers)


def _siblings(parent: str, template: str | None, evidence: Evidence) -> Iterator[tuple[Release, int, Any]]:
    for release in evidence.repo.releases:
        application = release.application
        if application is not None and (application.parent, application.template) == (parent, template):
            for index, source in enumerate(release.sources):
                if isinstance(source, HelmSource) and source.inline is not None:
                    yield release, index, _load(source.inline.text, evidence)


_ABSENT = object()


def _at(value: Any, path: Sequence[str], *, default: Any = None) -> Any:
    for token in path:
        if not isinstance(value, Mapping) or token not in value:
            return default
        value = value[token]
    return value


def _parent(release: Release, evidence: Evidence) -> Release | None:
    named = None if release.application is None else release.application.parent
    return next((one for one in evidence.repo.releases if one.id == named), None) if named is not None else None


def _layers(release: Release, evidence: Evidence) -> tuple[Any, ...]:
    def read() -> tuple[Any, ...]:
        found: list[Any] = []
        for source in release.sources:
            if isinstance(source, HelmSource):
                paths = (_own(source), *(file.path for file in source.values_files))
                found += [_load(_text(evidence, path) or "", evidence) for path in paths]
                if source.inline is not None:
                    found.append(_load(source.inline.text, evidence))
        return tuple(found)

    return evidence.shared.once((RULE, "layers", release.id), read)


def _load(text: str, evidence: Evidence) -> Any:
    """The values of a text, read once a run; None where it is no YAML, which the release's render tells."""

    def read() -> Any:
        documents = yamlio.kept(text)
        return documents[0].value if documents and not isinstance(documents, yamlio.YamlError) else None

    return evidence.shared.once((RULE, "values", text), read)


# --- without them -------------------------------------------------------------------------------------------------------


def _confirm(suspects: Sequence[Path], loaded: Mapping[str, Any], values: Values, evidence: Evidence) -> _Dead:
    """Take them out, all at first, and halves where a render changes."""
    found = _Dead()
    if evidence.render_with is None:
        return found
    left = MAX_RENDERS
    groups = [list(suspects)]
    while groups:
        group = groups.pop(0)
        text = yamlio.dump(_without(loaded, group))
        changed = False
        judged = 0
        for release, index in values.users:
            if left <= 0:
                break
            before = evidence.render_with(release, {})
            if isinstance(before, Unrendered) or not before.manifests:
                continue  # told by render/succeeds; and that nothing stays nothing proves nothing
            left -= 1
            judged += 1
            after = evidence.render_with(release, {values.path or inline_key(index): text})
            changed = isinstance(after, Unrendered) or _differ(before, after)
            if changed:
                break
        else:
            found.renders = max(found.renders, judged)
            found.proven += group if judged else []
            continue
        if not changed:
            found.untried += group
        elif len(group) > 1:
            half = len(group) // 2
            groups += [group[:half], group[half:]]
    found.proven.sort()
    return found


def _differ(before: Rendered, after: Rendered) -> bool:
    return [one.text for one in before.manifests] != [one.text for one in after.manifests]


def _without(value: Any, paths: Sequence[Path]) -> Any:
    """The values with these keys taken out; a map that loses its last key stays, empty."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: _without(inner, [path[1:] for path in paths if path[0] == key and len(path) > 1])
        for key, inner in value.items()
        if (key,) not in paths
    }


# --- what to say --------------------------------------------------------------------------------------------------------


def _finding(values: Values, path: Path, evidence: Evidence, renders: int) -> Finding:
    name = ".".join(path)
    charts = " and ".join(values.charts[:2]) + (f" and {len(values.charts) - 2} more" if len(values.charts) > 2 else "")  # noqa: PLR2004
    proof = (
        f": without it {'its render stays' if renders == 1 else f'{renders} renders stay'} the same" if renders else ""
    )
    near = _near(path, values, evidence)
    return Finding(
        message=f"{name} is a key that {charts} does not read{proof}",
        help=f"did you mean {near}?" if near else "remove it; a key that something else reads may begin with `x-`",
        change=f"{charts} reads no {name}",
        value=name,
        place=_place(values, path, evidence),
        anywhere=True,
    )


def _near(path: Path, values: Values, evidence: Evidence) -> str | None:
    """The key that may have been meant: a similar one beside it, or the same one under another parent."""
    parent, key = path[:-1], path[-1]
    charts = [_chart(folder, evidence) for folder in values.charts]
    beside = sorted({one for chart in charts for one in chart.keys(parent)} - {key})
    same = [one for one in beside if _plain(one) == _plain(key) or sorted(one) == sorted(key)]
    close = same or difflib.get_close_matches(key, beside, 1, NEAR)
    if close:
        return ".".join((*parent, close[0]))
    elsewhere = {one for chart in charts for one in chart.paths() if one[-1] == key and one != path}
    return ".".join(elsewhere.pop()) if len(elsewhere) == 1 else None


def _plain(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")


def _place(values: Values, path: Path, evidence: Evidence) -> Place | None:
    """The key's own line: in the file, in the Application, or in the parent's values that it is rendered from."""
    if values.path is not None:
        return _key_in(values.text, path, values.path, evidence)
    release, index = values.users[0]
    inline, application = _source(release, index).inline, release.application
    if inline is None or application is None:
        return None
    if inline.place is not None:
        return _key_inline(inline.text, inline.place, path, evidence)
    found = evidence.shared.once(
        (RULE, "line", application.parent, application.name, path),
        lambda: _key_of_parent(release, index, path, evidence),
    )
    if found is not None or application.template is None:
        return found
    return Place(path=application.template)


def _key_in(text: str, pointer: Pointer, file: str, evidence: Evidence) -> Place:
    positions = evidence.shared.once((RULE, "positions", text), lambda: yamlio.positions(text))
    mark = positions.key(k8s.join("", *pointer))
    return Place(path=file) if mark is None else Place(path=file, line=mark.line, column=mark.column)


def _key_inline(text: str, place: Place, path: Path, evidence: Evidence) -> Place:
    mark = yamlio.positions(text).key(k8s.join("", *path))
    lines = (_text(evidence, place.path) or "").split("\n")
    if mark is None or place.line is None:
        return Place(path=place.path)
    line = place.line + mark.line - 1
    if line > len(lines) or not re.search(rf"(?<![\w-]){re.escape(path[-1])}[\"']?\s*:", lines[line - 1]):
        return Place(path=place.path)
    return Place(path=place.path, line=line)


def _key_of_parent(release: Release, index: int, path: Path, evidence: Evidence) -> Place | None:
    """The line of the parent's values that hands the key to this child.

    It is the same value under the same path in what stands under the Application's name; where there are several, or
    none under that name, the one without which the parent renders other values for the child.
    """
    parent, inline = _parent(release, evidence), _source(release, index).inline
    if parent is None or evidence.render_with is None or release.application is None or inline is None:
        return None
    value = _at(_load(inline.text, evidence), path)
    found: list[tuple[str, Pointer]] = []
    for file in _files_of(parent):
        loaded = _load(_text(evidence, file) or "", evidence)
        found += [(file, pointer) for pointer in _places_of(loaded, path, value, evidence)]
    named = [
        (file, pointer)
        for file, pointer in found
        if _named(_load(_text(evidence, file) or "", evidence), pointer[: -len(path)], release.application.name)
    ]
    if len(named) == 1:
        file, pointer = named[0]
        return _key_in(_text(evidence, file) or "", pointer, file, evidence)
    for file, pointer in (named or found)[:MAX_TRIES]:
        text = _text(evidence, file) or ""
        again = evidence.render_with(parent, {file: yamlio.dump(_drop(_load(text, evidence), pointer))})
        told = _handed_to(again, release.application.name, index, evidence)
        if told is not None and _at(told, path, default=_ABSENT) != value:
            return _key_in(text, pointer, file, evidence)
    return None


def _files_of(release: Release) -> Iterator[str]:
    for source in release.sources:
        if isinstance(source, HelmSource) and source.revision is None:
            yield from dict.fromkeys((*(file.path for file in reversed(source.values_files)), _own(source)))


Pointer = tuple[str | int, ...]


def _places_of(loaded: Any, path: Path, value: Any, evidence: Evidence) -> list[Pointer]:
    """Where a values file holds this value under this path."""
    index: dict[str, list[tuple[Pointer, Any]]] = evidence.shared.once(
        (RULE, "keys", id(loaded)), lambda: _keys_of(loaded)
    )
    return [pointer for pointer, inner in index.get(path[-1], ()) if pointer[-len(path) :] == path and inner == value]


def _keys_of(loaded: Any) -> dict[str, list[tuple[Pointer, Any]]]:
    """Every key of a values file -> where it stands, and its value."""
    found: dict[str, list[tuple[Pointer, Any]]] = {}

    def walk(here: Any, pointer: Pointer) -> None:
        if isinstance(here, Mapping):
            for key, inner in here.items():
                found.setdefault(key, []).append(((*pointer, key), inner))
                walk(inner, (*pointer, key))
        elif isinstance(here, list):
            for at, inner in enumerate(here):
                walk(inner, (*pointer, at))

    walk(loaded, ())
    return found


def _named(loaded: Any, above: Pointer, name: str) -> bool:
    """Whether a mapping on the way to a place has this name, or stands under it."""
    here = loaded
    for token in above:
        if token == name or (isinstance(here, Mapping) and here.get("name") == name):
            return True
        here = here[token]
    return isinstance(here, Mapping) and here.get("name") == name


def _drop(value: Any, pointer: Pointer) -> Any:
    head, rest = pointer[0], pointer[1:]
    if isinstance(value, list):
        return [_drop(inner, rest) if at == head else inner for at, inner in enumerate(value)]
    if not rest:
        return {key: inner for key, inner in value.items() if key != head}
    return {key: _drop(inner, rest) if key == head else inner for key, inner in value.items()}


def _handed_to(parent: Rendered | Unrendered, name: str, index: int, evidence: Evidence) -> Mapping[str, Any] | None:
    """The inline values of the Application of this name in a parent's render."""
    for manifest in parent.manifests if isinstance(parent, Rendered) else ():
        if manifest.kind == "Application" and manifest.name == name:
            sources = _at(manifest.body, ("spec", "sources"))
            many = isinstance(sources, list) and index < len(sources)
            helm = _at(sources[index] if many else _at(manifest.body, ("spec", "source")), ("helm",))
            told = _at(helm, ("valuesObject",)) or _load(str(_at(helm, ("values",), default="")), evidence)
            return told if isinstance(told, Mapping) else {}
    return None
