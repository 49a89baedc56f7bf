"""pytest as the runner: the same cases as items, each printed id can be given back, nothing in unrelated repos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_pytest(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    surroundings = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS"}}
    surroundings["RELEASEGATE_CACHE"] = str(cwd.parent / "cache")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=cwd,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def collected(cwd: Path, *arguments: str) -> list[str]:
    done = run_pytest(cwd, "--collect-only", "-q", *arguments)
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_plain_pytest_judges_the_repo_of_its_rootdir(toy: Path) -> None:
    done = run_pytest(toy, "-q")
    assert done.returncode == 0, done.stdout
    ids = collected(toy)
    assert "releasegate.toml::prod/api::images/digest-only" in ids
    assert "releasegate.toml::prod::expect/images" in ids
    assert "releasegate.toml::repo::expect/discovered" in ids


def test_every_printed_id_can_be_given_back(toy: Path) -> None:
    ids = collected(toy)
    assert len(ids) > 20
    assert collected(toy, *ids) == ids
    for one in ids:
        assert collected(toy, one) == [one]


def test_ids_begin_with_the_file_also_where_it_does_not_exist(toy: Path) -> None:
    (toy / "releasegate.toml").unlink()
    assert collected(toy) == []
    ids = collected(toy, "--releasegate", ".")
    assert "releasegate.toml::prod/api::images/digest-only" in ids
    one = "releasegate.toml::prod/api::images/digest-only"
    assert collected(toy, "--releasegate", ".", one) == [one]


def test_a_finding_is_a_failure_and_what_could_not_be_judged_an_error(toy: Path) -> None:
    (toy / "helm/api/values-prod.yaml").write_text('image:\n  tag: "1.7.3"\n  digest: sha256:abc\n')
    done = run_pytest(toy, "-q", "releasegate.toml::prod/api")
    assert "FAILED releasegate.toml::prod/api::images/digest-only" in done.stdout
    (toy / "helm/api/templates/deployment.yaml").write_text("{{ fail `no` }}")
    done = run_pytest(toy, "-q", "releasegate.toml::prod/api")
    assert "ERROR releasegate.toml::prod/api::images/digest-only" in done.stdout
    assert "FAILED releasegate.toml::prod/api::render/succeeds" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_folder_called_skip_is_judged(toy: Path) -> None:
    (toy / "helm/api").rename(toy / "helm/skip")
    ids = collected(toy)
    assert any("::prod/" in one for one in ids)
    done = run_pytest(toy, "-q", "-rs")
    assert done.returncode == 0, done.stdout


def test_a_wrong_config_is_a_usage_error_that_names_the_line(toy: Path) -> None:
    (toy / "releasegate.toml").write_text('kubernetes = "1.37"\nkuberntes = "1.36"\n')
    done = run_pytest(toy, "-q")
    assert done.returncode == 4
    assert "releasegate.toml:2" in done.stdout + done.stderr


def test_nothing_happens_in_a_repo_without_the_config(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    done = run_pytest(tmp_path, "-q")
    assert done.returncode == 0
    assert "1 passed" in done.stdout


def test_importing_the_plugin_imports_nothing_else_of_the_package() -> None:
    script = (
        "import pytest, sys, json; before = set(sys.modules); import releasegate.plugin; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert [name for name in loaded if name.startswith("releasegate")] == ["releasegate", "releasegate.plugin"]
    assert not {"yaml", "jsonschema_rs", "click"} & set(loaded)


@pytest.mark.parametrize("workers", ["2"])
def test_xdist_judges_the_same_cases(toy: Path, workers: str) -> None:
    done = run_pytest(toy, "-q", "-n", workers, "--dist", "loadscope")
    assert done.returncode == 0, done.stdout
