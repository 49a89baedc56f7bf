"""Go templates: what is evaluated says what Go says; the rest is refused, never guessed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releasegate.discover import gofunctions, gotemplate
from releasegate.discover.gofunctions import StringMap, TemplateError, as_json, go_float, printed

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "gotemplates.json").read_text(encoding="utf-8"))
DATA = as_json(RECORDED["data"])


@pytest.mark.parametrize("mode", ["strict", "lenient"])
@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["template"])
def test_a_go_template_gives_what_go_gave(case: dict[str, Any], mode: str) -> None:
    expected = None if mode in case.get("refused", ()) else case[mode]
    try:
        made = gotemplate.render(case["template"], as_json(RECORDED["data"]), strict=mode == "strict")
    except TemplateError:
        made = None
    assert made == expected


@pytest.mark.parametrize(
    "text",
    [
        '{{ regexReplaceAll "a" "b" "c" }}', "{{ now }}", '{{ env "HOME" }}', '{{ genPrivateKey "rsa" }}', "{{ randInt 1 2 }}",
        '{{ template "x" }}', "{{ .name.Upper }}", "{{ call .name }}",
    ],
)  # fmt: skip
def test_what_asks_a_clock_a_dice_or_a_regular_expression_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        gotemplate.render(text, DATA, strict=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ range until 999999999 }}x{{ end }}", "more than"),
        ('{{ repeat 999999999 "x" }}', "more than"),
        ('{{ indent 999999999 "x" }}', "more than"),
        ('{{ printf "%9999d" 1 }}' * 400, "more than"),
        # 40 doublings were 24 GB of memory.
        ("{{ $x := .name }}" + "{{ $x = print $x $x }}" * 40 + "{{ $x }}", "more than"),
        ("{{ $x := list 1 }}" + "{{ $x = list $x $x }}" * 40 + "{{ toJson $x }}", "more than"),
        ("{{ $x := dict }}" + '{{ $x = dict "a" $x "b" $x }}' * 40 + "{{ $x }}", "more than"),
        ('{{ $x := "aa" }}' + '{{ $x = replace "a" $x $x }}' * 40, "more than"),
        ("{{ range 99999999 }}{{ end }}", "steps"),
        ("{{ range 1000 }}{{ range 1000 }}{{ range 1000 }}{{ end }}{{ end }}{{ end }}", "steps"),
        ("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", "nested too deeply"),
    ],
)
def test_a_hostile_template_ends_soon(text: str, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        gotemplate.render(text, DATA, strict=True)


@given(st.text(st.sampled_from('{}.$| ()"`abindex01-/*\n='), max_size=40), st.booleans())
def test_whatever_a_template_says_it_is_evaluated_or_refused(text: str, strict: bool) -> None:  # noqa: FBT001
    try:
        made = gotemplate.render(text, DATA, strict=strict)
    except TemplateError:
        return
    if "{{" not in text:
        assert made == text


@given(
    st.sampled_from(sorted(gofunctions.FUNCTIONS)),
    st.lists(st.sampled_from(["1", "-1", '"a"', ".l", ".m", ".nil", ".on", ".ratio", '""', ".objs"]), max_size=4),
)
def test_a_function_never_fails_in_another_way(name: str, arguments: list[str]) -> None:
    text = f"{{{{ {name} {' '.join(arguments)} }}}}"
    with contextlib.suppress(TemplateError):
        assert isinstance(gotemplate.render(text, as_json(RECORDED["data"]), strict=True), str)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "1"), (1.5, "1.5"), (999999.0, "999999"), (1e6, "1e+06"), (123456789.0, "1.23456789e+08"),
        (1e21, "1e+21"), (0.0001, "0.0001"), (0.00001, "1e-05"), (1234567.5, "1.2345675e+06"),
        (-2.5e-7, "-2.5e-07"), (0.0, "0"), (-3.0, "-3"),
    ],
)  # fmt: skip
def test_numbers_are_printed_as_go_prints_float64(value: float, expected: str) -> None:
    """Compared once with fmt.Sprint of Go 1.26."""
    assert go_float(value) == expected


def test_mappings_and_lists_are_printed_as_go_prints_them() -> None:
    assert printed({"b": None, "a": [1.0, "x", True]}) == "map[a:[1 x true] b:<nil>]"
    assert printed(StringMap(k="v")) == "map[k:v]"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["feat/Some_Thing.v2"], "feat-some-thing-v2"),
        ([9, True, "feature-login-page"], "feature"),
        ([9, False, "feature-login-page"], "feature-l"),
        (["--x--"], "x"),
    ],
)
def test_slugify_makes_what_argo_documents(arguments: list[Any], expected: str) -> None:
    assert gofunctions.FUNCTIONS["slugify"](*arguments) == expected


def test_normalize_makes_a_dns_name_character_by_character() -> None:
    """argo-cd utils.SanitizeName: one dash per character that is not allowed."""
    assert gotemplate.render('{{ normalize "_A__b.C_" }}', {}, strict=True) == "a--b.c"
