"""argo/project-allows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from releasegate.discover.argo import listed, mapping, sources_of, string
from releasegate.model import Application, Finding, Kind, Manifest, Project, Release, Scope, Unjudged
from releasegate.rules import Evidence, manifests, rule
from releasegate.rules.argo import about, application_of, made_by, matches, project_of, project_place, spec_of
from releasegate.schemas import MissingSchema

IN_CLUSTER = {"https://kubernetes.default.svc": "in-cluster"}
_SSH = re.compile(r"(?:ssh://)?[^/:]*?@[^@]+")
_UNKNOWN = "\0"  # a name that only `*` covers


@dataclass(frozen=True, slots=True)
class Cluster:
    """A destination as Argo CD compares it: by address and by name; one of the two may not be known here."""

    server: str
    name: str

    @property
    def known(self) -> bool:
        """Both address and name."""
        return _UNKNOWN not in (self.server, self.name)

    def __str__(self) -> str:
        """What the Application writes, or the name Argo CD gives its own cluster."""
        return self.server if self.server != _UNKNOWN else self.name


def _subjects(evidence: Evidence) -> Sequence[Any]:
    """The release's Application and every object it renders; nothing where the project is an unchanged `default`."""
    release = evidence.release
    if release is None or release.application is None:
        return ()
    project = project_of(release.application, release.environment, evidence)
    if project is None:
        return ()
    return [release] if isinstance(project, Unjudged) else [release, *manifests(evidence)]


