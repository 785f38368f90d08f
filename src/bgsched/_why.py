"""Why did it not run? One answer in words, from what the store knows of a request.

Pure: facts come in, sentences go out. The most immediate cause comes first, then what became of the last fire times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol

from bgsched.errors import TimingError
from bgsched.request import Request, RequestStatus, UnreadableTiming
from bgsched.run import Run, RunStatus
from bgsched.stores.base import Absence, SchedulerRecord
from bgsched.timing import Schedule

__all__ = ["Facts", "explain", "going_on", "hindrance", "in_words", "obstacle"]

_TELL = 3
_MOST_EXCLUDED = 1_000
_SOON = timedelta(seconds=2)  # an idle scheduler looks every second
_LATE = timedelta(minutes=1)
_WITHOUT_RUN = frozenset({RunStatus.SKIPPED, RunStatus.MISFIRED})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known: the request, its newest runs (newest first), the schedulers, and the present instant.

    *runs*: those of its own, without the members of a group; *absences*: when no scheduler lived, as far back as the
    oldest of the runs; *holder*: which run the one that goes on waits for, if it does.
    """

    request: Request
    runs: Sequence[Run]
    schedulers: Sequence[SchedulerRecord]
    now: datetime
    absences: Sequence[Absence] = ()
    holder: Run | None = None


class Present(Protocol):
    """What is known of the schedulers at an instant."""

    @property
    def now(self) -> datetime: ...
    @property
    def schedulers(self) -> Sequence[SchedulerRecord]: ...
    @property
    def absences(self) -> Sequence[Absence]: ...


def explain(facts: Facts) -> str:
    """Return why the request does not run just now, and what became of its last fire times."""
    causes = [_going_on(facts) or _standing(facts), _excluded(facts), *_past(facts)]
    return " ".join(f"{cause[0].upper()}{cause[1:]}." for cause in causes if cause)


def going_on(runs: Sequence[Run]) -> Run | None:
    """Return the newest of the runs that have not ended."""
    return next((run for run in runs if run.is_active), None)


def _going_on(facts: Facts) -> str | None:
    run = going_on(facts.runs)
    if run is None:
        return None
    if run.owner is not None:
        return _held(run, facts)
    due_at = run.due_at or run.fire_time
    if due_at > facts.now:
        return f"run {run.id} waits until {_at(due_at)}{f': {run.reason}' if run.reason else ''}"
    if facts.holder is not None:
        of = f" of request {facts.holder.request_id!r}" if facts.holder.request_id != run.request_id else ""
        return f"run {run.id} waits until run {facts.holder.id}{of} has ended"
    why = hindrance(run.process, due_at, facts)
    return f"run {run.id} waits, and has been due since {_at(due_at)}{_tried(run)}, but {why}"


def _held(run: Run, facts: Facts) -> str:
    """Tell of a run that a scheduler has, or had when it died."""
    has_begun = run.status is RunStatus.RUNNING
    asked = f", was asked to stop at {_at(run.kill_asked_at)}" if run.kill_asked_at else ""
    owner = next((record for record in facts.schedulers if record.owner == run.owner), None)
    if owner is not None and not owner.is_alive(facts.now):
        done = f"began at {_at(run.started_at)}" if has_begun else f"was claimed at {_at(run.claimed_at)}"
        gone = f"its scheduler is gone, last heard of at {_at(owner.heard_at)}"
        return f"run {run.id} {done}{asked}, and {gone}: the next scheduler ends it, or runs it again"
    if has_begun:
        return f"run {run.id} has been running since {_at(run.started_at)}{asked}"
    return f"run {run.id} was claimed at {_at(run.claimed_at)}{asked} and waits for a free worker"


