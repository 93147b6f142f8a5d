"""Tickets for personal channels: a short-lived, signed word of the app's backend.

A ticket names one device, one subject and some purposes. The server signs it at the backend's request, so the
device can carry it and nobody has to remember it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Bytes16, Micros, Name, Signature

TICKET_LIMIT_BYTES = 8_192


class _Ticket(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    v: int
    device_id: Name
    subject: Bytes16
    purposes: list[Name]
    expires_us: Micros


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: bytes
    signature: Signature


def issue(
    key: Ed25519PrivateKey, device_id: str, subject: bytes, purposes: Sequence[str], expires_us: int
) -> bytes:
    """A ticket that lets one device follow one subject's channels of `purposes` until `expires_us`."""
    body = seal.canonical(_Ticket(1, device_id, subject, sorted(purposes), expires_us))
    return seal.canonical(_Signed(body, seal.sign(key, seal.CHANNEL_TICKET, body)))


def check(
    server_key: bytes, ticket: bytes, device_id: str, subject: bytes, purpose: str, now_us: int | None
) -> None:
    """Return when `ticket` opens the channel to this device now.

    Args:
        now_us: the server's clock; None on a device, whose clock is not asked: the server judges the time.

    Raises `WireFailure`: `ticket_invalid` (not ours, or of another device, subject or purpose) or
    `ticket_expired`.
    """
    try:
        if len(ticket) > TICKET_LIMIT_BYTES:
            raise msgspec.DecodeError
        signed = msgspec.msgpack.decode(ticket, type=_Signed)
        seal.verify(server_key, seal.CHANNEL_TICKET, signed.body, signed.signature)
        named = msgspec.msgpack.decode(signed.body, type=_Ticket)
    except (msgspec.DecodeError, UnicodeError, WireFailure):
        raise WireFailure("ticket_invalid", "the ticket does not verify") from None
    if (named.v, named.device_id, named.subject) != (1, device_id, subject) or purpose not in named.purposes:
        raise WireFailure("ticket_invalid", "the ticket names another device, subject or purpose")
    if now_us is not None and now_us >= named.expires_us:
        raise WireFailure("ticket_expired", "the ticket has expired")
