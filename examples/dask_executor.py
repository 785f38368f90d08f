"""Runs on a Dask cluster: here one worker on this machine, but any cluster may take its place."""

import threading

from distributed import Client, LocalCluster

from bgsched import Immediate, ProcessRegistry, RunFinished, Scheduler, current_run

registry = ProcessRegistry()


@registry.process
def square(number: int) -> int:
    current_run().log.info("squaring %s", number)
    return number * number


if __name__ == "__main__":  # workers import this module, too
    with (
        LocalCluster(n_workers=1, threads_per_worker=4, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        Scheduler(processes=registry, executor=client.get_executor()) as scheduler,
    ):
        over = threading.Semaphore(0)
        scheduler.on(RunFinished, lambda _: over.release())
        scheduler.schedule_many([(square, Immediate(), {"number": number}) for number in range(10)])
        for _ in range(10):
            over.acquire()
        runs = scheduler.monitor.runs()
        print("the sum is", sum(run.result for run in runs))
        print(min(line.text for run in runs for line in scheduler.monitor.log(run.id) if line.level == "INFO"))
