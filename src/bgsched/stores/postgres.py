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
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import resources
from typing import Any, Concatenate, ParamSpec, TypeVar

from bgsched._evolve import evolve
from bgsched.errors import MissingExtraError, StoreSchemaError, StoreUnavailableError, StoreURLError
from bgsched.request import OWN_KEY, Request
from bgsched.run import FINAL, LogLine, LogTrim, Run, RunStatus
from bgsched.stores import _sql
from bgsched.stores._sql_filters import request_conditions
from bgsched.stores.base import (
    LAST,
    Absence,
    Aged,
    Ended,
    Page,
    RequestFilter,
    RunFilter,
    SchedulerRecord,
    Store,
    Summary,
    Transaction as AnyTransaction,
)

try:
    import psycopg

    from bgsched.stores._links import LONG, Address, ConflictError, Link, Links
    from bgsched.stores._listener import Listener
    from bgsched.stores._postgres_pages import page, select_runs
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("psycopg"):
        raise
    raise MissingExtraError("PostgresStore", "postgres") from error

__all__ = ["PostgresStore"]

P = ParamSpec("P")
R = TypeVar("R")

SCHEMA_VERSION = 1
_POLL = 5.0  # seconds until changes are looked for when nobody was heard
_POLL_UNHEARD = 1.0  # the same where nobody can be heard, behind a pooler
_LOOK = 4.0  # with a lease of 15 s, the dead are found within 20 s
_TRIES = 5
_MOST_LINKS = 5
_MOST_KEYS = 256  # the server's table of locks is shared by all; what a claim leaves out stays due for the next
_BITE = 1000  # rows in a statement, so that none takes long

_WRITE = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '5s'; "
    "SET LOCAL statement_timeout = '120s'; SET LOCAL idle_in_transaction_session_timeout = '15s'"
)
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '120s'"

_INSTANTS = {
    "fire_time",
    "fire_until",
    "lease_until",
    "last_fire_time",
    "next_fire_time",
    "problem_since",
    "hour",
    "at",
}
_SPANS = {"duration", "lateness"}
_NUMBERS = {"id", "run_id", "parent_id", "revision", "priority", "fire_count", "attempt", "reruns_left", "seq"}
_NUMBERS |= {"pid", "workers", "paused", "count", "fence"}
_JSON = {"params", "timing", "attempts", "progress", "result", "error", "processes"}


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
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
            raise StoreURLError(f"schema must be a plain name, like 'bgsched' or 'my_app', got {schema!r}")
        self.address = Address(dsn)
        self.schema = schema
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
            _prepare(self)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"PostgresStore('postgresql://{self.address}', schema={self.schema!r})"

    def reader(self) -> "_Reader":
        """Return the reading half."""
        return _Reader(self)

    @contextmanager
    def transaction(self) -> Iterator["_Transaction"]:
        """Open a write transaction; several may go on at once, each on a link of its own."""
        if self._read_only:
            raise StoreUnavailableError(f"{self!r} was opened to read only")
        tell = _Tell(self._channel)
        with self._writers.transaction(tell.at_commit) as link:
            yield _Transaction(link, self.schema, tell)
        self._commits += 1

    def reading(self) -> AbstractContextManager[Link]:
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
    delete = _again(Store.delete)
    enqueue = _again(Store.enqueue)
    claim = _again(Store.claim)
    record = _again(Store.record)
    kill = _again(Store.kill)
    sign_on = _again(Store.sign_on)
    sign_off = _again(Store.sign_off)
    purge = _again(Store.purge)

    @_again
    def heartbeat(self, record: SchedulerRecord) -> bool:
        """Renew the lease of a scheduler that still stands, by the server's clock; in one statement."""
        with self._writers.transaction() as link:
            return _Transaction(link, self.schema, _Tell(self._channel)).renew(record)

    @_again
    def reap(self, now: datetime, *, leases: bool = True) -> list[Run]:  # noqa: ARG002  the server's clock says so
        """End what dead schedulers left; asks whether there are any before it begins to write."""
        with self.reading() as link:
            if not link.ask(f"SELECT 1 FROM {self.schema}.schedulers WHERE expires_at < clock_timestamp() LIMIT 1"):
                return []
        return super().reap(now)

    def gone(self, tx: AnyTransaction, now: datetime) -> list[str]:  # noqa: ARG002  whatever the client's clock says
        """Return the owners whose lease ran out by the server's clock."""
        assert isinstance(tx, _Transaction)  # noqa: S101  it is ours
        return tx.expired()


