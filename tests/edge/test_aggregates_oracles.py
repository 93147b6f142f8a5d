"""Our noise beside other people's accountants: OpenDP and Google's dp-accounting (the `oracle` group)."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from edge_runtime.aggregates.mechanisms import (
    DAY_US,
    STEPS,
    DiscreteLaplace,
    Duchi,
    Hierarchical,
    Mechanism,
    Piecewise,
    RandomizedResponse,
    SubsetSelection,
    UnaryEncoding,
    cost_micros,
    discrete_laplace,
)
from edge_runtime.catalog.model import Metric, Ref
from tests.support.exact_laws import every_answer, label

MISSING = "the oracle group is not installed"
EPSILONS = [Fraction(1, 10), Fraction(1), Fraction(4)]
GRAIN = 1e-4
"""dp-accounting rounds privacy losses up to multiples of this."""


@pytest.fixture
def opendp() -> Any:
    found = pytest.importorskip("opendp.prelude", reason=MISSING)
    found.enable_features("contrib")
    return found


@pytest.fixture
def pld() -> Any:
    return pytest.importorskip("dp_accounting.pld.privacy_loss_distribution", reason=MISSING)


def local(epsilon: Fraction) -> list[Mechanism]:
    return [
        RandomizedResponse.of(5, epsilon),
        SubsetSelection.of(6, epsilon),
        UnaryEncoding.of(6, epsilon),
        Duchi.of(20, epsilon),
        Piecewise.of(20, epsilon),
        Hierarchical.of(8, epsilon),
    ]


def curators(epsilon: Fraction) -> list[DiscreteLaplace]:
    return [
        DiscreteLaplace.histogram(5, epsilon),
        DiscreteLaplace.count(epsilon),
        DiscreteLaplace.total(STEPS, epsilon),
        DiscreteLaplace.quantiles(64, epsilon),
    ]


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
def test_opendp_finds_our_epsilon_in_randomized_response(opendp: Any, epsilon: Fraction) -> None:
    """Given our rate of true answers, its privacy map says the claim."""
    for categories in (2, 5, 40):
        rate = float(RandomizedResponse.of(categories, epsilon).true_rate)
        theirs = opendp.m.make_randomized_response(list(range(categories)), prob=rate)
        assert theirs.map(1) == pytest.approx(float(epsilon), rel=1e-9)


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
def test_opendp_finds_our_epsilon_in_the_discrete_laplace(opendp: Any, epsilon: Fraction) -> None:
    """Given our scale, its privacy map says the claim at our sensitivity."""
    space = opendp.vector_domain(opendp.atom_domain(T=int)), opendp.l1_distance(T=int)
    for curator in curators(epsilon):
        theirs = opendp.m.make_laplace(*space, scale=float(curator.scale))
        assert theirs.map(curator.sensitivity) == pytest.approx(float(epsilon), rel=1e-9)


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(3), Fraction(1_000)], ids=str)
def test_opendps_noise_and_ours_have_one_law(opendp: Any, scale: Fraction) -> None:
    """Kolmogorov and Smirnov's test of 4,000 draws each; their chance has no seed: the bound is at 10^-7."""
    rng, n = random.Random(8), 4_000
    space = opendp.vector_domain(opendp.atom_domain(T=int)), opendp.l1_distance(T=int)
    theirs = sorted(opendp.m.make_laplace(*space, scale=float(scale))([0] * n))
    ours = sorted(discrete_laplace(scale, rng.randrange) for _ in range(n))
    distance = max(abs(bisect_right(theirs, z) - bisect_right(ours, z)) / n for z in {*ours, *theirs})
    assert distance < math.sqrt(-math.log(1e-7 / 2) / n)


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
def test_dp_accounting_finds_our_epsilon_in_every_local_mechanism(pld: Any, epsilon: Fraction) -> None:
    """From the laws of two inputs at the ends, at delta 0: the claim, but for its rounding up."""
    for mechanism in local(epsilon):
        laws = [
            {
                n: math.log(float(mechanism.probability(answer, value)))
                for n, answer in enumerate(every_answer(mechanism))
            }
            for value in (0, mechanism.inputs - 1)
        ]
        found = pld.from_two_probability_mass_functions(*laws).get_epsilon_for_delta(0)
        assert float(epsilon) * 0.999 <= found <= float(epsilon) + 2 * GRAIN, label(mechanism)


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
def test_dp_accounting_finds_our_epsilon_in_its_own_formulas(pld: Any, epsilon: Fraction) -> None:
    """Its randomized response and discrete Laplace with our parameters."""
    for categories in (2, 5, 40):
        noise = float(categories * RandomizedResponse.of(categories, epsilon).false_rate)
        found = pld.from_randomized_response(noise, categories).get_epsilon_for_delta(0)
        assert found == pytest.approx(float(epsilon), abs=2 * GRAIN)
    for curator in curators(epsilon):
        if curator.sensitivity < STEPS:  # it lists every loss: a sum over 2^16 steps would take it minutes
            found = pld.from_discrete_laplace_mechanism(
                float(1 / curator.scale), sensitivity=curator.sensitivity
            ).get_epsilon_for_delta(0)
            assert found == pytest.approx(float(epsilon), abs=2 * GRAIN)


def test_what_the_ledger_sums_covers_the_composition(pld: Any) -> None:
    """Randomized response, a noised count, again randomized response: the sum of what each was charged."""
    plain = Metric("m", "measurement", "count", Ref("v@1", "f"), 0.1, 10, DAY_US)
    charged = [cost_micros(replace(plain, epsilon=e)) for e in (0.1, 1.3, 2.0)]
    noises = [float(4 * RandomizedResponse.of(4, Fraction(e)).false_rate) for e in ("0.1", "2")]
    first, last = (pld.from_randomized_response(noise, 4) for noise in noises)
    middle = pld.from_discrete_laplace_mechanism(float(1 / DiscreteLaplace.count(Fraction("1.3")).scale))
    found = first.compose(middle).compose(last).get_epsilon_for_delta(0)
    assert found == pytest.approx(sum(charged) / 1e6, abs=6 * GRAIN)


def test_an_understated_claim_would_be_noticed(pld: Any) -> None:
    """The oracle can fail: a mechanism at 1.1 is not taken for one at 1."""
    found = pld.from_randomized_response(
        float(2 * RandomizedResponse.of(2, Fraction("1.1")).false_rate), 2
    ).get_epsilon_for_delta(0)
    assert found > 1.09
