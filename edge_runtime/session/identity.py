"""What makes two statistics the same across catalogs, so that a state can be carried from one to the next.

A statistic's *name* is a hash of its definition and of the declared types of what it reads; slot numbers,
feature names and the order in which a feature lists its events are not in it. Its *room* is what may differ,
the length of a list of newest values: the newest 5 of the newest 8 are the newest 5. So a longer list serves
shorter ones, and a shorter one is the end of a longer one; only what lies before it has to be found.

`allowed_lateness`, `dedup_horizon` and a purpose's `retention` are rules of admission and of forgetting, not
definitions: when they change the states stay. What was let go under a shorter retention stays let go, and a
longer lateness begins with what comes after the change (see `snapshot`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from hashlib import blake2b
from typing import Any, Final, NamedTuple, cast

from edge_runtime.catalog.model import EventType
from edge_runtime.session.layout import Layout
from edge_runtime.session.operators.recent import Recent
from edge_runtime.session.operators.statistic import Statistic

NAME_BYTES: Final = 8


class Identity(NamedTuple):
    """One statistic of a view, as states at rest know it."""

    name: bytes
    room: int
    """How many of the newest values; 0 where nothing may differ."""
    events: tuple[str, ...]
    """The event types that it sees."""


def identify(layout: Layout, events: Mapping[str, EventType]) -> tuple[Identity, ...]:
    """The identities of a layout's statistics, in the order in which they are placed."""
    return tuple(identity_of(placed.statistic, events) for placed in layout.placed)


def identify_needs(layout: Layout, events: Mapping[str, EventType]) -> dict[str, tuple[Identity, ...]]:
    """For each feature the identities of what it is read from, each with no more room than it needs."""
    return {name: tuple(identity_of(one, events) for one in wanted) for name, wanted in layout.wanted.items()}


def identity_of(statistic: Statistic, events: Mapping[str, EventType]) -> Identity:
    """The identity of one statistic over events as they are declared."""
    parts = {f.name: getattr(statistic, f.name) for f in fields(cast(Any, statistic))}
    parts.pop("lateness_us", None)
    room = parts.pop("n", 0) if isinstance(statistic, Recent) else 0
    definition = type(statistic).__name__, sorted(parts.items()), _read_types(statistic, events)
    name = blake2b(repr(definition).encode(), digest_size=NAME_BYTES).digest()
    return Identity(name, room, statistic.stream.events)


def _read_types(statistic: Statistic, events: Mapping[str, EventType]) -> list[tuple[str, str, str]]:
    """(event type, field, declared type) of everything that a statistic reads from an event."""
    stream = statistic.stream
    names = sorted({where.property for where in stream.where} | {stream.value or ""})
    return [(kind, name, _declared(events[kind], name)) for kind in sorted(stream.events) for name in names]


def _declared(event: EventType, name: str) -> str:
    if name in event.properties:
        return str(event.properties[name])
    return "id" if name in event.entities else ""
