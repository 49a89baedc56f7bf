"""What names say: environments in paths, which values file is whose, which files no release reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releasegate import config
from releasegate.discover import discover, layout
from releasegate.discover.files import Files, doublestar
from releasegate.model import Environment, HelmSource, Release, Rendered, Repo, Tree, Unrendered, UnsupportedSource

CHART = "apiVersion: v2\nname: {name}\nversion: 1.0.0\n"


def build(root: Path, files: Mapping[str, str]) -> Tree:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(root=str(root), files=tuple(sorted(files)))


def render_nothing(
    releases: Sequence[Release], _environments: Mapping[str, Environment]
) -> Sequence[Rendered | Unrendered]:
    return [Rendered(release=release, manifests=()) for release in releases]


def found(root: Path, *paths: str, toml: str = "", **texts: str) -> Repo:
    """Discover a tree of these paths: charts named by folder, values files with a key, or the text given."""
    files = {
        path: CHART.format(name=Path(path).parent.name or "app") if path.endswith("Chart.yaml") else "key: value\n"
        for path in paths
    }
    return discover(build(root, {**files, **texts}), config.parse(toml), render_nothing, kubernetes="1.37")


def releases(repo: Repo) -> dict[str, list[str]]:
    """Release id -> its values files."""
    return {
        release.id: [
            file.path for source in release.sources if isinstance(source, HelmSource) for file in source.values_files
        ]
        for release in repo.releases
    }


# --- environment names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "prod",
        "production",
        "prd",
        "live",
        "staging",
        "stage",
        "stg",
        "preprod",
        "pre-prod",
        "dev",
        "development",
        "qa",
        "uat",
        "test",
        "int",
        "integration",
        "sandbox",
        "ephemeral",
        "prod-eu",
        "prod-us",
        "prod-asia",
        "integration-gpu",
        "eu-west-1-prod",
        "prod-eu-west-1",
        "prod_eu",
        "prod.eu",
        "uat2",
        "prod01",
        "dev1",
        "non-prod",
        "nonprod",
        "Prod",
        "prod-blue",
        "us-prod",
    ],
)
def test_these_are_environments(name: str) -> None:
    assert layout.is_environment(name)


@pytest.mark.parametrize(
    "name",
    [
        "api",
        "values",
        "nomaria",
        "prod-database",
        "production-ready",
        "base",
        "common",
        "templates",
        "eu",
        "eu-west-1",
        "production/x",
        "repo",
        "''",
        "pro",
        "d",
        "prods",
        "latest",
        "app-config-ephemeral",
        "synthetic-test-app",
        "release-candidate",
    ],
)
def test_these_are_not(name: str) -> None:
    assert not layout.is_environment(name)


def test_a_name_of_the_config_is_an_environment() -> None:
    assert layout.is_environment("moon", {"moon"})


@pytest.mark.parametrize(
    ("name", "protected"),
    [
        ("prod", True), ("production", True), ("prod-eu", True), ("eu-west-1-prod", True), ("live", True),
        ("staging", True), ("stage", True), ("staging2", True), ("preprod", True), ("pre-prod", True),
        ("prod01", True), ("dev", False), ("integration", False), ("test", False), ("non-prod", False),
        ("nonprod", False), ("default", False), ("qa-eu", False),
    ],
)  # fmt: skip
def test_production_and_staging_like_names_are_protected(name: str, *, protected: bool) -> None:
    assert layout.is_protected(name) is protected


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("api-prod", (), "prod"),
        ("prod-api", (), "prod"),
        ("api-prod-eu", (), "prod-eu"),
        ("api-eu-prod", ("prod",), "prod"),
        ("govuk-synthetic-test-app", ("test",), None),
        ("load-test", (), None),  # an ordinary word proves nothing…
        ("api-test", ("test",), "test"),  # …unless the repo has that environment
        ("live-feed", (), None),
        ("release", (), None),
        ("prod", (), None),
    ],
)
def test_an_applications_name_names_its_environment(name: str, known: tuple[str, ...], expected: str | None) -> None:
    assert layout.affix(name, known) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("helm/api/values-prod.yaml", {"prod"}),
        ("helm/api/values.prod.yaml", {"prod"}),
        ("helm/api/values_prod-eu.yaml", {"prod-eu"}),
        ("helm/api/prod-values.yaml", {"prod"}),
        ("values/prod/api.yaml", {"prod"}),
        ("prod/eu/api-values-dev.yaml", {"dev"}),
        ("environments/prod.yaml", {"prod"}),
        ("helm/api/values.yaml", set()),
        ("helm/api/values-prod.enc.yaml", {"prod"}),
        ("envs/prod/prod-eu/values.yaml", {"prod-eu"}),
        ("helm/dev/prod/values.yaml", {"dev", "prod"}),
    ],
)
def test_a_values_files_path_names_its_environment(path: str, expected: set[str]) -> None:
    assert layout.of_values_file(path, ()) == expected


# --- layouts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "helm/values-prod.yaml",
        "helm/values.prod.yaml",
        "helm/values_prod.yaml",
        "helm/prod-values.yaml",
        "helm/prod.values.yaml",
        "helm/values-prod.yml",
        "helm/values/prod.yaml",
        "helm/values/values-prod.yaml",
        "helm/prod/values.yaml",
        "helm/envs/prod.yaml",
        "helm/envs/prod/values.yaml",
        "helm/environments/prod/values.yaml",
        "helm/config/prod.yaml",
        "helm/prod.yaml",
        "values/prod.yaml",
        "values/values-prod.yaml",
        "values-prod.yaml",
        "envs/prod/values.yaml",
        "envs/prod.yaml",
        "environments/prod/values.yaml",
        "environments/prod.yaml",
        "environments/prod/helm.yaml",
        "environments/prod/helm/values.yaml",
        "prod/values.yaml",
        "prod/helm/values.yaml",
        "overlays/prod/values.yaml",
        "deploy/prod/values-helm.yaml",
        "values/helm/prod.yaml",
    ],
)
def test_a_values_file_of_a_known_layout_makes_a_release_in_its_environment(tmp_path: Path, path: str) -> None:
    repo = found(tmp_path, "helm/Chart.yaml", "helm/values.yaml", path)
    assert releases(repo) == {"prod/helm": [path]}
    assert [(one.name, one.protected) for one in repo.environments] == [("prod", True)]
    assert repo.unreferenced_values == ()
    assert repo.not_understood == ()
    assert path in repo.releases[0].why


@pytest.mark.parametrize("folder", ["{env}/{chart}", "environments/{env}/{chart}", "apps/{chart}/{env}"])
def test_with_several_charts_a_name_in_the_path_says_whose_values_they_are(tmp_path: Path, folder: str) -> None:
    paths = [
        folder.format(env=env, chart=chart) + "/values.yaml" for env in ("dev", "prod-eu") for chart in ("api", "web")
    ]
    repo = found(tmp_path, "charts/api/Chart.yaml", "charts/web/Chart.yaml", *paths)
    assert releases(repo) == {
        "dev/api": [folder.format(env="dev", chart="api") + "/values.yaml"],
        "dev/web": [folder.format(env="dev", chart="web") + "/values.yaml"],
        "prod-eu/api": [folder.format(env="prod-eu", chart="api") + "/values.yaml"],
        "prod-eu/web": [folder.format(env="prod-eu", chart="web") + "/values.yaml"],
    }


def test_values_beside_a_chart_belong_to_the_only_chart_near_them(tmp_path: Path) -> None:
    repo = found(
        tmp_path,
        "services/api/chart/Chart.yaml",
        "services/api/values/prod.yaml",
        "services/web/chart/Chart.yaml",
        "services/web/values/prod.yaml",
    )
    assert releases(repo) == {
        "prod/services-api-chart": ["services/api/values/prod.yaml"],
        "prod/services-web-chart": ["services/web/values/prod.yaml"],
    }


def test_an_environments_shared_values_come_before_the_charts_own(tmp_path: Path) -> None:
    repo = found(tmp_path, "helm/Chart.yaml", "helm/values-prod.yaml", "environments/prod.yaml")
    assert releases(repo) == {"prod/helm": ["environments/prod.yaml", "helm/values-prod.yaml"]}


def test_a_chart_in_an_environments_folder_is_deployed_there(tmp_path: Path) -> None:
    repo = found(tmp_path, "envs/prod/api/Chart.yaml", "envs/dev/Chart.yaml", "envs/dev/values.yaml")
    assert releases(repo) == {"prod/api": [], "dev/dev": []}


def test_regions_are_environments_of_their_own_and_protected(tmp_path: Path) -> None:
    repo = found(tmp_path, "helm/Chart.yaml", *(f"envs/{env}/values.yaml" for env in ("prod-eu", "prod-us", "int-gpu")))
    assert [(one.name, one.protected) for one in repo.environments] == [
        ("int-gpu", False),
        ("prod-eu", True),
        ("prod-us", True),
    ]


def test_the_config_names_an_environment_and_its_values(tmp_path: Path) -> None:
    toml = '[environments.moon]\nprotected = true\nvalues = ["helm/lunar/*.yaml"]\n'
    repo = found(tmp_path, "helm/Chart.yaml", "helm/lunar/a.yaml", "helm/values-moon.yaml", toml=toml)
    assert releases(repo) == {"moon/helm": ["helm/lunar/a.yaml", "helm/values-moon.yaml"]}
    assert repo.environments[0].protected
    assert repo.environments[0].configured


def test_a_configured_environment_without_releases_is_still_there(tmp_path: Path) -> None:
    repo = found(tmp_path, "helm/Chart.yaml", "helm/values-prod.yaml", toml="[environments.qa]\n[environments.prod]\n")
    assert [one.name for one in repo.environments] == ["qa", "prod"]


def test_the_config_decides_what_is_protected_and_which_kubernetes(tmp_path: Path) -> None:
    toml = (
        '[environments.prod]\nprotected = false\nkubernetes = "1.34.2"\napi_versions = ["a.b/v1"]\nowners = ["@a/b"]\n'
    )
    prod = found(tmp_path, "helm/Chart.yaml", "helm/values-prod.yaml", "helm/values-dev.yaml", toml=toml).environment(
        "prod"
    )
    assert (prod.protected, prod.kubernetes, prod.api_versions, prod.owners) == (False, "1.34", ("a.b/v1",), ("@a/b",))


# --- nothing is dropped silently ----------------------------------------------------------------------------------


def test_a_chart_without_environments_is_judged_once_in_default_and_listed(tmp_path: Path) -> None:
    repo = found(tmp_path, "helm/Chart.yaml", "helm/values.yaml")
    assert releases(repo) == {"default/helm": []}
    assert repo.undeployed == ("helm",)
    assert not repo.environment("default").protected


@pytest.mark.parametrize(
    "path",
    [
        "helm/values-minimal.yaml",
        "helm/ci/prod-values.yaml",
        "helm/ci/values-prod.yaml",
        "other/values.yaml",
        "helm/prometheus-values-prod.yaml",
    ],
)
def test_a_values_file_that_no_release_reads_is_listed(tmp_path: Path, path: str) -> None:
    """ci/ is chart-testing's folder: values to install a chart with, no deployment."""
    repo = found(tmp_path, "helm/Chart.yaml", "helm/values.yaml", "helm/values-dev.yaml", path)
    assert releases(repo) == {"dev/helm": ["helm/values-dev.yaml"]}
    assert repo.unreferenced_values == (path,)


