"""A rendered value -> the line a person would edit, or the template when that is not certain.

How: every scalar of the release's values that occurs in the rendered text is marked with a suffix of its own, the
release is rendered once more, and the marks that turn up at the finding's pointer name the scalars that feed it. What
no value feeds is looked for in the template the same way: each line that may write it gets a comment of its own.
A wrong line is worse than none: where marking changes what is rendered, or nothing turns up, the template is named.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from releasegate import k8s, yamlio
from releasegate.model import (
    Finding,
    HelmSource,
    InlineValues,
    Manifest,
    Place,
    Release,
    Rendered,
    Status,
    Unrendered,
    Verdict,
)

INLINE = "inline"
LOCATED_ADVICE = 20  # per rule and environment
MIN_LENGTH = 2  # a one-letter value turns up everywhere
_KEY = re.compile(r"\s*(?:- +)*[^\s:#'\"{}\[\]]+:(?=\s|$)")
# What is missing behind an end, by the key it would stand at.
_MISSING = {
    ":": re.compile(r"(?:tag|version|sha)[^/]*\Z", re.IGNORECASE),
    "@": re.compile(r"digest[^/]*\Z", re.IGNORECASE),
}
_MARK = re.compile(r"zq(\d+)qz")

Substitute = Callable[[Release, Mapping[str, str]], Rendered | Unrendered]


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A scalar of a values text: `source` is the file's path, or "inline"."""

    source: str
    pointer: str
    text: str
    scalar: yamlio.Scalar


