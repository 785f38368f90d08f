"""A store in one SQLite file: durable, shared by any number of OS processes of one machine, nothing to install.

WAL and ``synchronous=FULL``: what was acknowledged survives power loss. One connection writes, behind a lock, always
with ``BEGIN IMMEDIATE`` (a read transaction that turns into a write one fails at once, whatever the timeout); others
only read. A writer elsewhere is waited for with short sleeps, up to a limit. The database file is never opened or
closed by hand: that would drop SQLite's own locks; who is alive is kept in lock files beside it (`OwnerLocks`).
"""

import json
import logging
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from bgsched._evolve import evolve
from bgsched.errors import StoreSchemaError, StoreUnavailableError
from bgsched.request import Request
from bgsched.run import FINAL, LogLine, LogTrim, Run, RunStatus
from bgsched.stores import _sql
from bgsched.stores._locks import OwnerLocks
from bgsched.stores.base import LAST, Aged, Ended, RequestFilter, RunFilter, SchedulerRecord, Store, Summary, summarize

__all__ = ["SQLiteStore"]

SCHEMA_VERSION = 1
LOGGER = logging.getLogger("bgsched")
_OLDEST = (3, 35, 0)  # RETURNING

_REQUEST = ", ".join(_sql.REQUEST_COLUMNS)
_RUN = ", ".join(_sql.RUN_COLUMNS)
_LOG = ", ".join(_sql.LOG_COLUMNS)
_SCHEDULER = ", ".join(_sql.SCHEDULER_COLUMNS)
_MOST_LINES = 2_000  # log lines that a purge deletes before it lets others write: some 10 ms
_LONGEST_WAL = 64 * 1024 * 1024  # what of the write-ahead log stays on the disk after a long reader made it grow
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT}
_ACTIVE = _sql.ACTIVE_STATUS
_CHANGING = _sql.CHANGING_COLUMNS
_CHANGING_PLACES = tuple(_sql.RUN_COLUMNS.index(name) for name in _CHANGING)
_KILL_PLACE = _sql.RUN_COLUMNS.index("kill_asked_at")
_UPDATE_RUN = (
    f"UPDATE bgsched_runs SET {', '.join(f'{name} = ?' for name in _CHANGING)}, "  # noqa: S608  names of our own
    f"kill_asked_at = coalesce(kill_asked_at, ?) WHERE id = ? AND owner IS ? AND attempt = ? AND {_ACTIVE}"
)


