"""prometheus/files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from releasegate.discover.files import Files
from releasegate.model import Finding, HelmSource, Kind, Scope, Unjudged
from releasegate.rulefiles import Rule, RuleFile, plain_files
from releasegate.rules import Evidence, rule
from releasegate.rules.prometheus import judge

_FILES = re.compile(r"\.Files\b")


def rules_of(evidence: Evidence) -> Sequence[Rule | RuleFile]:
    """Every rule of the plain rule files that no deployed chart loads."""
    files = evidence.shared.files
    loading = {
        source.chart
        for release in evidence.repo.releases
        for source in release.sources
        if isinstance(source, HelmSource) and _loads_files(source.chart, files)
    }
    found: list[Rule | RuleFile] = []
    for file in plain_files(files):
        if not any(f"{file.path}".startswith(f"{chart}/") for chart in loading):
            found += [file] if file.error is not None else file.rules()
    return found


def _loads_files(chart: str, files: Files) -> bool:
    return any(files.mentions(path, _FILES) for path in files.below(f"{chart}/templates"))


@rule(scope=Scope.REPO, kind=Kind.FACT, subjects=rules_of, together=True, needs_render=False)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Prometheus loads the rule files of the repo that no chart loads, too.

    Plain files with `groups` of rules (what `promtool check rules` takes) that are deployed by other means than a
    chart, or are not deployed yet. Those of a deployed chart whose templates load files are judged as they are
    rendered, by prometheus/rules. Files that only Helm understands are no rule files.

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
