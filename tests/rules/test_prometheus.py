"""prometheus/*: every rule is judged by promtool, equal rules are seen across files, each on its own line."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from releasegate import yamlio
from releasegate.cache import Cache
from releasegate.config import Config
from releasegate.model import (
    Environment,
    Finding,
    HelmSource,
    Manifest,
    Release,
    Rendered,
    Repo,
    Tree,
    Unjudged,
    ValuesFile,
)
from releasegate.rulefiles import plain_files, read, rule_files
from releasegate.rules import Evidence, Shared, catalogue
from releasegate.tools import promtool as programs
from releasegate.tools import store

RULES = {one.id: one for one in catalogue() if one.family == "prometheus"}
CHART = "monitoring"
Judge = Callable[..., list[Finding | Unjudged]]


def manifest(text: str, template: str | None = f"{CHART}/templates/rules.yaml", path: str | None = None) -> Manifest:
    text = textwrap.dedent(text)
    return Manifest(body=yamlio.load(text), text=text, template=template, path=path)


def rendered(*texts: str | Manifest, name: str = "monitoring", values: tuple[str, ...] = ()) -> Rendered:
    source = HelmSource(chart=CHART, values_files=tuple(ValuesFile(path=path) for path in values))
    release = Release(name=name, environment="prod", helm_release=name, namespace="shop", sources=(source,))
    return Rendered(
        release=release, manifests=tuple(one if isinstance(one, Manifest) else manifest(one) for one in texts)
    )


def rule_object(groups: str, name: str = "api", kind: str = "PrometheusRule", **labels: str) -> str:
    group = {"PrometheusRule": "monitoring.coreos.com/v1", "VMRule": "operator.victoriametrics.com/v1beta1"}[kind]
    shown = "".join(f"    {key}: {value}\n" for key, value in labels.items())
    head = f"apiVersion: {group}\nkind: {kind}\nmetadata:\n  name: {name}\n"
    head += f"  labels:\n{shown}" if labels else ""
    return f"{head}spec:\n{textwrap.indent(textwrap.dedent(groups), '  ')}"


def config_map(name: str = "rules", **data: str) -> str:
    return yamlio.dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


GOOD = """\
groups:
  - name: api
    rules:
      - alert: Down
        expr: up == 0
