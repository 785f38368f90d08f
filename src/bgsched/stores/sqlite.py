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
import logging
import os
import random
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from typing import Any, TypeVar, cast

from bgsched.errors import StoreSchemaError, StoreUnavailableError
from bgsched.run import Run
from bgsched.stores._forks import Gate
from bgsched.stores._locks import OwnerLocks
from bgsched.stores._sqlite_connections import Open, taken_from
from bgsched.stores._sqlite_files import DatabaseFile, Identity, OvertakenError, Stamp, asking_again, checked_path
from bgsched.stores._sqlite_reader import SQLiteReader, look_into
from bgsched.stores._sqlite_schema import Schema
from bgsched.stores._sqlite_steps import SQLiteTransaction
from bgsched.stores.base import AT_WORK, SchedulerRecord, Store

__all__ = ["SQLiteStore"]

V = TypeVar("V")
LOGGER = logging.getLogger("bgsched")
_OLDEST = (3, 35, 0)  # RETURNING

_LONGEST_FORK = 5.0  # seconds that a fork waits for the threads that use a database
_LONGEST_WAL = 64 * 1024 * 1024  # what of the write-ahead log stays on the disk after a long reader made it grow
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT}


# What SQLite says of statements that its tables do not fit, all with the same code.
_MISSING = re.compile("no such (table|column|view)|has no column named")
_TAKEN = re.compile("already exists|there is already")

