"""Acknowledging events: what was tracked waits a moment, then goes to the journal in one transaction.

An event is acknowledged when a `flush` that covers it returns. The owner of the timer calls `flush` at least
every `commit_interval_us`, so that is the window in which a power cut can lose an event.

A stored state says up to which row of the journal it reaches. Its snapshot is taken in the same moment as the
batch, so it lies between two rows and never between two entries of one.

While the disk takes nothing, the queue would grow without end. Then `fold` gives up its entries: the states
in memory hold all that was in them, so these are stored whole before the next flush returns, and in the same
transaction each of their journals begins anew. No event is lost by it, only backfills and reads in the past
reach less far.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Protocol

from edge_runtime.cache.database import Database
from edge_runtime.cache.journal_entry import DAY_US, JournalEntry, JournalRow
from edge_runtime.cache.stored_state import COVERED, Snapshot, seal_covered, seal_state
from edge_runtime.errors import DatabaseUnreadable, StorageError
from edge_runtime.keys.datakey import DataKey

WHOLE_AT_ONCE = 16
"""Most keys whose states are stored whole in one transaction after the disk was full."""


class Due(Protocol):
    """Called under the runtime's lock at each flush."""

    def __call__(
        self, everything: bool, batch: Iterable[JournalRow], whole: Collection[bytes], /
    ) -> tuple[list[Snapshot], bool]:
        """(states to store with this batch, whether more are due); see `WorkingSet.due`."""
        ...


