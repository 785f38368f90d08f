"""An application for the tests of this folder: schedulers on one store, each as in an OS process of its own.

Tests are written once and hold on every store of `STORES` and whatever executes the runs, by `EXECUTORS`. To try them
on another kind of executor, add to `EXECUTORS` the options that make a `Scheduler` use it.

Time is a `ManualClock`; what the schedulers' threads and the processes do is awaited: by events (`Host.until`) and at a
`Door`. Nothing is looked at again and again.
"""

import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from behaviour import _work

from bgsched import (
    Event,
    Immediate,
    MemoryStore,
    Monitor,
    PostgresStore,
    ProcessPool,
    ProcessRegistry,
    Request,
    Run,
    RunRetried,
    RunStatus,
    Scheduler,
    SQLiteStore,
    Store,
)
from bgsched.testing import ManualClock

T0 = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = 20.0  # seconds until what never comes fails a test
T = TypeVar("T")


def _memory(_: pytest.FixtureRequest) -> Callable[[], Store]:
    shared = MemoryStore()
    return lambda: shared


def _sqlite(request: pytest.FixtureRequest) -> Callable[[], Store]:
    path: Path = request.getfixturevalue("tmp_path") / "app.db"
    return lambda: SQLiteStore(path)


def _postgres(request: pytest.FixtureRequest) -> Callable[[], Store]:
    dsn, schema = request.getfixturevalue("postgres_dsn"), request.getfixturevalue("postgres_tables")
    return lambda: PostgresStore(dsn, schema=schema)


