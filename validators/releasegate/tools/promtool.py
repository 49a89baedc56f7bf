"""promtool: rule files, configs and unit tests in, what it says about each of them out.

It gets copies in a private folder and reads nothing else. It is not believed on its word: it says SUCCESS for a file
with no rules, prints FAILED and ends with 0, and warns about a second document that it skips. So each call carries
files that it must refuse, each file must be named in its output, and the caller compares the count of rules.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from releasegate import process
from releasegate.tools import store

_BROKEN = "canary-broken"
_TWICE = "canary-twice"
_BROKEN_RULES = 'groups: [{name: canary, rules: [{alert: Canary, expr: "up ==", annotations: {a: "{{ $canary }}"}}]}]\n'
_TWICE_RULES = "groups: [{name: canary, rules: [{record: canary, expr: up}, {record: canary, expr: up}]}]\n"
_BROKEN_CONFIG = "scrape_configs: [{job_name: canary, scrape_intervall: 1m}]\n"
_BROKEN_TEST = """\
rule_files: []
tests:
  - name: canary
    promql_expr_test: [{expr: vector(1), eval_time: 0, exp_samples: [{labels: "{}", value: 2}]}]
"""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """It could not be tried, or what came back is not an answer. `remedy` says what to do about it."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint about a file, without the file's name.

    `line` and `column` are those of the file, where promtool gives them. `group` and `rule` (from 1) name the rule,
    where it is about one; `name` is its alert or record.
    """

    message: str
    line: int | None = None
    column: int | None = None
    group: str | None = None
    rule: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What `check rules` says of one file.

    `rules` is how many rules it found; None where it stopped before it counted, and then there is a problem, or
    `repeated` is true: its linter found duplicates in it.
    """

    rules: int | None
    problems: tuple[Problem, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class TestFile:
    """What `test rules` says of one file: how many test groups ran, what failed in which (index -> text).

    `problems` are failures before any test ran: the file or its rule files cannot be read.
    """

    groups: int
    failures: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


# --- check rules --------------------------------------------------------------------------------------------------


def check_rules(tool: store.Tool, texts: Sequence[str], *, seconds: float = 60) -> list[RuleFile] | Unavailable:
    """Check rule files with `--lint=all --lint-fatal`; the answers are in the order of the texts.

    Unavailable when promtool ended otherwise than it does for refused files, did not refuse its canaries, or did not
    account for each file.
    """
    names = {f"{number:06}.yaml": text for number, text in enumerate(texts)}
    canaries = {f"{_BROKEN}.yaml": _BROKEN_RULES, f"{_TWICE}.yaml": _TWICE_RULES}
    arguments = ["check", "rules", "--lint=all", "--lint-fatal"]
    with tempfile.TemporaryDirectory(prefix="releasegate-promtool-", ignore_cleanup_errors=True) as folder:
        said = _run(tool, arguments, {**names, **canaries}, Path(folder), seconds)
    if isinstance(said, Unavailable):
        return said
    read = _read_rules(said, list(names))
    return read if isinstance(read, list) else Unavailable(read, _by_hand(arguments))


_CHECKING = re.compile(r"^Checking (\S+)\n(?:  SUCCESS: (\d+) rules found\n)?", re.MULTILINE)
_FAILED = "  FAILED:\n"
_LINT = "lint error "
_LOG = re.compile(r"^(?:time|level|ts)=.*\n", re.MULTILINE)
_PLACE = re.compile(r"(?:(\d+):(\d+): )?(?:\d+:\d+: )?")
_RULE = re.compile(r'group ("(?:[^"\\]|\\.)*"), rule (\d+), ("(?:[^"\\]|\\.)*"): ', re.DOTALL)
_YAML_LINE = re.compile(r"line (\d+): ")


def _read_rules(said: process.Completed, names: Sequence[str]) -> list[RuleFile] | str:
    """Read both streams of `check rules`; a sentence that says why they are no answer, else an answer per file."""
    if said.returncode != 1:  # there are canaries that do not parse
        return f"promtool ended with exit code {said.returncode} where it must refuse a rule ({_end_of(said)})"
    canaries = (f"{_BROKEN}.yaml", f"{_TWICE}.yaml")
    checked = {found[1]: found[2] for found in _CHECKING.finditer(said.stdout.decode(errors="replace"))}
    if list(checked) != [*names, *canaries]:
        return f"promtool did not say that it checked each of {len(names)} files ({_end_of(said)})"
    problems, repeats = _complaints(_LOG.sub("", said.stderr.decode(errors="replace")), [*names, *canaries])
    if checked[canaries[0]] or checked[canaries[1]] or not problems.get(canaries[0]) or problems.get(canaries[1]):
        return "promtool accepted a rule that does not parse, or two that are equal: its answer is void"
    answers = {
        name: RuleFile(
            rules=int(checked[name]) if checked[name] else None,
            problems=tuple(problems.get(name, ())),
            repeated=not checked[name] and not problems.get(name),
        )
        for name in names
    }
    # The linter names no file: a file without count and without problem is one in which it found something.
    if repeats != 1 + sum(one.repeated for one in answers.values()):
        return f"promtool did not say of each file whether it is right ({_end_of(said)})"
    if any(one.problems and one.rules is not None for one in answers.values()):
        return f"promtool both accepts and refuses a file ({_end_of(said)})"
    return list(answers.values())


def _complaints(stderr: str, names: Sequence[str]) -> tuple[dict[str, list[Problem]], int]:
    """The problems by file, and how many files the linter complained about."""
    known = set(names)
    found: dict[str, list[Problem]] = {}
    repeats = 0
    message: list[str] = []
    about: str | None = None

    def end() -> None:
        if about is not None:
            found.setdefault(about, []).extend(_problems("\n".join(message).rstrip()))

    for line in stderr.split("\n"):
        name, colon, rest = line.partition(": ")
        if line == _FAILED.rstrip():
            end()
            about = None
        elif colon and name in known:
            end()
            about, message = name, [rest]
        elif line.startswith(_LINT):
            end()
            about, repeats = None, repeats + 1
        elif about is not None:
            message.append(line)
    end()
    return found, repeats


def _problems(text: str) -> Iterator[Problem]:
    """One complaint of rulefmt.Error, or of the YAML decoder, which puts several into one."""
    first, *lines = text.split("\n")
    if first == "yaml: unmarshal errors:" and lines:
        for one in lines:
            at = _YAML_LINE.match(one.strip())
            yield Problem(one.strip()[at.end() :] if at else one.strip(), int(at[1]) if at else None)
        return
    at = _YAML_LINE.match(text.removeprefix("yaml: "))
    if at is not None:
        yield Problem(f"yaml: {text.removeprefix('yaml: ')[at.end() :]}", int(at[1]))
        return
    place = _PLACE.match(text)
    rest = text[place.end() :] if place else text
    # 0:0 is what it says of a group of which it only knows the position in the list.
    line, column = (int(place[1]), int(place[2])) if place and place[1] and int(place[1]) else (None, None)
    rule = _RULE.match(rest)
    if rule is None:
        yield Problem(rest, line, column)
    else:
        yield Problem(rest[rule.end() :], line, column, unquoted(rule[1]), int(rule[2]), unquoted(rule[3]))


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)


