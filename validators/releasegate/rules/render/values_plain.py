"""render/values-plain."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from releasegate import k8s, yamlio
from releasegate.model import Application, Finding, HelmSource, InlineValues, Kind, Place, Scope, Unjudged, Unrendered
from releasegate.rules import Evidence, rule

MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """One text of values that helm is given: a file of the tree (`path`), or what stands inside an Application."""

    path: str | None = None
    defaults: bool = False  # the chart's own values.yaml
    inline: InlineValues | None = None


def values(evidence: Evidence) -> Sequence[Values]:
    """Every values file and inline text of the release, the charts' own values.yaml first.

    Files that are not there are `render/succeeds`' business. A source of another commit is left out: nobody can edit
    it here, and it was judged where it was written.
    """
    if evidence.release is None:
        return []
    root = Path(evidence.repo.tree.root)
    found: dict[Values, None] = {}
    for source in evidence.release.sources:
        if not isinstance(source, HelmSource) or source.revision is not None:
            continue
        files = [Values(path=f"{source.chart}/values.yaml", defaults=True)]
        files += [Values(path=file.path) for file in source.values_files]
        found |= {one: None for one in files if one.path is not None and _in_tree(root, one.path) is not None}
        if source.inline is not None:
            found[Values(inline=source.inline)] = None
    return list(found)


@rule(scope=Scope.RELEASE, kind=Kind.FACT, subjects=values, needs_render=False)
def check(subject: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Values say what they mean: no key twice, no tag that YAML reads as a number, one document a file.

    Judged where they are written: values files, the chart's own values.yaml, values inside an Application. Refused are
    text that is not YAML, a key that a mapping holds twice, a merge key (`<<`) that overrides what stands above it, a
    second document, and a tag, sha, digest or image version without quotes that is read as a number, a boolean or a
    date. An empty tag in an environment's values is advice: null deletes the chart's default.

    Why: helm keeps the last of two equal keys and says nothing. `tag: 1.10` renders as 1.1, `tag: 1234567` as
    1.234567e+06 and `sha: 0123456` as 42798: an image that nobody built, or worse, one that somebody did.

    Fix: remove one of the two keys; put quotes around tags, shas and digests; keep one document in each values file.

    Bad:
        image:
          repository: registry.example/api
          tag: 1.10
        replicas: 2
        replicas: 3

    Good:
        image:
          repository: registry.example/api
          tag: "1.10"
        replicas: 3
    """
    text: Values = subject
    found: Iterator[Finding | Unjudged] = iter(())
    if text.path is not None:
        found = _in_file(text, text.path, Path(evidence.repo.tree.root))
    elif text.inline is not None:
        found = _in_application(text.inline, evidence)
    refused = any(isinstance(one, Unrendered) and one.broken for one in evidence.renders)
    for one in found:
        # What helm cannot read either is told once, by render/succeeds.
        if not (refused and isinstance(one, Finding) and one.change == MEND):
            yield one


# --- where it is written ------------------------------------------------------------------------------------------


def _in_tree(root: Path, path: str) -> Path | None:
    """Return the file, None where it is absent, no regular file, or leads out of the tree."""
    try:
        full = (root / path).resolve()
        inside = full.is_relative_to(root.resolve()) and full.is_file()
    except (OSError, ValueError):
        return None
    return full if inside else None


def _in_file(values_file: Values, path: str, root: Path) -> Iterator[Finding | Unjudged]:
    full = _in_tree(root, path)
    if full is None:
        return
    state = full.stat()
    if state.st_size > MAX_BYTES:
        yield Unjudged(
            reason=f"{path} is larger than {MAX_BYTES >> 20} MiB",
            remedy="split the values file",
            group="a values file is too large",
            place=Place(path=path),
        )
        return
    for trap in _traps_of_file(str(full), state.st_mtime_ns, state.st_size):
        if not (values_file.defaults and trap.only_in_overlays):
            place = Place(path=path, line=trap.line, column=trap.column)
            yield _finding(trap, place, trap.message.format(other=f"line {trap.other}"))


