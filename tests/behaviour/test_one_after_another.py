"""Groups, and processes that follow another's success."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from behaviour import _work
from behaviour._host import PATIENCE, T0, Host

from bgsched import OnAbandon, Overlap, ProcessGroup, RequestStatus, Retry, Run, RunStatus

S = RunStatus
SECOND = timedelta(seconds=1)


@pytest.fixture
def office(host: Host) -> Host:
    """A host with a few processes that may be members."""
    host.process(_work.say, "say")
    host.process(_work.fail, "bad")
    host.process(_work.flaky, "flaky", retry=Retry(attempts=3, delay=10 * SECOND))
    host.process(_work.visit, "visit", overlap_scope="process")
    host.process(_work.linger, "linger")
    return host


def group(host: Host, *members: Any, **options: Any) -> None:
    host.processes.add(ProcessGroup("g", members, **options))


def members(host: Host, parent: Run) -> list[Run]:
    return host.monitor.runs(parent=parent.id)[::-1]


class TestGroup:
    def test_members_run_in_order_each_as_a_run_of_its_own_with_its_params(self, office: Host) -> None:
        group(office, "say", ("say", {"word": "again"}), "say")
        scheduler = office.start()
        request = scheduler.run_now("g", user="ann", channel="dashboard")
        parent = office.end_of(request)
        assert (parent.status, parent.progress and parent.progress.done) == (S.SUCCESS, 3)
        assert [(run.process, run.status, run.result) for run in members(office, parent)] == [
            ("say", S.SUCCESS, ""),
            ("say", S.SUCCESS, "again"),
            ("say", S.SUCCESS, ""),
        ]
        assert {(run.user, run.channel, run.request_id) for run in members(office, parent)} == {
            ("ann", "dashboard", request.id)
        }
        assert office.log_of(parent)[0] == "member 1 of 3: say"
        assert office.monitor.request(request.id).status is RequestStatus.COMPLETE

    @pytest.mark.parametrize(("stops", "count"), [(True, 2), (False, 3)])
    def test_it_stops_on_an_error_or_goes_on(self, office: Host, stops: bool, count: int) -> None:  # noqa: FBT001
        group(office, "say", "bad", "say", stop_on_error=stops)
        office.start()
        parent = office.run("g")
        assert parent.error is not None
        assert parent.status is S.ERROR
        assert "member 2, 'bad'" in parent.error.message
        assert "ValueError: no ledger" in parent.error.message
        assert ("1 more did not run" in parent.error.message) == stops
        assert len(members(office, parent)) == count

    def test_a_restart_goes_on_at_the_right_member(self, office: Host) -> None:
        group(office, "say", "flaky", "say")
        first = office.start()
        request = office.file("g")
        for attempt in (1, 2):
            office.tried(request, attempt)
            first.shutdown()
            office.clock.advance(20)
            first = office.start()
        parent = office.end_of(request)
        assert (parent.status, parent.attempt) == (S.SUCCESS, 3)
        assert [(run.process, run.status, run.attempt) for run in members(office, parent)] == [
            ("say", S.SUCCESS, 1),
            ("flaky", S.SUCCESS, 3),
            ("say", S.SUCCESS, 1),
        ]

    @pytest.mark.parametrize("on_abandon", OnAbandon)
    def test_another_scheduler_goes_on_where_one_died(self, threads: Host, on_abandon: OnAbandon) -> None:
        threads.process(_work.say, "say")
        threads.process(_work.visit, "visit", on_abandon=on_abandon)
        group(threads, "say", ("visit", {"port": threads.door.port}), "say")
        dead = threads.scheduler()
        request = threads.file("g")
        life = threading.Thread(target=dead.run_until_idle)
        life.start()
        visitor = threads.door.next()
        threads.start()
        threads.die(dead)
        if on_abandon is OnAbandon.RERUN:
            threads.door.next().let_on()
        parent = threads.end_of(request)
        visitor.let_on()  # too late
        life.join(PATIENCE)
        assert parent.attempt == 2
        assert [(run.process, run.status) for run in members(threads, parent)] == (
            [("say", S.SUCCESS), ("visit", S.ABANDONED)]
            if on_abandon is OnAbandon.RECORD
            else [("say", S.SUCCESS), ("visit", S.SUCCESS), ("say", S.SUCCESS)]
        )
        assert parent.status is (S.ERROR if on_abandon is OnAbandon.RECORD else S.SUCCESS)

    def test_a_scheduler_that_could_not_show_itself_in_time_goes_on(self, office: Host) -> None:
        group(office, ("visit", {"port": office.door.port}), "say")
        office.start()
        request = office.file("g")
        visitor = office.door.next()
        office.clock.advance(13)  # as when the store was away; nobody has taken it for dead
        office.pass_time(1)
        visitor.let_on()
        parent = office.end_of(request)
        assert (parent.status, [run.status for run in members(office, parent)]) == (S.SUCCESS, [S.SUCCESS, S.SUCCESS])

    def test_a_kill_stops_the_member_and_the_rest(self, office: Host) -> None:
        group(office, "say", ("linger", {"port": office.door.port}), "say")
        office.start()
        request = office.file("g")
        visitor = office.door.next()
        visitor.let_on()
        visitor.leave()
        parent = office.monitor.runs(process="g")[0]
        office.scheduler().kill(parent.id)
        office.pass_time(2)
        parent = office.end_of(request)
        assert (parent.status, parent.reason) == (S.KILLED, "killed after 2 of 3 members")
        assert [run.status for run in members(office, parent)] == [S.SUCCESS, S.KILLED]

    def test_it_has_a_timeout(self, office: Host) -> None:
        group(office, ("linger", {"port": office.door.port}), "say", timeout=5 * SECOND)
        office.start()
        request = office.file("g")
        visitor = office.door.next()
        visitor.let_on()
        visitor.leave()
        office.pass_time(7)
        parent = office.end_of(request)
        assert (parent.status, parent.finished_at) == (S.TIMED_OUT, T0 + 5 * SECOND)
        assert [office.end_of(run).status for run in members(office, parent)] == [S.KILLED]

    def test_overlap_is_that_of_each_member(self, office: Host) -> None:
        group(office, "say", ("visit", {"port": office.door.port}), "say")
        office.start()
        first, visitor = office.at_the_door("visit")
        parent = office.run("g")
        visitor.let_on()
        assert (parent.status, parent.error and f"run {first.id} had not ended" in parent.error.message) == (
            S.ERROR,
            True,
        )
        assert [run.status for run in members(office, parent)] == [S.SUCCESS, S.SKIPPED]

    def test_a_member_may_wait_for_its_turn(self, host: Host) -> None:
        host.process(_work.visit, "visit", overlap=Overlap.QUEUE, overlap_scope="process")
        group(host, ("visit", {"port": host.door.port, "word": "member"}))
        host.start()
        _, visitor = host.at_the_door("visit", word="alone")
        request = host.file("g")
        visitor.let_on()
        member = host.door.next()
        assert member.word == "member"
        member.let_on()
        assert host.end_of(request).status is S.SUCCESS

    def test_a_group_may_be_a_member(self, office: Host) -> None:
        office.processes.add(ProcessGroup("inner", ["say", "say"]))
        group(office, "inner", "say")
        office.start()
        parent = office.run("g")
        assert [(run.process, run.status) for run in members(office, parent)] == [
            ("inner", S.SUCCESS),
            ("say", S.SUCCESS),
        ]
        assert len(office.monitor.runs(process="say")) == 3


class TestFollowing:
    def test_a_process_follows_each_success_of_another_and_no_failure(self, host: Host) -> None:
        host.process(_work.flaky, "export", retry=Retry(attempts=2, delay=timedelta(0)))
        host.process(_work.about, "mail", after="export")
        host.process(_work.say, "archive", after="mail")
        scheduler = host.start()
        failed = host.end_of(scheduler.run_now("export", params={"until": 3}))
        leader = host.end_of(scheduler.run_now("export", params={"until": 2}, user="ann"))
        mail = host.end_of(host.until(lambda: next(iter(host.monitor.requests(process="mail")), None)))
        host.end_of(host.until(lambda: next(iter(host.monitor.requests(process="archive")), None)))
        assert (failed.status, leader.status) == (S.ERROR, S.SUCCESS)
        assert (mail.result["user"], mail.result["channel"]) == ("ann", "after")
        assert host.monitor.request(mail.request_id).reason == f"after run {leader.id} of 'export'"
        assert len(host.monitor.runs(process="mail")) == len(host.monitor.runs(process="archive")) == 1

    def test_a_group_is_followed_when_all_of_it_succeeded(self, office: Host) -> None:
        group(office, "say", "say")
        office.process(_work.say, "mail", after=("g", "no-such-process"))
        office.start()
        office.run("g")
        request = office.until(lambda: next(iter(office.monitor.requests(process="mail")), None))
        assert office.end_of(request).status is S.SUCCESS

    def test_a_group_that_follows_and_lacks_a_member_says_so_in_its_run(self, office: Host) -> None:
        group(office, "sya", after="say")
        office.start()
        assert office.run("say").status is S.SUCCESS
        parent = office.end_of(office.until(lambda: next(iter(office.monitor.requests(process="g")), None)))
        assert parent.error is not None
        assert "no process 'sya'; did you mean 'say'?" in parent.error.message
