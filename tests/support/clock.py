"""A clock that moves only when a test moves it."""

from __future__ import annotations


class ManualClock:
    """Wall and boot time under a test's control, in microseconds."""

    def __init__(self, now_us: int = 1_700_000_000_000_000, boot_us: int = 1_000_000_000) -> None:
        self.wall_us, self.uptime_us = now_us, boot_us

    def now_us(self) -> int:
        return self.wall_us

    def boot_us(self) -> int:
        return self.uptime_us

    def advance(self, *, seconds: float = 0, us: int = 0) -> None:
        """Let time pass: both clocks move."""
        step = us + round(seconds * 1_000_000)
        self.wall_us += step
        self.uptime_us += step

    def set_wall(self, now_us: int) -> None:
        """Somebody sets the wall clock; boot time does not notice."""
        self.wall_us = now_us

    def reboot(self) -> None:
        """The machine restarts: boot time begins again."""
        self.uptime_us = 5_000_000
