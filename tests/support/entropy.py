"""Chance for servers under test: never the same bytes twice, and the same in every run."""

from __future__ import annotations

import hashlib
import itertools

_made = itertools.count()


class CountingEntropy:
    """Bytes that are different each time, in each instance too: one server's key is not another's salt."""

    def __init__(self) -> None:
        self._number, self._calls = next(_made), itertools.count()

    def __call__(self, count: int) -> bytes:
        name = f"{self._number}:{next(self._calls)}".encode()
        return hashlib.shake_256(name).digest(count)
