"""Sets of instants: ask for the first one after an instant, or how many lie between two.

Instants are microseconds. Every engine is immutable as far as an answer can tell, and none walks from its anchor: the
first two divide, the third asks a set of days, a set of times and a zone.
"""

from collections.abc import Callable
from itertools import islice
from typing import Protocol

from bgsched._calendar.days import Days
from bgsched._calendar.times import Times
from bgsched._calendar.units import DAY, HORIZON, MICRO, enumerate_bits, members
from bgsched._calendar.zone import Gap, Span, Unambiguous, Zone

__all__ = [
    "FEW",
    "Elapsed",
    "Ended",
    "Engine",
    "HourlyAt",
    "Nominal",
    "Product",
    "WallClock",
    "nth_counted",
    "nth_member",
]

_HOUR = 3600


class Engine(Protocol):
    """A set of instants."""

    def next(self, after: int) -> int | None:
        """Return the first instant strictly later than *after*."""

    def count(self, after: int, until: int) -> int:
        """Count the instants in ``after < t <= until``."""

    def bits(self, start: int, end: int) -> int:
        """Return the seconds of ``start <= t < end``, which no transition interrupts, as the bits of a number.

        Bit i stands for the second ``start + i``, whatever fraction of a second the engine keeps beside it.
        """


