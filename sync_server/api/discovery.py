"""`/.well-known/`: how a receiver finds the streams and the keys (SSF 1.0 section 7.1, RFC 7517)."""

from __future__ import annotations

import msgspec
from aiohttp import web

from sync_server.api.event_streams import PATH
from sync_server.api.replies import json_reply
from sync_server.api.rooms import AUTHORITY, EVENTS
from sync_server.api.route import Route
from sync_server.api.stream_documents import POLL, PUSH
from sync_server.events.sets import key_set


class AuthorizationScheme(msgspec.Struct):
    """How the endpoints are opened."""

    spec_urn: str


class SsfConfiguration(msgspec.Struct):
    """The transmitter's configuration metadata."""

    spec_version: str
    issuer: str
    jwks_uri: str
    delivery_methods_supported: list[str]
    configuration_endpoint: str
    status_endpoint: str
    verification_endpoint: str
    authorization_schemes: list[AuthorizationScheme]
    default_subjects: str


class Jwk(msgspec.Struct):
    """An Ed25519 public key (RFC 8037)."""

    kty: str
    crv: str
    x: str
    kid: str
    alg: str
    use: str


class Jwks(msgspec.Struct):
    """The present signing key first, then those of before."""

    keys: list[Jwk]


async def configuration(request: web.Request) -> web.Response:
    """Where everything is. Every subject is in every stream; none is added or removed."""
    issuer = request.app[EVENTS].speaker.issuer
    document = SsfConfiguration(
        spec_version="1_0",
        issuer=issuer,
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        delivery_methods_supported=[PUSH, POLL],
        configuration_endpoint=issuer + PATH,
        status_endpoint=f"{issuer}{PATH}/status",
        verification_endpoint=f"{issuer}{PATH}/verify",
        authorization_schemes=[AuthorizationScheme("urn:ietf:rfc:6750")],
        default_subjects="ALL",
    )
    return json_reply(document)


async def jwks(request: web.Request) -> web.Response:
    """The keys that verify events and webhooks."""
    keys = [Jwk(**key) for key in key_set(request.app[AUTHORITY])["keys"]]
    return json_reply(Jwks(keys))


ROUTES = (
    Route(
        "GET",
        "/.well-known/ssf-configuration",
        configuration,
        "Where streams are made, read and verified (Shared Signals Framework 1.0).",
        "events",
        open=True,
        parts=(AuthorizationScheme,),
        replies={200: "the transmitter's configuration"},
        returns={200: SsfConfiguration},
    ),
    Route(
        "GET",
        "/.well-known/jwks.json",
        jwks,
        "The keys that verify events and webhooks, earlier ones too.",
        "events",
        open=True,
        parts=(Jwk,),
        replies={200: "a JWK set"},
        returns={200: Jwks},
    ),
)
