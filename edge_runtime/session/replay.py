"""The same engine over a history: an entity's state as it was at given times.

A history is sorted by (time, id); an id that was seen for the same view and entity is dropped (the first in
the given order wins) and nothing else is judged: no lateness, no consent. An event at exactly a time is
included. As seen, an event counts only from its time of receipt on, and of one id the first received wins, as
a device would have taken it.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from edge_runtime.errors import MalformedEvent
from edge_runtime.session.admission import ViewState
from edge_runtime.session.event import (
    LAST_US,
    Event,
    check_event,
    content_id,
    event_from_dict,
    instant_us,
)
from edge_runtime.session.plan import Declared, Plan, ViewPlan

Given = Event | Mapping[str, object]
"""An event as callers hand it in, or a flat dict (`{"type": "view", "user": "alice", "at": 1.7e9, ...}`)."""
Place = tuple[str, str]
"""A session view's key and the typed entity whose state it is."""
_at_us = itemgetter(0)


class Received(NamedTuple):
    """An event with its time of receipt; a flat dict says it as `received`."""

    event: Event
    received_us: int


class Seen(NamedTuple):
    """An event in its order: time, id, when it was received, itself."""

    at_us: int
    event_id: str
    received_us: int
    event: Event

    def by(self, t_us: int) -> bool:
        """Whether it counts at `t_us` as seen: received, and not before its own time."""
        return self.at_us <= t_us and self.received_us <= t_us


class Histories:
    """The distinct events of the entities that are asked about; every other event is only checked."""

    def __init__(
        self, catalog: Declared, plan: Plan, wanted: Collection[Place], *, as_seen: bool = False
    ) -> None:
        self._catalog, self._as_seen = catalog, as_seen
        self._views: dict[str, dict[str, dict[str, Seen]]] = {key: {} for key in plan.views}
        for view_key, entity in wanted:
            self._views[view_key][entity] = {}
        self._routes = {
            kind: [(self._views[route.view_key], route.entity_of) for route in routes]
            for kind, routes in plan.routes.items()
        }
        self._repeats: dict[str, int] = {}

    def take(self, number: int, given: Given | Received) -> None:
        """Check event `number` and keep it where it is wanted.

        Raises:
            MalformedEvent: it does not fit the catalog, or has no time; the place begins `events[number]`.
        """
        try:
            event, received_us = _checked(self._catalog, given)
        except MalformedEvent as error:
            raise MalformedEvent(f"events[{number}].{error.place}", error.expected, error.got) from None
        kept = []
        for view, entity_of in self._routes[event.type]:
            distinct = view.get(entity_of(event))
            if distinct is not None:
                kept.append(distinct)
        if not kept:
            return
        event_id = self._content_id(event, kept) if event.id is None else event.id
        seen = Seen(event.at_us, event_id, received_us, event)
        for distinct in kept:
            first = distinct.setdefault(event_id, seen)
            if self._as_seen and received_us < first.received_us:
                distinct[event_id] = seen

    def sorted(self, place: Place) -> list[Seen]:
        """The events of a wanted place by (time, id); they are given away, not kept beside."""
        view_key, entity = place
        return sorted(self._views[view_key].pop(entity).values())  # ids differ: nothing compares past them

    def _content_id(self, event: Event, kept: Sequence[Mapping[str, Seen]]) -> str:
        """The first ordinal that is new, as a live runtime would have given it."""
        content = event_id = content_id(event, 0)
        if True not in [event_id in distinct for distinct in kept]:
            return event_id
        ordinal = self._repeats.get(content, 0)
        while True in [event_id in distinct for distinct in kept]:
            ordinal += 1
            event_id = content_id(event, ordinal)
        self._repeats[content] = ordinal
        return event_id


def states_at(
    plan: ViewPlan, events: Sequence[Seen], times_us: Sequence[int], *, as_seen: bool = False
) -> Iterable[tuple[int, ViewState]]:
    """For each of `times_us`, which must not fall, the state of one entity (reused for the next)."""
    if as_seen:
        yield from _seen_states(plan, events, times_us)
        return
    state, position, count, update = plan.new_state(), 0, len(events), plan.update
    for t_us in times_us:
        while position < count and events[position].at_us <= t_us:
            _, event_id, _, event = events[position]
            update(state, event, event_id)
            position += 1
        yield t_us, state


def _seen_states(
    plan: ViewPlan, events: Sequence[Seen], times_us: Sequence[int]
) -> Iterable[tuple[int, ViewState]]:
    """One state runs up to the first event not received yet; what was received beyond it goes on a copy."""
    state, position = plan.new_state(), 0
    for t_us in times_us:
        while position < len(events) and events[position].by(t_us):
            plan.update(state, events[position].event, events[position].event_id)
            position += 1
        end = bisect_right(events, t_us, lo=position, key=_at_us)
        beyond = [one for one in events[position:end] if one.by(t_us)]
        branch = copy.deepcopy(state) if beyond else state
        for one in beyond:
            plan.update(branch, one.event, one.event_id)
        yield t_us, branch


def _checked(catalog: Declared, given: Given | Received) -> tuple[Event, int]:
    if isinstance(given, Event):
        return check_event(catalog, given, now_us=LAST_US), given.at_us
    if isinstance(given, Received):
        return check_event(catalog, given.event, now_us=LAST_US), given.received_us
    if given.get("at") is None:
        raise MalformedEvent("at", "a time (a replay has no now)", "nothing")
    if "received" not in given:
        event = event_from_dict(catalog, given, now_us=LAST_US)
        return event, event.at_us
    flat = {name: value for name, value in given.items() if name != "received"}
    event, received = event_from_dict(catalog, flat, now_us=LAST_US), given["received"]
    return event, event.at_us if received is None else instant_us(received, place="received")
