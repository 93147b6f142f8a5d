"""Channel deltas as frames: read and encoded once, the same bytes to every follower; checkpoints signed once.

A cached frame keeps the epoch at which its rows were read. That stays true however late it is sent: a device
whose lane is further on judges each row by its own decisions, and no session sends a frame of an epoch that
it has not drained. Frames about a subject are never cached: an erasure must not have to find them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import codec, digest, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only
from sync_server.store.protocol import Store
from sync_server.store.records import ChannelHead
from sync_server.sync.lane_tail import ROOM_BYTES
from sync_server.sync.pages import Pages

PACKED_ROOM_BYTES: Final = codec.UNPACKED_LIMIT_BYTES - 4 * 1024
"""What rows may take of a frame before it is packed."""

PLACES: Final = 100_000
"""Most frames remembered, whatever their sizes: some 40 MB of places at the very most."""


@prints_only("upto", "epoch", "more")
class DeltaFrame(NamedTuple):
    """A frame, where a device stands after it, and the lane position at which its rows were read."""

    frame: bytes
    upto: int
    epoch: int
    more: bool


class _Place(NamedTuple):
    channel: str
    base: int
    replacing: bool
    floor: int
    """A raised floor means that rows left without a delete: frames from before it are not sent again."""


class Fanout:
    """What this node holds of channel heads and encoded frames.

    Args:
        page: most rows of one frame.
        pages: where encoded frames are kept.
    """

    def __init__(
        self, store: Store, signing_key: Ed25519PrivateKey, page: int, pages: Pages[tuple[object, ...]]
    ) -> None:
        self._store, self._key, self._page, self._pages = store, signing_key, page, pages
        self._heads: dict[str, ChannelHead] = {}
        self._unheard: set[str] = set()
        """Channels that a session found further on than any hint had told: the others are not woken yet."""
        self._made: OrderedDict[_Place, DeltaFrame] = OrderedDict()
        """What is known of each frame kept, without its bytes."""
        self._checkpoints: dict[tuple[str, bool], tuple[ChannelHead, bytes]] = {}
        """(channel, whether it is said to be whole) -> the newest."""
        self.built = 0
        """Frames read and encoded since the start; what was served besides came from memory."""

    def head(self, channel: str) -> ChannelHead:
        """Where the channel stands, as far as this node knows."""
        found = self._heads.get(channel)
        if found is None:
            with self._store.read() as tx:
                found = self._heads[channel] = tx.channel_head(channel)
        return found

    def known(self, channel: str) -> ChannelHead | None:
        """Where the channel stands if that is in memory; nothing is read."""
        return self._heads.get(channel)

    def moved(self, channel: str) -> None:
        """The channel changed, and its followers are told: its head is read again when somebody asks."""
        self._heads.pop(channel, None)
        self._unheard.discard(channel)

    def refresh(self, channel: str) -> bool:
        """Read the head again at a poll; whether it had moved unheard, found since by a session or not."""
        known = self._heads.pop(channel, None)
        if channel in self._unheard:
            self._unheard.remove(channel)
            return True
        return known is not None and self.head(channel) != known

    def release(self, channel: str) -> None:
        """Nobody follows the channel any more."""
        self.moved(channel)
        for whole in (True, False):
            self._checkpoints.pop((channel, whole), None)

    def close(self) -> None:
        """Keep no frames any more."""
        self._made.clear()
        self._pages.close()

    def families(self) -> dict[str, tuple[str, str, dict[str, float]]]:
        """Metrics: name -> (kind, label, samples)."""
        kept = {"memory": self._pages.memory_bytes, "file": self._pages.file_bytes}
        return {
            "frames_built_total": ("counter", "", {"": self.built}),
            "frames_from_file_total": ("counter", "", {"": self._pages.from_file}),
            "frames_kept_bytes": ("gauge", "where", {**kept}),
        }

    def delta(self, channel: str, base: int, *, replacing: bool) -> DeltaFrame:
        """The frame for a device at `base`; a `replacing` one starts a snapshot."""
        place = _Place(channel, base, replacing, self.head(channel).floor)
        kept = self._kept(place)
        if kept is not None and (kept.more or kept.upto == self.head(channel).seq):
            return kept
        built = self._build(place)
        if not channel.startswith("~"):
            self._keep(place, built)
        return built

    def _kept(self, place: _Place) -> DeltaFrame | None:
        known = self._made.get(place)
        frame = None if known is None else self._pages.get(place)
        if known is None or frame is None:
            return None
        self._made.move_to_end(place)
        return known._replace(frame=frame)

    def _keep(self, place: _Place, built: DeltaFrame) -> None:
        self._pages.put(place, built.frame)
        self._made[place] = built._replace(frame=b"")
        self._made.move_to_end(place)
        if len(self._made) > PLACES:
            gone, _ = self._made.popitem(last=False)
            self._pages.drop(gone)

    def checkpoint(self, channel: str, head: ChannelHead, *, whole: bool | None = None) -> bytes:
        """The signed checkpoint of the channel at `head`.

        Args:
            whole: what it says of that; None: what the head says.
        """
        whole = head.whole if whole is None else whole
        found = self._checkpoints.get((channel, whole))
        if found is not None and found[0] == head:
            return found[1]
        unsigned = m.Checkpoint(
            channel=channel,
            seq=head.seq,
            digest=digest.to_bytes(head.digest),
            whole=whole,
            signature=bytes(64),
        )
        signature = seal.sign(self._key, seal.CHECKPOINT, seal.checkpoint_bytes(unsigned))
        frame = codec.encode(msgspec.structs.replace(unsigned, signature=signature))
        self._checkpoints[channel, whole] = (head, frame)
        return frame

    def _build(self, place: _Place) -> DeltaFrame:
        with self._store.read() as tx:  # one snapshot: rows, head and epoch belong together
            rows = tx.channel_rows(place.channel, place.base, self._page)
            head = tx.channel_head(place.channel)
            epoch = tx.lane_head()
        if self._heads.get(place.channel, head) != head:
            self._unheard.add(place.channel)
        self._heads[place.channel] = head
        self.built += 1
        shared = not place.channel.startswith("~")
        kept = fitting(rows, PACKED_ROOM_BYTES if shared else ROOM_BYTES)
        whole = kept == len(rows) and len(rows) < self._page
        while True:
            upto = max(head.seq, place.base) if whole else rows[kept - 1].seq
            made = DeltaFrame(b"", upto, epoch, upto < head.seq)
            delta = _delta(place, made, rows[:kept])
            try:
                return made._replace(frame=codec.encode_packed(delta) if shared else codec.encode(delta))
            except WireFailure:  # values that hardly shrink: half as many do fit
                if kept <= 1:
                    raise
                kept, whole = kept // 2, False


def _delta(place: _Place, made: DeltaFrame, rows: list[m.Row]) -> m.Delta:
    return m.Delta(
        channel=place.channel,
        base=place.base,
        upto=made.upto,
        epoch=made.epoch,
        replacing=place.replacing,
        more=made.more,
        rows=rows,
    )


def fitting(rows: list[m.Row], room_bytes: int = ROOM_BYTES) -> int:
    """How many rows, from the first, fit one frame. One always does: a publisher refuses larger rows."""
    used = 0
    for count, row in enumerate(rows):
        used += len(seal.canonical(row))
        if used > room_bytes:
            return max(count, 1)
    return len(rows)
