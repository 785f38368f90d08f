"""Lateness: schedules that fire each second, at the same instant or spread over the second.

Every fire time has to run, so the n-th run to begin is measured against the n-th fire time. The first second is left
out: threads are started in it.
"""

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.work import WORKERS, Figures, value
from benchmarks.work._peers import apscheduler

SECONDS = 5

_begun: list[float] = []


def note_time() -> None:
    """Keep when this run began; peers find it by its name."""
    _begun.append(time.time())


def bgsched_same(size: int, folder: Path) -> Figures:
    """Let *size* schedules in memory fire at each full second."""
    return _bgsched(_instants(size, spread=False))


def bgsched_spread(size: int, folder: Path) -> Figures:
    """Let *size* schedules in memory fire each second, spread as their registrations were."""
    return _bgsched(_instants(size, spread=True))


def apscheduler_same(size: int, folder: Path) -> Figures:
    """Let *size* interval jobs in memory fire at each full second."""
    return _apscheduler(_instants(size, spread=False))


def apscheduler_spread(size: int, folder: Path) -> Figures:
    """Let *size* interval jobs in memory fire each second, spread as their registrations were."""
    return _apscheduler(_instants(size, spread=True))


def _instants(size: int, *, spread: bool) -> list[datetime]:
    """Return the first fire time of each, late enough for a slow registration to be over."""
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3 + size // 1_500)
    return [first + timedelta(seconds=number / size if spread else 0) for number in range(size)]


def _bgsched(instants: Sequence[datetime]) -> Figures:
    from bgsched import EverySeconds, Overlap, Schedule, Scheduler

    scheduler = Scheduler(workers=WORKERS)
    scheduler.process("note", overlap=Overlap.ALLOW)(note_time)
    scheduler.schedule_many([("note", Schedule(EverySeconds(1), start=first), None) for first in instants])
    scheduler.start()
    _sleep_over(instants)
    scheduler.shutdown(timeout=0.1)
    return figures(instants)


def _apscheduler(instants: Sequence[datetime]) -> Figures:
    scheduler = apscheduler()
    scheduler.start()
    for first in instants:
        scheduler.add_job(note_time, "interval", seconds=1, start_date=first)
    _sleep_over(instants)
    scheduler.shutdown(wait=False)
    return figures(instants)


def _sleep_over(instants: Sequence[datetime]) -> None:
    threading.Event().wait(instants[0].timestamp() + SECONDS + 0.9 - time.time())


def figures(instants: Sequence[datetime], seconds: int = SECONDS) -> Figures:
    """Return how late the runs began, a run that has not begun yet as one that begins now."""
    now, begun = time.time(), sorted(_begun)
    due = [first.timestamp() + second for second in range(seconds) for first in instants]
    begun += [now] * (len(due) - len(begun))
    late = sorted(1000 * (at - was_due) for at, was_due in list(zip(begun, due, strict=False))[len(instants) :])
    return {"p50 ms": value(late, 0.5), "p99 ms": value(late, 0.99)}
