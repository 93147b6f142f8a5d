"""What a replay gives: columns in the order of the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import MalformedRequest
from edge_runtime.session.operators.counts import CountMap


class Table:
    """Named columns of equal length, each with a status for every cell (see `Status`).

    `matrix` is float32[points, width] where a service was replayed, with `names` naming its columns; None
    where single features were.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[object]],
        statuses: Mapping[str, Sequence[int]],
        matrix: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self._columns = {name: list(values) for name, values in columns.items()}
        self._statuses = {name: [int(s) for s in found] for name, found in statuses.items()}
        self.matrix = matrix

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(self._columns)

    def __len__(self) -> int:
        return max((len(values) for values in self._columns.values()), default=0)

    def column(self, ref: str) -> list[object]:
        """The values of column `ref`, in the order of the points; None where there is none.

        Raises:
            MalformedRequest: no such column.
        """
        return list(self._columns[self._known(ref)])

    def status(self, ref: str) -> list[int]:
        """The statuses of column `ref`, in the order of the points.

        Raises:
            MalformedRequest: no such column.
        """
        return list(self._statuses[self._known(ref)])

    def to_numpy(self) -> npt.NDArray[np.float32] | dict[str, npt.NDArray[Any]]:
        """The service's float32 matrix; or, for features, one array a column.

        A column of numbers becomes float64 with NaN for None; any other an array of objects.
        """
        if self.matrix is not None:
            return self.matrix
        return {name: _array(values) for name, values in self._columns.items()}

    def to_pandas(self) -> Any:
        """A DataFrame of the columns; maps are dicts and lists are lists.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise ImportError("Table.to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame({name: _plain(values) for name, values in self._columns.items()})

    def to_arrow(self) -> Any:
        """An Arrow table of the columns; `count_by` is map<string, int64>.

        Raises:
            ImportError: pyarrow is not installed.
        """
        try:
            pyarrow = import_module("pyarrow")
        except ImportError:
            raise ImportError("Table.to_arrow needs pyarrow: pip install pyarrow") from None
        return pyarrow.table({name: _arrow(pyarrow, values) for name, values in self._columns.items()})

    def _known(self, ref: str) -> str:
        if ref not in self._columns:
            raise MalformedRequest("ref", f"one of {', '.join(self._columns)}", "a column not there")
        return ref


def _array(values: Sequence[object]) -> npt.NDArray[Any]:
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    array = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):  # a whole list of lists would be taken for rows of numbers
        array[position] = value
    return array


def _arrow(pyarrow: Any, values: Sequence[object]) -> Any:
    if any(isinstance(value, CountMap) for value in values):
        pairs = [list(value.items()) if isinstance(value, CountMap) else None for value in values]
        return pyarrow.array(pairs, pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    return pyarrow.array(_plain(values))


def _plain(values: Sequence[object]) -> list[object]:
    return [_plain_value(value) for value in values]


def _plain_value(value: object) -> object:
    if isinstance(value, CountMap):
        return dict(value)
    return value.tolist() if isinstance(value, np.ndarray) else value
