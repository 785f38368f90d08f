"""How values travel into PostgreSQL's statements, a whole batch as one value, and how its columns are spelled.

A batch is JSON that the server unpacks: of what was measured (arrays of each column, COPY into a table of the session),
it costs the two of them least, and a statement's text does not grow with the batch.
"""

import functools
import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

from bgsched.stores import _sql

__all__ = ["ACTIVE", "REQUEST", "RUN", "bites", "clean", "insert", "pack", "quoted", "records", "settings", "value"]

T = TypeVar("T")

_BITE = 250  # rows in a statement: none takes long, and the server works on one while the next is made

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


def _kind(name: str) -> str:
    return "instant" if name in _INSTANTS or name.endswith("_at") else "span" if name in _SPANS else "plain"


def pack(columns: Sequence[str], rows: Collection[Sequence[Any]]) -> str:
    """Return rows as the JSON that `records` unpacks: one value for a whole batch."""
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
        return json.dumps({key: clean(text) for key, text in json.loads(value).items()}, ensure_ascii=False)
    return clean(value)


def clean(value: Any) -> Any:
    r"""Return what PostgreSQL can keep: no NUL, no half of a surrogate pair (in JSON, ``\udc80`` means the same)."""
    if isinstance(value, str):
        return value.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    return value


@functools.cache
def records(columns: Sequence[str], *, id_is_text: bool = False) -> str:
    """Return the FROM item ``r`` that unpacks `pack`: instants and spans come as microseconds, JSON as text."""

    def kind(name: str) -> str:
        if name == "id" and id_is_text:
            return "text"
        return "bigint" if _kind(name) != "plain" or name in _NUMBERS else "text"

    return f"json_to_recordset(%s::json) AS r({', '.join(f'{quoted(name)} {kind(name)}' for name in columns)})"


def value(schema: str, name: str) -> str:
    """Return the expression for a column's value out of `records`."""
    column = f"r.{quoted(name)}"
    if (kind := _kind(name)) != "plain":
        return f"{schema}.{'at' if kind == 'instant' else 'of'}_micros({column})"
    return f"{column}::json" if name in _JSON else column


def quoted(name: str) -> str:
    return f'"{name}"'


@functools.cache
def insert(schema: str, table: str, columns: Sequence[str]) -> str:
    names = ", ".join(map(quoted, columns))
    values = ", ".join(value(schema, name) for name in columns)
    rows = records(columns, id_is_text=table == "requests")
    return f"INSERT INTO {schema}.{table} ({names}) SELECT {values} FROM {rows}"  # noqa: S608  names of our own


@functools.cache
def settings(schema: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{quoted(name)} = {value(schema, name)}" for name in columns)


def bites(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield *values* in parts that a statement can take at once."""
    for start in range(0, len(values), _BITE):
        yield values[start : start + _BITE]


REQUEST = ", ".join(map(quoted, _sql.REQUEST_COLUMNS))
RUN = ", ".join(map(quoted, _sql.RUN_COLUMNS))
ACTIVE = _sql.ACTIVE_STATUS
