"""The sub-ranges of a channel's digest, worked out from what is held: when a checkpoint does not match.

Nothing about them rests on disk; a look through the hashes held tells them, some microseconds a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge_runtime.cache.fetched_rows import FETCHED_SLOT_BYTES
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.keys.datakey import DataKey
from edge_runtime.sync import personal_rows
from edge_runtime.wire import digest
from edge_runtime.wire.messages import RANGES, Row

Member = tuple[str, str, int, bytes]
"""(entity, view, version, hash) of one row that a channel brought."""


def personal_members(tx: ReadTransaction, key: DataKey) -> Iterator[Member]:
    """What the channel of a data key brought; read it inside the transaction."""
    stand = personal_rows.stand_slot(key)
    for slot, sealed in tx.personal_rows(key.handle):
        if slot != stand and len(slot) != FETCHED_SLOT_BYTES:
            held = personal_rows.open_delivered(key, slot, sealed)
            yield held.row.entity, held.row.view, held.row.version, held.hash


def sums(members: Iterable[Member], digest_key: bytes) -> list[int]:
    """The digest of each sub-range, in order."""
    totals = [0] * RANGES
    for entity, view, version, row_hash in members:
        totals[digest.range_of(digest_key, entity, view, version)] += digest.from_bytes(row_hash)
    return [total % digest.MODULUS for total in totals]


def within(members: Iterable[Member], digest_key: bytes, index: int) -> list[Member]:
    """Those in one sub-range."""
    return [m for m in members if digest.range_of(digest_key, m[0], m[1], m[2]) == index]


def gone(member: Member) -> Row:
    """A row as a delete names it."""
    entity, view, version, _ = member
    return Row(0, entity, view, version, 0, 0, 0, True, b"")
