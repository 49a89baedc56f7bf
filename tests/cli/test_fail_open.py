"""Ways in which a check was green over something it had not looked at, or died of it. Each was found by trying."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Said, git, validate

Run = Callable[..., Said]

APPLICATION = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {{name: api-{environment}}}
spec:
  project: default
  source:
    repoURL: https://github.com/acme/config
    path: helm/api
    helm: {{valueFiles: [values-{environment}.yaml]}}
  destination: {{server: https://kubernetes.default.svc, namespace: {environment}}}
"""


@pytest.fixture
def deployed(toy: Path) -> Path:
    """The toy repo with an Application per environment."""
    (toy / "releasegate.toml").write_text('kubernetes = "1.37"\nrepo = ["https://github.com/acme/config"]\n')
    for environment in ("dev", "prod"):
        path = toy / "apps" / environment / "api.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(APPLICATION.format(environment=environment))
    return toy


def test_the_repo_these_stories_start_from_is_green(deployed: Path, releasegate: Run) -> None:
    said = releasegate("check", str(deployed))
    assert said.code == 0, said.out


@pytest.mark.parametrize(
    "text", ["foo: bar\n", "kind: ConfigMap\nmetadata: {name: x}\n", "apiVersion: v1\nmetadata: {name: x}\n"]
)
def test_a_document_without_kind_or_version_is_no_object(
    toy: Path, releasegate: Run, tmp_path: Path, text: str
) -> None:
    (tmp_path / "n.yaml").write_text(text)
    assert releasegate("lint", "n.yaml", cwd=tmp_path).code == 1
    (toy / "helm/api/templates/odd.yaml").write_text(text)
    assert releasegate("check", str(toy)).code == 1


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_an_application_that_is_no_utf8_is_not_lost(deployed: Path, releasegate: Run, encoding: str) -> None:
    path = deployed / "apps/prod/api.yaml"
    path.write_bytes(path.read_text().replace("default\n", "café\n", 1).encode(encoding))
    said = releasegate("check", str(deployed))
    assert said.code == 2
    assert "apps/prod/api.yaml" in said.out


@pytest.mark.parametrize("target", ["/etc/hostname", "nowhere.yaml", "api.yaml"])
def test_an_application_behind_a_link_that_leads_nowhere_is_not_lost(
    deployed: Path, releasegate: Run, target: str
) -> None:
    path = deployed / "apps/prod/api.yaml"
    path.unlink()
    path.symlink_to(target)
    said = releasegate("check", str(deployed))
    assert said.code == 2
    assert "apps/prod/api.yaml" in said.out
    assert "Traceback" not in said.out + said.err


def test_a_misspelled_application_is_not_lost(deployed: Path, releasegate: Run) -> None:
    path = deployed / "apps/prod/api.yaml"
    path.write_text(path.read_text().replace("kind: Application", "kind: Aplication"))
    said = releasegate("check", str(deployed))
    assert said.code == 2
    assert "did you mean Application?" in said.out


def test_values_of_a_source_nobody_named_are_refused_as_argo_does(deployed: Path, releasegate: Run) -> None:
    path = deployed / "apps/prod/api.yaml"
    path.write_text(path.read_text().replace("[values-prod.yaml]", "[$nope/helm/api/values-prod.yaml]"))
    said = releasegate("check", str(deployed))
    assert said.code == 2
    assert "$nope" in said.out


@pytest.mark.parametrize("target", ["/dev/zero", "values-prod.yaml"])
def test_a_values_file_that_is_a_device_or_a_loop_ends_the_run_in_time(
    deployed: Path, releasegate: Run, target: str
) -> None:
    path = deployed / "helm/api/values-prod.yaml"
    path.unlink()
    path.symlink_to(target)
    said = releasegate("check", str(deployed))
    assert said.code == 2
    assert "helm/api/values-prod.yaml" in said.out
    assert "Traceback" not in said.out + said.err


def test_a_version_without_bundle_is_wrong_config_in_an_environment_too(toy: Path, releasegate: Run) -> None:
    (toy / "releasegate.toml").write_text('[environments.prod]\nkubernetes = "1.12"\n')
    said = releasegate("check", str(toy))
    assert said.code == 4
    assert "there are: 1.34" in said.err


def test_a_bomb_in_the_config_is_wrong_config(toy: Path, releasegate: Run) -> None:
    (toy / "releasegate.toml").write_text("a." * 20000 + "b = 1\n")
    said = releasegate("check", str(toy))
    assert said.code == 4
    assert "releasegate.toml:1" in said.err


def test_an_environment_called_repo_is_refused(toy: Path, releasegate: Run) -> None:
    (toy / "releasegate.toml").write_text("[environments.repo]\nprotected = true\n")
    assert releasegate("check", str(toy)).code == 4


def test_a_report_goes_through_a_link_and_into_a_pipe(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("real.json")
    said = releasegate("check", str(toy), "--json", str(tmp_path / "link.json"))
    assert (tmp_path / "link.json").is_symlink()
    validate(said.report)
    assert releasegate("check", str(toy), "--json=/dev/null").code == 0
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("junit", ["-", "no/such/folder/junit.xml"])
def test_a_junit_report_is_written_where_it_can_be(toy: Path, releasegate: Run, junit: str) -> None:
    assert releasegate("check", str(toy), "--junit", junit, cwd=toy).code == 4
    assert not (toy / "-").exists()
    assert not (toy / "no").exists()


def test_the_value_that_breaks_a_charts_schema_is_not_printed(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    (toy / "helm/api/values.schema.json").write_text('{"properties": {"password": {"minLength": 40}}}')
    values = toy / "helm/api/values-prod.yaml"
    values.write_text(values.read_text() + "password: hunter2hunter2\n")
    git(toy, "add", "-A")
    said = releasegate("check", str(toy), "--json", str(tmp_path / "r.json"))
    assert said.code == 2
    assert "/password" in said.out
    assert "hunter2" not in said.out + (tmp_path / "r.json").read_text()


def test_helms_error_names_no_folder_of_ours(toy: Path, releasegate: Run, tmp_path: Path) -> None:
    """It is part of a cause's id, which has to be the same in the next run."""
    (toy / "helm/api/values-prod.yaml").write_text("a: [\n")
    first = releasegate("check", str(toy), "--json", str(tmp_path / "r.json")).report
    again = releasegate("check", str(toy), "--json", str(tmp_path / "r.json")).report
    assert [one["id"] for one in first["causes"]] == [one["id"] for one in again["causes"]]
    assert "releasegate-" not in str(first["cases"])
