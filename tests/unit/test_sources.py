"""A finding points at the line a person would edit; where that is not certain, at the template, never at a wrong line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from releasegate import config, k8s
from releasegate.discover import discover
from releasegate.discover.files import Files
from releasegate.model import (
    Application,
    DirectorySource,
    Environment,
    Finding,
    HelmSource,
    InlineValues,
    Parameter,
    Place,
    Release,
    Rendered,
    Source,
    Tree,
    Unrendered,
    ValuesFile,
)
from releasegate.render import Renderer
from releasegate.sources import Locator
from releasegate.tools import store

PROD = Environment(name="prod", protected=True, kubernetes="1.37", why="test")
IMAGE = "/spec/containers/0/image"
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}
spec:
  containers:
    - name: app
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
      {{- if eq .Values.size "large" }}
      resources: {limits: {memory: 8Gi}}
      {{- end }}
"""
VALUES = """\
# the defaults
image:
  repository: registry.acme.example/app
  tag: latest
size: small
"""


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    write(folder, "app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n")
    write(folder, "app/values.yaml", VALUES)
    write(folder, "app/templates/pod.yaml", POD)
    return folder


Locate = Callable[..., Place | None]


@pytest.fixture
def locate(root: Path, helm: store.Tool) -> Locate:
    """Locate a finding at a pointer of the first object that the sources render."""

    def run(*sources: Source, pointer: str | None = IMAGE, application: Application | None = None) -> Place | None:
        files = tuple(sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()))
        release = Release(
            name="app", environment="prod", helm_release="app", namespace="x", sources=sources, application=application
        )
        tree = Tree(root=str(root), files=files)
        with Renderer(tree, tool=helm) as renderer:
            rendered = renderer.result(release, PROD)
            assert isinstance(rendered, Rendered), rendered
            manifest = rendered.manifests[0]
            value = k8s.resolve(manifest.body, pointer) if pointer is not None else None
            finding = Finding(message="m", help="h", change="c", manifest=manifest, pointer=pointer, value=value)
            locator = Locator(
                Files(tree), lambda one, texts, templates: renderer.begin_probe(one, PROD, texts, templates)
            )
            (located,) = locator.locate(rendered, [finding])
            return located.place

    return run


def test_the_tag_of_the_charts_own_values(locate: Locate) -> None:
    assert locate(HelmSource(chart="app")) == Place(path="app/values.yaml", line=4, column=8)


def test_the_file_that_wins_is_named_not_the_one_that_has_the_same_text(root: Path, locate: Locate) -> None:
    write(root, "app/prod.yaml", "image:\n  # same text as the default\n  tag: latest\n")
    source = HelmSource(chart="app", values_files=(ValuesFile(path="app/prod.yaml"),))
    assert locate(source) == Place(path="app/prod.yaml", line=3, column=8)


def test_inline_values_of_an_application_file(root: Path, locate: Locate) -> None:
    text = "spec:\n  source:\n    helm:\n      values: |\n        image:\n          tag: edge\n"
    write(root, "apps/app.yaml", text)
    place = Place(path="apps/app.yaml", line=1)
    application = Application(name="app", namespace=None, project="default", destination={}, place=place)
    inline = InlineValues(text="image:\n  tag: edge\n", key="values", place=Place(path="apps/app.yaml", line=5))
    found = locate(HelmSource(chart="app", inline=inline), application=application)
    assert (found or Place(path="")).path == "apps/app.yaml"
    assert (found or Place(path="")).line == 6


def test_values_a_parent_rendered_point_at_the_parents_template_without_a_line(locate: Locate) -> None:
    application = Application(
        name="app",
        namespace=None,
        project="default",
        destination={},
        place=None,
        parent="prod/apps",
        template="apps/templates/app.yaml",
    )
    inline = InlineValues(text="image: {tag: edge}\n", key="values")
    assert locate(HelmSource(chart="app", inline=inline), application=application) == Place(
        path="apps/templates/app.yaml"
    )


