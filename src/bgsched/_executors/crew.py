"""All that executes the runs of one scheduler, and which process goes where.

Each way of executing is a *room* with a bound of its own, made when the first run comes. The engine claims by *lane*:
the processes of one room, up to its bound.
"""

from collections.abc import Callable
from typing import Any, Protocol

from bgsched._async import EventLoops
from bgsched._current import LiveRun
from bgsched._events import Hooks
from bgsched._executors.children import Children
from bgsched._executors.choice import Choice, ExecutorOption, HostThreads, ProcessPool, RemoteExecutor, chosen
from bgsched._executors.errand import check_travels
from bgsched._executors.foreign import Foreign
from bgsched._executors.host_threads import Guests
from bgsched._worker import Workers
from bgsched.process import Pool, Process

__all__ = ["Crew", "Lane", "Room"]

_MOST_GROUPS = 1000  # that one scheduler leads at once
Lane = Pool | ProcessPool | RemoteExecutor | HostThreads


class Room(Protocol):
    """A way of executing runs. Every call comes from one thread, the scheduler's."""

    def submit(self, live: LiveRun) -> None:
        """Begin a run, soon."""
        ...

    def overdue(self, live: LiveRun) -> None:
        """End a run whose time is over. Called once for each."""
        ...

    def stop(self) -> None:
        """Let go of everything; runs that are left may go on only where nothing can stop them."""
        ...


class Crew:
    """What executes the runs of one scheduler. *done* hears of each run that is over, from any thread."""

    def __init__(
        self,
        executor: ExecutorOption | None,
        *,
        workers: int,
        async_limit: int,
        hooks: Hooks,
        done: Callable[[LiveRun], object],
    ) -> None:
        self._default: ExecutorOption = "threads" if executor is None else executor
        self._bounds = {Pool.THREADS: workers, Pool.ASYNC: async_limit, Pool.GROUPS: _MOST_GROUPS}
        self._hooks = hooks
        self._done = done
        self._lanes: dict[Process[Any, Any], Lane] = {}
        self._choices: dict[int, tuple[ExecutorOption, Choice]] = {}
        self._rooms: dict[Lane, Room] = {}
        self._choice(self._default)

    def lane(self, process: Process[Any, Any]) -> Lane:
        """Return where a process is executed."""
        lane = self._lanes.get(process)
        if lane is None:
            lane = self._lanes[process] = self._lane(process)
        return lane

    def _lane(self, process: Process[Any, Any]) -> Lane:
        given, pool = process.executor, process.pool
        if given is None:
            if pool is not Pool.THREADS or self._default == "threads":
                return pool
            given = self._default
        choice = self._choice(given)
        return pool if choice == "threads" else choice

    def _choice(self, given: ExecutorOption) -> Choice:
        """Return what *given* stands for: for one object always the same, so that its processes share their workers."""
        kept = self._choices.get(id(given))
        if kept is None:
            kept = self._choices[id(given)] = given, chosen(given)
        return kept[1]

    def bound(self, lane: Lane) -> int:
        """Return how many runs may go on at once there."""
        if isinstance(lane, Pool):
            return self._bounds[lane]
        return lane.workers or self._bounds[Pool.THREADS]

    def check(self, process: Process[Any, Any]) -> None:
        """Refuse a process that cannot be executed where it should be.

        Raises:
            ExecutorError: it cannot; the message says what to write instead.
        """
        lane = self.lane(process)
        if isinstance(lane, ProcessPool | RemoteExecutor):
            check_travels(process, self._hooks, lane)

    def is_here(self, process: Process[Any, Any]) -> bool:
        """Whether the calling thread may execute it just as well."""
        return self.lane(process) is Pool.THREADS

    def submit(self, live: LiveRun) -> None:
        """Have a run executed."""
        self._room(self.lane(live.process)).submit(live)

    def overdue(self, live: LiveRun) -> None:
        """Have a run ended whose time is over."""
        self._room(self.lane(live.process)).overdue(live)

    def replace(self, live: LiveRun) -> None:
        """Let others take the place of what is in a run that others hold now, and that may not hear it for long."""
        room = self._room(self.lane(live.process))
        if isinstance(room, Workers | EventLoops):  # elsewhere, who does not stop when he is asked is made to
            room.replace(live)

    def end_processes(self) -> None:
        """End what goes on in OS processes of our own, after its grace: others may run it again after this."""
        for lane in [lane for lane in self._rooms if isinstance(lane, ProcessPool)]:
            self._rooms.pop(lane).stop()

    def stop(self) -> None:
        """Let everything go; what is submitted later begins anew."""
        rooms, self._rooms = list(self._rooms.values()), {}
        for room in rooms:
            room.stop()

    def _room(self, lane: Lane) -> Room:
        room = self._rooms.get(lane)
        if room is None:
            room = self._rooms[lane] = self._new(lane)
        return room

    def _new(self, lane: Lane) -> Room:
        if isinstance(lane, ProcessPool):
            return Children(lane, self._done, self._hooks)
        if isinstance(lane, RemoteExecutor):
            return Foreign(lane, self._done, self._hooks)
        if isinstance(lane, HostThreads):
            return Guests(lane, self._done, self._hooks)
        if lane is Pool.ASYNC:
            return EventLoops(self._done, self._hooks)
        return Workers(self._bounds[Pool.THREADS], self._done, self._hooks)
