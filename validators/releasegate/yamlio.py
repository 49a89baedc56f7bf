"""The one YAML reader: what Kubernetes and helm read, with positions, duplicate keys and budgets.

Layer 0: no I/O. helm, kubectl and Argo CD read YAML with sigs.k8s.io/yaml over go-yaml v2 (go.yaml.in/yaml/v2
resolve.go, decode.go), which is neither YAML 1.1 nor 1.2: `y` is true, `0o17` is 15, `1e3` is a number, `12:30:45` and
`2026-02-30` are strings, an unknown tag is ignored, a merge key overrides what stands above it. PyYAML's C scanner
is used under that reading; a test asks helm about every rule written here. Documents that hold only the plain part
of YAML are read by yamlplain, at a third of the cost and with the same answer.

Whatever the text holds (NUL, tabs, lone surrogates, a merge bomb, 200,000 open brackets), the only exception is
YamlError, and it says the line.
"""

from __future__ import annotations

import base64
import bisect
import functools
import math
import operator
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml
from yaml.composer import Composer, ComposerError
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamStartEvent,
)
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

from releasegate import yamlplain

# None where PyYAML was built without libyaml: five to twenty times slower, same reading.
_CPARSER: Any = getattr(getattr(yaml, "cyaml", None), "CParser", None)

__all__ = ["Budget", "Document", "Mark", "Positions", "Scalar", "YamlError", "documents", "dump", "load", "positions"]


class YamlError(ValueError):
    """Text that Kubernetes would not read, or that is refused because reading it would cost too much.

    `line` and `column` count from 1 and are None only where no place can be named.
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        """Keep message and place; `str()` gives both."""
        super().__init__(message if line is None else f"line {line}: {message}")
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one document may cost. Real values files need about 12 levels and a few thousand aliased nodes.

    `depth`: levels of nesting. `expanded`: nodes after aliases and merge keys are written out, beyond those that are
    in the text. go-yaml stops at about 400,000 and, below that, where 99 % of the nodes come from aliases.
    """

    depth: int = 64
    expanded: int = 100_000


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a stream that holds something.

    `text` is the document without its `---` line (with it when something stands on that line), `line` where `text`
    starts in the stream, counted from 1. `problems` do not stop Kubernetes' lenient reading but its strict one
    refuses them: (line within `text`, message), in order: a duplicate key, a key that a merge key sets as well.
    """

    value: Any
    text: str
    line: int
    problems: tuple[tuple[int, str], ...] = ()


_DEFAULT = Budget()


def documents(text: str, *, budget: Budget = _DEFAULT) -> list[Document]:
    """Read every document of a stream. Documents of comments only, empty ones and `null` are left out.

    Raises YamlError (line and column in the stream) for the first document that cannot be read.
    """
    return list(_documents(text, budget))


@functools.lru_cache(maxsize=64)
def kept(text: str) -> tuple[Document, ...] | YamlError:
    """What `documents` reads, or the error it raises, kept for the next reader of the same text.

    For rules that look at one values file after another's look: nobody may change the values.
    """
    try:
        return tuple(_documents(text, _DEFAULT))
    except YamlError as error:
        return error


def load(text: str, *, budget: Budget = _DEFAULT) -> Any:
    """Read the first document that holds something; None when there is none.

    It is what sigs.k8s.io/yaml reads: a later document neither counts nor raises. Raises YamlError.
    """
    for document in _documents(text, budget):
        return document.value
    return None


# --- documents of a stream ----------------------------------------------------------------------------------------

# libyaml's breaks. A `---` or `...` at the start of a line is a marker wherever it stands: quoted scalars may not
# hold one, the content of a block scalar is indented. So cutting at markers is exact, except where directives
# (`%YAML`) move the start of a document up.
_BREAKS = "\n\r\x85\u2028\u2029"
_ODD_BREAK = re.compile("\r(?!\n)|[\x85\u2028\u2029]")
_NOT_NEWLINE = re.compile("[\r\x85\u2028\u2029]")
_TO_NEWLINE = {ord(char): "\n" for char in _BREAKS}
_MARKER = re.compile(r"(?:---|\.\.\.)(?=[ \t\n]|\Z)")
_NEXT_MARKER = re.compile(r"\n(?:---|\.\.\.)(?=[ \t\n]|\Z)")
_DIRECTIVE = re.compile(r"(?:\A\ufeff?|\n)%")
_SILENT_REST = re.compile(r"[ \t]*(?:\n|\Z)")
_BOM = "\ufeff"


def _documents(text: str, budget: Budget) -> Iterator[Document]:
    above = counted = 0
    for start, end in _spans(text):
        part = text[start:end]
        above += text.count("\n", counted, start)
        counted = start
        value = yamlplain.read(part, _WORDS_READ, _Unfit, budget.depth)
        problems: tuple[tuple[int, str], ...] = ()
        if value is yamlplain.NOT_PLAIN:
            try:
                root = _compose(part, budget)
                if root is None:
                    continue
                value, problems = _construct(root, part, budget)
            except YamlError as error:
                raise _moved(error, above) from None
        if value is not None:
            yield Document(value, part, above + 1, problems)


def _moved(error: YamlError, above: int) -> YamlError:
    return YamlError(error.message, None if error.line is None else error.line + above, error.column)


def _has_only_newlines(text: str) -> bool:
    return (text.isascii() and "\r" not in text) or _NOT_NEWLINE.search(text) is None


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each part that may hold a document, in order."""
    if "---" not in text and "..." not in text:  # no markers, so that directives move nothing either
        yield (1 if text.startswith(_BOM) else 0), len(text)
        return
    flat = text if _has_only_newlines(text) else text.translate(_TO_NEWLINE)
    start = 1 if text.startswith(_BOM) else 0
    directives = "%" in flat and _DIRECTIVE.search(flat) is not None
    held: int | None = None  # where directives start that belong to the next `---`
    for begin, end in _markers(flat, start):
        if directives and held is None and _only_directives(flat[start:begin]):
            held = start
        else:
            yield (start if held is None else held), begin
            held = None
        rest = _SILENT_REST.match(flat, end)
        # `--- {a: 1}` holds something; behind `...` only a comment may stand.
        start = rest.end() if rest is not None else begin if flat[begin] == "-" else end
    yield (start if held is None else held), len(text)


