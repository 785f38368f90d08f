"""A group: a process that executes others, its members, one after another.

A group has no code of its own and takes no worker. Its run stands for the whole; each member gets a run of its own,
with the group's run as parent, which any scheduler may execute. What comes next depends on nothing but the stored runs
of the members, in order, one for each member that has had its turn (`next_step`): so whoever takes a group over after a
restart goes on at the right member. Where they are not the runs of its members, as these were changed meanwhile, nobody
can tell what is left to do: then the group ends in an error.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import Unpack

from bgsched.errors import ParamsError, ProcessNameError, SchedulerStateError
from bgsched.process import Pool, Process, ProcessOptions, policies_of
from bgsched.request import OnAbandon, Retry
from bgsched.run import Run, RunError, RunStatus
from bgsched.timing import Timing

__all__ = ["GroupEnd", "Member", "ProcessGroup"]

_RERUNS = 1_000_000  # a group that is taken over starts nothing twice, so there is no reason to give up
_NOT_FOR_GROUPS = ("retry", "on_abandon", "max_reruns", "sensitive", "prints", "limit")


@dataclass(frozen=True, slots=True)
class Member:
    """A process by name, with the params it gets."""

    process: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GroupEnd:
    """How a group's run ends."""

    status: RunStatus
    reason: str | None = None
    error: RunError | None = None


