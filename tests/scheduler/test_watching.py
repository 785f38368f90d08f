"""What its monitor says."""

import json
from datetime import date, timedelta

from bgsched import (
    Daily,
    EverySeconds,
    Immediate,
    OnAbandon,
    Overlap,
    PostgresStore,
    ProcessGroup,
    Retry,
    Schedule,
    Scheduler,
    Store,
    current_run,
)
from bgsched.testing import ManualClock


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


DAY = timedelta(days=1)


class TestWhatIsInTheWay:
    def test_of_a_run_whose_process_nobody_has(self, scheduler: Scheduler, store: Store, clock: ManualClock) -> None:
        elsewhere = Scheduler(store, clock=clock)
        elsewhere.process("elsewhere")(lambda: None)
        elsewhere.schedule("elsewhere", Schedule(Daily(at="02:00")), id="e")
        elsewhere.run_now("e")
        clock.advance(35)
        scheduler.run_pending()
        monitor = scheduler.monitor
        why = "none of the 1 living schedulers has a process 'elsewhere' registered"
        assert monitor.why("e") == f"Run 1 waits, and has been due since 2026-01-01 00:00:00 UTC, but {why}."
        health = monitor.health()
        assert f"run 1 of process 'elsewhere' is 35 s overdue: {why}" in health.problems
        assert (health.ok, health.overdue_by) == (False, timedelta(seconds=35))

    def test_of_a_run_while_all_are_paused(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        scheduler.schedule("p", Schedule(Daily(at="02:00")), id="x")
        scheduler.pause()
        scheduler.run_pending()
        scheduler.run_now("x")
        assert scheduler.monitor.why("x").endswith(", but every scheduler that could run it is paused.")

    def test_of_an_attempt_when_its_scheduler_has_left(self, scheduler: Scheduler, clock: ManualClock) -> None:
        def fail() -> None:
            raise OSError("no line")

        scheduler.process("flaky", retry=Retry(attempts=3, delay=timedelta(seconds=10)))(fail)
        scheduler.schedule("flaky", Immediate(), id="x")
        scheduler.run_pending()
        scheduler.shutdown()
        clock.advance(timedelta(hours=5))
        why = scheduler.monitor.why("x")
        assert "due since 2026-01-01 00:00:10 UTC after attempt 1 ended as error (OSError: no line), but no" in why
        health = scheduler.monitor.health()
        assert health.overdue_by == timedelta(hours=5, seconds=-10)
        assert any(problem.startswith("run 1 of process 'flaky' is 4 hours overdue") for problem in health.problems)

    def test_of_a_run_that_waits_for_another(self, scheduler: Scheduler, clock: ManualClock) -> None:
        seen: list[str] = []

        def slow() -> None:
            if seen:  # its turn has come
                return
            scheduler.run_now("second")
            clock.advance(300)
            assert scheduler.monitor.health().overdue_by == timedelta(0)  # it waits for its turn
            seen.append(scheduler.monitor.why("second"))

        scheduler.process("slow", overlap=Overlap.QUEUE, overlap_scope="process")(slow)
        later = Schedule(Daily(at="02:00"))
        for id in ("first", "second"):
            scheduler.schedule("slow", later, id=id)
        scheduler.run_now("first")
        scheduler.run_pending()
        assert seen == ["Run 2 waits until run 1 of request 'first' has ended."]

    def test_is_a_run_that_goes_on_however_many_were_skipped_behind_it(
        self, scheduler: Scheduler, store: Store, clock: ManualClock
    ) -> None:
        seen: list[str] = []

        def slow() -> None:
            other = Scheduler(store, clock=clock)
            other.process("slow")(lambda: None)
            for _ in range(12):
                clock.advance(1)
                other.run_pending()
            seen.append(other.monitor.why("x"))
            other.shutdown()

        scheduler.process("slow")(slow)
        scheduler.schedule("slow", Schedule(EverySeconds(1)), id="x")
        scheduler.run_pending()
        assert seen[0].startswith("Run 1 has been running since 2026-01-01 00:00:00 UTC")

    def test_a_pause_shows_in_the_next_pass(self, scheduler: Scheduler) -> None:
        scheduler.run_pending()
        shown = []
        for change in (scheduler.pause, scheduler.resume):
            change()
            scheduler.run_pending()
            shown += [record.paused for record in scheduler.monitor.schedulers()]
        assert shown == [True, False]


class TestWhatBecameOfIt:
    def test_what_passed_while_it_was_unscheduled_is_not_excluded(
        self, scheduler: Scheduler, clock: ManualClock
    ) -> None:
        scheduler.process("p")(lambda: None)
        timing = Schedule(Daily(at="02:00"), exclude=[date(2026, 1, 13), date(2026, 12, 25)])
        scheduler.schedule("p", timing, id="x")
        clock.advance(DAY)
        scheduler.run_pending()
        scheduler.unschedule("x")
        clock.advance(10 * DAY)
        scheduler.reschedule("x")
        assert "exclu" not in scheduler.monitor.why("x").replace("except", "")
        clock.advance(DAY)
        scheduler.run_pending()
        assert "The fire time 2026-01-13 02:00:00 UTC is excluded by its timing." in scheduler.monitor.why("x")

    def test_the_run_of_a_group_is_told_and_not_those_of_its_members(self, scheduler: Scheduler) -> None:
        def fail() -> None:
            raise ValueError("ledger is open")

        scheduler.process("a")(fail)
        scheduler.process("b")(lambda: None)
        scheduler.add(ProcessGroup("g", ["a", *["b"] * 24], stop_on_error=False))
        scheduler.schedule("g", Immediate(), id="x")
        scheduler.run_until_idle()
        why = scheduler.monitor.why("x")
        assert "Run 1 for the fire time 2026-01-01 00:00:00 UTC ended at 2026-01-01 00:00:00 UTC, error:" in why
        assert "success" not in why

    def test_what_misfired_is_told_once_a_run_for_all_has_succeeded(
        self, scheduler: Scheduler, store: Store, clock: ManualClock
    ) -> None:
        scheduler.process("p")(lambda: None)
        scheduler.schedule("p", Schedule(EverySeconds(3600)), id="x")
        scheduler.run_pending()
        clock.advance(timedelta(hours=2, minutes=10))
        scheduler.run_pending()
        scheduler.shutdown()
        clock.advance(timedelta(hours=5, minutes=35))
        again = Scheduler(store, clock=clock, processes=scheduler.processes)
        again.run_pending()
        told = "4 fire times from 2026-01-01 03:00:00 UTC to 2026-01-01 06:00:00 UTC misfired "
        if not isinstance(store, PostgresStore):  # whose server has a clock of its own
            told += "while no scheduler lived from 2026-01-01 02:10:00 UTC to 2026-01-01 07:45:00 UTC: "
        assert told in again.monitor.why("x")
        again.shutdown()
