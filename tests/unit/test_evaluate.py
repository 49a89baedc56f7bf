"""A verdict says what was looked at; absence of evidence is never green."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releasegate import evaluate
from releasegate.config import parse
from releasegate.model import (
    CaseId,
    Environment,
    Finding,
    Kind,
    Level,
    Manifest,
    NotUnderstood,
    Outcome,
    Place,
    Release,
    Rendered,
    Repo,
    Scope,
    Status,
    Tree,
    Unjudged,
    Unrendered,
    Verdict,
)
from releasegate.rules import Evidence, Rule, Shared

PROD = Environment(name="prod", protected=True, kubernetes="1.37", why="test")
API = Release(name="api", environment="prod", helm_release="api", namespace="prod", sources=())
TREE = Tree(root="/nowhere", files=())
REPO = Repo(tree=TREE, environments=(PROD,), releases=(API,))
CASE = CaseId(rule="images/test", environment="prod", release="api")


def a_rule(check: Any, subjects: Sequence[Any], **options: Any) -> Rule:
    kind = options.pop("kind", Kind.POLICY)
    return Rule(
        id="images/test",
        scope=Scope.RELEASE,
        kind=kind,
        subjects=lambda _evidence: subjects,
        check=check,
        doc="Every image is good.",
        **options,
    )


def evidence(*renders: Rendered | Unrendered) -> Evidence:
    return Evidence(
        repo=REPO, config=parse(""), environment=PROD, release=API, renders=renders, shared=Shared(REPO.tree)
    )


def yes(_subject: Any, _evidence: Evidence) -> Iterable[Finding | Unjudged]:
    return ()


def no(subject: Any, _evidence: Evidence) -> Iterable[Finding | Unjudged]:
    return [Finding(message=f"{subject} is bad", help="mend it", change=str(subject))]


def unsure(subject: Any, _evidence: Evidence) -> Iterable[Finding | Unjudged]:
    return [Unjudged(reason=f"no schema for {subject}", remedy="add it", group=str(subject))]


RENDERED = Rendered(release=API, manifests=())


def test_passed_counts_what_was_looked_at() -> None:
    verdict = evaluate.judge(a_rule(yes, ["a", "b"]), CASE, evidence(RENDERED), Level.ON)
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 2)


def test_nothing_to_look_at_is_not_passed() -> None:
    verdict = evaluate.judge(a_rule(yes, []), CASE, evidence(RENDERED), Level.ON)
    assert (verdict.outcome, verdict.subjects) == (Outcome.NOT_APPLICABLE, 0)


def test_a_finding_is_red_where_the_rule_is_on_and_listed_where_it_advises() -> None:
    assert evaluate.judge(a_rule(no, ["a"]), CASE, evidence(RENDERED), Level.ON).outcome is Outcome.FAILED
    advised = evaluate.judge(a_rule(no, ["a"]), CASE, evidence(RENDERED), Level.ADVISE)
    assert advised.outcome is Outcome.ADVISED
    assert [one.status for one in advised.findings] == [Status.ADVISED]


def test_what_could_not_be_judged_outranks_what_is_wrong_and_both_stay_listed() -> None:
    def check(subject: Any, ev: Evidence) -> Iterable[Finding | Unjudged]:
        return unsure(subject, ev) if subject == "a" else no(subject, ev)

    verdict = evaluate.judge(a_rule(check, ["a", "b"]), CASE, evidence(RENDERED), Level.ON)
    assert verdict.outcome is Outcome.NOT_EVALUATED
    assert [one.message for one in verdict.findings] == ["b is bad"]
    assert verdict.reason == "no schema for a"


def test_a_release_that_does_not_render_is_an_error_not_a_skip() -> None:
    broken = Unrendered(release=API, reason="helm template: nil pointer", remedy="mend it", broken=True)
    verdict = evaluate.judge(a_rule(yes, ["a"]), CASE, evidence(broken), Level.ON)
    assert (verdict.outcome, verdict.reason, verdict.subjects) == (Outcome.NOT_EVALUATED, "not rendered", 0)


def test_a_bug_in_a_rule_is_not_evaluated_and_says_so() -> None:
    def check(_subject: Any, _evidence: Evidence) -> Iterable[Finding | Unjudged]:
        raise ZeroDivisionError("division by zero")

    verdict = evaluate.judge(a_rule(check, ["a"]), CASE, evidence(RENDERED), Level.ON)
    assert verdict.outcome is Outcome.NOT_EVALUATED
    assert "images/test broke on this input: ZeroDivisionError" in (verdict.reason or "")


def test_a_rule_about_a_set_gets_it_whole() -> None:
    seen: list[Any] = []

    def check(subjects: Any, _evidence: Evidence) -> Iterable[Finding | Unjudged]:
        seen.append(list(subjects))
        return ()

    verdict = evaluate.judge(a_rule(check, ["a", "b"], together=True), CASE, evidence(RENDERED), Level.ON)
    assert (seen, verdict.subjects) == ([["a", "b"]], 2)


def verdict(outcome: Outcome, rule: str = "images/test", subjects: int = 1) -> Verdict:
    return Verdict(
        id=CaseId(rule=rule, environment="prod", release="api"), level=Level.ON, outcome=outcome, subjects=subjects
    )


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([Outcome.PASSED], 0),
        ([Outcome.PASSED, Outcome.NOT_APPLICABLE, Outcome.ADVISED, Outcome.WAIVED, Outcome.INHERITED], 0),
        ([Outcome.PASSED, Outcome.FAILED], 1),
        ([Outcome.PASSED, Outcome.FAILED, Outcome.NOT_EVALUATED], 2),
    ],
)
def test_exit_code_precedence(outcomes: list[Outcome], code: int) -> None:
    assert evaluate.exit_code([verdict(one) for one in outcomes]) == code


def test_a_run_that_judged_nothing_is_three() -> None:
    assert evaluate.exit_code([]) == 3
    assert evaluate.exit_code([verdict(Outcome.NOT_APPLICABLE, subjects=0)]) == 3


def test_an_expectation_without_subjects_is_three_and_outranks_a_finding() -> None:
    case = CaseId(rule="expect/images", environment="prod")
    missing = evaluate.expectation(case, [verdict(Outcome.FAILED, rule="schema/valid")])
    assert missing.outcome is Outcome.FAILED
    assert evaluate.exit_code([verdict(Outcome.FAILED, rule="schema/valid"), missing]) == 3


def test_an_expectation_counts_the_subjects_of_its_family_in_its_environment() -> None:
    case = CaseId(rule="expect/images", environment="prod")
    assert evaluate.expectation(case, [verdict(Outcome.PASSED, subjects=3)]).subjects == 3
    elsewhere = CaseId(rule="expect/images", environment="dev")
    assert evaluate.expectation(elsewhere, [verdict(Outcome.PASSED, subjects=3)]).outcome is Outcome.FAILED


def test_what_deploys_and_was_not_understood_is_not_evaluated() -> None:
    row = NotUnderstood(what="ApplicationSet x", reason="generator scmProvider", remedy="list the Applications")
    repo = Repo(tree=TREE, environments=(PROD,), releases=(API,), not_understood=(row,))
    assert evaluate.discovered(CaseId(rule="expect/discovered"), repo).outcome is Outcome.NOT_EVALUATED
    told = Repo(
        tree=TREE,
        environments=(PROD,),
        releases=(API,),
        not_understood=(NotUnderstood(what="a", reason="b", remedy="c", blocking=False),),
    )
    assert evaluate.discovered(CaseId(rule="expect/discovered"), told).outcome is Outcome.PASSED


# --- causes ---


def findings(count: int, change: str, place: Place | None) -> list[Verdict]:
    """`count` releases with one finding each."""
    return [
        Verdict(
            id=CaseId(rule="images/test", environment="prod", release=f"r{number}"),
            level=Level.ON,
            outcome=Outcome.FAILED,
            subjects=10,
            findings=(Finding(message="bad", help="mend", change=change, place=place),),
        )
        for number in range(count)
    ]


RULES = {"images/test": a_rule(no, [])}


def test_one_cause_is_one_entry_with_all_it_reaches() -> None:
    (cause,) = evaluate.causes(findings(4, "pin app", Place(path="values.yaml", line=3)), RULES)
    assert len(cause.entries) == 4
    assert cause.releases == ("prod/r0", "prod/r1", "prod/r2", "prod/r3")
    assert str(cause.place) == "values.yaml:3"


def test_two_lines_are_two_causes() -> None:
    verdicts = [
        *findings(1, "pin app", Place(path="values.yaml", line=3)),
        *findings(1, "pin app", Place(path="values.yaml", line=9)),
    ]
    assert len(evaluate.causes(verdicts, RULES)) == 2


def test_nearly_all_subjects_failing_alike_is_one_systemic_cause() -> None:
    manifests = [Manifest(body={}, text="", template=f"t{number}.yaml") for number in range(5)]
    verdicts = [
        Verdict(
            id=CaseId(rule="images/test", environment="prod", release=f"r{number}"),
            level=Level.ON,
            outcome=Outcome.FAILED,
            subjects=1,
            findings=(
                Finding(message="bad", help="mend", change=f"pin {number}", manifest=manifest, pointer="/image"),
            ),
        )
        for number, manifest in enumerate(manifests)
    ]
    (cause,) = evaluate.causes(verdicts, RULES)
    assert cause.systemic == (5, 5)
    assert len(cause.entries) == 5
    fact = {"images/test": a_rule(no, [], kind=Kind.FACT)}
    assert len(evaluate.causes(verdicts, fact)) == 5


def test_what_is_red_for_one_rule_is_no_advice_because_another_only_advises() -> None:
    gap = Unjudged(reason="helm is missing", remedy="releasegate tools install helm", group="helm is missing")
    outcomes = {
        CaseId(rule="render/succeeds", environment="prod", release="api"): Outcome.NOT_EVALUATED,
        CaseId(rule="images/test", environment="prod"): Outcome.ADVISED,
        CaseId(rule="images/test"): Outcome.ADVISED,
    }
    verdicts = [
        Verdict(id=case, level=Level.ON, outcome=outcome, subjects=1, unjudged=(gap,))
        for case, outcome in outcomes.items()
    ]
    (cause,) = evaluate.causes(verdicts, RULES)
    assert cause.status is Status.NEW
    assert cause.rule == "render/succeeds"
    assert [str(case) for case in cause.cases] == ["releasegate.toml::prod/api::render/succeeds"]


def test_a_release_that_does_not_render_is_told_once_not_once_per_rule() -> None:
    broken = Unrendered(release=API, reason="helm template: boom", remedy="mend", broken=True)
    render = Verdict(
        id=CaseId(rule="render/succeeds", environment="prod", release="api"),
        level=Level.ON,
        outcome=Outcome.FAILED,
        subjects=1,
        findings=(Finding(message="helm template: boom", help="mend", change="boom"),),
    )
    other = evaluate.judge(a_rule(yes, ["a"]), CASE, evidence(broken), Level.ON)
    causes = evaluate.causes([render, other], RULES)
    assert [one.rule for one in causes] == ["render/succeeds"]
    assert len(evaluate.causes([other], RULES)) == 1, "without render/succeeds in the run it is told by the rule"


ANSWERS = st.lists(st.sampled_from(["good", "bad", "unsure"]), max_size=8)


def outcome_of(answers: list[str], level: Level) -> int:
    def check(subject: Any, ev: Evidence) -> Iterable[Finding | Unjudged]:
        return {"good": yes, "bad": no, "unsure": unsure}[subject](subject, ev)

    return evaluate.exit_code([evaluate.judge(a_rule(check, answers), CASE, evidence(RENDERED), level)])


@given(ANSWERS, st.sampled_from(["bad", "unsure"]))
def test_adding_a_bad_subject_never_turns_red_to_green(answers: list[str], bad: str) -> None:
    before, after = outcome_of(answers, Level.ON), outcome_of([*answers, bad], Level.ON)
    assert after != 0
    assert not (before in {1, 2} and after == 0)


@given(ANSWERS)
def test_green_means_at_least_one_subject_was_judged(answers: list[str]) -> None:
    if outcome_of(answers, Level.ON) == 0:
        assert answers
        assert set(answers) == {"good"}
