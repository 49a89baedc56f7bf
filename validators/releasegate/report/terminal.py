"""The report a person reads: one cause, one entry, on the line they can edit; then what was judged and what was not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from releasegate.evaluate import WORDS, Cause, Report, place_of
from releasegate.model import CaseId, Finding, Outcome, Place, Status, Verdict
from releasegate.report.text import clean, message, neighbour, without_secret

MAX_RED = 40  # a screenful; the JSON report holds all
MAX_NAMES = 4
MAX_WIDTH = 160
MAX_MESSAGE = 320  # the reason often stands at the end
_COLOURS = ("green", "red", "magenta", "magenta", "magenta")


def lines(result: Report, root: Path) -> Iterator[str]:
    """Yield the report, styled; the caller strips styles where there is no terminal."""
    red = [one for one in result.causes if one.status is Status.NEW]
    told = [one for one in red if not one.unjudged]
    gaps = [one for one in red if one.unjudged]
    advice = [one for one in result.causes if one.status is Status.ADVISED]
    for cause in told[:MAX_RED]:
        yield from _entry(cause, root)
        yield ""
    if len(told) > MAX_RED:
        yield f"… and {len(told) - MAX_RED} more causes: --json FILE lists all"
        yield ""
    if gaps:
        yield click.style("Not judged, and so not green:", bold=True)
        for cause in gaps:
            yield from _gap(cause)
        yield ""
    if advice and not result.complete:  # who asks about one rule wants to see what it says
        for cause in [one for one in advice if not one.unjudged][:MAX_RED]:
            yield from _entry(cause, root)
            yield ""
    if advice:
        yield from _advice(advice)
        yield ""
    yield from _table(result)
    yield ""
    for note in result.notes:
        yield click.style(f"note: {clean(note)}", dim=True)
    yield _last(result)


def _entry(cause: Cause, root: Path) -> Iterator[str]:
    reach = _reach(cause.cases)
    yield f"{click.style(cause.rule, fg='red', bold=True)}  {_cut(_said(cause), MAX_MESSAGE)}  {click.style(reach, dim=True)}"
    if cause.systemic is not None:
        for case, finding in _examples(cause):
            place = place_of(finding)
            where = f"{place}  " if place else ""
            yield f"  e.g. {where}{_cut(message(finding, finding.message))}  [{case.environment} · {case.release}]"
    else:
        if cause.place is not None:
            yield f"  {click.style('-->', fg='blue')} {cause.place}"
            yield from _snippet(cause, cause.place, root)
        about = _objects(cause)
        if about:
            yield f"  in {about}"
    yield f"  {click.style('fix:', fg='green')} {_cut(clean(cause.help), 400)}"


def _said(cause: Cause) -> str:
    return message(cause.entries[0][1], cause.message) if cause.entries else clean(cause.message)


def _examples(cause: Cause) -> Iterator[tuple[CaseId, Finding]]:
    """Show findings of different changes; those whose line is known first."""
    seen: set[str] = set()
    known = sorted(cause.entries, key=lambda entry: (place_of(entry[1]) or Place(path="")).line is None)
    for case, finding in known:
        if finding.change not in seen and len(seen) < 3:  # noqa: PLR2004 - design.md 3: three examples
            seen.add(finding.change)
            yield case, finding


def _snippet(cause: Cause, place: Place, root: Path) -> Iterator[str]:
    """Show the line, and of the one before it what it is about: nobody looked at its value, which may be a secret."""
    if place.line is None:
        return
    path = root / place.path
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            return
        text = path.read_text(errors="replace").split("\n")  # as yamlio counts lines, and editors
    except OSError:
        return
    if place.line > len(text):
        return
    width = len(str(place.line))
    line = _fit(cause, without_secret(text[place.line - 1].removesuffix("\r")))
    shown = {place.line: line}
    if place.line > 1:
        shown = {place.line - 1: _fit(cause, neighbour(text[place.line - 2].removesuffix("\r"))), **shown}
    for number, said in shown.items():
        yield f"  {click.style(f'{number:>{width}} |', fg='blue')} {_cut(said)}"
    if place.column is not None:
        length = len(line[place.column - 1 :].split(" #")[0].rstrip()) or 1
        carets = "^" * min(length, MAX_WIDTH - place.column)
        yield f"  {' ' * width} {click.style('|', fg='blue')} {' ' * (place.column - 1)}{click.style(carets, fg='red')}"


def _fit(cause: Cause, line: str) -> str:
    return message(cause.entries[0][1], line) if cause.entries else clean(line)


def _objects(cause: Cause) -> str:
    """Name the object, its pointer and its template: what was rendered from the line."""
    seen: dict[str, str] = {}
    for _, finding in cause.entries:
        manifest = finding.manifest
        if manifest is not None:
            template = f"  ({manifest.template})" if manifest.template and manifest.template != _path(cause) else ""
            seen.setdefault(
                f"{clean(manifest.kind)}/{clean(manifest.name)}", f"{clean(finding.pointer or '')}{template}"
            )
    if not seen:
        return ""
    name, detail = next(iter(seen.items()))
    more = f" and {_count(len(seen) - 1, 'more object')}" if len(seen) > 1 else ""
    return f"{name} {detail}{more}".rstrip()


def _path(cause: Cause) -> str | None:
    return cause.place.path if cause.place is not None else None


def _gap(cause: Cause) -> Iterator[str]:
    where = f"{cause.place}: " if cause.place is not None else ""
    subjects = {(case.environment, case.release) for case, _ in cause.unjudged}
    times = f"{len(cause.unjudged)} times in " if len(cause.unjudged) > len(subjects) else ""
    yield f"  {click.style(cause.rule, fg='magenta')}  {where}{_cut(clean(cause.message), MAX_MESSAGE)}"
    yield f"    {click.style(times + _reach(cause.cases), dim=True)}"
    yield f"    {click.style('mend:', fg='green')} {_cut(clean(cause.help), 400)}"


def _advice(causes: Iterable[Cause]) -> Iterator[str]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for cause in causes:
        counts[cause.rule][0] += 1
        counts[cause.rule][1] += len(cause.entries) + len(cause.unjudged)
    yield click.style("Advice (green; `check --rule ID` shows it, switching a policy on makes it count):", bold=True)
    for rule, (number, findings) in sorted(counts.items()):
        yield f"  {rule}: {_count(number, 'cause')}, {_count(findings, 'finding')}"


def _table(result: Report) -> Iterator[str]:
    """Environments x families: how many subjects were judged, and how many cases of them are not green."""
    families = sorted({one.id.rule.split("/", 1)[0] for one in result.verdicts} - {"expect"})
    rows: list[list[str]] = [["", "releases", "objects", *families]]
    for name in [*(one.name for one in result.repo.environments), None]:
        cases = [one for one in result.verdicts if one.id.environment == name]
        of = {family: [one for one in cases if one.id.rule.startswith(f"{family}/")] for family in families}
        if not any(of.values()):
            continue
        releases = [one for one in result.repo.releases if one.environment == name]
        objects = sum(result.objects.get(one.id, 0) for one in releases)
        rows.append([name or "repo", str(len(releases)), str(objects), *(_cell(of[family]) for family in families)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield click.style(text, bold=True) if number == 0 else text


def _cell(verdicts: list[Verdict]) -> str:
    if not verdicts:
        return "-"
    # Rules of a family look at the same subjects: the widest look is how much was judged, not their sum.
    by_rule: dict[str, int] = defaultdict(int)
    for verdict in verdicts:
        by_rule[verdict.id.rule] += verdict.subjects
    parts = [f"{max(by_rule.values())} judged"]
    for outcome, word in ((Outcome.FAILED, "red"), (Outcome.NOT_EVALUATED, "not judged"), (Outcome.ADVISED, "advice")):
        count = sum(one.outcome is outcome for one in verdicts)
        if count:
            parts.append(f"{count} {word}")
    return ", ".join(parts)


def _last(result: Report) -> str:
    counts = result.counts
    red = len(result.red)
    said = ", ".join(f"{counts[key]} {key.replace('_', '-')}" for key in list(counts)[1:8] if counts[key])
    word = click.style(WORDS[result.exit_code].upper(), fg=_COLOURS[result.exit_code], bold=True)
    causes = _count(red, "red cause")
    scope = "" if result.complete else " (narrowed run)"
    return (
        f"{word}{scope}: {_count(counts['cases'], 'case')} ({said or 'none'}), {_count(counts['objects'], 'object')}, "
        f"{_count(counts['findings'], 'finding')}, {causes}; exit {result.exit_code}; {result.seconds:.1f} s"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _reach(cases: Iterable[CaseId]) -> str:
    """`[prod · api]`, `[dev, prod · 12 releases]`."""
    members = list(cases)
    environments = sorted({one.environment for one in members if one.environment is not None})
    releases = sorted({one.release for one in members if one.release is not None})
    if not environments:
        return "[repo]"
    shown = ", ".join(releases) if len(releases) <= MAX_NAMES else f"{len(releases)} releases"
    return f"[{', '.join(environments)}{f' · {shown}' if shown else ''}]"


def _cut(text: str, width: int = MAX_WIDTH) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
