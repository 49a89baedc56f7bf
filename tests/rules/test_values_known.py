"""render/values-known: every key of an environment's values is read by a chart."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import git

from releasegate import chartreads
from releasegate.chartreads import Chart
from releasegate.discover.files import Files
from releasegate.model import Finding, Outcome, Tree, Verdict
from releasegate.run import Selection, open_run
from releasegate.tools import store

RULE = "render/values-known"
CHART = "apiVersion: v2\nname: api\nversion: 1.0.0\n"
TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  replicas: {{ .Values.replicaCount | quote }}
  image: {{ include "image" .Values.image | quote }}
  {{- with .Values.annotations }}
  annotations: |
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.worker.enabled }}
  worker: {{ .Values.worker.resources | toJson | quote }}
  {{- end }}
{{- define "image" }}{{ .repository }}:{{ .tag }}{{ end }}
"""
VALUES = """\
replicaCount: 1
image: {repository: registry.acme.example/api, tag: "1"}
worker: {enabled: false}
"""


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def repo(root: Path, prod: str, **more: str) -> Path:
    """A repo with one chart; `prod` are the values of the environment."""
    files = {
        "helm/api/Chart.yaml": CHART,
        "helm/api/templates/all.yaml": TEMPLATE,
        "helm/api/values.yaml": VALUES,
        "helm/api/values-prod.yaml": textwrap.dedent(prod),
        "releasegate.toml": 'kubernetes = "1.37"\n[rules]\n"render/values-known" = "on"\n',
    }
    write(root, {**files, **{name: textwrap.dedent(text) for name, text in more.items()}})
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def judged(root: Path) -> list[Verdict]:
    with open_run(root, selection=Selection(rules=(RULE,))) as opened:
        opened.start(opened.cases)
        return [opened.judge(case) for case in opened.cases]


def findings(root: Path) -> list[Finding]:
    return [finding for one in judged(root) for finding in one.findings]


# --- renders ------------------------------------------------------------------------------------------------------------


def test_a_misspelled_key_is_found_on_its_own_line_with_the_key_that_was_meant(
    helm: store.Tool, tmp_path: Path
) -> None:
    assert helm.path.exists()
    (found,) = findings(repo(tmp_path, 'image:\n  tag: "2"\nreplicaCont: 4\n'))
    assert found.message == "replicaCont is a key that helm/api does not read: without it its render stays the same"
    assert found.help == "did you mean replicaCount?"
    assert str(found.place) == "helm/api/values-prod.yaml:3:1"


def test_a_key_below_the_wrong_parent_is_told_the_right_one(helm: store.Tool, tmp_path: Path) -> None:
    assert helm.path.exists()
    (found,) = findings(repo(tmp_path, 'tag: "2"\n'))
    assert found.help == "did you mean image.tag?"


def test_a_misspelled_key_that_goes_to_a_helper_is_found(helm: store.Tool, tmp_path: Path) -> None:
    assert helm.path.exists()
    (found,) = findings(repo(tmp_path, 'image:\n  tga: "2"\n'))
    assert found.help == "did you mean image.tag?"
    assert str(found.place) == "helm/api/values-prod.yaml:2:3"


def test_known_keys_are_judged_and_pass(helm: store.Tool, tmp_path: Path) -> None:
    assert helm.path.exists()
    (verdict,) = judged(repo(tmp_path, 'replicaCount: 4\nimage: {tag: "2"}\nannotations: {any.example/key: x}\n'))
    assert verdict.outcome is Outcome.PASSED
    assert verdict.subjects == 1


def test_exempt_are_global_private_keys_and_maps_that_are_taken_whole_where_nothing_renders(
    helm: store.Tool, tmp_path: Path
) -> None:
    assert helm.path.exists()
    prod = """\
        global: {proxy: x}
        _defaults: &defaults {replicaCount: 2}
        x-owner: shop
        worker: {enabled: false, resources: {limits: {memory: 1Gi}}}
        """
    assert findings(repo(tmp_path, prod)) == []


