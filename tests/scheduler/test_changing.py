"""Requests that are changed: unscheduled, rescheduled, run now, deleted, declared by the code."""

import logging
import re
import threading
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
from scheduler._asked import T0, runs_of, statuses

from bgsched import (
    Daily,
    EveryMinutes,
    EverySeconds,
    Frequency,
    Hourly,
    Immediate,
    Later,
    Monitor,
    ParamsError,
    PostgresStore,
    ProcessRegistry,
    RequestStatus,
    RunStatus,
    Schedule,
    Scheduler,
    SQLiteStore,
    Store,
    UnknownRequestError,
    Weekly,
)
from bgsched.testing import ManualClock
from bgsched.testing.contract import FixedPlanner, sign_on

MINUTE = timedelta(minutes=1)


class TestChanging:
    @pytest.mark.parametrize(
        "timing",
        [Schedule(EveryMinutes(7)), Schedule(Daily("01:30")), Schedule(Weekly("thu", at="01:30", every=2))],
    )
    def test_the_very_timing_that_it_has_keeps_what_is_due(
        self, scheduler: Scheduler, clock: ManualClock, timing: Schedule
    ) -> None:
        """As a host says it at each start: what came while it was down runs."""
        scheduler.process("p", misfire_grace=timedelta(hours=12))(lambda: None)
        filed = scheduler.schedule("p", timing, id="mine")
        scheduler.run_until_idle()
        due = scheduler.monitor.request("mine").next_fire_time
        clock.advance(timedelta(hours=2))
        again = scheduler.reschedule("mine", timing)
        assert (again.timing, again.status) == (filed.timing, RequestStatus.SCHEDULED)
        assert scheduler.monitor.runs("p", status="skipped") == []
        scheduler.run_until_idle()
        assert scheduler.monitor.runs("p", status="success")[0].fire_time == due

    def test_a_schedule_that_was_to_begin_later_begins_now(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        scheduler.schedule("p", Schedule(EveryMinutes(7), start=T0 + timedelta(days=9)), id="mine")
        assert scheduler.reschedule("mine", Schedule(EveryMinutes(7))).next_fire_time == T0

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

    @pytest.mark.parametrize("jitter", [timedelta(0), timedelta(minutes=50)])
    def test_other_params_lose_no_fire_time_that_is_due(
        self, scheduler: Scheduler, clock: ManualClock, jitter: timedelta
    ) -> None:
        scheduler.process("p")(lambda x=1: x)
        timing = Schedule(Hourly(), start=T0 + timedelta(hours=1), jitter=jitter)
        before = scheduler.schedule("p", timing, id="r")
        clock.advance(timedelta(hours=1, minutes=1))
        changed = scheduler.reschedule("r", params={"x": 2})
        assert (changed.next_fire_time, changed.due_at) == (before.next_fire_time, before.due_at)
        assert scheduler.reschedule("r", timing).next_fire_time == before.next_fire_time
        clock.advance(timedelta(minutes=50))
        scheduler.run_until_idle()
        assert [(run.fire_time, run.result) for run in runs_of(scheduler, "r")] == [(T0 + timedelta(hours=1), 2)]

    @pytest.mark.parametrize("how", ["reschedule", "unschedule", "declare"])
    def test_what_was_due_by_the_timing_before_is_recorded(
        self, scheduler: Scheduler, store: Store, clock: ManualClock, how: str
    ) -> None:
        timing = Schedule(Hourly(), start=T0 + timedelta(hours=1))
        scheduler.process("p", timing=timing)(lambda: None)
        scheduler.run_pending()
        clock.advance(timedelta(hours=3, minutes=1))
        if how == "reschedule":
            scheduler.reschedule("p", Later(clock.now() + timedelta(minutes=10)))
        elif how == "unschedule":
            scheduler.unschedule("p")
        else:
            newer = Scheduler(store, clock=clock)
            newer.process("p", timing=Schedule(Hourly(), start=T0 + timedelta(hours=6)))(lambda: None)
            newer.run_pending()
            newer.shutdown()
        scheduler.shutdown()
        (run,) = runs_of(scheduler, "p")
        last = T0 + timedelta(hours=3)
        assert (run.status, run.fire_time, run.fire_until, run.fire_count) == (RunStatus.SKIPPED, timing.start, last, 3)
        given = "unscheduled" if how == "unschedule" else "given another timing"
        assert run.reason == f"its request was {given} before a scheduler came for it"
        assert sum(ended.count for ended in scheduler.monitor.totals()) == 3

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

    def test_a_request_takes_the_priority_of_today_when_it_is_rescheduled(
        self, store: Store, clock: ManualClock
    ) -> None:
        for priority in (1, 5):
            scheduler = Scheduler(store, clock=clock)
            scheduler.process("p", priority=priority)(lambda: None)
            if priority == 1:
                scheduler.schedule("p", Immediate(), id="r")
            assert scheduler.monitor.request("r").priority == 1
            assert scheduler.reschedule("r", Immediate()).priority == priority
            scheduler.shutdown()

    def test_run_now_of_a_request_leaves_its_fire_times(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        request = scheduler.schedule("p", Later(T0 + timedelta(hours=1)))
        assert scheduler.run_now(request.id).next_fire_time == T0 + timedelta(hours=1)
        scheduler.run_pending()
        clock.advance(timedelta(hours=1))
        scheduler.run_pending()
        assert [run.fire_time for run in runs_of(scheduler, request.id)] == [T0, T0 + timedelta(hours=1)]

    def test_run_now_with_other_params_overlaps_with_what_has_those(self, scheduler: Scheduler) -> None:
        scheduler.process("p", overlap_scope=("company",))(lambda company: None)
        scheduler.schedule("p", Later(T0 + timedelta(hours=1)), {"company": "acme"}, id="r")
        scheduler.run_now("r", params={"company": "blum"})
        (run,) = runs_of(scheduler, "r")
        assert run.overlap_key == 'params:p:["blum"]'

    @pytest.mark.parametrize(
        ("overlap", "ended"), [("skip", []), ("queue", []), ("replace", [RunStatus.SKIPPED, RunStatus.SKIPPED])]
    )
    def test_what_is_rescheduled_to_run_at_once_replaces_runs_or_waits(
        self, scheduler: Scheduler, overlap: Literal["skip", "queue", "replace"], ended: list[RunStatus]
    ) -> None:
        scheduler.process("p", overlap=overlap)(lambda: None)
        scheduler.schedule("p", Immediate(), id="r")
        sign_on(scheduler.store, "a")
        (held,) = scheduler.store.claim(FixedPlanner(), "a", T0, 9)
        for _ in range(3):
            scheduler.reschedule("r", Immediate())
            scheduler.run_pending()
        first, *others = runs_of(scheduler, "r")
        assert (first.id, first.kill_asked_at is not None) == (held.id, overlap == "replace")
        assert [run.status for run in others if not run.is_active] == ended
        assert sum(run.is_active for run in others) == 3 - len(ended)

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
    def make(
        store: Store, clock: ManualClock, timing: Schedule | None, timezone: str = "UTC", priority: int = 0
    ) -> Scheduler:
        registry = ProcessRegistry()
        registry.process("nightly", timing=timing, priority=priority)(lambda: None)
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

    def test_the_order_of_what_is_excluded_says_nothing(self, store: Store, clock: ManualClock) -> None:
        """It may be the order of a set, which differs from start to start."""
        days: list[date | Frequency] = [date(2026, 12, 24), date(2026, 12, 31), Daily(on="sat sun")]
        for exclude in (days, days[::-1], [*days, days[0]]):
            scheduler = self.make(store, clock, Schedule((EveryMinutes(50), Hourly()), exclude=exclude))
            scheduler.run_pending()
            if exclude is days:
                scheduler.unschedule("nightly")
            scheduler.shutdown()
        assert Monitor(store).request("nightly").status is RequestStatus.UNSCHEDULED
        assert Schedule(Daily(), exclude=set(days)) == Schedule(Daily(), exclude=frozenset(days[::-1]))

    def test_an_edit_of_the_code_moves_no_phase(
        self, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "bgsched")
        expected = [T0.replace(hour=13), (T0 + timedelta(days=14)).replace(hour=14)]
        for at, moment in ((13, T0), (14, T0 + timedelta(days=5)), (14, T0 + timedelta(days=20))):
            clock.advance(moment - clock.now())
            timing = Schedule(Weekly("thu", at=f"{at}:00", every=2), repetitions=3)
            scheduler = self.make(store, clock, timing)
            scheduler.run_until_idle()
            scheduler.shutdown()
            if at == 13:
                clock.advance(timedelta(hours=2))
                self.make(store, clock, timing).run_until_idle()
        request = Monitor(store).request("nightly")
        assert [run.fire_time for run in Monitor(store).runs("nightly")[::-1]] == expected
        assert request.next_fire_time == (T0 + timedelta(days=28)).replace(hour=14)
        assert [*request.timing.fire_times(T0)][-1] == request.next_fire_time  # three in all
        assert caplog.text.count("'nightly' declares another timing than before") == 1

    def test_what_was_rescheduled_has_a_phase_of_its_own(self, store: Store, clock: ManualClock) -> None:
        scheduler = self.make(store, clock, Schedule(EveryMinutes(50)))
        scheduler.run_pending()
        clock.advance(timedelta(minutes=7))
        scheduler.reschedule("nightly", Schedule(EveryMinutes(10)))
        scheduler.shutdown()
        clock.advance(timedelta(minutes=1))
        self.make(store, clock, Schedule(EveryMinutes(40))).run_pending()
        timing = Monitor(store).request("nightly").timing
        assert isinstance(timing, Schedule)
        assert timing.start == clock.now()

    def test_one_that_never_fires_is_warned_of(
        self, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(2):
            scheduler = self.make(store, clock, Schedule(Daily(), finish=T0 - timedelta(days=1)))
            scheduler.run_pending()
            scheduler.shutdown()
        assert caplog.text.count("the timing that process 'nightly' declares never fires") == 1

    def test_one_that_is_registered_while_a_scheduler_starts_is_declared(
        self, store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = self.make(store, clock, Schedule(EveryMinutes(50)))
        change = store.change

        def registered_meanwhile(*words: Any, **named: Any) -> object:
            monkeypatch.setattr(store, "change", change)
            register = scheduler.process("hourly", timing=Schedule(EveryMinutes(60)))
            other = threading.Thread(target=register, args=(lambda: None,))
            other.start()
            other.join()
            return change(*words, **named)

        monkeypatch.setattr(store, "change", registered_meanwhile)
        scheduler.run_pending()
        assert [request.id for request in scheduler.monitor.requests()] == ["hourly", "nightly"]

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
        first.reschedule("nightly", user="ann", channel="dashboard")
        first.unschedule("nightly")
        first.shutdown()
        second = self.make(store, clock, Schedule(EveryMinutes(20)))
        assert second.run_pending() == T0 + timedelta(minutes=20)
        request = second.monitor.request("nightly")
        assert "20 minutes" in request.timing.describe()
        assert (request.user, request.channel) == (None, "declared")

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

    def test_its_priority_is_that_of_the_code(self, store: Store, clock: ManualClock) -> None:
        found = []
        for priority, minutes in ((1, 50), (5, 50), (7, 20)):
            scheduler = self.make(store, clock, Schedule(EveryMinutes(minutes)), priority=priority)
            scheduler.run_pending()
            request = scheduler.monitor.request("nightly")
            found.append((request.priority, request.next_fire_time, request.revision))
            scheduler.shutdown()
        assert found == [(1, T0 + 50 * MINUTE, 1), (5, T0 + 50 * MINUTE, 1), (7, T0 + 20 * MINUTE, 2)]

    @pytest.mark.parametrize("at", ["09:00", None])
    @pytest.mark.parametrize("start", [T0 - timedelta(days=9), None])
    def test_one_that_is_over_is_complete_and_keeps_no_scheduler_from_its_start(
        self, store: Store, clock: ManualClock, at: str | None, start: datetime | None
    ) -> None:
        over = Schedule(Daily(at=at), start=start, finish=T0 - timedelta(hours=1), timezone="Europe/Madrid")
        scheduler = self.make(store, clock, over)
        scheduler.process("other", timing=Schedule(EveryMinutes(20)))(lambda: None)
        assert scheduler.run_pending() == T0 + 20 * MINUTE
        request = scheduler.monitor.request("nightly")
        assert (request.status, request.next_fire_time) == (RequestStatus.COMPLETE, None)
        assert re.search("no fire time was left|is over, it is 2026-01-01.*; give a later finish", request.reason or "")
        scheduler.shutdown()
        again = self.make(store, clock, Schedule(EveryMinutes(20)))
        assert again.run_pending() == T0 + 20 * MINUTE
        again.shutdown()
        ended = self.make(store, clock, over)
        ended.run_pending()
        assert ended.monitor.request("nightly").status is RequestStatus.COMPLETE
        assert "no fire time of 'every day" in ended.monitor.why("nightly")

    def test_one_that_has_no_fire_time_before_its_finish_is_complete(self, store: Store, clock: ManualClock) -> None:
        soon = Schedule(Daily(at="09:00"), finish=T0 + timedelta(hours=1))
        scheduler = self.make(store, clock, soon)
        assert scheduler.run_pending() is None
        assert "would never fire" in (scheduler.monitor.request("nightly").reason or "")

    def test_a_request_that_makes_way_for_one_is_told_of(
        self, scheduler: Scheduler, caplog: pytest.LogCaptureFixture
    ) -> None:
        scheduler.process("export")(lambda: None)
        scheduler.schedule("export", Schedule(Hourly()), id="report")
        scheduler.process("report", timing=Schedule(Hourly()))(lambda: None)
        scheduler.run_pending()
        assert "request 'report' of process 'export' makes way for the timing that process 'report' decl" in caplog.text

    def test_a_timing_that_left_the_code_stops(self, store: Store, clock: ManualClock) -> None:
        first = self.make(store, clock, Schedule(EveryMinutes(50)))
        first.run_pending()
        first.shutdown()
        second = self.make(store, clock, None)
        assert second.run_pending() is None
        request = second.monitor.request("nightly")
        assert request.status is RequestStatus.UNSCHEDULED
        assert "no longer declared" in (request.reason or "")


class TestAnotherStore:
    """The database was emptied, or an older one put back, while the scheduler lives."""

    def forget(self, scheduler: Scheduler) -> None:
        with scheduler.store.transaction() as tx:
            for record in tx.schedulers():
                tx.delete_scheduler(record.owner)
            for request in scheduler.monitor.requests():
                tx.delete_request(request.id)

    def test_what_the_code_declares_is_declared_again(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("nightly", timing=Schedule(EverySeconds(10)))(lambda: None)
        scheduler.process("later")(lambda: None)
        scheduler.run_pending()
        self.forget(scheduler)
        clock.advance(10)
        scheduler.run_pending()
        assert [request.id for request in scheduler.monitor.requests()] == ["nightly"]
        clock.advance(10)
        scheduler.run_pending()
        assert statuses(scheduler, "nightly") == [RunStatus.SUCCESS] * 2
        scheduler.unschedule("nightly")
        with scheduler.store.transaction() as tx:
            tx.delete_scheduler(tx.schedulers()[0].owner)
        clock.advance(10)
        scheduler.run_pending()
        assert scheduler.monitor.request("nightly").status is RequestStatus.UNSCHEDULED

    def test_old_code_that_slept_through_a_deployment_changes_nothing(self, store: Store, clock: ManualClock) -> None:
        old, new = Scheduler(store, clock=clock), Scheduler(store, clock=clock)
        for scheduler, seconds in ((old, 10), (new, 20)):
            scheduler.process("nightly", timing=Schedule(EverySeconds(seconds)))(lambda: None)
            scheduler.run_pending()
        with store.transaction() as tx:
            assert old._life.engine is not None
            tx.delete_scheduler(old._life.engine.owner)
        clock.advance(10)
        old.run_pending()
        assert "20 seconds" in old.monitor.request("nightly").timing.describe()
        for scheduler in (old, new):
            scheduler.shutdown()

    def test_what_cannot_be_declared_holds_up_nothing(
        self,
        scheduler: Scheduler,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for name in ("broken", "nightly"):
            scheduler.process(name, timing=Schedule(EverySeconds(10)))(lambda: None)
        scheduler.run_pending()
        self.forget(scheduler)
        declared = scheduler._desk.declared

        def refuse(process: Any, *rest: Any) -> Any:
            if process.name == "broken":
                raise ValueError("no")
            return declared(process, *rest)

        monkeypatch.setattr(scheduler._desk, "declared", refuse)
        clock.advance(10)
        scheduler.run_pending()
        assert [request.id for request in scheduler.monitor.requests()] == ["nightly"]
        assert "the timing of process 'broken' cannot be declared: no" in caplog.text

    def test_that_was_made_anew_is_declared_to(
        self, tmp_path: Path, clock: ManualClock, remake: Callable[[Path], Store]
    ) -> None:
        store = remake(tmp_path)
        scheduler = Scheduler(store, clock=clock)
        scheduler.process("nightly", timing=Schedule(EverySeconds(10)))(lambda: None)
        scheduler.run_pending()
        remake(tmp_path).close()  # by somebody else
        assert scheduler.monitor.requests() == []
        for _ in range(3):
            clock.advance(10)
            scheduler.run_pending()
        assert statuses(scheduler, "nightly") == [RunStatus.SUCCESS] * 3
        scheduler.shutdown()
        store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def remake(request: pytest.FixtureRequest) -> Callable[[Path], Store]:
    """Take away what is there, and make a store in its place."""
    if request.param == "postgres":
        dsn, schema = request.getfixturevalue("postgres_dsn"), request.getfixturevalue("postgres_schema")

        def drop(_: Path) -> Store:
            with psycopg.connect(dsn, autocommit=True) as admin:
                admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
            return PostgresStore(dsn, schema=schema)

        return drop

    def remove(folder: Path) -> Store:
        for path in folder.glob("app.db*"):
            if path.is_file():
                path.unlink()
        return SQLiteStore(folder / "app.db")

    return remove
