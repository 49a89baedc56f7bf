"""Argo CD's manifests: where Applications are written, which repo is this one, and what a source hands to helm.

Sources of the facts: argo-cd docs/user-guide/{helm,directory,tool_detection,multiple_sources,build-environment}.md,
util/helm/cmd.go, reposerver/repository/repository.go, pkg/apis/application/v1alpha1/types.go.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from releasegate import yamlio
from releasegate.discover import layout
from releasegate.discover.files import Files, Unreadable, greedy, is_glob
from releasegate.model import (
    DirectorySource,
    HelmSource,
    InlineValues,
    Manifest,
    NotUnderstood,
    Parameter,
    Place,
    Source,
    Tree,
    UnsupportedSource,
    ValuesFile,
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
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SOPS = re.compile(r"^sops:", re.MULTILINE)
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_JUDGED = frozenset({"", "HEAD"})
# Where a change is merged into, by convention: a checkout of a feature branch is judged as that branch's next commit.
_TRUNKS = frozenset({"main", "master", "trunk", "refs/heads/main", "refs/heads/master"})
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_DIRECTORY_FILES = (".yaml", ".yml", ".json", ".jsonnet")
_SKIP_RENDERING = "+argocd:skip-file-rendering"
# docs/user-guide/build-environment.md
_BUILD_VARIABLE = re.compile(r"\$\{?(?:ARGOCD_APP_\w+|KUBE_VERSION|KUBE_API_VERSIONS)\}?.*|\$\$.*")
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")


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

    def at(self, pointer: str) -> Place | None:
        """Return the place of the value, or None."""
        mark = self.mark(pointer)
        if mark is None or self.place is None:
            return None
        return Place(path=self.place.path, line=mark.line, column=mark.column)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What an Application deploys, as Argo CD would read it.

    `paths` are the tree paths of its sources here, `missing` what it names and is not here. `values` are the values
    files it names, wherever they are (also those of a remote chart); `reads` are those of the judged tree.
    """

    sources: tuple[Source, ...]
    helm_release: str
    namespace: str
    kube_version: str | None = None
    api_versions: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


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
                manifest=Manifest(body=body, text=document.text, path=path, line=document.line, within=pointer),
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
        local = self.files.local(path)
        return local is not None and self.files.is_folder(local)


