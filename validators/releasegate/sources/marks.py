"""Marks: a suffix of its own for each scalar of a release's inputs, and what it says where it turns up in a render.

Pure. A mark is put at the end of a scalar, so that it says which scalar feeds the *end* of a rendered value: an image's
tag, its digest, or the whole of any other value.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from releasegate import k8s, yamlio
from releasegate.model import InlineValues, Manifest, Parameter

MIN_LENGTH = 2  # a one-letter value turns up everywhere, and is looked for behind a separator only
LONGEST = 512  # an end longer than this is no scalar that anybody marks
SEPARATORS = ":@/"
_MARK = re.compile(r"zq(\d+)qz")
_NO_WORD_AT_END = re.compile(r"\W+\Z")
# What is missing behind an end, by the key it would stand at.
_MISSING = {
    ":": re.compile(r"(?:tag|version|sha)[^/]*\Z", re.IGNORECASE),
    "@": re.compile(r"digest[^/]*\Z", re.IGNORECASE),
}
_BLOCKS = ("literal", "folded")


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """A text that a release is rendered from.

    `key` names it to the renderer: a path, or what stands for inline values and parameters. `index` is the source it
    belongs to. `layer` orders the values of a source, the highest wins; None for a file that templates load.
    """

    key: str
    text: str
    index: int
    layer: int | None
    inline: InlineValues | None = None
    parameter: Parameter | None = None
    only: str | None = None  # the one pointer that may be marked

    @property
    def path(self) -> str | None:
        """The file it is, None for values that an Application holds."""
        return self.key if self.inline is None and self.parameter is None else None


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A scalar that may feed a value. `scalar` is None for a parameter, which is one itself."""

    input: Input
    pointer: str
    text: str
    scalar: yamlio.Scalar | None = None

    @property
    def spot(self) -> tuple[str, int]:
        """Where the mark is put: behind an alias it is that of its anchor."""
        return self.input.key, self.scalar.mark.index if self.scalar is not None else -1


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A scalar of a render whose source is looked for.

    `pointer` leads to it inside the object, `inner` on from there when the value at `pointer` is itself YAML (the values
    of an Application), and `scalar` is where it is written in that. `text` is the scalar. `about_key`: its key is at
    fault. `text_line` is its line in the manifest's text, where known.
    """

    manifest: Manifest
    pointer: str | None
    text: str
    inner: str | None = None
    scalar: yamlio.Scalar | None = None
    about_key: bool = False
    text_line: int | None = None

    @property
    def last_key(self) -> str:
        """The key of the scalar."""
        return (self.pointer if self.inner is None else self.inner or "").rpartition("/")[2] if self.pointer else ""

    @property
    def name(self) -> tuple[str | None, str | None, str | None]:
        """What the same place is called in another release of the chart."""
        return self.manifest.template, self.pointer, self.inner


@functools.lru_cache(maxsize=4096)
def _ends(text: str) -> frozenset[str]:
    """The whole text, and what stands behind each of its separators, with what is no word at its end and without."""
    found = set()
    for one in {text[-LONGEST:], _NO_WORD_AT_END.sub("", text[-LONGEST:])}:
        starts = [at + 1 for at, character in enumerate(one) if character in SEPARATORS]
        found |= {one[at:] for at in starts}
        if len(one) >= MIN_LENGTH and len(text) <= LONGEST:
            found.add(one)
    return frozenset(found - {""})


class Ends:
    """The ends of wanted values, to be asked whether a scalar may be one."""

    def __init__(self, texts: Iterable[str]) -> None:
        """`texts` are the wanted values."""
        self._ends: set[str] = set()
        self._missing = []
        for text in dict.fromkeys(texts):
            self._ends.update(_ends(text))
            self._missing += [key for end, key in _MISSING.items() if text.endswith(end)]

    def __bool__(self) -> bool:
        """Whether anything may be an end at all."""
        return bool(self._ends or self._missing)

    def may_be(self, text: str, pointer: str) -> bool:
        """Whether a scalar may feed the end of a wanted value.

        Where a value ends in nothing (`repo:`, `repo@`), an empty tag or digest may be what is missing.
        """
        return text in self._ends if text else any(key.search(pointer) for key in self._missing)


def may_feed(leaf: Leaf, target: Target) -> bool:
    """Whether a scalar may be the end of a target."""
    if not leaf.text:
        return target.text[-1:] in _MISSING
    return leaf.text in _ends(target.text)


def said(scalar: yamlio.Scalar) -> str:
    """Return what a scalar says in a render: its value when it is a string, else its text; nothing for null."""
    if scalar.value is None:
        return ""
    return scalar.value if isinstance(scalar.value, str) else scalar.raw


def leaves(inputs: Sequence[tuple[Input, Sequence[yamlio.Scalar]]], ends: Ends) -> list[Leaf]:
    """Return the scalars that may feed a wanted value, without those that a higher layer of values sets as well."""
    highest: dict[tuple[int, str], int] = {}
    for one, scalars in inputs:
        if one.layer is not None:
            for scalar in scalars:
                key = (one.index, scalar.pointer)
                highest[key] = max(one.layer, highest.get(key, 0))
    found: list[Leaf] = []
    for one, scalars in inputs:
        if one.parameter is not None:
            found += _of_parameter(one, one.parameter, ends)
        found += [
            Leaf(one, scalar.pointer, text, scalar)
            for scalar in scalars
            if ends.may_be(text := said(scalar), scalar.pointer)
            and scalar.style not in _BLOCKS
            and scalar.tag != "binary"
            and one.only in (None, scalar.pointer)
            and (one.layer is None or highest[one.index, scalar.pointer] == one.layer)
        ]
    return found


def _of_parameter(one: Input, parameter: Parameter, ends: Ends) -> Iterator[Leaf]:
    value = parameter.value
    if value and not value.startswith("{") and ends.may_be(value, parameter.name):
        yield Leaf(one, f"/{parameter.name.replace('.', '/')}", value)


def numbered(found: Iterable[Leaf]) -> dict[int, list[Leaf]]:
    """Give each place of a mark its number; several leaves are one place where they are aliases of it."""
    made: dict[tuple[str, int], list[Leaf]] = defaultdict(list)
    for leaf in found:
        made[leaf.spot].append(leaf)
    return dict(enumerate(made.values()))


def marked(numbers: Mapping[int, Sequence[Leaf]]) -> dict[str, str]:
    """Return the texts with their marks, by the key of the input."""
    by_key: dict[str, list[tuple[int, Leaf]]] = defaultdict(list)
    for number, members in numbers.items():
        by_key[members[0].input.key].append((number, members[0]))
    return {key: _with_marks(members) for key, members in by_key.items()}


def _with_marks(members: list[tuple[int, Leaf]]) -> str:
    text = members[0][1].input.text
    for number, leaf in sorted(members, key=lambda one: -one[1].spot[1]):
        mark = f"zq{number}qz"
        scalar = leaf.scalar
        if scalar is None:
            return text + mark
        end = scalar.mark.end_index
        if scalar.style in ("single", "double"):
            text = text[: end - 1] + mark + text[end - 1 :]
        elif leaf.text:
            text = text[:end] + mark + text[end:]
        else:  # nothing, or null
            text = f'{text[: scalar.mark.index]} "{mark}"{text[end:]}'
    return text


def text_of(value: Any) -> str:
    """Return a rendered value as text."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def arrived(target: Target, twin: Manifest | None, numbers: Mapping[int, Sequence[Leaf]]) -> int | None:
    """Return the number of the mark at the end of the target in a marked render, None where that is not certain.

    Not certain: the render changed in more than its marks; the scalar was changed on its way; it is not all of the last
    part of the value (`1.2-{{ .Values.build }}`). An end that no scalar of the values feeds comes from the template, and
    the line of what stands before it would be the wrong one.
    """
    value = _value_at(twin, target)
    if twin is None or not isinstance(value, str) or _MARK.sub("", twin.name) != target.manifest.name:
        return None
    marks = list(_MARK.finditer(value))
    if not marks or _MARK.sub("", value) != target.text or re.search(r"\w", value[marks[-1].end() :]):
        return None
    number = int(marks[-1][1])
    if number not in numbers:
        return None
    before = _MARK.sub("", value[: marks[-1].start()])
    text = numbers[number][0].text
    if not before.endswith(text) or _is_good_digest_of_no_image(target.text):
        return None
    separator = max(before.rfind(one, 0, len(before) - len(text)) for one in SEPARATORS)
    return number if separator + 1 == len(before) - len(text) else None


