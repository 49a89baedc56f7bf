"""Fixtures that every test may ask for. A missing tool fails a test here; it never skips one."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from releasegate.tools import store


@pytest.fixture(autouse=True)
def _at_a_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests judge work trees as they are, also where they run in CI; those about CI set the variable themselves."""
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture(scope="session")
def helm() -> store.Tool:
    """The locked helm, from RELEASEGATE_TOOLS, the tool cache, or PATH."""
    found = store.find("helm")
    assert isinstance(found, store.Tool), f"{found}: run `make setup`"
    return found


@pytest.fixture(scope="session")
def helm_3() -> store.Tool:
    """The Helm that Argo CD 3.1 bundles, from the tool cache."""
    found = store.find("helm", pinned="3.18.4")
    assert isinstance(found, store.Tool), f"{found}: run `make setup`"
    return found


@pytest.fixture(scope="session")
def promtool() -> store.Tool:
    """The locked promtool, from RELEASEGATE_TOOLS, the tool cache, or PATH."""
    found = store.find("promtool")
    assert isinstance(found, store.Tool), f"{found}: run `make setup`"
    return found


CHART = """\
apiVersion: v2
name: api
version: 1.0.0
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
        - name: api
          image: {{ .Values.image.repository }}:{{ .Values.image.tag }}@{{ .Values.image.digest }}
"""
VALUES = """\
replicas: 1
image:
  repository: registry.acme.example/api
"""
DIGEST = "sha256:" + "0123456789abcdef" * 4
ENVIRONMENT_VALUES = f"""\
image:
  tag: "1.7.3"
  digest: {DIGEST}
"""


def git(folder: Path, *arguments: str) -> None:
    """Run git in a repository of a test, with an identity of its own."""
    identity = ["-c", "user.name=test", "-c", "user.email=test@acme.example", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A small clean config repo: one chart, dev and prod, committed."""
    root = tmp_path / "config"
    files = {
        "helm/api/Chart.yaml": CHART,
        "helm/api/templates/deployment.yaml": DEPLOYMENT,
        "helm/api/values.yaml": VALUES,
        "helm/api/values-dev.yaml": ENVIRONMENT_VALUES,
        "helm/api/values-prod.yaml": ENVIRONMENT_VALUES,
        "releasegate.toml": 'kubernetes = "1.37"\n',
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def closed(schema: Any) -> Any:
    """The schema with every object closed: our own report holds nothing the schema does not describe."""
    if isinstance(schema, dict):
        made = {key: closed(value) for key, value in schema.items()}
        if made.get("type") == "object" and "properties" in made:
            made["additionalProperties"] = False
        return made
    return [closed(one) for one in schema] if isinstance(schema, list) else schema


def validate(report: dict[str, Any]) -> None:
    """The report is what its shipped JSON Schema says, no more and no less."""
    text = importlib.resources.files("releasegate").joinpath("data/report.schema.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator(closed(json.loads(text))).validate(report)


@dataclass(frozen=True)
class Said:
    """What the command line answered: its exit code, its two streams, and the JSON report when one was asked for."""

    code: int
    out: str
    err: str
    report: dict[str, Any]


@pytest.fixture
def releasegate(tmp_path: Path) -> Callable[..., Said]:
    """The command line as a person starts it: another process, a cache of this test's own, not in CI."""

    def run(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: str = "") -> Said:
        surroundings = {name: value for name, value in os.environ.items() if name != "CI"}
        surroundings |= {"RELEASEGATE_CACHE": str(tmp_path / "cache"), **(env or {})}
        done = subprocess.run(
            [sys.executable, "-m", "releasegate", *arguments],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=surroundings,
            input=stdin,
            check=False,
            timeout=300,
        )
        report: dict[str, Any] = {}
        if "--json" in arguments[:-1]:
            wanted = arguments[arguments.index("--json") + 1]
            if wanted != "-" and Path(wanted).exists():
                report = json.loads(Path(wanted).read_text())
        return Said(done.returncode, done.stdout, done.stderr, report)

    return run


@pytest.fixture(scope="session")
def helm_worker() -> store.Tool:
    """The render worker built from this source, from RELEASEGATE_TOOLS or the tool cache."""
    found = store.find("releasegate-helm-worker")
    assert isinstance(found, store.Tool), f"{found}: run `make setup`"
    return found


@pytest.fixture(scope="session")
def conftest() -> store.Tool:
    """The locked conftest, from RELEASEGATE_TOOLS, the tool cache, or PATH."""
    found = store.find("conftest")
    assert isinstance(found, store.Tool), f"{found}: run `make setup`"
    return found