class SQLiteStore(Store):
    """Keeps everything in the SQLite file *path*, which is made when it is not there.

    *timeout*: how many seconds a writer elsewhere is waited for. *read_only*: the file must be there, and nothing of it
    is changed; for a `Monitor`.

    Raises:
        StoreUnavailableError: the file cannot be opened, made or written.
        StoreSchemaError: it is no SQLite database, or one that a newer bgsched wrote.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0, read_only: bool = False) -> None:
        self.path = Path(path).absolute()
        self._timeout = timeout
        self._lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._file: _Identity | None = None  # of the database, and of its write-ahead log
        self._wal: _Identity | None = None
        self._commits = 0
        self._locks = OwnerLocks(self.path.with_name(self.path.name + ".owners"))
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreUnavailableError(f"SQLite {sqlite3.sqlite_version} is too old; bgsched needs 3.35 or later")
        self._read_only = read_only
        if read_only:
            self._check_readable()
        else:
            self._write_connection()
        _ALL.add(self)

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    def reader(self) -> "_Reader":
        """Return the reading half."""
        return _Reader(self)

    @contextmanager
    def transaction(self) -> Iterator["_Transaction"]:
        """Open the write transaction; one thread at a time, and one OS process at a time."""
        with self._lock, self._explaining():
            connection = self._write_connection()
            self._begin(connection)
            try:
                self._check_version(_version(connection))
                yield _Transaction(connection)
                connection.execute("COMMIT")
                self._commits += 1
            except BaseException:
                self._roll_back(connection)
                raise

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """Undo what was not committed; a connection that cannot even do that is given up."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that cannot write."""
        with self._explaining():
            self._check_file()
            connection = self._readers.pop() if self._readers else self._connect(reading=True)
            try:
                yield connection
            except BaseException:  # its transaction may be open still, and would hold back every checkpoint
                connection.close()
                raise
            self._readers.append(connection)

    def close(self) -> None:
        """Close the connections; the store opens them anew when it is used again."""
        with self._lock:
            self._disconnect()
            self._file = self._wal = None

    def _disconnect(self) -> None:
        with self._lock:
            writer, self._writer = self._writer, None
            readers, self._readers = self._readers, []
            for connection in (writer, *readers):
                if connection is not None:
                    connection.close()

    def changes(self) -> tuple[int, int]:
        """Return SQLite's ``data_version``, which counts the commits of others, and our own commits."""
        with self._lock, self._explaining():
            return self._write_connection().execute("PRAGMA data_version").fetchone()[0], self._commits

    def sign_on(self, record: SchedulerRecord) -> None:
        """Announce a scheduler; its lock is held before anybody can read its name."""
        try:
            self._locks.hold(record.owner)
        except OSError as error:
            raise StoreUnavailableError(f"no lock file can be made beside {self.path}: {error}") from error
        super().sign_on(record)

    def sign_off(self, owner: str, now: datetime) -> list[Run]:
        """Forget a scheduler that stops, then let go of its lock."""
        left = super().sign_off(owner, now)
        self._locks.release(owner)
        return left

    def reap(self, now: datetime, *, leases: bool = True) -> list[Run]:
        """End what dead schedulers left; asks the kernel who is dead before it asks for the database."""
        known = {record.owner: record for record in self.reader().schedulers()}
        if not any(self.is_gone(record, now if leases else record.lease_until) for record in known.values()):
            return []
        left = super().reap(now, leases=leases)
        for owner in known.keys() - {record.owner for record in self.reader().schedulers()}:
            self._locks.release(owner)
        return left

    def vouches_for(self, owner: str) -> bool:
        """Return whether this OS process holds the owner's lock."""
        return self._locks.holds(owner)

    def let_go(self, owner: str) -> None:
        """Let go of the owner's lock: whoever looks next ends what it left."""
        self._locks.let_go(owner)

    def is_gone(self, record: SchedulerRecord, now: datetime) -> bool:
        """Return whether the scheduler's lock is free; where there are no locks, whether its lease ran out."""
        free = self._locks.is_free(record.owner)
        return super().is_gone(record, now) if free is None else free

    # -- connections ---------------------------------------------------------------------------------------------

    def _check_file(self) -> None:
        """Make sure that the connections are those of the file that is there: it may have been deleted or replaced.

        SQLite would go on with the file that it once opened, and what is written there is lost with it. The file is
        looked at, never opened: closing it would drop SQLite's locks.
        """
        if self._file is None:
            return
        found = _identity(self.path)
        if found == self._file:
            return
        self._disconnect()
        if found is None:
            raise StoreUnavailableError(f"{self.path} was deleted or moved while it was in use; put it back")
        wal = _wal_of(self.path)
        if self._wal is not None and _identity(wal) == self._wal:  # SQLite would apply it to the new file
            raise StoreUnavailableError(
                f"{self.path} was replaced while it was in use, and {wal.name} beside it belongs to the file that was "
                "there before; stop every scheduler, remove it, and start again"
            )
        LOGGER.warning("%s was replaced while it was in use; going on with the new file", self.path)
        self._file = None

    def _remember_file(self) -> None:
        self._file, self._wal = _identity(self.path), _identity(_wal_of(self.path))

    def _write_connection(self) -> sqlite3.Connection:
        self._check_file()
        if self._writer is None:
            if self._read_only:
                raise StoreUnavailableError(f"{self.path} was opened to read only")
            with self._explaining():
                self._writer = self._connect(reading=False)
                self._migrate(self._writer)
                self._remember_file()
        return self._writer

    def _check_readable(self) -> None:
        if not self.path.is_file():
            raise StoreUnavailableError(f"no database {self.path}; a scheduler makes it when it first starts there")
        with self.reading() as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'bgsched_schema'").fetchone() is None:
                raise StoreSchemaError(f"{self.path} holds no bgsched tables; is it another database?")
            self._check_version(_version(connection))
            self._remember_file()

    def _check_version(self, version: int) -> None:
        if version > SCHEMA_VERSION:
            raise StoreSchemaError(
                f"{self.path} has schema {version}, this bgsched knows up to {SCHEMA_VERSION}; "
                "upgrade bgsched, or give another file"
            )

    def _connect(self, *, reading: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._timeout if reading else 0.0, isolation_level=None, check_same_thread=False
        )
        try:
            if reading:
                connection.execute("PRAGMA query_only = ON")
            else:
                self._patiently(connection, "PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA journal_size_limit = {_LONGEST_WAL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the schema to this version, one step at a time, in one transaction."""
        self._begin(connection)
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS bgsched_schema (version INTEGER NOT NULL)")
            version = _version(connection)
            self._check_version(version)
            for step in range(version + 1, SCHEMA_VERSION + 1):
                for statement in _statements(step):
                    connection.execute(statement)
                connection.execute("INSERT INTO bgsched_schema (version) VALUES (?)", (step,))
            connection.execute("COMMIT")
        except BaseException:
            self._disconnect()
            raise

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._patiently(connection, "BEGIN IMMEDIATE")

    def _patiently(self, connection: sqlite3.Connection, statement: str) -> None:
        """Execute *statement* as soon as no other writer is in the way, waiting up to the timeout."""
        give_up = time.monotonic() + self._timeout
        while True:
            try:
                connection.execute(statement)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(random.uniform(0.001, 0.003))  # noqa: S311  jitter, so that writers do not march in step
            else:
                return

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn what SQLite raises into our own words, with the file's name."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            primary = None if code is None else code & 0xFF
            if primary not in _PASSING:
                self._disconnect()  # whatever it was, a fresh connection may be over it
            if primary == sqlite3.SQLITE_NOTADB:
                raise StoreSchemaError(f"{self.path} is not an SQLite database; give another file name") from error
            if primary == sqlite3.SQLITE_CORRUPT:
                raise StoreSchemaError(f"{self.path} is damaged ({error}); restore it from a copy") from error
            raise StoreUnavailableError(f"{self.path}: {error}{_advice(primary, self.path, self._timeout)}") from error

    def forget_after_fork(self) -> None:
        """Leave the parent's connections to the parent: a child that used or closed them would harm the database."""
        _LEFT_TO_PARENT.extend(c for c in (self._writer, *self._readers) if c is not None)
        self._lock = threading.RLock()
        self._writer = None
        self._readers = []


_ALL: "weakref.WeakSet[SQLiteStore]" = weakref.WeakSet()
_LEFT_TO_PARENT: list[sqlite3.Connection] = []


def _after_fork() -> None:
    for store in list(_ALL):
        store.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _advice(primary: int | None, path: Path, timeout: float) -> str:
    if primary == sqlite3.SQLITE_BUSY:
        return f": another writer held it for over {timeout:g} s"
    if primary == sqlite3.SQLITE_CANTOPEN:
        why = "is no folder" if not path.parent.is_dir() else "cannot be written, or the file is no plain file"
        return f": {path.parent} {why}"
    if primary == sqlite3.SQLITE_READONLY:
        return ": the file or its folder cannot be written"
    if primary == sqlite3.SQLITE_FULL:
        return ": the disk is full"
    return ""


_Identity = tuple[int, int]


def _identity(path: Path) -> _Identity | None:
    """Return what tells a file from another one of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT max(version) FROM bgsched_schema").fetchone()[0] or 0


def _statements(step: int) -> list[str]:
    """Return the statements of one migration."""
    text = resources.files("bgsched.stores.schema").joinpath(f"sqlite_{step:04}.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement for statement in "\n".join(lines).split(";\n") if statement.strip()]


def _places(count: int) -> str:
    return ", ".join("?" * count)


class _Transaction:
    """The steps of a write transaction, on the one connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # -- requests ------------------------------------------------------------------------------------------------

    def get_requests(self, ids: Collection[str]) -> list[Request]:
        rows = self._connection.execute(
            f"SELECT {_REQUEST} FROM bgsched_requests WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608
            (json.dumps(list(ids)),),
        )
        return [_sql.request_from_row(row) for row in rows]

    def put_requests(self, requests: Sequence[Request]) -> None:
        self._connection.executemany(
            f"INSERT OR REPLACE INTO bgsched_requests ({_REQUEST}) VALUES ({_places(len(_sql.REQUEST_COLUMNS))})",  # noqa: S608
            [_sql.request_to_row(request) for request in requests],
        )

    def delete_request(self, id: str) -> None:
        self._connection.execute(
            "DELETE FROM bgsched_log WHERE run_id IN (SELECT id FROM bgsched_runs WHERE request_id = ?)", (id,)
        )
        self._connection.execute("DELETE FROM bgsched_runs WHERE request_id = ?", (id,))
        self._connection.execute("DELETE FROM bgsched_requests WHERE id = ?", (id,))

    def due_requests(self, now: datetime, processes: Collection[str], limit: int) -> list[Request]:
        names = json.dumps(list(processes))
        due: list[Request] = []
        for priority in _priorities(self._connection):
            rows = self._connection.execute(
                f"SELECT {_REQUEST} FROM bgsched_requests WHERE priority = ? AND due_at <= ? "  # noqa: S608
                "AND process IN (SELECT value FROM json_each(?)) ORDER BY due_at LIMIT ?",
                (priority, _sql.micros(now), names, limit - len(due)),
            )
            due += [_sql.request_from_row(row) for row in rows]
            if len(due) >= limit:
                break
        return due

    def advance_requests(self, requests: Sequence[Request]) -> None:
        self._connection.executemany(
            "UPDATE bgsched_requests SET status = ?, revision = ?, next_fire_time = ?, due_at = ?, last_fire_time = ?, "
            "reason = ? WHERE id = ?",
            [
                (
                    request.status.value,
                    request.revision,
                    _sql.micros(request.next_fire_time),
                    _sql.micros(request.due_at),
                    _sql.micros(request.last_fire_time),
                    request.reason,
                    request.id,
                )
                for request in requests
            ],
        )

    def complete_requests(self, ids: Collection[str]) -> None:
        self._connection.executemany(
            "UPDATE bgsched_requests SET status = 'complete' WHERE id = ?1 AND status = 'scheduled' "  # noqa: S608
            "AND next_fire_time IS NULL "
            f"AND NOT EXISTS (SELECT 1 FROM bgsched_runs WHERE request_id = ?1 AND {_ACTIVE})",
            [(id,) for id in ids],
        )

    # -- runs ----------------------------------------------------------------------------------------------------

    def insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        newest = self._connection.execute("SELECT recorded_at FROM bgsched_runs ORDER BY id DESC LIMIT 1").fetchone()
        last = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'bgsched_runs'").fetchone()
        first = 1 + (last[0] if last else 0)
        since = _sql.instant(newest[0]) if newest else None
        numbered = [
            evolve(run, id=first + place, recorded_at=max(run.recorded_at, since or run.recorded_at))
            for place, run in enumerate(runs)
        ]
        before = self._connection.total_changes
        self._connection.executemany(
            f"INSERT INTO bgsched_runs ({_RUN}) VALUES ({_places(len(_sql.RUN_COLUMNS))}) "  # noqa: S608
            "ON CONFLICT (request_id, revision, fire_time) DO NOTHING",
            [_sql.run_to_row(run) for run in numbered],
        )
        if self._connection.total_changes - before == len(numbered):
            return numbered
        kept = {row[0] for row in self._connection.execute("SELECT id FROM bgsched_runs WHERE id >= ?", (first,))}
        return [run for run in numbered if run.id in kept]

    def count_ended(self, ended: Sequence[Ended], owner: str) -> None:
        self._connection.executemany(
            "INSERT INTO bgsched_ended (hour, process, status, owner, count) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (hour, process, status, owner) DO UPDATE SET count = count + excluded.count",
            [(_sql.micros(item.hour), item.process, item.status.value, owner, item.count) for item in ended],
        )

    def get_runs(self, ids: Collection[int]) -> list[Run]:
        return self._select_runs("id IN (SELECT value FROM json_each(?)) ORDER BY id", json.dumps(list(ids)))

    def hold_keys(self, keys: Collection[str]) -> Collection[str]:
        return keys

    def active_runs(self, keys: Collection[str]) -> list[Run]:
        where = f"overlap_key IN (SELECT value FROM json_each(?)) AND {_ACTIVE} ORDER BY id"  # noqa: S608  our own names
        return self._select_runs(where, json.dumps(list(keys)))

    def child_runs(self, parent_id: int) -> list[Run]:
        return self._select_runs("parent_id = ? ORDER BY id", parent_id)

    def active_runs_of(self, request_id: str) -> list[Run]:
        return self._select_runs(f"request_id = ? AND {_ACTIVE} ORDER BY id", request_id)

    def queued_runs(self, now: datetime, processes: Collection[str], limit: int) -> list[Run]:
        names = json.dumps(list(processes))
        found: list[Run] = []
        keys: set[str] = set()
        rows = self._connection.execute(
            f"SELECT {_RUN} FROM bgsched_runs AS run WHERE {_QUEUED} AND due_at <= ? ORDER BY due_at, id",  # noqa: S608
            (names, _sql.micros(now)),
        )
        for run in map(_sql.run_from_row, rows):
            if len(found) >= limit:
                rows.close()
                break
            if run.overlap_key not in keys:
                found.append(run)
                keys.update([run.overlap_key] if run.overlap_key is not None else [])
        return found

    def held_runs(self, owner: str) -> list[Run]:
        return self._select_runs(f"owner = ? AND {_ACTIVE} ORDER BY id", owner)

    def update_runs(self, runs: Sequence[Run], owner: str | None) -> set[int]:
        accepted = set()
        for run in runs:
            row = _sql.run_to_row(run)
            attempt = run.attempt - (owner is None and run.owner is not None)
            values = (*(row[place] for place in _CHANGING_PLACES), row[_KILL_PLACE], run.id, owner, attempt)
            if self._connection.execute(_UPDATE_RUN, values).rowcount:
                accepted.add(run.id)
        return accepted

    def ask_kill(self, ids: Collection[int], now: datetime) -> None:
        self._connection.executemany(
            f"UPDATE bgsched_runs SET kill_asked_at = coalesce(kill_asked_at, ?) WHERE id = ? AND {_ACTIVE}",  # noqa: S608
            [(_sql.micros(now), id) for id in ids],
        )

    def append_log(self, lines: Sequence[LogLine]) -> None:
        self._connection.executemany(
            f"INSERT INTO bgsched_log ({_LOG}) VALUES ({_places(len(_sql.LOG_COLUMNS))}) "  # noqa: S608
            "ON CONFLICT (run_id, seq) DO NOTHING",
            [_sql.line_to_row(line) for line in lines],
        )

    def trim_log(self, trim: LogTrim) -> None:
        self._connection.execute(
            "DELETE FROM bgsched_log WHERE run_id = ? AND seq > ? AND seq < ?", (trim.run_id, trim.after, trim.before)
        )

    def last_seq(self, run_id: int) -> int:
        row = self._connection.execute("SELECT max(seq) FROM bgsched_log WHERE run_id = ?", (run_id,)).fetchone()
        return row[0] or 0

    def _select_runs(self, where: str, *values: Any) -> list[Run]:
        return _select_runs(self._connection, where, values)

    # -- schedulers and retention --------------------------------------------------------------------------------

    def schedulers(self) -> list[SchedulerRecord]:
        return _schedulers(self._connection)

    def is_signed_on(self, owner: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM bgsched_schedulers WHERE owner = ?", (owner,)).fetchone()
        return found is not None

    def put_scheduler(self, record: SchedulerRecord) -> None:
        self._connection.execute(
            f"INSERT OR REPLACE INTO bgsched_schedulers ({_SCHEDULER}) "  # noqa: S608
            f"VALUES ({_places(len(_sql.SCHEDULER_COLUMNS))})",
            _sql.scheduler_to_row(record),
        )

    def delete_scheduler(self, owner: str) -> None:
        self._connection.execute("DELETE FROM bgsched_schedulers WHERE owner = ?", (owner,))

    def purge_runs(self, ids: Sequence[int]) -> int:
        deleted = lines = 0
        for id in ids:
            gone = self._connection.execute(
                f"DELETE FROM bgsched_runs AS run WHERE id = ? AND NOT {_ACTIVE} AND EXISTS (SELECT 1 FROM "  # noqa: S608
                "bgsched_runs AS newer WHERE newer.request_id = run.request_id AND newer.id > run.id)",
                (id,),
            ).rowcount
            if gone:
                lines += self._connection.execute("DELETE FROM bgsched_log WHERE run_id = ?", (id,)).rowcount
            deleted += 1
            if lines >= _MOST_LINES:
                break
        return deleted


_QUEUED = (
    "status = 'waiting' AND owner IS NULL AND due_at IS NOT NULL AND process IN (SELECT value FROM json_each(?)) "
    "AND (overlap_key IS NULL OR NOT EXISTS (SELECT 1 FROM bgsched_runs AS b "
    "WHERE b.overlap_key = run.overlap_key AND b.status IN ('waiting', 'running') AND b.owner IS NOT NULL))"
)


def _priorities(connection: sqlite3.Connection) -> Iterator[int]:
    """Yield the priorities that requests with a due time have, highest first, each by one look into the index."""
    below = None
    while True:
        row = connection.execute(
            "SELECT max(priority) FROM bgsched_requests WHERE due_at IS NOT NULL AND (?1 IS NULL OR priority < ?1)"
            if below is None
            else "SELECT max(priority) FROM bgsched_requests WHERE due_at IS NOT NULL AND priority < ?1",
            (below,),
        ).fetchone()
        if row[0] is None:
            return
        below = row[0]
        yield below


def _select_runs(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Run]:
    rows = connection.execute(f"SELECT {_RUN} FROM bgsched_runs AS run WHERE {where}", values)  # noqa: S608
    return [_sql.run_from_row(row) for row in rows]


def _bounds(connection: sqlite3.Connection, filter: RunFilter) -> tuple[int, int]:
    """Return the first and last id that can match: ``recorded_at`` grows with the id, so halving finds its bounds."""
    last = connection.execute("SELECT max(id) FROM bgsched_runs").fetchone()[0] or 0
    first = 1 if filter.since is None else _first_recorded(connection, last, _sql.micros(filter.since) or 0)
    if filter.until is not None:
        last = _first_recorded(connection, last, (_sql.micros(filter.until) or 0) + 1) - 1
    return first, last if filter.before is None else min(last, filter.before - 1)


def _first_recorded(connection: sqlite3.Connection, last: int, at: int) -> int:
    """Return the lowest id from which on every run was recorded at *at* or later."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        query = "SELECT id, recorded_at FROM bgsched_runs WHERE id >= ? ORDER BY id LIMIT 1"
        row = connection.execute(query, (middle,)).fetchone()
        if row is None or row[1] >= at:
            high = middle
        else:
            low = row[0] + 1
    return low


def _schedulers(connection: sqlite3.Connection) -> list[SchedulerRecord]:
    rows = connection.execute(f"SELECT {_SCHEDULER} FROM bgsched_schedulers ORDER BY started_at, owner")  # noqa: S608
    return [_sql.scheduler_from_row(row) for row in rows]


class _Reader:
    """Answers over connections that cannot write."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store

    def find_request(self, id: str) -> Request | None:
        with self._store.reading() as connection:
            rows = connection.execute(f"SELECT {_REQUEST} FROM bgsched_requests WHERE id = ?", (id,))  # noqa: S608
            return next((_sql.request_from_row(row) for row in rows.fetchall()), None)

    def requests(self, filter: RequestFilter) -> list[Request]:
        where, values = _sql.request_conditions(filter)
        with self._store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_REQUEST} FROM bgsched_requests WHERE {where} ORDER BY id LIMIT ?",  # noqa: S608
                (*values, filter.limit),
            )
            return [_sql.request_from_row(row) for row in rows]

    def upcoming(self, limit: int) -> list[Request]:
        with self._store.reading() as connection:
            found: list[Request] = []
            for priority in _priorities(connection):
                rows = connection.execute(
                    f"SELECT {_REQUEST} FROM bgsched_requests WHERE priority = ? AND due_at IS NOT NULL "  # noqa: S608
                    "ORDER BY due_at LIMIT ?",
                    (priority, limit),
                )
                found += [_sql.request_from_row(row) for row in rows]
        return sorted(found, key=lambda request: (_sql.micros(request.due_at) or 0, request.id))[:limit]

    def find_run(self, id: int) -> Run | None:
        with self._store.reading() as connection:
            return next(iter(_select_runs(connection, "id = ?", (id,))), None)

    def runs(self, filter: RunFilter) -> list[Run]:
        every, every_values = _sql.conditions(filter)
        with self._store.reading() as connection:
            first, last = _bounds(connection, filter)
            found: list[Run] = []
            for lane, lane_values, id in _sql.lanes(filter):
                where = " AND ".join([lane, f"{id} BETWEEN ? AND ?", *every])
                values = (*lane_values, first, last, *every_values, filter.limit)
                found += _select_runs(connection, f"{where} ORDER BY {id} DESC LIMIT ?", values)
        return sorted(found, key=lambda run: -run.id)[: filter.limit]

    def log(self, run_id: int, after: int, limit: int) -> list[LogLine]:
        with self._store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_LOG} FROM bgsched_log WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608
                (run_id, after, limit),
            )
            return [_sql.line_from_row(row) for row in rows]

    def summary(self, process: str | None, since: datetime | None) -> Summary:
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT status, fire_count, duration, lateness FROM bgsched_runs INDEXED BY bgsched_runs_figures "
                "WHERE finished_at IS NOT NULL AND recorded_at >= ? AND (?2 IS NULL OR process = ?2)",
                (_sql.micros(since) if since else 0, process),
            ).fetchall()
        newest = {
            name: next(iter(self.runs(RunFilter(process=process, since=since, status=statuses, limit=1))), None)
            for name, statuses in LAST.items()
        }
        return summarize(rows, newest)

    def ended(self, process: str | None, since: datetime, until: datetime) -> list[Ended]:
        first = since.replace(minute=0, second=0, microsecond=0)
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT hour, ?3, status, sum(count) FROM bgsched_ended WHERE hour BETWEEN ?1 AND ?2 "
                "AND (?3 IS NULL OR process = ?3) GROUP BY hour, status ORDER BY hour, status",
                (_sql.micros(first), _sql.micros(until), process),
            ).fetchall()
        return [Ended(hour, row[1], RunStatus(row[2]), row[3]) for row in rows if (hour := _sql.instant(row[0]))]

    def totals(self, since: datetime, until: datetime) -> list[Ended]:
        first = since.replace(minute=0, second=0, microsecond=0)
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT process, status, sum(count) FROM bgsched_ended WHERE hour >= ? AND hour < ? "
                "GROUP BY process, status ORDER BY process, status",
                (_sql.micros(first), _sql.micros(until)),
            ).fetchall()
        return [Ended(first, process, RunStatus(status), count) for process, status, count in rows]

    def aged(self, after: int, before: datetime, limit: int) -> list[Aged]:
        with self._store.reading() as connection:
            last = connection.execute("SELECT max(id) FROM bgsched_runs").fetchone()[0] or 0
            rows = connection.execute(
                "SELECT id, request_id, process, status, finished_at, NOT EXISTS (SELECT 1 FROM bgsched_runs AS newer "
                "WHERE newer.request_id = run.request_id AND newer.id > run.id) FROM bgsched_runs AS run "
                "WHERE id > ? AND id < ? AND finished_at IS NOT NULL ORDER BY run.id LIMIT ?",
                (after, _first_recorded(connection, last, _sql.micros(before) or 0), limit),
            ).fetchall()
        return _sql.aged_from_rows(rows)

    def nth_newest(self, process: str, n: int) -> int | None:
        newest: list[int] = []
        with self._store.reading() as connection:
            for status in FINAL:
                rows = connection.execute(
                    "SELECT id FROM bgsched_runs WHERE process = ? AND status = ? AND finished_at IS NOT NULL "
                    "ORDER BY id DESC LIMIT ?",
                    (process, status.value, n),
                )
                newest += [row[0] for row in rows]
        return sorted(newest, reverse=True)[n - 1] if len(newest) >= n else None

    def schedulers(self) -> list[SchedulerRecord]:
        with self._store.reading() as connection:
            return _schedulers(connection)

    def kills_asked(self, owner: str) -> frozenset[int]:
        with self._store.reading() as connection:
            rows = connection.execute(
                f"SELECT id FROM bgsched_runs WHERE owner = ? AND {_ACTIVE} AND kill_asked_at IS NOT NULL",  # noqa: S608
                (owner,),
            )
            return frozenset(row[0] for row in rows)

    def next_due(self, processes: Collection[str]) -> datetime | None:
        names = json.dumps(list(processes))
        with self._store.reading() as connection:
            due = [
                row[0]
                for priority in _priorities(connection)
                for row in connection.execute(
                    "SELECT due_at FROM bgsched_requests WHERE priority = ? AND due_at IS NOT NULL "
                    "AND process IN (SELECT value FROM json_each(?)) ORDER BY due_at LIMIT 1",
                    (priority, names),
                )
            ]
            due += [
                row[0]
                for row in connection.execute(
                    f"SELECT due_at FROM bgsched_runs AS run WHERE {_QUEUED} ORDER BY due_at LIMIT 1",  # noqa: S608
                    (names,),
                )
            ]
        return _sql.instant(min(due, default=None))
