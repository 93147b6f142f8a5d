"""Segments: which entities belong to which. Never a subject: every follower of a segment sees its members."""

from __future__ import annotations

from sync_server.store.chapter import Chapter


class SegmentReads(Chapter):
    """Questions about segments."""

    def segments_of(self, entity: str) -> list[str]:
        """The segments of an entity (as its rows are keyed), by name."""
        found = self.execute(
            "SELECT segment FROM segment_members WHERE entity = ? ORDER BY segment", (entity,)
        )
        return [row[0] for row in found]

    def segment_size(self, segment: str) -> int:
        """How many entities belong to it; 0 for one that nobody belongs to."""
        row = self.execute("SELECT members FROM segments WHERE segment = ?", (segment,)).fetchone()
        return 0 if row is None else int(row[0])

    def segment_members(self, segment: str, after: str, limit: int) -> list[str]:
        """At most `limit` members in order, from the one after `after`."""
        found = self.execute(
            "SELECT entity FROM segment_members WHERE segment = ? AND entity > ? ORDER BY entity LIMIT ?",
            (segment, after, limit),
        )
        return [row[0] for row in found]

    def segments(self, after: str, limit: int) -> list[tuple[str, int]]:
        """(name, members) of at most `limit` segments by name, from the one after `after`."""
        return self.execute(
            "SELECT segment, members FROM segments WHERE segment > ? ORDER BY segment LIMIT ?", (after, limit)
        ).fetchall()

    def count_segments(self) -> int:
        """Segments that anybody belongs to."""
        return int(self.execute("SELECT count(*) FROM segments").fetchone()[0])


class SegmentWrites(SegmentReads):
    """Changes of membership. Placements are moved by the caller, in the same transaction."""

    _any_member: bool | None = None
    """Whether anything belongs to any segment; None: not looked yet."""

    def segments_of(self, entity: str) -> list[str]:
        """As in a reading. Where there are no segments at all, a publish does not ask for each row."""
        if self._any_member is None:
            self._any_member = self.execute("SELECT 1 FROM segments LIMIT 1").fetchone() is not None
        return super().segments_of(entity) if self._any_member else []

    def join_segment(self, entity: str, segment: str, now_us: int) -> bool:
        """Let the entity belong to the segment; False when it did."""
        self._any_member = True
        made = self.execute("INSERT OR IGNORE INTO segment_members VALUES (?, ?)", (entity, segment))
        if made.rowcount != 1:
            return False
        self.execute(
            "INSERT INTO segments VALUES (?, 1, ?) ON CONFLICT (segment)"
            " DO UPDATE SET members = members + 1, changed_us = excluded.changed_us",
            (segment, now_us),
        )
        return True

    def part_segment(self, entity: str, segment: str, now_us: int) -> bool:
        """Let the entity belong to it no more; False when it did not. A segment without members is none."""
        gone = self.execute("DELETE FROM segment_members WHERE entity = ? AND segment = ?", (entity, segment))
        if gone.rowcount != 1:
            return False
        self.execute(
            "UPDATE segments SET members = members - 1, changed_us = ? WHERE segment = ?", (now_us, segment)
        )
        self.execute("DELETE FROM segments WHERE segment = ? AND members = 0", (segment,))
        return True
