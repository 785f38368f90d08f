"""Every timing in words, as a person reads them beside a field or in the monitor."""

from datetime import UTC, date, datetime, timedelta

import pytest

from bgsched import timing as t

UNIX = [
    ("* * * * *", "every minute"),
    ("*/5 * * * *", "every 5 minutes"),
    ("*/7 * * * *", "at the minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 past the hour"),
    ("0 * * * *", "every hour"),
    ("15 * * * *", "every hour at 15 minutes past"),
    ("1 * * * *", "every hour at 1 minute past"),
    ("0 9 * * *", "every day at 09:00"),
    ("30 9,17 * * *", "every day at 09:30 and 17:30"),
    ("0 9 * * mon-fri", "every weekday at 09:00"),
    ("0 9 * * sat,sun", "every Saturday and Sunday at 09:00"),
    ("0 9 1 * *", "on day 1 of the month at 09:00"),
    ("0 9 1,15 * *", "on days 1 and 15 of the month at 09:00"),
    ("0 0 13 * 5", "on day 13 of the month or every Friday at 00:00"),
    ("0 0 L * *", "on the last day of the month at 00:00"),
    ("0 0 15W * *", "on the day from Monday to Friday nearest to the 15th at 00:00"),
    ("0 0 * * 5L", "on the last Friday of the month at 00:00"),
    ("0 0 * * 5#2", "on the second Friday of the month at 00:00"),
    ("0 0 29 2 *", "on 29 February at 00:00"),
    ("0 0 1 */3 *", "on day 1 of the month in January, April, July and October at 00:00"),
    ("0 0 1-7 * 1", "on days 1 to 7 of the month or every Monday at 00:00"),
    ("0 0 */7 * 1", "on days 1, 8, 15, 22 and 29 of the month if it is a Monday at 00:00"),
    ("*/10 9-17 * * mon-fri", "every 10 minutes from 09:00 to 17:59, every weekday"),
    ("0 9-17 * * *", "every hour from 09:00 to 17:59"),
    ("0 9-17/2 * * *", "every day at 09:00, 11:00, 13:00, 15:00 and 17:00"),
    ("0 */2 * * *", "every 2 hours of the clock"),
    ("0 */5 * * *", "every day at 00:00, 05:00, 10:00, 15:00 and 20:00"),
    ("*/15 2 * * *", "every day at 02:00, 02:15, 02:30 and 02:45"),
    ("5,35 * * * *", "at the minutes 5 and 35 past the hour"),
    ("0-10 3 * * *", "at the minutes 0 to 10 past the hour from 03:00 to 03:59"),
    ("* 3 * * *", "every minute from 03:00 to 03:59"),
    ("0 0-23/2 * * *", "every 2 hours of the clock"),
    ("0 8 * 6-8 mon", "every Monday in June to August at 08:00"),
    ("23 0-20/2 * * *", "every hour at 23 minutes past in the hours 0, 2, 4, 6, 8, 10, 12, 14, 16, 18 and 20"),
    ("@daily", "every day at 00:00"),
    ("0,30 * * * *", "every 30 minutes"),
    ("0 0 1-31 * 1", "every day at 00:00"),
    ("* * 1 * *", "every minute, on day 1 of the month"),
    ("0 1-5,7,9-20 * * *", "every hour in the hours 1 to 5, 7 and 9 to 20"),
    ("0 0 * 2 *", "every day in February at 00:00"),
    ("1-59/2 * * * *", "at the minutes 1 to 59 in steps of 2 past the hour"),
]


@pytest.mark.parametrize(("expression", "words"), UNIX)
def test_a_cron_expression(expression: str, words: str) -> None:
    assert t.Cron(expression).describe() == words


SECONDS = [
    ("*/10 * * * * *", "first", "every 10 seconds"),
    ("* * * * * *", "first", "every second"),
    ("30 0 9 * * *", "first", "every day at 09:00:30"),
    ("0 9 * * * 30", "last", "every day at 09:00:30"),
    ("15 * * * * *", "first", "every minute, 15 seconds past the minute"),
    ("0,30 * 9 * * *", "first", "every 30 seconds from 09:00 to 09:59"),
    (
        "*/7 5 * * * *",
        "first",
        "at seconds 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every minute in the minutes 5 of every hour",
    ),
    ("30 */5 * * * *", "first", "every 5 minutes, 30 seconds past the minute"),
    ("* * 9-17 * * *", "first", "every second from 09:00 to 17:59"),
    ("1,2 1,2 1,2 * * *", "first", "at seconds 1 and 2 of every minute in the minutes 1 and 2 from 01:00 to 02:59"),
]


