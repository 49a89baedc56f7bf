"""Every rule of the catalogue fires once, passes once, is documented, and judges something in fixtures/repos/shop.

One real `releasegate check` of shop and the incident stories' own expectations (which test_incidents runs) are what is
asked; no rule is named here, so that none can be left out.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.conftest import Said

from releasegate import __version__
from releasegate.rules import FIRST_RELEASE, Rule, catalogue

FIXTURES = Path(__file__).parents[2] / "fixtures"
RULES = [one for one in catalogue() if one.origin is None]
Case = dict[str, Any]


def _compose() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compose", FIXTURES / "compose.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compose = _compose()
    root: Path = compose.compose(compose.REPOS / "shop", tmp_path_factory.mktemp("shop") / "config")
    compose.commit(root)
    return root


@pytest.fixture
def cases(shop: Path, releasegate: Callable[..., Said], tmp_path: Path) -> dict[str, list[Case]]:
    """The cases of one complete check of shop, by rule."""
    said = releasegate("check", str(shop), "--json", str(tmp_path / "report.json"))
    assert said.code == 0, said.out
    assert said.report["complete"] is True
    found: dict[str, list[Case]] = {}
    for case in said.report["cases"]:
        found.setdefault(case["rule"], []).append(case)
    return found


def test_every_rule_passes_in_shop_and_judges_something_there(cases: dict[str, list[Case]]) -> None:
    judged = Counter({one.id: sum(case["subjects"] for case in cases.get(one.id, [])) for one in RULES})
    assert {one for one in judged if not judged[one]} == set(), "vacuous: these saw nothing in shop"
    passed = {
        rule for rule, some in cases.items() if any(one["verdict"] == "passed" and one["subjects"] for one in some)
    }
    assert {one.id for one in RULES} - passed == set(), "these passed nowhere in shop"
    rules = {one.id for one in RULES}
    others = {one["verdict"] for rule, some in cases.items() if rule in rules for one in some}
    assert others <= {"passed", "not-applicable"}, "shop is the clean twin of all incidents"


def test_every_rule_is_switched_on_in_shop(cases: dict[str, list[Case]]) -> None:
    advised = {one.id for one in RULES if any(case["level"] != "on" for case in cases.get(one.id, []))}
    assert advised == set(), "shop's releasegate.toml only advises these"


@pytest.mark.parametrize("rule", RULES, ids=lambda one: one.id)
def test_every_rule_has_an_incident_that_it_catches(rule: Rule) -> None:
    stories = [tomllib.loads(path.read_text()) for path in (FIXTURES / "repos/incidents").glob("*/expect.toml")]
    caught = [one for one in stories if one.get("rule") == rule.id and one["verdict"] == "failed"]
    assert caught, f"no story below fixtures/repos/incidents is about {rule.id}"
    assert all(one["exit_code"] in {1, 2} and one["cases"] for one in caught)


@pytest.mark.parametrize("rule", RULES, ids=lambda one: one.id)
def test_every_rule_has_a_readable_id_a_whole_page_and_its_release(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z]+(/[a-z0-9]+(-[a-z0-9]+)*)+", rule.id)
    assert len(rule.id) <= 60
    page = inspect.cleandoc(rule.doc)
    assert "TODO" not in page
    assert rule.summary.endswith(".")
    assert [part for part in ("Why:", "Fix:", "Bad:", "Good:") if not re.search(rf"^{part}", page, re.MULTILINE)] == []


# The rules of each release that is out. A rule that is not in them is of the release being made, and says so with
# `since=` (Python) or is given it where the catalogue is made (Rego).
RELEASED: dict[str, frozenset[str]] = {}


@pytest.mark.parametrize("rule", RULES, ids=lambda one: one.id)
def test_every_rule_says_the_release_that_brought_it(rule: Rule) -> None:
    current = ".".join(__version__.split(".")[:2])
    told = next((release for release, ids in RELEASED.items() if rule.id in ids), current)
    assert rule.since == told
    assert RELEASED or current == FIRST_RELEASE, "write the rules of the last release down here"
