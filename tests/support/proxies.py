"""A small HTTP proxy of our own that spoils sessions as real ones do, in a thread, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

Kind = Literal["refuses upgrades", "strips upgrades", "buffers", "cuts idle"]
FORBIDDEN = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
)


class Proxy:
    """Between whoever connects and the server at `upstream`.

    `refuses upgrades`: answers them itself. `strips upgrades`: hands them on as plain requests. `buffers`:
    hands a response on when it has all of it, so an upgraded one never. `cuts idle`: hands on whatever comes,
    and drops a connection on which nothing came for `idle_s`.
    """

    def __init__(self, kind: Kind, upstream: str, idle_s: float = 0.4) -> None:
        self._kind, self._idle_s = kind, idle_s
        self._host, self._port = _place(upstream)
        self.seen: Counter[str] = Counter()
        """Requests by method; `cut`: connections dropped for being idle."""
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._body, name="proxy")

    def lead_to(self, upstream: str) -> None:
        """New connections go there from now on."""
        self._host, self._port = _place(upstream)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _body(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._meet(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(met, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.close()
            return
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                if self._kind == "cuts idle":
                    await self._pass(reader, writer, up_reader, up_writer)
                else:
                    while await self._one(reader, writer, up_reader, up_writer):
                        pass
        finally:
            for end in (writer, up_writer):
                end.transport.abort()

    async def _one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> bool:
        """One request and its response; False when no other can follow."""
        head, body = await _message(reader)
        method = head.split(b" ", 1)[0].decode()
        self.seen[method] += 1
        upgrade = b"\r\nupgrade: websocket" in head.lower()
        if upgrade and self._kind == "refuses upgrades":
            writer.write(FORBIDDEN)
            await writer.drain()
            return False
        if upgrade and self._kind == "strips upgrades":
            lines = head.split(b"\r\n")
            head = b"\r\n".join(n for n in lines if not n.lower().startswith((b"upgrade:", b"connection:")))
        up_writer.write(head + body)
        answer, rest = await _message(up_reader)
        if answer.startswith(b"HTTP/1.1 101"):  # its response never ends
            await up_reader.read()
            return False
        writer.write(answer + rest)
        await writer.drain()
        return True

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        """Whatever comes, either way, until nothing does."""
        loop = asyncio.get_running_loop()
        last = [loop.time()]

        async def one_way(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            while chunk := await source.read(64 * 1024):
                last[0] = loop.time()
                to.write(chunk)
                await to.drain()

        async def idle() -> None:
            while (left := last[0] + self._idle_s - loop.time()) > 0:
                await asyncio.sleep(left)
            self.seen["cut"] += 1

        works = [one_way(reader, up_writer), one_way(up_reader, writer), idle()]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one HTTP message whose length it says itself."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return head, await reader.readexactly(length) if length else b""


def _place(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port
