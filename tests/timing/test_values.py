"""The values of bgsched.timing: built, shown, stored, asked."""

import datetime as dt
import json
import pickle
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum, StrEnum
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bgsched import timing as t
from bgsched.errors import TimingError

START = datetime(2026, 1, 1, 8, 30, 15, 250, tzinfo=UTC)
TIMINGS = [
    t.Immediate(),
    t.Later(START),
    t.Later(datetime(2026, 3, 29, 2, 30), timezone="Europe/Madrid"),
    t.Schedule(t.EverySeconds(10)),
    t.Schedule(t.EveryMinutes(5), start=START, repetitions=3),
    t.Schedule(t.Hourly(6, minute=15), start=START, timezone="Australia/Lord_Howe"),
    t.Schedule(t.Daily(at="09:00", every=3), timezone="Europe/Madrid", finish=START),
    t.Schedule(t.Daily(on=t.WEEKDAYS), jitter=timedelta(seconds=1.5)),
    t.Schedule(t.Weekly("mon-wed fri", at="23:59:30", every=2), exclude=(date(2026, 12, 25), t.Weekly(t.SU))),
    t.Schedule((t.Monthly(-1), t.Monthly(on=t.TU(2), at="12:00", every=3), t.Monthly(31, short_month="last"))),
    t.Schedule(t.Cron("0 9 * * mon-fri"), exclude=((START, START + timedelta(days=9)),)),
    t.Schedule(t.Cron("0 0 16 ? * 7L *", dialect="quartz"), timezone="America/New_York"),
    t.Schedule(t.Cron("* * * * * 30", seconds="last")),
    t.Schedule(t.Recurrence("FREQ=MONTHLY;BYDAY=-1FR;COUNT=10"), start=START),
]


@pytest.mark.parametrize("timing", TIMINGS, ids=repr)
class TestValue:
    def test_json_comes_back_equal(self, timing: t.Timing) -> None:
        again = t.timing_from_dict(json.loads(json.dumps(timing.to_dict())))
        assert again == timing
        assert hash(again) == hash(timing)

    def test_repr_evaluates_to_an_equal_value(self, timing: t.Timing) -> None:
        assert eval(repr(timing), {**vars(t), "datetime": dt}) == timing

    def test_pickles(self, timing: t.Timing) -> None:
        assert pickle.loads(pickle.dumps(timing)) == timing

    def test_is_immutable(self, timing: t.Timing) -> None:
        with pytest.raises((AttributeError, TypeError)):
            timing.anything = 1  # type: ignore[union-attr]

    def test_speaks(self, timing: t.Timing) -> None:
        assert str(timing) == timing.describe() != repr(timing)

    def test_pinned_twice_is_pinned_once(self, timing: t.Timing) -> None:
        pinned = timing.pinned(START - timedelta(days=400), "Asia/Kathmandu")
        assert pinned.pinned(START, "UTC") == pinned


class Instant(datetime):
    """As libraries for data or for tests have one."""


class Day(date):
    """The same for a date."""


def word(option: str, value: str) -> dict[str, Any]:
    """Return an option whose value is text with a name."""
    return {option: StrEnum("Word", {"NAMED": value}).NAMED}  # type: ignore[attr-defined]


class Number(IntEnum):
    """A number with a name."""

    FIVE = 5


SUBCLASSES: list[tuple[t.Timing, t.Timing]] = [
    (t.Later(Instant(2026, 1, 1), timezone="UTC"), t.Later(datetime(2026, 1, 1), timezone="UTC")),
    (t.Schedule(t.EverySeconds(Number.FIVE), start=Instant(2026, 1, 1, tzinfo=UTC), repetitions=Number.FIVE),
     t.Schedule(t.EverySeconds(5), start=datetime(2026, 1, 1, tzinfo=UTC), repetitions=5)),
    (t.Schedule(t.Hourly(Number.FIVE, minute=Number.FIVE), exclude=Day(2026, 1, 1)),
     t.Schedule(t.Hourly(5, minute=5), exclude=date(2026, 1, 1))),
    (t.Schedule(t.Cron("0 0 9 * * ?", **word("dialect", "quartz"))),
     t.Schedule(t.Cron("0 0 9 * * ?", dialect="quartz"))),
    (t.Schedule(t.Cron("0 9 * * * 5", **word("seconds", "last"))), t.Schedule(t.Cron("0 9 * * * 5", seconds="last"))),
    (t.Schedule(t.Monthly(Number.FIVE, **word("short_month", "last"))),
     t.Schedule(t.Monthly(5, short_month="last"))),
]  # fmt: skip


