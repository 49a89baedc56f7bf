"""Laws of the YAML reader, with helm as the oracle: what helm reads, releasegate reads.

One helm process reads many texts: a chart holds them in a file and renders `fromYaml` of each (sigs.k8s.io/yaml, the
reader of values files, kubectl and Argo CD), or holds them in its values and renders `toYaml` and `toJson`.
"""

from __future__ import annotations

import base64
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from releasegate import yamlio, yamlplain
from releasegate.tools.store import Tool
from releasegate.yamlio import YamlError, documents, dump, load, positions

REFUSED = "refused"
READ_ALL = """\
kind: Readings
items:
{{- range (.Files.Get "cases.json" | fromJsonArray) }}
- {{ fromYaml . | toJson | b64enc | quote }}
{{- end }}
"""
Oracle = Callable[[list[str]], list[Any]]
# Each example is a batch in one helm process and the message names the texts: shrinking would start thousands of helms.
ASKING_HELM = settings(deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))


def template(helm: Tool, chart: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(helm.path), "template", "x", str(chart), *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def read_by_helm(helm: Tool, tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """Return what helm reads from each text (the root must be a mapping), or REFUSED."""
    chart = tmp_path_factory.mktemp("oracle")
    (chart / "templates").mkdir()
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: oracle\nversion: 0.0.0\n")
    (chart / "templates" / "readings.yaml").write_text(READ_ALL)

    def read(texts: list[str]) -> list[Any]:
        (chart / "cases.json").write_text(json.dumps(texts))
        lines = [line for line in template(helm, chart).splitlines() if line.startswith("- ")]
        assert len(lines) == len(texts)
        values = [json.loads(base64.b64decode(line[3:-1])) for line in lines]
        return [REFUSED if "Error" in value else value for value in values]

    return read


def read_here(text: str) -> Any:
    """Return what load() reads, numbers as helm's float64; {} where helm's target map stays empty.

    The reader of plain lines and the parser behind it are both asked.
    """
    try:
        value = load(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yamlplain, "read", lambda *_: yamlplain.NOT_PLAIN)
            assert repr(load(text)) == repr(value)
    except YamlError as error:
        assert error.line is not None  # noqa: PT017  # the law is about every error
        return REFUSED
    if value is None:
        return {}
    return as_float64(value) if isinstance(value, dict) else REFUSED


def as_float64(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_float64(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_float64(item) for item in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def disagreements(texts: list[str], oracle: Oracle) -> list[tuple[str, Any, Any]]:
    return [
        (text, here, there)
        for text, here, there in zip(texts, map(read_here, texts), map(as_float64, oracle(texts)), strict=True)
        if here != there
    ][:10]


# --- one scalar ---------------------------------------------------------------------------------------------------

WORDS = sorted(yamlio._WORDS)
NUMBERS = [
    "0",
    "-0",
    "+0",
    "00",
    "007",
    "08",
    "0x",
    "0x1F",
    "0X1f",
    "-0x1F",
    "+0x1f",
    "0o17",
    "0O17",
    "0o8",
    "0b101",
    "0B1",
    "-0b1",
    "0b2",
    "0b+1",
    "0b-1",
    "0b0+1",
    "017",
    "-017",
    "0_17",
    "1_000",
    "1__0",
    "_1",
    "1_",
    "0x_1F",
    "0x1F_",
    "1.",
    "1.0",
    "-1.0",
    "1.10",
    "1.10.0",
    ".5",
    "+.5",
    "-.5",
    "._5",
    ".5_0",
    ".5e3",
    ".5e1_0",
    "1e3",
    "1e+3",
    "1E-3",
    "1e3.0",
    "1_0e1_0",
    "12e5",
    "1e",
    "e1",
    "1e400",
    "-1e400",
    "1e-400",
    "1e21",
    "1e20",
    "1e19",
    "123456789012",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "+9223372036854775808",
    "0xFFFFFFFFFFFFFFFF",
    "0x10000000000000000",
    "0777777777777777777777",
    "01777777777777777777777",
    "02000000000000000000000",
    "0123456",
    "1234567",
    "1234567e8",
    "0x1p4",
    "1:20",
    "12:30:45",
    "190:20:30.15",
    "1,000",
    "Infinity",
    "inf",
    "NaN",
    "nan",
    ".Inf",
    "+.INF",
    "-.iNf",
    "١٢",
    "1²",
    "½",
]
DATES = ["2001-01-01", "2026-02-30", "2024-02-29", "2023-02-29", "2001-1-1", "2001-13-01", "2001-01-32", "20010101", "02001-01-01", "2001-01-01T1:2:3Z", "2001-12-14t21:59:43.10-05:00", "2001-12-14T21:59:43", "2001-01-01T24:00:00Z"]  # fmt: skip
ODD = ["= ", "=", "<<", "!=", "!~", "! 12", "! yes", "!foo 12", "!foo", "!!str", "!!str 12", "!!int 12", "!!int '12'",
       "!!int 0x1F", "!!int 1.0", "!!float 1", "!!float 18446744073709551615", "!!float x", "!!bool y", "!!bool 'no'",
       "!!bool 1", "!!null ~", "!!null ''", "!!null x", "!!timestamp 2001-01-01", "!!timestamp x", "!!int 2001-01-01",
       "!!binary aGk=", "!!binary aGk", "!!binary gIGA", "!!binary /+8=", "!!set {a, b}", "!!omap [a: 1]", "!!map {a: 1}",
       "!!int [1]", "!!merge <<", "!<tag:yaml.org,2002:str> 1", "2001-12-14 21:59:43.10 -5", "2001-12-14 21:59:43.1",
       "'1'", '"1"', "'yes'", '"\\x41\\u263a\\U0001F600"', '"\\ud83d"', "|\n  1\n", ">-\n  1\n", "a: b", "a #b", "a#b",
       "- 1", "[1, yes, 0o7]", "{y: n, 1: 2}", "&a 1", "&a", "@x", "%x", "`x", "\tx", "x\t", "x:", ":x", "?x", "-x", "- x",
       "x\n  y", "x\n\n  y", "'x\n\n  y'", "\u00a0", "x\u0085y", "x\u2028y", "\U0001f600", "\ufeff", "\x7f", "*a", ">", "|"]  # fmt: skip
SCALARS = [*WORDS, *NUMBERS, *DATES, *ODD]


def test_every_listed_scalar_is_read_as_helm_reads_it(read_by_helm: Oracle) -> None:
    as_values = [f"v: {scalar}\n" for scalar in SCALARS]
    as_keys = [f"{scalar}: 1\n" for scalar in SCALARS if "\n" not in scalar]
    in_lists = [f"v:\n- {scalar}\n- 1\n" for scalar in SCALARS if "\n" not in scalar]
    assert disagreements([*as_values, *as_keys, *in_lists], read_by_helm) == []


def test_values_are_read_as_helm_renders_them_with_toyaml_and_tojson(helm: Tool, tmp_path: Path) -> None:
    """The way a values file goes: read by helm, written by toYaml, read again."""
    readable = [text for text in (f"v: {scalar}\n" for scalar in SCALARS) if read_here(text) != REFUSED]
    kept = {
        f"case{index}": text for index, text in enumerate(readable) if "null" not in json.dumps(load(text))
    }  # helm drops nulls
    values = "".join(f"{name}:\n" + "".join(f"  {line}\n" for line in text.splitlines()) for name, text in kept.items())
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: oracle\nversion: 0.0.0\n")
    (tmp_path / "templates" / "yaml.yaml").write_text("{{ omit .Values `global` | toYaml }}\n")
    (tmp_path / "templates" / "json.yaml").write_text("{{ omit .Values `global` | toJson }}\n")
    (tmp_path / "values.yaml").write_text(values, encoding="utf-8")
    rendered = {one.text.split("\n")[0].rsplit("/", 1)[-1]: one.value for one in documents(template(helm, tmp_path))}
    assert len(kept) > 100
    assert as_float64(load(values)) == as_float64(rendered["yaml.yaml"]) == as_float64(rendered["json.yaml"])


@settings(ASKING_HELM, max_examples=15)
@given(
    scalars=st.lists(
        st.one_of(
            st.text("0123456789+-._eExXobB", max_size=8),
            st.text("0123456789+-._eyYnNtT~: =<>!&*|'\"#%@`{}[],?\t\n/\\é", max_size=7),
            st.builds(
                str.__add__,
                st.sampled_from(["!!str ", "!!int ", "!!float ", "!!bool ", "!!null ", "!!binary ", "! ", "!x "]),
                st.sampled_from([*WORDS, *NUMBERS, *DATES]),
            ),
        ),
        min_size=200,
        max_size=300,
    )
)
def test_any_scalar_is_read_as_helm_reads_it(read_by_helm: Oracle, scalars: list[str]) -> None:
    texts = [form.format(scalar) for scalar in scalars for form in ("v: {}\n", "{}: 1\n", "v:\n- {}\nw: 1\n")]
    found = [one for one in disagreements(texts, read_by_helm) if not stricter_here(*one)]
    assert found == []


def stricter_here(text: str, here: Any, _there: Any) -> bool:
    """Whether releasegate refuses what go-yaml accepts, for one of the two known reasons.

    go-yaml never looks behind the first document of a text, so a closing bracket, a quote or a dedent silently ends a
    values file there; and its scanner takes `!,` for a tag.
    """
    if here != REFUSED:
        return False
    try:
        documents(text)
    except YamlError as error:
        said = error.message
    return (
        "ignore everything" in said or "goes on behind" in said or "scanning a tag" in said or "cannot be a key" in said
    )


# --- whole documents ----------------------------------------------------------------------------------------------


@st.composite
def anchored(draw: st.DrawFn) -> str:
    """A block document with anchors, aliases, merge keys of every form, duplicate keys, block scalars, comments."""
    anchors = ["m0", "m1"]
    names = st.sampled_from(["a", "b", "c", "k", "1", "y", "0x2", "2001-01-01"])

    def known() -> str:
        return draw(st.sampled_from(anchors))

    def node(levels: int, indent: int) -> str:
        pad = "  " * indent
        choice = draw(st.integers(0, 9))
        if levels == 0 or choice < 3:
            leaf = draw(
                st.sampled_from(
                    ["1", "y", '"q"', "~", "", f"|\n{pad}  x\n{pad}  y", f">-\n{pad}  x\n\n{pad}  y", "x # c", "1e3",
                     f"[1, *{known()}]", f"{{k: 1, <<: *{known()}}}", f"*{known()}"]
                )
            )  # fmt: skip
            anchor = ""
            if choice == 0 and not leaf.startswith("*"):
                anchors.append(f"n{draw(st.integers(0, 3))}")
                anchor = f" &{anchors[-1]}"
            return f"{anchor} {leaf}\n"
        name = f"n{draw(st.integers(0, 3))}" if choice == 9 else None
        body = f" &{name}\n" if name else "\n"
        for _ in range(draw(st.integers(1, 3))):
            if choice == 8:
                body += f"{pad}-{node(levels - 1, indent + 1)}"
            elif draw(st.integers(0, 3)) == 0:
                key = draw(st.sampled_from(["<<", "!!merge <<", "! <<"]))
                merged = draw(
                    st.sampled_from([f"*{known()}", f"[*{known()}, *{known()}]", "{b: 7}", "[{a: 1}, {a: 2}]"])
                )
                body += f"{pad}{key}: {merged}\n"
            else:
                body += f"{pad}{draw(names)}:{node(levels - 1, indent + 1)}"
        if name:
            anchors.append(name)
        return body

    return "m0: &m0\n  k: 0\n  a: 1\nm1: &m1 {b: 2, c: [1]}\nv:" + node(3, 1)


@settings(ASKING_HELM, max_examples=10)
@given(texts=st.lists(anchored(), min_size=60, max_size=80))
def test_anchors_merges_and_duplicates_are_read_as_helm_reads_them(read_by_helm: Oracle, texts: list[str]) -> None:
    assert disagreements(texts, read_by_helm) == []


def test_helm_refuses_the_same_bombs(read_by_helm: Oracle) -> None:
    """Below the budget go-yaml's own ratio decides, and it is kept exactly."""
    texts = []
    for width in (2, 3, 5, 10, 40):
        for levels in range(2, 13):
            steps = [(level, ", ".join([f"*a{level - 1}"] * width)) for level in range(1, levels)]
            texts.append("a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{items}]\n" for n, items in steps))
            texts.append(
                "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{items}], k{n}: 1}}\n" for n, items in steps)
            )
    assert disagreements(texts, read_by_helm) == []
    assert {read_here(text) == REFUSED for text in texts} == {True, False}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from([*WORDS, *NUMBERS, *DATES, "---", "...", "- x", "a: b", "#", "x" * 2000]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(SCALARS), inner, max_size=4)
    ),
    max_leaves=12,
)


