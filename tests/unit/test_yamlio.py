"""What the YAML reader promises, where no helm is needed to know it. tests/properties/test_yamlio.py asks helm."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from releasegate import yamlio, yamlplain
from releasegate.yamlio import Budget, YamlError, documents, dump, load, positions


@pytest.fixture(params=["lines", "libyaml", "pure Python"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with the reader of plain lines in front, with the C scanner, and with what is used without libyaml."""
    if request.param != "lines":
        monkeypatch.setattr(yamlplain, "read", lambda *_: yamlplain.NOT_PLAIN)
    if request.param == "pure Python":
        monkeypatch.setattr(yamlio, "_CPARSER", None)
    else:
        assert yamlio._CPARSER is not None, "PyYAML without libyaml: the tests need the wheel"


# --- documents ----------------------------------------------------------------------------------------------------

STREAM = """\
# Source: app/templates/empty.yaml
---
# Source: app/templates/a.yaml
kind: A
script: |
  ---
  still: the script
--- # a comment
kind: B
--- {kind: C}
...
# between
...
%YAML 1.1
%TAG !e! tag:example.org,2026:
---
kind: !e!x D
---
null
---
"""


def test_a_stream_is_cut_at_its_markers_and_nowhere_else(reader: None) -> None:
    read = documents(STREAM)
    assert [one.value["kind"] for one in read] == ["A", "B", "C", "D"]
    assert [one.line for one in read] == [3, 8, 10, 14]
    assert read[0].value["script"] == "---\nstill: the script\n"
    assert read[0].text.startswith("# Source: app/templates/a.yaml\nkind: A")
    lines = STREAM.split("\n")
    for one in read:
        assert lines[one.line - 1] == one.text.split("\n")[0]


@pytest.mark.parametrize("text", ["", "\n", "# only\n", "---\n", "---\n---\n# x\n", "\ufeff", "null\n", "~", "...\n"])
def test_what_holds_nothing_is_left_out(reader: None, text: str) -> None:
    assert documents(text) == []
    assert load(text) is None


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_bom_and_line_ends_of_other_systems_change_nothing(reader: None, newline: str, bom: str) -> None:
    text = bom + "a: 1\n---\nb: |\n  x\n  y\n".replace("\n", newline)
    assert [one.value for one in documents(text)] == [{"a": 1}, {"b": "x\ny\n"}]


def test_a_later_document_neither_counts_nor_raises_for_load(reader: None) -> None:
    assert load("# first\n---\na: 1\n---\nb: [\n") == {"a": 1}


def test_a_line_break_that_editors_do_not_show_does_not_move_lines(reader: None) -> None:
    """libyaml counts NEL, LS and PS as line breaks; `grep -n` and editors do not."""
    with pytest.raises(YamlError) as caught:
        load("a: 'x\u2028y'\nb: 1\nc: @\n")
    assert (caught.value.line, caught.value.column) == (3, 4)
    mark = positions("a: 'x\u2028y'\nb: 1\n").value("/b")
    assert mark is not None
    assert (mark.line, mark.column) == (2, 4)


# --- duplicate keys -----------------------------------------------------------------------------------------------


def test_a_duplicate_key_is_read_like_helm_does_and_reported(reader: None) -> None:
    text = "a: 1\n---\nspec:\n  x: 1\n  y: {b: 1, b: 2}\nspec: {}\n"
    (_, second) = documents(text)
    assert second.value == {"spec": {}}
    assert second.line == 3
    assert second.problems == (
        (3, 'duplicate key "b" (first on line 3)'),
        (4, 'duplicate key "spec" (first on line 1)'),
    )


def test_keys_that_kubernetes_reads_as_one_are_duplicates(reader: None) -> None:
    (read,) = documents('on: 1\ntrue: 2\n0x10: a\n"16": b\n')
    assert [message for _, message in read.problems] == [
        'duplicate key "true" (first on line 1)',
        'duplicate key "16" (first on line 3)',
    ]


def test_a_key_that_a_merge_sets_too_is_what_strict_readers_refuse(reader: None) -> None:
    """kubeconform -strict: `key "k" already set in map`, in either order."""
    (read,) = documents("x: &x {k: 1, l: 2}\na:\n  <<: *x\n  k: 3\nb:\n  k: 3\n  <<: *x\n")
    assert read.value["a"] == {"k": 3, "l": 2}
    assert read.value["b"] == {"k": 1, "l": 2}
    assert read.problems == (
        (4, 'key "k" is also set by the merge key above it'),
        (7, 'key "k" is overridden by this merge key'),
    )


