"""A quantile's local mechanism: each subject answers for one level of a tree, which node covers its value.

Cormode, Kulkarni and Srivastava (VLDB 2019, arXiv 1812.10942): to spread the subjects over the levels costs
less error than to split each one's epsilon. Which level is drawn uniformly by the device whatever the value
is, so it is written in the clear; on it the node goes through the frequency mechanism with the least expected
error for that many nodes. The whole epsilon is spent on that one level.

An answer is one byte for the level and the level's own answer, padded to the longest level's. The tally has
the nodes of all levels, coarsest first, then a cell for each level that counts its answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from edge_runtime.aggregates.mechanisms.choice import best_frequencies, expected_error, frequencies
from edge_runtime.aggregates.mechanisms.mechanism import Bits, Frequencies, Mechanism, Moves, in_range
from edge_runtime.aggregates.mechanisms.tree import Tree, best_tree


@dataclass(frozen=True, slots=True)
class Hierarchical:
    """A frequency mechanism for each level of `tree`; the inputs are its leaves. See `Mechanism`."""

    tree: Tree
    levels: tuple[Frequencies, ...]
    """The coarsest level first; level i has `tree.sizes[i]` categories."""
    name: str = "hierarchical"

    def __post_init__(self) -> None:
        if tuple(level.categories for level in self.levels) != self.tree.sizes:
            raise ValueError("expected a mechanism for each level, of its size")
        if len({level.odds for level in self.levels}) != 1:
            raise ValueError("expected the same odds on every level")

    @classmethod
    def of(cls, leaves: int, epsilon: Fraction) -> Hierarchical:
        """The tree with the least expected error at `epsilon`, with the best mechanism on each level."""
        tree = best_tree(leaves, lambda nodes, levels: levels * _node_error(nodes, epsilon))
        return cls(tree, tuple(_best(nodes, epsilon) for nodes in tree.sizes))

    @property
    def inputs(self) -> int:
        """The leaves."""
        return self.tree.leaves

    @property
    def odds(self) -> Fraction:
        """The same on every level."""
        return self.levels[0].odds

    @property
    def cells(self) -> int:
        """A cell a node, then one a level."""
        return self.tree.starts[-1] + len(self.levels)

    def answers_cell(self, level: int) -> int:
        """The cell that counts the answers for `level`."""
        return self.tree.starts[-1] + level

    @property
    def answer_bytes(self) -> int:
        """The level, and the longest level's answer."""
        return 1 + max(level.answer_bytes for level in self.levels)

    def randomize(self, value: int, bits: Bits, level: int | None = None) -> bytes:
        """One answer for a level drawn here, or for `level` where an earlier answer has fixed it.

        How many draws there are depends on the level alone. Raises `ValueError` when `value` is no leaf or
        `level` none of the tree's.
        """
        in_range(value, self.inputs)
        in_range(0 if level is None else level, len(self.levels))
        chosen = bits(len(self.levels)) if level is None else level
        node = value // self.tree.widths[chosen]
        inner = self.levels[chosen].randomize(node, bits)
        return bytes([chosen]) + inner.ljust(self.answer_bytes - 1, b"\0")

    def _opened(self, answer: bytes) -> tuple[int, bytes] | None:
        """Level and the level's own answer; None for a length, level or padding that is not ours."""
        if len(answer) != self.answer_bytes or answer[0] >= len(self.levels):
            return None
        length = self.levels[answer[0]].answer_bytes
        return None if any(answer[1 + length :]) else (answer[0], answer[1 : 1 + length])

    def level_of(self, answer: bytes) -> int | None:
        """The level that `answer` says it is for; None for bytes that no honest device can send."""
        return None if self.moves(answer) is None else answer[0]

    def moves(self, answer: bytes) -> Moves | None:
        """One more for each node named, and one more answer on that level."""
        opened = self._opened(answer)
        if opened is None:
            return None
        level, inner = opened
        named = self.levels[level].moves(inner)
        if named is None:
            return None
        start = self.tree.starts[level]
        return (*((start + node, n) for node, n in named), (self.answers_cell(level), 1))

    def probability(self, answer: bytes, value: int) -> Fraction:
        """1 / levels, times the level's own law at the node over `value`."""
        opened = self._opened(answer)
        if opened is None:
            return Fraction(0)
        level, inner = opened
        law = self.levels[level].probability(inner, value // self.tree.widths[level])
        return law * Fraction(1, len(self.levels))


def answer_again(mechanism: Mechanism, value: int, earlier: bytes | None, bits: Bits) -> bytes:
    """An answer for `value` that keeps what the subject's `earlier` answer said in the clear: a tree's level.

    Like `mechanism.randomize` where there is no earlier answer, or nothing in the clear. Raises as it does.
    """
    if earlier is None or not isinstance(mechanism, Hierarchical):
        return mechanism.randomize(value, bits)
    return mechanism.randomize(value, bits, mechanism.level_of(earlier))


def input_again(mechanism: Mechanism, value: int, earlier: bytes | None) -> int:
    """The input that stands for `value` beside an `earlier` answer: its tree level may not tell them apart.

    An answer to it says what one to `value` would: on that level both have one node. Without an earlier
    answer, or with another mechanism, `value` itself.
    """
    if earlier is None or not isinstance(mechanism, Hierarchical):
        return value
    level = mechanism.level_of(earlier)
    width = 1 if level is None else mechanism.tree.widths[level]
    return value // width * width


def _best(nodes: int, epsilon: Fraction) -> Frequencies:
    return frequencies(best_frequencies(nodes, epsilon), nodes, epsilon)


@lru_cache(maxsize=1024)
def _node_error(nodes: int, epsilon: Fraction) -> Fraction:
    return expected_error(_best(nodes, epsilon)) * Fraction(1, nodes)
