"""Lets a request in, or says why not: who asks, whether they ask too much, and whether they may."""

from __future__ import annotations

import hmac
import ipaddress
from collections import Counter
from typing import Final

from sync_server.access.buckets import Buckets
from sync_server.access.caller import SCOPES, Caller, Rate
from sync_server.access.people import People
from sync_server.access.tokens import PREFIX, TokenBook, hash_of
from sync_server.api.route import Route
from sync_server.clock import Clock
from sync_server.errors import Problem
from sync_server.settings import Settings

HEADER_LIMIT: Final = 8_190
"""Longest `Authorization` header, in characters; aiohttp reads no longer one."""
_JWT_DOTS: Final = 2


class Doorkeeper:
    """Asked once for each request whose route is not open."""

    def __init__(
        self, bootstrap: str, book: TokenBook, people: People | None, clock: Clock, settings: Settings
    ) -> None:
        self._bootstrap = hash_of(bootstrap)
        self._all = Caller("bootstrap", "", frozenset(SCOPES))
        self._book, self.people, self._clock = book, people, clock
        self._callers, self._addresses = Buckets(settings.callers), Buckets(settings.callers)
        self._refusals = Rate(settings.refusals_per_s, settings.refusal_burst)
        self.refused: Counter[str] = Counter()
        """Problem code -> calls refused since the start."""

    async def who(self, header: str | None, address: str | None) -> Caller:
        """Whose token the `Authorization` header holds.

        Raises `Problem`: `unauthorized` for none, and for each that is not good, whatever is wrong with it;
        `rate_limited` in its place when one address had that said too often. Good tokens are let in from
        there all the same: others may sit behind that address too.
        """
        now_us = self._clock.now_us()
        found = await self._found(header, now_us)
        if found is None:
            self._take(self._addresses, network(address), self._refusals, now_us)
            self.refused["unauthorized"] += 1
            raise Problem("unauthorized")
        return found

    def admit(self, caller: Caller, route: Route) -> None:
        """Raises `Problem`: `rate_limited`; `missing_scope` naming the one that the route needs;
        `other_destination` for a receiver's token where the route is not for receivers."""
        if caller.rate is not None:
            self._take(self._callers, caller.actor, caller.rate, self._clock.now_us())
        if route.scope is not None and route.scope not in caller.scopes:
            self.refused["missing_scope"] += 1
            raise Problem(
                "missing_scope", f"expected a token with the scope {route.scope}", scope=route.scope
            )
        if route.scope is not None and caller.destinations is not None and not route.receivers:
            self.refused["other_destination"] += 1
            raise Problem("other_destination", "expected a token that is not bound to destinations")

    async def _found(self, header: str | None, now_us: int) -> Caller | None:
        kind, _, text = (header or "").partition(" ")
        text = text.strip()
        if kind.lower() != "bearer" or not text or len(text) > HEADER_LIMIT:
            return None
        if hmac.compare_digest(hash_of(text), self._bootstrap):
            return self._all
        if text.startswith(PREFIX):
            return self._book.check(text, now_us)
        if self.people is not None and text.count(".") == _JWT_DOTS:
            return await self.people.check(text, now_us)
        return None

    def _take(self, buckets: Buckets, who: str, rate: Rate, now_us: int) -> None:
        wait_us = buckets.take(who, rate, now_us)
        if wait_us:
            self.refused["rate_limited"] += 1
            wait_s = -(-wait_us // 1_000_000)
            raise Problem("rate_limited", f"expected at most {rate.per_s} a second", retry_after_s=wait_s)


def network(address: str | None) -> str:
    """What one household has of addresses: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(ipaddress.ip_network((found, 64), strict=False)) if mapped is None else str(mapped)
    return str(found)
