"""Session states in memory: loaded on demand, stored again in time, let go when there are too many.

A state is its last stored snapshot plus the journal entries after it, so a crash loses nothing that was
acknowledged and a cold load replays only a short tail.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
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
    is_empty,
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
CRAMPED_TIMES, ROOM_FOR_A_CHUNK = 2, 512
"""How far beyond their limit states may grow while none can be stored: so many times, and so many more."""
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


class Unstored:
    """States of one key that the journal tells of and no stored state does."""

    __slots__ = ("events", "keep_events_us", "key")

    def __init__(self, key: DataKey, keep_events_us: int, events: dict[bytes, Event]) -> None:
        self.key, self.keep_events_us = key, keep_events_us
        self.events = events
        """Slot -> one of its events."""


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
        self._unstored: dict[bytes, Unstored] = {}
        """Handle -> its states that are not in memory and not stored with all their events. A crash leaves
        such; known from the first time that a handle is touched."""
        self._full_at = limit

    def __len__(self) -> int:
        return len(self._live)

    @property
    def full(self) -> bool:
        """Whether states should be let go (the runtime flushes, then calls `let_go`)."""
        return len(self._live) > self._full_at

    @property
    def over(self) -> bool:
        """Whether there are more than the limit."""
        return len(self._live) > self._limit

    @property
    def cramped(self) -> bool:
        """Whether there is no room for one more, though none can be let go: the disk takes nothing."""
        return len(self._live) >= CRAMPED_TIMES * self._limit + ROOM_FOR_A_CHUNK

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
        self._note_unstored(live.key, live.keep_events_us, (entry for _, entry in tail))
        self._unstored[handle].events.pop(live.slot, None)
        try:
            through = self._take(live, stored, added)
        except StateUnreadable:
            self._rebuild(live)
            return
        for n, entry in tail:
            if n > through and live.slot in entry.slots:
                live.plan.apply(live.state, entry.event, entry.event_id, entry.received_us)
                self._change(live)

    def _note_unstored(self, key: DataKey, keep_events_us: int, tail: Iterable[JournalEntry]) -> None:
        if key.handle not in self._unstored:
            events = {slot: entry.event for entry in tail for slot in entry.slots}
            self._unstored[key.handle] = Unstored(key, keep_events_us, events)

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

    def due(
        self, everything: bool, batch: Iterable[JournalRow], whole: Collection[bytes] = ()
    ) -> tuple[list[Snapshot], bool]:
        """(states to store with this batch, whether more are due).

        Of a handle with enough new events, of those in `whole`, or of all, every state that changed. Nobody
        can track meanwhile, so a few handles have their turn at a time, unless `everything` is asked.
        """
        for row in batch:
            handle = row.key.handle
            self._since_snapshot[handle] = self._since_snapshot.get(handle, 0) + len(row)
        ripe = [handle for handle in self._since_snapshot if everything or self._ripe(handle)]
        handles = {*(ripe if everything else ripe[:HANDLES_AT_ONCE]), *whole}
        if not handles:
            return [], False
        self._bring_unstored(handles)
        now_us = self._clock.now_us()
        dumped = dict.fromkeys(handles, 0)
        snapshots: list[Snapshot] = []
        for live in self._live.values():
            if live.changed and live.stored and live.key.handle in handles:
                snapshots.append(_snapshot(live, now_us))
                dumped[live.key.handle] += len(snapshots[-1].dump)
                live.changed = False
        for handle in handles:
            self._since_snapshot.pop(handle, None)
            self._dumped_bytes[handle] = dumped[handle]
        return snapshots, not handles.issuperset(ripe)

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

    def _bring_unstored(self, handles: Iterable[bytes]) -> None:
        """Load what a crash left in the journal only: storing others of its handle lets the journal go."""
        for left in [self._unstored[handle] for handle in handles if handle in self._unstored]:
            for slot, event in list(left.events.items()):
                self._bring(slot, event, left)
            left.events.clear()

    def _bring(self, slot: bytes, event: Event, left: Unstored) -> None:
        for route in self._plan.routes.get(event.type, ()):
            entity = route.entity_of(event)
            if slot_of(route.view_key, entity) == slot:
                plan = self._plan.views[route.view_key]
                self.load(plan, entity, slot, left.key, left.keep_events_us, stored=True)

    def let_go(self) -> None:
        """Drop the least recently used states that are stored and unchanged, down to the limit."""
        spare = len(self._live) - self._limit
        for slot in [s for s, live in self._live.items() if live.stored and not live.changed][
            : max(spare, 0)
        ]:
            del self._live[slot]
        # where too few could go, it is not worth going through them again for each one more
        left = len(self._live)
        self._full_at = self._limit if left <= self._limit else left + self._limit // 16
        self.departed += 1

    # ---- what retention ends -----------------------------------------------------------------------------

    def settle(self, key: DataKey, keep_events_us: int) -> None:
        """Whatever the journal alone holds of a handle is stored by the next commit, and then covered."""
        handle = key.handle
        with self._database.read() as tx:
            covered = open_covered(key, tx.state(handle, COVERED))
            tail = [entry for _, row in tx.events(handle, covered) for entry in open_entries(key, row)]
        self._note_unstored(key, keep_events_us, tail)
        self._bring_unstored([handle])
        self._since_snapshot[handle] = _AT_ONCE

    def settled(self, handle: bytes) -> bool:
        """Whether every state of a handle is stored as it is."""
        left = self._unstored.get(handle)
        if handle in self._since_snapshot or (left is not None and left.events):
            return False
        return not any(live.changed and live.key.handle == handle for live in self._live.values())

    def newer_in_memory(self, handle: bytes, slot: bytes) -> bool:
        """Whether a state in memory holds more than its row: not one that ended there as well."""
        live = self._live.get(slot)
        if live is None or live.key.handle != handle:
            return False
        return live.changed and not is_empty(live.state)

    def newest_day(self, handle: bytes) -> int | None:
        """The day of the newest event of any state of a handle in memory; None where there is none."""
        lives = [live for live in self._live.values() if live.key.handle == handle]
        return max((day_of(one.state, {}, 0) for one in lives if not is_empty(one.state)), default=None)

    def end(self, handle: bytes, slots: Iterable[bytes]) -> int:
        """Let go of these states, whose rows went; returns how many were in memory."""
        gone = [slot for slot in slots if (live := self._live.get(slot)) and live.key.handle == handle]
        for slot in gone:
            live = self._live.pop(slot)
            live.state = live.plan.new_state()
        self.departed += bool(gone)
        return len(gone)

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


def _snapshot(live: LiveState, now_us: int) -> Snapshot:
    """A state as it is now; one that says nothing any more, not even what is missing, has an empty dump."""
    plan, state, since = live.plan, live.state, live.since
    over = all(us + plan.bridge_us < now_us for us in since.values())
    dump = b"" if over and is_empty(state) else plan.dump(state)
    days = day_of(state, since, now_us), (now_us - live.keep_events_us) // DAY_US
    return Snapshot(live.key, live.slot, plan.view.key, live.entity, dump, since, *days)
