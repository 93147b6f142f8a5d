"""What the server learns from the earlier days: how popular each item is, and what is bought with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log1p, sqrt

from examples.demo.purchases import Visit

PARTNERS = 30
"""How many co-bought items are kept for each item."""
WIDEST_BASKET = 80
"""Baskets with more different items say little about what goes with what, and are left out of pairs."""
SMOOTHING = 5
"""Added to each item's count, so that two rare items met by chance do not look inseparable."""


@dataclass(frozen=True, slots=True)
class ItemStats:
    """What the kiosks are told of one item."""

    popularity: float
    """log1p(baskets with it), as a share of the most popular item's: 0 to 1."""
    co_bought: Mapping[str, float]
    """Other items by how often they share a basket with it: cosine of the two, smoothed."""


def learn(visits: Iterable[Visit]) -> dict[str, ItemStats]:
    """Return the statistics of every item bought in `visits`, the most popular first."""
    baskets = [sorted({line.item for line in visit.lines}) for visit in visits if not visit.cancelled]
    bought = Counter(item for basket in baskets for item in basket)
    together = _together(baskets)
    top = log1p(max(bought.values(), default=1))
    return {
        item: ItemStats(round(log1p(count) / top, 4), _partners(item, together[item], bought))
        for item, count in sorted(bought.items(), key=lambda pair: (-pair[1], pair[0]))
    }


def _together(baskets: Iterable[list[str]]) -> dict[str, Counter[str]]:
    together: dict[str, Counter[str]] = defaultdict(Counter)
    for basket in baskets:
        if len(basket) <= WIDEST_BASKET:
            for item in basket:
                together[item].update(basket)
    return together


def _partners(item: str, counts: Mapping[str, int], bought: Mapping[str, int]) -> dict[str, float]:
    closeness = {
        other: round(count / sqrt((bought[item] + SMOOTHING) * (bought[other] + SMOOTHING)), 4)
        for other, count in counts.items()
        if other != item and count > 1
    }
    return dict(sorted(closeness.items(), key=lambda pair: (-pair[1], pair[0]))[:PARTNERS])
