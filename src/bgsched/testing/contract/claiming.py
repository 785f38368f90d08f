"""The contract's chapter on what a claim takes, and what becomes of the rest."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from bgsched.errors import UnknownRequestError
from bgsched.request import (
    Overlap,
    Policies,
    RequestStatus,
)
from bgsched.run import Run, RunError, RunStatus
from bgsched.stores.base import Report, RunFilter, Store
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
    succeeded,
)
from bgsched.timing import EverySeconds, Later, Schedule

__all__ = ["Claiming"]


class Claiming(Chapter):
    """Its tests, each a sentence."""

    def test_a_claim_takes_what_is_due_and_writes_the_run(self, store: Store) -> None:
        store.file([make_request(user="ann", params={"x": 1})])
        (run,) = claim(store)
        assert (run.request_id, run.status, run.owner, run.attempt) == ("r", RunStatus.WAITING, "a", 1)
        assert (run.fire_time, run.claimed_at, run.user, run.params) == (T0, T0, "ann", {"x": 1})
        assert store.reader().find_run(run.id) == run

    def test_what_was_claimed_is_not_claimed_again(self, store: Store) -> None:
        store.file([make_request()])
        assert len(claim(store)) == 1
        assert claim(store, owner="b") == []

    def test_what_is_not_due_is_not_claimed(self, store: Store) -> None:
        store.file([make_request(timing=Later(T0 + SECOND))])
        assert claim(store) == []
        assert len(claim(store, T0 + SECOND)) == 1

    def test_what_is_due_before_1970_is_claimed_then(self, store: Store) -> None:
        long_ago = datetime(1, 1, 2, tzinfo=UTC)
        store.file([make_request(now=long_ago)])
        reader = store.reader()
        assert [request.due_at for request in reader.upcoming(1)] == [long_ago]
        assert reader.next_due(["p"]) == long_ago
        (run,) = claim(store, long_ago)
        store.record("a", long_ago, Report([succeeded(run, long_ago)]))
        assert reader.summary(None, None).counts == {RunStatus.SUCCESS: 1}

    def test_a_process_that_is_not_registered_waits(self, store: Store) -> None:
        store.file([make_request(process="gone"), make_request("s")])
        assert [run.request_id for run in claim(store)] == ["s"]
        found = store.reader().find_request("r")
        assert found is not None
        assert found.status is RequestStatus.SCHEDULED

    def test_a_claim_takes_no_more_than_its_limit(self, store: Store) -> None:
        store.file([make_request(str(n), Later(T0 - n * SECOND)) for n in range(5)])
        assert len(claim(store, limit=2)) == 2
        assert len(claim(store, limit=9)) == 3

    def test_higher_priorities_are_claimed_first(self, store: Store) -> None:
        store.file([make_request(str(n), priority=n) for n in (1, 3, 2)])
        assert [run.request_id for run in claim(store, limit=2)] == ["3", "2"]

    def test_of_those_due_at_the_same_instant_the_first_by_id_comes_first(self, store: Store) -> None:
        for id in ("b", "c", "a"):
            store.file([make_request(id)])
        assert [request.id for request in store.reader().upcoming(3)] == ["a", "b", "c"]
        assert [run.request_id for run in claim(store, limit=2)] == ["a", "b"]

    def test_the_first_by_id_comes_first_whatever_its_process_is(self, store: Store) -> None:
        sign_on(store, "a")
        for id, process in (("a", "q"), ("b", "p"), ("c", "q")):
            store.file([make_request(id, process=process)])
        assert [request.id for request in store.reader().upcoming(2)] == ["a", "b"]
        planner = FixedPlanner(processes=("p", "q"))
        assert [run.request_id for run in store.claim(planner, "a", T0, 2)] == ["a", "b"]

    def test_a_claim_moves_the_request_on(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        claim(store)
        found = store.reader().find_request("r")
        assert found is not None
        assert (found.last_fire_time, found.next_fire_time) == (T0, T0 + 10 * SECOND)

    def test_a_fire_time_has_one_run_whatever_the_request_says(self, store: Store) -> None:
        request = make_request()
        store.file([request])
        claim(store)
        store.change("r", lambda _: request, T0)
        assert claim(store) == []
        assert len(statuses(store)) == 1

    def test_a_run_beside_the_fire_times_takes_the_place_of_none(self, store: Store) -> None:
        store.file([make_request()])
        request = store.reader().find_request("r")
        assert request is not None
        beside = Run(request_id="r", revision=request.revision, process="p", fire_time=T0, recorded_at=T0)
        first, second = store.enqueue(beside), store.enqueue(beside)
        assert (first.fire_time, second.fire_time) == (T0, T0 + timedelta(microseconds=1))
        assert len(claim(store, overlap=Overlap.ALLOW)) == 3

    def test_a_run_of_a_deleted_request_is_refused(self, store: Store) -> None:
        run = Run(request_id="r", process="p", fire_time=T0, recorded_at=T0)
        raises(UnknownRequestError, lambda: store.enqueue(run))

    def test_who_is_displaced_leaves_a_complete_request(self, store: Store) -> None:
        policies: dict[str, Any] = {"overlap": Overlap.REPLACE, "overlap_scope": "process"}
        store.file(
            [make_request("a"), make_request("b", Later(T0 + SECOND)), make_request("c", Later(T0 + 2 * SECOND))]
        )
        for step in range(3):
            claim(store, T0 + step * SECOND, **policies)
        assert statuses(store, "b") == [RunStatus.SKIPPED]
        assert status_of(store, "b") is RequestStatus.COMPLETE

    def test_a_new_revision_may_run_at_the_same_instant(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        store.record("a", T0, Report([succeeded(run)]))
        store.change("r", lambda request: request and request.rescheduled(Later(T0), T0), T0)
        assert len(claim(store)) == 1

    def test_of_many_threads_one_claims(self, store: Store) -> None:
        store.file([make_request(str(n)) for n in range(40)])
        claimed: list[Run] = []

        def work(owner: str) -> None:
            while runs := claim(store, owner=owner, limit=3):
                claimed.extend(runs)

        threads = [threading.Thread(target=work, args=(f"owner-{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(run.request_id for run in claimed) == sorted(str(n) for n in range(40))

    def test_an_overlap_is_recorded_with_the_run_in_its_way(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        (run,) = claim(store)
        assert claim(store, T0 + 10 * SECOND, owner="b") == []
        skipped = store.reader().runs(RunFilter())[0]
        assert skipped.status is RunStatus.SKIPPED
        assert str(run.id) in (skipped.reason or "")

    def test_of_two_that_share_a_key_one_runs(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b")])
        assert len(claim(store, overlap_scope="process")) == 1
        assert claim(store, overlap_scope="process") == []
        assert sorted(run.status for run in store.reader().runs(RunFilter())) == [RunStatus.SKIPPED, RunStatus.WAITING]

    def test_a_queued_run_starts_when_the_other_has_ended(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        (run,) = claim(store, overlap=Overlap.QUEUE)
        for step in (1, 2):
            assert claim(store, T0 + step * 10 * SECOND, overlap=Overlap.QUEUE) == []
        assert statuses(store) == [RunStatus.WAITING, RunStatus.WAITING, RunStatus.SKIPPED]
        store.record("a", T0, Report([succeeded(run)]))
        (queued,) = claim(store, T0 + 21 * SECOND, owner="b", overlap=Overlap.QUEUE)
        assert (queued.fire_time, queued.owner, queued.attempt) == (T0 + 10 * SECOND, "b", 1)

    def test_a_replacing_run_waits_for_the_one_it_replaces(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        (run,) = claim(store, overlap=Overlap.REPLACE)
        assert claim(store, T0 + 10 * SECOND, overlap=Overlap.REPLACE) == []
        assert claim(store, T0 + 20 * SECOND, overlap=Overlap.REPLACE) == []
        assert store.reader().kills_asked("a") == {run.id}
        assert statuses(store) == [RunStatus.WAITING, RunStatus.SKIPPED, RunStatus.WAITING]
        killed = run.started(T0).move(RunStatus.KILLED, finished_at=T0)
        store.record("a", T0, Report([killed]))
        assert len(claim(store, T0 + 21 * SECOND, overlap=Overlap.REPLACE)) == 1

    def test_who_claims_is_told_of_a_run_that_makes_way_for_another(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        (run,) = claim(store, overlap=Overlap.REPLACE)
        error = RunError("OSError", "no paper")
        again = run.started(T0).again(RunStatus.ERROR, T0, T0 + timedelta(minutes=1), reason="again", error=error)
        store.record("a", T0, Report([again]))
        told: list[Run] = []
        planner = FixedPlanner(Policies(overlap=Overlap.REPLACE))
        assert store.claim(planner, "a", T0 + 10 * SECOND, 9, ended=told.extend) == []
        assert told == [store.reader().find_run(run.id)]
        reason = f"replaced by the run for {(T0 + 10 * SECOND).isoformat()}; its attempt 1 failed"
        assert (told[0].status, told[0].error, told[0].reason) == (RunStatus.ERROR, error, reason)
        assert store.reader().summary(None, None).counts == {RunStatus.ERROR: 1}

    def test_a_bounded_process_gets_no_more_than_its_bound(self, store: Store) -> None:
        store.file([make_request(str(n), priority=5) for n in range(4)])
        store.file([make_request(f"q{n}", process="q") for n in range(4)])
        planner = FixedPlanner(processes=("p", "q"), bounds={"p": 2})
        sign_on(store, "a")
        claimed = store.claim(planner, "a", T0, 5)
        assert [run.process for run in claimed] == ["p", "p", "q", "q", "q"]
        assert [run.process for run in store.claim(planner, "a", T0, 1)] == ["p"]

    def test_a_bound_holds_for_what_waits_too(self, store: Store) -> None:
        store.file([make_request("r", Later(T0 + SECOND))])
        run = Run(request_id="r", process="p", fire_time=T0, recorded_at=T0, due_at=T0)
        for _ in range(3):
            store.enqueue(run)
        planner = FixedPlanner(bounds={"p": 2})
        sign_on(store, "a")
        assert len(store.claim(planner, "a", T0 + SECOND, 9)) == 2
