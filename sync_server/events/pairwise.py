"""How a subject is named to one destination: by a name that means nothing to any other. Pure.

A destination's names are made from the subject's pseudonym under a key of its own, which never leaves the
server. So two recipients cannot join what they hold by the names in their events, and a leaked event names
nobody. Who knows a raw id asks the server for its name (`POST /v1/event-subjects`): a plain computation, the
same answer whether or not anything was ever said about that subject. RFC 9493 calls the format `opaque`.
"""

from __future__ import annotations

import hashlib

from sync_server.devices.enrolment import encode


def pairwise_name(tag_key: bytes, destination: str, subject: bytes) -> str:
    """The subject's name at `destination`: 22 characters of base64url.

    Args:
        tag_key: the server's 32-byte secret (`Authority.tag_key`).
        subject: 16-byte pseudonym.
    """
    own = hashlib.blake2b(destination.encode(), digest_size=32, key=tag_key, person=b"edge-pairwise").digest()
    return encode(hashlib.blake2b(subject, digest_size=16, key=own, person=b"edge-pairwise").digest())


def subject_identifier(tag_key: bytes, destination: str, subject: bytes) -> dict[str, str]:
    """The RFC 9493 subject identifier of that name."""
    return {"format": "opaque", "id": pairwise_name(tag_key, destination, subject)}