def test_merging_twice_is_no_duplicate_key(reader: None) -> None:
    (read,) = documents("x: &x {a: 1}\ny: &y {b: 2}\nz:\n  <<: *x\n  <<: *y\n")
    assert read.value["z"] == {"a": 1, "b": 2}
    assert read.problems == ()


def test_merge_lists_as_govuk_writes_them(reader: None) -> None:
    text = "a: &a {k: 1, l: 1}\nb: &b {k: 2, m: 2}\nc:\n  !!merge <<: [*a, *b]\n  o: 3\nd:\n  !!merge <<: *b\n"
    assert load(text)["c"] == {"k": 1, "l": 1, "m": 2, "o": 3}
    assert load(text)["d"] == {"k": 2, "m": 2}


def test_an_anchor_name_may_be_used_again(reader: None) -> None:
    assert load("a: &x 1\nb: *x\nc: &x [2, &y {z: 1}]\nd: *x\ne: *y\n") == {
        "a": 1, "b": 1, "c": [2, {"z": 1}], "d": [2, {"z": 1}], "e": {"z": 1},
    }  # fmt: skip


def test_aliased_values_are_no_shared_objects() -> None:
    read = load("a: &x {k: []}\nb: *x\n")
    read["a"]["k"].append(1)
    assert read["b"] == {"k": []}


# --- refusals -----------------------------------------------------------------------------------------------------

REFUSED = {
    "an unclosed bracket": ("a: 1\nb: [1,\n", 2, "expected"),
    "a tab as indentation": ("a:\n\tb: 1\n", 2, "spaces"),
    "a NUL": ("a: 1\nb: x\x00y\n", 2, "U+0000"),
    "a lone surrogate": ("a: 1\nb: \ud800\n", 2, "U+D800"),
    "an escape character": ("a: \x1b[0m\n", 1, "U+001B"),
    "an unknown alias": ("a: 1\nb: *nobody\n", 2, "alias"),
    "an alias inside its own anchor": ("a: 1\nb: &b [1, *b]\n", 2, "itself"),
    "a merge of itself": ("b: &b\n  <<: *b\n", 1, "itself"),
    "a merge of a list": ("a: &a [1]\nb:\n  <<: *a\n", 1, "merge key"),
    "a merge of a scalar": ("b:\n  <<: 1\n", 2, "merge key"),
    "a list as key": ("a: 1\n? [1]\n: 2\n", 2, "key"),
    "a null key": ("a: 1\n~: 2\n", 2, "null"),
    "a key beyond 64 bits": ("18446744073709551615: 1\n", 1, "64 bits"),
    "not a number": ("a: 1\nb: .nan\n", 2, "nan"),
    "an infinity in a list": ("a: 1\nb:\n- 1\n- -.inf\n", 4, "inf"),
    "an infinity in a document with anchors": ("a: &a 1\nb: [*a, .inf]\n", 2, "inf"),
    "a word tagged int": ("a: 1\nb: !!int many\n", 2, "!!int"),
    "a fraction tagged int": ("a: !!int 1.5\n", 1, "!!int"),
    "bad base64": ("a: 1\nb: !!binary x\n", 2, "base64"),
    "a second root": ("{a: 1}\nb: 2\n", 2, "ignore"),
    "a dedent below the first key": ("  a: 1\nb: 2\n", 2, "ignore"),
    "a broken later document": ("a: 1\n---\nb: 2\n---\nc: [\n", 5, "expected"),
    "a template that was not rendered": ("a: {{ .Values.x }}\n", 1, "key"),
    "an open quote at a document marker": ("a: 'x\n---\nb: 1\n", 1, "quoted"),
    "an unfinished directive": ("%YAML\n---\na: 1\n", 1, "directive"),
}