@pytest.mark.parametrize(("expression", "place", "words"), SECONDS)
def test_a_cron_expression_with_seconds(expression: str, place: str, words: str) -> None:
    assert t.Cron(expression, seconds=place).describe() == words  # type: ignore[arg-type]


QUARTZ = [
    ("0 0 12 * * ?", "every day at 12:00"),
    ("0 15 10 ? * MON-FRI", "every weekday at 10:15"),
    ("0 15 10 L * ?", "on the last day of the month at 10:15"),
    ("0 15 10 L-2 * ?", "2 days before the last day of the month at 10:15"),
    ("0 15 10 LW * ?", "on the day from Monday to Friday nearest to the last day of the month at 10:15"),
    ("0 15 10 ? * 6L 2026-2030", "on the last Friday of the month in 2026 to 2030 at 10:15"),
    ("0 15 10 ? * 6#3", "on the third Friday of the month at 10:15"),
    ("0 0 12 1/5 * ?", "on days 1, 6, 11, 16, 21, 26 and 31 of the month at 12:00"),
    ("0 11 11 11 11 ?", "on 11 November at 11:11"),
    ("0 0/5 14,18 * * ?", "every 5 minutes in the hours 14 and 18"),
    ("0 0 12 ? * L", "every Saturday at 12:00"),
    ("0 0 12 15W 1 ? 2027", "on the day from Monday to Friday nearest to the 15th in January in 2027 at 12:00"),
    ("0 0 0 ? * *", "every day at 00:00"),
    ("0 0 12 L-1 * ?", "1 day before the last day of the month at 12:00"),
    ("0 0 22-2 * * ?", "every day at 00:00, 01:00, 02:00, 22:00 and 23:00"),
    ("0 0 12 1 1 ? 2026/2", "on 1 January in 2026 to 2098 in steps of 2 at 12:00"),
    ("0 0 12 ? * SAT-MON", "every Monday, Saturday and Sunday at 12:00"),
]


@pytest.mark.parametrize(("expression", "words"), QUARTZ)
def test_a_quartz_expression(expression: str, words: str) -> None:
    assert t.Cron(expression, dialect="quartz").describe() == words


