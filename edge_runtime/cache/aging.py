"""When the time of what rests here is over. Pure: times are arguments.

Rows bear days, so whole days are judged: a day is over when its last microsecond is. Nothing goes a moment
before a read would call it gone, and up to a day later. Like a read, a sweep goes by the clock's now: what a
clock that was ahead once saw as over stays over, and a clock set back ends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.since import Since
from edge_runtime.catalog.model import EntityType, Purpose, View

UNKNOWN_DAY: Final = 0
"""The day of what bears none."""


class Declared(Protocol):
    """What a catalog declares of this."""

    @property
    def entities(self) -> Mapping[str, EntityType]: ...
    @property
    def purposes(self) -> Mapping[str, Purpose]: ...
    @property
    def views(self) -> Mapping[str, View]: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """How long what rests under the keys of one purpose may stay. Microseconds."""

    retention_us: int | None
    """After a subject's last event; None where nothing is about a subject."""
    lateness_us: int = 0
    """How late an event may come that still joins what was before: the longest of the purpose's views."""
    keep_events_us: int = 0
    ttls_us: Mapping[str, int] = field(default_factory=dict)
    """Server views of the purpose, by key; 0: for ever."""

    @classmethod
    def of(cls, purpose: Purpose, views: Mapping[str, View]) -> Self:
        """The terms of a purpose that may rest on disk.

        Args:
            views: of the whole catalog, by key.
        """
        mine = [view for view in views.values() if view.purpose == purpose.name]
        lateness_us = max((view.allowed_lateness_us for view in mine if view.source == "session"), default=0)
        ttls_us = {view.key: view.ttl_us for view in mine if view.source == "server"}
        return cls(purpose.retention_us, lateness_us, purpose.keep_events_us, ttls_us)

    @classmethod
    def about_nobody(cls, catalog: Declared) -> Self:
        """The terms of session views that are about nobody: no retention; events as one of them asks."""
        personal = {kind.name for kind in catalog.entities.values() if kind.personal}
        mine = [v for v in catalog.views.values() if v.source == "session" and not personal & set(v.entity)]
        kept = (catalog.purposes[v.purpose].keep_events_us for v in mine if v.purpose is not None)
        return cls(None, keep_events_us=max(kept, default=0))

    def gone_before(self, now_us: int) -> int:
        """What was last touched before this day is over: retention has ended all of that day's events."""
        if self.retention_us is None:
            return UNKNOWN_DAY
        return max((now_us - self.retention_us - self.lateness_us) // DAY_US, UNKNOWN_DAY)

    def keep_from(self, now_us: int) -> int:
        """Journalled events of this day and later are kept for backfills."""
        return max((now_us - self.keep_events_us) // DAY_US, UNKNOWN_DAY)

    def stale_upto(self, now_us: int) -> int:
        """The newest day that can hold a server row past its ttl; -1 where no row ever is."""
        shortest_us = min((ttl for ttl in self.ttls_us.values() if ttl), default=None)
        return -1 if shortest_us is None else (now_us - shortest_us - 1) // DAY_US

    def stale(self, view_key: str, event_time_us: int, now_us: int) -> bool:
        """Whether a server row may no longer be used; one of an unknown view may not be judged."""
        return past_ttl(self.ttls_us.get(view_key, 0), event_time_us, now_us)

    def silenced(self, since: Since, now_us: int) -> bool:
        """Whether retention has ended every time before which something may be missing."""
        if self.retention_us is None:
            return not since
        return all(us + self.retention_us + self.lateness_us < now_us for us in since.values())


def past_ttl(ttl_us: int, event_time_us: int, now_us: int) -> bool:
    """Whether a value may no longer be used at `now_us`; ttl 0: for ever."""
    return bool(ttl_us) and event_time_us + ttl_us < now_us
