"""Whether the work gets done. Pure: signs come in, a judgement with its reasons goes out.

Two alarms do not trust what schedulers say of themselves: something is due and nothing has been claimed for a while,
and a request, or a run that waits for nothing but a scheduler, is long overdue. They also ring where every scheduler is
there, and none does its work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bgsched._why import hindrance, in_words, obstacle
from bgsched.request import Request
from bgsched.run import Run
from bgsched.stores.base import Absence, SchedulerRecord

__all__ = ["Health", "Signs", "judge"]

_IDLE = timedelta(seconds=30)
_OVERDUE = timedelta(seconds=60)
_SKEW = timedelta(seconds=5)
_SILENCE = timedelta(seconds=20)  # who is alive was heard of by then


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the work gets done: *ok*, and if not, the *problems* in words.

    *overdue_by*: how long the most overdue request or waiting run has waited for a claim; zero when none does.
    *last_heartbeat*: when a scheduler was last heard of.
    """

    ok: bool
    problems: tuple[str, ...] = ()
    overdue_by: timedelta = timedelta(0)
    last_heartbeat: datetime | None = None
    schedulers: tuple[SchedulerRecord, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the health as JSON-able values: spans in seconds."""
        return {
            "ok": self.ok,
            "problems": list(self.problems),
            "overdue_by": self.overdue_by.total_seconds(),
            "last_heartbeat": self.last_heartbeat.isoformat() if self.last_heartbeat else None,
            "schedulers": [record.to_dict() for record in self.schedulers],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What there is to judge by. *recorded_at*: of the newest run.

    *first*: the request with the earliest due time; *waiting*: that of the runs that nobody owns and nothing blocks.
    """

    now: datetime
    schedulers: tuple[SchedulerRecord, ...]
    absences: Sequence[Absence]
    first: Request | None
    recorded_at: datetime | None
    waiting: Run | None = None

    def overdue(self, due_at: datetime | None) -> timedelta:
        """Return for how long something has been due; zero if it is not."""
        return timedelta(0) if due_at is None else max(timedelta(0), self.now - due_at)


def judge(signs: Signs, witness: Sequence[str] = ()) -> Health:
    """Return the health. *witness*: problems that somebody here knows of, and that the store may not tell."""
    problems = [problem for record in signs.schedulers for problem in _of_scheduler(record, signs.now)]
    problems += () if any(record.problem for record in signs.schedulers) else witness
    if not signs.schedulers:
        since = f" since {_at(signs.absences[-1].since)}" if signs.absences else ""
        problems.append(f"no scheduler is signed on{since}")
    problems += [*_overdue_request(signs), *_overdue_run(signs)]
    return Health(
        ok=not problems,
        problems=tuple(problems),
        overdue_by=max(signs.overdue(what.due_at) if what else timedelta(0) for what in (signs.first, signs.waiting)),
        last_heartbeat=max((record.heard_at for record in signs.schedulers), default=None),
        schedulers=signs.schedulers,
    )


def _of_scheduler(record: SchedulerRecord, now: datetime) -> Iterator[str]:
    name = f"scheduler {record.owner} on {record.host}"
    if record.problem:
        since = f" (since {_at(record.problem_since)})" if record.problem_since else ""
        yield f"{name}: {record.problem}{since}"
    if record.is_gone:
        yield f"{name} is gone without a shutdown, last heard of at {_at(record.heard_at)}"
    elif record.is_silent(now):
        yield f"{name} was last heard of {in_words(now - record.heard_at)} ago, at {_at(record.heard_at)}"
    yield from _of_clocks(record, name, now)


def _of_clocks(record: SchedulerRecord, name: str, now: datetime) -> Iterator[str]:
    """Say which clocks disagree: where there is a database server, its clock is right."""
    is_early = record.heard_at > now + _SKEW
    if record.clock_skew is None:
        if is_early:
            yield f"the clock of {name} is {_side(record.heard_at - now)} the clock here"
        return
    if abs(record.clock_skew) > _SKEW:
        yield f"the clock of {name} is {_side(record.clock_skew)} that of the database server"
    is_long_ago = now - record.heard_at > _SILENCE and not record.is_silent(now) and record.threaded
    if is_early or is_long_ago:
        yield f"the clock here is {_side(now - record.heard_at)} that of the database server"


def _side(skew: timedelta) -> str:
    return f"{in_words(abs(skew))} {'ahead of' if skew > timedelta(0) else 'behind'}"


def _overdue_request(signs: Signs) -> Iterator[str]:
    """Say for how long nothing has been claimed while a request is due, and what is late, and why."""
    first = signs.first
    if first is None or first.due_at is None or (overdue_by := signs.overdue(first.due_at)) <= _IDLE:
        return
    has_claimed = signs.recorded_at is not None and signs.recorded_at <= signs.now  # not by a clock that is ahead
    idle = min(overdue_by, signs.now - signs.recorded_at) if has_claimed and signs.recorded_at else overdue_by
    if idle > _IDLE:
        yield f"nothing has been claimed for {in_words(idle)}, though something is due"
    if overdue_by > _OVERDUE:
        why = hindrance(first.process, first.due_at, signs)
        yield f"request {first.id!r} of process {first.process!r} is {in_words(overdue_by)} overdue: {why}"


def _overdue_run(signs: Signs) -> Iterator[str]:
    """Say which waiting run is late, and why; sooner where no scheduler can take it up.

    That runs are claimed which were recorded long ago is not seen, so nothing is said of how long none was.
    """
    run = signs.waiting
    if run is None or run.due_at is None:
        return
    overdue_by = signs.overdue(run.due_at)
    if overdue_by > (_OVERDUE if obstacle(run.process, signs) is None else _IDLE):
        why = hindrance(run.process, run.due_at, signs)
        yield f"run {run.id} of process {run.process!r} is {in_words(overdue_by)} overdue: {why}"


def _at(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")
