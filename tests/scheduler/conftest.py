"""A scheduler on every store, with a clock that the test sets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scheduler._asked import T0

from bgsched import (
    MemoryStore,
    PostgresStore,
    Scheduler,
    SQLiteStore,
    Store,
)
from bgsched.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


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


@pytest.fixture
def scheduler(store: Store, clock: ManualClock) -> Iterator[Scheduler]:
    scheduler = Scheduler(store, clock=clock)
    yield scheduler
    scheduler.shutdown(timeout=0)
