"""The thread of a started scheduler: how it starts, goes on, stops, and leaves with its host."""

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import Mock

import pytest
from scheduler._asked import PATIENCE, runs_of, statuses

from bgsched import (
    Immediate,
    MemoryStore,
    Overlap,
    ProcessRegistry,
    RequestStatus,
    RunFinished,
    RunStatus,
    Scheduler,
    SchedulerStateError,
    Store,
    StoreUnavailableError,
    current_run,
)
from bgsched._current import LiveRun
from bgsched._loop import Loop
from bgsched.clock import Signal, SystemClock, deadline_in
from bgsched.stores.base import SchedulerRecord
from bgsched.testing import ManualClock

T = TypeVar("T")


def in_time(ask: Callable[[], T]) -> T:
    """Return what *ask* returns, which it does on a thread of its own, in time."""
    answers: list[T] = []
    asker = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    asker.start()
    asker.join(PATIENCE)
    assert answers, "it does not come back"
    return answers[0]


def test_a_run_does_not_start_the_scheduler_that_executes_it_inline(scheduler: Scheduler) -> None:
    """It would be recorded as abandoned, and whoever waits in `run_pending` would wait for ever."""
    scheduler.process("p")(scheduler.start)
    request = scheduler.run_now("p")
    scheduler.run_until_idle()
    (run,) = runs_of(scheduler, request.id)
    assert run.error is not None
    assert run.error.message == f"run {run.id} goes on in run_pending(), so its scheduler cannot start before it ends"
    assert not scheduler.running


