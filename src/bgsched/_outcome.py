"""What came of a run: each way that an attempt can end, as the change of its record.

The one place that says which end is which. A run that was asked to stop and did is KILLED; one that was asked, never
looked, and came to its end all the same is a SUCCESS: its work is done. An exception ends it in ERROR, or lets it wait
for its next attempt. What a user's objects do when they are written down (a ``__str__`` that raises, a million
characters) must not get any further than here.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bgsched._current import LiveRun, StopCause
from bgsched._params import as_json
from bgsched._runlog import clean
from bgsched.errors import ParamsError, RunKilled
from bgsched.run import Run, RunError, RunStatus

__all__ = ["End", "failed", "never_began", "returned", "text_of", "time_out", "went_wrong"]

End = Callable[[Run, datetime, timedelta], Run]

_LONGEST_MESSAGE = 10_000
_LONGEST_TRACEBACK = 100_000
_HERE = str(Path(__file__).parent)


def returned(live: LiveRun, result: Any) -> End:
    """Return the end of a run whose process returned *result*."""
    try:
        result = as_json(result, "result")
    except Exception as problem:  # noqa: BLE001  a result may do anything when it is looked at
        live.log.write("WARNING", "bgsched", f"the result was not kept: {text_of(problem)}")
        result = None
    killed = live.stop.is_set() and live.looked

    def end(run: Run, now: datetime, spent: timedelta) -> Run:
        if killed:
            reason = f"{_asked(live)}; it saw that and returned"
            return run.move(RunStatus.KILLED, finished_at=now, duration=spent, result=result, reason=reason)
        return run.move(RunStatus.SUCCESS, finished_at=now, duration=spent, result=result)

    return end


def failed(live: LiveRun, failure: BaseException) -> End:
    """Return the end of a run whose process raised *failure*: killed, waiting for its next attempt, or an error."""
    if isinstance(failure, RunKilled):
        return _killed(text_of(failure), None)
    error = _described(live, failure)
    live.log.write("ERROR", "bgsched", error.traceback)
    if live.stop.is_set() and any(isinstance(cause, RunKilled) for cause in _causes(failure)):
        return _killed(f"{_asked(live)}; it failed while it stopped", error)
    retry = live.process.policies.retry
    again = not (isinstance(failure, ParamsError) or live.stop.is_set()) and isinstance(failure, retry.retry_on)

    def end(run: Run, now: datetime, spent: timedelta) -> Run:
        delay = retry.delay_after(run.attempt, run.id) if again else None
        if delay is None:
            return run.move(RunStatus.ERROR, finished_at=now, duration=spent, error=error)
        reason = f"attempt {run.attempt} of {retry.attempts} failed ({error.type}); the next one waits {delay}"
        return run.again(RunStatus.ERROR, now, now + delay, reason=reason, error=error)

    return end


def went_wrong(failure: BaseException) -> End:
    """Return the end of a run around which something failed: before its process was called, or after."""
    said = f"something failed around the run: {type(failure).__qualname__}"

    def end(run: Run, now: datetime, spent: timedelta) -> Run:
        if run.started_at is None:
            return run.abandoned(now, said)
        return run.move(
            RunStatus.ERROR, finished_at=now, duration=spent, error=RunError(type(failure).__qualname__, said)
        )

    return end


def never_began(live: LiveRun) -> End:
    """Return the end of a run that was asked to stop before its process was called."""
    return _killed(f"{_asked(live)} before it began", None)


def time_out(live: LiveRun) -> bool:
    """End a run whose time is over, tell its process, and write down where it stands; ``False``: it had ended."""
    limit = live.process.policies.timeout
    stack = live.stack()
    if stack:
        live.log.write("ERROR", "bgsched", f"its time of {limit} is over; it stood here:\n{stack}")
    ended = live.close(
        lambda run, now, spent: run.move(
            RunStatus.TIMED_OUT, finished_at=now, duration=spent, reason=f"it took longer than {limit}"
        )
    )
    live.ask_to_stop(StopCause.TIMED_OUT)
    return ended


def _killed(reason: str, error: RunError | None) -> End:
    def end(run: Run, now: datetime, spent: timedelta) -> Run:
        duration = None if run.started_at is None else spent
        return run.move(RunStatus.KILLED, finished_at=now, duration=duration, reason=reason, error=error)

    return end


def _asked(live: LiveRun) -> str:
    return f"it was asked to stop: {(live.cause or StopCause.KILLED).value}"


def _described(live: LiveRun, failure: BaseException) -> RunError:
    """Return the exception as it is stored: bounded, without secrets, and whatever it does when it is printed."""
    try:
        frames = "".join(traceback.format_exception(type(failure), failure, _own_frames(failure)))
    except Exception as broken:  # noqa: BLE001  an exception may fail to say where it comes from
        frames = f"<its traceback failed: {type(broken).__name__}>"
    return RunError(
        type(failure).__qualname__,
        clean(live.log.redacted(text_of(failure)), _LONGEST_MESSAGE),
        _middle_cut(clean(live.log.redacted(frames.rstrip()), len(frames))),
    )


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
    """Yield the exception and those behind it."""
    seen: set[int] = set()
    cause: BaseException | None = failure
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def text_of(error: BaseException) -> str:
    """Return the message of *error*, even of one that fails to say it."""
    with suppress(Exception):
        return str(error)
    return f"<its message failed: {type(error).__name__}>"
