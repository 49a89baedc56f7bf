"""`releasegate new-rule`: what it writes is red until it is filled in, and green when it is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import Said

ROOT = Path(__file__).parents[2]
Run = Callable[..., Said]


def written(said: Said) -> list[str]:
    assert said.code == 0, said.err
    return [line.removeprefix("wrote ") for line in said.out.splitlines() if line.startswith("wrote ")]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new))


# --- in a config repo ---------------------------------------------------------------------------------------------

POLICY = "policies/labels/no-app"


@pytest.fixture
def repo(toy: Path, releasegate: Run) -> Path:
    """A config repo with a new policy that is switched on."""
    assert written(releasegate("new-rule", "labels/no-app", cwd=toy)) == [
        f"{POLICY}/no-app.rego",
        f"{POLICY}/bad.yaml",
        f"{POLICY}/good.yaml",
    ]
    (toy / "releasegate.toml").write_text(f'kubernetes = "1.37"\n[rules]\n"{POLICY}" = "on"\n')
    return toy


def test_a_new_policy_is_not_evaluated_until_its_bad_example_is_found(repo: Path, releasegate: Run) -> None:
    said = releasegate("check", str(repo), "--rule", POLICY)
    assert said.code == 2
    assert "document 1 of its bad.yaml passes" in said.out
    edit(repo / POLICY / "no-app.rego", '== "TODO"', '== "registry.example/app:1.0.0"')
    said = releasegate("check", str(repo), "--rule", POLICY)
    assert said.code == 2, "what it finds in bad.yaml it finds in good.yaml too"
    assert "finds something in its own good.yaml" in said.out
    edit(repo / POLICY / "good.yaml", "app:1.0.0", "app:1.0.1")
    said = releasegate("check", str(repo), "--rule", POLICY)
    assert said.code == 0, said.out
    edit(repo / "helm/api/templates/deployment.yaml", "{{ .Values.image.repository }}:", "registry.example/app:1.0.0 #")
    said = releasegate("check", str(repo), "--rule", POLICY)
    assert said.code == 1, said.out


def test_explain_shows_the_page_and_the_level_of_each_environment(repo: Path, releasegate: Run) -> None:
    with (repo / "releasegate.toml").open("a") as toml:
        toml.write(f'[environments.dev]\nrules = {{ "{POLICY}" = "off" }}\n')
    said = releasegate("explain", POLICY, "--root", str(repo))
    assert said.code == 0
    assert "from policies/ of this repo" in said.out
    assert "Level here: dev off, prod on\nDefault: advise" in said.out
    guarded = releasegate("explain", "images/digest-only", "--root", str(repo)).out
    assert "since 0.1" in guarded
    assert "Level here: dev advise, prod on\nDefault: advise, on in protected environments" in guarded
    assert "Level: on, in every environment" in releasegate("explain", "schema/valid", "--root", str(repo)).out
    outside = releasegate("explain", "images/digest-only", cwd=repo.parent).out
    assert "Level: advise, on in protected environments; [rules] in releasegate.toml changes it" in outside
    for part in ("Why:", "Fix:", "Bad:", "Good:"):
        assert part in outside


def test_python_in_a_config_repo_is_a_package_that_says_it_belongs_elsewhere(toy: Path, releasegate: Run) -> None:
    said = releasegate("new-rule", "labels/team", "--python", cwd=toy)
    assert written(said) == [
        "releasegate-rules/pyproject.toml",
        "releasegate-rules/releasegate_rules/labels/team.py",
        "releasegate-rules/tests/test_labels_team.py",
    ]
    assert "a repository of its own" in said.out
    assert releasegate("check", str(toy)).code == 0, "what lies there judges nothing"


def test_the_second_rule_of_a_package_is_two_files_and_a_line(tmp_path: Path, releasegate: Run) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    assert len(written(releasegate("new-rule", "labels/team", "--python", cwd=folder))) == 3
    first = (folder / "pyproject.toml").read_text()
    assert len(written(releasegate("new-rule", "labels/cost-centre", cwd=folder))) == 3
    added = set((folder / "pyproject.toml").read_text().splitlines()) - set(first.splitlines())
    assert added == {'"labels/cost-centre" = "releasegate_rules.labels.cost_centre"'}
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    said = releasegate("new-rule", "labels/other", cwd=folder)
    assert said.code == 4
    assert '[project.entry-points."releasegate.rules"]' in said.err
    assert not (folder / "releasegate_rules/labels/other.py").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["NoSlash"], "is no id of a rule"),
        (["Images/NoFoo"], "is no id of a rule"),
        (["../../etc/passwd"], "is no id of a rule"),
        (["lib/pods"], "is no id of a rule"),
        (["policies/security/no-privileged", "--python"], "is no id of a rule"),
        (["images/digest-only", "--python"], "there is a rule images/digest-only already"),
        (["security/no-privileged"], "there is a rule policies/security/no-privileged already"),
        (["policies/security/no-privileged"], "there is a rule policies/security/no-privileged already"),
        (["a/b", "--root", "/nowhere"], "does not exist"),
    ],
)
def test_wrong_use_writes_nothing(tmp_path: Path, releasegate: Run, arguments: list[str], told: str) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    said = releasegate("new-rule", *arguments, cwd=folder)
    assert said.code == 4
    assert told in said.err
    assert list(folder.iterdir()) == []


def test_nothing_that_is_there_is_overwritten(toy: Path, releasegate: Run) -> None:
    (toy / POLICY).mkdir(parents=True)
    (toy / POLICY / "bad.yaml").write_text("mine\n")
    said = releasegate("new-rule", "labels/no-app", cwd=toy)
    assert said.code == 4
    assert f"{POLICY}/bad.yaml is there already" in said.err
    assert [path.name for path in (toy / POLICY).iterdir()] == ["bad.yaml"]


# --- in releasegate itself ----------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A copy of this project's source, as far as rules go."""
    copy = tmp_path / "home"
    for name in ("validators", "policies", "tests", "fixtures"):
        shutil.copytree(
            ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".*_cache")
        )
    shutil.copy(ROOT / "pyproject.toml", copy)
    yield copy
    shutil.rmtree(copy)


