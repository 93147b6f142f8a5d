"""How far one session is in the decision lane: what was sent, what that drains, what was acknowledged."""

from __future__ import annotations

from edge_runtime.wire.failure import WireFailure
from sync_server.sync.lane_tail import LaneTail


class LanePosition:
    """One session's place in the lane. No row goes out that was read at a later epoch than `drained`."""

    __slots__ = ("_tail", "_told", "acked", "drained", "sent")

    def __init__(self, tail: LaneTail) -> None:
        self._tail = tail
        self.sent = 0
        """Where the next lane frame begins."""
        self.drained = 0
        """The position at which the device stands after all that was sent."""
        self.acked: int | None = None
        """Newest position acknowledged in this session."""
        self._told = False
        """Whether any lane frame was sent: even an empty one tells a device that it is at the head."""

    def begin(self, position: int) -> None:
        """The device applied the lane up to `position` in an earlier session."""
        self.sent = self.drained = position

    @property
    def at_head(self) -> bool:
        """Whether the device was told all there is."""
        return self._told and self._tail.head <= self.drained

    @property
    def owed(self) -> bool:
        """Whether an acknowledgement is to come, of another position than the session began at."""
        return self.acked is not None and self.acked < self.drained

    def next(self) -> bytes | None:
        """The next lane frame; None at the head."""
        if self._told and self._tail.head <= self.drained:
            return None
        frame = self._tail.after(self.sent)
        self._told, self.sent = True, frame.upto
        if not frame.more:
            self.drained = frame.upto
        return frame.frame

    def first(self) -> bytes:
        """The lane moved unheard: decisions first, the frame of rows again after them."""
        self._tail.refresh()
        frame = self.next()
        assert frame is not None
        return frame

    def check(self, upto: int) -> None:
        """Nobody enforced what was not sent: raises `WireFailure("out_of_turn")`."""
        if upto > self.drained:
            raise WireFailure("out_of_turn", f"expected a lane position of at most {self.drained}")