FREQUENCIES = [
    (t.EverySeconds(1), "every second"),
    (t.EverySeconds(10), "every 10 seconds"),
    (t.EveryMinutes(1), "every minute"),
    (t.EveryMinutes(90), "every 90 minutes"),
    (t.Hourly(1), "every hour"),
    (t.Hourly(2), "every 2 hours"),
    (t.Hourly(6, minute=15), "every 6 hours at 15 minutes past"),
    (t.Hourly(1, minute=1), "every hour at 1 minute past"),
    (t.Hourly(1, minute=0), "every hour on the hour"),
    (t.Daily(), "every day at the time of the start"),
    (t.Daily("09:00"), "every day at 09:00"),
    (t.Daily("09:00", every=2), "every second day at 09:00"),
    (t.Daily("09:00", every=3), "every 3 days at 09:00"),
    (t.Daily("09:00", on=(t.MO, t.TU, t.WE, t.TH, t.FR)), "every weekday at 09:00"),
    (t.Daily("09:00", on=(t.SA, t.SU)), "every Saturday and Sunday at 09:00"),
    (t.Daily("09:00", on=(t.MO, t.WE)), "every Monday and Wednesday at 09:00"),
    (t.Daily("09:00", on=(t.MO, t.TU, t.WE, t.TH, t.FR, t.SA, t.SU)), "every day at 09:00"),
    (t.Daily("09:00:30"), "every day at 09:00:30"),
    (t.Weekly((t.MO, t.FR), at="09:00", every=2), "every second week on Monday and Friday at 09:00"),
    (t.Weekly((t.MO,)), "every week on Monday at the time of the start"),
    (t.Weekly((t.MO, t.TU, t.WE, t.TH)), "every week on Monday to Thursday at the time of the start"),
    (t.Weekly((t.MO, t.TU, t.WE, t.TH, t.FR, t.SA, t.SU)), "every week on Monday to Sunday at the time of the start"),
    (t.Weekly("Monday, Wednesday and fri"), "every week on Monday, Wednesday and Friday at the time of the start"),
    (t.Weekly((t.SA, t.SU), at="10:00"), "every week on Saturday and Sunday at 10:00"),
    (t.Monthly(1), "on the 1st of every month at the time of the start"),
    (t.Monthly(31), "on the 31st of every month at the time of the start (months without a 31st are skipped)"),
    (
        t.Monthly(31, short_month="last"),
        "on the 31st of every month at the time of the start (in shorter months on the nearest day)",
    ),
    (t.Monthly(-1), "on the last day of every month at the time of the start"),
    (t.Monthly(-2), "on the second to last day of every month at the time of the start"),
    (
        t.Monthly(-31),
        "on the 31st to last day of every month at the time of the start (months with fewer than 31 days are skipped)",
    ),
    (
        t.Monthly(-30, short_month="last"),
        "on the 30th to last day of every month at the time of the start (in shorter months on the nearest day)",
    ),
    (t.Monthly(on=t.TU(+2), at="12:00"), "on the second Tuesday of every month at 12:00"),
    (t.Monthly(on=t.FR(-1), every=3), "on the last Friday of every 3 months at the time of the start"),
    (t.Monthly(on=t.MO(+5)), "on the fifth Monday of every month that has one at the time of the start"),
    (t.Monthly(on=t.MO(-2)), "on the second to last Monday of every month at the time of the start"),
    (t.Monthly(on=t.MO(-5)), "on the fifth to last Monday of every month that has one at the time of the start"),
    (t.Monthly(22, at="01:02:03", every=2), "on the 22nd of every second month at 01:02:03"),
    (t.Monthly(11), "on the 11th of every month at the time of the start"),
]


@pytest.mark.parametrize(("frequency", "words"), FREQUENCIES, ids=repr)
def test_a_frequency(frequency: t.Frequency, words: str) -> None:
    assert frequency.describe() == words == str(frequency)


RULES = [
    ("FREQ=DAILY", "every day at the time of the start"),
    ("FREQ=DAILY;INTERVAL=2;BYHOUR=9;BYMINUTE=0", "every second day at 09:00"),
    ("FREQ=WEEKLY;BYDAY=MO,FR", "every week on Monday and Friday at the time of the start"),
    ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU;WKST=SU", "every second week on Tuesday at the time of the start"),
    ("FREQ=MONTHLY;BYDAY=-1FR", "every month on the last Friday at the time of the start"),
    ("FREQ=MONTHLY;BYMONTHDAY=15,-1", "every month on the 15th and the last day at the time of the start"),
    ("FREQ=MONTHLY;BYDAY=MO,1TU", "every month on every Monday and the first Tuesday at the time of the start"),
    ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "every month on every Friday that is the 13th at the time of the start"),
    ("FREQ=YEARLY;BYMONTH=1,2,3;BYMONTHDAY=1", "every year on the 1st in January to March at the time of the start"),
    ("FREQ=YEARLY;BYYEARDAY=100,-1", "every year on the 100th and the last day of the year at the time of the start"),
    (
        "FREQ=YEARLY;BYWEEKNO=1,20;BYDAY=MO",
        "every year on every Monday in week 1 and week 20 of the year at the time of the start",
    ),
    ("FREQ=HOURLY;INTERVAL=3", "every 3 hours of the clock"),
    ("FREQ=HOURLY;BYMINUTE=0,30", "every hour of the clock at minute 0 and 30"),
    ("FREQ=MINUTELY;BYHOUR=9,10", "every minute of the clock at hour 9 and 10"),
    ("FREQ=SECONDLY;INTERVAL=10", "every 10 seconds of the clock"),
    (
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "every month on every weekday at the time of the start (of these in each month only the last)",
    ),
    (
        "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1,-2;BYHOUR=9;BYMINUTE=0",
        "every month on every Monday and Tuesday at 09:00 (of these in each month only the 1st and the 2nd to last)",
    ),
    ("FREQ=DAILY;COUNT=10", "every day at the time of the start, 10 times"),
    ("FREQ=DAILY;COUNT=1", "every day at the time of the start, 1 time"),
    ("FREQ=DAILY;UNTIL=20261231", "every day at the time of the start, until 31 December 2026 at 00:00"),
    ("FREQ=DAILY;UNTIL=20261231T235959Z", "every day at the time of the start, until 31 December 2026 at 23:59:59 UTC"),
    ("FREQ=DAILY;BYHOUR=9,17", "every day at hour 9 and 17"),
    ("FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=30", "every day at 09:00:30"),
    ("FREQ=MONTHLY;BYDAY=-2MO", "every month on the second to last Monday at the time of the start"),
    ("FREQ=YEARLY;BYDAY=20MO", "every year on the 20th Monday at the time of the start"),
    ("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "every week on Monday to Friday at the time of the start"),
    ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "every year on the 29th in February at the time of the start"),
    ("FREQ=MONTHLY;BYMONTHDAY=1;BYHOUR=9;BYMINUTE=0", "every month on the 1st at 09:00"),
    ("FREQ=DAILY;BYHOUR=0,1,2,3,4,5,6;BYMINUTE=0", "every day at hour 0 to 6 at minute 0"),
    ("FREQ=DAILY;BYSETPOS=1;BYHOUR=9,10", "every day at hour 9 and 10 (of these in each day only the 1st)"),
    ("FREQ=YEARLY;BYWEEKNO=-1;BYDAY=SU;BYHOUR=1", "every year on every Sunday in the last week of the year at hour 1"),
]


