"""Curator mode: kiosks added noise to exact sums over their own subjects. Pure; exact rationals.

A cell of the tally is the true sum plus one independent discrete Laplace draw a *report*; how many subjects
there are is exact. So every estimate is unbiased, with a variance that is known and does not depend on the
data: reports · v, v that of one draw.

Interval: a sum of R draws has heavier tails than the normal distribution, most so for one kiosk. With excess
kurtosis (3 + 1/v) / R the normal point z becomes z + (z^3 - 3z) (3 + 1/v) / 24R (Cornish and Fisher 1937, the
terms of an even distribution), and half a unit is added because sums are whole. Worked out exactly for R from
1 to 200 and scales from 1/4 to 1,000 that covers at least 94.98 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from edge_runtime.aggregates.mechanisms import Question, curator_for
from sync_server.aggregates.estimators.interval import HALF, Z95, Estimate, clipped, root
from sync_server.aggregates.estimators.prefixes import Prefixes
from sync_server.aggregates.estimators.quantiles import SummedLevel, quantiles_of
from sync_server.aggregates.estimators.shares import ONE, ZERO, project


def half_width(draw: Fraction, reports: int) -> Fraction:
    """Half width of the 95 % interval of a sum of `reports` draws, each of variance `draw`."""
    bend = (Z95**3 - 3 * Z95) * (3 + 1 / draw) / (24 * reports)
    return (Z95 + bend) * root(reports * draw) + HALF


def summed(cell: int, draw: Fraction, reports: int, unit: Fraction, start: Fraction = ZERO) -> Estimate:
    """The number `start` + `unit` times the sum of a cell, whose draws have the variance `draw`."""
    half, middle = half_width(draw, reports), Fraction(cell)
    ends = (start + unit * (middle - half), start + unit * (middle + half))
    return Estimate(start + unit * middle, reports * draw * unit**2, *ends)


def curated_shares(tally: Sequence[int], draw: Fraction, subjects: int, reports: int) -> list[Estimate]:
    """The share of each category. They need not sum to one: each cell has noise of its own."""
    found = [summed(cell, draw, reports, Fraction(1, subjects)) for cell in tally]
    held = project([one.estimate for one in found])
    return [replace(one, share=share) for one, share in zip(found, held, strict=True)]


def curated_count(cell: int, draw: Fraction, subjects: int, reports: int) -> Estimate:
    """How many say yes; `share` is the part of them, in 0 … 1."""
    found = summed(cell, draw, reports, ONE)
    return replace(found, share=clipped(found.estimate / subjects, ZERO, ONE))


def curated_mean(
    cell: int, draw: Fraction, subjects: int, reports: int, steps: int, bounds: tuple[Fraction, Fraction]
) -> Estimate:
    """The mean of numbers that were summed in `steps` between the bounds, in their unit."""
    low, high = bounds
    return summed(cell, draw, reports, (high - low) / (steps * subjects), low)


def curated_quantiles(
    question: Question, tally: Sequence[int], subjects: int, reports: int
) -> list[Estimate]:
    """Each quantile of `question`, from the sums of the nodes of its tree."""
    curator = curator_for(question)
    assert curator.tree is not None  # a quantile's has one
    noise = reports * curator.variance
    levels = [SummedLevel(nodes, subjects, noise) for nodes in curator.tree.levels_of(tally)]
    wanted = [Fraction(one) for one in question.quantiles]
    bounds = Fraction(question.low), Fraction(question.high)
    return quantiles_of(Prefixes(curator.tree, levels), subjects, wanted, *bounds)