def test_a_value_written_in_the_template_is_found_there(root: Path, locate: Locate) -> None:
    write(
        root,
        "app/templates/pod.yaml",
        POD.replace('"{{ .Values.image.repository }}:{{ .Values.image.tag }}"', "busybox:1.36"),
    )
    assert locate(HelmSource(chart="app")) == Place(path="app/templates/pod.yaml", line=8)


def test_a_value_that_stands_twice_in_the_template_names_the_template_only(root: Path, locate: Locate) -> None:
    literal = POD.replace('"{{ .Values.image.repository }}:{{ .Values.image.tag }}"', "busybox:1.36")
    write(root, "app/templates/pod.yaml", literal + "    - {name: other, image: busybox:1.36}\n")
    assert locate(HelmSource(chart="app")) == Place(path="app/templates/pod.yaml", line=8)


def test_where_a_mark_changes_what_is_rendered_the_line_of_the_template_is_found(root: Path, locate: Locate) -> None:
    """The mark makes `eq` false, so the object of the marked render is not there to read; a comment changes nothing."""
    guarded = '{{- if eq .Values.image.tag "latest" }}\n' + POD + "{{- end }}\n"
    write(root, "app/templates/pod.yaml", guarded)
    assert locate(HelmSource(chart="app")) == Place(path="app/templates/pod.yaml", line=9)


@pytest.mark.parametrize("tag", ['{{ .Values.image.tag | replace "latest" "v1" }}', "latest"])
def test_an_end_that_the_template_writes_is_the_templates_line(root: Path, locate: Locate, tag: str) -> None:
    write(root, "app/templates/pod.yaml", POD.replace("{{ .Values.image.tag }}", tag))
    assert locate(HelmSource(chart="app")) == Place(path="app/templates/pod.yaml", line=8)


def test_a_right_digest_is_not_blamed_for_a_wrong_tag(root: Path, locate: Locate) -> None:
    """`tag: 12345678e3` renders as 1.2345678e+10, which is no tag; the line of the digest behind it is right."""
    write(
        root,
        "app/templates/pod.yaml",
        POD.replace('.Values.image.tag }}"', '.Values.image.tag }}@{{ .Values.image.digest }}"'),
    )
    digest = "sha256:" + "0123456789abcdef" * 4
    write(root, "app/values.yaml", VALUES.replace("tag: latest", f"tag: 12345678e3\n  digest: {digest}"))
    assert locate(HelmSource(chart="app")) == Place(path="app/templates/pod.yaml", line=8)


def test_a_key_that_the_values_hand_on_wholesale_is_not_a_line_of_the_template(root: Path, locate: Locate) -> None:
    """The template holds the same key at the same depth, in a branch that is not rendered."""
    block = "    {{- if .Values.never }}\n    - name: other\n      level: 7\n    {{- end }}\n"
    whole = POD.replace("    - name: app\n", block + "    {{- toYaml .Values.extra | nindent 4 }}\n    - name: app\n")
    write(root, "app/templates/pod.yaml", whole)
    write(root, "app/values.yaml", VALUES + "never: false\nextra:\n- name: extra\n  level: 7\n")
    found = locate(HelmSource(chart="app"), pointer="/spec/containers/0/level")
    assert found == Place(path="app/templates/pod.yaml")


def test_an_object_of_a_plain_file_is_found_in_it(root: Path, locate: Locate) -> None:
    pod = "# a comment\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n    - name: a\n      image: busybox\n"
    write(root, "plain/pod.yaml", pod)
    found = locate(DirectorySource(path="plain", files=("plain/pod.yaml",)))
    assert (found or Place(path="")).path == "plain/pod.yaml"
    assert (found or Place(path="")).line == 9


def test_equal_keys_of_the_template_are_told_apart(root: Path, locate: Locate) -> None:
    two = POD.replace("  name: {{ .Release.Name }}", "  name: {{ .Release.Name }}\n  labels:\n    size: 7")
    write(root, "app/templates/pod.yaml", two.replace("      image:", "      size: 7\n      image:"))
    for pointer, line in (("/metadata/labels/size", 6), ("/spec/containers/0/size", 10)):
        assert locate(HelmSource(chart="app"), pointer=pointer) == Place(path="app/templates/pod.yaml", line=line)


