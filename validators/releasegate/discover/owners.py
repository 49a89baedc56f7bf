r"""CODEOWNERS as GitHub reads it: which file counts, what its lines mean, who owns a path.

Written from GitHub's documentation ("About code owners"; REST "List CODEOWNERS errors" for what it calls an error):
`.github/`, the root and `docs/` are searched in that order and the first file found counts; it has to be under 3 MB; of
the lines that match a path the last one decides; a line without owners takes ownership away; a line with a syntax error
is skipped. Patterns are gitignore's but for `!`, `[ ]` and `\#`, which do not work, and but for a last segment `*`,
which is one level deep. Upper and lower case differ. Nothing here is read from disk but by `locate` and `load`.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from dataclasses import dataclass

from releasegate.discover.files import Files, Unreadable

LOCATIONS = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
MAX_BYTES = 3_000_000  # "must be under 3 MB in size. A CODEOWNERS file over this limit will not be loaded"
MAX_LINES = 10_000  # more would take minutes to compare with the files of a large repository

_BLANKS = " \t\r\f\v"
# `@user`, `@org/team`, an e-mail address. Names of managed users hold one `_`. A team is named by its slug.
_USER = re.compile(r"@[A-Za-z0-9][A-Za-z0-9_-]*")
_TEAM = re.compile(r"@[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9_-]+")
_MAIL = re.compile(r"[^\s@<>()\[\],;:\"]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class OwnerLine:
    """A line that GitHub takes: `owners` is empty where it takes ownership away."""

    line: int
    pattern: str
    owners: tuple[str, ...]

    def matches(self, path: str) -> bool:
        """Whether the line speaks about the file at `path` (posix, from the top of the repository)."""
        return matcher(self.pattern).match(path) is not None

    @property
    def names_a_kind(self) -> bool:
        """Whether it is about a kind of file wherever it may be (`*.tf`, `**/*.tf`): so it may be ahead of the first."""
        name = self.pattern.removeprefix("**/")
        return "/" not in name and ("*" in name or "?" in name)

    @property
    def text(self) -> str:
        """The line in one spelling, for messages."""
        return " ".join((self.pattern, *self.owners))


@dataclass(frozen=True, slots=True)
class Mistake:
    """A line that GitHub skips: what is wrong with it, and what to write instead. `column` counts from 1."""

    line: int
    column: int
    source: str
    message: str
    help: str


@dataclass(frozen=True)
class Codeowners:
    """A parsed CODEOWNERS file. `lines` and `mistakes` are in the order of the file; comments are in neither."""

    path: str
    lines: tuple[OwnerLine, ...]
    mistakes: tuple[Mistake, ...] = ()

    def line_for(self, path: str) -> OwnerLine | None:
        """Return the line that decides about a path: the last one that matches; None where none does."""
        found = self._any.match(path)
        return None if found is None or found.lastindex is None else self.lines[-found.lastindex]

    def owners(self, path: str) -> tuple[str, ...]:
        """Return who owns a path, as the deciding line names them; nobody where it names none or there is none."""
        line = self.line_for(path)
        return () if line is None else line.owners

    def voided(self) -> dict[OwnerLine, OwnerLine]:
        """Return {line that can never take effect: the first later line that covers it}, as `covers` says."""
        later: dict[object, OwnerLine] = {}
        found: dict[OwnerLine, OwnerLine] = {}
        for line in reversed(self.lines):
            segments, folder = _anchored(line.pattern)
            above = [(tuple(segments[:end]), kind) for end in range(1, len(segments)) for kind in (True, False)]
            own = [(tuple(segments), False), *([(tuple(segments), True)] if folder else [])]
            known = [later[key] for key in (_ALL, line.pattern, *above, *own) if key in later]
            if known:
                found[line] = min(known, key=lambda one: one.line)
            if line.pattern in _EVERYTHING:
                later[_ALL] = line
            elif not _WILD.search("".join(segments)):
                later[tuple(segments), folder] = line
            later[line.pattern] = line
        return {line: found[line] for line in self.lines if line in found}

    @functools.cached_property
    def _any(self) -> re.Pattern[str]:
        """All patterns as one, the last line first; which one fits is told by the empty group behind it.

        300 lines decide about 1,500 paths in 30 ms, a fifth of what as many single expressions take.
        """
        return re.compile(
            "|".join(f"{expression(line.pattern)}()" for line in reversed(self.lines)) or NEVER, re.DOTALL
        )


# --- which file counts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Located:
    """The CODEOWNERS files of a repository: `path` is the one GitHub reads, `decoys` those it does not.

    `refused` says why GitHub loads nothing from `path` although it is the one that counts (too large, a symbolic
    link); `unreadable` why this program cannot say what is in it. With either, `file` has no lines.
    """

    file: Codeowners | None
    decoys: tuple[str, ...] = ()
    refused: str | None = None
    unreadable: str | None = None


def locate(files: Files) -> Located:
    """Find and read the CODEOWNERS file of a repository; `files` are those from its top."""
    found = [path for path in LOCATIONS if path in files]
    if not found:
        return Located(None)
    path, decoys = found[0], tuple(found[1:])
    empty = Codeowners(path, ())
    full = os.path.join(files.tree.root, path)  # noqa: PTH118 - as discover/files.py
    if os.path.islink(full):  # noqa: PTH114
        return Located(empty, decoys=decoys, refused="is a symbolic link, which GitHub does not follow")
    if os.path.isfile(full) and os.path.getsize(full) >= MAX_BYTES:  # noqa: PTH113, PTH202
        return Located(empty, decoys=decoys, refused="is not under 3 MB: GitHub does not load it")
    try:
        text = files.text(path)
    except Unreadable as error:
        return Located(empty, decoys=decoys, unreadable=str(error))
    if sum(1 for line in text.split("\n") if line.strip(_BLANKS)) > MAX_LINES:
        return Located(empty, decoys=decoys, unreadable=f"has more than {MAX_LINES} lines")
    return Located(parse(text, path), decoys)


def tree_path(path: str, prefix: str) -> str:
    """Turn a path from the top of the repository into one from ROOT, which is its folder `prefix` ("" at the top)."""
    return posixpath.relpath(path, prefix) if prefix else path


def repo_path(path: str, prefix: str) -> str:
    """Turn a path from ROOT into one from the top of the repository."""
    return posixpath.normpath(posixpath.join(prefix, path))


# --- what its lines mean --------------------------------------------------------------------------------------------


def parse(text: str, path: str = LOCATIONS[0]) -> Codeowners:
    """Read the text of a CODEOWNERS file. Never raises: what GitHub refuses becomes a Mistake on its line."""
    lines: list[OwnerLine] = []
    mistakes: list[Mistake] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(_BLANKS)
        if line and not line.startswith("#"):
            read = _line(number, raw, line)
            if isinstance(read, OwnerLine):
                lines.append(read)
            else:
                mistakes.append(read)
    return Codeowners(path, tuple(lines), tuple(mistakes))


def _line(number: int, raw: str, line: str) -> OwnerLine | Mistake:
    start = raw.index(line)
    pattern, rest = _split_pattern(line)
    wrong = _wrong_pattern(pattern, line)
    if wrong is not None:
        return Mistake(number, start + 1, line, *wrong)
    owners: list[str] = []
    for found in re.finditer(r"[^ \t\r\f\v]+", rest):
        word = found.group()
        if word.startswith("#"):
            break  # "*.js @js-owner #This is an inline comment."
        if not is_owner(word):
            column = start + len(line) - len(rest) + found.start() + 1
            return Mistake(number, column, line, *_wrong_owner(word))
        owners.append(word)
    return OwnerLine(number, pattern, tuple(owners))


def _split_pattern(line: str) -> tuple[str, str]:
    """The pattern ends at the first blank that no backslash stands before."""
    at = 0
    while at < len(line) and line[at] not in _BLANKS:
        at += 2 if line[at] == "\\" else 1
    return line[:at], line[at:]


def is_owner(word: str) -> bool:
    """Whether a word has the form of an owner: @user, @org/team or an e-mail address. Whether it exists, GitHub knows."""
    return any(form.fullmatch(word) for form in (_USER, _TEAM, _MAIL))


def _wrong_owner(word: str) -> tuple[str, str]:
    bare = word.strip(",;")
    if bare != word and is_owner(bare):
        return f"{word} is no owner: owners are separated by blanks only", f"write {bare}"
    if is_owner(f"@{word}"):
        return f"{word} is no owner: the @ is missing (a blank in a path is written `\\ `)", f"write @{word}"
    return (
        f"{word} is no owner",
        "write @user, @org/team or an e-mail address; a blank in a path is written `\\ `",
    )


def _wrong_pattern(pattern: str, line: str) -> tuple[str, str] | None:
    """What GitHub does not take of gitignore's patterns ("Syntax exceptions"), and what to write instead."""
    if re.match(r"\^?\[[^\]]*\](\[\d+\])?([ \t@]|$)", line):
        return (
            "a section is GitLab's: GitHub reads it as a pattern with `[ ]`, which does not work",
            "write it as a comment",
        )
    if pattern.startswith("!"):
        return (
            "`!` does not negate a pattern in CODEOWNERS",
            f"write {pattern[1:] or 'the pattern'} without owners: that takes ownership away",
        )
    if pattern.startswith("\\#"):
        return "`\\#` does not work in CODEOWNERS: the line is not read as a pattern", "write `?` for the `#`"
    if "***" in pattern:
        return f"{pattern} is no pattern: three asterisks", f"write {re.sub(r'[*]{3,}', '**', pattern)}"
    if "[" in pattern or "]" in pattern:
        any_one = re.sub(r"\[[^]]*\]?|\]", "?", pattern)
        return f"{pattern}: `[ ]` does not work in CODEOWNERS", f"write {any_one}, or one line for each character"
    return None


