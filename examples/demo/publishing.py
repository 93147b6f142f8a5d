"""The shop's publisher: pushes what was learned, and times later pushes on their way to the kiosks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from examples.demo.clock import present_us
from examples.demo.learning import ItemStats
from examples.demo.server import ShopServer

BATCH_ROWS = 500
WINDOW_ITEMS = 200
"""How many popular items stand in the shop window."""
REFRESHED_ITEMS = 25
"""How many items' statistics are pushed again before each new edition."""
PAUSE_S = 0.25


class Publisher:
    """Pushes hot features through the public API."""

    def __init__(self, server: ShopServer, stats: Mapping[str, ItemStats], learned_at: float) -> None:
        """`learned_at`: event time of `stats`, Unix seconds."""
        self._server, self._learned_at = server, learned_at
        self._popular = list(stats)[:WINDOW_ITEMS]
        self._rows = [_item_row(item, stats[item], learned_at) for item in stats]
        self.sent_us: dict[int, int] = {}
        """edition -> when its push was sent, on this machine's clock."""

    async def publish_all(self) -> int:
        """Push every item and the first edition of the window; return the number of rows."""
        for start in range(0, len(self._rows), BATCH_ROWS):
            await self._server.publish("item_stats", self._rows[start : start + BATCH_ROWS])
        await self._publish_edition()
        return len(self._rows) + 1

    async def keep_publishing(self) -> None:
        """Push a new edition with a slice of the items several times a second, until cancelled."""
        while True:
            first = len(self.sent_us) * REFRESHED_ITEMS % len(self._rows)
            await self._server.publish("item_stats", self._rows[first : first + REFRESHED_ITEMS])
            await self._publish_edition()
            await asyncio.sleep(PAUSE_S)

    def delays_ms(self, kiosk_arrivals: Mapping[str, int]) -> list[float]:
        """Return how long each timed edition took to one kiosk; the first one is not timed."""
        return [
            (at_us - self.sent_us[int(edition)]) / 1000
            for edition, at_us in kiosk_arrivals.items()
            if int(edition) > 1
        ]

    async def _publish_edition(self) -> None:
        edition = len(self.sent_us) + 1
        values = {"edition": edition, "popular": self._popular}
        row = {"entity": "shop:main", "event_time": self._learned_at + edition, "values": values}
        self.sent_us[edition] = present_us()
        await self._server.publish("window", [row])


def _item_row(item: str, stats: ItemStats, learned_at: float) -> dict[str, Any]:
    values = {"popularity": stats.popularity, "co_bought": dict(stats.co_bought)}
    return {"entity": f"item:{item}", "event_time": learned_at, "values": values}