"""
BROKEN = GOOD.replace("up == 0", "up ==")


class World:
    """A tree and the evidence made of it."""

    def __init__(self, folder: Path, tool: store.Tool | store.ToolMissing) -> None:
        self.folder = folder / "tree"
        self.folder.mkdir()
        self.tool = tool
        self.cache = Cache(None)
        self.shared: Shared | None = None

    def write(self, **files: str) -> None:
        for name, text in files.items():
            self.file(name, text)

    def file(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(textwrap.dedent(text))

    @property
    def tree(self) -> Tree:
        files = sorted(one.relative_to(self.folder).as_posix() for one in self.folder.rglob("*") if one.is_file())
        return Tree(root=str(self.folder), files=tuple(files))

    def judge(self, rule_id: str, *renders: Rendered, require: tuple[str, ...] = ()) -> list[Finding | Unjudged]:
        environment = Environment(name="prod", protected=True, kubernetes="1.37", why="test")
        tree = self.tree
        self.shared = self.shared or Shared(tree, find=lambda _name: self.tool, cache=self.cache)
        evidence = Evidence(
            repo=Repo(tree=tree, environments=(environment,), releases=tuple(one.release for one in renders)),
            config=Config(prometheus_require=require),
            environment=environment,
            release=None,
            renders=renders,
            shared=self.shared,
        )
        rule = RULES[rule_id]
        subjects = rule.subjects(evidence)
        return list(rule.check(subjects, evidence)) if subjects else []

    def findings(self, rule_id: str, *renders: Rendered, require: tuple[str, ...] = ()) -> list[Finding]:
        found = self.judge(rule_id, *renders, require=require)
        assert not [one for one in found if isinstance(one, Unjudged)], found
        return [one for one in found if isinstance(one, Finding)]

    def only(self, rule_id: str, *renders: Rendered, require: tuple[str, ...] = ()) -> Finding:
        (found,) = self.findings(rule_id, *renders, require=require)
        return found


@pytest.fixture
def world(promtool: store.Tool, tmp_path: Path) -> World:
    return World(tmp_path, promtool)


def at(finding: Finding) -> str:
    return str(finding.place).rpartition(":")[0] if finding.place and finding.place.column else str(finding.place)


# --- the pages ----------------------------------------------------------------------------------------------------


def examples(rule_id: str) -> tuple[str, str]:
    bad, good = RULES[rule_id].doc.split("Bad:", 1)[1].split("Good:", 1)
    return textwrap.dedent(bad), textwrap.dedent(good)


@pytest.mark.parametrize("rule_id", ["prometheus/rules", "prometheus/config"])
def test_the_bad_object_of_the_page_is_bad_and_the_good_one_good(rule_id: str, world: World) -> None:
    bad, good = examples(rule_id)
    assert world.findings(rule_id, rendered(good)) == []
    assert len(world.findings(rule_id, rendered(bad))) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_the_examples_of_files_and_tests(which: int, world: World) -> None:
    world.file("rules/api.yaml", examples("prometheus/files")[which])
    assert len(world.findings("prometheus/files")) == 1 - which
    world.shared = None
    world.file("rules/api.yaml", examples("prometheus/files")[1])
    world.file("rules/api_tests.yaml", examples("prometheus/tests")[which])
    assert len(world.findings("prometheus/tests")) == 1 - which


# --- what is a rule file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (rule_object(GOOD), 1),
        (rule_object(GOOD, kind="VMRule"), 1),
        (config_map(**{"rules.yml": GOOD, "other.rules": GOOD, "notes.txt": "groups of people"}), 2),
        (config_map(**{"rules.json": '{"groups": [{"name": "a", "rules": [{"alert": "A", "expr": "up"}]}]}'}), 1),
        (config_map(**{"grafana.yaml": "apiVersion: 1\ngroups:\n- orgId: 1\n  rules: [{uid: a, title: alert}]\n"}), 0),
        (config_map(**{"dex.yaml": "groups: [admins, record, alert]\n"}), 0),
        (rule_object("groups: []"), 0),
        (config_map(**{"rules.yml": GOOD}).replace("metadata:\n", "metadata:\n  labels: {loki_rule: ''}\n"), 1),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: [groups]\n", 0),
        ("apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: a}\nspec: nothing\n", 0),
    ],
)
def test_what_is_a_rule_and_what_only_looks_like_one(text: str, count: int, world: World) -> None:
    assert sum(len(file.rules()) for file in rule_files([rendered(text)])) == count
    assert world.findings("prometheus/rules", rendered(text)) == []


@pytest.mark.parametrize(
    "block",
    [
        "|\n    {0}",
        "|-\n    {0}",
        "|+\n    {0}\n\n",
        "|2\n    {0}",
        ">-\n    {1}",
        '"{2}"',
    ],
)
def test_rules_are_read_from_a_block_however_it_is_written(block: str, world: World) -> None:
    lines = BROKEN.rstrip("\n").split("\n")
    written = block.format("\n    ".join(lines), "\n\n    ".join(lines), BROKEN.replace("\n", "\\n"))
    if block.startswith(">"):  # folded: only flow style survives it
        written = '>-\n    {groups: [{name: api, rules: [{alert: Down,\n    expr: "up =="}]}]}'
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  rules.yml: {written}\n"
    assert "could not parse expression" in world.only("prometheus/rules", rendered(text)).message


def test_a_text_that_was_meant_to_be_rules_and_is_no_yaml_is_found(world: World) -> None:
    found = world.only("prometheus/rules", rendered(config_map(**{"rules.yml": GOOD + "   - x: [\n"})))
    assert "rules.yml of ConfigMap rules is no YAML" in found.message
    assert found.pointer == "/data/rules.yml"


def test_a_second_document_is_never_loaded(world: World) -> None:
    found = world.only("prometheus/rules", rendered(config_map(**{"rules.yml": f"{GOOD}---\n{GOOD}"})))
    assert "second YAML document" in found.message
    world.file("rules.yaml", f"{GOOD}---\n{GOOD}")
    world.shared = None
    assert at(world.only("prometheus/files")) == "rules.yaml:7"


@pytest.mark.parametrize("field", ["partial_response_strategy: warn", "source_tenants: [a]"])
def test_what_thanos_and_mimir_add_is_no_mistake(field: str, world: World) -> None:
    groups = GOOD.replace("  - name: api\n", f"  - name: api\n    {field}\n")
    renders = rendered(rule_object(groups), config_map(**{"rules.yml": f"namespace: a\n{groups}"}))
    assert world.findings("prometheus/rules", renders) == []


# --- where it is written ------------------------------------------------------------------------------------------


def test_a_rule_of_a_file_that_the_chart_loads_is_found_in_that_file(world: World) -> None:
    world.file(f"{CHART}/rules/web.yaml", GOOD)
    world.file(f"{CHART}/rules/api.yaml", "# a comment\n" + BROKEN)
    found = world.only("prometheus/rules", rendered(rule_object(BROKEN)))
    assert at(found) == f"{CHART}/rules/api.yaml:6"
    assert "alert Down: could not parse expression" in found.message
    text = world.only("prometheus/rules", rendered(config_map(**{"api.yaml": BROKEN})))
    assert at(text) == f"{CHART}/rules/api.yaml:6"


def test_of_two_files_that_say_the_same_neither_is_blamed(world: World) -> None:
    world.write(**{f"{CHART}/rules/{name}.yaml": BROKEN for name in ("prod", "staging")})
    assert world.only("prometheus/rules", rendered(rule_object(BROKEN))).place is None


def test_a_rule_in_the_values_is_found_there(world: World) -> None:
    values = "extra:\n  rules:\n    platform:\n" + textwrap.indent(BROKEN, "      ")
    world.file("values-prod.yaml", values)
    found = world.only("prometheus/rules", rendered(rule_object(BROKEN), values=("values-prod.yaml",)))
    assert at(found) == "values-prod.yaml:8"


def test_a_rule_written_in_the_template_is_found_by_its_one_line(world: World) -> None:
    template = """\
        spec:
          groups:
            - name: api-{{ .Release.Name }}
              rules:
                - alert: Down
                  for: 5m
                  expr: up ==
                  annotations:
                    summary: {{ "{{" }} $labels.pod }} is down
        """
    world.file(f"{CHART}/templates/rules.yaml", template)
    assert at(world.only("prometheus/rules", rendered(rule_object(BROKEN)))) == f"{CHART}/templates/rules.yaml:7"
    world.shared = None
    world.file(f"{CHART}/templates/rules.yaml", template + template)
    assert world.only("prometheus/rules", rendered(rule_object(BROKEN))).place is None


def test_a_problem_of_an_annotation_is_at_that_annotation(world: World) -> None:
    groups = GOOD + "        annotations:\n          runbook_url: a\n          summary: '{{ $lables.pod }}'\n"
    world.file("rules.yaml", groups)
    found = world.only("prometheus/files")
    assert at(found) == "rules.yaml:8"
    assert "$externalLabels" in found.help


def test_an_unknown_field_is_at_the_rule_that_has_it(world: World) -> None:
    world.file("rules.yaml", GOOD + "        fro: 5m\n")
    found = world.only("prometheus/files")
    assert (at(found), found.message) == ("rules.yaml:6", "alert Down: 'fro' is no field of a rule")


def test_one_broken_file_in_three_environments_is_one_cause_and_one_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = programs.check_rules

    def counted(tool: store.Tool, texts: Any) -> Any:
        calls.append(len(texts))
        return real(tool, texts)

    monkeypatch.setattr(programs, "check_rules", counted)
    world.file(f"{CHART}/rules/api.yaml", BROKEN)
    found = [world.only("prometheus/rules", rendered(rule_object(BROKEN), name=name)) for name in ("a", "b", "c")]
    assert calls == [1]
    assert len({(one.place, one.change) for one in found}) == 1


# --- equal rules --------------------------------------------------------------------------------------------------

TWICE = GOOD + "      - alert: Down\n        expr: up == 1\n"


def test_two_alerts_of_one_name_and_equal_labels_are_found_at_the_second(world: World) -> None:
    world.file("rules.yaml", TWICE)
    found = world.only("prometheus/files")
    assert at(found) == "rules.yaml:6"
    assert "alert Down is defined twice with the same labels (no labels): first at rules.yaml:4" in found.message


@pytest.mark.parametrize(
    ("second", "count"),
    [
        ("{name: b, rules: [{alert: Down, expr: up, labels: {severity: page}}]}", 0),
        ("{name: b, labels: {severity: page}, rules: [{alert: Down, expr: up}]}", 0),
        ("{name: b, labels: {a: b}, rules: [{alert: Down, expr: up, labels: {a: ''}}]}", 0),
        ("{name: b, rules: [{alert: Down, expr: up, labels: {}}]}", 1),
        ("{name: b, rules: [{record: Down, expr: up}]}", 1),
    ],
)
def test_labels_of_the_group_count_and_promtool_counts_alike(second: str, count: int, world: World) -> None:
    assert len(world.findings("prometheus/rules", rendered(rule_object(f"{GOOD}  - {second}\n")))) == count


def test_a_record_in_parts_is_advice_and_the_same_record_twice_is_wrong(world: World) -> None:
    parts = "groups:\n- name: a\n  rules:\n  - {record: a:b, expr: up == 0}\n  - {record: a:b, expr: up == 1}\n"
    world.file("rules.yaml", parts)
    found = world.only("prometheus/files")
    assert found.advice
    assert "no series comes out of both" in found.help
    world.file("rules.yaml", parts.replace("up == 1", "up == 0"))
    world.shared = None
    assert not world.only("prometheus/files").advice


def test_equal_rules_of_two_objects_that_no_selector_tells_apart(world: World) -> None:
    alike = [rule_object(GOOD, name=name, release="kps") for name in ("a", "b")]
    assert "first in PrometheusRule a" in world.only("prometheus/rules", rendered(*alike)).message
    across = [rendered(alike[0], name="one"), rendered(alike[1], name="two")]
    assert len(world.findings("prometheus/rules", *across)) == 1
    other = rule_object(GOOD, name="c", release="other")
    assert world.findings("prometheus/rules", rendered(alike[0], other)) == []
    assert world.findings("prometheus/rules", rendered(alike[0], alike[0])) == [], "schema/unique says that"


@pytest.mark.parametrize(
    ("selector", "count"),
    [
        ("ruleSelector: {}", 1),
        ("ruleSelector: {matchExpressions: [{key: release, operator: In, values: [a, b]}]}", 1),
        ("ruleSelector: {matchLabels: {release: a}}", 0),
        ("ruleNamespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}\n  ruleSelector: {}", 1),
        ("ruleNamespaceSelector: {matchLabels: {team: shop}}\n  ruleSelector: {}", 0),
        ("replicas: 1", 0),
    ],
)
def test_a_rendered_prometheus_says_what_it_loads(selector: str, count: int, world: World) -> None:
    prometheus = (
        "apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nmetadata: {name: k}\nspec:\n  " + selector + "\n"
    )
    objects = [rule_object(GOOD, name=name, release=name) for name in ("a", "b")]
    assert len(world.findings("prometheus/rules", rendered(prometheus, *objects))) == count


# --- what the config requires -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("require", "lacks"),
    [
        ("severity", "label severity"),
        ("runbook", "annotation runbook_url"),
        ("for", "`for`"),
        ("team", "label or annotation team"),
    ],
)
def test_every_alert_has_what_is_required_and_records_need_not(require: str, lacks: str, world: World) -> None:
    full = """\
