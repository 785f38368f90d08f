"""The live table, made with rich; loaded only where rich is installed."""

import sys
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bgsched import Monitor, Run
from bgsched._cli_read import outcome
from bgsched._cli_text import STATUS_STYLES, Terminal, clock_time, one_line, params_text, span_text

__all__ = ["RichScreen"]

_UPCOMING = 5
_FRAME = 11  # the lines that are no runs
_NOTES = 2


class RichScreen:
    """The last runs and the next requests, drawn anew a few times a second."""

    def __init__(self, terminal: Terminal, monitor: Monitor, span: timedelta) -> None:
        console = Console(file=terminal.out, no_color=not terminal.colour, highlight=False)
        self._console = console
        self._monitor = monitor
        self._span = span.total_seconds()
        self._notes: list[str] = []
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty())

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Show what somebody did, below the tables."""
        self._notes.append(f"{datetime.now().astimezone():%H:%M:%S}  {text}")

    def refresh(self, elapsed: float) -> None:
        """Draw everything anew."""
        room = max(3, self._console.height - _FRAME - _UPCOMING)
        runs = self._monitor.runs(limit=room)
        bar = ProgressBar(total=self._span, completed=min(elapsed, self._span), width=30)
        notes = Text("\n".join(self._notes[-_NOTES:]), style="bold")
        self._live.update(Group(bar, _runs(runs), _upcoming(self._monitor), notes), refresh=True)


def _runs(runs: list[Run]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for title in ("run", "process", "status", "started", "took"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("run", "took") else "left")
    table.add_column("params", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("what came of it", no_wrap=True, overflow="ellipsis", ratio=1)
    for run in runs:
        table.add_row(
            str(run.id),
            run.process,
            Text(run.status.value, style=STATUS_STYLES[run.status]),
            clock_time(run.started_at or run.fire_time),
            span_text(run.duration),
            Text(one_line(params_text(run.params))),
            _progress(run) if run.progress and run.is_active else Text(one_line(outcome(run))),
        )
    return table


def _progress(run: Run) -> ProgressBar | Text:
    if run.progress is None or run.progress.total is None:
        return Text(one_line(outcome(run)))
    return ProgressBar(total=run.progress.total, completed=run.progress.done, width=20)


def _upcoming(monitor: Monitor) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    for title in ("next", "request", "process", "timing"):
        table.add_column(title, no_wrap=True, overflow="ellipsis", justify="right" if title == "next" else "left")
    now = datetime.now(UTC)
    for request in monitor.upcoming(_UPCOMING):
        due = request.next_fire_time
        wait = "" if due is None else span_text(max(due - now, timedelta(0)))
        table.add_row(wait, request.id, request.process, request.timing.describe())
    return table
