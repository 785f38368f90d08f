"""What becomes of a request's due fire times: the one place that knows the misfire and overlap rules.

Pure: values in, values out. Every store calls `plan` inside the transaction that claims, so the rules hold across all
schedulers of that store.

What `plan` promises: each fire time that has come is in exactly one of the runs it returns, alone or as part of a
range, and `next_fire_time` moves past all of them.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from bgsched._evolve import evolve, maker
from bgsched.request.policies import Misfire, OnAbandon, Overlap, Policies
from bgsched.request.value import Request, RequestStatus, UnreadableTiming, overlap_key
from bgsched.run import Run, RunStatus
from bgsched.timing import Immediate, Later, Timing

__all__ = ["RUN_ALL_LIMIT", "Beside", "Plan", "as_of_today", "beside", "passed_over", "plan"]

RUN_ALL_LIMIT = 100
"""How many missed fire times `Misfire.RUN_ALL` runs at most; older ones become one MISFIRED record."""

_BATCH = 100
_UNCHANGING = (None, "UTC")  # time zones without rules
_FARTHEST_MOVE = timedelta(days=1)  # a zone may go over the date line
_MICROSECOND = timedelta(microseconds=1)
_NO_JITTER = timedelta(0)


class Plan(NamedTuple):
    """What becomes of a due request, to be written in one transaction.

    *request*: as it stands afterwards. *runs*: the new records, at most one of them claimed (it has an owner), the
    others ended or waiting for anyone. *displaced*: runs to end as given up; *kills*: ids of runs to be asked to stop.
    """

    request: Request
    runs: tuple[Run, ...] = ()
    displaced: tuple[Run, ...] = ()
    kills: tuple[int, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether one of its runs is to start, or waits."""
        for run in self.runs:  # noqa: SIM110  a generator costs more than what it goes through
            if run.is_active:
                return True
        return False


class Beside(NamedTuple):
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
        displaced = [old.given_up(now, reason) for old in waiting]
        return Beside(run, tuple(displaced), tuple(old.id for old in blockers if old.owner is not None))
    return Beside(run)


def plan(request: Request, policies: Policies, owner: str, now: datetime, blockers: Sequence[Run] = ()) -> Plan:
    """Return what becomes of the fire times of *request* that have come by *now*, claimed by *owner*.

    *blockers* are the active runs that share the request's `overlap_key`. A timing that fails to answer parks its
    request: it is unscheduled, with the reason, and stops nobody else.
    """
    timing = request.timing
    if request.next_fire_time is None or isinstance(timing, UnreadableTiming):
        return Plan(request.unscheduled(now, f"parked: its timing {timing.describe()}"))
    try:
        stored, request = request, _as_of_today(request, timing, now)
        if request is not stored and (request.due_at is None or request.due_at > now):
            return Plan(request)
        due = _due(request, timing, policies, now)
        due_at = None if due.upcoming is None else timing.due_at(due.upcoming, request.id)
        if due_at is not None and request.due_at is not None:  # nobody could come for it before the one before it
            due_at = max(due_at, request.due_at)
        after = request.advanced(due.upcoming, due_at, due.last)
        return _Overlaps(request, policies, owner, now, blockers).plan(due, after)
    except Exception as error:  # noqa: BLE001  whatever a timing raises must not stop the others
        return Plan(request.unscheduled(now, f"parked: its timing failed with {type(error).__name__}: {error}"))


def passed_over(before: Request, after: Request, now: datetime) -> Run | None:
    """Return the record of the fire times that had come by *now* when a request was changed, and that run no more.

    ``None``: none had come that was not claimed, or the request still has it.
    """
    first, timing = before.next_fire_time, before.timing
    if first is None or before.due_at is None or before.due_at > now or after.next_fire_time == first:
        return None
    last, count = first, 1
    with suppress(Exception):  # whatever a timing raises must not keep anybody from giving the request another
        if not isinstance(timing, UnreadableTiming):
            _, last, count = _range(timing, first, max(first, now - getattr(timing, "jitter", _NO_JITTER)))
    how = "unscheduled" if after.status is RequestStatus.UNSCHEDULED else "given another timing"
    reason = f"its request was {how} before a scheduler came for it"
    return _Overlaps(before, Policies(), "", now, ()).ended(RunStatus.SKIPPED, first, last, count, reason)


