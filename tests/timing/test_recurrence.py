"""Recurrence rules: dateutil as a second oracle where it can be trusted, and what is ours by design."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr

from bgsched import timing as t
from bgsched._calendar.engine import nth_member
from bgsched.errors import TimingError

START = datetime(2026, 1, 31, 9, 30, 15, tzinfo=UTC)
MANY = 40

RULES = """\
FREQ=DAILY
FREQ=DAILY;INTERVAL=3;BYHOUR=9,17;BYMINUTE=0,30
FREQ=DAILY;BYDAY=MO,WE;INTERVAL=2
FREQ=DAILY;BYMONTH=1,6;BYMONTHDAY=1,-1
FREQ=DAILY;BYHOUR=8,12,16;BYSETPOS=2
FREQ=DAILY;INTERVAL=14;BYDAY=MO,SA
FREQ=DAILY;INTERVAL=14;BYDAY=MO,SA;BYMONTH=2,3
FREQ=DAILY;INTERVAL=14;BYDAY=MO,SA;BYHOUR=1,2;BYSETPOS=-1
FREQ=HOURLY;INTERVAL=24;BYHOUR=9;BYMONTH=3
FREQ=WEEKLY
FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU
FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU
FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;BYMONTH=2,5;WKST=SU
FREQ=WEEKLY;INTERVAL=3;BYMONTH=2,5
FREQ=HOURLY;BYDAY=MO,WE;WKST=SU
FREQ=MONTHLY
FREQ=MONTHLY;INTERVAL=5;BYMONTHDAY=31
FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1
FREQ=MONTHLY;BYDAY=SA;BYHOUR=6,18;BYSETPOS=1,-1
FREQ=MONTHLY;BYDAY=SA;BYHOUR=6,18;BYSETPOS=1,-1;INTERVAL=3
FREQ=MONTHLY;BYMONTHDAY=1;BYHOUR=6,18;BYSETPOS=2
FREQ=YEARLY;BYMONTH=3;BYHOUR=6,18;BYSETPOS=2
FREQ=MONTHLY;BYDAY=5FR,-5MO
FREQ=MONTHLY;BYDAY=2TU,-1FR;BYMONTH=3,9
FREQ=YEARLY
FREQ=YEARLY;INTERVAL=3
FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29
FREQ=YEARLY;BYMONTHDAY=13;BYDAY=FR;BYMONTH=1,2,3,4,5,6,7,8,9,10,11,12
FREQ=YEARLY;BYDAY=20MO,-1SU
FREQ=YEARLY;BYDAY=1SU;BYMONTH=4,10
FREQ=YEARLY;BYYEARDAY=1,100,-1
FREQ=YEARLY;BYWEEKNO=1,20,53;BYDAY=MO,SU
FREQ=YEARLY;BYDAY=MO;BYSETPOS=10,-1
FREQ=HOURLY;INTERVAL=5
FREQ=HOURLY;BYMINUTE=0,15;BYSETPOS=-1
FREQ=HOURLY;BYMINUTE=0,15;BYSETPOS=1,-1
FREQ=MINUTELY;BYHOUR=0,1;BYSECOND=0,1;BYSETPOS=2
FREQ=HOURLY;INTERVAL=7;BYDAY=SA,SU
FREQ=HOURLY;INTERVAL=2;BYHOUR=9,11,13
FREQ=MINUTELY;INTERVAL=45;BYHOUR=8,9
FREQ=MINUTELY;BYSECOND=0,30
FREQ=SECONDLY;INTERVAL=7;BYMINUTE=5
FREQ=SECONDLY;BYSECOND=10,20;BYHOUR=3
FREQ=DAILY;COUNT=7
FREQ=MONTHLY;BYMONTHDAY=-1;COUNT=15
FREQ=HOURLY;INTERVAL=7;COUNT=30
FREQ=HOURLY;INTERVAL=7;BYDAY=SA;COUNT=30
FREQ=YEARLY;INTERVAL=2;COUNT=20
FREQ=WEEKLY;INTERVAL=3;COUNT=20
FREQ=DAILY;UNTIL=20260210T093015
FREQ=DAILY;UNTIL=20260210
"""


@pytest.mark.parametrize("text", RULES.splitlines())
def test_agrees_with_dateutil_in_utc(text: str) -> None:
    schedule = t.Schedule(t.Recurrence(text), start=START)
    naive = rrulestr(text if "WKST" in text else f"{text};WKST=MO", dtstart=START.replace(tzinfo=None))
    theirs = [at.replace(tzinfo=UTC) for at in islice(naive, MANY)]
    ours = list(islice(schedule.fire_times(START - timedelta(days=1)), MANY))
    assert ours == theirs
    assert schedule.count_fire_times(START - timedelta(days=1), theirs[-1]) == len(theirs)


SECOND_OF_ONE = """\
DAILY;BYMINUTE=0;BYSETPOS=2
DAILY;BYMONTHDAY=1;BYSETPOS=2
WEEKLY;BYHOUR=9;BYSETPOS=-2
HOURLY;BYHOUR=0,1;BYSETPOS=2
MINUTELY;BYMINUTE=0,1;BYSETPOS=-2
SECONDLY;BYSECOND=0,1;BYSETPOS=2
"""


@pytest.mark.parametrize("text", SECOND_OF_ONE.splitlines())
def test_the_second_of_one_is_refused(text: str) -> None:
    with pytest.raises(TimingError, match="never fire"):
        t.Recurrence(f"FREQ={text}")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("FREQ=HOURLY;INTERVAL=7;BYHOUR=0;BYDAY=MO;BYMONTHDAY=25", datetime(2012, 3, 25, 0, 0)),
        ("FREQ=MINUTELY;INTERVAL=1440;BYDAY=MO;BYMONTHDAY=13;BYHOUR=9;BYMINUTE=1", datetime(2026, 1, 31, 9, 0)),
        ("FREQ=SECONDLY;INTERVAL=604800;BYDAY=FR;BYMONTHDAY=13", datetime(2026, 1, 31, 9, 0)),
    ],
)
def test_turns_that_never_meet_the_weekday_are_told_by_division(text: str, start: datetime) -> None:
    """They would be searched for through thousands of years; an exclusion of that kind excludes nothing."""
    start = start.replace(tzinfo=UTC)
    with pytest.raises(TimingError, match="would never fire; change"):
        t.Schedule(t.Recurrence(text), start=start)
    schedule = t.Schedule(t.EveryMinutes(1), start=start, exclude=t.Recurrence(text))
    assert schedule.first_fire_time(start) == start


def test_turns_of_four_hundred_years_that_never_meet_the_day() -> None:
    start = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
    with pytest.raises(TimingError, match="would never fire; change"):
        t.Schedule(t.Recurrence(f"FREQ=HOURLY;INTERVAL={146_097 * 24};BYMONTHDAY=1"), start=start)


@pytest.mark.parametrize("count", [2, 1_200])
def test_a_count_is_told_in_steps_where_the_first_second_is_before_the_start(count: int) -> None:
    start = datetime(2034, 3, 12, 7, 0, 0, 1, tzinfo=UTC)
    rule = t.Recurrence(f"FREQ=SECONDLY;BYMONTH=3;BYSETPOS=1;COUNT={count}")
    found = list(t.Schedule(rule, start=start, timezone="America/New_York").fire_times(start))
    first = start.replace(microsecond=0)
    assert found == [first + timedelta(seconds=n) for n in range(1, count + 1)]


STARTS = [
    (datetime(2026, 1, 31, 6, 0, 0, 5), "DAILY", ["02-01 06:00", "02-02 06:00", "02-03 06:00"]),
    (datetime(2026, 1, 31, 6, 0, 0, 5), "HOURLY", ["01-31 07:00", "01-31 08:00", "01-31 09:00"]),
    (datetime(2026, 10, 25, 2, 30, fold=1), "DAILY", ["10-26 02:30", "10-27 02:30", "10-28 02:30"]),
    (datetime(2026, 10, 25, 2, 30), "DAILY", ["10-25 02:30", "10-26 02:30", "10-27 02:30"]),
    (datetime(2026, 3, 29, 2, 30), "DAILY", ["03-29 03:00", "03-30 02:30", "03-31 02:30"]),
]


@pytest.mark.parametrize(("start", "frequency", "expected"), STARTS)
def test_a_count_begins_with_what_can_fire_at_the_start_or_later(
    start: datetime, frequency: str, expected: list[str]
) -> None:
    """Where a schedule is pinned, its start is an instant with microseconds; where it is in a fold, it may be over."""
    schedule = t.Schedule(t.Recurrence(f"FREQ={frequency};COUNT=3"), start=start, timezone="Europe/Madrid")
    found = schedule.fire_times(start.replace(tzinfo=UTC) - timedelta(days=1))
    assert [f"{at.astimezone(ZoneInfo('Europe/Madrid')):%m-%d %H:%M}" for at in found] == expected


def test_once_from_now_on_is_once() -> None:
    now = START.replace(microsecond=5)
    pinned = t.Schedule(t.Recurrence("FREQ=DAILY;COUNT=1")).pinned(now)
    assert list(pinned.fire_times(now)) == [START.replace(microsecond=0) + timedelta(days=1)]


def test_what_follows_the_clock_reads_all_of_the_second_pass_after_a_start_in_the_first() -> None:
    start = datetime(2026, 10, 25, 2, 45)
    schedule = t.Schedule(t.Recurrence("FREQ=HOURLY;BYMINUTE=30"), start=start, timezone="Europe/Madrid")
    assert schedule.first_fire_time(START) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_a_count_that_begins_far_away_is_not_counted_in_windows_of_that_length() -> None:
    """A rule of seconds in March, asked from January: windows of two months would be enumerated, second by second."""
    begin, number, looked_at = 5_000_000, 100_000, 0

    def count(start: int, end: int) -> int:
        nonlocal looked_at
        looked_at += end - start
        return max(end - max(start, begin), 0)

    assert nth_member(lambda place: max(place, begin), count, 0, number, 10**12) == begin + number - 1
    assert looked_at < 4 * number


class TestByDesign:
    def test_positions_count_within_the_whole_first_week(self) -> None:
        """dateutil counts from DTSTART on: to it, the second of that Saturday's week would be a day later."""
        schedule = t.Schedule(t.Recurrence("FREQ=WEEKLY;BYDAY=FR,SA,SU;BYSETPOS=2"), start=START)
        found = list(islice(schedule.fire_times(START - timedelta(1)), 3))
        assert [f"{at:%a %d}" for at in found] == ["Sat 31", "Sat 07", "Sat 14"]

    def test_positions_in_weeks_that_lie_in_two_years(self) -> None:
        schedule = t.Schedule(t.Recurrence("FREQ=WEEKLY;BYDAY=MO,SU;BYSETPOS=-1"), start=START)
        found = schedule.fire_times(datetime(2026, 12, 25, tzinfo=UTC), datetime(2027, 1, 11, tzinfo=UTC))
        assert [f"{at:%a %m-%d}" for at in found] == ["Sun 12-27", "Sun 01-03", "Sun 01-10"]

    def test_the_week_begins_on_monday_whatever_the_calendar_module_was_told(self) -> None:
        """dateutil reads WKST from `calendar.setfirstweekday`, which any library may have called."""
        import calendar

        rule = t.Recurrence("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SU")
        before = calendar.firstweekday()
        calendar.setfirstweekday(calendar.SUNDAY)
        try:
            found = list(islice(t.Schedule(rule, start=START).fire_times(START), 3))
        finally:
            calendar.setfirstweekday(before)
        assert [f"{at:%a %m-%d}" for at in found] == ["Sun 02-01", "Mon 02-09", "Sun 02-15"]

    def test_until_in_utc_is_compared_with_the_instant(self) -> None:
        rule = t.Recurrence("FREQ=DAILY;BYHOUR=23;BYMINUTE=0;BYSECOND=0;UNTIL=20260203T040000Z")
        schedule = t.Schedule(rule, start=START, timezone="America/New_York")
        assert [at.day for at in schedule.fire_times(START)] == [1, 2, 3]
        assert schedule.count_fire_times(START, START + timedelta(days=30)) == 3

    def test_many_a_day_until_an_instant_beside_another(self) -> None:
        rule = t.Recurrence("FREQ=MINUTELY;BYSECOND=0;UNTIL=20260201T000000Z")
        schedule = t.Schedule((rule, t.EveryMinutes(30)), start=START.replace(second=0))
        end = START.replace(second=0) + timedelta(days=2)
        assert schedule.count_fire_times(START, end) == len(list(schedule.fire_times(START, end)))

    def test_a_rule_that_is_over_is_none(self) -> None:
        schedule = t.Schedule(t.Recurrence("FREQ=YEARLY;INTERVAL=5000;BYMONTH=3;BYMONTHDAY=1"), start=START)
        assert [at.year for at in schedule.fire_times(START)] == [2026, 7026]

    def test_seconds_that_a_day_lacks_end_the_search(self) -> None:
        schedule = t.Schedule(t.Recurrence("FREQ=SECONDLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=1"), start=START)
        assert schedule.next_fire_time(datetime(9999, 3, 1, tzinfo=UTC)) is None

    def test_hourly_follows_the_clock_through_gap_and_fold(self) -> None:
        schedule = t.Schedule(t.Recurrence("FREQ=HOURLY;BYMINUTE=30;BYSECOND=0"), start=START, timezone="Europe/Madrid")
        fold = schedule.fire_times(datetime(2026, 10, 24, 23, 45, tzinfo=UTC), datetime(2026, 10, 25, 2, tzinfo=UTC))
        gap = schedule.fire_times(datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 3, 29, 2, tzinfo=UTC))
        assert [f"{at:%H:%M}" for at in fold] == ["00:30", "01:30"]
        assert [f"{at:%H:%M}" for at in gap] == ["00:30", "01:30"]

    def test_the_text_is_kept_in_one_form(self) -> None:
        assert t.Recurrence(" rrule:freq=daily;interval=2; ") == t.Recurrence("FREQ=DAILY;INTERVAL=2")