groups:
  - name: api
    labels: {team: shop}
    rules:
      - record: a:b
        expr: up
      - alert: Down
        expr: up == 0
        for: 0s
        labels: {severity: page}
        annotations: {runbook_url: https://runbooks.acme.example/down}
"""
    assert world.findings("prometheus/rules", rendered(rule_object(full)), require=(require,)) == []
    found = world.only("prometheus/rules", rendered(rule_object(GOOD)), require=(require,))
    assert found.message == f"alert Down has no {lacks}"
    assert "[prometheus] require" in found.help


# --- what promtool cannot judge -----------------------------------------------------------------------------------


def unjudged(found: list[Finding | Unjudged]) -> Unjudged:
    (one,) = found
    assert isinstance(one, Unjudged), one
    return one


def test_metricsql_and_logql_are_not_judged_and_say_so(world: World) -> None:
    metrics = GOOD.replace("up == 0", "rate(up) default 0")
    one = unjudged(world.judge("prometheus/rules", rendered(rule_object(metrics, kind="VMRule"))))
    assert "MetricsQL" in one.reason
    assert "not_evaluated = true" in one.remedy
    logs = GOOD.replace("up == 0", """sum(rate({app="api"} |= "error" [5m])) > 1""")
    assert "LogQL" in unjudged(world.judge("prometheus/rules", rendered(config_map(**{"rules.yml": logs})))).reason
    assert len(world.findings("prometheus/rules", rendered(rule_object(logs)))) == 1, "no place for LogQL"


def test_without_promtool_nothing_passes(tmp_path: Path) -> None:
    missing = World(tmp_path, store.ToolMissing("promtool", "not found", "releasegate tools install promtool"))
    missing.write(
        **{"rules.yaml": GOOD, "rules_tests.yaml": examples("prometheus/tests")[1].replace("api.yaml", "rules.yaml")}
    )
    config = config_map(**{"prometheus.yml": "global: {}\n"})
    for rule_id, renders in (
        ("prometheus/rules", (rendered(rule_object(GOOD)),)),
        ("prometheus/config", (rendered(config),)),
        ("prometheus/files", ()),
    ):
        one = unjudged(missing.judge(rule_id, *renders))
        assert one.remedy == "releasegate tools install promtool"
    assert any(isinstance(one, Unjudged) for one in missing.judge("prometheus/tests"))


def test_a_count_that_differs_is_not_judged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (programs.RuleFile(rules=2), programs.RuleFile(rules=None, repeated=True)):
        monkeypatch.setattr(programs, "check_rules", lambda *_args, said=answer: [said])
        world.shared = None
        one = unjudged(world.judge("prometheus/rules", rendered(rule_object(GOOD))))
        assert "1 rules are written there, promtool found" in one.reason


def test_a_promtool_that_gave_no_answer_is_not_asked_the_same_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def hangs(_tool: store.Tool, texts: Any) -> programs.Unavailable:
        calls.append(len(texts))
        return programs.Unavailable("promtool did not end within 60 s", "x")

    monkeypatch.setattr(programs, "check_rules", hangs)
    for name in ("a", "b"):
        assert "did not end" in unjudged(world.judge("prometheus/rules", rendered(rule_object(GOOD), name=name))).reason
    assert calls == [1]


FLOW = '{groups: [{name: api, rules: [{alert: Down, expr: "up =="}]}]}\n'
WRITTEN_OTHERWISE = {
    "flow below a comment": f"# c\n{FLOW}",
    "flow below a marker": f"---\n{FLOW}",
    "flow on the line of the marker": f"--- {FLOW}",
    "groups with an escape": BROKEN.replace("groups", r'"gr\u006fups"'),
    "groups with a long escape": BROKEN.replace("groups", r'"gr\U0000006fups"'),
    "groups broken over two lines": '? "gro\\\n  ups"\n: ' + FLOW.removeprefix("{groups: ").replace("}\n", "\n"),
    "groups as base64": BROKEN.replace("groups", "!!binary Z3JvdXBz"),
    "alert with an escape": BROKEN.replace("alert", r'"al\x65rt"'),
    "explicit keys": "? groups # c\n: [{name: api, rules: [{? alert : Down, expr: 'up =='}]}]\n",
    "an anchor at the key": f"&a {BROKEN}",
    "an anchor and an alias": BROKEN.replace("- name: api", "- name: &g groups").replace("groups:", "&x groups:", 1),
    "JSON with an escape": json.dumps(yamlio.load(BROKEN)).replace("groups", r"gr\u006fups"),
    "a kind above": f"kind: x\n{BROKEN}",
    "a list in front": f"[]\n---\n{BROKEN}",
    "an object in front": f"apiVersion: v1\nkind: ConfigMap\n---\n{BROKEN}",
    "cut off": "# c\n{groups: [{name: api, rules: [{alert: Down, expr: up}]}]\n",
}


@pytest.mark.parametrize("text", WRITTEN_OTHERWISE.values(), ids=WRITTEN_OTHERWISE.keys())
def test_broken_rules_are_found_however_they_are_written(text: str, world: World) -> None:
    assert world.findings("prometheus/rules", rendered(config_map(**{"rules.yml": text})))
    world.file("platform/y.yaml", text)
    world.shared = None
    assert world.findings("prometheus/files")


def binary(text: bytes) -> str:
    return config_map().replace("data: {}", f"binaryData: {{rules.yml: {base64.b64encode(text).decode()}}}")


def test_rules_in_binary_data_are_judged_and_pictures_are_not(world: World) -> None:
    found = world.only("prometheus/rules", rendered(binary(BROKEN.encode())))
    assert "could not parse expression" in found.message
    assert found.pointer == "/binaryData/rules.yml"
    for other in (b"\x89PNG groups: alert:", GOOD.encode("utf-16")):
        assert world.judge("prometheus/rules", rendered(binary(other))) == []
    broken = binary(b"").replace("{rules.yml: }", "{rules.yml: groups alert, other: 1}")
    assert world.judge("prometheus/rules", rendered(broken)) == []


@pytest.mark.parametrize(
    ("expr", "what"),
    [
        ("up ==", Finding),
        ("sum(rate({app='a'} |= 'b' [5m])) > 1", Unjudged),
        ("sum(rate({app='a'} != 'b' [5m])) > 1", Unjudged),
        ("bytes_rate({app='a'}[5m]) > 1", Unjudged),
    ],
)
def test_of_lokis_rules_only_what_is_logql_is_left_and_said_so(expr: str, what: type, world: World) -> None:
    text = config_map(**{"rules.yml": GOOD.replace("up == 0", expr)})
    text = text.replace("metadata:\n", "metadata:\n  labels: {loki_rule: '1'}\n")
    (found,) = world.judge("prometheus/rules", rendered(text))
    assert isinstance(found, what)
    assert what is Finding or "LogQL" in str(found)


@pytest.mark.parametrize("length", [100, 20_000])
def test_a_dashboard_that_holds_both_words_is_no_yaml_to_parse(
    length: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels = [{"title": "groups", "alert": {"record": r"\u006f"}}] * length
    monkeypatch.setattr(yamlio, "kept", pytest.fail)
    text = json.dumps({"panels": panels})
    assert plain_files(Shared(world.tree).files) == []
    assert read(text, origin="text") is None


# --- plain files --------------------------------------------------------------------------------------------------


def test_a_file_of_a_deployed_chart_that_loads_files_is_judged_as_rendered_only(world: World) -> None:
    world.write(
        **{
            f"{CHART}/Chart.yaml": "name: a\n",
            f"{CHART}/rules/api.yaml": BROKEN,
            f"{CHART}/templates/rules.yaml": '{{ .Files.Get "rules/api.yaml" }}',
        }
    )
    assert world.findings("prometheus/files", rendered(rule_object(BROKEN))) == []
    assert len(world.findings("prometheus/files")) == 1, "nothing deploys the chart"


@pytest.mark.parametrize(
    ("path", "loads", "count"),
    [
        ("other/y.yaml", '.Files.Get "rules/api.yaml"', 1),
        ("other/y.yaml", '.Files.Glob "rules/*.yaml"', 1),
        ("rules/deep/y.yaml", '.Files.Glob "rules/*.yaml"', 1),
        ("rules/deep/y.yaml", '.Files.Glob "rules/**.yaml"', 0),
        ("rules/prod/y.yaml", '.Files.Glob (printf "rules/%s/*.yaml" .Values.env)', 0),
        ("rules/prod/y.yaml", '.Files.Get (print "rules/" .Values.env "/y.yaml")', 0),
        ("other/y.yaml", '/* .Files "other/y.yaml" */}}{{ .Files.Get "a" ', 1),
        ("other/y.yaml", ".Files.Get .Values.other", 1),
        ("other/y.yaml", ".Files.Get .Values.rules", 0),
    ],
)
def test_a_file_that_no_template_of_its_chart_loads_is_judged(path: str, loads: str, count: int, world: World) -> None:
    values = "rules: other/y.yaml\n" if loads.endswith("rules") else "other: a\n"
    world.write(
        **{
            f"{CHART}/Chart.yaml": "name: a\n",
            f"{CHART}/values.yaml": values,
            f"{CHART}/{path}": BROKEN,
            f"{CHART}/templates/rules.yaml": f"{{{{ {loads} }}}}",
        }
    )
    assert len(world.findings("prometheus/files", rendered(rule_object(GOOD)))) == count


@pytest.mark.parametrize(
    "note", ['annotations: {summary: "{{ if true }}x{{ end }}"}', "for: 1m # {{ .Values.x }}", "for: 1m # {{ `{{` }}"]
)
@pytest.mark.parametrize("chart", ["name: a\n", "name: a\ndependencies: []\n"])
def test_what_prometheus_fills_in_and_a_comment_make_no_template_of_helm(note: str, chart: str, world: World) -> None:
    world.write(**{"helm/api/Chart.yaml": chart, "helm/api/alerts/y.yaml": f"{BROKEN}        {note}\n"})
    assert len(world.findings("prometheus/files")) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("chart/rules/api.yaml", GOOD.replace("up == 0", 'up{env="{{ .Values.env }}"} == 0').replace("up{", "up {")),
        ("chart/rules/api.yaml", GOOD + "{{ if .Values.more }}\n      - alert: [\n{{ end }}\n"),
        ("chart/templates/rules.yaml", BROKEN),
        ("rules.txt", BROKEN),
        ("groups.yaml", "apiVersion: v1\nkind: ConfigMap\ngroups: []\n---\nalert: none\n"),
    ],
)
def test_what_is_no_plain_rule_file(path: str, text: str, world: World) -> None:
    loads = '{{ tpl (.Files.Get "rules/api.yaml") . }}'
    world.write(**{"chart/Chart.yaml": "name: a\n", "chart/templates/a.yaml": loads, path: text})
    assert plain_files(Shared(world.tree).files) == []


def test_files_that_cannot_be_read_break_nothing(world: World) -> None:
    world.write(**{"a.yaml": "groups: alert\n", "deep.yaml": "groups:\n- rules:\n  - alert: " + "[" * 100_000})
    (world.folder / "bytes.yaml").write_bytes(b"groups:\n\xff alert: \0")
    (world.folder / "link.yaml").symlink_to("/etc/hostname")
    (found,) = world.findings("prometheus/files")
    assert (found.place and found.place.path) == "deep.yaml"
    assert world.findings("prometheus/tests") == []


# --- unit tests of rules ------------------------------------------------------------------------------------------

TESTS = """\
rule_files: [{files}]
tests:
  - name: first
    input_series: [{{series: up, values: {value}x200}}]
    alert_rule_test:
      - eval_time: 90m
        alertname: Other
        exp_alerts: []
      - eval_time: {time}
        alertname: {name}
        exp_alerts: []
"""


def write_tests(
    world: World, files: str = "rules.yaml", *, value: int = 1, time: str = "5m", name: str = "Down"
) -> None:
    other = GOOD + "      - alert: Other\n        expr: up == 7\n"
    world.write(**{"t/rules.yaml": other, "t/tests.yaml": TESTS.format(files=files, value=value, time=time, name=name)})


@pytest.mark.parametrize(
    ("files", "line", "message"),
    [
        ("nothing.yaml", 1, "no file of the repo matches rule file 'nothing.yaml'"),
        ("/etc/passwd", 1, "rule file '/etc/passwd' is outside the repository"),
        ("../../rules.yaml", 1, "rule file '../../rules.yaml' is outside the repository"),
        ("'*.rules'", 1, "no file of the repo matches rule file '*.rules'"),
        ("", 1, "t/tests.yaml names no rule file"),
    ],
)
def test_rule_files_that_match_nothing_are_found(files: str, line: int, message: str, world: World) -> None:
    write_tests(world, files)
    (world.folder.parent / "rules.yaml").write_text(GOOD)
    found = world.only("prometheus/tests")
    assert message in found.message
    assert at(found) == f"t/tests.yaml:{line}"


def test_promtool_is_never_given_a_test_that_names_a_file_outside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens what a test names, and prints what it could not read there."""
    asked: list[str] = []
    monkeypatch.setattr(programs, "run_tests", lambda _tool, path, *_rest, **_more: asked.append(path))
    write_tests(world, "rules.yaml, /etc/passwd")
    assert "outside the repository" in world.only("prometheus/tests").message
    assert asked == []


@pytest.mark.parametrize(
    "files", ["rules.yaml", "../t/rules.yaml", "'*.yaml'", "'r?les.yaml'", "'[a-s]ules.yaml'", "./rules.yaml"]
)
def test_rule_files_are_found_as_go_finds_them(files: str, world: World) -> None:
    write_tests(world, files)
    if files == "'*.yaml'":
        assert "rule file t/tests.yaml is none" in world.only("prometheus/tests").message
    else:
        assert world.findings("prometheus/tests") == []


def test_a_failing_test_is_found_at_what_it_expects(world: World) -> None:
    write_tests(world, value=0, time="1h30m")
    found = world.only("prometheus/tests")
    assert "test 'first' fails: name: first, alertname: Down, time: 1h30m" in found.message
    assert at(found) == "t/tests.yaml:10"


def test_an_alert_nobody_defines_is_found_once(world: World) -> None:
    write_tests(world, name="Dwon")
    found = world.only("prometheus/tests")
    assert "no alert 'Dwon' is defined in t/rules.yaml (did you mean 'Down'?)" in found.message
    assert at(found) == "t/tests.yaml:10"


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("tests: []", "holds no tests"),
        ("evaluation_interval: 1m", "holds no tests"),
        ("tests:\n- name: a\n  input_series: [{series: up, values: 1}]", "test 'a' expects nothing"),
        ("tests:\n- input_series: []\n  alert_rule_test: []", "test number 1 expects nothing"),
        ("tests:\n- alert_rule_test: [{alertname: Down, eval_tme: 1m}]", "promtool cannot read t.yaml"),
        ("tests:\n- alert_rule_test: [\n  - x", "t.yaml is no YAML"),
    ],
)
def test_tests_that_test_nothing_are_found(tests: str, message: str, world: World) -> None:
    world.write(**{"rules.yaml": GOOD, "t.yaml": f"rule_files: [rules.yaml]\n{tests}\n"})
    assert message in world.only("prometheus/tests").message