class Locator:
    """Finds source lines for the findings of one run; each values file is read and positioned once."""

    def __init__(self, root: Path, substitute: Substitute) -> None:
        """`substitute(release, {path or "inline": text})` renders with other values texts."""
        self._root = root
        self._substitute = substitute
        self._texts: dict[str, str | None] = {}
        self._scalars: dict[str, list[yamlio.Scalar]] = {}
        self._fed: dict[_ValueKey, tuple[str, str] | None] = {}
        self._written: dict[_Name, Place | None] = {}

    def locate(self, rendered: Rendered, findings: Sequence[Finding]) -> list[Finding]:
        """Return the findings of one release, each with the best place that is certain. Two extra renders at most."""
        placed = [_in_file(finding) for finding in findings]
        open_ = [
            index
            for index, finding in enumerate(placed)
            if finding.place is None and finding.manifest is not None and finding.manifest.template is not None
        ]
        for look in (self._in_values, self._in_templates):
            places = look(rendered, [placed[index] for index in open_])
            for index, place in zip(open_, places, strict=True):
                placed[index] = replace(placed[index], place=place)
            open_ = [index for index in open_ if placed[index].place is None]
        for index in open_:
            placed[index] = replace(placed[index], place=_template(placed[index]))
        return placed

    # --- values: a mark on each scalar ------------------------------------------------------------------------------

    def _in_values(self, rendered: Rendered, findings: Sequence[Finding]) -> list[Place | None]:
        """The scalar that feeds the end of the value, of those whose text is part of it."""
        wanted = {_text_of(finding.value) for finding in findings if finding.pointer is not None}
        leaves = self._leaves(rendered.release, {text for text in wanted if len(text) >= MIN_LENGTH})
        keys = [_value_key(finding, leaves) for finding in findings]
        if any(key is not None and key not in self._fed for key in keys):
            again = self._substitute(rendered.release, self._marked_texts(rendered.release, leaves))
            twins = {} if isinstance(again, Unrendered) else _twins(rendered.manifests, again.manifests)
            for finding, key in zip(findings, keys, strict=True):
                if key is not None and key not in self._fed:
                    leaf = _read_marks(finding, twins.get(id(finding.manifest)), leaves)
                    self._fed[key] = None if leaf is None else (leaf.source, leaf.pointer)
        by_name = {(leaf.source, leaf.pointer): leaf for leaf in leaves}
        fed = [
            self._fed.get(key) if key is not None and _may_tell(finding, self._fed.get(key)) else None
            for finding, key in zip(findings, keys, strict=True)
        ]
        return [self._place(rendered.release, by_name[one]) if one is not None else None for one in fed]

    def _leaves(self, release: Release, wanted: Iterable[str]) -> list[_Leaf]:
        """Scalars whose text is part of a wanted value: which of them won, the marks tell.

        Where a value ends in nothing (`repo:`, `repo@`), an empty tag or digest may be what is missing.
        """
        haystack = "\n".join(wanted)
        missing = [key for end, key in _MISSING.items() if any(text.endswith(end) for text in wanted)]
        found: list[_Leaf] = []
        for name, text in self._values_texts(release):
            for scalar in self._scalars_of(name, text):
                said = scalar.value if isinstance(scalar.value, str) else scalar.raw
                empty = not said and any(key.search(scalar.pointer) for key in missing)
                if empty or (len(said) >= MIN_LENGTH and said in haystack and scalar.style != "literal"):
                    found.append(_Leaf(name, scalar.pointer, said, scalar))
        return found

    def _marked_texts(self, release: Release, leaves: Sequence[_Leaf]) -> dict[str, str]:
        by_source: dict[str, list[tuple[int, _Leaf]]] = defaultdict(list)
        for number, leaf in enumerate(leaves):
            by_source[leaf.source].append((number, leaf))
        texts = dict(self._values_texts(release))
        marked: dict[str, str] = {}
        for source, members in by_source.items():
            text = texts[source]
            for number, leaf in sorted(members, key=lambda one: -one[1].scalar.mark.index):
                mark = leaf.scalar.mark
                quoted = _quoted(f"{leaf.text}zq{number}qz")
                text = text[: mark.index] + quoted + text[mark.end_index :]
            marked[source] = text
        return marked

    def _values_texts(self, release: Release) -> Iterable[tuple[str, str]]:
        for source in release.sources:
            if isinstance(source, HelmSource):
                for path in (f"{source.chart}/values.yaml", *(file.path for file in source.values_files)):
                    text = self._read(path)
                    if text is not None:
                        yield path, text
                if source.inline is not None:
                    yield INLINE, source.inline.text

    def _scalars_of(self, name: str, text: str) -> list[yamlio.Scalar]:
        if name == INLINE:
            return _scalars(text)
        if name not in self._scalars:
            self._scalars[name] = _scalars(text)
        return self._scalars[name]

    def _read(self, path: str) -> str | None:
        if path not in self._texts:
            try:
                self._texts[path] = (self._root / path).read_text()
            except (OSError, UnicodeDecodeError):
                self._texts[path] = None
        return self._texts[path]

    def _place(self, release: Release, leaf: _Leaf) -> Place | None:
        mark = leaf.scalar.mark
        if leaf.source != INLINE:
            return Place(path=leaf.source, line=mark.line, column=mark.column)
        inline = next(
            (one.inline for one in release.sources if isinstance(one, HelmSource) and one.inline is not None), None
        )
        application = release.application
        if inline is None or application is None:
            return None
        if application.place is not None:
            return self._in_application(inline, application.place, leaf)
        # One hop further up: the parent's template wrote these values; its own values are not followed yet.
        return Place(path=application.template) if application.template is not None else None

    def _in_application(self, inline: InlineValues, application: Place, leaf: _Leaf) -> Place | None:
        if inline.place is None or inline.place.line is None:
            return Place(path=application.path, line=application.line)
        if inline.key == "values":
            return Place(path=inline.place.path, line=inline.place.line + leaf.scalar.mark.line - 1)
        text = self._read(inline.place.path)
        first = _first_line_of(text, inline.place.line, leaf.pointer) if text is not None else None
        return Place(path=inline.place.path, line=first or inline.place.line)

    # --- templates: a comment on each line ----------------------------------------------------------------------------

    def _in_templates(self, rendered: Rendered, findings: Sequence[Finding]) -> list[Place | None]:
        """The template line that writes the key: literal text keeps its key and its indentation in the render."""
        wanted = [_rendered_key(finding) for finding in findings]
        candidates = [self._lines_of(finding, key) for finding, key in zip(findings, wanted, strict=True)]
        # One line that may write it, and which did so at this pointer before, did so again; two could take turns.
        names = [
            _Name(finding.manifest.template, finding.pointer, key.text)
            if key is not None and finding.manifest is not None and finding.pointer is not None and len(lines) == 1
            else None
            for finding, key, lines in zip(findings, wanted, candidates, strict=True)
        ]
        places: list[Place | None] = [None if name is None else self._written.get(name) for name in names]
        rest = [
            index
            for index, lines in enumerate(candidates)
            if lines and (names[index] is None or names[index] not in self._written)
        ]
        if not rest:
            return places
        lines = list(dict.fromkeys(line for index in rest for line in candidates[index]))
        again = self._substitute(rendered.release, self._commented(lines))
        twins = {} if isinstance(again, Unrendered) else _twins(rendered.manifests, again.manifests)
        for index in rest:
            places[index] = _read_comment(twins.get(id(findings[index].manifest)), wanted[index], lines)
            name = names[index]
            if name is not None:
                self._written[name] = places[index]
        return places

    def _lines_of(self, finding: Finding, key: _Key | None) -> list[tuple[str, int]]:
        template = finding.manifest.template if finding.manifest is not None else None
        text = self._read(template) if template is not None else None
        if template is None or text is None or key is None:
            return []
        return [(template, number) for number, line in enumerate(text.splitlines(), 1) if line.startswith(key.text)]

    def _commented(self, lines: Sequence[tuple[str, int]]) -> dict[str, str]:
        texts: dict[str, list[str]] = {}
        for mark, (template, number) in enumerate(lines):
            text = texts.setdefault(template, (self._read(template) or "").splitlines())
            text[number - 1] += f" # zq{mark}qz"
        return {template: "\n".join(text) + "\n" for template, text in texts.items()}


