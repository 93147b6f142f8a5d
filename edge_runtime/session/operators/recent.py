"""`last`, `last_n` and `since_last`: the newest events by (time, id).

A window needs no tiles here. Those of the newest n events that lie in the window are the newest n of the
window, so one state serves every window and none: a read leaves out what lies before the window's first tile.
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
    Frame,
    Placed,
    Slots,
    Stream,
    frame_of,
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
    ordered = True

    def fresh(self) -> list[object]:
        return [deque(maxlen=self.n)]

    def ahead(self, base: int, code: Code) -> list[str]:
        return [f"s[{base}].append((at, event_id, {code.value}))"]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        return [f"late_recent(s[{base}], (at, event_id, {code.value}))"]

    def roll(self, base: int) -> list[str]:
        return []

    def read_last(self, base: int, window: Frame | None) -> str:
        """An expression for the newest value or None."""
        if window is not None:
            return f"last_since(s[{base}], {window.start})"
        return f"(s[{base}][-1][2] if s[{base}] else None)"

    def read_n(self, base: int, n: int, window: Frame | None) -> str:
        """An expression for the newest `n` values, oldest first."""
        tail = "" if n == self.n else f"[-{n}:]"
        if window is not None:
            return f"values_since(s[{base}], {window.start}){tail}"
        return f"[entry[2] for entry in s[{base}]]{tail}"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        # Lists that both hold an event are those of a state and of the journal behind it: it is in once.
        each = {_order(entry): entry for entry in (*other[0], *mine[0])}
        return [deque((each[order] for order in sorted(each)), maxlen=self.n)]

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
    ordered = False

    def fresh(self) -> list[object]:
        return [NEVER]

    def ahead(self, base: int, code: Code) -> list[str]:
        return [f"s[{base}] = at"]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        return [f"if at > s[{base}]: s[{base}] = at"]

    def roll(self, base: int) -> list[str]:
        return []

    def read_since(self, base: int, window: Frame | None) -> str:
        """An expression for the seconds since the newest event, or None."""
        none = f"s[{base}] == {NEVER}" if window is None else f"s[{base}] < {window.start}"
        return f"(None if {none} else (t - s[{base}]) / 1000000)"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        return [max(mine[0], other[0])]

    def pack(self, slots: Slots) -> object:
        return slots

    def unpack(self, packed: Any) -> list[object]:
        return list(packed)


def late_recent(newest: deque[Entry], entry: Entry) -> None:
    """Put an entry in its place, unless all the places belong to later ones."""
    at_us, event_id, _ = newest[-1] if newest else entry
    if at_us < entry[0] or (at_us == entry[0] and event_id <= entry[1]):
        newest.append(entry)
        return
    if len(newest) == newest.maxlen and _order(entry) < _order(newest[0]):
        return
    entries = list(newest)
    insort(entries, entry, key=_order)
    newest.clear()
    newest.extend(entries)  # beyond maxlen the oldest fall out


def last_since(newest: deque[Entry], first_us: int) -> Any:
    """The newest value, unless it lies before `first_us`; else None."""
    return newest[-1][2] if newest and newest[-1][0] >= first_us else None


def values_since(newest: deque[Entry], first_us: int) -> list[Any]:
    """The values from `first_us` on, oldest first."""
    return [value for at_us, _, value in newest if at_us >= first_us]


def _order(entry: Entry) -> tuple[int, str]:
    return entry[0], entry[1]


FUNCTIONS = {"late_recent": late_recent, "last_since": last_since, "values_since": values_since}


def _last(view: View, f: SessionFeature) -> Built:
    newest, window = Recent(stream_of(view, f, valued=True), 1), frame_of(f)
    return Built((newest,), lambda p: _recent(p).read_last(p.base, window))


def _last_n(view: View, f: SessionFeature) -> Built:
    n, window = needed(view, f, "n", f.n), frame_of(f)
    newest = Recent(stream_of(view, f, valued=True), n)
    return Built((newest,), lambda p: _recent(p).read_n(p.base, n, window))


def _since_last(view: View, f: SessionFeature) -> Built:
    window = frame_of(f)
    return Built((Newest(stream_of(view, f)),), lambda p: _newest(p).read_since(p.base, window))


def _recent(p: Placed) -> Recent:
    assert isinstance(p.statistic, Recent)
    return p.statistic


def _newest(p: Placed) -> Newest:
    assert isinstance(p.statistic, Newest)
    return p.statistic


FAMILY: Family = {"last": _last, "last_n": _last_n, "since_last": _since_last}
