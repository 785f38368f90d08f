"""A gate in front of SQLite, which is shut while the OS process forks: no open database may cross a fork.

SQLite keeps the locks of a file once for each OS process, in its memory. A child that opened the file again would find
there what its parent held at that moment: locks that nobody gives back, and none of its own on the file, so that the
parent, when it closes, removes the write-ahead log from under it. And a mutex that another thread held stays held. So
before a fork everybody gets out of SQLite, and all connections are closed; parent and child open theirs anew.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Gate"]


class Gate:
    """Lets any number of threads in, any number of times each; while it is shut, nobody who is not in already."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Be as new, in a child: whoever was inside is not in it."""
        self._changed = threading.Condition()
        self._inside = 0
        self._shut = 0
        self._mine = threading.local()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside."""
        depth = getattr(self._mine, "depth", 0)
        if not depth:
            with self._changed:
                while self._shut:
                    self._changed.wait()
                self._inside += 1
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            if not depth:
                with self._changed:
                    self._inside -= 1
                    if self._shut:
                        self._changed.notify_all()

    @property
    def is_shut(self) -> bool:
        """Whether somebody waits for all to get out."""
        return self._shut > 0

    def shut(self, patience: float) -> bool:
        """Let nobody in; return whether all are out now, for whom *patience* seconds are waited at most."""
        is_in = getattr(self._mine, "depth", 0) > 0
        with self._changed:
            self._shut += 1
            return self._changed.wait_for(lambda: self._inside <= is_in, patience) and not is_in

    def open(self) -> None:
        """Undo one `shut`."""
        with self._changed:
            self._shut -= 1
            self._changed.notify_all()
