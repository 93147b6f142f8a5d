"""Events: one thing that happened, checked against the catalog before anything else sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from hashlib import blake2b
from typing import NoReturn, Protocol

import msgspec

from edge_runtime.catalog.model import DType, EventType, Scalar
from edge_runtime.errors import MalformedEvent
from edge_runtime.session.exact import VALUE_LIMIT
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.utf8 import utf8_size

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The last microsecond of the year 9999."""
_INT64 = range(-(1 << 63), 1 << 63)
_EXACT_SECONDS = 16384.0
_FLOATS = frozenset({"float64", "float32"})
_pack_content = msgspec.msgpack.Encoder(order="deterministic").encode


@prints_only("type")
class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):  # scalars alone hold no circles
    """One thing that happened. `entities` maps entity type to bare id; `at_us` is microseconds UTC.

    An Event made by hand is checked by `check_event` when it is tracked.
    """

    type: str
    entities: dict[str, str]
    properties: dict[str, Scalar]
    at_us: int
    id: str | None = None


class EventLimits(msgspec.Struct, frozen=True):
    """What an event may measure at most."""

    id_limit_bytes: int = 512
    """UTF-8 bytes of an entity's id or an event's id."""
    text_limit_bytes: int = 4096
    """UTF-8 bytes of a string property."""
    future_us: int = 60_000_000
    """How far ahead of now an event may lie; it waits until its time."""


class Declares(Protocol):
    """What an event is checked against: a `Catalog`, or a `CatalogModel`."""

    @property
    def events(self) -> Mapping[str, EventType]: ...


DEFAULT_LIMITS = EventLimits()


def make_event(
    catalog: Declares,
    type: str,
    fields: Mapping[str, object],
    *,
    now_us: int,
    limits: EventLimits = DEFAULT_LIMITS,
) -> Event:
    """The event that `rt.track(type, **fields)` means; `at` and `id` stand among the fields.

    `at` is an aware datetime or Unix seconds (float seconds round half to even); None means `now_us`. A
    property that is None or missing is not known. Ints are taken for float properties; a bool is no number.

    Raises:
        MalformedEvent: unknown type or field, missing entity, wrong type, NaN, infinity, a magnitude over
            2^500, a naive datetime, a time more than `limits.future_us` ahead of now, an id that is empty,
            too long or not UTF-8. Nothing is changed.
    """
    return _made(_declared(catalog, type), fields, now_us, limits, "")


def check_event(
    catalog: Declares, event: Event, *, now_us: int, limits: EventLimits = DEFAULT_LIMITS
) -> Event:
    """`event` as `make_event` would have made it, for an Event that a caller built by hand.

    Raises:
        MalformedEvent: as `make_event`.
    """
    declared = _declared(catalog, event.type)
    for name, given in (("entities", event.entities), ("properties", event.properties)):
        if not isinstance(given, dict):
            raise MalformedEvent(f"{event.type}.{name}", "a dict", _kind(given))
    if not isinstance(event.at_us, int) or isinstance(event.at_us, bool):
        raise MalformedEvent(f"{event.type}.at_us", "an int of microseconds", _kind(event.at_us))
    if any(name not in declared.entities for name in event.entities):
        _unknown_field(event.type, declared)
    if any(name not in declared.properties for name in event.properties):
        _unknown_field(event.type, declared)
    fields: dict[str, object] = {**event.entities, **event.properties, "id": event.id}
    made = make_event(catalog, event.type, fields, now_us=now_us, limits=limits)
    _check_whole(declared, made.entities, event.at_us, now_us, limits)
    return Event(made.type, made.entities, made.properties, event.at_us, made.id)


def event_from_dict(
    catalog: Declares, flat: Mapping[str, object], *, now_us: int, limits: EventLimits = DEFAULT_LIMITS
) -> Event:
    """The event of a flat dict: `{"type": "view", "user": "alice", "price": 2.5, "at": 1.7e9}`.

    Raises:
        MalformedEvent: as `make_event`, or no `type`.
    """
    kind = flat.get("type")
    if not isinstance(kind, str):
        raise MalformedEvent("type", "the name of an event type", _kind(kind))
    return _made(_declared(catalog, kind), flat, now_us, limits, "type")


def instant_us(at: object, *, place: str = "at") -> int:
    """Microseconds UTC of an aware datetime or of Unix seconds; float seconds round half to even.

    Raises:
        MalformedEvent: a naive datetime, not a time at all, not finite, or outside years 1 to 9999.
    """
    if isinstance(at, datetime):
        if at.tzinfo is None or at.utcoffset() is None:
            raise MalformedEvent(place, "a datetime with a time zone", "a naive datetime")
        return (at - _EPOCH) // _MICROSECOND
    if isinstance(at, bool) or not isinstance(at, int | float):
        raise MalformedEvent(place, "an aware datetime or Unix seconds", _kind(at))
    if isinstance(at, float) and not math.isfinite(at):
        raise MalformedEvent(place, "finite Unix seconds", "NaN or infinity")
    at_us = at * 1_000_000 if isinstance(at, int) else _float_seconds_us(at)
    _check_years(place, at_us)
    return at_us


def content_id(event: Event, ordinal: int) -> str:
    """An id for an event without one: BLAKE2b-128 of its content and its ordinal among identical ones."""
    content = (event.type, event.entities, event.properties, event.at_us, ordinal)
    return blake2b(_pack_content(content), digest_size=16).hexdigest()


to_bytes: Callable[[Event], bytes] = msgspec.msgpack.Encoder().encode
"""The journal's form of an event."""

