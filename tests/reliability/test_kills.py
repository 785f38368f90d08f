"""Four OS processes on one SQLite file, killed with SIGKILL again and again: each fire time has one record."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from bgsched import EverySeconds, Later, ProcessRegistry, Run, RunStatus, Schedule, Scheduler, SQLiteStore
from bgsched.run import Attempt  # noqa: TC001  beside the others
from bgsched.stores.base import RequestFilter, RunFilter
from bgsched.testing import ManualClock

HOST = Path(__file__).with_name("kill_host.py")
PATIENCE = 120.0
ALL = 100_000


class Hosts:
    """So many OS processes, each ended and replaced at will."""

    def __init__(self, database: Path, starts: Path, count: int) -> None:
        self._command = [sys.executable, str(HOST), str(database), str(starts)]
        self.owners: dict[int, str] = {}
        self.killed_at: dict[str, datetime] = {}
        self.processes = [self._start() for _ in range(count)]

    def wait_until_ready(self) -> None:
        for process in self.processes:
            self._wait_until_ready(process)

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    def _wait_until_ready(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        ready, self.owners[process.pid] = process.stdout.readline().split()
        assert ready == "ready"

    def kill(self, place: int) -> None:
        with self.processes[place] as process:
            process.kill()
        if process.pid in self.owners:
            self.killed_at[self.owners[process.pid]] = datetime.now(UTC)

    def replace(self, place: int) -> None:
        self.kill(place)
        self.processes[place] = self._start()
        self._wait_until_ready(self.processes[place])


@contextmanager
def hosts(database: Path, starts: Path, count: int) -> Iterator[Hosts]:
    running = Hosts(database, starts, count)
    try:
        running.wait_until_ready()
        yield running
    finally:
        for place in range(count):
            running.kill(place)


def file_requests(store: SQLiteStore, fire_times: int, span: float) -> None:
    """File two schedules and many one-shots, so that *fire_times* of them come within *span* seconds."""
    registry = ProcessRegistry()
    for name in ("record", "rerun"):
        registry.process(name)(lambda: None)
    host = Scheduler(store, processes=registry)
    now = datetime.now(UTC)
    each = fire_times // 4
    for name in ("record", "rerun"):
        step = max(0.1, span / each)
        host.schedule_many(
            [(name, Later(now + timedelta(seconds=1 + step * place)), None) for place in range(each)]
            + [
                (name, Schedule(EverySeconds(1), start=now + timedelta(seconds=2), repetitions=each // 10), None)
                for _ in range(10)
            ]
        )


def wait_until_all_ended(store: SQLiteStore) -> list[Run]:
    """Return all runs once there is nothing left to do; each look is a question to the store."""
    give_up = monotonic() + PATIENCE
    while monotonic() < give_up:
        pending = [request for request in store.reader().requests(RequestFilter(limit=ALL)) if request.due_at]
        runs = store.reader().runs(RunFilter(limit=ALL))  # after the requests: their last claims are among them
        if not pending and not any(run.is_active for run in runs):
            return runs
    raise TimeoutError("there are runs that nobody ends")


def how_late(runs: list[Run], killed_at: dict[str, datetime]) -> Iterator[float]:
    """Yield, for each attempt whose scheduler was killed, how many seconds later somebody ended it."""
    for run in runs:
        tries: list[Attempt | Run] = [*run.attempts, run]
        for one in tries:
            if one.owner in killed_at and one.status is RunStatus.ABANDONED and one.finished_at is not None:
                yield (one.finished_at - killed_at[one.owner]).total_seconds()


def kill_and_count(folder: Path, *, fire_times: int, kills: int, span: float, seed: int) -> None:
    chance = random.Random(seed)
    store = SQLiteStore(folder / "app.db", timeout=60)
    file_requests(store, fire_times, span)
    with hosts(folder / "app.db", folder / "starts", 4) as running:
        for _ in range(kills):
            running.replace(chance.randrange(4))
        runs = wait_until_all_ended(store)
    starts = Counter(line for line in (folder / "starts").read_text().splitlines())
    doubled = [start for start, count in starts.items() if count > 1]
    recorded = {str(run.id) for run in runs if run.process == "record"}
    restarted = Counter(start.split()[0] for start in starts if start.split()[0] in recorded)
    statuses = Counter((run.process, run.status.value) for run in runs)
    late = sorted(how_late(runs, running.killed_at)) or [0.0]
    print(f"\n{len(late)} attempts closed {late[len(late) // 2]:.3f} s (median), {late[-1]:.3f} s (most) after a kill")  # noqa: T201  figures, with -s
    print(f"{sum(run.fire_count for run in runs)} fire times, {kills} kills, {len(starts)} starts, {dict(statuses)}")  # noqa: T201  likewise
    assert sum(run.fire_count for run in runs) == fire_times
    assert len({(run.request_id, run.revision, run.fire_time) for run in runs}) == len(runs)
    assert doubled == []
    assert [run_id for run_id, count in restarted.items() if count > 1] == []
    assert not [run for run in runs if run.process == "rerun" and run.status is RunStatus.ABANDONED]
    assert store.reader().schedulers() == [] or not [run for run in runs if run.is_active]
    store.close()


def test_killing_hosts_loses_and_doubles_nothing(tmp_path: Path) -> None:
    kill_and_count(tmp_path, fire_times=200, kills=12, span=4, seed=1)


@pytest.mark.slow
def test_two_hundred_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    kill_and_count(tmp_path, fire_times=1000, kills=200, span=60, seed=2)


def test_the_death_of_a_host_is_noticed_at_the_next_look(tmp_path: Path) -> None:
    """The kernel lets go of a lock with the OS process that held it; who lives looks every second, once is enough."""
    store, clock = SQLiteStore(tmp_path / "app.db"), ManualClock(datetime.now(UTC))
    registry = ProcessRegistry()
    registry.process("record")(lambda: None)
    witness = Scheduler(store, processes=registry, clock=clock)
    witness.run_pending()
    file_requests(store, 40, 1)
    with hosts(tmp_path / "app.db", tmp_path / "starts", 1) as running:
        give_up = monotonic() + PATIENCE
        while not (held := store.reader().runs(RunFilter(status=frozenset({RunStatus.RUNNING})))):
            assert monotonic() < give_up
        running.kill(0)
    engine = witness._life.engine
    assert engine is not None
    assert store.look_every <= 1
    assert engine.longest_wait() <= 1
    clock.advance(store.look_every)
    witness.pause()
    witness.run_pending()
    assert [record.owner for record in store.reader().schedulers()] == [engine.owner]
    left = [run for run in store.reader().runs(RunFilter(limit=ALL)) if run.is_active]
    assert not {run.id for run in left if run.owner is not None or run.process == "record"} & {run.id for run in held}
    assert all(run.owner is None for run in left)
    witness.shutdown()
    store.close()
