"""How fast the monitor answers over a million runs while a scheduler writes: ``python -m benchmarks.monitor``."""

import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bgsched import EverySeconds, LogLine, Monitor, Run, RunError, RunStatus, Schedule, Scheduler, SQLiteStore, Store
from bgsched.stores.base import Ended
from bgsched.testing.contract import make_request
from bgsched.timing import Later

REQUESTS = 10_000
PROCESSES = 50
DAYS = 30
_BATCH = 10_000


def fill(store: Store, runs: int, now: datetime) -> None:
    """Write *runs* ended runs of 10,000 requests over the last 30 days, each with two log lines."""
    chance = random.Random(1)
    later = Later(now + timedelta(days=365))
    requests = [
        make_request(f"request-{n:05}", later, now, process=f"process-{n % PROCESSES}") for n in range(REQUESTS)
    ]
    with store.transaction() as tx:
        tx.put_requests(requests)
    step = timedelta(days=DAYS) / runs
    start = now - timedelta(days=DAYS)
    for first in range(0, runs, _BATCH):
        made = [_run(n, start + n * step, chance) for n in range(first, min(first + _BATCH, runs))]
        with store.transaction() as tx:
            stored = tx.insert_runs(made)
            tx.append_log([_line(run, seq) for run in stored for seq in (1, 2)])
            tx.count_ended(_counts(stored), "generator")


def _run(n: int, at: datetime, chance: random.Random) -> Run:
    number = n % REQUESTS
    status = RunStatus.ERROR if chance.random() < 0.01 else RunStatus.SUCCESS
    spent = timedelta(milliseconds=chance.expovariate(0.01))
    return Run(
        request_id=f"request-{number:05}",
        revision=n // REQUESTS,
        process=f"process-{number % PROCESSES}",
        user="ann" if number % 100 == 0 else None,
        fire_time=at,
        recorded_at=at,
        claimed_at=at,
        started_at=at + timedelta(milliseconds=chance.expovariate(0.1)),
        finished_at=at + spent,
        duration=spent,
        status=status,
        attempt=1,
        owner="generator",
        error=RunError("ValueError", "no paper", "Traceback") if status is RunStatus.ERROR else None,
    )


def _line(run: Run, seq: int) -> LogLine:
    return LogLine(run.id, seq, run.recorded_at, "INFO", "host", f"line {seq} of run {run.id}", 1)


def _counts(runs: list[Run]) -> list[Ended]:
    counts: dict[tuple[datetime, str, RunStatus], int] = {}
    for run in runs:
        key = run.recorded_at.replace(minute=0, second=0, microsecond=0), run.process, run.status
        counts[key] = counts.get(key, 0) + 1
    return [Ended(*key, count) for key, count in counts.items()]


def questions(monitor: Monitor, now: datetime, newest: int) -> dict[str, Callable[[], object]]:
    """Return what is asked, by what it is called in the table."""
    failed = RunStatus.ERROR
    return {
        "page of 100": lambda: monitor.runs(),
        "page of 100, deep": lambda: monitor.runs(before=newest // 3),
        "page, process": lambda: monitor.runs("process-7"),
        "page, request": lambda: monitor.runs(request="request-00007"),
        "page, status error": lambda: monitor.runs(status=failed),
        "page, process and error": lambda: monitor.runs("process-7", status=failed),
        "page, rare status": lambda: monitor.runs(status=RunStatus.KILLED),
        "page, user": lambda: monitor.runs(user="ann"),
        "page, a day last week": lambda: monitor.runs(since=now - timedelta(days=8), until=now - timedelta(days=7)),
        "page, process in an hour": lambda: monitor.runs(
            "process-7", since=now - timedelta(days=8), until=now - timedelta(days=8) + timedelta(hours=1)
        ),
        "one run": lambda: monitor.run(newest // 2),
        "its log": lambda: monitor.log(newest // 2),
        "running": lambda: monitor.running(),
        "upcoming": lambda: monitor.upcoming(),
        "requests": lambda: monitor.requests(),
        "why": lambda: monitor.why("request-00007"),
        "health": lambda: monitor.health(),
        "summary, 24 h": lambda: monitor.summary(since=now - timedelta(days=1)),
        "summary, process, 24 h": lambda: monitor.summary("process-7", since=now - timedelta(days=1)),
        "histogram, 30 days by hour": lambda: monitor.histogram(since=now - timedelta(days=DAYS)),
    }


def measure(ask: Callable[[], object], times: int = 15) -> float:
    """Return the median of *times* questions in milliseconds."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        spent.append(time.perf_counter() - began)
    return 1000 * statistics.median(spent)


def main() -> None:
    """Fill a file, let a scheduler write to it, ask from another store on it."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "monitor.db"
        now = datetime.now(UTC)
        store = SQLiteStore(path)
        began = time.perf_counter()
        fill(store, runs, now)
        print(f"{runs} runs written in {time.perf_counter() - began:.0f} s, {path.stat().st_size / 1e6:.0f} MB")
        scheduler = Scheduler(store)
        ran = threading.Event()
        scheduler.process("beside")(ran.set)
        scheduler.schedule_many([("beside", Schedule(EverySeconds(1)), None)] * 50)
        with scheduler:
            ran.wait()
            monitor = Monitor(f"sqlite:///{path}")
            for name, ask in questions(monitor, now, runs).items():
                print(f"{name:32} {measure(ask):8.2f} ms")


if __name__ == "__main__":
    main()
