"""What happens to SQLite files in the real world: a clear error, the loop alive, nothing lost, and recovery."""

import gc
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from bgsched import (
    Daily,
    Immediate,
    Later,
    RunStatus,
    Schedule,
    Scheduler,
    SQLiteStore,
    StoreSchemaError,
    StoreUnavailableError,
    StoreURLError,
    open_store,
)
from bgsched._evolve import evolve
from bgsched._moved_times import zone_database
from bgsched.stores import sqlite
from bgsched.stores._sqlite_schema import Schema
from bgsched.stores.base import Report, RequestFilter, RunFilter
from bgsched.testing import ManualClock
from bgsched.testing.contract import T0, make_request
from bgsched.timing import EverySeconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, timeout=0.05)
    yield store
    store.close()


def scheduler_on(store: SQLiteStore) -> Scheduler:
    scheduler = Scheduler(store, clock=ManualClock(T0))
    scheduler.process("p")(lambda text="": text)
    return scheduler


def test_a_full_disk(store: SQLiteStore) -> None:
    scheduler = scheduler_on(store)
    kept = scheduler.schedule("p", Immediate())
    connection = store._write_connection()
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(StoreUnavailableError, match="the disk is full"):
        scheduler.schedule_many([("p", Immediate(), {"text": "x" * 5000}) for _ in range(50)])
    assert [request.id for request in scheduler.monitor.requests()] == [kept.id]
    connection.execute("PRAGMA max_page_count = 100000")
    scheduler.run_pending()
    assert scheduler.monitor.runs()[0].status is RunStatus.SUCCESS


def test_locked_by_a_foreign_transaction(store: SQLiteStore, path: Path) -> None:
    scheduler = scheduler_on(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="another writer held it"):
            scheduler.schedule("p", Immediate())
        assert scheduler.monitor.requests() == []
    scheduler.schedule("p", Immediate())


def test_locked_by_a_foreign_transaction_for_a_minute(path: Path) -> None:
    """The thread lives and says why; what ended meanwhile is stored, and what was due is run, once it is over."""
    clock, begun, release, done = ManualClock(T0), threading.Event(), threading.Event(), threading.Event()

    def p() -> str:
        begun.set()
        release.wait(30)
        return "kept"

    with (
        closing(SQLiteStore(path, timeout=0.01)) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        scheduler = Scheduler(store, clock=clock)
        scheduler.process("p")(p)
        scheduler.process("q")(done.set)
        with scheduler:
            scheduler.schedule("q", Later(T0 + timedelta(seconds=30)))
            request = scheduler.schedule("p", Immediate())
            assert begun.wait(30)
            other.execute("BEGIN IMMEDIATE")
            release.set()
            for _ in range(60):
                clock.wait_for_waiters()
                clock.advance(1)
            assert scheduler.running
            problem = next(problem for problem in scheduler.monitor.health().problems if "another writer" in problem)
            assert "(since 2026-01-01 00:00:0" in problem
            other.execute("ROLLBACK")
            while not done.is_set():
                clock.wait_for_waiters()
                clock.advance(1)
        assert [run.result for run in scheduler.monitor.runs(request=request.id)] == ["kept"]
        assert scheduler.monitor.runs(process="q")[0].status is RunStatus.SUCCESS


def test_a_database_that_cannot_be_written_any_more(store: SQLiteStore) -> None:
    scheduler = scheduler_on(store)
    request = scheduler.schedule("p", Immediate())
    store._write_connection().execute("PRAGMA query_only = ON")  # SQLite answers as where the file is read only
    with pytest.raises(StoreUnavailableError, match="the file or its folder cannot be written"):
        scheduler.run_pending()
    assert [found.id for found in scheduler.monitor.requests()] == [request.id]
    scheduler.run_until_idle()  # by a new connection
    assert scheduler.monitor.runs()[0].status is RunStatus.SUCCESS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_file_that_was_made_read_only() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, where nobody else may look
        Path(folder).chmod(0o755)
        path = Path(folder) / "app.db"
        with closing(SQLiteStore(path)) as store:
            scheduler_on(store).schedule("p", Immediate())
            store.close()
            path.chmod(0o444)
            assert _refused_to_somebody_else(path)
            path.chmod(0o644)
            assert len(store.reader().requests(RequestFilter())) == 1


def _refused_to_somebody_else(path: Path) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setuid(65_534)  # the superuser is refused nothing
            with closing(SQLiteStore(path)) as own:
                scheduler_on(own).run_pending()
        except StoreUnavailableError as error:
            code = 0 if "this user may not write it" in str(error) else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_that_was_deleted_is_not_written_on(store: SQLiteStore, path: Path) -> None:
    scheduler = scheduler_on(store)
    request = scheduler.schedule("p", Immediate())
    moved = path.rename(path.with_name("moved.db"))
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="deleted or moved while it was in use"):
            scheduler.schedule("p", Immediate())
    assert not path.exists()
    assert "deleted or moved" in scheduler.monitor.health().problems[0]
    moved.rename(path)
    scheduler.run_pending()
    assert [run.request_id for run in scheduler.monitor.runs()] == [request.id]


