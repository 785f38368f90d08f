"""The policies that requests run under: frozen values that refuse what makes no sense. Kept with the code."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from bgsched.errors import did_you_mean
from bgsched.run import FINAL, RunStatus

__all__ = ["Misfire", "OnAbandon", "Overlap", "Policies", "Retention", "Retry", "check_count"]

_HIGHEST = 2**31 - 1
_LONGEST_DELAY = timedelta(days=36_525)  # a century: longer ones are that


class Misfire(StrEnum):
    """What becomes of fire times that passed their grace without a run; those of an `Immediate` never do.

    RUN_ALL leaves none out within the grace either, where several have come by the time that they can be claimed.
    """

    RUN_ONCE = "run_once"
    """The newest runs; the others become one MISFIRED record."""
    SKIP = "skip"
    """None runs; those that passed their grace become one MISFIRED record."""
    RUN_ALL = "run_all"
    """All run in turn, the newest hundred at most; older ones become one MISFIRED record."""


class Overlap(StrEnum):
    """What becomes of a fire time while an earlier run still goes on."""

    ALLOW = "allow"
    """It runs beside the earlier one."""
    SKIP = "skip"
    """It is recorded as SKIPPED."""
    QUEUE = "queue"
    """It waits for the earlier one; where one waits already, it is recorded as SKIPPED."""
    REPLACE = "replace"
    """It asks the earlier one to stop, and runs when that has ended."""


class OnAbandon(StrEnum):
    """What becomes of a run whose scheduler died: it stays recorded, or it runs again."""

    RECORD = "record"
    """It ends as ABANDONED."""
    RERUN = "rerun"
    """It waits for another attempt, `Policies.max_reruns` times at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try a failed run again: *attempts* in all, the second after *delay*, each next one *backoff* times later.

    No delay is longer than *max_delay*; to each, up to *jitter* is added, by a hash of the run and the attempt. Only an
    exception that *retry_on* names is tried again: a type or a tuple of types. A run that was killed or timed out, or
    whose params do not fit, is not. An attempt that ended with its scheduler is not counted.
    """

    attempts: int = 3
    delay: timedelta = timedelta(seconds=10)
    backoff: float = 2.0
    jitter: timedelta = timedelta(0)
    max_delay: timedelta = timedelta(days=1)
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        check_count("attempts", self.attempts)
        for name in ("delay", "jitter", "max_delay"):
            if _span(name, getattr(self, name)) < timedelta(0):
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        backoff: object = self.backoff
        if not isinstance(backoff, int | float) or not 1 <= backoff < math.inf:
            raise ValueError(f"backoff must be 1 or more, got {backoff!r}")
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        if not all(_is_exception_type(kind) for kind in kinds):
            raise ValueError(f"retry_on must be an exception type or a tuple of them, got {self.retry_on!r}")

    def delay_after(self, attempt: int, run_id: int = 0) -> timedelta | None:
        """Return how long to wait after so many attempts (from 1) of a run failed; ``None`` when it was the last."""
        if attempt >= self.attempts:
            return None
        most = min(self.max_delay, _LONGEST_DELAY).total_seconds()
        seconds = min(self.delay.total_seconds(), most)
        for _ in range(attempt - 1):
            seconds = min(seconds * self.backoff, most)
        share = zlib.crc32(f"{run_id}:{attempt}".encode()) / 2**32
        return timedelta(seconds=seconds) + min(self.jitter, _LONGEST_DELAY) * share


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _span(name: str, value: object) -> timedelta:
    if not isinstance(value, timedelta):
        raise ValueError(f"{name} must be a timedelta, got {value!r}; write timedelta(seconds=...)")  # noqa: TRY004  as its neighbours
    return value


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise ValueError for what is no whole number from *least* that every store can hold."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _HIGHEST:
        raise ValueError(f"{name} must be a whole number from {least} to {_HIGHEST}, got {value!r}")


def _choice(name: str, kind: type[StrEnum], value: object) -> StrEnum:
    try:
        return kind(str(value))
    except ValueError:
        names = [f"{kind.__name__}.{member.name}" for member in kind]
        hint = did_you_mean(f"{kind.__name__}.{str(value).upper()}", names)
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}{hint}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long ended runs are kept, with their logs: those that succeeded, and the *other* ones. ``None``: for ever.

    *by_status*: the ages of single statuses, before those two. *per_process*: how many ended runs of a process are kept
    at most. The newest run of a request is always kept. *complete*: delete a request that is complete, with all of its
    runs, so long after its last run ended; ``None``, the default, keeps them. Those that the code declares are always
    kept.
    """

    success: timedelta | None = timedelta(days=15)
    other: timedelta | None = timedelta(days=30)
    per_process: int | None = None
    complete: timedelta | None = None
    by_status: Mapping[RunStatus, timedelta | None] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.by_status, Mapping):
            raise ValueError(  # noqa: TRY004  as its neighbours
                f"by_status must be a mapping, got {self.by_status!r}; write {{RunStatus.SKIPPED: timedelta(days=1)}}"
            )
        ages = {_final(status): age for status, age in self.by_status.items()}
        object.__setattr__(self, "by_status", ages)
        named = {name: getattr(self, name) for name in ("success", "other", "complete")}
        for name, age in (named | {f"by_status[{status.value!r}]": age for status, age in ages.items()}).items():
            if age is not None and _span(name, age) < timedelta(0):
                raise ValueError(f"{name} must not be negative, got {age}")
        if self.per_process is not None:
            check_count("per_process", self.per_process)

    def age_of(self, status: RunStatus) -> timedelta | None:
        """Return how long runs are kept that ended so; ``None``: for ever."""
        return self.by_status.get(status, self.success if status is RunStatus.SUCCESS else self.other)

    def to_dict(self) -> dict[str, Any]:
        """Return the retention as JSON-able values: spans in seconds."""
        ages = {name: getattr(self, name) for name in ("success", "other", "complete")}
        return {
            **{name: _seconds(age) for name, age in ages.items()},
            "per_process": self.per_process,
            "by_status": {status.value: _seconds(age) for status, age in self.by_status.items()},
        }


