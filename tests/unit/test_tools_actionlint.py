"""actionlint is believed only where it refuses what it must refuse; here it is a script that answers as told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from releasegate.model import ToolIdentity
from releasegate.tools import actionlint, store

# As actionlint 1.7.12 prints them with -format '{{json .}}'.
CANARY = {
    "message": '"jobs" section should not be empty. please remove this section if it\'s unnecessary',
    "filepath": "canary.yml",
    "line": 2,
    "column": 7,
    "kind": "syntax-check",
    "snippet": "jobs: {}\n      ^~",
    "end_column": 8,
}
EVENT = {**CANARY, "filepath": "1.yml", "line": 6, "column": 3, "kind": "events", "message": "unknown event"}
WORKFLOWS = {".github/workflows/a.yml": "on: push\n", ".github/workflows/b c.yml": "on: merge_grup\n"}


def program(folder: Path, answer: Any, code: int = 1) -> store.Tool:
    """A program that keeps its arguments, and prints the answer."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    (folder / "answer").write_text(text)
    path = folder / "actionlint"
    path.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\nls > {folder}/files\n'
        f"cat config.yaml 1.yml > {folder}/read\ncat {folder}/answer\nexit {code}\n"
    )
    path.chmod(0o755)
    return store.Tool(ToolIdentity(name="actionlint", version="1.7.12", origin="path", sha256="0" * 64, path=str(path)))


def test_what_it_says_is_told_of_the_file_that_was_given(tmp_path: Path) -> None:
    said = actionlint.judge(program(tmp_path, [CANARY, EVENT]), WORKFLOWS)
    assert said == [actionlint.Problem(".github/workflows/b c.yml", 6, 3, "events", "unknown event")]
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[-3:] == ["canary.yml", "0.yml", "1.yml"]
    assert {"-shellcheck=", "-pyflakes=", "-config-file"} <= set(arguments)
    assert (tmp_path / "read").read_text() == "on: merge_grup\n", "the config is empty"
    assert (tmp_path / "files").read_text().split() == ["0.yml", "1.yml", "canary.yml", "config.yaml"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ([], 0),
        ([], 1),
        ([EVENT], 1),
        ([CANARY], 0),
        ([CANARY], 3),
        ("", 1),
        ("[{", 1),
        ("null", 1),
        ([{"filepath": "canary.yml"}], 1),
        ({"a": 1}, 1),
    ],
)
def test_an_answer_without_the_canary_is_none(tmp_path: Path, answer: Any, code: int) -> None:
    assert isinstance(actionlint.judge(program(tmp_path, answer, code), WORKFLOWS), actionlint.Unavailable)


def test_it_is_optional() -> None:
    assert store.locked()["actionlint"].optional
    assert not any(name.startswith("actionlint") for name in store.wanted({}))
