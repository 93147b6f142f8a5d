"""The newest change of a channel as one string of bytes for everybody who stands right before it.

Nearly all devices of a live channel stand at the same place with nothing else to hear. What they are told is
then the same to the last byte: the delta and the checkpoint, framed for a WebSocket. It is put together once.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from edge_runtime.wire.printing import prints_only
from sync_server.store.records import ChannelHead
from sync_server.sync.fanout import Fanout
from sync_server.sync.web_frames import framed

TOGETHER_BYTES: Final = 4 * 1024
"""Frames go into one write while those before them are no larger than this."""
_PLACES: Final = 64
"""Places of one channel from which a step is kept."""


@prints_only("upto", "epoch")
class Step(NamedTuple):
    """What brings a device from one place to the channel's head."""

    wire: bytes
    """WebSocket frames of the delta and of the checkpoint."""
    upto: int
    epoch: int
    """Lane position at which the rows were read."""
    floor: int
    checkpoint: tuple[int, int, bool]
    """(seq, digest, whole) that the checkpoint says."""


class Steps:
    """The steps to the heads of shared channels."""

    def __init__(self, fanout: Fanout) -> None:
        self._fanout = fanout
        self._kept: dict[str, tuple[ChannelHead, dict[tuple[int, bool], Step | None]]] = {}

    def to_head(self, channel: str, cursor: int, *, covered: bool) -> Step | None:
        """The step of a device at `cursor`; None where it takes more than one small frame.

        Args:
            covered: whether its catalog pushes nothing that is not pushed here; else no channel is whole.
        """
        head, place = self._fanout.head(channel), (cursor, covered)
        kept = self._kept.get(channel)
        if kept is not None and kept[0] is head and place in kept[1]:
            return kept[1][place]
        made = self._made(channel, cursor, head, covered and head.whole)
        others = kept[1] if kept is not None and kept[0] == head and len(kept[1]) < _PLACES else {}
        self._kept[channel] = self._fanout.head(channel), {**others, place: made}  # it may be read anew
        return made

    def release(self, channel: str) -> None:
        """Nobody follows the channel any more."""
        self._kept.pop(channel, None)

    def _made(self, channel: str, cursor: int, head: ChannelHead, whole: bool) -> Step | None:
        if channel.startswith("~") or cursor == 0 or not head.floor <= cursor < head.seq:
            return None
        built = self._fanout.delta(channel, cursor, replacing=False)
        if self._fanout.head(channel) != head or built.upto != head.seq or len(built.frame) > TOGETHER_BYTES:
            return None
        wire = framed(built.frame) + framed(self._fanout.checkpoint(channel, head, whole=whole))
        return Step(wire, built.upto, built.epoch, head.floor, (head.seq, head.digest, whole))
