"""The host of a simulation: its processes, and the timings that its users choose."""

from datetime import datetime, time, timedelta
from random import Random

from bgsched.request import Misfire, OnAbandon, Overlap, Policies, Retry
from bgsched.timing import (
    Cron,
    Daily,
    EveryMinutes,
    EverySeconds,
    Hourly,
    Immediate,
    Later,
    Recurrence,
    Schedule,
    Timing,
)

__all__ = ["BY_COMPANY", "PROCESSES", "timing_of", "work"]

_SECOND = timedelta(seconds=1)

PROCESSES: dict[str, Policies] = {
    "plain": Policies(),
    "allow": Policies(overlap=Overlap.ALLOW),
    "queue": Policies(overlap=Overlap.QUEUE),
    "replace": Policies(overlap=Overlap.REPLACE),
    "single": Policies(overlap_scope="process"),
    "line": Policies(overlap=Overlap.QUEUE, overlap_scope="process"),
    "crowd": Policies(overlap=Overlap.REPLACE, overlap_scope="process"),
    "rerun": Policies(on_abandon=OnAbandon.RERUN, max_reruns=2),
    "rerun-all": Policies(on_abandon=OnAbandon.RERUN, max_reruns=1, overlap=Overlap.ALLOW, misfire=Misfire.RUN_ALL),
    "retry": Policies(retry=Retry(attempts=3, delay=5 * _SECOND)),
    "skipper": Policies(misfire=Misfire.SKIP, misfire_grace=5 * _SECOND),
    "catcher": Policies(misfire=Misfire.RUN_ALL, misfire_grace=5 * _SECOND),
}
"""The processes of the simulated host, one for each policy and the pairs that meet."""

BY_COMPANY: dict[str, Policies] = {
    f"{overlap.value}-by-company": Policies(overlap=overlap, overlap_scope=("company",))
    for overlap in (Overlap.SKIP, Overlap.QUEUE, Overlap.REPLACE)
}
"""Further ones, of a host with groups: they take a param, by which their overlap is judged."""


def work(company: str = "a") -> None:
    """Do nothing: what comes of a run, and when, the world decides."""


def timing_of(random: Random, now: datetime) -> Timing:
    """Return a timing that a user might choose at *now*."""
    soon = now + random.uniform(-30, 60) * _SECOND
    frequencies = (
        EverySeconds(random.choice((1, 2, 7, 30))),
        EverySeconds(random.choice((1, 5))),
        EveryMinutes(random.choice((1, 10))),
        Hourly(),
        Daily(at=time(0, 30)),
        Cron("*/2 * * * *"),
        Recurrence("FREQ=MINUTELY;INTERVAL=3"),
        (EverySeconds(20), EverySeconds(30)),
    )
    kind = random.randrange(10)
    if kind < 2:  # noqa: PLR2004  two in ten
        return Immediate()
    if kind < 4:  # noqa: PLR2004  two more
        return Later(soon)
    bounds: tuple[dict[str, object], ...] = (
        {},
        {},
        {"repetitions": random.randint(1, 6)},
        {"finish": now + random.uniform(1, 120) * _SECOND},
        {"start": soon},
        {"jitter": random.uniform(0, 5) * _SECOND},
    )
    return Schedule(random.choice(frequencies), **random.choice(bounds))  # type: ignore[arg-type]  # by the table
