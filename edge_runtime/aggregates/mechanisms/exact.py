"""e to the epsilon from below, in integers: the claimed epsilon is a ceiling, never an approximation."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

ODDS_BITS: Final = 40
"""Odds are multiples of 2^-40: epsilon falls short of the claim by less than 10^-12."""
_WORK_BITS: Final = 128
EPSILON_LIMIT: Final = 16
"""Larger than any ceiling a device accepts; keeps the integers small."""


def exp_below(epsilon: Fraction) -> Fraction:
    """The largest multiple of 2^-40 that this series proves to be at most e^epsilon.

    The terms of the exponential series are positive and each is rounded down, so every partial sum lies under
    the true value. Raises `ValueError` unless 0 < epsilon <= 16.

    >>> exp_below(Fraction(1)) < Fraction("2.718281828459045235361")
    True
    """
    if not 0 < epsilon <= EPSILON_LIMIT:
        raise ValueError(f"expected 0 < epsilon <= {EPSILON_LIMIT}, got {epsilon}")
    term = total = 1 << _WORK_BITS
    n = 0
    while term:
        n += 1
        term = term * epsilon.numerator // (epsilon.denominator * n)
        total += term
    return Fraction(total >> (_WORK_BITS - ODDS_BITS), 1 << ODDS_BITS)
