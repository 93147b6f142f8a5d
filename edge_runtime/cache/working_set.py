"""Session states in memory: loaded on demand, stored again in time, let go when there are too many.

A state is its last stored snapshot plus the journal entries after it, so a crash loses nothing that was
acknowledged and a cold load replays only a short tail.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from edge_runtime.cache.database import Database
from edge_runtime.cache.group_commit import DAY_US, JournalEntry, Snapshot, open_entry, open_state
from edge_runtime.clock import Clock
from edge_runtime.errors import StateUnreadable
from edge_runtime.keys.keyring import DataKey
from edge_runtime.session.plan import ViewPlan, ViewState


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

    def __init__(self, database: Database, clock: Clock, limit: int, snapshot_every: int) -> None:
        self._database, self._clock = database, clock
        self._limit, self._snapshot_every = limit, snapshot_every
        self._live: OrderedDict[bytes, LiveState] = OrderedDict()
        self._since_snapshot: dict[bytes, int] = {}

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
        with self._database.read() as tx:
            sealed = tx.state(live.key.handle, live.slot)
            tail = tx.events(live.key.handle)
            trimmed = tx.events_dropped(live.key.handle)
        entries = [(n, open_entry(live.key, row)) for n, row in tail]
        through = 0
        if sealed is not None:
            stored = open_state(live.key, live.slot, sealed)
            try:
                live.state = live.plan.load(stored.dump)
                through, live.complete_from_us = stored.through, stored.complete_from_us
            except StateUnreadable:  # made under other definitions: refill from what the journal still holds
                if trimmed:
                    oldest = min((e.received_us for _, e in entries), default=self._clock.now_us())
                    live.complete_from_us = oldest
        for n, entry in entries:
            if n > through and live.slot in entry.slots:
                live.plan.apply(live.state, entry.event, entry.event_id, entry.received_us)
                live.changed = True

    def journal(self, live: LiveState) -> tuple[bool, list[JournalEntry]]:
        """(whole, entries): the journalled events of this state; `whole` when none was ever dropped."""
        with self._database.read() as tx:
            rows = tx.events(live.key.handle)
            whole = not tx.events_dropped(live.key.handle)
        entries = [open_entry(live.key, row) for _, row in rows]
        return whole, [e for e in entries if live.slot in e.slots]

    def touched(self, handle: bytes) -> None:
        """One more event was applied under this handle."""
        self._since_snapshot[handle] = self._since_snapshot.get(handle, 0) + 1

    def due(self, everything: bool) -> list[Snapshot]:
        """States to store now: those of handles with enough new events, or every changed one."""
        handles = {
            h for h, count in self._since_snapshot.items() if everything or count >= self._snapshot_every
        }
        if not handles:
            return []
        now_us = self._clock.now_us()
        snapshots = []
        for live in self._live.values():
            if live.changed and live.stored and live.key.handle in handles:
                keep_from_day = (now_us - live.keep_events_us) // DAY_US
                dump = live.plan.dump(live.state)
                snapshots.append(Snapshot(live.key, live.slot, dump, live.complete_from_us, keep_from_day))
                live.changed = False
        for handle in handles:
            del self._since_snapshot[handle]
        return snapshots

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
        return len(gone)
