"""The receiver's side of a webhook: is this request from the server I trust, whole, in time, and new?

Ships with the server so that both sides agree, and imports nothing of it but the words of the signature.

The order is part of the promise: signature first, then the digest of the body as it really came, then the
time, and only then the nonce is remembered. So a forged request costs nobody's nonce, and a replayed one is
refused.

>>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
>>> from sync_server.events.signed_request import signed_headers
>>> key, url, body = Ed25519PrivateKey.generate(), "https://crm.example/hooks", b"{}"
>>> sent = {"now_us": 1_700_000_000_000_000, "life_us": 60_000_000, "nonce": "n1"}
>>> headers = signed_headers(key, "k1", url, body, **sent)
>>> receiver = WebhookReceiver({"k1": key.public_key()}, url, now_s=lambda: 1_700_000_001)
>>> receiver.verify("POST", "/hooks", headers, body)
>>> receiver.verify("POST", "/hooks", headers, body)
Traceback (most recent call last):
...
sync_server.receiving.NotGenuine: replayed: this nonce was used before
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, MutableMapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    InvalidSignature,
    MappingKeyResolver,
)
from http_message_signatures.algorithms import ED25519

from sync_server.events.signed_request import COVERED, TAG, Request

LONGEST: Final = timedelta(minutes=15)
"""Longest life of a signature that a receiver takes; nonces are remembered for that long."""
SKEW_S: Final = 30
"""How far the two clocks may differ, in seconds."""
NONCES: Final = 100_000
"""Most nonces remembered. With more within their time a request is refused: the sender tries again."""


class NotGenuine(Exception):
    """A request that is not believed; the message says what was wrong with it, and nothing was remembered."""


class _TimelessVerifier(HTTPMessageVerifier):
    """Checks everything but the time, which is judged by the receiver's own clock afterwards."""

    def validate_created_and_expires(self, sig_input: Any, max_age: timedelta | None = None) -> None:
        for name in ("created", "expires"):
            if type(sig_input.params.get(name)) is not int:
                raise InvalidSignature(f"expected the parameter {name}")


class WebhookReceiver:
    """Believes requests of the keys that it was given, addressed to its own url."""

    def __init__(
        self,
        keys: Mapping[str, Ed25519PublicKey],
        url: str,
        now_s: Callable[[], float],
        nonces: MutableMapping[str, float] | None = None,
    ) -> None:
        """Trust `keys`.

        Args:
            keys: `kid` -> key; see `keys_of`.
            url: under which the webhook was registered. What a request says of its authority is not believed.
            now_s: Unix time in seconds.
            nonces: nonce -> until when it is remembered; hand in something shared and durable where several
                processes receive, or where a restart must not forget.
        """
        self._url, self._now_s = urlsplit(url), now_s
        self._nonces = {} if nonces is None else nonces
        resolver = MappingKeyResolver(public_keys=keys, private_keys={})
        self._verifier = _TimelessVerifier(signature_algorithm=ED25519, key_resolver=resolver)

    def verify(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Raise `NotGenuine` unless the request may be believed.

        Args:
            path: as it stood in the request line, with its query.
            body: the raw bytes, before anything parsed them.
        """
        parameters = self._signed(method, path, headers, body)
        now_s = self._now_s()
        created_s, expires_s = parameters["created"], parameters["expires"]
        if created_s > now_s + SKEW_S:
            raise NotGenuine("signed in the future")
        if expires_s < now_s - SKEW_S or expires_s - created_s > LONGEST.total_seconds():
            raise NotGenuine("expired, or signed for too long")
        self._remember(parameters.get("nonce"), expires_s + SKEW_S, now_s)

    def _signed(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """The signature's parameters, once it verifies and the digest it covers is that of the body."""
        url = f"{self._url.scheme}://{self._url.netloc}{path}"
        try:
            found = self._verifier.verify(
                Request(method, url, dict(headers)),
                max_age=None,
                expect_tag=TAG,
                require_components=COVERED,
                body=body,
            )
        except HTTPMessageSignaturesException as error:
            raise NotGenuine(f"the signature does not hold: {error}") from None
        if len(found) != 1 or found[0].body is None:
            raise NotGenuine("expected exactly one signature, over the digest of the body")
        return dict(found[0].parameters)

    def _remember(self, nonce: object, until_s: float, now_s: float) -> None:
        if not isinstance(nonce, str) or not nonce:
            raise NotGenuine("expected a nonce")
        if nonce in self._nonces:
            raise NotGenuine("replayed: this nonce was used before")
        if len(self._nonces) >= NONCES:
            for old in [n for n, until in self._nonces.items() if until < now_s]:
                del self._nonces[old]
        if len(self._nonces) >= NONCES:
            raise NotGenuine("too many requests at once to tell replays apart; try again")
        self._nonces[nonce] = until_s


def keys_of(jwks: Mapping[str, Any]) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys of a JWK set, as `GET /.well-known/jwks.json` gives it, by their `kid`."""
    return {
        key["kid"]: Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "=="))
        for key in jwks["keys"]
        if key.get("crv") == "Ed25519"
    }