class ProcessGroup(Process[[], None]):
    """Executes *members* in order, each as a run of its own, when the one before has ended.

    A member is the name of a process or the process itself, or a pair of that and its params; it may be a group. Its
    overlap, retry, timeout and `on_abandon` are those of its process. *stop_on_error*: whether a member that does not
    succeed (it failed, was killed, timed out, was abandoned, or skipped for an overlap) ends the group in ERROR; if
    not, the others still run, and the group ends in ERROR after the last. The options are those of a process, without
    `retry`, `limit`, `sensitive` and `prints`, which belong to the members, and `on_abandon`: a group that lost its
    scheduler is taken over by another, and goes on at the right member.

    Register it with `Scheduler.add` or `ProcessRegistry.add`.

    Raises:
        ProcessNameError: there is no member, or one that is no process; or the name is missing.
        TypeError: an option is unknown, or not for groups.
    """

    def __init__(
        self,
        name: str,
        members: Iterable[str | Process[..., Any] | tuple[str | Process[..., Any], Mapping[str, Any]]],
        *,
        stop_on_error: bool = True,
        timing: Timing | None = None,
        **options: Unpack[ProcessOptions],
    ) -> None:
        if not (name and isinstance(name, str)):
            raise ProcessNameError(f"a group needs a name, got {name!r}; write ProcessGroup('month-end', [...])")
        for option in options:
            if option in _NOT_FOR_GROUPS:
                raise TypeError(f"a group takes no {option!r}; give it to its members")
        listed: Any = members
        if isinstance(listed, str | Mapping) or not isinstance(listed, Iterable):
            listed = ()
        self.members = tuple(_member(name, given) for given in listed)
        if not self.members:
            raise ProcessNameError(f"group {name!r} needs a list of at least one process, got {members!r}")
        self.stop_on_error = stop_on_error
        policies = replace(policies_of(options), on_abandon=OnAbandon.RERUN, max_reruns=_RERUNS, retry=_ONCE)
        super().__init__(self._call_members, name=name, timing=timing, policies=policies)

    def __repr__(self) -> str:
        return f"<group {self.name!r} of {', '.join(member.process for member in self.members)}>"

    @property
    def pool(self) -> Pool:
        """Groups take no worker."""
        return Pool.GROUPS

    @property
    def runs(self) -> tuple[str, ...]:
        """The names of its members."""
        return tuple(member.process for member in self.members)

    def replaces(self, other: Process[Any, Any]) -> bool:
        """Whether this is *other* again, from a module that was loaded twice."""
        return isinstance(other, ProcessGroup) and other.members == self.members

    def bind(
        self,
        params: Mapping[str, Any] | None,
        *,
        before: Mapping[str, Any] | None = None,  # noqa: ARG002  there are none
        hidden: Collection[str] = (),  # noqa: ARG002  there are none
    ) -> dict[str, Any]:
        """Check that there are no params, and that each member exists and takes those it is given.

        Raises:
            ParamsError: the group got params, or a member does not take its own.
            UnknownProcessError: a member is not registered.
            ProcessNameError: the group contains itself.
        """
        if params:
            raise ParamsError(self.name, f"a group takes no params, got {', '.join(map(repr, params))}; members do")
        self._check_members(())
        return {}

    def defaults(self) -> dict[str, Any]:
        """Return no params. A member that is missing ends the run in words, where it can be seen."""
        return {}

    def _check_members(self, around: tuple[str, ...]) -> None:
        if self.registry is None:
            return
        if self.name in around:
            raise ProcessNameError(f"group {self.name!r} contains itself: {' > '.join((*around, self.name))}")
        for member in self.members:
            process = self.registry.get(member.process)
            if isinstance(process, ProcessGroup):
                process._check_members((*around, self.name))  # noqa: SLF001  our own kind
                continue
            try:
                process.bind(member.params)
            except ParamsError as error:
                raise ParamsError(self.name, f"member {process.name!r}: {error.problem}") from None

    def _call_members(self) -> None:
        """Call the members' functions, here and now, without runs."""
        if self.registry is None:
            raise SchedulerStateError(f"group {self.name!r} belongs to no scheduler yet; scheduler.add(...) it")
        for member in self.members:
            process = self.registry.get(member.process)
            process(**process.load(process.bind(member.params)))

    def next_step(self, runs: Sequence[Run], *, asked: bool) -> int | GroupEnd | None:
        """Return which member is next, or how the group ends; ``None`` while a member still has its turn.

        *runs* are those of the members so far, in order; *asked*: whether the group was asked to stop.
        """
        if runs and runs[-1].is_active:
            return None
        failed = [place for place, run in enumerate(runs) if run.status is not RunStatus.SUCCESS]
        count = len(self.members)
        if asked and (len(runs) < count or runs[-1].status is RunStatus.KILLED):
            return GroupEnd(RunStatus.KILLED, f"killed after {len(runs)} of {count} members")
        if (changed := self._changed(runs)) is not None:
            return changed
        if failed and (self.stop_on_error or len(runs) >= count):
            return self._failed(runs, failed)
        return len(runs) if len(runs) < count else GroupEnd(RunStatus.SUCCESS)

    def _changed(self, runs: Sequence[Run]) -> GroupEnd | None:
        """Return the end of a group whose members are others than those that have had their turn."""
        for place, run in enumerate(runs):
            name = self.members[place].process if place < len(self.members) else None
            if run.process != name:
                was = f"member {place + 1} was {run.process!r} (run {run.id})"
                now = "now there is none" if name is None else f"now it is {name!r}"
                return _error(f"its members have changed since it began: {was}, {now}; no more are run")
        return None

    def _failed(self, runs: Sequence[Run], failed: Sequence[int]) -> GroupEnd:
        which = "; ".join(f"member {place + 1}, {_told(runs[place])}" for place in failed)
        rest = len(self.members) - len(runs)
        message = f"{which}; {rest} more did not run" if rest else which
        return _error(message)


_ONCE = Retry(attempts=1)


def _error(message: str) -> GroupEnd:
    return GroupEnd(RunStatus.ERROR, error=RunError("GroupError", message))


def _told(run: Run) -> str:
    why = f"{run.error.type}: {run.error.message}" if run.error else run.reason
    return f"{run.process!r} (run {run.id}), ended as {run.status.value}{f' ({why})' if why else ''}"


def _member(group: str, given: Any) -> Member:
    process, params = given if isinstance(given, tuple) and len(given) == 2 else (given, {})  # noqa: PLR2004  a pair
    name = process.name if isinstance(process, Process) else process
    if not isinstance(name, str) or not isinstance(params, Mapping):
        raise ProcessNameError(
            f"a member of group {group!r} is the name of a process or ('name', {{'param': value}}), got {given!r}"
        )
    return Member(name, dict(params))
