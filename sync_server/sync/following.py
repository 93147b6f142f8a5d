"""The channels that one session follows: how they begin and end, and whose turn it is to send rows.

Of each channel a session knows its cursor and holds no rows, so a slow device gets what stands when it has
room. What a channel sends next is in `row_frames.py`; who may follow one, in `channels.py`.
"""

from __future__ import annotations

import sys
from collections import Counter

from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.restore.catching_up import RETRY_US
from sync_server.store.records import DeviceRow
from sync_server.sync import channels
from sync_server.sync.admission import Stage, Visit
from sync_server.sync.follow import Follow
from sync_server.sync.hints import Subscription
from sync_server.sync.lane_position import LanePosition
from sync_server.sync.node import Node
from sync_server.sync.patches import NotNow
from sync_server.sync.snapshot_slot import SnapshotSlot


class Following:
    """Every channel that one session follows.

    Args:
        visit: the session's place at this node; only one that is all in gets rows.
        lane: how far the session is in the lane.
    """

    __slots__ = (
        "_catalog",
        "_due",
        "_follows",
        "_lane",
        "_node",
        "_slot",
        "_subscription",
        "_visit",
        "mismatched",
        "refused",
    )

    def __init__(self, node: Node, subscription: Subscription, visit: Visit, lane: LanePosition) -> None:
        self._node, self._subscription, self._visit, self._lane = node, subscription, visit, lane
        self._follows: dict[str, Follow] = {}
        self._slot = SnapshotSlot(node.admission, node.clock, visit, self._follows)
        self._catalog = ""
        """`name@version` of the device's, as its Hello says."""
        self._due: list[str] = []
        """Channels that may have something to send, in order."""
        self.mismatched: Counter[str] = Counter()
        """channel -> how often the device said that its digest differs."""
        self.refused: dict[str, str] = {}
        """channel -> code with which it was refused."""

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels followed now."""
        return tuple(self._follows)

    def grant(self, channel: str) -> int | None:
        """The grant under which a channel is followed now; None when it is not."""
        follow = self._follows.get(channel)
        return None if follow is None else follow.grant

    # ---- frames of rows ----------------------------------------------------------------------------------

    @property
    def caught_up(self) -> bool:
        """Whether nothing is to be said of any channel until a hint tells of it."""
        follows = self._follows.values()
        return not self._due and not any(f.snapshot or f.patches or f.floor is None for f in follows)

    def look(self) -> None:
        """Something moved: look again at every channel."""
        waiting = set(self._due)
        self._due.extend(channel for channel in self._follows if channel not in waiting)

    def step(self, channel: str) -> bytes | None:
        """The channel's newest change and its checkpoint as WebSocket frames, which count as said; None when
        the device does not stand right before it."""
        follow = self._follows.get(channel)
        if follow is None:
            return None
        covered = self._node.pushed.cover(self._catalog)
        step = self._node.steps.to_head(channel, follow.cursor, covered=covered)
        if step is None or step.floor != follow.floor or step.epoch > self._lane.drained:
            return None
        follow.cursor, follow.checkpoint = step.upto, step.checkpoint
        return step.wire

    def next(self) -> bytes | None:
        """The next frame of the first channel that has one, see `RowFrames.next`."""
        while self._due and self._visit.stage is Stage.IN:
            channel = self._due[0]
            follow = self._follows.get(channel)
            frame = None
            if follow is not None and self._may_flow(channel, follow):
                frame = self._node.row_frames.next(channel, follow, self._lane, self._slot, self._catalog)
            if frame is not None:
                return frame
            self._due.pop(0)
        return None

    def _may_flow(self, channel: str, follow: Follow) -> bool:
        """A personal channel ends with the grant it was opened under, and rests while that is restricted.

        Asked of the store each time.
        """
        personal = channels.personal(channel)
        if personal is None:
            return True
        with self._node.store.read() as tx:
            standing = tx.decision_state(*personal)
        if standing.grant != follow.grant:
            self.forget(channel)
        return standing.usable == follow.grant != 0

    # ---- beginning and end -------------------------------------------------------------------------------

    def resume(self, device: DeviceRow, hello: m.Hello) -> list[m.Message]:
        """Follow what a Hello names; the answers. What the device may no longer hold it has to drop."""
        self._catalog = sys.intern(hello.catalog)
        answers: list[m.Message] = []
        for channel, cursor in hello.cursors.items():
            if cursor and channels.forbidden(device, channel):
                answers.append(self._drop(channel))
            elif (refusal := self.begin(device, channel, cursor)) is not None:
                answers.append(refusal)
        return answers

    def begin(
        self, device: DeviceRow, channel: str, cursor: int, ticket: bytes | None = None
    ) -> m.Refusal | None:
        """Follow `channel` from `cursor` on; the refusal when it may not be, and it is followed no more."""
        node = self._node
        try:
            self._check_room(channel)
            if channel.startswith("~") and node.catching_up.closed:
                raise WireFailure("not_now", "a restored server does not know yet who was denied")
            grant = channels.admit(
                node.store, node.signing.public_key, device, channel, ticket, node.clock.now_us()
            )
        except WireFailure as failure:
            self.forget(channel)
            if len(self.refused) < node.settings.follows:
                self.refused[channel] = failure.code
            again_us = RETRY_US if failure.code == "not_now" else 0
            return m.Refusal(code=failure.code, about=channel, retry_after_us=again_us)
        self.refused.pop(channel, None)
        if (before := self._follows.get(channel)) is not None:
            self._slot.sent(channel, before, more=False)
            self._subscription.wake.set()  # as in `forget`: others may have stood in line by the same place
        channel = sys.intern(channel)  # one name of all who follow it
        self._follows[channel] = Follow(cursor, grant=grant)
        node.hints.follow(self._subscription, channel)
        if channel not in self._due:
            self._due.append(channel)
        return None

    def judge(self, device: DeviceRow) -> list[m.Message]:
        """What the device may do changed: channels that it may follow no longer end, and it drops them."""
        return [self._drop(channel) for channel in self.channels if channels.forbidden(device, channel)]

    def forget(self, channel: str) -> None:
        """Follow `channel` no more."""
        if (follow := self._follows.pop(channel, None)) is None:
            return
        self._slot.sent(channel, follow, more=False)
        self._subscription.wake.set()  # another of its channels may have stood in line by the same place
        self._node.hints.unfollow(self._subscription, channel)
        if channel not in self._node.hints.followed:
            self._node.fanout.release(channel)
            self._node.steps.release(channel)

    def forget_all(self) -> None:
        """Follow nothing any more."""
        for channel in self.channels:
            self.forget(channel)

    def _drop(self, channel: str) -> m.Drop:
        self.forget(channel)
        return m.Drop(channel=channel)

    def _check_room(self, channel: str) -> None:
        """Law 11: a device follows so many channels and no more."""
        settings = self._node.settings
        others = [c for c in self._follows if c != channel]
        personal = sum(c.startswith("~") for c in others)
        if len(others) >= settings.follows or (
            channel.startswith("~") and personal >= settings.personal_channels
        ):
            raise WireFailure("channel_forbidden", "too many channels on one device")

    # ---- where the two differ ----------------------------------------------------------------------------

    def repair(self, device_id: str, repair: m.Repair) -> m.Refusal | None:
        """Patch what differs, or all of it; a checkpoint follows in any case and judges what was done.

        Raises `WireFailure` for a position that the device cannot have reached.
        """
        follow = self._follows.get(repair.channel)
        if follow is None:
            return None  # it crossed the end of the channel
        self.mismatched[repair.channel] += 1
        if repair.seq > follow.cursor:
            raise WireFailure("out_of_turn", f"expected a seq of at most {follow.cursor}")
        node, now_us = self._node, self._node.clock.now_us()
        try:
            node.patches.admit(device_id, now_us)
            differing = node.patches.differing(repair, now_us)
        except NotNow as failure:
            return m.Refusal(code=failure.code, about=repair.channel, retry_after_us=failure.retry_after_us)
        follow.checkpoint = None
        if len(differing) > node.settings.repair_subranges:
            follow.cursor, follow.floor, differing = 0, None, []
        follow.patches = [(subrange, 0) for subrange in differing]
        self._due.append(repair.channel)
        return None

    def take_refusal(self, refusal: m.Refusal) -> None:
        """The device could not take something. A channel that it cannot follow is no longer sent."""
        if refusal.code == "no_permission":
            self.forget(refusal.about)
        elif refusal.code == "digest_mismatch" and refusal.about in self._follows:
            self.mismatched[refusal.about] += 1

    # ---- for a person who asks ---------------------------------------------------------------------------

    def cursors(self) -> dict[str, int]:
        """channel -> seq, as far as was sent."""
        return {channel: follow.cursor for channel, follow in self._follows.items()}

    def compared(self) -> dict[str, int]:
        """channel -> seq of the newest checkpoint sent."""
        return {c: f.checkpoint[0] for c, f in self._follows.items() if f.checkpoint is not None}

    def snapshots(self) -> dict[str, str]:
        """channel -> `streaming` or `waiting`, for those whose snapshot is under way or still to begin."""
        found = {}
        for channel, follow in self._follows.items():
            if follow.snapshot or (follow.floor is None and follow.cursor == 0):
                found[channel] = "streaming" if self._slot.held or channel.startswith("~") else "waiting"
        return found
