"""What the monitor and a purge read does not grow with what nobody asked for.

On SQLite the planner is asked about every statement that is executed, and the steps of its machine are counted, in a
small store and in one with four times as many runs; on PostgreSQL the planner is asked, over enough rows that it would
use an index where there is one.
"""

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bgsched import LogLine, Monitor, PostgresStore, Retention, Run, RunStatus, SQLiteStore, Store
from bgsched.stores import _columns, _sql_filters
from bgsched.stores._sqlite_reader import look_into
from bgsched.stores._steps import Transaction
from bgsched.stores.base import Ended
from bgsched.testing import ManualClock
from bgsched.testing.contract import FixedPlanner, make_request, sign_on
from bgsched.timing import Later

NOW = datetime(2026, 6, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
Ask = Callable[[Monitor], object]

QUESTIONS: dict[str, Ask] = {
    "page": lambda m: m.runs(),
    "deep page": lambda m: m.runs(before=500),
    "process": lambda m: m.runs("p1"),
    "request": lambda m: m.runs(request="r1"),
    "status": lambda m: m.runs(status="error", limit=20),
    "process and status": lambda m: m.runs("p1", status="success"),
    "rare status": lambda m: m.runs(status="killed"),
    "failures of a request": lambda m: m.runs(request="r1", status=("error", "timed_out")),
    "user": lambda m: m.runs(user="ann", limit=20),
    "failures of a user": lambda m: m.runs(user="ann", status="error", limit=20),
    "user and process": lambda m: m.runs("p1", user="ann", limit=20),
    "user, process and status": lambda m: m.runs("p1", user="ann", status="error"),
    "user and request": lambda m: m.runs(request="r1", user="ann"),
    "user and week": lambda m: m.runs(user="ann", since=NOW - 2 * WEEK, until=NOW - WEEK, limit=20),
    "user and text": lambda m: m.runs(user="ann", text="hello", limit=20),
    "process and request": lambda m: m.runs("p1", request="r1"),
    "process and week": lambda m: m.runs("p1", since=NOW - 2 * WEEK, until=NOW - WEEK, limit=20),
    "process and text": lambda m: m.runs("p1", text="hello", limit=20),
    "request and week": lambda m: m.runs(request="r1", since=NOW - 2 * WEEK, until=NOW - WEEK),
    "request and text": lambda m: m.runs(request="r1", text="hello"),
    "status and week": lambda m: m.runs(status="error", since=NOW - 2 * WEEK, until=NOW - WEEK, limit=10),
    "status and text": lambda m: m.runs(status="error", text="hello", limit=20),
    "status and what is going on": lambda m: m.runs(status=("success", "running", "waiting"), limit=20),
    "week and text": lambda m: m.runs(text="hello", since=NOW - 2 * WEEK, until=NOW - WEEK, limit=20),
    "successes of a request": lambda m: m.runs(request="r1", status="success"),
    "text": lambda m: m.runs(text="hello"),
    "text that is nowhere": lambda m: m.runs(text="nowhere"),
    "members": lambda m: m.runs(parent=7),
    "a week": lambda m: m.runs(since=NOW - 2 * WEEK, until=NOW - WEEK),
    "process in an hour": lambda m: m.runs("p1", since=NOW - WEEK, until=NOW - WEEK + timedelta(hours=1)),
    "one run": lambda m: m.run(5),
    "log": lambda m: m.log(5),
    "running": lambda m: m.running(),
    "running of a request": lambda m: m.runs(request="r1", status="running"),
    "running of a request of many runs": lambda m: m.runs(request="busy", status="running"),
    "running of a process": lambda m: m.runs("p1", status="running"),
    "running of a user": lambda m: m.runs(user="ann", status="running"),
    "waiting": lambda m: m.runs(status="waiting", limit=20),
    "waiting of a user": lambda m: m.runs(user="ann", status="waiting"),
    "waiting of a user and process": lambda m: m.runs("p1", user="ann", status="waiting"),
    "running of a user and process": lambda m: m.runs("p1", user="ann", status="running"),
    "waiting, and those before": lambda m: m.runs(status="waiting", before=50),
    "waiting of a request": lambda m: m.runs(request="r1", status="waiting"),
    "requests": lambda m: m.requests(),
    "one request": lambda m: m.request("r1"),
    "upcoming": lambda m: m.upcoming(),
    "next due": lambda m: m.next_due("p1"),
    "first that waits": lambda m: m._reader.first_waiting(),
    "active processes": lambda m: m._reader.active_processes(),
    "holder of a key": lambda m: m._reader.holder("held"),
    "why": lambda m: m.why("r1"),
    "health": lambda m: m.health(),
    "summary": lambda m: m.summary(since=NOW - timedelta(hours=3)),
    "summary of a process": lambda m: m.summary("p1", since=NOW - timedelta(hours=3)),
    "histogram": lambda m: m.histogram(since=NOW - timedelta(days=1), until=NOW),
    "histogram of a process": lambda m: m.histogram("p1", since=NOW - timedelta(days=1), until=NOW),
    "totals": lambda m: m.totals(NOW - timedelta(hours=2)),
}


OTHERS = 2_000
OF_ALL = {"running", "summary", "histogram", "totals"}


def fill(store: Store, runs: int) -> None:
    later = Later(NOW + WEEK)
    with store.transaction() as tx:
        tx.put_requests([make_request(f"r{n}", later, NOW - 5 * WEEK, process=f"p{n % 5}") for n in range(runs // 10)])
        tx.count_ended([Ended(NOW - timedelta(hours=h), "p1", RunStatus.SUCCESS, 1) for h in range(900)], "x")
        stored = tx.insert_runs([_run(n, runs) for n in range(runs)])
        tx.append_log([LogLine(run.id, seq, NOW, "INFO", "x", "hello") for run in stored for seq in (1, 2)])


def _run(n: int, runs: int) -> Run:
    at = NOW - 5 * WEEK + n * (5 * WEEK / runs)
    return Run(
        request_id=f"r{n % (runs // 10)}",
        process=f"p{n % 5}",
        user="ann" if n % 50 == 0 else None,
        fire_time=at,
        recorded_at=at,
        started_at=at,
        finished_at=at,
        duration=timedelta(0),
        status=RunStatus.ERROR if n % 50 == 7 else RunStatus.SUCCESS,
        attempt=1,
        owner="x",
    )


@pytest.fixture(scope="module")
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path_factory.mktemp("plans") / "app.db")
    fill(store, 5_000)
    yield store
    store.close()


class TestSQLite:
    def scans(self, store: SQLiteStore, ask: Callable[[], object], connections: list[sqlite3.Connection]) -> list[str]:
        said: list[str] = []
        for connection in connections:
            connection.set_trace_callback(said.append)
        try:
            ask()
        finally:
            for connection in connections:
                connection.set_trace_callback(None)
        assert said
        explain = sqlite3.connect(store.path)
        look_into(explain)
        try:
            return [
                f"{step} in {statement}"
                for statement in said
                if statement.lstrip().upper().startswith(("SELECT", "DELETE", "UPDATE"))
                for *_, step in explain.execute(f"EXPLAIN QUERY PLAN {statement}")
                if _is_full_scan(step, statement)
            ]
        finally:
            explain.close()

    @pytest.mark.parametrize("name", QUESTIONS)
    def test_a_question_scans_no_table(self, sqlite_store: SQLiteStore, name: str) -> None:
        sqlite_store.reader().find_run(1)  # there is a connection now
        assert self.scans(sqlite_store, lambda: QUESTIONS[name](Monitor(sqlite_store)), sqlite_store._open.idle) == []

    def test_a_purge_scans_no_table(self, sqlite_store: SQLiteStore) -> None:
        sqlite_store.reader().find_run(1)
        assert sqlite_store._open.writer is not None
        retention = Retention(success=timedelta(days=30), per_process=900, complete=timedelta(days=30))
        bites = []
        found = self.scans(
            sqlite_store,
            lambda: bites.append(sqlite_store.purge(retention, NOW, limit=20)),
            [*sqlite_store._open.idle, sqlite_store._open.writer],
        )
        assert bites[0].runs == 20
        assert found == []


@pytest.fixture(scope="module")
def small_and_big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SQLiteStore, SQLiteStore]]:
    stores = SQLiteStore(tmp_path_factory.mktemp("small") / "a"), SQLiteStore(tmp_path_factory.mktemp("big") / "a")
    for store, runs in zip(stores, (2_000, 8_000), strict=True):
        with store.transaction() as tx:
            busy = [replace(_run(n, runs), request_id="busy", revision=n) for n in range(runs)]
            tx.insert_runs([replace(run, recorded_at=run.recorded_at - 6 * WEEK) for run in busy])
        fill(store, runs)
    yield stores
    for store in stores:
        store.close()


@pytest.fixture(scope="module")
def quiet_and_crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SQLiteStore, SQLiteStore]]:
    stores = SQLiteStore(tmp_path_factory.mktemp("quiet") / "a"), SQLiteStore(tmp_path_factory.mktemp("crowded") / "a")
    for store, others in zip(stores, (100, OTHERS), strict=True):
        fill(store, 2_000)
        crowd(store, others)
    yield stores
    for store in stores:
        store.close()


