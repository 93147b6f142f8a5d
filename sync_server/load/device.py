"""A device that keeps cursors and digests and no rows: frames in, frames out. No socket, no clock.

It speaks with the production codec, walks the production conversation table, verifies every signature and
takes a frame only under the rules of the wire (lane first, a delta starts at its cursor). Devices of one
fleet share a `Reader`, which parses and verifies the same bytes once: one machine can then play thousands.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import codec, digest, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import Side, State, advance
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.ledger import check_goes_on, verify_head
from edge_runtime.wire.printing import prints_only

FRAMES_KEPT = 64
"""Parsed frames that a reader keeps."""
RowKey = tuple[str, str, int]


@prints_only("device_id", "channels")
@dataclass(frozen=True, slots=True)
class Enrolled:
    """What an enrolment gave."""

    device_id: str
    key: Ed25519PrivateKey
    digest_key: bytes
    server_key: bytes
    channels: tuple[str, ...]


class Turnaway(Exception):
    """The server ended the session with a refusal."""

    def __init__(self, refusal: m.Refusal) -> None:
        self.code, self.retry_after_us = refusal.code, refusal.retry_after_us
        super().__init__(refusal.code)


@prints_only()
@dataclass(slots=True)
class Heard:
    """A parsed frame, and what every device works out of it alike."""

    message: m.Message
    hashes: list[tuple[RowKey, int]] | None = None
    """Of a delta: what each row adds to the channel's digest."""
    verified: set[bytes] = field(default_factory=set)
    """Of a checkpoint: the keys under which its signature was found good."""


class Reader:
    """Parses frames for a fleet; the same bytes once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Heard] = OrderedDict()
        self._head: tuple[m.LedgerHead, bytes] | None = None

    def read(self, frame: bytes) -> Heard:
        """The message in `frame`; raises `WireFailure`."""
        found = self._kept.get(frame)
        if found is None:
            found = Heard(codec.decode(frame))
            if isinstance(found.message, m.Delta | m.Checkpoint | m.Lane):
                self._kept[frame] = found
                if len(self._kept) > FRAMES_KEPT:
                    self._kept.popitem(last=False)
        return found

    def check_head(self, head: m.LedgerHead, server_key: bytes) -> None:
        """Raise `WireFailure("bad_signature")` unless the head is the server's; verified once."""
        if self._head != (head, server_key):
            verify_head(head, server_key)
            self._head = (head, server_key)


