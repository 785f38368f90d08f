"""One-shot runs: all are filed, then the clock runs from the start of the scheduler until the last one has run.

bgsched's clock runs on until every end is stored too, which the peers' do not.
"""

import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.work import WORKERS, Figures, url
from benchmarks.work._count import count_one, counted
from benchmarks.work._peers import apscheduler


def bgsched_memory(size: int, folder: Path) -> Figures:
    """Run requests from memory."""
    return _bgsched(None, size)


def bgsched_sqlite(size: int, folder: Path) -> Figures:
    """Run requests from a file, each claim on disk before its run starts."""
    return _bgsched(url(folder), size)


def _bgsched(store: str | None, size: int) -> Figures:
    from bgsched import Immediate, Scheduler

    done = counted(size)
    scheduler = Scheduler(store, workers=WORKERS)
    scheduler.process("noop")(count_one)
    scheduler.schedule_many([("noop", Immediate(), None)] * size)
    began = time.perf_counter()
    scheduler.start()
    done.wait()
    scheduler.shutdown()
    return {"runs/s": size / (time.perf_counter() - began)}


def apscheduler_memory(size: int, folder: Path) -> Figures:
    """Run date jobs from APScheduler's memory store."""
    return _apscheduler(size, None)


def apscheduler_sqlite(size: int, folder: Path) -> Figures:
    """Run date jobs from APScheduler's SQLAlchemy store on a file."""
    return _apscheduler(size, folder)


def _apscheduler(size: int, folder: Path | None) -> Figures:
    done = counted(size)
    scheduler = apscheduler(folder)
    scheduler.start(paused=True)
    now = datetime.now(UTC)
    for _ in range(size):
        scheduler.add_job(count_one, "date", run_date=now)
    began = time.perf_counter()
    scheduler.resume()
    done.wait()
    spent = time.perf_counter() - began
    scheduler.shutdown()
    return {"runs/s": size / spent}


def huey_sqlite(size: int, folder: Path) -> Figures:
    """Run tasks from Huey's file with ten worker threads; no results are kept."""
    from huey import SqliteHuey

    done = counted(size)
    huey = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, results=False)
    noop = huey.task()(count_one)
    for _ in range(size):
        noop()
    consumer = huey.create_consumer(workers=WORKERS, periodic=False, initial_delay=0.001, max_delay=0.01)
    began = time.perf_counter()
    consumer.start()
    done.wait()
    spent = time.perf_counter() - began
    consumer.stop(graceful=True)
    return {"runs/s": size / spent}
