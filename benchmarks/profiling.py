"""Where the time of a work goes: CPU time by thread, and cProfile of the scheduler's thread and of one worker.

cProfile watches one thread, and from Python 3.12 on one at a time in the whole OS process; there only the scheduler's
thread is watched. It slows what it watches several times, so shares count, not times.
"""

import cProfile
import functools
import pstats
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.work import Figures, Work

__all__ = ["profiled"]

_SCHEDULER, _WORKER = "bgsched", "bgsched-worker-1"
_WATCHED = (_SCHEDULER, _WORKER) if sys.version_info < (3, 12) else (_SCHEDULER,)
_SHOWN = 25


def profiled(work: Work) -> Work:
    """Return *work* that also prints where its time went: to the standard error, after a run of its own for each."""

    @functools.wraps(work)
    def do(size: int, folder: Path) -> Figures:
        _watch(work, size, folder / "timed", ())
        return _watch(work, size, folder / "watched", _WATCHED)

    return do


def _watch(work: Work, size: int, folder: Path, watched: tuple[str, ...]) -> Figures:
    folder.mkdir()
    watcher = _Watcher(watched)
    with watcher:
        figures = work(size, folder)
    watcher.report(size)
    return figures


class _Watcher:
    """Sees every thread that runs inside the block."""

    def __init__(self, watched: tuple[str, ...]) -> None:
        self._watched = watched
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._profiles: list[tuple[str, cProfile.Profile]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._run = run = threading.Thread.run
        watcher = self

        def watched_run(thread: threading.Thread) -> None:
            watcher.see(thread, functools.partial(run, thread))

        threading.Thread.run = watched_run  # type: ignore[method-assign, assignment]  # that is the point
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._spent["main"] = time.thread_time() - self._began
        threading.Thread.run = self._run  # type: ignore[method-assign]  # as it was

    def see(self, thread: threading.Thread, run: "functools.partial[None]") -> None:
        """Run a thread, watched if it is one of those."""
        profile = cProfile.Profile() if thread.name in self._watched else None
        if profile is None:
            run()
        else:
            profile.runcall(run)
        with self._lock:
            self._spent[thread.name] += time.thread_time()
            self._profiles += [(thread.name, profile)] if profile is not None else []

    def report(self, size: int) -> None:
        """Print what was seen."""
        if not self._watched:
            print(f"CPU time by thread, for each of {size:,}", file=sys.stderr)
            for name, spent in sorted(self._spent.items(), key=lambda item: -item[1]):
                print(f"{name:32}{spent * 1e6 / size:10.1f} us", file=sys.stderr)
        for name, profile in self._profiles:
            print(f"\nthread {name}, by its own time", file=sys.stderr)
            pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(_SHOWN)
