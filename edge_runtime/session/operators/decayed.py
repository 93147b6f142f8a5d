"""`decayed_count` and `decayed_sum`: each event, or each value, is worth 2^-(age / half_life) of itself.

Time is cut into buckets of one half-life. An event adds 2^frac (frac: its place in its bucket, 0 to 1), for
`decayed_sum` its value times that, in units of 2^-60 to its bucket's integer. The product of value and 2^frac
rounds once to a float, that to units once more, half to even (an int is first the nearest float). At time t,
in bucket B at place f, the decayed value is

    (sum over the last 64 buckets b of units[b] * 2^(b - B)) * 2^-60 * exp2(-f)

where the sum is exact, its conversion to float rounds once and the product once. Events in older buckets are
worth 0 by definition. `rest` holds the older buckets' part scaled by 2^63, so that a read needs no loop. A
read notes its bucket's converted sum and of which head it was made: it holds until the head is another, or
the note is taken away because the ring changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.catalog.model import SessionFeature, View
from edge_runtime.session.admission import NEVER
from edge_runtime.session.exact import SCALE, UNIT_BITS, exp2
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

BUCKETS = 64
TOP = BUCKETS - 1
_UNREAD = (NEVER, 0, 0.0)


@dataclass(frozen=True)
class Decay:
    """Sum of 2^frac for each bucket, times the value if the stream has one.

    Slots: start of the head bucket, head, rest, ring, note."""

    stream: Stream
    half_life_us: int
    frame = None
    needs_units = False
    sees_all = False
    ordered = False

    def fresh(self) -> list[object]:
        return [NEVER, 0, 0, [0] * BUCKETS, _UNREAD]

    def ahead(self, base: int, code: Code) -> list[str]:
        growth = f"exp2((at - s[{base}]) / {self.half_life_us})"
        return [
            f"if at - s[{base}] >= {self.half_life_us}: roll_decay(s, {base}, at, {self.half_life_us})",
            f"s[{base + 1}] += {self._units(growth, code)}",
        ]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        growth = f"exp2(at % {self.half_life_us} / {self.half_life_us})"
        return [f"late_decay(s, {base}, at, {self._units(growth, code)}, {self.half_life_us})"]

    def roll(self, base: int) -> list[str]:
        return []

    def read(self, base: int) -> str:
        """An expression for the value at time `t`."""
        return f"decay_at(s, {base}, t, {self.half_life_us})"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        start = max(mine[0], other[0])
        for slots in (mine, other):
            if slots[0] < start:
                roll_decay(slots, 0, start, self.half_life_us)
        ring = [a + b for a, b in zip(mine[3], other[3], strict=True)]
        return [start, mine[1] + other[1], mine[2] + other[2], ring, _UNREAD]

    def pack(self, slots: Slots) -> object:
        return slots[:4]

    def unpack(self, packed: Any) -> list[object]:
        return [*packed, _UNREAD]

    def _units(self, growth: str, code: Code) -> str:
        if self.stream.value is not None:
            return f"round({code.value} * {growth} * {SCALE!r})"
        # 2^frac * 2^60 is at least 2^60: a whole number already, so `int` loses nothing.
        return f"int({growth} * {SCALE!r})"


def roll_decay(s: Slots, base: int, at_us: int, half_life_us: int) -> None:
    """Move the head to the bucket of `at_us`; what is 64 buckets old or older goes, exactly."""
    bucket, old = at_us // half_life_us, s[base] // half_life_us
    steps, ring = bucket - old, s[base + 3]
    if steps >= BUCKETS:
        s[base : base + 5] = bucket * half_life_us, 0, 0, [0] * BUCKETS, _UNREAD
        return
    ring[old % BUCKETS] = s[base + 1]
    whole = (s[base + 1] << TOP) + s[base + 2] - _leaving(ring, old, steps)
    for step in range(1, steps + 1):
        ring[(old + step) % BUCKETS] = 0
    s[base], s[base + 1], s[base + 2] = bucket * half_life_us, 0, whole >> steps
    s[base + 4] = _UNREAD


def late_decay(s: Slots, base: int, at_us: int, units: int, half_life_us: int) -> None:
    """Add an event's units to its bucket, wherever it lies."""
    if at_us - s[base] >= half_life_us:
        roll_decay(s, base, at_us, half_life_us)
    bucket, head = at_us // half_life_us, s[base] // half_life_us
    if bucket == head:
        s[base + 1] += units
    elif bucket > head - BUCKETS:
        s[base + 3][bucket % BUCKETS] += units
        s[base + 2] += units << (TOP - (head - bucket))
        s[base + 4] = _UNREAD


def decay_at(s: Slots, base: int, t_us: int, half_life_us: int) -> float:
    """The value at `t_us`, which is not before the head bucket; the state keeps its meaning."""
    bucket, place_us = divmod(t_us, half_life_us)
    noted, of_head, whole = s[base + 4]
    # The note keeps its head alive, so the same object is the same number.
    if noted != bucket or of_head is not s[base + 1]:
        whole = _whole(s, base, bucket - s[base] // half_life_us, half_life_us)
        s[base + 4] = bucket, s[base + 1], whole
    value: float = whole * exp2(-place_us / half_life_us)
    return value


def _whole(s: Slots, base: int, steps: int, half_life_us: int) -> float:
    """What all buckets are worth at the start of the one that lies `steps` after the head."""
    if steps >= BUCKETS:
        return 0.0
    units = (s[base + 1] << TOP) + s[base + 2]
    if steps:
        units -= _leaving(s[base + 3], s[base] // half_life_us, steps)
    whole: float = units / (1 << (UNIT_BITS + TOP + steps))
    return whole


def _leaving(ring: list[int], head: int, steps: int) -> int:
    """What the buckets that fall out when the head moves by `steps` are worth, scaled as `rest` is."""
    return sum([ring[(head + step) % BUCKETS] << (step - 1) for step in range(1, steps + 1)])


FUNCTIONS = {"roll_decay": roll_decay, "late_decay": late_decay, "decay_at": decay_at, "exp2": exp2}


def _decayed_count(view: View, f: SessionFeature) -> Built:
    return Built((Decay(stream_of(view, f), needed(view, f, "half_life", f.half_life_us)),), _read)


def _decayed_sum(view: View, f: SessionFeature) -> Built:
    half_life_us = needed(view, f, "half_life", f.half_life_us)
    return Built((Decay(stream_of(view, f, valued=True), half_life_us),), _read)


def _read(p: Placed) -> str:
    assert isinstance(p.statistic, Decay)
    return p.statistic.read(p.base)


FAMILY: Family = {"decayed_count": _decayed_count, "decayed_sum": _decayed_sum}
