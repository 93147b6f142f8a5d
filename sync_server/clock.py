"""The only place on the server that reads a clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the server asks the time of."""

    def now_us(self) -> int:
        """Wall time, microseconds since 1970-01-01 UTC."""
        ...

    def boot_us(self) -> int:
        """Microseconds since an arbitrary start, never set back, running in suspend."""
        ...


class SystemClock:
    """Wall clock and CLOCK_BOOTTIME of this machine (its monotonic clock where there is none)."""

    def __init__(self) -> None:
        self._boot_clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def boot_us(self) -> int:
        return time.clock_gettime_ns(self._boot_clock) // 1000


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
