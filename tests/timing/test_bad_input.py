"""What a timing refuses, and what its error says to write instead."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any

import pytest
from dateutil.rrule import weekday

from bgsched._calendar import fields
from bgsched.errors import TimingError
from bgsched.timing import (
    FR,
    WEEKDAYS,
    Cron,
    Daily,
    EveryMinutes,
    EverySeconds,
    Hourly,
    Later,
    Monthly,
    Recurrence,
    Schedule,
    Weekly,
    timing_from_dict,
)

NAIVE = datetime(2026, 1, 1)
AWARE = datetime(2026, 1, 1, tzinfo=UTC)
EARLIER = datetime(2025, 1, 1, tzinfo=UTC)


STORED = {"type": "schedule", "frequency": {"type": "daily", "at": "09:00"}}

BAD_VALUES: list[tuple[Callable[[], object], str]] = [
    (lambda: EverySeconds(0), "1.*got 0"),
    (lambda: EverySeconds(1.5), "whole number, got 1.5"),  # type: ignore[arg-type]
    (lambda: EverySeconds(n=True), "whole number, got True"),
    (lambda: EveryMinutes(-1), "1.*got -1"),
    (lambda: Hourly(0), "1.*got 0"),
    (lambda: Hourly(minute=60), r"minute must be 0\.\.59, got 60"),
    (lambda: Hourly(minute=-1), "at least 0, got -1"),
    (lambda: Daily(at="25:00"), "'09:00' or '23:59:30', got '25:00'"),
    (lambda: Daily(at="24:00"), "got '24:00'"),
    (lambda: Daily(at="9"), "got '9'"),
    (lambda: Daily(at=9), "'09:00', got 9"),  # type: ignore[arg-type]
    (lambda: Daily(at=time(9, tzinfo=UTC)), "give the zone as timezone="),
    (lambda: Daily(at=time(9, 0, 0, 1)), "whole second"),
    (lambda: Daily(at="09:00", on=WEEKDAYS, every=2), r"write Weekly\("),
    (lambda: Daily(on="funday"), "'funday' is no day of the week.*did you mean 'sunday'"),
    (lambda: Daily(on="mon-frei"), "'frei' is no day.*did you mean 'fri'"),
    (lambda: Weekly(()), "at least one"),
    (lambda: Weekly("m"), "'m' is no day"),
    (lambda: Weekly("mon + fri"), "'mon-fri', 'mon fri'"),
    (lambda: Weekly(5), r"\(MO, FR\).*got 5"),  # type: ignore[arg-type]
    (lambda: Weekly(weekday(7)), r"must be MO\.\.SU.*got weekday\(7, None\)"),
    (lambda: Monthly(on=FR(1.5)), r"whole number, got weekday\(4, 1.5\)"),  # type: ignore[arg-type]
    (lambda: Weekly(FR(-1)), r"cannot count weeks here.*write FR, or Monthly\(on=FR\(-1\)\)"),
    (Monthly, r"Monthly\(15\), Monthly\(-1\)"),
    (lambda: Monthly(1, on=FR(1)), "a day or a weekday"),
    (lambda: Monthly(day=32), r"day must be 1\.\.31 or -1\.\.-31.*got 32"),
    (lambda: Monthly(day=0), "got 0"),
    (lambda: Monthly(1, short_month="clamp"), "'skip' or 'last', got 'clamp'"),  # type: ignore[arg-type]
    (lambda: Monthly(1, short_month=["last"]), r"'skip' or 'last', got \['last'\]"),  # type: ignore[arg-type]
    (lambda: Monthly(on=FR(1), short_month="last"), "needs a day number"),
    (lambda: Monthly(FR(-1)), r"a number, got FR\(-1\); write Monthly\(on=FR\(-1\)\)"),  # type: ignore[arg-type]
    (lambda: Monthly(on=FR), r"FR\(1\) is the first"),
    (lambda: Monthly(on="fri"), r"FR\(-1\) the last"),
    (lambda: Monthly(on="mon(1) fri(1)"), r"one day such as TU\(2\)"),
    (lambda: Monthly(on="fri(0)"), "count from 1"),
    (lambda: Monthly(on=FR(6)), r"1\.\.5 or -1\.\.-5"),
    (lambda: Cron("61 * * * *"), r"minute.*61"),
    (lambda: Cron("00000000061 * * * *"), r"minute.*'00000000061' is out of range"),
    (lambda: Cron("0 9 * * *", dialect=[]), r"'unix' or 'quartz', got \[\]"),  # type: ignore[arg-type]
    (lambda: Schedule(Cron("0 0 31 4 *")), "never fire"),
    (lambda: Later("tomorrow"), "datetime.datetime, got 'tomorrow'"),  # type: ignore[arg-type]
    (lambda: Later(NAIVE), "timezone='Europe/Madrid'"),
    (lambda: Later(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=9)))), "outside of the calendar"),
    (lambda: Later(datetime(1, 1, 1), timezone="Asia/Tokyo"), "outside of the calendar"),
    (lambda: Later(datetime(9999, 12, 31, 23), timezone="America/New_York"), "outside of the calendar"),
    (lambda: Later(datetime.max.replace(tzinfo=UTC)), "outside of the calendar"),
    (lambda: Schedule("daily"), r"Daily\(at='09:00'\)"),  # type: ignore[arg-type]
    (lambda: Schedule("0 9 * * *"), r"a cron expression is Cron\('0 9 \* \* \*'\)"),  # type: ignore[arg-type]
    (lambda: Schedule(Daily(at="09:00"), start=NAIVE), "timezone='Europe/Madrid'"),
    (lambda: Schedule(Daily(at="09:00"), start=AWARE, finish=EARLIER), "before"),
    (lambda: Schedule(Daily(at="09:00"), repetitions=0), "repetitions must be at least 1"),
    (lambda: Schedule(Daily(at="09:00"), jitter=5), "timedelta.*got 5"),  # type: ignore[arg-type]
    (lambda: Schedule(Daily(at="09:00"), jitter=timedelta(-1)), "from 0 to 3650 days"),
    (lambda: Schedule(Daily(at="09:00"), jitter=timedelta.max), "from 0 to 3650 days, got.*999999999"),
    (lambda: Schedule(Daily(at="09:00"), exclude="sundays"), "got 'sundays'"),  # type: ignore[arg-type]
    (lambda: Schedule(Daily(at="09:00"), exclude=AWARE), "pairs of datetimes"),
    (lambda: Schedule(Daily(at="09:00"), exclude=((AWARE.date(), NAIVE.date()),)), "a pair is made of datetimes"),  # type: ignore[arg-type]
    (lambda: Schedule(Daily(at="09:00"), exclude=(AWARE, EARLIER)), "ends before it begins"),
]

ZONES = [
    ("Europe/Madird", "did you mean 'Europe/Madrid'"),
    ("europe/madrid", "did you mean 'Europe/Madrid'"),
    ("madrid", "did you mean 'Europe/Madrid'"),
    ("utc", "did you mean 'UTC'"),
    *((key, "an abbreviation or a country is no zone$") for key in ("CEST", "BST", "IST", "Spain", "local")),
    ("right/UTC", "write 'UTC'"),
    ("posix/Europe/Madrid", "write 'Europe/Madrid'"),
    ("localtime", "write an IANA name"),
    ("+02:00", "not in the time zone database"),
    ("../UTC", "not in the time zone database"),
    ("Europe", "not in the time zone database"),
    ("", "not in the time zone database"),
    (timezone(timedelta(hours=2)), "IANA name"),
    (5, "IANA name.*got 5"),
]

RULES = [
    ("FREQ=DALY", "did you mean 'DAILY'"),
    ("INTERVAL=2", "FREQ must be one of"),
    ("FREQ=DAILY;INTERVAL=0", r"INTERVAL must be 1\.\.1000000000, got 0"),
    ("FREQ=DAILY;INTERVAL=x", "whole number, got 'X'"),
    ("FREQ=DAILY;COUNT=0", "COUNT must be 1"),
    ("FREQ=DAILY;COUNT=2;UNTIL=20260101", "COUNT or UNTIL, not both"),
    ("FREQ=DAILY;UNTIL=tomorrow", "UNTIL must be like"),
    ("FREQ=DAILY;UNTIL=20260231", "UNTIL must be like"),
    ("FREQ=DAILY;FREQ=DAILY", "twice"),
    ("FREQ=DAILY;BYDY=MO", "did you mean 'BYDAY'"),
    ("FREQ=DAILY;BYDAY=MON", "did you mean 'MO'"),
    ("FREQ=DAILY;BYDAY=2MO", "cannot count weeks with FREQ=DAILY"),
    ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=2MO", "cannot count weeks with BYWEEKNO"),
    ("FREQ=MONTHLY;BYDAY=6MO", r"1\.\.5 or -5\.\.-1, got 6"),
    ("FREQ=YEARLY;BYDAY=54MO", r"1\.\.53"),
    ("FREQ=MONTHLY;BYMONTHDAY=0", r"1\.\.31 or -31\.\.-1, got 0"),
    ("FREQ=WEEKLY;BYMONTHDAY=1", "no meaning with FREQ=WEEKLY"),
    ("FREQ=DAILY;BYSETPOS=1", "needs another BY... part"),
    ("FREQ=DAILY;BYSETPOS=1;BYMINUTE=" + ",".join(map(str, range(60))) + ";BYHOUR=" + ",".join(map(str, range(24)))
     + ";BYSECOND=0,1", "1440"),
    ("FREQ=DAILY;WKST=XX", "WKST must be one of"),
    ("DTSTART:20260101\nRRULE:FREQ=DAILY", "one RRULE only"),
    ("FREQ=DAILY;BYHOUR=٣", "ASCII"),
    ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "never fire"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD_VALUES)
def test_the_error_names_the_value_and_what_to_write(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TimingError, match=f"(?s){message}"):
        make()


@pytest.mark.parametrize(("zone", "message"), ZONES, ids=repr)
def test_a_zone_is_an_iana_name(zone: Any, message: str) -> None:
    with pytest.raises(TimingError, match=message):
        Schedule(Daily(at="09:00"), timezone=zone)


@pytest.mark.parametrize(("rule", "message"), RULES)
def test_a_recurrence_rule_is_checked(rule: str, message: str) -> None:
    with pytest.raises(TimingError, match=message):
        Recurrence(rule)


def test_a_recurrence_rule_is_text() -> None:
    with pytest.raises(TimingError, match="got 5"):
        Recurrence(5)  # type: ignore[arg-type]


DATA: list[tuple[dict[str, Any], str]] = [
    ({"start": "yesterday"}, "got 'yesterday'"),
    ({"start": 5}, "got 5"),
    ({"jitter": "x"}, "number of seconds, got 'x'"),
    ({"jitter": True}, "got True"),
    ({"jitter": float("nan")}, "got nan"),
    ({"jitter": 1e300}, "1e.300"),
    ({"exclude": [5]}, "unreadable in it: 5"),
    ({"exclude": [["2026-01-01T00:00:00+00:00"]]}, "unreadable"),
    ({"frequency": {"type": "dayly"}}, "did you mean 'daily'"),
    ({"frequency": {"type": 5}}, "got 5"),
    ({"frequency": {"type": "daily", "hour": 5}}, "a stored daily has no 'hour'; it may have at, every, on"),
    ({"frequency": {"type": "weekly"}}, "incomplete"),
]


@pytest.mark.parametrize(("change", "message"), DATA)
def test_stored_values_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TimingError, match=message):
        timing_from_dict({**STORED, **change})


def test_null_in_a_stored_value_is_nothing_said() -> None:
    assert timing_from_dict({**STORED, "start": None, "finish": None}) == Schedule(Daily("09:00"))


def test_a_machine_without_a_time_zone_database_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_known_zones", frozenset)
    with pytest.raises(TimingError, match="this machine has no time zone database; pip install tzdata"):
        Schedule(Daily(), timezone="Mars/Olympus")
