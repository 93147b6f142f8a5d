"""The tree over a quantile's leaves: how many nodes each level has, and where they lie in a tally.

`leaves` equal buckets lie between the bounds. A node of width v covers v leaves side by side; the widths are
powers of the fan-out B, from the coarsest that still makes two nodes down to 1. A prefix of leaves is then
the sum of at most B - 1 nodes a level, instead of thousands of leaves (Cormode, Kulkarni and Srivastava,
"Answering range queries under local differential privacy", VLDB 2019, arXiv 1812.10942). Leaves that are no
power of B leave the last node of a level short; nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Final, TypeVar

LEAF_LIMIT: Final = 4_096
FANOUTS: Final = 16
"""Fan-outs from 2 to this are compared, and one flat histogram."""

Cell = TypeVar("Cell", int, Fraction)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of `fanout` over `leaves`; `fanout` >= `leaves` is one level, a flat histogram."""

    leaves: int
    fanout: int

    def __post_init__(self) -> None:
        if not 2 <= self.leaves <= LEAF_LIMIT:
            raise ValueError(f"expected 2 to {LEAF_LIMIT} leaves, got {self.leaves}")
        if self.fanout < 2:
            raise ValueError(f"expected a fan-out of at least 2, got {self.fanout}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Leaves under one node of each level, the coarsest level first; the last is 1."""
        found = [1]
        while found[-1] * self.fanout < self.leaves:
            found.append(found[-1] * self.fanout)
        return tuple(reversed(found))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes of each level, the coarsest level first; the last is `leaves`."""
        return tuple(-(-self.leaves // width) for width in self.widths)

    @property
    def starts(self) -> tuple[int, ...]:
        """Tally cell of each level's first node; then the number of nodes in all."""
        return tuple(accumulate(self.sizes, initial=0))

    def path(self, leaf: int) -> tuple[int, ...]:
        """The node of each level that covers `leaf`."""
        return tuple(leaf // width for width in self.widths)

    def levels_of(self, cells: Sequence[Cell]) -> list[Sequence[Cell]]:
        """The nodes' part of a tally, cut into its levels."""
        starts = self.starts
        return [cells[start:end] for start, end in pairwise(starts)]


def best_tree(leaves: int, level_error: Callable[[int, int], Fraction]) -> Tree:
    """The tree with the least expected squared error of a prefix's share; of equals the smaller fan-out.

    A prefix that ends anywhere takes (B - 1) / 2 nodes of each level on average (of the coarsest, half of
    what it has), and their errors are taken as independent, which at most overstates them.

    Args:
        level_error: `level_error(nodes, levels)`, the variance of one node's share on a level of that many
            nodes, when there are so many levels.
    """

    def error(tree: Tree) -> Fraction:
        sizes = tree.sizes
        taken = [min(tree.fanout, size) - 1 for size in sizes]
        return sum(
            (n * level_error(size, len(sizes)) for n, size in zip(taken, sizes, strict=True)), Fraction(0)
        )

    return min((Tree(leaves, b) for b in (*range(2, min(FANOUTS, leaves) + 1), leaves)), key=error)
