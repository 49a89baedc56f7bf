"""argo/windows: a person is always let through, and windows say what they seem to."""

from __future__ import annotations

import datetime as dt
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rules.repos import CONFIG_MAP, TOML, application, verdicts, write

from releasegate import yamlio
from releasegate.model import Application, Outcome, Verdict
from releasegate.rules.argo.schedule import MINUTE, WEEK, Cron, Open, Times, duration, length, without, zone
from releasegate.rules.argo.windows import selects

RULE = "argo/windows"
ON = f'{TOML}[rules]\n"{RULE}" = "on"\n'
DENY = {"kind": "deny", "schedule": "0 16 * * 5", "duration": "64h", "applications": ["*"]}
ALLOW = {"kind": "allow", "schedule": "0 8 * * 1-5", "duration": "10h", "applications": ["*"]}
BERLIN = zone("Europe/Berlin")


# --- cron -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "times"),
    [  # as robfig/cron 3.0.1 answers, asked on 2026-11-23 00:00
        ("0 16 * * 5", "202611271600 202612041600 202612111600"),
        ("*/20 9-17 * * mon-fri", "202611230900 202611230920 202611230940"),
        ("5/15 3 * * *", "202611230305 202611230320 202611230335"),
        ("0 0 29 2 *", "202802290000 203202290000"),
        ("0 8 1,15 * 1", "202611230800 202611300800 202612010800"),
        ("0 8 */2 * 1", "202611230800 202611250800 202611270800"),
        ("0 8 */1 * 1", "202611230800 202611300800 202612070800"),
        ("30 23 31 * ?", "202612312330 202701312330 202703312330"),
        ("0 0 1-31 jan,JUL sun", "202701010000 202701020000 202701030000"),
        ("1,,3 0 * * 0", "202611290001 202611290003 202612060001"),
    ],
)
def test_a_schedule_comes_when_robfig_cron_says(text: str, times: str) -> None:
    cron = Cron.parse(text)
    day, found = dt.date(2026, 11, 23), list[str]()
    while len(found) < len(times.split()):
        if cron.on(day):
            clock = [dt.time(hour, minute) for hour in sorted(cron.hours) for minute in sorted(cron.minutes)]
            found += [dt.datetime.combine(day, one).strftime("%Y%m%d%H%M") for one in clock]
        day += dt.timedelta(days=1)
    assert found[: len(times.split())] == times.split()


@pytest.mark.parametrize(
    "text",
    [
        *("", "@daily", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7"),
        *("*/0 * * * *", "5-3 * * * *", "1-2-3 * * * *", "1/2/3 * * * *", "x * * * *", "-1 * * * *", "1_0 * * * *"),
        *("TZ=UTC * * * * *", "* * * mon *", "٣ * * * *"),
    ],
)
def test_what_robfig_cron_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Cron.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("64h", 230400), ("1h30m", 5400), ("1.5h", 5400), (".5h", 1800), ("-5m", -300), ("1µs", 0.000001)],
)
def test_a_duration_is_gos(text: str, seconds: float) -> None:
    assert duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "1d", "h", ".h", "1h 30m", "1", "1H", "3000000h", "--1h"])
def test_what_go_refuses_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        duration(text)


def _is_open(window: Open, now: dt.datetime) -> bool:
    """SyncWindow.active, literally: the next time after (now - length) is before now."""
    minute = (now - window.length).replace(second=0, microsecond=0) + MINUTE
    while minute < now:
        cron = window.cron
        if cron.on(minute.date()) and minute.hour in cron.hours and minute.minute in cron.minutes:
            return True
        minute += MINUTE
    return False


@given(
    st.sampled_from(["0 16 * * 5", "*/30 8-10 * * 1-5", "0 0 1 * *", "15,45 */6 */2 * *", "0 22 * * 0,6"]),
    st.integers(1, 40),
    st.integers(0, 7 * 24 * 60 - 1),
)
def test_open_times_are_those_at_which_argo_cd_calls_the_window_active(schedule: str, hours: int, minute: int) -> None:
    window = Open(Cron.parse(schedule), dt.timedelta(hours=hours), dt.UTC)
    start = dt.datetime(2026, 11, 23)  # noqa: DTZ001 - on the clock of the zone
    now = start + MINUTE * minute + dt.timedelta(seconds=30)
    assert any(begin < now < end for begin, end in window.times(start, start + WEEK)) is _is_open(window, now)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=6))
