"""One machine of a simulation: an OS process with a scheduler, and a clock that is not quite right."""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

from bgsched._current import LiveRun
from bgsched._engine import Engine
from bgsched._events import Hooks
from bgsched._executors.crew import Crew
from bgsched._outcome import time_out
from bgsched._parts import Parts
from bgsched.clock import Signal
from bgsched.process import ProcessRegistry
from bgsched.request import Retention
from bgsched.stores import Store
from bgsched.testing.clock import ManualClock
from bgsched.testing.simulation.faults import Faults, beset

__all__ = ["SKEW", "Machine"]

SKEW = timedelta(seconds=2)
"""By how much the clocks of two schedulers may differ, one machine or many."""


class _Clock:
    """The world's time as one OS process sees it."""

    def __init__(self, world: ManualClock, skew: timedelta) -> None:
        self._world = world
        self.skew = skew

    def now(self) -> datetime:
        return self._world.now() + self.skew

    def monotonic(self) -> float:
        return self._world.monotonic()

    def wait(self, signal: Signal, timeout: float) -> None:
        raise NotImplementedError("nobody waits in a simulation")


class _Crew(Crew):
    """Executes nothing: that is for the world to do."""

    def __init__(self, workers: int, done: Callable[[LiveRun], object]) -> None:
        super().__init__(None, workers=workers, async_limit=1, hooks=Hooks(), done=done)
        self._heard = done

    def overdue(self, live: LiveRun) -> None:
        if time_out(live):
            self._heard(live)


class Machine:
    """An OS process with a scheduler: its engine, what it claimed and has not begun, and what goes on in it."""

    def __init__(
        self,
        name: str,
        random: Random,
        registry: ProcessRegistry,
        store: Store,
        clock: ManualClock,
        delay: Callable[[str, "Machine"], None],
    ) -> None:
        self.name = name
        self.faults = Faults(lambda fault: delay(fault, self))
        self.clock = _Clock(clock, SKEW * random.uniform(-0.5, 0.5))
        self.waiting: list[LiveRun] = []
        self.begun: list[LiveRun] = []
        self.hooks = Hooks()
        self._names = 0
        self.engine = Engine(
            Parts(beset(store, self.faults), registry, self.clock, self.hooks, Retention()),
            crew=_Crew(random.randint(1, 4), done=lambda live: self.engine.ended(live)),  # noqa: PLW0108  it comes later
            start_run=self.waiting.append,
            new_owner=self._new_owner,
        )

    def _new_owner(self) -> str:
        self._names += 1
        return f"{self.name}.{self._names}"
