"""Upkeep of subjects' server rows under one key: what is past its ttl is let go, and all of it at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from edge_runtime.cache.aging import UNKNOWN_DAY, Terms
from edge_runtime.cache.event_sweep import Day
from edge_runtime.cache.hands import Hands, Steps
from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.records import LET_GO
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys.keyring import DataKey
from edge_runtime.sync import personal_rows
from edge_runtime.sync.personal_rows import Delivered, stand_slot
from edge_runtime.wire.messages import Row
from edge_runtime.wire.seal import subject_token


class SealedRowSweep:
    """The server rows of subjects in one runtime."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def of(self, key: DataKey, terms: Terms, now_us: int) -> Day:
        """Let go of the values of rows past their ttl; their times stay, so reads say EXPIRED."""

        def stale(row: Row) -> bool:
            return terms.stale(f"{row.view}@{row.version}", row.event_time_us, now_us)

        stale_upto, newest = terms.stale_upto(now_us), None
        for part in self.parts(key):
            days = [day for _, day, _ in part if day != UNKNOWN_DAY]
            newest = max(days if newest is None else [newest, *days], default=None)
            suspects = [(slot, sealed) for slot, day, sealed in part if day <= stale_upto]
            going = [slot for slot, one in opened(key, suspects) if holds(one.row) and stale(one.row)]
            if going:
                self.let_go([(key, slot) for slot in going], stale)
            yield len(part)
        return newest

    def let_go(self, places: Iterable[tuple[DataKey, bytes]], judge: Callable[[Row], bool]) -> int:
        """Drop the values of the rows in these slots, on disk and in memory; returns how many.

        Args:
            judge: asked of each row as it is now: another may have come.
        """
        hands, gone = self._hands, list[tuple[DataKey, Row]]()
        with hands.database.write("sweep") as tx:
            for key, slot in places:
                sealed = tx.personal_row(key.handle, slot) if key.alive else None
                if sealed is None:
                    continue
                row = personal_rows.open_delivered(key, slot, sealed).row
                resealed = personal_rows.let_go(key, slot, sealed) if judge(row) else None
                if resealed is not None:
                    day = max(row.event_time_us, 0) // DAY_US
                    tx.put_personal_row(key.handle, slot, day, resealed)
                    gone.append((key, row))
        self._tell(gone)
        hands.swept.rows_let_go += len(gone)
        return len(gone)

    def end(self, key: DataKey, terms: Terms) -> Steps:
        """Delete every row, once where the channel stands was deleted: they are not received yet, again."""
        hands, deleted = self._hands, 1
        while deleted:
            with hands.database.write("sweep") as tx:
                if tx.personal_row(key.handle, stand_slot(key)) is not None:
                    return  # the channel has brought rows meanwhile, which are not these
                rows = self.delete_some(tx, key)
            deleted = self.told_deleted(key, terms, rows)
            yield deleted

    def delete_some(self, tx: WriteTransaction, key: DataKey) -> list[tuple[bytes, bytes]]:
        """Delete some rows of a key; returns (slot, sealed) of them."""
        part = tx.personal_part(key.handle, b"", self._hands.pace.rows)
        for slot, _, _ in part:
            tx.delete_personal_row(key.handle, slot)
        return [(slot, sealed) for slot, _, sealed in part]

    def told_deleted(self, key: DataKey, terms: Terms, rows: Collection[tuple[bytes, bytes]]) -> int:
        """These rows are gone: nothing of them stays in memory; returns how many there were."""
        memory = self._hands.memory
        if rows:
            memory.changed((view_key, key.subject) for view_key in terms.ttls_us)
            self._tell([(key, one.row) for _, one in opened(key, rows)])
            memory.forget_held()
        return len(rows)

    def parts(self, key: DataKey) -> Iterator[list[tuple[bytes, int, bytes]]]:
        """(slot, day, sealed) of every row, some at a time."""
        stand, after = stand_slot(key), b""
        while True:
            limit = self._hands.pace.rows
            with self._hands.database.read() as tx:
                part = tx.personal_part(key.handle, after, limit)
            yield [one for one in part if one[0] != stand]
            if len(part) < limit:
                return
            after = part[-1][0]

    def _tell(self, rows: Iterable[tuple[DataKey, Row]]) -> None:
        self._hands.memory.changed(
            [(f"{row.view}@{row.version}", self._typed(key, row)) for key, row in rows]
        )

    def _typed(self, key: DataKey, row: Row) -> str:
        """The entity of a row as reads name it."""
        return row.entity.replace(subject_token(self._hands.keyring.pseudonym(key.subject)), key.subject)


def opened(key: DataKey, rows: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, Delivered]]:
    """The rows that open, with their slots; a damaged one is left for whoever reads it."""
    for slot, sealed in rows:
        try:
            yield slot, personal_rows.open_delivered(key, slot, sealed)
        except (DatabaseUnreadable, msgspec.DecodeError):
            continue


def holds(row: Row) -> bool:
    """Whether there are values that can be let go."""
    return len(row.values) > len(LET_GO)