def test_what_is_taken_out_and_what_is_left_are_the_whole(pairs: list[tuple[int, int]]) -> None:
    start = dt.datetime(2026, 11, 23)  # noqa: DTZ001
    times: Times = [(start + MINUTE * min(pair), start + MINUTE * max(pair)) for pair in pairs]
    left = without(start, start + MINUTE * 100, times)
    taken = {minute for low, high in map(sorted, pairs) for minute in range(low, high)}
    assert length(left) == MINUTE * (100 - len(taken))


def test_the_hours_of_a_zone_move_with_summer_time() -> None:
    assert BERLIN is not None
    window = Open(Cron.parse("0 12 * * *"), dt.timedelta(hours=1), BERLIN)
    winter, summer = dt.datetime(2027, 3, 27), dt.datetime(2027, 3, 29)  # noqa: DTZ001
    assert [begin.hour for begin, _ in window.utc(winter, summer)] == [11, 10]


def test_a_schedule_that_never_comes_is_open_for_good() -> None:
    start = dt.datetime(2026, 11, 23)  # noqa: DTZ001
    assert Open(Cron.parse("0 0 31 2 *"), dt.timedelta(hours=1), dt.UTC).times(start, start + WEEK) == [
        (start, start + WEEK)
    ]


# --- which Applications ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "selected"),
    [
        ({}, False),
        ({"applications": ["api-*"]}, True),
        ({"applications": ["web-*"]}, False),
        ({"applications": ["web-*"], "namespaces": ["shop-prod"]}, True),
        ({"applications": ["web-*"], "namespaces": ["shop-prod"], "andOperator": True}, False),
        ({"applications": ["api-*"], "namespaces": ["shop-prod"], "andOperator": True}, True),
        ({"applications": ["api-*"], "clusters": ["prod-eu"], "andOperator": True}, True),
        ({"applications": ["api-*"], "clusters": ["prod-us"], "andOperator": True}, False),
        ({"clusters": ["https://eu.example"]}, False),
        ({"namespaces": ["shop-*"]}, True),
    ],
)
def test_a_window_selects_as_argo_cd_says(window: dict[str, Any], *, selected: bool) -> None:
    destination = {"name": "prod-eu", "namespace": "shop-prod"}
    one = Application(name="api-prod", namespace=None, project="shop", destination=destination, place=None)
    assert selects(window, one) is selected


# --- whole repos ----------------------------------------------------------------------------------------------------


def judged(root: Path, *windows: dict[str, Any], where: str = "prod", **spec: Any) -> Verdict:
    head = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject"}
    body = {**head, "metadata": {"name": "shop", "namespace": "argocd"}, "spec": {"syncWindows": list(windows), **spec}}
    files = {
        "releasegate.toml": ON,
        "objects/map.yaml": CONFIG_MAP,
        "argocd/project.yaml": yamlio.dump(body),
        "argocd/prod/api.yaml": application("api-prod"),
        "argocd/prod/web.yaml": application("web-prod"),
        "argocd/dev/api.yaml": application("api-dev"),
    }
    return verdicts(write(root, files), RULE)[where]


def messages(root: Path, *windows: dict[str, Any]) -> list[str]:
    return [one.message for one in judged(root, *windows).findings]


def test_a_window_that_lets_people_through_passes(tmp_path: Path) -> None:
    verdict = judged(tmp_path, {**DENY, "manualSync": True}, {**ALLOW, "manualSync": True})
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 2)


