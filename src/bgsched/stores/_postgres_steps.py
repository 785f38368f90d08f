"""The steps of a write transaction in PostgreSQL."""

import functools
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import psycopg

from bgsched._evolve import evolve
from bgsched.request import OWN_KEY, Request
from bgsched.run import LogLine, LogTrim, Run
from bgsched.stores import _columns, _rows, _values
from bgsched.stores._by_column import by_column, columns_of
from bgsched.stores._links import LONG, Talk
from bgsched.stores._postgres_pages import recorded_after
from bgsched.stores._postgres_reader import SCHEDULERS, queued, ranks
from bgsched.stores._postgres_rows import (
    ACTIVE,
    COPY_HEAD,
    COPY_TAIL,
    REQUEST,
    RUN,
    Batch,
    Shape,
    bites,
    clean,
    copied,
    insert,
    quoted,
)
from bgsched.stores._wire import Statement
from bgsched.stores.base import Absence, Ended, SchedulerRecord

__all__ = ["PostgresTransaction", "renew"]

_FEW = 10  # runs that INSERT stores as quickly as COPY, in one round trip less
_MOST_KEYS = 256  # the server's table of locks is shared by all; what a claim leaves out stays due for the next
_MOST = 2**63 - 1
_NEW_RUN = _columns.RUN_COLUMNS[1:]


# ruff: noqa: S608  statements are put together from names of our own and the schema's, which is checked


