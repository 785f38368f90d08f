"""What becomes of a request's due fire times: the one place that knows the misfire and overlap rules.

Pure: values in, values out. Every store calls `plan` inside the transaction that claims, so the rules hold across all
schedulers of that store.

What `plan` promises: each fire time that has come is in exactly one of the runs it returns, alone or as part of a
range, and `next_fire_time` moves past all of them.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
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
    fires = _Fires(timing, first, first)
    with suppress(Exception):  # whatever a timing raises must not keep anybody from giving the request another
        fires = _Fires.until(max(first, now - getattr(timing, "jitter", _NO_JITTER)), timing, first)
    how = "unscheduled" if after.status is RequestStatus.UNSCHEDULED else "given another timing"
    reason = f"its request was {how} before a scheduler came for it"
    return _Overlaps(before, Policies(), "", now, ()).ended(RunStatus.SKIPPED, fires, reason)


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


class _Fires(NamedTuple):
    """Fire times of *timing* in a row: *number* of them, from *first* to *last*; listed only as needed."""

    timing: Timing | UnreadableTiming
    first: datetime
    last: datetime
    number: int = 1

    @classmethod
    def until(cls, until: datetime, timing: Timing | UnreadableTiming, first: datetime) -> "_Fires":
        """Return those from *first*, which is one, to *until*."""
        last = timing.last_fire_time(until, after=first) or first
        return cls(timing, first, last, 1 + timing.count_fire_times(first, last))

    def oldest(self, most: int) -> list[datetime]:
        """Return the oldest of them, *most* at the most."""
        return [self.first, *islice(self.timing.fire_times(self.first, self.last), most - 1)] if most else []

    def all_after(self, oldest: Sequence[datetime]) -> "_Fires | None":
        """Return those that follow the *oldest*."""
        if not oldest or len(oldest) == self.number:
            return None if oldest else self
        first = self.timing.next_fire_time(oldest[-1]) or self.last
        return self._replace(first=first, number=self.number - len(oldest))

    def all_before_newest(self) -> "_Fires | None":
        """Return all but the newest one."""
        if self.number == 1:
            return None
        last = self.timing.last_fire_time(self.last - _MICROSECOND, after=self.first) or self.first
        return self._replace(last=last, number=self.number - 1)


class _Due(NamedTuple):
    """The fire times that have come: those *to_run*, those *misfired* before them, and the one that comes next."""

    to_run: _Fires | None
    upcoming: datetime | None
    misfired: _Fires | None = None

    @property
    def last(self) -> datetime:
        """The newest of them."""
        newest = self.to_run or self.misfired
        assert newest is not None  # noqa: S101  one has come
        return newest.last


def _due(request: Request, timing: Timing, policies: Policies, now: datetime) -> _Due:
    """Sort the fire times that have come into those to run and those missed.

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
        alone = _Fires(timing, first, first)
        if is_stale and policies.misfire is Misfire.SKIP and not isinstance(timing, Immediate):  # which is for now
            return _Due(None, upcoming, alone)
        return _Due(alone, upcoming)
    if not is_stale:
        return _fresh(timing, policies, first, until)
    stale_before = now - policies.misfire_grace - jitter
    return _misfired(timing, policies, first, first if singly else until, stale_before)


def _is_stale(request: Request, first: datetime, policies: Policies, now: datetime) -> bool:
    """Return whether the first of the fire times that have come has passed its grace."""
    return now - (request.due_at or first) > policies.misfire_grace  # which may be longer than time itself


def _fresh(
    timing: Timing, policies: Policies, first: datetime, until: datetime, misfired: _Fires | None = None
) -> _Due:
    """Return the fire times from *first* to *until* as those to run; where each gets a run, one batch of them."""
    fires = _Fires.until(until, timing, first)
    if fires.number > _BATCH and (policies.overlap is Overlap.ALLOW or policies.misfire is Misfire.RUN_ALL):
        fires = fires._replace(last=fires.oldest(_BATCH)[-1], number=_BATCH)
    return _Due(fires, timing.next_fire_time(fires.last), misfired)


def _misfired(timing: Timing, policies: Policies, first: datetime, until: datetime, stale_before: datetime) -> _Due:
    """Apply the misfire policy to several fire times: the first is stale, and so are all before *stale_before*."""
    if policies.misfire is Misfire.RUN_ONCE:
        come = _Fires.until(until, timing, first)
        newest = _Fires(timing, come.last, come.last)
        return _Due(newest, timing.next_fire_time(come.last), come.all_before_newest())
    if policies.misfire is Misfire.SKIP:
        stale = _Fires.until(stale_before - _MICROSECOND, timing, first)
        fresh_first = timing.next_fire_time(stale.last)
        if fresh_first is None or fresh_first > until:
            return _Due(None, fresh_first, stale)
        return _fresh(timing, policies, fresh_first, until, stale)
    misfired, oldest = _newest(timing, first, until, RUN_ALL_LIMIT)
    return _fresh(timing, policies, oldest, until, misfired)


