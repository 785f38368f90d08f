"""One claimed run, executed on one thread, and the threads that do it.

`execute` calls the process and turns whatever happens into the run's end (`_outcome`): nothing that a process does gets
out, not even `SystemExit`. `Workers` are threads of our own, made when they are needed: ``concurrent.futures`` closes
its pools before a host's exit handlers run, and then nothing could be drained.
"""

import asyncio
import contextlib
import inspect
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from contextvars import copy_context
from typing import Any

from bgsched._current import CurrentRun, LiveRun, StopCause, current
from bgsched._events import Hooks, RunStarted
from bgsched._outcome import Outcome, failed, in_time, never_began, returned, time_out, went_wrong
from bgsched._prints import captured_prints
from bgsched._runlog import LOGGER, capturing
from bgsched.errors import RunKilled
from bgsched.run import RunStatus

__all__ = [
    "Workers",
    "as_killed",
    "began",
    "call_off",
    "close",
    "execute",
    "fail_on_the_way",
    "set_off",
    "surroundings",
]


def execute(live: LiveRun, hooks: Hooks) -> None:
    """Run the process of *live* on this thread and close it with what came of it, whatever is raised on the way.

    Only in a child that the process forked, what it raises is raised: the run is the parent's, and the child may end.
    """
    try:
        copy_context().run(_execute, live, hooks)
    except BaseException as error:  # around the process, too: a thread must outlive it, and the run end
        if live.is_copy:
            raise
        LOGGER.error("run %s of %s: %s", live.run.id, live.run.process, type(error).__name__, exc_info=error)
        live.interrupted |= isinstance(error, KeyboardInterrupt)
        live.close(went_wrong(live, error))


def _execute(live: LiveRun, hooks: Hooks) -> None:
    if not began(live, hooks):
        return
    try:
        live.params = live.process.load(live.run.params)
        if hooks.surrounds or live.process.policies.prints:
            with surroundings(live, hooks):
                result = _result(live)
        else:
            result = _result(live)
    except asyncio.CancelledError as cancelled:
        close(live, failed(live, as_killed(live) if live.asked else cancelled))
    except BaseException as error:  # SystemExit and its kin end the run, not the thread
        if live.is_copy:
            raise
        live.interrupted = isinstance(error, KeyboardInterrupt)
        close(live, failed(live, error))
    else:
        close(live, returned(live, result))


def _result(live: LiveRun) -> Any:
    result = live.process.function(**live.params)
    if inspect.iscoroutine(result):  # of a process that a decorator hides, or that is not on our loop
        result = asyncio.run(_awaited(result, live))
    return result


async def _awaited(coroutine: Coroutine[Any, Any, Any], live: LiveRun) -> Any:
    """Await it on a loop of its own; a run that is asked to stop is cancelled."""
    loop, running = asyncio.get_running_loop(), asyncio.current_task()
    assert running is not None  # noqa: S101  asyncio.run has made it

    def interrupt_here() -> None:
        live.looked |= running.cancel()

    def interrupt() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it came to its end
            loop.call_soon_threadsafe(interrupt_here)

    live.interrupt = interrupt
    if live.asked:
        interrupt()
    return await coroutine


def as_killed(live: LiveRun) -> RunKilled:
    """Return what a run raises that was cancelled because it was asked to stop."""
    live.looked = True
    return RunKilled(f"run {live.run.id} was asked to stop: {(live.cause or StopCause.KILLED).value}")


def began(live: LiveRun, hooks: Hooks) -> bool:
    """Make *live* the current run of this context and begin it, as `set_off` does."""
    if not set_off(live, hooks):
        return False
    capturing.set(live)
    current.set(CurrentRun(live))
    return True


def set_off(live: LiveRun, hooks: Hooks) -> bool:
    """Begin *live*, unless it was asked to stop before."""
    if live.asked:
        call_off(live)
        return False
    if not live.begin():
        return False
    try:
        live.attend()
    except KeyboardInterrupt:  # its process was not called: it waits for the next call, whatever its policies are
        live.close(
            lambda run, now, _: run.again(RunStatus.ABANDONED, now, now, reason="interrupted before it was called")
        )
        raise
    if hooks.listening:
        hooks.emit(RunStarted(live.run.masked()))
    return True


