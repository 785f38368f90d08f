"""Connections to PostgreSQL that neither hang nor talk.

*They do not hang.* Every wait for the server has an end, kept on this side of the wire: a half-open link answers
nothing, and no setting of the server can help with that. What the server itself is told (timeouts of the statement, of
locks, of an idle transaction) frees the rows that a link cut in two would hold.

*They leave no session state*, so that PgBouncer in transaction mode can stand between: settings are ``SET LOCAL``,
statements are not prepared, locks end with their transaction.

*They do not talk.* An `Address` keeps the password to itself; whatever PostgreSQL says is put into one sentence.

Links are kept in a stack of our own and not in psycopg's pool: that one connects in threads of its own, so that whoever
waits for it learns neither why nor, before its timeout is over, that it failed; and it tries again when nobody asks.
"""

import contextlib
import os
import re
import struct
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.adapt import Buffer, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import TupleRow

from bgsched.errors import StoreError, StoreSchemaError, StoreUnavailableError, StoreURLError

__all__ = ["LONG", "Address", "ConflictError", "Link", "Links", "dial"]

V = TypeVar("V")

LONG = 120.0
"""Seconds that a search of everything may take, or the removal of very much."""

_PATIENCE = 8.0  # seconds for any other answer; with connecting, less than a scheduler's lease
_GREETING = 3.0  # seconds that a link which was idle may take to begin
_OLDEST = 120_000  # PostgreSQL 12
_MOST_IDLE = 4
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "fallback_application_name": "bgsched",
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
}
_EPOCH_2000 = 946_684_800_000_000  # PostgreSQL counts from 2000, we from 1970; both in microseconds
_DAY = 86_400_000_000


class ConflictError(StoreUnavailableError):
    """Two transactions stood in each other's way, and PostgreSQL undid this one: it can be done again at once."""


class Address:
    """Where a database is. Its text has no password.

    Raises:
        StoreURLError: *dsn* cannot be read; the message repeats nothing of it, for a password may be anywhere.
    """

    def __init__(self, dsn: str) -> None:
        try:
            self._parts = conninfo_to_dict(dsn)
        except psycopg.Error as error:
            known = re.match(r'invalid (URI query parameter|connection option|port number)[: ]+"[^"@]*"', str(error))
            raise StoreURLError(
                f"the PostgreSQL address cannot be read{': ' + known[0] if known else ''}; "
                "write 'postgresql://user:password@host:5432/database'"
            ) from None

        port = str(self._parts.get("port") or "")
        if not re.fullmatch(r"[0-9,]*", port):
            raise StoreURLError(f"the PostgreSQL address cannot be read: its port is {len(port)} characters, no number")

    def __str__(self) -> str:
        part = {name: str(value) for name, value in self._parts.items() if value is not None}
        user = f"{part['user']}@" if "user" in part else ""
        port = f":{part['port']}" if "port" in part else ""
        return f"{user}{part.get('host', part.get('hostaddr', ''))}{port}/{part.get('dbname', '')}"

    @property
    def conninfo(self) -> str:
        """What libpq needs, the password included: only ever for libpq."""
        return make_conninfo(**{**_DEFAULTS, **self._parts})

    def explain(self, error: psycopg.Error) -> StoreError:
        """Return *error* as one of ours: one sentence that says where, and what PostgreSQL said."""
        said = error.diag.message_primary or _first_sentence(str(error))
        if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure | errors.UniqueViolation):
            return ConflictError(f"PostgreSQL at {self}: two transactions stood in each other's way ({said})")
        if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName | errors.UndefinedColumn):
            return StoreSchemaError(f"PostgreSQL at {self}: the tables of bgsched are not as they were made ({said})")
        return StoreUnavailableError(f"PostgreSQL at {self}: {said}")


