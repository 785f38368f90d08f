"""What is shown while the demo works: a live table where there is a terminal and rich, else a line for each event.

Either asks the monitor a few times a second; the processes know nothing of being watched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Protocol

from bgsched import Monitor, Run, RunStatus
from bgsched._cli_read import outcome
from bgsched._cli_text import STATUS_STYLES, Cell, Terminal, params_text, span_text

__all__ = ["PlainScreen", "Screen", "open_screen"]

_RECENT = 60


class Screen(Protocol):
    """Where the demo shows what happens."""

    def note(self, text: str) -> None:
        """Show what somebody did."""
        ...

    def refresh(self, elapsed: float) -> None:
        """Show what has changed."""
        ...


@contextmanager
def open_screen(terminal: Terminal, monitor: Monitor, span: timedelta) -> Iterator[Screen]:
    """Lend the best screen that there is."""
    if terminal.out.isatty() and find_spec("rich") is not None:
        from bgsched._demo.rich_screen import RichScreen  # noqa: PLC0415  needs an extra

        with RichScreen(terminal, monitor, span) as screen:
            yield screen
    else:
        yield PlainScreen(terminal, monitor)


class PlainScreen:
    """A line for each run that ended or waits for another attempt, and for what people did."""

    def __init__(self, terminal: Terminal, monitor: Monitor) -> None:
        self._terminal = terminal
        self._monitor = monitor
        known = monitor.runs(limit=_RECENT)
        self._told = {run.id: _state(run) for run in known if not run.is_active}

    def note(self, text: str) -> None:
        """Write what somebody did."""
        self._terminal.say(f"{datetime.now().astimezone():%H:%M:%S}  -- {text}", "bold")

    def refresh(self, elapsed: float) -> None:  # noqa: ARG002  the live table shows it
        """Write the runs that came to something since."""
        for run in reversed(self._monitor.runs(limit=_RECENT)):
            if self._told.get(run.id) != _state(run) and (not run.is_active or run.attempts):
                self._told[run.id] = _state(run)
                if run.status is not RunStatus.RUNNING:
                    self._write(run)
        self._terminal.out.flush()

    def _write(self, run: Run) -> None:
        status = Cell(f"{run.status.value:<9}", STATUS_STYLES[run.status])
        what = f"{run.process}({params_text(run.params)})"
        came_of_it = outcome(run)
        at = run.finished_at or run.claimed_at or run.fire_time
        self._terminal.line(
            f"{at.astimezone():%H:%M:%S}  run {run.id:>3}  ",
            status,
            f" {span_text(run.duration):>7}  {what}" + (f"  {came_of_it}" if came_of_it else ""),
        )


def _state(run: Run) -> tuple[RunStatus, int]:
    return run.status, len(run.attempts)