def test_a_run_may_end_another_scheduler_that_has_a_run_of_the_same_number(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, began, end = Scheduler(MemoryStore()), threading.Event(), threading.Event()

    @other.process
    def work() -> None:
        began.set()
        end.wait(PATIENCE)

    monkeypatch.setattr(other.store, "is_at_work", end.set)  # asked when the shutdown is under way
    scheduler.process("end")(lambda: other.shutdown().clean)
    with other:
        other.run_now(work)
        assert began.wait(PATIENCE)
        request = scheduler.run_now("end")
        scheduler.run_until_idle()
        end.set()
    (run,) = runs_of(scheduler, request.id)
    assert (run.id, run.result) == (other.monitor.runs()[0].id, True)


class TestThread:
    """With the scheduler's own thread; every wait is for a signal."""

    @pytest.fixture
    def scheduler(self, store: Store) -> Iterator[Scheduler]:
        scheduler = Scheduler(store)
        yield scheduler
        scheduler.shutdown(timeout=5)

    @pytest.mark.parametrize("timeout", [math.inf, 10**400])
    def test_a_shutdown_may_have_all_time_there_is(self, scheduler: Scheduler, timeout: float) -> None:
        assert scheduler.start().shutdown(timeout=timeout).clean

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_shutdown_comes_back_even_if_its_clock_cannot_wait(self, store: Store) -> None:
        class Stuck(SystemClock):
            def wait(self, signal: Signal, timeout: float) -> None:
                raise RuntimeError(f"no time for {signal} and {timeout}")

        scheduler = Scheduler(store, clock=Stuck())
        stopper = threading.Thread(target=scheduler.start().shutdown, daemon=True)
        stopper.start()
        stopper.join(PATIENCE)
        assert not stopper.is_alive()

    def test_a_shutdown_takes_real_time_while_the_clock_stands_still(self, store: Store) -> None:
        scheduler = Scheduler(store, clock=ManualClock())
        began, release = threading.Event(), threading.Event()

        def hang() -> None:
            began.set()
            release.wait(PATIENCE)

        scheduler.process("hang")(hang)
        scheduler.start().run_now("hang")
        assert began.wait(PATIENCE)
        (left,) = in_time(lambda: scheduler.shutdown(timeout=0.01)).left
        release.set()
        assert (left.process, left.status) == ("hang", RunStatus.ABANDONED)

    def test_a_shutdown_gives_up_on_a_store_that_does_not_listen_while_the_clock_stands_still(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise StoreUnavailableError("away")

        scheduler = Scheduler(store, clock=ManualClock()).start()
        monkeypatch.setattr(store, "sign_off", refuse)
        assert in_time(lambda: scheduler.shutdown(timeout=0.01)).clean
        assert not scheduler.running

    def test_a_shutdown_says_what_it_could_not_tell_the_store(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise StoreUnavailableError("away")

        def work() -> str:
            for method in ("record", "sign_off"):
                monkeypatch.setattr(store, method, refuse)
            return "done"

        def came_home(live: LiveRun) -> None:
            hear(live)
            ended.set()

        scheduler = Scheduler(store, clock=ManualClock())
        hear, ended = scheduler._life._came_home, threading.Event()
        scheduler.process("p")(work)
        scheduler.start()
        monkeypatch.setattr(scheduler._life.crew, "_done", came_home)
        scheduler.run_now("p")
        assert ended.wait(PATIENCE)
        report = in_time(lambda: scheduler.shutdown(timeout=0.01))
        assert [(run.process, run.status, run.result) for run in report.left] == [("p", RunStatus.SUCCESS, "done")]
        assert not report.clean

    def test_it_waits_for_nothing_once_it_may_leave(self) -> None:
        engine = Mock(busy=True, problem=None, live=[])

        def one_pass() -> None:  # the last run ends and is reported in it, and calls for no other
            engine.busy = False

        engine.one_pass, engine.longest_wait = one_pass, lambda: 1.0
        loop = Loop(engine, ManualClock(), Signal())
        loop.tell(math.inf)
        loop.start()
        assert loop._over.wait(PATIENCE)

    def test_it_runs_what_is_filed(self, scheduler: Scheduler) -> None:
        done = threading.Event()
        scheduler.process("p")(done.set)
        with scheduler:
            scheduler.run_now("p")
            assert done.wait(PATIENCE)
        assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.SUCCESS]
        assert not scheduler.running

    def test_starting_twice_is_once_and_it_can_start_again(self, scheduler: Scheduler) -> None:
        assert scheduler.start() is scheduler.start()
        assert len(scheduler.monitor.schedulers()) == 1
        scheduler.shutdown()
        scheduler.shutdown()
        assert scheduler.monitor.schedulers() == []
        done = threading.Event()
        scheduler.process("p")(done.set)
        with scheduler:
            scheduler.run_now("p")
            assert done.wait(PATIENCE)

    def test_a_run_that_ends_before_start_returns_is_heard_of(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = Scheduler(store, clock=ManualClock())  # no time passes: nothing is reported by and by
        ended, began = threading.Event(), threading.Event()
        scheduler.process("p")(began.set)
        scheduler.on(RunFinished, lambda _: ended.set())
        scheduler.run_now("p")
        start = Loop.start

        def start_and_wait(loop: Loop) -> None:
            start(loop)
            assert ended.wait(PATIENCE)

        monkeypatch.setattr(Loop, "start", start_and_wait)
        with scheduler:
            assert began.is_set()
        assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.SUCCESS]

    def test_shutting_down_waits_for_what_runs(self, scheduler: Scheduler) -> None:
        started, release = threading.Event(), threading.Event()

        def work() -> str:
            started.set()
            release.wait(PATIENCE)
            return "done"

        scheduler.process("p")(work)
        scheduler.start()
        scheduler.run_now("p")
        assert started.wait(PATIENCE)
        stopper = threading.Thread(target=scheduler.shutdown)
        stopper.start()
        release.set()
        stopper.join(PATIENCE)
        assert [run.result for run in scheduler.monitor.runs()] == ["done"]

    def test_shutting_down_in_a_hurry_reports_what_is_left(self, scheduler: Scheduler) -> None:
        started, release = threading.Event(), threading.Event()

        def work() -> None:
            started.set()
            release.wait(PATIENCE)

        scheduler.process("p")(work)
        scheduler.start()
        request = scheduler.run_now("p")
        assert started.wait(PATIENCE)
        report = scheduler.shutdown(timeout=0)
        release.set()
        assert [run.request_id for run in report.left] == [request.id]
        assert statuses(scheduler, request.id) == [RunStatus.ABANDONED]

    def test_a_kill_reaches_a_process_that_looks(self, scheduler: Scheduler) -> None:
        started = threading.Event()
        ended = threading.Event()

        def work() -> None:
            started.set()
            try:
                current_run().sleep(PATIENCE)
            finally:
                ended.set()

        scheduler.process("p")(work)
        with scheduler:
            request = scheduler.run_now("p")
            assert started.wait(PATIENCE)
            (run,) = runs_of(scheduler, request.id)
            scheduler.kill(run.id)
            assert ended.wait(PATIENCE)
        (run,) = runs_of(scheduler, request.id)
        assert run.status is RunStatus.KILLED
        assert run.kill_asked_at is not None

    def test_a_run_that_takes_too_long_is_timed_out_and_another_thread_takes_its_place(self, store: Store) -> None:
        started, release, other = threading.Event(), threading.Event(), threading.Event()

        def hang() -> None:
            started.set()
            release.wait(PATIENCE)

        scheduler = Scheduler(store, workers=1)
        scheduler.process("hang", timeout=timedelta(milliseconds=50))(hang)
        scheduler.process("other")(other.set)
        with scheduler:
            request = scheduler.run_now("hang")
            assert started.wait(PATIENCE)
            scheduler.run_now("other")
            assert other.wait(PATIENCE)
            release.set()
        (run,) = runs_of(scheduler, request.id)
        assert run.status is RunStatus.TIMED_OUT
        assert "release.wait" in "".join(line.text for line in scheduler.monitor.log(run.id))

    def test_pausing_runs_nothing_until_it_resumes(self, scheduler: Scheduler) -> None:
        done = threading.Event()
        scheduler.process("p")(done.set)
        scheduler.pause()
        with scheduler:
            request = scheduler.run_now("p")
            assert scheduler.monitor.request(request.id).status is RequestStatus.SCHEDULED
            assert runs_of(scheduler, request.id) == []
            scheduler.resume()
            assert done.wait(PATIENCE)

    def test_a_pause_while_it_starts_holds(self, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
        sign_on = scheduler.store.sign_on

        def paused_meanwhile(record: SchedulerRecord) -> None:
            sign_on(record)
            scheduler.pause()

        monkeypatch.setattr(scheduler.store, "sign_on", paused_meanwhile)
        with scheduler:
            assert scheduler.paused
            assert scheduler._life.engine is not None
            assert scheduler._life.engine.paused

    def test_a_run_that_is_waited_for_cannot_call_run_pending(self, scheduler: Scheduler) -> None:
        async def impatient() -> None:
            scheduler.run_pending()

        scheduler.process("impatient")(impatient)
        scheduler.run_now("impatient")
        scheduler.run_pending()
        (run,) = scheduler.monitor.runs()
        assert run.error is not None
        assert (run.error.type, run.error.message) == (
            "SchedulerStateError",
            f"run {run.id} is waited for meanwhile, so it cannot call run_pending()",
        )

    def test_run_pending_is_for_a_scheduler_without_a_thread(self, scheduler: Scheduler) -> None:
        with scheduler, pytest.raises(SchedulerStateError, match="own thread"):
            scheduler.run_pending()

    def test_two_schedulers_share_the_work(self, store: Store) -> None:
        registry = ProcessRegistry()
        both = threading.Barrier(2)
        registry.process("p", overlap=Overlap.ALLOW)(lambda: both.wait(PATIENCE))
        first = Scheduler(store, processes=registry, workers=1)
        second = Scheduler(store, processes=registry, workers=1)
        with first, second:
            first.run_now("p")
            second.run_now("p")
            while any(run.is_active for run in first.monitor.runs()) or len(first.monitor.runs()) < 2:
                threading.Event().wait(0.01)
        runs = first.monitor.runs()
        assert [run.status for run in runs] == [RunStatus.SUCCESS] * 2
        assert len({run.owner for run in runs}) == 2

    def test_it_survives_a_store_that_fails(self, store: Store, caplog: pytest.LogCaptureFixture) -> None:
        class Flaky:
            fails = 3

        claim = store.claim

        def flaky(*args: Any, **named: Any) -> Any:
            if Flaky.fails:
                Flaky.fails -= 1
                raise StoreUnavailableError("the disk is on fire")
            return claim(*args, **named)

        store.claim = flaky  # type: ignore[method-assign]
        done = threading.Event()
        scheduler = Scheduler(store)
        scheduler.process("p")(done.set)
        with scheduler:
            scheduler.run_now("p")
            assert done.wait(PATIENCE)
        assert sum("the disk is on fire" in record.getMessage() for record in caplog.records) == 1


class TestExit:
    """What a program that ends too early is told."""

    SCRIPT = """
from bgsched import EverySeconds, Immediate, Schedule, Scheduler
scheduler = Scheduler({store!r})
scheduler.process("hello")(lambda: None)
scheduler.process("beat", timing=Schedule(EverySeconds(1)))(lambda: None)
{how}
"""

    @pytest.mark.parametrize(
        "how",
        [
            "scheduler.schedule('hello', Immediate())",
            "scheduler.start().pause(); scheduler.schedule('hello', Immediate())",
            "import os; scheduler.schedule('hello', Immediate()); os.fork() and os.wait()",
        ],
        ids=["never started", "ended before it ran", "not once more in a forked child"],
    )
    @pytest.mark.parametrize(("store", "told"), [("memory://", 1), ("sqlite:///app.db", 0)])
    def test_a_request_that_is_forgotten_is_named(self, tmp_path: Path, how: str, store: str, told: int) -> None:
        done = subprocess.run(
            [sys.executable, "-c", self.SCRIPT.format(store=store, how=how)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == ""
        assert done.stderr.count("of process 'hello' was due, has not run, and is forgotten") == told
        assert len(done.stderr.splitlines()) == told


class TestAsync:
    def test_an_async_process_runs(self, scheduler: Scheduler) -> None:
        @scheduler.process("p")
        async def work(n: int) -> int:
            return n + 1

        request = scheduler.schedule(work, Immediate(), {"n": 1})
        scheduler.run_pending()
        assert runs_of(scheduler, request.id)[0].result == 2


def test_others_see_at_once_that_trouble_is_over(scheduler: Scheduler) -> None:
    scheduler.run_pending()
    engine = scheduler._life.engine
    assert engine is not None
    seen = []
    for problem in ("the disk is full", None):
        engine.problem = problem
        engine.one_pass()
        seen.append(scheduler.monitor.schedulers()[0].problem)
    assert seen == ["the disk is full", None]


@pytest.mark.parametrize("error", [StoreUnavailableError("no disk"), KeyError(1)])
def test_trouble_is_logged_once_with_a_traceback_where_nobody_foresaw_it(
    scheduler: Scheduler, clock: ManualClock, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse() -> Any:
        raise error

    scheduler.process("p")(lambda: None)
    with scheduler, pytest.MonkeyPatch.context() as patch:
        clock.wait_for_waiters()
        patch.setattr(scheduler.store, "changes", refuse)
        for _ in range(3):
            clock.advance(2)
            clock.wait_for_waiters()
    told = [record for record in caplog.records if "cannot work and tries again" in record.message]
    assert [record.exc_info is not None for record in told] == [isinstance(error, KeyError)]


def test_others_see_it_with_the_pass_that_goes_well(scheduler: Scheduler, clock: ManualClock) -> None:
    def refuse() -> Any:
        raise StoreUnavailableError("the disk is full")

    scheduler.process("p")(lambda: None)
    with scheduler, pytest.MonkeyPatch.context() as patch:
        clock.wait_for_waiters()
        patch.setattr(scheduler.store, "changes", refuse)
        for _ in range(2):
            clock.advance(1)
            clock.wait_for_waiters()
        assert "the disk is full" in (scheduler.monitor.schedulers()[0].problem or "")
        patch.undo()
        clock.advance(2)
        clock.wait_for_waiters()
        assert scheduler.monitor.schedulers()[0].problem is None


def test_a_run_is_ended_in_time_while_the_store_is_away() -> None:
    """However long a scheduler waits between its tries by then."""
    engine, clock = Mock(busy=True, problem=None), ManualClock()
    engine.one_pass.side_effect = StoreUnavailableError("away")
    engine.time_left.return_value = 3.0
    engine.sign_off.return_value = []
    loop = Loop(engine, clock, Signal())
    loop.start()
    for _ in range(8):
        clock.wait_for_waiters(within=3)
        clock.advance(3)
    loop.tell(deadline_in(0))
    assert loop._over.wait(PATIENCE)
