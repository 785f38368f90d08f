"""``bgsched next``: what people type, the rows they see, and what it says to a typing mistake."""

import pytest

from bgsched import timing as t
from bgsched._cli_frequency import EXAMPLES, parse_frequency
from bgsched.cli import main

WORDS: list[tuple[str, t.Frequency]] = [
    ("every 10 seconds", t.EverySeconds(10)),
    ("secondly", t.EverySeconds(1)),
    ("every 15 minutes", t.EveryMinutes(15)),
    ("Every  Minute", t.EveryMinutes(1)),
    ("every 10 secs", t.EverySeconds(10)),
    ("every 5 mins", t.EveryMinutes(5)),
    ("every 2 hrs", t.Hourly(2)),
    ("hourly", t.Hourly()),
    ("hourly at :15", t.Hourly(minute=15)),
    ("every 6 hours at :05", t.Hourly(6, minute=5)),
    ("daily at 02:30", t.Daily("02:30")),
    ("daily at midnight", t.Daily("00:00")),
    ("every day", t.Daily()),
    ("every other day at noon", t.Daily("12:00", every=2)),
    ("every 3 days at 09:00:30", t.Daily("09:00:30", every=3)),
    ("weekdays at 09:00", t.Daily("09:00", on=t.WEEKDAYS)),
    ("every weekend", t.Daily(on=t.WEEKENDS)),
    ("every monday at 9:00", t.Weekly("mon", at="09:00")),
    ("on mon and fri at 10:00", t.Weekly("mon fri", at="10:00")),
    ("weekly on mon fri at 09:00", t.Weekly("mon fri", at="09:00")),
    ("every 2 weeks on mon, thu - sat", t.Weekly("mon thu fri sat", every=2)),
    ("monthly on 15 at 12:00", t.Monthly(15, at="12:00")),
    ("every 3 months on day 31st", t.Monthly(31, every=3)),
    ("monthly on the last day", t.Monthly(-1)),
    ("monthly on last friday at 18:00", t.Monthly(on=t.FR(-1), at="18:00")),
    ("monthly on the 2nd tuesday", t.Monthly(on=t.TU(2))),
    ("@daily", t.Cron("@daily")),
    ("0 9 * * mon-fri", t.Cron("0 9 * * mon-fri")),
    ("0 0 12 ? * 6L", t.Cron("0 0 12 ? * 6L", dialect="quartz")),
    ("RRULE:FREQ=DAILY", t.Recurrence("FREQ=DAILY")),
    ("INTERVAL=2;FREQ=DAILY", t.Recurrence("INTERVAL=2;FREQ=DAILY")),
]


@pytest.mark.parametrize(("text", "expected"), WORDS)
def test_words(text: str, expected: t.Frequency) -> None:
    assert parse_frequency(text) == expected


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_can_be_read(text: str) -> None:
    assert isinstance(parse_frequency(text), t.Frequency)


def test_options_make_it_a_cron_expression() -> None:
    assert parse_frequency("30 0 9 * * *", seconds="first") == t.Cron("30 0 9 * * *", seconds="first")
    assert parse_frequency("0 0 9 * * ?", dialect="quartz") == t.Cron("0 0 9 * * ?", dialect="quartz")


