"""Where events may be sent: no address that a caller names lets this server be used against its neighbours.

`https` to public addresses only, unless the operator's settings say otherwise. A name is judged by what it
resolves to at the moment of each connection, and the connection goes to that very address; no redirect is
followed (`attempt.py`). Link-local addresses (where clouds keep their credentials), multicast and the like
are never reached.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

URL_LIMIT: Final = 2_048
"""Characters."""


class Unreachable(ValueError):
    """An address to which nothing is sent; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What lies within reach besides public addresses."""

    loopback: bool = False
    """This machine, also by plain http."""
    private: bool = False
    """Private networks (RFC 1918, ULA, carrier-grade NAT)."""

    @classmethod
    def of(cls, deliver_to: Sequence[str]) -> Reach:
        """From the setting `deliver_to`."""
        return cls("loopback" in deliver_to, "private" in deliver_to)

    def allows(self, address: str) -> bool:
        """Whether something may be sent to an IP address.

        >>> [Reach().allows(a) for a in ("93.184.216.34", "127.0.0.1", "10.0.0.1", "169.254.169.254")]
        [True, False, False, False]
        """
        ip = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address):
            inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
            if inner is not None:
                return self.allows(str(inner))
        if ip.is_loopback:
            return self.loopback
        if ip.is_unspecified or ip.is_multicast or ip.is_link_local or ip.is_reserved:
            return False
        return ip.is_global or self.private


def check_url(url: str, reach: Reach) -> None:
    """Raise `Unreachable` unless events may be sent to `url`. Names are resolved at each send, not here."""
    parts = _parts(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        if not (reach.loopback and _is_loopback(host)):
            raise Unreachable("expected https; plain http only to this machine, where the server allows that")
    elif parts.scheme != "https":
        raise Unreachable("expected an https url")
    if _is_ip(host) and not reach.allows(host):
        raise Unreachable("expected an address that the server may send to; this one is not public")


def host_of(url: str) -> str:
    """Host and port of a url, by which connections are counted."""
    return _parts(url).netloc.lower()


def origin_of(url: str) -> str:
    """Scheme, host and port of a url, as `callback_origins` names them.

    >>> origin_of("https://CRM.example:443/hooks?x=1")
    'https://crm.example'
    """
    parts = _parts(url)
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, usual) else f":{parts.port}")


class GuardedResolver(AbstractResolver):
    """Resolves names to addresses within reach, and to no other."""

    def __init__(self, reach: Reach) -> None:
        self._reach, self._system = reach, ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host` within reach; raises OSError when there are none."""
        found = await self._system.resolve(host, port, family)
        within = [one for one in found if self._reach.allows(one["host"])]
        if not within:
            raise OSError("the name has no address that the server may send to")
        return within

    async def close(self) -> None:
        """Nothing to let go."""
        await self._system.close()


def _parts(url: str) -> SplitResult:
    fault = "expected a url of scheme, host and path, without user, fragment, spaces or control characters"
    if (
        not 0 < len(url) <= URL_LIMIT
        or not url.isascii()
        or any(c <= " " or c in '\\"<>^`{|}\x7f' for c in url)
    ):
        raise Unreachable(fault)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Unreachable(fault) from None
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise Unreachable(fault)
    if port == 0 or parts.hostname.endswith(".") or ("#" in url):
        raise Unreachable(fault)
    return parts


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)
