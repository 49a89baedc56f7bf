"""Discovery: a tree and its config -> the environments and releases there are, and what was not understood.

Layer 2. Order of truth: the config, Argo CD's manifests, names of files and folders. Nothing is dropped silently: each
Application, ApplicationSet, chart and values file ends up as a release, a NotUnderstood row, undeployed or unreferenced.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from releasegate import yamlio
from releasegate.config import FILE, Config, matches
from releasegate.discover import appset, argo, layout
from releasegate.discover.argo import Found, mapping, string
from releasegate.discover.deployment import Deployment, deployment
from releasegate.discover.files import Files, Unreadable, normal
from releasegate.model import (
    DEFAULT_ENVIRONMENT,
    Application,
    DirectorySource,
    Environment,
    HelmSource,
    InlineValues,
    Manifest,
    NotUnderstood,
    Place,
    Project,
    Release,
    Rendered,
    Repo,
    Source,
    Tree,
    Unrendered,
    UnsupportedSource,
    ValuesFile,
)

Render = Callable[[Sequence[Release], Mapping[str, Environment]], Sequence[Rendered | Unrendered]]
MAX_DEPTH = 8  # levels of app-of-apps; a parent that changes its own values each time would never end
_NULL_INPUT = re.compile(r"\.Values((?:\.[A-Za-z_]\w*)+)")


def discover(
    tree: Tree,
    config: Config,
    render: Render,
    *,
    at_revision: Callable[[str], Tree | None] = lambda _revision: None,
    kubernetes: str,
) -> Repo:
    """Find the environments and releases of a tree.

    `render` renders releases whose charts make Applications (app-of-apps), one call per level, answers in order.
    `at_revision` gives the tree of another targetRevision, None when git does not have it. `kubernetes` ("1.37") is the
    version of every environment whose config names none. Raises nothing for what the tree holds.
    """
    return _Discovery(tree, config, render, at_revision, kubernetes).repo()


@dataclass(eq=False, slots=True)
class _Draft:
    """A release before its name in ids is known. `release.name` is the full name meanwhile."""

    release: Release
    environment_why: str
    parent: _Draft | None = None
    paths: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    only_undeployed: bool = False  # made by a chart that nothing deploys: yields to what a named environment has

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1


@dataclass(eq=False)
class _Discovery:
    tree: Tree
    config: Config
    render: Render
    at_revision: Callable[[str], Tree | None]
    kubernetes: str
    files: Files = field(init=False)
    drafts: list[_Draft] = field(default_factory=list)
    rows: list[NotUnderstood] = field(default_factory=list)
    undeployed: list[str] = field(default_factory=list)
    accounted: set[str] = field(default_factory=set)  # charts that are a release, a row, or undeployed
    referenced: set[str] = field(default_factory=set)
    environments: dict[str, Environment] = field(default_factory=dict)
    used_globs: set[tuple[str, int]] = field(default_factory=set)  # of `applications` of the config
    projects: list[Project] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = Files(self.tree)
        self.repository = argo.Repository(self.files, self.config.repo, self.at_revision)
        self.charts = layout.charts(self.files)
        self.values = layout.ValuesLayout(self.files, self.charts, self.config)
        self.known = frozenset(self.config.environments) | frozenset(self.values.environments())
        names = Counter(chart.name for chart in self.charts.values())
        self._shared_names = {name for name, count in names.items() if count > 1}
        self._makes: dict[str, bool] = {}
        self._makes_projects: dict[str, bool] = {}
        self._told: dict[tuple[str, str | None, str], list[tuple[Place | None, list[Any]]]] = {}

    def repo(self) -> Repo:
        found, rows = argo.in_files(self.files, self.charts)
        self.rows += rows
        self.projects += [self._project_in_file(one.manifest) for one in found if one.manifest and _is_project(one)]
        self._follow(self._accept([one for one in found if not _is_project(one)], None))
        self._environment_roots()
        self._other_roots()
        self._charts_by_name()
        self._other_tools()
        self._idle_globs()
        return self._finished()

    # --- Applications -------------------------------------------------------------------------------------------------

    def _accept(self, found: Sequence[Found], parents: Sequence[_Draft] | None) -> list[_Draft]:
        """Turn Applications (and those that ApplicationSets make) into drafts; `parents` rendered them, one each."""
        pairs: list[tuple[Found, _Draft | None]] = []
        # Which repo is this one has to be known before a git generator is asked.
        self.repository.consider(one.body for one in found if one.kind == "Application")
        self.repository.consider(_template_of(one.body) for one in found if one.kind == "ApplicationSet")
        for index, one in enumerate(found):
            parent = parents[index] if parents is not None else None
            self.used_globs.update(self._globs_of(one))
            if one.kind == "Application":
                pairs.append((one, parent))
                continue
            generated = appset.applications(one, self.repository, self.config.clusters)
            pairs += [(each, parent) for each in generated.applications]
            self.used_globs.update(glob for each in generated.applications for glob in self._globs_of(each))
            self.rows += [
                row if parent is None else replace(row, environment=parent.release.environment)
                for row in generated.rows
            ]
            self.referenced.update(generated.read)
        deployments: list[tuple[Found, _Draft | None, Deployment]] = []
        for one, parent in pairs:
            read = deployment(one, self.repository, self.charts)
            if isinstance(read, NotUnderstood):
                environment = parent.release.environment if parent is not None else None
                self.rows.append(replace(read, environment=environment))
            else:
                deployments.append((one, parent, read))
        return self._drafted(deployments)

    def _drafted(self, deployments: Sequence[tuple[Found, _Draft | None, Deployment]]) -> list[_Draft]:
        folders = {
            file: index
            for index, (_, _, read) in enumerate(deployments)
            for source in read.sources
            if isinstance(source, DirectorySource) and source.revision is None
            for file in source.files
        }
        named: dict[int, tuple[str, str]] = {}

        def environment(index: int, asked: frozenset[int] = frozenset()) -> tuple[str, str]:
            if index in named:
                return named[index]
            one, parent, read = deployments[index]
            owner = folders.get(one.place.path) if one.place is not None else None
            inherited: tuple[str, str] | None = None
            if parent is not None:
                inherited = parent.release.environment, f"parent {parent.release.id}"
            elif owner is not None and owner != index and owner not in asked:
                above = environment(owner, asked | {index})
                inherited = above[0], f"parent {deployments[owner][0].name}"
            named[index] = self._environment_of(one, read, inherited)
            return named[index]

        made: list[_Draft] = []
        for index, (one, parent, read) in enumerate(deployments):
            name, why = environment(index)
            draft = self._draft(one, parent, read, name, why)
            if draft is not None:
                made.append(draft)
        self.drafts += made
        return made

    def _draft(self, one: Found, parent: _Draft | None, read: Deployment, environment: str, why: str) -> _Draft | None:
        spec = mapping(one.body.get("spec"))
        metadata = mapping(one.body.get("metadata"))
        application = Application(
            name=one.name,
            namespace=string(metadata.get("namespace")) or None,
            project=string(spec.get("project")) or "default",
            destination=mapping(spec.get("destination")),
            place=one.place,
            template=one.template,
            body=one.body,
            manifest=one.manifest,
            base=one.base[len(one.manifest.within) :] if one.manifest is not None else "",
        )
        if self._is_told_twice(application, read, environment):
            return None
        only_undeployed = parent is not None and parent.only_undeployed
        if only_undeployed and self._is_deployed_elsewhere(application, read):
            self.rows.append(
                NotUnderstood(
                    what=f"Application {one.name}",
                    reason=f"what it deploys is judged in a named environment; {parent.release.name if parent else ''} is not deployed from here",
                    remedy=f"give {parent.release.name if parent else 'its parent'} its inputs to have it judged by itself",
                    environment=environment,
                    name=one.name,
                    blocking=False,
                )
            )
            return None
        self._environment(environment, why)
        self.accounted.update(
            source.chart for source in read.sources if isinstance(source, HelmSource) and source.revision is None
        )
        self.referenced.update(read.reads)
        self.accounted.update(path for path in read.paths if path in self.charts)
        return _Draft(
            release=Release(
                name=one.name,
                environment=environment,
                helm_release=read.helm_release,
                namespace=read.namespace,
                sources=read.sources,
                application=application,
                kube_version=read.kube_version,
                api_versions=read.api_versions,
                why=f"{one.why}; environment {environment}: {why}",
            ),
            environment_why=why,
            parent=parent,
            paths=read.paths,
            missing=read.missing,
            only_undeployed=only_undeployed,
        )

    def _is_told_twice(self, application: Application, read: Deployment, environment: str) -> bool:
        """Whether the same Application was found before: an app-of-apps that holds itself, a file and its render."""
        same = self._told.setdefault((environment, application.namespace, application.name), [])
        sources = _unplaced(read.sources)
        for place, other in same:
            if other == sources and (place is None or application.place is None or place == application.place):
                return True
        same.append((application.place, sources))
        return False

    def _is_deployed_elsewhere(self, application: Application, read: Deployment) -> bool:
        named = [one for one in self.drafts if one.release.environment != DEFAULT_ENVIRONMENT]
        if read.paths:
            return any(set(read.paths) & set(one.paths) for one in named)
        return any(one.release.application and one.release.application.name == application.name for one in named)

    def _configured_environment(self, one: Found) -> str | None:
        return next((environment for environment, _ in self._globs_of(one)), None)

    def _globs_of(self, one: Found) -> list[tuple[str, int]]:
        """Which `applications` globs of the config match its name or file: (environment, index of the glob)."""
        names = [one.name] if one.place is None else [one.name, one.place.path]
        return [
            (environment, index)
            for environment, configured in self.config.environments.items()
            for index, pattern in enumerate(configured.applications)
            if any(matches(pattern, name) for name in names)
        ]

    def _idle_globs(self) -> None:
        """A glob of the config that matches nothing: what it was written for is judged as another environment's."""
        for environment, configured in self.config.environments.items():
            for index, pattern in enumerate(configured.applications):
                if (environment, index) not in self.used_globs:
                    self._idle_glob(environment, "applications", index, f"{pattern!r} matches no Application here")
            for index, pattern in enumerate(configured.values):
                if not any(matches(pattern, path) for path in self.tree.files):
                    self._idle_glob(environment, "values", index, f"{pattern!r} matches no file here")

    def _idle_glob(self, environment: str, key: str, index: int, reason: str) -> None:
        table = ("environments", environment, key)
        line = self.config.lines.get((*table, index)) or self.config.lines.get(table)
        self.rows.append(
            NotUnderstood(
                what=f"{key} of [environments.{environment}]",
                reason=reason,
                remedy="mend the glob, or remove it: what it was meant for is judged as another environment's",
                place=Place(path=FILE, line=line),
                environment=environment,
            )
        )

    def _environment_of(self, one: Found, read: Deployment, inherited: tuple[str, str] | None) -> tuple[str, str]:
        """Name the environment of an Application, with the reason."""
        configured = self._configured_environment(one)
        if configured is not None:
            return configured, f"applications of {FILE}"
        if inherited is not None and inherited[0] != DEFAULT_ENVIRONMENT:
            return inherited  # a parent in `default` has no environment to hand on: its children may name theirs
        if one.hint is not None:
            return one.hint
        return self._named_environment(one, read)

    def _named_environment(self, one: Found, read: Deployment) -> tuple[str, str]:
        """Take the environment that values files name, then paths, then the name, then the destination."""
        by_file = {path: layout.of_values_file(path, self.known) for path in reversed(read.values)}
        by_values = layout.most_specific(name for names in by_file.values() for name in names)
        if len(by_values) == 1:
            (name,) = by_values
            return name, f"values file {next(path for path, names in by_file.items() if name in names)}"
        spec = mapping(one.body.get("spec"))
        paths = [f"{string(source.get('path')).strip('/')}/" for source in argo.sources_of(spec)]
        for path in [*paths, *([one.place.path] if one.place is not None else [])]:
            names = layout.of_path(path, self.known)
            if len(names) == 1:
                return names.pop(), f"path {path.rstrip('/')}"
        affix = layout.affix(one.name, self.known)
        if affix is not None:
            return affix, f"name {one.name}"
        destination = mapping(spec.get("destination"))
        server = string(destination.get("server"))
        cluster = next((one.name for one in self.config.clusters if one.server == server), "")
        for key, text in (
            ("name", string(destination.get("name"))),
            (f"server {server}, cluster", cluster),
            ("namespace", string(destination.get("namespace"))),
        ):
            found = layout.of_name(text, self.known)
            if found is not None:
                return found, f"destination {key} {text}"
        if len(by_values) > 1:
            return DEFAULT_ENVIRONMENT, f"its values files name several: {', '.join(sorted(by_values))}"
        return DEFAULT_ENVIRONMENT, "no values file, path or name names one"

    # --- app-of-apps --------------------------------------------------------------------------------------------------

    def _follow(self, level: Sequence[_Draft]) -> None:
        """Render what makes Applications, accept those, and so on; one call of render per level."""
        while level:
            parents = [draft for draft in level if self._makes_applications(draft.release)]
            level = self._children(parents, self._rendered(parents))

    def _rendered(self, drafts: Sequence[_Draft]) -> list[Rendered | Unrendered]:
        if not drafts:
            return []
        answers = list(self.render([draft.release for draft in drafts], dict(self.environments)))
        if len(answers) != len(drafts):
            raise AssertionError(f"render answered {len(answers)} of {len(drafts)} releases")
        return answers

    # --- AppProjects --------------------------------------------------------------------------------------------------

    def _project_in_file(self, manifest: Manifest) -> Project:
        names = layout.of_path(manifest.path or "", self.known)
        return Project(manifest=manifest, environment=names.pop() if len(names) == 1 else None)

    def _rendered_projects(self) -> list[Project]:
        """The AppProjects that charts make: only those charts are rendered, as their releases are anyway."""
        drafts = [
            draft
            for draft in self.drafts
            if any(
                isinstance(source, HelmSource) and self._chart_makes_projects(source.chart)
                for source in draft.release.sources
            )
        ]
        return [
            Project(manifest=manifest, environment=draft.release.environment)
            for draft, answer in zip(drafts, self._rendered(drafts), strict=True)
            if isinstance(answer, Rendered)
            for manifest in answer.manifests
            if manifest.kind == argo.PROJECT and manifest.api_version.startswith(argo.GROUP)
        ]

    def _chart_makes_projects(self, chart: str) -> bool:
        if chart not in self._makes_projects:
            self._makes_projects[chart] = any(
                self.files.mentions(path, _PROJECT) for path in self.files.below(_join(chart, "templates"))
            )
        return self._makes_projects[chart]

    def _children(self, parents: Sequence[_Draft], answers: Sequence[Rendered | Unrendered]) -> list[_Draft]:
        found: list[Found] = []
        owners: list[_Draft] = []
        for parent, answer in zip(parents, answers, strict=True):
            for one in _applications_in(answer):
                if parent.depth >= MAX_DEPTH:
                    self.rows.append(
                        NotUnderstood(
                            what=f"Application {one.name}",
                            reason=f"it is {MAX_DEPTH} levels below its root: {parent.release.name} makes Applications without end",
                            remedy="break the cycle of Applications",
                            environment=parent.release.environment,
                            name=one.name or None,
                        )
                    )
                else:
                    found.append(one)
                    owners.append(parent)
        return self._accept(found, owners) if found else []

    def _makes_applications(self, release: Release) -> bool:
        for source in release.sources:
            if isinstance(source, DirectorySource):
                # Files of the judged tree were all read; another commit's are known by rendering.
                if source.revision is not None:
                    return True
            elif isinstance(source, HelmSource):
                if source.revision is not None or self._chart_makes_applications(source.chart):
                    return True
                if any(self._file_makes_applications(file.path) for file in source.values_files):
                    return True
                texts = [source.inline.text] if source.inline else []
                texts += [parameter.value for parameter in source.parameters]
                if any(argo.makes_applications(text) for text in texts):
                    return True
        return False

    def _chart_makes_applications(self, chart: str) -> bool:
        if chart not in self._makes:
            own = [path for path in self.files.below(chart) if layout.chart_of(path, self.charts) == chart]
            inside = [path if chart == "." else path[len(chart) + 1 :] for path in own]
            self._makes[chart] = any(
                self._file_makes_applications(path)
                for path, name in zip(own, inside, strict=True)
                if name.startswith(("templates/", "charts/")) or "/" not in name
            )
        return self._makes[chart]

    def _file_makes_applications(self, path: str) -> bool:
        try:
            return argo.makes_applications(self.files.text(path))
        except Unreadable:
            return False

    # --- roots: charts of Applications that nothing in git points at ---------------------------------------------------

    def _environment_roots(self) -> None:
        """Charts that make Applications and have values per environment: a root in each of them."""
        drafts = []
        for chart in self._free_charts():
            if self._chart_makes_applications(chart.path):
                drafts += self._by_environment(chart)
        if not drafts:
            return
        answers = self._rendered(drafts)
        pointed = self._pointed_at(drafts, answers)
        kept = [
            (draft, answer)
            for draft, answer in zip(drafts, answers, strict=True)
            if not pointed & set(draft.paths) or pointed >= {path for one in drafts for path in one.paths}
        ]
        self._keep(draft for draft, _ in kept)
        self._follow(self._children([draft for draft, _ in kept], [answer for _, answer in kept]))

    def _other_roots(self) -> None:
        """Charts that make Applications without values per environment: rendered in `default`, if git has their inputs."""
        candidates = [
            chart
            for chart in self._free_charts()
            if self._chart_makes_applications(chart.path) and not self._by_environment(chart)
        ]
        given: list[_Draft] = []
        plain: list[tuple[layout.Chart, _Draft]] = []
        for chart in candidates:
            taking = self._takes_inputs(chart, candidates)
            if taking:
                given += [self._chart_draft(chart, name, f"inputs in {FILE}", ()) for name in taking]
            else:
                plain.append((chart, self._chart_draft(chart, DEFAULT_ENVIRONMENT, "nothing points at it", ())))
        if given:
            self._keep(given)
            self._follow(given)
        plain = [(chart, draft) for chart, draft in plain if chart.path not in self.accounted]
        self._default_roots(plain)

    def _default_roots(self, plain: Sequence[tuple[layout.Chart, _Draft]]) -> None:
        for _, draft in plain:
            draft.only_undeployed = True
        self._environment(DEFAULT_ENVIRONMENT, "charts that are not deployed from here")
        answers = self._rendered([draft for _, draft in plain])
        complete: list[tuple[_Draft, Rendered | Unrendered]] = []
        lacking: dict[str, str] = {}
        for (chart, draft), answer in zip(plain, answers, strict=True):
            lack = self._lacking_input(chart, answer)
            if lack is None:
                complete.append((draft, answer))
            else:
                lacking[chart.path] = lack
        pointed = self._pointed_at([draft for draft, _ in complete], [answer for _, answer in complete])
        complete = [(draft, answer) for draft, answer in complete if not pointed & set(draft.paths)]
        for chart, _ in plain:
            if chart.path in lacking and chart.path not in pointed:
                self.accounted.add(chart.path)
                self.rows.append(
                    NotUnderstood(
                        what=f"chart {chart.path}",
                        reason=f"it makes Applications, nothing in git deploys it, and {lacking[chart.path]}",
                        remedy=f"give it what its parent passes: [environments.NAME.inputs] in {FILE}",
                        place=Place(path=_join(chart.path, "Chart.yaml"), line=1),
                        name=chart.name,
                        blocking=False,
                    )
                )
        self._keep(draft for draft, _ in complete)
        self.undeployed += [draft.paths[0] for draft, _ in complete]
        self._follow(self._children([draft for draft, _ in complete], [answer for _, answer in complete]))

    def _takes_inputs(self, chart: layout.Chart, candidates: Sequence[layout.Chart]) -> list[str]:
        """Return the environments whose `inputs` are meant for this root.

        A root named for one environment (argo-bootstrap-ephemeral) takes that one's; the others take the rest's.
        """
        given = {name for name, one in self.config.environments.items() if one.inputs}
        own = layout.affix(chart.name, given | self.known)
        if own is not None:
            return [own] if own in given else []
        taken = {
            name
            for other in candidates
            for name in given
            if layout.without_affix(other.name, name) == chart.name and other.name != chart.name
        }
        return sorted(given - taken)

    def _lacking_input(self, chart: layout.Chart, answer: Rendered | Unrendered) -> str | None:
        """Say which input git does not have for a root rendered with its own values only; None when it has all."""
        if isinstance(answer, Unrendered):
            return f"it does not render with its own values ({answer.reason})" if answer.broken else None
        applications = _applications_in(answer)
        if not applications:
            return None  # no root after all
        unset = self._unset_values(chart)
        if unset:
            return f"its values leave {', '.join(unset[:3])} unset"
        for one in applications:
            self.repository.consider([one.body])
            read = deployment(one, self.repository, self.charts)
            if not isinstance(read, Deployment):
                continue
            if read.missing:
                return f"its Application {one.name} then names {read.missing[0]}, which is not here"
            unset = [key for source in read.sources for key in self._unset_by(source)]
            if unset:
                return f"its Application {one.name} then leaves {', '.join(unset[:3])} unset"
        return None

    def _unset_by(self, source: Source) -> list[str]:
        """Return the inputs that a source leaves open for a chart which is itself a root."""
        if not isinstance(source, HelmSource) or source.chart not in self.charts:
            return []
        others = [file for file in source.values_files if file.path != _join(source.chart, "values.yaml")]
        if not self._chart_makes_applications(source.chart) or others or source.parameters:
            return []
        try:
            given = yamlio.load(source.inline.text) if source.inline else None
        except yamlio.YamlError:
            return []
        return [key for key in self._unset_values(self.charts[source.chart]) if _get(given, key) is None]

    def _unset_values(self, chart: layout.Chart) -> list[str]:
        """Return keys that values.yaml declares without a value and a template reads: what a parent fills in."""
        path = _join(chart.path, "values.yaml")
        try:
            values = yamlio.load(self.files.text(path)) if path in self.files else None
        except (Unreadable, yamlio.YamlError):  # the render says so
            return []
        nulls = {f".{key}" for key in _nulls(values)}
        if not nulls:
            return []
        read: set[str] = set()
        for file in self.files.below(_join(chart.path, "templates")):
            if self.files.mentions(file, _NULL_INPUT):
                read.update(_NULL_INPUT.findall(self.files.text(file)))
        return sorted(key[1:] for key in nulls if any(one == key or one.startswith(f"{key}.") for one in read))

    def _pointed_at(self, drafts: Sequence[_Draft], answers: Sequence[Rendered | Unrendered]) -> set[str]:
        """Return the charts that Applications of other drafts' renders deploy."""
        pointed: set[str] = set()
        for draft, answer in zip(drafts, answers, strict=True):
            found = _applications_in(answer)
            self.repository.consider(one.body for one in found if one.kind == "Application")
            for one in found:
                read = deployment(one, self.repository, self.charts) if one.kind == "Application" else None
                if isinstance(read, Deployment):
                    pointed |= set(read.paths) - set(draft.paths)
        return pointed

    # --- charts by name -----------------------------------------------------------------------------------------------

    def _free_charts(self) -> list[layout.Chart]:
        """Return the charts that nothing accounts for yet, libraries left out."""
        return [chart for path, chart in self.charts.items() if path not in self.accounted and not chart.library]

    def _by_environment(self, chart: layout.Chart) -> list[_Draft]:
        found = self.values.by_chart.get(chart.path, {})
        if found:
            return [
                self._chart_draft(chart, environment, f"values file {paths[-1]}", paths)
                for environment, paths in sorted(found.items())
            ]
        named = self.values.of_chart_path(chart.path)
        return [] if named is None else [self._chart_draft(chart, named, f"path {chart.path}", ())]

    def _chart_draft(self, chart: layout.Chart, environment: str, why: str, values: Sequence[str]) -> _Draft:
        absent = layout.unvendored(self.files, chart)
        source: HelmSource | UnsupportedSource
        if absent:
            listed = ", ".join(f"{name} ({where or 'no repository'})" for name, where in absent)
            source = UnsupportedSource(
                reason=f"{chart.path} depends on {listed}, not in its charts/",
                remedy=f"`helm dependency build {chart.path}` and commit {_join(chart.path, 'charts')}/",
                description=f"{chart.path} (Helm)",
            )
        else:
            source = HelmSource(
                chart=chart.path,
                values_files=tuple(ValuesFile(path=path) for path in values),
                inline=self._inputs(environment),
            )
        self._environment(environment, why)
        return _Draft(
            release=Release(
                name=chart.path.replace("/", "-") if chart.name in self._shared_names else chart.name,
                environment=environment,
                helm_release=chart.name,
                namespace="default",
                sources=(source,),
                why=f"chart {chart.path}; environment {environment}: {why}",
            ),
            environment_why=why,
            paths=(chart.path,),
        )

    def _inputs(self, environment: str) -> InlineValues | None:
        """Write the config's inputs as values: what a parent outside git would pass."""
        configured = self.config.environments.get(environment)
        if configured is None or not configured.inputs:
            return None
        values: dict[str, Any] = {}
        for dotted, value in configured.inputs.items():
            at = values
            *parents, last = dotted.split(".")
            for part in parents:
                at = at.setdefault(part, {})
            at[last] = value
        return InlineValues(text=yamlio.dump(values), key="values")

    def _keep(self, drafts: Iterable[_Draft]) -> None:
        for draft in drafts:
            self.drafts.append(draft)
            self.accounted.update(draft.paths)
            for source in draft.release.sources:
                if isinstance(source, HelmSource):
                    self.referenced.update(file.path for file in source.values_files)

    def _charts_by_name(self) -> None:
        """Every chart that is left: in the environments its values files name, else once in `default`, or a row."""
        dependencies = {
            normal(_join(chart.path, where.removeprefix("file://")))
            for chart in self.charts.values()
            for _, where in chart.dependencies
            if where.startswith("file://")
        }
        for chart in list(self.charts.values()):
            if chart.path in self.accounted:
                continue
            place = Place(path=_join(chart.path, "Chart.yaml"), line=1)
            if chart.library:
                reason, remedy = (
                    "a library chart renders nothing by itself",
                    "nothing: the charts that use it are judged",
                )
            elif chart.path in dependencies and chart.path not in self.values.by_chart:
                reason, remedy = (
                    "only other charts use it, as a dependency",
                    "nothing: the charts that use it are judged",
                )
            else:
                drafts = self._by_environment(chart)
                if not drafts:
                    drafts = [self._chart_draft(chart, DEFAULT_ENVIRONMENT, "nothing deploys it from here", ())]
                    self.undeployed.append(chart.path)
                self._keep(drafts)
                continue
            self.accounted.add(chart.path)
            self.rows.append(
                NotUnderstood(
                    what=f"chart {chart.path}",
                    reason=reason,
                    remedy=remedy,
                    place=place,
                    name=chart.name,
                    blocking=False,
                )
            )

    # --- what other tools deploy --------------------------------------------------------------------------------------

    def _other_tools(self) -> None:
        """Name deployments of tools that are not rendered: a Kustomize overlay, Flux, helmfile."""
        pointed = {path for draft in self.drafts for path in draft.paths}
        used = self._used_kustomizations()
        for path in self.tree.files:
            folder, _, file = path.rpartition("/")
            chart = layout.chart_of(path, self.charts)
            if file in ("kustomization.yaml", "kustomization.yml", "Kustomization"):
                inside_chart = chart is not None and (folder or ".") != chart
                if (folder or ".") in pointed or (folder or ".") in used or inside_chart or self._is_flux(path):
                    continue
                names = layout.of_path(f"{folder}/", self.known)
                environment = names.pop() if len(names) == 1 else None
                self.rows.append(
                    NotUnderstood(
                        what=f"kustomization {folder or '.'}",
                        reason="no Application points at it, and this version does not render Kustomize",
                        remedy="commit `kustomize build` output as plain manifests to have it judged",
                        place=Place(path=path, line=1),
                        environment=environment,
                        blocking=environment is not None,
                    )
                )
            elif file in ("helmfile.yaml", "helmfile.yml", "helmfile.yaml.gotmpl"):
                self.rows.append(
                    NotUnderstood(
                        what=f"helmfile {path}",
                        reason="this version does not read helmfile",
                        remedy="deploy with Applications, or name values per environment (values-prod.yaml)",
                        place=Place(path=path, line=1),
                    )
                )
        flux = [path for path in self.tree.files if path.endswith((".yaml", ".yml")) and self._is_flux(path)]
        if flux:
            self.rows.append(
                NotUnderstood(
                    what=f"{len(flux)} Flux objects",
                    reason="Flux deploys them, which this tool does not render",
                    remedy="use flux-local",
                    place=Place(path=flux[0], line=1),
                )
            )

    def _is_flux(self, path: str) -> bool:
        return self.files.mentions(path, _FLUX) and layout.chart_of(path, self.charts) is None

    def _used_kustomizations(self) -> set[str]:
        """Return the folders that another kustomization takes in."""
        used: set[str] = set()
        for path in self.tree.files:
            folder, _, file = path.rpartition("/")
            if file not in ("kustomization.yaml", "kustomization.yml", "Kustomization"):
                continue
            try:
                body = mapping(yamlio.load(self.files.text(path)))
            except (Unreadable, yamlio.YamlError):
                continue
            for key in ("resources", "bases", "components"):
                entries = body.get(key)
                for entry in entries if isinstance(entries, list) else []:
                    local = normal(_join(folder or ".", string(entry)))
                    if local is not None and local != (folder or "."):
                        used.add(local)
        return used

    # --- the end ------------------------------------------------------------------------------------------------------

    def _environment(self, name: str, why: str) -> None:
        if name in self.environments:
            return
        if name == DEFAULT_ENVIRONMENT:
            why = "what names no environment, and charts that nothing deploys from here"
        configured = self.config.environments.get(name)
        if configured is None:
            self.environments[name] = Environment(
                name=name, protected=layout.is_protected(name), kubernetes=self.kubernetes, why=why
            )
            return
        protected = configured.protected
        self.environments[name] = Environment(
            name=name,
            protected=layout.is_protected(name) if protected is None else protected,
            kubernetes=configured.kubernetes or self.kubernetes,
            why=f"{FILE}:{configured.line}",
            configured=True,
            owners=configured.owners,
            sync=configured.sync,
            required=configured.required,
            api_versions=configured.api_versions,
            inputs=configured.inputs,
        )

    def _finished(self) -> Repo:
        names = _names(self.drafts)
        releases = [self._named(draft, names) for draft in self.drafts]
        for name in self.config.environments:
            self._environment(name, FILE)
        wanted = {release.environment for release in releases} | set(self.config.environments)
        return Repo(
            tree=self.tree,
            environments=tuple(
                sorted(
                    (one for name, one in self.environments.items() if name in wanted),
                    key=lambda one: (one.protected, one.name),
                )
            ),
            releases=tuple(sorted(releases, key=lambda one: (one.environment, one.name))),
            not_understood=tuple(self.rows),
            unreferenced_values=tuple(self._unreferenced()),
            undeployed=tuple(sorted(self.undeployed)),
            notes=tuple(self.repository.notes),
            projects=(*self.projects, *self._rendered_projects()),
        )

    def _named(self, draft: _Draft, names: Mapping[int, str]) -> Release:
        release = replace(draft.release, name=names[id(draft)])
        if draft.parent is None or release.application is None:
            return release
        parent = f"{draft.parent.release.environment}/{names[id(draft.parent)]}"
        return replace(release, application=replace(release.application, parent=parent))

    def _unreferenced(self) -> list[str]:
        found = []
        for path in self.values.all:
            chart = layout.chart_of(path, self.charts)
            own = chart is not None and path in (_join(chart, "values.yaml"), _join(chart, "values.yml"))
            if path in self.referenced or own:
                continue
            if chart is not None and layout.read_by_template(self.files, chart, path):
                continue
            found.append(path)
        return found


