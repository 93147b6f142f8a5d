"""So many requests a second for each of many callers. Pure: time is handed in."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sync_server.access.caller import Rate

TOKEN_US: Final = 1_000_000
"""A token's worth of content: what a rate of one a second fills in a second, so whole numbers tell all."""


class Buckets:
    """A token bucket for each caller.

    Args:
        callers: most callers remembered; the one that asked longest ago is forgotten, and begins full.
    """

    def __init__(self, callers: int) -> None:
        self._callers = callers
        self._held: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """Caller -> (content, when it held so much)."""

    def __len__(self) -> int:
        return len(self._held)

    def take(self, caller: str, rate: Rate, now_us: int) -> int:
        """Take one token; 0 when it was there, else in how many microseconds it will be.

        >>> buckets = Buckets(10)
        >>> [buckets.take("a", Rate(per_s=2, burst=1), now_us) for now_us in (0, 0, 500_000)]
        [0, 500000, 0]

        A clock set back fills nothing, and takes nothing away.
        """
        held, at_us = self._held.get(caller, (rate.burst * TOKEN_US, now_us))
        held = min(held + max(now_us - at_us, 0) * rate.per_s, rate.burst * TOKEN_US)
        missing = TOKEN_US - held
        self._held[caller] = (held if missing > 0 else held - TOKEN_US), now_us
        self._held.move_to_end(caller)
        if len(self._held) > self._callers:
            self._held.popitem(last=False)
        return -(-missing // rate.per_s) if missing > 0 else 0
