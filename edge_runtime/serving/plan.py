"""A service compiled once into a read plan: which views to read, and where each number comes from.

A vector whose plain columns are all usable is a concatenation of the views' values and one pick by position.
Anything else takes the long way, cell by cell, which is the meaning of both.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.model import PlainColumn, Service
from edge_runtime.errors import MalformedRequest
from edge_runtime.serving.binding import Binding
from edge_runtime.serving.cells import Cell
from edge_runtime.serving.columns import Batch, BoundColumn, Plain, Scope
from edge_runtime.serving.encodings import AsIs
from edge_runtime.serving.reads import Reading, Source
from edge_runtime.serving.request import RequestForm
from edge_runtime.serving.status import Status

Numbers = npt.NDArray[np.float32]
Statuses = npt.NDArray[np.uint8]


class Vector:
    """One row for a model: `values[i]` is the number of `names[i]`, `status[i]` says what it is.

    Attributes:
        values: float32[n].
        names: one for each number.
        status: uint8[n] of `Status`. Read only when every cell is PRESENT: vectors share that array.
        reason: empty for PRESENT, else the cause (`NOT_FOUND: ...`), also behind a default.
        as_of: the time read at, microseconds since 1970 UTC.
        refs: what each number comes from, as `explain` shows it.
    """

    # Not a frozen dataclass: setting six frozen fields costs a microsecond of a 20 microsecond read.
    __slots__ = ("as_of", "names", "reason", "refs", "status", "values")

    def __init__(
        self,
        values: Numbers,
        names: tuple[str, ...],
        status: Statuses,
        reason: tuple[str, ...],
        as_of: int,
        refs: tuple[str, ...],
    ) -> None:
        self.values, self.names, self.status = values, names, status
        self.reason, self.as_of, self.refs = reason, as_of, refs

    def explain(self) -> list[dict[str, Any]]:
        """One record for each number: name, value, status, reason and where it comes from."""
        return [
            {"name": name, "value": value, "status": Status(status).name, "reason": reason, "source": ref}
            for name, value, status, reason, ref in zip(
                self.names, self.values.tolist(), self.status.tolist(), self.reason, self.refs, strict=True
            )
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """One row for each candidate, in the order given."""

    values: Numbers
    """float32[k, n]."""
    names: tuple[str, ...]
    status: Statuses
    """uint8[k, n]."""
    candidates: tuple[str, ...]
    as_of: int


class ServicePlan:
    """How to read one service. Holds no values; safe to share between threads."""

    def __init__(self, catalog: Catalog, service: Service) -> None:
        binding = Binding(catalog.views, catalog.purposes, service)
        self.service = service
        self.names = service.names
        self._groups = tuple(binding.groups)
        self.view_keys = frozenset(g.view.key for g in binding.groups)
        """Keys of the views that a row reads."""
        self._readers = tuple(
            (g.read, g.view.key if g.view.source == "request" else None) for g in binding.groups
        )
        self._columns = tuple(binding.columns)
        self._entity_types = frozenset(catalog.entities)
        self._form = RequestForm(catalog.views)
        self._refs = tuple(_source_of(c) for c in service.columns for _ in range(c.width))
        self._computed, self._pick = _short_way(binding)
        self._all_present = np.zeros(len(self.names), dtype=np.uint8)
        self._all_present.flags.writeable = False
        self._no_reasons = ("",) * len(self.names)

    def vector(
        self,
        source: Source,
        entities: Mapping[str, str],
        now_us: int,
        at_us: int | None = None,
        request: Mapping[str, object] | None = None,
    ) -> Vector:
        """The row for these bare ids by entity type, read at `at_us` (None: now).

        An entity type that a column needs and that was not given makes the column NOT_FOUND.

        Raises:
            MalformedRequest: an unknown entity type, an id that is no text, or a bad request value.
        """
        self._check_entities(entities)
        t_us = now_us if at_us is None else at_us
        given = self._form.read(request)
        readings = self._read(source, entities, t_us, given)
        values = self._quick(source, entities, t_us, readings)
        if values is not None:
            return Vector(values, self.names, self._all_present, self._no_reasons, t_us, self._refs)
        return self._slow(Scope(source, entities, t_us), readings)

    def _check_entities(self, entities: Mapping[str, str]) -> None:
        known = self._entity_types
        for kind, bare in entities.items():
            if kind not in known:
                raise MalformedRequest("entity", " ".join(sorted(known)), "an unknown entity type")
            if not isinstance(bare, str) or not bare:
                raise MalformedRequest(kind, "an id: text that is not empty", type(bare).__name__)

    def _read(
        self,
        source: Source,
        entities: Mapping[str, str],
        t_us: int,
        given: Mapping[str, tuple[object, ...]],
    ) -> list[Reading]:
        return [read(source, entities, t_us) if key is None else given[key] for read, key in self._readers]

    def _quick(
        self, source: Source, entities: Mapping[str, str], t_us: int, readings: list[Reading]
    ) -> Numbers | None:
        """The numbers when every cell is PRESENT, None when one may not be."""
        try:
            flat: list[Any] = list(chain.from_iterable(cast("list[tuple[object, ...]]", readings)))
            if self._computed:
                scope = Scope(source, entities, t_us)
                for column in self._computed:
                    numbers, status, _ = column.cell(scope, readings)
                    if status:
                        return None
                    flat += numbers
            # One cast to float32, by the C compiler: an iterable of None, text or a Missing ends here.
            return np.frombuffer(array("f", self._pick(flat)), dtype=np.float32)
        except (TypeError, ValueError, OverflowError):
            return None

    def _slow(self, scope: Scope, readings: list[Reading]) -> Vector:
        cells = [column.cell(scope, readings) for column in self._columns]
        values = cast_row([number for cell in cells for number in cell.numbers])
        status = np.array([cell.status for cell in cells for _ in cell.numbers], dtype=np.uint8)
        reason = tuple(cell.reason for cell in cells for _ in cell.numbers)
        return Vector(values, self.names, status, reason, scope.t_us, self._refs)

    def matrix(
        self,
        source: Source,
        entities: Mapping[str, str],
        candidates: tuple[str, Sequence[str]],
        now_us: int,
        at_us: int | None = None,
        request: Mapping[str, object] | None = None,
    ) -> Matrix:
        """One row for each candidate id of one entity type; row i has the bits of `vector` for candidate i.

        Columns that do not depend on the candidate are computed once.

        Raises:
            MalformedRequest: as `vector`; or candidates that are no texts.
        """
        kind, ids = candidates
        self._check_entities(entities)
        self._check_candidates(entities, kind, ids)
        t_us = now_us if at_us is None else at_us
        batch = self._batch(source, entities, kind, ids, t_us, self._form.read(request))
        fixed = [None if kind in c.entities else c.cell(batch.scope, batch.single) for c in self._columns]
        values = np.empty((len(ids), len(self.names)))
        status = np.empty((len(ids), len(self.names)), dtype=np.uint8)
        values[:], status[:] = self._row_of(fixed)
        at = 0
        for column, cell in zip(self._columns, fixed, strict=True):
            block = slice(at, at + column.width)
            at += column.width
            if cell is None:
                values[:, block], column_status = column.block(batch)
                status[:, block] = column_status[:, None]
        return Matrix(_cast(values), self.names, status, tuple(ids), t_us)

    def _row_of(self, cells: Sequence[Cell | None]) -> tuple[list[float], list[int]]:
        """Numbers and statuses of one row; zeros where a column has no cell yet."""
        numbers: list[float] = []
        statuses: list[int] = []
        for column, cell in zip(self._columns, cells, strict=True):
            numbers += (0.0,) * column.width if cell is None else cell.numbers
            statuses += [0 if cell is None else cell.status] * column.width
        return numbers, statuses

    def _check_candidates(self, entities: Mapping[str, str], kind: str, ids: Sequence[str]) -> None:
        if kind not in self._entity_types:
            raise MalformedRequest("entity", " ".join(sorted(self._entity_types)), "an unknown entity type")
        if kind in entities:
            raise MalformedRequest(kind, "one id or a list of candidates", "both")
        for bare in ids:
            if not isinstance(bare, str) or not bare:
                raise MalformedRequest(kind, "ids: texts that are not empty", type(bare).__name__)

    def _batch(
        self,
        source: Source,
        entities: Mapping[str, str],
        kind: str,
        ids: Sequence[str],
        t_us: int,
        given: Mapping[str, tuple[object, ...]],
    ) -> Batch:
        single = self._read(source, entities, t_us, given)
        many = {
            n: g.read_many(source, entities, kind, ids, t_us)
            for n, g in enumerate(self._groups)
            if kind in g.types
        }
        return Batch(Scope(source, entities, t_us), kind, ids, single, many)


def compile_service(catalog: Catalog, service: Service) -> ServicePlan:
    """The read plan of one service of a checked catalog."""
    return ServicePlan(catalog, service)


def _short_way(binding: Binding) -> tuple[tuple[BoundColumn, ...], Callable[[Any], tuple[Any, ...]]]:
    """Columns that must be computed, and the pick of every number from all values followed by theirs."""
    starts: list[int] = []
    end = 0
    for group in binding.groups:
        starts.append(end)
        end += len(group.positions)
    computed: list[BoundColumn] = []
    order: list[int] = []
    for column in binding.columns:
        if isinstance(column, Plain) and isinstance(column.encoder, AsIs):
            order.append(starts[column.group] + column.position)
            continue
        computed.append(column)
        order.extend(range(end, end + column.width))
        end += column.width
    if len(order) == 1:
        return tuple(computed), lambda flat: (flat[order[0]],)
    return tuple(computed), itemgetter(*order)


def _source_of(column: object) -> str:
    if isinstance(column, PlainColumn):
        encoding = "" if column.encoding is None else f" {column.encoding.kind}"
        return f"{column.ref}{encoding}"
    kind = type(column).__name__.removesuffix("Column").lower()
    refs = [str(v) for k in ("ref", "keys", "left", "right") if (v := getattr(column, k, None)) is not None]
    return f"{kind} {' '.join(refs)}"


def cast_row(numbers: Sequence[float]) -> Numbers:
    """float32[n]: the one cast; a number too large for float32 becomes infinite."""
    return np.frombuffer(array("f", numbers), dtype=np.float32)


def _cast(values: npt.NDArray[np.float64]) -> Numbers:
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32)