def test_of_a_rule_file_that_does_not_load_the_tests_only_say_that(world: World) -> None:
    write_tests(world)
    world.file("t/rules.yaml", BROKEN + "      - alert: Other\n        expr: up == 7\n")
    (gap,) = world.judge("prometheus/tests")
    assert isinstance(gap, Unjudged)
    assert "t/rules.yaml does not load" in gap.reason


def test_a_name_that_reads_like_an_option_or_like_the_canary_is_a_file(world: World) -> None:
    for name in ("--run=nothing.yaml", "canary-broken.yaml"):
        world.write(**{"rules.yaml": GOOD, name: TESTS.format(files="rules.yaml", value=0, time="5m", name="Down")})
    found = [str(one.place) for one in world.findings("prometheus/tests") if "fails" in one.message]
    assert found == ["--run=nothing.yaml:10:9", "canary-broken.yaml:10:9"]


def test_what_was_run_is_not_run_again_until_something_changes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cache = Cache(tmp_path / "cache")
    runs: list[str] = []
    real = programs.run_tests

    def counted(tool: store.Tool, path: str, files: Mapping[str, str], **more: Any) -> Any:
        runs.append(path)
        return real(tool, path, files, **more)

    monkeypatch.setattr(programs, "run_tests", counted)
    write_tests(world, value=0)
    first = world.only("prometheus/tests")
    world.shared = None
    assert world.only("prometheus/tests") == first
    assert runs == ["t/tests.yaml"]
    world.shared = None
    write_tests(world)
    assert world.findings("prometheus/tests") == []
    assert len(runs) == 2


