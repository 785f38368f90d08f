"""Check-ins for Sentry's cron monitoring: each request with a schedule becomes a monitor there, with its schedule.

    sentry_sdk.init(...)
    check_in(scheduler)

Told on the thread of the scheduler's events, so a run never waits for Sentry. What Sentry must know to notice that a
run did *not* come, the schedule, goes along with each check-in: as a crontab of five fields where one says exactly
when it fires, as an interval where it comes again after so many minutes, hours, days, weeks or months. What is neither
goes without.
"""

import re
from collections.abc import Callable, Iterable
from datetime import time
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

from bgsched._cron import CronFields, parse_cron
from bgsched._events import RunFinished, RunStarted
from bgsched.errors import BgschedError, MissingExtraError
from bgsched.integrations._mark import mark_of
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
_SHORTEST_MONTH = 28
_BARE_STEP = re.compile(r"(?:^|,)\w+/")  # 5/15: from 5 on to us and to Quartz, one value to some crons
_FIELDS = (("minute", 60), ("hour", 24), ("day of month", 31), ("month", 12), ("day of week", 7))
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
    """Return the process's name, with the request's id where it is another, as Sentry spells slugs.

    Where that is not the plain name of the process, a hash follows: no two schedules share a monitor. Sentry joins
    dashes, takes them off the ends, and refuses a slug of digits only.
    """
    text = request.process if request.id == request.process else f"{request.process}-{request.id}"
    plain = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")
    if plain == request.process == request.id and len(plain) <= _LONGEST_SLUG and not plain.isdigit():
        return plain
    identity = f"{request.process}\0{request.id}".encode("utf-8", "backslashreplace")
    mark = blake2b(identity, digest_size=4).hexdigest()
    head = plain[: _LONGEST_SLUG - len(mark) - 1].rstrip("-_")
    return f"{head or 'process'}-{mark}"


class _Reporter:
    """Sends the check-ins of one scheduler; it closes those that others opened, too. Called on one thread.

    Keeps which monitors the open ones are of: a request may be deleted, or get another timing, before its run ends.
    """

    def __init__(self, scheduler: Scheduler, name: Callable[[Request], str | None]) -> None:
        self._scheduler = scheduler
        self._name = name
        self._open: dict[int, str] = {}

    def started(self, event: RunStarted) -> None:
        run = event.run
        if run.id in self._open:
            return
        found = self._monitor_of(run)
        if found is not None:
            name, config = found
            self._keep(run, name)
            _send(run, name, MonitorStatus.IN_PROGRESS, monitor_config=config)

    def finished(self, event: RunFinished) -> None:
        run = event.run
        name, config = self._open.pop(run.id, None), None
        if name is None and (found := self._monitor_of(run)) is not None:
            name, config = found
        if name is not None:
            _send(run, name, _status(run), duration=_seconds(run), monitor_config=config)

    def _keep(self, run: Run, name: str) -> None:
        """Remember the monitor; of ten thousand, the one that was opened first is forgotten."""
        self._open[run.id] = name
        if len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]

    def _monitor_of(self, run: Run) -> tuple[str, Any] | None:
        """Return the name and the schedule of the monitor that hears of *run*, if one does."""
        if run.parent_id is not None:
            return None
        try:
            request = self._scheduler.monitor.request(run.request_id)
        except BgschedError:
            return None
        name = self._name(request) if isinstance(request.timing, Schedule) else None
        return None if name is None else (name, monitor_config(request))


def _send(run: Run, name: str, status: str, **more: Any) -> None:
    capture_checkin(monitor_slug=name, check_in_id=mark_of(run).hex, status=status, **more)


def _status(run: Run) -> str:
    return MonitorStatus.OK if run.status is RunStatus.SUCCESS else MonitorStatus.ERROR


def _seconds(run: Run) -> float | None:
    return None if run.duration is None else run.duration.total_seconds()


