"""owners/valid and owners/covered: what GitHub makes of a CODEOWNERS file, on the line that has to be mended."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from releasegate.config import Config, load
from releasegate.evaluate import judge
from releasegate.model import (
    Application,
    CaseId,
    DirectorySource,
    Environment,
    Finding,
    HelmSource,
    Level,
    Manifest,
    Outcome,
    Place,
    Project,
    Release,
    Repo,
    Tree,
    Unjudged,
    ValuesFile,
)
from releasegate.rules import Evidence, Shared, catalogue

RULES = {one.id: one for one in catalogue()}
FILES = (
    "README.md",
    "argocd/dev/api.yaml",
    "argocd/prod/api.yaml",
    "argocd/prod/web.yaml",
    "helm/api/Chart.yaml",
    "helm/api/values-dev.yaml",
    "helm/api/values-prod.yaml",
    "helm/web/Chart.yaml",
    "helm/web/values-prod.yaml",
    "namespaces/prod/quota.yaml",
    "policies/images/no-foo.rego",
)


def release(name: str, environment: str, chart: str) -> Release:
    place = Place(path=f"argocd/{environment}/{name}.yaml", line=1)
    values = ValuesFile(path=f"{chart}/values-{environment}.yaml")
    return Release(
        name=name,
        environment=environment,
        helm_release=name,
        namespace=name,
        sources=(HelmSource(chart=chart, values_files=(values,)),),
        application=Application(name=name, namespace=None, project="p", destination={}, place=place),
    )


QUOTA = Release(
    name="quota",
    environment="prod",
    helm_release="quota",
    namespace="shop",
    sources=(DirectorySource(path="namespaces/prod", files=("namespaces/prod/quota.yaml",)),),
)


def evidence(
    root: Path, codeowners: str | None, *, owners: tuple[str, ...] = ("@acme/platform",), prefix: str = ""
) -> Evidence:
    """A config repo of two charts, in the folder `prefix` of its work tree."""
    names = [f"{prefix}/{name}".lstrip("/") for name in FILES]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / prefix / "releasegate.toml").write_text(
        '[environments.prod]\nprotected = true\nowners = ["@acme/platform"]\n'
    )
    if codeowners is not None:
        (root / ".github").mkdir(exist_ok=True)
        (root / ".github/CODEOWNERS").write_text(textwrap.dedent(codeowners))
    return _evidence(root, owners, prefix)


def _evidence(root: Path, owners: tuple[str, ...], prefix: str) -> Evidence:
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())
    below = tuple(path[len(prefix) + 1 :] if prefix else path for path in found if path.startswith(prefix))
    tree = Tree(root=str(root / prefix), files=below, prefix=prefix)
    environment = Environment(name="prod", protected=True, kubernetes="1.37", why="test", owners=owners)
    repo = Repo(
        tree=tree,
        environments=(environment,),
        releases=(
            release("api", "dev", "helm/api"),
            release("api", "prod", "helm/api"),
            QUOTA,
            release("web", "prod", "helm/web"),
        ),
    )
    return Evidence(
        repo=repo,
        config=load(root / prefix),
        environment=environment,
        release=None,
        renders=(),
        shared=Shared(tree, whole=lambda: Tree(root=str(root), files=tuple(found))),
    )


def found(rule: str, given: Evidence, *, advice: bool = False) -> list[Finding]:
    verdict = judge(RULES[rule], CaseId(rule=rule), given, Level.ON)
    assert not verdict.unjudged
    assert verdict.subjects >= len({one.place for one in verdict.findings})
    return [one for one in verdict.findings if one.advice is advice]


def lines(findings: list[Finding]) -> list[int | None]:
    return [one.place.line if one.place is not None else None for one in findings]


# --- owners/valid -----------------------------------------------------------------------------------------------------


def test_the_bad_example_of_the_page_is_bad_and_the_good_one_good(tmp_path: Path) -> None:
    bad, good = RULES["owners/valid"].doc.split("Bad:", 1)[1].split("Good:", 1)
    (tmp_path / "bad/docs").mkdir(parents=True)
    (tmp_path / "bad/docs/a.md").touch()
    (tmp_path / "good/docs").mkdir(parents=True)
    (tmp_path / "good/docs/a.md").touch()
    assert len(found("owners/valid", evidence(tmp_path / "bad", bad))) == 3
    assert found("owners/valid", evidence(tmp_path / "good", good)) == []
    bad, good = RULES["owners/covered"].doc.split("Bad:", 1)[1].split("Good:", 1)
    assert {one.place.line for one in found("owners/covered", evidence(tmp_path / "bad", bad)) if one.place} == {4, 5}
    assert found("owners/covered", evidence(tmp_path / "good", good)) == []


def test_a_repo_without_codeowners_has_nothing_to_judge(tmp_path: Path) -> None:
    verdict = judge(RULES["owners/valid"], CaseId(rule="owners/valid"), evidence(tmp_path, None), Level.ON)
    assert (verdict.outcome, verdict.subjects) == (Outcome.NOT_APPLICABLE, 0)


def test_each_line_is_a_subject(tmp_path: Path) -> None:
    given = evidence(tmp_path, "* @acme/platform\n# comment\n/helm/api/ @a\nbroken broken\n")
    assert len(RULES["owners/valid"].subjects(given)) == 4


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/helm/apii/ @a", "write /helm/api/"),
        ("/helm/Api/ @a", "write /helm/api/"),
        ("/api/ @a", "write /helm/api/"),
        ("helm/*/values-production.yaml @a", "as it is in the tree"),
        ("./helm/ @a", "write /helm/"),
        ("/helm/{api,web}/ @a", "one line for each"),
        ("/ @a", "write `*`"),
        ("Makefile @a", "as it is in the tree"),
    ],
)
def test_a_pattern_that_matches_nothing_is_told_with_what_it_may_mean(tmp_path: Path, line: str, told: str) -> None:
    (one,) = found("owners/valid", evidence(tmp_path, f"* @b\n\n{line}\n"))
    assert lines([one]) == [3]
    assert "matches no file" in one.message
    assert told in one.help


@pytest.mark.parametrize("pattern", ["*.tf", "**/*.tf", "Dockerfile.*"])
def test_a_kind_of_file_that_is_not_there_yet_is_advice(tmp_path: Path, pattern: str) -> None:
    given = evidence(tmp_path, f"{pattern} @a\n")
    assert found("owners/valid", given) == []
    assert lines(found("owners/valid", given, advice=True)) == [1]


def test_a_general_line_at_the_end_voids_those_above_it_once(tmp_path: Path) -> None:
    text = "/helm/api/ @a\n/helm/web/ @b\n/helm/ @c\n/argocd/ @c\n* @c\n"
    findings = found("owners/valid", evidence(tmp_path, text))
    assert lines(findings) == [3]
    assert "lines 1 and 2" in findings[0].message
    assert "move this line above lines 1 and 2" in findings[0].help


def test_one_pattern_twice_is_red_where_the_owners_differ_and_advice_where_not(tmp_path: Path) -> None:
    assert lines(found("owners/valid", evidence(tmp_path / "a", "/helm/ @a\n/helm/ @b\n"))) == [2]
    given = evidence(tmp_path / "b", "/helm/ @a\n/helm/ @a\n")
    assert found("owners/valid", given) == []
    assert lines(found("owners/valid", given, advice=True)) == [2]


def test_a_line_whose_present_files_all_belong_to_later_lines_is_advice(tmp_path: Path) -> None:
    given = evidence(tmp_path, "/argocd/prod/ @a\n*.yaml @b\n")
    assert found("owners/valid", given) == []
    (one,) = found("owners/valid", given, advice=True)
    assert lines([one]) == [1]
    assert "each of the 2 files" in one.message
    assert "decided by line 2" in one.message


def test_a_second_file_is_red_unless_it_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "CODEOWNERS").write_text("* @other\n")
    (one,) = found("owners/valid", evidence(tmp_path, "* @a\n"))
    assert one.place == Place(path="CODEOWNERS")
    (tmp_path / "CODEOWNERS").write_text("* @a\n")
    given = evidence(tmp_path, "* @a\n")
    assert found("owners/valid", given) == []
    assert len(found("owners/valid", given, advice=True)) == 1


def test_a_file_where_github_never_looks_is_advice(tmp_path: Path) -> None:
    (tmp_path / "helm/api").mkdir(parents=True)
    (tmp_path / "helm/api/CODEOWNERS").write_text("* @other\n")
    given = evidence(tmp_path, None)
    assert found("owners/valid", given) == []
    assert [one.place for one in found("owners/valid", given, advice=True)] == [Place(path="helm/api/CODEOWNERS")]


def test_a_file_that_github_does_not_load_is_red_and_one_we_cannot_read_is_not_judged(tmp_path: Path) -> None:
    given = evidence(tmp_path, "* @a\n" + "#" * 3_000_000)
    assert len(found("owners/valid", given)) == 1
    (tmp_path / ".github/CODEOWNERS").write_bytes(b"* @\xff\n")
    for rule in ("owners/valid", "owners/covered"):
        given = _evidence(tmp_path, ("@a",), "")
        verdict = judge(RULES[rule], CaseId(rule=rule), given, Level.ON)
        assert verdict.outcome is Outcome.NOT_EVALUATED
        assert all(isinstance(one, Unjudged) for one in verdict.unjudged)


# --- owners/covered ---------------------------------------------------------------------------------------------------


def guarded(given: Evidence) -> set[str]:
    return {one.path for one in RULES["owners/covered"].subjects(given)}


def test_the_files_of_an_environment_are_those_that_decide_what_it_runs(tmp_path: Path) -> None:
    assert guarded(evidence(tmp_path, "* @acme/platform\n")) == {
        ".github/CODEOWNERS",
        "argocd/prod/api.yaml",
        "argocd/prod/new-service.yaml",
        "argocd/prod/web.yaml",
        "helm/api/Chart.yaml",
        "helm/api/values-prod.yaml",
        "helm/new-service/values-prod.yaml",
        "helm/web/Chart.yaml",
        "helm/web/values-prod.yaml",
        "namespaces/prod/quota.yaml",
        "policies/images/no-foo.rego",
        "releasegate.toml",
    }


def test_the_project_of_its_applications_is_one_of_them(tmp_path: Path) -> None:
    given = evidence(tmp_path, "* @acme/platform\n")
    projects = [
        Project(
            manifest=Manifest(body={"metadata": {"name": name}}, text="", path=f"argocd/{name}-{where}.yaml"),
            environment=where,
        )
        for name, where in (("p", None), ("p", "prod"), ("p", "dev"), ("q", None))
    ]
    given = replace(given, repo=replace(given.repo, projects=tuple(projects)))
    assert guarded(given) - guarded(evidence(tmp_path, "")) == {"argocd/p-None.yaml", "argocd/p-prod.yaml"}


def test_an_environment_that_requires_no_owners_is_not_judged(tmp_path: Path) -> None:
    given = evidence(tmp_path, "* @a\n", owners=())
    verdict = judge(RULES["owners/covered"], CaseId(rule="owners/covered"), given, Level.ON)
    assert (verdict.outcome, verdict.subjects) == (Outcome.NOT_APPLICABLE, 0)


def test_no_file_while_owners_are_required_is_one_finding_at_the_line_that_requires_them(tmp_path: Path) -> None:
    (one,) = found("owners/covered", evidence(tmp_path, None))
    assert one.place == Place(path="releasegate.toml", line=3)
    assert "* @acme/platform" in one.help


def test_one_line_that_takes_files_away_is_one_cause_with_each_file_in_it(tmp_path: Path) -> None:
    findings = found("owners/covered", evidence(tmp_path, "* @acme/platform\n/helm/ @acme/shop\n"))
    assert {one.value for one in findings} == {
        "helm/api/Chart.yaml",
        "helm/api/values-prod.yaml",
        "helm/new-service/values-prod.yaml",
        "helm/web/Chart.yaml",
        "helm/web/values-prod.yaml",
    }
    assert len({(one.change, one.place) for one in findings}) == 1
    assert set(lines(findings)) == {2}
    assert "names @acme/shop" in findings[0].message
    assert "4 more files" in findings[0].message
    assert "`/helm/ @acme/platform` below this line" in findings[0].help


def test_a_line_without_owners_takes_them_away(tmp_path: Path) -> None:
    findings = found("owners/covered", evidence(tmp_path, "* @acme/platform\n/helm/*/values-prod.yaml\n"))
    assert {one.place for one in findings} == {Place(path=".github/CODEOWNERS", line=2)}
    assert len(findings) == 3
    assert "takes away" in findings[0].message
    assert "`/helm/*/values-prod.yaml @acme/platform`" in findings[0].help


def test_a_line_that_github_skips_owns_nothing(tmp_path: Path) -> None:
    findings = found("owners/covered", evidence(tmp_path, "* @acme/shop\n* acme/platform\n"))
    assert set(lines(findings)) == {1}


def test_a_chart_that_is_yet_to_come_is_judged(tmp_path: Path) -> None:
    text = "".join(f"{name} @acme/platform\n" for name in ("/helm/api/", "/helm/web/", "/argocd/", "/namespaces/"))
    guards = "/policies/ @acme/platform\n/.github/ @acme/platform\n/releasegate.toml @acme/platform\n"
    (one,) = found("owners/covered", evidence(tmp_path, text + guards))
    assert one.value == "helm/new-service/values-prod.yaml"
    assert one.place == Place(path=".github/CODEOWNERS")
    assert "`/helm/*/values-prod.yaml @acme/platform` in .github/CODEOWNERS" in one.help


def test_that_others_can_approve_as_well_is_advice(tmp_path: Path) -> None:
    given = evidence(tmp_path, "* @acme/shop @Acme/Platform\n")
    assert found("owners/covered", given) == []
    (one,) = found("owners/covered", given, advice=True)
    assert "@acme/shop, whose approval alone is enough" in one.message


def test_the_file_itself_and_the_policies_have_to_be_owned(tmp_path: Path) -> None:
    text = "* @acme/platform\n/.github/ @acme/shop\n/policies/\n/releasegate.toml @x\n"
    assert {one.value for one in found("owners/covered", evidence(tmp_path, text))} == {
        ".github/CODEOWNERS",
        "policies/images/no-foo.rego",
        "releasegate.toml",
    }


def test_paths_count_from_the_top_of_the_work_tree_and_places_from_the_root(tmp_path: Path) -> None:
    given = evidence(
        tmp_path, "/deploy/ @acme/platform\n/.github/ @acme/platform\n/deploy/helm/api/\n", prefix="deploy"
    )
    findings = found("owners/covered", given)
    assert {one.value for one in findings} == {"deploy/helm/api/Chart.yaml", "deploy/helm/api/values-prod.yaml"}
    assert {one.place for one in findings} == {Place(path="../.github/CODEOWNERS", line=3)}
    assert found("owners/valid", given) == []


def test_the_config_is_not_asked_for_where_there_is_none(tmp_path: Path) -> None:
    given = evidence(tmp_path, "* @acme/platform\n")
    (tmp_path / "releasegate.toml").unlink()
    assert load(tmp_path) == Config()
    assert "releasegate.toml" in guarded(given)
    assert "releasegate.toml" not in guarded(_evidence(tmp_path, ("@a",), ""))
