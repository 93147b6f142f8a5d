"""A webhook's receiver believes what its server signed for it, whole, in time and once; nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import ED25519

from sync_server.events.signed_request import COVERED, LABEL, TAG, Request, signed_headers
from sync_server.receiving import NotGenuine, WebhookReceiver

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
URL = "https://crm.example/hooks"
BODY = b'{"type": "urn:edge-sync:event:revocation-accepted"}'
NOW_S = 1_700_000_000


class Scene:
    """A receiver, and what its server sent it."""

    def __init__(self) -> None:
        self.now_s = float(NOW_S)
        self.nonces: dict[str, float] = {}
        keys = {"k1": KEY.public_key()}
        self.receiver = WebhookReceiver(keys, URL, lambda: self.now_s, self.nonces)

    def take(
        self, headers: Mapping[str, str], body: bytes = BODY, method: str = "POST", path: str = "/hooks"
    ) -> None:
        self.receiver.verify(method, path, headers, body)

    def refused(self, why: str, headers: Mapping[str, str], **more: Any) -> None:
        before = dict(self.nonces)
        with pytest.raises(NotGenuine, match=why):
            self.take(headers, **more)
        assert self.nonces == before, "a nonce was burned by a request that was not believed"


def sent(
    key: Ed25519PrivateKey = KEY, *, url: str = URL, body: bytes = BODY, nonce: str = "n1"
) -> dict[str, str]:
    return signed_headers(key, "k1", url, body, now_us=NOW_S * 1_000_000, life_us=300_000_000, nonce=nonce)


def signed_otherwise(**changes: Any) -> dict[str, str]:
    """Signed by the right key, but not as the server does it."""
    request = Request("POST", URL, {"Content-Type": "application/json"})
    keys = MappingKeyResolver(public_keys={}, private_keys={"k1": KEY})
    options: dict[str, Any] = {
        "key_id": "k1",
        "created": datetime.fromtimestamp(NOW_S, UTC),
        "expires": datetime.fromtimestamp(NOW_S + 60, UTC),
        "nonce": "n1",
        "label": LABEL,
        "tag": TAG,
        "covered_component_ids": COVERED,
        "body": BODY,
        **changes,
    }
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=keys).sign(request, **options)
    return request.headers


def test_what_the_server_sent_is_believed_once() -> None:
    """And a replay is refused, however often, until its signature is too old to be used anyway."""
    scene = Scene()
    scene.take(sent())
    scene.refused("replayed", sent())
    scene.take(sent(nonce="n2"))
    scene.now_s += 331
    scene.refused("expired", sent())


def test_a_body_swapped_under_a_good_signature_is_refused() -> None:
    """The signed digest is compared with the bytes that really came."""
    Scene().refused("does not match", sent(), body=BODY.replace(b"accepted", b"enforced"))


def test_a_digest_swapped_along_with_the_body_is_refused() -> None:
    """The digest is under the signature."""
    swapped = b"{}"
    headers = {**sent(), "Content-Digest": sent(body=swapped)["Content-Digest"]}
    Scene().refused("signature does not hold", headers, body=swapped)


@pytest.mark.parametrize("left_out", COVERED)
def test_a_signature_that_covers_less_is_refused(left_out: str) -> None:
    """Every component is asked for by name: also when the rest verifies."""
    covered = tuple(c for c in COVERED if c != left_out)
    body = None if left_out == "content-digest" else BODY
    Scene().refused("signature does not hold", signed_otherwise(covered_component_ids=covered, body=body))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"expires": None}, "expected the parameter expires"),
        ({"expires": datetime.fromtimestamp(NOW_S + 86_400, UTC)}, "signed for too long"),
        ({"created": datetime.fromtimestamp(NOW_S + 40, UTC)}, "in the future"),
        ({"nonce": None}, "expected a nonce"),
        ({"nonce": ""}, "expected a nonce"),
        ({"tag": "another-use"}, "signature does not hold"),
    ],
)
def test_a_signature_without_bounds_is_refused(changes: dict[str, Any], why: str) -> None:
    """It must end, soon, have begun, be for this use, and carry a nonce."""
    Scene().refused(why, signed_otherwise(**changes))


def test_another_authority_method_or_path_is_refused() -> None:
    """A request for one receiver is not good at another: it judges by its own url, not by what is claimed."""
    scene = Scene()
    scene.refused(
        "signature does not hold", {**sent(url="https://evil.example/hooks"), "Host": "crm.example"}
    )
    scene.refused("signature does not hold", sent(), method="PUT")
    scene.refused("signature does not hold", sent(), path="/admin")
    scene.refused("signature does not hold", {**sent(), "Content-Type": "text/html"})
    scene.take(sent())


def test_a_forged_signature_burns_no_nonce() -> None:
    """The real one with the same nonce is still believed afterwards (I12)."""
    scene = Scene()
    scene.refused("signature does not hold", sent(OTHER))
    scene.refused("signature does not hold", {**sent(), "Signature": sent(OTHER)["Signature"]})
    scene.refused("signature does not hold", {k: v for k, v in sent().items() if k != "Signature-Input"})
    scene.refused("signature does not hold", {**sent(), "Signature-Input": "edge=((("})
    scene.take(sent())


def test_rfc_9421_b_2_6_byte_for_byte() -> None:
    """The Ed25519 vector of the RFC's appendix, signed and verified by what signs and verifies webhooks."""
    private = Ed25519PrivateKey.from_private_bytes(
        base64.b64decode("n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=")
    )
    public = Ed25519PublicKey.from_public_bytes(
        base64.b64decode("JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
    )
    headers = {
        "Host": "example.com",
        "Date": "Tue, 20 Apr 2021 02:07:55 GMT",
        "Content-Type": "application/json",
        "Content-Length": "18",
    }
    request = Request("POST", "https://example.com/foo?param=Value&Pet=dog", headers)
    keys = MappingKeyResolver(
        public_keys={"test-key-ed25519": public}, private_keys={"test-key-ed25519": private}
    )
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=keys).sign(
        request,
        key_id="test-key-ed25519",
        created=datetime.fromtimestamp(1_618_884_473, UTC),
        label="sig-b26",
        include_alg=False,
        covered_component_ids=("date", "@method", "@path", "@authority", "content-type", "content-length"),
    )
    assert request.headers["Signature"] == (
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"
    )
    HTTPMessageVerifier(signature_algorithm=ED25519, key_resolver=keys).verify(request, max_age=None)