class SimDevice:
    """One simulated device.

    Args:
        chance: returns n unpredictable bytes.
        leases: whether it asks for a lease, as a device with consented features does.
        whole: whether it keeps a hash of each row and compares digests; else it compares cursors alone,
            and costs a few hundred bytes however large the channels are.
    """

    def __init__(
        self,
        enrolled: Enrolled,
        reader: Reader,
        chance: Callable[[int], bytes],
        *,
        leases: bool = False,
        whole: bool = True,
    ) -> None:
        self.enrolled, self._reader, self._chance = enrolled, reader, chance
        self._leases, self.whole = leases, whole
        self.state = State.CLOSED
        self.lane = 0
        self.cursors = dict.fromkeys(enrolled.channels, 0)
        self.digests = dict.fromkeys(enrolled.channels, 0)
        self._rows: dict[str, dict[RowKey, int]] = {channel: {} for channel in enrolled.channels}
        self.equal: set[str] = set()
        """Channels that stand where the server's newest checkpoint says."""
        self.matched = self.mismatched = self.rows = self.denials = 0
        """Checkpoints that agreed and that did not, rows and denials taken in."""
        self.on_delta: Callable[[m.Delta], None] = lambda delta: None
        self.on_lane: Callable[[m.Lane], None] = lambda lane: None
        self._challenge: m.Challenge | None = None
        self._hello: m.Hello | None = None
        self._lane_head = self._lane_at = 0
        self._lease: bytes | None = None
        self.leased = False
        self.ledger: m.LedgerHead | None = None
        """The ledger head that it keeps."""

    @property
    def fresh(self) -> bool:
        """Lane drained, every channel equal to its checkpoint, and the lease granted if one is wanted."""
        caught_up = self.state is State.LIVE and len(self.equal) == len(self.cursors)
        return caught_up and (self.leased or not self._leases)

    def held(self, channel: str) -> int:
        """Rows that it holds of a channel, if it keeps their hashes."""
        return len(self._rows[channel])

    def forget(self) -> None:
        """Lose all that it holds, as after a wiped disk; its next session starts from nothing."""
        for channel in self.cursors:
            self.cursors[channel] = self.digests[channel] = 0
            self._rows[channel].clear()

    def begin(self) -> None:
        """A socket opened."""
        self.state, self._lease, self.leased = State.CONNECTED, None, False
        self.equal.clear()
        self._lane_at = self.lane

    def end(self) -> None:
        """The socket is gone."""
        self.state = State.CLOSED

    def hear(self, frame: bytes) -> list[bytes]:
        """Take one frame and return what to answer.

        Raises `WireFailure` for a frame that breaks a rule, `Turnaway` when the server ends the session.
        """
        heard = self._reader.read(frame)
        message = heard.message
        self.state = advance(self.state, Side.SERVER, message)
        match message:
            case m.Challenge():
                return [self._greet(message)]
            case m.Welcome():
                return self._take_welcome(message)
            case m.Recall():  # it keeps no decisions: it knows of positions alone
                return [self._say(m.Recalled(entries=[], upto=self.lane, more=False))]
            case m.Lane():
                return self._take_lane(message)
            case m.Delta():
                self._take_delta(message, heard)
            case m.Checkpoint():
                return self._take_checkpoint(message, heard)
            case m.Lease():
                self._take_lease(message)
            case m.Drop():
                self._drop(message.channel)
            case m.Revoked():
                raise Turnaway(m.Refusal(code="device_revoked"))
            case m.Refusal():
                return self._take_refusal(message)
        return []

    def _say(self, message: m.Message) -> bytes:
        self.state = advance(self.state, Side.DEVICE, message)
        return codec.encode(message)

    def _greet(self, challenge: m.Challenge) -> bytes:
        self._challenge = challenge
        hello = m.Hello(
            device_id=self.enrolled.device_id,
            nonce=self._chance(32),
            pinned=self.enrolled.server_key,
            lane=self.lane,
            counter=0,
            catalog="load@1",
            cursors=dict(self.cursors),
            signature=bytes(64),
        )
        signature = seal.sign(self.enrolled.key, seal.HELLO, seal.hello_bytes(challenge.nonce, hello))
        self._hello = msgspec.structs.replace(hello, signature=signature)
        return self._say(self._hello)

    def _take_welcome(self, welcome: m.Welcome) -> list[bytes]:
        assert self._challenge is not None
        assert self._hello is not None
        if welcome.nonce != self._hello.nonce:
            raise WireFailure("bad_nonce", "expected the answer to this session's nonce")
        body = seal.welcome_bytes(self.enrolled.device_id, self._challenge, welcome)
        seal.verify(self.enrolled.server_key, seal.WELCOME, body, welcome.signature)
        if welcome.lane_head < self.lane:
            raise WireFailure("rolled_back", f"expected a lane of at least {self.lane}")
        self._lane_head = welcome.lane_head
        return []

    def _take_lane(self, lane: m.Lane) -> list[bytes]:
        if lane.base != self._lane_at or lane.upto < lane.base:
            raise WireFailure("stale_delta", f"expected the lane after {self._lane_at}, got {lane.base}")
        self._lane_at = lane.upto
        self.denials += sum(entry.grant == 0 for entry in lane.entries)
        self.on_lane(lane)
        if lane.more:
            return []
        self.lane = lane.upto
        if self.state is State.DRAINING and lane.upto < self._lane_head:
            return []
        return [self._say(m.LaneAck(upto=lane.upto)), *self._ask_lease()]

    def _ask_lease(self) -> list[bytes]:
        if not self._leases or self.leased or self._lease is not None:
            return []
        self._lease = self._chance(16)
        size = 0 if self.ledger is None else self.ledger.size
        request = m.LeaseRequest(id=self._lease, upto=self.lane, ledger=size, cold_start="server")
        return [self._say(request)]

    def _take_lease(self, lease: m.Lease) -> None:
        """A lease of ours, with a ledger head that goes on from the one kept; else `WireFailure`."""
        key, head = self.enrolled.server_key, lease.ledger
        seal.verify(key, seal.LEASE, seal.lease_bytes(self.enrolled.device_id, lease), lease.signature)
        self._reader.check_head(head, key)
        if head.size < lease.upto:  # not our lane: a denial may have overtaken this lease
            raise WireFailure("ledger_shorter", f"expected a ledger of at least {lease.upto} leaves")
        if self.ledger is not None and self.ledger.incarnation == head.incarnation:
            check_goes_on(self.ledger, head, lease.consistency)
        self.ledger = head
        self.leased |= lease.id == self._lease

    # ---- channels ----------------------------------------------------------------------------------------

    def _take_delta(self, delta: m.Delta, heard: Heard) -> None:
        channel = delta.channel
        if channel not in self.cursors:
            return
        if delta.epoch > self.lane:
            raise WireFailure("lane_behind", f"expected an epoch of at most {self.lane}, got {delta.epoch}")
        expected = 0 if delta.replacing else self.cursors[channel]
        if delta.base != expected:
            raise WireFailure("stale_delta", f"expected cursor {expected}, got {delta.base}")
        if delta.replacing:
            self.digests[channel] = 0
            self._rows[channel].clear()
        if self.whole:
            self._add(channel, delta, heard)
        self.cursors[channel] = delta.upto
        self.equal.discard(channel)
        self.rows += len(delta.rows)
        self.on_delta(delta)

    def _drop(self, channel: str) -> None:
        self.cursors.pop(channel, None)
        self._rows.pop(channel, None)
        self.equal.discard(channel)

    def _add(self, channel: str, delta: m.Delta, heard: Heard) -> None:
        if heard.hashes is None:
            key = self.enrolled.digest_key
            heard.hashes = [
                ((r.entity, r.view, r.version), digest.row_hash(key, channel, r)) for r in delta.rows
            ]
        rows, total = self._rows[channel], self.digests[channel]
        for place, added in heard.hashes:
            total += added - rows.pop(place, 0)
            if added:
                rows[place] = added
        self.digests[channel] = total % digest.MODULUS

    def _take_checkpoint(self, checkpoint: m.Checkpoint, heard: Heard) -> list[bytes]:
        channel, key = checkpoint.channel, self.enrolled.server_key
        if key not in heard.verified:
            seal.verify(key, seal.CHECKPOINT, seal.checkpoint_bytes(checkpoint), checkpoint.signature)
            heard.verified.add(key)
        if self.cursors.get(channel) != checkpoint.seq:
            return []
        if self.whole and digest.to_bytes(self.digests[channel]) != checkpoint.digest:
            self.mismatched += 1
            return [self._say(m.Refusal(code="digest_mismatch", about=channel))]
        self.matched += 1
        self.equal.add(channel)
        return []

    def _take_refusal(self, refusal: m.Refusal) -> list[bytes]:
        if self._lease is not None and refusal.about == self._lease.hex():
            self._lease = None
            return self._ask_lease() if refusal.code == "lane_behind" else []
        raise Turnaway(refusal)