def _markers(flat: str, start: int) -> Iterator[tuple[int, int]]:
    if first := _MARKER.match(flat, start):
        yield first.span()
    for found in _NEXT_MARKER.finditer(flat, start):
        yield found.start() + 1, found.end()


def _only_directives(flat: str) -> bool:
    lines = [line for line in flat.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and all(line.startswith("%") for line in lines)


# --- text to nodes ------------------------------------------------------------------------------------------------

_STR = "tag:yaml.org,2002:str"
_PREFIX = "tag:yaml.org,2002:"


def _resolve(_self: Any, _kind: type[Node], _value: str | None, implicit: Any) -> str | None:
    """Give a node without a tag its tag: None for a plain scalar (and collections), else str.

    `implicit` is libyaml's (plain, quoted) for a scalar and a bool for a collection.
    """
    return None if implicit is True or implicit is False or implicit[0] else _STR


def _nothing(*_: Any) -> None:
    """Stand in for what PyYAML's resolver does around each collection: nothing here is resolved by path."""


class _PurePython(Reader, Scanner, Parser, Composer):
    """What reads where libyaml is absent."""

    resolve = _resolve
    descend_resolver = _nothing
    ascend_resolver = _nothing

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)


def _reader(text: str) -> Any:
    return (_PurePython if _CPARSER is None else _WithLibyaml)(text)


if _CPARSER is not None:

    class _WithLibyaml(_CPARSER):  # type: ignore[misc]  # untyped C class
        """What reads where libyaml is present. Its resolver's steps into and out of each node do nothing, without a frame."""

        resolve = _resolve
        descend_resolver = operator.is_
        ascend_resolver = bool


# Above this many levels the node composer, which recurses in C, is not called before the events have been counted.
# 200 brackets and 100 columns bound the depth by 200 + 2 * 100: an indented line opens at most a sequence and a
# mapping per column.
_MAX_BRACKETS = 200
_FAR_IN = re.compile(r"[ \t?:-]{100}")
_LINE_FAR_IN = re.compile(r"\n[ \t?:-]{100}")
_ANCHOR = re.compile(r"(?:^|[\s\[{,])&[0-9A-Za-z_-]", re.MULTILINE)


def _compose(text: str, budget: Budget) -> Node | None:
    """Return the root node of the one document in `text`, None when there is none."""
    try:
        if _may_be_deep(text):
            _refuse_depth(text, budget)
        reader = _reader(text)
        if not reader.check_node():
            return None
        root: Node = reader.get_node()
        reader.check_node()  # what follows the document has to be readable as well
        if "!" in text and _BARE_TAG.search(text):
            _restore_bare_tags(root, text, set())
    except ComposerError as error:
        if "duplicate anchor" not in (error.context or ""):
            _refuse(_sentence(error), _mark_of(error, text), text)
        return _compose_by_events(text, budget)
    except yaml.MarkedYAMLError as error:
        _refuse(_sentence(error), _mark_of(error, text), text)
    except (ReaderError, UnicodeEncodeError):
        _refuse_character(text)
    return root


_BARE_TAG = re.compile(r"(?:\A|[\s\[{,])!(?=[\s,\]}]|\Z)")
_PROPERTIES = re.compile(r"(?:[&!]\S*(?:\s+(?:#[^\n]*\n\s*)*|\Z))+")


