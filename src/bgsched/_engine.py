"""One owner's life: from sign-on to sign-off, what a scheduler does with its store, pass by pass.

A pass, in this order: end what is over its time; show a heartbeat; put back what waits for a worker in vain; report
what ended, changed or was written; pass on kills; reap the dead; delete what is past its retention, where there is
time; claim what is due and hand it to the workers. Claims come after reports, so that an overlap that is over is seen
to be over. Only one thread passes at a time; workers and callers only put things where the next pass finds them.

What is reported is kept until the store has taken it, and what was claimed by a call whose answer was lost is found
again, so an error of the store loses nothing. Who was taken for dead goes on under a new name; what its runs still say
goes out under the old one, and is refused.
"""

import math
import os
import socket
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import uuid4

from bgsched._claims import AHEAD, Claims, OpenLane, Planning, UnderWay
from bgsched._current import LiveRun, StopCause
from bgsched._executors.crew import Crew
from bgsched._group_runs import GroupRuns
from bgsched._lease import Lease
from bgsched._moved_times import MovedTimes
from bgsched._outcome import time_out
from bgsched._parts import Parts
from bgsched._purging import Purging
from bgsched._reports import Reports
from bgsched._runlog import LOGGER
from bgsched._worker import call_off
from bgsched.errors import OwnerGoneError
from bgsched.process import Pool
from bgsched.run import Run, RunStatus
from bgsched.stores.base import SchedulerRecord

__all__ = ["Engine"]

_LOOK_FOR_KILLS = 0.5
_LOOK_FOR_THE_FUTURE = 60.0
_REPORT_EVERY = 0.2  # seconds that lines and progress may wait for company
_PAUSED = "its scheduler was paused before it began"
_LONGEST_WAIT = 1.0  # a longer one would not see a clock that jumped, or a machine that slept
_PATIENCE = 10 * AHEAD.total_seconds()  # for which a claimed run waits for a worker


