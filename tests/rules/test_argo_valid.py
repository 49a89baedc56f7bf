"""argo/valid: Applications say what Argo CD reads."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.rules.repos import CONFIG_MAP, URL, application, verdicts, write

from releasegate import yamlio
from releasegate.model import Outcome, Verdict
from releasegate.rules import catalogue

RULE = "argo/valid"
SERVER = "https://kubernetes.default.svc"


def judged(root: Path, *, where: str = "prod", more: dict[str, str] | None = None, **spec: Any) -> Verdict:
    files = {"objects/map.yaml": CONFIG_MAP, "argocd/prod/api.yaml": application(**spec), **(more or {})}
    return verdicts(write(root, files), RULE)[where]


def told(root: Path, **spec: Any) -> list[tuple[str, str]]:
    """(message, the line it stands on)."""
    found = []
    for one in judged(root, **spec).findings:
        assert one.place is not None
        lines = (root / one.place.path).read_text().splitlines()
        found.append((one.message, lines[(one.place.line or 0) - 1].strip()))
    return found


def test_the_bad_example_of_the_page_is_bad_and_the_good_one_good(tmp_path: Path) -> None:
    doc = next(one for one in catalogue() if one.id == RULE).doc
    for name, text in zip(("bad", "good"), doc.split("Bad:", 1)[1].split("Good:", 1), strict=True):
        files = {
            "argocd/prod/api.yaml": textwrap.dedent(text),
            "helm/api/Chart.yaml": "apiVersion: v2\nname: api\nversion: 1.0.0\n",
            "helm/api/values-prod.yaml": "{}\n",
            "helm/api/templates/map.yaml": CONFIG_MAP,
        }
        assert len(verdicts(write(tmp_path / name, files), RULE)["prod"].findings) == (name == "bad")


@pytest.mark.parametrize(
    ("spec", "field", "home"),
    [
        ({"valueFiles": ["values-prod.yaml"]}, "valueFiles", "spec.source.helm"),
        ({"syncPolicy": {"prune": True}}, "prune", "spec.syncPolicy.automated"),
        ({"syncPolicy": {"selfHeal": True, "automated": {}}}, "selfHeal", "spec.syncPolicy.automated"),
        ({"releaseName": "api"}, "releaseName", "spec.source.helm"),
        ({"source": {"repoURL": URL, "path": "objects", "valueFiles": []}}, "valueFiles", "spec.source.helm"),
    ],
)
def test_a_field_in_the_wrong_place_is_found_with_the_right_one(
    tmp_path: Path, spec: dict[str, Any], field: str, home: str
) -> None:
    ((message, line),) = told(tmp_path, **spec)
    assert message == f"Application api-prod: unknown field {field}; it is a field of {home}"
    assert line.startswith(f"{field}:")


def test_a_misspelled_field_and_a_wrong_type_are_found(tmp_path: Path) -> None:
    found = told(tmp_path, syncPolicy={"automatd": {}, "syncOptions": "CreateNamespace=true"})
    assert sorted(line for _, line in found) == ["automatd: {}", 'syncOptions: "CreateNamespace=true"']
    assert any("did you mean automated?" in message for message, _ in found)


def test_an_application_set_and_a_project_in_files_are_judged_too(tmp_path: Path) -> None:
    made = yamlio.dump(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "ApplicationSet",
            "metadata": {"name": "all", "namespace": "argocd"},
            "spec": {
                "generators": [{"list": {"elements": [{"name": "a"}, {"name": "b"}]}}],
                "template": {
                    "metadata": {"name": "{{name}}-prod"},
                    "spec": {
                        "project": "shop",
                        "valueFiles": [],
                        "source": {"repoURL": URL, "path": "objects"},
                        "destination": {"server": SERVER, "namespace": "shop-prod"},
                    },
                },
            },
        }
    )
    project = yamlio.dump(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AppProject",
            "metadata": {"name": "shop", "namespace": "argocd"},
            "spec": {"sourceRepo": ["*"]},
        }
    )
    verdict = judged(tmp_path, more={"argocd/all.yaml": made, "argocd/project.yaml": project})
    assert verdict.subjects == 4
    assert sorted(one.message.partition(":")[0] for one in verdict.findings) == [
        "AppProject shop",
        "ApplicationSet all",
    ]


def test_a_key_written_twice_is_found_on_its_second_line(tmp_path: Path) -> None:
    text = application() + "  project: other\n"
    files = {"objects/map.yaml": CONFIG_MAP, "argocd/prod/api.yaml": text}
    (found,) = verdicts(write(tmp_path, files), RULE)["prod"].findings
    assert found.place is not None
    assert found.place.line == len(text.splitlines())


def test_what_a_directory_source_deploys_is_left_to_the_schema_rule(tmp_path: Path) -> None:
    root = application("apps-prod", source={"repoURL": URL, "path": "apps"})
    wrong = application("web-prod", valueFiles=[])
    files = {"objects/map.yaml": CONFIG_MAP, "argocd/prod/apps.yaml": root, "apps/web.yaml": wrong}
    write(tmp_path, files)
    assert verdicts(tmp_path, RULE)["prod"].outcome is Outcome.PASSED
    (found,) = verdicts(tmp_path, "schema/valid")["prod/apps"].findings
    assert "it is a field of spec.source.helm" in found.message


@pytest.mark.parametrize(
    ("destination", "said"),
    [
        ({"server": SERVER, "name": "in-cluster"}, "both server and name"),
        ({"namespace": "shop-prod"}, "neither server nor name"),
        ({"server": "", "name": ""}, "neither server nor name"),
    ],
)
def test_a_destination_names_one_cluster(tmp_path: Path, destination: dict[str, str], said: str) -> None:
    ((message, line),) = told(tmp_path, destination=destination)
    assert said in message
    assert line == "destination:"


def test_source_beside_sources_is_found(tmp_path: Path) -> None:
    ((message, line),) = told(tmp_path, sources=[{"repoURL": URL, "path": "objects"}])
    assert "reads sources alone" in message
    assert line == "source:"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"repoURL": URL}, "without path and without chart"),
        ({"repoURL": "https://charts.example", "chart": "redis"}, "no version of the chart redis"),
    ],
)
def test_a_source_says_what_and_which_version(tmp_path: Path, source: dict[str, str], said: str) -> None:
    ((message, line),) = told(tmp_path, source=source)
    assert said in message
    assert line == "source:"


def test_two_applications_of_one_name_in_one_folder_are_found(tmp_path: Path) -> None:
    other = application("api-prod", source={"repoURL": URL, "path": "other"})
    more = {"other/map.yaml": CONFIG_MAP, "argocd/prod/z.yaml": other}
    (found,) = judged(tmp_path, more=more).findings
    assert "two Applications are called api-prod: here and in argocd/prod/" in found.message


@pytest.mark.parametrize("path", ["clusters/eu/prod/api.yaml", "argocd/dev/api.yaml"])
def test_applications_of_other_clusters_and_environments_may_have_the_same_name(tmp_path: Path, path: str) -> None:
    other = application("api-prod", source={"repoURL": URL, "path": "other"})
    more = {"other/map.yaml": CONFIG_MAP, path: other}
    assert judged(tmp_path, more=more).outcome is Outcome.PASSED


def remote(value_file: str, *, ignore: bool = False, ref: str = URL, revision: str = "HEAD") -> list[dict[str, Any]]:
    helm: dict[str, Any] = {"valueFiles": [value_file]}
    if ignore:
        helm["ignoreMissingValueFiles"] = True
    return [
        {"repoURL": "https://charts.example", "chart": "redis", "targetRevision": "1.2.3", "helm": helm},
        {"repoURL": ref, "targetRevision": revision, "ref": "values"},
    ]


def test_a_values_file_of_a_remote_chart_that_is_not_here_is_found(tmp_path: Path) -> None:
    ((message, line),) = told(tmp_path, source=..., sources=remote("$values/redis/values-prod.yaml"))
    assert "names the values file redis/values-prod.yaml, which does not exist" in message
    assert "redis/values-prod.yaml" in line


@pytest.mark.parametrize(
    "sources",
    [
        remote("$values/objects/map.yaml"),
        remote("$values/gone.yaml", ignore=True),
        remote("$values/gone.yaml", ref="https://github.com/other/config"),
        remote("$values/gone.yaml", revision="release-1"),
        remote("$values/*/gone.yaml"),
        remote("settings.yaml"),
        remote("https://example.com/values.yaml"),
    ],
)
def test_what_is_not_certainly_missing_is_not_said_to_be(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    assert judged(tmp_path, source=..., sources=sources).findings == ()
