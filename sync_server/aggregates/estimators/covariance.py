"""Covariance of the estimated shares of a histogram, for whatever adds or compares them. Pure.

Covariance of the estimates of u and w: one answer of a subject in v names both with probability `own` when v
is u or w, and `other` when it is neither (`pair_rates`); the two indicators have means p, q or q, q. So
Cov(Z_u, Z_w | v) is own - p q for a part f_u + f_w of the subjects and other - q^2 for the rest, and

    Cov(f_u, f_w) = ((f_u + f_w) (own - p q) + (1 - f_u - f_w) (other - q^2)) / (n (p-q)^2).

That is given the subjects who answered. What speaks of the population that they came from (drift,
experiments) counts their choice too: a multinomial sample, (diag(f) - f f^T) / n.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from edge_runtime.aggregates.mechanisms import Frequencies, RandomizedResponse, SubsetSelection
from sync_server.aggregates.estimators.shares import ZERO, variance

Floats = NDArray[np.float64]


def exact_covariance(shares: Sequence[Fraction], n: int, mechanism: Frequencies) -> list[list[Fraction]]:
    """Covariances of the estimates of all categories, where `shares` of n subjects are in them; K x K.

    Exact; the diagonal is `variance`. Rows sum to 0 where every answer names equally many categories.
    """
    p, q = mechanism.true_rate, mechanism.false_rate
    own, other = pair_rates(mechanism)
    scale = 1 / (n * (p - q) ** 2)
    near, far = (own - p * q) * scale, (other - q * q) * scale
    made = [[(f + g) * near + (1 - f - g) * far for g in shares] for f in shares]
    for category, share in enumerate(shares):
        made[category][category] = variance(share, n, mechanism)
    return made


def pair_rates(mechanism: Frequencies) -> tuple[Fraction, Fraction]:
    """Probabilities that an answer names two given categories: one is the subject's own; neither is.

    Subset selection of m in K: p (m-1)/(K-1), for the others in the set are any m-1 of K-1; and, the own one
    in the set or not, (p (m-1)(m-2) + (1-p) m (m-1)) / ((K-1)(K-2)). Randomized response never names two.
    Unary encoding names each by itself.
    """
    p, q, k = mechanism.true_rate, mechanism.false_rate, mechanism.categories
    match mechanism:
        case RandomizedResponse():
            return ZERO, ZERO
        case SubsetSelection(size=m):
            pairs = p * (m - 1) * (m - 2) + (1 - p) * m * (m - 1)
            return p * Fraction(m - 1, k - 1), pairs / max(1, (k - 1) * (k - 2))
        case _:
            return p * q, q * q


def population_covariance(shares: Floats, n: int, mechanism: Frequencies | None) -> Floats:
    """Noise and sampling together, in floats: n subjects are drawn from a population with these `shares`.

    Args:
        mechanism: how the answers were noised; None for answers in the clear.
    """
    found: Floats = (np.diag(shares) - np.outer(shares, shares)) / n
    return found if mechanism is None else found + _noise(shares, n, mechanism)


def _noise(shares: Floats, n: int, mechanism: Frequencies) -> Floats:
    """`exact_covariance` in floats."""
    p, q = float(mechanism.true_rate), float(mechanism.false_rate)
    own, other = map(float, pair_rates(mechanism))
    pairs = shares[:, None] + shares[None, :]
    both = pairs * (own - p * q) + (1 - pairs) * (other - q * q)
    np.fill_diagonal(both, shares * p * (1 - p) + (1 - shares) * q * (1 - q))
    found: Floats = both / (n * (p - q) ** 2)
    return found
