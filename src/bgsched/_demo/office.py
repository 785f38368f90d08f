"""The office: its folders and its work, as functions that anybody could call. Nothing here knows of bgsched.

Every step can be interrupted and repeated: files are written under another name and then renamed, so each is there as
a whole or not at all.
"""

import gzip
import os
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from hashlib import pbkdf2_hmac, sha256
from pathlib import Path

from bgsched._demo.invoices import BATCH, file_name, invoice_text, number_in
from bgsched._demo.ledger import Ledger

__all__ = ["Office", "RatesNotPublishedError"]

_RATES = "currency,for one euro\nUSD,1.08\nGBP,0.86\n"


class RatesNotPublishedError(Exception):
    """The bank has not published today's rates yet."""


class Office:
    """Where the files lie. *seal_rounds*: how much work one step of sealing is."""

    seal_steps = 12

    def __init__(self, folder: Path, *, seal_rounds: int = 25_000) -> None:
        self.folder = folder
        self.inbox, self.archive, self.rejected = folder / "inbox", folder / "archive", folder / "rejected"
        self.reports, self.letters, self.bank = folder / "reports", folder / "letters", folder / "bank"
        for place in (self.inbox, self.archive, self.rejected, self.reports, self.letters, self.bank):
            place.mkdir(parents=True, exist_ok=True)
        self.seal_rounds = seal_rounds
        self.ledger = Ledger(folder / "ledger.db")

    # -- invoices ------------------------------------------------------------------------------------------------

    def deliver(self) -> int:
        """Let the post bring the next batch of invoices, if the inbox is empty; return how many came."""
        if self.waiting():
            return 0
        places = (self.archive, self.rejected)
        numbers = [number_in(path.name) or 0 for place in places for path in place.iterdir()]
        first = max(numbers, default=0) + 1
        for number in range(first, first + BATCH):
            write_whole(self.inbox / file_name(number), invoice_text(number).encode())
        return BATCH

    def waiting(self) -> list[Path]:
        """Return the files in the inbox, oldest invoice first."""
        return sorted(self.inbox.glob("invoice-*.csv"))

    def seal(self, data: bytes) -> Iterator[str]:
        """Yield the seal after each step; the last one counts. It takes its time, so that nobody can forge many."""
        digest = sha256(data).digest()
        for _ in range(self.seal_steps):
            digest = pbkdf2_hmac("sha256", digest, b"seal of the office", self.seal_rounds)
            yield digest.hex()

    def file_away(self, path: Path, data: bytes, seal: str) -> None:
        """Move a file from the inbox to the archive, compressed, with its seal."""
        write_whole(self.archive / f"{path.name}.seal", seal.encode())
        write_whole(self.archive / f"{path.name}.gz", gzip.compress(data, mtime=0))
        path.unlink(missing_ok=True)

    def reject(self, path: Path) -> None:
        """Move a damaged file out of the way, for somebody to look at."""
        path.replace(self.rejected / path.name)

    def archived(self) -> list[Path]:
        """Return the files in the archive."""
        return sorted(self.archive.glob("*.gz"))

    def seal_of(self, path: Path) -> tuple[bytes, str]:
        """Return an archived file's data and the seal that it got."""
        return gzip.decompress(path.read_bytes()), path.with_suffix(".seal").read_text()

    # -- rates, report, letters ----------------------------------------------------------------------------------

    def publish_rates(self) -> None:
        """Do what the bank does every morning."""
        write_whole(self.bank / "rates.csv", _RATES.encode())

    def fetch_rates(self) -> dict[str, Decimal]:
        """Read the bank's rates.

        Raises:
            RatesNotPublishedError: they are not there yet.
        """
        path = self.bank / "rates.csv"
        if not path.exists():
            raise RatesNotPublishedError(f"no {path.name} from the bank yet")
        lines = path.read_text().splitlines()[1:]
        return {currency: Decimal(rate) for currency, rate in (line.split(",") for line in lines)}

    def write_report(self, name: str) -> dict[str, str | int | None]:
        """Write the totals of the ledger to a file; return them."""
        totals = self.ledger.totals()
        lines = [f"{currency} {amount:>12,}" for currency, amount in sorted(totals.amounts.items())]
        in_eur = "unknown, there are no rates yet" if totals.in_eur is None else f"EUR {totals.in_eur:,}"
        text = "\n".join([f"{totals.invoices} invoices", *lines, f"in all: {in_eur}"])
        write_whole(self.reports / f"{name}.txt", f"{text}\n".encode())
        return {"invoices": totals.invoices, "in_eur": None if totals.in_eur is None else str(totals.in_eur)}

    def write_reminders(self, today: date, days: int) -> int:
        """Write a letter to each customer who owes something for more than *days* days; return how many."""
        owed = self.ledger.owed_before(today - timedelta(days=days))
        for customer, invoices in owed.items():
            lines = [f"  {number}: {currency} {amount:,}" for number, amount, currency in invoices]
            text = "\n".join([f"Dear {customer},", "", "may we remind you of:", *lines, ""])
            write_whole(self.letters / f"{customer.replace(' ', '-').lower()}.txt", text.encode())
        return len(owed)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(data)
    draft.replace(path)
