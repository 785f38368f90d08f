"""One owner's life: from sign-on to sign-off, what a scheduler does with its store, pass by pass.

A pass, in this order: end what is over its time; report what ended, changed or was written; show a heartbeat; reap the
dead; claim what is due and hand it to the workers. Claims come after reports, so that an overlap that is over is seen
to be over. Only one thread passes at a time; workers and callers only put things where the next pass finds them.

What was reported is kept until the store has taken it, and what was claimed by a call whose answer was lost is found
again, so an error of the store loses nothing.
"""

import os
import random
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from bgsched._current import LiveRun, StopCause
from bgsched._runlog import LOGGER
from bgsched._worker import time_out
from bgsched.clock import Clock
from bgsched.process import ProcessRegistry
from bgsched.request import Plan, Policies, Request, Retention, overlap_key, plan
from bgsched.run import LogLine, LogTrim, Run
from bgsched.stores.base import Report, SchedulerRecord, Store

__all__ = ["HEARTBEAT", "LEASE", "Engine"]

HEARTBEAT = timedelta(seconds=5)
LEASE = timedelta(seconds=15)
_LOOK_AFTER_OTHERS = 1.0  # seconds between two looks for dead schedulers and asked kills
_REPORT_EVERY = 0.2  # seconds that lines and progress may wait for company
_PURGE_EVERY = 3600.0
_LONGEST_WAIT = 1.0  # a longer one would not see a clock that jumped, or a machine that slept
_AHEAD = timedelta(milliseconds=20)  # how much work may wait, claimed, behind busy workers
_MOST_AHEAD = 256
_PURGE_BITE = 500


