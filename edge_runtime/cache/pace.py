"""How much one unit of upkeep does, so that it takes about as long as it may."""

from __future__ import annotations

from typing import Final

MOST_ROWS: Final = 256
"""Most rows that one unit touches, however fast the disk is."""
FEWEST_ROWS: Final = 8


class Pace:
    """Rows of one unit: halved when it took too long, doubled while it took less than a quarter of its time.

    Args:
        budget_us: how long a unit may take.
    """

    def __init__(self, budget_us: int) -> None:
        self._budget_us = budget_us
        self.rows = MOST_ROWS // 4

    def took(self, us: int) -> None:
        """The last unit took so long."""
        if us > self._budget_us:
            self.rows = max(self.rows // 2, FEWEST_ROWS)
        elif us * 4 < self._budget_us:
            self.rows = min(self.rows * 2, MOST_ROWS)
