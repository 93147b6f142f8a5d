"""Derived features: a small closed set of expressions over other features of the same session view.

`ratio` divides the first by the second (NULL when the second is 0); `log1p`, `zscore`, `clip` and `bucketize`
are the encodings of that name. Anything made of NULL is NULL. They may be made of one another, never in a
circle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast

from edge_runtime.catalog.dtype import fits
from edge_runtime.catalog.encodings import read_arguments
from edge_runtime.catalog.model import DerivedFeature, DType, Feature, Scalar
from edge_runtime.catalog.section import Section, shown

DERIVED: Final = ("ratio", "log1p", "zscore", "clip", "bucketize")
_Op = Literal["ratio", "log1p", "zscore", "clip", "bucketize"]


def read_derived(name: str, op: str | None, body: Section) -> DerivedFeature | None:
    """One derived feature; whether what it is made of fits is asked by `check_derived`."""
    of = body.strings("of", required=True, or_one=True)
    wanted = 2 if op == "ratio" else 1
    if of is not None and len(of) != wanted:
        body.fault("of", f"expected {wanted} feature{'s' * (wanted > 1)} of this view, got {len(of)}")
        of = None
    kind = cast(_Op, op)
    encoding = None if kind == "ratio" else read_arguments(body, kind)
    dtype = DType("int64" if kind == "bucketize" else "float64")
    default = _default(body, dtype)
    body.close()
    return None if of is None else DerivedFeature(name, kind, of, encoding, dtype, default)


def _default(body: Section, dtype: DType) -> Scalar | None:
    value = body.raw("default")
    if value is None:
        return None
    if not fits(dtype, value):
        body.fault("default", f"expected one {dtype} value, got {shown(value)}")
        return None
    return cast(Scalar, value)


def check_derived(table: Section, features: Mapping[str, Feature]) -> None:
    """Note a fault for every derived feature made of nothing there, of no number, or of itself."""
    derived = {name: f for name, f in features.items() if isinstance(f, DerivedFeature)}
    for name, feature in derived.items():
        for source in feature.of:
            made_of = features.get(source)
            if made_of is None:
                names = " ".join(features)
                table.fault(f"{name}.of", f"expected features of this view ({names}), got {shown(source)}")
            elif not made_of.dtype.numeric:
                table.fault(f"{name}.of", f"expected numbers, {source} is {made_of.dtype}")
        circle = _circle(name, derived)
        if circle is not None:
            table.fault(f"{name}.of", f"expected no circle, got {' -> '.join(circle)}")


def _circle(name: str, derived: Mapping[str, DerivedFeature]) -> list[str] | None:
    """The way from a derived feature back to itself, or None."""
    ways, seen = [[name]], {name}
    while ways:
        way = ways.pop()
        feature = derived.get(way[-1])
        for source in () if feature is None else feature.of:
            if source == name:
                return [*way, name]
            if source not in seen:
                seen.add(source)
                ways.append([*way, source])
    return None
