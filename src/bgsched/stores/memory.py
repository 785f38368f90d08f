"""A store in this OS process's memory: for tests, and for work that need not outlive the process.

Plain dictionaries behind one lock. A transaction keeps a journal of what it replaced, so that one that raises leaves
nothing behind. What is lent out is never what is kept: values are frozen, and their JSON parts are copied on the way.
"""

import heapq
import os
import threading
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Reversible
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice, takewhile

from bgsched.errors import StoreUnavailableError
from bgsched.request import Request
from bgsched.run import FINAL, LogLine, Run, RunStatus
from bgsched.stores._memory_tables import Tables, own
from bgsched.stores.base import (
    AT_WORK,
    LAST,
    Absence,
    Aged,
    Ended,
    Page,
    RequestFilter,
    RunFilter,
    SchedulerRecord,
    Store,
    Summary,
    summarize,
)

__all__ = ["MemoryStore"]

_LOOK = 100  # runs in which a text is looked for before others get the lock


class MemoryStore(Store):
    """Keeps everything in memory. Several schedulers of one OS process may share it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tables = Tables()
        self._commits = 0
        _ALL.add(self)

    def __repr__(self) -> str:
        return "MemoryStore()"

    def reader(self) -> "_Reader":
        """Return the reading half."""
        return _Reader(self._tables, self._lock)

    def is_at_work(self) -> bool:
        """Return whether this thread has the lock."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001  as Condition does

    @contextmanager
    def transaction(self) -> Iterator[Tables]:
        """Open the write transaction; one thread at a time."""
        if self.is_at_work():
            raise StoreUnavailableError(AT_WORK)
        with self._lock:
            try:
                yield self._tables
                self._tables.commit()
                self._commits += 1
            except BaseException:
                self._tables.roll_back()
                raise

    def changes(self) -> int:
        """Return the number of commits."""
        return self._commits

    def close(self) -> None:
        """Do nothing: what is in memory stays until the store is forgotten."""

    def before_fork(self) -> None:
        """Hold the lock over a fork: a child that inherited it from another thread would wait for ever."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Let go of it, in the parent and in the child."""
        self._lock.release()


class _Held(threading.local):
    """The stores whose locks a thread that forks holds; several threads may be about to fork."""

    stores: tuple[MemoryStore, ...] = ()


_ALL: "weakref.WeakSet[MemoryStore]" = weakref.WeakSet()
_HELD = _Held()


def _before_fork() -> None:
    _HELD.stores = tuple(sorted(_ALL, key=id))  # all who take several locks take them in one order
    for store in _HELD.stores:
        store.before_fork()


