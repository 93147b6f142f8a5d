"""`GET /v1/sync`: carries a session's bytes over a WebSocket. A reader per device, one pump for what is said.

The reader stops while too many replies wait; the pump asks a session for frames when it has its turn and its
socket has room, so what is newest and most urgent is decided then, not before. Buffers below are kept small.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from aiohttp import WSMsgType, web

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server.settings import SECOND_US
from sync_server.sync.admission import Turned, Visit
from sync_server.sync.drain import drain
from sync_server.sync.hints import Subscription
from sync_server.sync.node import Node
from sync_server.sync.outflow import BACKLOG, Outflow, Pump
from sync_server.sync.parting import (
    back_within_us,
    going_away,
    knock,
    longest_s,
    problem,
    refusal_of,
    turned_away,
)
from sync_server.sync.poll_door import PollDoor
from sync_server.sync.stream import DeviceSession
from sync_server.sync.turn import Turn

log = logging.getLogger(__name__)


class SyncDoor:
    """Every device session of this node."""

    def __init__(self, node: Node) -> None:
        self._node, self._turn, self._pump = node, Turn(node.store, node.acks), Pump()
        self._tasks: set[asyncio.Task[object]] = set()
        self.polls = PollDoor(node, self._turn, self._knock)
        """The sessions that are carried by long polls."""

    @property
    def sessions(self) -> int:
        """Sessions open now, however they are carried."""
        return len(self._tasks) + self.polls.sessions

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one device until it leaves. Admission is judged in memory, before anything is read."""
        node, settings = self._node, self._node.settings
        ws = web.WebSocketResponse(
            compress=False,
            max_msg_size=codec.FRAME_LIMIT_BYTES + 1,
            heartbeat=settings.ping_us / 1_000_000,
            writer_limit=0,  # wait for the socket after each frame: what it holds, no denial overtakes
        )
        if not ws.can_prepare(request).ok:
            return problem("upgrade_required", {"Upgrade": "websocket"})
        try:
            visit = self._knock()
        except Turned as turned:
            return turned_away(turned)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await ws.prepare(request)
            _keep_buffers_small(request, settings.send_buffer_bytes)
            parted = False
            try:
                parted = await self._serve(request, ws, visit)
            finally:
                if not parted:
                    _abort(request)
        finally:
            self._tasks.discard(task)
            node.admission.leave(visit, node.clock.now_us())
        return ws

    def _knock(self) -> Visit:
        return knock(self._node)

    async def drain(self) -> None:
        """Part from every session in good order; see `drain.py`."""
        await drain(self._node)

    async def close(self) -> None:
        """Take no more sessions and end those that are open; each device comes back elsewhere or later."""
        self._node.admission.closing = True
        await self.polls.close()
        tasks = [t for t in self._tasks if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, request: web.Request, ws: web.WebSocketResponse, visit: Visit) -> bool:
        """One session to its end; returns whether the device heard why."""
        subscription = self._node.hints.subscribe()
        session = DeviceSession(self._node, subscription, visit)
        end: asyncio.Future[m.Refusal] = asyncio.get_running_loop().create_future()
        visit.part = lambda why: None if end.done() else end.set_result(why)
        refusal = m.Refusal(code="internal")
        try:
            refusal = await self._run(request, ws, session, subscription, end)
        except asyncio.CancelledError:
            refusal = going_away(self._node, back_within_us(self._node))
            raise
        finally:
            session.close()
            subscription.close()
            parted = await self._leave(ws, refusal)
        return parted

    async def _run(
        self,
        request: web.Request,
        ws: web.WebSocketResponse,
        session: DeviceSession,
        subscription: Subscription,
        end: asyncio.Future[m.Refusal],
    ) -> m.Refusal:
        """Read and write until either ends, or it is told to go by `end`; returns what to say at parting."""
        transport, settings, loop = request.transport, self._node.settings, asyncio.get_running_loop()
        going = m.Refusal(code="going_away")
        if transport is None:
            return going  # it is gone already
        reader = asyncio.ensure_future(self._read(ws, session, subscription))
        reader.add_done_callback(lambda done: _pass_on(done, end))
        age = loop.call_later(longest_s(self._node), lambda: None if end.done() else end.set_result(going))
        way = transport, request.writer.drain
        flow = Outflow(self._pump, session, subscription, *way, settings.send_timeout_us, end)
        try:
            return await end
        except WireFailure as failure:
            return refusal_of(failure)
        except (TimeoutError, ConnectionError):
            return going
        finally:
            age.cancel()
            reader.cancel()
            await flow.close()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(
        self, ws: web.WebSocketResponse, session: DeviceSession, subscription: Subscription
    ) -> None:
        settings = self._node.settings
        while True:
            if session.state in (State.CONNECTED, State.CHALLENGED):
                async with asyncio.timeout(settings.hello_timeout_us / SECOND_US):  # pings win no time
                    message = await ws.receive()
            else:
                message = await ws.receive()
            if message.type is not WSMsgType.BINARY:
                if message.type is WSMsgType.TEXT:
                    raise WireFailure("malformed", "expected a binary frame")
                if message.type is WSMsgType.ERROR:
                    raise WireFailure("too_large", "the frame is over the limit")
                return
            await self._turn.hear(session, message.data)
            if not session.quiet:
                subscription.wake.set()
            while session.backlog >= BACKLOG:
                session.drained.clear()
                await session.drained.wait()

    async def _leave(self, ws: web.WebSocketResponse, refusal: m.Refusal) -> bool:
        """Say why and close; False when the socket no longer takes it."""
        try:
            async with asyncio.timeout(1):
                if not ws.closed:
                    await ws.send_bytes(codec.encode(refusal))
                await ws.close()
        except (ConnectionError, TimeoutError):
            return False
        return True


def _pass_on(reader: asyncio.Future[None], end: asyncio.Future[m.Refusal]) -> None:
    """The session ends as its reader did."""
    if reader.cancelled() or end.done():
        return
    failure = reader.exception()
    if failure is None:
        end.set_result(m.Refusal(code="going_away"))
    else:
        end.set_exception(failure)


def _abort(request: web.Request) -> None:
    """Drop the socket and what waits in it: a reader that stalls for ever holds nothing here."""
    if isinstance(request.transport, asyncio.WriteTransport):
        request.transport.abort()


def _keep_buffers_small(request: web.Request, limit_bytes: int) -> None:
    """Little may queue ahead of a denial: what the kernel holds can no longer be overtaken."""
    transport = request.transport
    if transport is None:
        return
    transport.set_write_buffer_limits(high=0)
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limit_bytes)
