"""`GET /v1/sync`: a device is admitted or not, and gets a socket of its own; one pump, one turn for all."""

from __future__ import annotations

import asyncio

from aiohttp import web

from sync_server.api.problem import problem_reply
from sync_server.errors import Problem
from sync_server.sync.admission import Turned
from sync_server.sync.device_socket import DeviceSocket
from sync_server.sync.drain import drain
from sync_server.sync.node import Node
from sync_server.sync.outflow import Pump
from sync_server.sync.parting import back_within_us, going_away, turned_away
from sync_server.sync.poll_door import PollDoor
from sync_server.sync.turn import Turn
from sync_server.sync.upgrade import Upgraded, accept_of, take_over


class SyncDoor:
    """Every device session of this node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pump = Pump(lambda: self._turn.answering)
        self._turn = Turn(node, lambda: self._pump.hurried)
        self._sockets: set[DeviceSocket] = set()
        self._emptied: asyncio.Event | None = None
        """Set when the last socket is closed; None: nobody waits for that."""
        self.polls = PollDoor(node, self._turn)
        """The sessions that are carried by long polls."""

    @property
    def sessions(self) -> int:
        """Sessions open now, however they are carried."""
        return len(self._sockets) + self.polls.sessions

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Let one device in; its session goes on when this returned. Admission is judged in memory, before
        anything is read.
        """
        accept = accept_of(request)
        if accept is None:
            return problem_reply(Problem("upgrade_required"), {"Upgrade": "websocket"})
        try:
            visit = self._node.knock()
        except Turned as turned:
            return turned_away(turned)
        one = DeviceSocket(self._node, self._turn, self._pump, visit, self._left)
        self._sockets.add(one)
        if not take_over(request, accept, one):
            one.abandon()
        return Upgraded()

    def _left(self, one: DeviceSocket) -> None:
        self._sockets.discard(one)
        if not self._sockets and self._emptied is not None:
            self._emptied.set()

    async def drain(self) -> None:
        """Part from every session in good order; see `drain.py`."""
        await drain(self._node)

    async def close(self) -> None:
        """Take no more sessions and end those that are open; each device comes back elsewhere or later."""
        self._node.admission.closing = True
        await self.polls.close()
        window_us = back_within_us(self._node)
        for one in tuple(self._sockets):
            one.part(going_away(self._node, window_us))
        if self._sockets:
            self._emptied = asyncio.Event()
            await self._emptied.wait()
