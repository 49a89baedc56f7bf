"""The plain part of YAML that most manifests are written in, read without a parser: about three times as fast.

Layer 0: no I/O. One regular expression takes every line apart; a document with any line it does not know whole is
left to yamlio's real reader, and so is whatever is wrong, so that messages have one source. Read here: ASCII, mappings
and lists in block style, scalars on one line (plain; quoted, without escapes), comments, and flat flow
collections of plain and quoted words. A property test holds both readers against each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["NOT_PLAIN", "Words", "read"]

NOT_PLAIN: Any = object()
"""What `read` answers where the real reader has to look."""

# 200 characters: libyaml takes keys of up to 1,024. A key never starts with an indicator, so neither `<<`, nor a
# marker, nor `? ` is one.
_KEY = r"[A-Za-z0-9_./][A-Za-z0-9_./-]{0,200}+"
_FLOW_KEY = r"[A-Za-z0-9_./][A-Za-z0-9_./-]*+"
_WORD = r"(?:[A-Za-z0-9_./]|-(?=[A-Za-z0-9_./-]))[A-Za-z0-9_./=-]*+"
_DOUBLE = r'"[ !#-\[\]-~]*+"'
_SINGLE = r"'[ -&(-~]*+'"
# No indicator first, `-` only before a word; then anything but `: ` and ` #`, and no colon or blank last.
_PLAIN = r"(?:[A-Za-z0-9_./$(+~]|-(?=[!-~]))(?:[!-9;-~]++|:(?=[!-~])|[ ]++(?=[!\"$-9;-~]))*+"
_FLOW_MAP = rf"\{{(?:{_FLOW_KEY}:[ ](?:{_WORD}|{_DOUBLE})(?:,[ ](?!\}})|(?=\}})))*+\}}"
_FLOW_LIST = rf"\[(?:(?:{_WORD}|{_DOUBLE})(?:,[ ](?!\])|(?=\])))*+\]"
_VALUE = f"{_PLAIN}|{_DOUBLE}|{_SINGLE}|{_FLOW_MAP}|{_FLOW_LIST}"
_COMMENT = r"#[ -~]*+"
_LINE = re.compile(
    rf"^([ ]*+)(?:(-[ ])?+(?:({_KEY}):(?:[ ]++|$))?+({_VALUE})?+[ ]*+(?:(?<=[ ]){_COMMENT})?+|{_COMMENT})$",
    re.MULTILINE,
)
_ITEM = re.compile(rf"{_DOUBLE}|{_WORD}")
_PAIR = re.compile(rf"({_FLOW_KEY}): ({_DOUBLE}|{_WORD})")


class _NotPlain(Exception):  # control flow inside this module
    """Something for the real reader."""


class Words(dict[str, Any]):
    """Text of a value -> value, computed once; lists and mappings are copied by whoever takes them out.

    `keys` and `values` read a plain key or scalar, as yamlio's memos do.
    """

    def __init__(self, keys: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Start empty."""
        super().__init__()
        self.keys_read = keys
        self.values_read = values

    def __missing__(self, text: str) -> Any:
        """Read a text that is not known yet. Whatever `values` raises goes through."""
        value = self._read(text)
        if len(self) >= _ENTRIES:
            self.clear()
        if len(text) <= _LENGTH:
            self[text] = value
        return value

    def _read(self, text: str) -> Any:
        first = text[0]
        if first in "\"'":
            return text[1:-1]
        if first == "[":
            return [self[item] for item in _ITEM.findall(text)]
        if first == "{":
            pairs = _PAIR.findall(text)
            made = {self.keys_read[key]: self[value] for key, value in pairs}
            if len(made) != len(pairs):
                raise _NotPlain  # a duplicate key
            return made
        return self.values_read[text]


_ENTRIES = 50_000
_LENGTH = 200


def read(text: str, words: Words, unfit: type[Exception], depth: int) -> Any:  # noqa: C901, PLR0912 -- one loop over lines
    """Return the value of the one document in `text`, or NOT_PLAIN.

    `unfit` is what the readers of `words` raise for a scalar that cannot be held. At most `depth` levels are read.
    """
    lines = _LINE.findall(text)
    if len(lines) != text.count("\n") + 1:
        return NOT_PLAIN
    root: Any = NOT_PLAIN
    columns, holders = [-1], [root]  # the open collections and where they start
    top, made, name = -1, root, ""  # the innermost one, and the key that waits for its value
    waits = True
    try:
        for indent, dash, key, raw in lines:
            if not key and not dash:
                if raw:
                    return NOT_PLAIN  # a scalar that goes on, or a scalar document
                continue
            column = len(indent)
            if waits:
                waits = False
                if column > top or (dash and column == top):  # a list may stand below its key without indentation
                    new: Any = [] if dash else {}
                    if root is NOT_PLAIN:
                        root = new
                    else:
                        made[name] = new
                    columns.append(column)
                    holders.append(new)
                    top, made = column, new
            elif column > top:
                return NOT_PLAIN
            while top > column or (top == column and not dash and made.__class__ is list):
                columns.pop()
                holders.pop()
                top, made = columns[-1], holders[-1]
            if top != column or len(columns) >= depth:
                return NOT_PLAIN
            if dash:
                if made.__class__ is not list or not (key or raw):
                    return NOT_PLAIN
                if not key:
                    value = words[raw]
                    made.append(value if value.__class__ is not dict and value.__class__ is not list else value.copy())
                    continue
                new = {}
                made.append(new)
                top, made = column + 2, new
                columns.append(top)
                holders.append(new)
            name = words.keys_read[key]
            if name in made:
                return NOT_PLAIN  # told with both lines
            if raw:
                value = words[raw]
                made[name] = value if value.__class__ is not dict and value.__class__ is not list else value.copy()
            else:
                made[name] = None
                waits = True
    except (unfit, _NotPlain):
        return NOT_PLAIN
    return root
