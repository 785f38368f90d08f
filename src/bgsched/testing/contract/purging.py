"""The contract's chapter on retention."""

from datetime import timedelta

from bgsched._evolve import evolve
from bgsched.request import (
    Overlap,
    Retention,
)
from bgsched.run import LogLine, Run, RunStatus
from bgsched.stores.base import Bite, Report, RequestFilter, RunFilter, Store
from bgsched.testing.contract._tools import (
    SECOND,
    T0,
    Chapter,
    FixedPlanner,
    claim,
    make_request,
    sign_on,
    statuses,
    succeeded,
)
from bgsched.timing import EverySeconds, Schedule

__all__ = ["Purging"]


class Purging(Chapter):
    """Its tests, each a sentence."""

    def test_old_runs_are_purged_but_never_the_newest_of_a_request(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(4):
            (run,) = claim(store, T0 + step * 10 * SECOND)
            store.record("a", T0, Report([succeeded(run)], [LogLine(run.id, 1, T0, "INFO", "x", "hello")]))
        retention = Retention(success=timedelta(days=1))
        assert store.purge(retention, T0 + timedelta(hours=1)) == Bite()
        bite = store.purge(retention, T0 + timedelta(days=2), limit=2)
        assert (bite.runs, bite.after is None) == (2, False)
        assert store.purge(retention, T0 + timedelta(days=2), after=bite.after or 0) == Bite(runs=1)
        (kept,) = store.reader().runs(RunFilter())
        assert kept.fire_time == T0 + 30 * SECOND
        assert store.reader().log(kept.id - 1, 0, 10) == []

    def test_the_newest_run_of_a_group_is_kept_with_its_members(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        kept: set[int] = set()
        for step in range(2):
            (group,) = claim(store, T0 + step * 10 * SECOND)
            member = succeeded(Run(request_id="r", process="m", fire_time=T0, recorded_at=T0))
            kept, parent = {group.id}, group.id
            for _ in ("its members", "those of the last of them"):
                members = [
                    evolve(member, parent_id=parent, revision=-parent, fire_time=T0 + n * SECOND) for n in range(3)
                ]
                with store.transaction() as tx:
                    stored = tx.insert_runs(members)
                kept |= {run.id for run in stored}
                parent = stored[-1].id
            store.record("a", T0, Report([succeeded(group)]))
        assert store.purge(Retention(success=timedelta(days=1)), T0 + timedelta(days=2)).runs == 7
        assert {run.id for run in store.reader().runs(RunFilter())} == kept

    def test_runs_are_purged_by_the_age_of_their_status(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step, status in enumerate((RunStatus.SKIPPED, RunStatus.KILLED, RunStatus.SUCCESS, RunStatus.SUCCESS)):
            (run,) = claim(store, T0 + step * 10 * SECOND)
            store.record("a", T0, Report([evolve(succeeded(run), status=status)]))
        ages = {RunStatus.SKIPPED: timedelta(days=1), RunStatus.KILLED: None}
        retention = Retention(success=None, other=timedelta(days=1), by_status=ages)
        assert store.purge(retention, T0 + timedelta(days=2)) == Bite(runs=1)
        assert statuses(store) == [RunStatus.KILLED, RunStatus.SUCCESS, RunStatus.SUCCESS]

    def test_runs_are_purged_by_count(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(4):
            (run,) = claim(store, T0 + step * 10 * SECOND)
            store.record("a", T0, Report([succeeded(run)]))
        assert store.purge(Retention(success=None, other=None, per_process=2), T0) == Bite(runs=2)
        assert len(store.reader().runs(RunFilter())) == 2

    def test_nothing_is_purged_where_everything_is_kept(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(2):
            (run,) = claim(store, T0 + step * 10 * SECOND)
            store.record("a", T0, Report([succeeded(run)]))
        keep = Retention(success=None, other=None)
        assert store.purge(keep, T0 + timedelta(days=9999)) == Bite()
        assert store.purge(Retention(success=None, other=timedelta(0)), T0 + timedelta(days=9999)) == Bite()

    def test_what_has_not_ended_is_never_purged(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(3):
            claim(store, T0 + step * 10 * SECOND, overlap=Overlap.ALLOW)
        everything = Retention(success=timedelta(0), other=timedelta(0), per_process=1, complete=timedelta(0))
        assert store.purge(everything, T0 + timedelta(days=99)) == Bite()
        assert len(statuses(store)) == 3

    def test_a_purged_fire_time_stays_fired(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(3):
            (run,) = claim(store, T0 + step * 10 * SECOND)
            store.record("a", T0, Report([succeeded(run)]))
        assert store.purge(Retention(success=timedelta(0)), T0 + timedelta(days=1)).runs == 2
        assert claim(store, T0 + 20 * SECOND) == []
        assert len(statuses(store)) == 1

    def test_complete_requests_are_purged_only_where_asked_for(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b", declared="{}"), make_request("c", Schedule(EverySeconds(9)))])
        for run in claim(store):
            store.record("a", T0, Report([succeeded(run)], [LogLine(run.id, 1, T0, "INFO", "x", "hello")]))
        late = T0 + timedelta(days=99)
        assert store.purge(Retention(), late) == Bite()
        assert store.purge(Retention(complete=timedelta(days=100)), late) == Bite()
        assert store.purge(Retention(complete=timedelta(days=90)), late) == Bite(requests=1)
        assert [request.id for request in store.reader().requests(RequestFilter())] == ["b", "c"]
        assert {run.request_id for run in store.reader().runs(RunFilter())} == {"b", "c"}

    def test_totals_are_by_process_and_status_and_outlive_the_runs(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b", process="q")])
        sign_on(store, "a")
        for run in store.claim(FixedPlanner(processes=("p", "q")), "a", T0, 10):
            store.record("a", T0, Report([succeeded(run)]))
        store.delete("b")
        hour = timedelta(hours=1)
        found = [(e.process, e.status, e.count) for e in store.reader().totals(T0, T0 + hour)]
        assert found == [("p", RunStatus.SUCCESS, 1), ("q", RunStatus.SUCCESS, 1)]
        assert store.reader().totals(T0 + hour, T0 + 2 * hour) == []
        assert store.reader().totals(T0 - hour, T0) == []
