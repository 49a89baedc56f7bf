"""The one command of a step: what is read as it passes or fails in the shell itself as it says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from releasegate.discover.workflows import Broken, Workflow, command, composite, read

CHECK = "releasegate check --base x"
READ = [
    CHECK,
    f"  {CHECK}  ",
    f"set -e\nset -euo pipefail\n\n# a comment \\\n{CHECK}",
    f"{CHECK} # || true",
    "releasegate check \\\n  --base x \\\n  --github",
    f'{CHECK} --summary "$HOME/a b.md" --json=\'a\'"b"',
]
LOST = [
    f"{CHECK} || true",
    f"{CHECK} || :",
    f"{CHECK} || exit 0",
    f"{CHECK} || echo failed",
    f"{CHECK} --json a || true",
    f"{CHECK} | cat",
    f"{CHECK} 2>&1 | tee /dev/null",
    f"{CHECK} &",
    f"set +e\n{CHECK}\necho done",
]


@pytest.mark.parametrize("script", [*READ, *LOST])
def test_a_check_whose_failure_is_lost_has_a_fault(tmp_path: Path, script: str) -> None:
    """A releasegate that fails is put on PATH; the step may not pass unless a fault is told, nor the other way round."""
    fake = tmp_path / "releasegate"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    step = tmp_path / "step.sh"
    step.write_text(script)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-e", step], env=environment, capture_output=True, check=False, timeout=20)
    found = command(script)
    assert found is not None
    assert found.unclear is None
    assert bool(found.fault) is (done.returncode == 0)
    assert (found.arguments[:2] == ("--base", "x")) is (script in READ)


@pytest.mark.parametrize(
    "script",
    [
        f"if [ -d / ]; then\n  {CHECK}\nfi",
        f"for one in a b; do {CHECK}; done",
        f"gate() {{\n{CHECK}\n}}\ngate",
        f"( {CHECK} )",
        f"out=$({CHECK})",
        f"{CHECK} 'and a quote",
        f"{CHECK} `id`",
        f"{CHECK} > /dev/null",
        f"{CHECK} || exit 1",
        f"{CHECK}; true",
        f"A=b {CHECK}",
        f"! {CHECK}",
        f"echo start\n{CHECK}",
        f"{CHECK}\necho done",
        f"set +e\n{CHECK}",
        f"cat <<EOF\n{CHECK}\nEOF",
        "python -m releasegate check --base x",
        "releasegate check --base ${{ github.base_ref || 'x' }}",
        "releasegate check" + " x" * 20_000,
    ],
)
def test_what_is_not_the_one_command_is_said_to_be_unclear(script: str) -> None:
    found = command(script)
    assert found is not None
    assert found.unclear
    assert found.arguments == ()


@pytest.mark.parametrize("script", ["echo releasegate check", "pip install releasegate", "# releasegate check", ""])
def test_what_does_not_run_it_is_no_command(script: str) -> None:
    assert command(script) is None


def test_expressions_are_one_word() -> None:
    found = command('releasegate check --base "${{ github.event.merge_group.base_sha || github.sha }}" --github')
    assert found is not None
    assert found.arguments == (
        "--base",
        "${{ github.event.merge_group.base_sha || github.sha }}",
        "--github",
    )


def test_the_pipe_of_a_shell_that_keeps_its_exit_code_is_no_fault() -> None:
    found = command(f"{CHECK} | cat", "bash")
    assert found is not None
    assert (found.fault, bool(found.unclear)) == (None, True)


def test_a_merge_key_is_refused() -> None:
    found = read("x.yml", "on: push\njobs:\n  a: &a {runs-on: u}\n  b:\n    <<: *a\n")
    assert isinstance(found, Broken)
    assert found.line == 5


def test_a_composite_action_has_steps_and_another_none() -> None:
    found = composite("action.yml", "runs:\n  using: composite\n  steps:\n    - run: a\n      shell: bash\n")
    assert found is not None
    (step,) = found.jobs[0].steps
    assert (step.run, found.line(*step.at, "run")) == ("a", 4)
    for text in ("runs: {using: node20, main: x.js}", "a: [", "", "- a", "runs: {using: composite"):
        assert composite("action.yml", text) is None


def test_the_line_of_what_is_missing_is_that_of_what_is_around_it() -> None:
    text = "name: x\non:\n  pull_request:\njobs:\n  a/b:\n    steps:\n      - run: a\n      - {run: b}\n"
    workflow = read("x.yml", text)
    assert isinstance(workflow, Workflow)
    assert workflow.line("on") == 2
    assert workflow.line("on", "pull_request", "paths") == 3
    assert workflow.line("jobs", "a/b", "steps", "1", "run") == 8
    assert workflow.line("jobs", "a/b", "if") == 5
    assert workflow.line("permissions") is None
