"""The contract suite on every store."""

import gc
import re
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import bgsched.stores
from bgsched import PostgresStore, Run, Scheduler, SchedulerRecord
from bgsched.stores import MemoryStore, SQLiteStore, Store
from bgsched.stores._postgres_steps import PostgresTransaction
from bgsched.stores.base import RunFilter
from bgsched.testing import StoreContract
from bgsched.testing.contract import T0, make_request


def scheduler_record(at: datetime) -> SchedulerRecord:
    lease = at + timedelta(seconds=15)
    return SchedulerRecord(owner="o", host="h", pid=1, started_at=at, heartbeat_at=at, lease_until=lease)


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()

    def test_the_params_of_a_run_are_its_own(self, store: Store) -> None:
        given = {"a": [1]}
        store.file([make_request()])
        run = store.enqueue(Run(request_id="r", process="p", params=given, fire_time=T0, recorded_at=T0))
        given["a"].append(2)
        run.params["a"].append(3)
        assert [stored.params for stored in store.reader().runs(RunFilter())] == [{"a": [1]}]


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = SQLiteStore(tmp_path / "app.db")
        yield store
        store.close()

    def test_no_statement_numbers_its_placeholders(self) -> None:
        """Python 3.12.0 to 3.12.3 warn of ``?1`` with a sequence, and programs may make errors of warnings."""
        files = Path(bgsched.stores.__file__).parent.glob("*.py")
        assert [file.name for file in files if re.search(r"\?[0-9]", file.read_text())] == []

    def test_who_holds_its_lock_is_alive_whatever_its_lease_says(self, store: SQLiteStore) -> None:
        store.sign_on(scheduler_record(T0))
        (known,) = store.reader().schedulers()
        assert known.is_alive(T0 + timedelta(days=1))
        store.let_go("o")
        (known,) = SQLiteStore(store.path, read_only=True).reader().schedulers()
        assert not known.is_alive(T0)

    def test_a_store_that_nobody_closes_closes_its_connections(self, tmp_path: Path) -> None:
        store = SQLiteStore(tmp_path / "other.db")
        scheduler = Scheduler(store)
        scheduler.process("p")(lambda: None)
        scheduler.run_now("p")
        scheduler.run_until_idle()
        scheduler.shutdown()
        connections = [store._open.writer, *store._open.idle]
        del store, scheduler
        gc.collect()
        assert len(connections) == 2
        for connection in connections:
            assert connection is not None
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                connection.execute("SELECT 1")


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def store(self, postgres_dsn: str, postgres_schema: str) -> Iterator[Store]:
        store = PostgresStore(postgres_dsn, schema=postgres_schema)
        yield store
        store.close()

    def test_who_is_alive_is_told_by_the_server_s_clock(self, store: Store) -> None:
        store.sign_on(scheduler_record(T0))  # by whose clock its lease is long over
        (known,) = store.reader().schedulers()
        assert known.is_alive(T0 + timedelta(days=1))
        self._expire(store, "o")
        (known,) = store.reader().schedulers()
        assert not known.is_alive(T0)

    def die(self, store: Store, owner: str, now: datetime) -> datetime:
        """Let the lease run out by the server's clock, which alone counts."""
        self._expire(store, owner)
        return super().die(store, owner, now)

    def _expire(self, store: Store, owner: str) -> None:
        with store.transaction() as tx:
            assert isinstance(tx, PostgresTransaction)
            tx._talk.do(f"UPDATE {tx._schema}.schedulers SET expires_at = '-infinity' WHERE owner = %s", owner)
