"""Contenders in alternation: what a part of the measurements is, how its cases take turns, what comes of the figures.

A case is one contender's work of one size. Each time it runs in a fresh OS process with a folder of its own, so that
nobody inherits another's memory, threads or warm file. Rounds go forwards and backwards in turn, so that a machine that
gets slower or busier favours nobody. A figure is the median of its rounds; a ratio is the median of the ratios within
each round, because what stood side by side in time is what may be compared.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.work import Figures

__all__ = ["Case", "CaseFailedError", "Outcome", "Part", "Target", "Verdict", "command", "grown", "measure", "race"]

_ROOT = Path(__file__).parent.parent
_LONGEST = 300  # seconds


@dataclass(frozen=True)
class Case:
    """Someone who does a work of some size; *who* is its row in the table."""

    who: str
    work: str
    size: int


@dataclass(frozen=True)
class Target:
    """How *row*'s figure shall stand to that of *against*, or to 1 without it; and what is its floor."""

    figure: str
    row: str
    against: str | None = None
    at_least: float = 0.0
    at_most: float = math.inf
    floor: str | None = None

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least else f"<= {self.at_most:g}"
        return f"{bound} x {self.against}" if self.against else bound


@dataclass(frozen=True)
class Part:
    """What is measured side by side: the cases, and what shall come of it."""

    name: str
    what: str
    cases: tuple[Case, ...]
    targets: tuple[Target, ...] = ()
    rounds: int = 3


class CaseFailedError(Exception):
    """A contender ended without figures."""

    def __init__(self, case: Case, said: str) -> None:
        self.case = case
        super().__init__(f"{case.who} ({case.work}, {case.size}) failed:\n{said}")


@dataclass(frozen=True)
class Verdict:
    """What a target came to."""

    target: Target
    value: float
    of_floor: float | None

    @property
    def held(self) -> bool:
        """Return whether the target is met."""
        return self.target.at_least <= self.value <= self.target.at_most


@dataclass(frozen=True)
class Outcome:
    """The figures of a part, one of each case for each round."""

    part: Part
    rounds: Sequence[dict[str, Figures]]  # by case.who

    def median(self, who: str, figure: str) -> float:
        """Return the median of a figure."""
        return statistics.median(figures[who][figure] for figures in self.rounds)

    def figures(self) -> list[str]:
        """Return the names of all figures, in the order of their coming."""
        return list(dict.fromkeys(name for case in self.part.cases for name in self.rounds[0][case.who]))

    def verdicts(self) -> list[Verdict]:
        """Judge the part's targets."""
        return [self._judge(target) for target in self.part.targets]

    def _judge(self, target: Target) -> Verdict:
        value = self._ratio(target, target.against) if target.against else self.median(target.row, target.figure)
        return Verdict(target, value, self._ratio(target, target.floor) if target.floor else None)

    def _ratio(self, target: Target, other: str) -> float:
        return statistics.median(
            figures[target.row][target.figure] / figures[other][target.figure] for figures in self.rounds
        )


def grown(who: str, work: str, sizes: Sequence[int]) -> tuple[Case, ...]:
    """Return the same work at growing sizes; *who* has a ``{}`` for the size."""
    return tuple(Case(who.format(f"{size:,}"), work, size) for size in sizes)


def race(part: Part, session: Path, rounds: int | None = None) -> Iterator[dict[str, Figures]]:
    """Let the cases take turns; yield each round."""
    for number in range(rounds or part.rounds):
        turn = part.cases[:: -1 if number % 2 else 1]
        yield {case.who: measure(case, session) for case in turn}


def measure(case: Case, session: Path) -> Figures:
    """Let one case do its work; what a session makes once is kept in the folder *session*.

    Raises:
        CaseFailedError: it did not print its figures.
    """
    with tempfile.TemporaryDirectory(dir=session) as folder:
        try:
            done = subprocess.run(
                command(case, Path(folder)), cwd=_ROOT, capture_output=True, text=True, timeout=_LONGEST, check=True
            )
        except subprocess.CalledProcessError as error:
            raise CaseFailedError(case, error.stderr) from error
        except subprocess.TimeoutExpired as error:
            raise CaseFailedError(case, f"it took longer than {_LONGEST} s") from error
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def command(case: Case, folder: Path) -> list[str]:
    """Return how a case is run."""
    return [sys.executable, "-W", "ignore", "-m", "benchmarks.work", case.work, str(case.size), str(folder)]
