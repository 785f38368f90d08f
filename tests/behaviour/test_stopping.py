"""Timeout and kill: how a run that goes on is ended from outside."""

from datetime import timedelta

import pytest
from behaviour import _work
from behaviour._host import Host

from bgsched import RequestStatus, Retry, RunStatus, UnknownRunError

S = RunStatus
LIMIT = timedelta(seconds=5)


class TestTimeout:
    def test_the_record_ends_in_time_and_a_late_result_is_refused(self, threads: Host) -> None:
        threads.process(_work.visit, timeout=LIMIT)
        threads.start(workers=1)
        run, visitor = threads.at_the_door()
        threads.pass_time(5)
        run = threads.end_of(run)
        assert (run.status, run.result, run.reason, run.duration) == (
            S.TIMED_OUT,
            None,
            "it took longer than 0:00:05",
            LIMIT,
        )
        assert any("in knock" in text and "its time of 0:00:05 is over" in text for text in threads.log_of(run))
        second, other = threads.at_the_door()  # a thread took the place of the one that hangs
        visitor.let_on()
        visitor.leave()
        other.let_on()
        assert threads.end_of(second).status is S.SUCCESS
        assert threads.monitor.run(run.id).status is S.TIMED_OUT

    def test_a_process_that_looks_is_told(self, threads: Host) -> None:
        threads.process(_work.linger, timeout=LIMIT)
        threads.start(workers=1)
        run, visitor = threads.at_the_door()
        visitor.let_on()
        visitor.leave()
        threads.pass_time(5)
        assert threads.end_of(run).status is S.TIMED_OUT

    def test_hung_work_does_not_starve_the_rest(self, threads: Host) -> None:
        threads.process(_work.visit, "hang", timeout=LIMIT)
        threads.process(_work.say)
        threads.start(workers=2)
        for _ in range(2):
            threads.at_the_door("hang")
        waiting = threads.file()
        threads.pass_time(5)
        assert threads.end_of(waiting).status is S.SUCCESS
        assert threads.statuses("hang") == [S.TIMED_OUT] * 2

    def test_it_is_not_tried_again(self, host: Host) -> None:
        host.process(_work.linger, timeout=LIMIT, retry=Retry(attempts=3))
        host.start()
        run, visitor = host.at_the_door()
        visitor.let_on()
        host.pass_time(5)
        assert (host.end_of(run).status, host.monitor.run(run.id).attempt) == (S.TIMED_OUT, 1)

    def test_one_that_nobody_watches_is_late_all_the_same(self, threads: Host) -> None:
        threads.process(lambda: threads.clock.advance(6), timeout=LIMIT)
        scheduler = threads.scheduler()
        scheduler.run_now("p")
        scheduler.run_pending()
        assert threads.statuses() == [S.TIMED_OUT]


class TestKill:
    def test_any_scheduler_of_the_store_can_kill_within_a_second(self, host: Host) -> None:
        host.process(_work.linger)
        host.start()
        run, visitor = host.at_the_door()
        visitor.let_on()
        asked = host.scheduler().kill(run.id)
        assert (asked.is_active, asked.kill_asked_at) == (True, host.clock.now())
        host.pass_time(1)
        run = host.end_of(run)
        assert (run.status, run.kill_asked_at) == (S.KILLED, asked.kill_asked_at)
        assert run.reason == f"run {run.id} was asked to stop: a kill was asked for"

    def test_asked_and_killed_are_told_apart(self, threads: Host) -> None:
        ends = {
            "never looks": (S.SUCCESS, "whole"),
            "sees it and returns": (S.KILLED, "half"),
            "sees it and fails": (S.KILLED, None),
            "raises": (S.KILLED, None),
            "tracks": (S.KILLED, None),
            "fails of it": (S.KILLED, None),
            "fails of it among others": (S.KILLED, None),
            "fails of something else": (S.ERROR, None),
        }
        threads.process(_work.stop_somehow, retry=Retry(attempts=5))
        scheduler = threads.start()
        came_to = {}
        for how in ends:
            run, visitor = threads.at_the_door(how=how)
            scheduler.kill(run.id)
            visitor.let_on()
            run = threads.end_of(run)
            assert (run.attempt, run.kill_asked_at) == (1, threads.clock.now())
            came_to[how] = run.status, run.result
        assert came_to == ends

    def test_a_run_that_waits_for_its_retry_is_killed_at_once(self, host: Host) -> None:
        host.process(_work.fail, retry=Retry(delay=LIMIT))
        scheduler = host.start()
        request = host.file()
        run = host.tried(request, 1)
        assert host.scheduler().kill(run.id).status is S.KILLED
        assert scheduler.monitor.request(request.id).status is RequestStatus.COMPLETE

    def test_a_run_that_has_not_begun_never_does(self, threads: Host) -> None:
        begun: list[int] = []
        scheduler = threads.scheduler()
        threads.process(lambda: scheduler.kill(threads.monitor.runs(process="p")[0].id), "first", priority=1)
        threads.process(lambda: begun.append(1))
        threads.process(lambda: None, "short", priority=2)  # after which two are claimed at once
        for name in ("p", "first", "short"):
            scheduler.run_now(name)
        scheduler.run_pending()
        (run,) = threads.monitor.runs(process="p")
        assert (begun, run.status, run.started_at) == ([], S.KILLED, None)
        assert run.reason == "it was asked to stop: a kill was asked for before it began"

    def test_killing_what_has_ended_changes_nothing(self, host: Host) -> None:
        host.process(_work.say)
        scheduler = host.start()
        run = host.run()
        assert scheduler.kill(run.id).status is S.SUCCESS
        with pytest.raises(UnknownRunError):
            scheduler.kill(run.id + 1000)
