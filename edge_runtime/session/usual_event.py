"""Reads the usual event by generated code, one function for each event type; what is unusual has none here.

`read` gives exactly the event that `event_from_dict` (or `make_event`) would give, at about a fifth of its
cost, or None: then the event is malformed or only unusual (a time with a zone, an int for a float, a text
beyond ASCII), and that function says which. So it alone is the meaning of an event's fields, and of errors.

A replay reads many events of few texts and holds those, to share them. Live events leave no text behind: what
an erasure must reach is not kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from edge_runtime.catalog.model import EventType
from edge_runtime.session.event import DEFAULT_LIMITS, LAST_US, Event, EventLimits
from edge_runtime.session.exact import VALUE_LIMIT

Read = Callable[[Any], Event | None]
"""From a flat dict that names this type to its event. A time of receipt beside it is not usual."""
LiveRead = Callable[[Any, int, int], Event | None]
"""From fields, now in microseconds, and how many of the fields are neither declared nor `at` nor `id`."""
_BESIDE: Final = frozenset({"type", "at", "id", "received"})
_FIRST_S, _LAST_S = 16_384, LAST_US // 1_000_000 - 1
"""Between them float seconds become microseconds without `Fraction` (see `event.instant_us`)."""
TEXTS_HELD: Final = 16_384
"""Most texts of one property or entity that are held to be shared."""
_INDENT: Final = "    "


def usual_readers(events: Mapping[str, EventType], limits: EventLimits = DEFAULT_LIMITS) -> dict[str, Read]:
    """The readers of a catalog's event types, by name; a type that has no usual form is left out."""
    found: dict[str, Read] = {}
    for kind, declared in events.items():
        source = _source(declared, limits, live=False)
        if source is not None:
            texts = [f"e{n}_held" for n in range(len(declared.entities))]
            texts += [f"p{n}_held" for n in range(len(declared.properties))]
            names: dict[str, Any] = {"Event": Event, **{name: {} for name in texts}}
            exec(compile(source, f"<event {kind}>", "exec"), names)  # noqa: S102 — names enter it as literals
            found[kind] = names["read"]
    return found


def live_readers(events: Mapping[str, EventType], limits: EventLimits) -> dict[str, LiveRead]:
    """The same for events as they happen: `at` is now where it is not given, and not far ahead of it."""
    found: dict[str, LiveRead] = {}
    for kind, declared in events.items():
        source = _source(declared, limits, live=True)
        if source is not None:
            names: dict[str, Any] = {"Event": Event}
            exec(compile(source, f"<live event {kind}>", "exec"), names)  # noqa: S102 — as above
            found[kind] = names["read"]
    return found


def _source(declared: EventType, limits: EventLimits, *, live: bool) -> str | None:
    if not _BESIDE.isdisjoint((*declared.entities, *declared.properties)):
        return None
    properties = [
        _property(n, name, d.kind, limits, live) for n, (name, d) in enumerate(declared.properties.items())
    ]
    lines = ["get = flat.get", 'at, event_id = get("at"), get("id")']
    lines += _live_time(limits) if live else ["count = 2", *_time()]
    lines += [
        "if event_id is not None:",
        f"    if {_no_id('event_id', limits)}: return None",
        "    count += 1",
    ]
    lines += [*_entities(declared.entities, limits, live), "properties = {}"]
    for found in properties:
        if found is None:
            return None
        lines += found
    lines.append(f"if count + {len(declared.entities)} + len(properties) != len(flat): return None")
    lines.append(f"return Event({declared.name!a}, entities, properties, at, event_id)")
    return "\n".join(["def read(flat, now, count):" if live else "def read(flat):", *_indented(lines)])


def _entities(names: Sequence[str], limits: EventLimits, live: bool) -> list[str]:
    """Ids, checked once. Of one entity the table is made once too: events of one user hold the same one."""
    lines: list[str] = []
    shared = not live and len(names) == 1
    for n, name in enumerate(names):
        lines.append(f"e{n} = get({name!a})")
        if live:
            lines.append(f"if {_no_id(f'e{n}', limits)}: return None")
            continue
        made = f"{{{name!a}: e{n}}}" if shared else f"e{n}"
        lines.append(f"if e{n}.__class__ is not str: return None")
        lines += _held("entities" if shared else f"e{n}", f"e{n}", _no_id(f"e{n}", limits), made)
    if shared:
        return lines
    return [*lines, f"entities = {{{', '.join(f'{name!a}: e{n}' for n, name in enumerate(names))}}}"]


def _held(target: str, key: str, unusual: str, made: str) -> list[str]:
    """`target` as it was made before for this text, or made of it."""
    return [
        f"held = {key}_held.get({key})",
        "if held is None:",
        f"    if {unusual}: return None",
        f"    if len({key}_held) >= {TEXTS_HELD}: {key}_held.clear()",
        f"    held = {key}_held[{key}] = {made}",
        f"{target} = held",
    ]


def _no_id(name: str, limits: EventLimits) -> str:
    limit = limits.id_limit_bytes
    return f"{name}.__class__ is not str or not {name}.isascii() or not 0 < len({name}) <= {limit}"


def _live_time(limits: EventLimits) -> list[str]:
    """`at`, or now without one."""
    given = [*_time(), f"if at > now + {limits.future_us}: return None", "count += 1"]
    return ["if at is None:", "    at = now", "else:", *_indented(given)]


def _time() -> list[str]:
    """`at` in microseconds: whole seconds, or a float that has at most 38 bits behind the point."""
    return [
        "if at.__class__ is int:",
        f"    if not {_FIRST_S} <= at <= {_LAST_S}: return None",
        "    at *= 1000000",
        f"elif at.__class__ is float and {_FIRST_S} <= at <= {_LAST_S}:",
        "    whole = int(at)",
        "    at = whole * 1000000 + round((at - whole) * 1000000)",
        "else: return None",
    ]


def _property(n: int, name: str, kind: str, limits: EventLimits, live: bool) -> list[str] | None:
    """The lines that read one property; None where no value of its dtype is usual."""
    test = _test(f"p{n}", kind)
    if test is None:
        return None
    lines = [f"p{n} = get({name!a})", f"if {test}:"]
    if kind == "string":
        unusual = f"not p{n}.isascii() or len(p{n}) > {limits.text_limit_bytes}"
        if live:
            lines += [f"    if {unusual}: return None", f"    properties[{name!a}] = p{n}"]
        else:
            lines += _indented(_held(f"properties[{name!a}]", f"p{n}", unusual, f"p{n}"))
    else:
        lines += _indented([f"properties[{name!a}] = {_value(n, kind)}"])
    return [*lines, f"elif p{n} is not None: return None"]


def _test(name: str, kind: str) -> str | None:
    """Whether a property's value is usual for its dtype; None where no value of it is."""
    match kind:
        case "float64" | "float32":
            return f"{name}.__class__ is float and -{VALUE_LIMIT!r} <= {name} <= {VALUE_LIMIT!r}"
        case "int64":
            return f"{name}.__class__ is int and -{1 << 63} <= {name} < {1 << 63}"
        case "bool":
            return f"{name} is True or {name} is False"
        case "string":
            return f"{name}.__class__ is str"
        case "time":
            return f"{name}.__class__ is int and {_FIRST_S} <= {name} <= {_LAST_S}"
    return None


def _value(n: int, kind: str) -> str:
    match kind:
        case "float64" | "float32":
            return f"p{n} + 0.0"  # there is one zero
        case "time":
            return f"p{n} * 1000000"
    return f"p{n}"


def _indented(lines: list[str], depth: int = 1) -> list[str]:
    return [_INDENT * depth + line for line in lines]
