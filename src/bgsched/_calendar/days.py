"""Sets of local days: ask for the first one not before a day, or how many lie between two.

The Gregorian calendar knows 28 kinds of years as far as any rule can tell: the weekday of 1 January, and whether the
year, the one before and the one after are leap years. :class:`YearDays` keeps one table per kind, so that a rare rule
(29 February on a Monday) costs one look-up for each year it skips.
"""

from bisect import bisect_left, bisect_right
from calendar import isleap, monthrange
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from functools import partial
from typing import Protocol

from bgsched._calendar.units import LAST_DAY, date_of, day_of, enumerate_bits, members, weekday_of

__all__ = ["DailyDays", "Days", "ListedDays", "WeeklyDays", "YearDays", "day_in_month", "monthly_days"]

LAST_YEAR = 9999


class Days(Protocol):
    """A set of local days."""

    def next(self, day: int) -> int | None:
        """Return the first day of the set that is not before *day*."""

    def count(self, start: int, end: int) -> int:
        """Count the days of the set in ``start <= day < end``."""


class DailyDays:
    """Every n-th day, counted from an anchor day."""

    __slots__ = ("_anchor", "_every")

    def __init__(self, anchor: int = 0, every: int = 1) -> None:
        self._anchor = anchor
        self._every = every

    def next(self, day: int) -> int | None:
        """Return the first day of the set that is not before *day*."""
        return day + (self._anchor - day) % self._every

    def count(self, start: int, end: int) -> int:
        """Count the days of the set in ``start <= day < end``."""
        return (end - self._anchor - 1) // self._every - (start - self._anchor - 1) // self._every


class ListedDays:
    """Days from a list."""

    __slots__ = ("_days",)

    def __init__(self, days: Iterable[int]) -> None:
        self._days = tuple(sorted(set(days)))

    def next(self, day: int) -> int | None:
        """Return the first day of the set that is not before *day*."""
        place = bisect_left(self._days, day)
        return self._days[place] if place < len(self._days) else None


