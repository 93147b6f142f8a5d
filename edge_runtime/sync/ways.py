"""Which way to the server: a WebSocket, or long polls where something in between lets none live.

Pure: told how each session ended, it says which way to try next. Only what the way can be blamed for counts;
a server that is not there or says no is the same server by long poll.
"""

from __future__ import annotations

from edge_runtime.errors import EdgeError, SyncRefused
from edge_runtime.sync.carrier import Blocked, Cut, Way
from edge_runtime.sync.settings import SyncSettings


class Ways:
    """Remembers how the last WebSockets ended."""

    def __init__(self, settings: SyncSettings) -> None:
        self._settings = settings
        self._blocked = self._short = 0
        self._poll_until_us: int | None = None
        """Boot time at which a WebSocket is tried again; None: it is not avoided."""

    def next(self, boot_us: int) -> Way:
        """The way to try now."""
        if self._poll_until_us is not None and self.over(boot_us):
            # what was blocked may have moved on; a first failure is enough to know that it has not
            self._poll_until_us = None
            self._short, self._blocked = (
                self._settings.short_sessions - 1,
                self._settings.blocked_upgrades - 1,
            )
        return "websocket" if self._poll_until_us is None else "poll"

    def over(self, boot_us: int) -> bool:
        """Whether it is time to try a WebSocket again; also when the boot clock went back."""
        if self._poll_until_us is None:
            return False
        return not 0 < self._poll_until_us - boot_us <= self._settings.poll_for_us

    def put_off(self, boot_us: int) -> None:
        """A WebSocket was tried and would not do: not again for a while."""
        self._poll_until_us = boot_us + self._settings.poll_for_us

    def ended(self, way: Way, trouble: EdgeError | None, live_us: int | None, boot_us: int) -> None:
        """A session by `way` ended.

        Args:
            trouble: why; None when this device ended it.
            live_us: how long it was open with the server proven; None: it never was.
        """
        if way == "poll":
            if live_us is None and trouble is not None and not isinstance(trouble, SyncRefused):
                self._poll_until_us = None  # no better than the other way
                self._short = self._blocked = 0
            return
        if live_us is not None and live_us >= self._settings.short_us:
            self._short = self._blocked = 0
        elif isinstance(trouble, Cut):
            self._short += 1
        elif isinstance(trouble, Blocked):
            self._blocked += 1
        if self._short >= self._settings.short_sessions or self._blocked >= self._settings.blocked_upgrades:
            self.put_off(boot_us)
