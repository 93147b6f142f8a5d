"""Duchi and piecewise: exactly unbiased on every grid tried, the stated variance, the better of the two."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from edge_runtime.aggregates.mechanisms import (
    STEPS,
    Bounded,
    Duchi,
    Piecewise,
    best_bounded,
    best_width,
    bounded,
    exp_below,
)
from tests.support.exact_laws import every_answer, label

GRIDS: list[Bounded] = [
    *(Duchi(steps, odds) for steps in (2, 3, 8) for odds in (Fraction(3), Fraction(11, 10))),
    *(
        Piecewise(s, odds, w)
        for s in (2, 3, 8)
        for w in (1, 2, 4)
        for odds in (Fraction(3), Fraction(11, 10))
    ),
    *(m.of(16, Fraction(e)) for m in (Duchi, Piecewise) for e in ("0.1", "1", "4")),
]


def moments(mechanism: Bounded, value: int) -> tuple[Fraction, Fraction]:
    """E[output] and E[output^2], summed over all answers."""
    first = second = Fraction(0)
    for answer in every_answer(mechanism):
        chance = mechanism.probability(answer, value)
        moves = dict(mechanism.moves(answer) or ())
        assert moves[1] == moves[0] ** 2
        first += chance * moves[0]
        second += chance * moves[1]
    return first, second


@pytest.mark.parametrize("mechanism", GRIDS, ids=label)
def test_the_expectation_is_exactly_linear_in_the_input(mechanism: Bounded) -> None:
    """Over all inputs of the grid, as fractions: E[output] = slope (2x - steps); one answer is unbiased."""
    for value in range(mechanism.inputs):
        first, _ = moments(mechanism, value)
        assert first == mechanism.slope * (2 * value - mechanism.steps)
        assert (first / mechanism.slope + mechanism.steps) / 2 == value


@pytest.mark.parametrize("mechanism", GRIDS, ids=label)
def test_the_variance_is_the_stated_one_and_the_worst_is_the_largest(mechanism: Bounded) -> None:
    """From the moments over all answers, in squared half-ranges."""
    scale = (mechanism.slope * mechanism.steps) ** 2
    found = []
    for value in range(mechanism.inputs):
        first, second = moments(mechanism, value)
        found.append((second - first**2) / scale)
        assert found[-1] == mechanism.variance(value)
    assert max(found) == mechanism.worst_variance


@pytest.mark.parametrize("epsilon", ["0.1", "0.7", "1", "2", "3.5", "8"])
@pytest.mark.parametrize("steps", [2, 3, 10, 33])
def test_the_width_is_the_integer_with_the_least_worst_variance(steps: int, epsilon: str) -> None:
    """Beside a plain search over every width there may be."""
    odds = exp_below(Fraction(epsilon))
    worst = {w: Piecewise(steps, odds, w).worst_variance for w in range(1, 2 * steps + 1)}
    assert worst[best_width(steps, odds)] == min(worst.values())


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_at_the_published_width_the_variance_is_the_published_one(epsilon: float) -> None:
    """Wang et al. 2019: 4 e^(eps/2) / (3 (e^(eps/2) - 1)^2) with a window of e^(-eps/2); ours is no worse."""
    odds = exp_below(Fraction(repr(epsilon)))
    width = round(STEPS * math.exp(-epsilon / 2))
    half = math.exp(epsilon / 2)
    published = 4 * half / (3 * (half - 1) ** 2)
    assert float(Piecewise(STEPS, odds, width).worst_variance) == pytest.approx(published, rel=1e-4)
    assert bounded("piecewise", STEPS, Fraction(repr(epsilon))).worst_variance < Fraction(published)


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_duchis_variance_is_the_published_one(epsilon: float) -> None:
    """((e^eps + 1) / (e^eps - 1))^2 in the worst case, at the middle."""
    published = ((math.exp(epsilon) + 1) / (math.exp(epsilon) - 1)) ** 2
    worst = bounded("duchi", STEPS, Fraction(repr(epsilon))).worst_variance
    assert float(worst) == pytest.approx(published, rel=1e-9)


def test_the_better_of_the_two_is_chosen() -> None:
    """One bit for small epsilon, a window for large; the change is near 1.18."""
    names = {e: best_bounded(STEPS, Fraction(e)) for e in ("0.1", "1", "1.18", "1.19", "2", "4")}
    assert names == {
        **dict.fromkeys(("0.1", "1", "1.18"), "duchi"),
        **dict.fromkeys(("1.19", "2", "4"), "piecewise"),
    }


@pytest.mark.parametrize("epsilon", ["0.5", "1", "2", "4"])
@pytest.mark.parametrize("name", ["duchi", "piecewise"])
def test_the_mean_of_many_answers_is_the_mean_of_the_inputs(name: str, epsilon: str) -> None:
    """4,000 seeded answers over a skewed population, within 4 standard deviations."""
    mechanism, rng = bounded(name, STEPS, Fraction(epsilon)), random.Random(5)
    inputs = [int(STEPS * rng.random() ** 3) for _ in range(4_000)]
    tally = [0, 0]
    for value in inputs:
        for cell, amount in mechanism.moves(mechanism.randomize(value, rng.randrange)) or ():
            tally[cell] += amount
    found = (Fraction(tally[0], len(inputs)) / mechanism.slope + STEPS) / 2
    deviation = math.sqrt(float(sum(map(mechanism.variance, inputs)))) / len(inputs) * STEPS / 2
    assert abs(float(found) - sum(inputs) / len(inputs)) < 4 * deviation
