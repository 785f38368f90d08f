"""Each process where it belongs: on threads unless it says otherwise, in OS processes, or on threads of the host."""

import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from bgsched import Immediate, RunFinished, Scheduler, current_run

hosts_own = ThreadPoolExecutor(thread_name_prefix="host")
scheduler = Scheduler(workers=4)


@scheduler.process  # the default: a thread of the scheduler
def send_mail() -> str:
    current_run().log.info("sending")
    return threading.current_thread().name.split("-")[0]


@scheduler.process(executor=ProcessPoolExecutor(2))  # all processors are used; a crash ends this run alone
def add_up(below: int) -> list[int]:
    current_run().log.info("adding")
    return [sum(range(below)), os.getpid()]


@scheduler.process(executor=hosts_own)  # with what else the host gives to it
def refresh() -> str:
    current_run().log.info("refreshing")
    return threading.current_thread().name.split("_")[0]


if __name__ == "__main__":  # workers import this module, too
    over = threading.Semaphore(0)
    scheduler.on(RunFinished, lambda _: over.release())
    with hosts_own, scheduler:
        scheduler.schedule(send_mail, Immediate())
        scheduler.schedule(add_up, Immediate(), {"below": 1000})
        scheduler.schedule(refresh, Immediate())
        for _ in range(3):
            over.acquire()
    for run in sorted(scheduler.monitor.runs(), key=lambda run: run.process):
        print(run.process, run.status, scheduler.monitor.log(run.id)[0].text)
    total, pid = scheduler.monitor.runs(process="add_up")[0].result
    print(total, "in another OS process" if pid != os.getpid() else "here")
    print("refresh ran on a thread of", scheduler.monitor.runs(process="refresh")[0].result)
