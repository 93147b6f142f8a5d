"""The scalar encodings, defined once: derived features, columns of services and contracts all use these.

Each takes a number or None and gives None where there is none: None in, None out; and no result is ever
infinite or NaN. Integers count as the nearest float64, so that the array forms in `serving/encodings.py` have
the same bits. The arguments of an encoding are finite.
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import blake2b
from math import isfinite

from edge_runtime.session import exact

Number = float | None


def ratio(numerator: Number, denominator: Number) -> Number:
    """Numerator over denominator; None where the denominator is 0 or the quotient is beyond float64."""
    if numerator is None or not denominator:
        return None
    return _finite(float(numerator) / float(denominator))


def log1p(value: Number) -> Number:
    """ln(1 + value); None at and under -1, where it has no number."""
    return None if value is None or value <= -1.0 else exact.log1p(value)


def zscore(value: Number, mean: float, std: float) -> Number:
    """(value - mean) / std; None where that is beyond float64."""
    return None if value is None else _finite((float(value) - mean) / std)


def clip(value: Number, low: Number, high: Number) -> Number:
    """The nearest number from `low` to `high`; None: no bound on that side."""
    if value is None:
        return None
    number = float(value)
    if low is not None and number < low:
        return low
    if high is not None and number > high:
        return high
    return number


def bucketize(value: Number, edges: tuple[float, ...]) -> int | None:
    """How many edges lie at or under the value: 0 to the number of edges."""
    return None if value is None else bisect_right(edges, float(value))


def hash_bucket(value: str | int, buckets: int) -> int:
    """BLAKE2b-64 of the value's type and text, modulo `buckets`: the same in every process."""
    tag = "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "s"
    digest = blake2b(f"{tag}:{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets


def _finite(number: float) -> Number:
    return number if isfinite(number) else None
