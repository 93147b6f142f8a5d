"""What may go for room, and how: rows about nobody, rows of subjects, events that stored states cover."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

from edge_runtime.cache.eviction import Candidate, Coldest, Reason
from edge_runtime.cache.hands import Hands, Steps
from edge_runtime.cache.records import LET_GO, RowPlace, RowSize
from edge_runtime.cache.row_sweep import RowSweep
from edge_runtime.cache.sealed_row_sweep import holds, opened
from edge_runtime.cache.subject_sweep import SubjectSweep
from edge_runtime.keys.keyring import DataKey


class Evictable(Protocol):
    """One kind of what may go."""

    def scan(self, found: Coldest) -> Steps:
        """Offer everything of this kind."""
        ...

    def let_go(self, going: Sequence[Candidate]) -> int:
        """Let these go, in one transaction; returns how many rows that touched."""
        ...


class ColdRows:
    """Values of rows about nobody."""

    def __init__(self, hands: Hands, rows: RowSweep) -> None:
        self._hands, self._rows = hands, rows

    def scan(self, found: Coldest) -> Steps:
        now_us = self._hands.clock.now_us()
        after, limit, part = None, 0, list[RowSize]()
        while len(part) == limit:
            limit = self._hands.pace.rows
            with self._hands.database.read() as tx:
                part = tx.row_sizes(after, limit)
            for row in part:
                size = row.size_bytes - len(LET_GO)
                if size > 0:
                    reason = Reason.EXPIRED if self._rows.stale(row, now_us) else Reason.COLD_ROW
                    found.offer(Candidate(reason, row.used_day, row.event_time_us, row.place, size))
            after = part[-1].place if part else None
            yield len(part)

    def let_go(self, going: Sequence[Candidate]) -> int:
        places = [one.place for one in going if isinstance(one.place, RowPlace)]
        self._rows.let_go(places)
        return len(places)


class SubjectRows:
    """Values of rows of subjects."""

    def __init__(self, hands: Hands, subjects: SubjectSweep) -> None:
        self._hands, self._subjects = hands, subjects
        self._keys: dict[bytes, DataKey] = {}
        """Of the rows offered."""

    def scan(self, found: Coldest) -> Steps:
        self._keys.clear()
        yield from self._subjects.each(lambda key, _: self._offer(key, found))

    def _offer(self, key: DataKey, found: Coldest) -> Steps:
        for part in self._subjects.rows.parts(key):
            days = {slot: day for slot, day, _ in part}
            for slot, one in opened(key, ((slot, sealed) for slot, _, sealed in part)):
                size = len(one.row.values) - len(LET_GO)
                place = (key.handle, slot)
                if size > 0 and found.offer(Candidate(Reason.SUBJECT_ROW, days[slot], 0, place, size)):
                    self._keys[key.handle] = key
            yield len(part)

    def let_go(self, going: Sequence[Candidate]) -> int:
        places = [(self._keys[handle], slot) for handle, slot in _pairs(going)]
        return self._subjects.rows.let_go(places, holds)


class CoveredEvents:
    """Journalled events that stored states cover: backfills and reads in the past then reach less far."""

    def __init__(self, hands: Hands, subjects: SubjectSweep) -> None:
        self._hands, self._subjects = hands, subjects
        self._keys: dict[bytes, DataKey] = {}

    def scan(self, found: Coldest) -> Steps:
        self._keys.clear()
        yield from self._subjects.each(lambda key, _: self._offer(key, found))

    def _offer(self, key: DataKey, found: Coldest) -> Steps:
        covered, after, limit = self._subjects.events.covered(key), 0, 0
        part: list[tuple[int, int, int]] = []
        while len(part) == limit:
            limit = self._hands.pace.rows
            with self._hands.database.read() as tx:
                part = tx.event_sizes(key.handle, covered, after, limit)
            for n, day, size in part:
                place = (key.handle, n.to_bytes(8, "big"))
                if found.offer(Candidate(Reason.COVERED_EVENT, day, 0, place, size)):
                    self._keys[key.handle] = key
            after = part[-1][0] if part else after
            yield len(part)

    def let_go(self, going: Sequence[Candidate]) -> int:
        rows: dict[bytes, list[int]] = defaultdict(list)
        for handle, n in _pairs(going):
            rows[handle].append(int.from_bytes(n, "big"))
        dropped = 0
        with self._hands.database.write("sweep") as tx:
            for handle, numbers in rows.items():
                if self._keys[handle].alive:
                    dropped += tx.drop_events_at(handle, numbers)
        self._hands.swept.events_dropped += dropped
        return dropped


def _pairs(going: Sequence[Candidate]) -> Iterator[tuple[bytes, bytes]]:
    for one in going:
        handle, place = one.place
        assert isinstance(handle, bytes)
        assert isinstance(place, bytes)
        yield handle, place
