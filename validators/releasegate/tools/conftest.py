"""conftest: Rego and objects in, one answer per (namespace, object) out.

conftest is not fail-closed: a wrong namespace, a rule it ignores, a swallowed built-in error, a `conftest.toml` in its
working directory each end in exit code 0 with nothing judged. So it runs in a private folder with a config of ours,
shows built-in errors, gets an allow-list of OPA's functions (capabilities.json beside this file, made by
scripts/rego_capabilities.py: no network, no environment, no files, no clock), and `judge` believes an output only when
it holds every pair that was asked for exactly once.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from releasegate import process
from releasegate.tools import store

LIMITS = process.Limits(seconds=60, output_bytes=64 << 20, memory_bytes=4 << 30)
REMEDY = "releasegate tools install conftest"
_MODULES, _OBJECTS = "rego", "objects"
_AT = re.compile(rf"(?:^|[\s:(\[/]){_MODULES}/(\S+?\.rego):(\d+)")
# What conftest's policy.Load complains about; anything else happened while it judged.
_LOADING = ("get compiler", "load:", "no policies", "rule is using 'if'", "invalid Rego version")
_QUERY = re.compile(r"\bdata\.[\w.]+\.(\w+)\Z")


@dataclass(frozen=True, slots=True)
class Said:
    """One thing a policy says about an object: `rule` is the Rego rule, `warning` one of its `warn` rules.

    `fields` are what an object form of the message holds beside `msg`.
    """

    message: str
    rule: str
    warning: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one namespace says about one object. `counted` is how many rules conftest counts: 0 judged nothing."""

    said: tuple[Said, ...]
    exceptions: int
    counted: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The Rego is at fault: it does not load or compile, or a built-in function failed while it ran.

    `path` and `line` are of the module as it was given. `loading` tells the first from the second.
    """

    message: str
    loading: bool
    path: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer that can be believed: not started, a deadline, a crash, output that is not conftest's."""

    reason: str
    remedy: str


Answers = Mapping[tuple[str, str], Answer]


def argv(namespaces: Sequence[str], *, policy: str, capabilities: str, config: str, objects: str) -> list[str]:
    """Return the arguments after `conftest`. Flags beat both config file and environment, which hold nothing anyway."""
    arguments = ["test", objects, "--config-file", config, "--policy", policy, "--capabilities", capabilities]
    for namespace in namespaces:
        arguments += ["--namespace", namespace]
    return [
        *arguments,
        "--no-fail=false",
        "--fail-on-warn=false",
        "--combine=false",
        "--suppress-exceptions=false",
        "--show-builtin-errors",
        "--rego-version=v1",
        "--parser=json",
        "--output=json",
        "--no-color",
    ]


def capabilities() -> bytes:
    """Return the functions that policies may call, as OPA's capabilities file."""
    return resources.files(__package__).joinpath("capabilities.json").read_bytes()


def judge(
    tool: store.Tool,
    modules: Mapping[str, str],
    namespaces: Sequence[str],
    objects: Mapping[str, bytes],
    *,
    limits: process.Limits = LIMITS,
    cancel: process.Cancel | None = None,
) -> Answers | Refused | Unavailable:
    """Judge every object (name -> JSON) in every namespace by the Rego `modules` (path ending in .rego -> text).

    Promises: an answer for each (namespace, name) pair, or no answers at all.
    """
    with _folder(modules) as folder:
        for name, content in objects.items():
            file = folder / _OBJECTS / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        arguments = argv(
            namespaces, policy=_MODULES, capabilities="capabilities.json", config="conftest.toml", objects=_OBJECTS
        )
        said = process.run([str(tool.path), *arguments], cwd=folder, limits=limits, cancel=cancel)
    if not isinstance(said, process.Completed):
        return _unavailable(said)
    complaint = _complaint(said)
    if complaint is not None:
        return complaint
    wanted = {(namespace, f"{_OBJECTS}/{name}.json"): (namespace, name) for namespace in namespaces for name in objects}
    return _answers(said, wanted)


@dataclass(frozen=True, slots=True)
class Verified:
    """What `conftest verify` counted over the `test_` rules: names of those that passed and that failed."""

    passed: int
    failures: tuple[str, ...]


def verify(tool: store.Tool, modules: Mapping[str, str]) -> Verified | Refused | Unavailable:
    """Run the `test_` rules of the modules (strict mode: an unused variable is an error)."""
    with _folder(modules) as folder:
        said = process.run(
            [
                *(str(tool.path), "verify", "--config-file", "conftest.toml", "--policy", _MODULES, "--strict"),
                *("--capabilities", "capabilities.json", "--show-builtin-errors", "--rego-version=v1"),
                *("--output=json", "--no-color"),
            ],
            cwd=folder,
            limits=LIMITS,
        )
    if not isinstance(said, process.Completed):
        return _unavailable(said)
    complaint = _complaint(said)
    if complaint is not None:
        return complaint
    try:
        rows = json.loads(said.stdout) or []
        passed = sum(row["successes"] for row in rows)
        failures = tuple(one["msg"] for row in rows for one in row.get("failures", ()))
    except (ValueError, TypeError, KeyError, AttributeError):
        return _garbage(said)
    return Verified(passed, failures)


