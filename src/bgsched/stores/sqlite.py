"""A store in one SQLite file: durable, shared by any number of OS processes of one machine, nothing to install.

WAL and ``synchronous=FULL``: what was acknowledged survives power loss. One connection writes, behind a lock, always
with ``BEGIN IMMEDIATE`` (a read transaction that turns into a write one fails at once, whatever the timeout); others
only read. A writer elsewhere is waited for with short sleeps, up to a limit. The database file is never opened or
closed by hand: that would drop SQLite's own locks; who is alive is kept in lock files beside it (`OwnerLocks`).

Who reads only makes nothing beside the file: its log, and the index of that, are for those who write. Where there is
nothing in the log, all is in the file, which is then read as it is, without a lock; if it was written meanwhile, that
look counts for nothing.
"""

import contextlib
import ctypes
import logging
import os
import random
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, cast

from bgsched.errors import StoreSchemaError, StoreUnavailableError, StoreURLError
from bgsched.run import Run
from bgsched.stores._forks import Gate
from bgsched.stores._locks import OwnerLocks
from bgsched.stores._sqlite_files import DatabaseFile, Identity, OvertakenError, Stamp, asking_again
from bgsched.stores._sqlite_reader import SQLiteReader, look_into
from bgsched.stores._sqlite_steps import SQLiteTransaction
from bgsched.stores.base import AT_WORK, SchedulerRecord, Store

__all__ = ["SQLiteStore"]

SCHEMA_VERSION = 1
LOGGER = logging.getLogger("bgsched")
_OLDEST = (3, 35, 0)  # RETURNING
_URL = re.compile(r"(?:sqlite|file):|([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # one letter is a drive

_LONGEST_FORK = 5.0  # seconds that a fork waits for the threads that use a database
_LONGEST_WAL = 64 * 1024 * 1024  # what of the write-ahead log stays on the disk after a long reader made it grow
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT}


# What SQLite says of statements that its tables do not fit, all with the same code.
_MISSING = re.compile("no such (table|column|view)|has no column named")
_TAKEN = re.compile("already exists|there is already")

_HAS_SCHEMA = "SELECT 1 FROM sqlite_master WHERE name = 'bgsched_schema'"
_GATE = Gate()


class _Open:
    """The connections that a store has open and has lent to nobody."""

    def __init__(self) -> None:
        self.writer: sqlite3.Connection | None = None
        self.idle: list[sqlite3.Connection] = []  # those that only read

    def __bool__(self) -> bool:
        return self.writer is not None or bool(self.idle)

    def close(self) -> None:
        writer, self.writer = self.writer, None
        idle, self.idle = self.idle, []
        if writer is not None:
            writer.close()
        while connection := _taken_from(idle):
            connection.close()


