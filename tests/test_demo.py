"""`bgsched demo`: real work, seen from outside, and nothing twice after `kill -9`."""

import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bgsched import Monitor, RequestStatus, Run, RunStatus, SQLiteStore
from bgsched._cli_text import Terminal
from bgsched._demo.closing import called
from bgsched._demo.invoices import BATCH, DamagedInvoiceError, file_name, invoice_text, read_invoice
from bgsched._demo.office import Office
from bgsched._demo.rich_screen import RichScreen
from bgsched._demo.screen import open_screen
from bgsched._demo.story import act_in, begin, make_scheduler, open_office
from bgsched.cli import main
from bgsched.testing import ManualClock

DAMAGED = {file_name(7), file_name(16)}
GOOD = {file_name(number) for number in range(1, BATCH + 1)} - DAMAGED


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'bgsched.db'}"


def booked(folder: Path) -> dict[str, int]:
    """Ask the business database itself how often each file was booked."""
    with closing(sqlite3.connect(folder / "ledger.db")) as db:
        counts = dict(db.execute("SELECT file, count(*) FROM imports GROUP BY file").fetchall())
        assert db.execute("SELECT count(*) FROM invoices").fetchone()[0] == len(counts)
        return counts


def work(folder: Path, clock: ManualClock, seconds: int) -> None:
    """Let the office work for some of the clock's seconds, on this thread."""
    office = Office(folder, seal_rounds=1)
    store = SQLiteStore(folder / "bgsched.db")
    scheduler = make_scheduler(store, office, clock=clock)
    begin(scheduler, clock.now())
    for _ in range(seconds):
        scheduler.run_until_idle()
        clock.advance(1)
    scheduler.shutdown()
    store.close()


@contextmanager
def demo(folder: Path, span: str) -> Iterator[subprocess.Popen[str]]:
    """Start the demo in an OS process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "bgsched", "demo", "--dir", folder, "--for", span],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def read_until(child: subprocess.Popen[str], words: str) -> str:
    assert child.stdout is not None
    seen = ""
    for line in child.stdout:
        seen += line
        if words in line:
            return seen
    return pytest.fail(f"the demo never said {words!r}:\n{seen}")


class TestTheOffice:
    """The host application by itself, at the pace of a clock that the test moves."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(datetime(2026, 6, 1, 9, tzinfo=UTC))

    def test_books_every_good_invoice_once_and_rejects_the_damaged_ones(
        self, tmp_path: Path, clock: ManualClock
    ) -> None:
        open_office(tmp_path)
        work(tmp_path, clock, 10)
        assert booked(tmp_path) == dict.fromkeys(GOOD, 1)
        assert {path.name for path in (tmp_path / "rejected").iterdir()} == DAMAGED
        assert len(list((tmp_path / "archive").glob("*.gz"))) == len(GOOD)
        assert list((tmp_path / "inbox").iterdir()) == []

    def test_the_monitor_tells_what_happened(self, tmp_path: Path, clock: ManualClock) -> None:
        open_office(tmp_path)
        work(tmp_path, clock, 10)
        monitor = Monitor(url_of(tmp_path))
        failed = monitor.runs(status="error")
        assert {run.params["file"] for run in failed} == DAMAGED
        assert failed[-1].error is not None
        assert failed[-1].error.message == "invoice-0007.csv, line 13: '12.x0' is no amount"
        assert "goes to the rejected ones" in monitor.log(failed[-1].id)[0].text
        (rates,) = monitor.runs(process="fetch-rates")
        assert (rates.status, rates.attempt, rates.result) == (RunStatus.SUCCESS, 3, ["GBP", "USD"])
        (published,) = monitor.runs(process="publish-rates")
        assert published.lateness == timedelta(0)
        (one,) = monitor.runs(request=f"import {file_name(1)}")
        assert (one.user, one.result) == ("post", "USD 4756.50")
        assert one.progress is not None
        assert (one.progress.done, one.progress.total) == (12, 12)
        assert [line.text.split()[0] for line in monitor.log(one.id)] == ["DM-0001:", "booked", "filed"]

    def test_at_the_next_start_the_post_brings_other_invoices(self, tmp_path: Path, clock: ManualClock) -> None:
        assert open_office(tmp_path)[1] == BATCH
        assert open_office(tmp_path)[1] == 0
        work(tmp_path, clock, 10)
        assert open_office(tmp_path)[1] == BATCH
        work(tmp_path, clock, 10)
        assert set(booked(tmp_path).values()) == {1}
        assert len(booked(tmp_path)) == 2 * len(GOOD)

    def test_people_unschedule_and_reschedule(self, tmp_path: Path, clock: ManualClock) -> None:
        store = SQLiteStore(tmp_path / "bgsched.db")
        scheduler = make_scheduler(store, Office(tmp_path), clock=clock)
        begin(scheduler, clock.now())
        assert [act.share for act in act_in(scheduler, 6, 15, 0)] == [0.35]
        assert scheduler.monitor.request("reminders").status is RequestStatus.UNSCHEDULED
        assert len(act_in(scheduler, 15, 15, 1)) == 3
        request = scheduler.monitor.request("reminders")
        assert (request.status, request.params) == (RequestStatus.SCHEDULED, {"days": 30})
        store.close()

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda text: "", "line 1: no invoice"),
            (lambda text: text.replace("2026-01-06", "yesterday"), "line 4: 'yesterday' is no date"),
            (lambda text: text.replace("total,,", "total,,1"), "the items make"),
            (lambda text: re.sub(r",\d+,", ",", text, count=1), "3 fields expected, got 2"),
            (lambda text: re.sub(r",\d+,", ",many,", text, count=1), "the quantity 'many' is no number"),
        ],
    )
    def test_damage_is_found_and_named(self, tmp_path: Path, spoil: Callable[[str], str], words: str) -> None:
        path = tmp_path / file_name(1)
        path.write_text(spoil(invoice_text(1)))
        with pytest.raises(DamagedInvoiceError, match=re.escape(words)):
            read_invoice(path)


