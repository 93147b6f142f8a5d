"""One device session as the server speaks it: frames heard, and always the one next frame to send.

There is no queue of rows: a session is a lane position and a cursor per channel, and `next` looks at the
lane before anything else. So a denial overtakes every row that was not yet handed to the socket, also in the
middle of a snapshot. No socket here, no tasks; `device_socket.py` and `poll_session.py` carry the bytes.

The parts of a session: `opening` (who is there), `lane_position` (decisions), `following` and `row_frames`
(channels and their rows), `on_demand` (rows that it asks for), `leases`, `key_change`, and the node's `desk`
(what it hands up).
"""

from __future__ import annotations

from typing import Final

import msgspec

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import Side, State, advance
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import TIMED
from sync_server.store.records import DeviceRow
from sync_server.sync import leases, opening
from sync_server.sync.admission import Stage, Visit
from sync_server.sync.following import Following
from sync_server.sync.hints import Subscription
from sync_server.sync.key_change import change_key
from sync_server.sync.lane_position import LanePosition
from sync_server.sync.node import Node
from sync_server.sync.on_demand import Answers
from sync_server.sync.presence import Standing
from sync_server.sync.recalling import Recalling

BACKLOG: Final = 64
"""Replies that may wait to be sent; with more the session is not listened to."""


