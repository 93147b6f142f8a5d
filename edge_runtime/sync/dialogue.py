"""One session as the device speaks it: frames in, frames out. No socket, no clock of its own, no tasks.

Here is the order of things; each thing is a file of its own. The server is a stranger until its Welcome
verifies; the lane is drained before any row; what the gate refuses changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from edge_runtime.sync import gate
from edge_runtime.sync.fetching import Fetching
from edge_runtime.sync.followed_channels import FollowedChannels
from edge_runtime.sync.key_changes import KeyChanges
from edge_runtime.sync.lease_renewal import LeaseRenewal
from edge_runtime.sync.leaving import Leaving
from edge_runtime.sync.memory import Memory
from edge_runtime.sync.opening import Opening
from edge_runtime.sync.outbox import Outbox
from edge_runtime.sync.recalling import Recalling
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.reporting import Reporter, Reporting
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import Side, State, advance
from edge_runtime.wire.failure import WireFailure

Frames = list[bytes]
ANY_VERSION = range(1, 2**16 + 1)
"""A Challenge and a Refusal are the same in all of them."""


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
        self._replica, self._outbox, self._memory, self._settings = replica, outbox, memory, settings
        self.state = State.CONNECTED
        self._lane_at: int | None = None
        """Where the last frame of an unfinished drain ended; None when none is under way."""
        self._keys = KeyChanges(replica.keyring, memory)
        self._opening = Opening(replica, self._keys, settings.spoken, chance)
        self._recalling = Recalling(replica.consents.relearning)
        self._leaving = Leaving(replica.shut_out, outbox)
        self._lease = LeaseRenewal(replica.leases, replica.lane_position, settings, chance)
        self._channels = FollowedChannels(replica, memory, settings)
        self._fetching = Fetching(memory.fetches, replica.fetched, settings, chance)
        self._reporting = Reporting(reporter, memory)

    @property
    def caught_up(self) -> bool:
        """Lane drained, lease granted, outbox empty, and every followed channel equal to its checkpoint."""
        waits = self._reporting.waits or self._keys.asked
        answered = self.opened and not waits and not self._memory.lean
        return answered and self._lease.settled and all(self.following.values()) and self._outbox.empty

    @property
    def opened(self) -> bool:
        """Whether the server has proved who it is and the lane was drained."""
        return self.state is State.LIVE

    @property
    def ping_us(self) -> int:
        """How often the server says that it is there, as it told us."""
        return self._opening.ping_us

    @property
    def following(self) -> Mapping[str, bool]:
        """Channel that is followed -> whether its last checkpoint matched."""
        return self._channels.matches

    @property
    def refused(self) -> Mapping[str, str]:
        """Channel -> why the server will not serve it in this session."""
        return self._channels.refused

    def close(self) -> None:
        """The socket is gone."""
        self.state = State.CLOSED
        self._outbox.forget_flights()
        self._fetching.close()

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
                return self._greet(message)
            case m.Welcome():
                self._opening.welcomed(message)
                return []
            case m.Recall():
                assert self._opening.welcome is not None
                return self._say([self._recalling.asked(message, self._opening.welcome)])
            case m.Restated():
                page = self._recalling.restated(message)
                return [] if page is None else self._say([page])
            case m.Lane():
                return self._take_lane(message, boot_us)
            case m.Revoked():
                return self._take_revoked(message, boot_us)
            case m.Refusal():
                return self._take_refusal(message, boot_us)
            case m.Lease():
                refused = self._lease.granted(message, boot_us)
                return [*self._say([*refused, *self._reporting.again()]), *self.tick(boot_us)]
            case m.Delta() | m.Checkpoint() | m.Patch() | m.Drop():
                return self._say(self._channels.take(message, boot_us))
            case m.Fetched():
                return self._take_fetched(message, boot_us)
            case m.DecisionAck():
                self._outbox.decision_acked(message)
                self._channels.decided()
                return self.tick(boot_us)
            case m.ReceiptAck():
                self._outbox.receipt_acked(message.id)
                return self.tick(boot_us)
            case m.KeyChanged():
                self._keys.changed(message)
                return []
            case m.RoundOffer() | m.Tickets() | m.ReportAck():
                return self._say(self._reporting.take(message))
            case _:
                raise WireFailure("out_of_turn", "a message of the device's own kind")

    def tick(self, boot_us: int) -> Frames:
        """What is due now without being asked: lease, personal channels that opened or closed, the outbox.

        Raises `LeaseLost` when only a fresh session can unlock consented features again.
        """
        if self.state is State.LEAVING:
            return self._say(self._leaving.words(boot_us))
        if self.state is not State.LIVE:
            return []
        self._lease.check()
        told = self._outbox.due(boot_us)
        self._channels.again(boot_us)
        # decisions before follows: a channel may open because of a decision told just now
        repairs, keys = self._channels.repairs_due(boot_us), self._keys.due()
        channels = self._channels.due(self._fetching.subjects())
        lease = self._lease.due(boot_us)
        fetches, reports = self._fetches(boot_us), self._reporting.due()
        return self._say([*lease, *told, *keys, *channels, *repairs, *fetches, *reports])

    # ---- one message after another -----------------------------------------------------------------------

    def _greet(self, challenge: m.Challenge) -> Frames:
        self._opening.challenged(challenge)
        self._reporting.begin()
        return self._say([self._opening.greet(self._channels.begin())])

    def _take_lane(self, lane: m.Lane, boot_us: int) -> Frames:
        """Revocations first: a delta may hold what was just revoked. Acknowledged once whole and durable."""
        self._replica.apply_lane(lane, self._lane_at)
        self._lane_at = lane.upto if lane.more else None
        if lane.more:
            return []
        if self.state is State.LIVE:
            return [*self._say([m.LaneAck(upto=lane.upto)]), *self.tick(boot_us)]
        if lane.upto < self._opening.lane_head:
            return []
        self._replica.leases.opened_by_server()
        ack = self._say([m.LaneAck(upto=lane.upto)])
        return [*ack, *self._say(self._channels.start_over()), *self.tick(boot_us)]

    def _take_revoked(self, revoked: m.Revoked, boot_us: int) -> Frames:
        """The server ends this device: everything goes, and then what proves that is handed in."""
        self._opening.revoked(revoked)
        self._leaving.carry_out()
        self._memory.diverged.clear()
        return self._say(self._leaving.words(boot_us))

    def _take_fetched(self, fetched: m.Fetched, boot_us: int) -> Frames:
        code = self._fetching.take(fetched, boot_us)
        refusals = [m.Refusal(code=code, about=fetched.id.hex())] if code else []
        return self._say([*refusals, *self._fetches(boot_us)])

    def _take_refusal(self, refusal: m.Refusal, boot_us: int) -> Frames:
        """The server said no: to the session, a channel, a lease, an answer, or something of the outbox."""
        meant = self._opening.judged(refusal)
        refusal = msgspec.structs.replace(refusal, code=meant.code)
        if self._keys.refused(refusal):
            return []
        if not refusal.about or self.state is State.CLOSED:
            self._leaving.refused(refusal.about)
            raise meant
        if self._channels.refused_by_server(refusal, meant, boot_us) or self._lease.refused(refusal, boot_us):
            return []
        if self._fetching.refused(refusal, boot_us):
            return self._say(self._fetches(boot_us))
        if not self._reporting.refused(refusal):
            self._outbox.refused(refusal.about, refusal.code)
        return []

    def _fetches(self, boot_us: int) -> Sequence[m.Message]:
        """What to ask for on demand; a subject's rows once its channel is followed."""
        return [] if self._memory.lean else self._fetching.due(self.following, self.refused, boot_us)

    # ---- frames ------------------------------------------------------------------------------------------

    def _decode(self, frame: bytes) -> m.Message:
        """Of any version while the server may say no to ours: a Challenge and a Refusal never change."""
        version = self._opening.version
        if self.state not in (State.CONNECTED, State.CHALLENGED, State.GREETED):
            return codec.decode(frame, self._settings.frame_limit_bytes, (version,))
        message = codec.decode(frame, self._settings.frame_limit_bytes, ANY_VERSION)
        if message.v != version and not isinstance(message, m.Challenge | m.Refusal):
            raise WireFailure("unsupported_version", f"expected version {version}")
        return message

    def _say(self, messages: Sequence[m.Message]) -> Frames:
        return [self._frame(message) for message in messages]

    def _frame(self, message: m.Message) -> bytes:
        if message.v != self._opening.version:
            message = msgspec.structs.replace(message, v=self._opening.version)
        self.state = advance(self.state, Side.DEVICE, message)
        return codec.encode(message)