def storable(value: Any) -> bool:
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in json.dumps(value, ensure_ascii=False))


@given(value=json_values.filter(storable))
@example(value={"x" * 2000: {"y" * 1100: ["z" * 1500]}})
@example(value=-0.0)
@example(value="\ufeffa")
@example(value=[[], {}, [[]], [{}], {"a": []}])
def test_a_dump_reads_back_as_the_same_value(value: Any) -> None:
    text = dump(value)
    assert load(text) == value
    assert "\n---" not in text
    assert text.isascii() or text.isprintable() or "\n" in text


@settings(ASKING_HELM, max_examples=10)
@given(values=st.lists(json_values.filter(storable), min_size=30, max_size=50))
def test_helm_reads_a_dump_back_as_the_same_value(read_by_helm: Oracle, values: list[Any]) -> None:
    read = read_by_helm([dump({"v": value}) for value in values])
    assert [as_float64(one) for one in read] == [{"v": as_float64(value)} for value in values]


# --- nothing crashes ----------------------------------------------------------------------------------------------

SNIPPETS = st.sampled_from(
    ["a: ", "- ", "\n", "  ", "[", "]", "{", "}", "&x ", "*x", "<<: ", "!!int ", "!!binary ", "|\n", ">-\n", "'", '"', "? ",
     "---\n", "...\n", "%YAML 1.1\n", "\t", "\r\n", "\x00", "\ud800", "\ufeff", "\x85", "\u2028", "#", ": ", "9" * 400, "=",
     ".nan", "~: ", "2026-02-30", "[" * 90, "- " * 70, "! ", "\x1b"]
)  # fmt: skip


