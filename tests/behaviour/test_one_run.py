"""What a process sees of its run, what it is given, and what is seen of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from behaviour import _work
from behaviour._host import T0, Host, params_of_each_kind

from bgsched import NoCurrentRunError, ParamsError, ProcessRegistry, RunFinished, RunStatus, Scheduler, current_run
from bgsched.cli import main

S = RunStatus


class TestCurrentRun:
    def test_it_knows_its_run(self, host: Host) -> None:
        host.process(_work.about)
        request = host.start().run_now("p", user="ann", channel="dashboard")
        run = host.end_of(request)
        assert run.result == {
            "id": run.id,
            "request": request.id,
            "process": "p",
            "fire_time": T0.isoformat(),
            "attempt": 1,
            "user": "ann",
            "channel": "dashboard",
            "parent": None,
            "fence": [run.id, 1],
            "killed": False,
        }

    def test_log_and_progress_are_seen_while_it_runs(self, host: Host) -> None:
        host.process(_work.narrate, prints=True)
        host.start()
        run, visitor = host.at_the_door()
        host.pass_time(0.5)
        assert host.monitor.run(run.id).status is S.RUNNING
        assert host.log_of(run) == ["by run.log", "by logging", "by print"]
        progress = host.monitor.run(run.id).progress
        assert progress is not None
        assert (progress.done, progress.total, progress.message) == (1, 2, "half of it")
        visitor.let_on("well done")
        run = host.end_of(run)
        assert (run.status, run.result, run.lateness, run.started_at) == (S.SUCCESS, "well done", T0 - T0, T0)

    def test_outside_a_run_it_raises(self) -> None:
        with pytest.raises(NoCurrentRunError, match=r"current_run\(default=None\)"):
            current_run()
        assert current_run(default=None) is None


class TestParams:
    def test_values_of_each_kind_arrive_as_what_they_are(self, host: Host) -> None:
        host.process(_work.kinds)
        host.start()
        given = params_of_each_kind()
        named = [repr(value) for name, value in given.items() if name != "fee"]
        assert host.run(**given).result == [*named, repr({"fee": given["fee"]})]

    def test_json_for_them_is_taken_as_well(self, host: Host) -> None:
        host.process(_work.kinds)
        scheduler = host.start()
        first = host.run(**params_of_each_kind())
        again = scheduler.run_now("p", params=json.loads(json.dumps(first.params)))
        assert host.end_of(again).result == first.result

    def test_results_of_each_kind_are_kept(self, host: Host) -> None:
        host.process(_work.kinds_of_results)
        host.start()
        assert host.run().result == {
            "day": "2026-01-31",
            "price": "1.50",
            "mode": "slow",
            "file": "a/b",
            "period": {"first": "2026-01-01", "last": None},
            "pair": [1, [2]],
        }

    @pytest.mark.parametrize(
        ("wrong", "problem"),
        [
            ({"day": "soon"}, "day must be a date, or a string such as '2026-01-31', got 'soon'"),
            (
                {"nested": {"2026-01-01": [{"last": None}]}},
                r"nested\.2026-01-01\[0\] lacks the field 'first' of Period",
            ),
            ({"period": {"first": "2026-02-01", "last": "2026-01-01"}}, "period is no Period: it ends on 2026-01-01"),
            ({"fee": 0.1}, "fee must be a Decimal"),
            ({"size": "xl"}, "size must be one of 's', 'm', got 'xl'"),
            ({"mode": object()}, "mode must be one of 1, 'slow', got <object"),
        ],
    )
    def test_what_does_not_fit_is_refused_with_its_place(self, wrong: dict[str, Any], problem: str) -> None:
        registry = ProcessRegistry()
        registry.process("p")(_work.kinds)
        scheduler = Scheduler(processes=registry)
        with pytest.raises(ParamsError, match=problem):
            scheduler.run_now("p", params={**params_of_each_kind(), **wrong})
        assert scheduler.monitor.requests() == []

    def test_they_are_checked_again_when_the_code_has_changed(self, host: Host) -> None:
        host.process(_work.say)
        request = host.scheduler().run_now("p", params={"word": "hello"})
        host.processes = ProcessRegistry()
        host.process(_work.fail)
        host.start()
        run = host.end_of(request)
        assert run.error is not None
        assert (run.status, run.error.type) == (S.ERROR, "ParamsError")
        assert "no param 'word'" in run.error.message


class TestSensitive:
    SECRET = 'correct "horse"\nbattery'
    PIN = 493_857

    @pytest.fixture
    def used(self, host: Host) -> Host:
        host.process(_work.log_in, sensitive=("password", "pin", "return"))
        host.start()
        for user in ("ann", "bad"):
            host.run(user=user, password=self.SECRET, pin=self.PIN)
        return host

    def shown(self, host: Host) -> Iterator[str]:
        monitor = host.monitor
        for run in monitor.runs():
            yield from (repr(run), json.dumps(run.to_dict()), *host.log_of(run))
            yield f"{run.error.message} {run.error.traceback}" if run.error else str(run.progress)
        for request in monitor.requests():
            yield from (repr(request), json.dumps(request.to_dict()), monitor.why(request.id))
        yield from (repr(event) for event in host.events)
        yield from (repr(monitor.summary()), repr(monitor.runs(text="trying")))

    def test_the_process_gets_them_and_nobody_sees_them(self, used: Host) -> None:
        assert {run.status for run in used.monitor.runs()} == {S.SUCCESS, S.ERROR}
        assert [run.result for run in used.monitor.runs(status="success")] == ["***"]
        shown = "\n".join(self.shown(used))
        assert shown.count("trying '***' and ***") >= 2
        assert "wrong password ***" in shown
        assert any(isinstance(event, RunFinished) for event in used.events)
        for part in ("horse", "battery", str(self.PIN)):
            assert part not in shown

    @pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)
    def test_the_command_line_shows_none(self, used: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run = used.monitor.runs()[0]
        for words in (["runs"], ["show", str(run.id)], ["logs", str(run.id)], ["requests"]):
            main([*words, "--store", f"sqlite:///{tmp_path / 'app.db'}"])
        shown = capsys.readouterr().out
        assert "***" in shown
        assert "horse" not in shown
        assert str(self.PIN) not in shown

    def test_they_are_stored(self, used: Host) -> None:
        stored = used.store.reader().find_request(used.monitor.requests()[0].id)
        assert stored is not None
        assert (stored.params["password"], stored.params["pin"]) == (self.SECRET, self.PIN)

    def test_code_of_today_may_call_them_so(self, host: Host) -> None:
        host.process(_work.log_in)
        request = host.scheduler().run_now("p", params={"user": "ann", "password": "sesame", "pin": 0})
        host.processes = ProcessRegistry()
        host.process(_work.log_in, sensitive="password")
        host.start()
        run = host.end_of(request)
        assert run.params["password"] == "***"
        assert "sesame" not in "".join(host.log_of(run))
