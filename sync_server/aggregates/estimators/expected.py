"""What error a round will have, before it is asked: standard error and half width of the interval. Pure.

Each number is worked out from the mechanism alone, for inputs that are stated: the truth is not known yet.

- histogram: a category with the share 1/K. The total is the expected squared l2 error on even data, and its
  ratio is to the least that any local mechanism can have there, `risk` at the best m (Ye and Barg 2018).
- count: half of the subjects say yes.
- mean, sum: the inputs with the most noise there are: all in the middle for `duchi`, all at one bound for
  `piecewise`.
- quantile: subjects spread evenly over the leaves, the quantile with the largest error, as many answers on
  each level as on the others. The standard error is that of the share below it times the range; the half
  width has half a leaf more.
- curator mode: whatever the inputs are.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

import numpy as np

from edge_runtime.aggregates.mechanisms import (
    STEPS,
    Bounded,
    Duchi,
    Frequencies,
    Question,
    best_size,
    bounded_for,
    curator_for,
    expected_error,
    frequencies_for,
    hierarchical_for,
    risk,
)
from sync_server.aggregates.estimators.bounded_mean import mean_of
from sync_server.aggregates.estimators.interval import Z95
from sync_server.aggregates.estimators.prefixes import Level, Prefixes
from sync_server.aggregates.estimators.quantiles import AnsweredLevel, SummedLevel
from sync_server.aggregates.estimators.shares import interval, variance
from sync_server.aggregates.estimators.sums import half_width


@dataclass(frozen=True, slots=True)
class Error:
    """What to expect of one number, in parts of its range.

    The range is 1 for a share, the number of subjects for a count, the distance of the bounds for a mean or
    quantile, and that times the number of subjects for a sum.
    """

    standard: float
    """Standard deviation of the estimate."""
    half: float
    """Half width of the 95 % interval."""
    total: float | None = None
    """histogram: expected squared l2 error over all categories."""
    ratio: float | None = None
    """local histogram: that over the theoretical limit."""


def expected(question: Question, subjects: int, kiosk_subjects: int) -> Error:
    """The error of a round of `question` that `subjects` answer.

    `kiosk_subjects`: how many of them one kiosk adds up; counts in curator mode only.
    """
    if question.mode == "curator":
        return _curated(question, subjects, -(-subjects // kiosk_subjects))
    match question.kind:
        case "histogram" | "count":
            return _shares(question, subjects, frequencies_for(question))
        case "mean" | "sum":
            return _number(subjects, bounded_for(question))
        case "quantile":
            mechanism = hierarchical_for(question)
            each = max(1, subjects // len(mechanism.levels))
            laid = [AnsweredLevel([0] * level.categories, each, level) for level in mechanism.levels]
            return _quantile(question, Prefixes(mechanism.tree, laid), subjects)


def _shares(question: Question, n: int, mechanism: Frequencies) -> Error:
    k = mechanism.categories
    share = Fraction(1, k)
    named = mechanism.false_rate + share * (mechanism.true_rate - mechanism.false_rate)
    low, high = interval(round(n * named), n, mechanism)
    standard, half = sqrt(variance(share, n, mechanism)), float((high - low) / 2)
    if question.kind == "count":
        return Error(standard, half)
    total = expected_error(mechanism, n)
    limit = risk(k, best_size(k, mechanism.odds), mechanism.odds, n)
    return Error(standard, half, float(total), float(total / limit))


def _number(n: int, mechanism: Bounded) -> Error:
    """The range of u is 2, so halve."""
    scale, half_range = mechanism.slope * mechanism.steps, Fraction(1, 2)
    if isinstance(mechanism, Duchi):
        tally = (0, n)
    else:
        least = mechanism.variance(0) * scale**2 - mechanism.slope * (1 - mechanism.slope) * STEPS**2
        tally = (0, round(n * (least + mechanism.slope * STEPS**2)))
    found = mean_of(tally, n, mechanism, -half_range, half_range)
    return Error(sqrt(mechanism.worst_variance / n) / 2, float((found.high - found.low) / 2))


def _quantile(question: Question, prefixes: Prefixes, n: int) -> Error:
    leaves = prefixes.tree.leaves
    even = np.full(leaves, 1 / leaves)
    worst = 0.0
    for tau in (Fraction(one) for one in question.quantiles):
        at = min(max(round(tau * leaves), 1), leaves - 1)
        worst = max(worst, float(prefixes.variances_at(np.array([at]), even, at / leaves, n)[0]))
    standard = sqrt(worst)
    return Error(standard, min(1.0, float(Z95) * standard + 0.5 / leaves))


def _curated(question: Question, n: int, reports: int) -> Error:
    curator = curator_for(question)
    noise = reports * curator.variance
    if curator.tree is not None:
        laid: list[Level] = [SummedLevel([0] * size, n, noise) for size in curator.tree.sizes]
        return _quantile(question, Prefixes(curator.tree, laid), n)
    unit = n * (STEPS if question.kind in ("mean", "sum") else 1)
    standard, half = sqrt(noise) / unit, float(half_width(curator.variance, reports) / unit)
    total = float(curator.cells * noise / n**2) if question.kind == "histogram" else None
    return Error(standard, half, total)
