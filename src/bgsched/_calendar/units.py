"""Instants, local seconds and days as integers, and the way to and from ``datetime``.

datetime arithmetic within one ``ZoneInfo`` compares and subtracts wall clocks and ignores the fold (01:30 EDT equals
01:30 EST), so that the calendar computes with integers and makes one UTC datetime at the very end.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

__all__ = [
    "DAY",
    "EPOCH",
    "FIRST_DAY",
    "FIRST_INSTANT",
    "HORIZON",
    "LAST_DAY",
    "MICRO",
    "date_of",
    "datetime_of",
    "day_of",
    "enumerate_bits",
    "instant_of",
    "local_of",
    "members",
    "naive_of",
    "weekday_of",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_NAIVE = EPOCH.replace(tzinfo=None)
EPOCH_ORDINAL = EPOCH.toordinal()

MICRO = 1_000_000
DAY = 86_400
_MICROSECOND = timedelta(microseconds=1)

FIRST_DAY = 2 - EPOCH_ORDINAL
LAST_DAY = date(9999, 12, 31).toordinal() - EPOCH_ORDINAL
_FIRST_LOCAL, _LAST_LOCAL = (FIRST_DAY - 1) * DAY, (LAST_DAY + 1) * DAY - 1
FIRST_INSTANT = FIRST_DAY * DAY * MICRO
# Nothing fires later: one day short of the last one, so that the local view of every instant (up to +14 h) exists too.
HORIZON = LAST_DAY * DAY * MICRO - 1


def instant_of(moment: datetime) -> int:
    """Return the instant of an aware datetime in microseconds."""
    return (moment - EPOCH) // _MICROSECOND


def datetime_of(instant: int) -> datetime:
    """Return the UTC datetime of an instant in microseconds."""
    return EPOCH + _MICROSECOND * instant  # a third faster than timedelta(microseconds=instant)


def local_of(naive: datetime) -> int:
    """Return the local second of a naive datetime; its microseconds are dropped."""
    delta = naive - EPOCH_NAIVE
    return delta.days * DAY + delta.seconds


def naive_of(local: int) -> datetime:
    """Return the naive datetime of a local second; of one beyond the years 1 to 9999, the nearest one."""
    return EPOCH_NAIVE + timedelta(0, min(max(local, _FIRST_LOCAL), _LAST_LOCAL))


def day_of(value: date) -> int:
    """Return the day number of a date."""
    return value.toordinal() - EPOCH_ORDINAL


def date_of(day: int) -> date:
    """Return the date of a day number."""
    return date.fromordinal(day + EPOCH_ORDINAL)


def weekday_of(day: int) -> int:
    """Return the weekday of a day number, Monday is 0 (1970-01-01 was a Thursday)."""
    return (day + 3) % 7


def members(find: Callable[[int], int | None], start: int, end: int) -> Iterator[int]:
    """Iterate over the members of a set in ``start <= n < end``; *find* finds the first that is not before a number."""
    found = find(start)
    while found is not None and found < end:
        yield found
        found = find(found + 1)


def enumerate_bits(find: Callable[[int], int | None], start: int, end: int) -> int:
    """Return the members of a set in ``start <= n < end`` as a number whose bit i stands for ``start + i``."""
    bits = 0
    for found in members(find, start, end):
        bits |= 1 << (found - start)
    return bits
