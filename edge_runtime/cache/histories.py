"""What this database has known, and since when: the statistics that each view was fed, the events journalled.

A view, a statistic or a kind of event that a later catalog adds, adds again, or moves to another purpose did
not see what came before. In a new database every history is whole.

Times are microseconds UTC of receipt, 0 for always: an event that came ahead of its time counts from when it
came. Where an order is enough, rows of the journal are compared instead: no clock set back can change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self

import msgspec

from edge_runtime.catalog import Catalog
from edge_runtime.keys.keyring import DataKey
from edge_runtime.session.plan import Plan, ViewPlan

META: Final = "views"
"""The fact of the database under which a `Known` stands."""
REBUILT: Final = "views.rebuilt"
"""The fact that stands from the rebuilding of a damaged database until states were judged anew."""
ABOUT_NOBODY: Final = ""


class Fed(msgspec.Struct, frozen=True, array_like=True):
    """One session view that rests on disk, as it is fed."""

    holder: str
    """Whose keys its states rest under: `user/personalization`, or `ABOUT_NOBODY`."""
    entity: tuple[str, ...]
    keep_events_us: int
    statistics: dict[bytes, int]
    """Name -> room; see `session/identity.py`."""
    listened: dict[str, int]
    """Event type -> the newest row of the journal when the view began to take such events."""
    moved_row: int = 0
    """The newest row of the journal when it came from another purpose; 0 for never. It started empty then."""
    moved_us: int = 0
    """When that was."""


class Known(msgspec.Struct, frozen=True, array_like=True):
    """All of it, as stored."""

    views: dict[str, Fed]
    journalled: dict[str, dict[str, int]]
    """Holder -> event type -> since when such events are journalled under its keys."""

    def view(self, key: str, holder: str, entity: Iterable[str]) -> Fed | None:
        """A view that stood under the same holder for the same entity types; None for one that is new."""
        fed = self.views.get(key)
        return fed if fed is not None and (fed.holder, fed.entity) == (holder, tuple(entity)) else None

    @classmethod
    def nothing(cls) -> Self:
        """Of a database that has been fed nothing: whatever a catalog names begins now."""
        return cls({}, {})

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """What `encode` wrote."""
        return msgspec.msgpack.decode(raw, type=cls)

    def encode(self) -> bytes:
        """Its bytes at rest."""
        return msgspec.msgpack.encode(self)


def holder_of(key: DataKey) -> str:
    """The holder that a key belongs to."""
    return f"{key.subject.partition(':')[0]}/{key.purpose}" if key.subject else ABOUT_NOBODY


def followed(before: Known | None, catalog: Catalog, plan: Plan, now_us: int, newest_row: int) -> Known:
    """The same facts under the catalog in use: what it names for the first time begins now."""
    new_us, newest_row = (0, 0) if before is None else (now_us, newest_row)
    old = Known.nothing() if before is None else before
    views: dict[str, Fed] = {}
    journalled: dict[str, dict[str, int]] = {}
    for key, view_plan in plan.views.items():
        holder, keep_events_us = _holder(catalog, view_plan)
        if keep_events_us is None:
            continue
        stood = old.view(key, holder, view_plan.view.entity)
        listened = {} if stood is None else stood.listened
        moved = key in old.views and old.views[key].holder != holder
        fresh = (newest_row, new_us) if moved else (0, 0)
        views[key] = Fed(
            holder,
            view_plan.view.entity,
            keep_events_us,
            {one.name: one.room for one in view_plan.statistics},
            {kind: listened.get(kind, newest_row) for kind in view_plan.event_types},
            *(fresh if stood is None else (stood.moved_row, stood.moved_us)),
        )
        types = old.journalled.get(holder, {})
        now_journalled = journalled.setdefault(holder, {})
        now_journalled.update({kind: types.get(kind, new_us) for kind in view_plan.event_types})
    return Known(views, journalled)


def _holder(catalog: Catalog, plan: ViewPlan) -> tuple[str, int | None]:
    """(holder, how long its events are kept) of a view; None for one that is kept in memory only."""
    purpose = None if plan.view.purpose is None else catalog.purposes[plan.view.purpose]
    personal = [kind for kind in plan.view.entity if catalog.entities[kind].personal]
    if purpose is None:
        return ABOUT_NOBODY, 0
    keep_events_us = purpose.keep_events_us if purpose.on_disk else None
    return (f"{personal[0]}/{purpose.name}" if personal else ABOUT_NOBODY), keep_events_us


def complete_from(known: Known, key: DataKey, view_key: str, events: Iterable[str], floor_us: int) -> int:
    """Since when a view can be made whole from the journal of a key; 0 for since the key's own decision.

    Args:
        events: the event types asked about.
        floor_us: since when the journal of that key is whole; 0 for always.
    """
    journalled: Mapping[str, int] = known.journalled.get(holder_of(key), {})
    since_us = max((journalled[kind] for kind in events), default=0)
    since_us = max(since_us, known.views[view_key].moved_us)
    return max(floor_us, since_us if since_us >= key.facts.at_us else 0)
