"""The same work for each contender: what is measured runs in an OS process of its own and prints one JSON object.

A contender is a function ``(size, folder) -> {figure: value}``. All run the same process that does nothing, on ten
workers, with durable settings where there is a disk: bgsched with its run records and log capture on, SQLite with
``synchronous=FULL`` where the peer lets it be chosen.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

WORKERS = 10
Figures = dict[str, float]
Contender = Callable[[int, Path], Figures]


class Countdown:
    """Counts runs; the last one sets an event."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self.done = threading.Event()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.done.set()


COUNT: Countdown | None = None


def count_one() -> None:
    """Be the process that peers import by name."""
    assert COUNT is not None
    COUNT()


def _counted(size: int) -> Countdown:
    global COUNT  # noqa: PLW0603  peers find their function in this module
    COUNT = Countdown(size)
    return COUNT


# -- one-shot runs --------------------------------------------------------------------------------------------------


def _bgsched_oneshots(store: Any, size: int) -> Figures:
    from bgsched import Immediate, Scheduler

    counted = _counted(size)
    scheduler = Scheduler(store, workers=WORKERS)
    scheduler.process("noop")(count_one)
    scheduler.schedule_many([("noop", Immediate(), None)] * size)
    began = time.perf_counter()
    scheduler.start()
    counted.done.wait()
    scheduler.shutdown()
    return {"runs/s": size / (time.perf_counter() - began)}


def bgsched_memory(size: int, folder: Path) -> Figures:
    """Run one-shot requests from memory."""
    return _bgsched_oneshots(None, size)


def bgsched_sqlite(size: int, folder: Path) -> Figures:
    """Run one-shot requests from a file, durably, every run recorded."""
    return _bgsched_oneshots(f"sqlite:///{folder}/bgsched.db", size)


def _apscheduler(size: int, store: Any) -> Figures:
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    counted = _counted(size)
    scheduler = BackgroundScheduler(
        timezone="UTC",
        executors={"default": ThreadPoolExecutor(WORKERS)},
        job_defaults={"misfire_grace_time": None},
        jobstores={"default": store},
    )
    scheduler.start(paused=True)
    now = datetime.now(UTC)
    for _ in range(size):
        scheduler.add_job(count_one, "date", run_date=now)
    began = time.perf_counter()
    scheduler.resume()
    counted.done.wait()
    scheduler.shutdown()
    return {"runs/s": size / (time.perf_counter() - began)}


def apscheduler_memory(size: int, folder: Path) -> Figures:
    """Run date jobs from APScheduler's memory store."""
    from apscheduler.jobstores.memory import MemoryJobStore

    return _apscheduler(size, MemoryJobStore())


def apscheduler_sqlite(size: int, folder: Path) -> Figures:
    """Run date jobs from APScheduler's SQLAlchemy store on an SQLite file."""
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

    return _apscheduler(size, SQLAlchemyJobStore(url=f"sqlite:///{folder}/apscheduler.db"))


def huey_sqlite(size: int, folder: Path) -> Figures:
    """Run tasks from Huey's SQLite file with ten worker threads."""
    from huey import SqliteHuey

    counted = _counted(size)
    huey = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, results=False)
    noop = huey.task()(count_one)
    for _ in range(size):
        noop()
    consumer = huey.create_consumer(workers=WORKERS, periodic=False, initial_delay=0.001, max_delay=0.01)
    began = time.perf_counter()
    consumer.start()
    counted.done.wait()
    spent = time.perf_counter() - began
    consumer.stop(graceful=True)
    return {"runs/s": size / spent}


# -- registration ----------------------------------------------------------------------------------------------------


def bgsched_register(size: int, folder: Path) -> Figures:
    """File requests one by one, each durable when the call returns, then as many at once."""
    from bgsched import Later, Scheduler

    scheduler = Scheduler(f"sqlite:///{folder}/bgsched.db")
    scheduler.process("noop")(count_one)
    later = Later(datetime.now(UTC) + timedelta(days=1))
    began = time.perf_counter()
    for _ in range(size):
        scheduler.schedule("noop", later)
    singly = size / (time.perf_counter() - began)
    many = [("noop", later, None)] * (size * 20)
    began = time.perf_counter()
    scheduler.schedule_many(many)
    return {"requests/s": singly, "requests/s at once": len(many) / (time.perf_counter() - began)}


