"""The steps of a write transaction in SQLite, on the one connection that writes."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from bgsched._evolve import evolve
from bgsched.request import Request
from bgsched.run import LogLine, LogTrim, Run
from bgsched.stores import _sql
from bgsched.stores._sqlite_reader import QUEUED, priorities, schedulers, select_runs
from bgsched.stores.base import Absence, Ended, SchedulerRecord

__all__ = ["SQLiteTransaction"]

_REQUEST = ", ".join(_sql.REQUEST_COLUMNS)
_RUN = ", ".join(_sql.RUN_COLUMNS)
_LOG = ", ".join(_sql.LOG_COLUMNS)
_SCHEDULER = ", ".join(_sql.SCHEDULER_COLUMNS)
_MOST_LINES = 2_000  # log lines that a purge deletes before it lets others write: some 10 ms
_ACTIVE = _sql.ACTIVE_STATUS
_CHANGING = _sql.CHANGING_COLUMNS
_CHANGING_PLACES = tuple(_sql.RUN_COLUMNS.index(name) for name in _CHANGING)
_KILL_PLACE = _sql.RUN_COLUMNS.index("kill_asked_at")
_UPDATE_RUN = (
    f"UPDATE bgsched_runs SET {', '.join(f'{name} = ?' for name in _CHANGING)}, "  # noqa: S608  names of our own
    f"kill_asked_at = coalesce(kill_asked_at, ?) WHERE id = ? AND owner IS ? AND attempt = ? AND {_ACTIVE}"
)


def _places(count: int) -> str:
    return ", ".join("?" * count)


class SQLiteTransaction:
    """The steps of a write transaction, on the one connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # -- requests ------------------------------------------------------------------------------------------------

    def get_requests(self, ids: Collection[str]) -> list[Request]:
        rows = self._connection.execute(
            f"SELECT {_REQUEST} FROM bgsched_requests WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608
            (json.dumps(list(ids)),),
        )
        return [_sql.request_from_row(row) for row in rows]

    def put_requests(self, requests: Sequence[Request]) -> None:
        self._connection.executemany(
            f"INSERT OR REPLACE INTO bgsched_requests ({_REQUEST}) VALUES ({_places(len(_sql.REQUEST_COLUMNS))})",  # noqa: S608
            [_sql.request_to_row(request) for request in requests],
        )

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
                "AND process IN (SELECT value FROM json_each(?)) ORDER BY due_at LIMIT ?",
                (priority, _sql.micros(now), names, limit - len(due)),
            )
            due += [_sql.request_from_row(row) for row in rows]
            if len(due) >= limit:
                break
        return due

    def advance_requests(self, requests: Sequence[Request]) -> None:
        self._connection.executemany(
            "UPDATE bgsched_requests SET status = ?, revision = ?, next_fire_time = ?, due_at = ?, last_fire_time = ?, "
            "reason = ?, unscheduled_at = ? WHERE id = ?",
            [
                (
                    request.status.value,
                    request.revision,
                    _sql.micros(request.next_fire_time),
                    _sql.micros(request.due_at),
                    _sql.micros(request.last_fire_time),
                    request.reason,
                    _sql.micros(request.unscheduled_at),
                    request.id,
                )
                for request in requests
            ],
        )

    def complete_requests(self, ids: Collection[str]) -> None:
        self._connection.executemany(
            "UPDATE bgsched_requests SET status = 'complete' WHERE id = ?1 AND status = 'scheduled' "  # noqa: S608
            "AND next_fire_time IS NULL "
            f"AND NOT EXISTS (SELECT 1 FROM bgsched_runs WHERE request_id = ?1 AND {_ACTIVE})",
            [(id,) for id in ids],
        )

    # -- runs ----------------------------------------------------------------------------------------------------

    def insert_runs(self, runs: Sequence[Run]) -> list[Run]:
        newest = self._connection.execute("SELECT recorded_at FROM bgsched_runs ORDER BY id DESC LIMIT 1").fetchone()
        last = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'bgsched_runs'").fetchone()
        first = 1 + (last[0] if last else 0)
        since = _sql.instant(newest[0]) if newest else None
        numbered = [
            evolve(run, id=first + place, recorded_at=max(run.recorded_at, since or run.recorded_at))
            for place, run in enumerate(runs)
        ]
        before = self._connection.total_changes
        self._connection.executemany(
            f"INSERT INTO bgsched_runs ({_RUN}) VALUES ({_places(len(_sql.RUN_COLUMNS))}) "  # noqa: S608
            "ON CONFLICT (request_id, revision, fire_time) DO NOTHING",
            [_sql.run_to_row(run) for run in numbered],
        )
        if self._connection.total_changes - before == len(numbered):
            return numbered
        kept = {row[0] for row in self._connection.execute("SELECT id FROM bgsched_runs WHERE id >= ?", (first,))}
        return [run for run in numbered if run.id in kept]

    def count_ended(self, ended: Sequence[Ended], owner: str) -> None:
        self._connection.executemany(
            "INSERT INTO bgsched_ended (hour, process, status, owner, count) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (hour, process, status, owner) DO UPDATE SET count = count + excluded.count",
            [(_sql.micros(item.hour), item.process, item.status.value, owner, item.count) for item in ended],
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
        names = json.dumps(list(processes))
        found: list[Run] = []
        keys: set[str] = set()
        rows = self._connection.execute(
            f"SELECT {_RUN} FROM bgsched_runs AS run WHERE {QUEUED} AND due_at <= ? ORDER BY due_at, id",  # noqa: S608
            (names, _sql.micros(now)),
        )
        for run in map(_sql.run_from_row, rows):
            if len(found) >= limit:
                rows.close()
                break
            if run.overlap_key not in keys:
                found.append(run)
                keys.update([run.overlap_key] if run.overlap_key is not None else [])
        return found

    def held_runs(self, owner: str) -> list[Run]:
        return self._select_runs(f"owner = ? AND {_ACTIVE} ORDER BY id", owner)

    def update_runs(self, runs: Sequence[Run], owner: str | None) -> set[int]:
        accepted = set()
        for run in runs:
            row = _sql.run_to_row(run)
            attempt = run.attempt - (owner is None and run.owner is not None)
            values = (*(row[place] for place in _CHANGING_PLACES), row[_KILL_PLACE], run.id, owner, attempt)
            if self._connection.execute(_UPDATE_RUN, values).rowcount:
                accepted.add(run.id)
        return accepted

    def ask_kill(self, ids: Collection[int], now: datetime) -> None:
        self._connection.executemany(
            f"UPDATE bgsched_runs SET kill_asked_at = coalesce(kill_asked_at, ?) WHERE id = ? AND {_ACTIVE}",  # noqa: S608
            [(_sql.micros(now), id) for id in ids],
        )

    def append_log(self, lines: Sequence[LogLine]) -> None:
        self._connection.executemany(
            f"INSERT INTO bgsched_log ({_LOG}) VALUES ({_places(len(_sql.LOG_COLUMNS))}) "  # noqa: S608
            "ON CONFLICT (run_id, seq) DO NOTHING",
            [_sql.line_to_row(line) for line in lines],
        )

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
            f"VALUES ({_places(len(_sql.SCHEDULER_COLUMNS))})",
            _sql.scheduler_to_row(record),
        )

    def delete_scheduler(self, owner: str) -> None:
        self._connection.execute("DELETE FROM bgsched_schedulers WHERE owner = ?", (owner,))

    def put_absence(self, absence: Absence) -> None:
        since = _sql.micros(absence.since) or 0
        self._connection.execute("DELETE FROM bgsched_absences WHERE since < ?", (since - _sql.KEEP_ABSENCES,))
        self._connection.execute(
            "INSERT INTO bgsched_absences (since, until) VALUES (?, ?) ON CONFLICT (since) DO NOTHING",
            (since, _sql.micros(absence.until)),
        )

    def end_absence(self, at: datetime) -> None:
        self._connection.execute(
            "UPDATE bgsched_absences SET until = max(since, ?) WHERE until IS NULL", (_sql.micros(at),)
        )

    def purge_runs(self, ids: Sequence[int]) -> int:
        deleted = lines = 0
        for id in ids:
            gone = self._connection.execute(
                f"DELETE FROM bgsched_runs AS run WHERE id = ? AND NOT {_ACTIVE} AND EXISTS (SELECT 1 FROM "  # noqa: S608
                "bgsched_runs AS newer WHERE newer.request_id = run.request_id AND newer.id > run.id)",
                (id,),
            ).rowcount
            if gone:
                lines += self._connection.execute("DELETE FROM bgsched_log WHERE run_id = ?", (id,)).rowcount
            deleted += 1
            if lines >= _MOST_LINES:
                break
        return deleted
