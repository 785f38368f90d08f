"""How a process runs: overlap, retry, timeout, kill, async, hooks, bounds, and what misbehaves."""

import asyncio
import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bgsched import (
    CurrentRun,
    Event,
    EveryMinutes,
    Immediate,
    MemoryStore,
    NoCurrentRunError,
    Overlap,
    ProcessRegistry,
    RequestScheduled,
    RequestStatus,
    RequestUnscheduled,
    Retry,
    Run,
    RunFinished,
    RunKilled,
    RunRetried,
    RunStarted,
    RunStatus,
    Schedule,
    Scheduler,
    SchedulerStateError,
    SQLiteStore,
    Store,
    current_run,
)
from bgsched.testing import ManualClock

T0 = datetime(2026, 1, 1, tzinfo=UTC)
S = RunStatus
PATIENCE = 20.0  # seconds until a signal that never comes fails a test


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "app.db")
    yield store
    store.close()


@pytest.fixture
def scheduler(store: Store, clock: ManualClock) -> Iterator[Scheduler]:
    """A scheduler that runs what the test lets it run."""
    scheduler = Scheduler(store, clock=clock)
    yield scheduler
    scheduler.shutdown(timeout=0)


@pytest.fixture
def live(store: Store) -> Iterator[Scheduler]:
    """A scheduler with a thread of its own, started by the test."""
    scheduler = Scheduler(store)
    yield scheduler
    scheduler.shutdown(timeout=2)


