"""Repairs of channels whose digest is not the signed one: at most so many in an hour, then `diverged`.

A repair is asked with our sub-range sums and answered by patches of those that differ (or by a replacing
snapshot) and by another checkpoint. While the answer is under way, checkpoints that were sent before it count
for nothing: they would be mistaken for its failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edge_runtime.sync import gate
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import messages as m

RepairTimes = dict[str, list[int]]
"""Channel -> boot times at which a repair was asked for; outlives a session."""


@dataclass(slots=True)
class _Asked:
    """One repair under way."""

    checkpoint: m.Checkpoint
    until_us: int
    """Boot time from which on it counts as not answered."""
    seen: set[tuple[int, bytes]]
    """Checkpoints that came meanwhile; one that comes twice is the answer's."""
    answered: bool = False
    """Whether rows of the answer came: the next checkpoint judges them."""
    upto: dict[int, int] = field(default_factory=dict)
    """Sub-range -> how far its patches came, while more of it follow."""


class Repairs:
    """The repairs of one session.

    Args:
        times: when channels were repaired, also in sessions before.
    """

    def __init__(self, times: RepairTimes, settings: SyncSettings) -> None:
        self._times, self._settings = times, settings
        self._asked: dict[str, _Asked] = {}

    def waits(self, checkpoint: m.Checkpoint) -> bool:
        """Whether a checkpoint that does not match says nothing yet: its repair is under way."""
        asked = self._asked.get(checkpoint.channel)
        if asked is None or asked.answered:
            return False
        place = (checkpoint.seq, checkpoint.digest)
        if place in asked.seen:
            return False
        asked.seen.add(place)
        asked.checkpoint = checkpoint
        return True

    def begin(self, checkpoint: m.Checkpoint, boot_us: int) -> bool:
        """Count a repair; False when there were enough in the last hour."""
        channel, limit = checkpoint.channel, self._settings.repairs_per_hour
        self._asked.pop(channel, None)
        if not gate.may_repair(self._times, channel, boot_us, limit):
            return False
        self._times[channel] = [*self._times.get(channel, [])[-limit:], boot_us]
        seen = {(checkpoint.seq, checkpoint.digest)}
        self._asked[channel] = _Asked(checkpoint, boot_us + self._settings.resend_us, seen)
        return True

    def postpone(self, channel: str, boot_us: int, retry_after_us: int) -> bool:
        """The server takes no repair now: ask again later. It did not happen, so it does not count.

        Returns False when none was asked for.
        """
        asked = self._asked.get(channel)
        if asked is None:
            return False
        self._times[channel] = self._times[channel][:-1]
        asked.until_us = boot_us + max(retry_after_us, self._settings.resend_us)
        return True

    def due(self, boot_us: int) -> list[m.Checkpoint]:
        """The checkpoints of repairs that nobody answered in time."""
        return [a.checkpoint for a in self._asked.values() if not a.answered and boot_us >= a.until_us]

    def base(self, patch: m.Patch) -> int | None:
        """Where a patch has to begin; None when nobody asked for it."""
        asked = self._asked.get(patch.channel)
        return None if asked is None else asked.upto.get(patch.range, 0)

    def patched(self, patch: m.Patch) -> None:
        """A patch was applied."""
        asked = self._asked[patch.channel]
        asked.answered = True
        asked.upto.pop(patch.range, None)
        if patch.more:
            asked.upto[patch.range] = patch.upto

    def replaced(self, channel: str) -> None:
        """A snapshot replaces the channel: that answers too."""
        if channel in self._asked:
            self._asked[channel].answered = True

    def over(self, channels: Iterable[str]) -> None:
        """The channels match again, or are no longer followed as before."""
        for channel in channels:
            self._asked.pop(channel, None)
