"""A monitor cannot write: no method that writes is in its reach, for a type checker and for the database.

`make lint` runs mypy over this file, and an ignore that ignores nothing is an error: as soon as a writing method could
be reached, it fails.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from bgsched import Monitor, PostgresStore, SQLiteStore, Store, StoreReader, StoreUnavailableError
from bgsched.stores import MemoryStore
from bgsched.stores.base import Transaction

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def writing_methods_of(reader: StoreReader) -> dict[str, Callable[[], object]]:
    """Return how one would call each writing method of a store, if a reader had it."""
    return {
        "file": lambda: reader.file,  # type: ignore[attr-defined]
        "change": lambda: reader.change,  # type: ignore[attr-defined]
        "change_all": lambda: reader.change_all,  # type: ignore[attr-defined]
        "delete": lambda: reader.delete,  # type: ignore[attr-defined]
        "enqueue": lambda: reader.enqueue,  # type: ignore[attr-defined]
        "add_member": lambda: reader.add_member,  # type: ignore[attr-defined]
        "claim": lambda: reader.claim,  # type: ignore[attr-defined]
        "bring_back": lambda: reader.bring_back,  # type: ignore[attr-defined]
        "record": lambda: reader.record,  # type: ignore[attr-defined]
        "kill": lambda: reader.kill,  # type: ignore[attr-defined]
        "sign_on": lambda: reader.sign_on,  # type: ignore[attr-defined]
        "compute_by": lambda: reader.compute_by,  # type: ignore[attr-defined]
        "heartbeat": lambda: reader.heartbeat,  # type: ignore[attr-defined]
        "reap": lambda: reader.reap,  # type: ignore[attr-defined]
        "sign_off": lambda: reader.sign_off,  # type: ignore[attr-defined]
        "purge": lambda: reader.purge,  # type: ignore[attr-defined]
        "transaction": lambda: reader.transaction,  # type: ignore[attr-defined]
    }


READS = {"reader", "held", "last_seq", "close", "is_gone", "gone", "vouches_for", "let_go", "changes", "look_every"}
READS |= {"bite", "is_at_work", "listen", "unlisten"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_a_reader_has_no_method_that_writes() -> None:
    for call in writing_methods_of(MemoryStore().reader()).values():
        with pytest.raises(AttributeError):
            call()


def test_each_writing_method_is_tried() -> None:
    assert public(Store) - READS == set(writing_methods_of(MemoryStore().reader()))


def test_each_writing_method_is_done_again_where_postgresql_undid_it() -> None:
    writes = set(writing_methods_of(MemoryStore().reader())) - {"transaction"}
    assert [name for name in sorted(writes) if not hasattr(getattr(PostgresStore, name), "__wrapped__")] == []


def test_questions_and_steps_share_only_what_reads() -> None:
    assert public(StoreReader) & public(Transaction) == {"schedulers"}
    assert public(StoreReader) & public(Store) == set()


def test_a_monitor_holds_a_reader_and_nothing_else_of_the_store() -> None:
    store = MemoryStore()
    assert [value for value in vars(Monitor(store)).values() if isinstance(value, Store)] == []


class TestTheDatabase:
    """Below the types, the database refuses as well."""

    def test_sqlite_lends_connections_that_cannot_write(self, tmp_path: Path) -> None:
        store = SQLiteStore(tmp_path / "app.db")
        with pytest.raises(StoreUnavailableError, match="readonly"), store.reading() as connection:
            connection.execute("DELETE FROM bgsched_runs")
        store.close()

    def test_a_file_opened_to_read_is_not_changed(self, tmp_path: Path) -> None:
        path = tmp_path / "app.db"
        SQLiteStore(path).close()
        before = path.read_bytes()
        store = SQLiteStore(path, read_only=True)
        monitor = Monitor(store)
        assert (monitor.runs(), monitor.requests(), monitor.upcoming(), monitor.schedulers()) == ([], [], [], [])
        with pytest.raises(StoreUnavailableError, match="opened to read only"):
            store.sign_off("x", NOW)
        store.close()
        assert path.read_bytes() == before
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM bgsched_runs").fetchone() == (0,)

    def test_postgresql_begins_transactions_that_cannot_write(self, postgres_dsn: str, postgres_schema: str) -> None:
        store = PostgresStore(postgres_dsn, schema=postgres_schema)
        with pytest.raises(StoreUnavailableError, match="read-only transaction"), store.reading() as link:
            link.do(f"DELETE FROM {postgres_schema}.runs")
        store.close()

    def test_a_role_that_may_only_read_is_enough(self, postgres_dsn: str, postgres_schema: str) -> None:
        PostgresStore(postgres_dsn, schema=postgres_schema).close()
        role = f"reader_{postgres_schema[-16:]}"
        with psycopg.connect(postgres_dsn, autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {role}".encode())
            try:
                admin.execute(f"GRANT USAGE ON SCHEMA {postgres_schema} TO {role}".encode())
                admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {postgres_schema} TO {role}".encode())
                self.ask_everything(make_conninfo(postgres_dsn, options=f"-c role={role}"), postgres_schema)
            finally:
                admin.execute(f"DROP OWNED BY {role}".encode())
                admin.execute(f"DROP ROLE {role}".encode())

    def ask_everything(self, dsn: str, schema: str) -> None:
        store = PostgresStore(dsn, schema=schema, read_only=True)
        monitor = Monitor(store)
        since = NOW - timedelta(days=1)
        assert monitor.runs(text="x", since=since) == monitor.running() == []
        assert monitor.requests() == monitor.upcoming() == []
        assert monitor.totals() == []
        assert monitor.summary().counts == {}
        assert len(monitor.histogram(since=since, until=NOW)) == 25
        assert monitor.health().problems == ("no scheduler is signed on",)
        store.close()
