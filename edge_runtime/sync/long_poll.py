"""Frames over long polls: what is said goes up with the next request, what is heard comes with its reply.

One poll waits at the server; when something is to be said meanwhile the next poll says it and ends that wait.
A poll whose reply was lost is sent again under its number, and its reply is the same; see `docs/link.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiohttp import ClientError, ClientSession, ClientTimeout, StreamReader
from aiohttp.client_exceptions import ClientConnectorError

from edge_runtime.sync.carrier import BODY_LIMIT_BYTES, Blocked, Cut, Gone, Spend, Unreachable, no_session
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.wire import bundle
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only

LEAVE_S: Final = 1
FRAMES: Final = 100_000
"""More frames than any reply of legal size holds."""
PAUSE_FIRST_US: Final = 50_000
PAUSE_MOST_US: Final = 5 * SECOND_US
WHOLE_WAITS: Final = 8
"""Polls that waited to their end before the next may wait longer again."""


@prints_only()
class _Reply(NamedTuple):
    body: bytes
    token: str


class Waits:
    """How long a poll may wait on this network: shorter than what cuts it, longer again when nothing did.

    Kept from one session to the next.
    """

    def __init__(self, settings: SyncSettings) -> None:
        self._least_us, self._most_us = settings.poll_wait_least_us, settings.poll_wait_us
        self.us = settings.poll_wait_us
        self._whole = 0
        """Polls in a row that waited to their end."""

    def cut(self, after_us: int) -> None:
        """A poll was cut `after_us` after it was sent."""
        self._whole = 0
        self.us = max(min(self.us // 2, after_us * 3 // 4), self._least_us)

    def waited(self) -> None:
        """A poll was answered with nothing, at the end of its wait."""
        self._whole += 1
        if self._whole >= WHOLE_WAITS:
            self._whole = 0
            self.us = min(self.us * 5 // 4, self._most_us)


class LongPoll:
    """A carrier; see `carrier.Carrier`."""

    def __init__(
        self, http: ClientSession, url: str, settings: SyncSettings, spend: Spend, waits: Waits
    ) -> None:
        self._http, self._url, self._settings, self._spend = http, url, settings, spend
        self._waits = waits
        self._token = ""
        self._number = 0
        self._parting = False
        self._inbox: deque[bytes] = deque()
        self._outbox: deque[bytes] = deque()
        self._more = asyncio.Event()
        """Set while something waits to be said."""
        self._under_way: asyncio.Task[_Reply] | None = None
        self._hasty = 0
        """Replies in a row that came too soon and held nothing."""
        self.steady = True

    async def open(self) -> None:
        """The first poll: it gives the token."""
        reply = await self._post("0", b"", self._settings.connect_timeout_us)
        if not reply.token:
            raise Unreachable("the answer is no session")
        self._token = reply.token
        self._take(reply)

    async def receive(self, patience_us: int) -> bytes | None:
        while not self._inbox:
            if self._under_way is None:
                await self._unhurried()
                self._under_way = self._ask()
            began = asyncio.get_running_loop().time()
            if await self._answered(self._under_way):
                task, self._under_way = self._under_way, None
                self._take(task.result())
                if not self._inbox:
                    self._empty(round((asyncio.get_running_loop().time() - began) * SECOND_US))
                    return None
                self._hasty = 0
            else:
                overtaken, self._under_way = self._under_way, self._ask()
                self._take(await overtaken)  # the newer poll ends its wait
        return self._inbox.popleft()

    async def send(self, frames: Sequence[bytes]) -> None:
        self._outbox.extend(frames)
        if self._outbox:
            self._more.set()

    async def part(self, frame: bytes) -> None:
        self._outbox.append(frame)
        self._parting = True
        with contextlib.suppress(Cut, Unreachable, Blocked, TimeoutError, WireFailure):
            async with asyncio.timeout(LEAVE_S):
                await self._ask()

    async def close(self) -> None:
        """Say that this device leaves, if that still goes; the server notices by itself a minute later."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)
        if self._token:
            with contextlib.suppress(ClientError, TimeoutError, OSError):
                async with (
                    asyncio.timeout(LEAVE_S),
                    self._http.post(self._url, headers=self._headers(bundle.END)),
                ):
                    pass

    # ---- one poll ----------------------------------------------------------------------------------------

    def _ask(self) -> asyncio.Task[_Reply]:
        """Start the next poll, with as much of what waits to be said as one body takes."""
        said: list[bytes] = []
        room = self._settings.poll_body_bytes
        while self._outbox and len(said) < self._settings.poll_frames:
            room -= len(self._outbox[0]) + bundle.LENGTH_BYTES
            if said and room < 0:
                break
            said.append(self._outbox.popleft())
        if not self._outbox:
            self._more.clear()
        self._number += 1
        return asyncio.ensure_future(self._poll(str(self._number), bundle.join(said)))

    async def _answered(self, task: asyncio.Task[_Reply]) -> bool:
        """Wait for its reply; False when something is to be said before it came."""
        more = asyncio.ensure_future(self._more.wait())
        try:
            await asyncio.wait({task, more}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()
        return task.done()

    async def _poll(self, word: str, body: bytes) -> _Reply:
        """The reply to one poll, asked again under the same number while it does not come."""
        loop, tries = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            try:
                reply = await self._post(word, body, self._waits.us + self._settings.connect_timeout_us)
            except Gone:
                raise
            except (Cut, Unreachable) as trouble:
                tries += 1
                if tries > self._settings.poll_retries:
                    raise
                self.steady = False
                if isinstance(trouble, Cut):
                    self._waits.cut(round((loop.time() - began) * SECOND_US))
                await asyncio.sleep(self._pause_us(tries) / SECOND_US)
            else:
                self.steady = True
                return reply

    def _empty(self, waited_us: int) -> None:
        """A reply with nothing in it came after so long."""
        if 2 * waited_us < self._waits.us:
            self._hasty += 1
        else:
            self._hasty = 0
            self._waits.waited()

    async def _post(self, word: str, body: bytes, patience_us: int) -> _Reply:
        overhead, limit = self._settings.request_overhead_bytes, self._settings.poll_reply_bytes
        timeout = ClientTimeout(total=patience_us / SECOND_US)
        try:
            async with self._http.post(
                self._url, data=body, headers=self._headers(word), timeout=timeout, allow_redirects=False
            ) as reply:
                ours = reply.status == 200 and reply.content_type == bundle.MEDIA_TYPE
                raw = await _read(reply.content, limit if ours else BODY_LIMIT_BYTES)
                self._spend(len(body) + len(raw) + overhead)
                if not ours:
                    raise no_session(reply.status, reply.content_type, dict(reply.headers), raw)
                if reply.headers.get(bundle.POLL_HEADER) != word:
                    raise Gone("a reply to another poll: something in between keeps replies")
                return _Reply(raw, reply.headers.get(bundle.SESSION_HEADER, ""))
        except ClientConnectorError as error:
            raise Unreachable(f"the link broke: {type(error).__name__}") from None
        except (ClientError, TimeoutError, OSError) as error:
            raise Cut(f"the link broke: {type(error).__name__}") from None

    def _headers(self, word: str) -> dict[str, str]:
        shown = {bundle.SESSION_HEADER: self._token} if self._token else {}
        return {
            "Content-Type": bundle.MEDIA_TYPE,
            "Cache-Control": "no-store",
            bundle.POLL_HEADER: word,
            bundle.WAIT_HEADER: str(0 if self._parting else self._waits.us // 1_000),
            **shown,
        }

    def _take(self, reply: _Reply) -> None:
        self._inbox.extend(bundle.split(reply.body, FRAMES, self._settings.frame_limit_bytes))

    async def _unhurried(self) -> None:
        """Law 11: a server that answers nothing at once, again and again, is not asked in a tight loop."""
        if self._hasty and not self._more.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_us(self._hasty) / SECOND_US):
                    await self._more.wait()

    def _pause_us(self, times: int) -> int:
        return min(PAUSE_FIRST_US << min(times, 20), PAUSE_MOST_US)


async def _read(content: StreamReader, limit_bytes: int) -> bytes:
    """The whole body; raises `WireFailure` as soon as it is over the limit."""
    body = bytearray()
    async for chunk in content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > limit_bytes:
            raise WireFailure("too_large", f"expected a reply of at most {limit_bytes} bytes")
    return bytes(body)


@asynccontextmanager
async def open_long_poll(
    http: ClientSession, url: str, settings: SyncSettings, spend: Spend, waits: Waits
) -> AsyncIterator[LongPoll]:
    """A session at `url`; see `Network.open` for what it raises."""
    carrier = LongPoll(http, url, settings, spend, waits)
    await carrier.open()
    try:
        yield carrier
    finally:
        await carrier.close()
