"""Where time comes from.

The one place that reads a clock. Everything else is given an instant, so that a test can be the clock
(`bgsched.testing.ManualClock`). Two readings, never mixed: the wall clock says *when* (it may jump), the monotonic
clock says *how long* (it never goes back).
"""

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "Signal", "SystemClock", "deadline_in", "left_until"]


class Signal(threading.Event):
    """An event that sets others with it, so that a clock can wait for it and for time at once, without polling."""

    def __init__(self) -> None:
        super().__init__()
        self._followers: set[threading.Event] = set()

    def set(self) -> None:
        """Set the event and its followers."""
        super().set()
        for follower in tuple(self._followers):
            follower.set()

    def follow(self, follower: threading.Event) -> None:
        """Set *follower* whenever this is set, and now if it is."""
        self._followers.add(follower)
        if self.is_set():
            follower.set()

    def leave(self, follower: threading.Event) -> None:
        """Undo `follow`."""
        self._followers.discard(follower)


class Clock(Protocol):
    """What the scheduler needs to know about time."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from a fixed but unknown origin; never goes back."""
        ...

    def wait(self, signal: Signal, timeout: float) -> None:
        """Return when *signal* is set or *timeout* seconds have passed, whichever is first."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall clock's instant in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the monotonic clock in seconds."""
        return time.monotonic()

    def wait(self, signal: Signal, timeout: float) -> None:
        """Wait in real time; time that the machine spends suspended does not count."""
        signal.wait(timeout)


def deadline_in(seconds: float) -> float:
    """Return the deadline that is so many seconds away, in real time.

    It bounds a wait for threads and their executors, which take real time whatever clock says what is due: one that
    stands still would have a host wait for ever.
    """
    return time.monotonic() + seconds


def left_until(deadline: float) -> float:
    """Return how many seconds are left until a deadline, none at least."""
    return max(0.0, deadline - time.monotonic())
