"""Channels: where each stands. A change in one takes the next number of the channel's partition."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from typing import Final

from edge_runtime.wire import digest
from sync_server.store.chapter import Chapter
from sync_server.store.keys import KeyDatabase
from sync_server.store.records import ChannelHead, ChannelSize

SHARED: Final = "all"
"""The channel of every row about nobody whose entity is in no segment."""
SEGMENT: Final = "segment:"

_COLUMNS = "id, channel, seq, digest, floor, bytes, demoted"
_COMING: Final = "rows_coming"
"""Of `meta`: there while rows that belong in channels are still on their way into them."""
_NOTHING: Final = digest.to_bytes(0)
_BESIDE: Final = (
    "SELECT EXISTS (SELECT 1 FROM channels INDEXED BY channels_beside WHERE channel >= 'segment:'"
    " AND channel < 'segment;' AND (bytes > 0 OR demoted > 0))"
)
"""Whether any row stands, or would stand, in a segment's channel: one look into an index."""


def partition_of(channel: str, partitions: int) -> int:
    """The partition that a channel belongs to, for ever."""
    return int.from_bytes(hashlib.blake2b(channel.encode(), digest_size=8).digest(), "big") % partitions


@dataclass(slots=True)
class ChannelState:
    """A channel as a transaction leaves it, so far."""

    id: int
    name: str
    seq: int
    digest: int
    floor: int
    bytes: int
    demoted: int
    partition: int
    held: bool
    """Whether anything stood there, or was kept out of it, when the transaction began."""


class ChannelReads(Chapter):
    """Questions about channels."""

    def channel_head(self, channel: str) -> ChannelHead:
        """Where the channel stands; all zero when nobody wrote to it yet."""
        row = self.execute(
            "SELECT seq, digest, floor, demoted FROM channels WHERE channel = ?", (channel,)
        ).fetchone()
        seq, total, floor, demoted = row or (0, _NOTHING, 0, 0)
        whole = not demoted and self._whole(channel)
        return ChannelHead(seq, digest.from_bytes(total), floor, whole)

    @property
    def rows_coming(self) -> bool:
        """Whether rows that belong in channels are still on their way into them."""
        return self.execute("SELECT 1 FROM meta WHERE key = ?", (_COMING,)).fetchone() is not None

    def _whole(self, channel: str) -> bool:
        """Whether no row that such a channel brings stands in another one, or in none but by a budget."""
        if not (channel == SHARED or channel.startswith("~")) or self.rows_coming:
            return False
        return channel != SHARED or not self.execute(_BESIDE).fetchone()[0]

    def shared_channels(self, limit: int, after: str = "") -> list[ChannelSize]:
        """At most `limit` channels that are about nobody, by name, from the one after `after`."""
        found = self.execute(
            "SELECT channel, bytes, demoted FROM channels WHERE channel > ? AND channel < '~'"
            " ORDER BY channel LIMIT ?",
            (after, limit),
        )
        return [ChannelSize(*row) for row in found]

    def channel_size(self, channel: str) -> ChannelSize:
        """What stands in the channel, and how much its byte budget keeps out."""
        row = self.execute("SELECT bytes, demoted FROM channels WHERE channel = ?", (channel,)).fetchone()
        return ChannelSize(channel, *(row or (0, 0)))

    def count_channels(self) -> int:
        """Channels ever written to."""
        return int(self.execute("SELECT count(*) FROM channels").fetchone()[0])


