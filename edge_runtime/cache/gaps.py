"""Reading an ordered table around what cannot be read: from both ends, then from the middle of what is left.

Pure: how rows are read is handed in. A page that cannot be read ends a scan; the pages behind it are reached
from the other side, or by starting somewhere between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Unreadable(Exception):
    """A page on the way cannot be read."""


class Gap(NamedTuple):
    """Keys of which nobody knows whether there is a row: `low` to `high`, both of them too."""

    low: int
    high: int


Scan = Callable[[int, int, bool], Iterable[tuple[int, T]]]
"""`scan(low, high, backwards)`: (key, row) of `low` to `high` with both ends, in order; or `Unreadable`."""


def readable(scan: Scan[T], whole: Gap, left: list[Gap], probes: int) -> Iterator[tuple[int, T]]:
    """Every row of `whole` that can be reached, each once, in no order.

    Args:
        left: gets what remains unknown, in order; nothing when all was read.
        probes: how often to start somewhere between, at most.
    """
    ends: list[Gap] = []
    yield from _run(scan, whole, False, ends)
    waiting = deque[Gap]()
    for gap in ends:
        found: list[Gap] = []
        yield from _run(scan, gap, True, found)
        waiting.extend(found)
    known: list[Gap] = []
    while waiting and probes:
        gap, probes = waiting.popleft(), probes - 1
        found = known if gap.low == gap.high else []
        middle = (gap.low + gap.high) // 2
        yield from _run(scan, Gap(gap.low, middle), True, found)
        if middle < gap.high:
            yield from _run(scan, Gap(middle + 1, gap.high), False, found)
        if found is not known:
            waiting.extend(found)
    left.extend(_joined([*known, *waiting]))


def _run(scan: Scan[T], gap: Gap, backwards: bool, left: list[Gap]) -> Iterator[tuple[int, T]]:
    """Rows up to what cannot be read; `left` gets what lies behind."""
    low, high = gap
    try:
        for key, row in scan(low, high, backwards):
            yield key, row
            low, high = (low, key - 1) if backwards else (key + 1, high)
    except Unreadable:
        if low <= high:
            left.append(Gap(low, high))


def _joined(gaps: list[Gap]) -> list[Gap]:
    """The same keys in as few gaps as can be, in order."""
    joined: list[Gap] = []
    for gap in sorted(gaps):
        if joined and gap.low <= joined[-1].high + 1:
            joined[-1] = Gap(joined[-1].low, max(joined[-1].high, gap.high))
        else:
            joined.append(gap)
    return joined