class GroupCommit:
    """Pending journal entries and the one way they reach the disk. Thread-safe.

    Whether a key still lives is asked at commit time: an erasure that came in between wins.

    Args:
        database: where the journal lives.
        due: says which states to store with a batch: of a handle all that are not stored as they are, or
            none.
        missed: called under `lock` with those states when they could not be stored.
        lock: the runtime's lock, held while the batch is taken and not while it is written.
    """

    def __init__(
        self,
        database: Database,
        due: Due,
        missed: Callable[[list[Snapshot]], None],
        lock: threading.RLock,
    ) -> None:
        self._database, self._due, self._lock = database, due, lock
        self._missed = missed
        self._pending: list[JournalRow] = []
        self._open: dict[bytes, JournalRow] = {}
        """Handle -> the pending row that takes its next entry."""
        self._in_flight: list[JournalRow] = []
        self._folded: dict[bytes, DataKey] = {}
        self._storing: dict[bytes, DataKey] = {}
        """Of the folded, those whose states are on their way to the disk."""
        self._writing = threading.Lock()
        self.stuck: StorageError | None = None
        """Why the last commit could not be written; None once nothing waits that should have been."""
        self.work = threading.Event()
        self.size = 0
        """Entries that wait for the next commit."""

    def add(self, key: DataKey, received_us: int, entry: bytes) -> None:
        """Queue an entry (`pack_entry`); the caller holds the runtime's lock."""
        row = self._open.get(key.handle)
        if row is None or row.room_bytes < len(entry) or row.day != received_us // DAY_US:
            row = self._begin(key, received_us // DAY_US)
        row.entries.append(entry)
        row.room_bytes -= len(entry)
        self.size += 1

    def _begin(self, key: DataKey, day: int) -> JournalRow:
        row = self._open[key.handle] = JournalRow(key, day)
        self._pending.append(row)
        if len(self._pending) == 1:
            self.work.set()
        return row

    def forget(self, handles: Iterable[bytes]) -> int:
        """Drop pending entries under these handles; returns how many there were."""
        gone, before = set(handles), self.size
        self._wait([row for row in self._pending if row.key.handle not in gone])
        for handle in gone:
            self._folded.pop(handle, None)
            self._open.pop(handle, None)
        return before - self.size

    def waits(self, handles: Iterable[bytes]) -> bool:
        """Whether anything of these waits for the next commit; the caller holds the runtime's lock."""
        wanted = set(handles)
        waiting = any(row.key.handle in wanted for row in self._pending)
        return waiting or any(map(self.folded, wanted))

    def unwritten(self, handle: bytes) -> list[JournalEntry]:
        """Entries of a handle that may not be in the journal yet; the caller holds the runtime's lock."""
        rows = [row for row in (*self._in_flight, *self._pending) if row.key.handle == handle]
        return list(chain.from_iterable(row.opened() for row in rows))

    # ---- a disk that takes nothing -----------------------------------------------------------------------

    def fold(self) -> None:
        """Give up the waiting entries; the states that took them are stored whole before a flush returns.

        The caller holds the runtime's lock. Those states must not leave memory before they are stored.
        """
        self._folded.update((row.key.handle, row.key) for row in self._pending)
        self._open.clear()
        self._wait([])

    def folded(self, handle: bytes) -> bool:
        """Whether entries of a handle were given up and are not stored in its states yet."""
        return handle in self._folded or handle in self._storing

    @property
    def keys_folded(self) -> int:
        """How many keys that are."""
        return len(self._folded) + len(self._storing)

    # ---- to the disk -------------------------------------------------------------------------------------

    @contextmanager
    def still(self) -> Iterator[None]:
        """The runtime's lock, in a moment when nothing is on its way to the disk; never inside it."""
        with self._writing, self._lock:
            yield

    def flush(self, *, everything: bool = False, then: Callable[[], None] = lambda: None) -> None:
        """Make everything tracked so far durable; `everything` also stores every changed state.

        Never call it under the runtime's lock. `then` runs under it, when nothing is on its way to the disk:
        an unchanged state is on the disk whole at that moment.

        Raises `StorageFull`, `DatabaseUnreadable` and other `StorageError`s with the batch kept for the next
        flush. Damage that meets states only does not keep the batch from being acknowledged.
        """
        with self._writing:
            more_due = self._round(everything)
            while self._folded:
                more_due = self._round(False) or more_due
            with self._lock:
                self.stuck = None
                if more_due:
                    self.work.set()
                then()

    def flush_all_of(self, handles: Callable[[], Iterable[bytes]], then: Callable[[], None]) -> None:
        """Flush until no entry of these handles waits, and run `then` in that moment, under the lock.

        Raises as `flush`; `then` did not run.
        """
        rests = False

        def at_rest() -> None:
            nonlocal rests
            wanted = set(handles())
            rests = not any(row.key.handle in wanted for row in self._pending)
            if rests:  # else an event came while the disk was busy
                then()

        while not rests:
            self.flush(then=at_rest)

    def _round(self, everything: bool) -> bool:
        """One transaction; returns whether more states are due."""
        with self._lock:
            self._in_flight = self._pending
            self._wait([])
            self._open.clear()
            self.work.clear()
            self._storing = dict(islice(self._folded.items(), WHOLE_AT_ONCE))
            self._folded = {h: key for h, key in self._folded.items() if h not in self._storing}
            snapshots, more_due = self._due_states(everything)
        try:
            if self._in_flight or snapshots or self._storing:
                self._store(snapshots)
        except BaseException as error:
            with self._lock:
                self._take_back(snapshots)
                self.stuck = error if isinstance(error, StorageError) else self.stuck
            raise
        with self._lock:
            self._in_flight, self._storing = [], {}
        return more_due

    def _take_back(self, snapshots: list[Snapshot]) -> None:
        """It could not be written: all waits as before."""
        living = [row for row in self._in_flight if row.key.alive]
        self._wait([*living, *self._pending])
        self._folded |= self._storing
        self._in_flight, self._storing = [], {}
        self._missed(snapshots)
        self.work.set()

    def _due_states(self, everything: bool) -> tuple[list[Snapshot], bool]:
        """What is to be stored with the batch: nothing where damage keeps states from being read."""
        try:
            return self._due(everything, self._in_flight, self._storing)
        except DatabaseUnreadable:
            if self._storing:  # of these nothing else is left: they must not count as stored
                self._take_back([])
                raise
            return [], False  # the batch is journalled all the same, and a rebuilt database applies it

    def _store(self, snapshots: list[Snapshot]) -> None:
        """Write the batch and the states; where damage does not let states be stored, the batch alone."""
        try:
            self._write(self._in_flight, snapshots)
        except DatabaseUnreadable:
            if not snapshots or self._storing:
                raise
            self._write(self._in_flight, [])
            with self._lock:
                self._missed(snapshots)

    def _wait(self, rows: list[JournalRow]) -> None:
        self._pending, self.size = rows, sum(len(row) for row in rows)

    def _write(self, batch: list[JournalRow], snapshots: list[Snapshot]) -> None:
        with self._database.write("journal") as tx:
            sealed = [row.sealed() for row in batch if row.key.alive]
            if sealed:
                tx.append_events(sealed)
            through: dict[bytes, int] = {}
            for snapshot in snapshots:
                if not snapshot.key.alive:
                    continue
                handle = snapshot.key.handle
                if handle not in through:
                    through[handle] = tx.newest_event(handle)
                    tx.drop_events(handle, through[handle], snapshot.keep_from_day)
                    tx.put_state(handle, COVERED, 0, seal_covered(snapshot.key, through[handle]))
                if snapshot.dump:
                    sealed_state = seal_state(snapshot, through[handle])
                    tx.put_state(handle, snapshot.slot, snapshot.day, sealed_state)
                else:
                    tx.drop_state(handle, snapshot.slot)
            for handle, key in self._storing.items():
                if key.alive:
                    # rows on both sides of what was given up would look as if nothing were missing
                    tx.drop_events(handle, through.get(handle, 0))
                    tx.mark_trimmed(handle, through.get(handle, 0))
