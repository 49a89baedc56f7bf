"""argo/valid."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from releasegate.discover.argo import listed, mapping, normal_url, sources_of, string
from releasegate.discover.files import is_glob
from releasegate.model import (
    DEFAULT_ENVIRONMENT,
    Application,
    DirectorySource,
    Finding,
    Kind,
    Manifest,
    Place,
    Project,
    Release,
    Scope,
    Unjudged,
    UnsupportedSource,
)
from releasegate.rules import Evidence, rule
from releasegate.rules.argo import about, application_of, deployed, made_by, project_of, spec_of
from releasegate.schemas import MissingSchema, Schemas

_IN_CLUSTER = ("https://kubernetes.default.svc", "in-cluster")
_TRUNKS = ("", "HEAD", "main", "master", "refs/heads/main", "refs/heads/master")


def _subjects(evidence: Evidence) -> Sequence[Release | Project]:
    """The Applications of the environment, the AppProjects they name, and those that no Application names."""
    releases = deployed(evidence)
    named: dict[int, Project] = {}
    used = set()
    for release in evidence.repo.releases:
        if release.application is not None:
            project = project_of(release.application, release.environment, evidence)
            if isinstance(project, Project):
                used.add(id(project))
                if evidence.environment is not None and release.environment == evidence.environment.name:
                    named[id(project)] = project
    return [*releases, *named.values(), *(one for one in evidence.repo.projects if id(one) not in used)]


@rule(scope=Scope.ENVIRONMENT, kind=Kind.FACT, subjects=_subjects, together=True, needs_render=False)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Applications, ApplicationSets and AppProjects say what Argo CD reads.

    Judged in files that nothing renders: fields that there are not, with the place where the field belongs, and wrong
    types; what a chart or a Directory source renders is judged by schema/valid. Judged everywhere: a destination with
    both `server` and `name`, or with neither; `source` beside `sources`; a source without path or chart, a remote chart
    without version; two Applications of one name, of which one is lost; values files that do not exist, where the
    chart cannot be rendered here (where it can, render/succeeds says so).

    Why: a field that Argo CD does not know is dropped without a word when the file is applied: `spec.valueFiles` deploys
    the chart with its defaults, `syncPolicy.prune` prunes nothing. The others are found when the Application stands at
    "InvalidSpecError", after the merge.

    Fix: move the field to where the message says, or remove it.

    Bad:
        apiVersion: argoproj.io/v1alpha1
        kind: Application
        metadata:
          name: api-prod
        spec:
          project: shop
          source:
            repoURL: https://github.com/acme/config
            path: helm/api
          valueFiles: [values-prod.yaml]
          destination: {server: "https://kubernetes.default.svc", namespace: shop-prod}

    Good:
        apiVersion: argoproj.io/v1alpha1
        kind: Application
        metadata:
          name: api-prod
        spec:
          project: shop
          source:
            repoURL: https://github.com/acme/config
            path: helm/api
            helm:
              valueFiles: [values-prod.yaml]
          destination: {server: "https://kubernetes.default.svc", namespace: shop-prod}
    """
    releases = [one for one in subjects if isinstance(one, Release)]
    manifests = [application_of(one).manifest for one in releases]
    manifests += [one.manifest for one in subjects if isinstance(one, Project)]
    for manifest in {id(one): one for one in manifests if one is not None}.values():
        yield from _fields(manifest, evidence)
    for release in releases:
        application = application_of(release)
        yield from _sources(application)
        yield from _destination(application)
        if any(isinstance(one, UnsupportedSource) for one in release.sources):
            yield from _values_files(application, evidence)
    yield from _names(releases)


# --- fields ---------------------------------------------------------------------------------------------------------


def _fields(manifest: Manifest, evidence: Evidence) -> Iterator[Finding]:
    """What the schema says of an object that stands in a file and is in no render."""
    if manifest.path is None or manifest.path in _rendered_files(evidence):
        return
    for line, message in manifest.problems:
        yield Finding(
            message=message,
            help="keep one of the two and remove the other",
            change=f"mend the YAML: {message}",
            manifest=manifest,
            place=Place(path=manifest.path, line=manifest.line + line - 1),
            text_line=line,
        )
    problems = _schemas(evidence).problems(manifest)
    for problem in () if isinstance(problems, MissingSchema) else problems:
        yield Finding(
            message=f"{manifest.kind} {manifest.name}: {problem.message}",
            help=problem.help,
            change=problem.change,
            manifest=manifest,
            pointer=problem.pointer,
            value=problem.value,
            advice=problem.advice,
            about_key=problem.keyword == "additionalProperties",
        )


def _rendered_files(evidence: Evidence) -> frozenset[str]:
    """The files that Directory sources deploy: schema/valid judges what is in them."""
    return evidence.shared.once(
        ("argo/valid", "rendered"),
        lambda: frozenset(
            file
            for release in evidence.repo.releases
            for source in release.sources
            if isinstance(source, DirectorySource) and source.revision is None
            for file in source.files
        ),
    )


def _schemas(evidence: Evidence) -> Schemas:
    environment = evidence.environment
    kubernetes = environment.kubernetes if environment is not None else ""
    return evidence.shared.once(
        ("argo/valid", "schemas", kubernetes),
        lambda: Schemas.load(
            kubernetes, locations=evidence.config.schema_locations, root=Path(evidence.repo.tree.root)
        ),
    )


# --- what Argo CD calls InvalidSpecError: util/argo/argo.go ---------------------------------------------------------


