"""Between which bounds a feature's values lie, as far as its declaration says; also through an encoding.

A bound that nothing says is None. Bounds are of the value itself: a declared default may lie outside, on
purpose, and the last cast to float32 rounds.
"""

from __future__ import annotations

from typing import Final, assert_never

from edge_runtime.catalog.model import (
    DerivedFeature,
    Encoding,
    Feature,
    FieldFeature,
    SessionFeature,
    View,
)
from edge_runtime.session import encoding as scalar

Bounds = tuple[float | None, float | None]
UNBOUNDED: Final[Bounds] = (None, None)
_NEVER_NEGATIVE: Final = frozenset(
    {
        *("count", "distinct", "session_count", "session_distinct", "session_duration"),
        *("std", "decayed_count", "since_last", "since_first", "count_by"),
    }
)
_OF_VALUE: Final = frozenset({"first", "last"})


def feature_range(view: View, feature: Feature) -> Bounds:
    """Low and high of a feature's values; of each cell's for a vector, of each count's for a map."""
    match feature:
        case FieldFeature():
            return _field(feature)
        case SessionFeature():
            return _session(feature)
        case DerivedFeature():
            return _derived(view, feature)
        case _:
            assert_never(feature)


def encoded_range(bounds: Bounds, encoding: Encoding) -> Bounds:
    """Low and high after an encoding; all but one_hot and hash keep the order of values."""
    low, high = bounds
    match encoding.kind:
        case "one_hot":
            return 0.0, 1.0
        case "hash":
            return 0.0, float((encoding.buckets or 1) - 1)
        case "log1p":
            return scalar.log1p(low), scalar.log1p(high)
        case "zscore":
            return (
                scalar.zscore(low, encoding.mean, encoding.std),
                scalar.zscore(high, encoding.mean, encoding.std),
            )
        case "clip":
            return (
                encoding.low if low is None else scalar.clip(low, encoding.low, encoding.high),
                encoding.high if high is None else scalar.clip(high, encoding.low, encoding.high),
            )
        case "bucketize":
            first = scalar.bucketize(low, encoding.edges)
            last = scalar.bucketize(high, encoding.edges)
            return float(first or 0), float(len(encoding.edges) if last is None else last)


def _field(f: FieldFeature) -> Bounds:
    if f.range is not None:
        return f.range
    if f.dtype.kind == "bool":
        return 0.0, 1.0
    if f.values is not None and f.dtype.numeric:
        numbers = [float(v) for v in f.values]
        return min(numbers), max(numbers)
    return UNBOUNDED


def _session(f: SessionFeature) -> Bounds:
    if f.op in _OF_VALUE and f.dtype.kind == "bool":
        return 0.0, 1.0
    return (0.0, None) if f.op in _NEVER_NEGATIVE else UNBOUNDED


def _derived(view: View, f: DerivedFeature) -> Bounds:
    operands = [feature_range(view, view.features[name]) for name in f.of]
    if f.encoding is not None:
        return encoded_range(operands[0], f.encoding)
    positive = all(low is not None and low >= 0 for low, _ in operands)
    return (0.0, None) if positive else UNBOUNDED
