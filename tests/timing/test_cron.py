"""Cron: croniter and cronsim as second oracles, what is refused, and Quartz's dialect."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from _calendar_specs import built_or_none, crons
from croniter import croniter
from cronsim import CronSim
from hypothesis import HealthCheck, given, settings, strategies as st

from bgsched import timing as t
from bgsched._cron import parse_cron
from bgsched.errors import CronError, TimingError

# Away from transitions: between 1 April and 1 September nothing moves in any of these.
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu")
START = datetime(2026, 4, 10, 12, 34, 56, tzinfo=UTC)
END = datetime(2026, 9, 1, tzinfo=UTC)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def ours(expression: str, zone: str, **options: str) -> list[datetime]:
    schedule = t.Schedule(t.Cron(expression, **options), timezone=zone)  # type: ignore[arg-type]
    return list(islice(schedule.fire_times(START, END), 40))


def in_utc(found: list[datetime]) -> list[datetime]:
    return [at.astimezone(UTC) for at in found if at <= END][:40]


@given(spec=crons(datetime(2026, 5, 15, 2, 30)), zone=st.sampled_from(ZONES))
@MANY
def test_agrees_with_croniter(spec: object, zone: str) -> None:
    cron = built_or_none(spec)  # type: ignore[arg-type]
    if not isinstance(cron, t.Cron):
        return
    text = cron.expression
    if cron.dialect == "quartz" or "L" in text.split()[4] or "W" in text or "#" in text:
        return  # its own spelling, or one that croniter combines differently; see the table below
    local = START.astimezone(ZoneInfo(zone))
    iterator = croniter(text, local, ret_type=datetime, implement_cron_bug=True)
    theirs = list(islice(iterator.all_next(datetime), 40))
    assert ours(text, zone) == in_utc(theirs)


@given(spec=crons(datetime(2026, 5, 15, 2, 30)), zone=st.sampled_from(ZONES))
@MANY
def test_agrees_with_cronsim(spec: object, zone: str) -> None:
    cron = built_or_none(spec)  # type: ignore[arg-type]
    if not isinstance(cron, t.Cron):
        return
    text = cron.expression
    if cron.dialect == "quartz" or "W" in text or re.search("[a-z]L", text):
        return
    theirs = list(islice(CronSim(text, START.astimezone(ZoneInfo(zone))), 40))
    assert ours(text, zone) == in_utc(theirs)


NEW_YORK = ZoneInfo("America/New_York")


def of_croniter(expression: str, start: datetime, n: int, **options: bool) -> list[str]:
    found = croniter(expression, start, ret_type=datetime, **options)
    return [f"{next(found):%m-%d %H:%M}" for _ in range(n)]


def of_ours(expression: str, start: datetime, n: int, zone: str = "UTC") -> list[str]:
    schedule = t.Schedule(t.Cron(expression), timezone=zone)
    return [f"{at.astimezone(ZoneInfo(zone)):%m-%d %H:%M}" for at in islice(schedule.fire_times(start), n)]


class TestKnownDisagreements:
    """Each row: the expression, what we do, what the other does. We are right because the comment says so."""

    def test_a_fixed_time_in_a_fold_fires_once_croniter_twice(self) -> None:
        """Debian's cron runs a fixed time once; an invoice sent twice is worse than one sent late."""
        night = datetime(2024, 11, 2, 23, tzinfo=NEW_YORK)
        assert of_ours("30 1 * * *", night, 2, "America/New_York") == ["11-03 01:30", "11-04 01:30"]
        assert of_croniter("30 1 * * *", night, 2) == ["11-03 01:30", "11-03 01:30"]

    def test_a_star_with_a_step_in_a_day_field_means_and_croniter_says_or(self) -> None:
        """Vixie: a day field that begins with a star leaves the other one to decide."""
        start = datetime(2026, 1, 1, tzinfo=UTC)
        assert of_ours("0 0 */1 * 1", start, 2) == ["01-05 00:00", "01-12 00:00"]
        assert of_croniter("0 0 */1 * 1", start, 2) == ["01-02 00:00", "01-03 00:00"]
        assert of_croniter("0 0 */1 * 1", start, 2, implement_cron_bug=True) == ["01-05 00:00", "01-12 00:00"]

    def test_equal_ends_of_a_range_are_refused_croniter_takes_the_whole_field(self) -> None:
        with pytest.raises(CronError, match="write 5 or"):
            t.Cron("5-5 * * * *")
        assert of_croniter("5-5 * * * *", datetime(2026, 1, 1, tzinfo=UTC), 2) == ["01-01 00:01", "01-01 00:02"]

    def test_a_start_at_the_highest_value_is_refused_croniter_changed_its_mind(self) -> None:
        """croniter 6 read ``59/15`` as ``*/15``, croniter 7 reads it as 59."""
        with pytest.raises(CronError, match="write 59"):
            t.Cron("59/15 * * * *")

    def test_a_vanished_day_is_skipped_the_others_fire_at_midnight_of_the_next(self) -> None:
        """30 December 2011 does not exist in Apia, like 30 February."""
        apia = ZoneInfo("Pacific/Apia")
        start = datetime(2011, 12, 29, 12, tzinfo=apia)
        assert of_ours("0 9 * * *", start, 1, "Pacific/Apia") == ["12-31 09:00"]
        assert of_croniter("0 9 * * *", start, 1) == ["12-31 00:00"]
        assert f"{next(CronSim('0 9 * * *', start)):%m-%d %H:%M}" == "12-31 00:00"

    def test_the_second_pass_of_an_odd_fold_is_read_croniter_misses_it(self) -> None:
        """Chatham goes back from 03:45 to 02:45: its clock reads 02:50 twice."""
        start = datetime(2026, 4, 5, 2, 40, tzinfo=ZoneInfo("Pacific/Chatham"))
        assert of_ours("*/10 */2 * * *", start, 3, "Pacific/Chatham") == ["04-05 02:50", "04-05 02:50", "04-05 04:00"]
        assert of_croniter("*/10 */2 * * *", start, 2) == ["04-05 02:50", "04-05 04:00"]

    def test_an_open_weekday_step_that_would_reach_sunday_is_refused(self) -> None:
        """``1/3`` ends at 6 to croniter, at 7 (Sunday) to cronsim."""
        with pytest.raises(CronError, match="write 1-6/3 or 1-7/3"):
            t.Cron("0 0 * * 1/3")
        assert of_croniter("0 0 * * 1/3", datetime(2026, 1, 2, tzinfo=UTC), 2) == ["01-05 00:00", "01-08 00:00"]
        assert f"{next(CronSim('0 0 * * 1/3', datetime(2026, 1, 2, tzinfo=UTC))):%m-%d}" == "01-04"

    def test_sunday_as_end_of_a_named_range_is_refused(self) -> None:
        """``sat-sun`` is 6-0: an error to Vixie, a wrap to others."""
        with pytest.raises(CronError, match="write 6,0"):
            t.Cron("0 0 * * sat-sun")


