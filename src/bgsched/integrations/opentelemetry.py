"""A span for each run, by OpenTelemetry's API alone: which SDK records it, and where to, is the host's affair.

    scheduler = Scheduler(around=span_per_run())

What a process does inside its run becomes a child of the span. Nothing that a tracer does ends or fails a run.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from bgsched._current import CurrentRun
from bgsched._runlog import LOGGER
from bgsched.errors import MissingExtraError

try:
    from opentelemetry import trace
    from opentelemetry.trace import Span, Status, StatusCode, TracerProvider
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("opentelemetry"):
        raise
    raise MissingExtraError("bgsched.integrations.opentelemetry", "otel") from error

__all__ = ["span_per_run"]


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
    with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            failure = error
            _try(lambda: _note(span, failure))
            raise
        finally:
            _try(span.end)


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


def _note(span: Span, failure: BaseException) -> None:
    span.record_exception(failure)
    span.set_status(Status(StatusCode.ERROR, f"{type(failure).__name__}: {failure}"))


def _try(act: "Callable[[], Span | None]") -> Span | None:
    """Do what must not fail a run; say it when it could not be done."""
    try:
        return act()
    except Exception:  # noqa: BLE001  a tracer is the host's code
        LOGGER.warning("the span of a run failed", exc_info=True)
        return None
