"""RFC 5545 recurrence rules as sets of local seconds.

dateutil says which days (and, with BYSETPOS, which times) of one year a rule names, with INTERVAL 1 and everything that
DTSTART implies written out; the intervals, the search and the way to instants are ours. dateutil itself walks from
DTSTART, takes INTERVAL=0 for a rule that never ends, reads WKST from a global of the calendar module, and BYMONTHDAY=0
as absent.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from math import gcd

from dateutil.rrule import DAILY, HOURLY, MINUTELY, MONTHLY, SECONDLY, WEEKLY, YEARLY, rrule, weekday

from bgsched._calendar.days import LAST_YEAR, DailyDays, Days, YearDays
from bgsched._calendar.engine import Engine, Nominal, Product, nth_member
from bgsched._calendar.fields import WEEKDAY_OBJECTS
from bgsched._calendar.times import Times, minutes_of
from bgsched._calendar.units import DAY, EPOCH_NAIVE, LAST_DAY, MICRO, date_of, day_of, local_of, naive_of
from bgsched.errors import TimingError, did_you_mean

__all__ = ["Ended", "NominalDays", "Rule", "nominal_of", "parse_rule"]

_LONGEST = 1024
_MOST = 100_000
_SEARCH_STEPS = 30_000
_FREQUENCIES = {
    "YEARLY": YEARLY,
    "MONTHLY": MONTHLY,
    "WEEKLY": WEEKLY,
    "DAILY": DAILY,
    "HOURLY": HOURLY,
    "MINUTELY": MINUTELY,
    "SECONDLY": SECONDLY,
}
_UNITS = {HOURLY: 3600, MINUTELY: 60, SECONDLY: 1}
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
_FROM_ZERO = {"BYHOUR", "BYMINUTE", "BYSECOND"}
_FORBIDDEN = {
    "BYWEEKNO": {"MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"},
    "BYYEARDAY": {"MONTHLY", "WEEKLY", "DAILY"},
    "BYMONTHDAY": {"WEEKLY"},
}
_PARTS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_NUMBERS)
_DATE_PARTS = ("BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO")


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked recurrence rule."""

    frequency: str
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    until_utc: bool = False
    week_start: int = 0
    days: tuple[weekday, ...] = ()
    numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """Return dateutil's number of the frequency; the smaller, the slower."""
        return _FREQUENCIES[self.frequency]

    @property
    def until_instant(self) -> int | None:
        """Return the UNTIL that is given in UTC, as the last instant."""
        return local_of(self.until) * MICRO if self.until is not None and self.until_utc else None

    @property
    def clock(self) -> bool:
        """Tell whether the rule follows the clock, both passes of a fold included."""
        return self.code > DAILY


def _fail(text: str, problem: str) -> TimingError:
    return TimingError(f"recurrence rule {text[:200]!r}: {problem}")


def _number(text: str, name: str, word: str, highest: int, *, negative: bool = False) -> int:
    low = 0 if name in _FROM_ZERO else 1
    if not re.fullmatch(r"[+-]?\d{1,9}", word, re.ASCII):
        raise _fail(text, f"{name} must be a whole number, got {word[:50]!r}")
    value = int(word)
    if not low <= (abs(value) if negative else value) <= highest:
        also = f" or -{highest}..-1" if negative else ""
        raise _fail(text, f"{name} must be {low}..{highest}{also}, got {value}")
    return value


def _day(text: str, word: str, frequency: str, *, by_week: bool) -> weekday:
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
    highest = 5 if frequency == "MONTHLY" else 53
    return day(_number(text, "the number in BYDAY", match[1], highest, negative=True))


def _until(text: str, word: str) -> tuple[datetime, bool]:
    match = re.fullmatch(r"(\d{8})(?:T(\d{6})(Z)?)?", word, re.ASCII)
    try:
        return datetime.strptime(f"{match[1]}{match[2] or '000000'}", "%Y%m%d%H%M%S"), bool(match[3])  # type: ignore[index]  # noqa: DTZ007 - a local time, or UTC as the flag says
    except (TypeError, ValueError):
        raise _fail(
            text, f"UNTIL must be like 20261231T235959 (local) or 20261231T235959Z, got {word[:50]!r}"
        ) from None


