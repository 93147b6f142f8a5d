"""A row held between reads: what may stay as it was stays, and only what has changed is worked out.

The numbers stand as one float32 array. Beside it stands one deadline: up to it no ttl and no retention ends.
What is no matter of time is asked at every read: whether the permit still holds (law 1), a row was pushed, an
event came. A session view that took in an event, or whose tile has ended, is read again alone, and the rest
of the row stays. The *moving* features (decayed values, `since_*`, the current session) are worked out at
every read. Any doubt, and the whole row is read anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from edge_runtime.consent.permit import Permit
from edge_runtime.serving.answer import Recalled, Statuses, Vector
from edge_runtime.serving.cells import Cell
from edge_runtime.serving.columns import BoundColumn, Plain, Scope
from edge_runtime.serving.evidence import Evidence, Place
from edge_runtime.serving.reads import Missing, Reading, ServerRow, Source
from edge_runtime.session.operators.vector import Resolve
from edge_runtime.session.reading import NEVER_US
from edge_runtime.wire.printing import prints_only

if TYPE_CHECKING:
    from edge_runtime.cache.working_set import LiveState
    from edge_runtime.serving.holding import Holding

Given = Mapping[str, tuple[object, ...]]
ROWS_WATCHED = 1_024
"""Most rows that joins and embeddings looked up; a row that rests on more is read anew after an event."""


class Keeper(Source, Protocol):
    """A source whose answers may be kept, for it says when they are others."""

    rows_changes: int
    holds: Callable[[Permit], bool]

    def permit(self, places: Iterable[Place]) -> Permit | None: ...
    def stands(self, live: LiveState) -> bool: ...
    def same_rows(self, rows: Mapping[Place, ServerRow | Missing]) -> bool: ...
    def resolve(self, view_key: str, heard: Source, t_us: int) -> Resolve | None: ...


class Places(NamedTuple):
    """Where the numbers of one view's settled, or moving, features stand in the row."""

    as_is: tuple[tuple[int, int], ...]
    """(which of the values, number)"""
    run: tuple[Callable[[Any], tuple[Any, ...]], slice] | None
    """The pick of them all, and where they stand one after another; None where they do not."""
    encoded: tuple[tuple[int, int, Plain], ...]
    absent: tuple[int, ...]
    """Which of the values were NULL when the row was read."""
    plain: tuple[tuple[int, BoundColumn], ...]
    """All of these columns, and their first numbers."""
    joined: tuple[tuple[int, BoundColumn], ...]
    """Columns that only `cell` can tell, such as the joins that are made with them."""


NOWHERE = Places((), None, (), (), (), ())
"""Of a view that has no values."""


@prints_only("group", "version")
@dataclass(slots=True, eq=False)
class Part:
    """One session view's part of a row, and what it was read from."""

    group: int
    place: Place
    live: LiveState
    cells: list[object]
    version: int
    newest_us: int
    renewable: bool = False
    """Whether it can be read again alone after an event."""
    embeds: bool = False
    """Whether its features are means of embeddings."""
    until_us: int = NEVER_US
    """From then on what is settled must be read again: a tile has ended."""
    settled: Places = NOWHERE


class Moving(NamedTuple):
    """The moving features of one part."""

    part: Part
    read: Callable[[list[object], int], tuple[object, ...]]
    positions: tuple[int, ...]
    places: Places


@prints_only()
class Told(NamedTuple):
    """What the row was told since it was last renewed, for the explanation of vectors read from it."""

    evidence: Evidence
    ids: Mapping[str, str]
    readings: Sequence[Reading]
    newest_us: Mapping[Place, int | None]
    """Newest events of the session views, as far as they came after the evidence."""
    request_keys: Sequence[str | None]
    """For each group its view's key, where its values are given at the read."""
    moving: Sequence[Moving]

    def recall(self, t_us: int, moved: Sequence[Any], given: Given) -> Recalled:
        """The inputs of one read of this row."""
        readings = self.beside(given)
        for moving, values in zip(self.moving, moved, strict=True):
            reading = readings[moving.part.group]
            assert not isinstance(reading, Missing), "what moves was read"
            placed = list(reading)
            for position, value in zip(moving.positions, values, strict=True):
                placed[position] = value
            readings[moving.part.group] = tuple(placed)
        return Recalled(Scope(self.evidence.after(self.newest_us), self.ids, t_us), readings)

    def beside(self, given: Given) -> list[Reading]:
        """The readings with what was given in its place."""
        both = zip(self.readings, self.request_keys, strict=True)
        return [reading if key is None else given[key] for reading, key in both]


