"""Which category of a histogram a value falls in, or none. Pure."""

from __future__ import annotations

from bisect import bisect_right

from edge_runtime.catalog.model import Metric


def category_of(metric: Metric, value: object) -> int | None:
    """Index into `metric.categories`, or None when the value is in none of them (then nothing is reported).

    By `values`: the value's text must be one of them. By `edges`: `bisect_right`, so an edge belongs to the
    bucket above it; NaN and what is not a number belong to none.
    """
    if metric.values is not None:
        text = str(value) if isinstance(value, str | int | float) else None
        return metric.values.index(text) if text in metric.values else None
    if metric.edges is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if value != value else bisect_right(metric.edges, value)
