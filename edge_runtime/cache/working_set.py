"""Session states in memory: loaded on demand, stored again in time, let go when there are too many.

A state is its last stored snapshot plus the journal entries after it, so a crash loses nothing that was
acknowledged and a cold load replays only a short tail.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edge_runtime.cache.database import Database
from edge_runtime.cache.histories import Known
from edge_runtime.cache.journal_entry import DAY_US, JournalEntry, JournalRow, open_entries
from edge_runtime.cache.past import Past, Place
from edge_runtime.cache.since import Since, known_since
from edge_runtime.cache.stored_state import (
    ADDED,
    COVERED,
    Snapshot,
    StoredState,
    day_of,
    open_added,
    open_covered,
    open_state,
)
from edge_runtime.cache.stored_state import slot_of as slot_of
from edge_runtime.catalog.model import EventType
from edge_runtime.clock import Clock
from edge_runtime.errors import StateUnreadable
from edge_runtime.keys.keyring import DataKey
from edge_runtime.session.event import Event
from edge_runtime.session.plan import Plan, ViewPlan, ViewState
from edge_runtime.wire.printing import prints_only

SNAPSHOT_BYTES_PER_EVENT = 128
"""Most bytes of snapshots that are written for each event, so that a state that remembers much is not written
all the time; the tail that a cold load replays grows with the state it loads."""
HANDLES_AT_ONCE = 4
"""Most handles whose states one commit stores: taking them takes time in which nobody can track."""
_AT_ONCE = 1 << 62
"""As many events as make any handle's states due."""


@prints_only("stored", "changed", "version")
@dataclass(slots=True)
class LiveState:
    """One view's state of one entity, in memory."""

    plan: ViewPlan
    entity: str
    slot: bytes
    key: DataKey
    state: ViewState
    keep_events_us: int
    stored: bool
    """Whether the purpose may rest on disk at all (`retention = "session"` may not)."""
    changed: bool = False
    version: int = 0
    """Grows with every event that the state takes in; whoever keeps values read from it compares."""
    since: Since = field(default_factory=dict)
    """Since when its statistics are known; those that are whole have no entry."""
    incomplete: dict[str, int] = field(default_factory=dict)
    """Feature -> since when every event that it needs is known; those that are whole have no entry."""

    def known_since(self, since: Since) -> None:
        """Since when its statistics are known."""
        self.since = since
        names = self.plan.names if since else ()
        found = {name: known_since(since, self.plan.statistics_of(name)) for name in names}
        self.incomplete = {name: since_us for name, since_us in found.items() if since_us is not None}


