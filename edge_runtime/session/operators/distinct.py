"""`distinct`: how many different values, exact up to `cap`, then a HyperLogLog.

Values are known by their BLAKE2b-64 alone, so a text of 4 KB takes the room of a number (two of 2048 values
share a hash once in 10^13 windows). Exact or estimated is decided by the set of the window alone.

Without a window: a set of hashes until it holds more than `cap`, then registers only.

In a window the set may shrink again, and must then be exact again. So the cap + 1 hashes of the newest tiles
are kept, each with the newest tile that it occurred in; a hash that has to go (always one of the oldest tile)
goes into the registers of that tile. Why this is enough, for a window whose first tile is f:

- A hash goes from tile e only while cap + 1 are kept, all at tiles >= e. From then on all that is kept lies
  at tiles >= e, and is cap + 1 hashes, until the window leaves e behind: a kept hash only moves to newer
  tiles, is replaced only by one at least as new, and expires only after e has. A hash that comes later for a
  tile up to e is not kept, it goes into its tile's registers at once.
- So if at most `cap` kept hashes lie at f or later, none in the window has ever gone: the count is exact. If
  more do, the set is larger than `cap`: cap + 1 hashes of the window prove it.
- A hash of the window is kept at a tile >= f, or in the registers of a tile >= f; and none is there that is
  not of the window. So the registers of both together are those of the set.

Merging keeps all of this: of two times cap + 1 hashes the newest cap + 1 stay, the others go as above.
Memory: cap + 1 hashes, and 2 KiB for each tile that one went from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.catalog.model import Scalar, SessionFeature, View
from edge_runtime.session.operators.hyperloglog import HyperLogLog, value_hash
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


class ValueSet:
    """A set that only grows: its hashes up to `cap`, then registers."""

    __slots__ = ("cap", "hashes", "sketch")

    def __init__(self, cap: int, values: Iterable[Scalar] = ()) -> None:
        self.cap = cap
        self.hashes: set[int] = set(map(value_hash, values))
        self.sketch: HyperLogLog | None = None
        """Every value's, and then `hashes` is empty; None up to `cap` values."""

    def add(self, value: Scalar) -> None:
        """Add a value."""
        if self.sketch is not None:
            self.sketch.add(value_hash(value))
            return
        self.hashes.add(value_hash(value))
        if len(self.hashes) > self.cap:
            self._outgrow()

    def __iadd__(self, other: ValueSet) -> ValueSet:
        """Add another's values."""
        self.hashes |= other.hashes
        if self.sketch is not None or other.sketch is not None or len(self.hashes) > self.cap:
            self._outgrow()
        if self.sketch is not None and other.sketch is not None:
            self.sketch.absorb(other.sketch)
        return self

    def count(self) -> int:
        """How many values; estimated over `cap`, and then more than `cap`, because that is known."""
        if self.sketch is None:
            return len(self.hashes)
        return max(self.cap + 1, self.sketch.estimate())

    def pack(self) -> object:
        """Plain data for msgpack."""
        return [_to_bytes(self.hashes), None if self.sketch is None else bytes(self.sketch.registers)]

    @classmethod
    def unpack(cls, cap: int, packed: Any) -> ValueSet:
        """The set that `pack` gave.

        Raises:
            ValueError: not what `pack` gives.
        """
        hashes, registers = packed
        found = cls(cap)
        found.hashes = set(_from_bytes(hashes))
        found.sketch = None if registers is None else HyperLogLog(registers)
        return found

    def _outgrow(self) -> None:
        if self.sketch is None:
            self.sketch = HyperLogLog()
        self.sketch.add_all(self.hashes)
        self.hashes = set()


