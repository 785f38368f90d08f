"""The contract's chapter on what an owner says of its runs, and who may ask them to stop."""

from dataclasses import replace

from bgsched.errors import UnknownRunError
from bgsched.request import (
    OnAbandon,
    RequestStatus,
)
from bgsched.run import LogLine, LogTrim, Progress, Run, RunError, RunStatus
from bgsched.stores.base import Report, RequestFilter, Store
from bgsched.testing.contract._tools import (
    SECOND,
    T0,
    Chapter,
    claim,
    make_request,
    raises,
    sign_on,
    status_of,
    succeeded,
)

__all__ = ["Reporting"]


class Reporting(Chapter):
    """Its tests, each a sentence."""

    def test_what_follows_a_run_is_filed_once_with_its_end(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        report = Report([succeeded(run)], follow_ups=[(run.id, make_request("next"))])
        assert store.record("b", T0, replace(report, follow_ups=[(run.id, make_request("never"))])) != []
        store.record("a", T0, report)
        store.record("a", T0, replace(report, follow_ups=[(run.id, make_request("again"))]))
        assert [request.id for request in store.reader().requests(RequestFilter())] == ["next", "r"]

    def test_a_run_is_kept_as_it_was_reported(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        ended = run.started(T0 + SECOND).move(
            RunStatus.ERROR,
            finished_at=T0 + 3 * SECOND,
            duration=2 * SECOND,
            result={"n": [1, None]},
            progress=Progress(3, 9, "three"),
            error=RunError("ValueError", "broken", "Traceback ..."),
        )
        assert store.record("a", T0, Report([ended])) == []
        assert store.reader().find_run(run.id) == ended

    def test_a_request_is_complete_when_its_last_run_has_ended(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        assert status_of(store) is RequestStatus.SCHEDULED
        store.record("a", T0, Report([run.started(T0)]))
        assert status_of(store) is RequestStatus.SCHEDULED
        store.record("a", T0, Report([succeeded(run)]))
        assert status_of(store) is RequestStatus.COMPLETE

    def test_what_another_owner_says_is_refused_and_noted(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        late = succeeded(run)
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
        (first,) = claim(store, on_abandon=OnAbandon.RERUN)
        now = self.die(store, "a", T0)
        (second,) = claim(store, now, owner="b", on_abandon=OnAbandon.RERUN)
        last = store.last_seq(second.id)
        store.record("a", T0, Report([succeeded(first)]))
        line = LogLine(second.id, last + 1, T0, "INFO", "x", "of the second attempt", second.attempt)
        store.record("b", T0, Report([], [line]))
        assert store.reader().log(second.id, 0, 10) == [line]

    def test_what_an_earlier_attempt_says_is_refused(self, store: Store) -> None:
        store.file([make_request()])
        (first,) = claim(store, on_abandon=OnAbandon.RERUN)
        sign_on(store, "a")
        store.sign_off("a", T0)
        (second,) = claim(store, on_abandon=OnAbandon.RERUN)
        assert (second.id, second.attempt) == (first.id, 2)
        assert store.record("a", T0, Report([succeeded(first)])) != []
        assert store.record("a", T0, Report([succeeded(second)])) == []

    def test_saying_the_same_twice_is_harmless(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        report = Report([succeeded(run)], [LogLine(run.id, 1, T0, "INFO", "x", "hello")])
        assert store.record("a", T0, report) == []
        assert store.record("a", T0, report) == []
        assert len(store.reader().log(run.id, 0, 10)) == 1

    def test_a_run_that_is_tried_again_waits_and_keeps_the_attempt(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        again = run.started(T0).again(
            RunStatus.ERROR, T0, T0 + 5 * SECOND, reason="failed", error=RunError("E", "m", "t")
        )
        assert store.record("a", T0, Report([again])) == []
        assert claim(store, T0 + SECOND) == []
        assert store.reader().next_due(["p"]) == T0 + 5 * SECOND
        (second,) = claim(store, T0 + 5 * SECOND, owner="b")
        assert (second.id, second.attempt, second.owner) == (run.id, 2, "b")
        assert second.attempts == again.attempts
        assert status_of(store) is RequestStatus.SCHEDULED

    def test_log_lines_come_in_order_page_by_page(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        lines = [LogLine(run.id, seq, T0 + seq * SECOND, "INFO", "x", f"line {seq}\nü") for seq in (1, 2, 3)]
        store.record("a", T0, Report([], lines))
        assert store.reader().log(run.id, 0, 2) == lines[:2]
        assert store.reader().log(run.id, 2, 2) == lines[2:]
        assert store.last_seq(run.id) == 3

    def test_the_middle_of_a_log_can_be_dropped_by_its_owner(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        lines = [LogLine(run.id, seq, T0, "INFO", "x", str(seq)) for seq in range(1, 8)]
        store.record("a", T0, Report([], lines))
        store.record("b", T0, Report([], [], [LogTrim(run.id, 1, 0, 8)]))
        store.record("a", T0, Report([], [], [LogTrim(run.id, 1, 2, 6)]))
        assert [line.seq for line in store.reader().log(run.id, 0, 10)] == [1, 2, 6, 7]

    def test_log_lines_of_another_owner_are_refused(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        store.record("b", T0, Report([], [LogLine(run.id, 1, T0, "INFO", "x", "not mine")]))
        assert store.reader().log(run.id, 0, 10) == []

    def test_what_is_held_is_what_was_claimed_and_has_not_ended(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b")])
        runs = claim(store)
        store.record("a", T0, Report([succeeded(runs[0])]))
        assert store.held("a") == [runs[1]]

    def test_a_kill_is_told_to_the_owner(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        assert store.reader().kills_asked("a") == frozenset()
        store.kill(run.id, T0 + SECOND)
        store.kill(run.id, T0 + 2 * SECOND)
        assert store.reader().kills_asked("a") == {run.id}
        store.record("a", T0, Report([run.started(T0)]))
        found = store.reader().find_run(run.id)
        assert found is not None
        assert found.kill_asked_at == T0 + SECOND

    def test_a_waiting_run_is_killed_at_once(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        store.record("a", T0, Report([run.started(T0).again(RunStatus.ERROR, T0, T0 + SECOND, reason="again")]))
        assert store.kill(run.id, T0).status is RunStatus.KILLED
        assert status_of(store) is RequestStatus.COMPLETE

    def test_a_run_that_was_to_be_killed_is_not_tried_again(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        store.kill(run.id, T0)
        again = run.started(T0).again(RunStatus.ERROR, T0, T0 + SECOND, reason="again")
        for _ in range(2):
            assert store.record("a", T0, Report([again])) == []
        found = store.reader().find_run(run.id)
        assert found is not None
        assert (found.status, found.attempts) == (RunStatus.KILLED, again.attempts)
        assert status_of(store) is RequestStatus.COMPLETE

    def test_who_ends_a_run_that_waits_for_its_next_attempt_is_told(self, store: Store) -> None:
        for id in ("killed", "given up", "deleted"):
            store.file([make_request(id)])
        runs = {run.request_id: run for run in claim(store)}
        again = [run.started(T0).again(RunStatus.ERROR, T0, T0 + SECOND, reason="again") for run in runs.values()]
        store.record("a", T0, Report(again))
        told: list[Run] = []
        for _ in range(2):
            store.kill(runs["killed"].id, T0, ended=told.extend)
            store.change("given up", lambda r: r and r.unscheduled(T0), T0, end_waiting="no more", ended=told.extend)
        store.delete("deleted", ended=told.extend)
        ends = {run.request_id: run.status.value for run in told}
        assert ends == {"killed": "killed", "given up": "error", "deleted": "waiting"}  # as it was when it was deleted
        assert [len(run.attempts) for run in told] == [1, 1, 1]

    def test_who_reports_a_run_that_was_to_be_killed_meanwhile_is_told_its_end(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        told: list[Run] = []
        store.kill(run.id, T0, ended=told.extend)
        assert told == []
        again = run.started(T0).again(RunStatus.ERROR, T0, T0 + SECOND, reason="again")
        store.record("a", T0, Report([again]), ended=told.extend)
        assert told == [store.reader().find_run(run.id)]

    def test_killing_what_has_ended_changes_nothing(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        ended = succeeded(run)
        store.record("a", T0, Report([ended]))
        assert store.kill(run.id, T0) == ended
        assert store.reader().find_run(run.id) == ended
        raises(UnknownRunError, lambda: store.kill(run.id + 1, T0))
        raises(UnknownRunError, lambda: store.kill(2**70, T0))
