"""How fast the monitor answers over a million runs while a scheduler writes, and what retention does to lateness.

    python -m benchmarks.monitor [--runs N] [--store URL] [--postgres] [--retention]

*--store* is filled where it is empty, and kept; by default a temporary SQLite file, or with *--postgres* a server that
ends with the benchmark. *--retention* deletes half of the runs while 200 others a second go on.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bgsched import (
    EverySeconds,
    LogLine,
    Monitor,
    Retention,
    Run,
    RunError,
    RunStatus,
    Schedule,
    Scheduler,
    Store,
    open_store,
)
from bgsched.stores.base import Bite, Ended
from bgsched.testing.contract import make_request
from bgsched.timing import Later

REQUESTS = 10_000
PROCESSES = 50
DAYS = 30
LINES = 2
_BATCH = 10_000


# -- the runs --------------------------------------------------------------------------------------------------------


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
            tx.append_log([_line(run, seq) for run in stored for seq in range(1, LINES + 1)])
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


# -- the questions ---------------------------------------------------------------------------------------------------


def questions(monitor: Monitor, now: datetime, newest: int) -> dict[str, Callable[[], object]]:
    """Return what is asked, by what it is called in the table."""
    failed = RunStatus.ERROR
    week_ago, day = now - timedelta(days=8), timedelta(days=1)
    return {
        "page of 100": lambda: monitor.runs(),
        "page of 100, deep": lambda: monitor.runs(before=newest // 3),
        "page, process": lambda: monitor.runs("process-7"),
        "page, request": lambda: monitor.runs(request="request-00007"),
        "page, request and error": lambda: monitor.runs(request="request-00007", status=failed),
        "page, status error": lambda: monitor.runs(status=failed),
        "page, process and error": lambda: monitor.runs("process-7", status=failed),
        "page, rare status": lambda: monitor.runs(status=RunStatus.KILLED),
        "page, user": lambda: monitor.runs(user="ann"),
        "page, user and error": lambda: monitor.runs(user="ann", status=failed),
        "page, user and process": lambda: monitor.runs("process-7", user="ann"),
        "page, a day last week": lambda: monitor.runs(since=week_ago, until=week_ago + day),
        "page, process in an hour": lambda: monitor.runs("process-7", since=week_ago, until=week_ago + day / 24),
        "page, user in an hour": lambda: monitor.runs(user="ann", since=week_ago, until=week_ago + day / 24),
        "page, text in every log": lambda: monitor.runs(text="LINE 2 OF", before=newest),
        "page, text in an error": lambda: monitor.runs(text="no paper", before=newest),
        "page, text in nothing": lambda: monitor.runs(text="not there", before=newest),
        "page, text, user and error": lambda: monitor.runs(text="no paper", user="ann", status=failed),
        "one run": lambda: monitor.run(newest // 2),
        "its log": lambda: monitor.log(newest // 2),
        "running": lambda: monitor.running(),
        "upcoming": lambda: monitor.upcoming(),
        "requests": lambda: monitor.requests(),
        "why": lambda: monitor.why("request-00007"),
        "health": lambda: monitor.health(),
        "summary, 24 h": lambda: monitor.summary(since=now - day),
        "summary, process, 24 h": lambda: monitor.summary("process-7", since=now - day),
        "histogram, 30 days by hour": lambda: monitor.histogram(since=now - timedelta(days=DAYS)),
        "histogram, process, by hour": lambda: monitor.histogram("process-7", since=now - timedelta(days=DAYS)),
    }


def measure(ask: Callable[[], object], times: int = 15) -> str:
    """Return how many milliseconds *times* questions took: the median, that of this thread's CPU time, the extremes."""
    spent, worked = [], []
    for _ in range(times):
        began, at_work = time.perf_counter(), time.thread_time()
        ask()
        spent.append(1000 * (time.perf_counter() - began))
        worked.append(1000 * (time.thread_time() - at_work))
    return f"{statistics.median(spent):8.2f}{statistics.median(worked):8.2f}{min(spent):8.2f}{max(spent):8.1f}"


