"""A process request, the policies it runs under, and what becomes of its due fire times.

Pure: values in, values out, no clock, no store. `plan` is the one place that knows the misfire and overlap rules; every
store calls it inside the transaction that claims, so the rules hold across all schedulers of that store.

What `plan` promises: each fire time that has come is in exactly one of the runs it returns, alone or as part of a
range, and `next_fire_time` moves past all of them.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from bgsched._evolve import evolve
from bgsched.errors import did_you_mean
from bgsched.run import Run, RunStatus, shown
from bgsched.timing import Immediate, Later, Timing

__all__ = [
    "OWN_KEY",
    "RUN_ALL_LIMIT",
    "Beside",
    "Misfire",
    "OnAbandon",
    "Overlap",
    "Plan",
    "Policies",
    "Request",
    "RequestStatus",
    "Retention",
    "Retry",
    "UnreadableTiming",
    "beside",
    "member_key",
    "overlap_key",
    "plan",
]

RUN_ALL_LIMIT = 100
"""How many missed fire times `Misfire.RUN_ALL` runs at most; older ones become one MISFIRED record."""

OWN_KEY = "request:"
"""How an overlap key begins that only runs of one request share."""

_BATCH = 100
_MICROSECOND = timedelta(microseconds=1)


class RequestStatus(StrEnum):
    """Whether a request has fire times to come."""

    SCHEDULED = "scheduled"
    UNSCHEDULED = "unscheduled"
    COMPLETE = "complete"


class Misfire(StrEnum):
    """What becomes of fire times that passed their grace without a run."""

    RUN_ONCE = "run_once"
    SKIP = "skip"
    RUN_ALL = "run_all"


class Overlap(StrEnum):
    """What becomes of a fire time while an earlier run still goes on."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"


