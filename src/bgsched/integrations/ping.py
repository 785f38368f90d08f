"""Pings in the style of Healthchecks: ``URL/start`` when a run begins, ``URL`` on success, ``URL/fail`` otherwise.

    ping(scheduler, {"nightly-report": "https://hc-ping.com/..."})

The body of the last ping is the end of the run's log. The thread of the scheduler's events waits for each: a run never
does, and a ping that fails is logged. Many pings that time out make events wait; `timeout` bounds each as a whole.

A socket's own timeout bounds each step of an exchange, not their number: a receiver that sends a byte now and then, or
a name server that is slow, gets past it. So each ping has a thread of its own, which is left to itself when its time is
over; while ten of them hang, no further ping is sent.
"""

import math
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from urllib.error import HTTPError
from urllib.parse import urlsplit

from bgsched._events import RunFinished, RunStarted
from bgsched._runlog import LOGGER
from bgsched.errors import BgschedError
from bgsched.integrations._mark import mark_of
from bgsched.monitor import Monitor
from bgsched.run import Run, RunStatus
from bgsched.scheduler import Scheduler

__all__ = ["ping"]

_LONGEST_BODY = 10_000
_LINES = 100
_PAGE = 1_000
_MOST_HANGING = 10


def ping(scheduler: Scheduler, urls: Mapping[str, str], *, timeout: float = 5.0) -> Callable[[], None]:
    """Ping for the runs of the processes (or requests) that *urls* names; return what undoes it.

    *urls*: the address by the id of a request or the name of a process; the request comes first. *timeout*: for how
    many seconds a ping is waited for, from the look-up of the name to the answer.

    Raises:
        ValueError: an address is no HTTP address, or *timeout* is no number of seconds above 0.
    """
    for name, url in urls.items():
        if not _is_address(url):
            raise ValueError(f"the address for {name!r} must begin with http:// or https:// and a host, got {url!r}")
    if not _is_span(timeout):
        raise ValueError(f"timeout must be a number of seconds above 0, got {timeout!r}")
    pings = _Pings(scheduler.monitor, dict(urls), timeout)
    undo = [scheduler.on(RunStarted, pings.started), scheduler.on(RunFinished, pings.finished)]

    def forget() -> None:
        for each in undo:
            each()

    return forget


def _is_address(url: object) -> bool:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        return parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number, or none that there is
        return False


def _is_span(seconds: object) -> bool:
    return isinstance(seconds, int | float) and 0 < seconds < math.inf


class _Pings:
    def __init__(self, monitor: Monitor, urls: dict[str, str], timeout: float) -> None:
        self._monitor = monitor
        self._urls = urls
        self._timeout = timeout
        self._hanging: list[threading.Thread] = []

    def started(self, event: RunStarted) -> None:
        self._send(event.run, "/start", "")

    def finished(self, event: RunFinished) -> None:
        succeeded = event.run.status is RunStatus.SUCCESS
        self._send(event.run, "" if succeeded else "/fail", None)

    def _send(self, run: Run, what: str, body: str | None) -> None:
        of_request = None if run.parent_id is not None else self._urls.get(run.request_id)  # which is its group's
        url = of_request or self._urls.get(run.process)
        if url is None:
            return
        parts = urlsplit(url)
        mark = f"rid={mark_of(run)}"  # which start belongs to which end
        query = f"{parts.query}&{mark}" if parts.query else mark
        address = parts._replace(path=parts.path.rstrip("/") + what, query=query).geturl()
        text = self._tail(run) if body is None else body
        asked = urllib.request.Request(address, data=text.encode(), method="POST")  # noqa: S310  checked by ping()
        problem = self._deliver(asked)
        if problem is not None:
            LOGGER.warning("the ping for run %s of %s failed: %s", run.id, run.process, problem)

    def _deliver(self, asked: urllib.request.Request) -> str | None:
        """Return what kept a ping from its receiver, if anything did, or takes it too long."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= _MOST_HANGING:
            return f"{len(self._hanging)} others hang"
        problems: list[str] = []
        thread = threading.Thread(target=_post, args=(asked, self._timeout, problems), name="bgsched-ping", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread can be had just now
            return str(error)
        thread.join(self._timeout)
        if thread.is_alive():
            self._hanging.append(thread)
            return "timed out"
        return problems[0] if problems else None

    def _tail(self, run: Run) -> str:
        """Return how the run ended, and the last lines of its log."""
        said = run.reason or (f"{run.error.type}: {run.error.message}" if run.error else "")
        head = f"run {run.id}: {run.status.value}{f': {said}' if said else ''}"
        lines: deque[str] = deque(maxlen=_LINES)
        after = 0
        try:
            while page := self._monitor.log(run.id, after, _PAGE):
                lines.extend(f"{line.at:%H:%M:%S} {line.level} {line.text}" for line in page)
                after = page[-1].seq
        except BgschedError as error:
            lines.append(f"(its log cannot be read: {error})")
        return "\n".join([head[:_LONGEST_BODY], "\n".join(lines)[-_LONGEST_BODY:]])


def _post(asked: urllib.request.Request, timeout: float, problems: list[str]) -> None:
    try:
        urllib.request.urlopen(asked, timeout=timeout).close()  # noqa: S310  checked by ping(); what it says is no matter
    except HTTPError as answer:
        with answer:  # it holds the connection
            problems.append(str(answer))
    except Exception as problem:  # noqa: BLE001  whatever a receiver, a proxy or a handler of the host's does
        problems.append(str(problem) or type(problem).__name__)
