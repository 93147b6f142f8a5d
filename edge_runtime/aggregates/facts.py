"""Facts that the device's ledger keeps beside its rows, and what becomes of them when debits may be lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from edge_runtime.cache.journal_entry import DAY_US

NEWEST_DAY: Final = "aggregates.newest_day"
"""The newest day that the ledger has seen."""
UNSURE_DAY: Final = "aggregates.unsure_day"
"""Stands after a loss: up to this day more may have been spent than the ledger says."""
WINDOWS: Final = "aggregates.windows"
"""Under which windows something was debited, and until when."""


class FactReads(Protocol):
    """What reading a fact needs of a transaction of the cache."""

    def meta(self, key: str) -> bytes | None:
        """A durable value by name."""
        ...


class FactWrites(FactReads, Protocol):
    """What noting a fact needs of a transaction of the cache."""

    def set_meta(self, key: str, value: bytes) -> None:
        """Replace a durable value."""
        ...


def unsure_day(fact: Callable[[str], bytes | None], now_us: int) -> bytes:
    """What `UNSURE_DAY` becomes when debits may be missing: until they are over, nobody is charged anything.

    Args:
        fact: the facts as they are known.
        now_us: wall time.
    """
    known = (int.from_bytes(fact(name) or b"", "big") for name in (NEWEST_DAY, UNSURE_DAY))
    return max(now_us // DAY_US, *known).to_bytes(8, "big")