class _Tell:
    """What others are told when a transaction commits. Not for each run: NOTIFY takes a lock of the whole database."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._news: set[str] = set()

    def add(self, what: str) -> None:
        self._news.add(what)

    def at_commit(self, link: Link) -> None:
        for what in sorted(self._news):
            link.do("SELECT pg_notify(%s, %s)", self._channel, what)


# -- values on their way into statements -----------------------------------------------------------------------------


def _kind(name: str) -> str:
    return "instant" if name in _INSTANTS or name.endswith("_at") else "span" if name in _SPANS else "plain"


def _pack(columns: Sequence[str], rows: Collection[Sequence[Any]]) -> str:
    """Return rows as the JSON that `_records` unpacks: one value for a whole batch."""
    records = [{name: value for name, value in zip(columns, row, strict=True) if value is not None} for row in rows]
    text = json.dumps(records, ensure_ascii=False)
    if "\\u0000" in text or not _is_utf8(text):
        cleaned = [{name: _cleaned(name, value) for name, value in record.items()} for record in records]
        text = json.dumps(cleaned, ensure_ascii=False)
    return text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cleaned(name: str, value: Any) -> Any:
    """Return a column's value as PostgreSQL can keep it, and where its view looks into the JSON, as it can show it."""
    if name in {"error", "progress"} and isinstance(value, str):
        return json.dumps({key: _clean(text) for key, text in json.loads(value).items()}, ensure_ascii=False)
    return _clean(value)


def _clean(value: Any) -> Any:
    r"""Return what PostgreSQL can keep: no NUL, no half of a surrogate pair (in JSON, ``\udc80`` means the same)."""
    if isinstance(value, str):
        return value.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    return value


@functools.cache
def _records(columns: Sequence[str], *, id_is_text: bool = False) -> str:
    """Return the FROM item ``r`` that unpacks `_pack`: instants and spans come as microseconds, JSON as text."""

    def kind(name: str) -> str:
        if name == "id" and id_is_text:
            return "text"
        return "bigint" if _kind(name) != "plain" or name in _NUMBERS else "text"

    return f"json_to_recordset(%s::json) AS r({', '.join(f'{_quoted(name)} {kind(name)}' for name in columns)})"


def _value(schema: str, name: str) -> str:
    """Return the expression for a column's value out of `_records`."""
    column = f"r.{_quoted(name)}"
    if (kind := _kind(name)) != "plain":
        return f"{schema}.{'at' if kind == 'instant' else 'of'}_micros({column})"
    return f"{column}::json" if name in _JSON else column


def _quoted(name: str) -> str:
    return f'"{name}"'


@functools.cache
def _insert(schema: str, table: str, columns: Sequence[str]) -> str:
    names = ", ".join(map(_quoted, columns))
    values = ", ".join(_value(schema, name) for name in columns)
    records = _records(columns, id_is_text=table == "requests")
    return f"INSERT INTO {schema}.{table} ({names}) SELECT {values} FROM {records}"


