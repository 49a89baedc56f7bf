"""gate/workflow: each way in which the required check is green, or absent, without having judged the change."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from releasegate.config import Config
from releasegate.evaluate import judge
from releasegate.model import CaseId, Finding, Level, Outcome, Place, Repo, ToolIdentity, Tree, Verdict
from releasegate.rules import Evidence, Shared, catalogue
from releasegate.tools import actionlint, store

RULE = next(one for one in catalogue() if one.id == "gate/workflow")
GOOD = textwrap.dedent(RULE.doc.split("Good:", 1)[1]).lstrip("\n")
GATE = ".github/workflows/releasegate.yml"
LINT = "on: [push]\njobs:\n  lint:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: acme/lint@v1\n"
CHECK = 'releasegate check --base "$BASE"'
BASE = "${{ github.event.merge_group.base_sha || github.event.pull_request.base.sha }}"
SHA = "11bd71901bbe5b1630ceea73d27597364c9af683"


def verdict(root: Path, *, config: bool = True, branch: str | None = None, prefix: str = "", **texts: str) -> Verdict:
    """Judge the workflows `texts` (name without .yml -> text; the name "gate" stands for releasegate.yml)."""
    for name, text in texts.items():
        path = root / ".github/workflows" / f"{name.replace('__', '/').replace('gate', 'releasegate')}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())
    (root / prefix).mkdir(exist_ok=True)
    tree = Tree(root=str(root / prefix), files=() if prefix else tuple(found), prefix=prefix, branch=branch)
    evidence = Evidence(
        repo=Repo(tree=tree, environments=(), releases=()),
        config=Config(exists=config),
        environment=None,
        release=None,
        renders=(),
        shared=Shared(tree, whole=lambda: Tree(root=str(root), files=tuple(found))),
    )
    return judge(RULE, CaseId(rule=RULE.id), evidence, Level.ON)


def red(root: Path, text: str, **others: Any) -> list[Finding]:
    judged = verdict(root, gate=text, **others)
    assert not judged.unjudged, judged.unjudged
    return [one for one in judged.findings if not one.advice]


def replaced(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def with_job(lines: str) -> str:
    return replaced("    runs-on: ubuntu-24.04\n", f"    runs-on: ubuntu-24.04\n{textwrap.indent(lines, '    ')}\n")


def with_step(lines: str) -> str:
    return replaced("        env:\n", f"{textwrap.indent(lines, '        ')}\n        env:\n")


def running(script: str) -> str:
    return replaced(f"run: {CHECK}", f"run: |\n{textwrap.indent(script, ' ' * 10)}")


def test_the_good_example_of_the_page_is_good_and_the_bad_one_bad(tmp_path: Path) -> None:
    assert red(tmp_path / "good", GOOD) == []
    bad = textwrap.dedent(RULE.doc.split("Bad:", 1)[1].split("Good:")[0])
    assert {one.change for one in red(tmp_path / "bad", bad)} == {
        "remove paths",
        "add `merge_group:`",
        "name the permissions",
        "pin actions/checkout@v4",
        "do not persist the credentials",
        "let it count",
    }


@pytest.mark.parametrize(
    ("text", "change", "line"),
    [
        (replaced("pull_request:", "push:"), "add `pull_request:`", "on:"),
        (replaced("  merge_group:\n", ""), "add `merge_group:`", "on:"),
        (
            replaced("  merge_group:\n", "").replace("on:\n  pull_request:", "on: pull_request"),
            "add `merge_group:`",
            "on:",
        ),
        (replaced("pull_request:", "pull_request_target:"), "replace pull_request_target", "  pull_request_target:"),
        (replaced("pull_request:", "pull_request:\n    paths: ['helm/**']"), "remove paths", "    paths: "),
        (
            replaced("pull_request:", "pull_request:\n    paths-ignore: ['*.md']"),
            "remove paths-ignore",
            "    paths-ignore",
        ),
        (replaced("pull_request:", "pull_request:\n    types: [opened]"), "remove types", "    types: [opened]"),
        (replaced("contents: read", "contents: write"), "take write access to contents away", "  contents: write"),
        (
            replaced("permissions:\n  contents: read", "permissions: write-all"),
            "take write access to everything away",
            "",
        ),
        (replaced("permissions:\n  contents: read\n", ""), "name the permissions", "on:"),
        (
            with_job("permissions: {pull-requests: write}"),
            "take write access to pull-requests away",
            "    permissions: {",
        ),
        (with_job("if: github.actor != 'bot'"), "remove the condition of the job", "    if: "),
        (with_job("if: ${{ failure() }}"), "remove the condition of the job", "    if: "),
        (with_job("continue-on-error: true"), "remove continue-on-error", "    continue-on-error"),
        (
            with_job("continue-on-error: ${{ github.actor == 'bot' }}"),
            "remove continue-on-error",
            "    continue-on-error",
        ),
        (with_job("strategy: {matrix: {n: [1, 2]}}"), "join the matrix", "    strategy"),
        (with_job("env: {CI: 'false'}"), "remove CI", "    env: {CI"),
        (with_step("if: github.event_name == 'pull_request'"), "remove the condition of the step", "        if: "),
        (with_step("continue-on-error: true"), "remove continue-on-error", "        continue-on-error"),
        (replaced(SHA, "v4"), "pin actions/checkout@v4", "actions/checkout@v4"),
        (replaced(SHA, SHA[:7]), f"pin actions/checkout@{SHA[:7]}", "actions/checkout@"),
        (replaced("          persist-credentials: false\n", ""), "do not persist the credentials", "actions/checkout"),
        (replaced("fetch-depth: 0", "ref: main"), "check out the default ref", "ref: main"),
        (replaced("fetch-depth: 0", "sparse-checkout: helm"), "check out everything", "sparse-checkout"),
        (replaced("fetch-depth: 0", "repository: acme/other"), "check out the default repository", "repository:"),
        (replaced(CHECK, "releasegate check"), "pass --base", "releasegate check"),
        (replaced(CHECK, "releasegate check --base HEAD"), "pass the target branch to --base", "--base HEAD"),
        (replaced(CHECK, "releasegate check --base ${{ github.sha }}"), "pass the target branch to --base", "--base"),
        (replaced(CHECK, f"{CHECK} --env prod"), "remove --env", "--env prod"),
        (replaced(CHECK, f"{CHECK} --release=api"), "remove --release", "--release=api"),
        (replaced(CHECK, f"{CHECK} --rule 'images/*'"), "remove --rule", "--rule"),
        (replaced(CHECK, f"{CHECK} --changed"), "remove --changed", "--changed"),
        (replaced(CHECK, f"{CHECK} --help"), "remove --help", "--help"),
        (replaced(CHECK, f"{CHECK} --shard 1/4"), "join the shards", ""),
        (replaced(CHECK, f"{CHECK} || true"), "let it count", "|| true"),
        (replaced(CHECK, f"{CHECK} || echo failed"), "let it count", "|| echo"),
        (replaced(CHECK, f"{CHECK} | tee log"), "let it count", "| tee"),
        (replaced(BASE, "HEAD"), "pass the target branch to --base", "run:"),
        (running(f"set +e\n{CHECK}\necho done"), "let it count", "run: |"),
        (replaced(CHECK, "make gate"), None, None),
    ],
)
def test_one_fault_is_one_finding_on_its_line(tmp_path: Path, text: str, change: str | None, line: str | None) -> None:
    found = red(tmp_path, text)
    if change is None:
        assert found == []
        return
    assert [one.change for one in found] == [change]
    place = found[0].place
    assert place is not None
    assert place.path == GATE
    assert place.line is not None
    assert (line or "") in text.splitlines()[place.line - 1]
    assert found[0].help


@pytest.mark.parametrize(
    "text",
    [
        replaced("on:\n", '"on":\n'),
        replaced("on:\n  pull_request:\n  merge_group:", "on: [pull_request, merge_group]"),
        replaced("pull_request:", "push: {branches: [main], paths: [x]}\n  pull_request:"),
        replaced("pull_request:", "pull_request: {types: [opened, synchronize, reopened, edited]}"),
        replaced("contents: read", "contents: read\n  security-events: write"),
        replaced("permissions:\n  contents: read", "permissions: read-all"),
        replaced("permissions:\n  contents: read", "permissions: {}"),
        with_job("if: always()"),
        with_job("if: ${{ always() }}"),
        with_job("if: success()"),
        with_job("continue-on-error: false"),
        with_step("if: always()"),
        replaced(CHECK, f'{CHECK} --github --summary "$GITHUB_STEP_SUMMARY" . # a comment'),
        with_step("shell: bash"),
        with_step("working-directory: ."),
        with_step("name: judge").replace("BASE: ${{", "CI: true\n          BASE: ${{"),
        replaced(CHECK, "releasegate check --base ${{ github.event.pull_request.base.sha }}"),
        replaced(CHECK, "releasegate check --base=origin/main"),
        replaced(CHECK, 'releasegate check --base "origin/${{ github.base_ref }}"'),
        running(f"set -euo pipefail\n{CHECK} \\\n  --github"),
        replaced(f"run: {CHECK}", f"uses: acme/releasegate@{SHA}"),
        replaced("fetch-depth: 0", "ref: ${{ github.sha }}"),
    ],
)
def test_what_is_as_good_is_not_told(tmp_path: Path, text: str) -> None:
    assert [one.message for one in verdict(tmp_path, gate=text).findings] == []


@pytest.mark.parametrize(
    ("with_", "change"),
    [("env: prod", "remove --env"), ("args: --rule images/*", "remove --rule"), ("shard: 1/4", "join the shards")],
)
def test_our_action_is_not_narrowed_either(tmp_path: Path, with_: str, change: str) -> None:
    uses = f"uses: acme/releasegate@{SHA}\n        with:\n          {with_}"
    assert [one.change for one in red(tmp_path, replaced(f"run: {CHECK}", uses))] == [change]


SHARDED = f"""\
on: [pull_request, merge_group]
permissions: {{contents: read}}
jobs:
  shard:
    strategy:
      matrix:
        part: [1, 2]
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@{SHA}
        with: {{fetch-depth: 0, persist-credentials: false}}
      - run: {CHECK} --shard ${{{{ matrix.part }}}}/2 --json report.json
        env: {{BASE: "{BASE}"}}
  gate:
    needs: shard
    if: always()
    runs-on: ubuntu-24.04
    steps:
      - if: needs.shard.result != 'success'
        run: exit 1
      - run: releasegate report merge reports/*.json
"""


def test_shards_that_are_joined_are_good(tmp_path: Path) -> None:
    assert verdict(tmp_path, gate=SHARDED).findings == ()
    greens = f'uses: re-actors/alls-green@{SHA}\n        with: {{jobs: "${{{{ toJSON(needs) }}}}"}}'
    text = SHARDED.replace("if: needs.shard.result != 'success'\n        run: exit 1", greens)
    assert verdict(tmp_path / "greens", gate=text).findings == ()


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("    if: always()\n", "", "run the job always"),
        ("    if: always()\n", "    if: success()\n", "remove the condition of the job"),
        (
            "      - if: needs.shard.result != 'success'\n        run: exit 1\n",
            "",
            "demand success of the jobs it needs",
        ),
        (
            "needs.shard.result != 'success'",
            "contains(needs.*.result, 'failure')",
            "demand success of the jobs it needs",
        ),
        ("      - run: releasegate report merge reports/*.json\n", "", "merge the reports of the shards"),
        ("report merge reports/*.json", "report merge reports/*.json || true", "merge the reports of the shards"),
        ("    needs: shard\n", "", "run the check in the required job"),
        ("    strategy:", "    continue-on-error: true\n    strategy:", "remove continue-on-error"),
        (" --json report.json", " || true", "let it count"),
    ],
)
def test_shards_that_are_not_joined_well_are_told(tmp_path: Path, old: str, new: str, change: str) -> None:
    assert SHARDED.count(old) == 1
    assert [one.change for one in red(tmp_path, SHARDED.replace(old, new))] == [change]


def test_a_job_of_another_name_is_the_gate_where_none_is_called_so(tmp_path: Path) -> None:
    assert red(tmp_path / "a", replaced("  gate:", "  config-check:")) == []
    text = with_job("continue-on-error: true").replace("  gate:", "  config-check:")
    assert [one.change for one in red(tmp_path / "b", text)] == ["remove continue-on-error"]


def test_a_second_check_of_the_same_name_is_told_where_it_is(tmp_path: Path) -> None:
    other = LINT.replace("  lint:", "  other:\n    name: gate")
    (one,) = red(tmp_path, GOOD, other=other)
    assert one.place == Place(path=".github/workflows/other.yml", line=3)


NIGHTLY = (
    replaced("  pull_request:\n  merge_group:\n", "  schedule: [{cron: '1 2 * * *'}]\n")
    .replace(CHECK, "releasegate check")
    .replace("  gate:", "  full:")
)


def test_a_scheduled_run_needs_no_base_but_is_pinned(tmp_path: Path) -> None:
    assert red(tmp_path / "a", GOOD, nightly=NIGHTLY) == []
    (one,) = red(tmp_path / "b", GOOD, nightly=NIGHTLY.replace(SHA, "v4"))
    assert one.change == "pin actions/checkout@v4"
    assert [one.change for one in red(tmp_path / "c", NIGHTLY)] == ["run the check in a job gate"]


CALLER = """\
on: [pull_request, merge_group]
permissions: {contents: read}
jobs:
  gate:
    uses: ./.github/workflows/called.yml
"""


def test_a_reusable_workflow_of_this_repository_is_followed(tmp_path: Path) -> None:
    called = replaced("  pull_request:\n  merge_group:\n", "  workflow_call:\n").replace("  gate:", "  inner:")
    called = called.replace("permissions:\n  contents: read\n", "")
    assert red(tmp_path / "a", CALLER, called=called) == []
    found = red(tmp_path / "b", CALLER, called=called.replace(CHECK, f"{CHECK} || true"))
    assert [one.change for one in found] == ["let it count"]
    assert found[0].place is not None
    assert found[0].place.path == ".github/workflows/called.yml"


def test_our_reusable_workflow_is_recognised_and_has_to_be_pinned(tmp_path: Path) -> None:
    text = CALLER.replace("./.github/workflows/called.yml", f"acme/releasegate/.github/workflows/check.yml@{SHA}")
    assert red(tmp_path / "a", text) == []
    assert [one.change for one in red(tmp_path / "b", text.replace(SHA, "v1"))] == [
        "pin acme/releasegate/.github/workflows/check.yml@v1"
    ]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("on: [push\njobs: {}\n", 2, "not YAML"),
        ("on: push\njobs:\n\tx: 1\n", 3, "not YAML"),
        ("on: push\non: push\njobs: {a: {}}\n", 2, "duplicate key"),
        ("on: push\njobs: {a: {}}\n---\non: push\n", 4, "second document"),
        ("jobs: {a: {}}\n", 1, "no `on`"),
        ("on: push\n", 1, "no jobs"),
        ("on: push\njobs:\n  a:\n", 3, "job a is no mapping"),
        ("- on\n", 1, "no mapping"),
    ],
)
def test_a_workflow_that_github_cannot_read_is_red_in_any_repo(
    tmp_path: Path, text: str, line: int | None, told: str
) -> None:
    judged = verdict(tmp_path, config=False, other=text)
    (one,) = judged.findings
    assert one.place is not None
    assert (one.place.path, one.place.line) == (".github/workflows/other.yml", line)
    assert told in one.message
    assert judged.outcome is Outcome.FAILED


def test_a_workflow_that_is_commented_out_is_advice(tmp_path: Path) -> None:
    judged = verdict(tmp_path, config=False, other="# on: push\n")
    assert [(one.advice, "holds nothing" in one.message) for one in judged.findings] == [(True, True)]


def test_other_peoples_workflows_are_theirs(tmp_path: Path) -> None:
    loose = LINT.replace("[push]", "[push, pull_request_target]") + "        continue-on-error: true\n"
    judged = verdict(tmp_path, config=False, other=loose)
    assert (judged.outcome, judged.subjects) == (Outcome.PASSED, 1)


def test_a_job_called_gate_that_runs_no_check_is_told(tmp_path: Path) -> None:
    """The step was commented out, or went into a script; what installs releasegate is still there."""
    for name, others in (("a", {}), ("b", {"nightly": NIGHTLY})):
        found = red(tmp_path / name, replaced(CHECK, "pip install releasegate"), **others)
        assert [one.change for one in found] == ["run the check in the required job"]
        assert found[0].place == Place(path=GATE, line=7)
    assert red(tmp_path / "c", replaced(CHECK, "make gate"), nightly=NIGHTLY) != []


def test_a_config_without_a_workflow_that_runs_the_check_is_advice(tmp_path: Path) -> None:
    judged = verdict(tmp_path, other=LINT)
    assert [one.advice for one in judged.findings] == [True]
    assert verdict(tmp_path / "none").outcome is Outcome.NOT_APPLICABLE


def test_a_workflow_in_a_folder_below_is_not_run(tmp_path: Path) -> None:
    judged = verdict(tmp_path, config=False, deep__other=LINT)
    assert [(one.advice, one.place) for one in judged.findings] == [
        (True, Place(path=".github/workflows/deep/other.yml"))
    ]
    judged = verdict(tmp_path, deep__gate=GOOD)
    assert [one.advice for one in judged.findings if "deep/releasegate" in one.change] == [False]


def test_a_branch_filter_is_red_where_it_leaves_out_the_judged_branch(tmp_path: Path) -> None:
    text = replaced("pull_request:", "pull_request: {branches: [main, 'release/*']}")
    assert [one.advice for one in verdict(tmp_path, branch="main", gate=text).findings] == [True]
    text = replaced("pull_request:", "pull_request: {branches: [release]}")
    assert [one.advice for one in verdict(tmp_path, branch="main", gate=text).findings] == [False]
    text = replaced("pull_request:", "pull_request: {branches-ignore: [main]}")
    assert [one.advice for one in verdict(tmp_path, branch="main", gate=text).findings] == [False]
    assert [one.advice for one in verdict(tmp_path, branch="feature", gate=text).findings] == [True]


def test_a_step_of_which_nothing_can_be_said_is_not_judged(tmp_path: Path) -> None:
    judged = verdict(tmp_path, gate=running(f'if [ -n "$BASE" ]; then\n  {CHECK}\nfi'))
    assert judged.outcome is Outcome.NOT_EVALUATED
    (one,) = judged.unjudged
    assert "cannot be read as the one command" in one.reason
    assert one.place is not None
    assert one.place.line is not None


SHOP = (Path(__file__).parents[2] / "fixtures/repos/shop" / GATE).read_text(encoding="utf-8")
RUN = '      - run: releasegate check --base "$BASE" --github --summary "$GITHUB_STEP_SUMMARY"\n'
ENV = f"        env:\n          BASE: {BASE}\n"
C = CHECK


def step(script: str, extra: str = "") -> str:
    assert SHOP.count(RUN) == 1
    return SHOP.replace(RUN, f"      - run: |\n{textwrap.indent(script, ' ' * 10)}\n{extra}")


def edited(old: str, new: str) -> str:
    assert old in SHOP
    return SHOP.replace(old, new, 1)


def in_job(line: str) -> str:
    return edited("    timeout-minutes: 10\n", f"    timeout-minutes: 10\n    {line}\n")


def other(on: str, job: str) -> str:
    return f"on: {on}\npermissions: {{contents: read}}\njobs:\n{job}    runs-on: u\n    steps:\n      - run: 'true'\n"


SCRIPTS = """exec true@C|shopt -uo errexit@C@true|builtin set +e@C@true|eval "set +e"@C@true|(@C@) OR true|f() (@C@)|true OR@C\
|: <<'--'@C@--|: <<\\EOF@C@EOF|sh -c true C|find . -maxdepth 0 -exec C \\;|xargs -r -a /dev/null C\
|releasegate() { true; }@C|releasegate() {@  true@}@C|shopt -s expand_aliases@alias releasegate=true@C|coproc C\
|exit 00@C|trap 'exit  0' EXIT@C|trap 'exec true' EXIT@C|releasegate check docs --base "$BASE"\
|releasegate check /tmp/good --base "$BASE"|CI= C|export CI=false@C|env -u CI C|cd docs@C|git checkout "$BASE"@C\
|BASE=HEAD@C|releasegate check --base "$GITHUB_SHA^0"|releasegate check --base "$(git rev-parse HEAD)"\
|PATH=./bin:$PATH@C|export PATH=./bin:$PATH@C|cat <(C)|! ! C|C && true|releasegate --version check --base x\
|bash -c 'exit 0' C|export PYTHONPATH=.@C|X=releasegate@: check|[[ 1 ]] OR C|C; true|C OR exit $((0))|C OR exit 00\
|C OR exit $X|releasegate check --base a --base HEAD|C --unknown|C --summary $X|C > x|set +e@C|C --kubernetes 1.30\
|C --summary ${{ github.head_ref }}|if C; then echo fine; fi|[ -z "$BASE" ] && exit 0@C|python -m releasegate check --base x"""
CHECKOUT = "          fetch-depth: 0\n"
ATTACKS: dict[str, dict[str, str]] = {
    **{
        one: {"gate": step(one.replace("@", "\n").replace("C OR", f"{C} OR").replace("OR", "||"))}
        for one in (re.sub(r"\bC(?=$|[ ;@)])(?!I)", lambda _: C, one) for one in SCRIPTS.split("|"))
    },
    **{
        f"shell {one}": {"gate": step(C, f"        shell: {one}\n")}
        for one in ("true {0}", "cat {0}", "bash -n -e {0}", "bash -e {0} || true", "echo -e {0}", "python {0}")
    },
    "default shell": {"gate": edited("jobs:\n", "defaults:\n  run:\n    shell: cat {0}\n\njobs:\n")},
    "folder": {"gate": step(C, "        working-directory: docs\n")},
    "default folder": {"gate": edited("jobs:\n", "defaults:\n  run:\n    working-directory: docs\n\njobs:\n")},
    "job's shell": {"gate": in_job("defaults: {run: {shell: 'cat {0}'}}")},
    "defaults expression": {"gate": in_job("defaults: ${{ fromJSON('{}') }}")},
    "base sha": {"gate": edited(BASE, "${{ github.sha }}")},
    "base or sha": {"gate": edited(BASE, "${{ github.event.pull_request.base.sha || github.sha }}")},
    "base head": {"gate": edited(BASE, "HEAD")},
    "base function": {"gate": edited(BASE, "${{ format('{0}', github.sha) }}")},
    "no base": {"gate": edited(ENV, "")},
    "fork unpinned": {"gate": edited(RUN + ENV, "      - uses: evil/releasegate@main\n")},
    "other repository": {"gate": edited(RUN + ENV, f"      - uses: evil/x/releasegate@{SHA}\n")},
    "action's base": {"gate": edited(RUN + ENV, f"      - uses: a/releasegate@{SHA}\n        with: {{base: HEAD}}\n")},
    "action's root": {"gate": edited(RUN + ENV, f"      - uses: a/releasegate@{SHA}\n        with: {{root: docs}}\n")},
    "missing action": {"gate": edited(RUN + ENV, "      - uses: ./.github/actions/releasegate\n")},
    "missing workflow": {
        "gate": "on: [pull_request, merge_group]\npermissions: {contents: read}\njobs:\n  gate:\n"
        "    uses: ./.github/workflows/sub/releasegate.yml\n"
    },
    "idle workflow": {
        "gate": "on: workflow_call\npermissions: {contents: read}\njobs:\n  x:\n    runs-on: u\n    steps: [{run: 'true'}]\n",
        "g": "on: [pull_request, merge_group]\npermissions: {contents: read}\njobs:\n  gate:\n"
        "    uses: ./.github/workflows/releasegate.yml\n",
    },
    **{
        f"env {one}": {"gate": in_job(f"env: {{{one}}}")}
        for one in (
            "CI: \"${{ '' }}\"",
            "CI: off",
            "CI: 'no'",
            "PATH: './bin:/usr/bin'",
            "PYTHONPATH: .",
            "BASH_ENV: ./x.sh",
            "HOME: ./home",
            "PYTHONHOME: .",
            "RELEASEGATE_TOOL_SECONDS: '0'",
            "GIT_DIR: /tmp/x",
            "LD_PRELOAD: ./x.so",
        )
    },
    "env expression": {"gate": in_job("env: ${{ fromJSON('{}') }}")},
    "container env": {"gate": in_job("container: {image: x, env: {PATH: ./bin}}")},
    "GITHUB_PATH": {"gate": edited("releasegate tools install", "echo ./bin >> $GITHUB_PATH")},
    **{
        f"checkout {one}": {"gate": edited(CHECKOUT, f"{CHECKOUT}          {one}\n")}
        for one in (
            "ref: ${{ github.event.pull_request.base.sha || github.sha }}",
            "ref: ${{ 'main' || github.sha }}",
            "repository: ${{ true && 'evil/x' || github.repository }}",
            "path: sub",
            "path: .\n          ref: main",
        )
    },
    "Checkout": {"gate": edited(CHECKOUT, f"{CHECKOUT}          ref: main\n").replace("actions/ch", "Actions/ch")},
    **{
        f"same name on {one}": {"gate": SHOP, "other": other(one, "  gate:\n")}
        for one in ("pull_request", "workflow_dispatch", "pull_request_target", "pull_request_review", "create")
    },
    "name expression": {"gate": SHOP, "other": other("push", "  x:\n    name: ${{ 'gate' }}\n")},
    "name of a matrix": {
        "gate": SHOP,
        "other": other("push", "  x:\n    name: ${{ matrix.n }}\n    strategy: {matrix: {n: [gate]}}\n"),
    },
    "join that says": {
        "gate": edited("  gate:\n", "  real:\n")
        + "  gate:\n    needs: real\n    if: always()\n    runs-on: u\n    steps:\n"
        '      - run: echo "${{ needs.real.result }} is not success"\n'
    },
    "join that looks": {
        "gate": edited("  gate:\n", "  real:\n")
        + "  gate:\n    needs: real\n    if: always()\n    runs-on: u\n    steps:\n"
        "      - if: contains(needs.*.result, 'success')\n        run: 'true'\n"
    },
    "join of another": {
        "gate": edited("  gate:\n", "  real:\n")
        + "  x:\n    needs: real\n    if: always()\n    runs-on: u\n    steps: [{run: 'true'}]\n"
        "  gate:\n    needs: x\n    if: always()\n    runs-on: u\n    steps:\n"
        '      - run: test "${{ needs.x.result }}" = success\n'
    },
    "job if": {"gate": in_job("if: ${{ !cancelled() && false }}")},
    "job if no": {"gate": in_job("if: no")},
    "step if": {"gate": step(C, "        if: ${{ !cancelled() && false }}\n")},
    "negated branch": {"gate": edited("  pull_request:\n", '  pull_request: {branches: ["**", "!main"]}\n')},
    "other branch": {"gate": edited("  pull_request:\n", "  pull_request: {branches: [dev]}\n")},
    "types": {"gate": edited("  pull_request:\n", "  pull_request: {types: opened}\n")},
    "merge_group types": {"gate": edited("  merge_group:\n", "  merge_group: {types: [destroyed]}\n")},
    "merge_group branches": {"gate": edited("  merge_group:\n", '  merge_group: {branches: ["**", "!main"]}\n')},
    "merge key": {"gate": edited("  gate:\n", "  gate: &g\n") + "  other:\n    <<: *g\n    name: o\n"},
    "tab": {"gate": edited("name: releasegate\n", "name: releasegate\n\ttab: 1\n")},
    "strategy": {"gate": in_job('strategy: ${{ fromJSON(\'{"matrix":{"a":[]}}\') }}')},
}


@pytest.mark.parametrize("texts", ATTACKS.values(), ids=ATTACKS)
def test_a_gate_that_cannot_fail_does_not_pass(tmp_path: Path, texts: dict[str, Any]) -> None:
    judged = verdict(tmp_path, branch="main", **texts)
    assert judged.outcome in {Outcome.FAILED, Outcome.NOT_EVALUATED}
    assert verdict(tmp_path / "clean", branch="main", gate=SHOP).outcome is Outcome.PASSED


ACTION = f"runs:\n  using: composite\n  steps:\n    - run: {CHECK}\n      shell: bash\n"


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (ACTION, Outcome.PASSED),
        (ACTION.replace("bash", "cat {0}"), Outcome.NOT_EVALUATED),
        (ACTION.replace(CHECK, f"{CHECK} || true"), Outcome.FAILED),
        (ACTION.replace(CHECK, '"true"'), Outcome.FAILED),
        (ACTION.replace("composite", "node20"), Outcome.FAILED),
    ],
)
def test_a_local_action_is_followed(tmp_path: Path, action: str, outcome: Outcome) -> None:
    path = tmp_path / ".github/actions/releasegate/action.yml"
    path.parent.mkdir(parents=True)
    path.write_text(action, encoding="utf-8")
    text = replaced(f"run: {CHECK}", "uses: ./.github/actions/releasegate")
    assert verdict(tmp_path, gate=text).outcome is outcome


def test_a_narrowed_step_beside_a_whole_one_is_an_extra(tmp_path: Path) -> None:
    text = replaced(f"      - run: {CHECK}\n", f"      - run: {CHECK} --env prod || true\n      - run: {CHECK}\n")
    assert red(tmp_path, text) == []


def test_the_workflows_are_those_of_the_top_of_the_work_tree(tmp_path: Path) -> None:
    judged = verdict(tmp_path, prefix="deploy", gate=with_job("continue-on-error: true"))
    (one,) = judged.findings
    assert one.place is not None
    assert one.place.path == f"../{GATE}"


def test_a_file_that_is_no_text_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / ".github/workflows/a.yml").write_bytes(b"on: \xff\n")
    assert verdict(tmp_path).outcome is Outcome.NOT_EVALUATED


def test_what_actionlint_says_counts_for_the_gate_and_is_advice_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = store.Tool(ToolIdentity(name="actionlint", version="1.7.12", origin="path", sha256="", path="/actionlint"))
    monkeypatch.setattr(Shared, "tool", lambda _self, _name: tool)
    asked: list[str] = []

    def said(_tool: store.Tool, workflows: dict[str, str]) -> list[actionlint.Problem]:
        asked.extend(workflows)
        return [actionlint.Problem(path, 2, 3, kind, "no") for path in workflows for kind in ("events", "runner-label")]

    monkeypatch.setattr(actionlint, "judge", said)
    judged = verdict(tmp_path, gate=GOOD, other=LINT, broken="a: [")
    assert asked == [".github/workflows/other.yml", GATE], "one that is not YAML is told already"
    assert {(one.place.path, one.change) for one in judged.findings if one.place and not one.advice} == {
        (GATE, "mend events: no"),
        (".github/workflows/broken.yml", "mend the workflow"),
    }
    monkeypatch.setattr(actionlint, "judge", lambda *_: actionlint.Unavailable("it did not end"))
    assert verdict(tmp_path, gate=GOOD).outcome is Outcome.NOT_EVALUATED


@pytest.mark.parametrize(
    "odd",
    [
        "on: {pull_request: [], merge_group: 1}\njobs: {gate: {steps: {a: 1}, needs: {a: 1}, if: [], env: []}}\n",
        "on: [1, {}]\njobs: {gate: {steps: [1, null, {run: 1, uses: [], with: x}], strategy: x, name: []}}\n",
        "on: null\njobs: {gate: {steps: [{run: 'releasegate check', env: 3, if: {a: 1}}], needs: [gate, 1]}}\n",
        "on: pull_request\ndefaults: x\njobs: {a/~b: {uses: ./.github/workflows/releasegate.yml, needs: a/~b}}\n",
        "on: pull_request\npermissions: 7\njobs: {gate: {steps: [{uses: x/releasegate@v1, with: {a: {b: [--env]}}}]}}\n",
    ],
)
def test_no_shape_breaks_the_rule(tmp_path: Path, odd: str) -> None:
    judged = verdict(tmp_path, gate=odd)
    assert not [one for one in judged.unjudged if "bug" in one.group]
