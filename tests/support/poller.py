"""A device that polls by hand: every request and its number are the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from edge_runtime.sync.dialogue import Dialogue
from edge_runtime.wire import bundle
from edge_runtime.wire.conversation import State
from sync_server.sync.door import SyncDoor
from tests.support.town import Kiosk


@asynccontextmanager
async def serving_polls(door: SyncDoor) -> AsyncIterator[Poller]:
    """A real HTTP server with the door's polls behind it, and somebody who polls."""
    app = web.Application()
    app.router.add_post("/v1/sync", door.polls.handle)
    server = TestServer(app)
    await server.start_server()
    try:
        async with asyncio.timeout(20), ClientSession() as http:
            yield Poller(http, str(server.make_url("/v1/sync")))
    finally:
        await door.close()
        await server.close()


@dataclass
class Answered:
    """One reply."""

    status: int
    body: bytes
    headers: dict[str, str]
    code: str = ""
    """Of the problem document; empty in a reply with frames."""

    @property
    def frames(self) -> list[bytes]:
        assert self.status == 200, self.code
        return bundle.split(self.body, 100_000)


class Poller:
    """Sends polls, and keeps the token and the number."""

    def __init__(self, http: ClientSession, url: str) -> None:
        self._http, self._url = http, url
        self.token, self.number = "", 0

    async def send(self, word: str, body: Any = b"", token: str | None = None, **headers: str) -> Answered:
        """One request as it is told; `token` "" is none."""
        shown = self.token if token is None else token
        wanted = {"Content-Type": bundle.MEDIA_TYPE, bundle.POLL_HEADER: word, bundle.WAIT_HEADER: "0"}
        wanted |= {bundle.SESSION_HEADER: shown} if shown else {}
        wanted |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._http.post(self._url, data=body, headers=wanted) as reply:
            raw = await reply.read()
            code = (await reply.json(content_type=None))["code"] if reply.status != 200 else ""
            return Answered(reply.status, raw, dict(reply.headers), code)

    async def open(self) -> Answered:
        """The first poll."""
        reply = await self.send("0", token="")
        assert reply.status == 200, reply.code
        self.token, self.number = reply.headers[bundle.SESSION_HEADER], 0
        return reply

    async def poll(self, frames: Sequence[bytes] = (), wait_ms: int = 0) -> Answered:
        """The next poll."""
        self.number += 1
        return await self.send(str(self.number), bundle.join(frames), Edge_Wait=str(wait_ms))

    async def settle(self, kiosk: Kiosk, dialogue: Dialogue) -> list[bytes]:
        """Open, and poll until neither has anything to say; returns every frame that came."""
        heard = (await self.open()).frames
        return heard + await self.go_on(kiosk, dialogue, heard)

    async def go_on(self, kiosk: Kiosk, dialogue: Dialogue, frames: Sequence[bytes]) -> list[bytes]:
        """Hear `frames`, answer, and so on until both are silent."""
        heard: list[bytes] = []
        while True:
            said = [f for frame in frames for f in dialogue.hear(frame, kiosk.clock.boot_us())]
            said += dialogue.tick(kiosk.clock.boot_us())
            if not said and not frames and dialogue.state is State.LIVE:
                return heard
            frames = (await self.poll(said)).frames
            heard += frames
