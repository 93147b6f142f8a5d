"""Reads the events of one catalog as they happen: usual ones the short way, others by their meaning."""

from __future__ import annotations

from collections.abc import Mapping

from edge_runtime.errors import MalformedEvent
from edge_runtime.session.event import (
    DEFAULT_LIMITS,
    Declares,
    Event,
    EventLimits,
    check_event,
    event_from_dict,
    make_event,
)
from edge_runtime.session.usual_event import live_readers


class EventReader:
    """Reads events of one catalog, under the same limits all the while."""

    def __init__(self, catalog: Declares, limits: EventLimits = DEFAULT_LIMITS) -> None:
        self._catalog, self._limits = catalog, limits
        self._usual = live_readers(catalog.events, limits)

    def named(self, type: str, fields: Mapping[str, object], now_us: int) -> Event:
        """As `make_event`."""
        read = self._usual.get(type) if type.__class__ is str else None
        event = None if read is None else read(fields, now_us, 0)
        if event is None:
            return make_event(self._catalog, type, fields, now_us=now_us, limits=self._limits)
        return event

    def given(self, given: Event | Mapping[str, object], now_us: int) -> Event:
        """As `event_from_dict`, or as `check_event` for an Event.

        Raises:
            MalformedEvent: as they do, or `given` is neither.
        """
        if given.__class__ is dict:
            kind = given.get("type")
            read = self._usual.get(kind) if kind.__class__ is str else None
            event = None if read is None else read(given, now_us, 1)
            if event is not None:
                return event
        if isinstance(given, Event):
            return check_event(self._catalog, given, now_us=now_us, limits=self._limits)
        if not isinstance(given, Mapping):
            raise MalformedEvent("event", "an Event, or a table with `type`", type(given).__name__)
        return event_from_dict(self._catalog, given, now_us=now_us, limits=self._limits)
