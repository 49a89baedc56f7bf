"""pytest collectors and items, thin: releasegate.toml -> prod/api -> images/digest-only.

One root file yields all cases: pytest's own walk would lose a chart in a folder called `build` and skip one called
`skip`. Collecting renders nothing but the roots that discovery needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from releasegate.evaluate import place_of
from releasegate.model import REPO_NODE, CaseId, Outcome, Verdict
from releasegate.report.text import clean, message
from releasegate.run import Run

RUN: pytest.StashKey[Run] = pytest.StashKey()
ONLY: pytest.StashKey[frozenset[str]] = pytest.StashKey()
VERDICT: pytest.StashKey[Verdict] = pytest.StashKey()


class GateDirectory(pytest.Directory):
    """ROOT, where releasegate.toml does not exist or nothing else may be collected."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield the one gate file, whether it exists or not."""
        yield GateFile.from_parent(self, path=self.path / "releasegate.toml")


class GateFile(pytest.File):
    """releasegate.toml: the root of every case id."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield a node per release, per environment, and one for the repo."""
        run = self.config.stash[RUN]
        only = self.config.stash.get(ONLY, frozenset())
        nodes: dict[str, list[CaseId]] = {}
        for case in run.cases:
            if not only or any(_within(str(case), chosen) for chosen in only):
                nodes.setdefault(str(case).split("::")[1], []).append(case)
        for name, cases in nodes.items():
            yield CasesNode.from_parent(self, name=name, cases=cases)


def _within(case: str, chosen: str) -> bool:
    return case == chosen or case.startswith(f"{chosen}::")


class CasesNode(pytest.Collector):
    """`prod/api`, `prod` or `repo`: what its cases are about."""

    def __init__(self, *, cases: list[CaseId], **kwargs: Any) -> None:
        """`cases` are the ones to yield, in order."""
        super().__init__(**kwargs)
        self.cases = cases

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per rule."""
        for case in self.cases:
            yield CaseItem.from_parent(self, name=case.rule, case=case)


class CaseItem(pytest.Item):
    """One case. Its verdict is the run's own record; pytest's outcome only shows it."""

    def __init__(self, *, case: CaseId, **kwargs: Any) -> None:
        """`case` names what is judged."""
        super().__init__(**kwargs)
        self.case = case

    def setup(self) -> None:
        """Judge. Not-evaluated is raised here, so that pytest reports an error and not a failure."""
        verdict = self.config.stash[RUN].judge(self.case)
        self.stash[VERDICT] = verdict
        self.user_properties += [
            ("verdict", verdict.outcome.value),
            ("subjects", str(verdict.subjects)),
            ("environment", self.case.environment or REPO_NODE),
            ("release", self.case.release or ""),
            ("rule", self.case.rule),
        ]
        if verdict.outcome is Outcome.NOT_EVALUATED:
            pytest.fail(_told(verdict), pytrace=False)

    def runtest(self) -> None:
        """Show the verdict as pytest's outcome; findings in a few lines, no traceback."""
        verdict = self.stash[VERDICT]
        if verdict.outcome is Outcome.FAILED:
            pytest.fail(_told(verdict), pytrace=False)
        if verdict.outcome is Outcome.NOT_APPLICABLE:
            pytest.skip(verdict.reason or "not applicable")

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Name the case where pytest names a test function."""
        where = REPO_NODE if self.case.environment is None else self.case.environment
        release = f"/{self.case.release}" if self.case.release else ""
        return self.path, None, f"{where}{release} {self.case.rule}"


def _told(verdict: Verdict) -> str:
    lines = [str(verdict.id)]
    for gap in verdict.unjudged:
        lines += [f"  not evaluated: {clean(gap.reason)}", f"  mend: {clean(gap.remedy)}"]
    for finding in verdict.findings:
        place = place_of(finding)
        where = f"{place}: " if place else ""
        lines += [f"  {where}{message(finding, finding.message)}", f"  fix: {message(finding, finding.help)}"]
    return "\n".join(lines)
