"""Rules of installed packages: found by their entry points, and a package that is broken is told, never left out."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import Said

from releasegate import rules
from releasegate.rules import catalogue, installed
from releasegate.usage import UsageError

Run = Callable[..., Said]
RULE = '''
from releasegate.model import Finding, Kind, Scope
from releasegate.rules import manifests, rule


@rule(scope=Scope.RELEASE, kind=Kind.POLICY, subjects=manifests)
def check(subject, evidence):
    """There is no Deployment.

    Why: because.

    Fix: rename it.

    Bad:
        kind: Deployment

    Good:
        kind: Pod
    """
    if subject.kind == "Deployment":
        yield Finding(message="there is one", help="remove it", change="remove", manifest=subject)
'''
OURS = catalogue()
POINT = {"names/no-api": "acme_rules.names.no_api"}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install packages into a folder that this process imports from; forget them at the end."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(rules, "_REGISTERED", dict(rules._REGISTERED))
    before = set(sys.modules)

    def install(points: dict[str, str], files: dict[str, str] | None = None, name: str = "acme-rules") -> Path:
        for path, text in (files or {"acme_rules/names/no_api.py": RULE}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        info = folder / f"{name.replace('-', '_')}-1.2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.0\n")
        lines = "".join(f"{key} = {value}\n" for key, value in points.items())
        (info / "entry_points.txt").write_text(f"[releasegate.rules]\n{lines}")
        return folder

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("acme_rules"):
            del sys.modules[module]


def loaded() -> list[rules.Rule]:
    return list(installed.load(OURS))


def test_a_rule_of_an_installed_package_is_in_the_catalogue_and_says_where_it_is_from(
    packages: Callable[..., Path],
) -> None:
    packages(POINT)
    (one,) = loaded()
    assert (one.id, one.origin, one.since, one.summary) == (
        "names/no-api",
        "acme-rules 1.2.0",
        None,
        "There is no Deployment.",
    )


@pytest.mark.parametrize(
    ("points", "files", "why"),
    [
        (
            POINT,
            {"acme_rules/names/no_api.py": "import nothing_like_it\n"},
            "ModuleNotFoundError: No module named 'nothing",
        ),
        (POINT, {"acme_rules/names/no_api.py": "def broken(:\n"}, "SyntaxError"),
        (POINT, {"acme_rules/names/no_api.py": "raise SystemExit(0)\n"}, "SystemExit: 0"),
        (POINT, {"acme_rules/other.py": ""}, "ModuleNotFoundError"),
        (POINT, {"acme_rules/names/no_api.py": "RULE = 1\n"}, "holds no function under @rule"),
        (POINT, {"acme_rules/names/no_api.py": RULE.replace('"""', "#")}, "SyntaxError"),
        (
            POINT,
            {"acme_rules/names/no_api.py": RULE.partition('    """')[0] + "    return ()\n"},
            "has no docstring, which is its page",
        ),
        ({"names/other": "acme_rules.names.no_api"}, None, "is the rule names/no-api"),
        ({"no_id": "acme_rules.names.no_api"}, None, 'write "category/name"'),
        ({"policies/no-api": "acme_rules.names.no_api"}, None, 'write "category/name"'),
        (
            {"images/digest-only": "acme_rules.images.digest_only"},
            {"acme_rules/images/digest_only.py": RULE},
            "releasegate has a rule of that id",
        ),
    ],
)
def test_a_package_that_is_broken_is_refused_with_its_name_and_the_reason(
    packages: Callable[..., Path], points: dict[str, str], files: dict[str, str] | None, why: str
) -> None:
    packages(points, files)
    with pytest.raises(UsageError) as raised:
        loaded()
    assert "of the installed package acme-rules 1.2.0 cannot be used" in str(raised.value)
    assert why in str(raised.value)
    assert "Mend the package or uninstall it" in str(raised.value)


def test_two_packages_with_one_id_are_refused_and_both_are_named(packages: Callable[..., Path]) -> None:
    packages(POINT)
    packages({"names/no-api": "zeta_rules.names.no_api"}, {"zeta_rules/names/no_api.py": RULE}, name="zeta-rules")
    with pytest.raises(UsageError, match=r"zeta-rules 1\.2\.0.*acme-rules 1\.2\.0 has a rule of that id"):
        loaded()


def test_a_module_of_the_same_name_as_ours_takes_no_rule_of_ours_away(packages: Callable[..., Path]) -> None:
    packages({"images/digest-only": "acme_rules.images.digest_only"}, {"acme_rules/images/digest_only.py": RULE})
    with pytest.raises(UsageError):
        loaded()
    (ours,) = (one for one in OURS if one.id == "images/digest-only")
    assert ours.origin is None
    assert ours.summary == "Every image is named by its sha256 digest."


# --- through the command line -------------------------------------------------------------------------------------


def path_of(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))}


def test_an_installed_rule_judges_advises_and_is_told(
    packages: Callable[..., Path], toy: Path, releasegate: Run, tmp_path: Path
) -> None:
    env = path_of(packages(POINT))
    config = toy / "releasegate.toml"
    report = str(tmp_path / "report.json")
    said = releasegate("check", str(toy), "--json", report, env=env)
    assert said.code == 0, said.out
    assert [one["verdict"] for one in said.report["cases"] if one["rule"] == "names/no-api"] == ["advised"] * 2
    assert "acme-rules 1.2.0 holds names/no-api" in said.report["notes"]
    config.write_text(config.read_text() + '[rules]\n"names/*" = "on"\n')
    switched = releasegate("check", str(toy), "--json", report, env=env)
    assert switched.code == 1
    red = [one["id"] for one in switched.report["cases"] if one["verdict"] == "failed"]
    assert red == ["releasegate.toml::dev/api::names/no-api", "releasegate.toml::prod/api::names/no-api"]
    assert [
        one["origin"] for one in json.loads(releasegate("rules", "--json", env=env).out) if one["id"] == "names/no-api"
    ]
    assert "from acme-rules 1.2.0" in releasegate("explain", "names/no-api", env=env).out
    assert releasegate("check", str(toy)).code == 4, "the config names a rule that is not installed here"


@pytest.mark.parametrize("command", [["check"], ["rules"], ["explain", "images/digest-only"]])
def test_with_a_broken_package_nothing_is_judged_and_the_exit_code_is_four(
    packages: Callable[..., Path], toy: Path, releasegate: Run, command: list[str]
) -> None:
    env = path_of(packages(POINT, {"acme_rules/names/no_api.py": "import nothing_like_it\n"}))
    said = releasegate(*command, cwd=toy, env=env)
    assert said.code == 4
    assert "names/no-api of the installed package acme-rules 1.2.0" in said.err
    assert "Traceback" not in said.err


def test_a_broken_package_writes_a_report_that_says_so(
    packages: Callable[..., Path], toy: Path, releasegate: Run, tmp_path: Path
) -> None:
    env = path_of(packages(POINT, {"acme_rules/names/no_api.py": "1 / 0\n"}))
    said = releasegate("check", str(toy), "--json", str(tmp_path / "report.json"), env=env)
    assert (said.report["verdict"], said.report["exit_code"]) == ("usage-error", 4)
    assert "ZeroDivisionError" in said.report["notes"][0]


def test_the_checked_repo_brings_no_rule(toy: Path, releasegate: Run, packages: Callable[..., Path]) -> None:
    shutil.copytree(packages(POINT), toy, dirs_exist_ok=True)
    assert (toy / "acme_rules/names/no_api.py").exists()
    listed = releasegate("rules", cwd=toy)
    assert listed.code == 0
    assert "names/no-api" not in listed.out
