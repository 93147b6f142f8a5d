"""A service compiled once into a read plan: which views to read, and where each number comes from.

A vector whose plain columns are all usable is a concatenation of the views' values and one pick by position.
Anything else takes the long way, cell by cell, which is the meaning of both.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, cast

import numpy as np

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.model import Service
from edge_runtime.errors import MalformedRequest
from edge_runtime.serving.answer import Matrix as Matrix
from edge_runtime.serving.answer import Numbers as Numbers
from edge_runtime.serving.answer import Recalled, numbers_of, reasons_of, statuses_of
from edge_runtime.serving.answer import Statuses as Statuses
from edge_runtime.serving.answer import Vector as Vector
from edge_runtime.serving.binding import Binding
from edge_runtime.serving.candidates import Candidates
from edge_runtime.serving.columns import BoundColumn, Plain, Scope
from edge_runtime.serving.encodings import AsIs
from edge_runtime.serving.evidence import Evidence
from edge_runtime.serving.explain import Described
from edge_runtime.serving.held import Given, Held, Keeper
from edge_runtime.serving.holding import Holding
from edge_runtime.serving.reads import Reading, Source
from edge_runtime.serving.request import RequestForm, check_id


class Told:
    """What one read was told, for its explanation."""

    __slots__ = ("_evidence", "_ids", "_readings")

    def __init__(self, evidence: Evidence, ids: Mapping[str, str], readings: list[Reading]) -> None:
        self._evidence, self._ids, self._readings = evidence, ids, readings

    def recall(self, t_us: int, moved: Sequence[Any], given: Given) -> Recalled:
        """The inputs of that read."""
        return Recalled(Scope(self._evidence, self._ids, t_us), self._readings)


class ServicePlan:
    """How to read one service. Holds no values; safe to share between threads."""

    def __init__(self, catalog: Catalog, service: Service) -> None:
        binding = Binding(catalog.views, catalog.purposes, service)
        self.service = service
        self.names = service.names
        self._described = Described(
            service.names, tuple(binding.groups), service.columns, tuple(binding.columns)
        )
        self.view_keys = frozenset(g.view.key for g in binding.groups)
        """Keys of the views that a row reads."""
        self._readers = tuple(
            (g.read, g.view.key if g.view.source == "request" else None) for g in binding.groups
        )
        self._columns = self._described.columns
        self._entity_types = frozenset(catalog.entities)
        self._form = RequestForm(catalog.views)
        self.nothing_given = self._form.read(None)
        """What `given` makes of no request."""
        self._computed, self._pick = _short_way(binding)
        self._all_present = np.zeros(len(self.names), dtype=np.uint8)
        self._all_present.flags.writeable = False
        self._no_reasons = ("",) * len(self.names)
        self._holding = Holding(self._described, {key: v.ttl_us for key, v in catalog.views.items()})
        self._candidates: dict[str, Candidates] = {}

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
        return self._vector(Evidence(source), entities, t_us, self._form.read(request))[0]

    def given(self, request: Mapping[str, object] | None) -> Given:
        """The values given at a read, by request view and in feature order.

        Raises:
            MalformedRequest: a bad request value.
        """
        return self._form.read(request)

    def hold(
        self, source: Keeper, entities: Mapping[str, str], now_us: int, given: Given, again: bool
    ) -> tuple[Vector, Held | None]:
        """The row at the clock's now, and where it is read `again` what to keep of it for the next read."""
        self._check_entities(entities)
        evidence = Evidence(source)
        vector, readings = self._vector(evidence, entities, now_us, given)
        if not again:
            return vector, None
        return vector, self._holding.hold(source, evidence, entities, readings, vector)

    def _check_entities(self, entities: Mapping[str, str]) -> None:
        known = self._entity_types
        for kind, bare in entities.items():
            if kind not in known:
                raise MalformedRequest("entity", " ".join(sorted(known)), "an unknown entity type")
            check_id(kind, bare)

    def _vector(
        self, evidence: Evidence, entities: Mapping[str, str], t_us: int, given: Given
    ) -> tuple[Vector, list[Reading]]:
        readings = [
            read(evidence, entities, t_us) if key is None else given[key] for read, key in self._readers
        ]
        values = self._quick(evidence, entities, t_us, readings)
        status, reason = self._all_present, self._no_reasons
        if values is None:
            scope = Scope(evidence, entities, t_us)
            cells = [column.cell(scope, readings) for column in self._columns]
            values, status, reason = cast_row(numbers_of(cells)), statuses_of(cells), reasons_of(cells)
        told = Told(evidence, entities, readings)
        return Vector(self._described, values, status, reason, t_us, told, (), given), readings

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
        return self.beside(
            source, self.vector(source, entities, now_us, at_us, request), entities, candidates
        )

    def beside(
        self,
        source: Source,
        row: Vector,
        entities: Mapping[str, str],
        candidates: tuple[str, Sequence[str]],
    ) -> Matrix:
        """The matrix of candidates whose common part is `row`, the vector of `entities` alone.

        Raises:
            MalformedRequest: candidates that are no texts, or of a type that `entities` has already.
        """
        kind, ids = candidates
        self._check_candidates(entities, kind, ids)
        if kind not in self._candidates:
            self._candidates[kind] = Candidates(self._described, kind)
        return self._candidates[kind].matrix(source, row, tuple(ids))

    def _check_candidates(self, entities: Mapping[str, str], kind: str, ids: Sequence[str]) -> None:
        if kind not in self._entity_types:
            raise MalformedRequest("entity", " ".join(sorted(self._entity_types)), "an unknown entity type")
        if kind in entities:
            raise MalformedRequest(kind, "one id or a list of candidates", "both")
        for bare in ids:
            if not isinstance(bare, str) or not bare or not bare.isascii():  # seldom, and 50 at a time
                check_id(kind, bare)


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
    return tuple(computed), picker(order)


def picker(order: Sequence[int]) -> Callable[[Any], tuple[Any, ...]]:
    """A function from a sequence to the tuple of its items at these places."""
    if len(order) == 1:
        only = order[0]
        return lambda flat: (flat[only],)
    return itemgetter(*order)


def cast_row(numbers: Sequence[float]) -> Numbers:
    """float32[n]: the one cast; a number too large for float32 becomes infinite."""
    return np.frombuffer(array("f", numbers), dtype=np.float32)
