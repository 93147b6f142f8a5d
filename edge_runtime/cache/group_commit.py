"""Acknowledging events: what was tracked waits a moment, then goes to the journal in one transaction.

An event is acknowledged when a `flush` that covers it returns. The owner of the timer calls `flush` at least
every `commit_interval_us`, so that is the window in which a power cut can lose an event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from edge_runtime.cache.database import Database
from edge_runtime.cache.journal_entry import JournalEntry, seal_entry
from edge_runtime.cache.stored_state import COVERED, Snapshot, seal_covered, seal_state
from edge_runtime.keys.keyring import DataKey, Keyring


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
            sealed = [seal_entry(entry) for entry in batch if self._lives(entry.key)]
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
                    tx.put_state(handle, COVERED, seal_covered(snapshot.key, through[handle]))
                tx.put_state(handle, snapshot.slot, seal_state(snapshot, through[handle]))

    def _lives(self, key: DataKey) -> bool:
        return self._keyring.by_handle(key.handle) is key