class TestTheCommand:
    def test_works_and_tells(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["demo", "--dir", str(tmp_path), "--for", "2s"]) == 0
        shown = capsys.readouterr().out
        assert "\x1b" not in shown
        assert re.search(r"run +\d+  success +[\d.]+ m?s  import-invoice\(file=invoice-0001.csv\)  USD 4756.50", shown)
        assert "Maria unschedules the reminders" in shown
        for heading in ("What the monitor says", "The last runs", "Upcoming", "What the office's own ledger says"):
            assert heading in shown
        assert "each exactly once" in shown
        assert f"bgsched requests --store {url_of(tmp_path)}" in shown

    def test_on_a_store_of_its_own(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["demo", "--dir", str(tmp_path), "--for", "0", "--store", "memory://"]) == 0
        assert "kept in memory" in capsys.readouterr().out
        assert not (tmp_path / "bgsched.db").exists()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--for", "soon"], "'soon' is no span; write 15s, 1m, 2h or 3d"),
            (["--for", "99999999999999999999d"], "'99999999999999999999d' is no span; write 15s, 1m, 2h or 3d"),
            (["--store", "mysql://x"], "unknown store 'mysql'"),
        ],
    )
    def test_bad_options_are_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
    ) -> None:
        try:
            code: object = main(["demo", "--dir", str(tmp_path), *options])
        except SystemExit as left:
            code = left.code
        assert code == 2
        assert words in capsys.readouterr().err