@pytest.mark.parametrize(("rule", "words"), RULES)
def test_a_recurrence_rule(rule: str, words: str) -> None:
    assert t.Recurrence(rule).describe() == words


FROM_A_START = [
    ("FREQ=DAILY", "every day at 09:30:15"),
    ("FREQ=DAILY;BYHOUR=9,17", "every day at 09:30:15 and 17:30:15"),
    ("FREQ=DAILY;BYHOUR=9,17;BYSECOND=0", "every day at 09:30 and 17:30"),
    ("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9;BYMINUTE=0", "every month on the last Friday at 09:00:15"),
    ("FREQ=HOURLY;INTERVAL=3", "every 3 hours of the clock at minute 30 at second 15"),
    ("FREQ=HOURLY;BYMINUTE=0;BYSECOND=0", "every hour of the clock at minute 0 at second 0"),
    ("FREQ=MINUTELY;INTERVAL=5;BYHOUR=9", "every 5 minutes of the clock at hour 9 at second 15"),
    ("FREQ=SECONDLY;INTERVAL=5", "every 5 seconds of the clock"),
]


@pytest.mark.parametrize(("rule", "words"), FROM_A_START)
def test_a_recurrence_rule_takes_from_the_start_what_it_leaves_open(rule: str, words: str) -> None:
    schedule = t.Schedule(t.Recurrence(rule), start=datetime(2026, 1, 1, 9, 30, 15, 5, tzinfo=UTC))
    assert str(schedule) == f"{words}, from 1 January 2026 at 09:30:15.000005"


def test_on_whole_minutes_an_hour_is_said_without_them() -> None:
    schedule = t.Schedule(t.Recurrence("FREQ=HOURLY;INTERVAL=3"), start=datetime(2026, 1, 1, 9, tzinfo=UTC))
    assert str(schedule) == "every 3 hours of the clock, from 1 January 2026 at 09:00"


