"""The reading half of the store contract: what can be asked, and the values that answer it. Asking changes nothing."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from bgsched.request import Request, RequestStatus
from bgsched.run import FINAL, LogLine, Run, RunStatus

__all__ = [
    "LAST",
    "Absence",
    "Aged",
    "Bite",
    "Ended",
    "Page",
    "RequestFilter",
    "RunFilter",
    "SchedulerRecord",
    "StoreReader",
    "Summary",
    "summarize",
]


_ABSENCES_KEPT = timedelta(days=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerRecord:
    """A scheduler that signed on. It is alive while it renews its lease (or, on SQLite, holds its lock file).

    *processes*: those it can run; *problem*: what keeps it from its work, if anything does. *clock_skew*: how far its
    clock is ahead of the one that decides who is alive; ``None`` where they are one and the same. *threaded*: whether
    a thread of its own shows that it lives; else it is its host that calls ``run_pending``, now and then. *alive*:
    whether the store knows that it is, by that clock or by the lock; ``None``: its lease says.
    """

    owner: str
    host: str
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    lease_until: datetime
    workers: int = 0
    paused: bool = False
    problem: str | None = None
    problem_since: datetime | None = None
    processes: tuple[str, ...] = ()
    threaded: bool = True
    clock_skew: timedelta | None = None
    alive: bool | None = None

    @property
    def heard_at(self) -> datetime:
        """When it was last heard of, by the clock that decides who is alive."""
        return self.heartbeat_at - (self.clock_skew or timedelta(0))

    def is_alive(self, now: datetime) -> bool:
        """Whether the store knows that it is; where it does not, whether its lease has not run out by *now*."""
        if self.alive is not None:
            return self.alive
        return self.lease_until - (self.clock_skew or timedelta(0)) >= now

    @property
    def is_gone(self) -> bool:
        """Whether its OS process has ended, as a lock tells; a lease does not, where a host calls now and then."""
        return self.alive is False and self.clock_skew is None

    def is_silent(self, now: datetime) -> bool:
        """Whether its thread should have been heard of since: by *now*, or by the clock that decides who is alive."""
        is_late = self.clock_skew is None and self.lease_until < now
        return self.threaded and (is_late or not self.is_alive(now))

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-able values."""
        return {
            "owner": self.owner,
            "host": self.host,
            "pid": self.pid,
            "started_at": self.started_at.isoformat(),
            "heartbeat_at": self.heartbeat_at.isoformat(),
            "lease_until": self.lease_until.isoformat(),
            "workers": self.workers,
            "paused": self.paused,
            "problem": self.problem,
            "problem_since": self.problem_since.isoformat() if self.problem_since else None,
            "processes": list(self.processes),
            "threaded": self.threaded,
            "clock_skew": None if self.clock_skew is None else self.clock_skew.total_seconds(),
            "alive": self.alive,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are asked for: newest first, those with an id below *before*, at most *limit*.

    *since* and *until* bound ``recorded_at``, both inclusive.
    """

    process: str | None = None
    request: str | None = None
    parent: int | None = None
    status: frozenset[RunStatus] = frozenset()
    user: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    before: int | None = None
    limit: int = 100


class Page(list[Run]):
    """Runs, newest first. *before*: below which id the next page begins; ``None`` when nothing is left.

    A page may be shorter than its limit and still not the last: where no index tells which runs are meant, as with a
    text, a question looks at a bounded number of them.
    """

    def __init__(self, runs: Iterable[Run] = (), before: int | None = None) -> None:
        super().__init__(runs)
        self.before = before

    @classmethod
    def of(cls, runs: Sequence[Run], limit: int) -> "Page":
        """Return the first *limit* of *runs*; where there are so many, there may be more."""
        kept = runs[:limit]
        return cls(kept, kept[-1].id if len(kept) == limit else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """Which requests are asked for, in the order of their ids, those after the id *after*, at most *limit*."""

    process: str | None = None
    status: frozenset[RequestStatus] = frozenset()
    user: str | None = None
    after: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures over ended runs. Spans are measured on runs that started; a percentile of nothing is ``None``."""

    counts: dict[RunStatus, int]
    duration_p50: timedelta | None = None
    duration_p95: timedelta | None = None
    duration_p99: timedelta | None = None
    lateness_p50: timedelta | None = None
    lateness_p95: timedelta | None = None
    lateness_p99: timedelta | None = None
    last_run: Run | None = None
    last_success: Run | None = None
    last_failure: Run | None = None

    @property
    def success_rate(self) -> float | None:
        """Successes among the runs that came to an end of their own, 0 to 1; ``None`` when there are none."""
        ended = sum(self.counts.get(status, 0) for status in _JUDGED)
        return self.counts.get(RunStatus.SUCCESS, 0) / ended if ended else None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON-able values: spans in seconds."""
        spans = {
            f"{what}_{part}": None if span is None else span.total_seconds()
            for what in ("duration", "lateness")
            for part in ("p50", "p95", "p99")
            for span in (getattr(self, f"{what}_{part}"),)
        }
        return {
            "counts": {status.value: count for status, count in self.counts.items()},
            "success_rate": self.success_rate,
            **spans,
            **{name: run.to_dict() if (run := getattr(self, name)) else None for name in LAST},
        }


_FAILED = frozenset({RunStatus.ERROR, RunStatus.TIMED_OUT, RunStatus.ABANDONED})
_JUDGED = _FAILED | {RunStatus.SUCCESS}

LAST = {"last_run": FINAL, "last_success": frozenset({RunStatus.SUCCESS}), "last_failure": _FAILED}
"""Which runs a `Summary` shows, by the statuses of which they are the newest."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How many fire times of a process (all of them: ``None``) ended in a status in the hour from *hour* (UTC)."""

    hour: datetime
    process: str | None
    status: RunStatus
    count: int

    def to_dict(self) -> dict[str, Any]:
        """Return the count as JSON-able values."""
        return {
            "hour": self.hour.isoformat(),
            "process": self.process,
            "status": self.status.value,
            "count": self.count,
        }


@dataclass(frozen=True, slots=True)
class Absence:
    """A time in which no scheduler lived; *until* is ``None`` while none does."""

    since: datetime
    until: datetime | None = None

    @property
    def earliest_kept(self) -> datetime:
        """What began earlier is forgotten when this one is noted: it is older than the runs that it would explain."""
        return self.since - _ABSENCES_KEPT


@dataclass(frozen=True, slots=True)
class Aged:
    """What retention must know of an ended run. *is_newest*: whether its request has no newer one."""

    id: int
    request_id: str
    process: str
    status: RunStatus
    finished_at: datetime
    is_newest: bool


@dataclass(frozen=True, slots=True)
class Bite:
    """What one call of `Store.purge` did: how many *runs* and *requests* it deleted, and where the next looks on.

    *after*: the id of the last run it looked at; ``None`` when there is nothing left to look at.
    """

    runs: int = 0
    requests: int = 0
    after: int | None = None


def summarize(
    counts: Mapping[str, int], durations: Iterable[int | None], lateness: Iterable[int | None], last: Mapping[str, Any]
) -> Summary:
    """Return the figures of ended runs.

    *counts*: fire times by status; the spans are in microseconds, ``None`` for a run that never started; *last* is as
    in `LAST`.
    """
    spans: dict[str, Any] = {
        f"{name}_p{percent}": _percentile(ordered, percent)
        for name, given in (("duration", durations), ("lateness", lateness))
        for ordered in (sorted(span for span in given if span is not None),)
        for percent in (50, 95, 99)
    }
    return Summary(counts={RunStatus(status): count for status, count in sorted(counts.items())}, **spans, **last)


def _percentile(ordered: Sequence[int], percent: int) -> timedelta | None:
    """Return the nearest-rank percentile of microseconds."""
    if not ordered:
        return None
    return timedelta(microseconds=ordered[max(0, -(-len(ordered) * percent // 100) - 1)])


class StoreReader(Protocol):
    """The questions. Asking changes nothing.

    A scheduled request with no fire time left and no active run is COMPLETE to whoever asks: that is told, not written.
    """

    def find_request(self, id: str) -> Request | None:
        """Return the request, or ``None``."""
        ...

    def requests(self, filter: RequestFilter) -> list[Request]:
        """Return the requests that match, in the order of their ids."""
        ...

    def upcoming(self, limit: int) -> list[Request]:
        """Return the requests with the earliest ``due_at``, earliest first."""
        ...

    def find_run(self, id: int) -> Run | None:
        """Return the run, or ``None``."""
        ...

    def runs(self, filter: RunFilter) -> Page:
        """Return the runs that match, newest first.

        All of them, up to the limit, where the filter is a request, a user, a process, both of these or none, with or
        without statuses and bounds. For more than that a store may look at a bounded number of runs: see `Page`.
        """
        ...

    def log(self, run_id: int, after: int, limit: int) -> list[LogLine]:
        """Return the run's lines with a ``seq`` above *after*, in order, at most *limit*."""
        ...

    def summary(self, process: str | None, since: datetime | None) -> Summary:
        """Return figures over the runs that were recorded not before *since* and have ended."""
        ...

    def ended(self, process: str | None, since: datetime, until: datetime) -> list[Ended]:
        """Return what ended in the hours from that of *since* to that of *until*, by hour; purged runs included.

        *process*: of one process, or (``None``) of all of them together.
        """
        ...

    def totals(self, since: datetime, until: datetime) -> list[Ended]:
        """Return what ended in the hours from that of *since* to before *until*, summed by process and status.

        Purged runs are counted. The ``hour`` of each is that of *since*.
        """
        ...

    def aged(self, after: int, before: datetime, limit: int) -> list[Aged]:
        """Return, by id, the first *limit* ended runs with an id above *after* that were recorded before *before*.

        Members of a group that goes on are left out: by them it knows which is next.
        """
        ...

    def nth_newest(self, process: str, n: int) -> int | None:
        """Return the id of the *n*-th newest (from 1) ended run of the process; ``None`` when it has fewer."""
        ...

    def absences(self, since: datetime, until: datetime) -> list[Absence]:
        """Return the times without any scheduler that touch those from *since* to *until*, oldest first."""
        ...

    def zone_databases(self) -> frozenset[str]:
        """Return by which time zone databases, a digest of each, the stored fire times may have been computed."""
        ...

    def schedulers(self) -> list[SchedulerRecord]:
        """Return the schedulers that signed on and were not ended, oldest first."""
        ...

    def kills_asked(self, owner: str) -> frozenset[int]:
        """Return the ids of the owner's active runs that were asked to stop."""
        ...

    def first_waiting(self) -> Run | None:
        """Return the run with the earliest ``due_at`` that waits, that nobody owns and nothing is in the way of.

        Of any process, also of one that nobody has registered. A store may look at the thousand that are due first.
        """
        ...

    def active_processes(self) -> frozenset[str]:
        """Return the processes of the runs that wait or go on, those that nobody has registered among them."""
        ...

    def holder(self, overlap_key: str) -> Run | None:
        """Return the run that the others of an overlap key wait for: one that goes on and that somebody owns."""
        ...

    def next_due(self, processes: Collection[str]) -> datetime | None:
        """Return when the earliest request or waiting run of *processes* becomes due; ``None`` when nothing is."""
        ...