class PostgresTransaction:
    """The steps of a write transaction, on one link.

    *news*: what others are to be told when it commits. Not of each run: NOTIFY takes a lock of the whole database.
    """

    def __init__(self, talk: Talk, schema: str) -> None:
        self.news: set[str] = set()
        self._talk = talk
        self._schema = schema
        self._found: set[str] = set()
        self._claims = False

    # -- requests ------------------------------------------------------------------------------------------------

    def get_requests(self, ids: Collection[str]) -> list[Request]:
        """Lock first, then look: the lock may wait for a run that tells whether its request is complete."""
        names = [clean(id) for id in ids]
        self._talk.do(f"SELECT FROM {self._schema}.requests WHERE id = ANY(%s::text[]) ORDER BY id FOR UPDATE", names)
        rows = self._talk.ask(
            f"SELECT {REQUEST} FROM {self._schema}.known_requests WHERE id = ANY(%s::text[]) ORDER BY id", names
        )
        self._found.update(row[0] for row in rows)
        return [_rows.request_from_row(row) for row in rows]

    def put_requests(self, requests: Sequence[Request]) -> None:
        """Replace those that this transaction found; insert the others: of two who found none, one must do it again."""
        self.news.add("due")
        known = [request for request in requests if request.id in self._found]
        new = [request for request in requests if request.id not in self._found]
        self._update_requests(_columns.REQUEST_COLUMNS, known)
        for bite in bites(new):
            batch = Batch(columns_of(bite, _columns.REQUEST_COLUMNS), id_is_text=True)
            self._talk.do(insert(self._schema, "requests", batch.shape), **batch.values)
        self._found.update(request.id for request in new)

    def delete_request(self, id: str) -> None:
        id = clean(id)
        self.news.add("kill")
        self._talk.patience = LONG
        self._talk.do(
            f"DELETE FROM {self._schema}.log USING {self._schema}.runs AS run "
            "WHERE run_id = run.id AND request_id = %s",
            id,
        )
        self._talk.do(f"DELETE FROM {self._schema}.runs WHERE request_id = %s", id)
        self._talk.do(f"DELETE FROM {self._schema}.requests WHERE id = %s", id)

    def due_requests(self, now: datetime, processes: Collection[str], limit: int) -> list[Request]:
        rows = self._talk.ask(
            f"{ranks(self._schema)} SELECT due.* FROM ranks CROSS JOIN LATERAL ("
            f"SELECT {REQUEST} FROM {self._schema}.requests WHERE priority = ranks.priority AND due_at <= %s "
            "AND process = ANY(%s::text[]) ORDER BY due_at, id LIMIT %s FOR UPDATE SKIP LOCKED) AS due LIMIT %s",
            now,
            list(processes),
            limit,
            limit,
        )
        return [_rows.request_from_row(row) for row in rows]

    def advance_requests(self, requests: Sequence[Request]) -> None:
        self._update_requests(_columns.ADVANCING_COLUMNS, requests)

    def _update_requests(self, columns: tuple[str, ...], requests: Sequence[Request]) -> None:
        """Write *columns*, among them the id, by which the requests are told."""
        for bite in bites(requests):
            batch = Batch(columns_of(bite, columns), id_is_text=True)
            self._talk.do(_update_requests(self._schema, batch.shape), **batch.values)

    # -- runs ----------------------------------------------------------------------------------------------------

    def insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        if not self._claims and any(run.owner is None and run.is_active for run in runs):
            self.news.add("due")
        if len(runs) > _FEW:
            self._talk.do("SAVEPOINT before_copy")
            try:
                return self._copy_runs(runs)
            except psycopg.errors.UniqueViolation:  # some fire time has its record already: which one, INSERT finds out
                self._talk.do("ROLLBACK TO SAVEPOINT before_copy")
        return self._insert_runs(runs)

    def bring_back(self, now: datetime, limit: int) -> int:
        ahead = " UNION ALL ".join(recorded_after(self._schema))
        rows = self._talk.ask(
            f"UPDATE {self._schema}.runs SET recorded_at = %s WHERE id = ANY(ARRAY(SELECT id FROM {self._schema}.runs "
            f"WHERE id IN ({ahead}) ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING 1",
            now,
            now,
            now,
            limit,
        )
        return len(rows)

    def _copy_runs(self, runs: Sequence[Run]) -> list[Run]:
        """Store all of the runs or none, at half of what INSERT costs."""
        ids, newest = self._talk.send(
            (f"SELECT nextval('{self._schema}.runs_id_seq') FROM generate_series(1, %s)", (len(runs),)),
            (f"SELECT recorded_at FROM {self._schema}.runs ORDER BY id DESC LIMIT 1", ()),
        )
        since = _values.instant(newest[0][0]) if newest else None
        stored = [
            evolve(run, id=id, recorded_at=max(run.recorded_at, since or run.recorded_at))
            for run, (id,) in zip(runs, ids, strict=True)
        ]
        pieces = (copied(columns_of(bite, _columns.RUN_COLUMNS)) for bite in bites(stored))
        self._talk.stream(
            f"COPY {self._schema}.runs ({RUN}) FROM STDIN (FORMAT BINARY)", chain([COPY_HEAD], pieces, [COPY_TAIL])
        )
        return stored

    def _insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        def statement(bite: Sequence[Run]) -> Statement:
            batch = Batch(columns_of(bite, _NEW_RUN))
            return _insert_runs(self._schema, batch.shape), batch.values

        answers = self._talk.ask_each(map(statement, bites(runs)))
        made = {(row[0], row[1], row[2]): (row[3], row[4]) for answer in answers for row in answer}
        stored: list[Run] = []
        for run in runs:
            given = made.pop((run.request_id, run.revision, _values.micros(run.fire_time)), None)
            if given is not None:
                stored.append(evolve(run, id=given[0], recorded_at=_values.instant(given[1])))
        return stored

    def get_runs(self, ids: Collection[int]) -> list[Run]:
        known = [id for id in ids if abs(id) <= _MOST]  # a number that is no bigint is nobody's
        return self._select_runs("id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE", known)

    def hold_keys(self, keys: Collection[str]) -> Collection[str]:
        """Try the keys that several requests share; never wait for one."""
        own = [key for key in keys if key.startswith(OWN_KEY)]
        shared = [key for key in keys if not key.startswith(OWN_KEY)][:_MOST_KEYS]
        if not shared:
            return own
        rows = self._talk.ask(
            "SELECT key FROM unnest(%s::text[]) AS key "
            f"WHERE pg_try_advisory_xact_lock(hashtextextended('{self._schema}/' || key, 0))",
            shared,
        )
        return own + [row[0] for row in rows]

    def active_runs(self, keys: Collection[str]) -> list[Run]:
        return self._select_runs(f"overlap_key = ANY(%s::text[]) AND {ACTIVE} ORDER BY id", list(keys))

    def child_runs(self, parent_id: int) -> list[Run]:
        return self._select_runs("parent_id = %s ORDER BY id FOR UPDATE", parent_id)

    def active_runs_of(self, request_id: str) -> list[Run]:
        return self._select_runs(
            f"request_id = %s AND {_columns.active_by('request_id')} ORDER BY id FOR UPDATE", request_id
        )

    def queued_runs(self, now: datetime, processes: Collection[str], limit: int) -> list[Run]:
        """Look for candidates, hold their keys, then look again: only now is it known that nothing is in their way."""
        self._claims = True
        names = list(processes)
        found = self._talk.ask(
            f"SELECT id, request_id, overlap_key FROM {self._schema}.runs AS run "
            f"WHERE {queued(self._schema)} AND due_at <= %s AND (overlap_key IS NULL OR NOT EXISTS ("
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
            f"id = ANY(%s::bigint[]) AND {queued(self._schema)} ORDER BY due_at, id FOR UPDATE SKIP LOCKED",
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
        locked = {row[0] for row in self._talk.ask(f"{query} ORDER BY id FOR UPDATE SKIP LOCKED", ids)}
        return {row[0] for row in self._talk.ask(query, ids)} - locked

    def held_runs(self, owner: str) -> list[Run]:
        return self._select_runs(f"owner = %s AND {_columns.active_by()} AND {ACTIVE} ORDER BY id FOR UPDATE", owner)

    def update_runs(self, runs: Sequence[Run], owner: str | None) -> set[int]:
        if any(run.owner is None and run.claimed_at is None and run.is_active for run in runs):  # put back, for anyone
            self.news.add("due")

        def statement(bite: Sequence[Run]) -> Statement:
            columns = columns_of(bite, _columns.REPORTED_COLUMNS)
            columns["held"] = [owner or ""] * len(bite)
            columns["fence"] = [run.attempt - (owner is None and run.owner is not None) for run in bite]
            batch = Batch(columns)
            return _update_runs(self._schema, batch.shape), batch.values

        answers = self._talk.ask_each(map(statement, bites(runs)))
        return {row[0] for answer in answers for row in answer}

    def ask_kill(self, ids: Collection[int], now: datetime) -> None:
        self.news.add("kill")
        self._talk.do(
            f"UPDATE {self._schema}.runs SET kill_asked_at = coalesce(kill_asked_at, %s) "
            f"WHERE id = ANY(%s::bigint[]) AND {ACTIVE}",
            now,
            list(ids),
        )

    def count_ended(self, ended: Sequence[Ended], owner: str) -> None:
        columns = ("hour", "process", "status", "owner", "count")
        rows = [(_values.micros(item.hour), item.process, item.status.value, owner, item.count) for item in ended]
        batch = Batch(by_column(columns, rows))
        self._talk.do(
            f"{insert(self._schema, 'ended', batch.shape)} ON CONFLICT (hour, process, status, owner) "
            "DO UPDATE SET count = ended.count + excluded.count",
            **batch.values,
        )

    def append_log(self, lines: Sequence[LogLine]) -> None:
        for bite in bites(lines):
            batch = Batch(columns_of(bite, _columns.LOG_COLUMNS))
            self._talk.do(
                f"{insert(self._schema, 'log', batch.shape)} ON CONFLICT (run_id, seq) DO NOTHING", **batch.values
            )

    def trim_log(self, trim: LogTrim) -> None:
        self._talk.do(
            f"DELETE FROM {self._schema}.log WHERE run_id = %s AND seq > %s AND seq < %s",
            trim.run_id,
            trim.after,
            trim.before,
        )

    def last_seq(self, run_id: int) -> int:
        rows = self._talk.ask(f"SELECT max(seq) FROM {self._schema}.log WHERE run_id = %s", run_id)
        return rows[0][0] or 0

    def _select_runs(self, where: str, *values: Any) -> list[Run]:
        rows = self._talk.ask(f"SELECT {RUN} FROM {self._schema}.runs AS run WHERE {where}", *values)
        return [_rows.run_from_row(row) for row in rows]

    # -- schedulers and retention --------------------------------------------------------------------------------

    def schedulers(self) -> list[SchedulerRecord]:
        rows = self._talk.ask(f"SELECT {SCHEDULERS} FROM {self._schema}.schedulers ORDER BY started_at, owner")
        return [_rows.scheduler_from_row(row) for row in rows]

    def is_signed_on(self, owner: str) -> bool:
        rows = self._talk.ask(f"SELECT 1 FROM {self._schema}.schedulers WHERE owner = %s FOR KEY SHARE", owner)
        return bool(rows)

    def put_scheduler(self, record: SchedulerRecord) -> None:
        columns = _columns.SCHEDULER_COLUMNS
        batch = Batch(columns_of([record], columns))
        names, values = ", ".join(map(quoted, columns)), ", ".join(map(batch.shape.value, columns))
        changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in (*columns, "expires_at"))
        self._talk.do(
            f"INSERT INTO {self._schema}.schedulers ({names}, expires_at) VALUES ({values}, {_expiry(batch.shape)}) "
            f"ON CONFLICT (owner) DO UPDATE SET {changes}",
            **batch.values,
        )

    def expired(self) -> list[str]:
        """Return, locked, the owners whose lease ran out by the server's clock; without those that others end now."""
        rows = self._talk.ask(
            f"SELECT owner FROM {self._schema}.schedulers WHERE expires_at < clock_timestamp() FOR UPDATE SKIP LOCKED"
        )
        return [row[0] for row in rows]

    def delete_scheduler(self, owner: str) -> None:
        self._talk.do(f"DELETE FROM {self._schema}.schedulers WHERE owner = %s", owner)

    def put_absence(self, absence: Absence) -> None:
        self._talk.do(f"DELETE FROM {self._schema}.absences WHERE since < %s", absence.earliest_kept)
        self._talk.do(
            f"INSERT INTO {self._schema}.absences (since, until) VALUES (%s, %s) ON CONFLICT (since) DO NOTHING",
            absence.since,
            absence.until,
        )

    def end_absence(self, at: datetime) -> None:
        self._talk.do(f"UPDATE {self._schema}.absences SET until = greatest(since, %s) WHERE until IS NULL", at)

    def put_zone_database(self, digest: str) -> None:
        self._talk.do(f"INSERT INTO {self._schema}.zone_databases VALUES (%s) ON CONFLICT DO NOTHING", digest)

    def forget_zone_databases(self) -> None:
        self._talk.do(f"DELETE FROM {self._schema}.zone_databases")

    def purge_runs(self, ids: Sequence[int]) -> int:
        """Leave out what another purge has locked: it is about to be gone."""
        self._talk.patience = LONG
        rows = self._talk.ask(
            f"SELECT id FROM {self._schema}.runs AS run WHERE id = ANY(%s::bigint[]) AND NOT {ACTIVE} "
            f"AND {_columns.has_newer(f'{self._schema}.runs')} ORDER BY id FOR UPDATE OF run SKIP LOCKED",
            list(ids),
        )
        found = [row[0] for row in rows]
        if found:
            self._talk.do(f"DELETE FROM {self._schema}.log WHERE run_id = ANY(%s::bigint[])", found)
            self._talk.do(f"DELETE FROM {self._schema}.runs WHERE id = ANY(%s::bigint[])", found)
        return len(ids)


