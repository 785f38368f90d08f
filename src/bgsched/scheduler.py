"""The scheduler: what a host application holds.

It files requests, and it runs them: on one thread of its own that passes over the store (`Loop`) and a few that
execute (`Workers`), or, without any thread, a pass at a time from the caller (`run_pending`, `Inline`).
"""

import atexit
import contextlib
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload
from zoneinfo import ZoneInfo

from typing_extensions import Unpack

from bgsched import _runlog
from bgsched._calendar.fields import zone_key
from bgsched._current import LiveRun, StopCause, current_among
from bgsched._engine import Engine
from bgsched._events import Around, E, Hooks, RequestScheduled
from bgsched._executors.choice import ExecutorOption
from bgsched._executors.crew import Crew
from bgsched._executors.place import is_importing_main, is_worker
from bgsched._filing import Desk, Wish, sought_request, sought_run, wish_of
from bgsched._forgotten import warn_of_forgotten, warn_of_unshared
from bgsched._inline import Inline
from bgsched._loop import Loop
from bgsched._names import is_storable
from bgsched._runlog import LOGGER
from bgsched._turns import forks
from bgsched.clock import Clock, Signal, SystemClock, deadline_in, left_until
from bgsched.errors import SchedulerStateError, StoreError, UnknownRequestError, did_you_mean
from bgsched.monitor import Monitor
from bgsched.process import PR, Pool, Process, ProcessOptions, ProcessRegistry
from bgsched.request import Request, RequestStatus, Retention
from bgsched.request.policies import check_count
from bgsched.run import Run, RunStatus
from bgsched.stores import MemoryStore, Store, not_a_store, open_store
from bgsched.timing import Immediate, Timing

__all__ = ["Scheduler", "ShutdownReport"]

P = ParamSpec("P")
R = TypeVar("R")

