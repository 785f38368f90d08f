"""The process monitor: what ran, what did not, and why.

Questions only. A `Monitor` holds a `StoreReader`, which has no method that writes, so it cannot change anything; it
works from any OS process, whether a scheduler lives there or not. What it returns is masked: the values of sensitive
params are not in it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal, TypeVar

from bgsched._codec import show
from bgsched._health import Health, Signs, judge
from bgsched._runlog import clean
from bgsched._why import Facts, explain, going_on
from bgsched.clock import Clock, Signal, SystemClock
from bgsched.errors import StoreError, UnknownRequestError, UnknownRunError, did_you_mean
from bgsched.request import Request, RequestStatus, UnreadableTiming
from bgsched.run import LogLine, Run, RunStatus
from bgsched.stores import not_a_store, open_store
from bgsched.stores.base import (
    LAST,
    Ended,
    Page,
    RequestFilter,
    RunFilter,
    SchedulerRecord,
    Store,
    StoreReader,
    Summary,
)

__all__ = ["Bucket", "Health", "Monitor"]

S = TypeVar("S", RunStatus, RequestStatus)

_POLL = 0.25
_OWN = 10  # runs of a request that a question about it looks at
_MOST_PAGES = 10
_ACTIVE = frozenset({RunStatus.WAITING, RunStatus.RUNNING})
_MOST = (1 << 63) - 1  # of a number, in every store
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 30, tzinfo=UTC)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_BUCKETS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_MOST_BUCKETS = 100_000  # what a chart cannot show, but a typed year 1 would ask for: millions


@dataclass(frozen=True, slots=True)
class Bucket:
    """What ended in the hour or day that begins at *start* (UTC): fire times by status."""

    start: datetime
    counts: dict[RunStatus, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the bucket as JSON-able values."""
        counts = {status.value: count for status, count in sorted(self.counts.items())}
        return {"start": self.start.isoformat(), "counts": counts}


