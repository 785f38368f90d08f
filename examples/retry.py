"""A process that fails twice, is tried again, and leaves a record of each attempt."""

import threading
from datetime import timedelta

from bgsched import Retry, RunFinished, Scheduler, current_run

scheduler = Scheduler()
over = threading.Event()
scheduler.on(RunFinished, lambda _: over.set())


@scheduler.process(retry=Retry(attempts=3, delay=timedelta(milliseconds=50), retry_on=OSError))
def fetch_rates() -> str:
    run = current_run()
    run.log.info("attempt %s", run.attempt)
    if run.attempt < 3:
        raise OSError("no route to the bank")
    return "fetched"


if __name__ == "__main__":
    request = scheduler.run_now("fetch_rates")
    with scheduler:
        over.wait()
    (run,) = scheduler.monitor.runs(request=request.id)
    for attempt in run.attempts:
        print(f"attempt {attempt.number}: {attempt.status}, {attempt.error.message if attempt.error else ''}")
    print(f"attempt {run.attempt}: {run.status}, {run.result}")