_GATE = Gate()


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
        self.path = checked_path(path).absolute()
        self._timeout = _checked_timeout(timeout)
        self._lock = threading.RLock()
        self._open_none()
        self._files = DatabaseFile(self.path)
        self._schema = Schema(self.path)
        self._file: Identity | None = None  # of the database, and of the write-ahead log that was open last
        self._log: Identity | None = None
        self._stamp: Stamp | None = None  # of the database, when that log was last seen beside it
        self._crosses = False  # a fork, open
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
            self._making_way(self._write_connection)
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
        with ExitStack() as turn:
            connection = self._making_way(lambda: self._begun(turn))
            try:
                yield SQLiteTransaction(connection)
                connection.execute("COMMIT")
                self._commits += 1
            except BaseException:
                self._roll_back(connection)
                raise

    def _begun(self, turn: ExitStack) -> sqlite3.Connection:
        """Begin a transaction, and let *turn* end what it needs; by itself where it cannot be begun."""
        with ExitStack() as entered:
            for context in (_GATE.inside(), self._lock, self._explaining()):
                entered.enter_context(context)
            connection = self._write_connection()
            try:
                self._begin(connection)
                self._schema.version(connection)
            except BaseException:
                self._roll_back(connection)
                raise
            turn.push(entered.pop_all())
            return connection

    def _making_way(self, act: Callable[[], V]) -> V:
        """Do what makes way for a fork where it has to wait for others; again, after the fork, while there is time."""
        give_up = time.monotonic() + self._timeout
        while True:
            try:
                return act()
            except _ForkWaitsError:
                if time.monotonic() > give_up:
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
        connection = taken_from(idle) or self._connect_to_read(options)
        try:
            yield connection
        except BaseException:  # its transaction may be open still, and would hold back every checkpoint
            connection.close()
            raise
        self._remember()
        idle.append(connection)
        while idle is not self._open.idle and (one := taken_from(idle)):  # the file may be another one by now
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
        self._open.abandon()
        self._open_none()

    def _open_none(self) -> None:
        """Begin without connections; those to come are closed with the store, or when nobody has it any more."""
        self._open = Open()
        self._forgotten = weakref.finalize(self, self._open.close)
        self._forgotten.atexit = False  # schedulers sign off at the exit, and need theirs

    def changes(self) -> tuple[int, int, int]:
        """Return SQLite's ``data_version``, which counts the commits of others for one connection, and our own."""
        return self._making_way(self._changes)

    def _changes(self) -> tuple[int, int, int]:
        with _GATE.inside(), self._lock, self._explaining():
            version = self._write_connection().execute("PRAGMA data_version").fetchone()[0]
            return version, self._commits, self._generation

    def sign_on(self, record: SchedulerRecord) -> None:
        """Announce a scheduler; its lock is held before anybody can read its name."""
        try:
            self._locks.hold(record.owner)
        except OSError as error:
            raise StoreUnavailableError(f"no lock file can be made beside {self.path}: {error}") from error
        try:
            super().sign_on(record)
        except BaseException:
            self._locks.release(record.owner)  # nobody will look for the file of who is not known
            raise

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
            self._log, self._stamp = self._files.log_identity(), self._files.look()

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
            self._schema.check_readable(connection)
            self._file = self._files.identity()

    def _connect_to_write(self) -> sqlite3.Connection:
        if (why := self._files.refuses_writers()) is not None:
            raise StoreUnavailableError(f"{self.path}{why}")
        connection = self._connect(str(self._files.path), timeout=0.0)
        try:
            self._patiently(self._schema.check, connection)  # what is not for us stays as it is
            self._patiently(connection.execute, "PRAGMA journal_mode = WAL")
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
        if self._files.path in _CROSSED:
            raise StoreUnavailableError(
                f"{self.path} cannot be used in this child: it was forked while the database was in use, for over "
                f"{_LONGEST_FORK:g} s; start child processes by the method 'spawn' or 'forkserver'"
            )
        if self._log is not None and not self._open and self._files.is_without_its_log():
            raise StoreUnavailableError(
                f"{self._files.log} was removed while others have the database open as well; "
                f"stop them all, and remove {self._files.index} if it stays"
            )
        return sqlite3.connect(name, timeout=timeout, isolation_level=None, check_same_thread=False, uri=uri)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the schema to this version in one transaction."""
        try:
            self._begin(connection)
            self._schema.bring_up_to_date(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._patiently(connection.execute, "BEGIN IMMEDIATE")

    def _patiently(self, step: Callable[[V], object], value: V) -> None:
        """Take a step as soon as no other writer is in the way, waiting up to the timeout."""
        give_up = time.monotonic() + self._timeout
        while True:
            try:
                step(value)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                if _GATE.is_shut:
                    raise _ForkWaitsError(f"{self.path}: another writer holds it, and a fork waits") from error
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
                raise self._schema.not_ours(str(error)) from error
            raise StoreUnavailableError(f"{self.path}: {error}{self._advice(primary)}") from error

    def _advice(self, primary: int | None) -> str:
        if primary == sqlite3.SQLITE_BUSY:
            return f": another writer held it for over {self._timeout:g} s"
        return self._files.advice(primary)

    def before_fork(self, *, are_all_out: bool) -> None:
        """Close the connections: an open database must not cross a fork. Where a thread uses one, it does."""
        self._crosses = bool(self._open) and not are_all_out
        if are_all_out:
            self._disconnect()

    def forget_after_fork(self) -> None:
        """Leave what the parent still has open to the parent: a child that used or closed it would harm the file."""
        self._forgotten.detach()
        if self._crosses:
            _CROSSED.add(self._files.path)
        _LEFT_TO_PARENT.append(self._open)
        self._lock = threading.RLock()
        self._open_none()


class _ForkWaitsError(StoreUnavailableError):
    """The database was not to be had at once, and a fork waits for everybody to be out of it."""


class _AskingAgain:
    """Asks each question of *reader* again where somebody wrote meanwhile."""

    def __init__(self, reader: SQLiteReader) -> None:
        self._reader = reader

    def __getattr__(self, question: str) -> Any:
        return asking_again(getattr(self._reader, question))


_ALL: "weakref.WeakSet[SQLiteStore]" = weakref.WeakSet()
_LEFT_TO_PARENT: "list[Open]" = []
_CROSSED: set[os.PathLike[str]] = set()
"""The files that were in use when this OS process was forked: its SQLite takes the parent's locks for its own."""


def _checked_timeout(timeout: object) -> float:
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout must be a number of seconds, got {timeout!r}")
    if not timeout >= 0:
        raise ValueError(f"timeout must be a number of seconds from 0, got {timeout!r}")
    return timeout


def _before_fork() -> None:
    are_all_out = _GATE.shut(_LONGEST_FORK)
    for store in list(_ALL):
        store.before_fork(are_all_out=are_all_out)


def _after_fork() -> None:
    _GATE.renew()
    for store in list(_ALL):
        store.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_GATE.open, after_in_child=_after_fork)
