"""A hint that there may be something to send. Losing one delays: whoever waits also looks by itself."""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """Wakes whoever waits in this event loop."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._places = 0
        self.closed = False
        """Nobody waits any more: the server stops."""

    def ring(self) -> None:
        """Wake everybody who waits now."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def heard(self, timeout_us: int) -> None:
        """Wait until it rings, or for so long."""
        if self.closed:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), timeout_us / 1_000_000)

    def take_place(self, most: int) -> bool:
        """A place among those who may wait long; False when all are taken."""
        free = self._places < most
        self._places += free
        return free

    def leave_place(self) -> None:
        """Give a place back."""
        self._places -= 1

    def close(self) -> None:
        """Wake everybody for the last time."""
        self.closed = True
        self.ring()
