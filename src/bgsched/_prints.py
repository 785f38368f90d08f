"""What a process prints, copied into its run log, where its process asks for it with ``prints=True``.

`sys.stdout` and `sys.stderr` belong to the whole OS process, so they are replaced, while such a run goes on, by streams
that pass everything on and copy what is written inside such a run, known by a context variable.
"""

import contextlib
import io
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from bgsched._runlog import RunLog

__all__ = ["captured_prints"]

_LONGEST_LINE = 16_000


class _Printed:
    """The lines that one run prints, put together from pieces."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._pieces = {"stdout": "", "stderr": ""}
        self._lock = threading.Lock()

    def write(self, name: str, text: str) -> None:
        with self._lock:
            *lines, rest = (self._pieces[name] + text).split("\n")
            if len(rest) > _LONGEST_LINE:
                lines, rest = [*lines, rest], ""
            self._pieces[name] = rest
        for line in lines:
            self._log.write("INFO", name, line)

    def flush(self) -> None:
        for name, rest in self._pieces.items():
            if rest:
                self._log.write("INFO", name, rest)


_printing: ContextVar[_Printed | None] = ContextVar("bgsched_printing", default=None)


class _Stream(io.TextIOBase):
    """Passes on what is written, and copies it where a run prints."""

    def __init__(self, name: str, behind: Any) -> None:
        self._name = name
        self.behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    @property
    def encoding(self) -> Any:  # type: ignore[override]  # the base class has a plain attribute
        return getattr(self.behind, "encoding", "utf-8")

    @property
    def buffer(self) -> "_Bytes":
        return _Bytes(self)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.copy(text)
        if self.behind is not None:
            self.behind.write(text)
        return len(text)

    def copy(self, text: str) -> None:
        printed = _printing.get()
        if printed is not None:
            printed.write(self._name, text)

    def flush(self) -> None:
        if self.behind is not None:
            self.behind.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.behind is not None and self.behind.isatty()


class _Bytes:
    """The stream below, for those who print bytes; what is not UTF-8 is copied as escapes."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream.behind.buffer, name)

    def write(self, data: Any) -> int:
        whole = bytes(data)
        self._stream.copy(whole.decode("utf-8", "backslashreplace"))
        below = getattr(self._stream.behind, "buffer", None)
        if below is not None:
            below.write(whole)
        return len(whole)


_users = 0
_users_lock = threading.Lock()


@contextlib.contextmanager
def captured_prints(log: RunLog) -> Iterator[None]:
    """Copy what is printed inside, in this context, into *log*."""
    _install()
    printed = _Printed(log)
    token = _printing.set(printed)
    try:
        yield
    finally:
        _printing.reset(token)
        printed.flush()
        _uninstall()


def _install() -> None:
    global _users  # noqa: PLW0603  one pair of streams serves all runs of the OS process
    with _users_lock:
        _users += 1
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if not isinstance(stream, _Stream):
                setattr(sys, name, _Stream(name, stream))


def _uninstall() -> None:
    global _users  # noqa: PLW0603  see _install
    with _users_lock:
        _users -= 1
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if _users == 0 and isinstance(stream, _Stream):
                setattr(sys, name, stream.behind)
