"""How values go into SQL tables: a whole batch at once, by column, for most columns are the same in all its rows.

Instants become integers, microseconds since 1970 UTC; spans microseconds; what is JSON becomes text. A column is told
by its name, whatever table it is in.
"""

import json
from collections.abc import Callable, Sequence
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
    columns = zip(*map(_getter(names), values), strict=True)
    return {name: _WRITTEN[name](col) if name in _WRITTEN else col for name, col in zip(names, columns, strict=True)}


def by_column(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Column]:
    """Return rows by column."""
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def is_same(column: Column) -> bool:
    """Return whether all rows have the same value there."""
    return column.count(column[0]) == len(column)


@lru_cache(maxsize=64)
def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*names)


# -- columns ----------------------------------------------------------------------------------------------------------


def _of_instants(column: Column) -> Column:
    return [micros(column[0])] * len(column) if is_same(column) else list(map(micros, column))


def _of_spans(column: Column) -> Column:
    return [None if span is None else span // MICROSECOND for span in column]


def _of_statuses(column: Column) -> Column:
    return [column[0].value] * len(column) if is_same(column) else [status.value for status in column]


def _each(written: Callable[[Any], Any]) -> Callable[[Column], Column]:
    """Return how to write a column of which equal values may be written differently, as ``1`` and ``True`` in JSON."""
    return lambda column: list(map(written, column))


# -- values -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _timing(timing: Timing | UnreadableTiming) -> str:
    return timing.text if isinstance(timing, UnreadableTiming) else json.dumps(timing.to_dict(), separators=(",", ":"))


def _listed(values: tuple[Any, ...]) -> str | None:
    return dump([value.to_dict() for value in values]) if values else None


def _as_dict(value: Any) -> str | None:
    return None if value is None else dump(value.to_dict())


def _names(names: tuple[str, ...]) -> str | None:
    return dump(names) if names else None


_WRITTEN: dict[str, Callable[[Column], Column]] = {
    **dict.fromkeys(("fire_time", "fire_until", "next_fire_time", "last_fire_time", "lease_until"), _of_instants),
    **dict.fromkeys(("due_at", "recorded_at", "claimed_at", "started_at", "finished_at"), _of_instants),
    **dict.fromkeys(("kill_asked_at", "created_at", "unscheduled_at", "heartbeat_at", "at"), _of_instants),
    **dict.fromkeys(("problem_since",), _of_instants),
    **dict.fromkeys(("duration", "lateness"), _of_spans),
    **dict.fromkeys(("params", "result"), _each(dump)),
    **dict.fromkeys(("progress", "error"), _each(_as_dict)),
    **dict.fromkeys(("reason", "problem", "level", "logger", "text"), _each(plain)),
    "status": _of_statuses,
    "timing": _each(_timing),
    "attempts": _each(_listed),
    "sensitive": _each(_names),
    "processes": _each(dump),
    "paused": _each(int),
}
