"""A time zone as spans of constant offset, and the one place that knows about gaps and folds.

``zoneinfo`` answers "which offset now?" but never "until when?". A :class:`Zone` finds that out once for each stretch
of about a year (2**25 seconds): it asks for the offset every day and a half, or where nothing happens faster every
twelve days, and bisects between answers that differ. Edges of stretches are treated as transitions between equal
offsets, which changes nothing; each stretch looks two days beyond its own edges, to know which of its local seconds
another one reads too.

From 2100 on every zone follows a rule of the Gregorian calendar, which repeats every 400 years (the tables of the zone
database end in 2037, those of Morocco and Palestine in 2087): later stretches are read 400, 800, ... years earlier. A
question about the year 9000 therefore costs, and stores, no more than one about 2100.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from bgsched._calendar.units import DAY, EPOCH_NAIVE, FIRST_DAY, LAST_DAY

__all__ = ["Fold", "Gap", "Resolved", "Span", "Unambiguous", "Zone", "zone_of"]

_BLOCK_BITS = 25
_PROBE = 1 << 17
_PROBE_CALM = 1 << 20
# Where offsets last for months: before the first of them changed (Manila, 1844), and from 2088 on, after the tables.
# Until then the tables of Palestine have weeks of summer time between Ramadan and its end (2054, 2072).
_FIRST_CHANGE, _LAST_TABLE = -4_102_444_800 >> _BLOCK_BITS, 3_723_753_600 >> _BLOCK_BITS
_NEAR = 2 * DAY  # no transition reaches further than a day (Apia, Kwajalein, Manila) plus an offset
_CYCLE = 146_097 * DAY
_CYCLE_FROM = 47_847 * DAY  # 2101-01-01
_EARLIEST = (FIRST_DAY + 1) * DAY
_LATEST = (LAST_DAY - 1) * DAY


class Span(NamedTuple):
    """Instants ``start <= t < end`` with one offset; the local seconds ``lo <= local < hi`` are read in it alone."""

    start: int
    end: int
    offset: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Unambiguous:
    """The local time happens once, at the instant `at`."""

    at: int


@dataclass(frozen=True, slots=True)
class Fold:
    """The local time happens twice; `local_end` is the first local second after the repeated stretch."""

    first: int
    second: int
    local_end: int


@dataclass(frozen=True, slots=True)
class Gap:
    """The local time never happens: clocks jump at the instant `end` from `local_start` to `local_end`."""

    end: int
    local_start: int
    local_end: int

    def swallows_day(self, day: int) -> bool:
        """Tell whether the whole local day does not exist (Apia, 30 December 2011)."""
        return self.local_start <= day * DAY and (day + 1) * DAY <= self.local_end


Resolved = Unambiguous | Fold | Gap


class Zone:
    """One zone of the IANA database, as integers."""

    __slots__ = ("_blocks", "_info", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self._info = ZoneInfo(key)
        self._blocks: dict[int, tuple[tuple[int, ...], tuple[Span, ...]]] = {}

    def span(self, instant: int) -> Span:
        """Return the span that holds an instant, in seconds."""
        if instant >= _CYCLE_FROM + _CYCLE:
            return self._span_of_later_cycle(instant)
        block = self._blocks.get(instant >> _BLOCK_BITS)
        if block is None:
            block = self._explore(instant >> _BLOCK_BITS)
        starts, spans = block
        return spans[bisect_right(starts, instant) - 1] if len(spans) > 1 else spans[0]

    def offset(self, instant: int) -> int:
        """Return the offset from UTC at an instant, both in seconds."""
        return self.span(instant).offset

    def resolve(self, local: int) -> Resolved:
        """Say what a local second is: unambiguous, in a fold, or in a gap. The only function that decides this."""
        span = self.span(local - self.span(local).offset)
        if span.lo <= local < span.hi:
            return Unambiguous(local - span.offset)
        near = self.spans(local - _NEAR, local + _NEAR)
        found = [local - span.offset for span in near if span.start <= local - span.offset < span.end]
        if len(found) == 1:
            return Unambiguous(found[0])
        edges = [(before.end, before.offset, after.offset) for before, after in pairwise(near)]
        if found:
            end = next(at + old for at, old, new in edges if found[0] < at <= found[-1] and new < old)
            return Fold(found[0], found[-1], end)
        return next(Gap(at, at + old, at + new) for at, old, new in edges if at + old <= local < at + new)

    def spans(self, after: int, until: int) -> list[Span]:
        """Return the spans that hold the instants ``after <= t <= until``, in order."""
        spans = [self.span(after)]
        while spans[-1].end <= until:
            spans.append(self.span(spans[-1].end))
        return spans

    def _span_of_later_cycle(self, instant: int) -> Span:
        shift = (instant - _CYCLE_FROM) // _CYCLE * _CYCLE
        span = self.span(instant - shift)
        start, end = max(span.start, _CYCLE_FROM) + shift, min(span.end, _CYCLE_FROM + _CYCLE) + shift
        lo, hi = max(span.lo + shift, start + span.offset), min(span.hi + shift, end + span.offset)
        return Span(start, end, span.offset, lo, hi)

    def _probe(self, instant: int) -> int:
        """Ask zoneinfo for an offset; beyond what datetime can hold, the nearest answer stands."""
        utc = EPOCH_NAIVE + timedelta(0, min(max(instant, _EARLIEST), _LATEST))
        delta = self._info.fromutc(utc.replace(tzinfo=self._info)).replace(tzinfo=None) - utc
        return delta.days * DAY + delta.seconds

    def _explore(self, block: int) -> tuple[tuple[int, ...], tuple[Span, ...]]:
        start, end = block << _BLOCK_BITS, (block + 1) << _BLOCK_BITS
        starts, offsets = [start - _NEAR], [self._probe(start - _NEAR)]
        step = _PROBE if _FIRST_CHANGE <= block <= _LAST_TABLE else _PROBE_CALM
        for probe in range(start - _NEAR, end + _NEAR, step):
            self._find_transitions(probe, min(probe + step, end + _NEAR), starts, offsets)
        pieces = list(zip(starts, [*starts[1:], end + _NEAR], offsets, strict=True))
        spans = tuple(_span_within(pieces, place, start, end) for place in range(len(pieces)))
        spans = tuple(span for span in spans if span.start < span.end)
        self._blocks[block] = tuple(span.start for span in spans), spans
        return self._blocks[block]

    def _find_transitions(self, low: int, high: int, starts: list[int], offsets: list[int]) -> None:
        """Append each transition in ``low < t <= high``, given that the offset at *low* is the last one found."""
        while self._probe(high) != offsets[-1]:
            same, other = low, high
            while other - same > 1:
                middle = (same + other) // 2
                if self._probe(middle) == offsets[-1]:
                    same = middle
                else:
                    other = middle
            starts.append(other)
            offsets.append(self._probe(other))
            low = other


def _span_within(pieces: list[tuple[int, int, int]], place: int, start: int, end: int) -> Span:
    """Cut a piece (from, to, offset) to ``start <= t < end``; the pieces around it say what else reads its seconds."""
    begin, finish, offset = pieces[place]
    begin, finish = max(begin, start), min(finish, end)
    before = [until + other for _, until, other in pieces[:place]]
    after = [since + other for since, _, other in pieces[place + 1 :]]
    return Span(begin, finish, offset, max([begin + offset, *before]), min([finish + offset, *after]))


@lru_cache(maxsize=1024)
def zone_of(key: str) -> Zone:
    """Return the shared zone of a known key."""
    return Zone(key)
