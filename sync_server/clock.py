"""The only place on the server that reads a clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the server asks the time of."""

    def now_us(self) -> int:
        """Wall time, microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """Wall clock of this machine."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


class Waiter(Protocol):
    """What a client waits with."""

    def now_s(self) -> float:
        """Seconds that only grow."""
        ...

    def wait(self, seconds: float) -> None:
        """Come back after so long."""
        ...


class SystemWaiter:
    """Waits on this machine's clock."""

    def now_s(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)
