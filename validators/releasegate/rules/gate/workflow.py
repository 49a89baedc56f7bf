"""gate/workflow."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from releasegate.discover.files import Files, Unreadable
from releasegate.discover.owners import tree_path
from releasegate.discover.workflows import (
    FOLDER,
    Broken,
    Command,
    Job,
    Step,
    Workflow,
    command,
    composite,
    read,
    strings,
)
from releasegate.model import Finding, Kind, Place, Scope, Unjudged
from releasegate.rules import Evidence, rule
from releasegate.tools import actionlint
from releasegate.tools.store import Tool

GATE = "gate"


def files(evidence: Evidence) -> Sequence[str]:
    """Every YAML file below .github/workflows, from the top of the repository."""
    return [path for path in evidence.shared.top.below(FOLDER) if path.endswith((".yml", ".yaml"))]


@rule(scope=Scope.REPO, kind=Kind.FACT, subjects=files, together=True, needs_render=False)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """The check's own workflow runs for every change, cannot be skipped, and its verdict counts.

    Every workflow has to be one that GitHub can read. Of those that run `releasegate check` more is asked: that the
    required job, called `gate`, starts on `pull_request` and on `merge_group` without a filter, and that neither it nor
    its step is conditional or may fail. Its step runs our action, or its script is exactly one command in `bash` or `sh`:
    `releasegate check --base BASE` with `--github`, `--json`, `--junit`, `--sarif` or `--summary`, in the root of the
    repository, with BASE the target branch of the pull request or of the merge group; only `set -e` and the like may stand
    in front. Any other script, base, shell or folder is not judged, and so neither is the gate: only what is known to count
    does. Variables that change what the command is (PATH, PYTHON*, GIT_*, ...) do not belong in `env`. A local action or
    workflow is followed. Shards are joined by a job that always runs, needs each of them, has a step
    `if: contains(needs.*.result, 'failure') || contains(needs.*.result, 'cancelled') || contains(needs.*.result, 'skipped')`
    with `run: exit 1` (or, for each job N, `if: needs.N.result != 'success'` with it, or `run: test "${{ needs.N.result }}"
    = success`, or `re-actors/alls-green`), and runs `releasegate report merge`, which wants a complete one. No other job's
    check has the gate's name. It checks out the commit to be merged and keeps no token, its token can read and no more, its
    actions are pinned by commit, and `pull_request_target` does not start it. What the steps in front of the check install
    is not looked into, nor whose the action called releasegate is.

    Not asked of other people's workflows: how they pin and what they may, since they cannot turn this check green.
    Where releasegate.toml exists and no workflow runs the check, that is advice: an organisation's required workflow, or
    another CI, may. `actionlint` is asked too where it is installed.

    Why: a path filter leaves the check pending or lets a change through, a job that is skipped counts as passed,
    `|| true` is green for ever, a workflow that is not YAML does not run, and a push to the merge queue is judged by
    nobody. Each of them looks like a check that passes.

    Fix: write the workflow as below; pin an action with the commit of its release: `owner/name@<40 digits> # v4.2.2`.

    Bad:
        on:
          pull_request:
            paths: ["helm/**"]
        jobs:
          gate:
            runs-on: ubuntu-24.04
            steps:
              - uses: actions/checkout@v4
              - run: releasegate check || true

    Good:
        on:
          pull_request:
          merge_group:
        permissions:
          contents: read
        jobs:
          gate:
            runs-on: ubuntu-24.04
            steps:
              - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
                with:
                  fetch-depth: 0
                  persist-credentials: false
              - run: releasegate check --base "$BASE"
                env:
                  BASE: ${{ github.event.merge_group.base_sha || github.event.pull_request.base.sha }}
    """
    judged = _Judged(evidence)
    for path in subjects:
        found = _read(path, evidence.shared.top)
        if isinstance(found, Unjudged):
            yield found
        elif path.count("/") > FOLDER.count("/") + 1:
            yield judged.stray(path, found)
        elif isinstance(found, Broken):
            yield judged.broken(found, evidence.shared.top)
        else:
            judged.workflows[path] = found
    yield from judged.all()
    yield from judged.by_actionlint()


def _read(path: str, top: Files) -> Workflow | Broken | Unjudged:
    try:
        return read(path, top.text(path))
    except Unreadable as error:
        return Unjudged(
            reason=f"{path} {error}",
            remedy="make it a file of its own, plain UTF-8 text",
            group="a workflow cannot be read",
            place=Place(path=tree_path(path, top.tree.prefix)),
        )


# Our action, or our reusable workflow: .../releasegate@…, .../releasegate/.github/workflows/check.yml@…
_OURS = re.compile(r"[\w.-]+/releasegate(/(?!setup)[^@]*)?@.*")
_PINNED = re.compile(r".+@[0-9a-f]{40}|docker://.+@sha256:[0-9a-f]{64}|\./.*")
_COMMAND = 'releasegate check --base "$BASE"'
_BASE = "${{ github.event.merge_group.base_sha || github.event.pull_request.base.sha }}"
_NARROWING = {
    "--env": "judges one environment only",
    "--release": "judges one release only",
    "--rule": "judges some rules only",
    "--staged": "judges what is staged, and in CI nothing is",
    "--changed": "judges what the work tree changes, and in CI it changes nothing",
    "--help": "prints the help and judges nothing",
    "-h": "prints the help and judges nothing",
}
_INPUTS = {"env": "--env", "environment": "--env", "release": "--release", "rule": "--rule", "rules": "--rule"}
_FILES = {"--json", "--junit", "--sarif", "--summary"}
_FILE = re.compile(
    r"(?:[\w./-]|\$\{?(?:GITHUB|RUNNER)_\w+\}?|\$\{\{(?:runner\.temp|github\.workspace|github\.run_id|matrix\.\w+)\}\})+"
)
_SHARE = re.compile(r"(?:[\w/]|\$\{\{(?:matrix\.\w+|strategy\.job-total)\}\})+")
# The tip of the target branch; a name of a branch only as a remote one, since a local one may be what is checked out.
_TIP = r"github\.event\.(?:pull_request\.base\.sha|merge_group\.base_sha)"
_BRANCH = r"github\.(?:base_ref|event\.pull_request\.base\.ref)"
_TARGET = re.compile(
    rf"\$\{{\{{{_TIP}(?:\|\|{_TIP})*\}}\}}|(?:refs/remotes/)?origin/(?:\$\{{\{{{_BRANCH}\}}\}}|\$GITHUB_BASE_REF|\$\{{GITHUB_BASE_REF\}}|main|master)"
)
_VARIABLE = re.compile(r"((?:refs/remotes/)?(?:origin/)?)\$(?:(\w+)|\{(\w+)\})")
# Variables that change what `releasegate` is, what it reads or what it believes.
_STEERING = re.compile(
    r"(?:PATH|ENV|HOME|CI|SHELLOPTS|BASHOPTS|IFS)|(?:LD_|DYLD_|PYTHON|BASH_|RELEASEGATE_|PYTEST_|GIT_).*"
)
_PLAIN_SHELLS = {None, "bash", "sh"}
# What is judged itself: compared with it, everything is inherited.
_HEADS = re.compile(
    r"HEAD|@|\$\{?GITHUB_(SHA|HEAD_REF)\}?|\$\{\{github\.(sha|head_ref|event\.pull_request\.head\.(sha|ref)"
    r"|event\.merge_group\.head_(sha|ref))\}\}"
)
_ALWAYS = {"always()", "true"}
_NOT_CANCELLED = {"!cancelled()", "success()||failure()", "failure()||success()"}
_SHA = r"github\.(?:sha|ref|event\.merge_group\.head_(?:sha|ref))"
_HEAD = r"github\.(?:head_ref|event\.pull_request\.head\.(?:sha|ref|repo\.full_name))"
_MERGED = {
    "ref": re.compile(rf"\$\{{\{{{_SHA}(\|\|{_SHA})*\}}\}}"),
    "repository": re.compile(r"\$\{\{github\.repository\}\}"),
}
_CHANGE_ALONE = re.compile(rf"\$\{{\{{(?:{_SHA}|{_HEAD})(\|\|(?:{_SHA}|{_HEAD}))*\}}\}}")
# Of actionlint's rules those that read the workflow only. Others ask a list of actions or runner labels, which ages.
_SURE = {"syntax-check", "events", "expression", "glob", "id", "if-cond", "job-needs", "permissions", "workflow-call"}
# A change that is judged runs no code of its own; uploading SARIF is the one thing a gate may write.
_MAY_WRITE = {"security-events"}
_EVENT = "pull_request"
_HARMLESS = (("CI", True), ("CI", "true"), ("PYTHONUNBUFFERED", 1), ("PYTHONUNBUFFERED", "1"))
_MAX_DEPTH = 3  # local actions that call local actions
_EVENTS = {_EVENT, "pull_request_target", "merge_group"}


@dataclass(frozen=True, slots=True)
class _Runner:
    """A job whose verdict the required job depends on, and the workflow that it is in.

    `around` is what holds for it too: the job that calls the workflow, the step that calls a local action.
    """

    workflow: Workflow
    job: Job
    around: tuple[Mapping[str, Any], ...] = ()

    @property
    def bodies(self) -> tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...]:
        """(place, body) of all whose `env` and `defaults` hold for each step, the nearest last."""
        outer = (((), one) for one in self.around)
        return (*outer, ((), self.workflow.body), (self.job.at, self.job.body))


@dataclass(frozen=True, slots=True)
class _Use:
    """One step (or one job that calls a reusable workflow) that runs the check; `command` where it is a command."""

    runner: _Runner
    at: tuple[str, ...]
    body: Mapping[str, Any]
    command: Command | None

    @property
    def arguments(self) -> Sequence[str]:
        """What it passes, as words of the command."""
        if self.command is not None:
            return self.command.arguments
        given = self.body.get("with")
        made: list[str] = []
        for name, value in (given if isinstance(given, Mapping) else {}).items():
            if name in {"args", "arguments", "options"}:
                made += str(value).split()
            elif value is True or str(value).lower() == "true":
                made.append(f"--{name}")
            elif value not in (None, "", False):
                made.append(f"{_INPUTS.get(name, f'--{name}')}={value}")
        return made

    @property
    def options(self) -> Sequence[str]:
        """The names of the options it passes."""
        return [one.partition("=")[0] for one in self.arguments if one.startswith("-")]

    def variable(self, name: str) -> str | None:
        """The value of an environment variable in this step, as written."""
        for body in (self.body, *(one for _, one in reversed(self.runner.bodies))):
            env = body.get("env")
            if isinstance(env, Mapping) and name in env:
                return str(env[name])
        return None


class _Judged:
    """The workflows of one repository, and what is wrong with those that are the gate."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.workflows: dict[str, Workflow] = {}
        self.gate_unread = False  # it may be in a workflow that cannot be read: that is the finding then

    # --- files ------------------------------------------------------------------------------------------------------

    def broken(self, one: Broken, top: Files) -> Finding:
        self.gate_unread = self.gate_unread or (not one.empty and "releasegate" in top.text(one.path))
        return Finding(
            message=f"GitHub runs nothing of this workflow: {one.message}",
            help=one.help,
            change="mend the workflow",
            value=one.message,
            place=self._place(one.path, one.line, one.column),
            advice=one.empty,
        )

    def stray(self, path: str, found: Workflow | Broken) -> Finding:
        runs = isinstance(found, Workflow) and any(True for job in found.jobs for _ in self._uses(_Runner(found, job)))
        return Finding(
            message=f"GitHub runs no workflow in a folder below {FOLDER}",
            help=f"move it to {FOLDER}/",
            change=f"move {path}",
            value=path,
            place=self._place(path),
            advice=not runs,
        )

    def all(self) -> Iterator[Finding | Unjudged]:
        """Judge the workflows that run the check."""
        ours = [one for one in self.workflows.values() if self._runs(one)]
        for workflow in ours:
            yield from self._safe(workflow)
        gates = self._gates(ours)
        idle = None if gates else self._idle(mentioned=not ours)
        if self.gate_unread and not gates:
            return
        if idle is not None:
            yield self._runs_nothing(idle)
        elif ours and not gates:
            yield self._finding(
                ours[0],
                ("jobs",),
                f"the check runs here, but no job `{GATE}` runs it for pull requests",
                f"write a workflow `on: pull_request` and `merge_group` with a job `{GATE}`",
                f"run the check in a job {GATE}",
            )
        elif not ours and self.workflows and self.evidence.config.exists:
            yield Finding(
                message=f"no workflow in {FOLDER} runs `releasegate check`",
                help="`releasegate explain gate/workflow` shows one; in a script it cannot be seen, so call it there",
                change="run the check",
                place=Place(path=self.evidence.config.path),
                advice=True,
            )
        for gate in gates:
            yield from self._required(gate)

    def by_actionlint(self) -> Iterator[Finding | Unjudged]:
        """Ask actionlint where it is installed; what it says of other people's workflows is advice."""
        tool = self.evidence.shared.tool("actionlint") if self.workflows else None
        if not isinstance(tool, Tool):
            return
        top = self.evidence.shared.top
        said = actionlint.judge(tool, {path: top.text(path) for path in self.workflows})
        if isinstance(said, actionlint.Unavailable):
            yield Unjudged(
                reason=said.reason,
                remedy="releasegate tools install actionlint, or take it off PATH",
                group="actionlint gives no answer",
                place=self._place(FOLDER),
            )
            return
        for one in said:
            yield Finding(
                message=f"actionlint: {one.message} [{one.kind}]",
                help="mend the workflow as actionlint says",
                change=f"mend {one.kind}: {one.message}",
                value=one.message,
                place=self._place(one.path, one.line, one.column),
                advice=one.kind not in _SURE or not self._runs(self.workflows[one.path]),
            )

    # --- which job is the gate --------------------------------------------------------------------------------------

    def _runs(self, workflow: Workflow) -> bool:
        return any(self._reached(_Runner(workflow, job)) for job in workflow.jobs)

    def _reached(self, runner: _Runner) -> list[_Use]:
        """The uses of the check in a job, and in the workflow of this repository that it calls."""
        called = self._called(runner)
        inside = [] if called is None else [use for job in called.jobs for use in self._uses(_Runner(called, job))]
        return [*self._uses(runner), *inside]

    def _uses(self, runner: _Runner, depth: int = 0) -> list[_Use]:
        job = runner.job
        if job.uses is not None:
            return [_Use(runner, job.at, job.body, None)] if _OURS.fullmatch(job.uses) else []
        found: list[_Use] = []
        for step in job.steps:
            used = _command(runner, step)
            if used is not None and used.subcommand == "check":
                found.append(_Use(runner, step.at, step.body, used))
            elif step.uses is not None and _OURS.fullmatch(step.uses):
                found.append(_Use(runner, step.at, step.body, None))
            elif step.uses is not None and step.uses.startswith("./") and depth < _MAX_DEPTH:
                found += self._local(runner, step, depth)
        return found

    def _local(self, runner: _Runner, step: Step, depth: int) -> list[_Use]:
        """The uses in a local action: a condition or an excuse of the calling step holds for each."""
        folder = (step.uses or "").removeprefix("./").strip("/")
        top = self.evidence.shared.top
        path = next((one for name in ("action.yml", "action.yaml") if (one := f"{folder}/{name}") in top), None)
        try:
            action = None if path is None else composite(path, top.text(path))
        except Unreadable:
            action = None
        if action is None:
            return []
        around = (*(body for _, body in runner.bodies), step.body)
        inside = self._uses(_Runner(action, action.jobs[0], around), depth + 1)
        spoilt = {name: step.body[name] for name in ("if", "continue-on-error") if name in step.body}
        return [_Use(use.runner, use.at, {**use.body, **spoilt}, use.command) for use in inside]

    def _called(self, runner: _Runner) -> Workflow | None:
        uses = runner.job.uses or ""
        found = self.workflows.get(uses.removeprefix("./")) if uses.startswith("./") else None
        return None if found is runner.workflow else found

    def _gates(self, ours: Sequence[Workflow]) -> list[_Runner]:
        """The jobs called gate; where there is none, those at the end of a pull request's workflow that run the check."""
        started = [one for one in ours if _EVENTS & set(one.triggers)] or [
            one for one in ours if "workflow_call" not in one.triggers
        ]
        jobs = [_Runner(workflow, job) for workflow in started for job in workflow.jobs]
        named = [one for one in jobs if GATE in (one.job.id, one.job.context)]
        if named:
            return named
        needed = {(workflow.path, name) for workflow in started for job in workflow.jobs for name in job.needs}
        last = [one for one in jobs if (one.workflow.path, one.job.id) not in needed]
        return [
            one
            for one in last
            if _EVENTS & set(one.workflow.triggers) and any(self._reached(other) for other in self._runners(one))
        ]

    def _idle(self, *, mentioned: bool) -> _Runner | None:
        """A job called gate in a pull request's workflow, though it runs no check; `mentioned`: it names releasegate."""
        for workflow in self.workflows.values():
            for job in workflow.jobs:
                named = GATE in (job.id, job.context) and bool(_EVENTS & set(workflow.triggers))
                if named and (not mentioned or any("releasegate" in text for text in strings(job.body))):
                    return _Runner(workflow, job)
        return None

    def _runs_nothing(self, gate: _Runner) -> Finding:
        return self._finding(
            gate.workflow,
            gate.job.at,
            f"the job {gate.job.id} does not run `releasegate check`, nor does a job it needs",
            "run `releasegate check --base …` in it, or name the job that does in its `needs`",
            "run the check in the required job",
        )

    def _runners(self, gate: _Runner) -> list[_Runner]:
        """The job, those it waits for, directly or not, and those of the workflows they call."""
        known = {job.id: job for job in gate.workflow.jobs}
        found: dict[str, Job] = {}
        waiting = [gate.job.id]
        while waiting:
            name = waiting.pop()
            if name in known and name not in found:
                found[name] = known[name]
                waiting += known[name].needs
        own = [_Runner(gate.workflow, job) for job in found.values()]
        called = [(runner, inside) for runner in own if (inside := self._called(runner)) is not None]
        return [*own, *(_Runner(one, job, (runner.job.body,)) for runner, one in called for job in one.jobs)]

    # --- the required job -------------------------------------------------------------------------------------------

    def _required(self, gate: _Runner) -> Iterator[Finding | Unjudged]:
        runners = self._runners(gate)
        uses = [use for runner in runners for use in self._uses(runner)]
        yield from self._started(gate.workflow)
        yield from self._never_skipped(gate)
        for runner in runners:
            yield from self._may_fail(runner)
            yield from self._environment(runner)
            if self._uses(runner):
                yield from self._whole_tree(runner)
                if runner.workflow is not gate.workflow:
                    yield from self._never_skipped(runner)
        if not uses:
            yield self._runs_nothing(gate)
            return
        yield from self._step(uses)
        shares = [use for use in uses if "--shard" in use.options]
        called = self._called(gate)
        inside = (gate.job, *(called.jobs if called is not None else ()))
        at_home = {id(job.body) for job in inside}
        if shares or not all({id(use.runner.job.body), *map(id, use.runner.around)} & at_home for use in uses):
            yield from self._joined(gate, shares, uses)
        elif _matrix(gate.job):
            yield self._finding(
                gate.workflow,
                (*gate.job.at, "strategy"),
                f"a matrix makes of {gate.job.id} several checks, and none of them is called {gate.job.context}",
                f"call it otherwise, and let a job `{GATE}` join it: `needs` and `if: always()`",
                "join the matrix",
            )
        yield from self._same_name(gate)

    def _started(self, workflow: Workflow) -> Iterator[Finding]:
        triggers = workflow.triggers
        if _EVENT not in triggers and "pull_request_target" not in triggers:
            yield self._on(
                workflow, "pull_request is missing: a pull request is judged by nobody", "add `pull_request:`"
            )
        if "merge_group" not in triggers:
            said = (
                "merge_group is missing: in a merge queue the required check never reports, or nobody judges the group"
            )
            yield self._on(workflow, said, "add `merge_group:`")
        for event in (_EVENT, "merge_group"):
            yield from self._filters(workflow, event, triggers.get(event, {}))

    def _filters(self, workflow: Workflow, event: str, filters: Mapping[str, Any]) -> Iterator[Finding]:
        for name in ("paths", "paths-ignore"):
            if name in filters:
                yield self._finding(
                    workflow,
                    ("on", event, name),
                    f"{name}: a change outside the filter starts no check, and the required one stays pending for ever",
                    f"remove `{name}`: `releasegate check --base` is quick where nothing changed",
                    f"remove {name}",
                )
        branch = self.evidence.repo.tree.branch
        for name in ("branches", "branches-ignore"):
            if name in filters:
                patterns = [*strings(filters[name])]
                hit = False
                for one in patterns:  # the last that fits decides
                    if fnmatch.fnmatchcase(branch or "", one.removeprefix("!")):
                        hit = not one.startswith("!")
                left_out = branch in {"main", "master"} and hit == (name == "branches-ignore")
                yield self._finding(
                    workflow,
                    ("on", event, name),
                    f"{name}: changes of {branch if left_out else 'other branches'} start no check",
                    f"remove `{name}`",
                    f"remove {name}",
                    advice=not left_out,
                )
        types = {*strings(filters.get("types"))}
        wanted = {"opened", "synchronize"} if event == _EVENT else {"checks_requested"}
        missing = wanted - types if types else set()
        if missing:
            yield self._finding(
                workflow,
                ("on", event, "types"),
                f"types without {' and '.join(sorted(missing))}: what is pushed then starts no check",
                "remove `types`",
                "remove types",
            )

    def _on(self, workflow: Workflow, message: str, fix: str) -> Finding:
        return self._finding(workflow, ("on",), message, f"{fix} below `on:`", fix)

    def _never_skipped(self, gate: _Runner) -> Iterator[Finding]:
        job = gate.job
        condition = _condition(job.body)
        if condition is not None and condition not in _ALWAYS and (job.needs or condition != "success()"):
            yield self._finding(
                gate.workflow,
                (*job.at, "if"),
                f"`if` can be false, and a required job that is skipped counts as passed: {job.body['if']}",
                "write `if: always()`" if job.needs else "remove the `if`",
                "remove the condition of the job",
                advice=condition in _NOT_CANCELLED,
            )
        elif condition is None and job.needs:
            yield self._finding(
                gate.workflow,
                (*job.at, "needs"),
                f"when {' or '.join(job.needs)} fails this job is skipped, and a required job that is skipped counts as "
                "passed",
                "write `if: always()`, and fail in a step unless every `needs.*.result` is `success`",
                "run the job always",
            )

    def _may_fail(self, runner: _Runner) -> Iterator[Finding]:
        if runner.job.body.get("continue-on-error", False) is not False:
            yield self._finding(
                runner.workflow,
                (*runner.job.at, "continue-on-error"),
                f"continue-on-error: the workflow passes also when its job {runner.job.id} fails",
                "remove `continue-on-error`",
                "remove continue-on-error",
            )

    def _environment(self, runner: _Runner) -> Iterator[Finding | Unjudged]:
        """No variable changes what the command is, nor what it believes."""
        container = runner.job.body.get("container")
        places = [*runner.bodies[len(runner.around) :], *((one.at, one.body) for one in runner.job.steps)]
        if isinstance(container, Mapping):
            places.append(((*runner.job.at, "container"), container))
        for at, body in places:
            env = body.get("env")
            if env is not None and not isinstance(env, Mapping):
                yield self._unknown(runner.workflow, (*at, "env"), "its `env` is no mapping", "write `env` out")
            for name, value in env.items() if isinstance(env, Mapping) else ():
                if name == "CI" and str(value).lower() in {"", "0", "false", "none", "no", "off"}:
                    yield self._finding(
                        runner.workflow,
                        (*at, "env", "CI"),
                        "CI is switched off: uncommitted files would be judged, and renders of other runs believed",
                        "remove `CI` from `env`",
                        "remove CI",
                    )
                elif _STEERING.fullmatch(name.upper()) and (name, value) not in _HARMLESS:
                    said = f"{name} in `env` may change what `releasegate check` is or judges"
                    yield self._unknown(runner.workflow, (*at, "env", name), said, f"remove `{name}` from `env`")
        for step in runner.job.steps:
            if step.run is not None and re.search(r"GITHUB_(?:ENV|PATH)\b", step.run):
                said = "a step writes GITHUB_ENV or GITHUB_PATH, which may change what `releasegate check` is"
                yield self._unknown(runner.workflow, (*step.at, "run"), said, "do this in a job of its own")

    def _inside(self, runner: _Runner) -> Sequence[Job]:
        called = self._called(runner)
        return () if called is None else called.jobs

    def _joined(self, gate: _Runner, shares: Sequence[_Use], uses: Sequence[_Use]) -> Iterator[Finding | Unjudged]:
        own = [use for use in shares if use.runner.job is gate.job]
        if own:
            yield self._finding(
                gate.workflow,
                own[0].at,
                f"{GATE} judges one share only (--shard)",
                f"call it otherwise, and let a job `{GATE}` join the shares: `needs`, `if: always()`, `report merge`",
                "join the shards",
            )
            return
        text = " ".join(strings(gate.job.body))
        words = {one for one in ("success", "failure", "cancelled", "skipped") if re.search(rf"\b{one}\b(?!\()", text)}
        looks = re.search(r"\bneeds\.[\w*-]+\.result\b|toJSON\(\s*needs", text, re.IGNORECASE)
        strict = "success" in words or {"failure", "cancelled", "skipped"} <= words or "alls-green@" in text
        if not looks or not strict:
            yield self._finding(
                gate.workflow,
                (*gate.job.at, "steps"),
                f"{gate.job.id} passes also when {' or '.join(gate.job.needs)} "
                f"{'was skipped or cancelled' if looks else 'fails'}",
                "write a step that fails unless every result is success: `if: contains(needs.*.result, 'failure') || "
                "contains(needs.*.result, 'cancelled') || contains(needs.*.result, 'skipped')` with `run: exit 1`",
                "demand success of the jobs it needs",
            )
        elif not _demands_success(gate):
            said = f"whether {gate.job.id} fails unless every job it needs is a success cannot be told"
            fix = "write the step as `releasegate explain gate/workflow` has it, for each job of `needs`"
            yield self._unknown(gate.workflow, (*gate.job.at, "steps"), said, fix)
        else:
            needed = [job for job in gate.workflow.jobs if job.id in (*gate.job.needs, gate.job.id)]
            direct = {id(job.body) for job in needed}
            direct |= {id(job.body) for one in needed for job in self._inside(_Runner(gate.workflow, one))}
            for use in uses:
                if not {id(use.runner.job.body), *map(id, use.runner.around)} & direct:
                    said = f"{gate.job.id} does not need {use.runner.job.id} itself, so its failure may stay unseen"
                    fix = f"add {use.runner.job.id} to `needs`"
                    yield self._unknown(gate.workflow, (*gate.job.at, "needs"), said, fix)
        merges = [
            used
            for step in gate.job.steps
            if (used := _command(gate, step)) is not None
            and (used.subcommand, *used.arguments[:1]) == ("report", "merge")
            and not {"if", "continue-on-error", "shell"} & set(step.body)
        ]
        if shares and not merges:
            yield self._finding(
                gate.workflow,
                gate.job.at,
                f"{gate.job.id} does not look whether the shards together judged everything",
                "download their reports and run `releasegate report merge FILE...`, which wants a complete one",
                "merge the reports of the shards",
            )

    def _same_name(self, gate: _Runner) -> Iterator[Finding | Unjudged]:
        called = gate.job.context
        for workflow in self.workflows.values():
            if set(workflow.triggers) == {"workflow_call"}:  # its checks are called after the job that calls it, too
                continue
            for job in workflow.jobs:
                if job is gate.job and "${{" not in called:
                    continue
                same = _may_be(job, called)
                if same:
                    yield self._finding(
                        workflow,
                        job.at,
                        f"this job's check is called {called} too, like the required one in {gate.workflow.path}: "
                        "whichever passes counts",
                        "call it otherwise",
                        f"rename this job {called}",
                    )
                elif same is None:
                    said = (
                        f"the name of this job's check may be {called}, like the required one in {gate.workflow.path}"
                    )
                    yield self._unknown(workflow, (*job.at, "name"), said, "write a name without an expression")

    # --- the step ---------------------------------------------------------------------------------------------------

    def _step(self, uses: Sequence[_Use]) -> Iterator[Finding | Unjudged]:
        """One step that judges everything is enough; shares are judged each."""
        answers = [(use, list(self._faults(use))) for use in uses]
        if any(not faults and "--shard" not in use.options for use, faults in answers):
            return
        for _, faults in answers:
            yield from faults

    def _faults(self, use: _Use) -> Iterator[Finding | Unjudged]:
        workflow = use.runner.workflow
        condition = _condition(use.body) if use.at != use.runner.job.at else None
        if condition is not None and condition not in {*_ALWAYS, "success()", "success()||failure()", "!cancelled()"}:
            yield self._finding(
                workflow,
                (*use.at, "if"),
                f"the step is skipped where this is false, and the job passes: {use.body['if']}",
                "remove the `if`",
                "remove the condition of the step",
            )
        if use.at != use.runner.job.at and use.body.get("continue-on-error", False) is not False:
            yield self._finding(
                workflow,
                (*use.at, "continue-on-error"),
                "continue-on-error: the job passes also when the check fails",
                "remove `continue-on-error`",
                "remove continue-on-error",
            )
        yield from self._surroundings(use)
        where = (*use.at, "with" if use.command is None else "run")
        if use.command is not None and use.command.fault is not None:
            said = f"the step's exit code has to be that of the check: {use.command.fault}"
            yield self._finding(workflow, where, said, f"write `{_COMMAND}` on a line of its own", "let it count")
        elif use.command is not None and use.command.unclear is not None:
            said = f"whether `releasegate check` always runs cannot be told: {use.command.unclear}"
            yield self._unknown(workflow, where, said, f"make `run: {_COMMAND}` the whole step")
        elif narrowing := [one for one in dict.fromkeys(use.options) if one in _NARROWING]:
            for option in narrowing:
                yield self._finding(
                    workflow,
                    where,
                    f"{option} {_NARROWING[option]}, and this is the required check",
                    f"remove `{option}`; `--shard I/N` in a matrix spreads the work",
                    f"remove {option}",
                )
        else:
            yield from self._arguments(use, where)

    def _surroundings(self, use: _Use) -> Iterator[Unjudged]:
        """The shell is one whose exit code is that of the last command, and the folder the root of the repository."""
        places = [*use.runner.bodies, (use.at, use.body)]
        for at, body in places:
            defaults = body.get("defaults", {}) if body is not use.body else {"run": body}
            run = defaults.get("run", {}) if isinstance(defaults, Mapping) else None
            if not isinstance(run, Mapping):
                said, fix = "its `defaults` cannot be read", "write them out"
            elif run.get("shell") not in _PLAIN_SHELLS:
                said, fix = f"the shell is {run['shell']}", "remove `shell`"
            elif str(run.get("working-directory", ".")).strip("/") not in self._roots:
                said, fix = f"it runs in {run['working-directory']}", "remove `working-directory`"
            else:
                continue
            said = (
                f"whether the exit code is that of `releasegate check` on the whole repository cannot be told: {said}"
            )
            yield self._unknown(use.runner.workflow, at or ("defaults",), said, fix)

    @property
    def _roots(self) -> set[str]:
        return {".", self.evidence.repo.tree.prefix.strip("/") or "."}

    def _arguments(self, use: _Use, where: tuple[str, ...]) -> Iterator[Finding | Unjudged]:
        """Each argument is one that is known to leave the verdict whole."""
        workflow = use.runner.workflow
        bases: list[str] = []
        words = iter(use.arguments)
        for word in words:
            name, equals, value = word.partition("=")
            if name in {"--base", "--shard", *_FILES} and not equals:
                value = next(words, "")
            value = "".join(value.split())
            if name == "--base":
                bases.append(value)
            elif name == "--shard":
                known = bool(_SHARE.fullmatch(value)) and _plain_matrix(use.runner.job, value)
            elif name in _FILES:
                known = bool(_FILE.fullmatch(value)) and _plain_matrix(use.runner.job, value)
            else:
                known = word == "--github" or word in self._roots
            if name != "--base" and not known:
                said = f"whether `{word}` leaves the verdict whole is not known"
                yield self._unknown(workflow, where, said, f"make `run: {_COMMAND}` the whole step")
        if len(bases) > 1:
            yield self._unknown(workflow, where, "--base is passed twice", "pass it once")
        elif bases:
            yield from self._base(use, bases[0], where)
        elif use.command is not None:
            yield self._finding(
                workflow,
                where,
                "without --base what was red before this change is red again for whoever comes next",
                f'write `--base "$BASE"` with BASE: {_BASE}',
                "pass --base",
            )

    def _base(self, use: _Use, written: str, where: tuple[str, ...]) -> Iterator[Finding | Unjudged]:
        base = written
        variable = _VARIABLE.fullmatch(written)
        if variable is not None and (value := use.variable(variable[2] or variable[3])) is not None:
            base = variable[1] + "".join(value.split())
        if _HEADS.fullmatch(base):
            yield self._finding(
                use.runner.workflow,
                where,
                f"--base {base} is what is judged itself: everything in it counts as inherited",
                f"name the tip of the target branch: {_BASE}",
                "pass the target branch to --base",
            )
        elif not _TARGET.fullmatch(base):
            said = f"whether --base {base} is the tip of the target branch cannot be told"
            yield self._unknown(use.runner.workflow, where, said, f'write `--base "$BASE"` with BASE: {_BASE}')

    # --- what it may do ---------------------------------------------------------------------------------------------

    def _safe(self, workflow: Workflow) -> Iterator[Finding]:
        """What holds for each workflow that runs the check, a scheduled one too."""
        if "pull_request_target" in workflow.triggers:
            yield self._finding(
                workflow,
                ("on", "pull_request_target"),
                "pull_request_target runs with the secrets and the token of the target branch on what a stranger wrote",
                "write `pull_request:`",
                "replace pull_request_target",
            )
        yield from self._permissions(workflow)
        for job in workflow.jobs:
            for at, uses, given in _actions(job):
                if not _PINNED.fullmatch(uses):
                    yield self._finding(
                        workflow,
                        (*at, "uses"),
                        f"{uses} is not pinned by commit: whoever can move the tag runs code in the check",
                        f"write {uses.partition('@')[0]}@<the commit's 40 digits> # {uses.partition('@')[2]}",
                        f"pin {uses}",
                    )
                keeps = given.get("persist-credentials")
                if _checkout(uses) and str(keeps).lower() != "false":
                    yield self._finding(
                        workflow,
                        (*at, "uses"),
                        "the checkout leaves the job's token in .git/config, inside the tree that is judged",
                        "write `persist-credentials: false` below `with:`",
                        "do not persist the credentials",
                    )

    def _permissions(self, workflow: Workflow) -> Iterator[Finding]:
        top = workflow.body.get("permissions")
        lacking = [job for job in workflow.jobs if "permissions" not in job.body]
        if top is None and "permissions" not in workflow.body and lacking:
            called = set(workflow.triggers) == {"workflow_call"}  # it has what its caller has
            if not called:
                yield self._finding(
                    workflow,
                    ("on",),
                    "no `permissions`: the token may do whatever is the default of the repository",
                    "write `permissions:` with `contents: read`",
                    "name the permissions",
                )
        places: list[tuple[tuple[str, ...], Any]] = [(("permissions",), top)]
        places += [((*job.at, "permissions"), job.body.get("permissions")) for job in workflow.jobs]
        for at, value in places:
            if value == "write-all":
                yield self._writes(workflow, at, "everything")
            elif isinstance(value, Mapping):
                for name, level in value.items():
                    if level == "write" and name not in _MAY_WRITE:
                        yield self._writes(workflow, (*at, name), name)

    def _writes(self, workflow: Workflow, at: tuple[str, ...], name: str) -> Finding:
        return self._finding(
            workflow,
            at,
            f"the check's token may write {name}, and the check writes nothing",
            "write `contents: read`; what comments or deploys belongs to a workflow of its own",
            f"take write access to {name} away",
        )

    def _whole_tree(self, runner: _Runner) -> Iterator[Finding | Unjudged]:
        """What is checked out is the commit that would be merged, whole."""
        for at, uses, given in _actions(runner.job):
            if not _checkout(uses):
                continue
            if str(given.get("path") or ".") not in {".", "./"}:
                said = f"what is checked out into {given['path']} lies in the tree that is judged, or is all of it"
                yield self._unknown(
                    runner.workflow, (*at, "with", "path"), said, "remove `path`, or use a job of its own"
                )
            if "sparse-checkout" in given:
                yield self._finding(
                    runner.workflow,
                    (*at, "with", "sparse-checkout"),
                    "sparse-checkout: files that are not checked out are judged by nobody",
                    "remove `sparse-checkout`",
                    "check out everything",
                )
            for name, allowed in _MERGED.items():
                value = str(given.get(name) or "")
                bare = "".join(value.split())
                if value and not allowed.fullmatch(bare):
                    yield self._finding(
                        runner.workflow,
                        (*at, "with", name),
                        f"{name}: {value} is not what would be merged, and that is what has to be judged",
                        f"remove `{name}`",
                        f"check out the default {name}",
                        advice=bool(_CHANGE_ALONE.fullmatch(bare)),
                    )

    # --- findings ---------------------------------------------------------------------------------------------------

    def _finding(
        self,
        workflow: Workflow,
        at: tuple[str, ...],
        message: str,
        fix: str,
        change: str,
        *,
        advice: bool = False,
    ) -> Finding:
        return Finding(
            message=message,
            help=fix,
            change=change,
            value=message,
            place=self._place(workflow.path, workflow.line(*at)),
            advice=advice,
        )

    def _unknown(self, workflow: Workflow, at: tuple[str, ...], reason: str, remedy: str) -> Unjudged:
        return Unjudged(
            reason=f"{workflow.path}: {reason}",
            remedy=remedy,
            group=f"the gate is not known to be one: {reason}",
            place=self._place(workflow.path, workflow.line(*at)),
        )

    def _place(self, path: str, line: int | None = None, column: int | None = None) -> Place:
        return Place(path=tree_path(path, self.evidence.repo.tree.prefix), line=line, column=column)