@pytest.mark.parametrize(("text", "line", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_is_refused_with_its_line(reader: None, text: str, line: int, said: str) -> None:
    with pytest.raises(YamlError) as caught:
        documents(text)
    assert caught.value.line == line
    assert said in caught.value.message
    assert str(caught.value) == f"line {line}: {caught.value.message}"


@pytest.mark.parametrize(
    "text", ["a: 2026-02-30\n", f"a: {'9' * 5000}\n", "a: =\n", "a: <<\n", "a: !x y\n", "a: 1:20\n"]
)
def test_what_crashes_pyyaml_is_read(reader: None, text: str) -> None:
    """2026-02-30 and 5,000 digits: ValueError; `=`, `<<` and unknown tags: ConstructorError."""
    value = load(text)["a"]
    assert isinstance(value, str)
    assert value


def test_a_match_type_of_not_equal_is_a_tag(reader: None) -> None:
    """`matchType: !=` stands in a real config repo: an unknown tag on an empty string, which helm reads as ""."""
    assert load("matchType: !=\nregex: !~\n") == {"matchType": "", "regex": ""}


# --- budgets ------------------------------------------------------------------------------------------------------

DEEP: dict[str, Callable[[int], str]] = {
    "lists in flow": lambda levels: "[" * levels + "]" * levels,
    "mappings in flow": lambda levels: "{a: " * levels + "1" + "}" * levels,
    "lists on one line": lambda levels: "- " * levels + "1",
    "keys on one line": lambda levels: "? " * levels + "1",
    "mappings in block": lambda levels: "".join(" " * level + "a:\n" for level in range(levels)) + " " * levels + "1",
    "lists under keys": lambda levels: "".join(
        "  " * level + "a:\n" + "  " * level + "- \n" for level in range((levels + 1) // 2)
    ),
    "open brackets": lambda levels: "[" * max(levels, 201),
}


@pytest.mark.parametrize("shape", DEEP)
@pytest.mark.parametrize("levels", [100, 500, 1000, 30_000, 200_000])
def test_deep_nesting_is_refused_in_milliseconds(shape: str, levels: int) -> None:
    """60 KB of brackets made CSafeLoader die of SIGSEGV."""
    if levels > 1000 and shape in {"mappings in block", "lists under keys"}:
        levels = 2000  # quadratic text
    text = DEEP[shape](levels)
    started = time.process_time()
    with pytest.raises(YamlError, match="64 levels"):
        documents(text)
    with pytest.raises(YamlError, match="64 levels"):
        positions(text)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("shape", ["lists in flow", "mappings in flow", "lists on one line", "mappings in block"])
def test_64_levels_are_read_and_65_are_not(reader: None, shape: str) -> None:
    assert documents(DEEP[shape](64))
    with pytest.raises(YamlError, match="more than 64 levels"):
        documents(DEEP[shape](65))
    assert documents(DEEP[shape](65), budget=Budget(depth=65))


def test_aliases_do_not_hide_depth() -> None:
    halves = "a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40 + "\n"
    with pytest.raises(YamlError, match="64 levels"):
        documents(halves)


def test_a_dashboard_with_a_thousand_brackets_is_not_deep(reader: None) -> None:
    """JSON inside a block scalar makes the cheap bound useless; the exact count decides."""
    text = "data:\n  board.json: |\n    " + "[" * 1000 + "]" * 1000 + "\n" + " " * 120 + "{}\n"
    assert load(text)["data"]["board.json"].startswith("[[[")


@pytest.mark.parametrize("levels", range(5, 13))
@pytest.mark.parametrize("kind", ["aliases", "merge keys"])
def test_bombs_are_refused_in_milliseconds(kind: str, levels: int) -> None:
    """321 bytes of merge keys kept CSafeLoader busy for 8 s."""
    if kind == "aliases":
        line = "a{0}: &a{0} [{1}]\n"
        text = "a0: &a0 [x, x]\n"
    else:
        line = "a{0}: &a{0} {{<<: [{1}], k{0}: 1}}\n"
        text = "a0: &a0 {k: 1}\n"
    text += "".join(line.format(level, ", ".join([f"*a{level - 1}"] * 9)) for level in range(1, levels))
    started = time.process_time()
    for read in (documents, positions):
        with pytest.raises(YamlError, match=r"expand to more than|excessive aliasing"):
            read(text)
    assert time.process_time() - started < 0.5


def test_many_aliases_of_a_small_anchor_are_no_bomb() -> None:
    text = "x: &x {a: 1, b: 2}\n" + "".join(f"k{number}: *x\n" for number in range(5000))
    assert len(load(text)) == 5001


# --- positions ----------------------------------------------------------------------------------------------------

PLACED = """\
image: &image
  repository: registry.example/api
  tag: !!str 1.10 # quoted would be better
api:
  image: *image
  env:
  - name: A
    value: "x"
  - {name: 'B', value: b}
worker:
  <<: *image
  note: |
    two
    lines
  ~/a~b: >-
    folded
"""


def written(text: str, pointer: str) -> str:
    mark = positions(text).value(pointer)
    assert mark is not None
    lines = text.split("\n")
    assert text[mark.index] == lines[mark.line - 1][mark.column - 1]
    before = "\n".join(lines[: mark.end_line - 1])
    assert mark.end_index == len(before) + (mark.end_line > 1) + mark.end_column - 1
    return text[mark.index : mark.end_index]


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/image/tag", "1.10"),
        ("/api/image/tag", "1.10"),
        ("/worker/tag", "1.10"),
        ("/api/env/0/value", '"x"'),
        ("/api/env/1/name", "'B'"),
        ("/api/env/1", "{name: 'B', value: b}"),
        ("/worker/note", "|\n    two\n    lines\n"),
        ("/worker/~0~1a~0b", ">-\n    folded\n"),
        ("/image", "repository: registry.example/api\n  tag: !!str 1.10 # quoted would be better"),
    ],
)
def test_a_value_is_found_where_a_person_would_edit_it(reader: None, pointer: str, expected: str) -> None:
    assert written(PLACED, pointer) == expected
    lead = "# lead\n---\n"
    moved = positions(lead + PLACED).value(pointer)
    assert moved is not None
    here = positions(PLACED).value(pointer)
    assert here is not None
    assert (moved.line, moved.column, moved.index) == (here.line + 2, here.column, here.index + len(lead))


@pytest.mark.parametrize(
    "pointer", ["/nobody", "/image/tag/x", "/api/env/2", "/api/env/x", "/api/env/-1", "image", "/"]
)
def test_where_nothing_is_there_is_no_mark(pointer: str) -> None:
    assert positions(PLACED).value(pointer) is None
    assert positions(PLACED).key(pointer) is None


def test_keys_have_marks_and_list_items_have_none() -> None:
    found = positions(PLACED)
    key = found.key("/worker/tag")
    assert key is not None
    assert (key.line, key.column, key.end_column) == (3, 3, 6)
    assert found.key("/api/env/0") is None
    assert found.key("") is None
    assert found.value("") is not None


def test_scalars_are_given_as_written_and_as_read() -> None:
    text = "a: 0x10\nb: '2026-01-02'\nc: 2026-01-02\nd: ~\ne: \"x\"\nf: |\n  g\nh: >-\n  i\n"
    read = [(one.pointer, one.raw, one.style, one.tag, one.value) for one in positions(text).scalars()]
    assert read == [
        ("/a", "0x10", "plain", "int", 16),
        ("/b", "'2026-01-02'", "single", "str", "2026-01-02"),
        ("/c", "2026-01-02", "plain", "timestamp", "2026-01-02"),
        ("/d", "~", "plain", "null", None),
        ("/e", '"x"', "double", "str", "x"),
        ("/f", "|\n  g\n", "literal", "str", "g\n"),
        ("/h", ">-\n  i\n", "folded", "str", "i"),
    ]


def test_positions_of_nothing_are_empty() -> None:
    assert list(positions("# nothing\n").scalars()) == []
    assert positions("").value("") is None


# --- dump ---------------------------------------------------------------------------------------------------------


def test_a_dump_is_readable_and_equal_for_equal_values() -> None:
    value = {"b": [1, {"x": "yes", "n": None}, []], "a": {"tag": "1.10", "name": "api"}, "c": {}}
    assert dump(value) == (
        'a:\n  name: api\n  tag: "1.10"\nb:\n  - 1\n  -\n    "n": null\n    x: "yes"\n  - []\nc: {}\n'
    )
    assert dump(value) == dump(dict(reversed(value.items())))
    assert load(dump(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**63, {1: 2}, {"a": object()}, "\ud800", b"x"])
def test_what_kubernetes_cannot_hold_is_not_dumped(value: object) -> None:
    with pytest.raises(ValueError, match=r"cannot hold|must be a string|no text"):
        dump(value)