def test_values_that_a_template_reads_are_not_unreferenced(tmp_path: Path) -> None:
    repo = discover(
        build(
            tmp_path,
            {
                "helm/Chart.yaml": CHART.format(name="helm"),
                "helm/tempo-values-prod.yaml": "a: 1\n",
                "helm/loki-values-prod.yaml": "a: 1\n",
                "helm/templates/a.yaml": '{{ .Files.Get (printf "tempo-values-%s.yaml" .Values.env) }}',
            },
        ),
        config.Config(),
        render_nothing,
        kubernetes="1.37",
    )
    assert repo.unreferenced_values == ("helm/loki-values-prod.yaml",)


def test_manifests_in_an_environments_folder_are_no_values(tmp_path: Path) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n"
    tree = build(
        tmp_path,
        {
            "helm/Chart.yaml": CHART.format(name="helm"),
            "environments/prod.yaml": manifest,
            "prod/helm/values.yaml": manifest,
        },
    )
    repo = discover(tree, config.Config(), render_nothing, kubernetes="1.37")
    assert releases(repo) == {"default/helm": []}
    assert repo.unreferenced_values == ()


def test_subcharts_belong_to_their_chart_and_libraries_are_named(tmp_path: Path) -> None:
    files = {
        "helm/Chart.yaml": CHART.format(name="helm"),
        "helm/values-prod.yaml": "a: 1\n",
        "helm/charts/redis/Chart.yaml": CHART.format(name="redis"),
        "helm/charts/redis/values-prod.yaml": "a: 1\n",
        "lib/common/Chart.yaml": CHART.format(name="common") + "type: library\n",
        "lib/base/Chart.yaml": CHART.format(name="base"),
        "web/Chart.yaml": CHART.format(name="web")
        + "dependencies:\n- {name: base, version: 1.x, repository: 'file://../lib/base'}\n",
        "web/charts/base-1.0.0.tgz": "",
    }
    repo = discover(build(tmp_path, files), config.Config(), render_nothing, kubernetes="1.37")
    assert releases(repo) == {"prod/helm": ["helm/values-prod.yaml"], "default/web": []}
    assert [(row.what, row.blocking) for row in repo.not_understood] == [
        ("chart lib/base", False),
        ("chart lib/common", False),
    ]
    assert repo.unreferenced_values == ()


