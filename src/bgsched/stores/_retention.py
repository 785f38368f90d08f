"""What is past its retention, found by reading and deleted in small bites: no bite holds the others up for long."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from bgsched.request import RequestStatus, Retention
from bgsched.run import FINAL
from bgsched.stores._questions import Aged, Bite, RunFilter, StoreReader
from bgsched.stores._steps import Transaction

__all__ = ["purge"]

_LOOK = 10  # runs at least beside those that may be deleted: the newest of their requests, say
_MOST_REQUESTS = 50
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_FAR = datetime(9999, 12, 30, tzinfo=UTC)


class _Surplus:
    """From which run on, by its id, those of a process are few enough to be kept.

    To count them takes as long as there are many, so it is done once for a whole purge, and for one process in a bite.
    """

    def __init__(self, reader: StoreReader, per_process: int | None, kept_from: dict[str, int] | None) -> None:
        self._reader = reader
        self._count = per_process
        self._at_once = kept_from is None
        self._known: dict[str, int] = {} if kept_from is None else kept_from

    def countable(self, found: Sequence[Aged]) -> Sequence[Aged]:
        """Return those of *found* before the second process that is not counted yet."""
        if self._count is None or self._at_once:
            return found
        _, *others = dict.fromkeys(aged.process for aged in found if aged.process not in self._known) or [None]
        return list(takewhile(lambda aged: aged.process not in others, found))

    def covers(self, aged: Aged) -> bool:
        if self._count is None:
            return False
        if aged.process not in self._known:
            self._known[aged.process] = self._reader.nth_newest(aged.process, self._count) or 0
        return aged.id < self._known[aged.process]


def _oldest_kept(retention: Retention, now: datetime) -> datetime:
    """Return the instant from which on no run is past its retention: a run ends after it was recorded."""
    if retention.per_process is not None:
        return _FAR
    ages = [age for age in (retention.complete, *map(retention.age_of, FINAL)) if age is not None]
    return _earlier(now, min(ages)) if ages else _FIRST


def _earlier(now: datetime, age: timedelta) -> datetime:
    """Return the instant so long before *now*; of an age beyond all records, one that is before all of them."""
    return now - min(age, now - _FIRST)


def _is_stale(aged: Aged, retention: Retention, now: datetime, surplus: _Surplus) -> bool:
    age = retention.age_of(aged.status)
    return (age is not None and aged.finished_at < _earlier(now, age)) or surplus.covers(aged)


def _is_over(aged: Aged, retention: Retention, now: datetime) -> bool:
    return retention.complete is not None and aged.finished_at < _earlier(now, retention.complete)


def purge(
    reader: StoreReader,
    transaction: Callable[[], AbstractContextManager[Transaction]],
    retention: Retention,
    now: datetime,
    limit: int,
    after: int,
    kept_from: dict[str, int] | None,
) -> Bite:
    """Do what `Store.purge` promises."""
    look = limit + max(_LOOK, limit // 4)
    surplus = _Surplus(reader, retention.per_process, kept_from)
    looked = reader.aged(after, _oldest_kept(retention, now), look)
    found = surplus.countable(looked)
    stale = [aged.id for aged in found if not aged.is_newest and _is_stale(aged, retention, now, surplus)][:limit]
    complete = [aged for aged in found if aged.is_newest and _is_over(aged, retention, now)][:_MOST_REQUESTS]
    runs, requests = 0, 0
    if stale:
        with transaction() as tx:
            runs = tx.purge_runs(stale)
    if complete:
        with transaction() as tx:
            requests = _purge_requests(reader, tx, complete)
    if runs < len(stale) or len(stale) == limit:
        return Bite(runs, requests, stale[runs - 1] if runs else after)
    if len(complete) == _MOST_REQUESTS:
        return Bite(runs, requests, after if requests else complete[-1].id)
    is_all = len(found) == len(looked) < look
    return Bite(runs, requests, None if is_all else found[-1].id)


def _purge_requests(reader: StoreReader, tx: Transaction, newest: Sequence[Aged]) -> int:
    """Delete the requests of these runs that are complete, not declared in the code, and have not run since.

    One that the code declares would be filed, and run, again.
    """
    run_ids = {aged.request_id: aged.id for aged in newest}
    deleted = 0
    for request in tx.get_requests(list(run_ids)):
        if request.status is RequestStatus.COMPLETE and request.declared is None:
            last = reader.runs(RunFilter(request=request.id, limit=1))
            if last and last[0].id == run_ids[request.id]:
                tx.delete_request(request.id)
                deleted += 1
    return deleted
