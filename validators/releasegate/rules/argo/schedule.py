"""When a sync window is open: cron as Argo CD reads it, Go's durations, time zones, and sets of times.

Sources of the facts: argo-cd pkg/apis/application/v1alpha1/types.go (SyncWindows, scheduleOffsetByTimeZone) and
robfig/cron v3 parser.go and spec.go with the options Argo CD gives it: five fields, no descriptors.
"""

from __future__ import annotations

import calendar
import datetime as dt
import functools
import re
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

Times = Sequence[tuple[dt.datetime, dt.datetime]]  # sorted, apart from each other

MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
WEEK = dt.timedelta(weeks=1)
_YEARS = 5  # that robfig/cron looks ahead
_LONGEST = dt.timedelta(days=3660)  # a longer window is open for good as well

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: Sequence[tuple[str, int, int, dict[str, int]]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule of five fields. `any_day`: one of the two day fields is a star, so that both have to hold."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read a schedule as robfig/cron does; ValueError says what is wrong with it, as the end of a sentence."""
        if text.startswith("@"):
            raise ValueError("Argo CD takes no descriptors such as @daily")
        if text.startswith(("TZ=", "CRON_TZ=")):
            raise ValueError("the time zone belongs to the field timeZone")
        parts = text.split()
        if len(parts) != len(_FIELDS):
            raise ValueError(f"it has {len(parts)} fields, not five (minute, hour, day of month, month, day of week)")
        read = [_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)]
        minutes, hours, days, months, weekdays = (frozenset(values) for values, _ in read)
        return cls(minutes, hours, days, months, weekdays, any_day=read[2][1] or read[4][1])

    def on(self, day: dt.date) -> bool:
        """Whether it comes on that day."""
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        if day.month not in self.months or not self.minutes or not self.hours:
            return False
        return (in_month and in_week) if self.any_day else (in_month or in_week)

    @property
    def weekly(self) -> bool:
        """Every week is like the other: no field of months or days of a month says anything."""
        every_month = self.months == frozenset(range(1, 13))
        return every_month and self.any_day and self.days == frozenset(range(1, 32))

    def comes(self, today: dt.date) -> bool:
        """Whether it comes at all in the years that are looked ahead; `31 2` never does."""
        return any(self.on(today + DAY * count) for count in range(_YEARS * 366))


def _field(text: str, name: str, low: int, high: int, names: dict[str, int]) -> tuple[set[int], bool]:
    """The values of a field, and whether it is a star."""
    values: set[int] = set()
    star = False
    for part in filter(None, text.split(",")):
        chosen, is_star = _range(part, name, low, high, names)
        values.update(chosen)
        star |= is_star
    return values, star


def _range(text: str, name: str, low: int, high: int, names: dict[str, int]) -> tuple[range, bool]:
    bounds, *steps = text.split("/")
    first, *rest = bounds.split("-")
    if len(steps) > 1:
        raise ValueError(f"{name} {text!r} has two slashes")
    star = first in ("*", "?")
    if star:
        start, end = low, high
    else:
        if len(rest) > 1:
            raise ValueError(f"{name} {text!r} has two hyphens")
        start = _number(first, name, names)
        end = _number(rest[0], name, names) if rest else start
    step = _number(steps[0], name, {}) if steps else 1
    if steps and not rest:
        end = high  # `5/15` is `5-59/15`
    if start < low or end > high:
        raise ValueError(f"{name} {text!r} is not within {low}-{high}")
    if start > end:
        raise ValueError(f"{name} {text!r} ends before it begins")
    if not step:
        raise ValueError(f"{name} {text!r} has the step 0")
    return range(start, end + 1, step), star and step == 1


def _number(text: str, name: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{name} {text!r} is no number")
    if int(text) < 0:
        raise ValueError(f"{name} {text!r} is negative")
    return int(text)


_UNITS = {
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 10**3),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "μs": Fraction(1, 10**6),
    "ns": Fraction(1, 10**9),
}
_LONGEST_GO = Fraction(2**63 - 1, 10**9)  # nanoseconds of an int64
_PART = re.compile(r"([0-9]{0,15})(?:\.([0-9]{0,15}))?(ns|us|µs|μs|ms|s|m|h)")


def duration(text: str) -> dt.timedelta:
    """Go's time.ParseDuration: `1h30m`, `-5m`, `0`; ValueError says what is wrong, as the end of a sentence."""
    unsigned = text[1:] if text[:1] in ("+", "-") else text
    if unsigned == "0":
        return dt.timedelta()
    seconds = Fraction(0)
    at = 0
    while at < len(unsigned):
        found = _PART.match(unsigned, at)
        if found is None or not (found[1] or found[2]):
            raise ValueError("it is no duration such as 90m, 8h or 1h30m; there is no unit for days")
        whole = Fraction(int(found[1] or "0"))
        part = Fraction(int(found[2]), 10 ** len(found[2])) if found[2] else Fraction(0)
        seconds += (whole + part) * _UNITS[found[3]]
        at = found.end()
    if not unsigned:
        raise ValueError("it is empty")
    if seconds > _LONGEST_GO:
        raise ValueError("it is longer than 292 years")
    return dt.timedelta(seconds=float(-seconds if text.startswith("-") else seconds))


