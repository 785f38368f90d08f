"""Fire times that a new time zone database has moved.

A stored next fire time is a cache of its timing. Where the rules of a zone have changed, the same local time is another
instant now, which may come before the stored one: then a claim would find it too late. An OS process keeps the rules
with which it began, so all requests are looked over once after a start, a few at a time.
"""

import math
from datetime import datetime

from bgsched._runlog import LOGGER
from bgsched.clock import Clock
from bgsched.request import Request, RequestStatus, as_of_today
from bgsched.stores.base import RequestFilter, Store

__all__ = ["MovedTimes"]

_BITE = 100
_REST = 10  # times as long as a bite took, until the next


class MovedTimes:
    """One scheduler's look over the requests. *after*: the id of the last one that it has seen; ``None``: of all."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._after: str | None = ""
        self._next = clock.monotonic()

    def go_on(self, now: datetime) -> None:
        """Look at the next few, if it is time to."""
        began = self._clock.monotonic()
        if self._after is None or began < self._next:
            return
        wanted = RequestFilter(status=frozenset({RequestStatus.SCHEDULED}), after=self._after or None, limit=_BITE)
        found = self._store.reader().requests(wanted)
        for request in found:
            if _moved(request, now) is not None:
                self._store.change(request.id, lambda stored: _moved(stored, now), now)
                LOGGER.info(
                    "the next fire time of request %r was moved: the rules of its zone have changed", request.id
                )
        self._after = found[-1].id if len(found) == _BITE else None
        self._next = began + (1 + _REST) * (self._clock.monotonic() - began)

    def left(self) -> float:
        """Return for how many seconds there is nothing to do here."""
        return math.inf if self._after is None else max(0.0, self._next - self._clock.monotonic())


def _moved(request: Request | None, now: datetime) -> Request | None:
    """Return the request with its moved fire time, ``None`` where that did not move."""
    if request is None:
        return None
    try:
        moved = as_of_today(request, now)
    except Exception:  # noqa: BLE001  the claim parks it, and says why
        return None
    return None if moved is request else moved
