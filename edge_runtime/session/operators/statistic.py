"""What an operator's state must offer so that a catalog can be compiled into one update function.

A *statistic* is the state kept for one stream (events, where, value); features that can be read from the
same state share it. Its state lives in `width` consecutive slots of a flat list, so that the generated code
reaches it by constant index. A statistic writes its own lines of that code once, when a catalog is compiled;
at run time nothing is looked up by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from edge_runtime.catalog.model import Where

Slots = list[Any]
"""The flat state of one view; each statistic knows the types of its own slots."""


class Stream(NamedTuple):
    """The events that a statistic sees: their types, the conditions, and the value each must carry."""

    events: tuple[str, ...]
    where: tuple[Where, ...]
    value: str | None


class Frame(NamedTuple):
    """A window cut into tiles. Its one slot holds the end of the head tile, in microseconds."""

    hop_us: int
    tiles: int


@dataclass(frozen=True, slots=True)
class Code:
    """Names that a statistic's lines may use: the event's value, as it is and in units of 2^-60."""

    value: str
    units: str
    hit: str
    """Name of the `where` condition's outcome, for statistics that see every event; "True" without one."""


class Statistic(Protocol):
    """One piece of state. Frozen; equal statistics share their slots."""

    @property
    def stream(self) -> Stream: ...

    @property
    def frame(self) -> Frame | None:
        """The window it is tiled by; None for all time."""
        ...

    @property
    def needs_units(self) -> bool:
        """Whether its lines use `Code.units`."""
        ...

    @property
    def sees_all(self) -> bool:
        """Whether it sees events that fail `where` too (sessions: `where` does not end one)."""
        ...

    def fresh(self) -> list[object]:
        """The slots before any event."""
        ...

    def ahead(self, base: int, code: Code) -> list[str]:
        """Lines for an event later than all seen by the view; the frame already stands at its tile."""
        ...

    def late(self, base: int, frame_slot: int, code: Code) -> list[str]:
        """Lines for an event at or before the newest; it may belong anywhere."""
        ...

    def roll(self, base: int) -> list[str]:
        """Lines that move the head from tile `old` to the later tile `tile`."""
        ...

    def merge(self, mine: Slots, other: Slots) -> list[object]:
        """The slots of both streams together; frames already stand at the same tile."""
        ...

    def pack(self, slots: Slots) -> object:
        """The slots as plain data for msgpack; sums may be integers of any size."""
        ...

    def unpack(self, packed: Any) -> list[object]:
        """The slots that `pack` gave."""
        ...
