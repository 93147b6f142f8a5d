"""Which state a view's features need, and where each piece lies: features that can share a piece do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_runtime.catalog.model import DerivedFeature, SessionFeature, View
from edge_runtime.errors import CatalogError, Fault
from edge_runtime.session.operators import (
    decayed,
    derived,
    distinct,
    extremes,
    keyed,
    moments,
    oldest,
    recent,
    runs,
    tally,
    vector,
)
from edge_runtime.session.operators.recent import Recent
from edge_runtime.session.operators.statistic import Built, Family, Frame, Placed, Statistic, Stream, unfit

OPERATORS: Family = {
    **tally.FAMILY,
    **moments.FAMILY,
    **extremes.FAMILY,
    **oldest.FAMILY,
    **recent.FAMILY,
    **decayed.FAMILY,
    **runs.FAMILY,
    **keyed.FAMILY,
    **distinct.FAMILY,
    **vector.FAMILY,
}
"""Every operator that is built."""


@dataclass
class Layout:
    """The slots of one view: one for each frame, then the statistics."""

    frames: dict[Frame, int] = field(default_factory=dict)
    placed: list[Placed] = field(default_factory=list)
    reads: dict[str, str] = field(default_factory=dict)
    """For each feature, in the view's order, an expression over `s` (the slots), `t` (time of the read) and
    `resolve`."""
    needs: dict[str, tuple[Placed, ...]] = field(default_factory=dict)
    """For each feature the statistics that it is read from, its operands' included."""
    wanted: dict[str, tuple[Statistic, ...]] = field(default_factory=dict)
    """Beside each of `needs` what the feature asked for: a `Recent` that is shared may be longer."""
    width: int = 0


def lay_out(view: View) -> Layout:
    """The layout of a session view.

    Raises:
        CatalogError: a feature of an operator that is not built, or without what its operator needs.
    """
    built = {f.name: _build(view, f) for f in view.features.values() if isinstance(f, SessionFeature)}
    layout = Layout()
    _place(layout, _widest([s for one in built.values() for s in one.statistics]))
    reads, needs = _plain(layout, built)
    wanted = {name: one.statistics for name, one in built.items()}
    for name in view.features:
        layout.reads[name] = _read(view, name, reads, ())
        pairs = _needs(view, name, needs, wanted)
        layout.needs[name] = tuple(placed for placed, _ in pairs)
        layout.wanted[name] = tuple(statistic for _, statistic in pairs)
    return layout


def _build(view: View, f: SessionFeature) -> Built:
    build = OPERATORS.get(f.op)
    if build is None:
        raise unfit(view, f, "op", f"expected one of {', '.join(sorted(OPERATORS))}, got {f.op}")
    return build(view, f)


def _place(layout: Layout, statistics: list[Statistic]) -> None:
    """Give every frame and every statistic its slots."""
    for frame in dict.fromkeys(s.frame for s in statistics if s.frame is not None):
        layout.frames[frame] = layout.width
        layout.width += 1
    for statistic in statistics:
        frame_slot = -1 if statistic.frame is None else layout.frames[statistic.frame]
        layout.placed.append(Placed(statistic, layout.width, frame_slot))
        layout.width += len(statistic.fresh())


def _plain(
    layout: Layout, built: Mapping[str, Built]
) -> tuple[dict[str, str], dict[str, tuple[Placed, ...]]]:
    """How every feature that is read from statistics alone is read, and from which."""
    needs = {
        name: tuple(next(p for p in layout.placed if _serves(p.statistic, s)) for s in one.statistics)
        for name, one in built.items()
    }
    return {name: one.read(*needs[name]) for name, one in built.items()}, needs


def _read(view: View, name: str, plain: Mapping[str, str], above: tuple[str, ...]) -> str:
    """The expression of a feature; a derived one holds those of its operands."""
    feature = view.features.get(name)
    if isinstance(feature, DerivedFeature) and name not in above:
        operands = tuple(_read(view, source, plain, (*above, name)) for source in feature.of)
        return derived.expression(feature, operands)
    if name in plain:
        return plain[name]
    place = f"views.{view.name}.features.{(*above, name)[0]}.of"
    raise CatalogError([Fault(place, "expected features of this view, without a circle")])


def _needs(
    view: View,
    name: str,
    needs: Mapping[str, tuple[Placed, ...]],
    wanted: Mapping[str, tuple[Statistic, ...]],
) -> tuple[tuple[Placed, Statistic], ...]:
    feature = view.features[name]
    if isinstance(feature, DerivedFeature):
        return tuple(dict.fromkeys(p for one in feature.of for p in _needs(view, one, needs, wanted)))
    return tuple(zip(needs[name], wanted[name], strict=True))


def _widest(wanted: list[Statistic]) -> list[Statistic]:
    """Equal statistics once; of the newest values of one stream only the longest list."""
    longest: dict[Stream, int] = {}
    for s in wanted:
        if isinstance(s, Recent):
            longest[s.stream] = max(s.n, longest.get(s.stream, 0))
    return list(
        dict.fromkeys(Recent(s.stream, longest[s.stream]) if isinstance(s, Recent) else s for s in wanted)
    )


def _serves(have: Statistic, wanted: Statistic) -> bool:
    if isinstance(have, Recent) and isinstance(wanted, Recent):
        return have.stream == wanted.stream
    return have == wanted
