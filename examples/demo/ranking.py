"""The app's model on the kiosk: a linear scorer over the columns of the service `ranker`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

import edge_runtime as er

TOP = 20
"""How many items a recommendation shows, and the 20 of hit rate at 20."""
WEIGHTS = {"item_stats:popularity": 0.1, "goes_with": 1.0, "bought_before": 0.2}
"""Round numbers, set by hand on the earlier days (learn to 17 May, try 18 to 31 May), then left alone. The
other columns are the same for every candidate and could not change an order."""


def window(rt: er.Runtime) -> list[str]:
    """Return the popular items in the shop window, as last pushed; empty before the first push."""
    popular = rt.read("window:popular", shop="main").value
    return list(popular) if isinstance(popular, list | tuple) else []


def best_without(items: Sequence[str], basket: Collection[str]) -> list[str]:
    """Return the first TOP of `items` that are not in the basket already."""
    return [item for item in items if item not in basket][:TOP]


def recommend(rt: er.Runtime, customer: str, basket: Collection[str]) -> list[str]:
    """Return the TOP items for this customer now, best first, from what this kiosk alone knows."""
    candidates = [item for item in _candidates(rt, customer) if item not in basket]
    if not candidates:
        return []
    matrix = rt.matrix("ranker", user=customer, item=candidates)
    weights = np.array([WEIGHTS.get(name, 0.0) for name in matrix.names])
    scores = np.nan_to_num(matrix.values) @ weights
    order = np.argsort(-scores, kind="stable")[:TOP]
    return [candidates[i] for i in order]


def _candidates(rt: er.Runtime, customer: str) -> list[str]:
    """Popular items, partners of the last ones bought, and everything this customer bought before."""
    recent = rt.read("activity:last_items", user=customer).value
    bought = rt.read("activity:by_item", user=customer).value
    found = dict.fromkeys(window(rt))
    for item in recent if isinstance(recent, list | tuple) else ():
        partners = rt.read("item_stats:co_bought", item=str(item)).value
        found.update(dict.fromkeys(partners if isinstance(partners, dict) else ()))
    found.update(dict.fromkeys(getattr(bought, "counts", ())))
    return list(found)
