"""OS processes of our own that execute runs, each behind a pipe of its own.

`ProcessPoolExecutor` shares one queue among its workers, so when one dies nobody can know what it had taken, and the
pool is broken. Here a worker has a pipe, and one run at a time: when it dies, exactly that run ends, and when a run
must end, exactly that worker is killed. Each run that goes on has a thread here that listens to its worker.

Workers are not forked from this OS process, which has threads. They end when it does, however it ends: each waits for
the end of its pipe.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from bgsched._current import LiveRun, StopCause
from bgsched._events import Hooks
from bgsched._executors.bench import Bench, Line, Post
from bgsched._executors.choice import ProcessPool
from bgsched._executors.errand import packed
from bgsched._executors.place import be_worker
from bgsched._executors.wire import Wire
from bgsched._outcome import text_of
from bgsched._worker import fail_on_the_way, set_off
from bgsched.errors import WorkerDiedError

__all__ = ["Children"]

_PATIENCE = 5.0  # seconds for a worker without a run to end
_STARTS_WITHIN = 120.0  # seconds for a worker to import the main module
_one_at_a_time = threading.Lock()  # multiprocessing looks after all children at each start: two must not ask for one


class Children:
    """Up to as many workers as the pool has, started when they are needed. *done* hears of each run that is over."""

    def __init__(self, pool: ProcessPool, done: Callable[[LiveRun], object], hooks: Hooks) -> None:
        self._pool = pool
        self._done = done
        self._hooks = hooks
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._lock = threading.Lock()

    def submit(self, live: LiveRun) -> None:
        """Hand a run to a worker; it is the caller who sees to it that there are not more than the pool has."""
        name = f"bgsched-run-{live.run.id}"
        thread = threading.Thread(target=self._execute, args=(live,), name=name, daemon=True)
        thread.start()
        with self._lock:
            self._threads = [thread, *(other for other in self._threads if other.is_alive())]

    def overdue(self, live: LiveRun) -> None:
        """Ask a run whose time is over to stop; after the grace, its worker is killed."""
        live.ask_to_stop(StopCause.TIMED_OUT)

    def stop(self) -> None:
        """End all workers; those that still have a run, which is asked to stop, when the grace is over."""
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
            threads = list(self._threads)
        for child in idle:
            child.release()
        give_up = time.monotonic() + self._pool.grace.total_seconds()
        for thread in threads:
            thread.join(max(0.0, give_up - time.monotonic()))
        with self._lock:
            busy = list(self._busy)
        for child in busy:
            child.kill()
        for thread in threads:
            thread.join(_PATIENCE)
        for child in idle:
            child.dismiss()

    def _execute(self, live: LiveRun) -> None:
        try:
            errand = packed(live, self._hooks)
            child = self._take()
        except Exception as error:  # noqa: BLE001  what cannot be started ends its own run, no other
            fail_on_the_way(live, error, self._hooks)
        else:
            self._put_back(child, usable=self._follow(child, live, errand))
        self._done(live)

    def _follow(self, child: "_Child", live: LiveRun, errand: bytes) -> bool:
        """Let *child* execute the errand; return whether it can take another."""
        if not set_off(live, self._hooks):
            return True
        child.runs += 1
        wire = Wire(child.post, live, grace=self._pool.grace, hard=True, cut=child.kill)
        return wire.follow(errand, child.how_it_died)

    def _take(self) -> "_Child":
        """Return an idle worker, or a new one."""
        with self._lock:
            child = self._idle.pop() if self._idle else None
        if child is not None and not child.process.is_alive():  # killed by somebody, while it had nothing to do
            child.dismiss()
            return self._take()
        child = child or _Child(self._pool)
        with self._lock:
            self._busy.add(child)
            stopped = self._stopped
        if stopped:
            child.kill()
        return child

    def _put_back(self, child: "_Child", *, usable: bool) -> None:
        used_up = self._pool.runs_per_worker is not None and child.runs >= self._pool.runs_per_worker
        with self._lock:
            self._busy.discard(child)
            keep = usable and not (self._stopped or used_up)
            if keep:
                self._idle.append(child)
        if not keep:
            child.dismiss()


class _Child:
    """A worker: an OS process and the pipe to it."""

    def __init__(self, pool: ProcessPool) -> None:
        context: Any = multiprocessing.get_context(pool.start_method)
        if pool.start_method == "forkserver":
            _import_once()
        ours, theirs = context.Pipe()
        self.runs = 0
        self.post = Post(ours)
        _all.add(self)
        self.process = context.Process(
            target=_serve, args=(theirs, pool.initializer, pool.initargs), name="bgsched-worker"
        )
        try:
            with _one_at_a_time:
                self.process.start()
        except Exception as error:
            raise WorkerDiedError(f"no worker could be started: {text_of(error)}") from error
        finally:
            theirs.close()
        self._handle = _Handle(self.process)
        if not ours.poll(_STARTS_WITHIN):  # the main module does not end, say
            self.kill()
        if self.post.receive() is None:
            self._handle.close()
            raise self.how_it_died("before it took the run; what it says stands on standard error")

    def how_it_died(self, when: str = "before the run did") -> WorkerDiedError:
        """Return the error that says how the worker ended."""
        with _one_at_a_time:
            self.process.join(_PATIENCE)
            code = self.process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        hint = "; the system kills so when memory runs out" if code == -9 else ""  # noqa: PLR2004  SIGKILL
        return WorkerDiedError(f"the worker (OS process {self.process.pid}) ended {when}: {how}{hint}")

    def kill(self) -> None:
        """End the worker, whatever it does."""
        self._handle.kill()

    def release(self) -> None:
        """Let the worker, which has nothing to do, end."""
        self.post.connection.close()

    def dismiss(self) -> None:
        """See the worker end."""
        self.release()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.kill()
            self.process.join(_PATIENCE)
        self._handle.close()
        self.process.close()


class _Handle:
    """What kills an OS process, and no other one that has its number by then. Thread-safe.

    `multiprocessing` takes every worker for ended once its fork server is gone, and kills none of them any more.
    """

    def __init__(self, process: Any) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        if hasattr(os, "pidfd_open"):  # Linux
            with contextlib.suppress(OSError):
                self._descriptor = os.pidfd_open(process.pid)

    def kill(self) -> None:
        """Kill it, if it lives."""
        with self._lock, contextlib.suppress(ValueError, OSError):  # it has ended, and was dismissed perhaps
            if self._descriptor is None:
                self._process.kill()
            else:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close(self) -> None:
        """Forget it."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


