"""Exclusions, unions, counts and jitter: what is left is what the definition leaves, one by one and when counted."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bgsched import TimingError, timing as t
from bgsched._calendar.exclusion import Union

START = datetime(2026, 1, 1, 0, 0, 0, 250, tzinfo=UTC)
WHOLE = START.replace(microsecond=0)
PLACES = [("America/New_York", (3, 7)), ("America/New_York", (10, 31)), ("Australia/Lord_Howe", (10, 3))]

FREQUENCIES: list[t.Frequency | tuple[t.Frequency, ...]] = [
    t.EverySeconds(605),
    (t.EverySeconds(420), t.EveryMinutes(10)),
    (t.Cron("*/5 * * * *"), t.Hourly(minute=30)),
    (t.Recurrence("FREQ=MINUTELY;INTERVAL=7"), t.Cron("2-59/10 0-23 * * *")),
    (t.Daily("02:11"), t.Cron("31 2 * * *"), t.Daily("09:00")),
]
NOON = datetime(2026, 3, 8, 12, tzinfo=UTC), datetime(2026, 10, 4, 12, tzinfo=UTC)
Excluded = t.Frequency | date | tuple[datetime, datetime]
EXCLUDED: list[tuple[Excluded, Callable[[datetime, datetime], bool]]] = [
    (date(2026, 3, 8), lambda _, local: local.date() == date(2026, 3, 8)),
    (NOON, lambda at, _: NOON[0] <= at < NOON[1]),
    (t.Weekly("sat"), lambda _, local: local.weekday() == 5),
    (t.Monthly(-1), lambda _, local: local.month != (local + timedelta(days=1)).month),
    (t.Cron("* 0-7,18-23 * * *"), lambda _, local: not 8 <= local.hour < 18),
    (t.Cron("0 */2 * * * *", seconds="first"), lambda _, local: not (local.minute % 2 or local.second)),
    (t.Daily("09:00"), lambda _, local: local.time() == time(9)),
    (t.EverySeconds(1200), lambda at, _: (at - START) % timedelta(seconds=1200) == timedelta(0)),
    (t.Recurrence("FREQ=WEEKLY;BYDAY=SU"), lambda _, local: local.weekday() == 6),
    (t.Recurrence("FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0"), lambda _, local: local.time() == time(9)),
    (t.Recurrence("FREQ=HOURLY;BYMINUTE=0;BYSECOND=0"), lambda _, local: local.time() == time(local.hour)),
]


def alone(frequency: t.Frequency, zone: str, after: datetime, until: datetime) -> set[datetime]:
    schedule = t.Schedule(frequency, start=START, timezone=zone)
    found = set(schedule.fire_times(after, until))
    assert schedule.count_fire_times(after, until) == len(found)
    return found


@pytest.mark.parametrize(("zone", "day"), PLACES, ids=str)
@pytest.mark.parametrize("frequency", FREQUENCIES, ids=repr)
def test_what_is_left_is_neither_lost_nor_doubled(
    frequency: t.Frequency | tuple[t.Frequency, ...], zone: str, day: tuple[int, int]
) -> None:
    """Two and a half days around a transition, in a zone of whole hours and in one of half an hour."""
    after = datetime(2026, *day, 3, 1, 2, 3, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    until = after + timedelta(days=2, hours=12)
    several = frequency if isinstance(frequency, tuple) else (frequency,)
    every = set().union(*(alone(item, zone, after, until) for item in several))
    for exclude, covers in EXCLUDED:
        left = {at for at in every if not covers(at, at.astimezone(ZoneInfo(zone)))}
        schedule = t.Schedule(frequency, start=START, timezone=zone, exclude=exclude)
        assert list(schedule.fire_times(after, until)) == sorted(left), exclude
        assert schedule.count_fire_times(after, until) == len(left), exclude
        assert schedule.last_fire_time(until, after) == max(left, default=None), exclude


def test_several_exclusions_add_up() -> None:
    schedule = t.Schedule(
        t.Daily("09:00"), timezone="Europe/Madrid", exclude=(t.Weekly("sat sun"), date(2026, 1, 1), date(2026, 1, 6))
    )
    found = schedule.fire_times(datetime(2025, 12, 31, 12, tzinfo=UTC), datetime(2026, 1, 9, tzinfo=UTC))
    assert [at.day for at in found] == [2, 5, 7, 8]


def test_repetitions_count_what_is_left() -> None:
    schedule = t.Schedule(t.Daily("09:00"), start=WHOLE, exclude=t.Weekly("sat sun"), repetitions=3)
    assert [f"{at:%a %d}" for at in schedule.fire_times(WHOLE)] == ["Thu 01", "Fri 02", "Mon 05"]


def test_days_are_excluded_until_an_instant() -> None:
    """In Madrid, 23:00 UTC is midnight: 3 January is excluded just so, and 4 January is not."""
    until = t.Recurrence("FREQ=DAILY;UNTIL=20260102T230000Z")
    schedule = t.Schedule(t.Daily("09:00"), start=WHOLE, exclude=until, timezone="Europe/Madrid")
    assert schedule.next_fire_time(WHOLE) == datetime(2026, 1, 4, 8, tzinfo=UTC)


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 5000])
def test_many_repetitions(n: int) -> None:
    schedule = t.Schedule((t.EverySeconds(2), t.EverySeconds(3)), start=START, repetitions=n)
    found = list(schedule.fire_times(START - timedelta(seconds=1)))
    assert len(found) == n
    assert found[0] == START
    assert schedule.count_fire_times(START - timedelta(1), START + timedelta(1)) == n


def test_more_repetitions_than_there_are_fire_times() -> None:
    few = t.Schedule(t.Cron("0 0 12 1 1 ? 2026-2028", dialect="quartz"), start=START, repetitions=5)
    assert [at.year for at in few.fire_times(START)] == [2026, 2027, 2028]


def test_an_unpinned_schedule_counts_its_repetitions_from_the_instant_asked_about() -> None:
    schedule = t.Schedule(t.EverySeconds(10), repetitions=3)
    assert list(schedule.fire_times(WHOLE)) == [WHOLE + timedelta(seconds=10), WHOLE + timedelta(seconds=20)]


def test_nothing_lies_in_an_empty_or_reversed_stretch() -> None:
    schedule = t.Schedule((t.EverySeconds(10), t.EverySeconds(7)), start=START)
    assert schedule.count_fire_times(START, START) == 0
    assert schedule.count_fire_times(START + timedelta(1), START) == 0
    assert schedule.last_fire_time(START, START) is None
    assert list(schedule.fire_times(START, START - timedelta(1))) == []


def test_jitter_is_the_same_everywhere_and_within_its_bound() -> None:
    spread = timedelta(seconds=30)
    schedule = t.Schedule(t.EveryMinutes(1), start=WHOLE, jitter=spread)
    fire_times = list(schedule.fire_times(WHOLE, WHOLE + timedelta(hours=5)))
    due = [schedule.due_at(at, "request-1") - at for at in fire_times]
    assert due == [schedule.due_at(at, "request-1") - at for at in fire_times]
    assert due != [schedule.due_at(at, "request-2") - at for at in fire_times]
    assert min(due) >= timedelta(0)
    assert max(due) <= spread
    tenths = {delay // (spread / 10) for delay in due}
    assert tenths >= set(range(10))  # 300 of them reach every tenth of the spread


def test_without_jitter_a_run_is_due_at_its_fire_time() -> None:
    assert t.Schedule(t.EveryMinutes(1)).due_at(WHOLE, "x") == WHOLE
    assert t.Later(WHOLE).due_at(WHOLE, "x") == WHOLE
    assert t.Schedule(t.EveryMinutes(1), jitter=timedelta(microseconds=1)).due_at(WHOLE, "x") - WHOLE <= timedelta(0, 1)


def test_counting_where_most_days_are_empty() -> None:
    mondays = t.Schedule((t.Cron("* * * * 1"), t.Cron("30 0-23 * * 2")), start=WHOLE, exclude=t.Cron("* 12 * * *"))
    assert mondays.count_fire_times(WHOLE, WHOLE + timedelta(days=28)) == 4 * (23 * 60 + 23)
    rare = t.Schedule((t.EverySeconds(60), t.Hourly(120)), start=WHOLE)
    assert rare.count_fire_times(WHOLE, WHOLE + timedelta(days=7)) == 7 * 1440


@pytest.mark.parametrize("interval", ["", ";INTERVAL=2"])
def test_counting_beside_a_rule_that_chooses_seconds(interval: str) -> None:
    rule = t.Recurrence(f"FREQ=MONTHLY{interval};BYDAY=TH,FR;BYHOUR=1,2;BYMINUTE=3;BYSECOND=4;BYSETPOS=1,2,3,-1")
    schedule = t.Schedule((t.EveryMinutes(1), rule), start=WHOLE)
    assert schedule.count_fire_times(WHOLE, WHOLE + timedelta(days=2)) == 2 * 1440 + 3
    assert schedule.count_fire_times(WHOLE, WHOLE + timedelta(days=60)) == 60 * 1440 + (8 if not interval else 4)


def test_more_than_many_repetitions_and_still_too_few() -> None:
    years = t.Schedule(t.Cron("0 0 12 ? * * 2026-2030", dialect="quartz"), start=START, repetitions=5000)
    assert years.count_fire_times(START, datetime(2040, 1, 1, tzinfo=UTC)) == 5 * 365 + 1


def test_repetitions_settled_by_two_threads_are_settled_once() -> None:
    schedule = t.Schedule(t.EverySeconds(1), start=WHOLE, repetitions=3)
    assert schedule._plan is None
    assert schedule.next_fire_time(WHOLE) == WHOLE + timedelta(seconds=1)
    plan = schedule._plan
    assert plan is not None
    plan._settle(0)  # as a thread does that asked while another one was settling
    assert schedule.count_fire_times(WHOLE, WHOLE + timedelta(1)) == 2


def test_counting_before_anything_else_was_asked() -> None:
    schedule = t.Schedule(t.EverySeconds(1), start=WHOLE, repetitions=3)
    assert schedule.count_fire_times(WHOLE - timedelta(1), WHOLE + timedelta(1)) == 3
    again = t.Schedule(t.EverySeconds(1), start=WHOLE, repetitions=3)
    assert again.last_fire_time(WHOLE + timedelta(1)) == WHOLE + timedelta(seconds=2)


MOST_OF_A_YEAR = [t.Cron("* * * 1-11 * *", seconds="last"), t.Cron("* * * 1-11 *")]


@pytest.mark.parametrize("exclude", MOST_OF_A_YEAR, ids=repr)
def test_most_of_a_year_of_seconds_is_excluded(exclude: t.Frequency) -> None:
    schedule = t.Schedule(t.EverySeconds(1), start=WHOLE, timezone="UTC", exclude=exclude)
    assert schedule.next_fire_time(WHOLE) == datetime(2026, 12, 1, tzinfo=UTC)
    assert schedule.count_fire_times(WHOLE, datetime(2026, 12, 1, 0, 1, tzinfo=UTC)) == 61


def test_many_dates_are_excluded_at_the_cost_of_one() -> None:
    days = tuple(date(2026, 1, 1) + timedelta(days=n) for n in range(3000))
    schedule = t.Schedule(t.Daily("09:00"), start=WHOLE, exclude=days)
    assert schedule.next_fire_time(WHOLE) == datetime(2034, 3, 20, 9, tzinfo=UTC)
    assert schedule.count_fire_times(WHOLE, datetime(2034, 3, 21, tzinfo=UTC)) == 1


def test_a_jitter_never_reaches_beyond_the_last_fire_time_that_there_can_be() -> None:
    schedule = t.Schedule(t.Daily("09:00"), jitter=timedelta(days=3650))
    assert schedule.due_at(datetime(9999, 12, 30, 9, tzinfo=UTC), "x") < datetime(9999, 12, 31, tzinfo=UTC)


def test_repetitions_are_counted_only_where_there_may_be_none_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise AssertionError("it counted day by day")

    many = t.Schedule(
        t.Daily("09:00"), start=datetime(2026, 1, 1, tzinfo=UTC), repetitions=10**6, exclude=t.Weekly(t.MO)
    )
    monkeypatch.setattr(Union, "count", refuse)
    assert many.next_fire_time(datetime(2400, 1, 1, tzinfo=UTC)) == datetime(2400, 1, 1, 9, tzinfo=UTC)


def test_repetitions_beside_exclusions_are_all_there() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    some = t.Schedule(t.Daily("09:00"), start=start, repetitions=300, exclude=t.Weekly(t.MO))
    fires = list(some.fire_times(start))
    assert len(fires) == 300
    assert [some.next_fire_time(fire - timedelta(microseconds=1)) for fire in fires] == fires
    again = t.Schedule(t.Daily("09:00"), start=start, repetitions=300, exclude=t.Weekly(t.MO))
    assert again.next_fire_time(fires[-2]) == fires[-1]
    assert again.next_fire_time(fires[-1]) is None
    assert again.count_fire_times(start, fires[-1]) == 300


@pytest.mark.parametrize("bounds", [{"repetitions": 41}, {"finish": START.replace(year=2030)}], ids=str)
def test_nothing_is_searched_for_where_nothing_can_be(bounds: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """After its rule's last fire time everything is excluded, up to the year 9999."""
    looked = counted_looks(monkeypatch)
    schedule = t.Schedule(EXCLUDED_AFTER_A_WHILE, start=WHOLE, exclude=EVERY_FULL_HOUR, **bounds)
    after, until = WHOLE - timedelta(days=1), WHOLE.replace(year=2028)
    number = bounds.get("repetitions", 60)
    found = list(schedule.fire_times(after, until))
    assert schedule.count_fire_times(after, until) == len(found) == number
    assert schedule.last_fire_time(until, after) == schedule.last_fire_time(until) == found[-1]
    assert schedule.next_fire_time(until) is schedule.next_fire_time(found[-1]) is None
    assert looked[0] < 20_000


