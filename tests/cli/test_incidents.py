"""Each incident is caught by exactly the rule it names, on the line a person would edit; its clean twin is green.

A story's expect.toml, all keys but exit_code optional:

    exit_code = 1
    rule = "images/digest-only"          # this rule has red cases, and no other rule has any
    verdict = "failed"                   # the verdict of those cases: failed or not-evaluated
    cases = ["prod/api"]                 # globs over environment/release: these, all of them, and no others are red
    path = "helm/api/values-prod.yaml"   # every finding of those cases is there
    at = 'tag: "1.7.3"'                  # and on a line that holds this text; without it a line is not asked for;
                                         # for wrong use and config (exit code 4) the command prints path:line
    message_contains = "…"
    output_contains = ["…"]              # in what the command prints
    args = ["--env", "production"]       # further arguments of `releasegate check`
    helm = "missing"                     # or "hangs", "garbage": the helm that this run finds
    promtool = "missing"                 # the same of promtool

Not counted as red cases of other rules: what is only a consequence of the named one, a case that could not be judged
because its release did not render, and the expectation of an environment where for that reason nothing was judged.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.conftest import validate

from releasegate import config, run, usage
from releasegate.model import Rendered, Unrendered
from releasegate.render import Renderer
from releasegate.tools import store

FIXTURES = Path(__file__).parents[2] / "fixtures"
SECONDS = 240
RED = {"failed", "not-evaluated"}


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compose = _load(FIXTURES / "compose.py")
STORIES = compose.stories()


@dataclass(frozen=True)
class Ran:
    """One run of `releasegate check`: `report` is None where no file was written."""

    code: int
    output: str
    report: dict[str, Any] | None


def _check(root: Path, report: Path, *args: str, env: Mapping[str, str]) -> Ran:
    releasegate = Path(sys.executable).with_name("releasegate")
    done = subprocess.run(
        [releasegate, "check", str(root), "--json", str(report), *args],
        env=env,
        cwd=report.parent,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    written = json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
    if written is not None:
        validate(written)
    return Ran(code=done.returncode, output=done.stdout + done.stderr, report=written)


@pytest.fixture(scope="session")
def environment(helm: store.Tool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Our own, with a render cache that all stories share: most of each story is its base."""
    assert helm.path.exists()
    return {**os.environ, "RELEASEGATE_CACHE": str(tmp_path_factory.mktemp("cache")), "COLUMNS": "200"}


FAKES = {
    "helm": """#!/bin/sh
# Says that it is helm, and then does not do what helm does.
case "$1" in
  version) echo 'v4.3.1+gdeadbee'; exit 0 ;;
esac
{does}
""",
    "promtool": """#!/bin/sh
case "$1" in
  --version) echo 'promtool, version 3.16.0 (branch: main)'; exit 0 ;;
esac
{does}
""",
}


def _with_tools(faults: Mapping[str, str], environment: Mapping[str, str], folder: Path, mark: str) -> dict[str, str]:
    """The environment of a run that finds these faulty programs and no others of their name: its own cache and PATH."""
    if not faults:
        return dict(environment)
    tools = folder / "tools"
    tools.mkdir()
    does = {
        # A child that holds the pipes and does not listen: what only SIGKILL of the group ends.
        "hangs": f"trap '' TERM INT\n(trap '' TERM INT; sleep 999 {mark} || sleep 999) &\nsleep 999",
        "garbage": "printf '\\001\\377 not a render \\000'",
    }
    for name in store.locked():
        if name in faults:
            if faults[name] != "missing":
                fake = tools / name
                fake.write_text(FAKES[name].format(does=does[faults[name]]), encoding="utf-8")
                fake.chmod(0o755)
        elif not name.startswith("releasegate-") and isinstance(found := store.find(name), store.Tool):
            (tools / name).symlink_to(found.path)
    bin_folder = str(Path(sys.executable).parent)
    return {
        **environment,
        "RELEASEGATE_TOOLS": str(tools),
        "RELEASEGATE_CACHE": str(folder / "cache"),
        "RELEASEGATE_TOOL_SECONDS": "3",
        "XDG_CACHE_HOME": str(folder / "home-cache"),
        "PATH": f"{bin_folder}:/usr/bin:/bin",
    }