def _parts(text: str) -> dict[str, str]:
    """Split the text into its parts and check their names."""
    if len(text) > _LONGEST or not text.isascii():
        raise _fail(text, f"at most {_LONGEST} ASCII characters are read")
    if "\n" in text or "\r" in text or "DTSTART" in text.upper() or "EXDATE" in text.upper() or "RDATE" in text.upper():
        raise _fail(text, "write one RRULE only; its DTSTART is the start of the Schedule, its EXDATE the exclude")
    found: dict[str, str] = {}
    for part in text.upper().removeprefix("RRULE:").strip().rstrip(";").split(";"):
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
        interval=_number(text, "INTERVAL", parts.get("INTERVAL", "1"), 10**9),
        count=_number(text, "COUNT", parts["COUNT"], _MOST) if "COUNT" in parts else None,
        until=until,
        until_utc=utc,
        week_start=_DAYS.index(week_start),
        days=tuple(dict.fromkeys(_day(text, word, frequency, by_week="BYWEEKNO" in parts) for word in words)),
        numbers=numbers,
    )
    _check_times(text, rule)
    if _year_days(_named(rule, EPOCH_NAIVE)).is_empty() and any(name in parts for name in ("BYDAY", *_DATE_PARTS)):
        raise _fail(text, "no year has such a day, so that it would never fire")
    return rule


def _check_times(text: str, rule: Rule) -> None:
    numbers = rule.numbers
    times = 1
    for name in _FROM_ZERO:
        times *= len(numbers.get(name, (0,)))
    if "BYSETPOS" in numbers and times > DAY // 60:
        raise _fail(text, "BYSETPOS chooses from at most 1440 times of a day")


def _named(rule: Rule, start: datetime) -> Rule:
    """Return the rule with the days that DTSTART implies written out, as RFC 5545 and dateutil say."""
    if rule.days or rule.clock or any(name in rule.numbers for name in _DATE_PARTS[1:]):
        return rule
    numbers, days = dict(rule.numbers), rule.days
    if rule.frequency == "WEEKLY":
        days = (WEEKDAY_OBJECTS[start.weekday()],)
    elif rule.frequency in {"MONTHLY", "YEARLY"}:
        numbers["BYMONTHDAY"] = (start.day,)
        if rule.frequency == "YEARLY":
            numbers.setdefault("BYMONTH", (start.month,))
    return Rule(rule.frequency, rule.interval, week_start=rule.week_start, days=days, numbers=numbers)


def _year_days(rule: Rule, times: Times | None = None) -> YearDays:
    """Return the days (with *times*: the seconds) that a rule names when every period counts."""
    return YearDays(partial(_pick, rule, times), unit=1 if times is None else DAY)


def _pick(rule: Rule, times: Times | None, year: int) -> tuple[int, ...]:
    """Let dateutil expand one year; the year taken is one of 2000..2399, which is of the same kind."""
    first = datetime(2000 + year % 400, 1, 1)  # noqa: DTZ001 - local by design
    begin = first - timedelta((first.weekday() - rule.week_start) % 7)
    numbers = rule.numbers
    hours = dict.fromkeys(("byhour", "byminute", "bysecond"), 0)
    if times is not None:
        hours = {name: numbers.get(name.upper(), 0) for name in hours}  # type: ignore[misc]
    expanded = rrule(
        min(rule.code, DAILY),
        dtstart=begin,
        until=datetime(first.year, 12, 31, 23, 59, 59),  # noqa: DTZ001 - local by design
        wkst=rule.week_start,
        bymonth=numbers.get("BYMONTH"),
        bymonthday=numbers.get("BYMONTHDAY"),
        byyearday=numbers.get("BYYEARDAY"),
        byweekno=numbers.get("BYWEEKNO"),
        byweekday=rule.days or None,
        bysetpos=None if rule.clock else numbers.get("BYSETPOS"),
        **hours,
    )
    found = [at for at in expanded if at >= first]
    if times is None:
        return tuple((at - first).days for at in found)
    return tuple((at - first).days * DAY + (at - first).seconds for at in found)