class DeviceSession:
    """One conversation with one device.

    Args:
        visit: its place at this node, from `Node.knock`; without one it knocks itself, and may be
            turned away. `close` gives the place back.
        spoken: versions in which it may be answered.
    """

    __slots__ = (
        "_answers",
        "_challenge",
        "_following",
        "_lane",
        "_leave_by_us",
        "_node",
        "_nonce",
        "_quiet",
        "_recalling",
        "_replies",
        "_revoked",
        "_since_us",
        "_spoken",
        "_subscription",
        "_visit",
        "carried_by",
        "device_id",
        "state",
    )

    def __init__(
        self,
        node: Node,
        subscription: Subscription,
        visit: Visit | None = None,
        spoken: tuple[int, ...] = codec.SPOKEN,
    ) -> None:
        self._spoken = spoken
        """Versions that may come: all that are spoken here, and from the Hello on its own."""
        self._node, self._subscription = node, subscription
        self._visit = visit or node.knock()
        self._visit.wake = subscription.wake.set
        self.state = State.CONNECTED
        self.device_id = ""
        self.carried_by = "websocket"
        self._since_us = node.clock.now_us()
        self._challenge = opening.challenge(node, spoken)
        self._replies: list[m.Message] = [self._challenge]  # lists: an empty deque takes 600 bytes
        self._nonce = b""
        """The device's, of its Hello."""
        self._revoked = False
        self._recalling: Recalling | None = None
        """What a restored server asks first."""
        self._leave_by_us = 0
        self._quiet = False
        """Whether it had nothing to say when last asked; a hint of one channel is then all there is to it."""
        self._lane = LanePosition(node.lane)
        self._following = Following(node, subscription, self._visit, self._lane)
        self._answers = Answers(node.on_demand, self._following.grant)

    def close(self) -> None:
        """The socket is gone."""
        if self.device_id:
            self._node.presence.left(self, self.standing(self._node.clock.now_us()))
        self._following.forget_all()
        self._node.admission.leave(self._visit, self._node.clock.now_us())
        self.state = State.CLOSED

    def standing(self, until_us: int | None = None) -> Standing:
        """Where this session stands, for a person who asks; `until_us` when it ends now."""
        return Standing(
            state=str(self.state),
            stage=str(self._visit.stage),
            transport=self.carried_by,
            since_us=self._since_us,
            until_us=until_us,
            lane_sent=self._lane.sent,
            lane_acked=self._lane.acked,
            cursors=self._following.cursors(),
            compared=self._following.compared(),
            snapshots=self._following.snapshots(),
            mismatched=dict(self._following.mismatched),
            refused=dict(self._following.refused),
        )

    @property
    def backlog(self) -> int:
        """Replies that wait to be sent. Its carrier stops listening when there are too many.

        While the lane drains none is sent, and the acknowledgement that ends it must be heard.
        """
        return 0 if self.state is State.DRAINING else len(self._replies)

    @property
    def follows(self) -> tuple[str, ...]:
        """The channels followed now."""
        return self._following.channels

    @property
    def at_head(self) -> bool:
        """Whether it was told every decision."""
        return self._lane.at_head

    @property
    def owes(self) -> bool:
        """Whether it was told of decisions that it has not acknowledged."""
        return self._lane.owed

    @property
    def quiet(self) -> bool:
        """Whether it had nothing to say when last asked, and heard nothing since that asks for more."""
        return self._quiet

    @property
    def patience_us(self) -> int | None:
        """How long the device may say nothing; None: as long as it likes."""
        leaving = self.state in (State.LEAVING, State.CLOSED)
        return self._node.settings.leaving_us if leaving else None

    # ---- frames out --------------------------------------------------------------------------------------

    def next(self) -> bytes | None:
        """The next frame, or None when there is nothing to say: decisions, then replies, then rows."""
        if self._revoked and self._must_part():
            return self._part()
        if self.state is State.DRAINING:  # only the lane flows: a refusal now would end the session
            if self._recalling is not None and self._recalling.waits:
                asked = self._recalling.next()
                return None if asked is None else self._say(asked)
            return self._lane.next()
        if self.state is State.LIVE and (lane := self._lane.next()) is not None:
            return lane
        if self._replies:
            return self._say(self._replies.pop(0))
        if self.state is not State.LIVE:
            return None
        frame = self._next_answer() or self._following.next()
        self._quiet = frame is None and self._falls_quiet()
        return frame

    def step(self, channel: str) -> bytes | None:
        """WebSocket frames of all there is to say after rows of `channel` changed and nothing else did; they
        count as said.

        None, and nothing is said yet, where there is more to it: then `look` and `next` tell.
        """
        if not self._quiet or self._node.lane.head != self._lane.drained:
            return None
        return self._following.step(channel)

    def look(self) -> None:
        """Something moved: look again at every channel, and at the rounds."""
        self._quiet = False
        self._following.look()
        if self._subscription.device:
            self._subscription.device = False
            if (device := self._enrolled()) is not None:
                self._reply(*self._following.judge(device))
        if self._subscription.rounds and self.state is State.LIVE:
            self._subscription.rounds = False
            self._reply(*self._node.desk.offers())

    def _falls_quiet(self) -> bool:
        """Whether nothing is to be said but what hints will tell of, in channels that are all caught up."""
        live = self.state is State.LIVE and self._visit.stage is Stage.IN and not self._revoked
        waits = self._replies or self._answers.waiting
        return live and self._lane.at_head and not waits and self._following.caught_up

    def _next_answer(self) -> bytes | None:
        """The next part of what was asked for on demand, or the decisions that it was read after."""
        part = self._answers.next()
        if part is None:
            return None
        if part.epoch > self._lane.drained:
            return self._lane.first()
        self._answers.sent(part)
        return self._say(part.message)

    def _say(self, message: m.Message) -> bytes:
        self.state = advance(self.state, Side.SERVER, message)
        return codec.encode(message)

    def _reply(self, *messages: m.Message | None) -> None:
        """Say these when their turn comes; a refusal for time tells our time, signed."""
        for message in messages:
            if isinstance(message, m.Refusal) and message.code in TIMED:
                timed = msgspec.structs.replace(message, server_time_us=self._node.clock.now_us())
                message = self._node.signing.refusal(self.device_id, self._nonce, timed)
            if message is not None:
                self._replies.append(message)

    # ---- frames in ---------------------------------------------------------------------------------------

    def hear(self, frame: bytes) -> None:
        """Take one frame; what it asks for comes out of `next`.

        Raises `WireFailure` when the session must end: say so, then leave the socket. Nothing was changed.
        """
        message = codec.decode(frame, codec.FRAME_LIMIT_BYTES, self._spoken)
        quiet, self._quiet = self._quiet, False
        self.state = advance(self.state, Side.DEVICE, message)
        if self.state is State.LEAVING:
            self._hear_leaving(message)
            return
        match message:
            case m.Hello():
                self._take_hello(message)
            case m.LaneAck():
                self._take_ack(message)
                self._quiet = quiet and not self._subscription.rounds  # nothing follows from it
            case m.Recalled():
                self._take_recalled(message)
            case m.LeaseRequest():
                self._take_lease_request(message)
            case m.Follow():
                self._take_follow(message)
            case m.Repair():
                self._reply(self._following.repair(self.device_id, message))
            case m.Unfollow():
                self._following.forget(message.channel)
            case m.Refusal():
                self._following.take_refusal(message)
            case m.KeyChange():
                self._reply(change_key(self._node, self.device_id, message))
            case m.Fetch():
                self._reply(self._answers.ask(self.device_id, message))
            case m.ReceiptNote():
                self._node.receipts.take(self.device_id, message, self._reply)
            case m.Decisions() | m.TicketRequest() | m.Report():
                self._reply(*self._node.desk.take(self.device_id, message))
            case _:
                raise WireFailure("out_of_turn", "a message of the server's own kind")

    def _take_hello(self, hello: m.Hello) -> None:
        device, welcome, recall = opening.take_hello(self._node, self._visit, self._challenge, hello)
        self._spoken, self._nonce = (hello.v,), hello.nonce
        self.device_id = self._subscription.device_id = device.device_id
        self._lane.begin(hello.lane)
        self._revoked = device.revoked
        if recall is not None:
            self._recalling = Recalling(self._node.catching_up, device.device_id, recall)
        if welcome is not None:
            self._reply(welcome, *self._following.resume(device, hello))
            self._node.presence.came(self)

    def _take_recalled(self, recalled: m.Recalled) -> None:
        """What the device knew goes into the ledger; the lane flows once it has said everything."""
        if self._recalling is None:
            raise WireFailure("out_of_turn", "nothing is being recalled")
        self._recalling.hear(recalled)
        self._node.lane.refresh()

    def _take_ack(self, ack: m.LaneAck) -> None:
        """Enforced there, durably."""
        lane = self._lane
        lane.check(ack.upto)
        first = lane.acked is None
        if lane.acked is not None and ack.upto <= lane.acked:
            return
        lane.acked = ack.upto
        self._node.acks.take(self.device_id, ack.upto, self._node.clock.now_us())
        if self._recalling is not None:
            self._recalling.acknowledged()
            self._recalling = None
        if first:
            self._subscription.rounds = True  # what is open is told at the beginning, and then when it moves
            self.look()

    def _take_lease_request(self, request: m.LeaseRequest) -> None:
        self._lane.check(request.upto)
        renewal = leases.renew(self._node, self.device_id, request)
        self._revoked |= renewal.revoked
        self._reply(renewal.answer)

    def _take_follow(self, follow: m.Follow) -> None:
        device = self._enrolled()
        assert device is not None
        self._reply(self._following.begin(device, follow.channel, follow.cursor, follow.ticket))

    def _enrolled(self) -> DeviceRow | None:
        """The device as it is enrolled now; whether it was revoked meanwhile is noticed."""
        with self._node.store.read() as tx:
            device = tx.device(self.device_id)
        self._revoked |= device is not None and device.revoked
        return device

    # ---- a revoked device --------------------------------------------------------------------------------

    def _must_part(self) -> bool:
        """Whether the device is to be told now that it was revoked; a Welcome that it needs goes first."""
        welcome = self.state is State.GREETED and bool(self._replies)
        return self.state in (State.GREETED, State.DRAINING, State.LIVE) and not welcome

    def _part(self) -> bytes:
        self._following.forget_all()
        self._replies.clear()
        self._leave_by_us = self._node.clock.now_us() + self._node.settings.leaving_us
        return self._say(self._node.signing.revoked(self.device_id, self._nonce))

    def _hear_leaving(self, message: m.Message) -> None:
        """Only receipts count now, and only for a while; what it said before it heard is no fault."""
        if self._node.clock.now_us() > self._leave_by_us:
            raise WireFailure("device_revoked", "the device was revoked")
        if isinstance(message, m.ReceiptNote):
            self._node.receipts.take(self.device_id, message, self._reply)
