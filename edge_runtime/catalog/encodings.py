"""Encodings as catalogs write them: how a value becomes numbers, and with which arguments."""

from __future__ import annotations

from typing import Final, Literal

from edge_runtime.catalog.model import DType, Encoding, Scalar
from edge_runtime.catalog.section import Section

Kind = Literal["one_hot", "hash", "log1p", "zscore", "clip", "bucketize"]
ENCODINGS: Final = ("one_hot", "hash", "log1p", "zscore", "clip", "bucketize")
NEEDS_ARGUMENTS: Final = {
    "hash": "buckets",
    "zscore": "mean, std",
    "clip": "low, high",
    "bucketize": "edges",
}
"""Encodings that mean nothing without arguments, and which."""


def read_arguments(table: Section, kind: Kind) -> Encoding:
    """The encoding with the arguments in `table`; faults are noted there."""
    match kind:
        case "hash":
            return Encoding(
                kind, buckets=table.integer("buckets", 1, table.findings.limits.keys, required=True)
            )
        case "zscore":
            mean, std = table.number("mean", required=True), table.number("std", required=True)
            if std is not None and std <= 0:
                table.fault("std", f"expected a number above 0, got {std:g}")
            return Encoding(kind, mean=mean or 0.0, std=std or 1.0)
        case "clip":
            low, high = table.number("low"), table.number("high")
            if low is None and high is None:
                table.fault("low", "missing: expected low, high or both")
            if low is not None and high is not None and low > high:
                table.fault("low", f"expected at most high ({high:g}), got {low:g}")
            return Encoding(kind, low=low, high=high)
        case "bucketize":
            edges = table.numbers("edges", required=True, rising=True)
            if edges == ():
                table.fault("edges", "expected at least one edge, got an empty list")
            return Encoding(kind, edges=edges or ())
        case _:
            return Encoding(kind)


def default_numbers(
    default: Scalar | None, dtype: DType, values: tuple[Scalar, ...] | None, encoding: Encoding | None
) -> tuple[float, ...] | None:
    """What a feature's declared default is in a column: its numbers, or None where it has none.

    Args:
        dtype: of the feature; times count as seconds.
        values: the feature's categories, for `one_hot`.
    """
    if default is None:
        return None
    if encoding is not None and encoding.kind == "one_hot":
        return tuple(float(_same(default, value)) for value in values or ())
    number = _number(default, dtype, encoding)
    return None if number is None else (float(number),)


def _same(one: Scalar, other: Scalar) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _number(value: Scalar, dtype: DType, encoding: Encoding | None) -> float | None:
    from edge_runtime.session import (
        encoding as scalar,
    )  # brings numpy, which reading a catalog else needs not

    if encoding is not None and encoding.kind == "hash":
        return None if isinstance(value, float) else scalar.hash_bucket(value, encoding.buckets or 1)
    if isinstance(value, str):
        return None
    number = float(value) / 1e6 if dtype.kind == "time" else float(value)
    match None if encoding is None else encoding.kind:
        case "log1p":
            return scalar.log1p(number)
        case "zscore" if encoding is not None:
            return scalar.zscore(number, encoding.mean, encoding.std)
        case "clip" if encoding is not None:
            return scalar.clip(number, encoding.low, encoding.high)
        case "bucketize" if encoding is not None:
            return scalar.bucketize(number, encoding.edges)
        case _:
            return number
