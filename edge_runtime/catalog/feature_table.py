"""A feature as the canonical table has it: JSON-able, every default written out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from edge_runtime.catalog.duration import write_duration
from edge_runtime.catalog.model import (
    DerivedFeature,
    Encoding,
    Feature,
    FieldFeature,
    SessionFeature,
    Where,
)
from edge_runtime.catalog.operators import OPERATORS

Table = dict[str, object]


def known(pairs: Iterable[tuple[str, object]]) -> Table:
    """The pairs whose value is known: absent and None mean the same."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in pairs if value is not None
    }


def feature_table(f: Feature) -> Table:
    """A feature of any source as the canonical table has it."""
    match f:
        case SessionFeature():
            return session_table(f)
        case DerivedFeature():
            return _derived(f)
        case FieldFeature():
            return _field(f)
        case _:
            assert_never(f)


def _derived(f: DerivedFeature) -> Table:
    arguments = {} if f.encoding is None else encoding_table(f.encoding)
    arguments.pop("kind", None)
    return {"op": f.op} | known([("of", f.of), ("default", f.default)]) | arguments


def _field(f: FieldFeature) -> Table:
    return known([("dtype", str(f.dtype)), ("values", f.values), ("range", f.range), ("default", f.default)])


def session_table(f: SessionFeature) -> Table:
    """A session feature as the canonical table has it."""
    spec = OPERATORS[f.op]
    durations = (("window", f.window_us), ("gap", f.gap_us), ("half_life", f.half_life_us))
    table = known(
        [
            ("op", f.op),
            ("event", f.events),
            ("value", f.value),
            ("by", f.by),
            *((key, None if us is None else write_duration(us)) for key, us in durations),
            ("n", f.n),
            ("cap", f.cap if "cap" in spec.optional else None),
            ("max_keys", f.max_keys if "max_keys" in spec.optional else None),
            ("embedding", f.embedding),
            ("default", f.default),
        ]
    )
    if f.where:
        table["where"] = _where(f.where)
    return table


def _where(conditions: tuple[Where, ...]) -> Table:
    names = dict.fromkeys(c.property for c in conditions)
    return {name: tests_table(c for c in conditions if c.property == name) for name in names}


def tests_table(conditions: Iterable[Where]) -> Table:
    """Conditions on one property: each test with its operand."""
    return {c.test: list(c.operand) if isinstance(c.operand, tuple) else c.operand for c in conditions}


def encoding_table(e: Encoding) -> Table:
    """`kind` and the arguments that it takes."""
    match e.kind:
        case "hash":
            return {"kind": e.kind, "buckets": e.buckets}
        case "zscore":
            return {"kind": e.kind, "mean": e.mean, "std": e.std}
        case "clip":
            return known([("kind", e.kind), ("low", e.low), ("high", e.high)])
        case "bucketize":
            return {"kind": e.kind, "edges": list(e.edges)}
        case _:
            return {"kind": e.kind}