def _sources(application: Application) -> Iterator[Finding]:
    spec = spec_of(application)
    several = bool(listed(spec.get("sources")))
    if several and spec.get("source") is not None:
        yield about(
            application,
            "/spec/source",
            f"{made_by(application)} has both source and sources: Argo CD reads sources alone",
            "remove spec.source, or move it into spec.sources",
            change="remove spec.source",
        )
    for index, source in enumerate(sources_of(spec)):
        pointer = f"/spec/sources/{index}" if several else "/spec/source"
        chart, path = source.get("chart"), source.get("path")
        if not chart and not path and not (several and source.get("ref")):
            yield about(
                application,
                pointer,
                f"{made_by(application)} has a source without path and without chart: Argo CD refuses it",
                'write path: (or chart: for a chart repository); path: "." is the top of the repository',
                change=f"write a path in {pointer[1:].replace('/', '.')}",
            )
        elif chart and not source.get("targetRevision"):
            yield about(
                application,
                pointer,
                f"{made_by(application)} names no version of the chart {chart}: Argo CD refuses it",
                "write targetRevision: with the version of the chart",
                change=f"write the version of {chart}",
            )


def _destination(application: Application) -> Iterator[Finding]:
    destination = application.destination
    both = destination.get("server") and destination.get("name")
    if not both and (destination.get("server") or destination.get("name")):
        return
    said = "both server and name" if both else "neither server nor name"
    yield about(
        application,
        "/spec/destination",
        f"the destination of {made_by(application)} has {said}: Argo CD refuses it",
        "keep one of the two" if both else f"write server: {_IN_CLUSTER[0]}, or the name of a cluster",
        change="keep server or name of the destination" if both else "write server or name of the destination",
    )


# --- two of one name ------------------------------------------------------------------------------------------------


def _names(releases: Sequence[Release]) -> Iterator[Finding]:
    """Applications of one name in files that go to one Argo CD: the one that is applied last stays."""
    first: dict[tuple[str, str | None], Application] = {}
    for release in releases:
        application = application_of(release)
        if application.place is None or (
            application.manifest is not None and application.manifest.kind != "Application"
        ):
            continue  # schema/unique judges what is rendered, discovery what one ApplicationSet makes
        other = first.setdefault((application.name, application.namespace), application)
        if other is not application and _are_together(other, application, release.environment):
            yield about(
                application,
                "/metadata/name",
                f"two Applications are called {application.name}: here and in {other.place}; "
                "the one that is applied last replaces the other",
                "give one of them another name, or remove it",
                change=f"rename or remove one Application {application.name}",
            )


def _are_together(one: Application, other: Application, environment: str) -> bool:
    """Whether both are applied to the same cluster. Folders of other environments or clusters may be other Argo CDs."""
    if one.place is None or other.place is None:
        return False
    folders = posixpath.dirname(one.place.path), posixpath.dirname(other.place.path)
    if folders[0] == folders[1]:
        return True
    if environment == DEFAULT_ENVIRONMENT:
        return False
    told = {string(app.destination.get("server")) or string(app.destination.get("name")) for app in (one, other)}
    nested = any(f"{low}/".startswith(f"{high}/") for low, high in (folders, folders[::-1]))
    return nested or (len(told) == 1 and told.isdisjoint(_IN_CLUSTER))


# --- values files ---------------------------------------------------------------------------------------------------


def _values_files(application: Application, evidence: Evidence) -> Iterator[Finding]:
    """Values files of this repository that a chart from elsewhere is to be deployed with, and that are not there."""
    spec = spec_of(application)
    sources = sources_of(spec)
    several = bool(listed(spec.get("sources")))
    refs = {f"${one['ref']}": one for one in sources if isinstance(one.get("ref"), str)}
    for index, source in enumerate(sources):
        helm = mapping(source.get("helm"))
        if helm.get("ignoreMissingValueFiles") is True:
            continue
        for number, entry in enumerate(listed(helm.get("valueFiles"))):
            path = _path(string(entry), source, refs, evidence)
            if path is None or path in evidence.shared.files:
                continue
            at = f"/spec/sources/{index}" if several else "/spec/source"
            yield about(
                application,
                f"{at}/helm/valueFiles/{number}",
                f"{made_by(application)} names the values file {path}, which does not exist",
                "mend the path, or add the file",
                change=f"add or mend {path}",
            )


def _path(
    entry: str, source: Mapping[str, Any], refs: Mapping[str, Mapping[str, Any]], evidence: Evidence
) -> str | None:
    """The file of this repository that an entry means; None where that is not certain."""
    first, _, rest = entry.partition("/")
    origin = refs.get(first, source)
    inside = rest if first in refs else entry.lstrip("/") if entry.startswith("/") else _below(source, entry)
    if not inside or "$" in inside or "://" in entry or is_glob(inside) or origin.get("chart"):
        return None
    branch = evidence.repo.tree.branch
    if string(origin.get("targetRevision")) not in {*_TRUNKS, branch} or not _is_here(origin, evidence):
        return None
    return evidence.shared.files.local(posixpath.normpath(inside))


def _below(source: Mapping[str, Any], entry: str) -> str:
    return posixpath.join(string(source.get("path")), entry) if source.get("path") else ""


def _is_here(source: Mapping[str, Any], evidence: Evidence) -> bool:
    url = string(source.get("repoURL"))
    known = (*evidence.config.repo, *evidence.repo.tree.remotes)
    return url in known or normal_url(url) in {normal for one in known if (normal := normal_url(one)) is not None}
