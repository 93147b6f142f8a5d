"""What a read answers: a `Vector`, or a `Matrix` of one row for each candidate. Both can say where every
number came from, as it was at the read; that costs only when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge_runtime.serving.cells import Cell
from edge_runtime.serving.columns import Scope
from edge_runtime.serving.explain import Described, explained
from edge_runtime.serving.reads import Reading
from edge_runtime.wire.printing import prints_only

Numbers = npt.NDArray[np.float32]
Statuses = npt.NDArray[np.uint8]


@prints_only()
class Recalled(NamedTuple):
    """One row's inputs as they were at the read."""

    scope: Scope
    readings: Sequence[Reading]


class Heard(Protocol):
    """Keeps what a read was told."""

    def recall(self, t_us: int, moved: Sequence[Any], given: Mapping[str, tuple[object, ...]]) -> Recalled:
        """The inputs at `t_us`, with what that one read worked out itself (`moved`, `given`) in its place."""
        ...


class Vector:
    """One row for a model: `values[i]` is the number of `names[i]`, `status[i]` says what it is.

    Attributes:
        values: float32[n].
        status: uint8[n] of `Status`, read only: vectors share that array.
        reason: empty for PRESENT, else the cause (`NOT_FOUND: ...`), also behind a default.
        as_of: the time read at, microseconds since 1970 UTC.
    """

    # Not a frozen dataclass: setting frozen fields costs a microsecond of a 5 microsecond read.
    __slots__ = ("_described", "_given", "_heard", "_moved", "as_of", "reason", "status", "values")

    def __init__(
        self,
        described: Described,
        values: Numbers,
        status: Statuses,
        reason: tuple[str, ...],
        as_of: int,
        heard: Heard,
        moved: Sequence[Any],
        given: Mapping[str, tuple[object, ...]],
    ) -> None:
        self._described, self.values, self.status, self.reason = described, values, status, reason
        self.as_of, self._heard, self._moved, self._given = as_of, heard, moved, given

    @property
    def names(self) -> tuple[str, ...]:
        """One for each number."""
        return self._described.names

    def recall(self) -> Recalled:
        """What the row was made of, as it was at the read."""
        return self._heard.recall(self.as_of, self._moved, self._given)

    def explain(self) -> list[dict[str, Any]]:
        """One record for each number, in order, as it was at the read.

        Keys: `name value status reason`; `feature` (`view@version:feature`; of a join all of them),
        `version` of that view, `event_time` (microseconds; of several inputs the oldest), `raw` (the value
        before encoding and cast; None where there is none) and `source` (the feature and its encoding).
        """
        scope, readings = self.recall()
        row = self.values.tolist(), self.status.tolist(), self.reason
        return explained(self._described, scope, readings, *row)


class Matrix:
    """One row for each candidate, in the order given.

    Attributes:
        values: float32[k, n].
        names: one for each column.
        status: uint8[k, n] of `Status`.
        candidates: the k ids.
        as_of: the time read at, microseconds since 1970 UTC.
    """

    __slots__ = ("_described", "_reason", "_row", "as_of", "candidates", "names", "status", "values")

    def __init__(
        self,
        described: Described,
        values: Numbers,
        status: Statuses,
        candidates: tuple[str, ...],
        as_of: int,
        row: Callable[[int], Recalled],
    ) -> None:
        self._described, self.names = described, described.names
        self.values, self.status, self.candidates, self.as_of = values, status, candidates, as_of
        self._row = row
        self._reason: tuple[tuple[str, ...], ...] | None = None

    @property
    def reason(self) -> tuple[tuple[str, ...], ...]:
        """One for each number of each row: empty for PRESENT, else the cause; worked out when first asked."""
        if self._reason is None:
            self._reason = tuple(self._reasons(n) for n in range(len(self.candidates)))
        return self._reason

    def explain(self, row: int) -> list[dict[str, Any]]:
        """The records of one row, as of `Vector.explain`.

        Raises:
            IndexError: there is no such row.
        """
        values, statuses, reasons = self.values[row].tolist(), self.status[row].tolist(), self.reason[row]
        scope, readings = self._row(range(len(self.candidates))[row])
        return explained(self._described, scope, readings, values, statuses, reasons)

    def _reasons(self, row: int) -> tuple[str, ...]:
        if not self.status[row].any():
            return ("",) * len(self.names)
        scope, readings = self._row(row)
        return reasons_of([column.cell(scope, readings) for column in self._described.columns])


def reasons_of(cells: Sequence[Cell]) -> tuple[str, ...]:
    """One reason for each number."""
    return tuple(cell.reason for cell in cells for _ in cell.numbers)


def numbers_of(cells: Sequence[Cell]) -> list[float]:
    """All numbers in order."""
    return [number for cell in cells for number in cell.numbers]


def statuses_of(cells: Sequence[Cell]) -> Statuses:
    """One status for each number; read only."""
    found = np.array([cell.status for cell in cells for _ in cell.numbers], dtype=np.uint8)
    found.flags.writeable = False
    return found
