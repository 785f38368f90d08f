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
from bgsched.run import Attempt, RunError
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


def waiting(ago: timedelta) -> Run:
    return Run(id=1, request_id="x", process="p", fire_time=NOW - ago, recorded_at=NOW - ago, due_at=NOW - ago)


def ended(id: int, status: RunStatus = RunStatus.SUCCESS, **fields: Any) -> Run:
    plain: dict[str, Any] = {"fire_time": NOW - HOUR, "recorded_at": NOW - HOUR, "finished_at": NOW}
    return Run(id=id, request_id="x", process="p", status=status, **plain | fields)


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

    def test_what_a_clock_ahead_claimed_counts_for_nothing(self) -> None:
        found = health(scheduler_record(), first=due(40 * SECOND), recorded_at=NOW + HOUR)
        assert found.problems == ("nothing has been claimed for 40 s, though something is due",)

    def test_a_request_is_overdue_though_others_are_claimed(self) -> None:
        found = health(scheduler_record(), first=due(3 * MINUTE), recorded_at=NOW - SECOND)
        why = "all workers are busy with what was due before it, or the limit of its process is reached"
        assert found.problems == (f"request 'x' of process 'p' is 3 minutes overdue: {why}",)

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"processes": ("q",)}, "none of the 1 living schedulers has a process 'p' registered"),
            ({"paused": True}, "every scheduler that could run it is paused"),
        ],
    )
    def test_an_overdue_request_says_what_is_in_its_way(self, fields: dict[str, Any], why: str) -> None:
        assert health(scheduler_record(**fields), first=due(5 * MINUTE)).problems[-1].endswith(f"overdue: {why}")

    def test_a_waiting_run_is_overdue(self) -> None:
        found = health(scheduler_record(), waiting=waiting(3 * MINUTE), recorded_at=NOW - 3 * MINUTE)
        assert (found.ok, found.overdue_by) == (False, 3 * MINUTE)
        assert found.problems[0].startswith("run 1 of process 'p' is 3 minutes overdue: all workers are busy")
        assert health(scheduler_record(), waiting=waiting(40 * SECOND)).ok
        assert health(scheduler_record(), waiting=waiting(-MINUTE)).overdue_by == timedelta(0)

    def test_a_waiting_run_that_nobody_can_take_up_is_told_sooner(self) -> None:
        found = health(scheduler_record(processes=()), waiting=waiting(40 * SECOND))
        why = "none of the 1 living schedulers has a process 'p' registered"
        assert found.problems == (f"run 1 of process 'p' is 40 s overdue: {why}",)

    def test_what_is_most_overdue_counts(self) -> None:
        assert health(first=due(MINUTE), waiting=waiting(HOUR)).overdue_by == HOUR
        assert health(first=due(HOUR), waiting=waiting(MINUTE)).overdue_by == HOUR

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
        right = scheduler_record(heartbeat_at=NOW + HOUR, lease_until=NOW + HOUR, clock_skew=timedelta(0))
        assert health(right).problems == ("the clock here is 60 minutes behind that of the database server",)

    def test_the_clock_here_may_be_ahead_of_the_server_s(self) -> None:
        known = scheduler_record(heartbeat_at=NOW - HOUR, lease_until=NOW - HOUR, clock_skew=timedelta(0), alive=True)
        assert health(known).problems == ("the clock here is 60 minutes ahead of that of the database server",)

    def test_who_holds_its_lock_and_is_not_heard_of_hangs(self) -> None:
        hung = scheduler_record(heartbeat_at=NOW - 40 * SECOND, lease_until=NOW - 25 * SECOND, alive=True)
        found = health(hung, first=due(2 * MINUTE))
        assert found.problems[0] == "scheduler o on web-1 was last heard of 40 s ago, at 2026-03-01 07:44:20 UTC"
        assert found.problems[-1].endswith("overdue: its scheduler was last heard of at 2026-03-01 07:44:20 UTC")

    def test_of_a_host_that_calls_run_pending_nothing_is_heard_between(self) -> None:
        between = scheduler_record(heartbeat_at=NOW - HOUR, lease_until=NOW - HOUR, threaded=False, alive=True)
        assert health(between).ok
        found = health(between, first=due(2 * MINUTE))
        assert found.problems[-1].endswith(
            "its host is busy with another run, or has not called run_pending() since 2026-03-01 06:45:00 UTC"
        )

    @pytest.mark.parametrize("threaded", [True, False])
    def test_who_was_killed_is_gone(self, *, threaded: bool) -> None:
        gone = scheduler_record(heartbeat_at=NOW - MINUTE, lease_until=NOW - MINUTE, threaded=threaded, alive=False)
        assert health(gone).problems == (
            "scheduler o on web-1 is gone without a shutdown, last heard of at 2026-03-01 07:44:00 UTC",
        )

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

    def test_what_passed_while_it_was_unscheduled_is_not_excluded(self) -> None:
        timing = Schedule(Daily(at="02:00"), start=NOW - 99 * 24 * HOUR, exclude=(date(2026, 12, 25),))
        request = replace(make_request("x", timing, NOW - 99 * 24 * HOUR), last_fire_time=NOW - 12 * 24 * HOUR)
        again = request.unscheduled(NOW - 10 * 24 * HOUR).rescheduled(timing, NOW)
        assert again.revision == 3
        assert "exclu" not in why(again, ended(1, revision=1, fire_time=NOW - 12 * 24 * HOUR))

    def test_what_passed_before_it_had_its_timing_is_not_excluded_by_it(self) -> None:
        timing = Schedule(Daily(at="02:00"), start=NOW - 99 * 24 * HOUR)
        other = Schedule(Daily(at="03:00"), start=NOW - 99 * 24 * HOUR, exclude=(date(2026, 2, 25), date(2026, 3, 4)))
        request = replace(make_request("x", timing, NOW - 99 * 24 * HOUR), last_fire_time=NOW - 9 * 24 * HOUR)
        changed = request.rescheduled(other, NOW)
        assert "exclu" not in why(changed, ended(1, revision=1, fire_time=NOW - 9 * 24 * HOUR))
        fired = datetime(2026, 3, 3, 3, tzinfo=UTC)
        ahead = replace(changed, last_fire_time=fired, next_fire_time=fired + 48 * HOUR, due_at=fired + 48 * HOUR)
        said = why(ahead, ended(2, revision=2, fire_time=fired), now=fired + HOUR)
        assert "The fire time 2026-03-04 03:00:00 UTC is excluded by its timing." in said

    def test_what_is_excluded_is_told_when_nothing_is_left(self) -> None:
        timing = Schedule(
            Daily(at="06:00"),
            start=NOW - 9 * 24 * HOUR,
            finish=NOW,
            exclude=(date(2026, 2, 28), date(2026, 3, 1)),
        )
        request = replace(make_request("x", timing, NOW - 9 * 24 * HOUR), next_fire_time=None, due_at=None)
        request = replace(request, last_fire_time=datetime(2026, 2, 27, 6, tzinfo=UTC))
        assert "2 fire times from 2026-02-28 06:00:00 UTC to 2026-03-01 06:00:00 UTC are excluded" in why(request)

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
            "The fire time 2026-03-01 02:30:00 UTC misfired while no scheduler lived "
            "from 2026-03-01 02:10:00 UTC to 2026-03-01 07:45:00 UTC: too late."
        )
        assert "no scheduler lived" not in why(make_request("x"), run, absences=absences[:1])

    def test_misfired_and_no_scheduler_lived_for_a_part_of_it(self) -> None:
        run = ended(
            1,
            RunStatus.MISFIRED,
            fire_time=NOW - 5 * HOUR,
            fire_until=NOW - HOUR,
            fire_count=5,
            recorded_at=NOW,
            reason="too late",
        )
        assert why(make_request("x"), run, absences=[Absence(NOW - 3 * HOUR, NOW - 2 * HOUR)]).endswith(
            "5 fire times from 2026-03-01 02:45:00 UTC to 2026-03-01 06:45:00 UTC misfired at 2026-03-01 07:45:00 UTC: "
            "too late; no scheduler lived from 2026-03-01 04:45:00 UTC to 2026-03-01 05:45:00 UTC."
        )

    def test_late_for_no_scheduler_lived(self) -> None:
        run = ended(1, fire_time=NOW - 5 * HOUR, claimed_at=NOW, started_at=NOW)
        assert why(make_request("x"), run, absences=[Absence(NOW - 6 * HOUR, NOW)]).endswith(
            "Run 1 for the fire time 2026-03-01 02:45:00 UTC, late, for no scheduler lived "
            "from 2026-03-01 01:45:00 UTC to 2026-03-01 07:45:00 UTC, ended at 2026-03-01 07:45:00 UTC, success."
        )

    def test_back_to_the_last_success_and_what_was_missed_before_it(self) -> None:
        success, misfired = RunStatus.SUCCESS, RunStatus.MISFIRED

        def told(*statuses: RunStatus) -> list[str]:
            runs = [ended(len(statuses) - place, status, reason="so") for place, status in enumerate(statuses)]
            words = ("misfired", "skipped", "success", "error")
            said = why(make_request("x"), *runs).split(". ")[1:]
            return [word for sentence in said for word in words if word in sentence]

        assert told(success, misfired, success) == ["success", "misfired"]
        assert told(success, misfired, RunStatus.SKIPPED, misfired) == ["success", "misfired", "skipped"]
        assert told(success, success, misfired) == ["success"]
        assert told(success, RunStatus.ERROR, misfired) == ["success"]
        assert told(RunStatus.ERROR, success, misfired) == ["error", "success", "misfired"]

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

    @pytest.mark.parametrize(
        ("ago", "fields", "cause"),
        [
            (HOUR, {"lease_until": NOW - MINUTE}, "no scheduler is alive; one was last heard of at"),
            (HOUR, {"processes": ()}, "none of the 1 living schedulers has a process 'p' registered"),
            (HOUR, {"paused": True}, "every scheduler that could run it is paused"),
            (SECOND, {}, "a scheduler is about to look for it"),
            (HOUR, {}, "all workers are busy with what was due before it, or the limit of its process is reached"),
        ],
    )
    def test_what_is_in_the_way_of_a_waiting_run_and_of_a_request_alike(
        self, ago: timedelta, fields: dict[str, Any], cause: str
    ) -> None:
        schedulers = [scheduler_record(**fields)]
        assert f", but {cause}" in why(due(ago), schedulers=schedulers)
        said = why(make_request("x"), waiting(ago), schedulers=schedulers)
        assert said.startswith("Run 1 waits, and has been due since ")
        assert f", but {cause}" in said

    def test_a_scheduler_that_cannot_work_is_in_the_way_if_no_other_can(self) -> None:
        troubled, well = scheduler_record(problem="the disk is full", problem_since=NOW - MINUTE), scheduler_record()
        cause = "its scheduler cannot work since 2026-03-01 07:44:00 UTC: the disk is full"
        assert cause in why(due(HOUR), schedulers=[troubled, scheduler_record(paused=True)])
        assert "all workers are busy" in why(due(HOUR), schedulers=[troubled, well])

    def test_a_waiting_run_says_how_its_last_attempt_ended_and_no_more_when_the_next_was_to_begin(self) -> None:
        failed = Attempt(1, RunStatus.ERROR, "o", NOW - HOUR, NOW - HOUR, RunError("OSError", "no line"))
        run = replace(waiting(HOUR), attempts=(failed,), reason="attempt 1 of 3 failed; the next one waits 0:00:10")
        assert "after attempt 1 ended as error (OSError: no line), but no" in why(make_request("x"), run)
        assert "waits 0:00:10" not in why(make_request("x"), run)

    def test_a_run_that_waits_for_another_names_it(self) -> None:
        holder = replace(waiting(HOUR), id=7, owner="o")
        said = why(make_request("x"), waiting(MINUTE), holder=holder, schedulers=[scheduler_record()])
        assert said == "Run 1 waits until run 7 has ended."
        holder = replace(holder, request_id="y")
        said = why(make_request("x"), waiting(MINUTE), holder=holder, schedulers=[scheduler_record()])
        assert said == "Run 1 waits until run 7 of request 'y' has ended."

    @pytest.mark.parametrize(
        ("fields", "did"),
        [
            ({"status": RunStatus.RUNNING, "started_at": NOW - HOUR}, "began at 2026-03-01 06:45:00 UTC"),
            ({"claimed_at": NOW - HOUR}, "was claimed at 2026-03-01 06:45:00 UTC"),
        ],
    )
    def test_a_run_whose_scheduler_is_gone(self, fields: dict[str, Any], did: str) -> None:
        held = replace(waiting(HOUR), owner="o", **fields)
        gone = scheduler_record(heartbeat_at=NOW - MINUTE, alive=False)
        told = explain(Facts(make_request("x"), [held], [gone], NOW))
        assert told == (
            f"Run 1 {did}, and its scheduler is gone, last heard of at 2026-03-01 07:44:00 UTC: "
            "the next scheduler ends it, or runs it again."
        )

    def test_a_run_that_was_asked_to_stop_and_has_not(self) -> None:
        held = replace(waiting(HOUR), owner="o", status=RunStatus.RUNNING, started_at=NOW, kill_asked_at=NOW)
        told = explain(Facts(make_request("x"), [held], [scheduler_record()], NOW))
        assert told == (
            "Run 1 has been running since 2026-03-01 07:45:00 UTC, was asked to stop at 2026-03-01 07:45:00 UTC."
        )

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
