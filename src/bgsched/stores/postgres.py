"""A store in PostgreSQL, shared by any number of schedulers on any number of machines; none of them leads.

Why a fire time runs once: `due_requests` locks the requests it takes and leaves out those that another claim has locked
(``FOR UPDATE SKIP LOCKED``); the claim moves them on before it commits; and ``(request_id, revision, fire_time)`` is
unique whatever happens.

Why runs of one overlap key never go on together: whoever starts one holds the key until the commit, by the row of the
request where the key is one request's, else by an advisory lock, and *only then* looks for a run in its way, in a
statement of its own. ``READ COMMITTED`` gives each statement a new snapshot; a ``NOT EXISTS`` inside the statement that
takes the lock would look into the old one. Keys are tried, never waited for: nobody deadlocks, and the loser finds the
request still due.

Who is alive is decided by the server's clock alone. Where two transactions could wait for each other all the same (a
report and a kill of the same run), PostgreSQL undoes one, and it is done again.
"""

import functools
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from bgsched.errors import MissingExtraError, StoreUnavailableError, StoreURLError
from bgsched.run import Run
from bgsched.stores import _values
from bgsched.stores.base import SchedulerRecord, Store, Transaction as AnyTransaction

try:
    from bgsched.stores._address import Address, ConflictError
    from bgsched.stores._links import Links, Talk
    from bgsched.stores._listener import Listener
    from bgsched.stores._postgres_pages import recorded_after
    from bgsched.stores._postgres_reader import PostgresReader
    from bgsched.stores._postgres_schema import prepare
    from bgsched.stores._postgres_steps import PostgresTransaction, renew
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("psycopg"):
        raise
    raise MissingExtraError("PostgresStore", "postgres") from error

__all__ = ["PostgresStore"]

P = ParamSpec("P")
R = TypeVar("R")

_POLL = 5.0  # seconds until changes are looked for when nobody was heard
_POLL_UNHEARD = 1.0  # the same where nobody can be heard, behind a pooler
_LOOK = 4.0  # with a lease of 15 s, the dead are found within 20 s
_TRIES = 5
_MOST_LINKS = 5

# Rows are found by their indexes, one by one, whatever the planner thinks of tables that were empty a minute ago.
# To compile a plan takes longer than to execute it; before 18, PostgreSQL would, where one reads a table all the same.
_PLANS = {"statement_timeout": "120s", "enable_seqscan": "off", "jit": "off"}
_WRITING = _PLANS | {
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_READING = _PLANS | {"enable_bitmapscan": "off"}  # it would collect all that matches, and sort it, for a page of it


def _set(settings: Mapping[str, str]) -> str:
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())


_WRITE = ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", _set(_WRITING))
_READ = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", _set(_READING))


