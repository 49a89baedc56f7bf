"""Which line of a template writes a key: each line that may gets a comment of its own, which shows in the render. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from releasegate import yamlio
from releasegate.model import Manifest, Place
from releasegate.sources.marks import Target

_KEY = re.compile(r"\s*(?:- +)*[^\s:#'\"{}\[\]]+:(?=\s|$)")
_MARK = re.compile(r"zq(\d+)qz")


@dataclass(frozen=True, slots=True)
class Name:
    """What a template line writes: a key, at a pointer of the template's objects, and its value where lines differ."""

    template: str | None
    pointer: str | None
    inner: str | None
    key: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A line of a rendered manifest and its beginning: indentation, key, colon."""

    line: int
    text: str


Line = tuple[str, int]
_positions = functools.lru_cache(maxsize=8)(yamlio.positions)  # one manifest holds several targets


def written(target: Target) -> Key | None:
    """Return the line of the manifest's text that holds the key of the target; None where none can be named."""
    manifest = target.manifest
    number = target.text_line
    lines = manifest.text.split("\n")
    if number is None and target.pointer:
        try:
            number = _line_of(target, _positions(manifest.text), lines)
        except yamlio.YamlError:
            return None
    if number is None or not 1 <= number <= len(lines):
        return None
    key = _KEY.match(lines[number - 1])
    return Key(number, key[0]) if key is not None else None


def _line_of(target: Target, positions: yamlio.Positions, lines: Sequence[str]) -> int | None:
    pointer = target.manifest.within + (target.pointer or "")
    if target.inner is None:
        mark = positions.key(pointer)
        return None if mark is None else mark.line
    # A text inside the object: its lines are lines of the manifest where it is a literal block.
    block = positions.value(pointer)
    if block is None or not lines[block.line - 1][block.column - 1 :].startswith("|"):
        return None
    indent = min(
        (len(line) - len(line.lstrip(" ")) for line in lines[block.line : block.end_line - 1] if line.strip()),
        default=0,
    )
    text = "\n".join(line[indent:] for line in lines[block.line : block.end_line - 1]) + "\n"
    inside = yamlio.positions(text).key(target.inner)
    return None if inside is None else block.line + inside.line


def candidates(template: str | None, text: str | None, key: Key | None) -> list[Line]:
    """Return the lines of the template that may write the key."""
    if template is None or text is None or key is None:
        return []
    return [(template, number) for number, line in enumerate(text.split("\n"), 1) if line.startswith(key.text)]


def name(target: Target, key: Key | None, lines: Sequence[Line], text: str | None) -> Name | None:
    """Return the name under which the line that was found for this target may be used again for another release.

    One line that may write it, and which did so at this pointer before, did so again. So did, of several, the only one
    that says this very value; others could take turns.
    """
    if key is None or text is None or not lines:
        return None
    if len(lines) == 1:
        return Name(*target.name, key.text)
    written = text.split("\n")
    says = [written[number - 1][len(key.text) :].split(" #")[0].strip().strip("\"'") for _, number in lines]
    return Name(*target.name, key.text, target.text) if target.text and says.count(target.text) == 1 else None


def commented(lines: Sequence[Line], read: Callable[[str], str]) -> dict[str, str]:
    """Return the texts of the templates with a comment at the end of each of these lines."""
    texts: dict[str, list[str]] = {}
    for number, (template, line) in enumerate(lines):
        text = texts.setdefault(template, read(template).split("\n"))
        ending = "\r" if text[line - 1].endswith("\r") else ""
        text[line - 1] = f"{text[line - 1].removesuffix(ending)} # zq{number}qz{ending}"
    return {template: "\n".join(text) for template, text in texts.items()}


def read(twin: Manifest | None, key: Key | None, lines: Sequence[Line]) -> Place | None:
    """Return the line whose comment shows where the key is written."""
    if twin is None or key is None:
        return None
    text = twin.text.split("\n")
    if key.line > len(text) or not text[key.line - 1].startswith(key.text):
        return None
    marks = _MARK.findall(text[key.line - 1])
    if len(marks) != 1 or int(marks[0]) >= len(lines):
        return None
    template, number = lines[int(marks[0])]
    return Place(path=template, line=number)
