"""Session features drawn from the table of operators: every operator, with every argument it may take."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from edge_runtime.catalog.operators import NUMERIC, OPERATORS
from tests.support.broken_catalog import Table, changed, put

FEATURES = "views/activity/features"
_DURATIONS = st.sampled_from(["1s", "1500ms", "61s", "5m", "90m", "24h", "30d"])
_SCALARS = {"int64": 7, "float64": -0.5, "string": "none", "time": 1_700_000_000_000_000}
_WHERE = st.sampled_from(
    [
        {"price": {"gt": 10.0, "le": 20.5}},
        {"price": {"in": [1.0, 2.5]}},
        {"price": {"ne": 0}},
    ]
)


@st.composite
def arguments(draw: st.DrawFn, op: str) -> Table:
    """A valid declaration of one operator over the shop's events."""
    spec = OPERATORS[op]
    table: Table = {"op": op, "event": draw(st.sampled_from(["view", ["buy", "view"]]))}
    values = ["price"] if op in NUMERIC else ["item"] if spec.result == "vector" else ["price", "item"]
    ways: dict[str, st.SearchStrategy[Any]] = {
        "value": st.sampled_from(values),
        "by": st.just("item"),
        "embedding": st.sampled_from(["item_vec:embedding", "item_vec@2:embedding"]),
        "n": st.integers(1, 1000),
        "cap": st.integers(1, 65_536),
        "max_keys": st.integers(1, 65_536),
        **dict.fromkeys(("window", "gap", "half_life"), _DURATIONS),
    }
    for key in (*spec.required, *(k for k in spec.optional if draw(st.booleans()))):
        table[key] = draw(ways[key])
    if draw(st.booleans()):
        table["where"] = draw(_WHERE)
    if draw(st.booleans()) and (kind := _kind(table)) is not None:
        table["default"] = _SCALARS[kind]
    return table


def _kind(table: Table) -> str | None:
    """The dtype of the result where that is one scalar."""
    result = OPERATORS[table["op"]].result
    if result == "of value":
        return "string" if table["value"] == "item" else "float64"
    return result if result in _SCALARS else None


def with_features(features: Table) -> Table:
    """The shop catalog with these features in its session view, and without what refers to others."""
    table = changed(put(FEATURES, features))
    table["services"], table["metrics"] = {}, {}
    return table
