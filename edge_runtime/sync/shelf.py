"""Where the rows of one channel rest, inside one write transaction: two kinds of shelf, the same verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.records import ChannelState, Held, Order
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.keys.keyring import DataKey
from edge_runtime.sync import personal_rows
from edge_runtime.sync.personal_rows import Stand
from edge_runtime.wire import digest
from edge_runtime.wire.messages import Row

DAY_US = 86_400_000_000


class Change(NamedTuple):
    """What putting rows changed."""

    kept: int
    added: int
    """To the digest; not reduced, and below 0 where what was replaced summed to more."""


class Shelf(Protocol):
    """The rows, cursor and digest of one channel."""

    def stand(self) -> tuple[int, int]:
        """(cursor, digest); zeros for a channel that holds nothing yet."""
        ...

    def clear(self) -> None:
        """Delete every row, before a replacing snapshot."""
        ...

    def put(self, rows: Sequence[Row], hashes: Sequence[bytes]) -> Change:
        """Keep rows (a stub is one whose values are empty) one after another, unless what is held is newer.

        Newer is the later event time, of equal ones the later created, then the higher seq. A row that is
        refused does not count; it leaves the held one and its hash, so the digest tells the server that
        we hold another. What is kept may be written no sooner than `move`, which ends every delta.
        """
        ...

    def delete(self, row: Row) -> int:
        """Delete what is kept of `row`; returns its part of the digest, 0 when there was nothing."""
        ...

    def move(self, cursor: int, total: int, *, stays_whole: bool = False) -> None:
        """Set cursor and digest. Whether the channel is whole is not known after it, unless it stays so."""
        ...

    def judge(self, whole: bool | None) -> None:
        """Say whether the channel is whole, where it stands; see `ChannelState.whole`."""
        ...


def personal_state(tx: ReadTransaction, key: DataKey) -> ChannelState | None:
    """How far this device is in the channel of a data key; None when nothing is held of it."""
    slot = personal_rows.stand_slot(key)
    sealed = tx.personal_row(key.handle, slot)
    if sealed is None:
        return None
    stand = personal_rows.open_stand(key, slot, sealed)
    return ChannelState(stand.cursor, digest.from_bytes(stand.digest), stand.whole)


def personal_stand(tx: ReadTransaction, key: DataKey) -> tuple[int, int]:
    """(cursor, digest) of the channel of a data key; zeros when nothing is held of it."""
    state = personal_state(tx, key)
    return (0, 0) if state is None else (state.cursor, state.digest)


class PlainShelf:
    """Rows about nobody, under the page key alone."""

    def __init__(self, tx: WriteTransaction, channel: str, now_us: int) -> None:
        self._tx, self._channel, self._day = tx, channel, now_us // DAY_US

    def stand(self) -> tuple[int, int]:
        state = self._tx.channel(self._channel)
        return (0, 0) if state is None else (state.cursor, state.digest)

    def clear(self) -> None:
        self._tx.clear_channel(self._channel)

    def put(self, rows: Sequence[Row], hashes: Sequence[bytes]) -> Change:
        kept, gone = self._tx.put_rows(self._channel, rows, hashes, self._day)
        return Change(kept, digest.total(hashes) - digest.total(gone))

    def delete(self, row: Row) -> int:
        self._tx.delete_older_fetched(row)
        before = self._tx.delete_row(self._channel, row.entity, row.view, row.version)
        return 0 if before is None else digest.from_bytes(before)

    def move(self, cursor: int, total: int, *, stays_whole: bool = False) -> None:
        self._tx.set_channel(self._channel, cursor, total, stays_whole=stays_whole)

    def judge(self, whole: bool | None) -> None:
        self._tx.set_whole(self._channel, whole)


class PersonalShelf:
    """A subject's rows for one purpose, each sealed under the data key; written together by `move`."""

    def __init__(self, tx: WriteTransaction, key: DataKey) -> None:
        self._tx, self._key = tx, key
        self._known: dict[bytes, Held | None] = {}
        """Slot -> what stands, or will stand, there."""
        self._waiting: dict[bytes, tuple[int, bytes]] = {}
        """Slot -> (day, sealed) of the rows put."""
        self._bare = False
        """Whether nothing lies there: everything that stands is known."""

    def stand(self) -> tuple[int, int]:
        return personal_stand(self._tx, self._key)

    def clear(self) -> None:
        self._known.clear()
        self._waiting.clear()
        self._tx.clear_personal_rows(self._key.handle)
        self._bare = True

    def put(self, rows: Sequence[Row], hashes: Sequence[bytes]) -> Change:
        kept, gone = list[bytes](), list[bytes]()
        for row, row_hash in zip(rows, hashes, strict=True):
            slot, rank = self._slot(row), order(row)
            held = self._held(slot)
            if held is None or held[0] <= rank:
                sealed = personal_rows.seal_row(self._key, slot, row, row_hash)
                self._known[slot] = rank, row_hash
                self._waiting[slot] = max(row.event_time_us, 0) // DAY_US, sealed
                kept.append(row_hash)
                gone += () if held is None else (held[1],)
        return Change(len(kept), digest.total(kept) - digest.total(gone))

    def delete(self, row: Row) -> int:
        slot = self._slot(row)
        held = self._held(slot)
        self._known[slot] = None
        self._waiting.pop(slot, None)
        self._tx.delete_personal_row(self._key.handle, slot)
        self._delete_older_fetched(row)
        return 0 if held is None else digest.from_bytes(held[1])

    def move(self, cursor: int, total: int, *, stays_whole: bool = False) -> None:
        before = personal_state(self._tx, self._key) if stays_whole else None
        self._stand_at(Stand(cursor, digest.to_bytes(total), None if before is None else before.whole))

    def judge(self, whole: bool | None) -> None:
        cursor, total = self.stand()
        self._stand_at(Stand(cursor, digest.to_bytes(total), whole))

    def _stand_at(self, stand: Stand) -> None:
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
        held = self._lies(slot)
        if held is not None and held[0] <= order(row):
            self._tx.delete_personal_row(self._key.handle, slot)

    def _held(self, slot: bytes) -> Held | None:
        if slot in self._known or self._bare:
            return self._known.get(slot)
        return self._lies(slot)

    def _lies(self, slot: bytes) -> Held | None:
        sealed = self._tx.personal_row(self._key.handle, slot)
        if sealed is None:
            return None
        held = personal_rows.open_delivered(self._key, slot, sealed)
        return order(held.row), held.hash


def order(row: Row) -> Order:
    """The order in which newest wins; the upsert of rows about nobody judges by the same once more."""
    return row.event_time_us, row.created_us, row.seq