def unquoted(text: str) -> str:
    """Undo Go's %q."""

    def plain(found: re.Match[str]) -> str:
        number = found[1] or found[2] or found[3]
        return chr(int(number, 16)) if number else _ESCAPES.get(found[4], found[4])

    return _ESCAPED.sub(plain, text[1:-1])


# --- check config -------------------------------------------------------------------------------------------------


def check_config(
    tool: store.Tool, texts: Sequence[str], *, seconds: float = 60
) -> list[tuple[Problem, ...]] | Unavailable:
    """Check prometheus.yml files with `--syntax-only`: what they point at is on another machine.

    The answers are in the order of the texts. promtool stops at the first problem of a file.
    """
    names = {f"{number:06}.yaml": text for number, text in enumerate(texts)}
    arguments = ["check", "config", "--syntax-only", "--lint=none"]
    with tempfile.TemporaryDirectory(prefix="releasegate-promtool-", ignore_cleanup_errors=True) as folder:
        said = _run(tool, arguments, {**names, f"{_BROKEN}.yaml": _BROKEN_CONFIG}, Path(folder), seconds)
    if isinstance(said, Unavailable):
        return said
    read = _read_configs(said, list(names))
    return read if isinstance(read, list) else Unavailable(read, _by_hand(arguments))


_CONFIG = re.compile(r"^Checking (\S+)\n(?: SUCCESS: \1 is valid prometheus config file syntax\n)?", re.MULTILINE)
_PARSING = re.compile(r"^  FAILED: (?:parsing YAML file (\S+): )?", re.MULTILINE)


def _read_configs(said: process.Completed, names: Sequence[str]) -> list[tuple[Problem, ...]] | str:
    if said.returncode != 1:
        return f"promtool ended with exit code {said.returncode} where it must refuse a config ({_end_of(said)})"
    stdout = said.stdout.decode(errors="replace")
    accepted = {found[1]: "SUCCESS" in found[0] for found in _CONFIG.finditer(stdout)}
    if list(accepted) != [*names, f"{_BROKEN}.yaml"]:
        return f"promtool did not say that it checked each of {len(names)} files ({_end_of(said)})"
    if accepted[f"{_BROKEN}.yaml"]:
        return "promtool accepted a config with a field that does not exist: its answer is void"
    stderr = _LOG.sub("", said.stderr.decode(errors="replace"))
    starts = list(_PARSING.finditer(stderr))
    ends = [*(one.start() for one in starts[1:]), len(stderr)]
    refused = [name for name, good in accepted.items() if not good]
    # It stops at the first problem of a file, so that the complaints come in the order of the refused files.
    if len(starts) != len(refused) or any(
        one[1] not in (None, name) for one, name in zip(starts, refused, strict=True)
    ):
        return f"promtool did not say of each file what is wrong with it ({_end_of(said)})"
    told = {
        name: tuple(_problems(stderr[one.end() : end].rstrip()))
        for name, one, end in zip(refused, starts, ends, strict=True)
    }
    return [told.get(name, ()) for name in names]


