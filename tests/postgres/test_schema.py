"""The schema: made and migrated by many at once, beside other tables, with few rights; and what people see of it."""

import re
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import _postgres
import psycopg
import pytest
from postgres._machines import SECOND, as_role, at_once, claim, record_of, succeeded

from bgsched import (
    Immediate,
    PostgresStore,
    Run,
    RunStatus,
    Scheduler,
    StoreUnavailableError,
)
from bgsched.run import LogLine, RunError
from bgsched.stores import _postgres_schema
from bgsched.stores.base import Report, RunFilter
from bgsched.testing.contract import T0, make_request


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

    @pytest.mark.parametrize(
        ("encoding", "settings"),
        [
            ("SQL_ASCII", {}),
            ("UTF8", {"client_encoding": "LATIN1"}),
            ("UTF8", {"default_transaction_read_only": "on", "default_transaction_isolation": "serializable"}),
            ("UTF8", {"datestyle": "SQL, DMY", "timezone": "Asia/Kathmandu", "intervalstyle": "sql_standard"}),
            ("UTF8", {"statement_timeout": "1min", "standard_conforming_strings": "off", "search_path": ""}),
        ],
        ids=str,
    )
    def test_what_the_database_says_of_its_sessions_changes_nothing(
        self, postgres_dsn: str, encoding: str, settings: dict[str, str]
    ) -> None:
        with (
            _postgres.temporary_database(postgres_dsn, encoding, **settings) as dsn,
            closing(PostgresStore(dsn)) as store,
        ):
            request = make_request(user="ann €", params={"x": "ü 😀"})
            store.file([request])
            (run,) = claim(store, "a")
            for _ in range(2):
                assert store.heartbeat(record_of("a"))
            assert store.record("a", T0, Report([replace(succeeded(run), result="€")])) == []
            (found,) = store.reader().runs(RunFilter(user="ann €", text=None))
            assert (found.params, found.result, found.duration) == (request.params, "€", SECOND)
            assert found.fire_time == T0

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

    def test_another_role_can_work_with_what_the_guide_grants_it(
        self, store: PostgresStore, postgres_dsn: str, sql: Any, role: str
    ) -> None:
        guide = Path(__file__).parents[2] / "docs" / "how-to" / "postgresql.md"
        ((owner,),) = sql("SELECT current_user")
        for grant in re.findall(r"(?m)^(?:GRANT|ALTER DEFAULT).* TO other;", guide.read_text()):
            sql(grant.replace(" bgsched ", f" {store.schema} ").replace("other", role).replace(" app ", f' "{owner}" '))
        sql(f"CREATE TABLE {store.schema}.of_a_later_version (n bigint GENERATED ALWAYS AS IDENTITY)")
        with psycopg.connect(as_role(postgres_dsn, role)) as link:
            link.execute(f"INSERT INTO {store.schema}.of_a_later_version DEFAULT VALUES".encode())
        with closing(PostgresStore(as_role(postgres_dsn, role), schema=store.schema)) as other:
            other.file([make_request(str(number)) for number in range(20)])
            runs = claim(other, "a")
            assert other.record("a", T0, Report([succeeded(run) for run in runs])) == []
            other.delete("7")
            assert len(store.reader().runs(RunFilter(limit=100))) == 19

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

    def test_what_dashboards_ask_of_runs_is_found_by_index(
        self, store: PostgresStore, sql: Callable[..., list[tuple[Any, ...]]]
    ) -> None:
        page = Path(__file__).parents[2] / "docs" / "how-to" / "sql.md"
        asked = re.findall(r'"""(.*?)"""', page.read_text(), re.DOTALL)
        questions = [question for question in asked if re.search("process_monitor\\s+WHERE", question)]
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        old = succeeded(Run(request_id="r", process="p", fire_time=long_ago, recorded_at=long_ago))
        with store.transaction() as tx:
            tx.insert_runs([replace(old, fire_time=long_ago + n * SECOND) for n in range(2_000)])
        sql(f"VACUUM ANALYZE {store.schema}.runs")
        for question in questions:
            plan = str(sql(f"EXPLAIN ANALYZE {question}".replace("bgsched.", f"{store.schema}.")))
            assert "Seq Scan on runs" not in plan
            assert [int(rows) for rows in re.findall(r"Removed by Filter: (\d+)", plan) if int(rows) > 100] == []
        assert len(questions) == 3

    def test_what_the_server_cannot_keep_is_kept_as_well_as_it_can(self, store: PostgresStore) -> None:
        store.file([make_request(user="a\x00b", params={"x": "\x00 \udc80 ü 😀"})])
        (run,) = claim(store, "a")
        line = LogLine(run.id, 1, T0, "INFO", "x", "a\x00b \udc80")
        assert store.record("a", T0, Report([replace(succeeded(run), result="\x00")], [line])) == []
        found = store.reader().runs(RunFilter())[0]
        assert (found.user, found.params, found.result) == ("a\\x00b", {"x": "\x00 \udc80 ü 😀"}, "\x00")
        assert store.reader().log(run.id, 0, 9)[0].text == "a\\x00b \\udc80"

    def test_a_value_that_the_server_refuses_is_told_from_a_server_that_is_away(self, store: PostgresStore) -> None:
        """What is away is asked again and again; this would never go through, and hold up what else is reported."""
        store.file([make_request("r"), make_request("s")])
        runs = claim(store, "a")
        with pytest.raises(ValueError, match="cannot keep a value: invalid input syntax for type json"):
            store.record("a", T0, Report([replace(succeeded(runs[0]), result=float("nan"))]))
        assert store.record("a", T0, Report([succeeded(runs[1])])) == []

    def test_a_plan_is_not_compiled(self, store: PostgresStore) -> None:
        """It costs a hundred times what it saves, and a plan that scans has a fantastic cost where scans are off."""
        with store.reading() as reading, store._writers.transaction() as writing:
            assert [talk.ask("SELECT current_setting('jit')") for talk in (reading, writing)] == [[("off",)]] * 2

    def test_instants_are_exact_to_the_end_of_time(self, store: PostgresStore) -> None:
        far = datetime.fromisoformat("9999-12-29T23:59:59.999999+00:00")
        request = replace(make_request(), next_fire_time=far, due_at=far)
        store.file([request])
        assert store.reader().find_request("r") == request
