"""Mixed load: a file with schedules that fire each second, spread over it, while a dashboard polls the monitor."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.work import WORKERS, Figures, url, value
from benchmarks.work.lateness import figures, note_time

if TYPE_CHECKING:
    from bgsched import Monitor

_SCHEDULES = 500
_POLL = 0.1


def alone(size: int, folder: Path) -> Figures:
    """Fire 500 times a second for *size* seconds."""
    return _fire(size, folder, dashboard=False)


def watched(size: int, folder: Path) -> Figures:
    """Fire 500 times a second for *size* seconds, while the same OS process is asked ten times a second."""
    return _fire(size, folder, dashboard=True)


def _fire(seconds: int, folder: Path, *, dashboard: bool) -> Figures:
    from bgsched import EverySeconds, Overlap, Schedule, Scheduler

    scheduler = Scheduler(url(folder), workers=WORKERS)
    scheduler.process("note", overlap=Overlap.ALLOW)(note_time)
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    instants = [first + timedelta(seconds=number / _SCHEDULES) for number in range(_SCHEDULES)]
    scheduler.schedule_many([("note", Schedule(EverySeconds(1), start=instant), None) for instant in instants])
    over = threading.Event()
    asked: list[float] = []
    poller = threading.Thread(target=_poll, args=(scheduler.monitor, over, asked))
    scheduler.start()
    if dashboard:
        poller.start()
    threading.Event().wait(first.timestamp() + seconds + 0.5 - time.time())
    over.set()
    if dashboard:
        poller.join()
    scheduler.shutdown(timeout=1)
    asked.sort()
    return figures(instants, seconds) | ({"poll p99 ms": value(asked, 0.99)} if asked else {})


def _poll(monitor: "Monitor", over: threading.Event, asked: list[float]) -> None:
    """Ask what a dashboard shows."""
    while not over.wait(_POLL):
        began = time.perf_counter()
        monitor.health()
        monitor.running()
        monitor.upcoming()
        monitor.runs()
        monitor.summary(since=datetime.now(UTC) - timedelta(days=1))
        asked.append(1000 * (time.perf_counter() - began))
