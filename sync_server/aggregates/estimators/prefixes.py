"""One distribution from all levels of a tree: consistent shares, and how sure the sum of a prefix is. Pure.

Each level estimates the shares of its own nodes. They contradict each other, so they are averaged: upwards, a
node's own estimate with the sum of its children's, weighted by how precise each is; then downwards, what a
node has more than its children together is spread evenly over them, and the root is 1. With independent
errors that is least squares (Hay, Rastogi, Miklau and Suciu, VLDB 2010, section 4; for levels of unequal
precision, Cormode, Kulkarni and Srivastava, VLDB 2019, section 4.5). Any weights leave the result unbiased;
they are rounded to 1/1024, so that the rationals stay short.

The estimate of a prefix is then a weighted sum a of level estimates. Its variance, given the subjects'
inputs:

- noise: each level's own, `Level.spread`.
- which subjects a level asked (only where levels are drawn). The n subjects are dealt out, n_l to each level;
  of a level's weights, the value that a subject has is b_l, and over all levels those add up to "is in the
  prefix" but for a constant. Dealing without replacement gives n/(n-1) (sum over l of var(b_l)/n_l - F
  (1-F)/n).

The variances are worked out in floating point, for their ends are leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.aggregates.mechanisms import Tree

Floats = NDArray[np.float64]
_WEIGHT_UNIT: Final = 1024
_CHUNK: Final = 64
"""Prefixes worked on at a time: bounds the memory."""
_EVEN: Final = 1e-3
"""Spread evenly over the leaves beside what was estimated, so that none is empty."""


class Level(Protocol):
    """One level's estimates and their noise."""

    @property
    def shares(self) -> Sequence[Fraction]:
        """Unbiased, one a node."""
        ...

    @property
    def answers(self) -> int | None:
        """Subjects who answered on this level alone; None when all did on every level."""
        ...

    @property
    def precision(self) -> Fraction:
        """1 / the variance of one node's share, roughly; 0 for a level that nobody answered on."""
        ...

    def spread(self, weights: Floats, shares: Floats) -> Floats:
        """Variance by noise of each row of `weights` [k, nodes] times the estimates, were `shares` true."""
        ...


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The levels of one tally over `tree`, coarsest first, and the weights of their average."""

    tree: Tree
    levels: Sequence[Level]

    @property
    def own_weights(self) -> list[Fraction]:
        """How much of a node's upward average is its own estimate, for each level."""
        found: list[Fraction] = []
        below = Fraction(0)
        for level in reversed(self.levels):
            total = level.precision + below / self.tree.fanout
            own = Fraction(1) if not found else Fraction(level.precision / total if total else 0)
            found.append(Fraction(round(own * _WEIGHT_UNIT), _WEIGHT_UNIT))
            below = total
        return found[::-1]

    def leaf_shares(self) -> list[Fraction]:
        """The consistent share of each leaf; they sum to one, and may be negative."""
        upward: list[list[Fraction]] = []
        for level, own in zip(reversed(self.levels), reversed(self.own_weights), strict=True):
            shares = list(level.shares)
            if upward:
                below = [sum(group, Fraction(0)) for group in self._families(upward[-1])]
                shares = [own * a + (1 - own) * b for a, b in zip(shares, below, strict=True)]
            upward.append(shares)
        above = [Fraction(1)]
        for shares in reversed(upward):
            families = [shares] if len(above) == 1 else self._families(shares)
            above = [
                share + (parent - sum(family, Fraction(0))) / len(family)
                for parent, family in zip(above, families, strict=True)
                for share in family
            ]
        return above

    def variances(self, shares: Floats, tau: float, subjects: int) -> Floats:
        """Variance of the consistent sum of the first k leaves, k = 0 … leaves, were that sum `tau`.

        Args:
            shares: of the leaves, non-negative with sum one; how those inside and outside the prefix divide
                `tau` and the rest among them.
        """
        ends = np.arange(self.tree.leaves + 1)
        parts = np.array_split(ends, -(-len(ends) // _CHUNK))
        return np.concatenate([self.variances_at(part, shares, tau, subjects) for part in parts])

    def variances_at(self, ends: NDArray[np.int64], shares: Floats, tau: float, subjects: int) -> Floats:
        """The same for these prefixes only."""
        likely = shares + _EVEN / self.tree.leaves
        return self._variances(ends, _supposed(likely, ends, tau), subjects)

    def _variances(self, ends: NDArray[np.int64], leaf_shares: Floats, subjects: int) -> Floats:
        noise, dealt, whole = np.zeros(len(ends)), np.zeros(len(ends)), True
        for level, weights, width in zip(
            self.levels, self._level_weights(ends), self.tree.widths, strict=True
        ):
            shares = np.add.reduceat(leaf_shares, np.arange(0, self.tree.leaves, width), axis=1)
            if level.precision:
                noise += level.spread(weights, shares)
            if level.answers:
                whole = False
                dealt += (mean_by_row(weights**2, shares) - mean_by_row(weights, shares) ** 2) / level.answers
        if whole:
            return noise
        inside = mean_by_row(_prefixes(ends, self.tree.leaves), leaf_shares)
        dealt -= inside * (1 - inside) / subjects
        return np.maximum(noise, 0) + np.maximum(dealt, 0) * subjects / max(1, subjects - 1)

    def _level_weights(self, ends: NDArray[np.int64]) -> Iterator[Floats]:
        """What each estimate of a level counts in the prefixes, [k, nodes]: the average, run backwards."""
        upward = list(self._residual_weights(ends))[::-1]
        carried: Floats | None = None
        for raw, own, size in zip(upward, self.own_weights, self.tree.sizes, strict=True):
            full = raw if carried is None else raw + np.repeat(carried, self.tree.fanout, axis=1)[:, :size]
            yield float(own) * full
            carried = (1 - float(own)) * full

    def _residual_weights(self, ends: NDArray[np.int64]) -> Iterator[Floats]:
        """Of the upward averages, finest level first: a node's part in the prefix less its siblings' mean."""
        part = _prefixes(ends, self.tree.leaves)
        for size in reversed((1, *self.tree.sizes[:-1])):
            width = part.shape[1] if size == 1 else self.tree.fanout
            starts = np.arange(size) * width
            counts = np.diff([*starts, part.shape[1]])
            parents = np.add.reduceat(part, starts, axis=1) / counts
            yield part - np.repeat(parents, counts, axis=1)
            part = parents

    def _families(self, nodes: Sequence[Fraction]) -> list[Sequence[Fraction]]:
        fanout = self.tree.fanout
        return [nodes[start : start + fanout] for start in range(0, len(nodes), fanout)]


def mean_by_row(values: Floats, shares: Floats) -> Floats:
    """Of each row of `values`, its mean under the same row of `shares`."""
    found: Floats = (values * shares).sum(axis=1)
    return found


def _prefixes(ends: NDArray[np.int64], leaves: int) -> Floats:
    """Row k is 1 on the first `ends[k]` leaves, else 0."""
    return (np.arange(leaves)[None, :] < ends[:, None]).astype(np.float64)


def _supposed(likely: Floats, ends: NDArray[np.int64], tau: float) -> Floats:
    """For each prefix the shares most like `likely` (all positive) of which `tau` lies in it."""
    first = _prefixes(ends, len(likely))
    inside, outside = first * likely, (1 - first) * likely
    found = np.zeros_like(first)
    for part, wanted in ((inside, tau), (outside, 1 - tau)):
        total = part.sum(axis=1, keepdims=True)
        found += wanted * np.divide(part, total, out=np.zeros_like(part), where=total > 0)
    return found
