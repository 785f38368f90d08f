"""Two stores that live through the same history, drawn by Hypothesis: what they answer and hold must be equal."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bgsched import MemoryStore, RunStatus, Schedule, Store
from bgsched.errors import BgschedError
from bgsched.request import OnAbandon, Overlap, Policies, Retention
from bgsched.run import LogLine, Run
from bgsched.stores.base import Report, RequestFilter, RunFilter, SchedulerRecord
from bgsched.testing.contract import T0, FixedPlanner, make_request
from bgsched.timing import EverySeconds, Immediate, Later

SECOND = timedelta(seconds=1)


def sign_on(store: Store, owner: str) -> None:
    lease = T0 + timedelta(days=1)
    store.sign_on(SchedulerRecord(owner=owner, host="h", pid=1, started_at=T0, heartbeat_at=T0, lease_until=lease))


def everything(store: Store) -> tuple[Any, ...]:
    reader = store.reader()
    runs = reader.runs(RunFilter(limit=1000))
    return (
        reader.requests(RequestFilter(limit=1000)),
        runs,
        [reader.log(run.id, 0, 1000) for run in runs],
        [
            replace(record, clock_skew=None, alive=None) for record in reader.schedulers()
        ],  # by a lock, or a server's clock
        reader.next_due(["p"]),
        reader.first_waiting(),
        reader.active_processes(),
        reader.summary(None, None),
        reader.upcoming(1000) and sorted(reader.upcoming(1000), key=lambda r: r.id),
    )


IDS = st.sampled_from("abc")
OWNERS = st.sampled_from(["x", "y"])
TIMINGS = st.sampled_from(
    [
        Immediate(),
        Later(T0),
        Later(T0 + 5 * SECOND),
        Schedule(EverySeconds(2)),
        Schedule(EverySeconds(3), repetitions=4),
    ]
)
POLICIES = st.sampled_from(
    [
        Policies(),
        Policies(overlap=Overlap.ALLOW),
        Policies(overlap=Overlap.QUEUE, overlap_scope="process"),
        Policies(overlap=Overlap.REPLACE),
        Policies(on_abandon=OnAbandon.RERUN, max_reruns=1),
    ]
)


class TwoStores(RuleBasedStateMachine):
    """Does the same to a MemoryStore and to another store."""

    def __init__(self) -> None:
        super().__init__()
        self.other = self.open_other()
        self.memory = MemoryStore()
        self.now = T0

    def open_other(self) -> Store:
        """Return the other store, empty."""
        raise NotImplementedError

    def both(self, call: Callable[[Store], Any]) -> Any:
        answers = []
        for store in (self.memory, self.other):
            try:
                answers.append(call(store))
            except BgschedError as error:
                answers.append(repr(error))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(span=st.integers(0, 200))
    def advance(self, span: int) -> None:
        self.now += span * SECOND / 10

    @rule(id=IDS, timing=TIMINGS, priority=st.integers(0, 1))
    def file(self, id: str, timing: Any, priority: int) -> None:
        self.both(lambda store: store.file([make_request(id, timing, self.now, priority=priority)]))

    @rule(id=IDS)
    def unschedule(self, id: str) -> None:
        self.both(
            lambda s: s.change(id, lambda found: found and found.unscheduled(self.now), self.now, end_waiting="x")
        )

    @rule(id=IDS, timing=TIMINGS)
    def reschedule(self, id: str, timing: Any) -> None:
        pinned = timing.pinned(self.now)
        self.both(lambda s: s.change(id, lambda found: found and found.rescheduled(pinned, self.now), self.now))

    @rule(id=IDS)
    def delete(self, id: str) -> None:
        self.both(lambda store: store.delete(id))

    @rule(id=IDS)
    def enqueue(self, id: str) -> None:
        self.now += timedelta(microseconds=1)  # a refused row costs a database an id, and ids need not be without gaps
        run = Run(request_id=id, process="p", fire_time=self.now, recorded_at=self.now, overlap_key=f"request:{id}")
        self.both(lambda store: store.enqueue(run))

    @rule(owner=OWNERS)
    def come(self, owner: str) -> None:
        self.both(lambda store: sign_on(store, owner))

    @rule(owner=OWNERS)
    def leave(self, owner: str) -> None:
        self.both(lambda store: store.sign_off(owner, self.now))

    @rule(owner=OWNERS, policies=POLICIES)
    def claim(self, owner: str, policies: Policies) -> None:
        claimed = self.both(lambda s: s.claim(FixedPlanner(policies, owner=owner), owner, self.now, 50))
        assert isinstance(claimed, list | str)

    @rule(owner=OWNERS, again=st.booleans(), pick=st.integers(0, 20))
    def report(self, owner: str, again: bool, pick: int) -> None:  # noqa: FBT001  drawn by Hypothesis
        held = self.memory.held(owner)
        if not held:
            return
        run = held[pick % len(held)]
        run = run if run.status is RunStatus.RUNNING else run.started(self.now)
        said = (
            run.again(RunStatus.ERROR, self.now, self.now + SECOND, reason="again")
            if again
            else (run.move(RunStatus.SUCCESS, finished_at=self.now, duration=SECOND, result={"n": [pick]}))
        )
        lines = [LogLine(run.id, self.memory.last_seq(run.id) + 1, self.now, "INFO", "x", "ü", run.attempt)]
        self.both(lambda store: store.record(owner, self.now, Report([said], lines)))

    @rule(pick=st.integers(1, 30))
    def kill(self, pick: int) -> None:
        self.both(lambda store: store.kill(pick, self.now))

    @rule()
    def purge(self) -> None:
        retention = Retention(success=5 * SECOND, other=3 * SECOND)
        self.both(lambda store: store.purge(retention, self.now, 5))

    @invariant()
    def they_hold_the_same(self) -> None:
        self.both(everything)
        self.both(lambda store: store.reader().kills_asked("x"))
