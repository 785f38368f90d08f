"""What only a store on a server can get wrong: many at once, broken links, restarts, rights, two clocks."""

import collections
import functools
import logging
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import _pooler
import _postgres
import _proxy
import psycopg
import pytest
from _missing import no_postgres

from bgsched import (
    EverySeconds,
    Immediate,
    Later,
    MissingExtraError,
    Overlap,
    PostgresStore,
    RequestExistsError,
    RequestStatus,
    RunStatus,
    Schedule,
    Scheduler,
    StoreError,
    StoreSchemaError,
    StoreUnavailableError,
    StoreURLError,
    SystemClock,
    open_store,
)
from bgsched.request import Policies, Request
from bgsched.run import LogLine, Run, RunError
from bgsched.stores import _address, _links, _listener, _postgres_schema, _wire, postgres
from bgsched.stores.base import Report, RunFilter, SchedulerRecord
from bgsched.testing import ManualClock
from bgsched.testing.contract import T0, FixedPlanner, make_request

PATIENCE = 60.0  # seconds until what never comes fails a test
SECRET = "s3cret-pw"
SECOND = timedelta(seconds=1)
OS_PROCESS = Path(__file__).with_name("_os_process.py")


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


@contextmanager
def own_server() -> Iterator[Any]:
    """Start a server that the test may restart."""
    binaries = next(_postgres.find_binaries(), None)
    if binaries is None:
        no_postgres("only a server, and no binaries to start another one")
    server = _postgres.start_server(binaries, durable=True)  # an immediate restart loses what was not yet synced
    try:
        yield server
    finally:
        if (server.folder / "data" / "postmaster.pid").exists():
            _pg_ctl(server, "stop", "-m", "fast")
        server.stop()


