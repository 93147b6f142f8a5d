"""The opening of one session: what this device says of itself, and who the server proves to be.

The server is a stranger until its Welcome verifies. From then on its words about the session as a whole, that
it is over or what time it is, are judged by the same nonce and the same key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from edge_runtime.errors import SyncRefused
from edge_runtime.sync import gate
from edge_runtime.sync.key_changes import KeyChanges
from edge_runtime.sync.replica import Replica
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.refusal import CODES


class Opening:
    """Who speaks to whom in one session.

    Args:
        spoken: versions of the protocol that are spoken here.
        chance: returns n unpredictable bytes, for the nonce.
    """

    def __init__(
        self, replica: Replica, keys: KeyChanges, spoken: tuple[int, ...], chance: Callable[[int], bytes]
    ) -> None:
        self._replica, self._keys, self._spoken, self._chance = replica, keys, spoken, chance
        self._challenge: m.Challenge | None = None
        self._hello: m.Hello | None = None
        self.welcome: m.Welcome | None = None
        """The one that verified."""
        self.version = m.PROTOCOL
        """Of the protocol, as this session speaks it."""
        self.lane_head = 0
        """How far the lane has to be drained before anything else flows."""
        self.ping_us = 0
        """How often the server says that it is there, as it told us."""

    def challenged(self, challenge: m.Challenge) -> None:
        """The server's first word. Raises `WireFailure("unsupported_version")` when no version is shared."""
        self.version = gate.version(challenge.speaks, self._spoken)
        self._challenge = challenge

    def greet(self, cursors: Mapping[str, int]) -> m.Hello:
        """Our answer to it, signed.

        Args:
            cursors: of the shared channels that the session begins with.
        """
        assert self._challenge is not None
        replica = self._replica
        hello = m.Hello(
            device_id=replica.identity.device_id,
            nonce=self._chance(32),
            pinned=self._server_key,
            lane=replica.lane_position(),
            counter=replica.continuity.counter(),
            catalog=replica.catalog_key,
            cursors=dict(cursors),
            signature=bytes(64),
            v=self.version,
        )
        signature = seal.sign(self._keys.key(), seal.HELLO, seal.hello_bytes(self._challenge.nonce, hello))
        self._hello = msgspec.structs.replace(hello, signature=signature)
        return self._hello

    def welcomed(self, welcome: m.Welcome) -> None:
        """The server proves who it is, or `WireFailure`; see `gate.check_welcome`."""
        assert self._challenge is not None
        assert self._hello is not None
        pinned, replica = self._server_key, self._replica
        last = (replica.continuity.incarnation(), replica.continuity.restores())
        standing = gate.check_welcome(welcome, self._challenge, self._hello, pinned, *last)
        if standing.server_key != pinned:
            replica.keyring.trust(standing.server_key)  # durable before anything of it is believed
        self._keys.welcomed()
        if standing.rolled_back:
            replica.continuity.rolled_back(welcome.counter)
        if standing.restored:  # it did not grant what we hold, and may not know yet what was denied since
            replica.leases.distrust("the server was restored")
        incarnation, restores = self._challenge.incarnation, welcome.restores
        replica.continuity.begin(incarnation, restores, restored=standing.restored)
        replica.leases.witness.speaks(incarnation, restores)
        self.welcome = welcome
        self.lane_head, self.ping_us = welcome.lane_head, welcome.ping_us

    def revoked(self, revoked: m.Revoked) -> None:
        """Raise `WireFailure("bad_signature")` unless the server itself ends this device, in this session."""
        assert self._hello is not None
        gate.check_revoked(revoked, self._hello, self._server_key)

    def judged(self, refusal: m.Refusal) -> SyncRefused:
        """What the app may know of a refusal: a time only when the server signed it."""
        time_us = None
        if self._hello is not None:
            time_us = gate.server_time(refusal, self._hello, self._server_key)
        code = refusal.code if refusal.code in CODES else "internal"  # one that is not there is not believed
        return SyncRefused(code, CODES[code].text, refusal.retry_after_us, time_us)

    @property
    def _server_key(self) -> bytes:
        key = self._replica.identity.server_key
        assert key is not None
        return key
