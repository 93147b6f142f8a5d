"""How much each row about nobody is asked for: counts that fade, in memory, for choosing what is pushed.

Only a hint for a score: a restart forgets it, and each node counts by itself. No personal row is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

RowName = tuple[str, str]
"""(view key `name@version`, entity)."""


class _Count(NamedTuple):
    amount: float
    at_us: int
    """When it was that much."""


class Use:
    """Counts by row; a count is halved every `half_life_us`.

    Args:
        limit: most rows counted; when there are more, the half with the smallest counts is forgotten.
    """

    def __init__(self, half_life_us: int, limit: int) -> None:
        self._half_life_us, self._limit = half_life_us, limit
        self._counts: dict[RowName, _Count] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def note(self, view_key: str, entities: Iterable[str], now_us: int) -> None:
        """Each of these rows was asked for once."""
        for entity in entities:
            self._counts[view_key, entity] = _Count(self.of(view_key, entity, now_us) + 1, now_us)
        if len(self._counts) > self._limit:
            self._forget_half(now_us)

    def of(self, view_key: str, entity: str, now_us: int) -> float:
        """How much a row was asked for, as of now; 0 for one that is not counted."""
        found = self._counts.get((view_key, entity))
        return 0.0 if found is None else self._faded(found, now_us)

    def _faded(self, count: _Count, now_us: int) -> float:
        passed_us = max(now_us - count.at_us, 0)  # a clock set back does not make a row more used
        return float(count.amount * 2 ** (-passed_us / self._half_life_us))

    def _forget_half(self, now_us: int) -> None:
        by_use = sorted(self._counts, key=lambda name: self._faded(self._counts[name], now_us), reverse=True)
        self._counts = {name: self._counts[name] for name in by_use[: self._limit // 2]}
