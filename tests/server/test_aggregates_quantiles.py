"""Quantiles: the tree's levels made consistent, the variance of a prefix, and intervals that cover."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.aggregates.mechanisms import (
    Frequencies,
    Hierarchical,
    RandomizedResponse,
    SubsetSelection,
    Tree,
    UnaryEncoding,
    hierarchical_for,
)
from sync_server.aggregates.estimate import estimates
from sync_server.aggregates.estimators.prefixes import Prefixes
from sync_server.aggregates.estimators.quantiles import AnsweredLevel, SummedLevel, answered_levels, rising
from tests.support.answered import Ints, levels
from tests.support.questions import quantile

ODDS = Fraction(3)


def small() -> Hierarchical:
    """Three leaves: a ragged tree of two levels, 2 and 3 nodes."""
    return Hierarchical(Tree(3, 2), (RandomizedResponse(2, ODDS), SubsetSelection(3, ODDS, 2)))


def test_the_consistent_shares_are_exactly_unbiased() -> None:
    """Over every joint answer of three subjects and every draw of their levels, as fractions."""
    mechanism, truth = small(), [0, 2, 2]
    inner = [bytes([c]) + bytes(31) for c in range(8)]
    answers = [a for level in (0, 1) for i in inner if mechanism.moves(a := bytes([level]) + i) is not None]
    mean, total = [Fraction(0)] * 3, Fraction(0)
    for joint in itertools.product(answers, repeat=3):
        if len({a[0] for a in joint}) < 2:
            continue  # a level nobody answered on says nothing: the rest is spread evenly, see below
        chance, tally = Fraction(1), [0] * mechanism.cells
        for answer, own in zip(joint, truth, strict=True):
            chance *= mechanism.probability(answer, own)
            for cell, moved in mechanism.moves(answer) or ():
                tally[cell] += moved
        shares = Prefixes(mechanism.tree, answered_levels(tally, mechanism)).leaf_shares()
        assert sum(shares) == 1
        total += chance
        mean = [m + chance * share for m, share in zip(mean, shares, strict=True)]
    assert [m / total for m in mean] == [Fraction(1, 3), Fraction(0), Fraction(2, 3)]


def test_an_unanswered_finest_level_spreads_its_parents_evenly() -> None:
    mechanism = small()
    tally = [4, 0, 0, 0, 0, 4, 0]
    coarse = [Fraction(3, 2), Fraction(-1, 2)]  # (1 - 1/4) / (1/2), and the rest
    found = Prefixes(mechanism.tree, answered_levels(tally, mechanism)).leaf_shares()
    assert found == [coarse[0] / 2, coarse[0] / 2, coarse[1]]


@pytest.mark.parametrize(
    "inner",
    [RandomizedResponse(4, ODDS), SubsetSelection(4, ODDS, 2), UnaryEncoding(4, ODDS)],
    ids=lambda m: m.name,
)
def test_the_noise_of_a_weighted_sum_of_nodes_is_exact(inner: Frequencies) -> None:
    """Against the law of the answers, for any weights and shares."""
    rng = np.random.default_rng(3)
    weights, shares = rng.normal(size=4), rng.dirichlet([1.0] * 4)
    p, q, expected = float(inner.true_rate), float(inner.false_rate), 0.0
    support = [bytes([c]) + bytes(31) for c in range(16)]
    for own, share in enumerate(shares):
        law = [(float(inner.probability(a, own)), list(inner.supported(a) or ())) for a in support]
        sums = [(chance, weights[named].sum()) for chance, named in law]
        mean = sum(chance * value for chance, value in sums)
        expected += share * (sum(chance * value**2 for chance, value in sums) - mean**2)
    level = AnsweredLevel([0] * 4, 10, inner)
    found = level.spread(weights[None, :], shares[None, :])[0]
    assert found == pytest.approx(expected / (10 * (p - q) ** 2), rel=1e-9)


@pytest.mark.parametrize("leaves", [8, 11])
def test_the_variance_of_a_prefix_is_the_measured_one(leaves: int) -> None:
    """1,000 rounds with the levels drawn: each prefix within 5 standard errors of the square."""
    question, rng, rounds, n = quantile("2", leaves), np.random.default_rng(17), 1000, 300
    mechanism = hierarchical_for(question)
    values = np.minimum(rng.exponential(leaves / 4, n).astype(np.int64), leaves - 1)
    truth = np.bincount(values, minlength=leaves) / n
    curve = np.concatenate([[0], truth.cumsum()])
    seen = np.zeros((rounds, leaves + 1))
    for row in seen:
        tally = levels(mechanism, values, rng)
        weights = _level_sums(mechanism, tally)
        row[1:] = weights.cumsum()
    measured = ((seen - curve) ** 2).mean(axis=0)[1:-1]
    even = [n // len(mechanism.levels)] * len(mechanism.levels)
    laid = [AnsweredLevel([0] * m.categories, e, m) for m, e in zip(mechanism.levels, even, strict=True)]
    prefixes = Prefixes(mechanism.tree, laid)
    stated = [prefixes.variances(truth, float(curve[k]), n)[k] for k in range(1, leaves)]
    assert np.abs(measured / stated - 1).max() < 5 * (2 / rounds) ** 0.5


def _level_sums(mechanism: Hierarchical, tally: list[int]) -> NDArray[np.float64]:
    shares = Prefixes(mechanism.tree, answered_levels(tally, mechanism)).leaf_shares()
    return np.array([float(share) for share in shares])


def test_consistency_pays() -> None:
    """64 leaves, all subjects on every level: a prefix of 32 has under half the variance of 32 leaves."""
    tree = Tree(64, 4)
    laid = [SummedLevel([0] * size, 100, Fraction(8)) for size in tree.sizes]
    found = Prefixes(tree, laid).variances(np.full(64, 1 / 64), 0.5, 100)
    assert found[32] < 0.5 * 32 * 8 / 100**2
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert found[64] == pytest.approx(0, abs=1e-12)


TRUTHS = ("even", "skewed", "one leaf", "two ends")


def values_of(truth: str, n: int, leaves: int) -> Ints:
    rng = np.random.default_rng(9)
    match truth:
        case "even":
            return rng.integers(0, leaves, n)
        case "skewed":
            return np.minimum(rng.exponential(leaves / 8, n).astype(np.int64), leaves - 1)
        case "one leaf":
            return np.full(n, leaves // 3)
        case _:
            return np.where(np.arange(n) < n * 0.6, 0, leaves - 1)


@pytest.mark.parametrize(("epsilon", "n"), [("1/2", 200), ("1", 50), ("1", 2000), ("4", 50), ("4", 200)])
def test_the_interval_of_a_quantile_covers(epsilon: str, n: int) -> None:
    """100 rounds of each truth: held in at least 92 % of the 400, 2.8 standard errors under.

    There is no bound above: the ends are whole leaves, and where all subjects share one it is always held.
    """
    question, rng = quantile(epsilon, 16), np.random.default_rng(23)
    mechanism, held = hierarchical_for(question), np.zeros(3)
    for truth in TRUTHS:
        values = values_of(truth, n, 16)
        wanted = [int(np.sort(values)[-(-n * tenth // 10) - 1]) for tenth in (1, 5, 9)]
        for _ in range(100):
            found = estimates(question, levels(mechanism, values, rng), n, n).values()
            held += [e.low <= leaf and leaf + 1 <= e.high for e, leaf in zip(found, wanted, strict=True)]
    assert (held / 400 >= 0.92).all(), held


def test_with_fine_leaves_the_interval_is_no_narrower_and_hardly_wider_than_it_says() -> None:
    """64 leaves, evenly filled: of 450 quantiles 95 to 99.5 % are held. Were 2/5 of the variance used: 90."""
    question, rng, n = quantile("4", 64), np.random.default_rng(5), 400
    mechanism, values, held = hierarchical_for(question), np.arange(n) * 64 // n, 0
    wanted = [int(values[n * tenth // 10 - 1]) for tenth in (1, 5, 9)]
    for _ in range(150):
        found = estimates(question, levels(mechanism, values, rng), n, n).values()
        held += sum(e.low <= leaf and leaf + 1 <= e.high for e, leaf in zip(found, wanted, strict=True))
    assert 0.95 <= held / 450 <= 0.995


def test_the_interval_narrows_to_a_leaf_and_names_are_decimals() -> None:
    """At epsilon 4 and 20,000 subjects in one leaf nothing else is left; the median lies inside it."""
    question = quantile("4", 16)
    tally = levels(hierarchical_for(question), np.full(20_000, 5), np.random.default_rng(1))
    found = estimates(question, tally, 20_000, 20_000)
    assert list(found) == ["0.1", "0.5", "0.9"]
    assert [found["0.5"].low, found["0.5"].high] == [5, 6]
    assert 5 < found["0.5"].estimate < 6


def test_the_production_sampler_is_estimated_from_its_own_moves() -> None:
    """A ragged tree of 11 leaves through device code."""
    question, rng = quantile("4", 11), random.Random(8)
    mechanism = hierarchical_for(question)
    tally, values = [0] * mechanism.cells, [min(10, int(rng.expovariate(0.4))) for _ in range(1500)]
    for own in values:
        for cell, moved in mechanism.moves(mechanism.randomize(own, rng.randrange)) or ():
            tally[cell] += moved
    found = estimates(question, tally, 1500, 1500)["0.5"]
    assert found.low <= sorted(values)[750] < found.high <= 11
    assert found.high - found.low <= 3


def test_one_subject_gets_the_whole_range() -> None:
    """Nothing can be said of one answer; no division by nothing either."""
    question = quantile("1", 16)
    tally = levels(hierarchical_for(question), np.array([3]), np.random.default_rng(2))
    for found in estimates(question, tally, 1, 1).values():
        assert [found.low, found.high] == [0, 16]


@given(st.lists(st.fractions(-2, 2, max_denominator=9), min_size=1, max_size=6), st.randoms())
def test_the_risen_curve_is_the_nearest_that_never_falls(values: list[Fraction], rng: random.Random) -> None:
    """The oracle is any other rising sequence."""
    mine = rising(values)
    assert mine == sorted(mine)
    assert rising(mine) == mine
    other = sorted(rng.choice(values) + rng.randrange(-1, 2) for _ in values)
    assert _distance(values, mine) <= _distance(values, other)


def _distance(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum(((x - y) ** 2 for x, y in zip(a, b, strict=True)), Fraction(0))
