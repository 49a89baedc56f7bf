"""`releasegate lint` judges rule files and tests of rules by what they are."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from releasegate.evaluate import Report
from releasegate.lint import lint
from releasegate.model import Outcome
from releasegate.tools import store

GOOD = """\
groups:
  - name: api
    rules:
      - alert: Down
        expr: up == 0
"""
BROKEN = GOOD.replace("up == 0", "up ==")
TESTS = """\
rule_files: [rules.yaml]
tests:
  - input_series: [{series: up, values: 1x20}]
    alert_rule_test: [{eval_time: 5m, alertname: Down, exp_alerts: []}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promtool: store.Tool) -> Path:
    assert promtool.path.exists()
    made = tmp_path / "files"
    made.mkdir()
    monkeypatch.chdir(made)
    monkeypatch.setenv("RELEASEGATE_CACHE", str(tmp_path / "cache"))
    return made


def linted(*paths: str) -> Report:
    return lint(paths, kubernetes="1.37", locations=())


def outcomes(report: Report) -> dict[str, tuple[Outcome, int]]:
    return {one.id.rule: (one.outcome, one.subjects) for one in report.verdicts if one.subjects or one.unjudged}


def found(report: Report) -> list[tuple[str, str]]:
    return [(cause.rule, f"{cause.place.path}:{cause.place.line}") for cause in report.causes if cause.place]


def test_a_right_rule_file_is_judged_and_no_manifest(folder: Path) -> None:
    (folder / "rules.yaml").write_text(GOOD)
    report = linted("rules.yaml")
    assert outcomes(report) == {"prometheus/files": (Outcome.PASSED, 1)}
    assert report.exit_code == 0
    assert [one.name for one in report.tools] == ["promtool"]


def test_a_broken_one_is_found_on_its_line_from_wherever_it_is_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "rules.yaml").write_text(BROKEN)
    assert found(linted(".")) == [("prometheus/files", "rules.yaml:5")]
    monkeypatch.chdir("/")
    assert found(linted(str(folder))) == [("prometheus/files", f"{str(folder)[1:]}/rules.yaml:5")]
    (folder.parent / "elsewhere").mkdir()
    monkeypatch.chdir(folder.parent / "elsewhere")
    assert found(linted(str(folder / "rules.yaml"))) == [("prometheus/files", f"{folder}/rules.yaml:5")]


def test_tests_of_rules_find_their_rule_files_though_nobody_gave_them(folder: Path) -> None:
    (folder / "rules.yaml").write_text(GOOD)
    (folder / "rules_tests.yaml").write_text(TESTS)
    assert outcomes(linted("rules_tests.yaml")) == {"prometheus/tests": (Outcome.PASSED, 1)}
    (folder / "rules_tests.yaml").write_text(TESTS.replace("Down", "Dwon"))
    assert found(linted("rules_tests.yaml")) == [("prometheus/tests", "rules_tests.yaml:4")]
    (folder / "rules_tests.yaml").write_text(TESTS.replace("rules.yaml", "/etc/hostname"))
    assert found(linted("rules_tests.yaml")) == [("prometheus/tests", "rules_tests.yaml:1")]


@pytest.mark.parametrize("count", [1, 500])  # many: judged by several processes
def test_rules_inside_objects_are_judged_too(count: int, folder: Path) -> None:
    for number in range(count):
        (folder / f"{number:03}.yaml").write_text(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: n{number}}}\n")
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: rules\ndata:\n  rules.yml: |\n{textwrap.indent(BROKEN, '    ')}"
    (folder / "rules.yaml").write_text(text)
    report = linted(".")
    assert found(report) == [("prometheus/rules", "rules.yaml:11")]
    (folder / "rules.yaml").write_text(text.replace("up ==", "up == 0"))
    report = linted(".")
    assert report.exit_code == 0
    assert outcomes(report)["prometheus/rules"] == (Outcome.PASSED, 1)
    assert outcomes(report)["schema/valid"][1] == count + 1


def test_without_promtool_a_rule_file_is_not_judged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEASEGATE_TOOLS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("PATH", "/nowhere")
    (folder / "rules.yaml").write_text(GOOD)
    report = linted("rules.yaml")
    assert report.exit_code == 2
    assert outcomes(report)["prometheus/files"][0] is Outcome.NOT_EVALUATED


def test_what_is_neither_is_still_no_object(folder: Path) -> None:
    (folder / "values.yaml").write_text("groups: [admins]\nalert: record\n")
    assert {rule for rule, _ in found(linted("values.yaml"))} == {"schema/valid"}


def test_clean_manifests_import_none_of_it(folder: Path) -> None:
    (folder / "a.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
    code = (
        "import sys; from releasegate.lint import lint; lint(['.'], kubernetes='1.37', locations=());"
        "print([one for one in sys.modules if 'prometheus' in one or 'lintplain' in one])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
