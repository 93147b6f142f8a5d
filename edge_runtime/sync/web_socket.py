"""Frames over a WebSocket: one binary message each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from aiohttp.client_exceptions import ClientConnectorError

from edge_runtime.sync.carrier import Blocked, Cut, Spend, Unreachable, no_session
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.wire.failure import WireFailure

PART_S = 1
"""Longest time for a last word."""


class WebSocket:
    """A carrier; see `carrier.Carrier`."""

    steady = True

    def __init__(self, ws: ClientWebSocketResponse, settings: SyncSettings, spend: Spend) -> None:
        self._ws, self._settings, self._spend = ws, settings, spend

    async def receive(self, patience_us: int) -> bytes:
        try:
            message = await self._ws.receive(timeout=patience_us / SECOND_US)
        except (ClientError, TimeoutError, OSError) as error:
            raise _cut(error) from None
        match message.type:
            case WSMsgType.BINARY:
                frame: bytes = message.data
                self._spend(len(frame) + self._settings.frame_overhead_bytes)
                return frame
            case WSMsgType.TEXT:
                raise WireFailure("malformed", "expected a binary frame")
            case WSMsgType.ERROR:
                raise WireFailure("too_large", "the frame is over the limit")
            case _:
                raise Cut("the server closed the session")

    async def send(self, frames: Sequence[bytes]) -> None:
        try:
            for frame in frames:
                async with asyncio.timeout(self._settings.send_timeout_us / SECOND_US):
                    await self._ws.send_bytes(frame)
                self._spend(len(frame) + self._settings.frame_overhead_bytes)
        except (ClientError, TimeoutError, OSError) as error:
            raise _cut(error) from None

    async def part(self, frame: bytes) -> None:
        with contextlib.suppress(ClientError, TimeoutError, OSError):
            async with asyncio.timeout(PART_S):
                await self._ws.send_bytes(frame)


@asynccontextmanager
async def open_web_socket(
    http: ClientSession, url: str, settings: SyncSettings, spend: Spend
) -> AsyncIterator[WebSocket]:
    """A session at `url`; see `Network.open` for what it raises."""
    try:
        async with asyncio.timeout(settings.connect_timeout_us / SECOND_US):
            ws = await http.ws_connect(url, max_msg_size=settings.frame_limit_bytes + 1, compress=0)
    except WSServerHandshakeError as error:
        headers = {} if error.headers is None else dict(error.headers)
        if error.status == 101:
            raise Blocked("the answer to the upgrade is no WebSocket") from None
        kind = headers.get("Content-Type", "").partition(";")[0].strip()
        raise no_session(error.status, kind, headers, None) from None
    except ClientConnectorError as error:
        raise Unreachable(f"the link broke: {type(error).__name__}") from None
    except (ClientError, TimeoutError, OSError) as error:
        raise _cut(error) from None
    spend(settings.request_overhead_bytes)
    async with ws:
        yield WebSocket(ws, settings, spend)


def _cut(error: Exception) -> Cut:
    return Cut(f"the link broke: {type(error).__name__}")
