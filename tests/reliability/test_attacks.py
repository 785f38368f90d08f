"""Attacks on the guarantees: runs that never end, threads that die, starts that are half done, missed wishes."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from bgsched import (
    MemoryStore,
    OnAbandon,
    ProcessRegistry,
    Retry,
    Run,
    RunFinished,
    RunStatus,
    Scheduler,
    SQLiteStore,
    _reports,
    _worker,
    current_run,
)
from bgsched._current import CurrentRun, LiveRun, StopCause
from bgsched._lease import HEARTBEAT, LEASE
from bgsched._outcome import time_out
from bgsched._worker import execute
from bgsched.errors import StoreUnavailableError
from bgsched.request import Policies
from bgsched.stores import Store
from bgsched.testing import ManualClock
from bgsched.testing.contract import T0, make_request

PATIENCE = 30.0
SECOND = timedelta(seconds=1)


def registry_of(**functions: Any) -> ProcessRegistry:
    registry = ProcessRegistry()
    for name, function in functions.items():
        registry.process(name)(function)
    return registry


class Host:
    """A scheduler without threads, pass by pass: what it claimed waits until `work` executes it, as a worker does."""

    def __init__(self, store: Store, clock: ManualClock, **functions: Any) -> None:
        self.scheduler = Scheduler(store, processes=registry_of(**functions), clock=clock)
        self.scheduler.run_pending()
        assert self.scheduler._life.engine is not None
        self.engine = self.scheduler._life.engine
        self.claimed = self.scheduler._life.inline.claimed

    def work(self) -> None:
        while self.claimed:
            live = self.claimed.popleft()
            execute(live, self.scheduler._hooks)
            self.engine.ended(live)


@contextmanager
def running(store: Store | None = None, *, workers: int = 10, **functions: Any) -> Iterator[Scheduler]:
    """A scheduler on its thread, which at the end is not waited for: a run that never ends must not hang the test."""
    scheduler = Scheduler(store, processes=registry_of(**functions), workers=workers).start()
    try:
        yield scheduler
    finally:
        scheduler.shutdown(timeout=0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def until(condition: Callable[[], object]) -> None:
    """Return once *condition* holds; each look is a question to the store."""
    give_up = monotonic() + PATIENCE
    while not condition():
        if monotonic() > give_up:
            raise TimeoutError("it never came to that")


def statuses(store: Store) -> list[RunStatus]:
    return [run.status for run in Scheduler(store).monitor.runs()]


# -- a run that never ends -----------------------------------------------------------------------------------------


def test_what_a_fenced_scheduler_had_not_begun_waits_for_anyone(store: MemoryStore, clock: ManualClock) -> None:
    host = Host(store, clock, p=lambda: None)
    store.file([make_request("r")])
    host.engine.one_pass()
    clock.advance(LEASE)  # nobody took it for dead, but somebody might have
    host.engine.one_pass()
    host.work()
    for _ in range(3):
        host.engine.one_pass()
        host.work()
    host.engine.one_pass()
    assert statuses(store) == [RunStatus.SUCCESS]


def see(run: CurrentRun, how: str) -> str:
    """Look whether to stop, and stop as *how* says."""
    if how == "it raises":
        run.raise_if_killed()
    assert run.killed
    if how == "it fails":
        raise OSError("while it stopped")
    return "half of it"


@pytest.mark.parametrize("how", ["it raises", "it fails", "it returns"])
@pytest.mark.parametrize("on_abandon", OnAbandon)
@pytest.mark.parametrize("why", ["its scheduler was shut down", "its scheduler could not show in time that it lives"])
def test_a_run_that_stops_for_its_scheduler_alone_was_not_killed(
    store: MemoryStore, clock: ManualClock, why: str, how: str, on_abandon: OnAbandon
) -> None:
    """Nobody asked for it: it is no other end than that of one which does not look."""

    def work() -> str:
        if "shut down" in why:
            host.engine.stop_all(StopCause.SHUTDOWN)
        else:
            clock.advance(LEASE)
            host.engine.one_pass()
        return see(current_run(), how)

    host = Host(store, clock, p=work)
    host.scheduler.processes.get("p").policies = Policies(on_abandon=on_abandon, max_reruns=1, retry=Retry(attempts=3))
    store.file([make_request()])
    host.engine.one_pass()
    host.work()
    (run,) = host.engine.sign_off()
    if on_abandon is OnAbandon.RECORD:
        assert (run.status, run.reason) == (RunStatus.ABANDONED, f"{why} while it ran")
    else:
        assert (run.status, run.reason, run.reruns_left) == (RunStatus.WAITING, f"runs again: {why}", 1)
    error = run.attempts[0].error if run.attempts else run.error
    assert (error and error.type) == ("OSError" if how == "it fails" else None)
    assert host.scheduler.monitor.runs() == [run]


@pytest.mark.parametrize("reruns", [1, 3])
def test_attempts_that_were_cut_off_use_up_no_retry(store: MemoryStore, clock: ManualClock, reruns: int) -> None:
    def work() -> None:
        if current_run().attempt <= reruns:
            host.engine.stop_all(StopCause.SHUTDOWN)
            current_run().raise_if_killed()
        raise OSError

    host = Host(store, clock, p=work)
    retry = Retry(attempts=2, delay=10 * SECOND, backoff=2.0)
    host.scheduler.processes.get("p").policies = Policies(on_abandon=OnAbandon.RERUN, retry=retry)
    store.file([make_request("r")])
    for _ in range(reruns + 1):
        host.engine.one_pass()
        host.work()
    host.engine.report()
    (run,) = host.scheduler.monitor.runs()
    said = f"attempt {reruns + 1} of {reruns + 2} failed (OSError); the next one waits 0:00:10"
    assert (run.status, run.reason) == (RunStatus.WAITING, said)
    clock.advance(10)
    host.engine.one_pass()
    host.work()
    host.engine.report()
    assert statuses(store) == [RunStatus.ERROR]


def test_a_scheduler_that_was_taken_for_dead_has_workers_for_its_next_runs() -> None:
    store, begun, release, done = MemoryStore(), threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(PATIENCE)

    with running(store, workers=1, hang=hang, p=done.set) as scheduler:
        scheduler.run_now("hang")
        assert begun.wait(PATIENCE)
        with store.transaction() as tx:
            tx.delete_scheduler(store.reader().schedulers()[0].owner)
        scheduler._life.engine._lease.hurry()  # type: ignore[union-attr]  # it runs
        scheduler.run_now("p")
        assert done.wait(PATIENCE)
        release.set()


@pytest.mark.parametrize("where", ["begin", "surroundings", "end"])
def test_a_worker_outlives_what_is_raised_around_a_run(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise SystemExit("out of the blue")

    done = threading.Event()
    with running(workers=1, p=lambda: None, q=done.set) as scheduler:
        with monkeypatch.context() as patch:
            if where == "begin":
                patch.setattr(LiveRun, "begin", broken)
            elif where == "end":
                patch.setattr(_worker, "returned", broken)
            else:
                patch.setattr(_worker, "surroundings", broken)
            request = scheduler.run_now("p")
            until(lambda: [run for run in scheduler.monitor.runs(request=request.id) if not run.is_active])
        scheduler.run_now("q")
        assert done.wait(PATIENCE)
    assert not any(run.is_active for run in scheduler.monitor.runs())


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit("do not print me")


def test_an_exception_that_ends_the_world_when_it_is_printed() -> None:
    def fail() -> None:
        raise UnprintableError

    clock = ManualClock(T0)
    scheduler = Scheduler(processes=registry_of(p=fail), clock=clock)
    scheduler.run_now("p")
    scheduler.run_until_idle()
    assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.ERROR]


def test_an_async_run_that_is_killed_before_the_loop_takes_it() -> None:
    begun, release = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        release.wait(PATIENCE)

    async def p() -> None:
        pass

    with running(block=block, p=p) as scheduler:
        scheduler.run_now("block")
        assert begun.wait(PATIENCE)
        request = scheduler.run_now("p")
        until(lambda: len(scheduler._life.live_runs) == 2)
        scheduler.kill(scheduler.monitor.runs(request=request.id)[0].id)
        release.set()
        until(lambda: not scheduler.monitor.runs(request=request.id)[0].is_active)
        assert scheduler.monitor.runs(request=request.id)[0].status is RunStatus.KILLED


def test_a_run_that_comes_back_after_its_time_is_told_of_once(store: MemoryStore, clock: ManualClock) -> None:
    host = Host(store, clock, p=lambda: None)
    heard: list[Run] = []
    host.scheduler.on(RunFinished, lambda event: heard.append(event.run))
    store.file([make_request("r")])
    host.engine.one_pass()
    live = host.claimed.popleft()
    assert live.begin()
    assert time_out(live)
    for _ in ("its time is over", "its worker is back"):
        host.engine.ended(live)
        host.engine.report()
    host.scheduler._hooks.settle()
    assert [run.id for run in heard] == [live.run.id]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_run_that_was_deleted_hears_of_it_even_if_it_writes_nothing(
    store: MemoryStore, clock: ManualClock, where: str
) -> None:
    host = Host(store, clock, p=lambda: None)
    store.file([make_request("deleted"), make_request("kept")])
    host.engine.one_pass()
    deleted, kept = host.claimed
    assert deleted.begin()
    assert kept.begin()
    host.engine.report(finally_=True)
    if where == "here":
        host.scheduler.delete("deleted")
    else:
        store.delete("deleted")
        clock.advance(HEARTBEAT)
        host.engine.one_pass()
    assert (deleted.cause, kept.cause) == (StopCause.DELETED, None)


def test_a_kill_that_comes_while_an_attempt_fails_ends_the_run(store: MemoryStore, clock: ManualClock) -> None:
    host = Host(store, clock, p=lambda: 1 / 0)
    host.scheduler.processes.get("p").policies = Policies(retry=Retry(attempts=3, delay=timedelta(hours=1)))
    store.file([make_request("r")])
    host.engine.one_pass()
    (live,) = host.claimed
    store.kill(live.run.id, T0)
    host.work()
    host.engine.one_pass()
    assert statuses(store) == [RunStatus.KILLED]


# -- a thread that dies ----------------------------------------------------------------------------------------------


def test_the_thread_survives_what_is_no_exception_but_worse(store: MemoryStore) -> None:
    done, raised = threading.Event(), threading.Event()
    changes = store.changes

    class Panic(BaseException):
        """As bindings to Rust raise it."""

    def panic() -> Any:
        if not raised.is_set():
            raised.set()
            raise Panic
        return changes()

    with running(store, p=done.set) as scheduler:
        store.changes = panic  # type: ignore[method-assign]
        scheduler.run_now("p")
        assert done.wait(PATIENCE)
        assert scheduler.running


def test_a_thread_that_cannot_be_had_leaves_a_scheduler_that_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    scheduler = Scheduler(processes=registry_of(p=lambda: None))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            scheduler.start()
    assert not scheduler.running
    assert scheduler.monitor.schedulers() == []
    with scheduler:
        assert scheduler.running


def test_a_run_that_no_thread_could_be_had_for_starts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, refusals, started = [], iter([True, True]), threading.Event()
    start = threading.Thread.start

    def begin() -> None:
        starts.append(current_run().attempt)
        started.set()

    def refuse_at_first(thread: threading.Thread) -> None:
        if thread.name.startswith("bgsched-worker") and next(refusals, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_at_first)
    with running(p=begin) as scheduler:
        request = scheduler.run_now("p")
        assert started.wait(PATIENCE)
        until(lambda: not scheduler.monitor.runs(request=request.id)[0].is_active)
        scheduler.shutdown()
    assert starts == [1]


def test_an_answer_that_is_lost_at_the_start_leaves_nobody_signed_on(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "app.db")) as store:
        sign_on = store.sign_on

        def lost(record: Any) -> None:
            sign_on(record)
            raise StoreUnavailableError("the answer is lost")

        store.sign_on = lost  # type: ignore[method-assign]
        scheduler = Scheduler(store, processes=registry_of(p=lambda: None))
        with pytest.raises(StoreUnavailableError):
            scheduler.start()
        store.sign_on = sign_on  # type: ignore[method-assign]
        other = SQLiteStore(tmp_path / "app.db")
        other.reap(T0)
        assert other.reader().schedulers() == []
        other.close()


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("no log today")


@pytest.fixture
def raising_handler() -> Iterator[None]:
    handler = Raising()
    logging.getLogger("bgsched").addHandler(handler)
    yield
    logging.getLogger("bgsched").removeHandler(handler)


@pytest.mark.usefixtures("raising_handler")
def test_a_handler_that_raises_does_not_make_a_jump_of_the_clock_deadly(store: MemoryStore, clock: ManualClock) -> None:
    one, other = Host(store, clock, p=lambda: None), Host(store, clock, p=lambda: None)
    one.engine.one_pass()
    other.engine.one_pass()
    clock.jump(timedelta(hours=3))
    for _ in range(3):
        one.engine.one_pass()
    assert len(store.reader().schedulers()) == 2


@pytest.mark.usefixtures("raising_handler")
def test_a_handler_that_raises_does_not_keep_a_scheduler_dead(store: MemoryStore, clock: ManualClock) -> None:
    host = Host(store, clock, p=lambda: None)
    store.file([make_request("r")])
    host.engine.one_pass()
    with store.transaction() as tx:
        tx.delete_scheduler(host.engine.owner)
    clock.advance(6)
    host.engine.one_pass()
    host.work()
    host.engine.one_pass()
    assert len(store.reader().schedulers()) == 1


def test_a_follower_that_cannot_be_filed_holds_up_no_result(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise TypeError("needs params")

    host = Host(store, clock, p=lambda: None)
    host.scheduler.processes.process("q", after="p")(lambda: None)
    monkeypatch.setattr(_reports, "follow_up", broken)
    store.file([make_request("r")])
    host.engine.one_pass()
    host.work()
    host.engine.one_pass()
    assert statuses(store) == [RunStatus.SUCCESS]


# -- a wish that is missed ----------------------------------------------------------------------------------------


def test_a_new_connection_does_not_hide_what_others_filed(tmp_path: Path, clock: ManualClock) -> None:
    with closing(SQLiteStore(tmp_path / "app.db")) as store, closing(SQLiteStore(tmp_path / "app.db")) as other:
        scheduler = Scheduler(store, processes=registry_of(p=lambda: None), clock=clock)
        scheduler.run_pending()
        scheduler.run_pending()
        store._disconnect()
        other.file([make_request("r")])
        scheduler.run_pending()
        assert statuses(store) == [RunStatus.SUCCESS]
        scheduler.shutdown()


def test_two_readers_that_take_the_last_connection(tmp_path: Path) -> None:
    class Contested(list[sqlite3.Connection]):
        def __bool__(self) -> bool:
            return True

    with closing(SQLiteStore(tmp_path / "app.db")) as store:
        store._open.idle = Contested()
        assert store.reader().schedulers() == []


def test_what_waits_for_a_store_that_is_away_is_bounded(store: MemoryStore, clock: ManualClock) -> None:
    host = Host(store, clock, p=lambda: None)
    store.file([make_request("r")])
    host.engine.one_pass()
    (live,) = host.claimed
    live.begin()

    def refuse(*_: object, **__: object) -> list[Run]:
        raise StoreUnavailableError("away")

    store.record = refuse  # type: ignore[method-assign]
    for _ in range(200):
        for _ in range(100):
            live.log.write("INFO", "x", "y" * 100)
        clock.advance(0.3)
        with pytest.raises(StoreUnavailableError):
            host.engine.one_pass()
    kept = sum(len(unsent.log) for unsent in host.engine._reports._unsent.values())
    assert kept < 7000
