"""The live table, kept in its place by rich; loaded only where rich is installed."""

import io
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from bgsched import Monitor
from bgsched._cli_read import requests_table, runs_table
from bgsched._cli_text import Terminal

__all__ = ["RichScreen"]

_UPCOMING = 5
_NOTES = 2
_FRAME = _UPCOMING + _NOTES + 7  # the lines that are no runs
_FEWEST = 3


class RichScreen:
    """The last runs and the next requests, drawn anew a few times a second."""

    def __init__(self, terminal: Terminal, monitor: Monitor, span: timedelta) -> None:
        self._console = Console(file=terminal.out, no_color=not terminal.colour, highlight=False)
        self._colour = terminal.colour
        self._monitor = monitor
        self._span = span.total_seconds()
        self._notes: list[str] = []
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

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
        runs = self._monitor.runs(limit=max(_FEWEST, self._console.height - _FRAME))
        upcoming = self._monitor.upcoming(_UPCOMING)
        parts = (
            Padding(
                ProgressBar(total=self._span, completed=min(elapsed, self._span), width=60), 0
            ),  # a line of its own
            self._drawn(lambda terminal: runs_table(terminal, runs)),
            Text(""),
            self._drawn(lambda terminal: requests_table(terminal, upcoming)),
            Text(""),
            Text("\n".join(self._notes[-_NOTES:]), style="bold"),
        )
        self._live.update(Group(*parts), refresh=True)

    def _drawn(self, draw: Callable[[Terminal], None]) -> Text:
        """Return what *draw* writes to a terminal of this width."""
        paper = io.StringIO()
        draw(Terminal(paper, self._colour, self._console.width))
        return Text.from_ansi(paper.getvalue(), no_wrap=True)