def test_a_key_that_changes_the_render_is_read_whatever_the_words_say(helm: store.Tool, tmp_path: Path) -> None:
    assert helm.path.exists()
    template = (
        TEMPLATE
        + '---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {x: {{ get .Values (print "se" "cret") | quote }} }\n'
    )
    root = repo(tmp_path, "secret: a\nother: b\n", **{"helm/api/templates/all.yaml": template})
    assert [one.value for one in findings(root)] == ["other"]


def test_a_render_that_holds_nothing_proves_nothing(helm: store.Tool, tmp_path: Path) -> None:
    assert helm.path.exists()
    template = "{{- if .Values.enabled }}\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n{{- end }}\n"
    root = repo(tmp_path, "enabeld: true\n", **{"helm/api/templates/all.yaml": template})
    assert findings(root) == []
    write(root, {"helm/api/values-prod.yaml": "enabeld: true\nenabled: true\n"})
    assert [one.value for one in findings(root)] == ["enabeld"]


def test_a_file_that_two_charts_use_is_read_when_one_of_them_reads_it(helm: store.Tool, tmp_path: Path) -> None:
    assert helm.path.exists()
    application = """\
        apiVersion: argoproj.io/v1alpha1
        kind: Application
        metadata: {name: NAME-prod, namespace: argocd}
        spec:
          project: default
          source:
            repoURL: https://github.com/acme/config
            path: helm/NAME
            helm:
              valueFiles: [../../values/prod.yaml]
          destination: {server: https://kubernetes.default.svc, namespace: shop}
        """
    web = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {theme: {{ .Values.theme | quote }} }\n"
    root = repo(
        tmp_path,
        "{}\n",
        **{
            "values/prod.yaml": "replicaCount: 2\ntheme: dark\nthene: dark\n",
            "argocd/prod/api.yaml": application.replace("NAME", "api"),
            "argocd/prod/web.yaml": application.replace("NAME", "web"),
            "helm/web/Chart.yaml": CHART.replace("api", "web"),
            "helm/web/templates/all.yaml": web,
        },
    )
    found = [one for one in findings(root) if one.place is not None and one.place.path == "values/prod.yaml"]
    assert [(one.value, one.help) for one in found] == [("thene", "did you mean theme?")]
    assert "without it 2 renders stay the same" in found[0].message


def test_inline_values_are_found_in_the_application(helm: store.Tool, tmp_path: Path) -> None:
    assert helm.path.exists()
    application = """\
        apiVersion: argoproj.io/v1alpha1
        kind: Application
        metadata: {name: api-prod, namespace: argocd}
        spec:
          project: default
          source:
            repoURL: https://github.com/acme/config
            path: helm/api
            helm:
              values: |
                image:
                  tag: "3"
                replicacount: 4
          destination: {server: https://kubernetes.default.svc, namespace: shop}
        """
    root = repo(tmp_path, "{}\n", **{"argocd/prod/api.yaml": application})
    (found,) = findings(root)
    assert str(found.place) == "argocd/prod/api.yaml:13"
    assert found.help == "did you mean replicaCount?"


PARENT = """\
{{- range .Values.apps }}
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: {{ .name }}, namespace: argocd}
spec:
  project: default
  source:
    repoURL: https://github.com/acme/config
    path: helm/{{ .chart }}
    helm:
      values: |
        {{- toYaml (omit $.Values "apps") | nindent 8 }}
        written: {{ .name }}
        {{- with .values }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  destination: {server: https://kubernetes.default.svc, namespace: shop}
---
{{- end }}
"""


