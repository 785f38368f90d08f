"""The store contract: what every store promises, and the one place where those promises are kept.

A store keeps requests, runs, run logs and who is alive. It reads no clock (``now`` is an argument), takes values and
returns values. `Store` writes each promise once, as one transaction over the small steps of `Transaction`, which a
backend supplies; so claiming, fencing and reaping are the same text for all of them.

Two guards make a fire time run exactly once: the claim moves ``next_fire_time`` on in the transaction that writes the
run, and a store refuses a second run of the same ``(request_id, revision, fire_time)``. A third guards the end:
whatever an owner says about a run is taken only while that run is active and still has this owner and this attempt
(the *fence*). A fourth guards against runs that nobody would ever end: only an owner that is signed on may claim, and
signing off or reaping it ends what it holds in the same transaction.

Requests count their revisions from 1. Revision 0 is that of the runs beside the fire times, which somebody asked for:
they can never take the place of a fire time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from bgsched._evolve import evolve
from bgsched.errors import OwnerGoneError, RequestExistsError, UnknownRequestError, UnknownRunError
from bgsched.request import Overlap, Plan, Request, RequestStatus, Retention, beside
from bgsched.run import FINAL, LogLine, LogTrim, Run, RunStatus

__all__ = [
    "LAST",
    "Aged",
    "Bite",
    "Ended",
    "Planner",
    "Report",
    "RequestFilter",
    "RunFilter",
    "SchedulerRecord",
    "Store",
    "StoreReader",
    "Summary",
    "Transaction",
    "summarize",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerRecord:
    """A scheduler that signed on. It is alive while it renews its lease (or, on SQLite, holds its lock file).

    *processes*: those it can run; *problem*: what keeps it from its work, if anything does.
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


@dataclass(frozen=True, slots=True)
class Report:
    """What an owner has to say about its runs: where they stand now, and the lines they wrote.

    *follow_ups*: requests to file, each if the run of that id is taken as reported here.
    """

    runs: Sequence[Run] = ()
    log: Sequence[LogLine] = ()
    trims: Sequence[LogTrim] = ()
    follow_ups: Sequence[tuple[int, Request]] = ()


def summarize(rows: Sequence[tuple[str, int, int | None, int | None]], last: Mapping[str, Any]) -> Summary:
    """Return the figures of ended runs.

    *rows* are ``(status, fire_count, duration, lateness)``, the spans in microseconds; *last* is as in `LAST`.
    """
    counts: dict[str, int] = {}
    for status, count, _, _ in rows:
        counts[status] = counts.get(status, 0) + count
    spans: dict[str, Any] = {
        f"{name}_p{percent}": _percentile(ordered, percent)
        for name, ordered in (
            ("duration", sorted(row[2] for row in rows if row[2] is not None)),
            ("lateness", sorted(row[3] for row in rows if row[3] is not None)),
        )
        for percent in (50, 95, 99)
    }
    return Summary(counts={RunStatus(status): count for status, count in sorted(counts.items())}, **spans, **last)


