"""`[metrics.*]`: what may be asked of the population, and at what price in privacy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from edge_runtime.catalog.duration import UNIT_US
from edge_runtime.catalog.metric_bounds import (
    read_absent,
    read_bounds,
    read_categories,
    read_condition,
    read_quantiles,
    read_reference,
)
from edge_runtime.catalog.metric_source import MetricSource, MetricSurroundings, read_source
from edge_runtime.catalog.model import Metric, MetricKind, MetricMode, Purpose
from edge_runtime.catalog.section import Section, check_name, shown

KINDS: Final = ("count", "sum", "mean", "histogram", "quantile")
MODES: Final = ("local", "curator")
DEFAULT_WINDOW_US: Final = UNIT_US["d"]
_FREQUENCIES: Final = ("randomized_response", "subset_selection", "unary_encoding")
_MEANS: Final = ("duchi", "piecewise")
LOCAL_MECHANISMS: Final[Mapping[str, tuple[str, ...]]] = {
    "histogram": _FREQUENCIES,
    "count": _FREQUENCIES,
    "mean": _MEANS,
    "sum": _MEANS,
    "quantile": ("hierarchical",),
}
"""The mechanisms that an author may name for each kind when each subject's answer is noised."""
CURATOR_MECHANISMS: Final = ("discrete_laplace",)
_KEYS: Final = (
    *("values", "edges", "buckets", "bounds", "where", "quantiles", "leaves", "mode", "mechanism"),
    *("absent", "reference", "drift_alarm"),
)


def read_metrics(section: Section, around: MetricSurroundings) -> dict[str, Metric]:
    """Every metric by name; `window` (the budget's) defaults to 1d. Adds to `around.hidden`."""
    metrics: dict[str, Metric] = {}
    for name, body in section.tables():
        named = check_name(section, name, name, "a metric name")
        metric = _metric(name, body, around)
        if named and metric is not None:
            metrics[name] = metric
        body.close()
    return metrics


def _metric(name: str, body: Section, around: MetricSurroundings) -> Metric | None:
    kind = body.text("kind", required=True, choices=KINDS)
    purpose = read_purpose(body, around.purposes)
    epsilon = read_epsilon(body)
    minimum = body.integer("min_subjects", 2, 2**31, required=True)
    window_us = body.positive_duration("window")
    source = read_source(f"metrics.{name}", body, kind, purpose, around)
    _check_rests(body, purpose, source, around)
    for key in _KEYS:
        body.has(key)
    if kind is None or source is None:
        return None
    values, edges = read_categories(body, kind, source)
    low, high = read_bounds(body, kind, source)
    quantiles, leaves = read_quantiles(body, kind)
    mode, mechanism = _mechanism(body, kind)
    absent = read_absent(body, kind, source, (low, high))
    reference, alarm = read_reference(body, kind, _count(values, edges, absent))
    return Metric(
        name=name,
        purpose="" if purpose is None else purpose.name,
        kind=cast(MetricKind, kind),
        of=source.ref,
        epsilon=epsilon or 0.0,
        min_subjects=minimum or 0,
        window_us=DEFAULT_WINDOW_US if window_us is None else window_us,
        values=values,
        edges=edges,
        low=low,
        high=high,
        read=source.read,
        where=read_condition(body, kind, source),
        quantiles=quantiles,
        leaves=leaves,
        mode=mode,
        mechanism=mechanism,
        absent=absent,
        reference=reference,
        drift_alarm=alarm,
    )


def read_purpose(body: Section, purposes: Mapping[str, Purpose]) -> Purpose | None:
    """The purpose under which it is asked; None with a fault noted."""
    if not body.has("purpose"):
        body.fault("purpose", "missing: a metric needs a purpose of its own, beside its source's")
        return None
    name = body.text("purpose")
    if name is not None and name not in purposes:
        body.fault("purpose", f"expected a declared purpose ({' '.join(purposes)}), got {shown(name)}")
    return None if name is None else purposes.get(name)


def _check_rests(
    body: Section, purpose: Purpose | None, source: MetricSource | None, around: MetricSurroundings
) -> None:
    """A report is stored before it is sent, under keys of both purposes: neither is kept in memory only."""
    if purpose is not None and not purpose.on_disk:
        body.fault("purpose", f"expected one that may rest on disk: {purpose.name} is kept in memory only")
    view = None if source is None else around.views.get(source.ref.view)
    of = None if view is None or view.purpose is None else around.purposes[view.purpose]
    if of is not None and of is not purpose and not of.on_disk:
        body.fault("of", f"expected a purpose that may rest on disk: {of.name} is kept in memory only")


def read_epsilon(body: Section) -> float | None:
    """What one answer costs; at most the ceiling that is built into every device."""
    epsilon = body.number("epsilon", required=True)
    least, ceiling = body.findings.limits.least_epsilon, body.findings.limits.epsilon
    if epsilon is not None and not least <= epsilon <= ceiling:
        body.fault("epsilon", f"expected at least {least:g} and at most {ceiling:g}, got {epsilon:g}")
    return epsilon


def _mechanism(body: Section, kind: str) -> tuple[MetricMode, str | None]:
    mode = body.text("mode", choices=MODES) or "local"
    legal = CURATOR_MECHANISMS if mode == "curator" else LOCAL_MECHANISMS[kind]
    mechanism = body.text("mechanism")
    if mechanism is not None and mechanism not in legal:
        expected = f"expected one of {' '.join(legal)} for a {kind} in mode {mode}"
        body.fault("mechanism", f"{expected}, got {shown(mechanism)}")
    return cast(MetricMode, mode), mechanism


def _count(
    values: tuple[str, ...] | None, edges: tuple[float, ...] | None, absent: str | float | None
) -> int | None:
    own = absent is not None and absent not in (values or ())
    if values is not None:
        return len(values) + own
    return None if edges is None else len(edges) + 1 + own
