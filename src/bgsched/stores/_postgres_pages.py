"""How a page of runs is found in PostgreSQL: ids bounded by halving, lanes by index, and a bounded look at the rest.

Several machines record runs at once, so ``recorded_at`` grows with the id only to within what their clocks and their
transactions differ by: the ids that an instant bounds are taken with a margin, and the instant is asked for as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import TupleRow

from bgsched.run import Run
from bgsched.stores import _rows, _sql_filters
from bgsched.stores._columns import active_by
from bgsched.stores._links import Talk
from bgsched.stores._postgres_rows import RUN, clean
from bgsched.stores._sql_filters import Lane, Mentions
from bgsched.stores._wire import Statement
from bgsched.stores.base import Page, RunFilter

__all__ = ["first_recorded", "page", "recorded_after"]

_MARGIN = timedelta(seconds=15)
_NO_END = (1 << 63) - 1

# ruff: noqa: S608  statements are put together from names of our own and the schema's, which is checked


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The ids from *first* to before *end*, and what else bounds the instants: a condition and its values."""

    first: int = 0
    end: int = _NO_END
    where: str = ""
    values: tuple[datetime, ...] = ()


def page(talk: Talk, schema: str, filter: RunFilter, *, last: bool = False) -> Page:
    """Return the runs that match, newest first; see `StoreReader.runs`. *last*: nothing else is asked in the talk."""
    ask = talk.ask_last if last else talk.ask
    newest, values = _newest(schema, filter, _bounds(talk, schema, filter))
    rest, rest_values = _sql_filters.rest(filter)
    if not rest and filter.text is None:
        among = f"id = ANY(ARRAY({newest}))"  # a join would be one of whole tables
        return Page.of(_runs(ask, schema, among, values), filter.limit)

    def fulfilling(ids: Sequence[int]) -> list[int]:
        where = " AND ".join(["id = ANY(%s::bigint[])", *(condition.replace("?", "%s") for condition in rest)])
        rows = talk.ask(f"SELECT id FROM {schema}.runs WHERE {where}", _array(ids), *rest_values)
        return [row[0] for row in rows]

    sifted = _sql_filters.sift(
        filter,
        [row[0] for row in talk.ask(newest, *values)],
        fulfilling,
        lambda ids: _mentioning(talk, schema, ids, clean(filter.text)),
    )
    runs = _runs(ask, schema, "id = ANY(%s::bigint[])", [_array(sifted.ids)]) if sifted.ids else []
    return Page(runs, sifted.before)


def _runs(ask: Callable[..., list[TupleRow]], schema: str, where: str, values: Sequence[Any]) -> list[Run]:
    rows = ask(f"SELECT {RUN} FROM {schema}.runs WHERE {where} ORDER BY id DESC", *values)
    return [_rows.run_from_row(row) for row in rows]


def _newest(schema: str, filter: RunFilter, bounds: _Bounds) -> tuple[str, list[Any]]:
    """Return the query, with its values, for the newest ids of all lanes of a filter within bounds."""
    most = _sql_filters.look(filter)
    parts: list[str] = []
    values: list[Any] = []
    for lane in _sql_filters.lanes(filter):
        parts.append(_of_lane(schema, lane, bounds.where))
        values += [*([list(lane.statuses)] if lane.statuses else []), *lane.values, *bounds.values]
        values += [bounds.first, bounds.end, most]
    query = f"SELECT id FROM ({' UNION ALL '.join(parts)}) AS newest ORDER BY id DESC LIMIT %s"
    return query, [*values, most]


def _of_lane(schema: str, lane: Lane, where: str) -> str:
    """Return the query for the newest ids of a lane.

    One for all its statuses, for to plan it costs more than to execute it. It compares pairs: otherwise the planner,
    who does not know how rare a status is, may walk all ids instead of those of the status.
    """
    key, of, order = "id", "", "id DESC"
    if lane.statuses:
        key, of, order = "(status, id)", "lane.status, ", "status DESC, id DESC"
    newest = (
        f"(SELECT id FROM {schema}.runs WHERE {lane.where.replace('?', '%s')}{where} "
        f"AND {key} >= ({of}%s) AND {key} < ({of}%s) ORDER BY {order} LIMIT %s)"
    )
    if not lane.statuses:
        return newest
    return f"(SELECT one.id FROM unnest(%s::text[]) AS lane(status) CROSS JOIN LATERAL {newest} AS one)"