def _expiry(record: Shape) -> str:
    return f"clock_timestamp() + ({record.value('lease_until')} - {record.value('heartbeat_at')})"


@functools.lru_cache(maxsize=256)
def _update_requests(schema: str, shape: Shape) -> str:
    written = [name for name in shape.columns if name != "id"]
    return (
        f"UPDATE {schema}.requests AS request SET {shape.settings(written)} "
        f"FROM {shape.rows} WHERE request.id = {shape.value('id')}"
    )


@functools.lru_cache(maxsize=256)
def _insert_runs(schema: str, shape: Shape) -> str:
    newest = f"(SELECT recorded_at FROM {schema}.runs ORDER BY id DESC LIMIT 1)"
    values = ", ".join(
        f"greatest({shape.value(name)}, {newest})" if name == "recorded_at" else shape.value(name) for name in _NEW_RUN
    )
    return (
        f"INSERT INTO {schema}.runs ({', '.join(map(quoted, _NEW_RUN))}) SELECT {values} FROM {shape.rows} "
        "ON CONFLICT (request_id, revision, fire_time) DO NOTHING "
        "RETURNING request_id, revision, fire_time, id, recorded_at"
    )


@functools.lru_cache(maxsize=256)
def _update_runs(schema: str, shape: Shape) -> str:
    """Return the fenced UPDATE. It finds the runs by their ids; the rest of the fence is hidden from the planner.

    As conditions of the table they would be taken for rare; or a partial index would be read from end to end, with all
    that has left it since the last vacuum.
    """
    id = shape.value("id")
    return (
        f"UPDATE {schema}.runs AS run SET {shape.settings(_columns.CHANGING_COLUMNS)}, "
        f"kill_asked_at = coalesce(run.kill_asked_at, {shape.value('kill_asked_at')}) FROM {shape.rows} "
        f"WHERE run.id = {id} AND CASE WHEN run.attempt = {shape.value('fence')} AND "
        f"coalesce(run.owner, '') = {shape.value('held')} AND run.{ACTIVE} THEN {id} END = run.id RETURNING run.id"
    )


def renew(schema: str, record: SchedulerRecord) -> tuple[str, dict[str, Any]]:
    """Return the statement that writes what a scheduler says of itself, with a new lease; no row: it is not there."""
    columns = _columns.SCHEDULER_COLUMNS
    batch = Batch(columns_of([record], columns))
    query = (
        f"UPDATE {schema}.schedulers SET {batch.shape.settings(columns)}, expires_at = {_expiry(batch.shape)} "
        f"WHERE owner = {batch.shape.value('owner')} RETURNING 1"
    )
    return query, batch.values