@dataclass(frozen=True, slots=True)
class _ValueKey:
    """What decides which scalar feeds a value: the same template, pointer, value and scalars that may feed it.

    Fifty releases of one chart that take an image from the chart's own values are one look, not fifty renders.
    """

    template: str | None
    pointer: str
    value: str
    leaves: tuple[tuple[str, str, str], ...]


def _value_key(finding: Finding, leaves: Sequence[_Leaf]) -> _ValueKey | None:
    text = _text_of(finding.value)
    feeding = tuple((leaf.source, leaf.pointer, leaf.text) for leaf in leaves if leaf.text in text)
    if finding.pointer is None or finding.manifest is None or len(text) < MIN_LENGTH or not feeding:
        return None
    return _ValueKey(finding.manifest.template, finding.pointer, text, feeding)


def _may_tell(finding: Finding, leaf: tuple[str, str] | None) -> bool:
    """A key at fault stands in the values only where they hand on that very key."""
    if leaf is None or not finding.about_key:
        return True
    return leaf[1].rpartition("/")[2] == (finding.pointer or "").rpartition("/")[2]


def _good_digest_of_no_image(text: str) -> bool:
    """`repo:1.2e+10@sha256:…`: the end is right and what stands before it is not, so the end's line is the wrong one."""
    named, at, digest = text.rpartition("@")
    if not at or not named:
        return False
    try:
        k8s.ImageRef.parse(f"image@{digest}")
    except ValueError:
        return False
    try:
        k8s.ImageRef.parse(named)
    except ValueError:
        return True
    return False


def _read_marks(finding: Finding, twin: Manifest | None, leaves: Sequence[_Leaf]) -> _Leaf | None:
    if twin is None or finding.pointer is None:
        return None
    try:
        value = k8s.resolve(twin.body, finding.pointer)
    except KeyError:
        return None
    if not isinstance(value, str) or _MARK.sub("", value) != _text_of(finding.value):
        return None
    marks = list(_MARK.finditer(value))
    # What has to change stands at the end (an image's tag, its digest). An end that no scalar of the values feeds
    # comes from the template, and the line of what stands before it would be the wrong one.
    if not marks or re.search(r"\w", value[marks[-1].end() :]) or _good_digest_of_no_image(_text_of(finding.value)):
        return None
    return leaves[int(marks[-1][1])]


@dataclass(frozen=True, slots=True)
class _Name:
    """What one template line writes: a key, at a pointer of the template's objects."""

    template: str | None
    pointer: str | None
    key: str


@dataclass(frozen=True, slots=True)
class _Key:
    """A line of a rendered manifest and its beginning: indentation, key, colon."""

    line: int
    text: str


def _rendered_key(finding: Finding) -> _Key | None:
    manifest = finding.manifest
    if manifest is None:
        return None
    number = finding.text_line
    if number is None and finding.pointer:
        try:
            mark = yamlio.positions(manifest.text).key(manifest.within + finding.pointer)
        except yamlio.YamlError:
            return None
        number = None if mark is None else mark.line
    lines = manifest.text.splitlines()
    if number is None or not 1 <= number <= len(lines):
        return None
    key = _KEY.match(lines[number - 1])
    return _Key(number, key[0]) if key is not None else None


def _read_comment(twin: Manifest | None, key: _Key | None, lines: Sequence[tuple[str, int]]) -> Place | None:
    if twin is None or key is None:
        return None
    text = twin.text.splitlines()
    if key.line > len(text) or not text[key.line - 1].startswith(key.text):
        return None
    marks = _MARK.findall(text[key.line - 1])
    if len(marks) != 1:
        return None
    template, number = lines[int(marks[0])]
    return Place(path=template, line=number)


