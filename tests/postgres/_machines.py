"""What tests of a store on a server share: claims, loads, threads that begin together."""

import collections
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import psycopg

from bgsched import (
    Immediate,
    PostgresStore,
    RunStatus,
    Scheduler,
)
from bgsched.request import Policies
from bgsched.run import Run
from bgsched.stores.base import RunFilter, SchedulerRecord
from bgsched.testing.contract import T0, FixedPlanner

PATIENCE = 60.0  # seconds until what never comes fails a test
SECRET = "s3cret-pw"
SECOND = timedelta(seconds=1)


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again: other OS processes, and the server, send no signal when they are done."""
    give_up = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up, "it did not come"
        threading.Event().wait(0.02)


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Do *work* in *count* threads that begin together."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def claim(store: PostgresStore, owner: str, now: datetime = T0, limit: int = 100, **policies: Any) -> list[Run]:
    if not any(record.owner == owner for record in store.reader().schedulers()):
        store.sign_on(record_of(owner, now))
    return store.claim(FixedPlanner(Policies(**policies), owner=owner), owner, now, limit)


def succeeded(run: Run) -> Run:
    return run.started(T0).move(RunStatus.SUCCESS, finished_at=T0 + SECOND, duration=SECOND)


def record_of(owner: str, now: datetime = T0) -> SchedulerRecord:
    return SchedulerRecord(
        owner=owner, host="here", pid=1, started_at=now, heartbeat_at=now, lease_until=now + 15 * SECOND
    )


def as_role(dsn: str, role: str) -> str:
    return psycopg.conninfo.make_conninfo(dsn, user=role, password=SECRET)


class Load:
    """A scheduler with requests to run, and what came of them."""

    def __init__(self, store: PostgresStore, count: int) -> None:
        self.count = count
        self.began: collections.Counter[str] = collections.Counter()
        self.some = threading.Event()
        self.scheduler = Scheduler(store, workers=4)
        self.scheduler.process("work")(self._work)
        self.scheduler.schedule_many([("work", Immediate(), {"number": str(number)}) for number in range(count)])

    def _work(self, number: str) -> str:
        self.began[number] += 1
        if len(self.began) >= self.count // 4:
            self.some.set()
        return number

    def assert_each_ran_once(self, store: PostgresStore) -> None:
        statuses = frozenset({RunStatus.SUCCESS})
        wait_until(lambda: len(store.reader().runs(RunFilter(status=statuses, limit=self.count))) == self.count)
        assert set(self.began.values()) == {1}
        runs = store.reader().runs(RunFilter(limit=2 * self.count))
        assert {run.result for run in runs} == {str(number) for number in range(self.count)}
        assert len(runs) == self.count
        with store.reading() as talk:
            assert talk.ask(f"SELECT run_id FROM {store.schema}.log") == []  # no refused result
