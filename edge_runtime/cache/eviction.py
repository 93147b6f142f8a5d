"""What goes when the cache is over its size limit, in which order and why. Pure.

The stated order: rows whose time is over; rows about nobody, those first that were not used for longest, then
the oldest; rows of subjects, the oldest day first; journalled events that stored states cover, the oldest day
first. Nothing else ever goes: session states, events that only the journal holds, decisions, receipts,
reports, the lane, spent budget.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

LEAVE_PERCENT: Final = 90
"""Once over its limit, the cache is brought down to so much of it: else each new row would cost a sweep."""
CANDIDATES_LIMIT: Final = 16_384
"""Most candidates held at once; more go in further passes."""


class Reason(IntEnum):
    """Why something goes; in the order in which they go."""

    EXPIRED = 0
    COLD_ROW = 1
    SUBJECT_ROW = 2
    COVERED_EVENT = 3


class Candidate(NamedTuple):
    """Something that may go. They go in the order of their fields."""

    reason: Reason
    day: int
    """Days since 1970 when it was last used (a row about nobody), or of its event time or arrival."""
    time_us: int
    """Its event time, where that is known without opening it; else 0."""
    place: tuple[str | int | bytes, ...]
    size_bytes: int
    """By how much less there is once it is gone."""


def target_bytes(limit_bytes: int) -> int:
    """Down to which size the cache is brought once it is over its limit."""
    return limit_bytes * LEAVE_PERCENT // 100


def chosen(candidates: Iterable[Candidate], need_bytes: int) -> list[Candidate]:
    """The fewest that must go, in order, so that `need_bytes` less are used; all where that is too few.

    Each bears the reason why it goes.
    """
    found = Coldest(need_bytes)
    for candidate in candidates:
        found.offer(candidate)
    return found.in_order()


class Coldest:
    """Finds what `chosen` tells, from candidates offered one by one, holding no more than it needs.

    Args:
        limit: at most so many are held; then those that go first.
    """

    def __init__(self, need_bytes: int, limit: int = CANDIDATES_LIMIT) -> None:
        self._need, self._limit = need_bytes, limit
        self._heap: list[_Last] = []
        self._bytes = 0

    def offer(self, candidate: Candidate) -> bool:
        """One that may go; whether it goes before others, as far as is known so far."""
        if self._need <= 0:
            return False
        enough = self._bytes >= self._need or len(self._heap) >= self._limit
        if enough and candidate >= self._heap[0].candidate:
            return False
        heapq.heappush(self._heap, _Last(candidate))
        self._bytes += candidate.size_bytes
        while len(self._heap) > self._limit or self._bytes - self._heap[0].size_bytes >= self._need:
            self._bytes -= heapq.heappop(self._heap).size_bytes
        return True

    def in_order(self) -> list[Candidate]:
        """Those that go, in order."""
        return sorted(one.candidate for one in self._heap)


class _Last:
    """A candidate in a heap whose top is the one that would go last."""

    __slots__ = ("candidate", "size_bytes")

    def __init__(self, candidate: Candidate) -> None:
        self.candidate, self.size_bytes = candidate, candidate.size_bytes

    def __lt__(self, other: _Last) -> bool:
        return self.candidate > other.candidate
