"""What a Schedule comes to once its start and its zone are known: engines, exclusions and bounds."""

from typing import NamedTuple

from bgsched._calendar.effort import Effort
from bgsched._calendar.engine import FEW, Ended, Engine, WallClock, nth_counted, nth_member
from bgsched._calendar.exclusion import Exclusion, Union
from bgsched._calendar.units import FIRST_INSTANT, HORIZON
from bgsched._calendar.zone import Zone

__all__ = ["Anchor", "Plan"]


class Anchor(NamedTuple):
    """Where a frequency counts from: an instant, the local second it reads, the zone; and how far it may search."""

    instant: int
    local: int
    zone: Zone
    effort: Effort


class Plan:
    """The fire times of one schedule as instants."""

    __slots__ = ("_before", "_engine", "_last", "_repetitions", "_sure_until", "_union", "clocks", "zone")

    def __init__(
        self,
        anchor: Anchor,
        engines: tuple[tuple[Engine, int], ...],
        exclusions: tuple[Exclusion, ...],
        *,
        start: int | None = None,
        finish: int | None = None,
        repetitions: int | None = None,
    ) -> None:
        """Take the engines, each with its fraction of a second, and the inclusive bounds as instants."""
        self.zone = anchor.zone
        self.clocks = tuple(engine for engine, _ in engines if isinstance(engine, WallClock | Ended))
        alone = len(engines) == 1 and not exclusions
        self._union = None if alone else Union(engines, exclusions, anchor.zone, anchor.effort)
        self._engine: Engine | Union = self._union or engines[0][0]
        self._before = max(FIRST_INSTANT, start - 1 if start is not None else FIRST_INSTANT)
        self._last = min(HORIZON, finish if finish is not None else HORIZON)
        self._repetitions = repetitions
        self._sure_until: int | None = None

    def next(self, after: int, until: int = HORIZON) -> int | None:
        """Return the first fire time strictly later than *after*, if it is not later than *until*."""
        if self._union is None and self._repetitions is None:  # the usual case, asked for each fire time
            found = self._engine.next(after if after > self._before else self._before)  # noqa: FURB136 - max() takes longer
            return found if found is not None and found <= self._last and found <= until else None
        if self._repetitions is not None:
            self._settle(after)
        found = self._search(after, until)
        if found is not None and self._repetitions is not None:
            self._settle(found)
        return found if found is not None and found <= self._last else None

    def _search(self, after: int, until: int) -> int | None:
        """Do as `next`, whatever number of repetitions is left; what exclusions leave is searched for no further."""
        after, until = max(after, self._before), min(until, self._last)
        found = self._engine.next(after) if self._union is None else self._union.next(after, until)
        return found if found is not None and found <= until else None

    def count(self, after: int, until: int) -> int:
        """Count the fire times in ``after < t <= until``."""
        if self._repetitions is not None:
            self._settle(until)
        after, until = max(after, self._before), min(until, self._last)
        return self._engine.count(after, until) if after < until else 0

    def last(self, until: int, after: int | None) -> int | None:
        """Return the latest fire time in ``after < t <= until``, by bisecting on :meth:`next`."""
        if self._repetitions is not None:
            self._settle(until)
        until = min(until, self._last)
        floor = self._before if after is None else max(after, self._before)
        reach, low = 1, self.next(max(until - 1, floor), until)
        while low is None:
            if until - reach <= floor:
                low = self.next(floor, until)
                break
            reach *= 4
            low = self.next(max(until - reach, floor), until)
        if low is None:
            return None
        high = until
        while low < high:
            middle = (low + high + 1) // 2
            found = self.next(middle - 1, until)
            if found is None:
                high = middle - 1
            else:
                low = found
        return low

    def allows(self, instant: int) -> bool:
        """Tell whether an instant is within the bounds and outside of the exclusions."""
        if self._repetitions is not None:
            self._settle(instant)
        within = self._before < instant <= self._last
        return within and not (self._union is not None and self._union.excludes(instant))

    def is_feasible(self) -> bool:
        """Tell whether it ever fires, whatever the number of repetitions."""
        return self._search(self._before, self._last) is not None

    def _settle(self, until: int) -> None:
        """Turn the number of repetitions into the last fire time, once somebody asks where there may be none left.

        It may cost some milliseconds; with exclusions, which are counted day by day, as much as the days are many. So
        they are counted only where they matter: as long as there would be some left without them, there are with them.
        """
        repetitions = self._repetitions  # another thread may be here, and come to the same answer
        if repetitions is None:
            return
        if self._sure_until is None:
            self._sure_until = self._surely_until(repetitions)
        if min(until, self._last) > self._sure_until:
            self._last = nth_member(self._first_from, self._count_between, self._before + 1, repetitions, self._last)
            self._repetitions = None

    def _surely_until(self, number: int) -> int:
        if self._union is None or number <= FEW:
            return self._before
        most = self._union.most
        return nth_counted(lambda start, end: most(start - 1, end - 1), self._before + 1, number, self._last)

    def _first_from(self, instant: int) -> int | None:
        return self._search(instant - 1, self._last)

    def _count_between(self, start: int, end: int) -> int:
        found = self._search(start - 1, end - 1)
        return 0 if found is None else self._engine.count(found - 1, end - 1)