# --- test rules ---------------------------------------------------------------------------------------------------


def run_tests(
    tool: store.Tool,
    path: str,
    files: Mapping[str, str],
    *,
    seconds: float = 60,
    cancel: process.Cancel | None = None,
) -> TestFile | Unavailable:
    """Run the unit tests of the file `path`; `files` are it and its rule files, by path relative to one folder.

    Each path must stay in that folder (ValueError otherwise): promtool opens what a test names.
    """
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"leaves the folder: {name!r}")
    arguments = ["test", "rules", "--junit=../junit.xml"]
    with tempfile.TemporaryDirectory(prefix="releasegate-promtool-", ignore_cleanup_errors=True) as outer:
        folder = Path(outer) / "tree"
        folder.mkdir()
        # "./": a file may be called --run=nothing.yaml. The canary is where no file of the tree is.
        said = _run(
            tool,
            arguments,
            {**files, _TEST_CANARY: _BROKEN_TEST},
            folder,
            seconds,
            names=[f"./{path}", _TEST_CANARY],
            cancel=cancel,
        )
        if isinstance(said, Unavailable):
            return said
        try:
            junit = (Path(outer) / "junit.xml").read_bytes()
        except OSError:
            junit = b""
    read = _read_tests(said, junit, f"./{path}")
    return read if isinstance(read, TestFile) else Unavailable(read, _by_hand([*arguments[:2], path]))


_TEST_CANARY = f"../{_BROKEN}.yaml"


def _read_tests(said: process.Completed, junit: bytes, path: str) -> TestFile | str:
    if said.returncode != 1:
        return f"promtool ended with exit code {said.returncode} where a test must fail ({_end_of(said)})"
    try:
        suites = list(ET.fromstring(junit))  # noqa: S314 -- Go's encoder wrote it: no entities, no DTD
    except ET.ParseError:
        return f"promtool wrote no report of its tests ({_end_of(said)})"
    if [suite.get("name") for suite in suites] != [path, _TEST_CANARY]:
        return f"promtool did not report on each test file ({_end_of(said)})"
    answers = [_suite(suite) for suite in suites]
    if not answers[1].failures:
        return "promtool passed a test that must fail: its answer is void"
    outcome = re.search(
        rf"^Processing test file: {re.escape(path)}\n(  SUCCESS\n)?", said.stdout.decode(errors="replace"), re.MULTILINE
    )
    clean = not answers[0].failures and not answers[0].problems
    if outcome is None or (outcome[1] is not None) != clean:
        return f"promtool says one thing and reports another ({_end_of(said)})"
    return answers[0]


def _suite(suite: ET.Element) -> TestFile:
    cases = suite.findall("testcase")
    failures = {
        number: tuple((one.text or one.get("message") or "").strip("\n") for one in case.findall("failure"))
        for number, case in enumerate(cases)
        if case.find("failure") is not None
    }
    # util/junitxml TestSuite.Abort: what could not be read at all is the error of a case of its own.
    errors = tuple((one.text or "").strip() for case in cases for one in case.findall("error"))
    return TestFile(len(cases) - len(errors), failures, errors)


# --- the program --------------------------------------------------------------------------------------------------


def _run(
    tool: store.Tool,
    arguments: Sequence[str],
    files: Mapping[str, str],
    folder: Path,
    seconds: float,
    *,
    names: Sequence[str] | None = None,
    cancel: process.Cancel | None = None,
) -> process.Completed | Unavailable:
    """Run it in `folder`, which holds the files and nothing else."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    limits = process.Limits(seconds=_seconds(seconds), output_bytes=64 << 20, memory_bytes=8 << 30)
    said = process.run([str(tool.path), *arguments, *(names or files)], cwd=folder, limits=limits, cancel=cancel)
    if isinstance(said, process.Completed):
        return said
    return Unavailable(f"promtool {said.reason}", _by_hand(arguments))


def _seconds(usual: float) -> float:
    """How long a call may take: RELEASEGATE_TOOL_SECONDS, else what is usual for it."""
    given = os.environ.get("RELEASEGATE_TOOL_SECONDS", "")
    return float(given) if re.fullmatch(r"\d{1,6}(\.\d+)?", given) else usual


def _by_hand(arguments: Sequence[str]) -> str:
    return f"`promtool {' '.join(arguments)}` on the same files says more; `releasegate tools install promtool` has the locked one"


def _end_of(said: process.Completed) -> str:
    lines = (said.stderr or said.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else "it printed nothing"