@functools.cache
def _settings(schema: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{_quoted(name)} = {_value(schema, name)}" for name in columns)


_REQUEST = ", ".join(map(_quoted, _sql.REQUEST_COLUMNS))
_RUN = ", ".join(map(_quoted, _sql.RUN_COLUMNS))
_LOG = ", ".join(map(_quoted, _sql.LOG_COLUMNS))
_SCHEDULER = ", ".join(map(_quoted, _sql.SCHEDULER_COLUMNS))
_ACTIVE = _sql.ACTIVE_STATUS
_NEW_RUN = _sql.RUN_COLUMNS[1:]
_UPDATE = ("id", "held", "fence", *_sql.CHANGING_COLUMNS, "kill_asked_at")
_ADVANCE = ("status", "revision", "next_fire_time", "due_at", "last_fire_time", "reason", "unscheduled_at")
_RUN_PLACE = {name: place for place, name in enumerate(_sql.RUN_COLUMNS)}
_REQUEST_PLACE = {name: place for place, name in enumerate(_sql.REQUEST_COLUMNS)}


def _bites(values: Sequence[R]) -> Iterator[Sequence[R]]:
    for start in range(0, len(values), _BITE):
        yield values[start : start + _BITE]


# ruff: noqa: S608  below, statements are put together from names of our own and the schema's, which is checked


class _Transaction:
    """The steps of a write transaction, on one link."""

    def __init__(self, link: Link, schema: str, tell: _Tell) -> None:
        self._link = link
        self._schema = schema
        self._tell = tell
        self._found: set[str] = set()
        self._claims = False

    # -- requests ------------------------------------------------------------------------------------------------

    def get_requests(self, ids: Collection[str]) -> list[Request]:
        rows = self._link.ask(
            f"SELECT {_REQUEST} FROM {self._schema}.requests WHERE id = ANY(%s::text[]) ORDER BY id FOR UPDATE",
            [_clean(id) for id in ids],
        )
        self._found.update(row[0] for row in rows)
        return [_sql.request_from_row(row) for row in rows]

    def put_requests(self, requests: Sequence[Request]) -> None:
        """Replace those that this transaction found; insert the others: of two who found none, one must do it again."""
        self._tell.add("due")
        known = [request for request in requests if request.id in self._found]
        new = [request for request in requests if request.id not in self._found]
        self._update_requests(known, _sql.REQUEST_COLUMNS[1:])
        for bite in _bites(new):
            rows = [_sql.request_to_row(request) for request in bite]
            self._link.do(_insert(self._schema, "requests", _sql.REQUEST_COLUMNS), _pack(_sql.REQUEST_COLUMNS, rows))
        self._found.update(request.id for request in new)

    def delete_request(self, id: str) -> None:
        self._tell.add("kill")
        self._link.patience = LONG
        self._link.do(
            f"DELETE FROM {self._schema}.log USING {self._schema}.runs AS run "
            "WHERE run_id = run.id AND request_id = %s",
            id,
        )
        self._link.do(f"DELETE FROM {self._schema}.runs WHERE request_id = %s", id)
        self._link.do(f"DELETE FROM {self._schema}.requests WHERE id = %s", id)

    def due_requests(self, now: datetime, processes: Collection[str], limit: int) -> list[Request]:
        rows = self._link.ask(
            f"{_ranks(self._schema)} SELECT due.* FROM ranks CROSS JOIN LATERAL ("
            f"SELECT {_REQUEST} FROM {self._schema}.requests WHERE priority = ranks.priority AND due_at <= %s "
            "AND process = ANY(%s::text[]) ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED) AS due LIMIT %s",
            now,
            list(processes),
            limit,
            limit,
        )
        return [_sql.request_from_row(row) for row in rows]

    def advance_requests(self, requests: Sequence[Request]) -> None:
        self._update_requests(requests, _ADVANCE)

    def complete_requests(self, ids: Collection[str]) -> None:
        """Lock first, then look: of two reports that each end one of a request's last runs, the second sees both."""
        locked = self._link.ask(
            f"SELECT id FROM {self._schema}.requests WHERE id = ANY(%s::text[]) AND status = 'scheduled' "
            "AND next_fire_time IS NULL ORDER BY id FOR UPDATE",
            list(ids),
        )
        if locked:
            self._link.do(
                f"UPDATE {self._schema}.requests AS request SET status = 'complete' WHERE id = ANY(%s::text[]) "
                "AND status = 'scheduled' AND next_fire_time IS NULL AND NOT EXISTS "
                f"(SELECT 1 FROM {self._schema}.runs WHERE request_id = request.id AND {_ACTIVE})",
                [row[0] for row in locked],
            )

    def _update_requests(self, requests: Sequence[Request], columns: Sequence[str]) -> None:
        named = ("id", *columns)
        places = [_REQUEST_PLACE[name] for name in named]
        for bite in _bites(requests):
            rows = [[row[place] for place in places] for row in map(_sql.request_to_row, bite)]
            self._link.do(
                f"UPDATE {self._schema}.requests AS request SET {_settings(self._schema, columns)} "
                f"FROM {_records(named, id_is_text=True)} WHERE request.id = r.id",
                _pack(named, rows),
            )

    # -- runs ----------------------------------------------------------------------------------------------------

    def insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        if not self._claims and any(run.owner is None and run.is_active for run in runs):
            self._tell.add("due")
        stored: list[Run] = []
        for bite in _bites(runs):
            rows = [_sql.run_to_row(run)[1:] for run in bite]
            made = {
                (row[0], row[1], row[2]): (row[3], row[4])
                for row in self._link.ask(_insert_runs(self._schema), _pack(_NEW_RUN, rows))
            }
            for run in bite:
                key = run.request_id, run.revision, _sql.micros(run.fire_time)
                if (given := made.pop(key, None)) is not None:
                    stored.append(evolve(run, id=given[0], recorded_at=_sql.instant(given[1])))
        return stored

    def get_runs(self, ids: Collection[int]) -> list[Run]:
        return self._select_runs("id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE", list(ids))

    def hold_keys(self, keys: Collection[str]) -> Collection[str]:
        """Try the keys that several requests share; never wait for one."""
        own = [key for key in keys if key.startswith(OWN_KEY)]
        shared = [key for key in keys if not key.startswith(OWN_KEY)][:_MOST_KEYS]
        if not shared:
            return own
        rows = self._link.ask(
            "SELECT key FROM unnest(%s::text[]) AS key "
            f"WHERE pg_try_advisory_xact_lock(hashtextextended('{self._schema}/' || key, 0))",
            shared,
        )
        return own + [row[0] for row in rows]

    def active_runs(self, keys: Collection[str]) -> list[Run]:
        return self._select_runs(f"overlap_key = ANY(%s::text[]) AND {_ACTIVE} ORDER BY id", list(keys))

    def child_runs(self, parent_id: int) -> list[Run]:
        return self._select_runs("parent_id = %s ORDER BY id", parent_id)

    def active_runs_of(self, request_id: str) -> list[Run]:
        return self._select_runs(f"request_id = %s AND {_ACTIVE} ORDER BY id", request_id)

    def queued_runs(self, now: datetime, processes: Collection[str], limit: int) -> list[Run]:
        """Look for candidates, hold their keys, then look again: only now is it known that nothing is in their way."""
        self._claims = True
        names = list(processes)
        found = self._link.ask(
            f"SELECT id, request_id, overlap_key FROM {self._schema}.runs AS run "
            f"WHERE {_queued(self._schema)} AND due_at <= %s AND (overlap_key IS NULL OR NOT EXISTS ("
            f"SELECT 1 FROM {self._schema}.runs AS b WHERE b.overlap_key = run.overlap_key AND b.status = 'waiting' "
            "AND b.owner IS NULL AND b.process = ANY(%s::text[]) AND (b.due_at, b.id) < (run.due_at, run.id))) "
            "ORDER BY due_at, id LIMIT %s",
            names,
            now,
            names,
            limit,
        )
        startable = self._startable(found) if found else []
        if not startable:
            return []
        return self._select_runs(
            f"id = ANY(%s::bigint[]) AND {_queued(self._schema)} ORDER BY due_at, id FOR UPDATE SKIP LOCKED",
            startable,
            names,
        )

    def _startable(self, found: Sequence[tuple[Any, ...]]) -> list[int]:
        """Return the ids of those runs whose key nobody else can start a run under any more."""
        keys = {row[2] for row in found if row[2] is not None}
        held = set(self.hold_keys(keys)) if keys else set()
        owners = sorted({row[1] for row in found if row[2] is not None and row[2].startswith(OWN_KEY)})
        busy = self._busy_requests(owners) if owners else set()
        return [
            id
            for id, request_id, key in found
            if key is None or (key in held and not (key.startswith(OWN_KEY) and request_id in busy))
        ]

    def _busy_requests(self, ids: Sequence[str]) -> set[str]:
        """Lock the requests; return those that another transaction has locked. Deleted ones are nobody's."""
        query = f"SELECT id FROM {self._schema}.requests WHERE id = ANY(%s::text[])"
        locked = {row[0] for row in self._link.ask(f"{query} ORDER BY id FOR UPDATE SKIP LOCKED", ids)}
        return {row[0] for row in self._link.ask(query, ids)} - locked

    def held_runs(self, owner: str) -> list[Run]:
        return self._select_runs(f"owner = %s AND {_ACTIVE} ORDER BY id", owner)

    def update_runs(self, runs: Sequence[Run], owner: str | None) -> set[int]:
        accepted: set[int] = set()
        for bite in _bites(runs):
            rows = []
            for run in bite:
                row = _sql.run_to_row(run)
                changing = (row[_RUN_PLACE[name]] for name in (*_sql.CHANGING_COLUMNS, "kill_asked_at"))
                rows.append((run.id, owner or "", run.attempt - (owner is None and run.owner is not None), *changing))
            ids = [run.id for run in bite]
            updated = self._link.ask(_update_runs(self._schema), _pack(_UPDATE, rows), ids)
            accepted.update(row[0] for row in updated)
        return accepted

    def ask_kill(self, ids: Collection[int], now: datetime) -> None:
        self._tell.add("kill")
        self._link.do(
            f"UPDATE {self._schema}.runs SET kill_asked_at = coalesce(kill_asked_at, %s) "
            f"WHERE id = ANY(%s::bigint[]) AND {_ACTIVE}",
            now,
            list(ids),
        )

    def count_ended(self, ended: Sequence[Ended], owner: str) -> None:
        columns = ("hour", "process", "status", "owner", "count")
        rows = [(_sql.micros(item.hour), item.process, item.status.value, owner, item.count) for item in ended]
        self._link.do(
            f"{_insert(self._schema, 'ended', columns)} ON CONFLICT (hour, process, status, owner) "
            "DO UPDATE SET count = ended.count + excluded.count",
            _pack(columns, rows),
        )

    def append_log(self, lines: Sequence[LogLine]) -> None:
        for bite in _bites(lines):
            self._link.do(
                f"{_insert(self._schema, 'log', _sql.LOG_COLUMNS)} ON CONFLICT (run_id, seq) DO NOTHING",
                _pack(_sql.LOG_COLUMNS, [_sql.line_to_row(line) for line in bite]),
            )

    def trim_log(self, trim: LogTrim) -> None:
        self._link.do(
            f"DELETE FROM {self._schema}.log WHERE run_id = %s AND seq > %s AND seq < %s",
            trim.run_id,
            trim.after,
            trim.before,
        )

    def last_seq(self, run_id: int) -> int:
        rows = self._link.ask(f"SELECT max(seq) FROM {self._schema}.log WHERE run_id = %s", run_id)
        return rows[0][0] or 0

    def _select_runs(self, where: str, *values: Any) -> list[Run]:
        return select_runs(self._link, self._schema, where, values)

    # -- schedulers and retention --------------------------------------------------------------------------------

    def schedulers(self) -> list[SchedulerRecord]:
        return _schedulers(self._link, self._schema)

    def is_signed_on(self, owner: str) -> bool:
        rows = self._link.ask(f"SELECT 1 FROM {self._schema}.schedulers WHERE owner = %s FOR KEY SHARE", owner)
        return bool(rows)

    def put_scheduler(self, record: SchedulerRecord) -> None:
        columns = _sql.SCHEDULER_COLUMNS
        names = ", ".join(map(_quoted, columns))
        values = ", ".join(_value(self._schema, name) for name in columns)
        changes = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in (*columns, "expires_at"))
        self._link.do(
            f"INSERT INTO {self._schema}.schedulers ({names}, expires_at) SELECT {values}, {_expiry(self._schema)} "
            f"FROM {_records(columns)} ON CONFLICT (owner) DO UPDATE SET {changes}",
            _pack(columns, [_sql.scheduler_to_row(record)]),
        )

    def renew(self, record: SchedulerRecord) -> bool:
        """Write what a scheduler says of itself, with a new lease; ``False`` when it is not there any more."""
        columns = _sql.SCHEDULER_COLUMNS
        rows = self._link.ask(
            f"UPDATE {self._schema}.schedulers AS known SET {_settings(self._schema, columns)}, "
            f"expires_at = {_expiry(self._schema)} FROM {_records(columns)} WHERE known.owner = r.owner RETURNING 1",
            _pack(columns, [_sql.scheduler_to_row(record)]),
        )
        return bool(rows)

    def expired(self) -> list[str]:
        """Return, locked, the owners whose lease ran out by the server's clock; without those that others end now."""
        rows = self._link.ask(
            f"SELECT owner FROM {self._schema}.schedulers WHERE expires_at < clock_timestamp() FOR UPDATE SKIP LOCKED"
        )
        return [row[0] for row in rows]

    def delete_scheduler(self, owner: str) -> None:
        self._link.do(f"DELETE FROM {self._schema}.schedulers WHERE owner = %s", owner)

    def put_absence(self, absence: Absence) -> None:
        keep = timedelta(microseconds=_sql.KEEP_ABSENCES)
        self._link.do(f"DELETE FROM {self._schema}.absences WHERE since < %s", absence.since - keep)
        self._link.do(
            f"INSERT INTO {self._schema}.absences (since, until) VALUES (%s, %s) ON CONFLICT (since) DO NOTHING",
            absence.since,
            absence.until,
        )

    def end_absence(self, at: datetime) -> None:
        self._link.do(f"UPDATE {self._schema}.absences SET until = greatest(since, %s) WHERE until IS NULL", at)

    def purge_runs(self, ids: Sequence[int]) -> int:
        """Leave out what another purge has locked: it is about to be gone."""
        self._link.patience = LONG
        rows = self._link.ask(
            f"SELECT id FROM {self._schema}.runs AS run WHERE id = ANY(%s::bigint[]) AND NOT {_ACTIVE} AND EXISTS "
            f"(SELECT 1 FROM {self._schema}.runs AS newer WHERE newer.request_id = run.request_id "
            "AND newer.id > run.id) ORDER BY id FOR UPDATE OF run SKIP LOCKED",
            list(ids),
        )
        found = [row[0] for row in rows]
        if found:
            self._link.do(f"DELETE FROM {self._schema}.log WHERE run_id = ANY(%s::bigint[])", found)
            self._link.do(f"DELETE FROM {self._schema}.runs WHERE id = ANY(%s::bigint[])", found)
        return len(ids)