class Elapsed:
    """Every `step` microseconds from an anchor."""

    __slots__ = ("anchor", "step")

    def __init__(self, anchor: int, step: int) -> None:
        self.anchor = anchor
        self.step = step

    def next(self, after: int) -> int:
        """Return the first instant strictly later than *after*."""
        if after < self.anchor:
            return self.anchor
        return self.anchor + ((after - self.anchor) // self.step + 1) * self.step

    def has_all_of(self, other: Engine) -> bool:
        """Return whether every instant of *other* is one of these."""
        if not isinstance(other, Elapsed) or other.anchor < self.anchor:
            return False
        return (other.anchor - self.anchor) % self.step == 0 == other.step % self.step

    def count(self, after: int, until: int) -> int:
        """Count the instants in ``after < t <= until``."""
        return self._count_to(until) - self._count_to(after)

    def bits(self, start: int, end: int) -> int:
        """Return the seconds of ``start <= t < end`` as the bits of a number."""
        first = (self.next(start * MICRO - 1)) // MICRO - start
        step, length = self.step // MICRO, end - start
        if first >= length:
            return 0
        # 1 + 2**step + 2**(2 * step) + ... is a geometric series
        terms = (length - 1 - first) // step + 1
        return ((1 << step * terms) - 1) // ((1 << step) - 1) << first

    def _count_to(self, until: int) -> int:
        return 0 if until < self.anchor else (until - self.anchor) // self.step + 1


class HourlyAt:
    """Every n hours, at a given minute of the local clock.

    The k-th instant is the first one not before ``first + k * n`` hours at which the local clock reads the minute.
    Where a zone shifts by whole hours that is ``first + k * n`` hours itself; after a shift of 30 minutes (Lord Howe)
    or for good (Caracas, Pyongyang) it is up to an hour later, and two may fall on one instant.
    """

    __slots__ = ("_first", "_minute", "_step", "_zone")

    def __init__(self, anchor: int, every: int, minute: int, zone: Zone) -> None:
        self._zone = zone
        self._minute = minute * 60
        self._step = every * _HOUR
        self._first = self._align(-(-anchor // MICRO))

    def next(self, after: int) -> int:
        """Return the first instant strictly later than *after*."""
        second = after // MICRO
        step = max(self._steps_to(second), 0)
        found = self._nth(step)
        while found <= second:
            step += 1
            found = self._nth(step)
        return found * MICRO

    def count(self, after: int, until: int) -> int:
        """Count the instants in ``after < t <= until``; two that coincide, which only a transition brings, are one."""
        low, high = after // MICRO, until // MICRO
        count = self._index(high) - self._index(low)
        for span in self._zone.spans(low - 2 * _HOUR, high)[1:]:  # of one before *low*, two may coincide after it
            step = max(self._steps_to(span.start), 0)
            while self._nth(step) <= span.start + 2 * _HOUR:
                this, that = self._nth(step), self._nth(step + 1)
                count -= this == that and low < that <= high
                step += 1
        return count

    def bits(self, start: int, end: int) -> int:
        """Return the seconds of ``start <= t < end`` as the bits of a number."""
        return enumerate_bits(self._second, start, end)

    def _second(self, second: int) -> int:
        return self.next(second * MICRO - 1) // MICRO

    def _steps_to(self, second: int) -> int:
        """Return a step that is not later than the first one after *second*."""
        return (second - self._first - 2 * _HOUR) // self._step

    def _nth(self, step: int) -> int:
        return self._align(self._first + step * self._step)

    def _index(self, second: int) -> int:
        """Count the steps, coinciding ones included, that fall on *second* or before."""
        step = max(self._steps_to(second), 0)
        while self._nth(step) <= second:
            step += 1
        return step

    def _align(self, second: int) -> int:
        span = self._zone.span(second)
        while True:
            found = second + (self._minute - second - span.offset) % _HOUR
            if found < span.end:
                return found
            second = span.end
            span = self._zone.span(second)


class Nominal(Protocol):
    """A set of local seconds."""

    def next(self, local: int) -> int | None:
        """Return the first local second of the set that is not before *local*."""

    def count(self, start: int, end: int) -> int:
        """Count the local seconds of the set in ``start <= local < end``."""

    def bits(self, start: int, end: int) -> int:
        """Return the set in ``start <= local < end`` as a number whose bit i stands for ``start + i``."""


class Product:
    """Every time of one set on every day of another."""

    __slots__ = ("_first", "_last", "_next_day", "days", "times")

    def __init__(self, days: Days, times: Times) -> None:
        self.days = days
        self.times = times
        self._next_day = days.next  # what every question needs is kept at hand
        self._first = times.first
        self._last = times.last

    def next(self, local: int) -> int | None:
        """Return the first local second of the set that is not before *local*."""
        today, second = divmod(local, DAY)
        if second > self._last:
            today, second = today + 1, 0
        day = self._next_day(today)
        if day is None:
            return None
        if day > today or second <= self._first:
            return day * DAY + self._first
        return day * DAY + self.times.next(second)

    def count(self, start: int, end: int) -> int:
        """Count the local seconds of the set in ``start <= local < end``."""
        if start >= end:
            return 0
        return self._count_before(start, end) - self._count_before(start, start)

    def bits(self, start: int, end: int) -> int:
        """Return the set in ``start <= local < end`` as a number whose bit i stands for ``start + i``."""
        bits = 0
        day = self.days.next(start // DAY)
        while day is not None and day * DAY < end:
            shift = day * DAY - start
            bits |= self.times.bits() << shift if shift >= 0 else self.times.bits() >> -shift
            day = self.days.next(day + 1)
        return bits & ((1 << (end - start)) - 1)

    def _count_before(self, start: int, end: int) -> int:
        """Count from the beginning of the day of *start* to *end*."""
        first = start // DAY
        day, second = divmod(end, DAY)
        count = self.days.count(first, day) * self.times.total
        return count + (self.times.count_before(second) if self.days.next(day) == day else 0)


class WallClock:
    """Local seconds on the clock of a zone.

    *Fixed* (``clock=False``): each local second is one instant at most, see :meth:`_next_fixed`. *Clock*: each instant
    at which the clock reads such a second. Far from transitions the two are the same and a subtraction; the span asked
    about last is kept at hand.
    """

    __slots__ = ("_clock", "_nominal", "_recent", "_zone")

    def __init__(self, nominal: Nominal, zone: Zone, *, clock: bool = False) -> None:
        self._nominal = nominal
        self._zone = zone
        self._clock = clock
        self._recent = zone.span(0)

    def next(self, after: int) -> int | None:
        """Return the first instant strictly later than *after*."""
        second = after // MICRO
        start, end, offset, lo, hi = self._recent
        if not start <= second < end:
            start, end, offset, lo, hi = self._recent = self._zone.span(second)
        local = second + offset + 1
        if local >= lo:
            found = self._nominal.next(local)
            if found is not None and found < hi:
                return (found - offset) * MICRO
        answer = self._next_clock(second + 1) if self._clock else self._next_fixed(second, local)
        return None if answer is None else answer * MICRO

    def _next_fixed(self, second: int, start: int) -> int | None:
        """Search for local seconds from *start* on; one in a gap is its end, one in a fold its first occurrence.

        In that reading instants never go back as local seconds go on. A local day that does not exist has none.
        """
        local = start
        while (found := self._nominal.next(local)) is not None:
            local = found
            resolved = self._zone.resolve(local)
            if isinstance(resolved, Unambiguous):
                return resolved.at
            if isinstance(resolved, Gap):
                if not resolved.swallows_day(local // DAY):
                    return resolved.end
                local = (local // DAY + 1) * DAY
            elif resolved.first > second:
                return resolved.first
            else:
                local = resolved.local_end  # we stand in the second pass: all of the fold is over
        return None

    def _next_clock(self, second: int) -> int | None:
        """Search span by span from the instant *second* on."""
        while second * MICRO <= HORIZON:
            span = self._zone.span(second)
            local = self._nominal.next(second + span.offset)
            if local is None:
                return self._read_again(span.end) if span.end - second < 2 * DAY else None
            if local - span.offset < span.end:
                return local - span.offset
            # Nothing reads between here and `local`, except what the next span may read again.
            second = max(span.end, local - 2 * DAY)
            if second > span.end and (again := self._read_again(span.end)) is not None:
                return again
        return None

    def _read_again(self, start: int) -> int | None:
        """Return the first match within the span that begins at *start*, if it is near."""
        span = self._zone.span(start)
        local = self._nominal.next(start + span.offset)
        return (
            local - span.offset if local is not None and local - span.offset < min(span.end, start + 2 * DAY) else None
        )

    def count(self, after: int, until: int) -> int:
        """Count the instants in ``after < t <= until``, span by span."""
        low, high = after // MICRO + 1, until // MICRO + 1
        if low >= high:
            return 0
        count, before = 0, self._zone.span(low - 1)
        for span in self._zone.spans(low, high - 1):
            start, end = max(span.start, low), min(span.end, high)
            first = start + span.offset
            if not self._clock and before.end == span.start:
                count += self._count_gap(before, span)
                first = max(first, span.start + before.offset) if before.offset > span.offset else first
            elif not self._clock and start != span.start:
                first = max(first, self._end_of_fold(span))
            count += self._nominal.count(first, end + span.offset)
            before = span
        return count

    def _count_gap(self, before: Span, span: Span) -> int:
        """Return 1 if the jump between two spans fires and its first local second after is no match of its own."""
        local, end = span.start + before.offset, span.start + span.offset
        if local >= end or self._nominal.next(end) == end:
            return 0
        while (found := self._nominal.next(local)) is not None and found < end:
            if not Gap(span.start, span.start + before.offset, end).swallows_day(found // DAY):
                return 1
            local = (found // DAY + 1) * DAY
        return 0

    def first_between(self, start: int, end: int) -> int | None:
        """Return the first local second of the set in ``start <= local < end``, whether or not it exists."""
        found = self._nominal.next(start) if start < end else None
        return found if found is not None and found < end else None

    def loses(self, second: int) -> int | None:
        """Return the first local second in the gap at the transition *second*, if there is one.

        Of a clock that is read so often that nobody would miss it, none.
        """
        start = second + self._zone.offset(second - 1)
        usual = self._clock and self.first_between(start - _HOUR, start) is not None
        return None if usual else self.first_between(start, second + self._zone.offset(second))

    def moved_to(self, second: int) -> int | None:
        """Return the local second in a gap that fires at the transition *second*, if one does."""
        before, span = self._zone.span(second - 1), self._zone.span(second)
        if self._clock or not self._count_gap(before, span):
            return None
        return self.first_between(second + before.offset, second + span.offset)

    def bits(self, start: int, end: int) -> int:
        """Return the seconds of ``start <= t < end``, which no transition interrupts, as the bits of a number."""
        span = self._zone.span(start)
        # At the very beginning of a span stands what the gap before it holds.
        calm = self._clock or (span.lo < start + span.offset and end + span.offset <= span.hi)
        if calm:
            return self._nominal.bits(start + span.offset, end + span.offset)
        return enumerate_bits(self._second, start, end)

    def _second(self, second: int) -> int | None:
        found = self.next(second * MICRO - 1)
        return None if found is None else found // MICRO

    def _end_of_fold(self, span: Span) -> int:
        """Return the first local second of a span that its predecessor did not read already."""
        return span.start + max(self._zone.span(span.start - 1).offset, span.offset)


class Ended:
    """A clock up to an instant, which is in it."""

    __slots__ = ("_clock", "_last")

    def __init__(self, clock: WallClock, last: int) -> None:
        self._clock = clock
        self._last = last

    def next(self, after: int) -> int | None:
        """Return the first instant strictly later than *after*."""
        found = self._clock.next(after)
        return found if found is not None and found <= self._last else None

    def count(self, after: int, until: int) -> int:
        """Count the instants in ``after < t <= until``."""
        return self._clock.count(after, min(until, self._last))

    def bits(self, start: int, end: int) -> int:
        """Return the seconds of ``start <= t < end`` as the bits of a number."""
        end = min(end, self._last // MICRO + 1)
        return self._clock.bits(start, end) if start < end else 0

    def loses(self, second: int) -> int | None:
        """Return the first local second that the transition *second* takes away, as :meth:`WallClock.loses` does."""
        return self._clock.loses(second) if second * MICRO <= self._last else None

    def moved_to(self, second: int) -> int | None:
        """Return the local second in a gap that fires at the transition *second*, if one does."""
        return self._clock.moved_to(second) if second * MICRO <= self._last else None


FEW = 1_000


def nth_member(
    find: Callable[[int], int | None], count: Callable[[int, int], int], first: int, number: int, last: int
) -> int:
    """Return the n-th member not before *first*, or *last* if there are fewer: few in steps, many by counting.

    *find* returns the first member that is not before a place, *count* says how many lie in ``start <= x < end``.
    """
    found = list(islice(members(find, first, last + 1), min(number, FEW)))
    if len(found) < min(number, FEW):
        return last
    if number <= FEW:
        return found[-1]
    return nth_counted(count, found[-1] + 1, number - FEW, last, found[-1] - found[0])


def nth_counted(count: Callable[[int, int], int], first: int, number: int, last: int, window: int = 1 << 16) -> int:
    """Return the n-th member not before *first*, or *last* if there are fewer, by doubling and halving a window.

    All the windows together are a few times the answer's distance, or the first one if that is more.
    """
    place, window, growing = first, 1 << window.bit_length(), True
    while window:
        found = count(place, min(place + window, last + 1))
        if found < number:
            number -= found
            place += window
            if place > last:
                return last
        else:
            growing = False
        window = window * 2 if growing else window // 2
    return place
