"""fixtures/repos/shop is as clean as it says, by checks that share nothing with releasegate's own.

Real helm renders it, PyYAML reads it; what is asked here is what the rules of this and later releases ask.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from releasegate.tools import store

SHOP = Path(__file__).parents[2] / "fixtures" / "repos" / "shop"
ENVIRONMENTS = ("dev", "staging", "prod")
RELEASES = ("api", "monitoring", "namespace", "web", "worker")
PINNED = re.compile(r"[a-z0-9.-]+(?:/[a-z0-9._-]+)+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}@sha256:[0-9a-f]{64}", re.ASCII)
CASES = [(environment, release) for environment in ENVIRONMENTS for release in RELEASES]
Objects = list[dict[str, Any]]


@functools.cache
def _application(environment: str, release: str) -> dict[str, Any]:
    read = yaml.safe_load((SHOP / "argocd" / environment / f"{release}.yaml").read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    return read


@functools.cache
def _rendered(helm: str, environment: str, release: str) -> str:
    """What Argo CD's arguments make of the Application's source; a folder of manifests is itself."""
    spec = _application(environment, release)["spec"]
    path = SHOP / spec["source"]["path"]
    if "helm" not in spec["source"]:
        return "\n---\n".join(file.read_text(encoding="utf-8") for file in sorted(path.glob("*.yaml")))
    values = [argument for file in spec["source"]["helm"]["valueFiles"] for argument in ("--values", str(path / file))]
    argv = [helm, "template", str(path), "--name-template", spec["source"]["helm"]["releaseName"]]
    argv += ["--namespace", spec["destination"]["namespace"], "--kube-version", "1.37", "--include-crds", *values]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def _objects(helm: store.Tool, environment: str, release: str) -> Objects:
    documents = yaml.safe_load_all(_rendered(str(helm.path), environment, release))
    return [document for document in documents if document]


def _environment(helm: store.Tool, environment: str) -> Objects:
    return [one for release in RELEASES for one in _objects(helm, environment, release)]


def _pod_templates(objects: Objects) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(kind, pod metadata, pod spec) of everything that makes pods."""
    for one in objects:
        match one["kind"]:
            case "Pod":
                yield "Pod", one["metadata"], one["spec"]
            case "Deployment" | "StatefulSet" | "Job":
                yield one["kind"], one["spec"]["template"]["metadata"], one["spec"]["template"]["spec"]
            case "CronJob":
                template = one["spec"]["jobTemplate"]["spec"]["template"]
                yield "CronJob", template["metadata"], template["spec"]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize(("environment", "release"), CASES)
