"""The fire times that the ERP's own scheduler gives, row by row; what differs by design is listed here."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bgsched import timing as t
from bgsched.errors import TimingError

CASES = Path(__file__).parent.parent / "cases" / "openbravo.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text().splitlines()]
DATED = [row for row in ROWS if row.get("timing", {}).get("start")]
WEEKDAYS = {"weekdays": t.WEEKDAYS, "weekends": t.WEEKENDS}
NTH = {"first": 1, "second": 2, "third": 3, "fourth": 4}

# Rows about what becomes of a late fire time, not about which fire times there are.
BY_DESIGN = {
    "checkMisfirePolicyWithSecondlySchedule": "late, with repetitions, it counts anew from now; ours keeps its phase",
    "everyNDaysNotExecutedOnMisfire": "relative to now; whether a late fire time runs is the policy of the request",
}


def frequency(data: dict[str, Any]) -> t.Frequency:  # noqa: PLR0911 - a table
    match data["frequency"]:
        case "secondly":
            return t.EverySeconds(data["interval"])
        case "minutely":
            return t.EveryMinutes(data["interval"])
        case "hourly":
            return t.Hourly(data["interval"])
        case "daily" if data.get("daily_option") in WEEKDAYS:
            return t.Daily(on=WEEKDAYS[data["daily_option"]])
        case "daily":
            return t.Daily(every=data.get("interval", 1))
        case "weekly":
            return t.Weekly(data["days"])
        case "cron":
            return t.Cron(data["cron"], dialect="quartz")
    return monthly(data)


def monthly(data: dict[str, Any]) -> t.Monthly:
    option = data["monthly_option"]
    if option == "last_day":
        return t.Monthly(-1)
    if option == "specific_day":
        return t.Monthly(data["day"])
    if option in NTH:
        return t.Monthly(on=f"{data['day_of_week']}({NTH[option]})")
    return t.Monthly()


def timing(data: dict[str, Any]) -> t.Timing:
    zone = data["timezone"].replace("<system>", "Europe/Madrid")
    start = datetime.fromisoformat(data["start"])
    if data["option"] == "later":
        return t.Later(start, timezone=zone)
    finish = datetime.fromisoformat(data["finish"]) if "finish" in data else None
    return t.Schedule(frequency(data), start=start, finish=finish, timezone=zone, repetitions=data.get("repetitions"))


@pytest.mark.parametrize("row", DATED, ids=lambda row: row["source_test"])
def test_fire_times(row: dict[str, Any]) -> None:
    if row["source_test"] in BY_DESIGN:
        assert "<now>" in row["from"]
        return
    if "expected_error" in row:
        with pytest.raises(TimingError):
            timing(row["timing"])
        return
    built = timing(row["timing"])
    zone = ZoneInfo(row["timing"]["timezone"].replace("<system>", "Europe/Madrid"))
    after = datetime.fromisoformat(row["from"]).replace(tzinfo=zone)
    if not row.get("expect_misfire"):
        after -= timedelta(seconds=1)  # the first of the rows is the start itself, where it matches
    found = []
    for fire_time in built.fire_times(after):
        found.append(fire_time.astimezone(zone).replace(tzinfo=None).isoformat())
        if len(found) > len(row["expected"]):
            break
    assert found[: len(row["expected"])] == row["expected"]
    if row.get("ends_after"):
        assert len(found) == len(row["expected"])


def test_immediate() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("UTC"))
    assert t.Immediate().first_fire_time(now) == now
    assert t.Immediate().next_fire_time(now) is None
    assert [row["expected"] for row in ROWS if row["source_test"] == "immediateExecution"] == [["<now>"]]


class TestDifferencesByDesign:
    """The ERP's behaviour comes from Quartz; these are its surprises, and what happens here instead."""

    zone = ZoneInfo("Europe/Madrid")

    def test_a_daily_time_in_the_gap_is_not_lost(self) -> None:
        """Quartz: no run on that day."""
        schedule = t.Schedule(t.Daily("02:30"), timezone="Europe/Madrid")
        found = schedule.next_fire_time(datetime(2026, 3, 28, 12, tzinfo=self.zone))
        assert found == datetime(2026, 3, 29, 3, 0, tzinfo=self.zone)

    def test_a_daily_time_in_the_fold_is_the_first_one(self) -> None:
        """Quartz: the second one, and silence before it."""
        schedule = t.Schedule(t.Daily("02:30"), timezone="Europe/Madrid")
        found = schedule.next_fire_time(datetime(2026, 10, 24, 12, tzinfo=self.zone))
        assert found == datetime(2026, 10, 25, 0, 30, tzinfo=ZoneInfo("UTC"))

    def test_every_n_days_does_not_drift_after_a_gap(self) -> None:
        """Quartz: 02:30 becomes 01:30 for three weeks (quartz issue 1352)."""
        start = datetime(2026, 3, 26, 2, 30)
        schedule = t.Schedule(t.Daily(every=3), start=start, timezone="Europe/Madrid")
        after, until = (datetime(2026, month, day, tzinfo=self.zone) for month, day in ((3, 27), (4, 5)))
        found = [at.astimezone(self.zone) for at in schedule.fire_times(after, until)]
        assert [f"{at:%m-%d %H:%M}" for at in found] == ["03-29 03:00", "04-01 02:30", "04-04 02:30"]

    def test_finish_is_inclusive_in_every_frequency(self) -> None:
        """Quartz: not for seconds, minutes, hours and every n days."""
        start = datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))
        schedule = t.Schedule(t.EveryMinutes(1), start=start, finish=start + timedelta(minutes=2))
        assert schedule.count_fire_times(start - timedelta(1), start + timedelta(1)) == 3