@contextlib.contextmanager
def _folder(modules: Mapping[str, str]) -> Iterator[Path]:
    """A private working directory with the Rego, an empty config and the capabilities."""
    with tempfile.TemporaryDirectory(prefix="releasegate-conftest-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "conftest.toml").write_bytes(b"")
        (folder / "capabilities.json").write_bytes(capabilities())
        for path, text in modules.items():
            file = folder / _MODULES / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        yield folder


def _unavailable(said: process.NotStarted | process.Stopped) -> Unavailable:
    if isinstance(said, process.NotStarted):
        return Unavailable(f"conftest cannot be started: {said.reason}", REMEDY)
    return Unavailable(f"conftest {said.reason}", "look for endless loops or huge sets in the policy")


def _complaint(said: process.Completed) -> Refused | Unavailable | None:
    """Findings make it end with 1, too: what tells an error is that it says so and prints no JSON."""
    if said.stdout.strip():
        return None
    text = said.stderr.decode("utf-8", errors="replace")
    _, found, message = text.partition("Error: ")
    if not found or said.returncode != 1:
        return _garbage(said)
    message = re.sub(r"^(?:running (?:test|verification): )?(?:load: )?(?:loading policies: )?", "", message).strip()
    loading = message.startswith(_LOADING)
    place = _AT.search(text)
    message = " ".join(message.replace(f"{_MODULES}/", "").split())
    message = re.sub(r": \d+ errors? occurred(?: during loading)?: ", ": ", message)
    failed = re.search(r"built-in error: .*?Message:([\w.]+):", message)
    if failed is not None:  # what follows quotes its arguments, which may be those of a Secret
        message = f"the built-in function {failed[1]} failed on its arguments"
    # "get compiler: a/b.rego:5: rego_type_error: undefined function http.send": the place is told by itself
    message = re.sub(r"^(?:(?:run test|get compiler|load|query rule|check): )+", "", message)
    return Refused(
        re.sub(r"^\S+\.rego:\d+: (?:rego_\w+_error: )?", "", message),
        loading=loading,
        path=place[1] if place else None,
        line=int(place[2]) if place else None,
    )


def _garbage(said: process.Completed) -> Unavailable:
    lines = [line for line in said.stderr.decode(errors="replace").splitlines() if line.strip()]
    last = f": {lines[-1][:200]}" if lines else ""
    return Unavailable(f"conftest ended with exit code {said.returncode} and printed no result{last}", REMEDY)


def _answers(said: process.Completed, wanted: Mapping[tuple[str, str], tuple[str, str]]) -> Answers | Unavailable:
    answers: dict[tuple[str, str], Answer] = {}
    try:
        for row in json.loads(said.stdout) or []:
            pair = wanted[row["namespace"], row["filename"]]
            if pair in answers or "skipped" in row:
                return Unavailable(f"conftest answered twice for {pair[1]} in {pair[0]}", REMEDY)
            answers[pair] = _answer(row)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Unavailable(f"conftest ended with exit code {said.returncode} and printed something else", REMEDY)
    if len(answers) != len(wanted):
        return Unavailable(f"conftest answered for {len(answers)} of {len(wanted)} (policy, object) pairs", REMEDY)
    failed = any(not one.warning for answer in answers.values() for one in answer.said)
    if said.returncode != int(failed):
        return Unavailable(f"conftest ended with exit code {said.returncode}, which is not what it printed", REMEDY)
    return answers


def _answer(row: Mapping[str, Any]) -> Answer:
    said = [_said(one, warning=False) for one in row.get("failures") or ()]
    said += [_said(one, warning=True) for one in row.get("warnings") or ()]
    exceptions = len(row.get("exceptions") or ())
    successes = row["successes"]
    if not isinstance(successes, int) or successes < 0:
        raise TypeError(successes)
    # The set that Rego hands over has no order of its own.
    ordered = tuple(sorted(said, key=lambda one: (one.rule, one.message, str(one.fields.get("pointer", "")))))
    return Answer(ordered, exceptions, successes + len(said) + exceptions)


def _said(one: Mapping[str, Any], *, warning: bool) -> Said:
    fields = dict(one.get("metadata") or {})
    query = _QUERY.search(str(fields.pop("query", "")))
    message = one["msg"]
    if not isinstance(message, str) or query is None:
        raise TypeError(one)
    return Said(message, query[1], warning, fields)