class SQLiteStore(Store):
    """Keeps everything in the SQLite file *path*, which is made when it is not there; symbolic links are followed.

    *timeout*: how many seconds a writer elsewhere is waited for. *read_only*: the file must be there, nothing of it is
    changed, and nothing is made beside it, so that another user may do it who can only read; for a `Monitor`.

    Raises:
        StoreUnavailableError: the file cannot be opened, made or written.
        StoreSchemaError: it is no SQLite database, or one that a newer bgsched or another program wrote.
        StoreURLError: *path* is a URL, or ``:memory:``.
        TypeError: *timeout* is no number.
        ValueError: *timeout* is below 0.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0, read_only: bool = False) -> None:
        self.path = _checked_path(path).absolute()
        self._timeout = _checked_timeout(timeout)
        self._lock = threading.RLock()
        self._open_none()
        self._files = DatabaseFile(self.path)
        self._file: Identity | None = None  # of the database, and of the write-ahead log that was open last
        self._log: Identity | None = None
        self._stamp: Stamp | None = None  # of the database, when that log was last seen beside it
        self._commits = 0
        self._generation = 0  # of the connections: what one of an earlier one said about changes means nothing now
        self._locks = OwnerLocks(self._files.path)
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreUnavailableError(f"SQLite {sqlite3.sqlite_version} is too old; bgsched needs 3.35 or later")
        self._read_only = read_only
        _ALL.add(self)
        if read_only:
            asking_again(self._check_readable)()
        else:
            self._write_connection()
            self._warn_of_names()

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    def reader(self) -> SQLiteReader:
        """Return the reading half."""
        reader = SQLiteReader(self.reading, self._locks.is_free)
        return cast("SQLiteReader", _AskingAgain(reader)) if self._read_only else reader

    @contextmanager
    def transaction(self) -> Iterator[SQLiteTransaction]:
        """Open the write transaction; one thread at a time, and one OS process at a time."""
        if self.is_at_work():
            raise StoreUnavailableError(AT_WORK)
        with _GATE.inside(), self._lock, self._explaining():
            connection = self._write_connection()
            try:
                self._begin(connection)
                self._version(connection)
                yield SQLiteTransaction(connection)
                connection.execute("COMMIT")
                self._commits += 1
            except BaseException:
                self._roll_back(connection)
                raise

    def is_at_work(self) -> bool:
        """Return whether this thread has the lock of the connection that writes."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001  as Condition does

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
        with _GATE.inside(), self._explaining():
            self._check_file()
            stamp = self._files.stamp_at_rest() if self._read_only else None
            with self._reading_on() if stamp is None else self._reading_at_rest(stamp) as connection:
                yield connection

    @contextmanager
    def _reading_on(self) -> Iterator[sqlite3.Connection]:
        """Lend one of those that stay open, beside whoever writes."""
        idle = self._open.idle
        options = self._files.to_read() if self._read_only else None
        connection = _taken_from(idle) or self._connect_to_read(options)
        try:
            yield connection
        except BaseException:  # its transaction may be open still, and would hold back every checkpoint
            connection.close()
            raise
        self._remember()
        idle.append(connection)
        while idle is not self._open.idle and (one := _taken_from(idle)):  # the file may be another one by now
            one.close()

    @contextmanager
    def _reading_at_rest(self, stamp: Stamp) -> Iterator[sqlite3.Connection]:
        """Lend one for a single look at a file that nobody writes: SQLite then locks and makes nothing."""
        since = time.time()
        with closing(self._connect_to_read("immutable=1")) as connection:
            try:
                yield connection
            finally:
                if not self._files.is_still(stamp, since):
                    raise OvertakenError(f"{self.path} was written while it was read as it lay there; ask again")

    def close(self) -> None:
        """Close the connections; the store opens them anew when it is used again."""
        with _GATE.inside(), self._lock:
            self._file = self._log = None
            self._disconnect()

    def _disconnect(self) -> None:
        with self._lock:
            self._generation += 1
            self._open.close()

    def _abandon(self) -> None:
        """Leave the connections as they are, for good: whatever closes the last one writes what its log holds."""
        self._generation += 1
        self._forgotten.detach()
        for connection in (self._open.writer, *self._open.idle):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))  # not even when Python ends
        self._open_none()

    def _open_none(self) -> None:
        """Begin without connections; those to come are closed with the store, or when nobody has it any more."""
        self._open = _Open()
        self._forgotten = weakref.finalize(self, self._open.close)
        self._forgotten.atexit = False  # schedulers sign off at the exit, and need theirs

    def changes(self) -> tuple[int, int, int]:
        """Return SQLite's ``data_version``, which counts the commits of others for one connection, and our own."""
        with _GATE.inside(), self._lock, self._explaining():
            version = self._write_connection().execute("PRAGMA data_version").fetchone()[0]
            return version, self._commits, self._generation

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
        known = self._file
        if known is None:
            return
        stamp = self._files.look()
        found = None if stamp is None else stamp[:2]
        if found == known:
            if self._open and self._files.log_identity() != self._log:
                self._check_log()
            self._stamp = stamp
            return
        self._disconnect()
        if found is None:
            raise StoreUnavailableError(f"{self.path} was deleted or moved while it was in use; put it back")
        if self._files.leads_elsewhere():
            raise StoreUnavailableError(
                f"{self.path} led to {self._files.path} when it was opened, and leads elsewhere now; "
                "lead it back, or start again"
            )
        if self._log is not None and self._files.log_identity() == self._log:  # SQLite would apply it to the new file
            raise StoreUnavailableError(
                f"{self.path} was replaced while it was in use, and {self._files.log.name} beside it belongs to the "
                "file that was there before; stop every scheduler, remove it, and start again"
            )
        self._file, self._log = found, None
        LOGGER.warning("%s was replaced while it was in use; going on with the new file", self.path)

    def _check_log(self) -> None:
        """Make sure that others find the write-ahead log in which what is committed here is kept.

        SQLite leaves it where it is as long as anybody has the database open. Once somebody removed it, what is in it
        is still in the hands of those who had it open, and can be put into the database, unless others have gone on
        without it: it would be put over what they have stored since.
        """
        with self._lock:
            if not self._open or self._files.log_identity() == self._log:  # closed meanwhile, perhaps by the last
                return
            if self._files.log_identity() is None and self._files.look() == self._stamp:
                if self._open.writer is not None:
                    with contextlib.suppress(sqlite3.Error):
                        self._open.writer.execute("PRAGMA wal_checkpoint")
                self._disconnect()
            else:
                self._abandon()
        raise StoreUnavailableError(
            f"{self._files.log} was removed while it was in use, and what was stored last may be gone with it; "
            "leave it alone while anybody has the database open"
        )

    def _remember(self) -> None:
        """Keep what tells the file, and the log of the first connection that is open, from others of their names."""
        if self._file is None:
            self._file = self._files.identity()
        if not self._open:
            self._log = self._files.log_identity()

    def _warn_of_names(self) -> None:
        if (names := self._files.names()) > 1:
            LOGGER.warning(
                "%s has %d names (hard links); SQLite keeps a log for each, and who opens it by another one destroys "
                "what is stored: use one name, or symbolic links",
                self.path,
                names,
            )

    def _write_connection(self) -> sqlite3.Connection:
        with _GATE.inside(), self._explaining():
            self._check_file()
            if self._open.writer is None:
                if self._read_only:
                    raise StoreUnavailableError(f"{self.path} was opened to read only")
                connection = self._connect_to_write()
                self._migrate(connection)
                self._remember()
                self._open.writer = connection
            return self._open.writer

    def _check_readable(self) -> None:
        if self._files.stamp() is None:
            raise StoreUnavailableError(
                f"no database {self.path}, or none that this user may see; "
                "a scheduler makes it when it first starts there"
            )
        with self.reading() as connection:
            if connection.execute(_HAS_SCHEMA).fetchone() is None:
                raise StoreSchemaError(f"{self.path} holds no bgsched tables; is it another database?")
            if self._version(connection) == 0:
                raise StoreSchemaError(
                    f"{self.path} holds no bgsched tables of this version; "
                    "a scheduler makes them when it first starts there"
                )
            self._file = self._files.identity()

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the schema, 0 where there is none."""
        version = connection.execute("SELECT max(version) FROM bgsched_schema").fetchone()[0]
        if version is None:
            return 0
        if not isinstance(version, int) or version < 1:
            raise self._not_ours(f"bgsched_schema says {version!r}")
        if version > SCHEMA_VERSION:
            raise StoreSchemaError(
                f"{self.path} has schema {version}, this bgsched knows up to {SCHEMA_VERSION}; "
                "upgrade bgsched, or give another file"
            )
        return version

    def _not_ours(self, sign: str) -> StoreSchemaError:
        return StoreSchemaError(
            f"{self.path}: another program has its tables there ({sign}); give bgsched a file of its own"
        )

    def _connect_to_write(self) -> sqlite3.Connection:
        if (why := self._files.refuses_writers()) is not None:
            raise StoreUnavailableError(f"{self.path}{why}")
        connection = self._connect(str(self._files.path), timeout=0.0)
        try:
            if self._patiently(connection, _HAS_SCHEMA).fetchone() is not None:
                self._version(connection)  # what is not for us stays as it is
            self._patiently(connection, "PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {_LONGEST_WAL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_to_read(self, options: str | None) -> sqlite3.Connection:
        """Connect with *options* for SQLite; without any, as one connects to write."""
        name = str(self._files.path) if options is None else self._files.address(options)
        connection = self._connect(name, timeout=self._timeout, uri=options is not None)
        try:
            connection.execute("PRAGMA query_only = ON")
            look_into(connection)
            connection.execute("PRAGMA schema_version").fetchone()  # the log is open from now on, and stays where it is
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, name: str, *, timeout: float, uri: bool = False) -> sqlite3.Connection:
        if self._log is not None and not self._open and self._files.is_without_its_log():
            raise StoreUnavailableError(
                f"{self._files.log} was removed while others have the database open as well; "
                f"stop them all, and remove {self._files.index} if it stays"
            )
        return sqlite3.connect(name, timeout=timeout, isolation_level=None, check_same_thread=False, uri=uri)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the schema to this version, one step at a time, in one transaction."""
        self._begin(connection)
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS bgsched_schema (version INTEGER NOT NULL)")
            for step in range(self._version(connection) + 1, SCHEMA_VERSION + 1):
                for statement in _statements(step):
                    connection.execute(statement)
                connection.execute("INSERT INTO bgsched_schema (version) VALUES (?)", (step,))
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._patiently(connection, "BEGIN IMMEDIATE")

    def _patiently(self, connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
        """Execute *statement* as soon as no other writer is in the way, waiting up to the timeout."""
        give_up = time.monotonic() + self._timeout
        while True:
            try:
                return connection.execute(statement)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(random.uniform(0.001, 0.003))  # noqa: S311  jitter, so that writers do not march in step

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn what SQLite raises into our own words, with the file's name."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            primary = None if code is None else code & 0xFF
            if primary == sqlite3.SQLITE_TOOBIG:  # it is that value, not the store
                raise ValueError(f"{self.path} cannot hold it: {error}") from error
            if primary not in _PASSING:
                self._disconnect()  # whatever it was, a fresh connection may be over it
            if primary == sqlite3.SQLITE_NOTADB:
                raise StoreSchemaError(f"{self.path} is not an SQLite database; give another file name") from error
            if primary == sqlite3.SQLITE_CORRUPT:
                raise StoreSchemaError(f"{self.path} is damaged ({error}); restore it from a copy") from error
            if primary == sqlite3.SQLITE_ERROR and _MISSING.search(str(error)):
                raise StoreSchemaError(
                    f"{self.path}: the tables of bgsched are not as they were made ({error})"
                ) from error
            if primary == sqlite3.SQLITE_ERROR and _TAKEN.search(str(error)):
                raise self._not_ours(str(error)) from error
            raise StoreUnavailableError(f"{self.path}: {error}{self._advice(primary)}") from error

    def _advice(self, primary: int | None) -> str:
        if primary == sqlite3.SQLITE_BUSY:
            return f": another writer held it for over {self._timeout:g} s"
        return self._files.advice(primary)

    def before_fork(self) -> None:
        """Close the connections: an open database must not cross a fork."""
        self._disconnect()

    def forget_after_fork(self) -> None:
        """Leave what the parent still has open to the parent: a child that used or closed it would harm the file."""
        self._forgotten.detach()
        _LEFT_TO_PARENT.append(self._open)
        self._lock = threading.RLock()
        self._open_none()


class _AskingAgain:
    """Asks each question of *reader* again where somebody wrote meanwhile."""

    def __init__(self, reader: SQLiteReader) -> None:
        self._reader = reader

    def __getattr__(self, question: str) -> Any:
        return asking_again(getattr(self._reader, question))


_ALL: "weakref.WeakSet[SQLiteStore]" = weakref.WeakSet()
_LEFT_TO_PARENT: "list[_Open]" = []


def _checked_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file; SQLite would take a URL, or its own word for no file, as the name of one."""
    checked = Path(path)
    if not checked.name:
        raise StoreURLError(f"{str(path)!r} names no file; name one, as in SQLiteStore('app.db')")
    if checked.name == ":memory:":
        raise StoreURLError("':memory:' names no file; for a store that is forgotten write MemoryStore()")
    found = _URL.match(str(path))
    if found is not None:  # it may hold a password
        url = f"{found[1]}://..." if found[1] else "sqlite:///app.db"
        raise StoreURLError(f"SQLiteStore takes the path of a file, and got a URL; write open_store('{url}')")
    return checked


def _checked_timeout(timeout: object) -> float:
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout must be a number of seconds, got {timeout!r}")
    if not timeout >= 0:
        raise ValueError(f"timeout must be a number of seconds from 0, got {timeout!r}")
    return timeout


def _before_fork() -> None:
    if _GATE.shut(_LONGEST_FORK):
        for store in list(_ALL):
            store.before_fork()


def _after_fork() -> None:
    _GATE.renew()
    for store in list(_ALL):
        store.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_GATE.open, after_in_child=_after_fork)


def _taken_from(idle: list[sqlite3.Connection]) -> sqlite3.Connection | None:
    """Return one of the connections; who looks first and takes then may find that another thread was quicker."""
    with contextlib.suppress(IndexError):
        return idle.pop()
    return None


def _statements(step: int) -> list[str]:
    """Return the statements of one migration."""
    text = resources.files("bgsched.stores.schema").joinpath(f"sqlite_{step:04}.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement for statement in "\n".join(lines).split(";\n") if statement.strip()]
