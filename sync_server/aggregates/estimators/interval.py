"""A number with its interval, and the arithmetic that intervals share. Pure; exact, roots rounded up.

An interval covers the noise that the mechanism adds, given the inputs of the subjects who answered: it says
how far the released number may lie from the same number without noise. It is found by turning a test around:
a value belongs to it when the tally seen would not be surprising under that value. What is a count of answers
has a variance that is a known function of the value (the *score* interval, Wilson 1927), corrected by half a
count because counts are whole. That keeps its promise at small n and at the edges, where an estimate plus or
minus two standard deviations does not (Brown, Cai and DasGupta, Statistical Science 2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Final

Z95: Final = Fraction("1.959963984540054")
"""97.5 % point of the normal distribution."""
HALF: Final = Fraction(1, 2)
_ROOT_SCALE: Final = 10**15


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number of a release."""

    estimate: Fraction
    """Unbiased, except a quantile, which is consistent only. histogram: the share of a category in the
    subjects who answered; may lie outside 0 … 1."""
    variance: Fraction
    """Of `estimate`, at the values estimated; see the file that makes it."""
    low: Fraction
    """Lower end of the 95 % interval."""
    high: Fraction
    share: Fraction | None = None
    """histogram, count: held to what can be, non-negative and (histogram) with sum one."""


def score_interval(
    seen: Fraction, at_zero: Fraction, slope: Fraction, base: Fraction, growth: Fraction, step: Fraction
) -> tuple[Fraction, Fraction]:
    """All f with (|seen - at_zero - slope f| - step/2)^2 <= z^2 (base + growth f), z = 1.96.

    The mean of what was seen is `at_zero + slope f`, its variance `base + growth f`; it moves in steps of
    `step`, half of which is the correction for that. `slope` is positive. Both ends are roots of a quadratic.
    """
    square = Z95**2 / slope**2
    floor, tilt = base * square, growth * square

    def end(shift: Fraction, side: int) -> Fraction:
        middle = (seen + shift - at_zero) / slope
        inside = tilt * middle + tilt**2 / 4 + floor
        return middle + tilt / 2 + side * root(max(inside, Fraction(0)))

    exact = (seen - at_zero) / slope
    return min(end(-step / 2, -1), exact), max(end(step / 2, 1), exact)


def root(value: Fraction) -> Fraction:
    """Square root, rounded up to a multiple of 10^-15: an interval is never too narrow for it."""
    scaled = value * _ROOT_SCALE**2
    return Fraction(isqrt(scaled.numerator // scaled.denominator) + 1, _ROOT_SCALE)


def clipped(value: Fraction, low: Fraction, high: Fraction) -> Fraction:
    """The nearest number to `value` in low … high."""
    return min(max(value, low), high)
