"""owners/covered."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from releasegate.config import FILE
from releasegate.discover.files import Files
from releasegate.discover.owners import LOCATIONS, Codeowners, Located, OwnerLine, repo_path
from releasegate.model import (
    DirectorySource,
    Finding,
    HelmSource,
    Kind,
    Place,
    Project,
    Release,
    Scope,
    Unjudged,
    UnsupportedSource,
)
from releasegate.rules import Evidence, rule
from releasegate.rules.owners import located, place

NEW = "new-service"  # stands for a chart that nobody has added yet


@dataclass(frozen=True, slots=True, order=True)
class Guarded:
    """A file that an environment's owners have to approve; `path` counts from the top of the repository.

    `what` says why it is one. `future`: it does not exist yet.
    """

    path: str
    what: str
    future: bool = False


def guarded(evidence: Evidence) -> Sequence[Guarded]:
    """Every file that decides what the environment runs, once; none where it requires no owners."""
    environment = evidence.environment
    if environment is None or not environment.owners:
        return []
    prefix = evidence.repo.tree.prefix
    found: dict[str, Guarded] = {}
    for path, what in (*_deployed(evidence), *_of_the_gate(evidence)):
        found.setdefault(repo_path(path, prefix), Guarded(repo_path(path, prefix), what))
    for path, what in _future(evidence):
        found.setdefault(repo_path(path, prefix), Guarded(repo_path(path, prefix), what, future=True))
    return sorted(found.values())


@rule(scope=Scope.ENVIRONMENT, kind=Kind.POLICY, subjects=guarded, together=True, needs_render=False)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Whatever decides what an environment runs is owned by one of the owners that environment requires.

    Judged where `[environments.<name>] owners` is written. Its files are the values files and charts it renders from
    (without values files that only other environments read), its Applications and their projects, plain manifests, and
    what guards it: releasegate.toml, policies/, the workflows, CODEOWNERS itself. Where charts lie side by side, the
    values file and the Application of a chart that is yet to come are judged too. The last line of CODEOWNERS that
    matches a file has to name one of the required owners; a line without owners takes ownership away. That such a line
    names others beside them is advice: GitHub takes the approval of any one of them.

    Why: with "require review from code owners" GitHub asks whoever the last matching line names, and nobody where it
    names nobody. One line moved to the end, one folder renamed, and production is changed with no review at all.

    Fix: add a line for the files below the lines that take them away, with the owner that releasegate.toml requires;
    `releasegate owners PATH...` shows who owns a path and by which line.

    Bad:
        # .github/CODEOWNERS; [environments.prod] owners = ["@acme/platform"]
        *                          @acme/platform
        /helm/                     @acme/shop
        /argocd/

    Good:
        # .github/CODEOWNERS; [environments.prod] owners = ["@acme/platform"]
        *                          @acme/platform
        /helm/*/values-dev.yaml    @acme/shop
        /argocd/dev/               @acme/shop
    """
    found = located(evidence)
    if found.file is None or found.refused is not None:
        yield _no_file(found, evidence)
    elif found.unreadable is not None:
        yield Unjudged(
            reason=f"{found.file.path} {found.unreadable}",
            remedy="write it as plain UTF-8 text with fewer lines",
            group="CODEOWNERS cannot be read",
            place=place(evidence, found.file.path),
        )
    else:
        yield from judge(found.file, subjects, evidence)


