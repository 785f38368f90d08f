"""What becomes of due fire times, where the stores' suite does not look: when the rules of a time zone have changed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest

from bgsched import (
    Cron,
    Daily,
    EveryMinutes,
    EverySeconds,
    Hourly,
    Immediate,
    Later,
    Misfire,
    Overlap,
    Request,
    RequestStatus,
    Run,
    RunStatus,
    Schedule,
    Scheduler,
    Store,
    _moved_times,
)
from bgsched._evolve import evolve
from bgsched._moved_times import MovedTimes, zone_database
from bgsched.request import Policies, UnreadableTiming, as_of_today, plan
from bgsched.run import RunError
from bgsched.testing import ManualClock
from bgsched.testing.contract import make_request
from bgsched.timing import Timing

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
MICRO = timedelta(microseconds=1)
NINE = datetime(2026, 1, 15, 8, tzinfo=UTC)  # 09:00 in Madrid
DAILY = Schedule(Daily(at="09:00"), timezone="Europe/Madrid")


def stored(timing: Timing, moved: timedelta, last: datetime | None = None) -> Request:
    """Return a request whose next fire time was stored when the clocks of its zone were said to be otherwise."""
    request = make_request(timing=timing, now=NINE - HOUR)
    at = NINE + moved
    return evolve(request, next_fire_time=at, due_at=at, last_fire_time=last)


class TestAMovedFireTime:
    """The zone's rules changed after the next fire time was stored; it is looked at when it is claimed."""

    @pytest.mark.parametrize("timing", [DAILY, Schedule(Cron("0 9 * * *"), timezone="Europe/Madrid")])
    def test_that_came_too_early_waits_for_the_new_one(self, timing: Timing) -> None:
        made = plan(stored(timing, -HOUR, last=NINE - HOUR - DAY), Policies(), "a", NINE - HOUR)
        assert made.runs == ()
        assert (made.request.next_fire_time, made.request.due_at) == (NINE, NINE)
        (run,) = plan(made.request, Policies(), "a", NINE).runs
        assert run.fire_time == NINE

    def test_that_comes_too_late_runs_for_the_one_that_it_should_have_been(self) -> None:
        made = plan(stored(DAILY, HOUR, last=NINE + HOUR - DAY), Policies(misfire_grace=2 * HOUR), "a", NINE + HOUR)
        assert [run.fire_time for run in made.runs] == [NINE]
        assert made.request.next_fire_time == NINE + DAY

    def test_is_found_after_a_start_and_not_only_when_the_old_one_comes(
        self, scheduler: Scheduler, clock: ManualClock
    ) -> None:
        scheduler.process("p", misfire="skip")(lambda: None)
        scheduler.store.compute_by("an older one")
        names = [f"r{n:03}" for n in range(201)]  # more than are looked at in one pass
        scheduler.store.file([evolve(stored(DAILY, HOUR, last=NINE - DAY), id=name, process="p") for name in names])
        other = make_request("other", timing=Schedule(Daily(at="09:00")), process="p", now=NINE - HOUR)
        scheduler.store.file([other])
        clock.advance_to(NINE - MINUTE)
        scheduler.run_pending()
        known = {"an older one", zone_database()}
        assert scheduler.store.reader().zone_databases() == known  # it would not do to be killed now
        for _ in range(2):
            scheduler.run_pending()
        assert scheduler.store.reader().zone_databases() == known - {"an older one"}
        assert {scheduler.monitor.request(name).next_fire_time for name in names} == {NINE}
        assert scheduler.monitor.request("other") == other
        clock.advance_to(NINE)
        scheduler.run_until_idle()
        assert {run.fire_time for run in scheduler.monitor.runs(status="success", limit=1000)} == {NINE}

    def test_that_should_have_come_before_the_start_is_due_then(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p", misfire="skip")(lambda: None)
        scheduler.store.compute_by("an older one")
        scheduler.store.file([evolve(stored(DAILY, 2 * HOUR, last=NINE - DAY), process="p")])
        clock.advance_to(NINE + HOUR)
        scheduler.run_pending()
        scheduler.run_pending()
        (run,) = scheduler.monitor.runs()
        assert (run.fire_time, run.started_at, run.status) == (NINE, NINE + HOUR, RunStatus.SUCCESS)
        assert scheduler.monitor.request(run.request_id).next_fire_time == NINE + DAY

    def test_that_is_due_soonest_is_looked_at_first(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        scheduler.store.compute_by("an older one")
        others = [make_request(f"a{n:03}", timing=Later(NINE + DAY), now=NINE - HOUR) for n in range(100)]
        scheduler.store.file([*others, evolve(stored(DAILY, HOUR, last=NINE - DAY), id="z", process="p")])
        clock.advance_to(NINE - MINUTE)
        scheduler.run_pending()
        assert scheduler.monitor.request("z").next_fire_time == NINE

    def test_is_looked_for_once_for_each_database(
        self, store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that began before an update goes on with the old rules while another looks, and says so again."""
        looks: list[datetime] = []
        look = MovedTimes._take_a_bite

        def seen_look(self: MovedTimes, after: str, now: datetime) -> None:
            looks.append(now)
            look(self, after, now)

        monkeypatch.setattr(MovedTimes, "_take_a_bite", seen_look)

        def looks_in(act: Callable[[], object], database: str) -> int:
            looks.clear()
            monkeypatch.setattr(_moved_times, "zone_database", lambda: database)
            act()
            return len(looks)

        old, new, last = (Scheduler(store, clock=clock) for _ in range(3))
        assert looks_in(old.run_pending, "2026a") == 0  # there is nothing yet that another one could have computed
        assert looks_in(new.run_pending, "2026b") == 1
        assert store.reader().zone_databases() == {"2026b"}
        for _ in range(6):  # of the longest steps after which neither takes the other for dead
            clock.advance(10)
            assert looks_in(old.run_pending, "2026a") == 0
            assert looks_in(new.run_pending, "2026b") == 0  # that is for when it starts
        assert store.reader().zone_databases() == {"2026a", "2026b"}
        looks_in(new.shutdown, "2026b")
        assert looks_in(new.run_pending, "2026b") == 1
        looks_in(old.shutdown, "2026a")
        assert store.reader().zone_databases() == {"2026a", "2026b"}
        looks_in(new.shutdown, "2026b")
        assert [looks_in(act, "2026b") for act in (new.run_pending, new.shutdown, last.run_pending)] == [1, 0, 0]

    def test_is_looked_for_in_an_older_store_that_was_put_back(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        scheduler.run_pending()
        with scheduler.store.transaction() as tx:
            tx.delete_scheduler(tx.schedulers()[0].owner)
            tx.put_zone_database("an older one")
            tx.put_requests([evolve(stored(DAILY, HOUR, last=NINE - DAY), process="p")])
        clock.advance_to(NINE - MINUTE)
        for _ in range(2):
            scheduler.run_pending()
        assert [request.next_fire_time for request in scheduler.monitor.requests()] == [NINE]

    @pytest.mark.parametrize("misfire", Misfire)
    def test_has_its_grace_from_when_it_could_be_known(self, misfire: Misfire) -> None:
        policies, request = Policies(misfire=misfire), stored(DAILY, HOUR, last=NINE - DAY)
        (run,) = plan(request, policies, "a", NINE + HOUR + MINUTE).runs
        assert (run.fire_time, run.owner) == (NINE, "a")
        found = as_of_today(request, NINE + DAY - MINUTE)  # by one that could not claim it in time
        assert (found.next_fire_time, found.due_at) == (NINE, NINE + HOUR)

    def test_follows_the_misfire_policy_when_it_is_long_over(self) -> None:
        made = plan(stored(DAILY, HOUR), Policies(misfire=Misfire.SKIP), "a", NINE + HOUR + MINUTE + MICRO)
        assert [run.status for run in made.runs] == [RunStatus.MISFIRED]

    def test_is_not_fired_twice(self) -> None:
        """It fired by the old rules, an hour before it would by the new ones; the next is that of the next day."""
        request = stored(DAILY, DAY - HOUR, last=NINE - HOUR)
        made = plan(request, Policies(), "a", NINE + DAY - HOUR)
        assert made.runs == ()
        assert made.request.next_fire_time == NINE + DAY

    def test_nor_where_the_next_is_beyond_the_finish_now(self) -> None:
        request = stored(replace(DAILY, finish=NINE + DAY - MINUTE), DAY - HOUR, last=NINE - HOUR)
        made = plan(request, Policies(), "a", NINE + DAY - HOUR)
        assert (made.runs, made.request.next_fire_time) == ((), None)

    def test_of_a_later_moves_with_its_local_time(self) -> None:
        later = Later(datetime(2026, 1, 15, 9), timezone="Europe/Madrid")
        early = plan(stored(later, -HOUR), Policies(), "a", NINE - HOUR)
        assert (early.runs, early.request.next_fire_time) == ((), NINE)
        late = plan(stored(later, HOUR), Policies(), "a", NINE + HOUR)
        assert [run.fire_time for run in late.runs] == [NINE]

    def test_is_none_where_the_rules_are_the_same(self) -> None:
        (run,) = plan(stored(DAILY, timedelta(0)), Policies(), "a", NINE).runs
        assert run.fire_time == NINE

    def test_does_not_happen_to_elapsed_time(self) -> None:
        every = Schedule(EverySeconds(7), start=NINE - HOUR, timezone="Europe/Madrid")
        request = make_request(timing=every, now=NINE)
        assert request.next_fire_time is not None
        (run,) = plan(request, Policies(), "a", request.next_fire_time).runs
        assert run.fire_time == request.next_fire_time


class TestMisfiresWithJitter:
    """A fire time is stale when its due time is over for longer than the grace, however old it is itself.

    Nobody can come for it before the one before it, which may be due later.
    """

    EVERY = Schedule(EveryMinutes(2), start=NINE, jitter=HOUR)
    POLICIES = Policies(misfire=Misfire.SKIP, misfire_grace=timedelta(minutes=5), overlap=Overlap.ALLOW)

    def told(self, now: datetime) -> tuple[list[datetime], list[datetime], Request]:
        """Return what misfired and what runs by *now*, pass by pass, and the request that waits for the next one."""
        request = make_request(timing=self.EVERY, now=NINE)
        misfired: list[datetime] = []
        running: list[datetime] = []
        while request.due_at is not None and request.due_at <= now:
            made = plan(request, self.POLICIES, "a", now)
            for run in made.runs:
                fires = list(self.EVERY.fire_times(run.fire_time - MICRO, run.fire_until or run.fire_time))
                assert len(fires) == run.fire_count
                (misfired if run.status is RunStatus.MISFIRED else running).extend(fires)
            request = made.request
        return misfired, running, request

    @pytest.mark.parametrize("minutes", [70, 90, 700])
    def test_each_is_judged_by_when_it_could_be_claimed(self, minutes: int) -> None:
        now = NINE + timedelta(minutes=minutes)
        misfired, running, request = self.told(now)
        fires = sorted(misfired + running)
        due = accumulate((self.EVERY.due_at(at, request.id) for at in fires), max)
        stale = dict(zip(fires, (at < now - self.POLICIES.misfire_grace for at in due), strict=True))
        assert [at for at in stale if stale[at]] == misfired
        assert [at for at in stale if not stale[at]] == running
        assert sorted(stale) == list(self.EVERY.fire_times(NINE - MICRO, max(stale)))
        assert request.next_fire_time == max(stale) + timedelta(minutes=2)

    def test_one_that_was_due_before_the_one_before_it_is_not_late(self) -> None:
        timing = Schedule(EveryMinutes(1), start=NINE, jitter=timedelta(minutes=5))
        request, told = make_request(timing=timing, now=NINE), set[tuple[datetime, RunStatus]]()
        while len(told) < 200 and request.due_at is not None:
            made = plan(request, Policies(misfire=Misfire.SKIP, overlap=Overlap.ALLOW), "a", request.due_at)
            told |= {(run.fire_time, run.status) for run in made.runs}
            request = made.request
        assert {status for _, status in told} == {RunStatus.WAITING}

    def test_a_long_range_is_one_record(self) -> None:
        request = make_request(timing=self.EVERY, now=NINE)
        (run,) = plan(request, self.POLICIES, "a", NINE + 10 * HOUR).runs
        assert run.fire_count == 1 + (9 * 60 - 5) // 2


class TestSeveralAtOnce:
    """A pause within the grace: three fire times have come by the time anybody looks, and none is a misfire."""

    def told(self, overlap: Overlap, misfire: Misfire = Misfire.RUN_ONCE) -> list[tuple[int, str, bool]]:
        request = make_request(timing=Schedule(EverySeconds(10), start=NINE), now=NINE)
        runs = plan(request, Policies(overlap=overlap, misfire=misfire), "a", NINE + timedelta(seconds=25)).runs
        return [(run.fire_time.second, run.status.value, run.owner is not None) for run in runs]

    def test_the_first_runs_and_the_others_are_skipped(self) -> None:
        assert self.told(Overlap.SKIP) == [(0, "waiting", True), (10, "skipped", False)]

    def test_why_the_others_are_skipped(self) -> None:
        request = make_request(timing=Schedule(EverySeconds(10), start=NINE), now=NINE)
        _, skipped = plan(request, Policies(), "a", NINE + timedelta(seconds=25)).runs
        assert skipped.reason == f"due together with the fire time {NINE.isoformat()}, which runs"

    @pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE, Overlap.REPLACE])
    def test_all_run_in_turn_where_none_may_be_left_out(self, overlap: Overlap) -> None:
        in_turn = [(0, "waiting", True), (10, "waiting", False), (20, "waiting", False)]
        assert self.told(overlap, Misfire.RUN_ALL) == in_turn

    def test_one_runs_and_one_waits(self) -> None:
        assert self.told(Overlap.QUEUE) == [(0, "waiting", True), (10, "waiting", False), (20, "skipped", False)]

    def test_the_newest_replaces_the_others(self) -> None:
        assert self.told(Overlap.REPLACE) == [(0, "skipped", False), (20, "waiting", True)]

    @pytest.mark.parametrize(
        ("overlap", "told"),
        [
            (Overlap.SKIP, [("waiting", 0, 1), ("skipped", 1, 999)]),
            (Overlap.QUEUE, [("waiting", 0, 1), ("waiting", 1, 1), ("skipped", 2, 998)]),
            (Overlap.REPLACE, [("skipped", 0, 999), ("waiting", 999, 1)]),
        ],
    )
    def test_the_rule_holds_for_all_of_them_however_many(
        self, overlap: Overlap, told: list[tuple[str, int, int]]
    ) -> None:
        """The grace may be an hour; they are not listed."""
        request = make_request(timing=Schedule(EverySeconds(1), start=NINE), now=NINE)
        now = NINE + timedelta(seconds=999.5)
        made = plan(request, Policies(overlap=overlap, misfire_grace=HOUR), "a", now)
        places = [(run, (run.fire_time - NINE).total_seconds()) for run in made.runs]
        assert [(run.status.value, place, run.fire_count) for run, place in places] == told
        assert all(
            run.fire_until is None or (run.fire_until - run.fire_time).total_seconds() == run.fire_count - 1
            for run in made.runs
        )
        assert made.request.next_fire_time == NINE + timedelta(seconds=1000)

    @pytest.mark.parametrize(
        ("tried", "status", "reason"),
        [
            ("", RunStatus.SKIPPED, "replaced"),
            ("E", RunStatus.ERROR, "replaced; its attempt 1 failed"),
            ("EEA", RunStatus.ERROR, "replaced; its attempt 2 failed"),
            ("AA", RunStatus.ABANDONED, "replaced; its attempt 2 was abandoned"),
        ],
    )
    def test_what_is_given_up_ends_as_it_last_failed(self, tried: str, status: RunStatus, reason: str) -> None:
        run = Run(request_id="r", process="p", fire_time=NINE, recorded_at=NINE)
        for how in tried:
            run = run.taken("a", NINE).started(NINE)
            error = RunError("OSError", f"attempt {run.attempt}") if how == "E" else None
            end = RunStatus.ERROR if how == "E" else RunStatus.ABANDONED
            run = run.again(end, NINE, NINE, reason="again", error=error)
        given_up = run.given_up(NINE, "replaced")
        assert (given_up.status, given_up.reason, given_up.finished_at) == (status, reason, NINE)
        assert (given_up.error is not None) == (status is RunStatus.ERROR)


class TestRunAll:
    """None of the fire times that were missed is left out, though one claim may not take them all."""

    POLICIES = Policies(misfire=Misfire.RUN_ALL, misfire_grace=HOUR)

    def claims(self, timing: Schedule, now: datetime) -> tuple[Request, list[Run]]:
        """Return the request after all claims that it takes at *now*, and its runs, none of which begins meanwhile."""
        request = make_request(timing=timing, now=NINE)
        runs: list[Run] = []
        while request.due_at is not None and request.due_at <= now:
            made = plan(request, self.POLICIES, "a", now, runs)
            runs += [evolve(run, id=len(runs) + place) for place, run in enumerate(made.runs, start=1)]
            request = made.request
        return request, runs

    @pytest.mark.parametrize("jitter", [timedelta(0), timedelta(seconds=10)])
    @pytest.mark.parametrize("count", [2, 100, 101, 201])
    def test_all_that_have_come_wait_for_their_turn(self, count: int, jitter: timedelta) -> None:
        timing = Schedule(EverySeconds(1), start=NINE, repetitions=count, jitter=jitter)
        _, runs = self.claims(timing, NINE + timedelta(seconds=count) + jitter)
        assert {run.status for run in runs} == {RunStatus.WAITING}
        assert len({run.fire_time for run in runs}) == len(runs) == count

    @pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE, Overlap.REPLACE])
    @pytest.mark.parametrize("count", [1, 2])
    def test_what_was_missed_waits_for_what_is_in_its_way(self, count: int, overlap: Overlap) -> None:
        """Another request's run, say, or one of its own that waits for its next attempt."""
        way = Run(id=1, request_id="other", process="p", fire_time=NINE, recorded_at=NINE)
        request = make_request(timing=Schedule(Hourly(), start=NINE, repetitions=count), now=NINE)
        policies = Policies(misfire=Misfire.RUN_ALL, overlap=overlap)
        made = plan(request, policies, "a", NINE + count * HOUR, [way])
        assert [run.status for run in made.runs] == [RunStatus.WAITING] * count
        assert made.displaced == ()

    def test_what_comes_while_they_run_is_an_overlap(self) -> None:
        now = NINE + timedelta(seconds=2)
        request, runs = self.claims(Schedule(EverySeconds(1), start=NINE), now)
        (run,) = plan(request, self.POLICIES, "a", now + timedelta(seconds=1), runs).runs
        assert (run.status, run.reason) == (RunStatus.SKIPPED, "run 1 had not ended")

    def test_the_run_of_another_request_is_an_overlap(self) -> None:
        policies = replace(self.POLICIES, overlap_scope="process")
        other = Run(id=7, request_id="other", process="p", fire_time=NINE, recorded_at=NINE)
        (run,) = plan(make_request(timing=Schedule(Daily()), now=NINE), policies, "a", NINE, [other]).runs
        assert (run.status, run.reason) == (RunStatus.SKIPPED, "run 7 had not ended")


class TestImmediately:
    """Whoever asks for it now is late only where the scheduler is; so it never misfires."""

    def test_runs_however_late(self) -> None:
        policies = Policies(misfire=Misfire.SKIP)
        (run,) = plan(make_request(now=NINE), policies, "a", NINE + DAY).runs
        assert (run.status, run.owner) == (RunStatus.WAITING, "a")

    def test_later_follows_the_policy_by_when_it_is_due(self) -> None:
        policies = Policies(misfire=Misfire.SKIP)
        request = make_request(timing=Later(NINE - DAY), now=NINE)  # in the past: it is due when it is scheduled
        minute = timedelta(minutes=1)
        statuses = [plan(request, policies, "a", NINE + late).runs[0].status for late in (minute, minute + MICRO)]
        assert statuses == [RunStatus.WAITING, RunStatus.MISFIRED]


def test_a_timing_that_cannot_be_read_answers_as_one_that_never_fires() -> None:
    timing = UnreadableTiming("?", "it is of a later version")
    assert [name for name in dir(Immediate) if not name.startswith("_") and not hasattr(timing, name)] == []
    assert timing.first_fire_time(NINE) is timing.last_fire_time(NINE) is timing.next_fire_time(NINE) is None
    assert (list(timing.fire_times(NINE)), timing.warnings(NINE), timing.count_fire_times(NINE, NINE)) == ([], (), 0)
    assert (timing.pinned(NINE), timing.due_at(NINE, "r")) == (timing, NINE)


@pytest.mark.parametrize("misfire", list(Misfire))
def test_a_grace_may_be_longer_than_time(misfire: Misfire) -> None:
    """As whoever wants nothing to misfire may write it."""
    request = make_request(timing=Schedule(EverySeconds(60), start=NINE), now=NINE)
    made = plan(
        request, Policies(misfire=misfire, misfire_grace=timedelta.max, overlap=Overlap.ALLOW), "a", NINE + HOUR
    )
    assert made.request.status is RequestStatus.SCHEDULED
    assert {run.status for run in made.runs} == {RunStatus.WAITING}
    assert made.runs[0].fire_time == NINE
