"""What the monitor says of what ran, what did not, and why."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from bgsched import (
    EveryMinutes,
    EverySeconds,
    Immediate,
    Later,
    LogLine,
    MemoryStore,
    Misfire,
    Monitor,
    PostgresStore,
    RequestStatus,
    Retention,
    Retry,
    Run,
    RunStatus,
    Schedule,
    Scheduler,
    SchedulerRecord,
    SQLiteStore,
    Store,
    UnknownRequestError,
    UnknownRunError,
    current_run,
)
from bgsched._current import LiveRun
from bgsched.clock import Signal
from bgsched.stores.base import Report
from bgsched.testing import ManualClock
from bgsched.testing.contract import FixedPlanner, make_request

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def scheduler(store: Store, clock: ManualClock) -> Iterator[Scheduler]:
    scheduler = Scheduler(store, clock=clock)
    scheduler.process("p")(lambda: None)
    yield scheduler
    scheduler.shutdown(timeout=0)


class TestWhy:
    def test_not_due_yet(self, scheduler: Scheduler) -> None:
        request = scheduler.schedule("p", Later(T0 + timedelta(hours=3)))
        assert "It is not due yet" in scheduler.monitor.why(request.id)
        assert "2026-01-01 03:00:00 UTC, in 3:00:00" in scheduler.monitor.why(request.id)

    def test_no_scheduler_is_alive(self, scheduler: Scheduler) -> None:
        request = scheduler.run_now("p")
        assert "due since 2026-01-01 00:00:00 UTC, but no scheduler is alive" in scheduler.monitor.why(request.id)

    def test_no_scheduler_knows_the_process(self, scheduler: Scheduler, store: Store, clock: ManualClock) -> None:
        request = scheduler.run_now("p")
        other = Scheduler(store, clock=clock)
        other.run_pending()
        assert "none of the 1 living schedulers has a process 'p'" in other.monitor.why(request.id)

    def test_paused(self, scheduler: Scheduler) -> None:
        scheduler.pause()
        scheduler.run_pending()
        request = scheduler.run_now("p")
        assert "every scheduler that could run it is paused" in scheduler.monitor.why(request.id)

    def test_unscheduled(self, scheduler: Scheduler) -> None:
        request = scheduler.schedule("p", Schedule(EverySeconds(5)))
        scheduler.unschedule(request.id)
        since = "It is unscheduled since 2026-01-01 00:00:00 UTC"
        assert f"{since}; reschedule({request.id!r}) resumes it." in scheduler.monitor.why(request.id)

    def test_complete(self, scheduler: Scheduler) -> None:
        request = scheduler.run_now("p")
        scheduler.run_pending()
        why = scheduler.monitor.why(request.id)
        assert "It is complete" in why
        assert "ended at 2026-01-01 00:00:00 UTC, success" in why
        request = scheduler.schedule("p", Later(T0))
        scheduler.run_pending()
        assert "it was to run once, on 1 January 2026 at 00:00, UTC; resch" in scheduler.monitor.why(request.id)

    def test_skipped_behind_a_run(self, scheduler: Scheduler, store: Store, clock: ManualClock) -> None:
        seen: list[str] = []

        def slow() -> None:
            other = Scheduler(store, clock=clock)
            other.process("slow")(lambda: None)
            clock.advance(10)
            other.run_pending()
            seen.append(other.monitor.why("slow"))

        scheduler.process("slow")(slow)
        scheduler.schedule("slow", Schedule(EverySeconds(10)), id="slow")
        scheduler.run_pending()
        run = scheduler.monitor.runs(status=RunStatus.SUCCESS)[0]
        assert f"Run {run.id} has been running since" in seen[0]
        assert f"was skipped at 2026-01-01 00:00:10 UTC: run {run.id} had not ended" in seen[0]

    def test_misfired(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("strict", misfire=Misfire.SKIP)(lambda: None)
        scheduler.schedule("strict", Schedule(EveryMinutes(10)), id="s")
        clock.advance(timedelta(hours=1, minutes=5))
        scheduler.run_pending()
        assert "7 fire times from 2026-01-01 00:00:00 UTC to 2026-01-01 01:00:00 UTC misfired" in scheduler.monitor.why(
            "s"
        )

    def test_waiting_for_a_retry(self, scheduler: Scheduler) -> None:
        def fail() -> None:
            raise OSError("no line")

        scheduler.process("flaky", retry=Retry(attempts=2, delay=timedelta(minutes=1)))(fail)
        request = scheduler.run_now("flaky")
        scheduler.run_pending()
        assert "waits until 2026-01-01 00:01:00 UTC: attempt 1 of 2 failed (OSError)" in scheduler.monitor.why(
            request.id
        )

    def test_failed(self, scheduler: Scheduler) -> None:
        def fail() -> None:
            raise OSError("no line")

        scheduler.process("broken")(fail)
        request = scheduler.run_now("broken")
        scheduler.run_pending()
        assert "error: OSError: no line" in scheduler.monitor.why(request.id)

    def test_of_what_is_not_there(self, scheduler: Scheduler) -> None:
        with pytest.raises(UnknownRequestError):
            scheduler.monitor.why("x")


class TestHistogram:
    def test_hours_come_without_gaps(self, scheduler: Scheduler, clock: ManualClock) -> None:
        for step in range(3):
            scheduler.run_now("p")
            scheduler.run_pending()
            clock.advance(timedelta(hours=step + 1))
        buckets = scheduler.monitor.histogram(since=T0)
        assert [bucket.start for bucket in buckets] == [T0 + timedelta(hours=h) for h in range(7)]
        assert [bucket.counts.get(RunStatus.SUCCESS, 0) for bucket in buckets] == [1, 1, 0, 1, 0, 0, 0]
        json.dumps([bucket.to_dict() for bucket in buckets])

    def test_days_are_whole_days(self, scheduler: Scheduler, clock: ManualClock) -> None:
        clock.advance(timedelta(hours=30))
        scheduler.run_now("p")
        scheduler.run_pending()
        buckets = scheduler.monitor.histogram("p", since=T0 + timedelta(hours=5), by="day")
        assert [(bucket.start, sum(bucket.counts.values())) for bucket in buckets] == [
            (T0, 0),
            (T0 + timedelta(days=1), 1),
        ]

    def test_a_bucket_is_an_hour_or_a_day(self, scheduler: Scheduler) -> None:
        with pytest.raises(ValueError, match="by must be 'hour' or 'day', got 'week'"):
            scheduler.monitor.histogram(by="week")  # type: ignore[arg-type]

    def test_more_buckets_than_a_chart_can_show_are_refused(self, scheduler: Scheduler) -> None:
        first = datetime.min.replace(tzinfo=UTC)
        with pytest.raises(ValueError, match=r"17,[0-9,]+ hours, more than 100,000: give a later since"):
            scheduler.monitor.histogram(since=first)
        with pytest.raises(ValueError, match=r"739,[0-9]+ days, more than 100,000"):
            scheduler.monitor.histogram(since=first, by="day")
        assert len(scheduler.monitor.histogram(since=T0 - timedelta(hours=99_999))) == 100_000


class TestLogs:
    def test_what_was_dropped_is_said(self, store: Store, scheduler: Scheduler) -> None:
        def flood() -> None:
            for n in range(8000):
                current_run().log.info("line %s", n)

        scheduler.process("flood")(flood)
        scheduler.run_now("flood")
        scheduler.run_pending()
        run = scheduler.monitor.runs()[0]
        lines = scheduler.monitor.log(run.id, limit=10_000)
        assert lines[5000] == LogLine(
            run.id, 7000, lines[5001].at, "WARNING", "bgsched", "... 2000 lines were dropped here ...", 1
        )
        paged: list[LogLine] = []
        while page := scheduler.monitor.log(run.id, after=paged[-1].seq if paged else 0, limit=999):
            paged += page
        assert paged == lines
        pages = [scheduler.monitor.log(run.id, after=4999, limit=limit) for limit in (1, 2, 3)]
        assert [[line.seq for line in page] for page in pages] == [[5000], [5000, 7000], [5000, 7000, 7001]]

    def test_a_log_can_be_read_while_it_is_written(self, scheduler: Scheduler) -> None:
        seen: list[str] = []

        def talk() -> None:
            current_run().log.info("first")
            engine = scheduler._life.engine
            assert engine is not None
            engine.report(finally_=True)
            (run,) = scheduler.monitor.running()
            seen.extend(line.text for line in scheduler.monitor.log(run.id))

        scheduler.process("talk")(talk)
        scheduler.run_now("talk")
        scheduler.run_pending()
        assert seen == ["first"]


def test_the_monitor_of_a_file_reads_what_another_store_writes(tmp_path: Path, clock: ManualClock) -> None:
    scheduler = Scheduler(f"sqlite:///{tmp_path}/app.db", clock=clock)
    scheduler.process("p")(lambda: 1)
    monitor = Monitor(f"sqlite:///{tmp_path}/app.db")
    request = scheduler.schedule("p", Immediate())
    assert monitor.request(request.id).status is RequestStatus.SCHEDULED
    scheduler.run_pending()
    assert monitor.runs()[0].result == 1


def test_a_live_run_is_closed_once(clock: ManualClock, scheduler: Scheduler) -> None:
    scheduler.run_now("p")
    scheduler.run_pending()
    run = scheduler.monitor.runs()[0]
    live = LiveRun(run, scheduler.processes.get("p"), clock)
    assert live.close(lambda run, _now, _spent: run)
    assert not live.close(lambda run, _now, _spent: run)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store
    if request.param == "memory":
        store = MemoryStore()
    elif request.param == "sqlite":
        store = SQLiteStore(tmp_path / "app.db")
    else:
        dsn, schema = request.getfixturevalue("postgres_dsn"), request.getfixturevalue("postgres_schema")
        store = PostgresStore(dsn, schema=schema)
    yield store
    store.close()


class Impatient(ManualClock):
    """A clock on which a wait is over at once."""

    def wait(self, signal: Signal, timeout: float) -> None:
        self.advance(timeout)


def test_a_host_that_calls_run_pending_when_something_is_due_is_well(scheduler: Scheduler, clock: ManualClock) -> None:
    scheduler.schedule("p", Later(clock.now() + timedelta(days=1)))
    scheduler.run_pending()
    clock.advance(timedelta(hours=23))
    assert scheduler.monitor.health().problems == ()
    clock.advance(timedelta(hours=1, minutes=2))
    assert "2026-01-01 00:00:00 UTC" in scheduler.monitor.health().problems[-1]  # when it was called


def test_a_clock_that_was_ahead_hides_nothing_that_comes_after_it(any_store: Store) -> None:
    clock = ManualClock(datetime.now(UTC))  # as the server's
    keep = Retention(success=timedelta(days=1), other=timedelta(days=1))
    scheduler = Scheduler(any_store, clock=clock, retention=keep)
    scheduler.process("p")(lambda: None)
    scheduler.schedule("p", Immediate(), id="a")
    scheduler.run_until_idle()
    clock.jump(timedelta(days=365))
    scheduler.run_now("a")
    scheduler.run_until_idle()
    clock.jump(timedelta(days=-365))
    began = clock.now()
    for _ in range(3):
        clock.advance(60)
        scheduler.run_now("a")
        scheduler.run_until_idle()
    runs = scheduler.monitor.runs(since=began, until=clock.now())
    assert [run.recorded_at for run in runs[:3]] == [began + n * timedelta(minutes=1) for n in (3, 2, 1)]
    for _ in range(4):
        clock.advance(timedelta(days=1))
        scheduler.run_until_idle()
    kept = [run.finished_at for run in scheduler.monitor.runs()]
    assert len(kept) == 2  # the newest, and the one whose end is said to be in a year
    scheduler.shutdown()


class TestFollow:
    def test_lines_come_as_they_are_written_until_the_run_has_ended(self, any_store: Store) -> None:
        any_store.file([make_request()])
        any_store.sign_on(SchedulerRecord(owner="a", host="h", pid=1, started_at=T0, heartbeat_at=T0, lease_until=T0))
        (run,) = any_store.claim(FixedPlanner(), "a", T0, 1)

        def say(seq: int, *runs: Run) -> None:
            any_store.record("a", T0, Report(runs, [LogLine(run.id, seq, T0, "INFO", "x", f"line {seq}")]))

        lines = Monitor(any_store, clock=Impatient(T0)).follow(run.id)
        say(1, run.started(T0))
        assert next(lines).text == "line 1"
        say(2)
        assert next(lines).text == "line 2"
        say(3, run.started(T0).move(RunStatus.SUCCESS, finished_at=T0))
        assert [line.text for line in lines] == ["line 3"]

    def test_of_a_run_that_is_not_there(self, any_store: Store) -> None:
        with pytest.raises(UnknownRunError, match="no run 7"):
            next(Monitor(any_store).follow(7))


def test_every_run_of_a_summary_is_masked(scheduler: Scheduler) -> None:
    @scheduler.process("log-in", sensitive="password")
    def log_in(password: str) -> None:
        if password == "wrong":
            raise ValueError("no")

    for password in ("sesame", "wrong"):
        scheduler.schedule("log-in", Immediate(), {"password": password})
    scheduler.run_until_idle()
    summary = scheduler.monitor.summary("log-in")
    shown = [summary.last_run, summary.last_success, summary.last_failure]
    assert [run.params["password"] for run in shown if run is not None] == ["***"] * 3


def test_no_secret_shows_in_an_overlap_key(scheduler: Scheduler) -> None:
    """A digest of few possible values is told by trying them."""
    scheduler.process("pay", sensitive="pin", overlap_scope=("pin",))(lambda pin: None)
    scheduler.schedule("pay", Immediate(), {"pin": "4711"})
    scheduler.run_until_idle()
    (run,) = scheduler.monitor.runs("pay")
    assert run.overlap_key == "params:pay:***"


class TestOddQuestions:
    """Whatever a dashboard passes on from its address bar: each store gives the same answer, and none breaks."""

    HUGE = 10**30

    def test_names_that_no_store_can_hold(self, any_store: Store) -> None:
        monitor = Monitor(any_store)
        for odd in ("\x00", "\udc80", "%", "'", ""):
            assert monitor.runs(odd) == monitor.runs(request=odd) == monitor.runs(user=odd) == []
            assert monitor.requests(odd) == monitor.requests(user=odd) == monitor.requests(after=odd or "x") == []
            assert monitor.summary(odd).counts == {}
            assert monitor.next_due(odd) is None
            for ask in (monitor.request, monitor.why):
                with pytest.raises(UnknownRequestError):
                    ask(odd)

    def test_names_that_are_enums_of_texts(self, scheduler: Scheduler) -> None:
        class Work(str, Enum):  # noqa: UP042  as hosts have them: str() of one is its name
            SEND = "send"

        scheduler.process(Work.SEND)(lambda: None)
        request = scheduler.schedule(Work.SEND, Immediate(), id=Work.SEND)
        scheduler.run_pending()
        assert [run.request_id for run in scheduler.monitor.runs(Work.SEND)] == ["send"]
        assert scheduler.monitor.request(Work.SEND).created_at == request.created_at

    def test_numbers_beyond_every_id(self, any_store: Store) -> None:
        monitor = Monitor(any_store)
        assert monitor.runs(before=self.HUGE, limit=self.HUGE) == monitor.runs(parent=self.HUGE) == []
        assert monitor.requests(limit=self.HUGE) == monitor.upcoming(self.HUGE) == []
        for ask in (monitor.run, monitor.log):
            for id in (self.HUGE, 0, -self.HUGE):
                with pytest.raises(UnknownRunError):
                    ask(id)
        with pytest.raises(ValueError, match=r"limit must be 1 or more, got 1\.5"):
            monitor.runs(limit=1.5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="whole numbers, got 'x'"):
            monitor.run("x")  # type: ignore[arg-type]
        for look in (monitor.run, monitor.log, lambda number: monitor.runs(before=number)):
            with pytest.raises(ValueError, match="whole numbers, got True"):
                look(True)  # noqa: FBT003  what is no number

    def test_instants_that_are_none(self, any_store: Store) -> None:
        monitor = Monitor(any_store)
        odd: Any
        for odd in ("2020-01-01", 0, T0.date(), T0.replace(tzinfo=None)):
            for ask in (monitor.runs, monitor.summary, monitor.totals, monitor.histogram):
                with pytest.raises(ValueError, match=r"since must be (an )?aware( datetime)?, got .*; write since="):
                    ask(since=odd)

    def test_no_status_means_all(self, any_store: Store) -> None:
        any_store.file([make_request()])
        any_store.sign_on(SchedulerRecord(owner="a", host="h", pid=1, started_at=T0, heartbeat_at=T0, lease_until=T0))
        any_store.claim(FixedPlanner(), "a", T0, 1)
        monitor = Monitor(any_store)
        assert len(monitor.runs(status=[])) == len(monitor.runs()) == 1
        assert len(monitor.requests(status=[])) == len(monitor.requests()) == 1

    def test_the_ends_of_time(self, any_store: Store) -> None:
        monitor, first, last = (
            Monitor(any_store),
            datetime.min.replace(tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
        )
        assert monitor.runs(since=first, until=last) == []
        assert monitor.totals(first, last) == []
        assert monitor.summary(since=first).counts == monitor.summary(since=last).counts == {}
        assert [bucket.start for bucket in monitor.histogram(until=first)] == [first]
        assert [bucket.start for bucket in monitor.histogram(until=first, by="day")] == [first]
        assert len(monitor.histogram(until=last)) == 25
        assert len(monitor.histogram(until=first + timedelta(hours=24))) == 25
        before, beyond = (
            datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
            datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))),
        )
        assert monitor.runs(since=before, until=beyond) == []


def test_what_is_no_name_is_refused_with_what_to_write() -> None:
    scheduler = Scheduler()
    process = scheduler.process("p")(lambda: None)
    request = scheduler.schedule("p", Immediate())
    monitor: Any = scheduler.monitor
    questions: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: monitor.runs(process), "process must be a string.*; write process.name"),
        (lambda: monitor.summary(process), "; write process.name"),
        (lambda: monitor.histogram(process), "; write process.name"),
        (lambda: monitor.requests(process), "; write process.name"),
        (lambda: monitor.next_due(process), "; write process.name"),
        (lambda: monitor.runs(request=request), "request must be a string.*; write request.id"),
        (lambda: monitor.why(request), "; write request.id"),
        (lambda: monitor.runs(user=5), "user must be a string, got 5"),
        (lambda: monitor.runs(status=5), "status must be a status or several, got 5"),
    )
    for question, hint in questions:
        with pytest.raises(ValueError, match=hint):
            question()
