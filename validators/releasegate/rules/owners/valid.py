"""owners/valid."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from releasegate.discover.files import Files, Unreadable
from releasegate.discover.owners import LOCATIONS, Codeowners, OwnerLine, repo_path
from releasegate.model import Finding, Kind, Place, Scope, Unjudged
from releasegate.rules import Evidence, rule
from releasegate.rules.owners import located, place

_SHOWN = 5  # line numbers in a message
_HELPED = 50  # patterns that are compared with every path of the tree: that takes its time
_AS_IT_IS = "write the path as it is in the tree (upper and lower case differ), or remove the line"


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file called CODEOWNERS that GitHub does not read."""

    path: str


def subjects(evidence: Evidence) -> Sequence[Any]:
    """The file, each of its lines that is no comment, and each other file of that name."""
    found = located(evidence)
    read = () if found.file is None else (found.file, *found.file.lines, *found.file.mistakes)
    top, prefix = evidence.shared.top, evidence.repo.tree.prefix
    others = {path for one in LOCATIONS for path in (one, repo_path(one, prefix)) if path in top}
    if found.file is None:  # somebody wrote one, and GitHub reads none
        others |= {path for path in top.tree.files if path == _NAME or path.endswith(f"/{_NAME}")}
    return [*read, *(Ignored(path) for path in sorted(others) if found.file is None or path != found.file.path)]


_NAME = "CODEOWNERS"


@rule(scope=Scope.REPO, kind=Kind.FACT, subjects=subjects, together=True, needs_render=False)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    r"""CODEOWNERS says to GitHub what it says to a person.

    Judged as GitHub reads it: `.github/CODEOWNERS`, then `CODEOWNERS`, then `docs/CODEOWNERS`, the first that exists
    and no other; under 3 MB; no symbolic link; of the lines that match a path the last one decides. Refused are a line
    that GitHub skips (an owner that is neither @user nor @org/team nor an e-mail address; `!`, `[ ]`, `\#`, three
    asterisks), a pattern that matches no file of the tree, a line that can never take effect because a later one
    speaks about all its files, and a second CODEOWNERS with other content. Advice are a pattern for a kind of file
    (`*.tf`) that is not there yet, a line all of whose present files belong to later lines, and, where GitHub finds none,
    a file of that name elsewhere. Whether an owner exists and may write cannot be known offline.

    Why: GitHub skips what it does not understand and says so on a page nobody opens. A folder was renamed, its line
    matches nothing, and whoever should have been asked no longer is.

    Fix: write the path as it is, from the root and with a leading slash; put the general lines first, the particular
    ones last; keep one CODEOWNERS file.

    Bad:
        # .github/CODEOWNERS
        /helm/apii/     @acme/platform
        /argocd/prod/   acme/platform
        !/docs/         @acme/platform

    Good:
        # .github/CODEOWNERS
        *               @acme/platform
        /helm/api/      @acme/platform
        /argocd/prod/   @acme/platform
        /docs/
    """
    found = located(evidence)
    file = found.file
    yield from _ignored([one.path for one in subjects if isinstance(one, Ignored)], file, evidence)
    if file is None:
        return
    if found.refused is not None:
        yield Finding(
            message=f"{file.path} {found.refused}: nobody owns anything",
            help="make it a file of its own, under 3 MB; a pattern with `*` replaces many lines",
            change=f"make {file.path} a file that GitHub loads",
            place=place(evidence, file.path),
        )
    elif found.unreadable is not None:
        yield Unjudged(
            reason=f"{file.path} {found.unreadable}",
            remedy="write it as plain UTF-8 text with fewer lines",
            group="CODEOWNERS cannot be read",
            place=place(evidence, file.path),
        )
    elif not file.lines and not file.mistakes:
        yield Finding(
            message=f"{file.path} has no line but comments: nobody owns anything",
            help="write `* @org/team`, or remove the file",
            change="write who owns what",
            place=place(evidence, file.path),
            advice=True,
        )
    for one in judge(file, evidence.shared.top):
        where = one.place
        yield one if where is None else replace(one, place=place(evidence, where.path, where.line, where.column))


def judge(file: Codeowners, files: Files | None = None) -> Iterator[Finding]:
    """Judge the lines of a CODEOWNERS file, places as `file.path` names it.

    `files` are those of the repository from its top; without them nothing is said about what a pattern matches.
    """
    for mistake in file.mistakes:
        yield Finding(
            message=f"GitHub skips this line: {mistake.message}",
            help=mistake.help,
            change=f"mend the line {mistake.source}",
            value=mistake.source,
            place=Place(path=file.path, line=mistake.line, column=mistake.column),
        )
    voided = file.voided()
    dead: dict[OwnerLine, list[OwnerLine]] = {}
    for line, later in voided.items():
        if later.owners != line.owners or later.pattern == line.pattern:
            dead.setdefault(later, []).append(line)
    for later, lines in dead.items():
        yield _dead(later, lines, file)
    if files is not None:
        yield from _of_files(file, voided, files)