class ChannelWrites(ChannelReads):
    """Changes of channels. Heads and sequences are kept here and written once, by `settle_channels`."""

    def __init__(self, connection: sqlite3.Connection, keys: KeyDatabase, digest_key: bytes) -> None:
        super().__init__(connection, keys, digest_key)
        self._states: dict[str, ChannelState] = {}
        self._named: dict[int, str] = {}
        self._moved: set[str] = set()
        self._reread: set[str] = set()
        """Channels that did not move, but may be whole now, or whole no more."""
        self._sequences: dict[int, int] = {}
        self._partitions = 0

    def channel_head(self, channel: str) -> ChannelHead:
        """Where the channel stands, what this transaction changed included."""
        self._write_heads()
        return super().channel_head(channel)

    def channel_state(self, channel: str) -> ChannelState:
        """The channel's state in this transaction, made when there is none. For files in `store/` only."""
        state = self._states.get(channel)
        if state is None:
            where = f"SELECT {_COLUMNS} FROM channels WHERE channel = ?"
            state = self._remember(self.execute(where, (channel,)).fetchone() or self._made(channel))
        return state

    def channel_by_id(self, channel_id: int) -> ChannelState:
        """As `channel_state`, of a channel that is there."""
        name = self._named.get(channel_id)
        if name is not None:
            return self._states[name]
        where = f"SELECT {_COLUMNS} FROM channels WHERE id = ?"
        return self._remember(self.execute(where, (channel_id,)).fetchone())

    def next_seq(self, state: ChannelState) -> int:
        """Take the next number of the channel's partition; the channel stands there from now on."""
        partition = state.partition
        if partition not in self._sequences:
            row = self.execute("SELECT seq FROM partitions WHERE partition = ?", (partition,)).fetchone()
            self._sequences[partition] = 0 if row is None else row[0]
        self._sequences[partition] = state.seq = self._sequences[partition] + 1
        self._moved.add(state.name)
        return state.seq

    def raise_floor(self, state: ChannelState, floor: int) -> None:
        """From now on a cursor below `floor` gets a replacing snapshot."""
        if floor > state.floor:
            state.floor = floor
            self._moved.add(state.name)

    def rows_come_in(self, *, coming: bool) -> None:
        """Say that rows are on their way into channels, or have all come: meanwhile no channel is whole."""
        if coming == self.rows_coming:
            return
        if coming:
            self.execute("INSERT INTO meta VALUES (?, x'')", (_COMING,))
        else:
            self.execute("DELETE FROM meta WHERE key = ?", (_COMING,))
        self.look_again()

    def look_again(self) -> None:
        """Let who follows `all` ask anew whether it is whole; of a subject's channel, at the next poll."""
        self._reread.add(SHARED)

    def settle_channels(self) -> frozenset[str]:
        """Write heads and sequences, at the end of the transaction; returns the channels that moved.

        The first row beside `all`, and the end of the last one, move it too: its next checkpoint says so.
        """
        self._write_heads()
        self.execute_many("INSERT OR REPLACE INTO partitions VALUES (?, ?)", list(self._sequences.items()))
        moved = [self._states[name] for name in self._moved]
        if any(s.held != bool(s.bytes or s.demoted) for s in moved if s.name.startswith(SEGMENT)):
            self._reread.add(SHARED)
        return frozenset(self._moved | self._reread)

    def _write_heads(self) -> None:
        self.execute_many(
            "UPDATE channels SET seq = ?, digest = ?, floor = ?, bytes = ?, demoted = ? WHERE id = ?",
            [
                (s.seq, digest.to_bytes(s.digest), s.floor, s.bytes, s.demoted, s.id)
                for s in (self._states[name] for name in self._moved)
            ],
        )

    def _made(self, channel: str) -> tuple[int, str, int, bytes, int, int, int]:
        made = self.execute(
            "INSERT INTO channels (channel, partition, seq, digest, floor, bytes, demoted)"
            " VALUES (?, ?, 0, ?, 0, 0, 0)",
            (channel, self._partition(channel), _NOTHING),
        )
        assert made.lastrowid is not None
        return made.lastrowid, channel, 0, _NOTHING, 0, 0, 0

    def _remember(self, found: tuple[int, str, int, bytes, int, int, int]) -> ChannelState:
        id_, name, seq, total, floor, size, demoted = found
        state = ChannelState(
            *(id_, name, seq, digest.from_bytes(total), floor, size, demoted, self._partition(name)),
            held=bool(size or demoted),
        )
        self._states[name], self._named[id_] = state, name
        return state

    def _partition(self, channel: str) -> int:
        if not self._partitions:
            raw = self.execute("SELECT value FROM meta WHERE key = 'partitions'").fetchone()[0]
            self._partitions = int(raw)
        return partition_of(channel, self._partitions)
