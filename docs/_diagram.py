"""The diagram of the statuses, drawn from the table that the code obeys. Needs nothing of Sphinx.

A status that is new in the table is placed by its moves.
"""

from collections.abc import Mapping
from html import escape

from bgsched.run import RunStatus

Status = RunStatus | None
Table = Mapping[Status, frozenset[RunStatus]]

WIDE, HIGH, STEP, ROW = 96, 28, 168, 46
ORDER = list(RunStatus)


def name_of(status: Status) -> str:
    """Return the word for a status; ``None`` is what is not recorded yet."""
    return "fire time" if status is None else status.value


def places(table: Table) -> dict[Status, tuple[int, int]]:
    """Return the upper left corner of each status: how runs go from left to right, what never starts at the bottom."""
    ends = [status for status in ORDER if not table[status]]
    of_running = [status for status in ends if status in table[RunStatus.RUNNING]]
    never_started = [status for status in ends if status not in of_running]
    never_started.sort(key=lambda status: sum(status in afters for afters in table.values()))  # so that no lines cross
    middle = (len(of_running) - 1) * ROW // 2 + 24
    at: dict[Status, tuple[int, int]] = {
        status: (column * STEP + 4, middle)
        for column, status in enumerate((None, RunStatus.WAITING, RunStatus.RUNNING))
    }
    at |= {status: (3 * STEP + 4, row * ROW + 24) for row, status in enumerate(of_running)}
    bottom = len(of_running) * ROW + 40
    return at | {status: (column * STEP + STEP // 2, bottom) for column, status in enumerate(never_started)}


def svg(table: Table) -> str:
    """Return the diagram."""
    at = places(table)
    width = max(x for x, _ in at.values()) + WIDE + 4
    height = max(y for _, y in at.values()) + HIGH + 4
    edges = [_edge(at, before, after) for before, afters in table.items() for after in sorted(afters, key=ORDER.index)]
    boxes = [_box(status, *place) for status, place in at.items()]
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Which status a run may go to from which" '
        'style="max-width: 44rem; width: 100%; color: inherit" font-family="monospace" font-size="13">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z" fill="currentColor"/></marker></defs>'
        f"{''.join(edges)}{''.join(boxes)}</svg>"
    )


def _box(status: Status, x: int, y: int) -> str:
    dashed = ' stroke-dasharray="4 3"' if status is None else ""
    return (
        f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="6" fill="none" stroke="currentColor"{dashed}/>'
        f'<text x="{x + WIDE // 2}" y="{y + 18}" text-anchor="middle" fill="currentColor">'
        f"{escape(name_of(status))}</text>"
    )


def _edge(at: Mapping[Status, tuple[int, int]], before: Status, after: RunStatus) -> str:
    (x1, y1), (x2, y2) = at[before], at[after]
    if before is after:
        path = f"M{x1 + 30} {y1} C{x1 + 10} {y1 - 40} {x1 + 86} {y1 - 40} {x1 + 66} {y1}"
    elif x2 < x1 and y1 == y2:  # back to the left: an arc above
        path = f"M{x1 + 30} {y1} C{x1} {y1 - 60} {x2 + 110} {y2 - 60} {x2 + 80} {y2}"
    elif y2 > y1 and y2 == max(y for _, y in at.values()):  # to what never starts: downwards
        path = f"M{x1 + 48} {y1 + HIGH} C{x1 + 48} {y1 + 90} {x2 + 48} {y2 - 60} {x2 + 48} {y2}"
    else:
        lift = 0 if x2 - x1 <= STEP else 60 if y2 > y1 else -30  # over a column: below the box between, or above it
        path = (
            f"M{x1 + WIDE} {y1 + HIGH // 2 + lift // 8} C{x1 + WIDE + 40} {y1 + HIGH // 2 + lift * 2} "
            f"{x2 - 60} {y2 + HIGH // 2} {x2} {y2 + HIGH // 2}"
        )
    label = f"{name_of(before)} to {name_of(after)}"
    return (
        f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity="0.6" marker-end="url(#tip)">'
        f"<title>{escape(label)}</title></path>"
    )
