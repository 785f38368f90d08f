"""Recurrence rules as sets of local seconds: the turns that count, bounds, COUNT. See :mod:`bgsched._calendar.rule`."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from math import gcd, lcm

from dateutil.rrule import HOURLY, MINUTELY, SECONDLY

from bgsched._calendar.days import LAST_YEAR, DailyDays, Days, WeeklyDays, YearDays
from bgsched._calendar.effort import Effort
from bgsched._calendar.engine import Nominal, Product, nth_member
from bgsched._calendar.rule import Rule, times_of, written_out, year_days
from bgsched._calendar.times import Times, minutes_of
from bgsched._calendar.units import (
    DAY,
    LAST_DAY,
    MICRO,
    date_of,
    day_of,
    enumerate_bits,
    local_of,
    members,
    naive_of,
    weekday_of,
)
from bgsched._calendar.zone import Fold, Zone

__all__ = ["days_of", "first_local", "nominal_of"]

_CYCLE = 146_097  # days after which the calendar repeats
_SELDOM = 10
_CLOCK = ((DAY, 3600, "BYHOUR"), (3600, 60, "BYMINUTE"), (60, 1, "BYSECOND"))
_UNITS = {HOURLY: 3600, MINUTELY: 60, SECONDLY: 1}


_NOTHING = YearDays(lambda _: (), unit=DAY)


class _Phased:
    """Every n-th year, month, week or day (a "turn") of a set of days, counted from that of an anchor day."""

    __slots__ = ("_anchor", "_days", "_effort", "_every", "_rule", "_tries", "_unit")

    def __init__(self, days: YearDays, rule: Rule, anchor_day: int, unit: int, effort: Effort) -> None:
        self._effort = effort
        self._days = days
        self._rule = rule
        self._every = rule.every
        self._unit = unit
        self._anchor = self._turn(anchor_day)
        # After so many turns of the phase the calendar repeats: what was not found does not exist.
        cycle = {"YEARLY": 400, "MONTHLY": 4_800, "WEEKLY": _CYCLE // 7, "DAILY": _CYCLE}[rule.frequency]
        self._tries = cycle // gcd(cycle, rule.every) + 1

    def next(self, day: int) -> int | None:
        """Return the first member that is not before *day*."""
        place = day
        for _ in range(self._tries):
            self._effort.spend()
            found = self._days.next(place)
            if found is None:
                return None
            place = found
            ahead = (self._anchor - self._turn(place // self._unit)) % self._every
            if not ahead:
                return place
            begin = self._start_of(self._turn(place // self._unit) + ahead)
            if begin is None:
                return None
            place = begin
        return None

    def count(self, start: int, end: int) -> int:
        """Count the members in ``start <= day < end``, one by one: all that have the phase, or from turn to turn."""
        if self._every > _SELDOM:
            return sum(1 for _ in members(self.next, start, end))
        phase = self._anchor % self._every
        return sum(self._turn(day // self._unit) % self._every == phase for day in self._days.between(start, end))

    def bits(self, start: int, end: int) -> int:
        """Return the set in ``start <= local < end`` as a number whose bit i stands for ``start + i``."""
        return enumerate_bits(self.next, start, end)

    def _turn(self, day: int) -> int:
        if self._rule.frequency == "DAILY":
            return day
        if self._rule.frequency == "WEEKLY":
            return (day + 3 - self._rule.week_start) // 7
        value = date_of(day)
        return value.year if self._rule.frequency == "YEARLY" else value.year * 12 + value.month - 1

    def _start_of(self, turn: int) -> int | None:
        """Return the first day of a turn, or None beyond the last year."""
        if self._rule.frequency == "DAILY":
            day = turn
        elif self._rule.frequency == "WEEKLY":
            day = turn * 7 - 3 + self._rule.week_start
        else:
            year, month = (turn, 0) if self._rule.frequency == "YEARLY" else divmod(turn, 12)
            if year > LAST_YEAR:
                return None
            day = day_of(date(year, month + 1, 1))
        return day * self._unit


class _Stepped:
    """Every n-th hour, minute or second of the local clock, on some days and at some times only."""

    __slots__ = (
        "_anchor",
        "_cycle",
        "_days",
        "_effort",
        "_masks",
        "_offsets",
        "_per_cycle",
        "_step",
        "_tries",
        "_unit",
    )

    def __init__(self, rule: Rule, anchor: int, days: Days, offsets: tuple[int, ...], effort: Effort) -> None:
        self._effort = effort
        self._unit = _UNITS[rule.code]
        self._step = rule.every * self._unit
        self._anchor = anchor - anchor % self._unit
        self._days = days
        self._offsets = offsets
        self._masks = tuple(
            (whole, part, rule.numbers[name])
            for whole, part, name in _CLOCK
            if part >= self._unit and name in rule.numbers
        )
        # As for _Phased; where every day is allowed, what repeats is the time of the day, or of the week.
        alike = 1 if isinstance(days, DailyDays) else 7 if isinstance(days, WeeklyDays) else _CYCLE
        self._cycle = lcm(self._step, alike * DAY)
        self._tries = self._cycle // self._step + 1
        self._per_cycle: int | None = None

    def next(self, local: int) -> int | None:
        """Return the first local second of the set that is not before *local*."""
        place = local
        for _ in range(self._tries):
            self._effort.spend()
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

    def bits(self, start: int, end: int) -> int:
        """Return the set in ``start <= local < end`` as a number whose bit i stands for ``start + i``."""
        return enumerate_bits(self.next, start, end)

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
        """Count the local seconds of the set in ``start <= local < end``: whole cycles by multiplication."""
        if self._masks or not isinstance(self._days, DailyDays):
            cycles, rest = divmod(max(end - start, 0), self._cycle)
            if cycles and self._per_cycle is None:
                self._per_cycle = sum(1 for _ in members(self.next, start, start + self._cycle))
            return cycles * (self._per_cycle or 0) + sum(1 for _ in members(self.next, end - rest, end))
        return sum(
            (end - self._anchor - offset - 1) // self._step - (start - self._anchor - offset - 1) // self._step
            for offset in self._offsets
        )


class _Bounded:
    """A set of local seconds from one on, up to another one, or only so many of them."""

    __slots__ = ("_first", "_last", "_nominal", "_number", "_opening")

    def __init__(self, nominal: Nominal, first: int, last: int, number: int | None) -> None:
        self._nominal = nominal
        self._first = first
        self._last = last
        self._number = number
        self._opening = None if number is None else nominal.next(first)

    def next(self, local: int) -> int | None:
        """Return the first local second of the set that is not before *local*."""
        found = self._nominal.next(max(local, self._first))
        if found != self._opening:
            self._settle()
        return found if found is not None and found <= self._last else None

    def _settle(self) -> None:
        """Turn COUNT into the last member, when something after the first one is asked for."""
        number = self._number  # another thread may be here, and come to the same answer
        if number is not None:
            self._last = nth_member(self._nominal.next, self._nominal.count, self._first, number, self._last)
            self._number = None

    def count(self, start: int, end: int) -> int:
        """Count the local seconds of the set in ``start <= local < end``."""
        self._settle()
        start, end = max(start, self._first), min(end, self._last + 1)
        return self._nominal.count(start, end) if start < end else 0

    def bits(self, start: int, end: int) -> int:
        """Return the set in ``start <= local < end`` as a number whose bit i stands for ``start + i``."""
        self._settle()
        first, last = max(start, self._first), min(end, self._last + 1)
        return self._nominal.bits(first, last) << (first - start) if first < last else 0


def nominal_of(rule: Rule, anchor: int, first: int, effort: Effort) -> Nominal:
    """Return the local seconds of a rule from *first* on.

    Its phase and what it leaves open of the times are those of *anchor*, the DTSTART.
    """
    nominal = _sub_daily(rule, anchor, effort) if rule.clock else _daily(rule, anchor, effort)
    last = (LAST_DAY + 1) * DAY
    if rule.until is not None and not rule.until_utc:
        last = local_of(rule.until)
    return _Bounded(nominal, first, last, rule.count)


def first_local(rule: Rule, instant: int, local: int, zone: Zone) -> int:
    """Return the first local second that *rule* can fire at from the start on, so that COUNT begins with it.

    That is the one that the start reads, or the next one if the start has microseconds. In a fold, a rule that follows
    the clock reads all of it again after a start in the first pass; one that does not is past all of it in the second.
    """
    local += instant % MICRO > 0
    resolved = zone.resolve(local)
    if not isinstance(resolved, Fold):
        return local
    in_first_pass = instant <= resolved.first * MICRO
    if rule.clock:
        return resolved.local_end - (resolved.second - resolved.first) if in_first_pass else local
    return local if in_first_pass else resolved.local_end


def _daily(rule: Rule, anchor: int, effort: Effort) -> Nominal:
    """Return the local seconds of a rule of whole days."""
    named = written_out(rule, naive_of(anchor))
    if named.frequency == "DAILY" and named.days and not named.every % 7:  # all turns are on one weekday
        if weekday_of(anchor // DAY) not in {day.weekday for day in named.days}:
            return _NOTHING
        named = replace(named, days=())
    if named.chooses:
        return year_days(named) if rule.every == 1 else _Phased(year_days(named), rule, anchor // DAY, DAY, effort)
    return Product(_days(named, anchor // DAY, effort), times_of(named))


def _days(named: Rule, anchor_day: int, effort: Effort) -> Days:
    """Return the days of a rule that is written out: by division, or from tables of the years."""
    if named.weekdays and (named.every == 1 or named.frequency == "WEEKLY"):
        return WeeklyDays(named.weekdays, anchor_day, named.every, first=named.week_start)
    if not named.names_days:
        return DailyDays(anchor_day, named.every)
    return year_days(named) if named.every == 1 else _Phased(year_days(named), named, anchor_day, 1, effort)


def _sub_daily(rule: Rule, anchor: int, effort: Effort) -> Nominal:
    """Return the local seconds of a rule of hours, minutes or seconds."""
    numbers = rule.numbers
    days = _days(replace(rule, every=1), anchor // DAY, effort)
    unit = _UNITS[rule.code]
    minutes = numbers.get("BYMINUTE", (anchor % 3600 // 60,)) if unit > 60 else (0,)  # noqa: PLR2004 - a minute
    seconds = numbers.get("BYSECOND", (anchor % 60,)) if unit > 1 else (0,)
    offsets = tuple(minute * 60 + second for minute in minutes for second in seconds)
    if "BYSETPOS" in numbers:
        offsets = _positions(offsets, numbers["BYSETPOS"])
    elif rule.every == 1:
        hours = numbers.get("BYHOUR", tuple(range(24)))
        minutes = numbers.get("BYMINUTE", tuple(range(60))) if unit <= 60 else minutes  # noqa: PLR2004 - a minute
        seconds = numbers.get("BYSECOND", tuple(range(60))) if unit == 1 else seconds
        return Product(days, Times(minutes_of(hours, minutes), seconds))
    return _Stepped(rule, anchor, days, offsets, effort) if _ever_allowed(rule, anchor) else _NOTHING


def _ever_allowed(rule: Rule, anchor: int) -> bool:
    """Tell whether any turn is on a weekday and at an hour, minute and second of the rule, whatever the date.

    The turns read all the times of the week that leave the remainder of the anchor when divided by *common*, no others.
    """
    unit = _UNITS[rule.code]
    weekdays = {(weekday.weekday - weekday_of(0)) % 7 for weekday in rule.days} or range(7)
    named = [(DAY, weekdays), *((part, rule.numbers.get(name, range(whole // part))) for whole, part, name in _CLOCK)]
    common = gcd(rule.every * unit, 7 * DAY)
    *parts, last = ({number * part % common for number in numbers} for part, numbers in named if part >= unit)
    left = {(anchor - anchor % unit) % common}
    for part in parts:
        left = {(rest - number) % common for rest in left for number in part}
    return not left.isdisjoint(last)


def _positions(offsets: tuple[int, ...], positions: tuple[int, ...]) -> tuple[int, ...]:
    """Return what BYSETPOS chooses from the members of one period."""
    size = len(offsets)
    places = {place - 1 if place > 0 else size + place for place in positions}
    return tuple(offsets[place] for place in sorted(places) if 0 <= place < size)


def days_of(rule: Rule, anchor: int, zone: Zone, effort: Effort) -> Callable[[int], int | None]:
    """Return what finds the first day of a rule without times that is not before a day."""
    if rule.until_instant is not None:
        second = rule.until_instant // MICRO
        rule = replace(rule, until=naive_of(second + zone.offset(second)), until_utc=False)
    midnight = anchor - anchor % DAY
    return partial(_next_day, nominal_of(rule, midnight, midnight, effort))


def _next_day(nominal: Nominal, day: int) -> int | None:
    found = nominal.next(day * DAY)
    return None if found is None else found // DAY