def _restore_bare_tags(node: Node, text: str, seen: set[int]) -> None:
    """Give scalars their tag `!` back, which libyaml drops: to go-yaml it is an unknown tag, so they are strings."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, ScalarNode):
        properties = _PROPERTIES.match(text, node.start_mark.index, node.end_mark.index)
        if node.tag in {None, _STR} and properties is not None and _BARE_TAG.search(properties.group()):
            node.tag = "!"
    for child in _children(node):
        _restore_bare_tags(child, text, seen)


def _may_be_deep(text: str) -> bool:
    return (
        _CPARSER is None
        or text.count("[") + text.count("{") > _MAX_BRACKETS
        or _LINE_FAR_IN.search(text) is not None
        or _FAR_IN.match(text, 1 if text.startswith(_BOM) else 0) is not None
        or _has_odd_breaks(text)  # lines that the pattern above does not see
    )


def _mark_of(error: yaml.MarkedYAMLError, text: str) -> Any:
    """Where to look: what was opened, when the end of the text is where it was missed; else what did not fit."""
    problem, context = error.problem_mark, error.context_mark
    at_end = problem is not None and problem.index >= len(text.rstrip())
    if context is not None and (problem is None or at_end or "simple key" in (error.context or "")):
        return context
    return problem


def _compose_by_events(text: str, budget: Budget) -> Node:
    """Compose a document that PyYAML can read but not compose: YAML lets an anchor's name be used again."""
    _refuse_depth(text, budget)
    reader = _reader(text)
    anchors: dict[str, Node] = {}

    def node(event: Any) -> Node:
        if isinstance(event, AliasEvent):
            if event.anchor not in anchors:
                _refuse(f"found undefined alias {event.anchor}", event.start_mark, text)
            return anchors[event.anchor]
        kind = _NODES[type(event)]
        value: Any = event.value if kind is ScalarNode else []
        tag = event.tag or _resolve(reader, kind, None, event.implicit)
        style = event.style if kind is ScalarNode else event.flow_style
        made: Node = kind(tag, value, event.start_mark, event.end_mark, style)
        if event.anchor is not None:
            anchors[event.anchor] = made
        if kind is not ScalarNode:
            made.end_mark = children(made)
        return made

    def children(parent: Node) -> Any:
        while not isinstance(event := reader.get_event(), CollectionEndEvent):
            child = node(event)
            parent.value.append((child, node(reader.get_event())) if isinstance(parent, MappingNode) else child)
        return event.end_mark

    while isinstance(event := reader.get_event(), StreamStartEvent | DocumentStartEvent):
        pass
    root = node(event)
    if _BARE_TAG.search(text):
        _restore_bare_tags(root, text, set())
    return root


_NODES: dict[type, Any] = {
    ScalarEvent: ScalarNode,
    SequenceStartEvent: SequenceNode,
    MappingStartEvent: MappingNode,
}


def _sentence(error: yaml.MarkedYAMLError) -> str:
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return next((plainer for start, plainer in _PLAINER.items() if start.search(error.problem or "")), said)


_PLAINER = {
    re.compile("expected '?<document start>"): "the document ends above, by its indentation or its closing bracket; "
    "helm and kubectl silently ignore everything from here on",
    re.compile(
        "found character .*cannot start any token"
    ): "a character that cannot start a value (a tab, `@`, `` ` ``, `%`): indent with spaces, or quote the value",
    re.compile("mapping values are not allowed"): "a `: ` where no key can stand: quote the value, or mend the "
    "indentation",
    re.compile("could not find expected ':'"): "a line that is neither `key: value` nor part of the value above",
    re.compile(
        "did not find expected key|expected <block end>, but found '<(?:scalar|block mapping)"
    ): "the indentation fits no key above, or a value goes on behind its closing quote",
    re.compile(
        "did not find expected '-' indicator|expected <block end>, but found"
    ): "the indentation fits no list above",
}


def _refuse_depth(text: str, budget: Budget) -> None:
    depth = 0
    reader = _reader(text)
    while reader.check_event():
        event = reader.get_event()
        if isinstance(event, CollectionStartEvent):
            depth += 1
            if depth > budget.depth:
                _refuse(_too_deep(budget), event.start_mark, text)
        elif isinstance(event, CollectionEndEvent):
            depth -= 1


def _too_deep(budget: Budget) -> str:
    return f"nested more than {budget.depth} levels deep"


_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _refuse_character(text: str) -> NoReturn:
    """Name the character that may not stand in YAML: a control character, a lone surrogate."""
    found = _UNREADABLE.search(text)
    if found is None:  # the reader disagrees with the table above about what is printable
        raise YamlError("a character that YAML does not allow")
    index = found.start()
    line = text.count("\n", 0, index) + 1
    column = index - text.rfind("\n", 0, index)
    raise YamlError(f"character U+{ord(found.group()):04X} is not allowed in YAML", line, column)


def _refuse(message: str, mark: Any, text: str) -> NoReturn:
    if mark is None:
        raise YamlError(message)
    raise YamlError(message, *_place(mark, text))


@functools.lru_cache(maxsize=8)
def _has_odd_breaks(text: str) -> bool:
    return not _has_only_newlines(text) and _ODD_BREAK.search(text) is not None


def _place(mark: Any, text: str) -> tuple[int, int]:
    """Return (line, column) from 1 as editors count them: libyaml also breaks lines at NEL, LS and PS, and at the end."""
    if mark.index >= len(text) or _has_odd_breaks(text):
        index = min(mark.index, max(len(text.rstrip()) - 1, 0))
        return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
    return mark.line + 1, mark.column + 1


