"""The scheduler as its host sees it: filing, running, stopping."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bgsched import (
    Cron,
    Daily,
    EveryMinutes,
    EverySeconds,
    Immediate,
    Later,
    MemoryStore,
    Monitor,
    NoCurrentRunError,
    OnAbandon,
    Overlap,
    ParamsError,
    PostgresStore,
    ProcessNameError,
    ProcessRegistry,
    RequestExistsError,
    RequestStatus,
    Retry,
    Run,
    RunFinished,
    RunStatus,
    Schedule,
    Scheduler,
    SchedulerStateError,
    SQLiteStore,
    Store,
    StoreSchemaError,
    StoreUnavailableError,
    StoreURLError,
    TimingError,
    UnknownProcessError,
    UnknownRequestError,
    UnknownRunError,
    current_run,
    open_store,
)
from bgsched._loop import Loop
from bgsched.testing import ManualClock

T0 = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = 20.0  # seconds until a signal that never comes fails a test


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store
    if request.param == "postgres":
        schema = request.getfixturevalue("postgres_schema")
        store = PostgresStore(request.getfixturevalue("postgres_dsn"), schema=schema)
    else:
        store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "app.db")
    yield store
    store.close()


@pytest.fixture
def scheduler(store: Store, clock: ManualClock) -> Iterator[Scheduler]:
    scheduler = Scheduler(store, clock=clock)
    yield scheduler
    scheduler.shutdown(timeout=0)


def runs_of(scheduler: Scheduler, request: str) -> list[Run]:
    """Return the runs of a request, oldest first."""
    return scheduler.monitor.runs(request=request)[::-1]


def statuses(scheduler: Scheduler, request: str) -> list[RunStatus]:
    return [run.status for run in runs_of(scheduler, request)]


class TestTimings:
    def test_an_immediate_request_runs_once_at_once(self, scheduler: Scheduler) -> None:
        seen: list[str] = []

        @scheduler.process
        def greet(name: str) -> None:
            seen.append(name)

        request = scheduler.schedule("greet", Immediate(), {"name": "ann"})
        assert request.status is RequestStatus.SCHEDULED
        assert scheduler.run_pending() is None
        assert seen == ["ann"]
        assert scheduler.monitor.request(request.id).status is RequestStatus.COMPLETE
        (run,) = runs_of(scheduler, request.id)
        assert (run.status, run.process, run.params) == (RunStatus.SUCCESS, "greet", {"name": "ann"})
        assert (run.started_at, run.finished_at, run.duration) == (T0, T0, timedelta(0))

    def test_a_later_request_runs_at_its_time(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Later(T0 + timedelta(hours=1)))
        assert scheduler.run_pending() == T0 + timedelta(hours=1)
        assert runs_of(scheduler, request.id) == []
        clock.advance(timedelta(hours=1))
        scheduler.run_pending()
        assert statuses(scheduler, request.id) == [RunStatus.SUCCESS]

    def test_a_later_request_in_the_past_runs_at_once(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Later(T0 - timedelta(days=3)))
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert (run.status, run.fire_time) == (RunStatus.SUCCESS, T0 - timedelta(days=3))

    def test_a_schedule_runs_until_its_finish(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        timing = Schedule(EveryMinutes(10), finish=T0 + timedelta(minutes=30))
        request = scheduler.schedule("p", timing)
        for _ in range(6):
            scheduler.run_pending()
            clock.advance(timedelta(minutes=10))
        assert [run.fire_time for run in runs_of(scheduler, request.id)] == [
            T0 + timedelta(minutes=m) for m in (0, 10, 20, 30)
        ]
        assert scheduler.monitor.request(request.id).status is RequestStatus.COMPLETE

    def test_the_schedulers_zone_is_that_of_timings_without_one(self, clock: ManualClock) -> None:
        scheduler = Scheduler(clock=clock, timezone="Europe/Madrid")
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Schedule(Daily(at="09:00")))
        assert request.next_fire_time == datetime(2026, 1, 1, 8, tzinfo=UTC)

    def test_cron_fires_as_it_reads(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Schedule(Cron("30 2 * * 1-5")))
        assert request.next_fire_time == datetime(2026, 1, 1, 2, 30, tzinfo=UTC)


class TestChanging:
    def test_unscheduling_stops_what_is_to_come_and_keeps_the_record(
        self, scheduler: Scheduler, clock: ManualClock
    ) -> None:
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Schedule(EverySeconds(10)))
        scheduler.run_pending()
        gone = scheduler.unschedule(request.id)
        assert (gone.status, gone.next_fire_time) == (RequestStatus.UNSCHEDULED, None)
        clock.advance(60)
        assert scheduler.run_pending() is None
        assert statuses(scheduler, request.id) == [RunStatus.SUCCESS]
        assert scheduler.unschedule(request.id).revision == gone.revision

    def test_unscheduling_leaves_the_running_run_alone(self, scheduler: Scheduler) -> None:
        def unschedule_myself() -> str:
            scheduler.unschedule("mine")
            return "went on"

        scheduler.process("p")(unschedule_myself)
        scheduler.schedule("p", Schedule(EverySeconds(10)), id="mine")
        scheduler.run_until_idle()
        (run,) = runs_of(scheduler, "mine")
        assert (run.status, run.result) == (RunStatus.SUCCESS, "went on")

    def test_rescheduling_keeps_the_id_and_appends_runs(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Immediate())
        for _ in range(3):
            scheduler.run_pending()
            again = scheduler.reschedule(request.id)
            assert again.id == request.id
        scheduler.run_pending()
        assert statuses(scheduler, request.id) == [RunStatus.SUCCESS] * 4
        scheduler.reschedule(request.id, Later(T0 + timedelta(days=1)))
        clock.advance(timedelta(days=1))
        scheduler.run_pending()
        assert len(runs_of(scheduler, request.id)) == 5

    def test_an_unscheduled_request_can_be_rescheduled(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Schedule(EverySeconds(10)))
        scheduler.unschedule(request.id)
        clock.advance(5)
        again = scheduler.reschedule(request.id)
        assert again.status is RequestStatus.SCHEDULED
        assert again.next_fire_time == T0 + timedelta(seconds=10)

    def test_rescheduling_may_change_the_params(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda n: n)
        request = scheduler.schedule("p", Immediate(), {"n": 1})
        scheduler.reschedule(request.id, params={"n": 2})
        scheduler.run_pending()
        assert [run.result for run in runs_of(scheduler, request.id)] == [2]
        with pytest.raises(ParamsError, match="no param 'm'"):
            scheduler.reschedule(request.id, params={"m": 2})

    def test_an_immediate_request_can_be_rescheduled_while_it_runs(self, scheduler: Scheduler) -> None:
        def once_more() -> None:
            if len(runs_of(scheduler, "again")) == 1:
                scheduler.reschedule("again", Immediate())
                scheduler.reschedule("again", Immediate())

        scheduler.process("p")(once_more)
        scheduler.schedule("p", Immediate(), id="again")
        scheduler.run_until_idle()
        assert statuses(scheduler, "again") == [RunStatus.SUCCESS] * 2

    def test_run_now_of_a_process_is_a_new_request(self, scheduler: Scheduler) -> None:
        process = scheduler.process("p")(lambda: None)
        first, second = scheduler.run_now("p"), scheduler.run_now(process)
        assert first.id != second.id
        scheduler.run_until_idle()
        assert statuses(scheduler, first.id) == statuses(scheduler, second.id) == [RunStatus.SUCCESS]

    def test_run_now_of_a_request_leaves_its_fire_times(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Later(T0 + timedelta(hours=1)))
        assert scheduler.run_now(request.id).next_fire_time == T0 + timedelta(hours=1)
        scheduler.run_pending()
        clock.advance(timedelta(hours=1))
        scheduler.run_pending()
        assert [run.fire_time for run in runs_of(scheduler, request.id)] == [T0, T0 + timedelta(hours=1)]

    def test_a_deleted_request_is_gone(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Immediate())
        scheduler.run_pending()
        scheduler.delete(request.id)
        assert scheduler.monitor.runs() == []
        with pytest.raises(UnknownRequestError, match="no request"):
            scheduler.monitor.request(request.id)

    @pytest.mark.parametrize("change", ["unschedule", "reschedule", "delete"])
    def test_what_is_not_there_cannot_be_changed(self, scheduler: Scheduler, change: str) -> None:
        with pytest.raises(UnknownRequestError, match="no request 'x' in the store"):
            getattr(scheduler, change)("x")

    def test_many_are_filed_all_or_none(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda n=0: n)
        with pytest.raises(ParamsError):
            scheduler.schedule_many([("p", Immediate(), {"n": 1}), ("p", Immediate(), {"m": 1})])
        assert scheduler.monitor.requests() == []
        filed = scheduler.schedule_many([("p", Immediate(), {"n": n}) for n in range(5)])
        scheduler.run_until_idle()
        assert [runs_of(scheduler, request.id)[0].result for request in filed] == [0, 1, 2, 3, 4]


class TestDeclared:
    @staticmethod
    def make(store: Store, clock: ManualClock, timing: Schedule | None, timezone: str = "UTC") -> Scheduler:
        registry = ProcessRegistry()
        registry.process("nightly", timing=timing)(lambda: None)
        return Scheduler(store, processes=registry, clock=clock, timezone=timezone)

    def test_a_declared_timing_is_filed_once_whatever_restarts(self, store: Store, clock: ManualClock) -> None:
        timing = Schedule(EveryMinutes(50))
        for _ in range(5):
            scheduler = self.make(store, clock, timing)
            scheduler.run_pending()
            scheduler.shutdown()
            clock.advance(timedelta(minutes=20))
        monitor = Monitor(store)
        assert [run.fire_time for run in monitor.runs()[::-1]] == [T0, T0 + timedelta(minutes=50)]
        assert len(monitor.requests()) == 1

    def test_what_was_changed_at_run_time_stays(self, store: Store, clock: ManualClock) -> None:
        timing = Schedule(EveryMinutes(50))
        first = self.make(store, clock, timing)
        first.run_pending()
        first.unschedule("nightly")
        first.shutdown()
        second = self.make(store, clock, timing)
        second.run_pending()
        assert second.monitor.request("nightly").status is RequestStatus.UNSCHEDULED
        second.reschedule("nightly", Schedule(EveryMinutes(7)))
        second.shutdown()
        third = self.make(store, clock, timing)
        third.run_pending()
        assert "7 minutes" in third.monitor.request("nightly").timing.describe()

    def test_changed_code_wins(self, store: Store, clock: ManualClock) -> None:
        first = self.make(store, clock, Schedule(EveryMinutes(50)))
        first.run_pending()
        first.unschedule("nightly")
        first.shutdown()
        second = self.make(store, clock, Schedule(EveryMinutes(20)))
        assert second.run_pending() == T0 + timedelta(minutes=20)
        assert "20 minutes" in second.monitor.request("nightly").timing.describe()

    def test_another_time_zone_of_the_scheduler_is_changed_code(self, store: Store, clock: ManualClock) -> None:
        timing = Schedule(Daily(at="12:00"))
        zones = []
        for timezone in ("UTC", "Europe/Madrid", "Europe/Madrid"):
            scheduler = self.make(store, clock, timing, timezone)
            scheduler.run_pending()
            request = scheduler.monitor.request("nightly")
            scheduler.shutdown()
            assert isinstance(request.timing, Schedule)
            zones.append((request.timing.timezone, request.revision))
        assert zones == [("UTC", 1), ("Europe/Madrid", 2), ("Europe/Madrid", 2)]

    def test_a_timing_that_left_the_code_stops(self, store: Store, clock: ManualClock) -> None:
        first = self.make(store, clock, Schedule(EveryMinutes(50)))
        first.run_pending()
        first.shutdown()
        second = self.make(store, clock, None)
        assert second.run_pending() is None
        request = second.monitor.request("nightly")
        assert request.status is RequestStatus.UNSCHEDULED
        assert "no longer declared" in (request.reason or "")


class TestFailing:
    def test_an_error_is_kept_with_its_traceback_in_the_log(self, scheduler: Scheduler) -> None:
        def fail() -> None:
            raise ValueError("no paper")

        scheduler.process("p")(fail)
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert run.status is RunStatus.ERROR
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("ValueError", "no paper")
        assert "in fail" in run.error.traceback
        assert "_worker.py" not in run.error.traceback
        assert 'raise ValueError("no paper")' in scheduler.monitor.log(run.id)[-1].text

    @pytest.mark.parametrize("failure", [SystemExit(3), GeneratorExit()])
    def test_nothing_gets_out_of_a_process(self, scheduler: Scheduler, failure: BaseException) -> None:
        def fail() -> None:
            raise failure

        scheduler.process("p")(fail)
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert run.error is not None
        assert run.error.type == type(failure).__name__

    def test_ctrl_c_in_a_run_reaches_the_host_whose_thread_it_is(self, scheduler: Scheduler) -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        scheduler.process("p")(interrupted)
        first, second = scheduler.run_now("p"), scheduler.run_now("p")
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                scheduler.run_pending()
        assert statuses(scheduler, first.id) == statuses(scheduler, second.id) == [RunStatus.ERROR]

    def test_an_error_that_cannot_say_what_it_is(self, scheduler: Scheduler) -> None:
        class MuteError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        def fail() -> None:
            raise MuteError

        scheduler.process("p")(fail)
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert run.error is not None
        assert "its message failed" in run.error.message

    def test_a_retry_waits_and_keeps_each_attempt(self, scheduler: Scheduler, clock: ManualClock) -> None:
        seen: list[int] = []

        def flaky() -> str:
            run = current_run()
            seen.append(run.attempt)
            run.log.info("attempt %s", run.attempt)
            if run.attempt < 3:
                raise OSError("not yet")
            return "done"

        scheduler.process("p", retry=Retry(attempts=3, delay=timedelta(seconds=10), backoff=2.0))(flaky)
        request = scheduler.run_now("p")
        assert scheduler.run_pending() == T0 + timedelta(seconds=10)
        clock.advance(10)
        assert scheduler.run_pending() == T0 + timedelta(seconds=30)
        clock.advance(20)
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert (run.status, run.result, run.attempt) == (RunStatus.SUCCESS, "done", 3)
        assert [attempt.status for attempt in run.attempts] == [RunStatus.ERROR, RunStatus.ERROR]
        texts = [line.text for line in scheduler.monitor.log(run.id) if line.logger == "bgsched.run"]
        assert texts == ["attempt 1", "attempt 2", "attempt 3"]
        assert seen == [1, 2, 3]

    def test_the_last_attempt_ends_the_run(self, scheduler: Scheduler, clock: ManualClock) -> None:
        def fail() -> None:
            raise OSError("never")

        scheduler.process("p", retry=Retry(attempts=2, delay=timedelta(0)))(fail)
        request = scheduler.run_now("p")
        scheduler.run_until_idle()
        (run,) = runs_of(scheduler, request.id)
        assert (run.status, run.attempt, len(run.attempts)) == (RunStatus.ERROR, 2, 1)

    def test_a_result_that_is_no_json_is_named_in_the_log(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: {"at": object()})
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert (run.status, run.result) == (RunStatus.SUCCESS, None)
        assert "result.at is of type object" in scheduler.monitor.log(run.id)[0].text


class TestRunLog:
    def test_everything_that_is_logged_in_a_run_is_kept(self, scheduler: Scheduler) -> None:
        def work() -> None:
            logging.getLogger("host.invoices").warning("number %s is missing", 7)
            current_run().log.debug("detail")
            current_run().log.info("wrong %d", "format")

        scheduler.process("p")(work)
        logging.getLogger("host.invoices").warning("not in a run")
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        lines = scheduler.monitor.log(run.id)
        assert [(line.level, line.logger) for line in lines] == [
            ("WARNING", "host.invoices"),
            ("DEBUG", "bgsched.run"),
            ("INFO", "bgsched.run"),
        ]
        assert lines[0].text == "number 7 is missing"
        assert "TypeError" in lines[2].text

    def test_logging_is_left_as_it_was(self, scheduler: Scheduler) -> None:
        handlers, level = list(logging.root.handlers), logging.root.level
        scheduler.process("p")(lambda: None)
        scheduler.run_now("p")
        scheduler.run_pending()
        assert (logging.root.handlers, logging.root.level) == (handlers, level)

    def test_a_flood_keeps_its_head_and_its_tail(self, scheduler: Scheduler) -> None:
        def flood() -> None:
            for n in range(8000):
                current_run().log.info("line %s", n)

        scheduler.process("p")(flood)
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        texts = [line.text for line in scheduler.monitor.log(run.id, limit=10_000)]
        assert texts[0] == "line 0"
        assert texts[-1] == "line 7999"
        assert "2000 lines were dropped here" in texts[5000]
        assert len(texts) == 6001

    def test_outside_a_run_there_is_no_current_run(self) -> None:
        with pytest.raises(NoCurrentRunError, match="no run here"):
            current_run()
        assert current_run(default=None) is None


class TestThread:
    """With the scheduler's own thread; every wait is for a signal."""

    @pytest.fixture
    def scheduler(self, store: Store) -> Iterator[Scheduler]:
        scheduler = Scheduler(store)
        yield scheduler
        scheduler.shutdown(timeout=5)

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

        def flaky(*args: Any) -> Any:
            if Flaky.fails:
                Flaky.fails -= 1
                raise StoreUnavailableError("the disk is on fire")
            return claim(*args)

        store.claim = flaky  # type: ignore[assignment,method-assign]
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


