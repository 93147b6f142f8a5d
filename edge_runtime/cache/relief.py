"""Brings the cache under its size limit: what may go goes in the stated order (see `eviction`).

A page of the file counts as used for one row as for twenty, and rows that lost their values leave holes. So
holes are closed first (`pack`), which costs no value, and again after every letting go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge_runtime.cache.evictable import Evictable
from edge_runtime.cache.eviction import Candidate, Coldest, target_bytes
from edge_runtime.cache.hands import Hands, Steps
from edge_runtime.cache.records import TableKey
from edge_runtime.cache.room import Room
from edge_runtime.cache.schema import PACKED

PACK_BYTES: Final = 1 << 18
"""About so many bytes are written anew in one unit."""


class Relief:
    """The size budget of one runtime.

    Args:
        stages: what may go, in the stated order.
    """

    def __init__(self, hands: Hands, room: Room, stages: Sequence[Evictable]) -> None:
        self._hands, self._room, self._stages = hands, room, stages
        self._again_bytes = 0
        """After all has gone that may: not worth another look before so much is used."""

    @property
    def due(self) -> bool:
        """Whether the cache is over its limit, and something may have come that can go."""
        used_bytes, limit = self._hands.used_bytes(), self._room.limit_bytes
        if not limit or used_bytes <= limit:
            self._room.crowded, self._again_bytes = False, 0
            return False
        return used_bytes >= self._again_bytes

    def run(self) -> Steps:
        """Bring it under (what has expired went before); `crowded` where all that may go is not enough."""
        if not self.due:
            return
        limit = self._room.limit_bytes
        target = target_bytes(limit)
        yield from self._pack(target)
        for stage in self._stages:
            yield from self._exhaust(stage, target)
        used_bytes = self._hands.used_bytes()
        self._room.crowded = used_bytes > limit
        self._again_bytes = used_bytes + limit // 32 if self._room.crowded else 0

    def _exhaust(self, stage: Evictable, target: int) -> Steps:
        """Let what is coldest go until the target is reached or nothing is left."""
        while (need_bytes := self._hands.used_bytes() - target) > 0:
            gone_bytes = 0
            while gone_bytes < need_bytes:  # of many small rows not all are found in one pass
                found = Coldest(need_bytes - gone_bytes)
                yield from stage.scan(found)
                going = found.in_order()
                if not going:
                    break
                gone_bytes += sum(one.size_bytes for one in going)
                yield from self._let_go(stage, going, target)
            if not gone_bytes:
                return
            yield from self._pack(target)

    def _let_go(self, stage: Evictable, going: Sequence[Candidate], target: int) -> Steps:
        """In order, until the target is reached: a row with pages of its own frees them at once."""
        while going and self._hands.used_bytes() > target:
            rows = self._hands.pace.rows
            yield stage.let_go(going[:rows])
            going = going[rows:]

    def _pack(self, target: int) -> Steps:
        """Close the holes, table by table, until the target is reached."""
        hands = self._hands
        for table in PACKED:
            after: TableKey | None = None
            while hands.used_bytes() > target:
                with hands.database.write("pack") as tx:
                    after = tx.pack(table, after, hands.pace.rows, PACK_BYTES)
                yield hands.pace.rows
                if after is None:
                    break
