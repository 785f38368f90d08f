"""The run that goes on here: what a process sees of its own execution.

`LiveRun` is a claimed run on its way through this scheduler: its present value, its log, and whether it was asked to
stop. A process reaches it, through `current_run`, as `CurrentRun`, by a context variable. A run ends once: whoever
closes it first (its worker, or the scheduler when its time is over) decides, and what comes later is dropped.
"""

import sys
import threading
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sized
from contextvars import ContextVar, copy_context
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property, wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, cast, overload

from bgsched._evolve import evolve
from bgsched._runlog import RunLog, RunLogger, clean
from bgsched._secrets import spellings
from bgsched._turns import forks
from bgsched.clock import Clock, Signal
from bgsched.errors import NoCurrentRunError, RunKilled, SchedulerStateError
from bgsched.process import Process
from bgsched.run import LogLine, LogTrim, Progress, Run

__all__ = ["ATTEND_EVERY", "CurrentRun", "LiveRun", "StopCause", "current", "current_among", "current_run"]

T = TypeVar("T")
D = TypeVar("D")
P = ParamSpec("P")
ATTEND_EVERY = 0.5  # seconds between two looks of a run at which it sees to its scheduler
_NO_TIME = timedelta(0)
_LONGEST_MESSAGE = 1_000
_MOST = 2**63 - 1
_SHORTEST_WAIT = 1e-6  # less is what floats leave over, and no time for some clocks


class StopCause(Enum):
    """Why a run was asked to stop."""

    KILLED = "a kill was asked for"
    TIMED_OUT = "its time is over"
    SHUTDOWN = "its scheduler shuts down"
    DELETED = "its request was deleted, and the run with it"
    REAPED = "its scheduler may be taken for dead, and the run with it"


