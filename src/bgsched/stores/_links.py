"""The connections that a store has open, and the transactions on them.

Links are kept in a stack of our own and not in psycopg's pool: that one connects in threads of its own, so that whoever
waits for it learns neither why nor, before its timeout is over, that it failed; and it tries again when nobody asks.
"""

import contextlib
import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from bgsched.errors import StoreUnavailableError
from bgsched.stores import _wire
from bgsched.stores._address import Address
from bgsched.stores._wire import Link, Statement, dial, is_broken

__all__ = ["LONG", "Links", "Talk"]

LONG = 120.0
"""Seconds that a search of everything may take, or the removal of very much."""

_GREETING = 3.0  # seconds that a link which was idle may take to show life
_IDLE = 1.0  # seconds after which a link was idle
_MOST_IDLE = 4
_MOST_PUT_OFF = 8  # statements
_COMMIT: Statement = ("COMMIT", ())


class Talk:
    """What is said on a link, in one transaction or one statement.

    What has no answer is put off until the next question or the end, to travel with it.
    """

    def __init__(self, links: "Links", begin: Sequence[Statement] = ()) -> None:
        self.patience = _wire.PATIENCE
        self._links = links
        self._link: Link | None = None
        self._put_off = list(begin)
        self._is_over = False

    def ask(self, query: str, *values: Any, **named: Any) -> list[TupleRow]:
        """Return the rows of a statement."""
        return self.send((query, named or values))[-1]

    def ask_last(self, query: str, *values: Any) -> list[TupleRow]:
        """Return the rows of the statement that ends the transaction, which has only read: one round trip less."""
        *_, rows, _ = self.send((query, values), _COMMIT)
        self._is_over = True
        return rows

    def do(self, query: str, *values: Any, **named: Any) -> None:
        """Execute a statement whose answer nobody needs, at the latest when the transaction ends."""
        self._put_off.append((query, named or values))
        if len(self._put_off) > _MOST_PUT_OFF:
            self.send()

    def script(self, text: str) -> None:
        """Execute a text of several statements, which take as long as they take."""
        self.send()
        assert self._link is not None  # noqa: S101  something was said: the beginning
        self._link.patience = LONG
        self._link.execute(text)

    def stream(self, query: str, pieces: Iterable[bytes]) -> None:
        """Execute a COPY from *pieces*, which may be made meanwhile but must not say anything here."""
        self.send()
        assert self._link is not None  # noqa: S101  something was said: the beginning
        self._link.patience = self.patience
        self._link.stream(query, pieces)

    @property
    def role(self) -> str:
        """The role in which the server was spoken to."""
        return "" if self._link is None else self._link.info.user

    def send(self, *statements: Statement) -> list[list[TupleRow]]:
        """Send what was put off and these, in one go; return the rows of each of these."""
        return self.ask_each(statements)

    def ask_each(self, statements: Iterable[Statement]) -> list[list[TupleRow]]:
        """Do as `send`; the server works on one while the next is made.

        The first words may be said again, over another link, so they must not commit what was written.
        """
        put_off, self._put_off = self._put_off, []
        said = [*put_off, *statements] if isinstance(statements, tuple) else itertools.chain(put_off, statements)
        if self._link is None:
            answers = self._greet(said)
        else:
            self._link.patience = self.patience
            answers = self._link.send(said)
        return answers[len(put_off) :]

    def _greet(self, said: Iterable[Statement]) -> list[list[TupleRow]]:
        """Say the first words, over a link that was open if there is one; over a new one, if that one is dead."""
        self._link = link = self._links.take()
        first, again = (said, said) if isinstance(said, list) else itertools.tee(said)
        was_idle = time.monotonic() - link.used_at > _IDLE
        link.patience = min(_GREETING, self.patience) if link.used_at and was_idle else self.patience
        try:
            return link.send(first)
        except psycopg.Error as error:
            if not link.used_at or not (is_broken(error) or link.closed):
                raise
        self._link = None
        self._link = self._links.replace(link)
        self._link.patience = self.patience
        return self._link.send(again)

    def commit(self) -> None:
        """End the transaction.

        Raises:
            StoreUnavailableError: the link broke at that moment.
        """
        if self._is_over:
            return
        if self._link is None:
            self.send()
        try:
            self.send(_COMMIT)
        except psycopg.Error as error:
            if not is_broken(error):
                raise
            raise StoreUnavailableError(
                f"{self._links.address.unavailable(error)}, just when it was to commit: whether it did is not known"
            ) from error

    def end(self) -> None:
        """Give the link back, what it left open undone."""
        if (link := self._link) is None:
            return
        with contextlib.suppress(psycopg.Error):
            if link.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                link.patience = _GREETING
                link.execute("ROLLBACK")
            if link.info.transaction_status is TransactionStatus.IDLE:
                self._links.keep(link)
                return
        self._links.forget(link)


