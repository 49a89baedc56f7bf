"""The files of a tree, by path: what is there, what is below a folder, what a glob selects, and their text.

Paths are posix. *Repo paths* count from the top of the git work tree, as Argo CD counts them; *tree paths* from ROOT.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import posixpath
import re
from bisect import bisect_left
from collections.abc import Iterator

from releasegate.model import Tree

MAX_BYTES = 10_000_000  # a single file of a config repo; larger ones are no configuration


class Unreadable(Exception):
    """A file of the tree that cannot be read; the message says why."""


class Files:
    """What a tree holds. Reads each file at most once, never outside the tree."""

    def __init__(self, tree: Tree) -> None:
        """Index the paths of `tree`; nothing is read yet."""
        self.tree = tree
        self._sorted = sorted(tree.files)
        self._files = frozenset(tree.files)
        self._folders = {folder for path in tree.files for folder in _ancestors(path)}
        self._root = os.path.realpath(tree.root)
        self._inside = self._root.rstrip("/") + "/"
        self._texts: dict[str, str | Unreadable] = {}

    def __contains__(self, path: object) -> bool:
        """Whether the tree holds a file of that tree path."""
        return path in self._files

    def is_folder(self, path: str) -> bool:
        """Whether the tree path is a folder that holds a file; "." is the root."""
        return path in self._folders or path == "."

    def folders(self) -> list[str]:
        """Return every folder below the root, sorted."""
        return sorted(self._folders - {"."})

    def below(self, folder: str) -> list[str]:
        """Return the files below a folder at any depth, sorted."""
        if folder == ".":
            return self._sorted
        start = bisect_left(self._sorted, f"{folder}/")
        end = bisect_left(self._sorted, f"{folder}0")  # "0" follows "/"
        return self._sorted[start:end]

    def text(self, path: str) -> str:
        """Return the text of a file; Unreadable when it is too large, no UTF-8, or a link out of the tree."""
        if path not in self._texts:
            self._texts[path] = self._read(path)
        found = self._texts[path]
        if isinstance(found, Unreadable):
            raise found
        return found

    def may_hold(self, path: str, word: str) -> bool:
        """Whether a file that has no text may hold the word: a link that leads nowhere may hold anything."""
        found = self._texts.get(path)
        if not isinstance(found, Unreadable):
            return False
        real = os.path.realpath(os.path.join(self._root, path))  # noqa: PTH118 - as in _read
        if not real.startswith(self._inside) or not os.path.isfile(real):  # noqa: PTH113
            return True
        with contextlib.suppress(OSError), open(real, "rb") as stream:  # noqa: PTH123
            content = stream.read(MAX_BYTES)
            return any(word.encode(code) in content for code in ("utf-8", "utf-16-le", "utf-16-be"))
        return True

    def mentions(self, path: str, pattern: re.Pattern[str]) -> bool:
        """Whether a file's text holds the pattern; an unreadable file does not."""
        try:
            return pattern.search(self.text(path)) is not None
        except Unreadable:
            return False

    def local(self, repo_path: str) -> str | None:
        """Turn a repo path into a tree path; None when it is outside ROOT (or outside the repo)."""
        path = normal(repo_path.strip("/") or ".")
        prefix = self.tree.prefix
        if path is None or not prefix:
            return path
        if path == prefix:
            return "."
        if path.startswith(f"{prefix}/"):
            return path[len(prefix) + 1 :]
        return None

    def glob(self, pattern: str) -> list[str]:
        """Return the files that a doublestar pattern (a tree path) selects, in the order Argo CD passes them.

        Lexical per folder, and a folder's own files before its subfolders (docs/user-guide/helm.md, "Glob Patterns in
        Value Files").
        """
        wanted = doublestar(pattern)
        fixed = pattern.split("/")
        while fixed and not is_glob(fixed[0]):
            fixed.pop(0)
        base = "/".join(pattern.split("/")[: len(pattern.split("/")) - len(fixed)]) or "."
        found = [path for path in self.below(base) if wanted.fullmatch(path)]
        return sorted(found, key=_own_files_first)

    def _read(self, path: str) -> str | Unreadable:
        if path not in self._files:
            return Unreadable("is not in the tree")
        try:
            # os.path, not pathlib: thousands of files are read before the first render.
            real = os.path.realpath(os.path.join(self._root, path), strict=True)  # noqa: PTH118
            if not real.startswith(self._inside):
                return Unreadable("is a symbolic link that leaves the repository")
            with open(real, "rb") as stream:  # noqa: PTH123
                content = stream.read(MAX_BYTES + 1)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
            return Unreadable(f"cannot be read: {getattr(error, 'strerror', None) or error}")
        if len(content) > MAX_BYTES:
            return Unreadable(f"is larger than {MAX_BYTES} bytes")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return Unreadable("is not UTF-8")


def _ancestors(path: str) -> Iterator[str]:
    while path:
        path = posixpath.dirname(path)
        yield path or "."


def _own_files_first(path: str) -> list[tuple[int, str]]:
    *folders, name = path.split("/")
    return [*((1, folder) for folder in folders), (0, name)]


