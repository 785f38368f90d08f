"""RFC 5545 recurrence rules: the text, checked, and which days of a year it names.

dateutil expands what is hard, the numbers of weeks, one year at a time.
The rest of it is kept out: it walks from DTSTART, takes INTERVAL=0 for a rule that never ends, follows a rule that
never matches to the year 9999, reads WKST from a global of the calendar module, and BYMONTHDAY=0 as absent.
"""

import re
from calendar import isleap, monthrange
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from itertools import groupby
from math import prod
from typing import Literal

from dateutil.rrule import DAILY, HOURLY, MINUTELY, MONTHLY, SECONDLY, WEEKLY, YEARLY, rrule, weekday

from bgsched._calendar.days import YearDays
from bgsched._calendar.fields import WEEKDAY_OBJECTS
from bgsched._calendar.times import Times, minutes_of
from bgsched._calendar.units import DAY, EPOCH_NAIVE, MICRO, local_of
from bgsched.errors import TimingError, did_you_mean

__all__ = ["TIME_PARTS", "Rule", "parse_rule", "plain_text", "times_of", "written_out", "year_days"]

_LONGEST = 1024
_MOST = 100_000
_FREQUENCIES: dict[str, Literal[0, 1, 2, 3, 4, 5, 6]] = {
    "YEARLY": YEARLY,
    "MONTHLY": MONTHLY,
    "WEEKLY": WEEKLY,
    "DAILY": DAILY,
    "HOURLY": HOURLY,
    "MINUTELY": MINUTELY,
    "SECONDLY": SECONDLY,
}
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_NUMBERS = {  # name: (highest, whether it may count from the end)
    "BYMONTH": (12, False),
    "BYMONTHDAY": (31, True),
    "BYYEARDAY": (366, True),
    "BYWEEKNO": (53, True),
    "BYSETPOS": (366, True),
    "BYHOUR": (23, False),
    "BYMINUTE": (59, False),
    "BYSECOND": (59, False),
}
TIME_PARTS = ("BYHOUR", "BYMINUTE", "BYSECOND")
_FORBIDDEN = {
    "BYWEEKNO": {"MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"},
    "BYYEARDAY": {"MONTHLY", "WEEKLY", "DAILY"},
    "BYMONTHDAY": {"WEEKLY"},
}
_PARTS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_NUMBERS)
DATE_PARTS = ("BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO")


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked recurrence rule."""

    frequency: str
    every: int = 1
    count: int | None = None
    until: datetime | None = None
    until_utc: bool = False
    week_start: int = 0
    days: tuple[weekday, ...] = ()
    numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def code(self) -> Literal[0, 1, 2, 3, 4, 5, 6]:
        """Return dateutil's number of the frequency; the smaller, the slower."""
        return _FREQUENCIES[self.frequency]

    @property
    def until_instant(self) -> int | None:
        """Return the UNTIL that is given in UTC, as the last instant."""
        return local_of(self.until) * MICRO if self.until is not None and self.until_utc else None

    @property
    def names_days(self) -> bool:
        """Tell whether the rule itself says on which days."""
        return bool(self.days) or any(name in self.numbers for name in DATE_PARTS)

    @property
    def weekdays(self) -> tuple[int, ...] | None:
        """Return the weekdays (Monday is 0), if the rule says nothing else about its days."""
        said = any(name in self.numbers for name in DATE_PARTS) or any(day.n for day in self.days)
        return tuple(day.weekday for day in self.days) if self.days and not said else None

    @property
    def times_within(self) -> tuple[str, ...]:
        """Return the parts that name times within one turn: for an hour minutes and seconds, for days all three."""
        return TIME_PARTS[self.code - DAILY :] if self.clock else TIME_PARTS

    @property
    def chooses(self) -> bool:
        """Tell whether BYSETPOS chooses from the days and times of each turn."""
        return "BYSETPOS" in self.numbers and not self.clock

    @property
    def clock(self) -> bool:
        """Tell whether the rule follows the clock, both passes of a fold included."""
        return self.code > DAILY


def _fail(text: str, problem: str) -> TimingError:
    return TimingError(f"recurrence rule {text[:200]!r}: {problem}")