def _seconds(age: timedelta | None) -> float | None:
    return None if age is None else age.total_seconds()


def _final(status: object) -> RunStatus:
    """Return the status that a run may end in, given as such or by its name."""
    found = _choice("a key of by_status", RunStatus, status)
    if found not in FINAL:
        raise ValueError(f"by_status is of runs that have ended, and none ends as {found.value!r}")
    return RunStatus(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """How the requests of a process run. Kept with the code, not with the request: changed code wins.

    *overlap* and *overlap_scope*: what becomes of a fire time while an earlier run still goes on, and which runs count:
    those of the ``"request"``, of the ``"process"``, or those with equal values of the named params. *misfire* and
    *misfire_grace* (one minute): what becomes of a fire time that nobody came for within the grace. *retry*: whether
    and when a failed run is tried again (it is not). *timeout*: how long an attempt may take (``None``: for ever).
    *on_abandon* and *max_reruns* (3): whether a run whose scheduler died runs again, and how often at most. *priority*:
    higher ones are claimed first.

    Two things go by what a request was stored with. Its *priority* is the code's of when it was filed, or last
    rescheduled; where the code declares it, of when a scheduler last started. And *overlap_scope* compares params as
    they are stored: a default is one of them if the scope named its param when the request was filed.

    *limit*: how many of its runs go on at once in each scheduler, besides its `workers`; *sensitive*: the params
    whose values are never shown, and ``"return"`` for the result; *prints*: whether what it prints goes into the run
    log; *after*: the names of the processes after each success of which it runs.
    """

    overlap: Overlap = Overlap.SKIP
    overlap_scope: str | tuple[str, ...] = "request"
    misfire: Misfire = Misfire.RUN_ONCE
    misfire_grace: timedelta = timedelta(minutes=1)
    retry: Retry = field(default_factory=lambda: Retry(attempts=1))
    timeout: timedelta | None = None
    on_abandon: OnAbandon = OnAbandon.RECORD
    max_reruns: int = 3
    priority: int = 0
    limit: int | None = None
    sensitive: tuple[str, ...] = ()
    prints: bool = False
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (("overlap", Overlap), ("misfire", Misfire), ("on_abandon", OnAbandon)):
            object.__setattr__(self, name, _choice(name, kind, getattr(self, name)))
        if not isinstance(self.retry, Retry):
            raise ValueError(f"retry must be Retry(attempts=...), got {self.retry!r}")  # noqa: TRY004  as its neighbours
        if self.limit is not None:
            check_count("limit", self.limit)
        check_count("max_reruns", self.max_reruns, least=0)
        check_count("priority", self.priority, least=-_HIGHEST)
        scope: object = self.overlap_scope
        if not isinstance(scope, tuple) and scope not in ("request", "process"):
            raise ValueError(
                f"overlap_scope must be 'request', 'process' or a tuple of param names, got {self.overlap_scope!r}"
            )
        if _span("misfire_grace", self.misfire_grace) < timedelta(0):
            raise ValueError(f"misfire_grace must not be negative, got {self.misfire_grace}")
        if self.timeout is not None and _span("timeout", self.timeout) <= timedelta(0):
            raise ValueError(f"timeout must be longer than nothing, got {self.timeout}")
