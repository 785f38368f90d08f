"""The process that does nothing but be counted; peers find it by its name, in this module."""

import threading

__all__ = ["count_one", "counted"]


class _Countdown:
    """Counts runs; the last one sets an event."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self.done = threading.Event()

    def one(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.done.set()


_countdown = _Countdown(0)


def count_one() -> None:
    """Be counted."""
    _countdown.one()


def counted(size: int) -> threading.Event:
    """Begin to count; the event is set by run number *size*."""
    global _countdown  # noqa: PLW0603  peers find their function in this module
    _countdown = _Countdown(size)
    return _countdown.done
