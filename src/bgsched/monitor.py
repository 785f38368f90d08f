"""The process monitor: what ran, what did not, and why.

Questions only. A `Monitor` holds a `StoreReader`, which has no method that writes, so it cannot change anything; it works
from any OS process, whether a scheduler lives there or not.
"""

import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from bgsched.clock import Clock, SystemClock
from bgsched.errors import StoreError, UnknownRequestError, UnknownRunError, did_you_mean
from bgsched.request import Request, RequestStatus
from bgsched.run import LogLine, Run, RunStatus
from bgsched.stores import open_store
from bgsched.stores.base import RequestFilter, RunFilter, SchedulerRecord, Store, StoreReader, Summary

__all__ = ["Health", "Monitor"]

S = TypeVar("S", RunStatus, RequestStatus)

_OVERDUE = timedelta(seconds=60)
_POLL = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the work gets done: *ok*, and if not, the *problems* in words.

    *overdue_by*: how long the most overdue request has waited for a claim; zero when none does. *last_heartbeat*: when a
    scheduler was last heard of.
    """

    ok: bool
    problems: tuple[str, ...] = ()
    overdue_by: timedelta = timedelta(0)
    last_heartbeat: datetime | None = None
    schedulers: tuple[SchedulerRecord, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the health as JSON-able values: spans in seconds."""
        return {
            "ok": self.ok,
            "problems": list(self.problems),
            "overdue_by": self.overdue_by.total_seconds(),
            "last_heartbeat": self.last_heartbeat.isoformat() if self.last_heartbeat else None,
            "schedulers": [record.to_dict() for record in self.schedulers],
        }


