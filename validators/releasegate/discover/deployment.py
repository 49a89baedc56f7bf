"""What an Application deploys: its sources as Argo CD reads them, with all that is handed to helm.

Sources of the facts: argo-cd docs/user-guide/{helm,directory,tool_detection,multiple_sources,build-environment}.md,
util/helm/cmd.go, util/io/path/resolved.go, reposerver/repository/repository.go,
pkg/apis/application/v1alpha1/types.go.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from releasegate.discover import layout
from releasegate.discover.argo import Found, Repository, listed, mapping, sources_of, string
from releasegate.discover.files import Files, PatternTooLarge, greedy, is_glob
from releasegate.discover.helmsource import HelmOptions, References, Unsupported, outside, overridden, unsupported
from releasegate.model import (
    DirectorySource,
    HelmSource,
    HelmTold,
    NotUnderstood,
    Place,
    Source,
)

_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_DIRECTORY_FILES = (".yaml", ".yml", ".json", ".jsonnet")
_SKIP_RENDERING = "+argocd:skip-file-rendering"


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
    refs: Mapping[str, Mapping[str, Any]]
    several: bool
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
            return unsupported(
                f"chart {source['chart']} {source.get('targetRevision') or ''} of {url}".replace("  ", " "),
                "is a remote chart, which is not in this repo",
                "vendor it (`helm pull`) and point the Application at the folder",
            )
        if url.lower().startswith("oci://"):
            return unsupported(
                f"{url} {source.get('targetRevision') or ''}".strip(),
                "is an OCI artifact, which is not in this repo",
                "vendor it and point the Application at the folder",
            )
        if "path" not in source and source.get("ref"):
            return None
        path = string(source.get("path")) or "."
        if not self.repository.is_here(url):
            return unsupported(
                f"{path} of {url or 'no repoURL'}",
                "is in another repository",
                'if it is this one, add the URL to repo = ["…"] in releasegate.toml',
            )
        files = self.repository.at(source.get("targetRevision"))
        if files is None:
            revision = source.get("targetRevision")
            return unsupported(
                f"{path} at {revision}",
                f"is deployed from targetRevision {revision}, which this clone does not have",
                "fetch it (`git fetch origin`; actions/checkout: fetch-depth: 0), or deploy HEAD",
            )
        local = files.local(path)
        if local is None:
            return outside(path, files)
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
        for key in ("parameters", "fileParameters"):
            if not all(isinstance(one, Mapping) for one in listed(helm.get(key))) or not isinstance(
                helm.get(key) or [], list
            ):
                return _row(
                    self.found,
                    f"helm.{key} is no list of mappings: Argo CD refuses it",
                    "write a list of name and value",
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
            try:
                answer = None if files is None else self._references(source, files).resolved(entry)
            except Unsupported:
                answer = None
            if files is None or answer is None:
                self.values.append(rest if first in self.refs else entry)
                continue
            chosen = (files.glob(answer) or [answer]) if is_glob(answer) else [answer]
            self.values += chosen
            if files is self.repository.files:
                self.reads += chosen
        return None

    def _references(self, source: Mapping[str, Any], files: Files) -> References:
        return References(
            found=self.found,
            repository=self.repository,
            refs=self.refs,
            several=self.several,
            source=source,
            files=files,
        )

    def _typed(
        self, source: Mapping[str, Any], pointer: str, files: Files, path: str, local: str
    ) -> Source | NotUnderstood:
        source, overrides, unread = overridden(source, self.found.name, files, local)
        self.missing += unread
        explicit = [kind for kind in ("helm", "kustomize", "directory", "plugin") if source.get(kind) is not None]
        if len(explicit) > 1:
            return unsupported(
                path, f"has more than one source type ({', '.join(explicit)}): Argo CD refuses it", "keep one of them"
            )
        inside = files.below(local)
        kind = explicit[0] if explicit else _detect(inside, local)
        if kind == "helm":
            return self._helm(source, pointer, _Folder(files, path, local), overrides)
        if kind == "kustomize":
            return unsupported(
                f"{path} (Kustomize)",
                "is a Kustomize source, which this version does not render",
                "commit `kustomize build` output as plain manifests to have it judged",
            )
        if kind == "plugin":
            name = mapping(source.get("plugin")).get("name") or "config management"
            return unsupported(
                f"{path} (plugin {name})",
                f"is rendered by the {name} plugin, which only the cluster has",
                "commit what it renders as plain manifests to have it judged",
            )
        made = _directory(mapping(source.get("directory")), _Folder(files, path, local), self._revision(files))
        return replace(made, place=self._named_at(pointer)) if isinstance(made, DirectorySource) else made

    def _named_at(self, pointer: str) -> Place | None:
        """Where the Application names the source's folder, else the Application; None when no file holds it."""
        return self.found.at(f"{pointer}/path") or self.found.place

    def _revision(self, files: Files) -> str | None:
        return None if files is self.repository.files else files.tree.revision or files.tree.ref

    def _helm(
        self,
        source: Mapping[str, Any],
        pointer: str,
        folder: _Folder,
        overrides: Mapping[str, tuple[str, str]],
    ) -> Source:
        files, path, local = folder.files, folder.path, folder.local
        helm = self.helm = mapping(source.get("helm"))
        if string(helm.get("version")) not in ("", "v3"):
            return unsupported(
                path, f"asks for Helm {helm['version']}, which Argo CD no longer has", "remove helm.version"
            )
        chart = self.charts.get(local) if files is self.repository.files else layout.charts(files).get(local)
        absent = layout.unvendored(files, chart) if chart is not None else []
        if absent:
            listed = ", ".join(f"{name} ({where or 'no repository'})" for name, where in absent)
            return unsupported(
                f"{path} (Helm)",
                f"depends on {listed}, which {'is' if len(absent) == 1 else 'are'} not in its charts/",
                f"`helm dependency build {local}` and commit {posixpath.join(local, 'charts')}/",
            )
        options = HelmOptions(
            references=self._references(source, files), pointer=pointer, helm=helm, overrides=overrides
        )
        try:
            values = options.values_files()
            file_parameters, places = options.file_parameters()
            parameters = options.parameters()
        except Unsupported as error:
            return error.source
        self.missing += options.missing
        if files is self.repository.files:
            self.reads += [one for _, one in file_parameters]
        if not inside_chart(files, local):
            self.missing.append(path)
        return HelmSource(
            chart=local,
            values_files=values,
            inline=options.inline(),
            parameters=parameters,
            file_parameters=file_parameters,
            file_places=places,
            skip_crds=helm.get("skipCrds") is True,
            skip_tests=helm.get("skipTests") is True,
            revision=self._revision(files),
            place=self._named_at(pointer),
        )


