"""SQLite files that hold much already: made once in a session, in an OS process of its own, and copied for each use."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bgsched import Request, SQLiteStore
from bgsched._evolve import evolve
from bgsched.testing.contract import make_request
from bgsched.timing import Later

__all__ = ["copy_of", "stored_requests", "stored_runs"]

_BATCH = 10_000


def stored_requests(count: int, session: Path) -> Path:
    """Return a file with so many requests that are due in the days to come."""
    return _made("requests", count, session)


def stored_runs(count: int, session: Path) -> Path:
    """Return a file with so many runs that have ended, each with two log lines, of 10,000 requests."""
    return _made("runs", count, session)


def copy_of(file: Path, folder: Path) -> None:
    """Put a copy where a work of bgsched has its store, and on the disk, or the first checkpoint pays for that."""
    copy = folder / "bgsched.db"
    shutil.copyfile(file, copy)
    with copy.open("rb+") as written:
        os.fsync(written.fileno())


def _made(what: str, count: int, session: Path) -> Path:
    file = session / f"{what}-{count}.db"
    if not file.exists():
        command = [sys.executable, "-m", "benchmarks.work._stored", what, str(count), str(file)]
        subprocess.run(command, check=True)
    return file


def _fill_requests(store: SQLiteStore, count: int) -> None:
    now = datetime.now(UTC)
    request = make_request("stored", Later(now + timedelta(days=1)), now, process="noop")
    for first in range(0, count, _BATCH):
        made = [_at(request, n) for n in range(first, min(first + _BATCH, count))]
        with store.transaction() as tx:
            tx.put_requests(made)


def _at(request: Request, number: int) -> Request:
    """Return a copy that is due at an instant of its own; all share one timing, which nobody reads before."""
    assert request.due_at is not None
    at = request.due_at + timedelta(milliseconds=number)
    return evolve(request, id=f"stored-{number:07}", next_fire_time=at, due_at=at)


def _fill_runs(store: SQLiteStore, count: int) -> None:
    from benchmarks.monitor import fill

    fill(store, count, datetime.now(UTC))


def main() -> None:
    """Make one file; nobody finds it before it is whole."""
    what, count, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    part = file.with_suffix(".part")
    store = SQLiteStore(part)
    {"requests": _fill_requests, "runs": _fill_runs}[what](store, count)
    store.close()
    part.rename(file)


if __name__ == "__main__":
    main()
