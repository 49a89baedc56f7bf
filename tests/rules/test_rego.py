"""Rego policies: what is read, what is refused, and that no (policy, object) pair is lost whatever conftest does."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rules import repos

from releasegate.cache import Cache
from releasegate.config import ConfigError
from releasegate.discover.files import Files
from releasegate.model import (
    Finding,
    Manifest,
    Outcome,
    Place,
    Release,
    Rendered,
    Tree,
    Unjudged,
    Verdict,
)
from releasegate.report.text import message
from releasegate.rules import Evidence, Rule, Shared, rego
from releasegate.run import Selection, open_run
from releasegate.tools.store import Tool, ToolMissing

ID = "policies/team/named"
PATH = f"{ID}/named.rego"
HEADER = """\
# METADATA
# title: Every ConfigMap is named by the team.
# custom:
#   why: nobody finds it otherwise.
#   fix: rename it.
#   kinds: [ConfigMap]
package policies.team.named

"""
BODY = """\
deny contains finding if {
	not startswith(input.metadata.name, "team-")
	finding := {"msg": sprintf("is called %s", [input.metadata.name]), "pointer": "/metadata/name"}
}
"""
BAD = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: other\n"
GOOD = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: team-a\n"


def policy(
    body: str = BODY, *, header: str = HEADER, bad: str = BAD, good: str = GOOD, name: str = ID
) -> dict[str, str]:
    leaf = name.rpartition("/")[2]
    return {f"{name}/{leaf}.rego": header + body, f"{name}/bad.yaml": bad, f"{name}/good.yaml": good}


def bundle(root: Path, files: Mapping[str, str]) -> rego.Bundle:
    repos.write(root, files)
    return rego.of_repo(Files(Tree(root=str(root), files=tuple(sorted(files)))))


def only(made: rego.Bundle) -> rego.Policy:
    (one,) = made.policies
    return one


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_folder_becomes_a_rule_with_its_page(tmp_path: Path) -> None:
    made = bundle(tmp_path, policy())
    (rule,) = rego.rules(made)
    assert rule.id == ID
    assert rule.summary == "Every ConfigMap is named by the team."
    assert "Why: nobody finds it otherwise." in rule.doc
    assert "Fix: rename it." in rule.doc
    assert "Bad:\n    apiVersion: v1" in rule.doc
    assert only(made).rules == ("deny",)


@pytest.mark.parametrize(
    ("files", "path", "line", "reason"),
    [
        (policy(header=HEADER.replace("team.named", "team.name")), PATH, 7, "package is policies.team.name"),
        (policy(""), PATH, 7, "no deny rule"),
        (policy(BODY.replace("deny ", "denyAll ")), PATH, 9, "passes over the rule `denyAll`"),
        (policy(BODY + "\ndeny_x_ contains 1 if input.x\n"), PATH, 14, "passes over the rule `deny_x_`"),
        (policy(BODY + "\ndeny.x contains 1 if input.x\n"), PATH, 14, "passes over the rule `deny.x`"),
        (policy(BODY + '\ndeny["x"] := 1 if input.x\n'), PATH, 14, 'passes over the rule `deny["x"]`'),
        (policy(BODY + "\ndeny if input.x\n"), PATH, 14, "passes over the rule `deny`"),
        (policy(BODY + '\nwarn_old := "x" if input.x\n'), PATH, 14, "passes over the rule `warn_old`"),
        (policy(BODY + "\ndefault deny := false\n"), PATH, 14, "passes over the rule `deny`"),
        (policy(BODY + '\ndenied contains "x" if input.x\n'), PATH, 14, "passes over the rule `denied`"),
        (policy(BODY + '\ndney contains "x" if input.x\n'), PATH, 14, "passes over the rule `dney`"),
        (policy(BODY + '\nexception contains r if r := [""]\n'), PATH, 14, "an `exception` would take all"),
        (policy(header="package policies.team.named\n\n"), PATH, 1, "no METADATA"),
        (policy(header=HEADER.replace("title", "name")), PATH, 1, "no title"),
        (policy(header=HEADER.replace("why", "because")), PATH, 1, "no custom.why"),
        (policy(header=HEADER.replace("kinds: [ConfigMap]", "kinds: []")), PATH, 1, "names no kinds"),
        (policy(header=HEADER.replace("kinds: [ConfigMap]", "kinds: ConfigMap")), PATH, 1, "kinds is a list"),
        (policy(header=HEADER.replace("title: ", "title: [")), PATH, 2, "METADATA is not YAML"),
        (policy(bad=""), f"{ID}/bad.yaml", None, "holds no object"),
        (policy(bad="a: [\n"), f"{ID}/bad.yaml", 1, "is not YAML"),
        (policy(bad="a: b\n"), f"{ID}/bad.yaml", None, "a document without kind is not among"),
        (policy(bad=BAD.replace("ConfigMap", "Pod")), f"{ID}/bad.yaml", 1, "a Pod is not among the kinds"),
        ({PATH: HEADER + BODY}, PATH, None, f"{ID}/bad.yaml is missing"),
        ({f"{ID}/other.rego": BODY, f"{ID}/bad.yaml": BAD}, ID, None, f"{PATH} is missing"),
    ],
)
def test_a_policy_that_cannot_be_believed_says_why_and_where(
    tmp_path: Path, files: dict[str, str], path: str, line: int | None, reason: str
) -> None:
    problem = only(bundle(tmp_path, files)).problem
    assert problem is not None
    assert reason in problem.reason
    assert problem.place.path == path
    if line is not None:
        assert problem.place.line is not None
        assert abs(problem.place.line - line) <= (1 if "YAML" in reason else 0)
    assert problem.remedy


@pytest.mark.parametrize(
    "body",
    [
        BODY + '\ndenied_names contains "x"\n\ndeny_more contains msg if some msg in denied_names\n',
        BODY + '\n# denyAll contains "x"\n_text := `\ndenyAll contains "x"\n`\n\ndeny_t contains _text if input.t\n',
        BODY + '\nwarn contains msg if {\n\tmsg := {\n\t\t"deny-x": 1}[_]\n}\n',
        BODY + '\nviolation_old contains "x" if input.apiVersion == "v0"\n',
        "helper(x) := y if {\n\ty := x\n} else := 1\n\n" + BODY,
    ],
)
def test_what_only_looks_like_an_ignored_rule_is_none(tmp_path: Path, body: str) -> None:
    assert only(bundle(tmp_path, policy(body))).problem is None


def test_rego_that_nothing_runs_is_told(tmp_path: Path) -> None:
    made = bundle(
        tmp_path,
        {
            **policy(),
            "policies/loose.rego": BODY,
            "policies/Team/x/x.rego": BODY,
            f"{ID}/more.rego": BODY,
            "policies/lib/words.rego": "package lib.words\n",
            "policies/lib/wrong.rego": "package releasegate.pods\n",
            "policies/notes.txt": "",
        },
    )
    assert [one.place.path for one in made.misplaced] == [
        "policies/Team/x/x.rego",
        "policies/lib/wrong.rego",
        "policies/loose.rego",
        f"{ID}/more.rego",
    ]
    assert "policies/lib/words.rego" in made.libraries
    assert "policies/lib/wrong.rego" not in made.libraries
    assert [one.id for one in rego.rules(made)] == [ID, "policies/misplaced"]


def test_a_policy_of_a_shipped_id_is_a_config_error(tmp_path: Path) -> None:
    files = policy(name="policies/security/no-privileged")
    with pytest.raises(ConfigError, match="releasegate ships a policy policies/security/no-privileged"):
        bundle(tmp_path, files)


def test_an_equal_copy_of_what_ships_is_judged_once(tmp_path: Path) -> None:
    folder = rego.shipped_folder()
    copied = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in (folder / "policies").rglob("*.*")
        if path.is_file()
    }
    made = bundle(tmp_path, {**copied, **policy()})
    assert [one.id for one in made.policies] == [ID]
    assert made.misplaced == ()


def test_a_link_out_of_the_tree_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.rego"
    outside.write_text(HEADER + BODY)
    root = tmp_path / "repo"
    (root / ID).mkdir(parents=True)
    (root / PATH).symlink_to(outside)
    made = rego.of_repo(Files(Tree(root=str(root), files=(PATH,))))
    problem = only(made).problem
    assert problem is not None
    assert "symbolic link that leaves the repository" in problem.reason


@given(st.text(max_size=200))
def test_any_text_can_be_scanned(text: str) -> None:
    assert rego.scan(text).words is not None


@given(
    st.lists(st.sampled_from(['"', "`", "{", "}", "#", "\n", "deny contains x if ", "exception ", "\\", "package p"]))
)
def test_anything_like_rego_can_be_scanned(parts: list[str]) -> None:
    scanned = rego.scan("".join(parts))
    lines = "".join(parts).count("\n") + 1
    assert all(1 <= head.line <= lines for head in scanned.heads)


def test_lines_are_those_of_the_file_behind_comments_and_raw_strings() -> None:
    text = (
        'package p\n\n# "\n_a := `\n"\n`\n\n_b := "`"\n\ndeny contains 1 if {\n\tinput.x == "{"\n}\ndeny_x contains 2\n'
    )
    assert [(head.whole, head.line) for head in rego.scan(text).heads] == [
        ("_a", 4),
        ("_b", 8),
        ("deny", 10),
        ("deny_x", 13),
    ]


# --- judging ------------------------------------------------------------------------------------------------------


def config_map(name: str, **more: Any) -> Manifest:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}
    return Manifest(body=body, text="", template="helm/a/templates/a.yaml")


def rendered(name: str, *manifests: Manifest) -> Rendered:
    release = Release(name=name, environment="prod", helm_release=name, namespace="prod", sources=())
    return Rendered(release=release, manifests=manifests)


@pytest.fixture
def shared(conftest: Tool, tmp_path: Path) -> Iterator[Shared]:
    made = Shared(Tree(root=str(tmp_path), files=()), find=lambda _name: conftest)
    yield made
    made.close()


def check(rule: Rule, shared: Shared, one: Rendered) -> list[Finding | Unjudged]:
    evidence = Evidence(
        repo=None,  # type: ignore[arg-type]
        config=None,  # type: ignore[arg-type]
        environment=None,
        release=one.release,
        renders=(one,),
        shared=shared,
    )
    return list(rule.check(rule.subjects(evidence), evidence))


def judge(tmp_path: Path, shared: Shared, files: Mapping[str, str], *releases: Rendered) -> list[list[Any]]:
    """Judge the releases in the background, as a run does; the answers per release."""
    made = bundle(tmp_path / "repo", files)
    by_id = {one.release.id: one for one in releases}
    rego.judge_of(shared).start(
        {key: {one.id for one in made.policies} for key in by_id},
        [one.release for one in releases],
        [made],
        lambda release: by_id[release.id],
    )
    return [[answer for rule in rego.rules(made) for answer in check(rule, shared, one)] for one in releases]


def test_a_finding_names_object_pointer_value_and_what_to_write(tmp_path: Path, shared: Shared) -> None:
    wrong = config_map("other")
    secret = Manifest(body={"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}, text="")
    ((found,),) = judge(tmp_path, shared, policy(), rendered("a", secret, config_map("team-a"), wrong))
    assert isinstance(found, Finding)
    assert (found.message, found.help) == ("is called other", "rename it.")
    assert found.manifest is wrong
    assert (found.pointer, found.value) == ("/metadata/name", "other")
    assert not found.advice


def test_many_releases_are_one_call_and_one_cause(tmp_path: Path, shared: Shared) -> None:
    releases = [rendered(f"r{number}", config_map(f"r{number}-settings")) for number in range(30)]
    answers = judge(tmp_path, shared, policy(), *releases)
    assert [len(one) for one in answers] == [1] * 30
    assert rego.judge_of(shared).calls == 1
    assert len({one[0].change for one in answers}) == 1


def test_of_a_secret_a_policy_of_the_repo_says_only_that_it_found_something(tmp_path: Path, shared: Shared) -> None:
    """No redaction by value can know `concat("-", split(password, ""))`."""
    body = """\
