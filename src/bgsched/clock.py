"""Where time comes from.

The one place that reads a clock. Everything else is given an instant, so that a test can be the clock
(`bgsched.testing.ManualClock`). Two readings, never mixed: the wall clock says *when* (it may jump), the monotonic clock
says *how long* (it never goes back).
"""

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the scheduler needs to know about time."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from a fixed but unknown origin; never goes back."""
        ...

    def wait(self, event: threading.Event, timeout: float) -> None:
        """Return when *event* is set or *timeout* seconds have passed, whichever is first."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall clock's instant in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the monotonic clock in seconds."""
        return time.monotonic()

    def wait(self, event: threading.Event, timeout: float) -> None:
        """Wait in real time; time that the machine spends suspended does not count."""
        event.wait(timeout)
