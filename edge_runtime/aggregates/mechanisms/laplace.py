"""The discrete Laplace distribution with a rational scale, exactly, from uniform integers.

Canonne, Kamath and Steinke, "The discrete Gaussian for differential privacy", NeurIPS 2020 (arXiv
2004.00010), section 5.2 and algorithm 2. No exponential is ever worked out: a coin that falls yes with
probability e^-gamma is tossed by von Neumann's method, from coins with rational probabilities. How many
integers are drawn depends on chance and the scale, never on the sum that the noise is for.
"""

from __future__ import annotations

from fractions import Fraction

from edge_runtime.aggregates.mechanisms.exact import exp_below
from edge_runtime.aggregates.mechanisms.mechanism import Bits


def bernoulli_exp(gamma: Fraction, bits: Bits) -> bool:
    """True with probability e^-`gamma`, exactly (algorithm 1). Raises `ValueError` for a negative `gamma`.

    For gamma <= 1: coins with probability gamma / k for k = 1, 2 … until one says no; the number of tosses is
    odd with probability 1 - gamma + gamma^2/2! - … = e^-gamma.
    """
    if gamma < 0:
        raise ValueError("expected gamma of at least 0")
    whole = gamma.numerator // gamma.denominator
    for _ in range(whole):
        if not bernoulli_exp_small(Fraction(1), bits):
            return False
    return bernoulli_exp_small(gamma - whole, bits)


def bernoulli_exp_small(gamma: Fraction, bits: Bits) -> bool:
    """`bernoulli_exp` for `gamma` in 0 … 1."""
    tosses = 1
    while bits(gamma.denominator * tosses) < gamma.numerator:
        tosses += 1
    return tosses % 2 == 1


def discrete_laplace(scale: Fraction, bits: Bits) -> int:
    """An integer z with probability in proportion to e^(-|z| / scale), exactly (algorithm 2).

    Raises `ValueError` unless `scale` is positive.
    """
    if scale <= 0:
        raise ValueError("expected a positive scale")
    while True:
        size = _geometric(scale, bits)
        negative = bits(2) == 1
        if size or not negative:  # else zero would be twice as likely as it should
            return -size if negative else size


def _geometric(scale: Fraction, bits: Bits) -> int:
    """0, 1, 2 … with probability in proportion to e^(-y / scale)."""
    t, s = scale.numerator, scale.denominator
    while True:
        rest = bits(t)
        if bernoulli_exp_small(Fraction(rest, t), bits):
            break
    turns = 0
    while bernoulli_exp_small(Fraction(1), bits):
        turns += 1
    return (rest + t * turns) // s


def laplace_variance(scale: Fraction) -> Fraction:
    """Variance of `discrete_laplace(scale)`, from above and close: 2 o / (o - 1)^2, o just below e^(1/scale).

    The exact value is 1 / (cosh(1/scale) - 1). Raises `ValueError` when 1/scale is over 16.
    """
    odds = exp_below(scale**-1)
    a, b = odds.numerator, odds.denominator
    return Fraction(2 * a * b, (a - b) * (a - b))
