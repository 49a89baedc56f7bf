"""Matrix, merge and clusters generators, templatePatch: what argo-cd's documentation shows is what comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from releasegate import config
from releasegate.discover import discover
from releasegate.model import Environment, HelmSource, Release, Rendered, Repo, Tree, Unrendered

URL = "https://github.com/acme/config"
CHART = "apiVersion: v2\nname: api\nversion: 1.0.0\n"
CLUSTERS = """
[[clusters]]
name = "staging-eu"
server = "https://1.2.3.4"
labels = { env = "staging", region = "eu" }
annotations = { revision = "HEAD" }
[[clusters]]
name = "Prod_US"
server = "https://2.4.6.8"
labels = { env = "prod", region = "us" }
project = "shop"
"""


def render_nothing(
    releases: Sequence[Release], _environments: Mapping[str, Environment]
) -> Sequence[Rendered | Unrendered]:
    return [Rendered(release=release, manifests=()) for release in releases]


def template(name: str, path: str = "apps/api", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "project": "shop",
            "source": {"repoURL": URL, "path": path},
            "destination": {"server": "https://x", "namespace": "shop"},
            **spec,
        },
    }


def run(
    root: Path,
    generators: list[Any],
    made: Mapping[str, Any],
    *,
    files: Mapping[str, str] | None = None,
    toml: str = CLUSTERS,
    go: bool | None = None,
    **spec: Any,
) -> Repo:
    options = {"goTemplate": True, "goTemplateOptions": ["missingkey=error"]} if go else {}
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ApplicationSet",
        "metadata": {"name": "apps", "namespace": "argocd"},
        "spec": {**options, "generators": generators, "template": made, **spec},
    }
    every = {"argocd/set.yaml": json.dumps(body, indent=1), "apps/api/Chart.yaml": CHART, **(files or {})}
    for name, content in every.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    tree = Tree(root=str(root), files=tuple(sorted(every)), remotes=(URL,))
    return discover(tree, config.parse(toml), render_nothing, kubernetes="1.37")


def names(repo: Repo) -> list[str]:
    return sorted(release.application.name for release in repo.releases if release.application is not None)


def reasons(repo: Repo) -> list[str]:
    return [row.reason for row in repo.not_understood if row.blocking]


def bodies(repo: Repo) -> dict[str, Mapping[str, Any]]:
    return {one.application.name: one.application.body for one in repo.releases if one.application is not None}


GIT = {"git": {"repoURL": URL, "revision": "HEAD", "directories": [{"path": "apps/*"}]}}
MORE = {"apps/web/Chart.yaml": CHART.replace("api", "web")}


# --- clusters -----------------------------------------------------------------------------------------------------


def test_a_clusters_generator_makes_one_application_per_cluster_and_one_for_argos_own(tmp_path: Path) -> None:
    """Generators-Cluster.md: without a selector the local cluster is in the list, which has no Secret."""
    repo = run(tmp_path, [{"clusters": {}}], template("{{nameNormalized}}-api"))
    assert names(repo) == ["in-cluster-api", "prod-us-api", "staging-eu-api"]


def test_a_selector_on_labels_leaves_argos_own_cluster_out(tmp_path: Path) -> None:
    selector: dict[str, Any] = {"matchLabels": {"argocd.argoproj.io/secret-type": "cluster"}}
    repo = run(tmp_path, [{"clusters": {"selector": selector}}], template("{{name}}-api"))
    assert names(repo) == ["Prod_US-api", "staging-eu-api"]
    selector = {"matchExpressions": [{"key": "env", "operator": "In", "values": ["staging"]}]}
    repo = run(tmp_path, [{"clusters": {"selector": selector}}], template("{{name}}-api"))
    assert names(repo) == ["staging-eu-api"]


def test_the_own_cluster_named_in_the_config_with_labels_is_one_with_a_secret(tmp_path: Path) -> None:
    toml = '[[clusters]]\nname = "hub"\nserver = "https://kubernetes.default.svc"\nlabels = { env = "prod" }\n'
    repo = run(tmp_path, [{"clusters": {}}], template("{{name}}-{{metadata.labels.env}}"), toml=toml)
    assert names(repo) == ["hub-prod"]


@pytest.mark.parametrize("go", [False, True])
def test_what_a_cluster_says_reaches_the_template(tmp_path: Path, go: bool) -> None:  # noqa: FBT001
    dot = "." if go else ""
    made = template(
        f"{{{{{dot}nameNormalized}}}}-{{{{{dot}values.who}}}}",
        destination={"server": f"{{{{{dot}server}}}}", "namespace": f"{{{{{dot}metadata.labels.region}}}}"},
        project=f"{{{{{dot}project}}}}",
    )
    generator = {
        "selector": {"matchLabels": {"env": "prod"}},
        "values": {"who": f"x-{{{{{dot}metadata.labels.env}}}}"},
    }
    repo = run(tmp_path, [{"clusters": generator}], made, go=go)
    assert names(repo) == ["prod-us-x-prod"]
    (spec,) = (body["spec"] for body in bodies(repo).values())
    assert (spec["destination"], spec["project"]) == ({"server": "https://2.4.6.8", "namespace": "us"}, "shop")
    assert repo.releases[-1].environment == "prod"
    assert "label env of cluster Prod_US" in repo.releases[-1].why


def test_annotations_of_a_cluster_are_reached(tmp_path: Path) -> None:
    generator = {"clusters": {"selector": {"matchLabels": {"env": "staging"}}}}
    repo = run(tmp_path, [generator], template("{{ index .metadata.annotations `revision` | lower }}"), go=True)
    assert names(repo) == ["head"]


def test_a_flat_list_is_one_set_of_all_clusters(tmp_path: Path) -> None:
    """Generators-Cluster.md, flatList: one Application that goes through `.clusters`."""
    generator = {"selector": {"matchLabels": {"argocd.argoproj.io/secret-type": "cluster"}}, "flatList": True}
    made = template("{{ range $i, $c := .clusters }}{{ if $i }}-{{ end }}{{ $c.name | lower }}{{ end }}")
    assert names(run(tmp_path, [{"clusters": generator}], made, go=True)) == ["staging-eu-prod_us"]


def test_without_clusters_in_the_config_it_is_a_row_with_the_lines_to_write(tmp_path: Path) -> None:
    selector = {"matchLabels": {"env": "prod"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": [1]}]}
    repo = run(tmp_path, [{"clusters": {"selector": selector}}], template("{{name}}"), toml="")
    (row,) = repo.not_understood
    assert row.blocking
    assert "which git does not say" in row.reason
    assert row.place is not None
    assert row.place.path == "argocd/set.yaml"
    written = row.remedy.partition(": ")[2]
    (cluster,) = config.parse(written).clusters
    assert dict(cluster.labels) == {"env": "prod", "tier": "1"}


def test_a_cluster_that_no_label_selects_makes_nothing_and_that_is_told(tmp_path: Path) -> None:
    repo = run(tmp_path, [{"clusters": {"selector": {"matchLabels": {"env": "qa"}}}}], template("{{name}}"))
    assert reasons(repo) == ["this generator makes no Application here"]


# --- matrix -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("go", [False, True])
def test_a_matrix_of_git_and_clusters_pairs_them_all(tmp_path: Path, go: bool) -> None:  # noqa: FBT001
    """Generators-Matrix.md, first example."""
    selector: dict[str, Any] = {"matchLabels": {"argocd.argoproj.io/secret-type": "cluster"}}
    generators = [{"matrix": {"generators": [GIT, {"clusters": {"selector": selector}}]}}]
    made = (
        template("{{.path.basename}}-{{.nameNormalized}}", "{{.path.path}}")
        if go
        else template("{{path.basename}}-{{nameNormalized}}", "{{path}}")
    )
    repo = run(tmp_path, generators, made, files=MORE, go=go)
    assert names(repo) == ["api-prod-us", "api-staging-eu", "web-prod-us", "web-staging-eu"]
    assert [one.id for one in repo.releases] == [
        "prod/api-prod-us",
        "prod/web-prod-us",
        "staging/api-staging-eu",
        "staging/web-staging-eu",
    ]
    assert {one.sources[0].chart for one in repo.releases if isinstance(one.sources[0], HelmSource)} == {
        "apps/api",
        "apps/web",
    }


@pytest.mark.parametrize("go", [False, True])
def test_the_second_generator_is_filled_in_with_the_first(tmp_path: Path, go: bool) -> None:  # noqa: FBT001
    """Generators-Matrix.md, "Using Parameters from one child generator in another child generator"."""
    label, dot = ("{{.kind}}", ".") if go else ("{{kind}}", "")
    files = {"cfg/a.json": '{"kind": "staging"}', "cfg/b.json": '{"kind": "prod"}'}
    first = {"git": {"repoURL": URL, "files": [{"path": "cfg/*.json"}]}}
    second = {"clusters": {"selector": {"matchLabels": {"env": label}}, "values": {"of": label}}}
    made = template(f"{{{{{dot}nameNormalized}}}}-{{{{{dot}values.of}}}}")
    repo = run(tmp_path, [{"matrix": {"generators": [first, second]}}], made, files=files, go=go)
    assert names(repo) == ["prod-us-prod", "staging-eu-staging"]


def test_elements_yaml_reads_what_the_first_generator_found(tmp_path: Path) -> None:
    """Generators-List.md, "Dynamically generated elements"."""
    files = {"cfg/x.yaml": "key:\n  components:\n    - {name: one, port: 1000000}\n    - {name: two, port: 2}\n"}
    first = {"git": {"repoURL": URL, "files": [{"path": "cfg/*.yaml"}]}}
    second = {"list": {"elements": [], "elementsYaml": "{{ .key.components | toJson }}"}}
    repo = run(
        tmp_path, [{"matrix": {"generators": [first, second]}}], template("{{.name}}-{{.port}}"), files=files, go=True
    )
    assert names(repo) == ["one-1e+06", "two-2"]


def test_two_git_generators_need_a_prefix_for_their_paths(tmp_path: Path) -> None:
    """Generators-Matrix.md, "Matrix with two Git generators using pathParamPrefix"."""
    other = {"git": {"repoURL": URL, "directories": [{"path": "envs/*"}]}}
    repo = run(
        tmp_path, [{"matrix": {"generators": [GIT, other]}}], template("{{path.basename}}"), files={"envs/qa/x": ""}
    )
    (reason,) = reasons(repo)
    assert "both generators of its matrix set path, to apps/api and envs/qa" in reason
    assert "pathParamPrefix" in repo.not_understood[0].remedy
    other["git"]["pathParamPrefix"] = "env"
    repo = run(
        tmp_path,
        [{"matrix": {"generators": [GIT, other]}}],
        template("{{path.basename}}-{{env.path.basename}}-{{env.path[0]}}"),
        files={"envs/qa/x": ""},
    )
    assert names(repo) == ["api-qa-envs"]


def test_with_go_templates_the_first_generator_of_a_matrix_wins_key_by_key(tmp_path: Path) -> None:
    first = {"list": {"elements": [{"a": {"x": "1"}, "e": "", "only": "q"}]}}
    second = {"list": {"elements": [{"a": {"x": "2", "y": "3"}, "e": "given"}]}}
    repo = run(
        tmp_path, [{"matrix": {"generators": [first, second]}}], template("{{.a.x}}{{.a.y}}{{.only}}-{{.e}}z"), go=True
    )
    assert names(repo) == ["13q-z"]


def test_selectors_work_on_each_level(tmp_path: Path) -> None:
    first = {
        "list": {"elements": [{"n": "a", "s": "1"}, {"n": "b", "s": "2"}]},
        "selector": {"matchLabels": {"s": "1"}},
    }
    second = {"list": {"elements": [{"m": "x"}, {"m": "y"}, {"m": "https://z"}]}}
    generator = {
        "matrix": {"generators": [first, second]},
        "selector": {"matchExpressions": [{"key": "m", "operator": "In", "values": ["x", "https://z"]}]},
    }
    assert names(run(tmp_path, [generator], template("{{n}}-{{m}}"))) == ["a-https://z", "a-x"]


def test_a_matrix_may_hold_a_matrix_but_not_two_levels_of_them(tmp_path: Path) -> None:
    one = {"list": {"elements": [{"a": "1"}]}}
    two = {"list": {"elements": [{"b": "2"}, {"b": "3"}]}}
    three = {"list": {"elements": [{"c": "{{a}}"}]}}
    inner = {"matrix": {"generators": [two, three]}}
    repo = run(tmp_path, [{"matrix": {"generators": [one, inner]}}], template("{{a}}{{b}}{{c}}"))
    assert names(repo) == ["121", "131"]
    deeper = {"matrix": {"generators": [three, {"matrix": {"generators": [two, two]}}]}}
    repo = run(tmp_path, [{"matrix": {"generators": [one, deeper]}}], template("{{a}}{{b}}{{c}}"))
    assert "third level" in reasons(repo)[0]


@pytest.mark.parametrize(
    ("generators", "said"),
    [
        ([{"matrix": {"generators": [GIT]}}], "combines 1"),
        ([{"matrix": {"generators": [GIT, GIT, GIT]}}], "combines 3"),
        ([{"matrix": {"generators": [GIT, {"list": {"elements": []}, "clusters": {}}]}}], "in one entry"),
        ([{"matrix": {"generators": [GIT, {"plugin": {}}]}}], "plugin generator asks a service"),
        ([{"merge": {"mergeKeys": ["a"], "generators": [GIT]}}], "combines 1"),
        ([{"merge": {"generators": [GIT, GIT]}}], "no mergeKeys"),
        ([{"list": {"elements": [{"a": "x"}]}, "selector": {"matchLabels": {"path[0]": "x"}}}], "is no label's"),
    ],
)
def test_what_argo_refuses_is_a_row(tmp_path: Path, generators: list[Any], said: str) -> None:
    repo = run(tmp_path, generators, template("{{a}}"))
    assert said in reasons(repo)[0]
    assert names(repo) == []


def test_a_matrix_without_end_is_refused(tmp_path: Path) -> None:
    many = {"list": {"elements": [{"a": str(number)} for number in range(200)]}}
    repo = run(tmp_path, [{"matrix": {"generators": [many, {"list": {"elements": [{}] * 200}}]}}], template("{{a}}"))
    assert "more than 5000" in reasons(repo)[0]


# --- merge --------------------------------------------------------------------------------------------------------


def test_a_merge_overrides_the_sets_with_the_same_keys(tmp_path: Path) -> None:
    """Generators-Merge.md, first example: clusters, overridden by label, then by a list."""
    base = {"clusters": {"values": {"kafka": "true", "redis": "false"}}}
    second = {"clusters": {"selector": {"matchLabels": {"env": "prod"}}, "values": {"kafka": "false"}}}
    third = {"list": {"elements": [{"server": "https://2.4.6.8", "values.redis": "true"}]}}
    made = template("{{nameNormalized}}-{{values.kafka}}-{{values.redis}}")
    generator = {"merge": {"mergeKeys": ["server"], "generators": [base, second, third]}}
    assert names(run(tmp_path, [generator], made)) == [
        "in-cluster-true-false",
        "prod-us-false-true",
        "staging-eu-true-false",
    ]


def test_with_go_templates_a_merge_goes_into_mappings(tmp_path: Path) -> None:
    base = {"list": {"elements": [{"id": "1", "v": {"a": "x", "b": "y"}}, {"id": "2", "v": {"a": "p", "b": "q"}}]}}
    other = {"list": {"elements": [{"id": "2", "v": {"a": "z"}}, {"id": "3", "v": {"a": "unused"}}]}}
    generator = {"merge": {"mergeKeys": ["id"], "generators": [base, other]}}
    assert names(run(tmp_path, [generator], template("{{.id}}{{.v.a}}{{.v.b}}"), go=True)) == ["1xy", "2zq"]


def test_sets_that_the_keys_do_not_tell_apart_are_refused(tmp_path: Path) -> None:
    """With goTemplate a dotted key is no key, so that all sets are alike: argo-cd issue 12836 and others."""
    one = {"list": {"elements": [{"v": {"id": "1"}}, {"v": {"id": "2"}}]}}
    generator = {"merge": {"mergeKeys": ["v.id"], "generators": [one, one]}}
    assert "v.id is no key" in reasons(run(tmp_path, [generator], template("{{.v.id}}"), go=True))[0]


def test_a_merge_of_a_matrix_is_combined(tmp_path: Path) -> None:
    """Generators-Merge.md, "Merge Example with a matrix generator inside"."""
    matrix = {"matrix": {"generators": [GIT, {"clusters": {"selector": {"matchLabels": {"env": "prod"}}}}]}}
    other = {"list": {"elements": [{"path": "apps/web", "project": "web"}]}}
    generator = {"merge": {"mergeKeys": ["path"], "generators": [matrix, other]}}
    made = template("{{path.basename}}-{{nameNormalized}}", "{{path}}", project="{{project}}")
    repo = run(tmp_path, [generator], made, files=MORE)
    assert {name: body["spec"]["project"] for name, body in bodies(repo).items()} == {
        "api-prod-us": "shop",
        "web-prod-us": "web",
    }


# --- several in one entry, templates --------------------------------------------------------------------------------


def test_two_generators_in_one_entry_are_both_taken(tmp_path: Path) -> None:
    repo = run(tmp_path, [{"list": {"elements": [{"name": "x"}]}, "clusters": {}}], template("{{name}}-a"))
    assert names(repo) == ["Prod_US-a", "in-cluster-a", "staging-eu-a", "x-a"]


def test_a_matrix_may_have_a_template_of_its_own_whose_gaps_the_sets_fills(tmp_path: Path) -> None:
    own = {"metadata": {"name": "own-{{a}}"}, "spec": {"project": "", "destination": {"namespace": "other"}}}
    one = {"list": {"elements": [{"a": "1"}]}}
    repo = run(tmp_path, [{"matrix": {"generators": [one, one], "template": own}}], template("{{a}}"))
    (spec,) = (body["spec"] for body in bodies(repo).values())
    assert names(repo) == ["own-1"]
    assert (spec["project"], spec["destination"]) == ("shop", {"server": "https://x", "namespace": "other"})


def test_the_application_is_in_the_sets_namespace_and_gets_the_finalizer(tmp_path: Path) -> None:
    made = template("{{a}}")
    made["metadata"] |= {"namespace": "elsewhere", "ownerReferences": ["x"]}
    repo = run(tmp_path, [{"list": {"elements": [{"a": "1"}]}}], made)
    (body,) = bodies(repo).values()
    assert body["metadata"] == {
        "namespace": "argocd",
        "name": "1",
        "finalizers": ["resources-finalizer.argocd.argoproj.io"],
    }
    repo = run(tmp_path, [{"list": {"elements": [{"a": "1"}]}}], made, syncPolicy={"preserveResourcesOnDeletion": True})
    assert "finalizers" not in next(iter(bodies(repo).values()))["metadata"]


PATCH = """\
metadata:
  annotations: {who: '{{ .name }}'}