class Monitor:
    """Answers questions about the requests and runs of a store. *store*: a `Store`, its reader, or a URL.

    ``memory://`` is refused: it would open a new, empty store. Use ``scheduler.monitor``.

    *witness*: problems that somebody here knows of, and that a store out of reach cannot tell.

    Raises:
        StoreError: the URL names no store that is there.
        TypeError: *store* is none of these.
    """

    def __init__(
        self,
        store: Store | StoreReader | str,
        *,
        clock: Clock | None = None,
        witness: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        if isinstance(store, str):
            store = open_store(store, read_only=True)
        if not isinstance(store, Store) and not hasattr(store, "find_request"):
            raise not_a_store(store)
        self._reader: StoreReader = store.reader() if isinstance(store, Store) else store
        self._clock = clock or SystemClock()
        self._witness = witness

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
    ) -> Page:
        """Return runs, newest first; ``page.before`` is the *before* of the next page, ``None`` after the last.

        *since* and *until* bound when the run was recorded, both inclusive; *text* is looked for in the reason, the
        error and the log, without regard to case. No *status*, or an empty collection of them, means all.

        Filters that an index backs (process, user, both, or request; with or without statuses and times) fill the page
        while there are more runs. Others (a text, or a request with a process or user) look at the next hundred runs
        only: the page may be short or empty; go on while ``page.before`` is not ``None``. So no question takes long,
        however many runs there are.

        Raises:
            ValueError: a status is unknown, an instant is no aware datetime, an id no whole number, a name, id or text
                no string, or the limit is not positive.
        """
        wanted = RunFilter(
            process=_storable("process", process),
            request=_storable("request", request),
            parent=_bounded(parent),
            status=_statuses(RunStatus, status),
            user=_storable("user", user),
            since=_aware("since", since),
            until=_aware("until", until),
            text=_storable("text", text) or None,
            before=_bounded(before),
            limit=_positive(limit),
        )
        page = self._reader.runs(wanted)
        return Page((run.masked() for run in page), page.before)

    def run(self, id: int) -> Run:
        """Return the run of that id.

        Raises:
            UnknownRunError: there is none.
            ValueError: the id is no whole number.
        """
        number = _bounded(id)
        found = self._reader.find_run(number) if number == id else None
        if found is None:
            raise UnknownRunError(id)
        return found.masked()

    def running(self) -> list[Run]:
        """Return the runs that have started and not ended, newest first, at most 10,000; `runs` pages through more."""
        found = self._reader.runs(RunFilter(status=frozenset({RunStatus.RUNNING}), limit=10_000))
        return [run.masked() for run in found]

    def log(self, run_id: int, after: int = 0, limit: int = 1000) -> list[LogLine]:
        """Return the run's lines with a ``seq`` above *after*, in order.

        Of a log that was too long, the head and the tail are kept; a line between them says how many were dropped, and
        is one of the *limit* that are returned at most.

        Raises:
            UnknownRunError: there is no such run.
            ValueError: the limit is not positive, or a number is no whole one.
        """
        after, limit = _bounded(after), _positive(limit)
        lines = self._reader.log(_bounded(run_id), after, limit)
        if not lines:
            self.run(run_id)
        return _with_gaps(lines, after)[:limit]

    def follow(self, run_id: int, after: int = 0) -> Iterator[LogLine]:
        """Yield the run's lines as they come, until the run has ended.

        Raises:
            UnknownRunError: there is no such run.
        """
        never, after = Signal(), _bounded(after)
        while True:
            active = self.run(run_id).is_active
            while lines := self._reader.log(run_id, after, 1000):
                yield from _with_gaps(lines, after)
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

        No *status*, or an empty collection of them, means all.

        Raises:
            ValueError: a status is unknown, or the limit is not positive.
        """
        wanted = RequestFilter(
            process=_storable("process", process),
            status=_statuses(RequestStatus, status),
            user=_storable("user", user),
            after=_storable("after", after),
            limit=_positive(limit),
        )
        return [request.masked() for request in self._reader.requests(wanted)]

    def request(self, id: str) -> Request:
        """Return the request of that id.

        Raises:
            UnknownRequestError: there is none.
        """
        found = self._reader.find_request(_storable("id", id))
        if found is None:
            raise UnknownRequestError(id)
        return found.masked()

    def upcoming(self, limit: int = 10) -> list[Request]:
        """Return the requests that are due next, earliest first."""
        return [request.masked() for request in self._reader.upcoming(_positive(limit))]

    def fire_times(self, id: str, limit: int = 5) -> list[datetime]:
        """Return the next fire times of a request, in UTC, without jitter; none when it has no more.

        Raises:
            UnknownRequestError: there is no such request.
            ValueError: the limit is not positive.
        """
        request = self.request(id)
        first = request.next_fire_time
        if first is None or isinstance(request.timing, UnreadableTiming):
            return []
        return [first, *islice(request.timing.fire_times(first), _positive(limit) - 1)]

    def next_due(self, process: str) -> datetime | None:
        """Return when something of *process* is due next, which may be past; ``None`` when nothing is."""
        return self._reader.next_due([_storable("process", process)])

    def active_processes(self) -> frozenset[str]:
        """Return the names of all processes that have a waiting or running run, registered anywhere or not."""
        return self._reader.active_processes()

    def why(self, id: str) -> str:
        """Return why a request does not run just now, and what became of its last fire times, in words.

        Raises:
            UnknownRequestError: there is no such request.
        """
        request, now = self.request(id), self._clock.now()
        runs = self._own_runs(request.id)
        last = going_on(runs)
        key = last.overlap_key if last is not None and last.owner is None else None
        holder = self._reader.holder(key) if key is not None else None
        absences = self._reader.absences(min((run.fire_time for run in runs), default=now), now)
        return explain(Facts(request, runs, self._reader.schedulers(), now, absences, holder))

    def _own_runs(self, request: str) -> list[Run]:
        """Return the newest runs of a request, and what goes on however old it is; without the members of groups.

        Those are looked over, up to a thousand.
        """
        active = self._reader.runs(RunFilter(request=request, status=_ACTIVE, limit=_OWN))
        found = {run.id: run for run in active if run.parent_id is None}
        before, limit, own = None, _OWN, 0
        for _ in range(_MOST_PAGES):
            page = self._reader.runs(RunFilter(request=request, before=before, limit=limit))
            newest = {run.id: run for run in page if run.parent_id is None}
            found |= newest
            before, limit, own = page.before, 100, own + len(newest)
            if before is None or own >= _OWN:
                break
        return [found[id] for id in sorted(found, reverse=True)]

    # -- the whole -----------------------------------------------------------------------------------------------

    def summary(self, process: str | None = None, since: datetime | None = None) -> Summary:
        """Return counts, percentiles and the last runs, over the ended runs of *process* (``None``: of all).

        *since*: only those that were recorded then or later.

        Raises:
            ValueError: *since* is no aware datetime.
        """
        summary = self._reader.summary(_storable("process", process), _aware("since", since))
        newest: dict[str, Any] = {name: run.masked() for name in LAST if (run := getattr(summary, name))}
        return replace(summary, **newest)

    def totals(self, since: datetime | None = None, until: datetime | None = None) -> list[Ended]:
        """Return how many fire times of each process ended in each status, in the hours from *since* to before *until*.

        By default all there ever were. Runs that were purged are counted, so the totals of all time never go down.

        Raises:
            ValueError: an instant is no aware datetime.
        """
        return self._reader.totals(_aware("since", since) or _FIRST, _aware("until", until) or _LAST)

    def histogram(
        self,
        process: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        by: Literal["hour", "day"] = "hour",
    ) -> list[Bucket]:
        """Return how many fire times ended in which status in each hour or day (UTC), oldest first, without gaps.

        *since* is 24 hours (or 30 days) before *until* by default, *until* is now. Runs that were purged are counted.

        Raises:
            ValueError: *by* is neither ``"hour"`` nor ``"day"``, an instant is no aware datetime, or there would be
                more than 100,000 buckets: eleven years of hours.
        """
        if by not in _BUCKETS:
            raise ValueError(f"by must be 'hour' or 'day', got {by!r}")
        last = _aware("until", until) or self._clock.now()
        first = _aware("since", since) or _earlier(last, _BUCKETS[by] * (24 if by == "hour" else 30))
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
        start = midnight + (first - midnight) // _BUCKETS[by] * _BUCKETS[by]
        count = (last - start) // _BUCKETS[by] + 1
        if count > _MOST_BUCKETS:
            span = f"from {first.isoformat()} to {last.isoformat()} there are {count:,} {by}s"
            raise ValueError(f"{span}, more than {_MOST_BUCKETS:,}: give a later since, or longer buckets")
        buckets: list[dict[RunStatus, int]] = [{} for _ in range(count)]
        for ended in self._reader.ended(_storable("process", process), start, last):
            counts = buckets[(ended.hour - start) // _BUCKETS[by]]
            counts[ended.status] = counts.get(ended.status, 0) + ended.count
        return [Bucket(start + place * _BUCKETS[by], counts) for place, counts in enumerate(buckets)]

    def schedulers(self) -> list[SchedulerRecord]:
        """Return the schedulers that have started and neither shut down nor been found dead, oldest first."""
        return self._reader.schedulers()

    def health(self) -> Health:
        """Return whether the work gets done; a store that does not answer is a problem too, not an exception."""
        now = self._clock.now()
        try:
            first = next(iter(self._reader.upcoming(1)), None)
            waiting = self._reader.first_waiting()
            newest = next(iter(self._reader.runs(RunFilter(limit=1))), None)
            facts = Signs(
                now=now,
                schedulers=tuple(self._reader.schedulers()),
                absences=self._reader.absences(now, now),
                first=first,
                waiting=waiting,
                recorded_at=newest.recorded_at if newest is not None else None,
            )
        except StoreError as error:
            return Health(ok=False, problems=(f"the store does not answer: {error}", *self._witness()))
        return judge(facts, self._witness())


def _with_gaps(lines: list[LogLine], after: int) -> list[LogLine]:
    """Return *lines* with one more where some were dropped from the store."""
    told: list[LogLine] = []
    for line in lines:
        dropped = line.seq - after - 1
        if dropped:
            text = f"... {dropped} lines were dropped here ..."
            told.append(LogLine(line.run_id, line.seq - 1, line.at, "WARNING", "bgsched", text, line.attempt))
        told.append(line)
        after = line.seq
    return told


def _statuses(kind: type[S], status: S | str | Collection[S | str] | None) -> frozenset[S]:
    if status is None:
        return frozenset()
    if not isinstance(status, Iterable):
        raise ValueError(f"status must be a status or several, got {status!r}")  # noqa: TRY004  as for other bad values
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


def _aware(name: str, instant: Any) -> datetime | None:
    """Return an instant, if there is one, in UTC; the first or the last there is, where UTC has none for it."""
    if instant is None:
        return None
    if not isinstance(instant, datetime) or instant.utcoffset() is None:
        what = "aware" if isinstance(instant, datetime) else "an aware datetime"
        raise ValueError(f"{name} must be {what}, got {instant!r}; write {name}=datetime(..., tzinfo=UTC)")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        return _EARLIEST if instant.year == _EARLIEST.year else _LATEST


def _earlier(instant: datetime, span: timedelta) -> datetime:
    """Return the instant that is *span* earlier, or the first there is."""
    return instant - span if instant - _EARLIEST > span else _EARLIEST


def _positive(limit: object) -> int:
    if not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit must be 1 or more, got {limit!r}")
    return min(int(limit), _MOST)


def _bounded(number: Any) -> Any:
    """Return a number, if there is one, as every store can compare it: beyond that there is no id."""
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool):  # True is 1 to Python, and no number to PostgreSQL
        raise ValueError(f"an id and a seq are whole numbers, got {number!r}")  # noqa: TRY004  as for other bad values
    return max(-_MOST, min(int(number), _MOST))


def _storable(name: str, text: Any) -> Any:
    """Return a text, if there is one, as every store can compare it: what none can hold is found in none."""
    if text is None:
        return None
    if not isinstance(text, str):
        known = "name" if name == "process" else "id"
        hint = f"; write {type(text).__name__.lower()}.{known}" if hasattr(text, known) else ""
        raise ValueError(f"{name} must be a string, got {show(text)}{hint}")  # noqa: TRY004  as for other bad values
    return clean(text, len(text))
