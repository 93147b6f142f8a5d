"""From noised counts to an estimate of each category's share, with an interval. Pure; exact rationals.

With p and q the probabilities that an answer names the subject's own category and a given other one, C the
number of n answers that name a category, and f the share of the n subjects who are in it:

- estimate: (C/n - q) / (p - q). Unbiased, so it may lie below 0 or above 1.
- variance: q(1-q) / (n (p-q)^2) + f (1-p-q) / (n (p-q)), exact given the subjects' true categories
  (Wang, Blocki, Li and Jha, USENIX Security 2017, equation 3); here f is the estimate, held to 0 … 1.
- interval: estimate ± 1.96 standard deviations, the normal approximation of a sum of n independent answers.
- share: the nearest point (Euclid) to the estimates that is non-negative and sums to one ("norm-sub", Wang
  et al., NDSS 2020). Easier to show, but biased near 0; the interval belongs to the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Final

from edge_runtime.aggregates.mechanisms import Frequencies, Question, frequencies_for

Z95: Final = Fraction("1.959963984540054")
"""97.5 % point of the normal distribution."""
_ROOT_SCALE: Final = 10**15


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number of a release: of a histogram, the share of a category in the subjects who answered."""

    estimate: Fraction
    variance: Fraction
    low: Fraction
    """Lower end of the 95 % interval."""
    high: Fraction
    share: Fraction | None = None
    """histogram: non-negative, and all shares sum to one."""


def estimates(question: Question, tally: Sequence[int], subjects: int, reports: int) -> dict[str, Estimate]:
    """Every number of a release, by its name.

    Args:
        tally: one sum a cell of the question's mechanism.
        subjects: whose answers are in it; at least 1.
        reports: in how many reports they came; the same number for a local mechanism.
    """
    found = estimate(tally, subjects, frequencies_for(question))
    return dict(zip(question.categories, found, strict=True))


def estimate(counts: Sequence[int], n: int, mechanism: Frequencies) -> list[Estimate]:
    """The estimate of each category.

    Args:
        counts: answers naming each category, in the order of the categories.
        n: answers in all; at least 1.
    """
    raw = [unbiased(count, n, mechanism) for count in counts]
    found = []
    for value, share in zip(raw, project(raw), strict=True):
        spread = variance(min(max(value, Fraction(0)), Fraction(1)), n, mechanism)
        half = Z95 * root(spread)
        found.append(Estimate(value, spread, value - half, value + half, share))
    return found


def unbiased(count: int, n: int, mechanism: Frequencies) -> Fraction:
    """(count/n - q) / (p - q)."""
    p, q = mechanism.true_rate, mechanism.false_rate
    return (Fraction(count, n) - q) / (p - q)


def variance(share: Fraction, n: int, mechanism: Frequencies) -> Fraction:
    """Variance of `unbiased` when `share` of n subjects are in the category."""
    p, q = mechanism.true_rate, mechanism.false_rate
    return q * (1 - q) / (n * (p - q) ** 2) + share * (1 - p - q) / (n * (p - q))


def project(values: Sequence[Fraction]) -> list[Fraction]:
    """The nearest point to `values` whose coordinates are non-negative and sum to one.

    >>> project([Fraction(3, 4), Fraction(1, 2), Fraction(-1, 4)])
    [Fraction(5, 8), Fraction(3, 8), Fraction(0, 1)]
    """
    ranked = sorted(values, reverse=True)
    running, shift = Fraction(0), Fraction(0)
    for kept, value in enumerate(ranked, start=1):
        running += value
        candidate = (running - 1) / kept
        if value - candidate > 0:
            shift = candidate
    return [max(value - shift, Fraction(0)) for value in values]


def root(value: Fraction) -> Fraction:
    """Square root, rounded up to a multiple of 10^-15: an interval is never too narrow for it."""
    scaled = value * _ROOT_SCALE**2
    return Fraction(isqrt(scaled.numerator // scaled.denominator) + 1, _ROOT_SCALE)
