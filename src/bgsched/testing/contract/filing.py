"""The contract's chapter on requests: filed, changed, listed, due; and runs that are put beside their fire times."""

from dataclasses import replace
from datetime import timedelta

from bgsched.errors import RequestExistsError, UnknownRequestError
from bgsched.request import (
    Overlap,
    Request,
    RequestStatus,
)
from bgsched.run import LogLine, RunStatus
from bgsched.stores.base import Report, RequestFilter, RunFilter, Store
from bgsched.testing.contract._tools import (
    SECOND,
    T0,
    Chapter,
    claim,
    make_request,
    raises,
    status_of,
    statuses,
    succeeded,
)
from bgsched.timing import EverySeconds, Later, Schedule

__all__ = ["Filing"]


class Filing(Chapter):
    """Its tests, each a sentence."""

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
        raises(RequestExistsError, lambda: store.file([make_request("a"), make_request("b")]))
        assert store.reader().find_request("a") is None

    def test_what_is_lent_out_is_not_what_is_kept(self, store: Store) -> None:
        request = make_request(params={"a": [1]})
        store.file([request])
        request.params["a"].append(2)
        found = store.reader().find_request("r")
        assert found is not None
        found.params["a"].append(3)
        (run,) = claim(store)
        run.params["a"].append(4)
        assert store.reader().runs(RunFilter())[0].params == {"a": [1]}
        assert store.reader().requests(RequestFilter())[0].params == {"a": [1]}

    def test_a_change_replaces_a_request(self, store: Store) -> None:
        store.file([make_request()])
        changed = store.change("r", lambda request: request and request.unscheduled(T0, "no more"), T0)
        assert changed is not None
        assert changed.status is RequestStatus.UNSCHEDULED
        assert store.reader().find_request("r") == changed

    def test_a_change_of_several_replaces_those_that_it_is_for(self, store: Store) -> None:
        store.file([make_request(id) for id in "abc"])
        (changed,) = store.change_all(["a", "b", "d"], lambda r: r.unscheduled(T0, "no more") if r.id == "b" else None)
        found = store.reader().requests(RequestFilter())
        assert [request.status is RequestStatus.UNSCHEDULED for request in found] == [False, True, False]
        assert found[1] == changed

    def test_a_change_that_raises_changes_nothing(self, store: Store) -> None:
        store.file([make_request()])
        before = store.reader().find_request("r")

        def fail(_: Request | None) -> Request:
            raise LookupError

        raises(LookupError, lambda: store.change("r", fail, T0))
        assert store.reader().find_request("r") == before

    def test_a_change_may_make_a_request(self, store: Store) -> None:
        store.change("r", lambda found: make_request() if found is None else None, T0)
        store.change("r", lambda found: make_request(user="other") if found is None else None, T0)
        found = store.reader().find_request("r")
        assert found is not None
        assert found.user is None

    def test_unscheduling_ends_what_waits_and_leaves_what_runs(self, store: Store) -> None:
        store.file([make_request()])
        claim(store)
        store.enqueue(replace(store.reader().runs(RunFilter())[0], id=0, fire_time=T0 + SECOND, owner=None, attempt=0))
        store.change("r", lambda request: request and request.unscheduled(T0), T0, end_waiting="unscheduled")
        assert statuses(store) == [RunStatus.WAITING, RunStatus.SKIPPED]
        assert store.reader().runs(RunFilter())[0].reason == "unscheduled"

    def test_unscheduling_ends_what_was_claimed_once_it_is_put_back(self, store: Store) -> None:
        for id in ("r", "begun", "again"):
            store.file([make_request(id)])
        runs = {run.request_id: run for run in claim(store)}
        for id in runs:
            store.change(id, lambda request: request and request.unscheduled(T0), T0, end_waiting="unscheduled")
        store.change("again", lambda request: request and request.rescheduled(Later(T0 + SECOND), T0), T0)
        failed = runs["begun"].started(T0).again(RunStatus.ERROR, T0, T0, reason="again")
        said = [runs["r"].put_back(T0, "not here"), failed, runs["again"].put_back(T0, "not here")]
        for _ in range(2):
            assert store.record("a", T0, Report(said)) == []
        found = {run.request_id: run for run in store.reader().runs(RunFilter())}
        assert {id: run.status for id, run in found.items()} == {
            "r": RunStatus.SKIPPED,
            "begun": RunStatus.WAITING,
            "again": RunStatus.WAITING,
        }
        assert found["r"].reason == "its request was unscheduled before it began"

    def test_a_deleted_request_leaves_nothing(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        store.record("a", T0, Report([succeeded(run)], [LogLine(run.id, 1, T0, "INFO", "x", "hello")]))
        store.delete("r")
        assert store.reader().find_request("r") is None
        assert store.reader().runs(RunFilter()) == []
        assert store.reader().log(run.id, 0, 10) == []

    def test_deleting_what_is_not_there_is_an_error(self, store: Store) -> None:
        raises(UnknownRequestError, lambda: store.delete("x"))
        raises(UnknownRequestError, lambda: store.delete("a\0\udc80"))

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
        store.file([make_request(str(n), Later(T0 + n * SECOND), priority=n) for n in (3, 1, 2)])
        assert [request.id for request in store.reader().upcoming(2)] == ["1", "2"]

    def test_next_due_is_the_earliest_of_the_processes_asked_for(self, store: Store) -> None:
        assert store.reader().next_due(["p"]) is None
        store.file(
            [
                make_request("a", Later(T0 + 9 * SECOND)),
                make_request("b", Later(T0 + 5 * SECOND), priority=-1),
                make_request("c", Later(T0 + SECOND), process="other"),
            ]
        )
        assert store.reader().next_due(["p"]) == T0 + 5 * SECOND
        assert store.reader().next_due([]) is None

    def test_a_waiting_run_is_due_unless_it_is_blocked(self, store: Store) -> None:
        store.file([make_request("r", Schedule(EverySeconds(10)))])
        (run,) = claim(store, overlap=Overlap.QUEUE)
        claim(store, T0 + 10 * SECOND, overlap=Overlap.QUEUE)
        assert store.reader().next_due(["p"]) == T0 + 20 * SECOND
        store.record("a", T0, Report([succeeded(run)]))
        assert store.reader().next_due(["p"]) == T0 + 10 * SECOND

    def test_changes_differ_after_a_change(self, store: Store) -> None:
        before = store.changes()
        assert store.changes() == before
        store.file([make_request()])
        assert store.changes() != before

    def test_a_run_can_be_put_beside_the_fire_times(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        beside = replace(run, id=0, owner=None, attempt=0, claimed_at=None, due_at=T0)
        stored = store.enqueue(beside)
        assert (stored.revision, stored.fire_time) == (0, T0)
        assert claim(store) == []
        store.record("a", T0, Report([succeeded(run)]))
        assert status_of(store) is RequestStatus.SCHEDULED
        (second,) = claim(store)
        assert second.id == stored.id
