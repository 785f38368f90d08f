"""What is refused says why in one sentence, without a password."""

import logging
import re
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import _postgres
import psycopg
import pytest
from postgres._machines import SECRET, as_role

from bgsched import (
    MissingExtraError,
    PostgresStore,
    Scheduler,
    StoreError,
    StoreSchemaError,
    StoreUnavailableError,
    StoreURLError,
    open_store,
)
from bgsched.testing.contract import make_request


@contextmanager
def refusing_server() -> Iterator[int]:
    """Be a server that lets nobody in."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def refuse() -> None:
            while True:
                try:
                    peer, _ = door.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1024)
                    fields = b'SFATAL\x00VFATAL\x00C28P01\x00Mpassword authentication failed for user "u"\x00\x00'
                    peer.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)

        threading.Thread(target=refuse, daemon=True).start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)


class TestRefusals:
    """One clear sentence each, and the password in none."""

    def refused(self, kind: type[StoreError], make: Callable[[], object], caplog: pytest.LogCaptureFixture) -> str:
        with caplog.at_level(logging.DEBUG), pytest.raises(kind) as caught:
            make()
        told = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(caught.value)
        assert SECRET not in told
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_a_wrong_password(self, caplog: pytest.LogCaptureFixture) -> None:
        with refusing_server() as port:
            url = f"postgresql://u:{SECRET}@127.0.0.1:{port}/db?sslmode=disable&gssencmode=disable"
            said = self.refused(StoreUnavailableError, lambda: open_store(url), caplog)
        assert said == f'PostgreSQL at u@127.0.0.1:{port}/db: password authentication failed for user "u"'

    def test_a_setting_of_the_session_that_is_none(self, postgres_dsn: str, caplog: pytest.LogCaptureFixture) -> None:
        dsn = psycopg.conninfo.make_conninfo(postgres_dsn, options="-c timezone=nowhere")
        said = self.refused(StoreUnavailableError, lambda: PostgresStore(dsn), caplog)
        assert 'invalid value for parameter "TimeZone": "nowhere"' in said

    def test_nobody_there(self, caplog: pytest.LogCaptureFixture) -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = door.getsockname()[1]
        url = f"postgresql://u:{SECRET}@127.0.0.1:{port}/db"
        assert "Connection refused" in self.refused(StoreUnavailableError, lambda: open_store(url), caplog)

    def test_an_unknown_host(self, caplog: pytest.LogCaptureFixture) -> None:
        url = f"postgresql://u:{SECRET}@no-such-host.invalid/db"
        said = self.refused(StoreUnavailableError, lambda: open_store(url), caplog)
        assert said.startswith("PostgreSQL at u@no-such-host.invalid/db: ")

    def test_no_right_to_make_the_schema(self, postgres_dsn: str, role: str, caplog: pytest.LogCaptureFixture) -> None:
        dsn = as_role(postgres_dsn, role)
        said = self.refused(StoreUnavailableError, lambda: PostgresStore(dsn, schema="forbidden"), caplog)
        assert f"CREATE SCHEMA forbidden AUTHORIZATION {role}" in said

    def test_no_right_to_read(
        self, store: PostgresStore, postgres_dsn: str, role: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        dsn = as_role(postgres_dsn, role)
        said = self.refused(StoreUnavailableError, lambda: PostgresStore(dsn, schema=store.schema), caplog)
        assert f"GRANT USAGE ON SCHEMA {store.schema}" in said

    def test_a_schema_of_a_newer_version(
        self, store: PostgresStore, make_store: Callable[..., PostgresStore], sql: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        sql(f"UPDATE {store.schema}.schema_version SET version = 99")
        said = self.refused(StoreSchemaError, make_store, caplog)
        assert "has schema 99, this bgsched knows up to 1; upgrade bgsched" in said

    def test_a_database_that_cannot_hold_every_text(self, postgres_dsn: str, caplog: pytest.LogCaptureFixture) -> None:
        with _postgres.temporary_database(postgres_dsn, "LATIN1") as dsn:
            said = self.refused(StoreUnavailableError, lambda: PostgresStore(dsn), caplog)
        assert said.endswith("keeps text as LATIN1, which has no room for much of what is logged; bgsched needs UTF8")

    def test_tables_of_another_program(
        self, postgres_schema: str, make_store: Callable[..., PostgresStore], sql: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        sql(f"CREATE TABLE {postgres_schema}.runs (id int)")
        said = self.refused(StoreSchemaError, make_store, caplog)
        assert "give bgsched a schema of its own" in said
        assert sql("SELECT count(*) FROM pg_tables WHERE schemaname = %s", postgres_schema) == [(1,)]

    @pytest.mark.parametrize("columns", ["version text", "number int"])
    def test_the_table_that_migration_tools_make(
        self,
        columns: str,
        postgres_schema: str,
        make_store: Callable[..., PostgresStore],
        sql: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        sql(f"CREATE TABLE {postgres_schema}.schema_version ({columns})")
        sql(f"INSERT INTO {postgres_schema}.schema_version VALUES ('1')")
        said = self.refused(StoreSchemaError, make_store, caplog)
        assert "another program has its tables there" in said

    def test_a_version_that_is_none(
        self, store: PostgresStore, make_store: Callable[..., PostgresStore], sql: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        for version in (-1, 0):
            sql(f"UPDATE {store.schema}.schema_version SET version = %s", version)
            said = self.refused(StoreSchemaError, make_store, caplog)
            assert f"another program has its tables there (schema_version says {version})" in said

    def test_no_right_to_make_tables_in_a_schema(
        self, postgres_dsn: str, postgres_schema: str, sql: Any, role: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        sql(f"GRANT USAGE ON SCHEMA {postgres_schema} TO {role}")
        dsn = as_role(postgres_dsn, role)
        said = self.refused(StoreUnavailableError, lambda: PostgresStore(dsn, schema=postgres_schema), caplog)
        (grant,) = re.findall("let its owner run: (.*)", said)
        sql(grant)
        PostgresStore(dsn, schema=postgres_schema).close()

    def test_nothing_to_read_yet(
        self, make_store: Callable[..., PostgresStore], caplog: pytest.LogCaptureFixture
    ) -> None:
        said = self.refused(StoreSchemaError, lambda: make_store(read_only=True), caplog)
        assert "a scheduler makes them when it first starts there" in said

    def test_tables_that_are_gone(self, store: PostgresStore, sql: Any, caplog: pytest.LogCaptureFixture) -> None:
        sql(f"DROP TABLE {store.schema}.requests CASCADE")
        said = self.refused(StoreSchemaError, lambda: store.file([make_request()]), caplog)
        assert "are not as they were made" in said

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            (f"postgre://u:{SECRET}@h/db", "did you mean 'postgresql'?"),
            (f"postgresql:/u:{SECRET}@h/db", "write 'postgresql://user:password@host:5432/database'"),
            (f"postgresql://u:{SECRET}@h/db?sslmod=require", 'invalid URI query parameter: "sslmod"'),
            (f"postgresql://u:{SECRET}@h:port/db", "cannot be read"),
            (f"postgresql://u:{SECRET}@[h/db", "cannot be read"),
            (f"mysql://u:{SECRET}@h/db?password={SECRET}", "unknown store 'mysql'"),
            (f"postgresql://u:{SECRET}@h/db?schema=No%20Name", "schema must be a plain name"),
            (f"postgresql//u:{SECRET}@h/db", "has no scheme; for PostgreSQL write 'postgresql://"),
            (f"'postgresql://u:{SECRET}@h/db'", "has no scheme; for PostgreSQL write 'postgresql://"),
            (f"host=h user=u password={SECRET}", "has no scheme; for PostgreSQL write 'postgresql://"),
            (f"postgre://u:@/{SECRET}@h/db", "did you mean 'postgresql'?"),
            (f"postgresql://u:at@{SECRET}@h/db", "in a name or password write %40 for it"),
            (f"postgresql://u:12/{SECRET}@h/db", "write %40 and %2F for them"),
            (f"postgresql://u:\udc80{SECRET}@h/db", "cannot be read"),
        ],
    )
    def test_a_url_with_a_typo(self, url: str, says: str, caplog: pytest.LogCaptureFixture) -> None:
        assert says in self.refused(StoreURLError, lambda: open_store(url), caplog)

    @pytest.mark.parametrize("given", [None, 5, f"postgresql://u:{SECRET}@h/db".encode()], ids=str)
    def test_what_is_no_text(self, given: Any) -> None:
        with pytest.raises(TypeError, match="dsn must be text, like 'postgresql://user@host/database', got") as caught:
            PostgresStore(given)
        assert SECRET not in str(caught.value)

    def test_what_is_no_store(self) -> None:
        given: Any = f"postgresql://u:{SECRET}@h/db".encode()
        with pytest.raises(TypeError, match=r"got b'postgresql:\*\*\*@h/db'"):
            Scheduler(given)

    def test_a_store_shows_no_password(self, postgres_dsn: str, postgres_schema: str) -> None:
        dsn = psycopg.conninfo.make_conninfo(postgres_dsn, password=SECRET)
        with closing(PostgresStore(dsn, schema=postgres_schema)) as store:
            assert SECRET not in repr(store) + str(store) + repr(Scheduler(store)) + str(store.address)

    def test_psycopg_that_is_not_installed(self) -> None:
        script = (
            "import sys; sys.modules['psycopg'] = None\n"
            "import bgsched\n"
            "try: bgsched.open_store('postgresql://h/db')\n"
            "except bgsched.MissingExtraError as error: print(error)\n"
            "from bgsched import PostgresStore"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.stdout == "PostgresStore needs the extra 'postgres': pip install 'bgsched[postgres]'\n"
        assert done.stderr.splitlines()[-1].startswith(
            f"{MissingExtraError.__module__}.MissingExtraError: PostgresStore"
        )

    @pytest.mark.parametrize("options", ["", "&options=-c%20search_path%3Dpublic%2Cpg_catalog", "&schema=none"])
    def test_a_url_is_read_as_libpq_reads_it(
        self, options: str, postgres_dsn: str, postgres_schema: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parts = psycopg.conninfo.conninfo_to_dict(postgres_dsn)
        for name, variable in {"user": "PGUSER", "host": "PGHOST", "port": "PGPORT"}.items():
            if parts.get(name):
                monkeypatch.setenv(variable, str(parts[name]))
        url = f" PostgreSQL:///{parts['dbname']}?application_name=a%20b{options}&schema={postgres_schema}\n"
        with closing(open_store(url)) as store:
            assert isinstance(store, PostgresStore)
            assert store.schema == postgres_schema
            with store.reading() as talk:
                assert talk.ask("SELECT current_setting('application_name')") == [("a b",)]

    def test_a_url_names_its_schema(self, postgres_dsn: str, postgres_schema: str) -> None:
        with closing(open_store(f"{postgres_dsn}&schema={postgres_schema}")) as store:
            assert isinstance(store, PostgresStore)
            assert store.schema == postgres_schema
