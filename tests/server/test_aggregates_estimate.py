from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.aggregates.mechanisms import (
    Frequencies,
    RandomizedResponse,
    SubsetSelection,
    UnaryEncoding,
)
from edge_runtime.aggregates.mechanisms.answer import encode_answer
from sync_server.aggregates.estimate import estimate, project, root, unbiased, variance

ONE = Fraction(1)
MECHANISMS: list[Frequencies] = [
    SubsetSelection.of(4, ONE),
    SubsetSelection(4, Fraction(3), 2),
    RandomizedResponse.of(3, ONE),
    UnaryEncoding.of(3, ONE),
]


def label(mechanism: Frequencies) -> str:
    return f"{mechanism.name}-{mechanism.categories}"


def every_answer(categories: int) -> Iterator[bytes]:
    for bits in itertools.product((0, 1), repeat=categories):
        yield encode_answer([c for c, bit in enumerate(bits) if bit], categories)


def moments(mechanism: Frequencies, truth: list[int], category: int) -> tuple[Fraction, Fraction]:
    """Exact mean and variance of the estimate over all joint answers of these subjects."""
    n, law = len(truth), {0: Fraction(1)}
    for own in truth:
        named = sum(
            (
                mechanism.probability(a, own)
                for a in every_answer(mechanism.categories)
                if category in (mechanism.supported(a) or ())
            ),
            Fraction(0),
        )
        step: dict[int, Fraction] = {}
        for count, chance in law.items():
            step[count] = step.get(count, Fraction(0)) + chance * (1 - named)
            step[count + 1] = step.get(count + 1, Fraction(0)) + chance * named
        law = step
    mean = sum((unbiased(c, n, mechanism) * chance for c, chance in law.items()), Fraction(0))
    square = sum((unbiased(c, n, mechanism) ** 2 * chance for c, chance in law.items()), Fraction(0))
    return mean, square - mean**2


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=label)
def test_the_estimator_is_exactly_unbiased_with_the_stated_variance(mechanism: Frequencies) -> None:
    """Summed over every joint outcome as fractions: mean is the truth, variance the formula."""
    truth = [0, 0, 1, 2, 0]
    for category in range(mechanism.categories):
        share = Fraction(truth.count(category), len(truth))
        mean, spread = moments(mechanism, truth, category)
        assert mean == share
        assert spread == variance(share, len(truth), mechanism)


def test_counts_of_one_answer_sum_as_the_subsets_do() -> None:
    """Estimates of subset selection sum to one exactly: every answer names m categories."""
    mechanism = SubsetSelection.of(16, ONE)
    rng = random.Random(3)
    counts = [0] * 16
    for _ in range(50):
        for c in mechanism.supported(mechanism.randomize(rng.randrange(16), rng.randrange)) or ():
            counts[c] += 1
    assert sum(e.estimate for e in estimate(counts, 50, mechanism)) == 1


@pytest.mark.parametrize(
    ("categories", "epsilon", "seed"), [(4, Fraction(1), 11), (4, Fraction(1, 2), 12), (8, Fraction(2), 13)]
)
def test_the_interval_covers_the_truth_in_95_percent(categories: int, epsilon: Fraction, seed: int) -> None:
    """Fixed seed, the production sampler, skewed truth: between 93 and 97 % of the intervals hold it."""
    mechanism, rng = SubsetSelection.of(categories, epsilon), random.Random(seed)
    n, rounds, held = 300, 150, 0
    truth = [min(int(rng.expovariate(1.0)), categories - 1) for _ in range(n)]
    shares = [Fraction(truth.count(c), n) for c in range(categories)]
    for _ in range(rounds):
        counts = [0] * categories
        for own in truth:
            for c in mechanism.supported(mechanism.randomize(own, rng.randrange)) or ():
                counts[c] += 1
        found = estimate(counts, n, mechanism)
        held += sum(e.low <= share <= e.high for e, share in zip(found, shares, strict=True))
    assert 0.93 <= held / (rounds * categories) <= 0.97


@given(st.lists(st.fractions(-2, 2, max_denominator=50), min_size=1, max_size=6))
def test_shares_are_non_negative_sum_to_one_and_keep_the_order(values: list[Fraction]) -> None:
    """For any estimates; what is already a distribution stays as it is."""
    shares = project(values)
    assert sum(shares) == 1
    assert min(shares) >= 0
    for (a, x), (b, y) in itertools.combinations(zip(values, shares, strict=True), 2):
        assert (x >= y) if a >= b else (x <= y)
    assert project(shares) == shares


@given(
    st.lists(st.integers(0, 6), min_size=3, max_size=3), st.lists(st.integers(0, 6), min_size=3, max_size=3)
)
def test_no_point_of_the_simplex_is_nearer_than_the_shares(values: list[int], other: list[int]) -> None:
    """The oracle is any other distribution on the grid."""
    total = sum(other)
    if total == 0:
        return
    point = [Fraction(v, 3) - 1 for v in values]
    rival = [Fraction(v, total) for v in other]
    mine = project(point)
    assert _distance(point, mine) <= _distance(point, rival)


def _distance(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum(((x - y) ** 2 for x, y in zip(a, b, strict=True)), Fraction(0))


@given(st.fractions(0, 100, max_denominator=1000))
def test_the_root_is_never_too_small(value: Fraction) -> None:
    """Its square reaches the value and passes it by less than 10^-12."""
    found = root(value)
    assert value <= found**2 < value + Fraction(1, 10**12)


def test_subset_probabilities_use_the_binomials_they_name() -> None:
    """p / C(K-1, m-1) and (1-p) / C(K-1, m), as Ye and Barg write them."""
    mechanism = SubsetSelection(5, Fraction(2), 2)
    with_own, without = encode_answer([0, 3], 5), encode_answer([1, 3], 5)
    assert mechanism.probability(with_own, 0) == mechanism.true_rate / comb(4, 1)
    assert mechanism.probability(without, 0) == (1 - mechanism.true_rate) / comb(4, 2)