REFUSED = [
    ("R * * * *", "minute", "different time in each installation"),
    ("H * * * *", "minute", "different time in each installation"),
    ("H(0-30)/5 * * * *", "minute", "different time in each installation"),
    ("@reboot", None, "Immediate"),
    ("@dayly", None, "did you mean '@daily'"),
    ("5-5 * * * *", "minute", "write 5 or"),
    ("59/15 * * * *", "minute", "write 59"),
    ("0 23/6 * * *", "hour", "write 23"),
    ("0 22-2 * * *", "hour", "write 22-23,0-2"),
    ("0 0 * * fri-mon", "day of week", "runs backwards"),
    ("60 * * * *", "minute", "0..59"),
    ("0 24 * * *", "hour", "0..23"),
    ("0 0 0 * *", "day of month", "1..31"),
    ("0 0 1 13 *", "month", "1..12"),
    ("0 0 * * 8", "day of week", "0..7"),
    ("0 0 * fbe *", "month", "did you mean 'feb'"),
    ("0 0 * * tuesday", "day of week", "did you mean 'tue'"),
    ("0 0 * february *", "month", "did you mean 'feb'"),
    ("0 0 * xyz *", "month", "allowed are 1..12 or jan..dec"),
    ("0 0 1,L * *", "day of month", "cannot be one of a list"),
    ("0 0 15W,1 * *", "day of month", "cannot be one of a list"),
    ("0 0 * * 5#2,1", "day of week", "cannot be one of a list"),
    ("0 0 L * 1", "day of month", "allows no day of week"),
    ("0 0 1 * 5#2", "day of week", "allows no day of month"),
    ("0 0 */2 * 5L", "day of week", "allows no day of month"),
    ("0 0 * * L", "day of week", "5L"),
    ("0 0 LW * *", "day of month", "quartz"),
    ("0 0 L-3 * *", "day of month", "quartz"),
    ("0 0 ? * *", "day of month", "quartz"),
    ("0 0 32W * *", "day of month", "1W to 31W"),
    ("0 0 * * 1/3", "day of week", "write 1-6/3 or 1-7/3"),
    ("0 0 * * 5#6", "day of week", "#1 to #5"),
    ("*/0 * * * *", "minute", "between 1 and"),
    ("*/99 * * * *", "minute", "between 1 and"),
    ("*-5 * * * *", "minute", "no range"),
    (", * * * *", "minute", "cannot be read"),
    ("1.5 * * * *", "minute", "cannot be read"),
    ("-5 * * * *", "minute", "cannot be read"),
    ("* * * *", None, "5 fields"),
    ("", None, "5 fields"),
    ("* * * * * *", None, "seconds="),
    ("0 0 31 4 *", "day of month", "never fire"),
    ("0 0 30 2 *", "day of month", "never fire"),
    ("٣ * * * *", None, "ASCII"),
    ("0 " * 200, None, "256"),
]


