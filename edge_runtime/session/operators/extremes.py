"""`min` and `max`: the extreme of each tile.

A sum forgets what leaves the window by subtraction; an extreme cannot, so each tile keeps its own, and the
window's is the extreme of those. As in `tally` the head tile is a number of its own and `rest` is the extreme
of the ring: an event costs one comparison. When a tile leaves that held `rest`, the ring is looked through
again; else nothing needs to be. A tile without a value holds an infinity, which no value is. Taking the
smaller of two numbers does not depend on their order, so a late event costs what any other does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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

Which = Literal["min", "max"]
Pick = Callable[..., Any]
"""`min` or `max` itself."""

_PICK: dict[Which, Pick] = {"min": min, "max": max}
_NOTHING: dict[Which, float] = {"min": math.inf, "max": -math.inf}
_BEYOND: dict[Which, str] = {"min": "<", "max": ">"}


@dataclass(frozen=True)
class Extreme:
    """The smallest or largest value. Slots: head, rest, ring, note; or head, no window."""

    stream: Stream
    frame: Frame | None
    which: Which
    needs_units = False
    sees_all = False
    ordered = False

    def fresh(self) -> list[object]:
        if self.frame is None:
            return [self._nothing]
        return [self._nothing, self._nothing, [self._nothing] * self.frame.tiles, self._unread]

    def ahead(self, base: int, code: Code) -> list[str]:
        return [f"if {code.value} {_BEYOND[self.which]} s[{base}]: s[{base}] = {code.value}"]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        if self.frame is None:
            return self.ahead(base, code)
        return [f"late_extreme(s, {base}, s[{frame_slot}], at, {code.value}, {self._arguments})"]

    def roll(self, base: int) -> list[str]:
        assert self.frame is not None
        tiles, nothing = self.frame.tiles, self._nothing
        return [f"roll_extreme(s, {base}, old, tile, {tiles}, {self.which}, {nothing!r})"]

    def read(self, base: int, frame_slot: int) -> str:
        """An expression for the extreme at time `t`, or None."""
        if self.frame is None:
            return f"(None if s[{base}] == {self._nothing!r} else s[{base}])"
        return f"extreme_at(s, {base}, s[{frame_slot}], t, {self._arguments}, {self._nothing!r})"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        pick = _PICK[self.which]
        if self.frame is None:
            return [pick(mine[0], other[0])]
        ring = list(map(pick, mine[2], other[2]))
        return [pick(mine[0], other[0]), pick(mine[1], other[1]), ring, self._unread]

    def pack(self, slots: Slots) -> object:
        return slots[:3]

    def unpack(self, packed: Any) -> list[object]:
        return list(packed) if self.frame is None else [*packed, self._unread]

    @property
    def _nothing(self) -> float:
        return _NOTHING[self.which]

    @property
    def _unread(self) -> tuple[int, float]:
        return NEVER, self._nothing

    @property
    def _arguments(self) -> str:
        assert self.frame is not None
        return f"{self.frame.hop_us}, {self.frame.tiles}, {self.which}"


def roll_extreme(s: Slots, base: int, old: int, tile: int, tiles: int, pick: Pick, nothing: float) -> None:
    """Move the head from tile `old` to `tile`, dropping what leaves the window."""
    unread = NEVER, nothing
    if tile - old >= tiles:
        s[base : base + 4] = nothing, nothing, [nothing] * tiles, unread
        return
    head, rest, ring, _ = s[base : base + 4]
    ring[old % tiles] = head
    left = False
    for step in range(old + 1, tile + 1):
        slot = step % tiles
        left = left or ring[slot] == rest
        ring[slot] = nothing
    s[base], s[base + 1], s[base + 3] = nothing, pick(ring) if left else pick(rest, head), unread


def late_extreme(
    s: Slots, base: int, end_us: int, at_us: int, value: float, hop_us: int, tiles: int, pick: Pick
) -> None:
    """Hold `value` against the tile of `at_us`, unless it has left the window."""
    tile, head = at_us // hop_us, end_us // hop_us - 1
    if tile == head:
        s[base] = pick(s[base], value)
    elif tile > head - tiles:
        ring, slot = s[base + 2], tile % tiles
        ring[slot] = pick(ring[slot], value)
        s[base + 1] = pick(s[base + 1], value)
        s[base + 3] = NEVER, value


def extreme_at(
    s: Slots, base: int, end_us: int, t_us: int, hop_us: int, tiles: int, pick: Pick, nothing: float
) -> float | None:
    """The window's extreme at `t_us`, which is not before the head tile; the state keeps its meaning."""
    rest = s[base + 1]
    if t_us >= end_us:
        tile, first = t_us // hop_us, end_us // hop_us
        if tile - first >= tiles - 1:
            return None
        noted, rest = s[base + 3]
        if noted != tile:
            # The head's own slot in the ring is empty: it may be looked at like the others.
            rest = _extreme(s[base + 2], (tile + 1) % tiles, (first - 1) % tiles, pick)
            s[base + 3] = tile, rest
    found: float = pick(s[base], rest)
    return None if found == nothing else found


def _extreme(ring: list[float], first: int, last: int, pick: Pick) -> float:
    """The extreme of the ring from slot `first` to `last`, both included, going round the end."""
    found: float
    if first <= last:
        found = pick(ring[first : last + 1])
    else:
        found = pick(pick(ring[first:]), pick(ring[: last + 1]))
    return found


FUNCTIONS = {
    "roll_extreme": roll_extreme,
    "late_extreme": late_extreme,
    "extreme_at": extreme_at,
    "inf": math.inf,
}


def _family(which: Which) -> Callable[[View, SessionFeature], Built]:
    def build(view: View, f: SessionFeature) -> Built:
        return Built((Extreme(stream_of(view, f, valued=True), frame_of(f), which),), _read)

    return build


def _read(p: Placed) -> str:
    assert isinstance(p.statistic, Extreme)
    return p.statistic.read(p.base, p.frame_slot)


FAMILY: Family = {"min": _family("min"), "max": _family("max")}
