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


def test_files_in_which_nothing_is_found_are_counted_together_and_others_have_cases_of_their_own(folder: Path) -> None:
    (folder / "broken.yaml").write_text("a: [")
    (folder / "typo.yaml").write_text(CONFIG.format(name="typo").replace("data:", "dota:"))
    found = cases(folder)
    together = {case["rule"]: case["subjects"] for case in found if case["release"] is None}
    assert together == {
        "images/digest-only": 0,
        "images/no-mutable-tag": 0,
        "schema/served": 452,
        "schema/valid": 452,
        "schema/unique": 453,
    }
    alone = {(case["release"], case["rule"]): case["verdict"] for case in found if case["release"] is not None}
    assert {name for name, _ in alone} == {"broken.yaml", "typo.yaml"}
    assert alone["typo.yaml", "schema/valid"] == "failed"
    assert alone["broken.yaml", "render/succeeds"] == "failed"
    assert alone["broken.yaml", "schema/valid"] == "not-evaluated"


CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: gizmos.acme.example
spec:
  group: acme.example
  names: {kind: Gizmo, plural: gizmos, singular: gizmo, listKind: GizmoList}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, properties: {size: {type: integer}}}
"""


@pytest.mark.parametrize("name", ["000-crd.yaml", "zzz-crd.yaml"])
def test_a_crd_among_many_files_is_known_to_all_of_them(folder: Path, name: str) -> None:
    gizmo = "apiVersion: acme.example/v1\nkind: Gizmo\nmetadata: {{name: {0}}}\nspec: {{size: {1}}}\n"
    (folder / name).write_text(CRD)
    (folder / "200-good.yaml").write_text(gizmo.format("good", 3))
    (folder / "300-bad.yaml").write_text(gizmo.format("bad", "'3'"))
    found = cases(folder)
    assert [case["id"] for case in found if case["verdict"] not in {"passed", "not-applicable"}] == [
        "releasegate.toml::lint/300-bad.yaml::schema/valid",
        "releasegate.toml::lint::schema/unique",  # the fixture's twins
    ]
    assert sum(case["subjects"] for case in found if case["rule"] == "schema/valid") == 455


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


def test_a_codeowners_file_is_judged_as_github_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "CODEOWNERS").write_text("# who approves\n* @acme/platform\n/docs/ @nobody @\n!/src @acme/web\n")
    monkeypatch.chdir(tmp_path)
    (judged,) = [case for case in cases(tmp_path) if case["subjects"]]
    assert (judged["rule"], judged["verdict"], judged["subjects"]) == ("owners/valid", "failed", 3)
    assert [(one["path"], one["line"]) for one in judged["findings"]] == [("CODEOWNERS", 3), ("CODEOWNERS", 4)]
    (tmp_path / "CODEOWNERS").write_text("* @acme/platform\n")
    assert [case["verdict"] for case in cases(tmp_path) if case["rule"] == "owners/valid"] == ["passed"]
