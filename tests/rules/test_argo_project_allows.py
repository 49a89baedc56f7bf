"""argo/project-allows: what the project refuses is refused before the merge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rules.repos import CONFIG_MAP, TOML, URL, application, verdicts, write

from releasegate import yamlio
from releasegate.model import Outcome, Verdict
from releasegate.rules.argo import matches
from releasegate.rules.argo.project_allows import Cluster, normal_url, permits_destination, permits_kind, permits_repo

RULE = "argo/project-allows"
ON = f'{TOML}[rules]\n"{RULE}" = "on"\n'
SERVER = "https://kubernetes.default.svc"
IN_CLUSTER = Cluster(SERVER, "in-cluster")
ALL = {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}
ROLE = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: api}\nrules: []\n"


def project(name: str = "shop", **spec: Any) -> str:
    head = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject"}
    return yamlio.dump({**head, "metadata": {"name": name, "namespace": "argocd"}, "spec": {**ALL, **spec}})


def judged(root: Path, spec: dict[str, Any], objects: str = CONFIG_MAP, toml: str = ON, **app: Any) -> Verdict:
    files = {
        "releasegate.toml": toml,
        "objects/map.yaml": objects,
        "argocd/project.yaml": project(**spec),
        "argocd/prod/api.yaml": application(**app),
    }
    return verdicts(write(root, files), RULE)["prod/api"]


# --- globs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text", "covers"),
    [
        ("*", "anything/at all", True),
        ("shop-*", "shop-prod", True),
        ("shop-*", "a-shop-prod", False),
        ("*-prod", "api-prod", True),
        ("sh?p", "shop", True),
        ("sh?p", "shp", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[ab]x", "bx", True),
        ("{api,web}-{dev,prod}", "web-prod", True),
        ("{api,web}-{dev,prod}", "web-test", False),
        ("{a,b{c,d}}", "bd", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("", "", True),
        ("", "a", False),
        ("[a", "a", False),
        ("{a,b", "a", False),
        ("a\\", "a\\", False),
        ("!a", "b", False),
    ],
)
def test_a_glob_is_read_as_argo_cd_reads_it(pattern: str, text: str, *, covers: bool) -> None:
    assert matches(pattern, text) is covers


def test_one_star_stops_at_the_separator_and_two_do_not() -> None:
    assert matches("https://github.com/acme/*", "https://github.com/acme/config", separator="/")
    assert not matches("https://github.com/*", "https://github.com/acme/config", separator="/")
    assert matches("https://github.com/**", "https://github.com/acme/config", separator="/")


def test_negation_turns_the_answer_round() -> None:
    assert not matches("!shop-*", "shop-prod", negation=True)
    assert matches("!shop-*", "web-prod", negation=True)


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_stars_and_question_marks_are_those_of_a_regular_expression(pattern: str, text: str) -> None:
    parts = {"*": ".*", "?": "."}
    regular = "".join(parts.get(char, char) for char in pattern).replace(".*.*", ".*")
    assert matches(pattern, text) is (re.fullmatch(regular, text) is not None)


def test_no_pattern_makes_the_judge_slow() -> None:
    assert not matches("*a" * 500 + "c", "a" * 1000 + "b")
    assert not matches("{a,b}" * 5000, "x")


# --- the answers of Argo CD -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "url", "permits"),
    [
        (["*"], URL, True),
        ([], URL, False),
        ([URL], f"{URL}.git", True),
        (["https://GitHub.com/acme/config.git"], URL, True),
        (["https://github.com/acme/*"], URL, True),
        (["https://github.com/*"], URL, False),
        (["*", f"!{URL}"], URL, False),
        (["!https://github.com/other/*", "*"], URL, True),
        (["git@github.com:acme/config"], "ssh://git@github.com/acme/config.git", True),
        (["git@github.com:acme/config"], URL, False),
    ],
)
def test_a_repository_is_allowed_by_some_entry_and_refused_by_none(
    allowed: list[str], url: str, *, permits: bool
) -> None:
    assert permits_repo({"sourceRepos": allowed}, url) is permits


def test_urls_are_compared_without_case_and_git_suffix() -> None:
    assert normal_url(" git@GitHub.com:Acme/config.git ") == "git@github.com/acme/config"


@pytest.mark.parametrize(
    ("entries", "namespace", "permits"),
    [
        ([{"server": SERVER, "namespace": "shop-*"}], "shop-prod", True),
        ([{"name": "in-cluster", "namespace": "shop-*"}], "shop-prod", True),
        ([{"server": SERVER, "namespace": "shop-*"}], "kube-system", False),
        ([{"server": "https://other", "namespace": "*"}], "shop-prod", False),
        ([{"server": "*", "namespace": "*"}, {"server": "*", "namespace": "!kube-system"}], "kube-system", False),
        ([{"server": "*", "namespace": "*"}, {"server": "*", "namespace": "!kube-system"}], "shop-prod", True),
        ([{"server": f"!{SERVER}", "namespace": "*"}, {"server": "*", "namespace": "*"}], "shop-prod", False),
        ([{"namespace": "*"}], "shop-prod", False),
        ([], "shop-prod", False),
    ],
)
def test_a_destination_is_allowed_by_some_entry_and_refused_by_none(
    entries: list[dict[str, str]], namespace: str, *, permits: bool
) -> None:
    assert permits_destination({"destinations": entries}, IN_CLUSTER, namespace) is permits


@pytest.mark.parametrize(
    ("spec", "namespaced", "permits"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"namespaceResourceWhitelist": []}, True, False),
        ({"namespaceResourceWhitelist": [{"group": "*", "kind": "*"}]}, True, True),
        ({"namespaceResourceWhitelist": [{"group": "", "kind": "R*"}]}, True, False),
        ({"namespaceResourceBlacklist": [{"group": "rbac.*", "kind": "Role"}]}, True, False),
        ({"clusterResourceWhitelist": [{"group": "rbac.example", "kind": "Role"}]}, False, True),
        ({"clusterResourceWhitelist": [{"group": "rbac.example", "kind": "Role", "name": "api-*"}]}, False, True),
        ({"clusterResourceWhitelist": [{"group": "rbac.example", "kind": "Role", "name": "web-*"}]}, False, False),
        ({"clusterResourceWhitelist": [{"group": "*", "kind": "*"}]}, False, True),
        (
            {
                "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
                "clusterResourceBlacklist": [{"group": "rbac.example", "kind": "Role"}],
            },
            False,
            False,
        ),
    ],
)
def test_a_cluster_scoped_kind_has_to_be_listed_and_another_only_where_there_is_a_list(
    spec: dict[str, Any], *, namespaced: bool, permits: bool
) -> None:
    assert permits_kind(spec, "rbac.example", "Role", "api-reader", namespaced=namespaced) is permits


# --- whole repos ----------------------------------------------------------------------------------------------------


def test_what_the_project_allows_passes_and_counts_the_application_and_each_object(tmp_path: Path) -> None:
    verdict = judged(tmp_path, {})
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 2)


def test_a_cluster_scoped_object_is_found_in_its_file(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, {}, f"{CONFIG_MAP}---\n{ROLE}").findings
    assert found.message == (
        "AppProject shop (argocd/project.yaml:1) does not allow the cluster-scoped kind "
        "ClusterRole.rbac.authorization.k8s.io: ClusterRole api"
    )
    assert str(found.place) == "objects/map.yaml:9:1"
    assert "clusterResourceWhitelist" in found.help


def test_the_repository_and_the_destination_are_found_where_the_application_writes_them(tmp_path: Path) -> None:
    spec = {"sourceRepos": ["https://github.com/other/*"], "destinations": [{"server": SERVER, "namespace": "web-*"}]}
    found = judged(tmp_path, spec).findings
    lines = (tmp_path / "argocd/prod/api.yaml").read_text().splitlines()
    assert [lines[(one.place.line or 0) - 1].split(":")[0].strip() for one in found if one.place] == [
        "repoURL",
        "destination",
    ]


def test_an_object_in_another_namespace_is_judged_there(tmp_path: Path) -> None:
    spec = {"destinations": [{"server": SERVER, "namespace": "shop-*"}]}
    elsewhere = CONFIG_MAP.replace("name: settings", "name: settings\n  namespace: kube-system")
    (found,) = judged(tmp_path, spec, elsewhere).findings
    assert "namespace kube-system" in found.message
    assert str(found.place) == "objects/map.yaml:5:3"


def test_an_application_of_another_namespace_has_to_be_allowed(tmp_path: Path) -> None:
    def outcome(name: str, allowed: list[str]) -> Outcome:
        text = application().replace("namespace: argocd", "namespace: team-api")
        files = {
            "releasegate.toml": ON,
            "objects/map.yaml": CONFIG_MAP,
            "argocd/project.yaml": project(sourceNamespaces=allowed),
            "argocd/prod/api.yaml": text,
        }
        return verdicts(write(tmp_path / name, files), RULE)["prod/api"].outcome

    assert outcome("none", []) is Outcome.FAILED
    assert outcome("glob", ["team-*"]) is Outcome.PASSED
    assert outcome("regular", ["/^team-[a-z]+$/"]) is Outcome.PASSED
    assert outcome("broken", ["/(/"]) is Outcome.FAILED


def test_a_project_that_is_not_in_git_is_not_judged_and_says_so(tmp_path: Path) -> None:
    verdict = judged(tmp_path, {}, project="other")
    assert verdict.outcome is Outcome.NOT_EVALUATED
    assert verdict.reason is not None
    assert "AppProject other is not in this repository" in verdict.reason


def test_an_unchanged_default_allows_everything_and_is_no_evidence(tmp_path: Path) -> None:
    for name in ("default", ...):
        verdict = judged(tmp_path / str(name), {}, ROLE, project=name)
        assert (verdict.outcome, verdict.subjects) == (Outcome.NOT_APPLICABLE, 0)


def test_a_default_that_is_in_git_is_judged(tmp_path: Path) -> None:
    verdict = judged(tmp_path, {"name": "default", "sourceRepos": []}, project="default")
    assert verdict.outcome is Outcome.FAILED


def test_the_project_of_the_environment_counts(tmp_path: Path) -> None:
    files = {
        "releasegate.toml": ON,
        "objects/map.yaml": CONFIG_MAP,
        "argocd/dev/project.yaml": project(sourceRepos=[]),
        "argocd/prod/project.yaml": project(),
        "argocd/dev/api.yaml": application("api-dev"),
        "argocd/prod/api.yaml": application("api-prod"),
    }
    found = verdicts(write(tmp_path, files), RULE)
    assert (found["dev/api"].outcome, found["prod/api"].outcome) == (Outcome.FAILED, Outcome.PASSED)


def test_two_projects_of_one_name_that_differ_are_not_judged(tmp_path: Path) -> None:
    files = {
        "releasegate.toml": ON,
        "objects/map.yaml": CONFIG_MAP,
        "one/project.yaml": project(),
        "two/project.yaml": project(sourceRepos=[]),
        "argocd/prod/api.yaml": application(),
    }
    assert verdicts(write(tmp_path, files), RULE)["prod/api"].outcome is Outcome.NOT_EVALUATED


def test_a_cluster_by_name_and_by_address_is_one_where_the_config_says_so(tmp_path: Path) -> None:
    spec = {"destinations": [{"server": "https://eu.example", "namespace": "*"}]}
    destination = {"name": "eu", "namespace": "shop-prod"}
    told = f'{ON}[[clusters]]\nname = "eu"\nserver = "https://eu.example"\n'
    assert judged(tmp_path / "a", spec, toml=told, destination=destination).outcome is Outcome.PASSED
    untold = judged(tmp_path / "b", spec, destination=destination)
    assert untold.outcome is Outcome.NOT_EVALUATED
    assert untold.remedy is not None
    assert "[[clusters]]" in untold.remedy


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize(("repos", "outcome"), [("['*']", Outcome.PASSED), ("[]", Outcome.FAILED)])
def test_a_project_that_a_chart_renders_is_known_with_the_values_of_the_environment(
    tmp_path: Path, repos: str, outcome: Outcome
) -> None:
    template = yamlio.dump({"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "shop"}})
    template += "spec:\n  destinations: [{server: '*', namespace: '*'}]\n  sourceRepos: {{ toJson .Values.repos }}\n"
    files = {
        "releasegate.toml": ON,
        "objects/map.yaml": CONFIG_MAP,
        "projects/Chart.yaml": "apiVersion: v2\nname: projects\nversion: 1.0.0\n",
        "projects/values-prod.yaml": f"repos: {repos}\n",
        "projects/templates/shop.yaml": template,
        "argocd/prod/api.yaml": application(),
    }
    verdict = verdicts(write(tmp_path, files), RULE)["prod/api"]
    assert (verdict.outcome, verdict.subjects) == (outcome, 2)
