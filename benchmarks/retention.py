"""What retention does to the work beside it: how late 200 runs a second are, without and with a purge of old runs.

    python -m benchmarks.retention [--store URL | --postgres] [--runs N] [--seconds N]

The two take turns in one run, on the store of `benchmarks.monitor`, which is filled where it is empty. For each bite it
measures how long its transaction was open: from when it has its locks until it has committed.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from benchmarks.monitor import DAYS, add_store_options, busy, filled_store
from bgsched import Monitor, Retention, Store, _purging
from bgsched.stores._steps import Transaction
from bgsched.stores.base import Bite

RUNS_A_SECOND = 200
KEEP = Retention(success=None, other=None)
PURGE = Retention(success=timedelta(days=DAYS / 2), other=timedelta(days=DAYS / 2))


@dataclass
class Bites:
    """What the bites of a purge did, and for how long their transactions were open: wall clock and CPU, in ms."""

    runs: int = 0
    open: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    @contextmanager
    def watch(self, store: Store) -> Iterator[None]:
        """Look on while the store purges."""
        purge, transaction = store.purge, store.transaction

        @contextmanager
        def timed() -> Iterator[Transaction]:
            opened = worked = 0.0
            with transaction() as tx:
                opened, worked = time.perf_counter(), time.thread_time()
                yield tx
            self.open.append(1000 * (time.perf_counter() - opened))
            self.cpu.append(1000 * (time.thread_time() - worked))

        def watched(*words: Any, **named: Any) -> Bite:
            began = time.perf_counter()
            with _replaced(store, "transaction", timed):
                bite = purge(*words, **named)
            self.took.append(1000 * (time.perf_counter() - began))
            self.runs += bite.runs
            return bite

        with _replaced(store, "purge", watched):
            yield

    def __str__(self) -> str:
        if not self.open:
            return "nothing was deleted"
        parts = {"open": self.open, "of which CPU of ours": self.cpu, "with looking": self.took}
        figures = [
            f"{name}: median {statistics.median(spent):.1f}, p99 {sorted(spent)[len(spent) * 99 // 100]:.1f}, "
            f"longest {max(spent):.1f} ms"
            for name, spent in parts.items()
        ]
        return f"{self.runs} runs in {len(self.open)} transactions; " + "; ".join(figures)


@contextmanager
def _replaced(store: Store, name: str, value: object) -> Iterator[None]:
    with patch.object(store, name, value):
        yield


def compare(store: Store, seconds: float, rounds: int = 2) -> None:
    """Print the lateness without and with a purge, in turns."""
    for _ in range(rounds):
        for name, retention in (("without", KEEP), ("with", PURGE)):
            bites = Bites()
            quick: AbstractContextManager[object] = patch.object(_purging, "_FIRST", 1.0)
            with quick, bites.watch(store), busy(store, RUNS_A_SECOND, retention) as scheduler:
                time.sleep(seconds)
                print(f"{name:8}a purge: {lateness(scheduler.monitor, seconds - 2)}", flush=True)
            if retention is PURGE:
                print(f"        {bites}", flush=True)


def lateness(monitor: Monitor, seconds: float) -> str:
    """Return how late the runs of the last *seconds* were, and how many there were."""
    found = monitor.summary("beside", since=datetime.now(UTC) - timedelta(seconds=seconds))
    parts = (found.lateness_p50, found.lateness_p95, found.lateness_p99)
    late = " / ".join(f"{1000 * (part or timedelta(0)).total_seconds():.1f}" for part in parts)
    return f"{sum(found.counts.values()) / seconds:.0f} runs/s, lateness p50 / p95 / p99: {late} ms"


def main() -> None:
    """Fill a store, and purge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_store_options(parser)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the four turns")
    args = parser.parse_args()
    with filled_store(args) as (store, _):
        compare(store, args.seconds)


if __name__ == "__main__":
    main()
