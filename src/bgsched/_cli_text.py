"""Text for a terminal: tables that fit its width, colour where it is wanted, instants and spans as people read them.

What comes from the store was written by processes: whatever a `Terminal` writes goes through `one_line`, which makes
line breaks and control characters visible, so that a log line, a name or a level cannot move the cursor or recolour the
terminal. JSON is plain ASCII, which no encoding of the output changes.
"""

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from bgsched.request import RequestStatus
from bgsched.run import RunStatus

__all__ = [
    "STATUS_STYLES",
    "Cell",
    "Column",
    "Terminal",
    "clock_time",
    "one_line",
    "params_text",
    "soften",
    "span_text",
]

_STYLES = {"red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36", "bold": "1", "dim": "2"}
_GAP = "  "

STATUS_STYLES: dict[RunStatus | RequestStatus, str] = {
    RunStatus.WAITING: "dim",
    RunStatus.RUNNING: "cyan",
    RunStatus.SUCCESS: "green",
    RunStatus.ERROR: "red",
    RunStatus.TIMED_OUT: "red",
    RunStatus.KILLED: "yellow",
    RunStatus.SKIPPED: "yellow",
    RunStatus.MISFIRED: "yellow",
    RunStatus.ABANDONED: "magenta",
    RequestStatus.SCHEDULED: "green",
    RequestStatus.UNSCHEDULED: "yellow",
    RequestStatus.COMPLETE: "dim",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Where the terminal is too narrow, columns shrink to their *least* width (0: never), then the one with the highest
    *rank* is left out.
    """

    title: str
    rank: int = 0
    least: int = 0
    right: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table, and in which style."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where a command writes. *width*: ``None`` is no limit, as in a file or a pipe."""

    out: TextIO
    colour: bool = False
    width: int | None = None

    @classmethod
    def of(cls, out: TextIO, *, colour: bool | None = None) -> "Terminal":
        """Return the terminal that *out* is. *colour*: ``None`` decides by the terminal and by NO_COLOR."""
        on_terminal = out.isatty()
        wide = shutil.get_terminal_size().columns if on_terminal else None
        wanted = on_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(out, wanted if colour is None else colour, wide)

    def say(self, text: str = "", style: str = "") -> None:
        """Write a line in one style."""
        self.line(Cell(text, style))

    def line(self, *parts: "str | Cell") -> None:
        """Write a line of parts, each in its style, where colour is wanted."""
        print("".join(self._painted(part) for part in parts), file=self.out)

    def _painted(self, part: "str | Cell") -> str:
        cell = _cell(part)
        if not (self.colour and cell.text and cell.style):
            return cell.text
        codes = ";".join(_STYLES[word] for word in cell.style.split())
        return f"\033[{codes}m{cell.text}\033[0m"

    def json(self, value: Any, *, indent: int | None = 2) -> None:
        """Write a value as JSON, in ASCII."""
        print(json.dumps(value, indent=indent), file=self.out)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]]) -> None:
        """Write a table: cells are cut, and columns left out, until it fits."""
        cells = [[_cell(value) for value in row] for row in rows]
        widths = _fitted(columns, cells, self.width)
        titles = _row([Cell(column.title) for column in columns], columns, widths)
        self.say("".join(cell.text for cell in titles), "dim")
        for row in cells:
            self.line(*_row(row, columns, widths))


def _cell(value: str | Cell) -> Cell:
    return Cell(one_line(value)) if isinstance(value, str) else Cell(one_line(value.text), value.style)


def _row(row: Sequence[Cell], columns: Sequence[Column], widths: dict[int, int]) -> list[Cell]:
    """Return the parts of a row, without blanks at its end."""
    parts: list[Cell] = []
    for place, width in widths.items():
        cell = Cell(_cut(row[place].text, width), row[place].style)
        blank = Cell(" " * (width - _wide(cell.text)))
        parts += [blank, cell] if columns[place].right else [cell, blank]
        parts.append(Cell(_GAP))
    while parts and not parts[-1].text.strip():
        parts.pop()
    return parts


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], room: int | None) -> dict[int, int]:
    """Return the columns to show, by their place, with their widths."""
    natural = {
        place: max([_wide(column.title), *(_wide(row[place].text) for row in rows)])
        for place, column in enumerate(columns)
    }
    kept = list(natural)
    while room is not None:
        widths = {place: natural[place] for place in kept}
        too_wide = sum(widths.values()) + len(_GAP) * (len(kept) - 1) - room
        too_wide = _shrink(widths, columns, too_wide)
        if too_wide <= 0:
            return widths
        if len(kept) == 1:
            return {kept[0]: max(1, room)}
        kept.remove(max(kept, key=lambda place: columns[place].rank))
    return natural


def _shrink(widths: dict[int, int], columns: Sequence[Column], too_wide: int) -> int:
    """Take from the column that has most to give, one by one; return what is still too much."""
    while too_wide > 0:
        spare = {place: width - (columns[place].least or width) for place, width in widths.items()}
        widest = max(spare, key=lambda place: spare[place])
        if spare[widest] <= 0:
            return too_wide
        widths[widest] -= 1
        too_wide -= 1
    return too_wide


def one_line(text: str) -> str:
    """Return *text* on one line, without characters that steer a terminal."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "\ufffd" for char in text)


def _wide(text: str) -> int:
    """Return how many cells of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _cut(text: str, width: int) -> str:
    if _wide(text) <= width:
        return text
    while text and _wide(text) >= width:
        text = text[:-1]
    return text + "…"


def clock_time(at: datetime | None, now: datetime | None = None) -> str:
    """Return an instant in the local time of this machine: the time if it is today, else the date with it."""
    if at is None:
        return ""
    local = at.astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"


def span_text(span: timedelta | None) -> str:
    """Return a span with the two units that matter."""
    if span is None:
        return ""
    seconds = span.total_seconds()
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 1:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004  seconds, minutes, hours: the clock's own numbers
        return f"{sign}{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours:02}h"
    return f"{sign}{hours}h {minutes:02}m" if hours else f"{sign}{minutes}m {seconds:02}s"


def params_text(params: dict[str, Any]) -> str:
    """Return params as ``name=value, ...``."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in params.items()
    )


def soften(out: TextIO) -> None:
    """Let a terminal that has not every character show a ``?`` instead of failing."""
    if out is sys.stdout or out is sys.stderr:
        reconfigure = getattr(out, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
