"""Starting, stopping and running leave nothing behind: no thread, no open file, no memory."""

import gc
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from bgsched import Immediate, RunStatus, Scheduler, SQLiteStore, current_run
from bgsched.testing import ManualClock
from bgsched.testing.contract import T0


class Held(NamedTuple):
    """What an OS process holds: its threads, open files where the system says it, and blocks of memory."""

    threads: int
    files: int
    blocks: int


def what_is_held() -> Held:
    descriptors = Path("/proc/self/fd")
    gc.collect()
    files = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    return Held(threading.active_count(), files, sys.getallocatedblocks())


def quick(path: Path) -> SQLiteStore:
    store = SQLiteStore(path)
    store._write_connection().execute("PRAGMA synchronous = OFF")  # no power is cut here
    return store


def work() -> dict[str, list[int]]:
    current_run().log.info("done")
    return {"n": [1]}


def hundreds(scheduler: Scheduler, count: int) -> None:
    """Run so many hundreds of requests, of which every other logs and the rest fail."""
    for _ in range(count):
        scheduler.schedule_many([(name, Immediate(), None) for name in ("works", "fails") for _ in range(50)])
        scheduler.run_until_idle()


@pytest.mark.parametrize("cycles", [20, pytest.param(10_000, marks=pytest.mark.slow)])
def test_starting_and_stopping_leaves_nothing_behind(cycles: int, tmp_path: Path) -> None:
    with closing(quick(tmp_path / "app.db")) as store:
        scheduler = Scheduler(store)
        scheduler.process("p")(lambda: None)
        for _ in range(5):
            scheduler.start().shutdown()
        before = what_is_held()
        for _ in range(cycles):
            scheduler.start().shutdown()
        after = what_is_held()
        print(f"\n{cycles} starts and stops: {before} -> {after}")  # noqa: T201  figures, with -s
        assert after.threads <= before.threads
        assert after.files <= before.files
        assert after.blocks < before.blocks + 500 + cycles // 4
        assert list((tmp_path / "app.db.owners").iterdir()) == []


@pytest.mark.parametrize("runs", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_runs_leave_nothing_behind(runs: int, tmp_path: Path) -> None:
    with closing(quick(tmp_path / "app.db")) as store:
        scheduler = Scheduler(store, clock=ManualClock(T0))
        scheduler.process("works")(work)
        scheduler.process("fails")(lambda: 1 // 0)
        hundreds(scheduler, 3)
        before = what_is_held()
        hundreds(scheduler, runs // 100)
        after = what_is_held()
        print(f"\n{runs} runs: {before} -> {after}")  # noqa: T201  figures, with -s
        ended = scheduler.monitor.summary().counts
        assert ended[RunStatus.ERROR] == ended[RunStatus.SUCCESS] == (runs + 300) // 2
        assert after.threads <= before.threads
        assert after.files <= before.files
        assert after.blocks < before.blocks + 500 + runs // 4
        scheduler.shutdown()
