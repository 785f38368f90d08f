"""What a scheduler tells its listeners: once what is told is so, and no more than that."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from bgsched import (
    Daily,
    Event,
    EveryMinutes,
    Hourly,
    Immediate,
    Later,
    Overlap,
    ProcessGroup,
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
    StoreUnavailableError,
    current_run,
)
from bgsched.stores.base import Report
from bgsched.testing import ManualClock

ENDS: dict[str, tuple[Callable[[Scheduler], object], RunStatus]] = {
    "kill": (lambda scheduler: scheduler.kill(1), RunStatus.KILLED),
    "unschedule": (lambda scheduler: scheduler.unschedule("r"), RunStatus.ERROR),
    "delete": (lambda scheduler: scheduler.delete("r"), RunStatus.KILLED),
    "replace": (lambda scheduler: scheduler.run_until_idle(), RunStatus.ERROR),
}


class Heard:
    """The events of a scheduler, as words: the kind, and how the run or request stands."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._hooks = scheduler._hooks
        self._events: list[Event] = []
        scheduler.on(Event, self._events.append)

    def requests(self) -> list[tuple[type[Event], str]]:
        """Return what was told of requests since the last call."""
        self._hooks.settle(30)
        kinds = RequestScheduled | RequestUnscheduled
        told: list[tuple[type[Event], str]] = [
            (type(event), event.request.id) for event in self._events if isinstance(event, kinds)
        ]
        self._events.clear()
        return told

    def runs(self, id: int = 1) -> list[tuple[type[Event], RunStatus]]:
        """Return what was told of a run."""
        self._hooks.settle(30)
        kinds = RunStarted | RunRetried | RunFinished
        return [
            (type(event), event.run.status) for event in self._events if isinstance(event, kinds) and event.run.id == id
        ]


def fail() -> None:
    raise ValueError("no paper")


class TestRuns:
    @pytest.mark.parametrize("how", ENDS)
    def test_a_run_that_ends_while_it_waits_for_its_next_attempt_has_finished(
        self, scheduler: Scheduler, clock: ManualClock, how: str
    ) -> None:
        heard = Heard(scheduler)
        scheduler.process("p", retry=Retry(delay=timedelta(hours=1)), overlap=Overlap.REPLACE)(fail)
        scheduler.schedule("p", Schedule(EveryMinutes(10)), id="r")
        scheduler.run_until_idle()
        clock.advance(600 if how == "replace" else 60)
        end, status = ENDS[how]
        end(scheduler)
        assert heard.runs() == [
            (RunStarted, RunStatus.RUNNING),
            (RunRetried, RunStatus.WAITING),
            (RunFinished, status),
        ]
        assert how == "delete" or scheduler.monitor.run(1).status is status

    def test_one_that_was_to_be_killed_when_it_failed_is_not_told_as_retried(self, scheduler: Scheduler) -> None:
        heard = Heard(scheduler)

        def asked_elsewhere() -> None:
            scheduler.store.kill(current_run().id, scheduler._clock.now())
            raise ValueError("no paper")

        scheduler.process("p", retry=Retry())(asked_elsewhere)
        scheduler.run_now("p")
        scheduler.run_until_idle()
        assert heard.runs() == [(RunStarted, RunStatus.RUNNING), (RunFinished, RunStatus.KILLED)]

    def test_what_never_began_has_not_finished(self, scheduler: Scheduler, clock: ManualClock) -> None:
        heard = Heard(scheduler)
        scheduler.process("p")(fail)
        scheduler.schedule("p", Later(clock.now() + timedelta(hours=1)), id="r")
        scheduler.run_now("r")
        assert scheduler.kill(1).status is RunStatus.KILLED
        scheduler.run_now("r")
        scheduler.unschedule("r")
        assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.SKIPPED, RunStatus.KILLED]
        assert heard.runs(1) == heard.runs(2) == []

    def test_one_that_is_deleted_while_it_runs_has_finished_when_it_ends(self, scheduler: Scheduler) -> None:
        heard = Heard(scheduler)
        scheduler.process("p")(lambda: scheduler.delete(current_run().request_id))
        scheduler.run_now("p")
        scheduler.run_until_idle()
        assert scheduler.monitor.runs() == []
        assert heard.runs() == [(RunStarted, RunStatus.RUNNING), (RunFinished, RunStatus.SUCCESS)]

    def test_one_that_is_left_at_a_shutdown_has_finished(self, scheduler: Scheduler) -> None:
        heard, started, release = Heard(scheduler), threading.Event(), threading.Event()

        @scheduler.process
        def hang() -> None:
            started.set()
            release.wait(30)

        scheduler.start().run_now("hang")
        assert started.wait(30)
        assert len(scheduler.shutdown(timeout=0).left) == 1
        release.set()
        assert heard.runs() == [(RunStarted, RunStatus.RUNNING), (RunFinished, RunStatus.ABANDONED)]

    @pytest.mark.parametrize("how", ["kill", "replace"])
    def test_a_member_of_a_group_that_waits_for_its_next_attempt_has_finished_as_well(
        self, scheduler: Scheduler, clock: ManualClock, how: str
    ) -> None:
        heard = Heard(scheduler)
        retry = Retry(delay=timedelta(hours=1))
        scheduler.process("p", retry=retry, overlap=Overlap.REPLACE, overlap_scope="process")(fail)
        for name in ("first", "second"):
            scheduler.add(ProcessGroup(name, ["p"]))
        scheduler.run_now("first")
        scheduler.run_until_idle()
        (member,) = scheduler.monitor.runs("p")
        if how == "kill":
            scheduler.kill(scheduler.monitor.runs("first")[0].id)
        else:
            scheduler.run_now("second")
        clock.advance(1)
        scheduler.run_until_idle()
        end = RunStatus.KILLED if how == "kill" else RunStatus.ERROR
        assert heard.runs(member.id)[2:] == [(RunFinished, end)]

    def test_an_attempt_that_is_put_back_has_not_failed(self, scheduler: Scheduler, clock: ManualClock) -> None:
        heard = Heard(scheduler)
        scheduler.process("p", retry=Retry(delay=timedelta(minutes=1)))(fail)
        scheduler.run_now("p")
        scheduler.run_until_idle()
        clock.advance(60)
        engine = scheduler._life.engine
        assert engine is not None
        engine._start_run = lambda _: None  # no worker is free
        engine.one_pass()
        scheduler.shutdown()
        (run,) = scheduler.monitor.runs()
        assert (run.status, run.attempt, run.owner, len(run.attempts)) == (RunStatus.WAITING, 2, None, 1)
        assert [kind for kind, _ in heard.runs()] == [RunStarted, RunRetried]


