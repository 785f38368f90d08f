"""What SQLite is asked: the reading half of its store, over connections that cannot write."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

from bgsched.request import Request
from bgsched.run import FINAL, LogLine, Run, RunStatus
from bgsched.stores import _columns, _rows, _sql_filters, _values
from bgsched.stores.base import (
    LAST,
    Absence,
    Aged,
    Ended,
    Page,
    RequestFilter,
    RunFilter,
    SchedulerRecord,
    Summary,
    summarize,
)

__all__ = ["QUEUED", "SQLiteReader", "look_into", "priorities", "schedulers", "select_runs"]

_REQUEST = ", ".join(_columns.REQUEST_COLUMNS)
_RUN = ", ".join(_columns.RUN_COLUMNS)
_LOG = ", ".join(_columns.LOG_COLUMNS)
_SCHEDULER = ", ".join(_columns.SCHEDULER_COLUMNS)
_ACTIVE = _columns.ACTIVE_STATUS
_HAS_NEWER = _columns.has_newer("bgsched_runs")

QUEUED = (
    f"status = 'waiting' AND owner IS NULL AND due_at {_columns.IS_INSTANT} "  # noqa: S608  our own
    f"AND typeof(attempt) = 'integer' AND attempt < {_columns.WHOLE} "
    "AND process IN (SELECT value FROM json_each(?)) "
    "AND (overlap_key IS NULL OR NOT EXISTS (SELECT 1 FROM bgsched_runs AS b "
    "WHERE b.overlap_key = run.overlap_key AND b.status IN ('waiting', 'running') AND b.owner IS NOT NULL))"
)


def priorities(connection: sqlite3.Connection) -> Iterator[int]:
    """Yield the priorities that requests with a due time have, highest first, each by one look into the index."""
    highest = "SELECT max(priority) FROM bgsched_requests WHERE due_at IS NOT NULL"
    (priority,) = connection.execute(highest).fetchone()
    while priority is not None:
        yield priority
        (priority,) = connection.execute(f"{highest} AND priority < ?", (priority,)).fetchone()


def select_runs(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Run]:
    rows = connection.execute(f"SELECT {_RUN} FROM bgsched_runs AS run WHERE {where}", values)  # noqa: S608
    return [_rows.run_from_row(row) for row in rows]


def _holder(connection: sqlite3.Connection, overlap_key: str) -> Run | None:
    where = f"overlap_key = ? AND {_ACTIVE} AND owner IS NOT NULL LIMIT 1"
    return next(iter(select_runs(connection, where, (overlap_key,))), None)


def _candidates(connection: sqlite3.Connection, filter: RunFilter) -> list[int]:
    """Return the newest ids of all lanes of a filter."""
    bounds, most = _bounds(connection, filter), _sql_filters.look(filter)
    ids: list[int] = []
    for lane in _sql_filters.lanes(filter):
        where = f"{lane.where} AND id BETWEEN ? AND ?{' AND status = ?' * bool(lane.statuses)}"
        query = f"SELECT id FROM bgsched_runs WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
        for status in [[status] for status in lane.statuses] or [[]]:
            ids += [row[0] for row in connection.execute(query, (*lane.values, *bounds, *status, most))]
    return sorted(ids, reverse=True)[:most]


def _fulfilling(
    connection: sqlite3.Connection, ids: Sequence[int], rest: Sequence[str], values: Sequence[Any]
) -> set[int]:
    where = " AND ".join(["id IN (SELECT value FROM json_each(?))", *rest])
    rows = connection.execute(f"SELECT id FROM bgsched_runs WHERE {where}", (json.dumps(ids), *values))  # noqa: S608
    return {row[0] for row in rows}


def _mentioning(connection: sqlite3.Connection, ids: Sequence[int], text: str) -> _sql_filters.Mentions:
    """Look into how the runs ended, then into the logs of the others, newest first, until there were enough lines.

    json_each keeps the order of *ids*, CROSS JOIN that of the tables.
    """
    rows = connection.execute(
        "SELECT id FROM bgsched_runs WHERE id IN (SELECT value FROM json_each(?)) "
        "AND (reason IS NOT NULL OR error IS NOT NULL) AND bgsched_said(reason, error, ?)",
        (json.dumps(ids), text.lower()),
    )
    found = {row[0] for row in rows}
    lines, last, logged = connection.execute(
        "SELECT sum(lines), min(run_id), json_group_array(run_id) FILTER (WHERE mentions) FROM (SELECT run_id, "
        "count(*) AS lines, max(bgsched_mentions(text, ?)) AS mentions FROM (SELECT log.run_id, log.text "
        "FROM json_each(?) AS wanted CROSS JOIN bgsched_log AS log WHERE log.run_id = wanted.value LIMIT ?) "
        "GROUP BY run_id)",
        (text.lower(), json.dumps([id for id in ids if id not in found]), _sql_filters.LOOK_LINES),
    ).fetchone()

    def in_log(id: int) -> bool:
        line = "SELECT 1 FROM bgsched_log WHERE run_id = ? AND bgsched_mentions(text, ?) LIMIT 1"
        return connection.execute(line, (id, text.lower())).fetchone() is not None

    return _sql_filters.mentions(ids, found.union(json.loads(logged)), lines or 0, last, in_log)


def look_into(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that look for a text."""
    connection.create_function("bgsched_mentions", 2, _mentions, deterministic=True)
    connection.create_function("bgsched_said", 3, _said, deterministic=True)


