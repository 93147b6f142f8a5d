"""`views.*.features.*` of session views: the operator, its arguments, and whether they fit the events."""

from __future__ import annotations

from typing import Final

from edge_runtime.catalog.conditions import read_where
from edge_runtime.catalog.defaults import read_default
from edge_runtime.catalog.derived import DERIVED, read_derived
from edge_runtime.catalog.duration import UNIT_US, write_duration
from edge_runtime.catalog.inputs import Surroundings, read_by, read_events, read_value
from edge_runtime.catalog.model import DerivedFeature, DType, EventType, FieldFeature, SessionFeature
from edge_runtime.catalog.operators import ARGUMENTS, OPERATORS, OperatorSpec
from edge_runtime.catalog.references import resolve
from edge_runtime.catalog.section import Section

_COMMON: Final = ("op", "event", "where", "default")
SHORTEST_WINDOW_US: Final = UNIT_US["s"]
"""One tile is at least a second long: no tile fits into a shorter window."""


def read_session_feature(
    name: str, body: Section, around: Surroundings
) -> SessionFeature | DerivedFeature | None:
    """One feature; None (with faults noted) when its operator or events are unknown."""
    op = body.text("op", required=True, choices=(*OPERATORS, *DERIVED))
    if op in DERIVED:
        return read_derived(name, op, body)
    events = read_events(body, around)
    for key in _COMMON:
        body.has(key)
    if op is None or not events:
        for key in (*ARGUMENTS, *(("of",) if op is None else ())):
            body.has(key)
        body.close()
        return None
    spec = OPERATORS[op]
    _refuse_others(body, spec)
    feature = _feature(name, body, spec, events, around)
    body.close()
    return feature


def _refuse_others(body: Section, spec: OperatorSpec) -> None:
    taken = (*spec.required, *spec.optional, *(("value",) if spec.name == "top_n" else ()))
    for key in ARGUMENTS:
        if key not in taken:
            body.forbid(key, f"{spec.name} takes no {key}: expected {' '.join((*_COMMON, *taken))}")


def _feature(
    name: str, body: Section, spec: OperatorSpec, events: tuple[EventType, ...], around: Surroundings
) -> SessionFeature:
    limits = body.findings.limits
    value, value_dtype = read_value(body, spec, events, around)
    embedding, size = _embedding(body, spec, value, around)
    dtype = _result(spec, value_dtype, size)
    return SessionFeature(
        name=name,
        op=spec.name,
        events=tuple(e.name for e in events),
        value=value,
        by=read_by(body, spec, events, around),
        window_us=_window(body, spec, around),
        gap_us=_within_retention(body, "gap", around, required=True) if "gap" in spec.required else None,
        half_life_us=_half_life(body, spec),
        n=_n(body, spec),
        cap=_bound(body, spec, "cap", limits.keys, 2048),
        max_keys=_bound(body, spec, "max_keys", limits.keys, 256),
        where=read_where(body, events),
        embedding=embedding,
        dtype=dtype,
        default=read_default(body, dtype),
    )


def _window(body: Section, spec: OperatorSpec, around: Surroundings) -> int | None:
    if "window" not in spec.optional:
        return None
    us = _within_retention(body, "window", around)
    if us is not None and us < SHORTEST_WINDOW_US:
        body.fault(
            "window",
            f"expected at least {write_duration(SHORTEST_WINDOW_US)}, the shortest tile, "
            f"got {write_duration(us)}",
        )
    return us


def _within_retention(body: Section, key: str, around: Surroundings, *, required: bool = False) -> int | None:
    us = body.positive_duration(key, required=required)
    if us is not None and around.retention_us is not None and us > around.retention_us:
        body.fault(
            key,
            f"expected at most the purpose's retention of {write_duration(around.retention_us)}, "
            f"got {write_duration(us)}",
        )
    return us


def _half_life(body: Section, spec: OperatorSpec) -> int | None:
    return body.positive_duration("half_life", required=True) if "half_life" in spec.required else None


def _n(body: Section, spec: OperatorSpec) -> int | None:
    if "n" in spec.required:
        return body.integer("n", 1, body.findings.limits.last_n, required=True)
    return _bound(body, spec, "n", body.findings.limits.last_n, 32) if "n" in spec.optional else None


def _bound(body: Section, spec: OperatorSpec, key: str, limit: int, usual: int) -> int:
    bound = body.integer(key, 1, limit) if key in spec.optional else None
    return usual if bound is None else bound


def _embedding(
    body: Section, spec: OperatorSpec, value: str | None, around: Surroundings
) -> tuple[str | None, int | None]:
    """The embedding as `view@version:feature`, and its size."""
    if "embedding" not in spec.required:
        return None, None
    text = body.text("embedding", required=True)
    if text is None:
        return None, None
    ref = resolve(body, "embedding", text, around.views)
    if ref is None:
        return None, None
    view = around.views[ref.view]
    feature = view.features[ref.feature]
    if not isinstance(feature, FieldFeature) or feature.dtype.size is None or view.source != "server":
        body.fault("embedding", f"expected a float32[n] feature of a server view, {ref} is {feature.dtype}")
        return None, None
    if value is not None and view.entity != (value,):
        got = " ".join(view.entity)
        body.fault("embedding", f"expected a feature of entity {value}, {ref} is one of {got}")
    return str(ref), feature.dtype.size


def _result(spec: OperatorSpec, value: DType, size: int | None) -> DType:
    match spec.result:
        case "of value":
            return value
        case "list of value":
            return DType("list", item=value)
        case "keys":
            return DType("list", item=DType("string"))
        case "counts":
            return DType("map", item=DType("int64"))
        case "vector":
            return DType("float64", size=size or 1)
        case fixed:
            return DType(fixed)
