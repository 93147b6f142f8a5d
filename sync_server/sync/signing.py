"""The server's signed words to a device."""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import messages as m
from edge_runtime.wire import seal


class Signing:
    """The server's Ed25519 key and incarnation, at work in sessions."""

    def __init__(self, key: Ed25519PrivateKey, incarnation: bytes) -> None:
        self._key, self.incarnation = key, incarnation
        self.public_key = seal.public_bytes(key)

    def welcome(self, device_id: str, challenge: m.Challenge, welcome: m.Welcome) -> m.Welcome:
        """`welcome` with its signature over the device's nonce and our challenge."""
        body = seal.welcome_bytes(device_id, challenge, welcome)
        return msgspec.structs.replace(welcome, signature=seal.sign(self._key, seal.WELCOME, body))

    def lease(self, device_id: str, lease: m.Lease) -> m.Lease:
        """`lease` with its signature."""
        body = seal.lease_bytes(device_id, lease)
        return msgspec.structs.replace(lease, signature=seal.sign(self._key, seal.LEASE, body))
