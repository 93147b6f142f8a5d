"""A row held between reads: what may stay as it was stays, and only what time has changed is worked out.

The numbers stand as one float32 array. Beside it stands one deadline: up to it nothing in the array changes
but the *moving* features (decayed values, `since_*`, the current session), which every read works out anew.
Past it, the windows whose tile has ended are read again. What is no matter of time is asked at every read:
whether the permit still holds (law 1), an event came, a row was pushed. Any doubt, and the row is read anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from edge_runtime.consent.permit import Permit
from edge_runtime.serving.answer import Recalled, Statuses, Vector
from edge_runtime.serving.cells import Cell
from edge_runtime.serving.columns import BoundColumn, Plain, Scope
from edge_runtime.serving.evidence import Evidence, Place
from edge_runtime.serving.explain import Described
from edge_runtime.serving.reads import Kept, Missing, Reading, ServerRow, Source
from edge_runtime.session.reading import Pace

Given = Mapping[str, tuple[object, ...]]
ReadOnce = tuple[Kept, ...]
"""What a row that is not held was read from. Holding a row costs more than reading it once, so only one that
is read again unchanged is held: an app that reads once after every event pays nothing for it."""


class Keeper(Source, Protocol):
    """A source whose answers may be kept, for it says when they are others."""

    rows_changes: int
    holds: Callable[[Permit], bool]

    def permit(self, places: Iterable[Place]) -> Permit | None: ...
    def unchanged(self, kept: Kept) -> bool: ...
    def same_rows(self, rows: Mapping[Place, ServerRow | Missing]) -> bool: ...


class Places(NamedTuple):
    """Where the numbers of one pace's features stand in the row."""

    as_is: tuple[tuple[int, int], ...]
    """(which of the pace's values, number)"""
    run: slice | None
    """Where all values stand as they are, one after another; None where they do not."""
    encoded: tuple[tuple[int, int, Plain], ...]
    absent: tuple[int, ...]
    """Which of the pace's values were NULL when the row was read."""
    plain: tuple[tuple[int, BoundColumn], ...]
    """All of these columns, and their first numbers."""
    joined: tuple[tuple[int, BoundColumn], ...]
    """Columns that only `cell` can tell, such as the joins that are made with them."""


class Moving(NamedTuple):
    """The moving features of one session view."""

    kept: Kept
    group: int
    pace: Pace
    places: Places


class Tiled(NamedTuple):
    """Features of one session view that change where a tile ends."""

    until_us: int
    kept: Kept
    group: int
    pace: Pace
    places: Places


class Asked(NamedTuple):
    """A column whose value is given at the read."""

    column: BoundColumn
    start: int


class Told(NamedTuple):
    """What the row was told up to the next tile's end, for the explanation of vectors read from it."""

    evidence: Evidence
    ids: Mapping[str, str]
    readings: tuple[Reading, ...]
    request_keys: Sequence[str | None]
    """For each group its view's key, where its values are given at the read."""
    moving: tuple[Moving, ...]

    def recall(self, t_us: int, moved: Sequence[Any], given: Given) -> Recalled:
        """The inputs of one read of this row."""
        readings = self.beside(given)
        for moving, values in zip(self.moving, moved, strict=True):
            readings[moving.group] = _placed(readings[moving.group], moving.pace, values)
        return Recalled(Scope(self.evidence, self.ids, t_us), readings)

    def beside(self, given: Given) -> list[Reading]:
        """The readings with what was given in its place."""
        both = zip(self.readings, self.request_keys, strict=True)
        return [reading if key is None else given[key] for reading, key in both]


