"""Which mechanism answers a histogram: the one with the least expected error, unless the author says which.

Subset selection is never beaten in expected squared error (Ye and Barg, 2018). Where its best set holds one
category it *is* randomized response, which is then taken by its own name: same law, fewer draws.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final

from edge_runtime.aggregates.mechanisms.mechanism import Frequencies
from edge_runtime.aggregates.mechanisms.response import RandomizedResponse
from edge_runtime.aggregates.mechanisms.subset import SubsetSelection
from edge_runtime.aggregates.mechanisms.unary import UnaryEncoding

FREQUENCIES: Final = ("randomized_response", "subset_selection", "unary_encoding")


@lru_cache(maxsize=64)
def frequencies(name: str, categories: int, epsilon: Fraction) -> Frequencies:
    """The mechanism of this name for `categories` at `epsilon`. Raises `ValueError` for an unknown name."""
    match name:
        case "randomized_response":
            return RandomizedResponse.of(categories, epsilon)
        case "subset_selection":
            return SubsetSelection.of(categories, epsilon)
        case "unary_encoding":
            return UnaryEncoding.of(categories, epsilon)
        case _:
            raise ValueError(f"expected one of {' '.join(FREQUENCIES)}, got {name}")


def expected_error(mechanism: Frequencies, n: int = 1) -> Fraction:
    """Expected squared l2 error of the unbiased estimate for n subjects drawn uniformly over the categories.

    K c (1 - c) / (n (p - q)^2) with c = (p + (K-1) q) / K, the rate at which a category is named; from the
    mechanism's rates alone, so it holds for each of them.
    """
    k, p, q = mechanism.categories, mechanism.true_rate, mechanism.false_rate
    named = (p + (k - 1) * q) * Fraction(1, k)
    spread = p - q
    return k * named * (1 - named) * (spread * spread) ** -1 * Fraction(1, n)


def best_frequencies(categories: int, epsilon: Fraction) -> str:
    """The name with the least `expected_error`; of equals the first, which is the cheaper one."""
    return min(FREQUENCIES, key=lambda name: expected_error(frequencies(name, categories, epsilon)))
