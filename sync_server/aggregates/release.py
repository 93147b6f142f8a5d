"""What is published of a round: numbers with their intervals, or only that there were too few subjects."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final, Literal

import msgspec

from edge_runtime.aggregates.mechanisms import (
    SubsetSelection,
    cost_micros,
    epsilon_of,
    histogram_mechanism,
)
from edge_runtime.catalog.model import CatalogModel, Metric
from sync_server.aggregates.estimate import Estimate, estimate
from sync_server.store.aggregates import RoundRow

DIGITS: Final = 6
"""Decimals of a published number; a share of a millionth is far below any interval."""


class NeededPurpose(msgspec.Struct, frozen=True):
    """A purpose that an answer needs, and whether its permission is a consent (unknown then means no)."""

    name: str
    consent: bool


class Parameters(msgspec.Struct, frozen=True):
    """Everything a round asks, frozen when it opens: a later catalog does not change it."""

    purposes: tuple[NeededPurpose, ...]
    categories: tuple[str, ...]
    epsilon: str
    """A rational, as text: `1`, `1/2`."""
    cost_micros: int
    window_days: int
    min_subjects: int

    @property
    def mechanism(self) -> SubsetSelection:
        """The mechanism of its answers."""
        return histogram_mechanism(len(self.categories), Fraction(self.epsilon))


class MechanismNote(msgspec.Struct, frozen=True):
    """Which randomizer made the answers."""

    name: str
    categories: int
    subset_size: int


class Release(msgspec.Struct, frozen=True):
    """The published result of one round. Shares are of the subjects who answered."""

    round: str
    """Hex."""
    metric: str
    status: Literal["released", "withheld"]
    """`withheld`: fewer subjects than the minimum; then no number is shown, not even how many."""
    min_subjects: int
    epsilon: float
    mechanism: MechanismNote
    opened_at_us: int
    closed_at_us: int
    n: int | None = None
    """Subjects counted."""
    estimate: dict[str, float] | None = None
    """Unbiased; may lie a little below 0."""
    ci95: dict[str, tuple[float, float]] | None = None
    """95 % interval of each estimate, for the noise added on the devices."""
    share: dict[str, float] | None = None
    """The estimates made non-negative with sum one; for charts."""


def freeze(model: CatalogModel, metric: Metric, window_days: int) -> Parameters:
    """The parameters of a round of `metric`."""
    source = model.views[metric.of.view].purpose
    names = dict.fromkeys(p for p in (metric.purpose, source) if p is not None)
    needed = (model.purposes[name] for name in names)
    return Parameters(
        purposes=tuple(NeededPurpose(p.name, p.asks) for p in needed),
        categories=metric.categories,
        epsilon=str(epsilon_of(metric)),
        cost_micros=cost_micros(metric),
        window_days=window_days,
        min_subjects=metric.min_subjects,
    )


def make_release(row: RoundRow, parameters: Parameters, counts: Mapping[int, int], closed_us: int) -> Release:
    """The release of a round with these noised counts (category index -> answers naming it)."""
    mechanism = parameters.mechanism
    bare = Release(
        round=row.id.hex(),
        metric=row.metric,
        status="withheld",
        min_subjects=parameters.min_subjects,
        epsilon=float(Fraction(parameters.epsilon)),
        mechanism=MechanismNote(mechanism.name, mechanism.categories, mechanism.size),
        opened_at_us=row.opened_us,
        closed_at_us=closed_us,
    )
    if row.subjects < max(1, parameters.min_subjects):
        return bare
    ordered = [counts.get(i, 0) for i in range(mechanism.categories)]
    return _with_numbers(bare, row.subjects, parameters, estimate(ordered, row.subjects, mechanism))


def _with_numbers(bare: Release, n: int, parameters: Parameters, found: list[Estimate]) -> Release:
    named = dict(zip(parameters.categories, found, strict=True))
    return msgspec.structs.replace(
        bare,
        status="released",
        n=n,
        estimate={name: _decimal(e.estimate) for name, e in named.items()},
        ci95={name: (_decimal(e.low), _decimal(e.high)) for name, e in named.items()},
        share={name: _decimal(e.share) for name, e in named.items()},
    )


def _decimal(value: Fraction) -> float:
    """Rounded as a rational first; the float is only how JSON writes it."""
    return float(round(value, DIGITS))