# --- reading a job --------------------------------------------------------------------------------------------------


def _command(runner: _Runner, step: Step) -> Command | None:
    if step.run is None or "releasegate" not in step.run:
        return None
    shells = [step.body.get("shell")]
    for _, body in reversed(runner.bodies):
        defaults = body.get("defaults")
        run = defaults.get("run") if isinstance(defaults, Mapping) else None
        shells.append(run.get("shell") if isinstance(run, Mapping) else None)
    return command(step.run, next((one for one in shells if isinstance(one, str)), None))


def _checkout(uses: str) -> bool:
    return uses.lower().startswith("actions/checkout@")


_ALL = "||".join(f"contains(needs.*.result,'{one}')" for one in ("failure", "cancelled", "skipped"))
_TEST = re.compile(r"""test "?\$\{\{needs\.([\w-]+)\.result\}\}"? = "?'?success'?"?""")


def _demands_success(gate: _Runner) -> bool:
    """Whether its steps fail, in a shape that is known, unless every job of `needs` is a success."""
    if any("defaults" in body for _, body in gate.bodies):
        return False
    sure: set[str] = set()
    for step in gate.job.steps:
        given = step.body.get("with")
        alone = "if" not in step.body and isinstance(given, Mapping) and set(given) == {"jobs"}
        if step.uses is not None and re.fullmatch(r"re-actors/alls-green@[0-9a-f]{40}", step.uses) and alone:
            return "".join(str(given["jobs"] if given else "").split()) == "${{toJSON(needs)}}"
        if step.run is None or not set(step.body) <= {"name", "if", "run"}:
            continue
        condition, script = _condition(step.body), step.run.strip()
        if script == "exit 1" and condition in {_ALL, f"always()&&({_ALL})"}:
            return True
        if script == "exit 1" and condition is not None:
            parts = [re.fullmatch(r"needs\.([\w-]+)\.result!='success'", one) for one in condition.split("||")]
            sure |= {one[1] for one in parts if one} if all(parts) else set()
        tested = _TEST.fullmatch(re.sub(r"(?<=\{)\s+|\s+(?=\})", "", script))
        if condition is None and tested:
            sure.add(tested[1].lower())
    return {one.lower() for one in gate.job.needs} <= sure


