"""Whatever a pull request writes into an Application or ApplicationSet, discovery ends: with a release or with a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from releasegate import config
from releasegate.discover import appset, argo, discover
from releasegate.discover.deployment import Deployment, deployment
from releasegate.discover.files import Files
from releasegate.model import ENVIRONMENT_NAME, Environment, Manifest, Release, Rendered, Tree, Unrendered

URL = "https://github.com/acme/config"
TREE = Tree(root="/nonexistent", files=("root/Chart.yaml", "root/values-prod.yaml", "web/a.yaml"), remotes=(URL,))

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False),
    st.sampled_from([URL, "root", "web", "", "HEAD", "main", "{{x}}", "{{ .path }}", "values-*.yaml", "$a/b", "../..", "prod", "api-prod"]),
    st.text(max_size=5),
)  # fmt: skip
KEYS = [
    "repoURL", "path", "chart", "targetRevision", "ref", "helm", "values", "valuesObject", "valueFiles", "parameters",
    "fileParameters", "name", "value", "forceString", "releaseName", "namespace", "kubeVersion", "apiVersions", "version",
    "directory", "include", "exclude", "recurse", "plugin", "kustomize", "list", "elements", "git", "directories", "files",
    "matrix", "selector", "matchLabels", "matchExpressions", "key", "operator", "metadata", "spec", "source", "sources",
    "destination", "template", "pathParamPrefix", "env", "ignoreMissingValueFiles", "revision",
]  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


def tables(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """A few of these keys, each with anything: one wrong thing at a time is what reaches deep."""
    return st.dictionaries(st.sampled_from(keys), anything, max_size=2)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, strategy, anything)


helms = tables(
    "valueFiles", "values", "valuesObject", "parameters", "releaseName", "namespace", "apiVersions", "kubeVersion",
    "version", "ignoreMissingValueFiles", "skipCrds", "fileParameters",
)  # fmt: skip
local = st.one_of(
    st.fixed_dictionaries({"repoURL": st.just(URL), "path": st.just("root"), "helm": helms}),
    st.fixed_dictionaries(
        {"repoURL": st.just(URL), "path": st.just("web"), "directory": tables("include", "exclude", "recurse")}
    ),
    st.fixed_dictionaries({"repoURL": st.just(URL), "ref": st.just("a")}, optional={"targetRevision": anything}),
)
sources = mostly(local | tables("repoURL", "path", "chart", "helm", "directory", "targetRevision", "ref"))
specs = mostly(
    st.fixed_dictionaries({"source": sources}, optional={"destination": anything})
    | st.fixed_dictionaries({"sources": st.lists(sources, min_size=1, max_size=3)})
)
metadata = mostly(
    st.fixed_dictionaries({"name": st.sampled_from(["api", "api-prod"])}, optional={"namespace": anything})
)
applications = st.fixed_dictionaries({"metadata": metadata, "spec": specs})
element = st.dictionaries(st.sampled_from(["name", "env", "values"]), st.text(max_size=3), max_size=2)
expressions = st.lists(
    mostly(
        st.fixed_dictionaries(
            {"key": st.just("name"), "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])},
            optional={"values": anything},
        )
        | tables("key", "operator", "values")
    ),
    max_size=2,
)
paths = mostly(st.lists(mostly(st.fixed_dictionaries({"path": st.just("*")})), min_size=1, max_size=2))
simple = mostly(
    st.fixed_dictionaries(
        {"list": st.fixed_dictionaries({"elements": st.lists(mostly(element))}, optional={"template": anything})},
        optional={"selector": mostly(st.fixed_dictionaries({"matchExpressions": expressions}) | tables("matchLabels"))},
    )
    | st.fixed_dictionaries(
        {
            "git": st.fixed_dictionaries(
                {"repoURL": st.just(URL), "directories": paths},
                optional={"values": anything, "pathParamPrefix": anything},
            )
            | st.fixed_dictionaries({"repoURL": st.just(URL), "files": paths})
        }
    )
    | st.fixed_dictionaries({"clusters": mostly(tables("selector", "values", "flatList", "template"))})
    | st.fixed_dictionaries(
        {"list": st.fixed_dictionaries({"elementsYaml": anything | st.sampled_from(["[{name: a}]", "- name: '{{'"])})}
    )
)
combined = st.recursive(
    simple,
    lambda inner: mostly(
        st.fixed_dictionaries(
            {"matrix": mostly(st.fixed_dictionaries({"generators": mostly(st.lists(inner, min_size=2, max_size=2))}))}
        )
        | st.fixed_dictionaries(
            {
                "merge": mostly(
                    st.fixed_dictionaries(
                        {
                            "generators": mostly(st.lists(inner, min_size=2, max_size=2)),
                            "mergeKeys": mostly(st.lists(st.sampled_from(["name", "path", "a.b"]), max_size=2)),
                        }
                    )
                )
            }
        )
    ),
    max_leaves=4,
)
generators = simple | combined
CLUSTERS = (config.Cluster(name="prod", server="https://x", labels={"env": "prod"}),)
sets = st.fixed_dictionaries(
    {
        "metadata": metadata,
        "spec": mostly(
            st.fixed_dictionaries(
                {"generators": mostly(st.lists(generators, min_size=1, max_size=2)), "template": mostly(applications)},
                optional={
                    "goTemplate": st.just(value=True),
                    "goTemplateOptions": anything,
                    "templatePatch": anything
                    | st.sampled_from(["spec: {{name}}", "metadata: {$patch: delete}", "spec: {source: null}"]),
                },
            )
        ),
    }
)


@given(applications)
def test_an_application_is_a_deployment_or_a_row(body: dict[str, Any]) -> None:
    repository = argo.Repository(Files(TREE), (), lambda _name: None)
    repository.consider([body])
    read = deployment(argo.Found(body=body, why=""), repository, {})
    if isinstance(read, Deployment):
        assert read.sources
    else:
        assert read.reason
        assert read.remedy
        assert read.blocking


@given(sets)
def test_an_application_set_is_applications_or_rows(body: dict[str, Any]) -> None:
    repository = argo.Repository(Files(TREE), (), lambda _name: None)
    found = argo.Found(body={"kind": "ApplicationSet", **body}, why="")
    made = appset.applications(found, repository, CLUSTERS)
    assert made.applications or made.rows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    folder = tmp_path_factory.mktemp("tree")
    texts = {
        "root/Chart.yaml": "apiVersion: v2\nname: root\nversion: 1.0.0\n",
        "root/templates/a.yaml": "apiVersion: argoproj.io/v1alpha1\nkind: Application\n",
        "root/values-prod.yaml": "a: 1\n",
        "web/a.yaml": "kind: ConfigMap\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Tree(root=str(folder), files=tuple(sorted(texts)), remotes=(URL,))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(applications | sets, max_size=3))
def test_what_a_chart_renders_is_followed_or_told(root: Tree, bodies: list[dict[str, Any]]) -> None:
    asked: list[str] = []

    def render(
        releases: Sequence[Release], _environments: Mapping[str, Environment]
    ) -> Sequence[Rendered | Unrendered]:
        manifests = tuple(
            Manifest(body={"apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet" if "generators" in str(one) else "Application", **one}, text="")
            for one in bodies
        )  # fmt: skip
        asked.extend(release.id for release in releases)
        return [Rendered(release=release, manifests=manifests) for release in releases]

    inputs = config.parse("[environments.prod.inputs]\na = 1\n")
    repo = discover(root, inputs, render, kubernetes="1.37")
    assert "prod/root" in asked
    assert len({release.id for release in repo.releases}) == len(repo.releases)
    names = {environment.name for environment in repo.environments}
    assert {release.environment for release in repo.releases} <= names
    assert all(ENVIRONMENT_NAME.fullmatch(name) for name in names)
