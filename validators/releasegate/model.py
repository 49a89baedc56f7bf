"""The frozen values that flow: discover -> render -> rules -> evaluate -> report.

Layer 0: the standard library only, no I/O. Failure to judge is a value with its own name (Unrendered, Unjudged,
Outcome.NOT_EVALUATED), never an exception and never an absence: what was not judged cannot look like what passed.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ENVIRONMENT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
DEFAULT_ENVIRONMENT = "default"
REPO_NODE = "repo"  # the id segment of repo-wide cases; refused as an environment's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a person would edit: `path` relative to ROOT, `line` and `column` counted from 1 or None.

    A line may be missing; a wrong line may not be given.
    """

    path: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """`path[:line[:column]]`, as terminals and editors link it."""
        return ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)


# --- the tree -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The judged tree as plain files.

    `root` is an absolute folder that holds exactly `files` (paths relative to it, posix, sorted): the work tree, or
    a copy of the index or of a commit. `revision` is the commit it is, None for a work tree or index.
    `branch` is the branch checked out, None when unknown.
    `remotes` are the remote URLs of the enclosing git repository (empty outside git).
    `ref` names it in messages: "work tree", "index", or the short sha.
    `prefix` is where `root` is inside the enclosing work tree ("" at its top, else "deploy/config"): the paths that
    Applications write count from that top.
    """

    root: str
    files: tuple[str, ...]
    revision: str | None = None
    head: str | None = None
    branch: str | None = None
    remotes: tuple[str, ...] = ()
    ref: str = "work tree"
    prefix: str = ""


# --- what is deployed ---------------------------------------------------------------------------------------------


class Level(enum.StrEnum):
    """How a policy rule counts in an environment. Facts have no level: they are always on."""

    ON = "on"
    ADVISE = "advise"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One environment of the config repo.

    `protected`: staging- and production-like; its images must be pinned. `kubernetes` is "1.37" (no patch).
    `why` says what named it (config, an Application, a values file). `api_versions` are passed to helm and known as
    served. `owners`, `sync`, `required` are None where the config does not write them: then they are not judged.
    `inputs` are values that a parent outside git passes to the root releases (dotted helm keys -> value).
    """

    name: str
    protected: bool
    kubernetes: str
    why: str
    configured: bool = False
    owners: tuple[str, ...] | None = None
    sync: str | None = None
    required: tuple[str, ...] = ()
    api_versions: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuesFile:
    """A values file, path relative to ROOT. Passed to helm as `--values`, in order.

    `place` is where an Application names it, when that is a file of the tree. The file itself may be absent: then
    Argo CD fails, and so does the render.
    """

    path: str
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineValues:
    """Values written inside an Application (`helm.values` text, or `helm.valuesObject` dumped as YAML).

    `key` is "values" or "valuesObject". `place` is the first line of the text in a file of the tree, when the
    Application is a file there; None when a parent rendered it.
    """

    text: str
    key: str
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One `helm.parameters` entry: `--set name=value`, or `--set-string` with `force_string`."""

    name: str
    value: str
    force_string: bool = False
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HelmTold:
    """What helm is told besides values: the release's name and namespace, and the cluster to render for."""

    helm_release: str
    namespace: str
    kube_version: str | None = None
    api_versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HelmSource:
    """A chart folder of the tree with everything Argo passes to helm, in its order of precedence (last wins).

    Order (argo-cd util/helm/cmd.go, docs/user-guide/helm.md): chart values.yaml < `values_files` in order
    < `inline` < `parameters`. Discovery has already expanded globs, dropped files that are absent under
    ignoreMissingValueFiles, and let `valuesObject` void `values`.
    `file_parameters` are (name, path relative to ROOT) pairs for `--set-file`, `file_places` where each is named.
    `revision`: another commit's tree (full sha) that this source is rendered from; None is the judged tree.
    `told` is set where a source of several differs from the Application's first chart, which the Release speaks for.
    `place` is where the Application names the chart's folder, when that is a file of the tree.
    """

    chart: str
    values_files: tuple[ValuesFile, ...] = ()
    inline: InlineValues | None = None
    parameters: tuple[Parameter, ...] = ()
    file_parameters: tuple[tuple[str, str], ...] = ()
    file_places: tuple[Place | None, ...] = ()
    skip_crds: bool = False
    skip_tests: bool = False
    revision: str | None = None
    told: HelmTold | None = None
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySource:
    """Plain manifests: `files` (relative to ROOT, sorted) are what Argo's `recurse`, `include`, `exclude` select.

    `place` is where the Application names the folder, when that is a file of the tree.
    """

    path: str
    files: tuple[str, ...]
    revision: str | None = None
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedSource:
    """A source that this version cannot render. `reason` says why, `remedy` the command or edit that mends it."""

    reason: str
    remedy: str
    description: str  # "chart redis 18.0.1 of https://…", "kustomize-guestbook (Kustomize)"


