"""One after another, even where a thread comes in its own way.

A finalizer or a signal handler begins between any two steps of the thread that it interrupts, and may do whatever code
may: print, log, shut the scheduler down. A lock that this thread holds it would wait for without an end, and a lock
that lets its own thread in would show it work that is half done. So a step is put into a queue, which needs no lock,
and whoever has the turn takes all steps that are there. Who is told that its own thread has the turn leaves the step
where it is: it is taken as soon as the thread is back there.

Nothing that a host wrote is called within a turn, save by Python itself.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Shared", "Turns", "forks"]

R = TypeVar("R")
_forks = 0  # of which this OS process is the child


def forks() -> int:
    """Return how many forks this OS process is the child of: what was made before the last one is a copy here."""
    return _forks


class Turns:
    """Takes steps one after another, in the order of their coming, from any thread, finalizer and signal handler.

    *patience*: for how many seconds others wait for the turn (``-1``: as long as it takes). A finalizer may hold it up,
    and may itself wait for who waits here; a step that was not taken by then is left to whoever has the turn. A
    scheduler that waits no longer than a second still shows in time that it lives.
    """

    __slots__ = ("_at_it", "_forks", "_lock", "_patience", "_steps")

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
        self._steps: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._lock = threading.RLock()
        self._at_it = False
        self._forks = _forks

    def do(self, step: Callable[..., object], *values: object) -> None:
        """Take a step; it is done on return, unless this interrupts a turn of this thread, or patience ended."""
        self._steps.append((step, values))
        while self._steps and (lock := self._begin()):  # again, for what came between the last look and the end
            try:
                self._catch_up()
            finally:
                self._end(lock)

    def ask(self, question: Callable[..., R], *values: object) -> R | None:
        """Return the answer to a question, after all steps before; ``None`` where there is no turn to be had."""
        if not (lock := self._begin()):
            return None
        try:
            self._catch_up()
            return question(*values)
        finally:
            self._end(lock)

    def _begin(self) -> Any:
        """Return the lock that `_end` gives back; ``None`` where the turn does not come, or is this thread's now."""
        if self._forks != _forks:
            self._renew()
        lock = self._lock
        if not lock.acquire(timeout=self._patience):
            return None
        if self._at_it:
            lock.release()
            return None
        self._at_it = True
        return lock

    def _catch_up(self) -> None:
        while self._steps:
            step, values = self._steps.popleft()
            step(*values)

    def _end(self, lock: Any) -> None:
        self._at_it = False
        lock.release()

    def _renew(self) -> None:
        """Begin anew in a forked child: the thread that had the turn may not be there."""
        self._lock, self._at_it, self._forks = threading.RLock(), False, _forks


class Shared:
    """What is changed in the whole OS process while somebody needs it.

    *place* is called for each who comes, as others may have changed it back; *restore* when the last has gone.
    """

    def __init__(self, place: Callable[[], None], restore: Callable[[], None]) -> None:
        self._place = place
        self._restore = restore
        self._users = 0
        self._turns = Turns(patience=-1)

    def hold(self) -> None:
        """Need it from now on; each call is undone by one `let_go`."""
        self._turns.do(self._come)

    def let_go(self) -> None:
        """Undo one `hold`."""
        self._turns.do(self._go)

    def _come(self) -> None:
        self._users += 1
        self._place()

    def _go(self) -> None:
        self._users = max(0, self._users - 1)  # a fork in the middle of a shutdown may have it undone twice
        if self._users == 0:
            self._restore()


def _count_fork() -> None:
    global _forks  # noqa: PLW0603  a fact of the whole OS process
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)
