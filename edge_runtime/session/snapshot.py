"""States as bytes: msgpack, never pickle, because bytes from a disk must not choose what runs.

Sums may exceed 64 bits; such an integer is an extension value of its big-endian two's complement bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from edge_runtime.errors import StateUnreadable
from edge_runtime.session.admission import ViewState, Waiting
from edge_runtime.session.event import from_bytes, to_bytes
from edge_runtime.session.layout import Layout

FORMAT = 1
_BIG_INT = 1


def dump_state(state: ViewState, layout: Layout, fingerprint: bytes) -> bytes:
    """Everything that `state` holds, under the fingerprint of the definitions that shaped it."""
    previous = None
    if state.previous is not None:
        newest, oldest, cells = state.previous
        previous = [newest, oldest, _pack_cells(cells, layout)]
    packed: bytes = msgpack.packb(
        [
            FORMAT,
            fingerprint,
            [state.newest, state.oldest, state.floor_us, state.prune_us],
            state.ids,
            [[w.event_id, to_bytes(w.event)] for w in state.waiting],
            _pack_cells(state.cells, layout),
            previous,
        ],
        default=_big_int,
    )
    return packed


def load_state(raw: bytes, layout: Layout, fingerprint: bytes) -> ViewState:
    """The state that `dump_state` wrote.

    Raises:
        StateUnreadable: damaged, of another format, or made under other definitions.
    """
    try:
        return _unpacked(msgpack.unpackb(raw, ext_hook=_from_ext), layout, fingerprint)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        kind = type(error).__name__
        raise StateUnreadable(f"not a session state ({kind}); rebuild it from events") from None


def _unpacked(packed: Any, layout: Layout, fingerprint: bytes) -> ViewState:
    version, definitions, times, ids, waiting, cells, previous = packed
    if version != FORMAT:
        raise StateUnreadable(f"expected format {FORMAT}, got another; rebuild the state from events")
    if definitions != fingerprint:
        raise StateUnreadable("the state was made under other definitions; rebuild it from events")
    state = ViewState(_unpack_cells(cells, layout))
    if not all(isinstance(time_us, int) for time_us in times):
        raise ValueError("a time that is none")
    state.newest, state.oldest, state.floor_us, state.prune_us = times
    state.ids = dict(ids)
    state.waiting = [Waiting(from_bytes(event), event_id) for event_id, event in waiting]
    if previous is not None:
        state.previous = (previous[0], previous[1], _unpack_cells(previous[2], layout))
    return state


def _pack_cells(cells: Sequence[Any], layout: Layout) -> list[object]:
    frames: list[object] = [cells[slot] for slot in layout.frames.values()]
    return frames + [
        p.statistic.pack(list(cells[p.base : p.base + len(p.statistic.fresh())])) for p in layout.placed
    ]


def _unpack_cells(packed: Sequence[Any], layout: Layout) -> list[object]:
    if len(packed) != len(layout.frames) + len(layout.placed):
        raise ValueError("another number of statistics")
    cells = list(packed[: len(layout.frames)])
    for placed, one in zip(layout.placed, packed[len(layout.frames) :], strict=True):
        cells += placed.statistic.unpack(one)
    return cells


def _big_int(value: object) -> msgpack.ExtType:
    if not isinstance(value, int):
        raise TypeError(f"a session state holds no {type(value).__name__}")
    return msgpack.ExtType(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _from_ext(code: int, data: bytes) -> int:
    if code != _BIG_INT:
        raise ValueError("an extension value of another kind")
    return int.from_bytes(data, "big", signed=True)