Source = HelmSource | DirectorySource | UnsupportedSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What an Argo CD Application says besides its sources.

    `place` is its file and first line when it is a file of the tree; None when a parent release rendered it, and
    then `parent` names that release as "environment/name" and `template` the parent's template file.
    `body` is the whole parsed Application, `manifest` the object that says it: the Application, or the ApplicationSet
    that makes it. `base` is the JSON pointer of the Application inside that object ("", "/spec/template").
    """

    name: str
    namespace: str | None
    project: str
    destination: Mapping[str, Any]
    place: Place | None
    parent: str | None = None
    template: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    manifest: Manifest | None = field(default=None, compare=False, repr=False)
    base: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Project:
    """An AppProject of the tree, or one that a release renders.

    `environment` is the one its release is of, or its path names; None: it may be any environment's.
    """

    manifest: Manifest
    environment: str | None = None

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.manifest.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One chart (or folder of manifests) in one environment.

    `name` is the name in ids, unique per environment. `helm_release` is what helm is told (`.Release.Name`).
    A multi-source Application has several `sources`; their objects are judged together.
    `kube_version` and `api_versions` are what the Application itself overrides, else None and ().
    `why` says how it was found.
    """

    name: str
    environment: str
    helm_release: str
    namespace: str
    sources: tuple[Source, ...]
    application: Application | None = None
    kube_version: str | None = None
    api_versions: tuple[str, ...] = ()
    why: str = ""

    @property
    def id(self) -> str:
        """`environment/name`, as people type it."""
        return f"{self.environment}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUnderstood:
    """Something that deploys, or seems to, and that this version did not turn into a release. Never dropped silently.

    `blocking`: it stands for a deployment nobody judged, so it becomes a not-evaluated case; False is only told.
    """

    what: str
    reason: str
    remedy: str
    place: Place | None = None
    environment: str | None = None
    name: str | None = None
    blocking: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Repo:
    """All that discovery knows of a tree: what `releasegate discover` prints and what is judged.

    Environments are in order of first appearance by protection then name; releases sorted by (environment, name).
    `unreferenced_values` are values files that no release reads; `undeployed` charts that nothing points at and
    that are judged once in `default`. `notes` are sentences discover prints (which repoURL was taken for this repo…).
    `projects` are the AppProjects of the tree and of what its charts render.
    """

    tree: Tree
    environments: tuple[Environment, ...]
    releases: tuple[Release, ...]
    not_understood: tuple[NotUnderstood, ...] = ()
    unreferenced_values: tuple[str, ...] = ()
    undeployed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    projects: tuple[Project, ...] = ()

    def environment(self, name: str) -> Environment:
        """Return the environment of that name; KeyError if there is none."""
        for environment in self.environments:
            if environment.name == name:
                return environment
        raise KeyError(name)


