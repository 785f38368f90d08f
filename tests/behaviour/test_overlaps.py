"""Overlap: what becomes of a run while another goes on, whichever scheduler of the store claims it."""

from typing import Any

import pytest
from behaviour import _work
from behaviour._host import Host

from bgsched import Overlap, RunStatus

S = RunStatus


class TestOneIsInTheWay:
    """The first runs in one scheduler and waits at the door; another scheduler claims the second."""

    @pytest.mark.parametrize(
        ("scope", "company", "meets"),
        [
            ("request", "a", False),
            ("process", "b", True),
            (("company",), "a", True),
            (("company",), "b", False),
        ],
    )
    def test_which_runs_know_each_other(self, host: Host, scope: Any, company: str, meets: bool) -> None:  # noqa: FBT001
        host.process(_work.visit, overlap_scope=scope)
        host.start()
        first, visitor = host.at_the_door(company="a")
        other = host.scheduler()
        if meets:
            second = host.file(by=other, company=company, port=host.door.port)
            other.run_pending()
        else:
            other.start()
            second_run, second_visitor = host.at_the_door(by=other, company=company)
            second = host.monitor.request(second_run.request_id)
            second_visitor.let_on()
        visitor.let_on()
        assert host.end_of(first).status is S.SUCCESS
        run = host.end_of(second)
        assert run.status is (S.SKIPPED if meets else S.SUCCESS)
        assert run.reason == (f"run {first.id} had not ended" if meets else None)

    def test_one_waits_and_further_ones_are_skipped(self, host: Host) -> None:
        host.process(_work.visit, overlap=Overlap.QUEUE, overlap_scope="process")
        host.start()
        first, visitor = host.at_the_door(word="first")
        other = host.scheduler()
        second = host.file(by=other, word="second", port=host.door.port)
        other.run_pending()
        host.settle()  # the first scheduler may have been quicker
        third = host.file(by=other, word="third", port=host.door.port)
        other.run_pending()
        host.settle()
        assert host.door.nobody_waits()
        (waits,) = host.monitor.runs(request=second.id)
        assert (waits.status, waits.reason) == (S.WAITING, f"waits for run {first.id}")
        (skipped,) = host.monitor.runs(request=third.id)
        assert (skipped.status, skipped.reason) == (S.SKIPPED, "another run waits already")
        visitor.let_on()
        visitor = host.door.next()
        assert (visitor.word, host.end_of(first).status) == ("second", S.SUCCESS)
        visitor.let_on()
        assert host.end_of(second).status is S.SUCCESS

    def test_the_old_one_is_replaced(self, host: Host) -> None:
        host.process(_work.linger, overlap=Overlap.REPLACE, overlap_scope="process")
        host.start()
        first, visitor = host.at_the_door(word="old")
        visitor.let_on()
        other = host.scheduler()
        host.file(by=other, word="new", port=host.door.port)
        other.run_pending()
        host.pass_time(1)
        run = host.end_of(first)
        assert (run.status, run.kill_asked_at) == (S.KILLED, host.monitor.runs()[0].recorded_at)
        host.pass_time(1)
        assert host.door.next().word == "new"
        assert [one.id for one in host.monitor.running()] != [first.id]

    def test_all_go_on_at_once(self, host: Host) -> None:
        host.process(_work.visit, overlap="allow", overlap_scope="process")
        host.start()
        runs, visitors = zip(*(host.at_the_door(word=str(n)) for n in range(3)), strict=True)
        for visitor in visitors:
            visitor.let_on()
        assert [host.end_of(run).status for run in runs] == [S.SUCCESS] * 3

    def test_somebody_who_asks_for_it_waits_for_a_run_of_the_same_request(self, host: Host) -> None:
        host.process(_work.visit)
        scheduler = host.start()
        first, visitor = host.at_the_door(word="first")
        scheduler.run_now(first.request_id)
        visitor.let_on()
        visitor = host.door.next()
        assert host.end_of(first).status is S.SUCCESS
        visitor.let_on()
        assert host.end_of(host.monitor.runs()[0]).status is S.SUCCESS
        assert len(host.monitor.runs()) == 2
