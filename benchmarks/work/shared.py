"""Several OS processes, each with a scheduler of ten workers, on one SQLite file."""

import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import IO

from benchmarks.work import WORKERS, Figures, url


def one(size: int, folder: Path) -> Figures:
    """Let one OS process run *size* one-shot requests."""
    return _run(1, size, folder)


def four(size: int, folder: Path) -> Figures:
    """Let four OS processes run *size* one-shot requests."""
    return _run(4, size, folder)


def _run(count: int, size: int, folder: Path) -> Figures:
    from bgsched import Immediate, Scheduler

    filing = Scheduler(url(folder))
    filing.process("noop")(lambda: None)
    filing.schedule_many([("noop", Immediate(), None)] * size)
    command = [sys.executable, "-m", "benchmarks.work.shared", str(folder)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    for worker in workers:
        assert _pipe(worker.stdout).readline() == "ready\n"
    began = time.perf_counter()
    for worker in workers:
        print("go", file=_pipe(worker.stdin), flush=True)
    _wait_for(size, folder)
    spent = time.perf_counter() - began
    for worker in workers:
        _pipe(worker.stdin).close()
    took = [int(_pipe(worker.stdout).readline()) for worker in workers]
    assert [worker.wait() for worker in workers] == [0] * count
    assert sum(took) == size, took  # each ran once
    return {"runs/s": size / spent, "least share %": 100 * min(took) * count / size}


def _pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None
    return end


def _wait_for(size: int, folder: Path) -> None:
    """Wait until so many ends are stored; one row of counts for each owner is read, which disturbs nobody."""
    with closing(sqlite3.connect(f"file:{folder}/bgsched.db?mode=ro", uri=True)) as connection:
        while connection.execute("SELECT total(count) FROM bgsched_ended").fetchone()[0] < size:
            threading.Event().wait(0.01)


def main() -> None:
    """Be one of the OS processes: say ready, hear go, run what there is until the input ends; say how many."""
    from bgsched import Scheduler

    ran: list[None] = []
    scheduler = Scheduler(url(Path(sys.argv[1])), workers=WORKERS)
    scheduler.process("noop")(lambda: ran.append(None))
    print("ready", flush=True)
    sys.stdin.readline()
    with scheduler:
        sys.stdin.read()
    print(len(ran), flush=True)


if __name__ == "__main__":
    main()