TIMINGS = [
    (
        t.Schedule(
            t.Weekly((t.MO, t.FR), at="09:00", every=2), finish=datetime(2026, 12, 31, 23, 59), timezone="Europe/Madrid"
        ),
        "every second week on Monday and Friday at 09:00, Europe/Madrid, until 31 December 2026",
    ),
    (
        t.Schedule(t.Daily(), start=datetime(2026, 1, 1, 9, 0, tzinfo=UTC)),
        "every day at 09:00, from 1 January 2026 at 09:00",
    ),
    (
        t.Schedule(t.Daily(), start=datetime(2026, 1, 1, 9, 0, 0, 5, tzinfo=UTC)),
        "every day at 09:00, from 1 January 2026 at 09:00:00.000005",
    ),
    (
        t.Schedule(t.Daily(), start=datetime(2026, 1, 1, 9, 0, 7, 5000, tzinfo=UTC)),
        "every day at 09:00:07, from 1 January 2026 at 09:00:07.005",
    ),
    (
        t.Schedule((t.Daily("09:00"), t.Monthly(1))),
        "every day at 09:00 and on the 1st of every month at the time of the start",
    ),
    (
        t.Schedule(
            t.Daily("09:00"),
            exclude=(
                date(2026, 12, 25),
                t.Weekly((t.SA, t.SU)),
                (datetime(2026, 1, 1, 9, 0, tzinfo=UTC), datetime(2026, 1, 1, 10, 0, tzinfo=UTC)),
            ),
        ),
        (
            "every day at 09:00, except 25 December 2026, every week on Saturday and Sunday "
            "and 1 January 2026 at 09:00 to 1 January 2026 at 10:00"
        ),
    ),
    (t.Schedule(t.Daily("09:00"), jitter=timedelta(seconds=90)), "every day at 09:00, spread over 90 seconds"),
    (t.Schedule(t.Daily("09:00"), jitter=timedelta(days=2)), "every day at 09:00, spread over 2 days"),
    (t.Schedule(t.Daily("09:00"), jitter=timedelta(seconds=7200)), "every day at 09:00, spread over 2 hours"),
    (
        t.Schedule(t.Daily("09:00"), jitter=timedelta(seconds=1, microseconds=500000)),
        "every day at 09:00, spread over 1.5 seconds",
    ),
    (
        t.Schedule(t.Daily("09:00"), jitter=timedelta(seconds=1_234_567, microseconds=1)),
        "every day at 09:00, spread over 1234567.000001 seconds",
    ),
    (t.Schedule(t.Daily("09:00"), repetitions=1), "every day at 09:00, 1 time"),
    (
        t.Schedule(
            t.EveryMinutes(5), start=datetime(2026, 1, 1, 9, 0, tzinfo=UTC), timezone="Asia/Kathmandu", repetitions=3
        ),
        "every 5 minutes, Asia/Kathmandu, from 1 January 2026 at 14:45, 3 times",
    ),
    (
        t.Schedule(t.Daily("09:00"), finish=datetime(2026, 1, 1, 9, 0, tzinfo=UTC)),
        "every day at 09:00, until 1 January 2026 at 09:00",
    ),
    (
        t.Schedule(
            t.EveryMinutes(5),
            start=datetime(2026, 1, 1, 9, 0, tzinfo=UTC),
            finish=datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC),
        ),
        "every 5 minutes, from 1 January 2026 at 09:00, until 31 December 2026",
    ),
    (
        t.Schedule(t.EverySeconds(10), finish=datetime(2026, 12, 31, 23, 59, 5, tzinfo=UTC)),
        "every 10 seconds, until 31 December 2026 at 23:59:05",
    ),
    (
        t.Schedule(t.Daily("09:00"), finish=datetime.max.replace(tzinfo=UTC), timezone="Asia/Tokyo"),
        "every day at 09:00, Asia/Tokyo, until 31 December 9999",
    ),
    (
        t.Schedule(t.Daily("09:00"), start=datetime.min.replace(tzinfo=UTC), timezone="America/New_York"),
        "every day at 09:00, America/New_York, from 1 January 1 at 00:00",
    ),
    (
        t.Schedule(t.Cron("* * * * *"), exclude=(t.Cron("* 0-7,18-23 * * *"),)),
        "every minute, except every minute in the hours 0 to 7 and 18 to 23",
    ),
    (t.Immediate(), "immediately"),
    (t.Later(datetime(2026, 1, 1, 9, 0, tzinfo=UTC)), "once, on 1 January 2026 at 09:00, UTC"),
    (t.Later(datetime(2026, 1, 1, 9, 0), timezone="Europe/Madrid"), "once, on 1 January 2026 at 09:00, Europe/Madrid"),
    (
        t.Later(datetime(2026, 1, 1, 9, 0, tzinfo=UTC), timezone="Asia/Tokyo"),
        "once, on 1 January 2026 at 18:00, Asia/Tokyo",
    ),
]


@pytest.mark.parametrize(("timing", "words"), TIMINGS, ids=repr)
def test_a_timing(timing: t.Timing, words: str) -> None:
    assert str(timing) == words
