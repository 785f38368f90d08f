"""The office's own database. bgsched knows nothing of it, and keeps its own things elsewhere.

Booking can be interrupted anywhere and repeated: an invoice is booked in one transaction, by its number, or was booked
before. The table ``imports`` is the proof: it gets a row in the very transaction that books, and nothing forbids a
second one, so two rows for one file would mean that it was booked twice.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from bgsched._demo.invoices import Invoice

__all__ = ["Ledger", "Totals"]

_TABLES = """
CREATE TABLE IF NOT EXISTS invoices (
    number TEXT PRIMARY KEY, customer TEXT NOT NULL, currency TEXT NOT NULL, date TEXT NOT NULL, cents INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS items (invoice TEXT NOT NULL, name TEXT NOT NULL, quantity INTEGER NOT NULL, cents INTEGER);
CREATE TABLE IF NOT EXISTS imports (file TEXT NOT NULL, run INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS rates (currency TEXT PRIMARY KEY, for_one_eur TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """What is booked: how many invoices, the amount in each currency, and all of it in euro where rates are known."""

    invoices: int
    amounts: dict[str, Decimal]
    in_eur: Decimal | None


class Ledger:
    """Books invoices. Each call opens the file anew, so that any thread may call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(self._connect()) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_TABLES)

    def book(self, invoice: Invoice, file: str, run_id: int) -> bool:
        """Book an invoice; ``False`` when it is booked already."""
        with self._transaction() as db:
            new = db.execute(
                "INSERT INTO invoices VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (invoice.number, invoice.customer, invoice.currency, invoice.date.isoformat(), _cents(invoice.total)),
            ).rowcount
            if new:
                db.executemany(
                    "INSERT INTO items VALUES (?, ?, ?, ?)",
                    [(invoice.number, item.name, item.quantity, _cents(item.price)) for item in invoice.items],
                )
                db.execute("INSERT INTO imports VALUES (?, ?)", (file, run_id))
            return bool(new)

    def imports(self) -> dict[str, int]:
        """Return how often each file was booked: once, one hopes."""
        with closing(self._connect()) as db:
            return dict(db.execute("SELECT file, count(*) FROM imports GROUP BY file ORDER BY file").fetchall())

    def set_rates(self, rates: dict[str, Decimal]) -> None:
        """Keep what one euro is in other currencies."""
        with self._transaction() as db:
            db.executemany("REPLACE INTO rates VALUES (?, ?)", [(name, str(rate)) for name, rate in rates.items()])

    def totals(self) -> Totals:
        """Add everything up."""
        with closing(self._connect()) as db:
            rows = db.execute("SELECT currency, sum(cents), count(*) FROM invoices GROUP BY currency").fetchall()
            rates = {name: Decimal(rate) for name, rate in db.execute("SELECT currency, for_one_eur FROM rates")}
        rates["EUR"] = Decimal(1)
        amounts = {currency: _amount(cents) for currency, cents, _ in rows}
        known = all(currency in rates for currency in amounts)
        in_eur = sum((amounts[name] / rates[name] for name in amounts), Decimal(0)) if known else None
        return Totals(
            sum(row[2] for row in rows), amounts, None if in_eur is None else in_eur.quantize(Decimal("0.01"))
        )

    def owed_before(self, day: date) -> dict[str, list[tuple[str, Decimal, str]]]:
        """Return the number, amount and currency of the invoices before *day*, by customer."""
        with closing(self._connect()) as db:
            rows = db.execute(
                "SELECT customer, number, cents, currency FROM invoices WHERE date < ? ORDER BY customer, number",
                (day.isoformat(),),
            ).fetchall()
        owed: dict[str, list[tuple[str, Decimal, str]]] = {}
        for customer, number, cents, currency in rows:
            owed.setdefault(customer, []).append((number, _amount(cents), currency))
        return owed

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=10, isolation_level=None)


def _cents(amount: Decimal) -> int:
    return int(amount.scaleb(2))


def _amount(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)
