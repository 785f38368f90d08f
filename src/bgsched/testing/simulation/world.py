"""The machines of a simulation and what they do: schedulers that live and die, and a host that files and changes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from copy import copy
from datetime import datetime, timedelta
from functools import partial
from random import Random

from bgsched._current import LiveRun
from bgsched._lease import LEASE
from bgsched._outcome import returned
from bgsched._runlog import LOGGER
from bgsched._worker import began
from bgsched.errors import BgschedError
from bgsched.process import ProcessRegistry
from bgsched.request import Retention
from bgsched.request.policies import check_count
from bgsched.run import Run, RunError, RunStatus
from bgsched.scheduler import Scheduler
from bgsched.stores import MemoryStore, Store
from bgsched.testing.clock import ManualClock
from bgsched.testing.simulation.checks import BrokenPromiseError, Promises
from bgsched.testing.simulation.faults import FAULTS, CrashError, Faults, beset
from bgsched.testing.simulation.groups import GROUPS
from bgsched.testing.simulation.host import BY_COMPANY, PROCESSES, timing_of, work
from bgsched.testing.simulation.machine import SKEW, Machine
from bgsched.timing import (
    Schedule,
)

__all__ = ["simulate"]

_SECOND = timedelta(seconds=1)
_LONGEST_DELAY = 8.0
_LONGEST_LULL = 40  # rounds without an end of any run, each some seconds, after which nothing will come any more


def simulate(
    seed: int,
    *,
    make_store: Callable[[], Store] = MemoryStore,
    clock: ManualClock | None = None,
    schedulers: int = 3,
    steps: int = 120,
    groups: bool = False,
) -> list[str]:
    """Simulate the history that *seed* is, *steps* long, then heal everything and let it come to rest.

    *make_store* returns a new, empty store; the caller closes it. *clock*: the world's time, for a store that has one
    of its own to follow it. *groups*: whether the host has groups too, and processes whose overlap is judged by a
    param; these are other histories. Return the steps, in words.

    Raises:
        BrokenPromiseError: a promise was broken; it tells how to see that again.
        TypeError: *make_store* makes nothing, or *seed* is no whole number.
        ValueError: *schedulers* or *steps* is no whole number from 1.
    """
    check_count("schedulers", schedulers)
    check_count("steps", steps)
    if not isinstance(seed, int):
        raise TypeError(f"seed must be a whole number, got {seed!r}")
    if not callable(make_store):
        raise TypeError(f"make_store must be what makes a store, such as MemoryStore, got {make_store!r}")
    world = _World(seed, make_store(), clock or ManualClock(), schedulers, groups=groups)
    with _quiet():
        world.live(steps)
    return world.told


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the schedulers' warnings out of the host's log: here trouble is the normal state."""
    level = LOGGER.logger.level
    LOGGER.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


