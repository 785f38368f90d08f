"""The run log: what a run writes, line by line.

While a scheduler captures, `logging.Logger.callHandlers` is wrapped: what is logged *inside a run*, known by a context
variable, goes to the host's handlers as always, and then into that run's buffer. So a run log has what a logger lets
through by its level and its filters, whether it propagates or not, and whatever the host makes of its handlers
meanwhile; there is no handler of ours, so nothing that the host sets up, or leaves to Python, becomes another. A logger
of a class that overrides ``handle`` or ``callHandlers`` and does not call the original goes past us. `run.log` goes
straight into the buffer, whatever the levels are, and then on to the host's handlers by the ordinary rules.

Whatever is logged, capturing it raises nothing. A finalizer or signal handler that logs or prints, even while a line is
written here, adds a line (`_turns`); only while a record is put into words, others of the same thread are left out.

The buffer only collects; the scheduler's thread writes it to the store while the run goes on, so a process never waits
for a disk, and what a killed one wrote is there. It is bounded: the head of an attempt's lines and its newest ones are
kept, in the store as in memory; a gap in ``seq`` says how many were dropped between.
"""

import contextlib
import functools
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bgsched._turns import Shared, Turns
from bgsched.run import MASK, LogLine, LogTrim

__all__ = ["LOGGER", "LogBounds", "RunLog", "RunLogger", "capture", "capturing", "clean", "handlers_print", "release"]


class _OwnLogger(logging.LoggerAdapter[logging.Logger]):
    """What this library says in the host's log. A handler there that raises must not break the work it tells of.

    Whatever it raises: there are frameworks whose failures are no `Exception`. Ctrl-C is none of its own.
    """

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        """Log; the line is that of who says it."""
        try:
            super().log(level, msg, *args, stacklevel=2, **more)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001, S110  there is nobody to tell
            pass


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


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBounds:
    """How much of an attempt's log is kept: its head and its tail, in lines and bytes; and of a line, in characters."""

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
        "_now",
        "_run_id",
        "_secrets",
        "_seq",
        "_stored_from",
        "_tail",
        "_tail_size",
        "_turns",
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
        self._turns = Turns()
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
        if (meanwhile := getattr(_here, "meanwhile", None)) is not None:
            meanwhile.append((self, level, logger, text))
            return
        _here.meanwhile = meanwhile = []  # what the clock says, and who comes while it is asked, has this instant, too
        try:
            at = self._now()
        finally:
            _here.meanwhile = None
        self._turns.do(self._add, at, level, logger, text)
        for log, *line in meanwhile:
            log._turns.do(log._add, at, *line)  # noqa: SLF001  another of our own kind, where runs are nested

    def _add(self, at: datetime, level: str, logger: str, text: str) -> None:
        self._seq += 1
        line = LogLine(self._run_id, self._seq, at, level, logger, text, self._attempt)
        if self._unsent_tail is None or self._tail is None:
            self._unsent_head.append(line)
            self._grow_head(_bytes_of(text))
        else:
            self._unsent_tail.append(line)
            self._grow_tail(self._tail, self._unsent_tail, _bytes_of(text))

    def cleaned(self, text: str) -> str:
        """Return *text* as a line of this log."""
        return clean(self.redacted(text), self._bounds.line_size)

    def redacted(self, text: str) -> str:
        """Return *text* with the values of sensitive params masked."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def drain(self, *, to_the_end: bool = False) -> tuple[list[LogLine], LogTrim | None]:
        """Return the lines not drained yet, and which of those drained before should go from the store by now."""
        return self._turns.ask(self._drained, to_the_end) or ([], None)

    def _drained(self, to_the_end: bool) -> tuple[list[LogLine], LogTrim | None]:  # noqa: FBT001  as drain's
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
        if getattr(_here, "in_words", False):
            return
        with contextlib.suppress(Exception):  # capturing never disturbs who logs
            _here.in_words = True
            try:
                text = _text_of(record)
            except Exception as error:  # noqa: BLE001  an exc_info that is none, say
                text = f"<a record that cannot be shown: {type(error).__name__}>"
            finally:
                _here.in_words = False
            self.write(record.levelname, record.name, text)


def _text_of(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001  neither a wrong format string nor a value's repr may end the run
        text = f"{_shown(record.msg)} % {_shown(record.args)} ({type(error).__name__}: {_shown(error, str)})"
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
    if record.stack_info:
        text += "\n" + record.stack_info
    return text


def _shown(value: object, how: Callable[[object], str] = repr) -> str:
    """Return *value* as text, in so far as it can be written."""
    with contextlib.suppress(Exception):
        return how(value)
    if type(value) is tuple:  # the arguments of a record: most of them can be shown
        return f"({', '.join(map(_shown, value))})"
    return f"<{type(value).__name__} that cannot be shown>"


class RunLogger(logging.Logger):
    """`run.log`: every level reaches the run log; the host's handlers get what the logger *name* would let through."""

    def __init__(self, name: str, log: RunLog) -> None:
        super().__init__(name)
        self._log_lines = log
        self._host = logging.getLogger(name)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  the name that logging gave it
        """Return whether *level* reaches the run log; ``logging.disable`` is the host's, and only stops the host."""
        return level >= self.level

    def handle(self, record: logging.LogRecord) -> None:
        """Take the record, then hand it to the host."""
        self._log_lines.take_record(record)
        if self._host.isEnabledFor(record.levelno):
            record.bgsched_taken = True
            self._host.handle(record)


def _take(logged: Logged, record: logging.LogRecord) -> None:
    with contextlib.suppress(Exception):  # as in take_record: making the log is a part of it
        if not getattr(record, "bgsched_taken", False):
            logged.log.take_record(record)


_CallHandlers = Callable[[logging.Logger, logging.LogRecord], None]


def _around(call: _CallHandlers) -> Any:
    """Return ``callHandlers`` that captures as long as it is `_layer`, and later only passes on.

    The host's handlers come first, as they may mask what they get; what they raise is theirs, and the line is kept.
    What they print is the record once more.
    """

    @functools.wraps(call)
    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        logged = capturing.get()
        if logged is None or call_handlers is not _layer:
            return call(logger, record)
        outer = handlers_print()
        _here.in_handlers = True
        try:
            return call(logger, record)
        finally:
            _here.in_handlers = outer
            _take(logged, record)

    return call_handlers


def handlers_print() -> bool:
    """Return whether what is printed on this thread now is a record that is captured anyway."""
    return getattr(_here, "in_handlers", False)


def _put_layer() -> None:
    global _layer  # noqa: PLW0603  one layer serves all schedulers of the OS process
    if _layer is None:
        _layer = _around(logging.Logger.callHandlers)
        logging.Logger.callHandlers = _layer  # type: ignore[method-assign]  # the one place that all records pass


def _take_layer_off() -> None:
    """Leave `logging` as it was; below a layer that others put around ours meanwhile, ours stays and does nothing."""
    global _layer
    ours, _layer = _layer, None
    below: Any = getattr(ours, "__wrapped__", None)
    if logging.Logger.callHandlers is ours:
        logging.Logger.callHandlers = below  # type: ignore[method-assign]  # as above


_here = threading.local()
_BOUNDS = LogBounds()
_layer: Any = None
_captured = Shared(_put_layer, _take_layer_off)


def capture() -> None:
    """Begin to take records; each call is undone by one `release`."""
    _captured.hold()


def release() -> None:
    """Undo one `capture`; after the last, `logging` is as it was."""
    _captured.let_go()
