"""prometheus/tests."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from releasegate import process, yamlio
from releasegate.cache import key_of
from releasegate.discover.files import Files, Unreadable, single_level
from releasegate.model import Finding, Kind, Place, Scope, Unjudged
from releasegate.rulefiles import RuleFile, read
from releasegate.rules import Evidence, rule
from releasegate.rules.prometheus import answers
from releasegate.tools import promtool, store

_SECONDS = 120  # of one test file: a real one takes 20
_SUFFIXES = (".yaml", ".yml", ".test", ".json")
_TESTS = ("alert_rule_test", "promql_expr_test", "input_series")
_MEANT = re.compile(r"^[ \t-]*(?:alert_rule_test|promql_expr_test)[ \t]*:", re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False)
class TestFile:
    """A file of unit tests of rules; `error` where it is no YAML."""

    path: str
    text: str
    body: Mapping[str, Any]
    error: yamlio.YamlError | None = None


def test_files(evidence: Evidence) -> Sequence[TestFile]:
    """Every file of the repo that holds unit tests of rules."""

    def found() -> Sequence[TestFile]:
        files = evidence.shared.files
        return [one for path in files.tree.files if (one := _test_file(path, files)) is not None]

    return evidence.shared.once(("prometheus/tests", "files"), found)


def _test_file(path: str, files: Files) -> TestFile | None:
    if not path.endswith(_SUFFIXES) or "/templates/" in f"/{path}":
        return None
    try:
        return test_file(path, files.text(path))
    except Unreadable:
        return None


def test_file(path: str, text: str) -> TestFile | None:
    """Read a text that may hold unit tests of rules; None when it holds none."""
    if "rule_files" not in text and "rule_test" not in text and "expr_test" not in text:
        return None
    try:
        body = yamlio.load(text)
    except yamlio.YamlError as error:
        return TestFile(path, text, {}, error) if _MEANT.search(text) else None
    if not isinstance(body, Mapping) or "scrape_configs" in body:
        return None
    tests = _list(body.get("tests"))
    holds = any(isinstance(one, Mapping) and any(key in one for key in _TESTS) for one in tests)
    names = "rule_files" in body and ("tests" in body or "evaluation_interval" in body)
    return TestFile(path, text, body) if holds or names else None


def named_rule_files(file: TestFile) -> list[str]:
    """What stands in its `rule_files`."""
    return [str(one) for one in _list(file.body.get("rule_files"))]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The test files, and what promtool was asked about those that hold something to run."""

    runs: list[_Run]
    ready: list[_Run]
    outcomes: list[Future[promtool.TestFile | promtool.Unavailable]]


def begin(evidence: Evidence) -> _Asked:
    """Start promtool for every test file in the background, once a run: its tests take longer than all the rest."""

    def ask() -> _Asked:
        runs = [_Run(one, evidence) for one in test_files(evidence)]
        ready = [one for one in runs if one.runs]
        tool = evidence.shared.tool("promtool") if runs else None
        if not ready or not isinstance(tool, store.Tool):
            return _Asked(runs, ready, [])
        cancel = process.Cancel()
        pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="promtool")

        def end() -> None:
            cancel.cancel()
            pool.shutdown(cancel_futures=True)

        evidence.shared.on_close(end)
        return _Asked(runs, ready, [pool.submit(one.outcome, tool, cancel) for one in ready])

    return evidence.shared.once(("prometheus/tests", "asked"), ask)