def _in_application(inline: InlineValues, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    application = evidence.release.application if evidence.release is not None else None
    where = f"{inline.key} of Application {application.name}: " if application is not None else ""
    for trap in _traps(inline.text):
        if inline.place is None or inline.place.line is None:
            message = where + trap.message.format(other="a line above")
            # One edit of what writes these values mends all of its double keys.
            one_edit = replace(trap, change="write each key once") if trap.other is not None else trap
            yield _finding(one_edit, inline.place or _origin(application, evidence), message)
            continue
        above = inline.place.line - 1
        other = "a line above" if trap.other is None else f"line {trap.other + above}"
        place = _moved(trap, inline, inline.place.path, above, Path(evidence.repo.tree.root))
        yield _finding(trap, place, where + trap.message.format(other=other))


def _moved(trap: _Trap, inline: InlineValues, path: str, above: int, root: Path) -> Place:
    """Where a line of inline values stands in the Application's file; the column only where the file agrees."""
    if trap.line is None:
        return Place(path=path)
    line, column = trap.line + above, None
    full = _in_tree(root, path)
    written = inline.text.split("\n")[trap.line - 1] if trap.line <= inline.text.count("\n") + 1 else ""
    if full is not None and trap.column is not None and written:
        state = full.stat()
        lines = _lines_of_file(str(full), state.st_mtime_ns, state.st_size)
        if line <= len(lines) and lines[line - 1].endswith(written):
            column = len(lines[line - 1]) - len(written) + trap.column
    return Place(path=path, line=line, column=column)


@functools.lru_cache(maxsize=64)
def _lines_of_file(path: str, _modified: int, size: int) -> tuple[str, ...]:
    if size > MAX_BYTES:
        return ()
    return tuple(Path(path).read_bytes().decode("utf-8", "replace").split("\n"))


def _origin(application: Application | None, evidence: Evidence) -> Place | None:
    """Who wrote inline values that are no text of a file: the Application, its parent's template, or the config."""
    if application is None:
        return Place(path=evidence.config.path) if evidence.config.exists else None
    if application.place is not None:
        return Place(path=application.place.path)
    return Place(path=application.template) if application.template is not None else None


# --- what is wrong ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trap:
    """One thing wrong with a text of values. `message` may name another line as {other}."""

    message: str
    help: str
    change: str
    line: int | None
    column: int | None = None
    other: int | None = None
    value: Any = None
    advice: bool = False
    only_in_overlays: bool = False


def _finding(trap: _Trap, place: Place | None, message: str) -> Finding:
    return Finding(
        message=message, help=trap.help, change=trap.change, place=place, value=trap.value, advice=trap.advice
    )


MEND = "mend the YAML"


@functools.lru_cache(maxsize=4096)
def _traps_of_file(path: str, _modified: int, _size: int) -> tuple[_Trap, ...]:
    data = Path(path).read_bytes()
    try:
        return _traps(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        said = f"not UTF-8: byte 0x{data[error.start]:02x}; helm refuses the file"
        return (_Trap(message=said, help="save the file as UTF-8", change=MEND, line=line),)


@functools.lru_cache(maxsize=1024)
def _traps(text: str) -> tuple[_Trap, ...]:
    read = yamlio.kept(text)
    if isinstance(read, yamlio.YamlError):
        said = "not YAML: " + read.message.replace("{", "{{").replace("}", "}}")
        fix = "mend the YAML at this line"
        return (_Trap(message=said, help=fix, change=MEND, line=read.line, column=read.column),)
    found = [trap for document in read for trap in _traps_of_document(document)]
    found += [_second_document(text, document.line) for document in read[1:]]
    return tuple(sorted(found, key=lambda trap: (trap.line or 0, trap.column or 0, trap.message)))


def _second_document(text: str, line: int) -> _Trap:
    """Helm v4 (pkg/chart/v2/loader LoadValues) merges at `---`; go-yaml never reads on behind `...`."""
    above = [one for one in text.splitlines()[: line - 1] if one.strip() and not one.lstrip().startswith("#")]
    if above and above[-1].startswith("..."):
        said = "a second document begins here: helm reads nothing behind `...`"
    else:
        said = "a second document begins here: helm 4 merges it over the first, earlier versions drop it"
    fix = "keep one document: move these values into it, or into a file of their own"
    return _Trap(message=said, help=fix, change="keep one document in a values file", line=line)


_DUPLICATE = re.compile(r'duplicate key "(?P<key>.*)" \(first on line (?P<first>\d+)\)', re.DOTALL)
_OVERRIDDEN = re.compile(r'key "(?P<key>.*)" is overridden by this merge key', re.DOTALL)


def _traps_of_document(document: yamlio.Document) -> Iterator[_Trap]:
    above = document.line - 1
    lines = document.text.split("\n")
    for line, message in document.problems:
        if duplicate := _DUPLICATE.fullmatch(message):
            key = duplicate["key"]
            yield _Trap(
                message=f"the key {_shown(key)} stands here and on {{other}}: helm takes this one and drops the other",
                help="keep one of the two",
                change=f"remove one {key}",
                line=line + above,
                column=_column(lines, line, key),
                other=int(duplicate["first"]) + above,
                value=key,
            )
        elif overridden := _OVERRIDDEN.fullmatch(message):
            key = overridden["key"]
            yield _Trap(
                message=f"this merge key overrides {_shown(key)}, which stands above it",
                help="write `<<` first: helm's YAML lets a merge key override what stands above it",
                change=f"move the merge key above {key}",
                line=line + above,
                column=_column(lines, line, "<<"),
                value=key,
            )
    if not isinstance(document.value, Mapping):
        said = f"values have to be a mapping, this is a {type(document.value).__name__}: helm refuses them"
        yield _Trap(
            message=said, help="write `key: value` pairs", change="make the values a mapping", line=document.line
        )
        return
    yield from _misread(document)


def _shown(key: str) -> str:
    return repr(key).replace("{", "{{").replace("}", "}}")


def _column(lines: Sequence[str], line: int, key: str) -> int | None:
    """Return the column of a key on a line, None where it is not certain."""
    found = list(re.finditer(rf"(?<![\w.-]){re.escape(key)}(?![\w.-])", lines[line - 1] if line <= len(lines) else ""))
    return found[0].start() + 1 if len(found) == 1 else None


# Words of a key in camelCase, snake_case or kebab-case; the last one says what the value is.
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])")
_TAGS = {"tag", "sha", "sha1", "sha256", "digest", "gitsha", "imagetag", "apptag", "imagedigest", "imagesha"}
_COMMITS = {"commit", "gitcommit", "commitsha", "commitid", "gitrevision", "gitref"}
_IMAGE_PARTS = {"repository", "registry", "image"}


