"""A release renders as Argo CD would render it; the cache never answers with anything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from releasegate.model import (
    Application,
    DirectorySource,
    Environment,
    HelmSource,
    InlineValues,
    Parameter,
    Place,
    Release,
    Rendered,
    Source,
    Tree,
    Unrendered,
    UnsupportedSource,
    ValuesFile,
)
from releasegate.render import Renderer
from releasegate.tools import store
from releasegate.tools.helm import Unavailable

PROD = Environment(name="prod", protected=True, kubernetes="1.37", why="test")
CONFIGMAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  colour: {{ .Values.colour | quote }}
  size: {{ .Values.size | quote }}
  release: {{ .Release.Name }}.{{ .Release.Namespace }}
  kubernetes: {{ .Capabilities.KubeVersion.Version }}
"""
CHART = "apiVersion: v2\nname: app\nversion: 1.0.0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    write(folder, "app/Chart.yaml", CHART)
    write(folder, "app/values.yaml", "colour: red\nsize: small\n")
    write(folder, "app/templates/configmap.yaml", CONFIGMAP)
    return folder


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tree(root: Path) -> Tree:
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file())
    return Tree(root=str(root), files=tuple(files))


def release(*sources: Source) -> Release:
    return Release(name="app", environment="prod", helm_release="app-prod", namespace="shop", sources=sources)


@pytest.fixture
def renderer(root: Path, helm: store.Tool) -> Iterator[Renderer]:
    with Renderer(tree(root), tool=helm) as made:
        yield made


def rendered(renderer: Renderer, *sources: Source) -> Rendered:
    result = renderer.result(release(*sources), PROD)
    assert isinstance(result, Rendered), result
    return result


def unrendered(renderer: Renderer, *sources: Source) -> Unrendered:
    result = renderer.result(release(*sources), PROD)
    assert isinstance(result, Unrendered), result
    return result


def test_values_win_in_argos_order(root: Path, helm: store.Tool) -> None:
    """Argo: parameters > values > valueFiles (last wins) > the chart's values.yaml (docs/user-guide/helm.md)."""
    write(root, "app/one.yaml", "colour: one\nsize: one\n")
    write(root, "app/two.yaml", "colour: two\n")
    files = (ValuesFile(path="app/one.yaml"), ValuesFile(path="app/two.yaml"))
    inline = InlineValues(text="colour: inline\n", key="values")
    parameter = Parameter(name="colour", value="parameter")
    with Renderer(tree(root), tool=helm) as renderer:

        def colours(source: HelmSource) -> tuple[str, str]:
            (manifest,) = rendered(renderer, source).manifests
            return manifest.body["data"]["colour"], manifest.body["data"]["size"]

        assert colours(HelmSource(chart="app")) == ("red", "small")
        assert colours(HelmSource(chart="app", values_files=files)) == ("two", "one")
        assert colours(HelmSource(chart="app", values_files=files, inline=inline)) == ("inline", "one")
        whole = HelmSource(chart="app", values_files=files, inline=inline, parameters=(parameter,))
        assert colours(whole) == ("parameter", "one")


def test_release_name_namespace_and_version_are_argos(renderer: Renderer) -> None:
    (manifest,) = rendered(renderer, HelmSource(chart="app")).manifests
    assert manifest.body["data"]["release"] == "app-prod.shop"
    assert manifest.body["data"]["kubernetes"].startswith("v1.37")
    assert manifest.template == "app/templates/configmap.yaml"


def test_hooks_argo_never_applies_are_left_out_and_others_are_judged(root: Path, helm: store.Tool) -> None:
    for hook in ("test", "pre-rollback", "pre-install", "post-upgrade,test"):
        name = hook.replace(",", "-")
        text = f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  annotations: {{helm.sh/hook: '{hook}'}}\n"
        write(root, f"app/templates/{name}.yaml", text)
    with Renderer(tree(root), tool=helm) as renderer:
        names = {one.name for one in rendered(renderer, HelmSource(chart="app")).manifests}
    assert names == {"settings", "pre-install", "post-upgrade-test"}


