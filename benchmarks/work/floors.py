"""What the machine allows: the least that any scheduler must do for a run, with nothing around it."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.work import WORKERS, Figures
from benchmarks.work._count import count_one, counted

_BATCH = 100
_TABLES = """
CREATE TABLE request (id INTEGER PRIMARY KEY, due_at INTEGER);
CREATE INDEX request_due ON request (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE run (id INTEGER PRIMARY KEY, request INTEGER, status TEXT);
"""


def handoff(size: int, folder: Path) -> Figures:
    """Hand a function to ten threads of `concurrent.futures`, and hear of each end."""
    done = counted(size)
    with ThreadPoolExecutor(WORKERS) as pool:
        began = time.perf_counter()
        for _ in range(size):
            pool.submit(int).add_done_callback(lambda _: count_one())
        done.wait()
        return {"runs/s": size / (time.perf_counter() - began)}


def sqlite_batches(size: int, folder: Path) -> Figures:
    """Claim and complete in batches of 100, two durable transactions for each."""
    return _sqlite(size, _BATCH, folder)


def sqlite_singly(size: int, folder: Path) -> Figures:
    """Claim and complete one by one, two durable transactions for each."""
    return _sqlite(size, 1, folder)


def _connect(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_TABLES)
    return connection


def _sqlite(size: int, batch: int, folder: Path) -> Figures:
    connection = _connect(folder)
    connection.executemany("INSERT INTO request VALUES (?, 0)", [(n,) for n in range(size)])
    began = time.perf_counter()
    while True:
        connection.execute("BEGIN IMMEDIATE")
        due = connection.execute("SELECT id FROM request WHERE due_at <= 0 LIMIT ?", (batch,)).fetchall()
        connection.executemany("UPDATE request SET due_at = NULL WHERE id = ?", due)
        connection.executemany("INSERT INTO run VALUES (?1, ?1, 'running')", due)
        connection.execute("COMMIT")
        if not due:
            break
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("UPDATE run SET status = 'success' WHERE id = ? AND status = 'running'", due)
        connection.execute("COMMIT")
    spent = time.perf_counter() - began
    connection.close()
    return {"runs/s": size / spent}


def sqlite_registration(size: int, folder: Path) -> Figures:
    """Insert rows, each in a durable transaction of its own, then twenty times as many in one."""
    connection = _connect(folder)
    began = time.perf_counter()
    for n in range(size):
        connection.execute("INSERT INTO request VALUES (?, 1)", (n,))
    singly = size / (time.perf_counter() - began)
    many = [(n,) for n in range(size, 21 * size)]
    began = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO request VALUES (?, 1)", many)
    connection.execute("COMMIT")
    return {"singly/s": singly, "at once/s": len(many) / (time.perf_counter() - began)}
