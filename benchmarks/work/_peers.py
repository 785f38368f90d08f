"""APScheduler 3, set up alike for every work: ten threads, and nothing is dropped for being late."""

from pathlib import Path
from typing import Any

from benchmarks.work import WORKERS

__all__ = ["apscheduler"]


def apscheduler(folder: Path | None = None) -> Any:
    """Return a scheduler of APScheduler, in memory or, by SQLAlchemy, on an SQLite file in *folder*.

    SQLite's default is ``synchronous=FULL``; SQLAlchemy leaves it as it is.
    """
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.jobstores.memory import MemoryJobStore
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.background import BackgroundScheduler

    store = MemoryJobStore() if folder is None else SQLAlchemyJobStore(url=f"sqlite:///{folder}/apscheduler.db")
    return BackgroundScheduler(
        timezone="UTC",
        executors={"default": ThreadPoolExecutor(WORKERS)},
        job_defaults={"misfire_grace_time": None, "coalesce": False, "max_instances": 1_000_000},
        jobstores={"default": store},
    )
