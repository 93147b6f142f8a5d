"""Many rounds of a production mechanism at once: tallies drawn from its exact law, vectorised.

The laws are the mechanisms' own `probability` and rates; tests of the mechanisms hold the samplers to them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.aggregates.mechanisms import (
    Bounded,
    DiscreteLaplace,
    Frequencies,
    Hierarchical,
    Piecewise,
    UnaryEncoding,
)
from edge_runtime.aggregates.mechanisms.answer import encode_answer

Ints = NDArray[np.int64]
ENUMERATED = 10
"""Up to so many categories the sets that may be answered are listed."""


def named(mechanism: Frequencies, subjects: Sequence[int], rounds: int, rng: np.random.Generator) -> Ints:
    """How many answers name each category, [rounds, K], where `subjects[c]` subjects are in category c."""
    if isinstance(mechanism, UnaryEncoding):
        p, q, n = float(mechanism.true_rate), float(mechanism.false_rate), sum(subjects)
        return np.stack(
            [rng.binomial(own, p, rounds) + rng.binomial(n - own, q, rounds) for own in subjects], axis=1
        )
    if mechanism.categories > ENUMERATED:
        return _sets(mechanism, subjects, rounds, rng)
    size = mechanism.categories
    sets = [c for m in range(size + 1) for c in itertools.combinations(range(size), m)]
    answers = [(c, encode_answer(c, size)) for c in sets]
    support = [(c, a) for c, a in answers if mechanism.supported(a) is not None]
    members = np.array([[u in c for u in range(size)] for c, _ in support], dtype=np.int64)
    total = np.zeros((rounds, size), dtype=np.int64)
    for own, count in enumerate(subjects):
        law = np.array([float(mechanism.probability(a, own)) for _, a in support])
        total += rng.multinomial(count, law / law.sum(), size=rounds) @ members
    return total


def _sets(mechanism: Frequencies, subjects: Sequence[int], rounds: int, rng: np.random.Generator) -> Ints:
    """Sets of one size m: the own category with probability p, the rest uniformly from the others."""
    p, q, k = float(mechanism.true_rate), float(mechanism.false_rate), mechanism.categories
    size = round(p + (k - 1) * q)
    own = np.repeat(np.arange(k), subjects)
    total = np.zeros((rounds, k), dtype=np.int64)
    for counts in total:
        order = rng.random((own.size, k))
        order[np.arange(own.size), own] = np.where(rng.random(own.size) < p, -1.0, 2.0)
        chosen = np.argpartition(order, size - 1, axis=1)[:, :size]
        counts += np.bincount(chosen.ravel(), minlength=k)
    return total


def outputs(mechanism: Bounded, inputs: Ints, rounds: int, rng: np.random.Generator) -> Ints:
    """Sum of the outputs and sum of their squares, [rounds, 2], one answer for each of `inputs`."""
    odds, shape = float(mechanism.odds), (rounds, inputs.size)
    if not isinstance(mechanism, Piecewise):
        u = (2 * inputs - mechanism.steps) / mechanism.steps
        yes = (rng.random(shape) < 0.5 + u * (odds - 1) / (2 * (odds + 1))).sum(axis=1)
        return np.stack([2 * yes - inputs.size, np.full(rounds, inputs.size)], axis=1)
    width, steps = mechanism.width, mechanism.steps
    beside = rng.integers(0, steps, shape)
    beside += np.where(beside >= inputs, width, 0)
    within = rng.random(shape) < width * odds / (width * odds + steps)
    z = 2 * np.where(within, inputs + rng.integers(0, width, shape), beside) - (mechanism.outputs - 1)
    return np.stack([z.sum(axis=1), (z * z).sum(axis=1)], axis=1)


def levels(mechanism: Hierarchical, leaves: Ints, rng: np.random.Generator) -> list[int]:
    """The tally of one round, one answer for each of `leaves`."""
    drawn = rng.integers(0, len(mechanism.levels), leaves.size)
    tally: list[int] = []
    for level, (inner, width) in enumerate(zip(mechanism.levels, mechanism.tree.widths, strict=True)):
        counts = np.bincount(leaves[drawn == level] // width, minlength=inner.categories)
        tally += _once(inner, counts, rng)
    return tally + [int((drawn == level).sum()) for level in range(len(mechanism.levels))]


def _once(mechanism: Frequencies, counts: Ints, rng: np.random.Generator) -> list[int]:
    made = named if isinstance(mechanism, UnaryEncoding) else _sets
    found: list[int] = made(mechanism, counts.tolist(), 1, rng)[0].tolist()
    return found


def drawn(
    mechanism: DiscreteLaplace, cells: int, reports: int, rounds: int, rng: np.random.Generator
) -> Ints:
    """The noise of `reports` reports on each cell, [rounds, cells]: differences of two geometric draws."""
    stop = 1 - np.exp(-1 / float(mechanism.scale))
    shape = (rounds, cells, reports)
    found: Ints = (rng.geometric(stop, shape) - rng.geometric(stop, shape)).sum(axis=2)
    return found
