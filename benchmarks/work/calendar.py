"""The next fire time: six usual cron expressions in two zones, then Daily, Weekly and Monthly."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.calendar import Row, cron_rows, dated_rows, geometric_mean
from benchmarks.work import Figures


def cron(size: int, folder: Path) -> Figures:
    """Ask for *size* rounds beside croniter, cronsim and APScheduler."""
    return _figures(cron_rows(size))


def dated(size: int, folder: Path) -> Figures:
    """Ask for *size* rounds beside dateutil and APScheduler."""
    return _figures(dated_rows(size))


def _figures(rows: Sequence[Row]) -> Figures:
    return {
        "slowest us": max(row.ours for row in rows),
        "fastest peer / bgsched": geometric_mean(rows),
        "least of all": min(row.ratio for row in rows),
    }
