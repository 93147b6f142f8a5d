"""Becoming a device of a server: a one-time token, and the proof that this device holds its key."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.errors import MalformedRequest, SyncError, SyncRefused
from edge_runtime.keys.identity import Identity
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire import seal
from edge_runtime.wire.messages import Name
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.refusal import CODES

TIMEOUT_S: Final = 15
REPLY_LIMIT_BYTES: Final = 16 * 1024


@prints_only()
class _Tenant(msgspec.Struct, frozen=True):
    pseudonym_key: str
    digest_key: str


class _Reply(msgspec.Struct, frozen=True):
    device_id: Name
    tenant: _Tenant
    server_key: str
    channels: list[str]
    registry_key: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""


async def enrol(
    keyring: Keyring,
    url: str,
    token: str,
    *,
    lock: AbstractContextManager[object],
    seed: bytes | None = None,
    accepts: Callable[[bytes | None], None] = lambda _: None,
) -> str:
    """Enrol at the server at `url` and return the device id; the identity rests in the keystore.

    Args:
        seed: 32 bytes of a new signing key, for a device that was shut out; the one it has by default.
        accepts: told the registry key that is to be pinned; raises where it cannot be, and nothing changes.
        lock: held while the identity changes, and not while the network is waited for.

    Raises:
        MalformedRequest: personal data is held here already; nothing was sent.
        SyncRefused: the token is unknown, used or expired; nothing changed here.
        SyncError: no answer, or one that is not an enrolment. The token may be used up then: ask for another.
    """
    if keyring.size:
        raise MalformedRequest("enrolment", "a device that holds no personal data", "data keys")
    url = url.rstrip("/")
    seed = keyring.identity.signing_seed if seed is None else seed
    body = request_body(Ed25519PrivateKey.from_private_bytes(seed), token)
    reply = read_reply(*await _post(f"{url}/v1/devices", body))
    pin = reply.registry_key
    registry_key = None if pin is None else _key(pin)
    accepts(registry_key)
    identity = Identity(
        device_id=reply.device_id,
        signing_seed=seed,
        pseudonym_key=_key(reply.tenant.pseudonym_key),
        digest_key=_key(reply.tenant.digest_key),
        server_key=_key(reply.server_key),
        registry_key=registry_key,
        server_url=url,
        patterns=tuple(reply.channels),
    )
    with lock:
        keyring.set_identity(identity)
    return reply.device_id


def request_body(key: Ed25519PrivateKey, token: str) -> dict[str, str]:
    """What is posted: the token, our public key, and our signature over both."""
    public_key = seal.public_bytes(key)
    proof = seal.sign(key, seal.ENROL, seal.enrol_bytes(token, public_key))
    return {"token": token, "public_key": _text(public_key), "proof": _text(proof)}


def read_reply(status: int, body: bytes) -> _Reply:
    """The enrolment in a reply; raises `SyncRefused` with the server's code, or `SyncError`."""
    if status not in (200, 201):
        raise _refusal(status, body)
    try:
        return msgspec.json.decode(body, type=_Reply)
    except (msgspec.DecodeError, UnicodeError):
        raise SyncError("the server's reply is not an enrolment; nothing changed here") from None


def _refusal(status: int, body: bytes) -> SyncError:
    try:
        code = msgspec.json.decode(body, type=_Problem).code
    except (msgspec.DecodeError, UnicodeError):
        code = ""
    if code in CODES:
        return SyncRefused(code, CODES[code].text)
    return SyncError(f"the server answered {status} to the enrolment; nothing changed here")


async def _post(url: str, body: dict[str, str]) -> tuple[int, bytes]:
    import aiohttp  # here, so that a runtime that never syncs never loads it

    try:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with (
            aiohttp.ClientSession(trust_env=False, timeout=timeout) as http,
            http.post(url, json=body, allow_redirects=False) as reply,
        ):
            return reply.status, await reply.content.read(REPLY_LIMIT_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise SyncError(f"no answer to the enrolment: {type(error).__name__}; nothing changed here") from None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _key(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SyncError(
            "the server's reply holds a key that is not base64url; nothing changed here"
        ) from None
    if len(raw) != 32:
        raise SyncError("the server's reply holds a key of the wrong size; nothing changed here")
    return raw
