"""Registration: requests that are due tomorrow are filed, each on disk when the call returns."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.work import Figures
from benchmarks.work._count import count_one
from benchmarks.work._peers import apscheduler
from benchmarks.work._stored import copy_of, stored_requests

_AT_ONCE = 20_000


def bgsched_sqlite(size: int, folder: Path) -> Figures:
    """File requests one by one, then 20,000 at once."""
    from bgsched import Later, Scheduler, SQLiteStore

    store = SQLiteStore(folder / "bgsched.db")
    scheduler = Scheduler(store)
    scheduler.process("noop")(count_one)
    later = Later(datetime.now(UTC) + timedelta(days=1))
    began = time.perf_counter()
    for _ in range(size):
        scheduler.schedule("noop", later)
    singly = size / (time.perf_counter() - began)
    many = [("noop", later, None)] * _AT_ONCE
    began = time.perf_counter()
    scheduler.schedule_many(many)
    at_once = _AT_ONCE / (time.perf_counter() - began)
    store.close()
    return {"singly/s": singly, "at once/s": at_once}


def bgsched_beside(size: int, folder: Path) -> Figures:
    """File requests beside *size* that are stored already."""
    copy_of(stored_requests(size, folder.parent), folder)
    return bgsched_sqlite(1_000, folder)


def apscheduler_sqlite(size: int, folder: Path) -> Figures:
    """Add date jobs one by one: APScheduler has no other way."""
    scheduler = apscheduler(folder)
    scheduler.start(paused=True)
    later = datetime.now(UTC) + timedelta(days=1)
    began = time.perf_counter()
    for _ in range(size):
        scheduler.add_job(count_one, "date", run_date=later)
    rate = size / (time.perf_counter() - began)
    scheduler.shutdown()
    return {"singly/s": rate, "at once/s": rate}