MISTAKES = [
    ("dayly at 9:00", "did you mean 'daily'?; write for example 'every 10 seconds'"),
    ("daily at 9", "'9' is no time of day; write '09:00'"),
    ("daily at 25:00", "got '25:00'"),
    ("daily at 2:30pm", "'2:30pm' is no time of day; write '14:30'"),
    ("daily at 12 am", "'12 am' is no time of day; write '00:00'"),
    ("daily at 13pm", "write it as 00:00 to 23:59"),
    ("daily at 09:00, 17:00", "'09:00, 17:00' are several times; write a cron expression such as '0 9,17 * * *'"),
    ("weekdays at 09:00 and 17:00", "'09:00 and 17:00' are several times"),
    ("daily on mon", "'on' has no meaning here"),
    ("every 10 seconds at 09:00", "'at' has no meaning here"),
    ("hourly at 09:00", "write 'hourly at :15'"),
    ("every 2 weeks", "needs days; write 'weekly on mon fri at 09:00'"),
    ("weekly on mun", "'mun' is no day of the week"),
    ("weekdays on mon", "names days twice"),
    ("monthly", "needs a day; write 'monthly on 15'"),
    ("monthly on last fryday at 9:00", "did you mean 'friday'?"),
    ("first monday at 9:00", "write 'monthly on first monday at 9:00'"),
    ("yearly", "write '@yearly'"),
    ("tomorrow", "cannot be read; write for example"),
    ("@dayly", "did you mean '@daily'?"),
    ("0 9 * * mon-frii", "did you mean 'fri'?"),
    ("0 22-2 * * *", "hour: the range '22-2' runs backwards; write 22-23,0-2"),
    ("* * * *", "5 fields (minute hour day month weekday), got 4"),
    ("FREQ=DALY", "did you mean 'DAILY'?"),
    ("", "5 fields"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES)
def test_a_mistake_is_one_line_on_stderr(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["next", text]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("bgsched next: ")
    assert words in said.err
    assert "Traceback" not in said.err


def test_the_caret_stands_under_the_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["next", "0 9 * * mon-frii"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == ["  0 9 * * mon-frii", "          ^^^^^^^^"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tz", "Europe/Madird"], "did you mean 'Europe/Madrid'?"),
        (["--from", "yesterday"], "--from must be like 2026-03-29"),
        (["--from", "0001-01-01"], "--from 0001-01-01 is outside of the calendar"),
        (["--from", "0001-01-01", "--tz", "Asia/Tokyo"], "--from 0001-01-01 is outside of the calendar"),
        (["--from", "9999-12-31T23:00", "--tz", "America/New_York"], "is outside of the calendar"),
        (["--dialect", "quartz"], "a Quartz expression has 6 or 7 fields"),
        (["--seconds", "first"], "6 fields, got 5"),
    ],
)
def test_an_option_that_cannot_be_read(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["next", "0 9 * * *", *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-3", "x"])
def test_a_count_is_a_number_from_1(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["next", "@daily", "--count", count])
    assert caught.value.code == 2
    assert "no number from 1" in capsys.readouterr().err


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["next", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_rows_of_a_gap_and_a_fold_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    gap = rows(capsys, "daily at 02:30", "--tz", "Europe/Madrid", "-n", "2", "--from", "2026-03-29")
    fold = rows(capsys, "30", "2", "*", "*", "*", "--tz", "Europe/Madrid", "-n", "1", "--from", "2026-10-25")
    assert gap == [
        "every day at 02:30, Europe/Madrid",
        (
            "  Sun 2026-03-29 03:00 CEST  = 2026-03-29 01:00 UTC  "
            "<- gap: 02:30 does not exist, the clock goes from 02:00 to 03:00"
        ),
        "  Mon 2026-03-30 02:30 CEST  = 2026-03-30 00:30 UTC",
        "warning: 02:30 does not exist on 29 March 2026 in Europe/Madrid: it fires at 03:00 instead",
    ]
    assert fold[1] == (
        "  Sun 2026-10-25 02:30 CEST  = 2026-10-25 00:30 UTC  <- fold: 02:30 happens twice, this is the first"
    )


def test_a_first_instant_in_a_gap_is_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "daily at 02:30", "--tz", "Europe/Madrid", "-n", "1", "--from", "2026-03-29T02:30")
    assert found[1].startswith("  Sun 2026-03-29 03:00 CEST")


def test_rows_show_what_precision_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    elapsed = rows(capsys, "every 90 seconds", "-n", "3", "--from", "2026-01-01T00:00:00+00:00")
    assert elapsed[1:] == ["  Thu 2026-01-01 00:00 UTC", "  Thu 2026-01-01 00:01:30 UTC", "  Thu 2026-01-01 00:03 UTC"]
    precise = rows(capsys, "every 1 second", "-n", "1", "--from", "2026-01-01T00:00:00.25")
    assert precise == ["every second, UTC", "  Thu 2026-01-01 00:00:00.250000 UTC", "warning: it fires every second"]


def test_a_rule_says_the_start_from_which_its_seconds_come(capsys: pytest.CaptureFixture[str]) -> None:
    text = "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9;BYMINUTE=0"
    assert rows(capsys, text, "-n", "1", "--from", "2026-01-01T00:00:07") == [
        "every month on the last Friday at 09:00:07, UTC, from 1 January 2026 at 00:00:07",
        "  Fri 2026-01-30 09:00:07 UTC",
    ]


def test_it_begins_now_and_ends_with_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(rows(capsys, "every 10 seconds")) == 1 + 5
    last = rows(capsys, "@daily", "--from", "9999-12-30")
    assert last[1:] == ["  Thu 9999-12-30 00:00 UTC", "warning: there is no fire time left"]
