"""`count` and `sum`: integers in tiles, exact; `mean` and `std` are read from the same integers (`moments`).

The head tile is a number of its own. The tiles before it that saw something stand in a queue from oldest to
newest, and `rest` is their sum; so an event costs one addition, a tile that ends one more, and a read of a
window that has not moved another. What leaves the window leaves at the queue's front. A read after the head
tile notes how far it looked from there, for the next. `sum` adds units of 2^-60 (see `exact`), so that the
order of arrival cannot change a bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from edge_runtime.catalog.model import SessionFeature, View
from edge_runtime.session.admission import NEVER
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

Tile = tuple[int, int]
"""(tile number, its integer)"""

_UNREAD = (NEVER, 0, 0)


@dataclass(frozen=True)
class Tally:
    """Number of events, or exact sum of their values. Slots: head, rest, queue, note; or head, no window."""

    stream: Stream
    frame: Frame | None
    adds: Literal["one", "units", "squares"]
    """What an event adds: 1, its value in units of 2^-60, or the square of that, in units of 2^-120."""
    sees_all = False
    ordered = False

    @property
    def needs_units(self) -> bool:
        return self.adds != "one"

    def fresh(self) -> list[object]:
        return [0] if self.frame is None else [0, 0, deque(), _UNREAD]

    def ahead(self, base: int, code: Code) -> list[str]:
        return [f"s[{base}] += {self._step(code)}"]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        if self.frame is None:
            return [f"s[{base}] += {self._step(code)}"]
        hop_us, tiles = self.frame
        return [f"late_tally(s, {base}, s[{frame_slot}], at, {self._step(code)}, {hop_us}, {tiles})"]

    def roll(self, base: int) -> list[str]:
        assert self.frame is not None
        head, rest = f"s[{base}]", f"s[{base + 1}]"
        return [
            f"before = s[{base + 2}]",
            f"if {head}:",
            f"    before.append((old, {head})); {rest} += {head}; {head} = 0",
            f"while before and before[0][0] <= tile - {self.frame.tiles}: {rest} -= before.popleft()[1]",
            f"s[{base + 3}] = UNREAD",
        ]

    def read(self, base: int, frame_slot: int) -> str:
        """An expression for the integer at time `t`."""
        if self.frame is None:
            return f"s[{base}]"
        hop_us, tiles = self.frame
        moved = f"tally_at(s, {base}, s[{frame_slot}], t, {hop_us}, {tiles})"
        return f"(s[{base}] + s[{base + 1}] if t < s[{frame_slot}] else {moved})"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        if self.frame is None:
            return [mine[0] + other[0]]
        before: dict[int, int] = dict(mine[2])
        for tile, amount in other[2]:
            before[tile] = before.get(tile, 0) + amount
        return [mine[0] + other[0], mine[1] + other[1], deque(sorted(before.items())), _UNREAD]

    def pack(self, slots: Slots) -> object:
        return slots if self.frame is None else [slots[0], slots[1], list(slots[2])]

    def unpack(self, packed: Any) -> list[object]:
        if self.frame is None:
            return list(packed)
        head, rest, before = packed
        return [head, rest, deque((tile, amount) for tile, amount in before), _UNREAD]

    def _step(self, code: Code) -> str:
        match self.adds:
            case "one":
                return "1"
            case "units":
                return code.units
            case "squares":
                return f"{code.units} * {code.units}"


def late_tally(s: Slots, base: int, end_us: int, at_us: int, amount: int, hop_us: int, tiles: int) -> None:
    """Add `amount` to the tile of `at_us`, unless it has left the window."""
    tile, head = at_us // hop_us, end_us // hop_us - 1
    if tile == head:
        s[base] += amount
    elif tile > head - tiles:
        before: deque[Tile] = s[base + 2]
        place = bisect_left(before, (tile,))
        if place < len(before) and before[place][0] == tile:
            before[place] = tile, before[place][1] + amount
        else:
            before.insert(place, (tile, amount))
        s[base + 1] += amount
        s[base + 3] = _UNREAD


def tally_at(s: Slots, base: int, end_us: int, t_us: int, hop_us: int, tiles: int) -> int:
    """The window's integer at a time after the head tile; the state keeps its meaning."""
    gone = t_us // hop_us - tiles
    if gone >= end_us // hop_us - 1:
        return 0
    noted, left, amount = s[base + 3]
    if noted != gone:
        if noted > gone:
            left = amount = 0
        for tile, of_tile in islice(s[base + 2], left, None):
            if tile > gone:
                break
            left, amount = left + 1, amount + of_tile
        s[base + 3] = gone, left, amount
    total: int = s[base] + s[base + 1] - amount
    return total


FUNCTIONS = {"UNREAD": _UNREAD, "late_tally": late_tally, "tally_at": tally_at}


def _count(view: View, f: SessionFeature) -> Built:
    return Built((Tally(stream_of(view, f), frame_of(f), "one"),), read_tally)


def _sum(view: View, f: SessionFeature) -> Built:
    tally = Tally(stream_of(view, f, valued=True), frame_of(f), "units")
    return Built((tally,), lambda p: f"{read_tally(p)} / UNIT")


def read_tally(p: Placed) -> str:
    """An expression for the integer of a placed `Tally`."""
    assert isinstance(p.statistic, Tally)
    return p.statistic.read(p.base, p.frame_slot)


FAMILY: Family = {"count": _count, "sum": _sum}