def crowd(store: Store, others: int) -> None:
    """Add runs that wait, run and have ended: a few of those that the questions name, *others* of somebody else.

    The others share nothing with them, or the process, or the user, or the request.
    """
    waiting = Run(request_id="r1", process="p1", user="ann", fire_time=NOW, recorded_at=NOW, due_at=NOW, revision=9)
    claimed = replace(waiting, revision=10, due_at=None, attempt=1, owner="x", claimed_at=NOW)
    running = replace(claimed, status=RunStatus.RUNNING, started_at=NOW)
    ended = replace(running, revision=11, status=RunStatus.SUCCESS, finished_at=NOW, duration=timedelta(0))
    with store.transaction() as tx:
        for run in (waiting, running, ended):
            insert_many(tx, run, 20)
            insert_many(tx, replace(run, request_id="other", process="other", user="other"), others)
            insert_many(tx, replace(run, request_id="another", user="other"), others if run is not ended else 0)
            insert_many(tx, replace(run, request_id="a third", process="other"), others)
            insert_many(tx, replace(run, revision=run.revision + 10, process="other", user="other"), others)
        tx.count_ended([Ended(NOW, f"other {n}", RunStatus.SUCCESS, 1) for n in range(others)], "x")


def insert_many(tx: Transaction, run: Run, count: int) -> None:
    """Insert copies of a run, each for a fire time of its own."""
    tx.insert_runs([replace(run, fire_time=NOW + timedelta(seconds=n)) for n in range(count)])


