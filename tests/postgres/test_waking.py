"""Two clocks, who wakes whom, and what an idle scheduler and its rows cost the server."""

import collections
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from postgres._machines import PATIENCE, SECOND, SECRET, claim, record_of, succeeded, wait_until

from bgsched import (
    EverySeconds,
    Immediate,
    Later,
    PostgresStore,
    Schedule,
    Scheduler,
    SystemClock,
)
from bgsched.run import LogLine
from bgsched.stores import _listener, _wire, postgres
from bgsched.stores.base import Report
from bgsched.testing import ManualClock
from bgsched.testing.contract import T0, make_request


class TestClocks:
    def test_a_lease_is_as_long_as_it_is_whatever_the_clients_clocks_say(self, store: PostgresStore, sql: Any) -> None:
        hour = timedelta(hours=1)
        store.sign_on(record_of("slow", T0 - hour))
        store.sign_on(record_of("fast", T0 + hour))
        assert store.reap(T0 + 1000 * hour) == []
        assert store.heartbeat(record_of("slow", T0 - hour))
        sql(f"UPDATE {store.schema}.schedulers SET expires_at = expires_at - interval '15 s' WHERE owner = 'slow'")
        store.reap(T0 - 1000 * hour)
        assert [record.owner for record in store.reader().schedulers()] == ["fast"]
        assert not store.heartbeat(record_of("slow", T0 - hour))

    def test_schedulers_whose_clocks_differ_by_two_hours_let_each_other_live(
        self, make_store: Callable[..., PostgresStore], caplog: pytest.LogCaptureFixture
    ) -> None:
        class Shifted(SystemClock):
            def __init__(self, shift: timedelta) -> None:
                self._shift = shift

            def now(self) -> datetime:
                return super().now() + self._shift

        done = threading.Semaphore(0)
        with (
            Scheduler(make_store(), clock=Shifted(timedelta(hours=1))) as fast,
            Scheduler(make_store(), clock=Shifted(timedelta(hours=-1))) as slow,
        ):
            for scheduler in (fast, slow):
                scheduler.process("work")(lambda: done.release())  # noqa: PLW0108  a process needs a function
            for scheduler in (fast, slow):
                scheduler.schedule("work", Immediate())
            assert done.acquire(timeout=PATIENCE)
            assert done.acquire(timeout=PATIENCE)
            assert slow.store.reap(slow._clock.now()) == []
            assert fast.store.reap(fast._clock.now()) == []
            assert len(fast.monitor.schedulers()) == 2
        assert "taken for dead" not in caplog.text


