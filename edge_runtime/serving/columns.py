"""A service's columns bound to its groups: one cell for one row, or a block of cells for many candidates.

`cell` is the meaning; `block` gives the same bits for each candidate, vectorised where one side does not
depend on the candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_runtime.serving.cells import Cell, Fallback
from edge_runtime.serving.encodings import Encoder, Floats, vector_of
from edge_runtime.serving.groups import Group
from edge_runtime.serving.maps import entries_of
from edge_runtime.serving.reads import NOTHING, Missing, Reading, Source, value_at
from edge_runtime.serving.status import Status
from edge_runtime.wire.printing import prints_only

Statuses = npt.NDArray[np.uint8]
_ADDS_NOTHING = (Status.NULL, Status.NOT_FOUND)
_TRUNCATED = Missing(Status.NULL, "the map is truncated and may have dropped this key")
_FOREIGN = Missing(Status.NULL, "the value has no number under its dtype or encoding")


@prints_only("t_us")
@dataclass(frozen=True, slots=True)
class Scope:
    """Where and when one row is read."""

    source: Source
    ids: Mapping[str, str]
    """Bare ids by entity type."""
    t_us: int


@prints_only("kind")
@dataclass(frozen=True, slots=True)
class Batch:
    """Many candidates at once: one reading for all of them, or one for each (in `many`)."""

    scope: Scope
    kind: str
    candidates: Sequence[str]
    single: Sequence[Reading]
    many: Mapping[int, Sequence[Reading]]
    """By group number, for the groups whose entity includes the candidate."""

    def row(self, n: int) -> tuple[Scope, list[Reading]]:
        """Scope and readings of the n-th candidate alone."""
        ids = {**self.scope.ids, self.kind: self.candidates[n]}
        readings = [self.many[g][n] if g in self.many else r for g, r in enumerate(self.single)]
        return Scope(self.scope.source, ids, self.scope.t_us), readings


class BoundColumn(Protocol):
    """One column of a service, knowing where its inputs stand."""

    @property
    def width(self) -> int: ...

    @property
    def entities(self) -> frozenset[str]:
        """Entity types whose id changes the cell."""
        ...

    @property
    def inputs(self) -> tuple[tuple[int, int], ...]:
        """Group and position of each feature that it is read from."""
        ...

    def rows(self, readings: Sequence[Reading]) -> list[tuple[Group, str]]:
        """Further rows that it looks up: their group and typed entity."""
        ...

    def cell(self, scope: Scope, readings: Sequence[Reading]) -> Cell:
        """The cell of one row."""
        ...

    def block(self, batch: Batch) -> tuple[Floats, Statuses]:
        """float64[k, width] and one status for each candidate."""
        ...


def one_by_one(column: BoundColumn, batch: Batch) -> tuple[Floats, Statuses]:
    """The block by asking `cell` for each candidate: the meaning, where no faster way is known."""
    values = np.empty((len(batch.candidates), column.width))
    statuses = np.empty(len(batch.candidates), dtype=np.uint8)
    for n in range(len(batch.candidates)):
        numbers, status, _ = column.cell(*batch.row(n))
        values[n], statuses[n] = numbers, status
    return values, statuses


def fill(
    fallback: Fallback,
    readings: Sequence[Reading],
    position: int,
    width: int,
    convert: Callable[[list[object]], Floats],
) -> tuple[Floats, Statuses]:
    """Cells of one feature over many readings: usable values by `convert`, the others by the fallback."""
    values = np.empty((len(readings), width))
    statuses = np.zeros(len(readings), dtype=np.uint8)
    usable: list[int] = []
    raw: list[object] = []
    for n, reading in enumerate(readings):
        value = value_at(reading, position)
        if isinstance(value, Missing):
            values[n], statuses[n], _ = fallback.cell(value)
        else:
            usable.append(n)
            raw.append(value)
    if not raw:
        return values, statuses
    converted = convert(raw)
    values[usable] = converted
    for at in np.flatnonzero(np.isnan(converted).any(axis=1)).tolist():
        values[usable[at]], statuses[usable[at]], _ = fallback.cell(_FOREIGN)
    return values, statuses


@dataclass(frozen=True, slots=True)
class Plain:
    """A feature as it is or encoded."""

    group: int
    position: int
    encoder: Encoder
    fallback: Fallback
    entities: frozenset[str]

    @property
    def width(self) -> int:
        return self.encoder.width

    @property
    def inputs(self) -> tuple[tuple[int, int], ...]:
        return ((self.group, self.position),)

    def rows(self, readings: Sequence[Reading]) -> list[tuple[Group, str]]:
        return []

    def cell(self, scope: Scope, readings: Sequence[Reading]) -> Cell:
        value = value_at(readings[self.group], self.position)
        if isinstance(value, Missing):
            return self.fallback.cell(value)
        try:
            return Cell(self.encoder.one(value), Status.PRESENT, "")
        except (ValueError, OverflowError):
            return self.fallback.cell(_FOREIGN)

    def block(self, batch: Batch) -> tuple[Floats, Statuses]:
        return fill(self.fallback, batch.many[self.group], self.position, self.width, self.encoder.many)


@dataclass(frozen=True, slots=True)
class Lookup:
    """A map feature's value at the id of entity `key`: 0 where the map has no such key."""

    group: int
    position: int
    key: str
    fallback: Fallback
    entities: frozenset[str]
    width: int = 1

    @property
    def inputs(self) -> tuple[tuple[int, int], ...]:
        return ((self.group, self.position),)

    def rows(self, readings: Sequence[Reading]) -> list[tuple[Group, str]]:
        return []

    def cell(self, scope: Scope, readings: Sequence[Reading]) -> Cell:
        value = value_at(readings[self.group], self.position)
        if isinstance(value, Missing):
            return self.fallback.cell(value)
        bare = scope.ids.get(self.key)
        if bare is None:
            return self.fallback.cell(Missing(Status.NOT_FOUND, f"no {self.key} was given"))
        found = entries_of(value).at(bare)
        if found is None:
            return self.fallback.cell(_TRUNCATED)
        return Cell((found,), Status.PRESENT, "")

    def block(self, batch: Batch) -> tuple[Floats, Statuses]:
        value = value_at(batch.single[self.group], self.position)
        shared = self.key == batch.kind and self.group not in batch.many
        if not shared or isinstance(value, Missing):
            return one_by_one(self, batch)
        found = entries_of(value).at_each(batch.candidates)
        statuses = np.zeros(len(found), dtype=np.uint8)
        for n in np.flatnonzero(np.isnan(found)).tolist():
            (found[n],), statuses[n], _ = self.cell(*batch.row(n))
        return found.reshape(-1, 1), statuses


