"""Map features as the joins see them: from the server whole, from `count_by` perhaps truncated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge_runtime.serving.encodings import Floats
from edge_runtime.session.operators.keyed import CountMap, key_rank


class Entries:
    """A map's numbers by key. A key that is not there is 0, unless the map may have dropped it."""

    __slots__ = ("_ceiling", "_numbers", "_truncated")

    def __init__(self, numbers: Mapping[str, object], truncated: bool) -> None:
        self._numbers, self._truncated = numbers, truncated
        self._ceiling: tuple[int, str] | None = None

    def at(self, key: str) -> float | None:
        """The number at `key`; None when the map is truncated and may have dropped it (law 7)."""
        value = self._numbers.get(key)
        if value is None:
            return None if self._truncated and self._may_have_dropped(key) else 0.0
        if isinstance(value, int | float) and not math.isnan(value):
            return float(value)
        return 0.0

    def at_each(self, keys: Sequence[str]) -> Floats:
        """float64[k]; NaN where `at` is None."""
        found = [self.at(key) for key in keys]
        return np.array([math.nan if value is None else value for value in found], dtype=np.float64)

    def _may_have_dropped(self, key: str) -> bool:
        # Kept are the keys of smallest rank: one that ranks under the last kept was never dropped.
        if self._ceiling is None:
            self._ceiling = max(map(key_rank, self._numbers), default=(-1, ""))
        return key_rank(key) > self._ceiling


def entries_of(value: object) -> Entries:
    """A map feature's value as `Entries`; anything that is no map has no keys."""
    if isinstance(value, CountMap):
        return Entries(value, value.truncated)
    return Entries(value if isinstance(value, Mapping) else {}, False)
