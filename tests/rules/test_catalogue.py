"""Every rule is documented the same way and has a readable id; the page that ships is the page the docstrings make."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from releasegate.report import page
from releasegate.rules import Rule, catalogue

RULES = catalogue()


def test_the_rules_of_this_release() -> None:
    """Those in Python; tests/rules/test_policies.py lists those in Rego."""
    assert [one.id for one in RULES if one.family != "policies"] == [
        "argo/project-allows",
        "argo/sync-policy",
        "argo/valid",
        "argo/windows",
        "gate/workflow",
        "images/digest-live",
        "images/digest-only",
        "images/no-mutable-tag",
        "images/one-digest",
        "owners/covered",
        "owners/valid",
        "prometheus/config",
        "prometheus/files",
        "prometheus/rules",
        "prometheus/tests",
        "references/resolve",
        "render/deterministic",
        "render/succeeds",
        "render/values-known",
        "render/values-plain",
        "schema/served",
        "schema/unique",
        "schema/valid",
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda one: one.id)
def test_a_rule_says_what_why_and_how_to_mend_it(rule: Rule) -> None:
    doc = inspect.cleandoc(rule.doc)
    assert re.fullmatch(r"(policies/)?[a-z]+/[a-z]+(-[a-z]+)*", rule.id)
    assert rule.summary.endswith(".")
    parts = [re.search(rf"^{name}:", doc, re.MULTILINE) for name in ("Why", "Fix", "Bad", "Good")]
    assert all(parts), doc
    starts = [part.start() for part in parts if part]
    assert starts == sorted(starts)
    assert page.markdown(rule).count("```yaml") == 2


def test_the_page_that_ships_is_made_from_the_docstrings() -> None:
    shipped = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert page.markdown(rule) in shipped, f"run `make docs`: {rule.id}"
