"""Encodings: from a feature's value to the numbers of a column, one value at a time or many at once.

What an encoding does to one number is defined in `session/encoding.py`; `many` gives the same bits: the same
IEEE operations in the same order, and `log1p` from `session.exact` on both. Times count as Unix seconds. A
value that an encoding has no number for (log1p at or under -1, a zscore beyond float64) raises ValueError in
`one` and is NaN in `many`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never, cast

import numpy as np
import numpy.typing as npt

from edge_runtime.catalog.model import Encoding, Feature, FieldFeature, Scalar
from edge_runtime.session import encoding as scalar
from edge_runtime.session import exact

Floats = npt.NDArray[np.float64]


class Encoder(Protocol):
    """One column's encoding. `many` has one row of `width` numbers for each value."""

    @property
    def width(self) -> int: ...

    def one(self, value: object) -> tuple[float, ...]:
        """The numbers of one value. Raises ValueError when the value has none."""
        ...

    def many(self, values: Sequence[object]) -> Floats:
        """float64[k, width]; NaN in a row whose value has no number."""
        ...


def number(value: object) -> float:
    """A bool, int or float as float64. Raises ValueError for anything else (a row of a foreign dtype)."""
    if isinstance(value, int | float):
        return float(value)
    raise ValueError(f"expected a number, got {type(value).__name__}")


def _known(value: float | None) -> tuple[float, ...]:
    if value is None:
        raise ValueError("expected a number that the encoding has a number for")
    return (float(value),)


def _column(values: Sequence[object]) -> Floats:
    try:
        flat = np.array(values, dtype=np.float64)
        if flat.ndim == 1 and not any(isinstance(v, str | bytes) for v in values):
            return flat
    except (TypeError, ValueError):
        pass
    return np.array([number(v) if isinstance(v, int | float) else np.nan for v in values])


@dataclass(frozen=True, slots=True)
class AsIs:
    """The number itself."""

    width: int = 1

    def one(self, value: object) -> tuple[float, ...]:
        return (number(value),)

    def many(self, values: Sequence[object]) -> Floats:
        return _column(values).reshape(-1, 1)


@dataclass(frozen=True, slots=True)
class AsVector:
    """The numbers of a `float32[n]` feature, one for each cell."""

    width: int

    def one(self, value: object) -> tuple[float, ...]:
        numbers = vector_of(value, self.width)
        return tuple(numbers.tolist())

    def many(self, values: Sequence[object]) -> Floats:
        rows = np.full((len(values), self.width), np.nan)
        for n, value in enumerate(values):
            try:
                rows[n] = vector_of(value, self.width)
            except ValueError:
                continue
        return rows


def vector_of(value: object, size: int) -> Floats:
    """A list, tuple or array of `size` numbers as float64[size]. Raises ValueError when it is not one."""
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != size:
        raise ValueError(f"expected {size} numbers, got {type(value).__name__}")
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except TypeError as error:
        raise ValueError(f"expected {size} numbers") from error
    if numbers.shape != (size,) or np.isnan(numbers).any():
        raise ValueError(f"expected {size} numbers")
    return numbers


@dataclass(frozen=True, slots=True)
class OneHot:
    """1.0 at the value's category, 0.0 elsewhere.

    A value that is none of the categories counts as the feature's declared default; without one all are 0.0.
    """

    values: tuple[Scalar, ...]
    default: Scalar | None

    @property
    def width(self) -> int:
        return len(self.values)

    def _index(self, value: object) -> int:
        for candidate in (value, self.default):
            for n, category in enumerate(self.values):
                if category == candidate and isinstance(candidate, bool) == isinstance(category, bool):
                    return n
        return -1

    def one(self, value: object) -> tuple[float, ...]:
        index = self._index(value)
        return tuple(1.0 if n == index else 0.0 for n in range(len(self.values)))

    def many(self, values: Sequence[object]) -> Floats:
        rows = np.zeros((len(values), len(self.values)))
        for n, value in enumerate(values):
            index = self._index(value)
            if index >= 0:
                rows[n, index] = 1.0
        return rows


