"""One contract for every local mechanism: its law, its claim, its length, its draws, what it refuses."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.aggregates.chance import system_bits
from edge_runtime.aggregates.mechanisms import (
    STEPS,
    Duchi,
    Hierarchical,
    Mechanism,
    Piecewise,
    RandomizedResponse,
    SubsetSelection,
    Tree,
    UnaryEncoding,
    answer_again,
    bounded,
)
from tests.support.exact_laws import Recorded, every_answer, exp_bounds, label, law_of, no_bits

THREE = Fraction(3)
EPSILONS = [Fraction(1, 10), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4)]
SMALL: list[Mechanism] = [
    RandomizedResponse(4, THREE),
    SubsetSelection(4, THREE, 2),
    UnaryEncoding(3, Fraction(2)),
    Duchi(2, THREE),
    Duchi(5, Fraction(5, 2)),
    Piecewise(2, THREE, 1),
    Piecewise(4, Fraction(3, 2), 3),
    Piecewise(7, Fraction(2), 5),
    Hierarchical(Tree(4, 2), (RandomizedResponse(2, THREE), SubsetSelection(4, THREE, 2))),
    Hierarchical(Tree(5, 2), tuple(RandomizedResponse(k, Fraction(2)) for k in (2, 3, 5))),
    Hierarchical(Tree(3, 3), (UnaryEncoding(3, Fraction(2)),)),
]
"""Small odds, so that every sequence of draws can be run."""


def at(epsilon: Fraction) -> list[Mechanism]:
    """One of each at a real epsilon, small enough that all answers can be listed."""
    return [
        RandomizedResponse.of(5, epsilon),
        SubsetSelection.of(5, epsilon),
        UnaryEncoding.of(5, epsilon),
        Duchi.of(9, epsilon),
        Piecewise.of(9, epsilon),
        Hierarchical.of(6, epsilon),
        Hierarchical.of(8, epsilon),
    ]


def large(epsilon: Fraction) -> list[Mechanism]:
    """One of each as they are used."""
    return [
        RandomizedResponse.of(64, epsilon),
        SubsetSelection.of(64, epsilon),
        UnaryEncoding.of(64, epsilon),
        bounded("duchi", STEPS, epsilon),
        bounded("piecewise", STEPS, epsilon),
        Hierarchical.of(64, epsilon),
        Hierarchical.of(512, epsilon),
    ]


@pytest.mark.parametrize("mechanism", SMALL, ids=label)
def test_the_sampler_follows_its_stated_law_exactly(mechanism: Mechanism) -> None:
    """Running on every sequence of draws gives, answer by answer, the exact stated probability."""
    for value in range(mechanism.inputs):
        law = law_of(partial(mechanism.randomize, value))
        assert sum(law.values()) == 1
        assert set(law) == set(every_answer(mechanism))
        assert all(chance == mechanism.probability(answer, value) for answer, chance in law.items())


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
def test_law_9_no_answer_tells_more_than_the_claimed_epsilon(epsilon: Fraction) -> None:
    """For every answer and pair of inputs the ratio is at most e^epsilon, and comes near; laws sum to 1."""
    ceiling, above = exp_bounds(epsilon)
    for mechanism in at(epsilon):
        laws = [
            {a: mechanism.probability(a, v) for a in every_answer(mechanism)} for v in range(mechanism.inputs)
        ]
        assert all(sum(law.values()) == 1 for law in laws)
        ratios = [max(law[a] for law in laws) / min(law[a] for law in laws) for a in every_answer(mechanism)]
        assert max(ratios) <= ceiling, label(mechanism)
        assert max(ratios) <= mechanism.odds
        assert max(ratios) > Fraction(999, 1000) * above


@pytest.mark.parametrize("mechanism", large(Fraction(1)), ids=label)
def test_the_number_and_ranges_of_draws_do_not_depend_on_the_input(mechanism: Mechanism) -> None:
    """T21: with one level for all, what the sampler asks of chance is the same for every input."""
    asked = set()
    first = mechanism.randomize(0, random.Random(7).randrange)
    for value in {0, 1, mechanism.inputs // 2, mechanism.inputs - 1}:
        chance = Recorded(random.Random(value).randrange)
        answer_again(mechanism, value, first, chance)
        asked.add(tuple(chance.sides))
    assert len(asked) == 1


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
def test_every_answer_has_one_length_and_moves_cells_of_the_tally(epsilon: Fraction) -> None:
    """T27: the length says nothing; an honest answer is always supported and moves no cell twice."""
    rng = random.Random(11)
    for mechanism in large(epsilon):
        for _ in range(40):
            answer = mechanism.randomize(rng.randrange(mechanism.inputs), rng.randrange)
            moves = mechanism.moves(answer)
            assert len(answer) == mechanism.answer_bytes
            assert moves is not None
            cells = [cell for cell, _ in moves]
            assert len(set(cells)) == len(cells)
            assert all(0 <= cell < mechanism.cells for cell in cells)
            assert mechanism.probability(answer, 0) > 0


@pytest.mark.parametrize("mechanism", [*SMALL, *large(Fraction(1))], ids=label)
def test_a_bad_input_draws_nothing(mechanism: Mechanism) -> None:
    """The caller's error before any chance is used, and its number is not in the text."""
    for value in (-1, mechanism.inputs, 99_771):
        with pytest.raises(ValueError, match="expected an input") as raised:
            mechanism.randomize(value, no_bits)
        assert "99771" not in str(raised.value)


