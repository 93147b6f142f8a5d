"""The slot of this node in which the snapshots of one session flow: how many sessions have one is limited."""

from __future__ import annotations

from collections.abc import Mapping

from sync_server.clock import Clock
from sync_server.sync.admission import Admission, Visit
from sync_server.sync.follow import Follow


class SnapshotSlot:
    """One for all channels of a session; asked for by the first snapshot, given back after the last.

    Args:
        follows: every channel that the session follows, as they come and go.
    """

    __slots__ = ("_admission", "_clock", "_follows", "_visit")

    def __init__(
        self, admission: Admission, clock: Clock, visit: Visit, follows: Mapping[str, Follow]
    ) -> None:
        self._admission, self._clock, self._visit, self._follows = admission, clock, visit, follows

    @property
    def held(self) -> bool:
        """Whether the session has it now."""
        return self._visit.slot_us is not None

    def may_stream(self, channel: str) -> bool:
        """Whether the next frame of a snapshot may go; else the session stands in line and is woken.

        A subject's channel is a page or two: nobody waits for it behind the first sync of a fleet.
        """
        return channel.startswith("~") or self._admission.may_stream(self._visit, self._clock.now_us())

    def sent(self, channel: str, follow: Follow, *, more: bool) -> None:
        """A frame of a snapshot was sent, or it is no longer wanted; `more` of it is to come.

        A subject's channel needs no slot: it gives back none, nor the place in line of another.
        """
        follow.snapshot = more
        if channel.startswith("~"):
            return
        if not any(f.snapshot for name, f in self._follows.items() if not name.startswith("~")):
            self._admission.streamed(self._visit, self._clock.now_us())