def _newest(timing: Timing, first: datetime, until: datetime, limit: int) -> tuple[_Fires | None, datetime]:
    """Return the fire times to give up so that *limit* remain, and the first of those that remain."""
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
    return _Fires.until(oldest - _MICROSECOND, timing, first), oldest


class _Overlaps(NamedTuple):
    """Turns due fire times into runs, by the overlap rule of the process."""

    request: Request
    policies: Policies
    owner: str
    now: datetime
    blockers: Sequence[Run]

    def plan(self, due: _Due, after: Request) -> Plan:
        fires = due.to_run
        if fires is not None and fires.number == 1 and not self.blockers and due.misfired is None:
            return Plan(after, (self._claimed(fires.first),))  # whatever the rule is, nothing is in the way
        records: list[Run] = []
        if due.misfired is not None:
            records.append(self._misfire_record(due.misfired, instead=fires))
        if fires is None:
            return Plan(after, tuple(records))
        overlap = self.policies.overlap
        if overlap is Overlap.ALLOW:
            first, *others = fires.oldest(fires.number)
            runs = [self._claimed(first), *map(self._queued, others)]
        elif self._has_to_run_all(fires) or self._was_asked_for():
            runs = self._in_a_row(fires.oldest(fires.number))
        elif overlap is Overlap.QUEUE:
            runs = self._one_waits(fires)
        elif overlap is Overlap.REPLACE:
            return self._replacing(fires, after, records)
        else:
            runs = self._unless_blocked(fires)
        return Plan(after, (*records, *runs))

    def _has_to_run_all(self, fires: _Fires) -> bool:
        """Whether `Misfire.RUN_ALL` says that none of them is skipped for another: they were missed.

        So they were where several have come, where one has passed its grace, or where it had come before a run of its
        request was made that is now in its way: it was left over when that one was claimed.
        """
        request, due_at = self.request, self.request.due_at or fires.first
        if self.policies.misfire is not Misfire.RUN_ALL:
            return False
        is_misfire = _is_stale(request, fires.first, self.policies, self.now) and not isinstance(
            request.timing, Immediate
        )
        made_at = [run.recorded_at for run in self.blockers if run.request_id == request.id]
        return fires.number > 1 or is_misfire or any(due_at <= at for at in made_at)

    def _was_asked_for(self) -> bool:
        """Whether somebody asked for just this fire time: it waits for an earlier run that it does not replace."""
        is_alone = self.policies.overlap_scope == "request" and isinstance(self.request.timing, Immediate | Later)
        return is_alone and self.policies.overlap is not Overlap.REPLACE

    def _unless_blocked(self, fires: _Fires) -> list[Run]:
        if self.blockers:
            return self._skipped(fires, f"run {self.blockers[0].id} had not ended")
        reason = f"due together with the fire time {fires.first.isoformat()}, which runs"
        return [self._claimed(fires.first), *self._skipped(fires.all_after([fires.first]), reason)]

    def _in_a_row(self, fires: Sequence[datetime]) -> list[Run]:
        if self.blockers:
            return [self._queued(fire) for fire in fires]
        return [self._claimed(fires[0]), *map(self._queued, fires[1:])]

    def _one_waits(self, fires: _Fires) -> list[Run]:
        places = 2 if not self.blockers else 0 if any(run.owner is None for run in self.blockers) else 1
        placed = fires.oldest(places)
        runs = self._in_a_row(placed) if placed else []
        return [*runs, *self._skipped(fires.all_after(placed), "another run waits already")]

    def _replacing(self, fires: _Fires, after: Request, records: list[Run]) -> Plan:
        reason = f"replaced by the run for {fires.last.isoformat()}"
        records += self._skipped(fires.all_before_newest(), reason)
        records.append(self._queued(fires.last) if self.blockers else self._claimed(fires.last))
        displaced = [run.given_up(self.now, reason) for run in self.blockers if run.owner is None]
        kills = [run.id for run in self.blockers if run.owner is not None]
        return Plan(after, tuple(records), tuple(displaced), tuple(kills))

    def _misfire_record(self, fires: _Fires, instead: _Fires | None) -> Run:
        come = "the fire time" if fires.number == 1 else f"{fires.number} fire times"
        grace = self.policies.misfire_grace
        reason = f"{come} passed the grace of {grace} without a run"
        if instead is not None and self.policies.misfire is Misfire.RUN_ONCE:
            if fires.number > 1:  # those that came last may be within it
                reason = f"{come} passed without a run, the oldest by more than the grace of {grace}"
            reason += f"; the one at {instead.first.isoformat()} stands for all"
        return self.ended(RunStatus.MISFIRED, fires, reason)

    def _skipped(self, fires: _Fires | None, reason: str) -> list[Run]:
        return [] if fires is None else [self.ended(RunStatus.SKIPPED, fires, reason)]

    def ended(self, status: RunStatus, fires: _Fires, reason: str) -> Run:
        """Return the record of fire times that do not run."""
        return self._run(
            fires.first,
            status=status,
            fire_until=fires.last,
            fire_count=fires.number,
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
