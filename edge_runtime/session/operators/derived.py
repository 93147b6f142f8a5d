"""Derived features: `ratio`, `log1p`, `zscore`, `clip`, `bucketize` of other features of a view, at the read.

Each function takes what the operands are read as and gives None where one of them is None. They are the
encodings of the same names (`serving/encodings.py`), operation by operation, so a derived feature and an
encoded column have the same bits.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from edge_runtime.catalog.model import DerivedFeature, Encoding
from edge_runtime.session import exact

Number = float | None


def ratio(numerator: Number, denominator: Number) -> Number:
    """Numerator over denominator; None where the denominator is 0 or the quotient no float64."""
    if numerator is None or denominator is None or not denominator:
        return None
    try:
        return numerator / denominator
    except OverflowError:
        return None


def log1p_of(value: Number) -> Number:
    """ln(1 + value); None at and under -1, where it has no number."""
    return None if value is None or value <= -1 else exact.log1p(value)


def zscore_of(value: Number, mean: float, std: float) -> Number:
    """(value - mean) / std."""
    return None if value is None else (float(value) - mean) / std


def clip_of(value: Number, low: float, high: float) -> Number:
    """The nearest number from `low` to `high`."""
    return None if value is None else min(max(float(value), low), high)


def bucket_of(value: Number, edges: tuple[float, ...]) -> int | None:
    """How many edges lie at or under the value."""
    return None if value is None else bisect_right(edges, value)


def expression(feature: DerivedFeature, operands: tuple[str, ...]) -> str:
    """The expression of a derived feature over its operands' expressions."""
    match feature.op:
        case "ratio":
            return f"ratio({operands[0]}, {operands[1]})"
        case "log1p":
            return f"log1p_of({operands[0]})"
    encoding = feature.encoding or Encoding(feature.op)
    match feature.op:
        case "zscore":
            return f"zscore_of({operands[0]}, {encoding.mean!r}, {encoding.std!r})"
        case "clip":
            low = "-inf" if encoding.low is None else repr(encoding.low)
            high = "inf" if encoding.high is None else repr(encoding.high)
            return f"clip_of({operands[0]}, {low}, {high})"
        case _:
            return f"bucket_of({operands[0]}, {encoding.edges!r})"


FUNCTIONS = {
    "ratio": ratio,
    "log1p_of": log1p_of,
    "zscore_of": zscore_of,
    "clip_of": clip_of,
    "bucket_of": bucket_of,
    "inf": math.inf,
}
