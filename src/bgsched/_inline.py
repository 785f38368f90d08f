"""Runs on the thread of the host: what a pass of `run_pending` claimed is executed one after another.

For hosts that have a loop of their own, and for tests. `Loop` is the other way: a thread that makes the passes. Here
nothing but the run itself can see to the engine while it goes on, so it does, when it begins and at its looks: it tells
the store where it stands and ends what came before it, shows a heartbeat, hears of kills, and sees that its time is
over. A process that never looks hears nothing before its end.
"""

import math
from collections import deque
from contextvars import Context, copy_context
from functools import partial
from queue import Empty, SimpleQueue

from bgsched._current import ATTEND_EVERY, LiveRun
from bgsched._engine import Engine
from bgsched._events import Hooks
from bgsched._executors.crew import Crew
from bgsched._runlog import LOGGER
from bgsched._worker import execute
from bgsched.clock import Clock
from bgsched.errors import StoreError

__all__ = ["Inline"]

_SHARE = 10  # looks at the scheduler take a tenth of a run's time at most, even where the store is slow
_LOOK = 0.1  # seconds between two looks while a run is executed elsewhere


class Inline:
    """Makes passes, and executes what was claimed, for as long as its engine is not taken for dead."""

    def __init__(self, crew: Crew, hooks: Hooks, clock: Clock) -> None:
        self.claimed: deque[LiveRun] = deque()
        self._crew = crew
        self._hooks = hooks
        self._clock = clock
        self._home: SimpleQueue[LiveRun] = SimpleQueue()
        self._within: LiveRun | None = None  # whose process this thread is in, and in no pass
        self._next_look = 0.0

    def submit(self, live: LiveRun) -> None:
        """Keep a claimed run until it is its turn."""
        self.claimed.append(live)

    def came_home(self, live: LiveRun) -> None:
        """Hear of a run that is over; one that was executed elsewhere is waited for. From any thread."""
        if not self._crew.is_here(live.process):
            self._home.put(live)

    def one_pass(self, engine: Engine, limit: int) -> list[LiveRun]:
        """Make a pass of *engine*, execute what it has claimed, and return that; a run may call this, too.

        Raises:
            KeyboardInterrupt: Ctrl-C ended a run, which is reported; the others wait for the next call.
        """
        outer, self._within = self._within, None
        try:
            engine.one_pass(limit)
            claimed = list(self.claimed)
            self._execute_all(engine)
            return claimed
        finally:
            self._within = outer

    def _execute_all(self, engine: Engine) -> None:
        outside = copy_context()  # what is said of a run does not belong into its log
        while self.claimed and not engine.leaving:  # what was claimed goes back when it leaves
            live = self.claimed.popleft()
            if not engine.is_under_way(live):  # we were taken for dead meanwhile, and it may run elsewhere
                continue
            self._execute_one(live, partial(self._attend, live, engine, outside))
            if live.is_copy:  # the process forked, and this is the child: all else is the parent's
                return
            engine.ended(live)  # it is reported with the begin of the next one
            if live.interrupted or engine.owes:
                engine.report(finally_=True)
            if live.interrupted:
                raise KeyboardInterrupt
            engine.show_life()
        engine.lead_groups()

    def _execute_one(self, live: LiveRun, attend: "partial[None]") -> None:
        """Run it on this thread; what belongs elsewhere goes there, and is waited for."""
        self._within, self._next_look = live, -math.inf
        try:
            if self._crew.is_here(live.process):
                live.attendant = attend
                execute(live, self._hooks)
            else:
                self._crew.submit(live)
                attend()
                while not (self._is_home(live) or (live.closed and live.began is None)):  # that never will
                    attend()
        finally:
            self._within = live.attendant = None

    def _is_home(self, live: LiveRun) -> bool:
        try:
            return self._home.get(timeout=_LOOK) is live
        except Empty:
            return False

    def _attend(self, live: LiveRun, engine: Engine, outside: Context) -> None:
        """See to the engine, not too often and not within a pass."""
        began = self._clock.monotonic()
        if self._within is not live or began < self._next_look:
            return
        self._within = None
        try:
            outside.run(_see_to, engine, live)
        finally:
            ended = self._clock.monotonic()
            self._next_look = ended + max(ATTEND_EVERY, _SHARE * (ended - began))
            self._within = live


def _see_to(engine: Engine, live: LiveRun) -> None:
    """Let no process fail of what its scheduler cannot do. What the store does not take is kept, and tried again."""
    try:
        engine.attend(live)
    except StoreError:  # if it still does not take it after the run, that is raised there
        pass
    except Exception as error:  # noqa: BLE001  see above
        LOGGER.error("run %s goes on, but its scheduler cannot work: %s", live.run.id, error, exc_info=error)