def has_zones() -> bool:
    """Whether this machine knows time zones at all: a bare container may not."""
    return zone("Europe/Berlin") is not None


@functools.lru_cache(maxsize=256)
def zone(name: str) -> dt.tzinfo | None:
    """The time zone of that name, UTC for none; None where there is no such zone."""
    if name in ("", "UTC"):
        return dt.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class Open:
    """When a window is open: from each time of the schedule on, for its length, on the clocks of its zone."""

    cron: Cron
    length: dt.timedelta
    zone: dt.tzinfo

    def times(self, start: dt.datetime, end: dt.datetime) -> Times:
        """The open times between two naive times on the clock of the zone.

        A schedule that never comes gives Argo CD a time in the year 1, which is before now: open for good.
        """
        if self.length <= dt.timedelta():
            return []
        if not self.cron.comes(start.date()):
            return [(start, end)]
        back = min(self.length, _LONGEST)
        begins = self._begins((start - back).date(), end.date())
        return _within(_united((begin, begin + min(until, _LONGEST)) for begin, until in begins), start, end)

    def _begins(self, first: dt.date, last: dt.date) -> Iterator[tuple[dt.datetime, dt.timedelta]]:
        """(begin, length) of the stretches of each day, times that follow closely taken together."""
        stretches: list[tuple[dt.timedelta, dt.timedelta]] = []
        for hour in sorted(self.cron.hours):
            for minute in sorted(self.cron.minutes):
                at = dt.timedelta(hours=hour, minutes=minute)
                if stretches and at <= stretches[-1][1]:
                    stretches[-1] = stretches[-1][0], at + self.length
                else:
                    stretches.append((at, at + self.length))
        day = first
        while day <= last:
            if self.cron.on(day):
                midnight = dt.datetime.combine(day, dt.time())
                for begin, until in stretches:
                    yield midnight + begin, until - begin
            day += DAY

    def utc(self, start: dt.datetime, end: dt.datetime) -> Times:
        """The open times between two naive times of UTC: at each moment the offset of that moment counts."""
        found: list[tuple[dt.datetime, dt.datetime]] = []
        for begin, until, offset in _offsets(self.zone, start, end):
            found += [(one - offset, other - offset) for one, other in self.times(begin + offset, until + offset)]
        return _united(found)


def _offsets(
    where: dt.tzinfo, start: dt.datetime, end: dt.datetime
) -> list[tuple[dt.datetime, dt.datetime, dt.timedelta]]:
    """Stretches of UTC in which the zone's offset stays the same, to the minute."""

    def offset(moment: dt.datetime) -> dt.timedelta:
        return moment.replace(tzinfo=dt.UTC).astimezone(where).utcoffset() or dt.timedelta()

    found = []
    begin = start
    at = start
    while at < end:
        following = min(at + DAY, end)
        if offset(following) != offset(at):
            low, high = at, following
            while high - low > MINUTE:
                middle = low + (high - low) / 2
                low, high = (middle, high) if offset(middle) == offset(at) else (low, middle)
            change = high.replace(second=0, microsecond=0)
            found.append((begin, change, offset(begin)))
            begin = change
        at = following
    found.append((begin, end, offset(begin)))
    return found


# --- sets of times --------------------------------------------------------------------------------------------------


def _united(times: Iterable[tuple[dt.datetime, dt.datetime]]) -> list[tuple[dt.datetime, dt.datetime]]:
    made: list[tuple[dt.datetime, dt.datetime]] = []
    for begin, end in sorted(times):
        if made and begin <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        elif begin < end:
            made.append((begin, end))
    return made


def _within(times: Times, start: dt.datetime, end: dt.datetime) -> Times:
    return [(max(one, start), min(other, end)) for one, other in times if one < end and other > start]


def without(start: dt.datetime, end: dt.datetime, *taken: Times) -> Times:
    """What is left between two times when all of `taken` is taken out."""
    left: list[tuple[dt.datetime, dt.datetime]] = []
    at = start
    for begin, until in _united(one for times in taken for one in times):
        if begin > at:
            left.append((at, begin))
        at = max(at, until)
    if at < end:
        left.append((at, end))
    return _within(left, start, end)


def length(times: Times) -> dt.timedelta:
    """How long they are together."""
    return sum((end - begin for begin, end in times), dt.timedelta())


def by_week(times: Times, start: dt.datetime, weeks: int) -> list[dt.timedelta]:
    """How long they are in each of the weeks from `start` on."""
    return [length(_within(times, start + WEEK * one, start + WEEK * (one + 1))) for one in range(weeks)]