class TestGrowth:
    """The same questions, the same answers, four times the runs: a few steps more, for a deeper tree."""

    def steps(self, store: SQLiteStore, name: str) -> int:
        store.reader().find_run(1)
        with ExitStack() as stack:
            taken = [stack.enter_context(counting(connection)) for connection in store._open.idle]
            ASKED[name](Monitor(store, clock=ManualClock(NOW)))
            return sum(steps for (steps,) in taken)

    @pytest.mark.parametrize(
        "name",
        [name for name in QUESTIONS if name not in {"histogram", "histogram of a process", "totals", "next due"}],
    )
    def test_steps_do_not_grow_with_the_store(
        self, small_and_big: tuple[SQLiteStore, SQLiteStore], name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_sql_filters, "LOOK", 50)  # the small store has as many of what is looked at
        small, big = (self.steps(store, name) for store in small_and_big)
        assert big <= 1.3 * small + 500

    @pytest.mark.parametrize("name", [name for name in QUESTIONS if name not in OF_ALL])
    def test_steps_do_not_grow_with_what_is_of_others(
        self, quiet_and_crowded: tuple[SQLiteStore, SQLiteStore], name: str
    ) -> None:
        quiet, crowded = (self.steps(store, name) for store in quiet_and_crowded)
        assert crowded <= 1.1 * quiet + 200

    def test_steps_of_a_scheduler_that_leaves_do_not_grow_with_what_has_ended(
        self, small_and_big: tuple[SQLiteStore, SQLiteStore]
    ) -> None:
        def steps(store: SQLiteStore) -> int:
            with counting(store._write_connection()) as taken:
                assert store.held("nobody") == []
                assert store.sign_off("nobody", NOW) == []
            return taken[0]

        small, big = map(steps, small_and_big)
        assert 0 < big <= 1.3 * small + 500


@contextmanager
def counting(connection: sqlite3.Connection) -> Iterator[list[int]]:
    """Count the steps of SQLite's machine, by twenties."""
    taken = [0]

    def count() -> int:
        taken[0] += 20
        return 0

    connection.set_progress_handler(count, 20)
    yield taken
    connection.set_progress_handler(None, 0)


