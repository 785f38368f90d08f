"""Runs in OS processes: all processors are used, a kill is hard, and a crash ends one run only."""

import os
import threading
from datetime import timedelta

from bgsched import Immediate, ProcessPool, RunFinished, Scheduler, current_run

scheduler = Scheduler(executor=ProcessPool(2))
over = threading.Semaphore(0)
scheduler.on(RunFinished, lambda _: over.release())


@scheduler.process
def count_primes(below: int) -> int:
    run = current_run()
    return sum(all(number % divisor for divisor in range(2, number)) for number in run.track(range(2, below)))


@scheduler.process(timeout=timedelta(seconds=0.5))
def spin() -> None:
    while True:  # it never looks whether it should stop
        pass


@scheduler.process
def crash() -> None:
    current_run().log.info("about to crash")
    os._exit(1)


if __name__ == "__main__":  # workers import this module, too
    with scheduler:
        scheduler.schedule(count_primes, Immediate(), {"below": 1000})
        scheduler.schedule(spin, Immediate())
        scheduler.schedule(crash, Immediate())
        for _ in range(3):
            over.acquire()
    for run in reversed(scheduler.monitor.runs()):
        print(run.process, run.status, run.result, run.error and run.error.type)
    print(scheduler.monitor.log(scheduler.monitor.runs(process="crash")[0].id)[0].text)