class Asked(NamedTuple):
    """A column whose value is given at the read."""

    column: BoundColumn
    start: int


@prints_only("status", "reason", "ends_us")
@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """One row of a service for some ids; `holding.py` makes it."""

    terms: Holding
    told: Told
    numbers: array[float]
    """float32, every number of the row; those that move stand as they were when it was made."""
    status: Statuses
    reason: tuple[str, ...]
    parts: Sequence[Part]
    permit: Permit
    rows_changes: int
    from_us: int
    """Reads before this time are not answered: the clock was set back."""
    ends_us: int
    """From then on the row must be read anew: a ttl or a retention has ended, or an event waited for it."""

    def vector(self, source: Keeper, t_us: int, given: Given) -> Vector | None:
        """The row at the clock's now; None where it must be read anew."""
        if not self.from_us <= t_us < self.ends_us or not source.holds(self.permit):
            return None
        if self.rows_changes != source.rows_changes:
            if not source.same_rows(self.told.evidence.rows):
                return None
            self.rows_changes = source.rows_changes
        for part in self.parts:
            live = part.live
            as_was = part.version == live.version and part.newest_us == live.state.newest
            if not source.stands(live):
                return None
            if not (as_was and t_us < part.until_us) and not self._renewed(part, source, t_us):
                return None
        numbers, told, moved = array("f", self.numbers), self.told, []
        for part, read, _, places in told.moving:
            values = read(part.cells, t_us)
            if not _written(numbers, values, places):  # a moving feature became, or ceased to be, NULL
                return None
            moved.append(values)
        status, reason = self.status, self.reason
        if self.terms.asked:
            status, reason = self._ask(numbers, given, t_us)
        row = np.frombuffer(numbers, dtype=np.float32)
        return Vector(self.terms.described, row, status, reason, t_us, told, moved, given)

    def _renewed(self, part: Part, source: Keeper, t_us: int) -> bool:
        """Read what is settled in one part again; False where that does not tell all that has changed."""
        live, told = part.live, self.told
        state, paces = live.state, live.plan.paces
        evidence, newest_us = told.evidence, told.newest_us
        if part.version != live.version or part.newest_us != state.newest:
            went_on = part.newest_us <= state.newest <= t_us and not state.waiting
            if not part.renewable or not went_on or len(evidence.rows) > ROWS_WATCHED:
                return False
            part.cells, part.version, part.newest_us = state.cells, live.version, state.newest
            newest_us = {**newest_us, part.place: state.newest}
        if t_us >= part.until_us:
            part.until_us = paces.until_us(t_us)
        watched = len(evidence.rows)
        resolve = source.resolve(part.place[0], evidence, t_us) if part.embeds else None
        values, readings = paces.settled(part.cells, t_us, resolve), list(told.readings)
        readings[part.group] = values
        self.told = Told(evidence, told.ids, readings, newest_us, told.request_keys, told.moving)
        self.from_us, columns = t_us, part.settled.joined
        if not _written(self.numbers, values, part.settled):
            part.settled = self.terms.settled(part.group, live, values)
            columns = (*part.settled.plain, *part.settled.joined)
        for start, column in columns:
            self._put(start, column.cell(Scope(evidence, told.ids, t_us), readings))
        if len(evidence.rows) != watched:
            self.ends_us = min(self.ends_us, self.terms.ends_us(evidence, t_us))
        return True

    def _ask(self, numbers: array[float], given: Given, t_us: int) -> tuple[Statuses, tuple[str, ...]]:
        """Put in what was given at the read; returns the row's statuses and reasons."""
        status, reason = self.status, self.reason
        scope, readings = Scope(self.told.evidence, self.told.ids, t_us), self.told.beside(given)
        for column, start in self.terms.asked:
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


def _written(numbers: array[float], values: Sequence[Any], places: Places) -> bool:
    """Put values in their places; False where one is NULL that was not, or the other way round."""
    try:
        if places.run is not None:
            pick, run = places.run
            numbers[run] = array("f", pick(values))
        else:
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