def test_a_finding_about_the_whole_object_names_its_template(locate: Locate) -> None:
    assert locate(HelmSource(chart="app"), pointer=None) == Place(path="app/templates/pod.yaml")


def test_the_charts_own_values_named_as_a_values_file(locate: Locate) -> None:
    """`valueFiles: [values.yaml]` passes the same file twice."""
    source = HelmSource(chart="app", values_files=(ValuesFile(path="app/values.yaml"),))
    assert locate(source) == Place(path="app/values.yaml", line=4, column=8)


def test_a_parameter_is_a_line_of_its_application(root: Path, locate: Locate) -> None:
    place = Place(path="apps/app.yaml", line=9, column=16)
    parameters = (
        Parameter(name="image.repository", value="registry.acme.example/app"),
        Parameter(name="image.tag", value="edge", place=place),
    )
    assert locate(HelmSource(chart="app", parameters=parameters)) == place


@pytest.mark.parametrize(
    "written", ["tag: &it latest\nother: *it", "tag: 'latest'", 'tag: "latest" # now', "tag:  latest"]
)
def test_each_way_to_write_a_scalar_can_be_marked(root: Path, locate: Locate, written: str) -> None:
    write(root, "app/prod.yaml", f"image:\n  {written}\n".replace("\nother", "\n  other"))
    found = locate(HelmSource(chart="app", values_files=(ValuesFile(path="app/prod.yaml"),)))
    assert found is not None
    assert (found.path, found.line) == ("app/prod.yaml", 2)


@pytest.mark.parametrize("written", ['tag: ""', "tag:", "tag: null", "tag: ~"])
def test_a_tag_that_says_nothing_is_the_line_to_edit(root: Path, locate: Locate, written: str) -> None:
    write(root, "app/values.yaml", f"image:\n  repository: registry.acme.example/app\n  {written}\nsize: small\n")
    found = locate(HelmSource(chart="app"))
    assert found is not None
    assert (found.path, found.line) == ("app/values.yaml", 3)


def test_the_version_of_the_app_is_a_line_of_the_chart(root: Path, locate: Locate) -> None:
    write(root, "app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\nappVersion: edge\n")
    write(root, "app/templates/pod.yaml", POD.replace("image.tag }}", "none | default .Chart.AppVersion }}"))
    assert locate(HelmSource(chart="app")) == Place(path="app/Chart.yaml", line=4, column=13)


def test_a_file_that_the_template_loads(root: Path, locate: Locate) -> None:
    write(root, "app/tags/prod", "# by the bot\nimage_tag: edge\n")
    write(root, "app/tags/dev", "image_tag: edge\n")
    loaded = '(.Files.Get "tags/prod" | fromYaml).image_tag }}'
    write(root, "app/templates/pod.yaml", POD.replace(".Values.image.tag }}", loaded))
    assert locate(HelmSource(chart="app")) == Place(path="app/tags/prod", line=2, column=12)


def test_the_values_of_a_subchart(root: Path, locate: Locate) -> None:
    write(
        root,
        "app/Chart.yaml",
        "apiVersion: v2\nname: app\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0}]\n",
    )
    write(root, "app/charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n")
    write(root, "app/charts/sub/values.yaml", VALUES)
    write(root, "app/charts/sub/templates/pod.yaml", POD)
    write(root, "app/templates/pod.yaml", "")
    assert locate(HelmSource(chart="app")) == Place(path="app/charts/sub/values.yaml", line=4, column=8)
    write(root, "app/values.yaml", "sub:\n  image:\n    tag: latest\n")
    assert locate(HelmSource(chart="app")) == Place(path="app/values.yaml", line=3, column=10)