def _percentile(ordered: Sequence[int], percent: int) -> timedelta | None:
    """Return the nearest-rank percentile of microseconds."""
    if not ordered:
        return None
    return timedelta(microseconds=ordered[max(0, -(-len(ordered) * percent // 100) - 1)])


class Planner(Protocol):
    """What a claim asks of the scheduler that claims."""

    @property
    def processes(self) -> Collection[str]:
        """The processes it can run."""
        ...

    @property
    def bounds(self) -> Mapping[str, int]:
        """How many runs, 1 or more, of some of these processes may be claimed at most."""
        ...

    def overlap_key(self, request: Request) -> str | None:
        """Return the key under which the request's runs exclude each other."""
        ...

    def plan(self, request: Request, now: datetime, blockers: Sequence[Run]) -> Plan:
        """Return what becomes of a due request; must not raise."""
        ...


class StoreReader(Protocol):
    """The questions. Asking changes nothing."""

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

    def runs(self, filter: RunFilter) -> list[Run]:
        """Return the runs that match, newest first."""
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
        """Return, by id, the first *limit* ended runs with an id above *after* that were recorded before *before*."""
        ...

    def nth_newest(self, process: str, n: int) -> int | None:
        """Return the id of the *n*-th newest (from 1) ended run of the process; ``None`` when it has fewer."""
        ...

    def schedulers(self) -> list[SchedulerRecord]:
        """Return the schedulers that signed on and were not ended, oldest first."""
        ...

    def kills_asked(self, owner: str) -> frozenset[int]:
        """Return the ids of the owner's active runs that were asked to stop."""
        ...

    def next_due(self, processes: Collection[str]) -> datetime | None:
        """Return when the earliest request or waiting run of *processes* becomes due; ``None`` when nothing is."""
        ...


class Transaction(Protocol):
    """The steps of one write transaction. All of them are seen by others at once, or none."""

    def get_requests(self, ids: Collection[str]) -> list[Request]:
        """Return those of the requests that exist, locked against other writers."""
        ...

    def put_requests(self, requests: Sequence[Request]) -> None:
        """Insert the requests, or replace those that exist."""
        ...

    def delete_request(self, id: str) -> None:
        """Delete a request with its runs and their logs."""
        ...

    def due_requests(self, now: datetime, processes: Collection[str], limit: int) -> list[Request]:
        """Return requests with ``due_at`` not after *now*, highest priority first, then earliest, locked."""
        ...

    def advance_requests(self, requests: Sequence[Request]) -> None:
        """Write ``status, revision, next_fire_time, due_at, last_fire_time, reason`` of existing requests."""
        ...

    def complete_requests(self, ids: Collection[str]) -> None:
        """Set COMPLETE those scheduled requests that have no fire time left and no active run."""
        ...

    def insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        """Insert the runs and return them with their ids; one whose fire time has a run already is left out.

        A ``recorded_at`` before that of the newest run, after a clock was set back, becomes that one's.
        """
        ...

    def count_ended(self, ended: Sequence[Ended], owner: str) -> None:
        """Add to the counts of what ended; kept for each *owner*, so that schedulers do not wait for each other."""
        ...

    def get_runs(self, ids: Collection[int]) -> list[Run]:
        """Return those of the runs that exist, locked against other writers."""
        ...

    def hold_keys(self, keys: Collection[str]) -> Collection[str]:
        """Return those of the overlap keys under which nobody else can start a run until this transaction ends.

        A key of one request comes with its request, which `due_requests` locked. Where there is one writer, all are.
        """
        ...

    def active_runs(self, keys: Collection[str]) -> list[Run]:
        """Return the active runs with these overlap keys, oldest first."""
        ...

    def child_runs(self, parent_id: int) -> list[Run]:
        """Return the runs of the same request that have this parent, oldest first."""
        ...

    def active_runs_of(self, request_id: str) -> list[Run]:
        """Return the active runs of a request, oldest first."""
        ...

    def queued_runs(self, now: datetime, processes: Collection[str], limit: int) -> list[Run]:
        """Return due waiting runs without owner, one for an overlap key, none whose key an owned run holds, locked."""
        ...

    def held_runs(self, owner: str) -> list[Run]:
        """Return the active runs of *owner*."""
        ...

    def update_runs(self, runs: Sequence[Run], owner: str | None) -> set[int]:
        """Write the runs that are active, held by *owner* (``None``: nobody) and at the attempt given.

        Return their ids. A run that a *taken* value describes is at the attempt before it.
        """
        ...

    def ask_kill(self, ids: Collection[int], now: datetime) -> None:
        """Set ``kill_asked_at`` of active runs that were not asked yet."""
        ...

    def append_log(self, lines: Sequence[LogLine]) -> None:
        """Append lines; one whose ``(run_id, seq)`` is there already is left out."""
        ...

    def trim_log(self, trim: LogTrim) -> None:
        """Drop the run's lines with a ``seq`` above ``trim.after`` and below ``trim.before``."""
        ...

    def last_seq(self, run_id: int) -> int:
        """Return the ``seq`` of the run's last line, 0 when it has none."""
        ...

    def schedulers(self) -> list[SchedulerRecord]:
        """Return the schedulers that signed on."""
        ...

    def is_signed_on(self, owner: str) -> bool:
        """Return whether the scheduler is signed on; nobody else can end it before this transaction does."""
        ...

    def put_scheduler(self, record: SchedulerRecord) -> None:
        """Insert or replace a scheduler."""
        ...

    def delete_scheduler(self, owner: str) -> None:
        """Forget a scheduler."""
        ...

    def purge_runs(self, ids: Sequence[int]) -> int:
        """Delete those of the runs that have ended and are not their request's newest, with their logs.

        Those that many log lines would make last long are left to the next call. Return how many were deleted.
        """
        ...


class Store(ABC):
    """Keeps requests, runs and run logs. Thread-safe; each method is atomic: it happens as a whole or not at all."""

    @abstractmethod
    def reader(self) -> StoreReader:
        """Return the reading half."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open the one write transaction; commit when the block ends, roll back when it raises."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections. Closing twice is fine."""

    def is_gone(self, record: SchedulerRecord, now: datetime) -> bool:
        """Return whether a scheduler that signed on has died: here, whether its lease ran out."""
        return record.lease_until < now

    def gone(self, tx: Transaction, now: datetime) -> list[str]:
        """Return the owners that have died."""
        return [record.owner for record in tx.schedulers() if self.is_gone(record, now)]

    def vouches_for(self, owner: str) -> bool:  # noqa: ARG002  for stores that know more than the lease
        """Return whether nobody can take *owner* for gone, even when it does not renew its lease."""
        return False

    def let_go(self, owner: str) -> None:  # noqa: B027  for stores that vouch
        """Stop vouching for *owner*, which could not sign off or goes on under a new name: others may end it."""

    @abstractmethod
    def changes(self) -> Hashable:
        """Return a value that differs after anybody changed the store; cheap to ask."""

    @property
    def look_every(self) -> float:
        """For how many seconds a scheduler may go without looking for the dead and for asked kills."""
        return 1.0

    def listen(self, wake: Callable[[bool], None]) -> None:  # noqa: B027  a store that has no such means does nothing
        """Call *wake*, from any thread, when somebody elsewhere made something due or (``True``) asked for a kill.

        A hint, no promise: whoever relies on the store looks at `changes` as well.
        """

    def unlisten(self, wake: Callable[[bool], None]) -> None:  # noqa: B027  see listen
        """Undo `listen`."""

    # -- requests ------------------------------------------------------------------------------------------------

    def file(self, requests: Sequence[Request]) -> None:
        """Store new requests, all or none.

        Raises:
            RequestExistsError: one of the ids is taken.
        """
        with self.transaction() as tx:
            for taken in tx.get_requests([request.id for request in requests]):
                raise RequestExistsError(taken.id)
            tx.put_requests(requests)

    def change(
        self,
        id: str,
        change: Callable[[Request | None], Request | None],
        now: datetime,
        *,
        end_waiting: str | None = None,
    ) -> Request | None:
        """Replace a request by *change* of it, with nobody in between.

        ``None`` in means "there is none", out "leave it". *end_waiting*: the reason to end the
        request's runs that wait and that nobody has claimed, save members of a group that still runs.
        """
        with self.transaction() as tx:
            found = next(iter(tx.get_requests([id])), None)
            changed = change(found)
            if changed is None:
                return found
            tx.put_requests([changed])
            if end_waiting is not None:
                active = {run.id: run for run in tx.active_runs_of(id)}
                waiting = [run for run in active.values() if run.owner is None and run.parent_id not in active]
                skipped = [run.move(RunStatus.SKIPPED, finished_at=now, reason=end_waiting) for run in waiting]
                tx.update_runs(skipped, None)
                _tally(tx, skipped, now, "")
            return changed

    def delete(self, id: str) -> None:
        """Delete a request, its ended runs and their logs; runs that still go on are asked to stop and refused later.

        Raises:
            UnknownRequestError: there is no such request.
        """
        with self.transaction() as tx:
            if not tx.get_requests([id]):
                raise UnknownRequestError(id)
            tx.delete_request(id)

    # -- runs ----------------------------------------------------------------------------------------------------

    def enqueue(self, run: Run) -> Run:
        """Store a waiting run beside the fire times of its request; whoever is free first takes it.

        Where another run was put there for the same instant, the fire time moves on by a microsecond.

        Raises:
            UnknownRequestError: there is no such request.
        """
        with self.transaction() as tx:
            request = next(iter(tx.get_requests([run.request_id])), None)
            if request is None:
                raise UnknownRequestError(run.request_id)
            run = evolve(run, revision=0, due_at=run.due_at or run.fire_time)
            while not (stored := tx.insert_runs([run])):
                run = evolve(run, fire_time=run.fire_time + timedelta(microseconds=1))
            if request.status is RequestStatus.COMPLETE:
                tx.put_requests([evolve(request, status=RequestStatus.SCHEDULED)])
            return stored[0]

    def add_member(self, owner: str, parent: Run, run: Run, place: int, overlap: Overlap, now: datetime) -> bool:
        """Store *run* as member number *place* (from 0) of the group's run *parent*, by its process's overlap rule.

        Nothing happens where that member is stored already, or *parent* was asked to stop. Return whether *parent* is
        still *owner*'s.
        """
        with self.transaction() as tx:
            held = next(iter(tx.get_runs([parent.id])), None)
            if held is None or not _holds(held, owner) or held.attempt != parent.attempt:
                return False
            if held.kill_asked_at is not None or len(tx.child_runs(parent.id)) > place:
                return True
            blockers = tx.active_runs([run.overlap_key]) if run.overlap_key is not None else []
            made = beside(run, overlap, now, blockers)
            if made.displaced:
                tx.update_runs(made.displaced, None)
            if made.kills:
                tx.ask_kill(made.kills, now)
            run = made.run
            while not (stored := tx.insert_runs([run])):
                run = evolve(run, fire_time=run.fire_time + timedelta(microseconds=1))
            tx.complete_requests({displaced.request_id for displaced in made.displaced})
            _tally(tx, [*made.displaced, *(run for run in stored if not run.is_active)], now, owner)
            return True

    def claim(self, planner: Planner, owner: str, now: datetime, limit: int) -> list[Run]:
        """Take up to *limit* due runs for *owner* and record what becomes of the other fire times that have come.

        Waiting runs come first, then due requests. Each fire time gets exactly one record, whoever else claims.

        Raises:
            OwnerGoneError: *owner* is not signed on. Nobody would ever end what it claimed.
        """
        with self.transaction() as tx:
            if not tx.is_signed_on(owner):
                raise OwnerGoneError(owner)
            lanes = _Lanes(planner, limit)
            taken = [run.taken(owner, now) for run in lanes.queued(tx, now)]
            accepted = tx.update_runs(taken, None) if taken else set()
            claimed = [run for run in taken if run.id in accepted]
            due = lanes.due(tx, now, claimed)
            if due:
                claimed += _claim_due(tx, planner, owner, now, due)
            return claimed

    def record(self, owner: str, now: datetime, report: Report) -> list[Run]:
        """Store what *owner* reports of its runs, fenced; return the runs that were refused.

        A refused result is written into the run's log. Saying the same twice is harmless.
        """
        with self.transaction() as tx:
            if report.log or report.trims:
                _log_fenced(tx, owner, report)
            accepted = tx.update_runs(report.runs, owner) if report.runs else set()
            refused = [run for run in report.runs if run.id not in accepted]
            if refused:
                refused = _note_refused(tx, owner, now, refused)
            follow_ups = [request for run_id, request in report.follow_ups if run_id in accepted]
            if follow_ups:
                tx.put_requests(follow_ups)
            ended = [run for run in report.runs if run.id in accepted and not run.is_active]
            tx.complete_requests({run.request_id for run in ended})
            _tally(tx, ended, now, owner)
            return refused

    def held(self, owner: str) -> list[Run]:
        """Return the active runs of *owner*: after a claim whose answer was lost, they are to be started."""
        with self.transaction() as tx:
            return tx.held_runs(owner)

    def last_seq(self, run_id: int) -> int:
        """Return the number of the run's last log line, so that its next attempt can go on from there."""
        with self.transaction() as tx:
            return tx.last_seq(run_id)

    def kill(self, run_id: int, now: datetime) -> Run:
        """Ask a run to stop.

        A waiting run that nobody owns is ended at once; the owner of another one hears of it within a second.

        Raises:
            UnknownRunError: there is no such run.
        """
        with self.transaction() as tx:
            run = next(iter(tx.get_runs([run_id])), None)
            if run is None:
                raise UnknownRunError(run_id)
            if not run.is_active:
                return run
            if run.owner is None:
                run = run.move(RunStatus.KILLED, kill_asked_at=now, finished_at=now, reason="killed while it waited")
                tx.update_runs([run], None)
                tx.complete_requests({run.request_id})
                _tally(tx, [run], now, "")
                return run
            tx.ask_kill([run_id], now)
            return evolve(run, kill_asked_at=run.kill_asked_at or now)

    # -- who is alive --------------------------------------------------------------------------------------------

    def sign_on(self, record: SchedulerRecord) -> None:
        """Announce a scheduler under a fresh owner."""
        with self.transaction() as tx:
            tx.put_scheduler(record)

    def heartbeat(self, record: SchedulerRecord) -> bool:
        """Renew the lease of a scheduler that still stands; ``False``: it was reaped, and nothing was renewed."""
        with self.transaction() as tx:
            if not tx.is_signed_on(record.owner):
                return False
            tx.put_scheduler(record)
            return True

    def reap(self, now: datetime, *, leases: bool = True) -> list[Run]:
        """End what dead schedulers left, and return it: each run is abandoned, or waits for another attempt.

        A request whose run has used up its reruns is parked with it: the run may be what kills its schedulers.
        *leases*: whether leases that ran out count; not when the clock that says so has just jumped.
        """
        with self.transaction() as tx:
            gone = (
                self.gone(tx, now) if leases else [r.owner for r in tx.schedulers() if self.is_gone(r, r.lease_until)]
            )
            return [run for owner in gone for run in _release(tx, owner, now, "its scheduler died", crashed=True)]

    def sign_off(self, owner: str, now: datetime) -> list[Run]:
        """Forget a scheduler that stops; runs that it leaves behind are ended as those of a dead one. Return them."""
        with self.transaction() as tx:
            return _release(tx, owner, now, "its scheduler was shut down", crashed=False)

    def purge(self, retention: Retention, now: datetime, limit: int = 200, *, after: int = 0) -> Bite:
        """Delete up to *limit* runs that are past their retention, and requests that are, with their logs.

        A small bite: candidates are found by reading, a bounded number of runs from the id *after* on, and looked at
        again in the short transaction that deletes them. The next bite goes on where this one says.
        """
        found = self.reader().aged(after, _oldest_kept(retention, now), _LOOK)
        kept_from = _Surplus(self.reader(), retention.per_process)
        stale = [aged.id for aged in found if not aged.is_newest and _is_stale(aged, retention, now, kept_from)][:limit]
        complete = [aged for aged in found if aged.is_newest and _is_over(aged, retention, now)][:_MOST_REQUESTS]
        runs, requests = 0, 0
        if stale:
            with self.transaction() as tx:
                runs = tx.purge_runs(stale)
        if complete:
            requests = self._purge_requests(complete)
        if runs < len(stale) or len(stale) == limit:
            return Bite(runs, requests, stale[runs - 1] if runs else after)
        if len(complete) == _MOST_REQUESTS:
            return Bite(runs, requests, after if requests else complete[-1].id)
        return Bite(runs, requests, found[-1].id if len(found) == _LOOK else None)

    def _purge_requests(self, newest: Sequence[Aged]) -> int:
        """Delete the requests of these runs that are complete, not declared in the code, and have not run since.

        One that the code declares would be filed, and run, again.
        """
        run_ids = {aged.request_id: aged.id for aged in newest}
        deleted = 0
        with self.transaction() as tx:
            for request in tx.get_requests(list(run_ids)):
                if request.status is RequestStatus.COMPLETE and request.declared is None:
                    last = self.reader().runs(RunFilter(request=request.id, limit=1))
                    if last and last[0].id == run_ids[request.id]:
                        tx.delete_request(request.id)
                        deleted += 1
        return deleted


_LOOK = 5_000
_MOST_REQUESTS = 50
_FAR = datetime(9999, 12, 30, tzinfo=UTC)


class _Surplus:
    """From which run on, by its id, those of a process are few enough to be kept."""

    def __init__(self, reader: StoreReader, per_process: int | None) -> None:
        self._reader = reader
        self._count = per_process
        self._known: dict[str, int] = {}

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
    ages = [age for age in (retention.success, retention.other, retention.complete) if age is not None]
    return now - min(ages) if ages else datetime(1970, 1, 1, tzinfo=UTC)


def _is_stale(aged: Aged, retention: Retention, now: datetime, surplus: _Surplus) -> bool:
    age = retention.success if aged.status is RunStatus.SUCCESS else retention.other
    return (age is not None and aged.finished_at < now - age) or surplus.covers(aged)


def _is_over(aged: Aged, retention: Retention, now: datetime) -> bool:
    return retention.complete is not None and aged.finished_at < now - retention.complete


class _Lanes:
    """The processes of one claim, with how many runs of them may be claimed: those without a bound share one lane."""

    def __init__(self, planner: Planner, limit: int) -> None:
        self._limit = limit
        bounds = planner.bounds
        free = [name for name in planner.processes if name not in bounds] if bounds else planner.processes
        self._lanes = [(free, limit), *(((name,), min(bound, limit)) for name, bound in bounds.items())]

    def queued(self, tx: Transaction, now: datetime) -> list[Run]:
        """Return the waiting runs to take, earliest due first."""
        found = [run for names, room in self._lanes for run in tx.queued_runs(now, names, room)]
        if len(self._lanes) > 1:
            found.sort(key=lambda run: (run.due_at or run.fire_time, run.id))
        return found[: self._limit]

    def due(self, tx: Transaction, now: datetime, claimed: Sequence[Run]) -> list[Request]:
        """Return the due requests to plan beside the *claimed* runs, highest priority first, then earliest."""
        due: list[Request] = []
        for names, room in self._lanes:
            taken = len(claimed) if len(self._lanes) == 1 else sum(run.process in names for run in claimed)
            left = min(room - taken, self._limit - len(claimed))
            if left > 0 and names:
                due += tx.due_requests(now, names, left)
        if len(self._lanes) > 1:
            due.sort(key=lambda request: (-request.priority, request.due_at or now))
        return due[: self._limit - len(claimed)]


def _claim_due(tx: Transaction, planner: Planner, owner: str, now: datetime, due: Sequence[Request]) -> list[Run]:
    """Plan the due requests and write all plans at once.

    Of those that share an overlap key, one gets an active run in a claim; the others stay due for the next claim, which
    finds that run stored and can name it. So do those whose key another scheduler holds at this moment.
    """
    keys = {request.id: planner.overlap_key(request) for request in due}
    wanted = {key for key in keys.values() if key is not None}
    held = tx.hold_keys(wanted) if wanted else ()
    holders: dict[str | None, list[Run]] = {}
    for run in tx.active_runs(held) if held else ():
        holders.setdefault(run.overlap_key, []).append(run)
    plans: list[Plan] = []
    occupied = wanted.difference(held)
    for request in due:
        key = keys[request.id]
        if key in occupied:
            continue
        made = planner.plan(request, now, holders.get(key, ()) if key is not None else ())
        if key is not None and any(run.is_active for run in made.runs):
            occupied.add(key)
        plans.append(made)
    return _write_plans(tx, plans, owner, now)


def _write_plans(tx: Transaction, plans: Sequence[Plan], owner: str, now: datetime) -> list[Run]:
    tx.advance_requests([made.request for made in plans])
    displaced = [run for made in plans for run in made.displaced]
    if displaced:
        tx.update_runs(displaced, None)
    kills = [run_id for made in plans for run_id in made.kills]
    if kills:
        tx.ask_kill(kills, now)
    stored = tx.insert_runs([run for made in plans for run in made.runs])
    started = {run.request_id for run in stored if run.is_active}
    over = {made.request.id for made in plans if made.request.next_fire_time is None} - started
    over.update(run.request_id for run in displaced)
    if over:
        tx.complete_requests(over)
    _tally(tx, [*displaced, *(run for run in stored if not run.is_active)], now, owner)
    return [run for run in stored if run.owner is not None and run.is_active]


def _tally(tx: Transaction, runs: Sequence[Run], now: datetime, owner: str) -> None:
    """Count runs that ended: the history of counts outlives that of the runs."""
    counts: dict[tuple[str, RunStatus], int] = {}
    for run in runs:
        key = run.process, run.status
        counts[key] = counts.get(key, 0) + run.fire_count
    if counts:
        hour = now.replace(minute=0, second=0, microsecond=0)
        tx.count_ended([Ended(hour, *key, count) for key, count in sorted(counts.items())], owner)


def _log_fenced(tx: Transaction, owner: str, report: Report) -> None:
    """Write the lines of runs that *owner* still holds, at the attempt that wrote them; then drop what is too much."""
    ids = {line.run_id for line in report.log} | {trim.run_id for trim in report.trims}
    held = {run.id: run.attempt for run in tx.get_runs(ids) if _holds(run, owner)}
    tx.append_log([line for line in report.log if held.get(line.run_id) == line.attempt])
    for trim in report.trims:
        if held.get(trim.run_id) == trim.attempt:
            tx.trim_log(trim)


def _holds(run: Run, owner: str) -> bool:
    return run.is_active and run.owner == owner


def _note_refused(tx: Transaction, owner: str, now: datetime, refused: Iterable[Run]) -> list[Run]:
    """Write refused results into the logs of their runs; what was stored just so before is no refusal.

    Not into the log of a run that goes on elsewhere: its lines are numbered by who runs it.
    """
    stored = {run.id: run for run in tx.get_runs([run.id for run in refused])}
    really = [run for run in refused if not _same_end(stored.get(run.id), run)]
    for run in really:
        if run.id in stored and not run.is_active and not stored[run.id].is_active:
            text = f"a late result ({run.status.value}) of scheduler {owner}, attempt {run.attempt}, was refused"
            seq = tx.last_seq(run.id) + 1
            tx.append_log([LogLine(run.id, seq, now, "WARNING", "bgsched", text, run.attempt)])
    return really


def _same_end(stored: Run | None, said: Run) -> bool:
    if stored is None:
        return False
    if said.status is RunStatus.WAITING:
        return len(stored.attempts) >= len(said.attempts)
    return (stored.status, stored.owner, stored.attempt) == (said.status, said.owner, said.attempt)


def _release(tx: Transaction, owner: str, now: datetime, why: str, *, crashed: bool) -> list[Run]:
    """End the runs of an owner that is gone, and forget it."""
    left = [run.abandoned(now, why, crashed=crashed) for run in tx.held_runs(owner)]
    if left:
        tx.update_runs(left, owner)
        ended = [run for run in left if not run.is_active]
        _park(tx, [run for run in ended if run.status is RunStatus.ABANDONED and _was_abandoned(run)])
        tx.complete_requests({run.request_id for run in ended})
        _tally(tx, ended, now, owner)
    tx.delete_scheduler(owner)
    return left


def _was_abandoned(run: Run) -> bool:
    return any(attempt.status is RunStatus.ABANDONED for attempt in run.attempts)


def _park(tx: Transaction, runs: Sequence[Run]) -> None:
    """Unschedule the requests of runs whose schedulers died again and again, until somebody reschedules them."""
    why = {
        run.request_id: f"parked: attempt {run.attempt} of run {run.id} ended like those before it, with its scheduler"
        for run in runs
    }
    requests = tx.get_requests(why) if why else []
    tx.advance_requests([r.unscheduled(why[r.id]) for r in requests if r.status is RequestStatus.SCHEDULED])
