"""The fan-out chosen by a simple rule is nearly the best one by the variance of what is released."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from edge_runtime.aggregates.mechanisms import (
    DiscreteLaplace,
    Hierarchical,
    Tree,
    best_frequencies,
    frequencies,
)
from sync_server.aggregates.estimators.prefixes import Level, Prefixes
from sync_server.aggregates.estimators.quantiles import AnsweredLevel, SummedLevel

SUBJECTS = 60_000


def mean_variance(tree: Tree, levels: list[Level]) -> float:
    """Mean variance of the consistent prefixes, subjects spread evenly over the leaves."""
    prefixes, even = Prefixes(tree, levels), np.full(tree.leaves, 1 / tree.leaves)
    found = [
        float(prefixes.variances_at(np.array([end]), even, end / tree.leaves, SUBJECTS)[0])
        for end in range(1, tree.leaves)
    ]
    return sum(found) / len(found)


def trees(leaves: int) -> list[Tree]:
    return [Tree(leaves, fanout) for fanout in (2, 3, 4, 5, 6, 8, 11, 16, leaves)]


@pytest.mark.parametrize("epsilon", [Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4)], ids=str)
@pytest.mark.parametrize("leaves", [16, 64])
def test_subjects_are_shared_out_over_the_best_tree(leaves: int, epsilon: Fraction) -> None:
    def levels(tree: Tree) -> list[Level]:
        each = SUBJECTS // len(tree.sizes)
        chosen = [frequencies(best_frequencies(k, epsilon), k, epsilon) for k in tree.sizes]
        return [AnsweredLevel([0] * m.categories, each, m) for m in chosen]

    chosen = Hierarchical.of(leaves, epsilon).tree
    best = min(mean_variance(tree, levels(tree)) for tree in trees(leaves))
    assert mean_variance(chosen, levels(chosen)) <= 1.02 * best


@pytest.mark.parametrize("leaves", [16, 64])
def test_a_kiosk_sums_over_the_best_tree(leaves: int) -> None:
    def levels(tree: Tree) -> list[Level]:
        noise = DiscreteLaplace("nodes", leaves, Fraction(1), tree).variance
        return [SummedLevel([0] * k, SUBJECTS, noise) for k in tree.sizes]

    chosen = DiscreteLaplace.quantiles(leaves, Fraction(1)).tree
    assert chosen is not None
    best = min(mean_variance(tree, levels(tree)) for tree in trees(leaves))
    assert mean_variance(chosen, levels(chosen)) <= 1.02 * best
