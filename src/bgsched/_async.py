"""Async runs: any number of them on the event loop of one thread.

Each run is an asyncio task in a context of its own, so logs and `current_run` are kept apart however the runs
interleave. Kill and timeout cancel its asyncio task. A process that blocks the loop instead of awaiting holds up its
fellows: when its time is over, runs that come later go to a fresh loop, and this one ends with the last run on it.
"""

import asyncio
import contextlib
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any

from bgsched._current import LiveRun
from bgsched._events import Hooks
from bgsched._outcome import failed, returned, time_out
from bgsched._runlog import LOGGER
from bgsched._worker import as_killed, began, close, surroundings

__all__ = ["EventLoops"]


class EventLoops:
    """Executes async runs; there is no thread before the first of them. *done* hears of each that came to its end."""

    def __init__(self, done: Callable[[LiveRun], object], hooks: Hooks) -> None:
        self._done = done
        self._hooks = hooks
        self._lock = threading.Lock()
        self._loops: list[_LoopThread] = []
        self._where: dict[LiveRun, _LoopThread] = {}

    def submit(self, live: LiveRun) -> None:
        """Begin a run on the event loop."""
        with self._lock:
            if not self._loops or self._loops[-1].blocked:
                self._loops.append(_LoopThread())
            thread = self._loops[-1]
            self._where[live] = thread
        thread.call(self._start, live, thread)

    def overdue(self, live: LiveRun) -> None:
        """End a run whose time is over, and do not let it hold up the others."""
        if time_out(live):
            self._done(live)
        self.replace(live)

    def replace(self, live: LiveRun) -> None:
        """Let a fresh loop take what comes, if *live*, which should have stopped, holds up the one it is on."""
        with self._lock:
            thread = self._where.get(live)
            if thread is not None and thread.current is live:
                thread.blocked = True

    def stop(self) -> None:
        """Cancel what is left, and let the threads end; a blocked one stays until the OS process ends."""
        with self._lock:
            loops, self._loops = self._loops, []
        for thread in loops:
            thread.stop()

    def _start(self, live: LiveRun, thread: "_LoopThread") -> None:
        running = thread.loop.create_task(self._run(live, thread), context=copy_context())
        thread.running.add(running)
        running.add_done_callback(thread.running.discard)
        live.thread = threading.get_ident()
        live.interrupt = lambda: thread.call(running.cancel)  # not now: one that is cancelled unbegun never ends

    async def _run(self, live: LiveRun, thread: "_LoopThread") -> None:
        try:
            if began(live, self._hooks):
                await self._execute(live, thread)
        except asyncio.CancelledError:  # before it began, or after its end was decided
            if not live.closed:
                live.close(failed(live, as_killed(live)))
        except BaseException:  # noqa: BLE001  nothing may get out into the loop, which would end for all
            LOGGER.exception("run %s of %s", live.run.id, live.run.process)
        finally:
            if not live.is_copy:
                self._leave(live, thread)
                self._done(live)

    def _leave(self, live: LiveRun, thread: "_LoopThread") -> None:
        """Take leave of *live*; a loop to which nothing comes any more ends with its last run."""
        with self._lock:
            del self._where[live]
            is_over = thread.blocked and thread in self._loops and thread not in self._where.values()
            if is_over:
                self._loops.remove(thread)
        if is_over:
            thread.stop()

    async def _execute(self, live: LiveRun, thread: "_LoopThread") -> None:
        try:
            live.params = live.process.load(live.run.params)
            with surroundings(live, self._hooks):
                watched = _Watched(live.process.function(**live.params), live, thread)
                live.watched = watched.stack
                result = await watched
        except asyncio.CancelledError as cancelled:
            close(live, failed(live, as_killed(live) if live.asked else cancelled))
        except BaseException as error:  # as in execute()
            if live.is_copy and not isinstance(error, SystemExit):  # the child ends by itself
                raise
            close(live, failed(live, error))
        else:
            close(live, returned(live, result))


