"""Journalled events of one key, several to a sealed row of the journal.

Sealing and writing a row costs as much as tracking an event, so what one key collects between two commits
shares a row. A row never mixes days of receipt, because retention drops rows by their day, and it holds at
most `ROW_LIMIT_BYTES` of entries.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge_runtime.keys.keyring import DataKey
from edge_runtime.session.event import Event
from edge_runtime.wire.printing import prints_only

DAY_US = 86_400_000_000
ROW_LIMIT_BYTES = 65_536
"""Most bytes of entries in one row; a larger entry has a row of its own."""


@prints_only("received_us")
class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """One event under one purpose's key, with the states that took it."""

    event: Event
    event_id: str
    received_us: int
    slots: tuple[bytes, ...]
    """`slot_of(view, entity)` of each state that the event was applied to."""


pack_entry: Callable[[tuple[Event, str, int, list[bytes]]], bytes] = msgspec.msgpack.Encoder().encode
"""The bytes of an entry, given its fields in order: the event's dicts need not live until the commit."""

_unpack = msgspec.msgpack.Decoder(list[JournalEntry]).decode
_ARRAY_32 = b"\xdd"
"""msgpack's mark of an array whose length follows in 4 bytes."""


class JournalRow:
    """A row of the journal before it is sealed: entries of one key received on one day, in order."""

    __slots__ = ("day", "entries", "key", "room_bytes")

    def __init__(self, key: DataKey, day: int) -> None:
        self.key, self.day = key, day
        self.entries: list[bytes] = []
        self.room_bytes = ROW_LIMIT_BYTES
        """How much more may enter."""

    def __len__(self) -> int:
        return len(self.entries)

    def opened(self) -> list[JournalEntry]:
        """Its entries."""
        return _unpack(self._plain())

    def sealed(self) -> tuple[bytes, int, bytes]:
        """(handle, day received, sealed): as it stands in the journal."""
        handle = self.key.handle
        return handle, self.day, self.key.seal("journal", handle, self._plain())

    def _plain(self) -> bytes:
        return b"".join([_ARRAY_32, len(self.entries).to_bytes(4, "big"), *self.entries])


def open_entries(key: DataKey, sealed: bytes) -> list[JournalEntry]:
    """The journal entries in a sealed row, in the order in which they were tracked."""
    return _unpack(key.open("journal", key.handle, sealed))
