"""argo/windows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from releasegate.discover.argo import listed, mapping, string
from releasegate.model import Application, Finding, Kind, Project, Release, Scope, Unjudged
from releasegate.rules import Evidence, rule
from releasegate.rules.argo import application_of, deployed, matches, project_of, project_place
from releasegate.rules.argo.schedule import WEEK, Cron, Open, Times, by_week, duration, has_zones, length, without, zone

WEEKS = 53
FEW_WEEKS = 5  # for a schedule of more than MAX_TIMES a day
MAX_TIMES = 96
MAX_WINDOWS = 100  # of one project; each is laid out over a year
_SELECTORS = ("applications", "namespaces", "clusters")


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One of a project's syncWindows, and the releases of the environment it is about."""

    project: Project
    index: int
    body: Mapping[str, Any]
    releases: tuple[Release, ...]

    @property
    def denies(self) -> bool:
        """A deny window; else an allow window."""
        return self.body.get("kind") == "deny"

    @property
    def by_hand(self) -> bool:
        """Whether it lets syncs by hand through."""
        return self.body.get("manualSync") is True

    def __str__(self) -> str:
        """`deny window "0 16 * * 5" for 64h (Europe/Berlin)`."""
        where = string(self.body.get("timeZone")) or "UTC"
        kind = string(self.body.get("kind")) or "sync"
        said = f'{kind} window "{string(self.body.get("schedule"))}" for {string(self.body.get("duration"))} ({where})'
        return f"{said} of AppProject {self.project.name}"


def _subjects(evidence: Evidence) -> Sequence[Window | Unjudged]:
    """The windows that are about an Application of this environment, or about none at all; projects not in git."""
    of_project: dict[int, tuple[Project, list[Release]]] = {}
    missing: dict[str, Unjudged] = {}
    for release in deployed(evidence):
        project = project_of(application_of(release), release.environment, evidence)
        if isinstance(project, Unjudged):
            missing[project.group] = project
        elif project is not None:
            of_project.setdefault(id(project), (project, []))[1].append(release)
    found: list[Window | Unjudged] = list(missing.values())
    for project, releases in of_project.values():
        everywhere = [one for one in evidence.repo.releases if _is_of(one, project, evidence)]
        for index, body in enumerate(listed(mapping(project.manifest.body.get("spec")).get("syncWindows"))):
            body = mapping(body)  # noqa: PLW2901
            reached = tuple(one for one in releases if selects(body, application_of(one)))
            if reached or not any(selects(body, application_of(one)) for one in everywhere):
                found.append(Window(project, index, body, reached))
    return found


def _is_of(release: Release, project: Project, evidence: Evidence) -> bool:
    application = release.application
    return application is not None and project_of(application, release.environment, evidence) is project


def selects(window: Mapping[str, Any], application: Application) -> bool:
    """SyncWindows.Matches: any of applications, clusters, namespaces; with andOperator each one that is written."""
    destination = application.destination
    together = window.get("andOperator") is True
    clusters = [text for key in ("name", "server") if (text := string(destination.get(key)))]
    matched = False
    for key, texts in (
        ("applications", [application.name]),
        ("clusters", clusters),
        ("namespaces", [string(destination.get("namespace"))]),
    ):
        patterns = [string(one) for one in listed(window.get(key))]
        if not patterns:
            continue
        matched = any(matches(pattern, text) for pattern in patterns for text in texts)
        if matched is not together:
            return matched
    return matched


