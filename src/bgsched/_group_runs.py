"""The runs of groups that this scheduler holds: what is next is read from the store, and done in one transaction.

Nothing of a group's state is kept here, so any step may fail or be repeated, and another scheduler may go on at any
point. Its members are runs like others; whoever is free takes them.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import cast

from bgsched._current import LiveRun, StopCause
from bgsched._events import RunStarted
from bgsched._evolve import evolve
from bgsched._group import GroupEnd, ProcessGroup
from bgsched._outcome import is_late, text_of, time_out
from bgsched._parts import Parts
from bgsched.request import OnAbandon, member_key
from bgsched.run import Progress, Run, RunError, RunStatus, first_start
from bgsched.stores.base import RunFilter

__all__ = ["GroupRuns"]


class GroupRuns:
    """Leads the groups of one owner. *ended* hears of each run of a group that is over."""

    def __init__(self, parts: Parts, ended: Callable[[LiveRun], object]) -> None:
        self._store = parts.store
        self._processes = parts.processes
        self._clock = parts.clock
        self._hooks = parts.hooks
        self._ended = ended
        self._live: dict[int, LiveRun] = {}
        self.poked = False

    def __len__(self) -> int:
        return len(self._live)

    def begin(self, live: LiveRun) -> None:
        """Take the run of a group over: from its first member, or from where another scheduler left it."""
        since = first_start(live.run)
        if not live.begin():
            self._ended(live)
            return
        if since is not None:
            live.count_from(since)
        live.watched = partial(_where, live)
        self._hooks.emit(RunStarted(live.run.masked()))
        self._live[live.run.id] = live
        self.poked = True

    def forget(self) -> None:
        """Leave all groups: others lead them now."""
        self._live.clear()

    def advance(self) -> None:
        """Do for each group what is next, if anything is."""
        self.poked = False
        for live in list(self._live.values()):
            if self._is_over(live):
                del self._live[live.run.id]

    def _is_over(self, live: LiveRun) -> bool:
        """Make one step of a group; return whether nothing is left to do for it."""
        group = live.process
        assert isinstance(group, ProcessGroup)  # noqa: S101  no other process is in this pool
        if not live.closed and is_late(live) and time_out(live):  # it was late when it was taken over, perhaps
            self._ended(live)
        now = self._clock.now()
        runs = self._members(live.run, len(group.members) + 1)  # there may be more than there are members now
        if live.asked:
            self._kill(runs, now)
        if live.closed:  # its time was over
            return not (runs and runs[-1].is_active)
        progress = Progress(sum(not run.is_active for run in runs), len(group.members))
        if progress != live.run.progress:
            live.say(progress)
        step = group.next_step(runs, asked=live.asked)
        if isinstance(step, int):
            step = self._start(live, group, step, now)
        if step is not None:
            self._end(live, step)
        elif live.reaped:  # it is ours no more
            self._ended(live)
        return step is not None or live.reaped

    def _start(self, live: LiveRun, group: ProcessGroup, place: int, now: datetime) -> GroupEnd | None:
        """File the run of a member; return how the group ends if that cannot be done."""
        member = group.members[place]
        try:
            process = self._processes.get(member.process)
            params = process.bind(member.params)
        except Exception as problem:  # noqa: BLE001  whatever a param does when it is looked at ends its group alone
            message = f"member {place + 1}, {member.process!r}, cannot run: {text_of(problem)}"
            return GroupEnd(RunStatus.ERROR, error=RunError(type(problem).__name__, message))
        parent, policies = live.run, process.policies
        run = Run(
            request_id=parent.request_id,
            revision=-parent.id,  # apart from the request's own fire times
            parent_id=parent.id,
            process=process.name,
            params=params,
            sensitive=policies.sensitive,
            user=parent.user,
            channel=parent.channel,
            fire_time=now,
            recorded_at=now,
            due_at=now,
            reason=f"member {place + 1} of {len(group.members)} of run {parent.id}",
            reruns_left=policies.max_reruns if policies.on_abandon is OnAbandon.RERUN else 0,
        )
        run = evolve(run, overlap_key=member_key(run, policies))
        told = self._hooks.ended
        if not self._store.add_member(live.owner, parent, run, place, policies.overlap, now, ended=told):
            live.ask_to_stop(StopCause.REAPED)
            return None
        if len(self._members(parent, place + 1)) > place:
            live.log.write("INFO", "bgsched", f"member {place + 1} of {len(group.members)}: {process.name}")
        else:  # it was not stored, because somebody has asked the group to stop
            live.ask_to_stop(StopCause.KILLED)
        self.poked = True  # it may have been skipped at once
        return None

    def _end(self, live: LiveRun, end: GroupEnd) -> None:
        if end.error is not None:
            live.log.write("ERROR", "bgsched", end.error.message)
        live.close(
            lambda run, now, spent: run.move(
                end.status, finished_at=now, duration=spent, reason=end.reason, error=end.error
            )
        )
        self._ended(live)

    def _kill(self, runs: list[Run], now: datetime) -> None:
        for run in runs:
            if run.is_active and run.kill_asked_at is None:
                self._store.kill(run.id, now, ended=self._hooks.ended)
                self.poked = True  # one that waited has ended at once

    def _members(self, parent: Run, count: int) -> list[Run]:
        wanted = RunFilter(request=parent.request_id, parent=parent.id, limit=count)
        return self._store.reader().runs(wanted)[::-1]


def _where(live: LiveRun) -> str:
    """Return in words which member of a group is under way, as far as that is known here."""
    members, progress = cast("ProcessGroup", live.process).members, live.run.progress
    if progress is None or progress.done >= len(members):
        return ""
    return f"member {progress.done + 1} of {len(members)}: {members[progress.done].process}"