def _may_be(job: Job, name: str) -> bool | None:
    """Whether a job's check is called so; None where its name is an expression that may be."""
    if "${{" not in job.context:
        return job.context == name
    fixed = re.split(r"\$\{\{.*?\}\}", job.context)
    if not re.fullmatch(".*".join(map(re.escape, fixed)), name):
        return False
    strategy = job.body.get("strategy")
    known = re.fullmatch(r"[^$]*\$\{\{\s*matrix\.[\w-]+\s*\}\}[^$]*", job.context) and isinstance(strategy, Mapping)
    texts = [*strings(strategy)]
    if not known or any("${{" in one for one in texts):
        return None
    return any(fixed[0] + one + fixed[1] == name for one in texts)


def _plain_matrix(job: Job, word: str) -> bool:
    """Whether what a matrix puts into a word is a word: of letters, digits and the like."""
    if "${{matrix." not in word:
        return True
    strategy = job.body.get("strategy")
    return isinstance(strategy, Mapping) and all(re.fullmatch(r"[\w./-]*", one) for one in strings(strategy))


def _actions(job: Job) -> Iterator[tuple[tuple[str, ...], str, Mapping[str, Any]]]:
    """(where, what, with) of each action and reusable workflow a job uses."""
    for at, body in ((job.at, job.body), *((step.at, step.body) for step in job.steps)):
        uses, given = body.get("uses"), body.get("with")
        if isinstance(uses, str):
            yield at, uses, given if isinstance(given, Mapping) else {}


def _condition(body: Mapping[str, Any]) -> str | None:
    """An `if` without blanks and `${{ }}`; None where there is none."""
    if body.get("if") is None:
        return None
    text = "".join(str(body["if"]).split())
    inner = re.fullmatch(r"\$\{\{(.*)\}\}", text)
    return (inner[1] if inner else text).lower()


def _matrix(job: Job) -> bool:
    strategy = job.body.get("strategy")
    return strategy is not None and (not isinstance(strategy, Mapping) or "matrix" in strategy)
