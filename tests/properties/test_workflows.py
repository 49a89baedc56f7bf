"""Whatever a workflow holds, the rule says something about it, and no script is read as running what it does not name."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from releasegate import yamlio
from releasegate.config import Config
from releasegate.discover.workflows import Broken, command, read
from releasegate.evaluate import judge
from releasegate.model import CaseId, Level, Repo, Tree
from releasegate.rules import Evidence, Shared, catalogue

RULE = next(one for one in catalogue() if one.id == "gate/workflow")
words = st.sampled_from(
    [
        "gate",
        "a",
        "releasegate check --base x",
        "releasegate check || true",
        "actions/checkout@v4",
        "acme/releasegate@v1",
        "./.github/workflows/b.yml",
        "always()",
        "write",
        "write-all",
        "pull_request",
        "",
        "${{ needs.a.result }}",
    ]
)
keys = st.sampled_from(
    [
        "on",
        "jobs",
        "gate",
        "a",
        "needs",
        "if",
        "steps",
        "run",
        "uses",
        "with",
        "env",
        "name",
        "permissions",
        "contents",
        "strategy",
        "matrix",
        "continue-on-error",
        "pull_request",
        "merge_group",
        "pull_request_target",
        "paths",
        "branches",
        "types",
        "ref",
        "CI",
        "defaults",
        "shell",
        "persist-credentials",
    ]
)
leaves = words | st.none() | st.booleans() | st.integers(-1, 3)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
steps = st.lists(st.dictionaries(keys, values, max_size=4) | values, max_size=3)
jobs = st.dictionaries(
    st.sampled_from(["gate", "a", "b"]), st.dictionaries(keys, steps | values, max_size=5) | values, max_size=3
)
workflows = st.fixed_dictionaries(
    {"on": values, "jobs": jobs | values}, optional={"permissions": values, "defaults": values}
)


def _judge(texts: dict[str, str]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in texts.items():
            path = root / ".github/workflows" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
        tree = Tree(root=folder, files=tuple(f".github/workflows/{name}" for name in sorted(texts)))
        evidence = Evidence(
            repo=Repo(tree=tree, environments=(), releases=()),
            config=Config(exists=True),
            environment=None,
            release=None,
            renders=(),
            shared=Shared(tree),
        )
        return judge(RULE, CaseId(rule=RULE.id), evidence, Level.ON)


@settings(deadline=None)
@given(first=workflows, second=workflows)
def test_no_shape_breaks_the_rule_and_every_line_is_one_of_the_file(first: Any, second: Any) -> None:
    texts = {"a.yml": yamlio.dump(first), "b.yml": yamlio.dump(second)}
    verdict = _judge(texts)
    assert not [one for one in verdict.unjudged if "bug" in one.group], verdict.unjudged
    assert verdict.subjects == 2
    for one in verdict.findings:
        assert one.place is not None
        assert one.help
        if one.place.line is not None:
            text = texts[one.place.path.rsplit("/", 1)[-1]]
            assert 1 <= one.place.line <= text.count("\n") + 1


@given(text=st.text() | st.text("on: {}[]&*-\n|>'\"#!%@`\tjobs", max_size=40))
def test_any_text_is_a_workflow_or_broken(text: str) -> None:
    found = read("a.yml", text)
    assert not isinstance(found, Broken) or (found.message and found.help)


@given(script=st.text() | st.text("releasegate check|&;()<>'\"\\\n$#{} ", max_size=80))
@example("releasegate check 'a")
@example("releasegate check <<")
@example("releasegate check ${{")
@example("( ) ;; | releasegate check && ||")
def test_any_script_is_read(script: str) -> None:
    if (found := command(script)) is not None:
        assert found.subcommand
        assert "releasegate" in script


def test_a_script_made_to_take_long_does_not() -> None:
    began = time.process_time()
    for text in (
        "${{ " * 5000,
        "'\n" * 9999,
        " # ' " * 4000,
        "<<a\n" * 4000,
        "( " * 9000,
        "if " * 6000,
        "> " * 9000,
        "$aaaa" * 3999 + "(",
        "--a=" * 4900 + "(",
    ):
        command(f"releasegate check {text}"[:20_000])
    assert time.process_time() - began < 20
