"""prometheus/files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from releasegate.discover.files import Files, PatternTooLarge, doublestar, greedy
from releasegate.model import Finding, HelmSource, Kind, Scope, Unjudged
from releasegate.rulefiles import Rule, RuleFile, loads_files, plain_files
from releasegate.rules import Evidence, rule
from releasegate.rules.prometheus import judge, subjects_of

_LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`([^`]*)`')
_VERB = re.compile(r"%[-+# 0-9.]*[a-zA-Z]")
_ACTION = re.compile(r"\{\{")
_COMMENT = re.compile(r"-?\s*/\*")
_COMPUTED = re.compile(r"\.Files\b(?:\.\w+\s+(?![\"`\s])|(?!\.))")


def rules_of(evidence: Evidence) -> Sequence[Rule | RuleFile]:
    """Every rule of the plain rule files that no deployed chart loads."""
    files = evidence.shared.files
    charts = {
        source.chart
        for release in evidence.repo.releases
        for source in release.sources
        if isinstance(source, HelmSource)
    }
    loaded = {chart: _loaded(chart, files) for chart in charts if loads_files(chart, files)}
    return subjects_of(
        file
        for file in plain_files(files)
        if not any(
            f"{file.path}".startswith(f"{chart}/") and matches(f"{file.path}".removeprefix(f"{chart}/"))
            for chart, matches in loaded.items()
        )
    )


def _loaded(chart: str, files: Files) -> Callable[[str], bool]:
    """Whether a template may load a path of the chart: a text in one of their actions fits it.

    `rules/*.yaml` is a glob, each verb of a `printf` stands for anything, `rules/` may be put together with more. Where
    a template takes the name from elsewhere, each path that some YAML of the repo holds fits, too.
    """
    actions = [
        action.partition("}}")[0]
        for path in files.below(chart)
        if "/templates/" in f"/{path}" and files.mentions(path, _ACTION)
        for action in files.text(path).split("{{")[1:]
        if _COMMENT.match(action) is None
    ]
    literals = {one[1] or one[2] or "" for action in actions for one in _LITERAL.finditer(action)}
    globs = [_glob(one) for one in literals if any(char in one for char in "*/.")]
    computed = any(_COMPUTED.search(action) for action in actions)
    named = [path for path in files.tree.files if computed and path.endswith((".yaml", ".yml", ".json"))]

    def matches(path: str) -> bool:
        if any(one is None or one.fullmatch(path) for one in globs):
            return True
        word = re.compile(rf"(?<![\w./-]){re.escape(path)}(?![\w/-])")
        return any(files.mentions(one, word) for one in named)

    return matches


def _glob(literal: str) -> re.Pattern[str] | None:
    """None for what may match anything."""
    pattern = _VERB.sub("**", literal).removeprefix("./") + ("**" if literal.endswith("/") else "")
    try:
        return greedy(pattern) if "**" in pattern else doublestar(pattern)
    except (PatternTooLarge, re.error):
        return None


@rule(scope=Scope.REPO, kind=Kind.FACT, subjects=rules_of, together=True, needs_render=False)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Prometheus loads the rule files of the repo that no chart loads, too.

    Plain files with `groups` of rules (what `promtool check rules` takes) that are deployed by other means than a
    chart, or are not deployed yet. Those that the templates of a deployed chart load are judged as they are rendered, by
    prometheus/rules. Files that only Helm understands are no rule files.

    Why: a broken rule file that is loaded somewhere else is as broken; one that will be loaded tomorrow breaks then.

    Fix: mend the line; run `promtool check rules --lint=all --lint-fatal` on the file.

    Bad:
        groups:
          - name: api
            rules:
              - alert: ApiErrors
                expr: rate(http_errors_total[5m] > 1

    Good:
        groups:
          - name: api
            rules:
              - alert: ApiErrors
                expr: rate(http_errors_total[5m]) > 1
    """
    yield from judge(
        list(dict.fromkeys(one if isinstance(one, RuleFile) else one.file for one in subjects)), (), evidence
    )
