"""The same engine over a history: an entity's state as it was at given times.

A history is sorted by (time, id); an id that was seen for the same view and entity is dropped (the first in
the given order wins) and nothing else is judged: no lateness, no consent. An event at exactly a time is
included. As seen, an event counts only from its time of receipt on, and of one id the first received wins, as
a device would have taken it.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise, repeat
from operator import attrgetter, lt
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
from edge_runtime.session.plan import Declared, Plan, Route, ViewPlan
from edge_runtime.session.usual_event import Read, usual_readers
from edge_runtime.wire.printing import prints_only

Given = Event | Mapping[str, object]
"""An event as callers hand it in, or a flat dict (`{"type": "view", "user": "alice", "at": 1.7e9, ...}`)."""
Place = tuple[str, str]
"""A session view's key and the typed entity whose state it is."""
CONTENT_ID_LENGTH = 32
"""Characters of a content id."""
TOLD = 4096
"""Events between two calls of `told`."""
_at_us, _id = attrgetter("at_us"), attrgetter("id")


class Received(NamedTuple):
    """An event with its time of receipt; a flat dict says it as `received`."""

    event: Event
    received_us: int


class Story:
    """The events of one wanted place, as given; as seen also when each was received."""

    __slots__ = ("events", "received")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.received: list[int] = []


@prints_only()
class History(NamedTuple):
    """The distinct events of one place by (time, id): four columns.

    An id is only told where it was given or where another event has the same time: nothing else compares it.
    """

    times_us: Sequence[int]
    ids: Sequence[str]
    events: Sequence[Event]
    received_us: Sequence[int]
    """Empty unless events are taken as seen."""

    def by(self, n: int, t_us: int) -> bool:
        """Whether event `n` counts at `t_us` as seen: received, and not before its own time."""
        return self.times_us[n] <= t_us and self.received_us[n] <= t_us


class Histories:
    """The events of the entities that are asked about; every other event is only checked."""

    def __init__(
        self, catalog: Declared, plan: Plan, wanted: Collection[Place], *, as_seen: bool = False
    ) -> None:
        self._catalog, self._as_seen = catalog, as_seen
        self._types = {key: view.view.entity for key, view in plan.views.items()}
        self._views: dict[str, dict[str, Story]] = {key: {} for key in plan.views}
        for view_key, entity in wanted:
            self._views[view_key][self._place_in(view_key, entity)] = Story()
        self._routes = {kind: self._routed(routes) for kind, routes in plan.routes.items()}
        readers = usual_readers(catalog.events)
        self._usual: dict[object, tuple[Read, list[_Routed]]] = {
            kind: (read, self._routes[kind]) for kind, read in readers.items()
        }

    def take_all(
        self,
        events: Iterable[Given | Received],
        numbers: Iterable[int],
        told: Callable[[int], None] | None = None,
    ) -> None:
        """Check events, numbered by `numbers`, and keep each where it is wanted.

        `told` is called now and then, and at the end, with how many were taken.

        Raises:
            MalformedEvent: one does not fit the catalog, or has no time; the place begins `events[number]`.
        """
        usual, slowly, as_seen, taken = self._usual, self._take, self._as_seen, 0
        for number, given in zip(numbers, events, strict=False):
            kind = given.get("type") if type(given) is dict else None
            entry = usual.get(kind) if kind.__class__ is str else None
            event = None if entry is None else entry[0](given)
            if entry is None or event is None:
                slowly(number, given)
            else:
                for stories, only, entity_of in entry[1]:
                    story = stories.get(entity_of(event) if only is None else event.entities[only])
                    if story is not None:
                        story.events.append(event)
                        if as_seen:
                            story.received.append(event.at_us)
            taken += 1
            if told is not None and not taken % TOLD:
                told(taken)
        if told is not None:
            told(taken)

    def sorted(self, place: Place) -> History:
        """The events of a wanted place by (time, id); they are given away, not kept beside."""
        view_key, entity = place
        return _history(self._views[view_key].pop(self._place_in(view_key, entity)))

    def _routed(self, routes: Sequence[Route]) -> list[_Routed]:
        """Where the stories of a type's views are found: by the bare id, or, of several ids, by their key."""
        found: list[_Routed] = []
        for view_key, entity_of in routes:
            types = self._types[view_key]
            found.append((self._views[view_key], types[0] if len(types) == 1 else None, entity_of))
        return found

    def _place_in(self, view_key: str, entity: str) -> str:
        types = self._types[view_key]
        return entity[len(types[0]) + 1 :] if len(types) == 1 else entity

    def _take(self, number: int, given: Given | Received) -> None:
        """Take what is not a usual flat dict."""
        try:
            event, received_us = _checked(self._catalog, given)
        except MalformedEvent as error:
            raise MalformedEvent(f"events[{number}].{error.place}", error.expected, error.got) from None
        for stories, only, entity_of in self._routes[event.type]:
            story = stories.get(entity_of(event) if only is None else event.entities[only])
            if story is not None:
                story.events.append(event)
                if self._as_seen:
                    story.received.append(received_us)


