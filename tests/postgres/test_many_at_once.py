"""Many at once: batches that go in whole, and transactions that meet."""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from postgres._machines import PATIENCE, SECOND, at_once, claim, succeeded, wait_until

from bgsched import (
    EverySeconds,
    Later,
    Overlap,
    PostgresStore,
    RequestExistsError,
    RequestStatus,
    RunStatus,
    Schedule,
)
from bgsched.request import Policies, Request
from bgsched.run import Run
from bgsched.stores.base import Report, RunFilter
from bgsched.testing.contract import T0, FixedPlanner, make_request


class TestBatches:
    """What a claim takes at once goes in by COPY, which takes all of it or nothing."""

    MANY = 40

    @pytest.fixture
    def due(self, store: PostgresStore) -> list[Run]:
        """File many requests; return their claimed runs, of which nothing is stored."""
        equal = (1, True, 1.0)  # in Python, but not as JSON
        requests = [make_request(f"r{n:02}", params={"n": equal[n % 3]}, user="ann") for n in range(self.MANY)]
        store.file(requests)
        plan = FixedPlanner(Policies(), owner="a").plan
        return [run for request in requests for run in plan(request, T0, ()).runs]

    def test_what_was_claimed_is_what_is_stored(self, store: PostgresStore, due: list[Run]) -> None:
        claimed = claim(store, "a")
        assert repr(store.held("a")) == repr(claimed)
        assert repr([replace(run, id=0) for run in claimed]) == repr(due)

    def test_a_fire_time_that_has_its_record_gets_no_second_one(self, store: PostgresStore, due: list[Run]) -> None:
        with store.transaction() as tx:
            (known,) = tx.insert_runs([due[7]])
        claimed = claim(store, "b")
        assert len(claimed) == self.MANY - 1
        assert known.request_id not in {run.request_id for run in claimed}
        assert len(store.reader().runs(RunFilter(limit=1000))) == self.MANY
        assert claim(store, "c") == []

    def test_after_a_clock_was_set_back_they_are_recorded_with_the_newest(
        self, store: PostgresStore, due: list[Run]
    ) -> None:
        later = T0 + timedelta(hours=1)
        with store.transaction() as tx:
            tx.insert_runs([replace(due[0], request_id="before", recorded_at=later)])
        assert {run.recorded_at for run in claim(store, "a")} == {later}

    def test_who_looks_at_a_request_waits_for_the_claim_that_holds_it(
        self, store: PostgresStore, make_store: Callable[..., PostgresStore], sql: Any
    ) -> None:
        """It has no fire time left, and is complete unless one looks at its runs after the claim, not before."""
        store.file([make_request()])
        (request,) = (store.reader().find_request("r"),)
        assert request is not None
        (run,) = FixedPlanner(Policies(), owner="a").plan(request, T0, ()).runs
        seen: list[Request | None] = []
        with ThreadPoolExecutor(1) as pool:
            with store.transaction() as tx:
                tx.get_requests(["r"])
                tx.advance_requests([replace(request, next_fire_time=None, due_at=None)])
                tx.insert_runs([run])
                looking = pool.submit(make_store().change, "r", seen.append, T0)
                wait_until(lambda: bool(sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")))
            looking.result()
        assert [found.status for found in seen if found is not None] == [RequestStatus.SCHEDULED]


class TestManyAtOnce:
    """Each store has connections of its own, as on a machine of its own."""

    def test_of_many_who_file_the_same_id_one_does(self, make_store: Callable[..., PostgresStore]) -> None:
        stores = [make_store() for _ in range(6)]

        def file(number: int) -> bool:
            try:
                stores[number].file([make_request(f"other-{number}"), make_request("same", user=str(number))])
            except RequestExistsError:
                return False
            return True

        filed = at_once(6, file)
        assert filed.count(True) == 1
        found = stores[0].reader().find_request("same")
        assert found is not None
        assert found.user == str(filed.index(True))

    def test_of_many_who_declare_a_process_one_makes_the_request(
        self, make_store: Callable[..., PostgresStore]
    ) -> None:
        stores = [make_store() for _ in range(6)]

        def declare(number: int) -> str | None:
            def change(found: Request | None) -> Request | None:
                return make_request(user=str(number)) if found is None else None

            made = stores[number].change("r", change, T0)
            assert made is not None
            return made.user

        assert len(set(at_once(6, declare))) == 1

    def test_runs_that_share_a_key_never_go_on_together(self, make_store: Callable[..., PostgresStore]) -> None:
        """Requests that are due, and runs that wait, of one overlap key: claimed by four at the same time."""
        stores = [make_store() for _ in range(4)]
        stores[0].file([make_request(f"r{number:03}") for number in range(80)])
        going_on: list[str] = []
        together: list[list[str]] = []
        ended: list[str] = []

        def work(number: int) -> None:
            store, owner = stores[number], f"owner-{number}"
            give_up = time.monotonic() + PATIENCE
            while len(ended) < 80 and time.monotonic() < give_up:
                for run in claim(store, owner, limit=5, overlap=Overlap.QUEUE, overlap_scope="process"):
                    going_on.append(run.request_id)
                    together.append(list(going_on))
                    going_on.remove(run.request_id)
                    store.record(owner, T0, Report([succeeded(run)]))
                    ended.append(run.request_id)
                skipped = store.reader().runs(RunFilter(status=frozenset({RunStatus.SKIPPED}), limit=1000))
                if len(ended) + len(skipped) >= 80:
                    return

        at_once(4, work)
        assert max(map(len, together)) == 1
        assert len(ended) == len(set(ended)) > 0
        assert len(stores[0].reader().runs(RunFilter(limit=1000))) == 80

    def test_waiting_runs_of_one_request_start_one_after_another(
        self, make_store: Callable[..., PostgresStore]
    ) -> None:
        stores = [make_store() for _ in range(4)]
        stores[0].file([make_request(timing=Schedule(EverySeconds(1), repetitions=30))])
        going_on = threading.Semaphore(1)
        ended: list[datetime] = []

        def work(number: int) -> None:
            store, owner = stores[number], f"owner-{number}"
            give_up = time.monotonic() + PATIENCE
            while len(ended) < 30 and time.monotonic() < give_up:
                for run in claim(store, owner, T0 + 40 * SECOND, misfire="run_all", misfire_grace=SECOND):
                    assert going_on.acquire(blocking=False), "two at once"
                    ended.append(run.fire_time)
                    going_on.release()
                    store.record(owner, T0, Report([succeeded(run)]))

        at_once(4, work)
        assert sorted(ended) == [T0 + n * SECOND for n in range(30)]
        request = stores[0].reader().find_request("r")
        assert request is not None
        assert request.status is RequestStatus.COMPLETE

    def test_the_later_of_two_last_runs_completes_the_request(self, make_store: Callable[..., PostgresStore]) -> None:
        stores = [make_store(), make_store()]
        for number in range(15):
            stores[0].file([make_request(f"r{number}")])
            (first,) = claim(stores[0], "a", overlap=Overlap.ALLOW)
            stores[0].enqueue(replace(first, id=0, owner=None, attempt=0, claimed_at=None, due_at=T0))
            (second,) = claim(stores[1], "b", overlap=Overlap.ALLOW)
            reports = [("a", T0, Report([succeeded(first)])), ("b", T0, Report([succeeded(second)]))]
            at_once(2, functools.partial(self.say, stores, reports))
            found = stores[0].reader().find_request(f"r{number}")
            assert found is not None
            assert found.status is RequestStatus.COMPLETE

    @staticmethod
    def say(stores: Sequence[PostgresStore], reports: Sequence[tuple[str, datetime, Report]], place: int) -> None:
        stores[place].record(*reports[place])

    def test_what_ends_while_its_scheduler_is_signed_off_is_not_left_behind(
        self, make_store: Callable[..., PostgresStore], waiting: Callable[[], bool]
    ) -> None:
        store, other = make_store(), make_store()
        store.file([make_request()])
        (run,) = claim(store, "a")
        with ThreadPoolExecutor(1) as pool:
            with store.transaction() as tx:
                assert tx.update_runs([succeeded(run)], "a") == {run.id}
                left = pool.submit(other.sign_off, "a", T0)
                wait_until(waiting)
            assert left.result() == []
        assert store.reader().ended(None, T0, T0) == []  # whoever reported it counts it

    def test_what_starts_while_its_request_is_unscheduled_is_not_skipped(
        self, make_store: Callable[..., PostgresStore], waiting: Callable[[], bool]
    ) -> None:
        store, other = make_store(), make_store()
        store.file([make_request(timing=Later(T0 + 10 * SECOND))])
        run = store.enqueue(Run(request_id="r", process="p", fire_time=T0, recorded_at=T0))
        with ThreadPoolExecutor(1) as pool:
            with store.transaction() as tx:
                assert tx.update_runs([run.taken("a", T0)], None) == {run.id}
                changed = pool.submit(
                    other.change, "r", lambda found: found and found.unscheduled(T0), T0, end_waiting="no more"
                )
                wait_until(waiting)
            changed.result()
        assert store.reader().ended(None, T0, T0) == []
        assert [run.owner for run in store.held("a")] == ["a"]

    def test_an_owner_sees_what_it_holds_while_others_delete_it(self, make_store: Callable[..., PostgresStore]) -> None:
        """It looks with each heartbeat; were it to wait here, all its other runs would."""
        store, other = make_store(), make_store()
        store.file([make_request()])
        (run,) = claim(store, "a")
        with other.transaction() as tx:
            tx.delete_request("r")
            assert tx.get_requests(["r"]) == []
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(store.held, "a").result(SECOND.total_seconds()) == [run]
        assert store.held("a") == []

    def test_a_member_that_starts_while_its_group_is_killed_hears_of_it(
        self, make_store: Callable[..., PostgresStore], waiting: Callable[[], bool]
    ) -> None:
        store, other = make_store(), make_store()
        store.file([make_request()])
        (group,) = claim(store, "a")
        member = Run(request_id="r", process="m", fire_time=T0, recorded_at=T0, due_at=T0, parent_id=group.id)
        assert store.add_member("a", group, member, 0, Overlap.ALLOW, T0)
        waits = next(run for run in store.reader().runs(RunFilter(parent=group.id)))
        killed = group.started(T0).move(RunStatus.KILLED, finished_at=T0)
        with ThreadPoolExecutor(1) as pool:
            with store.transaction() as tx:
                assert tx.update_runs([waits.taken("b", T0)], None) == {waits.id}
                reported = pool.submit(other.record, "a", T0, Report([killed]))
                wait_until(waiting)
            assert reported.result() == []
        assert store.reader().kills_asked("b") == {waits.id}

    def test_reports_and_kills_do_not_end_each_other(self, make_store: Callable[..., PostgresStore]) -> None:
        """They lock a run and its request in opposite order: PostgreSQL undoes one, and it is done again."""
        stores = [make_store(), make_store()]
        timing = Schedule(EverySeconds(10))
        stores[0].file([make_request(str(number), timing) for number in range(60)])
        runs = claim(stores[0], "a", overlap=Overlap.REPLACE)

        def work(place: int) -> Sequence[object]:
            if place == 0:
                return [stores[0].record("a", T0, Report([succeeded(run) for run in runs[::-1]]))]
            return [claim(stores[1], "b", T0 + 10 * SECOND, overlap=Overlap.REPLACE)]

        at_once(2, work)
        assert len(stores[0].reader().runs(RunFilter(status=frozenset({RunStatus.SUCCESS})))) == 60


@pytest.mark.parametrize("case", ["locked", "to come"])
def test_what_a_clock_ahead_recorded_is_brought_back_whoever_has_it_in_hand(
    make_store: Callable[[], PostgresStore], case: str
) -> None:
    store, now = make_store(), datetime.now(UTC)
    ahead = now + timedelta(days=365)
    store.file([make_request("r", now=now)])

    def record(number: int, at: datetime) -> Run:
        return Run(request_id="r", process="p", fire_time=at + timedelta(microseconds=number), recorded_at=at)

    runs = [store.enqueue(record(number, ahead)) for number in range(3)]
    with store.transaction() as tx:
        if case == "locked":
            tx.get_runs([runs[1].id])
        else:
            tx.insert_runs([record(7, now)])
        assert store.bring_back(now) == (2 if case == "locked" else 3)
        store.enqueue(record(8, now))
    assert store.bring_back(now) == 1
    assert all(run.recorded_at <= now + SECOND for run in store.reader().runs(RunFilter()))