def as_of_today(request: Request, now: datetime) -> Request:
    """Return a request that is not claimed yet with the fire time that its timing has by the rules of today."""
    timing = request.timing
    if request.next_fire_time is None or isinstance(timing, UnreadableTiming):
        return request
    return _as_of_today(request, timing, now)


def _as_of_today(request: Request, timing: Timing, now: datetime) -> Request:
    """Return the request with the fire time that its timing has by the time zone database of today.

    What is stored was computed when the one before fired. Where the rules of its zone have changed since, the nearest
    fire time takes its place, on either side but later than the last one that fired: it is the same local time, moved.
    One that is over by *now* is due since it could be known: until then nobody could have come for it in its grace.
    """
    stored = request.next_fire_time
    assert stored is not None  # noqa: S101  plan() has looked
    if isinstance(timing, Immediate) or timing.timezone in _UNCHANGING:
        return request
    if timing.next_fire_time(stored - _MICROSECOND) == stored:
        return request
    moved = timing.next_fire_time(stored)
    reach = moved - stored if moved is not None else _FARTHEST_MOVE
    last = request.last_fire_time or stored - reach
    earlier = timing.last_fire_time(stored, after=max(stored - reach, last))
    if earlier is not None and earlier - last >= stored - earlier:  # else it is the last one, which was moved as well
        moved = earlier
    if moved is None:
        return evolve(request, next_fire_time=None, due_at=None)
    known_at = min(request.due_at or stored, now)
    return evolve(request, next_fire_time=moved, due_at=max(timing.due_at(moved, request.id), known_at))


class _Due(NamedTuple):
    """The fire times that have come: those *to_run*, oldest first, the *misfired* range, and what comes next."""

    to_run: list[datetime]
    last: datetime
    upcoming: datetime | None
    misfired: tuple[datetime, datetime, int] | None = None


def _due(request: Request, timing: Timing, policies: Policies, now: datetime) -> _Due:
    """Sort the fire times that have come into those to run and those missed, without ever listing the missed ones.

    With jitter each has a due time of its own, at most that much later; where that decides, they are taken singly.
    """
    first = request.next_fire_time
    assert first is not None  # noqa: S101  plan() has looked
    jitter = getattr(timing, "jitter", _NO_JITTER)
    singly = bool(jitter) and policies.misfire is Misfire.SKIP
    is_stale = _is_stale(request, first, policies, now)
    upcoming = timing.next_fire_time(first)
    until = first if upcoming is None else max(first, now - jitter)
    if upcoming is None or upcoming > until or (singly and not is_stale):
        if is_stale and policies.misfire is Misfire.SKIP and not isinstance(timing, Immediate):  # which is for now
            return _Due([], first, upcoming, (first, first, 1))
        return _Due([first], first, upcoming)
    if not is_stale:
        fresh, upcoming = _list(timing, first, until)
        return _Due(fresh, fresh[-1], upcoming)
    stale_before = now - policies.misfire_grace - jitter
    return _misfired(timing, policies.misfire, first, first if singly else until, stale_before)


def _is_stale(request: Request, first: datetime, policies: Policies, now: datetime) -> bool:
    """Return whether the first of the fire times that have come has passed its grace."""
    return now - (request.due_at or first) > policies.misfire_grace  # which may be longer than time itself


def _misfired(timing: Timing, misfire: Misfire, first: datetime, until: datetime, stale_before: datetime) -> _Due:
    """Apply the misfire policy to several fire times: the first is stale, and so are all before *stale_before*."""
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
    return _Due(fires, fires[-1], upcoming, misfired)


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


