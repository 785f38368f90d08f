"""The same behaviour on every store and executor: `host` is the fixture; `_host.py` says what it is made of."""

from collections.abc import Iterator

import pytest
from behaviour._host import EXECUTORS, STORES, Host, hosts


@pytest.fixture(params=STORES)
def store_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(params=[pytest.param(name, marks=() if name == "threads" else pytest.mark.slow) for name in EXECUTORS])
def host(request: pytest.FixtureRequest, store_kind: str) -> Iterator[Host]:
    """An application on any store, whose runs any executor executes."""
    yield from hosts(request, request.param)


@pytest.fixture
def threads(request: pytest.FixtureRequest, store_kind: str) -> Iterator[Host]:
    """The same where the runs are executed by threads of this OS process: for what only these can do."""
    yield from hosts(request, "threads")


@pytest.fixture(scope="session")
def postgres_kept(postgres_dsn: str) -> Iterator[str]:
    from _postgres import temporary_schema

    with temporary_schema(postgres_dsn) as schema:
        yield schema


@pytest.fixture
def postgres_tables(postgres_dsn: str, postgres_kept: str) -> str:
    """The name of a schema with empty tables: emptied for each test, which is quicker than to make them."""
    import psycopg

    found = "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = %s AND tablename <> %s"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        tables = [name for (name,) in connection.execute(found, [postgres_kept, "schema_version"])]
        if tables:
            connection.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE".encode())
    return postgres_kept
