"""Runs on the thread of the host: what `run_pending` claimed is executed one after another, reported as it ends.

For hosts that have a loop of their own, and for tests. `Loop` is the other way: a thread that makes the passes.
"""

from collections import deque
from queue import SimpleQueue

from bgsched._current import LiveRun
from bgsched._engine import Engine
from bgsched._events import Hooks
from bgsched._executors.crew import Crew
from bgsched._worker import execute

__all__ = ["Inline"]


class Inline:
    """Executes what was claimed, for as long as its engine is not taken for dead."""

    def __init__(self, crew: Crew, hooks: Hooks) -> None:
        self.claimed: deque[LiveRun] = deque()
        self._crew = crew
        self._hooks = hooks
        self._home: SimpleQueue[LiveRun] = SimpleQueue()

    def submit(self, live: LiveRun) -> None:
        """Keep a claimed run until it is its turn."""
        self.claimed.append(live)

    def came_home(self, live: LiveRun) -> None:
        """Hear of a run that is over and that was executed elsewhere. From any thread."""
        self._home.put(live)

    def execute(self, engine: Engine) -> None:
        """Execute what *engine* has claimed.

        Raises:
            KeyboardInterrupt: Ctrl-C ended a run, which is reported; the others wait for the next call.
        """
        while self.claimed:
            live = self.claimed.popleft()
            if not engine.is_under_way(live):  # we were taken for dead meanwhile, and it may run elsewhere
                continue
            self._execute_one(live)
            if live.is_copy:  # the process forked, and this is the child: all else is the parent's
                return
            engine.ended(live)
            engine.report(finally_=True)
            if live.interrupted:
                raise KeyboardInterrupt
            engine.show_life()
        engine.lead_groups()

    def _execute_one(self, live: LiveRun) -> None:
        """Run it on this thread; what belongs elsewhere goes there, and is waited for."""
        if self._crew.is_here(live.process):
            execute(live, self._hooks)
            return
        self._crew.submit(live)
        while self._home.get() is not live:
            pass
