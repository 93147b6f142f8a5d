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
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from edge_runtime.aggregates.mechanisms import Frequencies
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