def _running(folder: Path) -> list[str]:
    """Command lines of processes that were started for files below `folder` and still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command and int(process.parent.name) != os.getpid():
            found.append(command)
    return found


def _consequence(case: Mapping[str, Any], unrendered: set[str], environments: set[str]) -> bool:
    """The case could not be judged for the same reason, or because a release or a file of rules did not load.

    `environments` hold such releases.
    """
    if case["rule"].startswith("expect/"):
        return case["subjects"] == 0 and case["environment"] in environments
    return case["verdict"] == "not-evaluated" and (
        case["reason"] == "not rendered"
        or (case["rule"] == "prometheus/tests" and case["reason"].endswith("does not load"))
        or case["reason"] in unrendered
        or (case["release"] is None and any(case["reason"].startswith(reason) for reason in unrendered))
    )


def _reasons(case: Mapping[str, Any]) -> list[str]:
    return [*(finding["message"] for finding in case["findings"]), *([case["reason"]] if case["reason"] else [])]


def _where(case: Mapping[str, Any]) -> str:
    return "/".join(part for part in (case["environment"], case["release"]) if part is not None)


def test_the_clean_twin_of_all_incidents_is_green_and_nothing_in_it_went_unjudged(
    environment: dict[str, str], tmp_path: Path
) -> None:
    root = compose.compose(compose.REPOS / "shop", tmp_path / "shop")
    compose.commit(root)
    ran = _check(root, tmp_path / "report.json", env=environment)
    assert ran.code == 0, ran.output
    assert ran.report is not None
    assert ran.report["verdict"] == "passed"
    assert ran.report["complete"] is True
    assert {one["name"] for one in ran.report["environments"]} == {"dev", "staging", "prod"}
    for one in ran.report["environments"]:
        assert {release["name"] for release in one["releases"]} == {"api", "monitoring", "namespace", "web", "worker"}
        assert all(release["objects"] > 0 for release in one["releases"])
    counted = {case["rule"] for case in ran.report["cases"] if case["verdict"] == "passed" and case["subjects"] > 0}
    wanted = {"render/succeeds", "schema/valid", "schema/unique", "images/digest-only", "images/no-mutable-tag"}
    assert wanted <= counted
    assert not [case for case in ran.report["cases"] if case["findings"]]


def test_the_worker_renders_every_fixture_as_the_helm_program_does(
    helm: store.Tool, helm_worker: store.Tool, tmp_path: Path
) -> None:
    """What a worker prints is believed only because it is what the program prints, byte for byte."""
    compared = 0
    for story in [compose.REPOS / "shop", *STORIES]:
        if story.name == "random-in-template":
            continue  # two renders of it differ whoever makes them: that is its fault
        root = compose.compose(story, tmp_path / story.name)
        try:
            with run.open_run(root) as opened:
                repo = opened.repo
        except (usage.UsageError, config.ConfigError):
            continue
        environments = {one.name: one for one in repo.environments}
        with Renderer(repo.tree, tool=helm) as program, Renderer(repo.tree, tool=helm, worker=helm_worker) as worker:
            answers = program.batch(repo.releases, environments), worker.batch(repo.releases, environments)
            for one, other in zip(*answers, strict=True):
                assert _text(one) == _text(other), one.release.id
                compared += isinstance(one, Rendered)
            assert worker.worker_used or not worker.renders
    assert compared > 300


def _text(one: Rendered | Unrendered) -> Any:
    if isinstance(one, Unrendered):
        return (one.reason, one.broken, one.place)
    return [(manifest.template, manifest.text) for manifest in one.manifests]


@pytest.mark.parametrize("story", STORIES, ids=[story.name for story in STORIES])
def test_the_incident_is_caught_by_exactly_the_rule_it_names(
    story: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    expected = tomllib.loads((story / "expect.toml").read_text(encoding="utf-8"))
    root = compose.compose(story, tmp_path / "repo")
    compose.commit(root)
    mark = uuid.uuid4().hex
    faults = {name: expected[name] for name in FAKES if name in expected}
    env = _with_tools(faults, environment, tmp_path, mark)
    ran = _check(root, tmp_path / "report.json", *expected.get("args", []), env=env)

    assert ran.code == expected["exit_code"], ran.output
    assert "Traceback" not in ran.output
    for text in expected.get("output_contains", []):
        assert text in ran.output
    assert _running(tmp_path) == []
    assert not list(tmp_path.glob("report.json?*")), "a half-written report was left"
    if ran.code == 4:
        assert ran.report is None or ran.report["exit_code"] == 4
        if "path" in expected:
            lines = (root / expected["path"]).read_text(encoding="utf-8").splitlines()
            (line,) = [number for number, text in enumerate(lines, 1) if expected["at"] in text]
            assert f"{expected['path']}:{line}" in ran.output
        return
    assert ran.report is not None, "the report is written whatever the verdict"
    assert ran.report["exit_code"] == expected["exit_code"]
    if "rule" in expected:
        _judge(ran.report, expected, root)


def _judge(report: Mapping[str, Any], expected: Mapping[str, Any], root: Path) -> None:
    red = [case for case in report["cases"] if case["verdict"] in RED]
    own = [case for case in red if case["rule"] == expected["rule"]]
    unrendered = {
        reason
        for case in own
        if case["rule"] == "render/succeeds" or case["verdict"] == "not-evaluated"
        for reason in _reasons(case)
    }
    environments = {case["environment"] for case in red if case["reason"] == "not rendered"}
    others = [case["id"] for case in red if case not in own and not _consequence(case, unrendered, environments)]
    assert others == [], "another rule is red too"
    assert own, f"{expected['rule']} has no red case"
    assert {case["verdict"] for case in own} == {expected["verdict"]}
    where = [_where(case) for case in own]
    for pattern in expected["cases"]:
        assert fnmatch.filter(where, pattern), f"{pattern} is not red"
    assert [one for one in where if not any(fnmatch.fnmatchcase(one, two) for two in expected["cases"])] == []
    findings = [finding for case in own for finding in case["findings"]]
    if "path" in expected:
        assert {finding["path"] for finding in findings} == {expected["path"]}
    for finding in findings:
        if finding["path"] is not None and finding["line"] is not None:
            lines = (root / finding["path"]).read_text(encoding="utf-8").splitlines()
            assert finding["line"] <= len(lines), "the line does not exist"
            if "at" in expected:
                assert expected["at"] in lines[finding["line"] - 1], "a wrong line"
        assert "at" not in expected or finding["line"] is not None, "no line"
        assert finding["help"], "a finding says what to write instead"
    if "message_contains" in expected:
        said = [text for case in own for text in _reasons(case)]
        assert any(expected["message_contains"] in text for text in said), said


@pytest.mark.parametrize("story", STORIES, ids=[story.name for story in STORIES])
def test_the_story_is_told_and_its_expectation_is_well_formed(story: Path) -> None:
    told = (story / "README.md").read_text(encoding="utf-8").strip()
    assert told
    assert "\n\n" not in told, "one paragraph"
    expected = tomllib.loads((story / "expect.toml").read_text(encoding="utf-8"))
    keys = {
        "exit_code",
        "rule",
        "verdict",
        "cases",
        "path",
        "at",
        "message_contains",
        "output_contains",
        "args",
        *FAKES,
    }
    assert set(expected) <= keys
    assert expected["exit_code"] in range(5)
    assert ("rule" in expected) == ("cases" in expected) == ("verdict" in expected)
    assert "rule" in expected or "output_contains" in expected