def inside_chart(files: Files, local: str) -> bool:
    """Whether the folder is a chart."""
    return ("Chart.yaml" if local == "." else f"{local}/Chart.yaml") in files


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
        return unsupported(
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
    reader = _Reader(found=found, repository=repository, charts=charts, refs=refs, several=several)
    destination = string(mapping(spec.get("destination")).get("namespace"))
    made: list[Source] = []
    told: HelmTold | None = None
    for index, source in enumerate(sources):
        try:
            read = reader.read(source, f"/spec/sources/{index}" if several else "/spec/source")
        except PatternTooLarge as error:
            return _row(found, f"its pattern {error}", "write fewer braces")
        if isinstance(read, NotUnderstood):
            return read
        if isinstance(read, HelmSource):
            says = _tells(reader.helm, found.name, destination)
            if told is not None and told != says:
                read = replace(read, told=says)
            told = told or says
        if read is not None:
            made.append(read)
    if not made:
        return _row(found, "its sources are only references: it deploys nothing", "write a source with a path")
    told = told or HelmTold(helm_release=found.name, namespace=destination or "default")
    return Deployment(
        sources=tuple(made),
        paths=tuple(reader.paths),
        missing=tuple(reader.missing),
        values=tuple(reader.values),
        reads=tuple(reader.reads),
        helm_release=told.helm_release,
        namespace=told.namespace,
        kube_version=told.kube_version,
        api_versions=told.api_versions,
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


def _tells(helm: Mapping[str, Any], name: str, destination: str) -> HelmTold:
    """Return what helm is told besides values. Argo CD gives the Application's name and destination by default."""
    return HelmTold(
        helm_release=string(helm.get("releaseName")) or name,
        namespace=string(helm.get("namespace")) or destination or "default",
        kube_version=string(helm.get("kubeVersion")) or None,
        api_versions=tuple(one for one in listed(helm.get("apiVersions")) if isinstance(one, str)),
    )
