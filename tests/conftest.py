"""What every test may ask for: a scheduler with a clock to set, PostgreSQL, and Hypothesis that is repeatable in CI."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from _missing import no_postgres
from hypothesis import settings

from bgsched import MemoryStore, Scheduler, SQLiteStore, Store
from bgsched.testing import ManualClock

pytest_plugins = ["pytester"]

# A shell that starts the tests in the background lets them ignore Ctrl-C, and with them the OS processes they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The address of a PostgreSQL server that lives as long as the test session; see `_postgres.py`."""
    with ExitStack() as stack:
        try:
            from _postgres import postgres_server

            dsn = stack.enter_context(postgres_server())
        except Exception as error:  # noqa: BLE001 # no psycopg, no binaries, no start: one answer to all
            no_postgres(f"{type(error).__name__}: {error}")
        else:
            yield dsn


@pytest.fixture
def postgres_schema(postgres_dsn: str) -> Iterator[str]:
    """The name of a schema of the test's own, dropped afterwards with everything in it."""
    from _postgres import temporary_schema

    with temporary_schema(postgres_dsn) as name:
        yield name


@pytest.fixture
def postgres_database(postgres_dsn: str) -> Iterator[str]:
    """The address of a database of the test's own, dropped afterwards."""
    from _postgres import temporary_database

    with temporary_database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test sets: it begins at the begin of 2026, UTC."""
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store of one machine; where the server matters as well, folders have a fixture of this name of their own."""
    store: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "app.db")
    yield store
    store.close()


@pytest.fixture
def scheduler(store: Store, clock: ManualClock) -> Iterator[Scheduler]:
    """A scheduler that runs what the test lets it run."""
    scheduler = Scheduler(store, clock=clock)
    yield scheduler
    scheduler.shutdown(timeout=0)
