"""Timings in words."""

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from dateutil.rrule import weekday

from bgsched._calendar.fields import time_text

if TYPE_CHECKING:
    from bgsched._cron import CronFields

NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NTH = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last"}


def every(n: int, unit: str) -> str:
    """Say ``every minute``, ``every 5 minutes``."""
    return f"every {unit}" if n == 1 else f"every {n} {unit}s"


def joined(items: list[str]) -> str:
    """Say ``a, b and c``."""
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else items[0]


def ordinal(n: int) -> str:
    """Say ``1st``, ``2nd``, ``11th``."""
    suffix = "th" if n % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def _at(at: time | None) -> str:
    return f" at {time_text(at)}" if at is not None else " at the time of the start"


def _days(on: tuple[weekday, ...]) -> str:
    return joined([NAMES[day.weekday] for day in on])


def hourly(n: int, minute: int | None) -> str:
    """Say an Hourly."""
    return every(n, "hour") + (f" at {minute} minutes past" if minute is not None else "")


def daily(at: time | None, n: int, on: tuple[weekday, ...] | None) -> str:
    """Say a Daily."""
    numbers = tuple(day.weekday for day in on) if on is not None else None
    days = {None: every(n, "day"), (0, 1, 2, 3, 4): "every weekday", (5, 6): "every Saturday and Sunday"}
    return (days[numbers] if numbers in days else f"every {_days(on or ())}") + _at(at)


def weekly(on: tuple[weekday, ...], at: time | None, n: int) -> str:
    """Say a Weekly."""
    weeks = {1: "every week", 2: "every second week"}.get(n, f"every {n} weeks")
    return f"{weeks} on {_days(on)}{_at(at)}"


def monthly(day: int | None, on: weekday | None, at: time | None, n: int, short_month: str) -> str:
    """Say a Monthly."""
    months = {1: "every month", 2: "every second month"}.get(n, f"every {n} months")
    if on is not None:
        which = f"the {_NTH.get(on.n or 0, f'{on.n}th')} {NAMES[on.weekday]}"
    else:
        which = f"the {ordinal(day)}" if day is not None and day > 0 else f"day {day}"
    return f"{months} on {which}{_at(at)}" + (" (or the last day)" if short_month == "last" else "")


def cron(fields: "CronFields") -> str:
    """Say a Cron."""
    return f"cron {fields.expression!r}"


def recurrence(rule: str) -> str:
    """Say a Recurrence."""
    return f"recurrence {rule}"


def later(at: datetime, timezone: str | None) -> str:
    """Say a Later."""
    return f"once, at {at:%Y-%m-%d %H:%M:%S}, {'UTC' if at.tzinfo else timezone}"


def schedule(
    frequencies: list[str],
    *,
    start: datetime | None,
    finish: datetime | None,
    timezone: str | None,
    repetitions: int | None,
    exclude: tuple[Any, ...],
    jitter: timedelta,
) -> str:
    """Say a Schedule."""
    parts = [" and ".join(frequencies)]
    parts += [timezone] if timezone else []
    parts += [f"from {start}"] if start else []
    parts += [f"until {finish}"] if finish else []
    parts += [f"{repetitions} times"] if repetitions else []
    parts += [f"except {len(exclude)} exclusions"] if exclude else []
    parts += [f"spread over {jitter}"] if jitter else []
    return ", ".join(parts)


def day(value: date) -> str:
    """Say a date."""
    return f"{value.day} {value:%B %Y}"