def test_what_a_parent_hands_to_all_children_is_exempt_and_a_childs_own_key_is_on_its_line(
    helm: store.Tool, tmp_path: Path
) -> None:
    assert helm.path.exists()
    apps = """\
        domain: acme.example
        apps:
          - name: one
            chart: api
            values: {replicaCount: 2}
          - name: two
            chart: api
            values:
              replicaCont: 2
          - name: three
            chart: web
            values:
              replicaCont: 2
        """
    web = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {x: {{ .Values.written | quote }}, y: {{ .Values.replicaCont | quote }} }\n"
    root = repo(
        tmp_path,
        "{}\n",
        **{
            "apps/Chart.yaml": CHART.replace("api", "apps"),
            "apps/templates/apps.yaml": PARENT,
            "apps/values.yaml": "domain: ''\n",
            "apps/values-prod.yaml": apps,
            "helm/web/Chart.yaml": CHART.replace("api", "web"),
            "helm/web/templates/all.yaml": web,
        },
    )
    found = [one for one in findings(root) if one.place is not None and one.place.path.startswith("apps/")]
    assert [(one.value, str(one.place)) for one in found] == [("replicaCont", "apps/values-prod.yaml:9:7")]


# --- what templates say ---------------------------------------------------------------------------------------------------


def chart(tmp_path: Path, template: str, **files: str) -> Chart:
    root = write(tmp_path, {"Chart.yaml": CHART, "templates/a.yaml": template, **files})
    paths = tuple(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))
    return chartreads.of_chart(Files(Tree(root=str(root), files=paths)), ".")


READ = {
    "a value": ("{{ .Values.a.b }}", "a.b", True),
    "another value": ("{{ .Values.a.b }}", "a.c", False),
    "what stands above": ("{{ .Values.a.b }}", "a", True),
    "from the root": ("{{ $.Values.a.b }}", "a.b", True),
    "through a context": ("{{ .ctx.Values.a.b }}", "a.b", True),
    "with a default": ("{{ .Values.a | default dict }}", "a.b", False),
    "printed as YAML": ("{{ toYaml .Values.a }}", "a.b.c", True),
    "ranged over": ("{{ range $k, $v := .Values.a }}{{ end }}", "a.b", True),
    "a field in with": ("{{ with .Values.a }}{{ .b }}{{ end }}", "a.b", True),
    "another field in with": ("{{ with .Values.a }}{{ .b }}{{ end }}", "a.c", False),
    "whole in with": ("{{ with .Values.a }}{{ toYaml . }}{{ end }}", "a.c", True),
    "whole behind with": ("{{ with .Values.a }}{{ .b }}{{ end }}{{ toYaml . }}", "a.c", False),
    "a variable's field": ("{{ $x := .Values.a }}{{ $x.b }}", "a.b", True),
    "a variable's other field": ("{{ $x := .Values.a }}{{ $x.b }}", "a.c", False),
    "a whole variable": ("{{ $x := .Values.a }}{{ toYaml $x }}", "a.c", True),
    "by name": ('{{ index .Values "a" "b" }}', "a", True),
    "dig": ('{{ dig "a" "b" 1 .Values }}', "a.b", True),
    "a helper's field": ('{{ define "h" }}{{ .b }}{{ end }}{{ include "h" .Values.a }}', "a.b", True),
    "a helper's other field": ('{{ define "h" }}{{ .b }}{{ end }}{{ include "h" .Values.a }}', "a.c", False),
    "a helper that takes all": ('{{ define "h" }}{{ toYaml . }}{{ end }}{{ include "h" .Values.a }}', "a.c", True),
    "a helper's whole field": ('{{ define "h" }}{{ toYaml .b }}{{ end }}{{ include "h" .Values.a }}', "a.b.c", True),
    "a helper of a helper": (
        '{{ define "g" }}{{ toYaml . }}{{ end }}{{ define "h" }}{{ include "g" . }}{{ end }}{{ include "h" .Values.a }}',
        "a.c",
        True,
    ),
    "a helper named by a variable": ("{{ include (print .x) .Values.a }}", "a.c", True),
    "in a dict": ('{{ define "h" }}{{ toYaml .v }}{{ end }}{{ include "h" (dict "v" .Values.a) }}', "a.c", True),
    "all values": ("{{ toYaml .Values }}", "a.b", True),
    "all but some": ('{{ omit .Values "x" | toYaml }}', "a.b", True),
    "a comment": ("{{/* .Values.a.b */}}", "a.b", False),
    "only a condition": ("{{ if .Values.a }}x{{ end }}", "a.b", False),
    "over two lines": ("{{ include\n  .Values.a.b }}", "a.b", True),
}


