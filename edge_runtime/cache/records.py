"""Plain records that the cache hands out."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from edge_runtime.wire.printing import prints_only

OutboxKind = Literal["decision", "receipt", "report"]

LET_GO: Final = b"\xc0"
"""Values (msgpack nil) of a row of which only times and hash are kept: what it said was let go for room, or
because its time was over. The same row may come again."""
ABSENT: Final = b"\xc2"
"""Values (msgpack false) that stand for a row which the server did not have when this device asked for it;
`created_us` says when. Its event time is `BEFORE_ALL_US`, so any row that there is counts as newer."""
BEFORE_ALL_US: Final = -(2**62)
CATALOG: Final = "sync.catalog"
"""Of `meta`: fingerprint of the catalog by which channels were filled."""
GAPS: Final = ""
"""Stands for a view's key where it is not a row that changed, but what it means that one is not there."""
ON_DEMAND: Final = ""
"""Stands for a channel's name in rows that this device asked for. No channel can bear it: a name on the wire
has at least one character."""


class ChannelState(NamedTuple):
    """How far this device is in a channel: newest seq applied, and the digest of what it holds."""

    cursor: int
    digest: int
    whole: bool | None = None
    """What the server said when both were last equal: whether a row that is not in the channel is nowhere.
    None: they are not known to be equal, such as in the middle of a snapshot."""


class Placed(NamedTuple):
    """What became of a row that a channel brought."""

    kept: bool
    """False when the row held there is newer: it stays as it was, with its hash."""
    before: bytes | None
    """Hash of the row that was held there; None when there was none."""


Order = tuple[int, int, int]
"""(event time, created, seq) of a row: of two in one place the later is kept."""

Held = tuple[Order, bytes]
"""Of the row that is held in a place, what its successor must know: its order, and its hash."""


@prints_only("view", "version")
class RowPlace(NamedTuple):
    """Where a row about nobody stands: the key of its table, in its order."""

    entity: str
    view: str
    version: int
    channel: str


class RowSize(NamedTuple):
    """What a sweeper must know of a row about nobody."""

    place: RowPlace
    event_time_us: int
    used_day: int
    """Days since 1970 when it was last brought or read; 0 = not known."""
    size_bytes: int
    """Of its values; a stub, or a row of which nothing can be let go, has at most 1."""


class JournalSpan(NamedTuple):
    """What a sweeper must know of the journal of one handle; days since 1970, None where there is no row."""

    newest_n: int
    """0 for an empty journal."""
    newest_day: int | None
    oldest_covered_day: int | None
    """Of the rows that stored states cover."""
    oldest_bare_day: int | None
    """Of the rows that nothing but the journal holds."""


class FileSize(NamedTuple):
    """How much of the file is in use, the write-ahead log left out."""

    used_bytes: int
    file_bytes: int


TableKey = tuple[str | int | bytes, ...]
"""Where a row stands in a table that is kept in the order of its key."""


@prints_only("kind")
class OutboxItem(NamedTuple):
    """One thing that waits for the server's acknowledgement."""

    id: bytes
    kind: OutboxKind
    payload: bytes
