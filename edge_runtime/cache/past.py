"""What the journal of one key still tells: the events of each state, and since when they are whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from edge_runtime.cache.histories import Known, complete_from, holder_of
from edge_runtime.cache.journal_entry import JournalEntry, open_entries
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.since import Since, part
from edge_runtime.cache.stored_state import slot_of
from edge_runtime.catalog.model import EventType, Scalar
from edge_runtime.keys.keyring import DataKey
from edge_runtime.session.event import Event
from edge_runtime.session.plan import Plan, ViewPlan, ViewState
from edge_runtime.wire.printing import prints_only

_FLOATS = ("float64", "float32")
_PYTHON: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(_FLOATS, (float, int)),
    **dict.fromkeys(("int64", "time"), (int,)),
    "bool": (bool,),
    "string": (str,),
}
"""What a journalled property of a declared type may be."""


@prints_only("view_key")
class Place(NamedTuple):
    """Whose state in which view."""

    view_key: str
    entity: str


class Numbered(NamedTuple):
    """An entry and the journal row that holds it."""

    row: int
    entry: JournalEntry


class Past:
    """The journal of `key` at `now_us`, under the catalog in use; only what follows row `after`.

    An entry feeds a state that took it. It also feeds one whose view did not listen to such events then: what
    other views of the purpose were given belongs to a feature that is added later, as a replay would have it.

    Attributes:
        entries: all of them, in order of arrival.
        places: for each state the entries that feed it, in order of arrival.
        floor_us: since when the journal is whole; 0 for always.
    """

    def __init__(
        self,
        key: DataKey,
        known: Known,
        plan: Plan,
        events: Mapping[str, EventType],
        tx: ReadTransaction,
        now_us: int,
        after: int = 0,
    ) -> None:
        self._key, self._known, self._plan, self._now_us = key, known, plan, now_us
        self._holder = holder_of(key)
        self.entries = [
            Numbered(n, e) for n, row in tx.events(key.handle, after) for e in open_entries(key, row)
        ]
        self.floor_us = 0
        if tx.events_dropped(key.handle):
            self.floor_us = min((one.entry.received_us for one in self.entries), default=now_us)
        self.places: dict[Place, list[Numbered]] = defaultdict(list)
        for one in self.entries:
            self._enter(one, events)

    def since(self, plan: ViewPlan, missing: Mapping[bytes, int]) -> Since:
        """Since when the journal knows every event of what `ViewPlan.carry` missed.

        Those that it knows whole are left out.
        """
        found = {}
        for one in plan.statistics:
            if one.name in missing:
                since_us = complete_from(self._known, self._key, plan.view.key, one.events, self.floor_us)
                if since_us:
                    found[part(one.name, missing[one.name])] = since_us
        return found

    def filled(self, plan: ViewPlan, entity: str, kept: ViewState, missing: Mapping[bytes, int]) -> ViewState:
        """`kept` with what `ViewPlan.carry` missed made from the journal; `kept` is used up."""
        past, waiting = plan.new_state(), {one.event_id for one in kept.waiting}
        for entry in self._distinct(Place(plan.view.key, entity)):
            if entry.event_id not in waiting:
                ahead = entry.event.at_us > self._now_us and entry.event_id not in kept.ids
                arrived_us = self._now_us if ahead else max(entry.received_us, entry.event.at_us)
                plan.apply(past, entry.event, entry.event_id, arrived_us)
        return plan.graft(kept, missing, past)

    def _distinct(self, place: Place) -> Iterable[JournalEntry]:
        """The entries of a place by (time, id), the first of each id."""
        first: dict[str, JournalEntry] = {}
        for one in self.places.get(place, ()):
            first.setdefault(one.entry.event_id, one.entry)
        return sorted(first.values(), key=lambda entry: (entry.event.at_us, entry.event_id))

    def _enter(self, one: Numbered, events: Mapping[str, EventType]) -> None:
        event, whole = _fitted(one.entry.event, events)
        if event is None:
            return
        if not whole:  # a feature that reads what was declared otherwise knows all from the next event on
            self.floor_us = max(self.floor_us, one.entry.received_us + 1)
        entry = JournalEntry(event, one.entry.event_id, one.entry.received_us, one.entry.slots)
        for place in self._fed_by(one.row, entry):
            self.places[place].append(Numbered(one.row, entry))

    def _fed_by(self, row: int, entry: JournalEntry) -> Iterable[Place]:
        event, holder = entry.event, self._holder
        kind = holder.partition("/")[0]
        if kind and f"{kind}:{event.entities.get(kind)}" != self._key.subject:
            return
        for route in self._plan.routes.get(event.type, ()):
            fed = self._known.views.get(route.view_key)
            if fed is None or fed.holder != holder or row <= fed.moved_row:
                continue
            place = Place(route.view_key, route.entity_of(event))
            if row <= fed.listened[event.type] or slot_of(*place) in entry.slots:
                yield place


def _fitted(event: Event, events: Mapping[str, EventType]) -> tuple[Event | None, bool]:
    """(the event as the catalog declares its type now, whether nothing had to be left out of it).

    Of a type that is no longer declared, or that now names an entity which the event does not, there is none.
    """
    declared = events.get(event.type)
    if declared is None:
        return None, True
    if any(kind not in event.entities for kind in declared.entities):
        return None, False
    fitting: dict[str, Scalar] = {}
    for name, value in event.properties.items():
        dtype = declared.properties.get(name)
        if dtype is not None and type(value) in _PYTHON.get(dtype.kind, ()):
            fitting[name] = float(value) if dtype.kind in _FLOATS else value
    left_out = [name for name in event.properties if name in declared.properties and name not in fitting]
    return Event(event.type, event.entities, fitting, event.at_us, event.id), not left_out
