"""`default`: what stands in where a feature has no usable value; only for features that are one scalar."""

from __future__ import annotations

from typing import cast

from edge_runtime.catalog.dtype import fits
from edge_runtime.catalog.model import DType, Scalar
from edge_runtime.catalog.section import Section, shown


def read_default(body: Section, dtype: DType) -> Scalar | None:
    """The declared default; None when there is none, or (a fault noted) none of this dtype."""
    if not body.has("default"):
        return None
    value = body.raw("default")
    if dtype.kind in ("list", "map") or dtype.size is not None:
        body.fault("default", f"expected none: {dtype} is not one value")
        return None
    if not fits(dtype, value):
        body.fault("default", f"expected one {dtype} value, got {shown(value)}")
        return None
    return cast(Scalar, value)
