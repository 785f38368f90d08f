"""What is promised of overlaps: judged by the policies and params themselves, not by the keys that stores compare."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from bgsched.process import ProcessRegistry
from bgsched.request import Misfire, Overlap, Policies
from bgsched.run import Run, RunStatus

__all__ = ["broken_by_overlaps"]

_IN_THE_WAY = re.compile(r"run (\d+) had not ended")


def broken_by_overlaps(
    changed: Iterable[Run], before: Mapping[int, Run], now: Mapping[int, Run], registry: ProcessRegistry
) -> Iterator[str]:
    """Yield what is wrong with overlaps, by what was stored *before* the last step, has *changed*, and is *now*."""
    active: dict[str, list[Run]] = {run.process: [] for run in changed}
    for run in now.values():
        if run.process in active and run.is_active:
            active[run.process].append(run)
    for process, runs in active.items():
        policies = registry.get(process).policies
        yield from _in_pairs(policies, [run for run in runs if run.owner is not None])
        if policies.overlap is Overlap.QUEUE and policies.overlap_scope != "request":
            yield from _in_line(policies, [run for run in runs if _waits_its_first_turn(run)])
    for run in changed:
        if run.id in before:
            continue
        policies = registry.get(run.process).policies
        if run.status is RunStatus.SKIPPED:
            yield from _in_a_skipped(policies, run, before, now)
        elif policies.overlap is Overlap.REPLACE and policies.overlap_scope != "request" and _waits_its_first_turn(run):
            yield from _in_a_replacing(policies, run, active.get(run.process, []))


def _excludes(policies: Policies, one: Run, other: Run) -> bool:
    """Whether two runs of a process must not go on at once."""
    scope = policies.overlap_scope
    if policies.overlap is Overlap.ALLOW:
        return False
    if scope == "request":
        return one.request_id == other.request_id and (one.parent_id is None) == (other.parent_id is None)
    return scope == "process" or all(one.params.get(name) == other.params.get(name) for name in scope)


def _in_pairs(policies: Policies, claimed: list[Run]) -> Iterator[str]:
    for one, other in combinations(claimed, 2):
        if _excludes(policies, one, other):
            yield f"runs {one.id} and {other.id} of {one.process} go on at once"


def _waits_its_first_turn(run: Run) -> bool:
    """Whether it waits for the rule's sake: not for another attempt, nor because somebody asked for it by its request.

    What somebody asks for just once waits for an earlier run of its request, whatever the rule; so only rules of a
    wider scope are judged here.
    """
    return run.is_active and run.owner is None and run.attempt == 0 and run.revision != 0


def _in_line(policies: Policies, waiting: list[Run]) -> Iterator[str]:
    for one, other in combinations(waiting, 2):
        if _excludes(policies, one, other):
            yield f"runs {one.id} and {other.id} of {one.process} wait in line, where one may"


def _in_a_skipped(policies: Policies, run: Run, before: Mapping[int, Run], now: Mapping[int, Run]) -> Iterator[str]:
    if (run.reason or "").startswith("its request was "):  # somebody changed it: that skips whatever was due
        return
    if policies.misfire is Misfire.RUN_ALL and run.fire_count > 1:
        yield f"run {run.id} of {run.process} skips {run.fire_count} fire times, which have to run all"
    named = _IN_THE_WAY.fullmatch(run.reason or "")
    if named is None:
        return
    id = int(named[1])
    other = before.get(id) or now.get(id)
    if other is None or not _excludes(policies, run, other):
        yield f"run {run.id} was skipped for run {id}, which was not in its way"
    elif not other.is_active:
        yield f"run {run.id} was skipped for run {id}, which had ended"


def _in_a_replacing(policies: Policies, run: Run, active: list[Run]) -> Iterator[str]:
    for other in active:
        goes_on = other.id < run.id and other.owner is not None and other.kill_asked_at is None
        if goes_on and _excludes(policies, run, other):
            yield f"run {run.id} replaces run {other.id}, which was not asked to stop"
