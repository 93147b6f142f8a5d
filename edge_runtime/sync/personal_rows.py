"""How a subject's server rows rest on disk: sealed whole under the subject's data key.

Outside the seal stand a random handle, a 16-byte slot and a day. The channel's cursor and digest are one more
sealed row under the same handle, so consent, key, rows, cursor and digest live and die together.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from edge_runtime.cache.records import LET_GO
from edge_runtime.keys.keyring import DataKey
from edge_runtime.wire.messages import Row

TABLE: Final = "personal_rows"


class Delivered(msgspec.Struct, frozen=True, array_like=True):
    """A row as it was kept, and its 16 bytes in the channel's digest."""

    row: Row
    """Empty values: a stub; `LET_GO`: only its times are still known."""
    hash: bytes


class Stand(msgspec.Struct, frozen=True, array_like=True):
    """Where a channel stands here: its cursor, the sum of the rows delivered (16 bytes), what is known of its
    being whole (see `ChannelState.whole`)."""

    cursor: int
    digest: bytes
    whole: bool | None = None


_encoder = msgspec.msgpack.Encoder()
_rows = msgspec.msgpack.Decoder(Delivered)
_stands = msgspec.msgpack.Decoder(Stand)


def row_slot(key: DataKey, view_key: str, entity: str) -> bytes:
    """The 16-byte slot of one row; without the handle it says nothing about view or entity.

    Args:
        view_key: `name@version`.
        entity: as it came over the wire (`~token`, or a composite with it).
    """
    return _slot(key, f"row\x00{view_key}\x00{entity}")


def fetched_slot(key: DataKey, view_key: str, entity: str) -> bytes:
    """The 17-byte slot of the same row where this device asked for it: outside the channel and its digest."""
    return _slot(key, f"fetched\x00{view_key}\x00{entity}") + b"\x01"


def stand_slot(key: DataKey) -> bytes:
    """The slot of the channel's cursor and digest."""
    return _slot(key, "stand")


def _slot(key: DataKey, name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16, key=key.handle, person=b"edge-row-slot").digest()


def seal_row(key: DataKey, slot: bytes, row: Row, row_hash: bytes) -> bytes:
    """Seal a delivered row with its hash; a stub is a row whose `values` are empty."""
    return key.seal(TABLE, slot, _encoder.encode(Delivered(row, row_hash)))


def let_go(key: DataKey, slot: bytes, sealed: bytes) -> bytes | None:
    """The same row sealed without its values, its times and hash kept; None when there is nothing to let go.

    Only for the slot of a row, never for that of the channel's stand.
    """
    held = open_delivered(key, slot, sealed)
    if len(held.row.values) <= len(LET_GO):
        return None
    return seal_row(key, slot, msgspec.structs.replace(held.row, values=LET_GO), held.hash)


def open_row(key: DataKey, slot: bytes, sealed: bytes) -> Row | None:
    """The row in `sealed`, its values perhaps `LET_GO`; None for a stub, which has nothing to say."""
    row = open_delivered(key, slot, sealed).row
    return row if row.values else None


def open_delivered(key: DataKey, slot: bytes, sealed: bytes) -> Delivered:
    """What is kept in `sealed`, of a row or of a stub."""
    return _rows.decode(key.open(TABLE, slot, sealed))


def seal_stand(key: DataKey, slot: bytes, stand: Stand) -> bytes:
    """Seal where a channel stands."""
    return key.seal(TABLE, slot, _encoder.encode(stand))


def open_stand(key: DataKey, slot: bytes, sealed: bytes) -> Stand:
    """Where a channel stands."""
    return _stands.decode(key.open(TABLE, slot, sealed))
