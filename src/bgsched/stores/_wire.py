"""One connection to PostgreSQL, that neither hangs nor keeps anything.

*It does not hang.* Every wait for the server has an end, kept on this side of the wire: a half-open link answers
nothing, and no setting of the server can help with that. What the server itself is told (timeouts of the statement, of
locks, of an idle transaction) frees the rows that a link cut in two would hold.

*It keeps no session state*, so that PgBouncer in transaction mode can stand between: settings end with their
transaction, statements are not prepared, locks end with their transaction.

*It says much at once.* Statements travel in a `send` together, and so do their answers: what costs is the way, not the
words.
"""

import contextlib
import struct
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format
from psycopg.rows import TupleRow
from psycopg.types.string import TextBinaryLoader

from bgsched.errors import StoreUnavailableError
from bgsched.stores._address import Address

__all__ = ["EPOCH_2000", "PATIENCE", "Link", "Packed", "Statement", "dial", "is_broken"]

V = TypeVar("V")

Statement = tuple[str, Sequence[Any] | Mapping[str, Any]]
"""What is asked, with its values, by their places or their names."""

PATIENCE = 8.0
"""Seconds to wait for an answer; with connecting, less than a scheduler's lease."""

_OLDEST = 120_000  # PostgreSQL 12
_HOLD_ALL_TEXT = ("UTF8", "SQL_ASCII", None)  # the second keeps bytes as they come; None: a pooler does not tell
EPOCH_2000 = 946_684_800_000_000
"""Where PostgreSQL counts from; we count from 1970. Both count microseconds."""

_DAY = 86_400_000_000


class Packed(bytes):
    """A value in PostgreSQL's binary form, of the type that its place in the statement says."""

    __slots__ = ()


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Packed) -> Packed:
        return obj


class Link(psycopg.Connection[TupleRow]):
    """A connection that waits for no answer longer than its *patience*, in seconds."""

    patience = PATIENCE
    pid = 0
    used_at = 0.0

    def wait(self, gen: Any, *options: Any, **named: Any) -> Any:
        """Wait for the server, up to the patience."""
        return super().wait(self._impatient(gen), *options, **named)

    def send(self, statements: Iterable[Statement]) -> list[list[TupleRow]]:
        """Execute statements on one way there and back; return the rows of each.

        The first that fails raises; those behind it are not executed. While one is made, the server works on those
        before it.
        """
        cursors: list[psycopg.Cursor[TupleRow]] = []
        failed: psycopg.Error | None = None
        try:
            with contextlib.nullcontext() if _is_single(statements) else self.pipeline():
                try:
                    cursors.extend(self.execute(query, values, binary=True) for query, values in statements)
                except psycopg.Error as error:
                    failed = error  # that the others were left out is what the end of the pipeline would say
        except psycopg.Error as error:
            failed = failed or error
        if failed is not None:
            raise failed
        self.used_at = time.monotonic()
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]

    def stream(self, query: str, pieces: Iterable[bytes]) -> None:
        """Execute a COPY from *pieces*; the server takes in those that are made while the next are."""
        with self.cursor() as cursor, cursor.copy(query) as copy:
            for piece in pieces:
                copy.write(piece)
        self.used_at = time.monotonic()

    def drop(self) -> None:
        """Close, whatever state it is in."""
        with contextlib.suppress(Exception):
            self.close()

    def _impatient(self, gen: Generator[Any, Any, V]) -> Generator[Any, Any, V]:
        """Drive psycopg's *gen*, which is asked again every tenth of a second, until it is done or out of time."""
        give_up = time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > give_up:
                    self._give_up(gen)
                wanted = gen.send(ready)
        except StopIteration as done:
            result: V = done.value
            return result

    def _give_up(self, gen: Generator[Any, Any, Any]) -> None:
        error = psycopg.OperationalError(f"no answer within {self.patience:g} s")
        self.pgconn.finish()  # so that what *gen* wants to do on its way out fails, and does not wait again
        with contextlib.suppress(psycopg.Error, StopIteration):
            gen.throw(error)
        raise error


def _is_single(statements: Iterable[Statement]) -> bool:
    return isinstance(statements, list) and len(statements) == 1


def is_broken(error: psycopg.Error) -> bool:
    """Return whether it was the connection that failed: then nobody knows what the server did."""
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and (
        error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
    )


class _InstantLoader(Loader):
    """``timestamptz`` as microseconds since 1970 UTC: exact, and whatever the session's time zone is."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        return int.from_bytes(data, "big", signed=True) + EPOCH_2000


class _SpanLoader(Loader):
    """``interval`` as microseconds."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        micros, days, months = struct.unpack("!qii", data)
        return int(micros + (days + 30 * months) * _DAY)


def dial(address: Address) -> Link:
    """Open a link.

    Raises:
        StoreUnavailableError: nobody answers, or lets us in, or the server is too old.
    """
    try:
        link = Link.connect(address.conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise address.unavailable(error) from None  # its text and its frames have the DSN near them
    for name, loader in (("timestamptz", _InstantLoader), ("interval", _SpanLoader), ("json", TextBinaryLoader)):
        link.adapters.register_loader(name, loader)
    link.adapters.register_dumper(Packed, _PackedDumper)
    link.pid = link.info.backend_pid
    if (problem := _unusable(link)) is not None:
        link.drop()
        raise StoreUnavailableError(f"PostgreSQL at {address} {problem}")
    return link


def _unusable(link: Link) -> str | None:
    """Return what keeps us from using the database behind *link*."""
    version = link.info.server_version
    if version < _OLDEST:
        return f"is version {version // 10_000}; bgsched needs 12"
    encoding = link.info.parameter_status("server_encoding")
    if encoding not in _HOLD_ALL_TEXT:
        return f"keeps text as {encoding}, which has no room for much of what is logged; bgsched needs UTF8"
    return None
