"""Background processes inside your application: schedule them, run them exactly once, see what happened."""

import typing

from bgsched._current import CurrentRun, current_run
from bgsched._events import Event, RequestScheduled, RequestUnscheduled, RunFinished, RunRetried, RunStarted
from bgsched._executors.choice import ProcessPool, RemoteExecutor
from bgsched._group import ProcessGroup
from bgsched.clock import Clock, SystemClock
from bgsched.errors import (
    BgschedError,
    CronError,
    ExecutorError,
    IllegalTransitionError,
    MissingExtraError,
    NoCurrentRunError,
    ParamsError,
    ProcessNameError,
    RequestExistsError,
    RunKilled,
    SchedulerStateError,
    StoreError,
    StoreSchemaError,
    StoreUnavailableError,
    StoreURLError,
    TimingError,
    UnknownProcessError,
    UnknownRequestError,
    UnknownRunError,
    WorkerDiedError,
)
from bgsched.monitor import Bucket, Health, Monitor
from bgsched.process import Process, ProcessRegistry
from bgsched.request import Misfire, OnAbandon, Overlap, Request, RequestStatus, Retention, Retry, UnreadableTiming
from bgsched.run import Attempt, LogLine, Progress, Run, RunError, RunStatus
from bgsched.scheduler import Scheduler, ShutdownReport
from bgsched.stores import MemoryStore, SQLiteStore, open_store
from bgsched.stores.base import Ended, Page, SchedulerRecord, Store, StoreReader, Summary
from bgsched.timing import (
    FR,
    MO,
    SA,
    SU,
    TH,
    TU,
    WE,
    WEEKDAYS,
    WEEKENDS,
    Cron,
    Daily,
    EveryMinutes,
    EverySeconds,
    Frequency,
    Hourly,
    Immediate,
    Later,
    Monthly,
    Recurrence,
    Schedule,
    Timing,
    TimingWarning,
    Weekly,
    timing_from_dict,
)

if typing.TYPE_CHECKING:
    from bgsched.stores.postgres import PostgresStore as PostgresStore

# PostgresStore is public too. It is not listed here because `from bgsched import *` would load it, and fail without its
# extra.
__all__ = [
    "FR",
    "MO",
    "SA",
    "SU",
    "TH",
    "TU",
    "WE",
    "WEEKDAYS",
    "WEEKENDS",
    "Attempt",
    "BgschedError",
    "Bucket",
    "Clock",
    "Cron",
    "CronError",
    "CurrentRun",
    "Daily",
    "Ended",
    "Event",
    "EveryMinutes",
    "EverySeconds",
    "ExecutorError",
    "Frequency",
    "Health",
    "Hourly",
    "IllegalTransitionError",
    "Immediate",
    "Later",
    "LogLine",
    "MemoryStore",
    "Misfire",
    "MissingExtraError",
    "Monitor",
    "Monthly",
    "NoCurrentRunError",
    "OnAbandon",
    "Overlap",
    "Page",
    "ParamsError",
    "Process",
    "ProcessGroup",
    "ProcessNameError",
    "ProcessPool",
    "ProcessRegistry",
    "Progress",
    "Recurrence",
    "RemoteExecutor",
    "Request",
    "RequestExistsError",
    "RequestScheduled",
    "RequestStatus",
    "RequestUnscheduled",
    "Retention",
    "Retry",
    "Run",
    "RunError",
    "RunFinished",
    "RunKilled",
    "RunRetried",
    "RunStarted",
    "RunStatus",
    "SQLiteStore",
    "Schedule",
    "Scheduler",
    "SchedulerRecord",
    "SchedulerStateError",
    "ShutdownReport",
    "Store",
    "StoreError",
    "StoreReader",
    "StoreSchemaError",
    "StoreURLError",
    "StoreUnavailableError",
    "Summary",
    "SystemClock",
    "Timing",
    "TimingError",
    "TimingWarning",
    "UnknownProcessError",
    "UnknownRequestError",
    "UnknownRunError",
    "UnreadableTiming",
    "Weekly",
    "WorkerDiedError",
    "current_run",
    "open_store",
    "timing_from_dict",
]

if not typing.TYPE_CHECKING:  # to a type checker, a module with __getattr__ has every name that anybody may misspell

    def __getattr__(name: str) -> typing.Any:
        """Load what needs an extra only when it is asked for."""
        if name == "PostgresStore":
            from bgsched.stores.postgres import PostgresStore  # noqa: PLC0415  see above

            return PostgresStore
        raise AttributeError(f"module 'bgsched' has no attribute {name!r}")