def sources_of(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return an Application's sources: `sources` where it has any, else `source` (types.go, GetSources)."""
    many = spec.get("sources")
    if isinstance(many, list) and many:
        return [mapping(one) for one in many]
    one = spec.get("source")
    return [one] if isinstance(one, Mapping) else []


# --- sources ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Folder:
    """A source's folder: `path` as the Application writes it, `local` the tree path."""

    files: Files
    path: str
    local: str


@dataclass(kw_only=True)
class _Reader:
    """Turns one Application's sources into what is rendered."""

    found: Found
    repository: Repository
    charts: Mapping[str, layout.Chart]
    spec: Mapping[str, Any]
    refs: Mapping[str, Mapping[str, Any]]
    paths: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    helm: Mapping[str, Any] = field(default_factory=dict)  # of the source read last, with its overrides
    values: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)

    def read(self, source: Mapping[str, Any], pointer: str) -> Source | NotUnderstood | None:
        """Return the source; None for a reference that renders nothing by itself."""
        url = string(source.get("repoURL"))
        complaint = self._name_values(source)
        if complaint is not None:
            return complaint
        if source.get("chart"):
            return _unsupported(
                f"chart {source['chart']} {source.get('targetRevision') or ''} of {url}".replace("  ", " "),
                "is a remote chart, which is not in this repo",
                "vendor it (`helm pull`) and point the Application at the folder",
            )
        if url.lower().startswith("oci://"):
            return _unsupported(
                f"{url} {source.get('targetRevision') or ''}".strip(),
                "is an OCI artifact, which is not in this repo",
                "vendor it and point the Application at the folder",
            )
        if "path" not in source and source.get("ref"):
            return None
        path = string(source.get("path")) or "."
        if not self.repository.is_here(url):
            return _unsupported(
                f"{path} of {url or 'no repoURL'}",
                "is in another repository",
                'if it is this one, add the URL to repo = ["…"] in releasegate.toml',
            )
        files = self.repository.at(source.get("targetRevision"))
        if files is None:
            revision = source.get("targetRevision")
            return _unsupported(
                f"{path} at {revision}",
                f"is deployed from targetRevision {revision}, which this clone does not have",
                "fetch it (`git fetch origin`; actions/checkout: fetch-depth: 0), or deploy HEAD",
            )
        local = files.local(path)
        if local is None:
            return _unsupported(path, "is outside the folder that is judged", "run releasegate at the top of the repo")
        if files is self.repository.files:
            self.paths.append(local)
        return self._typed(source, pointer, files, path, local)

    def _name_values(self, source: Mapping[str, Any]) -> NotUnderstood | None:
        """Note every values file the source names; a row for what Argo CD's own API refuses."""
        helm = mapping(source.get("helm"))
        entries = helm.get("valueFiles") or []
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            return _row(
                self.found, "helm.valueFiles is no list of strings: Argo CD refuses it", "write a list of paths"
            )
        if not isinstance(helm.get("values") or "", str):
            return _row(
                self.found, "helm.values is no string: Argo CD refuses it", "write `values: |`, or valuesObject"
            )
        for entry in entries:
            first, _, rest = entry.partition("/")
            origin = self.refs.get(first, source)
            files = None
            if self.repository.is_here(string(origin.get("repoURL"))) and not origin.get("chart"):
                files = self.repository.at(origin.get("targetRevision"))
            answer = None if files is None else self._resolve(entry, files, string(source.get("path")) or ".", source)
            if files is None or not isinstance(answer, str):
                self.values.append(rest if first in self.refs else entry)
                continue
            chosen = (files.glob(answer) or [answer]) if is_glob(answer) else [answer]
            self.values += chosen
            if files is self.repository.files:
                self.reads += chosen
        return None

    def _typed(
        self, source: Mapping[str, Any], pointer: str, files: Files, path: str, local: str
    ) -> Source | NotUnderstood:
        source, override = self._overridden(source, files, local)
        explicit = [kind for kind in ("helm", "kustomize", "directory", "plugin") if source.get(kind) is not None]
        if len(explicit) > 1:
            return _unsupported(
                path, f"has more than one source type ({', '.join(explicit)}): Argo CD refuses it", "keep one of them"
            )
        inside = files.below(local)
        kind = explicit[0] if explicit else _detect(inside, local)
        if kind == "helm":
            return self._helm(source, pointer, _Folder(files, path, local), override)
        if kind == "kustomize":
            return _unsupported(
                f"{path} (Kustomize)",
                "is a Kustomize source, which this version does not render",
                "commit `kustomize build` output as plain manifests to have it judged",
            )
        if kind == "plugin":
            name = mapping(source.get("plugin")).get("name") or "config management"
            return _unsupported(
                f"{path} (plugin {name})",
                f"is rendered by the {name} plugin, which only the cluster has",
                "commit what it renders as plain manifests to have it judged",
            )
        return _directory(mapping(source.get("directory")), _Folder(files, path, local), self._revision(files))

    def _revision(self, files: Files) -> str | None:
        return None if files is self.repository.files else files.tree.revision or files.tree.ref

    def _overridden(
        self, source: Mapping[str, Any], files: Files, local: str
    ) -> tuple[Mapping[str, Any], tuple[str, str] | None]:
        """Apply `.argocd-source.yaml` and `.argocd-source-<application>.yaml` of the folder, as Argo CD does.

        They are JSON merge patches (docs/user-guide/parameters.md, "Store Overrides In Git"); Image Updater writes
        them.
        """
        override: tuple[str, str] | None = None
        for name in (".argocd-source.yaml", f".argocd-source-{self.found.name}.yaml"):
            file = posixpath.normpath(posixpath.join(local, name))
            if file in files:
                try:
                    patch = yamlio.load(files.text(file))
                except (Unreadable, yamlio.YamlError):
                    self.missing.append(file)
                    continue
                if isinstance(patch, Mapping):
                    source = _merge_patch(source, patch)
                    if mapping(patch.get("helm")).get("parameters") is not None:
                        override = file, files.text(file)
        return source, override

    def _helm(
        self, source: Mapping[str, Any], pointer: str, folder: _Folder, override: tuple[str, str] | None
    ) -> Source | NotUnderstood:
        files, path, local = folder.files, folder.path, folder.local
        helm = self.helm = mapping(source.get("helm"))
        if helm.get("fileParameters"):
            return _row(
                self.found,
                "helm.fileParameters are not supported by this version",
                "write the content into a values file",
            )
        if string(helm.get("version")) not in ("", "v3"):
            return _unsupported(
                path, f"asks for Helm {helm['version']}, which Argo CD no longer has", "remove helm.version"
            )
        chart = self.charts.get(local) if files is self.repository.files else layout.charts(files).get(local)
        absent = layout.unvendored(files, chart) if chart is not None else []
        if absent:
            listed = ", ".join(f"{name} ({where or 'no repository'})" for name, where in absent)
            return _unsupported(
                f"{path} (Helm)",
                f"depends on {listed}, which {'is' if len(absent) == 1 else 'are'} not in its charts/",
                f"`helm dependency build {local}` and commit {posixpath.join(local, 'charts')}/",
            )
        values = self._values_files(helm, f"{pointer}/helm/valueFiles", files, path, source)
        if isinstance(values, UnsupportedSource):
            return values
        if not inside_chart(files, local):
            self.missing.append(path)
        return HelmSource(
            chart=local,
            values_files=values,
            inline=self._inline(helm, f"{pointer}/helm"),
            parameters=self._parameters(helm, f"{pointer}/helm/parameters", source, override),
            skip_crds=helm.get("skipCrds") is True,
            skip_tests=helm.get("skipTests") is True,
            revision=self._revision(files),
        )

    def _values_files(
        self, helm: Mapping[str, Any], pointer: str, files: Files, path: str, source: Mapping[str, Any]
    ) -> tuple[ValuesFile, ...] | UnsupportedSource:
        """Resolve, expand and order valueFiles as Argo CD does (getResolvedValueFiles)."""
        written: Sequence[str] = helm.get("valueFiles") or ()
        ignore = helm.get("ignoreMissingValueFiles") is True
        resolved: list[tuple[str, Place | None, bool]] = []  # tree path, where it is named, whether a glob
        for index, entry in enumerate(written):
            answer = self._resolve(entry, files, path, source)
            if isinstance(answer, UnsupportedSource):
                return answer
            resolved.append((answer, self.found.at(f"{pointer}/{index}"), is_glob(answer)))
        explicit = {name for name, _, glob in resolved if not glob}
        made: dict[str, ValuesFile] = {}
        for name, place, glob in resolved:
            for one in [match for match in files.glob(name) if match not in explicit] if glob else [name]:
                if one in files:
                    made.setdefault(one, ValuesFile(path=one, place=place))
            if not (files.glob(name) if glob else name in files):
                self.missing.append(name)
                if not ignore:
                    made.setdefault(name, ValuesFile(path=name, place=place))
        for name in made:
            if name in files and files.mentions(name, _SOPS) and "ENC[" in files.text(name):
                return _encrypted(name)
        return tuple(made.values())

    def _resolve(self, entry: str, files: Files, path: str, source: Mapping[str, Any]) -> str | UnsupportedSource:
        """Return the tree path (or glob) an entry of valueFiles means."""
        scheme = _SCHEME.match(entry)
        if scheme is not None:
            if scheme[1].lower() in ("http", "https"):
                return _unsupported(entry, "is a values file on the network", "commit the file to this repo")
            if scheme[1].lower() == "file":
                return _unsupported(entry, "is a file outside the repo", "name a file inside the repo")
            return _encrypted(entry)
        first, _, rest = entry.partition("/")
        if first.startswith("$") and first not in self.refs and _BUILD_VARIABLE.fullmatch(first) is None:
            return _unsupported(
                entry,
                f"begins with {first}, which no source of the Application has as its `ref`: Argo CD refuses it",
                f"write `ref: {first[1:]}` at the source that holds the values, or mend the name",
            )
        if first in self.refs:
            reference = self.refs[first]
            url = string(reference.get("repoURL"))
            if not self.repository.is_here(url):
                return _unsupported(
                    entry,
                    f"reads values from another repository ({url})",
                    'if it is this one, add the URL to repo = ["…"] in releasegate.toml',
                )
            if self.repository.at(reference.get("targetRevision")) is not files:
                return _unsupported(
                    entry,
                    "takes chart and values from different revisions of this repo",
                    "deploy both from one targetRevision",
                )
            repo_path = self._substitute(rest, source)
        else:
            name = self._substitute(entry, source)
            repo_path = name.lstrip("/") if name.startswith("/") else posixpath.join(path, name)
        repo_path = posixpath.normpath(repo_path)
        if repo_path.startswith("../") or repo_path == "..":
            return _unsupported(entry, "leaves the repo: Argo CD refuses it", "name a file inside the repo")
        local = files.local(repo_path)
        if local is None:
            return _unsupported(entry, "is outside the folder that is judged", "run releasegate at the top of the repo")
        return local

    def _substitute(self, text: str, source: Mapping[str, Any]) -> str:
        """Replace build environment variables; unknown ones become empty, `$$` a dollar (Env.Envsubst)."""
        if "$" not in text:
            return text
        tree = self.repository.files.tree
        known = {
            "ARGOCD_APP_NAME": self.found.name,
            "ARGOCD_APP_NAMESPACE": string(mapping(self.spec.get("destination")).get("namespace")),
            "ARGOCD_APP_PROJECT_NAME": string(self.spec.get("project")),
            "ARGOCD_APP_SOURCE_PATH": string(source.get("path")),
            "ARGOCD_APP_SOURCE_REPO_URL": string(source.get("repoURL")),
            "ARGOCD_APP_SOURCE_TARGET_REVISION": string(source.get("targetRevision")),
            "ARGOCD_APP_REVISION": tree.head or "",
            "ARGOCD_APP_REVISION_SHORT": (tree.head or "")[:7],
            "ARGOCD_APP_REVISION_SHORT_8": (tree.head or "")[:8],
        }
        return _VARIABLE.sub(lambda found: "$" if found[0] == "$$" else known.get(found[1] or found[2], ""), text)

    def _inline(self, helm: Mapping[str, Any], pointer: str) -> InlineValues | None:
        """`valuesObject` voids `values`, even an empty one does (types.go, ValuesYAML)."""
        if helm.get("valuesObject") is not None:
            return self._object(helm["valuesObject"], f"{pointer}/valuesObject")
        text = helm.get("values")
        if not isinstance(text, str) or not text:
            return None
        return InlineValues(text=text, key="values", place=self._first_line(text, f"{pointer}/values"))

    def _first_line(self, text: str, pointer: str) -> Place | None:
        """Where the text's first line stands, when its lines are lines of the file: a literal block or one line."""
        mark = self.found.mark(pointer)
        if mark is None or self.found.place is None:
            return None
        raw = self._raw(pointer)
        if raw.startswith("|"):
            return Place(path=self.found.place.path, line=mark.line + 1)
        if "\n" not in text.rstrip("\n") and mark.line == mark.end_line:
            return Place(path=self.found.place.path, line=mark.line)
        return None

    def _raw(self, pointer: str) -> str:
        mark = self.found.positions.value(self.found.base + pointer) if self.found.positions else None
        return self.found.text[mark.index : mark.end_index] if mark else ""

    def _object(self, value: Any, pointer: str) -> InlineValues:
        """The lines of the file itself where they say the same without their surroundings, else a dump of the value."""
        mark = self.found.mark(pointer)
        if mark is not None and self.found.place is not None:
            first, *rest = self._raw(pointer).split("\n")
            indent = " " * (mark.column - 1)
            if all(line.startswith(indent) or not line.strip() or line.lstrip().startswith("#") for line in rest):
                lines = [first, *(line[len(indent) :] if line.startswith(indent) else line.lstrip() for line in rest)]
                text = "\n".join(lines) + "\n"
                try:
                    same = yamlio.load(text) == value
                except yamlio.YamlError:
                    same = False
                if same:
                    place = Place(path=self.found.place.path, line=mark.line)
                    return InlineValues(text=text, key="valuesObject", place=place)
        return InlineValues(text=yamlio.dump(value), key="valuesObject")

    def _parameters(
        self, helm: Mapping[str, Any], pointer: str, source: Mapping[str, Any], override: tuple[str, str] | None
    ) -> tuple[Parameter, ...]:
        """Argo CD keeps parameters by name: the last of one name wins (util/helm/cmd.go, TemplateOpts.Set)."""
        written: dict[tuple[str, bool], Parameter] = {}
        for index, entry in enumerate(listed(helm.get("parameters"))):
            one = mapping(entry)
            name, value = string(one.get("name")), one.get("value")
            if not name:
                continue
            if override is None:
                place = self.found.at(f"{pointer}/{index}/value")
            else:
                mark = yamlio.positions(override[1]).value(f"/helm/parameters/{index}/value")
                place = Place(path=override[0], line=mark.line, column=mark.column) if mark else None
            forced = one.get("forceString") is True
            text = value if isinstance(value, str) else "" if value is None else yamlio.dump(value).strip()
            written[name, forced] = Parameter(
                name=name, value=self._substitute(text, source), force_string=forced, place=place
            )
        return tuple(written.values())