class Engine:
    """Claims, reports, and keeps alive. *start_run* hands a claimed run to whoever executes it.

    *declare* makes true what the code declares, where the store is another one than before.
    *threaded*: whether a thread passes again and again; else its host does when it likes, and others are told.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        crew: Crew,
        start_run: Callable[[LiveRun], None],
        threaded: bool = True,
        declare: Callable[[], None] = lambda: None,
        new_owner: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._new_owner = new_owner
        self.owner = new_owner()
        self.paused = False  # by its host
        self.leaving = False  # for good
        self.problem: str | None = None
        self.problem_since: datetime | None = None
        self._store = parts.store
        self._processes = parts.processes
        self._clock = parts.clock
        self._hooks = parts.hooks
        self._crew = crew
        self._live = UnderWay(crew)
        self._claims = Claims(parts.processes, crew, self._live)
        self._reports = Reports(parts, self._was_refused)
        self._groups = GroupRuns(parts, self.ended)
        self._start_run = start_run
        self._threaded = threaded
        self._declare = declare
        self._is_new_here = False
        self._ended: deque[LiveRun] = deque()
        self._is_passing = False
        self._unanswered = False
        self._stopping: dict[int, LiveRun] = {}
        self._has_left = False
        self._started_at = parts.clock.now()
        self._lease = Lease(parts.clock)
        self._shown: tuple[bool, str | None] = False, None
        self._next_look = 0.0
        self._next_bringing_back = 0.0
        self._next_kills = 0.0
        self._next_groups = 0.0
        self._next_report = 0.0
        self._purging = Purging(parts.store, parts.retention, parts.clock)
        self._moved_times = MovedTimes(parts.store, parts.clock)
        self._seen: object = None
        self._due: dict[frozenset[str], datetime | None] = {}

    # -- the life ------------------------------------------------------------------------------------------------

    def sign_on(self) -> None:
        """Announce this owner."""
        asked_at = self._clock.monotonic()
        record = self._record()
        self._store.sign_on(record)
        dropped = weakref.finalize(self, self._store.let_go, self.owner)  # without a shutdown
        dropped.atexit = False
        self._lease.renew(asked_at)
        self._shown = record.paused, record.problem

    def sign_off(self) -> list[Run]:
        """Report everything, then leave; return the runs that are left behind, and those that stopped for it."""
        for live in self.live:
            live.put_back("its scheduler was shut down before it started")
        self._crew.end_processes()
        self._stopping.update((live.run.id, live) for live in self._live)
        self.report(finally_=True)
        self._moved_times.leave()
        left = self._store.sign_off(self.owner, self._clock.now())
        self._has_left = True
        self._hooks.ended(left)
        told = {run.id for run in left}  # one that heard of it meanwhile has ended here as well
        return [
            *(live.run for id, live in self._stopping.items() if id not in told and _was_cut_short(live.run)),
            *left,
        ]

    def walk_out(self) -> list[Run]:
        """Leave without the store, for others to find out; return what they will end, whatever came of it here."""
        self.let_go()
        under_way = [*self._ended, *self.live]
        left = {run.id: run for run in self._reports.untold} | {live.run.id: live.run for live in under_way}
        return [left[id] for id in sorted(left)]

    def show_life(self) -> None:
        """Show a heartbeat and hear of kills if it is time for that, between two runs on the thread of the passes."""
        if not self._has_left:  # one of its runs may have signed it off
            elapsed = self._clock.monotonic()
            self._beat_in_time(elapsed)
            self._hear_kills(elapsed)

    def attend(self, live: LiveRun) -> None:
        """See to the runs within *live*, which has the thread of the passes, and tell the store of it at once."""
        if not (self._has_left or self._store.is_at_work()):
            self._see_to_runs(self._clock.monotonic(), live)

    def let_go(self) -> None:
        """Leave without the store: others find out and end what is left."""
        self._store.let_go(self.owner)

    def one_pass(self, limit: int | None = None) -> None:
        """Do what is to be done now. *limit*: how many runs may be claimed; by default, as workers are free."""
        self._is_passing = True
        now, elapsed = self._clock.now(), self._clock.monotonic()
        if self._lease.has_jumped(now, elapsed):
            self._next_bringing_back = elapsed
        self._see_to_runs(elapsed)
        if self._is_new_here:
            self._declare()
            self._moved_times.start_over()
            self._is_new_here = False
        if elapsed >= self._next_look:
            self._next_look = elapsed + self._store.look_every
            self._reap(now)
        if elapsed >= self._next_bringing_back:
            self._bring_back(now, elapsed)
        if self._groups and (self._groups.poked or elapsed >= self._next_groups):
            self._next_groups = elapsed + _REPORT_EVERY
            self._groups.advance()
        self._purging.go_on(now, self._free)
        if not self._claims_nothing:
            self._claims.look(elapsed)
            self._claim(now, limit)
        self._moved_times.go_on(now)

    def few(self) -> int:
        """Return how many runs to claim for one thread that executes them one after another."""
        return self._claims.few()

    def next_due(self) -> datetime | None:
        """Return when something is due next, asking the store only when it has changed."""
        return self._due_of(self._processes.names())

    def _due_of(self, names: frozenset[str]) -> datetime | None:
        seen = self._store.changes()
        if seen != self._seen:
            self._due.clear()
            self._seen = seen
        if names not in self._due:
            self._due[names] = self._store.reader().next_due(names)
        return self._due[names]

    def longest_wait(self) -> float:
        """Return for how many seconds the next pass may wait when nothing calls for one."""
        self._is_passing = False
        has_plenty = self._claims.has_plenty(-len(self._ended))
        if self._groups.poked or (self._ended and not has_plenty):
            return 0.0
        longest = _REPORT_EVERY if self._live else _LONGEST_WAIT
        if has_plenty:
            longest = AHEAD.total_seconds()  # what ends meanwhile is reported together
        left = (self._free(), self._purging.left(), self._moved_times.left(), self.time_left())
        return max(0.0, min(longest, *left))

    def _free(self) -> float:
        """Return for how many seconds nothing is due that could be claimed."""
        if self._claims_nothing:
            return math.inf
        now = self._clock.now()
        due = [self._due_of(lane.names) for lane in self._claims.open_lanes(ahead=False)]
        return min(((instant - now).total_seconds() for instant in due if instant is not None), default=math.inf)

    def time_left(self) -> float:
        """Return for how many seconds no run is over its time."""
        return max(0.0, min((left for _, left in self._live.times_left(self._clock.monotonic())), default=math.inf))

    @property
    def live(self) -> Sequence[LiveRun]:
        """The runs that are under way here."""
        return [live for live in self._live if not live.closed]

    @property
    def busy(self) -> bool:
        """Whether anything runs here that has to be waited for; a group goes on elsewhere, or later."""
        return any(live.process.pool is not Pool.GROUPS for live in self.live)

    @property
    def _claims_nothing(self) -> bool:
        return self.paused or self.leaving

    def lead_groups(self) -> None:
        """See what is next for the groups, and report those that ended, between two passes."""
        while self._groups.poked or self._ended:
            if self._groups.poked:
                self._groups.advance()
            if self._ended:
                self.report(finally_=True)

    def is_under_way(self, live: LiveRun) -> bool:
        """Whether the run is still ours to execute."""
        return self._live.find(live.run.id) is live

    def ended(self, live: LiveRun) -> bool:
        """Hear of a run that came back from its worker; return whether that calls for a pass now. From any thread.

        Not during a pass: `longest_wait`, after it, sees what ended.
        """
        self._ended.append(live)
        return not (self._is_passing or self._claims.has_plenty(-len(self._ended)))

    def look_now(self) -> None:
        """Look for asked kills in the next pass: somebody said that there is one. From any thread."""
        self._next_kills = 0.0

    def forget_after_fork(self) -> None:
        """Free what a child has of the runs of its parent: one of them may go on in it."""
        for live in self._live:
            live.forget_after_fork()

    def stop_all(self, cause: StopCause) -> None:
        """Tell every run that is under way to stop; not groups, which do nothing that the store does not fence."""
        for live in self.live:
            if live.process.pool is not Pool.GROUPS:
                live.ask_to_stop(cause)

    # -- parts of a pass -----------------------------------------------------------------------------------------

    def _see_to_runs(self, elapsed: float, begun: LiveRun | None = None) -> None:
        """Do what cannot wait while runs are under way. *begun*: one that is told of at once."""
        self._end_overdue(elapsed)
        self._fence(elapsed)
        self._beat_in_time(elapsed)
        self._relieve(elapsed)
        self.report(begun=begun)
        self._hear_kills(elapsed)

    def _fence(self, elapsed: float) -> None:
        """Tell the runs to stop once others may have taken this owner for dead, and may run them again."""
        if self._live and self._lease.is_nearly_over(elapsed) and not self._is_vouched_for():
            self._give_up_runs("its scheduler could not show in time that it lives")

    def _give_up_runs(self, why: str) -> None:
        """Put back what waits for a worker, and tell what has begun to stop."""
        for live in self.live:
            live.put_back(why)
        self.stop_all(StopCause.REAPED)

    def _hindrance(self) -> str | None:
        """Return why a claimed run may not start now: somebody may have taken this owner for dead. From any thread."""
        if self.paused:
            return _PAUSED
        if not self._lease.is_nearly_over(self._clock.monotonic()) or self._is_vouched_for():
            return None
        return "its scheduler could not show in time that it lives"

    def _is_vouched_for(self) -> bool:
        return self._store.vouches_for(self.owner)

    def _end_overdue(self, elapsed: float) -> None:
        for live, left in self._live.times_left(elapsed):
            if left > 0:
                continue
            live.overdue = True
            if live.process.pool is not Pool.GROUPS:
                self._crew.overdue(live)
            elif time_out(live):
                self.ended(live)

    def _relieve(self, elapsed: float) -> None:
        """Let nothing wait behind busy workers that was killed, that is not to begin, or that others may be free for.

        It is left where it waits; whoever comes for it finds it closed. So what waits for an executor of the host's
        goes to no others: that queue would grow with each time that it came back here.
        """
        waiting = self._claims.waiting(None if self._threaded else 1)
        for live in (*waiting, *self._claims.waiting_elsewhere()):
            if live.asked:
                call_off(live)
            elif self.paused:
                live.put_back(_PAUSED)
            elif elapsed - live.since > _PATIENCE and self._crew.is_here(live.process):
                live.put_back("no worker came for it")
            if live.closed:  # unless it has begun meanwhile
                self.ended(live)

    @property
    def owes(self) -> bool:
        """Whether there is a report that the store has not taken when it was last asked."""
        return self._reports.wait

    def report(self, *, finally_: bool = False, begun: LiveRun | None = None) -> None:
        """Send what ended, and of *begun*, at once; what was only written or said, a little later, together.

        While the store is away, run logs stay where they are bounded.
        """
        is_away = self._reports.wait
        over: list[LiveRun] = []
        while self._ended:
            live = self._ended.popleft()
            self._reports.collect(live)
            if self._live.remove(live):
                self._groups.poked |= live.run.parent_id is not None
                over.append(live)
        if over:
            self._claims.took(over)
        if begun is not None:
            self._reports.collect(begun)
        elapsed = self._clock.monotonic()
        if finally_ or (elapsed >= self._next_report and not is_away):
            self._next_report = elapsed + _REPORT_EVERY
            for live in self._live:
                self._reports.collect(live)
        self._reports.send()

    def _was_refused(self, run: Run) -> None:
        live = self._live.find(run.id)
        if live is not None:
            live.ask_to_stop(StopCause.REAPED)

    def _beat_in_time(self, elapsed: float) -> None:
        """Renew the lease when it is time, or where others do not know yet whether this owner is paused, or well."""
        if self._lease.is_to_renew(elapsed) or (self._claims_nothing, self.problem) != self._shown:
            self._beat()

    def _beat(self) -> None:
        asked_at = self._clock.monotonic()
        record = self._record()
        if self._store.heartbeat(record):
            self._lease.renew(asked_at)
            self._shown = record.paused, record.problem
            self._tell_deleted()
        else:
            self._start_over()

    def _tell_deleted(self) -> None:
        """Tell runs to stop that were deleted: what they write is refused, but some write nothing."""
        if self._live:
            held = {run.id for run in self._store.held(self.owner)}
            for live in self.live:
                if live.run.id not in held:
                    live.ask_to_stop(StopCause.DELETED)

    def _start_over(self) -> None:
        """Others took this owner for dead and ended its runs: tell those runs, and go on under a fresh name."""
        if self._live:
            LOGGER.warning("scheduler %s was taken for dead by another; it goes on under a new name", self.owner)
        self._give_up_runs("its scheduler was taken for dead")
        for live in self.live:  # those that have begun: they may not hear it for long, and the next ones need workers
            if live.process.pool is not Pool.GROUPS:
                self._crew.replace(live)
        self._live.clear()
        self._groups.forget()
        self._store.let_go(self.owner)
        self.owner = self._new_owner()
        self._unanswered = False
        self._lease.hurry()
        self.sign_on()
        self._is_new_here = True  # who was forgotten may have come to a store that was emptied, or put back

    def _reap(self, now: datetime) -> None:
        left = self._store.reap(now, leases=self._lease.others_count(self._clock.monotonic()))
        for run in left:
            LOGGER.warning("run %s of %s: %s", run.id, run.process, run.reason)
        self._hooks.ended(left)

    def _bring_back(self, now: datetime, elapsed: float) -> None:
        """Look for what clocks that were ahead recorded: it hides from the monitor and the purge all that follows."""
        count = self._store.bring_back(now)
        self._next_bringing_back = elapsed if count else elapsed + _LOOK_FOR_THE_FUTURE
        if count:
            LOGGER.warning("%s runs were recorded by a clock that was ahead; they count as recorded now", count)

    def _hear_kills(self, elapsed: float) -> None:
        if elapsed >= self._next_kills:
            self._next_kills = elapsed + _LOOK_FOR_KILLS
            self._pass_on_kills()

    def _pass_on_kills(self) -> None:
        if self._live:
            for run_id in self._store.reader().kills_asked(self.owner):
                if (live := self._live.find(run_id)) is not None:
                    live.ask_to_stop(StopCause.KILLED)

    def _claim(self, now: datetime, limit: int | None) -> None:
        if self._unanswered:
            self._adopt(self._store.held(self.owner))
            self._unanswered = False
        for lane in self._claims.open_lanes(limit):
            due = self._due_of(lane.names)
            if due is not None and due <= now:
                self._claim_lane(lane, now)

    def _claim_lane(self, lane: OpenLane, now: datetime) -> None:
        self._unanswered = True  # until all of it is started: whatever fails on the way, the next pass finds it
        try:
            planning = Planning(self._processes, lane, self.owner)
            claimed = self._store.claim(planning, self.owner, now, lane.room, ended=self._hooks.ended)
        except OwnerGoneError:
            self._start_over()
            return
        self._adopt(claimed)
        self._unanswered = False

    def _adopt(self, claimed: Iterable[Run]) -> None:
        """Start what is claimed and not under way yet."""
        hindrance = self._hindrance
        for run in claimed:
            process = self._processes.find(run.process)
            known = self._live.find(run.id)
            if process is None or (known is not None and known.run.attempt == run.attempt):
                continue
            if known is not None:  # of an attempt that was put back, and is still on its way out
                self._live.remove(known)
            last_seq = self._store.last_seq(run.id) if run.attempts else 0
            live = LiveRun(run, process, self._clock, last_seq=last_seq, hindrance=hindrance)
            if process.pool is Pool.GROUPS:
                self._groups.begin(live)
            else:
                self._start_run(live)
            self._live.add(live)

    def _record(self) -> SchedulerRecord:
        now = self._clock.now()
        return SchedulerRecord(
            owner=self.owner,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            heartbeat_at=now,
            lease_until=self._lease.until(now),
            workers=self._crew.bound(Pool.THREADS),
            paused=self._claims_nothing,
            problem=self.problem,
            problem_since=self.problem_since,
            processes=tuple(sorted(self._processes.names())),
            threaded=self._threaded,
        )


def _was_cut_short(run: Run) -> bool:
    """Whether the present attempt of a run was abandoned, by its own process, which saw that it should stop."""
    is_over = run.is_active and run.attempts and run.attempts[-1].number == run.attempt
    return (run.attempts[-1].status if is_over else run.status) is RunStatus.ABANDONED
