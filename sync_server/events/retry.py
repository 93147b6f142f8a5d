"""When to try again. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """How the waits between two attempts grow: doubled each time, and spread so that nobody comes in step."""

    first_us: int
    longest_us: int

    def wait_us(self, failures: int, chance: float, asked_us: int | None = None) -> int:
        """How long to wait after so many failures in a row.

        Args:
            chance: in [0, 1); the wait lies between half and one and a half of its plain length.
            asked_us: what the other side's `Retry-After` says; never less than that, within the longest.

        >>> Retry(1_000_000, 60_000_000).wait_us(3, chance=0.5)
        4000000
        """
        plain_us = min(self.longest_us, self.first_us << min(max(failures - 1, 0), 40))
        spread_us = round(plain_us * (0.5 + chance))
        return min(max(spread_us, asked_us or 0), self.longest_us)
