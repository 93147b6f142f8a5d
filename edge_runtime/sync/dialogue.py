"""One session as the device speaks it: frames in, frames out. No socket, no clock of its own, no tasks.

The server is a stranger until its Welcome verifies; the lane is drained before any row; what the gate refuses
changes nothing. Sets of channels are worked out again from what is stored, never from what was said before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from edge_runtime.errors import SyncError, SyncRefused
from edge_runtime.sync import gate
from edge_runtime.sync.applying import Applied
from edge_runtime.sync.fetch_queue import FetchQueue
from edge_runtime.sync.fetching import Fetching
from edge_runtime.sync.following import fit
from edge_runtime.sync.gate import Match
from edge_runtime.sync.key_changes import KeyChanges
from edge_runtime.sync.outbox import Outbox
from edge_runtime.sync.repairs import Repairs, RepairTimes
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec, digest, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import Side, State, advance
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import CODES

Frames = list[bytes]


class LeaseLost(SyncError):
    """The boot clock went back under a live session: a fresh one must answer a fresh nonce."""


class Reporter(Protocol):
    """The aggregates room as the session needs it; reports themselves wait in the outbox."""

    def on_offer(self, offer: m.RoundOffer) -> m.TicketRequest | None:
        """Which subjects would report in this round; None for none."""
        ...

    def on_tickets(self, tickets: m.Tickets) -> list[m.Report]:
        """The reports for these tickets, debited and stored before they are returned."""
        ...

    def pending(self) -> list[m.Report]:
        """Stored reports that may be sent now and that the server has not acknowledged."""
        ...

    def requests(self) -> list[m.TicketRequest]:
        """What to ask again in the rounds that are open, now that permissions may be back."""
        ...

    def on_ack(self, ack: m.ReportAck) -> None:
        """These answers are counted."""
        ...

    def on_closed(self, round_id: bytes) -> None:
        """The round takes no more answers."""
        ...


class Memory:
    """What a link remembers from one session to the next; the rest is on disk."""

    def __init__(self, channels: tuple[str, ...]) -> None:
        self.wanted = channels
        """Shared channels that the app wishes for."""
        self.unwanted: frozenset[str] = frozenset()
        """Channels of which the app wants none, whoever names them."""
        self.lean = False
        """Whether only decisions, leases and receipts may flow."""
        self.tickets: dict[str, bytes] = {}
        """Personal channel -> ticket from the app's backend."""
        self.repairs_us: RepairTimes = {}
        self.diverged: set[str] = set()
        self.refusals: dict[str, SyncRefused] = {}
        """Channel -> the server's last word on why it is not served, until it is."""
        self.signs_with_next = False
        """Whether the next Hello tries the device's next key: while a key changes, either may stand."""
        self.fetches = FetchQueue()
        """Rows that are wanted on demand."""
        self.applied: Callable[[m.Delta, Applied], None] = lambda delta, applied: None


