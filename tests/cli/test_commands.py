"""The command line as a person or a program meets it: commands, options, exit codes, the JSON contract."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click import Group
from click.testing import CliRunner
from tests.conftest import Said, git, validate

from releasegate import cli

Run = Callable[..., Said]

# design.md 6, as far as this release goes: a command or an option that is lost or renamed breaks users.
COMMANDS = {
    "check": {"--env", "--release", "--rule", "--staged", "--kubernetes", "--json", "--junit"},
    "lint": {"--kubernetes", "--schema-location", "--json"},
    "discover": {"--json"},
    "render": {"--root"},
    "owners": {"--root", "--json"},
    "rules": {"--json", "--root"},
    "explain": {"--root"},
    "new-rule": {"--rego", "--python", "--root"},
    "tools list": {"--json", "--root"},
    "tools install": {"--root"},
    "schemas list": {"--root"},
    "schemas show": set(),
    "schemas add": {"--from", "--missing", "--context", "--root"},
}


def commands(group: Group, prefix: str = "") -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():
        if isinstance(command, Group):
            found |= commands(command, f"{prefix}{name} ")
        else:
            options = {option for one in command.params for option in one.opts if option.startswith("--")}
            found[f"{prefix}{name}"] = options
    return found


def test_the_commands_are_the_contract() -> None:
    assert commands(cli.cli) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    said = CliRunner().invoke(cli.cli, [*command.split(), "--help"])
    assert said.exit_code == 0
    assert all(option in said.output for option in COMMANDS[command])


def test_green_says_what_was_judged(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    said = releasegate("check", str(toy), "--json", str(tmp_path / "report.json"))
    assert said.code == 0, said.out
    validate(said.report)
    assert said.report["verdict"] == "passed"
    assert said.report["complete"] is True
    assert re.fullmatch("[0-9a-f]{40}", said.report["head"])
    case = next(one for one in said.report["cases"] if one["id"] == "releasegate.toml::prod/api::images/digest-only")
    assert (case["verdict"], case["subjects"]) == ("passed", 1)
    assert said.report["summary"]["objects"] == 2
    assert "helm" in said.report["tools"]
    assert said.out.rstrip().splitlines()[-1].startswith("PASSED: ")


def test_a_finding_is_one_and_names_the_line(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    values = toy / "helm/api/values-prod.yaml"
    values.write_text(values.read_text().replace("sha256:0123", "sha256:0"))
    said = releasegate("check", str(toy), "--json", str(tmp_path / "report.json"))
    assert said.code == 1, said.out
    validate(said.report)
    (red,) = (one for one in said.report["cases"] if one["verdict"] == "failed")
    (finding,) = red["findings"]
    assert (finding["path"], finding["line"]) == ("helm/api/values-prod.yaml", 3)
    assert finding["object"]["kind"] == "Deployment"
    assert finding["pointer"] == "/spec/template/spec/containers/0/image"
    assert "helm/api/values-prod.yaml:3" in said.out
    assert "fix:" in said.out


def test_a_chart_that_does_not_render_is_two_and_names_helms_line(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    (toy / "helm/api/templates/deployment.yaml").write_text("kind: X\nname: {{ .Values.nothing.here }}\n")
    said = releasegate("check", str(toy), "--json", str(tmp_path / "report.json"))
    assert said.code == 2, said.out
    validate(said.report)
    assert "helm/api/templates/deployment.yaml:2" in said.out
    assert said.report["summary"]["causes"] == 1
    other = [one for one in said.report["cases"] if one["rule"] == "schema/valid"]
    assert {(one["verdict"], one["reason"]) for one in other} == {("not-evaluated", "not rendered")}


def test_helm_lint_counts_where_the_config_asks_for_it(toy: Path, releasegate: Run) -> None:
    chart = toy / "helm/api/Chart.yaml"
    chart.write_text(chart.read_text() + "icon: no address\n")
    assert releasegate("check", str(toy)).code == 0, "helm template takes it"
    config = toy / "releasegate.toml"
    config.write_text(config.read_text() + "helm_lint = true\n")
    said = releasegate("check", str(toy))
    assert said.code == 1
    assert "helm lint: " in said.out
    assert "helm/api/Chart.yaml" in said.out


def test_a_repo_without_charts_is_three(tmp_path: Path, releasegate: Run) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/README.md").write_text("nothing\n")
    said = releasegate("check", str(tmp_path / "empty"), "--json", str(tmp_path / "report.json"))
    assert said.code == 3, said.out
    validate(said.report)
    assert said.report["verdict"] == "nothing-judged"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--env", "production"], "no environment 'production' here; there are: dev, prod"),
        (["--release", "apo"], "did you mean 'api'"),
        (["--rule", "images/digestonly"], "did you mean 'images/digest-only'"),
        (["--kubernetes", "1.12"], "no schema bundle for Kubernetes 1.12; there are: 1.34"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_use_is_four_and_says_what_there_is(
    toy: Path, releasegate: Run, tmp_path: Path, arguments: list[str], told: str
) -> None:
    said = releasegate("check", str(toy), *arguments, "--json", str(tmp_path / "report.json"))
    assert said.code == 4, said.out
    assert told in said.err
    assert "Traceback" not in said.err
    if said.report:
        validate(said.report)
        assert said.report["verdict"] == "usage-error"


def test_a_wrong_key_in_the_config_is_four_with_its_line(toy: Path, releasegate: Run) -> None:
    (toy / "releasegate.toml").write_text('kubernetes = "1.37"\n[environments.prod]\nprotectd = true\n')
    said = releasegate("check", str(toy))
    assert said.code == 4
    assert "releasegate.toml:3" in said.err
    assert "protected" in said.err


def test_a_narrowed_run_is_not_complete_and_says_so(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    said = releasegate(
        "check", str(toy), "--env", "prod", "--rule", "images/*", "--json", str(tmp_path / "report.json")
    )
    assert said.code == 0
    validate(said.report)
    assert said.report["complete"] is False
    assert {one["rule"].split("/")[0] for one in said.report["cases"]} == {"images"}
    assert "narrowed run" in said.out


def test_staged_judges_the_index_not_the_work_tree(toy: Path, releasegate: Run) -> None:
    values = toy / "helm/api/values-prod.yaml"
    good = values.read_text()
    values.write_text("image: {tag: latest}\n")
    assert releasegate("check", str(toy), "--staged").code == 0
    git(toy, "add", "-A")
    values.write_text(good)
    assert releasegate("check", str(toy)).code == 0
    assert releasegate("check", str(toy), "--staged").code == 1


def test_in_ci_a_dirty_tree_is_refused(toy: Path, releasegate: Run) -> None:
    assert releasegate("check", str(toy), env={"CI": "true"}).code == 0
    (toy / "helm/api/values.yaml").write_text("replicas: 2\n")
    said = releasegate("check", str(toy), env={"CI": "true"})
    assert said.code == 4
    assert "uncommitted" in said.err


def test_json_to_stdout_is_json_and_nothing_else(toy: Path, releasegate: Run) -> None:
    said = releasegate("check", str(toy), "--json", "-")
    validate(json.loads(said.out))
    assert "PASSED" in said.err


def test_a_report_that_cannot_be_written_is_not_half_there(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    said = releasegate("check", str(toy), "--json", str(tmp_path / "no/such/folder/report.json"))
    assert said.code == 4
    assert "cannot write the report" in said.err


def test_junit_holds_every_case(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    said = releasegate("check", str(toy), "--junit", str(tmp_path / "junit.xml"), "--json", str(tmp_path / "r.json"))
    text = (tmp_path / "junit.xml").read_text()
    assert said.code == 0
    assert text.count("<testcase") == len(said.report["cases"])
    assert 'name="verdict" value="passed"' in text


def test_render_prints_what_is_judged_and_no_secret(toy: Path, releasegate: Run) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2hunter2}\n"
    (toy / "helm/api/templates/secret.yaml").write_text(secret)
    said = releasegate("render", "prod/api", "--root", str(toy))
    assert said.code == 0
    assert "# Source: helm/api/templates/deployment.yaml" in said.out
    assert "kind: Secret" in said.out
    assert "hunter2" not in said.out
    assert releasegate("render", "prod/nothing", "--root", str(toy)).code == 4


@pytest.mark.parametrize("held", ["stringdata: {password: hunter2hunter2}", "datta: hunter2hunter2"])
def test_render_prints_no_secret_whose_field_is_misspelled(toy: Path, releasegate: Run, held: str) -> None:
    annotation = "annotations: {last-applied: hunter2hunter2}"
    secret = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  {annotation}\n{held}\n"
    (toy / "helm/api/templates/secret.yaml").write_text(secret)
    said = releasegate("render", "prod/api", "--root", str(toy))
    assert said.code == 0
    assert "kind: Secret" in said.out
    assert "name: s" in said.out
    assert "hunter2" not in said.out


def test_a_secrets_value_is_in_no_output(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: 'hunter2 hunter2!'}\n"
    (toy / "helm/api/templates/secret.yaml").write_text(secret)
    said = releasegate("check", str(toy), "--json", str(tmp_path / "r.json"), "--junit", str(tmp_path / "j.xml"))
    assert said.code == 1, "no base64, so the API server refuses it"
    for text in (said.out, said.err, (tmp_path / "r.json").read_text(), (tmp_path / "j.xml").read_text()):
        assert "hunter2" not in text


def test_what_a_chart_says_cannot_forge_a_line_of_the_log(toy: Path, releasegate: Run) -> None:
    (toy / "helm/api/templates/deployment.yaml").write_text('{{ fail "a\\n::error::forged\\u001b[2J" }}')
    said = releasegate("check", str(toy))
    assert said.code == 2
    assert not [line for line in said.out.splitlines() if line.startswith("::")]
    assert "\x1b" not in said.out


def test_discover_says_how_each_was_found(toy: Path, releasegate: Run) -> None:
    said = releasegate("discover", str(toy))
    assert said.code == 0
    assert "prod, protected, Kubernetes 1.37: 1 release" in said.out
    found = json.loads(releasegate("discover", str(toy), "--json").out)
    assert [one["name"] for one in found["environments"]] == ["dev", "prod"]
    assert found["environments"][1]["releases"][0]["sources"][0]["values"] == ["helm/api/values-prod.yaml"]


def test_rules_and_explain(releasegate: Run) -> None:
    listed = json.loads(releasegate("rules", "--json").out)
    assert {"id", "scope", "kind", "summary", "default_level", "since", "origin"} == set(listed[0])
    said = releasegate("explain", listed[0]["id"])
    assert said.code == 0
    assert "Why:" in said.out
    wrong = releasegate("explain", "images/digestonly")
    assert wrong.code == 4
    assert "did you mean 'images/digest-only'" in wrong.err


def test_owners_says_who_approves_and_by_which_line(toy: Path, releasegate: Run) -> None:
    (toy / "docs").mkdir()
    (toy / "docs/CODEOWNERS").write_text("* @acme/platform\n/helm/*/values-dev.yaml @acme/shop\n/README.md\n")
    values = ["helm/api/values-dev.yaml", "helm/api/values-prod.yaml", "README.md", "helm/new/values-dev.yaml"]
    said = releasegate("owners", *values, "--root", str(toy), "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out) == {
        "helm/api/values-dev.yaml": ["@acme/shop"],
        "helm/api/values-prod.yaml": ["@acme/platform"],
        "README.md": [],
        "helm/new/values-dev.yaml": ["@acme/shop"],
    }
    said = releasegate("owners", "helm/api", str(toy / "docs"), cwd=toy)
    assert said.code == 0
    assert "helm/api/values-dev.yaml            @acme/shop  (docs/CODEOWNERS:2 /helm/*/values-dev.yaml)" in said.out
    assert len(said.out.splitlines()) == 6
    below = releasegate("owners", "api/Chart.yaml", "../README.md", "--json", cwd=toy / "helm")
    assert json.loads(below.out) == {"api/Chart.yaml": ["@acme/platform"], "../README.md": []}


def test_owners_without_a_file_to_read_is_four(toy: Path, releasegate: Run) -> None:
    said = releasegate("owners", "helm", cwd=toy)
    assert said.code == 4
    assert "there is no CODEOWNERS file" in said.err
    (toy / "CODEOWNERS").write_text("* @a\n")
    assert releasegate("owners", "../../etc/passwd", cwd=toy).code == 4
    (toy / "CODEOWNERS").write_bytes(b"* @\xff\n")
    assert "is not UTF-8" in releasegate("owners", "helm", cwd=toy).err


POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n    - name: a\n      image: busybox@sha256:%s\n"


def test_lint_judges_files_folders_and_stdin(releasegate: Run, tmp_path: Path) -> None:
    good = POD % ("0" * 64)
    (tmp_path / "pods").mkdir()
    (tmp_path / "pods/one.yaml").write_text(good)
    (tmp_path / "pods/notes.txt").write_text("not a manifest")
    said = releasegate("lint", "pods", "--json", "out.json", cwd=tmp_path)
    assert said.code == 0, said.out
    validate(json.loads((tmp_path / "out.json").read_text()))
    bad = good.replace("image:", "imagePullPolcy: Always\n      image:")
    said = releasegate("lint", "-", cwd=tmp_path, stdin=bad)
    assert said.code == 1
    assert "imagePullPolicy" in said.out
    (tmp_path / "pods/two.yaml").write_text(bad)
    said = releasegate("lint", "pods", cwd=tmp_path)
    assert said.code == 1
    assert "pods/two.yaml:7" in said.out


@pytest.mark.parametrize(("text", "code"), [("", 3), ("# nothing\n---\n", 3), ("a: [", 2), ("- a\n", 2)])
def test_lint_of_nothing_is_never_green(releasegate: Run, tmp_path: Path, text: str, code: int) -> None:
    (tmp_path / "file.yaml").write_text(text)
    assert releasegate("lint", "file.yaml", cwd=tmp_path).code == code


def test_a_schema_location_on_the_network_is_four(releasegate: Run, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(POD % ("0" * 64))
    said = releasegate(
        "lint", "pod.yaml", "--schema-location", "https://schemas.example/{{.ResourceKind}}.json", cwd=tmp_path
    )
    assert said.code == 4
    assert "Traceback" not in said.err


def test_lint_of_a_missing_path_is_four(releasegate: Run, tmp_path: Path) -> None:
    said = releasegate("lint", "nothing.yaml", cwd=tmp_path)
    assert said.code == 4
    assert "nothing.yaml does not exist" in said.err


def test_lint_of_many_files_is_the_same_on_every_core(releasegate: Run, tmp_path: Path) -> None:
    """Files are judged in forked copies; findings, objects and counts come back whole."""
    for number in range(450):
        digest = f"{number:064x}" if number % 100 else "short"
        (tmp_path / f"{number}.yaml").write_text((POD % digest).replace("name: p", f"name: p{number}"))
    said = releasegate("lint", ".", "--json", str(tmp_path / "out.json"), cwd=tmp_path)
    assert said.report["summary"]["objects"] == 450
    findings = [
        one for case in said.report["cases"] for one in case["findings"] if case["rule"] == "images/digest-only"
    ]
    assert sorted(one["path"] for one in findings) == ["0.yaml", "100.yaml", "200.yaml", "300.yaml", "400.yaml"]


@pytest.mark.parametrize("name", ["yaml", "click", "tomllib", "jsonschema_rs", "pytest", "conftest", "sitecustomize"])
def test_no_module_of_the_checked_repo_is_imported(toy: Path, releasegate: Run, name: str) -> None:
    sentinel = toy.parent / "sentinel"
    (toy / f"{name}.py").write_text(f"open({str(sentinel)!r}, 'w').close()\nraise SystemExit(0)\n")
    (toy / "pytest.ini").write_text("[pytest]\naddopts = --co\n")
    git(toy, "add", "-A")
    git(toy, "commit", "-q", "-m", "hostile")
    values = toy / "helm/api/values-prod.yaml"
    values.write_text(values.read_text().replace("sha256:0123", "sha256:0"))
    assert releasegate("check", cwd=toy, env={"PYTEST_ADDOPTS": "--co", "PYTEST_PLUGINS": name}).code == 1
    assert not sentinel.exists()
