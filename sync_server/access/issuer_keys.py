"""The public keys of an OpenID Connect issuer: fetched seldom, bounded, and kept while it does not answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import aiohttp
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from sync_server.access.issuer import Issuer, KeySource
from sync_server.settings import Settings

log = logging.getLogger(__name__)
RSA_BITS: Final = 2_048
"""RSA keys shorter than this are not used (NIST SP 800-131A)."""


class KeysUnusable(Exception):
    """What the issuer answered holds no key to use; the message says why and quotes nothing."""


class _KeySet(msgspec.Struct):
    keys: list[dict[str, object]]


class IssuerKeys:
    """Key id -> key. `key` asks the issuer at most once in `oidc_refresh_us`."""

    def __init__(self, issuer: Issuer, source: KeySource, settings: Settings) -> None:
        self._issuer, self._source, self._settings = issuer, source, settings
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_us: int | None = None
        self._asked_us: int | None = None
        self._asking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    async def key(self, kid: str, now_us: int) -> jwt.PyJWK | None:
        """The key of that id. One not known, or keys grown old, make the issuer be asked, if it is time."""
        found, settings = self._keys.get(kid), self._settings
        old = not _within(self._fetched_us, now_us, settings.oidc_keys_us)
        if (found is None or old) and not _within(self._asked_us, now_us, settings.oidc_refresh_us):
            self._asked_us = now_us
            self._asking = asyncio.create_task(self._refresh(now_us), name="fetch the issuer's keys")
        if found is None and self._asking is not None:  # with a key at hand nobody waits for the issuer
            await asyncio.shield(self._asking)
            found = self._keys.get(kid)
        return found

    async def settled(self) -> None:
        """Wait until nobody is being asked."""
        if self._asking is not None:
            await asyncio.wait([self._asking])

    async def close(self) -> None:
        """Leave off asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _refresh(self, now_us: int) -> None:
        """Take the issuer's present keys in place of those before; keep those when it gives none."""
        try:
            self._keys = usable(await self._fetch(), self._issuer, self._settings.oidc_keys)
            self._fetched_us = now_us
        except (aiohttp.ClientError, OSError, TimeoutError, KeysUnusable) as error:
            kept = len(self._keys)
            log.warning("the issuer's keys could not be read (%s); %d kept", type(error).__name__, kept)

    async def _fetch(self) -> bytes:
        limit = self._settings.oidc_keys_bytes
        if self._source.file is not None:
            return self._source.file.read_bytes()
        assert self._source.url is not None
        timeout = aiohttp.ClientTimeout(total=self._settings.oidc_timeout_us / 1_000_000)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(self._source.url, allow_redirects=False) as reply,
        ):
            if reply.status != 200:
                raise KeysUnusable(f"expected status 200, got {reply.status}")
            found = bytearray()
            async for chunk in reply.content.iter_chunked(64 * 1024):
                found += chunk
                if len(found) > limit:
                    raise KeysUnusable(f"expected at most {limit} bytes")
            return bytes(found)


def _within(then_us: int | None, now_us: int, time_us: int) -> bool:
    """Whether then was at most so long ago; a clock set back makes everything long ago."""
    return then_us is not None and 0 <= now_us - then_us < time_us


def usable(raw: bytes, issuer: Issuer, limit: int) -> dict[str, jwt.PyJWK]:
    """The keys of a JWK set (RFC 7517) that verify signatures of an allowed algorithm, by id.

    Each is bound to one algorithm: its own `alg`, or the one that its type and curve imply. Raises
    `KeysUnusable` when there is none, or more than `limit`.
    """
    try:
        listed = msgspec.json.decode(raw, type=_KeySet).keys
    except (msgspec.DecodeError, RecursionError):
        raise KeysUnusable("expected a JWK set") from None
    if len(listed) > limit:
        raise KeysUnusable(f"expected at most {limit} keys, got {len(listed)}")
    found = {kid: key for each in listed for kid, key in _read(each, issuer)}
    if not found:
        raise KeysUnusable(f"expected a key with an id for {', '.join(issuer.algorithms)}, found none")
    return found


def _read(document: dict[str, object], issuer: Issuer) -> list[tuple[str, jwt.PyJWK]]:
    """The key with its id, or nothing: a set may hold keys for other uses."""
    kid, use = document.get("kid"), document.get("use", "sig")
    if not isinstance(kid, str) or not kid or use != "sig":
        return []
    try:
        made = jwt.PyJWK(document)
    except (jwt.PyJWTError, TypeError, ValueError, KeyError):
        return []
    short = isinstance(made.key, RSAPublicKey) and made.key.key_size < RSA_BITS
    private = "d" in document
    return [] if made.algorithm_name not in issuer.algorithms or short or private else [(kid, made)]
