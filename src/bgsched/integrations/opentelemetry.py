"""A span for each run, by OpenTelemetry's API alone: which SDK records it, and where to, is the host's affair.

    scheduler = Scheduler(around=span_per_run())

What a process does inside its run becomes a child of the span. Nothing that a tracer raises ends or fails a run. Spans
are ended on a thread of their own, for a span processor may export there and then, and wait for the network; they are
begun on the run's thread, where they are to be current, and so is the host's own code that hears of it (a sampler, the
``on_start`` of a span processor): a run waits for that.
"""

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TypeVar

from bgsched._current import CurrentRun
from bgsched._outcome import described, is_late, timed_out
from bgsched._runlog import LOGGER
from bgsched.errors import MissingExtraError

try:
    from opentelemetry import trace
    from opentelemetry.context import attach, detach
    from opentelemetry.trace import Span, Status, StatusCode, TracerProvider
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("opentelemetry"):
        raise
    raise MissingExtraError("bgsched.integrations.opentelemetry", "otel") from error

__all__ = ["span_per_run"]

R = TypeVar("R")

_MOST_WAITING = 10_000
_LAST_WORDS = 2.0  # seconds that the interpreter's end waits for spans


def span_per_run(tracer_provider: TracerProvider | None = None) -> Callable[[CurrentRun], AbstractContextManager[None]]:
    """Return the hook for ``Scheduler(around=...)``. *tracer_provider*: by default the global one.

    In the workers of a `ProcessPool` that is the worker's, which an initializer sets up.
    """
    return partial(_surround, tracer_provider)


@contextmanager
def _surround(tracer_provider: TracerProvider | None, run: CurrentRun) -> Iterator[None]:
    span = _try(lambda: _begin(run, tracer_provider))
    if span is None:
        yield
        return
    token = _try(lambda: attach(trace.set_span_in_context(span)))
    try:
        yield
    except BaseException as error:
        failure = error
        _try(lambda: _note(span, run, failure))
        raise
    else:
        _try(lambda: _note_time(span, run))
    finally:
        if token is not None:
            detach(token)  # which raises nothing
        _try(lambda: _ending.end(span))


class _Ending:
    """Ends spans one after another, each as of the instant at which it was handed in. Thread-safe."""

    def __init__(self) -> None:
        self.begin()
        atexit.register(self.settle, _LAST_WORDS)

    def begin(self) -> None:
        """Begin with nothing; in a child after fork, what waits is the parent's."""
        self._waiting: deque[tuple[Span, int]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def end(self, span: Span) -> None:
        """End *span* soon; where ten thousand others wait, its exporter hangs, and it is dropped.

        Raises:
            RuntimeError: no thread can be had just now; the next span brings one for both.
        """
        with self._changed:
            if len(self._waiting) >= _MOST_WAITING:
                return
            self._waiting.append((span, time.time_ns()))
            if not self._works():
                thread = threading.Thread(target=self._work, name="bgsched-spans", daemon=True)
                thread.start()
                self._thread = thread
            self._changed.notify_all()

    def settle(self, timeout: float) -> None:
        """Wait until all spans are ended, for *timeout* seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting and self._works()), timeout)

    def _works(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                span, at = self._waiting[0]
            try:
                _try(partial(span.end, at))
            finally:  # whatever ends this thread, the next one does not begin with the same span
                with self._changed:
                    self._waiting.popleft()
                    self._changed.notify_all()


_ending = _Ending()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ending.begin)


def _begin(run: CurrentRun, tracer_provider: TracerProvider | None) -> Span:
    return trace.get_tracer("bgsched", tracer_provider=tracer_provider).start_span(
        f"run {run.process}",
        attributes={
            "bgsched.process": run.process,
            "bgsched.run.id": run.id,
            "bgsched.run.attempt": run.attempt,
            "bgsched.run.fire_time": run.fire_time.isoformat(),
            "bgsched.request.id": run.request_id,
        },
    )


def _note(span: Span, run: CurrentRun, failure: BaseException) -> None:
    """Write down what the run failed with, as `Span.record_exception` would, but as it is stored: without secrets."""
    error = described(run._live, failure)  # noqa: SLF001  what masks it is the run's log
    kind = type(failure)
    attributes = {
        "exception.type": error.type if kind.__module__ == "builtins" else f"{kind.__module__}.{error.type}",
        "exception.message": error.message,
        "exception.stacktrace": error.traceback,
    }
    span.add_event("exception", attributes)
    span.set_status(Status(StatusCode.ERROR, f"{error.type}: {error.message}"))


def _note_time(span: Span, run: CurrentRun) -> None:
    """Write down that the run's time was over when its process returned: it has ended as TIMED_OUT."""
    if is_late(run._live):  # noqa: SLF001  our own kind
        span.set_status(Status(StatusCode.ERROR, timed_out(run._live).reason))  # noqa: SLF001  the same


def _try(act: Callable[[], R]) -> R | None:
    """Do what must not fail a run; say it when it could not be done. Ctrl-C goes on to where it is waited for."""
    try:
        return act()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  a tracer is the host's code, and may even want to exit
        LOGGER.warning("the span of a run failed", exc_info=True)
        return None
