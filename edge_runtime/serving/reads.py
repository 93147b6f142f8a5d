"""What serving asks of the runtime: session values and server rows, all from memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from edge_runtime.serving.status import Status


class SessionValues(NamedTuple):
    """All features of a session view for one entity at one time, in the view's feature order."""

    values: tuple[object, ...]
    event_time_us: int | None
    """Event time of the newest event in them; None when there is none."""
    status: Status = Status.PRESENT
    """Anything but PRESENT: the values may not be used, and `reason` says why."""
    reason: str = ""
    complete_from_us: int | None = None
    """Since when every event is known; None when the whole history is."""


class ServerRow:
    """The current row of one (entity, view version), as pushed. Never changed once made."""

    __slots__ = ("_ordered", "created_us", "event_time_us", "values")

    def __init__(self, values: Mapping[str, object], event_time_us: int, created_us: int) -> None:
        self.values, self.event_time_us, self.created_us = values, event_time_us, created_us
        self._ordered: tuple[object, ...] | None = None

    def in_order(self, names: tuple[str, ...]) -> tuple[object, ...]:
        """The values in the order of the view's features `names`; None for absent and for not finite.

        Kept after the first call: a row is always asked with the names of its own view.
        """
        if self._ordered is None:
            self._ordered = tuple(_usable(self.values.get(name)) for name in names)
        return self._ordered


def _usable(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Missing:
    """No usable row or values, and why."""

    __slots__ = ("reason", "status")

    def __init__(self, status: Status, reason: str) -> None:
        self.status, self.reason = status, reason

    def __repr__(self) -> str:
        return f"Missing({self.status.name}, {self.reason!r})"


Reading = tuple[object, ...] | Missing
"""One view's values for one entity, in feature order, or why there are none."""


class Source(Protocol):
    """Handed in by the runtime: answers from memory, and judges permission at the clock's now."""

    def session_values(self, view_key: str, entity: str, t_us: int) -> SessionValues:
        """Session view `activity@1` of `user:alice` (a composite: `user:alice|item:x`) at `t_us`."""
        ...

    def server_row(self, view_key: str, entity: str) -> ServerRow | Missing:
        """The row held, or REVOKED, NOT_SYNCED, NOT_FOUND with the reason. Serving judges the ttl."""
        ...