def monitor_config(request: Request) -> Any:
    """Return the schedule as Sentry's ``monitor_config``; ``None`` where Sentry cannot express it."""
    timing = request.timing
    if not isinstance(timing, Schedule) or isinstance(timing.frequency, tuple) or timing.exclude:
        return None
    schedule = _crontab(timing.frequency, timing) or _every(timing.frequency)
    return None if schedule is None else {"schedule": schedule, "timezone": timing.timezone or "UTC"}


def _crontab(frequency: object, timing: Schedule) -> dict[str, Any] | None:
    """Return the five fields that say exactly when *frequency* fires, if there are such."""
    value = None
    match frequency:
        case Cron():
            value = _cron(parse_cron(frequency.expression, frequency.dialect, frequency.seconds))
        case Hourly(every=1, minute=int(minute)):  # but for the hour in which a zone shifts by half of one
            value = f"{minute} * * * *"
        case Daily(every=1, on=days):
            value = _dated(frequency.at, timing, weekdays=tuple(day.weekday for day in days or ()))
        case Weekly(every=1, on=days):
            value = _dated(frequency.at, timing, weekdays=tuple(day.weekday for day in days))
        case Monthly(every=1, day=int(day)) if 0 < day <= _SHORTEST_MONTH or (
            day > 0 and frequency.short_month == "skip"
        ):
            value = _dated(frequency.at, timing, day=str(day))
    return None if value is None else {"type": "crontab", "value": value}


def _dated(at: time | None, timing: Schedule, *, day: str = "*", weekdays: tuple[int, ...] = ()) -> str | None:
    """Return the fields for a time of day, by default that of the start; ``None`` where it is not a whole minute."""
    if at is None and timing.start is not None:
        start = timing.start
        at = (start.astimezone(ZoneInfo(timing.timezone or "UTC")) if start.tzinfo else start).time()
    if at is None or at.second or at.microsecond:
        return None
    return f"{at.minute} {at.hour} {day} * {_numbers(map(_sunday_first, weekdays), 7)}"


def _cron(fields: CronFields) -> str | None:
    """Return the fields as written, where a crontab has them so, else in numbers."""
    if fields.special_day or fields.special_weekday or fields.years is not None or fields.seconds != (0,):
        return None
    numbers = (fields.minutes, fields.hours, fields.days, fields.months, map(_sunday_first, fields.weekdays))
    quartz = any(text.text == "?" for text in fields.texts.values())  # which every such expression has, and no other
    found = []
    for (name, whole), values in zip(_FIELDS, numbers, strict=True):
        text = fields.texts[name]
        if text.star and (not quartz or name in {"minute", "hour"}):  # it decides how moved clocks and days are read
            found.append(f"*{text.text.removeprefix('*')}")
        elif quartz or _BARE_STEP.search(text.text):
            found.append(_numbers(values, whole))
        else:
            found.append(text.text)
    return " ".join(found)


def _sunday_first(weekday: int) -> int:
    """Return the number that a crontab has for a day of the week whose Monday is 0."""
    return (weekday + 1) % 7


def _numbers(values: Iterable[int], whole: int) -> str:
    """Return one field of a crontab; none, or all of them, are a star."""
    found = sorted(set(values))
    return ",".join(map(str, found)) if 0 < len(found) < whole else "*"


def _every(frequency: object) -> dict[str, Any] | None:
    """Return after how long *frequency* fires again, if that is always so."""
    found = None
    match frequency:
        case EverySeconds(n=n) if n % 60 == 0:
            found = n // 60, "minute"
        case EveryMinutes(n=n):
            found = n, "minute"
        case Hourly(every=n):
            found = n, "hour"
        case Daily(every=n, on=None):
            found = n, "day"
        case Weekly(every=n) if len(frequency.on) == 1:
            found = n, "week"
        case Monthly(every=n, day=int(day)) if 0 < day <= _SHORTEST_MONTH:
            found = n, "month"
    return None if found is None else {"type": "interval", "value": found[0], "unit": found[1]}