@rule(scope=Scope.ENVIRONMENT, kind=Kind.POLICY, subjects=_subjects, together=True, needs_render=False)
def check(subjects: Any, _evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """No sync window of an AppProject keeps people from syncing by hand, which is what a rollback is.

    Judged as Argo CD does: an open `deny` window wins over an `allow` window; where an Application has `allow` windows
    and none is open, nothing is synced; `manualSync: true` lets people through. The message says how many hours of a
    week are closed, on the clocks of the window's `timeZone`, changes of summer time included. Also found are
    windows that do not say what they seem to: a schedule that is no cron of five fields (Argo CD then refuses every
    sync), one that never comes (Argo CD then takes the window for open, always), a duration of nothing, an unknown
    time zone (UTC is taken), no Application that it selects.

    Why: windows are written for a calm Friday evening, and felt in an outage on Saturday, when the fix is merged and
    Argo CD answers "cannot sync: blocked by sync window".

    Fix: write `manualSync: true` in the window: automated syncs stay blocked, people are let through.

    Bad:
        apiVersion: argoproj.io/v1alpha1
        kind: AppProject
        metadata:
          name: shop
        spec:
          syncWindows:
            - kind: deny
              schedule: "0 16 * * 5"
              duration: 64h
              applications: ["*-prod"]

    Good:
        apiVersion: argoproj.io/v1alpha1
        kind: AppProject
        metadata:
          name: shop
        spec:
          syncWindows:
            - kind: deny
              schedule: "0 16 * * 5"
              duration: 64h
              applications: ["*-prod"]
              manualSync: true
    """
    yield from (one for one in subjects if isinstance(one, Unjudged))
    windows = [one for one in subjects if isinstance(one, Window)]
    readable: dict[int, Open] = {}
    for window in windows[:MAX_WINDOWS]:
        if string(window.body.get("timeZone")) not in ("", "UTC") and not has_zones():
            yield Unjudged(
                reason="this machine has no time zone database",
                remedy="install the package tzdata",
                group="time zones",
            )
            continue
        problem, opened = _read(window)
        if problem is not None:
            yield problem
        if opened is not None:
            readable[id(window)] = opened
    for window in windows[MAX_WINDOWS:]:
        yield Unjudged(
            reason=f"AppProject {window.project.name} has more than {MAX_WINDOWS} sync windows",
            remedy="take some of them together: a schedule takes lists",
            group=f"sync windows of AppProject {window.project.name}",
        )
    yield from _closing(windows, readable)


# --- a window by itself ---------------------------------------------------------------------------------------------


def _about(window: Window, key: str | None, message: str, fix: str, *, change: str, advice: bool = False) -> Finding:
    pointer = f"/spec/syncWindows/{window.index}"
    return Finding(
        message=message,
        help=fix,
        change=f"{change} of sync window {window.index + 1}",
        manifest=window.project.manifest,
        pointer=pointer if key is None or key not in window.body else f"{pointer}/{key}",
        value=dict(window.body) if key is None else window.body.get(key),
        advice=advice,
    )


def _reach(window: Window) -> str:
    names = [application_of(one).name for one in window.releases]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
    return shown or "no Application here"


def _read(window: Window) -> tuple[Finding | None, Open | None]:
    """What is wrong with the window itself, and when it is open where that can be said."""
    body = window.body
    if body.get("kind") not in ("allow", "deny"):
        said = f"{window} is neither allow nor deny: Argo CD refuses the AppProject"
        return _about(window, "kind", said, "write kind: allow or kind: deny", change="mend the kind"), None
    if not any(listed(body.get(key)) for key in _SELECTORS):
        said = (
            f"{window} names no applications, namespaces or clusters: Argo CD refuses the AppProject, or never uses it"
        )
        return _about(window, None, said, 'write applications: ["*"] for all', change="say what it is about"), None
    try:
        cron = Cron.parse(string(body.get("schedule")))
    except ValueError as error:
        said = f"{window}: the schedule cannot be read, so Argo CD refuses every sync of {_reach(window)}: {error}"
        return _about(window, "schedule", said, 'write five fields: "0 16 * * 5"', change="mend the schedule"), None
    try:
        long = duration(string(body.get("duration")))
    except ValueError as error:
        said = f"{window}: the duration cannot be read, so Argo CD refuses every sync of {_reach(window)}: {error}"
        return _about(window, "duration", said, "write 90m, 8h or 1h30m", change="mend the duration"), None
    where = zone(string(body.get("timeZone")))
    opened = Open(cron, long, where or dt.UTC)
    return _odd(window, opened, is_zone=where is not None), opened


def _odd(window: Window, opened: Open, *, is_zone: bool) -> Finding | None:
    """What Argo CD takes without complaint, and reads otherwise than people do."""
    if not is_zone:
        said = f"{window}: there is no such time zone; Argo CD takes UTC"
        return _about(window, "timeZone", said, "write one like Europe/Berlin", change="mend the time zone")
    if opened.length <= dt.timedelta():
        said = f"{window} is open for no time at all"
        return _about(window, "duration", said, "write 90m, 8h or 1h30m", change="mend the duration")
    if not opened.cron.comes(_monday()):
        said = f"{window}: that time never comes, and Argo CD takes the window for open, always"
        return _about(window, "schedule", said, "write a day that there is", change="mend the schedule")
    if not window.releases:
        said = f"{window} selects no Application of this repository"
        fix = "mend the globs of applications, namespaces or clusters, or remove the window"
        return _about(window, None, said, fix, change="mend what it selects", advice=True)
    return None


# --- what is closed -------------------------------------------------------------------------------------------------


def _closing(windows: Sequence[Window], readable: Mapping[int, Open]) -> Iterator[Finding]:
    """Each window that keeps people out for some time, with the most hours that it does so for an Application."""
    sets: dict[tuple[int, ...], list[Window]] = {}
    for release in {one.id: one for window in windows for one in window.releases}.values():
        members = [window for window in windows if release in window.releases and id(window) in readable]
        sets[tuple(id(one) for one in members)] = members
    worst: dict[int, _Closed] = {}
    for members in sets.values():
        for window in members:
            if not window.by_hand:
                closed = _closed(window, members, readable)
                worst[id(window)] = max(closed, worst.get(id(window), closed), key=lambda one: one.most)
    for window in windows:
        closed_at = worst.get(id(window))
        if closed_at is not None and closed_at.most:
            yield _finding(window, closed_at)


@dataclass(frozen=True, slots=True)
class _Closed:
    """How long people are kept out: the most in a week, and in all weeks together."""

    most: dt.timedelta
    whole: dt.timedelta
    weeks: int

    def __str__(self) -> str:
        """`64 of 168 hours a week`."""
        if self.weeks == 1 or self.whole == self.most * self.weeks:
            return f"{_hours(self.most)} of 168 hours a week"
        return f"{_hours(self.whole)} hours in the coming {self.weeks} weeks, {_hours(self.most)} of 168 in the worst"


def _closed(window: Window, members: Sequence[Window], readable: Mapping[int, Open]) -> _Closed:
    """A deny window closes while it is open; an allow window while none of them is, and no deny window speaks.

    Where all that counts is of one time zone and of every week, one week is laid out on the zone's clocks; else the
    coming weeks are, in UTC, with the changes of summer time that they hold.
    """
    counted = [window] if window.denies else list(members)
    opened = [readable[id(one)] for one in counted]
    start = dt.datetime.combine(_monday(), dt.time())
    alike = len({one.zone for one in opened}) == 1 and all(one.cron.weekly for one in opened)
    dense = any(len(one.cron.minutes) * len(one.cron.hours) > MAX_TIMES for one in opened)
    weeks = 1 if alike else FEW_WEEKS if dense else WEEKS
    end = start + WEEK * weeks
    times = [one.times(start, end) if alike else one.utc(start, end) for one in opened]
    closed: Times = times[0] if window.denies else without(start, end, *times)
    each = by_week(closed, start, weeks)
    return _Closed(max(each), length(closed), weeks)


def _monday() -> dt.date:
    today = dt.datetime.now(tz=dt.UTC).date()
    return today - dt.timedelta(days=today.weekday())


def _hours(time: dt.timedelta) -> str:
    """`64`, `1.5`, `0.25`."""
    return f"{time / dt.timedelta(hours=1):.2f}".rstrip("0").rstrip(".")


def _finding(window: Window, closed: _Closed) -> Finding:
    when = "while it is open" if window.denies else "while no allow window is open"
    return _about(
        window,
        "manualSync",
        f"{window} ({project_place(window.project)}) keeps people from syncing {_reach(window)} {when}: {closed}",
        "write manualSync: true in the window, so that a rollback by hand is possible",
        change="let people through the window",
    )
