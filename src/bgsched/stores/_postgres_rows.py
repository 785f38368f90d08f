"""How values travel into PostgreSQL's statements, a whole batch at once, and how its columns are spelled.

A batch travels by columns, in PostgreSQL's binary form: one array for each column in which its rows differ, and one
value for each in which they do not, which are most of them. Of what was measured it costs the two of them least, and a
statement's text does not grow with the batch.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from struct import Struct
from typing import Any, NamedTuple, TypeVar

from bgsched.stores import _columns
from bgsched.stores._by_column import is_same
from bgsched.stores._wire import EPOCH_2000, Packed

__all__ = [
    "ACTIVE",
    "COPY_HEAD",
    "COPY_TAIL",
    "REQUEST",
    "RUN",
    "Batch",
    "Shape",
    "bites",
    "clean",
    "copied",
    "insert",
    "quoted",
]

T = TypeVar("T")

_BITE = 250  # rows in a statement: none takes long, and the server works on one while the next is made

# ruff: noqa: S608  statements are put together from names of our own and the schema's, which is checked


# -- values -----------------------------------------------------------------------------------------------------------

_NULL = b"\xff\xff\xff\xff"
_size = Struct("!i").pack
_count = Struct("!h").pack
_number = Struct("!iq").pack
_span = Struct("!iqii").pack
_array = Struct("!iiiii").pack


def _numbers(values: Sequence[int | None]) -> list[bytes]:
    return [_NULL if value is None else _number(8, value) for value in values]


def _instants(values: Sequence[int | None]) -> list[bytes]:
    return [_NULL if value is None else _number(8, value - EPOCH_2000) for value in values]


def _spans(values: Sequence[int | None]) -> list[bytes]:
    return [_NULL if value is None else _span(16, value, 0, 0) for value in values]


def _texts(values: Sequence[str | None]) -> list[bytes]:
    return [_NULL if value is None else _size(len(text := _utf8(value))) + text for value in values]


def _looked_into(values: Sequence[str | None]) -> list[bytes]:
    """Pack JSON into which the view for people looks: PostgreSQL cannot show every text that JSON can say."""
    return _texts([value if value is None or "\\u" not in value else _clean_json(value) for value in values])


def _utf8(value: str) -> bytes:
    try:
        text = value.encode()
    except UnicodeEncodeError:
        return str(clean(value)).encode()
    return str(clean(value)).encode() if b"\0" in text else text


def _clean_json(text: str) -> str:
    return json.dumps({key: clean(value) for key, value in json.loads(text).items()}, ensure_ascii=False)


def clean(value: Any) -> Any:
    r"""Return what PostgreSQL can keep: no NUL, no half of a surrogate pair (in JSON, ``\udc80`` means the same)."""
    if isinstance(value, str):
        return value.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    return value


# -- columns ----------------------------------------------------------------------------------------------------------


class _Type(NamedTuple):
    """A type of PostgreSQL's, its number, and how values of it are packed, each behind its size."""

    name: str
    oid: int
    pack: Callable[[Sequence[Any]], list[bytes]]


_TEXT = _Type("text", 25, _texts)
_BIGINT = _Type("bigint", 20, _numbers)
_INSTANT = _Type("timestamptz", 1184, _instants)
_TYPES = {
    **dict.fromkeys(("id", "run_id", "parent_id", "revision", "priority", "fire_count", "attempt", "fence"), _BIGINT),
    **dict.fromkeys(("reruns_left", "seq", "pid", "workers", "paused", "threaded", "count"), _BIGINT),
    **dict.fromkeys(("fire_time", "fire_until", "lease_until", "last_fire_time", "next_fire_time"), _INSTANT),
    **dict.fromkeys(("problem_since", "hour", "at"), _INSTANT),
    **dict.fromkeys(("duration", "lateness"), _Type("interval", 1186, _spans)),
    **dict.fromkeys(("params", "timing", "attempts", "result", "processes"), _Type("json", 114, _texts)),
    **dict.fromkeys(("progress", "error"), _Type("json", 114, _looked_into)),
}


class Shape(NamedTuple):
    """The columns of a batch, and those of them in which its rows *differ*: what the text of a statement depends on."""

    columns: tuple[str, ...]
    differ: tuple[str, ...]
    id_is_text: bool = False

    @property
    def rows(self) -> str:
        """Return the FROM item ``r`` with the columns in which the rows differ."""
        if not self.differ:
            return "(VALUES (0)) AS r"
        arrays = ", ".join(f"%({name})s::{self.type(name).name}[]" for name in self.differ)
        return f"unnest({arrays}) AS r({_listed(self.differ)})"

    def value(self, name: str) -> str:
        """Return the expression for a column's value."""
        return f"r.{quoted(name)}" if name in self.differ else f"%({name})s::{self.type(name).name}"

    def any(self, name: str) -> str:
        """Return what is equal to a column's value in any row, for a condition that an index answers."""
        type = self.type(name).name
        return f"ANY(%({name})s::{type}[])" if name in self.differ else f"%({name})s::{type}"

    def settings(self, columns: Sequence[str]) -> str:
        """Return the assignments of an UPDATE."""
        return ", ".join(f"{quoted(name)} = {self.value(name)}" for name in columns)

    def type(self, name: str) -> _Type:
        """Return the type of a column."""
        if name == "id":
            return _TEXT if self.id_is_text else _BIGINT
        return _TYPES.get(name) or (_INSTANT if name.endswith("_at") else _TEXT)


class Batch:
    """Rows, packed; at least one. *values* are those of a statement that was made for its *shape*."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], *, id_is_text: bool = False) -> None:
        differ = tuple(name for name, column in columns.items() if not is_same(column))
        self.shape = shape = Shape(tuple(columns), differ, id_is_text)
        self.values: dict[str, Packed | None] = {}
        for name, column in columns.items():
            type = shape.type(name)
            if name in differ:
                header = _array(1, 1, type.oid, len(column), 1)  # one dimension, counted from 1, perhaps with NULLs
                self.values[name] = Packed(header + b"".join(type.pack(column)))
            else:
                (value,) = type.pack(column[:1])
                self.values[name] = None if value is _NULL else Packed(value[len(_NULL) :])


COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TAIL = b"\xff\xff"


def copied(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Return rows as COPY reads them, between `COPY_HEAD` and `COPY_TAIL`."""
    shape = Shape(tuple(columns), ())
    parts: list[Iterable[bytes]] = []
    shared = _count(len(columns))
    for name, column in columns.items():
        if is_same(column):
            shared += shape.type(name).pack(column[:1])[0]
        else:
            parts += [repeat(shared), shape.type(name).pack(column)]
            shared = b""
    size = len(next(iter(columns.values())))
    return b"".join(chain.from_iterable(zip(*parts, repeat(shared, size), strict=False)))


# -- statements -------------------------------------------------------------------------------------------------------


def quoted(name: str) -> str:
    """Return a column's name as SQL."""
    return f'"{name}"'


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(quoted, columns))


@functools.lru_cache(maxsize=256)
def insert(schema: str, table: str, shape: Shape) -> str:
    """Return the INSERT of a batch."""
    values = ", ".join(map(shape.value, shape.columns))
    return f"INSERT INTO {schema}.{table} ({_listed(shape.columns)}) SELECT {values} FROM {shape.rows}"


def bites(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield *values* in parts that a statement can take at once."""
    for start in range(0, len(values), _BITE):
        yield values[start : start + _BITE]


REQUEST = _listed(_columns.REQUEST_COLUMNS)
RUN = _listed(_columns.RUN_COLUMNS)
ACTIVE = _columns.ACTIVE_STATUS