class TestProcesses:
    def test_the_function_stays_a_function(self, scheduler: Scheduler) -> None:
        @scheduler.process
        def add(a: int, b: int = 1) -> int:
            """Add."""
            return a + b

        assert add(1, 2) == 3
        assert (add.name, add.__doc__) == ("add", "Add.")
        request = add.schedule(Immediate(), 1, b=5)
        assert request.params == {"a": 1, "b": 5}
        scheduler.run_pending()
        assert runs_of(scheduler, request.id)[0].result == 6

    def test_a_registry_needs_no_scheduler(self, clock: ManualClock) -> None:
        registry = ProcessRegistry()

        @registry.process
        def work() -> None: ...

        with pytest.raises(SchedulerStateError, match="belongs to no scheduler yet"):
            work.schedule(Immediate())
        scheduler = Scheduler(processes=registry, clock=clock)
        assert work.schedule(Immediate()).id == scheduler.monitor.requests()[0].id

    def test_a_name_is_taken_once(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(ProcessNameError, match="'p' is registered already"):
            scheduler.process("p")(lambda: None)

    def test_what_params_cannot_reach_is_refused(self, scheduler: Scheduler) -> None:
        with pytest.raises(ProcessNameError, match="by position"):
            scheduler.process("p")(lambda *args: args)

    def test_an_unknown_option_is_refused(self, scheduler: Scheduler) -> None:
        with pytest.raises(TypeError, match="did you mean 'misfire'"):
            scheduler.process("p", misfyre=1)  # type: ignore[call-overload]

    def test_a_process_that_left_the_code_waits_in_sight(self, store: Store, clock: ManualClock) -> None:
        first = Scheduler(store, clock=clock)
        first.process("old")(lambda: None)
        request = first.run_now("old")
        second = Scheduler(store, clock=clock)
        assert second.run_pending() is None
        assert second.monitor.request(request.id).status is RequestStatus.SCHEDULED
        second.process("old")(lambda: "back")
        second.run_pending()
        assert runs_of(second, request.id)[0].result == "back"


class TestBadInput:
    def test_an_unknown_process(self, scheduler: Scheduler) -> None:
        scheduler.process("send-invoices")(lambda: None)
        with pytest.raises(UnknownProcessError, match="no process 'send-invoice'; did you mean 'send-invoices'"):
            scheduler.schedule("send-invoice", Immediate())

    def test_a_function_that_is_no_process(self, scheduler: Scheduler) -> None:
        def send() -> None: ...

        with pytest.raises(UnknownProcessError, match="no process 'send'; none is registered yet: decorate one"):
            scheduler.schedule(send, Immediate())  # type: ignore[arg-type]
        scheduler.process("send")(send)
        with pytest.raises(
            UnknownProcessError, match="function 'send' is not the process 'send'; give the name, or what"
        ):
            scheduler.schedule(send, Immediate())  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"compny": "a"}, "no param 'compny'; did you mean 'company'"),
            ({}, "missing a required argument: 'company'"),
            ({"company": object()}, "company is of type object, which is not JSON; write a string"),
            ({"company": {"a": [1, {2}]}}, r"company.a\[1\] is of type set, which is not JSON; write a list"),
            ({"company": {1: 2}}, "company has the key 1, which is no string"),
            ({"company": float("nan")}, "company is nan, which JSON does not have"),
            ({"company": T0}, "company is of type datetime, which is not JSON"),
        ],
    )
    def test_params_that_do_not_fit(self, scheduler: Scheduler, params: dict[str, Any], message: str) -> None:
        scheduler.process("p")(lambda company, day="today": (company, day))
        with pytest.raises(ParamsError, match=message):
            scheduler.schedule("p", Immediate(), params)
        assert scheduler.monitor.requests() == []

    def test_a_timing_that_is_none(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(TimingError, match="timing must be Immediate"):
            scheduler.schedule("p", "tomorrow")  # type: ignore[arg-type]

    def test_a_finish_that_is_over(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(TimingError, match=r"finish 2025-12-24 00:00:00.* is over, it is .*; give a later finish"):
            scheduler.schedule("p", Schedule(Daily(at="09:00"), finish=datetime(2025, 12, 24, tzinfo=UTC)))

    @pytest.mark.parametrize(
        ("timing", "message"),
        [("daily", "timing must be Immediate.*got 'daily'"), (EveryMinutes(5), r"write Schedule\(EveryMinutes\(5\)\)")],
    )
    def test_a_declared_timing_that_is_none(self, scheduler: Scheduler, timing: Any, message: str) -> None:
        with pytest.raises(TimingError, match=message):
            scheduler.process("p", timing=timing)(lambda: None)

    def test_a_declared_timing_for_a_process_that_needs_params(self, scheduler: Scheduler) -> None:
        with pytest.raises(
            ProcessNameError, match=r"runs by its own timing, without params, but .*'company'.* default"
        ):
            scheduler.process("p", timing=Schedule(EveryMinutes(5)))(lambda company: company)

    def test_a_timing_that_is_over(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(TimingError, match="no fire time is left"):
            scheduler.schedule(
                "p", Schedule(Daily(at="09:00"), start=T0 - timedelta(days=9), finish=T0 - timedelta(days=5))
            )

    def test_an_unknown_zone(self) -> None:
        with pytest.raises(TimingError, match="Europe/Madrid"):
            Scheduler(timezone="Europe/Madird")

    def test_an_id_that_is_taken(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        scheduler.schedule("p", Immediate(), id="mine")
        with pytest.raises(RequestExistsError, match="reschedule"):
            scheduler.schedule("p", Immediate(), id="mine")

    def test_no_workers(self) -> None:
        with pytest.raises(ValueError, match="workers must be 1 or more, got 0"):
            Scheduler(workers=0)

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("these are only notes, but long enough to be read as a header of a file" * 9)
        with pytest.raises(StoreSchemaError, match=r"notes\.txt is not an SQLite database"):
            SQLiteStore(path)
        assert path.read_text().startswith("these are only notes")

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailableError, match="nowhere is no folder"):
            SQLiteStore(tmp_path / "nowhere" / "app.db")

    def test_a_folder_that_cannot_be_written(self) -> None:
        with pytest.raises(StoreUnavailableError, match="cannot be written"):
            SQLiteStore("/proc/app.db")

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("sqllite:///app.db", "unknown store 'sqllite'.*did you mean 'sqlite'"),
            ("app.db", "has no scheme; for a file write 'sqlite:///app.db'"),
            ("", "has no scheme; for a file write 'sqlite:///app.db'"),
            ("sqlite://", "names no file"),
            ("sqlite:app.db", "names no file; write 'sqlite:///app.db'"),
            ("sqlite:///:memory:", "write 'memory://'"),
            ("sqlite:///app.db?timeout=3", "has options, and there are none for a file"),
            ("sqlite:///app#1.db", "write [?] as %3F and # as %23"),
            ("mysql://ann:secret@host/db", r"unknown store 'mysql' in 'mysql://ann:\*\*\*@host/db'"),
            ("postgresql//ann:secret@host/db", r"'postgresql//ann:\*\*\*@host/db' has no scheme; for PostgreSQL write"),
            (
                "host=h dbname=d password=secret",
                r"'host=h dbname=d password=\*\*\*' has no scheme; for PostgreSQL write",
            ),
        ],
    )
    def test_a_url_that_names_no_store(self, url: str, message: str) -> None:
        with pytest.raises(StoreURLError, match=message):
            open_store(url)

    def test_a_folder_in_place_of_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailableError, match="it is a folder; name a file in it"):
            SQLiteStore(tmp_path)

    @pytest.mark.parametrize("make", [Scheduler, Monitor])
    @pytest.mark.parametrize(
        ("store", "message"),
        [
            (Path("app.db"), r"got .*Path\('app.db'\); for a file write SQLiteStore\('app.db'\)"),
            (MemoryStore, "store must be a Store or a URL such as 'sqlite:///app.db', got <class"),
        ],
    )
    def test_what_is_no_store(self, make: Callable[[Any], object], store: object, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            make(store)

    def test_a_monitor_makes_no_database(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailableError, match="no database"):
            Monitor(f"sqlite:///{tmp_path}/app.db")
        assert list(tmp_path.iterdir()) == []

    def test_questions_that_cannot_be_answered(self, scheduler: Scheduler) -> None:
        monitor = scheduler.monitor
        with pytest.raises(UnknownRunError, match="no run 7"):
            monitor.run(7)
        with pytest.raises(UnknownRunError):
            monitor.log(7)
        with pytest.raises(ValueError, match="no status 'sucess'; did you mean 'success'"):
            monitor.runs(status="sucess")
        with pytest.raises(ValueError, match="limit must be 1 or more, got 0"):
            monitor.runs(limit=0)
        with pytest.raises(ValueError, match="since must be aware"):
            monitor.runs(since=datetime(2026, 1, 1))


class TestMonitor:
    def test_health_says_what_is_wrong(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        assert scheduler.monitor.health().problems == ("no scheduler is signed on",)
        scheduler.run_pending()
        if isinstance(scheduler.store, PostgresStore):  # whose server knows that the clock of this test is wrong
            theirs, ours = scheduler.monitor.health().problems
            assert "behind that of the database server" in theirs
            assert ours.startswith("the clock here is")
        else:
            assert scheduler.monitor.health().ok
        scheduler.schedule("p", Immediate(), id="waits")
        clock.advance(120)
        health = scheduler.monitor.health()
        assert health.overdue_by == timedelta(minutes=2)
        assert any("'waits'" in problem for problem in health.problems)
        json.dumps(health.to_dict())

    def test_following_a_log_ends_with_the_run(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: current_run().log.info("hello"))
        scheduler.run_now("p")
        scheduler.run_pending()
        run = scheduler.monitor.runs()[0]
        assert [line.text for line in scheduler.monitor.follow(run.id)] == ["hello"]

    def test_everything_is_json(self, scheduler: Scheduler) -> None:
        @scheduler.process("p", on_abandon=OnAbandon.RERUN)
        def work() -> dict[str, int]:
            for _ in current_run().track([1, 2]):
                current_run().log.info("one")
            return {"n": 1}

        scheduler.schedule("p", Schedule(EverySeconds(5)))
        scheduler.run_pending()
        run = scheduler.monitor.runs()[0]
        assert json.loads(json.dumps(run.to_dict()))["progress"] == {"done": 2, "total": 2, "message": None}
        json.dumps([line.to_dict() for line in scheduler.monitor.log(run.id)])
        json.dumps([request.to_dict() for request in scheduler.monitor.requests()])
        json.dumps(scheduler.monitor.summary().to_dict())
        assert scheduler.monitor.upcoming()[0].id == run.request_id
        assert scheduler.monitor.running() == []
