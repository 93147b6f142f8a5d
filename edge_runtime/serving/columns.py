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
from edge_runtime.serving.reads import Missing, Reading, Source
from edge_runtime.serving.status import Status

Statuses = npt.NDArray[np.uint8]
_NOTHING = Missing(Status.NULL, "")
_TRUNCATED = Missing(Status.NULL, "the map is truncated and may have dropped this key")
_FOREIGN = Missing(Status.NULL, "the value has no number under its dtype or encoding")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where and when one row is read."""

    source: Source
    ids: Mapping[str, str]
    """Bare ids by entity type."""
    t_us: int


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
        value = None if isinstance(reading, Missing) else reading[position]
        if value is not None:
            usable.append(n)
            raw.append(value)
        else:
            missing = reading if isinstance(reading, Missing) else _NOTHING
            values[n], statuses[n], _ = fallback.cell(missing)
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

    def cell(self, scope: Scope, readings: Sequence[Reading]) -> Cell:
        reading = readings[self.group]
        if isinstance(reading, Missing):
            return self.fallback.cell(reading)
        value = reading[self.position]
        if value is None:
            return self.fallback.cell(_NOTHING)
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

    def cell(self, scope: Scope, readings: Sequence[Reading]) -> Cell:
        reading = readings[self.group]
        if isinstance(reading, Missing):
            return self.fallback.cell(reading)
        if reading[self.position] is None:
            return self.fallback.cell(_NOTHING)
        bare = scope.ids.get(self.key)
        if bare is None:
            return self.fallback.cell(Missing(Status.NOT_FOUND, f"no {self.key} was given"))
        found = entries_of(reading[self.position]).at(bare)
        if found is None:
            return self.fallback.cell(_TRUNCATED)
        return Cell((found,), Status.PRESENT, "")

    def block(self, batch: Batch) -> tuple[Floats, Statuses]:
        reading = batch.single[self.group]
        shared = self.key == batch.kind and self.group not in batch.many
        if not shared or isinstance(reading, Missing) or reading[self.position] is None:
            return one_by_one(self, batch)
        found = entries_of(reading[self.position]).at_each(batch.candidates)
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

    rows: Group
    map_position: int
    group: int
    position: int
    key: str
    fallback: Fallback
    entities: frozenset[str]
    width: int = 1

    def _maps(self, scope: Scope, reading: Reading) -> list[object] | Missing:
        if isinstance(reading, Missing):
            return reading
        listed = reading[self.position]
        if not isinstance(listed, list | tuple):
            return _NOTHING
        maps: list[object] = []
        prefix = f"{self.rows.types[0]}:"
        for bare in listed:
            row = self.rows.read_entity(scope.source, f"{prefix}{bare}", scope.t_us)
            if not isinstance(row, Missing):
                if row[self.map_position] is not None:
                    maps.append(row[self.map_position])
            elif row.status is not Status.NOT_FOUND:
                return row
        return maps

    def cell(self, scope: Scope, readings: Sequence[Reading]) -> Cell:
        maps = self._maps(scope, readings[self.group])
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
        maps = self._maps(batch.scope, batch.single[self.group])
        if isinstance(maps, Missing):
            return one_by_one(self, batch)
        totals = np.zeros(len(batch.candidates))
        for entries in maps:
            totals += np.nan_to_num(entries_of(entries).at_each(batch.candidates), nan=0.0)
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

    def cell(self, scope: Scope, readings: Sequence[Reading]) -> Cell:
        sides: list[Floats] = []
        for group, position in (self.left, self.right):
            reading = readings[group]
            if isinstance(reading, Missing):
                return self.fallback.cell(reading)
            if reading[position] is None:
                return self.fallback.cell(_NOTHING)
            try:
                sides.append(vector_of(reading[position], self.size))
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
        reading = batch.single[fixed[0][0]]
        if isinstance(reading, Missing) or reading[fixed[0][1]] is None:
            return one_by_one(self, batch)
        try:
            query = vector_of(reading[fixed[0][1]], self.size)
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
