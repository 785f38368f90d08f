"""Pings in the style of Healthchecks: ``URL/start`` when a run begins, ``URL`` on success, ``URL/fail`` otherwise.

    ping(scheduler, {"nightly-report": "https://hc-ping.com/..."})

The body of the last ping is the end of the run's log. Sent on the thread of the scheduler's events: a run never waits,
and a ping that fails is logged. Many pings that time out make events wait; `timeout` bounds each.
"""

import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from bgsched._events import RunFinished, RunStarted
from bgsched._runlog import LOGGER
from bgsched.errors import BgschedError
from bgsched.monitor import Monitor
from bgsched.run import Run, RunStatus
from bgsched.scheduler import Scheduler

__all__ = ["ping"]

_LONGEST_BODY = 10_000
_LINES = 100
_PAGE = 1_000


def ping(scheduler: Scheduler, urls: Mapping[str, str], *, timeout: float = 5.0) -> Callable[[], None]:
    """Ping for the runs of the processes (or requests) that *urls* names; return what undoes it.

    *urls*: the address by the id of a request or the name of a process; the request comes first.

    Raises:
        ValueError: an address is no HTTP address.
    """
    for name, url in urls.items():
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"the address for {name!r} must begin with http:// or https://, got {url!r}")
    pings = _Pings(scheduler.monitor, dict(urls), timeout)
    undo = [scheduler.on(RunStarted, pings.started), scheduler.on(RunFinished, pings.finished)]

    def forget() -> None:
        for each in undo:
            each()

    return forget


class _Pings:
    def __init__(self, monitor: Monitor, urls: dict[str, str], timeout: float) -> None:
        self._monitor = monitor
        self._urls = urls
        self._timeout = timeout

    def started(self, event: RunStarted) -> None:
        self._send(event.run, "/start", "")

    def finished(self, event: RunFinished) -> None:
        succeeded = event.run.status is RunStatus.SUCCESS
        self._send(event.run, "" if succeeded else "/fail", None)

    def _send(self, run: Run, what: str, body: str | None) -> None:
        url = self._urls.get(run.request_id) or self._urls.get(run.process)
        if url is None or run.parent_id is not None:
            return
        parts = urlsplit(url)
        mark = f"rid={uuid5(NAMESPACE_URL, f'{run.owner}/{run.id}')}"  # which start belongs to which end
        query = f"{parts.query}&{mark}" if parts.query else mark
        address = parts._replace(path=parts.path.rstrip("/") + what, query=query).geturl()
        text = self._tail(run) if body is None else body
        asked = urllib.request.Request(address, data=text.encode(), method="POST")  # noqa: S310  checked by ping()
        try:
            urllib.request.urlopen(asked, timeout=self._timeout).close()  # noqa: S310  likewise; what it says is no matter
        except (OSError, ValueError) as error:
            LOGGER.warning("the ping for run %s of %s failed: %s", run.id, run.process, error)

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
