"""One device session as the server speaks it: frames heard, and always the one next frame to send.

There is no queue of rows: a session is a lane position and a cursor per channel, and `next` looks at the
lane before anything else. So a denial overtakes every row that was not yet handed to the socket, also in the
middle of a snapshot. No socket here, no tasks; `door.py` carries the bytes.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import Side, State, advance
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import TIMED
from sync_server.store.records import DeviceRow
from sync_server.sync import channels
from sync_server.sync.admission import Claim, Stage, Visit
from sync_server.sync.hints import Subscription
from sync_server.sync.key_change import change_key
from sync_server.sync.node import Node
from sync_server.sync.on_demand import Answers
from sync_server.sync.patches import NotNow
from sync_server.sync.presence import Standing
from sync_server.sync.wake import Wake


@dataclass(slots=True)
class _Follow:
    """How far the device is in one channel, as far as was sent."""

    cursor: int
    floor: int | None = None
    """The channel's floor when this cursor was good; None: nothing was sent yet."""
    checkpoint: tuple[int, int, bool] | None = None
    """(seq, digest, whole) of the newest checkpoint sent."""
    snapshot: bool = False
    """Whether a snapshot began and more of it is to come."""
    grant: int = 0
    """Live grant of a personal channel when it was opened."""
    patches: list[tuple[int, int]] = field(default_factory=list)
    """(sub-range, seq it was sent up to) of the patches still to be sent, in order."""


