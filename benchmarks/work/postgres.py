"""One-shot runs through PostgreSQL, on a server with durable settings, and the least that must be done for them."""

import time
from pathlib import Path

import psycopg

from benchmarks.postgres import CONTENDERS, ring
from benchmarks.work import Figures

_BATCH = 100
_CLAIM = """
WITH due AS (SELECT id FROM request WHERE due_at <= 0 LIMIT %s FOR UPDATE SKIP LOCKED),
     taken AS (UPDATE request SET due_at = NULL FROM due WHERE request.id = due.id RETURNING request.id)
INSERT INTO run SELECT id, 'running' FROM taken RETURNING id
"""


def bgsched(size: int, folder: Path) -> Figures:
    """Run requests with one scheduler."""
    return _contender("bgsched", size)


def procrastinate(size: int, folder: Path) -> Figures:
    """Run asynchronous tasks, the quicker kind, with one worker of concurrency ten."""
    return _contender("procrastinate", size)


def _contender(name: str, size: int) -> Figures:
    contender = CONTENDERS[name]
    contender.oneshots = size
    with ring(contender) as made:
        return {"runs/s": made.oneshots(1)}


def floor_batches(size: int, folder: Path) -> Figures:
    """Claim and complete in batches of 100, two durable transactions for each."""
    return _floor(size, _BATCH)


def floor_singly(size: int, folder: Path) -> Figures:
    """Claim and complete one by one, two durable transactions for each."""
    return _floor(size, 1)


def _floor(size: int, batch: int) -> Figures:
    with ring(CONTENDERS["bgsched"]) as made, psycopg.connect(made.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE request (id integer PRIMARY KEY, due_at integer)")
        connection.execute("CREATE INDEX request_due ON request (due_at) WHERE due_at IS NOT NULL")
        connection.execute("CREATE TABLE run (id integer PRIMARY KEY, status text)")
        connection.execute("INSERT INTO request SELECT n, 0 FROM generate_series(1, %s) AS n", (size,))
        began = time.perf_counter()
        while claimed := [row[0] for row in connection.execute(_CLAIM, (batch,))]:
            connection.execute("UPDATE run SET status = 'success' WHERE id = ANY(%s)", (claimed,))
        return {"runs/s": size / (time.perf_counter() - began)}
