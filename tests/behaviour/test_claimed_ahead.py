"""What was claimed ahead of a free worker: it waits here only as long as one comes soon, and for nobody in vain."""

from datetime import timedelta

import pytest
from behaviour import _work
from behaviour._host import Host, Visitor

from bgsched import Immediate, Request, Retry, Run, RunStatus, Scheduler

S = RunStatus
COUNT = 5


def behind(host: Host, scheduler: Scheduler) -> tuple[Visitor, list[Request]]:
    """Let *scheduler*, whose only worker is busy at the door, claim some runs of `p` ahead, as its runs were short."""
    host.process(lambda: None, "short")
    host.process(_work.visit, "long")
    host.run("short", by=scheduler)
    _, visitor = host.at_the_door("long", by=scheduler)
    requests = scheduler.schedule_many([("p", Immediate(), None)] * COUNT)
    host.settle()
    assert [run.owner for run in runs(host)] == [owner(scheduler)] * COUNT
    return visitor, requests


def runs(host: Host, *, in_status: RunStatus | None = None) -> list[Run]:
    return host.monitor.runs(process="p", status=in_status)


def owner(scheduler: Scheduler) -> str:
    engine = scheduler._life.engine
    assert engine is not None
    return engine.owner


def end(host: Host) -> list[Run]:
    return host.until(lambda: found if len(found := runs(host, in_status=S.SUCCESS)) == COUNT else None)


def test_it_is_for_whoever_is_free(threads: Host) -> None:
    threads.process(lambda: None)
    busy, idle = threads.start(workers=1), threads.start(workers=COUNT)
    idle.pause()
    behind(threads, busy)
    idle.resume()
    threads.pass_time(2)
    assert [(run.owner, run.attempt) for run in end(threads)] == [(owner(idle), 2)] * COUNT


def test_nothing_is_claimed_ahead_behind_a_run_that_takes_long(threads: Host) -> None:
    threads.process(lambda: None)
    busy = threads.start(workers=1)
    behind(threads, busy)
    threads.pass_time(1)
    late = busy.schedule("p", Immediate())
    threads.pass_time(1)
    assert threads.monitor.runs(request=late.id) == []


def test_it_is_put_back_once(threads: Host) -> None:
    """And not claimed again by the scheduler that had no worker for it, before one is free."""
    threads.process(lambda: None)
    visitor, _ = behind(threads, threads.start(workers=1))
    threads.pass_time(5)
    waiting = runs(threads)
    assert [(run.owner, run.attempt, run.reason) for run in waiting] == [
        (None, 1, "put back: no worker came for it")
    ] * COUNT
    visitor.let_on()
    threads.pass_time(1)
    assert {run.attempt for run in end(threads)} == {2}


def test_what_was_put_back_has_all_its_attempts(threads: Host) -> None:
    failures = iter([True] + [False] * COUNT)

    def fail_once() -> None:
        if next(failures):
            raise ValueError

    threads.process(fail_once, retry=Retry(attempts=2, delay=timedelta(0)))
    visitor, _ = behind(threads, threads.start(workers=1))
    threads.pass_time(1)
    visitor.let_on()
    threads.pass_time(1)
    assert sum(len(run.attempts) for run in end(threads)) == 1


def test_a_pause_is_for_what_has_not_begun(threads: Host) -> None:
    begun: list[int] = []
    threads.process(lambda: begun.append(1))
    scheduler = threads.start(workers=1)
    visitor, _ = behind(threads, scheduler)
    scheduler.pause()
    threads.settle()
    assert {(run.owner, run.reason) for run in runs(threads)} == {
        (None, "put back: its scheduler was paused before it began")
    }
    visitor.let_on()
    threads.pass_time(1)
    assert begun == []
    scheduler.resume()
    threads.pass_time(1)
    assert len(end(threads)) == len(begun)


def test_a_pause_is_for_what_run_pending_has_claimed(threads: Host) -> None:
    begun: list[int] = []
    scheduler = threads.scheduler()

    def pause() -> None:
        begun.append(1)
        if len(begun) == COUNT:
            scheduler.pause()

    threads.process(pause)
    scheduler.schedule_many([("p", Immediate(), None)] * 2 * COUNT)
    scheduler.run_until_idle()
    assert (len(begun), len(runs(threads, in_status=S.SUCCESS))) == (COUNT, COUNT)
    assert {run.owner for run in runs(threads, in_status=S.WAITING)} == {None}


@pytest.mark.parametrize("by_another", [False, True])
def test_a_kill_does_not_wait_for_a_worker(threads: Host, by_another: bool) -> None:  # noqa: FBT001  a parameter
    threads.process(lambda: None)
    scheduler = threads.start(workers=1)
    visitor, requests = behind(threads, scheduler)
    (run,) = threads.monitor.runs(request=requests[-1].id)
    if by_another:
        threads.scheduler().kill(run.id)
        threads.clock.advance(0.5)  # when asked kills are looked for
        threads.settle()
        threads.clock.advance(0.2)  # until the next pass
    else:
        scheduler.kill(run.id)
    killed = threads.end_of(run)
    assert (killed.status, killed.started_at) == (S.KILLED, None)
    assert killed.reason in (
        "it was asked to stop: a kill was asked for before it began",
        "killed while it waited",  # it was put back a moment before
    )
    visitor.let_on()
    threads.pass_time(1)
    threads.until(lambda: threads.statuses().count(S.SUCCESS) == COUNT - 1)


def test_what_is_unscheduled_meanwhile_is_skipped(threads: Host) -> None:
    threads.process(lambda: None)
    scheduler = threads.start(workers=1)
    visitor, requests = behind(threads, scheduler)
    for request in requests:
        scheduler.unschedule(request.id)
    threads.pass_time(1)
    visitor.let_on()
    threads.pass_time(1)
    assert {(run.status, run.reason, run.started_at) for run in runs(threads)} == {
        (S.SKIPPED, "its request was unscheduled before it began", None)
    }


@pytest.mark.parametrize(("takes", "expected"), [(0.5, [1] * COUNT), (0.004, [1, 4, 3, 2, 1])])
def test_run_pending_claims_what_it_comes_for_soon(threads: Host, takes: float, expected: list[int]) -> None:
    """One run, to see how long it takes; then as many as fit in a moment."""
    claimed: list[int] = []
    scheduler = threads.scheduler()

    def work() -> None:
        claimed.append(sum(run.is_active and run.owner is not None for run in runs(threads)))
        threads.clock.advance(takes)

    threads.process(work)
    scheduler.schedule_many([("p", Immediate(), None)] * COUNT)
    scheduler.run_pending()
    assert claimed == expected


def test_run_pending_leaves_what_becomes_due_meanwhile(threads: Host) -> None:
    scheduler = threads.scheduler()

    def work() -> None:
        threads.clock.advance(1)
        scheduler.schedule("p", Immediate())

    threads.process(work)
    scheduler.schedule_many([("p", Immediate(), None)] * COUNT)
    due = scheduler.run_pending()
    assert threads.statuses() == [S.SUCCESS] * COUNT
    assert due is not None
    assert due <= threads.clock.now()


def test_run_pending_claims_nothing_more_once_it_is_told_to_stop(threads: Host) -> None:
    scheduler = threads.scheduler()
    threads.process(lambda: scheduler.shutdown(timeout=0))
    scheduler.schedule_many([("p", Immediate(), None)] * COUNT)
    scheduler.run_pending()
    assert len(runs(threads)) == 1