def call_off(live: LiveRun) -> None:
    """End *live*, which was asked to stop, if it has not begun.

    One that only its scheduler's end stops goes back, for others to take.
    """
    if live.cause is StopCause.KILLED:
        live.call_off(never_began(live))
    else:
        live.put_back(f"it was asked to stop before it began: {(live.cause or StopCause.SHUTDOWN).value}")


def fail_on_the_way(live: LiveRun, error: BaseException, hooks: Hooks) -> None:
    """End *live*, which never got to whoever should execute it."""
    if set_off(live, hooks):
        live.close(failed(live, error))


def surroundings(live: LiveRun, hooks: Hooks) -> ExitStack:
    """Return what is around the call of the process: the capture of prints, the host's hooks."""
    stack = ExitStack()
    if live.process.policies.prints:
        stack.enter_context(captured_prints(live.log))
    if hooks.surrounds:
        run = current.get()
        assert run is not None  # noqa: S101  began() has set it
        stack.enter_context(hooks.surround(run))
    return stack


def close(live: LiveRun, end: Outcome) -> None:
    """End the run; what comes after its end has been decided is dropped, and said."""
    if not (live.close(in_time(live, end)) or live.is_copy):
        LOGGER.warning(
            "run %s of %s came back after it had ended as %s; what it returned is dropped",
            live.run.id,
            live.run.process,
            live.run.status.value,
        )


class Workers:
    """Up to *count* threads that execute runs, in the order of their coming.

    They are called one at a time: who comes takes a run, and calls the next one while there is more to do. So runs that
    wait, for a disk or a network, get as many threads as they need, each within microseconds of the one before; short
    ones stay with the threads that are awake, and nobody is woken only to queue for the interpreter.
    """

    def __init__(self, count: int, done: Callable[[LiveRun], object], hooks: Hooks) -> None:
        self._count = count
        self._done = done
        self._hooks = hooks
        self._queue: deque[LiveRun] = deque()
        self._threads: set[threading.Thread] = set()
        self._resting: list[threading.Lock] = []  # what each waits for; the last one is called first
        self._one_comes = False
        self._stopped = False
        self._lock = threading.Lock()

    def submit(self, live: LiveRun) -> None:
        """Hand a run over."""
        with self._lock:
            self._queue.append(live)
            try:
                self._call_one()
            except RuntimeError:  # there is no thread, and none can be had: it is claimed, and comes again
                self._queue.remove(live)
                raise

    def overdue(self, live: LiveRun) -> None:
        """End a run whose time is over, and do not let it keep a thread from the others."""
        if time_out(live):
            self._done(live)
        self.replace(live)

    def replace(self, live: LiveRun) -> None:
        """Let another thread take the place of the one in *live*, which should have stopped, until it is back."""
        with self._lock:
            if not (live.left or live.replaced):
                live.replaced = True
                self._count += 1
                self._call_one()

    def stop(self) -> None:
        """Let the threads end once they have nothing to do; whoever is stuck stays until the OS process ends."""
        with self._lock:
            self._stopped = True
            for resting in self._resting:
                resting.release()
            self._resting.clear()

    def _call_one(self) -> None:
        """Have a thread come for what waits: one that rests, or a new one while there are fewer than allowed."""
        if self._one_comes or not self._queue:
            return
        if self._resting:
            self._one_comes = True
            self._resting.pop().release()
        elif len(self._threads) < self._count:
            self._one_comes = self._add()

    def _add(self) -> bool:
        """Start a thread; when the system has none left, the busy ones must do."""
        thread = threading.Thread(target=self._work, name=f"bgsched-worker-{len(self._threads) + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            return False
        self._threads.add(thread)
        return True

    def _work(self) -> None:
        called = threading.Lock()
        called.acquire()
        came = True
        while True:
            with self._lock:
                self._one_comes &= not came
                live = self._queue.popleft() if self._queue else None
                if live is not None:
                    self._call_one()
                elif self._stopped:
                    self._threads.discard(threading.current_thread())
                    return
                else:
                    self._resting.append(called)
            if live is None:
                called.acquire()
                came = True
                continue
            came = False
            execute(live, self._hooks)
            if live.is_copy or self._leaves(live):
                return

    def _leaves(self, live: LiveRun) -> bool:
        """Take leave of *live*; return whether another thread has taken this one's place meanwhile."""
        with self._lock:
            live.left = True
            if live.replaced:
                self._count -= 1
                self._threads.discard(threading.current_thread())
        self._done(live)
        return live.replaced
