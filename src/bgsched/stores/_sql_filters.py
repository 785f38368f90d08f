"""How a filter becomes conditions, and a page a handful of index look-ups: the same for both SQL stores.

A *lane* is an equality on the front of an index that ends in the id, so the newest runs of a lane cost their share of
the page, however many runs there are. The newest of all lanes together are the page.

What the lanes do not say (the *rest*: a user beside a request, a text) can only be found by looking. One question looks
at no more than `LOOK` runs and `LOOK_LINES` log lines, and then says where the next one goes on: it is as quick among
ten million runs as among ten thousand, and holds no long snapshot, which would keep SQLite's write-ahead log from being
folded in and PostgreSQL from removing what is old.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from bgsched.run import ACTIVE, FINAL, RunStatus
from bgsched.stores._columns import FIGURES, active_by, ended_by
from bgsched.stores.base import RequestFilter, RunFilter

__all__ = [
    "LOOK",
    "LOOK_LINES",
    "Lane",
    "Mentions",
    "Sifted",
    "figures",
    "lanes",
    "look",
    "mentions",
    "request_conditions",
    "rest",
    "sift",
]

LOOK = 100
LOOK_LINES = 10_000  # more than an attempt's log has; a run of several may have more


@dataclass(frozen=True, slots=True)
class Lane:
    """A condition and its values; with *statuses*, one lane for each of them."""

    where: str
    values: tuple[Any, ...] = ()
    statuses: tuple[str, ...] = ()


def lanes(filter: RunFilter) -> list[Lane]:
    """Return the lanes of a filter: by what it names, for the statuses of what has ended and of what goes on."""
    if filter.parent is not None:
        return [Lane("parent_id = ?", (filter.parent,))]
    named = _named(filter)
    if not named and not filter.status:
        return [Lane("1 = 1")]
    columns = tuple(column for column, _ in named)
    front, values = "".join(f"{column} = ? AND " for column in columns), tuple(value for _, value in named)
    statuses = filter.status or frozenset(RunStatus)
    ended = tuple(sorted(status.value for status in FINAL & statuses))
    active = tuple(sorted(status.value for status in ACTIVE & statuses))
    found = [Lane(f"{front}{ended_by(*columns)}", values, ended)] if ended else []
    return [*found, Lane(f"{front}{active_by(*columns)}", values, active)] if active else found


def _named(filter: RunFilter) -> list[tuple[str, str]]:
    """Return the columns, with their values, by which an index tells the runs of a filter."""
    if filter.request is not None:
        return [("request_id", filter.request)]
    # without quotes, PostgreSQL takes "user" for the role that asks
    given = (('"user"', filter.user), ("process", filter.process))
    return [(column, value) for column, value in given if value is not None]


def rest(filter: RunFilter) -> tuple[list[str], list[Any]]:
    """Return the conditions, with their values, that the lanes leave open; the text is not among them."""
    others = (("request_id", filter.request), ('"user"', filter.user), ("process", filter.process))
    given: list[tuple[str, Any]] = [(column, value) for column, value in others if value is not None]
    if filter.parent is None:
        told = _named(filter)
        given = [item for item in given if item not in told]
    found, values = [f"{column} = ?" for column, _ in given], [value for _, value in given]
    if filter.status and filter.parent is not None:
        found.append(f"status IN ({', '.join('?' * len(filter.status))})")
        values += sorted(status.value for status in filter.status)
    return found, values


def look(filter: RunFilter) -> int:
    """Return how many of the lanes' runs a question needs: where the lanes say everything, those of the page."""
    return filter.limit if filter.text is None and not rest(filter)[0] else max(LOOK, filter.limit)


@dataclass(frozen=True, slots=True)
class Mentions:
    """In which runs a text was found; *until*: the last run that was looked at, where the lines were too many."""

    ids: frozenset[int]
    until: int | None = None


def mentions(
    ids: Sequence[int], found: Collection[int], lines: int, last: int | None, whole: Callable[[int], bool]
) -> Mentions:
    """Return which of *ids*, newest first, mention a text: those of them that were *found*.

    *lines*: how many log lines were looked at, from the newest run on; *last*: the run at which that ended. Its log may
    be longer, and is left to the next question; but where no run comes before it, *whole* looks into all of it.
    """
    if last is None or lines < LOOK_LINES:
        return Mentions(frozenset(found))
    before = [id for id in ids if id > last]
    if before:
        return Mentions(frozenset(found), min(before))
    return Mentions(frozenset([*found, last] if whole(last) else found), last)


@dataclass(frozen=True, slots=True)
class Sifted:
    """The ids of a page, newest first, and below which id the next page begins (``None``: there is none)."""

    ids: list[int]
    before: int | None


def sift(
    filter: RunFilter,
    candidates: Sequence[int],
    fulfilling: Callable[[Sequence[int]], Collection[int]],
    mentioning: Callable[[Sequence[int]], Mentions],
) -> Sifted:
    """Return the page among the newest runs of the lanes, *candidates*, newest first.

    *fulfilling* tells which of them fulfil the rest, *mentioning* which of those mention the text.
    """
    found = list(candidates)
    if rest(filter)[0]:
        kept = frozenset(fulfilling(found))
        found = [id for id in found if id in kept]
    stopped = None
    if filter.text is not None and found:
        mentioned = mentioning(found)
        stopped = mentioned.until
        found = [id for id in found if id in mentioned.ids and id >= (stopped or 0)]
    if len(found) >= filter.limit:
        return Sifted(found[: filter.limit], found[filter.limit - 1])
    if stopped is None and len(candidates) >= look(filter):
        stopped = candidates[-1]
    return Sifted(found, stopped)


def request_conditions(filter: RequestFilter) -> tuple[str, list[Any]]:
    """Return what each request must fulfil, with the values."""
    found: list[str] = ["1 = 1"]
    values: list[Any] = []
    for condition, value in (
        ("process = ?", filter.process),
        ('"user" = ?', filter.user),
        ("id > ?", filter.after),
    ):
        if value is not None:
            found.append(condition)
            values.append(value)
    if filter.status:
        found.append(f"status IN ({', '.join('?' * len(filter.status))})")
        values += sorted(status.value for status in filter.status)
    return " AND ".join(found), values


def figures(process: str | None) -> tuple[str, list[Any]]:
    """Return the condition, with its values, of the runs that a summary is of: those of a process, or all."""
    if process is None:
        return FIGURES, []
    return f"process = ? AND {ended_by('process', 'recorded_at')}", [process]