# --- what it renders to -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """One object as it would be applied.

    `body` is the parsed document (Kubernetes' reading of YAML). `text` is its YAML as rendered or as in the file.
    `template` is the file that made it, relative to ROOT (helm's `# Source:` line mapped back), None if unknown.
    `path` and `line`: where `text` starts when the document is itself a file of the tree (Directory sources, lint);
    then positions inside it are positions a person can edit.
    `within` is the JSON pointer of the object inside `text`: "" unless it is an item of a List.
    `problems` are YAML problems that do not stop parsing: (line within text, message), e.g. a duplicate key.
    """

    body: Mapping[str, Any]
    text: str
    template: str | None = None
    path: str | None = None
    line: int = 1
    within: str = ""
    problems: tuple[tuple[int, str], ...] = ()

    @property
    def api_version(self) -> str:
        """`apiVersion`, or "" when absent or not a string."""
        value = self.body.get("apiVersion")
        return value if isinstance(value, str) else ""

    @property
    def kind(self) -> str:
        """`kind`, or "" when absent or not a string."""
        value = self.body.get("kind")
        return value if isinstance(value, str) else ""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """`metadata`, or {} when absent or not a mapping."""
        value = self.body.get("metadata")
        return value if isinstance(value, Mapping) else {}

    @property
    def name(self) -> str:
        """`metadata.name`, or "" when absent or not a string."""
        value = self.metadata.get("name")
        return value if isinstance(value, str) else ""

    @property
    def namespace(self) -> str | None:
        """`metadata.namespace` as written, None when absent."""
        value = self.metadata.get("namespace")
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rendered:
    """What a release renders to, as it would be applied (hooks kept, Argo's dropped hooks dropped, Lists expanded)."""

    release: Release
    manifests: tuple[Manifest, ...]
    seconds: float = 0.0
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrendered:
    """A release that did not render.

    `broken`: the repo is at fault (a template error, an empty render), so `render/succeeds` fails on it.
    Otherwise it could not be tried (a remote chart, a missing tool, a deadline) and is not-evaluated.
    `group` is equal for those that are mended the same way (all remote charts); None: `reason` is the group.
    `also` are further things that keep it from rendering, each with its own (reason, remedy, place).
    """

    release: Release
    reason: str
    remedy: str
    broken: bool
    place: Place | None = None
    group: str | None = None
    also: tuple[tuple[str, str, Place | None], ...] = ()

    @property
    def gap(self) -> str:
        """The group of what cannot be judged because of it."""
        return f"{self.release.id} does not render" if self.broken else self.group or self.reason


# --- what is judged -----------------------------------------------------------------------------------------------


class Scope(enum.StrEnum):
    """What one case of a rule covers."""

    RELEASE = "release"
    ENVIRONMENT = "environment"
    REPO = "repo"


class Kind(enum.StrEnum):
    """A fact has no level and is accepted only by a waiver; a policy has a level per environment."""

    FACT = "fact"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """The identity of an object in the report."""

    api_version: str
    kind: str
    namespace: str | None
    name: str


class Status(enum.StrEnum):
    """How a finding counts."""

    NEW = "new"
    INHERITED = "inherited"
    WAIVED = "waived"
    ADVISED = "advised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    `message` says what is wrong, `help` what to write instead. `pointer` is the JSON pointer inside the object,
    `value` the value there. `place` is where a person would edit, when the rule already knows (a values file, a
    file of the tree); otherwise sources.py looks for it. `change` names what has to change, equal for findings that
    one edit mends; with rule and place it is the cause. `manifest` is the object it is about. `advice`: listed, never
    red. `status` is set by evaluate, never by a rule. `text_line` is the line inside `manifest.text` where no pointer
    can say it (the second of two equal keys). `about_key`: the key at the pointer is at fault, not its value.
    `anywhere`: `change` alone is the cause, wherever it shows (something missing, which many refer to).
    """

    message: str
    help: str
    change: str
    manifest: Manifest | None = None
    pointer: str | None = None
    value: Any = None
    place: Place | None = None
    advice: bool = False
    text_line: int | None = None
    about_key: bool = False
    anywhere: bool = False
    status: Status = Status.NEW


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjudged:
    """A subject that a rule was given and could not judge. Makes its case not-evaluated.

    `group` is equal for gaps with one remedy (a kind without schema): one group is one entry of the report.
    """

    reason: str
    remedy: str
    group: str
    place: Place | None = None
    manifest: Manifest | None = None


class Outcome(enum.StrEnum):
    """The verdict of a case, as written in the report."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_EVALUATED = "not-evaluated"
    NOT_APPLICABLE = "not-applicable"
    WAIVED = "waived"
    INHERITED = "inherited"
    ADVISED = "advised"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseId:
    """Which case: (environment, release, rule), wider scopes with None in front."""

    rule: str
    environment: str | None = None
    release: str | None = None

    def __str__(self) -> str:
        """`releasegate.toml::prod/api::images/digest-only`; a printed id can be given back to pytest."""
        where = REPO_NODE if self.environment is None else self.environment
        if self.release is not None:
            where = f"{where}/{self.release}"
        return f"releasegate.toml::{where}::{self.rule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of one case.

    `subjects` is how many things were looked at, counted by evaluate from what the rule was given, never by a tool.
    `reason` is set for not-evaluated and not-applicable. `remedy` is the command or edit that mends a not-evaluated.
    """

    id: CaseId
    level: Level
    outcome: Outcome
    subjects: int
    findings: tuple[Finding, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()
    reason: str | None = None
    remedy: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolIdentity:
    """Which program judged: goes into the receipt. `origin` is "archive", "go-build" or "path".

    `why` says why this version, where the config asks for one; and for helm, which must be what Argo CD has, always.
    """

    name: str
    version: str
    origin: str
    sha256: str
    path: str
    why: str | None = None


Findings = Sequence[Finding | Unjudged]