def apscheduler_register(size: int, folder: Path) -> Figures:
    """Add date jobs one by one."""
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler = BackgroundScheduler(
        timezone="UTC", jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{folder}/a.db")}
    )
    scheduler.start(paused=True)
    later = datetime.now(UTC) + timedelta(days=1)
    began = time.perf_counter()
    for _ in range(size):
        scheduler.add_job(count_one, "date", run_date=later)
    spent = time.perf_counter() - began
    scheduler.shutdown()
    return {"requests/s": size / spent}


# -- lateness --------------------------------------------------------------------------------------------------------


class _Lateness:
    """Keeps how late each run begins, after the first seconds."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.ignore_until = time.time() + 2.5

    def __call__(self) -> None:
        now = time.time()
        if now > self.ignore_until:
            self.values.append(now % 1.0)

    def figures(self) -> Figures:
        ordered = sorted(self.values)
        return {
            "p50 ms": ordered[len(ordered) // 2] * 1000,
            "p99 ms": ordered[len(ordered) * 99 // 100] * 1000,
            "runs": float(len(ordered)),
        }


LATENESS: _Lateness | None = None


def note_lateness() -> None:
    """Be the process that peers import by name."""
    assert LATENESS is not None
    LATENESS()


def _measured() -> _Lateness:
    global LATENESS  # noqa: PLW0603  peers find their function in this module
    LATENESS = _Lateness()
    return LATENESS


def bgsched_lateness(size: int, folder: Path) -> Figures:
    """Let *size* schedules in memory fire at every full second for six seconds."""
    from bgsched import EverySeconds, Schedule, Scheduler

    start = datetime.now(UTC).replace(microsecond=0)
    scheduler = Scheduler(workers=WORKERS)
    scheduler.process("note")(note_lateness)
    scheduler.schedule_many([("note", Schedule(EverySeconds(1), start=start), None)] * size)
    measured = _measured()
    scheduler.start()
    time.sleep(8)
    scheduler.shutdown(timeout=5)
    return measured.figures()


def apscheduler_lateness(size: int, folder: Path) -> Figures:
    """Let *size* interval jobs in memory fire at every full second for six seconds."""
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    scheduler = BackgroundScheduler(
        timezone="UTC",
        executors={"default": ThreadPoolExecutor(WORKERS)},
        job_defaults={"misfire_grace_time": None, "coalesce": False},
    )
    for _ in range(size):
        scheduler.add_job(note_lateness, "interval", seconds=1, start_date=start)
    measured = _measured()
    scheduler.start()
    time.sleep(8)
    scheduler.shutdown(wait=False)
    return measured.figures()


# -- idling ----------------------------------------------------------------------------------------------------------


def bgsched_idle(size: int, folder: Path) -> Figures:
    """Have *size* requests on a file and nothing due."""
    from bgsched import Later, Scheduler

    scheduler = Scheduler(f"sqlite:///{folder}/bgsched.db", workers=WORKERS)
    scheduler.process("noop")(count_one)
    scheduler.schedule_many([("noop", Later(datetime.now(UTC) + timedelta(days=1)), None)] * size)
    return _idle(scheduler.start, scheduler.shutdown)


def apscheduler_idle(size: int, folder: Path) -> Figures:
    """Have *size* jobs in memory and nothing due."""
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler = BackgroundScheduler(timezone="UTC")
    for _ in range(size):
        scheduler.add_job(count_one, "date", run_date=datetime.now(UTC) + timedelta(days=1))
    return _idle(scheduler.start, scheduler.shutdown)


def _idle(start: Callable[[], object], stop: Callable[[], object]) -> Figures:
    start()
    time.sleep(1)
    cpu, wall = time.process_time(), time.perf_counter()
    time.sleep(10)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    stop()
    return {"cpu ms/s": 1000 * cpu / wall}


def main() -> None:
    """Measure one contender: ``python -m benchmarks.contenders NAME SIZE``."""
    name, size = sys.argv[1], int(sys.argv[2])
    contender: Contender = globals()[name]
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(contender(size, Path(folder))))


if __name__ == "__main__":
    # as a module that peers can import: what they run by name is in benchmarks.contenders, not in __main__
    from benchmarks import contenders

    contenders.main()