def ask_all(url: str, store: Store, now: datetime) -> None:
    """Ask everything while a scheduler in another OS process executes 50 runs a second."""
    newest = Monitor(store).runs("process-7", limit=1)[0].id  # of those that were generated: they have logs
    monitor = Monitor(url)
    with writer(url):
        print(f"{'milliseconds':32}  median     CPU     min     max")
        for name, ask in questions(monitor, now, newest).items():
            print(f"{name:32}{measure(ask)}", flush=True)


@contextmanager
def writer(url: str) -> Iterator[None]:
    """Let a scheduler in another OS process write; yield when it does."""
    command = [sys.executable, "-m", "benchmarks.monitor", "--write", "--store", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        yield
        child.stdin.close()


def write(store: Store) -> None:
    """Be that other OS process, until stdin ends."""
    with busy(store, 50, Retention(success=None, other=None)):
        print("writing", flush=True)
        sys.stdin.read()


# -- retention -------------------------------------------------------------------------------------------------------


@contextmanager
def busy(store: Store, requests: int, retention: Retention) -> Iterator[Scheduler]:
    """Let a scheduler execute *requests* runs each second; yield when the first has run."""
    scheduler = Scheduler(store, retention=retention)
    ran = threading.Event()
    scheduler.process("beside")(ran.set)
    soon, step = datetime.now(UTC) + timedelta(seconds=1), timedelta(seconds=1) / requests
    timings = [Schedule(EverySeconds(1), start=soon + place * step) for place in range(requests)]
    scheduler.schedule_many([("beside", timing, None) for timing in timings])
    with scheduler:
        ran.wait()
        yield scheduler


def purge_beside(store: Store, now: datetime) -> None:
    """Say how late 200 runs a second are, first without and then with a purge of half of all runs beside them."""
    with busy(store, 200, Retention(success=None, other=None)) as scheduler:
        time.sleep(30)
        print(f"without a purge: {_lateness(scheduler.monitor)}", flush=True)
    deleted, longest, over = 0, 0.0, threading.Event()
    purge = store.purge

    def watched(*words: object, **named: object) -> Bite:
        nonlocal deleted, longest
        began = time.perf_counter()
        bite = purge(*words, **named)  # type: ignore[arg-type]  # what the engine says
        longest = max(longest, time.perf_counter() - began)
        deleted += bite.runs
        if bite.after is None and deleted:
            over.set()
        return bite

    store.purge = watched  # type: ignore[method-assign]  # to look on
    began = time.monotonic()
    with busy(store, 200, Retention(success=timedelta(days=DAYS / 2))) as scheduler:
        over.wait()
        spent = time.monotonic() - began
        print(f"with a purge of {deleted} runs in {spent:.0f} s: {_lateness(scheduler.monitor)}")
        print(f"longest bite, from before it looks until it has committed: {1000 * longest:.0f} ms")


def _lateness(monitor: Monitor) -> str:
    found = monitor.summary("beside", since=datetime.now(UTC) - timedelta(seconds=28))
    parts = (found.lateness_p50, found.lateness_p95, found.lateness_p99)
    return "lateness p50 / p95 / p99: " + " / ".join(
        f"{1000 * (p or timedelta(0)).total_seconds():.1f} ms" for p in parts
    )


# -- the command -----------------------------------------------------------------------------------------------------


@contextmanager
def postgres_url() -> Iterator[str]:
    """Lend a server of our own that keeps what it acknowledges."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from _postgres import find_binaries, start_server

    server = start_server(next(find_binaries()), durable=True)
    try:
        yield server.dsn
    finally:
        server.stop()


@contextmanager
def sqlite_url() -> Iterator[str]:
    """Lend a file of our own."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/monitor.db"


@contextmanager
def given_url(url: str) -> Iterator[str]:
    """Lend what the command line names."""
    yield url


def main() -> None:
    """Fill a store, let a scheduler write to it, ask from another on it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--store", metavar="URL")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--retention", action="store_true")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    place = given_url(args.store) if args.store else postgres_url() if args.postgres else sqlite_url()
    with place as url:
        store = open_store(url)
        now = datetime.now(UTC)
        if not Monitor(store).runs(limit=1):
            began = time.perf_counter()
            fill(store, args.runs, now)
            print(f"{args.runs} runs written in {time.perf_counter() - began:.0f} s", flush=True)
        if args.write:
            write(store)
        elif args.retention:
            purge_beside(store, now)
        else:
            ask_all(url, store, now)
        store.close()


if __name__ == "__main__":
    main()
