"""A config repo as large as asked for, and a heap of plain manifests: the same bytes for the same seed.

Each chart is one of the three of fixtures/repos/shop under another name, so that what is measured looks like what
people have: a vendored library chart, an application subchart in every third, about nine objects, three environments,
an Application for each, and one values file per environment that all of its releases read.
"""

from __future__ import annotations

import argparse
import random
import shutil
import textwrap
from pathlib import Path
from typing import Any

import yaml

SHOP = Path(__file__).resolve().parents[1] / "fixtures" / "repos" / "shop"
ARCHETYPES = ("api", "web", "worker")
ENVIRONMENTS = ("dev", "staging", "prod")
REPOSITORY = "https://github.com/acme/bench"
# What makes a key of environments/<env>.yaml reach every object of every release.
REGION_LABEL = "acme.example/region: {{ .Values.global.region }}\n{{- end -}}\n\n{{/* repository:tag@digest"


def digest(source: random.Random) -> str:
    """A digest as random as real ones look."""
    return f"sha256:{source.getrandbits(256):064x}"


def generate(into: Path, *, charts: int, seed: int = 0) -> Path:
    """Write a config repo of `charts` charts in three environments into the new folder `into`; return it."""
    source = random.Random(seed)  # noqa: S311 - reproducible, not secret
    for number in range(charts):
        _chart(into, ARCHETYPES[number % len(ARCHETYPES)], f"svc-{number:03}", source)
    for environment in ENVIRONMENTS:
        _write(into / f"environments/{environment}.yaml", f"global:\n  region: eu-{environment}-1\n")
    _write(
        into / "releasegate.toml",
        f"""
        kubernetes = "1.37"
        repo = ["{REPOSITORY}"]

        [rules]
        "images/*" = "on"

        [environments.dev]
        protected = false

        [environments.staging]
        protected = true

        [environments.prod]
        protected = true
        """,
    )
    return into


def _chart(into: Path, archetype: str, name: str, source: random.Random) -> None:
    chart = into / "helm" / name
    shutil.copytree(SHOP / "helm" / archetype, chart)
    _replace(chart / "Chart.yaml", f"name: {archetype}\n", f"name: {name}\n")
    _replace(
        chart / "values.yaml", f"registry.acme.example/shop/{archetype}\n", f"registry.acme.example/bench/{name}\n"
    )
    common = chart / "charts/common/templates/_common.tpl"
    _replace(common, "{{- end -}}\n\n{{/* repository:tag@digest", REGION_LABEL)
    tag, pinned = f"{source.randrange(9)}.{source.randrange(30)}.{source.randrange(30)}", digest(source)
    for environment in ENVIRONMENTS:
        values = chart / f"values-{environment}.yaml"
        old = yaml.safe_load(values.read_text(encoding="utf-8"))["image"]
        _replace(values, f'tag: "{old["tag"]}"', f'tag: "{tag}"')
        _replace(values, old["digest"], pinned)
        _write(
            into / f"argocd/{environment}/{name}.yaml",
            f"""
            apiVersion: argoproj.io/v1alpha1
            kind: Application
            metadata:
              name: {name}-{environment}
              namespace: argocd
            spec:
              project: default
              source:
                repoURL: {REPOSITORY}
                targetRevision: HEAD
                path: helm/{name}
                helm:
                  releaseName: {name}
                  valueFiles:
                    - ../../environments/{environment}.yaml
                    - values-{environment}.yaml
              destination:
                server: https://kubernetes.default.svc
                namespace: bench-{environment}
            """,
        )


# --- what a day changes ---------------------------------------------------------------------------------------------


def bump_one(root: Path, turn: int) -> None:
    """Another digest for one service in prod, a different service each turn."""
    charts = sorted((root / "helm").iterdir())
    path = charts[turn % len(charts)] / "values-prod.yaml"
    old = yaml.safe_load(path.read_text(encoding="utf-8"))["image"]["digest"]
    _replace(path, old, digest(random.Random(f"{old}{turn}")))  # noqa: S311


def change_environment(root: Path, turn: int) -> None:
    """Another value under a key that every release of prod reads."""
    _write(root / "environments/prod.yaml", f"global:\n  region: eu-prod-{turn + 2}\n")


