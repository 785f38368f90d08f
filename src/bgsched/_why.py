"""Why did it not run? One answer in words, from what the store knows of a request.

Pure: facts come in, sentences go out. The most immediate cause comes first, then what became of the last fire times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice, takewhile

from bgsched.errors import TimingError
from bgsched.request import Request, RequestStatus, UnreadableTiming
from bgsched.run import Run, RunStatus
from bgsched.stores.base import Absence, SchedulerRecord
from bgsched.timing import Schedule

__all__ = ["Facts", "explain", "hindrance", "in_words"]

_TELL = 3
_MOST_EXCLUDED = 1_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known: the request, its newest runs (newest first), the schedulers, and the present instant.

    *absences*: when no scheduler lived, as far back as the oldest of the runs.
    """

    request: Request
    runs: Sequence[Run]
    schedulers: Sequence[SchedulerRecord]
    now: datetime
    absences: Sequence[Absence] = ()


def explain(facts: Facts) -> str:
    """Return why the request does not run just now, and what became of its last fire times."""
    causes = [_going_on(facts) or _standing(facts), _excluded(facts), *_past(facts)]
    return " ".join(f"{cause[0].upper()}{cause[1:]}." for cause in causes if cause)


def _going_on(facts: Facts) -> str | None:
    for run in facts.runs:
        if run.status is RunStatus.RUNNING:
            return f"run {run.id} has been running since {_at(run.started_at)}"
        if run.status is RunStatus.WAITING and run.owner is not None:
            return f"run {run.id} was claimed at {_at(run.claimed_at)} and waits for a free worker"
        if run.status is RunStatus.WAITING:
            until = f" until {_at(run.due_at)}" if run.due_at and run.due_at > facts.now else ""
            return f"run {run.id} waits{until}: {run.reason}"
    return None


def _standing(facts: Facts) -> str:
    request = facts.request
    if isinstance(request.timing, UnreadableTiming):
        return f"its timing {request.timing.describe()}"
    if request.status is RequestStatus.UNSCHEDULED:
        since = f" since {_at(request.unscheduled_at)}" if request.unscheduled_at else ""
        reason = f": {request.reason}" if request.reason else ""
        return f"it is unscheduled{since}{reason}; reschedule({request.id!r}) resumes it"
    if request.status is RequestStatus.COMPLETE or request.next_fire_time is None or request.due_at is None:
        if isinstance(request.timing, Schedule):
            return f"it is complete: no fire time of {request.timing.describe()!r} is left; give it another timing"
        return (
            f"it is complete: it was to run once, {request.timing.describe()}; reschedule({request.id!r}) runs it again"
        )
    if request.due_at > facts.now:
        wait = timedelta(seconds=(request.due_at - facts.now) // timedelta(seconds=1))
        return f"it is not due yet: {request.timing.describe()}; the next fire time is {_at(request.due_at)}, in {wait}"
    return f"it has been due since {_at(request.due_at)}, but {hindrance(facts)}"


def _excluded(facts: Facts) -> str | None:
    """Return which fire times its exclusions took, between the last one that it had and the next."""
    request, timing = facts.request, facts.request.timing
    if not isinstance(timing, Schedule) or not timing.exclude or request.next_fire_time is None:
        return None
    after = request.last_fire_time or request.created_at
    try:
        nominal = replace(timing, exclude=(), repetitions=None).fire_times(after)
        missing = list(islice(takewhile(request.next_fire_time.__gt__, nominal), _MOST_EXCLUDED))
    except TimingError:
        return None
    if not missing:
        return None
    if len(missing) == 1:
        return f"the fire time {_at(missing[0])} is excluded by its timing"
    count = f"{_MOST_EXCLUDED} or more" if len(missing) == _MOST_EXCLUDED else str(len(missing))
    return f"{count} fire times from {_at(missing[0])} to {_at(missing[-1])} are excluded by its timing"


def hindrance(facts: Facts) -> str:
    """Return what keeps a due request from being claimed."""
    process = facts.request.process
    living = [record for record in facts.schedulers if record.is_alive(facts.now)]
    if not living:
        last = max((record.heard_at for record in facts.schedulers), default=None)
        gone = [absence.since for absence in facts.absences if absence.until is None]
        heard = f"; one was last heard of at {_at(last or gone[-1])}" if last or gone else ""
        return f"no scheduler is alive{heard}"
    able = [record for record in living if process in record.processes]
    if not able:
        return f"none of the {len(living)} living schedulers has a process {process!r} registered"
    if all(record.paused for record in able):
        return "every scheduler that could run it is paused"
    troubled = next((record for record in able if record.problem), None)
    if troubled is not None:
        return f"its scheduler cannot work since {_at(troubled.problem_since)}: {troubled.problem}"
    return "all workers are busy with what was due before it"


def _past(facts: Facts) -> list[str]:
    told = []
    for run in facts.runs:
        if run.is_active:
            continue
        told.append(_outcome(run, facts.absences))
        if run.status is RunStatus.SUCCESS or len(told) == _TELL:
            break
    return told


def _outcome(run: Run, absences: Sequence[Absence]) -> str:
    fires = f"the fire time {_at(run.fire_time)}"
    if run.fire_count > 1:
        fires = f"{run.fire_count} fire times from {_at(run.fire_time)} to {_at(run.fire_until)}"
    if run.status in (RunStatus.SKIPPED, RunStatus.MISFIRED):
        verb = "were" if run.fire_count > 1 else "was"
        how = f"{verb} skipped" if run.status is RunStatus.SKIPPED else "misfired"
        alone = _alone(run, absences) if run.status is RunStatus.MISFIRED else ""
        return f"{fires} {how} at {_at(run.recorded_at)}: {run.reason}{alone}"
    said = run.reason or (f"{run.error.type}: {run.error.message}" if run.error else None)
    ended = run.status.value.replace("_", " ")
    return f"run {run.id} for {fires} ended at {_at(run.finished_at)}, {ended}{f': {said}' if said else ''}"


def _alone(run: Run, absences: Sequence[Absence]) -> str:
    """Return when no scheduler lived that could have seen to the fire times of a run."""
    last = run.fire_until or run.fire_time
    found = [absence for absence in absences if absence.since <= last and (absence.until or last) >= run.fire_time]
    spans = [f"from {_at(absence.since)} to {_at(absence.until or run.recorded_at)}" for absence in found[-_TELL:]]
    return f"; no scheduler lived {' and '.join(spans)}" if spans else ""


def in_words(span: timedelta) -> str:
    """Return a span as one says it: ``40 s``, ``3 minutes``, ``2 hours``, ``5 days``."""
    seconds = int(span.total_seconds())
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {name}s"
    return f"{seconds} s"


def _at(instant: datetime | None) -> str:
    return "?" if instant is None else instant.strftime("%Y-%m-%d %H:%M:%S UTC")
