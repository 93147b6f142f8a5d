"""`last`, `last_n` and `since_last`: the newest events by (time, id).

Code points order as UTF-8 bytes do, so ids compare as strings.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass
from typing import Any

from edge_runtime.catalog.model import SessionFeature, View
from edge_runtime.session.admission import NEVER
from edge_runtime.session.operators.statistic import (
    Built,
    Code,
    Family,
    Placed,
    Slots,
    Stream,
    needed,
    stream_of,
)

Entry = tuple[int, str, Any]
"""(time, id, value)"""


@dataclass(frozen=True)
class Recent:
    """The newest `n` values, oldest first. Slot: a deque of (time, id, value) bounded by n."""

    stream: Stream
    n: int
    frame = None
    needs_units = False
    sees_all = False

    def fresh(self) -> list[object]:
        return [deque(maxlen=self.n)]

    def ahead(self, base: int, code: Code) -> list[str]:
        return [f"s[{base}].append((at, event_id, {code.value}))"]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        return [f"late_recent(s[{base}], (at, event_id, {code.value}))"]

    def roll(self, base: int) -> list[str]:
        return []

    def read_last(self, base: int) -> str:
        """An expression for the newest value or None."""
        return f"(s[{base}][-1][2] if s[{base}] else None)"

    def read_n(self, base: int, n: int) -> str:
        """An expression for the newest `n` values, oldest first."""
        tail = "" if n == self.n else f"[-{n}:]"
        return f"[entry[2] for entry in s[{base}]]{tail}"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        return [deque(sorted([*mine[0], *other[0]], key=_order), maxlen=self.n)]

    def pack(self, slots: Slots) -> object:
        return [list(entry) for entry in slots[0]]

    def unpack(self, packed: Any) -> list[object]:
        return [deque(((at, event_id, value) for at, event_id, value in packed), maxlen=self.n)]


@dataclass(frozen=True)
class Newest:
    """Time of the newest event. Slot: microseconds, or NEVER."""

    stream: Stream
    frame = None
    needs_units = False
    sees_all = False

    def fresh(self) -> list[object]:
        return [NEVER]

    def ahead(self, base: int, code: Code) -> list[str]:
        return [f"s[{base}] = at"]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        return [f"if at > s[{base}]: s[{base}] = at"]

    def roll(self, base: int) -> list[str]:
        return []

    def read_since(self, base: int) -> str:
        """An expression for the seconds since the newest event, or None."""
        return f"(None if s[{base}] == {NEVER} else (t - s[{base}]) / 1000000)"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        return [max(mine[0], other[0])]

    def pack(self, slots: Slots) -> object:
        return slots

    def unpack(self, packed: Any) -> list[object]:
        return list(packed)


def late_recent(newest: deque[Entry], entry: Entry) -> None:
    """Put an entry in its place, unless all the places belong to later ones."""
    if len(newest) == newest.maxlen and _order(entry) < _order(newest[0]):
        return
    entries = list(newest)
    insort(entries, entry, key=_order)
    newest.clear()
    newest.extend(entries)  # beyond maxlen the oldest fall out


def _order(entry: Entry) -> tuple[int, str]:
    return entry[0], entry[1]


FUNCTIONS = {"late_recent": late_recent}


def _last(view: View, f: SessionFeature) -> Built:
    return Built((Recent(stream_of(view, f, valued=True), 1),), lambda p: _recent(p).read_last(p.base))


def _last_n(view: View, f: SessionFeature) -> Built:
    n = needed(view, f, "n", f.n)
    return Built((Recent(stream_of(view, f, valued=True), n),), lambda p: _recent(p).read_n(p.base, n))


def _since_last(view: View, f: SessionFeature) -> Built:
    return Built((Newest(stream_of(view, f)),), _read_since)


def _recent(p: Placed) -> Recent:
    assert isinstance(p.statistic, Recent)
    return p.statistic


def _read_since(p: Placed) -> str:
    assert isinstance(p.statistic, Newest)
    return p.statistic.read_since(p.base)


FAMILY: Family = {"last": _last, "last_n": _last_n, "since_last": _since_last}
