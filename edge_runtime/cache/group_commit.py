"""Acknowledging events: what was tracked waits a moment, then goes to the journal in one transaction.

An event is acknowledged when a `flush` that covers it returns. The owner of the timer calls `flush` at least
every `commit_interval_us`, so that is the window in which a power cut can lose an event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.session.event import Event, from_bytes, to_bytes

DAY_US = 86_400_000_000

COVERED = bytes(16)
"""The slot that says up to which journal row every state of its handle is stored."""


class JournalEntry(NamedTuple):
    """One event under one purpose's key, with the states that took it."""

    key: DataKey
    event: Event
    event_id: str
    received_us: int
    slots: tuple[bytes, ...]
    """`slot_of(view, entity)` of each state that the event was applied to."""


class _Record(msgspec.Struct, frozen=True, array_like=True):
    event: bytes
    event_id: str
    received_us: int
    slots: tuple[bytes, ...]


class Snapshot(NamedTuple):
    """A state to store: it covers every event that was tracked when it was taken."""

    key: DataKey
    slot: bytes
    dump: bytes
    complete_from_us: int | None
    keep_from_day: int
    """Journalled events of this key received before this day are no longer needed."""
    since_us: int
    """Since when its view was fed."""


class GroupCommit:
    """Pending journal entries and the one way they reach the disk. Thread-safe.

    Args:
        database: where the journal lives.
        keyring: asked at commit time whether a key still lives: an erasure that came in between wins.
        due: called under `lock` at each flush, returns the states to store with this batch: of a handle all
            that are not stored as they are, or none.
        missed: called under `lock` with those states when they could not be stored.
        lock: the runtime's lock, held while the batch is taken and not while it is written.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        due: Callable[[bool], list[Snapshot]],
        missed: Callable[[list[Snapshot]], None],
        lock: threading.RLock,
    ) -> None:
        self._database, self._keyring, self._due, self._lock = database, keyring, due, lock
        self._missed = missed
        self._pending: list[JournalEntry] = []
        self._in_flight: list[JournalEntry] = []
        self._writing = threading.Lock()
        self.work = threading.Event()

    def add(self, entry: JournalEntry) -> None:
        """Queue an entry; the caller holds the runtime's lock."""
        self._pending.append(entry)
        if len(self._pending) == 1:
            self.work.set()

    @property
    def size(self) -> int:
        """Entries that wait for the next commit."""
        return len(self._pending)

    def forget(self, handles: Iterable[bytes]) -> int:
        """Drop pending entries under these handles; returns how many there were."""
        gone = set(handles)
        before = len(self._pending)
        self._pending = [e for e in self._pending if e.key.handle not in gone]
        return before - len(self._pending)

    def unwritten(self, handle: bytes) -> list[JournalEntry]:
        """Entries of a handle that may not be in the journal yet; the caller holds the runtime's lock."""
        return [e for e in (*self._in_flight, *self._pending) if e.key.handle == handle]

    def flush(self, *, everything: bool = False, then: Callable[[], None] = lambda: None) -> None:
        """Make everything tracked so far durable; `everything` also stores every changed state.

        Never call it under the runtime's lock. `then` runs under it, when nothing is on its way to the disk:
        an unchanged state is on the disk whole at that moment.

        Raises `StorageFull` with the batch kept for the next flush.
        """
        with self._writing:
            with self._lock:
                self._in_flight, self._pending = self._pending, []
                self.work.clear()
                snapshots = self._due(everything)
            try:
                if self._in_flight or snapshots:
                    self._write(self._in_flight, snapshots)
            except BaseException:
                with self._lock:
                    waiting = [entry for entry in self._in_flight if self._lives(entry.key)]
                    self._pending[:0], self._in_flight = waiting, []
                    self._missed(snapshots)
                    self.work.set()
                raise
            with self._lock:
                self._in_flight = []
                then()

    def _write(self, batch: list[JournalEntry], snapshots: list[Snapshot]) -> None:
        with self._database.write("journal") as tx:
            sealed = [_seal(entry) for entry in batch if self._lives(entry.key)]
            if sealed:
                tx.append_events(sealed)
            through: dict[bytes, int] = {}
            for snapshot in snapshots:
                if not self._lives(snapshot.key):
                    continue
                handle = snapshot.key.handle
                if handle not in through:
                    through[handle] = tx.newest_event(handle)
                    tx.drop_events(handle, through[handle], snapshot.keep_from_day)
                    tx.put_state(handle, COVERED, _seal_covered(snapshot.key, through[handle]))
                tx.put_state(handle, snapshot.slot, _seal_state(snapshot, through[handle]))

    def _lives(self, key: DataKey) -> bool:
        return self._keyring.by_handle(key.handle) is key


def open_entry(key: DataKey, sealed: bytes) -> JournalEntry:
    """The journal entry in a sealed row."""
    record = msgspec.msgpack.decode(key.open("journal", key.handle, sealed), type=_Record)
    return JournalEntry(key, from_bytes(record.event), record.event_id, record.received_us, record.slots)


class StoredState(msgspec.Struct, frozen=True, array_like=True):
    """A stored state, as it was when `through` was the newest journal row of its handle."""

    through: int
    complete_from_us: int | None
    """Since when every event is in it; None when its whole history is."""
    dump: bytes
    since_us: int


def open_state(key: DataKey, slot: bytes, sealed: bytes) -> StoredState:
    """The state in a sealed row."""
    return msgspec.msgpack.decode(key.open("state", slot, sealed), type=StoredState)


def open_covered(key: DataKey, sealed: bytes | None) -> int:
    """The row up to which every state of a handle is stored; 0 when none was."""
    return 0 if sealed is None else int.from_bytes(key.open("state", COVERED, sealed), "big")


def _seal_covered(key: DataKey, through: int) -> bytes:
    return key.seal("state", COVERED, through.to_bytes(8, "big"))


def _seal(entry: JournalEntry) -> tuple[bytes, int, bytes]:
    record = _Record(to_bytes(entry.event), entry.event_id, entry.received_us, entry.slots)
    sealed = entry.key.seal("journal", entry.key.handle, msgspec.msgpack.encode(record))
    return entry.key.handle, entry.received_us // DAY_US, sealed


def _seal_state(snapshot: Snapshot, through: int) -> bytes:
    stored = StoredState(through, snapshot.complete_from_us, snapshot.dump, snapshot.since_us)
    return snapshot.key.seal("state", snapshot.slot, msgspec.msgpack.encode(stored))
