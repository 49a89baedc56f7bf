"""argo/sync-policy: synced as the environment says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.rules.repos import CONFIG_MAP, TOML, application, verdicts, write

from releasegate.evaluate import place_of
from releasegate.model import Outcome, Verdict

RULE = "argo/sync-policy"
MANUAL = f'{TOML}[rules]\n"{RULE}" = "on"\n[environments.prod]\nsync = "manual"\n'
AUTOMATED = MANUAL.replace("manual", "automated")


def judged(root: Path, toml: str, **spec: Any) -> Verdict:
    files = {"releasegate.toml": toml, "objects/map.yaml": CONFIG_MAP, "argocd/prod/api.yaml": application(**spec)}
    return verdicts(write(root, files), RULE)["prod"]


@pytest.mark.parametrize(
    ("policy", "automated"),
    [
        (..., False),
        (None, False),
        ({}, False),
        ({"automated": None}, False),
        ({"automated": {}}, True),
        ({"automated": {"prune": False, "selfHeal": False}}, True),
        ({"automated": {"enabled": True}}, True),
        ({"automated": {"enabled": None}}, True),
        ({"automated": {"enabled": False, "prune": True}}, False),
        ({"automated": []}, True),
    ],
)
def test_what_argo_cd_calls_automated_is_automated(tmp_path: Path, policy: Any, *, automated: bool) -> None:
    by_hand = judged(tmp_path / "manual", MANUAL, syncPolicy=policy)
    by_itself = judged(tmp_path / "automated", AUTOMATED, syncPolicy=policy)
    assert by_hand.subjects == by_itself.subjects == 1
    assert (by_hand.outcome is Outcome.FAILED) == automated
    assert (by_itself.outcome is Outcome.FAILED) == (not automated)


@pytest.mark.parametrize(("version", "passes"), [("3.1", True), ("3.2.1", True), ("3.0", False), ("2.14.9", False)])
def test_an_argo_cd_that_does_not_know_the_switch_is_not_switched_off_by_it(
    tmp_path: Path, version: str, *, passes: bool
) -> None:
    verdict = judged(tmp_path, f'argocd = "{version}"\n{MANUAL}', syncPolicy={"automated": {"enabled": False}})
    assert (verdict.outcome is Outcome.PASSED) == passes


def test_the_finding_stands_on_the_line_that_switches_it_on(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, MANUAL, syncPolicy={"automated": {"prune": True}}).findings
    assert found.place is not None
    line = (tmp_path / "argocd/prod/api.yaml").read_text().splitlines()[(found.place.line or 0) - 1]
    assert line.strip() == "automated:"


def test_an_environment_that_says_nothing_is_not_asked(tmp_path: Path) -> None:
    silent = MANUAL.replace('sync = "manual"\n', "")
    verdict = judged(tmp_path, silent, syncPolicy={"automated": {}})
    assert (verdict.outcome, verdict.subjects) == (Outcome.NOT_APPLICABLE, 0)


SET = """\
apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: all, namespace: argocd}
spec:
  generators:
    - list:
        elements: [{name: api, env: prod}, {name: web, env: prod}]
  template:
    metadata:
      name: "{{name}}-prod"
    spec:
      project: shop
      source: {repoURL: "https://github.com/acme/config", path: objects}
      destination: {server: https://kubernetes.default.svc, namespace: shop-prod}
      syncPolicy:
        automated: {}
"""


def test_the_template_of_an_application_set_is_judged_for_each_application_and_is_one_cause(tmp_path: Path) -> None:
    root = write(tmp_path, {"releasegate.toml": MANUAL, "objects/map.yaml": CONFIG_MAP, "argocd/all.yaml": SET})
    verdict = verdicts(root, RULE)["prod"]
    assert verdict.subjects == len(verdict.findings) == 2
    assert {(str(one.place), one.change) for one in verdict.findings} == {
        (f"argocd/all.yaml:{SET.splitlines().index('        automated: {}') + 1}:9", "remove syncPolicy.automated")
    }
    assert "Application api-prod (of ApplicationSet all)" in verdict.findings[0].message


def test_an_application_that_a_chart_renders_is_judged_on_the_line_of_its_template(
    helm: object, tmp_path: Path
) -> None:
    assert helm
    template = application("web", syncPolicy={"automated": {"prune": True}})
    files = {
        "releasegate.toml": MANUAL,
        "objects/map.yaml": CONFIG_MAP,
        "apps/Chart.yaml": "apiVersion: v2\nname: apps\nversion: 1.0.0\n",
        "apps/values-prod.yaml": "{}\n",
        "apps/templates/web.yaml": template,
    }
    (found,) = verdicts(write(tmp_path, files), RULE)["prod"].findings
    assert str(place_of(found)) == "apps/templates/web.yaml"
    (found,) = verdicts(tmp_path, RULE, "render/succeeds")["prod"].findings
    line = template.splitlines().index("    automated:") + 1
    assert str(found.place) == f"apps/templates/web.yaml:{line}"


def test_what_nobody_deploys_with_argo_cd_has_no_sync_policy(tmp_path: Path) -> None:
    files = {
        "releasegate.toml": MANUAL,
        "helm/api/Chart.yaml": "apiVersion: v2\nname: api\nversion: 1.0.0\n",
        "helm/api/values-prod.yaml": "{}\n",
        "helm/api/templates/map.yaml": CONFIG_MAP,
    }
    assert verdicts(write(tmp_path, files), RULE)["prod"].outcome is Outcome.NOT_APPLICABLE