deny contains {"msg": concat("-", split(base64.decode(input.data.password), "")), "pointer": "/data/password"} if {
	input.kind == "Secret"
}

deny contains "other" if input.metadata.name == "other"
"""
    held = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": {"password": "aHVudGVyMg=="}}
    bad = BAD + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: other}\ndata: {password: eA==}\n"
    header = HEADER.replace("[ConfigMap]", "[ConfigMap, Secret]")
    made = policy(body, header=header, bad=bad)
    ((found,),) = judge(tmp_path, shared, made, rendered("a", Manifest(body=held, text="")))
    assert isinstance(found, Finding)
    assert found.message == "Secret keys: Every ConfigMap is named by the team."
    assert (found.pointer, found.value, found.help) == (None, None, "rename it.")


def test_warn_is_advice_and_a_message_without_pointer_has_no_place(tmp_path: Path, shared: Shared) -> None:
    body = 'warn contains "old" if input.metadata.name != "team-a"\n'
    ((found,),) = judge(tmp_path, shared, policy(body), rendered("a", config_map("other")))
    assert isinstance(found, Finding)
    assert found.advice
    assert (found.message, found.pointer) == ("ConfigMap other: old", None)


def test_a_pointer_to_what_is_missing_is_that_of_what_is_around_it(tmp_path: Path, shared: Shared) -> None:
    body = 'deny contains {"msg": "no data", "pointer": "/metadata/labels/a~1b/c", "fix": "x"} if not input.data\n'
    good = GOOD + "data: {}\n"
    ((found,),) = judge(tmp_path, shared, policy(body, good=good), rendered("a", config_map("other")))
    assert isinstance(found, Finding)
    assert (found.pointer, found.help) == ("/metadata", "x")


def test_a_policy_sees_only_the_kinds_it_declares(tmp_path: Path, shared: Shared) -> None:
    made = bundle(tmp_path / "repo", policy())
    (rule,) = rego.rules(made)
    pod = Manifest(body={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}, text="")
    release = rendered("a", pod)
    evidence = Evidence(
        repo=None,  # type: ignore[arg-type]
        config=None,  # type: ignore[arg-type]
        environment=None,
        release=release.release,
        renders=(release,),
        shared=shared,
    )
    assert rule.subjects(evidence) == []
    assert check(rule, shared, release) == []
    assert rego.judge_of(shared).calls == 0


def test_kinds_may_name_their_group_and_podspecs_reach_custom_resources(tmp_path: Path) -> None:
    header = HEADER.replace("[ConfigMap]", "[apps/Deployment, ConfigMap]\n#   podspecs: true")
    one = only(bundle(tmp_path, policy(header=header)))
    assert one.problem is None
    containers = {"template": {"spec": {"containers": [{"name": "a", "image": "a"}]}}}
    assert one.judges({"apiVersion": "apps/v1", "kind": "Deployment"})
    assert not one.judges({"apiVersion": "other/v1", "kind": "Deployment"})
    assert one.judges({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": containers})
    assert not one.judges({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {}})


def test_a_canary_that_passes_voids_the_call(tmp_path: Path, shared: Shared) -> None:
    ((gap,),) = judge(tmp_path, shared, policy(bad=GOOD), rendered("a", config_map("team-b")))
    assert isinstance(gap, Unjudged)
    assert "is not known to find anything: document 1 of its bad.yaml passes" in gap.reason


def test_a_policy_that_refuses_its_good_example_is_not_believed(tmp_path: Path, shared: Shared) -> None:
    ((gap,),) = judge(tmp_path, shared, policy(good=GOOD + "---\n" + BAD), rendered("a", config_map("other")))
    assert isinstance(gap, Unjudged)
    assert "finds something in its own good.yaml" in gap.reason
    assert "good.yaml" in gap.remedy


def test_a_good_example_that_the_policy_does_not_judge_is_none(tmp_path: Path, shared: Shared) -> None:
    other = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"
    ((gap,),) = judge(tmp_path, shared, policy(good=other), rendered("a", config_map("other")))
    assert isinstance(gap, Unjudged)
    assert gap.reason == "a Secret is not among the kinds the policy judges"
    assert gap.place == Place(path=f"{ID}/good.yaml", line=1)


def test_each_rule_has_to_fire_on_the_canary(tmp_path: Path, shared: Shared) -> None:
    body = BODY + '\ndeny_data contains "data" if input.data\n'
    ((gap,),) = judge(tmp_path, shared, policy(body), rendered("a", config_map("team-b")))
    assert isinstance(gap, Unjudged)
    assert "deny_data does not fire on its bad.yaml" in gap.reason


def test_a_policy_that_breaks_on_one_release_leaves_the_others_judged(tmp_path: Path, shared: Shared) -> None:
    body = BODY + '\ndeny contains "many" if to_number(input.data.count) > 5\n'
    releases = [rendered(f"r{number}", config_map(f"team-{number}", data={"count": "3"})) for number in range(8)]
    releases[5] = rendered("r5", config_map("team-5", data={"count": "three"}))
    releases[6] = rendered("r6", config_map("other", data={"count": "9"}))
    bad = BAD + "---\n" + GOOD + 'data: {count: "9"}\n'
    answers = judge(tmp_path, shared, policy(body, bad=bad), *releases)
    assert [[type(one) for one in answer] for answer in answers] == [
        *([[]] * 5),
        [Unjudged],
        [Finding, Finding],
        [],
    ]
    assert answers[5][0].place == Place(path=PATH, line=14)


def test_a_policy_that_does_not_load_takes_no_other_with_it(tmp_path: Path, shared: Shared) -> None:
    other = policy(header=HEADER.replace("team.named", "team.other"), name="policies/team/other")
    broken = policy(BODY + "\ndeny contains msg if input.x\n")
    releases = [rendered(f"r{number}", config_map(f"other-{number}")) for number in range(3)]
    answers = judge(tmp_path, shared, {**broken, **other}, *releases)
    for answer in answers:
        gap, found = answer
        assert isinstance(gap, Unjudged)
        assert gap.place == Place(path=PATH, line=14)
        assert "msg is unsafe" in gap.reason
        assert isinstance(found, Finding)
    assert rego.judge_of(shared).calls == 3  # together, then each alone


def test_an_exception_that_the_text_did_not_show_is_seen_in_the_output(tmp_path: Path, shared: Shared) -> None:
    made = bundle(tmp_path / "repo", policy())
    one = only(made)
    hidden = 'exception contains rules if {\n\tinput.metadata.name == "team-b"\n\trules := [""]\n}\n'
    sneaky = rego.Bundle(policies=(replace(one, text=f"{one.text}\n{hidden}"),), libraries=made.libraries)
    (rule,) = rego.rules(sneaky)
    (gap,) = check(rule, shared, rendered("a", config_map("team-b")))
    assert isinstance(gap, Unjudged)
    assert gap.reason == f"{ID}: an `exception` took findings away"


def test_rules_that_conftest_did_not_count_are_missed(tmp_path: Path, shared: Shared) -> None:
    made = bundle(tmp_path / "repo", policy(BODY + '\nwarn contains "x" if input.kind\n'))
    one = only(made)
    text = one.text.replace("warn contains", "_warn contains")
    (rule,) = rego.rules(rego.Bundle(policies=(replace(one, text=text),), libraries=made.libraries))
    (gap,) = check(rule, shared, rendered("a", config_map("team-b")))
    assert isinstance(gap, Unjudged)
    assert "warn does not fire" in gap.reason or "counted 1 of 2 rules" in gap.reason


def test_a_number_json_does_not_know_is_not_judged(tmp_path: Path, shared: Shared) -> None:
    ((gap,),) = judge(tmp_path, shared, policy(), rendered("a", config_map("other", data={"x": float("inf")})))
    assert isinstance(gap, Unjudged)
    assert "holds a number that JSON does not know" in gap.reason


def test_without_conftest_each_case_says_how_to_get_it(tmp_path: Path) -> None:
    missing = ToolMissing("conftest", "not found", "releasegate tools install conftest")
    shared = Shared(Tree(root=str(tmp_path), files=()), find=lambda _name: missing)
    ((gap,),) = judge(tmp_path, shared, policy(), rendered("a", config_map("other")))
    assert isinstance(gap, Unjudged)
    assert "conftest is missing: not found" in gap.reason
    assert gap.remedy == "releasegate tools install conftest"


def fake(tmp_path: Path, conftest: Tool, body: str) -> Tool:
    path = tmp_path / "fake"
    path.write_text(f"#!{sys.executable} -IS\nimport sys, time, os\n{body}\n")
    path.chmod(0o755)
    return Tool(replace(conftest.identity, path=str(path)))


@pytest.mark.parametrize("body", ["print('[]')", "sys.exit(1)", "print('garbage')", "time.sleep(99)", "os.abort()"])
def test_a_program_that_does_not_answer_makes_every_case_not_evaluated(
    tmp_path: Path, conftest: Tool, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setenv("RELEASEGATE_TOOL_SECONDS", "1")
    program = fake(tmp_path, conftest, body)
    shared = Shared(Tree(root=str(tmp_path), files=()), find=lambda _name: program)
    answers = judge(tmp_path, shared, policy(), *(rendered(f"r{n}", config_map("team-a")) for n in range(3)))
    assert [[type(one) for one in answer] for answer in answers] == [[Unjudged]] * 3
    shared.close()


def test_closing_kills_what_runs_and_leaves_nobody_waiting(tmp_path: Path, conftest: Tool) -> None:
    program = fake(tmp_path, conftest, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(99)")
    shared = Shared(Tree(root=str(tmp_path), files=()), find=lambda _name: program)
    made = bundle(tmp_path / "repo", policy())
    one = rendered("a", config_map("other"))
    rego.judge_of(shared).start({one.release.id: {ID}}, [one.release], [made], lambda _release: one)
    deadline = time.monotonic() + 10
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shared.close()
    assert time.monotonic() < deadline + 10
    assert not Path("/proc", (tmp_path / "pid").read_text(), "fd").exists() or os.name != "posix"


def test_answers_are_kept_at_the_desk_by_all_they_depend_on(tmp_path: Path, conftest: Tool) -> None:
    def calls(files: Mapping[str, str], *releases: Rendered) -> int:
        shared = Shared(Tree(root=".", files=()), find=lambda _name: conftest, cache=Cache(tmp_path / "cache"))
        answers = judge(tmp_path, shared, files, *releases)
        assert [len(one) for one in answers] == [1] * len(releases)
        assert all(isinstance(one[0], Finding) for one in answers)
        shared.close()
        return rego.judge_of(shared).calls

    first = rendered("a", config_map("other"))
    assert calls(policy(), first) == 1
    assert calls(policy(), first) == 0
    assert calls(policy(), rendered("a", config_map("another"))) == 1
    assert calls(policy(BODY + "\n# changed\n"), first) == 1
    assert calls(policy(bad=BAD + "data: {}\n"), first) == 1


def test_nothing_that_may_quote_a_secret_is_kept(tmp_path: Path, conftest: Tool) -> None:
    header = HEADER.replace("ConfigMap]", "Secret]")
    body = 'deny contains sprintf("holds %s", [input.stringData.password])\n'
    bad = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {password: correct-horse}\n"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"password": "battery"}}
    shared = Shared(Tree(root=".", files=()), find=lambda _name: conftest, cache=Cache(tmp_path / "cache"))
    ((found,),) = judge(
        tmp_path,
        shared,
        policy(body, header=header, bad=bad, good="apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"),
        rendered("a", Manifest(body=secret, text="")),
    )
    assert isinstance(found, Finding)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


# --- in a run -----------------------------------------------------------------------------------------------------


@pytest.fixture
def repo(toy: Path) -> Path:
    for path, text in policy(BODY, header=HEADER.replace("[ConfigMap]", "[Deployment, ConfigMap]")).items():
        (toy / path).parent.mkdir(parents=True, exist_ok=True)
        (toy / path).write_text(text)
    return toy


def run_of(root: Path, rule: str = "policies/team/*") -> dict[str, Verdict]:
    with open_run(root, selection=Selection(rules=(rule,))) as run:
        run.start(run.cases)
        for case in run.cases:
            run.judge(case)
        report = run.finish()
    assert "conftest" in {one.name for one in report.tools}
    return {str(one.id): one for one in report.verdicts}


def test_a_policy_of_the_repo_is_a_rule_like_any_other(repo: Path, helm: Tool, conftest: Tool) -> None:
    assert helm.path.exists()
    assert conftest.path.exists()
    verdicts = run_of(repo)
    assert list(verdicts) == [f"releasegate.toml::dev/api::{ID}", f"releasegate.toml::prod/api::{ID}"]
    for one in verdicts.values():
        assert one.outcome is Outcome.ADVISED
        assert one.subjects == 1
        assert len(one.findings) == 1
    with (repo / "releasegate.toml").open("a") as toml:
        toml.write(f'[environments.prod]\nrules = {{ "{ID}" = "on" }}\n')
    assert [one.outcome for one in run_of(repo).values()] == [Outcome.ADVISED, Outcome.FAILED]


def test_the_config_may_name_only_policies_that_exist(repo: Path) -> None:
    with (repo / "releasegate.toml").open("a") as toml:
        toml.write('[rules]\n"policies/team/nmaed" = "on"\n')
    with pytest.raises(ConfigError, match="policies/team/named"), open_run(repo):
        pass


def test_the_page_and_the_list_show_policies(repo: Path, releasegate: Any) -> None:
    assert ID in releasegate("rules", cwd=repo).out
    listed = json.loads(releasegate("rules", "--json", cwd=repo).out)
    assert {one["id"]: one["kind"] for one in listed}[ID] == "policy"
    said = releasegate("explain", ID, cwd=repo)
    assert said.code == 0
    assert "nobody finds it otherwise" in said.out
    shipped = releasegate("explain", "policies/security/no-privileged", cwd=repo.parent)
    assert "root on its node" in " ".join(shipped.out.split())
    assert shipped.out.count("apiVersion: v1") == 4


def test_a_message_that_quotes_a_secret_is_redacted_decoded_or_not() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": {"password": "aHVudGVyMjI="}}
    said = "holds aHVudGVyMjI=, which is hunter22"
    found = Finding(message=said, help="", change="", manifest=Manifest(body=secret, text=""))
    assert message(found, found.message) == "holds [redacted], which is [redacted]"
