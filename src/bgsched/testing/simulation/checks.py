"""The promises, checked after every step of a simulation against what the store holds.

What a run may become is judged from one step to the next, so a check costs as much as has changed. Which fire times
there must be is computed from the timings: each has one record, alone or in a range, in order, without a hole.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NoReturn

from bgsched._evolve import evolve
from bgsched._lease import HEARTBEAT
from bgsched.process import ProcessRegistry
from bgsched.request import OnAbandon, Request, RequestStatus, UnreadableTiming
from bgsched.run import ACTIVE, RUN_TRANSITIONS, Run, RunStatus
from bgsched.stores.base import RequestFilter, RunFilter, Store
from bgsched.testing.simulation.groups import GROUPS, broken_by_groups
from bgsched.testing.simulation.overlaps import broken_by_overlaps
from bgsched.timing import Timing

__all__ = ["BrokenPromiseError", "Promises"]

_ALL = 1_000_000
_SURELY_ALIVE = 3.0  # a lease of 15 s, less the longest delay of a call and the skew of two clocks
_OWN_ENDS = frozenset({RunStatus.SUCCESS, RunStatus.ERROR, RunStatus.KILLED})


class BrokenPromiseError(AssertionError):
    """The store or the scheduler did what it promises never to do.

    Attributes:
        seed: what to simulate to see it again.
        steps: what happened, the last one being the one that broke it.
        problem: what is wrong.
        groups: whether the host had groups.
    """

    def __init__(self, seed: int, steps: Sequence[str], problem: str, *, groups: bool = False) -> None:
        super().__init__(seed, steps, problem)
        self.groups = groups
        self.seed = seed
        self.steps = tuple(steps)
        self.problem = problem

    def __str__(self) -> str:
        told = "\n".join(f"  {number:3} {step}" for number, step in enumerate(self.steps, start=1))
        groups = ", groups=True" if self.groups else ""
        return f"{self.problem}\nreplay: simulate({self.seed}, steps={len(self.steps)}{groups})\n{told}"


class Promises:
    """What is known of the store, and what must be true of what it holds next."""

    def __init__(self, store: Store, registry: ProcessRegistry) -> None:
        self._store = store
        self._reader = store.reader()
        self._seen: object = None
        self._registry = registry
        self._requests: dict[str, Request] = {}
        self._runs: dict[int, Run] = {}
        self._expected: dict[tuple[str, int], datetime | None] = {}
        self._timings: dict[tuple[str, int], Timing | UnreadableTiming] = {}
        self._keys: set[tuple[str, int, datetime]] = set()
        self._begun: set[tuple[int, int]] = set()
        self._finished: dict[str, list[tuple[int, int]]] = {}
        self._written: dict[tuple[int, int], list[str]] = {}
        self._owners: dict[str, tuple[datetime, float]] = {}
        self._gone: set[str] = set()

    # -- what the world tells ------------------------------------------------------------------------------------

    def began(self, run: Run, under_way: Iterable[Run]) -> None:
        """Hear that a run starts, on its claimed attempt, beside those *under_way* whose owners still hold them."""
        key = run.id, run.attempt
        if key in self._begun:
            self._broken(f"run {run.id} started twice on attempt {run.attempt}")
        self._begun.add(key)
        policies = self._registry.get(run.process).policies
        starts = sum(run_id == run.id for run_id, _ in self._begun)
        if policies.on_abandon is OnAbandon.RECORD:
            if any(attempt.status is RunStatus.ABANDONED for attempt in run.attempts):
                self._broken(f"run {run.id} started again after its owner died, under RECORD")
            if starts > policies.retry.attempts:
                self._broken(f"run {run.id} started {starts} times; {policies.retry.attempts} attempts are allowed")
        if run.id not in self._runs:  # deleted after it was claimed: it holds its overlap key no more, and is not seen
            return
        for other in under_way:
            if run.overlap_key is not None and other.overlap_key == run.overlap_key and other.id != run.id:
                stored = self._runs.get(other.id)
                if stored is not None and stored.is_active and stored.owner == other.owner:
                    self._broken(f"run {run.id} started while run {other.id} of {run.overlap_key} went on")

    def wrote(self, run: Run, text: str) -> None:
        """Hear of a line that a run wrote."""
        self._written.setdefault((run.id, run.attempt), []).append(text)

    def died(self, owner: str) -> None:
        """Hear that an owner is gone, or seems so: from now on it may be reaped."""
        self._gone.add(owner)

    def finished(self, run_id: int, attempt: int, owner: str) -> None:
        """Hear that an attempt came to its end, where *owner* executed it."""
        self._finished.setdefault(owner, []).append((run_id, attempt))

    def passed(self, owner: str, elapsed: float, under_way: Collection[int]) -> None:
        """Hear that a scheduler made a whole pass, in which nothing went wrong; *under_way* are its runs by now.

        So it has shown that it lives, of late; it has reported what ended there; and it knows all that it holds.
        """
        beat, heard_at = self._owners.get(owner, (None, elapsed))
        for record in self._reader.schedulers():
            if record.owner == owner and record.heartbeat_at == beat and elapsed - heard_at > HEARTBEAT.total_seconds():
                self._broken(f"scheduler {owner} passes, and showed that it lives {elapsed - heard_at:.1f} s ago")
        finished = dict(self._finished.pop(owner, ()))
        for run in self._reader.runs(RunFilter(status=ACTIVE, limit=_ALL)):
            if run.owner == owner and finished.get(run.id) == run.attempt:
                self._broken(f"run {run.id} has ended, and {owner} passed without reporting it")
            if run.owner == owner and run.id not in under_way:
                self._broken(f"run {run.id} is held by {owner}, who does not know of it: nobody will ever end it")

    # -- what is looked at ---------------------------------------------------------------------------------------

    def check(self, elapsed: float, *, deleted: str | None = None, purged: bool = False) -> None:
        """Look at who lives, and at everything else if anything has changed; a heartbeat may count as no change.

        *deleted*: the id of the request that was; *purged*: whether old runs may be gone.
        """
        self._check_alive(elapsed)
        seen = self._store.changes()
        if seen == self._seen:
            return
        self._seen = seen
        requests = {request.id: request for request in self._reader.requests(RequestFilter(limit=_ALL))}
        runs = {run.id: run for run in self._reader.runs(RunFilter(limit=_ALL))}
        for id in requests.keys() - self._requests.keys():
            self._learn(requests[id])
        for id, request in requests.items():
            if id in self._requests and request.revision != self._requests[id].revision:
                self._learn(request)
        self._check_gone(runs, deleted, purged=purged)
        fresh = [runs[id] for id in sorted(runs.keys() - self._runs.keys())]
        for run in sorted(fresh, key=lambda run: run.fire_time):
            self._check_new(run, requests.get(run.request_id))
        changed = [run for id, run in runs.items() if (old := self._runs.get(id)) is not run and old != run]
        for run in changed:
            if run.id in self._runs:
                self._check_move(self._runs[run.id], run)
        self._check_requests(requests, runs)
        for broken_by in (broken_by_groups, broken_by_overlaps):
            for problem in broken_by(changed, self._runs, runs, self._registry):
                self._broken(problem)
        self._check_owners([run for run in runs.values() if run.is_active and run.owner is not None])
        self._requests, self._runs = requests, runs

    @property
    def ended(self) -> int:
        """How many runs have ended."""
        return sum(not run.is_active for run in self._runs.values())

    def all_ended(self) -> bool:
        """Return whether no run is left that has not ended."""
        return self.ended == len(self._runs)

    def check_rest(self, now: datetime) -> None:
        """Look whether anything is left undone that somebody alive could have done."""
        for run in self._runs.values():
            if run.is_active:
                self._broken(f"run {run.id} is still {run.status.value}, owner {run.owner}, due {run.due_at}")
        for request in self._requests.values():
            if request.due_at is not None and request.due_at <= now:
                self._broken(f"request {request.id} was due at {request.due_at} and nobody claimed it")

    def _learn(self, request: Request) -> None:
        key = request.id, request.revision
        if key in self._expected:
            self._broken(f"request {request.id} has revision {request.revision} a second time")
        self._expected[key] = request.next_fire_time
        self._timings[key] = request.timing

    def _check_gone(self, runs: Collection[int], deleted: str | None, *, purged: bool) -> None:
        for id, run in self._runs.items():
            if id not in runs and run.request_id != deleted and (run.is_active or not purged):
                self._broken(f"run {id} is gone")

    def _check_new(self, run: Run, request: Request | None) -> None:
        key = run.request_id, run.revision, run.fire_time
        if key in self._keys:
            self._broken(f"{run.fire_time} of request {run.request_id}, revision {run.revision}, has a second record")
        self._keys.add(key)
        if request is None:
            self._broken(f"run {run.id} is of a request that is not there")
        if run.revision == 0 or run.parent_id is not None:
            return
        before = self._requests.get(request.id, request).revision  # it may have been parked since, in the same step
        if run.revision not in (request.revision, before):
            self._broken(f"run {run.id} fired revision {run.revision} of request {request.id}, at {request.revision}")
        expected = self._expected[request.id, run.revision]
        if run.fire_time != expected:
            self._broken(f"request {request.id} must fire at {expected} next, run {run.id} is for {run.fire_time}")
        self._expected[request.id, run.revision] = self._after(run, self._timings[request.id, run.revision])

    def _after(self, run: Run, timing: Timing | UnreadableTiming) -> datetime | None:
        """Return the fire time that follows those of the record, which must be as many as it says."""
        assert not isinstance(timing, UnreadableTiming)  # noqa: S101  none is filed here
        last = run.fire_until or run.fire_time
        count = 1 + timing.count_fire_times(run.fire_time, last) if last > run.fire_time else 1
        if run.fire_count != count:
            self._broken(f"run {run.id} says {run.fire_count} fire times from {run.fire_time} to {last}, not {count}")
        return timing.next_fire_time(last)

    def _check_move(self, old: Run, run: Run) -> None:
        if evolve(run, recorded_at=old.recorded_at) == old and run.recorded_at < old.recorded_at:
            return  # a clock that was ahead had recorded it
        if not old.is_active:
            self._broken(f"run {old.id} had ended as {old.status.value} and was changed to {run.status.value}")
        if run.status not in _reachable(old.status):
            self._broken(f"run {old.id} went from {old.status.value} to {run.status.value}")
        if run.attempt < old.attempt or run.attempts[: len(old.attempts)] != old.attempts:
            self._broken(f"run {old.id} forgot an attempt")
        if run.kill_asked_at is None and (old.kill_asked_at is not None or run.status is RunStatus.KILLED):
            self._broken(f"run {old.id} forgot that it was to be killed, or was killed and nobody had asked for it")
        limit = self._registry.get(run.process).policies
        crashed = limit.max_reruns - run.reruns_left if limit.on_abandon is OnAbandon.RERUN else 0
        if not 0 <= crashed <= limit.max_reruns:
            self._broken(f"run {run.id} has {run.reruns_left} reruns left of {limit.max_reruns}")
        for attempt in run.attempts[len(old.attempts) :]:
            if attempt.status is RunStatus.ERROR:
                self._check_log(run.id, attempt.number)
        if run.status in _OWN_ENDS and run.started_at is not None and run.duration is not None:
            self._check_log(run.id, run.attempt)

    def _check_log(self, run_id: int, attempt: int) -> None:
        """Check that an attempt that ended of its own accord has all its lines, in order."""
        lines = self._reader.log(run_id, 0, _ALL)
        if [line.seq for line in lines] != sorted({line.seq for line in lines}):
            self._broken(f"the lines of run {run_id} are out of order")
        if self._runs[run_id].process in GROUPS:  # it writes by itself
            return
        kept = [line.text for line in lines if line.attempt == attempt]
        if kept != self._written.get((run_id, attempt), []):
            wrote = self._written.get((run_id, attempt))
            self._broken(f"run {run_id}, attempt {attempt}, wrote {wrote}, and the store has {kept}")

    def _check_requests(self, requests: dict[str, Request], runs: dict[int, Run]) -> None:
        active = {run.request_id for run in runs.values() if run.is_active}
        for id, request in requests.items():
            status, upcoming = request.status, request.next_fire_time
            if upcoming != self._expected[id, request.revision]:
                self._broken(
                    f"request {id} says it fires at {upcoming} next, not at {self._expected[id, request.revision]}"
                )
            if (upcoming is None) != (request.due_at is None):
                self._broken(f"request {id} fires at {upcoming} and is due at {request.due_at}")
            if status is RequestStatus.SCHEDULED and upcoming is None and id not in active:
                self._broken(f"request {id} is scheduled, and nothing of it is to come")
            if status is not RequestStatus.SCHEDULED and upcoming is not None:
                self._broken(f"request {id} is {status.value} and would fire at {upcoming}")
            if status is RequestStatus.COMPLETE and id in active:
                self._broken(f"request {id} is complete while a run of it goes on")

    def _check_alive(self, elapsed: float) -> None:
        """Check that who lives and says so is not taken for dead."""
        records = {record.owner: record.heartbeat_at for record in self._reader.schedulers()}
        for owner, (_, heard_at) in self._owners.items():
            if owner not in records and owner not in self._gone and elapsed - heard_at < _SURELY_ALIVE:
                self._broken(f"scheduler {owner} lives, showed it {elapsed - heard_at:.1f} s ago, and was reaped")
        self._owners = {
            owner: self._owners[owner] if self._owners.get(owner, (None,))[0] == beat else (beat, elapsed)
            for owner, beat in records.items()
        }

    def _check_owners(self, held: Sequence[Run]) -> None:
        owners = {record.owner for record in self._reader.schedulers()}
        keys: dict[str, int] = {}
        for run in held:
            if run.owner not in owners:
                self._broken(f"run {run.id} is held by {run.owner}, who is not signed on: nobody will ever end it")
            if run.overlap_key is not None and keys.setdefault(run.overlap_key, run.id) != run.id:
                self._broken(f"runs {keys[run.overlap_key]} and {run.id} of {run.overlap_key} are both claimed")

    def _broken(self, problem: str) -> NoReturn:
        raise AssertionError(problem)


def _closure() -> dict[RunStatus, frozenset[RunStatus]]:
    """Return what each status may become in any number of moves."""
    reach = {status: {status, *RUN_TRANSITIONS[status]} for status in RunStatus}
    for _ in RunStatus:
        reach = {status: found.union(*(reach[other] for other in found)) for status, found in reach.items()}
    return {status: frozenset(found) for status, found in reach.items()}


_REACHABLE = _closure()


def _reachable(status: RunStatus) -> frozenset[RunStatus]:
    return _REACHABLE[status]
