"""The run log: what a run writes, line by line.

A handler on the root logger takes the records that are logged *inside a run*, known by a context variable, into that
run's buffer; it changes no level and no formatter, and the host's own handlers see every record as before. `run.log`
goes straight into the buffer, whatever the levels are, and then on to the host's handlers by the ordinary rules.

The buffer only collects; the scheduler's thread writes it to the store while the run goes on, so a process never waits
for a disk, and what a killed one wrote is there. It is bounded: the head of an attempt's lines and its newest ones are
kept, in the store as in memory; a gap in ``seq`` says how many were dropped between.
"""

import contextlib
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bgsched.run import MASK, LogLine, LogTrim

__all__ = ["LOGGER", "LogBounds", "RunLog", "RunLogger", "capture", "capturing", "clean", "keep_hold", "release"]


class _OwnLogger(logging.LoggerAdapter[logging.Logger]):
    """What this library says in the host's log. A handler there that raises must not break the work it tells of."""

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        """Log; the line is that of who says it."""
        with contextlib.suppress(Exception):
            super().log(level, msg, *args, stacklevel=2, **more)


LOGGER = _OwnLogger(logging.getLogger("bgsched"))


class Logged(Protocol):
    """Who has a log, made when it is asked for."""

    @property
    def log(self) -> "RunLog": ...


capturing: ContextVar[Logged | None] = ContextVar("bgsched_run_log", default=None)


def clean(text: str, longest: int) -> str:
    """Return *text* as every store can hold it: without NUL and lone surrogates; cut, and saying so, where too long."""
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text) - longest} more characters)"
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBounds:
    """How much of an attempt's log is kept: the head and the tail, each in lines and characters; and of one line."""

    head_lines: int = 5_000
    head_size: int = 1_000_000
    tail_lines: int = 1_000
    tail_size: int = 250_000
    line_size: int = 16_000


class RunLog:
    """The lines of one attempt on their way to the store. Thread-safe.

    *after*: the ``seq`` of the run's last line so far; *secrets*: texts that are masked wherever they are written.
    """

    __slots__ = (
        "_attempt",
        "_bounds",
        "_head_end",
        "_head_lines",
        "_head_size",
        "_lock",
        "_now",
        "_run_id",
        "_secrets",
        "_seq",
        "_stored_from",
        "_tail",
        "_tail_size",
        "_unsent_head",
        "_unsent_tail",
    )

    def __init__(
        self,
        run_id: int,
        attempt: int,
        now: Callable[[], datetime],
        *,
        after: int = 0,
        bounds: LogBounds | None = None,
        secrets: Collection[str] = (),
    ) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True) if secrets else ()
        self._run_id = run_id
        self._attempt = attempt
        self._now = now
        self._bounds = bounds or _BOUNDS
        self._lock = threading.Lock()
        self._seq = after
        self._head_end: int | None = None
        self._head_lines = self._head_size = 0
        self._unsent_head: list[LogLine] = []
        self._unsent_tail: deque[LogLine] | None = None  # few runs write so much that there is a tail
        self._tail: deque[tuple[int, int]] | None = None
        self._tail_size = 0
        self._stored_from = 0

    def write(self, level: str, logger: str, text: str) -> None:
        """Add a line; one that is too long is cut, and says so."""
        text = self.cleaned(text)
        with self._lock:
            self._seq += 1
            line = LogLine(self._run_id, self._seq, self._now(), level, logger, text, self._attempt)
            if self._unsent_tail is None or self._tail is None:
                self._unsent_head.append(line)
                self._grow_head(len(text))
            else:
                self._unsent_tail.append(line)
                self._grow_tail(self._tail, self._unsent_tail, len(text))

    def cleaned(self, text: str) -> str:
        """Return *text* as a line of this log."""
        return clean(self.redacted(text), self._bounds.line_size)

    def forget_after_fork(self) -> None:
        """Let a child write without waiting for a thread that it does not have; nobody sends what it writes."""
        self._lock = threading.Lock()

    def redacted(self, text: str) -> str:
        """Return *text* with the values of sensitive params masked."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def drain(self, *, to_the_end: bool = False) -> tuple[list[LogLine], LogTrim | None]:
        """Return the lines not drained yet, and which of those drained before should go from the store by now."""
        with self._lock:
            if not (self._unsent_head or self._tail):
                return [], None
            lines = [*self._unsent_head, *(self._unsent_tail or ())]
            self._unsent_head.clear()
            if self._head_end is None or not self._tail or self._unsent_tail is None:
                return lines, None
            self._unsent_tail.clear()
            first = self._tail[0][0]
            if first - self._stored_from < (1 if to_the_end else self._bounds.tail_lines):
                return lines, None
            self._stored_from = first
            return lines, LogTrim(self._run_id, self._attempt, self._head_end, first)

    def _grow_head(self, size: int) -> None:
        self._head_lines += 1
        self._head_size += size
        if self._head_lines >= self._bounds.head_lines or self._head_size >= self._bounds.head_size:
            self._head_end = self._seq
            self._stored_from = self._seq + 1
            self._tail, self._unsent_tail = deque(), deque()

    def _grow_tail(self, tail: deque[tuple[int, int]], unsent: deque[LogLine], size: int) -> None:
        """Keep as many of the newest lines as may be kept; older ones that were not sent yet are dropped here."""
        tail.append((self._seq, size))
        self._tail_size += size
        while len(tail) > self._bounds.tail_lines or self._tail_size > self._bounds.tail_size:
            seq, gone = tail.popleft()
            self._tail_size -= gone
            if unsent and unsent[0].seq == seq:
                unsent.popleft()

    def take_record(self, record: logging.LogRecord) -> None:
        """Add a record of `logging`, with its traceback; one that cannot be formatted is written as it can be.

        What a value logs while it is written into a line is left out: it might log itself, without an end.
        """
        if getattr(_taking, "a_record", False):
            return
        _taking.a_record = True
        try:
            self._take(record)
        finally:
            _taking.a_record = False

    def _take(self, record: logging.LogRecord) -> None:
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
        logged = capturing.get()
        if logged is not None and not getattr(record, "bgsched_taken", False):
            logged.log.take_record(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Do nothing: capturing never disturbs who logs."""


_taking = threading.local()
_BOUNDS = LogBounds()
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


def keep_hold() -> None:
    """Take records again where the host set its logging up anew meanwhile, which clears the root logger."""
    if _users and _handler not in logging.root.handlers:
        logging.root.addHandler(_handler)


def release() -> None:
    """Undo one `capture`; after the last, the root logger is as it was."""
    global _users  # noqa: PLW0603  see capture
    with _users_lock:
        _users -= 1
        if _users == 0:
            with contextlib.suppress(ValueError):
                logging.root.removeHandler(_handler)
