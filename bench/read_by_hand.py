"""The limit of `bench read`: the same 32 numbers of one user, written out without the engine.

It obeys the same meanings (exact sums in units of 2^-60, hopping tiles, decay buckets, sessions) and gives
the same bits, but has no permission, no statuses, no second user and no late event to care for.
"""

from __future__ import annotations

from array import array
from math import exp2

import numpy as np
import numpy.typing as npt

Spec = tuple[str, dict[str, str]]
SERVER = tuple(f"s{n}" for n in range(12))
_WINDOWS = {"5m": 300, "1h": 3_600, "1d": 86_400, "7d": 604_800, "30d": 2_592_000}
WINDOWED: tuple[Spec, ...] = (
    *((f"views_{w}", {"op": "count", "event": "view", "window": w}) for w in _WINDOWS),
    *((f"spent_{w}", {"op": "sum", "event": "buy", "value": "price", "window": w}) for w in _WINDOWS),
)
_HALF_LIVES = {"1m": 60, "10m": 600, "1h": 3_600, "1d": 86_400}
DECAYED: tuple[Spec, ...] = tuple(
    (f"pace_{h}", {"op": "decayed_count", "event": "view", "half_life": h}) for h in _HALF_LIVES
)
SINCE: tuple[Spec, ...] = tuple((f"since_{e}", {"op": "since_last", "event": e}) for e in ("view", "buy"))
_GAPS = {"5m": 300, "30m": 1_800}
SESSIONS: tuple[Spec, ...] = tuple(
    (f"depth_{e}_{g}", {"op": "session_count", "event": e, "gap": g}) for e in ("view", "buy") for g in _GAPS
)
UNIT = 1 << 60
TTL_US = 7 * 86_400_000_000
STOCK_TTL_US = 7_200_000_000