def _pg_ctl(server: Any, *words: str) -> None:
    data = server.folder / "data"
    postgres = Path((data / "postmaster.opts").read_text().split()[0])
    log = server.folder / "log2"
    subprocess.run(
        [postgres.with_name("pg_ctl"), "-D", data, "-l", log, "-w", *words],
        user=_postgres.unprivileged_user(),
        cwd="/",
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


@contextmanager
def standby(server: Any) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Start a server that has all that *server* acknowledges; yield its folder, and what makes it the first one."""
    binaries = Path((server.folder / "data" / "postmaster.opts").read_text().split()[0]).parent
    user = _postgres.unprivileged_user()

    def execute(name: str, *words: object) -> None:
        command = [str(word) for word in (binaries / name, *words)]
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.run(command, user=user, cwd="/", check=True, **quiet)

    with tempfile.TemporaryDirectory(prefix="bgsched-pg-") as name:
        folder, data = Path(name), Path(name) / "data"
        if user is not None:
            shutil.chown(folder, user)
        execute("pg_basebackup", "-h", server.folder, "-U", "postgres", "-D", data, "-R", "-X", "stream", "-c", "fast")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c max_connections=200"
        execute("pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
        try:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
            yield folder, lambda: execute("pg_ctl", "-D", data, "-w", "promote")
        finally:
            execute("pg_ctl", "-D", data, "-m", "immediate", "stop")


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again: other OS processes, and the server, send no signal when they are done."""
    give_up = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up, "it did not come"
        threading.Event().wait(0.02)


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Do *work* in *count* threads that begin together."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def claim(store: PostgresStore, owner: str, now: datetime = T0, limit: int = 100, **policies: Any) -> list[Run]:
    if not any(record.owner == owner for record in store.reader().schedulers()):
        store.sign_on(record_of(owner, now))
    return store.claim(FixedPlanner(Policies(**policies), owner=owner), owner, now, limit)


def succeeded(run: Run) -> Run:
    return run.started(T0).move(RunStatus.SUCCESS, finished_at=T0 + SECOND, duration=SECOND)


def record_of(owner: str, now: datetime = T0) -> SchedulerRecord:
    return SchedulerRecord(
        owner=owner, host="here", pid=1, started_at=now, heartbeat_at=now, lease_until=now + 15 * SECOND
    )


class TestSchema:
    def test_ten_can_make_it_at_once(self, make_store: Callable[..., PostgresStore], sql: Any) -> None:
        stores = at_once(10, lambda _: make_store())
        assert sql(f"SELECT version FROM {stores[0].schema}.schema_version") == [(1,)]
        stores[3].file([make_request()])
        assert stores[7].reader().find_request("r") is not None

    def test_ten_can_bring_it_to_the_next_version_at_once(
        self, make_store: Callable[..., PostgresStore], sql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = make_store()
        old.file([make_request()])
        step = "ALTER TABLE bgsched.requests ADD COLUMN tenant text; CREATE TABLE bgsched.tenants (name text);"
        (tmp_path / "postgres_0002.sql").write_text(step)
        monkeypatch.setattr(_postgres_schema, "SCHEMA_VERSION", 2)
        monkeypatch.setattr(resources, "files", lambda _: tmp_path)
        stores = at_once(10, lambda _: make_store())
        assert sql(f"SELECT version FROM {old.schema}.schema_version ORDER BY 1") == [(1,), (2,)]
        assert sql(f"SELECT id, tenant FROM {old.schema}.requests") == [("r", None)]
        assert len(claim(stores[4], "a")) == 1

    def test_it_may_be_that_of_the_hosts_tables(
        self, make_store: Callable[..., PostgresStore], postgres_schema: str, sql: Any
    ) -> None:
        sql(f"CREATE TABLE {postgres_schema}.orders (id int)")
        sql(f"INSERT INTO {postgres_schema}.orders VALUES (1)")
        make_store().file([make_request()])
        assert len(claim(make_store(), "a")) == 1
        assert sql(f"SELECT id FROM {postgres_schema}.orders") == [(1,)]

    def test_its_name_may_be_a_word_of_sql(self, postgres_dsn: str) -> None:
        with _postgres.temporary_database(postgres_dsn) as dsn, closing(PostgresStore(dsn, schema="order")) as store:
            scheduler = Scheduler(store)
            scheduler.process("p")(lambda: 3)
            scheduler.schedule("p", Immediate())
            scheduler.run_until_idle()
            assert scheduler.monitor.runs()[0].result == 3

    def test_a_role_without_any_right_but_a_schema_of_its_own_is_enough(
        self, postgres_dsn: str, sql: Any, role: str
    ) -> None:
        schema = f"own_{uuid.uuid4().hex}"
        sql(f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
        try:
            with closing(PostgresStore(as_role(postgres_dsn, role), schema=schema)) as store:
                store.file([make_request()])
                assert len(claim(store, "a")) == 1
        finally:
            sql(f"DROP SCHEMA {schema} CASCADE")

    def test_one_who_may_only_read_can_watch(
        self, store: PostgresStore, postgres_dsn: str, sql: Any, role: str
    ) -> None:
        store.file([make_request()])
        sql(f"GRANT USAGE ON SCHEMA {store.schema} TO {role}")
        sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {store.schema} TO {role}")
        url = as_role(postgres_dsn, role)
        with closing(PostgresStore(url, schema=store.schema, read_only=True)) as watching:
            assert watching.reader().find_request("r") is not None
            with pytest.raises(StoreUnavailableError, match="opened to read only"):
                watching.delete("r")

    def test_readers_cannot_write(self, store: PostgresStore) -> None:
        with pytest.raises(StoreUnavailableError, match="read-only transaction"), store.reading() as link:
            link.do(f"DELETE FROM {store.schema}.requests")

    @pytest.mark.parametrize(
        ("said", "shown"), [("broken\x00 \udc80", "broken\\x00 \\udc80"), ("a \udc80", "a \\udc80")]
    )
    def test_the_view_shows_runs(self, store: PostgresStore, sql: Any, said: str, shown: str) -> None:
        store.file([make_request(user="ann", params={"company": "x"})])
        (run,) = claim(store, "a")
        error = RunError("ValueError", said, "Traceback")
        ended = run.started(T0 + SECOND).move(
            RunStatus.ERROR, finished_at=T0 + 3 * SECOND, duration=2 * SECOND, error=error
        )
        store.record("a", T0, Report([ended]))
        columns = "process, params ->> 'company', requested_by, status, duration, lateness, error_type, error_message"
        assert sql(f"SELECT {columns} FROM {store.schema}.process_monitor") == [
            ("p", "x", "ann", "error", 2 * SECOND, SECOND, "ValueError", shown)
        ]

    def test_what_dashboards_ask_of_a_day_is_found_by_index(
        self, store: PostgresStore, sql: Callable[..., list[tuple[Any, ...]]]
    ) -> None:
        page = Path(__file__).parent.parent / "docs" / "how-to" / "sql.md"
        questions = [q for q in re.findall(r'"""(.*?)"""', page.read_text(), re.DOTALL) if "interval '1 day'" in q]
        sql("SET enable_seqscan = off")
        for question in questions:
            plan = sql(f"EXPLAIN {question}".replace("bgsched.", f"{store.schema}."))
            assert "Seq Scan on runs" not in str(plan)  # in an empty one, any index will do
        assert len(questions) == 2

    def test_what_the_server_cannot_keep_is_kept_as_well_as_it_can(self, store: PostgresStore) -> None:
        store.file([make_request(user="a\x00b", params={"x": "\x00 \udc80 ü 😀"})])
        (run,) = claim(store, "a")
        line = LogLine(run.id, 1, T0, "INFO", "x", "a\x00b \udc80")
        assert store.record("a", T0, Report([replace(succeeded(run), result="\x00")], [line])) == []
        found = store.reader().runs(RunFilter())[0]
        assert (found.user, found.params, found.result) == ("a\\x00b", {"x": "\x00 \udc80 ü 😀"}, "\x00")
        assert store.reader().log(run.id, 0, 9)[0].text == "a\\x00b \\udc80"

    def test_instants_are_exact_to_the_end_of_time(self, store: PostgresStore) -> None:
        far = datetime.fromisoformat("9999-12-29T23:59:59.999999+00:00")
        request = replace(make_request(), next_fire_time=far, due_at=far)
        store.file([request])
        assert store.reader().find_request("r") == request


@pytest.fixture
def role(sql: Any) -> Iterator[str]:
    """The name of a role that may do nothing."""
    name = f"role_{uuid.uuid4().hex}"
    sql(f"CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{SECRET}'")
    yield name
    sql(f"DROP OWNED BY {name}")
    sql(f"DROP ROLE {name}")


def as_role(dsn: str, role: str) -> str:
    return psycopg.conninfo.make_conninfo(dsn, user=role, password=SECRET)


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


class TestBatches:
    """What a claim takes at once goes in by COPY, which takes all of it or nothing."""

    MANY = 40

    @pytest.fixture
    def due(self, store: PostgresStore) -> list[Run]:
        """File many requests; return their claimed runs, of which nothing is stored."""
        equal = (1, True, 1.0)  # in Python, but not as JSON
        requests = [make_request(f"r{n:02}", params={"n": equal[n % 3]}, user="ann") for n in range(self.MANY)]
        store.file(requests)
        plan = FixedPlanner(Policies(), owner="a").plan
        return [run for request in requests for run in plan(request, T0, ()).runs]

    def test_what_was_claimed_is_what_is_stored(self, store: PostgresStore, due: list[Run]) -> None:
        claimed = claim(store, "a")
        assert repr(store.held("a")) == repr(claimed)
        assert repr([replace(run, id=0) for run in claimed]) == repr(due)

    def test_a_fire_time_that_has_its_record_gets_no_second_one(self, store: PostgresStore, due: list[Run]) -> None:
        with store.transaction() as tx:
            (known,) = tx.insert_runs([due[7]])
        claimed = claim(store, "b")
        assert len(claimed) == self.MANY - 1
        assert known.request_id not in {run.request_id for run in claimed}
        assert len(store.reader().runs(RunFilter(limit=1000))) == self.MANY
        assert claim(store, "c") == []

    def test_after_a_clock_was_set_back_they_are_recorded_with_the_newest(
        self, store: PostgresStore, due: list[Run]
    ) -> None:
        later = T0 + timedelta(hours=1)
        with store.transaction() as tx:
            tx.insert_runs([replace(due[0], request_id="before", recorded_at=later)])
        assert {run.recorded_at for run in claim(store, "a")} == {later}

    def test_who_looks_at_a_request_waits_for_the_claim_that_holds_it(
        self, store: PostgresStore, make_store: Callable[..., PostgresStore], sql: Any
    ) -> None:
        """It has no fire time left, and is complete unless one looks at its runs after the claim, not before."""
        store.file([make_request()])
        (request,) = (store.reader().find_request("r"),)
        assert request is not None
        (run,) = FixedPlanner(Policies(), owner="a").plan(request, T0, ()).runs
        seen: list[Request | None] = []
        with ThreadPoolExecutor(1) as pool:
            with store.transaction() as tx:
                tx.get_requests(["r"])
                tx.advance_requests([replace(request, next_fire_time=None, due_at=None)])
                tx.insert_runs([run])
                looking = pool.submit(make_store().change, "r", seen.append, T0)
                wait_until(lambda: bool(sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")))
            looking.result()
        assert [found.status for found in seen if found is not None] == [RequestStatus.SCHEDULED]


class TestManyAtOnce:
    """Each store has connections of its own, as on a machine of its own."""

    def test_of_many_who_file_the_same_id_one_does(self, make_store: Callable[..., PostgresStore]) -> None:
        stores = [make_store() for _ in range(6)]

        def file(number: int) -> bool:
            try:
                stores[number].file([make_request(f"other-{number}"), make_request("same", user=str(number))])
            except RequestExistsError:
                return False
            return True

        filed = at_once(6, file)
        assert filed.count(True) == 1
        found = stores[0].reader().find_request("same")
        assert found is not None
        assert found.user == str(filed.index(True))

    def test_of_many_who_declare_a_process_one_makes_the_request(
        self, make_store: Callable[..., PostgresStore]
    ) -> None:
        stores = [make_store() for _ in range(6)]

        def declare(number: int) -> str | None:
            def change(found: Request | None) -> Request | None:
                return make_request(user=str(number)) if found is None else None

            made = stores[number].change("r", change, T0)
            assert made is not None
            return made.user

        assert len(set(at_once(6, declare))) == 1

    def test_runs_that_share_a_key_never_go_on_together(self, make_store: Callable[..., PostgresStore]) -> None:
        """Requests that are due, and runs that wait, of one overlap key: claimed by four at the same time."""
        stores = [make_store() for _ in range(4)]
        stores[0].file([make_request(f"r{number:03}") for number in range(80)])
        going_on: list[str] = []
        together: list[list[str]] = []
        ended: list[str] = []

        def work(number: int) -> None:
            store, owner = stores[number], f"owner-{number}"
            give_up = time.monotonic() + PATIENCE
            while len(ended) < 80 and time.monotonic() < give_up:
                for run in claim(store, owner, limit=5, overlap=Overlap.QUEUE, overlap_scope="process"):
                    going_on.append(run.request_id)
                    together.append(list(going_on))
                    going_on.remove(run.request_id)
                    store.record(owner, T0, Report([succeeded(run)]))
                    ended.append(run.request_id)
                skipped = store.reader().runs(RunFilter(status=frozenset({RunStatus.SKIPPED}), limit=1000))
                if len(ended) + len(skipped) >= 80:
                    return

        at_once(4, work)
        assert max(map(len, together)) == 1
        assert len(ended) == len(set(ended)) > 0
        assert len(stores[0].reader().runs(RunFilter(limit=1000))) == 80

    def test_waiting_runs_of_one_request_start_one_after_another(
        self, make_store: Callable[..., PostgresStore]
    ) -> None:
        stores = [make_store() for _ in range(4)]
        stores[0].file([make_request(timing=Schedule(EverySeconds(1), repetitions=30))])
        going_on = threading.Semaphore(1)
        ended: list[datetime] = []

        def work(number: int) -> None:
            store, owner = stores[number], f"owner-{number}"
            give_up = time.monotonic() + PATIENCE
            while len(ended) < 30 and time.monotonic() < give_up:
                for run in claim(store, owner, T0 + 40 * SECOND, misfire="run_all", misfire_grace=SECOND):
                    assert going_on.acquire(blocking=False), "two at once"
                    ended.append(run.fire_time)
                    going_on.release()
                    store.record(owner, T0, Report([succeeded(run)]))

        at_once(4, work)
        assert sorted(ended) == [T0 + n * SECOND for n in range(30)]
        request = stores[0].reader().find_request("r")
        assert request is not None
        assert request.status is RequestStatus.COMPLETE

    def test_the_later_of_two_last_runs_completes_the_request(self, make_store: Callable[..., PostgresStore]) -> None:
        stores = [make_store(), make_store()]
        for number in range(15):
            stores[0].file([make_request(f"r{number}")])
            (first,) = claim(stores[0], "a", overlap=Overlap.ALLOW)
            stores[0].enqueue(replace(first, id=0, owner=None, attempt=0, claimed_at=None, due_at=T0))
            (second,) = claim(stores[1], "b", overlap=Overlap.ALLOW)
            reports = [("a", T0, Report([succeeded(first)])), ("b", T0, Report([succeeded(second)]))]
            at_once(2, functools.partial(self.say, stores, reports))
            found = stores[0].reader().find_request(f"r{number}")
            assert found is not None
            assert found.status is RequestStatus.COMPLETE

    @staticmethod
    def say(stores: Sequence[PostgresStore], reports: Sequence[tuple[str, datetime, Report]], place: int) -> None:
        stores[place].record(*reports[place])

    def test_what_ends_while_its_scheduler_is_signed_off_is_not_left_behind(
        self, make_store: Callable[..., PostgresStore], waiting: Callable[[], bool]
    ) -> None:
        store, other = make_store(), make_store()
        store.file([make_request()])
        (run,) = claim(store, "a")
        with ThreadPoolExecutor(1) as pool:
            with store.transaction() as tx:
                assert tx.update_runs([succeeded(run)], "a") == {run.id}
                left = pool.submit(other.sign_off, "a", T0)
                wait_until(waiting)
            assert left.result() == []
        assert store.reader().ended(None, T0, T0) == []  # whoever reported it counts it

    def test_what_starts_while_its_request_is_unscheduled_is_not_skipped(
        self, make_store: Callable[..., PostgresStore], waiting: Callable[[], bool]
    ) -> None:
        store, other = make_store(), make_store()
        store.file([make_request(timing=Later(T0 + 10 * SECOND))])
        run = store.enqueue(Run(request_id="r", process="p", fire_time=T0, recorded_at=T0))
        with ThreadPoolExecutor(1) as pool:
            with store.transaction() as tx:
                assert tx.update_runs([run.taken("a", T0)], None) == {run.id}
                changed = pool.submit(
                    other.change, "r", lambda found: found and found.unscheduled(T0), T0, end_waiting="no more"
                )
                wait_until(waiting)
            changed.result()
        assert store.reader().ended(None, T0, T0) == []
        assert [run.owner for run in store.held("a")] == ["a"]

    def test_a_member_that_starts_while_its_group_is_killed_hears_of_it(
        self, make_store: Callable[..., PostgresStore], waiting: Callable[[], bool]
    ) -> None:
        store, other = make_store(), make_store()
        store.file([make_request()])
        (group,) = claim(store, "a")
        member = Run(request_id="r", process="m", fire_time=T0, recorded_at=T0, due_at=T0, parent_id=group.id)
        assert store.add_member("a", group, member, 0, Overlap.ALLOW, T0)
        waits = next(run for run in store.reader().runs(RunFilter(parent=group.id)))
        killed = group.started(T0).move(RunStatus.KILLED, finished_at=T0)
        with ThreadPoolExecutor(1) as pool:
            with store.transaction() as tx:
                assert tx.update_runs([waits.taken("b", T0)], None) == {waits.id}
                reported = pool.submit(other.record, "a", T0, Report([killed]))
                wait_until(waiting)
            assert reported.result() == []
        assert store.reader().kills_asked("b") == {waits.id}

    def test_reports_and_kills_do_not_end_each_other(self, make_store: Callable[..., PostgresStore]) -> None:
        """They lock a run and its request in opposite order: PostgreSQL undoes one, and it is done again."""
        stores = [make_store(), make_store()]
        timing = Schedule(EverySeconds(10))
        stores[0].file([make_request(str(number), timing) for number in range(60)])
        runs = claim(stores[0], "a", overlap=Overlap.REPLACE)

        def work(place: int) -> Sequence[object]:
            if place == 0:
                return [stores[0].record("a", T0, Report([succeeded(run) for run in runs[::-1]]))]
            return [claim(stores[1], "b", T0 + 10 * SECOND, overlap=Overlap.REPLACE)]

        at_once(2, work)
        assert len(stores[0].reader().runs(RunFilter(status=frozenset({RunStatus.SUCCESS})))) == 60


class TestClocks:
    def test_a_lease_is_as_long_as_it_is_whatever_the_clients_clocks_say(self, store: PostgresStore, sql: Any) -> None:
        hour = timedelta(hours=1)
        store.sign_on(record_of("slow", T0 - hour))
        store.sign_on(record_of("fast", T0 + hour))
        assert store.reap(T0 + 1000 * hour) == []
        assert store.heartbeat(record_of("slow", T0 - hour))
        sql(f"UPDATE {store.schema}.schedulers SET expires_at = expires_at - interval '15 s' WHERE owner = 'slow'")
        store.reap(T0 - 1000 * hour)
        assert [record.owner for record in store.reader().schedulers()] == ["fast"]
        assert not store.heartbeat(record_of("slow", T0 - hour))

    def test_schedulers_whose_clocks_differ_by_two_hours_let_each_other_live(
        self, make_store: Callable[..., PostgresStore], caplog: pytest.LogCaptureFixture
    ) -> None:
        class Shifted(SystemClock):
            def __init__(self, shift: timedelta) -> None:
                self._shift = shift

            def now(self) -> datetime:
                return super().now() + self._shift

        done = threading.Semaphore(0)
        with (
            Scheduler(make_store(), clock=Shifted(timedelta(hours=1))) as fast,
            Scheduler(make_store(), clock=Shifted(timedelta(hours=-1))) as slow,
        ):
            for scheduler in (fast, slow):
                scheduler.process("work")(lambda: done.release())  # noqa: PLW0108  a process needs a function
            for scheduler in (fast, slow):
                scheduler.schedule("work", Immediate())
            assert done.acquire(timeout=PATIENCE)
            assert done.acquire(timeout=PATIENCE)
            assert slow.store.reap(slow._clock.now()) == []
            assert fast.store.reap(fast._clock.now()) == []
            assert len(fast.monitor.schedulers()) == 2
        assert "taken for dead" not in caplog.text


class TestWaking:
    def listening(self, store: PostgresStore, wake: Callable[[bool], None]) -> None:
        ready = threading.Event()
        store.listen(lambda _: ready.set())
        assert ready.wait(PATIENCE)  # the first call says that the link stands
        store.listen(wake)

    def test_what_one_files_wakes_the_other(self, make_store: Callable[..., PostgresStore]) -> None:
        here, there = make_store(), make_store()
        heard: collections.deque[bool] = collections.deque()
        told = threading.Semaphore(0)

        def wake(asked_kill: bool) -> None:  # noqa: FBT001  a store calls it so
            heard.append(asked_kill)
            told.release()

        self.listening(here, wake)
        before = here.changes()
        there.file([make_request()])
        assert told.acquire(timeout=PATIENCE)
        assert here.changes() != before
        (run,) = claim(there, "b")
        there.record("b", T0, Report([run.started(T0)]))
        there.kill(run.id, T0)
        assert told.acquire(timeout=PATIENCE)
        assert list(heard) == [False, True]

    def test_runs_wake_nobody(self, make_store: Callable[..., PostgresStore]) -> None:
        here, there = make_store(), make_store()
        told: list[bool] = []
        there.file([make_request(timing=Schedule(EverySeconds(10)))])
        self.listening(here, told.append)
        for step in range(3):
            (run,) = claim(there, "b", T0 + 10 * step * SECOND)
            there.record("b", T0, Report([succeeded(run)]))
        there.change("r", lambda request: request and request.unscheduled(T0), T0)
        wait_until(lambda: bool(told))
        assert told == [False]

    def test_what_others_file_starts_without_a_poll(
        self, make_store: Callable[..., PostgresStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres, "_POLL", 3600.0)
        there = make_store()
        began = threading.Event()
        with Scheduler(make_store()) as scheduler:
            scheduler.process("work")(lambda: began.set())  # noqa: PLW0108  a process needs a function
            store = scheduler.store
            assert isinstance(store, PostgresStore)
            wait_until(lambda: store.look_every > 1)  # it listens
            wait_until(lambda: scheduler._engine is not None and scheduler._engine.next_due() is None)
            there.file([make_request(process="work", now=scheduler._clock.now())])
            assert began.wait(PATIENCE)

    def test_what_others_file_starts_by_a_poll_where_notifications_get_lost(
        self, make_store: Callable[..., PostgresStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(PostgresStore, "_hear", lambda *_: None)
        there = make_store()
        began = threading.Event()
        with Scheduler(make_store()) as scheduler:
            scheduler.process("work")(lambda: began.set())  # noqa: PLW0108  a process needs a function
            wait_until(lambda: scheduler._engine is not None and scheduler._engine.next_due() is None)
            there.file([make_request(process="work", now=scheduler._clock.now())])
            assert began.wait(PATIENCE)

    def test_a_link_that_broke_is_replaced(self, make_store: Callable[..., PostgresStore], sql: Any) -> None:
        here, there = make_store(), make_store()
        told = threading.Semaphore(0)
        self.listening(here, lambda _: told.release())
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s", f"LISTEN%{here.schema[:20]}%")
        assert told.acquire(timeout=PATIENCE)  # once it listens again: something may have come meanwhile
        there.file([make_request()])
        assert told.acquire(timeout=PATIENCE)

    def test_a_link_that_cannot_be_had_is_told_of_once(
        self,
        make_store: Callable[..., PostgresStore],
        proxy: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(_listener, "_LONGEST_BACKOFF", 0.1)
        store = make_store(listen_dsn=psycopg.conninfo.make_conninfo(proxy.dsn, password=SECRET))
        proxy.drop()
        store.listen(lambda _: None)
        wait_until(lambda: proxy.accepted > 3)
        (record,) = caplog.records
        assert record.getMessage().startswith(
            "what others file is seen within a second, not at once, as we cannot listen"
        )
        assert SECRET not in caplog.text
        proxy.heal()
        wait_until(lambda: store.look_every > 1)
        proxy.drop()
        wait_until(lambda: len(caplog.records) == 2)  # another time, another cause

    def test_without_notifications_changes_are_seen_by_looking(self, store: PostgresStore) -> None:
        before = store.changes()
        assert store.changes() == before
        store._polled_at -= 5.0
        assert store.changes() != before


class TestIdleLoad:
    def test_an_idle_scheduler_says_less_than_one_statement_a_second(
        self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All of them count, BEGIN and COMMIT too; the listener's sign of life, one in 15 s, comes on top."""
        clock = ManualClock()
        said: list[str] = []
        send = _wire.Link.send

        def hear(link: _wire.Link, statements: Sequence[_wire.Statement]) -> Any:
            said.extend(query for query, _ in statements)
            return send(link, statements)

        monkeypatch.setattr(PostgresStore, "_hears", True)
        monkeypatch.setattr("bgsched.stores.postgres.time", clock)
        store._polled_at = clock.monotonic()
        scheduler = Scheduler(store, clock=clock)
        scheduler.process("work")(lambda: None)
        scheduler.schedule("work", Later(clock.now() + timedelta(days=1)))
        scheduler.run_pending()
        monkeypatch.setattr(_wire.Link, "send", hear)
        for _ in range(60):  # a scheduler that waits looks up once a second
            clock.advance(1)
            scheduler.run_pending()
        assert 12 <= len(said) < 60 - 60 / 15


def test_things_take_the_room_that_the_page_on_postgresql_says(store: PostgresStore, sql: Any) -> None:
    """In bytes of a packed table with its indexes, for each row."""
    count = 2000
    store.file([make_request(f"{number:032x}", params={"company": "acme"}) for number in range(count)])
    while runs := claim(store, uuid.uuid4().hex, limit=500):
        lines = [LogLine(run.id, 1, T0, "INFO", "bgsched.run", "sent 12 invoices for acme") for run in runs]
        store.record(str(runs[0].owner), T0, Report([succeeded(run) for run in runs], lines))

    def bytes_of(table: str) -> float:
        sql(f"VACUUM FULL {store.schema}.{table}")
        return float(sql("SELECT pg_total_relation_size(%s)", f"{store.schema}.{table}")[0][0] / count)

    assert 600 < bytes_of("runs") < 800
    assert 130 < bytes_of("log") < 170
    assert 170 < bytes_of("requests") < 290


class Load:
    """A scheduler with requests to run, and what came of them."""

    def __init__(self, store: PostgresStore, count: int) -> None:
        self.count = count
        self.began: collections.Counter[str] = collections.Counter()
        self.some = threading.Event()
        self.scheduler = Scheduler(store, workers=4)
        self.scheduler.process("work")(self._work)
        self.scheduler.schedule_many([("work", Immediate(), {"number": str(number)}) for number in range(count)])

    def _work(self, number: str) -> str:
        self.began[number] += 1
        if len(self.began) >= self.count // 4:
            self.some.set()
        return number

    def assert_each_ran_once(self, store: PostgresStore) -> None:
        statuses = frozenset({RunStatus.SUCCESS})
        wait_until(lambda: len(store.reader().runs(RunFilter(status=statuses, limit=self.count))) == self.count)
        assert set(self.began.values()) == {1}
        runs = store.reader().runs(RunFilter(limit=2 * self.count))
        assert {run.result for run in runs} == {str(number) for number in range(self.count)}
        assert len(runs) == self.count
        with store.reading() as talk:
            assert talk.ask(f"SELECT run_id FROM {store.schema}.log") == []  # no refused result


class TestBrokenLinks:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_wire, "PATIENCE", 1.0)
        monkeypatch.setattr(_links, "_GREETING", 0.5)
        monkeypatch.setitem(_address._DEFAULTS, "connect_timeout", 2)

    def test_connections_that_the_server_ends(self, store: PostgresStore, make_store: Any, sql: Any) -> None:
        load = Load(store, 1000)
        with load.scheduler:
            assert load.some.wait(PATIENCE)
            for _ in range(5):
                sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'bgsched' AND pid <> pg_backend_pid()"
                )
                threading.Event().wait(random.uniform(0.0, 0.1))
            load.assert_each_ran_once(make_store())

    def test_a_network_that_drops_connections(self, proxy: Any, make_store: Any) -> None:
        load = Load(make_store(proxy.dsn), 1000)
        with load.scheduler as scheduler:
            assert load.some.wait(PATIENCE)
            proxy.drop()
            wait_until(lambda: scheduler._engine is not None and scheduler._engine.problem is not None)
            assert not scheduler.monitor.health().ok
            tries = proxy.accepted
            threading.Event().wait(1.0)  # what is shown is that little happens in this time
            assert proxy.accepted - tries < 12, "a tight loop of connecting"
            proxy.heal()
            load.assert_each_ran_once(make_store())
            wait_until(lambda: scheduler.monitor.health().ok)

    def test_a_link_that_is_half_open_hangs_nobody(self, proxy: Any, make_store: Any) -> None:
        load = Load(make_store(proxy.dsn), 1000)
        with load.scheduler as scheduler:
            assert load.some.wait(PATIENCE)
            proxy.hang()
            wait_until(lambda: scheduler._engine is not None and scheduler._engine.problem is not None)
            assert re.search("no answer within|timeout expired", str(scheduler._engine and scheduler._engine.problem))
            proxy.heal()
            load.assert_each_ran_once(make_store())

    def test_a_slow_network_is_only_slow(self, proxy: Any, make_store: Any) -> None:
        proxy.delay(0.005)
        load = Load(make_store(proxy.dsn), 100)
        with load.scheduler as scheduler:
            load.assert_each_ran_once(make_store())
            assert scheduler.monitor.health().ok

    def test_a_commit_whose_answer_is_lost_says_so(self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
        execute = _wire.Link.execute

        def fail(link: Any, query: Any, *options: Any, **named: Any) -> Any:
            done = execute(link, query, *options, **named)
            if query == "COMMIT":
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            return done

        monkeypatch.setattr(_wire.Link, "execute", fail)
        with pytest.raises(StoreUnavailableError, match="whether it did is not known"):
            store.file([make_request()])
        monkeypatch.undo()
        with pytest.raises(RequestExistsError):
            store.file([make_request()])

    def test_a_server_that_restarts_under_load(self) -> None:
        with own_server() as server, closing(PostgresStore(server.dsn)) as store:
            load = Load(store, 800)
            with load.scheduler:
                assert load.some.wait(PATIENCE)
                _pg_ctl(server, "restart", "-m", "immediate")
                with closing(PostgresStore(server.dsn)) as another:
                    load.assert_each_ran_once(another)

    @pytest.mark.slow
    def test_a_server_that_fails_over_under_load(self) -> None:
        with own_server() as server, standby(server) as (folder, promote):
            hosts = f"{server.folder},{folder}"
            both = psycopg.conninfo.make_conninfo(server.dsn, host=hosts, target_session_attrs="read-write")
            with closing(PostgresStore(both)) as store:
                load = Load(store, 800)
                with load.scheduler as scheduler:
                    assert load.some.wait(PATIENCE)
                    _pg_ctl(server, "stop", "-m", "immediate")
                    both_say = re.compile("(?=.*No such file or directory).*session is read-only")
                    wait_until(lambda: bool(both_say.search(str(scheduler._engine and scheduler._engine.problem))))
                    assert not scheduler.monitor.health().ok
                    promote()
                    with closing(PostgresStore(both)) as another:
                        load.assert_each_ran_once(another)

    def test_what_comes_too_late_is_refused_and_recorded(self, proxy: Any, make_store: Any, sql: Any) -> None:
        began, go_on = threading.Event(), threading.Event()

        def work() -> str:
            began.set()
            assert go_on.wait(PATIENCE)
            return "late"

        other = make_store()
        with Scheduler(make_store(proxy.dsn)) as scheduler:
            scheduler.process("work")(work)
            request = scheduler.schedule("work", Immediate())
            assert began.wait(PATIENCE)
            running = RunFilter(status=frozenset({RunStatus.RUNNING}))
            wait_until(lambda: len(other.reader().runs(running)) == 1)
            proxy.drop()
            sql(f"UPDATE {other.schema}.schedulers SET expires_at = '-infinity'")
            (run,) = other.reap(SystemClock().now())
            proxy.heal()
            go_on.set()
            wait_until(lambda: other.reader().log(run.id, 0, 9) != [])
            assert "a late result (success)" in other.reader().log(run.id, 0, 9)[-1].text
            (ended,) = other.reader().runs(RunFilter(request=request.id))
            assert (ended.status, ended.result) == (RunStatus.ABANDONED, None)
            scheduler.run_now("work")  # it goes on, under a new name
            wait_until(lambda: len(other.reader().runs(RunFilter(status=frozenset({RunStatus.SUCCESS})))) == 1)

    def test_a_child_leaves_its_parents_links_alone(self, store: PostgresStore) -> None:
        store.file([make_request("before")])
        child = os.fork()
        if child == 0:
            try:
                store.file([make_request("of-the-child")])
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        store.file([make_request("after")])
        assert len(store.reader().upcoming(9)) == 3


class TestOSProcesses:
    """Several schedulers, of which one after the other is killed and replaced."""

    def test_each_fire_time_has_one_run(self, store: PostgresStore, postgres_dsn: str, tmp_path: Path) -> None:
        self.soak(store, postgres_dsn, tmp_path / "signed", schedulers=4, requests=60, repetitions=3, kills=2, lease=4)

    @pytest.mark.slow
    def test_each_of_ten_thousand_fire_times_has_one_run(
        self, store: PostgresStore, postgres_dsn: str, tmp_path: Path
    ) -> None:
        self.soak(
            store, postgres_dsn, tmp_path / "signed", schedulers=8, requests=500, repetitions=20, kills=30, lease=15
        )

    def soak(
        self,
        store: PostgresStore,
        dsn: str,
        signed: Path,
        *,
        schedulers: int,
        requests: int,
        repetitions: int,
        kills: int,
        lease: int,
    ) -> None:
        expected = requests * repetitions
        living = [self.start(dsn, store.schema, signed, lease) for _ in range(schedulers)]
        try:
            for scheduler in living:
                assert scheduler.stdout is not None
                assert scheduler.stdout.readline() == "ready\n"
            timing = Schedule(EverySeconds(1), repetitions=repetitions)
            now = SystemClock().now()
            store.file([make_request(str(number), timing, now, process="sign") for number in range(requests)])
            for kill in range(1, kills + 1):
                self.wait_for_runs(store, expected * kill // (kills + 2))
                place = random.randrange(schedulers)
                living[place].send_signal(signal.SIGKILL)
                living[place].communicate()
                living[place] = self.start(dsn, store.schema, signed, lease)
            self.wait_for_runs(store, expected)
            wait_until(lambda: not self.going_on(store))
        finally:
            for scheduler in living:
                scheduler.communicate("", timeout=PATIENCE)
        self.judge(store, signed, expected)

    @staticmethod
    def start(dsn: str, schema: str, signed: Path, lease: int) -> "subprocess.Popen[str]":
        words: list[str | Path] = [sys.executable, "-W", "ignore", OS_PROCESS, dsn, schema, signed, str(lease)]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def wait_for_runs(store: PostgresStore, count: int) -> None:
        def there() -> bool:
            with store.reading() as link:
                return bool(link.ask(f"SELECT count(*) >= %s FROM {store.schema}.runs", count)[0][0])

        wait_until(there)

    @staticmethod
    def going_on(store: PostgresStore) -> bool:
        """Whether a run is not ended; those of killed schedulers are, once their lease is over."""
        with store.reading() as link:
            return bool(link.ask(f"SELECT 1 FROM {store.schema}.runs WHERE status IN ('waiting', 'running') LIMIT 1"))

    @staticmethod
    def judge(store: PostgresStore, signed: Path, expected: int) -> None:
        with store.reading() as link:
            statuses: dict[str, int] = dict(link.ask(f"SELECT status, count(*) FROM {store.schema}.runs GROUP BY 1"))
            shares = link.ask(f"SELECT owner, count(*) FROM {store.schema}.runs GROUP BY 1 ORDER BY 2 DESC")
        print(f"\n{expected} fire times: {statuses}; shares {[count for _, count in shares]}")  # noqa: T201  a report
        lines = [line.rsplit(" ", 1)[0] for line in signed.read_text().splitlines()]
        assert len(lines) == len(set(lines)), "a fire time ran twice"
        assert sum(statuses.values()) == expected
        assert set(statuses) <= {"success", "abandoned"}
        assert statuses["success"] <= len(lines) <= expected


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
