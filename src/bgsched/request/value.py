"""A process request: the stored wish, and what its runs may not share with others."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from zoneinfo import ZoneInfo

from bgsched._evolve import changer, evolve
from bgsched.request.policies import Overlap, Policies
from bgsched.run import Run, shown
from bgsched.timing import Timing, TimingWarning

__all__ = ["OWN_KEY", "Request", "RequestStatus", "UnreadableTiming", "member_key", "overlap_key"]

OWN_KEY = "request:"
"""How an overlap key begins that only runs of one request share."""

_LONGEST_SHOWN = 200  # letters of values in an overlap key


class RequestStatus(StrEnum):
    """Whether a request has fire times to come."""

    SCHEDULED = "scheduled"
    """It has fire times to come, or runs that have not ended."""
    UNSCHEDULED = "unscheduled"
    """It was unscheduled, or parked because it cannot run; it may be rescheduled."""
    COMPLETE = "complete"
    """All its fire times have come, and their runs have ended."""


@dataclass(frozen=True, slots=True)
class UnreadableTiming:
    """Stands for a stored timing that this version cannot read: it never fires, and it says why."""

    text: str
    problem: str

    def next_fire_time(self, after: datetime) -> datetime | None:  # noqa: ARG002  the shape of a timing
        """Return ``None``: what cannot be read does not fire."""
        return None

    def first_fire_time(self, now: datetime) -> datetime | None:  # noqa: ARG002  the shape of a timing
        """Return ``None``, like `next_fire_time`."""
        return None

    def last_fire_time(self, until: datetime, after: datetime | None = None) -> datetime | None:  # noqa: ARG002  the same
        """Return ``None``, like `next_fire_time`."""
        return None

    def count_fire_times(self, after: datetime, until: datetime) -> int:  # noqa: ARG002  the same
        """Return 0, like `next_fire_time`."""
        return 0

    def fire_times(self, after: datetime, until: datetime | None = None) -> Iterator[datetime]:  # noqa: ARG002  the same
        """Iterate over nothing, like `next_fire_time`."""
        return iter(())

    def warnings(self, now: datetime) -> tuple[TimingWarning, ...]:  # noqa: ARG002  the same
        """Return no warnings: `describe` says what is wrong."""
        return ()

    def due_at(self, fire_time: datetime, key: str) -> datetime:  # noqa: ARG002  the same
        """Return *fire_time*."""
        return fire_time

    def pinned(self, now: datetime, timezone: str | ZoneInfo | None = None) -> Self:  # noqa: ARG002  the same
        """Return itself: there is nothing to fill in."""
        return self

    def describe(self) -> str:
        """Return what is wrong with the stored text."""
        return f"cannot be read: {self.problem}"

    __str__ = describe

    def to_dict(self) -> dict[str, Any]:
        """Return the stored text as it is."""
        return {"unreadable": self.text, "problem": self.problem}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Request:
    """The stored wish: this process, these params, this timing. Instants are aware and in UTC.

    *revision* counts the timings the request has had; *due_at* is when the next fire time is claimed at the earliest
    (with jitter, or for a `Later` in the past, later than `next_fire_time`); *declared* is the timing that the code
    declared, as JSON text, if it did; *reason* says why it was parked or unscheduled, *unscheduled_at*
    since when; *sensitive* names the params that are never shown.
    """

    id: str
    process: str
    params: dict[str, Any] = field(default_factory=dict)
    timing: Timing | UnreadableTiming
    status: RequestStatus = RequestStatus.SCHEDULED
    user: str | None = None
    channel: str = "code"
    priority: int = 0
    created_at: datetime
    revision: int = 1
    next_fire_time: datetime | None = None
    due_at: datetime | None = None
    last_fire_time: datetime | None = None
    declared: str | None = None
    reason: str | None = None
    unscheduled_at: datetime | None = None
    sensitive: tuple[str, ...] = ()

    def __repr__(self) -> str:
        request = self.masked()
        return f"Request({', '.join(f'{part.name}={getattr(request, part.name)!r}' for part in fields(request))})"

    def masked(self) -> "Request":
        """Return the request as it may be shown, without the values of sensitive params."""
        return evolve(self, params=shown(self.params, self.sensitive)) if self.sensitive else self

    def hidden_by(self, policies: Policies) -> tuple[str, ...]:
        """Return the names that are sensitive, those included that only the code of today calls so."""
        return tuple(dict.fromkeys((*self.sensitive, *policies.sensitive))) if policies.sensitive else self.sensitive

    def advanced(self, next_fire_time: datetime | None, due_at: datetime | None, last_fire_time: datetime) -> "Request":
        """Return the request after *last_fire_time*, waiting for the next one."""
        return _advance(self, next_fire_time, due_at, last_fire_time)

    def completed(self) -> "Request":
        """Return the request as one that has no fire time to come and no run that goes on."""
        return _complete(self, RequestStatus.COMPLETE)

    def timed(self, timing: Timing, now: datetime) -> "Request":
        """Return the request with *timing*, already pinned, as scheduled at *now*; its fire times begin anew."""
        fire_time = timing.first_fire_time(now)
        if fire_time is None:
            return self.over(timing, "no fire time was left when it was scheduled")
        due_at = max(now, timing.due_at(fire_time, self.id))
        return _time(self, timing, RequestStatus.SCHEDULED, fire_time, due_at, None, None)

    def over(self, timing: Timing, why: str) -> "Request":
        """Return the request with *timing*, which has no fire time, and the reason."""
        return _time(self, timing, RequestStatus.COMPLETE, None, None, None, why)

    def rescheduled(self, timing: Timing, now: datetime, **changes: Any) -> "Request":
        """Return the request with fire times again, under a new revision: no claim of the old timing can succeed."""
        return self.changed(**changes).timed(timing, now)

    def changed(self, **changes: Any) -> "Request":
        """Return the request with the *changes* and the fire times that it has, under a new revision."""
        return evolve(self, revision=self.revision + 1, **changes)

    def unscheduled(self, now: datetime, reason: str | None = None) -> "Request":
        """Return the request without future fire times from *now* on, under a new revision; the record stays."""
        return evolve(
            self,
            status=RequestStatus.UNSCHEDULED,
            revision=self.revision + 1,
            next_fire_time=None,
            due_at=None,
            unscheduled_at=now,
            reason=reason,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON-able values: instants in ISO 8601 (UTC), the timing as data and in words."""
        return {
            "id": self.id,
            "process": self.process,
            "params": shown(self.params, self.sensitive),
            "sensitive": list(self.sensitive),
            "timing": self.timing.to_dict(),
            "description": self.timing.describe(),
            "status": self.status.value,
            "user": self.user,
            "channel": self.channel,
            "priority": self.priority,
            "created_at": self.created_at.isoformat(),
            "revision": self.revision,
            "next_fire_time": self.next_fire_time.isoformat() if self.next_fire_time else None,
            "due_at": self.due_at.isoformat() if self.due_at else None,
            "last_fire_time": self.last_fire_time.isoformat() if self.last_fire_time else None,
            "declared": self.declared is not None,
            "reason": self.reason,
            "unscheduled_at": self.unscheduled_at.isoformat() if self.unscheduled_at else None,
        }


