"""One journalled event under one purpose's key, and its sealed row in the journal."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edge_runtime.keys.keyring import DataKey
from edge_runtime.session.event import Event, from_bytes, to_bytes

DAY_US = 86_400_000_000


class JournalEntry(NamedTuple):
    """One event under one purpose's key, with the states that took it."""

    key: DataKey
    event: Event
    event_id: str
    received_us: int
    slots: tuple[bytes, ...]
    """`slot_of(view, entity)` of each state that the event was applied to."""


class _Record(msgspec.Struct, frozen=True, array_like=True):
    event: bytes
    event_id: str
    received_us: int
    slots: tuple[bytes, ...]


def open_entries(key: DataKey, sealed: bytes) -> list[JournalEntry]:
    """The journal entries in a sealed row, in the order in which they were tracked."""
    record = msgspec.msgpack.decode(key.open("journal", key.handle, sealed), type=_Record)
    event = from_bytes(record.event)
    return [JournalEntry(key, event, record.event_id, record.received_us, record.slots)]


def seal_entry(entry: JournalEntry) -> tuple[bytes, int, bytes]:
    """(handle, day received, sealed): the row of one entry."""
    record = _Record(to_bytes(entry.event), entry.event_id, entry.received_us, entry.slots)
    sealed = entry.key.seal("journal", entry.key.handle, msgspec.msgpack.encode(record))
    return entry.key.handle, entry.received_us // DAY_US, sealed
