from __future__ import annotations

import ast
import itertools
import random
from collections import Counter
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge_runtime.aggregates.mechanisms as mechanisms
from edge_runtime.aggregates.mechanisms import (
    Frequencies,
    RandomizedResponse,
    SubsetSelection,
    UnaryEncoding,
    answer_bytes,
    best_size,
    exp_below,
    risk,
)
from edge_runtime.aggregates.mechanisms.answer import encode_answer
from tests.support.exact_laws import exp_bounds, label, law_of, named_sets, no_bits

THREE = Fraction(3)
SMALL: list[Frequencies] = [
    SubsetSelection(2, THREE, 1),
    SubsetSelection(4, THREE, 2),
    SubsetSelection(4, Fraction(3, 2), 3),
    SubsetSelection(5, Fraction(2), 2),
    RandomizedResponse(2, THREE),
    RandomizedResponse(5, Fraction(5, 2)),
    UnaryEncoding(2, THREE),
    UnaryEncoding(4, Fraction(2)),
]
EPSILONS = [Fraction(1, 10), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4)]


def at(epsilon: Fraction, categories: int) -> list[Frequencies]:
    return [
        SubsetSelection.of(categories, epsilon),
        RandomizedResponse.of(categories, epsilon),
        UnaryEncoding.of(categories, epsilon),
    ]


@pytest.mark.parametrize("epsilon", [*EPSILONS, Fraction(1, 1000), Fraction(16), Fraction(7, 3)])
def test_the_odds_never_exceed_e_to_the_epsilon_and_lie_just_below(epsilon: Fraction) -> None:
    """The rational stands under the true value by less than 2^-39."""
    low, _ = exp_bounds(epsilon) if epsilon <= 4 else (None, None)
    odds = exp_below(epsilon)
    if low is not None:
        assert low - Fraction(1, 1 << 39) < odds <= low
    else:  # e^16 by squaring e^4 twice, upper bound below
        upper = exp_bounds(epsilon / 4)[1] ** 4
        assert Fraction(999_999, 1_000_000) * upper < odds <= upper


@pytest.mark.parametrize("epsilon", [Fraction(0), Fraction(-1), Fraction(17)])
def test_an_epsilon_out_of_range_is_refused(epsilon: Fraction) -> None:
    """Zero, negative and absurd epsilons have no mechanism."""
    with pytest.raises(ValueError, match="epsilon"):
        exp_below(epsilon)


@pytest.mark.parametrize("mechanism", SMALL, ids=label)
def test_the_sampler_follows_its_stated_law_exactly(mechanism: Frequencies) -> None:
    """Running on every sequence of draws gives, answer by answer, the exact stated probability."""
    for category in range(mechanism.categories):
        law = law_of(partial(mechanism.randomize, category))
        assert sum(law.values()) == 1
        for answer in named_sets(mechanism.categories):
            assert law.get(answer, Fraction(0)) == mechanism.probability(answer, category)


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
@pytest.mark.parametrize("categories", [2, 3, 4, 7])
def test_law_9_no_answer_tells_more_than_the_claimed_epsilon(epsilon: Fraction, categories: int) -> None:
    """The largest ratio of probabilities is at most e^epsilon as exact fractions, and over 0.999 of it."""
    ceiling, above = exp_bounds(epsilon)
    for mechanism in at(epsilon, categories):
        worst = Fraction(0)
        for answer in named_sets(categories):
            chances = [mechanism.probability(answer, c) for c in range(categories)]
            if mechanism.supported(answer) is None:
                assert chances == [0] * categories
                continue
            assert min(chances) > 0
            worst = max(worst, max(chances) / min(chances))
        assert worst <= ceiling
        assert worst > Fraction(999, 1000) * above


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
@pytest.mark.parametrize("categories", [2, 4, 8])
def test_probabilities_sum_to_one_and_give_the_rates(epsilon: Fraction, categories: int) -> None:
    """Summed over all answers: total 1, own category named with p, each other with q."""
    for mechanism in at(epsilon, categories):
        named = [Fraction(0)] * categories
        total = Fraction(0)
        for answer in named_sets(categories):
            chance = mechanism.probability(answer, 1)
            total += chance
            for c in mechanism.supported(answer) or ():
                named[c] += chance
        assert total == 1
        assert named[1] == mechanism.true_rate
        assert all(rate == mechanism.false_rate for c, rate in enumerate(named) if c != 1)


def test_the_size_is_the_integer_with_the_least_risk() -> None:
    """Beside a plain search over the formula of Ye and Barg; near K / (1 + e^epsilon)."""
    for epsilon, categories in itertools.product(EPSILONS, (2, 3, 4, 16, 64, 100)):
        odds = exp_below(epsilon)
        size = best_size(categories, odds)
        assert all(
            risk(categories, size, odds, 1) <= risk(categories, m, odds, 1) for m in range(1, categories)
        )
        assert abs(size - categories / (1 + odds)) <= 1


