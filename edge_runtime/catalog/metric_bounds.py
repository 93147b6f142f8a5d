"""What a metric's kind asks for: categories, bounds, a condition, which quantiles, a reference for drift.

Each reader notes a fault for a key that its kind does not take.
"""

from __future__ import annotations

from math import fsum
from typing import Final

from edge_runtime.catalog.conditions import read_tests
from edge_runtime.catalog.metric_source import MetricSource
from edge_runtime.catalog.model import Where
from edge_runtime.catalog.section import Section, shown

DEFAULT_QUANTILES: Final = (0.5,)
DEFAULT_LEAVES: Final = 64
FEWEST_LEAVES: Final = 4
MOST_LEAVES: Final = 4_096
SHARES_OFF: Final = 1e-9
"""How far from one the shares of a reference may sum, for they were rounded."""
_Categories = tuple[tuple[str, ...] | None, tuple[float, ...] | None]


def read_categories(body: Section, kind: str, source: MetricSource) -> _Categories:
    """Of a histogram: names of its categories (own or the source's), or the edges of its buckets."""
    if body.has("edges") and body.has("buckets"):
        body.fault("buckets", "expected edges or buckets, got both: they are one thing")
    edges_key = "buckets" if body.has("buckets") else "edges"
    if kind != "histogram":
        return _no_categories(body, edges_key, f"only a histogram takes {{key}}: this is a {kind}")
    if source.read == "status":
        assert source.values is not None
        _no_categories(
            body, edges_key, f"expected no {{key}}: the categories of a status are {_named(source)}"
        )
        return tuple(str(v) for v in source.values), None
    if body.has(edges_key):
        return None, _edges(body, edges_key, source)
    return _values(body, source), None


def _no_categories(body: Section, edges_key: str, reason: str) -> _Categories:
    for key in ("values", edges_key):
        body.forbid(key, reason.format(key=key))
    return None, None


def _named(source: MetricSource) -> str:
    return " ".join(str(v) for v in source.values or ())


def _values(body: Section, source: MetricSource) -> tuple[str, ...] | None:
    values = body.strings("values")
    if not body.has("values"):
        if not source.values:
            body.fault(
                "values", f"missing: a histogram needs values or edges, {source.name} declares no values"
            )
            return None
        values = tuple(str(v) for v in source.values)
    elif source.dtype.kind != "string":
        body.fault("values", f"expected edges: {source.name} is {source.dtype}, not string")
    if values is not None and len(values) < 2:
        body.fault("values", f"expected at least two categories, got {len(values)}")
    return values


def _edges(body: Section, key: str, source: MetricSource) -> tuple[float, ...] | None:
    if body.has("values"):
        body.fault("values", f"expected values or {key}, got both")
    if not source.dtype.numeric:
        body.fault(key, f"expected values: {source.name} is {source.dtype}, not a number")
    edges = body.numbers(key, required=True, rising=True)
    if edges == ():
        body.fault(key, "expected at least one edge, got an empty list")
    return edges


def read_bounds(body: Section, kind: str, source: MetricSource) -> tuple[float | None, float | None]:
    """Of sum, mean and quantile: what a value is clipped to (own `bounds`, or the feature's range)."""
    if kind in ("count", "histogram"):
        body.forbid("bounds", f"a {kind} takes no bounds")
        return None, None
    if not source.dtype.numeric:
        body.fault("of", f"expected a number for {kind}, {source.name} is {source.dtype}")
    bounds = body.numbers("bounds")
    if not body.has("bounds"):
        bounds = source.range
        if bounds is None:
            declares = f"{source.name} declares no range"
            body.fault("bounds", f"missing: {kind} needs bounds = [low, high], {declares}")
    if bounds is None:
        return None, None
    if len(bounds) != 2 or bounds[0] >= bounds[1]:
        got = shown(body.raw("bounds")) if body.has("bounds") else f"the range of {source.name}"
        body.fault("bounds", f"expected [low, high] with low < high, got {got}")
        return None, None
    return bounds[0], bounds[1]


