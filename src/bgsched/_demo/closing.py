"""What the demo tells at its end: what the monitor says, what the ledger says, and where to look further."""

import shlex
import shutil
import sys
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from bgsched import Monitor, Run, RunStatus
from bgsched._cli_read import requests_table, runs_table, write_line
from bgsched._cli_text import STATUS_STYLES, Cell, Terminal
from bgsched._demo.office import Office

__all__ = ["called", "tell"]

_LAST = 8
_LOG_LINES = 9


def tell(
    terminal: Terminal, monitor: Monitor, office: Office, url: str, *, began: datetime, left: Sequence[Run] = ()
) -> None:
    """Write the closing report."""
    _heading(terminal, "What the monitor says")
    counts = monitor.summary().counts
    parts = [(", ", Cell(f"{counts[s]} {s.value}", STATUS_STYLES[s])) for s in RunStatus if counts.get(s)]
    terminal.line("runs by status: ", *[part for pair in parts for part in pair][1:])
    _heading(terminal, "The last runs")
    runs_table(terminal, monitor.runs(limit=_LAST))
    _tell_failure(terminal, monitor, began)
    _tell_abandoned(terminal, monitor, left)
    _heading(terminal, "Upcoming, at the next start")
    requests_table(terminal, monitor.upcoming(5))
    _tell_ledger(terminal, office)
    _tell_where(terminal, monitor, url, office)


def _heading(terminal: Terminal, text: str) -> None:
    terminal.say()
    terminal.say(text, "bold")


def _tell_failure(terminal: Terminal, monitor: Monitor, began: datetime) -> None:
    failed = monitor.runs(status=RunStatus.ERROR, since=began, limit=1) or monitor.runs(status=RunStatus.ERROR, limit=1)
    for run in failed:
        assert run.error is not None  # noqa: S101  what failed has one
        _heading(terminal, f"The last failure: run {run.id} of {run.process}")
        terminal.say(f"{run.error.type}: {run.error.message}", "red")
        for line in deque(monitor.log(run.id), maxlen=_LOG_LINES):
            write_line(terminal, line)


def _tell_abandoned(terminal: Terminal, monitor: Monitor, left: Sequence[Run]) -> None:
    runs = monitor.runs(status=RunStatus.ABANDONED, limit=_LAST)
    if runs:
        _heading(terminal, "Abandoned: runs whose OS process was killed, now or earlier")
        runs_table(terminal, runs)
    if left:
        terminal.say(f"{len(left)} of them did not come to their end in time just now", "dim")


def _tell_ledger(terminal: Terminal, office: Office) -> None:
    imports = office.ledger.imports()
    twice = [file for file, count in imports.items() if count > 1]
    rejected = len(list(office.rejected.glob("*.csv")))
    _heading(terminal, "What the office's own ledger says")
    terminal.say(
        f"{len(imports)} invoices booked, {'each exactly once' if not twice else f'TWICE: {twice}'}; "
        f"{rejected} damaged ones rejected; {len(office.waiting())} still in the inbox"
    )
    totals = office.ledger.totals()
    if totals.in_eur is not None:
        terminal.say(f"in all: EUR {totals.in_eur:,}")


def _tell_where(terminal: Terminal, monitor: Monitor, url: str, office: Office) -> None:
    _heading(terminal, "Where to look further")
    terminal.say(f"the files and the ledger: {office.folder}")
    parts = urlsplit(url)
    if parts.scheme == "memory":
        terminal.say("the runs were kept in memory and are gone now")
        return
    shown = "$BGSCHED_STORE" if parts.password else shlex.quote(url)
    if parts.password is None:
        terminal.say(f"requests, runs and logs:   {url}")
    failed = monitor.runs(status=RunStatus.ERROR, limit=1) or monitor.runs(limit=1)
    for command in ("runs --status error", *(f"show {run.id}" for run in failed), "requests", "upcoming"):
        terminal.say(f"  {called()} {command} --store {shown}")


def called() -> str:
    """Return what to write in this folder to call this program: `make` and `uv run` find it where a shell does not."""
    script = Path(sys.argv[0]).absolute()
    if script.stem != "bgsched":
        return "python -m bgsched"
    if script.is_relative_to(Path.cwd()):
        return shlex.quote(str(script.relative_to(Path.cwd())))
    return "bgsched" if shutil.which("bgsched") == str(script) else shlex.quote(str(script))