def test_a_list_is_judged_item_by_item(root: Path, helm: store.Tool) -> None:
    item = "{apiVersion: v1, kind: ConfigMap, metadata: {name: %s}}"
    text = f"apiVersion: v1\nkind: List\nitems:\n- {item % 'one'}\n- {item % 'two'}\n"
    write(root, "app/templates/configmap.yaml", text)
    with Renderer(tree(root), tool=helm) as renderer:
        assert [one.name for one in rendered(renderer, HelmSource(chart="app")).manifests] == ["one", "two"]


def test_a_template_error_names_file_and_line(root: Path, helm: store.Tool) -> None:
    write(root, "app/templates/configmap.yaml", "a: 1\nb: {{ .Values.missing.key }}\n")
    with Renderer(tree(root), tool=helm) as renderer:
        broken = unrendered(renderer, HelmSource(chart="app"))
    assert broken.broken
    assert (broken.place or Place(path="")).path == "app/templates/configmap.yaml"
    assert (broken.place or Place(path="")).line == 2
    assert "nil pointer" in broken.reason


def test_values_that_break_the_charts_schema_do_not_render(root: Path, helm: store.Tool) -> None:
    schema = '{"type": "object", "properties": {"size": {"enum": ["small", "large"]}}}'
    write(root, "app/values.schema.json", schema)
    write(root, "app/tiny.yaml", "size: tiny\n")
    with Renderer(tree(root), tool=helm) as renderer:
        assert rendered(renderer, HelmSource(chart="app"))
        broken = unrendered(renderer, HelmSource(chart="app", values_files=(ValuesFile(path="app/tiny.yaml"),)))
    assert "values.schema.json" in broken.reason
    assert "/size" in broken.reason


def test_a_subcharts_schema_counts_with_the_values_helm_merges_for_it(root: Path, helm: store.Tool) -> None:
    write(root, "app/Chart.yaml", CHART + "dependencies:\n- {name: db, version: 1.0.0}\n")
    write(root, "app/charts/db/Chart.yaml", CHART.replace("app", "db"))
    write(root, "app/charts/db/values.yaml", "port: 5432\n")
    write(root, "app/charts/db/values.schema.json", '{"properties": {"port": {"type": "integer"}}}')
    write(root, "app/good.yaml", "db: {port: 5433}\n")
    write(root, "app/bad.yaml", "db: {port: postgres}\n")
    with Renderer(tree(root), tool=helm) as renderer:
        assert rendered(renderer, HelmSource(chart="app", values_files=(ValuesFile(path="app/good.yaml"),)))
        broken = unrendered(renderer, HelmSource(chart="app", values_files=(ValuesFile(path="app/bad.yaml"),)))
    assert "charts/db/values.schema.json" in broken.reason
    assert "/port" in broken.reason


AUTOSCALING = """{
  "properties": {
    "size": {"type": "string"},
    "autoscaling": {
      "additionalProperties": false,
      "required": ["enabled"],
      "properties": {"enabled": {"type": "boolean"}, "maxReplicas": {"type": "integer"}}
    }
  }
}"""


def refused(root: Path, helm: store.Tool, source: HelmSource, schema: str = AUTOSCALING) -> Unrendered:
    write(root, "app/values.schema.json", schema)
    with Renderer(tree(root), tool=helm) as renderer:
        return unrendered(renderer, source)


def test_a_key_that_the_schema_does_not_know_is_named_at_the_line_that_writes_it(root: Path, helm: store.Tool) -> None:
    write(root, "app/values.yaml", "autoscaling:\n  enabled: true\n  maxReplicas: 3\n")
    write(root, "app/prod.yaml", "size: large\nautoscaling:\n  maxReplica: 12\n")
    broken = refused(root, helm, HelmSource(chart="app", values_files=(ValuesFile(path="app/prod.yaml"),)))
    assert broken.place == Place(path="app/prod.yaml", line=3)
    assert "unknown key maxReplica; did you mean maxReplicas?" in broken.reason
    assert broken.remedy.startswith("autoscaling.maxReplica: write maxReplicas")