def _ranks(schema: str) -> str:
    """Return the CTE of the priorities that requests with a due time have, each by one look into the index."""
    top = f"SELECT max(priority) FROM {schema}.requests WHERE due_at IS NOT NULL"
    return (
        f"WITH RECURSIVE ranks(priority) AS ({top} UNION ALL "
        f"SELECT ({top} AND priority < ranks.priority) FROM ranks WHERE ranks.priority IS NOT NULL)"
    )


def _queued(schema: str) -> str:
    """Return the condition of a waiting run that nobody owns and nothing is in the way of; its value: the processes."""
    return (
        "status = 'waiting' AND owner IS NULL AND process = ANY(%s::text[]) AND (overlap_key IS NULL OR NOT EXISTS ("
        f"SELECT 1 FROM {schema}.runs AS o WHERE o.overlap_key = run.overlap_key AND o.{_ACTIVE} "
        "AND o.owner IS NOT NULL))"
    )


def _expiry(schema: str) -> str:
    return f"clock_timestamp() + {schema}.of_micros(r.lease_until - r.heartbeat_at)"


@functools.cache
def _insert_runs(schema: str) -> str:
    newest = f"(SELECT recorded_at FROM {schema}.runs ORDER BY id DESC LIMIT 1)"
    values = ", ".join(
        f"greatest({_value(schema, name)}, {newest})" if name == "recorded_at" else _value(schema, name)
        for name in _NEW_RUN
    )
    return (
        f"INSERT INTO {schema}.runs ({', '.join(map(_quoted, _NEW_RUN))}) SELECT {values} FROM {_records(_NEW_RUN)} "
        "ON CONFLICT (request_id, revision, fire_time) DO NOTHING "
        "RETURNING request_id, revision, fire_time, id, recorded_at"
    )


