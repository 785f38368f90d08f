"""One scheduler's life: from start to shutdown, as often as its host likes, through forks, to the program's exit.

It lives on a thread of its own (`Loop`) or, without any, in the calls of `run_pending` (`Inline`). Whoever begins a
life, ends it, or makes a pass on a thread of the host's, holds the *lifecycle*; runs never wait for it, as who has it
may be waiting for them.
"""

import atexit
import contextlib
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from bgsched import _runlog
from bgsched._changes import Changes
from bgsched._current import LiveRun, StopCause, current_among
from bgsched._engine import Engine
from bgsched._executors.crew import Crew
from bgsched._executors.place import is_importing_main, is_worker
from bgsched._forgotten import warn_of_forgotten, warn_of_unshared
from bgsched._inline import Inline
from bgsched._loop import Loop
from bgsched._moved_times import MovedTimes
from bgsched._parts import Parts
from bgsched._runlog import LOGGER
from bgsched._turns import forks
from bgsched.clock import Signal, deadline_in, left_until
from bgsched.errors import SchedulerStateError, StoreError
from bgsched.process import Filer, Pool, Process
from bgsched.run import Run
from bgsched.stores import MemoryStore

__all__ = ["Life"]

_EXIT_TIMEOUT = 5.0
_MOST_FORGOTTEN = 3  # requests that are told of when their memory goes
_LONGEST = threading.TIMEOUT_MAX / 2  # seconds that a lock can be waited for, with some to spare
_TURN = 0.5  # seconds that a shutdown whose time is over waits for a thread that starts, or that stops for it