class OnAbandon(StrEnum):
    """What becomes of a run whose scheduler died: it stays recorded, or it runs again."""

    RECORD = "record"
    RERUN = "rerun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try a failed run again: *attempts* in all, the second after *delay*, each next one *backoff* times later.

    No delay is longer than *max_delay*; to each, up to *jitter* is added, by a hash of the run and the attempt. Only an
    exception that *retry_on* names is tried again: a type or a tuple of types. A run that was killed or timed out, or
    whose params do not fit, is not.
    """

    attempts: int = 3
    delay: timedelta = timedelta(seconds=10)
    backoff: float = 2.0
    jitter: timedelta = timedelta(0)
    max_delay: timedelta = timedelta(days=1)
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, got {self.attempts}")
        for name in ("delay", "jitter", "max_delay"):
            if _span(name, getattr(self, name)) < timedelta(0):
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.backoff < 1:
            raise ValueError(f"backoff must be 1 or more, got {self.backoff}")
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        if not all(_is_exception_type(kind) for kind in kinds):
            raise ValueError(f"retry_on must be an exception type or a tuple of them, got {self.retry_on!r}")

    def delay_after(self, attempt: int, run_id: int = 0) -> timedelta | None:
        """Return how long to wait after *attempt* (from 1) of a run failed; ``None`` when it was the last."""
        if attempt >= self.attempts:
            return None
        seconds = self.delay.total_seconds()
        for _ in range(attempt - 1):
            seconds = min(seconds * self.backoff, self.max_delay.total_seconds())
        share = zlib.crc32(f"{run_id}:{attempt}".encode()) / 2**32
        return min(timedelta(seconds=seconds), self.max_delay) + self.jitter * share


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _span(name: str, value: object) -> timedelta:
    if not isinstance(value, timedelta):
        raise ValueError(f"{name} must be a timedelta, got {value!r}; write timedelta(seconds=...)")  # noqa: TRY004  as its neighbours
    return value


def _choice(name: str, kind: type[StrEnum], value: object) -> StrEnum:
    try:
        return kind(str(value))
    except ValueError:
        names = [f"{kind.__name__}.{member.name}" for member in kind]
        hint = did_you_mean(f"{kind.__name__}.{str(value).upper()}", names)
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}{hint}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long ended runs are kept, with their logs: those that succeeded, and the *other* ones. ``None``: for ever.

    *per_process*: how many ended runs of a process are kept at most. The newest run of a request is always kept.
    *complete*: delete a request that is complete, with all of its runs, so long after its last run ended; ``None``, the
    default, keeps them. Those that the code declares are always kept.
    """

    success: timedelta | None = timedelta(days=15)
    other: timedelta | None = timedelta(days=30)
    per_process: int | None = None
    complete: timedelta | None = None

    def __post_init__(self) -> None:
        for name in ("success", "other", "complete"):
            age = getattr(self, name)
            if age is not None and _span(name, age) < timedelta(0):
                raise ValueError(f"{name} must not be negative, got {age}")
        if self.per_process is not None and self.per_process < 1:
            raise ValueError(f"per_process must be 1 or more, got {self.per_process}")

    def to_dict(self) -> dict[str, Any]:
        """Return the retention as JSON-able values: spans in seconds."""
        ages = {name: getattr(self, name) for name in ("success", "other", "complete")}
        return {
            **{name: None if age is None else age.total_seconds() for name, age in ages.items()},
            "per_process": self.per_process,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """How the requests of a process run. Kept with the code, not with the request: changed code wins.

    *limit*: how many of its runs go on at once in one scheduler, besides its `workers`; *sensitive*: the params whose
    values are never shown, and ``"return"`` for the result; *prints*: whether what it prints goes into the run log;
    *after*: the names of the processes after each success of which it runs.
    """

    overlap: Overlap = Overlap.SKIP
    overlap_scope: str | tuple[str, ...] = "request"
    misfire: Misfire = Misfire.RUN_ONCE
    misfire_grace: timedelta = timedelta(minutes=1)
    retry: Retry = field(default_factory=lambda: Retry(attempts=1))
    timeout: timedelta | None = None
    on_abandon: OnAbandon = OnAbandon.RECORD
    max_reruns: int = 3
    priority: int = 0
    limit: int | None = None
    sensitive: tuple[str, ...] = ()
    prints: bool = False
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (("overlap", Overlap), ("misfire", Misfire), ("on_abandon", OnAbandon)):
            object.__setattr__(self, name, _choice(name, kind, getattr(self, name)))
        if not isinstance(self.retry, Retry):
            raise ValueError(f"retry must be Retry(attempts=...), got {self.retry!r}")  # noqa: TRY004  as its neighbours
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be 1 or more, got {self.limit}")
        if isinstance(self.overlap_scope, str) and self.overlap_scope not in ("request", "process"):
            raise ValueError(
                f"overlap_scope must be 'request', 'process' or a tuple of param names, got {self.overlap_scope!r}"
            )
        if _span("misfire_grace", self.misfire_grace) < timedelta(0):
            raise ValueError(f"misfire_grace must not be negative, got {self.misfire_grace}")
        if self.timeout is not None and _span("timeout", self.timeout) <= timedelta(0):
            raise ValueError(f"timeout must be longer than nothing, got {self.timeout}")


@dataclass(frozen=True, slots=True)
class UnreadableTiming:
    """Stands for a stored timing that this version cannot read: it never fires, and it says why."""

    text: str
    problem: str

    def next_fire_time(self, after: datetime) -> None:  # noqa: ARG002  the shape of a timing
        """Return ``None``: what cannot be read does not fire."""
        return

    def describe(self) -> str:
        """Return what is wrong with the stored text."""
        return f"cannot be read: {self.problem}"

    __str__ = describe

    def to_dict(self) -> dict[str, Any]:
        """Return the stored text as it is."""
        return {"unreadable": self.text, "problem": self.problem}


@dataclass(frozen=True, kw_only=True, repr=False)
class Request:
    """The stored wish: this process, these params, this timing. Instants are aware and in UTC.

    *revision* counts the timings the request has had; *due_at* is when the next fire time is claimed at the earliest
    (with jitter, or for a `Later` in the past, later than `next_fire_time`); *declared* is the timing that the code
    declared, as JSON text, if it did; *reason* says why it was parked or unscheduled; *sensitive* names the params
    that are never shown.
    """

    id: str
    process: str
    params: dict[str, Any] = field(default_factory=dict)
    timing: Timing | UnreadableTiming
    status: RequestStatus = RequestStatus.SCHEDULED
    user: str | None = None
    channel: str = "code"
    priority: int = 0
    created_at: datetime
    revision: int = 1
    next_fire_time: datetime | None = None
    due_at: datetime | None = None
    last_fire_time: datetime | None = None
    declared: str | None = None
    reason: str | None = None
    sensitive: tuple[str, ...] = ()

    def __repr__(self) -> str:
        request = self.masked()
        return f"Request({', '.join(f'{part.name}={getattr(request, part.name)!r}' for part in fields(request))})"

    def masked(self) -> "Request":
        """Return the request as it may be shown, without the values of sensitive params."""
        return evolve(self, params=shown(self.params, self.sensitive)) if self.sensitive else self

    def hidden_by(self, policies: Policies) -> tuple[str, ...]:
        """Return the names that are sensitive, those included that only the code of today calls so."""
        return tuple(dict.fromkeys((*self.sensitive, *policies.sensitive))) if policies.sensitive else self.sensitive

    def timed(self, timing: Timing, now: datetime) -> "Request":
        """Return the request with *timing*, already pinned, as scheduled at *now*; its fire times begin anew."""
        fire_time = timing.first_fire_time(now)
        due_at = None if fire_time is None else max(now, timing.due_at(fire_time, self.id))
        return evolve(
            self,
            timing=timing,
            status=RequestStatus.COMPLETE if fire_time is None else RequestStatus.SCHEDULED,
            next_fire_time=fire_time,
            due_at=due_at,
            reason="no fire time was left when it was scheduled" if fire_time is None else None,
        )

    def rescheduled(self, timing: Timing, now: datetime, **changes: Any) -> "Request":
        """Return the request with fire times again, under a new revision: no claim of the old timing can succeed."""
        return evolve(self, revision=self.revision + 1, **changes).timed(timing, now)

    def unscheduled(self, reason: str | None = None) -> "Request":
        """Return the request without future fire times, under a new revision; the record stays."""
        return evolve(
            self,
            status=RequestStatus.UNSCHEDULED,
            revision=self.revision + 1,
            next_fire_time=None,
            due_at=None,
            reason=reason,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON-able values: instants in ISO 8601 (UTC), the timing as data and in words."""
        return {
            "id": self.id,
            "process": self.process,
            "params": shown(self.params, self.sensitive),
            "sensitive": list(self.sensitive),
            "timing": self.timing.to_dict(),
            "description": self.timing.describe(),
            "status": self.status.value,
            "user": self.user,
            "channel": self.channel,
            "priority": self.priority,
            "created_at": self.created_at.isoformat(),
            "revision": self.revision,
            "next_fire_time": self.next_fire_time.isoformat() if self.next_fire_time else None,
            "due_at": self.due_at.isoformat() if self.due_at else None,
            "last_fire_time": self.last_fire_time.isoformat() if self.last_fire_time else None,
            "declared": self.declared is not None,
            "reason": self.reason,
        }


def overlap_key(request: Request, policies: Policies) -> str | None:
    """Return what the runs of *request* may not share with another active run; ``None`` when overlap is allowed."""
    return _key(policies, f"{OWN_KEY}{request.id}", request)


def member_key(run: Run, policies: Policies) -> str | None:
    """Return the same for the run of a group's member: to it, its request is the group's, and its process."""
    return _key(policies, f"member:{run.request_id}:{run.process}", run)


def _key(policies: Policies, own: str, of: Request | Run) -> str | None:
    if policies.overlap is Overlap.ALLOW:
        return None
    scope = policies.overlap_scope
    if scope == "request":
        return own
    if scope == "process":
        return f"process:{of.process}"
    values = json.dumps([of.params.get(name) for name in scope], sort_keys=True)
    if not of.sensitive:
        return f"params:{of.process}:{values}"
    return f"params:{of.process}:{hashlib.sha256(values.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a due request, to be written in one transaction.

    *request*: as it stands afterwards. *runs*: the new records, at most one of them claimed (it has an owner), the
    others ended or waiting for anyone. *displaced*: runs to end as SKIPPED; *kills*: ids of runs to be asked to stop.
    """

    request: Request
    runs: tuple[Run, ...] = ()
    displaced: tuple[Run, ...] = ()
    kills: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """What becomes of a run that is made beside the fire times of a request: the *run* to store, and who makes way."""

    run: Run
    displaced: tuple[Run, ...] = ()
    kills: tuple[int, ...] = ()


def beside(run: Run, overlap: Overlap, now: datetime, blockers: Sequence[Run]) -> Beside:
    """Apply the overlap rule to a waiting run that nobody has claimed.

    *blockers* are the active runs that share its `overlap_key`, oldest first.
    """
    waiting = [blocker for blocker in blockers if blocker.owner is None]
    if overlap is Overlap.SKIP and blockers:
        return Beside(run.move(RunStatus.SKIPPED, finished_at=now, reason=f"run {blockers[0].id} had not ended"))
    if overlap is Overlap.QUEUE and waiting:
        return Beside(run.move(RunStatus.SKIPPED, finished_at=now, reason="another run waits already"))
    if overlap is Overlap.REPLACE:
        reason = f"replaced by another run of {run.process}"
        displaced = [old.move(RunStatus.SKIPPED, finished_at=now, reason=reason) for old in waiting]
        return Beside(run, tuple(displaced), tuple(old.id for old in blockers if old.owner is not None))
    return Beside(run)


def plan(request: Request, policies: Policies, owner: str, now: datetime, blockers: Sequence[Run] = ()) -> Plan:
    """Return what becomes of the fire times of *request* that have come by *now*, claimed by *owner*.

    *blockers* are the active runs that share the request's `overlap_key`. A timing that fails to answer parks its
    request: it is unscheduled, with the reason, and stops nobody else.
    """
    if request.next_fire_time is None or isinstance(request.timing, UnreadableTiming):
        return Plan(request.unscheduled(f"parked: its timing {request.timing.describe()}"))
    try:
        due = _due(request, request.timing, policies, now)
        due_at = None if due.upcoming is None else request.timing.due_at(due.upcoming, request.id)
        after = evolve(request, next_fire_time=due.upcoming, due_at=due_at, last_fire_time=due.last)
        return _Overlaps(request, policies, owner, now, blockers).plan(due, after)
    except Exception as error:  # noqa: BLE001  whatever a timing raises must not stop the others
        return Plan(request.unscheduled(f"parked: its timing failed with {type(error).__name__}: {error}"))


@dataclass(frozen=True, slots=True)
class _Due:
    """The fire times that have come: those *to_run*, oldest first, the *misfired* range, and what comes next."""

    to_run: list[datetime]
    last: datetime
    upcoming: datetime | None
    misfired: tuple[datetime, datetime, int] | None = None
    catching_up: bool = False


def _due(request: Request, timing: Timing, policies: Policies, now: datetime) -> _Due:
    """Sort the fire times that have come into those to run and those missed, without ever listing the missed ones."""
    first = request.next_fire_time
    assert first is not None  # noqa: S101  plan() has looked
    stale_before = now - policies.misfire_grace
    is_stale = (request.due_at or first) < stale_before
    upcoming = timing.next_fire_time(first)
    until = max(first, now - getattr(timing, "jitter", timedelta(0)))
    if upcoming is None or upcoming > until:
        if is_stale and policies.misfire is Misfire.SKIP:
            return _Due([], first, upcoming, (first, first, 1))
        return _Due([first], first, upcoming)
    if not is_stale:
        fresh, upcoming = _list(timing, first, until)
        return _Due(fresh, fresh[-1], upcoming)
    return _misfired(timing, policies.misfire, first, until, stale_before)


def _misfired(timing: Timing, misfire: Misfire, first: datetime, until: datetime, stale_before: datetime) -> _Due:
    """Apply the misfire policy to several fire times, of which at least the first is stale."""
    if misfire is Misfire.RUN_ONCE:
        newest = timing.last_fire_time(until, after=first) or first
        return _Due([newest], newest, timing.next_fire_time(newest), _range(timing, first, newest - _MICROSECOND))
    if misfire is Misfire.SKIP:
        stale = _range(timing, first, stale_before - _MICROSECOND)
        fresh_first = timing.next_fire_time(stale[1])
        if fresh_first is None or fresh_first > until:
            return _Due([], stale[1], fresh_first, stale)
        fresh, upcoming = _list(timing, fresh_first, until)
        return _Due(fresh, fresh[-1], upcoming, stale)
    misfired, oldest = _newest(timing, first, until, RUN_ALL_LIMIT)
    fires, upcoming = _list(timing, oldest, until)
    return _Due(fires, fires[-1], upcoming, misfired, catching_up=True)


def _list(timing: Timing, first: datetime, until: datetime) -> tuple[list[datetime], datetime | None]:
    """Return the fire times from *first* to *until*, one batch of them at most, and the one that follows."""
    fires = [first]
    upcoming = timing.next_fire_time(first)
    while upcoming is not None and upcoming <= until and len(fires) < _BATCH:
        fires.append(upcoming)
        upcoming = timing.next_fire_time(upcoming)
    return fires, upcoming


def _range(timing: Timing, first: datetime, until: datetime) -> tuple[datetime, datetime, int]:
    """Return the first, the last and the number of the fire times from *first* (which is one) to *until*."""
    last = timing.last_fire_time(until, after=first) or first
    return first, last, 1 + timing.count_fire_times(first, last)


def _newest(
    timing: Timing, first: datetime, until: datetime, limit: int
) -> tuple[tuple[datetime, datetime, int] | None, datetime]:
    """Return the range to give up so that *limit* fire times remain, and the first of those that remain."""
    if 1 + timing.count_fire_times(first, until) <= limit:
        return None, first
    low, high = first, until  # more than `limit` fire times after low, at most `limit` after high
    while high - low > _MICROSECOND:
        middle = low + (high - low) / 2
        if timing.count_fire_times(middle, until) > limit:
            low = middle
        else:
            high = middle
    oldest = timing.next_fire_time(high)
    assert oldest is not None  # noqa: S101  there are `limit` of them after `high`
    return _range(timing, first, oldest - _MICROSECOND), oldest


@dataclass(frozen=True, slots=True)
class _Overlaps:
    """Turns due fire times into runs, by the overlap rule of the process."""

    request: Request
    policies: Policies
    owner: str
    now: datetime
    blockers: Sequence[Run]

    def plan(self, due: _Due, after: Request) -> Plan:
        records: list[Run] = []
        if due.misfired is not None:
            records.append(self._misfire_record(*due.misfired, instead=due.to_run))
        if not due.to_run:
            return Plan(after, tuple(records))
        overlap = self.policies.overlap
        if overlap is Overlap.ALLOW:
            runs = [self._claimed(due.to_run[0]), *map(self._queued, due.to_run[1:])]
        elif due.catching_up or self._was_asked_for():
            runs = self._in_a_row(due.to_run)
        elif overlap is Overlap.QUEUE:
            runs = self._one_waits(due.to_run)
        elif overlap is Overlap.REPLACE and self.blockers:
            return self._replacing(due.to_run, after, records)
        else:
            runs = self._unless_blocked(due.to_run)
        return Plan(after, (*records, *runs))

    def _was_asked_for(self) -> bool:
        """Whether somebody asked for just this fire time: then it waits for an earlier run, and is never skipped."""
        return self.policies.overlap_scope == "request" and isinstance(self.request.timing, Immediate | Later)

    def _unless_blocked(self, fires: list[datetime]) -> list[Run]:
        if self.blockers:
            return [self._skipped(fires, f"run {self.blockers[0].id} had not ended")]
        rest = [self._skipped(fires[1:], f"the run for {fires[0].isoformat()} had not ended")] if fires[1:] else []
        return [self._claimed(fires[0]), *rest]

    def _in_a_row(self, fires: list[datetime]) -> list[Run]:
        if self.blockers:
            return [self._queued(fire) for fire in fires]
        return [self._claimed(fires[0]), *map(self._queued, fires[1:])]

    def _one_waits(self, fires: list[datetime]) -> list[Run]:
        places = 2 if not self.blockers else 0 if any(run.owner is None for run in self.blockers) else 1
        runs = self._in_a_row(fires[:places]) if places else []
        if fires[places:]:
            runs.append(self._skipped(fires[places:], "another run waits already"))
        return runs

    def _replacing(self, fires: list[datetime], after: Request, records: list[Run]) -> Plan:
        reason = f"replaced by the run for {fires[-1].isoformat()}"
        if fires[:-1]:
            records.append(self._skipped(fires[:-1], reason))
        records.append(self._queued(fires[-1]))
        displaced = [
            run.move(RunStatus.SKIPPED, finished_at=self.now, reason=reason)
            for run in self.blockers
            if run.owner is None
        ]
        kills = [run.id for run in self.blockers if run.owner is not None]
        return Plan(after, tuple(records), tuple(displaced), tuple(kills))

    def _misfire_record(self, first: datetime, last: datetime, count: int, instead: list[datetime]) -> Run:
        fires = "the fire time" if count == 1 else f"{count} fire times"
        reason = f"{fires} passed the grace of {self.policies.misfire_grace} without a run"
        if instead and self.policies.misfire is Misfire.RUN_ONCE:
            reason += f"; the one at {instead[0].isoformat()} runs for all"
        return self._ended(RunStatus.MISFIRED, first, last, count, reason)

    def _skipped(self, fires: list[datetime], reason: str) -> Run:
        return self._ended(RunStatus.SKIPPED, fires[0], fires[-1], len(fires), reason)

    def _ended(self, status: RunStatus, first: datetime, last: datetime, count: int, reason: str) -> Run:
        return self._run(
            first,
            status=status,
            fire_until=last,
            fire_count=count,
            finished_at=self.now,
            claimed_at=self.now,
            reason=reason,
        )

    def _claimed(self, fire_time: datetime) -> Run:
        return self._run(fire_time, owner=self.owner, attempt=1, claimed_at=self.now)

    def _queued(self, fire_time: datetime) -> Run:
        reason = f"waits for run {self.blockers[0].id}" if self.blockers else "waits for its turn"
        return self._run(fire_time, due_at=self.now, reason=reason)

    def _run(self, fire_time: datetime, **values: Any) -> Run:
        request, policies = self.request, self.policies
        return Run(
            request_id=request.id,
            revision=request.revision,
            process=request.process,
            params=request.params,
            user=request.user,
            channel=request.channel,
            sensitive=request.hidden_by(policies),
            fire_time=fire_time,
            recorded_at=self.now,
            overlap_key=overlap_key(request, policies),
            reruns_left=policies.max_reruns if policies.on_abandon is OnAbandon.RERUN else 0,
            **values,
        )
