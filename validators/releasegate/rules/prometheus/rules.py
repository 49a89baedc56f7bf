"""prometheus/rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from releasegate.model import Finding, Kind, Scope, Unjudged
from releasegate.rulefiles import Rule, RuleFile, rule_files
from releasegate.rules import Evidence, rule
from releasegate.rules.prometheus import judge, loaded_together, subjects_of


def rules_of(evidence: Evidence) -> Sequence[Rule | RuleFile]:
    """Every rule in the render of the environment; a rule file that cannot be read counts as one."""
    return subjects_of(rule_files(evidence.rendered))


@rule(scope=Scope.ENVIRONMENT, kind=Kind.FACT, subjects=rules_of, together=True)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Prometheus loads every rule that is rendered, and no two of them are the same.

    Judged by promtool (`check rules --lint=all --lint-fatal`): PrometheusRule and VMRule objects, and each key of a
    ConfigMap that holds groups of rules (`binaryData` too; LogQL is not judged, and said so). Two rules are the same when name and labels are equal and one Prometheus loads
    both: from one file, or from PrometheusRules that its selectors cannot tell apart; of recording rules with different
    expressions that is advice. `[prometheus] require` in
    releasegate.toml says what every alert must have: `severity` (a label), `runbook` (the annotation `runbook_url`),
    `for`, or the name of any label or annotation.

    Why: Prometheus refuses the whole file for one bad expression, and the operator drops the whole object: every alert
    in it is gone, and nothing fires to say so. Of two equal rules one overwrites the other's samples.

    Fix: mend the line; run `promtool check rules --lint=all --lint-fatal` on the file.

    Bad:
        apiVersion: monitoring.coreos.com/v1
        kind: PrometheusRule
        metadata:
          name: api
        spec:
          groups:
            - name: api
              rules:
                - alert: ApiErrors
                  expr: rate(http_errors_total[5m] > 1

    Good:
        apiVersion: monitoring.coreos.com/v1
        kind: PrometheusRule
        metadata:
          name: api
        spec:
          groups:
            - name: api
              rules:
                - alert: ApiErrors
                  expr: rate(http_errors_total[5m]) > 1
    """
    files = list(dict.fromkeys(one if isinstance(one, RuleFile) else one.file for one in subjects))
    yield from judge(files, loaded_together(files, evidence), evidence)