def _after_fork() -> None:
    held, _HELD.stores = _HELD.stores, ()
    for store in held:
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class _Reader:
    """Answers from the tables, under the store's lock."""

    def __init__(self, tables: Tables, lock: threading.RLock) -> None:
        self._tables = tables
        self._lock = lock

    def find_request(self, id: str) -> Request | None:
        with self._lock:
            return next(iter(self._tables.get_requests([id])), None)

    def requests(self, filter: RequestFilter) -> list[Request]:
        with self._lock:
            found = map(self._tables.told, (self._tables.requests[id] for id in sorted(self._tables.requests)))
            return [own(request) for request in islice((r for r in found if _wanted(r, filter)), filter.limit)]

    def upcoming(self, limit: int) -> list[Request]:
        with self._lock:
            due = (request for request in self._tables.requests.values() if request.due_at is not None)
            return [own(request) for request in heapq.nsmallest(limit, due, key=lambda r: (r.due_at, r.id))]

    def find_run(self, id: int) -> Run | None:
        with self._lock:
            return next(iter(self._tables.get_runs([id])), None)

    def runs(self, filter: RunFilter) -> Page:
        tables = self._tables
        with self._lock:
            ids: Reversible[int] = tables.all_runs if filter.request is None else tables.runs_of(filter.request)
            found = (tables.all_runs[id] for id in reversed(ids))
            matching = (run for run in found if self._matches(run, filter))
            if filter.text is None:
                return Page.of([own(run) for run in islice(matching, filter.limit)], filter.limit)
            return self._mentioning(matching, filter.text.lower(), filter.limit)

    def _mentioning(self, runs: Iterable[Run], text: str, limit: int) -> Page:
        """Look at a bounded number of runs, as the lock is held meanwhile."""
        looked = list(islice(runs, _LOOK + 1))
        found = [own(run) for run in islice((r for r in looked[:_LOOK] if self._mentions(r, text)), limit)]
        if len(found) == limit:
            return Page(found, found[-1].id)
        return Page(found, looked[_LOOK - 1].id if len(looked) > _LOOK else None)

    def _matches(self, run: Run, filter: RunFilter) -> bool:
        return (
            (filter.process is None or run.process == filter.process)
            and (filter.parent is None or run.parent_id == filter.parent)
            and (not filter.status or run.status in filter.status)
            and (filter.user is None or run.user == filter.user)
            and (filter.since is None or run.recorded_at >= filter.since)
            and (filter.until is None or run.recorded_at <= filter.until)
            and (filter.before is None or run.id < filter.before)
        )

    def _mentions(self, run: Run, text: str) -> bool:
        error = f"{run.error.type} {run.error.message} {run.error.traceback}" if run.error else ""
        said = f"{run.reason or ''} {error}".lower()
        return text in said or any(text in line.text.lower() for line in self._tables.lines.get(run.id, ()))

    def log(self, run_id: int, after: int, limit: int) -> list[LogLine]:
        with self._lock:
            lines = self._tables.lines.get(run_id, [])
            return list(islice((line for line in lines if line.seq > after), limit))

    def summary(self, process: str | None, since: datetime | None) -> Summary:
        with self._lock:
            wanted = RunFilter(process=process, since=since, status=FINAL)
            found = [run for run in self._tables.all_runs.values() if self._matches(run, wanted)]
        counts: Counter[str] = Counter()
        for run in found:
            counts[run.status.value] += run.fire_count
        newest = {
            name: next((own(r) for r in reversed(found) if r.status in which), None) for name, which in LAST.items()
        }
        return summarize(
            counts, [_micros(run.duration) for run in found], [_micros(run.lateness) for run in found], newest
        )

    def ended(self, process: str | None, since: datetime, until: datetime) -> list[Ended]:
        first = since.replace(minute=0, second=0, microsecond=0)
        counts: dict[tuple[datetime, RunStatus], int] = {}
        with self._lock:
            for (hour, name, status), count in self._tables.counts.items():
                if first <= hour <= until and process in (None, name):
                    counts[hour, status] = counts.get((hour, status), 0) + count
        return [Ended(hour, process, status, count) for (hour, status), count in sorted(counts.items()) if count]

    def totals(self, since: datetime, until: datetime) -> list[Ended]:
        first = since.replace(minute=0, second=0, microsecond=0)
        counts: dict[tuple[str, RunStatus], int] = {}
        with self._lock:
            for (hour, name, status), count in self._tables.counts.items():
                if first <= hour < until:
                    counts[name, status] = counts.get((name, status), 0) + count
        return [Ended(first, name, status, count) for (name, status), count in sorted(counts.items()) if count]

    def aged(self, after: int, before: datetime, limit: int) -> list[Aged]:
        tables = self._tables
        with self._lock:
            old = takewhile(lambda run: run.recorded_at < before, tables.all_runs.values())
            return [
                Aged(run.id, run.request_id, run.process, run.status, run.finished_at, tables.is_newest(run))
                for run in islice((run for run in old if run.id > after and not tables.is_needed(run)), limit)
                if run.finished_at is not None
            ]

    def nth_newest(self, process: str, n: int) -> int | None:
        with self._lock:
            found = (r for r in reversed(self._tables.all_runs.values()) if r.process == process and not r.is_active)
            return next((run.id for run in islice(found, n - 1, None)), None)

    def absences(self, since: datetime, until: datetime) -> list[Absence]:
        with self._lock:
            known = sorted(self._tables.absences.items())
            return [Absence(start, end) for start, end in known if start <= until and (end is None or end >= since)]

    def zone_databases(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._tables.zone_databases)

    def schedulers(self) -> list[SchedulerRecord]:
        with self._lock:
            return self._tables.schedulers()

    def kills_asked(self, owner: str) -> frozenset[int]:
        with self._lock:
            return frozenset(run.id for run in self._tables.held_runs(owner) if run.kill_asked_at is not None)

    def first_waiting(self) -> Run | None:
        with self._lock:
            first = self._tables.first_waiting()
            return None if first is None else own(first)

    def active_processes(self) -> frozenset[str]:
        with self._lock:
            return self._tables.active_processes()

    def holder(self, overlap_key: str) -> Run | None:
        with self._lock:
            return next((run for run in self._tables.active_runs([overlap_key]) if run.owner is not None), None)

    def next_due(self, processes: Collection[str]) -> datetime | None:
        with self._lock:
            return self._tables.next_due(processes)


def _wanted(request: Request, filter: RequestFilter) -> bool:
    return (
        (filter.process is None or request.process == filter.process)
        and (not filter.status or request.status in filter.status)
        and (filter.user is None or request.user == filter.user)
        and (filter.after is None or request.id > filter.after)
    )


def _micros(span: timedelta | None) -> int | None:
    return None if span is None else span // timedelta(microseconds=1)
