"""`session_count`, `_sum`, `_distinct`, `_duration` and `_start`: the current session.

A session is a run of the feature's own events with no gap longer than `gap_us` (exactly the gap still joins);
`where` decides what is counted, not what keeps a run alive, so duration and start do not ask for it. A late
event may extend a run at either end or join two, so runs that ended at most lateness + gap before the newest
event are kept: those are all that an admitted event can still reach, at most lateness / gap + 2 of them.

What a run holds besides its ends can be added up in any order: a number of events, a sum in units of 2^-60,
or a set of values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edge_runtime.catalog.model import SessionFeature, View
from edge_runtime.session.admission import NEVER
from edge_runtime.session.operators.distinct import ValueSet
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

Run = tuple[int, int, Any]
"""(start, end, content)"""


@dataclass(frozen=True)
class Runs:
    """Events in runs. Slots: end of the current run, its start, its content, the runs before it."""

    stream: Stream
    gap_us: int
    lateness_us: int
    holds: Literal["count", "sum", "values"] = "count"
    cap: int = 0
    """Of a set of values."""
    frame = None
    sees_all = True
    ordered = False

    @property
    def needs_units(self) -> bool:
        """Whether a run holds a sum."""
        return self.holds == "sum"

    def fresh(self) -> list[object]:
        return [NEVER, NEVER, self._nothing(), []]

    def ahead(self, base: int, code: Code) -> list[str]:
        match self.holds:
            case "count":
                line = f"s[{base + 2}] += 1"
            case "sum":
                line = f"s[{base + 2}] += {code.units}"
            case _:
                line = f"s[{base + 2}].add({code.value})"
        begin = f"begin_run(s, {base}, at, {self._reach_us}, {self._empty})"
        return [
            f"if at - s[{base}] > {self.gap_us}: {begin}",
            f"s[{base}] = at",
            line if code.hit == "True" else f"if {code.hit}: {line}",
        ]

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        match self.holds:
            case "count":
                content = "1"
            case "sum":
                content = code.units
            case _:
                content = f"ValueSet({self.cap}, ({code.value},))"
        if code.hit != "True":
            content = f"{content} if {code.hit} else {self._empty}"
        return [f"late_run(s, {base}, at, {content}, {self.gap_us}, {self._reach_us})"]

    def roll(self, base: int) -> list[str]:
        return []

    def read(self, base: int, then: str, otherwise: str) -> str:
        """An expression: `then` while a session is current at time `t`, else `otherwise`."""
        return f"({then} if t - s[{base}] <= {self.gap_us} else {otherwise})"

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        s = self.fresh()
        set_runs(s, 0, [*_runs(mine, 0), *_runs(other, 0)], self.gap_us, self._reach_us)
        return s

    def pack(self, slots: Slots) -> object:
        if self.holds != "values":
            return slots
        end, start, content, older = slots
        return [end, start, content.pack(), [(first, last, values.pack()) for first, last, values in older]]

    def unpack(self, packed: Any) -> list[object]:
        end, start, content, older = packed
        runs = [(first, last, self._unpacked(one)) for first, last, one in older]
        return [end, start, self._unpacked(content), runs]

    def _unpacked(self, content: Any) -> object:
        return ValueSet.unpack(self.cap, content) if self.holds == "values" else content

    def _nothing(self) -> object:
        return ValueSet(self.cap) if self.holds == "values" else 0

    @property
    def _empty(self) -> str:
        return f"ValueSet({self.cap})" if self.holds == "values" else "0"

    @property
    def _reach_us(self) -> int:
        return self.lateness_us + self.gap_us


def begin_run(s: Slots, base: int, at_us: int, reach_us: int, nothing: object) -> None:
    """Set the current run aside and begin one at `at_us` that holds `nothing` yet."""
    older = s[base + 3]
    if s[base] != NEVER:
        older.append((s[base + 1], s[base], s[base + 2]))
    s[base], s[base + 1], s[base + 2] = at_us, at_us, nothing
    if older and older[0][1] < at_us - reach_us:
        s[base + 3] = [run for run in older if run[1] >= at_us - reach_us]


def late_run(s: Slots, base: int, at_us: int, content: Any, gap_us: int, reach_us: int) -> None:
    """Put an event where it belongs; it may join runs."""
    if s[base + 1] <= at_us <= s[base]:
        s[base + 2] += content
    else:
        set_runs(s, base, [*_runs(s, base), (at_us, at_us, content)], gap_us, reach_us)


def set_runs(s: Slots, base: int, runs: list[Run], gap_us: int, reach_us: int) -> None:
    """Join what the gap joins; the last run is the current one, and what nothing can reach goes."""
    if not runs:
        return
    joined: list[Run] = []
    for start, end, content in sorted(runs, key=_start):
        if joined and start - joined[-1][1] <= gap_us:
            first, last, before = joined[-1]
            before += content
            joined[-1] = (first, max(last, end), before)
        else:
            joined.append((start, end, content))
    start, end, content = joined.pop()
    s[base : base + 4] = end, start, content, [run for run in joined if run[1] >= end - reach_us]


def _start(run: Run) -> int:
    return run[0]


def _runs(s: Slots, base: int) -> list[Run]:
    return [] if s[base] == NEVER else [*s[base + 3], (s[base + 1], s[base], s[base + 2])]


FUNCTIONS = {"begin_run": begin_run, "late_run": late_run, "ValueSet": ValueSet}


def _session_count(view: View, f: SessionFeature) -> Built:
    return Built((Runs(stream_of(view, f), *_limits(view, f)),), lambda p: _read(p, f"s[{p.base + 2}]", "0"))


def _session_sum(view: View, f: SessionFeature) -> Built:
    runs = Runs(stream_of(view, f, valued=True), *_limits(view, f), "sum")
    return Built((runs,), lambda p: _read(p, f"s[{p.base + 2}] / UNIT", "0.0"))


def _session_distinct(view: View, f: SessionFeature) -> Built:
    runs = Runs(stream_of(view, f, valued=True), *_limits(view, f), "values", f.cap)
    return Built((runs,), lambda p: _read(p, f"s[{p.base + 2}].count()", "0"))


def _session_duration(view: View, f: SessionFeature) -> Built:
    return Built((_ends(view, f),), lambda p: _read(p, f"(s[{p.base}] - s[{p.base + 1}]) / 1000000", "0.0"))


def _session_start(view: View, f: SessionFeature) -> Built:
    return Built((_ends(view, f),), lambda p: _read(p, f"s[{p.base + 1}]", "None"))


def _ends(view: View, f: SessionFeature) -> Runs:
    """The state of a `session_count` without `where`: runs begin and end for every such feature alike."""
    return Runs(stream_of(view, f)._replace(where=()), *_limits(view, f))


def _limits(view: View, f: SessionFeature) -> tuple[int, int]:
    return needed(view, f, "gap", f.gap_us), view.allowed_lateness_us


def _read(p: Placed, then: str, otherwise: str) -> str:
    assert isinstance(p.statistic, Runs)
    return p.statistic.read(p.base, then, otherwise)


FAMILY: Family = {
    "session_count": _session_count,
    "session_sum": _session_sum,
    "session_distinct": _session_distinct,
    "session_duration": _session_duration,
    "session_start": _session_start,
}