@functools.cache
def _update_runs(schema: str) -> str:
    """Return the fenced UPDATE. It finds the runs by their ids; the rest of the fence joins, to mislead no planner.

    As conditions of the table they would be taken for rare, and the join for one of a row or two; or a partial index
    would be read from end to end, with all that has left it since the last vacuum.
    """
    return (
        f"UPDATE {schema}.runs AS run SET {_settings(schema, _sql.CHANGING_COLUMNS)}, "
        f"kill_asked_at = coalesce(run.kill_asked_at, {_value(schema, 'kill_asked_at')}) FROM {_records(_UPDATE)} "
        "WHERE run.id = ANY(%s::bigint[]) AND run.id = r.id AND run.attempt = r.fence "
        "AND coalesce(run.owner, '') = r.held "
        "AND CASE WHEN run.status IN ('waiting', 'running') THEN r.id END = run.id RETURNING run.id"
    )


def _schedulers(link: Link, schema: str) -> list[SchedulerRecord]:
    """Return the schedulers; how far their clocks are ahead of the server's shows in their lease by each of the two."""
    rows = link.ask(
        f"SELECT {_SCHEDULER}, CASE WHEN isfinite(lease_until) AND isfinite(expires_at) "
        f"THEN lease_until - expires_at END FROM {schema}.schedulers ORDER BY started_at, owner"
    )
    return [replace(_sql.scheduler_from_row(row), clock_skew=_sql.span(row[-1])) for row in rows]


