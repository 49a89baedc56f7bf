"""conftest is believed only when its output holds every pair that was asked for; whatever else it does is told."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from releasegate import process
from releasegate.model import ToolIdentity
from releasegate.tools import conftest as tool
from releasegate.tools import store
from releasegate.tools.conftest import Answer, Refused, Said, Unavailable
from releasegate.tools.store import Tool

POLICY = """\
package policies.test.named

deny contains finding if {
	not input.metadata.labels.app
	finding := {"msg": "no label app", "pointer": "/metadata/labels"}
}

warn contains "old" if input.apiVersion == "v0"
"""
NAMESPACE = "policies.test.named"
MODULES = {"policies/test/named/named.rego": POLICY}
BAD = b'{"apiVersion": "v0", "metadata": {"name": "bad"}}'
GOOD = b'{"apiVersion": "v1", "metadata": {"name": "good", "labels": {"app": "x"}}}'


def rego(body: str) -> dict[str, str]:
    return {"policies/test/named/named.rego": f"package policies.test.named\n\n{body}\n"}


def fake(tmp_path: Path, body: str) -> Tool:
    """A conftest written in Python."""
    path = tmp_path / "conftest"
    path.write_text(f"#!{sys.executable} -IS\nimport json, sys, time\n{body}\n")
    path.chmod(0o755)
    return Tool(ToolIdentity(name="conftest", version="0.71.1", origin="path", sha256="", path=str(path)))


# --- the real program ---------------------------------------------------------------------------------------------


def test_every_object_is_answered_for_with_what_the_policy_says(conftest: Tool) -> None:
    answers = tool.judge(conftest, MODULES, [NAMESPACE], {"bad": BAD, "deep/good": GOOD})
    finding = Said("no label app", "deny", fields={"pointer": "/metadata/labels"})
    assert answers == {
        (NAMESPACE, "bad"): Answer((finding, Said("old", "warn", warning=True)), 0, 2),
        (NAMESPACE, "deep/good"): Answer((), 0, 2),
    }


def test_its_identity_is_that_of_the_build_and_not_the_word_dev(conftest: Tool) -> None:
    assert conftest.identity.version == store.locked()["conftest"].version
    info = store.build_info(conftest.path)
    assert info is not None
    assert info.sum == store.locked()["conftest"].sum


@pytest.mark.parametrize(
    "body",
    [
        "denied contains msg if msg := input.kind",  # T2
        "denyAll contains msg if msg := input.kind",  # E5
        "allow if input.kind",
    ],
)
def test_a_package_without_a_rule_that_conftest_knows_counts_nothing(conftest: Tool, body: str) -> None:
    answers = tool.judge(conftest, rego(body), [NAMESPACE], {"bad": BAD})
    assert answers == {(NAMESPACE, "bad"): Answer((), 0, 0)}


def test_a_deny_rule_that_is_no_set_passes_in_silence(conftest: Tool) -> None:
    """Why rules/rego.py reads the heads of rules itself."""
    for body in ("deny if input", 'deny := "no"', "deny contains 5", 'deny contains ""'):
        answers = tool.judge(conftest, rego(body), [NAMESPACE], {"bad": BAD})
        assert answers == {(NAMESPACE, "bad"): Answer((), 0, 1)}, body


def test_another_namespace_counts_nothing(conftest: Tool) -> None:  # T1
    assert tool.judge(conftest, MODULES, ["policies.test.other"], {"bad": BAD}) == {
        ("policies.test.other", "bad"): Answer((), 0, 0)
    }


def test_an_exception_is_counted(conftest: Tool) -> None:  # T7
    body = 'deny contains "no" if input\nexception contains rules if rules := [""]'
    answers = tool.judge(conftest, rego(body), [NAMESPACE], {"bad": BAD})
    assert answers == {(NAMESPACE, "bad"): Answer((), 1, 1)}


def test_a_builtin_error_is_told_without_the_value_it_failed_on(conftest: Tool) -> None:  # T5
    secret = b'{"data": {"password": "correct-horse"}}'
    answers = tool.judge(
        conftest, rego("deny contains msg if msg := to_number(input.data.password)"), [NAMESPACE], {"secret": secret}
    )
    assert isinstance(answers, Refused)
    assert answers.message == "the built-in function to_number failed on its arguments"
    assert (answers.path, answers.line, answers.loading) == ("policies/test/named/named.rego", 3, False)


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ("deny contains msg if {", 4, "unexpected eof token"),
        ("deny contains msg if true", 3, "var msg is unsafe"),
        ('deny[msg] { msg := "x" }', 3, "keyword is required"),
        ('deny-x contains msg if msg := "x"', 3, "unexpected"),
        ('deny contains msg if msg := $"x"', 3, "template-strings are not supported"),
    ],
)
def test_rego_that_does_not_load_is_refused_on_its_line(conftest: Tool, body: str, line: int, message: str) -> None:
    answers = tool.judge(conftest, rego(body), [NAMESPACE], {"bad": BAD})
    assert isinstance(answers, Refused)
    assert message in answers.message
    assert answers.loading
    if answers.path is not None:
        assert (answers.path, answers.line) == ("policies/test/named/named.rego", line)


@pytest.mark.parametrize(
    "call",
    [
        'http.send({"method": "get", "url": "http://127.0.0.1:1"})',
        "opa.runtime()",
        'net.lookup_ip_addr("localhost")',
        'parse_config_file("../../../etc/hostname")',
        'parse_combined_config_files(["a"])',
        "time.now_ns()",
        'rand.intn("x", 2)',
        'uuid.rfc4122("x")',
        'rego.parse_module("x", "package x")',
        'io.jwt.decode("x")',
        'trace("x")',
    ],
)
def test_functions_that_reach_outside_do_not_exist(conftest: Tool, call: str) -> None:  # threat rows 7 and 8
    answers = tool.judge(conftest, rego(f"deny contains msg if msg := {call}"), [NAMESPACE], {"bad": BAD})
    assert isinstance(answers, Refused)
    assert f"undefined function {call.partition('(')[0]}" in answers.message


class _Listener(http.server.BaseHTTPRequestHandler):
    hits: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.hits.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_nothing_is_sent_and_no_config_of_anybody_else_is_read(
    conftest: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # T6, T8
    (tmp_path / "conftest.toml").write_text('no-fail = true\nnamespace = ["nope"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONFTEST_NO_FAIL", "true")
    monkeypatch.setenv("CONFTEST_NAMESPACE", "nope")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        send = f'deny contains msg if msg := http.send({{"method": "post", "url": "{url}"}}).status'
        assert isinstance(tool.judge(conftest, rego(send), [NAMESPACE], {"bad": BAD}), Refused)
        server.shutdown()
    assert _Listener.hits == []
    answers = tool.judge(conftest, MODULES, [NAMESPACE], {"bad": BAD})
    assert isinstance(answers, dict)
    assert len(answers[NAMESPACE, "bad"].said) == 2


def test_an_endless_policy_is_killed_at_the_deadline(conftest: Tool) -> None:  # threat row 9
    bomb = (
        "deny contains msg if {\n\tsome a in numbers.range(1, 100000)\n\tsome b in numbers.range(1, 100000)\n"
        '\ta * b == -1\n\tmsg := "x"\n}'
    )
    began = time.monotonic()
    limits = process.Limits(seconds=2, output_bytes=1 << 20, memory_bytes=4 << 30)
    answers = tool.judge(conftest, rego(bomb), [NAMESPACE], {"bad": BAD}, limits=limits)
    assert isinstance(answers, Unavailable)
    assert "did not end within 2 s" in answers.reason
    assert time.monotonic() - began < 10


def test_verify_counts_tests_and_names_those_that_fail(conftest: Tool) -> None:
    modules = {
        **MODULES,
        "policies/test/named/named_test.rego": (
            "package policies.test.named_test\n\nimport data.policies.test.named\n\n"
            "test_good if count(named.deny) == 0\n\ntest_bad if count(named.deny) == 1\n"
        ),
    }
    assert tool.verify(conftest, modules) == tool.Verified(1, ("data.policies.test.named_test.test_good",))


# --- a program that is not what it seems --------------------------------------------------------------------------

ROW = {"filename": "objects/bad.json", "namespace": NAMESPACE, "successes": 2}
FINDING = {"msg": "no", "metadata": {"query": f"data.{NAMESPACE}.deny"}}


@pytest.mark.parametrize(
    ("rows", "code", "reason"),
    [
        ([], 0, "answered for 0 of 1 (policy, object) pairs"),
        (None, 0, "answered for 0 of 1 (policy, object) pairs"),
        ([ROW, ROW], 0, "answered twice for bad"),
        ([{**ROW, "filename": "objects/other.json"}], 0, "printed something else"),
        ([{**ROW, "namespace": "other"}], 0, "printed something else"),
        ([{**ROW, "successes": "many"}], 0, "printed something else"),
        ([{**ROW, "successes": -1}], 0, "printed something else"),
        ([{**ROW, "skipped": [{}]}], 0, "answered twice"),
        ([{**ROW, "failures": [{"msg": 3, "metadata": FINDING["metadata"]}]}], 1, "printed something else"),
        ([{**ROW, "failures": [{"msg": "no"}]}], 1, "printed something else"),
        ([{**ROW, "failures": [FINDING]}], 0, "which is not what it printed"),
        ([ROW], 1, "which is not what it printed"),
        ([ROW], 7, "which is not what it printed"),
        ({"no": "list"}, 0, "printed something else"),
    ],
)
def test_an_output_that_does_not_add_up_is_no_answer(tmp_path: Path, rows: object, code: int, reason: str) -> None:
    program = fake(tmp_path, f"print({json.dumps(json.dumps(rows))})\nsys.exit({code})")
    answers = tool.judge(program, MODULES, [NAMESPACE], {"bad": BAD})
    assert isinstance(answers, Unavailable)
    assert reason in answers.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "ended with exit code 0 and printed no result"),
        ("sys.exit(1)", "ended with exit code 1 and printed no result"),
        ('print(\'[{"filename": "obj\'); sys.exit(0)', "printed something else"),
        ("sys.stdout.buffer.write(b'\\xff\\xfe\\x00')", "printed something else"),
        ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
        ("while True: print('x' * 100000)", "wrote more than"),
        ("import signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)", "did not end within 2 s"),
        ("sys.stderr.write('panic: x'); sys.exit(2)", "exit code 2 and printed no result: panic: x"),
    ],
)
def test_whatever_the_program_does_comes_back_as_a_value(tmp_path: Path, body: str, reason: str) -> None:
    limits = process.Limits(seconds=2, output_bytes=1 << 20)
    answers = tool.judge(fake(tmp_path, body), MODULES, [NAMESPACE], {"bad": BAD}, limits=limits)
    assert isinstance(answers, Unavailable)
    assert reason in answers.reason
    assert answers.remedy


def test_a_program_that_does_not_exist_is_unavailable(tmp_path: Path) -> None:
    program = fake(tmp_path, "")
    program.path.unlink()
    answers = tool.judge(program, MODULES, [NAMESPACE], {"bad": BAD})
    assert isinstance(answers, Unavailable)
    assert "cannot be started" in answers.reason


def test_it_is_told_everything_by_flags_and_runs_in_a_folder_of_its_own(tmp_path: Path) -> None:
    said = "import os; sys.stderr.write(json.dumps([sys.argv, os.getcwd(), sorted(os.environ)]));"
    program = fake(tmp_path, said + " sys.exit(3)")
    result = tool.judge(program, MODULES, ["policies.a.b"], {"bad": BAD})
    assert isinstance(result, Unavailable)
    argv = tool.argv(["policies.a.b"], policy="rego", capabilities="c.json", config="conftest.toml", objects="objects")
    assert {"--no-fail=false", "--show-builtin-errors", "--parser=json", "--output=json"} <= set(argv)
    assert argv[argv.index("--config-file") + 1] == "conftest.toml"
    assert argv[argv.index("--capabilities") + 1] == "c.json"
    assert argv[argv.index("--namespace") + 1] == "policies.a.b"
    assert str(tmp_path) not in result.reason.replace(str(program.path), "")
    assert "CONFTEST" not in result.reason
