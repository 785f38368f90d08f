"""The contract suite on every store."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from bgsched import PostgresStore
from bgsched.stores import MemoryStore, SQLiteStore, Store
from bgsched.stores._postgres_steps import PostgresTransaction
from bgsched.testing import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = SQLiteStore(tmp_path / "app.db")
        yield store
        store.close()


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def store(self, postgres_dsn: str, postgres_schema: str) -> Iterator[Store]:
        store = PostgresStore(postgres_dsn, schema=postgres_schema)
        yield store
        store.close()

    def die(self, store: Store, owner: str, now: datetime) -> datetime:
        """Let the lease run out by the server's clock, which alone counts."""
        with store.transaction() as tx:
            assert isinstance(tx, PostgresTransaction)
            tx._talk.do(f"UPDATE {tx._schema}.schedulers SET expires_at = '-infinity' WHERE owner = %s", owner)
        return super().die(store, owner, now)
