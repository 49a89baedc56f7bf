"""What `releasegate owners` prints: who has to approve a change of a file, and by which line of CODEOWNERS."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from releasegate import git
from releasegate.discover.files import Files
from releasegate.discover.owners import LOCATIONS, Codeowners, OwnerLine, locate, repo_path, tree_path
from releasegate.report.text import clean
from releasegate.usage import UsageError


def answer(root: Path, paths: Sequence[str]) -> tuple[Codeowners, Mapping[str, OwnerLine | None]]:
    """Return the CODEOWNERS file in force and {path from `root`: the line that decides, None where none matches}.

    A folder of the tree stands for the files below it; a path that does not exist is answered as if it did. Raises
    UsageError without a CODEOWNERS file, for one that GitHub or we cannot read, and for a path outside the repository.
    """
    root = root.resolve()
    top = git.top(root) or root
    files = Files(git.work_tree(top))
    prefix = tree_path(os.fspath(root), os.fspath(top)) if root != top else ""
    found = locate(files)
    if found.file is None:
        raise UsageError(f"there is no CODEOWNERS file in {top}: GitHub reads {', '.join(LOCATIONS)}")
    if found.refused is not None or found.unreadable is not None:
        raise UsageError(f"{found.file.path} {found.refused or found.unreadable}")
    asked: dict[str, OwnerLine | None] = {}
    for given in paths:
        absolute = os.path.normpath(os.path.join(root, given))  # noqa: PTH118 - as written: a link is a file of its own
        path = repo_path(os.path.relpath(absolute, root), prefix)
        if path == ".." or path.startswith("../"):
            raise UsageError(f"{given} is outside {top}")
        below = files.below(path) if files.is_folder(path) else [path]
        asked.update((tree_path(one, prefix), found.file.line_for(one)) for one in below)
    return found.file, asked


def document(asked: Mapping[str, OwnerLine | None]) -> dict[str, list[str]]:
    """Return {path: owners}, no owners where nobody has to approve."""
    return {path: [] if line is None else list(line.owners) for path, line in asked.items()}


def lines(file: Codeowners, asked: Mapping[str, OwnerLine | None]) -> Iterator[str]:
    """Yield one line per path."""
    width = max((len(path) for path in asked), default=0)
    for path, line in asked.items():
        said = "nobody" if line is None or not line.owners else " ".join(line.owners)
        why = "no line matches" if line is None else f"{file.path}:{line.line} {line.pattern}"
        yield clean(f"{path:<{width}}  {said}  ({why})")
