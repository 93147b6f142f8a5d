"""What `bench apply` brings to a device: statistics of a real shop's items and customers, as they changed.

Online Retail is read in its own order. Shared rows are of items, personal rows of one customer's items. A
publish comes after so many events and holds every row that they changed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Final

from bench.streams import Flat, Found
from edge_runtime.wire import codec
from edge_runtime.wire.messages import Row

LATER_S: Final = 15 * 365 * 86_400
"""Times are moved by 15 years: what is older than a retention would be swept away while it is measured."""
CATALOG: Final = """
[catalog]
name = "apply"
version = 1
[purposes.personalization]
legal_basis = "consent"
lease = "24h"
retention = "3650d"
[entities.user]
personal = true
[entities.item]
[views.item_stats]
entity = "item"
source = "server"
ttl = 0
owner = "bench"
[views.item_stats.features]
orders = { dtype = "int64" }
pieces = { dtype = "int64" }
cancelled = { dtype = "int64" }
revenue = { dtype = "float64" }
price = { dtype = "float64" }
price_low = { dtype = "float64" }
price_high = { dtype = "float64" }
country = { dtype = "string" }
[views.affinity]
entity = ["user", "item"]
source = "server"
purpose = "personalization"
ttl = "3650d"
owner = "bench"
[views.affinity.features]
orders = { dtype = "int64" }
pieces = { dtype = "int64" }
spent = { dtype = "float64" }
last_price = { dtype = "float64" }
"""


class Item:
    """What was sold of one item so far."""

    __slots__ = ("cancelled", "country", "high", "low", "orders", "pieces", "price", "revenue")

    def __init__(self) -> None:
        self.orders = self.pieces = self.cancelled = 0
        self.revenue = self.price = self.high = 0.0
        self.low, self.country = float("inf"), ""

    def take(self, event: Flat) -> None:
        """One more line of an invoice."""
        price, quantity = float(event["price"]), int(event["quantity"])
        self.orders += event["type"] == "purchase"
        self.cancelled += event["type"] == "cancel"
        self.pieces += quantity
        self.revenue += price * quantity
        self.price, self.country = price, str(event["country"])
        self.low, self.high = min(self.low, price), max(self.high, price)

    def values(self) -> bytes:
        """The row's features."""
        return codec.pack(
            {
                "orders": self.orders,
                "pieces": self.pieces,
                "cancelled": self.cancelled,
                "revenue": self.revenue,
                "price": self.price,
                "price_low": self.low,
                "price_high": self.high,
                "country": self.country,
            }
        )


def item_publishes(found: Found, events_each: int) -> Iterator[list[Row]]:
    """Rows of the items that each `events_each` events changed."""
    items: defaultdict[str, Item] = defaultdict(Item)
    events = found.events()
    while batch := list(islice(events, events_each)):
        changed: dict[str, int] = {}
        for event in batch:
            items[str(event["item"])].take(event)
            changed[str(event["item"])] = _at_us(event)
        yield [_row(f"item:{n}", "item_stats", at_us, items[n].values()) for n, at_us in changed.items()]


def customers(found: Found, count: int) -> dict[str, list[Flat]]:
    """The purchases of the `count` customers with most of them, by their typed id."""
    each: defaultdict[str, list[Flat]] = defaultdict(list)
    for event in found.events():
        if event["type"] == "purchase" and not str(event["user"]).startswith("visitor-"):
            each[f"user:{event['user']}"].append(event)
    most = Counter({user: len(events) for user, events in each.items()}).most_common(count)
    return {user: each[user] for user, _ in most}


def affinity_publishes(token: str, purchases: list[Flat], events_each: int) -> Iterator[list[Row]]:
    """One customer's rows, an item each, that each `events_each` purchases changed."""
    orders: Counter[str] = Counter()
    pieces: Counter[str] = Counter()
    spent: defaultdict[str, float] = defaultdict(float)
    for start in range(0, len(purchases), events_each):
        changed: dict[str, Flat] = {}
        for event in purchases[start : start + events_each]:
            item = str(event["item"])
            orders[item] += 1
            pieces[item] += int(event["quantity"])
            spent[item] += float(event["price"]) * int(event["quantity"])
            changed[item] = event
        yield [
            _row(
                f"{token}|item:{item}",
                "affinity",
                _at_us(event),
                codec.pack(
                    {
                        "orders": orders[item],
                        "pieces": pieces[item],
                        "spent": spent[item],
                        "last_price": event["price"],
                    }
                ),
            )
            for item, event in changed.items()
        ]


def _at_us(event: Flat) -> int:
    return (int(event["at"]) + LATER_S) * 1_000_000


def _row(entity: str, view: str, at_us: int, values: bytes) -> Row:
    return Row(0, entity, view, 1, at_us, at_us, 0, False, values)
