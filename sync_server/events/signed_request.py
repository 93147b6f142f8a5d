"""A webhook's request as it is signed: RFC 9421 over method, authority, path, type and digest (RFC 9530).

The same file says what a receiver must find covered, so that both sides cannot differ.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver
from http_message_signatures.algorithms import ED25519

COVERED: Final = ("@method", "@authority", "@path", "content-type", "content-digest")
TAG: Final = "edge-sync-webhook"
LABEL: Final = "edge"


class Request(NamedTuple):
    """A request as far as its signature is concerned."""

    method: str
    url: str
    headers: dict[str, str]


def signed_headers(
    key: Ed25519PrivateKey, key_id: str, url: str, body: bytes, *, now_us: int, life_us: int, nonce: str
) -> dict[str, str]:
    """The headers of a POST of `body` to `url`: type, digest and signature.

    Args:
        life_us: how long the signature may be used; short, for each attempt is signed anew.
        nonce: never used before.
    """
    request = Request("POST", url, {"Content-Type": "application/json"})
    keys = MappingKeyResolver(public_keys={}, private_keys={key_id: key})
    created = datetime.fromtimestamp(now_us // 1_000_000, UTC)
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=keys).sign(
        request,
        key_id=key_id,
        created=created,
        expires=created + timedelta(microseconds=life_us),
        nonce=nonce,
        label=LABEL,
        tag=TAG,
        covered_component_ids=COVERED,
        body=body,
    )
    return request.headers
