"""The contract's chapter on schedulers that come, live, die and leave."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from bgsched.errors import OwnerGoneError
from bgsched.request import (
    OnAbandon,
    RequestStatus,
)
from bgsched.run import LogLine, RunStatus
from bgsched.stores.base import Absence, Report, Store
from bgsched.testing.contract._tools import (
    SECOND,
    T0,
    Chapter,
    FixedPlanner,
    claim,
    make_request,
    raises,
    sign_on,
    status_of,
    statuses,
)
from bgsched.timing import EverySeconds, Schedule

__all__ = ["Living"]


class Living(Chapter):
    """Its tests, each a sentence."""

    def test_a_scheduler_signs_on_shows_itself_and_signs_off(self, store: Store) -> None:
        record = sign_on(store, "a")
        later = replace(
            record,
            heartbeat_at=T0 + SECOND,
            problem="no disk",
            problem_since=T0,
            paused=True,
            processes=("p", "q"),
            threaded=False,
        )
        assert store.heartbeat(later)
        assert [replace(known, clock_skew=None, alive=None) for known in store.reader().schedulers()] == [later]
        assert store.sign_off("a", T0) == []
        assert store.reader().schedulers() == []
        assert not store.heartbeat(later)
        assert store.reader().schedulers() == []

    def test_when_no_scheduler_lived_is_known(self, store: Store) -> None:
        minute = timedelta(minutes=1)
        sign_on(store, "a", T0)
        sign_on(store, "b", T0 + minute)
        store.sign_off("a", T0 + 2 * minute)
        assert store.reader().absences(T0, T0 + 9 * minute) == []
        store.sign_off("b", T0 + 3 * minute)
        assert store.reader().absences(T0, T0 + 9 * minute) == [Absence(T0 + 3 * minute)]
        sign_on(store, "c", T0 + 5 * minute)
        left = Absence(T0 + 3 * minute, T0 + 5 * minute)
        assert store.reader().absences(T0 + 4 * minute, T0 + 4 * minute) == [left]
        assert store.reader().absences(T0 + 6 * minute, T0 + 9 * minute) == []
        sign_on(store, "d", T0 + 20 * minute)  # c was last heard of when it signed on
        self.die(store, "c", T0 + 19 * minute)
        assert store.reader().absences(T0, T0 + 30 * minute) == [left, Absence(T0 + 5 * minute, T0 + 20 * minute)]

    def test_when_no_scheduler_lived_long_ago_is_forgotten(self, store: Store) -> None:
        day = timedelta(days=1)
        for after in (0, 50, 100):
            sign_on(store, f"{after}", T0 + after * day)
            store.sign_off(f"{after}", T0 + after * day)
        known = store.reader().absences(T0, T0 + 100 * day)
        assert [absence.since for absence in known] == [T0 + 50 * day, T0 + 100 * day]

    def test_by_which_zone_databases_it_was_computed_is_known(self, store: Store) -> None:
        assert store.reader().zone_databases() == frozenset()
        for _ in range(2):
            store.compute_by("old")
            store.compute_by("new")
        assert store.reader().zone_databases() == {"old", "new"}
        with suppress(ZeroDivisionError), store.transaction() as tx:
            tx.forget_zone_databases()
            raise ZeroDivisionError
        assert store.reader().zone_databases() == {"old", "new"}
        store.compute_by("new", alone=True)
        assert store.reader().zone_databases() == {"new"}

    def test_what_a_scheduler_leaves_behind_is_abandoned(self, store: Store) -> None:
        store.file([make_request()])
        sign_on(store, "a")
        (run,) = claim(store)
        store.record("a", T0, Report([run.started(T0)], [LogLine(run.id, 1, T0, "INFO", "x", "so far")]))
        (left,) = store.sign_off("a", T0 + SECOND)
        assert (left.status, left.finished_at) == (RunStatus.ABANDONED, T0 + SECOND)
        assert store.reader().find_run(run.id) == left
        assert [line.text for line in store.reader().log(run.id, 0, 10)] == ["so far"]
        assert status_of(store) is RequestStatus.COMPLETE

    def test_what_may_run_again_waits_for_another(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(3600)))])
        now = T0
        for attempt in (1, 2, 3, 4):
            (run,) = claim(store, now, owner=f"owner-{attempt}", on_abandon=OnAbandon.RERUN)
            assert run.attempt == attempt
            now = self.die(store, f"owner-{attempt}", now)
        assert statuses(store) == [RunStatus.ABANDONED]
        assert claim(store, now, on_abandon=OnAbandon.RERUN) == []

    def test_a_request_that_keeps_killing_its_schedulers_is_parked(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(3600)))])
        now = T0
        for owner in ("a", "b"):
            claim(store, now, owner=owner, on_abandon=OnAbandon.RERUN, max_reruns=1)
            assert status_of(store) is RequestStatus.SCHEDULED
            now = self.die(store, owner, now)
        parked = store.reader().find_request("r")
        assert parked is not None
        assert (parked.status, parked.next_fire_time) == (RequestStatus.UNSCHEDULED, None)
        assert (parked.reason or "").startswith("parked: ")

    def test_a_shutdown_uses_up_no_rerun(self, store: Store) -> None:
        store.file([make_request()])
        for attempt in (1, 2, 3, 4):
            (run,) = claim(store, owner=f"owner-{attempt}", on_abandon=OnAbandon.RERUN, max_reruns=1)
            assert (run.attempt, run.reruns_left) == (attempt, 1)
            store.sign_off(f"owner-{attempt}", T0)
        assert statuses(store) == [RunStatus.WAITING]

    def test_what_was_to_be_killed_does_not_run_again(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store, on_abandon=OnAbandon.RERUN)
        store.kill(run.id, T0)
        self.die(store, "a", T0)
        assert statuses(store) == [RunStatus.KILLED]
        assert status_of(store) is RequestStatus.COMPLETE

    def test_who_is_not_signed_on_cannot_claim(self, store: Store) -> None:
        store.file([make_request()])
        raises(OwnerGoneError, lambda: store.claim(FixedPlanner(), "a", T0, 1))
        sign_on(store, "a")
        self.die(store, "a", T0)
        raises(OwnerGoneError, lambda: store.claim(FixedPlanner(), "a", T0, 1))
        assert statuses(store) == []
        assert len(claim(store, owner="b")) == 1

    def test_leases_do_not_count_while_their_clock_is_in_doubt(self, store: Store) -> None:
        store.file([make_request()])
        claim(store)
        assert store.reap(T0 + timedelta(days=1), leases=False) == []
        assert [record.owner for record in store.reader().schedulers()] == ["a"]

    def test_the_living_are_not_reaped(self, store: Store) -> None:
        store.file([make_request()])
        sign_on(store, "a")
        claim(store)
        assert store.reap(T0 + SECOND) == []
        assert statuses(store) == [RunStatus.WAITING]

    def test_closing_twice_is_fine(self, store: Store) -> None:
        store.close()
        store.close()