_EXIT_TIMEOUT = 5.0
_LONGEST = threading.TIMEOUT_MAX / 2  # seconds that a lock can be waited for, with some to spare
_TURN = 0.5  # seconds that a shutdown whose time is over waits for a thread that starts, or that stops for it
_MOST_FORGOTTEN = 3  # requests that are told of when their memory goes


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """What a shutdown left: the runs that had not ended, as they were recorded."""

    left: tuple[Run, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing was left."""
        return not self.left


class Scheduler:
    """Files requests for processes, and runs them.

    Args:
        store: a `Store` or the URL of one (`open_store`); ``None`` is a new `MemoryStore`.
        processes: the processes it can run; ``None`` is a new registry.
        workers: how many runs go on at once; async ones are not counted, and those elsewhere have bounds of their own.
        async_limit: how many async runs go on at once.
        executor: what executes the runs of processes that are not async and have no executor of their own: a
            `ProcessPool` or any `concurrent.futures.Executor`. ``None``: threads of the scheduler's own.
        timezone: where timings that name no zone are read, an IANA name or a ``ZoneInfo``.
        retention: how long ended runs are kept.
        clock: where time comes from; ``None`` is the machine's clock.
        around: what every run goes through, as `around` takes it; one or several.
        execute: ``False`` files requests but runs none, ever: others that share the store do.

    Raises:
        StoreError: the store cannot be opened.
        TimingError: the time zone is unknown.
        TypeError: *store* is neither, or another argument is not of its kind.
        ValueError: *workers* or *async_limit* is no whole number from 1, or *executor* executes nothing.
    """

    def __init__(
        self,
        store: Store | str | None = None,
        *,
        processes: ProcessRegistry | None = None,
        workers: int = 10,
        async_limit: int = 1000,
        executor: ExecutorOption | None = None,
        timezone: str | ZoneInfo = "UTC",
        retention: Retention | None = None,
        clock: Clock | None = None,
        around: Around | Iterable[Around] = (),
        execute: bool = True,
    ) -> None:
        check_count("workers", workers)
        check_count("async_limit", async_limit)
        _check_kind("processes", ProcessRegistry, processes)
        _check_kind("retention", Retention, retention)
        _check_clock(clock)
        self._zone = zone_key(timezone)
        self.store: Store = _opened(store)
        self.processes: ProcessRegistry = processes if processes is not None else ProcessRegistry()
        self.processes.attach(self)
        self._executes = execute
        self._retention = retention or Retention()
        self._clock = clock or SystemClock()
        self.monitor: Monitor = Monitor(self.store, clock=self._clock, witness=self._problems)
        self._forked = False
        self._hooks = Hooks(around)
        self._executor = executor
        self._new_crew = partial(
            Crew, executor, workers=workers, async_limit=async_limit, hooks=self._hooks, done=self._came_home
        )
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        """Be a scheduler that has not started: at first, and in a forked child."""
        self._lifecycle = threading.RLock()
        self._wake = Signal()
        self._engine: Engine | None = None
        self._crew = self._new_crew()
        self._desk = Desk(self.processes, self._zone, self._crew.check)
        self._loop: Loop | None = None
        self._inline = Inline(self._crew, self._hooks, self._clock)
        self._paused = not self._executes

    def __repr__(self) -> str:
        return f"<Scheduler on {self.store!r}, {'running' if self.running else 'not running'}>"

    # -- processes -----------------------------------------------------------------------------------------------

    @overload
    def process(self, name: Callable[P, R], /) -> Process[P, R]: ...

    @overload
    def process(
        self,
        name: str | None = None,
        /,
        *,
        timing: Timing | None = None,
        executor: ExecutorOption | None = None,
        **options: Unpack[ProcessOptions],
    ) -> Callable[[Callable[P, R]], Process[P, R]]: ...

    def process(
        self,
        name: Any = None,
        /,
        *,
        timing: Timing | None = None,
        executor: ExecutorOption | None = None,
        **options: Unpack[ProcessOptions],
    ) -> Any:
        """Register the decorated function as a process; as `ProcessRegistry.process`."""
        return self.processes.process(name, timing=timing, executor=executor, **options)

    def registered(self, process: Process[Any, Any]) -> None:
        """Declare the timing of a process that was registered while the scheduler runs.

        Whether its executor can execute it is not known yet: its name may stand in its module only after this.
        """
        if self._engine is not None:
            self._declare(process)
            self._wake.set()

    def add(self, process: PR) -> PR:
        """Register a process that was made on its own, such as a `ProcessGroup`; as `ProcessRegistry.add`."""
        return self.processes.add(process)

    # -- hooks ---------------------------------------------------------------------------------------------------

    def on(self, kind: type[E], listener: Callable[[E], object]) -> Callable[[], None]:
        """Call *listener* with every event of this kind that happens in this scheduler; return what undoes it.

        Listeners are called one after another on a thread of their own. One that raises is logged; when they are so
        slow that thousands of events wait, further ones are dropped, and how many is logged. `Event` is every kind.

        Raises:
            TypeError: *kind* is no kind of event, or *listener* is async: nobody would await it.
        """
        return self._hooks.on(kind, listener)

    def around(self, hook: Around) -> Callable[[], None]:
        """Let every run go through ``with hook(run):``; return what undoes it.

        *hook* is given the run that `current_run` returns, on the thread or event loop that executes it. What it raises
        ends the run in error; what the process raises it sees but cannot swallow. Those added first are outermost.
        """
        return self._hooks.around(hook)

    # -- filing --------------------------------------------------------------------------------------------------

    def schedule(
        self,
        process: str | Process[Any, Any],
        timing: Timing,
        params: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        user: str | None = None,
        channel: str = "code",
    ) -> Request:
        """File a request: run *process* with *params* when *timing* says.

        When this returns, the request is stored: on SQLite and PostgreSQL it survives the death of the OS process and
        of the power. *user* is who asks, *channel* by what: ``"code"``, ``"dashboard"``, ``"cli"``, or a word of the
        host's own. Both are kept on the request and its runs.

        Raises:
            UnknownProcessError: no process of that name is registered here.
            ExecutorError: the executor of the process cannot execute it.
            ParamsError: the params do not fit the process, or are not JSON.
            TimingError: the timing has no fire time left.
            RequestExistsError: the id is taken.
            ValueError: the id, the user or the channel is nothing that a store can hold.
            StoreUnavailableError: the store could not take it.
        """
        request = self._desk.request(process, timing, params, self._clock.now(), id=id, user=user, channel=channel)
        self._warn_of_unshared()
        self.store.file([request])
        self._wake.set()
        self._hooks.emit(RequestScheduled(request.masked()))
        return request

    def schedule_many(
        self,
        wishes: Iterable[Wish],
        *,
        user: str | None = None,
        channel: str = "code",
    ) -> list[Request]:
        """File many requests, ``(process, timing, params)`` each, in one transaction: all of them or none.

        Raises:
            BgschedError: as `schedule`, for the first that cannot be filed.
            ValueError: one of them is no such triple.
        """
        now = self._clock.now()
        requests = [
            self._desk.request(process, timing, params, now, user=user, channel=channel)
            for process, timing, params in map(wish_of, wishes)
        ]
        self._warn_of_unshared()
        self.store.file(requests)
        self._wake.set()
        if self._hooks.listening:
            for request in requests:
                self._hooks.emit(RequestScheduled(request.masked()))
        return requests

    def unschedule(self, id: str) -> Request:
        """Stop the future fire times of a request; what runs goes on, what waits is skipped, the record stays.

        A run that a scheduler has claimed may begin in the next moment; if no worker comes for it, it is skipped, too.

        Raises:
            UnknownRequestError: there is no such request.
            StoreUnavailableError: the store could not take it.
        """
        return self._change(
            id,
            lambda request: (
                request.unscheduled(self._clock.now()) if request.status is RequestStatus.SCHEDULED else request
            ),
            end_waiting="its request was unscheduled while it waited",
        )

    def reschedule(
        self,
        id: str,
        timing: Timing | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        user: str | None = None,
        channel: str | None = None,
    ) -> Request:
        """Give a request fire times again, under the same id: with a new timing, or with the one it has.

        It may be scheduled, unscheduled or complete, and a run of it may be going on: that one is not touched. Its
        priority becomes what the code says today. *params* may be what a monitor shows: a sensitive value that it masks
        stays as it was.

        Raises:
            UnknownRequestError: there is no such request.
            ParamsError: the new params do not fit.
            TimingError: the timing has no fire time left.
            StoreUnavailableError: the store could not take it.
        """
        now = self._clock.now()
        return self._change(
            id, lambda found: self._desk.rescheduled(found, timing, params, now, user=user, channel=channel)
        )

    def run_now(
        self,
        process_or_id: str | Process[Any, Any],
        *,
        params: Mapping[str, Any] | None = None,
        user: str | None = None,
        channel: str = "code",
    ) -> Request:
        """Run a request once, now, beside its fire times; or a process, as a new immediate request.

        A string is the id of a request if there is one, else the name of a process. A run of the same request that is
        in the way is waited for.

        Raises:
            UnknownProcessError: there is neither such a request nor such a process.
            ExecutorError: the executor of the process cannot execute it.
            ParamsError: the params do not fit the process, or are not JSON.
            StoreUnavailableError: the store could not take it.
        """
        found = None
        if isinstance(process_or_id, str):
            found = self.store.reader().find_request(process_or_id) if is_storable(process_or_id) else None
        if found is None:
            return self.schedule(process_or_id, Immediate(), params, user=user, channel=channel)
        self._warn_of_unshared()
        self.store.enqueue(self._desk.run_beside(found, params, self._clock.now(), user=user, channel=channel))
        self._wake.set()
        return self.monitor.request(found.id)

    def delete(self, id: str) -> None:
        """Delete a request with its runs and their logs. A run that goes on is asked to stop, elsewhere by and by.

        Raises:
            UnknownRequestError: there is no such request.
            StoreUnavailableError: the store could not take it.
        """
        self.store.delete(sought_request(id), ended=self._deleted)
        for live in self._live_runs():
            if live.run.request_id == id:
                live.ask_to_stop(StopCause.DELETED)
        self._wake.set()

    def kill(self, run_id: int) -> Run:
        """Ask a run to stop; return it as it is at that moment. A process stops when it next looks.

        Raises:
            UnknownRunError: there is no such run.
            StoreUnavailableError: the store could not take it.
        """
        run = self.store.kill(sought_run(run_id), self._clock.now(), ended=self._hooks.ended)
        for live in self._live_runs():
            if live.run.id == run_id:
                live.ask_to_stop(StopCause.KILLED)
        self._wake.set()
        return run.masked()

    # -- running -------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the scheduler's thread runs."""
        return self._loop is not None and self._loop.is_alive

    @property
    def retention(self) -> Retention:
        """How long ended runs are kept."""
        return self._retention

    @property
    def paused(self) -> bool:
        """Whether it files requests but runs none."""
        return self._paused

    def start(self) -> Self:
        """Start the thread, declare the timings of the code, and end what dead schedulers left. Twice is once.

        In a worker of a `ProcessPool`, which imports the host's modules, it does nothing, and says so.

        Raises:
            StoreError: the store cannot be reached now.
            ExecutorError: the executor of a process whose timing is declared cannot execute it.
            UnknownProcessError: a group whose timing is declared has a member that is not registered here.
            ParamsError: such a member does not take the params that it is given.
            ProcessNameError: such a group contains itself.
            SchedulerStateError: a worker imports the main module, and that starts a scheduler; or a run that
                `run_pending` executes wants to start it.
        """
        if is_importing_main():
            raise SchedulerStateError(
                "a worker process imports your main module, which starts a scheduler; "
                "put start() under if __name__ == '__main__':"
            )
        if is_worker():
            LOGGER.warning("no scheduler starts in a worker process: it only executes runs")
            return self
        run = current_among(self._live_runs())
        if run is not None and self._loop is None:
            raise SchedulerStateError(
                f"run {run.id} goes on in run_pending(), so its scheduler cannot start before it ends"
            )
        with self._lifecycle:
            if self._loop is not None:
                return self
            self._leave_inline()
            self._forked = False
            engine = self._sign_on(self._crew.submit, threaded=True)
            with contextlib.ExitStack() as undo:
                undo.callback(self._leave_inline)
                self.store.listen(self._hear)
                undo.callback(self.store.unlisten, self._hear)
                _runlog.capture()
                undo.callback(_runlog.release)
                if self._engine is not engine:  # a signal handler on this thread has shut it down meanwhile
                    return self
                self._loop = Loop(engine, self._clock, self._wake)  # before it starts: runs may end at once
                undo.callback(setattr, self, "_loop", None)
                self._loop.start()
                undo.pop_all()
        return self

    def shutdown(self, wait: bool = True, timeout: float | None = None) -> ShutdownReport:  # noqa: FBT001, FBT002  public name
        """Stop claiming, let what runs come to its end, and leave.

        *wait*: whether runs are waited for; *timeout*: for how many seconds at most (``None``: as long as it takes).
        Runs that are left are asked to stop and recorded as abandoned; those that were claimed and had not started wait
        for another scheduler. Listeners have what is left of the time to hear of it all: half a second at least, five
        at most. Shutting down twice is fine, and who has less time hurries who waits already.

        Where it cannot wait, as another thread is in `run_pending` or this one was interrupted within a call of the
        store, it tells everything to stop, and returns what goes on; shut down again when that is over.

        The time is real time, whatever clock the scheduler has: that is what threads take.

        Raises:
            SchedulerStateError: a run of this scheduler wants to wait for itself.
            TypeError: *wait* is neither ``True`` nor ``False``, or *timeout* no number.
            ValueError: *timeout* is NaN.
        """
        if not isinstance(wait, bool):
            hint = f"; write shutdown(timeout={wait!r})" if isinstance(wait, int | float) else ""
            raise TypeError(f"wait must be True or False, got {wait!r}{hint}")
        if not isinstance(timeout, int | float | None):
            raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}")
        if isinstance(timeout, float) and math.isnan(timeout):
            raise ValueError(f"timeout must be a number of seconds or None, got {timeout!r}")
        run = current_among(self._live_runs())
        if run is not None and wait and timeout is None:
            raise SchedulerStateError(f"run {run.id} cannot wait for its own end; write shutdown(wait=False)")
        deadline = deadline_in(0 if not wait else math.inf if timeout is None else min(timeout, _LONGEST))
        loop = self._loop
        if not self._may_shut_down(loop, deadline):
            return ShutdownReport(tuple(live.run for live in self._live_runs()))
        try:
            return ShutdownReport(self._shut_down(self._loop or loop, deadline))
        finally:
            self._lifecycle.release()

    def _may_shut_down(self, loop: Loop | None, deadline: float) -> bool:
        """Take the lifecycle, until *deadline*; ``False``: it is not to be had, and all was told to stop."""
        if loop is not None:
            loop.tell(deadline)
        if self.store.is_at_work():
            if loop is None and self._engine is not None:  # run_pending goes on below this
                self._engine.stop_all(StopCause.SHUTDOWN)
            return False
        engine = self._engine
        if self._lifecycle.acquire(timeout=min(left_until(deadline), _LONGEST) + _TURN):
            return True
        if engine is not None:
            engine.stop_all(StopCause.SHUTDOWN)
        return False

    def _shut_down(self, loop: Loop | None, deadline: float) -> tuple[Run, ...]:
        """Stop the thread, or what `run_pending` left; return the runs that were left."""
        self.processes.retire(self)
        if loop is None:
            self._leave_inline(deadline)
            return ()
        left = loop.stop(deadline)
        if self._loop is loop:  # another shutdown, which we waited for or which interrupted us, may have done the rest
            self.store.unlisten(self._hear)
            self._crew.stop()
            self._hooks.settle_within(left_until(deadline))
            _runlog.release()
            self._loop = self._engine = None
        return left

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def pause(self) -> None:
        """Run nothing more here until `resume`; requests can still be filed, what runs goes on, others run on.

        What was claimed here and has not begun is put back, for others.
        """
        self._set_paused(paused=True)

    def resume(self) -> None:
        """Run again what is due; what passed its grace meanwhile follows its misfire policy.

        Raises:
            SchedulerStateError: this scheduler was made with ``execute=False``.
        """
        if not self._executes:
            raise SchedulerStateError("this scheduler was made with execute=False: it files requests but runs none")
        self._set_paused(paused=False)

    def _set_paused(self, *, paused: bool) -> None:
        self._paused = paused
        engine = self._engine
        if engine is not None:
            engine.paused = paused
        self._wake.set()

    def run_pending(self) -> datetime | None:
        """Run what is due now, on this thread, one after another; return when something is due next.

        For hosts that have a loop of their own, and for tests. Not while the scheduler's thread runs. Only what is done
        in a moment is claimed at once, the rest waits for whoever is free; after a hundred runs, for the next call.

        A run has the thread until it ends. Kills from elsewhere, its timeout and the heartbeat are seen to, and its
        progress and log are stored, when it begins and whenever it looks (`CurrentRun.killed`, ``raise_if_killed``,
        ``track``, ``progress``, ``sleep``), every half second at most; where it never looks, when it has ended. A run
        that belongs to an executor, or is async, is executed there, and waited for.

        Raises:
            SchedulerStateError: the scheduler's thread runs; or a run calls it that is waited for on another thread.
            BgschedError: as `start`, where it declares the timings of the code; or the store cannot be reached now.
        """
        with self._turn():
            if self._loop is not None:
                raise SchedulerStateError(
                    "the scheduler runs on its own thread; run_pending() is for one that was not started"
                )
            engine = self._engine or self._sign_on(self._inline.submit, threaded=False)
            _runlog.capture()
            try:
                self._run_due(engine)
            finally:
                _runlog.release()
            return engine.next_due()

    def _run_due(self, engine: Engine) -> None:
        """Run what is due now, as many at a time as are done in a moment; what becomes due later is for the next call.

        Nothing is claimed for who was told to stop or is a forked child, nor where a pass has changed nothing.
        """
        now, before, left = self._clock.now(), forks(), max(100, self._crew.bound(Pool.THREADS))
        is_due = True
        while is_due and left > 0:
            seen = self.store.changes()
            taken = self._inline.one_pass(engine, min(engine.few(), left))
            was_stopped = self._engine is not engine or any(live.cause is StopCause.SHUTDOWN for live in taken)
            if was_stopped or forks() != before or self.store.changes() == seen:
                return
            left -= max(1, len(taken))
            due = engine.next_due()
            is_due = due is not None and due <= now

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lifecycle; a run does not wait for it, as who has it may be waiting for that run."""
        run = current_among(self._live_runs())
        if not self._lifecycle.acquire(blocking=run is None):
            raise SchedulerStateError(f"run {run and run.id} is waited for meanwhile, so it cannot call run_pending()")
        try:
            yield
        finally:
            self._lifecycle.release()

    def run_until_idle(self) -> datetime | None:
        """`run_pending` until nothing is due at the present instant; return when something is due next.

        Runs hear and are seen as in `run_pending`: where a process never looks, it is not ended before it ends.
        """
        before = forks()
        while True:
            due = self.run_pending()
            if due is None or due > self._clock.now() or self._paused or forks() != before:
                return due

    # -- parts -----------------------------------------------------------------------------------------------

    def _problems(self) -> tuple[str, ...]:
        """Return what keeps this scheduler from its work, for a monitor that the store may not tell."""
        engine = self._engine
        if engine is None or engine.problem is None:
            return ()
        return (f"this scheduler ({engine.owner}): {engine.problem} (since {engine.problem_since})",)

    def _live_runs(self) -> Sequence[LiveRun]:
        engine = self._engine
        return engine.live if engine is not None else ()

    def _came_home(self, live: LiveRun) -> None:
        """Hear of a run that is over. From any thread."""
        engine = self._engine
        if self._loop is None:
            self._inline.came_home(live)
        elif engine is not None and engine.ended(live) and not self._wake.is_set():
            self._wake.set()

    def _hear(self, asked_kill: bool) -> None:  # noqa: FBT001  called by the store
        """Hear from another scheduler's host that there is something to do."""
        engine = self._engine
        if engine is not None:
            if asked_kill:
                engine.look_now()
            self._wake.set()

    def _sign_on(self, start_run: Callable[[LiveRun], None], *, threaded: bool) -> Engine:
        engine = Engine(
            self.store,
            self.processes,
            self._clock,
            crew=self._crew,
            retention=self._retention,
            hooks=self._hooks,
            start_run=start_run,
            threaded=threaded,
            declare=self._declare_anew,
        )
        engine.paused = self._paused
        try:
            engine.sign_on()
            self._engine = engine  # from here on, a process that is registered is declared by who registers it
            for process in self.processes:
                if process.timing is not None:
                    self._crew.check(process)
                self._declare(process)
                self._look_for_leaders(process)
        except BaseException:
            self._engine = None
            with contextlib.suppress(Exception):
                engine.sign_off()
            engine.let_go()
            raise
        engine.paused = self._paused  # it may have been paused or resumed meanwhile
        self.processes.attach(self)
        return engine

    def _declare_anew(self) -> None:
        """Declare all timings to a store that may not know them any more; what cannot be declared holds up no other.

        What is there stays: this scheduler may have slept through the start of another one with newer code.
        """
        for process in self.processes:
            try:
                self._declare(process, only_missing=True)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001  of the code, and known since the start
                LOGGER.error("the timing of process %r cannot be declared: %s", process.name, error, exc_info=error)

    def _declare(self, process: Process[Any, Any], *, only_missing: bool = False) -> None:
        """Make what the code declares true."""
        now = self._clock.now()

        def declared(request: Request | None) -> Request | None:
            return None if only_missing and request is not None else self._desk.declared(process, request, now)

        self._replace(process.name, declared)

    def _look_for_leaders(self, process: Process[Any, Any]) -> None:
        for leader in process.policies.after:
            if leader not in self.processes:
                hint = did_you_mean(leader, self.processes.names())
                LOGGER.warning("process %r runs after %r, which is not registered here%s", process.name, leader, hint)

    def _leave_inline(self, deadline: float = math.inf) -> None:
        if self._engine is not None and self._loop is None:
            self._engine.sign_off()
            self._engine = None
            self._crew.stop()
            self._hooks.settle_within(left_until(deadline))

    def _warn_of_unshared(self) -> None:
        if isinstance(self.store, MemoryStore):
            forked, self._forked = self._forked, False
            warn_of_unshared(in_worker=is_worker(), in_child=forked)

    def _warn_of_forgotten(self) -> None:
        if isinstance(self.store, MemoryStore):
            warn_of_forgotten(self.monitor.upcoming(_MOST_FORGOTTEN), self._clock.now())

    def _deleted(self, waiting: Iterable[Run]) -> None:
        """Tell the end of runs that waited, and are gone with their request."""
        now, why = self._clock.now(), StopCause.DELETED.value
        self._hooks.ended([run.move(RunStatus.KILLED, finished_at=now, reason=why) for run in waiting])

    def _change(
        self,
        id: str,
        change: Callable[[Request], Request],
        *,
        end_waiting: str | None = None,
    ) -> Request:
        def checked(request: Request | None) -> Request:
            if request is None:
                raise UnknownRequestError(id)
            return change(request)

        changed = self._replace(sought_request(id), checked, end_waiting=end_waiting)
        assert changed is not None  # noqa: S101  checked() returns one or raises
        self._wake.set()
        return changed

    def _replace(
        self, id: str, change: Callable[[Request | None], Request | None], *, end_waiting: str | None = None
    ) -> Request | None:
        """Replace a stored request, and tell of it."""
        seen: list[Request | None] = []

        def seen_change(found: Request | None) -> Request | None:
            seen[:] = found, change(found)
            return seen[1]

        now = self._clock.now()
        changed = self.store.change(id, seen_change, now, end_waiting=end_waiting, ended=self._hooks.ended)
        self._hooks.changed(*seen)
        return changed


