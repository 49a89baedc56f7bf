"""The files of a tree, by path: what is there, what is below a folder, what a glob selects, and their text.

Paths are posix. *Repo paths* count from the top of the git work tree, as Argo CD counts them; *tree paths* from ROOT.
"""

from __future__ import annotations

import contextlib
import functools
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


@functools.lru_cache(maxsize=512)
def doublestar(pattern: str) -> re.Pattern[str]:
    """Compile a doublestar pattern: `*` and `?` stay within a segment, `**` is any number of segments."""
    segments = pattern.split("/")
    text = ""
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            text += ".*" if last else "(?:[^/]+/)*"
        else:
            text += _translate(segment, any_run="[^/]*", any_one="[^/]") + ("" if last else "/")
    return re.compile(text, re.DOTALL)


@functools.lru_cache(maxsize=512)
def single_level(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of Go's path.Match: `*` stays within a segment, two stars are no more, braces are themselves."""
    pattern = re.sub(r"\*+", "*", pattern).replace("{", "[{]")
    return re.compile(_translate(pattern, any_run="[^/]*", any_one="[^/]"), re.DOTALL)


@functools.lru_cache(maxsize=512)
def greedy(pattern: str) -> re.Pattern[str]:
    """Compile a pattern whose `*` crosses `/`: a Directory source's include and exclude, git's pathspecs."""
    return re.compile(_translate(pattern.replace("**", "*"), any_run=".*", any_one="."), re.DOTALL)


def _translate(pattern: str, *, any_run: str, any_one: str) -> str:
    text, at, depth = "", 0, 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            text += any_run
        elif char == "?":
            text += any_one
        elif char == "[" and "]" in pattern[at + 1 :]:
            end = pattern.index("]", at + 1)
            text += _class(pattern[at:end])
            at = end + 1
        elif char == "{" and "}" in pattern[at:]:
            text, depth = text + "(?:", depth + 1
        elif char == "," and depth:
            text += "|"
        elif char == "}" and depth:
            text, depth = text + ")", depth - 1
        else:
            if char == "\\" and at < len(pattern):
                char, at = pattern[at], at + 1
            text += re.escape(char)
    return text + ")" * depth


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
