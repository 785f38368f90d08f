"""Beside much that is stored: a claim and a wake-up must not cost more for what is not due, nor for what has ended."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.work import WORKERS, Figures, url, value
from benchmarks.work._count import count_one, counted
from benchmarks.work._stored import copy_of, stored_requests, stored_runs
from benchmarks.work.idle import resident

if TYPE_CHECKING:
    from bgsched import Scheduler

_DRAINED = 10_000
_WAKE_UPS = 100


def start(size: int, folder: Path) -> Figures:
    """Start on a file with *size* requests that are not due, and one that is."""
    from bgsched import Immediate, Scheduler, SQLiteStore

    copy_of(stored_requests(size, folder.parent), folder)
    store = SQLiteStore(folder / "bgsched.db")
    filing = Scheduler(store)
    filing.process("first")(count_one)
    filing.schedule("first", Immediate())
    store.close()

    done = counted(1)
    before, began = resident(), time.perf_counter()
    scheduler = Scheduler(url(folder), workers=WORKERS)
    scheduler.process("noop")(lambda: None)
    scheduler.process("first")(count_one)
    scheduler.start()
    done.wait()
    first = time.perf_counter() - began
    threading.Event().wait(1)
    grown = resident() - before
    scheduler.shutdown()
    return {"first run ms": 1000 * first, "memory grown MB": grown / 1e6}


def beside_requests(size: int, folder: Path) -> Figures:
    """Drain and wake beside *size* requests in a file that are not due."""
    from bgsched import Scheduler

    copy_of(stored_requests(size, folder.parent), folder)
    return _busy(Scheduler(url(folder), workers=WORKERS))


def beside_runs(size: int, folder: Path) -> Figures:
    """Drain and wake beside *size* runs in a file that have ended."""
    from bgsched import Scheduler

    copy_of(stored_runs(size, folder.parent), folder)
    return _busy(Scheduler(url(folder), workers=WORKERS))


def beside_memory(size: int, folder: Path) -> Figures:
    """Drain and wake beside *size* requests in memory that are not due."""
    from bgsched import Later, Scheduler

    scheduler = Scheduler(workers=WORKERS)
    scheduler.process("other")(lambda: None)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    scheduler.schedule_many(("other", Later(tomorrow + timedelta(milliseconds=n)), None) for n in range(size))
    return _busy(scheduler)


def _busy(scheduler: "Scheduler") -> Figures:
    from bgsched import Immediate

    done = counted(_DRAINED)
    begun = threading.Event()
    times: list[float] = []
    scheduler.process("noop")(count_one)

    @scheduler.process("wake")
    def wake() -> None:
        times.append(time.perf_counter())
        begun.set()

    scheduler.schedule_many([("noop", Immediate(), None)] * _DRAINED)
    began = time.perf_counter()
    scheduler.start()
    done.wait()
    drained = time.perf_counter() - began
    late = []
    for _ in range(_WAKE_UPS):
        threading.Event().wait(0.01)  # until what came before is reported, and all is quiet
        begun.clear()
        filed = time.perf_counter()
        scheduler.schedule("wake", Immediate())
        begun.wait()
        late.append(1000 * (times[-1] - filed))
    scheduler.shutdown()
    late.sort()
    return {"drained/s": _DRAINED / drained, "wake-up p50 ms": value(late, 0.5), "wake-up p99 ms": value(late, 0.99)}