class Screen(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class TestTheScreen:
    """What is drawn on a terminal that can move its cursor."""

    def test_each_part_has_lines_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv("LINES", "40")
        work(tmp_path, ManualClock(datetime(2026, 6, 1, 9, tzinfo=UTC)), 3)
        shown = Screen()
        with open_screen(Terminal(shown, width=120), Monitor(url_of(tmp_path)), timedelta(seconds=15)) as screen:
            assert isinstance(screen, RichScreen)
            screen.note("Maria unschedules the reminders")
            screen.refresh(7.5)
        drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
        assert re.search(
            r"━+╸?\s*\nrun +process +status.*\n +\d+ +remind-customers +success"
            r"(.*\n)+request +process +status(.*\n)+\d\d:\d\d:\d\d  Maria unschedules the reminders",
            drawn,
        )

    @pytest.mark.parametrize(
        ("script", "shown"),
        [
            ("venv/bin/bgsched", "venv/bin/bgsched"),
            ("/nowhere/my bin/bgsched", "'/nowhere/my bin/bgsched'"),
            ("/nowhere/bgsched/__main__.py", "python -m bgsched"),
        ],
    )
    def test_the_commands_that_it_shows_can_be_called_from_here(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, shown: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [str(tmp_path / script), "demo"])
        assert called() == shown

    def test_a_command_on_the_path_is_called_by_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        script = tmp_path / "bin" / "bgsched"
        script.parent.mkdir()
        script.touch(0o700)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setenv("PATH", str(script.parent))
        monkeypatch.setattr("sys.argv", [str(script), "demo"])
        assert called() == "bgsched"


class TestFromOutside:
    def test_another_os_process_watches_and_ctrl_c_ends_it_well(self, tmp_path: Path) -> None:
        script = (
            "import sys; from bgsched import Monitor; monitor = Monitor(sys.argv[1]);"
            "print(sorted({run.process for run in monitor.runs()})); print(monitor.health().ok);"
            "print(*[request.id for request in monitor.upcoming(100)], sep='|')"
        )
        with demo(tmp_path, "60s") as child:
            read_until(child, "import-invoice")
            other = subprocess.run(
                [sys.executable, "-c", script, url_of(tmp_path)], capture_output=True, text=True, check=True
            )
            child.send_signal(signal.SIGINT)
            shown = child.communicate(timeout=30)[0]
        processes, healthy, upcoming = other.stdout.splitlines()
        assert "import-invoice" in processes
        assert healthy == "True"
        assert "nightly-report" in upcoming.split("|")
        assert child.returncode == 0
        assert "stopped by Ctrl-C" in shown
        assert "What the monitor says" in shown

    def test_killed_half_way_and_started_again_nothing_is_done_twice(self, tmp_path: Path) -> None:
        interrupted: list[Run] = []
        while not interrupted:  # an end that SQLite had written and not shown yet counts
            with demo(tmp_path, "60s") as child:
                read_until(child, "import-invoice")
                kill_while_importing(child, Monitor(url_of(tmp_path)))
            assert child.returncode == -signal.SIGKILL
            interrupted = importing(Monitor(url_of(tmp_path)))
        with demo(tmp_path, "1s") as again:
            shown = again.communicate(timeout=60)[0]
        assert again.returncode == 0, shown
        assert "No new invoices came" in shown
        assert "Abandoned: runs whose OS process was killed" in shown
        monitor = Monitor(url_of(tmp_path))
        for run in interrupted:
            assert monitor.run(run.id).status is RunStatus.ABANDONED
            assert monitor.run(run.id).reason == "its scheduler died while it ran"
        work(tmp_path, ManualClock(datetime.now(UTC)), 15)  # the rest, at the pace of a clock that jumps
        assert booked(tmp_path) == dict.fromkeys(GOOD, 1)
        assert {path.name for path in (tmp_path / "rejected").iterdir()} == DAMAGED
        for run in interrupted:
            file = run.params["file"]
            assert (tmp_path / "archive" / f"{file}.gz").exists()
            statuses = [other.status for other in monitor.runs(request=run.request_id)]
            # one that was killed after its last step, before that was recorded, has nothing left to do
            assert statuses in ([RunStatus.SUCCESS, RunStatus.ABANDONED], [RunStatus.ABANDONED])


def kill_while_importing(child: subprocess.Popen[str], monitor: Monitor) -> None:
    """Kill the demo at a moment at which its monitor shows running imports."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        if not importing(monitor):
            continue
        os.kill(child.pid, signal.SIGSTOP)  # so that the run cannot end between the look and the kill
        os.waitpid(child.pid, os.WUNTRACED)
        if importing(monitor):
            child.kill()
            child.wait()
            return
        os.kill(child.pid, signal.SIGCONT)
    pytest.fail("no import was seen running")


def importing(monitor: Monitor) -> list[Run]:
    return [run for run in monitor.running() if run.process == "import-invoice"]
