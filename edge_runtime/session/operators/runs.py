"""`session_count`: events of the current session.

A session is a run of the feature's own events with no gap longer than `gap_us` (exactly the gap still joins);
`where` decides what is counted, not what keeps a run alive. A late event may extend a run at either end or
join two, so runs that ended at most lateness + gap before the newest event are kept: those are all that an
admitted event can still reach, at most lateness / gap + 2 of them.
"""

from __future__ import annotations

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

Run = tuple[int, int, int]
"""(start, end, count)"""


@dataclass(frozen=True)
class Runs:
    """Events in runs. Slots: end of the current run, its start, its count, the runs before it."""

    stream: Stream
    gap_us: int
    lateness_us: int
    frame = None
    needs_units = False
    sees_all = True

    def fresh(self) -> list[object]:
        return [NEVER, NEVER, 0, []]

    def ahead(self, base: int, code: Code) -> list[str]:
        count = f"s[{base + 2}] += 1"
        return [
            f"if at - s[{base}] > {self.gap_us}: begin_run(s, {base}, at, {self._reach_us})",
            f"s[{base}] = at",
            count if code.hit == "True" else f"if {code.hit}: {count}",
        ]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        hit = "1" if code.hit == "True" else f"1 if {code.hit} else 0"
        return [f"late_run(s, {base}, at, {hit}, {self.gap_us}, {self._reach_us})"]

    def roll(self, base: int) -> list[str]:
        return []

    def read(self, base: int) -> str:
        """An expression for the count of the session that is current at time `t`."""
        return f"(s[{base + 2}] if t - s[{base}] <= {self.gap_us} else 0)"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        s = self.fresh()
        set_runs(s, 0, [*_runs(mine, 0), *_runs(other, 0)], self.gap_us, self._reach_us)
        return s

    def pack(self, slots: Slots) -> object:
        return slots

    def unpack(self, packed: Any) -> list[object]:
        end, start, count, older = packed
        return [end, start, count, [tuple(run) for run in older]]

    @property
    def _reach_us(self) -> int:
        return self.lateness_us + self.gap_us


def begin_run(s: Slots, base: int, at_us: int, reach_us: int) -> None:
    """Set the current run aside and begin one at `at_us`, with no event counted yet."""
    older = s[base + 3]
    if s[base] != NEVER:
        older.append((s[base + 1], s[base], s[base + 2]))
    s[base], s[base + 1], s[base + 2] = at_us, at_us, 0
    if older and older[0][1] < at_us - reach_us:
        s[base + 3] = [run for run in older if run[1] >= at_us - reach_us]


def late_run(s: Slots, base: int, at_us: int, hit: int, gap_us: int, reach_us: int) -> None:
    """Put an event where it belongs; it may join runs."""
    if s[base + 1] <= at_us <= s[base]:
        s[base + 2] += hit
    else:
        set_runs(s, base, [*_runs(s, base), (at_us, at_us, hit)], gap_us, reach_us)


def set_runs(s: Slots, base: int, runs: list[Run], gap_us: int, reach_us: int) -> None:
    """Join what the gap joins; the last run is the current one, and what nothing can reach goes."""
    if not runs:
        return
    joined: list[Run] = []
    for start, end, count in sorted(runs):
        if joined and start - joined[-1][1] <= gap_us:
            first, last, before = joined[-1]
            joined[-1] = (first, max(last, end), before + count)
        else:
            joined.append((start, end, count))
    start, end, count = joined.pop()
    s[base : base + 4] = end, start, count, [run for run in joined if run[1] >= end - reach_us]


def _runs(s: Slots, base: int) -> list[Run]:
    return [] if s[base] == NEVER else [*s[base + 3], (s[base + 1], s[base], s[base + 2])]


FUNCTIONS = {"begin_run": begin_run, "late_run": late_run}


def _session_count(view: View, f: SessionFeature) -> Built:
    gap_us = needed(view, f, "gap", f.gap_us)
    return Built((Runs(stream_of(view, f), gap_us, view.allowed_lateness_us),), _read)


def _read(p: Placed) -> str:
    assert isinstance(p.statistic, Runs)
    return p.statistic.read(p.base)


FAMILY: Family = {"session_count": _session_count}
