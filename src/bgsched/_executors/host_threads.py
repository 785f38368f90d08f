"""A `ThreadPoolExecutor` of the host's: the same OS process, so a run is executed there as on threads of our own."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from bgsched._current import LiveRun
from bgsched._events import Hooks
from bgsched._executors.choice import HostThreads
from bgsched._outcome import time_out
from bgsched._worker import execute, fail_on_the_way

__all__ = ["Guests"]


class Guests:
    """Runs on the host's threads. Those that hang keep their thread: it is the host's to replace."""

    def __init__(self, threads: HostThreads, done: Callable[[LiveRun], object], hooks: Hooks) -> None:
        self._executor = threads.executor
        self._done = done
        self._hooks = hooks

    def submit(self, live: LiveRun) -> None:
        """Hand a run over."""
        try:
            future = self._executor.submit(execute, live, self._hooks)
        except RuntimeError as error:  # it was shut down
            fail_on_the_way(live, error, self._hooks)
            self._done(live)
        else:
            future.add_done_callback(partial(self._came_back, live))

    def overdue(self, live: LiveRun) -> None:
        """End a run whose time is over; its thread is told."""
        if time_out(live):
            self._done(live)

    def stop(self) -> None:
        """Do nothing: the threads are the host's."""

    def _came_back(self, live: LiveRun, future: Future[None]) -> None:
        if future.cancelled():
            live.put_back("its executor was shut down")
        elif (error := future.exception()) is not None:  # no thread took it: their initializer failed
            fail_on_the_way(live, error, self._hooks)
        self._done(live)
