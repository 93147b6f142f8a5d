"""The demo's clocks: the kiosks run through two weeks in a minute, their leases and the server do not."""

from __future__ import annotations

import time

from edge_runtime.clock import SystemClock


def present_us() -> int:
    """This machine's wall time in microseconds: the same clock for every process of the demo."""
    return time.time_ns() // 1000


class ReplayClock:
    """Wall time set by the replayed purchases; boot time from the machine, so that leases really run."""

    def __init__(self, start_us: int) -> None:
        self._now_us = start_us
        self._machine = SystemClock()

    def move_to(self, at_us: int) -> None:
        """Set the wall time, in microseconds; it never goes back."""
        self._now_us = max(self._now_us, at_us)

    def now_us(self) -> int:
        return self._now_us

    def boot_us(self) -> int:
        return self._machine.boot_us()