# --- prometheus.yml -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "count"),
    [
        ("prometheus.yml", "global: {}\n", 1),
        ("prometheus.yaml", "nonsense: {}\n", 1),
        ("server.yml", "scrape_configs: [{job_name: a}]\n", 1),
        ("promtail.yaml", "clients: []\nscrape_configs: [{job_name: a}]\n", 0),
        ("notes.txt", "scrape_configs: [{job_name: a}]\n", 0),
        ("a.yaml", "scrape_configs: [\n", 0),
    ],
)
def test_what_is_a_config(key: str, text: str, count: int, world: World) -> None:
    evidence_of = rendered(config_map(**{key: text}))
    found = world.judge("prometheus/config", evidence_of)
    assert len(found) == (1 if "nonsense" in text else 0)
    environment = Environment(name="prod", protected=True, kubernetes="1.37", why="test")
    evidence = Evidence(
        repo=Repo(tree=world.tree, environments=(environment,), releases=()),
        config=Config(),
        environment=environment,
        release=None,
        renders=(evidence_of,),
        shared=Shared(world.tree),
    )
    assert len(RULES["prometheus/config"].subjects(evidence)) == count


CONFIG = "global:\n  scrape_interval: 30s\nrule_files:\n  - /rules/*.yml\nscrape_configs:\n  - job_name: a\n"


