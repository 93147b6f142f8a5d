"""What an operator's state must offer so that a catalog can be compiled into one update function.

A *statistic* is the state kept for one stream (events, where, value); features that can be read from the
same state share it. Its state lives in `width` consecutive slots of a flat list, so that the generated code
reaches it by constant index. A statistic writes its own lines of that code once, when a catalog is compiled;
at run time nothing is looked up by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from edge_runtime.catalog.model import SessionFeature, View, Where
from edge_runtime.errors import CatalogError, Fault

Slots = list[Any]
"""The flat state of one view; each statistic knows the types of its own slots."""


class Stream(NamedTuple):
    """The events that a statistic sees: their types, the conditions, and the value each must carry."""

    events: tuple[str, ...]
    """Sorted: in which order a feature lists them makes no other stream."""
    where: tuple[Where, ...]
    value: str | None


class Frame(NamedTuple):
    """A window cut into tiles. Its one slot holds the end of the head tile, in microseconds."""

    hop_us: int
    tiles: int

    @property
    def start(self) -> str:
        """An expression for the first microsecond of the window at time `t`."""
        return f"(t // {self.hop_us} - {self.tiles - 1}) * {self.hop_us}"


@dataclass(frozen=True, slots=True)
class Code:
    """Names that a statistic's lines may use: the event's value, as it is and in units of 2^-60."""

    value: str
    units: str
    hit: str
    """For statistics that see every event: whether `where` holds and the value is there; or "True"."""


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

    @property
    def ordered(self) -> bool:
        """Whether events of one time must be told apart by id: then `late` takes those that tie."""
        ...

    def fresh(self) -> list[object]:
        """The slots before any event."""
        ...

    def ahead(self, base: int, code: Code) -> list[str]:
        """Lines for an event later than all the view saw or, where not `ordered`, as late as the newest.

        The frame already stands at its tile.
        """
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


class Placed(NamedTuple):
    """A statistic and its place: first slot, and the slot of its frame (-1 without one)."""

    statistic: Statistic
    base: int
    frame_slot: int


class Built(NamedTuple):
    """What one feature needs and how it is read."""

    statistics: tuple[Statistic, ...]
    read: Callable[..., str]
    """Given a `Placed` for each statistic, an expression over `s` (slots), `t` (read time) and `resolve`.

    The statistic found at that place may be a wider one of the same kind (a longer `Recent`)."""


Family = Mapping[str, Callable[[View, SessionFeature], Built]]
"""What each file of operators exports as `FAMILY`: how each of its operators is built."""


def stream_of(view: View, f: SessionFeature, *, valued: bool = False) -> Stream:
    """The events that a feature sees; with `valued` only those that carry its value.

    Raises:
        CatalogError: a value is needed and the feature names none.
    """
    events = tuple(sorted(set(f.events)))
    if not valued:
        return Stream(events, f.where, None)
    if f.value is None:
        raise unfit(view, f, "value", "expected a property or an entity type, got nothing")
    return Stream(events, f.where, f.value)


def frame_of(f: SessionFeature) -> Frame | None:
    """The feature's window in tiles; None without a window."""
    return None if f.window_us is None else Frame(f.hop_us or 0, f.tiles or 0)


def needed(view: View, f: SessionFeature, key: str, value: int | None) -> int:
    """`value`, which must be there and more than 0.

    Raises:
        CatalogError: it is not.
    """
    if value is None or value <= 0:
        raise unfit(view, f, key, "expected more than 0")
    return value


def unfit(view: View, f: SessionFeature, key: str, reason: str) -> CatalogError:
    """The error for a feature that cannot be built."""
    return CatalogError([Fault(f"views.{view.name}.features.{f.name}.{key}", reason)])
