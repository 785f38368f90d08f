"""The simulation's histories, and those of the stateful machine, on a real PostgreSQL.

The server's own clock is simulated with them: ``clock_timestamp()`` is looked for in the schema of the test first,
which has one of that name. So it runs evenly while the wall clocks of the machines jump, and differs from all of them.
"""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from _two_stores import TwoStores
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from bgsched import PostgresStore, Store
from bgsched.stores._postgres_steps import PostgresTransaction
from bgsched.testing import ManualClock, simulate
from bgsched.testing.simulation import BrokenPromiseError


class Server:
    """A schema whose tables can be emptied, on a server whose clock is by so much *ahead* of that of the world."""

    def __init__(self, dsn: str, schema: str, ahead: timedelta) -> None:
        self._ahead = ahead
        self._schema = schema
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._ask(f"CREATE TABLE {schema}.the_time (at timestamptz NOT NULL)")
        self._ask(
            f"CREATE FUNCTION {schema}.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS "
            f"$$ SELECT at FROM {schema}.the_time $$"
        )
        shadowed = psycopg.conninfo.make_conninfo(dsn, options=f"-c search_path={schema},pg_catalog")
        self._store = PostgresStore(shadowed, schema=schema)

    def _ask(self, query: str, *values: object) -> None:
        self._connection.execute(query.encode(), values)

    def pass_time(self, step: timedelta) -> None:
        self._ask(f"UPDATE {self._schema}.the_time SET at = at + %s", step)

    def new_world(self) -> tuple[PostgresStore, ManualClock]:
        """Return the store as if it were new, and the clock that its server follows."""
        clock = _Clock(self)
        tables = ("the_time", "requests", "runs", "log", "ended", "schedulers", "absences", "zone_databases")
        self._ask(f"TRUNCATE {', '.join(f'{self._schema}.{table}' for table in tables)} RESTART IDENTITY")
        self._ask(f"INSERT INTO {self._schema}.the_time VALUES (%s)", clock.now() + self._ahead)
        self._store._commits += 1  # it has changed
        return self._store, clock

    def close(self) -> None:
        self._store.close()
        self._connection.close()


class _Clock(ManualClock):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    def advance(self, span: timedelta | float) -> None:
        super().advance(span)
        self._server.pass_time(span if isinstance(span, timedelta) else timedelta(seconds=span))


@pytest.fixture(params=[timedelta(0), timedelta(hours=1), timedelta(hours=-1)], ids=str)
def server(request: pytest.FixtureRequest, postgres_dsn: str, postgres_schema: str) -> Iterator[Server]:
    server = Server(postgres_dsn, postgres_schema, request.param)
    yield server
    server.close()


same_time = pytest.mark.parametrize("server", [timedelta(0)], indirect=True, ids=str)


def live(server: Server, seed: int) -> None:
    store, clock = server.new_world()
    simulate(seed, make_store=lambda: store, clock=clock)


def test_a_history_keeps_every_promise(server: Server) -> None:
    live(server, 0)


@pytest.mark.slow
@pytest.mark.parametrize("tens", range(20))
def test_hundreds_of_histories(server: Server, tens: int) -> None:
    for seed in range(100 + 10 * tens, 110 + 10 * tens):
        live(server, seed)


@same_time
def test_the_histories_show_when_the_living_are_taken_for_dead(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresStore, "reap", Store.reap)
    monkeypatch.setattr(PostgresTransaction, "expired", lambda self: [record.owner for record in self.schedulers()])
    with pytest.raises(BrokenPromiseError, match=r"lives, showed it .* ago, and was reaped"):
        live(server, 0)


@same_time
def test_a_history_beside_that_of_a_memory_store(server: Server) -> None:
    beside(server, examples=4)


@pytest.mark.slow
@same_time
def test_many_histories_beside_those_of_a_memory_store(server: Server) -> None:
    beside(server, examples=200)


def beside(server: Server, *, examples: int) -> None:
    class PostgresBesideMemory(TwoStores):
        def open_other(self) -> Store:
            return server.new_world()[0]

    run_state_machine_as_test(
        PostgresBesideMemory,
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
