from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from releasegate import config
from releasegate.config import Config, ConfigError
from releasegate.model import Environment, Kind, Level

TODAY = dt.date(2026, 11, 23)

# The whole of the documented file (design, section 7).
EVERYTHING = """\
kubernetes = "1.37.2"
helm_lint = true
argocd = "3.1"
repo = ["https://github.com/acme/config"]
expect = ["prometheus", "owners"]

[rules]
"images/*" = "on"
"render/values-known" = "advise"

[environments.prod]
protected = true
owners = ["@acme/platform"]
sync = "manual"
required = ["schema/admitted"]
rules = { "images/digest-only" = "on" }
api_versions = ["monitoring.coreos.com/v1"]
smoke = [["curl", "-fsS", "https://api.acme.example/healthz"]]
kubernetes = "1.36"
applications = ["payments-*"]
values = ["charts/*/live.yaml"]

[environments.prod.inputs]
"global.cluster" = "prod-eu"
replicas = 3
alb.annotations = { scheme = "internal" }

[gate]
owners = ["@acme/platform"]
code_owner_review = true

[schemas]
locations = ["schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"]

[images]
own = ["registry.acme.example/*"]
fields = ["Prometheus:/spec/image", "Prometheus:/spec/thanos/image"]

[references]
external = ["Secret/vault-*"]

[promotion]
file = "helm/{service}/values-{env}.yaml"
tag = "/image/tag"
digest = "/image/digest"

[tools]
helm = "4.3.1"

[[waivers]]
rule = "images/digest-only"
environment = "prod"
release = "api"
kind = "Deployment"
name = "sidecar-*"
reason = "vendor publishes no digest until 3.0"
owner = "@acme/platform"
expires = 2027-01-31

[[clusters]]
name = "prod-eu"
server = "https://prod-eu.acme.example"
labels = { tier = "prod" }

[[producers]]
kind = "VaultStaticSecret"
pointer = "/spec/destination/name"
makes = "Secret"

[prometheus]
require = ["severity"]
"""


def environment(name: str = "prod", *, protected: bool = True) -> Environment:
    return Environment(name=name, protected=protected, kubernetes="1.37", why="test")


def problem(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        config.parse(text, today=TODAY)
    return raised.value


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert config.load(tmp_path) == Config()
    assert not config.load(tmp_path).exists


def test_every_documented_key_arrives_as_a_value() -> None:
    made = config.parse(EVERYTHING, today=TODAY)
    assert made.exists
    assert re.fullmatch("[0-9a-f]{64}", made.sha256)
    assert made.kubernetes == "1.37"
    assert made.argocd == "3.1"
    assert made.repo == ("https://github.com/acme/config",)
    assert made.expect == ("prometheus", "owners")
    assert made.rules == {"images/*": Level.ON, "render/values-known": Level.ADVISE}
    prod = made.environments["prod"]
    assert prod.line == 11
    assert (prod.protected, prod.owners, prod.sync, prod.kubernetes) == (True, ("@acme/platform",), "manual", "1.36")
    assert prod.required == ("schema/admitted",)
    assert prod.rules == {"images/digest-only": Level.ON}
    assert prod.api_versions == ("monitoring.coreos.com/v1",)
    assert prod.smoke == (("curl", "-fsS", "https://api.acme.example/healthz"),)
    assert prod.inputs == {"global.cluster": "prod-eu", "replicas": 3, "alb.annotations.scheme": "internal"}
    assert prod.applications == ("payments-*",)
    assert prod.values == ("charts/*/live.yaml",)
    assert made.gate_owners == ("@acme/platform",)
    assert made.code_owner_review
    assert made.schema_locations == ("schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json",)
    assert made.images_own == ("registry.acme.example/*",)
    assert made.images_fields == {"Prometheus": ("/spec/image", "/spec/thanos/image")}
    assert made.references_external == ("Secret/vault-*",)
    assert made.promotion == config.Promotion(
        file="helm/{service}/values-{env}.yaml", tag="/image/tag", digest="/image/digest"
    )
    assert made.tools == {"helm": "4.3.1"}
    (waiver,) = made.waivers
    assert (waiver.rule, waiver.expires, waiver.name) == (
        "images/digest-only",
        dt.date(2027, 1, 31),
        "sidecar-*",
    )
    assert EVERYTHING.splitlines()[(waiver.line or 0) - 1] == "[[waivers]]"
    assert made.clusters == (
        config.Cluster(name="prod-eu", server="https://prod-eu.acme.example", labels={"tier": "prod"}),
    )
    assert made.producers == (
        config.Producer(kind="VaultStaticSecret", pointer="/spec/destination/name", makes="Secret"),
    )
    assert made.prometheus_require == ("severity",)


def test_the_shipped_schema_is_valid_and_every_key_of_it_is_parsed() -> None:
    schema = config.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    written = tomllib.loads(EVERYTHING)
    assert set(schema["properties"]) == set(written)
    assert set(schema["$defs"]["environment"]["properties"]) == set(written["environments"]["prod"])


def test_an_unknown_key_names_file_line_and_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "releasegate.toml").write_text('kubernetes = "1.37"\n\n[environments.prod]\nprotekted = true\n')
    with pytest.raises(ConfigError) as raised:
        config.load(tmp_path)
    assert (raised.value.path, raised.value.line) == ("releasegate.toml", 4)
    expected = "releasegate.toml:4: unknown key 'protekted' at [environments.prod]; did you mean 'protected'?"
    assert str(raised.value) == expected