@pytest.mark.parametrize(
    ("inside", "vendored"),
    [
        ({}, False),
        ({"charts/redis-18.0.1.tgz": ""}, True),
        ({"charts/redis/Chart.yaml": CHART.format(name="redis")}, True),
        ({"charts/cache/Chart.yaml": CHART.format(name="redis")}, True),
        ({"charts/redis-cluster-18.0.1.tgz": ""}, False),
    ],
)
def test_a_dependency_that_is_not_vendored_is_a_source_with_its_reason(
    tmp_path: Path, inside: Mapping[str, str], *, vendored: bool
) -> None:
    declared = (
        CHART.format(name="helm") + "dependencies:\n- {name: redis, version: 18.x, repository: 'https://x.example'}\n"
    )
    files = {"helm/Chart.yaml": declared, **{f"helm/{name}": text for name, text in inside.items()}}
    (release,) = discover(build(tmp_path, files), config.Config(), render_nothing, kubernetes="1.37").releases
    (source,) = release.sources
    if vendored:
        assert isinstance(source, HelmSource)
    else:
        assert isinstance(source, UnsupportedSource)
        assert "redis (https://x.example)" in source.reason
        assert "helm dependency build helm" in source.remedy


def test_other_deployers_are_named(tmp_path: Path) -> None:
    files = {
        "overlays/prod/kustomization.yaml": "resources: [../../base]\n",
        "base/kustomization.yaml": "resources: []\n",
        "clusters/production/apps.yaml": "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n",
        "helmfile.yaml": "releases: []\n",
    }
    repo = discover(build(tmp_path, files), config.Config(), render_nothing, kubernetes="1.37")
    assert [(row.what, row.environment, row.blocking) for row in repo.not_understood] == [
        ("helmfile helmfile.yaml", None, True),
        ("kustomization overlays/prod", "prod", True),
        ("1 Flux objects", None, True),
    ]


