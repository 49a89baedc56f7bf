"""The Helm that renders is the one the repo's Argo CD has, and everything says so."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import Said

from releasegate import config
from releasegate.tools import argocd, store
from releasegate.tools import helm as helm_tool
from releasegate.tools.helm import LintOutput, Output, Pool, TemplateError, TemplateRequest
from releasegate.tools.store import Tool, ToolMissing

Run = Callable[..., Said]


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "helm"),
    [
        ("2.14", "3.16.3"),
        ("3.0", "3.17.1"),
        ("3.1", "3.18.4"),
        ("3.1.16", "3.18.4"),
        ("3.5", "4.2.1"),
        ("3.6.0", "4.3.1"),
    ],
)
def test_each_argo_cd_renders_with_the_helm_of_its_image(version: str, helm: str) -> None:
    # its tool-versions.sh
    assert argocd.helm_of(version) == helm


@pytest.mark.parametrize("version", argocd.versions())
def test_every_helm_of_the_table_can_be_installed_and_is_known_by_its_sums(version: str) -> None:
    entry = store.locked()["helm"].at(argocd.helm_of(version))
    assert store.in_range(entry.version, entry.supported)
    assert re.fullmatch(r"h1:[A-Za-z0-9+/]{43}=", entry.sum)
    assert entry.archive is not None
    assert {"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64"} == set(entry.archive.sha256)
    assert all(re.fullmatch("[0-9a-f]{64}", sum_) for sum_ in entry.archive.sha256.values())


def test_no_two_archives_have_one_sum() -> None:
    helm = store.locked()["helm"]
    entries = [helm, *(helm.at(version) for version in helm.others)]
    sums = [sum_ for entry in entries if entry.archive is not None for sum_ in entry.archive.sha256.values()]
    assert len(sums) == len(set(sums)) == 4 * len(entries)


def test_a_version_without_sums_is_taken_from_no_archive() -> None:
    entry = store.locked()["helm"].at("3.18.6")
    assert (entry.version, entry.archive, entry.sum) == ("3.18.6", None, "")


# --- the config ---------------------------------------------------------------------------------------------------


def test_argocd_decides_the_helm_and_a_pin_decides_it_first() -> None:
    bundled = config.parse('kubernetes = "1.37"\nargocd = "3.1"\n').pin("helm")
    pinned = config.parse('argocd = "3.1"\n[tools]\nhelm = "4.3.1"\n').pin("helm")
    assert bundled == config.Pin(version="3.18.4", why="Argo CD 3.1 bundles Helm 3.18.4 (releasegate.toml:2)")
    assert pinned == config.Pin(version="4.3.1", why="[tools] helm = 4.3.1 (releasegate.toml:3)")
    assert config.Config().pin("helm") is None
    assert config.parse('argocd = "3.1"\n').pin("conftest") is None


def test_an_argo_cd_without_a_known_helm_is_wrong_and_hears_which_are_known() -> None:
    with pytest.raises(config.ConfigError) as raised:
        config.parse('kubernetes = "1.37"\nargocd = "3.99"\n')
    assert raised.value.line == 2
    assert 'argocd = "3.99" is no Argo CD whose Helm is known; known are 2.14, 3.0, 3.1' in raised.value.message
    assert "[tools] helm" in raised.value.message


def test_an_argo_cd_whose_helm_cannot_be_kept_in_is_refused_with_the_reason() -> None:
    with pytest.raises(
        config.ConfigError, match=r"bundles Helm 3\.15\.4, which cannot be told to leave values\.schema"
    ):
        config.parse('argocd = "2.13"\n')


# --- what is installed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pins", "told"),
    [
        ({}, ["helm", "releasegate-helm-worker"]),
        ({"helm": "4.3.1"}, ["helm@4.3.1", "releasegate-helm-worker"]),
        ({"helm": "3.18.4"}, ["helm@3.18.4"]),
    ],
)
def test_a_repo_gets_its_own_helm_and_no_worker_that_links_another(pins: dict[str, str], told: list[str]) -> None:
    assert [name for name in store.wanted(pins) if "helm" in name] == told


def test_tools_list_shows_the_helm_of_the_repo(releasegate: Run, helm_3: Tool, tmp_path: Path) -> None:
    (tmp_path / "releasegate.toml").write_text('argocd = "3.1"\n')
    rows = json.loads(releasegate("tools", "list", "--json", "--root", str(tmp_path)).out)
    assert [row["version"] for row in rows if row["name"] == "helm"] == [helm_3.identity.version]


def test_a_helm_of_another_version_is_missing_and_says_who_wants_which(tmp_path: Path, helm: Tool) -> None:
    pin = config.parse('argocd = "3.0"\n').pin("helm")
    assert pin is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELEASEGATE_TOOLS", str(helm.path.parent))
        found = store.find("helm", pinned=pin.version, why=pin.why)
    assert isinstance(found, ToolMissing)
    assert "is 4.3.1, the config pins 3.17.1; Argo CD 3.0 bundles Helm 3.17.1 (releasegate.toml:1)" in found.reason
    assert found.remedy == "releasegate tools install helm@3.17.1"


# --- what is said -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('argocd = "3.1"', ("3.18.4", "Argo CD 3.1 bundles Helm 3.18.4 (releasegate.toml:2)")),
        ('argocd = "3.6"', ("4.3.1", "Argo CD 3.6 bundles Helm 4.3.1 (releasegate.toml:2)")),
        ('argocd = "3.1"\ntools.helm = "4.3.1"', ("4.3.1", "[tools] helm = 4.3.1 (releasegate.toml:3)")),
        ("", ("4.3.1", "releasegate.toml names neither argocd nor [tools] helm")),
    ],
)
def test_the_receipt_and_discover_say_which_helm_renders_and_why(
    toy: Path, releasegate: Run, helm_3: Tool, line: str, told: tuple[str, str]
) -> None:
    (toy / "releasegate.toml").write_text(f'kubernetes = "1.37"\n{line}\n')
    version, why = told
    said = releasegate("check", str(toy), "--json", str(toy.parent / "report.json"))
    assert said.code == 0, said.out
    receipt = said.report["tools"]["helm"]
    assert (receipt["version"], receipt["why"]) == (version, why)
    if version == helm_3.identity.version:
        assert receipt["sha256"] == helm_3.identity.sha256
        assert "releasegate-helm-worker" not in said.report["tools"], "it links another Helm"
    assert json.loads(releasegate("discover", str(toy), "--json").out)["helm"] == {"version": version, "why": why}
    assert f"Helm {version} renders: {why}" in releasegate("discover", str(toy)).out


def test_without_the_helm_of_its_argo_cd_nothing_is_judged_and_the_command_is_said(toy: Path, releasegate: Run) -> None:
    (toy / "releasegate.toml").write_text('kubernetes = "1.37"\nargocd = "3.1"\n')
    env = {"XDG_CACHE_HOME": str(toy.parent / "empty"), "PATH": os.defpath}
    said = releasegate("check", str(toy), env=env)
    assert said.code == 2
    assert "releasegate tools install helm@3.18.4" in said.out
    said = releasegate("discover", str(toy), env=env)
    assert "Nothing can be rendered" in said.out
    assert "Argo CD 3.1 bundles Helm 3.18.4" in said.out


# --- two Helms ----------------------------------------------------------------------------------------------------


def chart(root: Path, files: dict[str, str]) -> TemplateRequest:
    for path, text in {"Chart.yaml": "apiVersion: v2\nname: app\nversion: 1.0.0\n", **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    values = tuple(str(root / path) for path in files if path.startswith("env"))
    return TemplateRequest(str(root), "app", "prod", "1.37", values_files=values)


def rendered(tools: Sequence[Tool], request: TemplateRequest) -> list[str]:
    outputs = [helm_tool.template(tool, request) for tool in tools]
    assert all(isinstance(one, Output) for one in outputs), outputs
    return [one.text for one in outputs if isinstance(one, Output)]


SUBCHART = {
    "charts/cache/Chart.yaml": "apiVersion: v2\nname: cache\nversion: 1.0.0\n",
    "charts/cache/values.yaml": "image: {tag: 1.6.39, digest: abc}\n",
    "charts/cache/templates/a.yaml": "image: {{ toJson .Values.image }}\n",
}
KEPT, DELETED = '{"digest":"abc","tag":"1.6.39"}', '{"tag":"1.6.39"}'


@pytest.mark.parametrize(
    ("files", "said"),
    [
        # helm/helm#9136, #12469; argoproj/argo-cd#29068
        ({"values.yaml": "cache: {image: {digest: null}}\n"}, (DELETED, KEPT)),
        ({"env.yaml": "cache: {image: {digest: null}}\n"}, (DELETED, DELETED)),
        (
            {"values.yaml": "cache: {image: {digest: null}}\n", "env.yaml": "cache: {image: {digest: abc}}\n"},
            (KEPT, KEPT),
        ),
    ],
    ids=["null in the chart's values.yaml", "null in the environment's values", "null, then a value"],
)
def test_a_null_for_a_subcharts_value_means_what_each_helm_takes_it_for(
    helm: Tool, helm_3: Tool, tmp_path: Path, files: dict[str, str], said: tuple[str, str]
) -> None:
    old, new = rendered([helm_3, helm], chart(tmp_path, {**SUBCHART, **files}))
    assert f"image: {said[0]}\n" in old
    assert f"image: {said[1]}\n" in new


def test_a_null_default_of_a_chart_is_a_key_for_helm_3_only(helm: Tool, helm_3: Tool, tmp_path: Path) -> None:
    files = {"values.yaml": "window: null\n", "templates/a.yaml": 'has: {{ hasKey .Values "window" }}\n'}
    old, new = rendered([helm_3, helm], chart(tmp_path, files))
    assert "has: true" in old
    assert "has: false" in new


def test_every_argument_we_pass_is_one_of_both_helms(helm: Tool, helm_3: Tool, tmp_path: Path) -> None:
    template = (
        "release: {{ .Release.Name }}.{{ .Release.Namespace }}\n"
        'kube: {{ .Capabilities.KubeVersion.Minor }} {{ .Capabilities.APIVersions.Has "acme.example/v1" }}\n'
        "values: {{ toJson .Values }}\n"
    )
    files = {"templates/a.yaml": template, "crds/b.yaml": "kind: CustomResourceDefinition\n", "env.yaml": "c: 3\n"}
    request = replace(
        chart(tmp_path, {**files, "file.txt": "text"}),
        api_versions=("acme.example/v1",),
        sets=(("a", "1", False), ("b", "1", True)),
        set_files=(("d", str(tmp_path / "file.txt")),),
        skip_tests=True,
    )
    old, new = rendered([helm_3, helm], request)
    assert old == new
    assert 'values: {"a":1,"b":"1","c":3,"d":"text"}' in new
    assert "kube: 37 true" in new
    assert "kind: CustomResourceDefinition" in new


def test_what_does_not_render_is_on_the_same_line_for_both(helm: Tool, helm_3: Tool, tmp_path: Path) -> None:
    request = chart(tmp_path, {"templates/a.yaml": 'a: 1\nb: {{ required "say b" .Values.b }}\n'})
    errors = [helm_tool.template(tool, request) for tool in (helm_3, helm)]
    assert [(one.path, one.line) for one in errors if isinstance(one, TemplateError)] == [("templates/a.yaml", 2)] * 2


def test_both_helms_lint_in_words_we_read(helm: Tool, helm_3: Tool, tmp_path: Path) -> None:
    request = chart(tmp_path, {"templates/a.yaml": "kind: ConfigMap\n", "templates/b.yaml": "a: b: c\n"})
    for tool in (helm_3, helm):
        said = helm_tool.lint(tool, request)
        assert isinstance(said, LintOutput)
        assert ("error", "templates/b.yaml") in {(severity, path) for severity, path, _ in said.messages}


def test_a_values_schema_stays_unread_by_helm_3(helm_3: Tool, tmp_path: Path) -> None:
    schema = json.dumps({"$ref": (tmp_path / "elsewhere.json").as_uri()})
    (tmp_path / "elsewhere.json").write_text('{"required": ["missing"]}')
    request = chart(tmp_path / "chart", {"values.schema.json": schema, "templates/a.yaml": "a: 1\n"})
    assert isinstance(helm_tool.template(helm_3, request), Output)


def test_a_pool_of_helm_3_leaves_the_worker_of_helm_4_alone(helm_3: Tool, helm_worker: Tool, tmp_path: Path) -> None:
    request = chart(tmp_path, {**SUBCHART, "values.yaml": "cache: {image: {digest: null}}\n"})
    with Pool(helm_3, helm_worker, 1) as pool:
        answer = pool.submit(request).result(60)
        linked = helm_worker.identity.version.partition("+")[0]
        assert pool.worker_problem == f"it links helm {linked}, the tool is 3.18.4"
    assert isinstance(answer, Output)
    assert answer.text == rendered([helm_3], request)[0]
    assert f"image: {DELETED}" in answer.text
