"""Cron expressions and recurrence rules in words."""

from collections.abc import Callable, Iterable, Sequence
from datetime import time
from math import prod

from bgsched._calendar.fields import time_text
from bgsched._calendar.rule import TIME_PARTS, Rule
from bgsched._calendar.words import (
    MONTHS,
    NAMES,
    at_text,
    count,
    day_names,
    elapsed,
    instant_text,
    joined,
    month_day,
    nth_name,
    ordinal,
    turns,
)
from bgsched._cron import CronFields

__all__ = ["cron", "cron_days", "cron_months", "recurrence"]

_MANY = 6
_LISTED = 12
_EVERY_DAY = 31
_EVERY_WEEKDAY = 7


def cron(fields: CronFields) -> str:
    """Say a Cron: days and times, ``every weekday at 09:00``."""
    clock, often = _cron_times(fields)
    days = cron_days(fields)
    dates = _dates(fields)
    if dates:
        days = f"on {dates}"
    months = "" if dates else cron_months(fields)
    years = "" if fields.years is None else f" in {_ranges(fields.years, str)}"
    if often:
        return f"{clock}{f', {days}' if days else ''}{months}{years}"
    return f"{days or 'every day'}{months}{years} {clock}"


def _dates(fields: CronFields) -> str:
    """Say ``29 February``, if it is about nothing but days of one month."""
    plain = fields.special_day is None and fields.special_weekday is None
    if not plain or len(fields.months) > 1 or len(fields.days) > _MANY or len(fields.weekdays) < _EVERY_WEEKDAY:
        return ""
    return f"{_ranges(fields.days, _number)} {_month(fields.months[0])}" if fields.both_days else ""


def _month(number: int) -> str:
    return MONTHS[number - 1]


def _number(number: int) -> str:
    return str(number)


def _ranges(numbers: Sequence[int], say: Callable[[int], str]) -> str:
    """Say ``1, 3 and 5 to 9``, or ``1 to 59 in steps of 2``."""
    step = numbers[1] - numbers[0] if len(numbers) > _LISTED else 1
    if step > 1 and tuple(numbers) == tuple(range(numbers[0], numbers[-1] + 1, step)):
        return f"{say(numbers[0])} to {say(numbers[-1])} in steps of {step}"
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    parts = []
    for group in groups:
        first, last = say(group[0]), say(group[-1])
        parts += [first] if len(group) == 1 else [first, last] if len(group) == 2 else [f"{first} to {last}"]  # noqa: PLR2004
    return joined(parts)


def _step(numbers: Sequence[int], size: int) -> int | None:
    """Return n if the numbers are every n-th of *size*, from 0 on and without a shorter last step."""
    step = size // len(numbers)
    return step if tuple(numbers) == tuple(range(0, size, step)) and not size % step else None


def _cron_times(fields: CronFields) -> tuple[str, bool]:
    """Say the times of the day, and whether they read as a frequency (``every 5 minutes``) or as ``at 09:00``."""
    seconds, minutes, hours = fields.seconds, fields.minutes, fields.hours
    if len(seconds) * len(minutes) * len(hours) <= _MANY:
        times = [time(hour, minute, second) for hour in hours for minute in minutes for second in seconds]
        return f"at {joined(time_text(at) for at in times)}", False
    if len(seconds) > 1:
        step = _step(seconds, 60)
        phrase = elapsed(step, "second") if step else f"at seconds {_ranges(seconds, _number)} of every minute"
        if len(minutes) < 60 or len(hours) < 24:  # noqa: PLR2004 - the clock
            phrase += f" {_within_hours(minutes, hours)}"
        return phrase, True
    second = f", {seconds[0]} seconds past the minute" if seconds[0] else ""
    return _minutes_and_hours(minutes, hours) + second, True


def _within_hours(minutes: Sequence[int], hours: Sequence[int]) -> str:
    within = "" if len(minutes) == 60 else f"in the minutes {_ranges(minutes, _number)} "  # noqa: PLR2004
    return f"{within}of every hour" if len(hours) == 24 else f"{within}{_of_hours(hours)}"  # noqa: PLR2004


def _of_hours(hours: Sequence[int]) -> str:
    if hours[-1] - hours[0] == len(hours) - 1:
        return f"from {hours[0]:02}:00 to {hours[-1]:02}:59"
    return f"in the hours {_ranges(hours, _number)}"


def _minutes_and_hours(minutes: Sequence[int], hours: Sequence[int]) -> str:
    step, all_hours = _step(minutes, 60), len(hours) == 24  # noqa: PLR2004 - a day
    if len(minutes) > 1:
        listed = f"at the minutes {_ranges(minutes, _number)} past the hour"
        phrase = elapsed(step, "minute") if step else listed
        return phrase if all_hours else f"{phrase} {_of_hours(hours)}"
    past = f" at {count(minutes[0], 'minute')} past" if minutes[0] else ""
    if all_hours:
        return f"every hour{past}"
    every = _step(hours, 24)
    if every:
        return f"every {every} hours of the clock{past}"
    return f"every hour{past} {_of_hours(hours)}"


def cron_months(fields: CronFields) -> str:
    """Say the months, ``" in February"``; ``""`` for all of them."""
    return "" if len(fields.months) == 12 else f" in {_ranges(fields.months, _month)}"  # noqa: PLR2004


