"""Many candidates in one step: what they share is written once, and each column's part is vectorised.

Row i has the bits of the vector for candidate i; `BoundColumn.cell` is the meaning of both.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from edge_runtime.serving.answer import Matrix, Numbers, Recalled, Statuses, Vector
from edge_runtime.serving.columns import Batch, BoundColumn, Plain, Scope
from edge_runtime.serving.encodings import AsIs
from edge_runtime.serving.evidence import Evidence
from edge_runtime.serving.explain import Described
from edge_runtime.serving.reads import Source


class _AsIs(NamedTuple):
    """Columns that take features of one view as they are: where they stand, and the pick of their values."""

    group: int
    pick: Callable[[Any], Any]
    columns: tuple[tuple[int, BoundColumn], ...]
    numbers: list[int] | slice


class Candidates:
    """How one service reads candidates of one entity type."""

    def __init__(self, described: Described, kind: str) -> None:
        self._described, self._kind = described, kind
        self._varying = [n for n, group in enumerate(described.groups) if kind in group.types]
        self._others: list[tuple[int, BoundColumn]] = []
        plain: dict[int, list[tuple[int, Plain]]] = {}
        start = 0
        for column in described.columns:
            if kind in column.entities:
                if isinstance(column, Plain) and isinstance(column.encoder, AsIs):
                    plain.setdefault(column.group, []).append((start, column))
                else:
                    self._others.append((start, column))
            start += column.width
        self._as_is = [_together(group, found) for group, found in plain.items()]

    def matrix(self, source: Source, row: Vector, ids: tuple[str, ...]) -> Matrix:
        """One row for each of `ids`; `row` is the vector of what they share."""
        scope, single = row.recall()
        heard = scope.source.also(source) if isinstance(scope.source, Evidence) else Evidence(source)
        scope = Scope(heard, scope.ids, scope.t_us)
        groups = self._described.groups
        many = {n: groups[n].read_many(heard, scope.ids, self._kind, ids, scope.t_us) for n in self._varying}
        batch = Batch(scope, self._kind, ids, single, many)
        values = np.empty((len(ids), len(self._described.names)), dtype=np.float32)
        status = np.empty(values.shape, dtype=np.uint8)
        values[:], status[:] = row.values, row.status
        for together in self._as_is:
            if not _quick(together, batch, values, status):
                for start, column in together.columns:
                    _fill(start, column, batch, values, status)
        for start, column in self._others:
            _fill(start, column, batch, values, status)
        return Matrix(self._described, values, status, ids, scope.t_us, partial(_row, batch))


def _together(group: int, found: list[tuple[int, Plain]]) -> _AsIs:
    starts = [start for start, _ in found]
    positions = [column.position for _, column in found]
    in_a_row = starts == list(range(starts[0], starts[0] + len(starts)))
    numbers = slice(starts[0], starts[0] + len(starts)) if in_a_row else starts
    return _AsIs(group, itemgetter(*positions), tuple(found), numbers)


def _quick(together: _AsIs, batch: Batch, values: Numbers, status: Statuses) -> bool:
    """Every candidate's numbers in one pass, when every one is PRESENT; else nothing is written."""
    picked: Any = map(together.pick, batch.many[together.group])
    try:
        # An iterable of None, text or a Missing ends here.
        flat = array("f", picked if len(together.columns) == 1 else chain.from_iterable(picked))
    except (TypeError, ValueError, OverflowError):
        return False
    numbers = np.frombuffer(flat, dtype=np.float32) if flat else np.empty(0, dtype=np.float32)
    values[:, together.numbers] = numbers.reshape(len(batch.candidates), len(together.columns))
    status[:, together.numbers] = 0
    return True


def _fill(start: int, column: BoundColumn, batch: Batch, values: Numbers, status: Statuses) -> None:
    block = slice(start, start + column.width)
    numbers, statuses = column.block(batch)
    with np.errstate(over="ignore", invalid="ignore"):
        values[:, block] = numbers
    status[:, block] = statuses[:, None]


def _row(batch: Batch, n: int) -> Recalled:
    return Recalled(*batch.row(n))
