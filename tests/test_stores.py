"""The contract suite on every store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bgsched import PostgresStore
from bgsched.stores import MemoryStore, SQLiteStore, Store
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