# --- what a pattern matches -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def matcher(pattern: str) -> re.Pattern[str]:
    """Compile a pattern: it `.match`es the whole path of each file that the pattern speaks about."""
    return re.compile(expression(pattern), re.DOTALL)


def expression(pattern: str) -> str:
    """Translate a pattern to a regular expression without groups, to be used with DOTALL.

    Its time grows with the length of pattern times path, whatever they hold: behind each `*` and each `**` the first
    fit is kept (an atomic group), since a later `*` takes up what is left.
    """
    segments, folder = _anchored(pattern)
    if "".join(segments) in ("", "**") and "" in segments:
        return NEVER  # GitHub: "The pattern `/` will never match anything"
    if segments[-1] == "**":  # everything below: with a trailing slash only what is in a folder there
        return rf"{_path(segments)}{'[^/]+/.+' if folder else '.+'}\Z"
    below = "/.+" if folder else "" if segments[-1] == "*" else "(?:/.+)?"
    return rf"{_path(segments)}{below}\Z"


def _anchored(pattern: str) -> tuple[list[str], bool]:
    """Split a pattern at its slashes, as if it began at the root; True: it ended with a slash, so it is a folder."""
    segments = pattern.split("/")
    folder = len(segments) > 1 and segments[-1] == ""
    if folder:
        segments.pop()
    if segments[0] == "" and len(segments) > 1:
        return segments[1:], folder
    if len(segments) == 1 and segments != ["**"]:
        return ["**", *segments], folder  # without a slash before its end it holds at any depth
    return segments, folder