class Monitor:
    """Answers questions about the requests and runs of a store. *store*: a `Store`, its reader, or a URL.

    Raises:
        StoreError: the URL names no store that is there.
    """

    def __init__(self, store: Store | StoreReader | str, *, clock: Clock | None = None) -> None:
        if isinstance(store, str):
            store = open_store(store, read_only=True)
        self._reader: StoreReader = store.reader() if isinstance(store, Store) else store
        self._clock = clock or SystemClock()

    # -- runs ----------------------------------------------------------------------------------------------------

    def runs(
        self,
        process: str | None = None,
        request: str | None = None,
        status: RunStatus | str | Collection[RunStatus | str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        limit: int = 100,
        before: int | None = None,
        *,
        user: str | None = None,
        parent: int | None = None,
    ) -> list[Run]:
        """Return runs, newest first.

        *since* and *until* bound the fire time, both inclusive; *text* is looked for in the reason, the error and the
        log, without regard to case; *before* is the id of the last run of the page before.

        Raises:
            ValueError: a status is unknown, an instant is naive, or the limit is not positive.
        """
        return self._reader.runs(
            RunFilter(
                process=process,
                request=request,
                parent=parent,
                status=_statuses(RunStatus, status),
                user=user,
                since=_aware("since", since),
                until=_aware("until", until),
                text=text,
                before=before,
                limit=_positive(limit),
            )
        )

    def run(self, id: int) -> Run:  # noqa: A002  the field's word
        """Return the run of that id.

        Raises:
            UnknownRunError: there is none.
        """
        found = self._reader.find_run(id)
        if found is None:
            raise UnknownRunError(id)
        return found

    def running(self) -> list[Run]:
        """Return the runs that have begun and not ended, newest first."""
        return self._reader.runs(RunFilter(status=frozenset({RunStatus.RUNNING}), limit=10_000))

    def log(self, run_id: int, after: int = 0, limit: int = 1000) -> list[LogLine]:
        """Return the run's lines with a ``seq`` above *after*, in order.

        Raises:
            UnknownRunError: there is no such run.
        """
        lines = self._reader.log(run_id, after, _positive(limit))
        if not lines:
            self.run(run_id)
        return lines

    def follow(self, run_id: int, after: int = 0) -> Iterator[LogLine]:
        """Yield the run's lines as they come, until the run has ended.

        Raises:
            UnknownRunError: there is no such run.
        """
        never = threading.Event()
        while True:
            active = self.run(run_id).is_active
            while lines := self._reader.log(run_id, after, 1000):
                yield from lines
                after = lines[-1].seq
            if not active:
                return
            self._clock.wait(never, _POLL)

    # -- requests ------------------------------------------------------------------------------------------------

    def requests(
        self,
        process: str | None = None,
        status: RequestStatus | str | Collection[RequestStatus | str] | None = None,
        *,
        user: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Request]:
        """Return requests in the order of their ids; *after* is the id of the last one of the page before.

        Raises:
            ValueError: a status is unknown, or the limit is not positive.
        """
        return self._reader.requests(
            RequestFilter(
                process=process,
                status=_statuses(RequestStatus, status),
                user=user,
                after=after,
                limit=_positive(limit),
            )
        )

    def request(self, id: str) -> Request:  # noqa: A002  the field's word
        """Return the request of that id.

        Raises:
            UnknownRequestError: there is none.
        """
        found = self._reader.find_request(id)
        if found is None:
            raise UnknownRequestError(id)
        return found

    def upcoming(self, limit: int = 10) -> list[Request]:
        """Return the requests that are due next, earliest first."""
        return self._reader.upcoming(_positive(limit))

    # -- the whole -----------------------------------------------------------------------------------------------

    def summary(self, process: str | None = None, since: datetime | None = None) -> Summary:
        """Return figures over the runs of *process* (all of them: ``None``) whose fire time is not before *since*."""
        return self._reader.summary(process, _aware("since", since))

    def schedulers(self) -> list[SchedulerRecord]:
        """Return the schedulers that signed on and have not left or been ended by another, oldest first."""
        return self._reader.schedulers()

    def health(self) -> Health:
        """Return whether the work gets done; a store that does not answer is a problem too, not an exception."""
        now = self._clock.now()
        try:
            schedulers = tuple(self._reader.schedulers())
            first = next(iter(self._reader.upcoming(1)), None)
        except StoreError as error:
            return Health(ok=False, problems=(f"the store does not answer: {error}",))
        due_at = first.due_at if first is not None else None
        overdue_by = max(timedelta(0), now - due_at) if due_at is not None else timedelta(0)
        problems = [f"scheduler {r.owner} on {r.host}: {r.problem} (since {r.problem_since})" for r in schedulers if r.problem]
        problems += [
            f"scheduler {r.owner} on {r.host} was last heard of at {r.heartbeat_at.isoformat()}"
            for r in schedulers
            if r.lease_until < now
        ]
        if not schedulers:
            problems.append("no scheduler is signed on")
        if first is not None and overdue_by > _OVERDUE:
            problems.append(f"request {first.id!r} of process {first.process!r} is overdue by {overdue_by}")
        return Health(
            ok=not problems,
            problems=tuple(problems),
            overdue_by=overdue_by,
            last_heartbeat=max((record.heartbeat_at for record in schedulers), default=None),
            schedulers=schedulers,
        )


def _statuses(kind: type[S], status: S | str | Collection[S | str] | None) -> frozenset[S]:
    if status is None:
        return frozenset()
    names = [status] if isinstance(status, str) else list(status)
    known = [member.value for member in kind]
    found = []
    for name in names:
        try:
            found.append(kind(str(name).lower()))
        except ValueError:
            raise ValueError(
                f"no status {name!r}{did_you_mean(str(name).lower(), known)}; there are {', '.join(known)}"
            ) from None
    return frozenset(found)


def _aware(name: str, instant: datetime | None) -> datetime | None:
    if instant is not None and instant.tzinfo is None:
        raise ValueError(f"{name} must be aware, got {instant!r}; write {name}=datetime(..., tzinfo=UTC)")
    return instant if instant is None else instant.astimezone(UTC)


def _positive(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"limit must be 1 or more, got {limit}")
    return limit
