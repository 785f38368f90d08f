"""What is measured, and the targets: ratios to peers in the same run. Sizes are such that each work takes seconds.

Rates of peers that are much slower are measured on less work, which favours them: none of them is quicker with more.
"""

from benchmarks.race import Case, Part, Target, grown

__all__ = ["KEPT", "PARTS"]

_X100 = (1_000, 10_000, 100_000)

PARTS = (
    Part(
        "memory",
        "One-shot runs through memory",
        (
            Case("bgsched", "oneshots.bgsched_memory", 20_000),
            Case("APScheduler", "oneshots.apscheduler_memory", 20_000),
            Case("floor: hand-off to ten threads", "floors.handoff", 20_000),
        ),
        (Target("runs/s", "bgsched", "APScheduler", at_least=3, floor="floor: hand-off to ten threads"),),
    ),
    Part(
        "sqlite",
        "One-shot runs through an SQLite file, synchronous=FULL",
        (
            Case("bgsched", "oneshots.bgsched_sqlite", 20_000),
            Case("APScheduler, SQLAlchemy", "oneshots.apscheduler_sqlite", 500),
            Case("Huey", "oneshots.huey_sqlite", 2_000),
            Case("floor: SQLite, batches of 100", "floors.sqlite_batches", 20_000),
            Case("floor: SQLite, singly", "floors.sqlite_singly", 500),
        ),
        (
            Target("runs/s", "bgsched", "APScheduler, SQLAlchemy", at_least=30, floor="floor: SQLite, batches of 100"),
            Target("runs/s", "bgsched", "Huey", at_least=6, floor="floor: SQLite, batches of 100"),
        ),
    ),
    Part(
        "postgres",
        "One-shot runs through PostgreSQL, fsync on, one scheduler",
        (
            Case("bgsched", "postgres.bgsched", 20_000),
            Case("Procrastinate", "postgres.procrastinate", 1_000),
            Case("floor: PostgreSQL, batches of 100", "postgres.floor_batches", 20_000),
            Case("floor: PostgreSQL, singly", "postgres.floor_singly", 1_000),
        ),
        (Target("runs/s", "bgsched", "Procrastinate", at_least=30, floor="floor: PostgreSQL, batches of 100"),),
        rounds=2,
    ),
    Part(
        "register",
        "Registration on an SQLite file, synchronous=FULL, singly and 20,000 at once",
        (
            Case("bgsched", "registration.bgsched_sqlite", 1_000),
            Case("APScheduler, SQLAlchemy", "registration.apscheduler_sqlite", 500),
            Case("floor: SQLite", "floors.sqlite_registration", 1_000),
        ),
        (
            Target("singly/s", "bgsched", "APScheduler, SQLAlchemy", at_least=10, floor="floor: SQLite"),
            Target("at once/s", "bgsched", "APScheduler, SQLAlchemy", at_least=100, floor="floor: SQLite"),
        ),
    ),
    Part(
        "lateness",
        "Lateness of schedules in memory that fire each second at the same instant",
        (
            Case("bgsched, 2,000", "lateness.bgsched_same", 2_000),
            Case("APScheduler, 2,000", "lateness.apscheduler_same", 2_000),
            Case("bgsched, 10,000", "lateness.bgsched_same", 10_000),
            Case("APScheduler, 10,000", "lateness.apscheduler_same", 10_000),
        ),
        (
            Target("p99 ms", "bgsched, 2,000", "APScheduler, 2,000", at_most=0.1),
            Target("p99 ms", "bgsched, 10,000", "APScheduler, 10,000", at_most=0.1),
        ),
        rounds=2,
    ),
    Part(
        "spread",
        "Lateness of schedules in memory that fire each second, spread over it",
        (
            Case("bgsched, 2,000", "lateness.bgsched_spread", 2_000),
            Case("APScheduler, 2,000", "lateness.apscheduler_spread", 2_000),
        ),
        (Target("p99 ms", "bgsched, 2,000", "APScheduler, 2,000", at_most=1),),
        rounds=2,
    ),
    Part(
        "idle",
        "Idle with 100,000 requests that are due tomorrow",
        (
            Case("bgsched, memory", "idle.bgsched_memory", 100_000),
            Case("bgsched, SQLite", "idle.bgsched_sqlite", 100_000),
            Case("APScheduler, memory", "idle.apscheduler_memory", 100_000),
        ),
        (
            Target("CPU ms/s", "bgsched, memory", at_most=1),
            Target("CPU ms/s", "bgsched, SQLite", at_most=1),
            Target("bytes/request", "bgsched, memory", "APScheduler, memory", at_most=1),
        ),
        rounds=1,
    ),
    Part(
        "start",
        "Start on an SQLite file with stored requests that are not due",
        grown("bgsched, {} stored", "stored.start", (10_000, 100_000, 1_000_000)),
        (
            Target("first run ms", "bgsched, 1,000,000 stored", at_most=1_000),
            Target("memory grown MB", "bgsched, 1,000,000 stored", "bgsched, 10,000 stored", at_most=1.5),
        ),
    ),
    Part(
        "beside",
        "Draining 10,000 one-shot requests from an SQLite file, then waking, beside requests that are not due",
        grown("bgsched, {} not due", "stored.beside_requests", (1_000, 10_000, 100_000, 1_000_000)),
        (Target("drained/s", "bgsched, 1,000,000 not due", "bgsched, 1,000 not due", at_least=0.8),),
        rounds=2,
    ),
    Part(
        "history",
        "Draining 10,000 one-shot requests from an SQLite file, then waking, beside runs that have ended",
        grown("bgsched, {} ended", "stored.beside_runs", (3_000, 30_000, 300_000)),
        (Target("drained/s", "bgsched, 300,000 ended", "bgsched, 3,000 ended", at_least=0.8),),
        rounds=1,
    ),
    Part(
        "mixed",
        "500 fires a second on an SQLite file, with a dashboard in the same OS process: five questions each 0.1 s",
        (Case("bgsched alone", "mixed.alone", 10), Case("bgsched, watched", "mixed.watched", 60)),
        rounds=1,
    ),
    Part(
        "shared",
        "One-shot runs of OS processes that share an SQLite file",
        (
            Case("bgsched, one OS process", "shared.one", 20_000),
            Case("bgsched, four OS processes", "shared.four", 20_000),
        ),
        (Target("runs/s", "bgsched, four OS processes", "bgsched, one OS process", at_least=0.8),),
    ),
    Part(
        "calendar",
        "The next fire time beside croniter, cronsim, dateutil and APScheduler, in two zones",
        (Case("six cron expressions", "calendar.cron", 7), Case("daily, weekly, monthly", "calendar.dated", 7)),
        (
            Target("fastest peer / bgsched", "six cron expressions", at_least=5),
            Target("least of all", "six cron expressions", at_least=1),
        ),
        rounds=1,
    ),
    Part(
        "growth-memory",
        "Growth: one-shot runs through memory",
        grown("bgsched, {}", "oneshots.bgsched_memory", _X100),
        rounds=1,
    ),
    Part(
        "growth-sqlite",
        "Growth: one-shot runs through an SQLite file",
        grown("bgsched, {}", "oneshots.bgsched_sqlite", _X100),
        rounds=1,
    ),
    Part(
        "growth-register",
        "Growth: registration on an SQLite file beside requests that are stored",
        grown("bgsched, {} stored", "registration.bgsched_beside", (10_000, 100_000, 1_000_000)),
        rounds=1,
    ),
    Part(
        "growth-lateness",
        "Growth: lateness of schedules in memory that fire each second at the same instant",
        grown("bgsched, {}", "lateness.bgsched_same", (100, 1_000, 10_000)),
        rounds=1,
    ),
    Part(
        "growth-idle",
        "Growth: idle with requests in memory, and in an SQLite file",
        grown("bgsched, memory, {}", "idle.bgsched_memory", _X100)
        + grown("bgsched, SQLite, {}", "idle.bgsched_sqlite", _X100),
        rounds=1,
    ),
    Part(
        "growth-beside",
        "Growth: draining 10,000 one-shot requests from memory, then waking, beside requests that are not due",
        grown("bgsched, {} not due", "stored.beside_memory", _X100),
        rounds=1,
    ),
)