STORES: dict[str, Callable[[pytest.FixtureRequest], Callable[[], Store]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgres": _postgres,
}
"""What opens the store of a test once more, as another OS process would."""

EXECUTORS: dict[str, Callable[[int], dict[str, Any]]] = {
    "threads": lambda workers: {"workers": workers},
    "process pool": lambda workers: {"executor": ProcessPool(workers, grace=timedelta(milliseconds=50))},
}
"""The options of a `Scheduler` that say what executes so many runs at once."""


class Visitor:
    """A process that waits at the door."""

    def __init__(self, talk: socket.socket) -> None:
        talk.settimeout(PATIENCE)
        self._talk = talk
        self.word = talk.makefile(encoding="utf-8").readline().strip()

    def let_on(self, answer: str = "on") -> None:
        """Let the process go on, with an answer."""
        self._talk.sendall(f"{answer}\n".encode())

    def leave(self) -> None:
        """Return once it has left the door, let on or dead."""
        assert self._talk.recv(1) == b""

    def close(self) -> None:
        self._talk.close()


class Door:
    """Where processes knock, from any thread and any OS process."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self._visitors: list[Visitor] = []
        self.port: int = self._listener.getsockname()[1]

    def next(self) -> Visitor:
        """Return the next process that knocks, and wait for it."""
        self._visitors.append(Visitor(self._listener.accept()[0]))
        return self._visitors[-1]

    def nobody_waits(self) -> bool:
        """Return whether nobody has knocked."""
        return not select.select([self._listener], [], [], 0)[0]

    def close(self) -> None:
        """Send home whoever waits."""
        self._listener.close()
        for visitor in self._visitors:
            visitor.close()


class Host:
    """Schedulers on one store. They know the same processes: `process` registers them."""

    def __init__(self, open_store: Callable[[], Store], executor: Callable[[int], dict[str, Any]]) -> None:
        self.clock = ManualClock(T0)
        self.processes = ProcessRegistry()
        self.door = Door()
        self.events: list[Event] = []
        self._open_store = open_store
        self._executor = executor
        self._heard = threading.Condition()
        self._end = ExitStack()
        self._schedulers: list[Scheduler] = []
        self.store = self._end.enter_context(_closing(open_store()))
        self.monitor = Monitor(self.store, clock=self.clock)

    def process(self, work: Callable[..., Any], name: str = "p", **options: Any) -> None:
        """Register *work*, for all schedulers."""
        self.processes.process(name, **options)(work)

    def scheduler(self, *, workers: int = 4, **options: Any) -> Scheduler:
        """Return another scheduler that was not started: it files, and what it runs it runs when it is told to."""
        store = self._end.enter_context(_closing(self._open_store())) if self._schedulers else self.store
        known = {"processes": self.processes, "clock": self.clock, **self._executor(workers), **options}
        scheduler = Scheduler(store, **known)
        scheduler.on(Event, self._hear)
        self._schedulers.append(scheduler)
        return scheduler

    def start(self, **options: Any) -> Scheduler:
        """Return another scheduler, started."""
        return self.scheduler(**options).start()

    def _hear(self, event: Event) -> None:
        with self._heard:
            self.events.append(event)
            self._heard.notify_all()

    def until(self, look: Callable[[], T | None], patience: float = PATIENCE) -> T:
        """Return what *look* returns once that is true; it is asked again after each event."""
        with self._heard:
            while not (answer := look()):
                assert self._heard.wait(patience), "nothing happens any more"
            return answer

    def end_of(self, what: Request | Run, patience: float = PATIENCE) -> Run:
        """Return the newest run of a request (no member's), or this run, when it has ended and that is stored."""

        def look() -> Run | None:
            runs = [self.monitor.run(what.id)] if isinstance(what, Run) else self.monitor.runs(request=what.id)
            run = next((run for run in runs if isinstance(what, Run) or run.parent_id is None), None)
            return None if run is None or run.is_active else run

        return self.until(look, patience)

    def tried(self, request: Request, attempts: int) -> Run:
        """Return the run of a request when so many attempts have failed and it waits for the next."""
        self.until(
            lambda: sum(isinstance(e, RunRetried) and e.run.request_id == request.id for e in self.events) >= attempts
        )
        (run,) = (run for run in self.monitor.runs(request=request.id) if run.attempts and run.owner is None)
        assert len(run.attempts) == attempts
        return run

    def run(self, process: str = "p", *, by: Scheduler | None = None, **params: Any) -> Run:
        """Run a process once, by the first scheduler or *by*; return its record when it has ended."""
        return self.end_of(self.file(process, by=by, **params))

    def file(self, process: str = "p", *, by: Scheduler | None = None, **params: Any) -> Request:
        """File a request for at once."""
        return (by or self._schedulers[0]).schedule(process, Immediate(), params)

    def at_the_door(self, process: str = "p", *, by: Scheduler | None = None, **params: Any) -> tuple[Run, Visitor]:
        """Run a process that knocks; return its record and the process, which waits."""
        request = self.file(process, by=by, port=self.door.port, **params)
        visitor = self.door.next()
        return self.monitor.runs(request=request.id)[0], visitor

    def die(self, scheduler: Scheduler) -> None:
        """Let others take a scheduler that is busy with a run for dead: its lease has run out, its locks are let go."""
        (record,) = (one for one in self.monitor.schedulers() if one.owner == scheduler._life.engine.owner)  # type: ignore[union-attr]  # it has one
        with scheduler.store.transaction() as tx:
            tx.put_scheduler(replace(record, lease_until=record.heartbeat_at - timedelta(seconds=1)))
        scheduler.store.let_go(record.owner)
        self.pass_time(20)  # who has just started believes no lease; the clock may have jumped

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in steps after each of which the schedulers' threads have done what was to be done."""
        while seconds > 0:
            self.settle()
            self.clock.advance(min(seconds, _STEP))
            seconds -= _STEP
        self.settle()

    def settle(self) -> None:
        """Return once the schedulers' threads have done what was to be done: what one has begun to claim is claimed."""
        running = sum(scheduler.running for scheduler in self._schedulers)
        self.clock.wait_for_waiters(running, within=_LONGEST_WAIT)

    def statuses(self, process: str = "p") -> list[RunStatus]:
        """Return the statuses of a process's runs, oldest first."""
        return [run.status for run in self.monitor.runs(process=process)[::-1]]

    def log_of(self, run: Run, level: str | None = None) -> list[str]:
        """Return the texts in a run log, of all levels or one."""
        lines = self.monitor.log(run.id, limit=100_000)
        return [line.text for line in lines if level in (None, line.level)]

    def close(self) -> None:
        """Send everybody home."""
        self.door.close()
        for scheduler in self._schedulers:
            scheduler.shutdown(timeout=0)
        self._end.close()


_STEP = 1.0  # well below a lease
_LONGEST_WAIT = 1.0  # a scheduler's thread waits no longer; the processes here that sleep do


@contextmanager
def _closing(store: Store) -> Iterator[Store]:
    yield store
    store.close()


def hosts(request: pytest.FixtureRequest, executor: str) -> Iterator[Host]:
    """Yield the host of a test."""
    host = Host(STORES[request.getfixturevalue("store_kind")](request), EXECUTORS[executor])
    yield host
    host.close()


def params_of_each_kind() -> Mapping[str, Any]:
    """Return params for `_work.kinds`."""
    from datetime import date
    from decimal import Decimal
    from uuid import UUID
    from zoneinfo import ZoneInfo

    return {
        "day": date(2026, 1, 31),
        "at": datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Madrid")),
        "span": timedelta(days=1, microseconds=1),
        "price": Decimal("10.50"),
        "mode": _work.Mode.SLOW,
        "key": UUID(int=7),
        "file": Path("/tmp/a b"),
        "period": _work.Period(date(2026, 1, 1), date(2026, 1, 31)),
        "options": {"day": date(2026, 1, 2)},
        "size": "m",
        "maybe": 3,
        "nested": {date(2026, 1, 1): [_work.Period(date(2026, 1, 1))]},
        "fee": Decimal("0.10"),
    }
