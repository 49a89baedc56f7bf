"""What a source hands to helm beyond values files: file parameters, the build environment, several charts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from releasegate import config
from releasegate.discover import discover
from releasegate.discover.buildenv import BuildEnvironment, UnknownValue
from releasegate.model import HelmSource, Release, Rendered, Tree, Unrendered, UnsupportedSource
from releasegate.render import Renderer
from releasegate.tools import store

URL = "https://github.com/acme/config"
CHART = "apiVersion: v2\nname: api\nversion: 1.0.0\n"
TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}", namespace: "{{ .Release.Namespace }}"}
data:
  said: {{ .Values.said | quote }}
  kube: {{ .Capabilities.KubeVersion.Version | quote }}
"""
SHA = "0123456789abcdef0123456789abcdef01234567"


def application(source: dict[str, Any] | None = None, **spec: Any) -> str:
    made = {"source": {"repoURL": URL, "path": "helm/api", **(source or {})}} if source is not None else {}
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "api-prod", "namespace": "argocd"},
        "spec": {"project": "", "destination": {"server": "x", "namespace": "shop"}, **made, **spec},
    }
    return json.dumps(body, indent=1)


def build(root: Path, text: str, files: dict[str, str] | None = None, **more: Any) -> Tree:
    every = {
        "argocd/app.yaml": text,
        "helm/api/Chart.yaml": CHART,
        "helm/api/values.yaml": "said: nothing\n",
        "helm/api/templates/a.yaml": TEMPLATE,
        **(files or {}),
    }
    for name, content in every.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Tree(root=str(root), files=tuple(sorted(every)), **{"remotes": (URL,), "head": SHA, **more})


def release_of(tree: Tree) -> Release:
    repo = discover(
        tree,
        config.Config(),
        lambda releases, _: [Rendered(release=one, manifests=()) for one in releases],
        kubernetes="1.37",
    )
    (found,) = [one for one in repo.releases if one.application is not None]
    return found


def rendered(tree: Tree, helm: store.Tool) -> Rendered | Unrendered:
    with Renderer(tree, tool=helm, jobs=1) as renderer:
        repo = discover(tree, config.Config(), renderer.batch, kubernetes="1.37")
        (found,) = [one for one in repo.releases if one.application is not None]
        return renderer.result(found, repo.environment(found.environment))


def helm_source(release: Release, index: int = 0) -> HelmSource:
    source = release.sources[index]
    assert isinstance(source, HelmSource), source
    return source


# --- file parameters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("said.txt", "helm/api/said.txt"),
        ("../shared/said.txt", "helm/shared/said.txt"),
        ("/texts/said.txt", "texts/said.txt"),
        ("./$ARGOCD_APP_NAME.txt", "helm/api/api-prod.txt"),
        ("a*.txt", "helm/api/a*.txt"),
    ],
)
def test_a_file_parameter_counts_from_the_chart_or_from_the_top(
    tmp_path: Path, helm: store.Tool, path: str, file: str
) -> None:
    """util/io/path/resolved.go; a star is a star here."""
    parameters = [{"name": "said", "path": "gone.txt"}, {"name": "said", "path": path}]
    tree = build(tmp_path, application({"helm": {"fileParameters": parameters}}), {file: "hello\nyou"})
    release = release_of(tree)
    assert helm_source(release).file_parameters == (("said", file),)
    (place,) = helm_source(release).file_places
    assert place is not None
    assert path in (tmp_path / "argocd/app.yaml").read_text().splitlines()[(place.line or 0) - 1]
    answer = rendered(tree, helm)
    assert isinstance(answer, Rendered)
    assert answer.manifests[0].body["data"]["said"] == "hello\nyou"


def test_a_file_parameter_beats_parameters_and_values(tmp_path: Path, helm: store.Tool) -> None:
    """helm reads --set-file after --set and --set-string, and these after --values."""
    source = {
        "helm": {
            "fileParameters": [{"name": "said", "path": "said.txt"}],
            "parameters": [{"name": "said", "value": "parameter"}],
            "values": "said: values",
        }
    }
    answer = rendered(build(tmp_path, application(source), {"helm/api/said.txt": "file"}), helm)
    assert isinstance(answer, Rendered)
    assert answer.manifests[0].body["data"]["said"] == "file"


def test_a_file_parameter_that_is_missing_breaks_the_render_where_it_is_named(tmp_path: Path, helm: store.Tool) -> None:
    """ignoreMissingValueFiles is for values files only."""
    source = {"helm": {"fileParameters": [{"name": "said", "path": "gone.txt"}], "ignoreMissingValueFiles": True}}
    answer = rendered(build(tmp_path, application(source)), helm)
    assert isinstance(answer, Unrendered)
    assert (answer.broken, "helm/api/gone.txt" in answer.reason) == (True, True)
    assert "fileParameters" in answer.remedy
    assert answer.place is not None
    assert answer.place.path == "argocd/app.yaml"
    assert "gone.txt" in (tmp_path / "argocd/app.yaml").read_text().splitlines()[(answer.place.line or 0) - 1]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "said", "path": "../../../etc/passwd"}, "leaves the repo"),
        ({"name": "said", "path": "https://acme.example/x"}, "on the network"),
        ({"name": "said", "path": "$values/x.txt"}, "begins with $values"),
        ({"name": "said"}, "without name or path"),
        ({"path": "x"}, "without name or path"),
    ],
)
def test_a_file_parameter_that_argo_refuses_is_not_rendered(tmp_path: Path, entry: dict[str, str], said: str) -> None:
    (source,) = release_of(build(tmp_path, application({"helm": {"fileParameters": [entry]}}))).sources
    assert isinstance(source, UnsupportedSource)
    assert said in source.reason


