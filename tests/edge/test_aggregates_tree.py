"""The quantile tree: every leaf under one node a level, a fan-out by least error, answers on one level."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.aggregates.mechanisms import (
    DiscreteLaplace,
    Frequencies,
    Hierarchical,
    RandomizedResponse,
    Tree,
    answer_again,
    expected_error,
)
from edge_runtime.aggregates.mechanisms.tree import best_tree
from tests.support.exact_laws import every_answer

ONE = Fraction(1)
TREES = st.builds(Tree, st.integers(2, 300), st.integers(2, 40))


@given(TREES)
def test_every_leaf_lies_under_one_node_of_each_level(tree: Tree) -> None:
    """Nodes of a level are side by side and cover all leaves; the finest level is the leaves."""
    assert tree.sizes[-1] == tree.leaves
    assert tree.sizes[0] >= 2
    assert len(tree.starts) == len(tree.sizes) + 1
    for level, size in enumerate(tree.sizes):
        nodes = [tree.path(leaf)[level] for leaf in range(tree.leaves)]
        assert set(nodes) == set(range(size))
        assert nodes == sorted(nodes)


@given(TREES, st.data())
def test_a_prefix_is_a_sum_of_few_nodes_a_level(tree: Tree, data: st.DataObject) -> None:
    """Exact counts of a tree give every prefix by at most fan-out - 1 nodes a level."""
    leaves = data.draw(st.lists(st.integers(0, tree.leaves - 1), min_size=1, max_size=30))
    if len(tree.sizes) == 1:
        return
    counts = [Counter(tree.path(leaf)[level] for leaf in leaves) for level in range(len(tree.sizes))]
    end = data.draw(st.integers(0, tree.leaves))
    covered, total = 0, 0
    for level, width in enumerate(tree.widths):
        taken = (end - covered) // width
        assert taken <= tree.fanout - 1 or level == 0
        total += sum(counts[level][covered // width + i] for i in range(taken))
        covered += taken * width
    assert covered == end
    assert total == sum(leaf < end for leaf in leaves)


@pytest.mark.parametrize("leaves", [2, 3, 16, 64, 100, 1_024])
@pytest.mark.parametrize("epsilon", ["0.1", "1", "4"])
def test_the_fan_out_is_the_one_with_the_least_error(leaves: int, epsilon: str) -> None:
    """Beside a plain sum over levels of nodes taken times levels times the mechanism's error for a node."""
    chosen = Hierarchical.of(leaves, Fraction(epsilon))

    def error(mechanism: Hierarchical) -> Fraction:
        fanout, levels = mechanism.tree.fanout, mechanism.levels
        taken = [min(fanout, level.categories) - 1 for level in levels]
        nodes = [expected_error(level) / level.categories for level in levels]
        return len(levels) * sum((n * e for n, e in zip(taken, nodes, strict=True)), Fraction(0))

    def best(nodes: int) -> Frequencies:
        return Hierarchical.of(nodes, Fraction(epsilon)).levels[-1]

    for fanout in (*range(2, min(16, leaves) + 1), leaves):
        tree = Tree(leaves, fanout)
        other = Hierarchical(tree, tuple(map(best, tree.sizes)))
        assert error(chosen) <= error(other)


def test_few_leaves_are_one_flat_histogram_and_a_curator_takes_wider_trees() -> None:
    """Where levels cost more than they save there is one; noise on every level makes levels dearer."""
    assert Hierarchical.of(3, ONE).tree.sizes == (3,)
    assert Hierarchical.of(64, ONE).tree.sizes == (4, 16, 64)
    assert Hierarchical.of(16, Fraction(4)).tree.sizes == (16,)
    curated = DiscreteLaplace.quantiles(64, ONE).tree
    assert curated is not None
    assert curated.sizes == (8, 64)
    assert best_tree(64, lambda nodes, levels: Fraction(levels**9)).sizes == (64,)


@pytest.mark.parametrize("epsilon", ["0.5", "2"])
def test_the_tally_is_unbiased_node_by_node(epsilon: str) -> None:
    """E[moves], exactly: each level counts 1/levels answers, and names a node with its rates p or q."""
    mechanism = Hierarchical.of(7, Fraction(epsilon))
    many = len(mechanism.levels)
    for value in range(mechanism.inputs):
        expected = [Fraction(0)] * mechanism.cells
        for answer in every_answer(mechanism):
            for cell, amount in mechanism.moves(answer) or ():
                expected[cell] += amount * mechanism.probability(answer, value)
        path = mechanism.tree.path(value)
        for n, nodes in enumerate(mechanism.tree.levels_of(expected)):
            level = mechanism.levels[n]
            rates = [level.true_rate if i == path[n] else level.false_rate for i in range(level.categories)]
            assert [rate / many for rate in rates] == list(nodes)
            assert expected[mechanism.answers_cell(n)] == Fraction(1, many)


def test_the_level_is_drawn_without_the_value_and_kept_by_a_later_answer() -> None:
    """A subject stays on the level of its first answer, for any value; other mechanisms have none to keep."""
    mechanism, rng = Hierarchical.of(64, ONE), random.Random(4)
    levels = set()
    for seed in range(30):
        answers = [mechanism.randomize(v, random.Random(seed).randrange) for v in (0, 17, 63)]
        kept = {mechanism.level_of(answer) for answer in answers}
        assert len(kept) == 1
        levels |= kept
        later = [answer_again(mechanism, v, answers[0], rng.randrange) for v in range(0, 64, 5)]
        assert {mechanism.level_of(answer) for answer in later} == kept
    assert levels == {0, 1, 2}
    response = RandomizedResponse.of(4, ONE)
    assert response.moves(answer_again(response, 2, None, rng.randrange)) is not None
    assert response.moves(answer_again(response, 2, bytes(32), rng.randrange)) is not None


def test_bytes_of_no_level_and_dirty_padding_are_refused() -> None:
    """T25: a level past the last, and anything behind a shorter level's answer."""
    mechanism = Hierarchical.of(512, ONE)
    short = mechanism.randomize(3, random.Random(1).randrange, level=0)
    assert mechanism.levels[0].answer_bytes < mechanism.answer_bytes - 1
    assert mechanism.level_of(short) == 0
    for answer in (
        short[:-1] + b"\x01",
        bytes([len(mechanism.levels)]) + short[1:],
        b"\xff" + short[1:],
        short[:-1],
        b"",
    ):
        assert mechanism.moves(answer) is None
        assert mechanism.level_of(answer) is None
        assert mechanism.probability(answer, 3) == 0
    for level in (-1, len(mechanism.levels)):
        with pytest.raises(ValueError, match="expected an input"):
            mechanism.randomize(3, random.Random(1).randrange, level=level)
