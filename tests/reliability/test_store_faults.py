"""Each call of a store, failing before and after its commit; and the two stores side by side."""

from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from _two_stores import SECOND, TwoStores, everything, sign_on
from hypothesis import HealthCheck, settings

from bgsched import MemoryStore, RunStatus, Schedule, SQLiteStore, Store, StoreUnavailableError
from bgsched.request import Retention
from bgsched.run import LogLine, Run
from bgsched.stores.base import Report, SchedulerRecord
from bgsched.testing.contract import T0, FixedPlanner, make_request
from bgsched.testing.simulation.faults import Faults, beset
from bgsched.timing import EverySeconds, Later


def ended(run: Run) -> Run:
    return run.started(T0).move(RunStatus.SUCCESS, finished_at=T0 + SECOND, duration=SECOND)


CALLS: dict[str, Callable[[Store, Run], object]] = {
    "file": lambda store, _: store.file([make_request("new")]),
    "change": lambda store, _: store.change(
        "waits", lambda found: found and found.unscheduled(T0), T0, end_waiting="x"
    ),
    "delete": lambda store, _: store.delete("s"),
    "enqueue": lambda store, _: store.enqueue(Run(request_id="s", process="p", fire_time=T0, recorded_at=T0)),
    "claim": lambda store, _: store.claim(FixedPlanner(), "a", T0 + 60 * SECOND, 10),
    "record": lambda store, run: store.record(
        "a", T0, Report([ended(run)], [LogLine(run.id, 9, T0, "INFO", "x", "t")])
    ),
    "kill": lambda store, run: store.kill(run.id, T0),
    "sign_on": lambda store, _: sign_on(store, "b"),
    "heartbeat": lambda store, _: store.heartbeat(
        SchedulerRecord(owner="a", host="h", pid=2, started_at=T0, heartbeat_at=T0 + SECOND, lease_until=T0)
    ),
    "sign_off": lambda store, _: store.sign_off("a", T0),
    "purge": lambda store, _: store.purge(Retention(success=timedelta(0)), T0 + timedelta(days=1)),
}


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Store]:
    if request.param == "memory":
        return lambda _: MemoryStore()
    return lambda name: SQLiteStore(tmp_path / name)


def prepared(store: Store) -> Run:
    """Fill a store: a request with ended runs and one held, one that waits, one that is due."""
    sign_on(store, "a")
    store.file([make_request("s", Schedule(EverySeconds(1)))])
    for n in range(3):
        (run,) = store.claim(FixedPlanner(), "a", T0 + n * SECOND, 10)
        store.record("a", T0, Report([ended(run)], [LogLine(run.id, 1, T0, "INFO", "x", "line")]))
    store.file([make_request("waits", Later(T0 + timedelta(days=9)))])
    (held,) = store.claim(FixedPlanner(), "a", T0 + 3 * SECOND, 10)
    store.file([make_request("due")])
    return held


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_fails_before_its_commit_changed_nothing(name: str, make_store: Callable[[str], Store]) -> None:
    with closing(make_store("a.db")) as store:
        held = prepared(store)
        before = everything(store)
        faults = Faults(lambda _: None)
        faults.arm("fail before")
        with pytest.raises(StoreUnavailableError):
            CALLS[name](beset(store, faults), held)
        assert everything(store) == before
        CALLS[name](store, held)
        assert everything(store) != before


@pytest.mark.parametrize("name", CALLS)
def test_a_call_whose_answer_is_lost_has_happened_as_a_whole(name: str, make_store: Callable[[str], Store]) -> None:
    with closing(make_store("a.db")) as store, closing(make_store("b.db")) as other:
        held = prepared(store)
        faults = Faults(lambda _: None)
        faults.arm("fail after")
        with suppress(StoreUnavailableError):
            CALLS[name](beset(store, faults), held)
        if name == "purge":  # it goes in bites, each of them whole: what one leaves, the next call takes
            CALLS[name](store, held)
        CALLS[name](other, prepared(other))
        assert everything(store) == everything(other)


# -- two stores, one history ---------------------------------------------------------------------------------------


class SQLiteBesideMemory(TwoStores):
    def open_other(self) -> Store:
        self.folder = TemporaryDirectory()
        store = SQLiteStore(Path(self.folder.name) / "app.db")
        store._write_connection().execute("PRAGMA synchronous = OFF")
        return store

    def teardown(self) -> None:
        self.other.close()
        self.folder.cleanup()


SQLiteBesideMemory.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSQLiteBesideMemory = SQLiteBesideMemory.TestCase