def _path(segments: list[str]) -> str:
    """Translate segments; where the last is `**` the text ends where something has to follow."""
    runs: list[list[str]] = [[]]  # what stands between two `**`
    for segment in segments:
        if segment == "**":
            runs.append([])
        else:
            runs[-1].append(_segment(segment))
    first, *others = ["/".join(run) for run in runs]
    if not others:
        return first
    between = "".join(f"(?>(?:[^/]+/)*?{run}/)" for run in others[:-1] if run)
    return (f"{first}/" if first else "") + between + "(?:[^/]+/)*" + others[-1]


def covers(later: OwnerLine, line: OwnerLine) -> bool:
    """Whether `later` matches whatever `line` matches, now and ever. False where that is not plain from the patterns."""
    if later.pattern in {*_EVERYTHING, line.pattern}:
        return True
    outer, outer_folder = _anchored(later.pattern)
    inner, inner_folder = _anchored(line.pattern)
    if _WILD.search("/".join(outer)) or inner[: len(outer)] != outer:
        return False
    return len(inner) > len(outer) or inner_folder or not outer_folder


_ALL = object()
_EVERYTHING = ("*", "**", "/**")
_WILD = re.compile(r"[*?\\]")
NEVER = r"(?!)"


def _segment(segment: str) -> str:
    """Translate one segment: `*` any run, `?` any one character, neither of them a slash; behind a backslash itself."""
    if re.fullmatch(r"\*+", segment):
        return "[^/]+"
    fixed = [""]
    at = 0
    while at < len(segment):
        char = segment[at]
        at += 1
        if char == "*":
            if fixed[-1] or len(fixed) == 1:
                fixed.append("")
        elif char == "?":
            fixed[-1] += "[^/]"
        else:
            if char == "\\" and at < len(segment):
                char, at = segment[at], at + 1
            fixed[-1] += re.escape(char)
    if len(fixed) == 1:
        return fixed[0]
    return fixed[0] + "".join(f"(?>[^/]*?{part})" for part in fixed[1:-1]) + "[^/]*" + fixed[-1]