@pytest.mark.parametrize(("timing", "plain"), SUBCLASSES)
def test_what_is_made_of_subclasses_is_kept_in_the_plain_types(timing: t.Timing, plain: t.Timing) -> None:
    assert timing == plain
    assert repr(timing) == repr(plain)


def times(timing: t.Timing, after: datetime, n: int = 3, zone: str = "UTC") -> list[str]:
    found = islice(timing.fire_times(after), n)
    return [at.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M") for at in found]


def test_a_gap_moves_a_fixed_time_to_its_end_and_a_fold_runs_it_once() -> None:
    daily = t.Schedule(t.Daily("02:30"), timezone="Europe/Madrid")
    assert times(daily, datetime(2026, 3, 28, tzinfo=UTC)) == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]
    assert times(daily, datetime(2026, 10, 24, tzinfo=UTC)) == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


def test_first_fire_time_is_inclusive_and_next_is_strict() -> None:
    schedule = t.Schedule(t.EveryMinutes(5), start=START)
    assert schedule.first_fire_time(START - timedelta(days=1)) == START
    assert schedule.next_fire_time(START) == START + timedelta(minutes=5)
    assert t.Schedule(t.EveryMinutes(5)).first_fire_time(START) == START
    assert t.Immediate().first_fire_time(START) == START
    assert t.Later(START).first_fire_time(START + timedelta(days=1)) == START


class TestOneShots:
    def test_immediate_has_no_fire_time_of_its_own(self) -> None:
        later = START + timedelta(days=1)
        assert t.Immediate().next_fire_time(START) is None
        assert t.Immediate().last_fire_time(later, START) is None
        assert t.Immediate().count_fire_times(START, later) == 0
        assert list(t.Immediate().fire_times(START)) == []

    def test_later_is_one_instant(self) -> None:
        second, day = timedelta(seconds=1), timedelta(days=1)
        later = t.Later(START)
        assert list(later.fire_times(START - day, START + day)) == [START]
        assert list(later.fire_times(START - day, START - second)) == []
        assert later.next_fire_time(START) is None
        assert later.last_fire_time(START) == START == later.last_fire_time(START, START - second)
        assert later.last_fire_time(START - second) is None
        assert later.last_fire_time(START + day, START) is None
        assert later.count_fire_times(START - second, START) == 1
        assert later.count_fire_times(START, START + day) == 0


def test_a_schedule_whose_finish_is_over_cannot_be_pinned() -> None:
    finish = datetime(2026, 1, 1, 9)
    schedule = t.Schedule(t.Daily("09:00"), finish=finish, timezone="Europe/Madrid")
    assert schedule.pinned(datetime(2026, 1, 1, 8, tzinfo=UTC)).first_fire_time(START) is None
    with pytest.raises(TimingError, match="finish 2026-01-01 09:00:00 is over, it is 2026-01-01 08:30:15"):
        schedule.pinned(START)


def test_what_is_no_timing_is_refused_with_a_hint() -> None:
    assert t.checked_timing(TIMINGS[0]) is TIMINGS[0]
    with pytest.raises(TimingError, match=r"got 'daily'$"):
        t.checked_timing("daily")
    with pytest.raises(TimingError, match=r"got Daily\('09:00'\); write Schedule\(Daily\('09:00'\)\)"):
        t.checked_timing(t.Daily("09:00"))


MOMENTS = [
    ("Europe/Madrid", datetime(2026, 3, 29, 2, 30), "03-29 01:00"),  # a gap: its end
    ("Europe/Madrid", datetime(2026, 10, 25, 2, 30), "10-25 00:30"),  # a fold: the first one
    ("Europe/Madrid", datetime(2026, 10, 25, 2, 30, fold=1), "10-25 01:30"),  # or the second
    ("Europe/Madrid", datetime(2026, 7, 1, 2, 30, fold=1), "07-01 00:30"),  # neither: fold has no meaning
    ("Europe/Madrid", datetime(2026, 3, 29, 2, 30, fold=1), "03-29 01:00"),
    ("Pacific/Apia", datetime(2011, 12, 30, 9), "12-30 10:00"),  # a vanished day is not lost: when the 31st began
]


