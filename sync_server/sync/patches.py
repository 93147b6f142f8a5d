"""Sub-range repair: which parts of a channel differ from a device's, and their rows as frames.

A channel's 64 sums are worked out when somebody asks, once for all who ask at the same head, and at most once
in a while whatever is asked: so nobody can make this node look through its rows at will. The rows of a
sub-range are read page by page, when there is room to send.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from edge_runtime.wire import codec, digest
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only
from sync_server.settings import HOUR_US, Settings
from sync_server.store.protocol import ReadTx, Store
from sync_server.store.records import ChannelHead
from sync_server.sync.fanout import fitting

CHANGED_ROWS = 512
"""How many changed rows are looked through to tell a repair from what is merely still to come."""


class NotNow(WireFailure):
    """No repair now; `retry_after_us` says when to ask again."""

    def __init__(self, reason: str, retry_after_us: int) -> None:
        super().__init__("overloaded", reason)
        self.retry_after_us = max(retry_after_us, 1)


class _Look(NamedTuple):
    """The sums of a channel as they were at `head`, worked out at `at_us`."""

    head: ChannelHead
    at_us: int
    sums: list[int]


@prints_only("upto", "epoch", "more")
class PatchFrame(NamedTuple):
    """A frame, the seq up to which it goes, and the lane position at which its rows were read."""

    frame: bytes
    upto: int
    epoch: int
    more: bool


class Patches:
    """What this node knows of repairs: sums, frames, and how many each device asked for lately."""

    def __init__(self, store: Store, settings: Settings, digest_key: bytes) -> None:
        self._store, self._settings, self._digest_key = store, settings, digest_key
        self._asked_us: dict[str, list[int]] = {}
        """device -> when it asked for a repair, within the last hour."""
        self._looks: OrderedDict[str, _Look] = OrderedDict()
        self.looks = 0
        """Times that a channel's sums were worked out since the start."""

    def admit(self, device_id: str, now_us: int) -> None:
        """Count one repair of a device; raises `NotNow` over its number of an hour."""
        since_us = now_us - HOUR_US
        if len(self._asked_us) >= self._settings.sessions:  # law 11: only those of the last hour are kept
            self._asked_us = {d: at for d, at in self._asked_us.items() if since_us < at[-1] <= now_us}
        recent = [at for at in self._asked_us.get(device_id, ()) if since_us < at <= now_us]
        if len(recent) >= self._settings.device_repairs_per_hour:
            raise NotNow("too many repairs of one device in an hour", recent[0] + HOUR_US - now_us)
        self._asked_us[device_id] = [*recent, now_us]

    def differing(self, repair: m.Repair, now_us: int) -> list[int]:
        """The sub-ranges in which the device's sums are not ours, in order.

        A sub-range with a row that changed after `repair.seq` differs in any case, and its rows are still to
        come: when something else differs too, that is what went wrong. For the same reason sums of an earlier
        head serve as long as something differs that did not change since.

        Raises `NotNow` when they do not, and the channel was looked through a moment ago.
        """
        channel, theirs = repair.channel, _sums(repair.digests)
        with self._store.read() as tx:
            head, look = tx.channel_head(channel), self._looks.get(channel)
            if look is not None and look.head != head:
                since = min(look.head.seq, repair.seq)
                changed = self._changed(tx, channel, since) if look.head.floor == head.floor else None
                found = [] if changed is None else _unlike(look.sums, theirs, changed)
                if found:
                    return found
                self._check_time(look, now_us)
                look = None
            if look is None:
                look = self._look(tx, channel, head, now_us)
            changed = self._changed(tx, channel, repair.seq)
        return _unlike(look.sums, theirs, changed or frozenset()) or _unlike(look.sums, theirs, frozenset())

    def _check_time(self, look: _Look, now_us: int) -> None:
        wait_us = look.at_us + self._settings.repair_look_us - now_us
        if 0 < wait_us <= self._settings.repair_look_us:  # else the clock was set
            raise NotNow("the channel was looked through a moment ago", wait_us)

    def _look(self, tx: ReadTx, channel: str, head: ChannelHead, now_us: int) -> _Look:
        self._looks[channel] = look = _Look(head, now_us, tx.channel_range_digests(channel))
        self._looks.move_to_end(channel)
        if len(self._looks) > self._settings.repair_looks:
            self._looks.popitem(last=False)
        self.looks += 1
        return look

    def _changed(self, tx: ReadTx, channel: str, since: int) -> frozenset[int] | None:
        """The sub-ranges with rows that changed after `since`; None when those are too many to look at."""
        rows = tx.channel_rows(channel, since, CHANGED_ROWS)
        if len(rows) == CHANGED_ROWS:
            return None
        return frozenset(digest.range_of(self._digest_key, r.entity, r.view, r.version) for r in rows)

    def frame(self, channel: str, subrange: int, base: int) -> PatchFrame:
        """The rows of one sub-range after `base`, as many as fit. Personal frames are never packed."""
        page = self._settings.frame_rows
        with self._store.read() as tx:
            rows = tx.channel_range_rows(channel, subrange, base, page)
            head, epoch = tx.channel_head(channel).seq, tx.lane_head()
        kept = fitting(rows)
        more = kept < len(rows) or len(rows) == page
        upto = rows[kept - 1].seq if more else max(head, base)
        live = [row for row in rows[:kept] if not row.deleted]  # base 0 clears: what is not there is gone
        patch = m.Patch(
            channel=channel, range=subrange, base=base, upto=upto, epoch=epoch, more=more, rows=live
        )
        encode = codec.encode if channel.startswith("~") else codec.encode_packed
        return PatchFrame(encode(patch), upto, epoch, more)


def _sums(digests: bytes) -> Sequence[int]:
    return [digest.from_bytes(digests[at : at + 16]) for at in range(0, 16 * m.RANGES, 16)]


def _unlike(ours: Sequence[int], theirs: Sequence[int], but: frozenset[int]) -> list[int]:
    return [index for index in range(m.RANGES) if ours[index] != theirs[index] and index not in but]
