"""How a process runs: overlap, retry, timeout, kill, async, hooks, bounds, and what misbehaves."""

import asyncio
import contextlib
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from behaviour._work import ExitingError

from bgsched import (
    CurrentRun,
    Event,
    EveryMinutes,
    RequestScheduled,
    RequestUnscheduled,
    Retry,
    Run,
    RunFinished,
    RunRetried,
    RunStarted,
    RunStatus,
    Schedule,
    Scheduler,
    Store,
    current_run,
)
from bgsched.testing import ManualClock

T0 = datetime(2026, 1, 1, tzinfo=UTC)
S = RunStatus
PATIENCE = 20.0  # seconds until a signal that never comes fails a test


def only_run(scheduler: Scheduler, work: Callable[..., Any], **options: Any) -> Run:
    """Run *work* as process ``p``; return its record."""
    scheduler.process("p", **options)(work)
    scheduler.run_now("p")
    scheduler.run_pending()
    return scheduler.monitor.runs(process="p")[0]


def log_of(scheduler: Scheduler, run: Run) -> str:
    return "\n".join(line.text for line in scheduler.monitor.log(run.id, limit=10_000))


class TestCurrentRun:
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

    def test_sleep_says_what_it_takes(self, scheduler: Scheduler) -> None:
        run = only_run(scheduler, lambda: current_run().sleep("5"))  # type: ignore[arg-type]  # what is tested
        assert run.error is not None
        assert run.error.message == "sleep() takes a timedelta or a number of seconds, got '5'"

    @pytest.mark.parametrize("span", [timedelta.max, float("inf")])
    def test_a_run_may_sleep_until_it_is_killed(self, scheduler: Scheduler, span: timedelta | float) -> None:
        def work() -> None:
            run = current_run()
            scheduler.kill(run.id)
            run.sleep(span)

        assert only_run(scheduler, work).status is S.KILLED

    def test_progress_is_checked_where_it_is_said(self, scheduler: Scheduler) -> None:
        run = only_run(scheduler, lambda: current_run().progress(-1))
        assert run.error is not None
        assert run.error.message == f"done must be a whole number from 0 to {2**63 - 1}, got -1"

    def test_progress_is_a_number_that_every_store_and_its_views_can_show(self, scheduler: Scheduler) -> None:
        def work() -> None:
            current_run().progress(done=True, total=True)
            with pytest.raises(ValueError, match="total must be a whole number from 0 to"):
                current_run().progress(0, 2**63)

        assert repr(only_run(scheduler, work).progress) == "Progress(done=1, total=1, message=None)"

    def test_track_counts_what_has_no_length_too(self, scheduler: Scheduler) -> None:
        run = only_run(scheduler, lambda: list(current_run().track(iter("abc"))))
        assert run.progress is not None
        assert (run.progress.done, run.progress.total, run.result) == (3, None, ["a", "b", "c"])


class TestRetry:
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
        "retry",
        [
            Retry(delay=timedelta.max, max_delay=timedelta.max, jitter=timedelta.max),
            Retry(attempts=1_000, backoff=1e300, max_delay=timedelta.max),
        ],
    )
    def test_a_delay_beyond_all_time_is_a_long_one(
        self, retry: Retry, scheduler: Scheduler, clock: ManualClock
    ) -> None:
        run = only_run(scheduler, lambda: 1 / 0, retry=retry)
        assert run.status is S.WAITING
        delay = retry.delay_after(999 if retry.attempts == 1_000 else 1)
        assert delay is not None
        assert timedelta(days=36_525) <= delay <= timedelta(days=2 * 36_525)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"attempts": 0}, "attempts must be a whole number from 1 to 2147483647, got 0"),
            ({"attempts": "3"}, "attempts must be a whole number from 1 to 2147483647, got '3'"),
            ({"attempts": 2.5}, r"attempts must be a whole number from 1 to 2147483647, got 2\.5"),
            ({"backoff": 0.5}, r"backoff must be 1 or more, got 0\.5"),
            ({"backoff": float("nan")}, "backoff must be 1 or more, got nan"),
            ({"backoff": "twice"}, "backoff must be 1 or more, got 'twice'"),
            ({"delay": 5}, r"delay must be a timedelta, got 5; write timedelta\(seconds="),
            ({"jitter": timedelta(-1)}, "jitter must not be negative"),
            ({"retry_on": "OSError"}, "retry_on must be an exception type or a tuple of them, got 'OSError'"),
        ],
    )
    def test_bad_values_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Retry(**options)


class TestAsync:
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

    @pytest.mark.parametrize(
        "failure", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(), ExitingError()]
    )
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

    @pytest.mark.parametrize(
        ("how", "waited"),
        [
            ({}, 5.0),
            ({"timeout": 60.0}, 5.0),
            ({"timeout": 2.0}, 2.0),
            ({"timeout": 0.0}, 0.5),
            ({"wait": False}, 0.5),
        ],
    )
    @pytest.mark.parametrize("begin", ["run_pending", "start"])
    def test_a_shutdown_waits_for_listeners_no_longer_than_it_may(
        self, how: dict[str, Any], waited: float, begin: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = Scheduler(clock=ManualClock(T0))
        spans: list[float] = []
        monkeypatch.setattr(scheduler._hooks, "settle", spans.append)
        getattr(scheduler, begin)()
        scheduler.shutdown(**how)
        assert spans == [pytest.approx(waited, abs=0.4)]

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

        async def hear(_: Event) -> None: ...

        class Hearing:
            async def __call__(self, _: Event) -> None: ...

        for listener in (hear, Hearing()):
            with pytest.raises(TypeError, match=r"nobody awaits what a listener returns, got the async .*[hH]ear"):
                scheduler.on(Event, listener)
        with pytest.raises(TypeError, match="returns a context manager, got 3"):
            scheduler.around(3)  # type: ignore[arg-type]


class TestMisbehaviour:
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

    def test_results_that_are_hard_to_write_down(self, scheduler: Scheduler) -> None:
        class Trap(dict[str, Any]):
            def items(self) -> Any:
                raise SystemError("trap")

        endless: list[Any] = []
        endless.append(endless)
        results = iter([endless, Trap(a=1), "\ud800", {1, "a"}, object(), b"x", ["\0"]])
        scheduler.process("p")(lambda: next(results))
        for _ in range(7):
            scheduler.run_now("p")
            scheduler.run_pending()
        runs = scheduler.monitor.runs()
        assert [run.status for run in runs] == [S.SUCCESS] * 7
        assert sum("the result was not kept" in log_of(scheduler, run) for run in runs) >= 5
        assert (runs[0].result, "which has a NUL character" in log_of(scheduler, runs[0])) == (None, True)

    def test_an_async_function_in_disguise_runs(self, scheduler: Scheduler) -> None:
        async def work() -> str:
            await asyncio.sleep(0)
            return "ran"

        disguised: Callable[[], Any] = lambda: work()  # noqa: E731, PLW0108  the disguise
        assert only_run(scheduler, disguised).result == "ran"
