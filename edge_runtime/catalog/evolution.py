"""What becomes of states, rows and contracts when a new catalog takes the place of an old one.

A device keeps its states statistic by statistic (`session/identity.py` says when two are the same), so a
feature is kept exactly if every statistic that it is read from is; of a list of newest values that grows,
what asks for no more than it held is. What is not kept is made from the journal, which holds the events of
each purpose for `keep_events`; until a feature's look-back is whole it is WARMING.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from edge_runtime.catalog.change import Change
from edge_runtime.catalog.contract_changes import event_changes, experiment_changes, service_changes
from edge_runtime.catalog.document import Catalog
from edge_runtime.catalog.duration import write_duration
from edge_runtime.catalog.exposure import begins_with_exposure
from edge_runtime.catalog.look_back import look_back, sources
from edge_runtime.catalog.model import Feature, FieldFeature, Purpose, SessionFeature, View
from edge_runtime.session.identity import Identity, identify, identify_needs
from edge_runtime.session.layout import lay_out


def evolve(old: Catalog, new: Catalog) -> list[Change]:
    """Everything that happens when `new` takes the place of `old`, in the order of the new catalog."""
    apps = (event_changes, experiment_changes, service_changes)
    return [*_view_changes(old, new), *(change for made in apps for change in made(old, new))]


def _view_changes(old: Catalog, new: Catalog) -> Iterator[Change]:
    for key, view in new.views.items():
        before = old.views.get(key)
        if before is not None and before.source != view.source:
            yield Change(
                f"views.{key}", "reused", f"its values came from {before.source}, now {view.source}", True
            )
            before = None
        if view.source == "session":
            yield from _Standing(old, new, before, view).changes()
        elif view.source == "server":
            yield from _server_view(before, view)
    for key, view in old.views.items():
        if key not in new.views and view.source != "request":
            what = "states" if view.source == "session" else "rows"
            yield Change(f"views.{key}", "dropped", f"its {what} go", True)


@dataclass(frozen=True, slots=True)
class _Stock:
    """What the states of one view hold: the room of each statistic, and which ones each feature needs."""

    rooms: Mapping[bytes, int]
    needs: Mapping[str, tuple[Identity, ...]]

    @classmethod
    def of(cls, catalog: Catalog, view: View) -> _Stock:
        layout = lay_out(view)
        rooms = {one.name: one.room for one in identify(layout, catalog.events)}
        return cls(rooms, identify_needs(layout, catalog.events))

    def holds(self, identity: Identity) -> bool:
        return self.rooms.get(identity.name, -1) >= identity.room


class _Standing:
    """One session view, before (None: it is new) and after."""

    def __init__(self, old: Catalog, new: Catalog, before: View | None, view: View) -> None:
        self._old, self._new, self._before, self._view = old, new, before, view
        self._moved = None if before is None else _moved(before, view)
        self._had = None if before is None else _Stock.of(old, before)
        rested = before is not None and _rests(old, before)
        self._stock = self._had if rested and self._moved is None else None
        self._has = _Stock.of(new, view)
        self._purpose = _purpose_of(new, view)
        other_keys = before is not None and _holder(old, before) != _holder(new, view)
        self._journalled = set[str]() if other_keys else _journalled(old, view)
        self._reach_us = _reach_us(old, view)

    def changes(self) -> Iterator[Change]:
        """The view's own, then one for each feature, old ones last."""
        place = f"views.{self._view.key}"
        if self._moved is not None:
            yield Change(place, "empty", self._moved, True)
        reused = [] if self._before is None else _redefined(self._before, self._view)
        if reused:
            yield Change(
                place, "reused", f"{' '.join(reused)} changed: a new version would stand beside", False
            )
        for name in self._view.features:
            yield self._feature(f"{place}.features.{name}", name)
        yield from self._dropped(place)

    def _feature(self, place: str, name: str) -> Change:
        if self._purpose is not None and not self._purpose.on_disk:
            return Change(place, "kept", "in memory only: new at every opening in any case", False)
        if not self._missing(name):
            return Change(place, "kept", self._why_kept(name), False)
        return self._refilled(place, name)

    def _missing(self, name: str) -> list[Identity]:
        """What a feature needs and no state holds."""
        needs = self._has.needs[name]
        return [one for one in needs if self._stock is None or not self._stock.holds(one)]

    def _refilled(self, place: str, name: str) -> Change:
        if begins_with_exposure(self._view, name):
            return Change(place, "added", "counts from the exposure on: it never warms", False)
        known = self._before is not None and name in self._before.features
        cold = [source for source in sources(self._view, name) if self._missing(source)]
        back = look_back(self._view, cold, None if self._purpose is None else self._purpose.retention_us)
        missing = self._missing(name)
        if not self._reach_us or not all(set(one.events) <= self._journalled for one in missing):
            return Change(place, "empty", f"its events are not in the journal; {back.warming(0)}", known)
        if back.us is not None and back.us <= self._reach_us:
            unless = ", unless its session began before that" if back.session else ""
            return Change(place, "backfilled", f"from the journal, whole at once{unless}", False)
        reach = f"from the journal: at least the last {write_duration(self._reach_us)}"
        return Change(place, "backfilled", f"{reach}; {back.warming(self._reach_us)}", known)

    def _why_kept(self, name: str) -> str:
        before = None if self._before is None else self._before.features.get(name)
        if before is None:
            return "new, read from state that was there"
        return "" if _same(before, self._view.features[name]) else "the same state, read another way"

    def _dropped(self, place: str) -> Iterator[Change]:
        if self._before is None or self._had is None:
            return
        for name in self._before.features:
            if name not in self._view.features:
                lost = not all(self._stock is not None and self._has.holds(n) for n in self._had.needs[name])
                detail = "its state goes" if lost else "its state serves other features"
                yield Change(f"{place}.features.{name}", "dropped", detail, lost)