def test_each_refused_value_has_its_own_line(root: Path, helm: store.Tool) -> None:
    write(root, "app/one.yaml", "size: 1\nautoscaling:\n  enabled: true\n")
    write(root, "app/two.yaml", "autoscaling:\n  nothing: 1\n  enabled: maybe\n")
    files = (ValuesFile(path="app/one.yaml"), ValuesFile(path="app/two.yaml"))
    broken = refused(root, helm, HelmSource(chart="app", values_files=files))
    places = {broken.place, *(place for _, _, place in broken.also)}
    assert places == {
        Place(path="app/one.yaml", line=1),
        Place(path="app/two.yaml", line=2),
        Place(path="app/two.yaml", line=3),
    }


def test_more_refused_values_than_anybody_reads_are_counted(root: Path, helm: store.Tool) -> None:
    write(root, "app/many.yaml", "autoscaling:\n  enabled: true\n" + "".join(f"  n{n}: 1\n" for n in range(30)))
    broken = refused(root, helm, HelmSource(chart="app", values_files=(ValuesFile(path="app/many.yaml"),)))
    assert len(broken.also) == 19
    assert broken.also[-1][0].endswith("(and 10 more)")


def test_refused_inline_values_are_at_their_line_of_the_application(root: Path, helm: store.Tool) -> None:
    write(root, "app/one.yaml", "size: 1\n")
    placed = InlineValues(text="colour: red\nsize: 2\n", key="values", place=Place(path="argocd/app.yaml", line=10))
    files = (ValuesFile(path="app/one.yaml"),)
    broken = refused(root, helm, HelmSource(chart="app", values_files=files, inline=placed))
    assert broken.place == Place(path="argocd/app.yaml", line=11)
    unplaced = InlineValues(text="size: 2\n", key="values")
    assert refused(root, helm, HelmSource(chart="app", values_files=files, inline=unplaced)).place is None


def test_a_refused_parameter_is_where_the_application_writes_it(root: Path, helm: store.Tool) -> None:
    place = Place(path="argocd/app.yaml", line=12, column=3)
    parameter = Parameter(name="autoscaling.enabled", value="maybe", place=place)
    write(root, "app/one.yaml", "autoscaling:\n  enabled: maybe\n")
    source = HelmSource(chart="app", values_files=(ValuesFile(path="app/one.yaml"),), parameters=(parameter,))
    assert refused(root, helm, source).place == place


def test_a_missing_key_that_no_file_could_be_blamed_for_has_no_line(root: Path, helm: store.Tool) -> None:
    write(root, "app/one.yaml", "size: large\n")
    source = HelmSource(chart="app", values_files=(ValuesFile(path="app/one.yaml"),))
    broken = refused(root, helm, source, '{"required": ["owner"]}')
    assert broken.place == Place(path="app/one.yaml")
    assert broken.remedy.startswith("owner: ")


def test_releases_with_equal_values_are_each_told_their_own_file(root: Path, helm: store.Tool) -> None:
    write(root, "app/values.schema.json", AUTOSCALING)
    for name in ("one", "two"):
        write(root, f"app/{name}.yaml", "size: 1\n")
    with Renderer(tree(root), tool=helm) as renderer:
        for name in ("one", "two"):
            broken = unrendered(renderer, HelmSource(chart="app", values_files=(ValuesFile(path=f"app/{name}.yaml"),)))
            assert broken.place == Place(path=f"app/{name}.yaml", line=1)