def inside_chart(files: Files, local: str) -> bool:
    """Whether the folder is a chart."""
    return ("Chart.yaml" if local == "." else f"{local}/Chart.yaml") in files


def _unsupported(description: str, reason: str, remedy: str) -> UnsupportedSource:
    return UnsupportedSource(reason=f"{description} {reason}", remedy=remedy, description=description)


def _encrypted(name: str) -> UnsupportedSource:
    return _unsupported(
        name,
        "is an encrypted values file, which only the cluster can read",
        "keep secrets out of values (ExternalSecret, SealedSecret), or judge with a plain stand-in file",
    )


def _merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, mappings merge, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_patch(merged.get(key), value)
    return merged


def _detect(inside: Sequence[str], local: str) -> str:
    """Argo CD's tool detection: Chart.yaml, then a kustomization, else plain files (docs: tool_detection.md)."""
    base = "" if local == "." else f"{local}/"
    if f"{base}Chart.yaml" in inside:
        return "helm"
    if any(f"{base}{name}" in inside for name in _KUSTOMIZATIONS):
        return "kustomize"
    return "directory"


def _directory(options: Mapping[str, Any], folder: _Folder, revision: str | None) -> Source:
    """Select the files of a Directory source (reposerver, findManifests): exclude first, then include."""
    files, path, local = folder.files, folder.path, folder.local
    base = "" if local == "." else f"{local}/"
    include, exclude = string(options.get("include")), string(options.get("exclude"))
    chosen = []
    for file in files.below(local):
        name = file[len(base) :]
        if "/" in name and options.get("recurse") is not True:
            continue
        if not name.endswith(_DIRECTORY_FILES):
            continue
        if exclude and greedy(exclude).fullmatch(name):
            continue
        if include and not greedy(include).fullmatch(name):
            continue
        chosen.append(file)
    if any(file.endswith(".jsonnet") for file in chosen):
        return _unsupported(
            f"{path} (jsonnet)",
            "holds jsonnet, which this version does not render",
            "commit what `jsonnet` prints as plain manifests to have it judged",
        )
    skip = re.compile(re.escape(_SKIP_RENDERING))
    kept = tuple(file for file in chosen if not files.mentions(file, skip))
    return DirectorySource(path=local, files=kept, revision=revision)


