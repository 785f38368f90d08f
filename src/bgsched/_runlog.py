"""The run log: what a run writes, line by line.

A handler on the root logger takes the records that are logged *inside a run*, known by a context variable, into that
run's buffer; it changes no level and no formatter, and the host's own handlers see every record as before. `run.log`
goes straight into the buffer, whatever the levels are, and then on to the host's handlers by the ordinary rules.

The buffer only collects; the scheduler's thread writes it to the store, so a process never waits for a disk. It is
bounded: after the first *head* lines the newest *tail* are kept, and a line says how many were dropped between.
"""

import contextlib
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime

from bgsched.run import LogLine

__all__ = ["LOGGER", "RunLog", "RunLogger", "capture", "capturing", "release"]

LOGGER = logging.getLogger("bgsched")
_HEAD = 5_000
_TAIL = 1_000
_LONGEST = 16_384

capturing: ContextVar["RunLog | None"] = ContextVar("bgsched_run_log", default=None)


class RunLog:
    """The lines of one attempt on their way to the store. Thread-safe."""

    def __init__(self, run_id: int, attempt: int, now: Callable[[], datetime], *, after: int = 0) -> None:
        self._run_id = run_id
        self._attempt = attempt
        self._now = now
        self._lock = threading.Lock()
        self._seq = after
        self._room = _HEAD
        self._fresh: list[LogLine] = []
        self._tail: deque[LogLine] = deque(maxlen=_TAIL)
        self._dropped = 0

    def write(self, level: str, logger: str, text: str) -> None:
        """Add a line; one that is too long is cut, and says so."""
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}... ({len(text) - _LONGEST} more characters)"
        text = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
        with self._lock:
            self._seq += 1
            line = LogLine(self._run_id, self._seq, self._now(), level, logger, text, self._attempt)
            if self._room:
                self._room -= 1
                self._fresh.append(line)
                return
            self._dropped += len(self._tail) == _TAIL
            self._tail.append(line)

    def drain(self, *, to_the_end: bool = False) -> list[LogLine]:
        """Return the lines not drained yet; the tail only once the run has ended."""
        with self._lock:
            lines, self._fresh = self._fresh, []
            if to_the_end and self._tail:
                if self._dropped:
                    first = self._tail[0]
                    text = f"... {self._dropped} lines were dropped here ..."
                    seq = first.seq - 1
                    lines.append(LogLine(self._run_id, seq, first.at, "WARNING", "bgsched", text, self._attempt))
                lines.extend(self._tail)
                self._tail.clear()
            return lines

    def take_record(self, record: logging.LogRecord) -> None:
        """Add a record of `logging`, with its traceback; one that cannot be formatted is written as it can be."""
        try:
            text = record.getMessage()
        except Exception as error:  # noqa: BLE001  a wrong format string must not end the run
            text = f"{record.msg!r} % {record.args!r} ({type(error).__name__}: {error})"
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        if record.stack_info:
            text += "\n" + record.stack_info
        self.write(record.levelname, record.name, text)


class RunLogger(logging.Logger):
    """`run.log`: every level reaches the run log; the host's handlers get what the logger *name* would let through."""

    def __init__(self, name: str, log: RunLog) -> None:
        super().__init__(name)
        self._log_lines = log
        self._host = logging.getLogger(name)

    def handle(self, record: logging.LogRecord) -> None:
        """Take the record, then hand it to the host."""
        self._log_lines.take_record(record)
        if self._host.isEnabledFor(record.levelno):
            record.bgsched_taken = True
            self._host.handle(record)


class _Capture(logging.Handler):
    """Takes what is logged inside a run. On the root logger, beside the host's own handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        log = capturing.get()
        if log is not None and not getattr(record, "bgsched_taken", False):
            log.take_record(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Do nothing: capturing never disturbs who logs."""


_handler = _Capture()
_users = 0
_users_lock = threading.Lock()


def capture() -> None:
    """Begin to take records; each call is undone by one `release`."""
    global _users  # noqa: PLW0603  one handler serves all schedulers of the OS process
    with _users_lock:
        _users += 1
        if _handler not in logging.root.handlers:
            logging.root.addHandler(_handler)


def release() -> None:
    """Undo one `capture`; after the last, the root logger is as it was."""
    global _users  # noqa: PLW0603  see capture
    with _users_lock:
        _users -= 1
        if _users == 0:
            with contextlib.suppress(ValueError):
                logging.root.removeHandler(_handler)
