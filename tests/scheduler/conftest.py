"""A scheduler on every store, with a clock that the test sets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bgsched import (
    MemoryStore,
    PostgresStore,
    SQLiteStore,
    Store,
)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store
    if request.param == "postgres":
        schema = request.getfixturevalue("postgres_schema")
        store = PostgresStore(request.getfixturevalue("postgres_dsn"), schema=schema)
    else:
        store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "app.db")
    yield store
    store.close()
