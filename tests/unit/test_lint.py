"""What comes back of clean files: enough for what is judged over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from releasegate import lint
from releasegate.report import json as json_report
from releasegate.usage import UsageError

CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
data:
  a: b
"""


def cases(folder: Path) -> list[dict[str, Any]]:
    report = json_report.report(lint.lint([str(folder)], kubernetes=None, locations=()))
    return [{**case, "seconds": 0} for case in report["cases"]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(450):
        text = CONFIG.format(name=f"c{number % 449}")
        (tmp_path / f"{number:03}.yaml").write_text(
            f"{text}---\n{CONFIG.format(name='twice')}" if number == 7 else text
        )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "again.yml").write_text("# first\n---\n" + CONFIG.format(name="twice"))
    return tmp_path


def test_equal_names_in_clean_files_are_found_with_their_lines(folder: Path) -> None:
    (unique,) = [case for case in cases(folder) if case["rule"] == "schema/unique"]
    assert unique["subjects"] == 452
    places = [(one["path"], one["line"], one["column"], one["object"]["name"]) for one in unique["findings"]]
    assert places == [("449.yaml", 4, 3, "c0"), ("sub/again.yml", 6, 3, "twice")]


def test_bodies_that_nobody_looks_at_are_all_that_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lean = cases(folder)
    monkeypatch.setattr(lint, "NAMES_ONLY", frozenset())
    assert cases(folder) == lean


def test_files_stand_in_the_order_of_their_paths_and_under_the_name_they_have_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("a/b.yaml", "a.yaml", "a/.yaml", "a/notes.txt", "elsewhere/c.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "a" / "link.yaml").symlink_to("../a.yaml")
    (tmp_path / "a" / "loop").symlink_to("..")
    (tmp_path / "a" / "gone.yaml").symlink_to("nowhere")
    root = (tmp_path / "a").resolve()
    monkeypatch.chdir(root)
    assert [name for name, _ in lint._files(Path(), root)] == ["b.yaml", "link.yaml"]
    assert [name for name, _ in lint._files(Path(".."), root)] == [
        "b.yaml",
        "../a/link.yaml",
        "../a.yaml",
        "../elsewhere/c.json",
    ]
    assert [file for _, file in lint._files(Path(), root)] == ["b.yaml", "link.yaml"]


def test_a_folder_that_cannot_be_read_is_wrong_use_not_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(folder: str) -> Iterator[os.DirEntry[str]]:
        if str(folder) == str(tmp_path):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        lint.lint([str(tmp_path)], kubernetes=None, locations=())
