"""What a host may show beside a timing: warnings, and notes on fire times in gaps and folds."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from bgsched import timing as t
from bgsched.errors import TimingError

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
YEAR_BEFORE = datetime(2025, 3, 29, 12, tzinfo=UTC)
MADRID = "Europe/Madrid"
OR = "day of month and day of week are joined by OR, as in every cron: it fires "
SHORT = "months with fewer than 30 days are skipped; short_month='last' takes their nearest day"
FAR = "the next fire time is over a year away, on 29 February 2028 at 00:00"

WARNINGS: list[tuple[t.Frequency | tuple[t.Frequency, ...], list[tuple[str, str]]]] = [
    (t.Daily("09:00"), []),
    (t.Hourly(minute=30), []),
    (t.Monthly(31, at="09:00", short_month="last"), []),
    (t.EverySeconds(2), []),
    (t.EverySeconds(1), [("every-second", "it fires every second")]),
    (t.Cron("* 0 9 * * *", seconds="first"), [("every-second", "it fires every second")]),
    (t.Recurrence("FREQ=SECONDLY"), [("every-second", "it fires every second")]),
    (t.Recurrence("FREQ=SECONDLY;BYSECOND=0"), []),
    (t.Cron("0 0 13 * 5"), [("either-day", OR + "on day 13 of the month or every Friday")]),
    (t.Cron("0 0 9 2,3 mon"), [("either-day", OR + "on day 9 of the month or every Monday in February and March")]),
    (t.Cron("0 0 1-31 * 5"), [("either-day", OR + "every day")]),
    (t.Cron("0 0 */2 * 5"), []),
    (t.Monthly(30, at="09:00"), [("short-month", SHORT)]),
    (t.Monthly(-30, at="09:00"), [("short-month", SHORT)]),
    (t.Cron("0 0 29 2 *"), [("far", FAR)]),
]


@pytest.mark.parametrize(("frequency", "expected"), WARNINGS, ids=repr)
def test_warnings(frequency: t.Frequency, expected: list[tuple[str, str]]) -> None:
    found = t.Schedule(frequency, timezone=MADRID).warnings(NOW)
    assert [(warning.kind, str(warning)) for warning in found] == expected


def test_a_schedule_that_is_over_says_so() -> None:
    schedule = t.Schedule(t.Daily("09:00"), timezone=MADRID, finish=datetime(2026, 1, 1, 9))
    assert [warning.kind for warning in schedule.warnings(NOW)] == ["over"]


GAPS: list[tuple[t.Frequency | tuple[t.Frequency, ...], str, str]] = [
    (t.Daily("02:30"), MADRID, "02:30 does not exist on 29 March 2026 in Europe/Madrid: it fires at 03:00 instead"),
    (t.Cron("*/30 2 * * *"), MADRID, "02:00 does not exist on 29 March 2026 in Europe/Madrid: it does not fire then"),
    (t.Cron("*/10 * * * *"), MADRID, ""),
    (t.Cron("30 2 * * 1-5"), MADRID, ""),
    (t.Daily("00:30"), "Africa/Cairo", "00:30 does not exist on 24 April 2026 in Africa/Cairo: it fires at 01:00 inst"),
    (t.Daily("02:15"), "Australia/Lord_Howe", "02:15 does not exist on 4 October 2026 in Australia/Lord_Howe: it fir"),
    (
        (t.Daily("02:15"), t.Cron("*/15 2 * * *")),
        MADRID,
        "02:15 does not exist on 29 March 2026 in Europe/Madrid: it fires at 03:00 instead",
    ),
]


@pytest.mark.parametrize(("frequency", "zone", "expected"), GAPS, ids=repr)
def test_a_local_time_that_falls_into_the_next_gap(frequency: t.Frequency, zone: str, expected: str) -> None:
    found = [warning.message for warning in t.Schedule(frequency, timezone=zone).warnings(NOW) if warning.kind == "gap"]
    assert [message[: len(expected)] for message in found] == ([expected] if expected else [])


BEYOND: list[dict[str, Any]] = [
    {"finish": datetime(2026, 3, 28)},
    {"start": datetime(2026, 3, 30), "finish": datetime(2026, 5, 1)},
    {"start": NOW, "repetitions": 70},
    {"exclude": date(2026, 3, 29)},
    {"exclude": t.Weekly(t.SU)},
    {"exclude": (datetime(2026, 3, 29), datetime(2026, 4, 1))},
]


@pytest.mark.parametrize("bounds", BEYOND, ids=repr)
@pytest.mark.parametrize("frequency", [t.Daily("02:30"), t.Cron("*/30 2 * * *")], ids=repr)
def test_a_gap_in_which_it_would_not_fire_anyway_is_none(frequency: t.Frequency, bounds: dict[str, Any]) -> None:
    assert t.Schedule(frequency, timezone=MADRID, **bounds).warnings(NOW) == ()


def test_the_first_gap_within_the_bounds_is_warned_of() -> None:
    bounds: dict[str, Any] = {"start": YEAR_BEFORE, "repetitions": 2_000, "exclude": date(2025, 3, 30)}
    (warning,) = t.Schedule(t.Daily("02:30"), timezone=MADRID, **bounds).warnings(YEAR_BEFORE)
    assert warning.message.startswith("02:30 does not exist on 29 March 2026")


@pytest.mark.parametrize("until", ["20260401T000000Z", "20260401T000000"])
def test_a_rule_with_an_end_has_gaps_before_it(until: str) -> None:
    schedule = t.Schedule(
        t.Recurrence(f"FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0;UNTIL={until}"), start=YEAR_BEFORE, timezone=MADRID
    )
    (warning,) = schedule.warnings(NOW)
    assert warning.message == "02:30 does not exist on 29 March 2026 in Europe/Madrid: it fires at 03:00 instead"
    assert schedule.note_on(AFTER_GAP) == "gap: 02:30 does not exist, the clock goes from 02:00 to 03:00"
    assert [found.kind for found in schedule.warnings(datetime(2026, 4, 2, tzinfo=UTC))] == ["over"]


def test_a_vanished_day_is_a_gap_that_swallows() -> None:
    schedule = t.Schedule(t.Daily("09:00"), timezone="Pacific/Apia")
    (warning,) = schedule.warnings(datetime(2011, 6, 1, tzinfo=UTC))
    assert str(warning) == "09:00 does not exist on 30 December 2011 in Pacific/Apia: it does not fire then"


def test_one_shots_have_no_warnings() -> None:
    assert t.Immediate().warnings(NOW) == () == t.Later(NOW).warnings(NOW)


AFTER_GAP = datetime(2026, 3, 29, 1, tzinfo=UTC)
NOTES: list[tuple[t.Frequency, datetime, str]] = [
    (t.Daily("02:30"), AFTER_GAP, "gap: 02:30 does not exist, the clock goes from 02:00 to 03:00"),
    (t.Daily("03:00"), AFTER_GAP, ""),
    (t.Cron("*/30 * * * *"), AFTER_GAP, ""),
    (t.EveryMinutes(30), AFTER_GAP, ""),
    (t.Daily("02:30"), datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "fold: 02:30 happens twice, this is the first"),
    (t.EveryMinutes(30), datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "fold: 02:30 happens twice, this is the second"),
    (t.Daily("02:30"), datetime(2026, 5, 25, 0, 30, tzinfo=UTC), ""),
]


@pytest.mark.parametrize(("frequency", "fire_time", "expected"), NOTES, ids=repr)
def test_the_note_on_a_fire_time(frequency: t.Frequency, fire_time: datetime, expected: str) -> None:
    assert t.Schedule(frequency, timezone=MADRID).note_on(fire_time) == expected


SCHEDULE, LATER, IMMEDIATE = t.Schedule(t.Daily("09:00")), t.Later(NOW), t.Immediate()
QUESTIONS: list[Callable[[Any], object]] = [
    SCHEDULE.next_fire_time,
    SCHEDULE.first_fire_time,
    SCHEDULE.last_fire_time,
    SCHEDULE.warnings,
    SCHEDULE.note_on,
    SCHEDULE.pinned,
    LATER.next_fire_time,
    LATER.first_fire_time,
    LATER.last_fire_time,
    LATER.pinned,
    IMMEDIATE.next_fire_time,
    IMMEDIATE.first_fire_time,
    IMMEDIATE.last_fire_time,
]


@pytest.mark.parametrize("ask", QUESTIONS)
def test_an_instant_without_a_zone_is_refused(ask: Callable[[Any], object]) -> None:
    with pytest.raises(TimingError, match="tzinfo=UTC"):
        ask(datetime(2026, 1, 1))
    with pytest.raises(TimingError, match="must be a datetime with a time zone, got '2026-01-01'"):
        ask("2026-01-01")