def _value_at(twin: Manifest | None, target: Target) -> Any:
    if twin is None or target.pointer is None:
        return None
    try:
        value = k8s.resolve(twin.body, target.pointer)
        if target.inner is None or not isinstance(value, str):
            return value if target.inner is None else None
        written = _written(value, k8s.resolve(target.manifest.body, target.pointer), target.scalar)
        return k8s.resolve(_load(value), target.inner) if written is None else written
    except (KeyError, yamlio.YamlError):
        return None


_load = functools.lru_cache(maxsize=8)(yamlio.load)  # one Application's values hold several targets


def _written(value: str, before: object, scalar: yamlio.Scalar | None) -> str | None:
    """The scalar in a text of YAML that differs from the one before in its marks only; None where that is not so.

    Marks are letters and digits, so that they change no structure: the text need not be read again.
    """
    if scalar is None or scalar.style != "plain" or not scalar.raw or _MARK.sub("", value) != before:
        return None
    start, end = scalar.mark.index, scalar.mark.end_index
    moved = 0
    for mark in _MARK.finditer(value):
        if mark.start() - moved > start:
            break
        moved += len(mark[0])
    made, at = "", start + moved
    while len(_MARK.sub("", made)) < end - start or _MARK.match(value, at):
        mark_here = _MARK.match(value, at)
        step = len(mark_here[0]) if mark_here is not None else 1
        made += value[at : at + step]
        at += step
    return made


