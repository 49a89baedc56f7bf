"""Discovery over the real helm: what it renders is followed."""

from __future__ import annotations

from pathlib import Path

from releasegate import config
from releasegate.discover import discover
from releasegate.model import Tree
from releasegate.render import Renderer
from releasegate.tools import store


def chart(name: str) -> str:
    return f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n"


def test_a_real_helm_follows_two_levels(tmp_path: Path, helm: store.Tool) -> None:
    application = """\
{{- range .Values.apps }}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: "{{ . }}-{{ $.Values.env }}"}
spec:
  destination: {namespace: "{{ $.Values.env }}"}
  source:
    repoURL: https://github.com/acme/config
    path: {{ . }}
    helm:
      values: |
        env: {{ $.Values.env }}
        apps: {{ $.Values.inner | default list | toJson }}
{{- end }}
"""
    files = {
        "root/Chart.yaml": chart("root"),
        "root/values-dev.yaml": "env: dev\n",
        "root/values-prod.yaml": "env: prod\n",
        "api/Chart.yaml": chart("api"),
        "root/templates/apps.yaml": application,
        "root/values.yaml": "apps: [mid]\ninner: [api]\n",
        "mid/Chart.yaml": chart("mid"),
        "mid/templates/apps.yaml": application,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    tree = Tree(root=str(tmp_path), files=tuple(sorted(files)), remotes=("git@github.com:acme/config.git",))
    with Renderer(tree, tool=helm, jobs=2) as renderer:
        repo = discover(tree, config.Config(), renderer.batch, kubernetes="1.37")
    assert [release.id for release in repo.releases] == [
        "dev/api",
        "dev/mid",
        "dev/root",
        "prod/api",
        "prod/mid",
        "prod/root",
    ]
    api = repo.releases[3]
    assert api.application is not None
    assert (api.application.parent, api.namespace) == ("prod/mid", "prod")
    assert api.application.template == "mid/templates/apps.yaml"
