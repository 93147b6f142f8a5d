"""`views.*.features.*` of session views: the operator, its arguments, and whether they fit the events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from edge_runtime.catalog.derived import DERIVED, read_derived
from edge_runtime.catalog.dtype import fits
from edge_runtime.catalog.duration import write_duration
from edge_runtime.catalog.model import (
    DerivedFeature,
    DType,
    EntityType,
    EventType,
    FieldFeature,
    Scalar,
    SessionFeature,
    View,
    Where,
)
from edge_runtime.catalog.operators import ARGUMENTS, NUMERIC, OPERATORS, OperatorSpec
from edge_runtime.catalog.references import resolve
from edge_runtime.catalog.section import Section, shown

_Test = Literal["eq", "ne", "gt", "ge", "lt", "le", "in"]
_TESTS = get_args(_Test)
_COMMON = ("op", "event", "where", "default")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session feature is judged against: its view's key and retention, and the rest of the catalog."""

    key: tuple[str, ...]
    retention_us: int | None
    entities: dict[str, EntityType]
    events: dict[str, EventType]
    views: dict[str, View]
    """Views that are not session views."""


def read_session_feature(
    name: str, body: Section, around: Surroundings
) -> SessionFeature | DerivedFeature | None:
    """One feature; None (with faults noted) when its operator or events are unknown."""
    op = body.text("op", required=True, choices=(*OPERATORS, *DERIVED))
    if op in DERIVED:
        return read_derived(name, op, body)
    events = _events(body, around)
    for key in _COMMON:
        body.has(key)
    if op is None or not events:
        for key in ARGUMENTS:
            body.has(key)
        body.close()
        return None
    spec = OPERATORS[op]
    _refuse_others(body, spec)
    feature = _feature(name, body, spec, events, around)
    body.close()
    return feature


def _feature(
    name: str, body: Section, spec: OperatorSpec, events: tuple[EventType, ...], around: Surroundings
) -> SessionFeature:
    limits = body.findings.limits
    value, value_dtype = _value(body, spec, events, around)
    embedding, size = _embedding(body, spec, value, around)
    by, by_dtype = _by(body, spec, events, around)
    dtype = _result(spec, by_dtype if "by" in spec.required else value_dtype, size)
    return SessionFeature(
        name=name,
        op=spec.name,
        events=tuple(e.name for e in events),
        value=value,
        by=by,
        window_us=_within_retention(body, "window", around) if "window" in spec.optional else None,
        gap_us=_within_retention(body, "gap", around, required=True) if "gap" in spec.required else None,
        half_life_us=_half_life(body, spec),
        n=_n(body, spec),
        cap=_cap(body, spec, limits.keys),
        max_keys=_max_keys(body, spec, limits.keys),
        where=_where(body, events),
        embedding=embedding,
        dtype=dtype,
        default=_default(body, dtype),
    )


def _refuse_others(body: Section, spec: OperatorSpec) -> None:
    taken = (*spec.required, *spec.optional, *(("value",) if spec.name == "top_n" else ()))
    for key in ARGUMENTS:
        if key not in taken:
            body.forbid(key, f"{spec.name} takes no {key}: expected {' '.join((*_COMMON, *taken))}")


def _events(body: Section, around: Surroundings) -> tuple[EventType, ...]:
    if not body.has("event"):
        body.fault("event", "missing: expected an event type or a list of them")
        return ()
    names = body.strings("event", or_one=True)
    if names is None:
        return ()
    if not names:
        body.fault("event", "expected at least one event type, got an empty list")
    found: list[EventType] = []
    for name in names:
        event = around.events.get(name)
        if event is None:
            body.fault("event", f"expected a declared event ({' '.join(around.events)}), got {shown(name)}")
            continue
        _names_key(body, event, around)
        found.append(event)
    return tuple(found)


def _names_key(body: Section, event: EventType, around: Surroundings) -> None:
    for entity in around.key:
        if entity not in event.entities:
            body.fault(
                "event", f"expected events that name the view's entity {entity}, {event.name} does not"
            )
    for entity in event.entities:
        if around.entities[entity].personal and not any(around.entities[k].personal for k in around.key):
            body.fault(
                "event",
                f"{event.name} names the personal entity {entity}, the view's entity is not personal: "
                "it could not be unlearned",
            )


def _input(body: Section, key: str, events: tuple[EventType, ...]) -> tuple[str, DType | None] | None:
    """A property or entity that all events carry: its name, and its dtype (None for an entity)."""
    name = body.text(key, required=True)
    if name is None:
        return None
    if all(name in e.entities for e in events):
        return name, None
    dtypes = [e.properties.get(name) for e in events]
    for event, dtype in zip(events, dtypes, strict=True):
        if dtype is None:
            legal = " ".join((*event.properties, *event.entities))
            body.fault(key, f"expected a property or entity of {event.name} ({legal}), got {shown(name)}")
            return None
    if len(set(dtypes)) > 1:
        body.fault(key, f"expected one dtype in all events, got {' '.join(str(d) for d in dtypes)}")
        return None
    return name, dtypes[0]


