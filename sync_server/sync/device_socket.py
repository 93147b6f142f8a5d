"""One device's socket: what arrives goes into the node's turns, what is said comes out of its `Outflow`.

No task belongs to a socket, and nothing of the request that it began as: thousands of them lie still most of
the time. The device is not listened to while too many replies wait or too much of what it said is unheard.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
from collections.abc import Callable
from typing import Final, cast

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server.api.fault import told
from sync_server.settings import SECOND_US
from sync_server.sync.admission import Visit
from sync_server.sync.node import Node
from sync_server.sync.outflow import Outflow, Pump
from sync_server.sync.parting import longest_s, refusal_of
from sync_server.sync.stream import BACKLOG, DeviceSession
from sync_server.sync.turn import Failure, Turn
from sync_server.sync.web_frames import BINARY, CLOSE, PING, PONG, Inbound, Said, control, framed

log = logging.getLogger(__name__)

UNHEARD_BYTES: Final = 2 * codec.FRAME_LIMIT_BYTES
"""A socket that holds more than this unheard is not read."""
SMALL_FRAMES: Final = 64
"""Most control frames and pieces taken in one go; then others are listened to."""
GOODBYE_S: Final = 1.0
"""How long a device has to take the last word and to close."""
_NORMAL, _TOO_BIG = 1000, 1009
_GOING: Final = m.Refusal(code="going_away")


class DeviceSocket(asyncio.Protocol):
    """One session over one WebSocket, from the handshake to its end.

    Args:
        gone: called once, when the socket is closed.
    """

    __slots__ = (
        "_age_s",
        "_closed",
        "_deaf",
        "_end",
        "_flow",
        "_gone",
        "_heard_s",
        "_hearing",
        "_hello_s",
        "_inbound",
        "_last",
        "_node",
        "_over",
        "_pinged_s",
        "_pong",
        "_pump",
        "_session",
        "_subscription",
        "_timer",
        "_transport",
        "_turn",
    )

    def __init__(
        self, node: Node, turn: Turn, pump: Pump, visit: Visit, gone: Callable[[DeviceSocket], None]
    ) -> None:
        self._node, self._turn, self._pump, self._gone = node, turn, pump, gone
        self._subscription = node.hints.subscribe()
        self._session = DeviceSession(node, self._subscription, visit)
        self._inbound = Inbound(codec.FRAME_LIMIT_BYTES)
        self._end: asyncio.Future[m.Refusal] = asyncio.get_running_loop().create_future()
        visit.part = self.part
        self._hearing = self._deaf = self._over = self._closed = False
        self._last: m.Refusal | WireFailure | None = None
        """How the session ends when all that came was heard; None: more may come."""
        self._pong: bytes | None = None
        """Of the newest ping, while there is no room to answer it."""
        self._pinged_s = 0.0

    def part(self, why: m.Refusal) -> None:
        """Say `why` and close."""
        if not self._end.done():
            self._end.set_result(why)

    def abandon(self) -> None:
        """The socket was closed before it was ours."""
        self._session.close()
        self._subscription.close()
        self._gone(self)

    # ---- the socket --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is ours: say the challenge."""
        loop, settings = asyncio.get_running_loop(), self._node.settings
        self._transport = cast(asyncio.Transport, transport)
        _keep_buffers_small(self._transport, settings.send_buffer_bytes)
        self._end.add_done_callback(self._leave)
        self._heard_s = now_s = loop.time()
        self._age_s = now_s + longest_s(self._node)
        self._hello_s = now_s + settings.hello_timeout_us / SECOND_US
        self._timer = loop.call_at(now_s, self._look_at_the_clock)
        said = self._session, self._subscription, self._transport
        self._flow = Outflow(self._pump, *said, settings.send_timeout_us, self._end, self._go_on)

    def data_received(self, data: bytes) -> None:
        """Bytes of the device."""
        self._heard_s = asyncio.get_running_loop().time()
        self._inbound.feed(data)
        if self._over:
            self._await_close()
        elif not self._hearing:
            self._go_on()
        else:
            self._hurry()
            self._listen()

    def resume_writing(self) -> None:
        """The socket took all that was written."""
        if self._pong is not None and not self._over:
            self._transport.write(control(PONG, self._pong))
            self._pong = None
        self._flow.room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed; what came before is heard all the same."""
        self._timer.cancel()
        if self._over:
            self._gone(self)
        else:
            self._last = _GOING
            self._go_on()

    # ---- what the device says ----------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """Whether its frames are no longer to be heard."""
        return self._end.done()

    def heard(self, failure: Failure) -> None:
        """The frame that it put into the turn was heard, durably, or failed."""
        self._hearing = False
        if failure is not None:
            self._end.set_exception(failure)
            return
        if not self._session.quiet:
            self._subscription.wake.set()
        self._go_on()

    def _go_on(self) -> None:
        """Put the next frame into the turn; of one session there is one at a time."""
        small = 0
        while not (self._hearing or self._end.done()) and self._session.backlog < BACKLOG:
            said = self._take()
            if said is None:
                break
            if said.opcode == BINARY:
                self._hearing = True
                self._turn.put(self._session, said.body, self)
                self._hurry()
            elif said.opcode == CLOSE:
                self._last, self._closed = _GOING, True
                break
            elif said.opcode == PING:
                self._answer(said.body)
            small += 1
            if small == SMALL_FRAMES:
                asyncio.get_running_loop().call_soon(self._go_on)
                return
        if self._last is not None and not (self._hearing or self._end.done()):
            self._finish(self._last)
        self._listen()

    def _hurry(self) -> None:
        """What was put into the turn is not to keep an acknowledgement behind it waiting."""
        if self._session.owes and self._inbound.waiting_bytes:
            self._turn.hurry(self)

    def _take(self) -> Said | None:
        try:
            return self._inbound.take()
        except WireFailure as failure:
            self._last = failure
            return None

    def _finish(self, last: m.Refusal | WireFailure) -> None:
        if isinstance(last, WireFailure):
            self._end.set_exception(last)
        else:
            self._end.set_result(last)

    def _answer(self, body: bytes) -> None:
        """Pongs do not pile up: only the newest ping waits for room."""
        if self._transport.get_write_buffer_size():
            self._pong = body
        else:
            self._transport.write(control(PONG, body))

    def _listen(self) -> None:
        """Read on, or not while too much is unheard."""
        full = self._inbound.waiting_bytes > UNHEARD_BYTES
        if full is not self._deaf:
            self._deaf = full
            (self._transport.pause_reading if full else self._transport.resume_reading)()

    # ---- time and the end --------------------------------------------------------------------------------

    def _look_at_the_clock(self) -> None:
        """Age, a Hello that does not come, a device that is silent: one timer for all."""
        loop, beat_s = asyncio.get_running_loop(), self._node.settings.ping_us / SECOND_US
        now_s, due_s = loop.time(), self._age_s
        if self._session.state in (State.CONNECTED, State.CHALLENGED):
            due_s = min(due_s, self._hello_s)
        if self._heard_s + beat_s <= now_s and self._pinged_s <= self._heard_s:
            self._transport.write(control(PING))
            self._pinged_s = now_s
        if self._pinged_s > self._heard_s:
            due_s = min(due_s, self._pinged_s + beat_s / 2)
        if due_s <= now_s:
            self.part(_GOING)
        else:
            due_s = due_s if self._pinged_s > self._heard_s else min(due_s, self._heard_s + beat_s)
            self._timer = loop.call_at(due_s, self._look_at_the_clock)

    def _leave(self, end: asyncio.Future[m.Refusal]) -> None:
        """Say why and close; a reader that stalls for ever holds nothing here."""
        refusal = _last_word(end)
        self._over = True
        self._timer.cancel()
        self._flow.close()
        self._session.close()
        self._subscription.close()
        if self._transport.is_closing():
            self._transport.abort()
            self._gone(self)
            return
        code = _TOO_BIG if refusal.code == "too_large" else _NORMAL
        self._transport.write(framed(codec.encode(refusal)) + control(CLOSE, code.to_bytes(2, "big")))
        if self._closed:
            self._transport.close()
        elif self._deaf:
            self._transport.resume_reading()
        self._timer = asyncio.get_running_loop().call_later(GOODBYE_S, self._transport.abort)
        self._await_close()

    def _await_close(self) -> None:
        """Of what it still says only its goodbye counts."""
        for _ in range(SMALL_FRAMES):
            said = self._take()
            if said is None:
                return
            if said.opcode == CLOSE:
                self._transport.close()
                return
        if self._inbound.waiting_bytes > UNHEARD_BYTES:
            self._transport.abort()


def _last_word(end: asyncio.Future[m.Refusal]) -> m.Refusal:
    match failure := end.exception():
        case None:
            return end.result()
        case WireFailure():
            return refusal_of(failure)
        case TimeoutError() | ConnectionError():
            return _GOING
        case sqlite3.OperationalError() | sqlite3.ProgrammingError():
            log.error("the store does not answer: %s\n%s", failure, told(failure))  # SQLite quotes no value
        case _:
            log.error("a fault of the server\n%s", told(failure))
    return m.Refusal(code="internal")


def _keep_buffers_small(transport: asyncio.Transport, limit_bytes: int) -> None:
    """Little may queue ahead of a denial: what the kernel holds can no longer be overtaken."""
    transport.set_write_buffer_limits(high=0)
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limit_bytes)