def test_where_nothing_is_left_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted_looks(monkeypatch)
    schedule = t.Schedule(EXCLUDED_AFTER_A_WHILE, start=WHOLE.replace(year=9900), exclude=EVERY_FULL_HOUR)
    last = schedule.last_fire_time(WHOLE.replace(year=9999))
    assert last is not None
    assert schedule.next_fire_time(last) is None
    once = looked[0]
    for days in range(100):
        assert schedule.next_fire_time(last + timedelta(days=days)) is None
    assert looked[0] - once < 1_000


def test_what_is_excluded_for_ever_is_told_by_division(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted_looks(monkeypatch)
    schedule = t.Schedule(EXCLUDED_AFTER_A_WHILE, start=WHOLE, exclude=t.Hourly())
    last = schedule.last_fire_time(WHOLE.replace(year=2028))
    assert last is not None
    assert schedule.next_fire_time(last) is None
    assert looked[0] < 20_000
    with pytest.raises(TimingError, match="would never fire"):
        t.Schedule(t.EveryMinutes(90), start=WHOLE, exclude=t.EveryMinutes(45))


@pytest.mark.parametrize(("every", "without"), [(90, 60), (60, 90)])
def test_what_is_excluded_now_and_then_goes_on(every: int, without: int) -> None:
    schedule = t.Schedule(t.EveryMinutes(every), start=WHOLE, exclude=t.EveryMinutes(without))
    fires = list(schedule.fire_times(WHOLE - timedelta(days=1), WHOLE + timedelta(hours=6)))
    assert fires == [WHOLE + timedelta(minutes=m) for m in range(0, 361, every) if m % without]


EVERY_FULL_HOUR = t.Cron("0 * * * *")  # unlike Hourly, not told by division to be each of these thirty hours


def test_many_pairs_are_one_exclusion() -> None:
    """A thousand nights, each closed for some hours, in any order, some of them overlapping, some touching."""
    nights = [(WHOLE + timedelta(days=n), WHOLE + timedelta(days=n, hours=6)) for n in range(1000)]
    pairs = [*nights[1::2], (WHOLE, WHOLE + timedelta(hours=3)), *nights[::2], (nights[5][1], nights[6][0])]
    nightly = t.Schedule(t.Daily("02:30"), start=START, exclude=pairs)
    assert nightly.first_fire_time(START) == WHOLE + timedelta(days=1000, hours=2, minutes=30)
    often = t.Schedule((t.EveryMinutes(90), t.Cron("0 */2 * * *")), start=START, exclude=pairs)
    every = t.Schedule(often.frequency, start=START).fire_times(START, START + timedelta(days=9))
    left = [at for at in every if not any(first <= at < last for first, last in pairs)]
    assert list(often.fire_times(START, START + timedelta(days=9))) == left
    assert often.count_fire_times(START, START + timedelta(days=9)) == len(left)


def test_an_excluded_rule_may_end_with_the_calendar() -> None:
    mondays = t.Recurrence("FREQ=WEEKLY;BYDAY=MO;UNTIL=99991231T235959Z")
    schedule = t.Schedule(
        t.Daily("09:00"), start=datetime(2026, 1, 5, tzinfo=UTC), timezone="Asia/Tokyo", exclude=mondays
    )
    assert schedule.first_fire_time(datetime(2026, 1, 5, tzinfo=UTC)) == datetime(2026, 1, 6, tzinfo=UTC)


EXCLUDED_AFTER_A_WHILE = t.EveryMinutes(30 * 60), t.Recurrence("FREQ=DAILY;COUNT=60;BYHOUR=3;BYMINUTE=30")


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a union asks whether an instant is excluded."""
    looked, look = [0], Union._excluded_until

    def counting(union: Union, instant: int) -> int | None:
        looked[0] += 1
        return look(union, instant)

    monkeypatch.setattr(Union, "_excluded_until", counting)
    return looked
