"""Session states at rest: sealed dumps, and what is known of every state of a handle.

Beside the states of a handle lie two facts about all of them: up to which row of the journal each is stored,
and since when each statistic is known that was added after the handle's key was made. The second one speaks
for entities that have no state: nothing came for them since, and of what came before nobody can tell. A third
one stands only between the rebuilding of a damaged database and the next opening, which makes up for it.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import msgspec

from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.since import Since
from edge_runtime.keys.keyring import DataKey
from edge_runtime.session.admission import NEVER, ViewState
from edge_runtime.wire.printing import prints_only

COVERED: Final = bytes(16)
"""The slot that says up to which journal row every state of its handle is stored."""
ADDED: Final = bytes(15) + b"\1"
"""The slot that says since when the statistics are known that were added later."""

LOST: Final = bytes(15) + b"\2"
"""The slot that says what of a handle's session states could not be read when the database was rebuilt."""
FACTS: Final = (COVERED, ADDED, LOST)
"""Slots that hold no state."""


@prints_only("view", "keep_from_day")
class Snapshot(NamedTuple):
    """A state to store: it covers every event that was tracked when it was taken."""

    key: DataKey
    slot: bytes
    view: str
    entity: str
    dump: bytes
    """Empty: retention has ended all that was in it, and its row goes."""
    since: Since
    day: int
    """See `day_of`."""
    keep_from_day: int
    """Journalled events of this key received before this day are no longer needed."""


@prints_only("through", "view")
class StoredState(msgspec.Struct, frozen=True, array_like=True):
    """A stored state, as it was when `through` was the newest journal row of its handle."""

    through: int
    view: str
    """Key of its view."""
    entity: str
    """Typed entity key."""
    since: Since
    dump: bytes


class Lost(msgspec.Struct, frozen=True, array_like=True):
    """What a rebuilt database lacks of one handle."""

    states: bool = False
    """Stored states may be missing: what has none is made from the journal."""
    tail: bool = False
    """Rows of the journal are missing that no stored state covers: every state is known since `whole_us`."""
    whole_us: int = 0
    """Since when the journal is whole; 0 when none of it was lost."""


_stored = msgspec.msgpack.Decoder(StoredState).decode
_Added = dict[str, Since]
"""View key -> its statistics."""


def slot_of(view_key: str, entity: str) -> bytes:
    """The 16-byte name of one (view, entity) under its random handle."""
    return hashlib.blake2b(f"{view_key}\x00{entity}".encode(), digest_size=16, person=b"edge-slot").digest()


def is_empty(state: ViewState) -> bool:
    """Whether nothing is in it: no event, and none that waits for its time."""
    return state.newest == NEVER and not state.waiting


def day_of(state: ViewState, since: Since, now_us: int) -> int:
    """The day under which a state rests: of its newest event, of one that waits for its time too.

    Of an empty one, the newest day since when something in it is known: until the retention after that is
    over, its row says what may be missing. Now, if there is neither.
    """
    times = since.values() if is_empty(state) else (state.newest, *(one.at_us for one in state.waiting))
    return max(max(times, default=now_us), 0) // DAY_US


def open_state(key: DataKey, slot: bytes, sealed: bytes) -> StoredState:
    """The state in a sealed row."""
    return _stored(key.open("state", slot, sealed))


def open_covered(key: DataKey, sealed: bytes | None) -> int:
    """The row up to which every state of a handle is stored; 0 when none was."""
    return 0 if sealed is None else int.from_bytes(key.open("state", COVERED, sealed), "big")


def open_added(key: DataKey, sealed: bytes | None) -> dict[str, Since]:
    """View key -> since when its statistics are known, for entities of a handle that have no state."""
    return {} if sealed is None else msgspec.msgpack.decode(key.open("state", ADDED, sealed), type=_Added)


def open_lost(key: DataKey, sealed: bytes | None) -> Lost:
    """What a rebuilt database lacks of a handle."""
    return Lost() if sealed is None else msgspec.msgpack.decode(key.open("state", LOST, sealed), type=Lost)


def seal_lost(key: DataKey, lost: Lost) -> bytes:
    return key.seal("state", LOST, msgspec.msgpack.encode(lost))


def seal_covered(key: DataKey, through: int) -> bytes:
    return key.seal("state", COVERED, through.to_bytes(8, "big"))


def seal_added(key: DataKey, added: dict[str, Since]) -> bytes:
    return key.seal("state", ADDED, msgspec.msgpack.encode(added))


def seal_state(snapshot: Snapshot, through: int) -> bytes:
    stored = StoredState(through, snapshot.view, snapshot.entity, snapshot.since, snapshot.dump)
    return seal_stored(snapshot.key, snapshot.slot, stored)


def seal_stored(key: DataKey, slot: bytes, stored: StoredState) -> bytes:
    return key.seal("state", slot, msgspec.msgpack.encode(stored))
