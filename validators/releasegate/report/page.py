"""A rule's page, from its docstring: what it keeps, why, how to mend it, a bad and a good example."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping

from releasegate.config import GUARDRAILS
from releasegate.model import Kind, Level
from releasegate.rules import Rule

_EXAMPLE = re.compile(r"^(Bad|Good):\n((?:[ ]{4}.*\n|\n)+)", re.MULTILINE)


def text(rule: Rule, levels: Mapping[str, Level] | None = None) -> str:
    """Return the page as text: id, kind and scope, its level, then what the docstring says.

    `levels` are those in the environments of a repo; None: say what holds without a config.
    """
    return f"{rule.id}  ({_standing(rule)})\n\n{_level(rule, levels)}\n\n{inspect.cleandoc(rule.doc)}"


def default_level(rule: Rule) -> str:
    """How a rule counts where no config says so."""
    if rule.kind is Kind.FACT:
        return "on"
    return "advise, on in protected environments" if rule.id in GUARDRAILS else "advise"


def _level(rule: Rule, levels: Mapping[str, Level] | None) -> str:
    if rule.kind is Kind.FACT:
        return "Level: on, in every environment"
    default = f"Level: {default_level(rule)}; [rules] in releasegate.toml changes it"
    if levels is None:
        return default
    return (
        f"Level here: {', '.join(f'{name} {level}' for name, level in levels.items())}\nDefault: {default_level(rule)}"
    )


def row(rule: Rule) -> dict[str, str | None]:
    """Return what `releasegate rules --json` says of a rule."""
    return {
        "id": rule.id,
        "scope": rule.scope,
        "kind": rule.kind,
        "summary": rule.summary,
        "default_level": default_level(rule),
        "since": rule.since,
        "origin": rule.origin,
    }


def markdown(rule: Rule) -> str:
    """Return the page as Markdown: examples become fenced YAML."""
    body = _EXAMPLE.sub(
        lambda found: f"{found[1]}:\n\n```yaml\n{textwrap.dedent(found[2]).strip()}\n```\n\n",
        inspect.cleandoc(rule.doc) + "\n",
    )
    return f"## {rule.id}\n\n*{_standing(rule)}*\n\n{body.rstrip()}\n"


def _standing(rule: Rule) -> str:
    fact = "a fact: accepted only by a waiver"
    policy = "a policy: on, advise or off per environment"
    since = f"since {rule.since}" if rule.origin is None else f"from {rule.origin}"
    return f"{fact if rule.kind is Kind.FACT else policy}; one case per {rule.scope}; {since}"
