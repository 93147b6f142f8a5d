"""`count` and `sum`: integers in tiles, exact; `mean` and `std` are read from the same integers (`moments`).

A window of `tiles` tiles is a ring; the head tile is a number of its own and `rest` is the sum of the ring,
so an event costs one addition and a read of a window that has not moved costs another. A read after the head
tile notes what has left the window by its own tile, for the next read in that tile. `sum` adds units of 2^-60
(see `exact`), so that the order of arrival cannot change a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
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

_UNREAD = (NEVER, 0)


@dataclass(frozen=True)
class Tally:
    """Number of events, or exact sum of their values. Slots: head, rest, ring, note; or head, no window."""

    stream: Stream
    frame: Frame | None
    adds: Literal["one", "units", "squares"]
    """What an event adds: 1, its value in units of 2^-60, or the square of that, in units of 2^-120."""
    sees_all = False

    @property
    def needs_units(self) -> bool:
        return self.adds != "one"

    def fresh(self) -> list[object]:
        return [0] if self.frame is None else [0, 0, [0] * self.frame.tiles, _UNREAD]

    def ahead(self, base: int, code: Code) -> list[str]:
        return [f"s[{base}] += {self._step(code)}"]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        if self.frame is None:
            return [f"s[{base}] += {self._step(code)}"]
        hop_us, tiles = self.frame
        return [f"late_tally(s, {base}, s[{frame_slot}], at, {self._step(code)}, {hop_us}, {tiles})"]

    def roll(self, base: int) -> list[str]:
        assert self.frame is not None
        return [f"roll_tally(s, {base}, old, tile, {self.frame.tiles})"]

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
        ring = [a + b for a, b in zip(mine[2], other[2], strict=True)]
        return [mine[0] + other[0], mine[1] + other[1], ring, _UNREAD]

    def pack(self, slots: Slots) -> object:
        return slots[:3]

    def unpack(self, packed: Any) -> list[object]:
        return list(packed) if self.frame is None else [*packed, _UNREAD]

    def _step(self, code: Code) -> str:
        match self.adds:
            case "one":
                return "1"
            case "units":
                return code.units
            case "squares":
                return f"{code.units} * {code.units}"


def roll_tally(s: Slots, base: int, old: int, tile: int, tiles: int) -> None:
    """Move the head from tile `old` to `tile`, dropping what leaves the window."""
    if tile - old >= tiles:
        s[base : base + 4] = 0, 0, [0] * tiles, _UNREAD
        return
    s[base + 3] = _UNREAD
    ring, head = s[base + 2], s[base]
    ring[old % tiles] = head
    s[base] = 0
    slot = tile % tiles
    if tile - old == 1:
        s[base + 1] += head - ring[slot]
        ring[slot] = 0
        return
    first = (old + 1) % tiles
    gone = _span(ring, first, slot)
    if first <= slot:
        ring[first : slot + 1] = [0] * (slot + 1 - first)
    else:
        ring[first:] = [0] * (tiles - first)
        ring[: slot + 1] = [0] * (slot + 1)
    s[base + 1] += head - gone


def late_tally(s: Slots, base: int, end_us: int, at_us: int, amount: int, hop_us: int, tiles: int) -> None:
    """Add `amount` to the tile of `at_us`, unless it has left the window."""
    tile, head = at_us // hop_us, end_us // hop_us - 1
    if tile == head:
        s[base] += amount
    elif tile > head - tiles:
        s[base + 2][tile % tiles] += amount
        s[base + 1] += amount
        s[base + 3] = _UNREAD


def tally_at(s: Slots, base: int, end_us: int, t_us: int, hop_us: int, tiles: int) -> int:
    """The window's integer at a time after the head tile; the state keeps its meaning."""
    tile = t_us // hop_us
    noted, gone = s[base + 3]
    if noted != tile:
        first = end_us // hop_us
        if tile - first >= tiles - 1:
            return 0
        gone = _span(s[base + 2], first % tiles, tile % tiles)
        s[base + 3] = tile, gone
    total: int = s[base] + s[base + 1] - gone
    return total


def _span(ring: list[int], first: int, last: int) -> int:
    """The sum of the ring from slot `first` to `last`, both included, going round the end."""
    if first <= last:
        return sum(ring[first : last + 1])
    return sum(ring[first:]) + sum(ring[: last + 1])


FUNCTIONS = {"roll_tally": roll_tally, "late_tally": late_tally, "tally_at": tally_at}


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