def deployment(found: Found, repository: Repository, charts: Mapping[str, layout.Chart]) -> Deployment | NotUnderstood:
    """Read what an Application deploys. NotUnderstood, naming its place, when it cannot be turned into a release."""
    spec = mapping(found.body.get("spec"))
    sources = sources_of(spec)
    complaint = _complaint(found, spec, sources)
    if complaint is not None:
        return complaint
    several = isinstance(spec.get("sources"), list) and bool(spec.get("sources"))
    refs = {f"${one['ref']}": one for one in sources if isinstance(one.get("ref"), str)}
    reader = _Reader(found=found, repository=repository, charts=charts, spec=spec, refs=refs)
    destination = string(mapping(spec.get("destination")).get("namespace"))
    made: list[Source] = []
    told: dict[str, Any] | None = None
    for index, source in enumerate(sources):
        read = reader.read(source, f"/spec/sources/{index}" if several else "/spec/source")
        if isinstance(read, NotUnderstood):
            return read
        if isinstance(read, HelmSource):
            says = _tells(reader.helm, found.name, destination)
            if told is not None and told != says:
                read = _unsupported(
                    string(source.get("path")),
                    "differs from the Application's first chart in release name, namespace, kubeVersion or apiVersions",
                    "deploy it with an Application of its own",
                )
            told = told or says
        if read is not None:
            made.append(read)
    if not made:
        return _row(found, "its sources are only references: it deploys nothing", "write a source with a path")
    told = told or {"helm_release": found.name, "namespace": destination or "default"}
    return Deployment(
        sources=tuple(made),
        paths=tuple(reader.paths),
        missing=tuple(reader.missing),
        values=tuple(reader.values),
        reads=tuple(reader.reads),
        **told,
    )


def _complaint(found: Found, spec: Mapping[str, Any], sources: Sequence[Any]) -> NotUnderstood | None:
    if not found.name:
        return _row(found, "it has no metadata.name", "write metadata.name")
    if spec.get("sourceHydrator") is not None:
        return _row(
            found, "spec.sourceHydrator is not supported by this version", "judge the repo of the hydrated manifests"
        )
    if not sources:
        return _row(found, "it has neither spec.source nor spec.sources", "write spec.source")
    return None


def _row(found: Found, reason: str, remedy: str) -> NotUnderstood:
    return NotUnderstood(
        what=f"Application {found.name or 'without a name'}",
        reason=reason,
        remedy=remedy,
        place=found.place,
        name=found.name or None,
    )


def _tells(helm: Mapping[str, Any], name: str, destination: str) -> dict[str, Any]:
    """Return what helm is told besides values. Argo CD gives the Application's name and destination by default."""
    return {
        "helm_release": string(helm.get("releaseName")) or name,
        "namespace": string(helm.get("namespace")) or destination or "default",
        "kube_version": string(helm.get("kubeVersion")) or None,
        "api_versions": tuple(one for one in listed(helm.get("apiVersions")) if isinstance(one, str)),
    }
