"""The tables of the memory store with their indexes, and the steps of a transaction on them.

A transaction keeps a journal of what it replaced, so that one that raises leaves nothing behind. What is lent out is
never what is kept: values are frozen, and their JSON parts are copied on the way. Not thread-safe: the store locks.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Reversible, Sequence
from copy import deepcopy
from datetime import datetime
from itertools import takewhile
from typing import Any, TypeVar

from bgsched._evolve import evolve
from bgsched.request import Request, RequestStatus
from bgsched.run import LogLine, LogTrim, Run, RunStatus
from bgsched.stores._memory_due import DueTimes
from bgsched.stores.base import Absence, Ended, SchedulerRecord

__all__ = ["Tables", "own"]

_V = TypeVar("_V", bound=Request | Run)
_Fire = tuple[int, datetime]
_NONE: dict[_Fire, int] = {}


class Tables:
    """The tables with their indexes, and the steps of a transaction on them. Not thread-safe: the store locks."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}
        self.all_runs: dict[int, Run] = {}
        self.lines: dict[int, list[LogLine]] = {}
        self.records: dict[str, SchedulerRecord] = {}
        self._fires: dict[str, dict[_Fire, int]] = {}
        self._by_key: dict[str, dict[int, None]] = {}
        self._by_owner: dict[str | None, dict[int, None]] = {}
        self._active: dict[str, dict[int, None]] = {}
        self._due = DueTimes(self.requests)
        self._last_id = 0
        self.absences: dict[datetime, datetime | None] = {}
        self.zone_databases: dict[str, None] = {}
        self.counts: dict[tuple[datetime, str, RunStatus], int] = {}
        self._journal: list[tuple[str, Any, Any]] = []

    # -- the journal ---------------------------------------------------------------------------------------------

    def commit(self) -> None:
        self._journal.clear()

    def roll_back(self) -> None:
        undo: dict[str, Callable[[Any, Any], None]] = {
            "request": self._set_request,
            "run": self._set_run,
            "log": self.lines.__setitem__,
            "line": lambda run_id, length: self.lines[run_id].__delitem__(slice(length, None)),
            "record": self._set_record,
            "count": self.counts.__setitem__,
            "absence": self._set_absence,
            "zones": lambda _, digests: setattr(self, "zone_databases", digests),
        }
        for table, key, old in reversed(self._journal):
            undo[table](key, old)
        if any(table == "run" and old is not None for table, _, old in self._journal):
            self._restore_order()
        self._journal.clear()

    def _restore_order(self) -> None:
        """Put the runs back in the order of their ids: one whose deletion was undone is last in each dictionary."""
        self.all_runs = dict(sorted(self.all_runs.items()))
        self._fires = {id: dict(sorted(fires.items(), key=lambda fire: fire[1])) for id, fires in self._fires.items()}

    def _set_request(self, id: str, request: Request | None) -> None:
        if request is None:
            self.requests.pop(id, None)
            return
        self.requests[id] = request
        self._due.enter(request)

    def _set_run(self, id: int, run: Run | None) -> None:
        old = self.all_runs.get(id)
        if old is not None and old.is_active:
            _discard(self._active, old.request_id, id)
            _discard(self._by_owner, old.owner, id)
            if old.overlap_key is not None:
                _discard(self._by_key, old.overlap_key, id)
        if run is None:
            if old is not None:
                del self.all_runs[id]
                _discard(self._fires, old.request_id, (old.revision, old.fire_time))
            return
        self.all_runs[id] = run
        if old is None:
            _enter(self._fires, run.request_id, (run.revision, run.fire_time), id)
        if run.is_active:
            _enter(self._active, run.request_id, id, None)
            _enter(self._by_owner, run.owner, id, None)
            if run.overlap_key is not None:
                _enter(self._by_key, run.overlap_key, id, None)

    def _set_record(self, owner: str, record: SchedulerRecord | None) -> None:
        if record is None:
            self.records.pop(owner, None)
        else:
            self.records[owner] = record

    def _set_absence(self, since: datetime, absence: Absence | None) -> None:
        if absence is None:
            self.absences.pop(since, None)
        else:
            self.absences[since] = absence.until

    def _write_absence(self, since: datetime, absence: Absence | None) -> None:
        old = Absence(since, self.absences[since]) if since in self.absences else None
        self._journal.append(("absence", since, old))
        self._set_absence(since, absence)

    def _write_request(self, id: str, request: Request | None) -> None:
        self._journal.append(("request", id, self.requests.get(id)))
        self._set_request(id, request)

    def _write_run(self, id: int, run: Run | None) -> None:
        self._journal.append(("run", id, self.all_runs.get(id)))
        self._set_run(id, run)

    # -- requests ------------------------------------------------------------------------------------------------

    def get_requests(self, ids: Collection[str]) -> list[Request]:
        return [own(self.told(self.requests[id])) for id in ids if id in self.requests]

    def told(self, request: Request) -> Request:
        """Return a request as it stands: complete, if nothing of it is to come and none of its runs goes on."""
        is_scheduled = request.status is RequestStatus.SCHEDULED
        is_over = is_scheduled and request.next_fire_time is None and request.id not in self._active
        return request.completed() if is_over else request

    def put_requests(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._write_request(request.id, own(request))

    def delete_request(self, id: str) -> None:
        for run_id in list(self.runs_of(id)):
            self._delete_run(run_id)
        self._write_request(id, None)

    def due_requests(self, now: datetime, processes: Collection[str], limit: int) -> list[Request]:
        return self._due.due(now, processes, limit)

    def next_due(self, processes: Collection[str]) -> datetime | None:
        """Return the earliest instant at which a request or waiting run of *processes* is due."""
        due = [run.due_at or run.fire_time for run in self._startable(processes)[:1]]
        earliest = self._due.earliest(processes)
        return min(due if earliest is None else [*due, earliest], default=None)

    def advance_requests(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._write_request(request.id, request)

    # -- runs ----------------------------------------------------------------------------------------------------

    def insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        stored = []
        newest = next(reversed(self.all_runs.values()), None)
        since = None if newest is None else newest.recorded_at
        for run in runs:
            if self._is_taken(run):
                continue
            self._last_id += 1
            since = run.recorded_at if since is None else max(run.recorded_at, since)
            kept = own(run.numbered(self._last_id, since))
            self._write_run(kept.id, kept)
            stored.append(own(kept))
        return stored

    def bring_back(self, now: datetime, limit: int) -> int:
        ahead = list(takewhile(lambda run: run.recorded_at > now, reversed(self.all_runs.values())))
        for run in ahead[::-1][:limit]:
            self._write_run(run.id, evolve(run, recorded_at=now))
        return min(len(ahead), limit)

    def _is_taken(self, run: Run) -> bool:
        """Return whether the fire time has its record already."""
        return (run.revision, run.fire_time) in self._fires.get(run.request_id, _NONE)

    def count_ended(self, ended: Sequence[Ended], owner: str) -> None:  # noqa: ARG002  nobody waits for another here
        for item in ended:
            key = item.hour, item.process or "", item.status
            self._journal.append(("count", key, self.counts.get(key, 0)))
            self.counts[key] = self.counts.get(key, 0) + item.count

    def runs_of(self, request_id: str) -> Reversible[int]:
        """Return the ids of the request's runs, oldest first."""
        return self._fires.get(request_id, _NONE).values()

    def get_runs(self, ids: Collection[int]) -> list[Run]:
        return [own(self.all_runs[id]) for id in ids if id in self.all_runs]

    def hold_keys(self, keys: Collection[str]) -> Collection[str]:
        return keys

    def active_runs(self, keys: Collection[str]) -> list[Run]:
        return [own(self.all_runs[id]) for id in sorted(id for key in keys for id in self._by_key.get(key, ()))]

    def child_runs(self, parent_id: int) -> list[Run]:
        parent = self.all_runs.get(parent_id)
        ids: Iterable[int] = self.runs_of(parent.request_id) if parent is not None else ()
        return [own(self.all_runs[id]) for id in ids if self.all_runs[id].parent_id == parent_id]

    def active_runs_of(self, request_id: str) -> list[Run]:
        return [own(self.all_runs[id]) for id in sorted(self._active.get(request_id, ()))]

    def queued_runs(self, now: datetime, processes: Collection[str], limit: int) -> list[Run]:
        found: list[Run] = []
        keys: set[str] = set()
        for run in self._startable(processes):
            if len(found) < limit and (run.due_at or now) <= now and run.overlap_key not in keys:
                found.append(own(run))
                if run.overlap_key is not None:
                    keys.add(run.overlap_key)
        return found

    def _startable(self, processes: Collection[str]) -> list[Run]:
        """Return the waiting runs that nobody owns and nothing blocks, earliest due first."""
        return sorted((run for run in self._unblocked() if run.process in processes), key=_turn)

    def first_waiting(self) -> Run | None:
        return min(self._unblocked(), key=_turn, default=None)

    def active_processes(self) -> frozenset[str]:
        return frozenset(self.all_runs[id].process for ids in self._by_owner.values() for id in ids)

    def _unblocked(self) -> Iterator[Run]:
        waiting = self._by_owner.get(None, ())
        blocked = self._held_keys() if waiting else ()
        for run in (self.all_runs[id] for id in waiting):
            if run.overlap_key not in blocked:
                yield run

    def _held_keys(self) -> set[str]:
        """Return the overlap keys of the runs that somebody owns: few, however many wait for one of them."""
        held = (self.all_runs[id] for owner, ids in self._by_owner.items() if owner is not None for id in ids)
        return {run.overlap_key for run in held if run.overlap_key is not None}

    def held_runs(self, owner: str) -> list[Run]:
        return [own(self.all_runs[id]) for id in sorted(self._by_owner.get(owner, ()))]

    def update_runs(self, runs: Sequence[Run], owner: str | None) -> set[int]:
        accepted = set()
        for run in runs:
            stored = self.all_runs.get(run.id)
            attempt = run.attempt - (owner is None and run.owner is not None)
            if stored is None or not stored.is_active or stored.owner != owner or stored.attempt != attempt:
                continue
            asked_at = stored.kill_asked_at or run.kill_asked_at  # the first who asked
            run = own(run if asked_at == run.kill_asked_at else evolve(run, kill_asked_at=asked_at))  # noqa: PLW2901
            is_moved = run.recorded_at != stored.recorded_at  # it was brought back
            self._write_run(run.id, evolve(run, recorded_at=stored.recorded_at) if is_moved else run)
            accepted.add(run.id)
        return accepted

    def ask_kill(self, ids: Collection[int], now: datetime) -> None:
        for id in ids:
            run = self.all_runs.get(id)
            if run is not None and run.is_active and run.kill_asked_at is None:
                self._write_run(id, evolve(run, kill_asked_at=now))

    def append_log(self, lines: Sequence[LogLine]) -> None:
        for line in lines:
            kept = self.lines.setdefault(line.run_id, [])
            if line.seq > self.last_seq(line.run_id):
                self._journal.append(("line", line.run_id, len(kept)))
                kept.append(line)

    def trim_log(self, trim: LogTrim) -> None:
        kept = self.lines.get(trim.run_id, [])
        self._journal.append(("log", trim.run_id, kept))
        self.lines[trim.run_id] = [line for line in kept if line.seq <= trim.after or line.seq >= trim.before]

    def last_seq(self, run_id: int) -> int:
        lines = self.lines.get(run_id)
        return lines[-1].seq if lines else 0

    def _delete_run(self, run_id: int) -> None:
        self._journal.append(("log", run_id, self.lines.pop(run_id, [])))
        self._write_run(run_id, None)

    # -- schedulers and retention --------------------------------------------------------------------------------

    def schedulers(self) -> list[SchedulerRecord]:
        return sorted(self.records.values(), key=lambda record: (record.started_at, record.owner))

    def is_signed_on(self, owner: str) -> bool:
        return owner in self.records

    def put_scheduler(self, record: SchedulerRecord) -> None:
        self._journal.append(("record", record.owner, self.records.get(record.owner)))
        self._set_record(record.owner, record)

    def delete_scheduler(self, owner: str) -> None:
        self._journal.append(("record", owner, self.records.get(owner)))
        self._set_record(owner, None)

    def put_absence(self, absence: Absence) -> None:
        for since in [since for since in self.absences if since < absence.earliest_kept]:
            self._write_absence(since, None)
        if absence.since not in self.absences:
            self._write_absence(absence.since, absence)

    def end_absence(self, at: datetime) -> None:
        for since in [since for since, until in self.absences.items() if until is None]:
            self._write_absence(since, Absence(since, max(since, at)))

    def put_zone_database(self, digest: str) -> None:
        self._write_zone_databases({**self.zone_databases, digest: None})

    def forget_zone_databases(self) -> None:
        self._write_zone_databases({})

    def _write_zone_databases(self, digests: dict[str, None]) -> None:
        self._journal.append(("zones", None, self.zone_databases))
        self.zone_databases = digests

    def purge_runs(self, ids: Sequence[int]) -> int:
        for id in ids:
            run = self.all_runs.get(id)
            if run is not None and not run.is_active and not self.is_newest(run):
                self._delete_run(id)
        return len(ids)

    def is_needed(self, run: Run) -> bool:
        """Return whether the run goes on, or the group that it is a member of."""
        parent = None if run.parent_id is None else self.all_runs.get(run.parent_id)
        return run.is_active or (parent is not None and parent.is_active)

    def is_newest(self, run: Run) -> bool:
        """Return whether its request has no newer run. The members of a group are one with it, and so are theirs."""
        newest = self.all_runs[next(reversed(self._fires[run.request_id].values()))]
        return self._outermost(run) is self._outermost(newest)

    def _outermost(self, run: Run) -> Run:
        """Return the run of the group around all groups that the run belongs to; most runs belong to none."""
        while run.parent_id is not None and (parent := self.all_runs.get(run.parent_id)) is not None:
            run = parent
        return run


def _turn(run: Run) -> tuple[datetime, int]:
    return run.due_at or run.fire_time, run.id


def own(value: _V) -> _V:
    """Return *value* with JSON parts that nobody else holds."""
    if value.params:
        value = evolve(value, params=deepcopy(value.params))
    if isinstance(value, Run) and isinstance(value.result, dict | list):
        return evolve(value, result=deepcopy(value.result))
    return value


def _enter(index: dict[Any, dict[Any, Any]], key: Any, name: Any, value: Any) -> None:
    found = index.get(key)
    if found is None:
        index[key] = {name: value}
    else:
        found[name] = value


def _discard(index: dict[Any, dict[Any, Any]], key: Any, name: Any) -> None:
    found = index[key]
    del found[name]
    if not found:
        del index[key]
