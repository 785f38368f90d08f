"""The questions to a PostgreSQL store, each in one round trip, in a transaction that cannot write."""

import itertools
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from bgsched.request import Request
from bgsched.run import FINAL, LogLine, Run, RunStatus
from bgsched.stores import _columns, _rows, _values
from bgsched.stores._links import LONG, Links
from bgsched.stores._postgres_pages import page
from bgsched.stores._postgres_rows import ACTIVE, REQUEST, RUN, clean, quoted
from bgsched.stores._sql_filters import figures, request_conditions
from bgsched.stores.base import LAST, Absence, Aged, Ended, Page, RequestFilter, RunFilter, SchedulerRecord, Summary

__all__ = ["SCHEDULERS", "PostgresReader", "queued", "ranks"]

SCHEDULERS = ", ".join(map(quoted, _columns.SCHEDULER_COLUMNS))
_LOG = ", ".join(map(quoted, _columns.LOG_COLUMNS))

# ruff: noqa: S608  statements are put together from names of our own and the schema's, which is checked


def ranks(schema: str) -> str:
    """Return the CTE of the priorities that requests with a due time have, each by one look into the index."""
    top = f"SELECT max(priority) FROM {schema}.requests WHERE due_at IS NOT NULL"
    return (
        f"WITH RECURSIVE ranks(priority) AS ({top} UNION ALL "
        f"SELECT ({top} AND priority < ranks.priority) FROM ranks WHERE ranks.priority IS NOT NULL)"
    )


def queued(schema: str) -> str:
    """Return the condition of a waiting run that nobody owns and nothing is in the way of; its value: the processes."""
    return (
        "status = 'waiting' AND owner IS NULL AND process = ANY(%s::text[]) AND (overlap_key IS NULL OR NOT EXISTS ("
        f"SELECT 1 FROM {schema}.runs AS o WHERE o.overlap_key = run.overlap_key AND o.{ACTIVE} "
        "AND o.owner IS NOT NULL))"
    )


def _spelled(text: str) -> str:
    """Return a condition of `_sql_filters` as psycopg wants it: a value is ``%s``."""
    return text.replace("?", "%s")