class LiveRun:
    """A claimed run in this OS process. Thread-safe."""

    params: Mapping[str, Any] = MappingProxyType({})
    asked = False
    """Whether it should stop, and why."""
    cause: StopCause | None = None
    looked = False
    """Whether the process has seen that."""
    interrupt: Callable[[], None] | None = None
    """Wakes a process that cannot look, because it awaits."""
    thread: int | None = None
    watched: Callable[[], str] | None = None
    """Says where it stands, when it is not on a thread of its own."""
    replaced = False
    """Whether another worker took the place of the one that is stuck in it."""
    left = False
    """Whether its worker came back."""
    overdue = False
    """Whether its time is over, and that was said to whoever executes it."""
    interrupted = False
    """Whether Ctrl-C ended it: it ran on the thread that gets it."""
    attendant: Callable[[], None] | None = None
    """Sees to its scheduler at its looks, where the thread that executes it is all that there is."""
    began: float | None = None
    ended: float | None = None
    _log: RunLog | None = None
    _changed = False
    _closed = False
    _stop: Signal | None = None

    def __init__(
        self,
        run: Run,
        process: Process[Any, Any],
        clock: Clock,
        *,
        last_seq: int = 0,
        hindrance: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.process = process
        self.clock = clock
        self.owner = run.owner or ""
        self.since = clock.monotonic()
        self._hindrance = hindrance
        self._last_seq = last_seq
        self._run = run
        self._forks = forks()
        self._lock = threading.RLock()  # a signal handler may kill the run that it interrupts

    @property
    def log(self) -> RunLog:
        """The log of this attempt; made when it is first asked for, most runs write nothing."""
        if self._log is None:  # no lock: whoever has it may be interrupted by a finalizer that logs
            vars(self).setdefault("_log", self._make_log())
        return cast("RunLog", self._log)

    def _make_log(self, kind: Callable[..., RunLog] = RunLog) -> RunLog:
        run = self._run
        secrets = spellings(self.process.secrets(run.params, run.sensitive))
        return kind(run.id, run.attempt, self.clock.now, after=self._last_seq, secrets=secrets)

    @property
    def stop(self) -> Signal:
        """Set when the run is asked to stop; made for those who wait for it, few runs have one."""
        with self._lock:
            if self._stop is None:
                self._stop = Signal()
                if self.asked:
                    self._stop.set()
            return self._stop

    @property
    def run(self) -> Run:
        """The run as it stands here."""
        return self._run

    @property
    def token(self) -> tuple[int, int]:
        """What tells this attempt from every other."""
        return self._run.id, self._run.attempt

    @property
    def closed(self) -> bool:
        """Whether the run has come to its end here."""
        return self._closed

    @property
    def is_copy(self) -> bool:
        """Whether this OS process is a child of the one that has the run: here, it neither begins nor ends."""
        return self._forks != forks()

    @property
    def reaped(self) -> bool:
        """Whether others have taken the run over."""
        return self.cause is StopCause.REAPED

    def begin(self) -> bool:
        """Mark the run as started, by this thread; ``False`` when it must not start any more."""
        if (why := self._hindrance()) is not None:
            self.put_back(why)
        with self._lock:
            if self._closed or self.is_copy:
                return False
            self._run = self._run.started(self.clock.now())
            self.began = self.clock.monotonic()
            self.thread = threading.get_ident()
            self._changed = True
            return True

    def count_from(self, started_at: datetime) -> None:
        """Let the time of a run that only goes on here count from when it started elsewhere."""
        with self._lock:
            if self.began is not None:
                self.began -= max(_NO_TIME, self.clock.now() - started_at).total_seconds()
                self._run = evolve(self._run, started_at=started_at)

    def put_back(self, why: str) -> bool:
        """Give the run back to the store for any scheduler, if it has not started: then it never will here."""
        return self.call_off(lambda run, now, _: run.put_back(now, why))

    def call_off(self, end: Callable[[Run, datetime, timedelta], Run]) -> bool:
        """Close the run, as `close` does, if it has not started: then it never will here."""
        with self._lock:
            return self.began is None and self.close(end)

    def close(self, end: Callable[[Run, datetime, timedelta], Run]) -> bool:
        """End the run as *end* of it, at this instant and after this span; ``False`` when it has ended already."""
        with self._lock:
            if self._closed or self.is_copy:
                return False
            ended = self.ended = self.clock.monotonic()
            spent = _NO_TIME if self.began is None else timedelta(seconds=ended - self.began)
            self._run = end(self._run, self.clock.now(), spent)
            self._closed = self._changed = True
            return True

    def say(self, progress: Progress) -> None:
        """Keep the run's progress until it is next reported."""
        with self._lock:
            if not self._closed:
                self._run = evolve(self._run, progress=progress)
                self._changed = True

    def attend(self) -> None:
        """See to the scheduler, where nobody else does while this run has its thread."""
        if self.attendant is not None and self.thread == threading.get_ident() and not self.is_copy:
            self.attendant()

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until it is asked to stop."""
        while seconds >= _SHORTEST_WAIT and not self.asked:
            began = self.clock.monotonic()
            self.attend()
            waited = self._rest(seconds)
            seconds -= max(waited, self.clock.monotonic() - began)  # a host's tests may have frozen that clock

    def _rest(self, seconds: float) -> float:
        """Wait, until the next look at the scheduler at most; a clock of tests may know that nobody else moves it."""
        if self.attendant is None:
            self.clock.wait(self.stop, seconds)
            return seconds
        step = min(seconds, ATTEND_EVERY)
        getattr(self.clock, "wait_or_pass", self.clock.wait)(self.stop, step)
        return step

    def forget_after_fork(self) -> None:
        """Let a child, which has this run from its parent, not wait for a thread that it does not have."""
        self._lock = threading.RLock()

    def ask_to_stop(self, cause: StopCause) -> None:
        """Tell the process, at its next look, that it should stop."""
        with self._lock:
            if self.cause is None:
                self.cause = cause
            self.asked = True
            stop = self._stop
        if stop is not None:
            stop.set()
        if self.interrupt is not None:
            self.interrupt()

    def stack(self) -> str:
        """Return where the run stands, empty when nobody can tell."""
        if self.watched is not None:
            return self.watched()
        frame = sys._current_frames().get(self.thread or 0)  # noqa: SLF001  the documented way to see another thread
        return "" if frame is None else "".join(traceback.format_stack(frame)).rstrip()

    def news(self) -> tuple[Run | None, list[LogLine], LogTrim | None]:
        """Return the run if it changed since the last call, its new lines, and which older ones should go."""
        with self._lock:
            changed, self._changed = self._changed, False
            run = self._run if changed else None
        # Not under the lock: who writes a line may be interrupted by a finalizer that wants it, to say progress.
        return (run, [], None) if self._log is None else (run, *self._log.drain(to_the_end=self._closed))


class CurrentRun:
    """What a process may know of its run, and say about it."""

    def __init__(self, live: LiveRun) -> None:
        self._live = live

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.process!r}, attempt {self.attempt}>"

    @property
    def id(self) -> int:
        """The run's id."""
        return self._live.run.id

    @property
    def request_id(self) -> str:
        """The id of the request that it runs for."""
        return self._live.run.request_id

    @property
    def process(self) -> str:
        """The process's name."""
        return self._live.run.process

    @property
    def params(self) -> dict[str, Any]:
        """The params as the process was called with them, those left to their defaults not included."""
        return dict(self._live.params)

    @property
    def user(self) -> str | None:
        """Who asked for it."""
        return self._live.run.user

    @property
    def channel(self) -> str:
        """How the run was asked for, such as ``"code"``, ``"declared"``, ``"after"``, or the host's own word."""
        return self._live.run.channel

    @property
    def parent_id(self) -> int | None:
        """The run of the group that this is a member of."""
        return self._live.run.parent_id

    @property
    def fire_time(self) -> datetime:
        """The fire time that it runs for, in UTC; earlier than now when it runs late."""
        return self._live.run.fire_time

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; claims that were put back before they started are counted too."""
        return self._live.run.attempt

    @property
    def fence(self) -> tuple[int, int]:
        """A value that grows with every attempt of the run.

        An outside system that keeps the greatest it has seen, and refuses what comes with a smaller one, is safe from
        an older attempt that goes on unnoticed.
        """
        return self.id, self.attempt

    @cached_property
    def log(self) -> RunLogger:
        """A logger whose every level reaches the run log."""
        return RunLogger("bgsched.run", self._live.log)

    @property
    def killed(self) -> bool:
        """Whether the run was asked to stop. A process that sees this and returns is recorded as KILLED.

        As ABANDONED where only the shutdown, or the lost lease, of its scheduler asked for it.
        """
        self._live.attend()
        asked = self._live.asked
        self._live.looked |= asked
        return asked

    def raise_if_killed(self) -> None:
        """Raise `RunKilled` when the run was asked to stop."""
        if self.killed:
            cause = self._live.cause or StopCause.KILLED
            raise RunKilled(f"run {self.id} was asked to stop: {cause.value}")

    def sleep(self, span: timedelta | float) -> None:
        """Wait, for a timedelta or a number of seconds; raise `RunKilled` as soon as the run is asked to stop.

        Raises:
            SchedulerStateError: the process is async: there, ``await asyncio.sleep(...)`` wakes on a kill.
        """
        if self._live.interrupt is not None and self._live.thread == threading.get_ident():
            raise SchedulerStateError("sleep() would hold up every async run; write await asyncio.sleep(...)")
        seconds = span.total_seconds() if isinstance(span, timedelta) else span
        if not isinstance(seconds, int | float):
            raise TypeError(f"sleep() takes a timedelta or a number of seconds, got {span!r}")
        self._live.wait(min(seconds, threading.TIMEOUT_MAX))
        self.raise_if_killed()

    def carry(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return *function* so that it belongs to this run in whatever thread it is called.

        Threads that a process starts do not know the run (before Python 3.14): what they log is not in the run log, and
        `current_run()` raises there. Write ``Thread(target=run.carry(work))`` or ``pool.map(run.carry(work), ...)``.
        """
        context = copy_context()

        @wraps(function)
        def carried(*args: P.args, **kwargs: P.kwargs) -> T:
            return context.copy().run(function, *args, **kwargs)

        return carried

    def progress(self, done: int, total: int | None = None, message: str | None = None) -> None:
        """Say how far the run has come; the monitor shows it within a second.

        Raises:
            ValueError: *done* or *total* is no whole number from 0, or one that no store has room for.
        """
        for name, number in (("done", done), ("total", 0 if total is None else total)):
            if not _is_count(number):
                raise ValueError(f"{name} must be a whole number from 0 to {_MOST}, got {number!r}")
        if message is not None:
            message = clean(self._live.log.redacted(str(message)), _LONGEST_MESSAGE)
        self._live.say(Progress(int(done), None if total is None else int(total), message))  # True is a number, too
        self._live.attend()

    @overload
    def track(self, items: Iterable[T], total: int | None = None) -> Iterator[T]: ...

    @overload
    def track(self, items: AsyncIterable[T], total: int | None = None) -> AsyncIterator[T]: ...

    def track(self, items: Any, total: int | None = None) -> Any:
        """Yield *items*, counting them as progress; raise `RunKilled` between two when the run was asked to stop.

        *total*: how many there are, where ``len(items)`` does not say. Async items are for an ``async for``.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        self.progress(0, total)
        return self._track_async(items, total) if isinstance(items, AsyncIterable) else self._track(items, total)

    async def _track_async(self, items: AsyncIterable[T], total: int | None) -> AsyncIterator[T]:
        done = 0
        async for item in items:
            self.raise_if_killed()
            yield item
            done += 1
            self.progress(done, total)

    def _track(self, items: Iterable[T], total: int | None) -> Iterator[T]:
        for done, item in enumerate(items, start=1):
            self.raise_if_killed()
            yield item
            self.progress(done, total)


def _is_count(number: object) -> bool:
    return isinstance(number, int) and 0 <= number <= _MOST


current: ContextVar[CurrentRun | None] = ContextVar("bgsched_current_run", default=None)
_NOTHING: Any = object()


@overload
def current_run() -> CurrentRun: ...


@overload
def current_run(default: D) -> CurrentRun | D: ...


def current_run(default: Any = _NOTHING) -> Any:
    """Return the run that goes on here.

    Raises:
        NoCurrentRunError: there is none, and no *default* was given.
    """
    run = current.get()
    if run is not None:
        return run
    if default is _NOTHING:
        raise NoCurrentRunError
    return default


def current_among(lives: Iterable[LiveRun]) -> CurrentRun | None:
    """Return the run that goes on here if it is one of *lives*, even where an executor has a copy of it.

    Its number alone does not tell: the stores of two schedulers count from 1 both.
    """
    run = current.get()
    if run is None:
        return None
    mine = run._live  # noqa: SLF001  of this module
    return run if any((live.owner, live.run.id) == (mine.owner, mine.run.id) for live in lives) else None
