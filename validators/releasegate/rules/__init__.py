"""Rules are functions; a folder is a category, a file is a rule, its id is the path.

A rule file holds one function under `@rule`. Its docstring is the page (first line: the truth the rule keeps; then
`Why:` and `Fix:` paragraphs, then `Bad:` and `Good:` YAML examples). A rule never counts: it names its *subjects*, and evaluate
counts them, hands them over, and collects what the rule yields about them. Zero subjects is never "passed".
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from releasegate.config import Config
from releasegate.model import (
    Environment,
    Finding,
    Kind,
    Release,
    Rendered,
    Repo,
    Scope,
    Unjudged,
    Unrendered,
)
from releasegate.schemas import Schemas

if TYPE_CHECKING:  # a sixth of the start of `releasegate lint`, which renders nothing
    from releasegate.render import Lint


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All that a rule may look at in one case.

    `renders` are the renders of the case's scope: one for a release, all of the environment for an environment.
    `schemas` are the schemas of the environment (None for repo scope). `render_again` renders a release a second
    time, past every cache. `lint` runs `helm lint` for the charts of a release; None where it is not asked for.
    """

    repo: Repo
    config: Config
    environment: Environment | None
    release: Release | None
    renders: tuple[Rendered | Unrendered, ...]
    schemas: Schemas | None = None
    render_again: Callable[[Release], Rendered | Unrendered] | None = None
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
    """

    id: str
    scope: Scope
    kind: Kind
    subjects: Subjects
    check: Check
    together: bool = False
    needs_render: bool = True
    doc: str = field(repr=False)

    @property
    def family(self) -> str:
        """`images` of `images/digest-only`."""
        return self.id.split("/", 1)[0]

    @property
    def summary(self) -> str:
        """The first line of the page."""
        return self.doc.strip().splitlines()[0]


_REGISTERED: dict[str, Rule] = {}


def rule(
    *, scope: Scope, kind: Kind, subjects: Subjects, together: bool = False, needs_render: bool = True
) -> Callable[[Check], Check]:
    """Register the decorated check under the id its module path gives (`rules/images/digest_only.py`)."""

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
            doc=check.__doc__ or "",
        )
        _REGISTERED[made.id] = made
        return check

    return register


@functools.cache
def catalogue() -> tuple[Rule, ...]:
    """All rules of this package, sorted by id. Imports each module of each category folder once."""
    for package in _categories():
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(_REGISTERED[key] for key in sorted(_REGISTERED))


def _categories() -> Iterator[Any]:
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            yield importlib.import_module(f"{__name__}.{module.name}")


def manifests(evidence: Evidence) -> Sequence[Any]:
    """Every manifest of the scope: the commonest subjects."""
    return [manifest for rendered in evidence.rendered for manifest in rendered.manifests]
