"""The discrete Laplace sampler beside its closed form: exact on short runs of chance, tested on long ones."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import pytest

from edge_runtime.aggregates.mechanisms import Bits, bernoulli_exp, discrete_laplace, laplace_variance
from tests.support.exact_laws import no_bits

SCALES = [Fraction(1, 4), Fraction(1), Fraction(5, 2), Fraction(40, 3), Fraction(1 << 16)]


class Unfinished(Exception):
    """The script of draws ended before the sampler did."""


def started_law(sampler: Callable[[Bits], int], least: Fraction) -> tuple[dict[int, Fraction], Fraction]:
    """(probability of each outcome over all runs of chance no less likely than `least`, what is left)."""
    law: dict[int, Fraction] = {}
    rest = Fraction(0)
    waiting: list[tuple[list[int], Fraction]] = [([], Fraction(1))]
    while waiting:
        script, weight = waiting.pop()
        asked: list[int] = []

        def bits(n: int, script: list[int] = script, asked: list[int] = asked) -> int:
            asked.append(n)
            if len(asked) > len(script):
                raise Unfinished
            return script[len(asked) - 1]

        try:
            drawn = sampler(bits)
        except Unfinished:
            each = weight / asked[-1]
            if each < least:
                rest += weight
            else:
                waiting += [([*script, value], each) for value in range(asked[-1])]
            continue
        law[drawn] = law.get(drawn, Fraction(0)) + weight
    return law, rest


def mass(z: int, scale: Fraction) -> float:
    """(e^(1/t) - 1) / (e^(1/t) + 1) e^(-|z|/t), the closed form."""
    odds = math.exp(1 / float(scale))
    return (odds - 1) / (odds + 1) * math.exp(-abs(z) / float(scale))


def below(z: int, scale: Fraction) -> float:
    """P(Z <= z)."""
    odds = math.exp(1 / float(scale))
    tail = math.exp(-(abs(z) + (0 if z < 0 else 1)) / float(scale)) / (1 + 1 / odds)
    return tail if z < 0 else 1 - tail


@pytest.mark.parametrize("gamma", [Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3, 2)], ids=str)
def test_the_coin_falls_yes_with_e_to_the_minus_gamma_exactly(gamma: Fraction) -> None:
    """Over every run of chance down to 10^-5 the exact sums enclose e^-gamma, narrowly."""
    law, rest = started_law(partial(bernoulli_exp, gamma), Fraction(1, 100_000))
    assert sum(law.values()) + rest == 1
    assert rest < Fraction(1, 20)
    assert law.get(True, Fraction(0)) <= Fraction(math.exp(-gamma)) + Fraction(1, 10**12)
    assert law.get(True, Fraction(0)) + rest >= Fraction(math.exp(-gamma)) - Fraction(1, 10**12)


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(1), Fraction(2)], ids=str)
def test_the_noise_follows_the_closed_form_exactly(scale: Fraction) -> None:
    """Every short run of chance, weighed exactly: no outcome is likelier than it should, none rarer."""
    law, rest = started_law(partial(discrete_laplace, scale), Fraction(1, 20_000))
    assert sum(law.values()) + rest == 1
    assert rest < Fraction(1, 5)
    for z in range(-6, 7):
        found = float(law.get(z, Fraction(0)))
        assert found <= mass(z, scale) + 1e-12
        assert found + float(rest) >= mass(z, scale) - 1e-12
        assert law.get(z) == law.get(-z)


def test_the_closed_form_of_this_file_is_a_law() -> None:
    """Its masses sum to its distribution, to one."""
    for scale in SCALES[:4]:
        running = below(-400, scale)
        for z in range(-399, 400):
            running += mass(z, scale)
            assert running == pytest.approx(below(z, scale), abs=1e-12)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_long_run_passes_kolmogorov(scale: Fraction) -> None:
    """10,000 seeded draws; the bound is the 99.9 % point, which for a discrete law is on the safe side."""
    rng, n = random.Random(2004_00010), 10_000
    drawn = sorted(discrete_laplace(scale, rng.randrange) for _ in range(n))
    distance = max(abs(bisect_right(drawn, z) / n - below(z, scale)) for z in set(drawn))
    assert distance < 1.95 / n**0.5


@pytest.mark.parametrize("scale", SCALES[1:4], ids=str)
def test_a_long_run_passes_chi_square(scale: Fraction) -> None:
    """10,000 seeded draws in cells of at least 5 expected; the bound is the 99.9 % point."""
    rng, n = random.Random(20), 10_000
    seen = Counter(discrete_laplace(scale, rng.randrange) for _ in range(n))
    reach = max(z for z in range(1_000) if n * mass(z, scale) >= 5)
    cells = {z: n * mass(z, scale) for z in range(-reach, reach + 1)}
    tails = n * (1 - sum(cells.values()) / n)
    beyond = sum(count for z, count in seen.items() if abs(z) > reach)
    statistic = sum((seen[z] - e) ** 2 / e for z, e in cells.items()) + (beyond - tails) ** 2 / tails
    freedom = len(cells)
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_the_variance_is_the_closed_form_from_above(scale: Fraction) -> None:
    """1 / (cosh(1/t) - 1): never under it, and by less than a millionth over it."""
    exact = 1 / (2 * math.sinh(1 / float(scale) / 2) ** 2)
    assert exact * (1 - 1e-12) <= float(laplace_variance(scale)) <= exact * (1 + 1e-6)


def test_a_scale_or_gamma_that_makes_no_sense_draws_nothing() -> None:
    with pytest.raises(ValueError, match="scale"):
        discrete_laplace(Fraction(0), no_bits)
    with pytest.raises(ValueError, match="gamma"):
        bernoulli_exp(Fraction(-1, 2), no_bits)
