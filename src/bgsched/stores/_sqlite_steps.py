"""The steps of a write transaction in SQLite, on the one connection that writes."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from bgsched.request import Request
from bgsched.run import LogLine, LogTrim, Run
from bgsched.stores import _columns, _rows, _values
from bgsched.stores._sqlite_reader import QUEUED, priorities, schedulers, select_runs
from bgsched.stores.base import Absence, Ended, SchedulerRecord

__all__ = ["SQLiteTransaction"]

_REQUEST = ", ".join(_columns.REQUEST_COLUMNS)
_RUN = ", ".join(_columns.RUN_COLUMNS)
_LOG = ", ".join(_columns.LOG_COLUMNS)
_SCHEDULER = ", ".join(_columns.SCHEDULER_COLUMNS)
_MOST_LINES = 2_000  # log lines that a purge deletes before it lets others write: some 10 ms
_ACTIVE = _columns.ACTIVE_STATUS
_HAS_NEWER = _columns.has_newer("bgsched_runs")
_CHUNKS = (64, 8, 1)


class _Bulk:
    """A statement over many rows, executed a chunk of rows at a time. In *text*, ``{rows}`` stands for their values.

    Each execution lets go of the interpreter, and waits to have it back while processes run Python code: with one for
    each row, a batch of a hundred would wait a hundred times. A column that is empty in a whole chunk stands in the
    text as NULL: to bind ``None`` costs ``sqlite3`` more than all the rest, for it looks for an adapter each time.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._spelled: dict[tuple[int, tuple[bool, ...]], str] = {}

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Execute it for *rows*; return what it returns."""
        found: list[Any] = []
        place = 0
        for count in _CHUNKS:
            while len(rows) - place >= count:
                columns = list(zip(*rows[place : place + count], strict=True))
                empty = tuple(column.count(None) == count for column in columns)
                bound = [column for column, is_empty in zip(columns, empty, strict=True) if not is_empty]
                values = list(chain.from_iterable(zip(*bound, strict=True)))
                found += connection.execute(self._spell(count, empty), values).fetchall()
                place += count
        return found

    def _spell(self, count: int, empty: tuple[bool, ...]) -> str:
        text = self._spelled.get((count, empty))
        if text is None:
            row = ", ".join("NULL" if is_empty else "?" for is_empty in empty)
            text = self._spelled[count, empty] = self._text.replace("{rows}", ", ".join([f"({row})"] * count))
        return text


def _settings(names: Sequence[str]) -> str:
    return ", ".join(f"{name} = said.{name}" for name in names)


_ADVANCING = ("status", "revision", "next_fire_time", "due_at", "last_fire_time", "reason", "unscheduled_at")
_PUT_REQUESTS = _Bulk(
    f"INSERT OR REPLACE INTO bgsched_requests ({_REQUEST}) VALUES {{rows}}",  # noqa: S608
)
_ADVANCE_REQUESTS = _Bulk(
    f"WITH said (id, {', '.join(_ADVANCING)}) AS (VALUES {{rows}}) "  # noqa: S608  names of our own
    f"UPDATE bgsched_requests SET {_settings(_ADVANCING)} FROM said WHERE bgsched_requests.id = said.id",
)
_INSERT_RUNS = _Bulk(
    f"INSERT INTO bgsched_runs ({_RUN}) VALUES {{rows}} "  # noqa: S608
    "ON CONFLICT (request_id, revision, fire_time) DO NOTHING",
)
# The unary plus keeps the planner from any other way to a run than its id.
_UPDATE_RUNS = _Bulk(
    f"WITH said (id, held_by, at_attempt, {', '.join(_columns.CHANGING_COLUMNS)}, kill_asked_at) AS (VALUES {{rows}}) "  # noqa: S608
    f"UPDATE bgsched_runs SET {_settings(_columns.CHANGING_COLUMNS)}, "
    "kill_asked_at = coalesce(bgsched_runs.kill_asked_at, said.kill_asked_at) FROM said "
    "WHERE bgsched_runs.id = said.id AND +bgsched_runs.owner IS said.held_by "
    "AND bgsched_runs.attempt = said.at_attempt AND +bgsched_runs.status IN ('waiting', 'running') "
    "RETURNING bgsched_runs.id",
)
_APPEND_LOG = _Bulk(
    f"INSERT INTO bgsched_log ({_LOG}) VALUES {{rows}} ON CONFLICT (run_id, seq) DO NOTHING",  # noqa: S608
)


class SQLiteTransaction:
    """The steps of a write transaction, on the one connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # -- requests ------------------------------------------------------------------------------------------------

    def get_requests(self, ids: Collection[str]) -> list[Request]:
        rows = self._connection.execute(
            f"SELECT {_REQUEST} FROM bgsched_known_requests WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608
            (json.dumps(list(ids)),),
        )
        return [_rows.request_from_row(row) for row in rows]

    def put_requests(self, requests: Sequence[Request]) -> None:
        _PUT_REQUESTS(self._connection, [_rows.request_to_row(request) for request in requests])

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
                f"SELECT {_REQUEST} FROM bgsched_requests WHERE priority = ? AND due_at <= ? "  # noqa: S608
                "AND process IN (SELECT value FROM json_each(?)) ORDER BY due_at, id LIMIT ?",
                (priority, _values.micros(now), names, limit - len(due)),
            )
            due += [_rows.request_from_row(row) for row in rows]
            if len(due) >= limit:
                break
        return due

    def advance_requests(self, requests: Sequence[Request]) -> None:
        rows = [
            (
                request.id,
                request.status.value,
                request.revision,
                _values.micros(request.next_fire_time),
                _values.micros(request.due_at),
                _values.micros(request.last_fire_time),
                request.reason,
                _values.micros(request.unscheduled_at),
            )
            for request in requests
        ]
        _ADVANCE_REQUESTS(self._connection, rows)

    # -- runs ----------------------------------------------------------------------------------------------------

    def insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        newest = self._connection.execute("SELECT recorded_at FROM bgsched_runs ORDER BY id DESC LIMIT 1").fetchone()
        last = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'bgsched_runs'").fetchone()
        first = 1 + (last[0] if last else 0)
        since = _values.lenient_instant(newest[0]) if newest else None
        numbered = [
            run.numbered(first + place, max(run.recorded_at, since or run.recorded_at))
            for place, run in enumerate(runs)
        ]
        before = self._connection.total_changes
        _INSERT_RUNS(self._connection, [_rows.run_to_row(run) for run in numbered])
        if self._connection.total_changes - before == len(numbered):
            return numbered
        kept = {row[0] for row in self._connection.execute("SELECT id FROM bgsched_runs WHERE id >= ?", (first,))}
        return [run for run in numbered if run.id in kept]

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
        where = f"overlap_key IN (SELECT value FROM json_each(?)) AND {_ACTIVE} ORDER BY id"  # noqa: S608  our own names
        return self._select_runs(where, json.dumps(list(keys)))

    def child_runs(self, parent_id: int) -> list[Run]:
        return self._select_runs("parent_id = ? ORDER BY id", parent_id)

    def active_runs_of(self, request_id: str) -> list[Run]:
        return self._select_runs(f"request_id = ? AND {_ACTIVE} ORDER BY id", request_id)

    def queued_runs(self, now: datetime, processes: Collection[str], limit: int) -> list[Run]:
        ids: list[int] = []
        keys: set[str] = set()
        rows = self._connection.execute(
            f"SELECT id, overlap_key FROM bgsched_runs AS run WHERE {QUEUED} AND due_at <= ? ORDER BY due_at, id",  # noqa: S608
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
        return self._select_runs(f"owner = ? AND {_ACTIVE} ORDER BY id", owner)

    def update_runs(self, runs: Sequence[Run], owner: str | None) -> set[int]:
        rows = [
            (run.id, owner, run.attempt - (owner is None and run.owner is not None), *_rows.changes_to_row(run))
            for run in runs
        ]
        return {row[0] for row in _UPDATE_RUNS(self._connection, rows)}

    def ask_kill(self, ids: Collection[int], now: datetime) -> None:
        self._connection.executemany(
            f"UPDATE bgsched_runs SET kill_asked_at = coalesce(kill_asked_at, ?) WHERE id = ? AND {_ACTIVE}",  # noqa: S608
            [(_values.micros(now), id) for id in ids],
        )

    def append_log(self, lines: Sequence[LogLine]) -> None:
        _APPEND_LOG(self._connection, [_rows.line_to_row(line) for line in lines])

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
        self._connection.execute(
            f"INSERT OR REPLACE INTO bgsched_schedulers ({_SCHEDULER}) "  # noqa: S608
            f"VALUES ({', '.join('?' * len(_columns.SCHEDULER_COLUMNS))})",
            _rows.scheduler_to_row(record),
        )

    def delete_scheduler(self, owner: str) -> None:
        self._connection.execute("DELETE FROM bgsched_schedulers WHERE owner = ?", (owner,))

    def put_absence(self, absence: Absence) -> None:
        since = _values.micros(absence.since) or 0
        self._connection.execute("DELETE FROM bgsched_absences WHERE since < ?", (since - _columns.KEEP_ABSENCES,))
        self._connection.execute(
            "INSERT INTO bgsched_absences (since, until) VALUES (?, ?) ON CONFLICT (since) DO NOTHING",
            (since, _values.micros(absence.until)),
        )

    def end_absence(self, at: datetime) -> None:
        self._connection.execute(
            "UPDATE bgsched_absences SET until = max(since, ?) WHERE until IS NULL", (_values.micros(at),)
        )

    def purge_runs(self, ids: Sequence[int]) -> int:
        deleted = lines = 0
        for id in ids:
            gone = self._connection.execute(
                f"DELETE FROM bgsched_runs AS run WHERE id = ? AND NOT {_ACTIVE} AND {_HAS_NEWER}",  # noqa: S608
                (id,),
            ).rowcount
            if gone:
                lines += self._connection.execute("DELETE FROM bgsched_log WHERE run_id = ?", (id,)).rowcount
            deleted += 1
            if lines >= _MOST_LINES:
                break
        return deleted
