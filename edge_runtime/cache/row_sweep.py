"""Upkeep of rows about nobody: what is past its ttl is let go, what was read is noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge_runtime.cache.aging import past_ttl
from edge_runtime.cache.hands import Hands, Steps
from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.records import LET_GO, RowPlace, RowSize

HOUR_US: Final = 3_600_000_000


class RowSweep:
    """The rows about nobody of one runtime.

    Args:
        ttls_us: of every server view, by key; 0 for ever. One that the catalog no longer has is not judged.
    """

    def __init__(self, hands: Hands, ttls_us: Mapping[str, int]) -> None:
        self._hands, self._ttls_us = hands, ttls_us
        self._looked_us = self._due_us = 0

    def due(self, now_us: int) -> bool:
        """Whether some row may be past its ttl, of those held at the last look or come since."""
        return now_us >= self._due_us or not 0 <= now_us - self._looked_us < HOUR_US

    def expire(self) -> Steps:
        """Let go of the values of rows past their ttl; their times stay, so reads say EXPIRED."""
        hands = self._hands
        now_us = self._looked_us = hands.clock.now_us()
        after, next_us = None, now_us + HOUR_US
        while True:
            limit = hands.pace.rows
            with hands.database.read() as tx:
                part = tx.row_sizes(after, limit)
            held = [row for row in part if row.size_bytes > len(LET_GO)]
            stale = [row.place for row in held if self.stale(row, now_us)]
            if stale:
                self.let_go(stale)
            ends_us = [row.event_time_us + ttl for row in held if (ttl := self._ttl_us(row))]
            next_us = min([next_us, *(us + 1 for us in ends_us if us >= now_us)])
            yield len(part)
            if len(part) < limit:
                break
            after = part[-1].place
        self._due_us = next_us

    def stale(self, row: RowSize, now_us: int) -> bool:
        """Whether a row is past its ttl."""
        return past_ttl(self._ttl_us(row), row.event_time_us, now_us)

    def _ttl_us(self, row: RowSize) -> int:
        return self._ttls_us.get(_view_key(row.place), 0)

    def let_go(self, places: list[RowPlace]) -> None:
        """Drop the values of these rows, on disk and in memory."""
        hands = self._hands
        with hands.database.write("sweep") as tx:
            hands.swept.rows_let_go += tx.let_go_rows(places)
        hands.memory.changed((_view_key(place), place.entity) for place in places)

    def note(self, wanted: bool) -> Steps:
        """Write down on which day rows were last read; `wanted` goes on noting it."""
        hands = self._hands
        day = hands.clock.now_us() // DAY_US
        used = list(hands.memory.note_use(wanted))
        while used:
            some, used = used[: hands.pace.rows], used[hands.pace.rows :]
            with hands.database.write("sweep") as tx:
                tx.touch_rows(some, day)
            yield len(some)


def _view_key(place: RowPlace) -> str:
    return f"{place.view}@{place.version}"
