"""A session's way to its socket: whoever has something to say gets a turn, and nobody has a task for it.

A node has one `Pump`. A session that was woken stands in its line once; a turn looks what moved, takes frames
from the session and hands them to the transport in one write. Small frames of one turn go together (a delta
and its checkpoint), a large one alone, and decisions without what comes after them. What the socket does not
take at once is waited for before the session is asked again, so that no more than this lies where a denial
cannot overtake it. Who was woken by the lane goes before who was woken by rows.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from edge_runtime.wire.failure import WireFailure
from sync_server.settings import SECOND_US
from sync_server.sync.hints import Subscription
from sync_server.sync.steps import TOGETHER_BYTES
from sync_server.sync.stream import BACKLOG, DeviceSession
from sync_server.sync.web_frames import framed

TURNS: Final = 64
"""Most sessions that write in one go; then who has something to say to us is heard."""
FEW: Final = 4
"""Most sessions that go on with rows in one go while acknowledgements of decisions come in: those are heard
first."""
ANSWERS_S: Final = 1.0
"""So long after decisions went out, what is acknowledged is taken to be those."""
LASTS_S: Final = 0.002
"""After so long too: large frames take their time."""

_NOWHERE, _WAITING, _URGENT = range(3)


class Pump:
    """The line of sessions that have something to say.

    Args:
        answering: whether acknowledgements of the lane are coming in.
        lasts_s: after so long others get their turn.
    """

    def __init__(self, answering: Callable[[], bool] = lambda: False, *, lasts_s: float = LASTS_S) -> None:
        self._answering, self._lasts_s = answering, lasts_s
        self._urgent: deque[Outflow] = deque()
        self._waiting: deque[Outflow] = deque()
        self._due = False
        self._decided_s = -math.inf
        """When somebody last had decisions to say, by the loop's clock."""

    @property
    def hurried(self) -> bool:
        """Whether decisions wait to go out."""
        return bool(self._urgent)

    def ring(self, flow: Outflow, *, urgent: bool) -> None:
        """`flow` wants a turn, before all who are not urgent."""
        loop = asyncio.get_running_loop()
        if urgent:
            self._decided_s = loop.time()
        (self._urgent if urgent else self._waiting).append(flow)
        if not self._due:
            self._due = True
            loop.call_soon(self._turns)

    def _turns(self) -> None:
        now = asyncio.get_running_loop().time
        began_s, turns = now(), 0
        until_s = began_s + self._lasts_s
        few = FEW if began_s < self._decided_s + ANSWERS_S and self._answering() else TURNS
        try:
            while turns < TURNS and (line := self._urgent or (self._waiting if turns < few else None)):
                line.popleft().flow()
                turns = TURNS if now() >= until_s else turns + 1
        finally:  # a fault in one session is no fault of those behind it
            self._due = bool(self._urgent or self._waiting)
            if self._due:
                asyncio.get_running_loop().call_soon(self._turns)


class Outflow:
    """What one session says, on its way to one transport.

    Args:
        send_us: longest time in which the transport hands on all that it took; `room` says that it has.
        ended: gets what went wrong, once nothing more can be said. When it is done, nothing more is.
        backlog_short: called when few replies wait, so that the device may be listened to again.
    """

    __slots__ = (
        "_backlog_short",
        "_blocked",
        "_line",
        "_patience",
        "_pump",
        "_send_us",
        "_session",
        "_transport",
        "_wake",
        "ended",
    )

    def __init__(
        self,
        pump: Pump,
        session: DeviceSession,
        subscription: Subscription,
        transport: asyncio.WriteTransport,
        send_us: int,
        ended: asyncio.Future[Any],
        backlog_short: Callable[[], None],
    ) -> None:
        self._pump, self._session = pump, session
        self._transport, self._send_us = transport, send_us
        self.ended, self._backlog_short = ended, backlog_short
        self._line = _NOWHERE
        """Where it stands: nowhere, in the line, or in the urgent one (perhaps in the other still)."""
        self._blocked: asyncio.TimerHandle | None = None
        """Ends the session when the socket does not take what was written; None while there is room."""
        self._patience: asyncio.TimerHandle | None = None
        self._wake = subscription.wake
        self._wake.on_set = self._stand_in_line
        self._stand_in_line()

    def close(self) -> None:
        """Say nothing more."""
        self._wake.on_set = None
        for timer in (self._patience, self._blocked):
            if timer is not None:
                timer.cancel()

    def room(self) -> None:
        """The transport has handed on all that it took."""
        if self._blocked is not None:
            self._blocked.cancel()
            self._blocked = None
            self._stand_in_line()

    def flow(self) -> None:
        """One turn: write what there is to say and room for."""
        self._line = _NOWHERE
        if self._blocked is not None or self.ended.done():
            return
        channel = self._wake.channel
        step = None if channel is None else self._session.step(channel)
        if step is None:
            self._say_all()
            return
        self._wake.clear()
        self._transport.write(step)
        if self._transport.get_write_buffer_size():
            self._wait_for_room()

    def _say_all(self) -> None:
        if self._transport.is_closing():
            return
        ended: Exception | None = RuntimeError("a fault of the server")
        try:
            more, ended = self._write(), None
        except (WireFailure, sqlite3.Error) as failure:
            ended = failure
        finally:
            if ended is not None:
                self._end(ended)
        if ended is None:
            self._go_on(more)

    def _write(self) -> bool:
        """Hand frames to the transport; whether there may be more to say.

        Decisions go alone: rows behind them would keep the next device waiting for its decisions, and this
        one busy with rows before it says that it heard.
        """
        session, wake = self._session, self._wake
        urgent = wake.lane
        if wake.is_set():
            wake.clear()
            session.look()
        parts, size, full = list[bytes](), 0, False
        while not full and (frame := session.next()) is not None:
            parts.append(framed(frame))
            size += len(frame)
            full = size > TOGETHER_BYTES or (urgent and session.at_head)
        if session.backlog < BACKLOG:
            self._backlog_short()
        if parts:
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
        return full

    def _go_on(self, more: bool) -> None:
        if self._transport.get_write_buffer_size():
            self._wait_for_room()
        elif more:
            self._stand_in_line()
        patience_us = self._session.patience_us
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if patience_us is not None:  # it was told to leave, and has so long to say something
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(patience_us / SECOND_US, self._end, TimeoutError())

    def _wait_for_room(self) -> None:
        loop = asyncio.get_running_loop()
        self._blocked = loop.call_later(self._send_us / SECOND_US, self._end, TimeoutError())

    def _stand_in_line(self) -> None:
        urgent = self._wake.lane
        line = _URGENT if urgent else _WAITING
        if line > self._line:
            self._line = line
            self._pump.ring(self, urgent=urgent)

    def _end(self, failure: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(failure)
