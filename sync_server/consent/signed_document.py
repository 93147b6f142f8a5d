"""A JSON document under the server's signature: `{"statement": {...}, "signature": ..., "public_key": ...}`.

Ed25519 over the canonical MessagePack of `statement`, in a context of its own for each kind of document;
bytes stand as base64url. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from sync_server.consent.root import KeyLink, links
from sync_server.devices.enrolment import decode, encode


class SignedDocument(msgspec.Struct, frozen=True):
    """A statement, the server's Ed25519 signature over it, and the key to check it with, both base64url."""

    statement: dict[str, Any]
    signature: str
    public_key: str
    succession: list[KeyLink] = []
    """The keys before that one, from the first on: whoever pinned any of them can follow."""


class DocumentFailure(Exception):
    """A document that does not hold; the message says why."""


def signed(
    key: Ed25519PrivateKey,
    context: bytes,
    statement: dict[str, Any],
    earlier: Iterable[tuple[bytes, bytes]] = (),
) -> SignedDocument:
    """The statement under the server's key.

    Args:
        earlier: (key, its word for the next) of the keys before `key`, in order.
    """
    signature = seal.sign(key, context, seal.canonical(statement))
    return SignedDocument(statement, encode(signature), encode(seal.public_bytes(key)), links(earlier))


def opened(document: Mapping[str, Any], context: bytes, server_key: bytes) -> dict[str, Any]:
    """What the document states under the pinned `server_key`; raises `DocumentFailure`."""
    try:
        statement, signature = document["statement"], decode(document["signature"])
        seal.verify(server_key, context, seal.canonical(statement), signature)
    except (KeyError, TypeError, ValueError, AttributeError, WireFailure) as error:
        raise DocumentFailure(f"the document does not hold: {error}") from None
    assert isinstance(statement, dict)
    return statement
