"""Enrolment: a one-time token and a proof that the device holds the key it brings."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only
from sync_server.devices.authority import Authority
from sync_server.devices.entropy import Entropy
from sync_server.errors import Problem
from sync_server.store.protocol import WriteTx

TOKEN_BYTES = 24


@prints_only("expires_us")
@dataclass(frozen=True, slots=True)
class NewToken:
    """A token as it is told once; the store keeps its hash."""

    token: str
    expires_us: int


@prints_only("device_id", "channels")
@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a newly enrolled device is told."""

    device_id: str
    pseudonym_key: bytes
    digest_key: bytes
    server_key: bytes
    channels: tuple[str, ...]


def encode(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of base64url text, padded or not; raises ValueError."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_", validate=True)
    except binascii.Error:
        raise ValueError("expected base64url") from None


def token_hash(token: str) -> bytes:
    """What the store knows of a token."""
    return hashlib.blake2b(token.encode("utf-8", "replace"), digest_size=32, person=b"edge-token").digest()


def new_token(
    tx: WriteTx, entropy: Entropy, *, now_us: int, life_us: int, patterns: Sequence[str]
) -> NewToken:
    """Make a one-time token for a device that may follow `patterns`."""
    token = encode(entropy(TOKEN_BYTES))
    tx.add_token(token_hash(token), now_us, now_us + life_us, patterns)
    return NewToken(token, now_us + life_us)


def enrol(
    tx: WriteTx, authority: Authority, *, token: str, public_key: bytes, proof: bytes, now_us: int
) -> Enrolment:
    """Use up `token` and enrol the key that signed it.

    Raises `Problem`, with nothing changed: `token_unknown`, `token_expired`, `token_used` (also for the
    device that used it: a lost reply needs a new token), `bad_signature` (the token stays good).
    """
    found = tx.token(token_hash(token))
    if found is None:
        raise Problem("token_unknown")
    if found.used_us is not None:
        raise Problem("token_used")
    if now_us >= found.expires_us:
        raise Problem("token_expired")
    _check_proof(token, public_key, proof)
    if tx.key_was_used(public_key):
        raise Problem("key_enrolled")
    tx.use_token(token_hash(token), now_us)
    device_id = device_id_of(public_key)
    tx.add_device(device_id, public_key, found.patterns, now_us)
    return Enrolment(
        device_id, authority.pseudonym_key, authority.digest_key, authority.public_key, found.patterns
    )


def device_id_of(public_key: bytes) -> str:
    """The id of the device that holds this key: a hash, so it needs no chance and can be checked."""
    digest = hashlib.blake2b(public_key, digest_size=10, person=b"edge-device").digest()
    return "dev-" + base64.b32encode(digest).decode().lower()


def _check_proof(token: str, public_key: bytes, proof: bytes) -> None:
    try:
        seal.verify(public_key, seal.ENROL, seal.enrol_bytes(token, public_key), proof)
    except WireFailure:
        raise Problem("bad_signature", "expected a signature over the token by the key") from None
