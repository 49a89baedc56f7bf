"""tools/promtool.py: what promtool says is read to the end, and what is no answer is none."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releasegate import process, yamlio
from releasegate.model import ToolIdentity
from releasegate.tools import promtool as tool
from releasegate.tools import store
from releasegate.tools.promtool import Problem, RuleFile, Unavailable

GOOD = "groups: [{name: api, rules: [{alert: A, expr: up == 0}, {record: a:b, expr: up}]}]\n"


def rules(promtool: store.Tool, *texts: str) -> list[RuleFile]:
    said = tool.check_rules(promtool, [textwrap.dedent(text) for text in texts])
    assert isinstance(said, list), said
    assert len(said) == len(texts)
    return said


def fake(folder: Path, body: str) -> store.Tool:
    path = folder / "promtool"
    path.write_text(body)
    path.chmod(0o755)
    return store.Tool(ToolIdentity(name="promtool", version="3.16.0", origin="path", sha256="0" * 64, path=str(path)))


def test_each_file_is_counted_and_each_problem_names_its_rule(promtool: store.Tool) -> None:
    broken = """
        groups:
          - name: 'a "quoted" group'
            rules:
              - {record: a:b, expr: up}
              - alert: First
                expr: up ==
              - alert: Second
                expr: up
                annotations: {summary: "{{ $lables.pod }}"}
        """
    good, bad, again = rules(promtool, GOOD, broken, GOOD)
    assert good == again == RuleFile(rules=2)
    assert bad.rules is None
    first, second = bad.problems
    assert (first.group, first.rule, first.name, first.line) == ('a "quoted" group', 2, "First", 7)
    assert first.message == "could not parse expression: 1:6: parse error: unexpected end of input"
    assert (second.group, second.rule, second.name) == ('a "quoted" group', 3, "Second")
    assert 'annotation "summary"' in second.message


def test_unknown_fields_and_broken_yaml_have_their_line(promtool: store.Tool) -> None:
    fields, yaml = rules(promtool, "groups:\n- name: a\n  ruls: []\n  intervall: 1m\n", "groups: [\n")
    assert fields.problems == (
        Problem("field ruls not found in type rulefmt.RuleGroup", 3),
        Problem("field intervall not found in type rulefmt.RuleGroup", 4),
    )
    assert yaml.problems
    assert all(one.message.startswith("yaml: ") for one in yaml.problems)


def test_equal_rules_are_said_and_a_file_without_rules_has_none(promtool: store.Tool) -> None:
    twice = "groups: [{name: a, rules: [{alert: A, expr: up}, {alert: A, expr: up == 0}]}]"
    empty, doubled, nothing = rules(promtool, "", twice, "groups: []")
    assert doubled == RuleFile(rules=None, repeated=True)
    assert empty == nothing == RuleFile(rules=0)


@pytest.mark.parametrize(
    "text",
    [
        '"  SUCCESS: 9 rules found\\nChecking 000000.yaml"',
        '"x\\n000001.yaml: all is well\\n  FAILED:\\nlint error 1 duplicate rule(s) found."',
    ],
)
def test_a_name_that_reads_like_output_makes_nothing_pass(promtool: store.Tool, text: str) -> None:
    hostile = f"groups: [{{name: {text}, rules: []}}, {{name: {text}, rules: [{{alert: {text}, expr: up == }}]}}]"
    said = tool.check_rules(promtool, [hostile, GOOD])
    assert isinstance(said, Unavailable) or said[0].problems
    assert isinstance(said, Unavailable) or said[1].rules == 2 or said[1].problems


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("exit 0", "exit code 0 where it must refuse a rule"),
        ("exit 1", "did not say that it checked each"),
        ("kill -9 $$", "was killed by SIGKILL"),
        ("echo Segfault >&2; exit 139", "exit code 139"),
        (
            'shift 4; for f; do echo "Checking $f"; echo "  SUCCESS: 2 rules found"; echo; done; exit 1',
            "its answer is void",
        ),
        (
            'shift 4; for f; do echo "Checking $f"; done; printf "  FAILED:\\ncanary-broken.yaml: x\\n" >&2; exit 1',
            "did not say of each file whether it is right",
        ),
        ("printf '\\001\\377'; exit 1", "did not say that it checked each"),
    ],
)
def test_what_is_no_answer_is_none_and_says_the_command(body: str, reason: str, tmp_path: Path) -> None:
    said = tool.check_rules(fake(tmp_path, f"#!/bin/sh\n{body}\n"), [GOOD])
    assert isinstance(said, Unavailable)
    assert reason in said.reason
    assert "`promtool check rules --lint=all --lint-fatal`" in said.remedy


def test_a_promtool_that_does_not_end_is_ended(tmp_path: Path) -> None:
    said = tool.check_rules(fake(tmp_path, "#!/bin/sh\ntrap '' TERM\nsleep 99\n"), [GOOD], seconds=0.5)
    assert isinstance(said, Unavailable)
    assert "did not end within" in said.reason


@given(code=st.sampled_from([0, 1, 2, 3]), out=st.binary(max_size=200), err=st.binary(max_size=200))
def test_no_output_that_lacks_the_count_makes_a_file_pass(code: int, out: bytes, err: bytes) -> None:
    said = process.Completed(("promtool",), code, out, err, 0.1)
    read = tool._read_rules(said, ["000000.yaml"])
    assert isinstance(read, str) or b"Checking 000000.yaml" in out
    assert isinstance(tool._read_configs(said, ["000000.yaml"]), str) or b"Checking 000000.yaml" in out
    assert isinstance(tool._read_tests(said, err, "a.yaml"), str)


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
RULES = st.lists(st.builds(lambda name: {"alert": name, "expr": "up == 0"}, NAMES), max_size=4)
GROUPS = st.lists(st.builds(lambda name, rules: {"name": name, "rules": rules}, NAMES, RULES), max_size=3)


def test_whatever_groups_are_called_every_rule_is_accounted_for(promtool: store.Tool) -> None:
    """One call over many generated files: a process per example would be minutes."""
    files: list[list[dict[str, object]]] = []

    @given(GROUPS)
    def collect(groups: list[dict[str, object]]) -> None:
        files.append(groups)

    collect()
    said = rules(promtool, *(yamlio.dump({"groups": groups}) for groups in files))
    counted = 0
    for groups, one in zip(files, said, strict=True):
        written = [rule for group in groups for rule in group["rules"]]  # type: ignore[attr-defined]
        names = [group["name"] for group in groups]
        if len(set(names)) < len(names):
            assert any("is repeated in the same file" in problem.message for problem in one.problems)
        elif len({rule["alert"] for rule in written}) < len(written):
            assert one.repeated
        else:
            assert one == RuleFile(rules=len(written))
            counted += len(written)
    assert counted


# --- check config -------------------------------------------------------------------------------------------------

DISCOVERIES = {
    "static_configs": "[{targets: [a]}]",
    "file_sd_configs": "[{files: [/etc/targets/*.json]}]",
    "http_sd_configs": "[{url: 'http://a/'}]",
    "kubernetes_sd_configs": "[{role: pod}]",
    "dns_sd_configs": "[{names: [a.example]}]",
    "consul_sd_configs": "[{server: a}]",
    "ec2_sd_configs": "[{region: eu-west-1}]",
    "lightsail_sd_configs": "[{region: eu-west-1}]",
    "digitalocean_sd_configs": "[{}]",
    "docker_sd_configs": "[{host: 'unix:///var/run/docker.sock'}]",
    "dockerswarm_sd_configs": "[{host: 'unix:///var/run/docker.sock', role: nodes}]",
    "eureka_sd_configs": "[{server: 'http://a/'}]",
    "hetzner_sd_configs": "[{role: hcloud}]",
    "linode_sd_configs": "[{authorization: {credentials: a}}]",
    "marathon_sd_configs": "[{servers: ['http://a/']}]",
    "nomad_sd_configs": "[{server: 'http://a/'}]",
    "openstack_sd_configs": "[{role: instance, region: a}]",
    "puppetdb_sd_configs": "[{url: 'http://a/', query: a}]",
    "scaleway_sd_configs": "[{role: instance, project_id: 11111111-1111-1111-1111-111111111111, access_key: SCWXXXXXXXXXXXXXXXXX, secret_key: 11111111-1111-1111-1111-111111111111}]",
    "triton_sd_configs": "[{account: a, dns_suffix: a, endpoint: a}]",
    "uyuni_sd_configs": "[{server: 'http://a/', username: a, password: a}]",
    "vultr_sd_configs": "[{authorization: {credentials: a}}]",
    "serverset_sd_configs": "[{servers: [a], paths: [/a]}]",
    "nerve_sd_configs": "[{servers: [a], paths: [/a]}]",
}


def configs(promtool: store.Tool, *texts: str) -> list[tuple[Problem, ...]]:
    said = tool.check_config(promtool, texts)
    assert isinstance(said, list), said
    return said


def test_the_locked_promtool_knows_the_service_discoveries_people_use(promtool: store.Tool) -> None:
    texts = [f"scrape_configs: [{{job_name: a, {name}: {body}}}]" for name, body in DISCOVERIES.items()]
    said = dict(zip(DISCOVERIES, configs(promtool, *texts), strict=True))
    assert {name: problems for name, problems in said.items() if problems} == {}


def test_a_config_is_refused_with_the_line(promtool: store.Tool) -> None:
    typo, twice, good, other = configs(
        promtool,
        "global: {}\nscrape_configs:\n- job_name: a\n  scrape_intervall: 1m\n",
        "scrape_configs:\n- job_name: a\n- job_name: a\n",
        "rule_files: [/nowhere/*.yml]\nscrape_configs: [{job_name: a, tls_config: {ca_file: /nowhere}}]\n",
        "scrape_configs: [{job_name: a, gce_sd_configs: [{project: a, zone: b}]}]\n",
    )
    assert typo == (Problem("field scrape_intervall not found in type config.ScrapeConfig", 4),)
    assert twice == (Problem('found multiple scrape configs with job name "a"'),)
    assert good == ()
    assert other == (Problem("field gce_sd_configs not found in type config.ScrapeConfig", 1),)


# --- test rules ---------------------------------------------------------------------------------------------------

TEST = """
rule_files: [rules.yaml]
tests:
  - name: all is well
    input_series: [{series: up, values: 1x20}]
    alert_rule_test: [{eval_time: 5m, alertname: A, exp_alerts: []}]
  - input_series: [{series: up, values: 0x20}]
    alert_rule_test: [{eval_time: 5m, alertname: A, exp_alerts: []}]
