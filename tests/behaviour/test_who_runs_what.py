"""Who asked, who runs, how many at once, and in which order; hooks of the host."""

import contextlib
import threading
from collections.abc import Iterator

import pytest
from behaviour import _work
from behaviour._host import PATIENCE, Host

from bgsched import (
    CurrentRun,
    EveryMinutes,
    Immediate,
    RunFinished,
    RunStarted,
    RunStatus,
    Schedule,
    SchedulerStateError,
)

S = RunStatus


class TestUserAndChannel:
    def test_both_are_kept_on_request_and_run(self, host: Host) -> None:
        host.processes.process("p", timing=Schedule(EveryMinutes(5)))(_work.about)
        scheduler = host.start()
        mine = scheduler.schedule("p", Immediate(), user="ann", channel="cli")
        assert (mine.user, mine.channel) == ("ann", "cli")
        run = host.end_of(mine)
        assert (run.user, run.channel, run.result["user"], run.result["channel"]) == ("ann", "cli", "ann", "cli")
        scheduler.run_now(mine.id, user="bob", channel="dashboard")
        host.until(lambda: host.statuses().count(S.SUCCESS) == 3)
        runs = host.monitor.runs(request=mine.id)
        assert [(one.user, one.channel) for one in runs] == [("bob", "dashboard"), ("ann", "cli")]
        assert [(one.user, one.channel) for one in host.monitor.runs(request="p")] == [(None, "declared")]
        assert scheduler.reschedule(mine.id, Schedule(EveryMinutes(5)), user="eve", channel="erp").channel == "erp"
        assert host.monitor.request(mine.id).user == "eve"


class TestNoExecute:
    def test_a_scheduler_may_only_file(self, host: Host) -> None:
        host.process(_work.say)
        web = host.start(execute=False)
        request = web.run_now("p")
        host.pass_time(1)
        assert (web.paused, web.monitor.runs()) == (True, [])
        with pytest.raises(SchedulerStateError, match="execute=False"):
            web.resume()
        host.start()
        assert host.end_of(request).status is S.SUCCESS

    def test_pause_and_resume(self, host: Host) -> None:
        host.process(_work.say)
        host.process(_work.visit, "visit")
        scheduler = host.start()
        going, visitor = host.at_the_door("visit")
        scheduler.pause()
        request = scheduler.run_now("p")
        visitor.let_on()
        assert host.end_of(going).status is S.SUCCESS  # what runs goes on
        host.pass_time(1)
        assert host.monitor.runs(request=request.id) == []
        assert host.monitor.schedulers()[0].paused
        scheduler.resume()
        assert host.end_of(request).status is S.SUCCESS


class TestHowManyAtOnce:
    def test_workers_bound_what_runs_at_once(self, host: Host) -> None:
        host.process(_work.visit)
        host.start(workers=2)
        requests = [host.file(port=host.door.port) for _ in range(3)]
        visitors = [host.door.next(), host.door.next()]
        host.pass_time(1)
        assert host.door.nobody_waits()
        visitors[0].let_on()
        visitors.append(host.door.next())
        for visitor in visitors[1:]:
            visitor.let_on()
        assert {host.end_of(request).status for request in requests} == {S.SUCCESS}

    def test_a_limit_bounds_one_process_and_leaves_room_for_others(self, host: Host) -> None:
        host.process(_work.visit, "few", limit=1)
        host.process(_work.visit, "many")
        host.start(workers=3)
        few = [host.file("few", port=host.door.port, word="few") for _ in range(2)]
        first = host.door.next()
        many = [host.file("many", port=host.door.port, word="many") for _ in range(2)]
        others = [host.door.next(), host.door.next()]
        assert [visitor.word for visitor in (first, *others)] == ["few", "many", "many"]
        others[0].let_on()
        host.until(lambda: S.SUCCESS in host.statuses("many"))
        host.pass_time(1)
        assert host.door.nobody_waits()
        first.let_on()
        second = host.door.next()
        assert second.word == "few"
        for visitor in (second, others[1]):
            visitor.let_on()
        assert {host.end_of(request).status for request in (*few, *many)} == {S.SUCCESS}

    def test_the_highest_priority_goes_first(self, host: Host) -> None:
        for name, priority in (("low", -1), ("usual", 0), ("high", 5)):
            host.process(_work.visit, name, priority=priority)
        files = host.scheduler()
        requests = [host.file(name, by=files, port=host.door.port, word=name) for name in ("low", "usual", "high")]
        host.start(workers=1)
        for name in ("high", "usual", "low"):
            visitor = host.door.next()
            assert visitor.word == name
            visitor.let_on()
        assert {host.end_of(request).status for request in requests} == {S.SUCCESS}


class TestHooks:
    def test_a_listener_that_blocks_or_fails_delays_and_breaks_nothing(
        self, host: Host, caplog: pytest.LogCaptureFixture
    ) -> None:
        release, heard = threading.Event(), threading.Semaphore(0)

        def fail(event: RunStarted) -> None:
            raise SystemExit(event)

        host.process(_work.visit, limit=1)  # the next run begins when the one before is stored
        scheduler = host.scheduler()
        scheduler.on(RunStarted, fail)
        scheduler.on(RunStarted, lambda _: release.wait(PATIENCE))
        scheduler.on(RunFinished, lambda _: heard.release())
        scheduler.start()
        for number in range(3):
            _, visitor = host.at_the_door()
            assert host.statuses()[:number] == [S.SUCCESS] * number
            visitor.let_on()
        assert not heard.acquire(blocking=False)
        release.set()
        for _ in range(3):
            assert heard.acquire(timeout=PATIENCE)
        assert host.statuses() == [S.SUCCESS] * 3
        assert "a listener failed on RunStarted" in caplog.text

    def test_an_around_hook_that_is_slow_delays_only_its_run(self, threads: Host) -> None:
        @contextlib.contextmanager
        def around(run: CurrentRun) -> Iterator[None]:
            if run.process == "slow":
                _work.knock(threads.door.port, "around")
            yield

        threads.process(_work.say, "slow")
        threads.process(_work.say)
        threads.start(around=around)
        slow = threads.file("slow")
        visitor = threads.door.next()
        assert threads.run().status is S.SUCCESS
        visitor.let_on()
        assert threads.end_of(slow).status is S.SUCCESS