def _first_sentence(text: str) -> str:
    """Return the part of libpq's many lines that says what is wrong."""
    lines = [line.strip(" -\t") for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL:" in line or "failed:" in line] or lines or ["it said nothing"]
    sentence = telling[-1].removeprefix("connection failed: ")
    return re.sub(r"^connection to server (at|on) .*? failed: (FATAL: *)?", "", sentence).rstrip(":.")


class Link(psycopg.Connection[TupleRow]):
    """A connection that waits for no answer longer than its *patience*, in seconds."""

    patience = _PATIENCE
    pid = 0

    def wait(self, gen: Any, *options: Any, **named: Any) -> Any:
        """Wait for the server, up to the patience."""
        return super().wait(_impatient(gen, self.patience), *options, **named)

    def ask(self, query: str, *values: Any) -> list[TupleRow]:
        """Return the rows of a statement."""
        return self.execute(query, values, binary=True).fetchall()

    def do(self, query: str, *values: Any) -> None:
        """Execute a statement that has no rows."""
        self.execute(query, values)

    def drop(self) -> None:
        """Close, whatever state it is in."""
        with contextlib.suppress(Exception):
            self.close()


def _impatient(gen: Generator[Any, Any, V], patience: float) -> Generator[Any, Any, V]:
    """Drive psycopg's *gen*, which is asked again every tenth of a second, until it is done or out of time."""
    give_up = time.monotonic() + patience
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > give_up:
                raise psycopg.OperationalError(f"no answer within {patience:g} s")
            wanted = gen.send(ready)
    except StopIteration as done:
        result: V = done.value
        return result


class _InstantLoader(Loader):
    """``timestamptz`` as microseconds since 1970 UTC: exact, and whatever the session's time zone is."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        return int(struct.unpack("!q", data)[0]) + _EPOCH_2000


class _SpanLoader(Loader):
    """``interval`` as microseconds."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        micros, days, months = struct.unpack("!qii", data)
        return int(micros + (days + 30 * months) * _DAY)


class _TextLoader(Loader):
    """``json`` as its text."""

    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        return bytes(data).decode()


def dial(address: Address) -> Link:
    """Open a link.

    Raises:
        StoreUnavailableError: nobody answers, or lets us in, or the server is too old.
    """
    try:
        link = Link.connect(address.conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise address.explain(error) from None  # its text and its frames have the DSN near them
    for name, loader in (("timestamptz", _InstantLoader), ("interval", _SpanLoader), ("json", _TextLoader)):
        link.adapters.register_loader(name, loader)
    link.pid = link.info.backend_pid
    version = link.info.server_version
    if version < _OLDEST:
        link.drop()
        raise StoreUnavailableError(f"PostgreSQL at {address} is version {version // 10_000}; bgsched needs 12")
    return link


class Links:
    """Up to *most* links at once, of which a few stay open. Thread-safe; each begins its transactions with *begin*."""

    def __init__(self, address: Address, begin: str, *, most: int) -> None:
        self._address = address
        self._begin = begin
        self._most = most
        self.closed = False
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        self._idle: list[Link] = []
        self._finalizer = weakref.finalize(self, _drop_all, self._idle)  # for a store that nobody closes
        self._places = threading.BoundedSemaphore(self._most)
        self._pids: set[int] = set()

    @contextmanager
    def transaction(self, at_commit: Callable[[Link], None] = lambda _: None) -> Iterator[Link]:
        """Lend a link inside a transaction; commit it when the block ends, undo it when it raises.

        Raises:
            ConflictError: it was undone in favour of another, and may be done again.
            StoreUnavailableError: the server cannot be reached, or does not want to.
        """
        if not self._places.acquire(timeout=_PATIENCE):
            raise StoreUnavailableError(f"PostgreSQL at {self._address}: all {self._most} connections were in use")
        link = None
        try:
            link = self._begun()
            yield link
            at_commit(link)
            self._commit(link)
            self._keep(link)
        except psycopg.Error as error:
            self._undo(link)
            raise self._address.explain(error) from error
        except BaseException:
            self._undo(link)
            raise
        finally:
            self._places.release()

    def owns(self, pid: int) -> bool:
        """Return whether *pid* is the server's number for one of these links."""
        return pid in self._pids

    def close(self) -> None:
        """Close the links that are not in use; the others when they come back."""
        self.closed = True
        self._forget_idle()

    def forget_after_fork(self) -> None:
        """Leave the parent's links to the parent."""
        self._finalizer.detach()
        _LEFT_TO_PARENT.extend(self._idle)
        self._reset()

    def _begun(self) -> Link:
        """Return a link whose transaction has begun: one that is open and answers, else a new one.

        When one has died the others have too, for the usual causes (a restart, a network that was away).
        """
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                break
            try:
                link.patience = _GREETING
                link.execute(self._begin)
            except psycopg.Error:
                self._forget(link)
                self._forget_idle()
            else:
                link.patience = _PATIENCE
                return link
        link = dial(self._address)
        self._pids.add(link.pid)
        link.execute(self._begin)
        return link

    def _commit(self, link: Link) -> None:
        try:
            link.execute("COMMIT")
        except psycopg.OperationalError as error:
            raise StoreUnavailableError(
                f"{self._address.explain(error)}, just when it was to commit: whether it did is not known"
            ) from error

    def _undo(self, link: Link | None) -> None:
        if link is None:
            return
        try:
            if link.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                link.patience = _GREETING
                link.execute("ROLLBACK")
                self._keep(link)
                return
        except psycopg.Error:
            pass
        self._forget(link)

    def _keep(self, link: Link) -> None:
        link.patience = _PATIENCE
        if self.closed or len(self._idle) >= _MOST_IDLE:
            self._forget(link)
        else:
            self._idle.append(link)

    def _forget_idle(self) -> None:
        with contextlib.suppress(IndexError):  # other threads may take from it meanwhile
            while True:
                self._forget(self._idle.pop())

    def _forget(self, link: Link) -> None:
        self._pids.discard(link.pid)
        link.drop()


def _drop_all(links: list[Link]) -> None:
    for link in links:
        link.drop()


_ALL: "weakref.WeakSet[Links]" = weakref.WeakSet()
_LEFT_TO_PARENT: list[Link] = []


def _after_fork() -> None:
    for links in list(_ALL):
        links.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
