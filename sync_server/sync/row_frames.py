"""What the next frame of a followed channel is: a patch, a delta, the checkpoint at its head, or nothing.

No frame of rows overtakes the lane: one that was read at an epoch which the device has not drained waits, and
decisions go in its place.
"""

from __future__ import annotations

from sync_server.sync.fanout import Fanout
from sync_server.sync.follow import Follow
from sync_server.sync.lane_position import LanePosition
from sync_server.sync.patches import Patches
from sync_server.sync.pushed import PushedViews
from sync_server.sync.snapshot_slot import SnapshotSlot


class RowFrames:
    """The frames of rows of every session of a node; what a frame brings is noted in the `Follow`."""

    def __init__(self, fanout: Fanout, patches: Patches, pushed: PushedViews) -> None:
        self._fanout, self._patches, self._pushed = fanout, patches, pushed

    def next(
        self, channel: str, follow: Follow, lane: LanePosition, slot: SnapshotSlot, catalog: str
    ) -> bytes | None:
        """The next frame, which is of the lane where that has to go first; None when there is nothing to
        say, or a snapshot has to wait for its slot.

        Args:
            lane, slot: of the session.
            catalog: the device's, by which it judges what a channel may lack.
        """
        if follow.patches:
            return self._patch(channel, follow, lane)
        head = self._fanout.head(channel)
        replacing = follow.must_replace(head.floor, head.seq)
        if (replacing or follow.snapshot) and not slot.may_stream(channel):
            return None
        if replacing or follow.cursor < head.seq:
            return self._delta(channel, follow, lane, slot, replacing=replacing)
        follow.floor = head.floor
        whole = head.whole and self._pushed.cover(catalog)  # it may push what is not pushed here
        if follow.checkpoint == (head.seq, head.digest, whole):
            return None
        follow.checkpoint = (head.seq, head.digest, whole)
        return self._fanout.checkpoint(channel, head, whole=whole)

    def _delta(
        self, channel: str, follow: Follow, lane: LanePosition, slot: SnapshotSlot, *, replacing: bool
    ) -> bytes | None:
        built = self._fanout.delta(channel, 0 if replacing else follow.cursor, replacing=replacing)
        head = self._fanout.head(channel)
        if not replacing and follow.must_replace(head.floor, head.seq):
            # raised unheard since we looked: deletes that this device needs are missing among these rows
            if not slot.may_stream(channel):
                return None
            return self._delta(channel, follow, lane, slot, replacing=True)
        if built.epoch > lane.drained:
            return lane.first()
        if replacing or follow.floor is None:
            follow.floor = head.floor
        follow.cursor = built.upto
        if replacing or follow.snapshot:
            slot.sent(channel, follow, more=built.more)
        return built.frame

    def _patch(self, channel: str, follow: Follow, lane: LanePosition) -> bytes:
        subrange, base = follow.patches[0]
        built = self._patches.frame(channel, subrange, base)
        if built.epoch > lane.drained:
            return lane.first()
        follow.patches.pop(0)
        if built.more:
            follow.patches.insert(0, (subrange, built.upto))
        return built.frame
