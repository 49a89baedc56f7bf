r"""Go's regular expressions (RE2) in the syntax that jsonschema-rs takes.

The API server and kubeconform compile `pattern` with Go's regexp; a JSON Schema engine checks it as ECMAScript first
and refuses what only Go writes: `^(?i)(abort|warn)?$`, `\A`, `[[:alpha:]]`. The language matched stays the same.
https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-\/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_FLAGS = re.compile(r"\(\?([ims]+)\)")
_NAMED = re.compile(r"\(\?P?<[A-Za-z_][A-Za-z0-9_]*>")
_QUANTIFIER = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")
_QUOTED = re.compile(r"\\Q(.*?)(?:\\E|$)", re.DOTALL)
_POSIX_CLASS = re.compile(r"\[:(\^?)([a-z]+):\]")
_HEX = re.compile(r"\\x\{([0-9A-Fa-f]+)\}")
_PROPERTY = re.compile(r"\\([pP])([A-Z])")
_CLASS_ESCAPES = "dDsSwWpP"
_ANCHORS = {"\\A": "^", "\\z": "$"}


def from_go(pattern: str) -> str:
    """The pattern in ECMAScript's syntax; what has no such form is left as it is, and fails to compile."""
    out: list[str] = []
    # For each open group, the flags switched on inside it so far, in order.
    flags: list[list[str]] = [[]]
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            text, at = _escape(pattern, at)
            out.append(text)
        elif char == "[":
            text, at = _class(pattern, at)
            out.append(text)
        elif found := _FLAGS.match(pattern, at):
            flags[-1].append(found[1])
            out.append(f"(?{found[1]}:")
            at = found.end()
        elif char == "(":
            named = _NAMED.match(pattern, at)
            out.append("(" if named else char)
            flags.append([])
            at = named.end() if named else at + 1
        elif char == ")":
            out.append(")" * len(flags.pop()) + ")" if len(flags) > 1 else ")")
            at += 1
        elif char == "|":
            # A flag holds to the end of its group, across alternatives.
            out.append(")" * len(flags[-1]) + "|" + "".join(f"(?{flag}:" for flag in flags[-1]))
            at += 1
        elif char == "{" and not _QUANTIFIER.match(pattern, at):
            out.append("\\{")
            at += 1
        else:
            out.append(char)
            at += 1
    return "".join(out) + ")" * len(flags[0])


def _escape(pattern: str, at: int) -> tuple[str, int]:
    """The escape at `at`, and where it ends."""
    if quoted := _QUOTED.match(pattern, at):
        return re.sub(r"([\\^$.|?*+()\[\]{}/])", r"\\\1", quoted[1]), quoted.end()
    if found := _HEX.match(pattern, at):
        return f"\\u{{{found[1]}}}" if len(found[1]) > 4 else f"\\u{found[1]:0>4}", found.end()  # noqa: PLR2004
    if found := _PROPERTY.match(pattern, at):
        return f"\\{found[1]}{{{found[2]}}}", found.end()
    text = pattern[at : at + 2]
    return _ANCHORS.get(text, text), at + 2


def _class(pattern: str, at: int) -> tuple[str, int]:
    """The bracket expression at `at`, and where it ends."""
    out = ["["]
    at += 1
    if pattern[at : at + 1] == "^":
        out.append("^")
        at += 1
    start = at
    after_set = False  # a `-` behind a set of characters is itself, not a range
    while at < len(pattern):
        char = pattern[at]
        posix = _POSIX_CLASS.match(pattern, at)
        if char == "]" and at > start:
            return "".join([*out, "]"]), at + 1
        if posix and not posix[1] and posix[2] in _POSIX:
            out.append(_POSIX[posix[2]])
            at, after_set = posix.end(), True
        elif char == "\\":
            text, end = _escape(pattern, at)
            after_set = pattern[at + 1 : at + 2] in _CLASS_ESCAPES
            out.append(text)
            at = end
        else:
            literal = char in "[]" or (char == "-" and after_set)
            out.append(f"\\{char}" if literal else char)
            at, after_set = at + 1, False
    return "".join(out), at