@dataclass(frozen=True, slots=True)
class SumLookup:
    """Sum over the ids in a list of the map value of each id's row at the id of entity `key`, in list order.

    A row that is not there (NOT_FOUND) or whose map is NULL adds 0. A row that is there but may not be used
    (expired, not synced, revoked) makes the sum not whole, and the cell takes that status.
    """

    lists: Group
    """Whose rows hold the maps."""
    map_position: int
    group: int
    position: int
    key: str
    fallback: Fallback
    entities: frozenset[str]
    width: int = 1

    @property
    def inputs(self) -> tuple[tuple[int, int], ...]:
        return ((self.group, self.position),)

    def rows(self, readings: Sequence[Reading]) -> list[tuple[Group, str]]:
        listed = value_at(readings[self.group], self.position)
        found = listed if isinstance(listed, list | tuple) else ()
        return [(self.lists, f"{self.lists.types[0]}:{bare}") for bare in found]

    def _maps(self, scope: Scope, readings: Sequence[Reading]) -> list[object] | Missing:
        listed = value_at(readings[self.group], self.position)
        if isinstance(listed, Missing):
            return listed
        if not isinstance(listed, list | tuple):
            return NOTHING
        maps: list[object] = []
        for group, entity in self.rows(readings):
            row = group.read_entity(scope.source, entity, scope.t_us)
            entries = value_at(row, self.map_position)
            if not isinstance(entries, Missing):
                maps.append(entries)
            elif entries.status not in _ADDS_NOTHING:
                return entries
        return maps

    def cell(self, scope: Scope, readings: Sequence[Reading]) -> Cell:
        maps = self._maps(scope, readings)
        if isinstance(maps, Missing):
            return self.fallback.cell(maps)
        bare = scope.ids.get(self.key)
        if bare is None:
            return self.fallback.cell(Missing(Status.NOT_FOUND, f"no {self.key} was given"))
        total = 0.0
        for entries in maps:
            total += entries_of(entries).at(bare) or 0.0
        return Cell((total,), Status.PRESENT, "") if total == total else self.fallback.cell(_FOREIGN)

    def block(self, batch: Batch) -> tuple[Floats, Statuses]:
        if self.key != batch.kind or self.group in batch.many:
            return one_by_one(self, batch)
        maps = self._maps(batch.scope, batch.single)
        if isinstance(maps, Missing):
            return one_by_one(self, batch)
        totals = np.zeros(len(batch.candidates))
        with np.errstate(over="ignore", invalid="ignore"):
            for entries in maps:
                each = entries_of(entries).at_each(batch.candidates)
                totals += np.where(np.isnan(each), 0.0, each)
        if np.isnan(totals).any():
            return one_by_one(self, batch)
        return totals.reshape(-1, 1), np.zeros(len(batch.candidates), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Dot:
    """The inner product of two vectors: products added one after another, from the first to the last."""

    left: tuple[int, int]
    """Group and position."""
    right: tuple[int, int]
    size: int
    fallback: Fallback
    entities: frozenset[str]
    width: int = 1

    @property
    def inputs(self) -> tuple[tuple[int, int], ...]:
        return self.left, self.right

    def rows(self, readings: Sequence[Reading]) -> list[tuple[Group, str]]:
        return []

    def cell(self, scope: Scope, readings: Sequence[Reading]) -> Cell:
        sides: list[Floats] = []
        for group, position in (self.left, self.right):
            value = value_at(readings[group], position)
            if isinstance(value, Missing):
                return self.fallback.cell(value)
            try:
                sides.append(vector_of(value, self.size))
            except ValueError:
                return self.fallback.cell(_FOREIGN)
        # Added in order, never by BLAS: its order depends on the machine and the shape (law 8).
        with np.errstate(over="ignore", invalid="ignore"):
            product = float(np.add.accumulate(sides[0] * sides[1])[-1])
        return self.fallback.cell(_FOREIGN) if math.isnan(product) else Cell((product,), Status.PRESENT, "")

    def block(self, batch: Batch) -> tuple[Floats, Statuses]:
        varying = [side for side in (self.left, self.right) if side[0] in batch.many]
        fixed = [side for side in (self.left, self.right) if side[0] not in batch.many]
        if len(varying) != 1:
            return one_by_one(self, batch)
        try:
            query = vector_of(value_at(batch.single[fixed[0][0]], fixed[0][1]), self.size)
        except ValueError:
            return one_by_one(self, batch)
        group, position = varying[0]
        return fill(self.fallback, batch.many[group], position, 1, lambda raw: self._products(raw, query))

    def _products(self, raw: list[object], query: Floats) -> Floats:
        with np.errstate(over="ignore", invalid="ignore"):
            rows = _vectors(raw, self.size) * query
            totals = rows[:, 0].copy()
            for n in range(1, self.size):
                totals += rows[:, n]
        return totals.reshape(-1, 1)


def _vectors(raw: list[object], size: int) -> Floats:
    rows = np.full((len(raw), size), np.nan)
    for n, value in enumerate(raw):
        try:
            rows[n] = vector_of(value, size)
        except ValueError:
            continue
    return rows
