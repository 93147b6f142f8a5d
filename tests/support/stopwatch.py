"""Telling kinds of requests apart by how long the server works on them, and how sure one can be.

Requests of all kinds come interleaved, in an order drawn anew for each round, so that whatever slows the
machine down slows all kinds alike. Compared are 20 % quantiles: a request that the machine left alone, not
one that waited for its turn. How much they scatter is told by drawing the rounds again, with repeats (the
bootstrap).
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from aiohttp import web
from aiohttp.typedefs import Handler
from numpy.typing import NDArray

QUANTILE = 0.2
DRAWS = 400


class Stopwatch:
    """A middleware that takes the processor time, in seconds, of each request's handling."""

    def __init__(self) -> None:
        self.last_s = 0.0

    def hang(self, app: web.Application) -> None:
        """Measure everything that `app` does for a request, before it is started."""

        @web.middleware
        async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
            start_s = time.thread_time()
            reply = await handler(request)
            self.last_s = time.thread_time() - start_s
            return reply

        app.middlewares.insert(0, measured)


@dataclass(frozen=True)
class Difference:
    """How much longer one kind takes than another, as a share of the other's time."""

    share: float
    scatter: float
    """Its standard deviation."""

    def above(self, bound: float) -> bool:
        """Whether it is above `bound`, and no chance: four standard deviations off."""
        return self.share - 4 * self.scatter > bound


async def rounds(
    kinds: Mapping[str, Callable[[int], Awaitable[float]]], numbers: Sequence[int], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Seconds of each kind in each round."""
    rng, taken = random.Random(seed), dict[str, list[float]]()
    for number in numbers:
        order = list(kinds)
        rng.shuffle(order)
        for kind in order:
            taken.setdefault(kind, []).append(await kinds[kind](number))
    return {kind: np.array(times) for kind, times in taken.items()}


def difference(one: NDArray[np.float64], other: NDArray[np.float64], seed: int) -> Difference:
    """How much longer `one` takes than `other`, round by round."""
    drawn = np.random.default_rng(seed).integers(0, len(one), (DRAWS, len(one)))
    unit_s = float(np.quantile(other, QUANTILE))
    again = np.quantile(one[drawn], QUANTILE, axis=1) - np.quantile(other[drawn], QUANTILE, axis=1)
    found_s = float(np.quantile(one, QUANTILE)) - unit_s
    return Difference(found_s / unit_s, float(again.std()) / unit_s)
