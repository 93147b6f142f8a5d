"""What wakes a session: a flag that something moved, and a little of what it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wake:
    """One session's flag. Whoever carries the session waits for it, or is told by `on_set`.

    Setting it twice is setting it once.
    """

    __slots__ = ("_set", "_waiting", "channel", "lane", "on_set")

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[asyncio.Future[None]] = []
        self.on_set: Callable[[], None] | None = None
        """Called at every setting."""
        self.lane = False
        """Whether the lane moved: what there is to say then goes before what others have to say."""
        self.channel: str | None = None
        """The one channel that moved and nothing else; None: look at all."""

    def is_set(self) -> bool:
        """Whether something moved since it was last cleared."""
        return self._set

    def set(self) -> None:
        """Something moved."""
        self.channel = None
        self._ring()

    def moved(self, channel: str) -> None:
        """Rows of `channel` changed."""
        if not self._set:
            self.channel = channel
        elif self.channel != channel:
            self.channel = None
        self._ring()

    def clear(self) -> None:
        """Somebody is about to look."""
        self._set = self.lane = False
        self.channel = None

    async def wait(self) -> None:
        """Return once it is set."""
        if self._set:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting
        finally:
            self._waiting.remove(waiting)

    def _ring(self) -> None:
        self._set = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        if self.on_set is not None:
            self.on_set()
