"""What a host may give as ``executor=``, as values: settings, nothing that runs.

A `ProcessPoolExecutor` is taken as settings, too. It cannot be used itself: when one of its workers dies, it is broken
as a whole, and takes the other runs with it.
"""

import concurrent.futures
import math
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from typing import Any, Literal

from bgsched.request.policies import check_count

__all__ = ["Choice", "ExecutorOption", "HostThreads", "ProcessPool", "RemoteExecutor", "chosen"]

StartMethod = Literal["spawn", "forkserver"]
_DEFAULT_METHOD: StartMethod = "forkserver" if sys.platform == "linux" else "spawn"
_FORK = (
    "an OS process with threads, as every scheduler is, must not be forked: what another thread holds stays locked in "
    "the child for ever"
)


@dataclass(frozen=True, eq=False)
class ProcessPool:
    """OS processes of this machine that execute runs: ``Scheduler(executor=ProcessPool(4))``.

    Kill and timeout are enforced: if a run does not stop within *grace*, its worker process is killed. Other runs are
    unaffected, also when a worker crashes.

    Args:
        workers: how many there are at most, and so how many runs go on at once; by default, as many as processors.
        grace: how long a run that is asked to stop, or whose time is over, may still clean up.
        start_method: how they are started, as `multiprocessing` says it: ``"spawn"``, or ``"forkserver"``, the default
            on Linux.
        initializer: called with *initargs* in each worker before its first run; a function at the top of a module.
        runs_per_worker: after how many runs a worker is replaced by a fresh one; ``None``: never.

    Raises:
        ValueError: a value has no meaning, or the start method is ``"fork"``.
    """

    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    _: KW_ONLY
    grace: timedelta = timedelta(seconds=1)
    start_method: StartMethod = _DEFAULT_METHOD
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    runs_per_worker: int | None = None

    def __post_init__(self) -> None:
        check_count("workers", self.workers)
        if self.runs_per_worker is not None:
            check_count("runs_per_worker", self.runs_per_worker)
        grace: Any = self.grace
        if not isinstance(grace, timedelta) or grace < timedelta(0):
            raise ValueError(f"grace must be a timedelta that is not negative, got {self.grace!r}")
        method: str = self.start_method
        if method == "fork":
            raise ValueError(f"start_method must not be 'fork': {_FORK}; write 'forkserver' or 'spawn'")
        methods = [known for known in multiprocessing.get_all_start_methods() if known != "fork"]
        if method not in methods:
            raise ValueError(f"start_method must be {' or '.join(map(repr, methods))}, got {method!r}")
        if self.initializer is not None and not callable(self.initializer):
            raise ValueError(f"initializer must be a function, got {self.initializer!r}")

    def __repr__(self) -> str:
        return f"ProcessPool({self.workers})"


@dataclass(frozen=True, eq=False)
class RemoteExecutor:
    """Any `concurrent.futures.Executor`, with what the scheduler must know of it: ``RemoteExecutor(dask, workers=64)``.

    Its workers connect back to this OS process, to say what their runs log and how they end, and to hear that they
    should stop. They need the same version of bgsched, and the modules of the processes.

    Args:
        executor: it stays the host's: the scheduler does not shut it down.
        workers: how many runs are given to it at once; by default, the scheduler's `workers`.
        host: the address of this machine as the workers see it. By default the one that leads to the cluster for a
            Dask executor, and ``"127.0.0.1"`` for any other.
        port: where this OS process listens; 0 is any free port.

    Raises:
        ValueError: a value has no meaning.
    """

    executor: Executor
    _: KW_ONLY
    workers: int | None = None
    host: str | None = None
    port: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.executor, Executor):
            raise ValueError(  # noqa: TRY004  as its neighbours
                f"executor must be a concurrent.futures.Executor, got {self.executor!r}{_hint(self.executor)}"
            )
        if self.workers is not None:
            check_count("workers", self.workers)
        if not 0 <= self.port <= 65_535:  # noqa: PLR2004  the ports that there are
            raise ValueError(f"port must be 0..65535, got {self.port}")

    def __repr__(self) -> str:
        return f"RemoteExecutor({type(self.executor).__name__})"


@dataclass(frozen=True, eq=False)
class HostThreads:
    """Threads of the host's own, in this OS process."""

    executor: ThreadPoolExecutor

    @property
    def workers(self) -> int | None:
        """How many there are."""
        return getattr(self.executor, "_max_workers", None)


Choice = Literal["threads"] | ProcessPool | RemoteExecutor | HostThreads
ExecutorOption = Literal["threads"] | ProcessPool | RemoteExecutor | Executor
"""What ``executor=`` takes: ``"threads"`` are the scheduler's own."""

_OF_OTHER_INTERPRETERS: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", ())  # Python 3.14


def chosen(given: ExecutorOption) -> Choice:
    """Return what *given* stands for.

    Raises:
        ValueError: it is nothing that executes.
    """
    if isinstance(given, ProcessPool | RemoteExecutor) or given == "threads":
        return given
    if type(given) is ProcessPoolExecutor:
        return _as_settings(given)
    if isinstance(given, ThreadPoolExecutor) and not isinstance(given, _OF_OTHER_INTERPRETERS):
        return HostThreads(given)
    if isinstance(given, Executor):
        return RemoteExecutor(given, workers=_workers_of(given))
    raise ValueError(
        f"executor must be ProcessPool(...), a concurrent.futures.Executor or 'threads', got {given!r}{_hint(given)}"
    )


def _as_settings(given: ProcessPoolExecutor) -> ProcessPool:
    inside: Any = given
    method = inside._mp_context.get_start_method()  # noqa: SLF001  it shows its settings nowhere else
    return ProcessPool(
        inside._max_workers,  # noqa: SLF001  as above
        start_method=_DEFAULT_METHOD if method == "fork" else method,
        initializer=inside._initializer,  # noqa: SLF001  as above
        initargs=inside._initargs,  # noqa: SLF001  as above
        runs_per_worker=inside._max_tasks_per_child,  # noqa: SLF001  as above
    )


def _workers_of(given: Executor) -> int | None:
    count = getattr(given, "_max_workers", None)  # what loky and others have in common with the standard library's
    return count if isinstance(count, int) and 0 < count < math.inf else None


def _hint(given: Any) -> str:
    return "; write client.get_executor()" if hasattr(given, "get_executor") else ""