@settings(max_examples=400)
@given(text=st.lists(SNIPPETS | st.text(max_size=4), max_size=14).map("".join))
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    try:
        read = documents(text)
    except YamlError as error:
        assert error.line is not None  # noqa: PT017  # the law is about every error
        assert 1 <= error.line <= text.count("\n") + 1  # noqa: PT017  # as above
    else:
        assert load(text) == (read[0].value if read else None)
        found = list(positions(text).scalars())
        starts = [0, *(index + 1 for index, char in enumerate(text) if char == "\n")]
        for scalar in found:
            assert scalar.mark.index == starts[scalar.mark.line - 1] + scalar.mark.column - 1 + lead(
                text, scalar.mark.line
            )
            assert text[scalar.mark.index : scalar.mark.end_index] == scalar.raw


def lead(text: str, line: int) -> int:
    """A byte order mark stands in front of the first column."""
    return 1 if line == 1 and text.startswith("\ufeff") else 0


@given(value=st.recursive(st.text("ab~/01", max_size=3) | st.integers(-9, 99), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab~/0", max_size=2), inner, max_size=3), max_leaves=8))  # fmt: skip
def test_every_scalar_is_found_again_by_its_pointer(value: Any) -> None:
    text = dump(value)
    found = positions(text)
    for scalar in found.scalars():
        assert found.value(scalar.pointer) == scalar.mark
        assert load(scalar.raw) == scalar.value == look_up(value, scalar.pointer)


def look_up(value: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


@given(number=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_key_is_named_by_the_shortest_digits_of_32_bits(number: float) -> None:
    assert math.isclose(float(yamlio._shortest_float32(number)), number, rel_tol=1e-6, abs_tol=1e-45)


@settings(ASKING_HELM, max_examples=5)
@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=100, max_size=200, unique=True))
def test_float_keys_are_named_as_helm_names_them(read_by_helm: Oracle, numbers: list[float]) -> None:
    texts = [f"{number!r}: 1\n" for number in numbers]
    assert disagreements(texts, read_by_helm) == []
