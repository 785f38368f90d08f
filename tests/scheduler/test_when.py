"""When runs come: the timings as a scheduler fires them."""

from datetime import UTC, datetime, timedelta

from scheduler._asked import T0, runs_of, statuses

from bgsched import (
    Cron,
    Daily,
    EveryMinutes,
    Immediate,
    Later,
    RequestStatus,
    RunStatus,
    Schedule,
    Scheduler,
)
from bgsched.testing import ManualClock


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