_Routed = tuple[dict[str, Story], str | None, Callable[[Event], str]]
"""A view's stories by bare id of this entity type; where that is None, by the key that the function gives."""


def states_at(
    plan: ViewPlan, history: History, times_us: Sequence[int], *, as_seen: bool = False
) -> Iterable[tuple[int, ViewState]]:
    """For each of `times_us`, which must not fall, the state of one entity (reused for the next)."""
    if as_seen:
        yield from _seen_states(plan, history, times_us)
        return
    state, position, update = plan.new_state(), 0, plan.update
    for t_us in times_us:
        end = bisect_right(history.times_us, t_us, lo=position)
        if end > position:
            fed = map(update, repeat(state), history.events[position:end], history.ids[position:end])
            deque(fed, maxlen=0)  # runs it, and keeps nothing
            position = end
        yield t_us, state


def _seen_states(
    plan: ViewPlan, history: History, times_us: Sequence[int]
) -> Iterable[tuple[int, ViewState]]:
    """One state runs up to the first event not received yet; what was received beyond it goes on a copy."""
    state, position, events, ids = plan.new_state(), 0, history.events, history.ids
    for t_us in times_us:
        while position < len(events) and history.by(position, t_us):
            plan.update(state, events[position], ids[position])
            position += 1
        end = bisect_right(history.times_us, t_us, lo=position)
        beyond = [n for n in range(position, end) if history.by(n, t_us)]
        branch = copy.deepcopy(state) if beyond else state
        for n in beyond:
            plan.update(branch, events[n], ids[n])
        yield t_us, branch


def _history(story: Story) -> History:
    events, received = story.events, story.received
    given: list[str | None] = list(map(_id, events))
    ids = list(filter(None, given))
    if len(ids) < len(given) and CONTENT_ID_LENGTH in map(len, ids):
        ids = _content_ids(events)  # a given id may be what another event is going to get
        given = [*ids]
    if len(set(ids)) < len(ids):
        kept = _first_of_each(given, received)
        events, given = [events[n] for n in kept], [given[n] for n in kept]
        received = [received[n] for n in kept] if received else received
    times = list(map(_at_us, events))
    order = None
    if not all(map(lt, times, times[1:])):
        order = sorted(range(len(times)), key=times.__getitem__)
        _order_ties(order, times, events, given)
        events, given = [events[n] for n in order], [given[n] for n in order]
        times = [times[n] for n in order]
        received = [received[n] for n in order] if received else received
    return History(times, [one or "" for one in given], events, received)


def _first_of_each(ids: Sequence[str | None], received: Sequence[int]) -> list[int]:
    """The numbers of the events that stay: of one id the first given, as seen the first received."""
    first: dict[str, int] = {}
    for n, event_id in enumerate(ids):
        if event_id is not None:
            known = first.setdefault(event_id, n)
            if received and received[n] < received[known]:
                first[event_id] = n
    return [n for n, event_id in enumerate(ids) if event_id is None or first[event_id] == n]


def _order_ties(
    order: list[int], times: Sequence[int], events: Sequence[Event], ids: list[str | None]
) -> None:
    """Bring the events of one time, which stand as given, into the order of their ids; give them one."""
    ends = [n for n, (one, other) in enumerate(pairwise(order), 1) if times[one] < times[other]]
    start = 0
    for end in (*ends, len(order)):
        if end - start > 1:
            tied = order[start:end]
            named = [one for n in tied if (one := ids[n]) is not None]
            if len(named) < len(tied):
                named = _content_ids([events[n] for n in tied])
                for n, event_id in zip(tied, named, strict=True):
                    ids[n] = event_id
            order[start:end] = [n for _, n in sorted(zip(named, tied, strict=True))]
        start = end


def _content_ids(events: Sequence[Event]) -> list[str]:
    """The ids of events in the order given; without one that of the first ordinal that is new."""
    known: set[str] = set()
    repeats: dict[str, int] = {}
    ids: list[str] = []
    for event in events:
        event_id = content_id(event, 0) if event.id is None else event.id
        if event.id is None and event_id in known:
            content, ordinal = event_id, repeats.get(event_id, 0)
            while event_id in known:
                ordinal += 1
                event_id = content_id(event, ordinal)
            repeats[content] = ordinal
        known.add(event_id)
        ids.append(event_id)
    return ids


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