def judge(file: Codeowners, files: Sequence[Guarded], evidence: Evidence) -> Iterator[Finding]:
    """Judge files by one parsed CODEOWNERS, the head's or another revision's. One line of it is one cause."""
    by_line: dict[OwnerLine | None, list[Guarded]] = defaultdict(list)
    for one in files:
        by_line[file.line_for(one.path)].append(one)
    required = _required(evidence)
    for line, members in by_line.items():
        named = {owner.lower() for owner in line.owners} if line is not None else set()
        if line is None or named.isdisjoint(owner.lower() for owner in required):
            yield from _uncovered(line, members, file, evidence)
        elif others := [owner for owner in line.owners if owner.lower() not in {one.lower() for one in required}]:
            yield Finding(
                message=f"{_files(members, evidence)} {'is' if len(members) == 1 else 'are'} also owned by "
                f"{', '.join(others)}, whose approval alone is enough",
                help=f"name only {_or(required)} on this line: GitHub asks for one of the owners, not for all",
                change=f"name only required owners for {line.pattern}",
                value=line.text,
                place=place(evidence, file.path, line.line),
                advice=True,
            )


def _uncovered(
    line: OwnerLine | None, members: Sequence[Guarded], file: Codeowners, evidence: Evidence
) -> Iterator[Finding]:
    required = _or(_required(evidence))
    pattern = _pattern([one.path for one in members])
    fix = f"write `{pattern} {_required(evidence)[0]}`"
    if line is None:
        why = f"no line of {file.path} matches"
        fix = f"{fix} {'as the first line of' if pattern == '*' else 'in'} {file.path}"
        change = "add a line"
    else:
        fix = f"{fix} below this line, or name {required} on it" if pattern != "*" else f"name {required} on this line"
        change = f"name {required} below {line.text}"
        if line.owners:
            why = f"the last line that matches names {', '.join(line.owners)}"
        else:
            above = next((one for one in reversed(file.lines) if one.line < line.line and one.owners), None)
            why = "the last line that matches names no owner" + (
                "" if above is None else ", and so takes away what lines above it give"
            )
    where = place(evidence, file.path, None if line is None else line.line)
    for one in members:
        yield Finding(
            message=f"{_files([one, *(other for other in members if other is not one)], evidence)} "
            f"{'is' if len(members) == 1 else 'are'} not owned by {required}: {why}",
            help=fix,
            change=change,
            value=one.path,
            place=where,
        )


def _no_file(found: Located, evidence: Evidence) -> Finding:
    """One cause for all environments that require owners: one file mends them."""
    required = _required(evidence)
    asking = [one.name for one in evidence.repo.environments if one.owners] or [""]
    said = "there is no CODEOWNERS file" if found.file is None else f"{found.file.path} {found.refused}"
    line = evidence.config.lines.get(("environments", asking[0], "owners"))
    return Finding(
        message=f"owners are required of {', '.join(asking)}, and nobody owns a file: {said}",
        help=f"write {LOCATIONS[0]}, for instance with the line `* {required[0]}`",
        change=f"write {LOCATIONS[0]}",
        place=Place(path=evidence.config.path, line=line),
    )


def _required(evidence: Evidence) -> Sequence[str]:
    return evidence.environment.owners or () if evidence.environment is not None else ()


def _or(owners: Sequence[str]) -> str:
    return " or ".join(owners)


def _files(members: Sequence[Guarded], evidence: Evidence) -> str:
    """`the values file helm/api/values-prod.yaml of prod and 3 more files`."""
    first, name = members[0], evidence.environment.name if evidence.environment is not None else ""
    more = len(members) - 1
    also = "" if not more else f" and {more} more file{'s' if more > 1 else ''} of {name}"
    return f"{first.what} {first.path} of {name}" + also


def _pattern(paths: Sequence[str]) -> str:
    """The narrowest pattern that is plain to write: `/helm/*/values-prod.yaml`, or the folder all of them are in."""
    split = [path.replace(NEW, "*").replace(" ", "\\ ").split("/") for path in paths]
    if len({len(one) for one in split}) == 1 and len({one[-1] for one in split}) == 1 and "*" not in split[0][-1]:
        return "/" + "/".join(one[0] if len(set(one)) == 1 else "*" for one in zip(*split, strict=True))
    folder = posixpath.commonpath(["/".join(one[:-1]) for one in split])
    return f"/{folder}/" if folder else "*"


