"""The decision lane as frames: read and encoded once per position, shared by every session there."""

from __future__ import annotations

from typing import NamedTuple

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.seal import canonical
from sync_server.store.protocol import Store

ROOM_BYTES = codec.FRAME_LIMIT_BYTES - 4 * 1024
"""What entries or rows may take of a frame; the rest is for the words around them."""


@prints_only("upto", "more")
class LaneFrame(NamedTuple):
    """A frame, and where the next one begins."""

    frame: bytes
    upto: int
    more: bool
    """Whether a device stands at its old position still: the drain goes on."""


class LaneTail:
    """What this node knows of the lane. `head` is in memory, so looking before every frame costs nothing.

    Args:
        page: most entries of one frame.
    """

    def __init__(self, store: Store, page: int) -> None:
        self._store, self._page = store, page
        self._frames: dict[int, LaneFrame] = {}
        self._told = 0
        """The head of which every session was woken."""
        self._read_at = 0
        """Where the lane's head stood when these frames were read; of no two different heads."""
        self.head = 0
        self.news()

    def news(self) -> bool:
        """Read the head again, after a commit or at a poll; whether it moved since this was last asked.

        Whoever asks wakes every session: what one of them found meanwhile (`refresh`) is news to the others.
        """
        self.refresh()
        news, self._told = self.head != self._told, self.head
        return news

    def refresh(self) -> None:
        """Read the head again for one session that is about to say what was decided by now."""
        with self._store.read() as tx:
            head = tx.lane_head()
        if head != self.head:
            self.head = head
            self._frames.clear()  # a newer decision of a pair replaced the older one: never send that again

    def after(self, position: int) -> LaneFrame:
        """The frame that goes on at `position`; at the end an empty one: you stand at the head."""
        found = self._frames.get(position)
        if found is None:
            found = self._frames[position] = self._read(position)
        return found

    def _read(self, position: int) -> LaneFrame:
        with self._store.read() as tx:
            entries = tx.lane_since(position, self._page)
            head = tx.lane_head()
        if head != self._read_at:
            # the lane moved unheard: an older frame beside this one would leave out what moved from here to
            # beyond its end, and the two would pass for a whole drain
            self._frames.clear()
            self._read_at = head
        kept, used = 0, 0
        for entry in entries:
            used += len(canonical(entry))
            if used > ROOM_BYTES:
                break
            kept += 1
        whole = kept == len(entries) and len(entries) < self._page
        upto = max(head, position) if whole else entries[kept - 1].seq
        lane = m.Lane(base=position, entries=entries[:kept], upto=upto, more=not whole)
        return LaneFrame(codec.encode(lane), upto, lane.more)
