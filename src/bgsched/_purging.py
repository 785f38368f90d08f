"""When a scheduler deletes what is past its retention: soon after its start, then every hour, bite by bite.

A bite holds the store's writers up for as long as it lasts, and the scheduler's own pass too. So a bite that took long
is followed by a smaller one, and between two bites the work goes on.
"""

import random
from datetime import datetime, timedelta

from bgsched.clock import Clock
from bgsched.request import Retention
from bgsched.stores.base import Store

__all__ = ["Purging"]

_FIRST = 60.0  # seconds after the start: a host that is never up for long deletes as well
_EVERY = 3600.0
_ON = 0.25  # seconds until the next bite, while there is more
_MOST, _LEAST = 200, 10  # runs in a bite
_LONG = timedelta(milliseconds=25)


class Purging:
    """One scheduler's purge. *after*: the id of the run after which the next bite looks."""

    def __init__(self, store: Store, retention: Retention, clock: Clock) -> None:
        self._store = store
        self._retention = retention
        self._clock = clock
        self._next = clock.monotonic() + _FIRST
        self._after = 0
        self._size = _MOST

    def go_on(self, now: datetime) -> None:
        """Take a bite, if it is time for one."""
        began = self._clock.monotonic()
        if began < self._next:
            return
        self._next = began + _EVERY * random.uniform(0.9, 1.1)  # noqa: S311  no two march in step
        bite = self._store.purge(self._retention, now, self._size, after=self._after)
        self._after = bite.after or 0
        took_long = self._clock.monotonic() - began > _LONG.total_seconds()
        self._size = max(_LEAST, self._size // 2) if took_long else min(_MOST, 2 * self._size)
        if bite.after is not None:
            self._next = began + _ON