# What every change must keep. Half of what is reached, or less, because other OS processes disturb one side only: a
# change that is meant to raise a bound measures it first with all of PARTS.
KEPT = (
    Part(
        "memory",
        "one-shot runs through memory",
        (
            Case("bgsched", "oneshots.bgsched_memory", 5_000),
            Case("APScheduler", "oneshots.apscheduler_memory", 5_000),
        ),
        (Target("runs/s", "bgsched", "APScheduler", at_least=0.4),),
    ),
    Part(
        "sqlite",
        "one-shot runs through an SQLite file",
        (
            Case("bgsched", "oneshots.bgsched_sqlite", 5_000),
            Case("APScheduler, SQLAlchemy", "oneshots.apscheduler_sqlite", 100),
            Case("Huey", "oneshots.huey_sqlite", 500),
        ),
        (
            Target("runs/s", "bgsched", "APScheduler, SQLAlchemy", at_least=6),
            Target("runs/s", "bgsched", "Huey", at_least=1.8),
        ),
    ),
    Part(
        "register",
        "registration on an SQLite file",
        (
            Case("bgsched", "registration.bgsched_sqlite", 200),
            Case("APScheduler, SQLAlchemy", "registration.apscheduler_sqlite", 100),
        ),
        (
            Target("singly/s", "bgsched", "APScheduler, SQLAlchemy", at_least=1.5),
            Target("at once/s", "bgsched", "APScheduler, SQLAlchemy", at_least=25),
        ),
    ),
    Part(
        "lateness",
        "lateness of 2,000 schedules that fire each second",
        (
            Case("bgsched", "lateness.bgsched_same", 2_000),
            Case("APScheduler", "lateness.apscheduler_same", 2_000),
        ),
        (Target("p50 ms", "bgsched", "APScheduler", at_most=2),),
    ),
    Part(
        "beside",
        "draining beside requests that are not due",
        grown("bgsched, {} not due", "stored.beside_requests", (100, 20_000)),
        (Target("drained/s", "bgsched, 20,000 not due", "bgsched, 100 not due", at_least=0.5),),
    ),
    Part(
        "history",
        "draining beside runs that have ended",
        grown("bgsched, {} ended", "stored.beside_runs", (100, 20_000)),
        (Target("drained/s", "bgsched, 20,000 ended", "bgsched, 100 ended", at_least=0.5),),
    ),
)
