"""What hangs on data keys, from a damaged database into a new one: copied, then judged.

First every key's rows are looked up through the indexes. What an index no longer tells is looked for in the
journal itself, in one pass for all. Then each row is opened under its key, and what does not open is lost
like what could not be read. One key's rows are in memory at a time, besides a note of each key that lost
some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final, TypeVar

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.gaps import Gap, Unreadable
from edge_runtime.cache.journal_entry import open_entries
from edge_runtime.cache.remains import Remains
from edge_runtime.cache.stored_state import (
    ADDED,
    COVERED,
    FACTS,
    LOST,
    open_added,
    open_covered,
    open_state,
    seal_lost,
)
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.recovery.judging import NOT_KNOWN, Found, Span, judge
from edge_runtime.sync import personal_rows

T = TypeVar("T")

_KEYS_AT_ONCE: Final = 64
_ROWS_AT_ONCE: Final = 1_024
"""How much goes into one transaction."""


@dataclass(slots=True)
class _Note:
    """What of one handle could not be read."""

    lost_row: int = 0
    """The newest row of its journal that is lost for certain."""
    gaps: list[Gap] = field(default_factory=list)
    """Rows of which the index no longer tells whether they are its own."""
    tables: set[str] = field(default_factory=set)
    """Tables of which some slots cannot be read."""
    trimmed: bool = True
    """Whether it is known if its journal was trimmed."""

    def __bool__(self) -> bool:
        return bool(self.lost_row or self.gaps or self.tables or not self.trimmed)


class Carrying:
    """Carries everything under living keys over.

    Attributes:
        kept: table -> rows that are in the new database.
        lost: table -> rows that were there for certain and are not.
        unread: tables of which something more may be lost, nobody knows how much.
        broken: keys whose session features are not whole, or whose rows the server must send again.
        top: the highest number of a row of the journal that was seen anywhere.
    """

    def __init__(
        self, remains: Remains, fresh: Database, keyring: Keyring, now_us: int, ahead_us: int
    ) -> None:
        self._remains, self._fresh, self._keyring = remains, fresh, keyring
        self._now_us, self._ahead_us = now_us, ahead_us
        self._notes: dict[bytes, _Note] = {}
        self.kept: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.unread: set[str] = set()
        self.broken = self.top = 0

    def run(self, *, sessions: bool, stands: bool) -> None:
        """Copy and judge.

        Args:
            sessions: whether it is known what fed the session states; else none of them can be believed.
            stands: whether the cursors of personal channels can be believed.
        """
        for keys in _parts(self._keys(), _KEYS_AT_ONCE):
            with self._fresh.write("rebuild") as tx:
                for key in keys:
                    self._copy(tx, key.handle)
        self._fill_gaps()
        for keys in _parts(self._keys(), _KEYS_AT_ONCE):
            with self._fresh.write("rebuild") as tx:
                for key in keys:
                    note = self._notes.get(key.handle) or _Note()
                    self.broken += self._sessions(tx, key, note, sessions)
                    self._personal(tx, key, "personal" in note.tables, stands)

    def _keys(self) -> Iterator[DataKey]:
        return chain([self._keyring.device_key()], self._keyring.every_key())

    # ---- copying ----------------------------------------------------------------------------------------

    def _copy(self, tx: WriteTransaction, handle: bytes) -> None:
        note = _Note()
        for n in self._remains.numbers(handle, note.gaps):
            if not self._copy_event(tx, handle, n):
                note.lost_row = max(note.lost_row, n)
                self.lost["journal"] += 1
        for table, put in (("state", tx.put_state), ("personal", tx.put_personal_row)):
            left: list[Gap] = []
            for slot, day, sealed in self._remains.sealed(table, handle, left):
                put(handle, slot, day, sealed)
            if left:
                note.tables.add(table)
                self.unread.add(table)
        try:
            upto = self._remains.trimmed(handle)
            if upto is not None:
                tx.mark_trimmed(handle, upto)
        except Unreadable:
            note.trimmed = False
        if note:
            self._notes[handle] = note

    def _copy_event(self, tx: WriteTransaction, handle: bytes, n: int) -> bool:
        try:
            row = self._remains.event(n)
        except Unreadable:
            return False
        if row is None or row.handle != handle:
            return False
        tx.put_event(n, handle, row.day, row.sealed)
        return True

    def _fill_gaps(self) -> None:
        """Look in the journal for what the index no longer tells of, and note what nobody can tell."""
        asked = {handle: note for handle, note in self._notes.items() if note.gaps}
        if not asked:
            return
        unread: list[Gap] = []
        for rows in _parts(self._remains.events(unread), _ROWS_AT_ONCE):
            with self._fresh.write("rebuild") as tx:
                for row in rows:
                    self.top = max(self.top, row.n)
                    if row.handle in asked:
                        tx.put_event(*row)
        for note in asked.values():
            top = _top_of_both(note.gaps, unread)
            note.lost_row = max(note.lost_row, top)
            self.unread.update(["journal"] if top else [])

    # ---- judging ----------------------------------------------------------------------------------------

    def _sessions(self, tx: WriteTransaction, key: DataKey, note: _Note, known: bool) -> bool:
        """Open and judge what session features rest on; whether anything of it is not whole."""
        rows, lost_row = self._opened_events(tx, key)
        covered, states_lost = self._opened_states(tx, key, known)
        newest = self._remains.newest_row()
        lost_row = max(lost_row, note.lost_row)
        if newest is not None:
            lost_row = min(lost_row, newest)
        if self._remains.log_cut or not known:
            lost_row = NOT_KNOWN
        found = Found(rows, lost_row, covered, states_lost or "state" in note.tables or not known)
        cut, lost = judge(found, self._now_us, self._ahead_us)
        self.top = max(self.top, covered, cut if cut < NOT_KNOWN else 0, *rows, 0)
        self.kept["journal"] += sum(1 for n in rows if n > cut)
        if cut:
            tx.drop_events(key.handle, cut)
        if cut or not note.trimmed:
            tx.mark_trimmed(key.handle, min(cut, self.top))
        if lost is not None:
            tx.put_state(key.handle, LOST, 0, seal_lost(key, lost))
        return lost is not None

    def _opened_events(self, tx: WriteTransaction, key: DataKey) -> tuple[dict[int, Span], int]:
        """The rows of the journal that open, and the newest one that does not."""
        rows: dict[int, Span] = {}
        bad = 0
        for n, sealed in tx.events(key.handle):
            try:
                times = [entry.received_us for entry in open_entries(key, sealed)]
            except (DatabaseUnreadable, msgspec.MsgspecError):
                bad = max(bad, n)
                self.lost["journal"] += 1
            else:
                rows[n] = Span(min(times, default=0), max(times, default=0))
        return rows, bad

    def _opened_states(self, tx: WriteTransaction, key: DataKey, known: bool) -> tuple[int, bool]:
        """(up to which row states are stored, whether one was lost); what does not open is deleted."""
        covered, through, bad = None, 0, False
        for slot, sealed in tx.states(key.handle):
            try:
                match slot:
                    case _ if slot == COVERED:
                        covered = open_covered(key, sealed)
                    case _ if slot == ADDED:
                        open_added(key, sealed)
                    case _:
                        through = max(through, open_state(key, slot, sealed).through)
            except (DatabaseUnreadable, msgspec.MsgspecError):
                bad = True
                tx.drop_state(key.handle, slot)
                self.lost["state"] += 1
                continue
            if not known:
                tx.drop_state(key.handle, slot)
            self.kept["state"] += known and slot not in FACTS
        return through if covered is None else covered, bad

    def _personal(self, tx: WriteTransaction, key: DataKey, gaps: bool, stands: bool) -> None:
        """Open what the server sent; where something is missing the channel starts over."""
        stand, lost = personal_rows.stand_slot(key), gaps
        for slot, sealed in tx.personal_rows(key.handle):
            try:
                key.open(personal_rows.TABLE, slot, sealed)
                self.kept["personal"] += slot != stand
            except DatabaseUnreadable:
                tx.delete_personal_row(key.handle, slot)
                self.lost["personal"] += 1
                lost = True
        if lost or not stands:
            tx.delete_personal_row(key.handle, stand)


def _top_of_both(some: list[Gap], others: list[Gap]) -> int:
    """The highest key that lies in a gap of each; 0 when none does."""
    tops = [min(a.high, b.high) for a in some for b in others if a.low <= b.high and b.low <= a.high]
    return max(tops, default=0)


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
