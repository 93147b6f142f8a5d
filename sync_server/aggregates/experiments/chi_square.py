"""The upper tail of the chi-square distribution for whole degrees of freedom. Pure."""

from __future__ import annotations

import math


def upper_tail(value: float, freedom: int) -> float:
    """P(X > value) for X chi-square with `freedom` degrees.

    A finite sum (Abramowitz and Stegun 26.4.4 and 26.4.5): for even degrees a Poisson tail, for odd ones the
    normal tail and the half-integer terms.

    >>> round(upper_tail(3.841458820694124, 1), 9), round(upper_tail(5.991464547107979, 2), 9)
    (0.05, 0.05)
    """
    half = max(0.0, value) / 2
    odd = freedom % 2
    term = math.sqrt(half / math.pi) * 2 * math.exp(-half) if odd else math.exp(-half)
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    for step in range(freedom // 2):
        total += term
        term *= half / (step + 1 + odd / 2)
    return min(1.0, total)
