"""The customers of Online Retail, month by month: where they buy from, and what they spent.

A customer's spend in a month is the sum of quantity times price over its invoices, cancellations with their
minus; in pounds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.streams import find

COUNTRIES = ("United Kingdom", "Germany", "France", "Belgium", "Spain", "Switzerland", "Portugal", "other")


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer in one month."""

    country: str
    """One of COUNTRIES."""
    spend: float


@dataclass(frozen=True, slots=True)
class Customers:
    """Who bought in which month."""

    what: str
    """`whole` or `sample`: which file was read."""
    months: dict[str, list[Customer]]
    """`2010-12` -> its customers; rows without a customer are left out."""

    @property
    def everybody(self) -> list[Customer]:
        """All months' customers, in order."""
        return [customer for month in self.months.values() for customer in month]


def customers(folder: Path | None = None) -> Customers:
    """Read the stream that `bench.streams.find` finds."""
    found = find("online_retail", folder)
    spend: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    country: dict[str, str] = {}
    for event in found.events():
        user = str(event["user"])
        if user.startswith("visitor-"):
            continue
        month = datetime.fromtimestamp(int(event["at"]), UTC).strftime("%Y-%m")
        spend[month][user] += float(event["price"]) * int(event["quantity"])
        named = str(event["country"])
        country[user] = named if named in COUNTRIES else "other"
    months = {
        month: [Customer(country[user], total) for user, total in sorted(of.items())]
        for month, of in sorted(spend.items())
    }
    return Customers(found.what, months)
