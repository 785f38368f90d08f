"""The steps of a write transaction in SQLite, on the one connection that writes."""

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from bgsched.request import Request
from bgsched.run import LogLine, LogTrim, Run
from bgsched.stores import _columns, _rows, _values
from bgsched.stores._by_column import columns_of, is_same
from bgsched.stores._sqlite_reader import QUEUED, first_recorded, priorities, schedulers, select_runs
from bgsched.stores.base import Absence, Ended, SchedulerRecord

__all__ = ["SQLiteTransaction"]

_REQUEST = ", ".join(_columns.REQUEST_COLUMNS)
_MOST_LINES = 2_000  # log lines that a purge deletes before it lets others write: some 10 ms
_ACTIVE = _columns.ACTIVE_STATUS
_HAS_NEWER = _columns.has_newer("bgsched_runs")
_CHUNKS = (256, 64, 8, 1)

# ruff: noqa: S608  statements are put together from names of our own


class _Shape(NamedTuple):
    """What a statement over many rows looks like: in which columns they *differ*, and which have one value for all.

    What is in neither is empty, and stands in the text as NULL: to bind ``None`` costs ``sqlite3`` more than all the
    rest, for it looks for an adapter each time. What differs is bound first, then what is *shared*, in this order: so a
    text names each column once, in the order of the batch. (Numbered placeholders would free it of that, but SQLite
    looks for each among all, and Python 3.12 takes them for names.)
    """

    differ: tuple[str, ...]
    shared: tuple[str, ...]

    def said(self, count: int) -> str:
        """Return the CTE ``said`` with what differs in *count* rows."""
        if not self.differ:
            return "WITH said (one) AS (VALUES (1))"
        row = f"({', '.join('?' * len(self.differ))})"
        return f"WITH said ({', '.join(self.differ)}) AS (VALUES {', '.join([row] * count)})"

    def value(self, name: str) -> str:
        """Return the expression for a column's value."""
        if name in self.differ:
            return f"said.{name}"
        return "?" if name in self.shared else "NULL"

    def values(self, names: Sequence[str]) -> str:
        """Return the expressions for the values of columns."""
        return ", ".join(map(self.value, names))

    def settings(self, names: Sequence[str]) -> str:
        """Return the assignments of an UPDATE."""
        return ", ".join(f"{name} = {self.value(name)}" for name in names)


_Spell = Callable[[_Shape, int], str]


