"""Groups, and processes that follow others: in order, each member with a run of its own, whatever restarts."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bgsched import (
    EveryMinutes,
    Immediate,
    MemoryStore,
    OnAbandon,
    Overlap,
    ParamsError,
    ProcessGroup,
    ProcessNameError,
    ProcessRegistry,
    RequestStatus,
    Retry,
    Run,
    RunStatus,
    Schedule,
    Scheduler,
    SchedulerStateError,
    Store,
    UnknownProcessError,
    current_run,
)
from bgsched.testing import ManualClock

T0 = datetime(2026, 1, 1, tzinfo=UTC)
S = RunStatus


@pytest.fixture
def seen(scheduler: Scheduler) -> list[Any]:
    """Processes a, b, c that say their names, and `bad`, which fails; what they said."""
    said: list[Any] = []
    for name in "abc":
        scheduler.process(name)(lambda n=None, name=name: said.append((name, n) if n else name))

    def bad() -> None:
        said.append("bad")
        raise ValueError("no ledger")

    scheduler.process("bad")(bad)
    return said


def group_run(scheduler: Scheduler, process: str = "g") -> Run:
    return scheduler.monitor.runs(process=process)[0]


def members(scheduler: Scheduler, parent: Run | None = None) -> list[Run]:
    return scheduler.monitor.runs(parent=(parent or group_run(scheduler)).id)[::-1]


class TestGroup:
    def test_members_run_in_order_each_with_a_run_of_its_own(self, scheduler: Scheduler, seen: list[Any]) -> None:
        scheduler.add(ProcessGroup("g", ["a", ("b", {"n": 7}), scheduler.processes.get("c")]))
        request = scheduler.schedule("g", Immediate(), user="ann", channel="dashboard")
        assert scheduler.run_until_idle() is None
        assert seen == ["a", ("b", 7), "c"]
        parent = group_run(scheduler)
        assert (parent.status, parent.duration) == (S.SUCCESS, timedelta(0))
        assert [(run.process, run.status, run.parent_id) for run in members(scheduler)] == [
            (name, S.SUCCESS, parent.id) for name in "abc"
        ]
        assert {(run.user, run.channel, run.request_id) for run in members(scheduler)} == {
            ("ann", "dashboard", request.id)
        }
        assert scheduler.monitor.request(request.id).status is RequestStatus.COMPLETE
        assert scheduler.monitor.log(parent.id)[0].text == "member 1 of 3: a"
        assert parent.progress is not None
        assert (parent.progress.done, parent.progress.total) == (3, 3)

    def test_a_failed_member_stops_the_group(self, scheduler: Scheduler, seen: list[Any]) -> None:
        scheduler.add(ProcessGroup("g", ["a", "bad", "c"]))
        scheduler.run_now("g")
        scheduler.run_until_idle()
        assert seen == ["a", "bad"]
        error = group_run(scheduler).error
        assert error is not None
        assert "member 2, 'bad'" in error.message
        assert "ValueError: no ledger" in error.message
        assert "1 more did not run" in error.message

    def test_a_group_may_go_on_after_an_error(self, scheduler: Scheduler, seen: list[Any]) -> None:
        scheduler.add(ProcessGroup("g", ["a", "bad", "c"], stop_on_error=False))
        scheduler.run_now("g")
        scheduler.run_until_idle()
        assert seen == ["a", "bad", "c"]
        assert group_run(scheduler).status is S.ERROR

    def test_a_restart_goes_on_at_the_right_member(self, store: Store, clock: ManualClock) -> None:
        said: list[str] = []
        hosts: list[Scheduler] = []

        def host() -> Scheduler:
            registry = ProcessRegistry()
            registry.process("a")(lambda: said.append("a"))
            registry.process("b", retry=Retry(attempts=2))(second)
            registry.process("c")(lambda: said.append("c"))
            registry.add(ProcessGroup("g", ["a", "b", "c"]))
            hosts.append(Scheduler(store, processes=registry, clock=clock))
            return hosts[-1]

        def second() -> None:
            said.append("b")
            if current_run().attempt == 1:
                raise OSError("not yet")

        first = host()
        first.run_now("g")
        first.run_until_idle()
        first.shutdown()
        assert said == ["a", "b"]
        assert group_run(first).status is S.WAITING
        clock.advance(20)
        host().run_until_idle()
        assert said == ["a", "b", "b", "c"]
        parent = group_run(hosts[-1])
        assert (parent.status, parent.attempt) == (S.SUCCESS, 2)
        assert len(members(hosts[-1], parent)) == 3
        hosts[-1].shutdown()

    @pytest.mark.parametrize(
        ("members_now", "said"),
        [
            (["a", "c"], "member 2 was 'fails' (run N), now it is 'c'"),
            (["fails", "a"], "member 1 was 'a' (run N), now it is 'fails'"),
            (["a"], "member 2 was 'fails' (run N), now there is none"),
        ],
    )
    def test_a_group_whose_members_have_changed_since_it_began_is_an_error(
        self, store: Store, clock: ManualClock, members_now: list[str], said: str
    ) -> None:
        first, second = (_between(store, clock, members) for members in (["a", "fails"], members_now))
        first.run_now("g")
        first.run_until_idle()
        first.shutdown()
        clock.advance(timedelta(hours=1))
        second.run_until_idle()
        error = group_run(second).error
        assert error is not None
        assert (group_run(second).status, error.type) == (S.ERROR, "GroupError")
        message = re.sub(r"run \d+", "run N", error.message)
        assert message == f"its members have changed since it began: {said}; no more are run"
        assert [run.process for run in members(second)] == ["a", "fails"]
        second.shutdown()

    def test_what_is_added_behind_the_members_that_had_their_turn_is_run(
        self, store: Store, clock: ManualClock
    ) -> None:
        first, second = (_between(store, clock, members) for members in (["a", "fails"], ["a", "fails", "c"]))
        first.run_now("g")
        first.run_until_idle()
        first.shutdown()
        clock.advance(timedelta(hours=1))
        second.run_until_idle()
        assert group_run(second).status is S.SUCCESS
        assert [run.process for run in members(second)] == ["a", "fails", "c"]
        second.shutdown()

    def test_its_time_goes_on_when_another_scheduler_goes_on_with_it(self, store: Store, clock: ManualClock) -> None:
        for hours, end in ((1, S.SUCCESS), (2, S.TIMED_OUT)):
            first, second = (_between(store, clock, ["a", "fails"], timeout=timedelta(minutes=90)) for _ in range(2))
            began = clock.now()
            first.run_now("g")
            first.run_until_idle()
            first.shutdown()
            clock.advance(timedelta(hours=hours))
            second.run_until_idle()
            second.run_until_idle()
            run = group_run(second)
            assert (run.status, run.started_at, run.lateness) == (end, began, timedelta(0))
            assert run.duration == timedelta(hours=hours)
            second.shutdown()

    def test_a_group_survives_the_death_of_its_scheduler(self, clock: ManualClock) -> None:
        store, said = MemoryStore(), list[str]()
        registry = ProcessRegistry()

        def fail() -> None:
            said.append("a")
            raise OSError

        registry.process("a", retry=Retry(attempts=2, delay=timedelta(hours=1)))(fail)
        registry.process("b")(lambda: said.append("b"))
        registry.add(ProcessGroup("g", ["a", "b"], stop_on_error=False))
        dead = Scheduler(store, processes=registry, clock=clock)
        dead.run_now("g")
        dead.run_until_idle()  # and is never heard of again
        clock.advance(timedelta(hours=1))
        alive = Scheduler(store, processes=registry, clock=clock)
        _outlive(alive, clock)
        assert said == ["a", "a", "b"]
        assert group_run(alive).status is S.ERROR
        alive.shutdown()

    def test_an_abandoned_member_is_an_error_unless_it_may_run_again(self, clock: ManualClock) -> None:
        store = MemoryStore()
        for on_abandon, expected in ((OnAbandon.RECORD, S.ERROR), (OnAbandon.RERUN, S.SUCCESS)):
            registry = ProcessRegistry()
            registry.process("a", on_abandon=on_abandon)(lambda: None)
            registry.add(ProcessGroup("g", ["a"]))
            dead = Scheduler(store, processes=registry, clock=clock)
            dead.run_now("g")
            _claim_only(dead)
            clock.advance(timedelta(minutes=1))
            alive = Scheduler(store, processes=registry, clock=clock)
            _outlive(alive, clock)
            assert group_run(alive).status is expected
            alive.shutdown()

    def test_a_kill_stops_the_rest(self, scheduler: Scheduler, seen: list[Any], clock: ManualClock) -> None:
        def stop_the_group() -> None:
            run = current_run()
            assert run.parent_id is not None
            scheduler.kill(run.parent_id)

        scheduler.process("killer")(stop_the_group)
        scheduler.add(ProcessGroup("g", ["a", "killer", "c"]))
        scheduler.run_now("g")
        scheduler.run_until_idle()
        clock.advance(1)
        scheduler.run_until_idle()
        assert seen == ["a"]
        parent = group_run(scheduler)
        assert (parent.status, parent.reason) == (S.KILLED, "killed after 2 of 3 members")

    def test_a_kill_by_others_between_two_members_stops_the_group_at_its_next_step(
        self, scheduler: Scheduler, seen: list[Any], clock: ManualClock
    ) -> None:
        def kill_the_group() -> None:
            parent = current_run().parent_id
            assert parent is not None
            scheduler.store.kill(parent, clock.now())  # as another scheduler does it: this one hears of it later

        scheduler.process("kills")(kill_the_group)
        scheduler.add(ProcessGroup("g", ["kills", "a"]))
        scheduler.schedule("g", Immediate())
        assert scheduler.run_until_idle() is None
        assert (group_run(scheduler).status, seen) == (S.KILLED, [])
        assert [line.text for line in scheduler.monitor.log(group_run(scheduler).id)] == ["member 1 of 2: kills"]

    def test_a_group_that_waits_for_its_member_writes_nothing(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("later", retry=Retry(attempts=2, delay=timedelta(hours=1)))(lambda: 1 / 0)
        scheduler.add(ProcessGroup("g", ["later"]))
        scheduler.schedule("g", Immediate())
        scheduler.run_pending()
        scheduler.run_pending()
        clock.advance(1)
        scheduler.run_pending()
        before = scheduler.store.changes()
        clock.advance(0.3)
        scheduler.run_pending()
        assert scheduler.store.changes() == before

    def test_a_kill_reaches_the_member_that_waits(self, scheduler: Scheduler, clock: ManualClock) -> None:
        def fail() -> None:
            raise OSError

        scheduler.process("p", retry=Retry(attempts=2, delay=timedelta(hours=1)))(fail)
        scheduler.add(ProcessGroup("g", ["p"]))
        scheduler.run_now("g")
        scheduler.run_until_idle()
        scheduler.kill(group_run(scheduler).id)
        clock.advance(1)
        scheduler.run_until_idle()
        assert [run.status for run in members(scheduler)] == [S.KILLED]
        assert group_run(scheduler).status is S.KILLED

    def test_a_group_has_a_timeout(self, scheduler: Scheduler, clock: ManualClock) -> None:
        def fail() -> None:
            raise OSError

        scheduler.process("p", retry=Retry(attempts=2, delay=timedelta(hours=1)))(fail)
        scheduler.add(ProcessGroup("g", ["p", "p"], timeout=timedelta(minutes=10)))
        scheduler.run_now("g")
        scheduler.run_until_idle()
        clock.advance(timedelta(minutes=10))
        scheduler.run_until_idle()
        assert group_run(scheduler).status is S.TIMED_OUT
        said = [line.text for line in scheduler.monitor.log(group_run(scheduler).id)]
        assert said == ["member 1 of 2: p", "its time of 0:10:00 is over; it stood here:\nmember 1 of 2: p"]
        assert [run.status for run in members(scheduler)] == [S.KILLED]

    def test_overlap_is_that_of_each_member(self, scheduler: Scheduler, clock: ManualClock) -> None:
        def fail() -> None:
            raise OSError

        scheduler.process("p", overlap_scope="process", retry=Retry(attempts=2, delay=timedelta(hours=1)))(fail)
        scheduler.process("q", overlap=Overlap.ALLOW)(lambda: None)
        scheduler.run_now("p")
        scheduler.run_until_idle()
        scheduler.add(ProcessGroup("g", ["q", "p"]))
        scheduler.run_now("g")
        scheduler.run_until_idle()
        assert [run.status for run in members(scheduler)] == [S.SUCCESS, S.SKIPPED]
        assert "had not ended" in (members(scheduler)[1].reason or "")
        assert group_run(scheduler).status is S.ERROR

    def test_a_group_may_be_a_member(self, scheduler: Scheduler, seen: list[Any]) -> None:
        scheduler.add(ProcessGroup("inner", ["a", "b"]))
        scheduler.add(ProcessGroup("g", ["inner", "c"]))
        scheduler.run_now("g")
        scheduler.run_until_idle()
        assert seen == ["a", "b", "c"]
        assert [run.process for run in members(scheduler)] == ["inner", "c"]

    def test_a_group_is_scheduled_like_any_process(
        self, scheduler: Scheduler, seen: list[Any], clock: ManualClock
    ) -> None:
        scheduler.add(ProcessGroup("g", ["a"], timing=Schedule(EveryMinutes(5))))
        for _ in range(3):
            scheduler.run_until_idle()
            clock.advance(timedelta(minutes=5))
        assert seen == ["a"] * 3

    def test_unscheduling_lets_a_group_that_runs_go_on(self, scheduler: Scheduler, seen: list[Any]) -> None:
        scheduler.process("stop")(lambda: scheduler.unschedule("mine"))
        scheduler.add(ProcessGroup("g", ["stop", "a"]))
        scheduler.schedule("g", Schedule(EveryMinutes(5)), id="mine")
        scheduler.run_until_idle()
        assert seen == ["a"]

    def test_members_are_checked_when_the_group_is_scheduled(self, scheduler: Scheduler, seen: list[Any]) -> None:
        scheduler.add(ProcessGroup("g", ["a", "aa"]))
        with pytest.raises(UnknownProcessError, match="no process 'aa'"):
            scheduler.run_now("g")
        scheduler.add(ProcessGroup("h", [("a", {"m": 1})]))
        with pytest.raises(ParamsError, match="params of process 'h': member 'a': no param 'm'"):
            scheduler.run_now("h")
        with pytest.raises(ParamsError, match="a group takes no params"):
            scheduler.run_now("h", params={"x": 1})
        scheduler.add(ProcessGroup("x", ["y"]))
        scheduler.add(ProcessGroup("y", ["x"]))
        with pytest.raises(ProcessNameError, match="contains itself: x > y > x"):
            scheduler.run_now("x")

    def test_a_member_that_left_the_code_ends_the_group_in_words(self, store: Store, clock: ManualClock) -> None:
        first = Scheduler(store, clock=clock)
        first.process("old")(lambda: None)
        first.add(ProcessGroup("g", ["old"]))
        first.run_now("g")
        second = Scheduler(store, clock=clock)
        second.add(ProcessGroup("g", ["old"]))
        second.run_until_idle()
        error = group_run(second).error
        assert error is not None
        assert "member 1, 'old', cannot run: no process 'old'" in error.message
        second.shutdown()

    def test_whatever_the_param_of_a_member_raises_ends_its_group_alone(
        self, scheduler: Scheduler, seen: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler.add(ProcessGroup("g", ["a", "b"]))
        scheduler.schedule("g", Immediate(), id="g")
        member = scheduler.processes.get("a")

        def broken(_: object) -> dict[str, Any]:
            raise ZeroDivisionError("in a default")

        monkeypatch.setattr(member, "bind", broken)
        scheduler.schedule("c", Immediate())
        scheduler.run_until_idle()
        assert group_run(scheduler).status is S.ERROR
        error = group_run(scheduler).error
        assert error is not None
        assert error.type == "ZeroDivisionError"
        assert seen == ["c"]

    @pytest.mark.parametrize("wrong", [[], "a", [1], [("a", 1)], [("a", {}, 3)], {"a": {}}, None, 5])
    def test_what_is_no_member_is_refused(self, wrong: Any) -> None:
        with pytest.raises(ProcessNameError, match="group 'g'"):
            ProcessGroup("g", wrong)

    def test_what_is_not_for_groups_is_refused(self) -> None:
        with pytest.raises(TypeError, match="a group takes no 'retry'; give it to its members"):
            ProcessGroup("g", ["a"], retry=Retry(attempts=2))
        with pytest.raises(ProcessNameError, match="a group needs a name"):
            ProcessGroup("", ["a"])
        with pytest.raises(SchedulerStateError, match="belongs to no scheduler yet"):
            ProcessGroup("g", ["a"])()

    def test_calling_a_group_calls_its_members_here(self, scheduler: Scheduler, seen: list[Any]) -> None:
        group = scheduler.add(ProcessGroup("g", ["a", ("b", {"n": 1})]))
        group()
        assert seen == ["a", ("b", 1)]
        assert scheduler.monitor.runs() == []
        group.schedule(Immediate())
        scheduler.run_until_idle()
        assert len(seen) == 4


def _between(store: Store, clock: ManualClock, members: list[str], **options: Any) -> Scheduler:
    """Return a scheduler with the processes a, c and `fails`, which succeeds an hour later, and a group of some."""

    def fails() -> None:
        if current_run().attempt == 1:
            raise OSError

    scheduler = Scheduler(store, clock=clock)
    scheduler.process("fails", retry=Retry(attempts=2, delay=timedelta(hours=1)))(fails)
    for name in "ac":
        scheduler.process(name)(lambda: None)
    scheduler.add(ProcessGroup("g", members, **options))
    return scheduler


def _outlive(scheduler: Scheduler, clock: ManualClock) -> None:
    """Let time pass until another scheduler, which is not heard of, is taken for dead."""
    for _ in range(6):
        scheduler.run_until_idle()
        clock.advance(4)


def _claim_only(scheduler: Scheduler) -> None:
    """Let a scheduler claim a group and its first member, and die before the member is called."""
    scheduler._life.inline._execute_all = lambda engine: None  # type: ignore[method-assign]
    scheduler.run_pending()
    scheduler.run_pending()
    scheduler.run_pending()


class TestFollowing:
    def test_a_process_follows_each_success_of_another(self, scheduler: Scheduler) -> None:
        seen: list[Any] = []
        outcomes = iter([None, OSError("no"), None])

        @scheduler.process
        def export() -> None:
            outcome = next(outcomes)
            if outcome:
                raise outcome

        @scheduler.process(after=export)
        def mail() -> None:
            seen.append((current_run().user, current_run().channel))

        for _ in range(3):
            scheduler.run_now("export", user="ann")
            scheduler.run_until_idle()
        assert seen == [("ann", "after")] * 2
        (last, *_) = scheduler.monitor.requests(process="mail")
        assert "of 'export'" in (last.reason or "")

    def test_a_chain_follows_through_and_a_group_can_be_followed(self, scheduler: Scheduler, seen: list[Any]) -> None:
        scheduler.add(ProcessGroup("g", ["a", "b"]))
        scheduler.process("d", after=("g", "x"))(lambda: seen.append("d"))
        scheduler.process("e", after="d")(lambda: seen.append("e"))
        scheduler.run_now("g")
        scheduler.run_until_idle()
        assert seen == ["a", "b", "d", "e"]

    def test_what_would_run_after_itself_is_refused(self, scheduler: Scheduler, seen: list[Any]) -> None:
        """Each success would file the next run, until somebody finds the switch."""
        with pytest.raises(ProcessNameError, match="process 'p' would run after itself, for ever: p > p"):
            scheduler.process("p", after="p")(lambda: None)
        scheduler.process("d", after="b")(lambda: None)
        scheduler.process("e", after=("c", "d"))(lambda: None)
        scheduler.add(ProcessGroup("g", ["b"], after="a"))
        with pytest.raises(ProcessNameError, match="'a' would run after itself, for ever: a > g > b > d > e > a"):
            scheduler.process("a", after="e")(scheduler.processes.get("a").function)
        with pytest.raises(ProcessNameError, match="process 'h' would run after itself, for ever: h > d > h"):
            scheduler.add(ProcessGroup("h", ["c", "d"], after="d"))
        assert "h" not in scheduler.processes
        scheduler.add(ProcessGroup("i", ["a", "d"]))  # what follows a group may be in it
        scheduler.process("f", after="i")(lambda: seen.append("f"))
        scheduler.add(ProcessGroup("k", ["i", "f"]))
        scheduler.run_now("k")
        scheduler.run_until_idle()
        assert sorted(seen) == ["a", "b", "f", "f"]

    def test_a_follower_needs_no_params(self, scheduler: Scheduler) -> None:
        with pytest.raises(ProcessNameError, match=r"runs after 'a', without params.*give it a default"):
            scheduler.process("p", after="a")(lambda n: n)

    def test_a_leader_that_is_not_there_is_said(self, scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
        scheduler.process("export")(lambda: None)
        scheduler.process("p", after="exprt")(lambda: None)
        scheduler.run_pending()
        assert "did you mean 'export'" in caplog.text