def _mentions(text: str, wanted: str) -> bool:
    """Return whether *text* has *wanted*, in any script: SQLite's own ``lower`` knows ASCII only."""
    return wanted in text.lower()


def _said(reason: str | None, error: str | None, wanted: str) -> bool:
    return wanted in f"{reason or ''} {_rows.error_text(error)}".lower()


def _bounds(connection: sqlite3.Connection, filter: RunFilter) -> tuple[int, int]:
    """Return the first and last id that can match: ``recorded_at`` grows with the id, so halving finds its bounds."""
    last = connection.execute("SELECT max(id) FROM bgsched_runs").fetchone()[0] or 0
    first = 1 if filter.since is None else first_recorded(connection, last, _values.micros(filter.since) or 0)
    if filter.until is not None:
        last = first_recorded(connection, last, (_values.micros(filter.until) or 0) + 1) - 1
    return first, last if filter.before is None else min(last, filter.before - 1)


def first_recorded(connection: sqlite3.Connection, last: int, at: int) -> int:
    """Return the lowest id from which on every run was recorded at *at* or later."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        query = "SELECT id, CAST(recorded_at AS INTEGER) FROM bgsched_runs WHERE id >= ? ORDER BY id LIMIT 1"
        row = connection.execute(query, (middle,)).fetchone()
        if row is None or row[1] >= at:
            high = middle
        else:
            low = row[0] + 1
    return low


def schedulers(connection: sqlite3.Connection) -> list[SchedulerRecord]:
    rows = connection.execute(f"SELECT {_SCHEDULER} FROM bgsched_schedulers ORDER BY started_at, owner")  # noqa: S608
    return [_rows.scheduler_from_row(row) for row in rows]


class SQLiteReader:
    """Answers over connections that cannot write. *is_free*: whether nobody holds a scheduler's lock, if known."""

    def __init__(
        self,
        reading: Callable[[], AbstractContextManager[sqlite3.Connection]],
        is_free: Callable[[str], bool | None],
    ) -> None:
        self._reading = reading
        self._is_free = is_free

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection whose statements all see the same runs: one that begins between two is not missed."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    def find_request(self, id: str) -> Request | None:
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {_REQUEST} FROM bgsched_known_requests WHERE id = ?", (id,))  # noqa: S608
            return next((_rows.request_from_row(row) for row in rows.fetchall()), None)

    def requests(self, filter: RequestFilter) -> list[Request]:
        where, values = _sql_filters.request_conditions(filter)
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT {_REQUEST} FROM bgsched_known_requests WHERE {where} ORDER BY id LIMIT ?",  # noqa: S608
                (*values, filter.limit),
            )
            return [_rows.request_from_row(row) for row in rows]

    def upcoming(self, limit: int) -> list[Request]:
        with self._reading() as connection:
            found: list[Request] = []
            for priority in priorities(connection):
                rows = connection.execute(
                    f"SELECT {_REQUEST} FROM bgsched_requests WHERE priority = ? AND due_at {_columns.IS_INSTANT} "  # noqa: S608
                    "ORDER BY due_at, id LIMIT ?",
                    (priority, limit),
                )
                found += [_rows.request_from_row(row) for row in rows]
        return sorted(found, key=lambda request: (_values.micros(request.due_at) or 0, request.id))[:limit]

    def find_run(self, id: int) -> Run | None:
        with self._reading() as connection:
            return next(iter(select_runs(connection, "id = ?", (id,))), None)

    def runs(self, filter: RunFilter) -> Page:
        with self._snapshot() as connection:
            return self._page(connection, filter)

    def _page(self, connection: sqlite3.Connection, filter: RunFilter) -> Page:
        rest, values = _sql_filters.rest(filter)
        sifted = _sql_filters.sift(
            filter,
            _candidates(connection, filter),
            lambda ids: _fulfilling(connection, ids, rest, values),
            lambda ids: _mentioning(connection, ids, filter.text or ""),
        )
        where = "id IN (SELECT value FROM json_each(?)) ORDER BY id DESC"
        return Page(select_runs(connection, where, [json.dumps(sifted.ids)]), sifted.before)

    def log(self, run_id: int, after: int, limit: int) -> list[LogLine]:
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT {_LOG} FROM bgsched_log WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608
                (run_id, after, limit),
            )
            return [_rows.line_from_row(row) for row in rows]

    def summary(self, process: str | None, since: datetime | None) -> Summary:
        """Let SQLite pack the spans: a list as one text is read several times faster than as rows."""
        of, values = _sql_filters.figures(process)
        source = f"FROM bgsched_runs WHERE {of} AND recorded_at >= ?"
        values.append(_values.micros(since) if since else _columns.FIRST)
        wanted = RunFilter(process=process, since=since, limit=1)
        with self._snapshot() as connection:
            counts = connection.execute(f"SELECT status, sum(fire_count) {source} GROUP BY status", values).fetchall()
            spans = connection.execute(
                f"SELECT json_group_array(duration), json_group_array(lateness) {source}", values
            ).fetchone()
            newest = {
                name: next(iter(self._page(connection, replace(wanted, status=statuses))), None)
                for name, statuses in LAST.items()
            }
        return summarize(dict(counts), json.loads(spans[0]), json.loads(spans[1]), newest)

    def ended(self, process: str | None, since: datetime, until: datetime) -> list[Ended]:
        first = since.replace(minute=0, second=0, microsecond=0)
        where, names = ("", []) if process is None else ("process = ? AND ", [process])
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT hour, status, sum(count) FROM bgsched_ended WHERE {where}hour BETWEEN ? AND ? "  # noqa: S608
                "GROUP BY hour, status ORDER BY hour, status",
                (*names, _values.micros(first), _values.micros(until)),
            ).fetchall()
        return [Ended(hour, process, RunStatus(row[1]), row[2]) for row in rows if (hour := _values.instant(row[0]))]

    def totals(self, since: datetime, until: datetime) -> list[Ended]:
        first = since.replace(minute=0, second=0, microsecond=0)
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT process, status, sum(count) FROM bgsched_ended WHERE hour >= ? AND hour < ? "
                "GROUP BY process, status ORDER BY process, status",
                (_values.micros(first), _values.micros(until)),
            ).fetchall()
        return [Ended(first, process, RunStatus(status), count) for process, status, count in rows]

    def aged(self, after: int, before: datetime, limit: int) -> list[Aged]:
        with self._reading() as connection:
            last = connection.execute("SELECT max(id) FROM bgsched_runs").fetchone()[0] or 0
            rows = connection.execute(
                f"SELECT id, request_id, process, status, finished_at, NOT {_HAS_NEWER} FROM bgsched_runs AS run "  # noqa: S608
                "WHERE id > ? AND id < ? AND finished_at IS NOT NULL "
                "AND NOT EXISTS (SELECT 1 FROM bgsched_runs AS parent WHERE parent.id = run.parent_id "
                "AND parent.finished_at IS NULL) ORDER BY run.id LIMIT ?",
                (after, first_recorded(connection, last, _values.micros(before) or 0), limit),
            ).fetchall()
        return _rows.aged_from_rows(rows)

    def nth_newest(self, process: str, n: int) -> int | None:
        newest = (
            "SELECT id FROM (SELECT id FROM bgsched_runs WHERE process = ? AND status = ? "  # noqa: S608  our own
            f"AND {_columns.ended_by('process')} ORDER BY id DESC LIMIT ?)"
        )
        lanes = " UNION ALL ".join([newest] * len(FINAL))
        values = [value for status in FINAL for value in (process, status.value, n)]
        with self._reading() as connection:
            query = f"SELECT id FROM ({lanes}) ORDER BY id DESC LIMIT 1 OFFSET ?"  # noqa: S608  our own
            row = connection.execute(query, (*values, n - 1)).fetchone()
        return int(row[0]) if row else None

    def absences(self, since: datetime, until: datetime) -> list[Absence]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT since, until FROM bgsched_absences WHERE since <= ? AND (until >= ? OR until IS NULL) "
                "ORDER BY since",
                (_values.micros(until), _values.micros(since)),
            ).fetchall()
        return [Absence(start, _values.instant(row[1])) for row in rows if (start := _values.instant(row[0]))]

    def zone_databases(self) -> frozenset[str]:
        with self._reading() as connection:
            return frozenset(row[0] for row in connection.execute("SELECT digest FROM bgsched_zone_databases"))

    def schedulers(self) -> list[SchedulerRecord]:
        with self._reading() as connection:
            known = schedulers(connection)
        free = [self._is_free(record.owner) for record in known]
        return [
            replace(one, alive=None if is_free is None else not is_free)
            for one, is_free in zip(known, free, strict=True)
        ]

    def kills_asked(self, owner: str) -> frozenset[int]:
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT id FROM bgsched_runs WHERE owner = ? AND {_ACTIVE} AND kill_asked_at IS NOT NULL",  # noqa: S608
                (owner,),
            )
            return frozenset(row[0] for row in rows)

    def first_waiting(self) -> Run | None:
        """Walk along the index; many that wait mostly do so for one and the same, which is looked for once."""
        with self._reading() as connection:
            waiting = connection.execute(
                "SELECT id, overlap_key FROM bgsched_runs WHERE status = 'waiting' AND owner IS NULL "  # noqa: S608  our own
                f"AND due_at {_columns.IS_INSTANT} ORDER BY due_at, id LIMIT {_columns.LOOK_WAITING}"
            )
            is_free = cache(lambda key: _holder(connection, key) is None)
            first = next((id for id, key in waiting if key is None or is_free(key)), None)
            return None if first is None else next(iter(select_runs(connection, "id = ?", (first,))), None)

    def active_processes(self) -> frozenset[str]:
        with self._reading() as connection:
            return frozenset(name for (name,) in connection.execute(_columns.active_processes("bgsched_runs")))

    def holder(self, overlap_key: str) -> Run | None:
        with self._reading() as connection:
            return _holder(connection, overlap_key)

    def next_due(self, processes: Collection[str]) -> datetime | None:
        names = json.dumps(list(processes))
        with self._reading() as connection:
            due = [
                row[0]
                for priority in priorities(connection)
                for row in connection.execute(
                    f"SELECT due_at FROM bgsched_requests WHERE priority = ? AND due_at {_columns.IS_INSTANT} "  # noqa: S608  our own
                    "AND process IN (SELECT value FROM json_each(?)) ORDER BY due_at LIMIT 1",
                    (priority, names),
                )
            ]
            due += [
                row[0]
                for row in connection.execute(
                    f"SELECT due_at FROM bgsched_runs AS run WHERE {QUEUED} ORDER BY due_at LIMIT 1",  # noqa: S608
                    (names,),
                )
            ]
        return _values.instant(min(due, default=None))
