"""The suite that every store passes: ours, and yours.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self):
            store = MyStore(...)
            yield store
            store.close()

Each test is one sentence of the contract. The suite needs nothing but the store: instants are given, nothing sleeps.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bgsched.errors import OwnerGoneError, RequestExistsError, UnknownRequestError, UnknownRunError
from bgsched.request import (
    Misfire,
    OnAbandon,
    Overlap,
    Plan,
    Policies,
    Request,
    RequestStatus,
    Retention,
    overlap_key,
    plan,
)
from bgsched.run import LogLine, LogTrim, Progress, Run, RunError, RunStatus
from bgsched.stores.base import Absence, Bite, Report, RequestFilter, RunFilter, SchedulerRecord, Store
from bgsched.timing import EverySeconds, Immediate, Later, Schedule, Timing

__all__ = ["T0", "FixedPlanner", "StoreContract", "make_request"]

T0 = datetime(2026, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class FixedPlanner:
    """Plans every request with the same policies."""

    def __init__(
        self,
        policies: Policies | None = None,
        processes: Collection[str] = ("p",),
        owner: str = "a",
        bounds: Mapping[str, int] | None = None,
    ) -> None:
        self.policies = policies or Policies()
        self.bounds = bounds or {}
        self.processes = frozenset(processes)
        self.owner = owner

    def overlap_key(self, request: Request) -> str | None:
        """Return the key of the policies."""
        return overlap_key(request, self.policies)

    def plan(self, request: Request, now: datetime, blockers: Sequence[Run]) -> Plan:
        """Return the plan of the policies."""
        return plan(request, self.policies, self.owner, now, blockers)


def make_request(id: str = "r", timing: Timing | None = None, now: datetime = T0, **values: Any) -> Request:
    """Return a request of process ``p`` as a scheduler would file it at *now*; by default an immediate one."""
    wanted = (timing or Immediate()).pinned(now)
    return Request(**{"id": id, "process": "p", "timing": wanted, "created_at": now, **values}).timed(wanted, now)


def _sign_on(store: Store, owner: str, now: datetime = T0) -> SchedulerRecord:
    record = SchedulerRecord(
        owner=owner, host="here", pid=1, started_at=now, heartbeat_at=now, lease_until=now + 15 * _SECOND
    )
    store.sign_on(record)
    return record


def _claim(store: Store, now: datetime = T0, owner: str = "a", limit: int = 100, **policies: Any) -> list[Run]:
    if all(record.owner != owner for record in store.reader().schedulers()):
        _sign_on(store, owner)
    return store.claim(FixedPlanner(Policies(**policies), owner=owner), owner, now, limit)


def _statuses(store: Store, request: str = "r") -> list[RunStatus]:
    return [run.status for run in reversed(store.reader().runs(RunFilter(request=request)))]


def _raises(error: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


def _succeeded(run: Run, now: datetime = T0) -> Run:
    return run.started(now).move(RunStatus.SUCCESS, finished_at=now + _SECOND, duration=_SECOND)


class StoreContract:
    """Derive from it and supply a fixture ``store``: an empty store."""

    # -- requests ------------------------------------------------------------------------------------------------

    def test_a_request_is_kept_as_it_was_filed(self, store: Store) -> None:
        request = make_request(
            timing=Schedule(EverySeconds(7), finish=T0 + timedelta(days=1)),
            params={"a": [1, None, True, "ü"], "b": {"c": 1.5}},
            user="ann",
            channel="dashboard",
            priority=3,
            sensitive=("a",),
        )
        store.file([request])
        assert store.reader().find_request("r") == request

    def test_an_unknown_request_is_not_found(self, store: Store) -> None:
        assert store.reader().find_request("x") is None

    def test_filing_is_all_or_nothing(self, store: Store) -> None:
        store.file([make_request("b")])
        _raises(RequestExistsError, lambda: store.file([make_request("a"), make_request("b")]))
        assert store.reader().find_request("a") is None

    def test_what_is_lent_out_is_not_what_is_kept(self, store: Store) -> None:
        request = make_request(params={"a": [1]})
        store.file([request])
        request.params["a"].append(2)
        found = store.reader().find_request("r")
        assert found is not None
        found.params["a"].append(3)
        (run,) = _claim(store)
        run.params["a"].append(4)
        assert store.reader().runs(RunFilter())[0].params == {"a": [1]}
        assert store.reader().requests(RequestFilter())[0].params == {"a": [1]}

    def test_a_change_replaces_a_request(self, store: Store) -> None:
        store.file([make_request()])
        changed = store.change("r", lambda request: request and request.unscheduled(T0, "no more"), T0)
        assert changed is not None
        assert changed.status is RequestStatus.UNSCHEDULED
        assert store.reader().find_request("r") == changed

    def test_a_change_that_raises_changes_nothing(self, store: Store) -> None:
        store.file([make_request()])
        before = store.reader().find_request("r")

        def fail(_: Request | None) -> Request:
            raise LookupError

        _raises(LookupError, lambda: store.change("r", fail, T0))
        assert store.reader().find_request("r") == before

    def test_a_change_may_make_a_request(self, store: Store) -> None:
        store.change("r", lambda found: make_request() if found is None else None, T0)
        store.change("r", lambda found: make_request(user="other") if found is None else None, T0)
        found = store.reader().find_request("r")
        assert found is not None
        assert found.user is None

    def test_unscheduling_ends_what_waits_and_leaves_what_runs(self, store: Store) -> None:
        store.file([make_request()])
        _claim(store)
        store.enqueue(replace(store.reader().runs(RunFilter())[0], id=0, fire_time=T0 + _SECOND, owner=None, attempt=0))
        store.change("r", lambda request: request and request.unscheduled(T0), T0, end_waiting="unscheduled")
        assert _statuses(store) == [RunStatus.WAITING, RunStatus.SKIPPED]
        assert store.reader().runs(RunFilter())[0].reason == "unscheduled"

    def test_a_deleted_request_leaves_nothing(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        store.record("a", T0, Report([_succeeded(run)], [LogLine(run.id, 1, T0, "INFO", "x", "hello")]))
        store.delete("r")
        assert store.reader().find_request("r") is None
        assert store.reader().runs(RunFilter()) == []
        assert store.reader().log(run.id, 0, 10) == []

    def test_deleting_what_is_not_there_is_an_error(self, store: Store) -> None:
        _raises(UnknownRequestError, lambda: store.delete("x"))

    def test_requests_are_listed_by_id_page_by_page(self, store: Store) -> None:
        store.file([make_request(id) for id in "cab"])
        reader = store.reader()
        assert [request.id for request in reader.requests(RequestFilter(limit=2))] == ["a", "b"]
        assert [request.id for request in reader.requests(RequestFilter(limit=2, after="b"))] == ["c"]

    def test_requests_are_filtered(self, store: Store) -> None:
        store.file([make_request("a", user="ann"), make_request("b", process="q")])
        reader = store.reader()
        assert [r.id for r in reader.requests(RequestFilter(process="q"))] == ["b"]
        assert [r.id for r in reader.requests(RequestFilter(user="ann"))] == ["a"]
        assert reader.requests(RequestFilter(status=frozenset({RequestStatus.COMPLETE}))) == []

    def test_upcoming_requests_come_earliest_first(self, store: Store) -> None:
        store.file([make_request(str(n), Later(T0 + n * _SECOND), priority=n) for n in (3, 1, 2)])
        assert [request.id for request in store.reader().upcoming(2)] == ["1", "2"]

    # -- what is due ---------------------------------------------------------------------------------------------

    def test_next_due_is_the_earliest_of_the_processes_asked_for(self, store: Store) -> None:
        assert store.reader().next_due(["p"]) is None
        store.file(
            [
                make_request("a", Later(T0 + 9 * _SECOND)),
                make_request("b", Later(T0 + 5 * _SECOND), priority=-1),
                make_request("c", Later(T0 + _SECOND), process="other"),
            ]
        )
        assert store.reader().next_due(["p"]) == T0 + 5 * _SECOND
        assert store.reader().next_due([]) is None

    def test_a_waiting_run_is_due_unless_it_is_blocked(self, store: Store) -> None:
        store.file([make_request("r", Schedule(EverySeconds(10)))])
        (run,) = _claim(store, overlap=Overlap.QUEUE)
        _claim(store, T0 + 10 * _SECOND, overlap=Overlap.QUEUE)
        assert store.reader().next_due(["p"]) == T0 + 20 * _SECOND
        store.record("a", T0, Report([_succeeded(run)]))
        assert store.reader().next_due(["p"]) == T0 + 10 * _SECOND

    def test_changes_differ_after_a_change(self, store: Store) -> None:
        before = store.changes()
        assert store.changes() == before
        store.file([make_request()])
        assert store.changes() != before

    # -- claiming ------------------------------------------------------------------------------------------------

    def test_a_claim_takes_what_is_due_and_writes_the_run(self, store: Store) -> None:
        store.file([make_request(user="ann", params={"x": 1})])
        (run,) = _claim(store)
        assert (run.request_id, run.status, run.owner, run.attempt) == ("r", RunStatus.WAITING, "a", 1)
        assert (run.fire_time, run.claimed_at, run.user, run.params) == (T0, T0, "ann", {"x": 1})
        assert store.reader().find_run(run.id) == run

    def test_what_was_claimed_is_not_claimed_again(self, store: Store) -> None:
        store.file([make_request()])
        assert len(_claim(store)) == 1
        assert _claim(store, owner="b") == []

    def test_what_is_not_due_is_not_claimed(self, store: Store) -> None:
        store.file([make_request(timing=Later(T0 + _SECOND))])
        assert _claim(store) == []
        assert len(_claim(store, T0 + _SECOND)) == 1

    def test_a_process_that_is_not_registered_waits(self, store: Store) -> None:
        store.file([make_request(process="gone"), make_request("s")])
        assert [run.request_id for run in _claim(store)] == ["s"]
        found = store.reader().find_request("r")
        assert found is not None
        assert found.status is RequestStatus.SCHEDULED

    def test_a_claim_takes_no_more_than_its_limit(self, store: Store) -> None:
        store.file([make_request(str(n), Later(T0 - n * _SECOND)) for n in range(5)])
        assert len(_claim(store, limit=2)) == 2
        assert len(_claim(store, limit=9)) == 3

    def test_higher_priorities_are_claimed_first(self, store: Store) -> None:
        store.file([make_request(str(n), priority=n) for n in (1, 3, 2)])
        assert [run.request_id for run in _claim(store, limit=2)] == ["3", "2"]

    def test_a_claim_moves_the_request_on(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        _claim(store)
        found = store.reader().find_request("r")
        assert found is not None
        assert (found.last_fire_time, found.next_fire_time) == (T0, T0 + 10 * _SECOND)

    def test_a_fire_time_has_one_run_whatever_the_request_says(self, store: Store) -> None:
        request = make_request()
        store.file([request])
        _claim(store)
        store.change("r", lambda _: request, T0)
        assert _claim(store) == []
        assert len(_statuses(store)) == 1

    def test_a_run_beside_the_fire_times_takes_the_place_of_none(self, store: Store) -> None:
        store.file([make_request()])
        request = store.reader().find_request("r")
        assert request is not None
        beside = Run(request_id="r", revision=request.revision, process="p", fire_time=T0, recorded_at=T0)
        first, second = store.enqueue(beside), store.enqueue(beside)
        assert (first.fire_time, second.fire_time) == (T0, T0 + timedelta(microseconds=1))
        assert len(_claim(store, overlap=Overlap.ALLOW)) == 3

    def test_a_run_of_a_deleted_request_is_refused(self, store: Store) -> None:
        run = Run(request_id="r", process="p", fire_time=T0, recorded_at=T0)
        _raises(UnknownRequestError, lambda: store.enqueue(run))

    def test_who_is_displaced_leaves_a_complete_request(self, store: Store) -> None:
        policies: dict[str, Any] = {"overlap": Overlap.REPLACE, "overlap_scope": "process"}
        store.file(
            [make_request("a"), make_request("b", Later(T0 + _SECOND)), make_request("c", Later(T0 + 2 * _SECOND))]
        )
        for step in range(3):
            _claim(store, T0 + step * _SECOND, **policies)
        assert _statuses(store, "b") == [RunStatus.SKIPPED]
        assert self._status(store, "b") is RequestStatus.COMPLETE

    def test_a_new_revision_may_run_at_the_same_instant(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        store.record("a", T0, Report([_succeeded(run)]))
        store.change("r", lambda request: request and request.rescheduled(Later(T0), T0), T0)
        assert len(_claim(store)) == 1

    def test_of_many_threads_one_claims(self, store: Store) -> None:
        store.file([make_request(str(n)) for n in range(40)])
        claimed: list[Run] = []

        def work(owner: str) -> None:
            while runs := _claim(store, owner=owner, limit=3):
                claimed.extend(runs)

        threads = [threading.Thread(target=work, args=(f"owner-{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(run.request_id for run in claimed) == sorted(str(n) for n in range(40))

    def test_an_overlap_is_recorded_with_the_run_in_its_way(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        (run,) = _claim(store)
        assert _claim(store, T0 + 10 * _SECOND, owner="b") == []
        skipped = store.reader().runs(RunFilter())[0]
        assert skipped.status is RunStatus.SKIPPED
        assert str(run.id) in (skipped.reason or "")

    def test_of_two_that_share_a_key_one_runs(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b")])
        assert len(_claim(store, overlap_scope="process")) == 1
        assert _claim(store, overlap_scope="process") == []
        assert sorted(run.status for run in store.reader().runs(RunFilter())) == [RunStatus.SKIPPED, RunStatus.WAITING]

    def test_a_queued_run_starts_when_the_other_has_ended(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        (run,) = _claim(store, overlap=Overlap.QUEUE)
        for step in (1, 2):
            assert _claim(store, T0 + step * 10 * _SECOND, overlap=Overlap.QUEUE) == []
        assert _statuses(store) == [RunStatus.WAITING, RunStatus.WAITING, RunStatus.SKIPPED]
        store.record("a", T0, Report([_succeeded(run)]))
        (queued,) = _claim(store, T0 + 21 * _SECOND, owner="b", overlap=Overlap.QUEUE)
        assert (queued.fire_time, queued.owner, queued.attempt) == (T0 + 10 * _SECOND, "b", 1)

    def test_a_replacing_run_waits_for_the_one_it_replaces(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        (run,) = _claim(store, overlap=Overlap.REPLACE)
        assert _claim(store, T0 + 10 * _SECOND, overlap=Overlap.REPLACE) == []
        assert _claim(store, T0 + 20 * _SECOND, overlap=Overlap.REPLACE) == []
        assert store.reader().kills_asked("a") == {run.id}
        assert _statuses(store) == [RunStatus.WAITING, RunStatus.SKIPPED, RunStatus.WAITING]
        killed = run.started(T0).move(RunStatus.KILLED, finished_at=T0)
        store.record("a", T0, Report([killed]))
        assert len(_claim(store, T0 + 21 * _SECOND, overlap=Overlap.REPLACE)) == 1

    def test_a_bounded_process_gets_no_more_than_its_bound(self, store: Store) -> None:
        store.file([make_request(str(n), priority=5) for n in range(4)])
        store.file([make_request(f"q{n}", process="q") for n in range(4)])
        planner = FixedPlanner(processes=("p", "q"), bounds={"p": 2})
        _sign_on(store, "a")
        claimed = store.claim(planner, "a", T0, 5)
        assert [run.process for run in claimed] == ["p", "p", "q", "q", "q"]
        assert [run.process for run in store.claim(planner, "a", T0, 1)] == ["p"]

    def test_a_bound_holds_for_what_waits_too(self, store: Store) -> None:
        store.file([make_request("r", Later(T0 + _SECOND))])
        run = Run(request_id="r", process="p", fire_time=T0, recorded_at=T0, due_at=T0)
        for _ in range(3):
            store.enqueue(run)
        planner = FixedPlanner(bounds={"p": 2})
        _sign_on(store, "a")
        assert len(store.claim(planner, "a", T0 + _SECOND, 9)) == 2

    # -- groups --------------------------------------------------------------------------------------------------

    def test_a_member_is_stored_once_while_its_group_is_held(self, store: Store) -> None:
        store.file([make_request(sensitive=("x",), params={"x": 1})])
        (parent,) = _claim(store)
        assert parent.sensitive == ("x",)
        member = Run(request_id="r", parent_id=parent.id, process="p", fire_time=T0, recorded_at=T0, due_at=T0)
        for _ in range(2):
            assert store.add_member("a", parent, member, 0, Overlap.SKIP, T0)
        assert not store.add_member("b", parent, member, 1, Overlap.SKIP, T0)
        found = store.reader().runs(RunFilter(parent=parent.id))
        assert [(run.parent_id, run.status) for run in found] == [(parent.id, RunStatus.WAITING)]
        (taken,) = _claim(store, owner="b")
        assert (taken.id, taken.parent_id) == (found[0].id, parent.id)

    def test_a_member_follows_the_overlap_rule_of_its_process(self, store: Store) -> None:
        store.file([make_request(), make_request("other")])
        parent, blocker = _claim(store, overlap=Overlap.ALLOW)
        waiting = store.enqueue(
            Run(request_id="other", process="p", fire_time=T0, recorded_at=T0, due_at=T0, overlap_key="key")
        )
        member = Run(
            request_id="r", parent_id=parent.id, process="p", fire_time=T0, recorded_at=T0, due_at=T0, overlap_key="key"
        )
        for place, overlap in enumerate((Overlap.SKIP, Overlap.QUEUE, Overlap.REPLACE)):
            store.add_member("a", parent, member, place, overlap, T0)
        found = store.reader().runs(RunFilter(parent=parent.id))[::-1]
        assert [run.status for run in found] == [RunStatus.SKIPPED, RunStatus.SKIPPED, RunStatus.WAITING]
        assert found[0].reason == f"run {waiting.id} had not ended"
        displaced = store.reader().find_run(waiting.id)
        assert displaced is not None
        assert displaced.status is RunStatus.SKIPPED
        _claim(store, owner="b")
        store.add_member("a", parent, member, 3, Overlap.REPLACE, T0)
        assert store.reader().kills_asked("b") == {found[2].id}
        assert blocker.is_active

    def test_unscheduling_leaves_the_members_of_a_group_that_runs(self, store: Store) -> None:
        store.file([make_request()])
        (parent,) = _claim(store)
        member = Run(request_id="r", parent_id=parent.id, process="p", fire_time=T0, recorded_at=T0, due_at=T0)
        store.add_member("a", parent, member, 0, Overlap.SKIP, T0)
        store.change("r", lambda request: request and request.unscheduled(T0), T0, end_waiting="unscheduled")
        assert _statuses(store) == [RunStatus.WAITING, RunStatus.WAITING]

    def test_a_group_that_nobody_leads_is_killed_with_its_members(self, store: Store) -> None:
        parent, ends = self._group_of_two(store)
        store.sign_off("a", T0)
        assert store.kill(parent.id, T0).status is RunStatus.KILLED
        assert ends() == [RunStatus.SUCCESS, RunStatus.RUNNING]
        assert len(store.reader().kills_asked("b")) == 1

    def test_a_group_whose_time_is_over_takes_its_members_along(self, store: Store) -> None:
        parent, ends = self._group_of_two(store)
        late = parent.started(T0).move(RunStatus.TIMED_OUT, finished_at=T0, duration=_SECOND)
        store.record("a", T0, Report([late]))
        assert ends() == [RunStatus.SUCCESS, RunStatus.RUNNING]
        assert len(store.reader().kills_asked("b")) == 1

    def test_unscheduling_leaves_a_group_that_nobody_leads_now(self, store: Store) -> None:
        self._group_of_two(store)
        store.sign_off("a", T0)
        store.change("r", lambda request: request and request.unscheduled(T0), T0, end_waiting="unscheduled")
        assert _statuses(store)[0] is RunStatus.WAITING

    def test_the_members_of_a_group_that_goes_on_are_not_purged(self, store: Store) -> None:
        parent, ends = self._group_of_two(store)
        everything = Retention(success=timedelta(0), other=timedelta(0), per_process=1)
        assert store.purge(everything, T0 + timedelta(days=99)) == Bite()
        store.record("a", T0, Report([_succeeded(parent)]))
        assert store.purge(everything, T0 + timedelta(days=99)).runs == 2
        assert ends() == [RunStatus.RUNNING]

    def _group_of_two(self, store: Store) -> tuple[Run, Callable[[], list[RunStatus]]]:
        """Let "a" lead a group whose first member has succeeded and whose second one runs at "b"; how they stand."""
        store.file([make_request()])
        (parent,) = _claim(store, on_abandon=OnAbandon.RERUN)
        member = Run(request_id="r", parent_id=parent.id, process="p", fire_time=T0, recorded_at=T0, due_at=T0)
        for place in range(2):
            store.add_member("a", parent, member, place, Overlap.SKIP, T0)
            (run,) = _claim(store, owner="b")
            store.record("b", T0, Report([_succeeded(run) if place == 0 else run.started(T0)]))
        return parent, lambda: [run.status for run in store.reader().runs(RunFilter(parent=parent.id))[::-1]]

    # -- reporting -----------------------------------------------------------------------------------------------

    def test_what_follows_a_run_is_filed_once_with_its_end(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        report = Report([_succeeded(run)], follow_ups=[(run.id, make_request("next"))])
        assert store.record("b", T0, replace(report, follow_ups=[(run.id, make_request("never"))])) != []
        store.record("a", T0, report)
        store.record("a", T0, replace(report, follow_ups=[(run.id, make_request("again"))]))
        assert [request.id for request in store.reader().requests(RequestFilter())] == ["next", "r"]

    def test_a_run_is_kept_as_it_was_reported(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        ended = run.started(T0 + _SECOND).move(
            RunStatus.ERROR,
            finished_at=T0 + 3 * _SECOND,
            duration=2 * _SECOND,
            result={"n": [1, None]},
            progress=Progress(3, 9, "three"),
            error=RunError("ValueError", "broken", "Traceback ..."),
        )
        assert store.record("a", T0, Report([ended])) == []
        assert store.reader().find_run(run.id) == ended

    def test_a_request_is_complete_when_its_last_run_has_ended(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        assert self._status(store) is RequestStatus.SCHEDULED
        store.record("a", T0, Report([run.started(T0)]))
        assert self._status(store) is RequestStatus.SCHEDULED
        store.record("a", T0, Report([_succeeded(run)]))
        assert self._status(store) is RequestStatus.COMPLETE

    def test_what_another_owner_says_is_refused_and_noted(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        late = _succeeded(run)
        assert store.record("b", T0, Report([late])) == [late]
        assert store.reader().find_run(run.id) == run
        assert store.reader().log(run.id, 0, 10) == []
        self.die(store, "a", T0)
        ended = store.reader().find_run(run.id)
        assert store.record("a", T0, Report([late])) == [late]
        assert store.reader().find_run(run.id) == ended
        assert "refused" in store.reader().log(run.id, 0, 10)[0].text

    def test_a_late_result_leaves_the_log_of_the_next_attempt_alone(self, store: Store) -> None:
        store.file([make_request()])
        (first,) = _claim(store, on_abandon=OnAbandon.RERUN)
        now = self.die(store, "a", T0)
        (second,) = _claim(store, now, owner="b", on_abandon=OnAbandon.RERUN)
        last = store.last_seq(second.id)
        store.record("a", T0, Report([_succeeded(first)]))
        line = LogLine(second.id, last + 1, T0, "INFO", "x", "of the second attempt", second.attempt)
        store.record("b", T0, Report([], [line]))
        assert store.reader().log(second.id, 0, 10) == [line]

    def test_what_an_earlier_attempt_says_is_refused(self, store: Store) -> None:
        store.file([make_request()])
        (first,) = _claim(store, on_abandon=OnAbandon.RERUN)
        _sign_on(store, "a")
        store.sign_off("a", T0)
        (second,) = _claim(store, on_abandon=OnAbandon.RERUN)
        assert (second.id, second.attempt) == (first.id, 2)
        assert store.record("a", T0, Report([_succeeded(first)])) != []
        assert store.record("a", T0, Report([_succeeded(second)])) == []

    def test_saying_the_same_twice_is_harmless(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        report = Report([_succeeded(run)], [LogLine(run.id, 1, T0, "INFO", "x", "hello")])
        assert store.record("a", T0, report) == []
        assert store.record("a", T0, report) == []
        assert len(store.reader().log(run.id, 0, 10)) == 1

    def test_a_run_that_is_tried_again_waits_and_keeps_the_attempt(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        again = run.started(T0).again(
            RunStatus.ERROR, T0, T0 + 5 * _SECOND, reason="failed", error=RunError("E", "m", "t")
        )
        assert store.record("a", T0, Report([again])) == []
        assert _claim(store, T0 + _SECOND) == []
        assert store.reader().next_due(["p"]) == T0 + 5 * _SECOND
        (second,) = _claim(store, T0 + 5 * _SECOND, owner="b")
        assert (second.id, second.attempt, second.owner) == (run.id, 2, "b")
        assert second.attempts == again.attempts
        assert self._status(store) is RequestStatus.SCHEDULED

    def test_log_lines_come_in_order_page_by_page(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        lines = [LogLine(run.id, seq, T0 + seq * _SECOND, "INFO", "x", f"line {seq}\nü") for seq in (1, 2, 3)]
        store.record("a", T0, Report([], lines))
        assert store.reader().log(run.id, 0, 2) == lines[:2]
        assert store.reader().log(run.id, 2, 2) == lines[2:]
        assert store.last_seq(run.id) == 3

    def test_the_middle_of_a_log_can_be_dropped_by_its_owner(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        lines = [LogLine(run.id, seq, T0, "INFO", "x", str(seq)) for seq in range(1, 8)]
        store.record("a", T0, Report([], lines))
        store.record("b", T0, Report([], [], [LogTrim(run.id, 1, 0, 8)]))
        store.record("a", T0, Report([], [], [LogTrim(run.id, 1, 2, 6)]))
        assert [line.seq for line in store.reader().log(run.id, 0, 10)] == [1, 2, 6, 7]

    def test_log_lines_of_another_owner_are_refused(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        store.record("b", T0, Report([], [LogLine(run.id, 1, T0, "INFO", "x", "not mine")]))
        assert store.reader().log(run.id, 0, 10) == []

    def test_what_is_held_is_what_was_claimed_and_has_not_ended(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b")])
        runs = _claim(store)
        store.record("a", T0, Report([_succeeded(runs[0])]))
        assert store.held("a") == [runs[1]]

    # -- beside the fire times -----------------------------------------------------------------------------------

    def test_a_run_can_be_put_beside_the_fire_times(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        beside = replace(run, id=0, owner=None, attempt=0, claimed_at=None, due_at=T0)
        stored = store.enqueue(beside)
        assert (stored.revision, stored.fire_time) == (0, T0)
        assert _claim(store) == []
        store.record("a", T0, Report([_succeeded(run)]))
        assert self._status(store) is RequestStatus.SCHEDULED
        (second,) = _claim(store)
        assert second.id == stored.id

    # -- killing -------------------------------------------------------------------------------------------------

    def test_a_kill_is_told_to_the_owner(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        assert store.reader().kills_asked("a") == frozenset()
        store.kill(run.id, T0 + _SECOND)
        store.kill(run.id, T0 + 2 * _SECOND)
        assert store.reader().kills_asked("a") == {run.id}
        store.record("a", T0, Report([run.started(T0)]))
        found = store.reader().find_run(run.id)
        assert found is not None
        assert found.kill_asked_at == T0 + _SECOND

    def test_a_waiting_run_is_killed_at_once(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        store.record("a", T0, Report([run.started(T0).again(RunStatus.ERROR, T0, T0 + _SECOND, reason="again")]))
        assert store.kill(run.id, T0).status is RunStatus.KILLED
        assert self._status(store) is RequestStatus.COMPLETE

    def test_a_run_that_was_to_be_killed_is_not_tried_again(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        store.kill(run.id, T0)
        again = run.started(T0).again(RunStatus.ERROR, T0, T0 + _SECOND, reason="again")
        for _ in range(2):
            assert store.record("a", T0, Report([again])) == []
        found = store.reader().find_run(run.id)
        assert found is not None
        assert (found.status, found.attempts) == (RunStatus.KILLED, again.attempts)
        assert self._status(store) is RequestStatus.COMPLETE

    def test_killing_what_has_ended_changes_nothing(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store)
        ended = _succeeded(run)
        store.record("a", T0, Report([ended]))
        assert store.kill(run.id, T0) == ended
        assert store.reader().find_run(run.id) == ended
        _raises(UnknownRunError, lambda: store.kill(run.id + 1, T0))

    # -- who is alive --------------------------------------------------------------------------------------------

    def test_a_scheduler_signs_on_shows_itself_and_signs_off(self, store: Store) -> None:
        record = _sign_on(store, "a")
        later = replace(
            record, heartbeat_at=T0 + _SECOND, problem="no disk", problem_since=T0, paused=True, processes=("p", "q")
        )
        assert store.heartbeat(later)
        assert [replace(known, clock_skew=None) for known in store.reader().schedulers()] == [later]
        assert store.sign_off("a", T0) == []
        assert store.reader().schedulers() == []
        assert not store.heartbeat(later)
        assert store.reader().schedulers() == []

    def test_when_no_scheduler_lived_is_known(self, store: Store) -> None:
        minute = timedelta(minutes=1)
        _sign_on(store, "a", T0)
        _sign_on(store, "b", T0 + minute)
        store.sign_off("a", T0 + 2 * minute)
        assert store.reader().absences(T0, T0 + 9 * minute) == []
        store.sign_off("b", T0 + 3 * minute)
        assert store.reader().absences(T0, T0 + 9 * minute) == [Absence(T0 + 3 * minute)]
        _sign_on(store, "c", T0 + 5 * minute)
        left = Absence(T0 + 3 * minute, T0 + 5 * minute)
        assert store.reader().absences(T0 + 4 * minute, T0 + 4 * minute) == [left]
        assert store.reader().absences(T0 + 6 * minute, T0 + 9 * minute) == []
        _sign_on(store, "d", T0 + 20 * minute)  # c was last heard of when it signed on
        self.die(store, "c", T0 + 19 * minute)
        assert store.reader().absences(T0, T0 + 30 * minute) == [left, Absence(T0 + 5 * minute, T0 + 20 * minute)]

    def test_what_a_scheduler_leaves_behind_is_abandoned(self, store: Store) -> None:
        store.file([make_request()])
        _sign_on(store, "a")
        (run,) = _claim(store)
        store.record("a", T0, Report([run.started(T0)], [LogLine(run.id, 1, T0, "INFO", "x", "so far")]))
        (left,) = store.sign_off("a", T0 + _SECOND)
        assert (left.status, left.finished_at) == (RunStatus.ABANDONED, T0 + _SECOND)
        assert store.reader().find_run(run.id) == left
        assert [line.text for line in store.reader().log(run.id, 0, 10)] == ["so far"]
        assert self._status(store) is RequestStatus.COMPLETE

    def test_what_may_run_again_waits_for_another(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(3600)))])
        now = T0
        for attempt in (1, 2, 3, 4):
            (run,) = _claim(store, now, owner=f"owner-{attempt}", on_abandon=OnAbandon.RERUN)
            assert run.attempt == attempt
            now = self.die(store, f"owner-{attempt}", now)
        assert _statuses(store) == [RunStatus.ABANDONED]
        assert _claim(store, now, on_abandon=OnAbandon.RERUN) == []

    def test_a_request_that_keeps_killing_its_schedulers_is_parked(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(3600)))])
        now = T0
        for owner in ("a", "b"):
            _claim(store, now, owner=owner, on_abandon=OnAbandon.RERUN, max_reruns=1)
            assert self._status(store) is RequestStatus.SCHEDULED
            now = self.die(store, owner, now)
        parked = store.reader().find_request("r")
        assert parked is not None
        assert (parked.status, parked.next_fire_time) == (RequestStatus.UNSCHEDULED, None)
        assert (parked.reason or "").startswith("parked: ")

    def test_a_shutdown_uses_up_no_rerun(self, store: Store) -> None:
        store.file([make_request()])
        for attempt in (1, 2, 3, 4):
            (run,) = _claim(store, owner=f"owner-{attempt}", on_abandon=OnAbandon.RERUN, max_reruns=1)
            assert (run.attempt, run.reruns_left) == (attempt, 1)
            store.sign_off(f"owner-{attempt}", T0)
        assert _statuses(store) == [RunStatus.WAITING]

    def test_what_was_to_be_killed_does_not_run_again(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = _claim(store, on_abandon=OnAbandon.RERUN)
        store.kill(run.id, T0)
        self.die(store, "a", T0)
        assert _statuses(store) == [RunStatus.KILLED]
        assert self._status(store) is RequestStatus.COMPLETE

    def test_who_is_not_signed_on_cannot_claim(self, store: Store) -> None:
        store.file([make_request()])
        _raises(OwnerGoneError, lambda: store.claim(FixedPlanner(), "a", T0, 1))
        _sign_on(store, "a")
        self.die(store, "a", T0)
        _raises(OwnerGoneError, lambda: store.claim(FixedPlanner(), "a", T0, 1))
        assert _statuses(store) == []
        assert len(_claim(store, owner="b")) == 1

    def test_leases_do_not_count_while_their_clock_is_in_doubt(self, store: Store) -> None:
        store.file([make_request()])
        _claim(store)
        assert store.reap(T0 + timedelta(days=1), leases=False) == []
        assert [record.owner for record in store.reader().schedulers()] == ["a"]

    def test_the_living_are_not_reaped(self, store: Store) -> None:
        store.file([make_request()])
        _sign_on(store, "a")
        _claim(store)
        assert store.reap(T0 + _SECOND) == []
        assert _statuses(store) == [RunStatus.WAITING]

    # -- the monitor's questions ---------------------------------------------------------------------------------

    def test_runs_come_newest_first_page_by_page(self, store: Store) -> None:
        store.file([make_request(str(n)) for n in range(5)])
        ids = [run.id for run in _claim(store)]
        reader = store.reader()
        page = reader.runs(RunFilter(limit=2))
        assert [run.id for run in page] == ids[:-3:-1]
        assert [run.id for run in reader.runs(RunFilter(limit=9, before=page[-1].id))] == ids[-3::-1]

    def test_runs_are_filtered(self, store: Store) -> None:
        store.file([make_request("a", user="ann"), make_request("b", Later(T0 + 5 * _SECOND), process="q")])
        planner = FixedPlanner(processes=("p", "q"))
        _sign_on(store, "a")
        runs = {run.request_id: run for now in (T0, T0 + 5 * _SECOND) for run in store.claim(planner, "a", now, 9)}
        failed = (
            runs["b"]
            .started(T0)
            .move(RunStatus.ERROR, finished_at=T0, error=RunError("ValueError", "No Paper", "trace"))
        )
        store.record("a", T0, Report([failed], [LogLine(runs["b"].id, 1, T0, "INFO", "x", "Printing...")]))

        def asked(**filters: Any) -> list[str]:
            return [run.request_id for run in store.reader().runs(RunFilter(**filters))]

        assert asked(process="q") == ["b"]
        assert asked(request="a") == ["a"]
        assert asked(user="ann") == ["a"]
        assert asked(status=frozenset({RunStatus.ERROR})) == ["b"]
        assert asked(since=T0 + _SECOND) == ["b"]
        assert asked(until=T0) == ["a"]
        assert asked(text="no paper") == ["b"]
        assert asked(text="PRINTING") == ["b"]
        assert asked(text="nowhere") == []

    def test_pages_go_on_until_every_run_that_mentions_a_text_is_found(self, store: Store) -> None:
        with store.transaction() as tx:
            runs = tx.insert_runs([_ended(T0 + n * _SECOND) for n in range(2_100)])
            tx.append_log([LogLine(runs[place].id, 1, T0, "INFO", "x", "a Needle") for place in (0, 1_500, 2_099)])
        found, before, questions = [], None, 0
        while questions == 0 or before is not None:
            page = store.reader().runs(RunFilter(text="needle", before=before))
            found += [run.id for run in page]
            before, questions = page.before, questions + 1
        assert found == [runs[place].id for place in (2_099, 1_500, 0)]
        assert questions < 100

    def test_the_last_page_says_so(self, store: Store) -> None:
        with store.transaction() as tx:
            ids = [run.id for run in tx.insert_runs([_ended(T0 + n * _SECOND) for n in range(5)])]
        first = store.reader().runs(RunFilter(limit=3))
        last = store.reader().runs(RunFilter(limit=3, before=first.before))
        assert (first.before, [run.id for run in last], last.before) == (ids[2], ids[1::-1], None)

    def test_runs_are_filtered_by_several_things_at_once(self, store: Store) -> None:
        failed = {"status": RunStatus.ERROR, "error": RunError("ValueError", 'a "quoted" word', "trace")}
        with store.transaction() as tx:
            runs = tx.insert_runs(
                [
                    _ended(
                        T0 + n * _SECOND,
                        user="ann" if n % 2 else None,
                        process=f"p{n % 3}",
                        **(failed if n > 7 else {}),
                    )
                    for n in range(12)
                ]
            )
        places = {run.id: place for place, run in enumerate(runs)}

        def asked(**filters: Any) -> list[int]:
            return [places[run.id] for run in store.reader().runs(RunFilter(**filters))]

        error = frozenset({RunStatus.ERROR})
        assert asked(user="ann", status=error) == [11, 9]
        assert asked(user="ann", process="p0") == [9, 3]
        assert asked(request="r", process="p0", user="ann", status=error) == [9]
        assert asked(request="r", status=error, limit=3) == [11, 10, 9]
        assert asked(request="r", status=error | {RunStatus.SUCCESS}, limit=1) == [11]
        assert asked(request="other", status=error) == []
        assert asked(text='a "QUOTED" word', process="p2") == [11, 8]
        assert asked(process="p1", since=T0 + 2 * _SECOND, until=T0 + 7 * _SECOND) == [7, 4]
        assert asked(text="quoted", since=T0 + 9 * _SECOND, until=T0 + 10 * _SECOND) == [10, 9]

    def test_a_summary_counts_and_measures(self, store: Store) -> None:
        store.file([make_request(str(n)) for n in range(1, 5)])
        runs = _claim(store)
        for place, run in enumerate(runs, start=1):
            status = RunStatus.ERROR if place == 4 else RunStatus.SUCCESS
            ended = run.started(T0 + place * _SECOND).move(status, finished_at=T0, duration=place * _SECOND)
            store.record("a", T0, Report([ended]))
        summary = store.reader().summary(None, None)
        assert summary.counts == {RunStatus.SUCCESS: 3, RunStatus.ERROR: 1}
        assert summary.success_rate == 0.75
        assert (summary.duration_p50, summary.duration_p99) == (2 * _SECOND, 4 * _SECOND)
        assert (summary.lateness_p50, summary.lateness_p95) == (2 * _SECOND, 4 * _SECOND)
        assert summary.last_run is not None
        assert summary.last_run.id == runs[-1].id
        assert store.reader().summary("other", None).counts == {}
        assert store.reader().summary(None, T0 + _SECOND).success_rate is None

    def test_what_ended_is_counted_by_the_hour(self, store: Store) -> None:
        store.file([make_request("a", Schedule(EverySeconds(600))), make_request("b")])
        hour = timedelta(hours=1)
        for now in (T0, T0 + hour / 2, T0 + 3 * hour):
            runs = _claim(store, now, misfire=Misfire.SKIP)
            store.record("a", now, Report([_succeeded(run, now) for run in runs]))
        counts = {(e.hour, e.status): e.count for e in store.reader().ended("p", T0 + hour / 3, T0 + 4 * hour)}
        assert counts == {
            (T0, RunStatus.SUCCESS): 3,
            (T0, RunStatus.MISFIRED): 2,
            (T0 + 3 * hour, RunStatus.MISFIRED): 14,
            (T0 + 3 * hour, RunStatus.SUCCESS): 1,
        }
        assert store.reader().ended("other", T0, T0 + hour) == []
        assert store.reader().ended(None, T0 + hour, T0 + 2 * hour) == []

    def test_records_grow_even_when_a_clock_is_set_back(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b")])
        first = _claim(store, T0 + _SECOND, limit=1)[0]
        second = _claim(store, T0, limit=1)[0]
        assert second.id > first.id
        assert second.recorded_at == first.recorded_at == T0 + _SECOND

    # -- retention -----------------------------------------------------------------------------------------------

    def test_old_runs_are_purged_but_never_the_newest_of_a_request(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(4):
            (run,) = _claim(store, T0 + step * 10 * _SECOND)
            store.record("a", T0, Report([_succeeded(run)], [LogLine(run.id, 1, T0, "INFO", "x", "hello")]))
        retention = Retention(success=timedelta(days=1))
        assert store.purge(retention, T0 + timedelta(hours=1)) == Bite()
        bite = store.purge(retention, T0 + timedelta(days=2), limit=2)
        assert (bite.runs, bite.after is None) == (2, False)
        assert store.purge(retention, T0 + timedelta(days=2), after=bite.after or 0) == Bite(runs=1)
        (kept,) = store.reader().runs(RunFilter())
        assert kept.fire_time == T0 + 30 * _SECOND
        assert store.reader().log(kept.id - 1, 0, 10) == []

    def test_runs_are_purged_by_count(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(4):
            (run,) = _claim(store, T0 + step * 10 * _SECOND)
            store.record("a", T0, Report([_succeeded(run)]))
        assert store.purge(Retention(success=None, other=None, per_process=2), T0) == Bite(runs=2)
        assert len(store.reader().runs(RunFilter())) == 2

    def test_nothing_is_purged_where_everything_is_kept(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(2):
            (run,) = _claim(store, T0 + step * 10 * _SECOND)
            store.record("a", T0, Report([_succeeded(run)]))
        keep = Retention(success=None, other=None)
        assert store.purge(keep, T0 + timedelta(days=9999)) == Bite()
        assert store.purge(Retention(success=None, other=timedelta(0)), T0 + timedelta(days=9999)) == Bite()

    def test_what_has_not_ended_is_never_purged(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(3):
            _claim(store, T0 + step * 10 * _SECOND, overlap=Overlap.ALLOW)
        everything = Retention(success=timedelta(0), other=timedelta(0), per_process=1, complete=timedelta(0))
        assert store.purge(everything, T0 + timedelta(days=99)) == Bite()
        assert len(_statuses(store)) == 3

    def test_a_purged_fire_time_stays_fired(self, store: Store) -> None:
        store.file([make_request(timing=Schedule(EverySeconds(10)))])
        for step in range(3):
            (run,) = _claim(store, T0 + step * 10 * _SECOND)
            store.record("a", T0, Report([_succeeded(run)]))
        assert store.purge(Retention(success=timedelta(0)), T0 + timedelta(days=1)).runs == 2
        assert _claim(store, T0 + 20 * _SECOND) == []
        assert len(_statuses(store)) == 1

    def test_complete_requests_are_purged_only_where_asked_for(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b", declared="{}"), make_request("c", Schedule(EverySeconds(9)))])
        for run in _claim(store):
            store.record("a", T0, Report([_succeeded(run)], [LogLine(run.id, 1, T0, "INFO", "x", "hello")]))
        late = T0 + timedelta(days=99)
        assert store.purge(Retention(), late) == Bite()
        assert store.purge(Retention(complete=timedelta(days=100)), late) == Bite()
        assert store.purge(Retention(complete=timedelta(days=90)), late) == Bite(requests=1)
        assert [request.id for request in store.reader().requests(RequestFilter())] == ["b", "c"]
        assert {run.request_id for run in store.reader().runs(RunFilter())} == {"b", "c"}

    def test_totals_are_by_process_and_status_and_outlive_the_runs(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b", process="q")])
        _sign_on(store, "a")
        for run in store.claim(FixedPlanner(processes=("p", "q")), "a", T0, 10):
            store.record("a", T0, Report([_succeeded(run)]))
        store.delete("b")
        hour = timedelta(hours=1)
        found = [(e.process, e.status, e.count) for e in store.reader().totals(T0, T0 + hour)]
        assert found == [("p", RunStatus.SUCCESS, 1), ("q", RunStatus.SUCCESS, 1)]
        assert store.reader().totals(T0 + hour, T0 + 2 * hour) == []
        assert store.reader().totals(T0 - hour, T0) == []

    # -- the end -------------------------------------------------------------------------------------------------

    def test_closing_twice_is_fine(self, store: Store) -> None:
        store.close()
        store.close()

    def die(self, store: Store, owner: str, now: datetime) -> datetime:
        """Let a scheduler die without a word; return when others have noticed.

        Override it for a store that does not go by the instants it is given.
        """
        store.let_go(owner)
        noticed_at = now + timedelta(minutes=1)
        store.reap(noticed_at)
        return noticed_at

    @staticmethod
    def _status(store: Store, id: str = "r") -> RequestStatus:
        found = store.reader().find_request(id)
        assert found is not None
        return found.status


def _ended(at: datetime, **fields: Any) -> Run:
    run = Run(request_id="r", process="p", fire_time=at, recorded_at=at, finished_at=at, status=RunStatus.SUCCESS)
    return replace(run, **fields)