def test_a_chart_at_the_top_of_the_tree(root: Path, locate: Locate) -> None:
    write(root, "Chart.yaml", "apiVersion: v2\nname: top\nversion: 1.0.0\n")
    write(root, "values.yaml", VALUES)
    write(root, "templates/pod.yaml", POD)
    assert locate(HelmSource(chart=".")) == Place(path="values.yaml", line=4, column=8)
    write(
        root, "templates/pod.yaml", POD.replace('"{{ .Values.image.repository }}:{{ .Values.image.tag }}"', "busybox")
    )
    assert locate(HelmSource(chart=".")) == Place(path="templates/pod.yaml", line=8)


def test_values_that_the_charts_schema_would_refuse_with_a_mark(root: Path, locate: Locate) -> None:
    schema = '{"properties": {"image": {"properties": {"tag": {"enum": ["latest", "edge"]}}}}}'
    write(root, "app/values.schema.json", schema)
    assert locate(HelmSource(chart="app")) == Place(path="app/values.yaml", line=4, column=8)


def test_a_number_that_a_template_counts_with_breaks_no_other_mark(root: Path, locate: Locate) -> None:
    """`mul` of a number with a mark is an error, or nothing; `port: 8080` is the end of no image."""
    write(root, "app/values.yaml", VALUES.replace("tag: latest", "tag: v8080") + "v8080: v8080\nport: 8080\n")
    counted = POD + "      ports: [{containerPort: {{ mul .Values.port 1 }}}]\n"
    write(root, "app/templates/pod.yaml", counted.replace("image.tag }}", "image.tag }}"))
    assert locate(HelmSource(chart="app")) == Place(path="app/values.yaml", line=4, column=8)
    assert locate(HelmSource(chart="app"), pointer="/spec/containers/0/ports/0/containerPort") == Place(
        path="app/templates/pod.yaml", line=12
    )


def test_a_branch_that_a_mark_would_change_is_seen_through(root: Path, locate: Locate) -> None:
    """With a mark, `eq` is false, and the other scalar of the same text comes through: an edit of it changes nothing."""
    chosen = '{{ if eq .Values.image.tag "latest" }}{{ .Values.image.tag }}{{ else }}{{ .Values.other }}{{ end }}"'
    write(root, "app/templates/pod.yaml", POD.replace('{{ .Values.image.tag }}"', chosen))
    write(root, "app/values.yaml", VALUES + "other: latest\n")
    found = locate(HelmSource(chart="app"))
    assert found is not None
    assert found.path == "app/templates/pod.yaml"


def test_two_scalars_in_the_part_that_has_to_change_name_neither(root: Path, locate: Locate) -> None:
    write(root, "app/values.yaml", VALUES.replace("tag: latest", "tag: 2.0-\n  build: rc7"))
    write(root, "app/templates/pod.yaml", POD.replace("image.tag }}", "image.tag }}{{ .Values.image.build }}"))
    assert locate(HelmSource(chart="app")) == Place(path="app/templates/pod.yaml", line=8)


def test_sources_with_inline_values_of_their_own(root: Path, locate: Locate) -> None:
    """A multi-source Application: the same chart twice."""
    write(root, "apps/app.yaml", "one: |\n  image: {tag: edge}\ntwo: |\n  image: {tag: edge }\n")
    place = Place(path="apps/app.yaml", line=1)
    application = Application(name="app", namespace=None, project="default", destination={}, place=place)
    sources = [
        HelmSource(
            chart="app",
            inline=InlineValues(text=text, key="values", place=Place(path="apps/app.yaml", line=line)),
        )
        for line, text in ((2, "image: {tag: edge}\n"), (4, "image: {tag: edge }\n"))
    ]
    assert locate(*sources, application=application) == Place(path="apps/app.yaml", line=2)
    same = replace(sources[0], inline=InlineValues(text="image: {tag: edge}\n", key="values"))
    assert locate(sources[0], same, application=application) != Place(path="apps/app.yaml", line=2), "one object of two"


