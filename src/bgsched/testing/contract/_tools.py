"""What the chapters of the contract are written with: a planner, a request, and the steps of a scheduler's life."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bgsched.request import (
    Plan,
    Policies,
    Request,
    RequestStatus,
    overlap_key,
    plan,
)
from bgsched.run import Run, RunStatus
from bgsched.stores.base import RunFilter, SchedulerRecord, Store
from bgsched.timing import Immediate, Timing

__all__ = [
    "SECOND",
    "T0",
    "Chapter",
    "FixedPlanner",
    "claim",
    "make_request",
    "raises",
    "sign_on",
    "status_of",
    "statuses",
    "succeeded",
]

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class FixedPlanner:
    """Plans every request with the same policies."""

    def __init__(
        self,
        policies: Policies | None = None,
        processes: Collection[str] = ("p",),
        owner: str = "a",
        bounds: Mapping[str, int] | None = None,
    ) -> None:
        self.policies = policies or Policies()
        self.bounds = bounds or {}
        self.processes = frozenset(processes)
        self.owner = owner

    def overlap_key(self, request: Request) -> str | None:
        """Return the key of the policies."""
        return overlap_key(request, self.policies)

    def plan(self, request: Request, now: datetime, blockers: Sequence[Run]) -> Plan:
        """Return the plan of the policies."""
        return plan(request, self.policies, self.owner, now, blockers)


def make_request(id: str = "r", timing: Timing | None = None, now: datetime = T0, **values: Any) -> Request:
    """Return a request of process ``p`` as a scheduler would file it at *now*; by default an immediate one."""
    wanted = (timing or Immediate()).pinned(now)
    return Request(**{"id": id, "process": "p", "timing": wanted, "created_at": now, **values}).timed(wanted, now)


def sign_on(store: Store, owner: str, now: datetime = T0) -> SchedulerRecord:
    """Announce a scheduler, and return what it said of itself."""
    record = SchedulerRecord(
        owner=owner, host="here", pid=1, started_at=now, heartbeat_at=now, lease_until=now + 15 * SECOND
    )
    store.sign_on(record)
    return record


def claim(store: Store, now: datetime = T0, owner: str = "a", limit: int = 100, **policies: Any) -> list[Run]:
    """Let a scheduler, which signs on where it must, claim what is due; *policies* are those of every process."""
    if all(record.owner != owner for record in store.reader().schedulers()):
        sign_on(store, owner)
    return store.claim(FixedPlanner(Policies(**policies), owner=owner), owner, now, limit)


def statuses(store: Store, request: str = "r") -> list[RunStatus]:
    """Return how the runs of a request stand, oldest first."""
    return [run.status for run in reversed(store.reader().runs(RunFilter(request=request)))]


def raises(error: type[Exception], call: Callable[[], object]) -> None:
    """Check that *call* raises *error*."""
    try:
        call()
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


def succeeded(run: Run, now: datetime = T0) -> Run:
    """Return a claimed run as one that took a second, and succeeded."""
    return run.started(now).move(RunStatus.SUCCESS, finished_at=now + SECOND, duration=SECOND)


def status_of(store: Store, id: str = "r") -> RequestStatus:
    """Return how a request stands."""
    found = store.reader().find_request(id)
    assert found is not None
    return found.status


class Chapter:
    """A part of the contract."""

    def die(self, store: Store, owner: str, now: datetime) -> datetime:
        """Let a scheduler die without a word; return when others have noticed.

        Override it for a store that does not go by the instants it is given.
        """
        store.let_go(owner)
        noticed_at = now + timedelta(minutes=1)
        store.reap(noticed_at)
        return noticed_at
