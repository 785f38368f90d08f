"""A scheduler in an OS process of its own, for tests that kill it: DSN, schema, the file that each run signs, lease.

It ends when its standard input does.
"""

import os
import sys
from datetime import timedelta

from bgsched import Overlap, PostgresStore, Scheduler, _lease, current_run
from bgsched.stores import postgres


def live_faster(lease: float) -> None:
    """Be taken for dead after *lease* seconds, so that a test need not wait for as long as people would."""
    _lease.LEASE = timedelta(seconds=lease)
    _lease.HEARTBEAT = _lease.LEASE / 5
    _lease._CLOCKS_APART = lease / 5
    postgres._LOOK = lease / 5


def main(dsn: str, schema: str, signed: str, lease: str) -> None:
    live_faster(float(lease))
    store = PostgresStore(dsn, schema=schema)
    scheduler = Scheduler(store, workers=4)
    file = os.open(signed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @scheduler.process(overlap=Overlap.ALLOW, misfire_grace=timedelta(hours=1))  # late, on a busy machine, is fine
    def sign() -> None:
        run = current_run()
        os.write(file, f"{run.request_id} {run.fire_time.isoformat()} {os.getpid()}\n".encode())

    scheduler.start()
    print("ready", flush=True)  # noqa: T201  whoever started it waits for this
    sys.stdin.read()
    scheduler.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
