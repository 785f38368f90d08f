"""PgBouncer in transaction mode between the store and its server."""

import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import _pooler
import _postgres
import psycopg
import pytest
from postgres._machines import PATIENCE, Load, wait_until

from bgsched import (
    PostgresStore,
)
from bgsched.testing.contract import make_request

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def stand_in(dsn: str) -> Iterator[str]:
    pooler = _pooler.Pooler(dsn)
    yield pooler.dsn
    pooler.close()


@contextmanager
def pgbouncer(dsn: str) -> Iterator[str]:
    """Start the real one."""
    assert PGBOUNCER is not None
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    target = " ".join(f"{name}={parts[name]}" for name in ("host", "port", "user", "dbname") if parts.get(name))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)  # PgBouncer does not run as root
        config = Path(folder) / "pgbouncer.ini"
        config.write_text(
            f"[databases]\npooled = {target}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\nunix_socket_dir =\n"
            f"logfile = {folder}/log\npidfile = {folder}/pid\n"
        )
        user = _postgres.unprivileged_user()
        with subprocess.Popen([PGBOUNCER, "-q", config], user=user, cwd="/") as running:
            pooled = f"host=127.0.0.1 port={port} dbname=pooled user=postgres sslmode=disable"
            try:
                wait_until(lambda: _answers(pooled))
                yield pooled
            finally:
                running.terminate()


class TestPgBouncer:
    """In transaction mode: each transaction may have another connection of the server."""

    @pytest.fixture(params=["stand-in", *(["PgBouncer"] if PGBOUNCER else [])])
    def pooled_dsn(self, request: pytest.FixtureRequest, postgres_dsn: str) -> Iterator[str]:
        pooler = pgbouncer(postgres_dsn) if request.param == "PgBouncer" else stand_in(postgres_dsn)
        with pooler as dsn:
            yield dsn

    def test_each_transaction_may_have_another_connection(self, pooled_dsn: str) -> None:
        with psycopg.connect(pooled_dsn, autocommit=True) as one, psycopg.connect(pooled_dsn, autocommit=True) as two:
            one.execute("BEGIN")
            first, second = (c.execute("SELECT pg_backend_pid()").fetchone() for c in (one, two))
            assert first != second
            one.execute("COMMIT")
            two.execute("BEGIN")
            two.execute("SELECT 1")
            one.execute("SELECT 1")
            assert (
                one.execute("SELECT pg_backend_pid()").fetchone() != two.execute("SELECT pg_backend_pid()").fetchone()
            )
            two.execute("COMMIT")

    def test_it_works_and_polls(self, pooled_dsn: str, make_store: Callable[..., PostgresStore]) -> None:
        store = make_store(pooled_dsn)
        load = Load(store, 300)
        with load.scheduler:
            load.assert_each_ran_once(make_store())
            wait_until(lambda: store._listener is not None and not store._listener.alive)  # it found the pooler
            assert store.look_every == 1.0

    def test_a_direct_address_is_listened_to(
        self, pooled_dsn: str, postgres_dsn: str, make_store: Callable[..., PostgresStore]
    ) -> None:
        store = make_store(pooled_dsn, listen_dsn=postgres_dsn)
        told = threading.Event()
        store.listen(lambda _: told.set())
        assert told.wait(PATIENCE)
        assert store.look_every > 1.0
        told.clear()
        make_store().file([make_request()])
        assert told.wait(PATIENCE)


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
