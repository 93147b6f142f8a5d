"""What a link remembers from one session to the next; the rest is on disk."""

from __future__ import annotations

from collections.abc import Callable

from edge_runtime.errors import SyncRefused
from edge_runtime.sync.applying import Applied
from edge_runtime.sync.fetch_queue import FetchQueue
from edge_runtime.sync.repairs import RepairTimes
from edge_runtime.wire import messages as m


class Memory:
    """Of one link, for as long as it lives."""

    def __init__(self, channels: tuple[str, ...]) -> None:
        self.wanted = channels
        """Shared channels that the app wishes for."""
        self.unwanted: frozenset[str] = frozenset()
        """Channels of which the app wants none, whoever names them."""
        self.lean = False
        """Whether only decisions, leases and receipts may flow."""
        self.tickets: dict[str, bytes] = {}
        """Personal channel -> ticket from the app's backend."""
        self.repairs_us: RepairTimes = {}
        self.diverged: set[str] = set()
        self.refusals: dict[str, SyncRefused] = {}
        """Channel -> the server's last word on why it is not served, until it is."""
        self.signs_with_next = False
        """Whether the next Hello tries the device's next key: while a key changes, either may stand."""
        self.fetches = FetchQueue()
        """Rows that are wanted on demand."""
        self.applied: Callable[[m.Delta, Applied], None] = lambda delta, applied: None
