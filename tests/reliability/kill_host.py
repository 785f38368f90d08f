"""A host for `test_kills`: runs a scheduler on one SQLite file until it is killed.

Usage: kill_host.py DATABASE STARTS. Each start of a run appends ``run attempt`` to the file STARTS, in one write.
"""

import os
import sys
import threading

from bgsched import OnAbandon, Overlap, ProcessRegistry, Scheduler, SQLiteStore, current_run
from bgsched.request import Policies


def main(database: str, starts: str) -> None:
    descriptor = os.open(starts, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    registry = ProcessRegistry()

    def work() -> None:
        run = current_run()
        os.write(descriptor, f"{run.id} {run.attempt}\n".encode())
        run.log.info("begun")
        run.sleep(0.1)

    registry.process("record", overlap=Overlap.ALLOW)(work)
    policies = Policies(overlap=Overlap.ALLOW, on_abandon=OnAbandon.RERUN, max_reruns=50)
    registry.process("rerun")(work).policies = policies
    scheduler = Scheduler(SQLiteStore(database, timeout=60), processes=registry, workers=4).start()
    assert scheduler._life.engine is not None
    print("ready", scheduler._life.engine.owner, flush=True)  # noqa: T201  the test waits for it
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
