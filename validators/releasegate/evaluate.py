"""(rule, subjects) -> Verdict; verdicts -> causes and the exit code. Pure: no file, no process, no clock but a timer.

Why seven verdicts: "could not judge" and "nothing to judge" must never look like "passed". Why causes: a real repo has
six true causes in twelve thousand findings, and a person mends causes.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from releasegate.model import (
    CaseId,
    Finding,
    Kind,
    Level,
    Manifest,
    Outcome,
    Place,
    Repo,
    Scope,
    Status,
    ToolIdentity,
    Unjudged,
    Unrendered,
    Verdict,
)
from releasegate.rules import Evidence, Rule

NOT_RENDERED = "not rendered"
NOTHING = "nothing of the kind here"
# design.md 3: "nearly all subjects of a rule in an environment fail alike (four of five or more)".
SYSTEMIC_SHARE = 0.8
SYSTEMIC_FLOOR = 5  # fewer findings fit on a screen as they are
SHOWN_REASONS = 3

EXPECTED_FAMILIES = ("render", "schema", "images")
DISCOVERED = "expect/discovered"
RENDER = "render/succeeds"


# --- one case -------------------------------------------------------------------------------------------------------


def judge(rule: Rule, case: CaseId, evidence: Evidence, level: Level) -> Verdict:
    """Judge one case. Promises: `passed` only with at least one subject, each of which was handed to the rule.

    A bug in a rule is a not-evaluated case that says so, never a pass and never the end of the run.
    """
    began = time.perf_counter()
    unrendered = [one for one in evidence.renders if isinstance(one, Unrendered)]
    found: list[Finding] = []
    unjudged: list[Unjudged] = []
    subjects = 0
    if rule.needs_render:
        if unrendered and rule.scope is Scope.RELEASE:
            return _unrendered(case, level, unrendered)
        unjudged += [_gap(one) for one in unrendered]
    try:
        given = list(rule.subjects(evidence))
        subjects = len(given)
        answers: list[Finding | Unjudged] = []
        if rule.together:
            if given:
                answers += rule.check(given, evidence)
        else:
            for subject in given:
                answers += rule.check(subject, evidence)
        if answers:
            found += [one for one in answers if isinstance(one, Finding)]
            unjudged += [one for one in answers if isinstance(one, Unjudged)]
    except Exception as error:  # noqa: BLE001 - the one boundary: a rule's bug must not turn red or green by itself
        unjudged.append(
            Unjudged(
                reason=f"{rule.id} broke on this input: {type(error).__name__}: {error}",
                remedy=f"this is a bug in {rule.origin or 'releasegate'}; please report it with the input",
                group=f"bug in {rule.id}: {type(error).__name__}",
            )
        )
    if not found and not unjudged:
        return clean(case, level, subjects, time.perf_counter() - began)
    return _decide(case, level, subjects, found, unjudged, seconds=time.perf_counter() - began)


def clean(case: CaseId, level: Level, subjects: int, seconds: float = 0.0) -> Verdict:
    """Return the verdict of a case in which nothing was found and nothing was left unjudged."""
    if subjects:
        return Verdict(id=case, level=level, outcome=Outcome.PASSED, subjects=subjects, seconds=seconds)
    return Verdict(id=case, level=level, outcome=Outcome.NOT_APPLICABLE, subjects=0, reason=NOTHING, seconds=seconds)


def _unrendered(case: CaseId, level: Level, unrendered: Sequence[Unrendered]) -> Verdict:
    gaps = tuple(_gap(one) for one in unrendered)
    return Verdict(
        id=case,
        level=level,
        outcome=Outcome.ADVISED if level is Level.ADVISE else Outcome.NOT_EVALUATED,
        subjects=0,
        unjudged=gaps,
        reason=NOT_RENDERED,
        remedy=gaps[0].remedy,
    )


def _gap(unrendered: Unrendered) -> Unjudged:
    return Unjudged(
        reason=unrendered.reason,
        remedy=unrendered.remedy,
        group=unrendered.gap,
        place=unrendered.place,
    )


def _decide(
    case: CaseId,
    level: Level,
    subjects: int,
    found: Sequence[Finding] = (),
    unjudged: Sequence[Unjudged] = (),
    *,
    seconds: float = 0.0,
) -> Verdict:
    """Take the covered entries out, then compute the verdict from what is left; not-evaluated outranks failed."""
    if not found and not unjudged:
        return clean(case, level, subjects, seconds)
    judged = tuple(
        replace(one, status=Status.ADVISED if one.advice or level is Level.ADVISE else Status.NEW) for one in found
    )
    if unjudged and level is not Level.ADVISE:
        outcome = Outcome.NOT_EVALUATED
    elif any(one.status is Status.NEW for one in judged):
        outcome = Outcome.FAILED
    else:
        outcome = Outcome.ADVISED
    reason = remedy = None
    if unjudged:
        reason, remedy = unjudged[0].reason, unjudged[0].remedy
        others = len({one.group for one in unjudged}) - 1
        if others:
            reason = f"{reason} (and {others} more)"
    return Verdict(
        id=case,
        level=level,
        outcome=outcome,
        subjects=subjects,
        findings=judged,
        unjudged=tuple(unjudged),
        reason=reason,
        remedy=remedy,
        seconds=seconds,
    )


# --- expectations ---------------------------------------------------------------------------------------------------


def expectation(case: CaseId, verdicts: Iterable[Verdict]) -> Verdict:
    """Judge `expect/<family>` of an environment: all its cases of that family together looked at something.

    Zero is not a finding about the repo but the absence of evidence: the run's exit code becomes 3.
    """
    family = case.rule.removeprefix("expect/")
    members = [
        one
        for one in verdicts
        if one.id.environment in (case.environment, None) and one.id.rule.startswith(f"{family}/")
    ]
    subjects = sum(one.subjects for one in members)
    if subjects:
        return _decide(case, Level.ON, subjects)
    if any(one.unjudged for one in members):
        unsaid = _decide(case, Level.ON, 0)
        return replace(unsaid, reason="its cases could not be judged; each says why")
    if not members:
        nothing = Finding(
            message=f"no {family} rule had a case in {case.environment}: it has no release, or no such rule is on",
            help=f"deploy something to {case.environment}, switch a {family} rule on, or take {family} out of `expect`",
            change=f"no rule of {family} is on",
        )
        return _decide(case, Level.ON, 0, (nothing,))
    missing = Finding(
        message=f"no {family} rule judged anything in {case.environment}: 0 subjects over all its releases",
        help=f"`releasegate discover` shows what {case.environment} holds; a values key may have switched it off",
        change=f"nothing judged by {family}",
    )
    return _decide(case, Level.ON, 0, (missing,))


def unasked(case: CaseId, reason: str) -> Verdict:
    """Return the verdict of an expectation that this run cannot judge: counted and shown, never as passed."""
    return replace(_decide(case, Level.ON, 0), reason=reason)


def discovered(case: CaseId, repo: Repo, late: Sequence[Unjudged] = ()) -> Verdict:
    """Judge that everything that deploys became a release: rows that were not understood are not-evaluated.

    `late` are Applications that turned up in a render and that discovery did not follow.
    """
    gaps = [
        Unjudged(reason=f"{row.what}: {row.reason}", remedy=row.remedy, group=row.reason, place=row.place)
        for row in repo.not_understood
        if row.blocking
    ]
    return _decide(case, Level.ON, len(repo.releases) + len(gaps), (), [*gaps, *late])


# --- causes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing to mend, with all it reaches.

    `id` is stable across runs while (rule, place, what to change) is. `status` is NEW when anything it covers is red.
    `systemic` is (failing, judged) when nearly all subjects of a rule in an environment fail alike.
    `entries` are (case, finding); for what could not be judged `unjudged` holds (case, gap) instead.
    """

    id: str
    rule: str
    message: str
    help: str
    place: Place | None
    status: Status
    entries: tuple[tuple[CaseId, Finding], ...] = ()
    unjudged: tuple[tuple[CaseId, Unjudged], ...] = ()
    systemic: tuple[int, int] | None = None
    cases: tuple[CaseId, ...] = field(default=())

    @property
    def environments(self) -> tuple[str, ...]:
        """The environments it reaches, sorted."""
        return tuple(sorted({case.environment for case in self.cases if case.environment is not None}))

    @property
    def releases(self) -> tuple[str, ...]:
        """The releases it reaches as `environment/name`, sorted."""
        return tuple(sorted({f"{case.environment}/{case.release}" for case in self.cases if case.release is not None}))


