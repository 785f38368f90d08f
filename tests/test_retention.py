"""Retention while work goes on: small bites, at the engine's pace, that hold nobody up."""

import math
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from test_query_plans import NOW, fill

from bgsched import EverySeconds, Later, MemoryStore, Retention, Schedule, Scheduler, SQLiteStore, Store
from bgsched._purging import Purging
from bgsched.run import LogLine, RunStatus
from bgsched.stores._sqlite_reader import SQLiteReader
from bgsched.stores.base import Bite, RunFilter
from bgsched.testing import ManualClock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "app.db")
    yield store
    store.close()


def purge_all(store: Store, retention: Retention) -> tuple[int, list[float]]:
    """Purge bite by bite; return how many runs went, and how long each bite held the write lock at most."""
    purged, spent = 0, []
    after: int | None = 0
    while after is not None:
        began = time.perf_counter()
        bite = store.purge(retention, NOW, after=after)
        spent.append(time.perf_counter() - began)
        purged, after = purged + bite.runs, bite.after
    return purged, spent


def test_bites_go_on_until_only_what_is_kept_is_left(store: SQLiteStore) -> None:
    fill(store, 3_000)
    purged, _ = purge_all(store, Retention())
    assert purged == pytest.approx(3_000 * 20 / 35, rel=0.05)
    with store.reading() as connection:
        assert connection.execute("SELECT min(recorded_at) / 86400000000 FROM bgsched_runs").fetchone()[0] > 20_000
        lines = connection.execute("SELECT count(*) FROM bgsched_log").fetchone()[0]
    assert lines == 2 * (3_000 - purged)
    assert store.purge(Retention(), NOW) == Bite()


def test_when_nothing_is_to_be_purged_nothing_is_written(store: SQLiteStore) -> None:
    fill(store, 2_000)
    before = store.changes()
    assert purge_all(store, Retention(success=timedelta(days=99), other=timedelta(days=99)))[0] == 0
    assert store.changes() == before


def test_a_run_with_a_long_log_ends_its_bite(store: SQLiteStore) -> None:
    fill(store, 1_000)
    with store.transaction() as tx:
        tx.append_log([LogLine(run, seq, NOW, "INFO", "x", "y") for run in (2, 4) for seq in range(3, 3_003)])
    bites = [store.purge(Retention(), NOW, after=after) for after in (0, 2, 4)]
    assert [bite.runs for bite in bites] == [2, 2, 200]


def test_by_count_the_newest_are_kept(store: SQLiteStore) -> None:
    fill(store, 3_000)
    purge_all(store, Retention(success=None, other=None, per_process=400))
    for n in range(5):
        assert len(store.reader().runs(RunFilter(process=f"p{n}", limit=9_999))) == 400


def test_a_bite_counts_the_runs_of_one_process_and_a_purge_those_of_each_once(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 3_000)
    counted: list[str] = []
    count = SQLiteReader.nth_newest

    def watched(reader: SQLiteReader, process: str, n: int) -> int | None:
        counted.append(process)
        return count(reader, process, n)

    monkeypatch.setattr(SQLiteReader, "nth_newest", watched)
    kept_from: dict[str, int] = {}
    after: int | None = 0
    while after is not None:
        before = len(counted)
        retention = Retention(success=None, other=None, per_process=400)
        after = store.purge(retention, NOW, after=after, kept_from=kept_from).after
        assert len(counted) <= before + 1
    assert sorted(counted) == [f"p{n}" for n in range(5)]
    for n in range(5):
        assert len(store.reader().runs(RunFilter(process=f"p{n}", limit=9_999))) == 400


def test_a_scheduler_purges_bite_by_bite(store: SQLiteStore) -> None:
    clock = ManualClock(NOW)
    fill(store, 1_000)
    scheduler = Scheduler(store, clock=clock, retention=Retention(success=timedelta(days=7)))
    scheduler.process("beside")(lambda: None)
    scheduler.schedule("beside", Schedule(EverySeconds(60)))
    scheduler.run_pending()
    assert len(store.reader().runs(RunFilter(limit=9_999))) == 1_001
    clock.advance(timedelta(hours=2))
    for _ in range(8):
        scheduler.run_pending()
        clock.advance(1)
    scheduler.shutdown()
    left = [run for run in store.reader().runs(RunFilter(limit=9_999)) if run.status == "success"]
    assert min(run.recorded_at for run in left) >= NOW - timedelta(days=7)


class _Slow(MemoryStore):
    """Always has more to delete, and takes a while for each run."""

    def __init__(self, clock: ManualClock, a_run: float) -> None:
        super().__init__()
        self.bites: list[int] = []
        self._clock = clock
        self._a_run = a_run

    def purge(
        self,
        retention: Retention,
        now: datetime,
        limit: int = 200,
        *,
        after: int = 0,
        kept_from: dict[str, int] | None = None,
    ) -> Bite:
        self.bites.append(limit)
        self._clock.advance(limit * self._a_run)
        return Bite(limit, 0, after + limit)