@pytest.mark.parametrize(("zone", "at", "expected"), MOMENTS)
def test_a_naive_moment_is_read_on_the_clock_of_its_zone(zone: str, at: datetime, expected: str) -> None:
    for found in (
        t.Later(at, timezone=zone).first_fire_time(START),
        t.Schedule(t.EveryMinutes(5), start=at, timezone=zone).first_fire_time(datetime(2001, 1, 1, tzinfo=UTC)),
    ):
        assert f"{found:%m-%d %H:%M}" == expected


class TestGapAndFold:
    """One row each for what the oracle finds only by luck."""

    def test_a_star_reads_the_second_pass_though_the_next_match_is_a_year_away(self) -> None:
        schedule = t.Schedule(t.Cron("*/30 1 1 11 *"), timezone="America/New_York")  # the night of the fold of 2026
        found = times(schedule, datetime(2026, 11, 1, 5, 15, tzinfo=UTC), 4)
        assert found == ["11-01 05:30", "11-01 06:00", "11-01 06:30", "11-01 05:00"]

    def test_a_fixed_time_is_not_counted_in_the_second_pass(self) -> None:
        schedule = t.Schedule(t.Daily("02:30"), timezone="Europe/Madrid")
        second_pass = datetime(2026, 10, 25, 1, 10, tzinfo=UTC), datetime(2026, 10, 25, 1, 50, tzinfo=UTC)
        assert schedule.count_fire_times(*second_pass) == 0
        assert schedule.next_fire_time(second_pass[0]) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)

    def test_hourly_at_a_minute_that_a_gap_swallows(self) -> None:
        start = datetime(2026, 3, 8, 1, 45)
        schedule = t.Schedule(t.Hourly(minute=30), start=start, timezone="America/New_York")
        assert times(schedule, datetime(2026, 3, 8, tzinfo=UTC), 1, "America/New_York") == ["03-08 03:30"]

    def test_two_that_coincide_after_a_shift_are_counted_as_one_from_any_instant(self) -> None:
        """Lord Howe's clocks went back by half an hour at 15:00: those of 15:00 and 15:30 are at 15:30 both."""
        start, shift = datetime(1989, 10, 28, 14, tzinfo=UTC), datetime(1990, 3, 3, 15, tzinfo=UTC)
        schedule = t.Schedule(t.Hourly(minute=0), start=start, timezone="Australia/Lord_Howe")
        until = shift + timedelta(hours=12)
        for minutes in range(-90, 180):
            after = shift + timedelta(minutes=minutes)
            assert schedule.count_fire_times(after, until) == len(list(schedule.fire_times(after, until)))

    def test_nothing_on_whole_seconds_lies_between_two_of_them(self) -> None:
        schedule = t.Schedule(t.Cron("* * * * * *", seconds="first"))
        after = datetime(2026, 1, 1, 0, 0, 0, 100, tzinfo=UTC)
        assert schedule.count_fire_times(after, after.replace(microsecond=999)) == 0
        assert schedule.count_fire_times(after, after + timedelta(seconds=1)) == 1


def test_a_stored_schedule_holds_frequencies_and_no_schedules() -> None:
    data: dict[str, Any] = {"type": "schedule", "frequency": {"type": "daily", "at": "09:00"}}
    for _ in range(2000):  # deeper than Python's stack
        data = {**data, "exclude": [data]}
    with pytest.raises(TimingError, match=r"type must be one of everyseconds, .* got 'schedule'"):
        t.timing_from_dict(data)


@pytest.mark.parametrize("place", ["frequency", "start", "exclude", "jitter", "type", "timezone", "repetitions"])
def test_what_is_stored_may_be_deep(place: str) -> None:
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(TimingError) as caught:
        t.timing_from_dict({"type": "schedule", "frequency": {"type": "daily", "at": "09:00"}, place: deep})
    assert len(str(caught.value)) < 300
    with pytest.raises(TimingError):
        t.timing_from_dict(deep)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        {"type": "daily"},
        {"type": "schedule"},
        {"type": "later", "at": "x"},
        {"type": "immediate", "at": 1},
    ],
)
def test_malformed_json_is_refused(data: Any) -> None:
    with pytest.raises(TimingError):
        t.timing_from_dict(data)