def systemic(
    verdicts: Sequence[Verdict], rules: Mapping[str, Rule]
) -> Mapping[tuple[str, str | None], tuple[int, int]]:
    """Return {(rule, environment): (failing, judged)} where nearly all subjects of a policy rule fail alike.

    Facts are never folded: each is true by itself.
    """
    failing: Counter[tuple[str, str | None]] = Counter()
    judged: Counter[tuple[str, str | None]] = Counter()
    for verdict in verdicts:
        rule = rules.get(verdict.id.rule)
        if rule is None or rule.kind is Kind.FACT:
            continue
        key = (verdict.id.rule, verdict.id.environment)
        judged[key] += verdict.subjects
        if verdict.findings:
            failing[key] += len({(id(one.manifest), one.pointer) for one in verdict.findings if not one.advice})
    return {
        key: (count, judged[key])
        for key, count in failing.items()
        if count >= SYSTEMIC_FLOOR and count >= SYSTEMIC_SHARE * judged[key]
    }


def cause_id(rule: str, place: Place | None, change: str) -> str:
    """Return the stable id of a cause: 12 hex digits of (rule, source place, what to change)."""
    where = "" if place is None else f"{place.path}:{place.line or ''}"
    return hashlib.sha256(f"{rule}\0{where}\0{change}".encode()).hexdigest()[:12]


