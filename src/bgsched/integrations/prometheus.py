"""Metrics for Prometheus, computed from the store when they are scraped: any OS process may serve them.

    from prometheus_client import REGISTRY
    REGISTRY.register(ProcessCollector(scheduler.monitor))

Nothing is counted beside the runs, so a scrape costs a run nothing. The totals come from the store's hourly counts,
which outlive the runs; hours that are over are asked for once. Durations and lateness are quantiles of a window that
ends now, as a summary's are.
"""

import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from bgsched.errors import MissingExtraError, StoreError
from bgsched.monitor import Monitor
from bgsched.run import RunStatus
from bgsched.stores.base import Summary

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("prometheus_client"):
        raise
    raise MissingExtraError("bgsched.integrations.prometheus", "prometheus") from error

__all__ = ["ProcessCollector"]

_SETTLED = timedelta(hours=2)  # no scheduler whose clock is anything like right counts into an hour so long ago
_LOOKED_AT = 200  # of what is due: what nobody has comes to the head of it, as the rest goes on
_QUANTILES = (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))


class ProcessCollector(Collector):
    """Collects the figures of the processes that *monitor* sees.

    *window*: how far back durations and lateness are looked at. A store that does not answer makes no scrape fail:
    ``bgsched_store_up`` is 0 then, and the rest is missing.
    """

    def __init__(self, monitor: Monitor, *, window: timedelta = timedelta(hours=1)) -> None:
        self._monitor = monitor
        self._window = window
        self._lock = threading.Lock()
        self._settled: dict[tuple[str, RunStatus], int] = {}
        self._settled_until: datetime | None = None

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not ask the store."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        up = GaugeMetricFamily("bgsched_store_up", "Whether the store answers.")
        try:
            metrics = self._metrics(datetime.now(UTC))
        except StoreError:
            metrics = []
        up.add_metric([], 1 if metrics else 0)
        yield from (up, *metrics)

    def _metrics(self, now: datetime) -> list[Metric]:
        totals = self._totals(now)
        schedulers = self._monitor.schedulers()
        processes = {process for process, _ in totals} | {name for record in schedulers for name in record.processes}
        processes |= self._awaited(now)
        runs = CounterMetricFamily("bgsched_runs", "Fire times that came to an end.", labels=["process", "status"])
        for (process, status), count in sorted(totals.items()):
            runs.add_metric([process, status.value], count)
        up = GaugeMetricFamily("bgsched_scheduler_up", "Whether the lease is renewed.", labels=["host", "pid"])
        # a container that starts again has the name and the number of the one whose lease has yet to run out
        alive = {(record.host, str(record.pid)) for record in schedulers if record.is_alive(now)}
        for labels in sorted({(record.host, str(record.pid)) for record in schedulers}):
            up.add_metric(labels, 1 if labels in alive else 0)
        return [runs, up, *self._by_process(sorted(processes), now)]

    def _awaited(self, now: datetime) -> set[str]:
        """Return the processes of what is due or waits: it may be that nobody has them, and nothing of them ended."""
        due = [request for request in self._monitor.upcoming(_LOOKED_AT) if request.due_at and request.due_at <= now]
        return {request.process for request in due} | self._monitor.active_processes()

    def _totals(self, now: datetime) -> dict[tuple[str, RunStatus], int]:
        """Return the totals of all time, asking only for the hours that may have changed since the last scrape."""
        settled_until = now.replace(minute=0, second=0, microsecond=0) - _SETTLED
        with self._lock:
            if self._settled_until is not None and settled_until < self._settled_until:  # the clock was ahead
                self._settled, self._settled_until = {}, None
            if self._settled_until is None or self._settled_until < settled_until:
                for ended in self._monitor.totals(self._settled_until, settled_until):
                    key = ended.process or "", ended.status
                    self._settled[key] = self._settled.get(key, 0) + ended.count
                self._settled_until = settled_until
            totals = dict(self._settled)
        for ended in self._monitor.totals(settled_until):
            key = ended.process or "", ended.status
            totals[key] = totals.get(key, 0) + ended.count
        return totals

    def _by_process(self, processes: Iterable[str], now: datetime) -> list[Metric]:
        duration = Metric("bgsched_run_duration_seconds", "How long runs took, over the last window.", "summary")
        lateness = Metric("bgsched_run_lateness_seconds", "How long after their fire time runs began.", "summary")
        next_due = GaugeMetricFamily(
            "bgsched_next_fire_timestamp_seconds", "When the process is due next.", labels=["process"]
        )
        success = GaugeMetricFamily(
            "bgsched_last_success_timestamp_seconds", "When a run last succeeded.", labels=["process"]
        )
        for process in processes:
            figures = self._monitor.summary(process, now - self._window)
            _add_quantiles(duration, process, figures, "duration")
            _add_quantiles(lateness, process, figures, "lateness")
            if (due_at := self._monitor.next_due(process)) is not None:
                next_due.add_metric([process], due_at.timestamp())
            newest = (
                [figures.last_success]
                if figures.last_success
                else self._monitor.runs(process, status=RunStatus.SUCCESS, limit=1)
            )
            for run in newest:
                if run.finished_at is not None:
                    success.add_metric([process], run.finished_at.timestamp())
        return [duration, lateness, next_due, success]


def _add_quantiles(metric: Metric, process: str, figures: Summary, name: str) -> None:
    for quantile, part in _QUANTILES:
        span: timedelta | None = getattr(figures, f"{name}_{part}")
        if span is not None:
            metric.add_sample(metric.name, {"process": process, "quantile": quantile}, span.total_seconds())
