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
from bgsched.stores.base import RequestFilter, RunFilter

HOST = Path(__file__).with_name("kill_host.py")
PATIENCE = 120.0
ALL = 100_000


class Hosts:
    """So many OS processes, each ended and replaced at will."""

    def __init__(self, database: Path, starts: Path, count: int) -> None:
        self._command = [sys.executable, str(HOST), str(database), str(starts)]
        self.processes = [self._start() for _ in range(count)]

    def wait_until_ready(self) -> None:
        for process in self.processes:
            self._wait_until_ready(process)

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def _wait_until_ready(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def kill(self, place: int) -> None:
        with self.processes[place] as process:
            process.kill()

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
        runs = store.reader().runs(RunFilter(limit=ALL))
        pending = [request for request in store.reader().requests(RequestFilter(limit=ALL)) if request.due_at]
        if not pending and not any(run.is_active for run in runs):
            return runs
    raise TimeoutError("there are runs that nobody ends")


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
    print(f"\n{sum(run.fire_count for run in runs)} fire times, {kills} kills, {len(starts)} starts, {dict(statuses)}")  # noqa: T201  figures, with -s
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


def test_the_death_of_a_host_is_noticed_at_once(tmp_path: Path) -> None:
    """The next look of anyone alive ends its runs: that is at most a second away; here, one pass after the other."""
    store = SQLiteStore(tmp_path / "app.db")
    registry = ProcessRegistry()
    registry.process("record")(lambda: None)
    witness = Scheduler(store, processes=registry)
    witness.run_pending()
    file_requests(store, 40, 1)
    with hosts(tmp_path / "app.db", tmp_path / "starts", 1) as running:
        held: list[Run] = []
        give_up = monotonic() + PATIENCE
        while not held and monotonic() < give_up:
            held = [run for run in store.reader().runs(RunFilter(limit=ALL)) if run.status is RunStatus.RUNNING]
        running.kill(0)
        killed_at = monotonic()
        while monotonic() < give_up:
            witness.run_pending()
            left = store.reader().schedulers()
            if [record.owner for record in left] == [witness._engine.owner]:  # type: ignore[union-attr]
                break
        assert monotonic() - killed_at < 10  # a second, on a machine that does nothing else
    runs = {run.id: run for run in store.reader().runs(RunFilter(limit=ALL))}
    assert all(not runs[run.id].is_active or runs[run.id].owner is None or run.process == "rerun" for run in held)
    witness.shutdown()
    store.close()