class WindowSet:
    """The values of a window. Tiles are told by number; all methods expect numbers within the window."""

    __slots__ = ("by_tile", "cap", "kept", "noted", "sketches", "tiles")

    def __init__(self, cap: int, tiles: int) -> None:
        self.cap, self.tiles = cap, tiles
        self.kept: dict[int, int] = {}
        """At most cap + 1 hashes, each with the newest tile that it occurred in."""
        self.by_tile: dict[int, set[int]] = {}
        """The same by tile; no tile is empty."""
        self.sketches: dict[int, HyperLogLog] = {}
        """By tile, what went from it."""
        self.noted: tuple[int, HyperLogLog] | None = None
        """From a read: a first tile, and the registers of all from there on, kept up to date."""

    def add(self, tile: int, value: Scalar) -> None:
        """Add a value to a tile."""
        self.put(tile, value_hash(value))

    def late(self, tile: int, head: int, value: Scalar) -> None:
        """Add a value to a tile unless that has left the window whose last tile is `head`."""
        if tile > head - self.tiles:
            self.put(tile, value_hash(value))

    def put(self, tile: int, value: int) -> None:
        """Add a hash to a tile."""
        known = self.kept.get(value)
        if known is None:
            self._enter(tile, value)
        elif tile > known:
            self._leave(known, value)
            self._keep(tile, value)
        else:
            return  # seen as late as this, so every window that has this tile has it already
        if self.noted is not None and tile >= self.noted[0]:
            self.noted[1].add(value)

    def roll(self, old: int, tile: int) -> None:
        """Move the last tile from `old` to `tile`; what leaves the window goes."""
        if tile - old >= self.tiles:
            self.kept, self.by_tile, self.sketches = {}, {}, {}
            return
        for gone in range(old - self.tiles + 1, tile - self.tiles + 1):
            for value in self.by_tile.pop(gone, ()):
                del self.kept[value]
            self.sketches.pop(gone, None)

    def count_at(self, head: int, tile: int) -> int:
        """How many values in the window that ends with `tile`, not before `head`; as `ValueSet.count`."""
        first = tile - self.tiles + 1
        count = len(self.kept)
        if tile > head:
            count = sum(len(values) for at, values in self.by_tile.items() if at >= first)
        if count <= self.cap:
            return count
        if self.noted is None or self.noted[0] != first:
            self.noted = first, self._sketch_from(first)
        return max(self.cap + 1, self.noted[1].estimate())

    def absorb(self, other: WindowSet) -> None:
        """Add another's values, whose window ends with the same tile."""
        for value, tile in other.kept.items():
            self.put(tile, value)
        for tile, sketch in other.sketches.items():
            self.sketches.setdefault(tile, HyperLogLog()).absorb(sketch)
        self.noted = None

    def pack(self) -> object:
        """Plain data for msgpack."""
        kept = [[tile, _to_bytes(values)] for tile, values in sorted(self.by_tile.items())]
        return [kept, [[tile, bytes(one.registers)] for tile, one in sorted(self.sketches.items())]]

    @classmethod
    def unpack(cls, cap: int, tiles: int, packed: Any) -> WindowSet:
        """The set that `pack` gave.

        Raises:
            ValueError: not what `pack` gives.
        """
        kept, sketches = packed
        found = cls(cap, tiles)
        for tile, raw in kept:
            values = _from_bytes(raw)
            found.by_tile[int(tile)] = set(values)
            found.kept.update(dict.fromkeys(values, int(tile)))
        found.sketches = {int(tile): HyperLogLog(registers) for tile, registers in sketches}
        return found

    def _enter(self, tile: int, value: int) -> None:
        if len(self.kept) > self.cap:
            oldest = min(self.by_tile)
            if tile <= oldest:
                self.sketches.setdefault(tile, HyperLogLog()).add(value)
                return
            gone = self.by_tile[oldest].pop()
            if not self.by_tile[oldest]:
                del self.by_tile[oldest]
            del self.kept[gone]
            self.sketches.setdefault(oldest, HyperLogLog()).add(gone)
        self._keep(tile, value)

    def _keep(self, tile: int, value: int) -> None:
        self.kept[value] = tile
        values = self.by_tile.get(tile)
        if values is None:
            self.by_tile[tile] = {value}
        else:
            values.add(value)

    def _leave(self, tile: int, value: int) -> None:
        values = self.by_tile[tile]
        values.remove(value)
        if not values:
            del self.by_tile[tile]

    def _sketch_from(self, first: int) -> HyperLogLog:
        sketch = HyperLogLog()
        for tile, one in self.sketches.items():
            if tile >= first:
                sketch.absorb(one)
        sketch.add_all(value for value, tile in self.kept.items() if tile >= first)
        return sketch


@dataclass(frozen=True)
class Distinct:
    """Different values. Slot: a WindowSet, or a ValueSet without a window."""

    stream: Stream
    frame: Frame | None
    cap: int
    needs_units = False
    sees_all = False
    ordered = False

    def fresh(self) -> list[object]:
        return [ValueSet(self.cap) if self.frame is None else WindowSet(self.cap, self.frame.tiles)]

    def ahead(self, base: int, code: Code) -> list[str]:
        if self.frame is None:
            return [f"s[{base}].add({code.value})"]
        return [f"s[{base}].add(at // {self.frame.hop_us}, {code.value})"]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        if self.frame is None:
            return self.ahead(base, code)
        hop_us = self.frame.hop_us
        return [f"s[{base}].late(at // {hop_us}, s[{frame_slot}] // {hop_us} - 1, {code.value})"]

    def roll(self, base: int) -> list[str]:
        return [f"s[{base}].roll(old, tile)"]

    def read(self, base: int, frame_slot: int) -> str:
        """An expression for the number of values at time `t`."""
        if self.frame is None:
            return f"s[{base}].count()"
        hop_us = self.frame.hop_us
        return f"s[{base}].count_at(s[{frame_slot}] // {hop_us} - 1, t // {hop_us})"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        if self.frame is None:
            mine[0] += other[0]
            return mine
        mine[0].absorb(other[0])
        return mine

    def pack(self, slots: Slots) -> object:
        return slots[0].pack()

    def unpack(self, packed: Any) -> list[object]:
        if self.frame is None:
            return [ValueSet.unpack(self.cap, packed)]
        return [WindowSet.unpack(self.cap, self.frame.tiles, packed)]


def _to_bytes(hashes: Iterable[int]) -> bytes:
    return np.sort(np.fromiter(hashes, dtype=np.uint64)).astype(">u8").tobytes()


def _from_bytes(raw: bytes) -> list[int]:
    found: list[int] = np.frombuffer(raw, dtype=">u8").tolist()
    return found


def _distinct(view: View, f: SessionFeature) -> Built:
    return Built((Distinct(stream_of(view, f, valued=True), frame_of(f), f.cap),), _read)


def _read(p: Placed) -> str:
    assert isinstance(p.statistic, Distinct)
    return p.statistic.read(p.base, p.frame_slot)


FAMILY: Family = {"distinct": _distinct}