def _again(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate["PostgresStore", P], R]:
    """Do *method* again when PostgreSQL undid it in favour of another transaction."""

    @functools.wraps(method)
    def done(self: "PostgresStore", /, *args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(_TRIES - 1):
            try:
                return method(self, *args, **kwargs)
            except ConflictError:
                continue
        return method(self, *args, **kwargs)

    return done


class PostgresStore(Store):
    """Keeps everything in the *schema* of the PostgreSQL database *dsn* (a URL, or libpq's ``host=... dbname=...``).

    The schema is made when it is not there; it should hold nothing else. *read_only*: it must be there, and nothing of
    it is changed; for a `Monitor`. *listen_dsn*: a direct address, where *dsn* leads through a pooler that forwards no
    notifications; without one, changes made elsewhere are then seen within a second.

    Raises:
        MissingExtraError: psycopg is not installed.
        StoreURLError: the address cannot be read, or the schema's name is none.
        StoreUnavailableError: the server cannot be reached, or lets us not do what is needed.
        StoreSchemaError: the schema is another program's, or a newer bgsched made it.
    """

    def __init__(
        self, dsn: str, *, schema: str = "bgsched", read_only: bool = False, listen_dsn: str | None = None
    ) -> None:
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", str(schema)):
            raise StoreURLError(f"schema must be a plain name, like 'bgsched' or 'my_app', got {schema!r}")
        self.address = Address(dsn)
        self.schema = schema
        self._place = f'"{schema}"'  # as SQL says it: "order" is a name, too
        self._listen_address = self.address if listen_dsn is None else Address(listen_dsn)
        self._read_only = read_only
        self._writers = Links(self.address, _WRITE, most=_MOST_LINKS)
        self._readers = Links(self.address, _READ, most=_MOST_LINKS)
        self._listening = threading.Lock()
        self._listener: Listener | None = None
        self._wakes: list[Callable[[bool], None]] = []
        self._commits = 0
        self._heard = 0
        self._polls = 0
        self._polled_at = time.monotonic()
        try:
            prepare(self._readers, None if read_only else self._writers, schema)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"PostgresStore('postgresql://{self.address}', schema={self.schema!r})"

    def reader(self) -> PostgresReader:
        """Return the reading half."""
        return PostgresReader(self._readers, self._place)

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        """Open a write transaction; several may go on at once, each on a link of its own."""
        if self._read_only:
            raise StoreUnavailableError(f"{self!r} was opened to read only")
        with self._writers.transaction() as talk:
            tx = PostgresTransaction(talk, self._place)
            yield tx
            for what in sorted(tx.news):
                talk.do("SELECT pg_notify(%s, %s)", self._channel, what)
        self._commits += 1

    def reading(self) -> AbstractContextManager[Talk]:
        """Lend a link in a transaction that cannot write."""
        return self._readers.transaction()

    def close(self) -> None:
        """Close the links. A store that is used all the same opens one for each question."""
        with self._listening:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.end()
        self._writers.close()
        self._readers.close()

    def changes(self) -> tuple[int, int, int]:
        """Return our own commits, the notifications heard, and how often it was time to look without any."""
        now = time.monotonic()
        if now - self._polled_at >= (_POLL if self._hears else _POLL_UNHEARD):
            self._polled_at = now
            self._polls += 1
        return self._commits, self._heard, self._polls

    @property
    def look_every(self) -> float:
        """Seconds between two looks for the dead and for asked kills, of which we are told where we can hear."""
        return _LOOK if self._hears else _POLL_UNHEARD

    @property
    def bite(self) -> float:
        """Seconds of one bite of a purge, which holds up nobody but its own scheduler."""
        return 0.005

    # -- what others do --------------------------------------------------------------------------------------------

    def listen(self, wake: Callable[[bool], None]) -> None:
        """Call *wake* when somebody elsewhere filed or changed something, or (``True``) asked for a kill."""
        with self._listening:
            self._wakes.append(wake)
            if self._listener is None or not self._listener.alive:
                self._listener = Listener(self._listen_address, self._channel, self._writers.owns, self._hear)

    def unlisten(self, wake: Callable[[bool], None]) -> None:
        """Undo `listen`; the last one closes the link."""
        with self._listening:
            if wake in self._wakes:
                self._wakes.remove(wake)
            listener = None
            if not self._wakes:
                listener, self._listener = self._listener, None
        if listener is not None:
            listener.end()

    @property
    def _hears(self) -> bool:
        return self._listener is not None and self._listener.works

    @property
    def _channel(self) -> str:
        digest = hashlib.sha256(self.schema.encode()).hexdigest()[:16]
        return f"bgsched_{self.schema[:30]}_{digest}"  # a name of PostgreSQL has 63 bytes at most

    def _hear(self, what: str) -> None:
        self._heard += 1
        for wake in list(self._wakes):
            wake(what == "kill")

    # -- the contract: what is done again, and what the server's clock decides -----------------------------------------

    file = _again(Store.file)
    change = _again(Store.change)
    change_all = _again(Store.change_all)
    delete = _again(Store.delete)
    enqueue = _again(Store.enqueue)
    add_member = _again(Store.add_member)
    claim = _again(Store.claim)
    record = _again(Store.record)
    kill = _again(Store.kill)
    sign_on = _again(Store.sign_on)
    sign_off = _again(Store.sign_off)
    compute_by = _again(Store.compute_by)
    purge = _again(Store.purge)

    @_again
    def heartbeat(self, record: SchedulerRecord) -> bool:
        """Renew the lease of a scheduler that still stands, by the server's clock; in one statement."""
        query, values = renew(self._place, record)
        return bool(self._writers.once(query, **values))

    @_again
    def reap(self, now: datetime, *, leases: bool = True) -> list[Run]:  # noqa: ARG002  the server's clock says so
        """End what dead schedulers left; asks whether there are any before it begins to write."""
        expired = f"SELECT 1 FROM {self._place}.schedulers WHERE expires_at < clock_timestamp() LIMIT 1"  # noqa: S608
        return super().reap(now) if self._readers.once(expired) else []

    @_again
    def _has_recorded_after(self, instant: datetime) -> bool:
        """Ask for any such run: several schedulers record at once, and what is newest says nothing of the others."""
        found = " OR ".join(f"EXISTS ({ids})" for ids in recorded_after(self._place))
        return bool(self._readers.once(f"SELECT {found}", instant, instant)[0][0])

    @_again
    def bring_back(self, now: datetime) -> int:
        """Bring back runs that were recorded in the future, both by the server's clock and the one here."""
        rows = self._readers.once("SELECT clock_timestamp()")
        return super().bring_back(max(now, _values.instant(rows[0][0]) or now))

    def held(self, owner: str) -> list[Run]:
        """Return the active runs of *owner*, without waiting for who deletes or ends one of them just now."""
        return self.reader().held(owner)

    def gone(self, tx: AnyTransaction, now: datetime) -> list[str]:  # noqa: ARG002  whatever the client's clock says
        """Return the owners whose lease ran out by the server's clock."""
        assert isinstance(tx, PostgresTransaction)  # noqa: S101  it is ours
        return tx.expired()