@pytest.mark.parametrize("mechanism", [*SMALL, *at(Fraction(1)), *large(Fraction(1))], ids=label)
@given(data=st.data())
def test_garbage_is_refused_or_has_a_probability(mechanism: Mechanism, data: st.DataObject) -> None:
    """T25: bytes move the tally exactly when some honest device can send them."""
    n = mechanism.answer_bytes
    good = mechanism.randomize(0, random.Random(data.draw(st.integers(0, 9))).randrange)
    place = data.draw(st.integers(0, n - 1))
    flipped = good[:place] + bytes([good[place] ^ (1 << data.draw(st.integers(0, 7)))]) + good[place + 1 :]
    noise = data.draw(st.binary(min_size=0, max_size=n + 2))
    for answer in (flipped, noise, good[:-1], good + b"\0", noise.ljust(n, b"\0")[:n]):
        possible = mechanism.probability(answer, 0) > 0
        assert (mechanism.moves(answer) is not None) == possible
        assert possible == (mechanism.probability(answer, mechanism.inputs - 1) > 0)
        assert not possible or len(answer) == n


@pytest.mark.parametrize("mechanism", at(Fraction(1)), ids=label)
def test_the_sampler_with_a_seed_passes_chi_square(mechanism: Mechanism) -> None:
    """20,000 answers against the exact law; the bound is the 99.9 % point."""
    rng, n, value = random.Random(20261130), 20_000, mechanism.inputs - 2
    seen = Counter(mechanism.randomize(value, rng.randrange) for _ in range(n))
    expected = {a: float(mechanism.probability(a, value) * n) for a in every_answer(mechanism)}
    assert set(seen) <= set(expected)
    statistic = sum((seen[a] - e) ** 2 / e for a, e in expected.items())
    freedom = len(expected) - 1
    # Wilson and Hilferty 1931: the chi-square quantile from the normal one, 3.09 for 99.9 %
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3


@pytest.mark.parametrize(
    "broken",
    [
        lambda: Duchi(1, THREE),
        lambda: Duchi(4, Fraction(1)),
        lambda: Piecewise(1, THREE, 1),
        lambda: Piecewise(4, THREE, 0),
        lambda: Piecewise(4, THREE, 9),
        lambda: Piecewise(4, Fraction(1, 2), 2),
        lambda: Piecewise.of((1 << 20) + 1, Fraction(1)),
        lambda: Hierarchical(Tree(4, 2), (RandomizedResponse(2, THREE),)),
        lambda: Hierarchical(Tree(4, 2), (RandomizedResponse(2, THREE), RandomizedResponse(4, Fraction(2)))),
        lambda: Tree(1, 2),
        lambda: Tree(4_097, 2),
        lambda: Tree(4, 1),
        lambda: bounded("gauss", STEPS, Fraction(1)),
    ],
)
def test_a_mechanism_that_makes_no_sense_cannot_be_built(broken: Callable[[], object]) -> None:
    """No steps, no odds, no or too wide a window, levels that do not fit the tree, unknown names."""
    with pytest.raises(ValueError):
        broken()


def test_law_9_a_devices_chance_is_the_operating_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seeded one would give the same laws to every other test, and its noise to whoever knows the seed."""
    asked: list[int] = []

    def largest(n: int) -> int:
        asked.append(n)
        return n - 1

    monkeypatch.setattr(secrets, "randbelow", largest)
    assert [system_bits(n) for n in (2, 7, 1 << 90)] == [1, 6, (1 << 90) - 1]
    assert asked == [2, 7, 1 << 90]