def test_values_of_a_subchart_are_found_below_its_name_and_in_its_own_values(root: Path, helm: store.Tool) -> None:
    write(root, "app/Chart.yaml", CHART + "dependencies:\n- {name: db, version: 1.0.0}\n")
    write(root, "app/charts/db/Chart.yaml", CHART.replace("app", "db"))
    write(root, "app/charts/db/values.yaml", "# own\nhost: 1\nport: 5432\nglobal: {}\n")
    schema = (
        '{"properties": {"host": {"type": "string"}, "port": {"type": "integer"}, '
        '"global": {"properties": {"zone": {"type": "string"}}}}}'
    )
    write(root, "app/charts/db/values.schema.json", schema)
    write(root, "app/bad.yaml", "global:\n  zone: 1\ndb:\n  port: postgres\n")
    with Renderer(tree(root), tool=helm) as renderer:
        broken = unrendered(renderer, HelmSource(chart="app", values_files=(ValuesFile(path="app/bad.yaml"),)))
    places = {broken.place, *(place for _, _, place in broken.also)}
    assert places == {
        Place(path="app/bad.yaml", line=2),
        Place(path="app/bad.yaml", line=4),
        Place(path="app/charts/db/values.yaml", line=2),
    }
    assert "db.port: " in broken.remedy + "".join(remedy for _, remedy, _ in broken.also)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            HelmSource(
                chart="apps",
                values_files=(ValuesFile(path="apps/prod.yaml", place=Place(path="argocd/app.yaml", line=19)),),
                place=Place(path="argocd/app.yaml", line=16),
            ),
            "the chart folder apps is not in this repository; did you mean app?",
        ),
        (
            DirectorySource(path="elsewhere", files=(), place=Place(path="argocd/app.yaml", line=16)),
            "the folder elsewhere is not in this repository",
        ),
    ],
)
def test_a_folder_that_is_not_there_is_told_where_the_application_names_it(
    renderer: Renderer, source: HelmSource | DirectorySource, said: str
) -> None:
    application = Application(name="app", namespace=None, project="default", destination={}, place=None)
    broken = renderer.result(replace(release(source), application=application), PROD)
    assert isinstance(broken, Unrendered)
    assert broken.broken
    assert broken.reason == said
    assert "spec.source.path" in broken.remedy
    assert broken.place == Place(path="argocd/app.yaml", line=16)


def test_a_schema_reference_is_never_opened(root: Path, helm: store.Tool) -> None:
    """helm fetches http:// and file:// references of a values schema and exits 0 (threat row 14)."""
    secret = root.parent / "secret.json"
    secret.write_text("{}")
    write(root, "app/values.schema.json", f'{{"$ref": "file://{secret}"}}')
    with Renderer(tree(root), tool=helm) as renderer:
        assert "not a usable JSON schema" in unrendered(renderer, HelmSource(chart="app")).reason


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../outside.yaml"])
def test_a_link_that_leaves_the_repository_is_refused(root: Path, helm: store.Tool, target: str) -> None:
    (root / "../../outside.yaml").resolve().write_text("a: 1\n")
    (root / "app/templates/link.yaml").symlink_to(target)
    with Renderer(tree(root), tool=helm) as renderer:
        broken = unrendered(renderer, HelmSource(chart="app"))
    assert "symbolic link" in broken.reason
    assert broken.broken


def test_a_link_inside_the_repository_is_followed_as_argo_does(root: Path, helm: store.Tool) -> None:
    write(root, "common/extra.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\n")
    (root / "app/templates/extra.yaml").symlink_to("../../common/extra.yaml")
    with Renderer(tree(root), tool=helm) as renderer:
        names = {one.name for one in rendered(renderer, HelmSource(chart="app")).manifests}
    assert names == {"settings", "extra"}


def test_a_directory_is_its_files_without_helm(root: Path, helm: store.Tool) -> None:
    write(root, "plain/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n# nothing\n")
    write(root, "plain/b.json", '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}')
    source = DirectorySource(path="plain", files=("plain/a.yaml", "plain/b.json"))
    with Renderer(tree(root), tool=helm) as renderer:
        manifests = rendered(renderer, source).manifests
        assert [(one.name, one.path) for one in manifests] == [("a", "plain/a.yaml"), ("b", "plain/b.json")]
        both = rendered(renderer, HelmSource(chart="app"), source)
        assert len(both.manifests) == 3


def test_what_cannot_be_rendered_here_says_why_and_is_not_the_repos_fault(root: Path) -> None:
    missing = store.ToolMissing(name="helm", reason="not found", remedy="releasegate tools install helm")
    with Renderer(tree(root), tool=missing) as renderer:
        gap = unrendered(renderer, HelmSource(chart="app"))
        assert (gap.broken, gap.remedy) == (False, "releasegate tools install helm")
        remote = UnsupportedSource(reason="remote chart", remedy="fetch", description="redis")
        assert unrendered(renderer, remote).broken is False
        assert unrendered(renderer, HelmSource(chart="app", revision="0" * 40)).broken is False


