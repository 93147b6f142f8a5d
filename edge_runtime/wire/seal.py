"""Signatures and pseudonyms: what each signed statement covers, and how a subject is named on the wire.

Every signature is Ed25519 over `context || 0x00 || body`, so a signature made for one purpose never verifies
for another.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import (
    Challenge,
    Checkpoint,
    Hello,
    Lease,
    LedgerHead,
    Refusal,
    RoundOffer,
    Welcome,
)

HELLO: Final = b"edge-hello-1"
WELCOME: Final = b"edge-welcome-1"
LEASE: Final = b"edge-lease-1"
CHECKPOINT: Final = b"edge-checkpoint-1"
RECEIPT: Final = b"edge-receipt-1"
ENROL: Final = b"edge-enrol-1"
CHANNEL_TICKET: Final = b"edge-channel-ticket-1"
LEDGER_HEAD: Final = b"edge-ledger-head-1"
REVOCATION: Final = b"edge-revocation-1"
SUCCESSION: Final = b"edge-succession-1"
KEY_CHANGE: Final = b"edge-key-change-1"
REVOKED: Final = b"edge-revoked-1"
REFUSAL: Final = b"edge-refusal-1"
BACKUP: Final = b"edge-backup-1"
PRIVACY_PART: Final = b"edge-privacy-part-1"
REGISTRY: Final = b"edge-registry-1"
CONSENT_RECEIPT: Final = b"edge-consent-receipt-1"
OFFER: Final = b"edge-round-offer-1"

_Y: Final = (
    bytes(32),  # 0
    b"\x01" + bytes(31),  # 1
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    b"\xec" + b"\xff" * 30 + b"\x7f",  # p - 1
    b"\xed" + b"\xff" * 30 + b"\x7f",  # p, which is 0
    b"\xee" + b"\xff" * 30 + b"\x7f",  # p + 1, which is 1
)
SMALL_ORDER: Final = frozenset(y[:31] + bytes([y[31] | sign]) for y in _Y for sign in (0, 0x80))
"""Ed25519 keys of small order, for which anybody can make signatures that verify. Source: the list in
libsodium's `ge25519_has_small_order`, with both signs."""

_encoder = msgspec.msgpack.Encoder(order="deterministic")


def canonical(value: object) -> bytes:
    """The one byte string for a value of plain types or Structs: msgpack with sorted keys."""
    return _encoder.encode(value)


def sign(key: Ed25519PrivateKey, context: bytes, body: bytes) -> bytes:
    """Sign `body` for one `context`; 64 bytes."""
    return key.sign(context + b"\x00" + body)


def verify(public_key: bytes, context: bytes, body: bytes, signature: bytes) -> None:
    """Raise `WireFailure("bad_signature")` unless `signature` is `public_key`'s over `body` in `context`."""
    if public_key in SMALL_ORDER:
        raise WireFailure("bad_signature", "a key of small order signs anything")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, context + b"\x00" + body)
    except (InvalidSignature, ValueError):
        raise WireFailure("bad_signature", f"{context.decode()} does not verify") from None


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 raw bytes of a private key's public half."""
    return key.public_key().public_bytes_raw()


def pseudonym(tenant_key: bytes, subject: str) -> bytes:
    """16 bytes that stand for typed id `subject` (`user:alice`) on the wire and in the ledger.

    Keyed BLAKE2b-128: without the tenant's key nobody can test a guess.
    """
    return hashlib.blake2b(subject.encode(), digest_size=16, key=tenant_key, person=b"edge-subject").digest()


def subject_token(subject: bytes) -> str:
    """The printable form of a pseudonym, used as entity id of personal rows and in channel names."""
    return "~" + base64.b32encode(subject).decode().rstrip("=").lower()


def token_subject(token: str) -> bytes:
    """The pseudonym in a `subject_token`; raises `WireFailure` for anything else."""
    if token.startswith("~") and len(token) == 27 and token.isascii():
        try:
            raw = base64.b32decode(token[1:].upper() + "======")
        except ValueError:
            raw = b""
        if subject_token(raw) == token:
            return raw
    raise WireFailure("malformed", "expected a subject token")


def personal_channel(subject: bytes, purpose: str) -> str:
    """The channel `<entity>/<purpose>` of one subject."""
    return f"{subject_token(subject)}/{purpose}"


def hello_bytes(challenge_nonce: bytes, hello: Hello) -> bytes:
    """What a Hello's signature covers: the server's nonce and every other field."""
    who = (hello.v, hello.device_id, hello.nonce, hello.pinned)
    return canonical((challenge_nonce, *who, hello.lane, hello.counter, hello.catalog, hello.cursors))


def welcome_bytes(device_id: str, challenge: Challenge, welcome: Welcome) -> bytes:
    """What a Welcome's signature covers: the device it answers, the Challenge it follows, and every field."""
    c, w = challenge, welcome
    opening = (device_id, c.v, c.nonce, c.incarnation, c.server_time_us, c.speaks)
    present = (w.v, w.nonce, w.lane_head, w.counter, w.ping_us, w.server_time_us, w.succession)
    return canonical((*opening, *present, w.restores))


def revoked_bytes(device_id: str, hello_nonce: bytes) -> bytes:
    """What a Revoked's signature covers: one device in one session."""
    return canonical((device_id, hello_nonce))


def succession_bytes(before: bytes, key: bytes) -> bytes:
    """What the server's old key signs to name the next."""
    return canonical((before, key))


def key_change_bytes(device_id: str, before: bytes, key: bytes) -> bytes:
    """What a device's old and new key sign together."""
    return canonical((device_id, before, key))


def refusal_bytes(device_id: str, hello_nonce: bytes, refusal: Refusal) -> bytes:
    """What the signature of a refusal for time covers."""
    r = refusal
    return canonical((device_id, hello_nonce, r.v, r.code, r.about, r.retry_after_us, r.server_time_us))


def lease_bytes(device_id: str, lease: Lease) -> bytes:
    """What a Lease's signature covers."""
    ledger = (lease.ledger, lease.consistency)  # the proof too: a changed one would look like a fork
    return canonical((device_id, lease.v, lease.id, lease.duration_us, lease.upto, *ledger, lease.limits))


def head_bytes(head: LedgerHead) -> bytes:
    """What a ledger head's signature covers."""
    return canonical((head.size, head.root, head.time_us, head.incarnation))


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """What a Checkpoint's signature covers; no device in it, so it is signed once for all followers."""
    c = checkpoint
    return canonical((c.v, c.channel, c.seq, c.digest, c.whole))


def offer_bytes(offer: RoundOffer) -> bytes:
    """What the server signs in a `RoundOffer`: every field of it."""
    return canonical([offer.round_id, offer.metric, offer.definition, offer.closes_at_us, offer.collector])


def enrol_bytes(token: str, public_key: bytes) -> bytes:
    """What a device signs to prove that it holds the key it enrols."""
    return canonical((token, public_key))
