"""One claimed run, executed on one thread, and the threads that do it.

`execute` calls the process and turns whatever happens into the run's end: nothing that a process does gets out, not even
`SystemExit`. `Workers` are threads of our own, made when they are needed: ``concurrent.futures`` closes its pools before
a host's exit handlers run, and then nothing could be drained.
"""

import asyncio
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import Any

from bgsched._current import CurrentRun, LiveRun, StopCause, current
from bgsched._runlog import capturing
from bgsched.errors import ParamsError, RunKilled
from bgsched.process import check_json
from bgsched.run import Run, RunError, RunStatus

__all__ = ["Workers", "execute", "time_out"]


def execute(live: LiveRun) -> None:
    """Run the process of *live* on this thread and close it with what came of it."""
    copy_context().run(_execute, live)


def _execute(live: LiveRun) -> None:
    capturing.set(live.log)
    current.set(CurrentRun(live))
    live.begin()
    try:
        result = _call(live)
    except RunKilled as stopped:
        live.close(_stopped(live, stopped))
    except BaseException as error:  # noqa: BLE001  SystemExit and its kin end the run, not the thread
        live.close(_failed(live, error))
    else:
        live.close(_succeeded(live, result))


def _call(live: LiveRun) -> Any:
    params = live.process.bind(live.run.params)
    if live.process.is_async:
        return asyncio.run(live.process.function(**params))
    return live.process.function(**params)


def _succeeded(live: LiveRun, result: Any) -> Callable[[Run, datetime, timedelta], Run]:
    problem = check_json(result, "result")
    if problem is not None:
        live.log.write("WARNING", "bgsched", f"the result was not kept: {problem}")
        result = None

    def end(run: Run, now: datetime, spent: timedelta) -> Run:
        return run.move(RunStatus.SUCCESS, finished_at=now, duration=spent, result=result)

    return end


def _stopped(live: LiveRun, stopped: RunKilled) -> Callable[[Run, datetime, timedelta], Run]:
    status = RunStatus.TIMED_OUT if live.cause is StopCause.TIMED_OUT else RunStatus.KILLED

    def end(run: Run, now: datetime, spent: timedelta) -> Run:
        return run.move(status, finished_at=now, duration=spent, reason=_text(stopped))

    return end


def _failed(live: LiveRun, failure: BaseException) -> Callable[[Run, datetime, timedelta], Run]:
    """End the run in ERROR, or, while its process has attempts left, let it wait for the next one."""
    frames = "".join(traceback.format_exception(type(failure), failure, _own_frames(failure)))
    error = RunError(type(failure).__qualname__, _text(failure), frames)
    live.log.write("ERROR", "bgsched", frames.rstrip())
    retry = live.process.policies.retry
    final = isinstance(failure, ParamsError)

    def end(run: Run, now: datetime, spent: timedelta) -> Run:
        delay = None if final else retry.delay_after(run.attempt)
        if delay is None:
            return run.move(RunStatus.ERROR, finished_at=now, duration=spent, error=error)
        reason = f"attempt {run.attempt} of {retry.attempts} failed ({error.type}); the next one waits {delay}"
        return run.again(RunStatus.ERROR, now, now + delay, reason=reason, error=error)

    return end


def time_out(live: LiveRun) -> bool:
    """End a run whose time is over, tell its process, and write down where its thread stands."""
    limit = live.process.policies.timeout
    frame = sys._current_frames().get(live.thread or 0)  # noqa: SLF001  the documented way to see another thread
    if frame is not None:
        stack = "".join(traceback.format_stack(frame)).rstrip()
        live.log.write("ERROR", "bgsched", f"its time of {limit} is over; it stood here:\n{stack}")
    del frame
    live.ask_to_stop(StopCause.TIMED_OUT)
    return live.close(
        lambda run, now, spent: run.move(
            RunStatus.TIMED_OUT, finished_at=now, duration=spent, reason=f"it took longer than {limit}"
        )
    )


def _own_frames(failure: BaseException) -> Any:
    """Return the traceback without the frames of this module, which are on top of every one."""
    frames = failure.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__ and frames.tb_next is not None:
        frames = frames.tb_next
    return frames


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  an exception may fail to say what it is
        return f"<its message failed: {type(broken).__name__}>"


class Workers:
    """Up to *count* threads that execute runs, in the order of their coming."""

    def __init__(self, count: int, done: Callable[[LiveRun], None]) -> None:
        self._count = count
        self._done = done
        self._queue: queue.SimpleQueue[LiveRun | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._lock = threading.Lock()

    def submit(self, live: LiveRun) -> None:
        """Hand a run over; a thread is added while all are busy and there are fewer than *count*."""
        with self._lock:
            self._busy += 1
            if self._busy > len(self._threads) and len(self._threads) < self._count:
                self._add()
        self._queue.put(live)

    def replace(self, live: LiveRun) -> None:
        """Let another thread take the place of the one that is stuck in *live*, whose time is over."""
        with self._lock:
            if not live.left:
                live.replaced = True
                self._count += 1
                self._add()

    def stop(self) -> None:
        """Let the threads end once they have nothing to do; whoever is stuck stays until the OS process ends."""
        with self._lock:
            for _ in self._threads:
                self._queue.put(None)
            self._threads = []

    def _add(self) -> None:
        name = f"bgsched-worker-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (live := self._queue.get()) is not None:
            execute(live)
            with self._lock:
                self._busy -= 1
                live.left = True
                surplus = live.replaced
                if surplus:
                    self._count -= 1
                    self._threads = [thread for thread in self._threads if thread is not threading.current_thread()]
            self._done(live)
            del live
            if surplus:
                return
