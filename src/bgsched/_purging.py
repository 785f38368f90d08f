"""When a scheduler deletes what is past its retention: soon after its start, then every hour, bite by bite.

A bite may hold the store's writers up for as long as it lasts, and does so with the scheduler's own pass: whatever
comes due meanwhile is late by it. So bites are as small as it takes to be quick (`Store.bite`), and they go where
nothing is known to be due for longer than they take. Where there is no such place, between two of them the work has
thirty times as long as the first one took: one run in thirty may be late, by the few milliseconds of a bite.
"""

import random
from collections.abc import Callable
from datetime import datetime

from bgsched.clock import Clock
from bgsched.request import Retention
from bgsched.stores.base import Store

__all__ = ["Purging"]

_FIRST = 60.0  # seconds after the start: a host that is never up for long deletes as well
_EVERY = 3600.0
_REST = 10  # times as long as a bite took, until one may follow: for the disk, to delete is as much as to write
_LONGEST_REST = 30  # times as long, until one follows wherever it falls
_ROOM = 1.5  # times as long as the next bite should take, that a place for it has
_MOST, _LEAST = 200, 10  # runs in a bite


class Purging:
    """One scheduler's purge. *after*: the id of the run after which the next bite looks."""

    def __init__(self, store: Store, retention: Retention, clock: Clock) -> None:
        self._store = store
        self._retention = retention
        self._clock = clock
        self._next = self._latest = clock.monotonic() + _FIRST
        self._expected = 0.0
        self._after = 0
        self._kept_from: dict[str, int] = {}
        self._size = 5 * _LEAST

    def go_on(self, now: datetime, free: Callable[[], float]) -> None:
        """Take a bite, if it is time for one. *free* tells for how many seconds nothing is known to be due."""
        elapsed = self._clock.monotonic()
        if elapsed < self._next or (elapsed < self._latest and free() < _ROOM * self._expected):
            return
        began = self._clock.monotonic()
        self._next = self._latest = began + _EVERY * random.uniform(0.9, 1.1)  # noqa: S311  no two march in step
        if self._after == 0:
            self._kept_from = {}
        size = self._size
        bite = self._store.purge(self._retention, now, size, after=self._after, kept_from=self._kept_from)
        self._after = bite.after or 0
        took = self._clock.monotonic() - began
        self._size = _fitting(size, took, self._store.bite)
        self._expected = took * self._size / size
        if bite.after is not None:
            self._next = began + (1 + _REST) * took
            self._latest = began + (1 + _LONGEST_REST) * took

    def left(self) -> float:
        """Return for how many seconds there is surely nothing to do here, unless a pass finds room for a bite."""
        elapsed = self._clock.monotonic()
        return max(0.0, (self._next if elapsed < self._next else self._latest) - elapsed)


def _fitting(size: int, took: float, well: float) -> int:
    """Return how many runs the next bite should have, when one of *size* *took* so many seconds, to take it *well*."""
    fitting = 2 * size if took * 2 <= well else int(size * max(0.5, well / took))
    return max(_LEAST, min(_MOST, fitting))
