"""Channels: where each stands. A change in one takes the next number of the channel's partition."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass

from edge_runtime.wire import digest
from sync_server.store.chapter import Chapter
from sync_server.store.keys import KeyDatabase
from sync_server.store.records import ChannelHead, ChannelSize

_COLUMNS = "id, channel, seq, digest, floor, bytes, demoted"


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


class ChannelReads(Chapter):
    """Questions about channels."""

    def channel_head(self, channel: str) -> ChannelHead:
        """Where the channel stands; all zero when nobody wrote to it yet."""
        row = self.execute("SELECT seq, digest, floor FROM channels WHERE channel = ?", (channel,)).fetchone()
        return ChannelHead(0, 0, 0) if row is None else ChannelHead(row[0], digest.from_bytes(row[1]), row[2])

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
        self._sequences: dict[int, int] = {}
        self._partitions = 0

    def channel_head(self, channel: str) -> ChannelHead:
        """Where the channel stands, what this transaction changed included."""
        state = self._states.get(channel)
        if state is None:
            return super().channel_head(channel)
        return ChannelHead(state.seq, state.digest, state.floor)

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

    def settle_channels(self) -> frozenset[str]:
        """Write heads and sequences, at the end of the transaction; returns the channels that moved."""
        self.execute_many(
            "UPDATE channels SET seq = ?, digest = ?, floor = ?, bytes = ?, demoted = ? WHERE id = ?",
            [
                (s.seq, digest.to_bytes(s.digest), s.floor, s.bytes, s.demoted, s.id)
                for s in (self._states[name] for name in self._moved)
            ],
        )
        self.execute_many("INSERT OR REPLACE INTO partitions VALUES (?, ?)", list(self._sequences.items()))
        return frozenset(self._moved)

    def _made(self, channel: str) -> tuple[int, str, int, bytes, int, int, int]:
        nothing = digest.to_bytes(0)
        made = self.execute(
            "INSERT INTO channels (channel, partition, seq, digest, floor, bytes, demoted)"
            " VALUES (?, ?, 0, ?, 0, 0, 0)",
            (channel, self._partition(channel), nothing),
        )
        assert made.lastrowid is not None
        return made.lastrowid, channel, 0, nothing, 0, 0, 0

    def _remember(self, found: tuple[int, str, int, bytes, int, int, int]) -> ChannelState:
        id_, name, seq, total, floor, size, demoted = found
        state = ChannelState(
            *(id_, name, seq, digest.from_bytes(total), floor, size, demoted, self._partition(name))
        )
        self._states[name], self._named[id_] = state, name
        return state

    def _partition(self, channel: str) -> int:
        if not self._partitions:
            raw = self.execute("SELECT value FROM meta WHERE key = 'partitions'").fetchone()[0]
            self._partitions = int(raw)
        return partition_of(channel, self._partitions)
