"""GitHub Actions workflows as GitHub reads them, and the one command of a step.

Sources: docs.github.com "Workflow syntax for GitHub Actions" and "Troubleshooting required status checks"; actions/runner
for what its reader refuses (a key twice, a second document). `on` is a key, not the boolean that YAML 1.1 makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from releasegate import yamlio

FOLDER = ".github/workflows"
_MERGE_KEY = re.compile(r"^[ \t-]*<<[ \t]*:[ \t]*\[?[ \t]*\*", re.MULTILINE)
_ON = ("on", "true")  # yamlio reads as Kubernetes does, where a plain `on` is true


@dataclass(frozen=True, slots=True)
class Broken:
    """A workflow file that GitHub refuses: it runs none of its jobs. `empty`: somebody switched it off, it seems."""

    path: str
    message: str
    help: str
    line: int | None = None
    column: int | None = None
    empty: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a job; `at` is its place in the workflow for `Workflow.line`."""

    body: Mapping[str, Any]
    at: tuple[str, ...]

    @property
    def run(self) -> str | None:
        """Its commands, None for an action."""
        value = self.body.get("run")
        return value if isinstance(value, str) else None

    @property
    def uses(self) -> str | None:
        """Its action, None for commands."""
        value = self.body.get("uses")
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One job. `uses` names the reusable workflow that it calls; then it has no steps."""

    id: str
    body: Mapping[str, Any]
    steps: tuple[Step, ...]

    @property
    def at(self) -> tuple[str, ...]:
        """Its place in the workflow."""
        return ("jobs", self.id)

    @property
    def context(self) -> str:
        """The name of its check: what branch protection requires."""
        name = self.body.get("name")
        return name if isinstance(name, str) else self.id

    @property
    def needs(self) -> tuple[str, ...]:
        """The ids of the jobs it waits for."""
        value = self.body.get("needs")
        found = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        return tuple(one for one in found if isinstance(one, str))

    @property
    def uses(self) -> str | None:
        """The reusable workflow it calls."""
        value = self.body.get("uses")
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, eq=False)
class Workflow:
    """A workflow that GitHub can read. `triggers` are its events, each with its filters ({} without)."""

    path: str
    body: Mapping[str, Any]
    triggers: Mapping[str, Mapping[str, Any]]
    jobs: tuple[Job, ...]
    positions: yamlio.Positions = field(repr=False)

    def line(self, *at: str) -> int | None:
        """Return the line of a key (or of an item of a list), else that of the nearest thing around it."""
        for end in range(len(at), 0, -1):
            for first in _ON if at[0] == "on" else (at[0],):
                pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in (first, *at[1:end]))
                mark = self.positions.key(pointer) or self.positions.value(pointer)
                if mark is not None:
                    return mark.line
        return None


def read(path: str, text: str) -> Workflow | Broken:
    """Read the text of a workflow file; never raises."""
    try:
        documents = yamlio.documents(text)
        positions = yamlio.positions(text)
    except yamlio.YamlError as error:
        return Broken(path, f"not YAML: {error.message}", "mend the YAML at this line", error.line, error.column)
    if not documents:
        return Broken(path, "it holds nothing", "write a workflow, or remove the file", empty=True)
    if (refused := _refused(path, text, documents)) is not None:
        return refused
    first = documents[0]
    body = first.value
    if not isinstance(body, Mapping):
        return Broken(path, "it is no mapping", "write `on:` and `jobs:`", first.line)
    if not any(key in body for key in _ON):
        return Broken(path, "it has no `on`: no event starts it", "write `on:` with its events", first.line)
    jobs = body.get("jobs")
    if not isinstance(jobs, Mapping) or not jobs:
        return Broken(path, "it has no jobs", "write `jobs:`", first.line)
    if wrong := next((name for name, job in jobs.items() if not isinstance(job, Mapping)), None):
        mark = positions.key(f"/jobs/{wrong}")
        where = None if mark is None else mark.line
        return Broken(path, f"job {wrong} is no mapping", "write `runs-on:` and `steps:` below it", where)
    made = tuple(Job(name, job, tuple(_steps(name, job))) for name, job in jobs.items())
    return Workflow(path, body, _triggers(next(body[key] for key in _ON if key in body)), made, positions)


def _refused(path: str, text: str, documents: Sequence[yamlio.Document]) -> Broken | None:
    """What is YAML, and yet GitHub's reader refuses it."""
    if merged := _MERGE_KEY.search(text):  # docs.github.com: anchors and aliases, no merge keys
        line = text.count("\n", 0, merged.end()) + 1
        return Broken(path, "`<<` merges a mapping, and GitHub reads no merge keys", "write the keys out", line)
    first = documents[0]
    if len(documents) > 1:
        return Broken(path, "a second document begins here", "keep one workflow in a file", documents[1].line)
    for line, message in first.problems:
        if message.startswith("duplicate key"):
            return Broken(path, message, "keep one of the two", first.line + line - 1)
    return None


def composite(path: str, text: str) -> Workflow | None:
    """Read the metadata of a composite action as a workflow of one job, `runs`; None where it is none that can be read."""
    try:
        documents, positions = yamlio.documents(text), yamlio.positions(text)
    except yamlio.YamlError:
        return None
    body = documents[0].value if documents else None
    runs = body.get("runs") if isinstance(body, Mapping) else None
    if not isinstance(runs, Mapping) or runs.get("using") != "composite":
        return None
    steps = (Step(step.body, ("runs", *step.at[2:])) for step in _steps("runs", runs))
    return Workflow(path, {}, {}, (Job("runs", runs, tuple(steps)),), positions)