def test_each_release_renders_to_objects_that_kubernetes_1_37_knows(
    helm: store.Tool, environment: str, release: str
) -> None:
    objects = _objects(helm, environment, release)
    assert objects
    for one in objects:
        if not one["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(one, "1.37.0", strict=True)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_image_is_pinned_by_tag_and_digest(helm: store.Tool, environment: str) -> None:
    images = [one["image"] for _, _, pod in _pod_templates(_environment(helm, environment)) for one in _containers(pod)]
    assert len(images) == 9, "api, its migration; web, its exporter, memcached, the smoke test; worker, init, reconcile"
    assert [image for image in images if not PINNED.fullmatch(image)] == []
    text = "\n".join(_rendered(str(helm.path), environment, release) for release in RELEASES)
    assert len(re.findall(r"^\s*(?:- )?image:", text, re.MULTILINE)) == len(images), "an image hides where no pod is"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_container_has_resources_and_runs_as_nobody_and_what_runs_for_long_is_probed(
    helm: store.Tool, environment: str
) -> None:
    for kind, _, pod in _pod_templates(_environment(helm, environment)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in _containers(pod):
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert set(container["resources"]["limits"]) == {"cpu", "memory"}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        if kind in {"Deployment", "StatefulSet"}:
            assert all("livenessProbe" in one and "readinessProbe" in one for one in pod["containers"])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_selector_selects_and_every_named_port_is_there(helm: store.Tool, environment: str) -> None:
    objects = _environment(helm, environment)
    pods = [(metadata["labels"], pod) for _, metadata, pod in _pod_templates(objects)]
    for one in objects:
        if one["kind"] in {"Service", "PodDisruptionBudget", "Deployment", "StatefulSet"}:
            selector = one["spec"]["selector"]
            wanted = selector.get("matchLabels", selector)
            chosen = [pod for labels, pod in pods if wanted.items() <= labels.items()]
            assert chosen, f"{one['kind']}/{one['metadata']['name']} selects nothing"
            ports = {port["name"] for pod in chosen for part in pod["containers"] for port in part.get("ports", [])}
            assert one["kind"] != "Service" or {port["targetPort"] for port in one["spec"]["ports"]} <= ports


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_monitors_and_autoscalers_point_at_what_is_there(helm: store.Tool, environment: str) -> None:
    objects = _environment(helm, environment)
    deployments = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Deployment"}
    services = [one for one in objects if one["kind"] == "Service"]
    for one in objects:
        if one["kind"] == "HorizontalPodAutoscaler":
            assert one["spec"]["scaleTargetRef"]["kind"] == "Deployment"
            assert "replicas" not in deployments[one["spec"]["scaleTargetRef"]["name"]]["spec"]
        if one["kind"] == "ServiceMonitor":
            labels = one["spec"]["selector"]["matchLabels"].items()
            ports = {
                port["name"]
                for service in services
                if labels <= service["metadata"]["labels"].items()
                for port in service["spec"]["ports"]
            }
            assert {endpoint["port"] for endpoint in one["spec"]["endpoints"]} <= ports
            assert one["spec"]["namespaceSelector"]["matchNames"] == [f"shop-{environment}"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_pods_refer_to_exists_or_is_said_to_come_from_outside(helm: store.Tool, environment: str) -> None:
    objects = _environment(helm, environment)
    names = {f"{one['kind']}/{one['metadata']['name']}" for one in objects}
    external = tomllib.loads((SHOP / "releasegate.toml").read_text(encoding="utf-8"))["references"]["external"]
    referred = {one for _, _, pod in _pod_templates(objects) for one in _references(pod)}
    assert {"ServiceAccount/api", "ConfigMap/api", "Secret/vault-api"} <= referred
    missing = {one for one in referred - names if not any(fnmatchcase(one, pattern) for pattern in external)}
    assert missing == set()


def _references(pod: dict[str, Any]) -> Iterator[str]:
    if "serviceAccountName" in pod:
        yield f"ServiceAccount/{pod['serviceAccountName']}"
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            yield f"ConfigMap/{volume['configMap']['name']}"
    for container in _containers(pod):
        for source in container.get("envFrom", []):
            yield f"ConfigMap/{source['configMapRef']['name']}"
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                yield f"Secret/{variable['valueFrom']['secretKeyRef']['name']}"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_object_is_made_twice(helm: store.Tool, environment: str) -> None:
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in _environment(helm, environment)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_project_allows_all_that_is_rendered_and_where_it_goes(helm: store.Tool, environment: str) -> None:
    project = yaml.safe_load((SHOP / "argocd/project.yaml").read_text(encoding="utf-8"))["spec"]
    allowed = {(one["group"], one["kind"]) for one in project["namespaceResourceWhitelist"]}
    for one in _environment(helm, environment):
        group = one["apiVersion"].rpartition("/")[0]
        # Argo CD never applies a test hook, so the project need not allow its Pod.
        if one["metadata"].get("annotations", {}).get("helm.sh/hook") != "test":
            assert (group, one["kind"]) in allowed
            assert "namespace" not in one["metadata"], "the Application's destination decides"
    for release in RELEASES:
        spec = _application(environment, release)["spec"]
        assert spec["destination"] in project["destinations"]
        assert spec["source"]["repoURL"] in project["sourceRepos"]
        assert ("automated" in spec["syncPolicy"]) == (environment == "dev")


def test_every_application_of_the_repo_is_one_of_those_tested_here() -> None:
    files = {path.relative_to(SHOP / "argocd").as_posix() for path in (SHOP / "argocd").rglob("*.yaml")}
    assert files == {f"{environment}/{release}.yaml" for environment, release in CASES} | {"project.yaml"}
    assert {_application(*case)["metadata"]["name"] for case in CASES} == {f"{two}-{one}" for one, two in CASES}


def test_component_tags_say_what_every_environment_runs() -> None:
    tags = json.loads((SHOP / "component-tags.json").read_text(encoding="utf-8"))
    assert set(tags) == {path.name for path in (SHOP / "helm").iterdir()}
    for service, component in tags.items():
        assert re.fullmatch(r"[0-9a-f]{7,40}", component["sha"])
        for environment in ENVIRONMENTS:
            values = yaml.safe_load((SHOP / f"helm/{service}/values-{environment}.yaml").read_text(encoding="utf-8"))
            assert values["image"] == {"tag": component["tag"], "digest": component["digest"]}


def test_the_vendored_library_chart_is_the_same_everywhere() -> None:
    copies = {
        tuple(
            (path.relative_to(chart).as_posix(), path.read_text(encoding="utf-8"))
            for path in sorted(chart.rglob("*.*"))
        )
        for chart in SHOP.glob("helm/*/charts/common")
    }
    assert len(copies) == 1


def test_prometheus_rules_are_rendered_from_the_plain_files_and_the_files_have_unit_tests(helm: store.Tool) -> None:
    files = sorted((SHOP / "monitoring/rules").glob("*.yaml"))
    groups = [yaml.safe_load(file.read_text(encoding="utf-8"))["groups"] for file in files]
    objects = _objects(helm, "prod", "monitoring")
    rendered = [one["spec"]["groups"] for one in objects if one["kind"] == "PrometheusRule"]
    assert rendered == groups
    alerts = {rule["alert"]: rule for part in groups for group in part for rule in group["rules"] if "alert" in rule}
    assert all(rule["labels"]["severity"] in {"critical", "warning"} for rule in alerts.values())
    assert all({"summary", "runbook_url"} <= set(rule["annotations"]) and "for" in rule for rule in alerts.values())
    for file in files:
        tests = yaml.safe_load((SHOP / f"monitoring/tests/{file.stem}.test.yaml").read_text(encoding="utf-8"))
        assert tests["rule_files"] == [f"../rules/{file.name}"]
        assert all(one["alert_rule_test"] for one in tests["tests"])


def test_every_file_has_an_owner_and_what_reaches_staging_or_prod_has_the_platform_team() -> None:
    lines = (SHOP / ".github/CODEOWNERS").read_text(encoding="utf-8").splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    developers = {pattern for pattern, *owners in rules if owners == ["@acme/shop"]}
    assert all(owners in (["@acme/shop"], ["@acme/platform"]) for _, *owners in rules)
    assert rules[0] == ["*", "@acme/platform"], "the last match wins, so the catch-all comes first"
    assert all("dev" in pattern or pattern == "/README.md" for pattern in developers)
    for pattern in developers:
        assert list(SHOP.glob(pattern.strip("/"))), f"{pattern} matches nothing"


def test_the_config_names_what_is_there() -> None:
    config = tomllib.loads((SHOP / "releasegate.toml").read_text(encoding="utf-8"))
    assert set(config["environments"]) == set(ENVIRONMENTS)
    assert config["repo"] == [_application("prod", "api")["spec"]["source"]["repoURL"]]


def test_the_workflow_always_runs_and_pins_what_it_uses() -> None:
    for path in sorted((SHOP / ".github/workflows").glob("*.yml")):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            assert not {"if", "continue-on-error"} & set(job)
            used = [step["uses"] for step in job["steps"] if "uses" in step]
            assert used
            assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)] == []
    required = yaml.safe_load((SHOP / ".github/workflows/releasegate.yml").read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true.
    assert required[True] == {"pull_request": None, "merge_group": None}
    assert list(required["jobs"]) == ["gate"]
