"""The law of the plain reader: whatever it reads, the real reader reads as the same, down to types and order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from releasegate import yamlio, yamlplain

MANIFEST = """\
# Source: shop/templates/api.yaml
apiVersion: apps/v1
kind: Deployment  # one per environment
metadata:
  name: api
  labels: {app: api, tier: "0"}
  annotations: {}
spec:
  replicas: 2

  template:
    spec:
      containers:
      - name: api
        image: registry.example/api:1.4.2
        command: ["sh", "-c", "echo a: b # c, d"]
        args: [-v, --port=80]
        env:
          - name: A
            value: 'yes'
          - name: B
            value: yes
          - {name: C, value: 0x1F}
          # nothing more
      volumes:
      nodeSelector: ~
"""


def through_the_parser(text: str) -> Any:
    """Return what the real reader makes of a document and what a strict one objects to, or why it refuses it."""
    try:
        root = yamlio._compose(text, yamlio._DEFAULT)
        return (None, ()) if root is None else yamlio._construct(root, text, yamlio._DEFAULT)
    except yamlio.YamlError as error:
        return error


def through_lines(text: str) -> Any:
    return yamlplain.read(text, yamlio._WORDS_READ, yamlio._Unfit, yamlio._DEFAULT.depth)


def agrees(text: str) -> bool:
    """Whether the plain reader reads `text`; if it does, it has to be what the real reader reads."""
    value = through_lines(text)
    if value is yamlplain.NOT_PLAIN:
        return False
    assert repr(through_the_parser(text)) == repr((value, ()))
    return True


WORD = st.sampled_from(
    ["a", "b", "name", "yes", "n", "1", "1.0", "1e3", "0o7", "-1", "~", ".", "..", "...", "---", ".inf", ".nan", "null",
     "a-b", "a/b", "/a", "-a", "--", "a:b", "a#b", "$(A)", "(a)", "+1", "2026-02-30", "a b", "a, b", "a  b", "a: b", "a #b",
     "a :b", "a:", ":a", "#a", "?a", "? a", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a", "<<", "=", "<a", "a]", "}a", "é",
     "a\tb", "18446744073709551616", "x" * 210, "-", "- a", "-#", "-:", "a'b", 'a"b', "\\", "\x85", "\ufeff"]
)  # fmt: skip
QUOTED = WORD.map(lambda word: f'"{word}"') | WORD.map(lambda word: f"'{word}'")
FLAT = st.lists(WORD | QUOTED, max_size=3).map(lambda items: f"[{', '.join(items)}]") | st.lists(
    st.tuples(WORD, WORD | QUOTED), max_size=3
).map(lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}")
TAIL = st.sampled_from(["", "", "", "", " ", "  # c", "# c", " #", "\t"])


@st.composite
def line(draw: st.DrawFn) -> str:
    """One line: indentation, perhaps a dash, perhaps a key, perhaps a value."""
    shape = draw(
        st.sampled_from(["key", "key", "key", "open", "open", "dash", "dash key", "dash key", "dash open", "odd"])
    )
    indent = " " * draw(st.sampled_from([0, 0, 0, 2, 2, 2, 4, 4, 1, 3, 6]))
    key = draw(st.sampled_from(["a", "b", "c", "d", "name"]) | WORD)
    value = draw(WORD | QUOTED | FLAT)
    tail = draw(TAIL)
    written = {
        "key": f"{key}: {value}",
        "open": f"{key}:",
        "dash": f"- {value}",
        "dash key": f"- {key}: {value}",
        "dash open": f"- {key}:",
        "odd": draw(
            st.sampled_from(["", "# c", "...", "---", "-", f"- - {value}", value, f"{key} : {value}", "|", "  "])
        ),
    }[shape]
    return indent + written + tail


@settings(max_examples=500)
@given(text=st.lists(line(), min_size=1, max_size=7).map("\n".join), end=st.sampled_from(["", "\n", "\n\n", "\n "]))
@example(text="a:\n- b\n- c: 1\n  d:\n  - e\nf: 1", end="")
@example(text="a:\n  b: 1\n c: 2", end="\n")
@example(text="a: b\n  c", end="\n")
@example(text="- a\n- b: 1\nc: 2", end="\n")
@example(text="y: 1\ntrue: 2", end="\n")
@example(text="a: {b: 1, b: 2}", end="\n")
def test_what_is_read_by_lines_is_what_the_parser_reads(text: str, end: str) -> None:
    agrees(text + end)


@settings(max_examples=300)
@given(
    place=st.integers(0, len(MANIFEST)),
    length=st.integers(0, 3),
    put=st.text(st.sampled_from(" -:#'\"[]{},\n\tab1&*!|>?%~."), max_size=3),
)
def test_a_manifest_changed_anywhere_is_read_as_the_parser_reads_it(place: int, length: int, put: str) -> None:
    agrees(MANIFEST[:place] + put + MANIFEST[place + length :])


@pytest.mark.parametrize(
    "text",
    [
        MANIFEST,
        "a: 1",
        "- a\n- b\n",
        "- name: a\n  value: b\n- name: c\n",
        "a:\n- b\n- c: 1\n  d:\n  - e\nf: 1\n",
        "  a: 1\n  b: {}\n  c: []\n",
        "# only\n\na:   # nothing\n",
        "a: x:y\n",
    ],
)
def test_plain_manifests_are_read_by_lines(text: str) -> None:
    assert agrees(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n", "a: {b: 1, b: 2}\n", "y: 1\nyes: 2\n", "a: .nan\n", "~: 1\n", "a: &x 1\n", "a: *x\n", "<<: {a: 1}\n",
        "a: |\n  b\n", "a: b\n  c\n", "a: 'b\n  c'\n", 'a: "\\x41"\n', "a: 'b''c'\n", "? a\n: b\n", "a\n", "", "# only\n", "a: !!str 1\n",
        "a:\tb\n", "a: 1\r\nb: 2\r\n", "a: é\n", "%YAML 1.1\na: 1\n", "a: b: c\n", "a: b:\n", "- - a\n", "-\n  a: 1\n", "a: [b, [c]]\n",
        "a:\n" + "".join("  " * level + "a:\n" for level in range(1, 70)), "a: [b, c,]\n", "a: @b\n", "a: 1\n b: 2\n",
    ],
)  # fmt: skip
def test_anything_else_and_anything_wrong_is_left_to_the_parser(text: str) -> None:
    assert through_lines(text) is yamlplain.NOT_PLAIN


def test_no_two_readings_share_a_list_or_a_mapping() -> None:
    first, second = yamlio.load("a: [x, w]\nb: {c: d}\n"), yamlio.load("a: [x, w]\nb: {c: d}\n")
    first["a"].append("z")
    first["b"]["e"] = "f"
    assert second == {"a": ["x", "w"], "b": {"c": "d"}}
    assert yamlio.load("a: [x, w]\nb: {c: d}\n") == second
