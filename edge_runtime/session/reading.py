"""Writes the source by which a view's values are read; `codegen.py` writes how they are updated.

`values` reads everything. `settled` and `moving` read the features apart by what can change them: the moving
ones have another value at every instant, or may; the settled ones only with an event, or as a tile of their
window ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any, Final, NamedTuple

from edge_runtime.catalog.model import DerivedFeature, SessionFeature, View
from edge_runtime.session.layout import Layout

MOVING: Final = 0
"""The tile of a feature that has another value at every instant, or may."""
NEVER_US: Final = 1 << 62
"""Later than any time."""

_BY_TILE: Final = frozenset(
    [
        "count",
        "sum",
        "mean",
        "std",
        "min",
        "max",
        "first",
        "last",
        "last_n",
        "distinct",
        "count_by",
        "top_n",
        "decayed_mean_vector",
    ]
)
"""Operators whose value stays as it is while no event comes and no tile of their window ends."""


class Paces(NamedTuple):
    """One view's features, apart by what changes them."""

    settled: Callable[..., tuple[object, ...]]
    """(cells, time, resolve) -> in the view's feature order what only an event or the end of a tile changes;
    None in the place of each that moves."""
    moving: Callable[[list[object], int], tuple[object, ...]]
    """(cells, time) -> what may have another value at every instant."""
    positions: tuple[int, ...]
    """Where the moving ones stand in the view's feature order."""
    reads: tuple[Callable[[list[object], int], object], ...]
    """(cells, time) -> one feature, in the view's feature order."""
    hops_us: tuple[int, ...]
    """Lengths of tiles, in microseconds; what is settled may change where one of them ends."""

    def until_us(self, t_us: int) -> int:
        """When a tile ends first after `t_us`."""
        return min([NEVER_US, *[(t_us // hop_us + 1) * hop_us for hop_us in self.hops_us]])

    def moving_at(
        self, positions: Set[int]
    ) -> tuple[tuple[int, ...], Callable[[list[object], int], tuple[object, ...]]]:
        """The moving ones among at least these: their positions, and what reads them."""
        found = tuple([n for n in self.positions if n in positions])
        if 2 * len(found) > len(self.positions):
            return self.positions, self.moving
        reads = [self.reads[n] for n in found]
        return found, lambda cells, t_us: tuple([read(cells, t_us) for read in reads])


def reads_source(view: View, layout: Layout) -> list[str]:
    """The lines of `values` (all features, in order), `READS` (one function each), `settled` and `moving`."""
    lines = ["def values(s, t, resolve=None):", "    return ("]
    lines += [f"        {expression}," for expression in layout.reads.values()]
    lines += ["    )", "", "READS = {"]
    lines += [f"    {name!a}: lambda s, t, resolve=None: {e}," for name, e in layout.reads.items()]
    lines += ["}", "", "def settled(s, t, resolve=None):", "    return ("]
    moving = {name for name in view.features if MOVING in _hops(view, name)}
    lines += [f"        {None if name in moving else e}," for name, e in layout.reads.items()]
    lines += ["    )", "", "def moving(s, t):", "    return ("]
    lines += [f"        {e}," for name, e in layout.reads.items() if name in moving]
    return [*lines, "    )"]


def paces_of(view: View, code: Mapping[str, Any]) -> Paces:
    """The paces of a view around its generated functions."""
    hops_us = [_hops(view, name) for name in view.features]
    positions = tuple(n for n, found in enumerate(hops_us) if MOVING in found)
    tiles = {hop_us for found in hops_us if MOVING not in found for hop_us in found}
    reads = tuple(code["READS"].values())
    return Paces(code["settled"], code["moving"], positions, reads, tuple(sorted(tiles)))


def _hops(view: View, name: str) -> set[int]:
    match view.features[name]:
        case DerivedFeature(of=operands):
            return {hop_us for operand in operands for hop_us in _hops(view, operand)}
        case SessionFeature(op=op, hop_us=hop_us):
            if op not in _BY_TILE:
                return {MOVING}
            return set() if hop_us is None else {hop_us}
        case _:
            return set()
