"""Check-ins for Sentry's cron monitoring: each request with a schedule becomes a monitor there, with its schedule.

    sentry_sdk.init(...)
    check_in(scheduler)

Told on the thread of the scheduler's events, so a run never waits for Sentry. What Sentry must know to notice that a
run did *not* come, the schedule, goes along with each check-in; a schedule that Sentry cannot express goes without.
"""

import re
from collections.abc import Callable
from typing import Any

from bgsched._events import RunFinished, RunStarted
from bgsched.errors import BgschedError, MissingExtraError
from bgsched.request import Request
from bgsched.run import Run, RunStatus
from bgsched.scheduler import Scheduler
from bgsched.timing import Cron, Daily, EveryMinutes, EverySeconds, Hourly, Monthly, Schedule, Weekly

try:
    from sentry_sdk.crons import MonitorStatus, capture_checkin
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("sentry_sdk"):
        raise
    raise MissingExtraError("bgsched.integrations.sentry", "sentry") from error

__all__ = ["check_in", "monitor_config", "slug"]

_LONGEST_SLUG = 50
_MOST_OPEN = 10_000


def check_in(scheduler: Scheduler, *, name: Callable[[Request], str | None] | None = None) -> Callable[[], None]:
    """Send a check-in when a scheduled run starts and when it ends; return what undoes it.

    *name*: the monitor's slug for a request, ``None`` for none; by default `slug`.
    """
    reporter = _Reporter(scheduler, name or slug)
    undo = [scheduler.on(RunStarted, reporter.started), scheduler.on(RunFinished, reporter.finished)]

    def forget() -> None:
        for each in undo:
            each()

    return forget


def slug(request: Request) -> str:
    """Return the process's name, with the request's id where it is another, as Sentry spells slugs."""
    text = request.process if request.id == request.process else f"{request.process}-{request.id}"
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:_LONGEST_SLUG]


class _Reporter:
    """Keeps the ids of the check-ins that are open. Called on one thread."""

    def __init__(self, scheduler: Scheduler, name: Callable[[Request], str | None]) -> None:
        self._scheduler = scheduler
        self._name = name
        self._open: dict[int, tuple[str, str]] = {}

    def started(self, event: RunStarted) -> None:
        run = event.run
        if run.id in self._open or run.parent_id is not None:
            return
        try:
            request = self._scheduler.monitor.request(run.request_id)
        except BgschedError:
            return
        name = self._name(request) if isinstance(request.timing, Schedule) else None
        if name is not None and len(self._open) < _MOST_OPEN:
            config = monitor_config(request)
            id = capture_checkin(monitor_slug=name, status=MonitorStatus.IN_PROGRESS, monitor_config=config)
            if id is not None:
                self._open[run.id] = name, id

    def finished(self, event: RunFinished) -> None:
        opened = self._open.pop(event.run.id, None)
        if opened is not None:
            name, id = opened
            capture_checkin(monitor_slug=name, check_in_id=id, status=_status(event.run), duration=_seconds(event.run))


def _status(run: Run) -> str:
    return MonitorStatus.OK if run.status is RunStatus.SUCCESS else MonitorStatus.ERROR


def _seconds(run: Run) -> float | None:
    return None if run.duration is None else run.duration.total_seconds()


def monitor_config(request: Request) -> Any:
    """Return the schedule as Sentry's ``monitor_config``; ``None`` where Sentry cannot express it."""
    timing = request.timing
    if not isinstance(timing, Schedule) or isinstance(timing.frequency, tuple) or timing.exclude:
        return None
    schedule = _schedule(timing.frequency)
    return None if schedule is None else {"schedule": schedule, "timezone": timing.timezone or "UTC"}


def _schedule(frequency: object) -> dict[str, Any] | None:
    found = None
    match frequency:
        case Cron(dialect="unix", seconds=None) if not re.search(r"[LW#@]", frequency.expression):
            found = _crontab(frequency.expression)
        case EverySeconds(n=n) if n % 60 == 0:
            found = _every(n // 60, "minute")
        case EveryMinutes(n=n):
            found = _every(n, "minute")
        case Hourly(every=n):
            found = _every(n, "hour")
        case Daily(every=1, on=None, at=at) if at is not None:
            found = _crontab(f"{at.minute} {at.hour} * * *")
        case Daily(every=n, on=None):
            found = _every(n, "day")
        case Weekly(every=n) if len(frequency.on) == 1:
            found = _every(n, "week")
        case Monthly(every=n):
            found = _every(n, "month")
    return found


def _crontab(expression: str) -> dict[str, Any]:
    return {"type": "crontab", "value": expression}


def _every(n: int, unit: str) -> dict[str, Any]:
    return {"type": "interval", "value": n, "unit": unit}
