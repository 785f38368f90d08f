"""The scheduler: what a host application holds.

It files requests, and it runs them: on one thread of its own that passes over the store (`Loop`) and a few that
execute (`Workers`), or, without any thread, a pass at a time from the caller (`run_pending`, `Inline`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload
from zoneinfo import ZoneInfo

from typing_extensions import Unpack

from bgsched._arguments import check_clock, check_kind, check_wait, opened
from bgsched._calendar.fields import zone_key
from bgsched._changes import Changes
from bgsched._current import LiveRun, StopCause
from bgsched._events import Around, E, Hooks, RequestScheduled
from bgsched._executors.choice import ExecutorOption
from bgsched._executors.crew import Crew
from bgsched._filing import Desk, Wish, sought_run, wish_of
from bgsched._life import Life
from bgsched._names import is_storable
from bgsched._parts import Parts
from bgsched.clock import Clock, SystemClock
from bgsched.monitor import Monitor
from bgsched.process import PR, Process, ProcessOptions, ProcessRegistry
from bgsched.request import Request, RequestStatus, Retention
from bgsched.request.policies import check_count
from bgsched.run import Run
from bgsched.stores import Store
from bgsched.timing import Immediate, Timing

__all__ = ["Scheduler", "ShutdownReport"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """What a shutdown left: the runs that had not ended, as they were recorded.

    Where the store could not be told: those that others will end as abandoned, as they stood here, ended or not.
    """

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
        workers: how many runs are executed at once on threads of this scheduler. Async runs count towards
            *async_limit*, runs on another executor towards its workers (*workers*, where it does not say how many).
        async_limit: how many async runs are executed at once.
        executor: what executes the runs of processes that are not async and have no executor of their own: a
            `ProcessPool` or any `concurrent.futures.Executor`. ``None``: threads of the scheduler's own.
        timezone: where timings that name no zone are read, an IANA name or a ``ZoneInfo``.
        retention: how long ended runs are kept.
        clock: where time comes from; ``None`` is the machine's clock.
        around: what every run goes through, as `around` takes it; one or several.
        execute: ``False``: only file requests; a scheduler elsewhere on the same store must run them.

    Raises:
        StoreError: the store cannot be opened.
        TimingError: the time zone is unknown.
        TypeError: *store* is not a `Store`, a URL or ``None``, or another argument has the wrong type.
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
        check_kind("processes", ProcessRegistry, processes)
        check_kind("retention", Retention, retention)
        check_clock(clock)
        zone = zone_key(timezone)
        self.store: Store = opened(store)
        self.processes: ProcessRegistry = processes if processes is not None else ProcessRegistry()
        self.processes.attach(self)
        self._clock = clock or SystemClock()
        self._hooks = hooks = Hooks(around)
        self._parts = Parts(self.store, self.processes, self._clock, self._hooks, retention or Retention())

        def check(process: Process[Any, Any]) -> None:
            self._life.check(process)

        def new_crew(done: Callable[[LiveRun], None]) -> Crew:
            return Crew(executor, workers=workers, async_limit=async_limit, hooks=hooks, done=done)

        self._desk = Desk(self.processes, zone, check)
        self._changes = Changes(self._parts, self._desk)
        self._life = Life(self, self._parts, self._changes, new_crew, executes=execute)
        self.monitor: Monitor = Monitor(self.store, clock=self._clock, witness=self._life.problems)

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
        self._life.registered(process)

    def add(self, process: PR) -> PR:
        """Register a process that was made on its own, such as a `ProcessGroup`; as `ProcessRegistry.add`."""
        return self.processes.add(process)

    # -- hooks ---------------------------------------------------------------------------------------------------

    def on(self, kind: type[E], listener: Callable[[E], object]) -> Callable[[], None]:
        """Call *listener* with every event of this kind that happens in this scheduler; return what undoes it.

        Listeners are called one after another on a thread of their own. One that raises is logged. While 10,000 events
        wait, further ones are dropped, and their number is logged. `Event` subscribes to all kinds.

        Raises:
            TypeError: *kind* is no kind of event, or *listener* is async: nobody would await it.
        """
        return self._hooks.on(kind, listener)

    def around(self, hook: Around) -> Callable[[], None]:
        """Let every run go through ``with hook(run):``; return what undoes it.

        *hook* is given the run that `current_run` returns, on the thread or event loop that executes it. It sees the
        exceptions of the process but cannot suppress them; one of its own ends the run in ERROR. Those added first are
        outermost.
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
            ValueError: the id, the user or the channel is not a string of at most 200 characters without NUL (an id has
                at least one).
            StoreUnavailableError: the store could not take it.
        """
        request = self._desk.request(process, timing, params, self._clock.now(), id=id, user=user, channel=channel)
        self._life.before_filing()
        self.store.file([request])
        self._life.wake.set()
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
        self._life.before_filing()
        self.store.file(requests)
        self._life.wake.set()
        if self._hooks.listening:
            for request in requests:
                self._hooks.emit(RequestScheduled(request.masked()))
        return requests

    def unschedule(self, id: str) -> Request:
        """Stop the future fire times of a request.

        Runs in progress continue. Waiting runs, and fire times that are due already, end as SKIPPED; a run that waits
        for a retry ends as its last attempt did. A run that a scheduler has claimed may still start.

        Raises:
            UnknownRequestError: there is no such request.
            StoreUnavailableError: the store could not take it.
        """
        now = self._clock.now()
        changed = self._changes.change(
            id,
            lambda request: request.unscheduled(now) if request.status is RequestStatus.SCHEDULED else request,
            end_waiting="its request was unscheduled while it waited",
        )
        self._life.wake.set()
        return changed

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

        Works in any status; a run in progress is not touched. A scheduled request that has that timing already keeps
        its fire times, even one that is due; with another timing, what is due is recorded as SKIPPED, and the phase
        counts anew unless the timing has a ``start``. The priority is taken from the code. *params* may be those that a
        monitor shows: a sensitive value that it masks stays as it was.

        Raises:
            UnknownRequestError: there is no such request.
            ParamsError: the new params do not fit.
            TimingError: the timing has no fire time left.
            StoreUnavailableError: the store could not take it.
        """
        now = self._clock.now()
        self._life.before_filing()
        changed = self._changes.change(
            id, lambda found: self._desk.rescheduled(found, timing, params, now, user=user, channel=channel)
        )
        self._life.wake.set()
        return changed

    def run_now(
        self,
        process_or_id: str | Process[Any, Any],
        *,
        params: Mapping[str, Any] | None = None,
        user: str | None = None,
        channel: str = "code",
    ) -> Request:
        """Run a request once, now, beside its fire times; or a process, as a new immediate request.

        A string is the id of a request if there is one, else the name of a process. If another run of the request is
        active, this one waits for it, unless its process allows overlaps.

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
        self._life.before_filing()
        self.store.enqueue(self._desk.run_beside(found, params, self._clock.now(), user=user, channel=channel))
        self._life.wake.set()
        return self.monitor.request(found.id)

    def delete(self, id: str) -> None:
        """Delete a request with its runs and their logs.

        A run in progress is asked to stop: at once in this scheduler, within about 5 s (its next heartbeat) in another.

        Raises:
            UnknownRequestError: there is no such request.
            StoreUnavailableError: the store could not take it.
        """
        self._changes.delete(id)
        self._life.stop_runs(StopCause.DELETED, lambda run: run.request_id == id)

    def kill(self, run_id: int) -> Run:
        """Ask a run to stop; return it as it is at that moment. A process stops when it next looks.

        Raises:
            UnknownRunError: there is no such run.
            StoreUnavailableError: the store could not take it.
        """
        run = self.store.kill(sought_run(run_id), self._clock.now(), ended=self._hooks.ended)
        self._life.stop_runs(StopCause.KILLED, lambda run: run.id == run_id)
        return run.masked()

    # -- running -------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the scheduler's thread runs."""
        return self._life.running

    @property
    def retention(self) -> Retention:
        """How long ended runs are kept."""
        return self._parts.retention

    @property
    def paused(self) -> bool:
        """Whether it files requests but runs none."""
        return self._life.paused

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
        self._life.start()
        return self

    def shutdown(self, wait: bool = True, timeout: float | None = None) -> ShutdownReport:  # noqa: FBT001, FBT002  public name
        """Stop claiming, let what runs come to its end, and leave.

        *wait*: whether to wait for runs; *timeout*: the longest wait in seconds (``None``: no limit), in real time
        whatever the clock. When it is over, active runs are asked to stop, and recorded as ABANDONED (or run again,
        under `OnAbandon.RERUN`); claimed runs that have not started are put back for other schedulers. Listeners get
        the rest of the time, at least half a second, at most five. It may be called twice: the earlier deadline wins.

        Where it cannot wait (another thread is in `run_pending`, or a signal handler interrupted a call of the store on
        this one), it asks all runs to stop, and returns those that are still active. `run_pending` leaves then as
        soon as it can; to end a started scheduler, shut it down again.

        Raises:
            SchedulerStateError: a run of this scheduler wants to wait for itself.
            TypeError: *wait* is neither ``True`` nor ``False``, or *timeout* no number.
            ValueError: *timeout* is NaN.
        """
        check_wait(wait, timeout)
        return ShutdownReport(self._life.shutdown(wait=wait, timeout=timeout))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def pause(self) -> None:
        """Claim nothing more here until `resume`.

        Filing still works, runs in progress continue, and other schedulers are unaffected; claimed runs that have not
        started are put back for them.
        """
        self._life.set_paused(paused=True)

    def resume(self) -> None:
        """Run again what is due; what passed its grace meanwhile follows its misfire policy.

        Raises:
            SchedulerStateError: this scheduler was made with ``execute=False``.
        """
        self._life.set_paused(paused=False)

    def run_pending(self) -> datetime | None:
        """Run what is due now, on this thread, one after another; return when something is due next.

        For hosts that have a loop of their own, and for tests. Not while the scheduler's thread runs. It claims only
        what can start at once, and at most 100 runs a call (or *workers*, if that is more).

        Kills, timeouts, the heartbeat, progress and log are handled when a run starts and, every half second at most,
        when it calls `CurrentRun.killed`, ``raise_if_killed``, ``track``, ``progress`` or ``sleep``; where it does not,
        when it has ended. Runs of an executor, and async runs, are executed there and waited for.

        Raises:
            SchedulerStateError: the scheduler's thread runs; or a run calls it that is waited for on another thread.
            BgschedError: as `start`, where it declares the timings of the code; or the store cannot be reached now.
        """
        return self._life.run_pending()

    def run_until_idle(self) -> datetime | None:
        """`run_pending` until nothing is due at the present instant; return when something is due next.

        As in `run_pending`, a process that never makes those calls cannot be stopped before it returns.
        """
        return self._life.run_until_idle()