def eventually(true: Callable[[], Any]) -> Any:
    """Return what *true* returns once it is true, in real time: for what another thread stores."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if answer := true():
            return answer
        pause.wait(0.01)
    raise AssertionError("it did not become true")


def ended(scheduler: Scheduler, process: str = "p") -> Run:
    """Return the newest run of a process once it has ended."""

    def look() -> Run | None:
        runs = scheduler.monitor.runs(process=process)
        return runs[0] if runs and not runs[0].is_active else None

    run: Run = eventually(look)
    return run


def only_run(scheduler: Scheduler, work: Callable[..., Any], **options: Any) -> Run:
    """Run *work* as process ``p``; return its record."""
    scheduler.process("p", **options)(work)
    scheduler.run_now("p")
    scheduler.run_pending()
    return scheduler.monitor.runs(process="p")[0]


def log_of(scheduler: Scheduler, run: Run) -> str:
    return "\n".join(line.text for line in scheduler.monitor.log(run.id, limit=10_000))


class TestCurrentRun:
    def test_it_knows_its_run(self, scheduler: Scheduler) -> None:
        def work() -> list[Any]:
            run = current_run()
            return [run.id, run.fire_time, run.attempt, run.user, run.channel, run.parent_id, list(run.fence)]

        scheduler.process("p")(work)
        scheduler.run_now("p", user="ann", channel="dashboard")
        scheduler.run_pending()
        (run,) = scheduler.monitor.runs()
        assert run.result == [run.id, T0.isoformat(), 1, "ann", "dashboard", None, [run.id, 1]]

    def test_sleep_takes_a_timedelta_or_seconds_and_wakes_on_kill(self, live: Scheduler) -> None:
        started = threading.Event()

        def work() -> None:
            current_run().sleep(0)
            current_run().sleep(timedelta(microseconds=1))
            started.set()
            current_run().sleep(timedelta(hours=1))

        live.process("p")(work)
        with live:
            live.run_now("p")
            assert started.wait(PATIENCE)
            live.kill(live.monitor.running()[0].id if live.monitor.running() else live.monitor.runs()[0].id)
            assert ended(live).status is S.KILLED

    def test_a_thread_can_be_carried_into_the_run(self, scheduler: Scheduler) -> None:
        seen: list[Any] = []

        def child(n: int) -> None:
            seen.append(current_run().id)
            logging.getLogger("child").warning("from child %s", n)

        def stranger() -> None:
            seen.append(current_run(default=None))

        def work() -> None:
            threads = [threading.Thread(target=current_run().carry(child), args=(n,)) for n in range(2)]
            if sys.version_info < (3, 14):
                threads.append(threading.Thread(target=stranger))
            for thread in threads:
                thread.start()
                thread.join()

        run = only_run(scheduler, work)
        assert seen[:2] == [run.id] * 2
        assert seen[2:] in ([None], [])
        assert "from child 1" in log_of(scheduler, run)

    def test_outside_a_run_it_raises(self) -> None:
        with pytest.raises(NoCurrentRunError, match=r"current_run\(default=None\)"):
            current_run()

    def test_progress_is_checked_where_it_is_said(self, scheduler: Scheduler) -> None:
        run = only_run(scheduler, lambda: current_run().progress(-1))
        assert run.error is not None
        assert run.error.message == "done must be a whole number from 0, got -1"

    def test_track_counts_what_has_no_length_too(self, scheduler: Scheduler) -> None:
        run = only_run(scheduler, lambda: list(current_run().track(iter("abc"))))
        assert run.progress is not None
        assert (run.progress.done, run.progress.total, run.result) == (3, None, ["a", "b", "c"])


class TestOverlap:
    """Two schedulers on one store: the rule holds across them."""

    @pytest.fixture
    def pair(self, store: Store, clock: ManualClock) -> Iterator[tuple[Scheduler, Scheduler]]:
        pair = Scheduler(store, clock=clock), Scheduler(store, clock=clock)
        yield pair
        for one in pair:
            one.shutdown(timeout=0)

    def overlapping(self, pair: tuple[Scheduler, Scheduler], *, second: dict[str, Any], **options: Any) -> list[Run]:
        """Run `p` of company a in the first; while that goes on, let the other run it for *second*."""
        first, other = pair
        depth = 0

        def work(company: str = "a") -> str:
            nonlocal depth
            depth += 1
            if depth == 1:
                other.run_now("p", params=second)
                other.run_pending()
            return company

        for one in pair:
            one.process("p", **options)(work)
        first.run_now("p", params={"company": "a"})
        for _ in range(3):
            first.run_until_idle()
            other.run_until_idle()
        return first.monitor.runs()[::-1]

    def test_by_default_requests_do_not_know_each_other(self, pair: tuple[Scheduler, Scheduler]) -> None:
        runs = self.overlapping(pair, second={"company": "a"})
        assert [run.status for run in runs] == [S.SUCCESS, S.SUCCESS]

    def test_by_process_the_later_one_is_skipped_and_says_for_whom(self, pair: tuple[Scheduler, Scheduler]) -> None:
        runs = self.overlapping(pair, second={"company": "b"}, overlap_scope="process")
        assert [run.status for run in runs] == [S.SUCCESS, S.SKIPPED]
        assert runs[1].reason == f"run {runs[0].id} had not ended"

    @pytest.mark.parametrize(
        ("second", "status"), [({}, S.SKIPPED), ({"company": "a"}, S.SKIPPED), ({"company": "b"}, S.SUCCESS)]
    )
    def test_by_equal_params_a_default_counts_as_its_value(
        self, pair: tuple[Scheduler, Scheduler], second: dict[str, Any], status: RunStatus
    ) -> None:
        runs = self.overlapping(pair, second=second, overlap_scope=("company",))
        assert [run.status for run in runs] == [S.SUCCESS, status]

    def test_one_may_queue(self, pair: tuple[Scheduler, Scheduler]) -> None:
        runs = self.overlapping(pair, second={"company": "b"}, overlap=Overlap.QUEUE, overlap_scope="process")
        assert [(run.status, run.result) for run in runs] == [(S.SUCCESS, "a"), (S.SUCCESS, "b")]

    def test_the_old_one_may_be_replaced(self, pair: tuple[Scheduler, Scheduler]) -> None:
        runs = self.overlapping(pair, second={"company": "b"}, overlap=Overlap.REPLACE, overlap_scope="process")
        assert runs[0].kill_asked_at is not None
        assert (runs[1].status, runs[1].result) == (S.SUCCESS, "b")

    def test_all_may_run_at_once(self, pair: tuple[Scheduler, Scheduler]) -> None:
        runs = self.overlapping(pair, second={"company": "a"}, overlap="allow", overlap_scope="process")
        assert [run.status for run in runs] == [S.SUCCESS] * 2

    def test_many_schedulers_at_once_never_overlap(self, store: Store) -> None:
        going, most, lock = 0, 0, threading.Lock()
        done = threading.Event()
        count = 0

        def work() -> None:
            nonlocal going, most, count
            with lock:
                going += 1
                most = max(most, going)
            threading.Event().wait(0.002)
            with lock:
                going -= 1
                count += 1
                if count == 24:
                    done.set()

        schedulers = [Scheduler(store, workers=4) for _ in range(3)]
        with contextlib.ExitStack() as stack:
            for one in schedulers:
                one.process("p", overlap=Overlap.QUEUE)(work)
                stack.enter_context(one)
            request = schedulers[0].schedule("p", Schedule(EveryMinutes(1)), id="mine")
            for n in range(24):
                schedulers[n % 3].run_now(request.id)
            assert done.wait(PATIENCE)
        assert most == 1


class TestRetry:
    def test_each_attempt_has_its_start_end_and_log_and_survives_restarts(
        self, store: Store, clock: ManualClock
    ) -> None:
        def host() -> Scheduler:
            scheduler = Scheduler(store, clock=clock)

            @scheduler.process("p", retry=Retry(attempts=3, delay=timedelta(seconds=10), backoff=3))
            def flaky() -> str:
                current_run().log.info("attempt %s", current_run().attempt)
                if current_run().attempt < 3:
                    raise OSError("no paper") from KeyError("tray")
                return "done"

            return scheduler

        one = host()
        one.run_now("p")
        for wait in (0, 10, 30):
            clock.advance(wait)
            one = host()
            one.run_until_idle()
            one.shutdown()
        (run,) = one.monitor.runs()
        assert (run.status, run.attempt, run.result) == (S.SUCCESS, 3, "done")
        assert [(a.number, a.started_at, a.finished_at) for a in run.attempts] == [
            (1, T0, T0),
            (2, T0 + timedelta(seconds=10), T0 + timedelta(seconds=10)),
        ]
        error = run.attempts[0].error
        assert error is not None
        assert (error.type, error.message) == ("OSError", "no paper")
        assert "KeyError: 'tray'" in error.traceback
        assert "direct cause" in error.traceback
        by_attempt = {line.attempt: line.text for line in one.monitor.log(run.id) if line.logger == "bgsched.run"}
        assert by_attempt == {1: "attempt 1", 2: "attempt 2", 3: "attempt 3"}

    def test_only_what_is_named_is_tried_again(self, scheduler: Scheduler) -> None:
        def fail() -> None:
            raise KeyError("x")

        assert only_run(scheduler, fail, retry=Retry(retry_on=OSError)).status is S.ERROR
        scheduler.process("q", retry=Retry(retry_on=(LookupError, OSError)))(fail)
        scheduler.run_now("q")
        scheduler.run_pending()
        assert scheduler.monitor.runs(process="q")[0].status is S.WAITING

    def test_exit_is_not_tried_again(self, scheduler: Scheduler) -> None:
        assert only_run(scheduler, lambda: sys.exit(3), retry=Retry()).status is S.ERROR

    def test_delays_grow_to_a_bound_and_jitter_is_stable(self) -> None:
        retry = Retry(attempts=10_000, delay=timedelta(seconds=1), max_delay=timedelta(seconds=5))
        assert [retry.delay_after(n) for n in (1, 2, 3, 4, 9_000)] == [timedelta(seconds=s) for s in (1, 2, 4, 5, 5)]
        jittered = Retry(attempts=9, delay=timedelta(0), jitter=timedelta(seconds=10))
        delays = {jittered.delay_after(1, run_id) for run_id in range(50)}
        assert len(delays) > 40
        assert all(delay is not None and timedelta(0) <= delay < timedelta(seconds=10) for delay in delays)
        assert jittered.delay_after(1, 7) == jittered.delay_after(1, 7)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"attempts": 0}, "attempts must be 1 or more, got 0"),
            ({"delay": 5}, r"delay must be a timedelta, got 5; write timedelta\(seconds="),
            ({"jitter": timedelta(-1)}, "jitter must not be negative"),
            ({"retry_on": "OSError"}, "retry_on must be an exception type or a tuple of them, got 'OSError'"),
        ],
    )
    def test_bad_values_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Retry(**options)


class TestTimeout:
    def test_a_process_that_looks_is_told_and_its_late_result_is_refused(
        self, live: Scheduler, caplog: pytest.LogCaptureFixture
    ) -> None:
        told: list[str] = []

        def work() -> str:
            try:
                current_run().sleep(PATIENCE)
            except RunKilled as stopped:
                told.append(str(stopped))
            return "late"

        live.process("p", timeout=timedelta(milliseconds=50))(work)
        with live:
            live.run_now("p")
            run = ended(live)
            eventually(lambda: "came back after it had ended as timed_out" in caplog.text)
        assert (run.status, run.result, run.reason) == (S.TIMED_OUT, None, "it took longer than 0:00:00.050000")
        assert "its time is over" in told[0]
        assert "current_run().sleep(PATIENCE)" in log_of(live, run)

    def test_hung_work_does_not_starve_the_rest(self, store: Store) -> None:
        release = threading.Event()
        scheduler = Scheduler(store, workers=2)
        scheduler.process("hang", timeout=timedelta(milliseconds=30))(lambda: release.wait(PATIENCE))
        other = threading.Event()
        scheduler.process("other")(other.set)
        with scheduler:
            for _ in range(4):
                scheduler.run_now("hang")
            eventually(lambda: len(scheduler.monitor.runs(status="timed_out")) == 4)
            scheduler.run_now("other")
            assert other.wait(PATIENCE)
            release.set()


class TestKill:
    def test_any_scheduler_of_the_store_can_kill(self, live: Scheduler, store: Store) -> None:
        started = threading.Event()

        def work() -> None:
            started.set()
            for _ in current_run().track(iter(int, 1)):
                threading.Event().wait(0.001)

        live.process("p")(work)
        other = Scheduler(store)
        with live:
            live.run_now("p")
            assert started.wait(PATIENCE)
            run = eventually(live.monitor.running)[0]
            asked = other.kill(run.id)
            assert asked.status is not S.KILLED
            assert asked.kill_asked_at is not None
            run = ended(live)
        assert run.status is S.KILLED
        assert run.finished_at is not None
        assert run.finished_at - asked.kill_asked_at < timedelta(seconds=5)  # about one, on a machine that is free

    @pytest.mark.parametrize(
        ("end", "status"),
        [
            ("never looks", S.SUCCESS),
            ("sees it and returns", S.KILLED),
            ("raises", S.KILLED),
            ("fails of it", S.KILLED),
            ("fails of something else", S.ERROR),
        ],
    )
    def test_asked_and_killed_are_told_apart(self, scheduler: Scheduler, end: str, status: RunStatus) -> None:
        def work() -> str:
            run = current_run()
            scheduler.kill(run.id)
            if end == "sees it and returns":
                return "half" if run.killed else "whole"
            if end == "raises":
                run.raise_if_killed()
            if end == "fails of it":
                try:
                    run.raise_if_killed()
                except RunKilled as stopped:
                    raise OSError("cleaning up") from stopped
            if end == "fails of something else":
                raise OSError
            return "whole"

        run = only_run(scheduler, work, retry=Retry(attempts=5))
        assert run.status is status
        assert run.kill_asked_at is not None
        assert run.attempt == 1

    def test_a_run_that_waits_for_its_retry_is_killed_at_once(self, scheduler: Scheduler) -> None:
        run = only_run(scheduler, lambda: 1 / 0, retry=Retry())
        assert scheduler.kill(run.id).status is S.KILLED
        assert scheduler.monitor.request(run.request_id).status is RequestStatus.COMPLETE

    def test_a_run_that_has_not_begun_never_does(self, scheduler: Scheduler) -> None:
        begun: list[int] = []

        def kill_the_next() -> None:
            scheduler.kill(scheduler.monitor.runs(process="p")[0].id)

        scheduler.process("first", priority=1)(kill_the_next)
        scheduler.process("p")(lambda: begun.append(1))
        scheduler.run_now("p")
        scheduler.run_now("first")
        scheduler.run_pending()
        run = scheduler.monitor.runs(process="p")[0]
        assert (begun, run.status) == ([], S.KILLED)
        assert "before it began" in (run.reason or "")


class TestAsync:
    def test_many_run_at_once_beyond_the_workers_with_logs_apart(self, store: Store) -> None:
        scheduler = Scheduler(store, workers=1)
        barrier: list[asyncio.Barrier] = []

        @scheduler.process("p", overlap=Overlap.ALLOW)
        async def work(n: int) -> int:
            barrier[:] = barrier or [asyncio.Barrier(30)]
            logging.getLogger("host").warning("before %s", n)
            await barrier[0].wait()
            assert current_run().params == {"n": n}
            logging.getLogger("host").warning("after %s", n)
            return n

        with scheduler:
            scheduler.schedule_many([(work, Immediate(), {"n": n}) for n in range(30)])
            eventually(lambda: len(scheduler.monitor.runs(status="success")) == 30)
        for run in scheduler.monitor.runs():
            assert log_of(scheduler, run).split("\n") == [f"before {run.result}", f"after {run.result}"]

    def test_they_have_a_bound_of_their_own(self, store: Store) -> None:
        scheduler = Scheduler(store, async_limit=3)
        going, most = 0, 0

        @scheduler.process("p", overlap=Overlap.ALLOW)
        async def work() -> None:
            nonlocal going, most
            going += 1
            most = max(most, going)
            await asyncio.sleep(0.005)
            going -= 1

        with scheduler:
            scheduler.schedule_many([(work, Immediate(), None)] * 12)
            eventually(lambda: len(scheduler.monitor.runs(status="success")) == 12)
        assert most == 3

    @pytest.mark.parametrize("swallows", [False, True])
    def test_a_kill_cancels(self, live: Scheduler, swallows: bool) -> None:  # noqa: FBT001
        started = threading.Event()

        @live.process("p")
        async def work() -> str:
            started.set()
            with contextlib.suppress(asyncio.CancelledError if swallows else ZeroDivisionError):
                await asyncio.sleep(PATIENCE)
            return "tidied up"

        with live:
            live.run_now("p")
            assert started.wait(PATIENCE)
            live.kill(live.monitor.runs()[0].id)
            run = ended(live)
        assert (run.status, run.result) == (S.KILLED, "tidied up" if swallows else None)

    def test_a_timeout_cancels_and_says_where_it_stood(self, live: Scheduler) -> None:
        cancelled = threading.Event()

        @live.process("p", timeout=timedelta(milliseconds=50))
        async def work() -> None:
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                cancelled.set()

        with live:
            live.run_now("p")
            assert cancelled.wait(PATIENCE)
            run = ended(live)
        assert run.status is S.TIMED_OUT
        assert "await asyncio.sleep(PATIENCE)" in log_of(live, run)

    def test_one_that_blocks_the_loop_does_not_starve_the_rest(self, live: Scheduler) -> None:
        release, other = threading.Event(), threading.Event()

        @live.process("p", timeout=timedelta(milliseconds=50))
        async def hang() -> None:
            release.wait(PATIENCE)

        @live.process("q")
        async def work() -> None:
            other.set()

        with live:
            live.run_now("p")
            run = ended(live)
            live.run_now("q")
            assert other.wait(PATIENCE)
            release.set()
        assert run.status is S.TIMED_OUT
        assert "release.wait(PATIENCE)" in log_of(live, run)

    def test_what_it_cancels_itself_is_an_error(self, scheduler: Scheduler) -> None:
        async def work() -> None:
            raise asyncio.CancelledError("of my own")

        run = only_run(scheduler, work)
        assert run.error is not None
        assert (run.status, run.error.type) == (S.ERROR, "CancelledError")

    def test_sleep_says_what_to_write_instead(self, scheduler: Scheduler) -> None:
        async def work() -> None:
            current_run().sleep(1)

        run = only_run(scheduler, work)
        assert run.error is not None
        assert "write await asyncio.sleep" in run.error.message

    def test_track_takes_async_items(self, scheduler: Scheduler) -> None:
        async def items() -> Any:
            for n in range(3):
                yield n

        async def work() -> list[int]:
            return [n async for n in current_run().track(items(), total=3)]

        run = only_run(scheduler, work)
        assert run.progress is not None
        assert (run.result, run.progress.done, run.progress.total) == ([0, 1, 2], 3, 3)

    @pytest.mark.parametrize("failure", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration()])
    def test_nothing_gets_out_into_the_loop(self, scheduler: Scheduler, failure: BaseException) -> None:
        async def work() -> None:
            raise failure

        scheduler.process("p")(work)
        scheduler.run_now("p")
        scheduler.run_pending()
        assert scheduler.monitor.runs()[0].status is S.ERROR

        async def fine() -> str:
            return "fine"

        scheduler.process("q")(fine)
        scheduler.run_now("q")
        scheduler.run_pending()
        assert scheduler.monitor.runs(process="q")[0].result == "fine"


class TestBounds:
    def test_the_highest_priority_goes_first(self, scheduler: Scheduler) -> None:
        seen: list[str] = []
        for name, priority in (("low", -1), ("usual", 0), ("high", 5)):
            scheduler.process(name, priority=priority)(lambda name=name: seen.append(name))
        for name in ("low", "usual", "high"):
            scheduler.run_now(name)
        scheduler.run_until_idle()
        assert seen == ["high", "usual", "low"]

    def test_workers_and_a_limit_bound_what_runs_at_once(self, store: Store) -> None:
        lock = threading.Lock()
        going: dict[str, int] = {}
        most: dict[str, int] = {}

        def work(name: str) -> None:
            with lock:
                for key in (name, "all"):
                    going[key] = going.get(key, 0) + 1
                    most[key] = max(most.get(key, 0), going[key])
            threading.Event().wait(0.005)
            with lock:
                for key in (name, "all"):
                    going[key] -= 1

        scheduler = Scheduler(store, workers=4)
        scheduler.process("few", limit=2)(lambda: work("few"))
        scheduler.process("many")(lambda: work("many"))
        with scheduler:
            scheduler.schedule_many([(name, Immediate(), None) for name in ("few", "many") * 15])
            eventually(lambda: len(scheduler.monitor.runs(status="success")) == 30)
        assert most["few"] <= 2
        assert most["all"] <= 4


class TestHooks:
    def test_a_listener_hears_what_happens_in_order(self, scheduler: Scheduler, clock: ManualClock) -> None:
        heard: list[Event] = []
        scheduler.on(Event, heard.append)

        def flaky() -> None:
            if current_run().attempt == 1:
                raise OSError

        scheduler.process("p", retry=Retry())(flaky)
        request = scheduler.schedule("p", Schedule(EveryMinutes(5)))
        scheduler.run_pending()
        clock.advance(10)
        scheduler.run_pending()
        scheduler.unschedule(request.id)
        scheduler.shutdown()
        kinds = [type(event) for event in heard]
        assert kinds == [
            RequestScheduled,
            RunStarted,
            RunRetried,
            RunStarted,
            RunFinished,
            RequestUnscheduled,
        ]

    def test_one_that_fails_or_is_slow_breaks_and_delays_nothing(
        self, scheduler: Scheduler, caplog: pytest.LogCaptureFixture
    ) -> None:
        release, heard = threading.Event(), list[Run]()

        def fail(event: RunStarted) -> None:
            raise SystemExit(event)

        scheduler.on(RunStarted, fail)
        scheduler.on(RunStarted, lambda _: release.wait(PATIENCE))
        off = scheduler.on(RunFinished, lambda event: heard.append(event.run))
        run = only_run(scheduler, lambda: "done")
        assert (run.status, heard) == (S.SUCCESS, [])
        release.set()
        scheduler._hooks.settle()
        assert [one.id for one in heard] == [run.id]
        assert "a listener failed on RunStarted" in caplog.text
        off()
        off()
        scheduler.run_now("p")
        scheduler.run_pending()
        scheduler._hooks.settle()
        assert len(heard) == 1

    def test_too_many_events_are_dropped_and_counted(
        self, scheduler: Scheduler, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bgsched._events._MOST_WAITING", 5)
        begun, release = threading.Event(), threading.Event()

        def slow(_: RunFinished) -> None:
            begun.set()
            release.wait(PATIENCE)

        scheduler.on(RunFinished, slow)
        scheduler.process("p")(lambda: None)
        scheduler.run_now("p")
        scheduler.run_pending()
        assert begun.wait(PATIENCE)
        for _ in range(20):
            scheduler.run_now("p")
        scheduler.run_until_idle()
        release.set()
        scheduler._hooks.settle()
        assert "15 events were dropped" in caplog.text

    def test_around_wraps_every_run_and_its_log(self, store: Store, clock: ManualClock) -> None:
        seen: list[str] = []

        def hook(name: str) -> Callable[[CurrentRun], contextlib.AbstractContextManager[None]]:
            @contextlib.contextmanager
            def around(run: CurrentRun) -> Iterator[None]:
                seen.append(f"{name} before {run.process}")
                logging.getLogger("host").warning("in %s", name)
                try:
                    yield
                finally:
                    seen.append(f"{name} after")

            return around

        scheduler = Scheduler(store, clock=clock, around=hook("outer"))
        undo = scheduler.around(hook("inner"))
        run = only_run(scheduler, lambda: seen.append("work"))
        assert seen == ["outer before p", "inner before p", "work", "inner after", "outer after"]
        assert log_of(scheduler, run) == "in outer\nin inner"
        undo()

        async def work() -> None:
            seen.append("async")

        seen.clear()
        scheduler.process("q")(work)
        scheduler.run_now("q")
        scheduler.run_pending()
        assert seen == ["outer before q", "async", "outer after"]
        scheduler.shutdown()

    def test_around_sees_a_failure_but_cannot_swallow_it(self, store: Store, clock: ManualClock) -> None:
        scheduler = Scheduler(store, clock=clock, around=lambda _: contextlib.suppress(Exception))
        run = only_run(scheduler, lambda: 1 / 0)
        assert (run.status, run.error.type if run.error else None) == (S.ERROR, "ZeroDivisionError")

    def test_around_that_fails_ends_the_run_in_error(self, scheduler: Scheduler) -> None:
        scheduler.around(lambda run: contextlib.nullcontext(run.nothing))  # type: ignore[attr-defined]
        run = only_run(scheduler, lambda: None)
        assert (run.status, run.error.type if run.error else None) == (S.ERROR, "AttributeError")

    def test_what_is_no_hook_is_refused(self, scheduler: Scheduler) -> None:
        with pytest.raises(TypeError, match="a kind of event, such as RunFinished, got 'finished'"):
            scheduler.on("finished", str)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a function of one event, got 3"):
            scheduler.on(RunFinished, 3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="returns a context manager, got 3"):
            scheduler.around(3)  # type: ignore[arg-type]


class TestUserAndChannel:
    def test_both_are_kept_on_request_and_run(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p", timing=Schedule(EveryMinutes(5)))(lambda: None)
        scheduler.schedule("p", Immediate(), id="mine", user="ann", channel="cli")
        scheduler.run_until_idle()
        scheduler.run_now("mine", user="bob", channel="dashboard")
        scheduler.run_until_idle()
        runs = scheduler.monitor.runs(request="mine")[::-1]
        assert [(run.user, run.channel) for run in runs] == [("ann", "cli"), ("bob", "dashboard")]
        assert scheduler.monitor.runs(request="p")[0].channel == "declared"
        again = scheduler.reschedule("mine", Schedule(EveryMinutes(5)), user="eve", channel="dashboard")
        assert (again.user, again.channel) == ("eve", "dashboard")


class TestNoExecute:
    def test_a_scheduler_may_only_file(self, store: Store, clock: ManualClock) -> None:
        registry = ProcessRegistry()
        registry.process("p")(lambda: "ran")
        web = Scheduler(store, processes=registry, clock=clock, execute=False)
        worker = Scheduler(store, processes=registry, clock=clock)
        request = web.run_now("p")
        web.run_until_idle()
        assert (web.paused, web.monitor.runs()) == (True, [])
        with pytest.raises(SchedulerStateError, match="execute=False"):
            web.resume()
        worker.run_until_idle()
        assert web.monitor.runs(request=request.id)[0].result == "ran"
        for one in (web, worker):
            one.shutdown()


class TestMisbehaviour:
    @pytest.mark.parametrize("lines", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
    def test_a_flood_of_lines(self, scheduler: Scheduler, lines: int) -> None:
        def flood() -> None:
            log = current_run().log
            for n in range(lines):
                log.info("line %s", n)

        run = only_run(scheduler, flood)
        found = scheduler.monitor.log(run.id, limit=100_000)
        assert run.status is S.SUCCESS
        assert len(found) < 10_000
        assert (found[0].text, found[-1].text) == ("line 0", f"line {lines - 1}")

    def test_prints_are_copied_where_asked_for(self, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="utf-8", write_through=True))

        def work() -> None:
            print("plain", end=" ")  # noqa: T201  what is tested
            print("text")  # noqa: T201  what is tested
            sys.stdout.buffer.write(b"\xff\x00binary\n")
            print("no end", file=sys.stderr, end="")  # noqa: T201  what is tested

        run = only_run(scheduler, work, prints=True)
        assert [(line.logger, line.text) for line in scheduler.monitor.log(run.id)] == [
            ("stdout", "plain text"),
            ("stdout", "\\xff\\x00binary"),
            ("stderr", "no end"),
        ]
        assert shown.getvalue() == b"plain text\n\xff\x00binary\n"
        scheduler.process("q")(lambda: print("not asked for"))  # noqa: T201  what is tested
        scheduler.run_now("q")
        scheduler.run_pending()
        assert scheduler.monitor.log(scheduler.monitor.runs(process="q")[0].id) == []

    @pytest.mark.parametrize("failure", ["mute", "loops", "huge", "deep", "surrogate"])
    def test_exceptions_that_are_hard_to_write_down(self, scheduler: Scheduler, failure: str) -> None:
        class MuteError(Exception):
            def __str__(self) -> str:
                raise SystemError

        def dig(depth: int) -> None:
            dig(depth + 1)

        def work() -> None:
            if failure == "mute":
                raise MuteError
            if failure == "huge":
                raise ValueError("x" * 10_000_000)
            if failure == "deep":
                dig(0)
            if failure == "surrogate":
                raise ValueError("\ud800\x00")
            one, other = ValueError("one"), ValueError("other")
            one.__cause__, other.__cause__ = other, one
            raise one

        run = only_run(scheduler, work)
        assert run.status is S.ERROR
        assert run.error is not None
        assert run.error.type in {"MuteError", "ValueError", "RecursionError"} or "MuteError" in run.error.type
        assert len(run.error.message) + len(run.error.traceback) < 200_000

    def test_results_that_are_hard_to_write_down(self, scheduler: Scheduler) -> None:
        class Trap(dict[str, Any]):
            def items(self) -> Any:
                raise SystemError("trap")

        endless: list[Any] = []
        endless.append(endless)
        results = iter([endless, Trap(a=1), "\ud800", {1, "a"}, object(), b"x"])
        scheduler.process("p")(lambda: next(results))
        for _ in range(6):
            scheduler.run_now("p")
            scheduler.run_pending()
        runs = scheduler.monitor.runs()
        assert [run.status for run in runs] == [S.SUCCESS] * 6
        assert sum("the result was not kept" in log_of(scheduler, run) for run in runs) >= 4

    def test_the_working_folder_may_change(
        self, scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(Path.cwd())  # restored after the test
        assert only_run(scheduler, lambda: os.chdir(tmp_path)).status is S.SUCCESS
        scheduler.run_now("p")
        scheduler.run_pending()
        assert len(scheduler.monitor.runs()) == 2

    def test_an_async_function_in_disguise_runs(self, scheduler: Scheduler) -> None:
        async def work() -> str:
            await asyncio.sleep(0)
            return "ran"

        disguised: Callable[[], Any] = lambda: work()  # noqa: E731, PLW0108  the disguise
        assert only_run(scheduler, disguised).result == "ran"
