"""Session states in memory: loaded on demand, stored again in time, let go when there are too many.

A state is its last stored snapshot plus the journal entries after it, so a crash loses nothing that was
acknowledged and a cold load replays only a short tail.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from edge_runtime.cache.database import Database
from edge_runtime.cache.histories import Histories
from edge_runtime.cache.journal_entry import DAY_US, JournalEntry, open_entries
from edge_runtime.cache.stored_state import COVERED, Snapshot, open_covered, open_state
from edge_runtime.clock import Clock
from edge_runtime.errors import StateUnreadable
from edge_runtime.keys.keyring import DataKey
from edge_runtime.session.event import Event
from edge_runtime.session.plan import Plan, ViewPlan, ViewState


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
    complete_from_us: int | None = None
    """Since when every event is in it; None when its whole history is."""


def slot_of(view_key: str, entity: str) -> bytes:
    """The 16-byte name of one (view, entity) under its random handle."""
    return hashlib.blake2b(f"{view_key}\x00{entity}".encode(), digest_size=16, person=b"edge-slot").digest()


class WorkingSet:
    """The live states, least recently used first. The runtime's lock guards every call."""

    def __init__(self, database: Database, clock: Clock, plan: Plan, limit: int, snapshot_every: int) -> None:
        self._database, self._clock, self._plan = database, clock, plan
        self._limit, self._snapshot_every = limit, snapshot_every
        self._histories = Histories(database, plan, clock.now_us())
        self._live: OrderedDict[bytes, LiveState] = OrderedDict()
        self._since_snapshot: dict[bytes, int] = {}
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
        self._live[slot] = live
        return live

    def _restore(self, live: LiveState) -> None:
        handle = live.key.handle
        with self._database.read() as tx:
            sealed = tx.state(handle, live.slot)
            covered = open_covered(live.key, tx.state(handle, COVERED))
            tail = [(n, e) for n, row in tx.events(handle, covered) for e in open_entries(live.key, row)]
        if handle not in self._unstored:
            self._unstored[handle] = {slot: e.event for _, e in tail for slot in e.slots}
        self._unstored[handle].pop(live.slot, None)
        through = self._stored(live, sealed)
        if through is None:
            self._refill(live)
            return
        for n, entry in tail:
            if n > through and live.slot in entry.slots:
                live.plan.apply(live.state, entry.event, entry.event_id, entry.received_us)
                self._change(live)

    def _stored(self, live: LiveState, sealed: bytes | None) -> int | None:
        """Take the stored state; returns the journal row it stands at, None when there is a past without one.

        That is so for a view that was not there all the time, and for one made under other definitions.
        """
        since_us = self._histories.since_us(live.plan)
        if sealed is None:
            return None if live.key.at_us < since_us else 0
        stored = open_state(live.key, live.slot, sealed)
        if stored.since_us != since_us:
            return None
        try:
            live.state = live.plan.load(stored.dump)
        except StateUnreadable:
            return None
        live.complete_from_us = stored.complete_from_us
        return stored.through

    def _refill(self, live: LiveState) -> None:
        """Make the state from what the journal still holds, and note from when on it is whole."""
        with self._database.read() as tx:
            rows, trimmed = tx.events(live.key.handle), tx.events_dropped(live.key.handle)
        journal = [e for _, row in rows for e in open_entries(live.key, row)]
        known = {e.event_id: e for e in reversed(journal) if self._feeds(e.event, live)}
        for entry in sorted(known.values(), key=lambda e: (e.event.at_us, e.event_id)):
            arrived_us = max(entry.received_us, entry.event.at_us)
            live.plan.apply(live.state, entry.event, entry.event_id, arrived_us)
        whole_us = self._histories.journalled_us(live.plan)
        if trimmed:
            whole_us = max(whole_us, min((e.received_us for e in journal), default=self._clock.now_us()))
        live.complete_from_us = whole_us if trimmed or whole_us > live.key.at_us else None
        self._change(live)

    def _feeds(self, event: Event, live: LiveState) -> bool:
        routes = self._plan.routes.get(event.type, ())
        return any(r.view_key == live.plan.view.key and r.entity_of(event) == live.entity for r in routes)

    def _change(self, live: LiveState) -> None:
        """It is no longer as it is stored."""
        live.changed = True
        self._since_snapshot.setdefault(live.key.handle, 0)

    def journal(self, live: LiveState) -> tuple[bool, list[JournalEntry]]:
        """(whole, entries): the journalled events of this state; `whole` when none was ever dropped."""
        with self._database.read() as tx:
            rows = tx.events(live.key.handle)
            whole = not tx.events_dropped(live.key.handle)
        entries = [e for _, row in rows for e in open_entries(live.key, row)]
        return whole, [e for e in entries if live.slot in e.slots]

    def touched(self, handle: bytes) -> None:
        """One more event was applied under this handle."""
        self._since_snapshot[handle] = self._since_snapshot.get(handle, 0) + 1

    def due(self, everything: bool) -> list[Snapshot]:
        """States to store now: of handles with enough new events, or of all, every one that changed."""
        handles = {
            h for h, count in self._since_snapshot.items() if everything or count >= self._snapshot_every
        }
        if not handles:
            return []
        self._bring_unstored(handles)
        now_us = self._clock.now_us()
        snapshots = []
        for live in self._live.values():
            if live.changed and live.stored and live.key.handle in handles:
                keep_from_day = (now_us - live.keep_events_us) // DAY_US
                dump, since_us = live.plan.dump(live.state), self._histories.since_us(live.plan)
                one = Snapshot(live.key, live.slot, dump, live.complete_from_us, keep_from_day, since_us)
                snapshots.append(one)
                live.changed = False
        for handle in handles:
            del self._since_snapshot[handle]
        return snapshots

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

    def forget(self, handles: set[bytes]) -> int:
        """Erase from memory every state under these handles; returns how many there were."""
        gone = [slot for slot, live in self._live.items() if live.key.handle in handles]
        for slot in gone:
            live = self._live.pop(slot)
            live.state = live.plan.new_state()
        for handle in handles:
            self._since_snapshot.pop(handle, None)
            self._unstored.pop(handle, None)
        return len(gone)