class DeviceSession:
    """One conversation with one device.

    Args:
        visit: its place at this node, from `Admission.knock`; without one it knocks itself, and may be
            turned away. `close` gives the place back.
    """

    __slots__ = (
        "_acked",
        "_answers",
        "_catalog",
        "_challenge",
        "_drained",
        "_follows",
        "_lane",
        "_leave_by_us",
        "_mismatched",
        "_node",
        "_nonce",
        "_quiet",
        "_refused",
        "_replies",
        "_revoked",
        "_since_us",
        "_spoken",
        "_subscription",
        "_told",
        "_turn",
        "_visit",
        "carried_by",
        "device_id",
        "drained",
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
        self._visit = visit or node.admission.knock(node.clock.now_us(), node.fraction())
        self._visit.wake = subscription.wake.set
        self.state = State.CONNECTED
        self.device_id = ""
        self.carried_by = "websocket"
        self._since_us = node.clock.now_us()
        self._mismatched: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._challenge = m.Challenge(
            nonce=node.chance(32),
            incarnation=node.signing.incarnation,
            server_time_us=node.clock.now_us(),
            speaks=list(spoken),
        )
        self._replies: list[m.Message] = [self._challenge]  # lists: an empty deque takes 600 bytes
        self._nonce = b""
        """The device's, of its Hello."""
        self._catalog = ""
        """`name@version` of the device's, as its Hello says."""
        self._revoked = False
        self._leave_by_us = 0
        self._lane = 0
        """Where the next lane frame begins."""
        self._drained = 0
        """The position at which the device stands after all that was sent."""
        self._acked = -1
        """Newest position acknowledged in this session."""
        self._told = False
        """Whether any lane frame was sent: even an empty one tells a device that it is at the head."""
        self._quiet = False
        """Whether it had nothing to say when last asked; a hint of one channel is then all there is to it."""
        self._follows: dict[str, _Follow] = {}
        self._turn: list[str] = []
        """Channels that may have something to send, in order."""
        self._answers = Answers(node.on_demand, self._followed)
        self.drained = Wake()
        """Set while the backlog is short; the door waits on it before it listens again."""

    def standing(self, until_us: int | None = None) -> Standing:
        """Where this session stands, for a person who asks; `until_us` when it ends now."""
        follows, streaming = self._follows, self._visit.slot_us is not None
        under_way = [c for c, f in follows.items() if f.snapshot or (f.floor is None and f.cursor == 0)]
        return Standing(
            state=str(self.state),
            stage=str(self._visit.stage),
            transport=self.carried_by,
            since_us=self._since_us,
            until_us=until_us,
            lane_sent=self._lane,
            lane_acked=None if self._acked < 0 else self._acked,
            cursors={c: f.cursor for c, f in follows.items()},
            compared={c: f.checkpoint[0] for c, f in follows.items() if f.checkpoint is not None},
            snapshots={c: "streaming" if streaming or c.startswith("~") else "waiting" for c in under_way},
            mismatched=dict(self._mismatched),
            refused=dict(self._refused),
        )

    def close(self) -> None:
        """The socket is gone."""
        if self.device_id:
            self._node.presence.left(self, self.standing(self._node.clock.now_us()))
        for channel in self.follows:
            self._forget(channel)
        self._node.admission.leave(self._visit, self._node.clock.now_us())
        self.state = State.CLOSED

    @property
    def backlog(self) -> int:
        """Replies that wait to be sent. The door stops listening when there are too many.

        While the lane drains none is sent, and the acknowledgement that ends it must be heard.
        """
        return 0 if self.state is State.DRAINING else len(self._replies)

    @property
    def follows(self) -> tuple[str, ...]:
        """The channels followed now."""
        return tuple(self._follows)

    # ---- frames out --------------------------------------------------------------------------------------

    def next(self) -> bytes | None:
        """The next frame, or None when there is nothing to say: decisions, then replies, then rows."""
        if self._revoked and self._must_part():
            return self._part()
        if self.state is State.DRAINING:  # only the lane flows: a refusal now would end the session
            return self._next_lane()
        if self.state is State.LIVE and (lane := self._next_lane()) is not None:
            return lane
        if self._replies:
            return self._say(self._replies.pop(0))
        if self.state is not State.LIVE:
            return None
        frame = self._next_answer() or self._next_row_frame()
        self._quiet = frame is None and self._falls_quiet()
        return frame

    @property
    def quiet(self) -> bool:
        """Whether it had nothing to say when last asked, and heard nothing since that asks for more."""
        return self._quiet

    def step(self, channel: str) -> bytes | None:
        """WebSocket frames of all there is to say after rows of `channel` changed and nothing else did; they
        count as said.

        None, and nothing is said yet, where there is more to it: then `look` and `next` tell.
        """
        if not self._quiet or self._node.lane.head != self._drained:
            return None
        follow = self._follows.get(channel)
        if follow is None:
            return None
        step = self._node.steps.to_head(channel, follow.cursor)
        if step is None or step.floor != follow.floor or step.epoch > self._drained:
            return None
        if step.checkpoint[2] != self._whole(told=step.checkpoint[2]):
            return None
        follow.cursor, follow.checkpoint = step.upto, step.checkpoint
        return step.wire

    def _falls_quiet(self) -> bool:
        """Whether nothing is to be said but what hints will tell of, in channels that are all caught up."""
        live = self.state is State.LIVE and self._visit.stage is Stage.IN and not self._revoked
        waits = self._replies or self._turn or self._answers.waiting
        return (
            live
            and self._told
            and not waits
            and not any(f.snapshot or f.patches or f.floor is None for f in self._follows.values())
        )

    def look(self) -> None:
        """Something moved: look again at every channel, and at the rounds."""
        self._quiet = False
        waiting = set(self._turn)
        self._turn.extend(channel for channel in self._follows if channel not in waiting)
        if self._subscription.device:
            self._subscription.device = False
            self._judge_device()
        if self._subscription.rounds and self.state is State.LIVE:
            self._subscription.rounds = False
            self._replies.extend(self._node.desk.offers())

    def _must_part(self) -> bool:
        """Whether the device is to be told now that it was revoked; a Welcome that it needs goes first."""
        welcome = self.state is State.GREETED and bool(self._replies)
        return self.state in (State.GREETED, State.DRAINING, State.LIVE) and not welcome

    def _part(self) -> bytes:
        for channel in self.follows:
            self._forget(channel)
        self._replies.clear()
        self._leave_by_us = self._node.clock.now_us() + self._node.settings.leaving_us
        return self._say(self._node.signing.revoked(self.device_id, self._nonce))

    @property
    def patience_us(self) -> int | None:
        """How long the device may say nothing; None: as long as it likes."""
        leaving = self.state in (State.LEAVING, State.CLOSED)
        return self._node.settings.leaving_us if leaving else None

    def _hear_leaving(self, message: m.Message) -> None:
        """Only receipts count now, and only for a while; what it said before it heard is no fault."""
        if self._node.clock.now_us() > self._leave_by_us:
            raise WireFailure("device_revoked", "the device was revoked")
        if isinstance(message, m.ReceiptNote):
            self._replies.extend(self._node.desk.take(self.device_id, message))

    def _say(self, message: m.Message) -> bytes:
        self.state = advance(self.state, Side.SERVER, message)
        return codec.encode(message)

    def _next_lane(self) -> bytes | None:
        if self._told and self._node.lane.head <= self._drained:
            return None
        frame = self._node.lane.after(self._lane)
        self._told, self._lane = True, frame.upto
        if not frame.more:
            self._drained = frame.upto
        return frame.frame

    def _next_answer(self) -> bytes | None:
        """The next part of what was asked for on demand, or the decisions that it was read after."""
        part = self._answers.next()
        if part is None:
            return None
        if part.epoch > self._drained:
            return self._lane_first()
        self._answers.sent(part)
        return self._say(part.message)

    def _next_row_frame(self) -> bytes | None:
        while self._turn and self._visit.stage is Stage.IN:
            channel = self._turn[0]
            follow = self._follows.get(channel)
            frame = None if follow is None else self._channel_frame(channel, follow)
            if frame is not None:
                return frame
            self._turn.pop(0)
        return None

    def _channel_frame(self, channel: str, follow: _Follow) -> bytes | None:
        if not self._may_flow(channel, follow):
            return None
        if follow.patches:
            return self._patch(channel, follow)
        head = self._node.fanout.head(channel)
        replacing = _must_replace(follow, head.floor, head.seq)
        if (replacing or follow.snapshot) and not self._may_stream(channel):
            return None
        if replacing or follow.cursor < head.seq:
            return self._delta(channel, follow, replacing=replacing)
        follow.floor = head.floor
        said = (head.seq, head.digest, self._whole(told=head.whole))
        if follow.checkpoint == said:
            return None
        follow.checkpoint = said
        return self._node.fanout.checkpoint(channel, head, whole=said[2])

    def _whole(self, *, told: bool) -> bool:
        """Whether a channel is whole for this device: its catalog may push what is not pushed here."""
        return told and self._node.pushed.cover(self._catalog)

    def _delta(self, channel: str, follow: _Follow, *, replacing: bool) -> bytes:
        fanout = self._node.fanout
        built = fanout.delta(channel, 0 if replacing else follow.cursor, replacing=replacing)
        if built.epoch > self._drained:
            return self._lane_first()
        if replacing or follow.floor is None:
            follow.floor = fanout.head(channel).floor
        follow.cursor = built.upto
        if replacing or follow.snapshot:
            self._snapshot_is(follow, more=built.more)
        return built.frame

    def _may_stream(self, channel: str) -> bool:
        """A subject's channel is a page or two: nobody waits for it behind the first sync of a fleet."""
        if channel.startswith("~"):
            return True
        return self._node.admission.may_stream(self._visit, self._node.clock.now_us())

    def _snapshot_is(self, follow: _Follow, *, more: bool) -> None:
        follow.snapshot = more
        if not any(f.snapshot for f in self._follows.values()):
            self._node.admission.streamed(self._visit, self._node.clock.now_us())

    def _patch(self, channel: str, follow: _Follow) -> bytes:
        subrange, base = follow.patches[0]
        built = self._node.patches.frame(channel, subrange, base)
        if built.epoch > self._drained:
            return self._lane_first()
        follow.patches.pop(0)
        if built.more:
            follow.patches.insert(0, (subrange, built.upto))
        return built.frame

    def _lane_first(self) -> bytes:
        """The lane moved unheard: decisions first, the frame of rows again after them."""
        self._node.lane.refresh()
        frame = self._next_lane()
        assert frame is not None
        return frame

    def _may_flow(self, channel: str, follow: _Follow) -> bool:
        """A personal channel ends with the grant it was opened under, and rests while that is restricted.

        Asked of the store each time.
        """
        personal = channels.personal(channel)
        if personal is None:
            return True
        with self._node.store.read() as tx:
            standing = tx.decision_state(*personal)
        if standing.grant != follow.grant:
            self._forget(channel)
        return standing.usable == follow.grant != 0

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
            case m.LeaseRequest():
                self._take_lease_request(message)
            case m.Follow():
                self._take_follow(message)
            case m.Repair():
                self._take_repair(message)
            case m.Unfollow():
                self._forget(message.channel)
            case m.Refusal():
                self._take_refusal(message)
            case m.KeyChange():
                self._replies.append(change_key(self._node, self.device_id, message))
            case m.Fetch():
                refusal = self._answers.ask(self.device_id, message)
                self._replies.extend([] if refusal is None else [refusal])
            case m.Decisions() | m.ReceiptNote() | m.TicketRequest() | m.Report():
                self._replies.extend(self._node.desk.take(self.device_id, message))
            case _:
                raise WireFailure("out_of_turn", "a message of the server's own kind")

    def _take_hello(self, hello: m.Hello) -> None:
        node, now_us = self._node, self._node.clock.now_us()
        node.admission.judge(self._visit, self._claim(hello), now_us, node.fraction())
        device = self._recognise(hello)
        succession = node.signing.succession(hello.pinned)
        self._spoken, self._nonce, self._catalog = (hello.v,), hello.nonce, sys.intern(hello.catalog)
        self._subscription.device_id = device.device_id
        with self._node.store.write("contact", durable=False) as tx:
            tx.note_contact(device.device_id, now_us, hello.counter)
        self.device_id = device.device_id
        self._lane = self._drained = hello.lane
        welcome = m.Welcome(
            nonce=hello.nonce,
            lane_head=self._node.lane.head,
            counter=max(device.counter, hello.counter),
            ping_us=self._node.settings.ping_us,
            server_time_us=now_us,
            succession=succession,
            signature=bytes(64),
        )
        self._revoked = device.revoked
        if device.revoked and not welcome.succession:
            return
        # a revoked device that trusts an earlier key needs the Welcome to know whose word it is
        self._replies.append(self._node.signing.welcome(device.device_id, self._challenge, welcome))
        for channel, cursor in hello.cursors.items():
            if cursor and channels.personal(channel) is None and not channels.allowed(device, channel):
                self._drop(channel)  # it holds what it may no longer
            else:
                self._begin(device, channel, cursor)
        node.presence.came(self)

    def _claim(self, hello: m.Hello) -> Claim:
        """What the Hello asks for, as far as memory tells: the store is read only for who was let in."""
        known, snapshot = self._node.fanout.known, False
        for channel, cursor in hello.cursors.items():
            head = known(channel)
            stale = cursor == 0 if head is None else _must_replace(_Follow(cursor), head.floor, head.seq)
            snapshot |= stale and not channel.startswith("~") and (head is None or head.seq > 0)
        return Claim(snapshot=snapshot, behind=hello.lane < self._node.lane.head)

    def _recognise(self, hello: m.Hello) -> DeviceRow:
        """The enrolled device that signed our nonce, and none else."""
        with self._node.store.read() as tx:
            device = tx.device(hello.device_id)
        if device is None:
            raise WireFailure("unknown_device", "no such device is enrolled")
        body = seal.hello_bytes(self._challenge.nonce, hello)
        seal.verify(device.public_key, seal.HELLO, body, hello.signature)
        self._node.lane.refresh()
        if hello.lane > self._node.lane.head:
            raise WireFailure("rolled_back", "the device is further in the lane than this server")
        return device

    def _take_ack(self, ack: m.LaneAck) -> None:
        """Enforced there, durably. Nobody acknowledges what was not sent."""
        if ack.upto > self._drained:
            raise WireFailure("out_of_turn", f"expected an acknowledgement of at most {self._drained}")
        if ack.upto <= self._acked:
            return
        first, self._acked = self._acked < 0, ack.upto
        self._node.acks.take(self.device_id, ack.upto, self._node.clock.now_us())
        if first:
            self._subscription.rounds = True  # what is open is told at the beginning, and then when it moves
            self.look()

    def _take_lease_request(self, request: m.LeaseRequest) -> None:
        if request.upto > self._drained:
            raise WireFailure("out_of_turn", f"expected a lane position of at most {self._drained}")
        settings, now_us = self._node.settings, self._node.clock.now_us()
        self._node.acks.write()  # what this device acknowledged in the same turn counts
        until_us = settings.lease_bound_us(now_us, settings.lease_us)
        with self._node.store.write("lease") as tx:  # durable before it is sent
            granted = tx.grant_lease(self.device_id, request.upto, until_us)
            device = tx.device(self.device_id)
        self._revoked |= device is not None and device.revoked
        if granted:
            lease = m.Lease(
                id=request.id, duration_us=settings.lease_us, upto=request.upto, signature=bytes(64)
            )
            self._replies.append(self._node.signing.lease(self.device_id, lease))
        else:
            self._node.lane.refresh()
            self._refuse("lane_behind", request.id.hex())

    # ---- channels ----------------------------------------------------------------------------------------

    def _take_follow(self, follow: m.Follow) -> None:
        with self._node.store.read() as tx:
            device = tx.device(self.device_id)
        assert device is not None
        self._revoked |= device.revoked
        self._begin(device, follow.channel, follow.cursor, follow.ticket)

    def _judge_device(self) -> None:
        """What the device may do changed: it is shut out, or holds channels that it may no longer."""
        with self._node.store.read() as tx:
            device = tx.device(self.device_id)
        if device is None:
            return
        self._revoked |= device.revoked
        for channel in self.follows:
            if channels.personal(channel) is None and not channels.allowed(device, channel):
                self._drop(channel)

    def _drop(self, channel: str) -> None:
        self._forget(channel)
        self._replies.append(m.Drop(channel=channel))

    def _begin(self, device: DeviceRow, channel: str, cursor: int, ticket: bytes | None = None) -> None:
        try:
            self._check_room(channel)
            grant = channels.admit(
                self._node.store,
                self._node.signing.public_key,
                device,
                channel,
                ticket,
                self._node.clock.now_us(),
            )
        except WireFailure as failure:
            self._forget(channel)
            self._refuse(failure.code, channel)
            if len(self._refused) < self._node.settings.follows:
                self._refused[channel] = failure.code
            return
        self._refused.pop(channel, None)
        if (before := self._follows.get(channel)) is not None:
            self._snapshot_is(before, more=False)
        channel = sys.intern(channel)  # one name of all who follow it
        self._follows[channel] = _Follow(cursor, grant=grant)
        self._node.hints.follow(self._subscription, channel)
        if channel not in self._turn:
            self._turn.append(channel)

    def _followed(self, channel: str) -> int | None:
        """The grant under which a channel is followed now."""
        follow = self._follows.get(channel)
        return None if follow is None else follow.grant

    def _take_repair(self, repair: m.Repair) -> None:
        """Patch what differs, or all of it; a checkpoint follows in any case and judges what was done."""
        follow = self._follows.get(repair.channel)
        if follow is None:
            return  # it crossed the end of the channel
        self._mismatched[repair.channel] += 1
        if repair.seq > follow.cursor:
            raise WireFailure("out_of_turn", f"expected a seq of at most {follow.cursor}")
        now_us = self._node.clock.now_us()
        try:
            self._node.patches.admit(self.device_id, now_us)
            differing = self._node.patches.differing(repair, now_us)
        except NotNow as failure:
            self._refuse(failure.code, repair.channel, failure.retry_after_us)
            return
        follow.checkpoint = None
        if len(differing) > self._node.settings.repair_subranges:
            follow.cursor, follow.floor, differing = 0, None, []
        follow.patches = [(subrange, 0) for subrange in differing]
        self._turn.append(repair.channel)

    def _check_room(self, channel: str) -> None:
        """Law 11: a device follows so many channels and no more."""
        settings = self._node.settings
        others = [c for c in self._follows if c != channel]
        personal = sum(c.startswith("~") for c in others)
        if len(others) >= settings.follows or (
            channel.startswith("~") and personal >= settings.personal_channels
        ):
            raise WireFailure("channel_forbidden", "too many channels on one device")

    def _take_refusal(self, refusal: m.Refusal) -> None:
        """The device could not take something. A channel that it cannot follow is no longer sent."""
        if refusal.code == "no_permission":
            self._forget(refusal.about)
        elif refusal.code == "digest_mismatch" and refusal.about in self._follows:
            self._mismatched[refusal.about] += 1

    def _forget(self, channel: str) -> None:
        if (follow := self._follows.pop(channel, None)) is not None:
            self._snapshot_is(follow, more=False)
            self._subscription.wake.set()  # another of its channels may have stood in line by the same place
            self._node.hints.unfollow(self._subscription, channel)
            if channel not in self._node.hints.followed:
                self._node.fanout.release(channel)
                self._node.steps.release(channel)

    def _refuse(self, code: str, about: str, retry_after_us: int = 0) -> None:
        refusal = m.Refusal(code=code, about=about, retry_after_us=retry_after_us)
        if code in TIMED:
            refusal = msgspec.structs.replace(refusal, server_time_us=self._node.clock.now_us())
            refusal = self._node.signing.refusal(self.device_id, self._nonce, refusal)
        self._replies.append(refusal)


def _must_replace(follow: _Follow, floor: int, head: int) -> bool:
    """Whether the channel has to be sent from nothing: what left without a delete must not stay there.

    In the middle of a snapshot the cursor is below the floor it began at; only a floor raised since counts.
    """
    if follow.floor is None:
        return follow.cursor == 0 or follow.cursor < floor or follow.cursor > head
    return follow.floor < floor and follow.cursor < floor