class Life:
    """Starts, stops, and makes the passes. *filer* is the scheduler whose life it is; *executes*: whether it ever runs.

    *new_crew* makes what executes its runs, given who hears of each that is over.
    """

    def __init__(
        self,
        filer: Filer,
        parts: Parts,
        changes: Changes,
        new_crew: Callable[[Callable[[LiveRun], None]], Crew],
        *,
        executes: bool,
    ) -> None:
        self._filer = filer  # kept alive by its thread
        self._parts = parts
        self._changes = changes
        self._new_crew = new_crew
        self._executes = executes
        self._forked = False
        self._moved_times = MovedTimes(parts.store, parts.clock)
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        """Be before the first start: at first, and in a forked child."""
        self.wake = Signal()
        self.engine: Engine | None = None
        self.crew = self._new_crew(self._came_home)
        self.loop: Loop | None = None
        self.inline = Inline(self.crew, self._parts.hooks, self._parts.clock)
        self.paused = not self._executes
        self._lifecycle = threading.RLock()

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self.loop is not None and self.loop.is_alive

    @property
    def live_runs(self) -> Sequence[LiveRun]:
        """The runs that are under way here."""
        engine = self.engine
        return engine.live if engine is not None else ()

    def problems(self) -> tuple[str, ...]:
        """Return what keeps the scheduler from its work, for a monitor that the store may not tell."""
        engine = self.engine
        if engine is None or engine.problem is None:
            return ()
        return (f"this scheduler ({engine.owner}): {engine.problem} (since {engine.problem_since})",)

    def check(self, process: Process[Any, Any]) -> None:
        """Refuse a process that cannot be executed where it should be."""
        self.crew.check(process)

    def registered(self, process: Process[Any, Any]) -> None:
        """Hear of a process that was registered: what it declares is made true at once, if there is a life."""
        if self.engine is not None:
            self._changes.declare(process)
            self.wake.set()

    def stop_runs(self, cause: StopCause, concerned: Callable[[Run], bool]) -> None:
        """Ask those of the runs under way here that are *concerned* to stop, and call for a pass."""
        for live in self.live_runs:
            if concerned(live.run):
                live.ask_to_stop(cause)
        self.wake.set()

    def set_paused(self, *, paused: bool) -> None:
        """Claim nothing from now on, or go on.

        Raises:
            SchedulerStateError: it would go on, and never executes anything.
        """
        if not (paused or self._executes):
            raise SchedulerStateError("this scheduler was made with execute=False: it files requests but runs none")
        self.paused = paused
        engine = self.engine
        if engine is not None:
            engine.paused = paused
        self.wake.set()

    def before_filing(self) -> None:
        """Say by which time zone database fire times are computed, or that no scheduler looks into this memory."""
        if isinstance(self._parts.store, MemoryStore):
            forked, self._forked = self._forked, False
            warn_of_unshared(in_worker=is_worker(), in_child=forked)
        elif self.engine is None:  # which says it for all
            self._moved_times.say()

    # -- on a thread of its own ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, as `Scheduler.start`."""
        if is_importing_main():
            raise SchedulerStateError(
                "a worker process imports your main module, which starts a scheduler; "
                "put start() under if __name__ == '__main__':"
            )
        if is_worker():
            LOGGER.warning("no scheduler starts in a worker process: it only executes runs")
            return
        run = current_among(self.live_runs)
        if run is not None and self.loop is None:
            raise SchedulerStateError(
                f"run {run.id} goes on in run_pending(), so its scheduler cannot start before it ends"
            )
        with self._lifecycle:
            if self.loop is None:
                self._start()

    def _start(self) -> None:
        store = self._parts.store
        self._leave_inline()
        self._forked = False
        engine = self._sign_on(self.crew.submit, threaded=True)
        with contextlib.ExitStack() as undo:
            undo.callback(self._leave_inline)
            store.listen(self._hear)
            undo.callback(store.unlisten, self._hear)
            _runlog.capture()
            undo.callback(_runlog.release)
            if self.engine is not engine:  # a signal handler on this thread has shut it down meanwhile
                return
            self.loop = Loop(engine, self._parts.clock, self.wake)  # before it starts: runs may end at once
            undo.callback(setattr, self, "loop", None)
            self.loop.start()
            undo.pop_all()

    def _sign_on(self, start_run: Callable[[LiveRun], None], *, threaded: bool) -> Engine:
        parts = self._parts
        engine = Engine(
            parts, crew=self.crew, start_run=start_run, threaded=threaded, declare=self._changes.declare_anew
        )
        engine.paused = self.paused
        try:
            engine.sign_on()
            self.engine = engine  # from here on, a process that is registered is declared by who registers it
            for process in parts.processes:
                if process.timing is not None:
                    self.check(process)
                self._changes.declare(process)
                self._changes.warn_of_leaders(process)
        except BaseException:
            self.engine = None
            with contextlib.suppress(Exception):
                engine.sign_off()
            engine.let_go()
            raise
        engine.paused = self.paused  # it may have been paused or resumed meanwhile
        parts.processes.attach(self._filer)
        return engine

    def _came_home(self, live: LiveRun) -> None:
        """Hear of a run that is over. From any thread."""
        engine = self.engine
        if self.loop is None:
            self.inline.came_home(live)
        elif engine is not None and engine.ended(live) and not self.wake.is_set():
            self.wake.set()

    def _hear(self, asked_kill: bool) -> None:  # noqa: FBT001  called by the store
        """Hear from another scheduler's host that there is something to do."""
        engine = self.engine
        if engine is not None:
            if asked_kill:
                engine.look_now()
            self.wake.set()

    # -- the end ---------------------------------------------------------------------------------------------------

    def shutdown(self, *, wait: bool, timeout: float | None) -> tuple[Run, ...]:
        """Leave, as `Scheduler.shutdown`; return the runs that were left."""
        run = current_among(self.live_runs)
        if run is not None and wait and timeout is None:
            raise SchedulerStateError(f"run {run.id} cannot wait for its own end; write shutdown(wait=False)")
        deadline = deadline_in(0 if not wait else math.inf if timeout is None else min(timeout, _LONGEST))
        loop = self.loop
        if not self._may_shut_down(loop, deadline):
            return tuple(live.run for live in self.live_runs)
        try:
            return self._shut_down(self.loop or loop, deadline)
        finally:
            self._lifecycle.release()

    def _may_shut_down(self, loop: Loop | None, deadline: float) -> bool:
        """Take the lifecycle, until *deadline*; ``False``: it is not to be had, and who has it was told to leave."""
        engine = self.engine
        if loop is not None:
            loop.tell(deadline)
        is_within = self._parts.store.is_at_work()  # this thread, in a pass or a call of the host's
        if not is_within and self._lifecycle.acquire(timeout=min(left_until(deadline), _LONGEST) + _TURN):
            return True
        if engine is not None and not (is_within and loop is not None):  # the loop's own time is not over yet
            engine.leaving = True
            engine.stop_all(StopCause.SHUTDOWN)
        return False

    def _shut_down(self, loop: Loop | None, deadline: float) -> tuple[Run, ...]:
        """Stop the thread, or what `run_pending` left; return the runs that were left."""
        self._parts.processes.retire(self._filer)
        if loop is None:
            try:
                return self._leave_inline(deadline)
            except StoreError as error:
                LOGGER.error("the scheduler left without its store: %s", error)
                return self._walk_out()
        left = loop.stop(deadline)
        if self.loop is loop:  # another shutdown, which we waited for or which interrupted us, may have done the rest
            self._parts.store.unlisten(self._hear)
            self.crew.stop()
            self._parts.hooks.settle_within(left_until(deadline))
            _runlog.release()
            self.loop = self.engine = None
        return left

    def _leave_inline(self, deadline: float = math.inf) -> tuple[Run, ...]:
        if self.engine is None or self.loop is not None:
            return ()
        left = self.engine.sign_off()
        self.engine = None
        self.crew.stop()
        self._parts.hooks.settle_within(left_until(deadline))
        return tuple(left)

    def _walk_out(self) -> tuple[Run, ...]:
        """Leave what `run_pending` left, without the store."""
        engine, self.engine = self.engine, None
        left = [] if engine is None else engine.walk_out()
        self.crew.stop()
        return tuple(left)

    # -- without a thread ------------------------------------------------------------------------------------------

    def run_pending(self) -> datetime | None:
        """Make passes until nothing is due that was when it began, as `Scheduler.run_pending`."""
        with self._turn():
            if self.loop is not None:
                raise SchedulerStateError(
                    "the scheduler runs on its own thread; run_pending() is for one that was not started"
                )
            engine = self.engine or self._sign_on(self.inline.submit, threaded=False)
            _runlog.capture()
            try:
                self._run_due(engine)
            finally:
                _runlog.release()
                if engine.leaving and current_among(engine.live) is None:  # a shutdown that could not wait for this
                    self._shut_down(None, math.inf)
            return engine.next_due()

    def run_until_idle(self) -> datetime | None:
        """Make passes until nothing is due, as `Scheduler.run_until_idle`."""
        before = forks()
        while True:
            due = self.run_pending()
            if due is None or due > self._parts.clock.now() or self.paused or forks() != before:
                return due

    def _run_due(self, engine: Engine) -> None:
        """Run what is due now, as many at a time as are done in a moment; what becomes due later is for the next call.

        Nothing is claimed for who was told to leave or is a forked child, nor where a pass has changed nothing.
        """
        store, clock = self._parts.store, self._parts.clock
        now, before, left = clock.now(), forks(), max(100, self.crew.bound(Pool.THREADS))
        is_due = True
        while is_due and left > 0:
            seen = store.changes()
            taken = self.inline.one_pass(engine, min(engine.few(), left))
            has_left = engine.leaving or self.engine is not engine
            if has_left or forks() != before or store.changes() == seen:
                return
            left -= max(1, len(taken))
            due = engine.next_due()
            is_due = due is not None and due <= now

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lifecycle; a run does not wait for it, as who has it may be waiting for that run."""
        run = current_among(self.live_runs)
        if not self._lifecycle.acquire(blocking=run is None):
            raise SchedulerStateError(f"run {run and run.id} is waited for meanwhile, so it cannot call run_pending()")
        try:
            yield
        finally:
            self._lifecycle.release()

    # -- the OS process --------------------------------------------------------------------------------------------

    def end_with_program(self) -> None:
        """Shut down at the program's exit; say what a memory forgets that was still to do."""
        store = self._parts.store
        self.shutdown(wait=True, timeout=_EXIT_TIMEOUT)
        if isinstance(store, MemoryStore) and os.getpid() == _AT_HOME:  # a forked child's is a copy
            warn_of_forgotten(store.reader().upcoming(_MOST_FORGOTTEN), self._parts.clock.now())

    def forget_after_fork(self) -> None:
        """Be a child's copy of what lives in the parent: it has no thread, and no run but the one that forked."""
        has_thread = self.loop is not None
        self._forked = self._forked or has_thread
        if self.engine is not None:
            self.engine.forget_after_fork()
        self._parts.hooks.forget_after_fork()
        if has_thread:
            _runlog.release()
        self._reset()


_ALL: "weakref.WeakSet[Life]" = weakref.WeakSet()
_AT_HOME = os.getpid()


def _at_exit() -> None:
    for life in list(_ALL):
        with contextlib.suppress(Exception):
            life.end_with_program()


def _after_fork() -> None:
    for life in list(_ALL):
        life.forget_after_fork()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