_PROJECT = re.compile(r"kind[\"']?:\s*[\"']?AppProject(?![\w.-])")
_FLUX = re.compile(r"^apiVersion:\s*[\"']?(?:helm|kustomize|source)\.toolkit\.fluxcd\.io/", re.MULTILINE)


def _template_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an ApplicationSet's template where its sources name their repo and path without parameters."""
    template = mapping(mapping(body.get("spec")).get("template"))
    sources = argo.sources_of(mapping(template.get("spec")))
    plain = [one for one in sources if "{{" not in string(one.get("repoURL")) + string(one.get("path"))]
    return {"spec": {"sources": plain}}


def _applications_in(answer: Rendered | Unrendered) -> list[Found]:
    if isinstance(answer, Unrendered):
        return []
    return [
        Found(
            body=manifest.body,
            why=f"{manifest.kind} rendered by {answer.release.environment}/{answer.release.name}",
            template=manifest.template,
            manifest=manifest,
            base=manifest.within,
        )
        for manifest in answer.manifests
        if _is_application(manifest)
    ]


def _is_project(found: Found) -> bool:
    return found.kind == argo.PROJECT


def _is_application(manifest: Manifest) -> bool:
    return manifest.kind in argo.KINDS and manifest.api_version.startswith(argo.GROUP)


