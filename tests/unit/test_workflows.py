"""What the shell makes of a step: tried by the shell itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from releasegate.discover.workflows import Workflow, commands, read

CHECK = "releasegate check --base x"
SCRIPTS = [
    CHECK,
    f"{CHECK} || true",
    f"{CHECK} || exit 1",
    f"{CHECK} || exit 0",
    f"{CHECK} || {{ echo failed; exit 1; }}",
    f"{CHECK} || {{ echo failed; }}",
    f"{CHECK} || {{ exit 0; exit 1; }}",
    f"{CHECK} && echo fine",
    f"{CHECK} && echo fine\necho more",
    f"true && {CHECK}",
    f"false && {CHECK}\necho more",
    f"true || {CHECK}",
    f"{CHECK} | cat",
    f"set -o pipefail\n{CHECK} | cat",
    f"set -euo pipefail\n{CHECK} 2>&1 | tee /dev/null",
    f"set +e\n{CHECK}\necho done",
    f"set +e\n{CHECK}",
    f"set +e\nset -e\n{CHECK}\necho done",
    f"{CHECK}\necho done",
    f"{CHECK} > /dev/null 2>&1\necho done",
    f"{CHECK} &\necho done",
    f"! {CHECK}",
    f"if {CHECK}; then echo fine; fi",
    f"while {CHECK}; do break; done",
    f"[ -d / ] && exit 0\n{CHECK}",
    f"exit 0\n{CHECK}",
    f"trap 'exit 0' EXIT\n{CHECK}",
    f"time {CHECK}",
    f"A=b {CHECK}",
    f"cat <<EOF\n{CHECK} || true\nEOF\n{CHECK}",
    f"echo start # {CHECK} || true\n{CHECK}",
    "releasegate check \\\n  --base x \\\n  --github || true",
    f'echo "{CHECK} || true"\n{CHECK}',
]


@pytest.mark.parametrize("shell", [None, "bash"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_check_whose_failure_is_lost_has_a_fault(tmp_path: Path, script: str, shell: str | None) -> None:
    """A releasegate that fails is put on PATH; the step may not pass unless a fault is told, nor the other way round."""
    fake = tmp_path / "releasegate"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    step = tmp_path / "step.sh"
    step.write_text(script)
    options = ["-e"] if shell is None else ["--noprofile", "--norc", "-eo", "pipefail"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", *options, step], env=environment, capture_output=True, check=False, timeout=20)
    found = [one for one in commands(script, shell) if one.subcommand == "check"]
    assert len(found) == 1
    assert found[0].arguments[:2] == ("--base", "x")
    assert found[0].unclear is None
    assert bool(found[0].faults) is (done.returncode == 0)


@pytest.mark.parametrize(
    "script",
    [
        f"if [ -d / ]; then\n  {CHECK}\nfi",
        f"for one in a b; do {CHECK}; done",
        f"gate() {{\n{CHECK}\n}}\ngate",
        f"( {CHECK} )",
        f"out=$({CHECK})",
        f"{CHECK} 'and a quote",
    ],
)
def test_what_is_not_plain_is_said_to_be_unclear(script: str) -> None:
    assert [one.unclear is not None for one in commands(script)] == [True]


@pytest.mark.parametrize(
    "script",
    [
        "echo releasegate check",
        "pip install releasegate",
        "cat <<EOF\nreleasegate check\nEOF",
        "# releasegate check",
        "",
    ],
)
def test_what_does_not_run_it_is_no_command(script: str) -> None:
    assert commands(script) == []


def test_expressions_are_one_word() -> None:
    (one,) = commands("releasegate check --base ${{ github.event.merge_group.base_sha || 'a b' }} --github")
    assert one.arguments[0] == "--base"
    assert one.arguments[2:] == ("--github",)


def test_the_line_of_what_is_missing_is_that_of_what_is_around_it() -> None:
    text = "name: x\non:\n  pull_request:\njobs:\n  a/b:\n    steps:\n      - run: a\n      - {run: b}\n"
    workflow = read("x.yml", text)
    assert isinstance(workflow, Workflow)
    assert workflow.line("on") == 2
    assert workflow.line("on", "pull_request", "paths") == 3
    assert workflow.line("jobs", "a/b", "steps", "1", "run") == 8
    assert workflow.line("jobs", "a/b", "if") == 5
    assert workflow.line("permissions") is None