class Window:
    """A total that loses its oldest tiles as time moves on."""

    __slots__ = ("hop_us", "rest", "start", "tile", "tiles", "total")

    def __init__(self, seconds: int, amounts: list[tuple[int, int]], start_us: int) -> None:
        self.hop_us = -(-seconds // 60) * 1_000_000
        self.tiles: dict[int, int] = {}
        for at_us, amount in amounts:
            tile = at_us // self.hop_us
            self.tiles[tile] = self.tiles.get(tile, 0) + amount
        self.start = start_us
        self.rewind()

    def rewind(self) -> None:
        """Back to the first read."""
        self.tile = self.start // self.hop_us
        self.total = sum(n for tile, n in self.tiles.items() if self.tile - 60 < tile <= self.tile)

    def at(self, t_us: int) -> int:
        """The total at `t_us`, which does not fall."""
        tile = t_us // self.hop_us
        if tile != self.tile:
            for gone in range(self.tile - 59, tile - 59):
                self.total -= self.tiles.get(gone, 0)
            self.tile = tile
        return self.total

    def add(self, t_us: int, amount: int) -> int:
        """Take in one more, not before the last; returns the total."""
        self.total = self.at(t_us) + amount
        self.tiles[self.tile] = self.tiles.get(self.tile, 0) + amount
        return self.total


class Decay:
    """Buckets of one half-life, summed once for each bucket that the clock enters."""

    __slots__ = ("bucket", "buckets", "half_us", "whole")

    def __init__(self, seconds: int, times: list[int]) -> None:
        self.half_us = seconds * 1_000_000
        self.buckets: dict[int, int] = {}
        for at_us in times:
            units = round(exp2((at_us % self.half_us) / self.half_us) * UNIT)
            self.buckets[at_us // self.half_us] = self.buckets.get(at_us // self.half_us, 0) + units
        self.bucket, self.whole = -1, 0.0

    def add(self, t_us: int) -> None:
        """Take in one more, not before the last."""
        bucket, units = t_us // self.half_us, round(exp2((t_us % self.half_us) / self.half_us) * UNIT)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + units
        self.bucket = -1
        self.at(t_us)

    def at(self, t_us: int) -> float:
        """The decayed count at `t_us`."""
        bucket = t_us // self.half_us
        if bucket != self.bucket:
            kept = [(b, n) for b, n in self.buckets.items() if b > bucket - 64]
            self.whole = sum(n << (63 - bucket + b) for b, n in kept) / (1 << 123)
            self.bucket = bucket
        return self.whole * exp2(-(t_us % self.half_us) / self.half_us)


class ByHand:
    """One user's state, ready to be read at times that do not fall.

    What no time before `until_us` changes stands in `row`, so a read copies it and works out ten numbers.
    """

    def __init__(
        self,
        server: tuple[float, ...],
        row_at_us: int,
        events: list[tuple[str, int, float]],
        stock: dict[str, tuple[int, tuple[float, ...]]],
    ) -> None:
        self.server, self.row_until_us, self.stock = server, row_at_us + TTL_US, stock
        views = [at for kind, at, _ in events if kind == "view"]
        buys = [(at, round(price * UNIT)) for kind, at, price in events if kind == "buy"]
        start_us = max(at for _, at, _ in events)
        self.counts = [Window(s, [(at, 1) for at in views], start_us) for s in _WINDOWS.values()]
        self.sums = [Window(s, buys, start_us) for s in _WINDOWS.values()]
        self.decays = [Decay(s, views) for s in _HALF_LIVES.values()]
        self.newest_view, self.newest_buy = views[-1], buys[-1][0]
        self.sessions = [
            (times[-1], s * 1_000_000, _run(times, s * 1_000_000))
            for times in (views, [at for at, _ in buys])
            for s in _GAPS.values()
        ]
        self.until_us = 0
        self.row = array("f")

    def rewind(self) -> None:
        """Back to the first read."""
        self.until_us = 0
        for window in (*self.counts, *self.sums):
            window.rewind()

    def view(self, t_us: int) -> None:
        """Take in one more view, after all others and after a read; the row has its counts at once."""
        for n, window in enumerate(self.counts, len(SERVER)):
            self.row[n] = window.add(t_us, 1)
        for decay in self.decays:
            decay.add(t_us)
        self.newest_view = t_us
        for n, (newest, gap, count) in enumerate(self.sessions[: len(_GAPS)]):
            self.sessions[n] = t_us, gap, count + 1 if t_us - newest <= gap else 1

    def _advance(self, t_us: int) -> None:
        windows = (*self.counts, *self.sums)
        totals = [window.at(t_us) for window in windows]
        sums = [total / UNIT for total in totals[len(self.counts) :]]
        self.row = array("f", [*self.server, *totals[: len(self.counts)], *sums, *[0.0] * 10])
        self.until_us = min((t_us // w.hop_us + 1) * w.hop_us for w in windows)

    def vector(self, t_us: int) -> npt.NDArray[np.float32]:
        """The 32 numbers at `t_us`."""
        if t_us > self.row_until_us:
            raise AssertionError("the bench outlived its server row")
        if t_us >= self.until_us:
            self._advance(t_us)
        numbers = array("f", self.row)
        numbers[22:32] = array(
            "f",
            [
                *[decay.at(t_us) for decay in self.decays],
                (t_us - self.newest_view) / 1_000_000,
                (t_us - self.newest_buy) / 1_000_000,
                *[count if t_us - newest <= gap else 0 for newest, gap, count in self.sessions],
            ],
        )
        return np.frombuffer(numbers, dtype=np.float32)

    def matrix(self, t_us: int, items: tuple[str, ...]) -> npt.NDArray[np.float32]:
        """The 32 numbers and three of the item, for each of `items`."""
        stock, numbers = self.stock, array("f")
        for item in items:
            at_us, values = stock[item]
            if t_us > at_us + STOCK_TTL_US:
                raise AssertionError("the bench outlived its item rows")
            numbers.extend(values)
        matrix = np.empty((len(items), 35), dtype=np.float32)
        matrix[:, :32] = self.vector(t_us)
        matrix[:, 32:] = np.frombuffer(numbers, dtype=np.float32).reshape(-1, 3)
        return matrix


def _run(times: list[int], gap_us: int) -> int:
    count = 1
    for n in range(len(times) - 1, 0, -1):
        if times[n] - times[n - 1] > gap_us:
            break
        count += 1
    return count
