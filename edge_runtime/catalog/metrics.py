"""`[metrics.*]`: what may be asked of the population, and at what price in privacy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast

from edge_runtime.catalog.duration import UNIT_US
from edge_runtime.catalog.model import (
    EntityType,
    Feature,
    FieldFeature,
    Metric,
    Purpose,
    Ref,
    View,
)
from edge_runtime.catalog.references import resolve
from edge_runtime.catalog.section import Section, check_name, shown

_Kind = Literal["count", "sum", "mean", "histogram", "quantile"]
KINDS: Final = ("count", "sum", "mean", "histogram", "quantile")
DEFAULT_WINDOW_US: Final = UNIT_US["d"]


def read_metrics(
    section: Section,
    purposes: Mapping[str, Purpose],
    entities: Mapping[str, EntityType],
    views: Mapping[str, View],
) -> dict[str, Metric]:
    """Every metric by name; `window` (the budget's) defaults to 1d."""
    metrics: dict[str, Metric] = {}
    for name, body in section.tables():
        metric = _metric(name, body, purposes, entities, views)
        if check_name(section, name, name, "a metric name") and metric is not None:
            metrics[name] = metric
        body.close()
    return metrics


def _metric(
    name: str,
    body: Section,
    purposes: Mapping[str, Purpose],
    entities: Mapping[str, EntityType],
    views: Mapping[str, View],
) -> Metric | None:
    kind = body.text("kind", required=True, choices=KINDS)
    purpose = _purpose(body, purposes)
    epsilon = _epsilon(body)
    minimum = body.integer("min_subjects", 2, 2**31, required=True)
    window_us = body.positive_duration("window")
    ref = _source(body, entities, views)
    for key in ("values", "edges", "buckets", "bounds"):
        body.has(key)
    if kind is None or ref is None:
        return None
    feature = views[ref.view].features[ref.feature]
    values, edges = _categories(body, kind, feature)
    low, high = _bounds(body, kind, feature)
    return Metric(
        name=name,
        purpose=purpose or "",
        kind=cast(_Kind, kind),
        of=ref,
        epsilon=epsilon or 0.0,
        min_subjects=minimum or 0,
        window_us=DEFAULT_WINDOW_US if window_us is None else window_us,
        values=values,
        edges=edges,
        low=low,
        high=high,
    )


def _purpose(body: Section, purposes: Mapping[str, Purpose]) -> str | None:
    if not body.has("purpose"):
        body.fault("purpose", "missing: a metric needs a purpose of its own, beside its source's")
        return None
    name = body.text("purpose")
    if name is not None and name not in purposes:
        body.fault("purpose", f"expected a declared purpose ({' '.join(purposes)}), got {shown(name)}")
    return name


def _epsilon(body: Section) -> float | None:
    epsilon = body.number("epsilon", required=True)
    ceiling = body.findings.limits.epsilon
    if epsilon is not None and not 0 < epsilon <= ceiling:
        body.fault("epsilon", f"expected more than 0 and at most {ceiling:g}, got {epsilon:g}")
    return epsilon


def _source(body: Section, entities: Mapping[str, EntityType], views: Mapping[str, View]) -> Ref | None:
    """The feature counted: of a view whose key is one personal entity, so that a subject has one value."""
    text = body.text("of", required=True)
    ref = None if text is None else resolve(body, "of", text, views)
    if ref is None:
        return None
    view = views[ref.view]
    if len(view.entity) != 1 or not entities[view.entity[0]].personal:
        body.fault(
            "of", f"expected a feature of one personal entity, so that each subject has one: {ref} is not"
        )
        return None
    return ref


def _categories(
    body: Section, kind: str, feature: Feature
) -> tuple[tuple[str, ...] | None, tuple[float, ...] | None]:
    """Of a histogram: names of its categories (own or the feature's), or the edges of its buckets."""
    if body.has("edges") and body.has("buckets"):
        body.fault("buckets", "expected edges or buckets, got both: they are one thing")
    edges_key = "buckets" if body.has("buckets") else "edges"
    if kind != "histogram":
        for key in ("values", edges_key):
            body.forbid(key, f"only a histogram takes {key}")
        return None, None
    if body.has(edges_key):
        return None, _edges(body, edges_key, feature)
    values = body.strings("values")
    if values is None and not body.has("values") and isinstance(feature, FieldFeature) and feature.values:
        values = tuple(str(v) for v in feature.values)
    if values is None and not body.has("values"):
        body.fault("values", f"missing: a histogram needs values or edges, {feature.name} declares no values")
    elif values is not None and len(values) < 2:
        body.fault("values", f"expected at least two categories, got {len(values)}")
    if body.has("values") and feature.dtype.kind != "string":
        body.fault("values", f"expected edges: {feature.name} is {feature.dtype}, not string")
    return values, None


def _edges(body: Section, key: str, feature: Feature) -> tuple[float, ...] | None:
    if body.has("values"):
        body.fault("values", f"expected values or {key}, got both")
    if not feature.dtype.numeric:
        body.fault(key, f"expected values: {feature.name} is {feature.dtype}, not a number")
    edges = body.numbers(key, required=True, rising=True)
    if edges == ():
        body.fault(key, "expected at least one edge, got an empty list")
    return edges


def _bounds(body: Section, kind: str, feature: Feature) -> tuple[float | None, float | None]:
    """Of sum, mean and quantile: what a value is clipped to (own `bounds`, or the feature's range)."""
    if kind in ("count", "histogram"):
        body.forbid("bounds", f"a {kind} takes no bounds")
        return None, None
    if not feature.dtype.numeric:
        body.fault("of", f"expected a number for {kind}, {feature.name} is {feature.dtype}")
        return None, None
    bounds = body.numbers("bounds")
    if bounds is None and not body.has("bounds") and isinstance(feature, FieldFeature):
        bounds = feature.range
    if bounds is None:
        if not body.has("bounds"):
            body.fault(
                "bounds", f"missing: {kind} needs bounds = [low, high], {feature.name} declares no range"
            )
        return None, None
    if len(bounds) != 2 or bounds[0] >= bounds[1]:
        body.fault("bounds", f"expected [low, high] with low < high, got {shown(body.raw('bounds'))}")
        return None, None
    return bounds[0], bounds[1]
