"""`count_by` and `top_n`: events for each key, at most `max_keys` keys.

Kept are the keys with the smallest BLAKE2b-64 (then by key) among all keys of the window; the rest is one
overflow count. Each tile keeps its own `max_keys` smallest keys with exact counts, and that is enough: a key
among the smallest of the union is among the smallest of every tile that it occurs in, so none of its events
was ever put into a tile's overflow. A key that left a tile left it to `max_keys` smaller ones, which stay; so
neither the kept set nor a count depends on the order of arrival. Memory: at most tiles * max_keys counts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from edge_runtime.catalog.model import SessionFeature, View
from edge_runtime.session.operators.counts import CountMap as CountMap
from edge_runtime.session.operators.statistic import (
    Built,
    Code,
    Family,
    Frame,
    Placed,
    Slots,
    Stream,
    frame_of,
    needed,
    stream_of,
    unfit,
)


def key_rank(key: str) -> tuple[int, str]:
    """The order in which keys are kept: BLAKE2b-64 of the UTF-8 bytes, then the key."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big"), key


class KeyTile:
    """Counts of one tile: the `max_keys` smallest keys, and how many events had others."""

    __slots__ = ("counts", "overflow", "ranked")

    def __init__(self, counts: dict[str, int] | None = None, overflow: int = 0) -> None:
        self.counts: dict[str, int] = {} if counts is None else counts
        self.overflow = overflow
        self.ranked: list[tuple[int, str]] | None = None
        """The kept keys in order, made when the tile is first full."""

    def enter(self, key: str, max_keys: int) -> tuple[bool, str | None, int]:
        """Count a key not kept so far: (is it kept now, the key that left for it, that key's count)."""
        if len(self.counts) < max_keys:
            self.counts[key] = 1
            if self.ranked is not None:
                insort(self.ranked, key_rank(key))
            return True, None, 0
        if self.ranked is None:
            self.ranked = sorted(map(key_rank, self.counts))
        rank = key_rank(key)
        if rank > self.ranked[-1]:
            self.overflow += 1
            return False, None, 0
        gone = self.ranked.pop()[1]
        self.ranked.insert(bisect_left(self.ranked, rank), rank)
        count = self.counts.pop(gone)
        self.overflow += count
        self.counts[key] = 1
        return True, gone, count


class KeyCounts:
    """The tiles of one window and their union. `counts` is the head tile's dict; `total` the union's.

    Without a window there is one tile, and `total` is its dict.
    """

    __slots__ = ("counts", "head", "max_keys", "overflow", "read", "read_tile", "ring", "total")

    def __init__(self, max_keys: int, tiles: int | None) -> None:
        self.max_keys = max_keys
        self.ring: list[KeyTile | None] = [None] * (tiles or 0)
        self.head = KeyTile()
        self.counts = self.head.counts
        self.total: dict[str, int] = {} if tiles else self.head.counts
        self.overflow = 0
        """Events in the tiles' overflows."""
        self.read: CountMap | None = None
        """The value at tile number `read_tile`, until something changes the state."""
        self.read_tile = 0

    def enter(self, key: str) -> None:
        """Count a key that the head tile does not keep."""
        counts, total = self.counts, self.total
        if len(counts) == self.max_keys or self.head.ranked is not None:
            self._count(self.head, key)
            return
        self.read = None
        counts[key] = 1
        if total is not counts:
            total[key] = total.get(key, 0) + 1

    def late(self, tile: int, head: int, key: str) -> None:
        """Count a key in tile number `tile`, unless it has left the window."""
        if tile == head or not self.ring:
            self._count(self.head, key)
        elif tile > head - len(self.ring):
            slot = tile % len(self.ring)
            place = self.ring[slot]
            if place is None:
                place = self.ring[slot] = KeyTile()
            self._count(place, key)

    def roll(self, old: int, tile: int) -> None:
        """Move the head from tile number `old` to `tile`."""
        ring, tiles = self.ring, len(self.ring)
        self.read = None
        if tile - old >= tiles:
            self.ring, self.total, self.overflow = [None] * tiles, {}, 0
        else:
            ring[old % tiles] = self.head if self.counts or self.head.overflow else None
            for step in range(old + 1, tile + 1):
                if ring[step % tiles] is not None:
                    self._leave(step % tiles)
        self.head = KeyTile()
        self.counts = self.head.counts

    def value_at(self, head: int, tile: int) -> CountMap:
        """The counts at tile number `tile`, not before `head`; the state stays as it is."""
        if self.read is None or self.read_tile != tile:
            self.read, self.read_tile = self._value_at(head, tile), tile
        return self.read

    def _value_at(self, head: int, tile: int) -> CountMap:
        tiles = len(self.ring)
        if tile <= head or not tiles:
            return bounded(self.total, self.overflow, self.max_keys)
        if tile - head >= tiles:
            return CountMap()
        total, overflow = dict(self.total), self.overflow
        for step in range(head + 1, tile + 1):
            gone = self.ring[step % tiles]
            if gone is not None:
                overflow -= gone.overflow
                for key, count in gone.counts.items():
                    _take(total, key, count)
        return bounded(total, overflow, self.max_keys)

    def absorb(self, other: KeyCounts) -> None:
        """Add another's tiles, whose head stands at the same tile."""
        self._absorb_tile(self.head, other.head)
        for slot, theirs in enumerate(other.ring):
            if theirs is not None:
                mine = self.ring[slot]
                if mine is None:
                    mine = self.ring[slot] = KeyTile()
                self._absorb_tile(mine, theirs)

    def _absorb_tile(self, mine: KeyTile, theirs: KeyTile) -> None:
        for key, count in theirs.counts.items():
            self._count(mine, key)
            # The key was counted once: as itself, or in the overflow. The rest goes to the same place.
            if key in mine.counts:
                mine.counts[key] += count - 1
                if self.total is not self.counts:
                    self.total[key] += count - 1
            else:
                mine.overflow += count - 1
                self.overflow += count - 1
        mine.overflow += theirs.overflow
        self.overflow += theirs.overflow

    def _count(self, tile: KeyTile, key: str) -> None:
        self.read = None
        total = self.total
        own = total is not tile.counts
        if key in tile.counts:
            tile.counts[key] += 1
            if own:
                total[key] += 1
            return
        kept, gone, count = tile.enter(key, self.max_keys)
        if not kept:
            self.overflow += 1
            return
        if own:
            total[key] = total.get(key, 0) + 1
        if gone is not None:
            self.overflow += count
            if own:
                _take(total, gone, count)

    def _leave(self, slot: int) -> None:
        gone = self.ring[slot]
        if gone is not None:
            self.ring[slot] = None
            self.overflow -= gone.overflow
            for key, count in gone.counts.items():
                _take(self.total, key, count)