def test_a_file_that_was_replaced_is_taken_up(store: SQLiteStore, path: Path, tmp_path: Path) -> None:
    scheduler = scheduler_on(store)
    first = scheduler.schedule("p", Immediate())
    with closing(SQLiteStore(tmp_path / "copy.db")) as other, closing(sqlite3.connect(path)) as source:
        source.backup(other._write_connection())
    scheduler.schedule("p", Immediate())
    (tmp_path / "copy.db").replace(path)
    with pytest.raises(StoreUnavailableError, match="-wal beside it belongs to the file that was there before"):
        scheduler.monitor.requests()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    assert [request.id for request in scheduler.monitor.requests()] == [first.id]
    scheduler.run_pending()
    assert scheduler.monitor.runs()[0].status is RunStatus.SUCCESS


def test_a_scheduler_goes_on_in_a_file_that_does_not_know_it(store: SQLiteStore) -> None:
    scheduler = scheduler_on(store)
    scheduler.run_pending()
    with store.transaction() as tx:
        tx.delete_scheduler(store.reader().schedulers()[0].owner)
    scheduler.schedule("p", Immediate())
    scheduler.run_until_idle()
    assert scheduler.monitor.runs()[0].status is RunStatus.SUCCESS
    assert len(scheduler.monitor.schedulers()) == 1


def test_a_future_schema(store: SQLiteStore, path: Path) -> None:
    scheduler = scheduler_on(store)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("INSERT INTO bgsched_schema (version) VALUES (99)")
        newer.commit()
    with pytest.raises(StoreSchemaError, match="has schema 99, this bgsched knows up to"):
        scheduler.schedule("p", Immediate())
    with pytest.raises(StoreSchemaError, match="upgrade bgsched"):
        SQLiteStore(path)


def test_a_log_that_was_removed_while_it_is_in_use(store: SQLiteStore, path: Path) -> None:
    scheduler = scheduler_on(store)
    kept = [scheduler.schedule("p", Immediate()).id for _ in range(2)]
    path.with_name("app.db-wal").unlink()
    with pytest.raises(StoreUnavailableError, match="-wal was removed while it was in use"):
        scheduler.schedule("p", Immediate())
    with closing(sqlite3.connect(path)) as other:
        assert {id for (id,) in other.execute("SELECT id FROM bgsched_requests")} == set(kept)
    scheduler.run_until_idle()
    assert {run.request_id for run in scheduler.monitor.runs()} == set(kept)


