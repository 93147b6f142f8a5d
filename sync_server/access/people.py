"""People with a token of an OpenID Connect issuer (JWT, RFC 7519), checked by the rules of RFC 8725."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

import jwt
import msgspec

from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.utf8 import utf8_size
from sync_server.access.caller import Caller, Rate
from sync_server.access.issuer import Grant, Issuer
from sync_server.access.issuer_keys import IssuerKeys
from sync_server.access.tokens import hash_of
from sync_server.settings import Settings

REQUIRED: Final = ("exp", "iss", "aud", "sub")
"""Claims that every token must make; and one of `nbf` and `iat`, which say from when it counts."""


@prints_only("caller")
class _Seen(NamedTuple):
    """A token whose signature was verified."""

    kid: str
    key: jwt.PyJWK
    claims: Mapping[str, object]
    caller: Caller


class People:
    """Checks tokens of one issuer."""

    def __init__(self, issuer: Issuer, keys: IssuerKeys, settings: Settings, blind_key: bytes) -> None:
        self._issuer, self._settings, self._blind_key = issuer, settings, blind_key
        self.keys = keys
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        """Hash of a token -> what was found when its signature was verified."""
        self._rate = issuer.rate(settings.token_requests_per_s, settings.token_burst)

    async def check(self, text: str, now_us: int) -> Caller | None:
        """Who that is and may do what; None for a token that is not good, for whatever reason."""
        if len(text) > self._settings.oidc_token_bytes or not text.isascii():
            return None
        digest = hash_of(text)
        seen = self._seen.get(digest)
        kid = self._kid(text) if seen is None else seen.kid
        key = None if kid is None else await self.keys.key(kid, now_us)
        if kid is None or key is None:
            return None
        if seen is None or seen.key is not key:
            seen = self._verified(text, kid, key)
            self._remember(digest, seen)
        if seen is None or not in_time(seen.claims, now_us, self._settings.oidc_leeway_us):
            return None
        return seen.caller

    def _remember(self, digest: bytes, seen: _Seen | None) -> None:
        """Keep what was found good, so that it costs no signature again while the issuer has the same key."""
        if seen is None:
            self._seen.pop(digest, None)
            return
        self._seen[digest] = seen
        if len(self._seen) > self._settings.oidc_seen:
            self._seen.popitem(last=False)

    def _verified(self, text: str, kid: str, key: jwt.PyJWK) -> _Seen | None:
        claims = self._claims(text, key)
        found = None if claims is None else caller(claims, self._issuer, self._rate, self._blind_key)
        return None if claims is None or found is None else _Seen(kid, key, claims, found)

    def _kid(self, text: str) -> str | None:
        """The key that the token names; it is only ever looked up in what the issuer published."""
        try:
            header = jwt.get_unverified_header(text)
        except jwt.PyJWTError:
            return None
        kid = header.get("kid")
        if header.get("alg") not in self._issuer.algorithms or not isinstance(kid, str) or "crit" in header:
            return None
        return kid

    def _claims(self, text: str, key: jwt.PyJWK) -> Mapping[str, object] | None:
        """What the token says, once signature, issuer and audience are found good. Times are looked at here
        by nobody: the library would read a clock of its own."""
        try:
            found: dict[str, object] = jwt.decode(
                text,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer.issuer,
                audience=self._issuer.audience,
                options={
                    "require": list(REQUIRED),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, RecursionError, ValueError):
            return None
        return found


def in_time(claims: Mapping[str, object], now_us: int, leeway_us: int) -> bool:
    """Whether a token counts now: not expired, and `nbf` or `iat` (seconds) have come. Pure.

    >>> in_time({"exp": 20, "nbf": 10}, 15_000_000, 0), in_time({"exp": 20}, 15_000_000, 0)
    (True, False)
    """
    begins = [claims[claim] for claim in ("nbf", "iat") if claim in claims]
    ends_us = _us(claims.get("exp"))
    begin_us = [_us(begin) for begin in begins]
    if not begins or ends_us is None or now_us >= ends_us + leeway_us:
        return False
    return all(begin is not None and begin <= now_us + leeway_us for begin in begin_us)


def caller(claims: Mapping[str, object], issuer: Issuer, rate: Rate, blind_key: bytes) -> Caller | None:
    """What the token lets its bearer do, by the words of the issuer's claim. Pure.

    The person is known by a keyed hash alone: nobody's name at the issuer stands in our log.
    """
    subject = claims["sub"]
    if not isinstance(subject, str) or not utf8_size(subject):
        return None
    named = msgspec.json.encode([issuer.issuer, subject])
    blind = hashlib.blake2b(named, digest_size=16, key=blind_key, person=b"edge-oidc-person").hexdigest()
    grants = [issuer.grants[word] for word in _words(claims.get(issuer.claim)) if word in issuer.grants]
    scopes = frozenset[str](scope for grant in grants for scope in grant.scopes)
    return Caller(f"oidc:{blind}", "", scopes, _teams(grants), rate=rate)


def _teams(grants: list[Grant]) -> frozenset[str] | None:
    """Those of all grants that let publish; any, when one of them says no team."""
    publishing = [grant.teams for grant in grants if "publish" in grant.scopes]
    named = [teams for teams in publishing if teams is not None]
    if len(named) < len(publishing):
        return None
    return frozenset(team for teams in named for team in teams)


def _words(claim: object) -> list[str]:
    match claim:
        case str():
            return claim.split()
        case list():
            return [word for word in claim if isinstance(word, str)]
        case _:
            return []


def _us(seconds: object) -> int | None:
    """A NumericDate in microseconds; None for what is none."""
    match seconds:
        case bool():
            return None
        case int():
            return seconds * 1_000_000
        case float() if math.isfinite(seconds):
            return round(seconds * 1_000_000)
        case _:
            return None
