"""Session states at rest: sealed dumps, and up to which journal row every state of a handle is stored."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edge_runtime.keys.keyring import DataKey

COVERED = bytes(16)
"""The slot that says up to which journal row every state of its handle is stored."""


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


def seal_covered(key: DataKey, through: int) -> bytes:
    return key.seal("state", COVERED, through.to_bytes(8, "big"))


def seal_state(snapshot: Snapshot, through: int) -> bytes:
    stored = StoredState(through, snapshot.complete_from_us, snapshot.dump, snapshot.since_us)
    return snapshot.key.seal("state", snapshot.slot, msgspec.msgpack.encode(stored))
