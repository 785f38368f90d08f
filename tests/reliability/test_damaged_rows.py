"""Every column of every table, with what nobody of ours wrote: whatever a row holds, it stops nobody else."""

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from bgsched import Immediate, Later, OnAbandon, Overlap, Retention, RunStatus, Scheduler, SQLiteStore
from bgsched.request import Policies
from bgsched.stores import _columns
from bgsched.testing import ManualClock
from bgsched.testing.contract import T0, FixedPlanner, sign_on

SECOND = timedelta(seconds=1)
PATIENCE = 30.0
GARBAGE = ["'x'", "x'00ff'", "9e18", "-5", "NULL", "''", "'[1'", "'{}'", "0", "1.5", "9223372036854775807"]
RERUN = Policies(on_abandon=OnAbandon.RERUN)


def file_one(scheduler: Scheduler) -> None:
    scheduler.schedule("p", Later(T0 + 3 * SECOND), id="bad")


def let_one_wait(scheduler: Scheduler) -> None:
    scheduler.schedule("p", Later(T0 + timedelta(days=3)), id="bad")
    scheduler.run_now("bad")


def let_one_be_held_by_a_dead_owner(scheduler: Scheduler) -> None:
    scheduler.schedule("p", Later(T0 - timedelta(days=3)), id="bad")
    sign_on(scheduler.store, "gone")
    scheduler.store.claim(FixedPlanner(RERUN, owner="gone"), "gone", T0, 1)
    scheduler.store.let_go("gone")


ROWS: dict[str, tuple[str, Callable[[Scheduler], None], tuple[str, ...]]] = {
    "a due request": ("bgsched_requests", file_one, _columns.REQUEST_COLUMNS[1:]),
    "a waiting run": ("bgsched_runs", let_one_wait, _columns.RUN_COLUMNS[1:]),
    "a run of a dead owner": ("bgsched_runs", let_one_be_held_by_a_dead_owner, _columns.RUN_COLUMNS[1:]),
    "a dead scheduler": ("bgsched_schedulers", let_one_be_held_by_a_dead_owner, _columns.SCHEDULER_COLUMNS[1:]),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("garbage", ["'x'", *(pytest.param(value, marks=pytest.mark.slow) for value in GARBAGE[1:])])
def test_a_damaged_column_stops_nobody(row: str, garbage: str, tmp_path: Path) -> None:
    table, prepare, columns = ROWS[row]
    stopped = [
        column
        for column in columns
        if not goes_on(tmp_path / f"{column}.db", prepare, f"UPDATE {table} SET {column} = {garbage}")
    ]
    assert stopped == []


def goes_on(path: Path, prepare: Callable[[Scheduler], None], damage: str) -> bool:
    """Damage a row; return whether another request still runs, all can be listed, and the scheduler can rest."""
    with closing(SQLiteStore(path)) as store:
        store._write_connection().execute("PRAGMA synchronous = OFF")  # no power is cut here
        scheduler = Scheduler(store, clock=(clock := ManualClock(T0)), workers=1)
        scheduler.process("p", overlap=Overlap.QUEUE)(lambda: None)
        prepare(scheduler)
        with store.transaction() as tx:
            tx._connection.execute(damage.replace("UPDATE", "UPDATE OR IGNORE"))
        good = scheduler.schedule("p", Immediate(), id="good")
        for _ in range(4):
            scheduler.run_pending()
            clock.advance(5)
        scheduler.monitor.requests()
        scheduler.monitor.upcoming()
        scheduler.monitor.schedulers()
        assert scheduler._life.engine is not None
        rests = scheduler._life.engine.longest_wait() > 0
        scheduler.shutdown()
        return rests and [run.status for run in scheduler.monitor.runs(request=good.id)] == [RunStatus.SUCCESS]


def test_runs_that_belong_to_each_other_hold_up_no_purge(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "circle.db")) as store:
        scheduler = Scheduler(store, clock=(clock := ManualClock(T0)))
        scheduler.process("p")(lambda: None)
        for _ in range(3):
            scheduler.run_now("p")
            scheduler.run_until_idle()
            clock.advance(1)
        scheduler.shutdown()
        with store.transaction() as tx:
            tx._connection.execute("UPDATE bgsched_runs SET parent_id = 3 - id WHERE id < 3")
        purging = threading.Thread(target=store.purge, args=(Retention(), T0 + timedelta(days=99)), daemon=True)
        purging.start()
        purging.join(PATIENCE)
        assert not purging.is_alive()
