"""A kiosk's noise: discrete Laplace over the exact sums of its own subjects, added before anything leaves it.

The claim is about one subject's input being replaced by any other. That moves the sums by at most the
sensitivity (in l1), and independent noise of scale sensitivity / epsilon on each sum then changes the
probability of an answer by at most e^epsilon, exactly (Ghosh, Roughgarden and Sundararajan, "Universally
utility-maximizing privacy mechanisms", STOC 2009, for a count; the discrete Laplace of Canonne, Kamath and
Steinke 2020). How many subjects are in the sums is not noised: their tickets say it.

    histogram   a cell a category; one leaves a cell and enters another      sensitivity 2
    count       one cell, how many say yes                                   sensitivity 1
    sum, mean   one cell, the sum of grid steps                              sensitivity S, the steps
    quantile    a cell a node of the tree, as a histogram on each level      sensitivity 2 * levels

*Bound.* A sum travels as a signed integer of a fixed width. What lies past `bound` is set to it: a function
of the noised sum alone, so it says nothing more about anyone (drawing again would change the law). The bound
leaves room for the largest true sum of `SUBJECT_LIMIT` subjects and 64 scales of noise: it is met with a
probability under e^-64, and `moves` refuses all beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from edge_runtime.aggregates.mechanisms.answer import CATEGORY_LIMIT
from edge_runtime.aggregates.mechanisms.exact import EPSILON_LIMIT
from edge_runtime.aggregates.mechanisms.laplace import discrete_laplace, laplace_variance
from edge_runtime.aggregates.mechanisms.mechanism import STEP_LIMIT, Bits, Moves, in_range
from edge_runtime.aggregates.mechanisms.tree import Tree, best_tree

SUBJECT_LIMIT: Final = 10_000
"""Most subjects in one curator's answer."""
_TAIL: Final = 64
"""Scales of noise inside the bound."""


@dataclass(frozen=True, slots=True)
class DiscreteLaplace:
    """Noise over the sums of many subjects; the verbs are those of `Curator`."""

    sums: Literal["indicator", "numbers", "nodes"]
    """What is summed: which input it is (a cell each), the input itself (one cell), or its path in `tree`."""
    inputs: int
    epsilon: Fraction
    tree: Tree | None = None
    name: str = "discrete_laplace"

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= EPSILON_LIMIT:
            raise ValueError(f"expected 0 < epsilon <= {EPSILON_LIMIT}, got {self.epsilon}")
        limit = STEP_LIMIT + 1 if self.sums == "numbers" else CATEGORY_LIMIT
        if not 2 <= self.inputs <= limit:
            raise ValueError(f"expected 2 to {limit} inputs, got {self.inputs}")
        if (self.tree is not None) != (self.sums == "nodes"):
            raise ValueError("expected a tree for sums of nodes, and for no other")

    @classmethod
    def histogram(cls, categories: int, epsilon: Fraction) -> DiscreteLaplace:
        """Subjects in each category; sensitivity 2."""
        return cls("indicator", categories, epsilon)

    @classmethod
    def count(cls, epsilon: Fraction) -> DiscreteLaplace:
        """Subjects who say yes (input 1, not 0); sensitivity 1."""
        return cls("numbers", 2, epsilon)

    @classmethod
    def total(cls, steps: int, epsilon: Fraction) -> DiscreteLaplace:
        """The sum of inputs in 0 … `steps`; sensitivity `steps`."""
        return cls("numbers", steps + 1, epsilon)

    @classmethod
    def quantiles(cls, leaves: int, epsilon: Fraction) -> DiscreteLaplace:
        """Subjects under each node of a tree of `leaves`; sensitivity 2 * levels.

        The tree is the one with the least expected error: a node's variance grows with levels^2.
        """
        tree = best_tree(leaves, lambda nodes, levels: Fraction(levels * levels))
        return cls("nodes", leaves, epsilon, tree)

    @property
    def sensitivity(self) -> int:
        """Largest l1 change of the sums when one subject's input is replaced."""
        match self.sums:
            case "indicator":
                return 2
            case "numbers":
                return self.inputs - 1
            case "nodes":
                return 2 * len(self._tree.sizes)

    @property
    def scale(self) -> Fraction:
        """Sensitivity / epsilon: the noise z on each cell has a law in proportion to e^(-|z| / scale)."""
        return self.sensitivity * self.epsilon**-1

    @property
    def variance(self) -> Fraction:
        """Variance that one answer adds to one cell, rounded up a little."""
        return laplace_variance(self.scale)

    @property
    def cells(self) -> int:
        """A cell a category or node; one for a count, sum or mean."""
        match self.sums:
            case "indicator":
                return self.inputs
            case "numbers":
                return 1
            case "nodes":
                return self._tree.starts[-1]

    @property
    def bound(self) -> int:
        """The largest size of a cell in an answer."""
        return self.bound_for(SUBJECT_LIMIT)

    def bound_for(self, subjects: int) -> int:
        """The largest size of a cell in an answer over so many subjects, but for one in e^64 of them."""
        largest = subjects * (self.inputs - 1 if self.sums == "numbers" else 1)
        return largest + _TAIL * (self.scale.numerator // self.scale.denominator + 1)

    @property
    def _cell_bytes(self) -> int:
        return self.bound.bit_length() // 8 + 1

    @property
    def answer_bytes(self) -> int:
        """The cells one after the other, each a signed little-endian integer of the same width."""
        return self.cells * self._cell_bytes

    def exact(self, values: Sequence[int]) -> list[int]:
        """The sums without noise; they leave no device. Raises `ValueError` as `noised` does."""
        if not 1 <= len(values) <= SUBJECT_LIMIT:
            raise ValueError(f"expected 1 to {SUBJECT_LIMIT} subjects")
        for value in values:
            in_range(value, self.inputs)
        if self.sums == "numbers":
            return [sum(values)]
        found = [0] * self.cells
        starts = (0,) if self.tree is None else self.tree.starts[:-1]
        for value in values:
            path = (value,) if self.tree is None else self.tree.path(value)
            for start, node in zip(starts, path, strict=True):
                found[start + node] += 1
        return found

    def noised(self, values: Sequence[int], bits: Bits) -> bytes:
        """The sums of all `values` (one input a subject), each with noise of its own.

        Raises `ValueError`, before anything is drawn, for no value, too many, or one that is not an input.
        """
        width, bound, scale = self._cell_bytes, self.bound, self.scale
        noisy = [cell + discrete_laplace(scale, bits) for cell in self.exact(values)]
        held = [min(max(cell, -bound), bound) for cell in noisy]
        return b"".join(cell.to_bytes(width, "little", signed=True) for cell in held)

    def moves(self, answer: bytes) -> Moves | None:
        """Each cell's noised sum; None for another length, or a cell past the bound."""
        if len(answer) != self.answer_bytes:
            return None
        width = self._cell_bytes
        parts = (answer[i : i + width] for i in range(0, len(answer), width))
        cells = [int.from_bytes(part, "little", signed=True) for part in parts]
        return None if any(abs(cell) > self.bound for cell in cells) else tuple(enumerate(cells))

    @property
    def _tree(self) -> Tree:
        if self.tree is None:
            raise ValueError("expected a tree")
        return self.tree
