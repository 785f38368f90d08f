"""Month end: processes one after another; the mail follows when all of them succeeded."""

from bgsched import ProcessGroup, Scheduler

scheduler = Scheduler()


@scheduler.process("close-ledger")
def close_ledger() -> None:
    print("the ledger is closed")


@scheduler.process("reports")
def reports(company: str = "all") -> None:
    print(f"reports for {company}")


@scheduler.process("mail", after="month-end")
def mail() -> None:
    print("mail to the board")


scheduler.add(ProcessGroup("month-end", ["close-ledger", ("reports", {"company": "acme"})]))

if __name__ == "__main__":
    scheduler.run_now("month-end", user="ann")
    scheduler.run_until_idle()
    group = scheduler.monitor.runs(process="month-end")[0]
    for run in scheduler.monitor.runs(parent=group.id)[::-1]:
        print(f"{run.process}: {run.status}")
    print(f"{group.process}: {group.status}")