class PostgresReader:
    """Answers over links whose transactions cannot write."""

    def __init__(self, links: Links, schema: str) -> None:
        self._links = links
        self._schema = schema
        self._ask = links.ask

    def find_request(self, id: str) -> Request | None:
        rows = self._ask(f"SELECT {REQUEST} FROM {self._schema}.known_requests WHERE id = %s", clean(id))
        return next((_rows.request_from_row(row) for row in rows), None)

    def requests(self, filter: RequestFilter) -> list[Request]:
        where, values = request_conditions(filter)
        rows = self._ask(
            f"SELECT {REQUEST} FROM {self._schema}.known_requests WHERE {_spelled(where)} ORDER BY id LIMIT %s",
            *values,
            filter.limit,
        )
        return [_rows.request_from_row(row) for row in rows]

    def upcoming(self, limit: int) -> list[Request]:
        rows = self._ask(
            f"{ranks(self._schema)} SELECT soon.* FROM ranks CROSS JOIN LATERAL ("
            f"SELECT {REQUEST} FROM {self._schema}.requests WHERE priority = ranks.priority "
            "AND due_at IS NOT NULL ORDER BY due_at, id LIMIT %s) AS soon ORDER BY due_at, id LIMIT %s",
            limit,
            limit,
        )
        return [_rows.request_from_row(row) for row in rows]

    def find_run(self, id: int) -> Run | None:
        rows = self._ask(f"SELECT {RUN} FROM {self._schema}.runs WHERE id = %s", id)
        return next((_rows.run_from_row(row) for row in rows), None)

    def runs(self, filter: RunFilter) -> Page:
        with self._links.transaction() as talk:
            return page(talk, self._schema, filter, last=True)

    def log(self, run_id: int, after: int, limit: int) -> list[LogLine]:
        rows = self._ask(
            f"SELECT {_LOG} FROM {self._schema}.log WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s",
            run_id,
            after,
            limit,
        )
        return [_rows.line_from_row(row) for row in rows]

    def summary(self, process: str | None, since: datetime | None) -> Summary:
        of, values = figures(process)
        runs = (
            f"FROM {self._schema}.runs WHERE {_spelled(of)} AND recorded_at >= coalesce(%s, '-infinity'::timestamptz)"
        )
        values.append(since)
        # as instants since 1970, in microseconds to us: PostgreSQL sorts intervals at half the speed
        spread = "percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY 'epoch'::timestamptz + {})"
        wanted = RunFilter(process=process, since=since, limit=1)
        with self._links.transaction() as talk:
            talk.patience = LONG
            counts, ((durations, lateness),) = talk.send(
                (f"SELECT status, sum(fire_count)::bigint {runs} GROUP BY 1 ORDER BY 1", values),
                (f"SELECT {spread.format('duration')}, {spread.format('lateness')} {runs}", values),
            )
            newest: dict[str, Any] = {
                name: next(iter(page(talk, self._schema, replace(wanted, status=statuses))), None)
                for name, statuses in LAST.items()
            }
        spans: dict[str, Any] = {
            f"{name}_p{percent}": _values.span(value)
            for name, found in (("duration", durations), ("lateness", lateness))
            for percent, value in zip((50, 95, 99), found or (None, None, None), strict=True)
        }
        return Summary(counts={RunStatus(status): count for status, count in counts}, **spans, **newest)

    def ended(self, process: str | None, since: datetime, until: datetime) -> list[Ended]:
        names = [] if process is None else [process]
        rows = self._ask(
            f"SELECT hour, status, sum(count)::bigint FROM {self._schema}.ended WHERE hour BETWEEN %s AND %s "
            f"{'AND process = %s ' * len(names)}GROUP BY 1, 2 ORDER BY 1, 2",
            since.replace(minute=0, second=0, microsecond=0),
            until,
            *names,
        )
        return [Ended(hour, process, RunStatus(row[1]), row[2]) for row in rows if (hour := _values.instant(row[0]))]

    def totals(self, since: datetime, until: datetime) -> list[Ended]:
        first = since.replace(minute=0, second=0, microsecond=0)
        rows = self._ask(
            f"SELECT process, status, sum(count)::bigint FROM {self._schema}.ended WHERE hour >= %s AND hour < %s "
            "GROUP BY 1, 2 ORDER BY 1, 2",
            first,
            until,
        )
        return [Ended(first, process, RunStatus(status), count) for process, status, count in rows]

    def aged(self, after: int, before: datetime, limit: int) -> list[Aged]:
        """Walk the ids; a run from *before* on, whose followers are all younger, ends the walk."""
        schema = self._schema
        rows = self._ask(
            f"SELECT id, request_id, process, status, finished_at, NOT {_columns.has_newer(f'{schema}.runs')}, "
            f"recorded_at < %s FROM (SELECT * FROM {schema}.runs AS old WHERE id > %s AND finished_at IS NOT NULL "
            f"AND NOT EXISTS (SELECT 1 FROM {schema}.runs AS parent WHERE parent.id = old.parent_id "
            "AND (parent.finished_at IS NULL) IS TRUE) ORDER BY id LIMIT %s) AS run ORDER BY id",
            before,
            after,
            limit,
        )
        old = [row[:6] for row in itertools.takewhile(lambda row: row[6], rows)]
        return _rows.aged_from_rows(old)

    def nth_newest(self, process: str, n: int) -> int | None:
        rows = self._ask(
            "SELECT one.id FROM unnest(%s::text[]) AS lane(status) CROSS JOIN LATERAL ("
            f"SELECT id FROM {self._schema}.runs WHERE process = %s AND status = lane.status "
            f"AND {_columns.ended_by('process')} ORDER BY id DESC LIMIT %s) AS one "
            "ORDER BY one.id DESC LIMIT 1 OFFSET %s",
            [status.value for status in FINAL],
            process,
            n,
            n - 1,
        )
        return rows[0][0] if rows else None

    def absences(self, since: datetime, until: datetime) -> list[Absence]:
        rows = self._ask(
            f"SELECT since, until FROM {self._schema}.absences WHERE since <= %s "
            "AND (until >= %s OR until IS NULL) ORDER BY since",
            until,
            since,
        )
        return [Absence(start, _values.instant(row[1])) for row in rows if (start := _values.instant(row[0]))]

    def zone_databases(self) -> frozenset[str]:
        return frozenset(row[0] for row in self._ask(f"SELECT digest FROM {self._schema}.zone_databases"))

    def schedulers(self) -> list[SchedulerRecord]:
        """Return the schedulers; how far a clock is ahead of the server's shows in the lease by each of the two.

        By the server's, those are alive that no other may end: it does not matter what the clock here says.
        """
        rows = self._ask(
            f"SELECT {SCHEDULERS}, CASE WHEN isfinite(lease_until) AND isfinite(expires_at) "
            "THEN lease_until - expires_at END, expires_at >= clock_timestamp() "
            f"FROM {self._schema}.schedulers ORDER BY started_at, owner"
        )
        return [replace(_rows.scheduler_from_row(row), clock_skew=_values.span(row[-2]), alive=row[-1]) for row in rows]

    def kills_asked(self, owner: str) -> frozenset[int]:
        rows = self._ask(
            f"SELECT id FROM {self._schema}.runs WHERE owner = %s AND {ACTIVE} AND kill_asked_at IS NOT NULL",
            owner,
        )
        return frozenset(row[0] for row in rows)

    def held(self, owner: str) -> list[Run]:
        """Return what `Store.held` promises."""
        rows = self._ask(
            f"SELECT {RUN} FROM {self._schema}.runs WHERE owner = %s AND {_columns.active_by()} AND {ACTIVE} "
            "ORDER BY id",
            owner,
        )
        return [_rows.run_from_row(row) for row in rows]

    def first_waiting(self) -> Run | None:
        """Look for the holder of each by itself; NOT EXISTS may read all that goes on."""
        schema = self._schema
        rows = self._ask(
            f"SELECT {RUN} FROM {schema}.runs WHERE id = (SELECT run.id FROM (SELECT id, due_at, overlap_key "
            f"FROM {schema}.runs WHERE status = 'waiting' AND owner IS NULL AND due_at IS NOT NULL "
            f"ORDER BY due_at, id LIMIT {_columns.LOOK_WAITING}) AS run LEFT JOIN LATERAL ("
            f"SELECT o.id FROM {schema}.runs AS o WHERE o.overlap_key = run.overlap_key AND o.{ACTIVE} "
            "AND o.owner IS NOT NULL LIMIT 1) AS holder ON true WHERE holder.id IS NULL "
            "ORDER BY run.due_at, run.id LIMIT 1)"
        )
        return next((_rows.run_from_row(row) for row in rows), None)

    def active_processes(self) -> frozenset[str]:
        return frozenset(name for (name,) in self._ask(_columns.active_processes(f"{self._schema}.runs")))

    def holder(self, overlap_key: str) -> Run | None:
        rows = self._ask(
            f"SELECT {RUN} FROM {self._schema}.runs WHERE overlap_key = %s AND {ACTIVE} AND owner IS NOT NULL LIMIT 1",
            overlap_key,
        )
        return next((_rows.run_from_row(row) for row in rows), None)

    def next_due(self, processes: Collection[str]) -> datetime | None:
        names = list(processes)
        rows = self._links.once(
            f"{ranks(self._schema)} SELECT min(due_at) FROM (SELECT due.due_at FROM ranks CROSS JOIN LATERAL ("
            f"SELECT due_at FROM {self._schema}.requests WHERE priority = ranks.priority AND due_at IS NOT NULL "
            "AND process = ANY(%s::text[]) ORDER BY due_at LIMIT 1) AS due "
            f"UNION ALL (SELECT due_at FROM {self._schema}.runs AS run WHERE {queued(self._schema)} "
            "ORDER BY due_at LIMIT 1)) AS earliest",
            names,
            names,
        )
        return _values.instant(rows[0][0])