def test_a_key_in_the_wrong_table_is_told_where_it_belongs() -> None:
    assert problem("protected = true\n").message == (
        "unknown key 'protected' at the top level; it belongs in [environments.NAME]"
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("kubernetes = 1.37\n", 1, ['the number 1.37, expected a string; write for example "1.37"']),
        ('kubernetes = "latest"\n', 1, ['"latest"', '"1.37"']),
        ('[rules]\n"images/*" = "onn"\n', 2, ['rules."images/*"', '"onn"', '"advise"', 'did you mean "on"']),
        ("[rules]\n\n'images/*' = true\n", 3, ["expected one of"]),
        ('[environments.prod]\nsync = "auto"\n', 2, ['"manual", "automated"']),
        ("[environments.Prod]\n", 1, ["'Prod'", "lower case"]),
        ("[environments.repo]\n", 1, ["'repo'", "case ids"]),
        ('[environments."../x"]\n', 1, ["must match"]),
        ("environments = 3\n", 1, ["a table"]),
        ("[environments.prod]\nowners = []\n", 2, ["is empty"]),
        ('[gate]\nowners = [\n  "@acme/ok",\n  "acme",\n]\n', 4, ["gate.owners[1]", '"@acme/platform"']),
        ('expect = ["prom"]\n', 1, ['"prometheus"']),
        ('[schemas]\nlocations = ["https://x.example/{{.Group}}"]\n', 2, ["below the root"]),
        ('[schemas]\nlocations = ["../x"]\n', 2, ["below the root"]),
        ('[schemas]\nlocations = ["s/{{.Grup}}.json"]\n', 2, ["did you mean 'Group'"]),
        ('[images]\nfields = ["Prometheus.spec.image"]\n', 2, ["Prometheus:/spec/image"]),
        ('[tools]\nhelmm = "4.3.1"\n', 2, ["did you mean 'helm'"]),
        ('[tools]\nhelm = "4"\n', 2, ['"4.3.1"']),
        ("[environments.x.inputs]\nn = nan\n", 2, ["environments.x.inputs.n is nan"]),
        ("[environments.x.inputs]\na = 1\n'a.b' = 2\n", 1, ["sets 'a.b' twice"]),
        ('[[clusters]]\nname = "a"\nserver = "x"\n[[clusters]]\nname = "a"\nserver = "y"\n', 5, ["twice"]),
        ("a = \n", 1, ["is not TOML"]),
        ('[rules]\n"a/b" = "on"\n"a/b" = "off"\n', 3, ["is not TOML"]),
        ('x = """\n\n', 1, ["is not TOML"]),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(text: str, line: int, words: list[str]) -> None:
    error = problem(text)
    assert error.line == line, error
    for word in words:
        assert word in error.message


WAIVER = '[[waivers]]\nrule = "{rule}"\nreason = "r"\nowner = "@a/b"\nexpires = {expires}\n'


def test_a_waiver_lasts_at_most_366_days() -> None:
    made = config.parse(WAIVER.format(rule="images/digest-only", expires="2027-11-24"), today=TODAY)
    assert made.waivers[0].expires == dt.date(2027, 11, 24)
    error = problem(WAIVER.format(rule="images/digest-only", expires="2027-11-25"))
    assert (error.line, "2027-11-24 or earlier" in error.message) == (5, True)


def test_an_expired_waiver_is_still_a_valid_config() -> None:
    """An expiry at midnight must not turn every PR into a usage error."""
    assert config.parse(WAIVER.format(rule="images/digest-only", expires="2020-01-01"), today=TODAY).waivers


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        (WAIVER.format(rule="gate/workflow", expires="2027-01-01"), 2, "cannot be waived"),
        (WAIVER.format(rule="expect/images", expires="2027-01-01"), 2, "cannot be waived"),
        (WAIVER.format(rule="images/*", expires="2027-01-01"), 2, "images/digest-only"),
        (WAIVER.format(rule="a/b", expires='"soon"'), 5, "expected a date"),
        (WAIVER.format(rule="a/b", expires="2027-01-01T00:00:00Z"), 5, "expected a date"),
        (WAIVER.format(rule="a/b", expires="2027-01-01") + "not_evaluated = true\n", 6, "release or a kind"),
        ('\n[[waivers]]\nrule = "a/b"\nowner = "@a/b"\nexpires = 2027-01-01\n', 2, "lacks 'reason'"),
        (WAIVER.format(rule="a/b", expires="2027-01-01") + 'environmnet = "x"\n', 6, "did you mean 'environment'"),
    ],
)
def test_a_waiver_that_says_too_little_or_too_much_is_refused(text: str, line: int, word: str) -> None:
    error = problem(text)
    assert (error.line, word in error.message) == (line, True), error