def normal(path: str) -> str | None:
    """Return a path without `.` and `..`; None when it leaves the folder it counts from."""
    made = posixpath.normpath(path)
    return None if made == ".." or made.startswith("../") else made


def is_glob(path: str) -> bool:
    """Whether Argo CD expands the value file as a glob (any of * ? [)."""
    return any(char in path for char in "*?[")


class PatternTooLarge(Exception):
    """A pattern whose braces stand for more patterns than anybody means."""


# A hostile pattern (`*a*a*a*a*b`) must not take minutes. Where a run is followed by another one, the first place at
# which what stands between them fits is as good as any later one, so that nothing has to be tried again: an atomic group.


@functools.lru_cache(maxsize=512)
def doublestar(pattern: str) -> re.Pattern[str]:
    """Compile a doublestar pattern: `*` and `?` stay within a segment, `**` is any number of segments.

    PatternTooLarge for braces that multiply beyond MAX_PATTERNS.
    """
    return re.compile("|".join(map(_doublestar, _expanded(pattern))), re.DOTALL)


@functools.lru_cache(maxsize=512)
def single_level(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of Go's path.Match: `*` stays within a segment, two stars are no more, braces are themselves."""
    return re.compile(_translate(pattern, any_run="[^/]*", any_one="[^/]"), re.DOTALL)


@functools.lru_cache(maxsize=512)
def greedy(pattern: str) -> re.Pattern[str]:
    """Compile a pattern whose `*` crosses `/`: a Directory source's include and exclude, git's pathspecs.

    PatternTooLarge as for doublestar.
    """
    made = (_translate(one, any_run=".*", any_one=".") for one in _expanded(pattern))
    return re.compile("|".join(made), re.DOTALL)


MAX_PATTERNS = 1000


def _expanded(pattern: str) -> list[str]:
    """The patterns without braces that a pattern with braces stands for; a brace that is never closed is itself."""
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        one = waiting.pop()
        found = _first_braces(one)
        if found is None:
            done.append(one)
        else:
            begin, end, parts = found
            waiting += [one[:begin] + part + one[end:] for part in reversed(parts)]
        if len(done) + len(waiting) > MAX_PATTERNS:
            raise PatternTooLarge(f"{pattern[:60]!r} stands for more than {MAX_PATTERNS} patterns")
    return done


def _first_braces(pattern: str) -> tuple[int, int, list[str]] | None:
    """Where the first closed braces are, and what their commas part."""
    opened: list[list[int]] = []  # for each open brace its place and those of its commas
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif char == "[" and "]" in pattern[at + 2 :]:
            at = pattern.index("]", at + 2)
        elif char == "{":
            opened.append([at])
        elif char == "," and opened:
            opened[-1].append(at)
        elif char == "}" and opened:
            cuts = [*opened.pop(), at]
            parts = [pattern[one + 1 : other] for one, other in itertools.pairwise(cuts)]
            return cuts[0], at + 1, parts
        at += 1
    return None


def _doublestar(pattern: str) -> str:
    written = pattern.split("/")
    segments = [one for one, before in zip(written, ["", *written], strict=False) if (one, before) != ("**", "**")]
    text = ""
    opened = False  # an atomic group from one `**` to the next
    for index, segment in enumerate(segments):
        if segment != "**":
            text += _translate(segment, any_run="[^/]*", any_one="[^/]") + ("/" if index < len(segments) - 1 else "")
        elif index == len(segments) - 1:
            text += (")" if opened else "") + ".*"
            opened = False
        else:
            text += (")" if opened else "") + ("(?>(?:[^/]+/)*?" if "**" in segments[index + 1 :] else "(?:[^/]+/)*")
            opened = "**" in segments[index + 1 :]
    return text


def _translate(pattern: str, *, any_run: str, any_one: str) -> str:
    """One pattern without braces."""
    chunks = [""]  # what stands before, between and after runs
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if chunks[-1] or len(chunks) == 1:
                chunks.append("")
        elif char == "?":
            chunks[-1] += any_one
        elif char == "[" and "]" in pattern[at + 1 :]:
            end = pattern.index("]", at + 1)
            chunks[-1] += _class(pattern[at:end])
            at = end + 1
        else:
            if char == "\\" and at < len(pattern):
                char, at = pattern[at], at + 1
            chunks[-1] += re.escape(char)
    first, *others = chunks
    if not others:
        return first
    *middle, last = others
    return first + "".join(f"(?>{any_run}?{chunk})" for chunk in middle) + any_run + last


def _class(body: str) -> str:
    """Translate what stands between brackets: `abc`, `a-z`, `!a` or `^a`; a range that is none is taken literally."""
    negated = body[:1] in ("!", "^")
    body = body[1:] if negated else body
    parts, at = [], 0
    while at < len(body):
        first, last = body[at], body[at + 2 : at + 3]
        if body[at + 1 : at + 2] == "-" and last and first <= last:
            parts.append(f"{re.escape(first)}-{re.escape(last)}")
            at += 3
        else:
            parts.append(re.escape(first))
            at += 1
    return f"[{'^/' if negated else ''}{''.join(parts)}]" if parts else re.escape("[]")
