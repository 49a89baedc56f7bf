"""Small config repos for tests of rules that look at more than one object: files in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from releasegate.model import Finding, Manifest, Verdict
from releasegate.run import Selection, open_run

URL = "https://github.com/acme/config"
TOML = f'kubernetes = "1.37"\nrepo = ["{URL}"]\n'


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write the files below `root`; a releasegate.toml that says which repo this is, where none is given."""
    for name, text in {"releasegate.toml": TOML, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def verdicts(root: Path, rule: str, *also: str) -> dict[str, Verdict]:
    """Judge a rule, and others for company, over the repo; {"prod", "prod/api" or "repo": verdict of `rule`}."""
    with open_run(root, selection=Selection(rules=(rule, *also))) as run:
        run.start(run.cases)
        for case in run.cases:
            run.judge(case)
        report = run.finish()
    return {str(one.id).split("::")[1]: one for one in report.verdicts if one.id.rule == rule}


def findings(root: Path, rule: str) -> list[Finding]:
    """All findings of the rule, in the order of the cases."""
    return [finding for verdict in verdicts(root, rule).values() for finding in verdict.findings]


def application(name: str = "api-prod", **spec: Any) -> str:
    """An Application of argocd, in flow style below its header so that any value can be given."""
    from releasegate import yamlio  # noqa: PLC0415 - only the tests that build Applications

    body = {
        "project": "shop",
        "source": {"repoURL": URL, "path": "objects"},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop-prod"},
        **spec,
    }
    body = {key: value for key, value in body.items() if value is not ...}
    head = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application"}
    return yamlio.dump({**head, "metadata": {"name": name, "namespace": "argocd"}, "spec": body})


def manifest(body: Mapping[str, Any]) -> Manifest:
    """An object as a template rendered it."""
    return Manifest(body=body, text="", template="helm/api/templates/object.yaml")


CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  color: red\n"
