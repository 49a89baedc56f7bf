"""One run over one tree: discover -> render -> rules -> evaluate. Both fronts, pytest and the command line, drive this.

No logic of its own but the order of the calls: which cases there are, what evidence a case gets, when all is said.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import platformdirs

from releasegate import config as configuration
from releasegate import evaluate, git, schemas, sources, yamlio
from releasegate.cache import Cache
from releasegate.discover import discover
from releasegate.manifests import CRD_KIND, manifests_of
from releasegate.model import (
    REPO_NODE,
    CaseId,
    Environment,
    HelmSource,
    Level,
    Manifest,
    Outcome,
    Release,
    Rendered,
    Scope,
    Tree,
    Unjudged,
    Unrendered,
    Verdict,
)
from releasegate.render import Lint, Renderer
from releasegate.rules import Evidence, Rule, Shared, catalogue, rego
from releasegate.tools import store
from releasegate.usage import UsageError, bundle_version, near


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of the tree to judge; empty means all. `rules` are globs over rule ids."""

    environments: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Nothing is left out."""
        return not (self.environments or self.releases or self.rules)


SHOWN_NAMES = 5
MAX_TEXT = 32 << 20  # a larger file holds no CRD that anybody wrote


class Run:
    """One run. Use as a context manager: at its end no process, no copy and no temporary folder is left."""

    def __init__(
        self,
        root: Path,
        tree: Tree,
        config: configuration.Config,
        *,
        selection: Selection,
        kubernetes: str,
        cache: bool,
        staged: bool = False,
    ) -> None:
        """Discover; roots of app-of-apps are rendered here. Raises UsageError, ConfigError, git.GitError."""
        self.root = root
        self.tree = tree
        self.config = config
        self.selection = selection
        self._narrowed = not selection.everything
        self._began = time.perf_counter()
        self._verdicts: dict[CaseId, Verdict] = {}
        self._renders: dict[str, Rendered | Unrendered] = {}
        self._revisions: dict[str, Tree | None] = {}
        self._stack = contextlib.ExitStack()
        tool = self.helm = _find(config, "helm")
        worker = store.find("releasegate-helm-worker")
        self.shared = Shared(
            tree,
            find=lambda name: _find(config, name),
            cache=Cache(cache_folder() / "answers" if cache else None),
            whole=lambda: self._whole_tree(staged=staged),
        )
        self._tools = tuple(one.identity for one in (tool, worker) if isinstance(one, store.Tool))
        self.renderer = self._stack.enter_context(
            Renderer(
                tree,
                tool=tool,
                worker=worker if isinstance(worker, store.Tool) else None,
                cache=cache_folder() / "renders" if cache else None,
                at_revision=self._at_revision,
                api_versions=self._api_versions,
            )
        )
        # Before the renderer ends: what works in the background asks it for renders.
        self._stack.callback(self.shared.close)
        try:
            self._policies = rego.of_repo(self.shared.files)
            rules = sorted((*catalogue(), *rego.rules(self._policies)), key=lambda rule: rule.id)
            self.rules: Mapping[str, Rule] = {rule.id: rule for rule in rules}
            for one in config.environments.values():
                if one.kubernetes is not None:
                    bundle_version(one.kubernetes)
            config.check_rules((rule.id, rule.kind) for rule in rules)
            self.repo = discover(
                tree, config, self.renderer.batch, at_revision=self._at_revision, kubernetes=kubernetes
            )
            self._environments = {one.name: one for one in self.repo.environments}
            self._releases = {one.id: one for one in self.repo.releases}
            self._check_selection()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End every process and remove every copy."""
        self.close()

    def close(self) -> None:
        """End every process and remove every copy."""
        self._stack.close()

    # --- which cases ------------------------------------------------------------------------------------------------

    @functools.cached_property
    def cases(self) -> tuple[CaseId, ...]:
        """Every case of this run in the order it is judged: releases, environments, repo, expectations last."""
        return tuple(case for case in self._all_cases() if self._selected(case))

    @property
    def complete(self) -> bool:
        """Nothing was left out, so absence of subjects means something."""
        return not self._narrowed

    def level(self, case: CaseId) -> Level:
        """The level of the case's rule in its environment; expectations are facts."""
        rule = self.rules.get(case.rule)
        if rule is None:
            return Level.ON
        environment = self._environments[case.environment] if case.environment is not None else None
        return self.config.level(rule.id, rule.kind, environment)

    def _all_cases(self) -> Iterator[CaseId]:
        by_scope = {scope: [rule for rule in self.rules.values() if rule.scope is scope] for scope in Scope}
        for environment in self.repo.environments:
            for release in self.repo.releases:
                if release.environment == environment.name:
                    for rule in by_scope[Scope.RELEASE]:
                        yield CaseId(rule=rule.id, environment=environment.name, release=release.name)
            for rule in by_scope[Scope.ENVIRONMENT]:
                yield CaseId(rule=rule.id, environment=environment.name)
        for rule in by_scope[Scope.REPO]:
            yield CaseId(rule=rule.id)
        if self.complete:
            for environment in self.repo.environments:
                for family in self._expected(environment):
                    yield CaseId(rule=f"expect/{family}", environment=environment.name)
            yield CaseId(rule=evaluate.DISCOVERED)

    def _expected(self, environment: Environment) -> Sequence[str]:
        """The families that must have subjects here; `default` holds what nobody deploys from here: none."""
        if environment.name == "default" and not environment.configured:
            return ()
        return tuple(dict.fromkeys((*evaluate.EXPECTED_FAMILIES, *self.config.expect)))

    def _selected(self, case: CaseId) -> bool:
        if self.level(case) is Level.OFF:
            return False
        chosen = self.selection
        return (
            (not chosen.environments or case.environment in chosen.environments)
            and (not chosen.releases or case.release in chosen.releases)
            and (not chosen.rules or any(fnmatch.fnmatchcase(case.rule, glob) for glob in chosen.rules))
        )

    def _check_selection(self) -> None:
        known = {one.name for one in self.repo.environments}
        if REPO_NODE in known:
            raise UsageError(
                f"an environment cannot be called {REPO_NODE!r}, which stands for the whole repo in ids; "
                f"it comes from: {self._environments[REPO_NODE].why}"
            )
        for name in self.selection.environments:
            if name not in known:
                raise UsageError(f"no environment {name!r} here; there are: {', '.join(sorted(known)) or 'none'}")
        releases = {one.name for one in self.repo.releases}
        for name in self.selection.releases:
            if name not in releases:
                raise UsageError(f"no release {name!r} here{near(name, releases)}; `releasegate discover` lists them")
        ids = set(self.rules)
        for glob in self.selection.rules:
            if not any(fnmatch.fnmatchcase(rule, glob) for rule in ids):
                raise UsageError(f"no rule matches {glob!r}{near(glob, ids)}; `releasegate rules` lists them")

    # --- judging ----------------------------------------------------------------------------------------------------

    def start(self, cases: Iterable[CaseId]) -> None:
        """Begin rendering, in the background, what these cases need. Fewer than all cases is a narrowed run."""
        cases = tuple(cases)
        self._narrowed = not self.selection.everything or len(cases) < len(self.cases)
        releases = {(case.environment, case.release) for case in cases}
        wide = {case.environment for case in cases if case.release is None and self._needs_render(case)}
        needed = [
            one
            for one in self.repo.releases
            if (one.environment, one.name) in releases or one.environment in wide or None in wide
        ]
        self.renderer.start(needed, self._environments)
        self._start_policies(cases, needed)
        for case in cases:
            rule = self.rules.get(case.rule)
            if rule is not None and rule.ahead is not None:
                with contextlib.suppress(Exception):  # raised again, and told, in the rule's own case
                    rule.ahead(self._evidence(case, rule))
        if self.config.helm_lint:
            for one in needed:
                self.renderer.start_lint(one, self._environments[one.environment])

    def _start_policies(self, cases: Iterable[CaseId], needed: Sequence[Release]) -> None:
        """Ask conftest in the background, as the renders end."""
        asked: dict[str, set[str]] = {}
        for case in cases:
            if case.release is not None and case.rule.startswith(f"{rego.FOLDER}/"):
                asked.setdefault(f"{case.environment}/{case.release}", set()).add(case.rule)
        if asked:
            bundles = [bundle for bundle in (rego.shipped(), self._policies) if bundle.policies]
            rego.judge_of(self.shared).start(asked, needed, bundles, self.rendered)

    def _needs_render(self, case: CaseId) -> bool:
        """Expectations ask for their cases, which are in the run themselves."""
        rule = self.rules.get(case.rule)
        return rule is not None and rule.needs_render

    def judge(self, case: CaseId) -> Verdict:
        """Judge one case, once; the verdict is kept for the report."""
        verdict = self._judge(case)
        self._verdicts[case] = verdict
        return verdict

    def record(self, verdict: Verdict) -> None:
        """Keep a verdict that another process reached."""
        self._verdicts[verdict.id] = verdict

    def _judge(self, case: CaseId) -> Verdict:
        if case.rule.startswith("expect/"):
            return self._judge_expectation(case)
        rule = self.rules[case.rule]
        return evaluate.judge(rule, case, self._evidence(case, rule), self.level(case))

    def _evidence(self, case: CaseId, rule: Rule) -> Evidence:
        environment = self._environments[case.environment] if case.environment is not None else None
        releases = self._releases_of(case) if case.release is not None or rule.needs_render else []
        return Evidence(
            repo=self.repo,
            config=self.config,
            environment=environment,
            release=releases[0] if case.release is not None else None,
            renders=tuple(self.rendered(one) for one in releases),
            shared=self.shared,
            schemas=self.schemas_of(environment) if environment is not None and rule.needs_render else None,
            render_again=self._render_again,
            render_with=lambda release, texts: self.renderer.substituted(
                release, self._environments[release.environment], texts
            ),
            lint=self._lint if self.config.helm_lint else None,
        )

    def _releases_of(self, case: CaseId) -> Sequence[Release]:
        """The release of a case, or all of its environment, or of the repo."""
        if case.release is not None:
            return [self._releases[f"{case.environment}/{case.release}"]]
        return [one for one in self.repo.releases if case.environment in (None, one.environment)]

    def _judge_expectation(self, case: CaseId) -> Verdict:
        if not self.complete:
            return evaluate.unasked(case, "expectations are judged in complete runs only")
        if case.rule == evaluate.DISCOVERED:
            return evaluate.discovered(case, self.repo, tuple(self._late_applications()))
        family = f"{case.rule.removeprefix('expect/')}/"
        members = [
            one
            for one in self.cases
            if one.rule.startswith(family)
            # The renders that a rule of the whole repo looked at may all be another environment's.
            and (
                one.environment == case.environment
                or (one.environment is None and not self.rules[one.rule].needs_render)
            )
        ]
        # Under xdist other workers judged most of them: judged here again rather than believed.
        return evaluate.expectation(case, [self._verdicts.get(one) or self.judge(one) for one in members])

    def rendered(self, release: Release) -> Rendered | Unrendered:
        """What a release renders to, waiting for it."""
        if release.id not in self._renders:
            self._renders[release.id] = self.renderer.result(release, self._environments[release.environment])
        return self._renders[release.id]

    def _render_again(self, release: Release) -> Rendered | Unrendered:
        return self.renderer.again(release, self._environments[release.environment])

    def _lint(self, release: Release) -> list[Lint]:
        return self.renderer.lint(release, self._environments[release.environment])

    def _late_applications(self) -> Iterator[Unjudged]:
        """Applications in a render that discovery did not follow: a deployment nobody judged."""
        known = {one.application.name for one in self.repo.releases if one.application is not None}
        known |= {row.name for row in self.repo.not_understood if row.name is not None}
        for release in self.repo.releases:
            rendered = self.rendered(release)
            if not isinstance(rendered, Rendered):
                continue
            for manifest in rendered.manifests:
                is_application = manifest.kind == "Application" and manifest.api_version.startswith("argoproj.io/")
                if is_application and manifest.name not in known:
                    yield Unjudged(
                        reason=f"Application {manifest.name} is rendered by {rendered.release.id} and was not followed",
                        remedy="name its environment in releasegate.toml, or report this layout",
                        group="Applications that were not followed",
                        manifest=manifest,
                    )

    # --- schemas ----------------------------------------------------------------------------------------------------

    def schemas_of(self, environment: Environment) -> schemas.Schemas:
        """The schemas of an environment: the bundle, CRDs of the tree, and CRDs its charts render."""
        key = environment.name
        if key not in self._schemas:
            crds = list(self._tree_crds)
            for release in self.repo.releases:
                if release.environment == environment.name and self._mentions_crds(release):
                    rendered = self.rendered(release)
                    if isinstance(rendered, Rendered):
                        crds += [one for one in rendered.manifests if one.kind == CRD_KIND]
            self._schemas[key] = self._load_schemas(environment.kubernetes, crds)
        return self._schemas[key]

    @functools.cached_property
    def _schemas(self) -> dict[str, schemas.Schemas]:
        return {}

    def custom_kinds(self) -> dict[tuple[str, str], bool]:
        """Every custom kind that the releases render, by (apiVersion, kind), and whether each environment judges it."""
        found: dict[tuple[str, str], bool] = {}
        self.renderer.start(self.repo.releases, self._environments)
        for release in self.repo.releases:
            rendered = self.rendered(release)
            known = self.schemas_of(self._environments[release.environment])
            for manifest in rendered.manifests if isinstance(rendered, Rendered) else ():
                key = manifest.api_version, manifest.kind
                if all(key) and known.is_custom(*key):
                    found[key] = found.get(key, True) and known.known(*key)
        return dict(sorted(found.items()))

    def unrendered(self) -> list[str]:
        """Ids of the releases whose objects nobody has seen."""
        return [one.id for one in self.repo.releases if not isinstance(self.rendered(one), Rendered)]

    def _load_schemas(self, kubernetes: str, crds: Sequence[Manifest]) -> schemas.Schemas:
        return schemas.Schemas.load(
            kubernetes, crds=crds, locations=self.config.schema_locations, root=Path(self.tree.root)
        )

    def _api_versions(self, environment: Environment) -> tuple[str, ...]:
        """What Argo would pass as --api-versions: the bundle's, and groups whose CRD is a file of the tree."""
        if environment.kubernetes not in self._served:
            self._served[environment.kubernetes] = self._load_schemas(
                environment.kubernetes, self._tree_crds
            ).api_versions()
        return self._served[environment.kubernetes]

    @functools.cached_property
    def _served(self) -> dict[str, tuple[str, ...]]:
        return {}

    @functools.cached_property
    def _crd_files(self) -> frozenset[str]:
        """Files of the tree that mention a CRD."""
        found = set()
        for path in self.tree.files:
            if path.endswith((".yaml", ".yml", ".json", ".tpl")):
                if CRD_KIND in _text_inside(Path(self.tree.root), path):
                    found.add(path)
            elif path.endswith(".tgz"):
                found.add(path)
        return frozenset(found)

    @functools.cached_property
    def _tree_crds(self) -> tuple[Manifest, ...]:
        """CRDs that are plain files: crds/ folders and anything else that needs no rendering."""
        found: list[Manifest] = []
        for path in sorted(self._crd_files):
            if path.endswith((".tgz", ".tpl")) or "/templates/" in path:
                continue
            try:
                documents = yamlio.documents(_text_inside(Path(self.tree.root), path))
            except yamlio.YamlError:
                continue  # a broken file is told by the release or rule that reads it
            for document in documents:
                made = manifests_of(document, path=path)
                if not isinstance(made, str):
                    found += [one for one in made if one.kind == CRD_KIND]
        return tuple(found)

    def _mentions_crds(self, release: Release) -> bool:
        return any(
            path.startswith(f"{source.chart}/") and (path.endswith(".tgz") or "/templates/" in path)
            for source in release.sources
            if isinstance(source, HelmSource)
            for path in self._crd_files
        )

    def _whole_tree(self, *, staged: bool) -> Tree:
        top = git.top(self.root) or self.root
        return git.index_tree(top, self._stack.enter_context(_temporary_folder())) if staged else git.work_tree(top)

    def _at_revision(self, revision: str) -> Tree | None:
        if revision not in self._revisions:
            folder = self._stack.enter_context(_temporary_folder())
            self._revisions[revision] = git.commit_tree(self.root, revision, folder)
        return self._revisions[revision]

    def _locator(self) -> sources.Locator:
        by_id = {one.id: one for one in self.repo.releases}

        def rendered(release: str) -> Rendered | Unrendered | None:
            one = by_id.get(release)
            return None if one is None else self.renderer.result(one, self._environments[one.environment])

        return sources.Locator(
            self.shared.files,
            lambda release, texts, templates: self.renderer.begin_probe(
                release, self._environments[release.environment], texts, templates
            ),
            rendered,
        )

    # --- the end ----------------------------------------------------------------------------------------------------

    def _unread_values(self) -> Iterator[str]:
        """What an Application that reads another environment's values leaves behind."""
        unread = self.repo.unreferenced_values
        if unread:
            more = len(unread) - SHOWN_NAMES
            said = f" and {more} more (`releasegate discover` lists them)" if more > 0 else ""
            yield f"values files that no release reads: {', '.join(unread[:SHOWN_NAMES])}{said}"

    def finish(self) -> evaluate.Report:
        """Put all verdicts together. A case without a verdict (an interrupted run) counts as not-evaluated."""
        verdicts = [self._verdicts.get(case) or _missing(case) for case in self.cases]
        verdicts = sources.resolve(verdicts, self._renders, self._locator())
        packages = sorted({f"{one.origin} holds {one.id}" for one in self.rules.values() if one.origin is not None})
        narrowed = () if self.complete else ("narrowed run: expectations are judged in complete runs only",)
        return evaluate.Report(
            repo=self.repo,
            verdicts=tuple(verdicts),
            causes=evaluate.causes(verdicts, self.rules),
            exit_code=evaluate.exit_code(verdicts),
            complete=self.complete,
            head=self.tree.head,
            base=None,
            config_sha256=self.config.sha256,
            tools=(
                *(one for one in self._tools if one.name == "helm" or self.renderer.worker_used),
                *(one.identity for one in self.shared.used),
            ),
            objects={key: len(one.manifests) if isinstance(one, Rendered) else 0 for key, one in self._renders.items()},
            seconds=time.perf_counter() - self._began,
            notes=(*self.repo.notes, *self._unread_values(), *packages, *narrowed),
        )