def _check_kind(name: str, kind: type, given: object) -> None:
    if given is not None and not isinstance(given, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {given!r}")


def _check_clock(given: object) -> None:
    """Raise TypeError for what tells no time; a clock of the host's may be a proxy or a mock."""
    if given is None:
        return
    lacks = [name for name in ("now", "monotonic", "wait") if not callable(getattr(given, name, None))]
    if lacks or isinstance(given, type):
        hint = f", which has no {' and no '.join(lacks)}" if lacks else ", which is a class"
        raise TypeError(f"clock must be a Clock, got {given!r}{hint}")


def _opened(store: Store | str | None) -> Store:
    if store is None:
        return MemoryStore()
    if isinstance(store, str):
        return open_store(store)
    if not isinstance(store, Store):
        raise not_a_store(store)
    return store


_ALL: "weakref.WeakSet[Scheduler]" = weakref.WeakSet()


_AT_HOME = os.getpid()


def _at_exit() -> None:
    for scheduler in list(_ALL):
        with contextlib.suppress(Exception):
            scheduler.shutdown(timeout=_EXIT_TIMEOUT)
            if os.getpid() == _AT_HOME:  # in a forked child the requests are a copy; the parent runs its own
                scheduler._warn_of_forgotten()  # noqa: SLF001  our own kind


def _after_fork() -> None:
    for scheduler in list(_ALL):
        scheduler._forked = scheduler._forked or scheduler._loop is not None  # noqa: SLF001  our own kind
        if scheduler._engine is not None:  # noqa: SLF001  our own kind
            scheduler._engine.forget_after_fork()  # noqa: SLF001  our own kind
        scheduler._hooks.forget_after_fork()  # noqa: SLF001  our own kind
        if scheduler._loop is not None:  # noqa: SLF001  our own kind
            _runlog.release()
        scheduler._reset()  # noqa: SLF001  the child's scheduler has no thread


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
