"""Warnings of requests that nobody will run, because a `MemoryStore` is neither shared nor kept."""

from collections.abc import Iterable
from datetime import datetime

from bgsched._runlog import LOGGER
from bgsched.request import Request
from bgsched.timing import Schedule

__all__ = ["warn_of_forgotten", "warn_of_unshared"]


def warn_of_unshared(*, in_worker: bool, in_child: bool) -> None:
    """Say it where a request is filed in the memory of a worker process, or of a child of the one that runs it."""
    if in_worker:
        LOGGER.warning(
            "a MemoryStore is not shared between OS processes: nobody runs what is filed in a worker; use a SQLiteStore"
        )
    if in_child:
        LOGGER.warning(
            "the scheduler runs in the OS process that this one was forked from, and a MemoryStore is not shared "
            "between them: nobody runs what is filed here; use a SQLiteStore, or start() here"
        )


def warn_of_forgotten(upcoming: Iterable[Request], now: datetime) -> None:
    """Say it when the program ends and requests that were due go with the memory that they were kept in."""
    for request in upcoming:
        if request.due_at is not None and request.due_at <= now and not isinstance(request.timing, Schedule):
            LOGGER.warning(
                "request %r of process %r was due, has not run, and is forgotten with its MemoryStore; start the "
                "scheduler and wait before the program ends, or keep requests: Scheduler('sqlite:///app.db')",
                request.id,
                request.process,
            )
