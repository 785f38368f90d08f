"""How fast the monitor answers over a million runs of 10,000 requests while a scheduler writes.

    python -m benchmarks.monitor [--runs N] [--store URL | --postgres] [--sweep]

*--store* is filled where it is empty, and kept; by default a temporary SQLite file, or with *--postgres* a server that
ends with the benchmark. *--sweep* asks for a page by every filter, pair and triple of filters, with values that many
runs have, that few have, and that none has, and prints the slowest.
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
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

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
from bgsched.stores.base import Ended
from bgsched.testing.contract import make_request
from bgsched.timing import Later

REQUESTS = 10_000
PROCESSES = 50
DAYS = 30
LINES = 2
RARE = "rare"  # a process and a user of few runs, long ago
TARGET = 5.0  # milliseconds for a page
_BATCH = 10_000
_OLD = range(30_000, 30_010)


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
    if n in _OLD:
        status = RunStatus.KILLED
    return Run(
        request_id=f"request-{number:05}",
        revision=n // REQUESTS,
        process=RARE if n in _OLD else f"process-{number % PROCESSES}",
        user=RARE if n in _OLD else "ann" if number % 100 == 0 else "eve" if number % 3 == 0 else None,
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


def ask_all(url: str, store: Store, *, sweeping: bool) -> None:
    """Ask everything while a scheduler in another OS process executes 50 runs a second."""
    newest = Monitor(store).runs("process-7", limit=1)[0]  # of those that were generated: they have logs
    monitor = Monitor(url)
    with writer(url):
        if sweeping:
            sweep(monitor, newest)
            return
        print(f"{'milliseconds':32}  median     CPU     min     max")
        for name, ask in questions(monitor, newest.recorded_at, newest.id).items():
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


@contextmanager
def busy(store: Store, requests: int, retention: Retention) -> Iterator[Scheduler]:
    """Let a scheduler execute *requests* runs each second; yield when the first has run."""
    scheduler = Scheduler(store, retention=retention)
    ran = threading.Event()
    scheduler.process("beside")(ran.set)
    soon, step = datetime.now(UTC) + timedelta(seconds=1), timedelta(seconds=1) / requests
    timings = [Schedule(EverySeconds(1), start=soon + place * step) for place in range(requests)]
    filed = scheduler.schedule_many([("beside", timing, None) for timing in timings])
    try:
        with scheduler:
            ran.wait()
            yield scheduler
    finally:
        for request in filed:
            scheduler.unschedule(request.id)


# -- every filter beside every other ---------------------------------------------------------------------------------


def sweep(monitor: Monitor, newest: Run, times: int = 3) -> None:
    """Ask for pages by up to three filters at once; print the slowest."""
    day, last = timedelta(days=1), newest.recorded_at
    choices: dict[str, list[dict[str, Any]]] = {
        "process": [{"process": name} for name in ("process-7", RARE, "nobody's")],
        "request": [{"request": name} for name in ("request-00007", "request-00100", "nobody's")],
        "status": [{"status": name} for name in ("success", "error", "killed", "running", ("success", "error"))],
        "user": [{"user": name} for name in ("ann", "eve", RARE, "nobody")],
        "time": [{"since": last - day / 24}, {"until": last - 29 * day}, {"since": last + day}]
        + [{"since": last - 8 * day, "until": last - 8 * day + span} for span in (day / 24, day)],
        "text": [{"text": text} for text in ("LINE 2 OF", "no paper", "not there")],
        "before": [{"before": newest.id // 3}],
    }
    asked = [
        {name: value for part in parts for name, value in part.items()}
        for count in range(4)
        for names in combinations(choices, count)
        for parts in product(*(choices[name] for name in names))
    ]
    spent = [(_median(partial(monitor.runs, **filters), times), filters) for filters in asked]
    spent.sort(key=lambda item: -item[0])
    over = sum(took > TARGET for took, _ in spent)
    median = statistics.median(took for took, _ in spent)
    print(f"{len(spent)} pages, median {median:.2f} ms, {over} over {TARGET:g} ms; the slowest:")
    for took, filters in spent[:15]:
        print(f"{took:8.2f}  {', '.join(f'{name}={value}' for name, value in filters.items())}")


def _median(ask: Callable[[], object], times: int) -> float:
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        spent.append(1000 * (time.perf_counter() - began))
    return statistics.median(spent)


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


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """Let the command line say which store, and how much is to be in it."""
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--store", metavar="URL")
    parser.add_argument("--postgres", action="store_true")


@contextmanager
def filled_store(args: argparse.Namespace) -> Iterator[tuple[Store, str]]:
    """Lend the store that the command line names, filled where it is empty, with its URL."""
    place = given_url(args.store) if args.store else postgres_url() if args.postgres else sqlite_url()
    with place as url:
        store = open_store(url)
        if not Monitor(store).runs(limit=1):
            began = time.perf_counter()
            fill(store, args.runs, datetime.now(UTC))
            print(f"{args.runs} runs written in {time.perf_counter() - began:.0f} s", flush=True)
        yield store, url
        store.close()


def main() -> None:
    """Fill a store, let a scheduler write to it, ask from another on it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_store_options(parser)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with filled_store(args) as (store, url):
        if args.write:
            write(store)
        else:
            ask_all(url, store, sweeping=args.sweep)


if __name__ == "__main__":
    main()