def test_a_broken_chart_yaml_is_still_a_chart(tmp_path: Path) -> None:
    """helm then says what is wrong with it: an unreadable chart must not vanish."""
    repo = discover(
        build(tmp_path, {"api/Chart.yaml": "name: [\n"}), config.Config(), render_nothing, kubernetes="1.37"
    )
    assert releases(repo) == {"default/api": []}


def test_an_empty_tree_has_nothing(tmp_path: Path) -> None:
    repo = discover(build(tmp_path, {}), config.Config(), render_nothing, kubernetes="1.37")
    assert (repo.releases, repo.environments, repo.not_understood) == ((), (), ())


# --- files and globs ----------------------------------------------------------------------------------------------


def test_a_folders_own_files_come_before_its_subfolders(tmp_path: Path) -> None:
    """The example of Argo CD's docs/user-guide/helm.md, "Recursive matching"."""
    tree = build(tmp_path, dict.fromkeys(["envs/a.yaml", "envs/z.yaml", "envs/nested/c.yaml", "envs/d.txt"], ""))
    assert Files(tree).glob("envs/**/*.yaml") == ["envs/a.yaml", "envs/z.yaml", "envs/nested/c.yaml"]


def test_a_file_that_is_a_link_out_of_the_tree_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("kind: Application")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.yaml").symlink_to(tmp_path / "secret")
    (root / "loop.yaml").symlink_to("loop.yaml")
    files = Files(Tree(root=str(root), files=("a.yaml", "loop.yaml")))
    for name, reason in (
        ("a.yaml", "leaves the repository"),
        ("loop.yaml", "cannot be read"),
        ("b.yaml", "not in the tree"),
    ):
        with pytest.raises(Exception, match=reason):
            files.text(name)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("v-[ab].yaml", "v-a.yaml", True),
        ("v-[a-c].yaml", "v-b.yaml", True),
        ("v-[!a].yaml", "v-a.yaml", False),
        ("v-[^a].yaml", "v-b.yaml", True),
        ("v[!a]b", "v/b", False),
        ("v-[a&&b].yaml", "v-&.yaml", True),
        ("v-[z-a].yaml", "v--.yaml", True),
        ("v-[.yaml", "v-[.yaml", True),
        ("v-{a,b}.yaml", "v-b.yaml", True),
    ],
)
def test_classes_and_alternatives_of_a_pattern(pattern: str, path: str, *, expected: bool) -> None:
    assert (doublestar(pattern).fullmatch(path) is not None) is expected


segments = st.lists(st.text("ab.", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join)


@given(segments, st.lists(st.sampled_from(["*", "**", "?", "a", "a*", "*b"]), min_size=1, max_size=3).map("/".join))
def test_a_doublestar_pattern_matches_as_its_definition_says(path: str, pattern: str) -> None:
    def one(wanted: str, name: str) -> bool:
        if not wanted:
            return not name
        if wanted[0] == "*":
            return any(one(wanted[1:], name[cut:]) for cut in range(len(name) + 1))
        return bool(name) and wanted[0] in {"?", name[0]} and one(wanted[1:], name[1:])

    def many(wanted: list[str], names: list[str]) -> bool:
        if not wanted:
            return not names
        if wanted[0] == "**":
            if len(wanted) == 1:
                return bool(names)
            return any(many(wanted[1:], names[cut:]) for cut in range(len(names)))
        return bool(names) and one(wanted[0], names[0]) and many(wanted[1:], names[1:])

    assert (doublestar(pattern).fullmatch(path) is not None) == many(pattern.split("/"), path.split("/"))
