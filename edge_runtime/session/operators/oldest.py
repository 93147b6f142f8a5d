"""`first` and `since_first`: the oldest event by (time, id).

Without a window the oldest event stays the oldest, and one place holds it. In a window it leaves, and the
next oldest must be known by then: so each tile keeps its own oldest event. The head tile's has a slot; those
of older tiles stand in a queue from oldest to newest, without the tiles that saw nothing. What leaves, leaves
at the queue's front, and the window's oldest is the first there that has not left. At most one event for each
tile is held, however many come.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.catalog.model import SessionFeature, View
from edge_runtime.session.operators.statistic import (
    Built,
    Code,
    Family,
    Frame,
    Placed,
    Slots,
    Stream,
    frame_of,
    stream_of,
)

Entry = tuple[int, str, Any]
"""(time, id, value); id and value are empty where only the time is wanted."""


@dataclass(frozen=True)
class Oldest:
    """The oldest event. Slots: the head tile's entry or None, a deque of those before; or the entry alone."""

    stream: Stream
    frame: Frame | None
    needs_units = False
    sees_all = False
    ordered = True

    def fresh(self) -> list[object]:
        return [None] if self.frame is None else [None, deque()]

    def ahead(self, base: int, code: Code) -> list[str]:
        return [f"if s[{base}] is None: s[{base}] = {self._entry(code)}"]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        if self.frame is None:
            return [f"s[{base}] = older(s[{base}], {self._entry(code)})"]
        hop_us, tiles = self.frame
        return [f"late_oldest(s, {base}, s[{frame_slot}], {self._entry(code)}, {hop_us}, {tiles})"]

    def roll(self, base: int) -> list[str]:
        assert self.frame is not None
        return [f"roll_oldest(s, {base}, (tile - {self.frame.tiles - 1}) * {self.frame.hop_us})"]

    def read_value(self, base: int) -> str:
        """An expression for the oldest value or None."""
        if self.frame is None:
            return f"(None if s[{base}] is None else s[{base}][2])"
        return f"value_of(oldest_since(s, {base}, {self.frame.start}))"

    def read_since(self, base: int) -> str:
        """An expression for the seconds since the oldest event, or None."""
        if self.frame is None:
            return f"(None if s[{base}] is None else (t - s[{base}][0]) / 1000000)"
        return f"seconds_since(oldest_since(s, {base}, {self.frame.start}), t)"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        head = other[0] if mine[0] is None else older(mine[0], other[0] or mine[0])
        if self.frame is None:
            return [head]
        before: dict[int, Entry] = {}
        for entry in sorted([*mine[1], *other[1]], key=_order):
            before.setdefault(entry[0] // self.frame.hop_us, entry)
        return [head, deque(before.values())]

    def pack(self, slots: Slots) -> object:
        return slots if self.frame is None else [slots[0], list(slots[1])]

    def unpack(self, packed: Any) -> list[object]:
        head = None if packed[0] is None else tuple(packed[0])
        return [head] if self.frame is None else [head, deque(map(tuple, packed[1]))]

    def _entry(self, code: Code) -> str:
        return "(at, '', None)" if self.stream.value is None else f"(at, event_id, {code.value})"


def older(have: Entry | None, entry: Entry) -> Entry:
    """The one of the two that comes first."""
    return entry if have is None or _order(entry) < _order(have) else have


def roll_oldest(s: Slots, base: int, first_us: int) -> None:
    """Begin an empty head tile and drop what lies before `first_us`, where the window now begins."""
    before: deque[Entry] = s[base + 1]
    if s[base] is not None:
        before.append(s[base])
        s[base] = None
    while before and before[0][0] < first_us:
        before.popleft()


def late_oldest(s: Slots, base: int, end_us: int, entry: Entry, hop_us: int, tiles: int) -> None:
    """Hold an entry against its tile's, unless that has left the window."""
    tile, head = entry[0] // hop_us, end_us // hop_us - 1
    if tile == head:
        s[base] = older(s[base], entry)
    elif tile > head - tiles:
        before: deque[Entry] = s[base + 1]
        place = bisect_left(before, tile, key=lambda one: one[0] // hop_us)
        if place < len(before) and before[place][0] // hop_us == tile:
            before[place] = older(before[place], entry)
        else:
            before.insert(place, entry)


def oldest_since(s: Slots, base: int, first_us: int) -> Entry | None:
    """The oldest entry from `first_us` on, which begins a tile; None where there is none."""
    for entry in s[base + 1]:
        if entry[0] >= first_us:
            found: Entry = entry
            return found
    head: Entry | None = s[base]
    return head if head is not None and head[0] >= first_us else None


def value_of(entry: Entry | None) -> Any:
    """The entry's value; None of none."""
    return None if entry is None else entry[2]


def seconds_since(entry: Entry | None, t_us: int) -> float | None:
    """The seconds from an entry to `t_us`; None of none."""
    return None if entry is None else (t_us - entry[0]) / 1_000_000


def _order(entry: Entry) -> tuple[int, str]:
    return entry[0], entry[1]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "older": older,
    "roll_oldest": roll_oldest,
    "late_oldest": late_oldest,
    "oldest_since": oldest_since,
    "value_of": value_of,
    "seconds_since": seconds_since,
}


def _first(view: View, f: SessionFeature) -> Built:
    oldest = Oldest(stream_of(view, f, valued=True), frame_of(f))
    return Built((oldest,), lambda p: _oldest(p).read_value(p.base))


def _since_first(view: View, f: SessionFeature) -> Built:
    oldest = Oldest(stream_of(view, f), frame_of(f))
    return Built((oldest,), lambda p: _oldest(p).read_since(p.base))


def _oldest(p: Placed) -> Oldest:
    assert isinstance(p.statistic, Oldest)
    return p.statistic


FAMILY: Family = {"first": _first, "since_first": _since_first}