@rule(scope=Scope.RELEASE, kind=Kind.POLICY, subjects=_subjects)
def check(subject: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """The AppProject allows where an Application deploys to, where it takes its sources from, and every object it renders.

    Compared as Argo CD does: `sourceRepos`, `sourceNamespaces` and `destinations` with globs and `!`, the namespace of
    each object, and the four lists of kinds, cluster-scoped kinds by `clusterResourceWhitelist` (an empty one allows
    none) and the others by `namespaceResource…`. The project is the one of that name in this repository, also where a
    chart renders it; without one the Application is not judged. An unchanged `default` allows everything.

    Why: what the project does not allow is refused at the sync, after the merge: the Application goes to
    ComparisonError or SyncFailed, half of a release is applied, and the change that was needed is in another team's
    file.

    Fix: add what the message names to the AppProject (its owners approve it), or take the object out of the chart.

    Bad:
        # AppProject shop has clusterResourceWhitelist: [{group: "", kind: Namespace}]; its chart renders
        apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRole
        metadata:
          name: api

    Good:
        apiVersion: rbac.authorization.k8s.io/v1
        kind: Role
        metadata:
          name: api
    """
    release = evidence.release
    if release is None:
        return
    application = application_of(release)
    project = project_of(application, release.environment, evidence)
    if isinstance(project, Unjudged):
        yield project
    elif project is not None and isinstance(subject, Release):
        yield from _application(application, project, evidence)
    elif project is not None:
        yield from _object(subject, application, project, evidence)


# --- the Application ------------------------------------------------------------------------------------------------


def _application(application: Application, project: Project, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    spec = mapping(project.manifest.body.get("spec"))
    several = bool(listed(spec_of(application).get("sources")))
    for index, source in enumerate(sources_of(spec_of(application))):
        url = string(source.get("repoURL"))
        if not permits_repo(spec, url):
            yield about(
                application,
                f"/spec/sources/{index}/repoURL" if several else "/spec/source/repoURL",
                f"{_named(project)} does not allow the repository {url or '(none)'} of {made_by(application)}",
                f"add it to spec.sourceRepos of {_named(project)}, or deploy from a repository that is there",
                change=f"allow the repository {url} in AppProject {project.name}",
                anywhere=True,
            )
    namespace = project.manifest.namespace
    if application.namespace and namespace and application.namespace != namespace:
        allowed = [string(one) for one in listed(spec.get("sourceNamespaces"))]
        if not any(_is_source_namespace(one, application.namespace) for one in allowed):
            yield about(
                application,
                "/metadata/namespace",
                f"{_named(project)} does not allow Applications of namespace {application.namespace}",
                f"add {application.namespace} to spec.sourceNamespaces, or keep the Application in {namespace}",
                change=f"allow Applications of {application.namespace} in AppProject {project.name}",
                anywhere=True,
            )
    wanted = string(application.destination.get("namespace"))
    cluster = _cluster(application, evidence)
    if cluster is not None:  # without a destination argo/valid speaks
        yield from _destination(application, project, cluster, wanted)


def _is_source_namespace(pattern: str, namespace: str) -> bool:
    """A glob, or a regular expression between slashes (util/glob/list.go)."""
    if len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/"):
        try:  # an engine that no pattern makes slow
            engine = jsonschema_rs.validator_for(
                {"pattern": pattern[1:-1]}, pattern_options=jsonschema_rs.RegexOptions()
            )
        except ValueError:
            return False
        return bool(engine.is_valid(namespace))
    return matches(pattern, namespace)


def _destination(
    application: Application, project: Project, cluster: Cluster, namespace: str
) -> Iterator[Finding | Unjudged]:
    spec = mapping(project.manifest.body.get("spec"))
    permitted = permits_destination(spec, cluster, namespace)
    if permitted and spec.get("permitOnlyProjectScopedClusters") is not True:
        return
    if permitted:
        yield Unjudged(
            reason=f"{_named(project)} permits only clusters that are registered for it, which git does not say",
            remedy="take permitOnlyProjectScopedClusters out of the AppProject to have destinations judged",
            group=f"clusters of AppProject {project.name}",
        )
    elif not cluster.known and _names_clusters_otherwise(spec, cluster):
        yield Unjudged(
            reason=f"{_named(project)} names clusters otherwise than {made_by(application)}, which says {cluster}",
            remedy='say which is which: [[clusters]] name = "…" server = "…" in releasegate.toml',
            group=f"cluster {cluster} is not in [[clusters]]",
        )
    else:
        yield about(
            application,
            "/spec/destination",
            f"{_named(project)} does not allow the destination of {made_by(application)}: "
            f"namespace {namespace or '(none)'} of {cluster}",
            f"add it to spec.destinations of {_named(project)}, or deploy to one that is there",
            change=f"allow namespace {namespace} of {cluster} in AppProject {project.name}",
            anywhere=True,
        )


def _names_clusters_otherwise(spec: Mapping[str, Any], cluster: Cluster) -> bool:
    key = "name" if cluster.name == _UNKNOWN else "server"
    return any(string(mapping(one).get(key)) for one in listed(spec.get("destinations")))


def _cluster(application: Application, evidence: Evidence) -> Cluster | None:
    """The destination by address and by name; `[[clusters]]` says what git does not."""
    server = string(application.destination.get("server")).rstrip("/")
    name = string(application.destination.get("name"))
    if bool(server) == bool(name):
        return None
    names = IN_CLUSTER | {one.server.rstrip("/"): one.name for one in evidence.config.clusters}
    if server:
        return Cluster(server, names.get(server, _UNKNOWN))
    return Cluster(next((one for one, called in names.items() if called == name), _UNKNOWN), name)


def _named(project: Project) -> str:
    return f"AppProject {project.name} ({project_place(project)})"


# --- what Argo CD permits: pkg/apis/application/v1alpha1/app_project_types.go ---------------------------------------


def normal_url(url: str) -> str:
    """A git URL as Argo CD compares it (util/git, NormalizeGitURL): lower case, scp-like as ssh, without `.git`."""
    text = url.strip().lower()
    if _SSH.fullmatch(text) and not text.startswith("ssh://"):
        text = "ssh://" + text.replace(":", "/", 1)
    return text.removesuffix(".git").removeprefix("ssh://")


def permits_repo(spec: Mapping[str, Any], url: str) -> bool:
    """IsSourcePermitted: some entry covers it, and no entry with `!` covers it."""
    wanted = normal_url(url)
    permitted = False
    for entry in listed(spec.get("sourceRepos")):
        text = string(entry)
        pattern = f"!{normal_url(text[1:])}" if text.startswith("!") else normal_url(text)
        if matches(pattern, wanted, separator="/", negation=True):
            permitted = True
        elif pattern.startswith("!"):
            return False
    return permitted


def permits_destination(spec: Mapping[str, Any], cluster: Cluster, namespace: str) -> bool:
    """IsDestinationPermitted: some entry covers cluster (by address or name) and namespace, and none with `!` refuses."""
    permitted = False
    for entry in map(mapping, listed(spec.get("destinations"))):
        by_name, by_server = string(entry.get("name")), string(entry.get("server"))
        name = matches(by_name, cluster.name, negation=True)
        server = matches(by_server, cluster.server, negation=True)
        inside = matches(string(entry.get("namespace")), namespace, negation=True)
        if (server or name) and inside:
            permitted = True
        elif (
            (not name and by_name.startswith("!"))
            or (not server and by_server.startswith("!") and inside)
            or (not inside and string(entry.get("namespace")).startswith("!") and server)
        ):
            return False
    return permitted


def permits_kind(spec: Mapping[str, Any], group: str, kind: str, name: str, *, namespaced: bool) -> bool:
    """IsGroupKindNamePermitted: a cluster-scoped kind has to be listed, another only where there is a list."""
    if namespaced:
        allowed = spec.get("namespaceResourceWhitelist")
        white = allowed is None or _is_listed(allowed, group, kind, None)
        return white and not _is_listed(spec.get("namespaceResourceBlacklist"), group, kind, None)
    white = _is_listed(spec.get("clusterResourceWhitelist"), group, kind, name)
    return white and not _is_listed(spec.get("clusterResourceBlacklist"), group, kind, name)


def _is_listed(entries: Any, group: str, kind: str, name: str | None) -> bool:
    for entry in map(mapping, listed(entries)):
        named = string(entry.get("name"))
        if (
            matches(string(entry.get("kind")), kind, separator="/")
            and matches(string(entry.get("group")), group, separator="/")
            and (name is None or not named or matches(named, name, separator="/"))
        ):
            return True
    return False


# --- an object ------------------------------------------------------------------------------------------------------


def _object(
    manifest: Manifest, application: Application, project: Project, evidence: Evidence
) -> Iterator[Finding | Unjudged]:
    if not manifest.kind or not manifest.api_version or evidence.schemas is None:
        return  # told by schema/valid
    spec = mapping(project.manifest.body.get("spec"))
    group = manifest.api_version.rpartition("/")[0]
    namespaced = evidence.schemas.namespaced(manifest.api_version, manifest.kind)
    answers = {
        permits_kind(spec, group, manifest.kind, manifest.name, namespaced=one)
        for one in ((True, False) if namespaced is None else (namespaced,))
    }
    full = f"{manifest.kind}.{group}" if group else manifest.kind
    if answers == {True, False}:
        lacking = evidence.schemas.problems(manifest)
        if isinstance(lacking, MissingSchema):  # the same gap as schema/valid's, and one entry with it
            reason, remedy, group = lacking.reason, lacking.remedy, lacking.group
        else:
            reason = f"it is not known whether {full} is namespaced, and {_named(project)} allows it only if it is"
            remedy = f"releasegate schemas add {manifest.kind} --from DIR (a folder that holds its CRD)"
            group = f"scope of {full}"
        yield Unjudged(reason=reason, remedy=remedy, group=group, manifest=manifest)
        return
    if answers == {False}:
        scope, key = ("cluster-scoped ", "clusterResourceWhitelist") if namespaced is False else ("", _listing(spec))
        yield Finding(
            message=f"{_named(project)} does not allow the {scope}kind {full}: {manifest.kind} {manifest.name}",
            help=f"{key}, or take it out of the chart"
            if key.startswith("remove")
            else f'add {{group: "{group}", kind: {manifest.kind}}} to spec.{key} of {_named(project)}, or take it out',
            change=f"allow {full} in AppProject {project.name}",
            manifest=manifest,
            pointer="/kind",
            value=manifest.kind,
            anywhere=True,
        )
    elsewhere = manifest.namespace if namespaced is not False else None
    cluster = _cluster(application, evidence)
    if elsewhere and cluster is not None and elsewhere != string(application.destination.get("namespace")):
        yield from _namespace(manifest, elsewhere, cluster, project)


def _listing(spec: Mapping[str, Any]) -> str:
    if spec.get("namespaceResourceWhitelist") is None:
        return "remove it from spec.namespaceResourceBlacklist"
    return "namespaceResourceWhitelist"


def _namespace(manifest: Manifest, namespace: str, cluster: Cluster, project: Project) -> Iterator[Finding]:
    spec = mapping(project.manifest.body.get("spec"))
    if permits_destination(spec, cluster, namespace) or (
        not cluster.known and _names_clusters_otherwise(spec, cluster)  # said once, of the Application
    ):
        return
    yield Finding(
        message=f"{_named(project)} does not allow namespace {namespace}: {manifest.kind} {manifest.name} is put there",
        help=f"add it to spec.destinations of {_named(project)}, or leave metadata.namespace out",
        change=f"allow namespace {namespace} in AppProject {project.name}",
        manifest=manifest,
        pointer="/metadata/namespace",
        value=namespace,
        anywhere=True,
    )