class Links:
    """Up to *most* links at once, of which a few stay open. Thread-safe; each begins its transactions with *begin*."""

    def __init__(self, address: Address, begin: Sequence[str], *, most: int) -> None:
        self.address = address
        self.closed = False
        self._only_reads_alone = False
        self._begin: list[Statement] = [(words, ()) for words in begin]
        self._most = most
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        self._idle: list[Link] = []
        self._finalizer = weakref.finalize(self, _drop_all, self._idle)  # for a store that nobody closes
        self._places = threading.BoundedSemaphore(self._most)
        self._pids: set[int] = set()

    @contextmanager
    def transaction(self) -> Iterator[Talk]:
        """Lend a link inside a transaction; commit it when the block ends, undo it when it raises.

        Raises:
            ConflictError: it was undone in favour of another, and may be done again.
            StoreUnavailableError: the server cannot be reached, or does not want to.
        """
        with self._talk(self._begin) as talk:
            yield talk
            talk.commit()

    def ask(self, query: str, *values: Any, patience: float | None = None) -> list[TupleRow]:
        """Return the rows of a statement in a transaction of its own, which changes nothing; in one round trip."""
        with self._talk(self._begin) as talk:
            talk.patience = patience or talk.patience
            return talk.ask_last(query, *values)

    def once(self, query: str, *values: Any, **named: Any) -> list[TupleRow]:
        """Return the rows of one statement, which is all that is executed; it may be executed twice.

        In a transaction, where it writes and the database or the role says that what does not begin with more only
        reads (``default_transaction_read_only``).
        """
        if not self._only_reads_alone:
            with self._talk() as talk, contextlib.suppress(psycopg.errors.ReadOnlySqlTransaction):
                return talk.ask(query, *values, **named)
        with self.transaction() as talk:
            rows = talk.ask(query, *values, **named)
        self._only_reads_alone = True
        return rows

    @contextmanager
    def _talk(self, begin: Sequence[Statement] = ()) -> Iterator[Talk]:
        if not self._places.acquire(timeout=_wire.PATIENCE):
            raise StoreUnavailableError(f"PostgreSQL at {self.address}: all {self._most} connections were in use")
        talk = Talk(self, begin)
        try:
            yield talk
        except psycopg.Error as error:
            raise self.address.explain(error) from error
        finally:
            talk.end()
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

    # -- for a talk ------------------------------------------------------------------------------------------------

    def take(self) -> Link:
        """Return a link that is open, else a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._dial()

    def replace(self, link: Link) -> Link:
        """Return a new link for one that died. The others have died too, for the usual causes: a restart, say."""
        self.forget(link)
        self._forget_idle()
        return self._dial()

    def keep(self, link: Link) -> None:
        """Take back a link that can be used again."""
        if self.closed or len(self._idle) >= _MOST_IDLE:
            self.forget(link)
        else:
            self._idle.append(link)

    def forget(self, link: Link) -> None:
        """Close a link."""
        self._pids.discard(link.pid)
        link.drop()

    def _dial(self) -> Link:
        link = dial(self.address)
        self._pids.add(link.pid)
        return link

    def _forget_idle(self) -> None:
        with contextlib.suppress(IndexError):  # other threads may take from it meanwhile
            while True:
                self.forget(self._idle.pop())


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
