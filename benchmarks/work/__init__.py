"""The work that is measured, one module for each kind: what bgsched does stands beside what its peers do.

A work is a function ``(size, folder) -> {figure: value}``, named ``module.function``. It runs in an OS process of its
own, which prints the figures as one JSON object: ``python -m benchmarks.work oneshots.bgsched_memory 20000 /tmp/x``.

All run the same process that does nothing, on ten workers. Where there is a disk the settings are durable: SQLite with
``synchronous=FULL``, PostgreSQL with ``fsync`` and ``synchronous_commit``. bgsched keeps its run records and captures
logs, as it does by default.
"""

from collections.abc import Callable
from pathlib import Path

__all__ = ["WORKERS", "Figures", "Work", "url", "value"]

WORKERS = 10
Figures = dict[str, float]
Work = Callable[[int, Path], Figures]


def url(folder: Path) -> str:
    """Return the address of the store that a work of bgsched keeps in its folder."""
    return f"sqlite:///{folder}/bgsched.db"


def value(ordered: list[float], share: float) -> float:
    """Return the value below which *share* of the sorted ones lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