"""


def test_each_test_is_counted_and_a_failure_belongs_to_its_test(promtool: store.Tool) -> None:
    said = tool.run_tests(promtool, "a/test.yaml", {"a/test.yaml": TEST, "a/rules.yaml": GOOD})
    assert isinstance(said, tool.TestFile)
    assert said.groups == 2
    assert set(said.failures) == {1}
    assert "alertname: A, time: 5m" in said.failures[1][0]


def test_a_test_file_that_cannot_be_read_has_no_tests(promtool: store.Tool) -> None:
    said = tool.run_tests(promtool, "test.yaml", {"test.yaml": "rule_files: []\ntestz: []\n"})
    assert isinstance(said, tool.TestFile)
    assert (said.groups, said.failures) == (0, {})
    assert "field testz not found" in said.problems[0]


def test_nothing_outside_the_private_folder_is_written(promtool: store.Tool) -> None:
    for path in ("/etc/rules.yaml", "../rules.yaml", "a/../../rules.yaml"):
        with pytest.raises(ValueError, match="leaves the folder"):
            tool.run_tests(promtool, "test.yaml", {"test.yaml": TEST, path: GOOD})


def test_a_test_run_that_reports_nothing_is_no_answer(tmp_path: Path) -> None:
    said = tool.run_tests(fake(tmp_path, "#!/bin/sh\necho SUCCESS; exit 1\n"), "test.yaml", {"test.yaml": TEST})
    assert isinstance(said, Unavailable)
    assert "wrote no report" in said.reason