def _tried(run: Run) -> str:
    """Return how the last attempt ended. What a run says of itself as it waits is of the time when that began."""
    if not run.attempts:
        return ""
    last = run.attempts[-1]
    said = f" ({last.error.type}: {last.error.message})" if last.error else ""
    return f" after attempt {last.number} ended as {last.status.value}{said}"


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
        when = request.timing.describe().removeprefix("once, ")
        return f"it is complete: it was to run once, {when}; reschedule({request.id!r}) runs it again"
    if request.due_at > facts.now:
        wait = timedelta(seconds=(request.due_at - facts.now) // timedelta(seconds=1))
        return f"it is not due yet: {request.timing.describe()}; the next fire time is {_at(request.due_at)}, in {wait}"
    return f"it has been due since {_at(request.due_at)}, but {hindrance(request.process, request.due_at, facts)}"


def _excluded(facts: Facts) -> str | None:
    """Return which fire times its exclusions took, between the last one that it had and the next, if there is one."""
    request, timing = facts.request, facts.request.timing
    if not isinstance(timing, Schedule) or not timing.exclude or request.status is RequestStatus.UNSCHEDULED:
        return None
    if request.next_fire_time is None and timing.repetitions is not None:
        return None  # it may have had all of them
    try:
        missing, are_all = _taken_by_exclusions(timing, _timed_since(facts), request.next_fire_time)
    except TimingError:
        return None
    if not missing:
        return None
    if len(missing) == 1 and are_all:
        return f"the fire time {_at(missing[0])} is excluded by its timing"
    count = f"{len(missing)}{'' if are_all else ' or more'}"
    return f"{count} fire times from {_at(missing[0])} to {_at(missing[-1])} are excluded by its timing"


def _timed_since(facts: Facts) -> datetime:
    """Return since when the request is known to have the timing that it has, after its last fire time.

    When a later revision than the first began is not written anywhere; it had begun when its first run was recorded.
    """
    request = facts.request
    if request.revision == 1:
        return request.last_fire_time or request.created_at
    begun = min((run.fire_time for run in facts.runs if run.revision == request.revision), default=facts.now)
    return max(begun, request.last_fire_time or begun)


def _taken_by_exclusions(timing: Schedule, after: datetime, until: datetime | None) -> tuple[list[datetime], bool]:
    """Return what would be a fire time between the two, but for the exclusions, and whether that is all of it."""
    endless = replace(timing, repetitions=None)
    last = None if until is None else until - timedelta(microseconds=1)
    nominal = list(islice(replace(endless, exclude=()).fire_times(after, last), _MOST_EXCLUDED))
    if not nominal:
        return [], True
    left = set(islice(endless.fire_times(after, nominal[-1]), _MOST_EXCLUDED))
    return [instant for instant in nominal if instant not in left], len(nominal) < _MOST_EXCLUDED


def hindrance(process: str, due_at: datetime, present: Present) -> str:
    """Return what keeps something of *process*, due since *due_at*, from being claimed."""
    found = obstacle(process, present)
    if found is not None:
        return found
    if present.now - due_at < _SOON:
        return "a scheduler is about to look for it"
    return "all workers are busy with what was due before it, or the limit of its process is reached"


def obstacle(process: str, present: Present) -> str | None:
    """Return why no scheduler can take up anything of *process*; ``None`` if one can."""
    living = [record for record in present.schedulers if record.is_alive(present.now)]
    if not living:
        last = max((record.heard_at for record in present.schedulers), default=None)
        gone = [absence.since for absence in present.absences if absence.until is None]
        heard = f"; one was last heard of at {_at(last or gone[-1])}" if last or gone else ""
        return f"no scheduler is alive{heard}"
    able = [record for record in living if process in record.processes]
    if not able:
        return f"none of the {len(living)} living schedulers has a process {process!r} registered"
    ready = [record for record in able if not record.paused]
    if not ready:
        return "every scheduler that could run it is paused"
    return _of_all(ready, present.now)


def _of_all(ready: Sequence[SchedulerRecord], now: datetime) -> str | None:
    """Return what keeps each of these schedulers, which could do it, from it; ``None`` if one is well."""
    if all(record.problem for record in ready):
        return f"its scheduler cannot work since {_at(ready[0].problem_since)}: {ready[0].problem}"
    heard = _at(max(record.heard_at for record in ready))
    if not any(record.threaded for record in ready):
        return f"its host is busy with another run, or has not called run_pending() since {heard}"
    if all(record.is_silent(now) for record in ready if record.threaded):
        return f"its scheduler was last heard of at {heard}"
    return None


def _past(facts: Facts) -> list[str]:
    """Tell how it went, back to the last success, and what was missed just before that: it may have run for those."""
    told: list[str] = []
    has_succeeded = False
    stood_in = {run.claimed_at for run in facts.runs if run.status is RunStatus.MISFIRED}
    for run in facts.runs:
        if run.is_active:
            continue
        if len(told) == _TELL or (has_succeeded and run.status not in _WITHOUT_RUN):
            break
        if run.status in _WITHOUT_RUN:
            told.append(_without_run(run, facts.absences))
        else:
            told.append(_ended(run, () if run.claimed_at in stood_in else facts.absences))
        has_succeeded |= run.status is RunStatus.SUCCESS
    return told


def _without_run(run: Run, absences: Sequence[Absence]) -> str:
    several = run.fire_count > 1
    if run.status is RunStatus.SKIPPED:
        return f"{_fires(run)} {'were' if several else 'was'} skipped at {_at(run.recorded_at)}: {run.reason}"
    first, last = run.fire_time, run.fire_until or run.fire_time
    found = [absence for absence in absences if absence.since <= last and (absence.until or last) >= first]
    alone = " and ".join(_span(absence, run) for absence in found[-_TELL:])
    if any(absence.since <= first and (absence.until or last) >= last for absence in found):
        return f"{_fires(run)} misfired while no scheduler lived {alone}: {run.reason}"
    return f"{_fires(run)} misfired at {_at(run.recorded_at)}: {run.reason}{alone and f'; no scheduler lived {alone}'}"


def _ended(run: Run, absences: Sequence[Absence]) -> str:
    late = run.lateness is not None and run.lateness > _LATE
    alone = [absence for absence in absences if absence.since <= run.fire_time <= (absence.until or run.recorded_at)]
    why = f", late, for no scheduler lived {_span(alone[-1], run)}," if late and alone else ""
    said = run.reason or (f"{run.error.type}: {run.error.message}" if run.error else None)
    ended = f"{run.status.value.replace('_', ' ')}{f': {said}' if said else ''}"
    return f"run {run.id} for {_fires(run)}{why} ended at {_at(run.finished_at)}, {ended}"


def _fires(run: Run) -> str:
    if run.fire_count > 1:
        return f"{run.fire_count} fire times from {_at(run.fire_time)} to {_at(run.fire_until)}"
    return f"the fire time {_at(run.fire_time)}"


def _span(absence: Absence, run: Run) -> str:
    return f"from {_at(absence.since)} to {_at(absence.until or run.recorded_at)}"


def in_words(span: timedelta) -> str:
    """Return a span as one says it: ``40 s``, ``3 minutes``, ``2 hours``, ``5 days``."""
    seconds = int(span.total_seconds())
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {name}s"
    return f"{seconds} s"


def _at(instant: datetime | None) -> str:
    return "?" if instant is None else instant.strftime("%Y-%m-%d %H:%M:%S UTC")