def _unplaced(sources: Sequence[Any]) -> list[Any]:
    """Sources without the places that name their parts: equal when they deploy the same."""
    made = []
    for source in sources:
        if isinstance(source, HelmSource):
            made.append(
                replace(
                    source,
                    values_files=tuple(replace(one, place=None) for one in source.values_files),
                    inline=replace(source.inline, place=None) if source.inline else None,
                    parameters=tuple(replace(one, place=None) for one in source.parameters),
                    file_places=(),
                )
            )
        else:
            made.append(source)
    return made


def _names(drafts: Sequence[_Draft]) -> dict[int, str]:
    """Give each draft (by identity) its name in ids, unique per environment.

    The Application's name without the environment's own prefix or suffix, where that stays unique.
    """
    made: dict[int, str] = {}
    environments = {draft.release.environment for draft in drafts}
    for environment in environments:
        here = [draft for draft in drafts if draft.release.environment == environment]
        short = {id(draft): layout.without_affix(draft.release.name, environment) for draft in here}
        count = Counter(short.values())
        chosen = {id(draft): short[id(draft)] if count[short[id(draft)]] == 1 else draft.release.name for draft in here}
        taken: Counter[str] = Counter()
        for draft in here:
            name = chosen[id(draft)]
            taken[name] += 1
            while taken[name] > 1 and f"{name}-{taken[name]}" in chosen.values():
                taken[name] += 1
            made[id(draft)] = name if taken[name] == 1 else f"{name}-{taken[name]}"
    return made


def _nulls(values: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys whose value is null."""
    if not isinstance(values, Mapping):
        return []
    found = []
    for key, value in values.items():
        if value is None:
            found.append(f"{prefix}{key}")
        else:
            found += _nulls(value, f"{prefix}{key}.")
    return found


def _get(values: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        values = mapping(values).get(key)
    return values


def _join(folder: str, path: str) -> str:
    return path if folder == "." else f"{folder}/{path}"
