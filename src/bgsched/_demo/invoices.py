"""Invoices as the office gets them: CSV files with a head, one line for each item, and the total at the end.

The files of the demo are made here too, always the same ones: two of every 24 are damaged, one by a price that is no
number, one because its end is missing.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

__all__ = ["BATCH", "DamagedInvoiceError", "Invoice", "Item", "file_name", "invoice_text", "number_in", "read_invoice"]

BATCH = 24
_BAD_PRICE, _CUT_OFF = 7, 16
_CUSTOMERS = ("Aldous & Sons", "Bakery Blum", "Casa Verde", "Dockyard Nine", "Elm Street Press")
_CURRENCIES = ("EUR", "USD", "GBP")
_GOODS = ("paper A4", "toner", "desk lamp", "envelopes", "stamps", "chair", "whiteboard", "coffee, 1 kg")
_HEAD = ("invoice", "customer", "currency", "date")
_CENT = Decimal("0.01")


class DamagedInvoiceError(ValueError):
    """A file that cannot be read as an invoice; says where."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(f"{file}, line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class Item:
    """A line of an invoice."""

    name: str
    quantity: int
    price: Decimal

    @property
    def amount(self) -> Decimal:
        """What it costs."""
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice that has been read and checked."""

    number: str
    customer: str
    currency: str
    date: date
    items: tuple[Item, ...]
    total: Decimal


def read_invoice(path: Path) -> Invoice:
    """Read a file and check it: every number, and the total against the items.

    Raises:
        DamagedInvoiceError: something is missing or wrong.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    head = _read_head(path.name, rows)
    if not rows[-1] or rows[-1][0] != "total":
        raise DamagedInvoiceError(path.name, len(rows), "the total is missing; the file seems to be cut off")
    items = []
    for line, row in enumerate(rows[5:-1], start=6):
        items.append(_read_item(path.name, line, row))
    total = _read_amount(path.name, len(rows), rows[-1][-1])
    sum_of_items = sum((item.amount for item in items), Decimal(0))
    if total != sum_of_items:
        raise DamagedInvoiceError(path.name, len(rows), f"the total is {total}, the items make {sum_of_items}")
    day = _read_date(path.name, head["date"])
    return Invoice(head["invoice"], head["customer"], head["currency"], day, tuple(items), total)


def _read_head(file: str, rows: Sequence[Sequence[str]]) -> dict[str, str]:
    head = {row[0]: row[1] for row in rows[: len(_HEAD)] if len(row) > 1}
    for line, name in enumerate(_HEAD, start=1):
        if not head.get(name):
            raise DamagedInvoiceError(file, line, f"no {name}")
    return head


def _read_date(file: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise DamagedInvoiceError(file, len(_HEAD), f"{text!r} is no date") from None


def _read_item(file: str, line: int, row: Sequence[str]) -> Item:
    if len(row) != 3:  # noqa: PLR2004  name, quantity, price
        raise DamagedInvoiceError(file, line, f"3 fields expected, got {len(row)}")
    name, quantity, price = row
    if not quantity.isdigit():
        raise DamagedInvoiceError(file, line, f"the quantity {quantity!r} is no number")
    return Item(name, int(quantity), _read_amount(file, line, price))


def _read_amount(file: str, line: int, text: str) -> Decimal:
    try:
        return Decimal(text).quantize(_CENT)
    except InvalidOperation:
        raise DamagedInvoiceError(file, line, f"{text!r} is no amount") from None


def file_name(number: int) -> str:
    """Return the name of the file of the invoice with that number."""
    return f"invoice-{number:04}.csv"


def number_in(name: str) -> int | None:
    """Return the number in the name of a file, archived or not."""
    match = re.match(r"invoice-(\d+)\.csv", name)
    return int(match[1]) if match else None


def invoice_text(number: int) -> str:
    """Return the file of that invoice: the same for ever, damaged where it should be."""
    items = [_item(number, line) for line in range(20 + number * 7 % 60)]
    total = sum((item.amount for item in items), Decimal(0))
    rows: list[Iterable[object]] = [
        ("invoice", f"DM-{number:04}"),
        ("customer", _CUSTOMERS[number % len(_CUSTOMERS)]),
        ("currency", _CURRENCIES[number % len(_CURRENCIES)]),
        ("date", (date(2026, 1, 5) + timedelta(days=number % 90)).isoformat()),
        ("item", "quantity", "price"),
        *((item.name, item.quantity, item.price) for item in items),
        ("total", "", total),
    ]
    lines = [",".join(f'"{value}"' if "," in str(value) else str(value) for value in row) for row in rows]
    place = (number - 1) % BATCH + 1
    if place == _BAD_PRICE:
        lines[12] = lines[12].rpartition(",")[0] + ",12.x0"
    if place == _CUT_OFF:
        lines = lines[:-4]
    return "\n".join(lines) + "\n"


def _item(number: int, line: int) -> Item:
    spread = number * 31 + line * 17
    return Item(_GOODS[spread % len(_GOODS)], 1 + spread % 9, Decimal(100 + spread * 13 % 9900).scaleb(-2))
