"""Exact sums, and the one home of transcendental functions.

A value is turned once into an integer number of units of 2^-60; adding and subtracting integers is exact, so
no order of arrival changes a sum, and one division at the read rounds once. `exp2`, `log1p` and `sqrt` come
from here on every path. The array forms call the scalar function for each element: numpy's own `exp2` and
`log1p` may differ from the C library in the last bit, and equal bits matter more here than speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

UNIT_BITS = 60
UNIT = 1 << UNIT_BITS
"""Units in 1."""
SCALE = float(UNIT)
VALUE_LIMIT = 2.0**500
"""Largest magnitude that a value may have; more is refused where events enter."""

Floats = npt.NDArray[np.float64]

exp2 = math.exp2
log1p = math.log1p
sqrt = math.sqrt


def to_units(value: float) -> int:
    """`value` (finite, at most 2^500 in magnitude) in units of 2^-60, half to even; an int is exact."""
    if isinstance(value, int):
        return value << UNIT_BITS
    # A product with a power of two is exact in binary floating point; only `round` can round.
    return round(value * SCALE)


def from_units(units: int) -> float:
    """The float nearest to `units` * 2^-60 (integer division in Python rounds correctly)."""
    return units / UNIT


def exp2_array(values: Floats) -> Floats:
    """`exp2` of each element, with the bits of the scalar function."""
    return _each(exp2, values)


def log1p_array(values: Floats) -> Floats:
    """`log1p` of each element, with the bits of the scalar function; -inf at -1, NaN below and at NaN."""
    return _each(_log1p_or_nan, values)


def sqrt_array(values: Floats) -> Floats:
    """Square root of each element: IEEE 754 demands the correctly rounded one of both paths."""
    return np.sqrt(values)


def _log1p_or_nan(value: float) -> float:
    if value > -1.0:
        return log1p(value)
    return -math.inf if value == -1.0 else math.nan


def _each(function: Callable[[float], float], values: Floats) -> Floats:
    flat = np.fromiter(map(function, values.ravel().tolist()), dtype=np.float64, count=values.size)
    return flat.reshape(values.shape)
