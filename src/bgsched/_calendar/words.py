"""Timings in words: the 24-hour clock, no locale, nothing that depends on now."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta

from dateutil.rrule import weekday

from bgsched._calendar.fields import time_text

__all__ = [
    "AT_START",
    "MONTHS",
    "NAMES",
    "at_text",
    "count",
    "daily",
    "day_names",
    "day_text",
    "elapsed",
    "excluded",
    "hourly",
    "instant_text",
    "joined",
    "month_day",
    "monthly",
    "nth_name",
    "ordinal",
    "span_text",
    "turns",
    "until_text",
    "weekly",
]

NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
AT_START = " at the time of the start"
_NTH = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last"}


def joined(items: Iterable[str], word: str = "and") -> str:
    """Say ``a, b and c``."""
    several = list(items)
    return f"{', '.join(several[:-1])} {word} {several[-1]}" if len(several) > 1 else several[0]


def ordinal(n: int) -> str:
    """Say ``1st``, ``2nd``, ``11th``."""
    suffix = "th" if n % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def turns(n: int, unit: str) -> str:
    """Say ``every week``, ``every second week``, ``every 3 weeks``."""
    return {1: f"every {unit}", 2: f"every second {unit}"}.get(n, f"every {n} {unit}s")


def elapsed(n: int, unit: str) -> str:
    """Say ``every second``, ``every 2 seconds``: plain counts, because 'every second second' helps nobody."""
    return f"every {unit}" if n == 1 else f"every {n} {unit}s"


def count(n: int, unit: str) -> str:
    """Say ``1 time``, ``3 times``."""
    return f"{n} {unit}{'' if n == 1 else 's'}"


def at_text(at: time | None, unknown: str) -> str:
    """Say `` at 09:00``."""
    return unknown if at is None else f" at {time_text(at)}"


def day_text(day: date) -> str:
    """Say ``31 December 2026``."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def instant_text(naive: datetime) -> str:
    """Say ``31 December 2026 at 09:00``."""
    seconds = "milliseconds" if naive.microsecond and not naive.microsecond % 1000 else "auto"
    clock = time_text(naive.time()) if not naive.microsecond else naive.time().isoformat(seconds)
    return f"{day_text(naive.date())} at {clock}"


def until_text(naive: datetime) -> str:
    """Say ``until 31 December 2026``, with the time where it is not the end of the day."""
    end_of_day = (naive.hour, naive.minute) == (23, 59) and naive.second in (0, 59)
    return f"until {day_text(naive.date()) if end_of_day else instant_text(naive)}"


def span_text(span: timedelta) -> str:
    """Say ``2 hours``, ``90 seconds``, ``1.5 seconds``."""
    seconds = span.total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= size and not seconds % size:
            return count(int(seconds // size), unit)
    return f"{f'{seconds:f}'.rstrip('0')} seconds"


def day_names(days: Sequence[int]) -> str:
    """Say ``Monday and Friday``, ``Monday to Thursday``."""
    if len(days) > 2 and days[-1] - days[0] == len(days) - 1:  # noqa: PLR2004 - two days are no range
        return f"{NAMES[days[0]]} to {NAMES[days[-1]]}"
    return joined(NAMES[day] for day in days)


def nth_name(n: int, day: int) -> str:
    """Say ``the second Tuesday``, ``the last Friday``, ``the second to last Monday``."""
    if n in _NTH:
        return f"the {_NTH[n]} {NAMES[day]}"
    return f"the {ordinal(n)} {NAMES[day]}" if n > 0 else f"the {_nth(-n)} to last {NAMES[day]}"


def _nth(n: int) -> str:
    return _NTH.get(n, ordinal(n))


def month_day(day: int) -> str:
    """Say ``the 15th``, ``the last day``, ``the second to last day``."""
    if day > 0:
        return f"the {ordinal(day)}"
    return "the last day" if day == -1 else f"the {_nth(-day)} to last day"


def hourly(every: int, minute: int | None) -> str:
    """Say an Hourly."""
    past = "" if minute is None else f" at {count(minute, 'minute')} past" if minute else " on the hour"
    return elapsed(every, "hour") + past


def daily(every: int, on: tuple[weekday, ...] | None) -> str:
    """Say the days of a Daily."""
    days = None if on is None else tuple(day.weekday for day in on)
    if days in {None, tuple(range(7))}:
        return turns(every, "day")
    if days == (0, 1, 2, 3, 4):
        return "every weekday"
    return f"every {joined(NAMES[day] for day in days or ())}"


def weekly(on: tuple[weekday, ...], every: int) -> str:
    """Say the days of a Weekly."""
    return f"{turns(every, 'week')} on {day_names([day.weekday for day in on])}"


def monthly(day: int | None, on: weekday | None, every: int, *, clamp: bool) -> str:
    """Say the day of a Monthly, and what becomes of short months."""
    months = f"of {turns(every, 'month')}"
    if on is not None:
        some = " that has one" if abs(on.n or 0) == 5 else ""  # noqa: PLR2004 - not every month has a fifth
        return f"on {nth_name(on.n or 0, on.weekday)} {months}{some}"
    number = day or 0
    note = ""
    if abs(number) > 28:  # noqa: PLR2004 - February
        lacking = f"without a {ordinal(number)}" if number > 0 else f"with fewer than {-number} days"
        note = " (in shorter months on the nearest day)" if clamp else f" (months {lacking} are skipped)"
    return f"on {month_day(number)} {months}{note}"


def excluded(items: Iterable[str]) -> str:
    """Say what is excluded."""
    return f"except {joined(items)}"
