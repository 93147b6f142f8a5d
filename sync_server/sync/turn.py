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
from sync_server.sync.stream import DeviceSession

FRAMES: Final = 64
"""Most frames heard in one go; then others, with a denial perhaps, get their turn."""


class Turn:
    """The frames that wait to be heard, of every session of this node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[tuple[DeviceSession, bytes, asyncio.Future[None]]] = deque()

    async def hear(self, session: DeviceSession, frame: bytes) -> None:
        """Let `session` hear `frame`; what that wrote is durable when this returns.

        Raises what `DeviceSession.hear` raises, and `sqlite3.Error` when the store does not answer.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((session, frame, done))
        if len(self._waiting) == 1:
            loop.call_soon(self._hear_some)
        await done

    def _hear_some(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(FRAMES, len(self._waiting)))]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._hear_some)
        failures: list[WireFailure | sqlite3.Error | None] = []
        try:
            with self._store.together():
                failures += [None if done.done() else _heard(s, frame) for s, frame, done in batch]
        except sqlite3.Error as error:  # not durable: nobody may be answered
            failures = [error] * len(batch)
        finally:
            missing = sqlite3.InternalError("a fault in the same turn")
            failures += [missing] * (len(batch) - len(failures))
            for (_, _, done), failure in zip(batch, failures, strict=True):
                _settle(done, failure)


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