def _execute(connection: sqlite3.Connection, spell: _Spell, columns: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Execute the statement that *spell* writes, over a batch by column, a chunk of rows at a time; return its rows.

    Each execution lets go of the interpreter, and waits to have it back while processes run Python code: with one for
    each row, a batch of a hundred would wait a hundred times.
    """
    size = len(next(iter(columns.values())))
    differ = tuple([name for name, column in columns.items() if not is_same(column)]) if size > 1 else ()
    common = {name: column[0] for name, column in columns.items() if column[0] is not None and name not in differ}
    shape, shared = _Shape(differ, tuple(common)), tuple(common.values())
    rows = list(zip(*(columns[name] for name in differ), strict=True)) or [()]
    found: list[Any] = []
    place = 0
    for count in _CHUNKS:
        while len(rows) - place >= count:
            bound = (*chain.from_iterable(rows[place : place + count]), *shared)
            found += connection.execute(spell(shape, count), bound).fetchall()
            place += count
    return found


def _inserting(words: str, table: str, names: tuple[str, ...], unless: str = "") -> _Spell:
    """Return how to write an INSERT. *unless*: which conflict makes it do nothing."""

    @lru_cache(maxsize=256)
    def spell(shape: _Shape, count: int) -> str:
        into = f"{words} INTO {table} ({', '.join(names)})"
        otherwise = f" ON CONFLICT ({unless}) DO NOTHING" if unless else ""
        if not shape.differ:  # one row
            return f"{into} VALUES ({shape.values(names)}){otherwise}"
        return f"{shape.said(count)} {into} SELECT {shape.values(names)} FROM said WHERE true{otherwise}"

    return spell


_put_requests = _inserting("INSERT OR REPLACE", "bgsched_requests", _columns.REQUEST_COLUMNS)
_insert_runs = _inserting("INSERT", "bgsched_runs", _columns.RUN_COLUMNS, "request_id, revision, fire_time")
_put_scheduler = _inserting("INSERT OR REPLACE", "bgsched_schedulers", _columns.SCHEDULER_COLUMNS)
_append_log = _inserting("INSERT", "bgsched_log", _columns.LOG_COLUMNS, "run_id, seq")


@lru_cache(maxsize=256)
def _advance_requests(shape: _Shape, count: int) -> str:
    changes = shape.settings(_columns.ADVANCING_COLUMNS[:-1])
    return (
        f"{shape.said(count)} UPDATE bgsched_requests SET {changes} FROM said "
        f"WHERE bgsched_requests.id = {shape.value('id')}"
    )


@lru_cache(maxsize=256)
def _update_runs(shape: _Shape, count: int) -> str:
    """Return the fenced UPDATE. The unary plus keeps the planner from any other way to a run than its id."""
    return (
        f"{shape.said(count)} UPDATE bgsched_runs SET {shape.settings(_columns.CHANGING_COLUMNS)}, "
        f"kill_asked_at = coalesce(bgsched_runs.kill_asked_at, {shape.value('kill_asked_at')}) FROM said "
        f"WHERE bgsched_runs.id = {shape.value('id')} AND +bgsched_runs.owner IS {shape.value('held_by')} "
        f"AND bgsched_runs.attempt = {shape.value('at_attempt')} "
        "AND +bgsched_runs.status IN ('waiting', 'running') RETURNING bgsched_runs.id"
    )


class SQLiteTransaction:
    """The steps of a write transaction, on the one connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # -- requests ------------------------------------------------------------------------------------------------

    def get_requests(self, ids: Collection[str]) -> list[Request]:
        rows = self._connection.execute(
            f"SELECT {_REQUEST} FROM bgsched_known_requests WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(ids)),),
        )
        return [_rows.request_from_row(row) for row in rows]

    def put_requests(self, requests: Sequence[Request]) -> None:
        if requests:
            _execute(self._connection, _put_requests, columns_of(requests, _columns.REQUEST_COLUMNS))

    def delete_request(self, id: str) -> None:
        self._connection.execute(
            "DELETE FROM bgsched_log WHERE run_id IN (SELECT id FROM bgsched_runs WHERE request_id = ?)", (id,)
        )
        self._connection.execute("DELETE FROM bgsched_runs WHERE request_id = ?", (id,))
        self._connection.execute("DELETE FROM bgsched_requests WHERE id = ?", (id,))

    def due_requests(self, now: datetime, processes: Collection[str], limit: int) -> list[Request]:
        names = json.dumps(list(processes))
        due: list[Request] = []
        for priority in priorities(self._connection):
            rows = self._connection.execute(
                f"SELECT {_REQUEST} FROM bgsched_requests WHERE priority = ? AND due_at <= ? "
                "AND process IN (SELECT value FROM json_each(?)) ORDER BY due_at, id LIMIT ?",
                (priority, _values.micros(now), names, limit - len(due)),
            )
            due += [_rows.request_from_row(row) for row in rows]
            if len(due) >= limit:
                break
        return due

    def advance_requests(self, requests: Sequence[Request]) -> None:
        if requests:
            _execute(self._connection, _advance_requests, columns_of(requests, _columns.ADVANCING_COLUMNS))

    # -- runs ----------------------------------------------------------------------------------------------------

    def insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        if not runs:
            return []
        newest = self._connection.execute("SELECT recorded_at FROM bgsched_runs ORDER BY id DESC LIMIT 1").fetchone()
        last = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'bgsched_runs'").fetchone()
        first = 1 + (last[0] if last else 0)
        since = _values.lenient_instant(newest[0]) if newest else None
        numbered = [
            run.numbered(first + place, max(run.recorded_at, since or run.recorded_at))
            for place, run in enumerate(runs)
        ]
        before = self._connection.total_changes
        _execute(self._connection, _insert_runs, columns_of(numbered, _columns.RUN_COLUMNS))
        if self._connection.total_changes - before == len(numbered):
            return numbered
        kept = {row[0] for row in self._connection.execute("SELECT id FROM bgsched_runs WHERE id >= ?", (first,))}
        return [run for run in numbered if run.id in kept]

    def bring_back(self, now: datetime, limit: int) -> int:
        at = _values.micros(now) or 0
        last = self._connection.execute("SELECT max(id) FROM bgsched_runs").fetchone()[0] or 0
        return self._connection.execute(
            "UPDATE bgsched_runs SET recorded_at = ? WHERE id IN "
            "(SELECT id FROM bgsched_runs WHERE id >= ? AND recorded_at > ? ORDER BY id LIMIT ?)",
            (at, first_recorded(self._connection, last, at + 1), at, limit),
        ).rowcount

    def count_ended(self, ended: Sequence[Ended], owner: str) -> None:
        self._connection.executemany(
            "INSERT INTO bgsched_ended (hour, process, status, owner, count) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (hour, process, status, owner) DO UPDATE SET count = count + excluded.count",
            [(_values.micros(item.hour), item.process, item.status.value, owner, item.count) for item in ended],
        )

    def get_runs(self, ids: Collection[int]) -> list[Run]:
        return self._select_runs("id IN (SELECT value FROM json_each(?)) ORDER BY id", json.dumps(list(ids)))

    def hold_keys(self, keys: Collection[str]) -> Collection[str]:
        return keys

    def active_runs(self, keys: Collection[str]) -> list[Run]:
        where = f"overlap_key IN (SELECT value FROM json_each(?)) AND {_ACTIVE} ORDER BY id"
        return self._select_runs(where, json.dumps(list(keys)))

    def child_runs(self, parent_id: int) -> list[Run]:
        return self._select_runs("parent_id = ? ORDER BY id", parent_id)

    def active_runs_of(self, request_id: str) -> list[Run]:
        return self._select_runs(f"request_id = ? AND {_columns.active_by('request_id')} ORDER BY id", request_id)

    def queued_runs(self, now: datetime, processes: Collection[str], limit: int) -> list[Run]:
        ids: list[int] = []
        keys: set[str] = set()
        rows = self._connection.execute(
            f"SELECT id, overlap_key FROM bgsched_runs AS run WHERE {QUEUED} AND due_at <= ? ORDER BY due_at, id",
            (json.dumps(list(processes)), _values.micros(now)),
        )
        for id, key in rows:
            if len(ids) >= limit:
                rows.close()
                break
            if key not in keys:
                ids.append(id)
                keys.update([key] if key is not None else [])
        where = "id IN (SELECT value FROM json_each(?)) ORDER BY due_at, id"
        return self._select_runs(where, json.dumps(ids)) if ids else []

    def held_runs(self, owner: str) -> list[Run]:
        return self._select_runs(f"owner = ? AND {_columns.active_by()} AND {_ACTIVE} ORDER BY +id", owner)

    def update_runs(self, runs: Sequence[Run], owner: str | None) -> set[int]:
        if not runs:
            return set()
        columns = columns_of(runs, _columns.REPORTED_COLUMNS)
        columns["held_by"] = [owner] * len(runs)
        columns["at_attempt"] = [run.attempt - (owner is None and run.owner is not None) for run in runs]
        return {row[0] for row in _execute(self._connection, _update_runs, columns)}

    def ask_kill(self, ids: Collection[int], now: datetime) -> None:
        self._connection.executemany(
            f"UPDATE bgsched_runs SET kill_asked_at = coalesce(kill_asked_at, ?) WHERE id = ? AND {_ACTIVE}",
            [(_values.micros(now), id) for id in ids],
        )

    def append_log(self, lines: Sequence[LogLine]) -> None:
        if lines:
            _execute(self._connection, _append_log, columns_of(lines, _columns.LOG_COLUMNS))

    def trim_log(self, trim: LogTrim) -> None:
        self._connection.execute(
            "DELETE FROM bgsched_log WHERE run_id = ? AND seq > ? AND seq < ?", (trim.run_id, trim.after, trim.before)
        )

    def last_seq(self, run_id: int) -> int:
        row = self._connection.execute("SELECT max(seq) FROM bgsched_log WHERE run_id = ?", (run_id,)).fetchone()
        return row[0] or 0

    def _select_runs(self, where: str, *values: Any) -> list[Run]:
        return select_runs(self._connection, where, values)

    # -- schedulers and retention --------------------------------------------------------------------------------

    def schedulers(self) -> list[SchedulerRecord]:
        return schedulers(self._connection)

    def is_signed_on(self, owner: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM bgsched_schedulers WHERE owner = ?", (owner,)).fetchone()
        return found is not None

    def put_scheduler(self, record: SchedulerRecord) -> None:
        _execute(self._connection, _put_scheduler, columns_of([record], _columns.SCHEDULER_COLUMNS))

    def delete_scheduler(self, owner: str) -> None:
        self._connection.execute("DELETE FROM bgsched_schedulers WHERE owner = ?", (owner,))

    def put_absence(self, absence: Absence) -> None:
        earliest = _values.micros(absence.earliest_kept)
        self._connection.execute("DELETE FROM bgsched_absences WHERE since < ?", (earliest,))
        self._connection.execute(
            "INSERT INTO bgsched_absences (since, until) VALUES (?, ?) ON CONFLICT (since) DO NOTHING",
            (_values.micros(absence.since), _values.micros(absence.until)),
        )

    def end_absence(self, at: datetime) -> None:
        self._connection.execute(
            "UPDATE bgsched_absences SET until = max(since, ?) WHERE until IS NULL", (_values.micros(at),)
        )

    def put_zone_database(self, digest: str) -> None:
        self._connection.execute("INSERT OR IGNORE INTO bgsched_zone_databases VALUES (?)", (digest,))

    def forget_zone_databases(self) -> None:
        self._connection.execute("DELETE FROM bgsched_zone_databases")

    def purge_runs(self, ids: Sequence[int]) -> int:
        deleted = lines = 0
        for id in ids:
            gone = self._connection.execute(
                f"DELETE FROM bgsched_runs AS run WHERE id = ? AND NOT {_ACTIVE} AND {_HAS_NEWER}",
                (id,),
            ).rowcount
            if gone:
                lines += self._connection.execute("DELETE FROM bgsched_log WHERE run_id = ?", (id,)).rowcount
            deleted += 1
            if lines >= _MOST_LINES:
                break
        return deleted
