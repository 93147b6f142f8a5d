"""The rows of one service at many points, column by column; each has the bits of `ServicePlan.vector`.

The columns' vectorised blocks, made for many candidates of one read, are asked with one reading for each
point. Where some value is not of the plain kinds for which a block is known to equal its cells (a number of a
foreign class, NaN, an integer beyond float64), all points at hand are answered by `ServicePlan.vector`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from edge_runtime.catalog import Catalog
from edge_runtime.serving.answer import Numbers, Statuses
from edge_runtime.serving.binding import Binding
from edge_runtime.serving.columns import Batch, BoundColumn, Dot, Plain, Scope, one_by_one
from edge_runtime.serving.encodings import Floats, vector_of
from edge_runtime.serving.held import Given
from edge_runtime.serving.plan import ServicePlan
from edge_runtime.serving.reads import Missing, Reading, Source, value_at
from edge_runtime.serving.request import check_id
from edge_runtime.wire.printing import prints_only

PLAIN_KINDS = frozenset({int, float, bool})


class Point(Protocol):
    """Ids by entity type, a time, request values as they came and as `ServicePlan.given` reads them."""

    @property
    def ids(self) -> Mapping[str, str]: ...
    @property
    def at_us(self) -> int: ...
    @property
    def request(self) -> Mapping[str, object] | None: ...
    @property
    def given(self) -> Given: ...


class TimedSource(Source, Protocol):
    """A source of the past: set `t_us` before reading at it."""

    t_us: int


@prints_only()
class ServiceRows(NamedTuple):
    """float32[points, n] and the status of each number."""

    values: Numbers
    statuses: Statuses


@prints_only("kind")
@dataclass(frozen=True, slots=True)
class Points(Batch):
    """A batch in which every row has its own ids and time: there is a reading of each group for each."""

    points: Sequence[Point]
    source: TimedSource

    def row(self, n: int) -> tuple[Scope, list[Reading]]:
        """Scope and readings of the n-th point."""
        point = self.points[n]
        self.source.t_us = point.at_us
        return Scope(self.source, point.ids, point.at_us), [readings[n] for readings in self.many.values()]


class PointReader:
    """Reads one service at points of the past."""

    def __init__(self, catalog: Catalog, plan: ServicePlan, source: TimedSource) -> None:
        binding = Binding(catalog.views, catalog.purposes, plan.service)
        self._plan, self._source = plan, source
        self._groups, self._columns = tuple(binding.groups), tuple(binding.columns)
        self._numeric = [(c.group, c.position) for c in self._columns if isinstance(c, Plain)]

    def rows(self, points: Sequence[Point]) -> ServiceRows:
        """The rows at these points, in their order.

        Raises:
            MalformedRequest: an id that is none.
        """
        for point in points:
            for kind, bare in point.ids.items():
                if not bare.isascii():
                    check_id(kind, bare)
        readings = self._readings(points)
        width = len(self._plan.names)
        found = ServiceRows(
            np.empty((len(points), width), dtype=np.float32), np.empty((len(points), width), dtype=np.uint8)
        )
        if not self._fill(points, readings, found):
            self._one_by_one(points, found)
        return found

    def _readings(self, points: Sequence[Point]) -> list[list[Reading]]:
        """For each group its readings at all points."""
        source = self._source
        readings: list[list[Reading]] = [[] for _ in self._groups]
        reads = [
            (readings[n].append, g.read, g.view.key if g.view.source == "request" else None)
            for n, g in enumerate(self._groups)
        ]
        for point in points:
            ids, t_us = point.ids, point.at_us
            source.t_us, given = t_us, point.given
            for append, read, key in reads:
                append(read(source, ids, t_us) if key is None else given[key])
        return readings

    def _fill(self, points: Sequence[Point], readings: list[list[Reading]], found: ServiceRows) -> bool:
        """Whether every column could be filled by its block."""
        if not all(_is_plain(readings[group], position) for group, position in self._numeric):
            return False
        scope = Scope(self._source, {}, 0)
        batch = Points(scope, "", [""] * len(points), (), dict(enumerate(readings)), points, self._source)
        start = 0
        for column in self._columns:
            try:
                values, statuses = _block(column, batch)
            except OverflowError:
                return False
            end = start + column.width
            with np.errstate(over="ignore", invalid="ignore"):
                found.values[:, start:end] = values  # the one cast to float32
            found.statuses[:, start:end] = statuses[:, np.newaxis]
            start = end
        return True

    def _one_by_one(self, points: Sequence[Point], found: ServiceRows) -> None:
        for n, point in enumerate(points):
            self._source.t_us = point.at_us
            vector = self._plan.vector(self._source, point.ids, point.at_us, None, point.request)
            found.values[n], found.statuses[n] = vector.values, vector.status


def _is_plain(readings: Sequence[Reading], position: int) -> bool:
    """Whether the values are numbers whose conversion is the same one by one and all at once.

    Texts, lists and maps are too: no encoding takes them for a number.
    """
    found = [r[position] for r in readings if r.__class__ is tuple]
    kinds = set(map(type, found)) - {type(None), str, list, tuple, dict, np.ndarray}
    if not kinds <= PLAIN_KINDS:
        return False
    return float not in kinds or not any(value != value for value in found if value.__class__ is float)


def _block(column: BoundColumn, batch: Points) -> tuple[Floats, Statuses]:
    match column:
        case Plain():
            return column.block(batch)
        case Dot():
            return _dots(column, batch)
    return one_by_one(column, batch)  # lookups at an id that differs from point to point


def _dots(column: Dot, batch: Points) -> tuple[Floats, Statuses]:
    """Inner products of two vectors that both differ from point to point, added in `Dot.cell`'s order."""
    count = len(batch.points)
    values, statuses = np.empty((count, 1)), np.zeros(count, dtype=np.uint8)
    sides = [
        _vectors([value_at(r, at) for r in batch.many[g]], column.size)
        for g, at in (column.left, column.right)
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        products = sides[0] * sides[1]
        totals = products[:, 0].copy()
        for n in range(1, column.size):
            totals += products[:, n]
    values[:, 0] = totals
    for n in np.flatnonzero(np.isnan(totals)).tolist():
        (values[n, 0],), statuses[n], _ = column.cell(*batch.row(n))
    return values, statuses


def _vectors(found: Sequence[object], size: int) -> Floats:
    """float64[k, size]; NaN where there is no vector. The same object is converted once."""
    distinct: dict[int, int] = {}
    kept: list[Floats] = [np.full(size, np.nan)]
    places = np.zeros(len(found), dtype=np.intp)
    for n, value in enumerate(found):
        if not isinstance(value, Missing):
            place = distinct.get(id(value))
            if place is None:
                place = distinct[id(value)] = _kept(kept, value, size)
            places[n] = place
    return np.array(kept)[places]


def _kept(kept: list[Floats], value: object, size: int) -> int:
    try:
        kept.append(vector_of(value, size))
    except ValueError:
        return 0
    return len(kept) - 1
