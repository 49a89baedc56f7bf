"""Applications in files: what Argo CD would hand to helm, where, and under which name."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from releasegate import config, yamlio
from releasegate.discover import argo, discover, layout
from releasegate.discover.deployment import Deployment, deployment
from releasegate.discover.files import Files
from releasegate.model import (
    DirectorySource,
    Environment,
    HelmSource,
    Release,
    Rendered,
    Repo,
    Tree,
    Unrendered,
    UnsupportedSource,
)

URL = "https://github.com/acme/config"
CHART = "apiVersion: v2\nname: api\nversion: 1.0.0\n"


def build(root: Path, files: Mapping[str, str], **more: Any) -> Tree:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(root=str(root), files=tuple(sorted(files)), **{"remotes": (URL,), **more})


def render_nothing(
    releases: Sequence[Release], _environments: Mapping[str, Environment]
) -> Sequence[Rendered | Unrendered]:
    return [Rendered(release=release, manifests=()) for release in releases]


def run(tree: Tree, toml: str = "", at_revision: Callable[[str], Tree | None] = lambda _name: None) -> Repo:
    return discover(tree, config.parse(toml), render_nothing, at_revision=at_revision, kubernetes="1.37")


def application(source: str, name: str = "api-prod", namespace: str = "shop") -> str:
    """An Application with that `source:` block (indented under spec)."""
    return (
        "# who: the shop team\n"
        "apiVersion: argoproj.io/v1alpha1\n"
        "kind: Application\n"
        f"metadata: {{name: {name}, namespace: argocd}}\n"
        "spec:\n"
        "  project: shop\n"
        f"  destination: {{namespace: {namespace}, server: https://kubernetes.default.svc}}\n"
        + textwrap.indent(textwrap.dedent(source), "  ")
    )


def one(tmp_path: Path, source: str, files: Sequence[str] = (), **more: Any) -> Release:
    """The release of one Application for the chart at helm/api."""
    texts = {"argocd/app.yaml": application(source), "helm/api/Chart.yaml": CHART}
    repo = run(build(tmp_path, {**texts, **dict.fromkeys(files, "a: 1\n")}, **more))
    found = [release for release in repo.releases if release.application is not None]
    assert len(found) == 1, repo.not_understood
    return found[0]


def helm(release: Release) -> HelmSource:
    (source,) = release.sources
    assert isinstance(source, HelmSource), source
    return source


def unsupported(release: Release) -> UnsupportedSource:
    (source,) = release.sources
    assert isinstance(source, UnsupportedSource), source
    return source


HERE = f"source:\n  repoURL: {URL}\n  path: helm/api\n  targetRevision: HEAD\n"


def test_an_application_is_a_release_with_what_argo_cd_hands_to_helm(tmp_path: Path) -> None:
    release = one(
        tmp_path,
        HERE
        + textwrap.indent(
            textwrap.dedent(
                """\
                helm:
                  releaseName: api
                  kubeVersion: "1.35"
                  apiVersions: [monitoring.coreos.com/v1]
                  skipCrds: true
                  skipTests: true
                  valueFiles:
                    - values.yaml
                    - values-prod.yaml
                  values: |
                    # inline
                    image: a
                  parameters:
                    - name: image.tag
                      value: "1.10"
                      forceString: true
                    - {name: replicas, value: "3"}
                    - {name: replicas, value: "4"}
                """
            ),
            "  ",
        ),
        ["helm/api/values.yaml", "helm/api/values-prod.yaml"],
    )
    assert (release.id, release.helm_release, release.namespace) == ("prod/api", "api", "shop")
    assert (release.kube_version, release.api_versions) == ("1.35", ("monitoring.coreos.com/v1",))
    source = helm(release)
    assert source.chart == "helm/api"
    assert [str(file.path) for file in source.values_files] == ["helm/api/values.yaml", "helm/api/values-prod.yaml"]
    text = Path(tmp_path, "argocd/app.yaml").read_text().splitlines()
    assert [text[file.place.line - 1].strip() for file in source.values_files if file.place and file.place.line] == [
        "- values.yaml",
        "- values-prod.yaml",
    ]
    assert source.inline is not None
    assert (source.inline.key, source.inline.text) == ("values", "# inline\nimage: a\n")
    assert source.inline.place is not None
    assert text[(source.inline.place.line or 0) - 1].strip() == "# inline"
    assert [(one.name, one.value, one.force_string) for one in source.parameters] == [
        ("image.tag", "1.10", True),
        ("replicas", "4", False),
    ]
    assert source.parameters[0].place is not None
    assert '"1.10"' in text[(source.parameters[0].place.line or 0) - 1]
    assert (source.skip_crds, source.skip_tests) == (True, True)
    assert release.application is not None
    assert (release.application.name, release.application.namespace, release.application.project) == (
        "api-prod",
        "argocd",
        "shop",
    )
    assert str(release.application.place) == "argocd/app.yaml:2"
    assert release.application.parent is None


def test_without_a_release_name_helm_is_told_the_applications(tmp_path: Path) -> None:
    release = one(tmp_path, HERE, ["helm/api/values.yaml"])
    assert (release.name, release.helm_release) == ("api", "api-prod")
    assert helm(release).skip_crds is False


# --- where an Application may be written --------------------------------------------------------------------------


def test_applications_are_found_in_every_form_a_file_may_have(tmp_path: Path) -> None:
    body = application(HERE, name="one")
    items = textwrap.indent(application(HERE, name="three").split("\n", 1)[1], "    ")
    json = '{"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "four"}, "spec": {"source": {"repoURL": "%s", "path": "helm/api"}}}'
    tree = build(
        tmp_path,
        {
            "helm/api/Chart.yaml": CHART,
            "apps/multi.yml": f"---\n{body}---\n---\n{body.replace('one', 'two')}",
            "apps/list.yaml": "apiVersion: v1\nkind: List\nitems:\n  -\n" + items,
            "apps/four.json": json % URL,
            "values.yaml": textwrap.indent(f"extra: |\n{textwrap.indent(body, '  ')}", ""),
        },
    )
    repo = run(tree)
    places = {release.name: release.application and release.application.place for release in repo.releases}
    assert {name: str(place) for name, place in places.items()} == {
        "one": "apps/multi.yml:3",
        "two": "apps/multi.yml:16",
        "three": "apps/list.yaml:5",
        "four": "apps/four.json:1",
    }


def test_a_template_is_never_read_as_a_manifest(tmp_path: Path) -> None:
    tree = build(
        tmp_path,
        {"root/Chart.yaml": CHART, "root/templates/app.yaml": application(HERE), "root/values-prod.yaml": "a: 1\n"},
    )
    assert [release.application for release in run(tree).releases] == [None]


def test_a_file_that_looks_like_an_application_and_is_no_yaml_is_a_row(tmp_path: Path) -> None:
    text = application(HERE) + "  broken: [\n"
    repo = run(build(tmp_path, {"helm/api/Chart.yaml": CHART, "argocd/app.yaml": text}))
    (row,) = repo.not_understood
    assert row.place is not None
    assert (row.place.path, row.blocking) == ("argocd/app.yaml", True)
    assert row.place.line is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (application("source: null\n"), "neither spec.source nor spec.sources"),
        (application(HERE).replace("name: api-prod, ", ""), "no metadata.name"),
        (application(f"sources:\n- repoURL: {URL}\n  ref: values\n"), "only references"),
        (application(HERE + "  helm:\n    fileParameters: [a]\n"), "fileParameters is no list of mappings"),
        (application("sourceHydrator: {drySource: {}}\n"), "sourceHydrator"),
        (application(HERE + "  helm: {values: {a: 1}}\n"), "helm.values is no string"),
        (application(HERE + "  helm: {valueFiles: a.yaml}\n"), "helm.valueFiles is no list of strings"),
        (application(HERE + "  helm: {valueFiles: [1]}\n"), "helm.valueFiles is no list of strings"),
    ],
)
def test_an_application_that_is_not_understood_is_a_blocking_row_with_its_place(
    tmp_path: Path, text: str, reason: str
) -> None:
    repo = run(build(tmp_path, {"argocd/app.yaml": text}))
    (row,) = repo.not_understood
    assert reason in row.reason
    assert row.blocking
    assert str(row.place) == "argocd/app.yaml:2"
    assert repo.releases == ()


# --- values -------------------------------------------------------------------------------------------------------


def values(tmp_path: Path, entries: Sequence[str], files: Sequence[str], *, ignore: bool = False) -> list[str]:
    block = "  helm:\n    valueFiles:\n" + "".join(f"      - {entry!r}\n" for entry in entries)
    block += "    ignoreMissingValueFiles: true\n" if ignore else ""
    return [file.path for file in helm(one(tmp_path, HERE + block, files)).values_files]


@pytest.mark.parametrize(
    ("entries", "files", "expected"),
    [
        (["values-prod.yaml"], ["helm/api/values-prod.yaml"], ["helm/api/values-prod.yaml"]),
        (["../../envs/prod.yaml"], ["envs/prod.yaml"], ["envs/prod.yaml"]),
        (["/envs/prod.yaml"], ["envs/prod.yaml"], ["envs/prod.yaml"]),
        (["$ARGOCD_APP_NAME.yaml"], ["helm/api/api-prod.yaml"], ["helm/api/api-prod.yaml"]),
        (["${ARGOCD_APP_NAMESPACE}/$$a.yaml"], ["helm/api/shop/$a.yaml"], ["helm/api/shop/$a.yaml"]),
        (
            ["envs/*.yaml"],
            ["helm/api/envs/b.yaml", "helm/api/envs/a.yaml"],
            ["helm/api/envs/a.yaml", "helm/api/envs/b.yaml"],
        ),
        # An explicit entry takes its own place; the first of two globs wins (docs/user-guide/helm.md, Deduplication).
        (
            ["envs/*.yaml", "envs/a.yaml"],
            ["helm/api/envs/a.yaml", "helm/api/envs/b.yaml"],
            ["helm/api/envs/b.yaml", "helm/api/envs/a.yaml"],
        ),
        (
            ["envs/*.yaml", "envs/**/*.yaml"],
            ["helm/api/envs/a.yaml", "helm/api/envs/n/b.yaml"],
            ["helm/api/envs/a.yaml", "helm/api/envs/n/b.yaml"],
        ),
        # Absent: helm fails on it, so it stays.
        (["values-prod.yaml"], [], ["helm/api/values-prod.yaml"]),
        (["envs/*.yaml"], [], ["helm/api/envs/*.yaml"]),
    ],
)
def test_value_files_are_resolved_and_ordered_as_argo_cd_does(
    tmp_path: Path, entries: list[str], files: list[str], expected: list[str]
) -> None:
    assert values(tmp_path, entries, files) == expected


def test_absent_value_files_are_dropped_where_argo_cd_ignores_them(tmp_path: Path) -> None:
    entries = ["a.yaml", "values-prod.yaml", "none/*.yaml"]
    assert values(tmp_path, entries, ["helm/api/values-prod.yaml"], ignore=True) == ["helm/api/values-prod.yaml"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("../../../etc/passwd", "leaves the repo"),
        ("/../secret.yaml", "leaves the repo"),
        ("../../../*.yaml", "leaves the repo"),
        ("https://x.example/values.yaml", "on the network"),
        ("secrets://prod.yaml", "encrypted"),
        ("secrets+age-import:///key.txt?prod.yaml", "encrypted"),
    ],
)
def test_a_value_file_that_may_not_be_read_is_refused_with_its_reason(tmp_path: Path, entry: str, reason: str) -> None:
    release = one(tmp_path, HERE + f"  helm:\n    valueFiles: [{entry!r}]\n")
    assert reason in unsupported(release).reason
    assert unsupported(release).remedy


def test_a_sops_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    tree = build(
        tmp_path,
        {
            "argocd/app.yaml": application(HERE + "  helm: {valueFiles: [secret.yaml]}\n"),
            "helm/api/Chart.yaml": CHART,
            "helm/api/secret.yaml": "password: ENC[AES256_GCM,data:x]\nsops:\n  mac: ENC[x]\n",
        },
    )
    (release,) = run(tree).releases
    assert "encrypted" in unsupported(release).reason


paths = st.text(st.sampled_from("./*?[]$a~\\\n\0{}:%"), max_size=20)


@settings(max_examples=300)
@given(paths)
def test_no_value_file_entry_ever_names_something_outside_the_tree(entry: str) -> None:
    """Threat: `valueFiles: [../../etc/passwd]` in a pull request."""
    tree = Tree(root="/nonexistent/repo", files=("a/a.yaml", "a/Chart.yaml", "aa"), remotes=(URL,))
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "a"},
        "spec": {"source": {"repoURL": URL, "path": "a", "helm": {"valueFiles": [entry, f"/{entry}", f"$v/{entry}"]}}},
    }
    body["spec"]["sources"] = [body["spec"]["source"], {"repoURL": URL, "ref": "v"}]  # type: ignore[index]
    repository = argo.Repository(Files(tree), (), lambda _name: None)
    read = deployment(argo.Found(body=body, why=""), repository, {})
    assert isinstance(read, Deployment)
    for source in read.sources:
        for file in source.values_files if isinstance(source, HelmSource) else ():
            assert not file.path.startswith(("/", "../"))
            assert ".." not in file.path.split("/")


def test_values_object_voids_values_and_keeps_its_lines(tmp_path: Path) -> None:
    block = """\
      helm:
        values: "image: lost"
        valuesObject:
          # the tag
          image: {tag: "1"}
          hosts:
            - a
    """
    source = helm(one(tmp_path, HERE + textwrap.indent(textwrap.dedent(block), "  ")))
    assert source.inline is not None
    assert source.inline.key == "valuesObject"
    assert yamlio.load(source.inline.text) == {"image": {"tag": "1"}, "hosts": ["a"]}
    text = Path(tmp_path, "argocd/app.yaml").read_text().splitlines()
    assert source.inline.place is not None
    for number, line in enumerate(source.inline.text.splitlines()):
        assert text[(source.inline.place.line or 0) - 1 + number].strip() == line.strip()


def test_a_values_object_that_needs_its_surroundings_is_written_out_without_a_line(tmp_path: Path) -> None:
    """An anchor outside: the lines alone would not load, and a wrong line is worse than none."""
    text = application(HERE + "  helm:\n    valuesObject:\n      image: *who\n").replace(
        "project: shop", "project: &who shop"
    )
    tree = build(tmp_path, {"argocd/app.yaml": text, "helm/api/Chart.yaml": CHART})
    source = helm(run(tree).releases[0])
    assert source.inline is not None
    assert (yamlio.load(source.inline.text), source.inline.place) == ({"image": "shop"}, None)


@pytest.mark.parametrize(
    ("written", "text", "offset"),
    [
        ("|\n  a: 1\n  b: 2", "a: 1\nb: 2\n", 1),
        ("|-\n\n  a: 1", "\na: 1", 1),
        ("'a: 1'", "a: 1", 0),
        ('"a: 1\\nb: 2"', "a: 1\nb: 2", None),
        (">\n  a: 1\n\n  b: 2", "a: 1\nb: 2\n", None),
    ],
)
def test_inline_values_have_a_line_only_where_their_lines_are_lines_of_the_file(
    tmp_path: Path, written: str, text: str, offset: int | None
) -> None:
    block = "  helm:\n    values: " + textwrap.indent(written, "    ").lstrip() + "\n"
    source = helm(one(tmp_path, HERE + block))
    assert source.inline is not None
    assert source.inline.text == text
    lines = Path(tmp_path, "argocd/app.yaml").read_text().splitlines()
    start = next(number for number, line in enumerate(lines, 1) if "values:" in line)
    line = source.inline.place.line if source.inline.place else None
    assert line == (None if offset is None else start + offset)


def test_an_empty_values_object_voids_values_too(tmp_path: Path) -> None:
    source = helm(one(tmp_path, HERE + "  helm: {values: 'a: 1', valuesObject: {}}\n"))
    assert source.inline is not None
    assert yamlio.load(source.inline.text) == {}


def test_overrides_in_git_are_merged_as_argo_cd_does(tmp_path: Path) -> None:
    """Argo CD Image Updater writes the digest into `.argocd-source-<application>.yaml`, not into the Application."""
    override = "helm:\n  parameters:\n    - name: image.digest\n      value: sha256:1\n      forceString: true\n"
    tree = build(
        tmp_path,
        {
            "argocd/app.yaml": application(HERE + "  helm:\n    parameters: [{name: image.digest, value: old}]\n"),
            "helm/api/Chart.yaml": CHART,
            "helm/api/.argocd-source-api-prod.yaml": override,
            "helm/api/.argocd-source-web-prod.yaml": override.replace("sha256:1", "other"),
        },
    )
    (parameter,) = helm(run(tree).releases[0]).parameters
    assert (parameter.value, parameter.force_string) == ("sha256:1", True)
    assert str(parameter.place) == "helm/api/.argocd-source-api-prod.yaml:4:14"


def test_helm_2_is_named(tmp_path: Path) -> None:
    assert "Helm v2" in unsupported(one(tmp_path, HERE + "  helm: {version: v2}\n")).reason
    assert helm(one(tmp_path, HERE + "  helm: {version: v3}\n")).chart == "helm/api"


# --- several sources ----------------------------------------------------------------------------------------------


def test_values_come_from_a_referenced_source_of_this_repo(tmp_path: Path) -> None:
    sources = f"""\
    sources:
      - repoURL: {URL}
        path: helm/api
        helm: {{valueFiles: [$env/envs/prod/*.yaml]}}
      - repoURL: {URL}.git
        ref: env
      - repoURL: {URL}
        path: extra
    """
    release = one(tmp_path, sources, ["envs/prod/b.yaml", "envs/prod/a.yaml", "extra/a.yaml"])
    chart, directory = release.sources
    assert isinstance(chart, HelmSource)
    assert [file.path for file in chart.values_files] == ["envs/prod/a.yaml", "envs/prod/b.yaml"]
    assert directory == DirectorySource(path="extra", files=("extra/a.yaml",))
    assert release.environment == "prod"


def test_values_of_another_repository_are_named(tmp_path: Path) -> None:
    sources = f"""\
    sources:
      - repoURL: {URL}
        path: helm/api
        helm: {{valueFiles: [$env/prod.yaml]}}
      - repoURL: https://github.com/acme/values
        ref: env
    """
    assert "https://github.com/acme/values" in unsupported(one(tmp_path, sources)).reason


def test_a_second_chart_under_another_release_name_is_told_so(tmp_path: Path) -> None:
    sources = f"""\
    sources:
      - {{repoURL: {URL}, path: helm/api, helm: {{releaseName: a}}}}
      - {{repoURL: {URL}, path: helm/api, helm: {{releaseName: b}}}}
    """
    release = one(tmp_path, sources)
    first, second = release.sources
    assert isinstance(first, HelmSource)
    assert isinstance(second, HelmSource)
    assert (release.helm_release, first.told) == ("a", None)
    assert second.told is not None
    assert second.told.helm_release == "b"


# --- source types -------------------------------------------------------------------------------------------------


def directory(tmp_path: Path, options: str, files: Mapping[str, str]) -> tuple[str, ...] | str:
    source = f"source:\n  repoURL: {URL}\n  path: plain\n{textwrap.indent(options, '  ')}"
    repo = run(build(tmp_path, {"argocd/app.yaml": application(source), **files}))
    (made,) = repo.releases[0].sources
    return (
        made.files if isinstance(made, DirectorySource) else made.reason if isinstance(made, UnsupportedSource) else ""
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", ["a.yaml", "b.yml", "c.json"]),
        ("directory: {recurse: true}\n", ["a.yaml", "b.yml", "c.json", "sub/d.yaml", "sub/e.yaml"]),
        ("directory: {recurse: true, include: '*.yaml'}\n", ["a.yaml", "sub/d.yaml", "sub/e.yaml"]),
        ("directory: {recurse: true, exclude: 'sub/*'}\n", ["a.yaml", "b.yml", "c.json"]),
        ("directory: {recurse: true, include: '{a.*,sub/d*}'}\n", ["a.yaml", "sub/d.yaml"]),
        ("directory: {include: '*.yaml', exclude: 'a*'}\n", []),
    ],
)
def test_a_directory_source_selects_files_as_argo_cd_does(tmp_path: Path, options: str, expected: list[str]) -> None:
    files = {
        f"plain/{name}": "kind: ConfigMap\n"
        for name in ("a.yaml", "b.yml", "c.json", "readme.md", "sub/d.yaml", "sub/e.yaml")
    }
    files["plain/skipped.yaml"] = "# +argocd:skip-file-rendering\nkind: ConfigMap\n"
    assert directory(tmp_path, options, files) == tuple(f"plain/{name}" for name in expected)


@pytest.mark.parametrize(
    ("options", "file", "reason"),
    [
        ("", "kustomization.yaml", "Kustomize"),
        ("kustomize: {namePrefix: a}\n", "a.yaml", "Kustomize"),
        ("", "a.jsonnet", "jsonnet"),
        ("plugin: {name: kasane}\n", "a.yaml", "kasane plugin"),
        ("plugin: {}\nhelm: {}\n", "a.yaml", "more than one source type"),
    ],
)
def test_what_is_not_rendered_has_its_reason(tmp_path: Path, options: str, file: str, reason: str) -> None:
    assert reason in directory(tmp_path, options, {f"plain/{file}": "a: 1\n"})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "source: {repoURL: https://charts.example, chart: redis, targetRevision: 18.0.1}\n",
            ["redis 18.0.1", "remote chart"],
        ),
        ("source: {repoURL: oci://ghcr.io/acme/redis, path: ., targetRevision: 1.0.0}\n", ["OCI", "1.0.0"]),
        ("source: {repoURL: https://github.com/acme/other, path: helm/web}\n", ["another repository"]),
        (HERE.replace("HEAD", "v1.2.3"), ["targetRevision v1.2.3"]),
    ],
)
def test_a_source_that_is_not_here_is_a_release_with_its_reason(tmp_path: Path, source: str, words: list[str]) -> None:
    release = one(tmp_path, source)
    for word in words:
        assert word in unsupported(release).reason
    assert unsupported(release).remedy
    assert release.application is not None


# --- which repo, which revision -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/config",
        "https://github.com/Acme/Config.git",
        "https://user@github.com/acme/config/",
        "git@github.com:acme/config.git",
        "git@github.com/acme/config",
        "ssh://git@github.com:22/acme/config.git",
        "ssh://git@github.com/acme/config",
    ],
)
def test_every_form_of_the_remote_is_this_repo(url: str) -> None:
    assert argo.normal_url(url) == "github.com/acme/config"


@pytest.mark.parametrize("url", ["/srv/git/config.git", "file:///srv/git/config", "../config", ""])
def test_a_file_path_is_no_remote(url: str) -> None:
    assert argo.normal_url(url) is None


OTHER = HERE.replace(URL, "git@github.com/acme/somewhere")


def test_the_config_says_which_url_is_this_repo(tmp_path: Path) -> None:
    tree = build(tmp_path, {"argocd/app.yaml": application(OTHER), "helm/api/Chart.yaml": CHART})
    (release,) = run(tree, 'repo = ["https://github.com/acme/somewhere.git"]\n').releases
    assert helm(release).chart == "helm/api"


def test_a_url_that_no_remote_has_is_this_repo_when_all_its_paths_are_here_and_it_is_said(tmp_path: Path) -> None:
    """alphagov/govuk-helm-charts writes `git@github.com/alphagov/govuk-helm-charts`."""
    tree = build(tmp_path, {"argocd/app.yaml": application(OTHER), "helm/api/Chart.yaml": CHART})
    repo = run(tree)
    assert helm(repo.releases[0]).chart == "helm/api"
    (note,) = repo.notes
    assert "github.com/acme/somewhere is taken for this repo" in note


def test_a_url_with_a_path_that_is_not_here_is_another_repo(tmp_path: Path) -> None:
    elsewhere = application(OTHER.replace("helm/api", "helm/web"), name="web-prod")
    files = {"a/1.yaml": application(OTHER), "a/2.yaml": elsewhere, "helm/api/Chart.yaml": CHART}
    repo = run(build(tmp_path, files))
    assert repo.notes == ()
    assert [isinstance(one.sources[0], UnsupportedSource) for one in repo.releases if one.application] == [True, True]


def test_a_remote_that_matches_keeps_other_urls_other_repos(tmp_path: Path) -> None:
    files = {
        "a/1.yaml": application(HERE),
        "a/2.yaml": application(OTHER, name="web-prod"),
        "helm/api/Chart.yaml": CHART,
    }
    repo = run(build(tmp_path, files))
    assert [(one.name, isinstance(one.sources[0], HelmSource)) for one in repo.releases] == [
        ("api", True),
        ("web", False),
    ]


def test_two_urls_that_could_be_this_repo_are_neither_and_it_is_said(tmp_path: Path) -> None:
    files = {
        "a/1.yaml": application(OTHER),
        "a/2.yaml": application(OTHER.replace("somewhere", "elsewhere"), name="web-prod"),
        "helm/api/Chart.yaml": CHART,
    }
    repo = run(build(tmp_path, files))
    assert "could each be this repo" in repo.notes[0]


HEAD = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("revision", "branch", "judged"),
    [
        ("HEAD", "main", True),
        ("''", "main", True),
        ("main", "main", True),
        ("refs/heads/main", "main", True),
        ("release-1", "release-1", True),
        (HEAD, "main", True),
        (HEAD[:8], "main", True),
        ("main", "fix-typo", True),  # judged as what main becomes
        ("main", None, True),
        ("master", "main", False),
        ("staging", "main", False),
        ("1.2.*", "main", False),
    ],
)
def test_the_judged_branch_and_head_are_the_judged_tree(
    tmp_path: Path, revision: str, branch: str | None, *, judged: bool
) -> None:
    release = one(tmp_path, HERE.replace("HEAD", revision), branch=branch, head=HEAD)
    assert isinstance(release.sources[0], HelmSource) is judged


def test_another_revision_is_read_from_its_own_tree(tmp_path: Path) -> None:
    old = build(
        tmp_path / "old",
        {"helm/api/Chart.yaml": CHART, "helm/api/envs/old.yaml": "a: 1\n"},
        revision="f" * 40,
        ref="fffffff",
    )
    block = "  helm: {valueFiles: [envs/*.yaml]}\n"
    tree = build(
        tmp_path / "new",
        {
            "argocd/app.yaml": application(HERE.replace("HEAD", "v1") + block),
            "helm/api/Chart.yaml": CHART,
            "helm/api/envs/new.yaml": "a: 1\n",
        },
    )
    repo = run(tree, at_revision=lambda name: old if name == "v1" else None)
    source = helm(next(release for release in repo.releases if release.application))
    assert (source.revision, [file.path for file in source.values_files]) == ("f" * 40, ["helm/api/envs/old.yaml"])


def test_a_root_below_the_work_trees_top_counts_paths_from_the_top(tmp_path: Path) -> None:
    files = {
        "argocd/app.yaml": application(HERE.replace("helm/api", "deploy/config/helm/api") + "  helm: {valueFiles: [../../../envs/prod.yaml, /deploy/config/a.yaml]}\n"),
        "argocd/out.yaml": application(HERE.replace("helm/api", "deploy/other"), name="out-prod"),
        "helm/api/Chart.yaml": CHART,
        "a.yaml": "a: 1\n",
    }  # fmt: skip
    repo = run(build(tmp_path, files, prefix="deploy/config"))
    api, out = repo.releases
    assert isinstance(out.sources[0], UnsupportedSource)
    assert "outside the folder" in out.sources[0].reason
    assert "outside the folder" in unsupported(api).reason  # ../../../envs is deploy/envs
    files["argocd/app.yaml"] = files["argocd/app.yaml"].replace("../../../envs/prod.yaml, ", "")
    source = helm(run(build(tmp_path, files, prefix="deploy/config")).releases[0])
    assert (source.chart, [file.path for file in source.values_files]) == ("helm/api", ["a.yaml"])


# --- environments and names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "block", "named"),
    [
        ("argocd/app.yaml", "api", "  helm: {valueFiles: [values-dev.yaml]}\n", ("dev", "values file helm/api/values-dev.yaml")),
        ("argocd/prod/app.yaml", "api", "  helm: {valueFiles: [values-dev.yaml]}\n", ("dev", "values file")),
        ("argocd/prod/app.yaml", "api-dev", "", ("prod", "path argocd/prod/app.yaml")),
        ("argocd/api-prod.yaml", "api", "", ("prod", "path argocd/api-prod.yaml")),
        ("argocd/app.yaml", "api-prod-eu", "", ("prod-eu", "name api-prod-eu")),
        ("argocd/app.yaml", "staging-api", "", ("staging", "name staging-api")),
        ("argocd/app.yaml", "api", "", ("default", "no values file, path or name names one")),
        ("argocd/app.yaml", "api", "  helm: {valueFiles: [$env/envs/prod/api.yaml]}\n", ("prod", "values file")),
        ("apps-prod/app.yaml", "api", "", ("prod", "path apps-prod/app.yaml")),
        ("argocd/app.yaml", "api", "  helm: {valueFiles: [values-dev.yaml, values-qa.yaml]}\n", ("default", "several: dev, qa")),
        ("argocd/app.yaml", "api", "  helm: {valueFiles: [values-prod.yaml, values-prod-eu.yaml]}\n", ("prod-eu", "prod-eu")),
    ],
)  # fmt: skip
def test_values_files_then_paths_then_the_name_name_the_environment(
    tmp_path: Path, path: str, name: str, block: str, named: tuple[str, str]
) -> None:
    repo = run(build(tmp_path, {path: application(HERE + block, name=name), "helm/api/Chart.yaml": CHART}))
    (release,) = repo.releases
    assert release.environment == named[0]
    assert named[1] in release.why


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("{name: prod-eu, namespace: shop}", "prod-eu"),
        ("{name: in-cluster, namespace: shop-staging}", "staging"),
        ("{server: x, namespace: production}", "production"),
        ("{server: x, namespace: test}", "default"),  # an ordinary word
        ("{server: x, namespace: monitoring}", "default"),
    ],
)
def test_a_destination_names_the_environment_where_nothing_else_does(
    tmp_path: Path, destination: str, expected: str
) -> None:
    """An Application for the namespace shop-prod that is judged in the unprotected `default` would be a silent pass."""
    text = application(HERE, name="api").replace(
        "{namespace: shop, server: https://kubernetes.default.svc}", destination
    )
    (release,) = run(build(tmp_path, {"argocd/app.yaml": text, "helm/api/Chart.yaml": CHART})).releases
    assert release.environment == expected


def test_a_remote_chart_reads_values_of_this_repo(tmp_path: Path) -> None:
    sources = f"""\
    sources:
      - repoURL: https://charts.example
        chart: redis
        targetRevision: 1.0.0
        helm: {{valueFiles: [$env/envs/prod/redis-values.yaml]}}
      - repoURL: {URL}
        ref: env
    """
    files = {"argocd/app.yaml": application(sources, name="redis"), "envs/prod/redis-values.yaml": "a: 1\n"}
    repo = run(build(tmp_path, files))
    assert [release.id for release in repo.releases] == ["prod/redis"]
    assert repo.unreferenced_values == ()


def test_the_config_assigns_an_application_to_an_environment(tmp_path: Path) -> None:
    toml = '[environments.moon]\napplications = ["api-*"]\n[environments.mars]\napplications = ["argocd/mars/*"]\n'
    files = {
        "argocd/prod/a.yaml": application(HERE, name="api-prod"),
        "argocd/mars/b.yaml": application(HERE, name="web-prod"),
        "helm/api/Chart.yaml": CHART,
    }
    repo = run(build(tmp_path, files), toml)
    assert [release.id for release in repo.releases] == ["mars/web-prod", "moon/api-prod"]


def test_names_in_ids_lose_the_environments_own_affix_where_that_stays_unique(tmp_path: Path) -> None:
    names = ["api-prod", "prod-web", "worker", "worker-prod", "prod", "db-dev"]
    files = {f"argocd/prod/{name}.yaml": application(HERE, name=name) for name in names}
    repo = run(build(tmp_path, {**files, "helm/api/Chart.yaml": CHART}))
    assert [release.name for release in repo.releases] == ["api", "db-dev", "prod", "web", "worker", "worker-prod"]


def test_two_applications_of_one_name_keep_two_ids(tmp_path: Path) -> None:
    text = application(HERE, name="api")
    files = {
        "argocd/prod/a.yaml": text,
        "argocd/prod/b.yaml": text.replace("namespace: argocd", "namespace: argocd-two"),
        "helm/api/Chart.yaml": CHART,
    }
    repo = run(build(tmp_path, files))
    assert [release.name for release in repo.releases] == ["api", "api-2"]


def test_a_chart_that_an_application_deploys_is_not_guessed_from_its_values_again(tmp_path: Path) -> None:
    files = {
        "argocd/app.yaml": application(HERE + "  helm: {valueFiles: [values-prod.yaml]}\n"),
        "helm/api/Chart.yaml": CHART,
        "helm/api/values-prod.yaml": "a: 1\n",
        "helm/api/values-dev.yaml": "a: 1\n",
    }
    repo = run(build(tmp_path, files))
    assert [release.id for release in repo.releases] == ["prod/api"]
    assert repo.unreferenced_values == ("helm/api/values-dev.yaml",)


def test_children_in_a_parents_folder_have_the_parents_environment(tmp_path: Path) -> None:
    root = application(f"source: {{repoURL: {URL}, path: apps}}\n", name="root-prod")
    files = {"root.yaml": root, "apps/api.yaml": application(HERE, name="api"), "helm/api/Chart.yaml": CHART}
    repo = run(build(tmp_path, files))
    assert [release.id for release in repo.releases] == ["prod/api", "prod/root"]
    assert "parent root-prod" in repo.releases[0].why


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_makes_discovery_fail(url: str, name: str) -> None:
    """Whatever an Application says, it ends as a release or as a row."""
    body: dict[str, Any] = {
        "metadata": {"name": name},
        "spec": {"source": {"repoURL": url, "path": url, "targetRevision": name, "helm": {"valueFiles": [url, name]}}},
    }
    tree = Tree(root="/nonexistent", files=())
    repository = argo.Repository(Files(tree), (), lambda _name: None)
    repository.consider([body])
    read = deployment(argo.Found(body=body, why=""), repository, layout.charts(Files(tree)))
    assert isinstance(read, Deployment) is bool(name)


def test_places_count_lines_of_the_file_whichever_document_it_is() -> None:
    text = f"---\n{application(HERE)}---\n{application(HERE + '  helm: {values: a}', name='web')}"
    documents = yamlio.documents(text)
    found = [each for document in documents for each in argo._of_document("a.yaml", document)]
    assert [str(each.at("/metadata/name")) for each in found] == ["a.yaml:5:18", "a.yaml:17:18"]


def test_a_glob_of_the_config_that_matches_nothing_is_a_row_on_its_line(tmp_path: Path) -> None:
    toml = '[environments.prod]\napplications = [\n  "api-*",\n  "apy-*",\n]\nvalues = ["envs/prd/*"]\n'
    repo = run(build(tmp_path, {"argocd/app.yaml": application(HERE), "helm/api/Chart.yaml": CHART}), toml)
    rows = [(str(row.place), row.reason, row.environment, row.blocking) for row in repo.not_understood]
    assert rows == [
        ("releasegate.toml:4", "'apy-*' matches no Application here", "prod", True),
        ("releasegate.toml:6", "'envs/prd/*' matches no file here", "prod", True),
    ]


def test_a_cluster_of_the_config_names_the_environment_by_its_server(tmp_path: Path) -> None:
    toml = '[[clusters]]\nname = "eu-prod"\nserver = "https://kubernetes.default.svc"\n'
    text = application(HERE, name="api")
    (release,) = run(build(tmp_path, {"argocd/app.yaml": text, "helm/api/Chart.yaml": CHART}), toml).releases
    assert release.environment == "eu-prod"
    assert "cluster eu-prod" in release.why


def test_a_path_that_is_only_there_from_root_is_not_found_as_argo_cd_does_not_find_it(tmp_path: Path) -> None:
    """Argo CD counts from the top of the repository: what exists only below the judged subfolder is not there."""
    files = {
        "argocd/app.yaml": application(HERE),
        "argocd/values.yaml": application(
            HERE.replace("helm/api", "deploy/helm/api") + "  helm: {valueFiles: [/envs/prod.yaml]}\n", name="other-prod"
        ),
        "helm/api/Chart.yaml": CHART,
        "envs/prod.yaml": "a: 1\n",
    }
    repo = run(build(tmp_path, files, prefix="deploy", remotes=()))
    api, other = (unsupported(release) for release in repo.releases)
    assert "Argo CD counts from the top of the git repository, where it is deploy/helm/api" in api.reason
    assert api.remedy == "write deploy/helm/api"
    assert other.remedy == "write deploy/envs/prod.yaml"
