"""States as bytes: msgpack, never pickle, because bytes from a disk must not choose what runs.

A dump holds its *contents*, a list of the frames and statistics in it by name, before the packed pieces. So a
plan takes from the dump of another what it knows, drops what it does not need and says what is missing.
Sums may exceed 64 bits; such an integer is an extension value of its big-endian two's complement bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgpack

from edge_runtime.errors import StateUnreadable
from edge_runtime.session.admission import NEVER, ViewState, Waiting
from edge_runtime.session.event import from_bytes, to_bytes
from edge_runtime.session.identity import Identity
from edge_runtime.session.layout import Layout
from edge_runtime.session.operators.statistic import Statistic

FORMAT = 2
_BIG_INT = 1
_READERS_KEPT = 8


class Carried(NamedTuple):
    """A state out of a dump, as far as the dump went."""

    state: ViewState
    missing: Mapping[bytes, int]
    """Name -> room of the statistics that the dump had with less room than they have here, 0 for not at all:
    they hold what the dump held, or are as before any event."""
    differs: bool
    """Whether the dump is of another plan: it held more, or less, or with other room."""


class Contents:
    """What a plan's dumps hold, and how a dump of another plan is read under it."""

    def __init__(self, layout: Layout, identities: Sequence[Identity], lateness_us: int) -> None:
        self._layout, self._identities, self._lateness_us = layout, identities, lateness_us
        self._list: bytes = msgpack.packb(
            [lateness_us, [list(frame) for frame in layout.frames], [[i.name, i.room] for i in identities]]
        )
        self._readers: dict[bytes, _Reader] = {}

    def dump(self, state: ViewState) -> bytes:
        """Everything that `state` holds."""
        previous = None
        if state.previous is not None:
            newest, oldest, cells = state.previous
            previous = [newest, oldest, self._pack(cells)]
        packed: bytes = msgpack.packb(
            [
                FORMAT,
                self._list,
                [state.newest, state.oldest, state.floor_us, state.prune_us],
                state.ids,
                [[w.event_id, to_bytes(w.event)] for w in state.waiting],
                self._pack(state.cells),
                previous,
            ],
            default=_big_int,
        )
        return packed

    def carry(self, raw: bytes) -> Carried:
        """What `dump` wrote, under this plan or another one.

        Raises:
            StateUnreadable: damaged, or of another format.
        """
        try:
            return self._carried(msgpack.unpackb(raw, ext_hook=_from_ext))
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
            kind = type(error).__name__
            raise StateUnreadable(f"not a session state ({kind}); rebuild it from events") from None

    def _carried(self, packed: Any) -> Carried:
        version, contents, times, ids, waiting, cells, previous = packed
        if version != FORMAT:
            raise StateUnreadable(f"expected format {FORMAT}, got another; rebuild the state from events")
        reader = self._reader(contents)
        state = ViewState(reader.unpack(cells))
        if not all(isinstance(time_us, int) for time_us in times):
            raise ValueError("a time that is none")
        state.newest, state.oldest, state.floor_us, state.prune_us = times
        state.ids = dict(ids)
        state.waiting = [Waiting(from_bytes(event), event_id) for event_id, event in waiting]
        if previous is not None:
            state.previous = (previous[0], previous[1], reader.unpack(previous[2]))
        if state.newest != NEVER and self._lateness_us > reader.lateness_us:
            # Ids, runs of sessions and what a silence ended were let go of as far as no event could reach
            # them, so what was LATE stays LATE: nothing counts twice, and no session misses a part.
            state.floor_us = max(state.floor_us, state.newest - reader.lateness_us)
        return Carried(state, reader.missing, reader.differs)

    def _reader(self, contents: bytes) -> _Reader:
        """How a dump of these contents is read; kept, for a database holds dumps of few catalogs."""
        found = self._readers.get(contents)
        if found is None:
            lateness_us, frames, statistics = msgpack.unpackb(contents)
            found = _reader(self._layout, self._identities, lateness_us, frames, statistics)
            if len(self._readers) < _READERS_KEPT:
                self._readers[contents] = found
        return found

    def _pack(self, cells: Sequence[Any]) -> list[object]:
        frames: list[object] = [cells[slot] for slot in self._layout.frames.values()]
        return frames + [
            p.statistic.pack(list(cells[p.base : p.base + len(p.statistic.fresh())]))
            for p in self._layout.placed
        ]


class _Reader(NamedTuple):
    """Where in a dump's cells each piece of a layout lies; None for what the dump does not have."""

    lateness_us: int
    frames: tuple[int | None, ...]
    pieces: tuple[tuple[Statistic, int | None], ...]
    pieces_held: int
    missing: Mapping[bytes, int]
    differs: bool

    def unpack(self, packed: Sequence[Any]) -> list[object]:
        """The slots of the layout."""
        if len(packed) != self.pieces_held:
            raise ValueError("another number of statistics")
        cells: list[object] = [NEVER if at is None else packed[at] for at in self.frames]
        for statistic, at in self.pieces:
            cells += statistic.fresh() if at is None else statistic.unpack(packed[at])
        return cells


def _reader(
    layout: Layout, identities: Sequence[Identity], lateness_us: Any, frames: Any, statistics: Any
) -> _Reader:
    if not isinstance(lateness_us, int):
        raise ValueError("a duration that is none")
    frame_at = {(hop_us, tiles): at for at, (hop_us, tiles) in enumerate(frames)}
    held = {name: (len(frames) + at, room) for at, (name, room) in enumerate(statistics)}
    pieces, missing = [], dict[bytes, int]()
    for placed, one in zip(layout.placed, identities, strict=True):
        at, room = held.get(one.name, (None, 0))
        pieces.append((placed.statistic, at))
        if at is None or room < one.room:
            missing[one.name] = room
    return _Reader(
        lateness_us,
        tuple(frame_at.get(frame) for frame in layout.frames),
        tuple(pieces),
        len(frames) + len(statistics),
        missing,
        {(one.name, one.room) for one in identities} != {(name, room) for name, room in statistics},
    )


def _big_int(value: object) -> msgpack.ExtType:
    if not isinstance(value, int):
        raise TypeError(f"a session state holds no {type(value).__name__}")
    return msgpack.ExtType(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _from_ext(code: int, data: bytes) -> int:
    if code != _BIG_INT:
        raise ValueError("an extension value of another kind")
    return int.from_bytes(data, "big", signed=True)
