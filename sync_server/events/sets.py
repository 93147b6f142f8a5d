"""Security Event Tokens (RFC 8417) and the keys that verify them. Pure but for the signing library.

One event in each, `sub_id` at the top, no `exp`, and the same bytes at every delivery until the server's key
changes: `jti` and `iat` belong to the event, not to the attempt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from sync_server.devices.authority import Authority
from sync_server.devices.enrolment import encode
from sync_server.events import kinds
from sync_server.events.pairwise import subject_identifier
from sync_server.store.destinations import DestinationRow
from sync_server.store.events import EventRow

MEDIA: Final = "application/secevent+jwt"
_SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks in events: this server, under its public name."""

    authority: Authority
    issuer: str

    @property
    def key_id(self) -> str:
        """The present signing key's name in the JWK set."""
        return thumbprint(self.authority.public_key)

    def audience(self, destination: str) -> str:
        """Whom a SET of a stream is for."""
        return f"{self.issuer}/v1/event-streams/{destination}"

    def set_of(self, event: EventRow, destination: DestinationRow) -> str:
        """The signed token of one event for one stream."""
        claims = {
            "iss": self.issuer,
            "aud": self.audience(destination.id),
            "jti": event.jti,
            "iat": event.noticed_us // _SECOND_US,
            "toe": event.at_us // _SECOND_US,
            "sub_id": self.subject_of(event, destination),
            "events": {kinds.uri_of(event.kind): self.body_of(event, destination)},
        }
        headers = {"typ": "secevent+jwt", "kid": self.key_id}
        return jwt.encode(claims, self.authority.signing, algorithm="EdDSA", headers=headers)

    def document_of(self, event: EventRow, destination: DestinationRow) -> bytes:
        """The JSON body of one event for a webhook: the same words, without the token around them."""
        document = {
            "id": event.jti,
            "type": kinds.uri_of(event.kind),
            "issuer": self.issuer,
            "noticed_at": event.noticed_us,
            "subject": self.subject_of(event, destination),
            **self.body_of(event, destination),
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def subject_of(self, event: EventRow, destination: DestinationRow) -> Mapping[str, str]:
        """Whom it is about, by the name that this destination knows; of a verification, the stream."""
        if event.subject is None:
            return {"format": "opaque", "id": destination.id}
        return subject_identifier(self.authority.tag_key, destination.id, event.subject)

    def body_of(self, event: EventRow, destination: DestinationRow) -> dict[str, Any]:
        """What happened, without purposes that the destination did not ask for."""
        body = dict(event.body)
        if event.subject is None:
            return body
        if destination.purposes is not None:
            body["purposes"] = [p for p in body["purposes"] if p in destination.purposes]
        return {"at": event.at_us, **body}


def key_set(authority: Authority) -> dict[str, list[dict[str, str]]]:
    """The JWK set (RFC 7517, 8037): the present key first, then those of before, newest first."""
    keys = [authority.public_key, *(one.public_key for one in reversed(authority.earlier))]
    return {"keys": [_jwk(key) for key in keys]}


def thumbprint(public_key: bytes) -> str:
    """The RFC 7638 thumbprint of an Ed25519 key, which is its `kid`.

    RFC 8037, appendix A.3:

    >>> from sync_server.devices.enrolment import decode
    >>> thumbprint(decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))
    'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k'
    """
    members = {"crv": "Ed25519", "kty": "OKP", "x": encode(public_key)}
    return encode(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def _jwk(public_key: bytes) -> dict[str, str]:
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": encode(public_key),
        "kid": thumbprint(public_key),
        "alg": "EdDSA",
        "use": "sig",
    }
