"""A hundred runs at once on one worker, because they are async."""

import asyncio
import threading

from bgsched import Immediate, RunFinished, Scheduler

scheduler = Scheduler(workers=1)
left = threading.Semaphore(0)
scheduler.on(RunFinished, lambda _: left.release())


@scheduler.process
async def ask(host: int) -> int:
    await asyncio.sleep(0.2)
    return host


if __name__ == "__main__":
    with scheduler:
        scheduler.schedule_many([(ask, Immediate(), {"host": host}) for host in range(100)])
        for _ in range(100):
            left.acquire()
    runs = scheduler.monitor.runs(limit=200)
    print(len(runs), "answers, the sum is", sum(run.result for run in runs))