@dataclass(frozen=True)
class Keyed:
    """Counts by key. Slot: a KeyCounts."""

    stream: Stream
    frame: Frame | None
    max_keys: int
    needs_units = False
    sees_all = False
    ordered = False

    def fresh(self) -> list[object]:
        return [KeyCounts(self.max_keys, None if self.frame is None else self.frame.tiles)]

    def ahead(self, base: int, code: Code) -> list[str]:
        both = [] if self.frame is None else [f"    k.total[{code.value}] += 1"]
        return [
            f"k = s[{base}]; c = k.counts",
            f"if {code.value} in c:",
            f"    c[{code.value}] += 1",
            *both,
            "    k.read = None",
            f"else: k.enter({code.value})",
        ]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        if self.frame is None:
            return [f"s[{base}].late(0, 0, {code.value})"]
        hop_us = self.frame.hop_us
        return [f"s[{base}].late(at // {hop_us}, s[{frame_slot}] // {hop_us} - 1, {code.value})"]

    def roll(self, base: int) -> list[str]:
        return [f"s[{base}].roll(old, tile)"]

    def read(self, base: int, frame_slot: int) -> str:
        """An expression for the CountMap at time `t`."""
        if self.frame is None:
            return f"s[{base}].value_at(0, 0)"
        hop_us = self.frame.hop_us
        return f"s[{base}].value_at(s[{frame_slot}] // {hop_us} - 1, t // {hop_us})"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        mine[0].absorb(other[0])
        return mine

    def pack(self, slots: Slots) -> object:
        counts: KeyCounts = slots[0]
        tiles = [[slot, t.counts, t.overflow] for slot, t in enumerate(counts.ring) if t is not None]
        return [counts.head.counts, counts.head.overflow, tiles]

    def unpack(self, packed: Any) -> list[object]:
        slots = self.fresh()
        counts = slots[0]
        assert isinstance(counts, KeyCounts)
        other = KeyCounts(self.max_keys, len(counts.ring) or None)
        other.head = KeyTile(dict(packed[0]), packed[1])
        for slot, tile_counts, overflow in packed[2]:
            other.ring[slot] = KeyTile(dict(tile_counts), overflow)
        counts.absorb(other)
        return slots


def bounded(counts: dict[str, int], overflow: int, max_keys: int) -> CountMap:
    """The `max_keys` smallest keys of `counts`; the others' events are added to `overflow`."""
    if len(counts) <= max_keys:
        return CountMap(counts, overflow)
    kept = sorted(counts, key=key_rank)[:max_keys]
    small = {key: counts[key] for key in kept}
    return CountMap(small, overflow + sum(counts.values()) - sum(small.values()))


def _take(total: dict[str, int], key: str, count: int) -> None:
    if total[key] == count:
        del total[key]
    else:
        total[key] -= count


def _keyed(view: View, f: SessionFeature) -> Keyed:
    if f.by is None:
        raise unfit(view, f, "by", "expected a property or an entity type, got nothing")
    return Keyed(stream_of(view, f)._replace(value=f.by), frame_of(f), f.max_keys)


def _count_by(view: View, f: SessionFeature) -> Built:
    return Built((_keyed(view, f),), _read)


def _top_n(view: View, f: SessionFeature) -> Built:
    n = needed(view, f, "n", f.n)
    return Built((_keyed(view, f),), lambda p: f"{_read(p)}.top({n})")


def _read(p: Placed) -> str:
    assert isinstance(p.statistic, Keyed)
    return p.statistic.read(p.base, p.frame_slot)


FAMILY: Family = {"count_by": _count_by, "top_n": _top_n}