@pytest.mark.parametrize("removed", [["-wal", "-shm"], ["-wal"]])
def test_what_others_stored_without_the_log_that_was_removed_stays(path: Path, removed: list[str]) -> None:
    """A host that only files, idle since; what it still has in hand is older than what has been stored meanwhile."""
    script = (
        "import sys; from bgsched import SQLiteStore; from bgsched.testing.contract import make_request\n"
        "store = SQLiteStore(sys.argv[1])\n"
        "for n in range(300): store.file([make_request(f'new {n}')])\n"
        "store.close()\n"
    )
    idle = (
        "import os, subprocess, sys; from bgsched import SQLiteStore, StoreUnavailableError\n"
        "from bgsched.testing.contract import make_request\n"
        "path, script, *removed = sys.argv[1:]\n"
        "SQLiteStore(path).close(); store = SQLiteStore(path)\n"
        "store.file([make_request(f'old {n}') for n in range(100)])\n"
        "for suffix in removed: os.unlink(path + suffix)\n"
        "subprocess.run([sys.executable, '-c', script, path])\n"
        "try: store.file([make_request('late')])\n"
        "except StoreUnavailableError as error: print(error)\n"
        "store.close()\n"
    )
    command = [sys.executable, "-c", idle, str(path), script, *removed]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert "-wal was removed while it was in use" in told.stdout
    with closing(sqlite3.connect(path)) as look:
        assert look.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (new,) = look.execute("SELECT count(*) FROM bgsched_requests WHERE id LIKE 'new%'").fetchone()
    assert new == (300 if len(removed) > 1 else 0)  # without the log, but with its index, others are refused


def test_a_log_that_was_removed_after_the_first_word(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        store.close()
        store.file([make_request()])
        path.with_name("app.db-wal").unlink()
        with pytest.raises(StoreUnavailableError, match="-wal was removed while it was in use"):
            store.file([make_request("late")])
        assert [request.id for request in store.reader().requests(RequestFilter())] == ["r"]


def test_a_log_that_was_removed_while_others_use_it(store: SQLiteStore, path: Path) -> None:
    """Nothing is begun beside what they still have: they close it first."""
    scheduler = scheduler_on(store)
    kept = scheduler.schedule("p", Immediate())
    other = sqlite3.connect(path)
    assert other.execute("SELECT count(*) FROM bgsched_requests").fetchone() == (1,)
    path.with_name("app.db-wal").unlink()
    with pytest.raises(StoreUnavailableError, match="-wal was removed while it was in use"):
        scheduler.monitor.requests()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="removed while others have the database open"):
            scheduler.monitor.requests()
    assert not path.with_name("app.db-wal").exists()
    other.close()
    scheduler.run_until_idle()
    assert [run.request_id for run in scheduler.monitor.runs()] == [kept.id]


def test_a_log_that_comes_and_goes_with_those_who_have_the_database_open(store: SQLiteStore, path: Path) -> None:
    """Whoever closes last removes it, whoever opens first makes it: that is no reason to complain."""
    others = [SQLiteStore(path), SQLiteStore(path, read_only=True)]
    assert [one.reader().schedulers() for one in (store, *others)] == [[], [], []]
    for closed in (store, *others, store):
        closed.close()
        for one in (*others, store):
            assert one.reader().schedulers() == []
            one._disconnect()
            assert one.reader().schedulers() == []
    store.file([make_request()])
    with pytest.raises(ZeroDivisionError), others[0].reading():
        raise ZeroDivisionError
    for one in (*reversed(others), store):  # who only reads removes nothing
        one._disconnect()
    assert not path.with_name("app.db-wal").exists()
    assert all(one.reader().find_request("r") for one in (store, *others))
    for one in others:
        one.close()


class TestLinks:
    @pytest.fixture
    def link(self, path: Path, tmp_path: Path) -> Path:
        link = tmp_path / "release" / "linked.db"
        link.parent.mkdir()
        link.symlink_to(path)
        return link

    def test_who_came_by_a_link_sees_that_others_live(self, store: SQLiteStore, path: Path, link: Path) -> None:
        scheduler = scheduler_on(store)
        scheduler.run_pending()
        with closing(SQLiteStore(link)) as linked:
            assert linked.path == link
            (record,) = linked.reader().schedulers()
            assert record.is_alive(T0 + timedelta(days=1))
            assert linked.reap(T0 + timedelta(days=1)) == []
            assert len(store.reader().schedulers()) == 1
        assert [found.name for found in link.parent.iterdir()] == [link.name]
        assert not path.with_name("linked.db.owners").exists()

    def test_a_file_that_was_replaced_behind_a_link(self, path: Path, link: Path, tmp_path: Path) -> None:
        SQLiteStore(tmp_path / "copy.db").close()
        with closing(SQLiteStore(link)) as store:
            store.file([make_request()])
            content = (tmp_path / "copy.db").read_bytes()
            (tmp_path / "copy.db").replace(path)
            with pytest.raises(StoreUnavailableError, match=r"app\.db-wal beside it belongs to the file that"):
                store.reader().schedulers()
            assert path.read_bytes() == content

    def test_a_link_that_leads_elsewhere_meanwhile(self, path: Path, link: Path, tmp_path: Path) -> None:
        SQLiteStore(tmp_path / "other.db").close()
        with closing(SQLiteStore(link)) as store:
            store.file([make_request()])
            link.unlink()
            link.symlink_to(tmp_path / "other.db")
            for _ in range(2):
                with pytest.raises(StoreUnavailableError, match=f"led to {path} when it was opened"):
                    store.reader().schedulers()
            link.unlink()
            link.symlink_to(path)
            assert store.reader().find_request("r") is not None

    def test_a_file_with_two_names_is_warned_of(
        self, store: SQLiteStore, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "too.db").hardlink_to(path)
        with closing(SQLiteStore(path)) as other:
            other.reader().schedulers()
        (said,) = caplog.messages
        assert said.startswith(f"{path} has 2 names (hard links)")


