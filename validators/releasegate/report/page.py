"""A rule's page, from its docstring."""

from __future__ import annotations

import inspect

from releasegate.rules import Rule


def text(rule: Rule) -> str:
    """Return the page as text: id, kind and scope, then what the docstring says."""
    level = (
        "a fact: accepted only by a waiver" if rule.kind == "fact" else "a policy: on, advise or off per environment"
    )
    return f"{rule.id}  ({level}; one case per {rule.scope})\n\n{inspect.cleandoc(rule.doc)}"
