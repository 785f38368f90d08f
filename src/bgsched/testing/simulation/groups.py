"""What is promised of groups: each member has its turn once, in order, and what stops a group stops the rest of it."""

from collections.abc import Iterable, Iterator, Mapping

from bgsched._group import ProcessGroup
from bgsched.process import Process, ProcessRegistry
from bgsched.run import Run, RunStatus

__all__ = ["GROUPS", "broken_by_groups"]

GROUPS: dict[str, ProcessGroup] = {
    group.name: group
    for group in (
        ProcessGroup("group", ["plain", "retry", "rerun", "plain"]),
        ProcessGroup("group-goes-on", ["plain", "single", "retry"], stop_on_error=False),
        ProcessGroup("group-of-groups", ["line", "group", "allow"], overlap="queue"),
        ProcessGroup("group-replaced", ["crowd", "plain"], overlap="replace"),
    )
}
"""The groups of the simulated host; their members are others of its processes."""


def broken_by_groups(
    changed: Iterable[Run], before: Mapping[int, Run], now: Mapping[int, Run], registry: ProcessRegistry
) -> Iterator[str]:
    """Yield what is wrong with the groups, by what was stored *before* the last step, has *changed*, and is *now*."""
    members: dict[int, list[Run]] = {run.id: [] for run in changed if run.process in GROUPS}
    members |= {run.parent_id: [] for run in changed if run.parent_id is not None}
    if not members:
        return
    for id in sorted(now):
        parent_id = now[id].parent_id
        if parent_id in members:
            members[parent_id].append(now[id])
    for id in members.keys() & now.keys():
        known, process = before.get(id), registry.get(now[id].process)
        has_gone_on = now[id].is_active or known is None or known.is_active  # later, its members may be purged
        if isinstance(process, ProcessGroup) and has_gone_on:
            yield from _in_a_group(process, now[id], members[id])
    for run in changed:
        if run.parent_id is not None and run.id not in before:
            yield from _in_a_new_member(run, before.get(run.parent_id), members[run.parent_id], registry)


def _in_a_group(group: ProcessGroup, parent: Run, members: list[Run]) -> Iterator[str]:
    names = [run.process for run in members]
    wanted = [member.process for member in group.members]
    failed = [run for run in members if run.status is not RunStatus.SUCCESS]
    if names != wanted[: len(names)]:
        yield f"run {parent.id} of {group.name} has the members {names}, not {wanted}"
    if any(run.is_active for run in members[:-1]):
        yield f"run {parent.id}: a member has its turn before the one in front of it has ended"
    if parent.is_active:
        return
    going = [run.id for run in members if run.is_active and run.kill_asked_at is None]
    if going:
        yield f"run {parent.id} has ended as {parent.status.value}, and its members {going} go on"
    if (parent.status is RunStatus.SUCCESS) != (names == wanted and not failed) and parent.status not in _STOPPED:
        yield f"run {parent.id} has ended as {parent.status.value} after {[run.status.value for run in members]}"
    if parent.status is RunStatus.ERROR and not failed:
        yield f"run {parent.id} is an error, and none of its members is"


def _in_a_new_member(run: Run, parent: Run | None, members: list[Run], registry: ProcessRegistry) -> Iterator[str]:
    if parent is None or not parent.is_active:
        yield f"run {run.id} is a member of run {run.parent_id}, which had ended"
        return
    if parent.kill_asked_at is not None:
        yield f"run {run.id} is a member of run {parent.id}, which was to be killed"
    group: Process[..., object] = registry.get(parent.process)
    stopped = isinstance(group, ProcessGroup) and group.stop_on_error
    if stopped and any(one.status is not RunStatus.SUCCESS for one in members if one.id < run.id):
        yield f"run {run.id} is a member of run {parent.id}, of which one has failed before"


_STOPPED = frozenset({RunStatus.KILLED, RunStatus.SKIPPED, RunStatus.MISFIRED, RunStatus.ABANDONED})