def _first_line_of(text: str, start: int, pointer: str) -> int | None:
    """The line of `pointer` inside the mapping that begins at line `start` of `text` (a valuesObject)."""
    lines = text.splitlines(keepends=True)[start - 1 :]
    if not lines:
        return None
    indent = len(lines[0]) - len(lines[0].lstrip())
    block = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) < indent:
            break
        block.append(line)
    try:
        mark = yamlio.positions("".join(block)).value(pointer)
    except yamlio.YamlError:
        return None
    return None if mark is None else start + mark.line - 1


def _scalars(text: str) -> list[yamlio.Scalar]:
    try:
        return list(yamlio.positions(text).scalars())
    except yamlio.YamlError:
        return []


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _twins(before: Sequence[Manifest], after: Sequence[Manifest]) -> dict[int, Manifest]:
    """Pair manifests of two renders: the n-th of its template and kind. Marks may change names, not templates."""
    queues: dict[tuple[str | None, str], list[Manifest]] = defaultdict(list)
    for manifest in after:
        queues[manifest.template, manifest.kind].append(manifest)
    counts: dict[tuple[str | None, str], int] = defaultdict(int)
    for manifest in before:
        counts[manifest.template, manifest.kind] += 1
    seen: dict[tuple[str | None, str], int] = defaultdict(int)
    twins: dict[int, Manifest] = {}
    for manifest in before:
        key = (manifest.template, manifest.kind)
        if counts[key] == len(queues[key]):  # otherwise marking changed what is rendered: nothing is certain
            twins[id(manifest)] = queues[key][seen[key]]
        seen[key] += 1
    return twins


def _in_file(finding: Finding) -> Finding:
    """A finding about an object of a plain file: the position inside that file."""
    manifest = finding.manifest
    if finding.place is not None or manifest is None or manifest.path is None:
        return finding
    mark = None
    pointer = manifest.within + (finding.pointer or "")
    if pointer:
        try:
            positions = yamlio.positions(manifest.text)
            mark = positions.key(pointer) or positions.value(pointer)
        except yamlio.YamlError:
            mark = None
    if mark is None:
        return replace(finding, place=Place(path=manifest.path, line=manifest.line))
    return replace(finding, place=Place(path=manifest.path, line=manifest.line + mark.line - 1, column=mark.column))


def _template(finding: Finding) -> Place | None:
    manifest = finding.manifest
    return Place(path=manifest.template) if manifest is not None and manifest.template is not None else None


def _budget(
    verdicts: Sequence[Verdict], folded: Mapping[tuple[str, str | None], tuple[int, int]], examples: int
) -> dict[tuple[str, str | None, bool], int]:
    """How many findings of (rule, environment, advised) are looked for; all, where nothing is said."""
    budget: dict[tuple[str, str | None, bool], int] = {(*key, False): examples for key in folded}
    for verdict in verdicts:
        if any(finding.status is Status.ADVISED for finding in verdict.findings):
            budget[verdict.id.rule, verdict.id.environment, True] = LOCATED_ADVICE
    return budget


def resolve(
    verdicts: Sequence[Verdict],
    folded: Mapping[tuple[str, str | None], tuple[int, int]],
    renders: Mapping[str, Rendered | Unrendered],
    locator: Locator,
    *,
    examples: int = 3,
) -> list[Verdict]:
    """Give every finding its place. Of a systemic cause and of advice only the first few are looked for.

    They are what is shown; the others name their template. Narrow the run, or switch the rule on, to have them all.

    `folded` names the (rule, environment) pairs that are systemic. One marking render per release with findings.
    """
    budget = _budget(verdicts, folded, examples)
    owner = {
        id(manifest): key for key, one in renders.items() if isinstance(one, Rendered) for manifest in one.manifests
    }
    wanted: dict[str, list[tuple[int, int]]] = defaultdict(list)
    findings = {number: list(verdict.findings) for number, verdict in enumerate(verdicts) if verdict.findings}
    for number, members in findings.items():
        case = verdicts[number].id
        for index, finding in enumerate(members):
            members[index] = placed = _in_file(finding)
            if placed.place is not None or placed.manifest is None:
                continue
            key = (case.rule, case.environment, finding.status is Status.ADVISED)
            if budget.get(key, 1) == 0:
                members[index] = replace(placed, place=_template(placed))
                continue
            if key in budget:
                budget[key] -= 1
            wanted[owner[id(placed.manifest)]].append((number, index))
    for release, places in wanted.items():
        rendered = renders[release]
        if isinstance(rendered, Rendered):
            located = locator.locate(rendered, [findings[number][index] for number, index in places])
            for (number, index), finding in zip(places, located, strict=True):
                findings[number][index] = finding
    return [
        replace(verdict, findings=tuple(findings[number])) if number in findings else verdict
        for number, verdict in enumerate(verdicts)
    ]