def test_a_problem_is_at_its_line_of_the_file_the_chart_loads_or_of_its_template(world: World) -> None:
    typo = CONFIG.replace("  - job_name: a\n", "  - job_name: a\n    scrape_intervall: 1m\n")
    text = rendered(config_map(**{"prometheus.yml": typo}))
    assert world.only("prometheus/config", text).place is None
    world.shared = None
    world.file(f"{CHART}/templates/rules.yaml", "data:\n  prometheus.yml: |\n" + textwrap.indent(typo, "    "))
    assert at(world.only("prometheus/config", text)) == f"{CHART}/templates/rules.yaml:9"
    world.shared = None
    world.file(f"{CHART}/templates/rules.yaml", "data: {{ .Files.Get | nindent 4 }}\n")
    world.file(f"{CHART}/prometheus.yml", typo)
    assert at(world.only("prometheus/config", text)) == f"{CHART}/prometheus.yml:7"


def test_a_discovery_that_this_promtool_lacks_is_not_judged(world: World) -> None:
    text = "scrape_configs: [{job_name: a, gce_sd_configs: [{project: a, zone: b}]}]\n"
    one = unjudged(world.judge("prometheus/config", rendered(config_map(**{"prometheus.yml": text}))))
    assert "built without the service discovery gce" in one.reason
    assert "RELEASEGATE_TOOLS" in one.remedy


