"""Mean and sum of a bounded number. Pure; exact rationals.

Outputs z have the expectation s t of an input x, with t = 2x - S in steps (`Bounded.slope` is s). Of n
answers the tally holds T = sum of z and Q = sum of z^2; T / (n s S) is the unbiased mean of u = t/S in -1 …
1, which the bounds turn into the metric's unit. A value counts as its nearest step: that moves it by at most
2^-17 of the range, beside which no interval speaks.

Intervals, given the inputs of the subjects who answered:

- `piecewise`, plug-in: one answer has the variance A + s (1-s) t^2 and E[z^2] = A + s t^2. So (1-s) Q + s n A
  estimates the variance of T without bias, whatever the inputs are; n A is the least there can be. The normal
  point is widened as Student's is, by (z^2 + 1) / 4n, for a variance that is itself estimated.
- `duchi`, worst case: z^2 is always 1 and says nothing of the inputs, so the number of yes is taken as
  binomial, as if every subject were at the mean. No other inputs with that mean spread it more, and none has
  larger tails (Hoeffding, Annals of Mathematical Statistics 1956). It is the score interval (Wilson) with
  half a count. At epsilon 1 it is at most 1.13 times wider than were all inputs known.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from edge_runtime.aggregates.mechanisms import Bounded, Duchi
from sync_server.aggregates.estimators.interval import Z95, Estimate, clipped, root

ONE = Fraction(1)


def mean_of(tally: Sequence[int], n: int, mechanism: Bounded, low: Fraction, high: Fraction) -> Estimate:
    """The mean of n subjects' numbers, in the unit of the bounds.

    Args:
        tally: sum of the outputs, sum of their squares.
        n: answers in it; at least 1.
    """
    scale = mechanism.slope * mechanism.steps
    u = Fraction(tally[0], n) / scale
    if isinstance(mechanism, Duchi):
        worst = ONE / scale**2 - clipped(u, -ONE, ONE) ** 2
        spread, ends = worst / n, _wilson(tally[0], n, scale)
    else:
        spread = _piecewise_variance(tally[1], n, mechanism)
        half = Z95 * (1 + (Z95**2 + 1) / (4 * n)) * root(spread)
        ends = (u - half, u + half)
    radius, middle = (high - low) / 2, (high + low) / 2
    placed = (middle + radius * end for end in ends)
    return Estimate(middle + radius * u, spread * radius**2, *placed)


def times(n: int, mean: Estimate) -> Estimate:
    """The sum over n subjects."""
    return Estimate(n * mean.estimate, n * n * mean.variance, n * mean.low, n * mean.high)


def _wilson(total: int, n: int, scale: Fraction) -> tuple[Fraction, Fraction]:
    """All u with (|T/n - scale u| - 1/n)^2 <= z^2 (1 - scale^2 u^2) / n: T moves in steps of two."""
    k = Z95**2 / n

    def end(side: int) -> Fraction:
        seen = Fraction(total + side, n)
        inside = max(k * (1 + k - seen**2), Fraction(0))
        return (seen + side * root(inside)) / (1 + k) / scale

    exact = Fraction(total, n) / scale
    return min(end(-1), exact), max(end(1), exact)


def _piecewise_variance(squares: int, n: int, mechanism: Bounded) -> Fraction:
    """Variance of the estimate of u, without bias; at least what it is with all inputs in the middle."""
    s, steps = mechanism.slope, mechanism.steps
    scale = s * steps
    least = mechanism.variance(0) * scale**2 - s * (1 - s) * steps**2
    found = max((1 - s) * Fraction(squares, n) + s * least, least)
    return found / (n * scale**2)
