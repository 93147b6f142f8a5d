"""One statistic over all kiosks: every customer's answer is noised before it leaves, the server adds up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from examples.demo.clock import present_us
from examples.demo.fleet import Kiosk
from examples.demo.report import Aggregate
from examples.demo.server import ShopServer

ROUND_S = 60.0
ANSWERED_S = 3.5
"""After this long every kiosk on this machine has heard of a round (within a second), waited its random time
(`kiosk.REPORT_SPREAD_US`) and looked again (within a second). How many answered, a server never tells while
the round is open."""


@dataclass(frozen=True, slots=True)
class Count:
    """A release beside the truth: customers in each category."""

    truth: tuple[int, ...]
    release: dict[str, Any]

    def aggregate(self) -> Aggregate:
        """Both as shares of the customers, by category; empty estimates when the release was withheld."""
        estimate: dict[str, float] = self.release.get("estimate") or {}
        intervals: dict[str, list[float]] = self.release.get("ci95") or {}
        customers = max(sum(self.truth), 1)
        truth = {name: round(count / customers, 6) for name, count in zip(estimate, self.truth, strict=False)}
        subjects = int(self.release.get("n") or 0)
        return Aggregate(str(self.release["metric"]), truth, estimate, intervals, subjects)


async def count_privately(server: ShopServer, kiosks: Sequence[Kiosk], metric: str) -> Count:
    """Open a round, wait for the kiosks' noised answers, close it and return the release.

    The truth comes over the demo's own bookkeeping line to the kiosks. A real server never learns it.
    """
    now_us = present_us()
    told = await asyncio.gather(*(kiosk.ask("truth", now_us=now_us) for kiosk in kiosks))
    truth = tuple(sum(bucket) for bucket in zip(*(answer["counts"] for answer in told), strict=True))
    round_id = await server.open_round(metric, ROUND_S)
    await asyncio.sleep(ANSWERED_S)
    await asyncio.gather(*(kiosk.ask("settle") for kiosk in kiosks))
    return Count(truth, await server.close_round(metric, round_id))
