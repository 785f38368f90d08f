"""Async processes: many at once on one event loop thread, each with its own log, context, bound and end."""

import asyncio
import threading
from datetime import timedelta

import pytest
from behaviour import _work
from behaviour._host import PATIENCE, Host

from bgsched import Immediate, Overlap, RunStatus
from bgsched._async import _LoopThread

S = RunStatus
LIMIT = timedelta(seconds=5)


def test_many_go_on_at_once_beyond_the_workers_with_logs_apart(threads: Host) -> None:
    threads.process(_work.meet, overlap=Overlap.ALLOW)
    scheduler = threads.start(workers=1)
    requests = scheduler.schedule_many([("p", Immediate(), {"port": threads.door.port, "n": n}) for n in range(30)])
    visitors = [threads.door.next() for _ in range(30)]
    for visitor in visitors:
        visitor.let_on()
    for n, request in enumerate(requests):
        run = threads.end_of(request)
        assert (run.result, threads.log_of(run)) == (n, [f"before {n}", f"after {n}"])


def test_they_have_a_bound_of_their_own(threads: Host) -> None:
    threads.process(_work.meet)
    scheduler = threads.start(async_limit=2)
    requests = scheduler.schedule_many([("p", Immediate(), {"port": threads.door.port, "n": n}) for n in range(3)])
    visitors = [threads.door.next(), threads.door.next()]
    threads.pass_time(1)
    assert threads.door.nobody_waits()
    visitors[0].let_on()
    visitors.append(threads.door.next())
    for visitor in visitors[1:]:
        visitor.let_on()
    assert {threads.end_of(request).status for request in requests} == {S.SUCCESS}


@pytest.mark.parametrize("tidies_up", [False, True])
def test_a_kill_cancels(threads: Host, tidies_up: bool) -> None:  # noqa: FBT001
    async def work() -> str:
        started.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            if not tidies_up:
                raise
        return "tidied up"

    started = threading.Event()
    threads.process(work)
    threads.start()
    request = threads.file()
    assert started.wait(PATIENCE)
    threads.scheduler().kill(threads.monitor.runs()[0].id)
    threads.pass_time(1)
    run = threads.end_of(request)
    assert (run.status, run.result) == (S.KILLED, "tidied up" if tidies_up else None)


def test_a_timeout_cancels_and_says_where_it_stood(threads: Host) -> None:
    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            cancelled.set()

    started, cancelled = threading.Event(), threading.Event()
    threads.process(work, timeout=LIMIT)
    threads.start()
    request = threads.file()
    assert started.wait(PATIENCE)
    threads.pass_time(5)
    assert cancelled.wait(PATIENCE)
    run = threads.end_of(request)
    assert run.status is S.TIMED_OUT
    assert any("await asyncio.sleep(PATIENCE)" in text for text in threads.log_of(run))


def test_one_that_holds_up_the_loop_does_not_starve_the_rest(threads: Host) -> None:
    async def hang() -> None:
        _work.knock(threads.door.port, "hangs")

    async def work() -> str:
        return "ran"

    threads.process(hang, "hang", timeout=LIMIT)
    threads.process(work)
    threads.start()
    hung = threads.file("hang")
    visitor = threads.door.next()
    threads.pass_time(5)
    run = threads.end_of(hung)
    assert run.status is S.TIMED_OUT
    assert any("in knock" in text for text in threads.log_of(run))
    assert threads.run().result == "ran"
    visitor.let_on()


def test_a_loop_that_was_held_up_ends_with_its_last_run(threads: Host) -> None:
    async def hang() -> None:
        _work.knock(threads.door.port, "hangs")

    async def work() -> str:
        return "ran"

    before = set(threading.enumerate())
    threads.process(hang, "hang", timeout=LIMIT)
    threads.process(work)
    threads.start()
    for _ in range(2):
        hung = threads.file("hang")
        visitor = threads.door.next()
        (held_up,) = (
            thread for thread in threading.enumerate() if isinstance(thread, _LoopThread) and thread not in before
        )
        fellow = threads.file()
        threads.settle()
        threads.pass_time(5)
        assert threads.end_of(hung).status is S.TIMED_OUT
        visitor.let_on()
        held_up.join(PATIENCE)
        assert not held_up.is_alive()
        assert held_up.loop.is_closed()
        assert threads.end_of(fellow).result == "ran"
    assert threads.run().result == "ran"
