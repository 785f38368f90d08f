"""Whether the work gets done, and why something did not run: the sentences, each from the facts behind it."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from bgsched import (
    Daily,
    EveryMinutes,
    Misfire,
    Monitor,
    Request,
    Run,
    RunStatus,
    Schedule,
    Scheduler,
    SchedulerRecord,
    StoreUnavailableError,
)
from bgsched._health import Health, Signs, judge
from bgsched._why import Facts, explain, in_words
from bgsched.stores import MemoryStore
from bgsched.stores.base import Absence
from bgsched.testing import ManualClock
from bgsched.testing.contract import make_request

NOW = datetime(2026, 3, 1, 7, 45, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def scheduler_record(**fields: Any) -> SchedulerRecord:
    alive: dict[str, Any] = {
        "owner": "o",
        "host": "web-1",
        "pid": 7,
        "started_at": NOW - HOUR,
        "heartbeat_at": NOW - SECOND,
        "lease_until": NOW + 14 * SECOND,
        "processes": ("p",),
    }
    return SchedulerRecord(**alive | fields)


def due(ago: timedelta) -> Request:
    return replace(make_request("x"), next_fire_time=NOW - ago, due_at=NOW - ago)


def health(*records: SchedulerRecord, **signs: Any) -> Health:
    plain: dict[str, Any] = {"now": NOW, "schedulers": records, "absences": (), "first": None, "recorded_at": None}
    return judge(Signs(**plain | signs))


class TestHealth:
    def test_all_is_well(self) -> None:
        found = health(scheduler_record(), first=due(-MINUTE), recorded_at=NOW)
        assert (found.ok, found.problems, found.overdue_by) == (True, (), timedelta(0))
        assert found.last_heartbeat == NOW - SECOND

    def test_what_was_due_a_moment_ago_is_no_problem(self) -> None:
        found = health(scheduler_record(), first=due(20 * SECOND))
        assert (found.ok, found.overdue_by) == (True, 20 * SECOND)

    def test_nothing_has_been_claimed_for_a_while(self) -> None:
        found = health(scheduler_record(), first=due(40 * SECOND), recorded_at=NOW - HOUR)
        assert found.problems == ("nothing has been claimed for 40 s, though something is due",)

    def test_a_request_is_overdue_though_others_are_claimed(self) -> None:
        found = health(scheduler_record(), first=due(3 * MINUTE), recorded_at=NOW - SECOND)
        assert found.problems == (
            "request 'x' of process 'p' is 3 minutes overdue: all workers are busy with what was due before it",
        )

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"processes": ("q",)}, "none of the 1 living schedulers has a process 'p' registered"),
            ({"paused": True}, "every scheduler that could run it is paused"),
        ],
    )
    def test_an_overdue_request_says_what_is_in_its_way(self, fields: dict[str, Any], why: str) -> None:
        assert health(scheduler_record(**fields), first=due(5 * MINUTE)).problems[-1].endswith(f"overdue: {why}")

    def test_no_scheduler_is_there(self) -> None:
        assert health().problems == ("no scheduler is signed on",)
        assert health(absences=[Absence(NOW - HOUR)]).problems == (
            "no scheduler is signed on since 2026-03-01 06:45:00 UTC",
        )

    def test_a_scheduler_went_silent(self) -> None:
        silent = scheduler_record(heartbeat_at=NOW - 40 * SECOND, lease_until=NOW - 25 * SECOND)
        assert health(silent).problems == (
            "scheduler o on web-1 was last heard of 40 s ago, at 2026-03-01 07:44:20 UTC",
        )

    def test_a_scheduler_has_a_problem(self) -> None:
        troubled = scheduler_record(problem="the disk is full", problem_since=NOW - MINUTE)
        assert health(troubled).problems == ("scheduler o on web-1: the disk is full (since 2026-03-01 07:44:00 UTC)",)

    @pytest.mark.parametrize(("skew", "side"), [(12 * SECOND, "12 s ahead of"), (-3 * HOUR, "3 hours behind")])
    def test_a_clock_that_is_wrong_is_told_and_not_believed(self, skew: timedelta, side: str) -> None:
        odd = scheduler_record(heartbeat_at=NOW - SECOND + skew, lease_until=NOW + 14 * SECOND + skew, clock_skew=skew)
        found = health(odd)
        assert found.problems == (f"the clock of scheduler o on web-1 is {side} that of the database server",)
        assert found.last_heartbeat == NOW - SECOND
        assert found.to_dict()["schedulers"][0]["clock_skew"] == skew.total_seconds()

    def test_the_clock_here_may_be_the_wrong_one(self) -> None:
        ahead = scheduler_record(heartbeat_at=NOW + HOUR, lease_until=NOW + HOUR)
        assert health(ahead).problems == ("the clock of scheduler o on web-1 is 60 minutes ahead of the clock here",)

    def test_a_store_that_does_not_answer_is_a_problem(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = MemoryStore()

        def down(*_: object) -> None:
            raise StoreUnavailableError("no route to host")

        monkeypatch.setattr(type(store.reader()), "upcoming", down)
        assert Monitor(store).health().problems == ("the store does not answer: no route to host",)

    def test_from_a_store(self) -> None:
        clock = ManualClock(NOW)
        scheduler = Scheduler(MemoryStore(), clock=clock)
        scheduler.process("p")(lambda: None)
        scheduler.run_pending()
        scheduler.run_now("p")
        clock.advance(40)
        assert "nothing has been claimed for 40 s, though something is due" in scheduler.monitor.health().problems
        scheduler.shutdown()
        assert "no scheduler is signed on since 2026-03-01 07:45:40 UTC" in scheduler.monitor.health().problems


def why(request: Request, *runs: Run, **facts: Any) -> str:
    plain: dict[str, Any] = {"request": request, "runs": runs, "schedulers": (), "now": NOW}
    return explain(Facts(**plain | facts))


class TestWhy:
    def test_unscheduled_since(self) -> None:
        gone = make_request("x").unscheduled(NOW - HOUR, "by ann")
        assert why(gone) == ("It is unscheduled since 2026-03-01 06:45:00 UTC: by ann; reschedule('x') resumes it.")

    def test_an_excluded_date(self) -> None:
        timing = Schedule(Daily(at="06:00"), start=NOW - 9 * 24 * HOUR, exclude=(date(2026, 3, 1),))
        request = make_request("x", timing, NOW - 9 * 24 * HOUR).timed(timing, NOW)
        request = replace(request, last_fire_time=datetime(2026, 2, 28, 6, tzinfo=UTC))
        assert "The fire time 2026-03-01 06:00:00 UTC is excluded by its timing." in why(request)

    def test_several_excluded_fire_times(self) -> None:
        timing = Schedule(EveryMinutes(10), start=NOW, exclude=((NOW + 5 * MINUTE, NOW + 65 * MINUTE),))
        request = replace(
            make_request("x", timing, NOW),
            last_fire_time=NOW,
            next_fire_time=NOW + 70 * MINUTE,
            due_at=NOW + 70 * MINUTE,
        )
        assert (
            "6 fire times from 2026-03-01 07:55:00 UTC to 2026-03-01 08:45:00 UTC are excluded by its timing."
            in why(request)
        )

    def test_misfired_while_no_scheduler_lived(self) -> None:
        fire_time = NOW.replace(hour=2, minute=30)
        run = Run(
            request_id="x",
            process="p",
            fire_time=fire_time,
            recorded_at=NOW,
            finished_at=NOW,
            status=RunStatus.MISFIRED,
            reason="too late",
        )
        absences = [Absence(NOW - 99 * HOUR, NOW - 98 * HOUR), Absence(NOW.replace(hour=2, minute=10), NOW)]
        assert why(make_request("x"), run, absences=absences).endswith(
            "The fire time 2026-03-01 02:30:00 UTC misfired at 2026-03-01 07:45:00 UTC: too late; "
            "no scheduler lived from 2026-03-01 02:10:00 UTC to 2026-03-01 07:45:00 UTC."
        )
        assert "no scheduler lived" not in why(make_request("x"), run, absences=absences[:1])

    def test_misfired_while_no_scheduler_lived_from_a_store(self) -> None:
        clock = ManualClock(NOW)
        store = MemoryStore()
        first = Scheduler(store, clock=clock)
        first.process("p", misfire=Misfire.SKIP)(lambda: None)
        first.schedule("p", Schedule(EveryMinutes(30), start=NOW + MINUTE), id="x")
        first.run_pending()
        first.shutdown()
        clock.advance(95 * MINUTE)
        second = Scheduler(store, clock=clock, processes=first.processes)
        second.run_pending()
        said = second.monitor.why("x")
        assert "4 fire times from 2026-03-01 07:46:00 UTC to 2026-03-01 09:16:00 UTC misfired" in said
        assert "no scheduler lived from 2026-03-01 07:45:00 UTC to 2026-03-01 09:20:00 UTC" in said
        second.shutdown()

    def test_due_and_nobody_there(self) -> None:
        said = why(due(MINUTE), absences=[Absence(NOW - HOUR)])
        assert said.endswith("no scheduler is alive; one was last heard of at 2026-03-01 06:45:00 UTC.")

    def test_a_scheduler_whose_clock_is_behind_is_alive(self) -> None:
        behind = scheduler_record(
            heartbeat_at=NOW - HOUR, lease_until=NOW - HOUR + 15 * SECOND, clock_skew=-HOUR, paused=True
        )
        assert "every scheduler that could run it is paused" in why(due(MINUTE), schedulers=[behind])


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (40 * SECOND, "40 s"),
        (119 * SECOND, "119 s"),
        (3 * MINUTE, "3 minutes"),
        (2 * HOUR, "2 hours"),
        (72 * HOUR, "3 days"),
    ],
)
def test_spans_are_said_in_words(span: timedelta, words: str) -> None:
    assert in_words(span) == words
