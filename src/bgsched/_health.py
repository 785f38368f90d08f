"""Whether the work gets done. Pure: signs come in, a judgement with its reasons goes out.

Two alarms do not trust what schedulers say of themselves: something is due and nothing has been claimed for a while,
and a request is long overdue. They also ring where every scheduler is there, and none does its work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bgsched._why import Facts, hindrance, in_words
from bgsched.request import Request
from bgsched.stores.base import Absence, SchedulerRecord

__all__ = ["Health", "Signs", "judge"]

_IDLE = timedelta(seconds=30)
_OVERDUE = timedelta(seconds=60)
_SKEW = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the work gets done: *ok*, and if not, the *problems* in words.

    *overdue_by*: how long the most overdue request has waited for a claim; zero when none does. *last_heartbeat*: when
    a scheduler was last heard of.
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
    """What there is to judge by. *first*: the request with the earliest due time; *recorded_at*: of the newest run."""

    now: datetime
    schedulers: tuple[SchedulerRecord, ...]
    absences: Sequence[Absence]
    first: Request | None
    recorded_at: datetime | None


def judge(signs: Signs, witness: Sequence[str] = ()) -> Health:
    """Return the health. *witness*: problems that somebody here knows of, and that the store may not tell."""
    due_at = None if signs.first is None else signs.first.due_at
    overdue_by = timedelta(0) if due_at is None else max(timedelta(0), signs.now - due_at)
    problems = [problem for record in signs.schedulers for problem in _of_scheduler(record, signs.now)]
    problems += () if any(record.problem for record in signs.schedulers) else witness
    if not signs.schedulers:
        since = f" since {_at(signs.absences[-1].since)}" if signs.absences else ""
        problems.append(f"no scheduler is signed on{since}")
    problems += _overdue(signs, overdue_by)
    return Health(
        ok=not problems,
        problems=tuple(problems),
        overdue_by=overdue_by,
        last_heartbeat=max((record.heard_at for record in signs.schedulers), default=None),
        schedulers=signs.schedulers,
    )


def _of_scheduler(record: SchedulerRecord, now: datetime) -> Iterator[str]:
    name = f"scheduler {record.owner} on {record.host}"
    if record.problem:
        since = f" (since {_at(record.problem_since)})" if record.problem_since else ""
        yield f"{name}: {record.problem}{since}"
    if not record.is_alive(now):
        yield f"{name} was last heard of {in_words(now - record.heard_at)} ago, at {_at(record.heard_at)}"
    skew = record.clock_skew
    if skew is not None and abs(skew) > _SKEW:
        yield f"the clock of {name} is {_side(skew)} that of the database server"
    if record.heard_at > now + _SKEW:
        yield f"the clock of {name} is {_side(record.heard_at - now)} the clock here"


def _side(skew: timedelta) -> str:
    return f"{in_words(abs(skew))} {'ahead of' if skew > timedelta(0) else 'behind'}"


def _overdue(signs: Signs, overdue_by: timedelta) -> Iterator[str]:
    """Say for how long nothing has been claimed while something is due, and what is late, and why."""
    first = signs.first
    if first is None or overdue_by <= _IDLE:
        return
    idle = min(overdue_by, signs.now - signs.recorded_at) if signs.recorded_at is not None else overdue_by
    if idle > _IDLE:
        yield f"nothing has been claimed for {in_words(idle)}, though something is due"
    if overdue_by > _OVERDUE:
        why = hindrance(Facts(first, (), signs.schedulers, signs.now, signs.absences))
        yield f"request {first.id!r} of process {first.process!r} is {in_words(overdue_by)} overdue: {why}"


def _at(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")