class TestQueue:
    """Runs that wait for one of their request, as those of somebody who asks for it again and again."""

    def steps(self, path: Path, waiting: int) -> int:
        with closing(SQLiteStore(path)) as store:
            store.file([make_request("r", Later(NOW + timedelta(days=1)), NOW)])
            run = Run(request_id="r", process="p", fire_time=NOW, recorded_at=NOW, due_at=NOW, overlap_key="request:r")
            with store.transaction() as tx:
                tx.insert_runs([replace(run, fire_time=NOW + n * timedelta(seconds=1)) for n in range(waiting)])
            sign_on(store, "a", NOW)
            with counting(store._write_connection()) as taken:
                assert len(store.claim(FixedPlanner(), "a", NOW, 10)) == 1
            return taken[0]

    def test_steps_grow_with_what_waits_and_not_with_its_square(self, tmp_path: Path) -> None:
        assert self.steps(tmp_path / "b", 800) < 5 * self.steps(tmp_path / "a", 200)


class TestBlocked:
    """Runs that all wait for one: how many of them are looked at, for one that waits for nothing, is bounded."""

    def test_steps_do_not_grow_with_what_is_blocked(self, tmp_path: Path) -> None:
        few, many = (self.steps(tmp_path / str(count), count) for count in (_columns.LOOK_WAITING, OTHERS))
        assert 0 < many <= 1.1 * few

    def steps(self, path: Path, waiting: int) -> int:
        with closing(SQLiteStore(path)) as store:
            block(store, waiting)
            assert store.reader().first_waiting() is None
            (connection,) = store._open.idle
            with counting(connection) as taken:
                store.reader().first_waiting()
            return taken[0]


def block(store: Store, waiting: int) -> None:
    run = Run(request_id="r", process="p", fire_time=NOW, recorded_at=NOW, due_at=NOW, overlap_key="request:r")
    held = replace(run, owner="x", attempt=1, claimed_at=NOW, due_at=None)
    with store.transaction() as tx:
        tx.insert_runs([held, *(replace(run, fire_time=NOW + n * timedelta(seconds=1)) for n in range(1, waiting + 1))])


ASKED = QUESTIONS | {
    # as many of the bigger store's runs, which lie closer together
    "summary": lambda m: m.summary(since=_after_the_last(m, 100)),
    "summary of a process": lambda m: m.summary("p1", since=_after_the_last(m, 100)),
}


def _after_the_last(monitor: Monitor, count: int) -> datetime:
    return monitor.runs(limit=count)[-1].recorded_at


def _is_full_scan(step: str, statement: str) -> bool:
    """Whether a step reads a whole table; not where a LIMIT ends it, along the order that is asked for."""
    scan = re.match(r"SCAN (bgsched_runs|bgsched_requests|bgsched_log|run|newer)\b", step)
    if scan is None:
        return False
    orderly = re.search(r"ORDER BY \+?(run\.)?id( DESC)? LIMIT \d+\s*$", statement)
    return orderly is None or "USING INDEX" in step


@pytest.fixture(scope="module", params=["analyzed", "never analyzed"])
def postgres_store(postgres_dsn: str, request: pytest.FixtureRequest) -> Iterator[PostgresStore]:
    """Lend a store of which the planner knows all, and one of which it knows nothing, as soon after a great change."""
    with planned_store(postgres_dsn, lambda store: fill(store, 8_000), analyzed=request.param == "analyzed") as store:
        yield store


@pytest.fixture(scope="module", params=["analyzed", "never analyzed", "analyzed when nothing went on"])
def crowded_postgres_store(postgres_dsn: str, request: pytest.FixtureRequest) -> Iterator[PostgresStore]:
    """Lend a store in which many runs of somebody who is not asked for wait, run and have ended.

    Where nothing went on when the planner last looked, it takes the indexes of what goes on for empty.
    """

    def add(store: PostgresStore) -> None:
        crowd(store, OTHERS)

    def fill_and_add(store: PostgresStore) -> None:
        fill(store, 2_000)
        add(store)

    if request.param == "analyzed when nothing went on":
        with planned_store(postgres_dsn, lambda store: fill(store, 2_000), analyzed=True) as store:
            add(store)
            yield store
        return
    with planned_store(postgres_dsn, fill_and_add, analyzed=request.param == "analyzed") as store:
        yield store


