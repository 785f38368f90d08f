"""Does bgsched still keep its distance? Each target is met in one of a few alternations, or it has regressed.

Noise makes a figure worse far more often than better, and hits one side of a round alone; so the best of a few rounds
against a wide bound tells a regression from a busy machine. No absolute time is judged.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.race import Outcome, Part, Target, Verdict, race

__all__ = ["ALTERNATIONS", "check"]

ALTERNATIONS = 4


def check(parts: Sequence[Part], session: Path) -> list[Verdict]:
    """Return what each target came to at its best; print each as it comes."""
    return [verdict for part in parts for verdict in _check_part(part, session)]


def _check_part(part: Part, session: Path) -> list[Verdict]:
    best: dict[Target, Verdict] = {}
    for figures in race(part, session, ALTERNATIONS):
        for verdict in Outcome(part, [figures]).verdicts():
            if verdict.target not in best or not best[verdict.target].held:
                best[verdict.target] = verdict
        if all(verdict.held for verdict in best.values()):
            break
    for verdict in best.values():
        said = "ok  " if verdict.held else "FAIL"
        print(f"{said} {part.what}: {verdict.target.figure} {verdict.value:.2f}, must be {verdict.target}", flush=True)
    return list(best.values())
