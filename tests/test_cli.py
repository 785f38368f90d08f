"""The command line: what it shows, what it refuses, and how it ends."""

import contextlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bgsched import (
    Daily,
    EveryMinutes,
    Immediate,
    Monitor,
    RequestStatus,
    Retry,
    Run,
    RunStatus,
    Schedule,
    Scheduler,
    SQLiteStore,
    current_run,
    open_store,
)
from bgsched._cli_options import moment, span
from bgsched._cli_text import Cell, Column, Terminal, clock_time, one_line, span_text
from bgsched.cli import main
from bgsched.stores import _sql_filters
from bgsched.testing import ManualClock

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
Say = Callable[..., str]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BGSCHED_STORE", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    """A scheduler that is not started, on the file that the commands are asked about."""
    store = SQLiteStore(tmp_path / "erp.db")
    scheduler = Scheduler(store, clock=ManualClock(T0))

    @scheduler.process("send-invoices")
    def send_invoices(company: str = "all") -> int:
        run = current_run()
        for _ in run.track(range(3)):
            run.log.info("sending for %s", company)
        return 3

    @scheduler.process("close-ledger", retry=Retry(attempts=2, delay=timedelta(0)))
    def close_ledger() -> None:
        current_run().log.warning("an evil \x1b[31mline")
        raise RuntimeError("the ledger\nis open")

    yield scheduler
    scheduler.shutdown()
    store.close()


@pytest.fixture
def url(scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The store's URL, also in the environment; it holds two runs that succeeded and one that failed."""
    url = f"sqlite:///{tmp_path / 'erp.db'}"
    monkeypatch.setenv("BGSCHED_STORE", url)
    scheduler.schedule("send-invoices", Immediate(), {"company": "acme"}, id="acme", user="ann")
    scheduler.run_until_idle()
    scheduler.schedule("close-ledger", Immediate(), id="ledger")
    scheduler.run_until_idle()
    scheduler.schedule("send-invoices", Schedule(Daily(at="12:00")), id="daily")
    scheduler.run_until_idle()
    return url


