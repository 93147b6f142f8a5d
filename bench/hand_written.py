"""The limit of `bench session`: the same 12 features written out by hand for one view, one event type.

What a careful engineer would write without the engine: it obeys the same meanings (dedup, lateness, order by
time and id, exact sums, hopping tiles, decay buckets, sessions that a late event may join) and gives the same
bits, but knows its features by heart and shares nothing with the engine's code.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from math import exp2
from typing import Any

from edge_runtime.session.event import Event

LATENESS = 60_000_000
HORIZON = 120_000_000
RETENTION = 30 * 86_400_000_000
GAP = 1_800_000_000
HALF_LIFE = 600_000_000
HOP_5M, HOP_1H, HOP_1D, HOP_7D = 5_000_000, 60_000_000, 1_440_000_000, 10_080_000_000
TILES = 60
TRIM = 240
MAX_KEYS = 256
LONG_AGO = -(1 << 62)
UNIT = float(1 << 60)
ACCEPTED, DUPLICATE, LATE = 0, 1, 2


class HandWritten:
    """State of one user. Old tiles are dicts by tile number, trimmed when there are many."""

    __slots__ = (
        *("newest", "ids", "prune_at", "end_5m", "end_1h", "end_1d", "end_7d", "n_5m", "n_1h", "n_1d"),
        *("sum_1h", "sum_7d", "dear_1d", "old_5m", "old_1h", "old_1d", "old_7d", "items", "bucket_end"),
        *("bucket", "buckets", "run_start", "run_end", "run_count", "runs", "keys", "key_overflow"),
    )

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nothing seen."""
        self.newest = self.prune_at = LONG_AGO
        self.ids: dict[str, int] = {}
        self.end_5m = self.end_1h = self.end_1d = self.end_7d = self.bucket_end = LONG_AGO
        self.n_5m = self.n_1h = self.n_1d = self.sum_1h = self.sum_7d = self.dear_1d = self.bucket = 0
        self.old_5m: dict[int, int] = {}
        self.old_1h: dict[int, list[int]] = {}
        self.old_1d: dict[int, tuple[list[int], dict[str, int]]] = {}
        self.old_7d: dict[int, int] = {}
        self.items: deque[tuple[int, str, str]] = deque(maxlen=10)
        self.buckets: dict[int, int] = {}
        self.run_start = self.run_end = LONG_AGO
        self.run_count = self.key_overflow = 0
        self.runs: list[tuple[int, int, int]] = []
        self.keys: dict[str, int] = {}

    def track(self, event: Event, event_id: str, now: int) -> int:
        """Judge one event and take it in. Events ahead of now are not part of this bench."""
        at, newest, ids = event.at_us, self.newest, self.ids
        edge = newest if newest < now else now
        if event_id in ids and ids[event_id] >= edge - HORIZON:
            return DUPLICATE
        if at < edge - LATENESS:
            return LATE
        ids[event_id] = at
        if at < newest:
            self._late(event, event_id, at)
            return ACCEPTED
        if newest != LONG_AGO and at - newest > RETENTION:
            self.clear()
            self.ids[event_id] = at
        self.newest = at
        if at >= self.prune_at:
            edge = min(at, now) - HORIZON
            self.ids = {i: t for i, t in self.ids.items() if t >= edge}
            self.prune_at = at + HORIZON
        properties: Mapping[str, Any] = event.properties
        price, category = properties.get("price"), properties.get("category")
        if at >= self.end_5m:
            self._tile_5m(at)
        self.n_5m += 1
        if at >= self.end_1h:
            self._tile_1h(at)
        self.n_1h += 1
        if at >= self.end_1d:
            self._tile_1d(at)
        self.n_1d += 1
        if at >= self.end_7d:
            self._tile_7d(at)
        if price is not None:
            units = round(price * UNIT)
            self.sum_1h += units
            self.sum_7d += units
            if price > 10:
                self.dear_1d += 1
        if category is not None:
            keys = self.keys
            if category in keys:
                keys[category] += 1
            else:
                self.key_overflow += _new_key(keys, category)
        if at > newest:
            self.items.append((at, event_id, event.entities["item"]))
        else:
            self._place_item(at, event_id, event.entities["item"])
        if at >= self.bucket_end:
            self._next_bucket(at)
        self.bucket += int(exp2((at - self.bucket_end + HALF_LIFE) / HALF_LIFE) * UNIT)
        if at - self.run_end > GAP:
            self._next_run(at)
        self.run_end = at
        self.run_count += 1
        return ACCEPTED

    def values(self, t: int) -> tuple[object, ...]:
        """The 12 values at `t`, not before the newest event, in the order of the bench's catalog."""
        if t - self.newest > RETENTION:
            return 0, 0, 0, 0.0, 0.0, 0, None, [], 0.0, 0, ({}, 0), None
        n_5m = sum(n for tile, n in self._tiles_5m() if tile > t // HOP_5M - TILES)
        hour = [pair for tile, pair in self._tiles_1h() if tile > t // HOP_1H - TILES]
        day = [cell for tile, cell in self._tiles_1d() if tile > t // HOP_1D - TILES]
        sum_7d = sum(units for tile, units in self._tiles_7d() if tile > t // HOP_7D - TILES)
        items = [item for _, _, item in self.items]
        return (
            n_5m,
            sum(pair[0] for pair in hour),
            sum(cell[0][0] for cell in day),
            sum(pair[1] for pair in hour) / (1 << 60),
            sum_7d / (1 << 60),
            sum(cell[0][1] for cell in day),
            items[-1] if items else None,
            items,
            self._pace(t),
            self.run_count if t - self.run_end <= GAP else 0,
            _union(day),
            (t - self.newest) / 1_000_000 if items else None,
        )

    def _tiles_5m(self) -> list[tuple[int, int]]:
        return [*self.old_5m.items(), (self.end_5m // HOP_5M - 1, self.n_5m)]

    def _tiles_1h(self) -> list[tuple[int, list[int]]]:
        return [*self.old_1h.items(), (self.end_1h // HOP_1H - 1, [self.n_1h, self.sum_1h])]

    def _tiles_1d(self) -> list[tuple[int, tuple[list[int], dict[str, int]]]]:
        head = ([self.n_1d, self.dear_1d, self.key_overflow], self.keys)
        return [*self.old_1d.items(), (self.end_1d // HOP_1D - 1, head)]

    def _tiles_7d(self) -> list[tuple[int, int]]:
        return [*self.old_7d.items(), (self.end_7d // HOP_7D - 1, self.sum_7d)]

    def _tile_5m(self, at: int) -> None:
        tile = at // HOP_5M
        self.old_5m[self.end_5m // HOP_5M - 1] = self.n_5m
        if len(self.old_5m) > TRIM:
            self.old_5m = {n: v for n, v in self.old_5m.items() if n > tile - TILES}
        self.n_5m, self.end_5m = 0, (tile + 1) * HOP_5M

    def _tile_1h(self, at: int) -> None:
        tile = at // HOP_1H
        self.old_1h[self.end_1h // HOP_1H - 1] = [self.n_1h, self.sum_1h]
        if len(self.old_1h) > TRIM:
            self.old_1h = {n: v for n, v in self.old_1h.items() if n > tile - TILES}
        self.n_1h, self.sum_1h, self.end_1h = 0, 0, (tile + 1) * HOP_1H

    def _tile_1d(self, at: int) -> None:
        tile = at // HOP_1D
        self.old_1d[self.end_1d // HOP_1D - 1] = ([self.n_1d, self.dear_1d, self.key_overflow], self.keys)
        if len(self.old_1d) > TRIM:
            self.old_1d = {n: v for n, v in self.old_1d.items() if n > tile - TILES}
        self.n_1d, self.dear_1d, self.key_overflow, self.keys = 0, 0, 0, {}
        self.end_1d = (tile + 1) * HOP_1D

    def _tile_7d(self, at: int) -> None:
        tile = at // HOP_7D
        self.old_7d[self.end_7d // HOP_7D - 1] = self.sum_7d
        if len(self.old_7d) > TRIM:
            self.old_7d = {n: v for n, v in self.old_7d.items() if n > tile - TILES}
        self.sum_7d, self.end_7d = 0, (tile + 1) * HOP_7D

    def _next_bucket(self, at: int) -> None:
        bucket = at // HALF_LIFE
        self.buckets[self.bucket_end // HALF_LIFE - 1] = self.bucket
        if len(self.buckets) > TRIM:
            self.buckets = {b: v for b, v in self.buckets.items() if b > bucket - 64}
        self.bucket, self.bucket_end = 0, (bucket + 1) * HALF_LIFE

    def _next_run(self, at: int) -> None:
        if self.run_end != LONG_AGO:
            self.runs.append((self.run_start, self.run_end, self.run_count))
        self.runs = [run for run in self.runs if run[1] >= at - GAP - LATENESS]
        self.run_start, self.run_count = at, 0

    def _late(self, event: Event, event_id: str, at: int) -> None:
        """An event before the newest one: every piece finds its own place for it."""
        price, category = event.properties.get("price"), event.properties.get("category")
        units, dear = (round(price * UNIT), int(price > 10)) if isinstance(price, float) else (0, 0)
        if at // HOP_5M == self.end_5m // HOP_5M - 1:
            self.n_5m += 1
        else:
            self.old_5m[at // HOP_5M] = self.old_5m.get(at // HOP_5M, 0) + 1
        if at // HOP_1H == self.end_1h // HOP_1H - 1:
            self.n_1h, self.sum_1h = self.n_1h + 1, self.sum_1h + units
        else:
            pair = self.old_1h.setdefault(at // HOP_1H, [0, 0])
            pair[0], pair[1] = pair[0] + 1, pair[1] + units
        if at // HOP_7D == self.end_7d // HOP_7D - 1:
            self.sum_7d += units
        else:
            self.old_7d[at // HOP_7D] = self.old_7d.get(at // HOP_7D, 0) + units
        self._late_1d(at, dear, category)
        self._late_bucket(at)
        self._place_item(at, event_id, event.entities["item"])
        self._late_run(at)

    def _place_item(self, at: int, event_id: str, item: str) -> None:
        items = self.items
        if not items or items[-1] < (at, event_id, item):
            items.append((at, event_id, item))
            return
        ordered = list(items)
        insort(ordered, (at, event_id, item))
        self.items = deque(ordered[-10:], maxlen=10)

    def _late_1d(self, at: int, dear: int, category: object) -> None:
        if at // HOP_1D == self.end_1d // HOP_1D - 1:
            self.n_1d, self.dear_1d, keys = self.n_1d + 1, self.dear_1d + dear, self.keys
            overflow = _add_key(keys, category)
            self.key_overflow += overflow
            return
        numbers, keys = self.old_1d.setdefault(at // HOP_1D, ([0, 0, 0], {}))
        numbers[0], numbers[1] = numbers[0] + 1, numbers[1] + dear
        numbers[2] += _add_key(keys, category)

    def _late_bucket(self, at: int) -> None:
        bucket = at // HALF_LIFE
        units = int(exp2((at - bucket * HALF_LIFE) / HALF_LIFE) * UNIT)
        if bucket == self.bucket_end // HALF_LIFE - 1:
            self.bucket += units
        else:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + units

    def _late_run(self, at: int) -> None:
        joined: list[tuple[int, int, int]] = []
        for run in sorted([*self.runs, (self.run_start, self.run_end, self.run_count), (at, at, 1)]):
            if joined and run[0] - joined[-1][1] <= GAP:
                start, end, count = joined.pop()
                run = (start, max(end, run[1]), count + run[2])
            joined.append(run)
        self.run_start, self.run_end, self.run_count = joined.pop()
        self.runs = joined

    def _pace(self, t: int) -> float:
        now = t // HALF_LIFE
        buckets = [*self.buckets.items(), (self.bucket_end // HALF_LIFE - 1, self.bucket)]
        whole = sum(units << (63 - now + b) for b, units in buckets if b > now - 64)
        return whole / (1 << 123) * exp2(-(t % HALF_LIFE) / HALF_LIFE)


def _add_key(keys: dict[str, int], key: object) -> int:
    """Count a key in a tile; returns what went to the overflow."""
    if not isinstance(key, str):
        return 0
    if key in keys:
        keys[key] += 1
        return 0
    return _new_key(keys, key)


def _new_key(keys: dict[str, int], key: str) -> int:
    keys[key] = 1
    return keys.pop(max(keys, key=_rank)) if len(keys) > MAX_KEYS else 0


def _rank(key: str) -> tuple[bytes, str]:
    return blake2b(key.encode(), digest_size=8).digest(), key


def _union(day: list[tuple[list[int], dict[str, int]]]) -> tuple[dict[str, int], int]:
    total: dict[str, int] = {}
    for _, keys in day:
        for key, count in keys.items():
            total[key] = total.get(key, 0) + count
    overflow = sum(numbers[2] for numbers, _ in day)
    gone = sorted(total, key=_rank)[MAX_KEYS:] if len(total) > MAX_KEYS else []
    return total, overflow + sum(total.pop(key) for key in gone)
