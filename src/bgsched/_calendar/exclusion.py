"""Stretches of time in which nothing fires, and the union of engines outside of them.

As an exclusion, a frequency is not a set of instants but of the stretches that it names: a Daily, Weekly or Monthly
without a time of day names whole local days, a Cron names the minutes (or seconds) that the local clock shows when it
matches.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Protocol

from bgsched._calendar.days import Days
from bgsched._calendar.effort import Effort
from bgsched._calendar.engine import Elapsed, Engine, Product
from bgsched._calendar.times import Times
from bgsched._calendar.units import DAY, HORIZON, MICRO
from bgsched._calendar.zone import Zone

__all__ = ["DaysExcluded", "Exclusion", "InstantsExcluded", "RangesExcluded", "TimesExcluded", "Union"]

_YEAR = 365 * DAY * MICRO
_MOST_YEARS = 10
_SHORT = 64  # so many stretches within a day are too short to go from one to the next
_STEPS_A_DAY = 20  # what a day as bits costs an engine or an exclusion


class Exclusion(Protocol):
    """A set of stretches of instants."""

    def end(self, instant: int) -> int | None:
        """Return None if *instant* is not excluded, else a later instant before which all are."""

    def bits(self, start: int, end: int, fraction: int) -> int:
        """Return which of the seconds ``start <= t < end``, each plus a fraction in microseconds, are excluded."""


class RangesExcluded:
    """From one instant to another, which is not excluded itself; any number of such ranges."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, *ranges: tuple[int, int]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(ranges):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def end(self, instant: int) -> int | None:
        """Return None if *instant* is not excluded, else a later instant before which all are."""
        place = bisect_right(self._ends, instant)
        return self._ends[place] if place < len(self._ends) and self._starts[place] <= instant else None

    def bits(self, start: int, end: int, fraction: int) -> int:
        """Return which of the seconds ``start <= t < end``, each plus a fraction in microseconds, are excluded."""
        bits = 0
        first = bisect_right(self._ends, start * MICRO + fraction)
        for since, until in zip(self._starts[first:], self._ends[first:], strict=True):
            begin = max(-((fraction - since) // MICRO), start)
            if begin >= end:
                break
            bits |= ((1 << (min(-((fraction - until) // MICRO), end) - begin)) - 1) << (begin - start)
        return bits


class DaysExcluded:
    """Whole local days."""

    __slots__ = ("_next_day", "_zone")

    def __init__(self, next_day: Callable[[int], int | None], zone: Zone) -> None:
        """Take what returns the first of the days that is not before a day."""
        self._next_day = next_day
        self._zone = zone

    def end(self, instant: int) -> int | None:
        """Return None if *instant* is not excluded, else a later instant before which all are."""
        span = self._zone.span(instant // MICRO)
        day = (instant // MICRO + span.offset) // DAY
        if self._next_day(day) != day:
            return None
        return min((day + 1) * DAY - span.offset, span.end) * MICRO

    def bits(self, start: int, end: int, _fraction: int) -> int:
        """Return which of the seconds ``start <= t < end``, each plus a fraction in microseconds, are excluded."""
        bits, offset = 0, self._zone.span(start).offset
        day = self._next_day((start + offset) // DAY)
        while day is not None and day * DAY - offset < end:
            first, last = max(day * DAY - offset, start), min((day + 1) * DAY - offset, end)
            bits |= ((1 << (last - first)) - 1) << (first - start)
            day = self._next_day(day + 1)
        return bits


class TimesExcluded:
    """The minutes (or seconds) at which the local clock reads one of a set of times on one of a set of days."""

    __slots__ = ("_day", "_product", "_unit", "_zone")

    def __init__(self, days: Days, times: Times, unit: int, zone: Zone) -> None:
        self._product = Product(days, times)
        self._day = times.mask(unit)
        self._unit = unit
        self._zone = zone

    def end(self, instant: int) -> int | None:
        """Return None if *instant* is not excluded, else a later instant before which all are."""
        second = instant // MICRO
        span = self._zone.span(second)
        local = second + span.offset
        local -= local % self._unit
        if self._product.next(local) != local:
            return None
        today = local % DAY
        free = self._day.find(0, today)
        return min(local - today + (free if free >= 0 else DAY) - span.offset, span.end) * MICRO

    def bits(self, start: int, end: int, _fraction: int) -> int:
        """Return which of the seconds ``start <= t < end``, each plus a fraction in microseconds, are excluded."""
        first = start + self._zone.span(start).offset
        begin = first - first % self._unit
        bits = self._product.bits(begin, first + end - start) * ((1 << self._unit) - 1)
        return bits >> (first - begin) & ((1 << (end - start)) - 1)


class InstantsExcluded:
    """The instants of an engine, and nothing around them."""

    __slots__ = ("_engine", "_fraction")

    def __init__(self, engine: Engine, fraction: int) -> None:
        self._engine = engine
        self._fraction = fraction

    def end(self, instant: int) -> int | None:
        """Return None if *instant* is not excluded, else a later instant before which all are."""
        return instant + 1 if self._engine.next(instant - 1) == instant else None

    def covers(self, engine: Engine) -> bool:
        """Return whether *engine* is known to be excluded for ever; otherwise it takes a search to the horizon."""
        return isinstance(self._engine, Elapsed) and self._engine.has_all_of(engine)

    def bits(self, start: int, end: int, fraction: int) -> int:
        """Return which of the seconds ``start <= t < end``, each plus a fraction in microseconds, are excluded."""
        return self._engine.bits(start, end) if fraction == self._fraction else 0


class Union:
    """Any of several engines outside of the exclusions; an instant that is in two of them is in it once."""

    __slots__ = ("_effort", "_empty", "_engines", "_exclusions", "_fractions", "_zone")

    def __init__(
        self, engines: tuple[tuple[Engine, int], ...], exclusions: tuple[Exclusion, ...], zone: Zone, effort: Effort
    ) -> None:
        """Take the engines, each with the fraction of a second at which it fires, in microseconds."""
        engines = tuple((engine, fraction) for engine, fraction in engines if not _is_covered(engine, exclusions))
        self._engines = tuple(engine for engine, _ in engines)
        self._fractions = {at: [engine for engine, other in engines if other == at] for _, at in engines}
        self._exclusions = exclusions
        self._empty = RangesExcluded()  # what a search was found to leave nothing in, so that no other goes there
        self._zone = zone
        self._effort = effort

    def next(self, after: int, until: int = HORIZON) -> int | None:
        """Return the first instant strictly later than *after*, if it is not later than *until*.

        From one excluded stretch to the next; where they are too short for that, day by day.
        """
        ahead = [self._ask(engine, after) for engine in self._engines]
        steps, tries, since = 0, 0, after
        while (instant := min(ahead, default=HORIZON + 1)) <= until:
            end = self._excluded_until(instant)
            if end is None:
                break
            steps += 1
            tries += 1
            if tries >= _SHORT:
                if end - since < DAY * MICRO:
                    end = min(self._first_left(end, fraction) for fraction in self._fractions)
                else:
                    tries = 0
                since = end
            for place, engine in enumerate(self._engines):
                if ahead[place] < end:
                    ahead[place] = self._ask(engine, end - 1)
        if steps > _SHORT:
            self._empty = RangesExcluded((after + 1, instant))
        return instant if instant <= until else None

    def _ask(self, engine: Engine, after: int) -> int:
        found = engine.next(after)
        if found is None:
            return HORIZON + 1
        self._effort.spend(1 + min((found - after) // _YEAR, _MOST_YEARS))  # a rare rule looks up the years it skips
        return found

    def excludes(self, instant: int) -> bool:
        """Tell whether one of the exclusions covers an instant."""
        return any(rule.end(instant) is not None for rule in self._exclusions)

    def _excluded_until(self, instant: int) -> int | None:
        self._effort.spend(len(self._exclusions))
        found = self._empty.end(instant)
        if found is not None:
            return found
        return next((end for rule in self._exclusions if (end := rule.end(instant)) is not None), None)

    def _first_left(self, instant: int, fraction: int) -> int:
        """Return the first instant of the day from *instant* on that is left, or the end of that day."""
        self._effort.spend(_STEPS_A_DAY * (len(self._engines) + len(self._exclusions)))
        second = -((fraction - instant) // MICRO)
        end = min(second + DAY, self._zone.span(second).end)
        bits = self._left(second, end, fraction)
        return ((bits & -bits).bit_length() - 1 + second if bits else end) * MICRO + fraction

    def count(self, after: int, until: int) -> int:
        """Count the instants in ``after < t <= until``: one by one where they are few, else day by day."""
        if self.most(after, until) <= 16 * (1 + (until - after) // (DAY * MICRO)):
            return self._count_one_by_one(after, until)
        return sum(self._count_at_fraction(after, until, fraction) for fraction in self._fractions)

    def most(self, after: int, until: int) -> int:
        """Return how many there would be at most, if nothing were excluded."""
        return sum(engine.count(after, until) for engine in self._engines)

    def _count_one_by_one(self, after: int, until: int) -> int:
        count = 0
        instant = self.next(after, until)
        while instant is not None:
            count += 1
            instant = self.next(instant, until)
        return count

    def _count_at_fraction(self, after: int, until: int, fraction: int) -> int:
        """Count the instants that are a whole second and *fraction*, a day or the rest of a span at a time."""
        second, last = (after - fraction) // MICRO + 1, (until - fraction) // MICRO + 1
        count = 0
        while second < last:
            end = min(second + DAY, last, self._zone.span(second).end)
            count += self._left(second, end, fraction).bit_count()
            second = end
        return count

    def _left(self, start: int, end: int, fraction: int) -> int:
        """Return what is left of the seconds ``start <= t < end``, each plus *fraction*, as the bits of a number."""
        bits = excluded = 0
        for engine in self._fractions[fraction]:
            bits |= engine.bits(start, end)
        if bits:
            for rule in self._exclusions:
                excluded |= rule.bits(start, end, fraction)
        return bits & ~excluded


def _is_covered(engine: Engine, exclusions: tuple[Exclusion, ...]) -> bool:
    return any(isinstance(rule, InstantsExcluded) and rule.covers(engine) for rule in exclusions)
