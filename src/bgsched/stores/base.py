"""The store contract: what every store promises, and the one place where those promises are kept.

A store keeps requests, runs, run logs and who is alive. It reads no clock (``now`` is an argument), takes values and
returns values. `Store` writes each promise once, as one transaction over the small steps of `Transaction`, which a
backend supplies; so claiming, fencing and reaping are the same text for all of them.

Two guards make a fire time run exactly once: the claim moves ``next_fire_time`` on in the transaction that writes the
run, and a store refuses a second run of the same ``(request_id, revision, fire_time)``. A third guards the end:
whatever an owner says about a run is taken only while that run is active and still has this owner and this attempt
(the *fence*). A fourth guards against runs that nobody would ever end: only an owner that is signed on may claim, and
signing off or reaping it ends what it holds in the same transaction.

Requests count their revisions from 1. Revision 0 is that of the runs beside the fire times, which somebody asked for:
they can never take the place of a fire time.

Some methods end runs of which nobody hears otherwise, as nobody holds them: those that wait for an attempt. Who calls
such a method may give it *ended*, which is called once that is stored, with the runs as they ended.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from bgsched._evolve import evolve
from bgsched.errors import OwnerGoneError, RequestExistsError, UnknownRequestError, UnknownRunError
from bgsched.request import Overlap, Request, RequestStatus, Retention, beside, passed_over
from bgsched.run import Run, RunStatus
from bgsched.stores._claiming import (
    Lanes,
    claim_due,
    displace,
    end_unwanted,
    holds,
    kill,
    log_fenced,
    note_absence,
    note_refused,
    release,
    stop_members,
    tally,
    that_wait,
)
from bgsched.stores._questions import (
    LAST,
    Absence,
    Aged,
    Bite,
    Ended,
    Page,
    RequestFilter,
    RunFilter,
    SchedulerRecord,
    StoreReader,
    Summary,
    summarize,
)
from bgsched.stores._retention import purge
from bgsched.stores._steps import Planner, Report, Transaction

__all__ = [
    "AT_WORK",
    "LAST",
    "Absence",
    "Aged",
    "Bite",
    "Ended",
    "Page",
    "Planner",
    "Report",
    "RequestFilter",
    "RunFilter",
    "SchedulerRecord",
    "Store",
    "StoreReader",
    "Summary",
    "Transaction",
    "summarize",
]


AT_WORK = (
    "this thread is in the midst of another call on the store, which a signal handler or a finalizer has interrupted; "
    "only note there what is to be done, and do it afterwards"
)

_AHEAD = timedelta(minutes=1)  # what clocks may differ by, and who comes a little later waits for
_MOST_BROUGHT_BACK = 1000
_STOPPED = frozenset({RunStatus.KILLED, RunStatus.TIMED_OUT})  # what ends a group before its members

Hear = Callable[[Sequence[Run]], object]


def _unheard(runs: Sequence[Run]) -> None:
    """Let runs end unheard."""


class Store(ABC):
    """Keeps requests, runs and run logs. Thread-safe; each method is atomic: it happens as a whole or not at all."""

    @abstractmethod
    def reader(self) -> StoreReader:
        """Return the reading half."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open the one write transaction; commit when the block ends, roll back when it raises."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections. Closing twice is fine."""

    def is_gone(self, record: SchedulerRecord, now: datetime) -> bool:
        """Return whether a scheduler that signed on has died: here, whether its lease ran out."""
        return record.lease_until < now

    def gone(self, tx: Transaction, now: datetime) -> list[str]:
        """Return the owners that have died."""
        return [record.owner for record in tx.schedulers() if self.is_gone(record, now)]

    def vouches_for(self, owner: str) -> bool:  # noqa: ARG002  for stores that know more than the lease
        """Return whether nobody can take *owner* for gone, even when it does not renew its lease."""
        return False

    def let_go(self, owner: str) -> None:  # noqa: B027  for stores that vouch
        """Stop vouching for *owner*, which could not sign off or goes on under a new name: others may end it."""

    def is_at_work(self) -> bool:
        """Return whether this thread is in the midst of a call that others have to wait for.

        So it is where a signal handler or a finalizer interrupts such a call: nothing may be waited for there.
        """
        return False

    @abstractmethod
    def changes(self) -> Hashable:
        """Return a value that differs after anybody changed the store; cheap to ask."""

    @property
    def look_every(self) -> float:
        """For how many seconds a scheduler may go without looking for the dead and for asked kills."""
        return 1.0

    @property
    def bite(self) -> float:
        """For how many seconds a purge may go on before it lets others write."""
        return 0.002

    def listen(self, wake: Callable[[bool], None]) -> None:  # noqa: B027  a store that has no such means does nothing
        """Call *wake*, from any thread, when somebody elsewhere made something due or (``True``) asked for a kill.

        A hint, no promise: whoever relies on the store looks at `changes` as well.
        """

    def unlisten(self, wake: Callable[[bool], None]) -> None:  # noqa: B027  see listen
        """Undo `listen`."""

    # -- requests ------------------------------------------------------------------------------------------------

    def file(self, requests: Sequence[Request]) -> None:
        """Store new requests, all or none.

        Raises:
            RequestExistsError: one of the ids is taken.
        """
        with self.transaction() as tx:
            for taken in tx.get_requests([request.id for request in requests]):
                raise RequestExistsError(taken.id)
            tx.put_requests(requests)

    def change(
        self,
        id: str,
        change: Callable[[Request | None], Request | None],
        now: datetime,
        *,
        end_waiting: str | None = None,
        ended: Hear = _unheard,
    ) -> Request | None:
        """Replace a request by *change* of it, with nobody in between.

        ``None`` in means "there is none", out "leave it". *end_waiting*: the reason to end the
        request's runs that wait and that nobody has claimed (`Run.given_up`), save a group that has begun and its
        members. What had come by *now* and does not run any more (`passed_over`) is recorded.
        """
        over: list[Run] = []
        with self.transaction() as tx:
            found = next(iter(tx.get_requests([id])), None)
            changed = change(found)
            if changed is None:
                return found
            tx.put_requests([changed])
            if end_waiting is not None:
                over = [run.given_up(now, end_waiting) for run in that_wait(tx, id)]
                tx.update_runs(over, None)
            if found is not None and (record := passed_over(found, changed, now)) is not None:
                over += tx.insert_runs([record])
            tally(tx, over, now, "")
        ended(over)
        return changed

    def change_all(self, ids: Collection[str], change: Callable[[Request], Request | None]) -> list[Request]:
        """Replace those of the requests that exist by *change* of each, ``None``: leave it; return what was stored."""
        with self.transaction() as tx:
            changed = [new for request in tx.get_requests(ids) if (new := change(request)) is not None]
            if changed:
                tx.put_requests(changed)
        return changed

    def delete(self, id: str, *, ended: Hear = _unheard) -> None:
        """Delete a request, its ended runs and their logs; runs that still go on are asked to stop and refused later.

        *ended* is called with the runs that waited and that nobody had claimed, as they were.

        Raises:
            UnknownRequestError: there is no such request.
        """
        with self.transaction() as tx:
            if not tx.get_requests([id]):
                raise UnknownRequestError(id)
            waiting = [run for run in tx.active_runs_of(id) if run.owner is None]
            tx.delete_request(id)
        ended(waiting)

    # -- runs ----------------------------------------------------------------------------------------------------

    def enqueue(self, run: Run) -> Run:
        """Store a waiting run beside the fire times of its request; whoever is free first takes it.

        Where another run was put there for the same instant, the fire time moves on by a microsecond.

        Raises:
            UnknownRequestError: there is no such request.
        """
        with self.transaction() as tx:
            request = next(iter(tx.get_requests([run.request_id])), None)
            if request is None:
                raise UnknownRequestError(run.request_id)
            run = evolve(run, revision=0, due_at=run.due_at or run.fire_time)
            while not (stored := tx.insert_runs([run])):
                run = evolve(run, fire_time=run.fire_time + timedelta(microseconds=1))
            if request.status is RequestStatus.COMPLETE:
                tx.put_requests([evolve(request, status=RequestStatus.SCHEDULED)])
            return stored[0]

    def add_member(
        self,
        owner: str,
        parent: Run,
        run: Run,
        place: int,
        overlap: Overlap,
        now: datetime,
        *,
        ended: Hear = _unheard,
    ) -> bool:
        """Store *run* as member number *place* (from 0) of the group's run *parent*, by its process's overlap rule.

        Nothing happens where that member is stored already, or *parent* was asked to stop. Return whether *parent* is
        still *owner*'s.
        """
        over: list[Run] = []
        with self.transaction() as tx:
            held = next(iter(tx.get_runs([parent.id])), None)
            if held is None or not holds(held, owner) or held.attempt != parent.attempt:
                return False
            if held.kill_asked_at is not None or len(tx.child_runs(parent.id)) > place:
                return True
            blockers = tx.active_runs([run.overlap_key]) if run.overlap_key is not None else []
            made = beside(run, overlap, now, blockers)
            displaced = displace(tx, made.displaced, now, over)
            if made.kills:
                tx.ask_kill(made.kills, now)
            run = made.run
            while not (stored := tx.insert_runs([run])):
                run = evolve(run, fire_time=run.fire_time + timedelta(microseconds=1))
            tally(tx, [*displaced, *(run for run in stored if not run.is_active)], now, owner)
        ended(over)
        return True

    def claim(self, planner: Planner, owner: str, now: datetime, limit: int, *, ended: Hear = _unheard) -> list[Run]:
        """Take up to *limit* due runs for *owner* and record what becomes of the other fire times that have come.

        Waiting runs come first, then due requests. Each fire time gets exactly one record, whoever else claims.

        Raises:
            OwnerGoneError: *owner* is not signed on. Nobody would ever end what it claimed.
        """
        over: list[Run] = []
        with self.transaction() as tx:
            if not tx.is_signed_on(owner):
                raise OwnerGoneError(owner)
            lanes = Lanes(planner, limit)
            taken = [run.taken(owner, now) for run in lanes.queued(tx, now)]
            accepted = tx.update_runs(taken, None) if taken else set()
            claimed = [run for run in taken if run.id in accepted]
            due = lanes.due(tx, now, claimed)
            if due:
                claimed += claim_due(tx, planner, owner, now, due, over)
        ended(over)
        return claimed

    def record(self, owner: str, now: datetime, report: Report, *, ended: Hear = _unheard) -> list[Run]:
        """Store what *owner* reports of its runs, fenced; return the runs that were refused.

        A refused result is written into the run's log. Saying the same twice is harmless. A run that waits again ends
        where it was asked to stop meanwhile; or, if it was put back before it began, where its request was unscheduled.
        *ended* is called with those, and with what waited in groups that were stopped.
        """
        over: list[Run] = []
        with self.transaction() as tx:
            if report.log or report.trims:
                log_fenced(tx, owner, report)
            accepted = tx.update_runs(report.runs, owner) if report.runs else set()
            refused = [run for run in report.runs if run.id not in accepted]
            if refused:
                refused = note_refused(tx, owner, now, refused)
            follow_ups = [request for run_id, request in report.follow_ups if run_id in accepted]
            if follow_ups:
                tx.put_requests(follow_ups)
            reported = [run for run in report.runs if run.id in accepted and not run.is_active]
            stop_members(tx, [run for run in reported if run.status in _STOPPED], now, over)
            tally(tx, reported, now, owner)
            waiting = [run.id for run in report.runs if run.id in accepted and run.owner is None and run.is_active]
            if waiting:
                end_unwanted(tx, tx.get_runs(waiting), now, over)
        ended(over)
        return refused

    def held(self, owner: str) -> list[Run]:
        """Return the active runs of *owner*: after a claim whose answer was lost, they are to be started."""
        with self.transaction() as tx:
            return tx.held_runs(owner)

    def last_seq(self, run_id: int) -> int:
        """Return the number of the run's last log line, so that its next attempt can go on from there."""
        with self.transaction() as tx:
            return tx.last_seq(run_id)

    def kill(self, run_id: int, now: datetime, *, ended: Hear = _unheard) -> Run:
        """Ask a run to stop.

        A waiting run that nobody owns is ended at once; the owner of another one hears of it within a second.

        Raises:
            UnknownRunError: there is no such run.
        """
        over: list[Run] = []
        with self.transaction() as tx:
            run = next(iter(tx.get_runs([run_id])), None)
            if run is None:
                raise UnknownRunError(run_id)
            run = kill(tx, run, now, over) if run.is_active else run
        ended(over)
        return run

    def bring_back(self, now: datetime) -> int:
        """Bring back to *now* some of the runs that a clock ahead recorded minutes after it; return how many.

        As ``recorded_at`` grows with the id, they would draw all that come after them along: no question about a time
        would find those, and no purge, until it is that late.
        """
        if not self._has_recorded_after(now + _AHEAD):
            return 0
        with self.transaction() as tx:
            return tx.bring_back(now, _MOST_BROUGHT_BACK)

    def _has_recorded_after(self, instant: datetime) -> bool:
        """Return whether a run says so; where one is recorded after another, the newest knows."""
        newest = self.reader().runs(RunFilter(limit=1))
        return bool(newest) and newest[0].recorded_at > instant

    # -- who is alive --------------------------------------------------------------------------------------------

    def sign_on(self, record: SchedulerRecord) -> None:
        """Announce a scheduler under a fresh owner."""
        with self.transaction() as tx:
            tx.put_scheduler(record)
            tx.end_absence(record.started_at)

    def heartbeat(self, record: SchedulerRecord) -> bool:
        """Renew the lease of a scheduler that still stands; ``False``: it was reaped, and nothing was renewed."""
        with self.transaction() as tx:
            if not tx.is_signed_on(record.owner):
                return False
            tx.put_scheduler(record)
            return True

    def compute_by(self, zone_database: str, *, alone: bool = False) -> None:
        """Note by which time zone database, a digest of it, fire times are computed from now on.

        *alone*: by that one all that are stored were looked over, so that the others count no more.
        """
        with self.transaction() as tx:
            if alone:
                tx.forget_zone_databases()
            tx.put_zone_database(zone_database)

    def reap(self, now: datetime, *, leases: bool = True) -> list[Run]:
        """End what dead schedulers left, and return it: each run is abandoned, or waits for another attempt.

        What waited in groups that were asked to stop has ended with them, and is returned as well.

        A request whose run has used up its reruns is parked with it: the run may be what kills its schedulers.
        *leases*: whether leases that ran out count; not when the clock that says so has just jumped.
        """
        with self.transaction() as tx:
            gone = (
                self.gone(tx, now) if leases else [r.owner for r in tx.schedulers() if self.is_gone(r, r.lease_until)]
            )
            heard = [record.heartbeat_at for record in tx.schedulers() if record.owner in gone]
            left = [run for owner in gone for run in release(tx, owner, now, "its scheduler died", crashed=True)]
            if heard:
                note_absence(tx, max(heard))
            return left

    def sign_off(self, owner: str, now: datetime) -> list[Run]:
        """Forget a scheduler that stops; runs that it leaves behind are ended as those of a dead one. Return them."""
        with self.transaction() as tx:
            left = release(tx, owner, now, "its scheduler was shut down", crashed=False)
            note_absence(tx, now)
            return left

    def purge(
        self,
        retention: Retention,
        now: datetime,
        limit: int = 200,
        *,
        after: int = 0,
        kept_from: dict[str, int] | None = None,
    ) -> Bite:
        """Delete up to *limit* runs that are past their retention, and requests that are, with their logs.

        A small bite: candidates are found by reading, a bounded number of runs from the id *after* on, and looked at
        again in the short transaction that deletes them. The next bite goes on where this one says. *kept_from* is what
        the bites of one purge know of `Retention.per_process`: give each the same, empty at first.
        """
        return purge(self.reader(), self.transaction, retention, now, limit, after, kept_from)