def _misread(document: yamlio.Document) -> Iterator[_Trap]:
    if not _may_misread(document.value):
        return
    seen: set[int] = set()
    for scalar in yamlio.positions(document.text).scalars():
        if scalar.style != "plain" or scalar.tag == "str" or scalar.mark.index in seen:
            continue
        *parents, key = k8s.split(scalar.pointer) or [""]
        if not _names_a_build(document.value, parents, key, scalar):
            continue
        seen.add(scalar.mark.index)
        line, column = scalar.mark.line + document.line - 1, scalar.mark.column
        change = f"quote {scalar.pointer}"
        if scalar.tag == "null":
            yield _Trap(
                message=f"{key} is null: it deletes the chart's default",
                help=f'write {key}: "" for an empty value, or the value that is meant',
                change=change,
                line=line,
                column=column,
                advice=True,
                only_in_overlays=True,
            )
        else:
            quoted = scalar.raw.replace("{", "{{").replace("}", "}}")
            yield _Trap(
                message=f"{key}: {quoted} is read as {_reading(scalar)}",
                help=f'write {key}: "{scalar.raw}"',
                change=change,
                line=line,
                column=column,
                value=scalar.raw,
            )


_DATE_LIKE = re.compile(r"[0-9]{4}-")
_LAST_WORDS = tuple({*_TAGS, *_COMMITS, "version"})


def _may_misread(value: Any) -> bool:
    """Whether any key could be one that _names_a_build means, with a value that is no plain text. Cheap, never wrong."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, Mapping | list):
                if _may_misread(item):
                    return True
            elif not isinstance(item, str) or _DATE_LIKE.match(item):
                name = re.sub("[^a-z0-9]", "", key.lower())
                if name.endswith(_LAST_WORDS):
                    return True
    elif isinstance(value, list):
        return any(_may_misread(item) for item in value if isinstance(item, Mapping | list))
    return False


def _names_a_build(root: Any, parents: Sequence[str], key: str, scalar: yamlio.Scalar) -> bool:
    words = [word.lower() for word in _WORDS.findall(key)]
    if not words:
        return False
    whole = "".join(words)
    if whole in _TAGS:
        return True
    if isinstance(scalar.value, bool):
        return False  # `skipTag: true`, `commit: true` are switches
    if words[-1] in _TAGS or whole in _COMMITS or whole == "imageversion":
        return True
    if whole != "version":
        return False
    around = k8s.resolve(root, k8s.join("", *parents))
    names = {str(name).lower() for name in around} if isinstance(around, Mapping) else set()
    return bool(parents) and (parents[-1].lower().endswith("image") or not names.isdisjoint(_IMAGE_PARTS))


def _reading(scalar: yamlio.Scalar) -> str:
    if scalar.tag == "timestamp":
        return "a date by most programs that read or edit YAML; helm keeps the text"
    if isinstance(scalar.value, bool):
        written = "true" if scalar.value else "false"
        return f'the boolean {written}: helm writes "{written}"'
    written = go_v(float(scalar.value))
    if written == scalar.raw:
        return 'a number: helm writes it back as it is, but 1.10 becomes "1.1" and 1234567 becomes "1.234567e+06"'
    return f'a number: helm writes "{written}"'


_EXPONENT_FROM, _EXPONENT_BELOW = 6, -4


def go_v(number: float) -> str:
    """Write a number as a template's `{{ }}` does: Go's %v of the float64 that helm holds (strconv 'g', shortest)."""
    if not math.isfinite(number):
        return str(number)
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    text = "".join(map(str, digits))
    power = len(text) - 1 + int(exponent) if number else 0
    minus = "-" if sign else ""
    if power < _EXPONENT_BELOW or power >= _EXPONENT_FROM:
        mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
        return f"{minus}{mantissa}e{power:+03d}"
    if power < 0:
        return f"{minus}0.{'0' * (-power - 1)}{text}"
    whole = text[: power + 1].ljust(power + 1, "0")
    rest = text[power + 1 :]
    return f"{minus}{whole}" + (f".{rest}" if rest else "")