# --- what has to be owned -------------------------------------------------------------------------------------------


def _deployed(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """(path from ROOT, what it is) of all that the environment's releases are made from."""
    own = [one for one in evidence.repo.releases if _here(one, evidence)]
    mine = {path for one in own for path in _values(one)}
    theirs = {path for one in evidence.repo.releases if not _here(one, evidence) for path in _values(one)}
    foreign = (theirs | set(evidence.repo.unreferenced_values)) - mine
    files = evidence.shared.files
    for release in own:
        yield from ((path, "values file") for path in _values(release) if path in files)
        for source in release.sources:
            if not isinstance(source, UnsupportedSource) and source.revision is None:
                yield from (one for one in _of_source(source, files) if one[0] not in foreign)
        application = release.application
        if application is not None and application.place is not None:
            yield application.place.path, "Application"
        elif application is not None and application.template is not None and application.template in files:
            yield application.template, "template of an Application"
    used = {one.application.project for one in own if one.application is not None}
    for project in evidence.repo.projects:
        path = project.manifest.path
        if project.name in used and path is not None and _of_the_environment(project, evidence):
            yield path, "AppProject"


def _of_the_environment(project: Project, evidence: Evidence) -> bool:
    return evidence.environment is not None and project.environment in (None, evidence.environment.name)


def _of_source(source: HelmSource | DirectorySource, files: Files) -> Iterator[tuple[str, str]]:
    if isinstance(source, DirectorySource):
        yield from ((path, "manifest") for path in source.files)
        return
    yield from ((path, "chart file") for path in files.below(source.chart))
    yield from ((path, "file parameter") for _, path in source.file_parameters if path in files)


def _here(release: Release, evidence: Evidence) -> bool:
    return evidence.environment is not None and release.environment == evidence.environment.name


def _values(release: Release) -> Iterator[str]:
    for source in release.sources:
        if isinstance(source, HelmSource):
            yield from (one.path for one in source.values_files)


def _of_the_gate(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What decides how the environment is judged and by whom it is approved."""
    files, top = evidence.shared.files, evidence.shared.top
    prefix = evidence.repo.tree.prefix
    if evidence.config.exists:
        yield FILE, "config"
    if "releasegate.lock" in files:
        yield "releasegate.lock", "lock file"
    for path in files.below("policies"):
        yield path, "policy"
    file = located(evidence).file
    guards = [(path, "workflow") for path in top.below(".github/workflows")]
    if file is not None:
        guards.append((file.path, "owners file"))
    for path, what in guards:
        yield (posixpath.relpath(path, prefix) if prefix else path), what


def _future(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The values files and Applications of a chart yet to come, where at least two charts show how it would be laid out.

    With `helm/api/values-prod.yaml` and `helm/web/values-prod.yaml` that is `helm/new-service/values-prod.yaml`; with
    `argocd/prod/api.yaml` and `argocd/prod/web.yaml` it is `argocd/prod/new-service.yaml`.
    """
    values: Counter[str] = Counter()
    applications: Counter[str] = Counter()
    for release in evidence.repo.releases:
        if not _here(release, evidence):
            continue
        made = set()
        for source in release.sources:
            if isinstance(source, HelmSource) and source.revision is None:
                parent, name = posixpath.split(source.chart)
                made |= {
                    posixpath.join(parent, NEW, path[len(source.chart) + 1 :])
                    for path in (one.path for one in source.values_files)
                    if name and path.startswith(f"{source.chart}/")
                }
        values.update(made)
        if release.application is not None and release.application.place is not None:
            folder, file = posixpath.split(release.application.place.path)
            applications[posixpath.join(folder, NEW + posixpath.splitext(file)[1])] += 1
    files = evidence.shared.files
    for counted, what in ((values, "values file"), (applications, "Application")):
        for path, count in counted.items():
            if count > 1 and path not in files:
                yield path, f"{what} of a new chart, say"
