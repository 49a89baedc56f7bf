"""actionlint: workflows in, what it says about each of them out.

It gets copies in a private folder, with an empty config of ours, without shellcheck and pyflakes: a config of the
checked repo could silence it. Each call carries a workflow that it must refuse.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from releasegate import process
from releasegate.tools import store

LIMITS = process.Limits(seconds=60, output_bytes=16 << 20)
_CANARY = "canary.yml"
_EMPTY_JOBS = "on: push\njobs: {}\n"
_PROBLEMS = 1  # its exit code where it found something; 0 without, 2 and 3 for what it could not do


@dataclass(frozen=True, slots=True)
class Unavailable:
    """It could not be asked, or what came back is no answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint: `kind` is the name of actionlint's rule."""

    path: str
    line: int
    column: int
    kind: str
    message: str


def judge(tool: store.Tool, workflows: Mapping[str, str]) -> list[Problem] | Unavailable:
    """Ask about workflows (path -> text) in one call; the answers are in the order of the files."""
    with tempfile.TemporaryDirectory(prefix="releasegate-actionlint-") as private:
        folder = Path(private)
        (folder / "config.yaml").touch()
        (folder / _CANARY).write_text(_EMPTY_JOBS, encoding="utf-8")
        names = {f"{index}.yml": path for index, path in enumerate(workflows)}
        for name, path in names.items():
            (folder / name).write_text(workflows[path], encoding="utf-8", newline="")
        options = ["-config-file", "config.yaml", "-shellcheck=", "-pyflakes=", "-no-color", "-format", "{{json .}}"]
        said = process.run([str(tool.path), *options, _CANARY, *names], cwd=folder, limits=LIMITS)
    if not isinstance(said, process.Completed):
        return Unavailable(f"actionlint {said.reason}")
    rows = _rows(said.stdout)
    if said.returncode != _PROBLEMS or rows is None:
        return Unavailable(f"actionlint ended with code {said.returncode} and no answer that can be read")
    found = [Problem(*row) for row in rows]
    if not any(one.path == _CANARY for one in found):
        return Unavailable("actionlint passed a workflow that it must refuse: what it says is worth nothing")
    return [Problem(names[one.path], one.line, one.column, one.kind, one.message) for one in found if one.path in names]


def _rows(output: bytes) -> list[tuple[str, int, int, str, str]] | None:
    try:
        rows: Any = json.loads(output)
        return [(row["filepath"], int(row["line"]), int(row["column"]), row["kind"], row["message"]) for row in rows]
    except (ValueError, TypeError, KeyError):
        return None