def test_a_line_separator_in_a_template_is_no_line_break(root: Path, locate: Locate) -> None:
    literal = POD.replace('"{{ .Values.image.repository }}:{{ .Values.image.tag }}"', "busybox:1.36")
    write(root, "app/templates/pod.yaml", "{{- /* a\u2028b */}}\n" + literal)
    assert locate(HelmSource(chart="app")) == Place(path="app/templates/pod.yaml", line=9)


APPS = """\
{{- range .Values.apps }}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: {{ .name }}, namespace: argocd}
spec:
  project: default
  source:
    repoURL: https://github.com/acme/config
    path: app
    helm:
      values: |
        image:
          tag: {{ .tag }}
  destination: {server: https://kubernetes.default.svc, namespace: x}
{{- end }}
"""


def test_a_large_values_file_of_another_environment_is_still_one_of_its_own(root: Path, helm: store.Tool) -> None:
    """To dev, prod's values are a file that a template may load, and too large for one; to prod they are its values."""
    write(root, "app/templates/note.yaml", '{{- $_ := .Files.Get "none" }}')
    for name in ("dev", "prod"):
        write(root, f"app/values-{name}.yaml", "image:\n  tag: edge\n" + "# much\n" * 10_000)
    files = tuple(sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()))
    tree = Tree(root=str(root), files=files)
    with Renderer(tree, tool=helm) as renderer:
        locator = Locator(Files(tree), lambda one, texts, templates: renderer.begin_probe(one, PROD, texts, templates))
        for name in ("dev", "prod"):
            source = HelmSource(chart="app", values_files=(ValuesFile(path=f"app/values-{name}.yaml"),))
            release = Release(name=name, environment="prod", helm_release=name, namespace="x", sources=(source,))
            rendered = renderer.result(release, PROD)
            assert isinstance(rendered, Rendered)
            (manifest,) = rendered.manifests
            value = k8s.resolve(manifest.body, IMAGE)
            finding = Finding(message="m", help="h", change="c", manifest=manifest, pointer=IMAGE, value=value)
            (found,) = locator.locate(rendered, [finding])
            assert found.place == Place(path=f"app/values-{name}.yaml", line=2, column=8)


def test_a_parent_is_rendered_once_more_for_all_its_children(root: Path, helm: store.Tool) -> None:
    write(root, "apps/Chart.yaml", "apiVersion: v2\nname: apps\nversion: 1.0.0\n")
    write(root, "apps/templates/apps.yaml", APPS)
    write(root, "apps/values-prod.yaml", "apps:\n" + "".join(f"- name: a{n}\n  tag: v{n}\n" for n in range(20)))
    files = tuple(sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()))
    tree = Tree(root=str(root), files=files, remotes=("https://github.com/acme/config",))
    asked: list[str] = []
    with Renderer(tree, tool=helm) as renderer:
        repo = discover(tree, config.load(root), renderer.batch, kubernetes="1.37")
        environments = {one.name: one for one in repo.environments}
        answers = {one.id: renderer.result(one, environments[one.environment]) for one in repo.releases}

        def probe(
            release: Release, texts: Mapping[str, str], templates: frozenset[str]
        ) -> Callable[[], Rendered | Unrendered]:
            asked.append(release.name)
            return renderer.begin_probe(release, environments[release.environment], texts, templates)

        wanted = []
        for one in answers.values():
            assert isinstance(one, Rendered)
            for manifest in one.manifests:
                if manifest.kind == "Pod":
                    value = k8s.resolve(manifest.body, IMAGE)
                    wanted.append(
                        (one, Finding(message="m", help="h", change="c", manifest=manifest, pointer=IMAGE, value=value))
                    )
        found = Locator(Files(tree), probe, answers.get).locate_all(wanted)
    assert len(found) == 20
    for (one, _), finding in zip(wanted, found, strict=True):
        number = int(one.release.name[1:])
        assert finding.place == Place(path="apps/values-prod.yaml", line=3 + 2 * number, column=8)
    assert Counter(asked) == {"apps": 1, **{f"a{n}": 1 for n in range(20)}}
