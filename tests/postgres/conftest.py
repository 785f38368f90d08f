"""Stores on one schema, what the server itself says, and a network that fails."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import _proxy
import psycopg
import pytest
from postgres._machines import SECRET

from bgsched import (
    PostgresStore,
)


@pytest.fixture
def make_store(postgres_dsn: str, postgres_schema: str) -> Iterator[Callable[..., PostgresStore]]:
    """Make stores on one schema, as several machines would."""
    made: list[PostgresStore] = []

    def make(dsn: str = postgres_dsn, **options: Any) -> PostgresStore:
        made.append(PostgresStore(dsn, schema=postgres_schema, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: Callable[..., PostgresStore]) -> PostgresStore:
    return make_store()


@pytest.fixture
def sql(postgres_dsn: str) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Ask the server directly."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:

        def ask(query: str, *values: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

        yield ask


@pytest.fixture
def waiting(sql: Callable[..., list[tuple[Any, ...]]]) -> Callable[[], bool]:
    """Whether somebody waits for what another transaction has locked."""
    return lambda: sql("SELECT 1 FROM pg_locks WHERE NOT granted") != []


@pytest.fixture
def proxy(postgres_dsn: str) -> Iterator[Any]:
    proxy = _proxy.Proxy(postgres_dsn)
    yield proxy
    proxy.close()


@pytest.fixture
def role(sql: Any) -> Iterator[str]:
    """The name of a role that may do nothing."""
    name = f"role_{uuid.uuid4().hex}"
    sql(f"CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{SECRET}'")
    yield name
    sql(f"DROP OWNED BY {name}")
    sql(f"DROP ROLE {name}")