# --- files that are not read ----------------------------------------------------------------------------------------


def _ignored(paths: Sequence[str], file: Codeowners | None, evidence: Evidence) -> Iterator[Finding]:
    top = evidence.shared.top
    for path in paths:
        beaten = file is not None and path in LOCATIONS
        read = f"GitHub reads {file.path}" if file is not None else "GitHub looks in .github/, the root and docs/ only"
        yield Finding(
            message=f"this CODEOWNERS is not read: {read}",
            help=f"move its lines to {LOCATIONS[0] if file is None else file.path} and remove it",
            change=f"remove {path}",
            value=_text(top, path),
            place=place(evidence, path),
            advice=not beaten or file is None or _text(top, path) == _text(top, file.path),
        )


def _text(files: Files, path: str) -> str | None:
    try:
        return files.text(path)
    except Unreadable:
        return None


# --- lines that have no effect --------------------------------------------------------------------------------------


def _dead(later: OwnerLine, lines: Sequence[OwnerLine], file: Codeowners) -> Finding:
    said = _lines([one.line for one in lines])
    twice = all(one.pattern == later.pattern for one in lines)
    return Finding(
        message=f"{later.pattern} speaks about every file of {said} above, and the last line that matches decides: "
        f"{'it has' if len(lines) == 1 else 'they have'} no effect",
        help=f"keep one of the lines {later.pattern}" if twice else f"move this line above {said}",
        change=f"let {later.pattern} not void the lines above it",
        value=later.text,
        place=Place(path=file.path, line=later.line),
        advice=all(one.owners == later.owners for one in lines),
    )


def _of_files(file: Codeowners, voided: Container[OwnerLine], files: Files) -> Iterator[Finding]:
    """Lines that decide about no file of the tree, though no other line voids them by what it says."""
    deciding = {path: file.line_for(path) for path in files.tree.files}
    alive = set(deciding.values())
    told = 0
    for line in file.lines:
        if line in alive or line in voided:
            continue
        where = Place(path=file.path, line=line.line)
        matched = [path for path in deciding if line.matches(path)]
        if not matched:
            told += 1
            yield Finding(
                message=f"{line.pattern} matches no file",
                help=_nearest(line.pattern, files) if told <= _HELPED else _AS_IT_IS,
                change=f"mend or remove the pattern {line.pattern}",
                value=line.text,
                place=where,
                advice=line.names_a_kind,
            )
            continue
        deciders = _lines(sorted({one.line for path in matched if (one := deciding[path]) is not None}))
        yield Finding(
            message=f"each of the {len(matched)} files that {line.pattern} matches is decided by {deciders}",
            help="move this line below them, or remove it",
            change=f"move or remove the line {line.pattern}",
            value=line.text,
            place=where,
            advice=True,
        )


def _lines(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    if len(numbers) > _SHOWN:
        return f"lines {', '.join(map(str, numbers[:_SHOWN]))} and {len(numbers) - _SHOWN} more"
    return f"lines {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _nearest(pattern: str, files: Files) -> str:
    """What to write instead of a pattern that matches nothing: the path that is nearest to it, segment by segment."""
    if pattern.strip("/") == "":
        return "write `*` for every file"  # GitHub's own suggestion
    if pattern.startswith("./"):
        return f"write {pattern[1:]}: a path begins at the root with `/`"
    if "{" in pattern:
        return "write one line for each name: `{ }` is no pattern here"
    wanted = pattern.strip("/")
    if not any(char in wanted for char in "*?\\"):
        found = _moved(wanted, files) or _misspelled(wanted.split("/"), files)
        if found is not None:
            return f"write /{found}{'/' if files.is_folder(found) else ''}, or remove the line"
    return _AS_IT_IS


def _moved(wanted: str, files: Files) -> str | None:
    """The same path in another spelling, or in a folder."""
    lowered, end = wanted.lower(), f"/{wanted}"
    known = (*files.folders(), *files.tree.files)
    return next((path for path in known if path.lower() == lowered or path.endswith(end)), None)


def _misspelled(segments: Sequence[str], files: Files) -> str | None:
    """The path that is there, taking the nearest name in each folder on the way."""
    here: list[str] = []
    for segment in segments:
        folder = "/".join(here) or "."
        start = 0 if folder == "." else len(folder) + 1
        names = sorted({path[start:].split("/")[0] for path in files.below(folder)})
        near = [segment] if segment in names else difflib.get_close_matches(segment, names, 1)
        if not near:
            return None
        here += near
    return "/".join(here)