@pytest.mark.parametrize(("template", "path", "known"), READ.values(), ids=list(READ))
def test_what_a_template_reads(tmp_path: Path, template: str, path: str, known: bool) -> None:  # noqa: FBT001
    assert chart(tmp_path, template).knows(tuple(path.split("."))) is known


def test_what_a_chart_declares_is_known(tmp_path: Path) -> None:
    schema = '{"properties": {"b": {"properties": {"c": {}}}}}'
    found = chart(tmp_path, "", **{"values.yaml": "a: {b: null}\n", "values.schema.json": schema})
    known = {path: found.knows(tuple(path.split("."))) for path in ("a.b", "a.x", "b.c", "b.x", "c")}
    assert known == {"a.b": True, "a.x": False, "b.c": True, "b.x": False, "c": False}


def test_subcharts_are_known_by_their_alias_their_condition_and_their_own_keys(tmp_path: Path) -> None:
    dependency = "dependencies:\n  - {name: redis, alias: cache, version: 1.0.0, condition: cache.enabled}\n"
    found = chart(
        tmp_path,
        "",
        **{
            "Chart.yaml": CHART + dependency,
            "charts/redis/Chart.yaml": CHART.replace("api", "redis"),
            "charts/redis/values.yaml": "memory: 64\n",
            "charts/redis/templates/a.yaml": "{{ .Values.port }}",
        },
    )
    known = {path: found.knows(tuple(path.split("."))) for path in ("cache.enabled", "cache.memory", "cache.port")}
    assert known == {"cache.enabled": True, "cache.memory": True, "cache.port": True}
    assert not found.knows(("redis", "memory"))
    assert not found.knows(("cache", "memmory"))


def test_a_subchart_that_cannot_be_unpacked_leaves_nothing_unknown(tmp_path: Path) -> None:
    assert chart(tmp_path, "", **{"charts/redis-1.tgz": "no archive"}).knows(("anything",))


words = st.sampled_from(["a", "b", "c"])
paths = st.lists(words, min_size=1, max_size=3).map(tuple)
actions = st.sampled_from(
    [
        "{{{{ .Values.{0} }}}}",
        "{{{{ toYaml .Values.{0} }}}}",
        "{{{{ with .Values.{0} }}}}{{{{ .a }}}}{{{{ end }}}}",
        "{{{{ with .Values.{0} }}}}{{{{ range . }}}}{{{{ end }}}}{{{{ end }}}}",
        "{{{{ if .Values.{0} }}}}{{{{ end }}}}",
        "{{{{ $v := .Values.{0} }}}}{{{{ $v.b }}}}",
    ]
)
templates = st.lists(st.builds(lambda action, path: action.format(".".join(path)), actions, paths), max_size=4)


@settings(deadline=None)
@given(templates, templates, paths)
def test_more_template_never_makes_a_known_key_unknown(one: list[str], more: list[str], path: tuple[str, ...]) -> None:
    before, after = (_reads("\n".join(text)) for text in (one, [*one, *more]))
    assert after.knows(path) or not before.knows(path)


@settings(deadline=None)
@given(st.text(alphabet='{}.$|()" \nabVluesifwthrngdinco:=', max_size=80))
def test_any_text_is_read_as_a_template(text: str) -> None:
    assert _reads(text).knows(("a",)) in (True, False)


def _reads(text: str) -> Any:
    return Chart(reads=chartreads.reads_of([text]))