def test_all_problems_are_told_at_once_in_line_order() -> None:
    error = problem('[rules]\n"a/b" = "x"\n\n[environments.prod]\nprotekted = 1\nsync = "x"\n')
    assert [error.line, *(each.line for each in error.more)] == [2, 5, 6]
    assert len(str(error).splitlines()) == 3


def test_a_config_that_is_a_link_out_of_the_repo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("[rules]\n")
    root = tmp_path / "root"
    root.mkdir()
    (root / "releasegate.toml").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="leaves the repo"):
        config.load(root)


def test_a_config_that_is_no_readable_file_is_refused_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "releasegate.toml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path)
    (tmp_path / "releasegate.toml").unlink()
    (tmp_path / "releasegate.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path)
    (tmp_path / "releasegate.toml").rmdir()
    (tmp_path / "releasegate.toml").write_bytes(b"\n\xff")
    with pytest.raises(ConfigError, match=r"releasegate\.toml:2: is not UTF-8"):
        config.load(tmp_path)
    (tmp_path / "releasegate.toml").write_bytes(b"#" * (config.MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        config.load(tmp_path)


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 10_000])
def test_a_hostile_config_is_a_config_error(text: str) -> None:
    assert problem(text).path == "releasegate.toml"


# --- levels -------------------------------------------------------------------------------------------------------


def test_without_a_config_policies_advise_and_only_the_image_guardrails_are_on_where_protected() -> None:
    made = Config()
    for rule in ("images/digest-only", "images/no-mutable-tag"):
        assert made.level(rule, Kind.POLICY, environment()) is Level.ON
        assert made.level(rule, Kind.POLICY, environment("dev", protected=False)) is Level.ADVISE
        assert made.level(rule, Kind.POLICY, None) is Level.ADVISE
    assert made.level("images/one-digest", Kind.POLICY, environment()) is Level.ADVISE


def test_a_fact_is_on_whatever_the_config_says() -> None:
    made = config.parse('[rules]\n"*" = "off"\n', today=TODAY)
    assert made.level("schema/valid", Kind.FACT, environment()) is Level.ON
    assert made.level("images/digest-only", Kind.POLICY, environment()) is Level.OFF


@pytest.mark.parametrize(
    ("rules", "own", "expected"),
    [
        ('"images/*" = "off"', "", Level.OFF),
        ('"images/*" = "off"\n"images/digest-only" = "on"', "", Level.ON),
        ('"*" = "off"\n"images/*" = "on"', "", Level.ON),
        ('"images/digest-only" = "off"', '"*" = "on"', Level.ON),
        ('"images/digest-only" = "off"', '"schema/*" = "on"', Level.OFF),
        ('"images/*" = "on"', '"images/digest-*" = "off"\n"images/*" = "on"', Level.OFF),
    ],
)
def test_the_environments_entry_beats_rules_and_the_more_exact_beats_the_less(
    rules: str, own: str, expected: Level
) -> None:
    made = config.parse(f"[rules]\n{rules}\n[environments.prod.rules]\n{own}\n", today=TODAY)
    assert made.level("images/digest-only", Kind.POLICY, environment()) is expected


def test_two_globs_of_equal_length_that_both_match_are_an_error() -> None:
    made = config.parse('[rules]\n"images/d*" = "on"\n"images/*y" = "off"\n', today=TODAY)
    with pytest.raises(ConfigError, match="equally long") as raised:
        made.level("images/digest-only", Kind.POLICY, None)
    assert raised.value.line == 3
    assert made.level("images/digest-live", Kind.POLICY, None) is Level.ON


CATALOGUE = [("images/digest-only", Kind.POLICY), ("images/no-mutable-tag", Kind.POLICY), ("schema/valid", Kind.FACT)]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[rules]\n"images/digestonly" = "on"\n', 2, ["did you mean 'images/digest-only'?"]),
        ('[rules]\n"imges/*" = "on"\n', 2, ["matches no rule"]),
        ('[rules]\n"schema/valid" = "off"\n', 2, ["is a fact", "[[waivers]]"]),
        ('[rules]\n"schema/*" = "off"\n', 2, ["matches only facts"]),
        ('[environments.p]\nrules = { "images/d*" = "on", "images/*y" = "off" }\n', 2, ["equally long"]),
        ('[environments.p]\nrequired = [\n "schema/admited"]\n', 3, ["'schema/admited' is no rule"]),
        (WAIVER.format(rule="images/x", expires="2027-01-01"), 2, ["'images/x' is no rule"]),
    ],
)
def test_rules_that_do_not_exist_or_take_no_level_are_refused(text: str, line: int, words: list[str]) -> None:
    made = config.parse(text, today=TODAY)
    with pytest.raises(ConfigError) as raised:
        made.check_rules(CATALOGUE)
    assert raised.value.line == line
    for word in words:
        assert word in str(raised.value)