# --- Kubernetes' reading of a scalar ------------------------------------------------------------------------------

_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], math.nan),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], math.inf),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
}
_DIGIT_OR_SIGN = frozenset("+-0123456789")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]([0-7]+)|0([0-7]*)|([1-9][0-9]*))")
_BASES = (16, 2, 8, 8, 10)
_SIGNED_BINARY = re.compile(r"0b([-+][01]+)")  # ParseInt(plain[2:], 2, 64) takes a sign behind the prefix
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_DOT_FLOAT = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?")  # strconv.ParseFloat's underscores
_INT64 = range(-(2**63), 2**63)
_UINT64_END = 2**64
_PLAIN_DIGITS_END = 1e21  # encoding/json writes larger floats with an exponent
_MAX_DIGITS = 80  # more digits (binary: 64) never fit 64 bits; int() itself refuses 4,300
_SHORT_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:(?:[Tt]([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?(?:Z|[-+][0-9]{2}:[0-9]{2}))"
    r"|(?: ([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?))?"
)


def _plain(text: str) -> tuple[str, Any]:
    """Read a plain scalar as go-yaml's resolve() does: (tag, value). NaN and infinities are returned as such.

    Numbers are what Kubernetes makes of them after JSON: an int where JSON has digits that fit int64, else a float.
    """
    if text in _WORDS:
        value = _WORDS[text]
        return ("null" if value is None else "bool" if isinstance(value, bool) else "float"), value
    first = text[0]
    if first == ".":
        if _DOT_FLOAT.fullmatch(text) and not math.isinf(number := float(text)):
            return "float", _through_json(number)
    elif first in _DIGIT_OR_SIGN:
        if text[4:5] == "-" and _is_timestamp(text):
            return "timestamp", text
        return _number(text)
    return "str", text


def _number(text: str) -> tuple[str, Any]:
    digits = text.replace("_", "")
    integer = _integer(digits)
    if integer is not None:
        return "int", integer if integer in _INT64 else float(integer)
    if _FLOAT.fullmatch(digits) and not math.isinf(number := float(digits)):
        return "float", _through_json(number)
    return "str", text


def _integer(digits: str) -> int | None:
    """strconv.ParseInt(s, 0, 64), else ParseUint(s, 0, 64), else go-yaml's own `0b`."""
    found = _INTEGER.fullmatch(digits)
    if found is not None and len(digits) <= _MAX_DIGITS:
        written, base = next(pair for pair in zip(found.groups()[1:], _BASES, strict=True) if pair[0] is not None)
        value = int(written or "0", base)
        if found[1] == "-":
            value = -value
        return value if value in _INT64 or (not found[1] and value < _UINT64_END) else None
    signed = _SIGNED_BINARY.fullmatch(digits)
    if signed is not None and len(digits) <= _MAX_DIGITS and (value := int(signed[1], 2)) in _INT64:
        return value
    return None


def _through_json(number: float) -> int | float:
    """sigs.k8s.io/yaml goes through JSON, where `3.0` and `1e3` are the digits 3 and 1000: integers again."""
    if number.is_integer() and abs(number) < _PLAIN_DIGITS_END and (whole := int(number)) in _INT64:
        return whole or number  # -0.0 keeps its sign: as a key it is "-0"
    return number


_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FEBRUARY = 2


def _is_timestamp(text: str) -> bool:
    """Whether go-yaml's parseTimestamp takes it. The value stays the string either way; only the tag differs."""
    found = _SHORT_TIMESTAMP.fullmatch(text)
    if found is None:
        return False
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    if not 1 <= month <= len(_DAYS) or not 1 <= day <= _DAYS[month - 1]:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if month == _FEBRUARY and day == _DAYS[1] and not leap:
        return False
    clock = [int(part) for part in found.groups()[3:] if part is not None]
    return not clock or (clock[0] < 24 and clock[1] < 60 and clock[2] < 60)  # noqa: PLR2004  # hours, minutes, seconds


def _read(node: ScalarNode, text: str) -> tuple[str, Any]:
    """Read any scalar node: (short tag, value). Raises YamlError where go-yaml fails on an explicit tag."""
    tag: str | None = node.tag
    written: str = node.value
    if tag is None:
        return _plain(written)
    if tag == _STR:
        return "str", written
    if not tag.startswith(_PREFIX):
        return "str", written  # an unknown tag is ignored, and so is the look of what it stands on
    short = tag[len(_PREFIX) :]
    if short == "binary":
        return "binary", _binary(node, text)
    if short not in {"bool", "int", "float", "null", "timestamp"}:
        return "str", written
    found, value = _plain(written)
    if found == "timestamp" and short != "timestamp":
        found = "str"
    if found == "int" and short == "float" and isinstance(value, int):
        found = "float"
    if found != short:
        _refuse(f"cannot decode !!{found} `{written[:40]}` as a !!{short}", node.start_mark, text)
    return short, value


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def _binary(node: ScalarNode, text: str) -> str:
    """Decode `!!binary`: the bytes as text, each byte that is not UTF-8 as U+FFFD (encoding/json)."""
    encoded = node.value.replace("\n", "").replace("\r", "")
    if not _BASE64.fullmatch(encoded):
        _refuse("!!binary value contains invalid base64 data", node.start_mark, text)
    return _ESCAPED_BYTE.sub("\ufffd", base64.b64decode(encoded).decode("utf-8", "surrogateescape"))


class _Unfit(Exception):  # control flow inside this module
    """A scalar that go-yaml reads and JSON cannot hold; the node that has it is known one frame up."""


class _Memo(dict[str, Any]):
    """Plain scalar -> value, computed once: names of fields and small values repeat all over a render."""

    def __init__(self, read: Callable[[str], Any]) -> None:
        super().__init__()
        self.read = read

    def __missing__(self, text: str) -> Any:
        value = self.read(text)
        if len(self) >= _MEMO_ENTRIES:
            self.clear()
        if len(text) <= _MEMO_LENGTH:
            self[text] = value
        return value


_MEMO_ENTRIES = 50_000
_MEMO_LENGTH = 200


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise _Unfit(f"JSON has no {value}: Kubernetes cannot read it")
    return value


class _MergeKey:
    """What `<<` is among the keys of a mapping."""


_MERGE = _MergeKey()


def _key(tag: str, value: Any) -> str:
    """Name a key as sigs.k8s.io/yaml does (convertToJSONableObject): keys that are no strings become strings."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if tag == "int" and isinstance(value, int):
        return str(value)
    if tag == "float":
        return _shortest_float32(value)
    raise _Unfit("null cannot be a key" if value is None else "an integer beyond 64 bits cannot be a key")


_EXPONENT_FROM, _EXPONENT_BELOW = 6, -4


def _shortest_float32(value: float) -> str:
    """strconv.FormatFloat(value, 'g', -1, 32): float keys go through 32 bits, as in `1.10:` -> "1.1"."""
    try:
        (single,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        single = math.copysign(math.inf, value)
    if not math.isfinite(single):
        return ".nan" if math.isnan(single) else ".inf" if single > 0 else "-.inf"
    text = next(text for text in (f"{single:.{digits}e}" for digits in range(10)) if _same_float32(text, single))
    mantissa, exponent = text.split("e")
    power = int(exponent)
    if power < _EXPONENT_BELOW or power >= _EXPONENT_FROM:
        return f"{mantissa}e{power:+03d}"
    places = max(len(mantissa.lstrip("-").replace(".", "")) - 1 - power, 0)
    return f"{float(text):.{places}f}"


def _same_float32(text: str, single: float) -> bool:
    try:
        return bool(struct.unpack("f", struct.pack("f", float(text)))[0] == single)
    except OverflowError:
        return False


_VALUES = _Memo(lambda text: _json_value(_plain(text)[1]))
_KEYS = _Memo(lambda text: _MERGE if text == "<<" else _key(*_plain(text)))
_WORDS_READ = yamlplain.Words(_KEYS, _VALUES)


def _key_of(node: Node, text: str) -> Any:
    """Return the key a key node makes: a str, or _MERGE."""
    if not isinstance(node, ScalarNode):
        _refuse("a mapping or a list cannot be a key", node.start_mark, text)
    tag: str | None = node.tag
    try:
        if tag is None:
            return _KEYS[node.value]
        if node.value == "<<" and tag in {"!", f"{_PREFIX}merge"}:
            return _MERGE
        return _key(*_read(node, text))
    except _Unfit as error:
        _refuse(str(error), node.start_mark, text)


def _scalar_of(node: ScalarNode, text: str) -> Any:
    """Return the value a scalar node makes."""
    tag: str | None = node.tag
    try:
        return _VALUES[node.value] if tag is None else _json_value(_read(node, text)[1])
    except _Unfit as error:
        _refuse(str(error), node.start_mark, text)


# --- nodes to values ----------------------------------------------------------------------------------------------


def _construct(root: Node, text: str, budget: Budget) -> tuple[Any, tuple[tuple[int, str], ...]]:
    if not ("&" in text and _ANCHOR.search(text)):
        try:
            made = _Straight(text, budget)
            return made.value(root, 1), _in_order(made.problems)
        except _MergeFound:
            pass
    expanding = _Expanding(root, text, budget)
    return expanding.decode(root, aliased=False), _in_order(expanding.problems)


def _in_order(problems: list[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    return tuple(sorted(set(problems))) if problems else ()


class _MergeFound(Exception):  # control flow inside this module
    """The document has a merge key and needs the slower construction."""


class _Straight:
    """Construction of a document without anchors and merge keys: nearly all of a render. One pass, no look-ups."""

    def __init__(self, text: str, budget: Budget) -> None:
        self.text = text
        self.budget = budget
        self.problems: list[tuple[int, str]] = []

    def value(self, node: Node, depth: int) -> Any:
        if node.__class__ is ScalarNode:
            return _scalar_of(node, self.text)
        if depth > self.budget.depth:
            _refuse(_too_deep(self.budget), node.start_mark, self.text)
        return (self.mapping if node.__class__ is MappingNode else self.sequence)(node, depth)

    def mapping(self, node: Node, depth: int) -> dict[str, Any]:
        made: dict[Any, Any] = {}
        try:
            for key_node, value_node in node.value:
                key = _KEYS[key_node.value] if key_node.tag is None else _MERGE
                if key is _MERGE:  # or anything but a plain key: look again
                    key = _key_of(key_node, self.text)
                    if key is _MERGE:
                        raise _MergeFound
                if value_node.__class__ is ScalarNode:
                    tag: Any = value_node.tag
                    if tag is None:
                        made[key] = _VALUES[value_node.value]
                        continue
                    if tag is _STR:
                        made[key] = value_node.value
                        continue
                made[key] = self.value(value_node, depth + 1)
        except (_Unfit, TypeError):  # TypeError: a collection as key is no key of the memo
            self._name_the_unfit(node)
        if len(made) != len(node.value):
            self.problems += _duplicates(node, self.text)
        return made

    def sequence(self, node: Node, depth: int) -> list[Any]:
        return [self.value(item, depth + 1) for item in node.value]

    def _name_the_unfit(self, node: Node) -> NoReturn:
        for key_node, value_node in node.value:
            _key_of(key_node, self.text)
            if isinstance(value_node, ScalarNode):
                _scalar_of(value_node, self.text)
        raise YamlError("a scalar that Kubernetes cannot read", *_place(node.start_mark, self.text))


def _duplicates(node: Node, text: str) -> Iterator[tuple[int, str]]:
    """Yield each key that the mapping itself writes again. Two `<<` are no duplicate: go-yaml merges both."""
    first: dict[str, int] = {}
    for key_node, _ in node.value:
        key = _key_of(key_node, text)
        if key is _MERGE:
            continue
        line = _place(key_node.start_mark, text)[0]
        if key in first:
            yield line, f'duplicate key "{key}" (first on line {first[key]})'
        else:
            first[key] = line


_RATIO_LOW, _RATIO_HIGH = 400_000, 4_000_000  # go-yaml decode.go alias_ratio_range_low, _high
_FREE_ALIASES, _FREE_DECODES = 100, 1000


class _Expanding:
    """Construction of a document with anchors or merge keys, node by node as go-yaml's decoder goes.

    First one pass over the node graph, linear in the text: nesting, aliases that hold themselves, the expanded cost.
    Only what that allows is built, and go-yaml's own ratio of aliased nodes is kept on the way.
    """

    def __init__(self, root: Node, text: str, budget: Budget) -> None:
        self.text = text
        self.budget = budget
        self.problems: list[tuple[int, str]] = []
        self.decoded = 1  # go-yaml counts the document
        self.aliased = 0
        self.aliases: set[tuple[int, int]] = set()  # (id of parent, position among its children) of every alias
        self._survey(root)

    # The graph pass. `cost` is what a node is worth written out, `height` how deep it nests.
    def _survey(self, root: Node) -> None:
        written: dict[int, tuple[int, int]] = {}
        open_nodes: set[int] = set()

        def visit(node: Node, depth: int) -> tuple[int, int]:
            if isinstance(node, ScalarNode):
                written.setdefault(id(node), (1, 0))
                return 1, 0
            if depth > self.budget.depth:
                _refuse(_too_deep(self.budget), node.start_mark, self.text)
            open_nodes.add(id(node))
            cost, height = 1, 0
            for position, child in enumerate(_children(node)):
                if id(child) in open_nodes:
                    _refuse("an anchor's value contains itself", child.start_mark, self.text)
                if id(child) in written:
                    self.aliases.add((id(node), position))
                    more, levels = written[id(child)]
                else:
                    more, levels = visit(child, depth + 1)
                if depth + levels > self.budget.depth:
                    _refuse(_too_deep(self.budget), child.start_mark, self.text)
                cost += more
                height = max(height, levels)
            open_nodes.discard(id(node))
            written[id(node)] = cost, height + 1
            return cost, height + 1

        cost, _ = visit(root, 1)
        if cost - len(written) > self.budget.expanded:
            message = f"aliases and merge keys expand to more than {self.budget.expanded:,} values"
            _refuse(message, root.start_mark, self.text)

    def decode(self, node: Node, *, aliased: bool) -> Any:
        self._count(aliased=aliased)
        if isinstance(node, ScalarNode):
            return _scalar_of(node, self.text)
        if isinstance(node, SequenceNode):
            return [self._child(node, position, item, aliased=aliased) for position, item in enumerate(node.value)]
        made: dict[str, Any] = {}
        self._fill(made, node, aliased=aliased)
        return made

    def _count(self, *, aliased: bool) -> None:
        self.decoded += 1
        self.aliased += aliased
        if self.aliased > _FREE_ALIASES and self.decoded > _FREE_DECODES:
            share = min(max((self.decoded - _RATIO_LOW) / (_RATIO_HIGH - _RATIO_LOW), 0.0), 1.0)
            if self.aliased / self.decoded > 0.99 - 0.89 * share:
                raise YamlError("document contains excessive aliasing: Kubernetes refuses it", 1, 1)

    def _child(self, parent: Node, position: int, node: Node, *, aliased: bool) -> Any:
        if (id(parent), position) in self.aliases:
            self._count(aliased=aliased)
            aliased = True
        return self.decode(node, aliased=aliased)

    def _fill(self, made: dict[str, Any], node: Node, *, aliased: bool) -> None:
        """Decode the pairs of a mapping into `made`. A merge key overrides what stands above it, as in go-yaml v2."""
        own: set[str] = set()
        merged: set[str] = set()
        repeated = False
        for pair, (key_node, value_node) in enumerate(node.value):
            key = _key_of(key_node, self.text)
            if key is _MERGE:
                before = made.keys() - own
                held: dict[str, Any] = {}
                self._merge(held, node, 2 * pair + 1, value_node, aliased=aliased)
                line = _place(key_node.start_mark, self.text)[0]
                for name in own & held.keys():
                    self.problems.append((line, f'key "{name}" is overridden by this merge key'))
                merged |= held.keys() - before
                made |= held
                continue
            self._child_count(node, 2 * pair, aliased=aliased)
            made[key] = self._child(node, 2 * pair + 1, value_node, aliased=aliased)
            if key in merged and key not in own:
                line = _place(key_node.start_mark, self.text)[0]
                self.problems.append((line, f'key "{key}" is also set by the merge key above it'))
            if key in own:
                repeated = True
            own.add(key)
        if repeated:
            self.problems += _duplicates(node, self.text)

    def _child_count(self, parent: Node, position: int, *, aliased: bool) -> None:
        if (id(parent), position) in self.aliases:
            self._count(aliased=aliased)
            aliased = True
        self._count(aliased=aliased)

    def _merge(self, made: dict[str, Any], parent: Node, position: int, node: Node, *, aliased: bool) -> None:
        is_alias = (id(parent), position) in self.aliases
        if isinstance(node, MappingNode):
            self._child_count(parent, position, aliased=aliased)
            self._fill(made, node, aliased=aliased or is_alias)
        elif isinstance(node, SequenceNode) and not is_alias:
            for index in range(len(node.value) - 1, -1, -1):  # what stands first wins
                item = node.value[index]
                if not isinstance(item, MappingNode):
                    _refuse("a merge key takes a mapping or a list of mappings", item.start_mark, self.text)
                self._merge(made, node, index, item, aliased=aliased)
        else:
            _refuse("a merge key takes a mapping or a list of mappings", node.start_mark, self.text)


def _children(node: Node) -> Sequence[Node]:
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, SequenceNode) else ()


# --- positions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something is written: lines and columns from 1, character indices from 0, ends exclusive.

    A value's mark leaves out its anchor and tag. A block scalar's begins at `|` or `>` and ends behind its last
    line break; a block collection's ends with its last line that is not blank.
    """

    line: int
    column: int
    end_line: int
    end_column: int
    index: int
    end_index: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar of a document: `raw` as written with its quotes, `value` and `tag` as Kubernetes reads them.

    `style` is "plain", "single", "double", "literal" or "folded". `tag` is "str", "int", "float", "bool", "null",
    "timestamp" (its value is the string) or "binary".
    """

    pointer: str
    mark: Mark
    raw: str
    style: str
    tag: str
    value: Any


_STYLES = {"'": "single", '"': "double", "|": "literal", ">": "folded"}


class Positions:
    """Where the values of one document are written, found by JSON pointer.

    Behind an alias the mark is at the anchor, where a person would edit; of a merged key where the merged mapping
    writes it. Duplicate keys: the last one, which is the one that counts.
    """

    def __init__(self, root: Node | None, text: str, start: int = 0, above: int = 0) -> None:
        """Built by positions(). `start` characters and `above` lines stand before `text`."""
        self._root = root
        self._text = text
        self._start = start
        self._above = above
        self._pairs: dict[int, dict[str, tuple[Node, Node]]] = {}

    def value(self, pointer: str) -> Mark | None:
        """Return where the value at a JSON pointer is written; None where there is none."""
        found = self._find(pointer)
        return None if found is None else self._mark(found[1])

    def key(self, pointer: str) -> Mark | None:
        """Return where the key of the value at a JSON pointer is written; None for the root and items of lists."""
        found = self._find(pointer)
        return None if found is None or found[0] is None else self._mark(found[0])

    def scalars(self) -> Iterator[Scalar]:
        """Yield every scalar value (not keys) in document order, those behind aliases once for each pointer."""
        if self._root is not None:
            yield from self._scalars(self._root, "")

    def _scalars(self, node: Node, pointer: str) -> Iterator[Scalar]:
        if isinstance(node, MappingNode):
            for name, (_, child) in self._effective(node).items():
                yield from self._scalars(child, f"{pointer}/{_escape(name)}")
        elif isinstance(node, SequenceNode):
            for index, child in enumerate(node.value):
                yield from self._scalars(child, f"{pointer}/{index}")
        elif isinstance(node, ScalarNode):
            mark = self._mark(node)
            tag, value = _read(node, self._text)
            raw = self._text[mark.index - self._start : mark.end_index - self._start]
            yield Scalar(pointer, mark, raw, _STYLES.get(node.style or "", "plain"), tag, value)

    def _find(self, pointer: str) -> tuple[Node | None, Node] | None:
        if self._root is None or (pointer and not pointer.startswith("/")):
            return None
        key: Node | None = None
        node = self._root
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(node, MappingNode):
                pair = self._effective(node).get(name)
                if pair is None:
                    return None
                key, node = pair
            elif isinstance(node, SequenceNode) and _INDEX.fullmatch(name) and int(name) < len(node.value):
                key, node = None, node.value[int(name)]
            else:
                return None
        return key, node

    def _effective(self, node: Node) -> dict[str, tuple[Node, Node]]:
        made = self._pairs.get(id(node))
        if made is None:
            made = self._pairs[id(node)] = {}
            for key_node, value_node in node.value:
                key = _key_of(key_node, self._text)
                if key is _MERGE:
                    sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                    for source in reversed(sources):
                        made.update(self._effective(source))
                else:
                    made[key] = key_node, value_node
        return made

    def _mark(self, node: Node) -> Mark:
        text = self._text
        index, end = node.start_mark.index, node.end_mark.index
        if isinstance(node, MappingNode | SequenceNode) and not node.flow_style:
            end = index + len(text[index:end].rstrip())
        properties = _PROPERTIES.match(text, index, end) if text[index : index + 1] in {"&", "!"} else None
        if properties is not None:
            index = properties.end()
        return Mark(*self._line_column(index), *self._line_column(end), self._start + index, self._start + end)

    def _line_column(self, index: int) -> tuple[int, int]:
        line = bisect.bisect_right(self._starts, index)
        return self._above + line, index - self._starts[line - 1] + 1

    @functools.cached_property
    def _starts(self) -> list[int]:
        """The index of each line's first character, as editors count lines."""
        return [0, *(found.end() for found in re.finditer("\n", self._text))]


_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")


@functools.lru_cache(maxsize=64)  # several rules ask about one values file after the other
def positions(text: str, *, budget: Budget = _DEFAULT) -> Positions:
    """Say where the values of a document (Document.text, or the first document of a file) are written.

    Raises YamlError for what load() raises it.
    """
    for start, end in _spans(text):
        part = text[start:end]
        above = text.count("\n", 0, start)
        try:
            root = _compose(part, budget)
            if root is not None and _construct(root, part, budget)[0] is not None:
                return Positions(root, part, start, above)
        except YamlError as error:
            raise _moved(error, above) from None
    return Positions(None, text)


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


# --- values to text -----------------------------------------------------------------------------------------------

_SAFE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_MUST_ESCAPE = re.compile('[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|["\\\\]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_MAX_SIMPLE_KEY = 1000  # a key of more than 1,024 characters needs `? `


def dump(value: Any) -> str:
    """Write a value as YAML that Kubernetes, helm and load() read back as the same value.

    Deterministic: equal values give equal text (keys are sorted). For JSON values: mappings with string keys, lists,
    strings, booleans, None, finite floats, integers of 64 bits. Raises ValueError for anything else.
    """
    if isinstance(value, Mapping) and value:
        return "".join(_dump_mapping(value, ""))
    if _is_list(value) and value:
        return "".join(_dump_list(value, ""))
    return _dump_scalar(value) + "\n"


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _dump_mapping(value: Mapping[Any, Any], indent: str) -> Iterator[str]:
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"a key must be a string, not {key!r}")  # noqa: TRY004  # one error type, as promised
    for key in sorted(value):
        written = _dump_scalar(key)
        explicit = len(written) > _MAX_SIMPLE_KEY
        yield f"{indent}? {written}\n{indent}:" if explicit else f"{indent}{written}:"
        yield from _dump_child(value[key], indent)


def _dump_list(value: Sequence[Any], indent: str) -> Iterator[str]:
    for item in value:
        yield f"{indent}-"
        yield from _dump_child(item, indent)


def _dump_child(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield "\n"
        yield from _dump_mapping(value, indent + "  ")
    elif _is_list(value) and value:
        yield "\n"
        yield from _dump_list(value, indent + "  ")
    else:
        yield f" {_dump_scalar(value)}\n"


def _dump_scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _dump_string(value)
    if isinstance(value, int) and value in _INT64:
        return str(int(value))
    if isinstance(value, float) and math.isfinite(value):
        return repr(float(value))
    if isinstance(value, Mapping) and not value:
        return "{}"
    if _is_list(value) and not value:
        return "[]"
    raise ValueError(f"Kubernetes' YAML cannot hold {value!r}")


def _dump_string(value: str) -> str:
    if _SAFE.fullmatch(value) and value not in _WORDS and len(value) <= _MAX_SIMPLE_KEY:
        return value
    return '"' + _MUST_ESCAPE.sub(_escaped, value) + '"'


def _escaped(found: re.Match[str]) -> str:
    char = found.group()
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004  # surrogates
        raise ValueError(f"a lone surrogate U+{code:04X} is no text")
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004  # one byte