def test_a_file_parameter_of_another_source_counts_from_its_top(tmp_path: Path, helm: store.Tool) -> None:
    sources = [
        {"repoURL": URL, "path": "helm/api", "helm": {"fileParameters": [{"name": "said", "path": "$texts/t/x.txt"}]}},
        {"repoURL": URL, "ref": "texts"},
    ]
    answer = rendered(build(tmp_path, application(sources=sources), {"t/x.txt": "hello"}), helm)
    assert isinstance(answer, Rendered)
    assert answer.manifests[0].body["data"]["said"] == "hello"


# --- the build environment ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ARGOCD_APP_NAME", "api"), ("${ARGOCD_APP_NAME}x", "apix"), ("a$ARGOCD_APP_NAME-b", "aapi-b"),
        ("$$ARGOCD_APP_NAME", "$ARGOCD_APP_NAME"), ("${$}x", "$x"), ("$UNKNOWN-x", "-x"), ("$KUBE_VERSION", ""),
        ("100$", "100$"), ("$ x", "$ x"), ("$1abc", "abc"), ("${}x", "x"), ("${a b}x", "x"), ("${open", "open"),
        ("$ARGOCD_APP_REVISION_SHORT", SHA[:7]), ("$ARGOCD_APP_PROJECT_NAME", "default"), ("$-x", "x"), ("$.x", "$.x"),
        ("$ARGOCD_APP_SOURCE_PATH", "helm/api"), ("$ARGOCD_APP_REVISION_SHORT_8", SHA[:8]), ("", ""), ("$é", "$é"),
    ],
)  # fmt: skip
def test_variables_are_replaced_as_go_expands_them(text: str, expected: str) -> None:
    """Compared once with os.Expand of Go 1.26 under Env.Envsubst's mapping."""
    environment = BuildEnvironment.of(
        name="api", namespace="shop", project="", source={"path": "helm/api"}, revision=SHA
    )
    assert environment.substituted(text) == expected


def test_a_revision_that_git_does_not_know_is_said_and_not_guessed(tmp_path: Path) -> None:
    environment = BuildEnvironment.of(name="api", namespace="shop", project="", source={}, revision=None)
    with pytest.raises(UnknownValue, match="ARGOCD_APP_REVISION"):
        environment.substituted("v-${ARGOCD_APP_REVISION}")
    source = {"helm": {"parameters": [{"name": "said", "value": "$ARGOCD_APP_REVISION"}]}}
    (unjudged,) = release_of(build(tmp_path, application(source), head=None)).sources
    assert isinstance(unjudged, UnsupportedSource)
    assert "uses $ARGOCD_APP_REVISION, which is not known" in unjudged.reason
    parameter = helm_source(release_of(build(tmp_path, application(source)))).parameters[0]
    assert parameter.value == SHA


def test_with_several_sources_a_dollar_names_a_source(tmp_path: Path) -> None:
    """reposerver: "source referenced …, but no source has a 'ref' field defined"."""
    source = {"repoURL": URL, "path": "helm/api", "helm": {"valueFiles": ["$ARGOCD_APP_NAME.yaml"]}}
    (unjudged,) = release_of(build(tmp_path, application(sources=[source]))).sources
    assert isinstance(unjudged, UnsupportedSource)
    assert "Argo CD refuses it" in unjudged.reason


# --- overrides in git ---------------------------------------------------------------------------------------------


def test_what_an_override_replaces_stands_in_the_override(tmp_path: Path) -> None:
    override = "helm:\n  fileParameters:\n    - {name: said, path: o.txt}\n  values: |\n    said: there\n"
    source = {"helm": {"fileParameters": [{"name": "said", "path": "a.txt"}], "values": "said: here\n"}}
    tree = build(tmp_path, application(source), {"helm/api/.argocd-source.yaml": override, "helm/api/o.txt": "x"})
    found = helm_source(release_of(tree))
    assert found.file_parameters == (("said", "helm/api/o.txt"),)
    assert str(found.file_places[0]).startswith("helm/api/.argocd-source.yaml:3:")
    assert found.inline is not None
    assert str(found.inline.place) == "helm/api/.argocd-source.yaml:5"


# --- several charts -----------------------------------------------------------------------------------------------


def test_charts_of_one_application_may_have_names_and_namespaces_of_their_own(tmp_path: Path, helm: store.Tool) -> None:
    one = {"repoURL": URL, "path": "helm/api", "helm": {"releaseName": "one"}}
    other = {
        "repoURL": URL,
        "path": "helm/api",
        "helm": {"releaseName": "other", "namespace": "elsewhere", "kubeVersion": "1.35.0"},
    }
    answer = rendered(build(tmp_path, application(sources=[one, other])), helm)
    assert isinstance(answer, Rendered)
    said = [(each.name, each.namespace, each.body["data"]["kube"]) for each in answer.manifests]
    assert said == [("one", "shop", "v1.37.0"), ("other", "elsewhere", "v1.35.0")]


def test_a_chart_may_name_its_own_values_file(tmp_path: Path, helm: store.Tool) -> None:
    tree = build(tmp_path, application({"helm": {"valueFiles": ["values.yaml"]}}))
    answer = rendered(tree, helm)
    assert isinstance(answer, Rendered)
    assert answer.manifests[0].body["data"]["said"] == "nothing"
    assert [one.path for one in helm_source(answer.release).values_files] == ["helm/api/values.yaml"]
