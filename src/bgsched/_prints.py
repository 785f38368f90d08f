"""What a process prints, copied into its run log, where its process asks for it with ``prints=True``.

`sys.stdout` and `sys.stderr` belong to the whole OS process, so they are replaced, while such a run goes on, by streams
that pass everything on and copy what is written inside such a run, known by a context variable; save what a handler of
`logging` writes there, as the record has a line already.
"""

import contextlib
import io
import sys
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from bgsched._runlog import RunLog, handlers_print
from bgsched._turns import Shared, Turns

__all__ = ["captured_prints"]

_LONGEST_LINE = 16_000


class _Printed:
    """The lines that one run prints, put together from pieces."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._pieces = {"stdout": "", "stderr": ""}
        self._lines: deque[tuple[str, str]] = deque()
        self._turns = Turns()

    def write(self, name: str, text: str) -> None:
        self._turns.do(self._add, name, text)
        self._pass_on()

    def flush(self) -> None:
        self._turns.do(self._end_lines)
        self._pass_on()

    def _add(self, name: str, text: str) -> None:
        *lines, rest = (self._pieces[name] + text).split("\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], ""
        self._pieces[name] = rest
        self._lines.extend((name, line) for line in lines)

    def _end_lines(self) -> None:
        self._lines.extend((name, rest) for name, rest in self._pieces.items() if rest)
        self._pieces = dict.fromkeys(self._pieces, "")

    def _pass_on(self) -> None:
        """Write what is complete; not within a turn, as the run log asks the host's clock, which might print."""
        with contextlib.suppress(IndexError):
            while True:
                self._log.write("INFO", *self._lines.popleft())


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
        if printed is not None and not handlers_print():
            with contextlib.suppress(Exception):  # capturing never disturbs who prints
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


@contextlib.contextmanager
def captured_prints(log: RunLog) -> Iterator[None]:
    """Copy what is printed inside, in this context, into *log*."""
    _streams.hold()
    printed = _Printed(log)
    token = _printing.set(printed)
    try:
        yield
    finally:
        _printing.reset(token)
        printed.flush()
        _streams.let_go()


def _replace_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _Stream):
            setattr(sys, name, _Stream(name, stream))


def _put_back_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _Stream):
            setattr(sys, name, stream.behind)


_streams = Shared(_replace_streams, _put_back_streams)  # one pair serves all runs of the OS process
