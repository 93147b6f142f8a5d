"""The channels that one session follows, and what becomes of what the server sends of them.

Which those are is worked out again from what is stored, never from what was said before. What goes wrong in
one channel is said, and the session goes on, unless it is a fault of the whole session.
"""

from __future__ import annotations

from collections.abc import Collection

from edge_runtime.errors import SyncRefused
from edge_runtime.sync.following import fit
from edge_runtime.sync.gate import Match, may_repair
from edge_runtime.sync.memory import Memory
from edge_runtime.sync.repairs import Repairs
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import digest
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure

OfChannel = m.Delta | m.Checkpoint | m.Patch | m.Drop


class FollowedChannels:
    """The channels of one session; every method returns what is to be said, in order."""

    def __init__(self, replica: Replica, memory: Memory, settings: SyncSettings) -> None:
        self._replica, self._memory, self._settings = replica, memory, settings
        self._repairs = Repairs(memory.repairs_us, settings)
        self.matches: dict[str, bool] = {}
        """Channel that is followed -> whether its last checkpoint matched."""
        self.refused: dict[str, str] = {}
        """Channel -> why the server will not serve it in this session."""
        self._again_us: dict[str, int] = {}
        """Channel that the server cannot serve just now -> boot time at which to ask again."""
        self._shared: dict[str, None] = {}
        """Shared channels that this session began with, followed or not."""
        self._told: dict[str, int] = {}
        """Cursors that the Hello told."""
        self._missed = 0
        """Deltas that did not begin at our cursor."""

    # ---- which ones --------------------------------------------------------------------------------------

    def begin(self) -> dict[str, int]:
        """The cursors for the Hello: of shared channels that are held, named by the enrolment or wished for.

        What is held of a channel of which the app wants none goes first.
        """
        memory, replica = self._memory, self._replica
        held = replica.open_channels.shared((*replica.open_channels.allowed(), *memory.wanted))
        for channel in memory.unwanted.intersection(held):
            replica.drop_channel(channel)
        self._shared = dict.fromkeys(c for c in held if c not in memory.unwanted)
        if memory.lean:  # an earlier session may have followed them
            for channel in (*held, *replica.open_channels.personal(self._settings.personal_channels)):
                replica.left(channel)
        self._told = {} if memory.lean else {c: held[c] for c in self._shared}
        self.matches = dict.fromkeys(self._told, False)
        return self._told

    def start_over(self) -> list[m.Message]:
        """Follow again, from where we stand now, what the Hello still told of an earlier standing."""
        now = {c: self._replica.cursor(c) for c in self._told}
        return [self._follow(c, at) for c, at in now.items() if at != self._told[c]]

    def due(self, subjects: Collection[str]) -> list[m.Message]:
        """Follow what opened or is wished for, leave what closed; read from what is stored, now.

        What is left is whole no more as far as is known here, so a row that is not there reads NOT_SYNCED.

        Args:
            subjects: whose channels are open although they may not be here.
        """
        memory = self._memory
        personal = self._replica.open_channels.personal(self._settings.personal_channels, subjects)
        self.refused = {c: why for c, why in self.refused.items() if not c.startswith("~") or c in personal}
        shared = dict.fromkeys((*self._shared, *memory.wanted))
        against, refused, lean = memory.unwanted, self.refused, memory.lean
        due = fit(self.matches, shared, personal, against=against, refused=refused, lean=lean)
        left = [self._leave(channel) for channel in due.leave]
        for channel in due.drop:
            self._replica.drop_channel(channel)
        cursors = {c: personal[c] if c in personal else self._replica.cursor(c) for c in due.follow}
        return [*left, *(self._follow(channel, cursor) for channel, cursor in cursors.items())]

    def decided(self) -> None:
        """The ledger has a decision of this device: what was forbidden of subjects may be open now."""
        forbidden = "channel_forbidden"
        self.refused = {c: why for c, why in self.refused.items() if why != forbidden or c[0] != "~"}

    def _follow(self, channel: str, cursor: int) -> m.Message:
        self.matches[channel] = False
        self._repairs.over([channel])
        return m.Follow(channel=channel, cursor=cursor, ticket=self._memory.tickets.get(channel))

    def _leave(self, channel: str) -> m.Message:
        self._forget(channel)
        self._replica.left(channel)
        return m.Unfollow(channel=channel)

    def _forget(self, channel: str) -> None:
        self.matches.pop(channel, None)
        self._repairs.over([channel])

    # ---- what the server says of them --------------------------------------------------------------------

    def take(self, message: OfChannel, boot_us: int) -> list[m.Message]:
        """Take in what came of a channel. Raises `WireFailure` for a fault of the whole session."""
        if message.channel not in self.matches or message.channel in self._memory.unwanted:
            return []  # it crossed our Unfollow: nothing of it is wanted any more
        match message:
            case m.Delta():
                return self._take_delta(message)
            case m.Checkpoint():
                return self._take_checkpoint(message, boot_us)
            case m.Patch():
                return self._take_patch(message)
            case m.Drop():
                self._drop(message.channel)
                return []

    def refused_by_server(self, refusal: m.Refusal, meant: SyncRefused, boot_us: int) -> bool:
        """Whether a refusal is about a channel or its repair. One that is not served is not asked for again.

        Args:
            meant: the refusal, as the app may know it.
        """
        channel = refusal.about
        overloaded = refusal.code == "overloaded"
        if overloaded and self._repairs.postpone(channel, boot_us, refusal.retry_after_us):
            return True
        if channel not in self.matches:
            return False
        self._memory.refusals[channel] = meant
        if refusal.code == "channel_forbidden" and self._is_held_unknown(channel):
            self._drop(channel)  # its cursor told nobody that we hold it
        else:
            self._forget(channel)
            self._replica.left(channel)
            self.refused[channel] = refusal.code
        if refusal.code == "not_now":
            self._again_us[channel] = boot_us + refusal.retry_after_us
        return True

    def again(self, boot_us: int) -> None:
        """Channels that the server could not serve just then may be asked for again in their time, and those
        that could not be repaired after an hour."""
        for channel in [c for c, at_us in self._again_us.items() if at_us <= boot_us]:
            del self._again_us[channel]
            if self.refused.get(channel) == "not_now":
                del self.refused[channel]
        times, limit = self._memory.repairs_us, self._settings.repairs_per_hour
        for channel in [c for c, why in self.refused.items() if why == "digest_mismatch"]:
            if may_repair(times, channel, boot_us, limit):
                del self.refused[channel]

    def _is_held_unknown(self, channel: str) -> bool:
        """Whether a shared channel was told of at cursor 0 although something of it is held."""
        return self._told.get(channel) == 0 and self._replica.holds(channel)

    def _drop(self, channel: str) -> None:
        """No longer ours: rows and cursor go, and it is not asked for again in this session."""
        self._forget(channel)
        self.refused[channel] = "channel_forbidden"
        self._replica.drop_channel(channel)

    def _take_delta(self, delta: m.Delta) -> list[m.Message]:
        self.matches[delta.channel] = False
        try:
            applied = self._replica.apply(delta)
        except WireFailure as failure:
            return self._refuse(delta.channel, failure)
        if delta.replacing:
            self._repairs.replaced(delta.channel)
        self._memory.applied(delta, applied)
        return []

    def _take_patch(self, patch: m.Patch) -> list[m.Message]:
        base = self._repairs.base(patch)
        if base is None:
            return []  # its repair is over
        self.matches[patch.channel] = False
        try:
            self._replica.apply_patch(patch, base)
        except WireFailure as failure:
            return self._refuse(patch.channel, failure)
        self._repairs.patched(patch)
        return []

    def _refuse(self, channel: str, failure: WireFailure) -> list[m.Message]:
        """One channel went wrong: say so and go on, unless it is a fault of the whole session."""
        refusal = m.Refusal(code=failure.code, about=channel)
        if failure.code == "no_permission":
            self.refused[channel] = failure.code
            return [refusal, self._leave(channel)]
        if failure.code != "stale_delta" or self._missed >= self._settings.refollows:
            raise failure
        self._missed += 1
        return [refusal, self._follow(channel, self._replica.cursor(channel))]

    # ---- checkpoints and repairs -------------------------------------------------------------------------

    def repairs_due(self, boot_us: int) -> list[m.Message]:
        """Repairs to ask for once more: nobody answered them in time."""
        return [said for point in self._repairs.due(boot_us) for said in self._repair(point, boot_us)]

    def _take_checkpoint(self, checkpoint: m.Checkpoint, boot_us: int) -> list[m.Message]:
        match self._replica.compare(checkpoint):
            case Match.EQUAL:
                self._matched(checkpoint.channel)
                return []
            case Match.ELSEWHERE:
                return []
            case Match.DIFFERENT:
                self.matches[checkpoint.channel] = False
                waits = self._repairs.waits(checkpoint)
                return [] if waits else self._repair(checkpoint, boot_us)

    def _matched(self, channel: str) -> None:
        self.matches[channel] = True
        self._memory.diverged.discard(channel)
        self._memory.refusals.pop(channel, None)
        self._repairs.over([channel])

    def _repair(self, checkpoint: m.Checkpoint, boot_us: int) -> list[m.Message]:
        """Ask for the sub-ranges that differ, at most so often; then call it diverged and keep still."""
        channel = checkpoint.channel
        if not self._repairs.begin(checkpoint, boot_us):
            self._memory.diverged.add(channel)
            self.refused[channel] = "digest_mismatch"
            return [m.Refusal(code="digest_mismatch", about=channel), self._leave(channel)]
        cursor, sums = self._replica.sums(channel)
        if self._replica.compare(checkpoint) is Match.EQUAL:  # only our count of what is held was wrong
            self._matched(channel)
            return []
        return [m.Repair(channel=channel, seq=cursor, digests=b"".join(map(digest.to_bytes, sums)))]