class _Overlaps(NamedTuple):
    """Turns due fire times into runs, by the overlap rule of the process."""

    request: Request
    policies: Policies
    owner: str
    now: datetime
    blockers: Sequence[Run]

    def plan(self, due: _Due, after: Request) -> Plan:
        if len(due.to_run) == 1 and not self.blockers and due.misfired is None:
            return Plan(after, (self._claimed(due.to_run[0]),))  # whatever the rule is, nothing is in the way
        records: list[Run] = []
        if due.misfired is not None:
            records.append(self._misfire_record(*due.misfired, instead=due.to_run))
        if not due.to_run:
            return Plan(after, tuple(records))
        overlap = self.policies.overlap
        if overlap is Overlap.ALLOW:
            runs = [self._claimed(due.to_run[0]), *map(self._queued, due.to_run[1:])]
        elif self._has_to_run_all(due.to_run) or self._was_asked_for():
            runs = self._in_a_row(due.to_run)
        elif overlap is Overlap.QUEUE:
            runs = self._one_waits(due.to_run)
        elif overlap is Overlap.REPLACE:
            return self._replacing(due.to_run, after, records)
        else:
            runs = self._unless_blocked(due.to_run)
        return Plan(after, (*records, *runs))

    def _has_to_run_all(self, fires: list[datetime]) -> bool:
        """Whether `Misfire.RUN_ALL` says that none of them is skipped for another: they were missed.

        So they were where several have come, where one has passed its grace, or where it had come before a run of its
        request was made that is now in its way: it was left over when that one was claimed.
        """
        request, due_at = self.request, self.request.due_at or fires[0]
        if self.policies.misfire is not Misfire.RUN_ALL:
            return False
        is_misfire = _is_stale(request, fires[0], self.policies, self.now) and not isinstance(request.timing, Immediate)
        made_at = [run.recorded_at for run in self.blockers if run.request_id == request.id]
        return len(fires) > 1 or is_misfire or any(due_at <= at for at in made_at)

    def _was_asked_for(self) -> bool:
        """Whether somebody asked for just this fire time: it waits for an earlier run that it does not replace."""
        is_alone = self.policies.overlap_scope == "request" and isinstance(self.request.timing, Immediate | Later)
        return is_alone and self.policies.overlap is not Overlap.REPLACE

    def _unless_blocked(self, fires: list[datetime]) -> list[Run]:
        if self.blockers:
            return [self._skipped(fires, f"run {self.blockers[0].id} had not ended")]
        reason = f"due together with the fire time {fires[0].isoformat()}, which runs"
        return [self._claimed(fires[0]), *([self._skipped(fires[1:], reason)] if fires[1:] else [])]

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
        records.append(self._queued(fires[-1]) if self.blockers else self._claimed(fires[-1]))
        displaced = [run.given_up(self.now, reason) for run in self.blockers if run.owner is None]
        kills = [run.id for run in self.blockers if run.owner is not None]
        return Plan(after, tuple(records), tuple(displaced), tuple(kills))

    def _misfire_record(self, first: datetime, last: datetime, count: int, instead: list[datetime]) -> Run:
        fires = "the fire time" if count == 1 else f"{count} fire times"
        reason = f"{fires} passed the grace of {self.policies.misfire_grace} without a run"
        if instead and self.policies.misfire is Misfire.RUN_ONCE:
            reason += f"; the one at {instead[0].isoformat()} stands for all"
        return self.ended(RunStatus.MISFIRED, first, last, count, reason)

    def _skipped(self, fires: list[datetime], reason: str) -> Run:
        return self.ended(RunStatus.SKIPPED, fires[0], fires[-1], len(fires), reason)

    def ended(self, status: RunStatus, first: datetime, last: datetime, count: int, reason: str) -> Run:
        """Return the record of fire times that do not run."""
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

    def _run(
        self,
        fire_time: datetime,
        *,
        status: RunStatus = RunStatus.WAITING,
        fire_until: datetime | None = None,
        fire_count: int = 1,
        owner: str | None = None,
        attempt: int = 0,
        due_at: datetime | None = None,
        claimed_at: datetime | None = None,
        finished_at: datetime | None = None,
        reason: str | None = None,
    ) -> Run:
        request, policies = self.request, self.policies
        return _new_run(
            request.id,
            request.revision,
            request.process,
            request.params,
            request.user,
            request.channel,
            request.hidden_by(policies),
            overlap_key(request, policies),
            policies.max_reruns if policies.on_abandon is OnAbandon.RERUN else 0,
            self.now,
            fire_time,
            status,
            fire_until,
            fire_count,
            owner,
            attempt,
            due_at,
            claimed_at,
            finished_at,
            reason,
        )


_OF_THE_REQUEST = (
    "request_id",
    "revision",
    "process",
    "params",
    "user",
    "channel",
    "sensitive",
    "overlap_key",
    "reruns_left",
    "recorded_at",
)
_OF_THE_FIRE_TIME = (
    "fire_time",
    "status",
    "fire_until",
    "fire_count",
    "owner",
    "attempt",
    "due_at",
    "claimed_at",
    "finished_at",
    "reason",
)
_new_run: Callable[..., Run] = maker(Run, *_OF_THE_REQUEST, *_OF_THE_FIRE_TIME)
