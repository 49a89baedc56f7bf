"""Argo CD's manifests: where Applications are written, and which repo is this one.

Sources of the facts: argo-cd docs/user-guide/{helm,directory,tool_detection,multiple_sources,build-environment}.md,
util/helm/cmd.go, reposerver/repository/repository.go, pkg/apis/application/v1alpha1/types.go.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from releasegate import yamlio
from releasegate.discover import layout
from releasegate.discover.files import Files, Unreadable
from releasegate.model import (
    Manifest,
    NotUnderstood,
    Place,
    Tree,
)

GROUP = "argoproj.io/"
KINDS = ("Application", "ApplicationSet")
PROJECT = "AppProject"
_MENTIONS = re.compile(r"argoproj\.io")
_LOOKS_LIKE = re.compile(
    r"^[ \t-]*[\"']?kind[\"']?:[ \t]*[\"']?Application(?:Set)?[\"']?[ \t,]*(?:#.*)?$", re.MULTILINE
)
_WRITES_KIND = re.compile(r"kind[\"']?:\s*[\"']?Application(?:Set)?(?![\w.-])")
_COMPUTES_KIND = re.compile(r"argoproj\.io/\S+\s+kind:\s*[\"']?\{\{")
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://)(?:[^@/]*@)?([^:/]+)(?::\d+)?/+(.+)")
_SCP = re.compile(r"(?:[^@/]+@)([^:/]+)[:/]/*(.+)")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_JUDGED = frozenset({"", "HEAD"})
# Where a change is merged into, by convention: a checkout of a feature branch is judged as that branch's next commit.
_TRUNKS = frozenset({"main", "master", "trunk", "refs/heads/main", "refs/heads/master"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """An Application or ApplicationSet as found.

    `place` and `positions` are set when it is written in a file of the tree, `base` then points into that document
    (an ApplicationSet's template is at /spec/template). `template` is set when a chart rendered it. `hint` is an
    environment that its origin names, with the reason.
    """

    body: Mapping[str, Any]
    why: str
    place: Place | None = None
    positions: yamlio.Positions | None = None
    text: str = ""
    line: int = 1
    base: str = ""
    template: str | None = None
    hint: tuple[str, str] | None = None
    manifest: Manifest | None = None  # the object as it stands, also where the Application is made from it

    @property
    def kind(self) -> str:
        """`kind` as written."""
        return str(self.body.get("kind"))

    @property
    def name(self) -> str:
        """`metadata.name`, or "" when absent or no string."""
        metadata = self.body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, Mapping) else None
        return name if isinstance(name, str) else ""

    def mark(self, pointer: str) -> yamlio.Mark | None:
        """Return where the value is written, with the line within the file; None when nobody wrote it in a file."""
        if self.positions is None:
            return None
        mark = self.positions.value(self.base + pointer)
        if mark is None:
            return None
        return replace(mark, line=mark.line + self.line - 1, end_line=mark.end_line + self.line - 1)

    def raw(self, pointer: str) -> str:
        """Return the value's text as it stands in the file, or ""."""
        mark = self.positions.value(self.base + pointer) if self.positions is not None else None
        return "" if mark is None else self.text[mark.index : mark.end_index]

    def at(self, pointer: str) -> Place | None:
        """Return the place of the value, or None."""
        mark = self.mark(pointer)
        if mark is None or self.place is None:
            return None
        return Place(path=self.place.path, line=mark.line, column=mark.column)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the value when it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def string(value: Any) -> str:
    """Return the value when it is a string, else ""."""
    return value if isinstance(value, str) else ""


def makes_applications(text: str) -> bool:
    """Whether a template or values text may make Applications: it writes the kind, or computes a kind of that group."""
    if GROUP not in text:
        return False
    return _WRITES_KIND.search(text) is not None or _COMPUTES_KIND.search(text) is not None


def listed(value: Any) -> list[Any]:
    """Return the value when it is a list, else an empty one."""
    return value if isinstance(value, list) else []


# --- manifests in files -------------------------------------------------------------------------------------------


def in_files(files: Files, charts: Mapping[str, layout.Chart]) -> tuple[list[Found], list[NotUnderstood]]:
    """Find every Application, ApplicationSet and AppProject that a file of the tree holds as a plain manifest.

    Files below a chart's templates/ are left to rendering. Also found are files that look like one and do not parse.
    """
    found: list[Found] = []
    rows: list[NotUnderstood] = []
    for path in files.tree.files:
        if not path.endswith((".yaml", ".yml", ".json")) or path.startswith(".git/") or _is_template(path, charts):
            continue
        try:
            text = files.text(path)
        except Unreadable as error:
            if layout.chart_of(path, charts) is None and files.may_hold(path, GROUP):
                rows.append(
                    NotUnderstood(
                        what=path,
                        reason=f"the file {error}, so an Application in it would not be seen",
                        remedy="commit the file itself, as UTF-8 text",
                        place=Place(path=path),
                    )
                )
            continue
        if _MENTIONS.search(text) is None:
            continue
        try:
            documents = yamlio.documents(text)
        except yamlio.YamlError as error:
            if _LOOKS_LIKE.search(text):
                rows.append(
                    NotUnderstood(
                        what=f"an Application in {path}",
                        reason=f"the file is no YAML: {error.message}",
                        remedy="mend the file; a template belongs below a chart's templates/",
                        place=Place(path=path, line=error.line, column=error.column),
                    )
                )
            continue
        for document in documents:
            found += _of_document(path, document)
            rows += _misspelled(path, document)
    return found, rows


def _misspelled(path: str, document: yamlio.Document) -> Iterator[NotUnderstood]:
    """`kind: Aplication` deploys nothing and is no kind anybody has: most likely a deployment that is lost."""
    for _, body in _objects(document.value):
        kind = string(body.get("kind"))
        if kind in (*KINDS, PROJECT) or not string(body.get("apiVersion")).startswith(GROUP):
            continue
        near = difflib.get_close_matches(kind, KINDS, 1, 0.85)
        if near:
            yield NotUnderstood(
                what=f"{kind} in {path}",
                reason=f"{kind} is no kind of Argo CD; did you mean {near[0]}?",
                remedy=f"write kind: {near[0]}",
                place=Place(path=path, line=document.line - 1 + _first_line(document.text)),
            )


def _is_template(path: str, charts: Mapping[str, layout.Chart]) -> bool:
    chart = layout.chart_of(path, charts)
    if chart is None:
        return False
    inside = path if chart == "." else path[len(chart) + 1 :]
    return inside.startswith(("templates/", "charts/"))


def _of_document(path: str, document: yamlio.Document) -> Iterator[Found]:
    for pointer, body in _objects(document.value):
        if body.get("kind") in (*KINDS, PROJECT) and string(body.get("apiVersion")).startswith(GROUP):
            positions = yamlio.positions(document.text)
            mark = positions.value(pointer) if pointer else None
            line = document.line - 1 + (mark.line if mark else _first_line(document.text))
            yield Found(
                body=body,
                why=f"{body['kind']} in {path}",
                place=Place(path=path, line=line),
                positions=positions,
                text=document.text,
                line=document.line,
                base=pointer,
                manifest=Manifest(
                    body=body,
                    text=document.text,
                    path=path,
                    line=document.line,
                    within=pointer,
                    problems=() if pointer else document.problems,
                ),
            )


def _first_line(text: str) -> int:
    """The line of the first key: comments and the license above it are not the Application."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith(("#", "---", "%")):
            return number
    return 1


def _objects(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (JSON pointer, object) of a document: itself, or the items of a List."""
    if not isinstance(value, Mapping):
        return
    items = value.get("items")
    if string(value.get("kind")).endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            if isinstance(item, Mapping):
                yield f"/items/{index}", item
    else:
        yield "", value


# --- which repo ---------------------------------------------------------------------------------------------------


def normal_url(url: str) -> str | None:
    """Return host/path of a git URL, lower case, without user, port and .git; None for a file path.

    Reads `https://host/path`, `ssh://git@host:22/path`, `git@host:path`, and `git@host/path`, as Argo CD's
    NormalizeGitURL does with its "insecure" forms.
    """
    text = url.strip().lower()
    found = _URL.fullmatch(text) or (_SCP.fullmatch(text) if "://" not in text else None)
    if found is None or text.startswith("file:"):
        return None
    return f"{found[1]}/{found[2].rstrip('/').removesuffix('.git').rstrip('/')}"


class Repository:
    """Answers whether a source is this repo, and at which revision its files are."""

    def __init__(self, files: Files, repo: Sequence[str], at_revision: Callable[[str], Tree | None]) -> None:
        """`repo` are the URLs of the config; the remotes are those of the tree."""
        self.files = files
        self._known = {normal for url in (*repo, *files.tree.remotes) if (normal := normal_url(url)) is not None}
        self._known |= {url.strip() for url in repo}
        self._at_revision = at_revision
        self._revisions: dict[str, Files | None] = {}
        self._matched = False
        self._seen: dict[str, set[str]] = {}
        self.notes: list[str] = []

    def is_here(self, url: str) -> bool:
        """Whether the repoURL is this repo."""
        return url.strip() in self._known or normal_url(url) in self._known

    def consider(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Learn from Applications which repoURL is this repo, where no remote or config says so.

        If none matches and there is one repoURL whose every path is here, it is this repo.
        """
        for body in bodies:
            for source in sources_of(mapping(body.get("spec"))):
                url, path = string(source.get("repoURL")), source.get("path")
                if url and isinstance(path, str) and not source.get("chart"):
                    self._matched |= self.is_here(url)
                    self._seen.setdefault(normal_url(url) or url, set()).add(path)
        if self._matched or not self._seen:
            return
        here = [url for url, paths in self._seen.items() if all(self._holds(path) for path in paths)]
        here = [url for url in here if len(self._seen) == 1 or self._seen[url] != {"."}]
        if len(here) == 1 and not here[0].startswith("oci://"):
            self._known.add(here[0])
            self._matched = True
            self.notes.append(
                f"{here[0]} is taken for this repo: it is the only repoURL whose every path is here"
                ' (say so with repo = ["…"] in releasegate.toml)'
            )
        elif len(here) > 1:
            note = (
                f'{" and ".join(sorted(here))} could each be this repo: say which with repo = ["…"] in releasegate.toml'
            )
            if note not in self.notes:
                self.notes.append(note)

    def at(self, revision: Any) -> Files | None:
        """Return the files at a targetRevision: the judged tree, another commit's, or None when git has it not."""
        wanted = string(revision).strip()
        tree = self.files.tree
        branch = wanted.removeprefix("refs/heads/")
        if wanted in _JUDGED or (tree.branch and branch == tree.branch):
            return self.files
        if tree.head and _COMMIT.fullmatch(wanted) and tree.head.startswith(wanted):
            return self.files
        if wanted in _TRUNKS and tree.branch not in _TRUNKS:
            note = f"targetRevision {wanted} is taken for the judged tree: it is the branch this change is merged into"
            if note not in self.notes:
                self.notes.append(note)
            return self.files
        if wanted not in self._revisions:
            found = self._at_revision(wanted)
            self._revisions[wanted] = None if found is None else Files(found)
        return self._revisions[wanted]

    def _holds(self, path: str) -> bool:
        # A path that counts from ROOT where it should from the top still says which repo is meant.
        local = self.files.local(path) or path.strip("/")
        return self.files.is_folder(local)


def sources_of(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return an Application's sources: `sources` where it has any, else `source` (types.go, GetSources)."""
    many = spec.get("sources")
    if isinstance(many, list) and many:
        return [mapping(one) for one in many]
    one = spec.get("source")
    return [one] if isinstance(one, Mapping) else []
