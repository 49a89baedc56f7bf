"""Rules are functions; a folder is a category, a file is a rule, its id is the path.

A rule file holds one function under `@rule`. Its docstring is the page (first line: the truth the rule keeps; then
`Why:` and `Fix:` paragraphs, then `Bad:` and `Good:` YAML examples). A rule never counts: it names its *subjects*, and evaluate
counts them, hands them over, and collects what the rule yields about them. Zero subjects is never "passed".
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from releasegate.cache import Cache
from releasegate.config import Config
from releasegate.model import (
    Environment,
    Finding,
    Kind,
    Release,
    Rendered,
    Repo,
    Scope,
    Tree,
    Unjudged,
    Unrendered,
)
from releasegate.schemas import Schemas

if TYPE_CHECKING:  # a sixth of the start of `releasegate lint`, which renders nothing
    from releasegate.discover.files import Files
    from releasegate.render import Lint
    from releasegate.tools.store import Tool, ToolMissing

Made = TypeVar("Made")


class Shared:
    """What all cases of one run share: the files of the tree, the programs, and what is worked out once for many cases.

    `find` looks up a program by name at the version the config pins; None: there is none. `cache` keeps answers
    between runs at a desk, and nothing in the required check. `whole` gives the enclosing work tree where ROOT is a
    folder of it.
    """

    def __init__(
        self,
        tree: Tree,
        *,
        find: Callable[[str], Tool | ToolMissing] | None = None,
        cache: Cache | None = None,
        whole: Callable[[], Tree] | None = None,
    ) -> None:
        """Nothing is read or looked up yet."""
        self.tree = tree
        self.cache = cache or Cache(None)
        self._find = find
        self._whole = whole
        self._tools: dict[str, Tool | ToolMissing] = {}
        self._once: dict[Hashable, Any] = {}
        self._ends = contextlib.ExitStack()

    @functools.cached_property
    def files(self) -> Files:
        """The files of the judged tree; reads nothing outside it."""
        from releasegate.discover.files import Files  # noqa: PLC0415 - plain manifests need none of it

        return Files(self.tree)

    @functools.cached_property
    def top(self) -> Files:
        """The files of the enclosing work tree, paths from its top: what CODEOWNERS and workflows are about."""
        from releasegate.discover.files import Files  # noqa: PLC0415 - as above

        return Files(self._whole()) if self._whole is not None and self.tree.prefix else self.files

    def tool(self, name: str) -> Tool | ToolMissing:
        """Return the program that judges; its identity goes into the receipt. A missing one is for an Unjudged."""
        from releasegate.tools import store  # noqa: PLC0415 - as above

        if name not in self._tools:
            find = self._find or (lambda name: store.ToolMissing(name, "not looked for", "releasegate tools list"))
            self._tools[name] = find(name)
        return self._tools[name]

    @property
    def used(self) -> tuple[Tool, ...]:
        """The programs that were asked for and found."""
        from releasegate.tools import store  # noqa: PLC0415 - as above

        return tuple(one for one in self._tools.values() if isinstance(one, store.Tool))

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return `make()`, called for the first case of the run that asks under this key. Start it with the rule's id."""
        if key not in self._once:
            self._once[key] = make()
        made: Made = self._once[key]
        return made

    def on_close(self, end: Callable[[], None]) -> None:
        """Call `end` when the run is over, however it ends: for what works in the background."""
        self._ends.callback(end)

    def close(self) -> None:
        """End what works in the background."""
        self._ends.close()


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All that a rule may look at in one case.

    `renders` are the renders of the case's scope: one for a release, all of the environment for an environment.
    `schemas` are the schemas of the environment (None for repo scope). `render_again` renders a release a second
    time, past every cache; `render_with` renders it with other texts for some of its files (path -> text, "inline" ->
    the Application's inline values). `lint` runs `helm lint` for the charts of a release; None where it is not asked
    for. For repo scope `renders` are those of all environments, none for a rule that needs no render.
    """

    repo: Repo
    config: Config
    environment: Environment | None
    release: Release | None
    renders: tuple[Rendered | Unrendered, ...]
    shared: Shared
    schemas: Schemas | None = None
    render_again: Callable[[Release], Rendered | Unrendered] | None = None
    render_with: Callable[[Release, Mapping[str, str]], Rendered | Unrendered] | None = None
    lint: Callable[[Release], Sequence[Lint]] | None = None

    @property
    def rendered(self) -> tuple[Rendered, ...]:
        """Those that rendered."""
        return tuple(render for render in self.renders if isinstance(render, Rendered))


Check = Callable[[Any, Evidence], Iterable[Finding | Unjudged]]
Subjects = Callable[[Evidence], Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule as the catalogue knows it.

    `subjects(evidence)` says what will be judged; `check(subject, evidence)` judges one of them, or with
    `together=True` gets the whole sequence at once (rules about sets: duplicates). `family` is the first part of the
    id: what `expect = [...]` and `expect/<family>` name. `needs_render=False`: judges releases that did not render too.
    `ahead(evidence)` starts in the background what the rule will ask an outside program, before its turn comes: for
    a rule of the whole repo that needs no render. `since` is the release of releasegate that brought it, "0.1"; None for a rule that is not ours. `origin` is where
    such a rule comes from ("acme-rules 1.0.0", "policies/ of this repo"); None for ours.
    """

    id: str
    scope: Scope
    kind: Kind
    subjects: Subjects
    check: Check
    together: bool = False
    needs_render: bool = True
    doc: str = field(repr=False)
    since: str | None = None
    origin: str | None = None
    ahead: Callable[[Evidence], object] | None = None

    @property
    def family(self) -> str:
        """`images` of `images/digest-only`."""
        return self.id.split("/", 1)[0]

    @property
    def summary(self) -> str:
        """The first line of the page."""
        return self.doc.strip().splitlines()[0]


FIRST_RELEASE = "0.1"
_REGISTERED: dict[str, Rule] = {}  # by module: a file is a rule


def rule(
    *,
    scope: Scope,
    kind: Kind,
    subjects: Subjects,
    together: bool = False,
    needs_render: bool = True,
    since: str | None = None,
    ahead: Callable[[Evidence], object] | None = None,
) -> Callable[[Check], Check]:
    """Register the decorated check under the id its module path gives (`rules/images/digest_only.py`).

    `since` is written for each rule of ours that came after the first release.
    """

    def register(check: Check) -> Check:
        *_, category, name = check.__module__.split(".")
        made = Rule(
            id=f"{category}/{name.replace('_', '-')}",
            scope=scope,
            kind=kind,
            subjects=subjects,
            check=check,
            together=together,
            needs_render=needs_render,
            ahead=ahead,
            doc=check.__doc__ or "",
            since=since or (FIRST_RELEASE if _is_ours(check.__module__) else None),
        )
        _REGISTERED[check.__module__] = made
        return check

    return register


def _is_ours(module: str) -> bool:
    return module.startswith(f"{__name__}.")


@functools.cache
def catalogue() -> tuple[Rule, ...]:
    """All rules: those that ship with this package, in Python and in Rego, and those of installed packages, sorted by id.

    Raises UsageError when an installed package holds a rule that cannot be loaded: it is never left out in silence.
    """
    from releasegate.rules import installed, rego  # noqa: PLC0415 - built on this module

    ours = (*python_rules(), *(replace(one, since=FIRST_RELEASE) for one in rego.rules(rego.shipped())))
    made = (*ours, *installed.load(ours))
    return tuple(sorted(made, key=lambda rule: rule.id))


@functools.cache
def python_rules() -> tuple[Rule, ...]:
    """All Python rules of this package, sorted by id. Imports each module of each category folder once."""
    for package in _categories():
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    ours = [one for module, one in _REGISTERED.items() if _is_ours(module)]
    return tuple(sorted(ours, key=lambda rule: rule.id))


def registered(module: str) -> Rule | None:
    """The rule that an imported module holds; None when it holds none."""
    return _REGISTERED.get(module)


def chosen(ids: Iterable[str]) -> tuple[Rule, ...]:
    """These rules of this package, sorted by id, without importing the others: for `releasegate lint`.

    ModuleNotFoundError for an id that is no rule.
    """
    modules = {one: f"{__name__}.{one.replace('/', '.').replace('-', '_')}" for one in sorted(ids)}
    for module in modules.values():
        importlib.import_module(module)
    return tuple(_REGISTERED[module] for module in modules.values())


def _categories() -> Iterator[Any]:
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            yield importlib.import_module(f"{__name__}.{module.name}")


def manifests(evidence: Evidence) -> Sequence[Any]:
    """Every manifest of the scope: the commonest subjects."""
    return [manifest for rendered in evidence.rendered for manifest in rendered.manifests]
