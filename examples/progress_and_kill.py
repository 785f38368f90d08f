"""A long run that says how far it has come, and is killed from outside."""

import threading

from bgsched import RunFinished, Scheduler, current_run

scheduler = Scheduler()
underway, over = threading.Event(), threading.Event()
scheduler.on(RunFinished, lambda _: over.set())


@scheduler.process
def rebuild_index() -> None:
    run = current_run()
    for page in run.track(range(1_000_000)):
        if page == 10:
            underway.set()
        run.sleep(0.001)


if __name__ == "__main__":
    with scheduler:
        scheduler.run_now("rebuild_index")
        underway.wait()
        scheduler.kill(scheduler.monitor.runs()[0].id)
        over.wait()
    run = scheduler.monitor.runs()[0]
    print(run.status, "after at least 10 pages:", run.progress is not None and run.progress.done >= 10)