_all: "weakref.WeakSet[_Child]" = weakref.WeakSet()


def _after_fork() -> None:
    """Let a forked child keep no pipe open: a worker knows by the end of its pipe that it has nobody to work for."""
    for child in list(_all):
        with contextlib.suppress(OSError):
            child.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _import_once() -> None:
    """Let the fork server import bgsched once for all workers, unless the host has other plans for it."""
    from multiprocessing import forkserver  # noqa: PLC0415  not every system has one

    server = getattr(forkserver, "_forkserver", None)  # nothing public says what it was told to import
    if getattr(server, "_preload_modules", None) == ["__main__"]:
        forkserver.set_forkserver_preload(["__main__", "bgsched"])


def _serve(connection: Line, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Execute errands in this OS process, until the pipe ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they go to all of a terminal or service; the scheduler sees to it
        signal.signal(number, lambda *_: None)  # a handler, as what is ignored stays ignored in subprocesses
    if hasattr(os, "register_at_fork"):  # a child of a process must not keep the pipe open when this one dies
        os.register_at_fork(after_in_child=connection.close)
    be_worker()
    if initializer is not None:
        initializer(*initargs)
    post = Post(connection)
    bench = Bench(post, orphaned=lambda _: os._exit(1))
    post.send("ready")
    while (errand := bench.next()) is not None:
        bench.execute(errand)
    sys.stdout.flush()