class Dialogue:
    """One conversation with the server, from its Challenge to the end of the socket.

    Args:
        chance: returns n unpredictable bytes, for nonces and request ids.
    """

    def __init__(
        self,
        replica: Replica,
        outbox: Outbox,
        memory: Memory,
        settings: SyncSettings,
        chance: Callable[[int], bytes],
        reporter: Reporter | None,
    ) -> None:
        self._replica, self._leases, self._outbox = replica, replica.leases, outbox
        self._memory, self._settings, self._chance, self._reporter = memory, settings, chance, reporter
        self._fetching = Fetching(memory.fetches, replica.fetched, settings, chance)
        self.state = State.CONNECTED
        self.refused: dict[str, str] = {}
        """channel -> why the server will not serve it in this session."""
        self._challenge: m.Challenge | None = None
        self._hello: m.Hello | None = None
        self._lane_head = 0
        self._lane_at: int | None = None
        """Where the last frame of an unfinished drain ended; None when none is under way."""
        self.ping_us = 0
        """How often the server says that it is there, as it told us."""
        self._shared: dict[str, None] = {}
        """Shared channels that this session began with, followed or not."""
        self._was_lean = False
        self._following: dict[str, bool] = {}
        """channel -> whether its last checkpoint matched."""
        self._lease_id: bytes | None = None
        self._lease_sent_us = 0
        self._renew_us = 0
        """Boot time of the next lease request."""
        self._lease_refused = False
        """Whether the server's last word on a lease was no."""
        self._missed = 0
        self._repairs = Repairs(memory.repairs_us, settings)
        self._keys = KeyChanges(replica.keyring, memory)
        self._version = m.PROTOCOL
        """Of the protocol, as this session speaks it."""
        self._reports: set[bytes] = set()
        """Tickets whose answers were sent and not yet acknowledged."""

    @property
    def caught_up(self) -> bool:
        """Lane drained, lease granted, outbox empty, and every followed channel equal to its checkpoint."""
        waits = self._lease_id is not None or bool(self._reports) or self._keys.asked
        answered = self.opened and not waits and not self._memory.lean
        leased = not self._lease_refused and self._leases.state != "locked"
        return answered and leased and all(self._following.values()) and self._outbox.empty

    @property
    def opened(self) -> bool:
        """Whether the server has proved who it is and the lane was drained."""
        return self.state is State.LIVE

    def close(self) -> None:
        """The socket is gone."""
        self.state = State.CLOSED
        self._outbox.forget_flights()
        self._fetching.close()

    # ---- frames in ---------------------------------------------------------------------------------------

    def hear(self, frame: bytes, boot_us: int) -> Frames:
        """Take one frame and return the frames to answer.

        Raises `WireFailure` when the frame may not stand (say so, then leave the socket), and `SyncRefused`
        when the server ends the session.
        """
        message = self._decode(frame)
        turn = gate.entry(self.state, type(message))
        if turn.after is None:
            raise WireFailure(turn.code, turn.reason)
        self.state = turn.after
        match message:
            case m.Challenge():
                self._version = gate.version(message.speaks, self._settings.spoken)
                return [self._greet(message)]
            case m.Welcome():
                return self._take_welcome(message)
            case m.Lane():
                return self._take_lane(message, boot_us)
            case m.Lease():
                return self._take_lease(message, boot_us)
            case m.Refusal():
                return self._take_refusal(message, boot_us)
            case m.Delta() | m.Checkpoint() | m.Patch() | m.Drop():
                return self._take_channel(message, boot_us)
            case m.Fetched():
                code = self._fetching.take(message, boot_us)
                said = [self._refusal(code, message.id.hex())] if code else []
                return said + self._fetch(boot_us)
            case m.DecisionAck():
                self._outbox.decision_acked(message)
                self.refused = {
                    c: why for c, why in self.refused.items() if why != "channel_forbidden" or c[0] != "~"
                }
                return self.tick(boot_us)
            case m.Revoked():
                return self._take_revoked(message, boot_us)
            case m.KeyChanged():
                return self._keys.changed(message)
            case m.ReceiptAck():
                self._outbox.receipt_acked(message.id)
                return self.tick(boot_us)
            case m.RoundOffer() | m.Tickets() | m.ReportAck():
                return self._take_aggregate(message, boot_us)
            case _:
                raise WireFailure("out_of_turn", "a message of the device's own kind")

    def tick(self, boot_us: int) -> Frames:
        """What is due now without being asked: lease, personal channels that opened or closed, the outbox.

        Raises `LeaseLost` when only a fresh session can unlock consented features again.
        """
        if self.state is State.LEAVING:
            return self._last_words(boot_us)
        if self.state is not State.LIVE:
            return []
        if self._leases.lost:
            raise LeaseLost("the boot clock went back: the server must answer anew")
        told = [self._say(message) for message in self._outbox.due(boot_us)]
        # decisions before follows: a channel may open because of a decision told just now
        late = [frame for point in self._repairs.due(boot_us) for frame in self._repair(point, boot_us)]
        told += [self._say(change) for change in self._keys.due()]
        channels = self._channels()
        return self._renew(boot_us) + told + channels + late + self._fetch(boot_us) + self._fat_again()

    def _decode(self, frame: bytes) -> m.Message:
        """Of any version while the server may say no to ours: a Challenge and a Refusal never change."""
        if self.state not in (State.CONNECTED, State.CHALLENGED, State.GREETED):
            return codec.decode(frame, self._settings.frame_limit_bytes, (self._version,))
        message = codec.decode(frame, self._settings.frame_limit_bytes, range(1, 2**16 + 1))
        if message.v != self._version and not isinstance(message, m.Challenge | m.Refusal):
            raise WireFailure("unsupported_version", f"expected version {self._version}")
        return message

    def _say(self, message: m.Message) -> bytes:
        if message.v != self._version:
            message = msgspec.structs.replace(message, v=self._version)
        self.state = advance(self.state, Side.DEVICE, message)
        return codec.encode(message)

    # ---- opening -----------------------------------------------------------------------------------------

    def _greet(self, challenge: m.Challenge) -> bytes:
        identity = self._replica.identity
        assert identity.server_key is not None
        self._challenge = challenge
        held = self._replica.shared((*self._replica.allowed_channels(), *self._memory.wanted))
        for channel in self._memory.unwanted.intersection(held):
            self._replica.drop_channel(channel)
        self._shared = dict.fromkeys(c for c in held if c not in self._memory.unwanted)
        self._was_lean = self._memory.lean
        hello = m.Hello(
            device_id=identity.device_id,
            nonce=self._chance(32),
            pinned=identity.server_key,
            lane=self._replica.lane_position(),
            counter=self._replica.counter(),
            catalog=self._replica.catalog_key,
            cursors={} if self._was_lean else {c: held[c] for c in self._shared},
            signature=bytes(64),
            v=self._version,
        )
        signature = seal.sign(self._keys.key(), seal.HELLO, seal.hello_bytes(challenge.nonce, hello))
        self._hello = msgspec.structs.replace(hello, signature=signature)
        self._following = dict.fromkeys(hello.cursors, False)
        return self._say(self._hello)

    def _take_welcome(self, welcome: m.Welcome) -> Frames:
        assert self._challenge is not None
        assert self._hello is not None
        identity = self._replica.identity
        assert identity.server_key is not None
        standing = gate.check_welcome(
            welcome, self._challenge, self._hello, identity.server_key, self._replica.incarnation()
        )
        if standing.server_key != identity.server_key:
            self._replica.keyring.trust(standing.server_key)  # durable before anything of it is believed
        self._keys.welcomed()
        if standing.rolled_back:
            self._replica.rolled_back(welcome.counter)
        self._replica.begin(self._challenge.incarnation, restored=standing.restored)
        self._lane_head, self.ping_us = welcome.lane_head, welcome.ping_us
        return []

    def _take_revoked(self, revoked: m.Revoked, boot_us: int) -> Frames:
        """The server ends this device: everything goes, and then what proves that is handed in."""
        assert self._hello is not None
        gate.check_revoked(revoked, self._hello, self._server_key)
        self._replica.shut_out.carry_out()
        self._memory.diverged.clear()
        return self._last_words(boot_us)

    def _last_words(self, boot_us: int) -> Frames:
        """Raises `SyncRefused("device_revoked")` once every receipt is acknowledged."""
        if not self._outbox.receipts_wait:
            raise device_revoked()
        return [self._say(note) for note in self._outbox.receipts_due(boot_us)]

    @property
    def _server_key(self) -> bytes:
        key = self._replica.identity.server_key
        assert key is not None
        return key

    def _take_lane(self, lane: m.Lane, boot_us: int) -> Frames:
        """Revocations first: a delta may hold what was just revoked. Acknowledged once whole and durable."""
        self._replica.apply_lane(lane, self._lane_at)
        self._lane_at = lane.upto if lane.more else None
        if lane.more:
            return []
        if self.state is State.LIVE:
            return [self._say(m.LaneAck(upto=lane.upto)), *self.tick(boot_us)]
        if lane.upto < self._lane_head:
            return []
        self._leases.opened_by_server()
        ack = self._say(m.LaneAck(upto=lane.upto))
        reports = [] if self._reporter is None else self._reporter.pending()
        return [ack, *self._start_over(), *self._send_reports(reports), *self.tick(boot_us)]

    def _start_over(self) -> Frames:
        """Follow again, from where we stand now, what the Hello still told of an earlier standing."""
        assert self._hello is not None
        now = {c: self._replica.cursor(c) for c in self._hello.cursors}
        return [self._follow(c, at) for c, at in now.items() if at != self._hello.cursors[c]]

    # ---- leases ------------------------------------------------------------------------------------------

    def _renew(self, boot_us: int) -> Frames:
        waiting = self._lease_id is not None and boot_us - self._lease_sent_us < self._settings.resend_us
        if waiting or boot_us < self._renewal_due_us():
            return []
        self._lease_id, self._lease_sent_us = self._chance(16), boot_us
        self._leases.begin_request(self._lease_id, boot_us)
        return [self._say(m.LeaseRequest(id=self._lease_id, upto=self._replica.lane_position()))]

    def _renewal_due_us(self) -> int:
        """Half a lease after the last one was asked for; soon when it is over before that."""
        if self._lease_refused or self._leases.state != "locked":
            return self._renew_us
        return min(self._renew_us, self._lease_sent_us + self._settings.tick_us)

    def _take_lease(self, lease: m.Lease, boot_us: int) -> Frames:
        """The consent room judges it: an answer to one of our requests, under the pinned key."""
        self._leases.granted(lease)
        if lease.id == self._lease_id:
            self._lease_id, self._lease_refused = None, False
            self._renew_us = self._lease_sent_us + max(lease.duration_us // 2, self._settings.tick_us)
        return [*self._report_again(), *self.tick(boot_us)]

    # ---- channels ----------------------------------------------------------------------------------------

    def _channels(self) -> Frames:
        """Follow what opened or is wished for, leave what closed; read from what is stored, now."""
        memory, wanted = self._memory, self._fetching.subjects()
        personal = self._replica.personal(self._settings.personal_channels, wanted)
        self.refused = {c: why for c, why in self.refused.items() if not c.startswith("~") or c in personal}
        shared = dict.fromkeys((*self._shared, *memory.wanted))
        against, refused, lean = memory.unwanted, self.refused, memory.lean
        due = fit(self._following, shared, personal, against=against, refused=refused, lean=lean)
        frames = [self._leave(channel) for channel in due.leave]
        for channel in due.drop:
            self._replica.drop_channel(channel)
        cursors = {c: personal[c] if c in personal else self._replica.cursor(c) for c in due.follow}
        return frames + [self._follow(channel, cursor) for channel, cursor in cursors.items()]

    def _fat_again(self) -> Frames:
        """The byte budget has room again: what was held back of the aggregates goes now."""
        was, self._was_lean = self._was_lean, self._memory.lean
        return self._report_again() if was and not self._was_lean else []

    def _follow(self, channel: str, cursor: int) -> bytes:
        self._following[channel] = False
        self._repairs.over([channel])
        ticket = self._memory.tickets.get(channel)
        return self._say(m.Follow(channel=channel, cursor=cursor, ticket=ticket))

    def _leave(self, channel: str) -> bytes:
        self._following.pop(channel, None)
        self._repairs.over([channel])
        return self._say(m.Unfollow(channel=channel))

    def _take_channel(self, message: m.Delta | m.Checkpoint | m.Patch | m.Drop, boot_us: int) -> Frames:
        if message.channel not in self._following or message.channel in self._memory.unwanted:
            return []  # it crossed our Unfollow: nothing of it is wanted any more
        match message:
            case m.Delta():
                return self._take_delta(message)
            case m.Checkpoint():
                return self._take_checkpoint(message, boot_us)
            case m.Patch():
                return self._take_patch(message)
            case m.Drop():
                return self._drop(message.channel)

    def _drop(self, channel: str) -> Frames:
        """No longer ours: rows and cursor go, and it is not asked for again in this session."""
        self._following.pop(channel, None)
        self._repairs.over([channel])
        self.refused[channel] = "channel_forbidden"
        self._replica.drop_channel(channel)
        return []

    def _take_delta(self, delta: m.Delta) -> Frames:
        self._following[delta.channel] = False
        try:
            applied = self._replica.apply(delta)
        except WireFailure as failure:
            return self._refuse_delta(delta.channel, failure)
        if delta.replacing:
            self._repairs.replaced(delta.channel)
        self._memory.applied(delta, applied)
        return []

    def _take_patch(self, patch: m.Patch) -> Frames:
        base = self._repairs.base(patch)
        if base is None:
            return []  # its repair is over
        self._following[patch.channel] = False
        try:
            self._replica.apply_patch(patch, base)
        except WireFailure as failure:
            return self._refuse_delta(patch.channel, failure)
        self._repairs.patched(patch)
        return []

    def _refuse_delta(self, channel: str, failure: WireFailure) -> Frames:
        """One channel went wrong: say so and go on, unless it is a fault of the whole session."""
        if failure.code == "no_permission":
            self.refused[channel] = failure.code
            return [self._refusal(failure.code, channel), self._leave(channel)]
        if failure.code != "stale_delta" or self._missed >= self._settings.refollows:
            raise failure
        self._missed += 1
        frames = [self._refusal(failure.code, channel)]
        return [*frames, self._follow(channel, self._replica.cursor(channel))]

    def _take_checkpoint(self, checkpoint: m.Checkpoint, boot_us: int) -> Frames:
        channel = checkpoint.channel
        match self._replica.compare(checkpoint):
            case Match.EQUAL:
                return self._matches(channel)
            case Match.ELSEWHERE:
                return []
            case Match.DIFFERENT:
                self._following[channel] = False
                waits = self._repairs.waits(checkpoint)
                return [] if waits else self._repair(checkpoint, boot_us)

    def _matches(self, channel: str) -> Frames:
        self._following[channel] = True
        self._memory.diverged.discard(channel)
        self._memory.refusals.pop(channel, None)
        self._repairs.over([channel])
        return []

    def _repair(self, checkpoint: m.Checkpoint, boot_us: int) -> Frames:
        """Ask for the sub-ranges that differ, at most so often; then call it diverged and keep still."""
        channel = checkpoint.channel
        if not self._repairs.begin(checkpoint, boot_us):
            self._memory.diverged.add(channel)
            self.refused[channel] = "digest_mismatch"
            return [self._refusal("digest_mismatch", channel), self._leave(channel)]
        cursor, sums = self._replica.sums(channel)
        if self._replica.compare(checkpoint) is Match.EQUAL:  # only our count of what is held was wrong
            return self._matches(channel)
        digests = b"".join(map(digest.to_bytes, sums))
        return [self._say(m.Repair(channel=channel, seq=cursor, digests=digests))]

    def _fetch(self, boot_us: int) -> Frames:
        """Ask for what is wanted on demand; a subject's rows once its channel is followed."""
        if self._memory.lean:
            return []
        return [self._say(fetch) for fetch in self._fetching.due(self._following, self.refused, boot_us)]

    # ---- aggregates and refusals -------------------------------------------------------------------------

    def _take_aggregate(self, message: m.RoundOffer | m.Tickets | m.ReportAck, boot_us: int) -> Frames:
        if self._reporter is None:
            return []
        match message:
            case m.RoundOffer():
                request = self._reporter.on_offer(message)
                return [] if request is None or self._memory.lean else [self._say(request)]
            case m.Tickets():
                return self._send_reports(self._reporter.on_tickets(message))
            case m.ReportAck():
                self._reports.difference_update(message.tickets)
                self._reporter.on_ack(message)
                return []

    def _report_again(self) -> Frames:
        """Offers and reports that came while consented features were locked."""
        if self._reporter is None or self._memory.lean:
            return []
        reports = self._send_reports(self._reporter.pending())
        return reports + [self._say(request) for request in self._reporter.requests()]

    def _send_reports(self, reports: list[m.Report]) -> Frames:
        if self._memory.lean:  # stored, and asked for again when there is room
            return []
        self._reports.update(answer.ticket for report in reports for answer in report.answers)
        return [self._say(report) for report in reports]

    def _take_refusal(self, refusal: m.Refusal, boot_us: int) -> Frames:
        """The server said no: to the session, a channel, a lease, an answer, or something of the outbox."""
        about, later_us = refusal.about, refusal.retry_after_us
        told = self._judged(refusal)
        refusal = msgspec.structs.replace(refusal, code=told.code)
        if self._keys.refused(refusal):
            return []
        if not about or self.state is State.CLOSED:
            if self._replica.shut_out.standing != "in" and _is_id(about):
                self._outbox.receipt_acked(bytes.fromhex(about))  # not taken, and never will be
            raise told
        if refusal.code == "overloaded" and self._repairs.postpone(about, boot_us, later_us):
            return []
        if about in self._following:
            self._following.pop(about)
            self._repairs.over([about])
            self.refused[about], self._memory.refusals[about] = refusal.code, told
            if refusal.code == "channel_forbidden" and self._starts_over(about):
                return self._drop(about)  # its cursor told nobody that we hold it
        elif self._lease_id is not None and about == self._lease_id.hex():
            self._lease_id, self._lease_refused = None, True
            self._renew_us = boot_us + max(refusal.retry_after_us, self._settings.tick_us)
        elif self._fetching.refused(refusal, boot_us):
            return self._fetch(boot_us)
        elif self._reporter is not None and refusal.code == "round_closed":
            self._reporter.on_closed(bytes.fromhex(about) if _is_id(about) else b"")
            self._reports.clear()
        elif about in {ticket.hex() for ticket in self._reports}:
            self._reports.discard(bytes.fromhex(about))
        else:
            self._outbox.refused(about, refusal.code)
        return []

    def _judged(self, refusal: m.Refusal) -> SyncRefused:
        """What the app may know of a refusal: a time only when the server signed it."""
        time_us = None
        if self._hello is not None:
            time_us = gate.server_time(refusal, self._hello, self._server_key)
        code = refusal.code if refusal.code in CODES else "internal"  # one that is not there is not believed
        return SyncRefused(code, CODES[code].text, refusal.retry_after_us, time_us)

    def _starts_over(self, channel: str) -> bool:
        """Whether a shared channel was told of at cursor 0 although something of it is held."""
        assert self._hello is not None
        return self._hello.cursors.get(channel) == 0 and self._replica.holds(channel)

    def _refusal(self, code: str, about: str) -> bytes:
        return self._say(m.Refusal(code=code, about=about))


def device_revoked() -> SyncRefused:
    """What the app hears of a device that is shut out."""
    return SyncRefused("device_revoked", CODES["device_revoked"].text)


def _is_id(text: str) -> bool:
    return len(text) == 32 and not set(text) - set("0123456789abcdef")