def cron_days(fields: CronFields) -> str:
    """Say the days, ``""`` for all of them."""
    if fields.special_weekday is not None:
        return f"on {nth_name(*fields.special_weekday)} of the month"
    if fields.special_day is not None:
        return _special_day(*fields.special_day)
    by_day, by_weekday = len(fields.days) < _EVERY_DAY, len(fields.weekdays) < _EVERY_WEEKDAY
    month = " of the month" if len(fields.months) > 1 else ""
    numbers = f"on {'day' if len(fields.days) == 1 else 'days'} {_ranges(fields.days, _number)}{month}"
    weekdays = "every weekday" if fields.weekdays == (0, 1, 2, 3, 4) else f"every {_listed_days(fields.weekdays)}"
    if by_day and by_weekday:
        either = joined([NAMES[day] for day in fields.weekdays], "or")
        return f"{numbers} if it is a {either}" if fields.both_days else f"{numbers} or {weekdays}"
    if not fields.both_days:  # one of the fields, written out, holds every day: so does their union
        return ""
    return numbers if by_day else weekdays if by_weekday else ""


def _special_day(kind: str, number: int) -> str:
    if kind == "near":
        return f"on the day from Monday to Friday nearest to the {ordinal(number)}"
    last = f"{count(number, 'day')} before the last day" if number else "the last day"
    if kind == "lastweekday":
        return f"on the day from Monday to Friday nearest to {last} of the month"
    return f"{last} of the month" if number else f"on {last} of the month"


def _listed_days(days: Sequence[int]) -> str:
    return joined([NAMES[day] for day in days])


def recurrence(rule: Rule, start: time | None, unknown: str) -> str:
    """Say a Recurrence; what it leaves open of the time of day is that of the start."""
    unit = {"YEARLY": "year", "MONTHLY": "month", "WEEKLY": "week", "DAILY": "day"}.get(rule.frequency)
    numbers = rule.numbers
    if unit is None:
        unit = {"HOURLY": "hour", "MINUTELY": "minute", "SECONDLY": "second"}[rule.frequency]
        parts = [elapsed(rule.every, unit) + " of the clock"]
    else:
        parts = [turns(rule.every, unit)]
    parts += _rule_days(rule)
    parts += [_rule_times(rule, start, unknown)]
    if "BYSETPOS" in numbers:
        parts.append(f" (of these in each {unit} only {joined(map(_place, _forward(numbers['BYSETPOS'])))})")
    if rule.count is not None:
        parts.append(f", {count(rule.count, 'time')}")
    if rule.until is not None:
        parts.append(f", until {instant_text(rule.until)}{' UTC' if rule.until_utc else ''}")
    return "".join(parts)


def _forward(numbers: Iterable[int]) -> list[int]:
    """Sort numbers that may count from the end: those that count from the beginning come first."""
    return sorted(numbers, key=lambda n: (n < 0, n))


def _place(n: int) -> str:
    return f"the {ordinal(n)}" if n > 0 else "the last" if n == -1 else f"the {ordinal(-n)} to last"


def _rule_days(rule: Rule) -> list[str]:
    numbers, parts = rule.numbers, []
    if rule.days:
        plain = [day.weekday for day in rule.days if not day.n]
        counted = [nth_name(day.n, day.weekday) for day in rule.days if day.n]
        named = [_plain_days(rule, sorted(plain))] if plain else []
        parts.append(f" on {joined(named + counted)}")
    if "BYMONTHDAY" in numbers:
        word = " that is " if rule.days else " on "
        days = map(month_day, _forward(numbers["BYMONTHDAY"]))
        parts.append(word + joined(days, "or" if rule.days else "and"))
    if "BYYEARDAY" in numbers:
        parts.append(f" on {joined(map(month_day, _forward(numbers['BYYEARDAY'])))} of the year")
    if "BYWEEKNO" in numbers:
        weeks = (f"week {n}" if n > 0 else f"{_place(n)} week" for n in _forward(numbers["BYWEEKNO"]))
        parts.append(f" in {joined(weeks)} of the year")
    if "BYMONTH" in numbers:
        parts.append(f" in {_ranges(numbers['BYMONTH'], _month)}")
    return parts


def _plain_days(rule: Rule, days: Sequence[int]) -> str:
    """Say ``Monday and Friday``; within a month or year all of them: ``every Monday``, ``every weekday``."""
    if rule.frequency not in {"MONTHLY", "YEARLY"}:
        return day_names(days)
    return f"every {'weekday' if tuple(days) == (0, 1, 2, 3, 4) else _listed_days(days)}"


def _rule_times(rule: Rule, start: time | None, unknown: str) -> str:
    if not rule.clock and not any(name in rule.numbers for name in TIME_PARTS):
        return at_text(start, unknown)
    numbers = rule.numbers if start is None else _filled(rule, start)
    named = [name for name in TIME_PARTS if name in numbers]
    size = prod(len(numbers[name]) for name in named)
    if named[:2] == ["BYHOUR", "BYMINUTE"] and size <= _MANY and not rule.clock:
        seconds = numbers.get("BYSECOND", (0,))
        times = [time(h, m, s) for h in numbers["BYHOUR"] for m in numbers["BYMINUTE"] for s in seconds]
        return f" at {joined(time_text(at) for at in times)}"
    units = {"BYHOUR": "hour", "BYMINUTE": "minute", "BYSECOND": "second"}
    return "".join(f" at {units[name]} {_ranges(numbers[name], _number)}" for name in named)


def _filled(rule: Rule, start: time) -> dict[str, tuple[int, ...]]:
    """Return the numbers of a rule and what its turns take from the start; within an hour, 0 goes without saying."""
    implied = dict(zip(TIME_PARTS, (start.hour, start.minute, start.second), strict=True))
    taken = {name: (implied[name],) for name in rule.times_within if implied[name] or not rule.clock}
    return taken | rule.numbers
