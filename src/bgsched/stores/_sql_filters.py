"""How a filter becomes conditions, and a page a handful of index look-ups: the same for both SQL stores."""

from typing import Any

from bgsched.run import ACTIVE, FINAL
from bgsched.stores.base import RequestFilter, RunFilter

__all__ = ["conditions", "lanes", "request_conditions"]


def lanes(filter: RunFilter) -> list[tuple[str, list[Any], str]]:
    """Return the conditions, with their values, under which one index each finds the filter's runs newest first.

    The newest of all lanes together are the page. Each lane is an equality on the front of an index that ends in the
    id, so that no lane costs more than its share of the page, however many runs there are. Third comes how to write
    ``id`` in the lane: ``+id`` keeps the planner from walking the ids where an index over few rows serves better.
    """
    active = [status.value for status in ACTIVE if not filter.status or status in filter.status]
    final = [status.value for status in FINAL if not filter.status or status in filter.status]
    if filter.request is not None or filter.parent is not None or filter.user is not None:
        column, value = next(
            (column, value)
            for column, value in (("request_id", filter.request), ("parent_id", filter.parent), ('"user"', filter.user))
            if value is not None
        )
        return [(f"{column} = ?", [value], "id")]
    if filter.process is None and not filter.status:
        return [("1 = 1", [], "id")]
    process = "" if filter.process is None else "process = ? AND "
    values = [] if filter.process is None else [filter.process]
    found = [(f"{process}status = ? AND finished_at IS NOT NULL", [*values, status], "id") for status in sorted(final)]
    if active:
        found.append((f"{process}status IN ('waiting', 'running')", values, "+id"))
    return found


def conditions(filter: RunFilter, *, log: str = "bgsched_log", find: str = "instr") -> tuple[list[str], list[Any]]:
    """Return what each run of any lane must fulfil, with the values.

    The runs are called ``run``; *log* names the table of the lines, *find* the function that finds one text in another.
    """
    found: list[str] = []
    values: list[Any] = []
    for column, value in (
        ("process", filter.process),
        ("request_id", filter.request),
        ("parent_id", filter.parent),
        ('"user"', filter.user),  # without quotes, PostgreSQL takes it for the role that asks
    ):
        if value is not None:
            found.append(f"{column} = ?")
            values.append(value)
    if filter.status:
        found.append(f"status IN ({', '.join('?' * len(filter.status))})")
        values += sorted(status.value for status in filter.status)
    if filter.text is not None:
        said = "lower(coalesce(reason, '') || ' ' || coalesce(CAST(error AS text), ''))"
        lines = f"SELECT 1 FROM {log} WHERE run_id = run.id AND {find}(lower(text), lower(?)) > 0"  # noqa: S608  our own
        found.append(f"({find}({said}, lower(?)) > 0 OR EXISTS ({lines}))")
        values += [filter.text, filter.text]
    return found, values


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