class WorkingSet:
    """The live states, least recently used first. The runtime's lock guards every call."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        plan: Plan,
        events: Mapping[str, EventType],
        known: Known,
        limit: int,
        snapshot_every: int,
    ) -> None:
        self._database, self._clock, self._plan = database, clock, plan
        self._events, self._known = events, known
        self._limit, self._snapshot_every = limit, snapshot_every
        self._live: OrderedDict[bytes, LiveState] = OrderedDict()
        self.departed = 0
        """Counts the times that states left memory: who keeps one must find it again when it has grown."""
        self._since_snapshot: dict[bytes, int] = {}
        self._dumped_bytes: dict[bytes, int] = {}
        """Handle -> size of its last snapshot."""
        self._unstored: dict[bytes, dict[bytes, Event]] = {}
        """Handle -> slot of a state that is not in memory and not stored with all its events -> one of them.
        A crash leaves such; known from the first time that a handle is touched."""

    def __len__(self) -> int:
        return len(self._live)

    @property
    def full(self) -> bool:
        """Whether states should be let go (the runtime flushes, then calls `let_go`)."""
        return len(self._live) > self._limit

    def find(self, slot: bytes) -> LiveState | None:
        """The live state of `slot` if it is in memory; marks it as used."""
        live = self._live.get(slot)
        if live is not None:
            self._live.move_to_end(slot)
        return live

    def load(
        self, plan: ViewPlan, entity: str, slot: bytes, key: DataKey, keep_events_us: int, stored: bool
    ) -> LiveState:
        """Bring a state into memory: snapshot plus journal tail, or an empty one."""
        live = LiveState(plan, entity, slot, key, plan.new_state(), keep_events_us, stored)
        if stored:
            self._restore(live)
        self.departed += slot in self._live
        self._live[slot] = live
        return live

    def _restore(self, live: LiveState) -> None:
        handle = live.key.handle
        with self._database.read() as tx:
            sealed = tx.state(handle, live.slot)
            stored = None if sealed is None else open_state(live.key, live.slot, sealed)
            added = open_added(live.key, tx.state(handle, ADDED)) if stored is None else {}
            covered = open_covered(live.key, tx.state(handle, COVERED))
            tail = [(n, e) for n, row in tx.events(handle, covered) for e in open_entries(live.key, row)]
        if handle not in self._unstored:
            self._unstored[handle] = {slot: e.event for _, e in tail for slot in e.slots}
        self._unstored[handle].pop(live.slot, None)
        try:
            through = self._take(live, stored, added)
        except StateUnreadable:
            self._rebuild(live)
            return
        for n, entry in tail:
            if n > through and live.slot in entry.slots:
                live.plan.apply(live.state, entry.event, entry.event_id, entry.received_us)
                self._change(live)

    def _take(self, live: LiveState, stored: StoredState | None, added: Mapping[str, Since]) -> int:
        """Take the stored state, or what is known of one that has none; returns the row it stands at."""
        if stored is None:
            live.known_since(added.get(live.plan.view.key, {}))
            return 0
        live.state = live.plan.load(stored.dump)
        live.known_since(stored.since)
        return stored.through

    def _rebuild(self, live: LiveState) -> None:
        """The stored state is damaged: make it from what the journal still holds."""
        past = self._past(live.key)
        names = {one.name: 0 for one in live.plan.statistics}
        live.state = past.filled(live.plan, live.entity, live.plan.new_state(), names)
        live.known_since(past.since(live.plan, names))
        self._change(live)

    def _past(self, key: DataKey) -> Past:
        with self._database.read() as tx:
            return Past(key, self._known, self._plan, self._events, tx, self._clock.now_us())

    def _change(self, live: LiveState) -> None:
        """It is no longer as it is stored."""
        live.changed = True
        self._since_snapshot.setdefault(live.key.handle, 0)

    def ended(self, live: LiveState) -> None:
        """Retention has ended what was in a state: the next commit stores it empty.

        So a clock that is set back, a crash or a restart revives nothing that a read has called gone.
        """
        live.version += 1
        if live.stored:
            live.changed = True
            self._since_snapshot[live.key.handle] = _AT_ONCE

    def journal(self, live: LiveState) -> tuple[bool, list[JournalEntry]]:
        """(whole, entries): the journalled events of this state; `whole` when none was ever dropped."""
        past = self._past(live.key)
        place = Place(live.plan.view.key, live.entity)
        return not past.floor_us, [one.entry for one in past.places.get(place, ())]

    def due(self, everything: bool, batch: Iterable[JournalRow]) -> tuple[list[Snapshot], bool]:
        """(states to store with this batch, whether more are due).

        Of a handle with enough new events, or of all, every state that changed. Nobody can track meanwhile,
        so a few handles have their turn at a time, unless `everything` is asked.
        """
        for row in batch:
            handle = row.key.handle
            self._since_snapshot[handle] = self._since_snapshot.get(handle, 0) + len(row)
        ripe = [handle for handle in self._since_snapshot if everything or self._ripe(handle)]
        handles = set(ripe if everything else ripe[:HANDLES_AT_ONCE])
        if not handles:
            return [], False
        self._bring_unstored(handles)
        now_us = self._clock.now_us()
        dumped = dict.fromkeys(handles, 0)
        snapshots: list[Snapshot] = []
        for live in self._live.values():
            if live.changed and live.stored and live.key.handle in handles:
                keep_from_day = (now_us - live.keep_events_us) // DAY_US
                dump, view = live.plan.dump(live.state), live.plan.view.key
                days = day_of(live.state.newest_us, now_us), keep_from_day
                snapshots.append(Snapshot(live.key, live.slot, view, live.entity, dump, live.since, *days))
                dumped[live.key.handle] += len(dump)
                live.changed = False
        for handle in handles:
            del self._since_snapshot[handle]
            self._dumped_bytes[handle] = dumped[handle]
        return snapshots, len(handles) < len(ripe)

    def _ripe(self, handle: bytes) -> bool:
        """Whether enough events came since the last snapshot: a big one must not be written all the time."""
        big = self._dumped_bytes.get(handle, 0) // SNAPSHOT_BYTES_PER_EVENT
        return self._since_snapshot[handle] >= max(self._snapshot_every, big)

    def missed(self, snapshots: list[Snapshot]) -> None:
        """These could not be stored: they are as changed as they were."""
        for snapshot in snapshots:
            live = self._live.get(snapshot.slot)
            if live is not None and live.key is snapshot.key:
                self._change(live)

    def _bring_unstored(self, handles: set[bytes]) -> None:
        """Load what a crash left in the journal only: storing others of its handle lets the journal go."""
        for one in [live for live in self._live.values() if live.key.handle in handles and live.stored]:
            for slot, event in self._unstored.pop(one.key.handle, {}).items():
                self._bring(slot, event, one)
            self._unstored[one.key.handle] = {}

    def _bring(self, slot: bytes, event: Event, sibling: LiveState) -> None:
        for route in self._plan.routes.get(event.type, ()):
            entity = route.entity_of(event)
            if slot_of(route.view_key, entity) == slot:
                plan = self._plan.views[route.view_key]
                self.load(plan, entity, slot, sibling.key, sibling.keep_events_us, stored=True)

    def let_go(self) -> None:
        """Drop the least recently used states that are stored and unchanged, down to the limit."""
        spare = len(self._live) - self._limit
        for slot in [s for s, live in self._live.items() if live.stored and not live.changed][
            : max(spare, 0)
        ]:
            del self._live[slot]
        self.departed += 1

    def forget(self, handles: set[bytes]) -> int:
        """Erase from memory every state under these handles; returns how many there were."""
        gone = [slot for slot, live in self._live.items() if live.key.handle in handles]
        for slot in gone:
            live = self._live.pop(slot)
            live.state = live.plan.new_state()
        for handle in handles:
            self._since_snapshot.pop(handle, None)
            self._dumped_bytes.pop(handle, None)
            self._unstored.pop(handle, None)
        self.departed += 1
        return len(gone)
