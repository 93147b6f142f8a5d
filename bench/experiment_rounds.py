"""Rounds of an experiment by the thousand, drawn from the exact law of the production mechanism.

A report names a set of cells. Its probability given the subject's own cell is what the mechanism says
(`Mechanism.probability`), so for subjects drawn from a population the answers of a round are one multinomial
over all such sets: a tally is drawn at once, and is distributed exactly as that of n devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt

from edge_runtime.aggregates.mechanisms import Frequencies, Question, frequencies_for
from edge_runtime.aggregates.mechanisms.answer import encode_answer
from edge_runtime.aggregates.mechanisms.choice import best_frequencies
from sync_server.aggregates.estimators.shares import unbiased
from sync_server.aggregates.experiments.uplift import Uplift, uplift
from sync_server.aggregates.release import DIGITS

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """An experiment's population: who is exposed, and how often each arm succeeds."""

    exposed: float
    """Share of the subjects who are exposed."""
    rates: tuple[float, ...]
    """Of each arm, control first."""
    weights: tuple[int, ...] = (1, 1)

    @property
    def shares(self) -> Floats:
        """True shares of the cells: unexposed, then no and yes of each arm."""
        arms = self.exposed * np.asarray(self.weights) / sum(self.weights)
        rates = np.asarray(self.rates)
        return np.concatenate([[1 - self.exposed], np.stack([arms * (1 - rates), arms * rates], 1).ravel()])

    @property
    def arms(self) -> tuple[tuple[str, int], ...]:
        """(name, weight) as an experiment declares them."""
        return tuple((f"arm-{i}", weight) for i, weight in enumerate(self.weights))


def question_of_arms(arms: Sequence[tuple[str, int]], epsilon: str) -> Question:
    """What an experiment of these arms asks, by the mechanism that its metric would choose."""
    cells = ("unexposed", *(f"{arm}/{answer}" for arm, _ in arms for answer in ("no", "yes")))
    chosen = best_frequencies(len(cells), Fraction(epsilon))
    return Question(kind="histogram", mode="local", epsilon=epsilon, mechanism=chosen, categories=cells)


def tallies(mechanism: Frequencies, shares: Floats, n: int, rounds: int, rng: np.random.Generator) -> Floats:
    """`rounds` tallies of n subjects each, one row a round."""
    k = mechanism.categories
    sets = list(chain.from_iterable(combinations(range(k), size) for size in range(k + 1)))
    names = np.array([[cell in chosen for cell in range(k)] for chosen in sets])
    law = np.array(
        [[float(mechanism.probability(encode_answer(s, k), cell)) for s in sets] for cell in range(k)]
    )
    of_answers = shares @ law
    drawn = rng.multinomial(n, of_answers / of_answers.sum(), size=rounds)
    return np.asarray(drawn @ names, dtype=np.float64)


def looks(
    population: Population, epsilon: str, n: int, rounds: int, rng: np.random.Generator, alpha: float = 0.05
) -> list[Uplift]:
    """What production says of `rounds` independent experiments on n subjects each."""
    question = question_of_arms(population.arms, epsilon)
    mechanism = frequencies_for(question)
    found = []
    for tally in tallies(mechanism, population.shares, n, rounds, rng):
        estimate = {
            cell: float(round(unbiased(int(count), n, mechanism), DIGITS))
            for cell, count in zip(question.categories, tally, strict=True)
        }
        found.append(uplift(question, estimate, n, population.arms, alpha=alpha))
    return found