def test_a_deny_window_closes_while_it_is_open_and_is_found_where_it_is_written(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, {**DENY, "timeZone": "Europe/Berlin"}).findings
    assert found.message == (
        'deny window "0 16 * * 5" for 64h (Europe/Berlin) of AppProject shop (argocd/project.yaml:1) keeps people from '
        "syncing api-prod, web-prod while it is open: 64 of 168 hours a week"
    )
    assert found.place is not None
    lines = (tmp_path / "argocd/project.yaml").read_text().splitlines()
    assert lines[(found.place.line or 0) - 1].strip().removeprefix("- ") == "applications:"  # its first key, as dumped


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ([ALLOW], "118 of 168 hours a week"),
        ([ALLOW, {**ALLOW, "schedule": "0 18 * * 1-5", "manualSync": True}], "68 of 168 hours a week"),
        # Where a deny window lets people through, an allow window is not asked.
        ([ALLOW, {**DENY, "manualSync": True}], "56 of 168 hours a week"),
        ([{**DENY, "schedule": "*/30 * * * *", "duration": "15m"}], "84 of 168 hours a week"),
        ([{**DENY, "schedule": "0 0 * * *", "duration": "10m"}], "1.17 of 168 hours a week"),
        (
            [{**DENY, "schedule": "0 0 * * 0", "duration": "24h"}, {**DENY, "manualSync": True}],
            "24 of 168 hours a week",
        ),
    ],
)
def test_the_hours_of_a_week_that_are_closed(tmp_path: Path, windows: list[dict[str, Any]], said: str) -> None:
    (message,) = messages(tmp_path, *windows)
    assert said in message


def test_a_window_of_some_days_of_the_month_is_told_for_the_coming_weeks(tmp_path: Path) -> None:
    (message,) = messages(tmp_path, {**DENY, "schedule": "0 0 1 * *", "duration": "24h"})
    assert "in the coming 53 weeks, 24 of 168 in the worst" in message


def test_deny_wins_over_allow_and_both_are_told(tmp_path: Path) -> None:
    deny = {**DENY, "schedule": "0 10 * * 1", "duration": "1h"}
    found = messages(tmp_path, ALLOW, deny)
    assert len(found) == 2
    assert any("1 of 168 hours a week" in one for one in found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedule": "@weekly"}, "refuses every sync of api-prod, web-prod: Argo CD takes no descriptors"),
        ({"schedule": "0 16 * * 7"}, "'7' is not within 0-6"),
        ({"duration": "2d"}, "no unit for days"),
        ({"duration": "0"}, "open for no time at all"),
        ({"schedule": "0 0 30 2 *"}, "that time never comes"),
        ({"timeZone": "Europe/Bern"}, "there is no such time zone; Argo CD takes UTC"),
        ({"timeZone": "../../etc/passwd"}, "there is no such time zone"),
        ({"kind": "block"}, "neither allow nor deny"),
        ({"applications": []}, "names no applications, namespaces or clusters"),
    ],
)
def test_a_window_that_does_not_say_what_it_seems_to_is_found(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    (message, *_) = messages(tmp_path, {**DENY, "manualSync": True, **change})
    assert said in message


def test_a_window_for_one_environment_is_no_subject_of_another(tmp_path: Path) -> None:
    verdict = judged(tmp_path, {**DENY, "applications": ["*-prod"]}, where="dev")
    assert (verdict.outcome, verdict.subjects) == (Outcome.NOT_APPLICABLE, 0)


def test_a_window_that_selects_nothing_here_is_advice(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, {**DENY, "applications": ["*-production"], "manualSync": True}).findings
    assert found.advice
    assert "selects no Application" in found.message


def test_windows_of_a_project_outside_git_are_not_judged(tmp_path: Path) -> None:
    files = {"releasegate.toml": ON, "objects/map.yaml": CONFIG_MAP, "argocd/prod/api.yaml": application()}
    assert verdicts(write(tmp_path, files), RULE)["prod"].outcome is Outcome.NOT_EVALUATED


def test_the_bad_example_of_the_page_is_bad_and_the_good_one_good(tmp_path: Path) -> None:
    from releasegate.rules import catalogue  # noqa: PLC0415 - only here

    doc = next(one for one in catalogue() if one.id == RULE).doc
    for name, text in zip(("bad", "good"), doc.split("Bad:", 1)[1].split("Good:", 1), strict=True):
        body = yamlio.load(textwrap.dedent(text))
        (window,) = body["spec"]["syncWindows"]
        assert len(judged(tmp_path / name, window).findings) == (name == "bad")
