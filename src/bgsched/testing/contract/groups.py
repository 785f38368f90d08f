"""The contract's chapter on the runs of a group and its members."""

from collections.abc import Callable
from datetime import timedelta

from bgsched.request import (
    OnAbandon,
    Overlap,
    Retention,
)
from bgsched.run import Run, RunStatus
from bgsched.stores.base import Bite, Report, RunFilter, Store
from bgsched.testing.contract._tools import SECOND, T0, Chapter, claim, make_request, statuses, succeeded

__all__ = ["Groups"]


class Groups(Chapter):
    """Its tests, each a sentence."""

    def test_a_member_is_stored_once_while_its_group_is_held(self, store: Store) -> None:
        store.file([make_request(sensitive=("x",), params={"x": 1})])
        (parent,) = claim(store)
        assert parent.sensitive == ("x",)
        member = Run(request_id="r", parent_id=parent.id, process="p", fire_time=T0, recorded_at=T0, due_at=T0)
        for _ in range(2):
            assert store.add_member("a", parent, member, 0, Overlap.SKIP, T0)
        assert not store.add_member("b", parent, member, 1, Overlap.SKIP, T0)
        found = store.reader().runs(RunFilter(parent=parent.id))
        assert [(run.parent_id, run.status) for run in found] == [(parent.id, RunStatus.WAITING)]
        (taken,) = claim(store, owner="b")
        assert (taken.id, taken.parent_id) == (found[0].id, parent.id)

    def test_a_member_follows_the_overlap_rule_of_its_process(self, store: Store) -> None:
        store.file([make_request(), make_request("other")])
        parent, blocker = claim(store, overlap=Overlap.ALLOW)
        waiting = store.enqueue(
            Run(request_id="other", process="p", fire_time=T0, recorded_at=T0, due_at=T0, overlap_key="key")
        )
        member = Run(
            request_id="r", parent_id=parent.id, process="p", fire_time=T0, recorded_at=T0, due_at=T0, overlap_key="key"
        )
        told: list[Run] = []
        for place, overlap in enumerate((Overlap.SKIP, Overlap.QUEUE, Overlap.REPLACE)):
            store.add_member("a", parent, member, place, overlap, T0, ended=told.extend)
        found = store.reader().runs(RunFilter(parent=parent.id))[::-1]
        assert [run.status for run in found] == [RunStatus.SKIPPED, RunStatus.SKIPPED, RunStatus.WAITING]
        assert found[0].reason == f"run {waiting.id} had not ended"
        displaced = store.reader().find_run(waiting.id)
        assert told == [displaced]
        assert displaced is not None
        assert displaced.status is RunStatus.SKIPPED
        claim(store, owner="b")
        store.add_member("a", parent, member, 3, Overlap.REPLACE, T0)
        assert store.reader().kills_asked("b") == {found[2].id}
        assert blocker.is_active

    def test_unscheduling_leaves_the_members_of_a_group_that_runs(self, store: Store) -> None:
        store.file([make_request()])
        (parent,) = claim(store)
        member = Run(request_id="r", parent_id=parent.id, process="p", fire_time=T0, recorded_at=T0, due_at=T0)
        store.add_member("a", parent, member, 0, Overlap.SKIP, T0)
        store.change("r", lambda request: request and request.unscheduled(T0), T0, end_waiting="unscheduled")
        assert statuses(store) == [RunStatus.WAITING, RunStatus.WAITING]

    def test_a_group_that_nobody_leads_is_killed_with_its_members(self, store: Store) -> None:
        parent, ends = self._group_of_two(store)
        store.sign_off("a", T0)
        assert store.kill(parent.id, T0).status is RunStatus.KILLED
        assert ends() == [RunStatus.SUCCESS, RunStatus.RUNNING]
        assert len(store.reader().kills_asked("b")) == 1

    def test_a_group_whose_time_is_over_takes_its_members_along(self, store: Store) -> None:
        parent, ends = self._group_of_two(store)
        late = parent.started(T0).move(RunStatus.TIMED_OUT, finished_at=T0, duration=SECOND)
        store.record("a", T0, Report([late]))
        assert ends() == [RunStatus.SUCCESS, RunStatus.RUNNING]
        assert len(store.reader().kills_asked("b")) == 1

    def test_who_ends_a_group_is_told_of_a_member_that_waited_for_its_next_attempt(self, store: Store) -> None:
        parent, ends = self._group_of_two(store)
        (second,) = store.held("b")
        again = second.again(RunStatus.ERROR, T0, T0 + SECOND, reason="again")
        store.record("b", T0, Report([again]))
        late = parent.started(T0).move(RunStatus.TIMED_OUT, finished_at=T0, duration=SECOND)
        told: list[Run] = []
        store.record("a", T0, Report([late]), ended=told.extend)
        assert ends() == [RunStatus.SUCCESS, RunStatus.KILLED]
        assert told == [store.reader().find_run(second.id)]

    def test_who_reaps_a_group_that_was_asked_to_stop_is_told_of_its_members(self, store: Store) -> None:
        parent, ends = self._group_of_two(store)
        (second,) = store.held("b")
        store.record("b", T0, Report([second.again(RunStatus.ERROR, T0, T0 + SECOND, reason="again")]))
        store.kill(parent.id, T0)
        left = {run.id: run.status for run in store.sign_off("a", T0)}
        assert left == {parent.id: RunStatus.KILLED, second.id: RunStatus.KILLED}
        assert ends() == [RunStatus.SUCCESS, RunStatus.KILLED]

    def test_unscheduling_leaves_a_group_that_nobody_leads_now(self, store: Store) -> None:
        self._group_of_two(store)
        store.sign_off("a", T0)
        store.change("r", lambda request: request and request.unscheduled(T0), T0, end_waiting="unscheduled")
        assert statuses(store)[0] is RunStatus.WAITING

    def test_unscheduling_leaves_a_group_between_two_members_and_two_schedulers(self, store: Store) -> None:
        self._group_of_two(store)
        (second,) = store.held("b")
        store.record("b", T0, Report([second.ended(RunStatus.SUCCESS, T0, SECOND)]))
        store.sign_off("a", T0)
        store.change("r", lambda request: request and request.unscheduled(T0), T0, end_waiting="unscheduled")
        assert statuses(store)[0] is RunStatus.WAITING

    def test_the_members_of_a_group_that_goes_on_are_not_purged(self, store: Store) -> None:
        parent, ends = self._group_of_two(store)
        everything = Retention(success=timedelta(0), other=timedelta(0), per_process=1)
        assert store.purge(everything, T0 + timedelta(days=99)) == Bite()
        store.record("a", T0, Report([succeeded(parent)]))
        assert store.purge(everything, T0 + timedelta(days=99)) == Bite()  # it is the newest of its request
        with store.transaction() as tx:
            tx.insert_runs([Run(request_id="r", process="p", fire_time=T0 + SECOND, recorded_at=T0, due_at=T0)])
        assert store.purge(everything, T0 + timedelta(days=99)).runs == 2
        assert ends() == [RunStatus.RUNNING]

    def _group_of_two(self, store: Store) -> tuple[Run, Callable[[], list[RunStatus]]]:
        """Let "a" lead a group whose first member has succeeded and whose second one runs at "b"; how they stand."""
        store.file([make_request()])
        (parent,) = claim(store, on_abandon=OnAbandon.RERUN)
        member = Run(request_id="r", parent_id=parent.id, process="p", fire_time=T0, recorded_at=T0, due_at=T0)
        for place in range(2):
            store.add_member("a", parent, member, place, Overlap.SKIP, T0)
            (run,) = claim(store, owner="b")
            store.record("b", T0, Report([succeeded(run) if place == 0 else run.started(T0)]))
        return parent, lambda: [run.status for run in store.reader().runs(RunFilter(parent=parent.id))[::-1]]
