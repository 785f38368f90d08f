"""A clock that a test moves."""

import math
import threading
from datetime import UTC, datetime, timedelta

from bgsched.clock import Signal

__all__ = ["ManualClock"]


def _aware(what: str, instant: object) -> datetime:
    if not isinstance(instant, datetime) or instant.utcoffset() is None:
        raise ValueError(f"{what} an aware instant, got {instant!r}; write datetime(..., tzinfo=UTC)")
    return instant.astimezone(UTC)


def _span(given: object) -> timedelta:
    if isinstance(given, timedelta):
        return given
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError(f"time passes by a timedelta or a number of seconds, got {given!r}")
    try:
        return timedelta(seconds=given)
    except OverflowError:
        raise ValueError(f"no clock shows what is {given!r} seconds later") from None


def _moved(instant: datetime, span: timedelta) -> datetime:
    try:
        return instant + span
    except OverflowError:
        raise ValueError(f"no clock shows what is {span} from {instant.isoformat()}: years go from 1 to 9999") from None


class ManualClock:
    """Stands still until it is told otherwise. Thread-safe; whoever waits on it wakes when its time has come.

    *start*: the first instant, aware; by default 1 January 2026, 00:00 UTC.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC) if start is None else _aware("a clock starts at", start)
        self._elapsed = timedelta(0)
        self._waiting: dict[threading.Event, timedelta] = {}
        self._changed = threading.Condition()
        self._mover = threading.get_ident()

    def now(self) -> datetime:
        """Return the instant that the wall clock shows."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds that have passed since the start."""
        return self._elapsed.total_seconds()

    def advance(self, span: timedelta | float) -> None:
        """Let time pass, on both clocks. *span*: a timedelta or seconds, not negative."""
        step = _span(span)
        if step < timedelta(0):
            raise ValueError(f"time passes forward, got {step}; jump() moves the wall clock back")
        self._mover = threading.get_ident()
        with self._changed:
            self._now = _moved(self._now, step)
            self._elapsed += step
            self._wake()

    def advance_to(self, instant: datetime) -> None:
        """Let time pass until *instant*."""
        self.advance(_aware("time passes until", instant) - self._now)

    def jump(self, span: timedelta) -> None:
        """Set the wall clock forward or back, as an administrator or NTP does; no time passes."""
        if not isinstance(span, timedelta):
            raise ValueError(f"a clock jumps by a timedelta, got {span!r}; write timedelta(seconds=...)")  # noqa: TRY004  as its neighbours
        with self._changed:
            self._now = _moved(self._now, span)

    def wait(self, signal: Signal, timeout: float) -> None:
        """Wait until *signal* is set or the clock was advanced by *timeout* seconds."""
        woken = threading.Event()
        signal.follow(woken)
        try:
            with self._changed:
                until = self._elapsed + timedelta(seconds=timeout)
                if until <= self._elapsed:
                    return
                self._waiting[woken] = until
                self._changed.notify_all()
            woken.wait()
        finally:
            signal.leave(woken)
            with self._changed:
                self._waiting.pop(woken, None)

    def wait_or_pass(self, signal: Signal, timeout: float) -> None:
        """Wait, but let the time pass by itself on the thread that made the clock or moved it last: who else would?

        So does a run that sleeps and has the thread of `run_pending()` or `run_until_idle()`.
        """
        if threading.get_ident() != self._mover:
            self.wait(signal, timeout)
        elif not signal.is_set():
            self.advance(max(timeout, 0.0))

    def wait_for_waiters(self, count: int = 1, timeout: float = 10.0, *, within: float = math.inf) -> None:
        """Return once *count* threads wait on this clock, for *within* of its seconds at most; real time, for tests.

        Raises:
            TimeoutError: they do not come within *timeout* seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._count(within) >= count, timeout):
                raise TimeoutError(f"{self._count(within)} of {count} threads wait on the clock after {timeout} s")

    def _count(self, within: float) -> int:
        """Count those who wait and were not woken by their signal."""
        return sum(
            (until - self._elapsed).total_seconds() <= within and not woken.is_set()
            for woken, until in self._waiting.items()
        )

    def _wake(self) -> None:
        due = [woken for woken, until in self._waiting.items() if until <= self._elapsed]
        for woken in due:
            del self._waiting[woken]  # it waits no more, even before its thread has seen that
            woken.set()