def test_helm_lint_runs_once_per_chart_and_values(root: Path, helm: store.Tool) -> None:
    write(root, "app/other.yaml", "size: large\n")
    write(root, "app/Chart.yaml", CHART + "icon: no address\n")
    with Renderer(tree(root), tool=helm) as renderer:
        (first,) = renderer.lint(release(HelmSource(chart="app")), PROD)
        (again,) = renderer.lint(release(HelmSource(chart="app")), PROD)
        (other,) = renderer.lint(
            release(HelmSource(chart="app", values_files=(ValuesFile(path="app/other.yaml"),))), PROD
        )
    assert first.said is again.said
    assert first.said is not other.said
    assert first.chart == "app"
    assert not isinstance(first.said, Unavailable)
    assert [path for severity, path, _ in first.said.messages if severity == "error"] == ["Chart.yaml"]


# --- the cache ---


def render_once(root: Path, helm: store.Tool, cache: Path) -> tuple[Rendered, int, int]:
    with Renderer(tree(root), tool=helm, cache=cache) as renderer:
        result = rendered(renderer, HelmSource(chart="app"))
        return result, renderer.cache_hits, renderer.renders


def test_the_second_run_reads_the_cache_and_says_the_same(root: Path, helm: store.Tool, tmp_path: Path) -> None:
    cold, hits, renders = render_once(root, helm, tmp_path / "cache")
    assert (hits, renders) == (0, 1)
    warm, hits, renders = render_once(root, helm, tmp_path / "cache")
    assert (hits, renders) == (1, 0)
    assert [one.body for one in warm.manifests] == [one.body for one in cold.manifests]
    assert [one.text for one in warm.manifests] == [one.text for one in cold.manifests]
    assert warm.cached


@pytest.mark.parametrize(
    ("name", "text"),
    [("app/values.yaml", "colour: blue\nsize: small\n"), ("app/templates/extra.yaml", "# nothing\n")],
)
def test_any_changed_input_is_rendered_again(
    root: Path, helm: store.Tool, tmp_path: Path, name: str, text: str
) -> None:
    render_once(root, helm, tmp_path / "cache")
    write(root, name, text)
    assert render_once(root, helm, tmp_path / "cache")[1:] == (0, 1)


@pytest.mark.parametrize("spoil", [b"", b"garbage", b"0" * 64 + b"\n[]"])
def test_a_corrupt_entry_is_rendered_again_not_believed(
    root: Path, helm: store.Tool, tmp_path: Path, spoil: bytes
) -> None:
    cold, _, _ = render_once(root, helm, tmp_path / "cache")
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    entry.write_bytes(spoil)
    again, hits, renders = render_once(root, helm, tmp_path / "cache")
    assert (hits, renders) == (0, 1)
    assert [one.body for one in again.manifests] == [one.body for one in cold.manifests]


def test_an_entry_of_another_key_is_not_believed(root: Path, helm: store.Tool, tmp_path: Path) -> None:
    render_once(root, helm, tmp_path / "cache")
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    stolen = entry.read_bytes()
    entry.unlink()
    write(root, "app/values.yaml", "colour: blue\nsize: small\n")
    render_once(root, helm, tmp_path / "cache")
    (other,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    other.write_bytes(stolen)
    result, hits, _ = render_once(root, helm, tmp_path / "cache")
    assert hits == 0
    assert result.manifests[0].body["data"]["colour"] == "blue"


def test_equal_inputs_are_rendered_once_in_a_run(renderer: Renderer) -> None:
    first = rendered(renderer, HelmSource(chart="app"))
    second = rendered(renderer, HelmSource(chart="app"))
    assert renderer.renders == 1
    assert first.manifests[0] is second.manifests[0]


def test_nothing_is_left_behind(root: Path, helm: store.Tool) -> None:
    with Renderer(tree(root), tool=helm) as renderer:
        rendered(renderer, HelmSource(chart="app"))
        folder = Path(renderer._folder.name)
        assert folder.exists()
    assert not folder.exists()