def _is_good_digest_of_no_image(text: str) -> bool:
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


class Conditions:
    """What the templates of a chart compare values with: a scalar that none of it can match may be marked with others.

    Where a mark changes a condition, another scalar of the same text may come through, and its line would be wrong.
    Not looked for are comparisons of two values with each other: there four equal texts would have to meet.
    """

    def __init__(self, templates: Iterable[str]) -> None:
        """`templates` are the texts of all templates of the chart, partials and subcharts included."""
        actions = "\n".join(found[0] for text in templates for found in _ACTION.finditer(text))
        self._literals = {found[1] or found[2] for found in _LITERAL.finditer(actions)}
        self._numbers = set(_NUMBER.findall(actions))
        self._suffixes = tuple({found[1] for found in _SUFFIX.finditer(actions)})
        # Patterns of a checked repo are not run: one that looks at the end may see any mark.
        self._patterns = "regex" in actions and any(one and one.endswith("$") for one in self._literals)
        self._orders = _ORDER.search(actions) is not None
        self._versions = "semver" in actions

    def may_see(self, leaf: Leaf) -> bool:
        """Whether a condition may change with the leaf."""
        text, tag = leaf.text, leaf.scalar.tag if leaf.scalar is not None else "str"
        if not text or tag == "null" or (tag == "bool" and leaf.scalar is not None and leaf.scalar.value is False):
            return True  # it becomes true
        if tag in ("int", "float") and (self._orders or text in self._numbers):
            return True
        if tag == "bool" and "true" in self._numbers:
            return True
        return (
            self._patterns
            or text in self._literals
            or (bool(self._suffixes) and text.endswith(self._suffixes))
            or (self._versions and text.lstrip("v")[:1].isdigit())
        )


_ACTION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_LITERAL = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|`([^`]*)`")
_NUMBER = re.compile(r"(?<![\w.\"-])(?:-?\d[\w.]*|true)(?![\w.\"])")
_SUFFIX = re.compile(r"[sS]uffix\w*\s+\"((?:[^\"\\]|\\.)+)\"")
_ORDER = re.compile(r"\b(?:gt|ge|lt|le|max|min|until|untilStep|seq)\b")


def twins(before: Sequence[Manifest], after: Sequence[Manifest]) -> dict[int, Manifest]:
    """Pair manifests of two renders, by the id() of the first: the n-th of its template and kind.

    Marks may change names, not templates. What two equal sources render is one object: which twin is its own, nobody
    can say.
    """
    made: dict[tuple[str | None, str], tuple[list[Manifest], list[Manifest]]] = defaultdict(lambda: ([], []))
    for side, manifests in enumerate((before, after)):
        for manifest in manifests:
            made[manifest.template, manifest.kind][side].append(manifest)
    pairs: dict[int, Manifest] = {}
    counts = Counter(id(manifest) for manifest in before)
    for olds, news in made.values():
        if len(olds) == len(news):  # otherwise marking changed what is rendered: nothing is certain
            pairs |= {id(old): new for old, new in zip(olds, news, strict=True) if counts[id(old)] == 1}
    return pairs