@rule(scope=Scope.REPO, kind=Kind.FACT, subjects=test_files, together=True, needs_render=False, ahead=begin)
def check(_subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """The unit tests of Prometheus rules pass, and each of them tests something.

    Every file that `promtool test rules` would take is run. It must name rule files of the repo that exist, hold tests,
    and each test must expect something of an alert that its rule files define, or of an expression.

    Why: promtool says SUCCESS for a file without tests, for rule files that do not exist, and for an alert nobody
    defines that is expected not to fire: a renamed alert keeps a green test that tests nothing.

    Fix: correct the name or the path on that line, or the rule, or what the test expects of it.

    Bad:
        rule_files:
          - api.yaml
        tests:
          - interval: 1m
            alert_rule_test:
              - eval_time: 10m
                alertname: ApiErorrs
                exp_alerts: []

    Good:
        rule_files:
          - api.yaml
        tests:
          - interval: 1m
            alert_rule_test:
              - eval_time: 10m
                alertname: ApiErrors
                exp_alerts: []
    """
    asked = begin(evidence)
    tool = evidence.shared.tool("promtool")
    if isinstance(tool, store.ToolMissing) and asked.ready:
        reason = f"promtool is missing: {tool.reason}"
        yield Unjudged(reason=reason, remedy=tool.remedy, group=reason)
    said = {id(one): future.result() for one, future in zip(asked.ready, asked.outcomes, strict=False)}
    for one in asked.runs:
        yield from one.findings(said.get(id(one)))


class _Run:
    """One test file with the rule files it names."""

    def __init__(self, file: TestFile, evidence: Evidence) -> None:
        self.file = file
        self.evidence = evidence
        self.files = evidence.shared.files
        self.rule_texts: dict[str, str] = {}
        self.named_at: dict[str, str] = {}
        self.told: list[Finding | Unjudged] = []
        self.outside = False  # promtool opens what a test names, wherever it is
        self._positions: yamlio.Positions | None = None
        self.tests = _list(file.body.get("tests"))
        if file.error is None:
            self._resolve()

    @property
    def runs(self) -> bool:
        """Whether there is anything for promtool."""
        return self.file.error is None and bool(self.tests) and bool(self.rule_texts) and not self.outside

    # --- what it names ----------------------------------------------------------------------------------------------

    def _resolve(self) -> None:
        patterns = _list(self.file.body.get("rule_files"))
        if not patterns:
            self._say(
                f"{self.file.path} names no rule file",
                "name the files it tests under `rule_files`, relative to its own folder",
                "no rule_files",
                "/rule_files",
            )
        for index, pattern in enumerate(patterns):
            self._resolve_one(str(pattern), f"/rule_files/{index}")

    def _resolve_one(self, pattern: str, pointer: str) -> None:
        folder = posixpath.dirname(self.file.path)
        path = posixpath.normpath(posixpath.join(folder, pattern))
        if posixpath.isabs(pattern) or path.startswith("../"):
            self.outside = True
            self._say(
                f"rule file {pattern!r} is outside the repository",
                "name a file of the repo, relative to the folder of the test",
                f"rule file {pattern} outside",
                pointer,
            )
            return
        wanted = single_level(path)
        found = [one for one in self.files.below(_fixed(path)) if wanted.fullmatch(one)]
        found = found or [one for one in (path,) if one in self.files]
        if not found:
            self._say(
                f"no file of the repo matches rule file {pattern!r}: what it should test is not tested",
                f"name an existing file, relative to {folder or 'the root'}; promtool only warns",
                f"rule file {pattern} matches nothing",
                pointer,
            )
        for one in found:
            try:
                self.rule_texts[one] = self.files.text(one)
                self.named_at[one] = pointer
            except Unreadable as error:
                self._say(f"rule file {one} {error}", "name a readable file of the repo", f"{one} {error}", pointer)

    # --- what promtool says -----------------------------------------------------------------------------------------

    def outcome(self, tool: store.Tool, cancel: process.Cancel) -> promtool.TestFile | promtool.Unavailable:
        """What promtool says, or said of the same texts before."""
        texts = {self.file.path: self.file.text, **self.rule_texts}
        parts = [part for name in sorted(texts) for part in (name, texts[name])]
        key = key_of("prometheus/tests 1", tool.identity.sha256, self.file.path, *parts)
        kept = self.evidence.shared.cache.get(key)
        if kept is not None:
            groups, failures, problems = json.loads(kept)
            return promtool.TestFile(groups, {int(at): tuple(one) for at, one in failures.items()}, tuple(problems))
        said = promtool.run_tests(tool, self.file.path, texts, seconds=_SECONDS, cancel=cancel)
        if isinstance(said, promtool.TestFile):
            kept = json.dumps(
                [said.groups, {str(at): one for at, one in said.failures.items()}, said.problems]
            ).encode()
            self.evidence.shared.cache.put(key, kept)
        return said

    # --- findings ---------------------------------------------------------------------------------------------------

    def findings(self, said: promtool.TestFile | promtool.Unavailable | None) -> Iterator[Finding | Unjudged]:
        """All about this file."""
        file = self.file
        if file.error is not None:
            yield Finding(
                message=f"{file.path} is no YAML: {file.error.message}",
                help="mend it: none of its tests runs",
                change=file.error.message,
                place=Place(path=file.path, line=file.error.line, column=file.error.column),
            )
            return
        unknown = self._vacuous()
        yield from self.told
        if isinstance(said, promtool.Unavailable):
            yield Unjudged(
                reason=f"the tests of {file.path} could not be run: {said.reason}",
                remedy=said.remedy,
                group=f"tests of {file.path}",
                place=Place(path=file.path),
            )
        elif said is not None:
            yield from self._failures(said, unknown)

    def _vacuous(self) -> set[tuple[int, int]]:
        """Say which tests test nothing; returns those that name an alert nobody defines, by (test, item)."""
        if not self.tests:
            self._say(f"{self.file.path} holds no tests", "write tests, or remove the file", "no tests", "/tests")
        alerts = {rule.name for path, text in self.rule_texts.items() for rule in _rules(text, path) if rule.is_alert}
        undefined: dict[str, list[tuple[int, int]]] = {}
        for number, test in enumerate(self.tests):
            if not isinstance(test, Mapping):
                continue
            items = _list(test.get("alert_rule_test"))
            if not items and not _list(test.get("promql_expr_test")):
                self._say(
                    f"test {_named(test, number)} expects nothing",
                    "add `alert_rule_test` or `promql_expr_test` to it",
                    f"test {number} expects nothing",
                    f"/tests/{number}",
                )
            for index, item in enumerate(items):
                name = item.get("alertname") if isinstance(item, Mapping) else None
                if isinstance(name, str) and name and name not in alerts and self.rule_texts:
                    undefined.setdefault(name, []).append((number, index))
        for name, uses in undefined.items():
            first, *others = (f"/tests/{number}/alert_rule_test/{index}/alertname" for number, index in uses)
            lines = [str(self._at(one).line) for one in others]
            also = f", here and on line{'s' if len(lines) > 1 else ''} {', '.join(lines)}" if lines else ""
            self._say(
                f"no alert {name!r} is defined in {', '.join(self.rule_texts)}{_near(name, alerts)}{also}",
                "write the alert's name as the rule file does, or name the file that defines it",
                f"alert {name} is not defined",
                first,
            )
        return {use for uses in undefined.values() for use in uses}

    def _failures(self, said: promtool.TestFile, unknown: set[tuple[int, int]]) -> Iterator[Finding | Unjudged]:
        broken = self._broken_rule_files()
        for text in dict.fromkeys(said.problems):
            line = re.search(r"line (\d+)", text)
            yield Finding(
                message=f"promtool cannot read {self.file.path}: {_one_line(text)}",
                help="mend it: none of its tests runs",
                change=text,
                place=Place(path=self.file.path, line=int(line[1]) if line else None),
            )
        if not said.problems and said.groups != len(self.tests):
            yield Unjudged(
                reason=f"{self.file.path} holds {len(self.tests)} tests, promtool ran {said.groups}",
                remedy=f"`promtool test rules {self.file.path}` says more",
                group=f"tests of {self.file.path}",
                place=Place(path=self.file.path),
            )
        if broken and said.failures:
            # A rule file that does not load is a finding of prometheus/rules or prometheus/files, at its own line.
            others = [path for path in broken if read(self.rule_texts[path], origin="file", path=path) is None]
            for path in others:
                yield Finding(
                    message=f"rule file {path} is none: promtool refuses it, and no test runs",
                    help="name a file of rules: `groups` at its top, no Kubernetes object around them",
                    change=f"{path} is no rule file",
                    place=self._at(self.named_at[path]),
                )
            if not others:
                yield Unjudged(
                    reason=f"the tests of {self.file.path} could not run: {', '.join(broken)} does not load",
                    remedy="mend the rule file; its own finding says where",
                    group=f"{', '.join(broken)} does not load",
                    place=Place(path=self.file.path),
                )
            return
        for number, texts in said.failures.items():
            for text in dict.fromkeys(texts):
                yield from self._failure(number, text, unknown)

    def _failure(self, number: int, text: str, unknown: set[tuple[int, int]]) -> Iterator[Finding]:
        test = self.tests[number] if number < len(self.tests) else {}
        pointer, index = self._item(number, test, text)
        if index is not None and (number, index) in unknown:
            return  # said above
        yield Finding(
            message=f"test {_named(test, number)} fails: {_one_line(text)}",
            help="mend the rule, or what the test expects of it",
            change=f"{number} {text}",
            place=self._at(pointer),
        )

    def _item(self, number: int, test: Any, text: str) -> tuple[str, int | None]:
        """The pointer of what a failure is about, and which `alert_rule_test` it is."""
        whole = f"/tests/{number}"
        alert = re.search(r"^\s*alertname: (.*), time: (\S+),", text, re.MULTILINE)
        expression = re.search(r'^\s*expr: ("(?:[^"\\]|\\.)*"), time: (\S+),', text, re.MULTILINE)
        key, field, named = "", "", None
        if alert is not None:
            key, field, named = "alert_rule_test", "alertname", alert[1]
        elif expression is not None:
            key, field, named = "promql_expr_test", "expr", promtool.unquoted(expression[1])
        found = alert or expression
        if found is None or not isinstance(test, Mapping):
            return whole, None
        items = [
            index
            for index, item in enumerate(_list(test.get(key)))
            if isinstance(item, Mapping)
            and str(item.get(field)) == named
            and _same_time(item.get("eval_time"), found[2])
        ]
        if len(items) != 1:
            return whole, None
        return f"{whole}/{key}/{items[0]}/{field}", items[0] if key == "alert_rule_test" else None

    def _broken_rule_files(self) -> list[str]:
        """The rule files that promtool does not load: findings of prometheus/rules or prometheus/files."""
        said = answers(self.rule_texts.values(), self.evidence)
        if isinstance(said, promtool.Unavailable):
            return []
        return [path for path, text in self.rule_texts.items() if said[text].problems]

    def _say(self, message: str, help_: str, change: str, pointer: str) -> None:
        self.told.append(Finding(message=message, help=help_, change=change, place=self._at(pointer)))

    def _at(self, pointer: str) -> Place:
        if self._positions is None:
            self._positions = yamlio.positions(self.file.text)
        mark = self._positions.key(pointer) or self._positions.value(pointer)
        if mark is None:
            return Place(path=self.file.path)
        return Place(path=self.file.path, line=mark.line, column=mark.column)


def _rules(text: str, path: str) -> Sequence[Any]:
    found: RuleFile | None = read(text, origin="file", path=path)
    return found.rules() if found is not None else ()


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _named(test: Any, number: int) -> str:
    name = test.get("name") if isinstance(test, Mapping) else None
    return repr(name) if isinstance(name, str) and name else f"number {number + 1}"


def _near(name: str, known: set[str]) -> str:
    import difflib  # noqa: PLC0415 -- only where a name is wrong

    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _one_line(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= 400 else f"{shown[:399]}…"  # noqa: PLR2004 -- what fits a terminal


_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")


def _same_time(written: Any, said: str) -> bool:
    """Whether two of Prometheus' durations are equal: 90m is 1h30m."""
    return _milliseconds("0s" if written is None else str(written)) == _milliseconds(said)


def _milliseconds(text: str) -> int | None:
    if text == "0":
        return 0
    if re.fullmatch(rf"(?:{_DURATION.pattern})+", text) is None:
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


def _fixed(pattern: str) -> str:
    """The folder below which all that a pattern matches lies."""
    folders = posixpath.dirname(pattern).split("/")
    fixed = []
    for folder in folders:
        if any(char in folder for char in "*?[\\"):
            break
        fixed.append(folder)
    return "/".join(fixed) or "."