def test_a_look_at_a_file_that_is_written_meanwhile_counts_for_nothing(path: Path) -> None:
    SQLiteStore(path).close()
    os.utime(path, (0, 0))
    watching = SQLiteStore(path, read_only=True)
    with pytest.raises(StoreUnavailableError, match="was written while it was read"), watching.reading():
        write_something(path)
    assert watching.reader().find_request("r") is not None


def write_something(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        store.file([make_request()])


@pytest.mark.parametrize("name", ["100%25 #1?mode=rw.db", "déjà vu & co.db", "a+b\\c.db", "\udcff.db"])
def test_a_name_that_an_address_does_not_take_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    SQLiteStore(path).close()
    watching = SQLiteStore(path, read_only=True)
    assert watching.reader().find_request("r") is None
    with closing(SQLiteStore(path)) as store:
        store.file([make_request()])
        assert watching.reader().find_request("r") is not None
        watching.close()


def test_a_question_that_was_overtaken_is_asked_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SQLiteStore(path)) as store:
        store.file([make_request()])
    times = iter(range(3))  # each look is overtaken by another writer, the third time by nobody
    connect = SQLiteStore._connect_to_read

    def overtaken(watching: SQLiteStore, options: str | None) -> sqlite3.Connection:
        connection = connect(watching, options)
        if next(times) < 2:
            with closing(SQLiteStore(path)) as store:
                store.change("r", lambda found: found and evolve(found, user="somebody"), T0)
        return connection

    watching = SQLiteStore(path, read_only=True)
    monkeypatch.setattr(SQLiteStore, "_connect_to_read", overtaken)
    assert [request.user for request in watching.reader().requests(RequestFilter())] == ["somebody"]
    assert next(times, None) is None