@pytest.mark.parametrize(("expression", "field", "words"), REFUSED)
def test_what_crons_read_differently_is_refused_with_its_place(expression: str, field: str | None, words: str) -> None:
    with pytest.raises(CronError) as caught:
        t.Cron(expression)
    error = caught.value
    assert words in str(error)
    assert error.field == field
    lines = str(error).splitlines()
    assert lines[1] == f"  {error.expression}"
    if field is not None:
        assert lines[2].strip("^ ") == ""
        start = lines[2].index("^") - 2
        assert " " not in error.expression[start : start + lines[2].count("^")]


QUARTZ_REFUSED = [
    ("0 0 12 * * *", "exactly one"),
    ("0 0 12 ? * ?", "exactly one"),
    ("0 12 * * ?", "6 or 7 fields, got 5"),
    ("@daily", "aliases"),
    ("0 0 24 * * ?", "0..23"),
    ("0 0 0 ? * 0", "1..7"),
    ("0 0 0 ? * 8", "1..7"),
    ("0 0 0 L,1 * ?", "list"),
    ("0 0 0 L-31 * ?", "L-1 to L-30"),
    ("0 0 0 W15 * ?", "15W"),
    ("0 0 0 ? * L5", "cannot be read"),
    ("0 0 0 1 1 ? 2030-2020", "runs backwards"),
    ("0 0 0 1 1 ? 1969", "1970..2099"),
    ("0 0 0 31 4 ?", "never fire"),
    ("0 0 0 29 2 ? 2027", "never fire"),
]


@pytest.mark.parametrize(("expression", "words"), QUARTZ_REFUSED)
def test_what_quartz_refuses(expression: str, words: str) -> None:
    with pytest.raises(CronError, match=words):
        t.Cron(expression, dialect="quartz")


QUARTZ = [
    ("0 0 16 ? * 7L *", ["04-25 16:00", "05-30 16:00"]),  # 7 is Saturday
    ("0 0 12 ? * L", ["04-11 12:00", "04-18 12:00"]),  # alone, L is Saturday
    ("0 0 12 L-3 * ?", ["04-27 12:00", "05-28 12:00"]),
    ("0 0 12 L-30 * ?", ["05-01 12:00", "07-01 12:00"]),  # months of 30 days have no such day
    ("0 0 12 LW * ?", ["04-30 12:00", "05-29 12:00"]),
    ("0 0 12 1W * ?", ["05-01 12:00", "06-01 12:00"]),
    ("0 0 12 15W 8 ?", ["08-14 12:00", "08-16 12:00"]),  # a Saturday in 2026, a Sunday in 2027
    ("0 0 0 ? * FRI-MON", ["04-11 00:00", "04-12 00:00"]),
    ("0 0 22-2 * * ?", ["04-10 22:00", "04-10 23:00"]),
    ("0 /30 12 10 NOV-FEB ?", ["11-10 12:00", "11-10 12:30"]),
    ("0 59/15 12 ? * 6#3", ["04-17 12:59", "05-15 12:59"]),
    ("0 5-5 12 * * ? 2027,2029", ["01-01 12:05", "01-02 12:05"]),
    ("0 0 12 1 1 ? 2029,2027,2029", ["01-01 12:00", "01-01 12:00"]),
    ("0 0 12 1 1 ? */1", ["01-01 12:00", "01-01 12:00"]),
]


@pytest.mark.parametrize(("expression", "expected"), QUARTZ)
def test_quartz_reads_as_quartz_does(expression: str, expected: list[str]) -> None:
    schedule = t.Schedule(t.Cron(expression, dialect="quartz"))
    found = islice(schedule.fire_times(START.replace(hour=18)), 2)
    assert [f"{at:%m-%d %H:%M}" for at in found] == expected


@pytest.mark.parametrize(
    ("year", "expected"), [(2026, "08-14"), (2027, "08-16"), (2028, "08-15"), (2020, "08-14"), (2021, "08-16")]
)
def test_the_nearest_weekday_stays_in_the_month(year: int, expected: str) -> None:
    after = datetime(year, 1, 1, tzinfo=UTC)
    found = t.Schedule(t.Cron("0 0 15W 8 *")).next_fire_time(after)
    assert f"{found:%m-%d}" == expected