spec:
  project: stolen
  source:
    helm:
      valueFiles:
      {{- range $file := .files }}
        - {{ $file }}
      {{- end }}
{{- if .autoSync }}
  syncPolicy:
    automated: {prune: true}
{{- end }}
  info: null
"""


def test_a_template_patch_is_laid_over_the_template(tmp_path: Path) -> None:
    """Template.md, "Template Patch": control structures, lists replaced, the project never."""
    elements: list[dict[str, Any]] = [
        {"name": "a", "files": ["values-prod.yaml"], "autoSync": True},
        {"name": "b", "files": []},
    ]
    elements[1]["autoSync"] = False
    made = template("{{.name}}", info=[{"name": "x", "value": "y"}])
    made["spec"]["source"]["helm"] = {"valueFiles": ["values.yaml", "old.yaml"], "releaseName": "r"}
    repo = run(tmp_path, [{"list": {"elements": elements}}], made, go=True, templatePatch=PATCH)
    a, b = (bodies(repo)[name] for name in "ab")
    assert a["spec"]["source"]["helm"] == {"valueFiles": ["values-prod.yaml"], "releaseName": "r"}
    assert a["spec"]["syncPolicy"] == {"automated": {"prune": True}}
    assert "syncPolicy" not in b["spec"]
    assert (a["spec"]["project"], a["metadata"]["annotations"]) == ("shop", {"who": "a"})
    assert "info" not in a["spec"]
    assert repo.releases[-1].sources[0].values_files[0].place is None  # type: ignore[union-attr]


def test_a_patch_that_is_no_yaml_once_filled_in_is_a_row(tmp_path: Path) -> None:
    repo = run(tmp_path, [{"list": {"elements": [{"a": "x: : y"}]}}], template("{{a}}"), templatePatch="a: {{a}}")
    assert "templatePatch gives no YAML" in reasons(repo)[0]


def test_fasttemplate_leaves_what_it_does_not_know_to_the_chart(tmp_path: Path) -> None:
    """utils.Replace writes an unknown tag back: inline values may hold templates for helm's `tpl`."""
    made = template("{{a}}")
    made["spec"]["source"]["helm"] = {"values": "host: '{{ .Release.Name }}.{{a}}'\n"}
    repo = run(tmp_path, [{"list": {"elements": [{"a": "x"}]}}], made)
    source = repo.releases[-1].sources[0]
    assert isinstance(source, HelmSource)
    assert source.inline is not None
    assert source.inline.text == "host: '{{ .Release.Name }}.x'\n"


def test_an_application_that_one_set_of_parameters_breaks_does_not_hide_the_others(tmp_path: Path) -> None:
    elements = [{"n": "a", "ns": "x"}, {"n": "b"}, {"n": "c"}]
    made = template("{{.n}}", destination={"server": "x", "namespace": "{{.ns}}"})
    repo = run(tmp_path, [{"list": {"elements": elements}}], made, go=True)
    assert names(repo) == ["a"]
    (reason,) = reasons(repo)
    assert reason.endswith("which the generator does not set (2 Applications)")