def place_of(finding: Finding) -> Place | None:
    """Return where to edit: what is known of the source, else the template that rendered the object."""
    if finding.place is not None:
        return finding.place
    manifest: Manifest | None = finding.manifest
    if manifest is None:
        return None
    if manifest.path is not None:
        return Place(path=manifest.path, line=manifest.line)
    return Place(path=manifest.template) if manifest.template is not None else None


def causes(verdicts: Sequence[Verdict], rules: Mapping[str, Rule]) -> tuple[Cause, ...]:
    """Group findings and gaps: one cause, one entry. Red ones first, then by rule and place."""
    folded = systemic(verdicts, rules)
    told = _told_by_render(verdicts)
    entries: dict[tuple[str, str], list[tuple[CaseId, Finding]]] = defaultdict(list)
    wholes: dict[tuple[str, str | None], list[tuple[CaseId, Finding]]] = defaultdict(list)
    gaps: dict[str, list[tuple[CaseId, Unjudged]]] = defaultdict(list)
    red_gaps: set[str] = set()
    for verdict in verdicts:
        if not verdict.findings and not verdict.unjudged:
            continue
        key = (verdict.id.rule, verdict.id.environment)
        for finding in verdict.findings:
            if key in folded and not finding.advice:
                wholes[key].append((verdict.id, finding))
            else:
                place = None if finding.anywhere else place_of(finding)
                identity = cause_id(verdict.id.rule, place, finding.change)
                entries[verdict.id.rule, identity].append((verdict.id, finding))
        for gap in verdict.unjudged:
            # That a release did not render is told by render/succeeds; for every other rule it is a consequence.
            if verdict.id.rule == RENDER or (verdict.id.environment, gap.group) not in told:
                gaps[gap.group].append((verdict.id, gap))
                if verdict.outcome is not Outcome.ADVISED:
                    red_gaps.add(gap.group)  # what makes one case red is not advice because another rule only advises
    made = [_of_findings(identity, members) for (_, identity), members in entries.items()]
    made += [
        _of_systemic(rules[rule], where, folded[rule, where], members) for (rule, where), members in wholes.items()
    ]
    made += [_of_gaps(group, members, advised=group not in red_gaps) for group, members in gaps.items()]
    return tuple(sorted(made, key=_order))


_NOT_GREEN = (Outcome.FAILED, Outcome.NOT_EVALUATED)


def _told_by_render(verdicts: Sequence[Verdict]) -> set[tuple[str | None, str]]:
    """(environment, group) of every release that did not render and whose render/succeeds case is in this run.

    With None for the environment too: a rule about the whole repo names the same gap.
    """
    told: set[tuple[str | None, str]] = set()
    for one in verdicts:
        if one.outcome in _NOT_GREEN and one.id.rule == RENDER:
            groups = {f"{one.id.environment}/{one.id.release} does not render", *(gap.group for gap in one.unjudged)}
            told.update((where, group) for where in (one.id.environment, None) for group in groups)
    return told


def _of_findings(identity: str, members: list[tuple[CaseId, Finding]]) -> Cause:
    case, first = members[0]
    return Cause(
        id=identity,
        rule=case.rule,
        message=first.message,
        help=first.help,
        place=place_of(first),
        status=_worst(finding.status for _, finding in members),
        entries=tuple(members),
        cases=tuple(dict.fromkeys(one for one, _ in members)),
    )


