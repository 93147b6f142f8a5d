"""Receivers of events on real local sockets: some take, some fail, stall, redirect, or talk nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

Answering = Callable[[int], web.Response]
"""Number of the request, from 0 -> its answer."""


@dataclass
class Heard:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers by a script; what it heard waits in a queue."""

    answering: Answering
    heard: asyncio.Queue[Heard] = field(default_factory=asyncio.Queue)
    all: list[Heard] = field(default_factory=list)

    async def __aenter__(self) -> Receiver:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._take)
        self.server = TestServer(app)
        await self.server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/hooks"

    async def next(self) -> Heard:
        return await asyncio.wait_for(self.heard.get(), 20)

    async def _take(self, request: web.Request) -> web.Response:
        heard = Heard(request.method, request.path_qs, dict(request.headers), await request.read())
        answer = self.answering(len(self.all))
        self.all.append(heard)
        self.heard.put_nowait(heard)
        return answer


def taking(status: int = 202) -> Receiver:
    """Takes everything."""
    return Receiver(lambda _: web.Response(status=status))


def failing(times: int, status: int = 500, **headers: str) -> Receiver:
    """Fails so often, then takes everything."""
    return Receiver(
        lambda n: web.Response(status=status, headers=headers) if n < times else web.Response(status=202)
    )


@dataclass
class RawReceiver:
    """Answers each connection with fixed bytes, or (None) never, or hangs up after the first byte."""

    reply: bytes | None
    asked: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> RawReceiver:
        self._held: list[asyncio.StreamWriter] = []
        self.server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._held:
            writer.close()
        self.server.close()
        await self.server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/hooks"

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self.came.set()
        await reader.read(1)
        self._held.append(writer)
        if self.reply is not None:
            writer.write(self.reply)
            writer.close()
