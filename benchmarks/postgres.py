"""bgsched beside Procrastinate 3 on one PostgreSQL server: ``python -m benchmarks.postgres``.

The server is started for it, with durable settings. Each scheduler, and each worker of the peer, is an OS process of
its own that runs ten at once; one more files what wakes them. Both keep a record of each run, as they do by default.

- One-shot runs per second: so many are filed, then the clock runs from "go" until the last one is recorded as ended.
- Wake-up: from just before a request is filed, in one OS process, until its run begins in another that was idle.
- Idle load: statements that reach the server, BEGIN and COMMIT among them, as its own log counts them.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

WORKERS = 10
ROUNDS = 3
WAKE_UPS = 200
IDLE = 30.0  # seconds
TESTS = Path(__file__).parent.parent / "tests"


class Contender(Protocol):
    """Someone who runs what others file."""

    name: str
    oneshots: int

    def prepare(self, dsn: str) -> None:
        """Make the tables."""

    def file(self, dsn: str, count: int) -> None:
        """File so many one-shot runs."""

    def is_done(self, connection: "psycopg.Connection[Any]", count: int) -> bool:
        """Return whether so many have ended."""

    def work(self, dsn: str) -> None:
        """Say "ready", hear "go", run what is there and what comes until the standard input ends; say how late."""

    def wake(self, dsn: str, count: int) -> None:
        """File *count* runs one after another, each with the time."""


class Bgsched:
    """This library."""

    name = "bgsched"
    oneshots = 20_000

    def prepare(self, dsn: str) -> None:
        self._scheduler(dsn).shutdown()

    def _scheduler(self, dsn: str) -> Any:
        from bgsched import PostgresStore, Scheduler

        scheduler = Scheduler(PostgresStore(dsn), workers=WORKERS)
        scheduler.process("noop")(lambda: None)
        scheduler.process("note")(note)
        return scheduler

    def file(self, dsn: str, count: int) -> None:
        from bgsched import Immediate

        self._scheduler(dsn).schedule_many([("noop", Immediate(), None)] * count)

    def is_done(self, connection: "psycopg.Connection[Any]", count: int) -> bool:
        (ended,) = connection.execute("SELECT coalesce(sum(count), 0) FROM bgsched.ended").fetchone() or (0,)
        return bool(ended >= count)

    def work(self, dsn: str) -> None:
        scheduler = self._scheduler(dsn)
        say_ready()
        with scheduler:
            sys.stdin.read()
        print(json.dumps(LATE), flush=True)

    def wake(self, dsn: str, count: int) -> None:
        from bgsched import Immediate

        scheduler = self._scheduler(dsn)
        for _ in one_by_one(count):
            scheduler.schedule("note", Immediate(), {"sent": time.time()})


class Procrastinate:
    """The peer, with an asynchronous task, its quicker kind."""

    name = "procrastinate"
    oneshots = 1_000

    def _app(self, dsn: str) -> Any:
        import procrastinate

        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))

        @app.task(name="noop")
        async def noop() -> None:
            pass

        @app.task(name="note")
        async def noted(sent: float) -> None:
            note(sent)

        return app

    def prepare(self, dsn: str) -> None:
        async def prepare() -> None:
            async with self._app(dsn).open_async() as app:
                await app.schema_manager.apply_schema_async()

        asyncio.run(prepare())

    def file(self, dsn: str, count: int) -> None:
        async def file() -> None:
            async with self._app(dsn).open_async() as app:
                await app.tasks["noop"].batch_defer_async(*[{}] * count)

        asyncio.run(file())

    def is_done(self, connection: "psycopg.Connection[Any]", count: int) -> bool:  # noqa: ARG002  all of them
        left = connection.execute("SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing') LIMIT 1")
        return left.fetchone() is None

    def work(self, dsn: str) -> None:
        async def work() -> None:
            async with self._app(dsn).open_async() as app:
                await asyncio.to_thread(say_ready)
                worker = asyncio.create_task(app.run_worker_async(concurrency=WORKERS, install_signal_handlers=False))
                await asyncio.to_thread(sys.stdin.read)
                worker.cancel()

        asyncio.run(work())
        print(json.dumps(LATE), flush=True)

    def wake(self, dsn: str, count: int) -> None:
        async def wake() -> None:
            async with self._app(dsn).open_async() as app:
                for _ in one_by_one(count):
                    await app.tasks["note"].defer_async(sent=time.time())

        asyncio.run(wake())


CONTENDERS: dict[str, Contender] = {"bgsched": Bgsched(), "procrastinate": Procrastinate()}


# -- in the OS processes of the contenders ----------------------------------------------------------------------------

LATE: list[float] = []


def note(sent: float) -> None:
    """Keep how long ago this run was filed."""
    LATE.append(time.time() - sent)


def say_ready() -> None:
    """Wait for the word to begin."""
    print("ready", flush=True)
    sys.stdin.readline()


def one_by_one(count: int) -> Iterator[int]:
    """Yield at moments that no polling could guess."""
    for number in range(count):
        time.sleep(random.uniform(0.02, 0.06))
        yield number


# -- what is measured -------------------------------------------------------------------------------------------------


class Ring:
    """A server with the tables of one contender, who works there with some OS processes."""

    def __init__(self, contender: Contender, dsn: str, log: Path) -> None:
        self.contender = contender
        self.dsn = dsn
        self.log = log
        contender.prepare(dsn)

    @contextmanager
    def workers(self, count: int) -> Iterator[list[float]]:
        """Have workers ready; those leave when the block ends, and say how late their runs were."""
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.postgres", "work", self.contender.name, self.dsn]
        found = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]
        late: list[float] = []
        for worker in found:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in found:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        yield late
        for worker in found:
            said, _ = worker.communicate()
            late += json.loads(said.splitlines()[-1])

    def oneshots(self, schedulers: int) -> float:
        """Return runs per second."""
        count = self.contender.oneshots
        self.contender.file(self.dsn, count)
        with psycopg.connect(self.dsn, autocommit=True) as connection, self.workers(schedulers):
            began = time.perf_counter()
            while not self.contender.is_done(connection, count):
                time.sleep(0.02)
            return count / (time.perf_counter() - began)

    def wake_ups(self) -> list[float]:
        """Return how many milliseconds each run began after it was filed."""
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.postgres", "wake", self.contender.name, self.dsn]
        with self.workers(1) as late:
            time.sleep(3)  # until it is idle
            subprocess.run([*command, str(WAKE_UPS)], check=True)
            time.sleep(1)
        assert len(late) == WAKE_UPS
        return [1000 * seconds for seconds in late]

    def idle(self) -> float:
        """Return statements per second."""
        with psycopg.connect(self.dsn, autocommit=True) as connection, self.workers(1):
            time.sleep(5)  # until it is idle
            connection.execute("ALTER SYSTEM SET log_statement = 'all'")
            connection.execute("SELECT pg_reload_conf()")
            time.sleep(1)
            before = self._statements()
            time.sleep(IDLE)
            return (self._statements() - before) / IDLE

    def _statements(self) -> int:
        return len(re.findall(r"LOG:  (?:statement|execute )", self.log.read_text(errors="replace")))


@contextmanager
def ring(contender: Contender) -> Iterator[Ring]:
    """Start a server for one contender."""
    sys.path.insert(0, str(TESTS))
    from _postgres import find_binaries, start_server

    server = start_server(next(find_binaries()), durable=True)
    try:
        yield Ring(contender, server.dsn, server.folder / "log")
    finally:
        server.stop()


def measure(name: str) -> dict[str, list[float]]:
    """Take all figures of one contender once."""
    figures: dict[str, list[float]] = {}
    for schedulers in (1, 4):
        with ring(CONTENDERS[name]) as made:
            figures[f"runs/s, {schedulers} scheduler{'s' * (schedulers > 1)}"] = [made.oneshots(schedulers)]
    with ring(CONTENDERS[name]) as made:
        ordered = sorted(made.wake_ups())
        figures["wake-up p50, ms"] = [ordered[len(ordered) // 2]]
        figures["wake-up p99, ms"] = [ordered[len(ordered) * 99 // 100]]
        figures["idle, statements/s"] = [made.idle()]
    return figures


def main(words: Sequence[str]) -> None:
    """Measure all, or be one of the OS processes that are measured."""
    match words:
        case ["work", name, dsn]:
            CONTENDERS[name].work(dsn)
        case ["wake", name, dsn, count]:
            CONTENDERS[name].wake(dsn, int(count))
        case _:
            parser = argparse.ArgumentParser(
                prog="python -m benchmarks.postgres",
                description=__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} by default, two minutes each")
            measure_all(parser.parse_args(words).rounds)


def measure_all(rounds: int) -> None:
    """Take all figures of all contenders, in turn, so that both suffer what else the machine does."""
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            for figure, values in measure(name).items():
                figures[name].setdefault(figure, []).extend(values)
    report(figures)


def report(figures: dict[str, dict[str, list[float]]]) -> None:
    """Print medians, and the ratio of the two."""
    print(f"{'median':24}{''.join(f'{name:>16}' for name in figures)}{'ratio':>10}")
    for figure in next(iter(figures.values())):
        ours, theirs = (statistics.median(figures[name][figure]) for name in figures)
        print(f"{figure:24}{ours:16.2f}{theirs:16.2f}{ours / theirs if theirs else 0:10.2f}")


if __name__ == "__main__":
    # as a module that peers can import: what they run by name is in benchmarks.postgres, not in __main__
    from benchmarks import postgres

    postgres.main(sys.argv[1:])
