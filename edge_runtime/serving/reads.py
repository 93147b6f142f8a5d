"""What serving asks of the runtime: session values and server rows, all from memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from edge_runtime.serving.status import Status
from edge_runtime.wire.printing import prints_only

if TYPE_CHECKING:
    from edge_runtime.cache.working_set import LiveState


@prints_only("event_time_us", "status", "reason")
class SessionValues(NamedTuple):
    """All features of a session view for one entity at one time, in the view's feature order."""

    values: tuple[object, ...]
    """A `Missing` stands for a feature that has no usable value of its own (WARMING)."""
    event_time_us: int | None
    """Event time of the newest event in them; None when there is none."""
    status: Status = Status.PRESENT
    """Anything but PRESENT: the values may not be used, and `reason` says why."""
    reason: str = ""
    incomplete: Mapping[str, int] = {}
    """Since when every event is counted, by feature; those not named count their whole history."""
    live: LiveState | None = None
    """The state that they were read from; None: they are of this read alone."""
    rows: Mapping[tuple[str, str], ServerRow | Missing] = {}
    """Rows that they were made with, by (view key, typed entity)."""


class ServerRow:
    """The current row of one (entity, view version), as pushed. Never changed once made."""

    __slots__ = ("_ordered", "created_us", "event_time_us", "values")

    def __init__(self, values: Mapping[str, object], event_time_us: int, created_us: int) -> None:
        self.values, self.event_time_us, self.created_us = values, event_time_us, created_us
        self._ordered: Reading | None = None

    @classmethod
    def let_go(cls, event_time_us: int, created_us: int) -> Self:
        """A row whose values are no longer held: its times still tell when it expires."""
        row = cls({}, event_time_us, created_us)
        row._ordered = LET_GO
        return row

    @classmethod
    def absent(cls, asked_us: int) -> Self:
        """What stands for a row that the server did not have when it was asked, at `asked_us`."""
        row = cls({}, asked_us, asked_us)
        row._ordered = ABSENT
        return row

    def in_order(self, names: tuple[str, ...]) -> Reading:
        """The values in the order of the view's features `names`; None for absent and for not finite.

        Kept after the first call: a row is always asked with the names of its own view.
        """
        if self._ordered is None:
            self._ordered = tuple(_usable(self.values.get(name)) for name in names)
        return self._ordered


def _usable(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Missing:
    """No usable row or value, and why."""

    __slots__ = ("reason", "status")

    def __init__(self, status: Status, reason: str) -> None:
        self.status, self.reason = status, reason

    def __repr__(self) -> str:
        return f"Missing({self.status.name}, {self.reason!r})"


Reading = tuple[object, ...] | Missing
"""One view's values for one entity, in feature order, or why there are none."""

LET_GO = Missing(Status.NOT_SYNCED, "let go to keep the size budget")
"""Instead of the values of a row that is known and no longer held; its channel may bring it again."""
ABSENT = Missing(Status.NOT_FOUND, "the server had no such row when it was asked")
"""Instead of values that were asked for in vain; for as long as the view's ttl, as if they were there."""
NOTHING = Missing(Status.NULL, "")
"""A value that is not there in a row or state that is."""


def value_at(reading: Reading, position: int) -> object:
    """The value of one feature, or the `Missing` that says why there is none."""
    if isinstance(reading, Missing):
        return reading
    value = reading[position]
    return NOTHING if value is None else value


class Source(Protocol):
    """Handed in by the runtime: answers from memory, and judges permission at the clock's now."""

    def session_values(self, view_key: str, entity: str, t_us: int) -> SessionValues:
        """Session view `activity@1` of `user:alice` (a composite: `user:alice|item:x`) at `t_us`."""
        ...

    def server_row(self, view_key: str, entity: str) -> ServerRow | Missing:
        """The row held, or REVOKED, NOT_SYNCED, NOT_FOUND with the reason. Serving judges the ttl."""
        ...

    def server_rows(self, view_key: str, entities: Sequence[str]) -> Sequence[ServerRow | Missing]:
        """`server_row` of each."""
        ...
