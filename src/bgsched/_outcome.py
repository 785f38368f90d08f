"""What came of a run: each way that an attempt can end, as the change of its record.

The one place that says which end is which. A run that was asked to stop and did is KILLED, or ABANDONED where only its
scheduler's end asked for it: then it may run again. One that was asked, never looked, and came to its end all the same
is a SUCCESS: its work is done. An exception ends it in ERROR, or lets it wait for its next attempt. What a user's
objects do when they are written down (a ``__str__`` that raises, a million characters) must not get any further than
here.
"""

import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from bgsched._current import LiveRun, StopCause
from bgsched._params import as_json
from bgsched._runlog import clean
from bgsched.errors import ParamsError, RunKilled
from bgsched.run import Run, RunError, RunStatus

__all__ = [
    "Outcome",
    "broken_off",
    "described",
    "failed",
    "in_time",
    "is_late",
    "never_began",
    "returned",
    "text_of",
    "time_out",
    "timed_out",
    "went_wrong",
    "write_stack",
]

_MICROSECOND = timedelta(microseconds=1)
_LONGEST_MESSAGE = 10_000
_LONGEST_TRACEBACK = 100_000
_LARGEST_RESULT = 16_000_000
_HERE = str(Path(__file__).parent)

_LEFT = {
    StopCause.SHUTDOWN: "its scheduler was shut down",
    StopCause.REAPED: "its scheduler could not show in time that it lives",
}
"""What is no kill: nobody asked for it, and the run may be one that another scheduler runs again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ends, as plain values, so that it can travel. Called with its run, it returns the run's end.

    *retry_after*: the run waits so long for its next attempt, and *status* is that of this one. ABANDONED: it waits for
    its next attempt as long as it may run again.
    """

    status: RunStatus
    reason: str | None = None
    result: Any = None
    error: RunError | None = None
    retry_after: timedelta | None = None

    def __call__(self, run: Run, now: datetime, spent: timedelta) -> Run:
        """Return *run* as it ended at *now*, after *spent*."""
        if self.status is RunStatus.ABANDONED:
            return run.abandoned(now, self.reason or "", crashed=False, error=self.error)
        reason = run.reason if self.reason is None else self.reason
        if self.retry_after is not None:
            due_at = now + self.retry_after
            return run.again(self.status, now, due_at, reason=reason or "", error=self.error)
        duration = None if run.started_at is None else spent
        return run.ended(self.status, now, duration, result=self.result, reason=reason, error=self.error)

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-able values."""
        return {
            "status": self.status.value,
            "reason": self.reason,
            "result": self.result,
            "error": None if self.error is None else self.error.to_dict(),
            "retry_after": None if self.retry_after is None else self.retry_after / _MICROSECOND,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the outcome that `to_dict` returned."""
        error, delay = plain["error"], plain["retry_after"]
        return cls(
            status=RunStatus(plain["status"]),
            reason=plain["reason"],
            result=plain["result"],
            error=None if error is None else RunError(**error),
            retry_after=None if delay is None else delay * _MICROSECOND,
        )


_DONE = Outcome(status=RunStatus.SUCCESS)


def returned(live: LiveRun, result: Any) -> Outcome:
    """Return the end of a run whose process returned *result*."""
    if result is None and not live.asked:
        return _DONE
    try:
        result = _kept(result)
    except BaseException as problem:  # noqa: BLE001  a result may do anything when it is looked at
        live.log.write("WARNING", "bgsched", f"the result was not kept: {text_of(problem)}")
        result = None
    if live.asked and live.looked:
        return _stopped(live, f"{_asked(live)}; it saw that and returned", result=result)
    return Outcome(status=RunStatus.SUCCESS, result=result)


def _kept(result: Any) -> Any:
    """Return *result* as JSON that every store takes in a moment: what is larger would hold up all other reports."""
    kept = as_json(result, "result")
    if isinstance(kept, str | list | dict):
        size = len(json.dumps(kept, ensure_ascii=False))
        if size > _LARGEST_RESULT:
            raise ValueError(
                f"it has {size:,} characters as JSON, more than {_LARGEST_RESULT:,}; "
                "put it where it belongs, and return where that is"
            )
    return kept


def failed(live: LiveRun, failure: BaseException) -> Outcome:
    """Return the end of a run whose process raised *failure*: stopped, waiting for its next attempt, or an error."""
    if isinstance(failure, RunKilled):
        return _stopped(live, _message(live, failure))
    error = described(live, failure)
    live.log.write("ERROR", "bgsched", error.traceback)
    if live.asked and (live.looked or any(isinstance(cause, RunKilled) for cause in _causes(failure))):
        return _stopped(live, f"{_asked(live)}; it failed while it stopped", error=error)
    retry = live.process.policies.retry
    may_go_on = not live.asked or live.cause in _LEFT
    again = may_go_on and isinstance(failure, retry.retry_on) and not isinstance(failure, ParamsError)
    failures = 1 + sum(attempt.status is RunStatus.ERROR for attempt in live.run.attempts)
    delay = retry.delay_after(failures, live.run.id) if again else None
    reason = None
    if delay is not None:
        attempt = live.run.attempt
        most = retry.attempts + attempt - failures  # those that were cut off, or put back, use up none
        reason = f"attempt {attempt} of {most} failed ({error.type}); the next one waits {delay}"
    return Outcome(status=RunStatus.ERROR, error=error, retry_after=delay, reason=reason)


