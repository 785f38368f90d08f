"""The run that goes on here: what a process sees of its own execution.

`LiveRun` is a claimed run on its way through this scheduler: its present value, its log, and whether it was asked to
stop. A process reaches it, through `current_run`, as `CurrentRun`, by a context variable. A run ends once: whoever
closes it first (its worker, or the scheduler when its time is over) decides, and what comes later is dropped.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar, overload

from bgsched._evolve import evolve
from bgsched._runlog import RunLog, RunLogger
from bgsched.clock import Clock, Signal
from bgsched.errors import NoCurrentRunError, RunKilled
from bgsched.process import Process
from bgsched.run import LogLine, LogTrim, Progress, Run

__all__ = ["CurrentRun", "LiveRun", "StopCause", "current", "current_run"]

T = TypeVar("T")
D = TypeVar("D")


class StopCause(Enum):
    """Why a run was asked to stop."""

    KILLED = "somebody asked for it"
    TIMED_OUT = "its time is over"
    REAPED = "this scheduler was taken for dead, and the run with it"


class LiveRun:
    """A claimed run in this OS process. Thread-safe."""

    def __init__(self, run: Run, process: Process[Any, Any], clock: Clock, *, last_seq: int = 0) -> None:
        self.process = process
        self.clock = clock
        self.owner = run.owner or ""
        self.log = RunLog(run.id, run.attempt, clock.now, after=last_seq)
        self.stop = Signal()
        self.cause: StopCause | None = None
        self.thread: int | None = None
        self.replaced = False  # another worker took the place of the one that is stuck in it
        self.left = False  # its worker came back
        self.began: float | None = None
        self.ended: float | None = None
        self._run = run
        self._changed = False
        self._closed = False
        self._lock = threading.Lock()

    @property
    def run(self) -> Run:
        """The run as it stands here."""
        return self._run

    @property
    def closed(self) -> bool:
        """Whether the run has come to its end here."""
        return self._closed

    def begin(self) -> None:
        """Mark the run as started, by this thread."""
        with self._lock:
            self._run = self._run.started(self.clock.now())
            self.began = self.clock.monotonic()
            self.thread = threading.get_ident()
            self._changed = True

    def close(self, end: Callable[[Run, datetime, timedelta], Run]) -> bool:
        """End the run as *end* of it, at this instant and after this span; ``False`` when it has ended already."""
        with self._lock:
            if self._closed:
                return False
            self.ended = self.clock.monotonic()
            spent = timedelta(seconds=max(0.0, self.ended - (self.began if self.began is not None else self.ended)))
            self._run = end(self._run, self.clock.now(), spent)
            self._closed = True
            return True

    def say(self, progress: Progress) -> None:
        """Keep the run's progress until it is next reported."""
        with self._lock:
            if not self._closed:
                self._run = evolve(self._run, progress=progress)
                self._changed = True

    def ask_to_stop(self, cause: StopCause) -> None:
        """Tell the process, at its next look, that it should stop."""
        if self.cause is None:
            self.cause = cause
        self.stop.set()

    def news(self) -> tuple[Run | None, list[LogLine], LogTrim | None]:
        """Return the run if it changed since the last call, its new lines, and which older ones should go."""
        with self._lock:
            changed, self._changed = self._changed, False
            return self._run if changed else None, *self.log.drain(to_the_end=self._closed)


class CurrentRun:
    """What a process may know of its run, and say about it."""

    def __init__(self, live: LiveRun) -> None:
        self._live = live
        self._log = RunLogger("bgsched.run", live.log)

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
        """The params as they were stored."""
        return dict(self._live.run.params)

    @property
    def user(self) -> str | None:
        """Who asked for it."""
        return self._live.run.user

    @property
    def fire_time(self) -> datetime:
        """The fire time that it runs for, in UTC; earlier than now when it runs late."""
        return self._live.run.fire_time

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._live.run.attempt

    @property
    def fence(self) -> tuple[int, int]:
        """A value that grows with every attempt of the run; outside systems can refuse what an older one says."""
        return self.id, self.attempt

    @property
    def log(self) -> RunLogger:
        """A logger whose every level reaches the run log."""
        return self._log

    @property
    def killed(self) -> bool:
        """Whether the run was asked to stop."""
        return self._live.stop.is_set()

    def raise_if_killed(self) -> None:
        """Raise `RunKilled` when the run was asked to stop."""
        if self._live.stop.is_set():
            cause = self._live.cause or StopCause.KILLED
            raise RunKilled(f"run {self.id} was asked to stop: {cause.value}")

    def sleep(self, seconds: float) -> None:
        """Wait; raise `RunKilled` as soon as the run is asked to stop."""
        self._live.clock.wait(self._live.stop, seconds)
        self.raise_if_killed()

    def progress(self, done: int, total: int | None = None, message: str | None = None) -> None:
        """Say how far the run has come; the monitor shows it within a second."""
        self._live.say(Progress(done, total, message))

    def track(self, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Yield *items*, counting them as progress; raise `RunKilled` between two when the run was asked to stop."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        self.progress(0, total)
        for done, item in enumerate(items, start=1):
            self.raise_if_killed()
            yield item
            self.progress(done, total)


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
