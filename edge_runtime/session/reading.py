"""Writes the source by which a view's values are read; `codegen.py` writes how they are updated.

Read code comes in two kinds. `values` reads everything. `PACES` reads the features apart by when time alone
can change them: those of some windows only as a tile ends, those under `MOVING` at every instant. What is in
neither changes with an event only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from edge_runtime.catalog.model import DerivedFeature, SessionFeature, View
from edge_runtime.session.layout import Layout

MOVING: Final = (0,)
"""The pace of a feature that has another value at every instant, or may."""

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

Hops = tuple[int, ...]
"""Lengths of tiles, in microseconds; the value may change where a tile of one of them ends."""


class Pace(NamedTuple):
    """Features of one view that time changes at the same instants."""

    hops_us: Hops
    positions: tuple[int, ...]
    """Where they stand in the view's feature order."""
    read: Callable[[list[object], int], tuple[object, ...]]
    """Their values from a state's cells at a time."""

    def until_us(self, t_us: int) -> int:
        """When they may change first after `t_us`."""
        return min([(t_us // hop_us + 1) * hop_us for hop_us in self.hops_us])


def reads_source(view: View, layout: Layout) -> list[str]:
    """The lines of `values` (all features, in order), `READS` (one function each) and `PACES`."""
    lines = ["def values(s, t, resolve=None):", "    return ("]
    lines += [f"        {expression}," for expression in layout.reads.values()]
    lines += ["    )", "", "READS = {"]
    lines += [f"    {name!a}: lambda s, t, resolve=None: {e}," for name, e in layout.reads.items()]
    lines += ["}", "", "PACES = {"]
    for hops_us, names in features_by_pace(view).items():
        together = ", ".join(layout.reads[name] for name in names)
        lines.append(f"    {hops_us!r}: lambda s, t: ({together},),")
    return [*lines, "}"]


def features_by_pace(view: View) -> dict[Hops, list[str]]:
    """Names of the features that time alone changes, by the tiles at whose ends it does."""
    found: dict[Hops, list[str]] = {}
    for name in view.features:
        hops_us = tuple(sorted(_hops(view, name)))
        if hops_us:
            found.setdefault(MOVING if 0 in hops_us else hops_us, []).append(name)
    return found


def paces_of(view: View, read: Mapping[Hops, Callable[..., tuple[object, ...]]]) -> dict[Hops, Pace]:
    """The paces of a view around their generated functions."""
    places = {name: n for n, name in enumerate(view.features)}
    return {
        hops_us: Pace(hops_us, tuple(places[name] for name in names), read[hops_us])
        for hops_us, names in features_by_pace(view).items()
    }


def _hops(view: View, name: str) -> set[int]:
    match view.features[name]:
        case DerivedFeature(of=operands):
            return {hop_us for operand in operands for hop_us in _hops(view, operand)}
        case SessionFeature(op=op, hop_us=hop_us):
            if op not in _BY_TILE:
                return {*MOVING}
            return set() if hop_us is None else {hop_us}
        case _:
            return set()