def _number(text: str, name: str, word: str, highest: int, *, negative: bool = False) -> int:
    low = 0 if name in TIME_PARTS else 1
    if not re.fullmatch(r"[+-]?\d{1,10}", word, re.ASCII):
        raise _fail(text, f"{name} must be a whole number, got {word[:50]!r}")
    value = int(word)
    if not low <= (abs(value) if negative else value) <= highest:
        also = f" or -{highest}..-1" if negative else ""
        raise _fail(text, f"{name} must be {low}..{highest}{also}, got {value}")
    return value


def _day(text: str, word: str, frequency: str, *, by_week: bool, by_month: bool) -> weekday:
    match = re.fullmatch(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", word, re.ASCII)
    if match is None:
        raise _fail(
            text, f"BYDAY must be days such as MO, or 2TU and -1FR, got {word[:50]!r}{did_you_mean(word, _DAYS)}"
        )
    day = WEEKDAY_OBJECTS[_DAYS.index(match[2])]
    if match[1] is None:
        return day
    if frequency not in {"MONTHLY", "YEARLY"} or by_week:
        raise _fail(text, f"BYDAY cannot count weeks with {'BYWEEKNO' if by_week else f'FREQ={frequency}'}, got {word}")
    highest = 5 if frequency == "MONTHLY" or by_month else 53
    return day(_number(text, "the number in BYDAY", match[1], highest, negative=True))


def _until(text: str, word: str) -> tuple[datetime, bool]:
    match = re.fullmatch(r"(\d{8})(?:T(\d{6})(Z)?)?", word, re.ASCII)
    try:
        return datetime.strptime(f"{match[1]}{match[2] or '000000'}", "%Y%m%d%H%M%S"), bool(match[3])  # type: ignore[index]  # noqa: DTZ007 - a local time, or UTC as the flag says
    except (TypeError, ValueError):
        raise _fail(
            text, f"UNTIL must be like 20261231T235959 (local) or 20261231T235959Z, got {word[:50]!r}"
        ) from None


def plain_text(text: str) -> str:
    """Return the text of a rule in the one form in which it is kept."""
    return text.strip().upper().removeprefix("RRULE:").strip().rstrip(";")


def _parts(text: str) -> dict[str, str]:
    """Split the text into its parts and check their names."""
    if len(text) > _LONGEST or not text.isascii():
        raise _fail(text, f"at most {_LONGEST} ASCII characters are read")
    if "\n" in text or "\r" in text or "DTSTART" in text.upper() or "EXDATE" in text.upper() or "RDATE" in text.upper():
        raise _fail(text, "write one RRULE only; its DTSTART is the start of the Schedule, its EXDATE the exclude")
    found: dict[str, str] = {}
    for part in plain_text(text).split(";"):
        name, equals, value = part.partition("=")
        if name not in _PARTS or not equals or not value:
            raise _fail(text, f"{part[:50]!r} is no part of a rule; write NAME=VALUE{did_you_mean(name, _PARTS)}")
        if name in found:
            raise _fail(text, f"{name} is there twice")
        found[name] = value
    return found


def _check_combination(text: str, parts: dict[str, str], frequency: str) -> None:
    if "COUNT" in parts and "UNTIL" in parts:
        raise _fail(text, "give COUNT or UNTIL, not both")
    for name, frequencies in _FORBIDDEN.items():
        if name in parts and frequency in frequencies:
            raise _fail(text, f"{name} has no meaning with FREQ={frequency}")
    if "BYSETPOS" in parts and not any(name.startswith("BY") and name != "BYSETPOS" for name in parts):
        raise _fail(text, "BYSETPOS needs another BY... part to choose from")


@lru_cache(maxsize=1024)
def parse_rule(text: str) -> Rule:
    """Read the text of an RRULE, or raise TimingError."""
    parts = _parts(text)
    frequency = parts.get("FREQ", "")
    if frequency not in _FREQUENCIES:
        hint = did_you_mean(frequency, _FREQUENCIES)
        raise _fail(text, f"FREQ must be one of {', '.join(_FREQUENCIES)}, got {frequency[:50]!r}{hint}")
    _check_combination(text, parts, frequency)
    numbers = {
        name: tuple(sorted({_number(text, name, word, high, negative=below) for word in parts[name].split(",")}))
        for name, (high, below) in _NUMBERS.items()
        if name in parts
    }
    week_start = parts.get("WKST", "MO")
    if week_start not in _DAYS:
        raise _fail(text, f"WKST must be one of {', '.join(_DAYS)}, got {week_start[:50]!r}")
    until, utc = _until(text, parts["UNTIL"]) if "UNTIL" in parts else (None, False)
    words = parts["BYDAY"].split(",") if "BYDAY" in parts else []
    rule = Rule(
        frequency=frequency,
        every=_number(text, "INTERVAL", parts.get("INTERVAL", "1"), 10**9),
        count=_number(text, "COUNT", parts["COUNT"], _MOST) if "COUNT" in parts else None,
        until=until,
        until_utc=utc,
        week_start=_DAYS.index(week_start),
        days=tuple(
            dict.fromkeys(
                _day(text, word, frequency, by_week="BYWEEKNO" in parts, by_month="BYMONTH" in parts) for word in words
            )
        ),
        numbers=numbers,
    )
    _check_times(text, rule)
    if (rule.names_days or rule.chooses) and year_days(written_out(rule, EPOCH_NAIVE)).is_empty():
        raise _fail(text, "no year has such a day, so that it would never fire")
    return rule


def _check_times(text: str, rule: Rule) -> None:
    """Check what BYSETPOS chooses from: the times of a day, or those within one hour, minute or second."""
    if "BYSETPOS" not in rule.numbers:
        return
    times = prod(len(rule.numbers.get(name, (0,))) for name in rule.times_within)
    if times > DAY // 60:
        raise _fail(text, "BYSETPOS chooses from at most 1440 times of a day")
    if (rule.clock or rule.frequency == "DAILY") and min(map(abs, rule.numbers["BYSETPOS"])) > times:
        raise _fail(text, f"BYSETPOS chooses from {times} here and takes none of them, so that it would never fire")


def written_out(rule: Rule, start: datetime) -> Rule:
    """Return the rule with the days and times that DTSTART implies written out, as RFC 5545 and dateutil say."""
    if rule.clock:
        return rule
    numbers, days = dict(rule.numbers), rule.days
    for name, value in zip(TIME_PARTS, (start.hour, start.minute, start.second), strict=True):
        numbers.setdefault(name, (value,))
    if not days and not any(name in numbers for name in DATE_PARTS[1:]):
        if rule.frequency == "WEEKLY":
            days = (WEEKDAY_OBJECTS[start.weekday()],)
        elif rule.frequency in {"MONTHLY", "YEARLY"}:
            numbers["BYMONTHDAY"] = (start.day,)
            if rule.frequency == "YEARLY":
                numbers.setdefault("BYMONTH", (start.month,))
    return replace(rule, days=days, numbers=numbers)


def times_of(rule: Rule) -> Times:
    """Return the times of the day of a rule of whole days that is written out."""
    hours, minutes, seconds = (rule.numbers[name] for name in TIME_PARTS)
    return Times(minutes_of(hours, minutes), seconds)


def year_days(rule: Rule) -> YearDays:
    """Return the days that a rule names when every year, month, week or day counts; where it chooses, the seconds."""
    return YearDays(partial(_pick, rule), unit=DAY if rule.chooses else 1)


def _pick(rule: Rule, year: int) -> tuple[int, ...]:
    """Expand one year; the year taken is one of 2000..2399, which is of the same kind."""
    year = 2000 + year % 400
    if not rule.chooses:
        return tuple(_bits_of(_days_of(rule, year)))
    seconds = tuple(times_of(rule).all())
    chosen: set[int] = set()
    for turn in _turns(rule, year):
        size = len(turn) * len(seconds)
        for position in rule.numbers["BYSETPOS"]:
            day, second = divmod(position - 1 if position > 0 else size + position, len(seconds))
            if 0 <= day < len(turn):
                chosen.add(turn[day] * DAY + seconds[second])
    return tuple(sorted(place for place in chosen if 0 <= place < (365 + isleap(year)) * DAY))


def _turns(rule: Rule, year: int) -> list[list[int]]:
    """Return the days that the rule names, turn by turn; those of a week may lie in the neighbouring years."""
    days = _bits_of(_days_of(rule, year))
    first = date(year, 1, 1)
    if rule.frequency == "YEARLY":
        return [days]
    if rule.frequency == "WEEKLY":
        before, after = 365 + isleap(year - 1), 365 + isleap(year)
        days = [day - before for day in _bits_of(_days_of(rule, year - 1)) if day >= before - 6] + days
        days += [day + after for day in _bits_of(_days_of(rule, year + 1)) if day < 6]  # noqa: PLR2004 - a week less one
        into = (first.weekday() - rule.week_start) % 7
        return [list(group) for _, group in groupby(days, lambda day: (day + into) // 7)]
    if rule.frequency == "MONTHLY":
        return [list(group) for _, group in groupby(days, lambda day: (first + timedelta(day)).month)]
    return [[day] for day in days]


def _bits_of(number: int) -> list[int]:
    """Return the places of the bits of a number, in order."""
    return [place for place, bit in enumerate(reversed(f"{number:b}")) if bit == "1"]


def _days_of(rule: Rule, year: int) -> int:
    """Return the days of a year that pass every part of a rule, as the bits of a number (bit 0 is 1 January).

    dateutil is asked for the numbers of weeks alone. Several parts that never meet it would follow to the year 9999,
    a plain weekday beside a counted one (``MO,1TU``) it takes for both at once, and the 53rd Monday of a month is an
    IndexError.
    """
    numbers = rule.numbers
    days = (1 << (365 + isleap(year))) - 1
    if "BYMONTH" in numbers or "BYMONTHDAY" in numbers:
        days = _month_days(year, numbers.get("BYMONTH", range(1, 13)), numbers.get("BYMONTHDAY"))
    plain = {day.weekday for day in rule.days if not day.n}
    counted = tuple(day for day in rule.days if day.n)
    if rule.days:
        first = date(year, 1, 1).weekday()
        named = sum(1 << day for day in range(366) if (first + day) % 7 in plain)
        months = numbers.get("BYMONTH", range(1, 13)) if "BYMONTH" in numbers or rule.frequency == "MONTHLY" else None
        named |= sum(1 << day for day in _counted_days(year, counted, months))
        days &= named
    if "BYYEARDAY" in numbers:
        days &= _year_days(365 + isleap(year), numbers["BYYEARDAY"])
    if days and "BYWEEKNO" in numbers:
        days &= _week_days(year, numbers["BYWEEKNO"], rule.week_start)
    return days


def _counted_days(year: int, counted: tuple[weekday, ...], months: Iterable[int] | None) -> set[int]:
    """Return the n-th weekdays of some months, or of the year, as days counted from 0."""
    first = date(year, 1, 1)
    stretches = [(0, 365 + isleap(year))]
    if months is not None:
        stretches = [((date(year, month, 1) - first).days, monthrange(year, month)[1]) for month in months]
    found = set()
    for start, length in stretches:
        for day in counted:
            same = range((day.weekday - first.weekday() - start) % 7, length, 7)
            place = day.n - 1 if day.n > 0 else day.n
            if -len(same) <= place < len(same):
                found.add(start + same[place])
    return found


def _month_days(year: int, months: Iterable[int], numbers: tuple[int, ...] | None) -> int:
    days = 0
    for month in months:
        length = monthrange(year, month)[1]
        start = (date(year, month, 1) - date(year, 1, 1)).days
        wanted = range(1, length + 1) if numbers is None else [day if day > 0 else length + 1 + day for day in numbers]
        days |= sum(1 << (start + day - 1) for day in set(wanted) if 1 <= day <= length)
    return days


def _year_days(length: int, numbers: tuple[int, ...]) -> int:
    places = {number - 1 if number > 0 else length + number for number in numbers}
    return sum(1 << place for place in places if 0 <= place < length)


def _week_days(year: int, numbers: tuple[int, ...], week_start: int) -> int:
    """Let dateutil say which days are in weeks of these numbers, as the bits of a number."""
    first = datetime(year, 1, 1)  # noqa: DTZ001 - local by design
    last = first.replace(month=12, day=31)
    rule = rrule(YEARLY, dtstart=first, until=last, byweekno=numbers, byweekday=range(7), wkst=week_start)
    return sum(1 << (at - first).days for at in rule)
