"""Idling: requests that are due tomorrow, and nothing else to do. CPU time, and memory for each request."""

import gc
import resource
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.work import WORKERS, Figures, url
from benchmarks.work._count import count_one
from benchmarks.work._peers import apscheduler

__all__ = ["apscheduler_memory", "bgsched_memory", "bgsched_sqlite", "resident"]

_SECONDS = 5


def bgsched_memory(size: int, folder: Path) -> Figures:
    """Idle with requests in memory."""
    return _bgsched(None, size)


def bgsched_sqlite(size: int, folder: Path) -> Figures:
    """Idle with requests in a file."""
    return _bgsched(url(folder), size)


def _bgsched(store: str | None, size: int) -> Figures:
    from bgsched import Later, Scheduler

    scheduler = Scheduler(store, workers=WORKERS)
    scheduler.process("noop")(count_one)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    before = resident()
    scheduler.schedule_many(("noop", Later(tomorrow + timedelta(milliseconds=n)), None) for n in range(size))
    return _idle(scheduler.start, scheduler.shutdown, (resident() - before) / size)


def apscheduler_memory(size: int, folder: Path) -> Figures:
    """Idle with jobs in APScheduler's memory store, filed in the order of their instants: what suits it best."""
    scheduler = apscheduler()
    scheduler.start(paused=True)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    before = resident()
    for n in range(size):
        scheduler.add_job(count_one, "date", run_date=tomorrow + timedelta(milliseconds=n))
    return _idle(scheduler.resume, scheduler.shutdown, (resident() - before) / size)


def _idle(start: Callable[[], object], stop: Callable[[], object], memory: float) -> Figures:
    start()
    threading.Event().wait(1)
    cpu, wall = time.process_time(), time.perf_counter()
    threading.Event().wait(_SECONDS)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    stop()
    return {"CPU ms/s": 1000 * cpu / wall, "bytes/request": memory}


def resident() -> int:
    """Return how many bytes of memory this OS process holds; where there is no /proc, the most it ever held."""
    gc.collect()
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