def _of_systemic(rule: Rule, where: str | None, share: tuple[int, int], members: list[tuple[CaseId, Finding]]) -> Cause:
    failing, judged = share
    return Cause(
        id=cause_id(rule.id, None, f"systemic in {where}"),
        rule=rule.id,
        message=f"{rule.summary.rstrip('.')}: not so for {failing} of {judged} in {where}",
        help=(
            f'adopt it step by step: [environments.{where}] rules = {{ "{rule.id}" = "advise" }} in releasegate.toml, '
            "mend one service after another, then switch it on"
        ),
        place=None,
        status=_worst(finding.status for _, finding in members),
        entries=tuple(members),
        systemic=share,
        cases=tuple(dict.fromkeys(one for one, _ in members)),
    )


def _of_gaps(group: str, members: list[tuple[CaseId, Unjudged]], *, advised: bool) -> Cause:
    case, first = members[0]
    reasons = list(dict.fromkeys(gap.reason for _, gap in members))
    remedies = list(dict.fromkeys(gap.remedy for _, gap in members))
    return Cause(
        id=cause_id("not-evaluated", None, group),
        rule=case.rule,
        message=_several(reasons),
        help=_several(remedies),
        place=first.place,
        status=Status.ADVISED if advised else Status.NEW,
        unjudged=tuple(members),
        cases=tuple(dict.fromkeys(one for one, _ in members)),
    )


def _several(texts: Sequence[str]) -> str:
    shown = "; ".join(texts[:SHOWN_REASONS])
    return shown if len(texts) <= SHOWN_REASONS else f"{shown}; and {len(texts) - SHOWN_REASONS} more of the kind"


def _worst(statuses: Iterable[Status]) -> Status:
    seen = set(statuses)
    return next(one for one in (Status.NEW, Status.INHERITED, Status.WAIVED, Status.ADVISED) if one in seen)


def _order(cause: Cause) -> tuple[object, ...]:
    place = cause.place
    return (
        cause.status is not Status.NEW,
        bool(cause.unjudged),
        cause.systemic is not None,
        cause.rule,
        "" if place is None else place.path,
        0 if place is None or place.line is None else place.line,
        cause.id,
    )


# --- the whole run --------------------------------------------------------------------------------------------------

PASSED, FINDING, NOT_EVALUATED, NOTHING_JUDGED, USAGE = range(5)
WORDS = ("passed", "failed", "not-evaluated", "nothing-judged", "usage-error")


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return 0-3 for a finished run. Precedence 2 > 3 > 1 > 0; a run that judged nothing is never 0."""
    outcomes = {one.outcome for one in verdicts}
    if Outcome.NOT_EVALUATED in outcomes:
        return NOT_EVALUATED
    judged = any(one.subjects and not one.id.rule.startswith("expect/") for one in verdicts)
    failed = [one for one in verdicts if one.outcome is Outcome.FAILED]
    if not judged or any(one.id.rule.startswith("expect/") for one in failed):
        return NOTHING_JUDGED
    return FINDING if failed else PASSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that the formats print: the verdicts, what they were judged from, and what they mean together.

    `objects` counts the manifests of each release by its id. `tools` are the programs that judged.
    `notes` are sentences about the run (cache, narrowed selection, what could not be enforced).
    """

    repo: Repo
    verdicts: tuple[Verdict, ...]
    causes: tuple[Cause, ...]
    exit_code: int
    complete: bool
    head: str | None
    base: str | None
    config_sha256: str
    tools: tuple[ToolIdentity, ...]
    objects: Mapping[str, int]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The word of the exit code: passed, failed, not-evaluated, nothing-judged."""
        return WORDS[self.exit_code]

    @property
    def counts(self) -> dict[str, int]:
        """The `summary` of the JSON report, in its order."""
        outcomes = Counter(one.outcome for one in self.verdicts)
        return {
            "cases": len(self.verdicts),
            **{outcome.value.replace("-", "_"): outcomes[outcome] for outcome in Outcome},
            "findings": sum(len(one.findings) for one in self.verdicts),
            "causes": len(self.causes),
            "objects": sum(self.objects.values()),
        }

    @property
    def red(self) -> tuple[Cause, ...]:
        """The causes that make this run red."""
        return tuple(one for one in self.causes if one.status is Status.NEW)