_advance: Callable[..., Request] = changer(Request, "next_fire_time", "due_at", "last_fire_time")
_time: Callable[..., Request] = changer(
    Request, "timing", "status", "next_fire_time", "due_at", "unscheduled_at", "reason"
)
_complete: Callable[..., Request] = changer(Request, "status")


def overlap_key(request: Request, policies: Policies) -> str | None:
    """Return what the runs of *request* may not share with another active run; ``None`` when overlap is allowed."""
    return _key(policies, f"{OWN_KEY}{request.id}", request)


def member_key(run: Run, policies: Policies) -> str | None:
    """Return the same for the run of a group's member: to it, its request is the group's, and its process."""
    return _key(policies, f"member:{run.request_id}:{run.process}", run)


def _key(policies: Policies, own: str, of: Request | Run) -> str | None:
    if policies.overlap is Overlap.ALLOW:
        return None
    scope = policies.overlap_scope
    if scope == "request":
        return own
    if scope == "process":
        return f"process:{of.process}"
    values = json.dumps([of.params.get(name) for name in scope], sort_keys=True)
    if of.sensitive or len(values) > _LONGEST_SHOWN:  # what is sensitive is not shown; what is long, no index takes
        values = hashlib.sha256(values.encode()).hexdigest()
    return f"params:{of.process}:{values}"
