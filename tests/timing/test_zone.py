"""Zones as spans, and the one function that knows gaps and folds, against the rule of PEP 495."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from _calendar_oracle import ZONES

from bgsched._calendar.zone import Fold, Gap, Unambiguous, Zone

EPOCH = datetime(1970, 1, 1)


def second(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(seconds=1)


def offsets(local: int, zone: ZoneInfo) -> list[int]:
    """Return the offsets of both folds: equal, falling (a fold) or rising (a gap), says PEP 495."""
    reading = EPOCH + timedelta(seconds=local)
    found = [reading.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)]
    return [offset // timedelta(seconds=1) for offset in found if offset is not None]


@pytest.mark.parametrize("key", [*ZONES, "UTC", "Pacific/Kwajalein", "Antarctica/Casey", "America/Los_Angeles"])
def test_every_edge_of_every_span(key: str) -> None:
    """The seconds around each edge: three outcomes, the right instants, and bounds that are exact."""
    zone, info = Zone(key), ZoneInfo(key)
    for span in zone.spans(second(datetime(1970, 1, 1)), second(datetime(2038, 1, 1))):
        begin, end = span.start + span.offset, span.end + span.offset
        for local in {span.lo - 1, span.lo, span.hi - 1, span.hi, begin, end - 1, end}:
            first, last = offsets(local, info)
            match zone.resolve(local):
                case Unambiguous(at):
                    assert first == last
                    assert at == local - first
                case Fold(earlier, later):
                    assert first > last
                    assert (earlier, later) == (local - first, local - last)
                case Gap(_, local_start, local_end):
                    assert first < last
                    assert (local_end - local_start) == last - first
                    assert local_start <= local < local_end
            if begin <= local < end:
                assert (span.lo <= local < span.hi) == (first == last)


@pytest.mark.parametrize("key", ["Africa/Casablanca", "America/New_York", "Australia/Lord_Howe"])
def test_offsets_of_the_years_to_come(key: str) -> None:
    """Six times a day for three stretches of years, the last Ramadan of the zone database among them."""
    zone, info = Zone(key), ZoneInfo(key)
    for year in (2037, 2085, 2100):
        at = datetime(year, 1, 1, tzinfo=UTC)
        while at.year < year + 4:
            offset = at.astimezone(info).utcoffset()
            assert offset is not None
            assert zone.offset(second(at.replace(tzinfo=None))) == offset // timedelta(seconds=1)
            at += timedelta(hours=4)


def asked_daily(key: str) -> list[datetime]:
    """Return the noons of the years to come at which the zone says another offset than zoneinfo."""
    zone, info = Zone(key), ZoneInfo(key)
    noons = (datetime(2038, 1, 1, 12, tzinfo=UTC) + timedelta(days=day) for day in range(64 * 365))
    return [
        at
        for at in noons
        if timedelta(seconds=zone.offset(second(at.replace(tzinfo=None)))) != at.astimezone(info).utcoffset()
    ]


@pytest.mark.parametrize("key", ["Africa/Casablanca", "Asia/Gaza", "Asia/Hebron"])
def test_each_day_of_the_zones_with_tables_of_the_years_to_come(key: str) -> None:
    """The clocks of Palestine go forward for a week after the Ramadan of 2054, and before that of 2072."""
    assert asked_daily(key) == []


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(available_timezones()))
def test_each_day_of_every_zone(key: str) -> None:
    assert asked_daily(key) == []


def test_the_calendar_of_a_zone_repeats_after_400_years() -> None:
    zone = Zone("America/New_York")
    cycle = 146_097 * 86_400
    near = zone.spans(second(datetime(2150, 1, 1)), second(datetime(2153, 1, 1)))
    far = zone.spans(second(datetime(2150, 1, 1)) + 19 * cycle, second(datetime(2153, 1, 1)) + 19 * cycle)
    assert [span.offset for span in far] == [span.offset for span in near]
    assert [span.start - 19 * cycle for span in far] == [span.start for span in near]
    assert [span.hi - 19 * cycle for span in far] == [span.hi for span in near]