def _bounds(talk: Talk, schema: str, filter: RunFilter) -> _Bounds:
    end = _NO_END if filter.before is None else filter.before
    asked = [
        (" AND (recorded_at >= %s) IS TRUE", filter.since, -_MARGIN),
        (" AND (recorded_at <= %s) IS TRUE", filter.until, _MARGIN),
    ]
    given = [(where, at, margin) for where, at, margin in asked if at is not None]
    if not given:
        return _Bounds(end=end)
    halved = talk.send(*(first_recorded(schema, _shifted(at, margin)) for _, at, margin in given))
    found = [rows[0][0] for rows in halved]
    return _Bounds(
        first=found[0] if filter.since is not None else 0,
        end=min(end, found[-1]) if filter.until is not None else end,
        where="".join(where for where, *_ in given),
        values=tuple(at for _, at, _ in given),
    )


def _shifted(at: datetime, margin: timedelta) -> datetime:
    try:
        return at + margin
    except OverflowError:  # where time ends, so do the runs
        return at


def recorded_after(schema: str) -> tuple[str, str]:
    """Return the questions for the ids of all ended, and of all active runs that were recorded after an instant each.

    They need not stand at the end: while one scheduler brought back what a clock ahead had recorded, another had a run
    of it in hand, or one that was to come.
    """
    runs = f"SELECT id FROM {schema}.runs WHERE recorded_at > %s"
    return f"{runs} AND finished_at IS NOT NULL", f"{runs} AND {active_by()}"


def first_recorded(schema: str, at: datetime) -> Statement:
    """Return how to ask for the id from which on runs were recorded at *at* or later.

    By halving: some twenty looks at the key.
    """
    query = (
        f"WITH RECURSIVE halves(low, high) AS (SELECT 1::bigint, coalesce(max(id), 0) + 1 FROM {schema}.runs UNION ALL "
        "SELECT CASE WHEN found.is_older THEN found.id + 1 ELSE low END, "
        "CASE WHEN found.is_older THEN high ELSE (low + high) / 2 END FROM halves LEFT JOIN LATERAL "
        f"(SELECT id, recorded_at < %s AS is_older FROM {schema}.runs WHERE id >= (low + high) / 2 ORDER BY id "
        "LIMIT 1) AS found ON true WHERE low < high) SELECT low FROM halves WHERE low >= high"
    )
    return query, (at,)


def _mentioning(talk: Talk, schema: str, ids: Sequence[int], text: str) -> Mentions:
    """Look into how the runs ended, then into the logs of the others, newest first, until there were enough lines."""
    ended = (
        f"SELECT id FROM {schema}.runs WHERE id = ANY(%s::bigint[]) AND (reason IS NOT NULL OR error IS NOT NULL) "
        "AND strpos(lower(concat_ws(' ', reason, error ->> 'type', error ->> 'message', error ->> 'traceback')), "
        "lower(%s)) > 0"
    )
    logged = (
        "SELECT run_id, count(*) AS lines, bool_or(strpos(lower(text), lower(%s)) > 0) AS mentions FROM ("
        "SELECT line.run_id, line.text FROM unnest(%s::bigint[]) AS wanted(id) CROSS JOIN LATERAL ("
        f"SELECT run_id, text FROM {schema}.log WHERE run_id = wanted.id OFFSET 0) AS line "
        "WHERE wanted.id NOT IN (SELECT id FROM ended) LIMIT %s) AS looked GROUP BY run_id"
    )
    wanted = _array(ids)
    (by_end, lines, last, by_line) = talk.ask(
        f"WITH ended AS MATERIALIZED ({ended}), logged AS ({logged}) SELECT (SELECT array_agg(id) FROM ended), "
        "coalesce(sum(lines), 0)::bigint, min(run_id), array_agg(run_id) FILTER (WHERE mentions) FROM logged",
        wanted,
        text,
        text,
        wanted,
        _sql_filters.LOOK_LINES,
    )[0]

    def in_log(id: int) -> bool:
        line = f"SELECT 1 FROM {schema}.log WHERE run_id = %s AND strpos(lower(text), lower(%s)) > 0 LIMIT 1"
        return bool(talk.ask(line, id, text))

    return _sql_filters.mentions(ids, {*(by_end or ()), *(by_line or ())}, lines, last, in_log)


def _array(ids: Sequence[int]) -> str:
    """Return ids as PostgreSQL writes an array: a thousand values on their way at once."""
    return f"{{{','.join(map(str, ids))}}}"
