"""A rule's page, from its docstring: what it keeps, why, how to mend it, a bad and a good example."""

from __future__ import annotations

import inspect
import re
import textwrap

from releasegate.model import Kind
from releasegate.rules import Rule

_EXAMPLE = re.compile(r"^(Bad|Good):\n((?:[ ]{4}.*\n|\n)+)", re.MULTILINE)


def text(rule: Rule) -> str:
    """Return the page as text: id, kind and scope, then what the docstring says."""
    return f"{rule.id}  ({_standing(rule)})\n\n{inspect.cleandoc(rule.doc)}"


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
    return f"{fact if rule.kind is Kind.FACT else policy}; one case per {rule.scope}"
