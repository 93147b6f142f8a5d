"""Where the rows of one channel rest, inside one write transaction: two kinds of shelf, the same verbs."""

from __future__ import annotations

from typing import Protocol

from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.records import Placed
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.keys.keyring import DataKey
from edge_runtime.sync import personal_rows
from edge_runtime.sync.personal_rows import Delivered, Stand
from edge_runtime.wire import digest
from edge_runtime.wire.messages import Row

DAY_US = 86_400_000_000


class Shelf(Protocol):
    """The rows, cursor and digest of one channel."""

    def stand(self) -> tuple[int, int]:
        """(cursor, digest); zeros for a channel that holds nothing yet."""
        ...

    def clear(self) -> None:
        """Delete every row, before a replacing snapshot."""
        ...

    def put(self, row: Row, row_hash: bytes) -> Placed:
        """Keep `row` (a stub when its values are empty) unless what is held is newer.

        Newer is the later event time, of equal ones the later created, then the higher seq. A row that is
        refused leaves the held one and its hash, so the digest tells the server that we hold another. What is
        kept may be written no sooner than `move`, which ends every delta.
        """
        ...

    def delete(self, row: Row) -> int:
        """Delete what is kept of `row`; returns its part of the digest, 0 when there was nothing."""
        ...

    def move(self, cursor: int, total: int) -> None:
        """Set cursor and digest."""
        ...


def plain_stand(tx: ReadTransaction, channel: str) -> tuple[int, int]:
    """(cursor, digest) of a shared channel; zeros when nothing is held of it."""
    state = tx.channel(channel)
    return (0, 0) if state is None else (state.cursor, state.digest)


def personal_stand(tx: ReadTransaction, key: DataKey) -> tuple[int, int]:
    """(cursor, digest) of the channel of a data key; zeros when nothing is held of it."""
    slot = personal_rows.stand_slot(key)
    sealed = tx.personal_row(key.handle, slot)
    if sealed is None:
        return 0, 0
    stand = personal_rows.open_stand(key, slot, sealed)
    return stand.cursor, digest.from_bytes(stand.digest)


class PlainShelf:
    """Rows about nobody, under the page key alone."""

    def __init__(self, tx: WriteTransaction, channel: str, now_us: int) -> None:
        self._tx, self._channel, self._day = tx, channel, now_us // DAY_US

    def stand(self) -> tuple[int, int]:
        return plain_stand(self._tx, self._channel)

    def clear(self) -> None:
        self._tx.clear_channel(self._channel)

    def put(self, row: Row, row_hash: bytes) -> Placed:
        return self._tx.put_row(self._channel, row, row_hash, self._day)

    def delete(self, row: Row) -> int:
        self._tx.delete_older_fetched(row)
        return part(self._tx.delete_row(self._channel, row.entity, row.view, row.version))

    def move(self, cursor: int, total: int) -> None:
        self._tx.set_channel(self._channel, cursor, total)


class PersonalShelf:
    """A subject's rows for one purpose, each sealed under the data key; written together by `move`."""

    def __init__(self, tx: WriteTransaction, key: DataKey) -> None:
        self._tx, self._key = tx, key
        self._waiting: dict[bytes, tuple[int, bytes]] = {}
        """Slot -> (day, sealed) of the rows put."""

    def stand(self) -> tuple[int, int]:
        return personal_stand(self._tx, self._key)

    def clear(self) -> None:
        self._waiting.clear()
        self._tx.clear_personal_rows(self._key.handle)

    def put(self, row: Row, row_hash: bytes) -> Placed:
        slot = self._slot(row)
        held = self._held(slot)
        if held is not None and order(held.row) > order(row):
            return Placed(kept=False, before=held.hash)
        sealed = personal_rows.seal_row(self._key, slot, row, row_hash)
        self._waiting[slot] = max(row.event_time_us, 0) // DAY_US, sealed
        return Placed(kept=True, before=None if held is None else held.hash)

    def delete(self, row: Row) -> int:
        slot = self._slot(row)
        held = self._held(slot)
        self._waiting.pop(slot, None)
        self._tx.delete_personal_row(self._key.handle, slot)
        self._delete_older_fetched(row)
        return part(None if held is None else held.hash)

    def move(self, cursor: int, total: int) -> None:
        stand = Stand(cursor, digest.to_bytes(total))
        slot = personal_rows.stand_slot(self._key)
        sealed = personal_rows.seal_stand(self._key, slot, stand)
        # Day 0: following a channel is no activity of the subject, so it does not prolong retention.
        self._waiting[slot] = 0, sealed
        rows = [(slot, day, sealed) for slot, (day, sealed) in self._waiting.items()]
        self._tx.put_personal_rows(self._key.handle, rows)
        self._waiting.clear()

    def _slot(self, row: Row) -> bytes:
        return personal_rows.row_slot(self._key, f"{row.view}@{row.version}", row.entity)

    def _delete_older_fetched(self, row: Row) -> None:
        """What this device asked for goes with the row that the channel says is gone, unless it is newer."""
        slot = personal_rows.fetched_slot(self._key, f"{row.view}@{row.version}", row.entity)
        held = self._held(slot)
        if held is not None and order(held.row) <= order(row):
            self._tx.delete_personal_row(self._key.handle, slot)

    def _held(self, slot: bytes) -> Delivered | None:
        waiting = self._waiting.get(slot)
        sealed = self._tx.personal_row(self._key.handle, slot) if waiting is None else waiting[1]
        return None if sealed is None else personal_rows.open_delivered(self._key, slot, sealed)


def part(row_hash: bytes | None) -> int:
    """A row's part of its channel's digest; 0 where there is no row."""
    return 0 if row_hash is None else digest.from_bytes(row_hash)


def order(row: Row) -> tuple[int, int, int]:
    """The order in which newest wins; `put_row` judges rows about nobody by the same."""
    return row.event_time_us, row.created_us, row.seq
