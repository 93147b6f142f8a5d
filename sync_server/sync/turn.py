"""What arrives in one turn of the event loop is heard together and made durable together.

Five hundred receipts after a revocation then wait for the disk a few times, not five hundred times. No answer
is ahead of the disk: nobody is told that a frame was heard before everything of its turn is durable.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from typing import Final

from edge_runtime.wire.failure import WireFailure
from sync_server.store.protocol import Store
from sync_server.sync.acks import Acks
from sync_server.sync.stream import DeviceSession

FRAMES: Final = 64
"""Most frames heard in one go; then others, with a denial perhaps, get their turn."""

OTHERS: Final = 4
"""Most frames of other kinds heard in one go with acknowledgements of the lane."""
_ACK: Final = b"lane_ack"
"""How a frame begins that may be one; a guess that costs nothing but its place in the line."""
_Said = tuple[DeviceSession, bytes, "asyncio.Future[None]"]


class Turn:
    """The frames that wait to be heard, of every session of this node."""

    def __init__(self, store: Store, acks: Acks) -> None:
        self._store, self._acks = store, acks
        self._urgent: deque[_Said] = deque()
        """Acknowledgements of the lane: until they are taken, nobody knows that a denial is enforced."""
        self._waiting: deque[_Said] = deque()
        self._due = False

    async def hear(self, session: DeviceSession, frame: bytes) -> None:
        """Let `session` hear `frame`; what that wrote is durable when this returns.

        Raises what `DeviceSession.hear` raises, and `sqlite3.Error` when the store does not answer.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        (self._urgent if _ACK in frame[:16] else self._waiting).append((session, frame, done))
        if not self._due:
            self._due = True
            loop.call_soon(self._hear_some)
        await done

    def _hear_some(self) -> None:
        batch = self._next_batch()
        self._due = bool(self._urgent or self._waiting)
        if self._due:
            asyncio.get_running_loop().call_soon(self._hear_some)
        failures: list[WireFailure | sqlite3.Error | None] = []
        try:
            with self._store.together(), self._acks.gathered():
                failures += [None if done.done() else _heard(s, frame) for s, frame, done in batch]
        except sqlite3.Error as error:  # not durable: nobody may be answered
            failures = [error] * len(batch)
        finally:
            missing = sqlite3.InternalError("a fault in the same turn")
            failures += [missing] * (len(batch) - len(failures))
            for (_, _, done), failure in zip(batch, failures, strict=True):
                _settle(done, failure)

    def _next_batch(self) -> list[_Said]:
        """Acknowledgements first, as many as there are; of the rest few while acknowledgements come."""
        urgent = [self._urgent.popleft() for _ in range(min(FRAMES, len(self._urgent)))]
        room = OTHERS if urgent else FRAMES
        return urgent + [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]


def _heard(session: DeviceSession, frame: bytes) -> WireFailure | sqlite3.Error | None:
    """What one session's frame failed with; the others of the turn are heard all the same."""
    try:
        session.hear(frame)
    except (WireFailure, sqlite3.Error) as failure:
        return failure
    return None


def _settle(done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.done():  # its session ended meanwhile
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