from_bytes: Callable[[bytes], Event] = msgspec.msgpack.Decoder(Event).decode
"""The event that `to_bytes` wrote. Raises `ValueError` for bytes that it did not make."""


def _made(
    declared: EventType, fields: Mapping[str, object], now_us: int, limits: EventLimits, besides: str
) -> Event:
    """The event in `fields`; a field named `besides` is not one of its own."""
    type, of_entities, dtypes = declared.name, declared.entities, declared.properties
    id_limit_bytes = limits.id_limit_bytes
    entities: dict[str, str] = {}
    properties: dict[str, Scalar] = {}
    at_us, event_id = now_us, None
    for name, value in fields.items():
        if name in of_entities:
            entities[name] = _text(type, name, value, id_limit_bytes, empty=False)
        elif name in dtypes:
            if value is not None:
                properties[name] = _scalar(type, name, dtypes[name], value, limits)
        elif name == "at":
            at_us = now_us if value is None else instant_us(value, place=f"{type}.at")
        elif name == "id":
            if value is not None:
                event_id = _text(type, "id", value, id_limit_bytes, empty=False)
        elif name != besides:
            _unknown_field(type, declared)
    if len(entities) < len(of_entities) or at_us != now_us:
        _check_whole(declared, entities, at_us, now_us, limits)
    return Event(type, entities, properties, at_us, event_id)


def _declared(catalog: Declares, type: object) -> EventType:
    declared = catalog.events.get(type) if isinstance(type, str) else None
    if declared is None:
        known = ", ".join(sorted(catalog.events))
        raise MalformedEvent("type", f"one of the declared events ({known})", "an event type not declared")
    return declared


def _unknown_field(type: str, declared: EventType) -> NoReturn:
    names = ", ".join([*declared.entities, *declared.properties, "at", "id"])
    raise MalformedEvent(type, f"only the fields {names}", "a field not declared")


def _check_whole(
    declared: EventType, entities: Mapping[str, str], at_us: int, now_us: int, limits: EventLimits
) -> None:
    for entity in declared.entities:
        if entity not in entities:
            raise MalformedEvent(f"{declared.name}.{entity}", "an id", "nothing")
    _check_years(f"{declared.name}.at", at_us)
    if at_us > now_us + limits.future_us:
        ahead = f"{(at_us - now_us) // 1_000_000} s ahead"
        raise MalformedEvent(f"{declared.name}.at", f"at most {limits.future_us // 1_000_000} s ahead", ahead)


def _check_years(place: str, at_us: int) -> None:
    if not _FIRST_US <= at_us <= LAST_US:
        raise MalformedEvent(place, "a time in the years 1 to 9999", "a time outside them")


def _scalar(type: str, name: str, dtype: DType, value: object, limits: EventLimits) -> Scalar:
    kind = dtype.kind
    if kind in _FLOATS:
        if value.__class__ is float and -VALUE_LIMIT <= value <= VALUE_LIMIT:  # the usual case, in line
            return value + 0.0
        return _number(f"{type}.{name}", value)
    if kind == "string":
        return _text(type, name, value, limits.text_limit_bytes, empty=True)
    return _other(f"{type}.{name}", dtype, value)


def _other(place: str, dtype: DType, value: object) -> Scalar:
    match dtype.kind:
        case "int64":
            if isinstance(value, bool) or not isinstance(value, int):
                raise MalformedEvent(place, "an int", _kind(value))
            if value not in _INT64:
                raise MalformedEvent(place, "an int of 64 bits", "a larger one")
            return int(value)
        case "bool":
            if not isinstance(value, bool):
                raise MalformedEvent(place, "true or false", _kind(value))
            return value
        case "time":
            return instant_us(value, place=place)
    raise MalformedEvent(place, f"a property of type {dtype}, which events cannot carry", _kind(value))


def _number(place: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedEvent(place, "a number", _kind(value))
    if value != value:
        raise MalformedEvent(place, "a finite number", "NaN")
    if not -VALUE_LIMIT <= value <= VALUE_LIMIT:
        raise MalformedEvent(place, "a number of at most 2^500 in magnitude", "a larger one or infinity")
    return float(value) + 0.0  # -0.0 + 0.0 is 0.0: there is one zero


def _text(type: str, name: str, value: object, limit_bytes: int, *, empty: bool) -> str:
    if value.__class__ is str and value.isascii() and 0 < len(value) <= limit_bytes:  # nearly always
        return value
    if not isinstance(value, str):
        raise MalformedEvent(f"{type}.{name}", "a string", _kind(value))
    if not value and not empty:
        raise MalformedEvent(f"{type}.{name}", "an id that is not empty", "an empty string")
    _check_utf8(f"{type}.{name}", value, limit_bytes)
    return str(value)


def _check_utf8(place: str, value: str, limit_bytes: int) -> None:
    if len(value) > limit_bytes:
        raise MalformedEvent(place, f"at most {limit_bytes} bytes", f"at least {len(value)} bytes")
    size = utf8_size(value)
    if size is None:
        raise MalformedEvent(place, "text that UTF-8 can encode", "a lone surrogate")
    if size > limit_bytes:
        raise MalformedEvent(place, f"at most {limit_bytes} bytes", f"{size} bytes")


def _float_seconds_us(at: float) -> int:
    if abs(at) < _EXACT_SECONDS or abs(at) > 1e15:
        return round(Fraction(at) * 1_000_000)
    # From 2^14 s on, the fraction has at most 38 bits, and times 10^6 = 2^6 * 15625 it stays exact.
    whole = math.floor(at)
    return whole * 1_000_000 + round((at - whole) * 1_000_000)


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