@pytest.fixture(scope="module")
def quiet_postgres_store(postgres_dsn: str) -> Iterator[PostgresStore]:
    """Lend the same store with few of those."""

    def fill_and_crowd(store: PostgresStore) -> None:
        fill(store, 2_000)
        crowd(store, 100)

    with planned_store(postgres_dsn, fill_and_crowd, analyzed=False) as store:
        yield store


def _pages(plan: dict[str, Any]) -> int:
    """Return how many pages were looked at to execute a plan."""
    return int(plan["Plan"]["Shared Hit Blocks"]) + int(plan["Plan"]["Shared Read Blocks"])


def _removed(node: dict[str, Any]) -> float:
    """Return how many rows were read, and were not meant."""
    removed = node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
    return float(removed) + sum(_removed(inner) for inner in node.get("Plans", ()))


@contextmanager
def planned_store(dsn: str, fill: Callable[[PostgresStore], None], *, analyzed: bool) -> Iterator[PostgresStore]:
    from _postgres import temporary_schema

    tables = ("runs", "requests", "log", "ended")
    with temporary_schema(dsn) as schema, psycopg.connect(dsn, autocommit=True) as connection:
        store = PostgresStore(dsn, schema=schema)
        for table in tables:
            connection.execute(f"ALTER TABLE {schema}.{table} SET (autovacuum_enabled = false)".encode())
        fill(store)
        for table in tables if analyzed else ():
            connection.execute(f"VACUUM ANALYZE {schema}.{table}".encode())
        yield store
        store.close()


class TestPostgres:
    @pytest.mark.parametrize("name", QUESTIONS)
    def test_a_question_scans_no_table(
        self, postgres_store: PostgresStore, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plans = self.plans(monkeypatch)
        QUESTIONS[name](Monitor(postgres_store))
        assert plans
        assert [p for p in plans if re.search(r"Seq Scan on (runs|requests|log)\b", p)] == []
        assert [p for p in plans if "Bitmap" in p] == []  # it would collect all that match, however few are wanted
        if not name.startswith("summary"):
            assert [p for p in plans if "figures" in p] == []  # it tells no page where it begins and ends

    @pytest.mark.parametrize("name", [name for name in QUESTIONS if name not in OF_ALL])
    def test_a_question_looks_at_nothing_of_others(
        self,
        quiet_postgres_store: PostgresStore,
        crowded_postgres_store: PostgresStore,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        plans = self.plans(monkeypatch, "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)")
        QUESTIONS[name](Monitor(quiet_postgres_store))
        quiet = sum(_pages(plan) for (plan,) in plans)
        plans.clear()
        QUESTIONS[name](Monitor(crowded_postgres_store))
        assert 0 < sum(_pages(plan) for (plan,) in plans) < 2 * quiet + 15
        assert sum(_removed(plan["Plan"]) for (plan,) in plans) < OTHERS / 4

    @pytest.mark.parametrize("analyzed", [True, False])
    def test_it_looks_at_no_more_of_what_is_blocked_than_it_must(
        self, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, *, analyzed: bool
    ) -> None:
        with planned_store(postgres_dsn, lambda store: block(store, OTHERS), analyzed=analyzed) as store:
            plans = self.plans(monkeypatch, "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF)")
            assert store.reader().first_waiting() is None
        counted = [int(count) for plan in plans for count in re.findall(r"(?:rows=|Filter: )(\d+)", plan)]
        assert 0 < max(counted) <= _columns.LOOK_WAITING

    def plans(self, monkeypatch: pytest.MonkeyPatch, explain: str = "EXPLAIN") -> list[Any]:
        """Have each question explained where it is asked, inside its transaction: that says how to plan."""
        from bgsched.stores import _wire

        plans: list[Any] = []

        def explaining(link: _wire.Link, statements: Iterable[_wire.Statement]) -> list[list[tuple[object, ...]]]:
            rows = []
            for query, values in statements:
                if query.startswith(("SELECT", "WITH")):
                    plans.extend(row[0] for row in link.execute(f"{explain} {query}", values))
                cursor = link.execute(query, values, binary=True)
                rows.append(cursor.fetchall() if cursor.description else [])
            return rows

        monkeypatch.setattr(_wire.Link, "send", explaining)
        return plans
