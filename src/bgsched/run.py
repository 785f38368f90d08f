"""A run: one execution of a process, for one fire time, and the moves it may make.

Pure values. `RUN_TRANSITIONS` is the whole rule; `Run.move` is the only way from one status to the next, and an illegal
move raises and changes nothing. A run that ends keeps its status for ever.

    WAITING --> RUNNING --> SUCCESS | ERROR | TIMED_OUT | KILLED | ABANDONED
       ^           |
       +-----------+  a retry, or a rerun after its owner died: the attempt is kept in `attempts`

A *range* of fire times that came to nothing for one reason is one record: `fire_time` is the first of them,
`fire_until` the last, `fire_count` how many.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from bgsched._evolve import changer, evolve
from bgsched.errors import IllegalTransitionError

__all__ = [
    "ACTIVE",
    "FINAL",
    "MASK",
    "RUN_TRANSITIONS",
    "Attempt",
    "LogLine",
    "LogTrim",
    "Progress",
    "Run",
    "RunError",
    "RunStatus",
    "first_start",
    "shown",
]


class RunStatus(StrEnum):
    """Where a run stands."""

    __hash__ = str.__hash__  # that of an Enum is written in Python, and statuses are looked up at every step

    WAITING = "waiting"
    """It has not started, or waits for its next attempt."""
    RUNNING = "running"
    """It has started and not ended."""
    SUCCESS = "success"
    """Its process returned."""
    ERROR = "error"
    """Its process raised, and no attempt was left."""
    TIMED_OUT = "timed_out"
    """It took longer than its timeout."""
    KILLED = "killed"
    """It was asked to stop, and did."""
    SKIPPED = "skipped"
    """It did not start: an earlier run was in its way, or it was unscheduled or replaced before."""
    MISFIRED = "misfired"
    """It did not start: no scheduler came for it within its grace."""
    ABANDONED = "abandoned"
    """Its scheduler died, or was shut down, before it ended."""


_S = RunStatus
_WAITING, _RUNNING = _S.WAITING, _S.RUNNING  # to look a member up costs ten times a name

RUN_TRANSITIONS: dict[RunStatus | None, frozenset[RunStatus]] = {
    None: frozenset({_S.WAITING, _S.SKIPPED, _S.MISFIRED}),
    _S.WAITING: frozenset({_S.RUNNING, _S.SKIPPED, _S.ERROR, _S.KILLED, _S.ABANDONED, _S.WAITING}),
    _S.RUNNING: frozenset({_S.SUCCESS, _S.ERROR, _S.TIMED_OUT, _S.KILLED, _S.ABANDONED, _S.WAITING}),
    _S.SUCCESS: frozenset(),
    _S.ERROR: frozenset(),
    _S.TIMED_OUT: frozenset(),
    _S.KILLED: frozenset(),
    _S.SKIPPED: frozenset(),
    _S.MISFIRED: frozenset(),
    _S.ABANDONED: frozenset(),
}
"""From which status a run may go to which; ``None`` is "not yet recorded"."""

ACTIVE = frozenset({_S.WAITING, _S.RUNNING})
FINAL = frozenset(RunStatus) - ACTIVE


@dataclass(frozen=True, slots=True)
class RunError:
    """What went wrong: the exception's type, its message, and the traceback with its causes."""

    type: str
    message: str
    traceback: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON-able values."""
        return {"type": self.type, "message": self.message, "traceback": self.traceback}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come: *done* of *total* (unknown: ``None``), and what it says it is doing."""

    done: int = 0
    total: int | None = None
    message: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the progress as JSON-able values."""
        return {"done": self.done, "total": self.total, "message": self.message}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try that did not end its run: it was retried, or run again after its owner died."""

    number: int
    status: RunStatus
    owner: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error: RunError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the attempt as JSON-able values."""
        return {
            "number": self.number,
            "status": self.status.value,
            "owner": self.owner,
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "error": self.error.to_dict() if self.error else None,
        }


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a run log. *seq* counts from 1 within the run; *text* may hold line breaks."""

    run_id: int
    seq: int
    at: datetime
    level: str
    logger: str
    text: str
    attempt: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the line as JSON-able values."""
        return {
            "run_id": self.run_id,
            "seq": self.seq,
            "at": _iso(self.at),
            "level": self.level,
            "logger": self.logger,
            "text": self.text,
            "attempt": self.attempt,
        }


@dataclass(frozen=True, slots=True)
class LogTrim:
    """Lines to drop from a log: those of *attempt* with a ``seq`` above *after* and below *before*."""

    run_id: int
    attempt: int
    after: int
    before: int


MASK = "***"
"""What is shown in place of a sensitive value."""


def shown(params: Mapping[str, Any], sensitive: Collection[str]) -> dict[str, Any]:
    """Return *params* as they may be shown: `MASK` in place of each one that *sensitive* names."""
    return {name: MASK if name in sensitive else value for name, value in params.items()}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Run:
    """The record of one execution. Instants are aware and in UTC.

    *id* grows with every record of a store, and so does *recorded_at*: when the run was claimed or began to wait, or
    when its fire time was found to be skipped or misfired.
    *started_at* and *duration* are those of the last attempt, those of a group of all; `lateness` is that of the first.
    *params* and *result* are JSON, as they are stored; *sensitive* names the params that are never shown, and
    ``"return"`` where that goes for the result. *parent_id* is the run of the group that this is a member of.
    """

    id: int = 0
    request_id: str
    revision: int = 0
    parent_id: int | None = None
    process: str
    params: dict[str, Any] = field(default_factory=dict)
    user: str | None = None
    channel: str = "code"
    fire_time: datetime
    fire_until: datetime | None = None
    fire_count: int = 1
    recorded_at: datetime
    due_at: datetime | None = None
    claimed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration: timedelta | None = None
    status: RunStatus = RunStatus.WAITING
    reason: str | None = None
    attempt: int = 0
    attempts: tuple[Attempt, ...] = ()
    reruns_left: int = 0
    owner: str | None = None
    overlap_key: str | None = None
    kill_asked_at: datetime | None = None
    progress: Progress | None = None
    result: Any = None
    error: RunError | None = None
    sensitive: tuple[str, ...] = ()

    def __repr__(self) -> str:
        run = self.masked()
        return f"Run({', '.join(f'{part.name}={getattr(run, part.name)!r}' for part in fields(run))})"

    @property
    def lateness(self) -> timedelta | None:
        """How long after its fire time the run first started; ``None`` before it has."""
        started_at = self.started_at if not self.attempts else first_start(self)
        return None if started_at is None else started_at - self.fire_time

    @property
    def is_active(self) -> bool:
        """Whether the run has not ended yet."""
        return self.status is _WAITING or self.status is _RUNNING

    def move(self, status: RunStatus, **changes: Any) -> "Run":
        """Return the run in *status* with *changes*.

        Raises:
            IllegalTransitionError: `RUN_TRANSITIONS` has no such move.
        """
        self._check_move(status)
        return evolve(self, status=status, **changes)

    def _check_move(self, status: RunStatus) -> None:
        if status not in RUN_TRANSITIONS[self.status]:
            raise IllegalTransitionError(f"run {self.id}", self.status.value, status.value)

    def taken(self, owner: str, now: datetime) -> "Run":
        """Return the waiting run as claimed by *owner*: its next attempt begins."""
        return self.move(RunStatus.WAITING, owner=owner, claimed_at=now, attempt=self.attempt + 1, reason=None)

    def started(self, now: datetime) -> "Run":
        """Return the claimed run as started."""
        self._check_move(_RUNNING)
        return _start(self, _RUNNING, now)

    def ended(
        self,
        status: RunStatus,
        now: datetime,
        duration: timedelta | None,
        *,
        result: Any = None,
        reason: str | None = None,
        error: RunError | None = None,
    ) -> "Run":
        """Return the run as it ended in *status*, which is final."""
        self._check_move(status)
        return _end(self, status, now, duration, result, reason, error)

    def numbered(self, id: int, recorded_at: datetime) -> "Run":
        """Return the run as a store has it."""
        return _number(self, id, recorded_at)

    def again(self, status: RunStatus, now: datetime, due_at: datetime, *, reason: str, **changes: Any) -> "Run":
        """Return the run waiting for another attempt at *due_at*; the one that ended in *status* is kept."""
        tried = Attempt(self.attempt, status, self.owner, self.started_at, now, changes.pop("error", None))
        return self.move(
            RunStatus.WAITING,
            attempts=(*self.attempts, tried),
            owner=None,
            started_at=None,
            due_at=due_at,
            reason=reason,
            progress=None,
            **changes,
        )

    def put_back(self, now: datetime, why: str) -> "Run":
        """Return the claimed run, which has surely not started, waiting for any owner."""
        return self.move(RunStatus.WAITING, owner=None, claimed_at=None, due_at=now, reason=f"put back: {why}")

    def abandoned(self, now: datetime, why: str, *, crashed: bool = True, error: RunError | None = None) -> "Run":
        """Return what becomes of an active run whose owner is gone: another attempt while it has reruns.

        *crashed*: whether it may be this run that brought its owner down; only that uses up a rerun. *error*: what it
        raised when it was told so.
        """
        if self.kill_asked_at is not None:
            return self.move(
                RunStatus.KILLED, finished_at=now, reason=f"{why} after the run was asked to stop", error=error
            )
        if self.reruns_left > 0:
            return self.again(
                RunStatus.ABANDONED,
                now,
                now,
                reason=f"runs again: {why}",
                reruns_left=self.reruns_left - crashed,
                error=error,
            )
        where = "while it ran" if self.started_at else "after it was claimed, perhaps before it started"
        return self.move(RunStatus.ABANDONED, finished_at=now, reason=f"{why} {where}", error=error)

    def given_up(self, now: datetime, why: str) -> "Run":
        """Return the waiting run, which nobody has claimed, as it ends for *why*: skipped, if it has never begun.

        Else it ends as its last attempt did that failed; if none did, as the last one.
        """
        if not self.attempts:
            return self.move(RunStatus.SKIPPED, finished_at=now, reason=why)
        last = ([tried for tried in self.attempts if tried.status is RunStatus.ERROR] or self.attempts)[-1]
        what = "failed" if last.status is RunStatus.ERROR else "was abandoned"
        reason = f"{why}; its attempt {last.number} {what}"
        return self.move(last.status, finished_at=now, reason=reason, error=last.error)

    def masked(self) -> "Run":
        """Return the run as it may be shown, without the values of sensitive params."""
        if not self.sensitive:
            return self
        hidden = "return" in self.sensitive and self.result is not None
        return evolve(
            self,
            params=shown(self.params, self.sensitive),
            result=MASK if hidden else self.result,
            overlap_key=_masked_key(self),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON-able values: instants in ISO 8601 (UTC), spans in seconds, sensitive values masked."""
        run = self.masked()
        plain = {part.name: getattr(run, part.name) for part in fields(run)}
        for name, value in plain.items():
            if isinstance(value, datetime):
                plain[name] = _iso(value)
        return plain | {
            "status": self.status.value,
            "sensitive": list(self.sensitive),
            "duration": _seconds(self.duration),
            "lateness": _seconds(self.lateness),
            "attempts": [attempt.to_dict() for attempt in self.attempts],
            "progress": self.progress.to_dict() if self.progress else None,
            "error": self.error.to_dict() if self.error else None,
        }


_number: Callable[..., Run] = changer(Run, "id", "recorded_at")
_start: Callable[..., Run] = changer(Run, "status", "started_at")
_end: Callable[..., Run] = changer(Run, "status", "finished_at", "duration", "result", "reason", "error")


def first_start(run: Run) -> datetime | None:
    """Return when the first attempt of a run started that did."""
    tried = (attempt.started_at for attempt in run.attempts if attempt.started_at is not None)
    return next(tried, run.started_at)


def _masked_key(run: Run) -> str | None:
    """Return the overlap key without what it says of params: who knows how it is made could try what fits it."""
    by_params = f"params:{run.process}:"
    return by_params + MASK if run.overlap_key and run.overlap_key.startswith(by_params) else run.overlap_key


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