class TestWaking:
    def listening(self, store: PostgresStore, wake: Callable[[bool], None]) -> None:
        ready = threading.Event()
        store.listen(lambda _: ready.set())
        assert ready.wait(PATIENCE)  # the first call says that the link stands
        store.listen(wake)

    def test_what_one_files_wakes_the_other(self, make_store: Callable[..., PostgresStore]) -> None:
        here, there = make_store(), make_store()
        heard: collections.deque[bool] = collections.deque()
        told = threading.Semaphore(0)

        def wake(asked_kill: bool) -> None:  # noqa: FBT001  a store calls it so
            heard.append(asked_kill)
            told.release()

        self.listening(here, wake)
        before = here.changes()
        there.file([make_request()])
        assert told.acquire(timeout=PATIENCE)
        assert here.changes() != before
        (run,) = claim(there, "b")
        there.record("b", T0, Report([run.started(T0)]))
        there.kill(run.id, T0)
        assert told.acquire(timeout=PATIENCE)
        assert list(heard) == [False, True]

    def test_runs_wake_nobody(self, make_store: Callable[..., PostgresStore]) -> None:
        here, there = make_store(), make_store()
        told: list[bool] = []
        there.file([make_request(timing=Schedule(EverySeconds(10)))])
        self.listening(here, told.append)
        for step in range(3):
            (run,) = claim(there, "b", T0 + 10 * step * SECOND)
            there.record("b", T0, Report([succeeded(run)]))
        there.change("r", lambda request: request and request.unscheduled(T0), T0)
        wait_until(lambda: bool(told))
        assert told == [False]

    def test_what_others_file_starts_without_a_poll(
        self, make_store: Callable[..., PostgresStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres, "_POLL", 3600.0)
        there = make_store()
        began = threading.Event()
        with Scheduler(make_store()) as scheduler:
            scheduler.process("work")(lambda: began.set())  # noqa: PLW0108  a process needs a function
            store = scheduler.store
            assert isinstance(store, PostgresStore)
            wait_until(lambda: store.look_every > 1)  # it listens
            wait_until(lambda: scheduler._life.engine is not None and scheduler._life.engine.next_due() is None)
            there.file([make_request(process="work", now=scheduler._clock.now())])
            assert began.wait(PATIENCE)

    def test_what_others_file_starts_by_a_poll_where_notifications_get_lost(
        self, make_store: Callable[..., PostgresStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(PostgresStore, "_hear", lambda *_: None)
        there = make_store()
        began = threading.Event()
        with Scheduler(make_store()) as scheduler:
            scheduler.process("work")(lambda: began.set())  # noqa: PLW0108  a process needs a function
            wait_until(lambda: scheduler._life.engine is not None and scheduler._life.engine.next_due() is None)
            there.file([make_request(process="work", now=scheduler._clock.now())])
            assert began.wait(PATIENCE)

    def test_a_link_that_broke_is_replaced(self, make_store: Callable[..., PostgresStore], sql: Any) -> None:
        here, there = make_store(), make_store()
        told = threading.Semaphore(0)
        self.listening(here, lambda _: told.release())
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s", f"LISTEN%{here.schema[:20]}%")
        assert told.acquire(timeout=PATIENCE)  # once it listens again: something may have come meanwhile
        there.file([make_request()])
        assert told.acquire(timeout=PATIENCE)

    def test_a_link_that_cannot_be_had_is_told_of_once(
        self,
        make_store: Callable[..., PostgresStore],
        proxy: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(_listener, "_LONGEST_BACKOFF", 0.1)
        store = make_store(listen_dsn=psycopg.conninfo.make_conninfo(proxy.dsn, password=SECRET))
        proxy.drop()
        store.listen(lambda _: None)
        wait_until(lambda: proxy.accepted > 3)
        (record,) = caplog.records
        assert record.getMessage().startswith(
            "what others file is seen within a second, not at once, as we cannot listen"
        )
        assert SECRET not in caplog.text
        proxy.heal()
        wait_until(lambda: store.look_every > 1)
        proxy.drop()
        wait_until(lambda: len(caplog.records) == 2)  # another time, another cause

    def test_without_notifications_changes_are_seen_by_looking(self, store: PostgresStore) -> None:
        before = store.changes()
        assert store.changes() == before
        store._polled_at -= 5.0
        assert store.changes() != before


class TestIdleLoad:
    def test_an_idle_scheduler_says_less_than_one_statement_a_second(
        self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All of them count, BEGIN and COMMIT too; the listener's sign of life, one in 15 s, comes on top."""
        clock = ManualClock()
        said: list[str] = []
        send = _wire.Link.send

        def hear(link: _wire.Link, statements: Sequence[_wire.Statement]) -> Any:
            said.extend(query for query, _ in statements)
            return send(link, statements)

        monkeypatch.setattr(PostgresStore, "_hears", True)
        monkeypatch.setattr("bgsched.stores.postgres.time", clock)
        store._polled_at = clock.monotonic()
        scheduler = Scheduler(store, clock=clock)
        scheduler.process("work")(lambda: None)
        scheduler.schedule("work", Later(clock.now() + timedelta(days=1)))
        scheduler.run_pending()
        monkeypatch.setattr(_wire.Link, "send", hear)
        for _ in range(60):  # a scheduler that waits looks up once a second
            clock.advance(1)
            scheduler.run_pending()
        assert 12 <= len(said) < 60 - 60 / 15


def test_things_take_the_room_that_the_page_on_postgresql_says(store: PostgresStore, sql: Any) -> None:
    """In bytes of a packed table with its indexes, for each row."""
    count = 2000
    store.file([make_request(f"{number:032x}", params={"company": "acme"}) for number in range(count)])
    while runs := claim(store, uuid.uuid4().hex, limit=500):
        lines = [LogLine(run.id, 1, T0, "INFO", "bgsched.run", "sent 12 invoices for acme") for run in runs]
        store.record(str(runs[0].owner), T0, Report([succeeded(run) for run in runs], lines))

    def bytes_of(table: str) -> float:
        sql(f"VACUUM FULL {store.schema}.{table}")
        return float(sql("SELECT pg_total_relation_size(%s)", f"{store.schema}.{table}")[0][0] / count)

    assert 700 < bytes_of("runs") < 950
    assert 130 < bytes_of("log") < 170
    assert 170 < bytes_of("requests") < 290
