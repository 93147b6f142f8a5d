"""A link that lives on simulated time over a town's network, and what it said meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from edge_runtime.sync.carrier import Way
from edge_runtime.sync.link import Link
from edge_runtime.sync.settings import SyncSettings
from tests.support.patient_loop import run_patiently
from tests.support.town import Kiosk
from tests.support.town_network import Act, Serve, TownNetwork

SEED = 20261130
T = TypeVar("T")


class Life:
    """A link over a network of the town's, and what it said."""

    def __init__(
        self,
        kiosk: Kiosk,
        act: Callable[[Way, int], Act] = lambda way, number: Serve(),
        *,
        rng: random.Random | None = None,
        settings: SyncSettings | None = None,
    ) -> None:
        self.network, self.said = TownNetwork(kiosk.town, act), list[tuple[int, str, str]]()
        self.kiosk = kiosk
        self.link = Link(
            kiosk.replica,
            "http://town",
            kiosk.clock,
            settings or SyncSettings(),
            rng=rng or random.Random(SEED),
            on_state=lambda state, reason: self.said.append((kiosk.clock.boot_us(), state, reason)),
            network=self.network,
        )

    def live(self, seconds: float) -> Life:
        """Let it run for so long, then close it."""

        async def body() -> None:
            async with self.link:
                await asyncio.sleep(seconds)

        run_patiently(self.kiosk.clock, body())
        return self

    def during(self, work: Callable[[Link], Awaitable[T]]) -> T:
        """Let `work` be done while it runs, then close it."""

        async def body() -> T:
            async with self.link:
                return await work(self.link)

        return run_patiently(self.kiosk.clock, body())

    @property
    def states(self) -> list[str]:
        return [state for _, state, _ in self.said]
