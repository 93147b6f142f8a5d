"""Every mechanism as the auditor sees it: a claim, two inputs to tell apart, what to look at in an answer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from edge_runtime.aggregates.mechanisms import (
    STEPS,
    Bits,
    DiscreteLaplace,
    Hierarchical,
    Mechanism,
    Tree,
    bounded,
    frequencies,
)

EPSILONS: Final = (Fraction(1), Fraction(3))
BINS: Final = 24


@dataclass(frozen=True, slots=True)
class Audited:
    """One mechanism at one epsilon."""

    name: str
    claim: float
    draw: Callable[[int, Bits], bytes]
    """`draw(side, bits)`: an answer for the first (0) or second (1) input."""
    kind: Callable[[bytes], Hashable]
    """What is looked at in an answer; of few values, so that each comes often."""


def every_mechanism() -> Iterator[Audited]:
    """Each local mechanism and each curator, at the epsilons."""
    for epsilon in EPSILONS:
        for name in ("randomized_response", "subset_selection", "unary_encoding"):
            for categories in (2, 16):
                mechanism = frequencies(name, categories, epsilon)
                yield of_cells(f"{name} K={categories} eps={epsilon}", mechanism, epsilon)
        for name in ("duchi", "piecewise"):
            yield of_number(f"{name} eps={epsilon}", bounded(name, STEPS, epsilon), epsilon)
        yield of_cells(f"hierarchical leaves=64 eps={epsilon}", Hierarchical.of(64, epsilon), epsilon)
        yield of_sums(f"curator count eps={epsilon}", DiscreteLaplace.count(epsilon), epsilon)
        yield of_sums(f"curator histogram K=4 eps={epsilon}", DiscreteLaplace.histogram(4, epsilon), epsilon)
        yield of_sums(f"curator sum eps={epsilon}", DiscreteLaplace.total(STEPS, epsilon), epsilon)
        tree = DiscreteLaplace("nodes", 8, epsilon, Tree(8, 4))
        yield of_sums(f"curator tree leaves=8 eps={epsilon}", tree, epsilon)


def of_cells(name: str, mechanism: Mechanism, epsilon: Fraction) -> Audited:
    """Of a histogram or tree: which of the cells of the two inputs an answer moves, and a tree's level."""
    ends = (0, mechanism.inputs - 1)
    watched = cells_of(mechanism)

    def kind(answer: bytes) -> Hashable:
        moved = {cell for cell, _ in mechanism.moves(answer) or ()}
        return tuple(cell in moved for cell in watched)

    return Audited(name, float(epsilon), lambda side, bits: mechanism.randomize(ends[side], bits), kind)


def cells_of(mechanism: Mechanism) -> Sequence[int]:
    """The tally's cells that belong to the first or last input, or say which level it is."""
    if not isinstance(mechanism, Hierarchical):
        return (0, mechanism.inputs - 1)
    starts, tree = mechanism.tree.starts, mechanism.tree
    paths = [tree.path(leaf) for leaf in (0, mechanism.inputs - 1)]
    nodes = [start + node for path in paths for start, node in zip(starts[:-1], path, strict=True)]
    return [*nodes, *range(starts[-1], mechanism.cells)]


def of_number(name: str, mechanism: Mechanism, epsilon: Fraction) -> Audited:
    """Of a number: where the output lies, in bins of equal width around zero."""
    ends = (0, mechanism.inputs - 1)
    reach = 1 if mechanism.answer_bytes == 1 else 2 * STEPS

    def kind(answer: bytes) -> Hashable:
        return sum(amount for cell, amount in mechanism.moves(answer) or () if cell == 0) * BINS // reach

    return Audited(name, float(epsilon), lambda side, bits: mechanism.randomize(ends[side], bits), kind)


def of_sums(name: str, curator: DiscreteLaplace, epsilon: Fraction) -> Audited:
    """Of a kiosk of ten: whether each sum that one subject's replacement changes lies at, past or between the
    two exact ones."""
    others = [curator.inputs // 2] * 9
    kiosks = ([*others, 0], [*others, curator.inputs - 1])
    pairs = list(enumerate(zip(curator.exact(kiosks[0]), curator.exact(kiosks[1]), strict=True)))
    changed = [(cell, min(ends), max(ends)) for cell, ends in pairs if ends[0] != ends[1]]

    def kind(answer: bytes) -> Hashable:
        sums = dict(curator.moves(answer) or ())
        return tuple((sums[cell] >= high) - (sums[cell] <= low) for cell, low, high in changed)

    return Audited(name, float(epsilon), lambda side, bits: curator.noised(kiosks[side], bits), kind)
