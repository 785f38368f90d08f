"""The protocol, over the steps of a transaction: what a claim takes, what the fence lets in, what the dead leave."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from bgsched._evolve import evolve
from bgsched.request import Plan, Request, RequestStatus
from bgsched.run import LogLine, Run, RunStatus
from bgsched.stores._questions import Absence, Ended
from bgsched.stores._steps import Planner, Report, Transaction

__all__ = [
    "Lanes",
    "claim_due",
    "displace",
    "end_unwanted",
    "holds",
    "kill",
    "log_fenced",
    "note_absence",
    "note_refused",
    "release",
    "stop_members",
    "tally",
    "that_wait",
]


class Lanes:
    """The processes of one claim, with how many runs of them may be claimed: those without a bound share one lane."""

    def __init__(self, planner: Planner, limit: int) -> None:
        self._limit = limit
        bounds = planner.bounds
        free = [name for name in planner.processes if name not in bounds] if bounds else planner.processes
        self._lanes = [(free, limit), *(((name,), min(bound, limit)) for name, bound in bounds.items())]

    def queued(self, tx: Transaction, now: datetime) -> list[Run]:
        """Return the waiting runs to take, earliest due first."""
        found = [run for names, room in self._lanes for run in tx.queued_runs(now, names, room)]
        if len(self._lanes) > 1:
            found.sort(key=lambda run: (run.due_at or run.fire_time, run.id))
        return found[: self._limit]

    def due(self, tx: Transaction, now: datetime, claimed: Sequence[Run]) -> list[Request]:
        """Return the due requests to plan beside the *claimed* runs, highest priority first, then earliest."""
        due: list[Request] = []
        for names, room in self._lanes:
            taken = len(claimed) if len(self._lanes) == 1 else sum(run.process in names for run in claimed)
            left = min(room - taken, self._limit - len(claimed))
            if left > 0 and names:
                due += tx.due_requests(now, names, left)
        if len(self._lanes) > 1:
            due.sort(key=lambda request: (-request.priority, request.due_at or now))
        return due[: self._limit - len(claimed)]


def claim_due(
    tx: Transaction, planner: Planner, owner: str, now: datetime, due: Sequence[Request], over: list[Run]
) -> list[Run]:
    """Plan the due requests and write all plans at once; runs that end for it are added to *over*, here and below.

    Of those that share an overlap key, one gets an active run in a claim; the others stay due for the next claim, which
    finds that run stored and can name it. So do those whose key another scheduler holds at this moment.
    """
    keys = [planner.overlap_key(request) for request in due]
    wanted = {key for key in keys if key is not None}
    held = tx.hold_keys(wanted) if wanted else ()
    holders: dict[str | None, list[Run]] = {}
    for run in tx.active_runs(held) if held else ():
        holders.setdefault(run.overlap_key, []).append(run)
    plans: list[Plan] = []
    occupied = wanted.difference(held)
    for request, key in zip(due, keys, strict=True):
        if key in occupied:
            continue
        made = planner.plan(request, now, holders.get(key, ()))
        if key is not None and made.is_active:
            occupied.add(key)
        plans.append(made)
    return _write_plans(tx, plans, owner, now, over)


def _write_plans(tx: Transaction, plans: Sequence[Plan], owner: str, now: datetime, over: list[Run]) -> list[Run]:
    tx.advance_requests([made.request for made in plans])
    displaced = displace(tx, [run for made in plans for run in made.displaced], now, over)
    kills = [run_id for made in plans for run_id in made.kills]
    if kills:
        tx.ask_kill(kills, now)
    stored = tx.insert_runs([run for made in plans for run in made.runs])
    active = [run for run in stored if run.is_active]
    if displaced or len(active) < len(stored):
        tally(tx, [*displaced, *(run for run in stored if not run.is_active)], now, owner)
    return [run for run in active if run.owner is not None]


def displace(tx: Transaction, runs: Sequence[Run], now: datetime, over: list[Run]) -> list[Run]:
    """End waiting runs in favour of another one; return those that nobody had ended or taken before."""
    ended = tx.update_runs(runs, None) if runs else set()
    displaced = [run for run in runs if run.id in ended]
    stop_members(tx, displaced, now, over)
    over += displaced
    return displaced


def tally(tx: Transaction, runs: Sequence[Run], now: datetime, owner: str) -> None:
    """Count runs that ended: the history of counts outlives that of the runs."""
    counts: dict[tuple[str, RunStatus], int] = {}
    for run in runs:
        key = run.process, run.status
        counts[key] = counts.get(key, 0) + run.fire_count
    if counts:
        hour = now.replace(minute=0, second=0, microsecond=0)
        tx.count_ended([Ended(hour, *key, count) for key, count in sorted(counts.items())], owner)


def that_wait(tx: Transaction, request: str) -> list[Run]:
    """Return the runs of a request that wait and nobody has claimed, save a group that has begun and its members."""
    active = {run.id: run for run in tx.active_runs_of(request)}
    parents = {run.parent_id for run in active.values()}
    return [
        run
        for run in active.values()
        if run.owner is None
        and run.id not in parents
        and run.parent_id not in active
        and not (run.attempts and tx.child_runs(run.id))
    ]


def log_fenced(tx: Transaction, owner: str, report: Report) -> None:
    """Write the lines of runs that *owner* still holds, at the attempt that wrote them; then drop what is too much."""
    ids = {line.run_id for line in report.log} | {trim.run_id for trim in report.trims}
    held = {run.id: run.attempt for run in tx.get_runs(ids) if holds(run, owner)}
    tx.append_log([line for line in report.log if held.get(line.run_id) == line.attempt])
    for trim in report.trims:
        if held.get(trim.run_id) == trim.attempt:
            tx.trim_log(trim)


def kill(tx: Transaction, run: Run, now: datetime, over: list[Run]) -> Run:
    """Ask an active run to stop; one that waits and that nobody owns is ended at once. Return it as it is then."""
    if run.owner is not None:
        tx.ask_kill([run.id], now)
        return evolve(run, kill_asked_at=run.kill_asked_at or now)
    run = run.move(RunStatus.KILLED, kill_asked_at=now, finished_at=now, reason="killed while it waited")
    tx.update_runs([run], None)
    stop_members(tx, [run], now, over)
    over.append(run)
    tally(tx, [run], now, "")
    return run


def end_unwanted(tx: Transaction, waiting: Sequence[Run], now: datetime, over: list[Run]) -> None:
    """End those of the runs that wait again that were asked to stop meanwhile, or that were unscheduled unbegun.

    What has begun when its request is unscheduled goes on, with its retries; and what was asked for beside the fire
    times may have been asked for since.
    """
    for run in waiting:
        if run.kill_asked_at is not None:  # while it failed, or before it could start
            kill(tx, run, now, over)
    unbegun = [run for run in waiting if run.kill_asked_at is None and not run.attempts and run.revision > 0]
    requests = {request.id: request for request in tx.get_requests({run.request_id for run in unbegun})}
    skipped = [
        run.move(RunStatus.SKIPPED, finished_at=now, reason="its request was unscheduled before it began")
        for run in unbegun
        if (request := requests.get(run.request_id)) is not None
        and request.status is RequestStatus.UNSCHEDULED
        and run.revision < request.revision
    ]
    tx.update_runs(skipped, None)
    over += skipped
    tally(tx, skipped, now, "")


def stop_members(tx: Transaction, ended: Iterable[Run], now: datetime, over: list[Run]) -> None:
    """Kill what goes on of groups that were ended from outside: nobody leads them any more."""
    for run in ended:
        for member in tx.child_runs(run.id):
            if member.is_active:
                kill(tx, member, now, over)


def holds(run: Run, owner: str) -> bool:
    return run.is_active and run.owner == owner


def note_refused(tx: Transaction, owner: str, now: datetime, refused: Iterable[Run]) -> list[Run]:
    """Write refused results into the logs of their runs; what was stored just so before is no refusal.

    Not into the log of a run that goes on elsewhere: its lines are numbered by who runs it.
    """
    stored = {run.id: run for run in tx.get_runs([run.id for run in refused])}
    really = [run for run in refused if not _same_end(stored.get(run.id), run)]
    for run in really:
        if run.id in stored and not run.is_active and not stored[run.id].is_active:
            text = f"a late result ({run.status.value}) of scheduler {owner}, attempt {run.attempt}, was refused"
            seq = tx.last_seq(run.id) + 1
            tx.append_log([LogLine(run.id, seq, now, "WARNING", "bgsched", text, run.attempt)])
    return really


def _same_end(stored: Run | None, said: Run) -> bool:
    if stored is None:
        return False
    if said.status is RunStatus.WAITING:
        return len(stored.attempts) >= len(said.attempts)
    return (stored.status, stored.owner, stored.attempt) == (said.status, said.owner, said.attempt)


def note_absence(tx: Transaction, since: datetime) -> None:
    """Note that no scheduler lived from *since* on, when the last one was heard of, where that is so."""
    living = [record.started_at for record in tx.schedulers()]
    if not living:
        tx.put_absence(Absence(since))
    elif min(living) > since:
        tx.put_absence(Absence(since, min(living)))


def release(tx: Transaction, owner: str, now: datetime, why: str, *, crashed: bool) -> list[Run]:
    """End the runs of an owner that is gone, and forget it. Return them, and what ended with them."""
    over: list[Run] = []
    left = [run.abandoned(now, why, crashed=crashed) for run in tx.held_runs(owner)]
    if left:
        tx.update_runs(left, owner)
        ended = [run for run in left if not run.is_active]
        stop_members(tx, [run for run in ended if run.status is RunStatus.KILLED], now, over)
        _park(tx, now, [run for run in ended if run.status is RunStatus.ABANDONED and _was_abandoned(run)])
        tally(tx, ended, now, owner)
    tx.delete_scheduler(owner)
    return [*over, *left]


def _was_abandoned(run: Run) -> bool:
    return any(attempt.status is RunStatus.ABANDONED for attempt in run.attempts)


def _park(tx: Transaction, now: datetime, runs: Sequence[Run]) -> None:
    """Unschedule the requests of runs whose schedulers died again and again, until somebody reschedules them."""
    why = {
        run.request_id: f"parked: attempt {run.attempt} of run {run.id} ended like those before it, with its scheduler"
        for run in runs
    }
    requests = tx.get_requests(why) if why else []
    tx.advance_requests([r.unscheduled(now, why[r.id]) for r in requests if r.status is not RequestStatus.UNSCHEDULED])