class Engine:
    """Claims, reports, and keeps alive. *start_run* hands a claimed run to whoever executes it."""

    def __init__(
        self,
        store: Store,
        processes: ProcessRegistry,
        clock: Clock,
        *,
        workers: int,
        retention: Retention,
        start_run: Callable[[LiveRun], None],
        release_worker: Callable[[LiveRun], None],
    ) -> None:
        self.owner = uuid4().hex
        self.paused = False
        self.problem: str | None = None
        self.problem_since: datetime | None = None
        self._store = store
        self._processes = processes
        self._clock = clock
        self._workers = workers
        self._retention = retention
        self._start_run = start_run
        self._release_worker = release_worker
        self._live: dict[int, LiveRun] = {}
        self._ended: list[LiveRun] = []
        self._ended_lock = threading.Lock()
        self._unsent_runs: dict[int, Run] = {}
        self._unsent_log: list[LogLine] = []
        self._unsent_trims: list[LogTrim] = []
        self._unanswered = False
        self._started_at = clock.now()
        self._next_heartbeat = 0.0
        self._next_look = 0.0
        self._next_report = 0.0
        self._next_purge = clock.monotonic() + _PURGE_EVERY
        self._seen: object = None
        self._next_due: datetime | None = None
        self._mean_run = 1.0

    # -- the life ------------------------------------------------------------------------------------------------

    def sign_on(self) -> None:
        """Announce this owner, and end at once what dead ones left behind."""
        self._store.sign_on(self._record())
        self._next_heartbeat = self._clock.monotonic() + HEARTBEAT.total_seconds()
        self._reap(self._clock.now())

    def sign_off(self) -> list[Run]:
        """Report everything, then leave; return the runs that are left behind, ended as abandoned."""
        self.report(finally_=True)
        return self._store.sign_off(self.owner, self._clock.now())

    def one_pass(self, limit: int | None = None) -> None:
        """Do what is to be done now. *limit*: how many runs may be claimed; by default, as workers are free."""
        now, elapsed = self._clock.now(), self._clock.monotonic()
        self._end_overdue(elapsed)
        self.report()
        if elapsed >= self._next_heartbeat:
            self._beat()
        if elapsed >= self._next_look:
            self._next_look = elapsed + _LOOK_AFTER_OTHERS
            self._reap(now)
            self._pass_on_kills()
        if not self.paused:
            self._claim(now, self._room() if limit is None else limit)
        if elapsed >= self._next_purge:
            self._purge(now, elapsed)

    def next_due(self) -> datetime | None:
        """Return when something is due next, asking the store only when it has changed."""
        seen = self._store.changes()
        if seen != self._seen:
            self._next_due = self._store.reader().next_due(self._processes.names())
            self._seen = seen
        return self._next_due

    def longest_wait(self) -> float:
        """Return for how many seconds the next pass may wait when nothing calls for one."""
        if self.paused or not (self._live or self._unsent_runs):
            due = None if self.paused else self.next_due()
        elif len(self._live) >= self._workers:
            due = None
        else:
            due = self.next_due()
        longest = _REPORT_EVERY if self._live else _LONGEST_WAIT
        if due is None:
            return longest
        return min(longest, max(0.0, (due - self._clock.now()).total_seconds()))

    @property
    def live(self) -> Sequence[LiveRun]:
        """The runs that are under way here."""
        return [live for live in list(self._live.values()) if not live.closed]

    def ended(self, live: LiveRun) -> None:
        """Hear of a run that came back from its worker. From any thread."""
        with self._ended_lock:
            self._ended.append(live)

    def stop_all(self, cause: StopCause) -> None:
        """Tell every run that is under way to stop."""
        for live in self.live:
            live.ask_to_stop(cause)

    # -- parts of a pass -----------------------------------------------------------------------------------------

    def _end_overdue(self, elapsed: float) -> None:
        for live in self.live:
            limit = live.process.policies.timeout
            if limit is not None and live.began is not None and elapsed - live.began > limit.total_seconds():
                if time_out(live):
                    self.ended(live)
                self._release_worker(live)

    def report(self, *, finally_: bool = False) -> None:
        """Send what ended at once; what was only written or said, a little later, together."""
        with self._ended_lock:
            ended, self._ended = self._ended, []
        for live in ended:
            self._collect(live)
            if self._live.pop(live.run.id, None) is not None and live.began is not None and live.ended is not None:
                self._mean_run += 0.1 * (live.ended - live.began - self._mean_run)
        elapsed = self._clock.monotonic()
        if finally_ or elapsed >= self._next_report:
            self._next_report = elapsed + _REPORT_EVERY
            for live in list(self._live.values()):
                self._collect(live)
        elif not self._unsent_runs and not self._unsent_log:
            return
        self._send()

    def _collect(self, live: LiveRun) -> None:
        changed, lines, trim = live.news()
        self._unsent_log.extend(lines)
        if trim is not None:
            self._unsent_trims.append(trim)
        if changed is not None or live.closed:
            self._unsent_runs[live.run.id] = live.run

    def _send(self) -> None:
        runs, lines, trims = self._unsent_runs, self._unsent_log, self._unsent_trims
        if not runs and not lines:
            return
        refused = self._store.record(self.owner, self._clock.now(), Report(list(runs.values()), lines, trims))
        self._forget_unsent()
        for run in refused:
            LOGGER.warning("run %s: %s was refused, the run is no longer ours", run.id, run.status.value)
            if (live := self._live.get(run.id)) is not None:
                live.ask_to_stop(StopCause.REAPED)

    def _forget_unsent(self) -> None:
        self._unsent_runs, self._unsent_log, self._unsent_trims = {}, [], []

    def _beat(self) -> None:
        alive = self._store.heartbeat(self._record())
        self._next_heartbeat = self._clock.monotonic() + HEARTBEAT.total_seconds()
        if not alive:
            self._start_over()

    def _start_over(self) -> None:
        """Others took this owner for dead and ended its runs: tell those runs, and go on under a fresh name."""
        LOGGER.warning("scheduler %s was taken for dead by another; it goes on under a new name", self.owner)
        self.stop_all(StopCause.REAPED)
        self._live.clear()
        self._forget_unsent()
        self.owner = uuid4().hex
        self._store.sign_on(self._record())

    def _reap(self, now: datetime) -> None:
        for run in self._store.reap(now):
            LOGGER.warning("run %s of %s: %s", run.id, run.process, run.reason)

    def _pass_on_kills(self) -> None:
        if self._live:
            for run_id in self._store.reader().kills_asked(self.owner):
                if (live := self._live.get(run_id)) is not None:
                    live.ask_to_stop(StopCause.KILLED)

    def _room(self) -> int:
        """Return how many runs may be claimed: as many as workers are free, and a few more where runs are short."""
        ahead = int(self._workers * _AHEAD.total_seconds() / max(self._mean_run, 1e-6))
        return self._workers + min(ahead, _MOST_AHEAD) - len(self._live)

    def _claim(self, now: datetime, limit: int) -> None:
        if self._unanswered:
            self._adopt(self._store.held(self.owner))
            self._unanswered = False
        if limit <= 0:
            return
        due = self.next_due()
        if due is None or due > now:
            return
        self._unanswered = True
        claimed = self._store.claim(_Planning(self._processes, self.owner), self.owner, now, limit)
        self._unanswered = False
        self._adopt(claimed)

    def _adopt(self, claimed: Iterable[Run]) -> None:
        """Start what is claimed and not under way yet."""
        for run in claimed:
            process = self._processes.find(run.process)
            if run.id in self._live or run.id in self._unsent_runs or process is None:
                continue
            last_seq = self._store.last_seq(run.id) if run.attempt > 1 else 0
            live = LiveRun(run, process, self._clock, last_seq=last_seq)
            self._live[run.id] = live
            self._start_run(live)

    def _purge(self, now: datetime, elapsed: float) -> None:
        full = self._store.purge(self._retention, now, _PURGE_BITE) >= _PURGE_BITE
        self._next_purge = elapsed + (_LOOK_AFTER_OTHERS if full else _PURGE_EVERY * random.uniform(0.9, 1.1))  # noqa: S311

    def _record(self) -> SchedulerRecord:
        now = self._clock.now()
        return SchedulerRecord(
            owner=self.owner,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            heartbeat_at=now,
            lease_until=now + LEASE,
            workers=self._workers,
            paused=self.paused,
            problem=self.problem,
            problem_since=self.problem_since,
            processes=tuple(sorted(self._processes.names())),
        )


class _Planning:
    """What a claim asks: the policies of the processes that are registered here, applied for one owner."""

    def __init__(self, processes: ProcessRegistry, owner: str) -> None:
        self._registry = processes
        self._owner = owner

    @property
    def processes(self) -> Collection[str]:
        return self._registry.names()

    def overlap_key(self, request: Request) -> str | None:
        return overlap_key(request, self._policies(request))

    def plan(self, request: Request, now: datetime, blockers: Sequence[Run]) -> Plan:
        return plan(request, self._policies(request), self._owner, now, blockers)

    def _policies(self, request: Request) -> Policies:
        return self._registry.get(request.process).policies
