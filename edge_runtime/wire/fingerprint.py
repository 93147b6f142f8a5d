"""The printed form of a public key: what a person writes down once, and pins."""

from __future__ import annotations

import hashlib
from typing import Final

_NAME: Final = "sha256:"
_GROUP: Final = 8


def fingerprint(public_key: bytes) -> str:
    """`sha256:` and the SHA-256 of the 32 raw bytes of an Ed25519 key, in hex, eight digits a group.

    >>> fingerprint(bytes(32))
    'sha256:66687aad-f862bd77-6c8fc18b-8e9f8e20-08971485-6ee233b3-902a591d-0d5f2925'
    """
    digits = hashlib.sha256(public_key).hexdigest()
    return _NAME + "-".join(digits[at : at + _GROUP] for at in range(0, len(digits), _GROUP))


def digest_of(text: str) -> bytes:
    """The 32 bytes that a printed fingerprint stands for; groups, blanks and case do not matter.

    Raises ValueError: something else, or only a part of one.
    """
    name, _, digits = text.strip().lower().partition(":")
    plain = "".join(digits.replace("-", " ").split())
    if name + ":" != _NAME or len(plain) != 64 or set(plain) - set("0123456789abcdef"):
        raise ValueError("expected a fingerprint: sha256: and 64 hex digits, all of them")
    return bytes.fromhex(plain)
