"""Feature rows and channels: current state, one row per (entity, view, version), sequenced per partition."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_runtime.wire import digest
from edge_runtime.wire.messages import RANGES, Row
from edge_runtime.wire.seal import canonical
from sync_server.errors import StoreForeign
from sync_server.store.chapter import Chapter
from sync_server.store.keys import KeyDatabase
from sync_server.store.records import ChannelHead, RowState

_COLUMNS = (
    "seq, entity, view, version, event_time_us, created_us, grant_seq, deleted, payload, subject, purpose"
)


def partition_of(channel: str, partitions: int) -> int:
    """The partition that a channel belongs to, for ever."""
    return int.from_bytes(hashlib.blake2b(channel.encode(), digest_size=8).digest(), "big") % partitions


class RowReads(Chapter):
    """Questions about rows and channels."""

    def channel_head(self, channel: str) -> ChannelHead:
        """Where the channel stands; all zero when nobody wrote to it yet."""
        row = self.execute("SELECT seq, digest, floor FROM channels WHERE channel = ?", (channel,)).fetchone()
        return ChannelHead(0, 0, 0) if row is None else ChannelHead(row[0], digest.from_bytes(row[1]), row[2])

    def channel_rows(self, channel: str, after: int, limit: int) -> list[Row]:
        """At most `limit` rows of the channel with seq > `after`, in order, payloads opened."""
        found = self.execute(
            f"SELECT {_COLUMNS} FROM rows WHERE channel = ? AND seq > ? ORDER BY seq LIMIT ?",
            (channel, after, limit),
        )
        return [self._row(row) for row in found]

    def channel_range_digests(self, channel: str) -> list[int]:
        """The channel's digest in 64 parts, by `digest.range_of`; they add up to the head's digest."""
        sums = [0] * RANGES
        found = self.execute("SELECT entity, view, version, hash FROM rows WHERE channel = ?", (channel,))
        for entity, view, version, part in found:
            place = digest.range_of(self._digest_key, entity, view, version)
            sums[place] = digest.add(sums[place], added=digest.from_bytes(part))
        return sums

    def channel_range_rows(self, channel: str, range_: int, after: int, limit: int) -> list[Row]:
        """At most `limit` rows of one sub-range with seq > `after`, in order, deletes included."""
        kept: list[Row] = []
        found = self.execute(
            f"SELECT {_COLUMNS} FROM rows WHERE channel = ? AND seq > ? ORDER BY seq", (channel, after)
        )
        for row in found:
            if digest.range_of(self._digest_key, *row[1:4]) == range_:
                kept.append(self._row(row))
                if len(kept) == limit:
                    break
        return kept

    def row_state(self, entity: str, view: str, version: int) -> RowState | None:
        """What is there of one row, deletes included; None when nothing was ever written."""
        found = self.execute(
            f"SELECT {_COLUMNS} FROM rows WHERE entity = ? AND view = ? AND version = ?",
            (entity, view, version),
        ).fetchone()
        if found is None:
            return None
        row = self._row(found)
        return RowState(row.seq, row.event_time_us, row.created_us, row.deleted, row.values, row.grant)

    def count_rows(self) -> int:
        """Rows held, deletes left out."""
        return int(self.execute("SELECT count(*) FROM rows WHERE deleted = 0").fetchone()[0])

    def count_channels(self) -> int:
        """Channels ever written to."""
        return int(self.execute("SELECT count(*) FROM channels").fetchone()[0])

    def _row(self, found: tuple[Any, ...]) -> Row:
        seq, entity, view, version, event_us, created_us, grant, deleted, payload, subject, purpose = found
        if subject is not None and not deleted:
            key = self._keys.find(subject, purpose, grant)
            payload = _open(key, payload, (entity, view, version, subject, purpose, grant))
        return Row(seq, entity, view, version, event_us, created_us, grant, bool(deleted), payload)


class RowWrites(RowReads):
    """Changes of rows and channels. Heads and sequences are kept here and written once, by `settle`."""

    def __init__(self, connection: sqlite3.Connection, keys: KeyDatabase, digest_key: bytes) -> None:
        super().__init__(connection, keys, digest_key)
        self._heads: dict[str, ChannelHead] = {}
        self._sequences: dict[int, int] = {}
        self._partitions = 0

    def channel_head(self, channel: str) -> ChannelHead:
        """Where the channel stands, what this transaction changed included."""
        return self._heads.get(channel) or super().channel_head(channel)

    def put_row(
        self, channel: str, row: Row, subject: bytes | None = None, purpose: str | None = None
    ) -> int:
        """Make `row` the current state of its (entity, view, version) in `channel`; returns its seq.

        Args:
            row: its `seq` is ignored; a delete carries no values.
            subject, purpose: of a personal row, whose payload is then sealed under (subject, purpose, grant).
        """
        seq = self._next(channel)
        numbered = Row(seq, *_after_seq(row))
        self._leave(row.entity, row.view, row.version, channel)
        added = digest.row_hash(self._digest_key, channel, numbered)
        head = self.channel_head(channel)
        self._heads[channel] = ChannelHead(seq, digest.add(head.digest, added=added), head.floor)
        payload = row.values
        if subject is not None and purpose is not None and not row.deleted:
            key = self._keys.make(subject, purpose, row.grant)
            payload = self._seal(key, numbered, subject, purpose)
        self.execute(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.entity, row.view, row.version, channel, seq, row.event_time_us, row.created_us),
                *(subject, purpose, row.grant, row.deleted, payload, digest.to_bytes(added)),
            ),
        )
        return seq

    def drop_personal(self, subject: bytes, purpose: str) -> int:
        """Remove every row of the pair, tombstones too; its channel starts anew. Returns how many rows."""
        pair = (subject, purpose)
        channels = self.execute(
            "SELECT DISTINCT channel FROM rows WHERE subject = ? AND purpose = ?", pair
        ).fetchall()
        gone = self.execute("DELETE FROM rows WHERE subject = ? AND purpose = ?", pair).rowcount
        for (channel,) in channels:
            seq = self._next(channel)
            self._heads[channel] = ChannelHead(seq, 0, seq)
        return gone

    def drop_deletes(self, before_us: int) -> int:
        """Forget deletes older than `before_us`; cursors below them get a snapshot from now on."""
        old = self.execute(
            "SELECT entity, view, version, channel, seq FROM rows WHERE deleted = 1 AND created_us < ?",
            (before_us,),
        ).fetchall()
        for entity, view, version, channel, seq in old:
            head = self.channel_head(channel)
            self._heads[channel] = ChannelHead(head.seq, head.digest, max(head.floor, seq))
            self.execute(
                "DELETE FROM rows WHERE entity = ? AND view = ? AND version = ?", (entity, view, version)
            )
        return len(old)

    def drop_keyless(self) -> int:
        """Remove personal rows whose key is gone, as after a restore of the main store; returns how many."""
        triples = self.execute(
            "SELECT DISTINCT subject, purpose, grant_seq FROM rows WHERE subject IS NOT NULL AND deleted = 0"
        ).fetchall()
        pairs = {(s, p) for s, p, grant in triples if self._keys.find(s, p, grant) is None}
        return sum(self.drop_personal(subject, purpose) for subject, purpose in sorted(pairs))

    def settle_rows(self) -> frozenset[str]:
        """Write heads and sequences, at the end of the transaction; returns the channels that moved."""
        self.execute_many(
            "INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?, ?)",
            [
                (name, partition_of(name, self._count()), h.seq, digest.to_bytes(h.digest), h.floor)
                for name, h in self._heads.items()
            ],
        )
        self.execute_many("INSERT OR REPLACE INTO partitions VALUES (?, ?)", list(self._sequences.items()))
        return frozenset(self._heads)

    def _count(self) -> int:
        if not self._partitions:
            raw = self.execute("SELECT value FROM meta WHERE key = 'partitions'").fetchone()[0]
            self._partitions = int(raw)
        return self._partitions

    def _next(self, channel: str) -> int:
        partition = partition_of(channel, self._count())
        if partition not in self._sequences:
            row = self.execute("SELECT seq FROM partitions WHERE partition = ?", (partition,)).fetchone()
            self._sequences[partition] = 0 if row is None else row[0]
        self._sequences[partition] += 1
        return self._sequences[partition]

    def _leave(self, entity: str, view: str, version: int, channel: str) -> None:
        """Take the row's present hash out of its channel; a row that moves makes the old channel resend."""
        old = self.execute(
            "SELECT channel, hash FROM rows WHERE entity = ? AND view = ? AND version = ?",
            (entity, view, version),
        ).fetchone()
        if old is None:
            return
        head = self.channel_head(old[0])
        left = digest.add(head.digest, removed=digest.from_bytes(old[1]))
        if old[0] == channel:
            self._heads[channel] = ChannelHead(head.seq, left, head.floor)
        else:
            seq = self._next(old[0])
            self._heads[old[0]] = ChannelHead(seq, left, seq)

    def _seal(self, key: AESGCM, row: Row, subject: bytes, purpose: str) -> bytes:
        nonce = self._keys.nonce()
        name = (row.entity, row.view, row.version, subject, purpose, row.grant)
        return nonce + key.encrypt(nonce, row.values, canonical(name))


def _open(key: AESGCM | None, sealed: bytes, name: tuple[object, ...]) -> bytes:
    if key is None:
        raise StoreForeign("a personal row has lost its key; the row was not opened")
    try:
        return key.decrypt(sealed[:12], sealed[12:], canonical(name))
    except InvalidTag:
        raise StoreForeign("a personal row does not open under its key; nothing was changed") from None


def _after_seq(row: Row) -> tuple[str, str, int, int, int, int, bool, bytes]:
    return (
        *(row.entity, row.view, row.version, row.event_time_us, row.created_us),
        *(row.grant, row.deleted, row.values),
    )
