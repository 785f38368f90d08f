"""Schedulers on one PostgreSQL database, as on many machines: give its address in ``DATABASE_URL``.

The machines are three OS processes here. None of them leads: each claims what is due, and each invoice is sent by one.
"""

import collections
import os
import subprocess
import sys
import time

from bgsched import Immediate, Overlap, PostgresStore, RunStatus, Scheduler, current_run

scheduler = Scheduler(PostgresStore(os.environ["DATABASE_URL"]), workers=2)


@scheduler.process(overlap=Overlap.ALLOW)
def send_invoice(number: int) -> None:
    current_run().log.info("sending invoice %s", number)
    time.sleep(0.02)


def work_until_told() -> None:
    """Be one of the machines."""
    with scheduler:
        print("ready", flush=True)
        sys.stdin.read()


def main() -> None:
    words = [sys.executable, __file__, "work"]
    machines = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for machine in machines:
        assert machine.stdout is not None
        assert machine.stdout.readline() == "ready\n"
    requests = scheduler.schedule_many([(send_invoice, Immediate(), {"number": number}) for number in range(100)])
    since = requests[0].created_at
    while scheduler.monitor.summary(since=since).counts.get(RunStatus.SUCCESS, 0) < len(requests):
        time.sleep(0.1)
    for machine in machines:
        machine.communicate()  # its standard input ends, and so does it
    runs = scheduler.monitor.runs(since=since, limit=1000)
    print(f"{len(runs)} runs sent {len({run.params['number'] for run in runs})} invoices")
    print("of these, each scheduler sent", *sorted(collections.Counter(run.owner for run in runs).values()))


if __name__ == "__main__":
    if sys.argv[1:] == ["work"]:
        work_until_told()
    else:
        main()