def _find(config: configuration.Config, name: str) -> store.Tool | store.ToolMissing:
    """The program that judges, at the version the config asks for, saying why it is that one."""
    pin = config.pin(name)
    if pin is None:
        found = store.find(name)
        why = "releasegate.toml names neither argocd nor [tools] helm" if name == "helm" else None
    else:
        found, why = store.find(name, pinned=pin.version, why=pin.why), pin.why
    return replace(found, identity=replace(found.identity, why=why)) if isinstance(found, store.Tool) else found


def _missing(case: CaseId) -> Verdict:
    reason = "the run ended before this case"
    remedy = "run it again"
    return Verdict(
        id=case,
        level=Level.ON,
        outcome=Outcome.NOT_EVALUATED,
        subjects=0,
        unjudged=(Unjudged(reason=reason, remedy=remedy, group=reason),),
        reason=reason,
        remedy=remedy,
    )


@contextlib.contextmanager
def open_run(
    root: Path,
    *,
    selection: Selection | None = None,
    kubernetes: str | None = None,
    staged: bool = False,
) -> Iterator[Run]:
    """Open a run over the work tree at `root`, or over the index with `staged`.

    Raises UsageError, config.ConfigError, git.GitError. In CI (environment variable CI) a dirty tree is refused and
    no render cache is used: what is judged is what is committed, and nothing is carried between runs.
    """
    root = root.resolve()
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder")
    in_ci = os.environ.get("CI", "") not in ("", "0", "false")
    with contextlib.ExitStack() as stack:
        if staged:
            tree = git.index_tree(root, stack.enter_context(_temporary_folder()))
        else:
            tree = _on_target_branch(git.work_tree(root), in_ci=in_ci)
            if in_ci and git.top(root) is not None and git.is_dirty(root):
                raise UsageError(
                    f"{root} has uncommitted changes; in CI the committed tree is judged. Commit or remove them"
                )
        config = configuration.load(Path(tree.root))
        if kubernetes is not None:
            config = replace(
                config,
                kubernetes=kubernetes,
                environments={name: replace(one, kubernetes=None) for name, one in config.environments.items()},
            )
        yield stack.enter_context(
            Run(
                root,
                tree,
                config,
                selection=selection or Selection(),
                kubernetes=bundle_version(config.kubernetes),
                cache=not in_ci or "RELEASEGATE_CACHE" in os.environ,
                staged=staged,
            )
        )


def _text_inside(root: Path, path: str) -> str:
    """The text of a file of the tree; "" for a link that leaves it, a device, what is too large or no text."""
    real = Path(os.path.realpath(root / path))
    try:
        inside = real.is_relative_to(os.path.realpath(root)) and real.is_file()
        return real.read_text(encoding="utf-8") if inside and real.stat().st_size <= MAX_TEXT else ""
    except (OSError, UnicodeDecodeError):
        return ""  # told by the release or rule that reads the file


def _on_target_branch(tree: Tree, *, in_ci: bool) -> Tree:
    """In CI a detached checkout has no branch: what is judged is what the target branch is about to become."""
    target = os.environ.get("GITHUB_BASE_REF") or os.environ.get("GITHUB_REF_NAME")
    return replace(tree, branch=target) if in_ci and target else tree


def cache_folder() -> Path:
    """The desk's cache of renders and answers: RELEASEGATE_CACHE, else the platform's cache folder."""
    return Path(os.environ.get("RELEASEGATE_CACHE") or platformdirs.user_cache_dir("releasegate"))


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    import tempfile  # noqa: PLC0415 - only where another tree is needed

    with tempfile.TemporaryDirectory(prefix="releasegate-tree-") as folder:
        yield Path(folder)
