"""The contract's chapter on the monitor's questions."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bgsched.request import (
    Misfire,
)
from bgsched.run import LogLine, Run, RunError, RunStatus
from bgsched.stores.base import Report, RunFilter, Store
from bgsched.testing.contract._tools import SECOND, T0, Chapter, FixedPlanner, claim, make_request, sign_on, succeeded
from bgsched.timing import EverySeconds, Later, Schedule

__all__ = ["Asking"]


class Asking(Chapter):
    """Its tests, each a sentence."""

    def test_runs_come_newest_first_page_by_page(self, store: Store) -> None:
        store.file([make_request(str(n)) for n in range(5)])
        ids = [run.id for run in claim(store)]
        reader = store.reader()
        page = reader.runs(RunFilter(limit=2))
        assert [run.id for run in page] == ids[:-3:-1]
        assert [run.id for run in reader.runs(RunFilter(limit=9, before=page[-1].id))] == ids[-3::-1]

    def test_runs_are_filtered(self, store: Store) -> None:
        store.file([make_request("a", user="ann"), make_request("b", Later(T0 + 5 * SECOND), process="q")])
        planner = FixedPlanner(processes=("p", "q"))
        sign_on(store, "a")
        runs = {run.request_id: run for now in (T0, T0 + 5 * SECOND) for run in store.claim(planner, "a", now, 9)}
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
        assert asked(since=T0 + SECOND) == ["b"]
        assert asked(until=T0) == ["a"]
        assert asked(text="no paper") == ["b"]
        assert asked(text="PRINTING") == ["b"]
        assert asked(text="nowhere") == []

    def test_pages_go_on_until_every_run_that_mentions_a_text_is_found(self, store: Store) -> None:
        with store.transaction() as tx:
            runs = tx.insert_runs([_ended(T0 + n * SECOND) for n in range(2_100)])
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
            ids = [run.id for run in tx.insert_runs([_ended(T0 + n * SECOND) for n in range(5)])]
        first = store.reader().runs(RunFilter(limit=3))
        last = store.reader().runs(RunFilter(limit=3, before=first.before))
        assert (first.before, [run.id for run in last], last.before) == (ids[2], ids[1::-1], None)

    def test_runs_are_filtered_by_several_things_at_once(self, store: Store) -> None:
        failed = {"status": RunStatus.ERROR, "error": RunError("ValueError", 'a "quoted" word', "trace")}
        with store.transaction() as tx:
            runs = tx.insert_runs(
                [
                    _ended(
                        T0 + n * SECOND,
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
        assert asked(process="p1", since=T0 + 2 * SECOND, until=T0 + 7 * SECOND) == [7, 4]
        assert asked(text="quoted", since=T0 + 9 * SECOND, until=T0 + 10 * SECOND) == [10, 9]

    def test_a_summary_counts_and_measures(self, store: Store) -> None:
        store.file([make_request(str(n)) for n in range(1, 5)])
        runs = claim(store)
        for place, run in enumerate(runs, start=1):
            status = RunStatus.ERROR if place == 4 else RunStatus.SUCCESS
            ended = run.started(T0 + place * SECOND).move(status, finished_at=T0, duration=place * SECOND)
            store.record("a", T0, Report([ended]))
        summary = store.reader().summary(None, None)
        assert summary.counts == {RunStatus.SUCCESS: 3, RunStatus.ERROR: 1}
        assert summary.success_rate == 0.75
        assert (summary.duration_p50, summary.duration_p99) == (2 * SECOND, 4 * SECOND)
        assert (summary.lateness_p50, summary.lateness_p95) == (2 * SECOND, 4 * SECOND)
        assert summary.last_run is not None
        assert summary.last_run.id == runs[-1].id
        assert store.reader().summary("other", None).counts == {}
        assert store.reader().summary(None, T0 + SECOND).success_rate is None

    def test_lateness_is_that_of_the_first_attempt_and_duration_that_of_the_last(self, store: Store) -> None:
        store.file([make_request()])
        (run,) = claim(store)
        again = run.started(T0 + SECOND).again(RunStatus.ERROR, T0 + 2 * SECOND, T0 + 60 * SECOND, reason="again")
        store.record("a", T0 + 2 * SECOND, Report([again]))
        (run,) = claim(store, T0 + 60 * SECOND)
        begun = run.started(T0 + 60 * SECOND)
        store.record("a", T0 + 63 * SECOND, Report([begun.ended(RunStatus.SUCCESS, T0 + 63 * SECOND, 3 * SECOND)]))
        summary = store.reader().summary(None, None)
        assert (summary.lateness_p50, summary.duration_p50) == (SECOND, 3 * SECOND)
        assert summary.last_run is not None
        assert summary.last_run.lateness == SECOND

    def test_what_ended_is_counted_by_the_hour(self, store: Store) -> None:
        store.file([make_request("a", Schedule(EverySeconds(600))), make_request("b")])
        hour = timedelta(hours=1)
        for now in (T0, T0 + hour / 2, T0 + 3 * hour):
            runs = claim(store, now, misfire=Misfire.SKIP)
            store.record("a", now, Report([succeeded(run, now) for run in runs]))
        counts = {(e.hour, e.status): e.count for e in store.reader().ended("p", T0 + hour / 3, T0 + 4 * hour)}
        assert counts == {
            (T0, RunStatus.SUCCESS): 3,
            (T0, RunStatus.MISFIRED): 2,
            (T0 + 3 * hour, RunStatus.MISFIRED): 14,
            (T0 + 3 * hour, RunStatus.SUCCESS): 1,
        }
        assert store.reader().ended("other", T0, T0 + hour) == []
        assert store.reader().ended(None, T0 + hour, T0 + 2 * hour) == []

    def test_the_first_that_waits_is_one_that_nobody_owns_and_nothing_blocks(self, store: Store) -> None:
        waiting = Run(request_id="r", process="nowhere registered", fire_time=T0, recorded_at=T0, due_at=T0)
        held = replace(waiting, overlap_key="k")
        owned = replace(held, owner="a", attempt=1, claimed_at=T0)
        reader = store.reader()
        assert (reader.first_waiting(), reader.holder("k")) == (None, None)
        with store.transaction() as tx:
            holder, *_ = tx.insert_runs([_at(owned, 0), *(_at(held, n) for n in range(1, 6))])
        assert reader.first_waiting() is None
        assert reader.holder("k") == holder
        with store.transaction() as tx:
            early, *_ = tx.insert_runs([_at(waiting, 7), _at(waiting, 9), _at(replace(held, overlap_key="l"), 8)])
        assert reader.first_waiting() == early
        assert reader.holder("l") is None

    def test_the_processes_of_active_runs_are_known(self, store: Store) -> None:
        store.file([make_request(name) for name in "ab"])
        reader = store.reader()
        assert reader.active_processes() == frozenset()
        waits = Run(request_id="a", process="p", fire_time=T0, recorded_at=T0, due_at=T0)
        runs = replace(waits, status=RunStatus.RUNNING, due_at=None, owner="x", attempt=1, claimed_at=T0, started_at=T0)
        ended = replace(runs, status=RunStatus.SUCCESS, finished_at=T0, duration=timedelta(0))
        given = [(waits, "é"), (waits, "Q"), (waits, "Q"), (runs, "r"), (runs, "é"), (ended, "s")]
        with store.transaction() as tx:
            tx.insert_runs([_at(replace(run, process=name), n) for n, (run, name) in enumerate(given)])
        assert reader.active_processes() == {"Q", "é", "r"}

    def test_records_grow_even_when_a_clock_is_set_back(self, store: Store) -> None:
        store.file([make_request("a"), make_request("b")])
        first = claim(store, T0 + SECOND, limit=1)[0]
        second = claim(store, T0, limit=1)[0]
        assert second.id > first.id
        assert second.recorded_at == first.recorded_at == T0 + SECOND

    def test_what_a_clock_ahead_recorded_is_brought_back(self, store: Store) -> None:
        store.file([make_request(name) for name in "abc"])
        hour = timedelta(hours=1)
        right, *ahead = (claim(store, at, limit=1)[0] for at in (T0, T0 + hour, T0 + hour))
        with store.transaction() as tx:
            assert tx.bring_back(T0 + SECOND, 1) == 1
        of = {run.id: run.recorded_at for run in store.reader().runs(RunFilter())}
        assert of == {right.id: T0, ahead[0].id: T0 + SECOND, ahead[1].id: T0 + hour}
        with store.transaction() as tx:
            assert tx.bring_back(T0 + 2 * SECOND, 9) == 1
            assert tx.bring_back(T0 + 3 * SECOND, 9) == 0
            (later,) = tx.insert_runs([replace(right, fire_time=T0 + hour, recorded_at=T0 + 4 * SECOND)])
        assert later.recorded_at == T0 + 4 * SECOND

    def test_a_run_that_was_brought_back_stays_there_when_it_ends(self, store: Store) -> None:
        store.file([make_request()])
        run = claim(store, T0 + timedelta(hours=1))[0]
        with store.transaction() as tx:
            assert tx.bring_back(T0, 1) == 1
        assert store.record("a", T0, Report([succeeded(run, T0)])) == []
        assert [run.recorded_at for run in store.reader().runs(RunFilter())] == [T0]


def _at(run: Run, seconds: int) -> Run:
    at = T0 + seconds * SECOND
    return replace(run, fire_time=at, due_at=at)


def _ended(at: datetime, **fields: Any) -> Run:
    run = Run(request_id="r", process="p", fire_time=at, recorded_at=at, finished_at=at, status=RunStatus.SUCCESS)
    return replace(run, **fields)
