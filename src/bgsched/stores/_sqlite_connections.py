"""The connections that a SQLite store has open."""

import contextlib
import ctypes
import sqlite3

__all__ = ["Open", "taken_from"]


class Open:
    """The connections that a store has open and has lent to nobody."""

    def __init__(self) -> None:
        self.writer: sqlite3.Connection | None = None
        self.idle: list[sqlite3.Connection] = []  # those that only read

    def __bool__(self) -> bool:
        return self.writer is not None or bool(self.idle)

    def close(self) -> None:
        """Close them all."""
        writer, self.writer = self.writer, None
        idle, self.idle = self.idle, []
        if writer is not None:
            writer.close()
        while connection := taken_from(idle):
            connection.close()

    def abandon(self) -> None:
        """Leave them open for good: whoever closes the last one writes what its log holds."""
        for connection in (self.writer, *self.idle):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))  # not even when Python ends


def taken_from(idle: list[sqlite3.Connection]) -> sqlite3.Connection | None:
    """Return one of the connections; who looks first and takes then may find that another thread was quicker."""
    with contextlib.suppress(IndexError):
        return idle.pop()
    return None
