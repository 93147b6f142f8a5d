"""Histogram and count: from how often answers name a category to its share. Pure; exact rationals.

With p and q the probabilities that an answer names the subject's own category and a given other one, C the
number of n answers that name a category, and f the share of the n subjects who are in it:

- estimate: (C/n - q) / (p - q). Unbiased, so it may lie below 0 or above 1.
- variance: (f p(1-p) + (1-f) q(1-q)) / (n (p-q)^2), exact given the subjects' true categories
  (Wang, Blocki, Li and Jha, USENIX Security 2017, equation 3); here f is the estimate, held to 0 … 1.
- interval: the score interval in f, for C is a sum of independent answers with mean n (q + f (p-q)) and
  variance n (f p(1-p) + (1-f) q(1-q)); both are linear in f, so nothing is plugged in.
- share: the nearest point (Euclid) to the estimates that is non-negative and sums to one ("norm-sub", Wang
  et al., NDSS 2020). Easier to show, but biased near 0; the interval belongs to the estimate.

Covariance of the estimates of u and w: one answer of a subject in v names both with probability `own` when v
is u or w, and `other` when it is neither (`pair_rates`); the two indicators have means p, q or q, q. So
Cov(Z_u, Z_w | v) is own - p q for a part f_u + f_w of the subjects and other - q^2 for the rest, and

    Cov(f_u, f_w) = ((f_u + f_w) (own - p q) + (1 - f_u - f_w) (other - q^2)) / (n (p-q)^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from edge_runtime.aggregates.mechanisms import Frequencies, RandomizedResponse, SubsetSelection
from sync_server.aggregates.estimators.interval import Estimate, clipped, score_interval

ZERO, ONE = Fraction(0), Fraction(1)


def estimate(counts: Sequence[int], n: int, mechanism: Frequencies) -> list[Estimate]:
    """The estimate of each category.

    Args:
        counts: answers naming each category, in the order of the categories.
        n: answers in all; at least 1.
    """
    raw = [unbiased(count, n, mechanism) for count in counts]
    found = []
    for count, value, share in zip(counts, raw, project(raw), strict=True):
        low, high = interval(count, n, mechanism)
        found.append(Estimate(value, variance(clipped(value, ZERO, ONE), n, mechanism), low, high, share))
    return found


def count_of(counts: Sequence[int], n: int, mechanism: Frequencies) -> Estimate:
    """How many of n subjects are in the second of two categories; `share` is the part of them, in 0 … 1."""
    yes = estimate(counts, n, mechanism)[1]
    return Estimate(n * yes.estimate, n * n * yes.variance, n * yes.low, n * yes.high, yes.share)


def unbiased(count: int, n: int, mechanism: Frequencies) -> Fraction:
    """(count/n - q) / (p - q)."""
    p, q = mechanism.true_rate, mechanism.false_rate
    return (Fraction(count, n) - q) / (p - q)


def variance(share: Fraction, n: int, mechanism: Frequencies) -> Fraction:
    """Variance of `unbiased` when `share` of n subjects are in the category."""
    p, q = mechanism.true_rate, mechanism.false_rate
    return (share * p * (1 - p) + (1 - share) * q * (1 - q)) / (n * (p - q) ** 2)


def interval(count: int, n: int, mechanism: Frequencies) -> tuple[Fraction, Fraction]:
    """The 95 % interval of a category that `count` of n answers name."""
    p, q = mechanism.true_rate, mechanism.false_rate
    base, growth = q * (1 - q) / n, (p - q) * (1 - p - q) / n
    return score_interval(Fraction(count, n), q, p - q, base, growth, Fraction(1, n))


def covariance(shares: Sequence[Fraction], n: int, mechanism: Frequencies) -> list[list[Fraction]]:
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


def project(values: Sequence[Fraction]) -> list[Fraction]:
    """The nearest point to `values` whose coordinates are non-negative and sum to one.

    >>> project([Fraction(3, 4), Fraction(1, 2), Fraction(-1, 4)])
    [Fraction(5, 8), Fraction(3, 8), Fraction(0, 1)]
    """
    ranked = sorted(values, reverse=True)
    running, shift = ZERO, ZERO
    for kept, value in enumerate(ranked, start=1):
        running += value
        candidate = (running - 1) / kept
        if value - candidate > 0:
            shift = candidate
    return [max(value - shift, ZERO) for value in values]