@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """One row of a service for some ids; `holding.py` makes it."""

    described: Described
    told: Told
    asked: Sequence[Asked]
    numbers: array[float]
    """float32, every number of the row; those that move stand as they were when it was made."""
    status: Statuses
    reason: tuple[str, ...]
    tiled: list[Tiled]
    kept: tuple[Kept, ...]
    permit: Permit
    rows_changes: int
    from_us: int
    """Reads before this time are not answered: the clock was set back."""
    ends_us: int
    """From then on the row must be read anew: a ttl or a retention has ended."""
    until_us: int
    """From then on the row must `turn` before it is read: a tile has ended."""

    def stands(self, source: Keeper, now_us: int) -> bool:
        """Whether the row may still be read (or turned) at `now_us`: nothing but time has changed it."""
        if not self.from_us <= now_us < self.ends_us or not source.holds(self.permit):
            return False
        for kept in self.kept:
            if not source.unchanged(kept):
                return False
        if self.rows_changes != source.rows_changes:
            if not source.same_rows(self.told.evidence.rows):
                return False
            self.rows_changes = source.rows_changes
        return True

    def vector(self, t_us: int, given: Given) -> Vector | None:
        """The row at `t_us`, before `until_us`; None where a moving feature became, or ceased to be, NULL."""
        numbers, told = array("f", self.numbers), self.told
        moved = []
        for kept, _, pace, places in told.moving:
            values = pace.read(kept.cells, t_us)
            if not _written(numbers, values, places):
                return None
            moved.append(values)
        status, reason = self.status, self.reason
        if self.asked:
            status, reason = self._ask(numbers, given, t_us)
        row = np.frombuffer(numbers, dtype=np.float32)
        return Vector(self.described, row, status, reason, t_us, told, moved, given)

    def turn(self, t_us: int) -> None:
        """Read the windows again whose tile has ended by `t_us`."""
        readings = list(self.told.readings)
        touched: list[tuple[int, BoundColumn]] = []
        for n, (until_us, kept, group, pace, places) in enumerate(self.tiled):
            if until_us <= t_us:
                values = pace.read(kept.cells, t_us)
                readings[group] = _placed(readings[group], pace, values)
                if not _written(self.numbers, values, places):  # from now on by the long way
                    places = Places((), None, (), (), (), (*places.plain, *places.joined))
                touched += places.joined
                self.tiled[n] = Tiled(pace.until_us(t_us), kept, group, pace, places)
        self.told = self.told._replace(readings=tuple(readings))
        self.from_us, self.until_us = t_us, min([one.until_us for one in self.tiled])
        scope = Scope(self.told.evidence, self.told.ids, t_us)
        for start, column in touched:
            self._put(start, column.cell(scope, self.told.readings))

    def _ask(self, numbers: array[float], given: Given, t_us: int) -> tuple[Statuses, tuple[str, ...]]:
        """Put in what was given at the read; returns the row's statuses and reasons."""
        status, reason = self.status, self.reason
        scope, readings = Scope(self.told.evidence, self.told.ids, t_us), self.told.beside(given)
        for column, start in self.asked:
            cell = column.cell(scope, readings)
            end = start + column.width
            numbers[start:end] = array("f", cell.numbers)
            if cell.status != self.status[start] or cell.reason != self.reason[start]:
                status, reason = _patched(status, reason, start, end, cell)
        return status, reason

    def _put(self, start: int, cell: Cell) -> None:
        end = start + len(cell.numbers)
        self.numbers[start:end] = array("f", cell.numbers)
        if cell.status != self.status[start] or cell.reason != self.reason[start]:
            self.status, self.reason = _patched(self.status, self.reason, start, end, cell)

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


def _written(numbers: array[float], values: Sequence[Any], places: Places) -> bool:
    """Put a pace's values in their places; False where one is NULL that was not, or the other way round."""
    try:
        if places.run is not None:
            numbers[places.run] = array("f", values)
            return True
        for n, at in places.as_is:
            numbers[at] = values[n]
        for n, at, column in places.encoded:
            encoded = array("f", column.encoder.one(values[n]))
            numbers[at : at + len(encoded)] = encoded
    except (TypeError, ValueError, OverflowError):  # None, or no number under its encoding
        return False
    return not places.absent or all(values[n] is None for n in places.absent)


def _patched(
    status: Statuses, reason: tuple[str, ...], start: int, end: int, cell: Cell
) -> tuple[Statuses, tuple[str, ...]]:
    patched = status.copy()
    patched[start:end] = cell.status
    patched.flags.writeable = False
    return patched, (*reason[:start], *(cell.reason,) * (end - start), *reason[end:])
