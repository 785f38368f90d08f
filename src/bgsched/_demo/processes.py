"""The background processes of the office: what a host application writes for bgsched.

Each is a plain function with a name. What it logs, how far it is and what it raises is seen in the monitor; whether it
is tried again, and what happens when two would overlap, is said in its decorator.
"""

import logging
from datetime import timedelta

from bgsched import (
    EverySeconds,
    Immediate,
    Overlap,
    Process,
    RequestExistsError,
    RequestStatus,
    Retry,
    Schedule,
    Scheduler,
    current_run,
)
from bgsched._demo.invoices import DamagedInvoiceError, read_invoice
from bgsched._demo.office import Office

__all__ = ["register"]

_LOG = logging.getLogger("office")
_AT_ONCE = 3


def register(scheduler: Scheduler, office: Office) -> None:
    """Register all processes of the office with the scheduler."""
    _LOG.setLevel(logging.INFO)  # what a logger lets through is the host's choice; that is what a run log gets
    _register_invoices(scheduler, office)
    _register_rates(scheduler, office)
    _register_reports(scheduler, office)
    _register_audit(scheduler, office)


def _register_invoices(scheduler: Scheduler, office: Office) -> None:
    @scheduler.process("import-invoice")
    def import_invoice(file: str) -> str:
        """Book one invoice, seal it, and file it away. A damaged one goes to the rejected ones, and the run fails."""
        run = current_run()
        path = office.inbox / file
        if not path.exists():
            return "filed away before"
        data = path.read_bytes()
        try:
            invoice = read_invoice(path)
        except DamagedInvoiceError:
            run.log.warning("%s goes to the rejected ones", file)
            office.reject(path)
            raise
        run.log.info("%s: %d items for %s", invoice.number, len(invoice.items), invoice.customer)
        if office.ledger.book(invoice, file, run.id):
            run.log.info("booked %s %s", invoice.currency, invoice.total)
        else:
            run.log.warning("it was booked before, by a run that did not come to its end; only the rest is done")
        seal = ""
        for seal in run.track(office.seal(data), total=office.seal_steps):  # noqa: B007  the last one counts
            pass
        office.file_away(path, data, seal)
        _LOG.info("filed %s away with seal %s", file, seal[:8])  # any logger's lines get into the run log
        return f"{invoice.currency} {invoice.total}"

    @scheduler.process("collect-invoices", timing=Schedule(EverySeconds(1)))
    def collect_invoices() -> int:
        """File a request for each new invoice, a few at a time. The id makes sure that there is one for each file."""
        filed = 0
        for path in office.waiting():
            if filed < _AT_ONCE and _file(scheduler, import_invoice, path.name):
                filed += 1
        return filed


def _file(scheduler: Scheduler, import_invoice: Process[[str], str], file: str) -> bool:
    """File the import of a file; again, if the file still lies there after its run came to an end or was abandoned."""
    id = f"import {file}"
    try:
        scheduler.schedule(import_invoice, Immediate(), {"file": file}, id=id, user="post")
    except RequestExistsError:
        if scheduler.monitor.request(id).status is not RequestStatus.COMPLETE:
            return False
        scheduler.reschedule(id)
    return True


def _register_rates(scheduler: Scheduler, office: Office) -> None:
    @scheduler.process("publish-rates")
    def publish_rates() -> None:
        """Play the bank."""
        office.publish_rates()

    @scheduler.process("fetch-rates", retry=Retry(attempts=5, delay=timedelta(seconds=1), backoff=1.5))
    def fetch_rates() -> list[str]:
        """Take over the bank's rates; the bank is late sometimes, so this is tried again."""
        rates = office.fetch_rates()
        office.ledger.set_rates(rates)
        return sorted(rates)


def _register_reports(scheduler: Scheduler, office: Office) -> None:
    @scheduler.process("nightly-report", timing=Schedule(EverySeconds(5)))  # a night takes five seconds here
    def nightly_report() -> dict[str, str | int | None]:
        """Write the totals to a file."""
        run = current_run()
        totals = office.write_report(f"report-{run.id:06}")
        run.log.info("%s invoices, in all EUR %s", totals["invoices"], totals["in_eur"])
        return totals

    @scheduler.process("remind-customers", overlap=Overlap.SKIP)
    def remind_customers(days: int = 14) -> int:
        """Write a letter to everybody who owes something for more than *days* days."""
        return office.write_reminders(current_run().fire_time.date(), days)


def _register_audit(scheduler: Scheduler, office: Office) -> None:
    @scheduler.process("audit-archive", timeout=timedelta(minutes=10))
    def audit_archive(passes: int = 1) -> int:
        """Make the seal of every archived file anew and compare, *passes* times over."""
        run = current_run()
        checked = 0
        for number in range(1, passes + 1):
            files = office.archived()
            for place, path in enumerate(files):
                run.progress(place, len(files), f"pass {number} of {passes}")
                data, seal = office.seal_of(path)
                again = ""
                for again in office.seal(data):  # noqa: B007  the last one counts
                    run.raise_if_killed()
                if again != seal:
                    raise ValueError(f"the seal of {path.name} is wrong")
                checked += 1
        run.log.info("%d seals are right", checked)
        return checked
