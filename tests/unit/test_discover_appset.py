"""ApplicationSets: generators and both template dialects; what is not evaluated is a row with its reason."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from releasegate import config
from releasegate.discover import discover
from releasegate.model import Environment, HelmSource, Release, Rendered, Repo, Tree, Unrendered

URL = "https://github.com/acme/config"
CHART = "apiVersion: v2\nname: api\nversion: 1.0.0\n"
TEMPLATE = """\
metadata:
  name: 'api-{{name}}'
  labels: {'{{name}}': x}
spec:
  project: shop
  destination: {namespace: 'shop-{{name}}', server: x}
  source:
    repoURL: https://github.com/acme/config
    path: helm/api
    helm:
      valueFiles: ['values-{{name}}.yaml']
      values: |
        # {{name}}
        a: 1
"""


def render_nothing(
    releases: Sequence[Release], _environments: Mapping[str, Environment]
) -> Sequence[Rendered | Unrendered]:
    return [Rendered(release=release, manifests=()) for release in releases]


def run(
    root: Path, generators: str, template: str = TEMPLATE, more: str = "", files: Mapping[str, str] | None = None
) -> Repo:
    text = (
        "apiVersion: argoproj.io/v1alpha1\nkind: ApplicationSet\nmetadata: {name: apps, namespace: argocd}\nspec:\n"
        + textwrap.indent(more, "  ")
        + "  generators:\n"
        + textwrap.indent(textwrap.dedent(generators), "    ")
        + "  template:\n"
        + textwrap.indent(template, "    ")
    )
    every = {"argocd/set.yaml": text, "helm/api/Chart.yaml": CHART, **(files or {})}
    for name, content in every.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    tree = Tree(root=str(root), files=tuple(sorted(every)), remotes=(URL,))
    return discover(tree, config.Config(), render_nothing, kubernetes="1.37")


def ids(repo: Repo) -> list[str]:
    return [release.id for release in repo.releases if release.application is not None]


GO = "goTemplate: true\ngoTemplateOptions: ['missingkey=error']\n"


def test_a_list_generator_makes_one_release_per_element(tmp_path: Path) -> None:
    repo = run(tmp_path, "- list: {elements: [{name: dev}, {name: prod}]}\n")
    assert ids(repo) == ["dev/api", "prod/api"]
    prod = repo.releases[1]
    assert (prod.namespace, prod.helm_release) == ("shop-prod", "api-prod")
    assert prod.application is not None
    assert (prod.application.namespace, str(prod.application.place)) == ("argocd", "argocd/set.yaml:1")
    assert prod.application.body["metadata"]["labels"] == {"prod": "x"}
    source = prod.sources[0]
    assert isinstance(source, HelmSource)
    assert [file.path for file in source.values_files] == ["helm/api/values-prod.yaml"]
    assert source.inline is not None
    assert source.inline.text == "# prod\na: 1\n"
    lines = Path(tmp_path, "argocd/set.yaml").read_text().splitlines()
    assert source.inline.place is not None
    assert lines[(source.inline.place.line or 0) - 1].strip() == "# {{name}}"
    assert "list generator of ApplicationSet apps" in prod.why


def test_an_env_key_of_an_element_names_the_environment(tmp_path: Path) -> None:
    template = TEMPLATE.replace("valueFiles: ['values-{{name}}.yaml']", "valueFiles: [values.yaml]")
    repo = run(tmp_path, "- list: {elements: [{name: one, env: staging}, {name: two, env: 'Not a name'}]}\n", template)
    assert ids(repo) == ["default/api-two", "staging/api-one"]
    assert "env of its list generator" in repo.releases[1].why


def test_values_of_an_element_are_reached_by_their_dotted_name(tmp_path: Path) -> None:
    repo = run(
        tmp_path, "- list: {elements: [{values: {who: prod}}]}\n", TEMPLATE.replace("{{name}}", "{{ values.who }}")
    )
    assert ids(repo) == ["prod/api"]


def test_a_selector_chooses_elements(tmp_path: Path) -> None:
    generators = """\
    - list: {elements: [{name: dev, tier: a}, {name: qa, tier: b}, {name: prod, tier: c}]}
      selector:
        matchExpressions:
          - {key: tier, operator: In, values: [a, c]}
          - {key: name, operator: NotIn, values: [dev]}
    """
    assert ids(run(tmp_path, generators)) == ["prod/api"]
    generators = "- list: {elements: [{name: dev}, {name: prod}]}\n  selector: {matchLabels: {name: dev}}\n"
    assert ids(run(tmp_path, generators)) == ["dev/api"]


def test_a_generators_own_template_overrides_the_sets(tmp_path: Path) -> None:
    generators = """\
    - list:
        elements: [{name: prod}]
        template: {metadata: {name: 'own-{{name}}'}, spec: {destination: {namespace: other}}}
    """
    repo = run(tmp_path, generators)
    assert (ids(repo), repo.releases[0].namespace) == (["prod/own"], "other")


# --- git ----------------------------------------------------------------------------------------------------------

DIRECTORIES = f"""\
- git:
    repoURL: {URL}
    revision: HEAD
    directories:
      - path: apps/*
      - path: apps/old
        exclude: true
"""


def test_a_git_generator_makes_one_release_per_directory(tmp_path: Path) -> None:
    template = (
        TEMPLATE.replace("api-{{name}}", "{{path.basename}}-{{path[0]}}")
        .replace("path: helm/api", "path: '{{path}}'")
        .replace("{{name}}", "{{path.basenameNormalized}}")
    )
    files = dict.fromkeys(
        ["apps/We_b/a.yaml", "apps/db/sub/a.yaml", "apps/old/a.yaml", "apps/.hidden/a.yaml", "apps/x.yaml"], "a: 1\n"
    )
    repo = run(tmp_path, DIRECTORIES, template, files=files)
    assert ids(repo) == ["default/We_b-apps", "default/db-apps"]
    assert repo.releases[0].namespace == "shop-we-b"


def test_a_git_generator_with_go_template(tmp_path: Path) -> None:
    template = (
        TEMPLATE.replace("api-{{name}}", "{{ .path.basename }}-{{ index .path.segments 0 }}")
        .replace("path: helm/api", "path: '{{.path.path}}'")
        .replace("{{name}}", "{{- .path.basenameNormalized | upper -}}")
    )
    repo = run(tmp_path, DIRECTORIES, template, GO, {"apps/web/a.yaml": "a: 1\n"})
    assert (ids(repo), repo.releases[1].namespace) == (["default/web-apps"], "shop-WEB")


FILES = f"- git: {{repoURL: {URL}, revision: HEAD, files: [{{path: 'clusters/*.json'}}]}}\n"


@pytest.mark.parametrize(
    ("template", "more"),
    [
        (TEMPLATE.replace("{{name}}", "{{cluster.env}}").replace("api-", "{{path.filename}}-{{path.basename}}-"), ""),
        (
            TEMPLATE.replace("{{name}}", "{{.cluster.env}}").replace("api-", "{{.path.filename}}-{{.path.basename}}-"),
            GO,
        ),
    ],
)
def test_a_git_files_generator_reads_parameters_from_files(tmp_path: Path, template: str, more: str) -> None:
    """The pattern is git's: its star crosses folders."""
    files = {
        "clusters/a.json": '{"cluster": {"env": "dev"}}',
        "clusters/deep/b.json": '[{"cluster": {"env": "prod"}}, {"cluster": {"env": "qa"}}]',
    }
    repo = run(tmp_path, FILES, template, more, files)
    assert ids(repo) == ["dev/a.json-clusters", "prod/b.json-deep", "qa/b.json-deep"]


def test_a_path_prefix_and_values(tmp_path: Path) -> None:
    generators = f"""\
    - git:
        repoURL: {URL}
        directories: [{{path: envs/*}}]
        pathParamPrefix: my
        values: {{who: '{{{{my.path.basename}}}}'}}
    """
    repo = run(tmp_path, generators, TEMPLATE.replace("{{name}}", "{{values.who}}"), files={"envs/prod/a.txt": ""})
    assert ids(repo) == ["prod/api"]


# --- what is not evaluated ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generators", "more", "reason"),
    [
        ("- matrix: {generators: []}\n", "", "combines 0"),
        ("- merge: {}\n", "", "combines 0"),
        ("- clusters: {}\n", "", "the clusters generator"),
        ("- scmProvider: {}\n", "", "the scmProvider generator"),
        ("- pullRequest: {}\n", "", "the pullRequest generator"),
        ("- plugin: {}\n", "", "the plugin generator"),
        ("- {}\n", "", "the empty generator"),
        ("- list: {elementsYaml: 'x'}\n", "", "elementsYaml is no list"),
        ("- list: {}\n", "", "no elements"),
        ("- list: {elements: [{name: 1}]}\n", "", "name is no string"),
        ("- list: {elements: [{other: x}]}\n", "", "{{name}}"),
        ("- list: {elements: [a]}\n", "", "is no mapping"),
        ("- git: {repoURL: https://github.com/acme/other, directories: [{path: a}]}\n", "", "another repository"),
        (f"- git: {{repoURL: {URL}, revision: v9, directories: [{{path: a}}]}}\n", "", "revision v9"),
        (f"- git: {{repoURL: {URL}}}\n", "", "neither directories nor files"),
        (f"- git: {{repoURL: {URL}, files: [{{path: bad.json}}]}}\n", "", "bad.json"),
        ("- list: {elements: [{name: a}]}\n", "templatePatch: 'x'\n", "templatePatch gives no mapping"),
        ("- list: {elements: [{name: a}]}\n", "goTemplateOptions: [missingkey=eror]\n", "goTemplateOptions"),
        ("- list: {elements: [{name: a}]}\n  selector: {matchExpressions: [{key: a, operator: Near}]}\n", "", "Near"),
        ("[]\n", "", "no generators"),
    ],
)
def test_what_is_not_evaluated_is_a_blocking_row(tmp_path: Path, generators: str, more: str, reason: str) -> None:
    repo = run(tmp_path, generators, more=more, files={"bad.json": "{"})
    (row,) = repo.not_understood
    assert reason in row.reason
    assert row.blocking
    assert row.what == "ApplicationSet apps"
    assert row.place is not None
    assert row.place.path == "argocd/set.yaml"
    assert ids(repo) == []


def test_one_generator_that_is_not_evaluated_does_not_hide_the_others(tmp_path: Path) -> None:
    repo = run(tmp_path, "- matrix: {}\n- list: {elements: [{name: prod}]}\n")
    assert ids(repo) == ["prod/api"]
    assert len(repo.not_understood) == 1


def test_a_generator_that_makes_nothing_is_told(tmp_path: Path) -> None:
    repo = run(tmp_path, f"- git: {{repoURL: {URL}, directories: [{{path: nothing/*}}]}}\n")
    (row,) = repo.not_understood
    assert (row.blocking, "makes no Application" in row.reason) == (True, True)


def test_a_generator_that_makes_nothing_beside_one_that_does_is_told_only(tmp_path: Path) -> None:
    nothing = f"- git: {{repoURL: {URL}, directories: [{{path: nothing/*}}]}}\n"
    repo = run(tmp_path, nothing + "- list: {elements: [{name: web}]}\n")
    assert [row.blocking for row in repo.not_understood if "makes no Application" in row.reason] == [False]


def test_two_applications_of_one_name_are_refused_as_argo_does(tmp_path: Path) -> None:
    repo = run(tmp_path, "- list: {elements: [{name: web}, {name: web}]}\n")
    assert [row.blocking for row in repo.not_understood if "two Applications named" in row.reason] == [True]
