"""States put together: those of two streams of one entity; one that takes some statistics from another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from typing import Any, cast

from edge_runtime.session.admission import NEVER, ViewState
from edge_runtime.session.identity import Identity
from edge_runtime.session.layout import Layout

Segment = tuple[int, int, list[object]]
"""(oldest, newest, cells) of events without a silence longer than the retention."""


class Joining:
    """Puts states of one layout together.

    Args:
        roll: moves the frame in a slot of some cells to the tile of a time: `roll(slot, cells, at_us)`.
        fresh_cells: the cells before any event.
    """

    def __init__(
        self,
        layout: Layout,
        identities: Sequence[Identity],
        silence_us: int,
        roll: Callable[[int, list[Any], int], None],
        fresh_cells: Callable[[], list[object]],
    ) -> None:
        self._frames, self._silence_us = tuple(layout.frames.values()), silence_us
        self._placed = tuple(zip(layout.placed, identities, strict=True))
        self._roll, self._fresh_cells = roll, fresh_cells

    def merge(self, mine: ViewState, other: ViewState) -> ViewState:
        """The state of both streams together; see `ViewPlan.merge`."""
        parts = sorted((*_segments(mine), *_segments(other)), key=lambda part: part[:2])
        merged = ViewState(self._fresh_cells())
        merged.ids = {**mine.ids, **other.ids}
        merged.waiting = [*mine.waiting, *other.waiting]
        merged.floor_us = max(mine.floor_us, other.floor_us)
        joined: list[Segment] = []
        for oldest, newest, cells in parts:
            if joined and oldest - joined[-1][1] <= self._silence_us:
                first, last, before = joined[-1]
                joined[-1] = (first, max(last, newest), self.cells(before, cells))
            else:
                joined.append((oldest, newest, copy.deepcopy(cells)))
        if joined:
            merged.oldest, merged.newest, merged.cells = joined.pop()
        if joined:
            oldest, newest, cells = joined.pop()
            merged.previous = (newest, oldest, cells)
        return merged

    def cells(self, mine: list[Any], other: list[Any]) -> list[object]:
        """The cells of two segments together; neither is changed."""
        mine, other = copy.deepcopy(mine), copy.deepcopy(other)
        self._align(mine, other)
        for placed, _ in self._placed:
            span = slice(placed.base, placed.base + len(placed.statistic.fresh()))
            mine[span] = placed.statistic.merge(mine[span], other[span])
        return mine

    def graft(self, state: ViewState, missing: Mapping[bytes, int], donor: ViewState) -> ViewState:
        """`state` with the statistics `missing` as `donor` has them; both are used up.

        One that is there with some room (see `Carried.missing`) is put together of both.

        A kind of event that only the donor saw may bridge a silence that ended what came before; then that
        counts again, as after a late event.
        """
        mine, theirs = _segments(state), _segments(donor)
        if len(mine) != 1 or len(theirs) != 1 or _apart_us(mine[0], theirs[0]) > self._silence_us:
            gone = {name for name, room in missing.items() if not room}
            others = {one.name for _, one in self._placed} - missing.keys()
            return self.merge(self._without(state, gone), self._without(donor, others))
        self._align(state.cells, donor.cells)
        for placed, one in self._placed:
            if one.name in missing:
                span = slice(placed.base, placed.base + len(placed.statistic.fresh()))
                made = donor.cells[span]
                whole = placed.statistic.merge(state.cells[span], made) if missing[one.name] else made
                state.cells[span] = whole
        state.oldest, state.newest = min(state.oldest, donor.oldest), max(state.newest, donor.newest)
        state.floor_us = max(state.floor_us, donor.floor_us)
        state.ids |= donor.ids
        state.waiting += donor.waiting
        return state

    def lacking(self, state: ViewState, missing: Mapping[bytes, int]) -> dict[bytes, int]:
        """What of `missing` may lack events: a list that was never full holds all there were."""
        segments = [cells for _, _, cells in _segments(state)]
        bases = {one.name: placed.base for placed, one in self._placed}
        return {
            name: room
            for name, room in missing.items()
            if not room or any(len(cast("Sized", cells[bases[name]])) >= room for cells in segments)
        }

    def _align(self, mine: list[Any], other: list[Any]) -> None:
        """Let every frame of both stand at the same tile."""
        for slot in self._frames:
            end_us = max(mine[slot], other[slot])
            for cells in (mine, other):
                if cells[slot] < end_us:
                    self._roll(slot, cells, end_us - 1)

    def _without(self, state: ViewState, names: Collection[bytes]) -> ViewState:
        """The state as if some statistics had seen no event."""
        found = copy.copy(state)
        found.cells = self._emptied(state.cells, names)
        if state.previous is not None:
            newest, oldest, cells = state.previous
            found.previous = (newest, oldest, self._emptied(cells, names))
        return found

    def _emptied(self, cells: list[object], names: Collection[bytes]) -> list[object]:
        found = list(cells)
        for placed, one in self._placed:
            if one.name in names:
                fresh = placed.statistic.fresh()
                found[placed.base : placed.base + len(fresh)] = fresh
        return found


def _segments(state: ViewState) -> list[Segment]:
    found = [] if state.newest == NEVER else [(state.oldest, state.newest, state.cells)]
    if state.previous is not None:
        newest, oldest, cells = state.previous
        found.append((oldest, newest, cells))
    return found


def _apart_us(one: Segment, other: Segment) -> int:
    """How long the silence between two segments is; not more than 0 where they overlap."""
    return max(one[0], other[0]) - min(one[1], other[1])