def at_home(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=home,
        env={**kept, "PYTHONPATH": str(home / "validators"), "RELEASEGATE_CACHE": str(home.parent / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("wrote ") for line in done.stdout.splitlines() if line.startswith("wrote ")]


STORY = ["README.md", "story.toml", "expect.toml"]


def test_a_new_rule_in_python_is_three_things_and_fails_until_filled_in(home: Path) -> None:
    rule, test = "validators/releasegate/rules/images/no_foo.py", "tests/rules/test_images_no_foo.py"
    done = at_home(home, "releasegate", "new-rule", "images/no-foo")
    assert lines(done) == [rule, test, *(f"fixtures/repos/incidents/images-no-foo/{name}" for name in STORY)]
    tests = [test, "tests/rules/test_catalogue.py", "tests/cli/test_incidents.py"]
    ran = at_home(
        home, "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", "images-no-foo or images_no_foo or release"
    )
    assert ran.returncode == 1
    failed = {line.partition(" - ")[0] for line in ran.stdout.splitlines() if line.startswith("FAILED ")}
    assert any("test_the_bad_example_of_the_page_is_found" in one for one in failed)
    assert any("test_the_rules_of_this_release" in one for one in failed), "the catalogue's list lacks it"
    assert any("caught_by_exactly_the_rule" in one for one in failed), "the incident does not fit its base"
    edit(home / rule, 'manifest.name == "TODO"', 'manifest.name == "foo"')
    edit(
        home / rule,
        "Bad:\n        apiVersion: v1\n        kind: ConfigMap\n        metadata:\n          name: app",
        "Bad:\n        apiVersion: v1\n        kind: ConfigMap\n        metadata:\n          name: foo",
    )
    edit(home / rule, "TODO", "call it app")
    ran = at_home(home, "pytest", "-q", "-p", "no:cacheprovider", test)
    assert ran.returncode == 0, ran.stdout


def test_a_new_rule_in_a_new_category_brings_the_category(home: Path) -> None:
    made = lines(at_home(home, "releasegate", "new-rule", "labels/team", "--python"))
    assert "validators/releasegate/rules/labels/__init__.py" in made
    assert at_home(home, "releasegate", "explain", "labels/team").stdout.startswith("labels/team  (a policy")


def test_a_new_policy_of_ours_has_a_test_of_its_own_and_fails_until_filled_in(home: Path) -> None:
    made = lines(at_home(home, "releasegate", "new-rule", "security/no-foo", "--rego"))
    folder = "policies/security/no-foo"
    assert made == [
        *(f"{folder}/{name}" for name in ("no-foo.rego", "bad.yaml", "good.yaml", "no-foo_test.rego")),
        *(f"fixtures/repos/incidents/security-no-foo/{name}" for name in STORY),
    ]
    ran = at_home(
        home, "pytest", "-q", "-p", "no:cacheprovider", "tests/rules/test_policies.py", "-k", "no-foo or verify"
    )
    assert ran.returncode == 1, ran.stdout


def test_the_templates_are_as_our_own_code_is(home: Path) -> None:
    """What we hand out passes our own lint and types."""
    at_home(home, "releasegate", "new-rule", "labels/team", "--python")
    paths = ["validators/releasegate/rules/labels/team.py", "tests/rules/test_labels_team.py"]
    assert importlib.util.find_spec("ruff") is not None
    for command in (["ruff", "check", "--no-cache"], ["ruff", "format", "--check", "--no-cache"]):
        done = at_home(home, *command, *paths)
        assert done.returncode == 0, done.stdout + done.stderr
