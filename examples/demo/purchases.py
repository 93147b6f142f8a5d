"""The real purchases behind the demo: rows of the sample, grouped into visits."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from zlib import crc32

SAMPLE = Path(__file__).parents[1] / "data" / "online_retail_sample.csv.gz"
FIRST_KIOSK_DAY = datetime(2011, 6, 1, tzinfo=UTC)
"""The server learns from the days before; the kiosks see the days from here on."""
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """One article on an invoice."""

    item: str
    quantity: int
    price: float


@dataclass(frozen=True, slots=True)
class Visit:
    """One invoice: what a customer bought (or sent back, if `cancelled`) at one time."""

    invoice: str
    customer: str
    at_us: int
    lines: tuple[Line, ...]

    @property
    def cancelled(self) -> bool:
        """Whether this invoice takes purchases back."""
        return self.invoice.startswith("C")

    def kiosk(self, kiosks: int) -> int:
        """Number of the kiosk that this visit comes to: a hash of the invoice, so customers roam."""
        return crc32(self.invoice.encode()) % kiosks

    def questions(self, one_in: int) -> list[int]:
        """Places in `lines` before which the kiosk is asked what comes next: a hash, one in `one_in`."""
        if self.cancelled:
            return []
        return [i for i in range(len(self.lines)) if crc32(f"{self.invoice}:{i}".encode()) % one_in == 0]


def load(path: Path = SAMPLE) -> list[Visit]:
    """Return all visits of the sample in order of time."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    visits = [_visit(invoice, list(lines)) for invoice, lines in groupby(rows, lambda row: row["InvoiceNo"])]
    return sorted(visits, key=lambda visit: (visit.at_us, visit.invoice))


def _visit(invoice: str, rows: Sequence[dict[str, str]]) -> Visit:
    at = datetime.fromisoformat(rows[0]["InvoiceDate"]).replace(tzinfo=UTC)
    lines = tuple(Line(r["StockCode"], int(r["Quantity"]), float(r["UnitPrice"])) for r in rows)
    return Visit(invoice, rows[0]["CustomerID"], int(at.timestamp()) * 1_000_000, lines)


def split(visits: Iterable[Visit]) -> tuple[list[Visit], list[Visit]]:
    """Return the visits before FIRST_KIOSK_DAY and those from it on."""
    first_us = int(FIRST_KIOSK_DAY.timestamp()) * 1_000_000
    earlier: list[Visit] = []
    later: list[Visit] = []
    for visit in visits:
        (earlier if visit.at_us < first_us else later).append(visit)
    return earlier, later


def days_to(visits: Sequence[Visit], now_us: int) -> int:
    """Return the largest number of whole days, in microseconds, that leaves all visits before `now_us`."""
    return (now_us - visits[-1].at_us) // DAY_US * DAY_US


def moved(visits: Iterable[Visit], by_us: int) -> list[Visit]:
    """Return the visits at later times: the demo plays June 2011 as if it were the last two weeks."""
    return [replace(visit, at_us=visit.at_us + by_us) for visit in visits]


def home_of(visits: Iterable[Visit], kiosks: int) -> dict[str, int]:
    """Return customer -> number of the kiosk of the first visit."""
    home: dict[str, int] = {}
    for visit in visits:
        home.setdefault(visit.customer, visit.kiosk(kiosks))
    return home


def first_events(visits: Iterable[Visit], events: int) -> list[Visit]:
    """Return the first visits that together have at least `events` lines, or all of them."""
    chosen, count = [], 0
    for visit in visits:
        if count >= events:
            break
        chosen.append(visit)
        count += len(visit.lines)
    return chosen