def test_a_write_within_the_tick_of_a_coarse_clock_may_go_unnoticed(path: Path) -> None:
    SQLiteStore(path).close()
    watching = SQLiteStore(path, read_only=True)
    now = int(time.time())
    os.utime(path, (now, now))
    with pytest.raises(StoreUnavailableError, match="was written while it was read"):
        watching.reader().upcoming(1)
    os.utime(path, (now - 60, now - 60))
    assert watching.reader().upcoming(1) == []


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ("CREATE TABLE bgsched_schema (version); INSERT INTO bgsched_schema VALUES ('abc')", "schema says 'abc'"),
        ("CREATE TABLE bgsched_schema (version); INSERT INTO bgsched_schema VALUES (-3)", "schema says -3"),
        ("CREATE TABLE bgsched_schema (version); INSERT INTO bgsched_schema VALUES (0)", "schema says 0"),
        ("CREATE TABLE bgsched_schema (version); INSERT INTO bgsched_schema VALUES (0.5)", "schema says 0.5"),
        ("CREATE TABLE bgsched_schema (number)", "are not as they were made .no such column"),
        ("CREATE TABLE bgsched_requests (id)", "another program has its tables there .table bgsched_requests already"),
        ("CREATE TABLE bgsched_runs_status (id)", "another program has its tables there .there is already a table"),
    ],
)
def test_tables_of_another_program(path: Path, tables: str, says: str) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.executescript(tables)
    before = path.read_bytes()
    with pytest.raises(StoreSchemaError, match=says):
        SQLiteStore(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    assert path.read_bytes()[100:] == before[100:]  # but for the header, which counts changes


def test_to_look_whose_tables_they_are_waits_for_who_is_at_them(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes the database last has it for himself for a moment."""
    SQLiteStore(path).close()
    others: list[sqlite3.Connection] = []
    is_there = Schema._is_there

    def beside_another(schema: Schema, connection: sqlite3.Connection) -> bool:
        if not others:
            others.append(sqlite3.connect(path, isolation_level=None))
            others[0].execute("PRAGMA locking_mode = EXCLUSIVE")
            others[0].execute("BEGIN EXCLUSIVE")
        return is_there(schema, connection)

    monkeypatch.setattr(Schema, "_is_there", beside_another)
    monkeypatch.setattr(time, "sleep", lambda _: others[0].close())
    SQLiteStore(path).close()
    assert others


def test_what_is_refused_stays_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.executescript("CREATE TABLE bgsched_schema (version); INSERT INTO bgsched_schema VALUES (99)")
    before = path.read_bytes()
    with pytest.raises(StoreSchemaError, match="has schema 99"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_who_may_not_write_the_file_leaves_nothing_beside_it(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLite makes for another user would lock the owner out."""
    store.close()
    before = sorted(path.parent.iterdir())
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreUnavailableError, match="this user may not write it; read it with read_only=True"):
        SQLiteStore(path)
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("name", ["/", ""])
def test_what_names_no_file(name: str) -> None:
    with pytest.raises(StoreURLError, match="names no file; name one"):
        SQLiteStore(name)


def test_names_that_are_no_text_are_two(tmp_path: Path) -> None:
    for name in ("caf%E9.db", "caf%E8.db"):
        open_store(f"sqlite:///{tmp_path}/{name}").close()
    assert len(list(tmp_path.glob("*.db"))) == 2


def test_a_scheduler_that_is_dropped_is_dead(path: Path) -> None:
    def host(name: str) -> None:
        scheduler = Scheduler(SQLiteStore(path))
        scheduler.process(name)(lambda: None)
        scheduler.run_now(name)
        scheduler.run_pending()

    for name in ("first", "second"):
        host(name)
        gc.collect()
    with closing(SQLiteStore(path)) as store:
        assert len(store.reader().schedulers()) == 1
        store.reap(T0)
        assert store.reader().schedulers() == []


def test_who_only_files_says_by_which_zones(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        scheduler = Scheduler(store)
        scheduler.process("p")(lambda: None)
        scheduler.schedule("p", Schedule(Daily(), timezone="Europe/Rome"))
        assert store.reader().zone_databases() == {zone_database()}


def test_tables_that_are_gone(store: SQLiteStore) -> None:
    with store.transaction() as tx:
        tx._connection.execute("DROP TABLE bgsched_requests")
    for use in (lambda: store.reader().upcoming(1), lambda: store.file([make_request()])):
        with pytest.raises(StoreSchemaError, match=r"are not as they were made \(no such table"):
            use()


@pytest.mark.parametrize("rows", ["", "; INSERT INTO bgsched_schema VALUES (NULL)"])
def test_nothing_to_read_yet(path: Path, rows: str) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.executescript(f"CREATE TABLE bgsched_schema (version){rows}")
    with pytest.raises(StoreSchemaError, match="a scheduler makes them when it first starts there"):
        SQLiteStore(path, read_only=True)
    with closing(SQLiteStore(path)), closing(SQLiteStore(path, read_only=True)) as watching:
        assert watching.reader().schedulers() == []


def test_a_damaged_page(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        store.file([make_request(f"{n:03}", params={"x": "y" * 500}) for n in range(200)])
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    path.write_bytes(bytes(content))
    with pytest.raises(StoreSchemaError, match=r"is damaged .* restore it from a copy"):
        read_everything(path)


def read_everything(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        store.reader().requests(RequestFilter(limit=1000))


def test_a_long_reader_does_not_stop_the_writers_and_the_log_shrinks_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LONGEST_WAL", 100_000)
    wal = path.with_name("app.db-wal")
    with closing(SQLiteStore(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM bgsched_requests").fetchone()
        for n in range(60):
            store.file([make_request(f"{n}.{m}", params={"x": "y" * 2000}) for m in range(50)])
        grown = wal.stat().st_size
        reader.execute("COMMIT")
        for n in range(60, 70):
            store.file([make_request(f"{n}.{m}", params={"x": "y" * 2000}) for m in range(50)])
        assert grown > 5_000_000
        assert wal.stat().st_size < grown / 2


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE bgsched_requests SET timing = 'no json' WHERE id = 'bad'",
        "UPDATE bgsched_requests SET params = '[1' WHERE id = 'bad'",
        "UPDATE bgsched_requests SET status = 'nonsense' WHERE id = 'bad'",
        "UPDATE bgsched_requests SET created_at = 'never' WHERE id = 'bad'",
        "UPDATE bgsched_requests SET next_fire_time = 9e18 WHERE id = 'bad'",
    ],
)
def test_a_damaged_request_is_parked_and_stops_nobody(store: SQLiteStore, damage: str) -> None:
    scheduler = scheduler_on(store)
    scheduler.schedule("p", Immediate(), id="bad")
    with store.transaction() as tx:
        tx._connection.execute(damage)
    good = scheduler.schedule("p", Immediate(), id="good")
    scheduler.run_until_idle()
    assert [run.request_id for run in scheduler.monitor.runs()] == [good.id]
    assert "parked" in (scheduler.monitor.request("bad").reason or "")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE bgsched_runs SET started_at = 'then'",
        "UPDATE bgsched_runs SET params = 'none'",
        "UPDATE bgsched_runs SET attempts = '{'",
        "UPDATE bgsched_runs SET error = '[]'",
        "UPDATE bgsched_runs SET status = 'what'",
        "UPDATE bgsched_schedulers SET heartbeat_at = 'x', processes = '}'",
    ],
)
def test_damaged_records_can_be_listed_and_stop_nobody(store: SQLiteStore, damage: str) -> None:
    scheduler = scheduler_on(store)
    scheduler.schedule("p", Immediate())
    scheduler.run_pending()
    with store.transaction() as tx:
        tx._connection.execute(damage)
    assert len(scheduler.monitor.runs()) == 1
    assert len(scheduler.monitor.schedulers()) == 1
    other = scheduler_on(store)
    request = other.schedule("p", Immediate())
    other.run_pending()
    assert other.monitor.runs(request=request.id)[0].status is RunStatus.SUCCESS


@pytest.mark.parametrize("text", ["half a pair \ud800", "nul \x00", "file \udcff.txt"])
def test_text_that_a_database_does_not_take(store: SQLiteStore, text: str) -> None:
    scheduler = scheduler_on(store)

    def fail() -> None:
        raise OSError(text)

    scheduler.process("gives")(lambda: text)
    scheduler.process("fails")(fail)
    for name in ("gives", "fails", "p"):
        scheduler.schedule(name, Immediate(), id=name)
    scheduler.run_until_idle()
    assert scheduler.monitor.runs(request="p")[0].status is RunStatus.SUCCESS
    assert scheduler.monitor.runs(request="gives")[0].status is RunStatus.SUCCESS
    (failed,) = scheduler.monitor.runs(request="fails")
    assert failed.status is RunStatus.ERROR
    assert failed.error is not None
    assert failed.error.message.startswith(text[:3])


def test_a_lock_file_that_somebody_removed_leaves_it_to_the_lease(store: SQLiteStore, path: Path) -> None:
    scheduler = scheduler_on(store)
    scheduler.run_pending()
    shutil.rmtree(path.with_name("app.db.owners"))
    (record,) = store.reader().schedulers()
    assert store.reap(T0 + timedelta(seconds=1)) == []
    assert not store.vouches_for(record.owner)
    assert not store.is_gone(record, record.lease_until)
    assert store.is_gone(record, record.lease_until + timedelta(seconds=1))


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_folder_that_became_read_only(store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = scheduler_on(store)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:  # the superuser, who may run this, is refused nothing
        patch.setattr("bgsched.stores._locks.Path.mkdir", refuse)
        with pytest.raises(StoreUnavailableError, match="no lock file can be made beside"):
            scheduler.start()
    scheduler.run_pending()


def test_copies_taken_at_any_commit_open_and_keep_their_promises(
    store: SQLiteStore, path: Path, tmp_path: Path
) -> None:
    """Power loss: the bytes as they are after a commit, the log whole or torn, are a database that is consistent."""
    chance = random.Random(1)
    scheduler = scheduler_on(store)
    acknowledged: list[str] = []
    scheduler.schedule("p", Schedule(EverySeconds(1)), id="s")
    wal = path.with_name("app.db-wal")
    for n in range(40):
        acknowledged.append(scheduler.schedule("p", Immediate(), id=f"r{n:02}").id)
        scheduler._clock.advance(1)  # type: ignore[attr-defined]
        scheduler.run_pending()
        copy = tmp_path / f"copy{n}.db"
        torn = n % 2
        content = wal.read_bytes()
        copy.write_bytes(path.read_bytes())
        copy.with_name(f"{copy.name}-wal").write_bytes(content[: chance.randrange(len(content))] if torn else content)
        with closing(SQLiteStore(copy)) as found:
            check_copy(found, set() if torn else set(acknowledged))


def test_copies_taken_in_the_midst_of_writing_keep_what_was_acknowledged(path: Path, tmp_path: Path) -> None:
    """Power loss at any moment: before any statement, the file and its log are copied as they are, torn or whole."""
    chance, copies = random.Random(2), 0
    acknowledged: set[str] = set()
    wal = path.with_name("app.db-wal")

    def cut_the_power(_: str) -> None:
        nonlocal copies
        if chance.random() < 0.04:
            copies += 1
            copy = tmp_path / f"copy{copies}.db"
            copy.write_bytes(path.read_bytes())
            copy.with_name(f"{copy.name}-wal").write_bytes(wal.read_bytes())
            with closing(SQLiteStore(copy)) as found:
                check_copy(found, acknowledged)

    with closing(SQLiteStore(path)) as store:
        scheduler = scheduler_on(store)
        scheduler.schedule("p", Schedule(EverySeconds(1)), id="s")
        writer = store._write_connection()
        writer.execute("PRAGMA wal_autocheckpoint = 20")  # so that some moments are just after one
        writer.execute("PRAGMA cache_size = 5")  # so that pages reach the log before their commit
        writer.set_trace_callback(cut_the_power)
        for n in range(40):
            acknowledged.add(scheduler.schedule("p", Immediate(), id=f"r{n:02}").id)
            scheduler._clock.advance(1)  # type: ignore[attr-defined]
            scheduler.run_pending()
        writer.set_trace_callback(None)
        scheduler.shutdown()
    assert copies > 20


def check_copy(store: SQLiteStore, acknowledged: set[str]) -> None:
    assert store._write_connection().execute("PRAGMA integrity_check").fetchone() == ("ok",)
    requests = {request.id: request for request in store.reader().requests(RequestFilter(limit=1000))}
    assert acknowledged <= requests.keys()
    runs = store.reader().runs(RunFilter(limit=1000))
    fires = sorted(run.fire_time for run in runs if run.request_id == "s")
    assert len(set(fires)) == len(fires)
    if "s" in requests and fires:
        assert requests["s"].last_fire_time == fires[-1]
        assert [later - earlier for earlier, later in pairwise(fires)] == [timedelta(seconds=1) for _ in fires[1:]]
    owners = {record.owner for record in store.reader().schedulers()}
    assert all(run.owner in owners for run in runs if run.is_active and run.owner)
    assert store.record("nobody", T0, Report()) == []


def test_who_could_not_sign_on_leaves_no_lock_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StoreUnavailableError("away")

    store = SQLiteStore(path)
    with monkeypatch.context() as patch:
        patch.setattr(store, "transaction", refuse)
        with pytest.raises(StoreUnavailableError):
            Scheduler(store).start()
    assert list(path.with_name(f"{path.name}.owners").iterdir()) == []
    store.close()
