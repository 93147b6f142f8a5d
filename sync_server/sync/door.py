"""`GET /v1/sync`: carries a session's bytes over a WebSocket. One reader and one writer per device, no queue.

The reader stops while too many replies wait; the writer asks the session for one frame at a time, so what is
newest and most urgent is decided when there is room to send it, not before. Buffers below are kept small.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import msgspec
from aiohttp import WSMsgType, web

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server.errors import Problem
from sync_server.sync.hints import Subscription
from sync_server.sync.node import Node
from sync_server.sync.poll_door import PollDoor
from sync_server.sync.stream import DeviceSession
from sync_server.sync.turn import Turn

BACKLOG = 64
"""Replies that may wait before the session stops listening."""
RETRY_AFTER_S = "5"

log = logging.getLogger(__name__)


class SyncDoor:
    """Every device session of this node."""

    def __init__(self, node: Node) -> None:
        self._node, self._turn = node, Turn(node.store)
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing = False
        self.polls = PollDoor(node, self._turn, self._admit)
        """The sessions that are carried by long polls."""

    @property
    def sessions(self) -> int:
        """Sessions open now, however they are carried."""
        return len(self._tasks) + self.polls.sessions

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one device until it leaves. Admission is judged in memory, before anything is read."""
        if self._full:
            return _problem("overloaded", {"Retry-After": RETRY_AFTER_S})
        settings = self._node.settings
        ws = web.WebSocketResponse(
            compress=False,
            max_msg_size=codec.FRAME_LIMIT_BYTES + 1,
            heartbeat=settings.ping_us / 1_000_000,
            writer_limit=settings.send_buffer_bytes,
        )
        if not ws.can_prepare(request).ok:
            return _problem("upgrade_required", {"Upgrade": "websocket"})
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await ws.prepare(request)
            _keep_buffers_small(request, settings.send_buffer_bytes)
            await self._serve(ws)
        finally:
            self._tasks.discard(task)
        return ws

    @property
    def _full(self) -> bool:
        return self._closing or self.sessions >= self._node.settings.sessions

    def _admit(self) -> None:
        if self._full:
            raise Problem("overloaded")

    async def close(self) -> None:
        """Take no more sessions and end those that are open; each device comes back elsewhere or later."""
        self._closing = True
        await self.polls.close()
        tasks = [t for t in self._tasks if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, ws: web.WebSocketResponse) -> None:
        subscription = self._node.hints.subscribe()
        session = DeviceSession(self._node, subscription)
        refusal = m.Refusal(code="internal")
        try:
            refusal = await self._run(ws, session, subscription)
        except asyncio.CancelledError:
            refusal = m.Refusal(code="going_away")
            raise
        finally:
            session.close()
            subscription.close()
            await self._leave(ws, refusal)

    async def _run(
        self, ws: web.WebSocketResponse, session: DeviceSession, subscription: Subscription
    ) -> m.Refusal:
        """Read and write until either ends; returns what to say at parting."""
        reader = asyncio.ensure_future(self._read(ws, session, subscription))
        writer = asyncio.ensure_future(self._write(ws, session, subscription))
        both = {reader, writer}
        try:
            age_s = self._node.settings.session_age_us / 1_000_000
            done, _ = await asyncio.wait(both, timeout=age_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        for task in done:
            failure = task.exception()
            if isinstance(failure, WireFailure):
                return m.Refusal(code=failure.code)
            if failure is not None and not isinstance(failure, TimeoutError | ConnectionError):
                raise failure
        return m.Refusal(code="going_away")

    async def _read(
        self, ws: web.WebSocketResponse, session: DeviceSession, subscription: Subscription
    ) -> None:
        settings = self._node.settings
        while True:
            greeted = session.state not in (State.CONNECTED, State.CHALLENGED)
            wait_s = None if greeted else settings.hello_timeout_us / 1_000_000
            message = await ws.receive(timeout=wait_s)
            if message.type is not WSMsgType.BINARY:
                if message.type is WSMsgType.TEXT:
                    raise WireFailure("malformed", "expected a binary frame")
                if message.type is WSMsgType.ERROR:
                    raise WireFailure("too_large", "the frame is over the limit")
                return
            await self._turn.hear(session, message.data)
            subscription.wake.set()
            while session.backlog >= BACKLOG:
                session.drained.clear()
                await session.drained.wait()

    async def _write(
        self, ws: web.WebSocketResponse, session: DeviceSession, subscription: Subscription
    ) -> None:
        send_s = self._node.settings.send_timeout_us / 1_000_000
        while True:
            frame = session.next()
            if session.backlog < BACKLOG:
                session.drained.set()
            if frame is not None:
                async with asyncio.timeout(send_s):
                    await ws.send_bytes(frame)
                await asyncio.sleep(0)  # the others' turn, also when the socket takes everything at once
                continue
            await subscription.wake.wait()
            subscription.wake.clear()
            session.look()

    async def _leave(self, ws: web.WebSocketResponse, refusal: m.Refusal) -> None:
        """Say why, if the socket still takes it, and close."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                if not ws.closed:
                    await ws.send_bytes(codec.encode(refusal))
                await ws.close()


def _problem(code: str, headers: dict[str, str]) -> web.Response:
    problem = Problem(code)
    return web.Response(
        body=msgspec.json.encode(problem.document()),
        status=problem.reply.status,
        headers=headers,
        content_type="application/problem+json",
    )


def _keep_buffers_small(request: web.Request, limit_bytes: int) -> None:
    """Little may queue ahead of a denial: what the kernel holds can no longer be overtaken."""
    transport = request.transport
    if transport is None:
        return
    transport.set_write_buffer_limits(high=limit_bytes)
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limit_bytes)
