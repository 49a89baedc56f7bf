"""GitHub Actions workflows as GitHub reads them, and what the shell makes of a step's commands.

Sources: docs.github.com "Workflow syntax for GitHub Actions" and "Troubleshooting required status checks"; actions/runner
for what its reader refuses (a key twice, a second document). `on` is a key, not the boolean that YAML 1.1 makes of it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from releasegate import yamlio

FOLDER = ".github/workflows"
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
    first = documents[0]
    if len(documents) > 1:
        return Broken(path, "a second document begins here", "keep one workflow in a file", documents[1].line)
    for line, message in first.problems:
        if message.startswith("duplicate key"):
            return Broken(path, message, "keep one of the two", first.line + line - 1)
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


# --- what a step's commands do --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """One `releasegate SUBCOMMAND …` in a script: its `arguments`, and what makes its exit code not count.

    `faults` are sentences ("`|| true` behind it throws its exit code away"); `unclear` says why nothing can be said.
    """

    subcommand: str
    arguments: tuple[str, ...]
    faults: tuple[str, ...] = ()
    unclear: str | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """One simple command: the operator in front of it, its words, the operator behind it."""

    before: str
    words: tuple[str, ...]
    after: str


_REDIRECTION = re.compile(r"\d?[<>]&\d|(?:&|\d)?>>?\s*(?:\"[^\"]*\"|'[^']*'|[^\s|&;()<>\"']+)")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_OPENING = {"if", "for", "while", "until", "case", "{", "select", "function"}
_CLOSING = {"fi", "done", "esac", "}"}
_TESTING = {"if", "elif", "while", "until", "!"}
_SILENT = {"echo", "printf", "cat", "grep", "true", ":", "export", "which"}
_NOTHING = {"true", ":"}
_MAX_SCRIPT = 20_000  # characters: a step that is longer is a program, not a call of one
_MAX_QUOTED = 100  # lines of one quoted word


def commands(script: str, shell: str | None = None) -> list[Command]:
    """Return every use of releasegate in a step's script, read as the step's shell does (None: GitHub's default).

    GitHub runs `bash -e {0}` by default and `bash --noprofile --norc -eo pipefail {0}` for `shell: bash`.
    """
    parts = _parts(_one_word_each(script)) if len(script) <= _MAX_SCRIPT else None
    if parts is None:
        found = "releasegate" in script and re.search(r"\breleasegate\b", script)
        return [Command("check", (), unclear="its commands cannot be read as those of a shell")] if found else []
    stops, pipefail = _options(shell)
    made: list[Command] = []
    depth, ends = 0, None
    for index, part in enumerate(parts):
        words = list(part.words)
        while words and words[0] in _OPENING | _CLOSING | {"then", "else", "do", "elif", "!", "time", "exec"}:
            depth += (words[0] in _OPENING) - (words[0] in _CLOSING)
            words.pop(0)
        if words[:1] == ["set"]:
            stops, pipefail = _set(words[1:], stops=stops, pipefail=pipefail)
        if ends is None and (
            words[:2] in (["exit"], ["exit", "0"]) or (words[:1] == ["trap"] and "exit 0" in words[1:2])
        ):
            ends = " ".join(words)
        used = _releasegate(words)
        if used is None:
            continue
        faults = list(_faults(parts, index, stops=stops, pipefail=pipefail))
        if ends is not None:
            faults.append(f"`{ends}` in front of it may end the step as a success")
        nested = depth > 0 or "(" in part.before or part.words[0] in {"then", "else", "do"}
        unclear = "it stands inside a condition, a loop, a function or a subshell" if nested and not faults else None
        made.append(Command(used[0], tuple(used[1:]), tuple(faults), unclear))
    return made


def _one_word_each(script: str) -> str:
    """The script with each `${{ … }}` as one word that still names what it is about."""
    made, at = "", 0
    while (start := script.find("${{", at)) >= 0 and (end := script.find("}}", start)) >= 0:
        name = re.sub(r"[^\w.]", "_", script[start + 3 : end].strip())
        made += f"{script[at:start]}{{{{{name}}}}}"
        at = end + 2
    return made + script[at:]


def _options(shell: str | None) -> tuple[bool, bool]:
    """(the shell stops at the first error, a pipe fails with any of its commands)."""
    if shell is None or shell == "sh":
        return True, False
    if shell == "bash":
        return True, True
    flags = re.findall(r"(?:^|\s)-([A-Za-z]+)", shell)
    return any("e" in one for one in flags), "pipefail" in shell


def _set(words: Sequence[str], *, stops: bool, pipefail: bool) -> tuple[bool, bool]:
    text = " ".join(words)
    if re.search(r"(^|\s)-[a-z]*e|-o errexit", text):
        stops = True
    if re.search(r"(^|\s)\+[a-z]*e|\+o errexit", text):
        stops = False
    if "pipefail" in words:
        pipefail = not any(one.startswith("+") for one in words)
    return stops, pipefail


def _releasegate(words: Sequence[str]) -> list[str] | None:
    """The words behind `releasegate`, where it is what the command starts (itself, or through python -m, uvx, timeout)."""
    if not words or words[0] in _SILENT:
        return None
    for index, word in enumerate(words):
        name = re.split(r"[=@<>~]", word.rsplit("/", 1)[-1])[0]
        if name == "releasegate" and words[index + 1 : index + 2] and words[index + 1][0].isalpha():
            return list(words[index + 1 :])
    return None


def _faults(parts: Sequence[_Part], index: int, *, stops: bool, pipefail: bool) -> Iterator[str]:
    part = parts[index]
    following = parts[index + 1].words if index + 1 < len(parts) else ()
    last = not any(one.words for one in parts[index + 1 :])
    tested = next((word for word in part.words[:2] if word in _TESTING), None)
    if tested is not None:
        yield f"`{tested}` in front of it: the shell goes on when it fails"
    if part.before == "||":
        yield "`||` in front of it: it runs only when something else fails"
    if part.after == "||" and not _fails(parts[index + 1 :]):
        yield f"`|| {' '.join(following)}` behind it throws its exit code away"
    if part.after in {"|", "|&"} and not pipefail:
        yield f"the pipe into `{' '.join(following)}` throws its exit code away (`shell: bash` would keep it)"
    if part.after == "&":
        yield "`&` behind it: nobody waits for its exit code"
    if part.after == ";" and ((following[:1] and following[0] in _NOTHING) or following in (("exit",), ("exit", "0"))):
        yield f"`; {' '.join(following)}` behind it"
    if "&&" in (part.before, part.after) and not all(one.before == "&&" for one in parts[index + 1 :]):
        yield "`&&` beside it: the shell goes on when it fails, or when what stands in front of it does"
    if not stops and not last:
        yield "the shell does not stop at errors (`set +e`, or a `shell:` without `-e`), and it is not the last command"


def _fails(parts: Sequence[_Part]) -> bool:
    """Whether what stands behind `||` ends the step as failed: `exit 1`, alone or at the end of `{ …; }`."""
    for part in parts:
        words = part.words[1:] if part.words[0] == "{" else part.words
        if words[:1] == ("exit",):
            return words[1:2] not in ((), ("0",))
        if parts[0].words[0] != "{" or words[:1] == ("}",):
            return False
    return False


def _parts(script: str) -> list[_Part] | None:
    """Split a script into simple commands; None for what cannot be read."""
    found: list[_Part] = []
    lines = script.split("\n")
    at = 0
    while at < len(lines):
        text = lines[at]
        at += 1
        began = at
        tokens = _tokens(text)
        while tokens is None or text.endswith("\\"):
            if at >= len(lines) or at - began > _MAX_QUOTED:
                return None
            text = (text[:-1] if text.endswith("\\") else text + "\n") + lines[at]
            at += 1
            tokens = _tokens(text)
        for mark in _HEREDOC.finditer(text):  # data, not commands
            while at < len(lines) and lines[at].strip() != mark[2]:
                at += 1
            at += 1
        found += _split(tokens)
    return found


def _tokens(text: str) -> list[str] | None:
    """The words and operators of a line; None where a quote is left open."""
    if re.match(r"\s*#", text):
        return []
    bare = re.sub(r"""(?<=\s)#[^'"]*$""", "", text)  # a comment behind a command
    lexer = shlex.shlex(_REDIRECTION.sub(" ", bare), posix=True, punctuation_chars="();|&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:
        return None


def _split(pieces: Sequence[str]) -> Iterator[_Part]:
    before, words = "", list[str]()
    for piece in (*pieces, "\n"):
        if piece == "\n" or (piece and set(piece) <= set("();|&")):
            after = piece.strip()
            if words:
                yield _Part(before, tuple(words), after)
            before, words = after, []
        else:
            words.append(piece)