def _moved(before: View, view: View) -> str | None:
    """Why a view starts empty although its version stood before; None when it goes on."""
    if before.purpose != view.purpose:
        return f"moved from purpose {before.purpose or 'none'} to {view.purpose or 'none'}: starts empty"
    if before.entity != view.entity:
        return f"was kept by {' '.join(before.entity)}, now by {' '.join(view.entity)}: starts empty"
    return None


def _redefined(before: View, view: View) -> list[str]:
    """Names of features that mean something else now, though view and version are the same."""
    return [
        name
        for name, feature in view.features.items()
        if name in before.features and not _same(before.features[name], feature)
    ]


def _same(before: Feature, after: Feature) -> bool:
    """Whether two declarations mean the same; the order of events says nothing."""
    match before, after:
        case SessionFeature(), SessionFeature():
            return replace(before, events=after.events) == after and set(before.events) == set(after.events)
    return before == after


def _purpose_of(catalog: Catalog, view: View) -> Purpose | None:
    return None if view.purpose is None else catalog.purposes.get(view.purpose)


def _rests(catalog: Catalog, view: View) -> bool:
    """Whether the states of a view are stored."""
    purpose = _purpose_of(catalog, view)
    return purpose is None or purpose.on_disk


def _holder(catalog: Catalog, view: View) -> tuple[str | None, tuple[str, ...]]:
    """Under which keys a view's events are journalled: its purpose and personal entity types."""
    return view.purpose, tuple(kind for kind in view.entity if catalog.entities[kind].personal)


def _journalled(old: Catalog, view: View) -> set[str]:
    """The event types that the old catalog journalled under the keys of `view`."""
    found: set[str] = set()
    for one in old.views.values():
        declared = all(kind in old.entities for kind in view.entity)
        if one.source == "session" and declared and _holder(old, one) == _holder(old, view):
            for feature in one.features.values():
                found |= set(feature.events) if isinstance(feature, SessionFeature) else set()
    return found


def _reach_us(old: Catalog, view: View) -> int:
    """How far back the journal under the keys of `view` reaches at the least."""
    purpose = _purpose_of(old, view)
    return 0 if purpose is None or not purpose.on_disk else purpose.keep_events_us


def _server_view(before: View | None, view: View) -> Iterator[Change]:
    place = f"views.{view.key}"
    moved = None if before is None else _moved(before, view)
    if before is None or moved is not None:
        yield Change(
            place, "added" if moved is None else "empty", moved or "NOT_SYNCED until pushed", bool(moved)
        )
        return
    for name, feature in view.features.items():
        yield _field(f"{place}.features.{name}", before.features.get(name), feature)
    for name in before.features:
        if name not in view.features:
            yield Change(f"{place}.features.{name}", "dropped", "its values are read no more", True)


def _field(place: str, before: object, after: object) -> Change:
    if not isinstance(before, FieldFeature) or not isinstance(after, FieldFeature):
        return Change(place, "added", "NULL until the server pushes rows that have it", False)
    if before.dtype != after.dtype:
        return Change(place, "reused", f"was {before.dtype}, is {after.dtype}: rows at rest do not fit", True)
    return Change(place, "kept", "" if before == after else "another range, values or default", False)
