"""From an HTTP request to a socket of our own: the WebSocket handshake, and what aiohttp then lets go of.

aiohttp answers HTTP. A session lasts for hours, and a parsed request, its task and its buffers would stay
with each; so once the device was told that the protocol changes, its transport gets another protocol, as
asyncio foresees (`Transport.set_protocol`), and aiohttp is told that its connection is gone.
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64encode
from binascii import a2b_base64
from hashlib import sha1

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def accept_of(request: web.Request) -> bytes | None:
    """What answers the key of a request for a WebSocket; None when it is none. RFC 6455, section 4.2.1."""
    headers = request.headers
    upgrades = {word.strip().lower() for word in headers.get(hdrs.UPGRADE, "").split(",")}
    options = {word.strip().lower() for word in ",".join(headers.getall(hdrs.CONNECTION, ())).split(",")}
    key = headers.get(hdrs.SEC_WEBSOCKET_KEY, "")
    asked = (
        request.method == "GET"
        and request.version >= HttpVersion11
        and "websocket" in upgrades
        and "upgrade" in options
        and headers.get(hdrs.SEC_WEBSOCKET_VERSION) == "13"
    )
    return b64encode(sha1(key.encode() + _GUID).digest()) if asked and _is_key(key) else None


def _is_key(key: str) -> bool:
    try:
        return len(a2b_base64(key)) == 16
    except (binascii.Error, ValueError):
        return False


class Upgraded(web.StreamResponse):
    """What the handler returns once the socket is no longer aiohttp's: nothing is left to write."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """It was said already."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """It goes on elsewhere."""


class _Rest:
    """Stands where aiohttp expects a parser, and hands on what came behind the request."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if data:
            self._protocol.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp's connection is gone; the socket is not."""


def take_over(request: web.Request, accept: bytes, protocol: asyncio.Protocol) -> bool:
    """Say that the protocol changes and give the socket to `protocol`; False when it is gone already."""
    transport, http = request.transport, request.protocol
    if transport is None or transport.is_closing():
        return False
    transport.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    http.set_parser(_Rest(protocol))  # type: ignore[arg-type]
    http.transport = None  # or it would close the socket
    http.connection_lost(None)
    return True
