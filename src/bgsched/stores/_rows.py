"""How rows of the SQL stores become values; `_by_column` is the way there.

A row that does not parse never raises: a request with a timing that cannot be read becomes one that never fires and
says why.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from bgsched._evolve import maker
from bgsched.request import Request, RequestStatus, UnreadableTiming
from bgsched.run import FINAL, Attempt, LogLine, Progress, Run, RunError, RunStatus
from bgsched.stores._columns import REQUEST_COLUMNS, RUN_COLUMNS
from bgsched.stores._values import EPOCH, instant, is_whole, lenient, lenient_instant, lenient_text, load, span
from bgsched.stores.base import Aged, SchedulerRecord
from bgsched.timing import Timing, timing_from_dict

__all__ = [
    "aged_from_rows",
    "error_text",
    "line_from_row",
    "request_from_row",
    "run_from_row",
    "scheduler_from_row",
]


def _params(text: str) -> dict[str, Any]:
    if text == "{}":
        return {}
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"params are no JSON object: {text}")
    return value


@lru_cache(maxsize=4096)
def _timing(text: str) -> Timing | UnreadableTiming:
    try:
        return timing_from_dict(json.loads(text))
    except Exception as error:  # noqa: BLE001  whatever is wrong with a row must not stop the others
        return UnreadableTiming(text, str(error))


_new_request: Callable[..., Request] = maker(Request, *REQUEST_COLUMNS)
_REQUEST_STATUS = {status.value: status for status in RequestStatus}


def request_from_row(row: Sequence[Any]) -> Request:
    """Return the request of a row in the order of `REQUEST_COLUMNS`; one that somebody damaged never fires."""
    try:
        return _request_from_row(row)
    except Exception as error:  # noqa: BLE001  whatever is wrong with a row must not stop the others
        return Request(
            id=row[0],
            process=str(row[1]),
            timing=UnreadableTiming(str(row[3]), f"its row is damaged: {type(error).__name__}: {error}"),
            status=lenient(RequestStatus, row[4], RequestStatus.UNSCHEDULED),
            created_at=EPOCH,
            revision=row[9] if is_whole(row[9]) else 1,
            reason=lenient_text(row[14]),
        )


def _request_from_row(row: Sequence[Any]) -> Request:
    timing, created_at = _timing(row[3]), instant(row[8])
    assert created_at is not None  # noqa: S101  the column is NOT NULL
    try:
        params = _params(row[2])
    except (ValueError, TypeError) as error:
        params, timing = {}, UnreadableTiming(row[3], f"its params are no JSON: {error}")
    return _new_request(
        row[0],
        row[1],
        params,
        timing,
        _REQUEST_STATUS[row[4]],
        row[5],
        row[6],
        row[7],
        created_at,
        row[9],
        (fire_time := instant(row[10])),
        fire_time if row[11] == row[10] else instant(row[11]),
        instant(row[12]),
        row[13],
        lenient_text(row[14]),
        instant(row[15]),
        () if row[16] is None else lenient(_names, row[16], ()),
    )


def run_from_row(row: Sequence[Any]) -> Run:
    """Return the run of a row in the order of `RUN_COLUMNS`; of one that somebody damaged, what can be told."""
    try:
        return _run_from_row(row)
    except Exception as error:  # noqa: BLE001  whatever is wrong with a row must not stop the others
        return Run(
            id=row[0],
            request_id=str(row[1]),
            process=str(row[4]),
            params={"unreadable": str(row[5])},
            fire_time=EPOCH,
            recorded_at=EPOCH,
            status=lenient(RunStatus, row[20], RunStatus.ABANDONED),
            reason=f"its row is damaged: {type(error).__name__}: {error}",
            attempt=row[22] if is_whole(row[22]) else 0,
            owner=row[25],
        )


def _run_from_row(row: Sequence[Any]) -> Run:
    fire_time, recorded_at = instant(row[8]), instant(row[11])
    assert fire_time is not None  # noqa: S101  the columns are NOT NULL
    assert recorded_at is not None  # noqa: S101
    if not isinstance(row[1], str):
        raise TypeError(f"a request's id is text, not {row[1]!r}")
    for place in _COUNTED:
        if not is_whole(row[place]):
            raise ValueError(f"{RUN_COLUMNS[place]} is {row[place]!r}")
    return _new_run(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        lenient(_params, row[5], {"unreadable": str(row[5])}),  # which no process takes
        row[6],
        row[7],
        fire_time,
        instant(row[9]),
        row[10],
        recorded_at,
        row[12],
        lenient(_names, row[13], ()),
        instant(row[14]),
        instant(row[15]),
        instant(row[16]),
        instant(row[17]),
        span(row[18]),
        RunStatus(row[20]),
        lenient_text(row[21]),
        row[22],
        lenient(_attempts, row[23], ()),
        row[24],
        row[25],
        lenient(_progress, row[26], None),
        lenient(load, row[27], None),
        lenient(_error, row[28], None),
        instant(row[29]),
    )


_new_run: Callable[..., Run] = maker(Run, *(name for name in RUN_COLUMNS if name != "lateness"))
_COUNTED = tuple(RUN_COLUMNS.index(name) for name in ("revision", "fire_count", "attempt", "reruns_left"))


def _names(text: str) -> tuple[str, ...]:
    return tuple(str(name) for name in json.loads(text))


def _progress(text: str) -> Progress:
    return Progress(**json.loads(text))


def error_text(text: str | None) -> str:
    """Return the words of a stored error, to look for a text in."""
    error: RunError | None = lenient(_error, text, None)
    return "" if error is None else f"{error.type} {error.message} {error.traceback}"


def _error(text: str) -> RunError:
    return RunError(**json.loads(text))


def _attempts(text: str) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            number=item["number"],
            status=RunStatus(item["status"]),
            owner=item["owner"],
            started_at=datetime.fromisoformat(item["started_at"]) if item["started_at"] else None,
            finished_at=datetime.fromisoformat(item["finished_at"]) if item["finished_at"] else None,
            error=RunError(**item["error"]) if item["error"] else None,
        )
        for item in json.loads(text)
    )


def line_from_row(row: Sequence[Any]) -> LogLine:
    """Return the line of a row in the order of `LOG_COLUMNS`."""
    at = instant(row[2])
    assert at is not None  # noqa: S101  the column is NOT NULL
    return LogLine(row[0], row[1], at, row[3], row[4], row[5], row[6])


def aged_from_rows(rows: Sequence[Sequence[Any]]) -> list[Aged]:
    """Return the runs of rows ``(id, request_id, process, status, finished_at, is_newest)``; not damaged ones."""
    found = []
    for id, request_id, process, status, finished_at, is_newest in rows:
        at = lenient_instant(finished_at)
        if at is not None and status in FINAL:
            found.append(Aged(id, request_id, process, RunStatus(status), at, bool(is_newest)))
    return found


def scheduler_from_row(row: Sequence[Any]) -> SchedulerRecord:
    """Return the record of a row in the order of `SCHEDULER_COLUMNS`; one that is damaged is long gone."""
    try:
        return _scheduler_from_row(row)
    except Exception as error:  # noqa: BLE001  whatever is wrong with a row must not stop the others
        return SchedulerRecord(
            owner=str(row[0]),
            host=str(row[1]),
            pid=0,
            started_at=EPOCH,
            heartbeat_at=EPOCH,
            lease_until=EPOCH,
            problem=f"its row is damaged: {type(error).__name__}: {error}",
        )


def _scheduler_from_row(row: Sequence[Any]) -> SchedulerRecord:
    started_at, heartbeat_at, lease_until = (instant(value) for value in row[3:6])
    assert started_at is not None  # noqa: S101  the columns are NOT NULL
    assert heartbeat_at is not None  # noqa: S101
    assert lease_until is not None  # noqa: S101
    return SchedulerRecord(
        owner=row[0],
        host=row[1],
        pid=row[2],
        started_at=started_at,
        heartbeat_at=heartbeat_at,
        lease_until=lease_until,
        workers=row[6],
        paused=bool(row[7]),
        problem=row[8],
        problem_since=instant(row[9]),
        processes=tuple(load(row[10])),
        threaded=bool(row[11]),
    )