@dataclass(frozen=True, slots=True)
class Hash:
    """The number of the value's bucket: BLAKE2b-64 of its type and text, modulo `buckets`."""

    buckets: int
    width: int = 1

    def bucket(self, value: object) -> int:
        """The bucket, the same on every machine and in every process."""
        if not isinstance(value, str | int):
            raise ValueError(f"expected a string or an integer, got {type(value).__name__}")
        return scalar.hash_bucket(value, self.buckets)

    def one(self, value: object) -> tuple[float, ...]:
        return (float(self.bucket(value)),)

    def many(self, values: Sequence[object]) -> Floats:
        return np.array(
            [float(self.bucket(v)) if isinstance(v, str | int) else np.nan for v in values], dtype=np.float64
        ).reshape(-1, 1)


@dataclass(frozen=True, slots=True)
class Log1p:
    """log(1 + value). No number at or under -1."""

    scale: float
    width: int = 1

    def one(self, value: object) -> tuple[float, ...]:
        return _known(scalar.log1p(number(value) / self.scale))

    def many(self, values: Sequence[object]) -> Floats:
        column = _column(values) / self.scale
        logs = exact.log1p_array(column)
        return np.where(column > -1.0, logs, np.nan).reshape(-1, 1)


@dataclass(frozen=True, slots=True)
class ZScore:
    """(value - mean) / std."""

    mean: float
    std: float
    scale: float
    width: int = 1

    def one(self, value: object) -> tuple[float, ...]:
        return _known(scalar.zscore(number(value) / self.scale, self.mean, self.std))

    def many(self, values: Sequence[object]) -> Floats:
        with np.errstate(over="ignore"):
            scores = (_column(values) / self.scale - self.mean) / self.std
        return np.where(np.isfinite(scores), scores, np.nan).reshape(-1, 1)


@dataclass(frozen=True, slots=True)
class Clip:
    """The value, not under `low` and not over `high` (None: no bound)."""

    low: float | None
    high: float | None
    scale: float
    width: int = 1

    def one(self, value: object) -> tuple[float, ...]:
        return _known(scalar.clip(number(value) / self.scale, self.low, self.high))

    def many(self, values: Sequence[object]) -> Floats:
        column = _column(values) / self.scale
        clipped = column
        if self.high is not None:
            clipped = np.where(column > self.high, self.high, clipped)
        if self.low is not None:
            clipped = np.where(column < self.low, self.low, clipped)
        return clipped.reshape(-1, 1)


@dataclass(frozen=True, slots=True)
class Bucketize:
    """How many edges are at or under the value (`bisect_right`): 0 to the number of edges."""

    edges: tuple[float, ...]
    scale: float
    width: int = 1

    def one(self, value: object) -> tuple[float, ...]:
        return _known(scalar.bucketize(number(value) / self.scale, self.edges))

    def many(self, values: Sequence[object]) -> Floats:
        column = _column(values) / self.scale
        buckets = np.searchsorted(np.array(self.edges), column, side="right").astype(np.float64)
        return np.where(np.isnan(column), np.nan, buckets).reshape(-1, 1)


def encoder_for(feature: Feature, encoding: Encoding | None) -> Encoder:
    """The encoder of a feature under a checked encoding."""
    size = feature.dtype.size
    if encoding is None:
        return AsIs() if size is None else AsVector(size)
    scale = 1e6 if feature.dtype.kind == "time" else 1.0
    match encoding.kind:
        case "one_hot":
            field = cast(FieldFeature, feature)
            return OneHot(field.values or (), field.default)
        case "hash":
            return Hash(encoding.buckets or 1)
        case "log1p":
            return Log1p(scale)
        case "zscore":
            return ZScore(encoding.mean, encoding.std, scale)
        case "clip":
            return Clip(encoding.low, encoding.high, scale)
        case "bucketize":
            return Bucketize(encoding.edges, scale)
        case _:
            assert_never(encoding.kind)
