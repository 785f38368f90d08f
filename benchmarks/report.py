"""The figures as a table on the terminal, as Markdown in a page, and as JSON."""

import json
import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.race import Outcome, Part, Verdict
from benchmarks.work import WORKERS

__all__ = ["dump", "fill_page", "load", "machine", "print_outcome", "print_targets"]

_PEERS = ("apscheduler", "huey", "procrastinate", "sqlalchemy", "croniter", "cronsim", "python-dateutil", "psycopg")
_BEGIN, _END = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->\n"

Table = list[list[str]]


def machine() -> dict[str, Any]:
    """Return on what is measured: no names of hosts."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "load": [round(load, 1) for load in os.getloadavg()],
        "versions": {name: version(name) for name in ("bgsched", *_PEERS)},
        "settings": {"workers": WORKERS, "SQLite": "WAL, synchronous=FULL", "PostgreSQL": "fsync=on"},
    }


# -- the terminal ----------------------------------------------------------------------------------------------------


def print_outcome(outcome: Outcome) -> None:
    """Print one part's table."""
    print(f"\n{outcome.part.name}: {outcome.part.what} (median of {len(outcome.rounds)})")
    _print(_figures(outcome))


def print_targets(outcomes: Sequence[Outcome]) -> None:
    """Print what came of the targets."""
    print("\ntargets")
    _print(_targets(outcomes))


def _print(table: Table) -> None:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([row[0].ljust(len(first)), *others]), flush=True)


# -- tables ----------------------------------------------------------------------------------------------------------


def _figures(outcome: Outcome) -> Table:
    names = outcome.figures()
    rows = [["", "size", *names]]
    for case in outcome.part.cases:
        known = outcome.rounds[0][case.who]
        cells = (_number(outcome.median(case.who, name)) if name in known else "" for name in names)
        rows.append([case.who, f"{case.size:,}", *cells])
    return rows


def _targets(outcomes: Iterable[Outcome]) -> Table:
    rows = [["what", "figure", "of", "target", "measured", "met", "of the floor"]]
    for outcome in outcomes:
        rows += [_target(outcome, verdict) for verdict in outcome.verdicts()]
    return rows


def _target(outcome: Outcome, verdict: Verdict) -> list[str]:
    target = verdict.target
    floor = "" if verdict.of_floor is None else f"{100 * verdict.of_floor:.0f} %"
    met = "yes" if verdict.held else "NO"
    return [outcome.part.name, target.figure, target.row, str(target), _number(verdict.value), met, floor]


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


# -- the page --------------------------------------------------------------------------------------------------------


def fill_page(page: Path, on: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Put the tables between the marks in a page.

    Raises:
        ValueError: the page has no such marks.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{page} has no lines {_BEGIN.strip()!r} and {_END.strip()!r}: add them where the tables go")
    page.write_text(before + begin + _markdown(on, outcomes) + end + after, encoding="utf-8")


def _markdown(on: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in on["versions"].items())
    on_what = (
        f"Measured on {on['cores']} cores, {on['system']}, Python {on['Python']}, SQLite {on['SQLite']}, at a load of "
        f"{on['load'][0]} when it began, with {versions}."
    )
    blocks = [
        on_what,
        "### Targets",
        _markdown_table(_targets(outcomes)),
    ]
    for outcome in outcomes:
        blocks += [f"### {outcome.part.what}", _markdown_table(_figures(outcome))]
    return "\n" + "\n\n".join(blocks) + "\n\n"


def _markdown_table(table: Table) -> str:
    head, *rows = table
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


# -- JSON ------------------------------------------------------------------------------------------------------------


def dump(file: Path, on: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write everything that was measured, each round of it."""
    parts = {outcome.part.name: list(outcome.rounds) for outcome in outcomes}
    file.write_text(json.dumps({"machine": on, "rounds": parts}, indent=1) + "\n", encoding="utf-8")


def load(file: Path, parts: Iterable[Part]) -> tuple[dict[str, Any], list[Outcome]]:
    """Read what `dump` wrote."""
    read = json.loads(file.read_text(encoding="utf-8"))
    found = [Outcome(part, read["rounds"][part.name]) for part in parts if part.name in read["rounds"]]
    return read["machine"], found