def read_absent(
    body: Section, kind: str, source: MetricSource, bounds: tuple[float | None, float | None]
) -> str | float | None:
    """What a subject without a value answers, so that who takes part says nothing of values; None: nothing.

    Of a histogram a category, declared or one more; else a number between the bounds.
    """
    if kind == "count" or source.read == "status":
        body.forbid("absent", "takes no absent: whoever has no value answers already")
        return None
    if kind == "histogram":
        name = body.text("absent")
        if name == "":
            body.fault("absent", "expected the name of a category, got an empty text")
        return name
    number, (low, high) = body.number("absent"), bounds
    if number is not None and low is not None and high is not None and not low <= number <= high:
        body.fault("absent", f"expected a number between the bounds {low:g} and {high:g}, got {number:g}")
    return number


def read_condition(body: Section, kind: str, source: MetricSource) -> tuple[Where, ...]:
    """Of a count: the tests that what is read must meet; none: that it is there."""
    if kind != "count":
        body.forbid("where", f"only a count takes where: this is a {kind}")
        return ()
    return read_tests(body, "where", "value", source.name, source.dtype)


def read_quantiles(body: Section, kind: str) -> tuple[tuple[float, ...], int]:
    """Of a quantile: which ones, and the number of leaves of its tree."""
    if kind != "quantile":
        for key in ("quantiles", "leaves"):
            body.forbid(key, f"only a quantile takes {key}: this is a {kind}")
        return (), 0
    wanted = body.numbers("quantiles", rising=True)
    for n, one in enumerate(wanted or ()):
        if not 0 < one < 1:
            body.findings.add(
                f"{body.at('quantiles')}[{n}]", f"expected more than 0 and under 1, got {one:g}"
            )
    if wanted == ():
        body.fault("quantiles", "expected at least one quantile, got an empty list")
    leaves = body.integer("leaves", FEWEST_LEAVES, MOST_LEAVES)
    if leaves is not None and leaves & (leaves - 1):
        body.fault("leaves", f"expected a power of two from {FEWEST_LEAVES} to {MOST_LEAVES}, got {leaves}")
    return DEFAULT_QUANTILES if wanted is None else wanted, DEFAULT_LEAVES if leaves is None else leaves


def read_reference(
    body: Section, kind: str, categories: int | None
) -> tuple[tuple[float, ...] | None, float | None]:
    """Of a histogram: the shares that it had when a model was trained, and the drift that is an alarm.

    Every share is above zero: what an empty category adds to a stability index depends on nothing but how it
    is smoothed. `categories`: how many there are, None when that was a fault.
    """
    if kind != "histogram":
        for key in ("reference", "drift_alarm"):
            body.forbid(key, f"only a histogram takes {key}: this is a {kind}")
        return None, None
    shares = body.numbers("reference")
    if shares is not None and categories is not None:
        _check_shares(body, shares, categories)
    alarm = body.number("drift_alarm")
    if alarm is not None and alarm <= 0:
        body.fault("drift_alarm", f"expected more than 0, got {alarm:g}")
    if body.has("drift_alarm") and not body.has("reference"):
        body.fault("drift_alarm", "expected a reference beside it: there is nothing to drift from")
    return shares, alarm


def _check_shares(body: Section, shares: tuple[float, ...], categories: int) -> None:
    if len(shares) != categories:
        body.fault("reference", f"expected one share for each of {categories} categories, got {len(shares)}")
        return
    for n, share in enumerate(shares):
        if share <= 0:
            body.findings.add(
                f"{body.at('reference')}[{n}]",
                f"expected more than 0, got {share:g}: no drift can be measured from an empty category",
            )
            return
    total = fsum(shares)
    if abs(total - 1) > SHARES_OFF:
        body.fault("reference", f"expected shares that sum to 1, these sum to {total:.12g}")
