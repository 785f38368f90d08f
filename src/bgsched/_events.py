"""What a host hears of, and what it wraps around its runs.

Events are told on a thread of their own, in the order in which they came, through a queue with a bound: a listener that
raises is logged, one that is slow makes the queue full, and then events are dropped and counted, but the scheduler
neither waits nor fails. What must not be dropped is read from the monitor, not heard from here.

*Around* hooks are context managers that every run goes through, in its own thread or asyncio task: the place for a
Flask app context, Django's connections, a bound logger.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from bgsched._current import CurrentRun
from bgsched._runlog import LOGGER
from bgsched.process import is_async
from bgsched.request import Request, RequestStatus
from bgsched.run import Run

__all__ = [
    "Around",
    "Event",
    "Hooks",
    "RequestScheduled",
    "RequestUnscheduled",
    "RunFinished",
    "RunRetried",
    "RunStarted",
]

Around = Callable[[CurrentRun], AbstractContextManager[Any]]

_MOST_WAITING = 10_000
_LAST_WORDS = 5.0  # seconds that a scheduler which stops waits for its listeners
_FEWEST_WORDS = 0.5  # so many even where it was given no time: for those who tell of the runs that it left


@dataclass(frozen=True, slots=True)
class Event:
    """Base class of the events of this scheduler; sensitive values are masked, as in the monitor."""


@dataclass(frozen=True, slots=True)
class RequestScheduled(Event):
    """A request was filed or got fire times again: by a call, by the code that declares it, or as a follower.

    `Scheduler.run_now` of a request that there is does not emit it.
    """

    request: Request


@dataclass(frozen=True, slots=True)
class RequestUnscheduled(Event):
    """A request lost its fire times: it was unscheduled, or its timing was removed from the code."""

    request: Request


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """An attempt of a run begins."""

    run: Run


@dataclass(frozen=True, slots=True)
class RunRetried(Event):
    """An attempt of a run failed, and the run waits for the next one; it is stored."""

    run: Run


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """A run that had started has ended, and its end is stored.

    Also one that waited for a retry, that a dead scheduler left, or whose request was deleted: its record is gone then.
    """

    run: Run


E = TypeVar("E", bound=Event)


def _is_kind(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Event)


def _several(around: Any) -> Iterable[Any]:
    return around if isinstance(around, Iterable) and not callable(around) else (around,)


class Hooks:
    """The listeners and the around hooks of one scheduler. Thread-safe."""

    def __init__(self, around: Around | Iterable[Around] = ()) -> None:
        self._around: list[Around] = []
        for hook in _several(around):
            self.around(hook)
        self._listeners: list[tuple[type[Event], Callable[[Any], object]]] = []
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._telling = False

    # -- listening -----------------------------------------------------------------------------------------------

    def on(self, kind: type[E], listener: Callable[[E], object]) -> Callable[[], None]:
        """Call *listener* with every event of this kind; return what undoes it."""
        if not _is_kind(kind):
            raise TypeError(f"on() takes a kind of event, such as RunFinished, got {kind!r}")
        if not callable(listener):
            raise TypeError(f"on() takes a function of one event, got {listener!r}")
        if is_async(listener):
            raise TypeError(
                f"nobody awaits what a listener returns, got the async {listener!r}; "
                "give a function that hands the event to your loop: loop.call_soon_threadsafe(...)"
            )
        return self._put(self._listeners, (kind, listener))

    def emit(self, event: Event) -> None:
        """Tell the listeners of *event*, later, on their own thread."""
        if not any(isinstance(event, kind) for kind, _ in self._listeners):
            return
        with self._changed:
            if len(self._waiting) >= _MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append(event)
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._changed.notify_all()

    def changed(self, before: Request | None, after: Request | None) -> None:
        """Tell what it means for its fire times that a stored request became another."""
        if after is None or (before is not None and before.revision == after.revision):
            return
        if after.next_fire_time is not None:
            self.emit(RequestScheduled(after.masked()))
        elif after.status is RequestStatus.UNSCHEDULED and before and before.status is RequestStatus.SCHEDULED:
            self.emit(RequestUnscheduled(after.masked()))

    def ended(self, runs: Iterable[Run]) -> None:
        """Tell of runs that others than their process have ended, as far as they had begun or somebody held them."""
        for run in runs:
            if not run.is_active and (run.attempts or run.owner is not None):
                self.emit(RunFinished(run.masked()))

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._tell, name="bgsched-events", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread can be had just now; the next event tries again
            self._thread = None

    def settle(self, timeout: float = _LAST_WORDS) -> None:
        """Wait until every event that was emitted has been told, for *timeout* seconds at most."""
        if self._thread is threading.current_thread():
            return
        with self._changed:
            if self._thread is not None and not self._changed.wait_for(self._is_silent, timeout):
                LOGGER.warning("listeners took too long: %s events are not told yet", len(self._waiting))

    def settle_within(self, left: float) -> None:
        """Do as `settle` does at the end of a scheduler that has *left* seconds for it."""
        self.settle(min(_LAST_WORDS, max(_FEWEST_WORDS, left)))

    def _is_silent(self) -> bool:
        return not (self._waiting or self._telling)

    def _tell(self) -> None:
        while True:
            with self._changed:
                self._telling = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                event = self._waiting.popleft()
                self._telling = True
                dropped, self._dropped = (0, self._dropped) if self._waiting else (self._dropped, 0)
            if dropped:
                LOGGER.warning("%s events were dropped: listeners are slower than what happens", dropped)
            for kind, listener in tuple(self._listeners):
                if isinstance(event, kind):
                    self._call(listener, event)

    def _call(self, listener: Callable[[Any], object], event: Event) -> None:
        try:
            listener(event)
        except BaseException:  # noqa: BLE001  a listener must not end the thread that tells the others
            LOGGER.warning("a listener failed on %s", type(event).__name__, exc_info=True)

    @property
    def listening(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    # -- around runs ---------------------------------------------------------------------------------------------

    def around(self, hook: Around) -> Callable[[], None]:
        """Let every run go through ``with hook(run):``, inside those added before; return what undoes it."""
        if not callable(hook):
            raise TypeError(f"around() takes a function of the run that returns a context manager, got {hook!r}")
        return self._put(self._around, hook)

    @property
    def surrounds(self) -> bool:
        """Whether there is any around hook."""
        return bool(self._around)

    @property
    def surroundings(self) -> tuple[Around, ...]:
        """The around hooks, the outermost first."""
        return tuple(self._around)

    @contextmanager
    def surround(self, run: CurrentRun) -> Iterator[None]:
        """Enter the around hooks for *run*. None of them can swallow what the process raised."""
        failure: BaseException | None = None
        with ExitStack() as stack:
            for hook in self.surroundings:
                stack.enter_context(hook(run))
            try:
                yield
            except BaseException as error:
                failure = error
                raise
        if failure is not None:
            raise failure

    def _put(self, where: list[Any], hook: Any) -> Callable[[], None]:
        holder = [hook]
        where.append(hook)

        def undo() -> None:
            while holder:
                where.remove(holder.pop())

        return undo

    def forget_after_fork(self) -> None:
        """Leave the parent's thread and what it had not told to the parent."""
        self._changed = threading.Condition()
        self._waiting.clear()
        self._thread = None
        self._telling = False
