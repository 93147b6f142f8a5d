"""A session view as `explain` shows it: its statistics, which of them each feature is read from, its code."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.duration import write_duration
from edge_runtime.session.layout import lay_out
from edge_runtime.session.operators.statistic import Placed
from edge_runtime.session.plan import ViewPlan


@dataclass(frozen=True, slots=True)
class ExplainedStatistic:
    """One piece of state."""

    text: str
    """Its kind, the events that it sees, and the window that it is tiled by."""
    first: int
    last: int
    """First and last of its slots."""


@dataclass(frozen=True, slots=True)
class ExplainedView:
    """One compiled session view."""

    key: str
    slots: int
    statistics: tuple[ExplainedStatistic, ...]
    features: dict[str, tuple[int, ...]]
    """For each feature the numbers of the statistics that it is read from; shared ones stand at several."""
    source: str
    """The generated code that runs."""

    def to_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {
            "slots": self.slots,
            "statistics": [{"of": s.text, "first": s.first, "last": s.last} for s in self.statistics],
            "features": {name: list(needs) for name, needs in self.features.items()},
            "source": self.source,
        }


def explained(catalog: Catalog, key: str) -> ExplainedView:
    """The session view of this key, compiled.

    Raises:
        CatalogError: it cannot be built.
    """
    view = catalog.views[key]
    layout = lay_out(view)
    numbers = {placed: n for n, placed in enumerate(layout.placed)}
    return ExplainedView(
        key=key,
        slots=layout.width,
        statistics=tuple(map(_statistic, layout.placed)),
        features={name: tuple({numbers[p]: None for p in layout.needs[name]}) for name in view.features},
        source=ViewPlan(view, catalog).source,
    )


def _statistic(placed: Placed) -> ExplainedStatistic:
    statistic = placed.statistic
    stream, frame = statistic.stream, statistic.frame
    words = [type(statistic).__name__, "of", "+".join(stream.events)]
    words += [] if stream.value is None else [f"by {stream.value}"]
    words += [f"where {w.property} {w.test} {w.operand}" for w in stream.where]
    words += [] if frame is None else [f"in {frame.tiles} tiles of {write_duration(frame.hop_us)}"]
    width = len(statistic.fresh())
    return ExplainedStatistic(" ".join(words), placed.base, placed.base + width - 1)
