"""Which rows stand in which channel. Entering and leaving take a seq of the channel, like any change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from edge_runtime.wire import digest
from edge_runtime.wire.messages import RANGES, Row
from sync_server.store.channels import ChannelReads, ChannelState, ChannelWrites
from sync_server.store.payload import open_payload

_ROW: Final = (
    "r.entity, r.view, r.version, r.event_time_us, r.created_us, r.grant_seq, r.subject, r.purpose, r.payload"
)
_IN_CHANNEL: Final = f"SELECT p.seq, p.deleted, {_ROW} FROM placements p JOIN rows r ON r.id = p.row"
_NO_HASH: Final = digest.to_bytes(0)


class PlacementReads(ChannelReads):
    """Questions about what stands in a channel."""

    def channel_rows(self, channel: str, after: int, limit: int) -> list[Row]:
        """At most `limit` rows of the channel with seq > `after`, in order, payloads opened.

        One query for first sync, catch-up and live. A row that was deleted, or left the channel, is a delete.
        """
        found = self.execute(
            f"{_IN_CHANNEL} WHERE p.channel = (SELECT id FROM channels WHERE channel = ?) AND p.seq > ?"
            " ORDER BY p.seq LIMIT ?",
            (channel, after, limit),
        )
        return [self._placed(row) for row in found]

    def channel_range_digests(self, channel: str) -> list[int]:
        """The channel's digest in 64 parts, by `digest.range_of`; they add up to the head's digest."""
        sums = [0] * RANGES
        found = self.execute(
            "SELECT range, hash FROM placements WHERE deleted = 0"
            " AND channel = (SELECT id FROM channels WHERE channel = ?)",
            (channel,),
        )
        for place, part in found:
            sums[place] += digest.from_bytes(part)
        return [total % digest.MODULUS for total in sums]

    def channel_range_rows(self, channel: str, range_: int, after: int, limit: int) -> list[Row]:
        """At most `limit` rows of one sub-range with seq > `after`, in order, deletes included."""
        found = self.execute(
            f"{_IN_CHANNEL} WHERE p.channel = (SELECT id FROM channels WHERE channel = ?) AND p.seq > ?"
            " AND p.range = ? ORDER BY p.seq LIMIT ?",
            (channel, after, range_, limit),
        )
        return [self._placed(row) for row in found]

    def channels_of(self, entity: str, view: str, version: int) -> list[str]:
        """The channels in which a row stands now, by name."""
        found = self.execute(
            "SELECT c.channel FROM rows r JOIN placements p ON p.row = r.id JOIN channels c"
            " ON c.id = p.channel WHERE r.entity = ? AND r.view = ? AND r.version = ? AND p.deleted = 0"
            " ORDER BY c.channel",
            (entity, view, version),
        )
        return [row[0] for row in found]

    def _placed(self, found: tuple[Any, ...]) -> Row:
        seq, deleted, entity, view, version, event_us, created_us, grant, subject, purpose, payload = found
        values = b""
        if not deleted:
            values = open_payload(self._keys, (entity, view, version, subject, purpose, grant), payload)
        return Row(seq, entity, view, version, event_us, created_us, grant, bool(deleted), values)


class PlacementWrites(ChannelWrites, PlacementReads):
    """Changes of what stands where."""

    _any_kept_out: bool | None = None
    """Whether any row is kept out of any channel; None: not looked yet."""

    def place(
        self,
        row_id: int,
        row: Row,
        size: int,
        channels: Sequence[str],
        now_us: int,
        *,
        changed: bool,
        new: bool = False,
    ) -> None:
        """Let a row stand in exactly `channels`. Where it stood and does not any more, it leaves.

        Args:
            size: bytes of its id and its payload as stored.
            new: the row was never there, so it stands nowhere.
            changed: the row itself is new, other or deleted: it takes a seq where it stays, too. A row that
                only moves takes one where it enters and one where it leaves.
        """
        stood = {} if new else self._stood(row_id)
        kept_out = set[int]() if new else self._kept_out(row_id, () if row.deleted else channels)
        for name in channels:
            state = self.channel_state(name)
            if state.id in kept_out:
                continue
            before = stood.pop(state.id, None)
            if before is None:
                self._enter(state, row_id, row, size)
            elif changed or before[0]:
                self._renew(state, row_id, row, size, before)
        for channel_id, (deleted, size_, part) in stood.items():
            if not deleted:
                self._leave(self.channel_by_id(channel_id), row_id, size_, part, now_us)

    def drop_left(self, before_us: int, limit: int) -> int:
        """Forget at most `limit` deletes that are older than `before_us`; cursors below them get a snapshot.

        Returns how many.
        """
        old = self.execute(
            "SELECT row, channel, seq FROM placements WHERE deleted = 1 AND left_us < ? LIMIT ?",
            (before_us, limit),
        ).fetchall()
        for row_id, channel_id, seq in old:
            self.raise_floor(self.channel_by_id(channel_id), seq)
            self._forget(row_id, channel_id)
        return len(old)

    def drop_placements(self, row_ids: Iterable[int]) -> None:
        """Take rows out of every channel without a delete there: each such channel starts anew."""
        for row_id in row_ids:
            found = self.execute(
                "SELECT channel, bytes, hash FROM placements WHERE row = ?", (row_id,)
            ).fetchall()
            for channel_id, size, part in found:
                self._drop(self.channel_by_id(channel_id), row_id, size, part)

    def count_demoted(self, state: ChannelState, change: int) -> None:
        """The channel's budget keeps out so many more rows, or fewer."""
        state.demoted += change
        self._any_kept_out = None
        self._moved.add(state.name)

    # ---- within ------------------------------------------------------------------------------------------

    def _stood(self, row_id: int) -> dict[int, tuple[int, int, bytes]]:
        """channel id -> (deleted, bytes, hash) of a row's placements."""
        found = self.execute("SELECT channel, deleted, bytes, hash FROM placements WHERE row = ?", (row_id,))
        return {channel: (deleted, size, part) for channel, deleted, size, part in found}

    def _kept_out(self, row_id: int, belongs: Sequence[str]) -> set[int]:
        """The channels whose budget keeps the row out; where it does not belong any more, nothing does."""
        if self._any_kept_out is None:
            self._any_kept_out = bool(self.execute("SELECT EXISTS (SELECT 1 FROM demoted)").fetchone()[0])
        if not self._any_kept_out:
            return set()
        found = self.execute("SELECT channel FROM demoted WHERE row = ?", (row_id,)).fetchall()
        states = [self.channel_by_id(channel_id) for (channel_id,) in found]
        for state in (s for s in states if s.name not in belongs):
            self.execute("DELETE FROM demoted WHERE row = ? AND channel = ?", (row_id, state.id))
            self.count_demoted(state, -1)
        return {state.id for state in states if state.name in belongs}

    def _enter(self, state: ChannelState, row_id: int, row: Row, size: int) -> None:
        seq, added = self._added(state, row, size)
        place = digest.range_of(self._digest_key, row.entity, row.view, row.version)
        self.execute(
            "INSERT INTO placements VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*(row_id, state.id, seq, place, row.deleted), *_since(row, size), digest.to_bytes(added)),
        )

    def _renew(
        self, state: ChannelState, row_id: int, row: Row, size: int, before: tuple[int, int, bytes]
    ) -> None:
        _, old_size, part = before
        _take_out(state, old_size, part)
        seq, added = self._added(state, row, size)
        self.execute(
            "UPDATE placements SET seq = ?, deleted = ?, left_us = ?, bytes = ?, hash = ?"
            " WHERE row = ? AND channel = ?",
            (seq, row.deleted, *_since(row, size), digest.to_bytes(added), row_id, state.id),
        )

    def _added(self, state: ChannelState, row: Row, size: int) -> tuple[int, int]:
        """Count the row in; returns its seq there and what it adds to the digest."""
        seq = self.next_seq(state)
        if row.deleted:
            return seq, 0
        numbered = Row(
            *(seq, row.entity, row.view, row.version, row.event_time_us, row.created_us, row.grant),
            *(row.deleted, row.values),
        )
        added = digest.row_hash(self._digest_key, state.name, numbered)
        state.digest = digest.add(state.digest, added=added)
        state.bytes += size
        return seq, added

    def _leave(self, state: ChannelState, row_id: int, size: int, part: bytes, now_us: int) -> None:
        """A delete stays in a shared channel; a personal one is small, and starts anew instead."""
        if state.name.startswith("~"):
            self._drop(state, row_id, size, part)
            return
        _take_out(state, size, part)
        self.execute(
            "UPDATE placements SET seq = ?, deleted = 1, left_us = ?, bytes = 0, hash = ?"
            " WHERE row = ? AND channel = ?",
            (self.next_seq(state), now_us, _NO_HASH, row_id, state.id),
        )

    def _drop(self, state: ChannelState, row_id: int, size: int, part: bytes) -> None:
        _take_out(state, size, part)
        self.raise_floor(state, self.next_seq(state))
        self._forget(row_id, state.id)

    def _forget(self, row_id: int, channel_id: int) -> None:
        self.execute("DELETE FROM placements WHERE row = ? AND channel = ?", (row_id, channel_id))


def _since(row: Row, size: int) -> tuple[int, int]:
    """(left_us, bytes) of a row that stands, or that its publisher deleted."""
    return (row.created_us, 0) if row.deleted else (0, size)


def _take_out(state: ChannelState, size: int, part: bytes) -> None:
    state.digest = digest.add(state.digest, removed=digest.from_bytes(part))
    state.bytes -= size
