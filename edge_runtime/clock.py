"""The only place on the device that reads a clock.

Two readings: wall time, which users and other machines can move, and boot time, which runs in suspend and
cannot be set. Leases count on boot time.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a runtime asks the time of. Hand in your own to test or to simulate."""

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