def test_risk_is_the_estimators_exact_variance_on_uniform_data() -> None:
    """K · c(1-c) / (n (p-q)^2) with c = m/K, from the rates, equals the closed formula."""
    for epsilon, categories in itertools.product(EPSILONS, (2, 4, 16, 64)):
        mechanism = SubsetSelection.of(categories, epsilon)
        c = Fraction(mechanism.size, categories)
        gap = mechanism.true_rate - mechanism.false_rate
        expected = categories * c * (1 - c) / (1000 * gap * gap)
        assert risk(categories, mechanism.size, mechanism.odds, 1000) == expected


@pytest.mark.parametrize("mechanism", [*at(Fraction(1), 4), SubsetSelection.of(6, Fraction(1, 2))], ids=label)
def test_the_sampler_with_a_seed_passes_chi_square(mechanism: Frequencies) -> None:
    """20,000 answers against the exact law; the bound is the 99.9 % point."""
    rng = random.Random(20261122)
    n = 20_000
    seen = Counter(mechanism.randomize(2, rng.randrange) for _ in range(n))
    expected = {a: mechanism.probability(a, 2) * n for a in named_sets(mechanism.categories)}
    cells = {a: float(e) for a, e in expected.items() if e > 0}
    assert set(seen) <= set(cells)
    statistic = sum((seen[a] - e) ** 2 / e for a, e in cells.items())
    freedom = len(cells) - 1
    # Wilson and Hilferty 1931: the chi-square quantile from the normal one, 3.09 for 99.9 %
    bound = freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert statistic < bound


@pytest.mark.parametrize("mechanism", at(Fraction(1), 16), ids=label)
def test_the_number_and_ranges_of_draws_do_not_depend_on_the_category(mechanism: Frequencies) -> None:
    """T21: what the sampler asks of chance is the same sequence of ranges for every category."""
    asked: list[list[int]] = []
    for category in range(16):
        sides: list[int] = []
        rng = random.Random(category)

        def bits(n: int, sides: list[int] = sides, rng: random.Random = rng) -> int:
            sides.append(n)
            return rng.randrange(n)

        mechanism.randomize(category, bits)
        asked.append(sides)
    assert all(sides == asked[0] for sides in asked)


@given(st.integers(2, 300), st.integers(0, 2**32))
def test_an_answer_has_one_length_and_passes_its_own_support_check(categories: int, seed: int) -> None:
    """T27: every answer of a metric has the same padded length; an honest one is always supported."""
    rng = random.Random(seed)
    for mechanism in at(Fraction(1), categories):
        answer = mechanism.randomize(rng.randrange(categories), rng.randrange)
        assert len(answer) == answer_bytes(categories)
        assert len(answer) % 32 == 0
        assert mechanism.supported(answer) is not None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x03",
        encode_answer([0, 1], 4)[:-1],
        encode_answer([0, 1], 4) + b"\x00",
        encode_answer([0], 4),
        encode_answer([0, 1, 2], 4),
        encode_answer([], 4),
        encode_answer([0, 4], 5),
        b"\xff" * 32,
        encode_answer([0, 1], 4)[:-1] + b"\x80",
    ],
)
def test_bytes_that_no_honest_device_sends_are_outside_the_support(answer: bytes) -> None:
    """T25: wrong length, wrong number of names, names past the last category, dirty padding."""
    mechanism = SubsetSelection(4, THREE, 2)
    assert mechanism.supported(answer) is None
    assert mechanism.probability(answer, 0) == 0
    if answer != encode_answer([0], 4):
        assert RandomizedResponse(4, THREE).supported(answer) is None


@pytest.mark.parametrize("mechanism", SMALL, ids=label)
def test_a_category_out_of_range_draws_nothing(mechanism: Frequencies) -> None:
    """A bad category is the caller's error before any chance is used, and its number is not in the text."""
    for category in (-1, mechanism.categories, 977):
        with pytest.raises(ValueError, match="expected an input") as raised:
            mechanism.randomize(category, no_bits)
        assert "977" not in str(raised.value)


@pytest.mark.parametrize(("categories", "size"), [(1, 1), (4, 0), (4, 4), (10_002, 1)])
def test_a_mechanism_that_makes_no_sense_cannot_be_built(categories: int, size: int) -> None:
    """One category, a full or empty set and too many categories are refused."""
    with pytest.raises(ValueError):
        SubsetSelection(categories, THREE, size)


def test_no_float_on_the_randomize_path() -> None:
    """T21: no float literal, no true division, no float(), no math but comb, in any file of the package."""
    folder = Path(mechanisms.__file__).parent
    files = sorted(folder.glob("*.py"))
    assert len(files) >= 7
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            place = f"{file.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Constant):
                assert not isinstance(node.value, float | complex), place
            if isinstance(node, ast.BinOp | ast.AugAssign):
                assert not isinstance(node.op, ast.Div), place
            if isinstance(node, ast.Name):
                assert node.id not in ("float", "complex", "round", "random", "numpy"), place
            if isinstance(node, ast.Import):
                assert all(name.name not in ("math", "random", "numpy") for name in node.names), place
            if isinstance(node, ast.ImportFrom) and node.module == "math":
                assert [name.name for name in node.names] == ["comb"], place
            if isinstance(node, ast.ImportFrom):
                assert node.module not in ("random", "numpy", "secrets", "time", "os"), place
