from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.aggregates.mechanisms import (
    Frequencies,
    RandomizedResponse,
    SubsetSelection,
    UnaryEncoding,
    frequencies,
    frequencies_for,
)
from edge_runtime.aggregates.mechanisms.answer import encode_answer
from edge_runtime.aggregates.mechanisms.choice import FREQUENCIES
from sync_server.aggregates.estimate import estimates
from sync_server.aggregates.estimators.covariance import exact_covariance
from sync_server.aggregates.estimators.interval import root
from sync_server.aggregates.estimators.shares import (
    estimate,
    interval,
    project,
    unbiased,
    variance,
)
from tests.support.answered import named
from tests.support.questions import count as count_question

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
        yes = sum(
            (
                mechanism.probability(a, own)
                for a in every_answer(mechanism.categories)
                if category in (mechanism.supported(a) or ())
            ),
            Fraction(0),
        )
        step: dict[int, Fraction] = {}
        for seen, chance in law.items():
            step[seen] = step.get(seen, Fraction(0)) + chance * (1 - yes)
            step[seen + 1] = step.get(seen + 1, Fraction(0)) + chance * yes
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


def covers(mechanism: Frequencies, n: int, own: int) -> float:
    """The exact probability that the interval of a category holds its share, `own` of n subjects."""
    p, q, share = float(mechanism.true_rate), float(mechanism.false_rate), Fraction(own, n)
    law = np.convolve(binomial(own, p), binomial(n - own, q))
    held = [low <= share <= high for low, high in (interval(c, n, mechanism) for c in range(n + 1))]
    return float(law[np.array(held)].sum())


def binomial(n: int, chance: float) -> NDArray[np.float64]:
    return np.array([comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(n + 1)])


@pytest.mark.parametrize("name", FREQUENCIES)
@pytest.mark.parametrize("epsilon", [Fraction(1, 2), Fraction(1), Fraction(4)], ids=str)
@pytest.mark.parametrize("categories", [2, 4, 16])
def test_an_interval_covers_at_least_95_percent_worked_out_exactly(
    name: str, epsilon: Fraction, categories: int
) -> None:
    """No simulation: the law of a count is two binomials. Empty, rare, even, half full and full categories.

    From above the coverage is held too, except where the count hardly varies: counts are whole.
    """
    mechanism = frequencies(name, categories, epsilon)
    for n in (50, 200):
        for own in sorted({0, 1, n // categories, n // 2, n}):
            found = covers(mechanism, n, own)
            named_more = n * (mechanism.true_rate - mechanism.false_rate)
            spread = named_more**2 * variance(Fraction(own, n), n, mechanism)
            assert found >= 0.95, (n, own, found)
            assert found <= (0.98 if spread >= 4 else 1), (n, own, found)


@pytest.mark.parametrize("name", FREQUENCIES)
@pytest.mark.parametrize("epsilon", ["1/2", "1", "4"])
def test_intervals_of_shares_cover_in_2000_rounds(name: str, epsilon: str) -> None:
    """2,000 subjects, skewed with an empty category: of 4 x 2,000 intervals 94 to 97.5 % hold the truth."""
    mechanism, rng = frequencies(name, 4, Fraction(epsilon)), np.random.default_rng(20261)
    subjects, rounds, held = [1500, 400, 100, 0], 2000, 0
    for own, counts in zip(subjects, named(mechanism, subjects, rounds, rng).T, strict=True):
        for count, times in zip(*np.unique(counts, return_counts=True), strict=True):
            low, high = interval(int(count), 2000, mechanism)
            held += int(times) * (low <= Fraction(own, 2000) <= high)
    assert 0.94 <= held / (4 * rounds) <= 0.975


@pytest.mark.parametrize("mechanism", [*MECHANISMS, SubsetSelection(5, Fraction(3), 3)], ids=label)
def test_the_covariance_is_exact(mechanism: Frequencies) -> None:
    """Summed over all answers of each subject as fractions; estimates of independent subjects add up."""
    truth, k = [0, 0, 1, 2, 0], mechanism.categories
    n, p, q = len(truth), mechanism.true_rate, mechanism.false_rate
    found = exact_covariance([Fraction(truth.count(c), n) for c in range(k)], n, mechanism)
    support = [a for a in every_answer(k) if mechanism.supported(a) is not None]
    for u, w in itertools.product(range(k), repeat=2):
        total = Fraction(0)
        for own in truth:
            law = [(mechanism.probability(a, own), mechanism.supported(a) or ()) for a in support]
            both = sum((chance for chance, c in law if u in c and w in c), Fraction(0))
            mean = [sum((chance for chance, c in law if x in c), Fraction(0)) for x in (u, w)]
            total += both - mean[0] * mean[1]
        assert found[u][w] == total / (n * (p - q)) ** 2


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=label)
def test_the_covariance_is_what_the_production_sampler_does(mechanism: Frequencies) -> None:
    """2,000 rounds of 20 subjects: each entry within 5 standard errors of what is measured."""
    rng, n, rounds, k = random.Random(4), 20, 2000, mechanism.categories
    truth = [0] * 12 + [1] * 6 + [2] * 2
    seen = np.zeros((rounds, k))
    for row in seen:
        for own in truth:
            row[list(mechanism.supported(mechanism.randomize(own, rng.randrange)) or ())] += 1
    measured = np.cov((seen / n).T / float(mechanism.true_rate - mechanism.false_rate))
    shares = [Fraction(truth.count(c), n) for c in range(k)]
    exact = np.array([[float(x) for x in row] for row in exact_covariance(shares, n, mechanism)])
    scale = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()) / rounds)
    assert (abs(measured - exact) <= 5 * 1.5 * scale).all()


def test_a_count_is_the_share_of_yes_times_the_subjects() -> None:
    """Estimate and interval may leave 0 … n; the share does not."""
    question = count_question("1")
    found = estimates(question, [95, 5], 100, 100)["count"]
    assert found.estimate == 100 * unbiased(5, 100, frequencies_for(question)) < 0
    assert found.low < found.estimate < found.high
    assert found.share == 0
    assert estimates(question, [5, 95], 100, 100)["count"].share == 1


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
