"""A scheduler in an OS process of its own, for tests that kill it: DSN, schema, the file that each run signs.

It ends when its standard input does.
"""

import os
import sys

from bgsched import Overlap, PostgresStore, Scheduler, current_run


def main(dsn: str, schema: str, signed: str) -> None:
    store = PostgresStore(dsn, schema=schema)
    scheduler = Scheduler(store, workers=4)
    file = os.open(signed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @scheduler.process(overlap=Overlap.ALLOW)
    def sign() -> None:
        run = current_run()
        os.write(file, f"{run.request_id} {run.fire_time.isoformat()} {os.getpid()}\n".encode())

    scheduler.start()
    print("ready", flush=True)  # noqa: T201  whoever started it waits for this
    sys.stdin.read()
    scheduler.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
