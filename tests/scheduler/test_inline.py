"""What is seen and heard of a run that has the only thread there is, in `run_pending`."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from scheduler._asked import PATIENCE, T0, runs_of, statuses

from bgsched import (
    CurrentRun,
    Event,
    Immediate,
    Monitor,
    Run,
    RunStatus,
    Scheduler,
    Store,
    StoreUnavailableError,
    current_run,
)
from bgsched._engine import Engine
from bgsched.clock import SystemClock
from bgsched.testing import ManualClock

LOOKS: dict[str, Callable[[CurrentRun], object]] = {
    "raise_if_killed": lambda run: run.raise_if_killed(),
    "track": lambda run: list(run.track(range(3))),
    "sleep": lambda run: run.sleep(PATIENCE),
}


@pytest.fixture
def monitor(store: Store, clock: ManualClock) -> Monitor:
    """What another thread, or another OS process, sees."""
    return Monitor(store, clock=clock)


@pytest.fixture
def takes_several(scheduler: Scheduler) -> None:
    """Let the scheduler know its runs as short, so that it claims several at once."""
    scheduler.process("short")(lambda: None)
    scheduler.run_now("short")
    scheduler.run_pending()


def test_it_runs_while_it_runs(scheduler: Scheduler, monitor: Monitor) -> None:
    seen: list[Any] = []
    scheduler.process("p")(lambda: seen.append((monitor.run(current_run().id), monitor.why(current_run().request_id))))
    scheduler.run_now("p")
    scheduler.run_pending()
    ((run, why),) = seen
    assert (run.status, run.started_at) == (RunStatus.RUNNING, T0)
    assert f"Run {run.id} has been running since" in why


@pytest.mark.usefixtures("takes_several")
def test_what_ended_before_it_is_stored_and_told_when_it_begins(scheduler: Scheduler, monitor: Monitor) -> None:
    seen: list[list[RunStatus]] = []
    told: list[str] = []
    scheduler.on(Event, lambda event: told.append(type(event).__name__))
    scheduler.process("p")(lambda: seen.append([run.status for run in monitor.runs("p")[::-1]]))
    scheduler.schedule_many([("p", Immediate(), None)] * 2)
    scheduler.run_pending()
    scheduler.shutdown()
    assert seen == [[RunStatus.RUNNING, RunStatus.WAITING], [RunStatus.SUCCESS, RunStatus.RUNNING]]
    assert told[2:] == ["RunStarted", "RunFinished"] * 2


@pytest.mark.parametrize("look", LOOKS)
def test_a_kill_from_elsewhere_is_heard_at_a_look(
    scheduler: Scheduler, store: Store, clock: ManualClock, look: str
) -> None:
    def work() -> None:
        run = current_run()
        Scheduler(store, clock=clock).kill(run.id)
        clock.advance(0.5)
        LOOKS[look](run)

    scheduler.process("p")(work)
    request = scheduler.run_now("p")
    scheduler.run_pending()
    assert [run.status for run in runs_of(scheduler, request.id)] == [RunStatus.KILLED]


def test_a_kill_is_heard_where_a_run_is_executed_elsewhere(store: Store) -> None:
    async def work() -> None:
        Scheduler(store).kill(current_run().id)
        await asyncio.sleep(PATIENCE)

    scheduler = Scheduler(store)
    scheduler.process("p")(work)
    request = scheduler.run_now("p")
    scheduler.run_pending()
    scheduler.shutdown()
    assert [run.status for run in runs_of(scheduler, request.id)] == [RunStatus.KILLED]


@pytest.mark.usefixtures("takes_several")
def test_a_kill_is_heard_of_a_run_that_waits_for_its_turn(
    scheduler: Scheduler, store: Store, clock: ManualClock
) -> None:
    begun: list[int] = []

    def first() -> None:
        Scheduler(store, clock=clock).kill(scheduler.monitor.runs(process="second")[0].id)
        clock.advance(0.5)

    scheduler.process("first", priority=1)(first)
    scheduler.process("second")(lambda: begun.append(1))
    scheduler.schedule_many([("first", Immediate(), None), ("second", Immediate(), None)])
    scheduler.run_pending()
    assert (begun, scheduler.monitor.runs(process="second")[0].status) == ([], RunStatus.KILLED)


def test_its_time_is_over_at_a_look(scheduler: Scheduler, monitor: Monitor, clock: ManualClock) -> None:
    seen: list[RunStatus] = []

    def work() -> None:
        run = current_run()
        clock.advance(6)
        assert run.killed
        seen.append(monitor.run(run.id).status)
        run.raise_if_killed()

    scheduler.process("p", timeout=timedelta(seconds=5))(work)
    request = scheduler.run_now("p")
    scheduler.run_pending()
    assert [*seen, runs_of(scheduler, request.id)[0].status] == [RunStatus.TIMED_OUT] * 2


def test_time_passes_while_it_sleeps(scheduler: Scheduler, clock: ManualClock) -> None:
    """It has the thread of the test, and nobody else moves the clock."""
    clock.advance(0.1)
    scheduler.process("naps")(lambda: current_run().sleep(0.2))  # 0.1 + 0.2 is more than 0.3
    scheduler.process("sleeps")(lambda: current_run().sleep(timedelta(minutes=10)))
    scheduler.process("too-long", timeout=timedelta(minutes=1))(lambda: current_run().sleep(timedelta(minutes=10)))
    for name in ("naps", "sleeps", "too-long"):
        scheduler.run_now(name)
        scheduler.run_until_idle()
    assert [(run.status, run.duration) for run in scheduler.monitor.runs()[::-1]] == [
        (RunStatus.SUCCESS, timedelta(seconds=0.2)),
        (RunStatus.SUCCESS, timedelta(minutes=10)),
        (RunStatus.TIMED_OUT, timedelta(minutes=1)),
    ]


def test_who_moves_the_clock_wakes_it_on_another_thread(
    scheduler: Scheduler, monitor: Monitor, clock: ManualClock
) -> None:
    scheduler.process("sleeps")(lambda: current_run().sleep(2))
    request = scheduler.run_now("sleeps")
    thread = threading.Thread(target=scheduler.run_pending, daemon=True)
    thread.start()
    for _ in range(4):
        clock.wait_for_waiters()
        assert monitor.runs(request=request.id)[0].status is RunStatus.RUNNING
        clock.advance(0.5)
    thread.join(PATIENCE)
    assert statuses(scheduler, request.id) == [RunStatus.SUCCESS]


def test_its_progress_its_log_and_its_scheduler_show_while_it_looks(
    scheduler: Scheduler, monitor: Monitor, clock: ManualClock
) -> None:
    seen: list[Any] = []

    def work() -> None:
        run = current_run()
        run.log.info("half way")
        clock.advance(10)
        run.progress(5, 10)
        (scheduler,) = monitor.schedulers()
        seen.extend([monitor.run(run.id).progress, monitor.log(run.id)[-1].text, scheduler.heartbeat_at])

    scheduler.process("p")(work)
    scheduler.run_now("p")
    scheduler.run_pending()
    assert (seen[0].done, seen[1], seen[2]) == (5, "half way", clock.now())


def test_what_is_said_of_it_is_not_in_its_log(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.process("p")(lambda: None)
    request = scheduler.run_now("p")
    monkeypatch.setattr(scheduler.store, "record", lambda _owner, _now, report, **_: list(report.runs))  # refuses all
    scheduler.run_pending()
    (run,) = runs_of(scheduler, request.id)
    assert f"run {run.id}: running was refused" in caplog.text
    monkeypatch.undo()
    assert scheduler.monitor.log(run.id) == []


class TestWhenItLooks:
    @pytest.fixture
    def attended(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The runs that have seen to their scheduler."""
        seen: list[int] = []
        attend = Engine.attend

        def counted(engine: Engine, live: Any) -> None:
            seen.append(live.run.id)
            attend(engine, live)

        monkeypatch.setattr(Engine, "attend", counted)
        return seen

    def test_not_at_each_look(self, scheduler: Scheduler, clock: ManualClock, attended: list[int]) -> None:
        def work() -> None:
            for _ in current_run().track(range(10)):
                clock.advance(0.25)

        scheduler.process("p")(work)
        scheduler.run_now("p")
        scheduler.run_pending()
        assert len(attended) == 1 + 5  # when it began, and each half second

    def test_seldom_where_the_store_is_slow(
        self, scheduler: Scheduler, clock: ManualClock, attended: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The process may itself hold what the store waits for: a transaction on the same SQLite file."""

        def refuse(*_: object, **__: object) -> None:
            clock.advance(5)
            raise StoreUnavailableError("locked")

        def work() -> str:
            monkeypatch.setattr(scheduler.store, "record", refuse)
            clock.advance(0.5)
            for done in range(10):
                current_run().progress(done)
            assert len(attended) == 2
            clock.advance(50)
            current_run().progress(10)
            assert len(attended) == 3
            monkeypatch.undo()
            return "all of it"

        scheduler.process("p")(work)
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert (run.status, run.result) == (RunStatus.SUCCESS, "all of it")

    @pytest.mark.usefixtures("takes_several")
    def test_what_the_store_does_not_take_is_raised_after_the_run_and_kept(
        self, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise StoreUnavailableError("away")

        scheduler.process("first", priority=1)(lambda: monkeypatch.setattr(scheduler.store, "record", refuse))
        for name in ("second", "third"):
            scheduler.process(name)(lambda: None)
        scheduler.schedule_many([(name, Immediate(), None) for name in ("first", "second", "third")])
        with pytest.raises(StoreUnavailableError):
            scheduler.run_pending()
        monkeypatch.undo()
        assert [run.status for run in scheduler.monitor.runs(process="third")] == [RunStatus.WAITING]
        scheduler.run_pending()
        assert {run.status for run in scheduler.monitor.runs()} == {RunStatus.SUCCESS}

    def test_never_within_a_pass_or_another_run(
        self, scheduler: Scheduler, clock: ManualClock, attended: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outer: list[CurrentRun] = []
        one_pass = Engine.one_pass

        def look() -> None:
            clock.advance(1)
            assert not any(run.killed for run in outer)

        def with_a_look(engine: Engine, limit: int | None = None) -> None:
            look()
            one_pass(engine, limit)

        def work() -> None:
            outer.append(current_run())
            scheduler.run_now("inner")
            scheduler.run_pending()
            look()

        monkeypatch.setattr(Engine, "one_pass", with_a_look)
        scheduler.process("outer")(work)
        scheduler.process("inner")(look)
        scheduler.run_now("outer")
        scheduler.run_pending()
        (first,), (second,) = scheduler.monitor.runs(process="outer"), scheduler.monitor.runs(process="inner")
        assert attended == [first.id, second.id, first.id]


class Frozen(SystemClock):
    """As where a host's tests freeze time: it stands still, and waiting takes its time all the same."""

    def monotonic(self) -> float:
        return 7.0


@pytest.mark.parametrize("threaded", [True, False])
def test_a_run_sleeps_no_longer_where_the_clock_stands_still(threaded: bool) -> None:  # noqa: FBT001  of the test
    scheduler, woke = Scheduler(clock=Frozen()), threading.Event()

    @scheduler.process("p")
    def p() -> None:
        current_run().sleep(0.001)
        woke.set()

    scheduler.run_now("p")
    if threaded:
        scheduler.start()
        assert woke.wait(PATIENCE)
    else:
        thread = threading.Thread(target=scheduler.run_pending, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert woke.is_set()
    scheduler.shutdown(timeout=PATIENCE)


@pytest.mark.usefixtures("takes_several")
def test_ctrl_c_as_a_run_begins_costs_no_run(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []

    @scheduler.process("p")
    def p(n: int) -> None:
        called.append(n)

    scheduler.schedule_many([("p", Immediate(), {"n": n}) for n in range(3)])
    attend, count = Engine.attend, iter(range(9))

    def interrupted(engine: Engine, live: Any) -> None:
        if next(count) == 1:
            raise KeyboardInterrupt
        attend(engine, live)

    monkeypatch.setattr(Engine, "attend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scheduler.run_pending()
    scheduler.run_until_idle()
    assert sorted(called) == [0, 1, 2]
    assert {run.status for run in scheduler.monitor.runs("p")} == {RunStatus.SUCCESS}


@pytest.mark.usefixtures("takes_several")
def test_what_waits_behind_a_long_run_is_put_back(scheduler: Scheduler, store: Store, clock: ManualClock) -> None:
    ran: list[str] = []
    other = Scheduler(store, clock=clock)

    def work(n: int) -> None:
        if n == 0:
            for _ in range(3):
                clock.advance(1)
                current_run().raise_if_killed()
            other.run_until_idle()
        ran.append(f"{n} {current_run().attempt}")

    for one in (scheduler, other):
        one.process("p")(work)
    for n in range(3):
        scheduler.schedule("p", Immediate(), {"n": n}, id=f"r{n}")
    scheduler.run_until_idle()
    other.shutdown()
    assert ran == ["1 2", "2 2", "0 1"]  # by the other, while the first one was at it


def test_a_shutdown_leaves_also_without_the_store(
    scheduler: Scheduler, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreUnavailableError("away")

    scheduler.process("p")(lambda: monkeypatch.setattr(store, "record", refuse))
    scheduler.run_now("p")
    with pytest.raises(StoreUnavailableError):
        scheduler.run_pending()
    monkeypatch.setattr(store, "sign_off", refuse)
    assert [run.status for run in scheduler.shutdown().left] == [RunStatus.SUCCESS]
    assert scheduler._life.engine is None


class TestAShutdownWithin:
    """It comes from a run, or from a signal handler on the thread of `run_pending`."""

    @pytest.fixture(autouse=True)
    def _three_due(self, takes_several: None, scheduler: Scheduler) -> None:
        self.called: list[int] = []

        @scheduler.process("p")
        def p(n: int) -> None:
            self.called.append(n)

        scheduler.schedule_many([("p", Immediate(), {"n": n}) for n in range(3)])

    @pytest.mark.parametrize("step", ["claim", "record"])
    def test_a_call_of_the_store_lets_it_leave_after_that(
        self, scheduler: Scheduler, monitor: Monitor, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        original, interrupts = getattr(scheduler.store, step), iter([True])

        def interrupted(*args: Any, **options: Any) -> Any:
            done = original(*args, **options)
            if next(interrupts, False):
                with monkeypatch.context() as within:
                    within.setattr(scheduler.store, "is_at_work", lambda: True)
                    scheduler.shutdown()
            return done

        monkeypatch.setattr(scheduler.store, step, interrupted)
        other = Scheduler(processes=scheduler.processes)
        scheduler.processes.attach(scheduler)
        scheduler.run_pending()
        assert scheduler.processes.filer("p") is other
        assert monitor.schedulers() == []
        assert len(self.called) < 3
        assert {run.status for run in monitor.runs("p")} <= {RunStatus.SUCCESS, RunStatus.WAITING}
        scheduler.run_until_idle()
        assert sorted(self.called) == [0, 1, 2]

    def test_a_run_reports_the_run_as_left(self, scheduler: Scheduler, monitor: Monitor) -> None:
        scheduler.process("leaver")(lambda: left.extend(scheduler.shutdown(wait=False).left))
        left: list[Run] = []
        scheduler.run_now("leaver")
        scheduler.run_pending()
        assert [(run.process, run.status) for run in left] == [("leaver", RunStatus.ABANDONED)]
        assert monitor.schedulers() == []
        scheduler.run_until_idle()
        assert sorted(self.called) == [0, 1, 2]
