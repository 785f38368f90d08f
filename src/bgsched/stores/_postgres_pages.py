"""How a page of runs is found in PostgreSQL: ids bounded by halving, lanes by index, and a bounded look at the rest.

Several machines record runs at once, so ``recorded_at`` grows with the id only to within what their clocks and their
transactions differ by: the ids that an instant bounds are taken with a margin, and the instant is asked for as well.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from bgsched.run import Run
from bgsched.stores import _sql, _sql_filters
from bgsched.stores._postgres_rows import RUN, clean
from bgsched.stores._sql_filters import Mentions
from bgsched.stores.base import Page, RunFilter

__all__ = ["Ask", "page"]

_MARGIN = timedelta(seconds=15)

# ruff: noqa: S608  statements are put together from names of our own and the schema's, which is checked


class Ask(Protocol):
    """Asks the server one question, in a round trip of its own."""

    def __call__(self, query: str, *values: Any) -> list[Any]:
        """Return the rows."""
        ...


def page(ask: Ask, schema: str, filter: RunFilter) -> Page:
    """Return the runs that match, newest first; see `StoreReader.runs`."""
    newest, newest_values = _newest(ask, schema, filter)
    rest, values = _sql_filters.rest(filter)
    if not rest and filter.text is None:
        found = _runs(ask, schema, f"id = ANY(ARRAY({newest}))", newest_values)  # a join would be one of whole tables
        return Page.of(found, filter.limit)

    def fulfilling(ids: Sequence[int]) -> set[int]:
        where = " AND ".join(["id = ANY(%s::bigint[])", *(condition.replace("?", "%s") for condition in rest)])
        return {row[0] for row in ask(f"SELECT id FROM {schema}.runs WHERE {where}", _array(ids), *values)}

    sifted = _sql_filters.sift(
        filter,
        [row[0] for row in ask(newest, *newest_values)],
        fulfilling,
        lambda ids: _mentioning(ask, schema, ids, clean(filter.text)),
    )
    return Page(_runs(ask, schema, "id = ANY(%s::bigint[])", [_array(sifted.ids)]), sifted.before)


def _runs(ask: Ask, schema: str, where: str, values: Sequence[Any]) -> list[Run]:
    rows = ask(f"SELECT {RUN} FROM {schema}.runs WHERE {where} ORDER BY id DESC", *values)
    return [_sql.run_from_row(row) for row in rows]


def _newest(ask: Ask, schema: str, filter: RunFilter) -> tuple[str, list[Any]]:
    """Return the query, with its values, for the newest ids of all lanes of a filter."""
    bounds, bound_values = _bounds(ask, schema, filter)
    most = _sql_filters.look(filter)
    parts: list[str] = []
    values: list[Any] = []
    for lane in _sql_filters.lanes(filter):
        where = " AND ".join([lane.where, *bounds]).replace("?", "%s")
        parts.append(f"(SELECT id FROM {schema}.runs WHERE {where} ORDER BY {lane.id} DESC LIMIT %s)")
        values += [*lane.values, *bound_values, most]
    query = f"SELECT id FROM ({' UNION ALL '.join(parts)}) AS newest ORDER BY id DESC LIMIT %s"
    return query, [*values, most]


def _bounds(ask: Ask, schema: str, filter: RunFilter) -> tuple[list[str], list[Any]]:
    found: list[str] = []
    values: list[Any] = []
    if filter.before is not None:
        found.append("id < ?")
        values.append(filter.before)
    if filter.since is not None:
        found += ["id >= ?", "recorded_at >= ?"]
        values += [_first_recorded(ask, schema, filter.since - _MARGIN), filter.since]
    if filter.until is not None:
        found += ["id < ?", "recorded_at <= ?"]
        values += [_first_recorded(ask, schema, filter.until + _MARGIN), filter.until]
    return found, values


def _first_recorded(ask: Ask, schema: str, at: datetime) -> int:
    """Return the id from which on runs were recorded at *at* or later, by halving: some twenty looks at the key."""
    rows = ask(
        f"WITH RECURSIVE halves(low, high) AS (SELECT 1::bigint, coalesce(max(id), 0) + 1 FROM {schema}.runs UNION ALL "
        "SELECT CASE WHEN found.is_older THEN found.id + 1 ELSE low END, "
        "CASE WHEN found.is_older THEN high ELSE (low + high) / 2 END FROM halves LEFT JOIN LATERAL "
        f"(SELECT id, recorded_at < %s AS is_older FROM {schema}.runs WHERE id >= (low + high) / 2 ORDER BY id "
        "LIMIT 1) AS found ON true WHERE low < high) SELECT low FROM halves WHERE low >= high",
        at,
    )
    return int(rows[0][0])


def _mentioning(ask: Ask, schema: str, ids: Sequence[int], text: str) -> Mentions:
    """Look into the logs from the newest run on: one run after the other, until there were enough lines."""
    wanted = _array(ids)
    said = ask(
        f"SELECT id FROM {schema}.runs WHERE id = ANY(%s::bigint[]) AND (reason IS NOT NULL OR error IS NOT NULL) "
        "AND strpos(lower(concat_ws(' ', reason, error ->> 'type', error ->> 'message', error ->> 'traceback')), "
        "lower(%s)) > 0",
        wanted,
        text,
    )
    ((lines, last, logged),) = ask(
        "SELECT coalesce(sum(lines), 0)::bigint, min(run_id), array_agg(run_id) FILTER (WHERE mentions) FROM ("
        "SELECT run_id, count(*) AS lines, bool_or(strpos(lower(text), lower(%s)) > 0) AS mentions FROM ("
        "SELECT line.run_id, line.text FROM unnest(%s::bigint[]) AS wanted(id) CROSS JOIN LATERAL ("
        f"SELECT run_id, text FROM {schema}.log WHERE run_id = wanted.id OFFSET 0) AS line LIMIT %s) AS looked "
        "GROUP BY run_id) AS logs",
        text,
        wanted,
        _sql_filters.LOOK_LINES,
    )
    return _sql_filters.mentions(ids, {row[0] for row in said} | set(logged or ()), lines, last)


def _array(ids: Sequence[int]) -> str:
    """Return ids as PostgreSQL writes an array: a thousand values on their way at once."""
    return f"{{{','.join(map(str, ids))}}}"