def _stopped(live: LiveRun, reason: str, *, result: Any = None, error: RunError | None = None) -> Outcome:
    """Return the end of a run that stopped before its work was done: killed, unless nobody wanted it to end."""
    if live.asked and live.cause in _LEFT:
        return Outcome(status=RunStatus.ABANDONED, reason=_LEFT[live.cause], error=error)
    return Outcome(status=RunStatus.KILLED, result=result, reason=reason, error=error)


def went_wrong(live: LiveRun, failure: BaseException) -> Callable[[Run, datetime, timedelta], Run]:
    """Return the end of a run around which something failed: before its process was called, or after."""
    kind = type(failure).__qualname__
    said = f"something failed around the run: {kind}"
    if live.began is None:
        return lambda run, now, _: run.abandoned(now, said)
    return Outcome(status=RunStatus.ERROR, error=RunError(kind, said))


def never_began(live: LiveRun) -> Outcome:
    """Return the end of a run that was asked to stop before its process was called."""
    return Outcome(status=RunStatus.KILLED, reason=f"{_asked(live)} before it began")


def broken_off(live: LiveRun, how: str) -> Outcome:
    """Return the end of a run that was asked to stop, and of which nothing more is heard because it did not in time."""
    return _stopped(live, f"{_asked(live)}; it did not, and {how}")


def timed_out(live: LiveRun) -> Outcome:
    """Return the end of a run whose time is over."""
    return Outcome(status=RunStatus.TIMED_OUT, reason=f"it took longer than {live.process.policies.timeout}")


def time_out(live: LiveRun) -> bool:
    """End a run whose time is over, tell its process, and write down where it stands; ``False``: it had ended."""
    write_stack(live, live.stack())
    ended = live.close(timed_out(live))
    live.ask_to_stop(StopCause.TIMED_OUT)
    return ended


def in_time(live: LiveRun, end: Outcome) -> Outcome:
    """Return *end*, or that of a run whose time is over where it came too late and nobody has noticed yet."""
    return timed_out(live) if is_late(live) else end


def is_late(live: LiveRun) -> bool:
    """Return whether the time of a run is over."""
    limit = live.process.policies.timeout
    if limit is None or live.began is None:
        return False
    return live.clock.monotonic() - live.began > limit.total_seconds()


def write_stack(live: LiveRun, stack: str) -> None:
    """Write into the log of a run whose time is over where it stood then."""
    if stack:
        limit = live.process.policies.timeout
        live.log.write("ERROR", "bgsched", f"its time of {limit} is over; it stood here:\n{stack}")


def _asked(live: LiveRun) -> str:
    return f"it was asked to stop: {(live.cause or StopCause.KILLED).value}"


def described(live: LiveRun, failure: BaseException) -> RunError:
    """Return the exception as it is stored: bounded, without secrets, and whatever it does when it is printed."""
    try:
        frames = "".join(traceback.format_exception(type(failure), failure, _own_frames(failure)))
    except BaseException as broken:  # noqa: BLE001  an exception may fail to say where it comes from
        frames = f"<its traceback failed: {type(broken).__name__}>"
    return RunError(
        type(failure).__qualname__,
        _message(live, failure),
        _middle_cut(clean(live.log.redacted(frames.rstrip()), len(frames))),
    )


def _message(live: LiveRun, failure: BaseException) -> str:
    return clean(live.log.redacted(text_of(failure)), _LONGEST_MESSAGE)


def _middle_cut(frames: str) -> str:
    """Cut a traceback in the middle: its first cause and its last line say most."""
    if len(frames) <= _LONGEST_TRACEBACK:
        return frames
    half = _LONGEST_TRACEBACK // 2
    return f"{frames[:half]}\n... ({len(frames) - 2 * half} characters) ...\n{frames[-half:]}"


def _own_frames(failure: BaseException) -> Any:
    """Return the traceback without the frames of this library, which are on top of every one."""
    frames = failure.__traceback__
    while frames is not None and frames.tb_next is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_ours(file: str) -> bool:
    return file.startswith(_HERE) or file.endswith("contextlib.py")


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """Yield the exception, those behind it, and those in it where it is a group."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [failure]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting.append(cause.__cause__ or cause.__context__)
        waiting.extend(cause.exceptions if isinstance(cause, BaseExceptionGroup) else ())


def text_of(error: BaseException) -> str:
    """Return the message of *error*, even of one that fails to say it, whatever it raises instead."""
    with suppress(BaseException):
        return str(error)
    return f"<its message failed: {type(error).__name__}>"
