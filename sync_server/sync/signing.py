"""The server's signed words to a device."""

from __future__ import annotations

import msgspec

from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from sync_server.devices.authority import Authority


class Signing:
    """The server's Ed25519 key and incarnation, at work in sessions."""

    def __init__(self, authority: Authority) -> None:
        self._authority, self._key = authority, authority.signing
        self.incarnation = authority.incarnation
        self.public_key = seal.public_bytes(self._key)
        self.restores = list(authority.restores)
        """From which backups this server was restored, for the Welcome."""

    def succession(self, pinned: bytes) -> list[m.Succession]:
        """How the key that a device trusts leads to ours; raises `WireFailure("bad_signature")`."""
        return self._authority.succession(pinned)

    def welcome(self, device_id: str, challenge: m.Challenge, welcome: m.Welcome) -> m.Welcome:
        """`welcome` with its signature over the device's nonce and our challenge."""
        body = seal.welcome_bytes(device_id, challenge, welcome)
        return msgspec.structs.replace(welcome, signature=seal.sign(self._key, seal.WELCOME, body))

    def revoked(self, device_id: str, hello_nonce: bytes) -> m.Revoked:
        """The word that makes one device wipe itself, in this session and no other."""
        body = seal.revoked_bytes(device_id, hello_nonce)
        return m.Revoked(signature=seal.sign(self._key, seal.REVOKED, body))

    def refusal(self, device_id: str, hello_nonce: bytes, refusal: m.Refusal) -> m.Refusal:
        """`refusal` with its signature, for the time that it tells."""
        body = seal.refusal_bytes(device_id, hello_nonce, refusal)
        return msgspec.structs.replace(refusal, signature=seal.sign(self._key, seal.REFUSAL, body))

    def lease(self, device_id: str, lease: m.Lease) -> m.Lease:
        """`lease` with its signature."""
        body = seal.lease_bytes(device_id, lease)
        return msgspec.structs.replace(lease, signature=seal.sign(self._key, seal.LEASE, body))
