"""Derived features: `ratio`, `log1p`, `zscore`, `clip`, `bucketize` of other features of a view, at the read.

They hold no state: the expression of one holds those of its operands. What each does to a number is defined
in `session/encoding.py`, for services' columns too, so a derived feature and an encoded column have the same
bits.
"""

from __future__ import annotations

from edge_runtime.catalog.model import DerivedFeature, Encoding
from edge_runtime.session import encoding


def expression(feature: DerivedFeature, operands: tuple[str, ...]) -> str:
    """The expression of a derived feature over its operands' expressions."""
    given = feature.encoding or Encoding("log1p")
    match feature.op:
        case "ratio":
            arguments: tuple[object, ...] = ()
        case "log1p":
            arguments = ()
        case "zscore":
            arguments = (given.mean, given.std)
        case "clip":
            arguments = (given.low, given.high)
        case "bucketize":
            arguments = (given.edges,)
    return f"{feature.op}({', '.join((*operands, *map(repr, arguments)))})"


FUNCTIONS = {
    "ratio": encoding.ratio,
    "log1p": encoding.log1p,
    "zscore": encoding.zscore,
    "clip": encoding.clip,
    "bucketize": encoding.bucketize,
}