def _spelled(text: str) -> str:
    """Return a condition of `_sql` as psycopg wants it: a value is ``%s``."""
    return text.replace("?", "%s")


class _Reader:
    """Answers over links whose transactions cannot write."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._schema = store.schema

    def find_request(self, id: str) -> Request | None:
        with self._store.reading() as link:
            rows = link.ask(f"SELECT {_REQUEST} FROM {self._schema}.requests WHERE id = %s", _clean(id))
        return next((_sql.request_from_row(row) for row in rows), None)

    def requests(self, filter: RequestFilter) -> list[Request]:
        where, values = request_conditions(filter)
        with self._store.reading() as link:
            rows = link.ask(
                f"SELECT {_REQUEST} FROM {self._schema}.requests WHERE {_spelled(where)} ORDER BY id LIMIT %s",
                *values,
                filter.limit,
            )
        return [_sql.request_from_row(row) for row in rows]

    def upcoming(self, limit: int) -> list[Request]:
        with self._store.reading() as link:
            rows = link.ask(
                f"{_ranks(self._schema)} SELECT soon.* FROM ranks CROSS JOIN LATERAL ("
                f"SELECT {_REQUEST} FROM {self._schema}.requests WHERE priority = ranks.priority "
                "AND due_at IS NOT NULL ORDER BY due_at LIMIT %s) AS soon ORDER BY due_at, id LIMIT %s",
                limit,
                limit,
            )
        return [_sql.request_from_row(row) for row in rows]

    def find_run(self, id: int) -> Run | None:
        with self._store.reading() as link:
            return next(iter(select_runs(link, self._schema, "id = %s", [id])), None)

    def runs(self, filter: RunFilter) -> Page:
        with self._store.reading() as link:
            return page(link, self._schema, filter)

    def log(self, run_id: int, after: int, limit: int) -> list[LogLine]:
        with self._store.reading() as link:
            rows = link.ask(
                f"SELECT {_LOG} FROM {self._schema}.log WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s",
                run_id,
                after,
                limit,
            )
        return [_sql.line_from_row(row) for row in rows]

    def summary(self, process: str | None, since: datetime | None) -> Summary:
        where = "finished_at IS NOT NULL AND recorded_at >= coalesce(%s, '-infinity'::timestamptz)"
        values: list[Any] = [since]
        if process is not None:
            where += " AND process = %s"
            values.append(process)
        # as instants since 1970, in microseconds to us: PostgreSQL sorts intervals at half the speed
        spread = "percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY 'epoch'::timestamptz + {})"
        with self._store.reading() as link:
            link.patience = LONG
            counts = link.ask(
                f"SELECT status, sum(fire_count)::bigint FROM {self._schema}.runs WHERE {where} GROUP BY 1 ORDER BY 1",
                *values,
            )
            figures = link.ask(
                f"SELECT {spread.format('duration')}, {spread.format('lateness')} "
                f"FROM {self._schema}.runs WHERE {where}",
                *values,
            )[0]
        newest: dict[str, Any] = {
            name: next(iter(self.runs(RunFilter(process=process, since=since, status=statuses, limit=1))), None)
            for name, statuses in LAST.items()
        }
        spans: dict[str, Any] = {
            f"{name}_p{percent}": _sql.span(value)
            for name, found in zip(("duration", "lateness"), figures, strict=True)
            for percent, value in zip((50, 95, 99), found or (None, None, None), strict=True)
        }
        return Summary(counts={RunStatus(status): count for status, count in counts}, **spans, **newest)

    def ended(self, process: str | None, since: datetime, until: datetime) -> list[Ended]:
        names = [] if process is None else [process]
        with self._store.reading() as link:
            rows = link.ask(
                f"SELECT hour, status, sum(count)::bigint FROM {self._schema}.ended WHERE hour BETWEEN %s AND %s "
                f"{'AND process = %s ' * len(names)}GROUP BY 1, 2 ORDER BY 1, 2",
                since.replace(minute=0, second=0, microsecond=0),
                until,
                *names,
            )
        return [Ended(hour, process, RunStatus(row[1]), row[2]) for row in rows if (hour := _sql.instant(row[0]))]

    def totals(self, since: datetime, until: datetime) -> list[Ended]:
        first = since.replace(minute=0, second=0, microsecond=0)
        with self._store.reading() as link:
            rows = link.ask(
                f"SELECT process, status, sum(count)::bigint FROM {self._schema}.ended WHERE hour >= %s AND hour < %s "
                "GROUP BY 1, 2 ORDER BY 1, 2",
                first,
                until,
            )
        return [Ended(first, process, RunStatus(status), count) for process, status, count in rows]

    def aged(self, after: int, before: datetime, limit: int) -> list[Aged]:
        """Walk the ids; a run from *before* on, whose followers are all younger, ends the walk."""
        schema = self._schema
        with self._store.reading() as link:
            rows = link.ask(
                "SELECT id, request_id, process, status, finished_at, NOT EXISTS (SELECT 1 "
                f"FROM {schema}.runs AS newer WHERE newer.request_id = run.request_id AND newer.id > run.id), "
                f"recorded_at < %s FROM (SELECT * FROM {schema}.runs AS old WHERE id > %s AND finished_at IS NOT NULL "
                f"AND NOT EXISTS (SELECT 1 FROM {schema}.runs AS parent WHERE parent.id = old.parent_id "
                "AND parent.finished_at IS NULL) ORDER BY id LIMIT %s) AS run ORDER BY id",
                before,
                after,
                limit,
            )
        old = [row[:6] for row in itertools.takewhile(lambda row: row[6], rows)]
        return _sql.aged_from_rows(old)

    def nth_newest(self, process: str, n: int) -> int | None:
        newest: list[int] = []
        with self._store.reading() as link:
            for status in FINAL:
                rows = link.ask(
                    f"SELECT id FROM {self._schema}.runs WHERE process = %s AND status = %s "
                    "AND finished_at IS NOT NULL ORDER BY id DESC LIMIT %s",
                    process,
                    status.value,
                    n,
                )
                newest += [row[0] for row in rows]
        return sorted(newest, reverse=True)[n - 1] if len(newest) >= n else None

    def absences(self, since: datetime, until: datetime) -> list[Absence]:
        with self._store.reading() as link:
            rows = link.ask(
                f"SELECT since, until FROM {self._schema}.absences WHERE since <= %s "
                "AND (until >= %s OR until IS NULL) ORDER BY since",
                until,
                since,
            )
        return [Absence(start, _sql.instant(row[1])) for row in rows if (start := _sql.instant(row[0]))]

    def schedulers(self) -> list[SchedulerRecord]:
        with self._store.reading() as link:
            return _schedulers(link, self._schema)

    def kills_asked(self, owner: str) -> frozenset[int]:
        with self._store.reading() as link:
            rows = link.ask(
                f"SELECT id FROM {self._schema}.runs WHERE owner = %s AND {_ACTIVE} AND kill_asked_at IS NOT NULL",
                owner,
            )
        return frozenset(row[0] for row in rows)

    def next_due(self, processes: Collection[str]) -> datetime | None:
        names = list(processes)
        with self._store.reading() as link:
            rows = link.ask(
                f"{_ranks(self._schema)} SELECT min(due_at) FROM (SELECT due.due_at FROM ranks CROSS JOIN LATERAL ("
                f"SELECT due_at FROM {self._schema}.requests WHERE priority = ranks.priority AND due_at IS NOT NULL "
                "AND process = ANY(%s::text[]) ORDER BY due_at LIMIT 1) AS due "
                f"UNION ALL (SELECT due_at FROM {self._schema}.runs AS run WHERE {_queued(self._schema)} "
                "ORDER BY due_at LIMIT 1)) AS earliest",
                names,
                names,
            )
        return _sql.instant(rows[0][0])


# -- the schema ------------------------------------------------------------------------------------------------------


def _prepare(store: PostgresStore) -> None:
    """Bring the schema to this version; a look is enough where it is, so that no right to make anything is needed."""
    with store.reading() as link:
        version = _version(link, store)
    if version == SCHEMA_VERSION:
        return
    if store._read_only:  # noqa: SLF001  one module
        raise StoreSchemaError(
            f"{store!r} holds no bgsched tables of this version; a scheduler makes them when it first starts there"
        )
    with store._writers.transaction() as link:  # noqa: SLF001  one module
        _migrate(link, store)


def _migrate(link: Link, store: PostgresStore) -> None:
    """Take the missing steps, while others that want to do the same wait."""
    link.patience = LONG
    link.do("SET LOCAL lock_timeout = '60s'")
    link.do("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", f"bgsched schema {store.schema}")
    try:
        if not link.ask("SELECT 1 FROM pg_namespace WHERE nspname = %s", store.schema):
            link.do(f"CREATE SCHEMA {store.schema}")
        version = _version(link, store)
        if version == 0:
            link.do(f"CREATE TABLE {store.schema}.schema_version (version bigint NOT NULL)")
        for step in range(version + 1, SCHEMA_VERSION + 1):
            text = resources.files("bgsched.stores.schema").joinpath(f"postgres_{step:04}.sql").read_text("utf-8")
            link.execute(text.replace("bgsched.", f"{store.schema}."))
            link.do(f"INSERT INTO {store.schema}.schema_version (version) VALUES (%s)", step)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreUnavailableError(
            f"{store!r}: the role may not make the schema or its tables; let its owner run: "
            f"CREATE SCHEMA {store.schema} AUTHORIZATION {link.info.user}"
        ) from error
    except psycopg.errors.DuplicateTable as error:
        raise StoreSchemaError(
            f"{store!r}: another program has its tables there ({error.diag.message_primary}); "
            "give bgsched a schema of its own"
        ) from error


def _version(link: Link, store: PostgresStore) -> int:
    """Return the version of the schema, 0 where there is none."""
    name = f"{store.schema}.schema_version"
    try:
        if link.ask("SELECT to_regclass(%s)::text", name)[0][0] is None:
            return 0
        version = int(link.ask(f"SELECT max(version) FROM {name}")[0][0] or 0)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreUnavailableError(
            f"{store!r}: role {link.info.user!r} may not read the tables; let their owner run: "
            f"GRANT USAGE ON SCHEMA {store.schema} TO ...; GRANT SELECT ON ALL TABLES IN SCHEMA {store.schema} TO ..."
        ) from error
    if version > SCHEMA_VERSION:
        raise StoreSchemaError(
            f"{store!r} has schema {version}, this bgsched knows up to {SCHEMA_VERSION}; "
            "upgrade bgsched, or give another schema"
        )
    return version