def test_rules_that_exist_pass_the_check() -> None:
    text = '[rules]\n"*" = "advise"\n"images/*" = "on"\n[environments.p]\nrequired = ["schema/valid"]\n'
    config.parse(text, today=TODAY).check_rules(CATALOGUE)


@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=8))
def test_a_glob_matches_as_its_definition_says(pattern: str, name: str) -> None:
    def slow(rest: str, text: str) -> bool:
        if not rest:
            return not text
        if rest[0] == "*":
            return any(slow(rest[1:], text[cut:]) for cut in range(len(text) + 1))
        return bool(text) and rest[0] in {"?", text[0]} and slow(rest[1:], text[1:])

    assert config.matches(pattern, name) == slow(pattern, name)


# --- lines --------------------------------------------------------------------------------------------------------


def test_lines_are_found_through_every_form_toml_has() -> None:
    text = (
        "# [not.a.table]\n"
        'a . "b.c" . \'d\' = """\n'
        "x = 1\n"
        '[y]"""""\n'
        "[t]\n"
        "l = [ # ] comment\n"
        "  1,\n"
        '  { k = 1, "m" = [2,\n'
        "    3] },\n"
        "]\n"
        "s = ''' '' \n ''''\n"
        "[[t.arr]]\n"
        "z = 1979-05-27 07:32:00 # when\n"
        "[t.arr.sub]\n"
        "q = '''x'''\n"
        "[[t.arr]]\n"
        "z = 2\n"
    )
    tomllib.loads(text)
    lines = config.key_lines(text)
    assert lines["a", "b.c", "d"] == 2
    assert ("x",) not in lines
    assert ("y",) not in lines
    assert lines["t", "l", 0] == 7
    assert lines["t", "l", 1, "m"] == 8
    assert lines["t", "l", 1, "m", 1] == 9
    assert lines["t", "s"] == 11
    assert lines["t", "arr", 0] == 13
    assert lines["t", "arr", 0, "z"] == 14
    assert lines["t", "arr", 0, "sub", "q"] == 16
    assert lines["t", "arr", 1, "z"] == 18


def _paths(value: object, at: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {at} if at else set()
    if isinstance(value, dict):
        for key, each in value.items():
            found |= _paths(each, (*at, key))
    if isinstance(value, list):
        for index, each in enumerate(value):
            found |= _paths(each, (*at, index))
    return found


keys = st.text("ab-.\"'# ]\n\\=é", min_size=1, max_size=4)
leaves = st.one_of(st.integers(), st.booleans(), st.text("ab\"'\\\n#[]{}=,", max_size=6), st.dates())
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + "".join(f"{_toml(each)}, # ]\n" for each in value) + "]"
    if isinstance(value, dt.date):
        return value.isoformat()
    return json.dumps(value)


@given(st.dictionaries(keys, values, max_size=4), st.lists(st.dictionaries(keys, values, max_size=3), max_size=3))
def test_every_key_of_a_document_is_located_and_nothing_else(
    table: dict[str, object], tables: list[dict[str, object]]
) -> None:
    text = "[top]\n" + "".join(f"{json.dumps(key)} = {_toml(value)} # x = 1\n" for key, value in table.items())
    for each in tables:
        text += "\n[[ 'many' ]]\n" + "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in each.items())
    lines = config.key_lines(text)
    assert set(lines) == _paths(tomllib.loads(text))
    for key in table:
        assert text.split("\n")[lines["top", key] - 1].startswith(json.dumps(key))


@given(st.text(max_size=60))
def test_no_text_makes_the_config_fail_otherwise_than_with_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        config.parse(text, today=TODAY)