class _Watched(Coroutine[Any, Any, Any]):
    """The process's coroutine, seen step by step: who has the loop now, and whether a cancellation got through."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], live: LiveRun, thread: "_LoopThread") -> None:
        self._coroutine = coroutine
        self._live = live
        self._thread = thread

    def __await__(self) -> Generator[Any, Any, Any]:
        sent: Any = None
        raised: BaseException | None = None
        while True:
            try:
                wanted = self.send(sent) if raised is None else self.throw(raised)
            except StopIteration as finished:
                return finished.value
            sent = raised = None
            try:
                sent = yield wanted
            except BaseException as error:  # noqa: BLE001  handed on to the coroutine
                raised = error

    def send(self, value: Any) -> Any:
        self._thread.check()
        self._thread.current = self._live
        try:
            return self._coroutine.send(value)
        finally:
            self._thread.current = None

    def throw(self, error: Any, *more: Any) -> Any:
        if isinstance(error, asyncio.CancelledError) and self._live.asked:
            self._live.looked = True
        self._thread.check()
        self._thread.current = self._live
        try:
            return self._coroutine.throw(error, *more)
        finally:
            self._thread.current = None

    def close(self) -> None:
        self._coroutine.close()

    def stack(self) -> str:
        """Return where the coroutine stands: at an await, or, where it holds up the loop, anywhere."""
        if self._thread.current is self._live:
            frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001  the documented way
            return "" if frame is None else "".join(traceback.format_stack(frame)).rstrip()
        frames = []
        waiting: Any = self._coroutine
        while (frame := getattr(waiting, "cr_frame", None)) is not None:
            frames.append((frame, frame.f_lineno))
            waiting = waiting.cr_await
        return "".join(traceback.StackSummary.extract(iter(frames)).format()).rstrip()


class _LoopThread(threading.Thread):
    """A thread with an event loop, which goes on whatever is raised in it."""

    def __init__(self) -> None:
        super().__init__(name="bgsched-async", daemon=True)
        self.loop = asyncio.new_event_loop()
        self.running: set[asyncio.Task[None]] = set()
        self.current: LiveRun | None = None
        self.blocked = False
        self._ending = False
        self._is_copy = False
        _ALL.add(self)
        self.start()

    def call(self, function: Callable[..., Any], *values: Any) -> None:
        """Call *function* in the loop, soon; nothing happens once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *values)

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not (self._ending or self._is_copy):
            try:
                self.loop.run_forever()
            except BaseException:  # noqa: BLE001  SystemExit in a task that a process made gets here
                LOGGER.warning("something in the event loop of the async runs raised", exc_info=True)
        if self._is_copy:  # to close the loop would close the parent's
            return
        with contextlib.suppress(Exception):
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def check(self) -> None:
        """Let no run go on in a child that another one forked."""
        if self._is_copy:
            raise asyncio.CancelledError

    def forget_after_fork(self) -> None:
        """End in a child, where this thread is if one of its runs forked: what the loop waits for is the parent's."""
        self._is_copy = True
        self.loop.stop()

    def stop(self) -> None:
        """Cancel the runs, wait for them to see it, and end."""
        self.call(self._end_all)
        if threading.current_thread() is not self and not self.blocked:
            self.join(_PATIENCE)

    def _end_all(self) -> None:
        self._ending = True
        left = asyncio.all_tasks(self.loop)
        for one in left:
            one.cancel()
        ended = asyncio.gather(*left, return_exceptions=True)
        ended.add_done_callback(lambda _: self.loop.stop())
        self.loop.call_later(_PATIENCE / 2, self.loop.stop)


_PATIENCE = 1.0
_ALL: "weakref.WeakSet[_LoopThread]" = weakref.WeakSet()


def _after_fork() -> None:
    for thread in list(_ALL):
        thread.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
