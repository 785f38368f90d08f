"""How values go into SQL tables: a whole batch at once, by column, for most columns are the same in all its rows.

Instants become integers, microseconds since 1970 UTC; spans microseconds; what is JSON becomes text. A column is told
by its name, whatever table it is in.
"""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

from bgsched.request import UnreadableTiming
from bgsched.stores._values import MICROSECOND, dump, micros, plain
from bgsched.timing import Timing

__all__ = ["by_column", "columns_of", "is_same"]

Column = Sequence[Any]


def columns_of(values: Sequence[Any], names: tuple[str, ...]) -> dict[str, Column]:
    """Return the columns of these *names*, two or more, of requests, runs, lines or schedulers: at least one."""
    count = len(values)
    columns: dict[str, Column] = dict(zip(names, zip(*map(_getter(names), values), strict=True), strict=True))
    for name in _written_among(names):
        column, write = columns[name], _WRITTEN[name]
        is_once = count > 1 and name in _ONCE and is_same(column)
        columns[name] = (write(column[0]),) * count if is_once else tuple(map(write, column))
    return columns


def by_column(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Column]:
    """Return rows by column."""
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def is_same(column: Column) -> bool:
    """Return whether all rows have the same value there."""
    return column.count(column[0]) == len(column)


@lru_cache(maxsize=64)
def _written_among(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in _WRITTEN)


@lru_cache(maxsize=64)
def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*names)


# -- values -----------------------------------------------------------------------------------------------------------


def _span(span: timedelta | None) -> int | None:
    return None if span is None else span // MICROSECOND


@lru_cache(maxsize=4096)
def _timing(timing: Timing | UnreadableTiming) -> str:
    return timing.text if isinstance(timing, UnreadableTiming) else json.dumps(timing.to_dict(), separators=(",", ":"))


def _listed(values: tuple[Any, ...]) -> str | None:
    return dump([value.to_dict() for value in values]) if values else None


def _as_dict(value: Any) -> str | None:
    return None if value is None else dump(value.to_dict())


def _names(names: tuple[str, ...]) -> str | None:
    return dump(names) if names else None


_INSTANTS: tuple[str, ...] = (
    "fire_time",
    "fire_until",
    "next_fire_time",
    "last_fire_time",
    "lease_until",
    "problem_since",
    "at",
)
_INSTANTS += ("due_at", "recorded_at", "claimed_at", "started_at", "finished_at", "kill_asked_at")
_INSTANTS += ("created_at", "unscheduled_at", "heartbeat_at")

_ONCE = frozenset({*_INSTANTS, "status"})
"""Where what is equal is written alike, and so but once: unlike ``1`` and ``True`` in JSON."""

_WRITTEN: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_INSTANTS, micros),
    **dict.fromkeys(("duration", "lateness"), _span),
    **dict.fromkeys(("params", "result", "processes"), dump),
    **dict.fromkeys(("progress", "error"), _as_dict),
    **dict.fromkeys(("reason", "problem", "level", "logger", "text"), plain),
    "status": attrgetter("_value_"),  # what ``value`` returns, at a tenth of its cost
    "timing": _timing,
    "attempts": _listed,
    "sensitive": _names,
    "paused": int,
    "threaded": int,
}
