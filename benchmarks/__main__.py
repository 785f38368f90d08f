"""Measure bgsched and its peers side by side.

Prints medians, the targets and what came of them; the JSON file has every round, the machine and the versions. All
parts together take some ten minutes on two cores that have nothing else to do.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.check import check
from benchmarks.parts import KEPT, PARTS
from benchmarks.race import CaseFailedError, Outcome, Part, command, race
from benchmarks.report import dump, fill_page, load, machine, print_outcome, print_targets


def main() -> int:
    """Read the command line; return 1 if a contender failed, or a check."""
    parser = _parser()
    asked = parser.parse_args()
    if unknown := set(asked.parts) - {part.name for part in PARTS}:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(part.name for part in PARTS)}")
    with tempfile.TemporaryDirectory(prefix="bgsched-bench-") as folder:
        session = Path(folder)
        if asked.check:
            return 0 if all(verdict.held for verdict in check(KEPT, session)) else 1
        if asked.profile:
            return _profile(asked.profile, session)
        parts = [part for part in PARTS if part.name in asked.parts or not asked.parts]
        on, outcomes = load(asked.load, parts) if asked.load else _measure(parts, session, asked.rounds, asked.json)
    for outcome in outcomes if asked.load else ():
        print_outcome(outcome)
    print_targets(outcomes)
    if asked.page:
        fill_page(asked.page, on, outcomes)
    return 0 if len(outcomes) == len(parts) or asked.load else 1


def _parser() -> argparse.ArgumentParser:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(names)}; all by default")
    parser.add_argument("--rounds", type=int, help="how often the contenders take turns; each part has its default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
    parser.add_argument("--load", type=Path, metavar="FILE", help="show what an earlier --json wrote; measure nothing")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the tables into a page, between its marks")
    parser.add_argument("--check", action="store_true", help="only a short comparison that fails on a regression")
    parser.add_argument("--profile", choices=names, metavar="PART", help="only show where bgsched's time goes there")
    return parser


def _measure(
    parts: Sequence[Part], session: Path, rounds: int | None, file: Path | None
) -> tuple[dict[str, Any], list[Outcome]]:
    on, outcomes = machine(), list[Outcome]()
    for part in parts:
        began = time.perf_counter()
        try:
            outcome = Outcome(part, list(race(part, session, rounds)))
        except CaseFailedError as error:
            print(f"\n{part.name}: not measured, {error}", file=sys.stderr)
            continue
        outcomes.append(outcome)
        print_outcome(outcome)
        if file:
            dump(file, on, outcomes)
        print(f"({time.perf_counter() - began:.0f} s)", flush=True)
    return on, outcomes


def _profile(name: str, session: Path) -> int:
    part = next(part for part in PARTS if part.name == name)
    with tempfile.TemporaryDirectory(dir=session) as folder:
        return subprocess.run([*command(part.cases[0], Path(folder)), "--profile"], check=False).returncode


sys.exit(main())
