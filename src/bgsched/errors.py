"""One family of errors, built from data.

Every failure that a caller may want to tell apart is a class of its own, keeps what went wrong in attributes, and
builds its message from them: what happened, the value, and what to write instead. This module
imports nothing of bgsched.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BgschedError",
    "CronError",
    "ExecutorError",
    "IllegalTransitionError",
    "NoCurrentRunError",
    "OwnerGoneError",
    "ParamsError",
    "ProcessNameError",
    "RequestExistsError",
    "RunKilled",
    "SchedulerStateError",
    "StoreError",
    "StoreSchemaError",
    "StoreURLError",
    "StoreUnavailableError",
    "TimingError",
    "UnknownProcessError",
    "UnknownRequestError",
    "UnknownRunError",
    "WorkerDiedError",
    "did_you_mean",
]


class BgschedError(Exception):
    """Everything that bgsched raises on its own account."""


class TimingError(BgschedError, ValueError):
    """An invalid timing, frequency, time zone or instant."""


class CronError(TimingError):
    """A cron expression that cannot be read, is read differently by different crons, or never fires.

    Attributes:
        expression: The expression as it was read, an alias replaced.
        problem: What is wrong and what to write instead.
        field: The name of the field, or None when the expression as a whole is wrong.
        position: Where the field begins in the expression.
        length: How many characters it has.
    """

    def __init__(
        self, expression: str, problem: str, field: str | None = None, position: int = 0, length: int = 0
    ) -> None:
        self.expression = expression
        self.problem = problem
        self.field = field
        self.position = position
        self.length = length
        where = f"{field}: " if field else ""
        caret = f"\n  {' ' * position}{'^' * length}" if length else ""
        super().__init__(f"{where}{problem}\n  {expression}{caret}")

    def __reduce__(self) -> tuple[type["CronError"], tuple[str, str, str | None, int, int]]:
        """Rebuild from the attributes, not from the message."""
        return type(self), (self.expression, self.problem, self.field, self.position, self.length)


class ParamsError(BgschedError, ValueError):
    """Params that do not fit the process or are not JSON.

    Attributes:
        process: the process's name.
        problem: what does not fit, with the place and the value.
    """

    def __init__(self, process: str, problem: str) -> None:
        super().__init__(process, problem)
        self.process = process
        self.problem = problem

    def __str__(self) -> str:
        return f"params of process {self.process!r}: {self.problem}"


class ProcessNameError(BgschedError, ValueError):
    """A process that cannot be registered: its name is taken or it is not a callable that params can be given to."""


class ExecutorError(BgschedError, ValueError):
    """A process that its executor cannot execute.

    Attributes:
        process: the process's name.
        problem: why not, and what to write instead.
    """

    def __init__(self, process: str, problem: str) -> None:
        super().__init__(process, problem)
        self.process = process
        self.problem = problem

    def __str__(self) -> str:
        return f"process {self.process!r}: {self.problem}"


class WorkerDiedError(BgschedError):
    """The OS process that executed a run ended before the run did. The run ends in ERROR; `Retry` applies."""


class UnknownProcessError(BgschedError, LookupError):
    """No process of that name is registered here.

    Attributes:
        name: what was asked for.
        known: the names that are registered.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(name, self.known)

    def __str__(self) -> str:
        if self.name in self.known:
            return (
                f"what was given is not the process {self.name!r} that is registered here; "
                "give the name, or what @process made here"
            )
        hint = did_you_mean(self.name, self.known)
        if not hint:
            some = ", ".join(repr(name) for name in sorted(self.known)[:5])
            hint = (
                f"; registered are {some}" if some else "; none is registered yet: decorate one with @scheduler.process"
            )
        return f"no process {self.name!r}{hint}"


class UnknownRequestError(BgschedError, LookupError):
    """The store has no request of that id.

    Attributes:
        id: what was asked for.
    """

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"no request {self.id!r} in the store; monitor.requests() lists what there is"


class RequestExistsError(BgschedError, ValueError):
    """A request of that id is there already.

    Attributes:
        id: the id.
    """

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"request {self.id!r} exists already; give another id, or reschedule({self.id!r}, timing)"


class UnknownRunError(BgschedError, LookupError):
    """The store has no run of that id.

    Attributes:
        id: what was asked for.
    """

    def __init__(self, id: int) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"no run {self.id!r} in the store; it may have been purged: monitor.runs() lists what there is"


class IllegalTransitionError(BgschedError, ValueError):
    """A status that cannot follow another.

    Attributes:
        what: the run or request.
        before: its status.
        after: the status it was to get.
    """

    def __init__(self, what: str, before: str, after: str) -> None:
        super().__init__(what, before, after)
        self.what = what
        self.before = before
        self.after = after

    def __str__(self) -> str:
        return f"{self.what} is {self.before} and cannot become {self.after}"


class SchedulerStateError(BgschedError, RuntimeError):
    """Something that the scheduler cannot do in the state it is in."""


class NoCurrentRunError(BgschedError, RuntimeError):
    """`current_run()` was called outside a run."""

    def __str__(self) -> str:
        return "no run here: current_run() works inside a process that is run; elsewhere use current_run(default=None)"


class RunKilled(BgschedError):  # noqa: N818  it is not an error: somebody asked for it
    """Raised in a process by `raise_if_killed()`, `track()` and `sleep()` when its run was asked to stop."""


class MissingExtraError(BgschedError, ImportError):
    """Something needs a package that an extra of bgsched brings.

    Attributes:
        what: what needs it.
        extra: the extra's name.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)
        self.what = what
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.what} needs the extra {self.extra!r}: pip install 'bgsched[{self.extra}]'"


class StoreError(BgschedError):
    """Something is wrong with the store."""


class StoreURLError(StoreError, ValueError):
    """A store URL that names no store."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached or written just now; what was asked for has not happened."""


class StoreSchemaError(StoreError):
    """Unusable for this version: no database, a damaged one, a newer schema, or another program's tables."""


class OwnerGoneError(StoreError):
    """A scheduler that is not signed on, or that others took for gone, wanted to claim.

    Attributes:
        owner: the owner it called itself.
    """

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner

    def __str__(self) -> str:
        return f"scheduler {self.owner} is not signed on; it may claim again under a new name"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of *known*, or ``""`` when none is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