class WeeklyDays:
    """Some weekdays of every n-th week, counted from the week that holds the anchor day and begins on *first*."""

    __slots__ = ("_ahead", "_begin", "_every", "_weekdays")

    def __init__(self, weekdays: Iterable[int], anchor: int = 0, every: int = 1, *, first: int = 0) -> None:
        self._weekdays = tuple(sorted((day - first) % 7 for day in weekdays))
        self._begin = anchor - (weekday_of(anchor) - first) % 7
        self._every = every
        self._ahead = tuple(min((wanted - day) % 7 for wanted in self._weekdays) for day in range(7))

    def next(self, day: int) -> int | None:
        """Return the first day of the set that is not before *day*."""
        if self._every == 1:
            return day + self._ahead[(day - self._begin) % 7]
        week, weekday = divmod(day - self._begin, 7)
        ahead = -week % self._every
        if not ahead:
            place = bisect_left(self._weekdays, weekday)
            if place < len(self._weekdays):
                return day + self._weekdays[place] - weekday
            ahead = self._every
        return self._begin + (week + ahead) * 7 + self._weekdays[0]

    def count(self, start: int, end: int) -> int:
        """Count the days of the set in ``start <= day < end``."""
        return self._count_before(end) - self._count_before(start)

    def _count_before(self, day: int) -> int:
        week, weekday = divmod(day - self._begin, 7)
        weeks = -(-week // self._every)  # weeks of the phase from the anchor's to the one before this week
        count = weeks * len(self._weekdays)
        if week % self._every == 0:
            count += bisect_left(self._weekdays, weekday)
        return count


def day_in_month(year: int, month: int, rule: tuple[int, int | None], *, clamp: bool = False) -> int | None:
    """Return the day that *rule* names in a month, or None where the month has none.

    A rule is ``(day, None)`` with day 1..31 or -1..-31, or ``(n, weekday)`` for the n-th weekday, from the end when n <
    0. With *clamp*, a day past the end of the month is its last day (and one before its first day is the first).
    """
    number, weekday = rule
    first_weekday, length = monthrange(year, month)
    if weekday is None:
        day = number if number > 0 else length + 1 + number
        if clamp:
            day = min(max(day, 1), length)
    elif number > 0:
        day = 1 + (weekday - first_weekday) % 7 + (number - 1) * 7
    else:
        last_weekday = (first_weekday + length - 1) % 7
        day = length - (last_weekday - weekday) % 7 + (number + 1) * 7
    return day_of(date(year, month, day)) if 1 <= day <= length else None


def monthly_days(rule: tuple[int, int | None], anchor: int, every: int, *, clamp: bool) -> Days:
    """Return the day of :func:`day_in_month` in every n-th month, counted from the month that holds the anchor day."""
    return YearDays(partial(_one_a_month, rule, clamp)) if every == 1 else MonthlyDays(rule, anchor, every, clamp=clamp)


def _one_a_month(rule: tuple[int, int | None], clamp: bool, year: int) -> tuple[int, ...]:  # noqa: FBT001 - for partial
    found = (day_in_month(year, month, rule, clamp=clamp) for month in range(1, 13))
    return tuple(day - _year_start(year) for day in found if day is not None)


class MonthlyDays:
    """One day of every n-th month, counted from the month that holds the anchor day."""

    __slots__ = ("_anchor", "_clamp", "_every", "_rule")

    def __init__(self, rule: tuple[int, int | None], anchor: int, every: int, *, clamp: bool) -> None:
        self._rule = rule
        self._clamp = clamp
        self._every = every
        self._anchor = _month_of(anchor)

    def next(self, day: int) -> int | None:
        """Return the first day of the set that is not before *day*."""
        month = _month_of(day)
        month += (self._anchor - month) % self._every
        while month < (LAST_YEAR + 1) * 12:
            found = day_in_month(month // 12, month % 12 + 1, self._rule, clamp=self._clamp)
            if found is not None and found >= day:
                return found
            month += self._every
        return None

    def count(self, start: int, end: int) -> int:
        """Count the days of the set in ``start <= day < end``, month by month."""
        return sum(1 for _ in members(self.next, start, end))


def _month_of(day: int) -> int:
    value = date_of(min(day, LAST_DAY))
    return value.year * 12 + value.month - 1


def _year_start(year: int) -> int:
    """Return the day number of 1 January; years beyond 9999 have one too."""
    return _STARTS[year % 400] + year // 400 * _CYCLE


def _kind_of(year: int) -> int:
    """Return which of the 28 kinds a year is."""
    leap = 1 if isleap(year) else 2 if isleap(year - 1) else 3 if isleap(year + 1) else 0
    return weekday_of(_year_start(year)) * 4 + leap


_CYCLE = 146_097  # days in 400 years, which are whole weeks
_STARTS = tuple(day_of(date(year, 1, 1)) - 5 * _CYCLE for year in range(2000, 2400))
_KINDS = bytes(_kind_of(year) for year in range(400))


class YearDays:
    """Days that a rule picks from a year by nothing but its kind, in all years or in a list of them.

    With *unit* 86,400 the same for seconds: then the numbers in the tables and in the questions count seconds.
    The year asked about last is kept at hand.
    """

    __slots__ = ("_pick", "_recent", "_tables", "_unit", "_years")

    def __init__(
        self, pick: Callable[[int], tuple[int, ...]], years: tuple[int, ...] | None = None, *, unit: int = 1
    ) -> None:
        """Take *pick*, which returns the sorted days of a year (0 is 1 January), and the years in order."""
        self._pick = pick
        self._years = years
        self._tables: list[tuple[int, ...] | None] = [None] * 28
        self._unit = unit
        self._recent: tuple[int, int, int, tuple[int, ...]] = (0, 0, 0, ())

    def table(self, year: int) -> tuple[int, ...]:
        """Return the days of the year, counted from 0."""
        if self._years is not None and year not in self._years:
            return ()
        kind = _KINDS[year % 400]
        table = self._tables[kind]
        if table is None:
            table = self._tables[kind] = self._pick(year)
        return table

    def next(self, day: int) -> int | None:
        """Return the first day of the set that is not before *day*."""
        year, start, end, table = self._recent
        if not start <= day < end:
            if day // self._unit > LAST_DAY:
                return None
            year, start, end, table = self._recent = self._year_of(day)
        place = bisect_left(table, day - start)
        if place < len(table):
            return start + table[place]
        for later in self._years_after(year):
            known = self._tables[_KINDS[later % 400]]  # mostly saves a call for each year
            table = self.table(later) if known is None else known
            if table:
                return _year_start(later) * self._unit + table[0]
        return None

    def between(self, start: int, end: int) -> Iterator[int]:
        """Iterate over the days of the set in ``start <= day < end``."""
        while start < end and start // self._unit <= LAST_DAY:
            _, begin, over, table = self._year_of(start)
            yield from (begin + place for place in table[bisect_left(table, start - begin) :] if begin + place < end)
            start = over

    def _years_after(self, year: int) -> Sequence[int]:
        if self._years is None:
            return range(year + 1, LAST_YEAR + 1)
        return self._years[bisect_right(self._years, year) :]

    def _year_of(self, day: int) -> tuple[int, int, int, tuple[int, ...]]:
        """Return the year that holds a day, its bounds, and its table."""
        year = date_of(day // self._unit).year
        return year, _year_start(year) * self._unit, _year_start(year + 1) * self._unit, self.table(year)

    def count(self, start: int, end: int) -> int:
        """Count the days of the set in ``start <= day < end``, year by year."""
        end = min(end, (LAST_DAY + 1) * self._unit)
        if start >= end:
            return 0
        first, begin, _, table = self._year_of(start)
        last, last_begin, _, last_table = self._year_of(end - 1)
        count = sum(len(self.table(year)) for year in range(first, last))
        return count + bisect_left(last_table, end - last_begin) - bisect_left(table, start - begin)

    def bits(self, start: int, end: int) -> int:
        """Return the set in ``start <= second < end``, if it is one of seconds, as the bits of a number."""
        return enumerate_bits(self.next, start, end)

    def is_empty(self) -> bool:
        """Tell whether no year has such a day; all kinds of years occur within 400 years."""
        years = range(2000, 2400) if self._years is None else self._years
        return not any(self.table(year) for year in years)
