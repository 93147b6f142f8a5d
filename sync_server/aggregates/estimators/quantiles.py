"""Quantiles, from a tree of histograms over equal leaves between the bounds. Pure.

The levels are made consistent (`prefixes.py`), so F(k), the share of the first k leaves, has one estimate and
a variance. A quantile tau is in the first leaf j with F(j+1) >= tau.

- interval: a leaf stays in it unless F(j+1) is surely under tau or F(j) surely at least tau, each at 2.5 %,
  judged by the variance it has where it equals tau: Woodruff's inversion (JASA 1952) as a test. It is one
  statement about one leaf, so that a curve that crosses tau more than once takes nothing away; the ends are
  the outer edges of the leaves that stay, so it is wider than 95 % asks where leaves are coarse. Where in its
  leaf a subject's value lies nobody knows: the interval holds for any place.
- estimate: F is made rising (least squares, pool adjacent violators) and read backwards, as if subjects lay
  evenly in a leaf. Not unbiased: no quantile has an unbiased estimate.
- variance: of the normal distribution that has this interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from typing import Final

import numpy as np

from edge_runtime.aggregates.mechanisms import Frequencies, Hierarchical
from sync_server.aggregates.estimators.covariance import pair_rates
from sync_server.aggregates.estimators.interval import Z95, Estimate, clipped
from sync_server.aggregates.estimators.prefixes import Floats, Prefixes, mean_by_row
from sync_server.aggregates.estimators.shares import project, unbiased, variance

ZERO, ONE = Fraction(0), Fraction(1)
_SLACK: Final = 1e-9
"""More than floating point loses of a standard deviation."""


@dataclass(frozen=True)
class AnsweredLevel:
    """A level that some subjects answered for, by a frequency mechanism."""

    counts: Sequence[int]
    answers: int
    mechanism: Frequencies

    @cached_property
    def shares(self) -> list[Fraction]:
        """Unbiased; all 0 when nobody answered."""
        if not self.answers:
            return [ZERO] * len(self.counts)
        return [unbiased(count, self.answers, self.mechanism) for count in self.counts]

    @property
    def precision(self) -> Fraction:
        """1 / variance of an empty node."""
        return 1 / variance(ZERO, self.answers, self.mechanism) if self.answers else ZERO

    def spread(self, weights: Floats, shares: Floats) -> Floats:
        """For each row a of `weights`, the mean over subjects v of Var(a·Z | v), debiased, per answer.

        With A = sum a, B = sum a^2 and Z_u whether an answer names u: E[a·Z | v] = q A + (p-q) a_v, and
        E[(a·Z)^2 | v] = p a_v^2 + q (B - a_v^2) + 2 own a_v (A - a_v) + other ((A - a_v)^2 - (B - a_v^2)),
        with the `pair_rates`.
        """
        p, q = float(self.mechanism.true_rate), float(self.mechanism.false_rate)
        own, other = (float(rate) for rate in pair_rates(self.mechanism))
        total, squares = weights.sum(axis=1, keepdims=True), (weights**2).sum(axis=1, keepdims=True)
        rest, rest_squares = total - weights, squares - weights**2
        second = p * weights**2 + q * rest_squares + 2 * own * weights * rest
        second += other * (rest**2 - rest_squares)
        found = mean_by_row(second - (q * total + (p - q) * weights) ** 2, shares)
        return found / (self.answers * (p - q) ** 2)


@dataclass(frozen=True)
class SummedLevel:
    """A level of a curator's sums over all its subjects, with independent noise on each node."""

    sums: Sequence[int]
    subjects: int
    noise: Fraction
    """Variance of one node's sum."""
    answers: None = None

    @property
    def shares(self) -> list[Fraction]:
        """Unbiased."""
        return [Fraction(amount, self.subjects) for amount in self.sums]

    @property
    def precision(self) -> Fraction:
        """1 / variance of a share."""
        return self.subjects**2 / self.noise

    def spread(self, weights: Floats, shares: Floats) -> Floats:
        """The noise is the same whatever is true."""
        found: Floats = (weights**2).sum(axis=1) * float(1 / self.precision)
        return found


def answered_levels(tally: Sequence[int], mechanism: Hierarchical) -> list[AnsweredLevel]:
    """The levels of a round's tally: nodes of all levels, then how many answered on each."""
    nodes = mechanism.tree.levels_of(tally)
    answers = [tally[mechanism.answers_cell(level)] for level in range(len(nodes))]
    return [AnsweredLevel(*parts) for parts in zip(nodes, answers, mechanism.levels, strict=True)]


def quantiles_of(
    prefixes: Prefixes, subjects: int, wanted: Sequence[Fraction], low: Fraction, high: Fraction
) -> list[Estimate]:
    """Each wanted quantile in the unit of the bounds `low` … `high`, which the leaves divide evenly."""
    leaves = prefixes.leaf_shares()
    shares = np.array([float(share) for share in project(leaves)])
    curve = [clipped(value, ZERO, ONE) for value in rising(list(accumulate(leaves, initial=ZERO)))]
    summed = np.array([float(value) for value in accumulate(leaves, initial=ZERO)])
    width = (high - low) / prefixes.tree.leaves
    found = []
    for tau in wanted:
        halves = float(Z95) * np.sqrt(prefixes.variances(shares, float(tau), subjects)) + _SLACK
        found.append(_quantile(tau, summed, halves, curve, low, width))
    return found


def _quantile(
    tau: Fraction, summed: Floats, halves: Floats, curve: Sequence[Fraction], low: Fraction, width: Fraction
) -> Estimate:
    """halves[k]: how far summed[k] is likely to lie from F(k), were that `tau`; `curve` is F made rising."""
    reached = summed[1:] + halves[1:] >= float(tau)
    short = summed[:-1] - halves[:-1] < float(tau)
    reached[-1] = short[0] = True  # F(leaves) is 1 and F(0) is 0, without any noise
    leaf = next(k for k in range(len(reached)) if curve[k + 1] >= tau or k == len(reached) - 1)
    rise = curve[leaf + 1] - curve[leaf]
    inside = clipped((tau - curve[leaf]) / rise, ZERO, ONE) if rise else Fraction(1, 2)
    first = min(int(np.argmax(reached)), leaf)
    last = max(len(short) - 1 - int(np.argmax(short[::-1])), leaf)
    bottom, top = low + first * width, low + (last + 1) * width
    return Estimate(low + (leaf + inside) * width, ((top - bottom) / (2 * Z95)) ** 2, bottom, top)


def rising(values: Sequence[Fraction]) -> list[Fraction]:
    """The nearest sequence (Euclid) to `values` that never falls: neighbours that fall share their mean.

    >>> rising([Fraction(0), Fraction(3), Fraction(1), Fraction(4)])
    [Fraction(0, 1), Fraction(2, 1), Fraction(2, 1), Fraction(4, 1)]
    """
    blocks: list[tuple[Fraction, int]] = []
    for value in values:
        total, size = value, 1
        while blocks and blocks[-1][0] * size >= total * blocks[-1][1]:
            before, count = blocks.pop()
            total, size = total + before, size + count
        blocks.append((total, size))
    return [total / size for total, size in blocks for _ in range(size)]