class _World:
    """Everything there is: a store, a clock, schedulers, and a host that files requests."""

    def __init__(self, seed: int, store: Store, clock: ManualClock, schedulers: int, *, groups: bool) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.store = store
        self.clock = clock
        self.told: list[str] = []
        self.registry = ProcessRegistry()
        self.has_groups = groups
        for name, policies in (PROCESSES | (BY_COMPANY if groups else {})).items():
            self.registry.process(name)(work).policies = policies
        for group in GROUPS.values() if groups else ():
            self.registry.add(copy(group))
        self._most = schedulers
        self._machines: list[Machine] = []
        self._unaware: list[Machine] = []  # those that have not passed since the wall clock was set
        self._born = 0
        self._ids: list[str] = []
        self._filed = 0
        self._host_faults = Faults(self.delay)
        self._host = Scheduler(beset(store, self._host_faults), processes=self.registry, clock=self.clock)
        self._promises = Promises(store, self.registry)
        self._deleted: str | None = None
        self._purged = False
        self._moves: list[tuple[int, Callable[[], str | None]]] = [
            (30, self._pass),
            (12, self._advance),
            (14, self._begin),
            (14, self._finish),
            (8, self._write),
            (4, self._be_born),
            (3, self._crash),
            (1, self._shut_down),
            (1, self._jump),
            (8, self._file),
            (2, self._unschedule),
            (3, self._reschedule),
            (3, self._run_now),
            (2, self._kill),
            (1, self._delete),
            (1, self._purge),
        ]

    # -- the history ---------------------------------------------------------------------------------------------

    def live(self, steps: int) -> None:
        """Live through so many steps, then heal and come to rest; raise as soon as a promise is broken."""
        weights = [weight for weight, _ in self._moves]
        try:
            self._tell(self._be_born)
            lived = 0
            while lived < steps:
                ((_, move),) = self.random.choices(self._moves, weights)
                lived += self._tell(move)
            self._tell(self._heal)
        except AssertionError as broken:
            raise BrokenPromiseError(self.seed, self.told, str(broken), groups=self.has_groups) from broken

    def _tell(self, move: Callable[[], str | None]) -> bool:
        """Make a move, keep what it says, and check the promises; ``False`` when there was nothing to do."""
        self._deleted, self._purged = None, False
        self.told.append(f"{getattr(move, '__name__', 'a move').strip('_')} ...")
        said = move()
        if said is None:
            self.told.pop()
            return False
        self.told[-1] = said
        self._promises.check(self.clock.monotonic(), deleted=self._deleted, purged=self._purged)
        return True

    def delay(self, fault: str, machine: Machine | None = None) -> None:
        """Let a call of *machine* take long: time passes; in a stall, longer than a lease, and another one goes on.

        In a skew no time passes, but the clock of its host is adjusted, within what hosts may differ by.
        """
        if fault == "skew":
            if machine is not None:
                machine.clock.skew = SKEW * self.random.uniform(-0.5, 0.5)
            return
        self.clock.advance(self.random.uniform(0, _LONGEST_DELAY))
        others = [other for other in self._machines if other is not machine]
        if fault == "stall" and machine is not None and others:
            self.clock.advance(LEASE)
            self._promises.died(machine.engine.owner)
            self.random.choice(others).engine.one_pass()

    def _pick_machine(self) -> Machine | None:
        return self.random.choice(self._machines) if self._machines else None

    # -- time ----------------------------------------------------------------------------------------------------

    def _advance(self) -> str:
        span = self.random.choice((0.0, 0.3, 1.0, 1.0, 2.5, 5.0, 20.0, 90.0, 4000.0)) * self.random.uniform(0.5, 1.0)
        self.clock.advance(span)
        return f"{span:.3f} s pass"

    def _jump(self) -> str | None:
        """Set the wall clock; not twice between two passes of a scheduler, which are never more than a second apart."""
        if any(machine in self._unaware for machine in self._machines):
            return None
        self._unaware = list(self._machines)
        span = self.random.choice((-3600, -60, -3, 3, 60, 3600)) * _SECOND
        self.clock.jump(span)
        return f"the wall clock is set by {span.total_seconds():+g} s"

    # -- schedulers ----------------------------------------------------------------------------------------------

    def _suffer(self, machine: Machine, what: str, act: Callable[[], object], *, often: float = 0.25) -> str:
        """Let a machine do something, which may go wrong."""
        fault = self.random.choice(FAULTS) if self.random.random() < often else None
        calls = self.random.randrange(5)
        machine.faults.arm(fault, calls)
        said = f"{machine.name} {what}" + (f", {fault} call {calls}" if fault else "")
        try:
            act()
        except CrashError:
            self._bury(machine)
            return f"{said}: died"
        except BgschedError as error:
            return f"{said}: {error}"
        finally:
            machine.faults.arm(None)
        return said

    def _new_machine(self) -> Machine:
        return Machine(f"s{self._born}", self.random, self.registry, self.store, self.clock, self.delay)

    def _be_born(self) -> str | None:
        if len(self._machines) >= self._most:
            return None
        self._born += 1
        machine = self._new_machine()
        self._machines.append(machine)
        said = self._suffer(machine, "signs on", machine.engine.sign_on)
        if machine in self._machines and not said.endswith("signs on"):  # as a scheduler whose start() raised
            self._bury(machine)
        return said

    def _pass(self) -> str | None:
        machine = self._pick_machine()
        if machine is None:
            return None
        self._unaware = [other for other in self._unaware if other is not machine]
        said = self._suffer(machine, "passes", machine.engine.one_pass)
        if said.endswith("passes"):
            under_way = {live.run.id for live in machine.engine._live}  # noqa: SLF001  those that ended in the pass, too
            self._promises.passed(machine.engine.owner, self.clock.monotonic(), under_way)
        return said

    def _crash(self) -> str | None:
        machine = self._pick_machine()
        if machine is None:
            return None
        self._bury(machine)
        return f"{machine.name} is killed"

    def _shut_down(self) -> str | None:
        machine = self._pick_machine()
        if machine is None:
            return None
        said = self._suffer(machine, "is shut down", machine.engine.sign_off)
        if machine in self._machines:
            machine.engine.let_go()
            self._bury(machine)
        return said

    def _bury(self, machine: Machine) -> None:
        """End an OS process: what ran in it is gone, and the kernel lets go of what it held."""
        self._machines.remove(machine)
        self.store.let_go(machine.engine.owner)
        self._promises.died(machine.engine.owner)

    # -- runs ----------------------------------------------------------------------------------------------------

    def _begin(self) -> str | None:
        machine = self._pick_machine()
        if machine is None or not machine.waiting:
            return None
        live = machine.waiting.pop(0)
        return self._begin_run(machine, live)

    def _begin_run(self, machine: Machine, live: LiveRun) -> str:
        if not copy_context().run(began, live, machine.hooks):
            machine.engine.ended(live)
            return f"{machine.name}: run {live.run.id} must not begin any more"
        self._promises.began(live.run, [other.run for machine in self._machines for other in machine.begun])
        machine.begun.append(live)
        self._write_line(live, "begun")
        return f"{machine.name} begins run {live.run.id} of {live.run.request_id}, attempt {live.run.attempt}"

    def _write(self) -> str | None:
        machine = self._pick_machine()
        if machine is None or not machine.begun:
            return None
        live = self.random.choice(machine.begun)
        self._write_line(live, f"line at {self.clock.monotonic():.3f}")
        return f"run {live.run.id} writes a line"

    def _write_line(self, live: LiveRun, text: str) -> None:
        live.log.write("INFO", "simulated", text)
        self._promises.wrote(live.run, text)

    def _finish(self) -> str | None:
        machine = self._pick_machine()
        if machine is None or not machine.begun:
            return None
        live = machine.begun.pop(self.random.randrange(len(machine.begun)))
        return self._finish_run(machine, live, succeeds=self.random.random() < 0.6)  # noqa: PLR2004  more often than not

    def _finish_run(self, machine: Machine, live: LiveRun, *, succeeds: bool) -> str:
        retry = live.process.policies.retry
        live.looked = live.asked

        def end(run: Run, now: datetime, spent: timedelta) -> Run:
            if live.looked:
                return returned(live, None)(run, now, spent)
            if succeeds:
                return run.move(RunStatus.SUCCESS, finished_at=now, duration=spent)
            error, delay = RunError("Simulated", "it failed"), retry.delay_after(len(run.attempts) + 1)
            if delay is not None:
                return run.again(RunStatus.ERROR, now, now + delay, reason="it failed", error=error)
            return run.move(RunStatus.ERROR, finished_at=now, duration=spent, error=error)

        live.close(end)
        self._promises.finished(live.run.id, live.run.attempt, live.owner)
        machine.engine.ended(live)
        return f"{machine.name} ends run {live.run.id}: {live.run.status.value}"

    # -- the host ------------------------------------------------------------------------------------------------

    def _ask(self, what: str, act: Callable[[], object]) -> str:
        fault = self.random.choice((None, None, None, "fail before", "fail after", "delay"))
        self._host_faults.arm(fault, self.random.randrange(2))
        said = what + (f", {fault}" if fault else "")
        try:
            act()
        except BgschedError as error:
            return f"{said}: {error}"
        finally:
            self._host_faults.arm(None)
        return said

    def _pick_id(self) -> str:
        return self.random.choice(self._ids) if self._ids else "r0"

    def _file(self) -> str:
        self._filed += 1
        id, process, timing = (
            f"r{self._filed}",
            self.random.choice([process.name for process in self.registry]),
            timing_of(self.random, self.clock.now()),
        )
        params = {"company": self.random.choice("ab")} if process in BY_COMPANY else None
        self._ids.append(id)
        said = f"file {id}: {process}, {timing!r}, {params}"
        return self._ask(said, lambda: self._host.schedule(process, timing, params, id=id))

    def _unschedule(self) -> str:
        id = self._pick_id()
        return self._ask(f"unschedule {id}", lambda: self._host.unschedule(id))

    def _reschedule(self) -> str:
        id, timing = self._pick_id(), timing_of(self.random, self.clock.now()) if self.random.random() < 0.5 else None  # noqa: PLR2004  a coin
        return self._ask(f"reschedule {id}: {timing!r}", lambda: self._host.reschedule(id, timing))

    def _run_now(self) -> str:
        id = self._pick_id()

        def run_twice() -> None:
            for _ in range(self.random.choice((1, 1, 2))):
                if self._host.store.reader().find_request(id) is not None:
                    self._host.run_now(id)

        return self._ask(f"run {id} now", run_twice)

    def _kill(self) -> str | None:
        runs = self._host.monitor.runs(status=("waiting", "running"))
        if not runs:
            return None
        run = self.random.choice(runs)
        return self._ask(f"kill run {run.id}", lambda: self._host.kill(run.id))

    def _delete(self) -> str:
        self._deleted = self._pick_id()
        return self._ask(f"delete {self._deleted}", lambda: self._host.delete(self._deleted or ""))

    def _purge(self) -> str:
        self._purged = True
        retention = Retention(success=timedelta(minutes=1), other=timedelta(minutes=2))
        return self._ask("purge", lambda: self._host.store.purge(retention, self.clock.now(), 50))

    # -- the end -------------------------------------------------------------------------------------------------

    def _heal(self) -> str:
        """Let nothing go wrong any more, let whoever lives do its work, and look whether all of it gets done."""
        if not self._machines:
            self._most += 1
            self._tell(self._be_safely_born)
        for id in self._ids:
            self._tell(partial(self._stop_quietly, id))
        self.clock.advance(12 * 3600.0)  # the wall clock may have been set back by hours
        ended, lull = 0, 0
        while lull < _LONGEST_LULL and not self._is_at_rest():
            self.clock.advance(self.random.uniform(1, 10))
            self._work_off()
            lull = lull + 1 if self._promises.ended == ended else 0
            ended = self._promises.ended
        self._promises.check_rest(self.clock.now())
        return "all is at rest"

    def _is_at_rest(self) -> bool:
        return self._promises.all_ended() and self.store.reader().next_due(self.registry.names()) is None

    def _be_safely_born(self) -> str:
        self._born += 1
        machine = self._new_machine()
        self._machines.append(machine)
        machine.engine.sign_on()
        return f"{machine.name} signs on, and nothing goes wrong any more"

    def _stop_quietly(self, id: str) -> str:
        """Give a request that fires for ever its end, without touching what of it waits."""
        request = self.store.reader().find_request(id)
        if request is None or not isinstance(request.timing, Schedule):
            return f"{id} comes to its end by itself"
        self.store.change(id, lambda found: found and found.unscheduled(self.clock.now()), self.clock.now())
        return f"{id} fires no more"

    def _work_off(self) -> None:
        for machine in list(self._machines):
            machine.engine.one_pass()
            self._promises.check(self.clock.monotonic())
            while machine.waiting:
                self._begin_run(machine, machine.waiting.pop(0))
            while machine.begun:
                self._finish_run(machine, machine.begun.pop(), succeeds=True)
            machine.engine.one_pass()
            self._promises.check(self.clock.monotonic())
