"""What a session feature takes from its events: their types, the value of each, and what it counts by."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.catalog.model import DType, EntityType, EventType, View
from edge_runtime.catalog.operators import NUMERIC, OperatorSpec
from edge_runtime.catalog.section import Section, shown


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session feature is judged against: its view's key and retention, and the rest of the catalog."""

    key: tuple[str, ...]
    retention_us: int | None
    entities: dict[str, EntityType]
    events: dict[str, EventType]
    views: dict[str, View]
    """Views that are not session views."""


def read_events(body: Section, around: Surroundings) -> tuple[EventType, ...]:
    """The declared event types in `event`, those without a fault; each must name the view's entities."""
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


def read_value(
    body: Section, spec: OperatorSpec, events: tuple[EventType, ...], around: Surroundings
) -> tuple[str | None, DType]:
    """`value` and its dtype, for operators that take one: a property, or an entity whose id is the value."""
    text = DType("string")
    found = _input(body, "value", events) if "value" in spec.required else None
    if found is None:
        return None, text
    name, dtype = found
    if dtype is None:
        _refuse_foreign_subject(body, "value", name, around)
        if spec.name in NUMERIC:
            body.fault("value", f"expected a numeric property for {spec.name}, got the entity {name}")
        return name, text
    if spec.name in NUMERIC and not (dtype.numeric and dtype.kind != "bool"):
        body.fault("value", f"expected a numeric property for {spec.name}, {name} is {dtype}")
    if spec.result == "vector":
        body.fault("value", f"expected an entity type, {name} is a property")
    return name, dtype


def read_by(
    body: Section, spec: OperatorSpec, events: tuple[EventType, ...], around: Surroundings
) -> str | None:
    """What is counted by: an entity type, or a string property."""
    if "by" not in spec.required:
        return None
    key = _by_key(body, spec)
    found = _input(body, key, events)
    if found is None:
        return None
    name, dtype = found
    if dtype is None:
        _refuse_foreign_subject(body, key, name, around)
    elif dtype.kind != "string":
        body.fault(key, f"expected an entity type or a string property, {name} is {dtype}")
    return name


def _by_key(body: Section, spec: OperatorSpec) -> str:
    """`by`; top_n gives values, so people write `value` for what it counts by: there both mean the same."""
    if spec.name != "top_n" or not body.has("value"):
        return "by"
    if body.has("by"):
        body.fault("value", "expected by or value, which mean the same here, got both")
        return "by"
    return "value"


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