def change_shared_chart(root: Path, turn: int) -> None:
    """Another template in the library chart that all charts vendor."""
    for path in root.glob("helm/*/charts/common/templates/_common.tpl"):
        text = path.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines(keepends=True) if "acme.example/library" not in line]
        at = next(i for i, line in enumerate(lines) if "app.kubernetes.io/part-of" in line)
        lines.insert(at, f'acme.example/library: "{turn}"\n')
        path.write_text("".join(lines), encoding="utf-8")


# --- plain manifests ------------------------------------------------------------------------------------------------


def manifests(into: Path, *, count: int, seed: int = 0) -> Path:
    """Write `count` valid manifests of six kinds, one a file, into the new folder `into`; return it."""
    source = random.Random(seed)  # noqa: S311
    into.mkdir(parents=True)
    made = (_deployment, _service, _config_map, _ingress, _cron_job, _network_policy)
    for number in range(count):
        body = made[number % len(made)](f"app-{number:05}", source)
        text = yaml.dump(body, Dumper=yaml.CSafeDumper, sort_keys=False)
        (into / f"{number:05}.yaml").write_text(text, encoding="utf-8")
    return into


def _object(api_version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "bench"}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "bench", "labels": labels},
        **rest,
    }


def _pod(name: str, source: random.Random, **rest: Any) -> dict[str, Any]:
    container = {
        "name": "app",
        "image": f"registry.acme.example/bench/{name}:1.{source.randrange(40)}.0@{digest(source)}",
        "args": ["serve", "--listen=:8080"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": f"OPTION_{index}", "value": str(source.randrange(1000))} for index in range(8)],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": f"{source.choice((128, 256, 512))}Mi"},
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 5},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {"securityContext": {"runAsNonRoot": True, "runAsUser": 10001}, "containers": [container], **rest}
    return {"metadata": {"labels": {"app.kubernetes.io/name": name}}, "spec": pod}


def _deployment(name: str, source: random.Random) -> dict[str, Any]:
    selector = {"matchLabels": {"app.kubernetes.io/name": name}}
    spec = {"replicas": source.randrange(1, 9), "selector": selector, "template": _pod(name, source)}
    return _object("apps/v1", "Deployment", name, spec=spec)


def _service(name: str, _source: random.Random) -> dict[str, Any]:
    port = {"name": "http", "port": 80, "targetPort": "http"}
    return _object("v1", "Service", name, spec={"selector": {"app.kubernetes.io/name": name}, "ports": [port]})


def _config_map(name: str, source: random.Random) -> dict[str, Any]:
    return _object("v1", "ConfigMap", name, data={f"KEY_{i}": f"v{source.getrandbits(64):x}" for i in range(20)})


def _ingress(name: str, _source: random.Random) -> dict[str, Any]:
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    rule = {
        "host": f"{name}.acme.example",
        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
    }
    return _object("networking.k8s.io/v1", "Ingress", name, spec={"ingressClassName": "nginx", "rules": [rule]})


def _cron_job(name: str, source: random.Random) -> dict[str, Any]:
    job = {"spec": {"backoffLimit": 1, "template": _pod(name, source, restartPolicy="Never")}}
    return _object(
        "batch/v1", "CronJob", name, spec={"schedule": f"{source.randrange(60)} 3 * * *", "jobTemplate": job}
    )


def _network_policy(name: str, _source: random.Random) -> dict[str, Any]:
    selector = {"matchLabels": {"app.kubernetes.io/name": name}}
    spec = {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": "http"}]}]}
    return _object("networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)


# --- files ----------------------------------------------------------------------------------------------------------


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{path}: {old!r} is there {text.count(old)} times, not once: shop changed")
    path.write_text(text.replace(old, new), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="write a config repo, or plain manifests, for measuring")
    parser.add_argument("into", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--charts", type=int, default=50)
    parser.add_argument("--manifests", type=int, help="plain manifests instead, so many")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.manifests:
        manifests(given.into, count=given.manifests, seed=given.seed)
    else:
        generate(given.into, charts=given.charts, seed=given.seed)