@pytest.fixture
def say(url: str, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command and return what it says; it shall end with *code*."""

    def say(*words: str, code: int = 0) -> str:
        assert main(words) == code
        shown = capsys.readouterr()
        return shown.out if code != 2 else shown.err

    return say


def refused(*words: str) -> int:
    """Return the exit code of a command that cannot be read."""
    with pytest.raises(SystemExit) as left:
        main(words)
    assert isinstance(left.value.code, int)
    return left.value.code


class TestRuns:
    def test_are_listed_newest_first(self, say: Say) -> None:
        title, *rows = say("runs").splitlines()
        words = [
            "run",
            "process",
            "status",
            "fire time",
            "started",
            "took",
            "late",
            "params",
            "request",
            "what came of it",
        ]
        assert re.split(r" {2,}", title.strip()) == words
        assert [row.split()[:3] for row in rows] == [
            ["3", "send-invoices", "success"],
            ["2", "close-ledger", "error"],
            ["1", "send-invoices", "success"],
        ]
        assert "company=acme" in rows[2]
        assert rows[1].endswith("RuntimeError: the ledger is open")

    def test_what_never_started_shows_its_fire_time_only(self, scheduler: Scheduler, say: Say) -> None:
        scheduler.schedule("send-invoices", Schedule(Daily(at="13:30"), timezone="UTC"), id="afternoon")
        scheduler.unschedule("daily")
        scheduler._clock.advance(timedelta(hours=2))  # type: ignore[attr-defined]
        scheduler.unschedule("afternoon")
        title, row, *_ = say("runs").splitlines()
        shown = row[title.index("fire time") : title.index("took")].split()
        assert row.split()[2] == "skipped"
        assert shown == ["2026-01-01", f"{datetime(2026, 1, 1, 13, 30, tzinfo=UTC).astimezone():%H:%M}"]

    @pytest.mark.parametrize(
        ("options", "ids"),
        [
            (["--process", "close-ledger"], [2]),
            (["--request", "daily"], [3]),
            (["--status", "success"], [3, 1]),
            (["--status", "error,SUCCESS"], [3, 2, 1]),
            (["--status", "timed-out"], []),
            (["--user", "ann"], [1]),
            (["--text", "IS OPEN"], [2]),
            (["--text", "for acme"], [1]),
            (["--since", "2026-01-01T12:00Z"], [3, 2, 1]),
            (["--since", "2026-01-01T12:00:01Z"], []),
            (["--until", "2026-01-01T11:59:59+00:00"], []),
            (["--since", "1h"], []),
            (["--limit", "2"], [3, 2]),
            (["--limit", "2", "--before", "3"], [2, 1]),
        ],
    )
    def test_can_be_filtered(self, say: Say, options: list[str], ids: list[int]) -> None:
        assert [run["id"] for run in json.loads(say("runs", "--json", *options))] == ids

    def test_say_how_to_turn_the_page(self, say: Say) -> None:
        assert say("runs", "--limit", "2").endswith("older ones: --before 2\n")
        assert "older" not in say("runs", "--limit", "4")

    def test_look_on_for_a_text_until_the_page_is_full(self, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_sql_filters, "LOOK", 1)
        assert say("runs", "--text", "for acme", "--limit", "1").splitlines()[1].split()[0] == "1"
        assert say("runs", "--text", "nowhere") == "no run matches\n"

    def test_say_when_there_are_none(self, say: Say) -> None:
        assert say("runs", "--process", "nobody") == "no run matches\n"

    def test_in_json_are_what_to_dict_says(self, say: Say, url: str) -> None:
        assert json.loads(say("runs", "--json")) == [run.to_dict() for run in Monitor(url).runs()]


class TestShow:
    def test_tells_everything_of_a_run(self, say: Say) -> None:
        shown = say("show", "2")
        assert "run 2 of close-ledger" in shown
        assert "status  error" in shown
        assert "attempt 1  error RuntimeError: the ledger is open" in shown
        assert "error  RuntimeError: the ledger is open" in shown
        assert "WARNING an evil" in shown
        assert 'raise RuntimeError("the ledger\\nis open")' in shown

    def test_lets_no_process_steer_the_terminal(self, say: Say) -> None:
        assert "\x1b" not in say("show", "2") + say("logs", "2")

    def test_lets_no_name_steer_the_terminal(self, scheduler: Scheduler, say: Say) -> None:
        """Neither that of a process, nor of a level, a request, a user, a param or an error."""
        evil = "evil\x1b[2J\x9b1m"
        logging.addLevelName(35, f"L{evil}")

        def work(text: str) -> None:
            current_run().log.log(35, "a line")
            raise type(f"E{evil}", (Exception,), {})(text)

        scheduler.process(evil)(work)
        scheduler.schedule(evil, Immediate(), {"text": evil}, id=evil, user=evil)
        scheduler.run_until_idle()
        scheduler.schedule(evil, Schedule(Daily(at="12:00")), {"text": evil}, id=f"{evil}2")
        scheduler.run_now(f"{evil}2")
        (waiting,) = scheduler.monitor.runs(status="waiting")
        commands = [("runs",), ("show", "4"), ("logs", "4"), ("requests", "--limit", "3"), ("upcoming",), ("why", evil)]
        commands += [("kill", "4"), ("unschedule", f"{evil}2"), ("summary",)]
        for words in (*commands, ("kill", str(waiting.id))):
            shown = say(*words)
            assert not any(mark in shown for mark in ("\x1b", "\x9b")), words
        assert "evil\ufffd[2J" in say("show", "4")
        assert "Levil\ufffd[2J" in say("logs", "4")
        assert "\x1b" not in say("why", f"{evil}3", code=2)

    def test_colour_is_the_only_thing_that_steers_it(self) -> None:
        out = io.StringIO()
        Terminal(out, colour=True).line("a\x1bb", Cell("c\x1bd\n", "red"))
        assert out.getvalue() == "a\ufffdb\x1b[31mc\ufffdd \x1b[0m\n"

    def test_shows_the_end_of_a_long_log(self, scheduler: Scheduler, say: Say) -> None:
        @scheduler.process("talk")
        def talk() -> None:
            for number in range(50):
                current_run().log.info("line %d", number)

        talk.schedule(Immediate())
        scheduler.run_until_idle()
        shown = say("show", "4")
        assert "the last 20 lines; all of them: bgsched logs 4" in shown
        assert "line 30\n" in shown
        assert "line 29\n" not in shown

    def test_says_that_a_run_was_asked_to_stop(self, scheduler: Scheduler, say: Say) -> None:
        shown: list[str] = []

        @scheduler.process("deaf")
        def deaf() -> None:
            scheduler.kill(current_run().id)
            current_run().progress(1, 3)
            shown.extend((say("show", "4"), say("runs", "--limit", "1")))

        deaf.schedule(Immediate())
        scheduler.run_until_idle()
        assert "asked  to stop, at 2026-01-" in shown[0]
        assert "asked to stop" in shown[1]
        assert "asked  to stop, at 2026-01-" in say("show", "4")

    def test_in_json(self, say: Say) -> None:
        run = json.loads(say("show", "1", "--json"))
        assert (run["id"], run["status"], run["result"], run["user"]) == (1, "success", 3, "ann")

    def test_of_no_run(self, say: Say) -> None:
        assert say("show", "99", code=2).startswith("bgsched: no run 99 in the store")


class TestLogs:
    def test_are_written_in_order(self, say: Say) -> None:
        lines = say("logs", "1").splitlines()
        assert len(lines) == 3
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO    sending for acme", lines[0])

    def test_follow_a_run_that_has_ended_to_its_end(self, say: Say) -> None:
        assert say("logs", "1", "--follow") == say("logs", "1")

    def test_in_json_are_one_object_each(self, say: Say) -> None:
        lines = [json.loads(line) for line in say("logs", "1", "--json").splitlines()]
        assert [line["seq"] for line in lines] == [1, 2, 3]

    def test_follow_a_run_while_it_goes_on(self, tmp_path: Path) -> None:
        """Another OS process reads the first line while the run still waits for a word from here."""
        store = SQLiteStore(tmp_path / "app.db")
        scheduler = Scheduler(store)
        go_on_read, go_on_write = os.pipe()

        @scheduler.process("talk")
        def talk() -> None:
            current_run().log.info("first")
            os.read(go_on_read, 1)
            current_run().log.info("second")

        with scheduler:
            talk.schedule(Immediate())
            run_id = wait_for_a_run(scheduler)
            command = [sys.executable, "-m", "bgsched", "logs", str(run_id), "-f", "--store", f"sqlite:///{store.path}"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                assert child.stdout.readline().endswith("first\n")
                os.write(go_on_write, b".")
                assert child.communicate(timeout=30)[0].endswith("second\n")
            assert child.returncode == 0
        os.close(go_on_read)
        os.close(go_on_write)
        store.close()


def wait_for_a_run(scheduler: Scheduler) -> int:
    give_up = datetime.now(UTC) + timedelta(seconds=20)
    while datetime.now(UTC) < give_up:
        if runs := scheduler.monitor.runs():
            return runs[0].id
    return pytest.fail("no run began")


class TestRequests:
    def test_are_listed_with_their_timing_in_words(self, say: Say) -> None:
        title, *rows = say("requests").splitlines()
        assert title.split()[:4] == ["request", "process", "status", "next"]
        assert [row.split()[0] for row in rows] == ["acme", "daily", "ledger"]
        assert "every day at 12:00" in rows[1]

    @pytest.mark.parametrize(
        ("options", "ids"),
        [
            (["--status", "complete"], ["acme", "ledger"]),
            (["--status", "scheduled"], ["daily"]),
            (["--process", "send-invoices"], ["acme", "daily"]),
            (["--user", "ann"], ["acme"]),
            (["--limit", "1", "--after", "acme"], ["daily"]),
            (["ledger"], ["ledger"]),
        ],
    )
    def test_can_be_filtered(self, say: Say, options: list[str], ids: list[str]) -> None:
        assert [request["id"] for request in json.loads(say("requests", "--json", *options))] == ids

    def test_one_that_is_not_there(self, say: Say) -> None:
        assert "no request 'nobody' in the store" in say("requests", "nobody", code=2)

    def test_upcoming_is_what_is_due_next(self, scheduler: Scheduler, say: Say) -> None:
        scheduler.schedule("send-invoices", Schedule(EveryMinutes(10), start=T0 + timedelta(minutes=5)), id="often")
        assert [row.split()[0] for row in say("upcoming").splitlines()[1:]] == ["often", "daily"]
        assert [request["id"] for request in json.loads(say("upcoming", "--json", "--limit", "1"))] == ["often"]

    def test_why_answers_in_words(self, scheduler: Scheduler, say: Say, url: str) -> None:
        scheduler.unschedule("daily")
        assert say("why", "daily").strip() == Monitor(url).why("daily")
        assert json.loads(say("why", "daily", "--json")) == {"request": "daily", "why": say("why", "daily").strip()}
        assert "no request 'nobody'" in say("why", "nobody", code=2)

    def test_upcoming_says_when_nothing_is(self, scheduler: Scheduler, say: Say) -> None:
        scheduler.unschedule("daily")
        assert say("upcoming") == "nothing is due\n"


class TestTheWhole:
    def test_summary(self, say: Say) -> None:
        shown = say("summary")
        assert "2  success" in shown
        assert "1  error" in shown
        assert "66.7%" in shown
        assert json.loads(say("summary", "--json", "--process", "close-ledger"))["counts"] == {"error": 1}
        assert say("summary", "--since", "2027-01-01") == "no run since 2027-01-01 00:00:00 UTC\n"

    def test_health_is_0_while_a_scheduler_is_alive(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        store = SQLiteStore(tmp_path / "app.db")
        with Scheduler(store):
            assert main(["health", "--store", f"sqlite:///{store.path}"]) == 0
            shown = capsys.readouterr().out
            assert shown.startswith("ok\n")
            assert f"OS process {os.getpid()}" in shown
        store.close()

    def test_health_is_1_without_one(self, scheduler: Scheduler, say: Say) -> None:
        scheduler.shutdown()
        assert "no scheduler is signed on" in say("health", code=1)
        assert json.loads(say("health", "--json", code=1))["ok"] is False

    def test_health_is_1_while_a_run_waits_that_nobody_can_take_up(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store, ago = SQLiteStore(tmp_path / "app.db"), datetime.now(UTC) - timedelta(minutes=5)
        with store.transaction() as tx:
            tx.insert_runs([Run(request_id="r", process="p", fire_time=ago, recorded_at=ago, due_at=ago)])
        with Scheduler(store):
            assert main(["health", "--store", f"sqlite:///{store.path}"]) == 1
            assert "run 1 of process 'p' is 5 minutes overdue: none of the 1 living" in capsys.readouterr().out
        store.close()

    def test_an_empty_store_is_not_that_of_the_environment(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        """As ``--store "$STORE"`` gives it where that variable is not set."""
        assert os.environ["BGSCHED_STORE"] == url
        assert main(["unschedule", "daily", "--store", ""]) == 2
        assert "which store? write --store sqlite:///app.db" in capsys.readouterr().err
        assert Monitor(url).request("daily").status is RequestStatus.SCHEDULED

    def test_health_is_1_without_a_database(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["health", "--store", f"sqlite:///{tmp_path}/none.db"]) == 1
        assert "no database" in capsys.readouterr().out


class TestStreams:
    @pytest.mark.parametrize("command", [["runs"], ["logs", "1"], ["runs", "--json"], ["unschedule", "daily"]])
    def test_a_closed_stdout_is_none_of_our_business(
        self, command: list[str], url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stdout", None)  # as it is after ``>&-``
        assert main([*command, "--store", url]) == 0

    def test_nor_is_a_closed_stderr(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", None)
        assert main(["runs", "--store", "nothing"]) == 2


class TestChanging:
    def test_unschedule_and_reschedule(self, say: Say, url: str) -> None:
        assert "unscheduled" in say("unschedule", "daily")
        assert Monitor(url).request("daily").status is RequestStatus.UNSCHEDULED
        assert json.loads(say("reschedule", "daily", "--json"))["status"] == "scheduled"
        assert Monitor(url).request("daily").status is RequestStatus.SCHEDULED

    def test_what_is_rescheduled_here_says_so(self, url: str, say: Say) -> None:
        say("reschedule", "acme")
        request = Monitor(url).request("acme")
        assert (request.user, request.channel) == ("ann", "cli")

    def test_reschedule_runs_an_immediate_request_again(self, scheduler: Scheduler, say: Say) -> None:
        say("reschedule", "acme")
        scheduler.store.close()
        clock = ManualClock(datetime.now(UTC))
        again = Scheduler(scheduler.store, processes=scheduler.processes, clock=clock)
        again.run_until_idle()
        assert [run.status for run in again.monitor.runs(request="acme")] == [RunStatus.SUCCESS] * 2
        again.shutdown()

    def test_kill_ends_what_waits_and_asks_what_runs(self, scheduler: Scheduler, say: Say) -> None:
        waiting = scheduler.run_now("daily")
        (run,) = scheduler.monitor.runs(request=waiting.id, status="waiting")
        assert "killed" in say("kill", str(run.id))
        assert scheduler.monitor.run(run.id).status is RunStatus.KILLED
        assert "has ended" in say("kill", "1")

    def test_a_mistyped_file_makes_no_database(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["unschedule", "x", "--store", f"sqlite:///{tmp_path}/typo.db"]) == 2
        assert "no database" in capsys.readouterr().err
        assert not (tmp_path / "typo.db").exists()

    def test_what_is_not_there_is_refused(self, say: Say) -> None:
        assert "no request 'nobody'" in say("unschedule", "nobody", code=2)
        assert "no run 99" in say("kill", "99", code=2)


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (["runs", "--status", "succes"], "no status 'succes'; did you mean 'success'?"),
            (["requests", "--status", "gone"], "there are scheduled, unscheduled, complete"),
            (["runs", "--since", "yesterday"], "'yesterday' is no instant; write 2026-05-01"),
            (["runs", "--limit", "0"], "'0' is no number from 1"),
            (["show", "one"], "'one' is no number from 1"),
            (["fly"], "invalid choice: 'fly'"),
            (["runs", "\x1b[31m"], "unrecognized arguments: \ufffd[31m"),
            ([], "required"),
        ],
    )
    def test_of_the_command_line(self, capsys: pytest.CaptureFixture[str], words: list[str], problem: str) -> None:
        assert refused(*words) == 2
        assert problem in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            (None, "which store? write --store sqlite:///app.db, or set BGSCHED_STORE"),
            ("memory://", "memory:// is seen by its own OS process only"),
            ("postgresql://ann:pa[ss@127.0.0.1:1/x", "127.0.0.1"),
            ("erp.db", "has no scheme; for a file write 'sqlite:///erp.db'"),
            ("sqlit:///erp.db", "did you mean 'sqlite'?"),
            ("sqlite:///none.db", "no database"),
            ("sqlite:///text", "is not an SQLite database"),
        ],
    )
    def test_of_the_store(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        url: str | None,
        problem: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("text").write_text("this is no database, only a text that is long enough\n" * 50)
        assert main(["runs", *(["--store", url] if url else [])]) == 2
        said = capsys.readouterr().err
        assert problem in said
        assert said.startswith("bgsched: ")
        assert len(said.splitlines()) == 1

    def test_version_and_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert refused("--version") == 0
        assert refused("--help") == 0
        assert "what ran, newest first" in capsys.readouterr().out


class TestHowItEnds:
    def test_a_reader_that_goes_away_is_no_error(self, url: str) -> None:
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as closed:
            done = subprocess.run(
                [sys.executable, "-m", "bgsched", "runs"], stdout=closed, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (done.returncode, done.stderr) == (141, "")

    def test_ctrl_c_leaves_no_traceback(self, scheduler: Scheduler, url: str) -> None:
        scheduler.run_now("daily")
        (run,) = scheduler.monitor.runs(status="waiting")
        command = [sys.executable, "-c", FOLLOW, str(run.id)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "following\n"
            child.send_signal(signal.SIGINT)
            said = child.communicate(timeout=30)[1]
        assert (child.returncode, said) == (130, "")


FOLLOW = """
import sys
from bgsched.cli import main
from bgsched.stores import _sql_filters
from bgsched.monitor import Monitor
follow = Monitor.follow
def follow_and_tell(*words):
    print("following", flush=True)
    return follow(*words)
Monitor.follow = follow_and_tell
sys.exit(main(["logs", sys.argv[1], "-f"]))
"""


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestTheTerminal:
    columns = (Column("id", right=True), Column("name", rank=1, least=6), Column("more", rank=2, least=6))
    rows = (("1", "a name that is long", Cell("and more than that", "red")), ("20", "x", "y"))

    def table(self, width: int | None, *, colour: bool = False) -> list[str]:
        out = io.StringIO()
        Terminal(out, colour, width).table(self.columns, self.rows)
        return out.getvalue().splitlines()

    def test_without_limit_nothing_is_cut(self) -> None:
        assert self.table(None)[1] == " 1  a name that is long  and more than that"

    @pytest.mark.parametrize("width", [40, 30, 19, 12, 8, 4, 1])
    def test_a_table_fits(self, width: int) -> None:
        assert max(map(len, self.table(width))) <= width

    def test_the_longest_is_cut_first_then_columns_go(self) -> None:
        assert self.table(30)[1] == " 1  a name that…  and more th…"
        assert self.table(12)[1] == " 1  a name …"

    def test_colour_takes_no_room(self) -> None:
        assert re.sub(r"\x1b\[\d+m", "", "\n".join(self.table(30, colour=True))) == "\n".join(self.table(30))

    def test_wide_characters_take_two_cells(self) -> None:
        out = io.StringIO()
        Terminal(out, width=8).table([Column("a", least=2)], [["日本語日本語"]])
        assert out.getvalue().splitlines()[1] == "日本語…"

    @pytest.mark.parametrize("width", ["30", "50", "80", "120"])
    def test_every_command_fits_a_narrow_one(self, url: str, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
        monkeypatch.setenv("COLUMNS", width)
        for words in (["runs"], ["requests"], ["upcoming"]):
            out = FakeTerminal()
            monkeypatch.setattr(sys, "stdout", out)
            main([*words, "--no-color"])
            assert max(map(len, out.getvalue().splitlines())) <= int(width)

    @pytest.mark.parametrize(
        ("options", "environment", "coloured"),
        [
            ([], {}, True),
            ([], {"NO_COLOR": "1"}, False),
            ([], {"TERM": "dumb"}, False),
            (["--no-color"], {}, False),
            (["--color"], {"NO_COLOR": "1"}, True),
        ],
    )
    def test_colour_on_a_terminal_only_where_it_is_wanted(
        self,
        url: str,
        monkeypatch: pytest.MonkeyPatch,
        options: list[str],
        environment: dict[str, str],
        coloured: bool,  # noqa: FBT001  a column of the table above
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        out = FakeTerminal()
        monkeypatch.setattr(sys, "stdout", out)
        main(["runs", *options])
        assert ("\x1b[31m" in out.getvalue()) is coloured

    def test_no_colour_in_a_pipe(self, say: Say) -> None:
        assert "\x1b" not in say("runs")


@pytest.mark.parametrize("width", [80, 200])
def test_on_a_real_terminal(url: str, width: int) -> None:
    """A pseudo-terminal of that width: the table fits, is coloured, and says what went wrong."""
    import termios  # which Windows has not

    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    command = [sys.executable, "-m", "bgsched", "runs"]
    known = dict(os.environ)  # without what GNU readline, which pytest loads, put there behind Python's back: COLUMNS
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, env=known) as child:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's end of a terminal whose other side was closed
            while read := os.read(ours, 4096):
                shown += read
    os.close(ours)
    assert child.returncode == 0
    assert b"\x1b[31merror" in shown
    lines = re.sub(r"\x1b\[\d+m", "", shown.decode()).splitlines()
    assert max(map(len, lines)) <= width
    assert "RuntimeError: the ledger is open" in lines[2]
    assert ("company=acme" in lines[3]) == (width == 200)


class TestWords:
    @pytest.mark.parametrize(
        ("text", "meant"),
        [("15", 15), ("15s", 15), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("1 M", 60)],
    )
    def test_a_span_is_read(self, text: str, meant: float) -> None:
        assert span(text).total_seconds() == meant

    def test_an_instant_without_offset_is_local(self) -> None:
        assert moment("2026-05-01T09:00") == datetime(2026, 5, 1, 9).astimezone()

    @pytest.mark.parametrize(
        ("spent", "text"),
        [
            (0.0123, "12 ms"),
            (1.25, "1.2 s"),
            (65, "1m 05s"),
            (7384, "2h 03m"),
            (90000, "1d 01h"),
            (-0.5, "-500 ms"),
        ],
    )
    def test_a_span_is_shown(self, spent: float, text: str) -> None:
        assert span_text(timedelta(seconds=spent)) == text

    def test_an_instant_of_today_is_a_time(self) -> None:
        noon = datetime(2026, 5, 1, 12).astimezone()
        assert clock_time(noon, noon) == "12:00:00"
        assert clock_time(noon, noon + timedelta(days=1)) == "2026-05-01 12:00"

    def test_what_steers_a_terminal_is_shown_as_a_mark(self) -> None:
        assert one_line("a\nb\t\x1b[31mc\u202e") == "a b \ufffd[31mc\ufffd"


def test_on_postgresql(postgres_dsn: str, postgres_schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"{postgres_dsn}{'&' if '?' in postgres_dsn else '?'}schema={postgres_schema}"
    store = open_store(url)
    scheduler = Scheduler(store)
    scheduler.process("greet")(lambda: "hello")
    request = scheduler.run_now("greet")
    scheduler.run_until_idle()
    assert main(["runs", "--json", "--store", url]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["request_id"], run["result"]) == (request.id, "hello")
    assert main(["reschedule", request.id, "--store", url]) == 0
    assert scheduler.monitor.request(request.id).status is RequestStatus.SCHEDULED
    scheduler.shutdown()
    store.close()


def test_the_module_runs_as_the_command(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bgsched", "requests", "--json"], capture_output=True, text=True, check=True
    )
    loaded: list[dict[str, Any]] = json.loads(done.stdout)
    assert [request["id"] for request in loaded] == ["acme", "daily", "ledger"]


def test_json_survives_whatever_encoding_the_output_has(scheduler: Scheduler, url: str) -> None:
    scheduler.schedule("send-invoices", Immediate(), {"company": "日本"}, id="東京")
    scheduler.run_until_idle()
    for words in (["runs", "--limit", "1"], ["logs", "4"], ["requests", "東京"]):
        done = subprocess.run(
            [sys.executable, "-m", "bgsched", *words, "--json"],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "1"},
        )
        assert done.stdout.isascii()
        first = json.loads(done.stdout.splitlines()[0] if words[0] == "logs" else done.stdout)
        assert "日本" in json.dumps(first, ensure_ascii=False)
