"""From a pinned fingerprint to the key that signed a document, along the server's own succession. Pure.

Whoever wrote down the fingerprint of the server's first key once can verify everything that any later key
signed: each key named the next, and the document brings those words along.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from sync_server.devices.enrolment import decode, encode

LINKS: Final = 64
"""Most keys before the one that signed."""


class KeyLink(msgspec.Struct, frozen=True):
    """A signing key of before, and its word for the one that came after it; base64url."""

    public_key: str
    signature: str


class Led(NamedTuple):
    """Where the root led."""

    public_key: bytes
    """The key that signed the document."""
    root_place: int
    """Which of the server's keys was pinned, from 1."""
    place: int
    """Which of them signed."""


class RootFailure(Exception):
    """No way leads from the pinned key to the one that signed; the message says why."""


def links(earlier: Iterable[tuple[bytes, bytes]]) -> list[KeyLink]:
    """As a document brings them: (key, its word for the next), in order."""
    return [KeyLink(encode(key), encode(word)) for key, word in earlier]


def led_by(root: bytes, document: Mapping[str, Any]) -> Led:
    """Follow the succession in `document` from the key whose SHA-256 is `root` to the one that signed it.

    Raises `RootFailure`: the root is none of the server's keys, or a key was not named by the one before.
    """
    try:
        chain = [(decode(one["public_key"]), decode(one["signature"])) for one in document["succession"]]
        keys = [key for key, _ in chain] + [decode(document["public_key"])]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RootFailure(f"expected the keys that lead to the signature ({type(error).__name__})") from None
    if len(chain) > LINKS:
        raise RootFailure(f"expected at most {LINKS} earlier keys")
    places = [at for at, key in enumerate(keys) if hashlib.sha256(key).digest() == root]
    if not places:
        raise RootFailure("the root is none of the keys that lead to the one that signed this")
    for at in range(places[0], len(chain)):
        key, word = chain[at]
        try:
            seal.verify(key, seal.SUCCESSION, seal.succession_bytes(key, keys[at + 1]), word)
        except WireFailure:
            raise RootFailure(f"key {at + 2} was not named by key {at + 1}, the one before it") from None
    return Led(keys[-1], places[0] + 1, len(keys))