class TestRequests:
    def test_a_declared_timing_is_told_when_it_is_new_or_has_changed(self, store: Store, clock: ManualClock) -> None:
        def told(*timings: Schedule) -> list[tuple[type[Event], str]]:
            """Return what is told at the start of a host whose code declares that."""
            scheduler = Scheduler(store, clock=clock)
            heard = Heard(scheduler)
            scheduler.process("p", timing=timings[0] if timings else None)(fail)
            scheduler.run_pending()
            scheduler.shutdown()
            return heard.requests()

        hourly, daily = Schedule(Hourly(minute=30)), Schedule(Daily(at="02:00"))
        assert told(hourly) == [(RequestScheduled, "p")]
        assert told(hourly) == []
        assert told(daily) == [(RequestScheduled, "p")]
        assert told() == [(RequestUnscheduled, "p")]
        assert told() == []

    def test_a_timing_that_leaves_the_code_when_it_was_unscheduled_already_is_not_told(
        self, store: Store, clock: ManualClock
    ) -> None:
        first, second = (Scheduler(store, clock=clock) for _ in range(2))
        first.process("p", timing=Schedule(Daily(at="02:00")))(fail)
        first.run_pending()
        first.unschedule("p")
        first.shutdown()
        heard = Heard(second)
        second.process("p")(fail)
        second.run_pending()
        second.shutdown()
        assert heard.requests() == []
        assert second.monitor.request("p").reason == "its timing is no longer declared in the code"

    def test_a_follower_is_told_once_its_leader_has_succeeded(self, scheduler: Scheduler) -> None:
        heard = Heard(scheduler)
        scheduler.process("p")(lambda: None)
        scheduler.process("next", after="p")(lambda: None)
        scheduler.run_now("p")
        scheduler.run_until_idle()
        told = heard.requests()
        assert told == [(RequestScheduled, scheduler.monitor.runs(name)[0].request_id) for name in ("p", "next")]

    def test_a_follower_is_the_same_when_the_success_before_it_is_reported_twice(
        self, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard, record = Heard(scheduler), scheduler.store.record

        def unanswered(owner: str, now: datetime, report: Report, **named: Any) -> list[Run]:
            refused = record(owner, now, report, **named)
            if not report.follow_ups:  # it only begins
                return refused
            monkeypatch.undo()
            raise StoreUnavailableError("the answer was lost")

        scheduler.process("p")(lambda: None)
        scheduler.process("next", after="p")(lambda: None)
        scheduler.run_now("p")
        monkeypatch.setattr(scheduler.store, "record", unanswered)
        with pytest.raises(StoreUnavailableError):
            scheduler.run_until_idle()
        scheduler.run_until_idle()
        assert sorted(id for _, id in heard.requests()) == [request.id for request in scheduler.monitor.requests()]

    def test_what_changes_nothing_is_not_told(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        scheduler.schedule("p", Immediate(), id="complete")
        scheduler.schedule("p", Schedule(Daily(at="02:00")), id="daily")
        scheduler.run_until_idle()
        heard = Heard(scheduler)
        scheduler.unschedule("complete")
        scheduler.run_now("complete")
        scheduler.unschedule("daily")
        scheduler.unschedule("daily")
        assert heard.requests() == [(RequestUnscheduled, "daily")]
        scheduler.reschedule("daily")
        scheduler.reschedule("complete")
        assert heard.requests() == [(RequestScheduled, "daily"), (RequestScheduled, "complete")]