def test_the_nearest_weekday_at_the_ends_of_a_month() -> None:
    """1 August 2026 is a Saturday, 31 May 2026 a Sunday: neither leaves its month."""
    first = t.Schedule(t.Cron("0 0 1W 8 *")).next_fire_time(START)
    last = t.Schedule(t.Cron("0 0 31W 5 *")).next_fire_time(START)
    assert (f"{first:%m-%d}", f"{last:%m-%d}") == ("08-03", "05-29")


@pytest.mark.parametrize(
    ("expression", "same"),
    [("*,5 * * * *", "* * * * *"), ("0 7,*/1 * * *", "0 * * * *"), ("0 0 1,* * *", "0 0 * * *"),
     ("0 0 * * mon,*", "0 0 * * *")],
)  # fmt: skip
def test_a_star_in_a_list_is_the_whole_field(expression: str, same: str) -> None:
    found, expected = (t.Schedule(t.Cron(text)).fire_times(START) for text in (expression, same))
    assert list(islice(found, 5)) == list(islice(expected, 5))


@pytest.mark.parametrize(("seconds", "expression"), [("first", "30 0 9 * * *"), ("last", "0 9 * * * 30")])
def test_six_fields_with_the_place_of_the_seconds_said(seconds: str, expression: str) -> None:
    assert ours(expression, "UTC", seconds=seconds)[0] == datetime(2026, 4, 11, 9, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("alias", ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"])
def test_aliases(alias: str) -> None:
    theirs = list(islice(croniter(alias, START, ret_type=datetime).all_next(datetime), 3))
    assert list(islice(t.Schedule(t.Cron(alias)).fire_times(START), 3)) == theirs


def test_the_years_of_a_list_are_put_in_order() -> None:
    schedule = t.Schedule(t.Cron("0 0 12 1 1 ? 2029,2027,2029", dialect="quartz"))
    assert [at.year for at in schedule.fire_times(START)] == [2027, 2029]


def test_an_error_points_at_the_first_field_that_is_wrong() -> None:
    with pytest.raises(CronError) as caught:
        t.Cron("99 25 32 13 8")
    assert caught.value.field == "minute"


def test_croniter_is_asked_once_an_expression() -> None:
    with patch.object(croniter, "expand", wraps=croniter.expand) as expand:
        t.Cron("59 4,3 * jan-mar/2 mon")
    expand.assert_called_once_with("59 4,3 * 1,3 1 0")


def test_blanks_and_case_do_not_matter() -> None:
    assert t.Cron("  0  9 * * MON-FRI ") == t.Cron("0 9 * * MON-FRI")
    assert parse_cron("0 9 * JAN Mon").weekdays == (0,)


BAD_OPTIONS: list[Callable[[], object]] = [
    lambda: t.Cron(5),  # type: ignore[arg-type]
    lambda: t.Cron("* * * * *", dialect="aix"),  # type: ignore[arg-type]
    lambda: t.Cron("* * * * * *", seconds="middle"),  # type: ignore[arg-type]
    lambda: t.Cron("* * * * *", seconds="first"),
    lambda: t.Cron("* * * * * ?", dialect="quartz", seconds="first"),
]


@pytest.mark.parametrize("build", BAD_OPTIONS)
def test_options_are_checked(build: Callable[[], object]) -> None:
    with pytest.raises(TimingError):
        build()


def test_a_cron_error_survives_pickling() -> None:
    import pickle

    with pytest.raises(CronError) as caught:
        t.Cron("61 * * * *")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.field, again.position) == (str(caught.value), "minute", 0)


def test_an_end_of_a_quartz_calendar_is_an_end() -> None:
    last = t.Schedule(t.Cron("0 30 23 31 12 ? 2098-2099", dialect="quartz"), timezone="America/New_York")
    assert last.next_fire_time(START + timedelta(days=80 * 365)) is None


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("0 22-5/3 * * *", "22,1,4"),
        ("0 22-5 * * *", "22-23,0-5"),
        ("* 23-4/2 * * *", "23,1,3"),
        ("0 9 * oct-mar/2 *", "10,12,2"),
        ("0 9 * * fri-mon/2", "5,0"),
    ],
)
def test_a_range_that_runs_backwards_is_told_what_it_may_mean(field: str, meant: str) -> None:
    with pytest.raises(TimingError, match=f"; write {meant}\n"):
        t.Cron(field)
    t.Cron(re.sub(r"\S+-\S+", meant, field))
