"""The worker's side: a run that came as an errand, executed in this OS process, and said line by line over there.

The run is executed as in a thread of the scheduler's (`_worker.execute`); only its log, its progress and its end go
out over the connection. Lines go out as they are written, one by one: what a run wrote before it brought down its OS
process is what one wants to read then.
"""

import contextlib
import json
import logging
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from bgsched import _runlog
from bgsched._current import LiveRun, StopCause
from bgsched._executors.errand import Errand
from bgsched._outcome import Outcome, text_of, write_stack
from bgsched._runlog import RunLog
from bgsched._turns import Turns, forks
from bgsched._worker import execute
from bgsched.clock import SystemClock
from bgsched.process import Process
from bgsched.run import Progress, Run, RunError, RunStatus

__all__ = ["Bench", "Line", "Post", "take_levels"]

_SAY_PROGRESS_EVERY = 0.2


class Line(Protocol):
    """What is used of a connection of `multiprocessing`, whether it is a pipe or a socket."""

    def send_bytes(self, buf: bytes, /) -> None: ...

    def recv_bytes(self) -> bytes: ...

    def poll(self, timeout: float | None, /) -> bool: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class Post:
    """Sends and receives messages. Sending is thread-safe, and silent once nobody listens any more.

    So it is in a forked child: what it said there would be taken for its parent's word.
    """

    def __init__(self, connection: Line) -> None:
        self.connection = connection
        self._forks = forks()
        self._turns = Turns(patience=-1)  # what was sent is out on return, however full the pipe is

    @property
    def is_copy(self) -> bool:
        """Whether this OS process is a child of the one whose connection it is."""
        return self._forks != forks()

    def send(self, *message: Any, then: bytes | None = None) -> None:
        """Send a message, and bytes that belong to it."""
        if not self.is_copy:
            self._turns.do(self._send, json.dumps(message).encode(), then)

    def _send(self, text: bytes, then: bytes | None) -> None:
        with contextlib.suppress(OSError):
            self.connection.send_bytes(text)
            if then is not None:
                self.connection.send_bytes(then)

    def receive(self) -> list[Any] | None:
        """Return the next message; ``None`` when the other side is gone."""
        try:
            message: list[Any] = json.loads(self.connection.recv_bytes())
        except (OSError, EOFError):
            return None
        return message


class _PostedLog(RunLog):
    """A run log whose lines are sent as they are written."""

    def __init__(self, post: Post, *about: Any, **more: Any) -> None:
        super().__init__(*about, **more)
        self._post = post

    def write(self, level: str, logger: str, text: str) -> None:
        self._post.send("line", level, logger, self.cleaned(text))


class _ErrandRun(LiveRun):
    """The run as its process sees it here. It was begun over there, and is ended there."""

    def __init__(self, run: Run, process: Process[Any, Any], post: Post) -> None:
        super().__init__(run, process, SystemClock())
        self._post = post
        self._unsaid: Progress | None = None
        self._said_at = 0.0

    def _make_log(self, kind: Callable[..., RunLog] = _PostedLog) -> RunLog:
        return super()._make_log(partial(kind, self._post))

    def begin(self) -> bool:
        self.began = self.clock.monotonic()
        self.thread = threading.get_ident()
        return True

    def close(self, end: Callable[[Run, datetime, timedelta], Run]) -> bool:
        assert isinstance(end, Outcome)  # noqa: S101  no other end comes from a process
        self.say_progress()
        self._closed = True
        self._post.send("end", end.to_dict())
        return True

    def say(self, progress: Progress) -> None:
        self._unsaid = progress
        if time.monotonic() - self._said_at > _SAY_PROGRESS_EVERY:
            self.say_progress()

    def say_progress(self) -> None:
        """Send the newest progress, if it was not sent yet."""
        progress, self._unsaid = self._unsaid, None
        if progress is not None:
            self._said_at = time.monotonic()
            self._post.send("progress", progress.done, progress.total, progress.message)


class Bench:
    """Where errands are executed, one after another. *orphaned*: what to do with a run whose scheduler is gone."""

    def __init__(self, post: Post, orphaned: Callable[[LiveRun], None]) -> None:
        self._post = post
        self._orphaned = orphaned
        self._errands: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._live: _ErrandRun | None = None
        self._asked: dict[tuple[int, int], StopCause] = {}  # stops that came before their run was there
        self._lock = threading.Lock()
        self._listening = threading.Thread(target=self._listen, name="bgsched-bench", daemon=True)
        self._listening.start()

    def close(self) -> None:
        """Wait until nobody listens on the connection, which was hung up: only then may it be closed."""
        self._listening.join()

    def next(self) -> bytes | None:
        """Wait for the next errand; ``None`` when there will be none, as in a child that a process forked."""
        return None if self._post.is_copy else self._errands.get()

    def execute(self, packed: bytes) -> None:
        """Execute an errand, and say what came of it."""
        try:
            errand = Errand.unpacked(packed)
            live = _ErrandRun(errand.run, errand.process(), self._post)
            take_levels(errand.levels)
        except BaseException as error:  # noqa: BLE001  whatever importing the host's module does
            self._post.send("end", _not_found(error).to_dict())
            return
        self._begin(live)
        _runlog.capture()
        try:
            execute(live, errand.hooks())
        finally:
            self._live = None
            _runlog.release()

    def _begin(self, live: _ErrandRun) -> None:
        with self._lock:
            self._live = live
            cause = self._asked.get(live.token)
            self._asked.clear()
        if cause is not None:
            live.ask_to_stop(cause)

    def _listen(self) -> None:
        while (message := self._receive()) is not None:
            kind, *values = message
            if kind == "run":
                self._errands.put(self._post.connection.recv_bytes())
            elif kind == "stop":
                self._stop((values[0], values[1]), StopCause[values[2]])
            elif kind == "leave":
                break
        self._errands.put(None)
        if (live := self._live) is not None and not live.closed:
            self._orphaned(live)

    def _stop(self, token: tuple[int, int], cause: StopCause) -> None:
        with self._lock:
            live = self._live
            if live is None or live.token != token:
                self._asked[token] = cause
                return
        if cause is StopCause.TIMED_OUT:
            write_stack(live, live.stack())
        live.ask_to_stop(cause)

    def _receive(self) -> list[Any] | None:
        """Return the next message; say meanwhile, now and then, how far the run has come."""
        with contextlib.suppress(OSError, EOFError):
            while not self._post.connection.poll(None if self._live is None else _SAY_PROGRESS_EVERY):
                if (live := self._live) is not None:
                    live.say_progress()
        return self._post.receive()


def _not_found(error: BaseException) -> Outcome:
    what = f"the worker (OS process {os.getpid()}) cannot load the process: {text_of(error)}"
    return Outcome(status=RunStatus.ERROR, error=RunError(type(error).__qualname__, what, traceback.format_exc()))


def take_levels(levels: Mapping[str, int]) -> None:
    """Let loggers here say at least as much as they do at the scheduler's, so that run logs do not depend on where."""
    for name, level in levels.items():
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() > level:
            logger.setLevel(level)