class _Phased:
    """Every n-th period of a set of days (with `unit` 86,400: of seconds), counted from that of an anchor day."""

    __slots__ = ("_anchor", "_days", "_interval", "_rule", "_tries", "_unit")

    def __init__(self, days: YearDays, rule: Rule, anchor_day: int, unit: int) -> None:
        self._days = days
        self._rule = rule
        self._interval = rule.interval
        self._unit = unit
        self._anchor = self._period(anchor_day)
        # After so many periods of the phase the calendar repeats: what was not found does not exist.
        cycle = {"YEARLY": 400, "MONTHLY": 4_800, "WEEKLY": 20_871, "DAILY": 146_097}[rule.frequency]
        self._tries = cycle // gcd(cycle, rule.interval) + 1

    def next(self, day: int) -> int | None:
        """Return the first member that is not before *day*."""
        place: int | None = day
        for _ in range(self._tries):
            place = self._days.next(place)
            if place is None:
                return None
            ahead = (self._anchor - self._period(place // self._unit)) % self._interval
            if not ahead:
                return place
            place = self._start_of(self._period(place // self._unit) + ahead)
            if place is None:
                return None
        return None

    def count(self, start: int, end: int) -> int:
        """Count the members in ``start <= day < end``, one by one."""
        count = 0
        place = self.next(start)
        while place is not None and place < end:
            count += 1
            place = self.next(place + 1)
        return count

    def _period(self, day: int) -> int:
        if self._rule.frequency == "DAILY":
            return day
        if self._rule.frequency == "WEEKLY":
            return (day + 3 - self._rule.week_start) // 7
        value = date_of(day)
        return value.year if self._rule.frequency == "YEARLY" else value.year * 12 + value.month - 1

    def _start_of(self, period: int) -> int | None:
        """Return the first day of a period, or None beyond the last year."""
        if self._rule.frequency == "DAILY":
            day = period
        elif self._rule.frequency == "WEEKLY":
            day = period * 7 - 3 + self._rule.week_start
        else:
            year, month = (period, 0) if self._rule.frequency == "YEARLY" else divmod(period, 12)
            if year > LAST_YEAR:
                return None
            day = day_of(date(year, month + 1, 1))
        return day * self._unit


class _Stepped:
    """Every n-th hour, minute or second of the local clock, on some days and at some times only."""

    __slots__ = ("_anchor", "_days", "_masks", "_offsets", "_step", "_unit")

    def __init__(self, rule: Rule, anchor: int, days: Days, offsets: tuple[int, ...]) -> None:
        self._unit = _UNITS[rule.code]
        self._step = rule.interval * self._unit
        self._anchor = anchor - anchor % self._unit
        self._days = days
        self._offsets = offsets
        sizes = ((DAY, 3600, "BYHOUR"), (3600, 60, "BYMINUTE"), (60, 1, "BYSECOND"))
        self._masks = tuple(
            (whole, part, rule.numbers[name])
            for whole, part, name in sizes
            if part >= self._unit and name in rule.numbers
        )

    def next(self, local: int) -> int | None:
        """Return the first local second of the set that is not before *local*."""
        place: int | None = local
        for _ in range(_SEARCH_STEPS):
            base = place - place % self._unit
            base += (self._anchor - base) % self._step
            wanted = self._allowed(base)
            if wanted is None:
                return None
            if wanted > base:
                place = wanted
                continue
            index = bisect_left(self._offsets, place - base)
            if index < len(self._offsets):
                return base + self._offsets[index]
            place = base + self._unit
        return None

    def _allowed(self, base: int) -> int | None:
        """Return *base* if its day and time are allowed, else the first local second after it that may be."""
        day = self._days.next(base // DAY)
        if day is None or day > base // DAY:
            return None if day is None or day > LAST_DAY else day * DAY
        for whole, part, numbers in self._masks:
            number = base % whole // part
            index = bisect_left(numbers, number)
            if index == len(numbers):
                return base - base % whole + whole
            if numbers[index] != number:
                return base - base % whole + numbers[index] * part
        return base

    def count(self, start: int, end: int) -> int:
        """Count the local seconds of the set in ``start <= local < end``; by division where every day is allowed."""
        if self._masks or not isinstance(self._days, DailyDays):
            count = 0
            place = self.next(start)
            while place is not None and place < end:
                count += 1
                place = self.next(place + 1)
            return count
        return sum(
            (end - self._anchor - offset - 1) // self._step - (start - self._anchor - offset - 1) // self._step
            for offset in self._offsets
        )


class _Bounded:
    """A set of local seconds from one on, up to another one, or only so many of them."""

    __slots__ = ("_first", "_last", "_nominal")

    def __init__(self, nominal: Nominal, first: int, last: int) -> None:
        self._nominal = nominal
        self._first = first
        self._last = last

    def next(self, local: int) -> int | None:
        """Return the first local second of the set that is not before *local*."""
        found = self._nominal.next(max(local, self._first))
        return found if found is not None and found <= self._last else None

    def count(self, start: int, end: int) -> int:
        """Count the local seconds of the set in ``start <= local < end``."""
        start, end = max(start, self._first), min(end, self._last + 1)
        return self._nominal.count(start, end) if start < end else 0


def nominal_of(rule: Rule, anchor: int) -> Nominal:
    """Return the local seconds of a rule whose DTSTART is *anchor*, which is one of them only if it matches."""
    nominal = _sub_daily(rule, anchor) if rule.clock else _daily(rule, anchor)
    last = (LAST_DAY + 1) * DAY
    if rule.until is not None and not rule.until_utc:
        last = local_of(rule.until)
    if rule.count is not None:
        last = nth_member(nominal.count, anchor, rule.count, last)
    return _Bounded(nominal, anchor, last)


def _daily(rule: Rule, anchor: int) -> Nominal:
    """Return the local seconds of a rule of whole days."""
    named = _named(rule, naive_of(anchor))
    clock = {"BYHOUR": anchor % DAY // 3600, "BYMINUTE": anchor % 3600 // 60, "BYSECOND": anchor % 60}
    numbers = {**named.numbers, **{name: named.numbers.get(name, (value,)) for name, value in clock.items()}}
    named = replace(named, numbers=numbers)
    times = Times(minutes_of(numbers["BYHOUR"], numbers["BYMINUTE"]), numbers["BYSECOND"])
    if "BYSETPOS" in numbers and times.total > 1:
        seconds = _year_days(named, times)
        return seconds if rule.interval == 1 else _Phased(seconds, rule, anchor // DAY, DAY)
    days: Days = DailyDays()
    if named.days or any(name in numbers for name in _DATE_PARTS):
        days = _year_days(named) if rule.interval == 1 else _Phased(_year_days(named), rule, anchor // DAY, 1)
    elif rule.interval > 1:
        days = DailyDays(anchor // DAY, rule.interval)
    return Product(days, times)


def _sub_daily(rule: Rule, anchor: int) -> Nominal:
    """Return the local seconds of a rule of hours, minutes or seconds."""
    numbers = rule.numbers
    days: Days = DailyDays()
    if rule.days or any(name in numbers for name in _DATE_PARTS):
        days = _year_days(rule)
    unit = _UNITS[rule.code]
    minutes = numbers.get("BYMINUTE", (anchor % 3600 // 60,)) if unit > 60 else (0,)  # noqa: PLR2004 - a minute
    seconds = numbers.get("BYSECOND", (anchor % 60,)) if unit > 1 else (0,)
    offsets = tuple(minute * 60 + second for minute in minutes for second in seconds)
    if "BYSETPOS" in numbers:
        offsets = _positions(offsets, numbers["BYSETPOS"])
    elif rule.interval == 1:
        hours = numbers.get("BYHOUR", tuple(range(24)))
        minutes = numbers.get("BYMINUTE", tuple(range(60))) if unit <= 60 else minutes  # noqa: PLR2004 - a minute
        seconds = numbers.get("BYSECOND", tuple(range(60))) if unit == 1 else seconds
        return Product(days, Times(minutes_of(hours, minutes), seconds))
    return _Stepped(rule, anchor, days, offsets)


def _positions(offsets: tuple[int, ...], positions: tuple[int, ...]) -> tuple[int, ...]:
    """Return what BYSETPOS chooses from the members of one period."""
    size = len(offsets)
    places = {place - 1 if place > 0 else size + place for place in positions}
    return tuple(offsets[place] for place in sorted(places) if 0 <= place < size)


class NominalDays:
    """The days of a set of local seconds that are all midnights."""

    __slots__ = ("_nominal",)

    def __init__(self, nominal: Nominal) -> None:
        self._nominal = nominal

    def next(self, day: int) -> int | None:
        """Return the first day of the set that is not before *day*."""
        found = self._nominal.next(day * DAY)
        return None if found is None else found // DAY

    def count(self, start: int, end: int) -> int:
        """Count the days of the set in ``start <= day < end``."""
        return self._nominal.count(start * DAY, end * DAY)


class Ended:
    """An engine up to an instant, which is in it."""

    __slots__ = ("_engine", "_last")

    def __init__(self, engine: Engine, last: int) -> None:
        self._engine = engine
        self._last = last

    def next(self, after: int) -> int | None:
        """Return the first instant strictly later than *after*."""
        found = self._engine.next(after)
        return found if found is not None and found <= self._last else None

    def count(self, after: int, until: int) -> int:
        """Count the instants in ``after < t <= until``."""
        return self._engine.count(after, min(until, self._last))

    def bits(self, start: int, end: int) -> int:
        """Return the seconds of ``start <= t < end`` as the bits of a number."""
        end = min(end, self._last // MICRO + 1)
        return self._engine.bits(start, end) if start < end else 0
