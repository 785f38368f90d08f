"""How a filter becomes conditions, and a page a handful of index look-ups: the same for both SQL stores.

A *lane* is an equality on the front of an index that ends in the id, so the newest runs of a lane cost their share of
the page, however many runs there are. The newest of all lanes together are the page.

What the lanes do not say (the *rest*: a process beside a user, a text) can only be found by looking. One question looks
at no more than `LOOK` runs and `LOOK_LINES` log lines, and then says where the next one goes on: it is as quick among
ten million runs as among ten thousand, and holds no long snapshot, which would keep SQLite's write-ahead log from being
folded in and PostgreSQL from removing what is old.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from bgsched.run import ACTIVE, FINAL, RunStatus
from bgsched.stores.base import RequestFilter, RunFilter

__all__ = [
    "LOOK",
    "LOOK_LINES",
    "Lane",
    "Mentions",
    "Sifted",
    "lanes",
    "look",
    "mentions",
    "request_conditions",
    "rest",
    "sift",
]

LOOK = 1_000
LOOK_LINES = 10_000  # more than an attempt's log has
_FIRST_BITE = 200  # of what is looked at; most texts that are asked for are found there

_ACTIVE = "status IN ('waiting', 'running')"
_RUNNING = f"{_ACTIVE} AND status = 'running' AND owner IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Lane:
    """A condition, its values, and how to write ``id`` beside it.

    ``+id`` keeps the planner from walking the ids where an index over few rows serves better.
    """

    where: str
    values: tuple[Any, ...] = ()
    id: str = "id"


def lanes(filter: RunFilter) -> list[Lane]:
    """Return the lanes of a filter."""
    if filter.parent is not None:
        return [Lane("parent_id = ?", (filter.parent,))]
    if filter.request is not None:
        return _of_request(filter.request, filter.status)
    if filter.user is not None:
        return _by_status('"user" = ? AND ', (filter.user,), filter.status)
    if filter.process is not None:
        return _by_status("process = ? AND ", (filter.process,), filter.status)
    return _by_status("", (), filter.status) if filter.status else [Lane("1 = 1")]


def _of_request(request: str, statuses: Collection[RunStatus]) -> list[Lane]:
    """Return the lanes of a request: its failures, few of many, have an index; its successes are looked for."""
    if not statuses or RunStatus.SUCCESS in statuses:
        return [Lane("request_id = ?", (request,))]
    failed = "request_id = ? AND status = ? AND finished_at IS NOT NULL AND status <> 'success'"
    found = [Lane(failed, (request, status.value)) for status in sorted(FINAL & frozenset(statuses))]
    return found + _active("request_id = ? AND ", (request,), statuses)


def _by_status(front: str, values: tuple[Any, ...], statuses: Collection[RunStatus]) -> list[Lane]:
    """Return a lane for each status that a run may end in, and one for those that go on."""
    ended = [status for status in sorted(FINAL) if not statuses or status in statuses]
    found = [Lane(f"{front}status = ? AND finished_at IS NOT NULL", (*values, status.value)) for status in ended]
    return found + _active(front, values, statuses)


def _active(front: str, values: tuple[Any, ...], statuses: Collection[RunStatus]) -> list[Lane]:
    wanted = ACTIVE & frozenset(statuses or ACTIVE)
    if not wanted:
        return []
    condition = _RUNNING if wanted == {RunStatus.RUNNING} else _ACTIVE
    if wanted == {RunStatus.WAITING}:
        condition += " AND status = 'waiting'"
    return [Lane(f"{front}{condition}", values, "+id")]


def rest(filter: RunFilter) -> tuple[list[str], list[Any]]:
    """Return the conditions, with their values, that the lanes leave open; the text is not among them."""
    columns = (
        ("parent_id", filter.parent),
        ("request_id", filter.request),
        ('"user"', filter.user),  # without quotes, PostgreSQL takes it for the role that asks
        ("process", filter.process),
    )
    given = [(column, value) for column, value in columns if value is not None]
    found = [f"{column} = ?" for column, _ in given[1:]]
    values = [value for _, value in given[1:]]
    looked_for = filter.parent is not None or (filter.request is not None and RunStatus.SUCCESS in filter.status)
    if filter.status and looked_for:
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


def mentions(ids: Sequence[int], found: Collection[int], lines: int, last: int | None) -> Mentions:
    """Return which of *ids*, newest first, mention a text: those of them that were *found*.

    *lines*: how many log lines were looked at, from the newest run on; *last*: the run at which that ended.
    """
    if last is None or lines < LOOK_LINES:
        return Mentions(frozenset(found))
    return Mentions(frozenset(found), min((id for id in ids if id > last), default=last))  # the last log may be longer


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

    *fulfilling* tells which of them fulfil the rest, *mentioning* which of those mention the text; both are asked for
    the first few, then for the others if the page is not full.
    """
    found: list[int] = []
    asked = bool(rest(filter)[0])
    for bite in (candidates[:_FIRST_BITE], candidates[_FIRST_BITE:]):
        fitting = frozenset(fulfilling(bite) if asked else bite)
        wanted = [id for id in bite if id in fitting]
        stopped = None
        if filter.text is not None and wanted:
            mentioned = mentioning(wanted)
            stopped = mentioned.until
            wanted = [id for id in wanted if id in mentioned.ids and id >= (stopped or 0)]
        found += wanted
        if len(found) >= filter.limit:
            return Sifted(found[: filter.limit], found[filter.limit - 1])
        if stopped is not None:
            return Sifted(found, stopped)
    return Sifted(found, candidates[-1] if len(candidates) >= look(filter) else None)


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
