"""The same engine over a history: values as they were at given points.

A replay sorts the events by (time, id), drops ids that it has seen for the same view and entity (the first in
the given order wins) and judges nothing else: no lateness, no consent. An event at exactly a point's time is
included. With `as_seen` an event counts only from its time of receipt on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from edge_runtime.catalog.model import Ref
from edge_runtime.errors import MalformedEvent, MalformedRequest
from edge_runtime.serving.status import Status
from edge_runtime.session.admission import ViewState
from edge_runtime.session.event import (
    LAST_US,
    Event,
    check_event,
    content_id,
    event_from_dict,
    instant_us,
)
from edge_runtime.session.operators.vector import Resolve
from edge_runtime.session.plan import Declared, Plan, ViewPlan, compile_catalog
from edge_runtime.session.table import Table


class Replayable(Declared, Protocol):
    """A catalog that resolves references: `Catalog`."""

    def ref(self, text: str) -> Ref: ...


class Received(NamedTuple):
    """An event with its time of receipt, for `as_seen`."""

    event: Event
    received_us: int


class Seen(NamedTuple):
    """An event in its order: time, id, when it could be seen, itself."""

    at_us: int
    event_id: str
    seen_us: int
    event: Event


History = Mapping[tuple[str, str], Sequence[Seen]]
"""For each (view key, typed entity key) its distinct events, sorted."""


def replay(
    catalog: Replayable,
    events: Iterable[Event | Received | Mapping[str, object]],
    *,
    points: Sequence[Mapping[str, object]],
    refs: Sequence[str],
    as_seen: bool = False,
    resolve: Resolve | None = None,
) -> Table:
    """The values of `refs` at `points`.

    Args:
        events: Events, flat dicts (`{"type": "view", "user": "alice", "at": 1.7e9, ...}`, optionally with
            `received`), or `Received` pairs; in any order.
        points: each names the entities of the views, and `at` (aware datetime or Unix seconds).
        refs: features of session views, `view:feature` or `view@version:feature`.
        as_seen: leave out what was received after the point.
        resolve: the embedding of an item's bare id, for `decayed_mean_vector`.

    Raises:
        MalformedEvent: an event does not fit the catalog, or a dict has no `at`.
        MalformedRequest: a point without its entities or time, or a ref that is not of a session view.
        CatalogError: a ref that the catalog does not know.
    """
    plan = compile_catalog(catalog)
    found = [(text, catalog.ref(text)) for text in refs]
    for text, ref in found:
        if ref.view not in plan.views:
            raise MalformedRequest(f"refs.{text}", "a feature of a session view", "one of another source")
    history = sort_history(catalog, plan, events)
    columns: dict[str, list[object]] = {}
    for view_key in dict.fromkeys(ref.view for _, ref in found):
        wanted = [(text, ref.feature) for text, ref in found if ref.view == view_key]
        columns.update(_view_columns(plan.views[view_key], history, points, wanted, as_seen, resolve))
    ordered = {text: columns[text] for text in refs}
    return Table(ordered, {text: [status_of(value) for value in ordered[text]] for text in ordered})


def status_of(value: object) -> Status:
    """The status of a raw session value."""
    return Status.NULL if value is None else Status.PRESENT


def sort_history(
    catalog: Declared, plan: Plan, events: Iterable[Event | Received | Mapping[str, object]]
) -> History:
    """Checked, distinct and sorted events for each view and entity.

    Raises:
        MalformedEvent: as `replay`.
    """
    ordinals: dict[str, int] = defaultdict(int)
    found: dict[tuple[str, str], dict[str, Seen]] = defaultdict(dict)
    for given in events:
        event, received_us = _checked(catalog, given)
        event_id = event.id
        if event_id is None:
            content = content_id(event, 0)
            event_id = content_id(event, ordinals[content])
            ordinals[content] += 1
        seen = Seen(event.at_us, event_id, max(event.at_us, received_us), event)
        for route in plan.routes[event.type]:
            found[route.view_key, route.entity_of(event)].setdefault(event_id, seen)
    return {key: sorted(distinct.values(), key=_order) for key, distinct in found.items()}


def states_at(
    plan: ViewPlan, events: Sequence[Seen], times_us: Sequence[int], *, as_seen: bool = False
) -> Iterable[tuple[int, ViewState]]:
    """For each of `times_us`, which must not fall, the state of one entity (reused for the next)."""
    if as_seen:
        for t_us in times_us:
            yield t_us, _fed(plan, [e for e in events if e.seen_us <= t_us])
        return
    state, position = plan.new_state(), 0
    for t_us in times_us:
        while position < len(events) and events[position].at_us <= t_us:
            plan.update(state, events[position].event, events[position].event_id)
            position += 1
        yield t_us, state


def _fed(plan: ViewPlan, events: Sequence[Seen]) -> ViewState:
    state = plan.new_state()
    for one in events:
        plan.update(state, one.event, one.event_id)
    return state


def _view_columns(
    plan: ViewPlan,
    history: History,
    points: Sequence[Mapping[str, object]],
    wanted: Sequence[tuple[str, str]],
    as_seen: bool,
    resolve: Resolve | None,
) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {text: [None] * len(points) for text, _ in wanted}
    by_entity: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, point in enumerate(points):
        entity, t_us = _point(plan, number, point)
        by_entity[entity].append((t_us, number))
    for entity, asked in by_entity.items():
        asked.sort()
        events = history.get((plan.view.key, entity), ())
        states = states_at(plan, events, [t_us for t_us, _ in asked], as_seen=as_seen)
        for (t_us, state), (_, number) in zip(states, asked, strict=True):
            for text, feature in wanted:
                columns[text][number] = plan.read_one(state, feature, t_us, resolve)
    return columns


def _point(plan: ViewPlan, number: int, point: Mapping[str, object]) -> tuple[str, int]:
    ids = []
    for kind in plan.view.entity:
        bare = point.get(kind)
        if not isinstance(bare, str) or not bare:
            raise MalformedRequest(f"points[{number}].{kind}", "an id", type(bare).__name__)
        ids.append(f"{kind}:{bare}")
    try:
        return "|".join(ids), instant_us(point.get("at"))
    except MalformedEvent as error:
        raise MalformedRequest(f"points[{number}].at", error.expected, error.got) from None


def _checked(catalog: Declared, given: Event | Received | Mapping[str, object]) -> tuple[Event, int]:
    if isinstance(given, Received):
        return check_event(catalog, given.event, now_us=LAST_US), given.received_us
    if isinstance(given, Event):
        return check_event(catalog, given, now_us=LAST_US), given.at_us
    if given.get("at") is None:
        raise MalformedEvent("at", "a time (a replay has no now)", "nothing")
    flat = {name: value for name, value in given.items() if name != "received"}
    event = event_from_dict(catalog, flat, now_us=LAST_US)
    received = given.get("received")
    received_us = event.at_us if received is None else instant_us(received, place="received")
    return event, received_us


def _order(one: Seen) -> tuple[int, str]:
    return one.at_us, one.event_id
