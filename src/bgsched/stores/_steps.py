"""The writing half of the store contract: the small steps of one write transaction, which every backend supplies."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bgsched.request import Plan, Request
from bgsched.run import LogLine, LogTrim, Run
from bgsched.stores._questions import Absence, Ended, SchedulerRecord

__all__ = ["Planner", "Report", "Transaction"]


@dataclass(frozen=True, slots=True)
class Report:
    """What an owner has to say about its runs: where they stand now, and the lines they wrote.

    *follow_ups*: requests to file, each if the run of that id is taken as reported here.
    """

    runs: Sequence[Run] = ()
    log: Sequence[LogLine] = ()
    trims: Sequence[LogTrim] = ()
    follow_ups: Sequence[tuple[int, Request]] = ()


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


class Transaction(Protocol):
    """The steps of one write transaction. All of them are seen by others at once, or none."""

    def get_requests(self, ids: Collection[str]) -> list[Request]:
        """Return those of the requests that exist, locked against other writers.

        A scheduled one with no fire time left and no active run is COMPLETE: that is told, not written.
        """
        ...

    def put_requests(self, requests: Sequence[Request]) -> None:
        """Insert the requests, or replace those that exist."""
        ...

    def delete_request(self, id: str) -> None:
        """Delete a request with its runs and their logs."""
        ...

    def due_requests(self, now: datetime, processes: Collection[str], limit: int) -> list[Request]:
        """Return, locked, requests with ``due_at`` not after *now*: by priority (highest first), ``due_at``, id."""
        ...

    def advance_requests(self, requests: Sequence[Request]) -> None:
        """Write ``status, revision, next_fire_time, due_at, last_fire_time, reason, unscheduled_at`` of requests."""
        ...

    def insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        """Insert the runs and return them with their ids; one whose fire time has a run already is left out.

        A ``recorded_at`` before that of the newest run, after a clock was set back, becomes that one's.
        """
        ...

    def bring_back(self, now: datetime, limit: int) -> int:
        """Say of up to *limit* runs recorded after *now*, oldest first, that it was *now*; return how many."""
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
        """Return the runs of the same request that have this parent, oldest first, locked."""
        ...

    def active_runs_of(self, request_id: str) -> list[Run]:
        """Return the active runs of a request, oldest first, locked."""
        ...

    def queued_runs(self, now: datetime, processes: Collection[str], limit: int) -> list[Run]:
        """Return due waiting runs without owner, one for an overlap key, none whose key an owned run holds, locked."""
        ...

    def held_runs(self, owner: str) -> list[Run]:
        """Return the active runs of *owner*, locked: so they stay until this transaction ends."""
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

    def put_absence(self, absence: Absence) -> None:
        """Note a time in which no scheduler lived; one that begins at the same instant is kept as it is."""
        ...

    def end_absence(self, at: datetime) -> None:
        """Let absences that are not over end at *at*."""
        ...

    def put_zone_database(self, digest: str) -> None:
        """Note a time zone database by which fire times are computed; one that is known is kept as it is."""
        ...

    def forget_zone_databases(self) -> None:
        """Forget all of them."""
        ...

    def purge_runs(self, ids: Sequence[int]) -> int:
        """Delete those of the runs that have ended and are not their request's newest, with their logs.

        Those that many log lines would make last long are left to the next call. Return how many were deleted.
        """
        ...
