"""images/digest-live: a bump of the value changes the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.rules.repos import TOML, URL, application, verdicts, write

from releasegate.model import Outcome, Verdict
from releasegate.render import Renderer

pytestmark = pytest.mark.usefixtures("helm")

RULE = "images/digest-live"
ON = f'{TOML}[rules]\n"{RULE}" = "on"\n'
OLD = "sha256:" + "ab" * 32
NEW = "sha256:" + "cd" * 32
CHART = "apiVersion: v2\nname: api\nversion: 1.0.0\n"
READS = "{{ .Values.image.repository }}:1.2.3@{{ .Values.image.digest }}"
VALUES = f"image:\n  repository: registry.example/api\n  digest: {NEW}\n"


def pod(image: str, more: str = "", name: str = "api") -> str:
    head = f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n{more}"
    return f'{head}spec:\n  containers:\n    - name: {name}\n      image: "{image}"\n'


def judged(root: Path, template: str, values: str = VALUES, **files: str) -> Verdict:
    written = {
        "releasegate.toml": ON,
        "helm/api/Chart.yaml": CHART,
        "helm/api/values-prod.yaml": values,
        "helm/api/templates/pod.yaml": template,
    }
    named = {name.replace("__", "/").replace("_yaml", ".yaml"): text for name, text in files.items()}
    return verdicts(write(root, written | named), RULE)["prod/api"]


def test_a_digest_that_the_template_reads_is_live(tmp_path: Path) -> None:
    verdict = judged(tmp_path, pod(READS))
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 1)


def test_a_template_with_a_digest_of_its_own_is_found_on_the_line_of_the_dead_value(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, pod(f"registry.example/api:1.2.3@{OLD}")).findings
    assert str(found.place) == "helm/api/values-prod.yaml:3:11"
    assert found.message == (
        "no image changes with image.digest in helm/api/values-prod.yaml: "
        f"container api of Pod api runs registry.example/api:1.2.3@{OLD}"
    )
    assert not found.advice


def test_the_same_digest_written_in_the_template_too_is_found_although_it_is_rendered(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, pod(f"registry.example/api:1.2.3@{NEW}")).findings
    assert "written elsewhere too" in found.message


def test_two_values_with_one_digest_are_told_apart(tmp_path: Path) -> None:
    values = VALUES + f"worker:\n  repository: registry.example/worker\n  digest: {NEW}\n"
    template = pod(READS) + "---\n" + pod(f"registry.example/worker:1@{NEW}", name="worker")
    verdict = judged(tmp_path, template, values)
    assert verdict.subjects == 2
    assert [str(one.place) for one in verdict.findings] == ["helm/api/values-prod.yaml:6:11"]


def test_a_component_that_is_switched_off_has_no_dead_digest(tmp_path: Path) -> None:
    verdict = judged(tmp_path, "{{ if .Values.on }}\n" + pod(READS) + "{{ end }}\n" + pod("other:1", name="b"))
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 1)


def test_a_digest_that_only_a_label_shows_runs_nowhere(tmp_path: Path) -> None:
    label = "  annotations:\n    digest: {{ .Values.image.digest }}\n"
    (found,) = judged(tmp_path, pod(f"registry.example/api:1.2.3@{OLD}", label)).findings
    assert found.place is not None


def test_a_digest_in_an_argument_is_live(tmp_path: Path) -> None:
    template = (
        pod("registry.example/operator:1")
        + '      args: ["--image={{ .Values.image.repository }}@{{ .Values.image.digest }}"]\n'
    )
    assert judged(tmp_path, template).outcome is Outcome.PASSED


def test_a_reference_in_one_scalar_and_one_behind_an_alias_are_digests(tmp_path: Path) -> None:
    values = f"a: &ref registry.example/a:1@{NEW}\nb: *ref\n"
    template = pod("{{ .Values.a }}") + "---\n" + pod("{{ .Values.b }}", name="b")
    verdict = judged(tmp_path, template, values)
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 2)


def test_what_a_later_values_file_replaces_does_not_count(tmp_path: Path) -> None:
    verdict = judged(tmp_path, pod(READS), helm__api__values_yaml=f"image:\n  digest: {OLD}\n")
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 1)


def test_an_image_without_digest_is_told_by_the_rule_that_asks_for_one(tmp_path: Path) -> None:
    both = ON.replace(f'"{RULE}" = "on"', '"images/*" = "on"')
    (found,) = judged(tmp_path, pod("registry.example/api:1.2.3"), **{"releasegate.toml": both}).findings
    assert found.advice
    (found,) = judged(
        tmp_path / "alone",
        pod("registry.example/api:1.2.3"),
        **{"releasegate.toml": ON.replace("[rules]\n", '[rules]\n"images/digest-only" = "off"\n')},
    ).findings
    assert not found.advice


def deployed(root: Path, **helm: Any) -> Verdict:
    files = {
        "releasegate.toml": ON,
        "argocd/prod/api.yaml": application(source={"repoURL": URL, "path": "helm/api", "helm": helm}),
        "helm/api/Chart.yaml": CHART,
        "helm/api/values-prod.yaml": VALUES,
        "helm/api/templates/pod.yaml": pod(READS),
    }
    return verdicts(write(root, files), RULE)["prod/api"]


def test_a_parameter_that_takes_the_place_of_the_digest_is_found_where_it_is_written(tmp_path: Path) -> None:
    parameters = [{"name": "image.tag", "value": "1"}, {"name": "image.digest", "value": OLD}]
    verdict = deployed(tmp_path, valueFiles=["values-prod.yaml"], parameters=parameters)
    (found,) = verdict.findings
    assert found.place is not None
    line = (tmp_path / "argocd/prod/api.yaml").read_text().splitlines()[(found.place.line or 0) - 1]
    assert OLD in line
    assert "helm/api/values-prod.yaml (line 3)" in found.message


def test_a_parameter_for_something_else_leaves_the_digest_live(tmp_path: Path) -> None:
    parameters = [{"name": "image.digestAlgorithm", "value": "x"}, {"name": "image.tag", "value": "1"}]
    assert deployed(tmp_path, valueFiles=["values-prod.yaml"], parameters=parameters).outcome is Outcome.PASSED


def test_values_inside_the_application_are_values(tmp_path: Path) -> None:
    verdict = deployed(tmp_path, valueFiles=["values-prod.yaml"], valuesObject={"image": {"digest": OLD}})
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 1)


def test_a_release_is_rendered_once_more_at_most_and_a_shared_digest_is_asked_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    substituted = Renderer.substituted

    def counting(self: Renderer, release: Any, *rest: Any) -> Any:
        asked.append(release.id)
        return substituted(self, release, *rest)

    monkeypatch.setattr(Renderer, "substituted", counting)
    files = {"releasegate.toml": ON, "helm/api/Chart.yaml": CHART, "helm/api/templates/pod.yaml": pod(READS)}
    files["helm/api/values.yaml"] = VALUES + f"second:\n  digest: {OLD}\n"
    for name in ("one", "two", "three"):
        source = {"repoURL": URL, "path": "helm/api"}
        files[f"argocd/prod/{name}.yaml"] = application(name, source=source)
    files["plain/Chart.yaml"] = CHART
    files["plain/values-prod.yaml"] = "a: 1\n"
    files["plain/templates/pod.yaml"] = pod("registry.example/a:1")
    verdict = verdicts(write(tmp_path, files), RULE)
    assert {key: one.subjects for key, one in verdict.items() if key.startswith("prod/")} == {
        "prod/one": 2,
        "prod/two": 2,
        "prod/three": 2,
        "prod/plain": 0,
    }
    assert len(asked) == 1


def test_a_chart_that_refuses_any_other_digest_is_not_judged(tmp_path: Path) -> None:
    guard = f'{{{{ if ne .Values.image.digest "{NEW}" }}}}{{{{ fail "unknown build" }}}}{{{{ end }}}}\n'
    verdict = judged(tmp_path, guard + pod(READS))
    assert verdict.outcome is Outcome.NOT_EVALUATED
    assert verdict.reason is not None
    assert "unknown build" in verdict.reason