SERVER = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {{name: prometheus}}
    spec:
      template:
        spec:
          containers:
            - name: prometheus
              image: {image}
              args: [--config.file=/etc/prometheus/prometheus.yml]
              volumeMounts:
                - {{name: config, mountPath: /etc/prometheus}}
                - {{name: rules, mountPath: {mount}}}
          volumes:
            - {{name: config, configMap: {{name: config}}}}
            - {{name: rules, {volume}}}
    """
OFFICIAL = "quay.io/prometheus/prometheus:v3.16.0"
OF_RULES = "configMap: {name: rules}"


def served(
    pattern: str, *, mount: str = "/rules", volume: str = OF_RULES, image: str = OFFICIAL, **rules: str
) -> Rendered:
    config = CONFIG.replace("/rules/*.yml", pattern)
    return rendered(
        SERVER.format(mount=mount, volume=volume, image=image),
        config_map("config", **{"prometheus.yml": config}),
        config_map("rules", **(rules or {"api.yml": GOOD})),
    )


@pytest.mark.parametrize(
    ("pattern", "more", "count"),
    [
        ("/rules/*.yml", {}, 0),
        ("../../rules/api.yml", {}, 0),
        ("/rules/*.yaml", {}, 2),  # matches nothing, and what is mounted is not loaded
        ("rules/*.yml", {"mount": "/etc/prometheus/rules"}, 0),
        ("/rules/*.yml", {"volume": "emptyDir: {}"}, 0),
        ("/rules/*.yml", {"volume": "configMap: {name: elsewhere}"}, 0),
        ("/rules/sub/*.yml", {"volume": "configMap: {name: rules, items: [{key: api.yml, path: sub/a.yml}]}"}, 0),
        ("/other/*.yml", {}, 2),
        ("/other/*.yml", {"image": "registry.acme.example/prometheus:1", "volume": "emptyDir: {}"}, 0),
        ("/etc/prometheus/*.rules", {"volume": "emptyDir: {}"}, 1),
    ],
)
def test_rule_files_are_compared_with_what_the_container_sees(
    pattern: str, more: dict[str, str], count: int, world: World
) -> None:
    found = world.findings("prometheus/config", served(pattern, **more))
    assert len(found) == count
    if count:
        assert "matches no file in the container of Deployment prometheus" in found[0].message


def test_equal_rules_of_two_files_that_one_config_loads(world: World) -> None:
    both = {"api.yml": GOOD, "web.yml": GOOD}
    assert len(world.findings("prometheus/rules", served("/rules/*.yml", **both))) == 1
    assert world.findings("prometheus/rules", served("/rules/a*.yml", **both)) == []


@pytest.mark.parametrize(
    ("tag", "rules", "says"),
    [
        ("v3.16.0", GOOD, None),
        ("v3.17.0", GOOD, None),
        ("v3.2.0", GOOD, None),
        ("v2.53.0", GOOD, "Prometheus 2.53.0 is deployed"),
        ("v2.40.0", GOOD + "        keep_firing_for: 5m\n", "`keep_firing_for` of a rule (2.42)"),
        ("latest", GOOD, None),
    ],
)
def test_an_older_prometheus_is_advised_about(tag: str, rules: str, says: str | None, world: World) -> None:
    image = f"quay.io/prometheus/prometheus:{tag}"
    found = world.findings("prometheus/config", served("/rules/*.yml", image=image, **{"api.yml": rules}))
    assert len(found) == (says is not None)
    if says is not None:
        assert found[0].advice
        assert says in found[0].message
        assert (found[0].pointer, found[0].value) == ("/spec/template/spec/containers/0/image", image)