@pytest.mark.parametrize(("a_run", "size"), [(0.000_001, 200), (0.000_03, 66), (0.000_15, 13), (0.1, 10)])
def test_bites_become_as_small_as_it_takes_to_be_quick(a_run: float, size: int) -> None:
    clock = ManualClock(NOW)
    store = _Slow(clock, a_run)
    purging = Purging(store, Retention(), clock)
    assert purging.left() == 60
    for _ in range(8):
        clock.advance(purging.left() + 0.001)
        purging.go_on(NOW, lambda: math.inf)
    assert store.bites[-1] == size
    assert purging.left() == pytest.approx(10 * size * a_run, abs=1e-6)


def test_a_bite_goes_where_nothing_is_due_as_long_as_there_is_such_a_place() -> None:
    clock = ManualClock(NOW)
    store = _Slow(clock, 0.000_1)
    purging = Purging(store, Retention(), clock)
    clock.advance(60)
    purging.go_on(NOW, lambda: math.inf)  # 50 runs: 5 ms; the next one has 25
    assert len(store.bites) == 1
    clock.advance(0.051)
    purging.go_on(NOW, lambda: 0.0037)
    assert len(store.bites) == 1
    assert purging.left() == pytest.approx(0.099)  # it waits for no place longer than that
    purging.go_on(NOW, lambda: 0.0038)
    assert len(store.bites) == 2
    purging.go_on(NOW, lambda: math.inf)
    assert len(store.bites) == 2
    clock.advance(0.076)  # thirty times 2.5 ms: 25 runs
    purging.go_on(NOW, lambda: 0.0)
    assert len(store.bites) == 3


def test_a_scheduler_takes_a_bite_after_what_is_due_soon() -> None:
    clock = ManualClock(NOW)
    store = _Slow(clock, 0.000_1)
    scheduler = Scheduler(store, clock=clock)
    scheduler.process("soon")(lambda: None)
    scheduler.run_pending()
    clock.advance(60)
    scheduler.run_pending()  # 50 runs: 5 ms
    scheduler.schedule("soon", Later(clock.now() + timedelta(milliseconds=55)))
    clock.advance(0.050)
    scheduler.run_pending()
    assert len(store.bites) == 1
    clock.advance(0.005)
    scheduler.run_pending()
    (run,) = scheduler.monitor.runs("soon")
    assert run.lateness == timedelta(0)
    assert len(store.bites) == 1
    scheduler.run_pending()
    assert len(store.bites) == 2
    scheduler.shutdown()


def test_a_scheduler_with_nothing_else_to_do_goes_on_purging_at_once() -> None:
    clock = ManualClock(NOW)
    store = _Slow(clock, 0.000_1)
    scheduler = Scheduler(store, clock=clock)
    scheduler.run_pending()
    clock.advance(timedelta(minutes=1))
    scheduler.run_pending()
    assert store.bites == [50]
    assert scheduler._life.engine is not None
    assert scheduler._life.engine.longest_wait() == pytest.approx(0.05)
    scheduler.shutdown()


@pytest.mark.parametrize(
    "retention", [Retention(success=timedelta.max, other=timedelta.max), Retention(complete=timedelta.max)]
)
def test_an_age_beyond_all_records_keeps_them(store: SQLiteStore, retention: Retention) -> None:
    clock = ManualClock()
    scheduler = Scheduler(store, clock=clock, retention=retention)
    scheduler.process("work")(lambda: None)
    scheduler.run_now("work")
    scheduler.run_pending()
    clock.advance(timedelta(days=20))
    scheduler.run_pending()
    assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.SUCCESS]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"success": timedelta(days=-1)}, "success must not be negative"),
        ({"complete": 3}, "complete must be a timedelta, got 3"),
        ({"per_process": 0}, "per_process must be a whole number from 1 to 2147483647, got 0"),
        ({"by_status": {"killed": timedelta(days=-1)}}, r"by_status\['killed'\] must not be negative"),
        ({"by_status": timedelta(1)}, "by_status must be a mapping, got"),
        ({"by_status": {"kiled": None}}, "a key of by_status must be one of .*did you mean"),
        ({"by_status": {RunStatus.RUNNING: None}}, "none ends as 'running'"),
    ],
)
def test_a_retention_makes_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retention(**values)  # type: ignore[arg-type]


def test_a_retention_can_be_shown(store: SQLiteStore) -> None:
    assert Scheduler(store).retention == Retention()
    assert Retention(by_status={RunStatus.SKIPPED: timedelta(days=1), RunStatus.KILLED: None}).to_dict() == {
        "success": 15 * 86400.0,
        "other": 30 * 86400.0,
        "complete": None,
        "per_process": None,
        "by_status": {"skipped": 86400.0, "killed": None},
    }