def _steps(job: str, body: Mapping[str, Any]) -> Iterator[Step]:
    steps = body.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        if isinstance(step, Mapping):
            yield Step(step, ("jobs", job, "steps", str(index)))


def _triggers(on: Any) -> dict[str, Mapping[str, Any]]:
    if isinstance(on, str):
        return {on: {}}
    if isinstance(on, list):
        return {one: {} for one in on if isinstance(one, str)}
    if isinstance(on, Mapping):
        return {name: value if isinstance(value, Mapping) else {} for name, value in on.items()}
    return {}


def strings(value: Any) -> Iterator[str]:
    """Yield every string in a value, keys aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


# --- the one command of a step --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """The use of releasegate in a step's script.

    Where it is the script's one command, `arguments` are its words, without quotes, with the expressions in them. Else
    `fault` is a sentence that says how its exit code is lost, or `unclear` says that nothing is known.
    """

    subcommand: str
    arguments: tuple[str, ...] = ()
    fault: str | None = None
    unclear: str | None = None


# An allow-list: a word of other characters is not read. Expressions without strings, braces and calls of functions.
_PLAIN = r"[\w./:=@%+,*-]"
_VALUE = r"\$(?:\w++|\{\w+\}|\{\{[\w.| \t-]*\}\})"
_WORD = re.compile(rf"""(?:{_PLAIN}|{_VALUE}|"(?:{_PLAIN}|[ ]|{_VALUE})*"|'(?:{_PLAIN}|[ ])*')+""", re.ASCII)
_MENTION = re.compile(r"^(?!\s*(?:echo|printf)\s).*?\breleasegate\b[^\s]*\s+(?:-\S+\s+)*(check|report)\b", re.MULTILINE)
_STRICT = re.compile(r"set (?:-[eux]+(?:o pipefail)?|-o pipefail|-o errexit)")
_COMMENT = re.compile(r"(?:^|(?<=\s))#[^'\"]*$")
_OPAQUE = re.compile(r"""\$\{\{.*?\}\}|"[^"]*"|'[^']*'""")
_LOST = (
    (r"(\|\| *(?:true|:|exit|exit 0|echo\b[^;&|]*))$", "`{}` behind it throws its exit code away"),
    (r"[^&](&)$", "`{}` behind it: nobody waits for its exit code"),
)
_PIPE = re.compile(r"[^|]\| *([^|;&]+)$")
_MAX_SCRIPT = 20_000  # characters: a step that is longer is a program, not a call of one


def command(script: str, shell: str | None = None) -> Command | None:
    """Return the use of `releasegate check` or `report` in a step's script, None without one.

    Read is a script of exactly one simple command, behind nothing but `set -e` and the like; comments, blank lines and
    continued lines are as the shell has them. `shell` is the step's: `bash` sets pipefail (GitHub's default does not).
    """
    if len(script) > _MAX_SCRIPT:
        return Command("check", unclear="it is very long") if "releasegate" in script else None
    lines = _lines(script)
    mention = _MENTION.search("\n".join(lines))
    if mention is None:
        return None
    rest = list(lines)
    while rest and _STRICT.fullmatch(rest[0]):
        rest.pop(0)
    words = _words(rest[0]) if len(rest) == 1 else None
    if words is not None and words[0] == "releasegate" and words[1:2] == (mention[1],):
        return Command(mention[1], words[2:])
    pipefail = shell == "bash" or any("pipefail" in one for one in lines)
    unclear = "its script cannot be read as the one command"
    return Command(mention[1], fault=(fault := _lost(lines, pipefail=pipefail)), unclear=None if fault else unclear)


def _lines(script: str) -> list[str]:
    """The script's lines without comments and blank ones, continued ones joined."""
    found: list[str] = []
    continued = False
    for line in script.split("\n"):
        text = _COMMENT.sub("", line).strip(" \t")
        if continued:
            found[-1] += " " + text.removesuffix("\\")
        elif text:
            found.append(text.removesuffix("\\"))
        continued = text.endswith("\\")
    return [one.strip(" \t") for one in found if one.strip(" \t")]


def _words(line: str) -> tuple[str, ...] | None:
    """The words of a simple command; None where one holds anything else."""
    found: list[str] = []
    at = 0
    while at < len(line):
        match = _WORD.match(line, at)
        if match is None or (match.end() < len(line) and line[match.end()] not in " \t"):
            return None
        found.append(match[0].replace('"', "").replace("'", ""))
        at = match.end()
        while at < len(line) and line[at] in " \t":
            at += 1
    return tuple(found)


def _lost(lines: Sequence[str], *, pipefail: bool) -> str | None:
    """Say how the exit code of a check is lost, for the ways that are seen most."""
    for index, line in enumerate(lines):
        if not line.startswith("releasegate check"):
            continue
        bare = _OPAQUE.sub("_", line)
        for pattern, said in _LOST:
            if found := re.search(pattern, bare):
                return said.format(found[1])
        if (piped := _PIPE.search(bare)) and not pipefail:
            return f"the pipe into `{piped[1].strip()}` throws its exit code away"
        if "set +e" in lines[:index] and index + 1 < len(lines):
            return "`set +e` in front of it, and it is not the last command"
    return None