def _refuse_foreign_subject(body: Section, key: str, name: str, around: Surroundings) -> None:
    if around.entities[name].personal and name not in around.key:
        body.fault(
            key, f"names the personal entity {name}, which is not the view's: it could not be unlearned"
        )


def _value(
    body: Section, spec: OperatorSpec, events: tuple[EventType, ...], around: Surroundings
) -> tuple[str | None, DType]:
    unknown = DType("string")
    if "value" not in spec.required:
        return None, unknown
    found = _input(body, "value", events)
    if found is None:
        return None, unknown
    name, dtype = found
    if dtype is None:
        _refuse_foreign_subject(body, "value", name, around)
        if spec.name in NUMERIC:
            body.fault("value", f"expected a numeric property, got the entity {name}")
        return name, DType("string")
    if spec.name in NUMERIC and not (dtype.numeric and dtype.kind != "bool"):
        body.fault("value", f"expected a numeric property, {name} is {dtype}")
    if spec.result == "vector":
        body.fault("value", f"expected an entity type, {name} is a property")
    return name, dtype


def _by(
    body: Section, spec: OperatorSpec, events: tuple[EventType, ...], around: Surroundings
) -> tuple[str | None, DType]:
    """What is counted by: an entity type, or a property with values that can be keys."""
    keys = DType("string")
    if "by" not in spec.required:
        return None, keys
    # top_n gives values, so people write `value` for what it counts by: both words mean the same there.
    key = "value" if spec.name == "top_n" and body.has("value") and not body.has("by") else "by"
    found = _input(body, key, events)
    if found is None:
        return None, keys
    name, dtype = found
    if dtype is None:
        _refuse_foreign_subject(body, key, name, around)
    elif dtype.kind != "string":
        body.fault(key, f"expected an entity type or a string property, {name} is {dtype}")
    return name, keys


def _within_retention(body: Section, key: str, around: Surroundings, *, required: bool = False) -> int | None:
    us = body.positive_duration(key, required=required)
    if us is not None and around.retention_us and us > around.retention_us:
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
    if "n" in spec.optional:
        n = body.integer("n", 1, body.findings.limits.last_n)
        return 32 if n is None else n
    return None


def _cap(body: Section, spec: OperatorSpec, limit: int) -> int:
    cap = body.integer("cap", 1, limit) if "cap" in spec.optional else None
    return 2048 if cap is None else cap


def _max_keys(body: Section, spec: OperatorSpec, limit: int) -> int:
    keys = body.integer("max_keys", 1, limit) if "max_keys" in spec.optional else None
    return 256 if keys is None else keys


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
        case "counts":
            return DType("map", item=DType("int64"))
        case "vector":
            return DType("float64", size=size or 1)
        case fixed:
            return DType(fixed)


def _default(body: Section, dtype: DType) -> Scalar | None:
    if not body.has("default"):
        return None
    value = body.raw("default")
    if dtype.kind in ("list", "map") or dtype.size is not None or not fits(dtype, value):
        body.fault("default", f"expected one {dtype} value, got {shown(value)}")
        return None
    return cast(Scalar, value)


def _where(body: Section, events: tuple[EventType, ...]) -> tuple[Where, ...]:
    table = body.table("where")
    if table is None:
        return ()
    conditions: list[Where] = []
    for name, tests in table.tables():
        dtypes = {e.properties.get(name) for e in events}
        dtype = next(iter(dtypes))
        if len(dtypes) > 1 or dtype is None:
            table.fault(name, f"expected a property of {' '.join(e.name for e in events)} of one dtype")
            continue
        if not list(tests.entries()):
            table.fault(name, f"expected at least one of {' '.join(_TESTS)}")
        for test, operand in tests.entries():
            condition = _condition(tests, name, test, operand, dtype)
            if condition is not None:
                conditions.append(condition)
    return tuple(conditions)


def _condition(tests: Section, name: str, test: str, operand: object, dtype: DType) -> Where | None:
    if test not in _TESTS:
        tests.fault(test, f"unknown test: expected one of {' '.join(_TESTS)}")
        return None
    if test == "in":
        items = tests.items("in")
        if items is None:
            return None
        if not items or not all(fits(dtype, item) for item in items):
            tests.fault("in", f"expected a list of {dtype} values, at least one")
            return None
        return Where(name, "in", cast(tuple[Scalar, ...], items))
    if not fits(dtype, operand):
        tests.fault(test, f"expected a {dtype} value, got {shown(operand)}")
        return None
    if test not in ("eq", "ne") and (not dtype.numeric or dtype.kind == "bool") and dtype.kind != "time":
        tests.fault(test, f"expected eq, ne or in: {name} is {dtype}, which has no order")
        return None
    return Where(name, cast(_Test, test), cast(Scalar, operand))
