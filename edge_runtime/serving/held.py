"""A row held between reads: what may stay as it was stays, and only what time has changed is worked out.

The numbers stand as one float32 array. Beside it stands one deadline: up to it nothing in the array changes
but the *moving* features (decayed values, `since_*`, the current session), which every read works out anew.
Past it, the windows whose tile has ended are read again. What is no matter of time is asked at every read:
whether the permit still holds (law 1), an event came, a row was pushed. Any doubt, and the row is read anew.
A `Held` is never changed; a later one takes its place.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from edge_runtime.consent.permit import Permit
from edge_runtime.serving.answer import Recalled, Statuses, Vector
from edge_runtime.serving.cells import Cell
from edge_runtime.serving.columns import BoundColumn, Plain, Scope
from edge_runtime.serving.evidence import FOREVER_US, Evidence, Place
from edge_runtime.serving.explain import Described
from edge_runtime.serving.reads import Kept, Missing, Reading, ServerRow, Source
from edge_runtime.session.reading import Pace

Given = Mapping[str, tuple[object, ...]]


class Keeper(Source, Protocol):
    """A source whose answers may be kept, for it says when they are others."""

    rows_changes: int
    holds: Callable[[Permit], bool]

    def permit(self, places: Iterable[Place]) -> Permit | None: ...
    def unchanged(self, kept: Kept) -> bool: ...
    def same_rows(self, rows: Mapping[Place, ServerRow | Missing]) -> bool: ...


class Moving(NamedTuple):
    """The moving features of one session view, and where their numbers stand."""

    kept: Kept
    group: int
    pace: Pace
    as_is: tuple[tuple[int, int], ...]
    """(which of the pace's values, number)"""
    encoded: tuple[tuple[int, int, Plain], ...]
    absent: tuple[int, ...]
    """Which of the pace's values were NULL."""


class Tiled(NamedTuple):
    """Features of one session view that change where a tile ends."""

    until_us: int
    kept: Kept
    group: int
    pace: Pace


class Asked(NamedTuple):
    """A column whose value is given at the read."""

    column: BoundColumn
    start: int


@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """One row of a service for some ids; `holding.py` makes it."""

    described: Described
    asked: Sequence[Asked]
    request_keys: Sequence[str | None]
    """For each group its view's key, where its values are given at the read."""
    evidence: Evidence
    ids: Mapping[str, str]
    readings: Sequence[Reading]
    numbers: array[float]
    """float32, every number of the row; those that move stand as they were when it was made."""
    status: Statuses
    reason: tuple[str, ...]
    moving: tuple[Moving, ...]
    tiled: tuple[Tiled, ...]
    kept: tuple[Kept, ...]
    permit: Permit
    rows_changes: int
    from_us: int
    """Reads before this time are not answered: the clock was set back."""
    ends_us: int
    """From then on the row must be read anew: a ttl or a retention has ended."""
    until_us: int = field(init=False)
    """From then on the row must be `turned` before it is read: a tile has ended."""

    def __post_init__(self) -> None:
        self.until_us = min([FOREVER_US, *(one.until_us for one in self.tiled)])

    def stands(self, source: Keeper, now_us: int) -> bool:
        """Whether the row may still be read (or turned) at `now_us`: nothing but time has changed it."""
        if not self.from_us <= now_us < self.ends_us or not source.holds(self.permit):
            return False
        for kept in self.kept:
            if not source.unchanged(kept):
                return False
        if self.rows_changes != source.rows_changes:
            if not source.same_rows(self.evidence.rows):
                return False
            self.rows_changes = source.rows_changes
        return True

    def vector(self, t_us: int, given: Given) -> Vector | None:
        """The row at `t_us`, before `until_us`; None where a moving feature became, or ceased to be, NULL."""
        numbers = array("f", self.numbers)
        moved = []
        try:
            for moving in self.moving:
                values = moving.pace.read(moving.kept.cells, t_us)
                for n, at in moving.as_is:
                    numbers[at] = values[n]  # type: ignore[call-overload]
                for n, at, column in moving.encoded:
                    for number in column.encoder.one(values[n]):
                        numbers[at] = number
                        at += 1
                for n in moving.absent:
                    if values[n] is not None:
                        return None
                moved.append(values)
        except (TypeError, ValueError, OverflowError):
            return None  # no number under its encoding: the long way knows what to say
        status, reason = self.status, self.reason
        if self.asked:
            status, reason = self._ask(numbers, given, t_us)
        row = np.frombuffer(numbers, dtype=np.float32)
        return Vector(self.described, row, status, reason, t_us, self, moved, given)

    def _ask(self, numbers: array[float], given: Given, t_us: int) -> tuple[Statuses, tuple[str, ...]]:
        """Put in what was given at the read; returns the row's statuses and reasons."""
        status, reason = self.status, self.reason
        scope = Scope(self.evidence, self.ids, t_us)
        readings = self._readings(given)
        for column, start in self.asked:
            cell = column.cell(scope, readings)
            end = start + column.width
            numbers[start:end] = array("f", cell.numbers)
            if cell.status != self.status[start] or cell.reason != self.reason[start]:
                status, reason = _patched(status, reason, start, end, cell)
        return status, reason

    def turned(self, t_us: int) -> Held:
        """The row after the windows whose tile has ended by `t_us` were read again."""
        readings, touched = list(self.readings), set()
        tiled: list[Tiled] = []
        for one in self.tiled:
            if one.until_us <= t_us:
                readings[one.group] = _with(readings[one.group], one.pace, one.kept, t_us)
                touched |= {(one.group, position) for position in one.pace.positions}
                one = one._replace(until_us=one.pace.until_us(t_us))
            tiled.append(one)
        other = replace(
            self, readings=readings, tiled=tuple(tiled), numbers=array("f", self.numbers), from_us=t_us
        )
        scope, start = Scope(self.evidence, self.ids, t_us), 0
        for column in self.described.columns:
            if not touched.isdisjoint(column.inputs):
                other._put(start, column.cell(scope, readings))
            start += column.width
        return other

    def _put(self, start: int, cell: Cell) -> None:
        end = start + len(cell.numbers)
        self.numbers[start:end] = array("f", cell.numbers)
        if cell.status != self.status[start] or cell.reason != self.reason[start]:
            self.status, self.reason = _patched(self.status, self.reason, start, end, cell)

    def _readings(self, given: Given) -> list[Reading]:
        both = zip(self.readings, self.request_keys, strict=True)
        return [reading if key is None else given[key] for reading, key in both]

    def recall(self, t_us: int, moved: Sequence[Any], given: Given) -> Recalled:
        """The inputs of one read of this row."""
        readings = self._readings(given)
        for moving, values in zip(self.moving, moved, strict=True):
            readings[moving.group] = _placed(readings[moving.group], moving.pace, values)
        return Recalled(Scope(self.evidence, self.ids, t_us), readings)

    def wipe(self) -> None:
        """Zero the numbers; the row is not to be read again."""
        self.numbers[:] = array("f", bytes(4 * len(self.numbers)))
        self.ends_us = self.from_us


def _placed(reading: Reading, pace: Pace, values: Sequence[object]) -> Reading:
    if isinstance(reading, Missing):
        return reading
    changed = list(reading)
    for position, value in zip(pace.positions, values, strict=True):
        changed[position] = value
    return tuple(changed)


def _with(reading: Reading, pace: Pace, kept: Kept, t_us: int) -> Reading:
    return _placed(reading, pace, pace.read(kept.cells, t_us))


def _patched(
    status: Statuses, reason: tuple[str, ...], start: int, end: int, cell: Cell
) -> tuple[Statuses, tuple[str, ...]]:
    patched = status.copy()
    patched[start:end] = cell.status
    patched.flags.writeable = False
    return patched, (*reason[:start], *(cell.reason,) * (end - start), *reason[end:])
